"""Detection alone and assessment alone: volumes of any size, a row a point, in order."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_factory import make_series
from doubting import doubt_every_mark
from pydicom.uid import generate_uid

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.errors import InputError
from lungscreen.jobs.assess import read_points

ORIGIN = (-30.0, 12.5, 200.0)
CENTRE = (-30.0 + 22, 12.5 + 20, 200.0 + 19)
"""LPS mm of the ball in the crop below."""


@pytest.fixture(scope="module")
def crop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ball of 12 mm in lung, off-origin, not cubic: a crop much smaller than any chest."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in (40, 44, 48)), indexing="ij")
    distance = np.sqrt((z - 19) ** 2 + (y - 20) ** 2 + (x - 22) ** 2)
    hu = np.clip(6.0 - distance + 0.5, 0, 1) * 890 - 860
    image = sitk.GetImageFromArray(hu.astype(np.int16))
    image.SetOrigin(ORIGIN)
    path = tmp_path_factory.mktemp("crops") / "ball.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def write_points(path: Path, *lines: str, header: str = "seriesuid,x_mm,y_mm,z_mm,finding") -> Path:
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def test_a_crop_is_searched_whole(crop: Path, tmp_path: Path) -> None:
    """The mark nearest to the ball is near its centre, and the file's name stands for the UID."""
    assert main(["detect", str(crop), "--no-lungs", "--out", str(tmp_path / "out")]) == ExitCode.OK
    found = rows(tmp_path / "out" / "candidates.csv")
    assert {row["seriesuid"] for row in found} == {"ball"}
    places = np.array([[float(row[c]) for c in ("coordX", "coordY", "coordZ")] for row in found])
    assert np.linalg.norm(places - CENTRE, axis=1).min() < 3


def test_a_crop_without_lungs_is_refused_where_lungs_are_wanted(crop: Path, tmp_path: Path) -> None:
    assert main(["detect", str(crop), "--out", str(tmp_path / "out")]) == ExitCode.SOME_REFUSED
    assert rows(tmp_path / "out" / "candidates.csv") == []
    assert {row["code"] for row in rows(tmp_path / "out" / "refused.csv")} == {"no-lungs"}


def test_a_row_a_point_in_order(crop: Path, tmp_path: Path) -> None:
    """A mark 2.5 mm off is measured; one outside, and one of another series, have rows with nothing measured."""
    x, y, z = CENTRE
    points = write_points(
        tmp_path / "points.csv", f"ball,{x + 2.5},{y},{z},=mine", "nowhere,1,2,3,other", f"ball,{x + 900},{y},{z},far"
    )
    out = tmp_path / "out"
    code = main(["assess", str(crop), "--points", str(points), "--no-lungs", "--out", str(out)])
    assert code == ExitCode.SOME_REFUSED
    mine, other, far = rows(out / "findings.csv")
    assert mine["finding"] == "'=mine", "what a reader wrote is no formula"
    assert abs(float(mine["mean_diameter_mm"]) - 12) < 1.5
    assert mine["type"] == "solid"
    assert mine["category"] == "4A"
    assert mine["detection_score"] == ""
    assert 0 <= float(mine["malignancy_probability"]) <= 1
    assert (other["finding"], other["mean_diameter_mm"], other["type"]) == ("other", "", "unknown")
    assert (far["finding"], far["mean_diameter_mm"]) == ("far", "")
    assert {row["code"] for row in rows(out / "refused.csv")} == {"points-without-series", "outside-volume"}


def test_person_and_what_is_said_reach_the_row(crop: Path, tmp_path: Path) -> None:
    """Brock takes the patient data; unknown patients, and what the scan and finding say, stand in the notices."""
    x, y, z = CENTRE
    points = write_points(tmp_path / "points.csv", f"ball,{x},{y},{z},mine")
    people = tmp_path / "people.csv"
    told = []
    for name, who in (("known", "ball,70,F"), ("other", "somebody,70,F"), ("twice", "ball,70,F\nball,71,M")):
        people.write_text(f"patient_id,age,sex\n{who}\n")
        words = ["assess", str(crop), "--points", str(points), "--no-lungs", "--out", str(tmp_path / name)]
        assert main([*words, "--clinical", str(people)]) == ExitCode.OK
        told += rows(tmp_path / name / "findings.csv")
    assert [{c for c in row["notices"].split() if c.startswith("clinical")} for row in told] == [
        set(), {"clinical-unmatched"}, {"clinical-duplicate"}
    ]  # fmt: skip
    assert {row["brock_2b"] + row["mayo"] for row in told} == {""}, "lobe and more are not known in a crop"


def test_of_a_study_with_two_series_the_other_is_said(tmp_path: Path) -> None:
    """Detection searches the series that comes first; what it left aside stands in refused.csv, and is no failure."""
    study_uid = generate_uid()
    for kernel in ("STANDARD", "LUNG"):
        make_series(tmp_path / "in" / kernel, slices=14, study_uid=study_uid, tags={"ConvolutionKernel": kernel})
    assert main(["detect", str(tmp_path / "in"), "--no-lungs", "--out", str(tmp_path / "out")]) == ExitCode.OK
    (left,) = rows(tmp_path / "out" / "refused.csv")
    assert (left["code"], left["scope"], left["patient_id"]) == ("series-other-chosen", "series", "P001")
    assert left["path_or_uid"] not in {row["seriesuid"] for row in rows(tmp_path / "out" / "candidates.csv")}


def test_points_of_a_series_that_is_not_read_say_why(tmp_path: Path) -> None:
    """Its study holds a better series, so that only this one is left out: too thick, beside "no such series"."""
    study_uid, thick = generate_uid(), generate_uid()
    make_series(tmp_path / "in" / "thin", slices=14, study_uid=study_uid)
    make_series(tmp_path / "in" / "thick", slices=14, study_uid=study_uid, series_uid=thick, step_mm=7.0)
    points = write_points(tmp_path / "points.csv", f"{thick},1,2,3,mine")
    words = ["assess", str(tmp_path / "in"), "--points", str(points), "--no-lungs", "--out", str(tmp_path / "out")]
    assert main(words) == ExitCode.SOME_REFUSED
    said = [(row["path_or_uid"], row["code"]) for row in rows(tmp_path / "out" / "refused.csv")]
    assert said == [(thick, "points-without-series"), (thick, "too-thick")]


def test_a_readers_mark_is_graded_whatever_the_second_look_says(
    crop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader asked: category and probability are there, and a column says what the second look thinks."""
    doubt_every_mark(monkeypatch, probability=0.01, below=0.1)
    points = write_points(tmp_path / "points.csv", f"ball,{CENTRE[0]},{CENTRE[1]},{CENTRE[2]},mine")
    words = ["assess", str(crop), "--points", str(points), "--no-lungs", "--out", str(tmp_path / "out")]
    assert main(words) == ExitCode.OK
    (row,) = rows(tmp_path / "out" / "findings.csv")
    assert (row["second_look"], row["nodule_probability"], row["category"]) == ("no nodule", "0.01", "4A")
    assert row["malignancy_probability"]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("seriesuid,x_mm,y_mm,finding", "a,1,2,f"),
        ("seriesuid,x_mm,y_mm,z_mm,finding", "a,1,2,nan,f"),
        ("seriesuid,x_mm,y_mm,z_mm,finding", "a,1,2,,f"),
        ("seriesuid,x_mm,y_mm,z_mm,finding", ",1,2,3,f"),
        ("seriesuid,x_mm,y_mm,z_mm,finding", ""),
    ],
    ids=["no column", "not finite", "empty", "no series", "no point"],
)
def test_points_that_are_none_are_refused(header: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_points(write_points(tmp_path / "points.csv", line, header=header))
    assert caught.value.code == "points-invalid"


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffseriesuid;x_mm;y_mm;z_mm;finding\na;1,5;-2;3;f\n",
        "SeriesUID\tX_mm\ty_mm\tz_mm\tfinding\na\t1.5\t-2\t3\tf\n",
        '[{"seriesuid": "a", "x_mm": 1.5, "y_mm": -2, "z_mm": 3, "finding": "f"}]',
    ],
    ids=["semicolons, BOM, comma", "tabs", "JSON"],
)
def test_points_are_read_as_patient_data_are(text: str, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text(text, encoding="utf-8")
    (point,) = read_points(path)
    assert (point.series_uid, point.centre_mm, point.finding) == ("a", (1.5, -2.0, 3.0), "f")


def test_points_need_no_name(tmp_path: Path) -> None:
    (point,) = read_points(write_points(tmp_path / "p.csv", "a,1,2,3", header="seriesuid,x_mm,y_mm,z_mm"))
    assert point.finding == "1"


def test_a_missing_table_fails_the_command(crop: Path, tmp_path: Path) -> None:
    words = ["assess", str(crop), "--points", str(tmp_path / "no.csv"), "--out", str(tmp_path / "out")]
    assert main(words) == ExitCode.FAILED

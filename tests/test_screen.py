"""The main job, from files to reports, through the command line."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_factory import make_series
from doubting import doubt_every_mark
from shrunk import write_shrunk

from lungscreen.classify.second_look import SecondLook
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.phantom import sized
from lungscreen.records import NoduleType


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient of a child's size with nodules, as DICOM."""
    return write_shrunk(sized("small", seed=3, nodules=4), 0.6, tmp_path_factory.mktemp("phantom") / "series")


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest thing that is still a chest CT, as DICOM."""
    return write_shrunk(sized("tiny", seed=5, nodules=1), 0.5, tmp_path_factory.mktemp("tiny") / "series")


@pytest.fixture(scope="session")
def results(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What screening the phantom wrote, masks included."""
    out = tmp_path_factory.mktemp("results")
    assert main(["screen", str(phantom_folder), "--out", str(out), "--save-masks"]) == ExitCode.OK
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def report_of(out: Path) -> dict[str, object]:
    (path,) = out.glob("studies/*/report.json")
    document: dict[str, object] = json.loads(path.read_text(encoding="utf-8"))
    return document


def candidates(out: Path) -> np.ndarray:
    return np.array(
        [[float(r[c]) for c in ("coordX", "coordY", "coordZ", "probability")] for r in rows(out / "candidates.csv")]
    )


def fingerprint(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.stat().st_mtime_ns}"
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


# -- what is written -------------------------------------------------------------------------------------------------
def test_every_file_is_there(results: Path) -> None:
    assert {p.name for p in results.iterdir()} >= {
        "studies", "worklist.csv", "worklist.html", "findings.csv", "candidates.csv", "refused.csv",
    }  # fmt: skip
    (study,) = (results / "studies").iterdir()
    assert {p.name for p in study.iterdir()} >= {"report.json", "report.html", "lungs.nii.gz", "findings.nii.gz"}
    assert len(study.name) == 12
    assert set(study.name) <= set("0123456789abcdef")


def test_candidates_go_down_to_a_low_score(results: Path) -> None:
    """Far below the operating point, so that anyone can compute a FROC; each place once."""
    found = candidates(results)
    findings = rows(results / "findings.csv")
    assert 0 < found[:, 3].min() < 0.2 * min(float(row["detection_score"]) for row in findings)
    assert len(found) > 10 * len(findings)
    assert len(np.unique(found[:, :3], axis=0)) == len(found)


def test_the_worklist_points_to_the_report(results: Path) -> None:
    (row,) = rows(results / "worklist.csv")
    assert row["status"] == "done"
    assert (results / row["report"]).is_file()
    assert int(row["findings"]) == len(rows(results / "findings.csv"))


def test_the_report_says_what_made_it(results: Path) -> None:
    report = report_of(results)
    provenance = report["provenance"]
    assert isinstance(provenance, dict)
    assert {"volume", "lungs", "detect"} <= set(provenance["seconds"])
    assert len(provenance["pipeline_hash"]) == 64
    html = next(results.glob("studies/*/report.html")).read_text(encoding="utf-8")
    assert "research use" in html.lower()
    assert provenance["pipeline_hash"] in html


def test_masks_lie_where_the_table_says(results: Path) -> None:
    """Read by SimpleITK and by nibabel, each label contains or touches the place in findings.csv."""
    (path,) = results.glob("studies/*/findings.nii.gz")
    found = rows(results / "findings.csv")
    assert found, "this phantom has nodules that are found"
    ras = nibabel.load(path)
    labels = np.asarray(ras.dataobj)
    lps = sitk.ReadImage(str(path))
    for row in found:
        number, place = int(row["finding"]), np.array([float(row[c]) for c in ("x_mm", "y_mm", "z_mm")])
        voxels = np.argwhere(labels == number)
        if not len(voxels):
            assert row["mean_diameter_mm"] == ""
            continue
        there = nibabel.affines.apply_affine(ras.affine, voxels) * (-1, -1, 1)
        assert np.linalg.norm(there - place, axis=1).min() < 3.5
        other = np.argwhere(sitk.GetArrayFromImage(lps) == number)
        place_itk = np.array([lps.TransformIndexToPhysicalPoint([int(v) for v in o[::-1]]) for o in other])
        assert np.linalg.norm(place_itk.mean(0) - there.mean(0)) < 0.1


def test_lungs_are_on_their_sides(results: Path) -> None:
    (path,) = results.glob("studies/*/lungs.nii.gz")
    image = nibabel.load(path)
    labels = np.asarray(image.dataobj)
    right, left = (nibabel.affines.apply_affine(image.affine, np.argwhere(labels == n)).mean(0) for n in (1, 2))
    assert right[0] > left[0], "in RAS the right lung lies at larger x"


def test_candidates_say_which_became_findings(results: Path) -> None:
    """As many findings as the table of findings has; most candidates are below the operating point."""
    told = [row["verdict"] for row in rows(results / "candidates.csv")]
    assert told.count("finding") == len(rows(results / "findings.csv"))
    assert told.count("below the operating point") > len(told) / 2


def screened_with_doubts(folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, object]:
    """The report of a study whose every mark the second look takes for no nodule."""
    doubt_every_mark(monkeypatch, probability=0.03, below=0.05)
    assert main(["screen", str(folder), "--out", str(out), *words]) == ExitCode.OK
    return report_of(out)


def test_a_second_look_can_take_every_mark_for_no_nodule(
    phantom_folder: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No category from them, whatever their size; a place in report.json, the page, the notices and candidates.csv."""
    out = tmp_path / "out"
    report = screened_with_doubts(phantom_folder, out, monkeypatch)
    dropped, kept = report["no_nodules"], report["findings"]
    assert dropped, "this phantom has marks"
    assert kept == []
    assert {mark["nodule_probability"] for mark in dropped} == {0.03}  # type: ignore[attr-defined]
    assert "no-nodule-marks" in {notice["code"] for notice in report["notices"]}  # type: ignore[attr-defined]
    told = [row["verdict"] for row in rows(out / "candidates.csv")]
    assert told.count("no nodule") == len(dropped)  # type: ignore[arg-type]
    assert rows(out / "findings.csv") == []
    assert report["category"] == "1"
    page = next(out.glob("studies/*/report.html")).read_text(encoding="utf-8")
    assert "takes for no nodule" in page


def test_a_pipeline_can_do_without_the_second_look(
    phantom_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then scores are the heatmap's, and nobody says of a mark whether it is a nodule."""
    pipeline = tmp_path / "plain.toml"
    pipeline.write_text('name = "plain"\n[findings]\nsecond_look = false\nthreshold = 0.3\n')
    monkeypatch.setattr(SecondLook, "rate_marks", None)
    assert main(["screen", str(phantom_folder), "--out", str(tmp_path / "out"), "--pipeline", str(pipeline)]) == 0
    report = report_of(tmp_path / "out")
    assert report["no_nodules"] == []
    findings = report["findings"]
    assert {finding["second_look"] for finding in findings} == {None}  # type: ignore[attr-defined]
    assert {finding["nodule_probability"] for finding in findings} == {None}  # type: ignore[attr-defined]
    assert all(finding["detection_score"] >= 0.3 for finding in findings)  # type: ignore[attr-defined]


# -- the same study in other clothes ---------------------------------------------------------------------------------
def volume_of(folder: Path) -> sitk.Image:
    """The series through SimpleITK's own reader: an independent way to the same voxels."""
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def as_image(folder: Path, ending: str, out: Path) -> Path:
    path = out / f"study{ending}"
    sitk.WriteImage(volume_of(folder), str(path))
    return path


def as_ras(folder: Path, out: Path) -> Path:
    """Voxels stored right to left, front to back: axes as many research files have them."""
    path = out / "ras.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(volume_of(folder), "RAS"), str(path))
    return path


def as_flipped(folder: Path, out: Path) -> Path:
    """Slices from the top down, rows from the back, columns to the right."""
    path = out / "flipped.mha"
    sitk.WriteImage(sitk.Flip(volume_of(folder), (True, True, True)), str(path))
    return path


def as_shuffled(folder: Path, out: Path) -> Path:
    """Other file names, other InstanceNumbers: neither means anything."""
    target = out / "shuffled"
    target.mkdir()
    paths = sorted(folder.iterdir())
    order = random.Random(1).sample(range(len(paths)), len(paths))
    for n, path in zip(order, paths, strict=True):
        dataset = pydicom.dcmread(path)
        dataset.InstanceNumber = n + 7
        dataset.save_as(target / f"{n:04}")
    return target


def as_feet_first(folder: Path, out: Path) -> Path:
    """Columns stored to the patient's right, as feet-first scans have them; every voxel keeps its place."""
    target = out / "feet-first"
    target.mkdir()
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        pixels = dataset.pixel_array[:, ::-1]
        position, spacing = dataset.ImagePositionPatient, dataset.PixelSpacing
        dataset.ImagePositionPatient = [position[0] + (dataset.Columns - 1) * spacing[1], position[1], position[2]]
        dataset.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        dataset.PatientPosition = "FFS"
        dataset.PixelData = np.ascontiguousarray(pixels).tobytes()
        dataset.save_as(target / path.name)
    return target


DISGUISES = {
    "shuffled": as_shuffled,
    "feet-first": as_feet_first,
    "ras": as_ras,
    "flipped": as_flipped,
    "nrrd": lambda folder, out: as_image(folder, ".nrrd", out),
    "mha": lambda folder, out: as_image(folder, ".mha", out),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_same_study_gives_the_same_candidates(
    disguise: str, phantom_folder: Path, results: Path, tmp_path: Path
) -> None:
    """Geometry cannot be wrong quietly: equal within 0.1 mm, on the same side, of the same zone."""
    study = DISGUISES[disguise](phantom_folder, tmp_path)
    out = tmp_path / "out"
    assert main(["screen", str(study), "--out", str(out)]) == ExitCode.OK
    expected, got = candidates(results), candidates(out)
    assert len(got) == len(expected)
    strong = expected[:, 3] > 0.01
    for place in expected[strong]:
        assert np.linalg.norm(got[:, :3] - place[:3], axis=1).min() < 0.1
    for mine, theirs in zip(report_of(out)["findings"], report_of(results)["findings"], strict=True):  # type: ignore[call-overload]
        assert mine["location"]["side"] == theirs["location"]["side"]
        assert mine["location"]["lobe"] == theirs["location"]["lobe"]
        assert mine["location"]["zone"] == theirs["location"]["zone"]


# -- bad input -------------------------------------------------------------------------------------------------------
@pytest.fixture
def codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[object]:
    """Screens paths; gives the exit code and the codes in refused.csv; no traceback may reach the user."""

    def screen(*paths: Path) -> tuple[int, set[str]]:
        out = tmp_path / "out"
        code = main(["screen", *map(str, paths), "--out", str(out)])
        seen = capsys.readouterr()
        assert "Traceback" not in seen.out + seen.err
        return code, {r["code"] for r in rows(out / "refused.csv")}

    return screen


def test_an_empty_folder(codes, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert codes(tmp_path / "empty") == (ExitCode.SOME_REFUSED, {"input-empty"})


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    assert main(["screen", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == ExitCode.USAGE
    assert not (tmp_path / "out").exists()


def test_a_folder_without_ct(codes, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "letter.txt").write_text("Dear colleague")
    code, found = codes(folder)
    assert code == ExitCode.SOME_REFUSED
    assert "no-ct" in found


def test_a_truncated_file_costs_no_other(codes, tiny_folder: Path, tmp_path: Path) -> None:
    """One slice cut short is interpolated and said; the study is read."""
    folder = tmp_path / "cut"
    shutil.copytree(tiny_folder, folder)
    paths = sorted(folder.iterdir(), key=lambda p: float(pydicom.dcmread(p, stop_before_pixels=True).SliceLocation))
    middle = paths[len(paths) // 2]
    middle.write_bytes(middle.read_bytes()[:-3000])
    _, found = codes(folder)
    assert found & {"pixels-damaged", "dicom-damaged", "slice-gap", "file-unreadable"}


def test_a_zip_that_climbs_out(codes, tiny_folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "evil.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in tiny_folder.iterdir():
            file.write(path, f"../../{path.name}")
    code, found = codes(archive)
    assert code == ExitCode.SOME_REFUSED
    assert "archive-unsafe" in found


def test_a_zip_bomb(codes, tmp_path: Path) -> None:
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.dcm", b"\0" * (64 << 20))
    code, found = codes(archive)
    assert code == ExitCode.SOME_REFUSED
    assert "archive-too-large" in found


def test_a_five_slice_series(codes, tmp_path: Path) -> None:
    make_series(tmp_path / "short", slices=5)
    code, found = codes(tmp_path / "short")
    assert code == ExitCode.SOME_REFUSED
    assert found & {"too-few-slices", "too-short"}


def test_a_series_with_a_hole(codes, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hole"
    shutil.copytree(tiny_folder, folder)
    for path in sorted(folder.iterdir())[20:24]:
        path.unlink()
    code, found = codes(folder)
    assert code == ExitCode.SOME_REFUSED
    assert "slice-gap" in found


def test_a_body_without_lungs(codes, tmp_path: Path) -> None:
    """A block of soft tissue, head to foot."""
    hu = np.full((60, 90, 110), 40, np.int16)
    make_series(tmp_path / "block", hu, step_mm=2.5, spacing_mm=(3.0, 3.0))
    code, found = codes(tmp_path / "block")
    assert code == ExitCode.SOME_REFUSED
    assert "no-lungs" in found


def test_one_bad_study_does_not_stop_the_others(codes, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    make_series(tmp_path / "short", slices=5)
    code, _ = codes(tmp_path / "empty", tmp_path / "short", tiny_folder)
    assert code == ExitCode.SOME_REFUSED
    assert {r["status"] for r in rows(tmp_path / "out" / "worklist.csv")} >= {"done"}


def test_two_names_under_one_id_are_screened_apart(codes, tiny_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in tiny_folder.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientName = "SOMEBODY^ELSE"
        dataset.StudyInstanceUID += ".1"
        dataset.SeriesInstanceUID += ".1"
        dataset.SOPInstanceUID += ".1"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(other / path.name)
    codes(tiny_folder, other)
    reports = [json.loads(p.read_text()) for p in (tmp_path / "out").glob("studies/*/report.json")]
    assert len(reports) == 2
    for report in reports:
        assert "two-names-one-id" in {notice["code"] for notice in report["notices"]}


HOSTILE = "<script>alert(1)</script>"


def test_hostile_headers_are_escaped_everywhere(codes, tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    for path in tiny_folder.iterdir():
        dataset = pydicom.dcmread(path)
        with pydicom.config.disable_value_validation():
            dataset.PatientName = HOSTILE
            dataset.PatientID = "=cmd|'/c calc'!A1"
            dataset.StudyDescription = "a\x1b[31m" + "x" * 60_000
            dataset.SeriesDescription = HOSTILE
            dataset.save_as(folder / path.name)
    codes(folder)
    out = tmp_path / "out"
    for page in out.rglob("*.html"):
        assert "<script>alert" not in page.read_text(encoding="utf-8")
    (row,) = rows(out / "worklist.csv")
    assert not row["patient_id"].startswith("=")
    for path in out.rglob("*"):
        assert "cmd" not in path.name
        if path.is_file() and path.suffix in {".csv", ".html", ".json"}:
            assert b"\x1b" not in path.read_bytes()


# -- running again ---------------------------------------------------------------------------------------------------
def test_the_input_is_never_written_to(tiny_folder: Path, tmp_path: Path) -> None:
    before = fingerprint(tiny_folder)
    assert main(["screen", str(tiny_folder), "--out", str(tmp_path / "out")]) == ExitCode.OK
    assert fingerprint(tiny_folder) == before
    assert {p.name for p in tmp_path.iterdir()} == {"out"}


def test_running_again_adds_and_keeps(tiny_folder: Path, phantom_folder: Path, tmp_path: Path) -> None:
    """A second run into the same folder keeps the first one's study, and gives the same result for the same study."""
    out = tmp_path / "out"
    main(["screen", str(tiny_folder), "--out", str(out)])
    first = candidates(out)
    main(["screen", str(tiny_folder), str(phantom_folder), "--out", str(out)])
    assert len(rows(out / "worklist.csv")) == 2
    uids = {r["seriesuid"] for r in rows(out / "candidates.csv")}
    assert len(uids) == 2
    assert len(candidates(out)) > len(first)
    assert not list(out.rglob(".*")), "nothing half-written is left"


def test_results_inside_the_input_are_not_read_again(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "inbox"
    shutil.copytree(tiny_folder, folder)
    for _ in range(2):
        assert main(["screen", str(folder), "--out", str(folder / "results"), "--save-masks"]) == ExitCode.OK
    assert len(rows(folder / "results" / "worklist.csv")) == 1


@pytest.mark.parametrize("command", [["screen"], ["batch", "run"]], ids=["screen", "batch"])
def test_results_of_another_run_inside_the_input_are_passed_over(
    command: list[str], results: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Masks among them are images too, and would be studies of nobody; that they were left is said once."""
    folder = tmp_path / "inbox"
    shutil.copytree(tiny_folder, folder / "study")
    shutil.copytree(results, folder / "old night")
    assert main([*command, str(folder), "--out", str(tmp_path / "out")]) == ExitCode.OK
    assert len(rows(tmp_path / "out" / "worklist.csv")) == 1
    assert [row["code"] for row in rows(tmp_path / "out" / "refused.csv")] == ["results-passed-over"]


# -- the command -----------------------------------------------------------------------------------------------------
def test_stdout_carries_results_only(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["screen", str(tiny_folder), "--out", str(tmp_path / "out")])
    assert capsys.readouterr().out.splitlines() == [str(tmp_path / "out" / "worklist.html")]


def test_json_logs_name_nobody(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["screen", str(tiny_folder), "--out", str(tmp_path / "out"), "--log-json"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    assert lines
    dataset = pydicom.dcmread(next(tiny_folder.iterdir()), stop_before_pixels=True)
    for line in lines:
        event = json.loads(line)
        assert {"time", "level", "event"} <= set(event)
        assert str(dataset.PatientID) not in line
        assert str(dataset.StudyInstanceUID) not in line
        assert str(tiny_folder) not in line


@pytest.mark.parametrize(
    "words",
    [["--pipeline", "nowhere"], ["--pipeline", "bad.toml"], ["--operating-point", "all"], []],
    ids=["no such pipeline", "unknown key", "no such point", "no --out"],
)
def test_a_wrong_command_line_does_nothing(
    words: list[str], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.toml").write_text('name = "x"\n[detect]\nspeed = 3\n')
    out = ["--out", "out"] if words else []
    try:
        code = main(["screen", str(tiny_folder), *out, *words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert code == ExitCode.USAGE
    assert not (tmp_path / "out" / "studies").exists()


def test_results_cannot_go_into_the_input_itself(tiny_folder: Path) -> None:
    before = fingerprint(tiny_folder)
    assert main(["screen", str(tiny_folder), "--out", str(tiny_folder)]) == ExitCode.USAGE
    assert fingerprint(tiny_folder) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tiny_folder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    assert main(["screen", str(tiny_folder), "--out", str(tmp_path / "out")]) == ExitCode.FAILED


def test_an_unexpected_error_costs_one_study(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a library throws becomes a row with a code, and no name or traceback reaches the user."""

    def fail(*_: object) -> None:
        raise RuntimeError("PHANTOM^NAME in a library's message")

    monkeypatch.setattr("lungscreen.pipeline.exam.segment_lungs", fail)
    assert main(["screen", str(tiny_folder), "--out", str(tmp_path / "out")]) == ExitCode.SOME_REFUSED
    (row,) = rows(tmp_path / "out" / "worklist.csv")
    assert (row["status"], row["code"]) == ("failed", "internal-error")
    seen = capsys.readouterr()
    assert "PHANTOM^NAME" not in seen.err + seen.out


def test_phantom_types_are_the_reports_types() -> None:
    """The words of findings.csv's column `type`."""
    assert {t.value for t in NoduleType} == {"solid", "part-solid", "ground-glass", "calcified", "unknown"}

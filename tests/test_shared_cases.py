"""Small inputs that other readers got wrong, each with its right outcome, through `screen` and through `batch run`.

They lie in `../shared/cases`; without that folder these tests skip.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from batch_models import MODELS

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.pipeline import read_pipeline

CASES = Path(__file__).resolve().parents[2] / "shared" / "cases"
PIPELINE = read_pipeline("screening")
AT_ONCE = BatchConfig(workers=1, keep_free_mb=0.0, full_limit_s=0.0, away_limit_s=0.0)
ENGINES = {"screen": "here", "batch run": "local"}
SAME_ML = 0.01
SAME_MM = 0.5

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="../shared/cases is absent")


@dataclass(frozen=True)
class Right:
    """What is right of one input: the values of another one that is read, or exact codes.

    values_of: whose lungs and findings it has, below the folder of cases. said: notices that must stand in the report.
    refused: codes of what else lies in the input.
    """

    name: str
    start: str = "input"
    values_of: str = ""
    said: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()


PLAIN = "plain/input"
PASSES, PART = frozenset({"several-passes"}), frozenset({"series-part"})
RIGHT = (
    Right("plain", values_of=PLAIN),
    Right("codestream_control", values_of=PLAIN),
    Right("codestream_ff_after_end", values_of=PLAIN),
    Right("dicomdir_file_endings", "input/DICOMDIR", values_of=PLAIN),
    Right("rescale_type_spelled_out", values_of=PLAIN),
    Right("one_slice_repeated_middle", values_of=PLAIN, said=PASSES, refused=PART),
    Right("partial_second_run", values_of=PLAIN, said=PASSES, refused=PART),
    Right("mhd_blank_in_name", values_of="mha_other_patient/control"),
    Right("mha_other_patient", "input/b_second.mha", values_of="mha_other_patient/control"),
    Right("mha_broken_stream", refused=frozenset({"image-damaged"})),
    Right("nifti_crc", refused=frozenset({"image-damaged"})),
    Right("nifti_crc", "control.nii.gz", values_of="mha_other_patient/control"),
    Right("nifti_sform_scale", refused=frozenset({"image-geometry"})),
    Right("nrrd_no_space_name", refused=frozenset({"image-geometry"})),
)


def read(start: Path, engine: str, out: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """Reports, each with the places of its candidates, and the codes of refused.csv."""
    run_batch(BatchRun([start], out, PIPELINE, config=AT_ONCE, engine=engine), models=MODELS)
    reports = [json.loads(path.read_text()) for path in sorted(out.glob("studies/*/report.json"))]
    with (out / "candidates.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for report in reports:
        mine = [row for row in rows if row["seriesuid"] == report["series"]["series_uid"]]
        report["places"] = sorted([float(row[f"coord{axis}"]) for axis in "XYZ"] for row in mine)
    with (out / "refused.csv").open(newline="", encoding="utf-8") as file:
        return reports, {row["code"] for row in csv.DictReader(file)}


@cache
def values_of(place: str) -> tuple[list[float], np.ndarray]:
    """Millilitres of both lungs and the places of the candidates (n, 3), of an input that is as it should be."""
    with TemporaryDirectory() as folder:
        (report,), refused = read(CASES / place, "here", Path(folder) / "out")
    assert not refused
    return values(report)


def values(report: dict[str, Any]) -> tuple[list[float], np.ndarray]:
    places = np.array(report["places"]).reshape(-1, 3)
    return [report["lungs"]["right_ml"], report["lungs"]["left_ml"]], places


def check_values(report: dict[str, Any], expected: tuple[list[float], np.ndarray]) -> None:
    lungs, places = values(report)
    assert lungs == pytest.approx(expected[0], rel=SAME_ML)
    assert places.shape == expected[1].shape
    assert np.abs(places - expected[1]).max(initial=0.0) < SAME_MM


def test_every_case_has_its_outcome_here() -> None:
    assert {right.name for right in RIGHT} == {path.name for path in CASES.iterdir() if path.is_dir()}


def test_the_values_to_be_found_are_some() -> None:
    for place in (PLAIN, "mha_other_patient/control"):
        lungs, places = values_of(place)
        assert min(lungs) > 1000
        assert len(places) > 1


@pytest.mark.slow
@pytest.mark.parametrize("command", ENGINES)
@pytest.mark.parametrize("right", RIGHT, ids=lambda right: f"{right.name}/{right.start}")
def test_a_case_gives_what_its_readme_says(right: Right, command: str, tmp_path: Path) -> None:
    reports, refused = read(CASES / right.name / right.start, ENGINES[command], tmp_path / "out")
    assert refused == right.refused
    if not right.values_of:
        assert not reports
        return
    (report,) = reports
    assert {notice["code"] for notice in report["notices"]} >= right.said
    check_values(report, values_of(right.values_of))


@pytest.mark.slow
def test_an_intact_image_without_its_optional_size_never_gets_the_one_before_it(tmp_path: Path) -> None:
    """Both in one run, the other patient's first: two reports, each with its own values."""
    for command, engine in ENGINES.items():
        reports, refused = read(CASES / "mha_other_patient" / "input", engine, tmp_path / command)
        assert not refused
        assert len(reports) == 2
        own = values_of("mha_other_patient/control")
        same = [np.allclose(values(report)[0], own[0], rtol=1e-3) for report in reports]
        assert sum(same) == 1
        check_values(reports[same.index(True)], own)


@pytest.mark.slow
def test_all_of_them_in_one_night(tmp_path: Path) -> None:
    """`batch run` over every input that is no further copy of one study: each has its outcome beside the others."""
    once = [right for right in RIGHT if not right.values_of.startswith("plain") or right.name == "plain"]
    for number, right in enumerate(once):
        place = tmp_path / "inbox" / f"{number:02d}"
        place.mkdir(parents=True)
        start = CASES / right.name / right.start
        (place / start.name).symlink_to(start)
    reports, refused = read(tmp_path / "inbox", "local", tmp_path / "out")
    assert refused == frozenset().union(*(right.refused for right in once))
    assert len(reports) == sum(bool(right.values_of) for right in once)

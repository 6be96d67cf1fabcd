"""Damaged studies through `screen` and `batch run`: the clean study's values, or the exact code; nothing in between."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_models import MODELS
from damaged_studies import Damage, damaged_studies, nodule_places, write_clean

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.pipeline import read_pipeline

CASES = list(damaged_studies())
PIPELINE = read_pipeline("screening")
WHOLE = BatchConfig(keep_free_mb=0.0)
SAME_ML = 0.01
SAME_MM = 4.0
"""One voxel."""


def screen(folder: Path, out: Path) -> tuple[list[dict[str, Any]], set[str]]:
    """Reports, and the codes of what was refused, as `screen` writes them."""
    run_batch(BatchRun([folder], out, PIPELINE, config=WHOLE, engine="here"), models=MODELS)
    reports = [json.loads(path.read_text()) for path in sorted(out.glob("studies/*/report.json"))]
    with (out / "refused.csv").open(newline="") as file:
        return reports, {row["code"] for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("clean")
    write_clean(folder / "in")
    reports, refused = screen(folder / "in", folder / "out")
    assert len(reports) == 1
    assert not refused
    return reports[0]


def places(report: dict[str, Any]) -> np.ndarray:
    return np.array(sorted(finding["position_mm"] for finding in report["findings"])).reshape(-1, 3)


def test_the_clean_study_has_its_two_nodules_and_nothing_is_said_of_its_pixels(clean: dict[str, Any]) -> None:
    assert np.abs(places(clean) - np.array(sorted(nodule_places().tolist()))).max() < SAME_MM
    assert not {notice["code"] for notice in clean["notices"]} & {code for case in CASES for code in case.codes}


def test_there_are_thirty_and_no_name_twice() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 30


EVERY = 7
"""One case in so many is in the default tests."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if n % EVERY == 0 else pytest.mark.slow) for n, case in enumerate(CASES)],
    ids=lambda case: case.name,
)
def test_a_damaged_study_has_the_clean_one_s_values_or_is_refused(
    case: Damage, clean: dict[str, Any], tmp_path: Path
) -> None:
    case.make(tmp_path / "in")
    reports, refused = screen(tmp_path / "in", tmp_path / "out")
    check(case, clean, reports, refused)


def check(case: Damage, clean: dict[str, Any], reports: list[dict[str, Any]], refused: set[str]) -> None:
    """Lungs within 1 %, findings at the same places; or no report, and exactly the codes."""
    if not case.read:
        assert not reports
        assert refused - ({"pixels-damaged"} - case.codes) == case.codes
        return
    (report,) = reports
    said = {notice["code"] for notice in report["notices"]}
    news = said - {notice["code"] for notice in clean["notices"]} - FORM
    assert news == case.codes if case.same_values else case.codes <= news
    if case.category:
        assert report["category"] == case.category
    if not case.same_values:
        return
    check_values(clean, report)


def check_values(clean: dict[str, Any], report: dict[str, Any]) -> None:
    """Lungs within 1 %, findings at the same places."""
    for side in ("right_ml", "left_ml"):
        assert report["lungs"][side] == pytest.approx(clean["lungs"][side], rel=SAME_ML)
    found, expected = places(report), places(clean)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < SAME_MM


def has_values_of(clean: dict[str, Any], report: dict[str, Any]) -> bool:
    try:
        check_values(clean, report)
    except AssertionError:
        return False
    return True


FORM = frozenset({"acquisition-unknown", "kernel-unknown", "dose-unknown", "kernel-not-validated", "lossy"})
"""What is said because image files have no header."""


@pytest.mark.slow
def test_all_of_them_in_one_night(clean: dict[str, Any], tmp_path: Path) -> None:
    """`batch run`: none of them stops the others, and each has the same outcome."""
    for number, case in enumerate(CASES):
        case.make(tmp_path / "inbox" / f"{number:03d}")
    ended = run_batch(
        BatchRun([tmp_path / "inbox"], tmp_path / "night", PIPELINE, config=BatchConfig(workers=1, keep_free_mb=0.0)),
        models=MODELS,
    )
    assert ended.how == "finished"
    reports = list((tmp_path / "night").glob("studies/*/report.json"))
    assert len(reports) >= sum(case.read for case in CASES) - 4  # those with one UID are one study
    alike = [path for path in reports if has_values_of(clean, json.loads(path.read_text()))]
    assert len(alike) >= sum(case.read and case.same_values for case in CASES) - 4
    with (tmp_path / "night" / "refused.csv").open(newline="") as file:
        refused = {row["code"] for row in csv.DictReader(file)}
    assert refused >= {code for case in CASES if not case.read for code in case.codes}

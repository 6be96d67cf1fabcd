"""The rules through what ships: `screen` and `batch run` over a small chest, its earlier report, and hostile tables."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shrunk import write_shrunk

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.config import packaged_folder
from lungscreen.phantom import NoduleSpec, sized
from lungscreen.records import NoduleType
from lungscreen.results.document import ReportedChange
from lungscreen.results.fields import parts_of

SHRUNK = 0.75


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One patient twice: with a large ground-glass nodule and a smaller solid one (`then`), and without any (`now`)."""
    folder = tmp_path_factory.mktemp("visits")
    base = sized("small", seed=23, scan_seed=1, study_date="20200101")
    nodules = (NoduleSpec(32.0, type=NoduleType.GROUND_GLASS), NoduleSpec(13.4))
    write_shrunk(replace(base, nodules=nodules), SHRUNK, folder / "then")
    write_shrunk(replace(base, scan_seed=2, nodules=(), study_date="20200701"), SHRUNK, folder / "now")
    return folder


def report_of(out: Path) -> dict[str, Any]:
    """The one report in a folder of results."""
    (path,) = out.glob("studies/*/report.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.fixture(scope="module")
def earlier(visits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of `then`, from a pipeline that lists one finding only."""
    folder = tmp_path_factory.mktemp("earlier")
    text = (packaged_folder("pipelines") / "screening.toml").read_text(encoding="utf-8")
    assert "most = 20" in text
    pipeline = folder / "one.toml"
    pipeline.write_text(text.replace("most = 20", "most = 1"), encoding="utf-8")
    out = folder / "out"
    assert main(["screen", str(visits / "then"), "--pipeline", str(pipeline), "--out", str(out)]) == ExitCode.OK
    return report_of(out)


def codes(document: dict[str, Any]) -> set[str]:
    return {notice["code"] for notice in document["notices"]}


def test_the_limit_of_findings_does_not_decide_the_category(earlier: dict[str, Any]) -> None:
    """The ground-glass nodule is the likelier malignant one by the network, the solid one the higher category."""
    assert earlier["category"] == "4A"
    assert earlier["cut_off"] >= 1
    assert [(one["type"], one["category"]) for one in earlier["findings"]] == [("solid", "4A")]


def hostile_report(earlier: dict[str, Any]) -> dict[str, Any]:
    """The same with two findings, one of them without sizes, and a history of impossible dates and sizes."""
    document = copy.deepcopy(earlier)
    (first,) = document["findings"]
    row = {**first["measurement"], **first["location"], "type": first["type"], "category": "3", "study_uid": "0.9"}
    row |= {"solid_mean_diameter_mm": 0.0, "solid_volume_mm3": 0.0, "position_mm": None, "number": 1}
    dates = ("2019-13-40", "2020-01-01", "2027-01-01", "2018-01-01")
    change = dict.fromkeys(part.name for part in parts_of(ReportedChange))
    change |= {"state": "stable", "text": "stable", "ambiguous": False}
    exams = [{**row, "how": "finding", "date": when} for when in dates]
    first["change"] = change | {"exams": [*exams, {"date": "2017-01-01"}]}
    document["findings"].append({**copy.deepcopy(first), "measurement": None, "change": None})
    return document


PEOPLE = (
    "patient_id,cigarettes_per_day,duration_years,years_quit,smoking_status,education,bmi,race,copd,prior_cancer,"
    "family_history\n{patient},0.02,20,3,former,4,27,white,no,no,no\n"
)
"""A number that once made the reading fail: PLCOm2012 divides by it."""


@pytest.mark.parametrize("command", [["screen"], ["batch", "run"]], ids=["screen", "batch"])
def test_an_earlier_nodule_whose_fate_is_unknown_keeps_the_exam_from_1_and_2(
    command: list[str], visits: Path, earlier: dict[str, Any], tmp_path: Path
) -> None:
    """Only its report is there, and that is damaged; the table of people is too. The study is read, and all is said."""
    priors = tmp_path / "priors"
    priors.mkdir()
    (priors / "report.json").write_text(json.dumps(hostile_report(earlier)), encoding="utf-8")
    people = tmp_path / "people.csv"
    people.write_text(PEOPLE.format(patient=earlier["patient"]["patient_id"]), encoding="utf-8")
    options = ["--priors", str(priors), "--clinical", str(people), "--out", str(tmp_path / "out")]
    assert main([*command, str(visits / "now"), *options]) == ExitCode.OK
    document = report_of(tmp_path / "out")
    assert document["category"] == "not assessed"
    size = earlier["findings"][0]["measurement"]["mean_diameter_mm"]
    assert f"{size:.1f} mm on 2020-01-01" in document["category_reason"]
    assert "1 nodule of the earlier exam without sizes" in document["category_reason"]
    assert {"prior-nodule-unknown", "prior-history-left-out", "prior-by-size"} <= codes(document)
    (left_out,) = (n["text"] for n in document["notices"] if n["code"] == "prior-history-left-out")
    assert "4" in left_out, "three impossible dates and an entry without sizes"
    assert [lost["state"] for lost in document["lost"]] == ["not assessed"]
    assert document["person"]["risk"]["probability"] is None
    assert document["person"]["cigarettes_per_day"] == 0.02
    page = next((tmp_path / "out").glob("studies/*/report.html")).read_text(encoding="utf-8")
    assert "it is not known whether" in page.lower()


@pytest.mark.parametrize("lost", ["findings", "series", "category"])
def test_an_earlier_report_that_is_refused_whole_keeps_the_exam_from_1_and_2(
    lost: str, visits: Path, earlier: dict[str, Any], tmp_path: Path
) -> None:
    """It lacks a field that every report has; whose it is and when can still be read."""
    priors = tmp_path / "priors"
    priors.mkdir()
    broken = {key: value for key, value in earlier.items() if key != lost}
    (priors / "report.json").write_text(json.dumps(broken), encoding="utf-8")
    out = tmp_path / "out"
    assert main(["screen", str(visits / "now"), "--priors", str(priors), "--out", str(out)]) == ExitCode.SOME_REFUSED
    assert "prior-report-invalid" in (out / "refused.csv").read_text(encoding="utf-8")
    document = report_of(out)
    assert document["category"] == "not assessed"
    assert "prior-unreadable" in codes(document)
    assert any("2020-01-01" in n["text"] for n in document["notices"] if n["code"] == "prior-unreadable")


@pytest.mark.slow
def test_a_resolved_nodule_does_not_hold_the_exam(visits: Path, tmp_path: Path) -> None:
    """Its place is shown by both exams, and nothing is left there."""
    out = tmp_path / "out"
    assert main(["screen", str(visits / "now"), "--priors", str(visits / "then"), "--out", str(out)]) == ExitCode.OK
    document = report_of(out)
    assert "resolved" in {lost["state"] for lost in document["lost"]}
    assert document["category"] in ("1", "2")
    assert "prior-nodule-unknown" not in codes(document)
    for finding in document["findings"]:
        assert finding["growth"] == finding["change"]["text"], "one statement of change"

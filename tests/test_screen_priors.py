"""Earlier exams through the command line: images, reports, and what is wrong with them."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from shrunk import write_shrunk

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.phantom import NoduleSpec, Pose, sized

SHRUNK = 0.6
SPECS = (NoduleSpec(17.5), NoduleSpec(15.0, growth=2.0))


@pytest.fixture(scope="module")
def visits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two visits of one patient half a year apart (`then`, `now`), and another patient's (`other`)."""
    folder = tmp_path_factory.mktemp("visits")
    base = sized("tiny", seed=21, scan_seed=1, study_date="20200101")
    first = replace(base, nodules=tuple(replace(spec, growth=1.0) for spec in SPECS))
    second = replace(
        base, scan_seed=2, nodules=SPECS, study_date="20200701", pose=Pose((8.0, -5.0, 12.0), (2, 0, 3), 8)
    )
    write_shrunk(first, SHRUNK, folder / "then")
    write_shrunk(second, SHRUNK, folder / "now")
    write_shrunk(sized("tiny", seed=22, nodules=0, study_date="20190101"), SHRUNK, folder / "other")
    return folder


@pytest.fixture(scope="module")
def compared(visits: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both visits in one input: each is read, and the later one is compared with the earlier one."""
    out = tmp_path_factory.mktemp("compared")
    assert main(["screen", str(visits / "then"), str(visits / "now"), "--out", str(out)]) == ExitCode.OK
    return out


def reports(out: Path) -> dict[str, dict[str, Any]]:
    """Reports by the date of their exam."""
    documents = [json.loads(p.read_text(encoding="utf-8")) for p in out.glob("studies/*/report.json")]
    return {document["exam"]["date"]: document for document in documents}


def codes(document: dict[str, Any]) -> set[str]:
    return {notice["code"] for notice in document["notices"]}


def refused(out: Path) -> list[str]:
    with (out / "refused.csv").open(newline="", encoding="utf-8") as file:
        return [row["code"] for row in csv.DictReader(file)]


def test_the_later_visit_is_compared_and_the_earlier_one_is_not(compared: Path) -> None:
    both = reports(compared)
    assert both["2020-01-01"]["prior"] is None
    assert "as-baseline" in codes(both["2020-01-01"])
    later = both["2020-07-01"]
    assert later["prior"]["date"] == "2020-01-01"
    assert later["prior"]["how"] == "images"
    assert later["prior"]["lungs_overlap"] > 0.9
    assert "as-baseline" not in codes(later)
    assert later["findings"]
    assert all(finding["change"] is not None for finding in later["findings"])
    assert all(finding["growth"] == finding["change"]["text"] for finding in later["findings"])
    assert "growth (no images of an earlier exam)" not in later["not_assessed"]
    assert later["provenance"]["seconds"]["compare"] > 0


def test_the_page_shows_the_prior_and_the_history(compared: Path) -> None:
    later = reports(compared)["2020-07-01"]
    page = (compared / "studies" / later["key"] / "report.html").read_text(encoding="utf-8")
    assert "Since 2020-01-01" in page
    assert "<dt>Prior exam</dt><dd>2020-01-01</dd>" in page
    seen = [finding for finding in later["findings"] if finding["change"]["exams"]]
    assert page.count("<caption>History</caption>") == len(seen)
    assert seen, "at least one nodule is in both exams"
    assert page.count("<figcaption>Earlier exam, 2020-01-01</figcaption>") == len(later["findings"])
    assert ("no finding now" in page) == bool(later["lost"])


def test_an_earlier_report_alone_gives_sizes_only(visits: Path, compared: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(compared / "studies" / reports(compared)["2020-01-01"]["key"], earlier)
    out = tmp_path / "out"
    assert main(["screen", str(visits / "now"), "--priors", str(earlier), "--out", str(out)]) == ExitCode.OK
    later = reports(out)["2020-07-01"]
    assert later["prior"]["how"] == "report"
    assert "prior-by-size" in codes(later)
    assert not {finding["change"]["state"] for finding in later["findings"]} & {"new"}
    assert not {lost["state"] for lost in later["lost"]} & {"resolved"}
    html = next(out.glob("studies/*/report.html")).read_text(encoding="utf-8")
    assert "2020-01-01 (sizes from its report only)" in html


def test_what_cannot_be_an_earlier_exam_is_said(visits: Path, compared: Path, tmp_path: Path) -> None:
    """A later one of the same patient, and one of somebody else."""
    priors = tmp_path / "priors"
    shutil.copytree(visits / "other", priors / "other")
    shutil.copytree(compared / "studies" / reports(compared)["2020-07-01"]["key"], priors / "later")
    out = tmp_path / "out"
    assert main(["screen", str(visits / "then"), "--priors", str(priors), "--out", str(out)]) == ExitCode.OK
    document = reports(out)["2020-01-01"]
    assert document["prior"] is None
    assert {"prior-newer", "as-baseline"} <= codes(document)
    assert refused(out) == [], "an archive of earlier exams holds those of other people too"


def test_a_folder_of_earlier_exams_that_is_not_there(
    visits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = tmp_path / "nowhere"
    code = main(["screen", str(visits / "then"), "--priors", str(nowhere), "--out", str(tmp_path / "out")])
    assert code == ExitCode.FAILED
    assert "input-missing" in capsys.readouterr().err

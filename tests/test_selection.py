"""The second look: what is listed apart, what stays a finding whatever it says, and what becomes of every candidate."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from report_examples import changed, make_finding, make_volume

from lungscreen.comparison import Prior
from lungscreen.comparison.reports import EarlierReport
from lungscreen.pipeline.selection import (
    FindingsConfig,
    keep_doubtful,
    list_findings,
    look_twice,
    nodules_of_prior,
    select_findings,
    verdicts_of,
)
from lungscreen.records import Attributes, Candidate, Finding, Grade, NoduleChange, NoduleType, PastNodule, Patient

CONFIG = FindingsConfig()
VOLUME = make_volume()


def mark(score: float = 0.5, size_mm: float = 8.0, probability: float = 0.02, **changes: Any) -> Finding:
    """A measured mark that the second look takes for no nodule."""
    finding = make_finding(VOLUME, score=score, nodule_probability=probability, second_look="no nodule")
    assert finding.measurement is not None
    finding = changed(
        finding,
        measurement=replace(finding.measurement, mean_diameter_mm=size_mm),
        candidate=Candidate((score, 2.0, 3.0), size_mm, score),
        attributes=Attributes(3.0, 3.0, 3.0, 3.0, 3.0, 0.0),
    )
    return changed(finding, **changes)


def nodule(score: float, **changes: Any) -> Finding:
    return mark(score, probability=0.9, second_look="nodule", **changes)


def moved(state: str, how: str = "") -> NoduleChange:
    past = PastNodule("20250101", "1.2", NoduleType.SOLID, 8.0, 8.0, 8.0, how=how)
    return NoduleChange(state, "text", (past,) if how else ())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("probability", "below", "said"),
    [
        (None, 0.1, ""),
        (0.05, 0.1, "no nodule"),
        (0.1, 0.1, "nodule"),
        (0.2, 0.1, "nodule"),
    ],
)
def test_a_mark_is_taken_for_what_the_threshold_says(probability: float | None, below: float, said: str) -> None:
    assert look_twice(probability, below) == said


def test_no_nodule_is_listed_apart_and_bare() -> None:
    """No malignancy, attributes or heat; outline and size stay, so that it can be looked at. It is counted aloud."""
    chosen = select_findings([mark(0.4), nodule(0.9), mark(0.6)], CONFIG)
    assert [finding.candidate.score for finding in chosen.findings] == [0.9]
    assert [finding.candidate.score for finding in chosen.no_nodules] == [0.4, 0.6]
    first = chosen.no_nodules[0]
    assert (first.malignancy, first.attributes, first.attribution, first.category) == (None, None, None, "")
    assert first.outline is not None
    assert first.measurement is not None
    (notice,) = chosen.notices
    assert notice.code == "no-nodule-marks"
    assert notice.text.startswith("2 marks")


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"change": moved("stable", "finding")}, "earlier exam"),
        ({"change": moved("shrinking", "report")}, "earlier exam"),
        ({"change": moved("growing", "measured at the place")}, "grew"),
    ],
    ids=["finding before", "in an earlier report", "grew"],
)
def test_what_the_second_look_does_not_decide_about(changes: dict[str, Any], word: str) -> None:
    """It stays a finding with all that it has, and says why."""
    chosen = select_findings([mark(**changes)], CONFIG)
    assert chosen.no_nodules == ()
    (finding,) = chosen.findings
    assert finding.malignancy is not None
    (notice,) = finding.notices
    assert notice.code == "second-look-doubts"
    assert word in notice.text
    assert "2 %" in notice.text


@pytest.mark.parametrize(
    "changes",
    [
        {"size_mm": 45.0},
        {"candidate": Candidate((1.0, 2.0, 3.0), 25.0, 0.5)},
        {"measurement": None, "outline": None},
        {"change": moved("new")},
        {"change": moved("stable", "measured at the place")},
        {"change": moved("stable", "below the operating point")},
        {"change": moved("not assessed")},
    ],
    ids=["large", "large by the mark", "not outlined", "new", "alike before", "a weak mark before", "not compared"],
)
def test_what_it_does_decide_about(changes: dict[str, Any]) -> None:
    """Nothing stays for its size. A vessel is in both exams: only what an earlier reading called a finding is kept."""
    chosen = select_findings([mark(**changes)], CONFIG)
    assert (len(chosen.findings), len(chosen.no_nodules)) == (0, 1)


def test_sure_nodules_get_no_word() -> None:
    assert keep_doubtful(nodule(0.5), "of this").notices == ()
    assert keep_doubtful(mark(probability=0.004), "a reader marked it").notices[0].text.count("below 1 %") == 1


def past_of(how: str, doubtful: bool, category: str = "") -> PastNodule:
    return PastNodule(
        "20250101",
        "1.2",
        NoduleType.SOLID,
        8.0,
        8.0,
        8.0,
        how=how,
        doubtful=doubtful,
        category=category,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("change", "stays_doubtful"),
    [
        (None, True),
        (moved("new"), True),
        (moved("growing", "measured at the place"), False),
        (moved("stable", "finding"), False),
        (NoduleChange("stable", "text", (past_of("finding", True),)), True),
        (NoduleChange("stable", "text", (past_of("report", True, "4B"),)), True),
        (NoduleChange("stable", "text", (past_of("measured at the place", False, "4B"),)), False),
        (NoduleChange("growing", "text", (past_of("report", True),)), False),
    ],
    ids=["alone", "new", "grew", "sure before", "doubtful before", "doubtful 4B before", "4B before", "doubtful, grew"],
)
def test_what_a_doubtful_finding_decides(change: NoduleChange | None, stays_doubtful: bool) -> None:
    """A vessel is doubtful in both exams. What grew, or was a nodule for sure, counts however it scores now."""
    doubtful = mark(0.1, probability=0.1, doubtful=True, change=change)
    doubtful = replace(doubtful, second_look="nodule")
    (finding,) = select_findings([doubtful], CONFIG).findings
    assert finding.doubtful == stays_doubtful
    assert [notice.code for notice in finding.notices] == (["doubtful-findings"] if stays_doubtful else [])
    assert not stays_doubtful or "10 %" in finding.notices[0].text


def test_what_a_reader_marked_is_not_doubtful() -> None:
    assert not keep_doubtful(mark(doubtful=True), "a reader marked it").doubtful


def test_the_limit_cuts_no_doubtful_4b_for_a_sure_2() -> None:
    found = [
        nodule(0.9, grade=Grade("2")),
        nodule(0.1, grade=Grade("4B"), doubtful=True),
        nodule(0.8, grade=Grade("2")),
    ]
    listed = list_findings(found, 2)
    assert [(finding.number, finding.category) for finding in listed.findings] == [(1, "2"), (2, "4B")]


def test_every_candidate_has_its_verdict() -> None:
    """Small, cut off, no nodule, finding, or never above the operating point; a finding of none of them changes
    nothing.
    """
    found = [mark(0.4), nodule(0.9), nodule(0.8), nodule(0.7, size_mm=2.9), nodule(0.95)]
    chosen = select_findings(found, CONFIG)
    listed = list_findings(chosen.findings, 2)
    others = [Candidate((9.0, 9.0, 9.0), 3.0, 0.1)]
    candidates = [*(finding.candidate for finding in found), *others]
    told = dict(zip([c.score for c in candidates], verdicts_of(candidates, chosen, listed), strict=True))
    assert told == {
        0.4: "no nodule", 0.9: "finding", 0.95: "finding", 0.8: "not listed", 0.7: "too small",
        0.1: "below the operating point",
    }  # fmt: skip
    assert {notice.code for notice in chosen.notices} == {"marks-too-small", "no-nodule-marks"}


def test_one_that_grew_is_not_cut_off() -> None:
    """However low it ranks among those of its category."""
    found = [nodule(0.9, grade=Grade("2")), nodule(0.8, grade=Grade("2"))]
    found.append(nodule(0.1, grade=Grade("2"), change=moved("growing", "finding")))
    listed = list_findings(found, 2)
    assert {finding.candidate.score for finding in listed.findings} == {0.9, 0.1}
    assert [finding.candidate.score for finding in listed.left_out] == [0.8]


def test_the_limit_cuts_by_category_and_no_score_saves_a_harmless_one() -> None:
    """What could not be graded is spared before what is known to be harmless; the list is ranked as ever."""
    categories = ["2", "1", "not assessed", "3", "4A", "4B", "4X"]
    found = [nodule(0.9 - n / 10, grade=Grade(category)) for n, category in enumerate(categories)]
    for most in range(1, 8):
        listed = list_findings(found, most)
        kept = {finding.category for finding in listed.findings}
        assert kept == set(["4X", "4B", "4A", "3", "not assessed", "2", "1"][:most])
        assert [finding.number for finding in listed.findings] == list(range(1, most + 1))
        assert [finding.category for finding in listed.findings] == ["4X", "4B", "4A", "3", "not assessed", "2", "1"][
            :most
        ]
        assert len(listed.left_out) == 7 - most


@pytest.mark.parametrize(("category", "stays"), [("4B", True), ("4X", True), ("4bs", True), ("4A", False), ("", False)])
def test_one_that_was_4b_is_graded_however_small_it_is_now(category: str, stays: bool) -> None:
    """And whatever the second look says: it leaves only when proven benign."""
    past = PastNodule(
        "20250101", "1.2", NoduleType.SOLID, 16.0, 16.0, 16.0, how="measured at the place", category=category
    )
    finding = mark(size_mm=2.5, change=NoduleChange("shrinking", "text", (past,)))
    chosen = select_findings([finding], CONFIG)
    assert (len(chosen.findings), len(chosen.too_small)) == ((1, 0) if stays else (0, 1))


@pytest.mark.parametrize(
    "settings", [{"least_mm": 30.0}, {"least_mm": -1.0}, {"most": 0}, {"threshold": 0.0}, {"threshold": 1.0}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        FindingsConfig(**settings)


# -- an earlier exam is read with the same eyes --------------------------------------------------------------------
def test_an_earlier_exams_vessels_are_no_nodules_but_what_its_report_lists_is() -> None:
    """Else a vessel, marked in both exams, would be kept because an earlier exam shows it."""
    vessel, listed, sure = mark(0.4), mark(0.6), nodule(0.9)
    x, y, z = listed.candidate.centre_mm
    row = PastNodule("20250101", "1.2", NoduleType.SOLID, 8.0, 8.0, 8.0, centre_mm=(x + 3.0, y, z), how="report")
    far = replace(row, centre_mm=(500.0, 0.0, 0.0))
    unknown = replace(row, centre_mm=None)
    report = EarlierReport(Patient(), "1.2", "1.2.3", "20250101", "2", (row, far, unknown), ((), (), ()))
    found = [
        replace(f, candidate=replace(f.candidate, centre_mm=(100 * n, y, z))) for n, f in ((1.0, vessel), (3.0, sure))
    ]
    prior = Prior(date(2025, 1, 1), None, report)
    kept = nodules_of_prior([found[0], listed, found[1]], prior, CONFIG)
    assert {finding.candidate.score for finding in kept} == {0.6, 0.9}
    without = nodules_of_prior([found[0], listed, found[1]], Prior(date(2025, 1, 1)), CONFIG)
    assert {finding.candidate.score for finding in without} == {0.9}

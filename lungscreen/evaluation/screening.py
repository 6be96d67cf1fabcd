"""Reports, Nodules, excluded findings ─► ScreeningResult: what whole exams say, against what is annotated in them.

A finding hits a nodule where it lies within the nodule's radius (LUNA16's rule, `match_marks`). What category a nodule
should have follows from its annotated size and type by the baseline rows of Lung-RADS v2022; without a type it is taken
for solid, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lungscreen.assess import RANK, LungRads, NoduleAtExam, NoduleHistory, grade_nodule
from lungscreen.errors import InputError, Notice
from lungscreen.evaluation.matching import match_marks
from lungscreen.evaluation.statistics import share_interval, weighted_kappa
from lungscreen.evaluation.tables import MarkTable, Nodules
from lungscreen.records import NOT_ASSESSED, NoduleType
from lungscreen.results.document import ReportDocument, ReportedFinding, ReportedMark
from lungscreen.results.folder import ResultsFolder

__all__ = [
    "EXAM_COLUMNS",
    "FALSE_FINDING_COLUMNS",
    "SCREENED_NODULE_COLUMNS",
    "ScreenedExam",
    "ScreeningResult",
    "evaluate_screening",
    "read_exams",
]

POSITIVE_FROM = RANK[LungRads.PROBABLY_BENIGN]
"""A screen is positive from category 3 on (Lung-RADS v2022)."""

LIDC_TYPES = {
    "1": NoduleType.GROUND_GLASS, "2": NoduleType.GROUND_GLASS, "3": NoduleType.PART_SOLID, "4": NoduleType.SOLID,
    "5": NoduleType.SOLID,
}  # fmt: skip
"""LIDC's texture scale (1 ground-glass, 3 part-solid, 5 solid); what lies between goes to the nearer end."""

COMPARED = ("2", "3", "4A", "4B")
"""Categories between which agreement is told: those that a nodule can have by size and type."""

CONFIDENCE = 0.95

Row = dict[str, Any]

EXAM_COLUMNS = (
    "seriesuid", "study_uid", "category", "nodules", "found", "findings", "false_findings", "no_nodules",
    "positive_false_findings", "worst_false_category", "positive_by_false_finding", "has_positive_false_finding",
    "doubtful_findings", "doubtful_positive_false_findings",
)  # fmt: skip
SCREENED_NODULE_COLUMNS = (
    "seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "type", "expected_category", "finding", "category",
    "mean_diameter_mm", "measured_type", "differs", "lower", "taken_for_no_nodule", "doubtful", "false_before",
)  # fmt: skip
FALSE_FINDING_COLUMNS = (
    "seriesuid", "finding", "coordX", "coordY", "coordZ", "category", "type", "mean_diameter_mm", "detection_score",
    "nodule_probability", "doubtful",
)  # fmt: skip


@dataclass(frozen=True)
class ScreenedExam:
    """One report as it is needed here: the series, the exam's category, findings by rank, marks taken for no nodule."""

    series_uid: str
    study_uid: str
    category: str
    findings: tuple[ReportedFinding, ...]
    no_nodules: tuple[ReportedMark, ...] = ()


@dataclass(frozen=True, eq=False)
class ScreeningResult:
    """Figures, and a row for each exam, annotated nodule and finding that is none."""

    figures: Row
    exams: tuple[Row, ...]
    nodules: tuple[Row, ...]
    false_findings: tuple[Row, ...]
    notices: tuple[Notice, ...] = ()


def read_exams(folders: Sequence[Path]) -> tuple[ScreenedExam, ...]:
    """Every report in folders that `lungscreen screen` wrote.

    Errors: `input-missing` where a folder holds none, `table-unreadable` for a report that cannot be read,
    `series-duplicate` where two reports are of one series.
    """
    exams: list[ScreenedExam] = []
    for folder in folders:
        exams += [_exam(document) for _, document in ResultsFolder(folder).reports()]
    uids = [exam.series_uid for exam in exams]
    if len(set(uids)) != len(uids):
        twice = next(uid for n, uid in enumerate(uids) if uid in uids[:n])
        raise InputError("series-duplicate", f"two reports are of series {twice[:80]}")
    return tuple(exams)


def evaluate_screening(exams: Sequence[ScreenedExam], nodules: Nodules, excluded: Nodules) -> ScreeningResult:
    """Compare reports with the annotations of their series. A series without annotations has no nodule.

    excluded: findings there count neither as nodules nor as false.
    """
    series = [exam.series_uid for exam in exams]
    marks, places = _marks(exams, "findings")
    matches = match_marks(marks, nodules, excluded, series, max_marks=None)
    false = {places[int(row)] for row in matches.false_row}
    hits = _hits(matches.nodule_row, matches.nodule_mark, places)
    doubted, doubted_places = _marks(exams, "no_nodules")
    dropped = match_marks(doubted, nodules, excluded, series, max_marks=None)
    lost = _hits(dropped.nodule_row, dropped.nodule_mark, doubted_places)
    rows = [
        _nodule_row(int(row), nodules, exams[int(scan)], hits.get(int(row)), int(row) in lost, false)
        for row, scan in zip(matches.nodule_row, matches.nodule_scan, strict=True)
    ]
    # what lies within a nodule is no false finding, whether or not it is the one that counts for it
    true = _all_true(marks, nodules, series, places)
    exam_rows = [_exam_row(n, exam, false, true, rows) for n, exam in enumerate(exams)]
    false_rows = [_false_row(exams[n], exams[n].findings[m]) for n, m in sorted(false)]
    figures = _figures(exam_rows, rows, matches.nodules_elsewhere)
    return ScreeningResult(figures, tuple(exam_rows), tuple(rows), tuple(false_rows), _say(nodules, rows, figures))


# -- reading ---------------------------------------------------------------------------------------------------------
def _exam(document: ReportDocument) -> ScreenedExam:
    ranked = tuple(sorted(document.findings, key=lambda finding: finding.number))
    return ScreenedExam(
        document.series.series_uid, document.exam.study_uid, document.category, ranked, document.no_nodules
    )


def _marks(exams: Sequence[ScreenedExam], kind: str) -> tuple[MarkTable, list[tuple[int, int]]]:
    """All findings as marks, the first of an exam scoring highest; and (exam, finding) of each."""
    places = [(n, m) for n, exam in enumerate(exams) for m in range(len(getattr(exam, kind)))]
    found = [getattr(exams[n], kind)[m] for n, m in places]
    centres = np.array([one.position_mm for one in found], dtype=float).reshape(-1, 3)
    scores = np.array([-float(one.number) for one in found])
    return MarkTable(tuple(exams[n].series_uid for n, _ in places), centres, scores), places


def _hits(
    rows: Sequence[int] | np.ndarray[Any, Any], marks: np.ndarray[Any, Any], places: list[tuple[int, int]]
) -> dict[int, tuple[int, int]]:
    """Annotated row → (exam, finding) of its most suspicious hit."""
    return {int(row): places[int(mark)] for row, mark in zip(rows, marks, strict=True) if mark >= 0}


def _all_true(
    marks: MarkTable, nodules: Nodules, series: Sequence[str], places: list[tuple[int, int]]
) -> set[tuple[int, int]]:
    """(exam, finding) of every finding inside an annotated nodule."""
    false = match_marks(marks, nodules, Nodules.none(), series, max_marks=None).false_row
    return set(places) - {places[int(row)] for row in false}


# -- rows ------------------------------------------------------------------------------------------------------------
def _rank(category: str | None) -> int:
    """Order of suspicion of a finding's category; 0 where it has none."""
    known = {str(name): rank for name, rank in RANK.items()}
    return known.get(category or "", 0)


def _exam_row(
    n: int, exam: ScreenedExam, false: set[tuple[int, int]], true: set[tuple[int, int]], nodules: Sequence[Row]
) -> Row:
    here = [row for row in nodules if row["seriesuid"] == exam.series_uid]
    wrong, right = ([f for m, f in enumerate(exam.findings) if (n, m) in which] for which in (false, true))
    sure, worst_true = _deciding(wrong), max((_rank(finding.category) for finding in _deciding(right)), default=0)
    worst = max(sure, key=lambda finding: _rank(finding.category), default=None)
    worst_false = _rank(worst.category) if worst else 0
    return {
        "seriesuid": exam.series_uid,
        "study_uid": exam.study_uid,
        "category": exam.category,
        "nodules": len(here),
        "found": sum(row["finding"] is not None for row in here),
        "findings": len(exam.findings),
        "false_findings": len(wrong),
        "no_nodules": len(exam.no_nodules),
        "positive_false_findings": _positive(sure),
        "worst_false_category": worst.category if worst else None,
        "positive_by_false_finding": worst_false >= POSITIVE_FROM and worst_false > worst_true,
        "has_positive_false_finding": worst_false >= POSITIVE_FROM,
        "doubtful_findings": sum(finding.doubtful for finding in exam.findings),
        "doubtful_positive_false_findings": _positive(wrong) - _positive(sure),
    }


def _deciding(findings: Sequence[ReportedFinding]) -> list[ReportedFinding]:
    """Those that are not doubtful: the others decide no exam."""
    return [finding for finding in findings if not finding.doubtful]


def _positive(findings: Sequence[ReportedFinding]) -> int:
    """How many have category 3 or more."""
    return sum(_rank(finding.category) >= POSITIVE_FROM for finding in findings)


def _nodule_row(
    row: int,
    nodules: Nodules,
    exam: ScreenedExam,
    hit: tuple[int, int] | None,
    taken_for_none: bool,
    false: set[tuple[int, int]],
) -> Row:
    finding = exam.findings[hit[1]] if hit else None
    diameter = float(nodules.diameters_mm[row])
    kind = _type_of(nodules.types[row] if nodules.types else "")
    expected = _expected(diameter, kind or NoduleType.SOLID)
    x, y, z = (float(c) for c in nodules.centres_mm[row])
    return {
        "seriesuid": exam.series_uid,
        "coordX": x,
        "coordY": y,
        "coordZ": z,
        "diameter_mm": diameter if diameter > 0 else None,
        "type": str(kind) if kind else None,
        "expected_category": expected,
        **_as_found(finding),
        **_compared(finding.category if finding else None, expected),
        "taken_for_no_nodule": finding is None and taken_for_none,
        "doubtful": finding.doubtful if finding else None,
        "false_before": sum((hit[0], m) in false for m in range(hit[1])) if hit else None,
    }


def _as_found(finding: ReportedFinding | None) -> Row:
    """What the report says of a nodule; None throughout where it is no finding."""
    if finding is None:
        return dict.fromkeys(("finding", "category", "mean_diameter_mm", "measured_type"))
    return {
        "finding": finding.number,
        "category": finding.category,
        "mean_diameter_mm": finding.measurement.mean_diameter_mm if finding.measurement else None,
        "measured_type": str(finding.type),
    }


def _compared(category: str | None, expected: str) -> Row:
    """Whether a category differs from what the nodule's size and type give, and is lower; None without either."""
    if not (_rank(expected) > 0 and _rank(category) > 0):
        return {"differs": None, "lower": None}
    return {"differs": category != expected, "lower": _rank(category) < _rank(expected)}


def _false_row(exam: ScreenedExam, finding: ReportedFinding) -> Row:
    x, y, z = finding.position_mm
    return {
        "seriesuid": exam.series_uid,
        "finding": finding.number,
        "coordX": x,
        "coordY": y,
        "coordZ": z,
        "category": finding.category,
        "type": str(finding.type),
        "mean_diameter_mm": finding.measurement.mean_diameter_mm if finding.measurement else None,
        "detection_score": finding.detection_score,
        "nodule_probability": finding.nodule_probability,
        "doubtful": finding.doubtful,
    }


def _type_of(text: str) -> NoduleType | None:
    """A nodule type by its name or by LIDC's texture; None where there is neither."""
    word = text.strip().lower()
    if word in LIDC_TYPES:
        return LIDC_TYPES[word]
    return NoduleType(word) if word in set(NoduleType) - {NoduleType.UNKNOWN} else None


def _expected(diameter_mm: float, kind: NoduleType) -> str:
    """Category at baseline of a nodule of that mean diameter and type."""
    if diameter_mm <= 0:
        return NOT_ASSESSED
    return str(grade_nodule(NoduleHistory(NoduleAtExam(None, kind, diameter_mm, diameter_mm))).name)


# -- figures ---------------------------------------------------------------------------------------------------------
def _column(rows: Sequence[Row], name: str) -> list[Any]:
    return [row[name] for row in rows]


def _rank_figures(ranks: Sequence[int]) -> Row:
    """Where the nodules stand in the lists of findings."""
    return {
        "first": sum(rank == 1 for rank in ranks),
        "up_to_three": sum(rank <= 3 for rank in ranks),
        "median": float(np.median(ranks)) if ranks else None,
        "lowest": max(ranks, default=None),
    }


def _figures(exams: Sequence[Row], nodules: Sequence[Row], elsewhere: int) -> Row:
    found = [row for row in nodules if row["finding"] is not None]
    graded = [row for row in found if row["differs"] is not None]
    return {
        "exams": len(exams),
        "nodules": len(nodules),
        "nodules_elsewhere": elsewhere,
        "findings": sum(_column(exams, "findings")),
        "false_findings": sum(_column(exams, "false_findings")),
        "false_findings_per_exam": sum(_column(exams, "false_findings")) / len(exams) if exams else None,
        "positive_false_findings": sum(_column(exams, "positive_false_findings")),
        "positive_false_findings_per_exam": (
            sum(_column(exams, "positive_false_findings")) / len(exams) if exams else None
        ),
        "doubtful_positive_false_findings": sum(_column(exams, "doubtful_positive_false_findings")),
        "positive_by_false_finding": _share(_column(exams, "positive_by_false_finding")),
        "has_positive_false_finding": _share(_column(exams, "has_positive_false_finding")),
        "nodules_found": _share([row["finding"] is not None for row in nodules]),
        "nodules_doubtful": sum(bool(row["doubtful"]) for row in found),
        "most_false_before_a_nodule": max(_column(found, "false_before"), default=None),
        "nodules_taken_for_none": sum(_column(nodules, "taken_for_no_nodule")),
        "category_differs": _share(_column(graded, "differs")),
        "category_lower": _share(_column(graded, "lower")),
        "category_agreement": _agreement(graded),
        "rank": _rank_figures(_column(found, "finding")),
        "marks_taken_for_none": sum(_column(exams, "no_nodules")),
    }


def _agreement(graded: Sequence[Row]) -> Row:
    """Categories that findings have (columns) against those that size and type give (rows): counts, and kappa with
    linear weights over the compared categories, of the nodules where both are among them.
    """
    places = {name: n for n, name in enumerate(COMPARED)}
    counts = np.zeros((len(COMPARED), len(COMPARED)), dtype=int)
    for row in graded:
        if row["expected_category"] in places and row["category"] in places:
            counts[places[row["expected_category"]], places[row["category"]]] += 1
    return {"categories": list(COMPARED), "counts": counts.tolist(), "kappa": weighted_kappa(counts)}


def _share(hits: Sequence[bool]) -> Row:
    """How many of how many, and the interval of the share."""
    return share_interval(np.array(hits, dtype=bool), CONFIDENCE)


def _say(nodules: Nodules, rows: Sequence[Row], figures: Row) -> tuple[Notice, ...]:
    notices = list(nodules.notices)
    assumed = sum(row["type"] is None for row in rows)
    if assumed:
        text = f"{assumed} annotated nodules have no type: the category that they should have is a solid nodule's."
        notices.append(Notice("type-assumed", text))
    if figures["nodules_elsewhere"]:
        text = f"{figures['nodules_elsewhere']} annotated nodules are of series without a report, and count nowhere."
        notices.append(Notice("series-not-listed", text))
    return tuple(notices)

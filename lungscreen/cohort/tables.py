"""GradedNodule…, GradedExam… ─► graded.csv, exams-graded.csv."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lungscreen.assess import BROCK_MODELS, mean_diameter
from lungscreen.cohort.grade import GradedExam, GradedNodule
from lungscreen.errors import Notice
from lungscreen.results.columns import csv_text
from lungscreen.results.text import csv_cell

__all__ = ["EXAM_HEAD", "NODULE_HEAD", "exams_csv", "graded_csv"]

NODULE_HEAD = (
    "patient_id", "exam_date", "nodule", "type", "mean_diameter_mm", "category", "category_by_volume", "clause",
    "reason", "management", "state", "growth", "compared_with", "doubling_days",
    *(f"brock_{model}" for model in BROCK_MODELS), "mayo", "fleischner", "bts", "nelson", "eu", "notices",
)  # fmt: skip
"""Columns of graded.csv; they are only ever added at the end."""

EXAM_HEAD = (
    "patient_id", "exam_date", "category", "beside", "clause", "reason", "management", "nodules", "new_nodules",
    "earlier_exam", "taken_as_resolved", "notices",
)  # fmt: skip
"""Columns of exams-graded.csv; they are only ever added at the end."""

LONG_TEXT = 2000
"""Characters of a reason at most."""


def graded_csv(graded: Iterable[GradedNodule]) -> Iterator[str]:
    """graded.csv, line by line: a row a nodule and exam."""
    yield csv_text([NODULE_HEAD])
    yield from (csv_text([[csv_cell(cell, LONG_TEXT) for cell in _nodule(one)]]) for one in graded)


def exams_csv(exams: Iterable[GradedExam]) -> Iterator[str]:
    """exams-graded.csv, line by line."""
    yield csv_text([EXAM_HEAD])
    yield from (csv_text([[csv_cell(cell, LONG_TEXT) for cell in _exam(one)]]) for one in exams)


def _nodule(one: GradedNodule) -> tuple[str, ...]:
    row, category, said = one.row, one.lesion.category, one.opinions
    sized = row.long_axis_mm is not None and row.short_axis_mm is not None
    return (
        row.patient_id,
        row.day.isoformat(),
        row.name,
        row.kind or "unknown",
        str(mean_diameter(row.long_axis_mm or 0, row.short_axis_mm or 0)) if sized else "",
        str(category.name),
        category.other,
        category.clause,
        category.reason,
        category.management,
        one.lesion.state,
        one.lesion.growth,
        one.lesion.before[-1].row.day.isoformat() if one.lesion.before else "",
        said.doubling_days,
        *said.brock,
        said.mayo,
        said.fleischner,
        said.bts,
        said.nelson,
        said.eu,
        _codes(one.notices),
    )


def _exam(one: GradedExam) -> tuple[str, ...]:
    category = one.category
    return (
        one.patient_id,
        one.day.isoformat(),
        str(category.name),
        category.beside,
        category.clause,
        category.reason,
        category.management,
        str(one.nodules),
        str(one.new_nodules),
        one.earlier.isoformat() if one.earlier else "",
        ", ".join(one.resolved),
        _codes(one.notices),
    )


def _codes(notices: Iterable[Notice]) -> str:
    return " ".join(dict.fromkeys(notice.code for notice in notices))

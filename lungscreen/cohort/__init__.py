"""Typed-in nodules and exams ─► what the rules say of each: a calculator for whole cohorts, without images.

The rules are those of `lungscreen.assess`; nothing is decided here but what belongs together.

read_typed_nodules, read_typed_exams   files ─► rows, and what in them was not understood
grade_cohort               rows ─► GradedNodule…, GradedExam…
graded_csv, exams_csv      the tables that are written
"""

from __future__ import annotations

from lungscreen.cohort.grade import GradedExam, GradedNodule, grade_cohort
from lungscreen.cohort.rows import (
    EXAM_COLUMNS,
    NODULE_COLUMNS,
    TypedNodule,
    TypedTable,
    read_typed_exams,
    read_typed_nodules,
)
from lungscreen.cohort.tables import EXAM_HEAD, NODULE_HEAD, exams_csv, graded_csv

__all__ = [
    "EXAM_COLUMNS",
    "EXAM_HEAD",
    "NODULE_COLUMNS",
    "NODULE_HEAD",
    "GradedExam",
    "GradedNodule",
    "TypedNodule",
    "TypedTable",
    "exams_csv",
    "grade_cohort",
    "graded_csv",
    "read_typed_exams",
    "read_typed_nodules",
]

"""In which order studies are read: by category, then malignancy probability, then detection score."""

from __future__ import annotations

import math

from lungscreen.results.document import ReportDocument, WorklistRow

__all__ = ["CATEGORY_ORDER", "category_rank", "done_row", "suspicion_order", "worklist_order"]

CATEGORY_ORDER = ("4X", "4B", "0", "4A", "3", "2", "1")
"""Exam categories in the order in which a worklist is read; "not assessed" comes after them."""


def category_rank(category: str) -> int:
    """Place of an exam category in the worklist's order; what is unknown to it comes last."""
    return CATEGORY_ORDER.index(category) if category in CATEGORY_ORDER else len(CATEGORY_ORDER)


def suspicion_order(category: str, top_probability: float | None, top_score: float | None) -> tuple[int, float, float]:
    """Sorts studies that were read, the most suspicious first; what nothing rated comes after what something did."""
    return (
        category_rank(category),
        math.inf if top_probability is None else -top_probability,
        math.inf if top_score is None else -top_score,
    )


def worklist_order(row: WorklistRow) -> tuple[bool, tuple[int, float, float], str, str]:
    """Sorts the worklist: refused and failed first, then by suspicion."""
    rank = suspicion_order(row.category, row.top_probability, row.top_score)
    return row.status == "done", rank, row.patient_id, row.study_uid


def done_row(document: ReportDocument, link: str) -> WorklistRow:
    """The worklist's row of a study that was read.

    link: to its page, from the results folder.
    """
    return WorklistRow(
        patient_id=document.patient.patient_id or "",
        study_uid=document.exam.study_uid,
        status="done",
        category=document.category,
        top_probability=document.top_probability,
        top_score=document.top_score,
        findings=len(document.findings),
        doubtful=len(document.doubtful_findings),
        report=link,
        name=document.patient.name or "",
        date=document.exam.date or "",
        accession_number=document.exam.accession_number or "",
        notices=tuple(notice.code for notice in document.notices),
    )

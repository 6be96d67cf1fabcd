"""Rows of all studies → `worklist.html`: what to look at, most urgent first."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lungscreen.codes import CODES
from lungscreen.errors import Refusal
from lungscreen.outputs.page import category_chip, html_page, study_table
from lungscreen.results.document import LONG_TEXT, MALIGNANCY_MEANING, WorklistRow
from lungscreen.results.text import escape, readable_name

__all__ = ["worklist_page"]


def worklist_page(rows: Sequence[WorklistRow], refusals: Sequence[Refusal]) -> str:
    """The whole page: studies that were not read, then those that were, ranked; then single files and series."""
    ranked = list(enumerate(rows, start=1))
    unread = [(rank, row) for rank, row in ranked if row.status != "done"]
    read = [(rank, row) for rank, row in ranked if row.status == "done"]
    parts = (
        f"<header><h1>Worklist</h1><p class='soft'>{_summary(len(read), len(unread))}</p></header>",
        _unread(unread, refusals, {row.study_uid for _, row in read}),
        _read(read),
        _parts([refusal for refusal in refusals if refusal.scope != "study"]),
    )
    return html_page("Worklist – lungscreen", "", "\n".join(part for part in parts if part))


def _summary(read: int, unread: int) -> str:
    studies = "1 study" if read == 1 else f"{read} studies"
    return f"{studies} read" + (f", {unread} not read." if unread else ".")


def _unread(rows: Sequence[tuple[int, WorklistRow]], refusals: Sequence[Refusal], earlier: Collection[str]) -> str:
    """`earlier`: studies that have a result all the same."""
    reasons = {(r.study_uid or r.where): r.reason for r in refusals if r.scope == "study"}
    table = [
        (
            str(rank),
            f'<span class="chip {row.status}">{row.status}</span>',
            f"{escape(row.patient_id)}<br><small>{escape(row.study_uid)}</small>",
            f"{escape(reasons.get(row.study_uid, ''), LONG_TEXT)}<br><small>{escape(_action(row.code))}"
            f"{' An earlier result of this study stands below.' if row.study_uid in earlier else ''}</small>",
            _code(row.code),
        )
        for rank, row in rows
    ]
    return study_table("Not read", ("n:Rank", "Status", "Patient", "Why, and what to do", "Code"), table)


def _read(rows: Sequence[tuple[int, WorklistRow]]) -> str:
    if not rows:
        return "<h2>Read</h2><p>No study was read.</p>"
    table = [
        (
            str(rank),
            category_chip(row.category),
            _patient(row),
            f"{escape(row.date)}<br><small>{escape(row.accession_number)}</small>",
            _probability(row.top_probability),
            f"{row.findings}<br><small>{row.doubtful} doubtful</small>" if row.doubtful else str(row.findings),
            _code(", ".join(row.notices)),
            _link(row, "report"),
        )
        for rank, row in rows
    ]
    heads = ("n:Rank", "Category", "Patient", "Exam", "n:Top malignancy probability*", "n:Findings", "To know", "")
    return study_table("Read", heads, table) + f'<p class="note">* {MALIGNANCY_MEANING}.</p>'


def _parts(refusals: Sequence[Refusal]) -> str:
    table = [(escape(r.where, LONG_TEXT), escape(r.reason, LONG_TEXT), _code(r.code)) for r in refusals]
    return study_table("Files and series left out", ("Path or UID", "Why", "Code"), table)


def _code(text: str) -> str:
    return f'<span class="code">{escape(text)}</span>'


def _patient(row: WorklistRow) -> str:
    name = readable_name(row.name)
    return f"{escape(name or row.patient_id or row.study_uid)}<br><small>{escape(row.patient_id)}</small>"


def _action(code: str) -> str:
    return CODES[code].action if code in CODES else ""


def _link(row: WorklistRow, text: str) -> str:
    return f'<a href="{escape(row.report)}">{text}</a>' if row.report else ""


def _probability(value: float | None) -> str:
    if value is None:
        return '<span class="absent">–</span>'
    percent = 100 * value
    return "&lt; 1 %" if percent < 1 else "&gt; 99 %" if percent > 99 else f"{percent:.0f} %"

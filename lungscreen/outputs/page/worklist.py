"""Rows of all studies → `worklist.html`: what to look at, most urgent first."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lungscreen.codes import CODES
from lungscreen.errors import Refusal
from lungscreen.outputs.page import category_chip, html_page
from lungscreen.results.document import MALIGNANCY_MEANING, WorklistRow
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
    if not rows:
        return ""
    reasons = {(r.study_uid or r.where): r.reason for r in refusals if r.scope == "study"}
    body = "".join(
        f'<tr><td class="n">{rank}</td><td><span class="chip {row.status}">{row.status}</span></td>'
        f"<td>{escape(row.patient_id)}<br><small>{escape(row.study_uid)}</small></td>"
        f"<td>{escape(reasons.get(row.study_uid, ''), 2000)}<br><small>{escape(_action(row.code))}"
        f"{' An earlier result of this study stands below.' if row.study_uid in earlier else ''}</small></td>"
        f'<td class="code">{escape(row.code)}</td></tr>'
        for rank, row in rows
    )
    return _table("Not read", ("n:Rank", "Status", "Patient", "Why, and what to do", "Code"), body)


def _read(rows: Sequence[tuple[int, WorklistRow]]) -> str:
    if not rows:
        return "<h2>Read</h2><p>No study was read.</p>"
    body = "".join(
        f'<tr><td class="n">{rank}</td><td>{category_chip(row.category)}</td><td>{_patient(row)}</td>'
        f"<td>{escape(row.date)}<br><small>{escape(row.accession_number)}</small></td>"
        f'<td class="n">{_probability(row.top_probability)}</td><td class="n">{row.findings}</td>'
        f"<td>{_flags(row)}</td><td>{_link(row, 'report')}</td></tr>"
        for rank, row in rows
    )
    heads = ("n:Rank", "Category", "Patient", "Exam", "n:Top malignancy probability*", "n:Findings", "To know", "")
    return _table("Read", heads, body) + f'<p class="note">* {MALIGNANCY_MEANING}.</p>'


def _parts(refusals: Sequence[Refusal]) -> str:
    if not refusals:
        return ""
    body = "".join(
        f"<tr><td>{escape(r.where, 2000)}</td><td>{escape(r.reason, 2000)}</td>"
        f"<td class='code'>{escape(r.code)}</td></tr>"
        for r in refusals
    )
    return _table("Files and series left out", ("Path or UID", "Why", "Code"), body)


def _table(title: str, heads: Sequence[str], body: str) -> str:
    """`heads`: "n:" in front makes a column of numbers."""
    head = "".join(
        f'<th class="{"n" if text.startswith("n:") else ""}" scope="col">{escape(text.removeprefix("n:"))}</th>'
        for text in heads
    )
    return (
        f'<h2>{title}</h2><div class="wide"><table class="worklist"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _patient(row: WorklistRow) -> str:
    name = readable_name(row.name)
    return f"{escape(name or row.patient_id or row.study_uid)}<br><small>{escape(row.patient_id)}</small>"


def _flags(row: WorklistRow) -> str:
    return f'<span class="code">{escape(", ".join(row.notices))}</span>'


def _action(code: str) -> str:
    return CODES[code].action if code in CODES else ""


def _link(row: WorklistRow, text: str) -> str:
    return f'<a href="{escape(row.report)}">{text}</a>' if row.report else ""


def _probability(value: float | None) -> str:
    if value is None:
        return '<span class="absent">–</span>'
    percent = 100 * value
    return "&lt; 1 %" if percent < 1 else "&gt; 99 %" if percent > 99 else f"{percent:.0f} %"

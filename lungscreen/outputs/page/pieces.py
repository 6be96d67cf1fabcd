"""Small pieces of HTML and wording that the parts of the page share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lungscreen.records import NOT_ASSESSED
from lungscreen.results.document import ReportedFinding, ReportedLocation, ReportedMark, ReportedNotice
from lungscreen.results.fields import parts_of
from lungscreen.results.text import ABSENT, escape, shown

__all__ = [
    "FACT_CODES",
    "REASON",
    "absent",
    "category_chip",
    "facts_list",
    "finding_chip",
    "folded",
    "guess",
    "labelled_facts",
    "minus",
    "minus_signs",
    "notices_list",
    "percent",
    "sentence",
    "side_text",
    "study_table",
    "type_text",
    "where_text",
    "whole_percent",
    "with_unit",
]

REASON = 2000
"""Characters of a reason or notice that are shown."""

FACT_CODES = ("low-dose", "as-baseline")
"""Notices that are facts of every such exam, and no warning."""


def category_chip(category: str | None) -> str:
    """An exam's or finding's category as text on a coloured ground."""
    known = category in ("4X", "4B", "4A", "3", "2", "1", "0")
    return f'<span class="chip{f" c{category}" if known else ""}">{escape(category or NOT_ASSESSED)}</span>'


def finding_chip(finding: ReportedFinding) -> str:
    """A finding's category, marked and without its colour where it does not decide the exam's."""
    if finding.doubtful:
        chip = f'<span class="chip">{escape(finding.category or NOT_ASSESSED)}</span>'
        return f"<span>{chip} <small>doubtful</small></span>"
    return category_chip(finding.category) if finding.category else absent(NOT_ASSESSED)


def notices_list(notices: Sequence[ReportedNotice]) -> str:
    """Notices with their codes; empty where there are none."""
    if not notices:
        return ""
    items = "".join(
        f'<li>{escape(sentence(notice.text), REASON)}<span class="code">{escape(notice.code)}</span></li>'
        for notice in notices
    )
    return f'<ul class="notices" aria-label="What to know about this exam">{items}</ul>'


def facts_list(facts: Iterable[tuple[str, str | None]], more: str = "") -> str:
    """Labels and values as a grid; `more` is HTML that follows."""
    items = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape('' if text is None else text) or absent(ABSENT)}</dd></div>"
        for label, text in facts
    )
    return f'<dl class="facts">{items}{more}</dl>'


def folded(title: str, content: str, *, opened: bool = False) -> str:
    """HTML behind a line that opens it; paper leaves out what is closed."""
    return f"<details{' open' if opened else ''}><summary>{escape(title)}</summary>{content}</details>"


def labelled_facts(record: Any) -> Iterator[tuple[str, str]]:
    """The numbers of a record that have a label, with their units."""
    kind: Any = type(record)
    for part in parts_of(kind):
        text = shown(getattr(record, part.name), part.said.page_digits) if part.said.label else ""
        if text:
            yield part.said.label, f"{text} {part.said.unit}".strip()


def absent(text: str) -> str:
    """What stands where there is no value."""
    return f'<span class="absent">{escape(text)}</span>'


def study_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table over studies, with its title; empty without rows. Cells are HTML.

    heads: "n:" in front makes a column of numbers.
    """
    if not rows:
        return ""
    classes = [' class="n"' if head.startswith("n:") else "" for head in heads]
    head = "".join(
        f'<th{kind} scope="col">{escape(text.removeprefix("n:"))}</th>'
        for text, kind in zip(heads, classes, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) + "</tr>"
        for row in rows
    )
    return (
        f'<h2>{escape(title)}</h2><div class="wide"><table class="worklist"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def with_unit(value: float | None, unit: str) -> str:
    """A number with its unit; empty where there is none."""
    return "" if value is None else f"{value:.4g} {unit}"


def sentence(text: str) -> str:
    """Reasons come as they stand in tables; on the page they begin like sentences."""
    return text[:1].upper() + text[1:]


def minus(text: str) -> str:
    """Numbers for people: a minus as long as a plus."""
    return text.replace("-", "\u2212")


def minus_signs(text: str) -> str:
    """A minus before a number, as long as a plus; hyphens of words and dates stay."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)


def where_text(location: ReportedLocation | ReportedMark) -> str:
    """Side, lobe (estimated, and said so) or zone."""
    return f"{location.lobe} (estimated)" if location.lobe else side_text(location.side, location.zone)


def side_text(side: str, zone: str) -> str:
    """Side and, where it is known, zone."""
    where = f"{side} lung" if side != "unknown" else "side unknown"
    return where if zone == "unknown" else f"{where}, {zone} zone"


def type_text(finding: ReportedFinding) -> str:
    """What it is made of, and whether it is a mass, as HTML."""
    return escape(finding.type.value) + (" mass" if finding.is_mass else "")


def percent(finding: ReportedFinding) -> str:
    """Probability in whole percent, never 0 or 100: nobody knows that."""
    return "" if finding.malignancy is None else whole_percent(finding.malignancy.probability)


def whole_percent(probability: float) -> str:
    """The same of any probability."""
    percent = 100 * probability
    return "< 1 %" if percent < 1 else "> 99 %" if percent > 99 else f"{shown(percent, 0)} %"


def guess(diameter_mm: float | None, before: str, after: str = "") -> str:
    """The detector's diameter in words, empty where it has none (a reader's own mark)."""
    return f"{before}{shown(diameter_mm, 0)}{after}" if diameter_mm else ""

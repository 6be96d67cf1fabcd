"""A signed read ─► the final report: JSON, a page, PDF. The reader's word first, the model's beside it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING, Any

from lungscreen import RESEARCH_USE
from lungscreen.outputs.letters import FONT, add_fonts, in_letters
from lungscreen.results.document import ReportDocument
from lungscreen.results.text import readable_name, readable_sex
from lungscreen.results.values import to_plain

if TYPE_CHECKING:
    from fpdf import FPDF

__all__ = ["cad_effect", "final_document", "final_page", "final_pdf"]

_STYLE = """body{font:15px/1.45 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1a1f24}
table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #c9d1d9;padding:.3rem .5rem;text-align:left;
vertical-align:top}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.6rem}.use{background:#fff3cd;padding:.5rem;
border:1px solid #997404}.soft{color:#4a5560}"""

_LONGEST = 20_000
"""Characters of a line of the PDF: more than what a reader can type."""


def final_document(text: str, digest: str, document: ReportDocument, addenda: list[dict[str, Any]]) -> dict[str, Any]:
    """What a final read says, with whose exam it is.

    text: the signed canonical JSON, whose SHA-256 is `digest`.
    addenda: what was added since, oldest first.
    """
    signed = json.loads(text)
    return {
        "schema": "lungscreen-room-report",
        "schema_version": "1.0",
        "research_use": RESEARCH_USE,
        "patient": to_plain(document.patient),
        "exam": to_plain(document.exam),
        "acquisition": to_plain(document.acquisition),
        "series": to_plain(document.series),
        "signed": signed,
        "sha256": digest,
        "read_by_a_person": True,
        "cad_changed": cad_effect(signed),
        "addenda": addenda,
    }


def cad_effect(signed: dict[str, Any]) -> dict[str, Any]:
    """What CAD changed: marks taken over, refused or left open, and the category before and after."""
    decisions = signed["content"]["decisions"]
    verdicts = [decision["verdict"] for decision in decisions]
    before = signed.get("before_cad")
    return {
        "accepted": verdicts.count("accept"),
        "rejected": verdicts.count("reject"),
        "unsure": verdicts.count("unsure"),
        "own_marks_after_cad": sum(mark["after_cad"] for mark in signed["marks"]),
        "category_before": before["category"] if before else None,
        "category_after": signed["computed"]["category"],
    }


def final_page(report: dict[str, Any]) -> str:
    """A page without scripts; every foreign string is escaped."""
    parts = [f"<h1>{_e(title)}</h1>{body}" if n == 0 else f"<h2>{_e(title)}</h2>{body}" for n, (title, body) in
             enumerate(_sections(report))]  # fmt: skip
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Report – lungscreen</title>"
        f"<style>{_STYLE}</style></head><body><p class='use'>{_e(RESEARCH_USE)}</p>{''.join(parts)}</body></html>"
    )


def final_pdf(report: dict[str, Any]) -> bytes:
    """The same as PDF."""
    from fpdf import FPDF

    pdf = FPDF(format="A4")
    add_fonts(pdf)
    pdf.set_auto_page_break(True, margin=15)
    pdf.set_title("lungscreen: report of a read")
    pdf.set_lang("en")
    pdf.add_page()
    _paragraph(pdf, RESEARCH_USE, 10, bold=True)
    for title, rows in _lines(report):
        pdf.ln(2)
        _paragraph(pdf, title, 12, bold=True)
        for row in rows:
            _paragraph(pdf, row, 10)
    return bytes(pdf.output())


def _paragraph(pdf: FPDF, text: str, size: float, bold: bool = False) -> None:
    pdf.set_font(FONT, "B" if bold else "", size)
    pdf.multi_cell(0, size / 2, in_letters(pdf, text, _LONGEST), align="L", new_x="LMARGIN", new_y="NEXT")


# -- what it says, once for page and PDF -----------------------------------------------------------------------------
def _lines(report: dict[str, Any]) -> list[tuple[str, list[str]]]:
    signed, patient, exam = report["signed"], report["patient"], report["exam"]
    computed, words = signed["computed"], signed["content"]["exam"]
    born, number = patient["birth_date"] or "unknown", exam["accession_number"] or "none"
    who = [
        f"{readable_name(patient['name'] or '')}, {patient['patient_id'] or 'no ID'}, born {born}, "
        f"{readable_sex(patient['sex'] or '')}",
        f"Exam {exam['date'] or 'without a date'} {exam['time'] or ''}, accession number {number}",
    ]
    return [
        (
            f"Lung-RADS {computed['label']}",
            [computed["reason"], f"Management: {computed['management'] or 'not given'}", *who],
        ),
        ("Nodules", [_nodule_line(row) for row in computed["findings"]] or ["None."]),
        ("Exam", _exam_lines(words, computed)),
        ("How it was read", _how_lines(report)),
        ("Addenda", [f"{_when(one['when'])}, {one['who']}: {one['text']}" for one in report["addenda"]] or ["None."]),
    ]


def _nodule_line(row: dict[str, Any]) -> str:
    model = row["model"] or {}
    size = "not measured" if row["mean_diameter_mm"] is None else (
        f"{row['long_axis_mm']} x {row['short_axis_mm']} mm, mean {row['mean_diameter_mm']} mm"
    )  # fmt: skip
    volume = "" if row["volume_mm3"] is None else f", {row['volume_mm3']} mm3"
    source = "marked by the reader" if row["source"] == "reader" else "marked by CAD, taken over by the reader"
    beside = (
        f"; CAD: {model.get('type')}, {model.get('mean_diameter_mm')} mm, {model.get('category')}"
        if row["source"] == "cad"
        else ""
    )
    note = f"; {row['note']}" if row["note"] else ""
    where = ", ".join(f"{value:g}" for value in row["position_mm"])
    graded = f"category {row['category']}; {row['growth']}; at ({where}) mm"
    return f"{row['type']}, {size}{volume}; {graded}; {source}{beside}{note}"


def _exam_lines(words: dict[str, Any], computed: dict[str, Any]) -> list[str]:
    modifier = {
        True: f"Modifier S: {words['s_text']}",
        False: "No other significant finding.",
        None: "Modifier S: not assessed.",
    }
    lines = [f"Image quality: {words['quality']}.", modifier[words["s_modifier"]]]
    lines += [words["text"]] if words["text"] else []
    return [*lines, *(f"Not assessed: {item}." for item in computed["not_assessed"])]


def _how_lines(report: dict[str, Any]) -> list[str]:
    signed, changed = report["signed"], report["cad_changed"]
    weights = ", ".join(f"{w['name']} {w['version']}" for w in signed["pins"]["weights"])
    lines = [
        f"{signed['kind']} read, mode {signed['mode']}. {signed['cad']}",
        f"Of CAD's marks {changed['accepted']} accepted, {changed['rejected']} rejected, {changed['unsure']} unsure;"
        f" {changed['own_marks_after_cad']} nodules added after CAD was shown.",
    ]
    if changed["category_before"] is not None:
        lines.append(f"Category before CAD {changed['category_before']}, after {changed['category_after']}.")
    return [
        *lines,
        f"Software {signed['pins']['software_version']}, weights {weights}.",
        f"Signed by {signed['signed_by']['name']}, {_when(signed['times']['signed'])}. SHA-256 {report['sha256']}.",
    ]


def _sections(report: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (title, "<ul>" + "".join(f"<li>{_e(row)}</li>" for row in rows) + "</ul>") for title, rows in _lines(report)
    ]


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _e(text: str) -> str:
    return escape(text, quote=True)

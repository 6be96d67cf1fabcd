"""Report → the whole page: its parts in the order in which a radiologist reads."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from lungscreen import RESEARCH_USE
from lungscreen.records import Report
from lungscreen.report.page.exam import (
    head_part,
    lungs_part,
    not_read_part,
    overview_part,
    provenance_part,
    verdict_part,
)
from lungscreen.report.page.finding import findings_part
from lungscreen.report.page.person import person_part
from lungscreen.report.page.pieces import notices_list
from lungscreen.report.page.table import lost_part, no_nodules_part, table_part
from lungscreen.report.pictures import PictureConfig
from lungscreen.results.text import escape, readable_name

__all__ = ["html_page", "report_page"]


def report_page(report: Report, config: PictureConfig) -> str:
    """The whole page."""
    body = (
        head_part(report),
        verdict_part(report),
        notices_list(report.notices),
        table_part(report),
        overview_part(report, config),
        findings_part(report, config),
        lost_part(report.lost),
        no_nodules_part(report),
        lungs_part(report),
        person_part(report.person),
        not_read_part((*report.study.not_read, *report.volume.refused)),
        provenance_part(report),
    )
    name = readable_name(report.study.patient.name) or report.study.patient.patient_id or report.key
    outlines = '<label><input type="checkbox" id="outlines" checked>Outlines</label>' if report.findings else ""
    return html_page(f"{name} – lungscreen", outlines, "\n".join(part for part in body if part))


def html_page(title: str, switches: str, body: str) -> str:
    """A page of this software: the style, the research-use banner, the switch to a light page."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>
{_style()}</style>
</head>
<body>
<div class="banner"><span><strong>{escape(RESEARCH_USE)}</strong></span>
<span class="switches">{switches}<label><input type="checkbox" id="light">Light page</label></span></div>
{body}
</body>
</html>
"""


@lru_cache(maxsize=1)
def _style() -> str:
    return files("lungscreen.report.page").joinpath("page.css").read_text(encoding="utf-8")

"""Finished study → the whole page: its parts in the order in which a radiologist reads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files

from lungscreen import RESEARCH_USE
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.page.exam import (
    facts_of_reading,
    head_part,
    lungs_part,
    not_read_part,
    opacity_part,
    overview_part,
    provenance_part,
    verdict_part,
)
from lungscreen.outputs.page.finding import findings_part
from lungscreen.outputs.page.person import person_part
from lungscreen.outputs.page.pieces import FACT_CODES, notices_list
from lungscreen.outputs.page.planes import PictureConfig
from lungscreen.outputs.page.table import lost_part, no_nodules_part, table_part
from lungscreen.results.finished import Finished
from lungscreen.results.text import escape, readable_name

__all__ = ["ReportPage", "html_page", "report_page"]


class ReportPage:
    """report.html."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """One page."""
        yield NamedFile("report.html", report_page(finished, PictureConfig()))


def report_page(finished: Finished, config: PictureConfig) -> str:
    """The whole page."""
    report = finished.document
    body = (
        head_part(report),
        verdict_part(report),
        opacity_part(finished, config),
        table_part(report),
        notices_list([notice for notice in report.notices if notice.code not in FACT_CODES]),
        facts_of_reading(report),
        overview_part(finished, config),
        findings_part(finished, config),
        lost_part(report.lost),
        no_nodules_part(finished),
        lungs_part(report.lungs),
        person_part(report.person),
        not_read_part(report.not_read),
        provenance_part(report),
    )
    name = readable_name(report.patient.name or "") or report.patient.patient_id or report.key
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
    return files("lungscreen.outputs.page").joinpath("page.css").read_text(encoding="utf-8")

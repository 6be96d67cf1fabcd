"""The parts of the page that list findings in tables."""

from __future__ import annotations

from collections.abc import Sequence

from lungscreen.outputs.page.pictures import thumbnail_svg
from lungscreen.outputs.page.pieces import (
    REASON,
    absent,
    finding_chip,
    guess,
    minus_signs,
    percent,
    sentence,
    side_text,
    type_text,
    where_text,
    whole_percent,
)
from lungscreen.records import NOT_ASSESSED
from lungscreen.results.document import MALIGNANCY_MEANING, ReportDocument, ReportedFinding, ReportedLoss, ReportedMark
from lungscreen.results.finished import Finished, MarkShape
from lungscreen.results.text import escape, shown

__all__ = ["lost_part", "no_nodules_part", "table_part"]


def table_part(report: ReportDocument) -> str:
    """All findings, a row each."""
    if not report.findings:
        return "<h2>Findings</h2><p>No finding reached the operating point.</p>"
    heads = (
        ("", "No."), ("", "Where"), ("n", "Slice"), ("n", "Axes, mm"), ("n", "Mean, mm"), ("n", "Volume, mm³"),
        ("", "Type"), ("n", "Detection score"), ("n", "Malignancy probability*"), ("", "Category"),
        *((("", f"Since {escape(report.priors[0].date or '')}"),) if report.priors else ()),
    )  # fmt: skip
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    rows = "".join(_row(finding, bool(report.priors)) for finding in report.findings)
    return (
        f'<h2>Findings</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">* {MALIGNANCY_MEANING}. Slices are counted from the top of the series. The detection score '
        "is the probability that a mark is a nodule, of heatmap and second look; of the heatmap alone it is none. By "
        "category, then by what most deserves a look; doubtful ones, probably no nodules, last.</p>"
    )


def _row(finding: ReportedFinding, compared: bool) -> str:
    measured = finding.measurement
    cells = (
        ("", f'<a href="#finding-{finding.number}">{finding.number}</a>'),
        ("", escape(where_text(finding.location))),
        ("n", str(finding.location.slice_from_top)),
        ("n", f"{shown(measured.long_axis_mm, 1)} × {shown(measured.short_axis_mm, 1)}" if measured else absent("–")),
        (
            "n",
            shown(measured.mean_diameter_mm, 1)
            if measured
            else absent(guess(finding.detector_diameter_mm, "≈ ") or "–"),
        ),
        ("n", shown(measured.volume_mm3, 0) if measured else absent("–")),
        ("", type_text(finding)),
        ("n", shown(finding.detection_score, 3)),
        ("n", percent(finding) or absent("–")),
        ("", finding_chip(finding)),
        *((("", _since(finding)),) if compared else ()),
    )
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells) + "</tr>"


def _since(finding: ReportedFinding) -> str:
    """State and change of the mean diameter, in two words."""
    change = finding.change
    if change is None or change.state == "not assessed":
        return absent(NOT_ASSESSED)
    if change.diameter_change_mm is None:
        return escape(change.state)
    return escape(minus_signs(f"{change.state}, {change.diameter_change_mm:+.1f} mm"))


def no_nodules_part(finished: Finished) -> str:
    """Marks that the second look takes for no nodule; empty where there are none."""
    marks = finished.document.no_nodules
    if not marks:
        return ""
    rows = "".join(_mark_row(mark, shape, finished) for mark, shape in zip(marks, finished.no_nodules, strict=True))
    heads = (
        ("", "No."), ("", "Axial picture"), ("", "Where"), ("n", "Slice"), ("n", "Mean, mm"),
        ("n", "Detection score"), ("n", "A nodule at all"),
    )  # fmt: skip
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    return (
        '<h2>Marks that the second look takes for no nodule</h2><p class="note">The detector points at them, the '
        "classifier takes them for a vessel, a scar or the like. They are neither rated nor graded and count nowhere; "
        "what was a finding of an earlier exam and what grew is never among them. Glance over them."
        "</p>"
        f'<div class="wide"><table class="marks"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _mark_row(mark: ReportedMark, shape: MarkShape, finished: Finished) -> str:
    image, size = mark.instance_number, mark.mean_diameter_mm
    picture = thumbnail_svg(finished.volume, shape, f"Mark {mark.number}, axial")
    cells = (
        ("", str(mark.number)),
        ("", picture),
        ("", escape(where_text(mark))),
        ("n", str(mark.slice_from_top) + ("" if image is None else f"<br><small>image {image}</small>")),
        ("n", shown(size, 1) if size is not None else absent(guess(shape.diameter_mm, "≈ ") or "–")),
        ("n", shown(mark.detection_score, 3)),
        ("n", absent("–") if mark.nodule_probability is None else whole_percent(mark.nodule_probability)),
    )
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells) + "</tr>"


def lost_part(lost: Sequence[ReportedLoss]) -> str:
    """Nodules of the last exam that are no findings of this one."""
    if not lost:
        return ""
    rows = "".join(
        f"<tr><td>{escape(nodule.exam.date or '')}</td><td>{escape(side_text(nodule.exam.side, nodule.exam.zone))}</td>"
        f'<td class="n">{shown(nodule.exam.mean_diameter_mm, 1)}</td><td>{escape(nodule.exam.type.value)}</td>'
        f"<td>{escape(nodule.state)}</td><td>{escape(sentence(nodule.text), REASON)}</td></tr>"
        for nodule in lost
    )
    heads = (("", "Exam"), ("", "Where"), ("n", "Mean, mm"), ("", "Type"), ("", "Now"), ("", "What is known"))
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    return (
        f'<h2>Of the earlier exam, no finding now</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )

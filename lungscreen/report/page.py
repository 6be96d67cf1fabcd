"""Report → `report.html`: one self-contained page in the order in which a radiologist reads.

No script, nothing loaded from anywhere, every foreign string escaped; a content security policy says the same to the
browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files

from lungscreen import RESEARCH_USE
from lungscreen.errors import Notice, Refusal
from lungscreen.geometry import Vector
from lungscreen.records import Acquisition, Finding, LostNodule, NoduleType, PriorExam, Report, Risk
from lungscreen.report.assemble import NOT_ASSESSED
from lungscreen.report.document import MALIGNANCY_MEANING
from lungscreen.report.masks import finding_position
from lungscreen.report.pictures import PLANES, PictureConfig, crop_svg, overview_svg, shown_voxel
from lungscreen.report.text import (
    ABSENT,
    escape,
    readable_age,
    readable_date,
    readable_name,
    readable_sex,
    readable_time,
    shown,
)
from lungscreen.report.validated import VALIDATED_ON

__all__ = ["category_chip", "html_page", "report_page"]

_REASON = 2000
"""Characters of a reason or notice that are shown."""


def report_page(report: Report, config: PictureConfig) -> str:
    """The whole page."""
    body = (
        _head(report),
        _verdict(report),
        _notices(report.notices),
        _overview(report, config),
        _table(report),
        _findings(report, config),
        _lost(report.lost),
        _lungs(report),
        _not_read((*report.study.not_read, *report.volume.refused)),
        _provenance(report),
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


def category_chip(category: str) -> str:
    """An exam's or finding's category as text on a coloured ground."""
    known = category in ("4X", "4B", "4A", "3", "2", "1", "0")
    return f'<span class="chip{f" c{category}" if known else ""}">{escape(category or NOT_ASSESSED)}</span>'


@lru_cache(maxsize=1)
def _style() -> str:
    return files("lungscreen.report").joinpath("page.css").read_text(encoding="utf-8")


# -- the page, from top to bottom ------------------------------------------------------------------------------------
def _head(report: Report) -> str:
    patient, exam = report.study.patient, report.study.exam
    when = " ".join(part for part in (readable_date(exam.date), readable_time(exam.time)) if part)
    facts = (
        ("Patient ID", patient.patient_id),
        ("Birth date", readable_date(patient.birth_date)),
        ("Sex", readable_sex(patient.sex)),
        ("Age at exam", readable_age(exam.age)),
        ("Exam", when),
        ("Prior exam", _prior_exam(report.priors)),
        ("Accession number", exam.accession_number),
        ("Description", exam.description),
    )
    name = readable_name(patient.name)
    title = escape(name) if name else f'<span class="absent">Name {ABSENT}</span>'
    trained = f'<p class="note">{escape(VALIDATED_ON, _REASON)}</p>'
    return f"<header><h1>{title}</h1>{_facts(facts)}{_facts(_technique(report))}{trained}</header>"


def _prior_exam(priors: Sequence[PriorExam]) -> str:
    """Dates of the earlier exams that were compared, and how."""
    how = {"images": "", "report": " (sizes from its report only)"}
    return ", ".join(f"{readable_date(prior.date)}{how[prior.how]}" for prior in priors) or "none compared"


def _technique(report: Report) -> tuple[tuple[str, str], ...]:
    acquisition, shape = report.volume.series.acquisition, report.volume.geometry.shape
    z, y, x = report.volume.geometry.spacing_mm
    scanner = " ".join(part for part in (acquisition.manufacturer, acquisition.model) if part)
    return (
        ("Tube voltage", _unit(acquisition.kvp or None, "kVp")),
        ("Dose", _dose(acquisition)),
        ("Kernel", ", ".join(acquisition.kernel)),
        ("Slice thickness", _unit(acquisition.slice_thickness_mm or None, "mm")),
        ("Contrast", acquisition.contrast),
        ("Slices read", f"{shape[0]}, every {z:.4g} mm"),
        ("Pixels", f"{x:.3g} × {y:.3g} mm"),
        ("Scanner", scanner),
    )


def _dose(acquisition: Acquisition) -> str:
    values = (
        _unit(acquisition.ctdi_vol_mgy or None, "mGy CTDIvol"),
        _unit(acquisition.exposure_mas or None, "mAs"),
        _unit(acquisition.tube_current_ma or None, "mA"),
    )
    return ", ".join(value for value in values if value)


def _verdict(report: Report) -> str:
    assessed = report.category != NOT_ASSESSED
    title = f"Exam category {escape(report.category)}" if assessed else "Exam category not assessed"
    items = escape(", ".join(report.not_assessed), _REASON)
    open_items = f'<p class="soft">Not looked at: {items}.</p>' if items else ""
    return (
        f'<section class="verdict">{category_chip(report.category)}<div><h3>{title}</h3>'
        f'<p>{escape(_sentence(report.category_reason), _REASON)}</p><p class="soft">{_counts(report)}</p>{open_items}</div></section>'
    )


def _counts(report: Report) -> str:
    number, tried = len(report.findings), len(report.candidates)
    found = "No finding" if number == 0 else "1 finding" if number == 1 else f"{number} findings"
    cut = f"; {report.cut_off} more above the operating point not listed" if report.cut_off else ""
    return (
        f"{found} at the operating point “{escape(report.provenance.operating_point)}”, "
        f"from {tried} candidate{'' if tried == 1 else 's'}{cut}."
    )


def _notices(notices: Sequence[Notice]) -> str:
    if not notices:
        return ""
    items = "".join(
        f'<li>{escape(_sentence(notice.text), _REASON)}<span class="code">{escape(notice.code)}</span></li>'
        for notice in notices
    )
    return f'<ul class="notices" aria-label="What to know about this exam">{items}</ul>'


def _overview(report: Report, config: PictureConfig) -> str:
    figures = "".join(
        f"<figure>{overview_svg(report.volume, report.lungs, report.findings, PLANES[name], config)}"
        f"<figcaption>{name.capitalize()}</figcaption></figure>"
        for name in ("coronal", "sagittal")
    )
    circles = "Circles have the findings' numbers. " if report.findings else ""
    return (
        f'<h2>Overview</h2><div class="overview">{figures}</div>'
        f'<p class="note">A look through the whole scan. {circles}Shows where, not what.</p>'
    )


def _table(report: Report) -> str:
    if not report.findings:
        return "<h2>Findings</h2><p>No finding reached the operating point.</p>"
    heads = (
        ("", "No."), ("", "Where"), ("n", "Slice"), ("n", "Axes, mm"), ("n", "Mean, mm"), ("n", "Volume, mm³"),
        ("", "Type"), ("n", "Detection score"), ("n", "Malignancy probability*"), ("", "Category"),
        *((("", f"Since {readable_date(report.priors[0].date)}"),) if report.priors else ()),
    )  # fmt: skip
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    rows = "".join(_row(finding, bool(report.priors)) for finding in report.findings)
    return (
        f'<h2>Findings</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f'<p class="note">* {MALIGNANCY_MEANING}. Slices are counted from the top of the series. The detection score '
        "ranks; it is no probability. Most suspicious first, masses above all.</p>"
    )


def _row(finding: Finding, compared: bool) -> str:
    measured = finding.measurement
    cells = (
        ("", f'<a href="#finding-{finding.number}">{finding.number}</a>'),
        ("", escape(_where(finding))),
        ("n", str(finding.location.slice_from_top)),
        ("n", f"{shown(measured.long_axis_mm, 1)} × {shown(measured.short_axis_mm, 1)}" if measured else _none("–")),
        ("n", shown(measured.mean_diameter_mm, 1) if measured else _none(_guess(finding, "≈ ") or "–")),
        ("n", shown(measured.volume_mm3, 0) if measured else _none("–")),
        ("", _type(finding)),
        ("n", shown(finding.candidate.score, 3)),
        ("n", _percent(finding) or _none("–")),
        ("", category_chip(finding.category) if finding.category else _none(NOT_ASSESSED)),
        *((("", _since(finding)),) if compared else ()),
    )
    return "<tr>" + "".join(f'<td class="{kind}">{text}</td>' for kind, text in cells) + "</tr>"


def _since(finding: Finding) -> str:
    """State and change of the mean diameter, in two words."""
    change = finding.change
    if change is None or change.state == "not assessed":
        return _none(NOT_ASSESSED)
    if change.diameter_change_mm is None:
        return escape(change.state)
    return escape(_minus_signs(f"{change.state}, {change.diameter_change_mm:+.1f} mm"))


def _findings(report: Report, config: PictureConfig) -> str:
    if not report.findings:
        return ""
    cards = "\n".join(_finding(report, finding, config) for finding in report.findings)
    return (
        f'<h2>Finding by finding</h2><p class="note">Lung window: width {config.window_width_hu:.0f}, level '
        f"{_minus(f'{config.window_level_hu:.0f}')} HU. The line is the outline that was measured; a dashed circle marks "
        f"a place that was not. Grey without a picture lies outside the scan.</p>{cards}"
    )


def _finding(report: Report, finding: Finding, config: PictureConfig) -> str:
    voxel = shown_voxel(finding, report.volume)
    crops = "".join(
        f"<figure>{crop_svg(report.volume, finding, plane, config)}"
        f"<figcaption>{_crop_caption(report, finding, name, voxel)}</figcaption></figure>"
        for name, plane in PLANES.items()
    )
    why = (
        f'<p class="why soft">{escape(_sentence(finding.category_reason), _REASON)}</p>'
        if finding.category_reason
        else ""
    )
    chip = category_chip(finding.category) if finding.category else ""
    return (
        f'<section class="finding" id="finding-{finding.number}"><div class="title">'
        f"<h3>{finding.number}. {escape(_sentence(_where(finding)))}</h3>{chip}</div>{why}"
        f'<div class="crops">{crops}</div>{_finding_facts(finding, finding_position(finding, report.volume.geometry))}{_history(finding)}{_notices(finding.notices)}</section>'
    )


def _crop_caption(report: Report, finding: Finding, plane: str, voxel: tuple[int, int, int]) -> str:
    if plane != "axial":
        return plane.capitalize()
    total = report.volume.geometry.shape[0]
    image = "" if finding.location.instance_number is None else f", image {finding.location.instance_number}"
    return f"Axial, slice {total - voxel[0]} of {total} from the top{image}"


def _finding_facts(finding: Finding, place: Vector) -> str:
    measured, malignancy = finding.measurement, finding.malignancy
    size: tuple[tuple[str, str], ...] = (
        ("Size", f"not measured{_guess(finding, '; the detector takes it for about ', ' mm')}"),
    )
    if measured:
        spread = f" ± {shown(measured.volume_sd_mm3, 0)}" if measured.volume_sd_mm3 is not None else ""
        size = (
            ("Long × short axis", f"{shown(measured.long_axis_mm, 1)} × {shown(measured.short_axis_mm, 1)} mm"),
            ("Mean diameter", f"{shown(measured.mean_diameter_mm, 1)} mm"),
            ("Longest axial", f"{shown(measured.max_transverse_mm, 1)} mm"),
            ("Volume", f"{shown(measured.volume_mm3, 0)}{spread} mm³"),
            ("Solid part", _solid_part(finding)),
            (
                "Attenuation",
                _minus(f"{shown(measured.mean_hu, 0)} HU ({shown(measured.min_hu, 0)} to {shown(measured.max_hu, 0)})"),
            ),
            ("Mass", f"{shown(measured.mass_mg, 0)} mg"),
        )
    likely = f"{_percent(finding)} – {MALIGNANCY_MEANING}" if malignancy else "not classified"
    x, y, z = place
    facts = (
        *((label, text) for label, text in size if text),
        ("Type", finding.nodule_type.value),
        ("Detection score", shown(finding.candidate.score, 3)),
        ("Place (LPS, mm)", _minus(f"{x:.1f}, {y:.1f}, {z:.1f}")),
    )
    growth = ("Growth", [escape(_minus_signs(finding.growth or "not assessed"), _REASON)])
    wide = (growth, ("Malignancy probability", [escape(likely)]), *_risks(finding.risks), *_advice(finding))
    return _facts(facts, "".join(_wide_fact(label, lines) for label, lines in wide))


def _history(finding: Finding) -> str:
    """The nodule exam by exam, oldest first, this one last."""
    size, change = finding.measurement, finding.change
    if change is None or not change.exams or size is None:
        return ""
    rows = [
        (
            readable_date(past.date), str(past.nodule_type), past.mean_diameter_mm, past.long_axis_mm,
            past.short_axis_mm, past.volume_mm3, past.volume_sd_mm3, past.category, past.how,
        )
        for past in change.exams
    ]  # fmt: skip
    rows.append(
        (
            "this exam", finding.nodule_type.value, size.mean_diameter_mm, size.long_axis_mm,
            size.short_axis_mm, size.volume_mm3, size.volume_sd_mm3, finding.category, "finding",
        )
    )  # fmt: skip
    heads = (("", "Exam"), ("", "Type"), ("n", "Mean, mm"), ("n", "Axes, mm"), ("n", "Volume, mm³"), ("", "Category"), ("", "How"))  # fmt: skip
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    body = "".join(_history_row(*row) for row in rows)
    return (
        '<div class="wide"><table class="history"><caption>History</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _history_row(
    when: str, kind: str, mean: float, long_mm: float, short_mm: float, volume: float | None, spread: float | None,
    category: str, how: str,
) -> str:  # fmt: skip
    error = f" ± {shown(spread, 0)}" if spread is not None else ""
    cells = (
        ("", escape(when)),
        ("", escape(kind)),
        ("n", shown(mean, 1)),
        ("n", f"{shown(long_mm, 1)} × {shown(short_mm, 1)}"),
        ("n", f"{shown(volume, 0)}{error}" if volume is not None else _none("–")),
        ("", escape(category) if category else _none("not known")),
        ("", escape(how)),
    )
    return "<tr>" + "".join(f'<td class="{css}">{text}</td>' for css, text in cells) + "</tr>"


def _lost(lost: Sequence[LostNodule]) -> str:
    """Nodules of the last exam that are no findings of this one."""
    if not lost:
        return ""
    rows = "".join(
        f"<tr><td>{escape(readable_date(nodule.past.date))}</td><td>{escape(_lost_where(nodule))}</td>"
        f'<td class="n">{shown(nodule.past.mean_diameter_mm, 1)}</td><td>{escape(nodule.past.nodule_type.value)}</td>'
        f"<td>{escape(nodule.state)}</td><td>{escape(_sentence(nodule.text), _REASON)}</td></tr>"
        for nodule in lost
    )
    heads = (("", "Exam"), ("", "Where"), ("n", "Mean, mm"), ("", "Type"), ("", "Now"), ("", "What is known"))
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    return (
        f'<h2>Of the earlier exam, no finding now</h2><div class="wide"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _lost_where(nodule: LostNodule) -> str:
    side, zone = nodule.past.side, nodule.past.zone
    where = f"{side} lung" if side != "unknown" else "side unknown"
    return where if zone == "unknown" else f"{where}, {zone} zone"


def _wide_fact(label: str, lines: Iterable[str]) -> str:
    """One fact over the whole width; its lines are HTML already."""
    return (
        f'<div class="span"><dt>{escape(label, _REASON)}</dt>'
        + "".join(f"<dd>{line}</dd>" for line in lines)
        + "</div>"
    )


def _advice(finding: Finding) -> tuple[tuple[str, list[str]], ...]:
    if not finding.management:
        return ()
    clause = f"<small>{escape(finding.category_clause, _REASON)}</small>" if finding.category_clause else ""
    return (("What the table advises", [f"{escape(_sentence(finding.management), _REASON)} {clause}"]),)


def _risks(risks: Sequence[Risk]) -> list[tuple[str, list[str]]]:
    """Published models by what they mean: a line for each that gave a number, one for those that lack something."""
    facts = []
    for meaning in dict.fromkeys(risk.meaning for risk in risks):
        same = [risk for risk in risks if risk.meaning == meaning]
        lines = [_risk_line(risk) for risk in same if risk.probability is not None]
        lacking = "; ".join(
            f"{risk.model} {risk.text.removeprefix('not assessed: ')}" for risk in same if risk.probability is None
        )
        if lacking:
            lines.append(f'<span class="soft">Not assessed: {escape(lacking, _REASON)}</span>')
        facts.append((_sentence(meaning), lines))
    return facts


def _risk_line(risk: Risk) -> str:
    notes = [f"assumed: {', '.join(risk.assumed)}"] if risk.assumed else []
    notes += [*risk.limits, *(source for source in risk.sources if "unverified" in source)]
    return f"{escape(risk.model)}: {escape(risk.text)} <small>{escape('; '.join(notes), _REASON)}</small>"


def _guess(finding: Finding, before: str, after: str = "") -> str:
    """The detector's diameter in words, empty where it has none (a reader's own mark)."""
    size = finding.candidate.diameter_mm
    return f"{before}{shown(size, 0)}{after}" if size > 0 else ""


def _solid_part(finding: Finding) -> str:
    measured = finding.measurement
    if measured is None or finding.nodule_type is not NoduleType.PART_SOLID:
        return ""
    return f"{shown(measured.solid_mean_diameter_mm, 1)} mm, {shown(measured.solid_volume_mm3, 0)} mm³"


def _lungs(report: Report) -> str:
    lungs = report.lungs
    flags = [
        text
        for said, text in (
            (lungs.apex_cut, "The scan cuts the apex: what lies above was not read."),
            (lungs.base_cut, "The scan cuts the base: what lies below was not read."),
            (lungs.incomplete, "A large opacity may hide part of a lung."),
        )
        if said
    ]
    facts = (
        ("Right lung", f"{lungs.right_ml:.0f} ml"),
        ("Left lung", f"{lungs.left_ml:.0f} ml"),
        ("Both", f"{lungs.right_ml + lungs.left_ml:.0f} ml"),
    )
    said = "".join(f'<p class="note">{escape(flag)}</p>' for flag in flags)
    return f"<h2>Lungs</h2>{_facts(facts)}{said}"


def _not_read(refusals: Iterable[Refusal]) -> str:
    rows = "".join(
        f'<tr><td>{escape(r.where, _REASON)}</td><td>{escape(r.reason, _REASON)}</td><td class="code">{escape(r.code)}</td></tr>'
        for r in refusals
    )
    if not rows:
        return ""
    return (
        '<h2>Not read</h2><div class="wide"><table><thead><tr><th scope="col">Series or file</th>'
        f'<th scope="col">Why</th><th scope="col">Code</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _provenance(report: Report) -> str:
    provenance = report.provenance
    seconds = ", ".join(f"{name} {spent:.1f}" for name, spent in provenance.seconds.items())
    facts = [
        ("Software", f"lungscreen {provenance.software_version}"),
        ("Pipeline", f"{provenance.pipeline_name}, {provenance.pipeline_hash}"),
        *((f"Weights: {w.name}", f"{w.version}, sha256 {w.sha256}") for w in provenance.weights),
        ("Operating point", provenance.operating_point),
        *provenance.options.items(),
        ("Study UID", report.study.exam.study_uid),
        ("Series UID", provenance.series_uid),
        ("Input sha256", f"{provenance.sop_instance_uids_sha256} (over the sorted instance UIDs)"),
        ("Made", provenance.created),
        ("Seconds", seconds),
    ]
    if report.volume.series.kind == "image":
        facts = [(label, text.replace("sorted instance UIDs", "file")) for label, text in facts]
    items = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text, _REASON)}</dd>" for label, text in facts if text)
    return f'<h2>How this came about</h2><dl class="provenance">{items}</dl>'


# -- pieces ----------------------------------------------------------------------------------------------------------
def _facts(facts: Iterable[tuple[str, str]], more: str = "") -> str:
    items = "".join(
        f"<div><dt>{escape(label)}</dt><dd>{escape(text) or _none(ABSENT)}</dd></div>" for label, text in facts
    )
    return f'<dl class="facts">{items}{more}</dl>'


def _none(text: str) -> str:
    return f'<span class="absent">{escape(text)}</span>'


def _unit(value: float | None, unit: str) -> str:
    return "" if value is None else f"{value:.4g} {unit}"


def _sentence(text: str) -> str:
    """Reasons come as they stand in tables; on the page they begin like sentences."""
    return text[:1].upper() + text[1:]


def _minus(text: str) -> str:
    """Numbers for people: a minus as long as a plus."""
    return text.replace("-", "\u2212")


def _minus_signs(text: str) -> str:
    """A minus before a number, as long as a plus; hyphens of words and dates stay."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\u2212", text)


def _where(finding: Finding) -> str:
    """Side, lobe (estimated, and said so) or zone."""
    location = finding.location
    if location.lobe:
        return f"{location.lobe} (estimated)"
    side = f"{location.side} lung" if location.side != "unknown" else "side unknown"
    return side if location.zone == "unknown" else f"{side}, {location.zone} zone"


def _type(finding: Finding) -> str:
    return escape(finding.nodule_type.value) + (" mass" if finding.is_mass else "")


def _percent(finding: Finding) -> str:
    """Probability in whole percent, never 0 or 100: nobody knows that."""
    if finding.malignancy is None:
        return ""
    percent = 100 * finding.malignancy.probability
    return "< 1 %" if percent < 1 else "> 99 %" if percent > 99 else f"{shown(percent, 0)} %"

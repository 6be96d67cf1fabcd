"""The parts of the page that are about the exam: who, how, the category and why, lungs, what made it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from lungscreen.outputs.page.overview import look_through, overview_svg
from lungscreen.outputs.page.pictures import place_svg
from lungscreen.outputs.page.pieces import (
    FACT_CODES,
    REASON,
    category_chip,
    facts_list,
    folded,
    sentence,
    where_text,
    with_unit,
)
from lungscreen.outputs.page.planes import PLANES, PictureConfig
from lungscreen.outputs.words import count_text, joined, lung_gaps
from lungscreen.records import NOT_ASSESSED
from lungscreen.results.document import (
    ReportDocument,
    ReportedFinding,
    ReportedLungs,
    ReportedPrior,
    ReportedRefusal,
)
from lungscreen.results.finished import Finished, MarkShape
from lungscreen.results.ranking import CATEGORY_ORDER, category_rank
from lungscreen.results.text import ABSENT, escape, readable_age, readable_name, readable_sex, shown

__all__ = [
    "facts_of_reading",
    "head_part",
    "lungs_part",
    "not_read_part",
    "opacity_part",
    "overview_part",
    "provenance_part",
    "verdict_part",
]

_INCOMPLETE = "0"


def head_part(report: ReportDocument) -> str:
    """Who was examined, when, and how the scan was made."""
    name = readable_name(report.patient.name or "")
    title = escape(name) if name else f'<span class="absent">Name {ABSENT}</span>'
    line = " · ".join(escape(part) for part in _short(report) if part)
    trained = f'<p class="note">{escape(report.validated_on, REASON)}</p>'
    more = folded("Patient and technique", facts_list(_patient(report)) + facts_list(_technique(report)) + trained)
    return f'<header><h1>{title}</h1><p class="soft">{line}</p>{more}</header>'


def _short(report: ReportDocument) -> tuple[str, ...]:
    """The parts of the line below the name."""
    patient, exam = report.patient, report.exam
    when = joined(exam.date, exam.time)
    return (
        patient.patient_id or "",
        f"born {patient.birth_date}" if patient.birth_date else "",
        readable_sex(patient.sex or ""),
        readable_age(exam.age or ""),
        f"exam {when}" if when else "",
        f"compared with {_prior_exam(report.priors)}" if report.priors else "no earlier exam compared",
    )


def _patient(report: ReportDocument) -> tuple[tuple[str, str | None], ...]:
    patient, exam = report.patient, report.exam
    return (
        ("Patient ID", patient.patient_id),
        ("Birth date", patient.birth_date),
        *((("Issuer of the patient ID", patient.issuer),) if patient.issuer else ()),
        ("Sex", readable_sex(patient.sex or "")),
        ("Age at exam", readable_age(exam.age or "")),
        ("Exam", joined(exam.date, exam.time)),
        ("Prior exam", _prior_exam(report.priors)),
        ("Accession number", exam.accession_number),
        ("Description", exam.description),
    )


def _prior_exam(priors: Sequence[ReportedPrior]) -> str:
    """Dates of the earlier exams that were compared, and how."""
    how = {"images": "", "report": " (sizes from its report only)"}
    return ", ".join(f"{prior.date or ''}{how[prior.how]}" for prior in priors) or "none compared"


def _technique(report: ReportDocument) -> tuple[tuple[str, str | None], ...]:
    acquisition, series = report.acquisition, report.series
    scanner = joined(acquisition.manufacturer, acquisition.model)
    return (
        ("Tube voltage", with_unit(acquisition.kvp or None, "kVp")),
        ("Dose", _dose(report)),
        ("Kernel", ", ".join(acquisition.kernel)),
        ("Slice thickness", with_unit(acquisition.slice_thickness_mm or None, "mm")),
        ("Contrast", acquisition.contrast),
        ("Slices read", f"{series.slices}, every {series.slice_spacing_mm:.4g} mm"),
        ("Pixels", f"{series.column_spacing_mm:.3g} × {series.row_spacing_mm:.3g} mm"),
        ("Scanner", scanner),
    )


def _dose(report: ReportDocument) -> str:
    """CTDIvol, and beside it the dose-length product over the slices that were read: images do not carry their own."""
    acquisition, series = report.acquisition, report.series
    length_cm, ctdi_mgy = series.slices * series.slice_spacing_mm / 10, acquisition.ctdi_vol_mgy or 0.0
    dlp = f"DLP about {shown(ctdi_mgy * length_cm, 0)} mGy·cm (CTDIvol × {length_cm:.0f} cm)"
    values = (
        with_unit(ctdi_mgy or None, "mGy CTDIvol"),
        dlp if ctdi_mgy else "",
        with_unit(acquisition.exposure_mas or None, "mAs"),
        with_unit(acquisition.tube_current_ma or None, "mA"),
    )
    return ", ".join(value for value in values if value)


def verdict_part(report: ReportDocument) -> str:
    """What counts, in one sentence: the category, the finding that decides, what is advised. Beneath it, why."""
    decides = _deciding(report)
    said = "; ".join(part for part in _reasons(report, decides) if part)
    title = f"Exam category {report.category}{': ' if said else ''}{said}"
    advised = report.management or (decides.management if decides and decides.category == report.category else None)
    advice = f'<p class="advice">Advised: {escape(advised, REASON)}.</p>' if advised else ""
    items = escape(", ".join(report.not_assessed), REASON)
    open_items = f'<p class="soft">Not assessed: {items}.</p>' if items else ""
    return (
        f'<section class="verdict">{category_chip(report.category)}<div><h3>{escape(title, REASON)}</h3>{advice}'
        f'<p class="soft">{escape(sentence(report.category_reason or ""), REASON)}</p>'
        f'<p class="soft">{_counts(report)}</p>{open_items}</div></section>'
    )


def _reasons(report: ReportDocument, decides: ReportedFinding | None) -> Iterator[str]:
    """The red box, the finding that decides, the doubtful ones; empty where there is none."""
    if report.category == _INCOMPLETE:
        yield _opacity_in_words(report)
    if decides is not None:
        own = f" (by itself category {decides.category})" if decides.category != report.category else ""
        yield f"{_in_words(decides, report.series.slices)}{own}"
    yield report.doubtful or ""


def _deciding(report: ReportDocument) -> ReportedFinding | None:
    """The finding whose category is the exam's; where the exam is 0, the one of the highest category."""
    sure = [finding for finding in report.findings if not finding.doubtful]
    graded = [finding for finding in sure if category_rank(finding.category or "") < len(CATEGORY_ORDER)]
    if report.category == _INCOMPLETE and graded:
        return min(graded, key=lambda finding: category_rank(finding.category or ""))
    return next((finding for finding in graded if finding.category == report.category), None)


def _opacity_in_words(report: ReportDocument) -> str:
    """The red box in words; empty where there is none."""
    large = report.opacities
    if large:
        return f"a large opacity in the red box below: {_in_words(large[0], report.series.slices)}"
    return "a large opacity in the red box below" if report.lungs.incomplete else ""


def _in_words(finding: ReportedFinding, slices: int) -> str:
    """A finding's number, place, slice, type and size."""
    size = finding.measurement
    how_large = f"{shown(size.mean_diameter_mm, 1)} mm" if size else "not measured"
    kind = f"{finding.type.value}{' mass' if finding.is_mass else ''}"
    where = f"{where_text(finding.location)}, slice {finding.location.slice_from_top} of {slices}"
    return f"finding {finding.number}, {where}, {kind}, {how_large}"


def opacity_part(finished: Finished, config: PictureConfig) -> str:
    """A red box for each large opacity, with its picture where its place is known: dense tissue that may hide a part of
    the lungs, and doubtful findings as large as masses.
    """
    lungs = finished.document.lungs
    boxes = [
        _opacity_box(
            f"{shown(finding.measurement.mean_diameter_mm if finding.measurement else None, 0)} mm, finding"
            f" {finding.number}",
            "", _opacity_figures(finished, shape, config),
        )
        for finding, shape in zip(finished.document.findings, finished.findings, strict=True)
        if finding in finished.document.opacities
    ]  # fmt: skip
    if lungs.incomplete:
        large = "" if lungs.opacity_ml is None else f"{shown(lungs.opacity_ml, 0)} ml"
        pictures = ""
        if lungs.opacity_mm is not None:
            geometry = finished.volume.geometry
            slices = geometry.shape[0]
            index = round(float(geometry.to_index(lungs.opacity_mm)[0]))
            radius_mm = 10.0 * (6 * (lungs.opacity_ml or 0.0) / math.pi) ** (1 / 3)
            from_top = slices - min(max(index, 0), slices - 1)
            place = MarkShape(0, lungs.opacity_mm, lungs.opacity_mm, radius_mm, from_top)
            pictures = _opacity_figures(finished, place, config)
        boxes.append(_opacity_box(large, ", and nothing behind it was searched", pictures))
    return "".join(boxes)


def _opacity_figures(finished: Finished, place: MarkShape, config: PictureConfig) -> str:
    """Its slice, in both windows."""
    slices = finished.volume.geometry.shape[0]
    figures = "".join(
        f"<figure>{place_svg(finished.volume, place, window, config, 'Large opacity')}<figcaption>{window.name}, "
        f"axial, slice {place.slice_from_top} of {slices}</figcaption></figure>"
        for window in (config.lung, config.soft)
    )
    return f'<div class="crops">{figures}</div>'


def _opacity_box(large: str, behind: str, pictures: str) -> str:
    """A red box.

    large: how large it is.
    behind: what else follows from it.
    """
    of = f" of {large}" if large else ""
    return (
        f'<section class="opacity"><h3>Large opacity{of}: read it yourself</h3><p>Dense tissue at or in a lung that '
        f"may be a mass, a vessel, fluid or collapsed lung. It was not told which{behind}.</p>{pictures}</section>"
    )


def facts_of_reading(report: ReportDocument) -> str:
    """What is true of how the exam was read, and no warning."""
    items = "".join(f"<li>{escape(sentence(n.text), REASON)}</li>" for n in report.notices if n.code in FACT_CODES)
    return f'<ul class="plain">{items}</ul>' if items else ""


def _counts(report: ReportDocument) -> str:
    tried = report.candidates
    found = count_text(report)
    cut = f"; {report.cut_off} more above the operating point not listed" if report.cut_off else ""
    return (
        f"{found} at the operating point “{escape(report.provenance.operating_point)}”, "
        f"from {tried} candidate{'' if tried == 1 else 's'}{cut}."
    )


def overview_part(finished: Finished, config: PictureConfig) -> str:
    """Projections of the whole scan with the findings' numbers."""
    chest = look_through(finished.volume, finished.lungs)
    figures = "".join(
        f"<figure>{overview_svg(chest, finished.findings, PLANES[name], config)}"
        f"<figcaption>{name.capitalize()}</figcaption></figure>"
        for name in ("coronal", "sagittal")
    )
    circles = "Circles have the findings' numbers. " if finished.findings else ""
    return (
        f'<h2>Overview</h2><div class="overview">{figures}</div>'
        f'<p class="note">A look through the whole scan. {circles}Shows where, not what.</p>'
    )


def lungs_part(lungs: ReportedLungs) -> str:
    """Volumes of the lungs, and what is missing of them."""
    right, left = lungs.right_ml or 0.0, lungs.left_ml or 0.0
    below = lungs.below_950_percent
    facts = (
        ("Right lung", f"{right:.0f} ml"),
        ("Left lung", f"{left:.0f} ml"),
        ("Both", f"{right + left:.0f} ml"),
        ("Below −950 HU (emphysema)", NOT_ASSESSED if below is None else f"{shown(below, 1)} % of the lungs"),
        ("Coronary calcium", NOT_ASSESSED),
        ("Findings beside the nodules", NOT_ASSESSED),
    )
    said = "".join(f'<p class="note">{escape(flag)}</p>' for flag in lung_gaps(lungs))
    return f"<h2>Lungs</h2>{facts_list(facts)}{said}"


def not_read_part(refusals: Iterable[ReportedRefusal]) -> str:
    """Series and files of this study that were not read; empty where there are none."""
    rows = "".join(
        f"<tr><td>{escape(r.where, REASON)}</td><td>{escape(r.reason, REASON)}</td>"
        f'<td class="code">{escape(r.code)}</td></tr>'
        for r in refusals
    )
    if not rows:
        return ""
    return (
        '<h2>Not read</h2><div class="wide"><table><thead><tr><th scope="col">Series or file</th>'
        f'<th scope="col">Why</th><th scope="col">Code</th></tr></thead><tbody>{rows}</tbody></table></div>'
    )


def provenance_part(report: ReportDocument) -> str:
    """Software, weights, input and seconds."""
    provenance = report.provenance
    seconds = ", ".join(f"{name} {spent:.1f}" for name, spent in provenance.seconds.items())
    facts = [
        ("Software", f"{provenance.software} {provenance.software_version}"),
        ("Pipeline", f"{provenance.pipeline_name}, {provenance.pipeline_hash}"),
        *((f"Weights: {w.name}", f"{w.version}, sha256 {w.sha256}") for w in provenance.weights),
        ("Operating point", provenance.operating_point),
        *provenance.options.items(),
        ("Study UID", report.exam.study_uid),
        ("Series UID", provenance.series_uid),
        ("Input sha256", f"{provenance.sop_instance_uids_sha256} (over the sorted instance UIDs)"),
        ("Made", provenance.created),
        ("Seconds", seconds),
    ]
    if report.series.kind == "image":
        facts = [(label, text.replace("sorted instance UIDs", "file")) for label, text in facts]
    items = "".join(f"<dt>{escape(label)}</dt><dd>{escape(text, REASON)}</dd>" for label, text in facts if text)
    return folded("How this came about", f'<dl class="provenance">{items}</dl>')

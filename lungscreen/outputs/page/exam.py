"""The parts of the page that are about the exam: who, how, the category and why, lungs, what made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lungscreen.outputs.page.pictures import PLANES, PictureConfig, look_through, overview_svg
from lungscreen.outputs.page.pieces import REASON, category_chip, facts_list, sentence, with_unit
from lungscreen.records import NOT_ASSESSED
from lungscreen.results.document import (
    ReportDocument,
    ReportedAcquisition,
    ReportedLungs,
    ReportedPrior,
    ReportedRefusal,
)
from lungscreen.results.finished import Finished
from lungscreen.results.text import ABSENT, escape, readable_age, readable_name, readable_sex

__all__ = ["head_part", "lungs_part", "not_read_part", "overview_part", "provenance_part", "verdict_part"]


def head_part(report: ReportDocument) -> str:
    """Who was examined, when, and how the scan was made."""
    patient, exam = report.patient, report.exam
    when = " ".join(part for part in (exam.date, exam.time) if part)
    facts = (
        ("Patient ID", patient.patient_id),
        ("Birth date", patient.birth_date),
        *((("Issuer of the patient ID", patient.issuer),) if patient.issuer else ()),
        ("Sex", readable_sex(patient.sex or "")),
        ("Age at exam", readable_age(exam.age or "")),
        ("Exam", when),
        ("Prior exam", _prior_exam(report.priors)),
        ("Accession number", exam.accession_number),
        ("Description", exam.description),
    )
    name = readable_name(patient.name or "")
    title = escape(name) if name else f'<span class="absent">Name {ABSENT}</span>'
    trained = f'<p class="note">{escape(report.validated_on, REASON)}</p>'
    return f"<header><h1>{title}</h1>{facts_list(facts)}{facts_list(_technique(report))}{trained}</header>"


def _prior_exam(priors: Sequence[ReportedPrior]) -> str:
    """Dates of the earlier exams that were compared, and how."""
    how = {"images": "", "report": " (sizes from its report only)"}
    return ", ".join(f"{prior.date or ''}{how[prior.how]}" for prior in priors) or "none compared"


def _technique(report: ReportDocument) -> tuple[tuple[str, str | None], ...]:
    acquisition, series = report.acquisition, report.series
    scanner = " ".join(part for part in (acquisition.manufacturer, acquisition.model) if part)
    return (
        ("Tube voltage", with_unit(acquisition.kvp or None, "kVp")),
        ("Dose", _dose(acquisition)),
        ("Kernel", ", ".join(acquisition.kernel)),
        ("Slice thickness", with_unit(acquisition.slice_thickness_mm or None, "mm")),
        ("Contrast", acquisition.contrast),
        ("Slices read", f"{series.slices}, every {series.slice_spacing_mm:.4g} mm"),
        ("Pixels", f"{series.column_spacing_mm:.3g} × {series.row_spacing_mm:.3g} mm"),
        ("Scanner", scanner),
    )


def _dose(acquisition: ReportedAcquisition) -> str:
    values = (
        with_unit(acquisition.ctdi_vol_mgy or None, "mGy CTDIvol"),
        with_unit(acquisition.exposure_mas or None, "mAs"),
        with_unit(acquisition.tube_current_ma or None, "mA"),
    )
    return ", ".join(value for value in values if value)


def verdict_part(report: ReportDocument) -> str:
    """The exam's category and why."""
    assessed = report.category != NOT_ASSESSED
    title = f"Exam category {escape(report.category)}" if assessed else "Exam category not assessed"
    items = escape(", ".join(report.not_assessed), REASON)
    open_items = f'<p class="soft">Not looked at: {items}.</p>' if items else ""
    return (
        f'<section class="verdict">{category_chip(report.category)}<div><h3>{title}</h3>'
        f"<p>{escape(sentence(report.category_reason or ''), REASON)}</p>"
        f'<p class="soft">{_counts(report)}</p>{open_items}</div></section>'
    )


def _counts(report: ReportDocument) -> str:
    number, tried = len(report.findings), report.candidates
    found = "No finding" if number == 0 else "1 finding" if number == 1 else f"{number} findings"
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
    flags = [
        text
        for said, text in (
            (lungs.apex_cut, "The scan cuts the apex: what lies above was not read."),
            (lungs.base_cut, "The scan cuts the base: what lies below was not read."),
            (lungs.incomplete, "A large opacity may hide part of a lung."),
            (lungs.left_out, "A part of the lungs was not searched: read it yourself."),
        )
        if said
    ]
    facts = (
        ("Right lung", f"{right:.0f} ml"),
        ("Left lung", f"{left:.0f} ml"),
        ("Both", f"{right + left:.0f} ml"),
    )
    said = "".join(f'<p class="note">{escape(flag)}</p>' for flag in flags)
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
    return f'<h2>How this came about</h2><dl class="provenance">{items}</dl>'

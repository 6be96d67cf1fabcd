"""Result ─► a report of two to four pages as PDF/A-2b: the page's order, for paper and for whoever opens no browser.

Laid out from the typed result, not from the HTML. The same result gives the same bytes: its dates are the exam's.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

from PIL import Image

from lungscreen import RESEARCH_USE, __version__
from lungscreen.days import read_day
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.letters import FONT, add_fonts, in_letters
from lungscreen.outputs.once import once_per_study
from lungscreen.outputs.raster import Pictures, pictures_of
from lungscreen.outputs.words import (
    axes_text,
    category_text,
    count_text,
    finding_category,
    joined,
    lung_gaps,
    place_text,
    rating_text,
    slice_text,
)
from lungscreen.results.document import MALIGNANCY_MEANING, ReportDocument, ReportedFinding
from lungscreen.results.finished import Finished
from lungscreen.results.text import readable_age, readable_name, readable_sex, shown

if TYPE_CHECKING:
    from fpdf import FPDF

__all__ = ["PdfReport", "build_pdf"]

NOT_VERIFIED = "No person has verified it."
MARGIN_MM, WIDTH_MM = 14.0, 182.0
INK, SOFT, ACCENT, RULE = (20, 24, 28), (96, 102, 108), (150, 84, 0), (205, 208, 212)
MOST_PICTURES = 12
"""Findings with a picture: four pages at most. The table has them all."""
PICTURES_A_ROW, PICTURE_MM = 3, 56.0
WORDS_MM = 29.0
"""Room for the words below a picture."""
_JPEG_QUALITY = 88


class PdfReport:
    """report.pdf."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """The one file."""
        yield NamedFile("report.pdf", build_pdf(finished))


@once_per_study
def build_pdf(finished: Finished) -> bytes:
    """The report as a PDF file."""
    document, pictures = finished.document, pictures_of(finished)
    pdf = _new_file(document)
    pdf.add_page()
    _head(pdf, document)
    _verdict(pdf, document)
    _table(pdf, document)
    _overview(pdf, pictures)
    _key_pictures(pdf, pictures)
    _open_questions(pdf, document)
    _provenance(pdf, document)
    return _without_today(bytes(pdf.output()), _moment(document))


def _new_file(document: ReportDocument) -> FPDF:
    from fpdf import FPDF
    from fpdf.enums import DocumentCompliance

    class Page(FPDF):
        """Every page says what it is and what it is not."""

        def footer(self) -> None:
            self.set_y(-14)
            self.set_font(FONT, "B", 8)
            self.set_text_color(*ACCENT)
            self.cell(WIDTH_MM - 30, 5, f"{RESEARCH_USE} {NOT_VERIFIED}")
            self.set_font(FONT, "", 8)
            self.set_text_color(*SOFT)
            self.cell(30, 5, f"Page {self.page_no()}", align="R")

        def file_id(self) -> str:
            """Of the result, not of the run."""
            provenance = document.provenance
            words = (provenance.software_version, provenance.pipeline_hash, provenance.sop_instance_uids_sha256)
            number = hashlib.sha256("/".join(words).encode()).hexdigest()[:32].upper()
            return f"<{number}><{number}>"

    pdf = Page(enforce_compliance=DocumentCompliance.PDFA_2B)
    pdf.set_margins(MARGIN_MM, MARGIN_MM, MARGIN_MM)
    pdf.set_auto_page_break(True, 18)
    add_fonts(pdf)
    pdf.set_creation_date(_moment(document))
    pdf.set_title("lungscreen report")
    pdf.set_subject(f"{RESEARCH_USE} {NOT_VERIFIED}")
    pdf.set_producer(f"lungscreen {__version__}")
    pdf.set_lang("en")
    return pdf


def _without_today(content: bytes, moment: datetime) -> bytes:
    """fpdf2 writes the time of the run into the metadata; the exam's, of the same length, takes its place."""
    text = moment.isoformat(timespec="seconds").encode()
    return re.sub(rb'(xmp:(?:Modify|Metadata)Date=)"[^"]{%d}"' % len(text), rb'\1"%s"' % text, content)


def _moment(document: ReportDocument) -> datetime:
    """The exam's day, so that two runs agree; 1 January 1970 where it is not known."""
    day = read_day(document.exam.date) or date(1970, 1, 1)
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


# -- words on the page -----------------------------------------------------------------------------------------------
def _write(pdf: FPDF, text: str, size: float = 9, bold: bool = False, colour: tuple[int, int, int] = INK) -> None:
    """A paragraph over the whole width."""
    pdf.set_font(FONT, "B" if bold else "", size)
    pdf.set_text_color(*colour)
    pdf.multi_cell(WIDTH_MM, size * 0.5, in_letters(pdf, text, 2400), align="L", new_x="LMARGIN", new_y="NEXT")


def _heading(pdf: FPDF, text: str, room_mm: float = 22) -> None:
    """A heading, on the next page where what follows has no room on this one."""
    pdf.ln(3)
    if pdf.will_page_break(room_mm):
        pdf.add_page()
    _write(pdf, text, 12, bold=True)
    pdf.ln(1)


def _facts(pdf: FPDF, facts: Iterable[tuple[str, str | None]], columns: int = 2) -> None:
    """Label and value, in columns; what is not known is left out."""
    known = [(label, value) for label, value in facts if value]
    width = WIDTH_MM / columns
    for start in range(0, len(known), columns):
        for label, value in known[start : start + columns]:
            pdf.set_font(FONT, "", 8)
            pdf.set_text_color(*SOFT)
            pdf.cell(27, 4.6, in_letters(pdf, label, 40))
            pdf.set_text_color(*INK)
            pdf.cell(width - 27, 4.6, _fitting(pdf, in_letters(pdf, value, 160), width - 29))
        pdf.ln(4.6)


def _fitting(pdf: FPDF, text: str, width: float) -> str:
    """As much of a text as fits on a line."""
    if pdf.get_string_width(text) <= width:
        return text
    while text and pdf.get_string_width(f"{text}…") > width:
        text = text[:-1]
    return f"{text}…"


# -- the parts, in the order in which they are read ------------------------------------------------------------------
def _head(pdf: FPDF, document: ReportDocument) -> None:
    patient, exam, series = document.patient, document.exam, document.series
    _write(pdf, readable_name(patient.name or "") or "Name not in the header", 15, bold=True)
    pdf.ln(1)
    _facts(
        pdf,
        (
            ("Patient ID", patient.patient_id),
            ("Exam", joined(exam.date, exam.time)),
            ("Birth date", patient.birth_date),
            ("Accession", exam.accession_number),
            ("Sex", readable_sex(patient.sex or "")),
            ("Description", exam.description),
            ("Age at exam", readable_age(exam.age or "")),
            ("Prior exam", ", ".join(prior.date or "no date" for prior in document.priors) or "none compared"),
            ("Slices read", f"{series.slices}, every {series.slice_spacing_mm:.4g} mm"),
            ("Technique", _technique(document)),
            ("Scanner", joined(document.acquisition.manufacturer, document.acquisition.model)),
            ("Kernel", ", ".join(document.acquisition.kernel)),
        ),
    )


def _technique(document: ReportDocument) -> str:
    acquisition = document.acquisition
    parts = (
        ("kVp", acquisition.kvp),
        ("mAs", acquisition.exposure_mas),
        ("mGy CTDIvol", acquisition.ctdi_vol_mgy),
    )
    return ", ".join(f"{value:g} {unit}" for unit, value in parts if value)


def _verdict(pdf: FPDF, document: ReportDocument) -> None:
    pdf.ln(3)
    top = pdf.get_y()
    pdf.set_draw_color(*RULE)
    pdf.line(MARGIN_MM, top, MARGIN_MM + WIDTH_MM, top)
    pdf.ln(2)
    _write(pdf, f"Exam category {category_text(document.category)}", 17, bold=True, colour=ACCENT)
    pdf.ln(1)
    _write(pdf, document.category_reason or "")
    tried = document.candidates
    cut = f"; {document.cut_off} more above the operating point not listed" if document.cut_off else ""
    point = document.provenance.operating_point
    _write(
        pdf,
        f"{count_text(document)} at the operating point “{point}”, "
        f"from {tried} candidate{'' if tried == 1 else 's'}{cut}.",
        8,
        colour=SOFT,
    )


def _table(pdf: FPDF, document: ReportDocument) -> None:
    _heading(pdf, "Findings")
    if not document.findings:
        _write(pdf, "No finding reached the operating point.")
        return
    heads = ("No.", "Where", "Slice", "Axes, mm", "Mean", "Vol., mm³", "Type", "Rating*", "Category", "Since prior")
    widths = (8, 38, 12, 23, 12, 17, 21, 14, 16, 21)
    pdf.set_font(FONT, "", 7.5)
    pdf.set_text_color(*INK)
    pdf.set_draw_color(*RULE)
    from fpdf.enums import TableBordersLayout
    from fpdf.fonts import FontFace

    with pdf.table(
        col_widths=widths,
        text_align="LEFT",
        line_height=4.2,
        borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(emphasis="BOLD", color=SOFT),
        padding=0.6,
    ) as table:
        table.row(heads)
        for finding in document.findings:
            table.row([in_letters(pdf, cell, 60) for cell in _cells(finding)])
    pdf.ln(1)
    _write(
        pdf,
        f"* {MALIGNANCY_MEANING}. Slices are counted from the top. By category, doubtful ones last.",
        7,
        colour=SOFT,
    )


def _cells(finding: ReportedFinding) -> tuple[str, ...]:
    size, change = finding.measurement, finding.change
    since: str = "not assessed" if change is None else change.state
    if change is not None and change.diameter_change_mm is not None:
        since = f"{change.state}, {change.diameter_change_mm:+.1f} mm"
    return (
        str(finding.number),
        place_text(finding),
        str(finding.location.slice_from_top),
        axes_text(finding).removesuffix(" mm"),
        "–" if size is None else shown(size.mean_diameter_mm, 1),
        "–" if size is None else shown(size.volume_mm3, 0),
        str(finding.type),
        rating_text(finding) or "–",
        finding_category(finding),
        since,
    )


def _overview(pdf: FPDF, pictures: Pictures) -> None:
    _heading(pdf, "Overview")
    room = pdf.h - pdf.get_y() - 24
    if room < 60:
        pdf.add_page()
        room = 90.0
    picture = pictures.overview()
    height = min(room, 92.0)
    width = min(height * picture.width / picture.height, WIDTH_MM)
    pdf.image(_jpeg(picture), w=width, h=width * picture.height / picture.width, alt_text="Overview from the front")
    pdf.ln(1)
    _write(pdf, "A look through the whole scan from the front. Shows where, not what.", 7, colour=SOFT)


def _key_pictures(pdf: FPDF, pictures: Pictures) -> None:
    document = pictures.document
    if not document.findings:
        return
    _heading(pdf, "Key pictures", PICTURE_MM + WORDS_MM + 10)
    shown_findings = document.findings[:MOST_PICTURES]
    for start in range(0, len(shown_findings), PICTURES_A_ROW):
        _picture_row(pdf, shown_findings[start : start + PICTURES_A_ROW], pictures)
    left = len(document.findings) - len(shown_findings)
    more = f" {left} more finding{'' if left == 1 else 's'} without a picture here." if left else ""
    _write(
        pdf,
        "Axial, lung window. Yellow: outline as measured; a broken ring where nothing was outlined. "
        f"Blue: axes in this slice.{more}",
        7,
        colour=SOFT,
    )


def _picture_row(pdf: FPDF, findings: Sequence[ReportedFinding], pictures: Pictures) -> None:
    if pdf.will_page_break(PICTURE_MM + WORDS_MM):
        pdf.add_page()
    top, step = pdf.get_y(), (WIDTH_MM - PICTURES_A_ROW * PICTURE_MM) / (PICTURES_A_ROW - 1) + PICTURE_MM
    for column, finding in enumerate(findings):
        left = MARGIN_MM + column * step
        crop = pictures.crop(finding)
        pdf.image(_jpeg(crop.image), left, top, PICTURE_MM, PICTURE_MM, alt_text=f"Finding {finding.number}, axial")
        pdf.set_xy(left, top + PICTURE_MM + 1)
        pdf.set_font(FONT, "B", 8)
        pdf.set_text_color(*INK)
        pdf.cell(PICTURE_MM, 4, in_letters(pdf, f"{finding.number}. Category {finding_category(finding)}", 60))
        pdf.set_font(FONT, "", 7)
        for line, text in enumerate(_below(finding, pictures.document)):
            pdf.set_xy(left, top + PICTURE_MM + 5 + 3.5 * line)
            pdf.cell(PICTURE_MM, 3.5, _fitting(pdf, in_letters(pdf, text, 120), PICTURE_MM - 1))
    pdf.set_xy(MARGIN_MM, top + PICTURE_MM + WORDS_MM)


def _below(finding: ReportedFinding, document: ReportDocument) -> list[str]:
    """The lines below a picture."""
    size = finding.measurement
    measured = [f"{axes_text(finding)}, {finding.type}"]
    if size is not None:
        spread = "" if size.volume_sd_mm3 is None else f" ± {shown(size.volume_sd_mm3, 0)}"
        measured.append(f"mean {shown(size.mean_diameter_mm, 1)} mm, {shown(size.volume_mm3, 0)}{spread} mm³")
    rating = rating_text(finding)
    history = [f"since the prior: {finding.growth}"] if finding.change is not None and finding.growth else []
    return [
        place_text(finding),
        slice_text(finding, document),
        *measured,
        *([f"rating* {rating}"] if rating else []),
        *history,
    ]


def _open_questions(pdf: FPDF, document: ReportDocument) -> None:
    """What nobody looked at, what was left out, what is known to be doubtful."""
    _heading(pdf, "Not assessed, and what to bear in mind")
    if document.not_assessed:
        _write(pdf, f"• Not assessed: {'; '.join(document.not_assessed)}.", 8)
    for nodule in document.lost:
        _write(pdf, f"• Nodule of the last exam: {nodule.text}", 8)
    for text in _about_lungs(document):
        _write(pdf, f"• {text}", 8)
    for notice in document.notices:
        _write(pdf, f"• {notice.text} ({notice.code})", 8)
    if document.no_nodules:
        number = len(document.no_nodules)
        _write(
            pdf,
            f"• {number} mark{'' if number == 1 else 's'} that the second look takes for no nodule: see report.html",
            8,
        )
    if document.not_read:
        number = len(document.not_read)
        _write(
            pdf,
            f"• {number} of this study's series or files not read or not whole: see report.json",
            8,
        )
    _write(pdf, f"• {document.validated_on}", 8)


def _about_lungs(document: ReportDocument) -> list[str]:
    lungs = document.lungs
    volumes = (
        ""
        if lungs.right_ml is None or lungs.left_ml is None
        else f"Right lung {lungs.right_ml:.0f} ml, left lung {lungs.left_ml:.0f} ml."
    )
    return lung_gaps(lungs) + ([volumes] if volumes else [])


def _provenance(pdf: FPDF, document: ReportDocument) -> None:
    provenance = document.provenance
    _heading(pdf, "How this came about")
    lines = [
        f"lungscreen {provenance.software_version}, pipeline {provenance.pipeline_name} {provenance.pipeline_hash}",
        *(f"Weights {used.name} {used.version}, sha256 {used.sha256}" for used in provenance.weights),
        f"Study {provenance.study_uid}",
        f"Series {provenance.series_uid}",
        f"Input sha256 {provenance.sop_instance_uids_sha256}",
    ]
    for line in lines:
        _write(pdf, line, 6.5, colour=SOFT)


def _jpeg(picture: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY)
    file.seek(0)
    return file

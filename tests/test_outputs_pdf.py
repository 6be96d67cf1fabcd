"""report.pdf: two to four pages, declared as PDF/A-2b, the same bytes every time, foreign text harmless."""

from __future__ import annotations

import io
from dataclasses import replace

import pikepdf
import pytest
from dicom_results import run_program, some_findings
from report_examples import finish, make_report, make_volume

from lungscreen import RESEARCH_USE
from lungscreen.outputs.pdf import PdfReport
from lungscreen.records import Patient, Report, Study


def pdf_of(report: Report) -> bytes:
    (file,) = PdfReport().files(finish(report))
    assert file.name == "report.pdf"
    assert isinstance(file.content, bytes)
    return file.content


def words_of(content: bytes, tmp_path) -> str:
    (tmp_path / "r.pdf").write_bytes(content)
    return " ".join(run_program("pdftotext", "-layout", str(tmp_path / "r.pdf"), "-").split())


def some_report(count: int, **changes) -> Report:
    volume = make_volume()
    return make_report(*some_findings(volume, count), volume=volume, **changes)


@pytest.mark.parametrize("count", [0, 1, 6, 20])
def test_two_to_four_pages_whatever_was_found(count):
    """One page is enough where nothing was found; the table lists all findings, pictures stop before page five."""
    with pikepdf.open(io.BytesIO(pdf_of(some_report(count)))) as pdf:
        assert (1 if count == 0 else 2) <= len(pdf.pages) <= 4


def test_it_declares_pdf_a_2b():
    """An output intent with a profile, the identification in the metadata, every font embedded, nothing that runs."""
    with pikepdf.open(io.BytesIO(pdf_of(some_report(2)))) as pdf:
        assert pdf.Root.OutputIntents[0].S == "/GTS_PDFA1"
        with pdf.open_metadata() as metadata:
            assert (metadata["pdfaid:part"], metadata["pdfaid:conformance"]) == ("2", "B")
        assert "/AA" not in pdf.Root
        assert isinstance(pdf.Root.OpenAction, pikepdf.Array), "a place to open at, no action"
        fonts = [font for page in pdf.pages for font in page.Resources.Font.values()]
        assert fonts
        assert all("/FontFile2" in font.DescendantFonts[0].FontDescriptor for font in fonts)


def test_two_runs_give_the_same_bytes():
    """Times of the run are no part of it."""
    report = some_report(3)
    later = replace(report.provenance, created="2031-01-01T00:00:00Z", seconds={"detect": 77.0})
    assert pdf_of(report) == pdf_of(replace(report, provenance=later))


def test_the_order_is_the_pages(tmp_path):
    """Category and reason, table, pictures, what was not assessed, provenance; the banner on every page."""
    report = some_report(2, category="4B", category_reason="solid, 11.8 mm", not_assessed=("modifier S",))
    content = pdf_of(report)
    words = words_of(content, tmp_path)
    places = [
        words.index(text)
        for text in ("Doe, Jane Q", "Exam category 4B", "solid, 11.8 mm", "Findings", "Overview", "Key pictures",
                     "Not assessed: modifier S", "How this came about")
    ]  # fmt: skip
    assert places == sorted(places)
    with pikepdf.open(io.BytesIO(content)) as pdf:
        assert words.count(RESEARCH_USE) == len(pdf.pages)
    assert "12.1 × 11.4" in words
    assert "841" in words


def test_no_finding_is_said(tmp_path):
    """An empty table would leave the reader to guess."""
    assert "No finding reached the operating point." in words_of(pdf_of(some_report(0)), tmp_path)


def test_foreign_text_is_bounded_and_drawn(tmp_path):
    """Letters that the font lacks become boxes, markup stays text, a name of ten thousand letters fits on the page."""
    patient = Patient("x" * 10_000, "Ж^山<b>**bold**</b>\u202e\x07", "1955", "?")
    volume = make_volume()
    study = Study(patient, volume.series.exam, (volume.series,))
    words = words_of(pdf_of(make_report(*some_findings(volume, 1), volume=volume, study=study)), tmp_path)
    assert "Ж, □<b>**bold**</b>" in words.replace("□ ", "□") or "□<b>**bold**</b>" in words
    assert "x" * 300 not in words

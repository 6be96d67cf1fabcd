"""The PDF report in a DICOM object, for PACS and records that open it beside the images."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lungscreen import RESEARCH_USE
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.common import ascii_text, code_item, finish, new_object
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.dicom.statements import NOT_VERIFIED

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["ENCAPSULATED_PDF", "build_encapsulated_pdf"]

ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"


def build_encapsulated_pdf(content: bytes, source: DicomSource, identity: ResultIdentity) -> Dataset:
    """A PDF file as an object of the study."""
    dataset = new_object(ENCAPSULATED_PDF, identity.uid("pdf"))
    finish(dataset, "pdf", source, identity)
    dataset.Modality, dataset.ConversionType = "DOC", "WSD"
    dataset.AcquisitionDateTime = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.DocumentTitle = ascii_text(f"lungscreen report. {RESEARCH_USE} {NOT_VERIFIED}")
    dataset.ConceptNameCodeSequence = [code_item(codes.REPORT_TITLE)]
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    dataset.EncapsulatedDocumentLength = len(content)
    dataset.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    return dataset

"""Key object selection: the slices with findings and our key images, for a PACS' key-image button (TID 2010)."""

from __future__ import annotations

from pydicom.dataset import Dataset

from lungscreen import RESEARCH_USE
from lungscreen.outputs.dicom import codes, items
from lungscreen.outputs.dicom.codes import dcm
from lungscreen.outputs.dicom.common import ascii_text, finish, new_object
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.items import CONTAINS
from lungscreen.outputs.dicom.key_images import SECONDARY_CAPTURE, key_image_uids
from lungscreen.outputs.dicom.observers import Observers
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.reports import begin_document, evidence_of
from lungscreen.outputs.dicom.source import DicomSource, reference_to
from lungscreen.outputs.dicom.statements import NOT_VERIFIED
from lungscreen.results.document import ReportDocument

__all__ = ["build_key_objects"]

_KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"


def build_key_objects(document: ReportDocument, source: DicomSource, identity: ResultIdentity) -> Dataset:
    """The selection; where nothing was found it holds the summary image alone."""
    slices = sorted({find_place(finding.position_mm, source.slices).number for finding in document.findings})
    pictures = [reference_to(SECONDARY_CAPTURE, uid) for uid in key_image_uids(document, identity)]
    shown = [*pictures, *(items.slice_reference(source.slices[number]) for number in slices)]
    dataset = new_object(_KEY_OBJECT_SELECTION, identity.uid("kos"))
    finish(dataset, "kos", source, identity)
    dataset.Modality = "KO"
    dataset.ReferencedPerformedProcedureStepSequence = []
    evidence = {identity.uid("key images", "series"): pictures, source.series_uid: source.references(slices)}
    begin_document(dataset, codes.OF_INTEREST, "2010", evidence_of(source.header.StudyInstanceUID, evidence))
    words = ascii_text(f"lungscreen key images. {RESEARCH_USE} {NOT_VERIFIED}")
    dataset.ContentSequence = [
        *Observers(identity).of_the_report(),
        items.text(CONTAINS, dcm("113012", "Key Object Description"), words),
        *(items.image(CONTAINS, codes.SOURCE, reference) for reference in shown),
    ]
    return dataset

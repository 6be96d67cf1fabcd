"""Key object selection: the slices with findings and our key images, for a PACS' key-image button."""

from __future__ import annotations

from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sr import DeviceObserverIdentifyingAttributes, ObserverContext
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from lungscreen import RESEARCH_USE
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.common import MAKER, MODEL, SERIES, ascii_text, finish
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.key_images import SECONDARY_CAPTURE, key_image_uids
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.dicom.statements import NOT_VERIFIED
from lungscreen.results.document import ReportDocument

__all__ = ["build_key_objects"]


def build_key_objects(document: ReportDocument, source: DicomSource, identity: ResultIdentity) -> Dataset:
    """The selection; where nothing was found it holds the summary image alone."""
    slices = {find_place(finding.position_mm, source.slices).number for finding in document.findings}
    chosen = [
        *(_stand_in(uid, source, identity) for uid in key_image_uids(document, identity)),
        *source.objects(sorted(slices)),
    ]
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.uid("device"), name=MAKER, manufacturer_name=MAKER, model_name=MODEL
    )
    content = KeyObjectSelection(
        document_title=codes.OF_INTEREST,
        referenced_objects=chosen,
        observer_device_context=ObserverContext(dictionary.DCM.Device, device),
        description=ascii_text(f"lungscreen key images. {RESEARCH_USE} {NOT_VERIFIED}"),
    )
    dataset = KeyObjectSelectionDocument(
        evidence=chosen,
        content=content,
        series_instance_uid=identity.uid("kos", "series"),
        series_number=SERIES["kos"][0],
        sop_instance_uid=identity.uid("kos"),
        instance_number=1,
        manufacturer=MAKER,
    )
    finish(dataset, "kos", source, identity)
    return dataset


def _stand_in(uid: str, source: DicomSource, identity: ResultIdentity) -> Dataset:
    """What is known of a key image without drawing it."""
    image = Dataset()
    image.update(source.image(0))
    # new elements: those that are there belong to the source as well
    for keyword, value in (
        ("SOPClassUID", SECONDARY_CAPTURE),
        ("SOPInstanceUID", uid),
        ("SeriesInstanceUID", identity.uid("key images", "series")),
    ):
        image.add_new(keyword, "UI", value)
    return image

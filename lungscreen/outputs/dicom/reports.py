"""What structured reports have in common: their head, and the slices and segmentation that they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydicom.dataset import Dataset

from lungscreen.outputs.dicom import codes, items
from lungscreen.outputs.dicom.codes import Concept, dcm
from lungscreen.outputs.dicom.common import code_item
from lungscreen.outputs.dicom.items import ACQUISITION, CONTAINS
from lungscreen.outputs.dicom.source import DicomSource, reference_to
from lungscreen.records import SourceSlice

__all__ = ["begin_document", "begin_report", "evidence_of", "image_library"]


def begin_document(dataset: Dataset, title: Concept, template: str, evidence: Dataset) -> None:
    """The root of a document's content (PS3.3 C.17.3, C.17.6.2), but for what stands in it.

    template: of the root, in PS3.16.
    """
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence]
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [code_item(title)]
    of = Dataset()
    of.MappingResource, of.TemplateIdentifier = "DCMR", template
    dataset.ContentTemplateSequence = [of]


def begin_report(dataset: Dataset, title: Concept, template: str, evidence: Dataset) -> None:
    """As `begin_document`, of a report that nobody has verified (PS3.3 C.17.2)."""
    dataset.Modality = "SR"
    dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    dataset.PerformedProcedureCodeSequence, dataset.ReferencedPerformedProcedureStepSequence = [], []
    begin_document(dataset, title, template, evidence)


def evidence_of(study_uid: str, objects: Mapping[str, Sequence[Dataset]]) -> Dataset:
    """What a document refers to, as an item of the evidence sequences.

    objects: references by their series' UID; a series without any is left out.
    """
    study = Dataset()
    study.StudyInstanceUID, study.ReferencedSeriesSequence = study_uid, []
    for series_uid, references in objects.items():
        if references:
            series = Dataset()
            series.SeriesInstanceUID, series.ReferencedSOPSequence = series_uid, list(references)
            study.ReferencedSeriesSequence.append(series)
    return study


def image_library(slices: Sequence[int], source: DicomSource) -> Dataset:
    """TID 1600: the objects that hold the slices, each once."""
    first = {source.slices[number].instance.sop_instance_uid: number for number in reversed(slices)}
    entries = [_library_entry(source.slices[number], source) for number in sorted(first.values())]
    group = items.container(CONTAINS, dcm("126200", "Image Library Group"), entries)
    return items.container(CONTAINS, dcm("111028", "Image Library"), [group])


def _library_entry(one: SourceSlice, source: DicomSource) -> Dataset:
    """TID 1602 and 1604: modality, frame of reference, size and place of an image."""
    row_mm, column_mm = one.pixel_spacing_mm
    frame = source.volume.geometry.frame_of_reference
    axes = [f"Image Orientation (Patient) {way} {axis}" for way in ("Row", "Column") for axis in "XYZ"]
    facts = [
        items.code(ACQUISITION, dcm("121139", "Modality"), dcm("CT", "Computed Tomography")),
        *([items.uid(ACQUISITION, dcm("112227", "Frame of Reference UID"), frame)] if frame else []),
        items.count(ACQUISITION, dcm("110910", "Pixel Data Rows"), one.instance.rows, codes.PIXELS),
        items.count(ACQUISITION, dcm("110911", "Pixel Data Columns"), one.instance.columns, codes.PIXELS),
        items.numeric(ACQUISITION, dcm("111026", "Horizontal Pixel Spacing"), column_mm, codes.MM),
        items.numeric(ACQUISITION, dcm("111066", "Vertical Pixel Spacing"), row_mm, codes.MM),
        items.numeric(ACQUISITION, dcm("112225", "Slice Thickness"), source.slice_thickness_mm, codes.MM),
        *(
            items.numeric(ACQUISITION, dcm(str(110901 + n), f"Image Position (Patient) {axis}"), value, codes.MM)
            for n, (axis, value) in enumerate(zip("XYZ", one.position_mm, strict=True))
        ),
        *(
            items.numeric(ACQUISITION, dcm(str(110904 + n), axis), value, codes.COSINE)
            for n, (axis, value) in enumerate(zip(axes, one.orientation, strict=True))
        ),
    ]
    reference = reference_to(one.instance.sop_class_uid, one.instance.sop_instance_uid)
    return items.image(CONTAINS, codes.SOURCE, reference, facts)

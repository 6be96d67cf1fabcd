"""Chest CAD SR, TID 4100: for workstations that take CAD results in this form.

Order and mandatory rows are the template's (PS3.16 of 2024): 4100 root, 4101 findings summary, 4104 single image
finding, 4019 algorithm, 4020 image library. highdicom has no such document; content items are plain data sets here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sr.coding import Code

from lungscreen import RESEARCH_USE, __version__
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.common import MAKER, ascii_text, code_item, finish, new_object
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.dicom.statements import NOT_VERIFIED
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["CHEST_CAD_SR", "build_chest_cad"]

CHEST_CAD_SR = "1.2.840.10008.5.1.4.1.1.88.65"

_CONTAINS, _CONCEPT, _OBSERVATION = "CONTAINS", "HAS CONCEPT MOD", "HAS OBS CONTEXT"
_PROPERTIES, _INFERRED, _SELECTED, _ACQUISITION = "HAS PROPERTIES", "INFERRED FROM", "SELECTED FROM", "HAS ACQ CONTEXT"


def _dcm(value: str, meaning: str) -> Code:
    return Code(value, "DCM", meaning)


def build_chest_cad(document: ReportDocument, source: DicomSource, identity: ResultIdentity) -> Dataset:
    """The document, with findings and without."""
    slices = sorted({find_place(f.position_mm, source.slices).number for f in document.findings} or [0])
    library = {number: place for place, number in enumerate(slices, 1)}
    dataset = new_object(CHEST_CAD_SR, identity.uid("cad"))
    finish(dataset, "cad", source, identity)
    dataset.Modality = "SR"
    dataset.CompletionFlag, dataset.VerificationFlag, dataset.PreliminaryFlag = "COMPLETE", "UNVERIFIED", "PRELIMINARY"
    dataset.PerformedProcedureCodeSequence = []
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [_evidence(source)]
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = [code_item(_dcm("112000", "Chest CAD Report"))]
    template = Dataset()
    template.MappingResource, template.TemplateIdentifier = "DCMR", "4100"
    dataset.ContentTemplateSequence = [template]
    dataset.ContentSequence = [
        _code(_CONCEPT, _dcm("121049", "Language of Content Item and Descendants"), Code("en", "RFC5646", "English")),
        _container(_CONTAINS, _dcm("111028", "Image Library"), [_library_image(n, source) for n in slices]),
        _summary(document, source, library),
        _detections(library),
        _code(_CONTAINS, _dcm("111065", "Summary of Analyses"), _dcm("111225", "Not Attempted")),
    ]
    return dataset


def _summary(document: ReportDocument, source: DicomSource, library: dict[int, int]) -> Dataset:
    """TID 4101: what came of the processing, and each finding."""
    outcome = (
        _dcm("111242", "All algorithms succeeded; with findings")
        if document.findings
        else _dcm("111241", "All algorithms succeeded; without findings")
    )
    children = [_finding(finding, source, library) for finding in document.findings]
    return _code(_CONTAINS, _dcm("111017", "CAD Processing and Findings Summary"), outcome, children)


def _finding(finding: ReportedFinding, source: DicomSource, library: dict[int, int]) -> Dataset:
    """TID 4104, rows in order."""
    place = find_place(finding.position_mm, source.slices)
    centre = _item("SCOORD", _PROPERTIES, _dcm("111010", "Center"))
    centre.GraphicType, centre.GraphicData = "POINT", [place.column, place.row]
    centre.ContentSequence = [_by_reference(_SELECTED, [1, 2, library[place.number]])]
    children = [
        _code(_CONCEPT, codes.TYPE_OF_NODULE, codes.finding_code(finding.is_mass)),
        _code(
            _CONCEPT,
            _dcm("111056", "Rendering Intent"),
            _dcm("111150", "Presentation Required: Rendering device is expected to present"),
        ),
        _text(_OBSERVATION, _dcm("112039", "Tracking Identifier"), f"Finding {finding.number}"),
        _uid(
            _OBSERVATION,
            _dcm("112040", "Tracking Unique Identifier"),
            finding_uid(source.series_uid, finding.position_mm),
        ),
        *_algorithm(_OBSERVATION),
    ]
    if finding.nodule_probability is not None:
        children.append(
            _number(_PROPERTIES, codes.CERTAINTY, round(100 * finding.nodule_probability, 2), codes.PERCENT)
        )
    children.append(centre)
    site = codes.lobe_code(finding.location.lobe)
    if site is not None:
        location = _code(_PROPERTIES, _dcm("112013", "Location in Chest"), site)
        side = codes.side_code(finding.location.side)
        if side is not None and site is not codes.MIDDLE_LOBE:
            location.ContentSequence = [_code(_CONCEPT, Code("272741003", "SCT", "Laterality"), side)]
        children.append(location)
    return _code(_INFERRED, _dcm("111059", "Single Image Finding"), _dcm("112033", "Abnormal opacity"), children)


def _detections(library: dict[int, int]) -> Dataset:
    """What was looked for, by which algorithm, on which images."""
    performed = _code(
        _CONTAINS,
        _dcm("111022", "Detection Performed"),
        codes.NODULE,
        [*_algorithm(_PROPERTIES), *(_by_reference(_PROPERTIES, [1, 2, place]) for place in library.values())],
    )
    succeeded = _container(_INFERRED, _dcm("111063", "Successful Detections"), [performed])
    return _code(_CONTAINS, _dcm("111064", "Summary of Detections"), _dcm("111222", "Succeeded"), [succeeded])


def _algorithm(relation: str) -> list[Dataset]:
    """TID 4019; the parameters say what the result is not."""
    return [
        _text(relation, _dcm("111001", "Algorithm Name"), MAKER),
        _text(relation, _dcm("111003", "Algorithm Version"), __version__),
        _text(relation, _dcm("111002", "Algorithm Parameters"), f"{RESEARCH_USE} {NOT_VERIFIED}"),
    ]


def _library_image(number: int, source: DicomSource) -> Dataset:
    """An image of the library with the facts that TID 4020 asks of it."""
    one = source.slices[number]
    reference = Dataset()
    reference.ReferencedSOPClassUID = one.instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = one.instance.sop_instance_uid
    if one.frame is not None:
        reference.ReferencedFrameNumber = one.frame
    item = _item("IMAGE", _CONTAINS, None)
    item.ReferencedSOPSequence = [reference]
    spacing = one.pixel_spacing_mm
    facts = [
        _date(_ACQUISITION, _dcm("111060", "Study Date"), str(source.header.get("StudyDate", ""))),
        _number(_ACQUISITION, _dcm("111066", "Vertical Pixel Spacing"), spacing[0], codes.MM),
        _number(_ACQUISITION, _dcm("111026", "Horizontal Pixel Spacing"), spacing[1], codes.MM),
    ]
    item.ContentSequence = [fact for fact in facts if fact is not None]
    return item


# -- content items ---------------------------------------------------------------------------------------------------
def _item(kind: str, relation: str, name: Code | None) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    if name is not None:
        item.ConceptNameCodeSequence = [code_item(name)]
    return item


def _with(item: Dataset, children: Sequence[Dataset]) -> Dataset:
    if children:
        item.ContentSequence = list(children)
    return item


def _container(relation: str, name: Code, children: Sequence[Dataset]) -> Dataset:
    item = _item("CONTAINER", relation, name)
    item.ContinuityOfContent = "SEPARATE"
    return _with(item, children)


def _code(relation: str, name: Code, value: Code, children: Sequence[Dataset] = ()) -> Dataset:
    item = _item("CODE", relation, name)
    item.ConceptCodeSequence = [code_item(value)]
    return _with(item, children)


def _text(relation: str, name: Code, value: str) -> Dataset:
    item = _item("TEXT", relation, name)
    item.TextValue = ascii_text(value)
    return item


def _uid(relation: str, name: Code, value: str) -> Dataset:
    item = _item("UIDREF", relation, name)
    item.UID = value
    return item


def _date(relation: str, name: Code, value: str) -> Dataset | None:
    if not re.fullmatch(r"\d{8}", value, re.ASCII):
        return None
    item = _item("DATE", relation, name)
    item.Date = value
    return item


def _number(relation: str, name: Code, value: float, unit: Code) -> Dataset:
    item, measured = _item("NUM", relation, name), Dataset()
    measured.NumericValue = f"{value:.10g}"
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item.MeasuredValueSequence = [measured]
    return item


def _by_reference(relation: str, place: list[int]) -> Dataset:
    """A link to an item that stands elsewhere in the tree."""
    item = Dataset()
    item.RelationshipType, item.ReferencedContentItemIdentifier = relation, place
    return item


def _evidence(source: DicomSource) -> Dataset:
    study, series = Dataset(), Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedSOPSequence = source.references(range(len(source.slices)))
    study.StudyInstanceUID, study.ReferencedSeriesSequence = source.header.StudyInstanceUID, [series]
    return study

"""Chest CAD SR, TID 4100: for workstations that take CAD results in this form.

Order and mandatory rows are the template's (PS3.16 of 2024): 4100 root, 4101 findings summary, 4104 single image
finding, 4019 algorithm, 4020 image library. highdicom has no such document; content items are plain data sets here.
"""

from __future__ import annotations

from pydicom.dataset import Dataset

from lungscreen import RESEARCH_USE, __version__
from lungscreen.outputs.dicom import codes, items
from lungscreen.outputs.dicom.codes import Concept, dcm
from lungscreen.outputs.dicom.common import MAKER, finish, new_object
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.items import (
    ACQUISITION,
    CONCEPT,
    CONTAINS,
    INFERRED,
    OBSERVATION,
    PROPERTIES,
    SELECTED,
)
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.reports import begin_report, evidence_of
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.dicom.statements import NOT_VERIFIED
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["CHEST_CAD_SR", "build_chest_cad"]

CHEST_CAD_SR = "1.2.840.10008.5.1.4.1.1.88.65"


def build_chest_cad(document: ReportDocument, source: DicomSource, identity: ResultIdentity) -> Dataset:
    """The document, with findings and without."""
    slices = sorted({find_place(f.position_mm, source.slices).number for f in document.findings} or [0])
    library = {number: place for place, number in enumerate(slices, 1)}
    dataset = new_object(CHEST_CAD_SR, identity.uid("cad"))
    finish(dataset, "cad", source, identity)
    images = {source.series_uid: source.references(range(len(source.slices)))}
    evidence = evidence_of(source.header.StudyInstanceUID, images)
    begin_report(dataset, dcm("112000", "Chest CAD Report"), "4100", evidence)
    dataset.ContentSequence = [
        items.code(
            CONCEPT, dcm("121049", "Language of Content Item and Descendants"), Concept("en", "RFC5646", "English")
        ),
        items.container(
            CONTAINS, dcm("111028", "Image Library"), [_library_image(n, source) for n in slices], separate=True
        ),
        _summary(document, source, library),
        _detections(library),
        items.code(CONTAINS, dcm("111065", "Summary of Analyses"), dcm("111225", "Not Attempted")),
    ]
    return dataset


def _summary(document: ReportDocument, source: DicomSource, library: dict[int, int]) -> Dataset:
    """TID 4101: what came of the processing, and each finding."""
    outcome = (
        dcm("111242", "All algorithms succeeded; with findings")
        if document.findings
        else dcm("111241", "All algorithms succeeded; without findings")
    )
    children = [_finding(finding, source, library) for finding in document.findings]
    return items.code(CONTAINS, dcm("111017", "CAD Processing and Findings Summary"), outcome, children)


def _finding(finding: ReportedFinding, source: DicomSource, library: dict[int, int]) -> Dataset:
    """TID 4104, rows in order."""
    place = find_place(finding.position_mm, source.slices)
    on = items.link(SELECTED, [1, 2, library[place.number]])
    centre = items.point(PROPERTIES, dcm("111010", "Center"), place.column, place.row, on)
    children = [
        items.code(CONCEPT, codes.TYPE_OF_NODULE, codes.finding_code(finding.is_mass)),
        items.code(
            CONCEPT,
            dcm("111056", "Rendering Intent"),
            dcm("111150", "Presentation Required: Rendering device is expected to present"),
        ),
        items.text(OBSERVATION, dcm("112039", "Tracking Identifier"), f"Finding {finding.number}"),
        items.uid(
            OBSERVATION,
            dcm("112040", "Tracking Unique Identifier"),
            finding_uid(source.series_uid, finding.position_mm),
        ),
        *_algorithm(OBSERVATION),
    ]
    if finding.nodule_probability is not None:
        children.append(
            items.numeric(PROPERTIES, codes.CERTAINTY, round(100 * finding.nodule_probability, 2), codes.PERCENT)
        )
    children.append(centre)
    site, side = codes.lobe_code(finding.location.lobe), codes.side_code(finding.location.side)
    if site is not None:
        sides = [items.code(CONCEPT, codes.LATERALITY, side)] if side and site is not codes.MIDDLE_LOBE else []
        children.append(items.code(PROPERTIES, dcm("112013", "Location in Chest"), site, sides))
    return items.code(INFERRED, dcm("111059", "Single Image Finding"), dcm("112033", "Abnormal opacity"), children)


def _detections(library: dict[int, int]) -> Dataset:
    """What was looked for, by which algorithm, on which images."""
    performed = items.code(
        CONTAINS,
        dcm("111022", "Detection Performed"),
        codes.NODULE,
        [*_algorithm(PROPERTIES), *(items.link(PROPERTIES, [1, 2, place]) for place in library.values())],
    )
    succeeded = items.container(INFERRED, dcm("111063", "Successful Detections"), [performed], separate=True)
    return items.code(CONTAINS, dcm("111064", "Summary of Detections"), dcm("111222", "Succeeded"), [succeeded])


def _algorithm(relation: str) -> list[Dataset]:
    """TID 4019; the parameters say what the result is not."""
    return [
        items.text(relation, dcm("111001", "Algorithm Name"), MAKER),
        items.text(relation, dcm("111003", "Algorithm Version"), __version__),
        items.text(relation, dcm("111002", "Algorithm Parameters"), f"{RESEARCH_USE} {NOT_VERIFIED}"),
    ]


def _library_image(number: int, source: DicomSource) -> Dataset:
    """An image of the library with the facts that TID 4020 asks of it."""
    one = source.slices[number]
    spacing = one.pixel_spacing_mm
    facts = [
        items.date(ACQUISITION, dcm("111060", "Study Date"), str(source.header.get("StudyDate", ""))),
        items.numeric(ACQUISITION, dcm("111066", "Vertical Pixel Spacing"), spacing[0], codes.MM),
        items.numeric(ACQUISITION, dcm("111026", "Horizontal Pixel Spacing"), spacing[1], codes.MM),
    ]
    return items.image(CONTAINS, None, items.slice_reference(one), [fact for fact in facts if fact is not None])

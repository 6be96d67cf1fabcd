"""Result ─► Comprehensive 3D SR, TID 1500: what was found and measured, for machines and viewers.

Each finding has two groups with one tracking UID: one that points at its segment and holds all numbers, one that points
at a pixel of the slice nearest to it, which is what viewers jump to. What is said of the exam stands in the container
"Qualitative Evaluations" (row 12): a group without coordinates keeps OHIF from showing the report at all.

Of a read that a person signed each group says whose it is: the software's, which the person took over, or the
person's own mark, which the software outlined and measured and of which no network says anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydicom.dataset import Dataset

from lungscreen import __version__
from lungscreen.outputs.dicom import codes, items
from lungscreen.outputs.dicom.codes import Concept, dcm
from lungscreen.outputs.dicom.common import (
    MAKER,
    MODEL,
    SignedBy,
    ascii_text,
    finish,
    foreign_text,
    new_object,
)
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.items import CONCEPT, CONTAINS, OBSERVATION, SELECTED
from lungscreen.outputs.dicom.observers import Observers, verified_by
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.reports import begin_report, evidence_of, image_library
from lungscreen.outputs.dicom.segmentation import Segments
from lungscreen.outputs.dicom.source import DicomSource, reference_to
from lungscreen.outputs.dicom.statements import exam_statements
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["build_measurement_report"]

_COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"

_ON_THE_LABEL = 4
"""Measurements of the point's group where the segment's has them all: axes, mean diameter and volume."""
_AXES = 3
"""Of these, what a person who gives a size says."""


def build_measurement_report(
    document: ReportDocument,
    source: DicomSource,
    identity: ResultIdentity,
    segments: Segments | None,
    signed: SignedBy | None = None,
) -> Dataset:
    """The structured report.

    document: the result.
    segments: of its findings, None where there are none.
    signed: who read it, where somebody did.
    """
    kind = "signed sr" if signed else "sr"
    slices = sorted({find_place(f.position_mm, source.slices).number for f in document.findings}) or [0]
    report = new_object(_COMPREHENSIVE_3D_SR, identity.uid(kind))
    finish(report, kind, source, identity)
    evidence = {source.series_uid: source.references(slices)}
    if segments is not None:
        evidence[segments.dataset.SeriesInstanceUID] = [_reference_to(segments)]
    rests_on = evidence_of(source.header.StudyInstanceUID, evidence)
    begin_report(report, dcm("126000", "Imaging Measurement Report"), "1500", rests_on)
    observers = Observers(identity, signed)
    groups = [group for f in document.findings for group in _groups(f, document, source, segments, observers)]
    report.ContentSequence = [
        items.code(CONCEPT, dcm("121049", "Language of Content Item and Descendants"), codes.ENGLISH),
        *observers.of_the_report(),
        items.code(CONCEPT, dcm("121058", "Procedure reported"), codes.PROCEDURE),
        image_library(slices, source),
        *([items.container(CONTAINS, dcm("126010", "Imaging Measurements"), groups)] if groups else []),
        items.container(CONTAINS, codes.QUALITATIVE, _exam(document, identity, signed)),
    ]
    _name_local_codes(report)
    _name_predecessor(report, identity)
    if signed is not None:
        report.SpecificCharacterSet = "ISO_IR 192"  # a person's words may be of any script
        report.VerificationFlag, report.PreliminaryFlag = "VERIFIED", "FINAL"
        report.VerifyingObserverSequence = [verified_by(signed)]
    return report


# -- findings --------------------------------------------------------------------------------------------------------
def _groups(
    finding: ReportedFinding,
    document: ReportDocument,
    source: DicomSource,
    segments: Segments | None,
    observers: Observers,
) -> list[Dataset]:
    """The group of the segment, where there is one, and that of the point."""
    own, signed = observers.is_own(finding.number), observers.signed
    numbers = _measurements(finding, by_network=not own)
    if signed is not None and finding.number in signed.sized:
        numbers = numbers[:_AXES]

    def group(template: str, measured: Iterable[_Measured], *place: Dataset) -> Dataset:
        return items.container(
            CONTAINS,
            dcm("125007", "Measurement Group"),
            [
                *_tracking(finding, source),
                *observers.of_finding(finding.number),
                items.code(CONTAINS, Concept("276214006", "SCT", "Finding category"), codes.ABNORMAL),
                items.code(CONTAINS, dcm("121071", "Finding"), codes.finding_code(finding.is_mass)),
                _site(finding),
                *_algorithm(None if own else document),
                *(_number(one) for one in measured),
                *_evaluations(finding),
                *place,
                *_remarks(finding),
            ],
            template=template,
        )

    segment = segments.numbers.get(finding.number) if segments else None
    groups = []
    if segments is not None and segment is not None:
        groups.append(group("1411", numbers, *_segment(segments, segment, source)))
        numbers = numbers[:_ON_THE_LABEL]
    groups.append(group("1410", numbers, _point(finding, source)))
    return groups


def _tracking(finding: ReportedFinding, source: DicomSource) -> list[Dataset]:
    """TID 4108."""
    name = finding_uid(source.series_uid, finding.position_mm)
    return [
        items.text(OBSERVATION, dcm("112039", "Tracking Identifier"), f"Finding {finding.number}"),
        items.uid(OBSERVATION, dcm("112040", "Tracking Unique Identifier"), name),
    ]


def _segment(segments: Segments, segment: int, source: DicomSource) -> list[Dataset]:
    reference = _reference_to(segments)
    reference.ReferencedSegmentNumber = segment
    return [
        items.image(CONTAINS, dcm("121191", "Referenced Segment"), reference),
        items.uid(CONTAINS, dcm("121232", "Source series for segmentation"), source.series_uid),
    ]


def _reference_to(segments: Segments) -> Dataset:
    return reference_to(segments.dataset.SOPClassUID, segments.dataset.SOPInstanceUID)


def _point(finding: ReportedFinding, source: DicomSource) -> Dataset:
    place = find_place(finding.position_mm, source.slices)
    on = items.image(SELECTED, codes.SOURCE, items.slice_reference(source.slices[place.number]))
    return items.point(CONTAINS, dcm("111030", "Image Region"), place.column, place.row, on)


def _site(finding: ReportedFinding) -> Dataset:
    location = finding.location
    lobe, side = codes.lobe_code(location.lobe), codes.side_code(location.side)
    zone = None if lobe else codes.zone_code(location.zone)
    says_side = lobe is codes.MIDDLE_LOBE  # its name does
    sides = [items.code(CONCEPT, codes.LATERALITY, side)] if side and not says_side else []
    return items.code(CONCEPT, codes.FINDING_SITE, lobe or zone or codes.LUNG, sides)


def _algorithm(document: ReportDocument | None) -> list[Dataset]:
    """TID 4019: what found, outlined and measured it; without a document, what outlined and measured alone."""
    parameters = []
    if document is not None:
        provenance = document.provenance
        parameters = [
            f"pipeline {provenance.pipeline_name} {provenance.pipeline_hash}",
            f"operating point {provenance.operating_point}",
            *(f"{used.name} {used.version} sha256 {used.sha256}" for used in provenance.weights),
        ]
    return [
        items.text(CONCEPT, dcm("111001", "Algorithm Name"), MODEL),
        items.text(CONCEPT, dcm("111003", "Algorithm Version"), __version__),
        *(items.text(CONCEPT, dcm("111002", "Algorithm Parameters"), ascii_text(text)) for text in parameters),
    ]


@dataclass(frozen=True, slots=True)
class _Measured:
    """A number of a finding.

    derivation, method: how it came about, where that is to be said.
    """

    name: Concept
    value: float
    unit: Concept
    derivation: Concept | None = None
    method: Concept | None = None


def _number(measured: _Measured) -> Dataset:
    said = (codes.DERIVATION, measured.derivation), (codes.METHOD, measured.method)
    children = [items.code(CONCEPT, name, value) for name, value in said if value is not None]
    return items.numeric(CONTAINS, measured.name, measured.value, measured.unit, children)


def _measurements(finding: ReportedFinding, *, by_network: bool) -> list[_Measured]:
    """All numbers of a finding, as report.json has them; none made up.

    by_network: whether what the networks say of it belongs to it.
    """
    found = _sizes(finding)
    if by_network and finding.malignancy is not None:
        found.append(_percent(codes.local("MALRATING"), finding.malignancy.probability))
    if by_network and finding.nodule_probability is not None:
        found.append(_percent(codes.CERTAINTY, finding.nodule_probability))
    if by_network and finding.detection_score is not None:
        found.append(_Measured(codes.local("DETECTORSCORE"), finding.detection_score, codes.NO_UNIT))
    change = finding.change
    if change is not None and change.doubling_days is not None:
        found.append(_Measured(codes.local("DOUBLINGTIME"), change.doubling_days, codes.DAYS))
    return found


def _sizes(finding: ReportedFinding) -> list[_Measured]:
    size = finding.measurement
    if size is None:
        return []
    found = [
        _Measured(codes.LONG_AXIS, size.long_axis_mm, codes.MM),
        _Measured(codes.SHORT_AXIS, size.short_axis_mm, codes.MM),
        _Measured(codes.DIAMETER, size.mean_diameter_mm, codes.MM, derivation=codes.MEAN),
        _Measured(codes.VOLUME, size.volume_mm3, codes.MM3, method=codes.VOXEL_SUM),
    ]
    if size.mean_hu is not None:
        found.append(_Measured(codes.ATTENUATION, size.mean_hu, codes.HOUNSFIELD, derivation=codes.MEAN))
    if size.volume_sd_mm3 is not None:
        found.append(_Measured(codes.VOLUME, size.volume_sd_mm3, codes.MM3, derivation=codes.STANDARD_DEVIATION))
    if finding.type == "part-solid":
        found += [
            _Measured(codes.local("SOLIDDIAMETER"), size.solid_mean_diameter_mm, codes.MM),
            _Measured(codes.local("SOLIDVOLUME"), size.solid_volume_mm3, codes.MM3),
        ]
    return found


def _percent(name: Concept, share: float) -> _Measured:
    return _Measured(name, round(100 * share, 4), codes.PERCENT)


def _evaluations(finding: ReportedFinding) -> list[Dataset]:
    kind = codes.type_code(finding.type)
    category = codes.category_code(finding.category)
    growth = codes.growth_code(finding.change.state) if finding.change is not None else None
    pairs = ((codes.MORPHOLOGY, kind), (codes.LUNG_RADS, category), (codes.local("GROWTH"), growth))
    return [items.code(CONTAINS, name, value) for name, value in pairs if value is not None]


def _remarks(finding: ReportedFinding) -> list[Dataset]:
    """What has no code: the reason for the category, the table's advice, notices."""
    texts = [
        ("CATEGORYTEXT", finding.category if codes.category_code(finding.category) is None else None),
        ("CATEGORYREASON", finding.category_reason),
        ("MANAGEMENT", finding.management),
        *(("NOTICE", f"{notice.code}: {notice.text}") for notice in finding.notices),
    ]
    return [_text(codes.local(name), text) for name, text in texts if text]


# -- the exam --------------------------------------------------------------------------------------------------------
def _exam(document: ReportDocument, identity: ResultIdentity, signed: SignedBy | None) -> list[Dataset]:
    """What is said of the exam as a whole."""
    said = []
    category = codes.category_code(document.category)
    if category is not None:
        said.append(items.code(CONTAINS, codes.LUNG_RADS, category))
    said += [_text(name, text) for name, text in exam_statements(document, identity, signed)]
    return said + [_text(codes.COMMENT, text, foreign_text) for text in (signed.statements if signed else ())]


def _text(name: Concept, text: str, write: Callable[[str], str] = ascii_text) -> Dataset:
    return items.text(CONTAINS, name, write(text))


def _name_local_codes(report: Dataset) -> None:
    """Say whose the local codes are (PS3.3, SOP Common)."""
    item = Dataset()
    item.CodingSchemeDesignator = codes.LOCAL_SCHEME
    item.CodingSchemeName = "lungscreen local codes"
    item.CodingSchemeResponsibleOrganization = MAKER
    report.CodingSchemeIdentificationSequence = [item]


def _name_predecessor(report: Dataset, identity: ResultIdentity) -> None:
    """The report that this one replaces."""
    earlier = identity.predecessor
    if earlier is None:
        return
    instance, series, study = Dataset(), Dataset(), Dataset()
    instance.ReferencedSOPClassUID = earlier.sop_class_uid
    instance.ReferencedSOPInstanceUID = earlier.sop_instance_uid
    series.SeriesInstanceUID, series.ReferencedSOPSequence = earlier.series_uid, [instance]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = earlier.study_uid, [series]
    report.PredecessorDocumentsSequence = [study]

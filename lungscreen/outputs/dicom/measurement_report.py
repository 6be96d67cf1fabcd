"""Result ─► Comprehensive 3D SR, TID 1500: what was found and measured, for machines and viewers.

Each finding has two groups with one tracking UID: one that points at its segment and holds all numbers, one that points
at a pixel of the slice nearest to it, which is what viewers jump to. What is said of the exam stands in the container
"Qualitative Evaluations" (row 12): a group without coordinates keeps OHIF from showing the report at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from typing import Any

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    CodedConcept,
    Comprehensive3DSR,
    ContainerContentItem,
    ContentSequence,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    ImageRegion,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    PersonObserverIdentifyingAttributes,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary
from pydicom.sr.coding import Code

from lungscreen import __version__
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.common import MAKER, MODEL, SERIES, SignedBy, ascii_text, finish, foreign_text
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.segmentation import Segments
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.dicom.statements import exam_statements
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["build_measurement_report"]

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
    library = source.objects(
        sorted({find_place(f.position_mm, source.slices).number for f in document.findings}) or [0]
    )
    groups = [group for f in document.findings for group in _groups(f, document, source, segments, signed)]
    # highdicom wants a group; a report without findings gets one for a moment
    content = MeasurementReport(
        observation_context=_observer(identity, signed),
        procedure_reported=codes.PROCEDURE,
        imaging_measurements=groups or [_placeholder(source, identity)],
        title=dictionary.DCM.ImagingMeasurementReport,
        referenced_images=library,
    )
    root = content[0]
    if not groups:
        root.ContentSequence = ContentSequence(
            [item for item in root.ContentSequence if item.name != dictionary.DCM.ImagingMeasurements]
        )
    root.ContentSequence.append(_exam(document, identity, signed))
    report = Comprehensive3DSR(
        evidence=[*library, *([segments.dataset] if segments else [])],
        content=root,
        series_instance_uid=identity.uid(kind, "series"),
        series_number=SERIES[kind][0],
        sop_instance_uid=identity.uid(kind),
        instance_number=1,
        manufacturer=MAKER,
        is_complete=True,
        is_final=signed is not None,
        is_verified=signed is not None,
        verifying_observer_name=_person_name(signed) if signed else None,
        verifying_organization=foreign_text(signed.organisation, 64) if signed else None,
    )
    finish(report, kind, source, identity)
    if signed is not None:
        report.SpecificCharacterSet = "ISO_IR 192"  # a person's words may be of any script
        report.VerifyingObserverSequence[0].VerificationDateTime = f"{signed.when.astimezone(UTC):%Y%m%d%H%M%S}+0000"
    _name_local_codes(report)
    _name_predecessor(report, identity)
    return report


def _observer(identity: ResultIdentity, signed: SignedBy | None) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=identity.uid("device"),
        name=MAKER,
        manufacturer_name=MAKER,
        model_name=MODEL,
        serial_number=__version__,
    )
    software = ObserverContext(observer_type=dictionary.DCM.Device, observer_identifying_attributes=device)
    if signed is None:
        return ObservationContext(observer_device_context=software)
    person = PersonObserverIdentifyingAttributes(_person_name(signed))
    reader = ObserverContext(observer_type=dictionary.DCM.Person, observer_identifying_attributes=person)
    return ObservationContext(observer_person_context=reader, observer_device_context=software)


def _person_name(signed: SignedBy) -> str:
    """An account's name in the place of a family name."""
    return f"{''.join(' ' if c in '^=' else c for c in foreign_text(signed.name, 60))}^"


def _groups(
    finding: ReportedFinding,
    document: ReportDocument,
    source: DicomSource,
    segments: Segments | None,
    signed: SignedBy | None,
) -> list[Any]:
    """The group of the segment, where there is one, and that of the point."""
    shared: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(
            uid=finding_uid(source.series_uid, finding.position_mm), identifier=f"Finding {finding.number}"
        ),
        "finding_type": codes.finding_code(finding.is_mass),
        "finding_category": codes.ABNORMAL,
        "finding_sites": _sites(finding),
        "algorithm_id": _algorithm(document),
        "qualitative_evaluations": _evaluations(finding),
    }
    numbers = _measurements(finding)
    if signed is not None and finding.number in signed.sized:
        numbers = numbers[:_AXES]
    segment = segments.numbers.get(finding.number) if segments else None
    groups: list[Any] = []
    if segments is not None and segment is not None:
        referenced = ReferencedSegment(
            sop_class_uid=segments.dataset.SOPClassUID,
            sop_instance_uid=segments.dataset.SOPInstanceUID,
            segment_number=segment,
            source_series=SourceSeriesForSegmentation(source.series_uid),
        )
        groups.append(
            VolumetricROIMeasurementsAndQualitativeEvaluations(
                referenced_segment=referenced, measurements=numbers, **shared
            )
        )
        numbers = numbers[:_ON_THE_LABEL]
    region = _point(finding.position_mm, source)
    groups.append(
        PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, measurements=numbers, **shared)
    )
    for group in groups:
        group[0].ContentSequence.extend(_remarks(finding))
    return groups


def _point(position_mm: Sequence[float], source: DicomSource) -> ImageRegion:
    x, y, z = position_mm
    place = find_place((x, y, z), source.slices)
    one = source.slices[place.number]
    return ImageRegion(
        graphic_type="POINT",
        graphic_data=np.array([[place.column, place.row]]),
        source_image=SourceImageForRegion(
            one.instance.sop_class_uid,
            one.instance.sop_instance_uid,
            None if one.frame is None else [one.frame],
        ),
    )


def _sites(finding: ReportedFinding) -> list[FindingSite]:
    location = finding.location
    lobe, side = codes.lobe_code(location.lobe), codes.side_code(location.side)
    zone = None if lobe else codes.zone_code(location.zone)
    laterality = None if lobe is codes.MIDDLE_LOBE else side  # its name says the side
    return [FindingSite(anatomic_location=lobe or zone or codes.LUNG, laterality=laterality)]


def _algorithm(document: ReportDocument) -> AlgorithmIdentification:
    provenance = document.provenance
    weights = [f"{used.name} {used.version} sha256 {used.sha256}" for used in provenance.weights]
    parameters = [
        f"pipeline {provenance.pipeline_name} {provenance.pipeline_hash}",
        f"operating point {provenance.operating_point}",
        *weights,
    ]
    return AlgorithmIdentification(
        name=MODEL, version=__version__, parameters=[ascii_text(text) for text in parameters]
    )


def _measurements(finding: ReportedFinding) -> list[Measurement]:
    """All numbers of a finding, as report.json has them; none made up."""
    size, found = finding.measurement, []
    if size is not None:
        found += [
            Measurement(codes.LONG_AXIS, size.long_axis_mm, codes.MM),
            Measurement(codes.SHORT_AXIS, size.short_axis_mm, codes.MM),
            Measurement(codes.DIAMETER, size.mean_diameter_mm, codes.MM, derivation=codes.MEAN),
            Measurement(codes.VOLUME, size.volume_mm3, codes.MM3, method=codes.VOXEL_SUM),
        ]
        if size.mean_hu is not None:
            found.append(Measurement(codes.ATTENUATION, size.mean_hu, codes.HOUNSFIELD, derivation=codes.MEAN))
        if size.volume_sd_mm3 is not None:
            found.append(Measurement(codes.VOLUME, size.volume_sd_mm3, codes.MM3, derivation=codes.STANDARD_DEVIATION))
        if finding.type == "part-solid":
            found += [
                Measurement(codes.local("SOLIDDIAMETER"), size.solid_mean_diameter_mm, codes.MM),
                Measurement(codes.local("SOLIDVOLUME"), size.solid_volume_mm3, codes.MM3),
            ]
    if finding.malignancy is not None:
        found.append(_percent(codes.local("MALRATING"), finding.malignancy.probability))
    if finding.nodule_probability is not None:
        found.append(_percent(codes.CERTAINTY, finding.nodule_probability))
    if finding.detection_score is not None:
        found.append(Measurement(codes.local("DETECTORSCORE"), finding.detection_score, codes.NO_UNIT))
    change = finding.change
    if change is not None and change.doubling_days is not None:
        found.append(Measurement(codes.local("DOUBLINGTIME"), change.doubling_days, codes.DAYS))
    return found


def _percent(name: Code, share: float) -> Measurement:
    return Measurement(name, round(100 * share, 4), codes.PERCENT)


def _evaluations(finding: ReportedFinding) -> list[QualitativeEvaluation]:
    kind = codes.type_code(finding.type)
    category = codes.category_code(finding.category)
    growth = codes.growth_code(finding.change.state) if finding.change is not None else None
    pairs = ((codes.MORPHOLOGY, kind), (codes.LUNG_RADS, category), (codes.local("GROWTH"), growth))
    return [QualitativeEvaluation(name, value) for name, value in pairs if value is not None]


def _remarks(finding: ReportedFinding) -> list[TextContentItem]:
    """What has no code: the reason for the category, the table's advice, notices."""
    texts = [
        ("CATEGORYTEXT", finding.category if codes.category_code(finding.category) is None else None),
        ("CATEGORYREASON", finding.category_reason),
        ("MANAGEMENT", finding.management),
        *(("NOTICE", f"{notice.code}: {notice.text}") for notice in finding.notices),
    ]
    return [_text(codes.local(name), text) for name, text in texts if text]


def _exam(document: ReportDocument, identity: ResultIdentity, signed: SignedBy | None) -> ContainerContentItem:
    """What is said of the exam as a whole."""
    container = ContainerContentItem(
        name=CodedConcept.from_code(codes.QUALITATIVE), relationship_type=RelationshipTypeValues.CONTAINS
    )
    items = ContentSequence()
    category = codes.category_code(document.category)
    if category is not None:
        items.append(
            CodeContentItem(name=codes.LUNG_RADS, value=category, relationship_type=RelationshipTypeValues.CONTAINS)
        )
    items.extend(_text(name, text) for name, text in exam_statements(document, identity, signed))
    items.extend(_text(codes.COMMENT, text, foreign_text) for text in (signed.statements if signed else ()))
    container.ContentSequence = items
    return container


def _text(name: Code, text: str, write: Callable[[str], str] = ascii_text) -> TextContentItem:
    return TextContentItem(name=name, value=write(text), relationship_type=RelationshipTypeValues.CONTAINS)


def _placeholder(source: DicomSource, identity: ResultIdentity) -> PlanarROIMeasurementsAndQualitativeEvaluations:
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=identity.uid("none"), identifier="none"),
        referenced_region=_point(source.slices[0].position_mm, source),
    )


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

"""Report ─► ReportDocument: what the stages found, in the words and digits of a result."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np

from lungscreen import RESEARCH_USE
from lungscreen.errors import Notice, Refusal
from lungscreen.geometry import Geometry, Vector
from lungscreen.records import (
    Attributes,
    Finding,
    Location,
    LostNodule,
    Malignancy,
    NoduleChange,
    PastNodule,
    Person,
    PriorExam,
    Report,
    Risk,
    Volume,
)
from lungscreen.results.document import (
    ReportDocument,
    ReportedAcquisition,
    ReportedAdvice,
    ReportedAttributes,
    ReportedChange,
    ReportedEligibility,
    ReportedExam,
    ReportedFinding,
    ReportedLocation,
    ReportedLoss,
    ReportedLungs,
    ReportedMalignancy,
    ReportedMark,
    ReportedMeasurement,
    ReportedNotice,
    ReportedPast,
    ReportedPatient,
    ReportedPerson,
    ReportedPrior,
    ReportedProvenance,
    ReportedRefusal,
    ReportedRisk,
    ReportedSeries,
    ReportedWeights,
)
from lungscreen.results.fields import parts_of
from lungscreen.results.text import readable_date, readable_time
from lungscreen.results.validated import VALIDATED_ON
from lungscreen.results.values import tidied

__all__ = ["build_document", "build_finding", "finding_position"]

T = TypeVar("T")

EMPHYSEMA_HU = -950
"""Below it a voxel of inspired lung counts as emphysema (Gevenois et al. 1996)."""


def build_document(report: Report, key: str) -> ReportDocument:
    """All that is said about a study, numbers rounded to what they are good for, texts bounded and printable.

    key: of the study, which names its folder.

    Errors: `internal-error` for a number that is none where one must be.
    """
    priors = tuple(_prior(prior) for prior in report.priors)
    return tidied(
        ReportDocument(
            research_use=RESEARCH_USE,
            key=key,
            patient=_copy(
                ReportedPatient, report.study.patient, birth_date=readable_date(report.study.patient.birth_date)
            ),
            person=None if report.person is None else _person(report.person),
            exam=_exam(report),
            prior=priors[0] if priors else None,
            priors=priors,
            acquisition=_copy(ReportedAcquisition, report.volume.series.acquisition),
            series=_series(report.volume),
            validated_on=VALIDATED_ON,
            category=report.category,
            category_reason=report.category_reason,
            management=report.management or None,
            doubtful=report.doubtful or None,
            not_assessed=report.not_assessed,
            lungs=_copy(ReportedLungs, report.lungs, below_950_percent=_below_950_percent(report)),
            candidates=len(report.candidates),
            findings=tuple(_finding(finding, report.volume) for finding in report.findings),
            no_nodules=tuple(_mark(mark, report.volume) for mark in report.no_nodules),
            cut_off=report.cut_off,
            lost=tuple(_lost(nodule) for nodule in report.lost),
            notices=_notices(report.notices),
            not_read=tuple(map(_refusal, (*report.study.not_read, *report.volume.refused))),
            provenance=_provenance(report),
        )
    )


def build_finding(finding: Finding, volume: Volume) -> ReportedFinding:
    """One finding as a report has it.

    Errors: `internal-error`, as of `build_document`.
    """
    return tidied(_finding(finding, volume))


def finding_position(finding: Finding, geometry: Geometry) -> Vector:
    """The finding's place in LPS mm, to 0.01 mm: the candidate's centre, or the outline's voxel nearest to it.

    The voxel that holds this place carries the finding's number in `findings.nii.gz`.
    """
    x, y, z = (round(float(c), 2) for c in finding.candidate.centre_mm)
    if finding.outline is None or not finding.outline.mask.any():
        return x, y, z
    voxels = np.argwhere(finding.outline.mask) + np.array(finding.outline.start)
    index = geometry.to_index((x, y, z))
    if (voxels == np.rint(index)).all(axis=1).any():
        return x, y, z
    distance = np.linalg.norm((voxels - index) * np.array(geometry.spacing_mm), axis=1)
    x, y, z = (round(float(c), 2) for c in geometry.to_mm(voxels[distance.argmin()]))
    return x, y, z


def _copy(kind: type[T], *records: Any, **other: Any) -> T:
    """A part of the document from the records that have fields of the same names; `other` are the ones that differ.

    Of two records that have a name, the first counts. What a record that is None would have said is None.
    """
    values = dict(other)
    target: Any = kind
    for part in parts_of(target):
        having = [record for record in records if hasattr(record, part.name)]
        if part.name not in other and having:
            values[part.name] = getattr(having[0], part.name)
        elif part.name not in other and None in records and part.optional:
            values[part.name] = None
    return kind(**values)


def _exam(report: Report) -> ReportedExam:
    exam = report.study.exam
    return _copy(ReportedExam, exam, date=readable_date(exam.date), time=readable_time(exam.time))


def _series(volume: Volume) -> ReportedSeries:
    slices, rows, columns = volume.geometry.shape
    z, y, x = volume.geometry.spacing_mm
    return ReportedSeries(
        series_uid=volume.series_uid,
        kind=volume.series.kind,
        frame_of_reference=volume.geometry.frame_of_reference,
        slices=slices,
        rows=rows,
        columns=columns,
        slice_spacing_mm=z,
        row_spacing_mm=y,
        column_spacing_mm=x,
    )


def _below_950_percent(report: Report) -> float | None:
    """Share of the lungs' voxels below -950 HU, in percent (the CT index of emphysema, LAA-950)."""
    inside = report.volume.hu[report.lungs.mask > 0]
    return 100.0 * float(np.count_nonzero(inside < EMPHYSEMA_HU)) / inside.size if inside.size else None


# -- a finding -------------------------------------------------------------------------------------------------------
def _finding(finding: Finding, volume: Volume) -> ReportedFinding:
    size = finding.measurement
    return _copy(
        ReportedFinding,
        finding,
        finding.grade,
        position_mm=finding_position(finding, volume.geometry),
        location=_location(finding.location),
        type=finding.nodule_type,
        detection_score=finding.candidate.score,
        detector_diameter_mm=finding.candidate.diameter_mm,
        measurement=None if size is None else _copy(ReportedMeasurement, size),
        malignancy=_malignancy(finding.malignancy),
        attributes=_attributes(finding.attributes),
        second_look=finding.second_look or None,
        change=_change(finding.change),
        risks=tuple(map(_risk, finding.grade.risks if finding.grade else ())),
        notices=_notices(finding.notices),
        advice=tuple(_copy(ReportedAdvice, one) for one in (finding.grade.advice if finding.grade else ())),
    )


def _location(location: Location) -> ReportedLocation:
    return _copy(ReportedLocation, location, lobe_is_estimated=True)


def _malignancy(malignancy: Malignancy | None) -> ReportedMalignancy | None:
    return None if malignancy is None else _copy(ReportedMalignancy, malignancy)


def _attributes(attributes: Attributes | None) -> ReportedAttributes | None:
    return None if attributes is None else _copy(ReportedAttributes, attributes)


def _mark(mark: Finding, volume: Volume) -> ReportedMark:
    """A mark that the second look takes for no nodule: where it lies and how large it is, no more."""
    size = mark.measurement
    return _copy(
        ReportedMark,
        mark.location,
        number=mark.number,
        position_mm=finding_position(mark, volume.geometry),
        detection_score=mark.candidate.score,
        nodule_probability=mark.nodule_probability,
        mean_diameter_mm=size.mean_diameter_mm if size else None,
    )


def _prior(prior: PriorExam) -> ReportedPrior:
    return _copy(ReportedPrior, prior, date=readable_date(prior.date), lungs_overlap=prior.overlap)


def _change(change: NoduleChange | None) -> ReportedChange | None:
    return None if change is None else _copy(ReportedChange, change, exams=tuple(map(_past, change.exams)))


def _past(past: PastNodule) -> ReportedPast:
    return _copy(ReportedPast, past, date=readable_date(past.date), type=past.nodule_type, position_mm=past.centre_mm)


def _lost(nodule: LostNodule) -> ReportedLoss:
    return _copy(ReportedLoss, nodule, exam=_past(nodule.past))


def _risk(risk: Risk) -> ReportedRisk:
    return _copy(ReportedRisk, risk)


# -- the person and how it came about --------------------------------------------------------------------------------
def _person(person: Person) -> ReportedPerson:
    """The patient data as they were used."""
    return _copy(
        ReportedPerson,
        person.data,
        prior_exam_date=readable_date(person.data.prior_exam_date),
        risk=_risk(person.risk),
        eligibility=tuple(_copy(ReportedEligibility, programme) for programme in person.programmes),
    )


def _notices(notices: Iterable[Notice]) -> tuple[ReportedNotice, ...]:
    return tuple(_copy(ReportedNotice, notice) for notice in notices)


def _refusal(refusal: Refusal) -> ReportedRefusal:
    return _copy(ReportedRefusal, refusal)


def _provenance(report: Report) -> ReportedProvenance:
    provenance = report.provenance
    return _copy(
        ReportedProvenance,
        provenance,
        weights=tuple(ReportedWeights(**dataclasses.asdict(w)) for w in provenance.weights),
        study_uid=report.study.exam.study_uid,
    )

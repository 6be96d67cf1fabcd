"""ReportDocument ─► the records that the rules take: a report says all of a finding that a rule asks."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import date
from typing import Any, TypeVar, cast

import numpy as np

from lungscreen.days import dicom_day, read_day
from lungscreen.errors import Notice
from lungscreen.records import (
    Acquisition,
    Attributes,
    Candidate,
    ClinicalData,
    Evidence,
    Exam,
    Finding,
    Location,
    LostNodule,
    Lungs,
    Malignancy,
    Measured,
    Measurement,
    NoduleChange,
    PastNodule,
    Patient,
    Rating,
)
from lungscreen.results.document import (
    ReportDocument,
    ReportedAttributes,
    ReportedChange,
    ReportedFinding,
    ReportedPast,
)

__all__ = [
    "acquisition_of",
    "clinical_of",
    "exam_day_of",
    "exam_of",
    "finding_of",
    "lost_of",
    "lungs_of",
    "patient_of",
]

T = TypeVar("T")


def patient_of(document: ReportDocument) -> Patient:
    """Who the header says it is."""
    return _copy(Patient, document.patient, birth_date=dicom_day(document.patient.birth_date))


def exam_of(document: ReportDocument) -> Exam:
    """The visit to the scanner."""
    return _copy(Exam, document.exam, date=dicom_day(document.exam.date))


def acquisition_of(document: ReportDocument) -> Acquisition:
    """How the series was made."""
    return _copy(Acquisition, document.acquisition)


def exam_day_of(document: ReportDocument) -> date | None:
    """The exam's day, None where it is not known."""
    return read_day(document.exam.date)


def clinical_of(document: ReportDocument) -> ClinicalData | None:
    """What is known of the person; None where nothing is."""
    if document.person is None:
        return None
    return _copy(ClinicalData, document.person, prior_exam_date=dicom_day(document.person.prior_exam_date))


def lungs_of(document: ReportDocument) -> Lungs:
    """What the lungs lack. Their voxels are in the pack."""
    volumes = {"right_ml": document.lungs.right_ml, "left_ml": document.lungs.left_ml}
    # a lung of 0 ml is one without air; of a report that names no volume nothing is known
    known = {name: math.nan if value is None else value for name, value in volumes.items()}
    return _copy(Lungs, document.lungs, mask=np.zeros((0, 0, 0), np.uint8), notices=(), **known)


def finding_of(row: ReportedFinding) -> Finding:
    """A finding as the stages left it, before any rule."""
    size = None if row.measurement is None else _copy(Measurement, row.measurement)
    return Finding(
        number=row.number,
        candidate=Candidate(row.position_mm, row.detector_diameter_mm or math.nan, row.detection_score or math.nan),
        location=_copy(Location, row.location),
        measured=Measured(None, size, row.type),
        rating=_rating(row),
        nodule_probability=row.nodule_probability,
        second_look=row.second_look or "",
        is_mass=row.is_mass,
        change=None if row.change is None else _change(row.change),
        notices=tuple(Notice(n.code, n.text) for n in row.notices if n.code in _OF_STAGES),
    )


_OF_STAGES = frozenset({"not-outlined", "outline-uncertain", "cut-by-edge", "outside-volume", "second-look-doubts"})
"""Notices that the stages before the rules give; the rules give theirs anew."""


def lost_of(document: ReportDocument) -> tuple[LostNodule, ...]:
    """Nodules of earlier exams that are no findings now."""
    return tuple(
        LostNodule(_past(one.exam), one.state, one.text, one.expected_mm, outside_scan=_is_outside(one.text))
        for one in document.lost
    )


def _is_outside(text: str) -> bool:
    return "outside" in text


def _rating(row: ReportedFinding) -> Rating | None:
    if row.attributes is None:
        return None
    rated = Malignancy(row.malignancy.probability, row.malignancy.model or "") if row.malignancy else None
    return Rating(cast(Malignancy, rated), _attributes(row.attributes))


def _attributes(row: ReportedAttributes) -> Attributes:
    return _copy(Attributes, row)


def _change(row: ReportedChange) -> NoduleChange:
    return _copy(NoduleChange, row, exams=tuple(map(_past, row.exams)))


def _past(row: ReportedPast) -> PastNodule:
    return _copy(
        PastNodule,
        row,
        date=dicom_day(row.date),
        nodule_type=row.type,
        centre_mm=row.position_mm,
        how=Evidence(row.how) if row.how in set(Evidence) else Evidence.REPORT,
    )


def _copy(kind: type[T], reported: Any, **other: Any) -> T:
    """A record from what a report has under the same names; what it has as null is the record's own "not known"."""
    values: dict[str, Any] = dict(other)
    for one in fields(kind):  # type: ignore[arg-type]
        value = getattr(reported, one.name, None)
        if one.name not in other and value is not None:
            values[one.name] = value
        elif one.name not in other and hasattr(reported, one.name) and "None" in str(one.type):
            values[one.name] = None
    return kind(**values)

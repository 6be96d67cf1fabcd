"""An earlier `report.json` ─► EarlierReport: what it says of its nodules.

The file may come from anywhere; the reader of results bounds and checks it (`lungscreen.results.reader`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungscreen.assess import mean_diameter
from lungscreen.days import dicom_day
from lungscreen.errors import InputError
from lungscreen.records import Evidence, PastNodule, Patient
from lungscreen.results.document import (
    ReportDocument,
    ReportedExam,
    ReportedFinding,
    ReportedMeasurement,
    ReportedPast,
    ReportedPatient,
)
from lungscreen.results.reader import read_document, read_json
from lungscreen.results.values import UnreadableError, from_plain

__all__ = ["EarlierReport", "read_remains", "read_report"]

MOST_MM = 500.0
"""No axis of a nodule is longer."""
MOST_FINDINGS = 1000
"""More are not counted."""
MOST_MM3 = 1e7
"""No nodule is larger: ten litres."""


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """A report of an earlier exam. dates: YYYYMMDD.

    histories: for each nodule, the exams before that one, oldest first and each on a day of its own.
    not_measured: findings that have no possible sizes.
    left_out: entries of histories that are damaged or have impossible dates.
    """

    patient: Patient
    study_uid: str
    series_uid: str
    date: str
    category: str
    nodules: tuple[PastNodule, ...]
    histories: tuple[tuple[PastNodule, ...], ...]
    not_measured: int = 0
    left_out: int = 0
    unread: str = ""
    """Why its nodules are not known though it names the patient; empty where it was read."""


def read_report(path: Path) -> EarlierReport:
    """Read one.

    Errors: `prior-report-invalid`.
    """
    try:
        values = read_json(path)
        document = read_document(values, foreign=True)
    except UnreadableError as error:
        raise InputError("prior-report-invalid", f"cannot be read as a report: {error}", str(path)) from None
    day = dicom_day(document.exam.date)
    kept = [
        (_current(finding, size, document), *_history(finding, day))
        for finding in document.findings
        if (size := finding.measurement) is not None and _is_sound(size)
    ]
    return EarlierReport(
        _patient(document.patient),
        document.exam.study_uid,
        document.series.series_uid,
        day,
        document.category,
        tuple(nodule for nodule, *_ in kept),
        tuple(history for _, history, _ in kept),
        not_measured=len(document.findings) - len(kept),
        left_out=sum(left_out for *_, left_out in kept) + _skipped(values, document),
    )


def read_remains(path: Path) -> EarlierReport | None:
    """Of a report that cannot be read as a whole: its patient and date, so that the exam of this person is held for
    its nodules, at least one, of whom nobody knows; None where not even that can be read.
    """
    try:
        values = read_json(path)
        if values["schema"] != "lungscreen-report":
            return None
        patient = from_plain(ReportedPatient, values["patient"], foreign=True)
        exam = from_plain(ReportedExam, values["exam"], foreign=True)
        findings = values.get("findings")
    except (UnreadableError, KeyError, TypeError, AttributeError):
        return None
    count = min(len(findings), MOST_FINDINGS) if isinstance(findings, list) else 0
    why = "its report is damaged and was not read"
    day = dicom_day(exam.date)
    return EarlierReport(_patient(patient), exam.study_uid, "", day, "", (), (), max(1, count), unread=why)


def _skipped(values: Any, document: ReportDocument) -> int:
    """Entries of histories that the reader left out, since they fit no exam."""
    pairs = zip(values["findings"], document.findings, strict=True)
    return sum(len(raw["change"]["exams"]) - len(read.change.exams) for raw, read in pairs if read.change)


def _patient(patient: ReportedPatient) -> Patient:
    birth_date = dicom_day(patient.birth_date)
    return Patient(patient.patient_id or "", patient.name or "", birth_date, patient.sex or "", patient.issuer or "")


def _current(finding: ReportedFinding, size: ReportedMeasurement, document: ReportDocument) -> PastNodule:
    """A finding of the report that was measured there."""
    return PastNodule(
        date=dicom_day(document.exam.date),
        study_uid=document.exam.study_uid,
        nodule_type=finding.type,
        **_sizes(size),
        centre_mm=finding.position_mm,
        how=Evidence.REPORT,
        category=finding.category or "",
        number=finding.number,
        side=finding.location.side,
        zone=finding.location.zone,
        doubtful=finding.doubtful,
    )


def _history(finding: ReportedFinding, report_date: str) -> tuple[tuple[PastNodule, ...], int]:
    """The exams before the report's own, oldest first, one a day; and how many have no date that can be."""
    pasts = [_past(past) for past in (finding.change.exams if finding.change else ()) if _is_sound(past)]
    by_day = {past.date: past for past in pasts if past.date and past.date < report_date}
    return tuple(by_day[day] for day in sorted(by_day)), len(pasts) - len(by_day)


def _past(past: ReportedPast) -> PastNodule:
    return PastNodule(
        date=dicom_day(past.date),
        study_uid=past.study_uid,
        nodule_type=past.type,
        **_sizes(past),
        centre_mm=past.position_mm,
        how=Evidence.REPORT,
        category=past.category or "",
        number=past.number,
        side=past.side or "unknown",
        zone=past.zone or "unknown",
        doubtful=past.doubtful,
    )


def _sizes(size: ReportedMeasurement | ReportedPast) -> dict[str, Any]:
    """The sizes of a `PastNodule`; a volume or solid part that cannot be is not known."""
    return {
        "long_axis_mm": size.long_axis_mm,
        "short_axis_mm": size.short_axis_mm,
        "mean_diameter_mm": float(mean_diameter(size.long_axis_mm, size.short_axis_mm)),
        "volume_mm3": _within(size.volume_mm3, MOST_MM3) or None,
        "volume_sd_mm3": _within(size.volume_sd_mm3, MOST_MM3) or None,
        "solid_mean_diameter_mm": _within(size.solid_mean_diameter_mm, MOST_MM),
        "solid_volume_mm3": _within(size.solid_volume_mm3, MOST_MM3),
    }


def _is_sound(size: ReportedMeasurement | ReportedPast) -> bool:
    """Whether the axes can be those of a nodule."""
    return 0 < size.short_axis_mm <= size.long_axis_mm <= MOST_MM


def _within(value: float | None, most: float) -> float | None:
    """A size that can be a nodule's."""
    return value if value is not None and 0 <= value <= most else None

"""ClinicalTable + Patient + Exam → the one row that is meant, checked against the DICOM header, completed from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeGuard

from lungscreen.clinical.table import ClinicalRow, ClinicalTable
from lungscreen.clinical.values import OLDEST_YEARS, fit_smoking_to_age, read_age
from lungscreen.days import read_day, whole_years
from lungscreen.errors import Notice
from lungscreen.records import ClinicalData, Exam, Patient

__all__ = ["match_clinical"]

AGE_TOLERANCE_YEARS = 1
"""Whole years by which a row's age may differ from the header's: a birthday in between."""


def match_clinical(
    table: ClinicalTable | None, patient: Patient, exam: Exam
) -> tuple[ClinicalData | None, tuple[Notice, ...]]:
    """What is known of the person at this exam, and what is to be said of it.

    A row belongs to the exam by PatientID and, where the row has one, accession number; of rows without one, those with
    the exam's date come first, then those without a date. Several rows that agree are used, and said; where they
    differ, or a row contradicts the header in sex, age or study date, no row is used. Sex and age that the row lacks
    come from the header (`ClinicalData.from_header`). None where nothing is known.
    """
    ages, notices = _header_ages(patient, exam)
    data = ClinicalData()
    if table is not None:
        row, said = _one_row(table.rows.get(patient.patient_id.strip(), ()), exam)
        notices = (*notices, *said)
        if row is not None:
            contradiction = _contradiction(row, patient, exam, ages)
            if contradiction:
                notices = (*notices, contradiction)
            else:
                data, flags = _without_later_prior(row, exam)
                notices = (*notices, *row.notices, *flags)
    data, said = fit_smoking_to_age(_completed(data, patient, ages), "The patient data, beside the DICOM header's age")
    notices = (*notices, *said)
    return (None if data == ClinicalData() else data), notices


# -- which row -------------------------------------------------------------------------------------------------------
def _one_row(rows: Sequence[ClinicalRow], exam: Exam) -> tuple[ClinicalRow | None, tuple[Notice, ...]]:
    meant = _meant(rows, exam)
    if not meant:
        why = "no row has this PatientID" if not rows else "rows of this PatientID are of other exams"
        return None, (Notice("clinical-unmatched", f"No patient data for this exam: {why}."),)
    if len(meant) == 1:
        return meant[0], ()
    numbers = ", ".join(str(row.number) for row in meant[:10])
    if all(row.data == meant[0].data for row in meant):
        return meant[0], (Notice("clinical-duplicate", f"Rows {numbers} of the patient data say the same: used."),)
    return None, (Notice("clinical-duplicate", f"Rows {numbers} of the patient data differ: none is used."),)


def _meant(rows: Sequence[ClinicalRow], exam: Exam) -> list[ClinicalRow]:
    accession = exam.accession_number.strip()
    named = [row for row in rows if row.accession_number == accession != ""]
    if named:
        return named
    dated = [row for row in rows if row.study_date == exam.date != ""]
    return [row for row in dated if not (row.accession_number and accession)] or _undated(rows, exam)


def _undated(rows: Sequence[ClinicalRow], exam: Exam) -> list[ClinicalRow]:
    """Rows without an accession number that no date tells from the exam's."""
    return [row for row in rows if not row.accession_number and not (row.study_date and exam.date)]


# -- against the header ----------------------------------------------------------------------------------------------
def _differ(said: str | None, header: str) -> bool:
    """Both are known, and they are not the same."""
    return bool(said and header and said != header)


def _contradiction(row: ClinicalRow, patient: Patient, exam: Exam, ages: tuple[float, ...]) -> Notice | None:
    """Sex, age or study date that cannot be this person's and exam's; age by every age that the header gives."""
    wrong = []
    if _differ(row.data.sex, patient.sex if patient.sex in ("F", "M") else ""):
        wrong.append("sex")
    age = row.data.age
    if age is not None and ages and all(_far(age, header) for header in ages):
        wrong.append("age")
    if _differ(row.study_date, exam.date):
        wrong.append("study date")
    if not wrong:
        return None
    text = f"Row {row.number} of the patient data contradicts the DICOM header in {' and '.join(wrong)}: not used."
    return Notice("clinical-contradicts", text)


def _far(one: float, other: float) -> bool:
    return abs(math.floor(one) - math.floor(other)) > AGE_TOLERANCE_YEARS


def _without_later_prior(row: ClinicalRow, exam: Exam) -> tuple[ClinicalData, tuple[Notice, ...]]:
    """A prior exam that is not before this one is no prior."""
    prior = row.data.prior_exam_date
    if not prior or not exam.date or prior < exam.date:
        return row.data, ()
    text = (
        f"Row {row.number} of the patient data: prior_exam_date is not before the exam; the prior counts as not known."
    )
    return replace(row.data, prior_exam_date="", prior_category=""), (Notice("clinical-value", text),)


def _completed(data: ClinicalData, patient: Patient, ages: tuple[float, ...]) -> ClinicalData:
    """Sex and age from the header where the row has none."""
    from_header: list[str] = []
    sex: Literal["F", "M", ""] = data.sex
    if not sex and patient.sex in ("F", "M"):
        sex = "F" if patient.sex == "F" else "M"
        from_header.append("sex")
    age = data.age
    if age is None and ages:
        age = float(math.floor(ages[0]))
        from_header.append("age")
    return replace(data, sex=sex, age=age, from_header=tuple(from_header))


def _is_age(years: float | None) -> TypeGuard[float]:
    return years is not None and 0 <= years <= OLDEST_YEARS


def _header_ages(patient: Patient, exam: Exam) -> tuple[tuple[float, ...], tuple[Notice, ...]]:
    """Ages by birth date and by PatientAge, as far as the header has them; an impossible one is said."""
    born, seen = read_day(patient.birth_date), read_day(exam.date)
    by_birth = float(whole_years(born, seen)) if born and seen else None
    by_field = read_age(exam.age) if exam.age.strip() else None
    ages = tuple(filter(_is_age, (by_birth, by_field)))
    impossible = by_birth not in (None, *ages) or (exam.age.strip() and by_field is None)
    if not impossible:
        return ages, ()
    return ages, (Notice("clinical-age", "The DICOM header's birth date or age is impossible: not used."),)

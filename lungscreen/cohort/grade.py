"""TypedNodule…, exams, ClinicalTable ─► GradedNodule…, GradedExam…: every person's exams from the first one on.

A nodule's category at one exam is its prior category at the next, unless that row says another. A nodule that a later
exam does not list is taken as resolved there, and said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from lungscreen.assess import STAYING, Category, ExamFacts, LungRads, grade_exam, read_category
from lungscreen.clinical import ClinicalTable, match_clinical
from lungscreen.cohort.advice import Opinions, ask_models
from lungscreen.cohort.lesions import Before, GradedLesion, grade_lesion
from lungscreen.cohort.rows import TypedNodule, TypedTable, UnreadRow
from lungscreen.errors import InputError, Notice
from lungscreen.records import NOT_ASSESSED, ClinicalData, Exam, Patient

__all__ = ["GradedExam", "GradedNodule", "grade_cohort"]


MOST_EXAMS = 100
"""Of one person; more are no history of a screening."""


@dataclass(frozen=True, slots=True)
class GradedNodule:
    """A row, what Lung-RADS says of it, and what everything else does."""

    row: TypedNodule
    lesion: GradedLesion
    opinions: Opinions
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class GradedExam:
    """An exam: its category by all of its nodules.

    resolved: names of nodules that earlier exams list and this one does not.
    earlier: day of the exam before.
    """

    patient_id: str
    day: date
    category: Category
    nodules: int
    new_nodules: int
    earlier: date | None = None
    resolved: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(slots=True)
class _Patient:
    """A person's rows, and which of them were refused."""

    patient_id: str
    rows: list[TypedNodule] = field(default_factory=list)
    days: set[date] = field(default_factory=set)
    unread: list[UnreadRow] = field(default_factory=list)


def grade_cohort(
    nodules: TypedTable, exams: TypedTable | None = None, persons: ClinicalTable | None = None
) -> tuple[list[GradedNodule], list[GradedExam]]:
    """Grade every nodule and exam, in the order of patients and days.

    persons: what is known of the people; the row of each exam is looked up as `screen` does.

    Errors: `nodules-invalid`.
    """
    graded: list[GradedNodule] = []
    results: list[GradedExam] = []
    for patient in _patients(nodules, exams):
        for exam, found in _grade_patient(patient, persons):
            results.append(exam)
            graded += found
    return graded, results


def _patients(nodules: TypedTable, exams: TypedTable | None) -> Iterable[_Patient]:
    people: dict[str, _Patient] = {}
    for row in nodules.nodules:
        person = people.setdefault(row.patient_id, _Patient(row.patient_id))
        person.rows.append(row)
        person.days.add(row.day)
    for patient_id, day in exams.exams if exams else ():
        people.setdefault(patient_id, _Patient(patient_id)).days.add(day)
    _add_unread(people, nodules.unread)
    if any(len(person.days) > MOST_EXAMS for person in people.values()):
        raise InputError("nodules-invalid", f"the table is refused: a patient with more than {MOST_EXAMS} exams")
    return [people[name] for name in sorted(people)]


def _add_unread(people: dict[str, _Patient], rows: Iterable[UnreadRow]) -> None:
    """Rows that may hold a nodule, of the persons whom they name."""
    for row in rows:
        if row.patient_id:
            person = people.setdefault(row.patient_id, _Patient(row.patient_id))
            person.unread.append(row)
            if row.day is not None:
                person.days.add(row.day)


def _grade_patient(patient: _Patient, persons: ClinicalTable | None) -> Iterator[tuple[GradedExam, list[GradedNodule]]]:
    history: dict[str, list[Before]] = {}
    earlier: date | None = None
    by_day: dict[date, list[TypedNodule]] = {}
    for row in patient.rows:
        by_day.setdefault(row.day, []).append(row)
    for day in sorted(patient.days):
        rows = by_day.get(day, [])
        unread = [one for one in patient.unread if one.day in (day, None)]
        person, said = match_clinical(persons, Patient(patient.patient_id), Exam("", date=f"{day:%Y%m%d}"))
        found = [
            _grade_row(row, history.get(row.name, []), rows, person or ClinicalData(), patient, earlier, said)
            for row in rows
        ]
        yield (
            _exam(
                patient.patient_id, day, earlier, found, unread, tuple(_missing(history, rows, unread, earlier)), said
            ),
            found,
        )
        for one in found:
            history.setdefault(one.row.name, []).append(Before(one.row, _own_category(one)))
        earlier = day


def _grade_row(
    row: TypedNodule,
    before: Sequence[Before],
    beside: Sequence[TypedNodule],
    person: ClinicalData,
    patient: _Patient,
    earlier: date | None,
    said: tuple[Notice, ...],
) -> GradedNodule:
    before = _with_prior(before, row)
    lesion = grade_lesion(row, before, earlier_exam=earlier is not None)
    lost = [one for one in patient.unread if _may_be_earlier(one, row)]
    if lost:
        lesion = _without_history(lesion, row, lost)
    all_read = not any(one.day in (row.day, None) for one in patient.unread)
    opinions = ask_models(row, lesion, beside, person, all_read=all_read)
    return GradedNodule(row, lesion, opinions, (*row.notices, *lesion.category.notices, *said))


def _with_prior(before: Sequence[Before], row: TypedNodule) -> list[Before]:
    """The earlier rows; what today's row says of the last category counts more than what was worked out."""
    if not before or not row.prior_category:
        return list(before)
    return [*before[:-1], Before(before[-1].row, row.prior_category)]


def _may_be_earlier(unread: UnreadRow, row: TypedNodule) -> bool:
    """Whether a refused row may be an earlier exam of this nodule."""
    return unread.name in (row.name, "") and (unread.day is None or unread.day < row.day)


def _without_history(lesion: GradedLesion, row: TypedNodule, lost: Sequence[UnreadRow]) -> GradedLesion:
    """Without a row that was refused it is neither new nor stable; a benign nodule or a known 4B stays that."""
    if lesion.category.name is LungRads.NEGATIVE or read_category(row.prior_category) in STAYING:
        return lesion
    need = f"row {', '.join(str(one.number) for one in lost[:10])} of the table, which was refused"
    notice = Notice("not-assessed", f"No Lung-RADS category: the rule needs {need}.")
    category = Category(
        LungRads.NOT_ASSESSED, "Lung-RADS v2022", f"{NOT_ASSESSED}: needs {need}", notices=(notice,), needs=(need,)
    )
    return GradedLesion(category, NOT_ASSESSED, f"{NOT_ASSESSED}: needs {need}")


def _own_category(graded: GradedNodule) -> str:
    name = graded.lesion.category.name
    return "" if name in (LungRads.NOT_ASSESSED, LungRads.NOT_CLASSIFIED) else str(name)


def _missing(
    history: dict[str, list[Before]], rows: Sequence[TypedNodule], unread: Sequence[UnreadRow], earlier: date | None
) -> Iterator[str]:
    """Nodules that the exam before lists and this one does not."""
    here = {row.name for row in rows} | {one.name for one in unread}
    yield from (name for name in sorted(history) if name not in here and history[name][-1].row.day == earlier)


def _exam(
    patient_id: str,
    day: date,
    earlier: date | None,
    found: Sequence[GradedNodule],
    unread: Sequence[UnreadRow],
    resolved: tuple[str, ...],
    said: tuple[Notice, ...],
) -> GradedExam:
    """The exam by its nodules; a row that was refused is one that could not be graded."""
    categories = [one.lesion.category for one in found]
    categories += [_refused_row(one) for one in unread]
    new = sum(one.lesion.state == "new" for one in found)
    category = grade_exam(categories, ExamFacts(new_nodules=new))
    notices = (*category.notices, *said)
    if resolved:
        text = f"Nodules that an earlier exam lists and this one does not are taken as resolved: {', '.join(resolved)}."
        notices = (*notices, Notice("taken-as-resolved", text))
    return GradedExam(patient_id, day, category, len(found), new, earlier, resolved, notices)


def _refused_row(row: UnreadRow) -> Category:
    need = f"row {row.number} of the table, which was refused"
    return Category(LungRads.NOT_ASSESSED, "Lung-RADS v2022", f"{NOT_ASSESSED}: needs {need}", needs=(need,))

"""Earlier exams of the same patient, strictly before the exam: the same patient ID and name, nothing that contradicts,
and a birth date or issuer that agrees. `priors_by = "id"` is for archives whose pseudonyms come without birth dates:
there the ID alone says who it is, and every report says so.

What was given as an earlier exam and cannot be compared is said in the report of the patient's exam; one that belongs
to nobody in the input stands in refused.csv.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal, TypeVar

from lungscreen.comparison.reports import EarlierReport, read_remains, read_report
from lungscreen.days import read_day
from lungscreen.errors import InputError, LungscreenError, Notice, Refusal
from lungscreen.records import Candidate, Patient, Study
from lungscreen.series import SeriesConfig, find_series

__all__ = [
    "Prior",
    "PriorTable",
    "PriorsBy",
    "contradictions",
    "match_priors",
    "names_somebody",
    "read_priors",
]

MOST_REPORTS = 100_000
"""Earlier reports that are read at most."""
PriorsBy = Literal["person", "id"]
"""What tells that an earlier exam is of the same person."""

NOBODY = frozenset(
    [
        "anon",
        "anonym",
        "anonymous",
        "anonymised",
        "anonymized",
        "anonymisiert",
        "anonymisierung",
        "anonymize",
        "anonymise",
        "deid",
        "deidentified",
        "nobody",
        "none",
        "noname",
        "noid",
        "unknown",
        "unbekannt",
        "undefined",
        "null",
        "na",
        "patient",
        "name",
        "test",
        "dummy",
        "removed",
        "xxx",
        "default",
    ]
)
"""Words that stand in a header where a name or an ID was taken out or never filled in, with no number."""

SAME_PLACE_MM = 6.0
"""A mark this near to a nodule of the report is on that nodule."""


_Exam = TypeVar("_Exam", Study, EarlierReport)


@dataclass(frozen=True, eq=False)
class Prior:
    """An earlier exam of a patient: its images, its report, or both."""

    date: date
    study: Study | None = None
    report: EarlierReport | None = None

    @property
    def study_uid(self) -> str:
        """UID of the study."""
        return self.study.exam.study_uid if self.study else self.report.study_uid if self.report else ""

    @property
    def unread(self) -> str:
        """Why nothing of it is known but that it was; empty where its images or its report can be read."""
        return self.report.unread if self.report and self.study is None else ""

    def unmarked(self, marks: Sequence[Candidate]) -> list[Candidate]:
        """Marks on the nodules of its report that none of these marks lies on."""
        rows = self.report.nodules if self.report else ()
        return [
            Candidate(row.centre_mm, row.mean_diameter_mm, 0.0)
            for row in rows
            if row.centre_mm is not None
            and all(
                math.dist(mark.centre_mm, row.centre_mm) > max(SAME_PLACE_MM, row.mean_diameter_mm / 2)
                for mark in marks
            )
        ]


@dataclass(frozen=True, eq=False)
class PriorTable:
    """Everything that may be an earlier exam of somebody.

    given: what the user named as earlier exams.
    beside: studies of the input itself, each of which may be an earlier exam of another.
    refused: what could not be read of what was given.
    said: what is to be said of the exam's earlier ones beside what the images say.
    """

    given: tuple[Study, ...] = ()
    beside: tuple[Study, ...] = ()
    reports: tuple[EarlierReport, ...] = ()
    refused: tuple[Refusal, ...] = ()
    said: tuple[Notice, ...] = ()


def read_priors(
    folder: Path | None, studies: Sequence[Study], config: SeriesConfig | None = None, *, skip: Path | None = None
) -> PriorTable:
    """What is in `folder` (images and report.json files, searched recursively; or one report.json), and the input's
    own.

    Errors: `input-missing` where the folder does not exist. What cannot be read is in `refused`.
    """
    if folder is None:
        return PriorTable(beside=tuple(studies))
    if not folder.exists():
        raise InputError("input-missing", "no such folder of earlier exams", str(folder))
    files = [folder] if folder.suffix.lower() == ".json" else sorted(folder.rglob("report.json"))[:MOST_REPORTS]
    reports, refused = _read_reports(files)
    if files == [folder]:
        return PriorTable((), tuple(studies), tuple(reports), tuple(refused))
    inventory = find_series([folder], config, skip=skip)
    unread = [row for row in inventory.refused if row.code not in ("not-dicom", "no-ct")]
    if not inventory.studies and not reports:
        refused.append(Refusal(str(folder), "no-ct", "neither an earlier CT nor an earlier report is in it"))
    return PriorTable(inventory.studies, tuple(studies), tuple(reports), (*refused, *unread))


def _read_reports(files: Sequence[Path]) -> tuple[list[EarlierReport], list[Refusal]]:
    reports, refused = [], []
    for file in files:
        try:
            reports.append(read_report(file))
        except LungscreenError as error:
            refused.append(Refusal(error.where, error.code, error.reason))
            if remains := read_remains(file):
                reports.append(remains)
    return reports, refused


def names_somebody(patient: Patient) -> bool:
    """Whether the ID can be one person's: no blank, no zeros, no row of one character, no word that means nobody."""
    return _is_real(patient.patient_id)


def match_priors(
    table: PriorTable | None, study: Study, priors_by: PriorsBy = "person"
) -> tuple[tuple[Prior, ...], tuple[Notice, ...]]:
    """The earlier exams of this study's patient, the latest first, and what is to be said of what was given.

    priors_by: person: the same ID and name, and an agreeing birth date or issuer. id: the same ID, and nothing else
    that contradicts; said in every report.
    """
    earlier, notices = _match(table, study, priors_by)
    notices += table.said if table is not None else ()
    if priors_by == "person":
        return earlier, notices
    text = "Earlier exams are found by the patient ID alone (priors_by): birth date and issuer are not needed to agree."
    return earlier, (Notice("priors-by-id", text), *notices)


def _match(table: PriorTable | None, study: Study, priors_by: PriorsBy) -> tuple[tuple[Prior, ...], tuple[Notice, ...]]:
    if table is None:
        return (), ()
    mine, this = study.patient.patient_id.strip(), study.exam.study_uid
    others = _others_of(mine, [s for s in (*table.given, *table.beside) if s.exam.study_uid != this])
    reports = _others_of(mine, [report for report in table.reports if report.study_uid != this])
    if not others and not reports:
        return (), _none_is_mine(table, this)
    doubt = _doubt_of_person(study)
    if doubt:
        return (), (Notice("prior-not-compared", doubt),)
    return _usable(study, others, reports, {id(other) for other in table.given}, priors_by)


def _doubt_of_person(study: Study) -> str:
    """Why it is not certain whose exam this is; empty where it is."""
    if _is_image(study) or "two-names-one-id" in {notice.code for notice in study.notices}:
        return "The patient is not known for certain: no earlier exam was compared."
    if not names_somebody(study.patient):
        return "The patient ID stands for nobody in particular: no earlier exam under it was compared."
    return ""


def _day_before(exam: date, text: str) -> date | None:
    """The day that a header names; None where it names none, or none before the exam."""
    day = read_day(text)
    return day if day is not None and day < exam else None


def _others_of(patient_id: str, exams: Sequence[_Exam]) -> list[_Exam]:
    return [exam for exam in exams if _is_mine(exam.patient, patient_id)]


def _none_is_mine(table: PriorTable, study_uid: str) -> tuple[Notice, ...]:
    """What is said where earlier exams were given and none is of this patient."""
    given = {*(study.exam.study_uid for study in table.given), *(report.study_uid for report in table.reports)}
    if not given:
        return ()
    text = "No earlier exam among those that were given is of this patient (by PatientID): none was compared."
    if study_uid in given:
        text = "Of this patient the exam itself was given as an earlier one, and no other: none was compared."
    return (Notice("prior-other-patient", text),)


def _usable(
    study: Study, others: Sequence[Study], reports: Sequence[EarlierReport], given: set[int], priors_by: PriorsBy
) -> tuple[tuple[Prior, ...], tuple[Notice, ...]]:
    exam = read_day(study.exam.date)
    if exam is None:
        text = "The exam has no date in its header: it cannot be told which exams are earlier, and none was compared."
        return (), (Notice("prior-date-missing", text),)
    notices: list[Notice] = []
    found: dict[str, Prior] = {}
    for other in others:
        said = _objection(study.patient, other.patient, exam, other.exam.date, id(other) in given, priors_by)
        notices += said
        day = None if said else _day_before(exam, other.exam.date)
        if day is not None:
            found.setdefault(other.exam.study_uid, Prior(day, other))
    for report in reports:
        said = _objection(study.patient, report.patient, exam, report.date, True, priors_by)
        notices += said
        day = None if said else _day_before(exam, report.date)
        if day is not None:
            there = found.get(report.study_uid)
            found[report.study_uid] = Prior(day, there.study if there else None, report)
    return tuple(sorted(found.values(), key=lambda prior: prior.date, reverse=True)), tuple(dict.fromkeys(notices))


def _objection(mine: Patient, theirs: Patient, exam: date, when: str, given: bool, priors_by: PriorsBy) -> list[Notice]:
    """Why an exam under the same PatientID is not compared; a later one of the input itself goes without saying."""
    day = read_day(when)
    if day is not None and day >= exam and not given:
        return []
    return _other_person(mine, theirs, priors_by) or _not_earlier(exam, day)


def _other_person(mine: Patient, theirs: Patient, priors_by: PriorsBy) -> list[Notice]:
    """Why an exam under the same PatientID may be somebody else's."""
    if _plain_name(mine) != _plain_name(theirs):
        text = "An earlier exam under this patient ID has another name: the two are never compared."
        return [Notice("two-names-one-id", text)]
    if _differ(_digits(mine.birth_date), _digits(theirs.birth_date)) or _differ(mine.sex, theirs.sex):
        text = "An earlier exam under this patient ID has another birth date or sex: it was not compared."
        return [Notice("prior-other-patient", text)]
    if mine.mended != theirs.mended:
        text = "What the headers say of the person had to be shortened, and is not the same: it was not compared."
        return [Notice("prior-not-compared", text)]
    if _differ(mine.issuer, theirs.issuer):
        text = "An exam under this patient ID is of another issuer of IDs: it was not compared."
        return [Notice("prior-not-compared", text)]
    return [] if priors_by == "id" else _nothing_agrees(mine, theirs)


def _nothing_agrees(mine: Patient, theirs: Patient) -> list[Notice]:
    """Said where under one PatientID no name, or neither birth date nor issuer, vouches for one person."""
    if not _is_real(mine.name):
        text = "The exam has the patient ID of another one but no name: they were not compared."
        return [Notice("prior-not-compared", text)]
    same_birth = _digits(mine.birth_date) and _digits(mine.birth_date) == _digits(theirs.birth_date)
    same_issuer = mine.issuer and mine.issuer == theirs.issuer
    if not same_birth and not same_issuer:
        text = "An exam has this patient ID and name, but neither birth date nor issuer agree: it was not compared."
        return [Notice("prior-not-compared", text)]
    return []


def _not_earlier(exam: date, day: date | None) -> list[Notice]:
    if day is None:
        return [Notice("prior-date-missing", "An exam given as earlier has no date: it was not compared.")]
    if day >= exam:
        text = f"An exam given as earlier is of {day}, not before this one: it was not compared."
        return [Notice("prior-newer", text)]
    return []


def _is_mine(patient: Patient, mine: str) -> bool:
    return bool(mine) and patient.patient_id.strip() == mine


def _is_image(study: Study) -> bool:
    """An image file says nothing of a patient: its name stands for one."""
    return all(series.kind == "image" for series in study.series)


def _plain_name(patient: Patient) -> str:
    return re.sub(r"[\^\s=]+", " ", patient.name).strip().casefold()


def _is_real(text: str) -> bool:
    """Whether a name or an ID can be somebody's."""
    characters = re.sub(r"[\W_]+", "", text.casefold())
    one_character = len(set(characters)) == 1 and (len(characters) > 2 or characters in "00xx")
    words = re.findall(r"[^\W\d_]+", text.casefold())
    nobody = "".join(words) in NOBODY or NOBODY.issuperset(words)
    numbered = bool(re.search(r"[1-9]", characters))
    return bool(characters) and not one_character and (numbered or not nobody)


def _differ(one: str, other: str) -> bool:
    """Both are known and not the same."""
    return bool(one and other) and one != other


def contradictions(mine: Patient, theirs: Patient) -> tuple[Notice, ...]:
    """Why two exams under one PatientID are of two people; empty where nothing contradicts."""
    return tuple(_other_person(mine, theirs, "id"))


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)

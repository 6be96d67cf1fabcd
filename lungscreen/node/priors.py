"""Received study ─► archive ─► priors/: earlier exams of the same person are fetched before the study is read.

A study waits for them `wait_s` at most; what is missing then is said in its report. What the archive says of the person
must not contradict; the comparison itself looks again, into the images (`lungscreen.comparison.match_priors`).
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lungscreen.comparison import contradictions, names_somebody
from lungscreen.days import read_day
from lungscreen.dicomfile import parse_dicom
from lungscreen.errors import InputError, LungscreenError, Notice
from lungscreen.logs import LOG
from lungscreen.node.arrivals import Arrivals, received_name
from lungscreen.node.config import NodeConfig
from lungscreen.node.deliveries import UnreachableError
from lungscreen.node.outbox import Outbox
from lungscreen.pseudonyms import Pseudonyms
from lungscreen.records import Patient
from lungscreen.series import read_patient

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Archive", "ArchivedExam", "PriorFetcher", "person_tags", "prior_remarks"]

THREADS = 4
"""Studies for which priors are fetched at once."""
WILDCARDS = frozenset("*?\\")
"""A patient ID that holds one cannot be asked for: other people's would match."""


def person_tags() -> tuple[str, ...]:
    """What tells people and exams apart, in files and in answers of archives."""
    return ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID", "StudyDate")


@dataclass(frozen=True)
class ArchivedExam:
    """A CT exam that an archive has.

    series: UID of each CT series, and its number of instances, 0 where that is not known.
    """

    study_uid: str
    day: date
    patient: Patient
    series: tuple[tuple[str, int], ...]

    @property
    def instances(self) -> int:
        """Of all series."""
        return sum(count for _, count in self.series)


class Archive(Protocol):
    """Who is asked."""

    def find(self, patient_id: str, before: date, until: float) -> list[Dataset]:
        """Studies with CT of a patient ID before a day, as it describes them (`person_tags`, StudyInstanceUID).

        until: monotonic seconds.
        Errors: `UnreachableError`.
        """

    def series_of(self, study_uid: str, until: float) -> tuple[tuple[str, int], ...]:
        """A study's CT series, as in `ArchivedExam`.

        Errors: `UnreachableError`.
        """

    def fetch(self, exam: ArchivedExam, until: float) -> None:
        """Have its series sent or bring them: they are with the arrivals when this returns, as far as they came.

        Errors: `UnreachableError`.
        """


@dataclass
class _Asked:
    """A study whose earlier exams are asked for, until then in monotonic seconds."""

    until: float
    done: bool = False


class PriorFetcher:
    """Fetches; each study in its turn, some at once."""

    def __init__(
        self,
        config: NodeConfig,
        archive: Archive,
        arrivals: Arrivals,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        assert config.priors is not None
        self._config, self._source, self._archive, self._arrivals = config, config.priors, archive, arrivals
        self._clock = clock
        self._asked: dict[str, _Asked] = {}
        self._turn: queue.SimpleQueue[tuple[str, Path]] = queue.SimpleQueue()
        for number in range(THREADS):
            threading.Thread(target=self._work, name=f"priors {number}", daemon=True).start()

    def is_done(self, received: str, folder: Path) -> bool:
        """Whether a study need not wait: its earlier exams are here, or its time is over. The first call begins.

        Errors: `output-failed`.
        """
        if not any(folder.glob("*.dcm")):
            return True
        asked = self._asked.get(received)
        if asked is None:
            self._asked[received] = _Asked(self._clock() + self._source.wait_s)
            self._turn.put((received, folder))
            return False
        if not asked.done and self._clock() >= asked.until:
            asked.done = True
            self._note(received, 0, 0, f"Earlier exams did not come from the archive within {self._source.wait_s:g} s.")
        return asked.done

    def _work(self) -> None:
        while True:
            received, folder = self._turn.get()
            asked = self._asked[received]
            try:
                self._note(received, *self._fetch_for(folder, asked.until))
            except LungscreenError as error:  # the disk is full, or the outbox is locked for long
                LOG.error("priors", extra={"fields": {"code": error.code, "received": received}})
            asked.done = True

    def _fetch_for(self, folder: Path, until: float) -> tuple[int, int, str]:
        """Exams that were found, how many of them are here now, and what is to be said."""
        try:
            header = _header(folder)
            reason = _why_not_asked(header)
            return (0, 0, reason) if reason else self._fetch(header, until)
        except Exception as error:  # an archive's answer makes a library raise whatever its parts raise
            what = getattr(error, "status", type(error).__name__)
            what = f" ({what})" if what else ""
            return 0, 0, f"The archive could not be asked for earlier exams{what}."

    def _fetch(self, header: Dataset, until: float) -> tuple[int, int, str]:
        """As `_fetch_for`.

        Errors: `UnreachableError`.
        """
        patient, this, day = read_patient(header), str(header.StudyInstanceUID), read_day(str(header.StudyDate))
        assert day is not None
        rows = self._archive.find(patient.patient_id, day, until)
        rows = [row for row in rows if _is_earlier(row, patient, this, day)]
        others = [row for row in rows if contradictions(patient, read_patient(row))]
        mine = sorted((row for row in rows if row not in others), key=lambda row: str(row.StudyDate), reverse=True)
        mine = mine[: self._source.most]
        came = sum(self._is_here(row, until) for row in mine)
        said = []
        if came < len(mine):
            said.append(f"{len(mine) - came} of {len(mine)} earlier CT exams did not come from the archive as a whole.")
        if others:
            said.append(
                f"{len(others)} CT exams in the archive under this patient ID have another name, birth date, sex or"
                " issuer: they were not fetched."
            )
        return len(mine), came, " ".join(said)

    def _is_here(self, row: Dataset, until: float) -> bool:
        """Fetch an exam where it is not here yet. Returns whether it is here now, as a whole."""
        study_uid = str(row.StudyInstanceUID)
        try:
            series = self._archive.series_of(study_uid, until)
            exam = ArchivedExam(study_uid, read_day(str(row.StudyDate)) or date.min, read_patient(row), series)
            least = max(exam.instances, 1)
            if self._arrivals.expect(study_uid) < least:
                self._archive.fetch(exam, until)
        except UnreachableError:
            return False
        return self._arrivals.expect(study_uid) >= least

    def _note(self, received: str, found: int, came: int, said: str) -> None:
        outbox = Outbox(self._config.results)
        try:
            outbox.note_priors(received, found, came, said)
        finally:
            outbox.close()
        if said:
            LOG.warning("priors", extra={"fields": {"code": "prior-not-fetched", "received": received}})


def prior_remarks(config: NodeConfig, names: Pseudonyms) -> Callable[[str], tuple[Notice, ...]]:
    """What reports say of earlier exams that did not come, by the study's UID."""

    def remarks(study_uid: str) -> tuple[Notice, ...]:
        try:
            outbox = Outbox(config.results, read_only=True)
        except LungscreenError:
            return (Notice("prior-not-fetched", "It is not known whether earlier exams came from the archive."),)
        try:
            text = outbox.remark(received_name(names, study_uid))
        finally:
            outbox.close()
        return (Notice("prior-not-fetched", text),) if text else ()

    return remarks


def _header(folder: Path) -> Dataset:
    """Of the first file of a received study that can be read."""
    for file in sorted(folder.glob("*.dcm")):
        try:
            return parse_dicom(file.read_bytes(), (*person_tags(), "SOPClassUID", "StudyInstanceUID"))
        except (OSError, InputError):
            continue
    raise UnreachableError("no header")


def _why_not_asked(header: Dataset) -> str:
    patient = read_patient(header)
    if not names_somebody(patient) or patient.mended:
        return "The patient ID stands for nobody in particular: the archive was not asked for earlier exams."
    if WILDCARDS & set(patient.patient_id):
        return "The patient ID has a character that archives take as any: earlier exams were not asked for."
    if read_day(str(header.get("StudyDate", ""))) is None or not str(header.get("StudyInstanceUID", "")):
        return "The exam has no date: the archive was not asked for earlier exams."
    return ""


def _is_earlier(row: Dataset, patient: Patient, this: str, day: date) -> bool:
    """Whether an archive's row is what it was asked for: archives differ in what they match."""
    then = read_day(str(row.get("StudyDate", "")))
    uid = str(row.get("StudyInstanceUID", ""))
    return (
        bool(uid)
        and uid != this
        and then is not None
        and then < day
        and read_patient(row).patient_id.strip() == patient.patient_id.strip()
    )

"""Task ─► Outcome: one study, from its files to its results on disk; whatever goes wrong is its outcome.

Runs in the worker, or in the process itself where one is enough.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lungscreen.batch.tasks import Task
from lungscreen.clinical import ClinicalTable
from lungscreen.comparison import PriorTable
from lungscreen.errors import Refusal
from lungscreen.jobs.guard import describe_failure, study_rows
from lungscreen.logs import LOG
from lungscreen.outputs.write import write_study
from lungscreen.pipeline import Networks, Pipeline, Prepared, prepare_study, screen_study
from lungscreen.records import Report, Study
from lungscreen.results.facts import StudyFacts, facts_of
from lungscreen.results.finished import Finished, finish_report
from lungscreen.results.folder import ResultsFolder
from lungscreen.results.refusals import document_refusals
from lungscreen.series import find_study, group_looks, hash_unchanged
from lungscreen.stopwatch import Stopwatch

__all__ = ["Outcome", "Read", "Work", "judge_task", "read_task", "run_task"]

GONE = frozenset({"file-unreadable", "input-missing"})
"""Codes that a share which went away in the night gives too."""


@dataclass(frozen=True)
class Work:
    """What is the same for every task of a run."""

    out: Path
    pipeline: Pipeline
    digest: str
    """Over pipeline, weights and options: what makes a study new when it changes."""
    clinical: ClinicalTable | None = None
    priors: PriorTable | None = None
    """Earlier exams and reports that were given."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of a task.

    state: done, refused; failed (the software's fault); away (its files cannot be reached, which says nothing of it).
    facts: figures of the study for the morning page; None where it was not read.
    content: a hash of what its files held.
    results: what was written (`ResultsFolder.seal`).
    """

    key: str
    state: str
    code: str = ""
    refusals: tuple[Refusal, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mb: Mapping[str, float] = field(default_factory=dict)
    facts: StudyFacts | None = None
    content: str = ""
    results: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Read:
    """A study that was read and waits for the networks; it may have been read in another process."""

    task: Task
    prepared: Prepared
    priors: PriorTable
    refusals: tuple[Refusal, ...]
    """Of files among the study's that belong to no study."""
    seconds: Mapping[str, float]
    peak_mb: Mapping[str, float]
    content: str = ""
    """A hash of what its files held."""


def run_task(task: Task, work: Work, networks: Future[Networks]) -> Outcome:
    """Read one study and write its results: `read_task`, then `judge_task`.

    Errors: those that concern the run and not the study (`output-failed`, `weights-invalid`) pass.
    """
    read = read_task(task, work)
    return read if isinstance(read, Outcome) else judge_task(read, work, networks)


def read_task(task: Task, work: Work, clock: Stopwatch | None = None) -> Read | Outcome:
    """A study as far as it goes without a network: headers, volume, lungs. An Outcome where it ends there.

    clock: that takes the seconds; one of its own where None.
    Errors: as of `run_task`.
    """
    clock = clock or Stopwatch(memory=True)
    course = _Course(task, clock)
    with course.watched():
        with clock.stage("headers"):
            course.study, others = find_study(task.looks, task.identity, task.names, task.others)
        course.refusals += others
        if course.study is None:
            course.state, course.code = "refused", _study_code(others)
            if not any(row.scope == "study" for row in others):
                course.refusals += _refuse(task, None, course.code, "No series of this study can be read.")
        else:
            with clock.stage("headers"):
                priors = _priors(task, work)
            prepared = prepare_study(course.study, work.pipeline, clock)
            with clock.stage("hash"):
                course.content = hash_unchanged(task.looks)
    if course.state:
        return course.outcome()
    return Read(task, prepared, priors, tuple(course.refusals), clock.seconds, clock.peak_mb, course.content)


def judge_task(read: Read, work: Work, networks: Future[Networks], clock: Stopwatch | None = None) -> Outcome:
    """What was read, looked at by the networks, its results written.

    clock: as of `read_task`.
    Errors: as of `run_task`.
    """
    clock = clock or Stopwatch(memory=True)
    course = _Course(read.task, clock, list(read.refusals), read.prepared.study, content=read.content)
    course.go_on(read)
    with course.watched():
        report = screen_study(read.prepared, work.pipeline, networks, work.clinical, clock, read.priors)
        finished = finish_report(_with_marks(report, read.task, work), read.task.key)
        with clock.stage("write"):
            write_study(finished, ResultsFolder(work.out), work.pipeline.outputs, course.miss)
            course.results = ResultsFolder(work.out).seal(read.task.key)
        course.conclude(finished)
    return course.outcome()


@dataclass
class _Course:
    """How a task goes.

    state: empty while it goes well and is not done.
    """

    task: Task
    clock: Stopwatch
    refusals: list[Refusal] = field(default_factory=list)
    study: Study | None = None
    state: str = ""
    code: str = ""
    facts: StudyFacts | None = None
    content: str = ""
    results: Mapping[str, str] = field(default_factory=dict)
    read_s: float = 0.0
    """What reading took, where that was done before."""
    missed: list[Refusal] = field(default_factory=list)
    """Outputs that could not be made."""

    def go_on(self, read: Read) -> None:
        """Add what reading took; the sum of all is only known at the end."""
        self.read_s = read.seconds["study"]
        self.clock.seconds.update((name, seconds) for name, seconds in read.seconds.items() if name != "study")
        self.clock.peak_mb.update(read.peak_mb)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Whatever goes wrong inside is the study's outcome, but for what concerns the run."""
        try:
            with self.clock.stage("study"):
                yield
        except Exception as error:  # whatever a library throws at a hostile file
            failure = describe_failure(error, self.task.key)
            self.state, self.code = failure.state, failure.code
            self.refusals += _refuse(self.task, self.study, failure.code, failure.reason)

    def miss(self, output: str, error: Exception) -> None:
        """An output could not be made; the report stands.

        Errors: what concerns the run.
        """
        failure = describe_failure(error, self.task.key)
        assert self.study is not None
        exam, patient = self.study.exam, self.study.patient
        self.missed.append(
            Refusal(f"output {output}", failure.code, failure.reason, "file", exam.study_uid, patient.patient_id)
        )

    def conclude(self, finished: Finished) -> None:
        """It was read. What the report says was not read is not said twice."""
        of_report = document_refusals(finished.document)
        told = {(row.where, row.code) for row in of_report}
        kept = [row for row in self.refusals if (row.where, row.code) not in told]
        self.refusals = [*kept, *of_report, *self.missed]
        self.state, self.facts = "done", facts_of(finished.document)

    def outcome(self) -> Outcome:
        """How it ended."""
        if self.code in GONE and not _reachable(self.task):
            self.state = "away"
        seconds = self.clock.seconds
        seconds["study"] = seconds.get("study", 0.0) + self.read_s
        _log(self.task.key, self.state, self.code, self.clock)
        return Outcome(
            self.task.key,
            self.state,
            self.code,
            tuple(self.refusals),
            seconds,
            self.clock.peak_mb,
            self.facts,
            self.content,
            self.results,
        )


def _priors(task: Task, work: Work) -> PriorTable:
    """What was given, and the patient's earlier exams in the inputs."""
    beside = group_looks(task.earlier).studies if task.earlier else ()
    given = work.priors or PriorTable()
    return replace(given, beside=beside, said=task.remarks)


def _noise_of(report: Report) -> float | None:
    """Noise in HU: 1.4826 times the median absolute difference of neighbours in the lungs, over the root of two.

    Differences along a row take anatomy out; the median takes out vessels. None where there is no lung.
    """
    lung = report.lungs.mask > 0
    hu = report.volume.hu
    middle = slice(hu.shape[0] // 4, max(hu.shape[0] * 3 // 4, hu.shape[0] // 4 + 1), 4)
    both = lung[middle, :, 1:] & lung[middle, :, :-1]
    if not both.any():
        return None
    steps = np.abs(hu[middle, :, 1:].astype(np.int32) - hu[middle, :, :-1])[both]
    return round(1.4826 * float(np.median(steps)) / 2**0.5, 2)


def _with_marks(report: Report, task: Task, work: Work) -> Report:
    """The report, saying which input and pipeline it is of: a run that goes on can tell."""
    noise = _noise_of(report)
    options = {**report.provenance.options, "input": task.input, "batch": work.digest}
    if noise is not None:
        options["noise_hu"] = f"{noise:.2f}"
    return replace(report, provenance=replace(report.provenance, options=options))


def _study_code(refusals: Sequence[Refusal]) -> str:
    whole = [row.code for row in refusals if row.scope == "study"]
    return whole[0] if whole else refusals[0].code if refusals else "input-missing"


def _refuse(task: Task, study: Study | None, code: str, reason: str) -> tuple[Refusal, ...]:
    uid = study.exam.study_uid if study else task.identity.study_uid
    patient_id = study.patient.patient_id if study else task.identity.patient_id
    return study_rows(uid, patient_id, code, reason, study.not_read if study else ())


def _reachable(task: Task) -> bool:
    """Whether any of the task's files is there."""
    return any(look.source.path.exists() for look in task.looks)


def _log(key: str, state: str, code: str, clock: Stopwatch) -> None:
    fields = {"key": key, "state": state, "code": code, "seconds": round(clock.seconds.get("study", 0.0), 2)}
    if state == "done":
        LOG.info("study done", extra={"fields": fields})
    else:
        LOG.warning(f"study {state}", extra={"fields": fields})

"""The night: what waits in the ledger goes to the workers, what comes back goes into the ledger.

Scanner ─► Ledger ─► Engine ─► results on disk ─► Ledger ─► worklist, morning page
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Engine, Event
from lungscreen.batch.index import Index
from lungscreen.batch.ledger import FoundStudy, Ledger, TaskRow
from lungscreen.batch.scanner import Scanner
from lungscreen.batch.study import Outcome, Work
from lungscreen.batch.tasks import Task
from lungscreen.codes import CODES
from lungscreen.errors import LungscreenError, Notice, OutputError, Refusal
from lungscreen.logs import LOG
from lungscreen.outputs.tables import StudyRows, write_tables
from lungscreen.results.document import ReportDocument
from lungscreen.results.facts import facts_of, plain_facts
from lungscreen.results.folder import ResultsFolder
from lungscreen.results.refusals import RefusalStore, document_refusals
from lungscreen.results.values import UnreadableError

__all__ = ["Night"]

TABLES_SHARE = 50.0
"""With many thousand studies the tables take a while: a fiftieth of the night at most goes into them."""

TICK_S = 0.5
"""How often the supervisor looks up where nothing happens."""


@dataclass
class _Hold:
    """Why no study is started for the moment."""

    until: float = 0.0
    since: float | None = None
    error: LungscreenError | None = None


@dataclass
class Night:
    """One run. All times are monotonic: a clock that is set back changes nothing."""

    inputs: Sequence[Path]
    work: Work
    ledger: Ledger
    index: Index
    refusals: RefusalStore
    engine: Engine
    scanner: Scanner
    config: BatchConfig
    run: int
    watch: bool = False
    stopped: Callable[[], bool] = lambda: False
    """Asked all the time: whether to finish or put back what is running, and end."""
    write_pages: Callable[[], None] = lambda: None
    """Writes what shows how far the night has come."""
    show_progress: Callable[[], None] = lambda: None
    """Called after every look-up."""
    remarks: Callable[[str], tuple[Notice, ...]] = lambda _: ()
    """What is to be said of a study beside what its files say, by its UID."""
    _attempts: dict[str, int] = field(default_factory=dict)
    _away: dict[str, float] = field(default_factory=dict)
    _away_since: float | None = None
    _hold: _Hold = field(default_factory=_Hold)
    _stop_at: float | None = None
    _tables_at: float = 0.0
    _rows: dict[str, StudyRows] = field(default_factory=dict)

    def work_through(self) -> str:
        """Read what there is to read. Returns how the run ended: finished, or stopped.

        Errors: `output-failed` where the disk stays full, `weights-invalid`, `worker-died` where no worker starts.
        """
        self._tables_at = time.monotonic() + self.config.tables_every_s
        try:
            return self._work()
        except BaseException:
            # a run that ends on its own is no interruption: what was running waits again
            with suppress(LungscreenError):
                self._put_back_all("stopped")
            raise

    def _work(self) -> str:
        while True:
            self._withdraw()
            self._take_found()
            if self._stopping():
                if not self.engine.running() or time.monotonic() >= (self._stop_at or 0.0):
                    self._put_back_all("stopped")
                    return "stopped"
            else:
                self._hand_out()
                if not self.engine.running() and self._nothing_left():
                    return "finished"
            for event in self.engine.poll(TICK_S):
                self._handle(event)
            self.show_progress()
            if time.monotonic() >= self._tables_at:
                self.write_tables()

    @property
    def said(self) -> tuple[Refusal, ...]:
        """What was not read of the earlier exams that were given.

        An archive holds those of people without an exam today too: no fault. Each report says what it is compared with.
        """
        return () if self.work.priors is None else self.work.priors.refused

    def recover(self) -> None:
        """Studies that were running when an earlier run was interrupted: whole results count, the rest waits again."""
        for row in self.ledger.recover(self.config.most_interruptions):
            document = _whole_result(self.work.out, row, self.work.digest)
            if document is not None:
                self.refusals.keep_study(row.key, document_refusals(document))
                self.ledger.finish(
                    row.key, "done", self.work.digest, row.input, seconds=document.provenance.seconds,
                    facts=plain_facts(facts_of(document)), results=ResultsFolder(self.work.out).seal(row.key),
                )  # fmt: skip
            elif row.alone:
                self._fail(row.key, row.input, "interrupted")
            else:
                self.ledger.put_back(row.key)

    def write_tables(self) -> None:
        """Worklist, findings, what was not read, and the pages of the night, as things stand."""
        start = time.monotonic()
        for place in dict.fromkeys(self.inputs):
            self.refusals.keep_input(place, self.index.input_refusals(place))
        self.refusals.keep_strangers(self.index.strangers())
        if self.work.priors is not None:
            self.refusals.keep_priors(self.said)
        write_tables(ResultsFolder(self.work.out), self.refusals.rows(), known=self._rows)
        self.write_pages()
        now = time.monotonic()
        self._tables_at = now + max(self.config.tables_every_s, TABLES_SHARE * (now - start))

    # -- handing out -------------------------------------------------------------------------------------------------
    def _take_found(self) -> None:
        for found in self.scanner.take():
            before = self.ledger.keys()
            fresh = self.ledger.enter(found, self.work.digest)
            self._remove(before - self.ledger.keys())
            fresh += self._reopen_damaged(found)
            self.index.mark_entered([study.key for study in found])
            LOG.info("inputs searched", extra={"fields": {"studies": len(found), "new": fresh}})

    def _withdraw(self) -> None:
        """Studies whose files turned out to be somebody else's: no report of theirs stays behind."""
        self._remove(self.ledger.withdraw(self.scanner.withdrawn()))

    def _remove(self, keys: Iterable[str]) -> None:
        for key in keys:
            ResultsFolder(self.work.out).remove_study(key)
            self.refusals.keep_study(key, ())
            LOG.warning("results withdrawn: the files are another's now", extra={"fields": {"key": key}})

    def _reopen_damaged(self, found: Sequence[FoundStudy]) -> int:
        """Studies that were done and whose results are gone, changed or of another input wait again."""
        folder = ResultsFolder(self.work.out)
        damaged = []
        for row in (self.ledger.get(study.key) for study in found):
            if row is None or row.state != "done":
                continue
            whole = (
                folder.is_intact(row.key, row.results)
                if row.results
                else _whole_result(folder.path, row, self.work.digest)
            )
            if not whole:
                damaged.append(row.key)
                LOG.warning("results are gone or were changed: reading again", extra={"fields": {"key": row.key}})
        return self.ledger.reopen(damaged)

    def _hand_out(self) -> None:
        while (worker := self.engine.free()) and not self._held():
            row = self._next()
            if row is None:
                return
            attempt = self.ledger.start(row.key, self.run, worker)
            self._attempts[row.key] = attempt
            task = self.index.task(row.key, row.input, attempt)
            self.engine.submit(replace(task, remarks=self.remarks(task.identity.study_uid)))

    def _next(self) -> TaskRow | None:
        """The study to start now. One that is run alone waits until nothing else runs, and nothing starts beside it."""
        now = time.monotonic()
        away = [key for key, until in self._away.items() if until > now]
        row = self.ledger.next_waiting([*away, *self.scanner.unfinished()])
        running = [self.ledger.get(task.key) for task in self.engine.running()]
        if row is None or any(other is not None and other.alone for other in running):
            return None
        return None if row.alone and running else row

    def _held(self) -> bool:
        """Whether the disk is too full to start anything.

        Errors: `output-failed` where it stays so.
        """
        now = time.monotonic()
        if now < self._hold.until:
            return True
        free_mb = shutil.disk_usage(self.work.out).free / 2**20
        if free_mb >= self.config.keep_free_mb:
            if self._hold.error is None:
                self._hold.since = None
            self._hold.error = None
            return False
        self._wait_for_space(OutputError("output-failed", f"only {free_mb:.0f} MB are free", str(self.work.out)))
        return True

    def _wait_for_space(self, error: LungscreenError) -> None:
        now = time.monotonic()
        if self._hold.since is None:
            self._hold.since = now
            LOG.error("results cannot be written: waiting", extra={"fields": {"code": error.code}})
        if now - self._hold.since >= self.config.full_limit_s:
            raise error
        self._hold.until, self._hold.error = now + self.config.full_wait_s, error

    def _nothing_left(self) -> bool:
        """Whether the run is over: everything searched and nothing waiting, but for what cannot be reached any more."""
        if self.watch or self.scanner.busy():
            return False
        if self.ledger.counts()["waiting"] == 0:
            return True
        if self._away_since is None or len(self._away) < self.ledger.counts()["waiting"]:
            return False
        return time.monotonic() - self._away_since >= self.config.away_limit_s

    def _stopping(self) -> bool:
        if self._stop_at is None and self.stopped():
            self._stop_at = time.monotonic() + self.config.grace_s
            self.scanner.stop()
            LOG.warning("stopping", extra={"fields": {"running": len(self.engine.running())}})
        return self._stop_at is not None

    def _put_back_all(self, outcome: str) -> None:
        running = self.engine.running()
        self.engine.close()
        for task in running:
            self.ledger.put_back(task.key, self._attempts.pop(task.key, None), outcome)

    # -- what comes back ---------------------------------------------------------------------------------------------
    def _handle(self, event: Event) -> None:
        if event.kind == "fatal":
            raise event.error or AssertionError("a fatal event carries its error")
        task = event.task
        if task is None:
            return
        attempt = self._attempts.pop(task.key, None)
        if event.kind == "full":
            self.ledger.put_back(task.key, attempt, "not written")
            self._wait_for_space(event.error or OutputError("output-failed", "results cannot be written"))
        elif event.kind == "died":
            self._count_attempt(task, event.code, attempt)
        elif event.kind == "lost":
            self._lose(task, attempt)
        elif event.outcome is not None:
            self._conclude(task, event.outcome, attempt)

    def _conclude(self, task: Task, outcome: Outcome, attempt: int | None) -> None:
        if outcome.state == "away":
            self.ledger.put_back(task.key, attempt, "away")
            now = time.monotonic()
            self._away[task.key] = now + self.config.full_wait_s
            self._away_since = self._away_since if self._away_since is not None else now
            return
        self._away.pop(task.key, None)
        self._away_since = None
        if outcome.state == "failed":
            self._count_attempt(task, outcome.code, attempt, outcome)
            return
        self._finish(task, outcome, attempt)

    def _finish(self, task: Task, outcome: Outcome, attempt: int | None) -> None:
        """Refusals first: a crash between the two leaves the study running, and it is looked at again."""
        self.index.keep_content(task.key, outcome.content if outcome.state == "done" else "")
        self.refusals.keep_study(task.key, outcome.refusals)
        self.ledger.finish(
            task.key,
            "done" if outcome.state == "done" else "refused" if outcome.state == "refused" else "failed",
            self.work.digest,
            task.input,
            code=outcome.code,
            seconds=outcome.seconds,
            peak_mb=outcome.peak_mb,
            facts=plain_facts(outcome.facts),
            results=outcome.results,
            attempt=attempt,
        )

    def _count_attempt(self, task: Task, code: str, attempt: int | None, outcome: Outcome | None = None) -> None:
        if self.ledger.count_attempt(task.key, code, self.config.most_attempts, attempt):
            return
        if outcome is not None:
            self._finish(task, outcome, attempt)
        else:
            self._fail(task.key, task.input, code)

    def _lose(self, task: Task, attempt: int | None) -> None:
        """Its machine went: an interruption, as if the whole night had been interrupted for it."""
        if not self.ledger.count_interruption(task.key, self.config.most_interruptions, attempt):
            self._fail(task.key, task.input, "interrupted")

    def _fail(self, key: str, input_hash: str, code: str) -> None:
        """A study that no worker came back from."""
        person = self.index.task(key, input_hash, 0).identity
        row = Refusal(person.study_uid, code, CODES[code].meaning, "study", person.study_uid, person.patient_id)
        self.refusals.keep_study(key, [row])
        self.ledger.finish(key, "failed", self.work.digest, input_hash, code=code)
        LOG.error("study failed", extra={"fields": {"key": key, "code": code}})


def _whole_result(out: Path, row: TaskRow, digest: str) -> ReportDocument | None:
    """The study's report, where it is of the input and pipeline that were running."""
    try:
        document = ResultsFolder(out).read(row.key)
    except UnreadableError:
        return None
    options = document.provenance.options
    return document if (options.get("input"), options.get("batch")) == (row.input, digest) else None

"""`run_batch`: opens what a night needs, runs it, and closes it whatever happens."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lungscreen import __version__
from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Engine, InProcess, Models, shipped_models
from lungscreen.batch.index import Index
from lungscreen.batch.keys import Pseudonyms, load_key
from lungscreen.batch.ledger import Ledger
from lungscreen.batch.lock import hold_lock
from lungscreen.batch.machine import look_at_machine, share_out
from lungscreen.batch.progress import quiet_progress
from lungscreen.batch.scanner import Scanner
from lungscreen.batch.study import Work
from lungscreen.batch.supervisor import Night
from lungscreen.batch.workers import Processes
from lungscreen.clinical import ClinicalTable
from lungscreen.config import config_hash
from lungscreen.errors import OutputError, Refusal, UsageError
from lungscreen.pipeline import Pipeline
from lungscreen.report import clean_leftovers

__all__ = ["BatchRun", "Ended", "is_complete", "prepare_output", "run_batch"]


@dataclass(frozen=True)
class BatchRun:
    """What is to be read, and how."""

    inputs: Sequence[Path]
    out: Path
    pipeline: Pipeline
    clinical: ClinicalTable | None = None
    save_masks: bool = False
    config: BatchConfig = field(default_factory=BatchConfig)
    key_file: Path | None = None
    identified: bool = False
    watch: bool = False
    engine: str = "local"
    """local: worker processes; here: in this process, one study at a time."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: finished or stopped; and what became of the studies of its inputs."""

    how: str
    states: dict[str, int]
    refusals: tuple[Refusal, ...]

    @property
    def studies(self) -> int:
        """Studies in the inputs."""
        return sum(self.states.values())

    @property
    def complete(self) -> bool:
        """Whether everything that is a study, or should have been one, was read."""
        return 0 < self.studies == self.states["done"] and is_complete(self.refusals)


NEVER_MEANT = frozenset({"not-dicom", "not-ct", "localizer", "series-other-chosen", "duplicate-files", "series-part"})
"""Codes of what is in a healthy folder too and nobody meant to have read: it leaves a run complete."""


def is_complete(refusals: Iterable[Refusal]) -> bool:
    """Whether nothing is among them that somebody may have meant to have read."""
    return all(refusal.code in NEVER_MEANT or refusal.scope == "series" for refusal in refusals)


def run_batch(run: BatchRun, *, stopped: Callable[[], bool] = lambda: False, models: Models | None = None) -> Ended:
    """Read every study of the inputs that is new, and go on where an earlier run into the same folder left off.

    stopped: asked all the time; once true, what is running is finished or put back within `grace_s`.
    models: other networks than the shipped ones.

    Errors: `usage`, `key-invalid`, `key-differs`, `out-in-use`, `ledger-invalid`, `output-failed`, `weights-invalid`,
    `worker-died`.
    """
    names = load_key(run.key_file, run.identified)
    prepare_output(run.out, run.inputs)
    quiet_progress()
    with hold_lock(run.out):
        clean_leftovers(run.out)
        models = models or shipped_models(run.pipeline)
        work = Work(run.out, run.pipeline, _digest(run, models), run.clinical, run.save_masks)
        ledger = Ledger(run.out)
        try:
            ledger.check_key(names.fingerprint, names.identified)
            return _pass_by(run, work, models, names, ledger, stopped)
        finally:
            ledger.close()


def prepare_output(out: Path, inputs: Sequence[Path]) -> None:
    """Make `out`, and see that it is none of the inputs.

    Errors: `usage`, `output-failed`.
    """
    if out.resolve() in {path.resolve() for path in inputs}:
        raise UsageError("usage", "the results cannot go into the input itself: name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-failed", f"cannot make the folder: {error.strerror}", str(out)) from None


def _pass_by(
    run: BatchRun, work: Work, models: Models, names: Pseudonyms, ledger: Ledger, stopped: Callable[[], bool]
) -> Ended:
    def open_index() -> Index:
        return Index(run.out, names, run.pipeline.series, run.clinical)

    index = open_index()
    engine = _start_engine(run, work, models)
    scanner = Scanner(open_index, run.inputs, run.config, run.watch)
    number = ledger.begin_run(**_about(run, work, models))
    night = Night(run.inputs, work, ledger, index, engine, scanner, run.config, number, run.watch, stopped)
    how = "failed"
    try:
        night.recover()
        scanner.start()
        how = night.pass_by()
        night.write_tables()
        keys = index.keys_of(run.inputs)
        states = ledger.counts(keys)
        return Ended(how, states, tuple(index.refusals(run.inputs)))
    finally:
        engine.close()
        scanner.close()
        index.close()
        ledger.end_run(number, how)


def _start_engine(run: BatchRun, work: Work, models: Models) -> Engine:
    if run.engine == "here":
        return InProcess(work, models)
    workers, threads = share_out(look_at_machine(), run.config)
    return Processes(work, models, run.config, workers, threads)


def _digest(run: BatchRun, models: Models) -> str:
    """Over all that a result depends on beside its input: another digest makes every study new."""
    parts = (config_hash(run.pipeline), *(w.sha256 for w in models.used), f"masks {run.save_masks}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _about(run: BatchRun, work: Work, models: Models) -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return {
        "user": user,
        "host": socket.gethostname(),
        "software": __version__,
        "pipeline": work.digest,
        "pipeline_name": run.pipeline.name,
        "pipeline_hash": config_hash(run.pipeline),
        "weights": json.dumps([asdict(w) for w in models.used]),
        "engine": run.engine,
    }

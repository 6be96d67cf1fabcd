"""`run_batch`: opens what a night needs, runs it, and closes it whatever happens."""

from __future__ import annotations

import getpass
import hashlib
import json
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lungscreen import __version__
from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Engine, InProcess, Models, shipped_models
from lungscreen.batch.index import Index, Turn
from lungscreen.batch.ledger import Ledger
from lungscreen.batch.lock import hold_lock
from lungscreen.batch.machine import look_at_machine, memory_limit_mb, share_out
from lungscreen.batch.metrics import write_metrics
from lungscreen.batch.night import write_night
from lungscreen.batch.progress import progress_bar, quiet_progress
from lungscreen.batch.scanner import Scanner
from lungscreen.batch.study import Work
from lungscreen.batch.supervisor import Night
from lungscreen.batch.workers import Processes
from lungscreen.clinical import ClinicalTable
from lungscreen.comparison import read_priors
from lungscreen.errors import Notice, Refusal, UsageError
from lungscreen.files import LEDGER_FILE
from lungscreen.jobs.studies import is_complete
from lungscreen.pipeline import Pipeline, pipeline_hash
from lungscreen.pseudonyms import Pseudonyms, load_key
from lungscreen.results.folder import ResultsFolder
from lungscreen.results.refusals import RefusalStore

__all__ = ["BatchRun", "Ended", "run_batch"]


@dataclass(frozen=True)
class BatchRun:
    """What is to be read, and how."""

    inputs: Sequence[Path]
    out: Path
    pipeline: Pipeline
    clinical: ClinicalTable | None = None
    priors: Path | None = None
    """Folder of earlier exams and reports; those in the inputs are compared without it."""
    config: BatchConfig = field(default_factory=BatchConfig)
    key_file: Path | None = None
    identified: bool = False
    watch: bool = False
    metrics: Path | None = None
    """Where the metrics go; into `out` where None."""
    shard: tuple[int, int] = (1, 1)
    """Which part of how many: this run reads the studies of its part, into a folder of its own below `out`."""
    companions: Sequence[Path] = ()
    """Folders of earlier exams that may grow while the run is at work: compared with, never read themselves."""
    remarks: Callable[[str], tuple[Notice, ...]] = lambda _: ()
    """What is to be said of a study beside what its files say, by its UID, when it is read."""
    engine: str = "local"
    """local: worker processes; here: in this process, one study at a time; ray: workers on the nodes of a Ray
    cluster."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: finished or stopped; and how the studies of its inputs ended."""

    how: str
    states: dict[str, int]
    refusals: tuple[Refusal, ...]

    @property
    def studies(self) -> int:
        """Studies in the inputs."""
        return sum(self.states.values())

    @property
    def left(self) -> int:
        """Studies that still wait."""
        return self.states["waiting"] + self.states["running"]

    @property
    def complete(self) -> bool:
        """Whether everything that is a study, or should have been one, was read."""
        return 0 < self.studies == self.states["done"] and is_complete(self.refusals)


def run_batch(run: BatchRun, *, stopped: Callable[[], bool] = lambda: False, models: Models | None = None) -> Ended:
    """Read every study of the inputs that is new, and go on where an earlier run into the same folder left off.

    stopped: asked all the time; once true, what is running is finished or put back within `grace_s`.
    models: other networks than the shipped ones.

    Errors: `usage`, `key-invalid`, `key-differs`, `out-in-use`, `ledger-invalid`, `output-failed`, `weights-invalid`,
    `worker-died`, `cluster-unreachable`, `node-differs`.
    """
    names = load_key(run.key_file, run.identified)
    if run.shard[1] > 1:
        _check_shards(run, names)
        run = replace(run, out=run.out / f"shard-{run.shard[0]}-of-{run.shard[1]}")
    folder = ResultsFolder(run.out)
    folder.make(run.inputs, may_be_away=run.watch)
    quiet_progress()
    with hold_lock(run.out):
        folder.clean()
        models = models or shipped_models(run.pipeline)
        priors = read_priors(run.priors, (), run.pipeline.series, skip=run.out) if run.priors else None
        work = Work(run.out, run.pipeline, _digest(run, models), run.clinical, priors)
        ledger = Ledger(run.out)
        try:
            ledger.check_key(names.fingerprint, names.identified)
            return _work_through(run, work, models, names, ledger, stopped)
        finally:
            ledger.close()


def _work_through(
    run: BatchRun, work: Work, models: Models, names: Pseudonyms, ledger: Ledger, stopped: Callable[[], bool]
) -> Ended:
    turn = Turn()

    def open_index() -> Index:
        return Index(run.out, names, run.pipeline.series, run.clinical, work.priors, turn, run.shard, run.companions)

    engine = _start_engine(run, work, models)
    try:
        index = open_index()
        store = RefusalStore(run.out)
    except BaseException:
        engine.close()
        raise
    scanner = Scanner(open_index, (*run.inputs, *run.companions), run.config, run.watch)
    number = ledger.begin_run(**_about(run, work, models))

    def write_pages() -> None:
        write_night(ledger, run.out, names.fingerprint)
        write_metrics(ledger, run.out, run.metrics)

    night = Night(
        run.inputs,
        work,
        ledger,
        index,
        store,
        engine,
        scanner,
        run.config,
        number,
        run.watch,
        stopped,
        write_pages,
        progress_bar(ledger.counts),
        run.remarks,
    )
    how = "failed"
    try:
        night.recover()
        scanner.start()
        how = night.work_through()
        night.write_tables()
        keys = set(index.keys_of(run.inputs))
        refusals = (*store.of_run(run.inputs, keys), *night.said)
        return Ended(how, ledger.counts(keys), refusals)
    finally:
        engine.close()
        scanner.close()
        index.close()
        store.close()
        ledger.end_run(number, how)


def _check_shards(run: BatchRun, names: Pseudonyms) -> None:
    """All shards must share one key, or some studies would be read twice and others never.

    Errors: `usage`, `key-differs`, `ledger-invalid`.
    """
    if not 1 <= run.shard[0] <= run.shard[1]:
        raise UsageError("usage", f"expected a shard from 1/{run.shard[1]} to {run.shard[1]}/{run.shard[1]}")
    for path in sorted(run.out.glob(f"shard-*-of-*/{LEDGER_FILE}")):
        if not path.parent.name.endswith(f"-of-{run.shard[1]}"):
            raise UsageError("usage", "this folder was begun with another number of shards", str(run.out))
        ledger = Ledger(path.parent, read_only=True)
        try:
            if ledger.key_fingerprint() not in ("", names.fingerprint):
                raise UsageError("key-differs", "another shard was begun with another key file", str(path.parent))
        finally:
            ledger.close()


def _start_engine(run: BatchRun, work: Work, models: Models) -> Engine:
    if run.engine == "here":
        return InProcess(work, models)
    if run.engine == "ray":
        from lungscreen.batch.ray_cluster import connect_cluster
        from lungscreen.batch.ray_engine import RayEngine

        return RayEngine(work, models, run.config, connect_cluster())
    machine = look_at_machine()
    workers, threads = share_out(machine, run.config)
    return Processes(work, models, run.config, workers, threads, memory_limit_mb(machine, run.config, workers))


def _digest(run: BatchRun, models: Models) -> str:
    """Over all that a result depends on beside its input: another digest makes every study new."""
    parts = (pipeline_hash(run.pipeline), *(w.sha256 for w in models.used), *run.pipeline.outputs.names)
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
        "pipeline_hash": pipeline_hash(run.pipeline),
        "weights": json.dumps([asdict(w) for w in models.used]),
        "engine": run.engine,
    }

"""Worker processes: each loads the networks once and reads one study after the other.

A worker is a process of its own, so that a crash in a codec or too little memory costs one attempt of one study. It ends
with the supervisor, however that ends.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Event, Models, carry_out
from lungscreen.batch.progress import quiet_progress
from lungscreen.batch.study import Work
from lungscreen.batch.tasks import Task
from lungscreen.errors import LungscreenError
from lungscreen.logs import LOG, start_logs
from lungscreen.pipeline import Networks

__all__ = ["Processes"]

MOST_FALSE_STARTS = 3
"""Workers in a row that die before they are ready: then it is no study's fault."""

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent ends."""

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"
"""The kernel ends processes of a high score first (proc(5))."""

_LEAVE_S = 3.0
"""How long an idle worker may take to end by itself."""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


@dataclass
class _Worker:
    """One process, as the supervisor sees it."""

    name: str
    process: SpawnProcess
    pipe: Connection
    since: float
    """Monotonic: when it was started, or took up its task."""
    ready: bool = False
    task: Task | None = None


class Processes:
    """`Engine` of this machine: as many workers as were asked for, replaced when they die."""

    def __init__(self, work: Work, models: Models, config: BatchConfig, workers: int, threads: int) -> None:
        self._work = work
        self._models = models
        self._config = config
        self._threads = threads
        self._context = multiprocessing.get_context("spawn")
        self._made = 0
        self._false_starts = 0
        self._workers = [self._make() for _ in range(workers)]

    def free(self) -> str:
        """A worker that is ready and has no task."""
        return next((worker.name for worker in self._workers if worker.ready and worker.task is None), "")

    def submit(self, task: Task) -> None:
        """Give a task to a worker."""
        worker = next(w for w in self._workers if w.ready and w.task is None)
        worker.task, worker.since = task, time.monotonic()
        with suppress(OSError):  # it has died: the next poll says so
            worker.pipe.send(task)

    def running(self) -> list[Task]:
        """Tasks that workers have."""
        return [worker.task for worker in self._workers if worker.task]

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for a message, a death or the time limit of a study."""
        wait([handle for w in self._workers for handle in (w.pipe, w.process.sentinel)], timeout_s)
        events: list[Event] = []
        for place, worker in enumerate(self._workers):
            said = self._hear(worker)
            events += said
            code = self._what_ended(worker)
            if not code:
                continue
            events += self._bury(worker, code)
            if not any(event.kind == "fatal" for event in events):
                self._workers[place] = self._make()
        return events

    def close(self) -> None:
        """End every worker: one that has nothing to do by itself, one at work by force."""
        for worker in self._workers:
            if worker.task or not worker.ready:
                worker.process.kill()
            worker.pipe.close()
        for worker in self._workers:
            worker.process.join(_LEAVE_S)
            worker.process.kill()
            worker.process.join()
        self._workers = []

    def _make(self) -> _Worker:
        self._made += 1
        name = f"worker-{self._made}"
        here, there = self._context.Pipe()
        words = (there, self._work, self._models, os.getpid(), _log_form())
        process = self._context.Process(target=work_on, args=words, name=name, daemon=True)
        with _thread_variables(self._threads):
            process.start()
        there.close()
        return _Worker(name, process, here, time.monotonic())

    def _hear(self, worker: _Worker) -> list[Event]:
        """What a worker has to say."""
        events = []
        try:
            while worker.pipe.poll():
                event = worker.pipe.recv()
                if event is None:
                    worker.ready, self._false_starts = True, 0
                    continue
                worker.task = None
                events.append(event)
        except (EOFError, OSError):
            pass
        return events

    def _what_ended(self, worker: _Worker) -> str:
        """The code of what ended a worker; empty while it is well. One that takes too long is ended here."""
        if not worker.process.is_alive():
            return "worker-died"
        taken = time.monotonic() - worker.since
        if (worker.task and taken > self._config.study_limit_s) or (
            not worker.ready and taken > self._config.load_limit_s
        ):
            worker.process.kill()
            return "time-limit"
        return ""

    def _bury(self, worker: _Worker, code: str) -> list[Event]:
        worker.process.join()
        events = self._hear(worker)
        worker.pipe.close()
        LOG.warning(
            "worker ended", extra={"fields": {"worker": worker.name, "code": code, "exit": worker.process.exitcode}}
        )
        if worker.task:
            return [*events, Event("died", worker.task, code=code)]
        if not worker.ready:
            self._false_starts += 1
        if self._false_starts >= MOST_FALSE_STARTS:
            reason = f"{MOST_FALSE_STARTS} workers in a row ended before they were ready"
            return [*events, Event("fatal", error=LungscreenError("worker-died", reason))]
        return events


def work_on(pipe: Connection, work: Work, models: Models, parent: int, log_form: bool | None) -> None:
    """What a worker does: load the networks, then one task after the other, until the pipe closes."""
    _end_with(parent)
    with suppress(OSError):  # where memory runs out, a worker goes and the supervisor stays
        _OOM_SCORE.write_text(_FIRST_TO_GO, encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if log_form is not None:
        start_logs(log_form)
    quiet_progress()
    networks: Future[Networks] = Future()
    try:
        networks.set_result(models.load(work.pipeline))
    except LungscreenError as error:
        pipe.send(Event("fatal", error=error))
        return
    pipe.send(None)
    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        pipe.send(carry_out(task, work, networks))


def _end_with(parent: int) -> None:
    """Die when the supervisor dies, be it by SIGKILL: nobody else would stop this process, or read what it says."""
    with suppress(OSError, AttributeError):  # no Linux: the worker ends when it next reads its pipe
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    if os.getppid() != parent:
        os._exit(1)


def _log_form() -> bool | None:
    """How this process logs, so that workers do it alike: JSON, text, or not at all."""
    formatters: list[Any] = [handler.formatter for handler in LOG.handlers]
    return type(formatters[0]).__name__ == "_Json" if formatters else None


@contextmanager
def _thread_variables(threads: int) -> Iterator[None]:
    """Libraries read these once, when they are loaded: they must be in the worker's environment from the start."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

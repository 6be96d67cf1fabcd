"""Worker processes: each reads and judges one study after the other.

    task ─► reader: headers, volume, lungs ─► parcel ─► judge: networks, results ─► Event

A worker is two processes, so that the next study is read while the networks look at this one, and so that a crash in a
codec or too little memory costs one attempt of the one study that the process had. One study at most waits between the
two. Workers end with the supervisor, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import DupFd, recv_handle, send_handle
from pathlib import Path
from typing import Any

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Event, Models, as_event
from lungscreen.batch.lifeline import end_with
from lungscreen.batch.machine import resident_mb
from lungscreen.batch.parcel import Parcel, pack, unpack
from lungscreen.batch.progress import quiet_progress
from lungscreen.batch.study import Outcome, Work, judge_task, read_task
from lungscreen.batch.tasks import Task
from lungscreen.errors import LungscreenError
from lungscreen.library_lines import error_stream
from lungscreen.logs import LOG, logs_are_json, start_logs
from lungscreen.pipeline import Networks

__all__ = ["Processes", "judge_on", "read_on"]

MOST_FALSE_STARTS = 3
"""Processes in a row that die before they are ready: then it is no study's fault."""

LOOK_S = 0.1
"""How often the memory of processes at work is looked at."""

_OOM_SCORE = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"
"""The kernel ends processes of a high score first (proc(5))."""

_LEAVE_S = 3.0
"""How long an idle process may take to end by itself."""

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS",
)


class _LogForm:
    """How the supervisor logs, and where to, so that workers do it alike."""

    def __init__(self, as_json: bool | None, descriptor: int) -> None:
        self._as_json = as_json
        self._descriptor = descriptor

    def __reduce__(self) -> tuple[Any, ...]:
        """On the way to a process that is being started, its descriptor goes with it."""
        return _sent_log_form, (self._as_json, DupFd(self._descriptor))

    def start(self) -> None:
        """What is written on descriptor 2 meanwhile is heard by the supervisor (`lungscreen.library_lines`)."""
        if self._as_json is not None:
            start_logs(self._as_json, os.fdopen(self._descriptor, "w", buffering=1, errors="backslashreplace"))


def _sent_log_form(as_json: bool | None, descriptor: Any) -> _LogForm:
    return _LogForm(as_json, descriptor.detach())


@dataclass(frozen=True)
class _Sent:
    """What a reader says when it has read: the descriptor of a parcel follows."""

    sizes: tuple[int, ...]


@dataclass
class _Process:
    """One half of a worker, as the supervisor sees it."""

    name: str
    process: SpawnProcess
    pipe: Connection
    since: float
    """Monotonic: when it was started, or took up its task."""
    ready: bool = False
    task: Task | None = None
    read_s: float = 0.0
    """Of the study's time, what its reading took."""
    code: str = ""
    """Why it was ended, where it was."""

    @property
    def seconds(self) -> float:
        """Since it was started, or the study was taken up."""
        return self.read_s + time.monotonic() - self.since


@dataclass
class _Waiting:
    """A study that was read."""

    task: Task
    parcel: Parcel
    read_s: float


@dataclass
class _Worker:
    """A reader, a judge, and at most one study between them."""

    name: str
    reader: _Process
    judge: _Process
    waiting: _Waiting | None = None

    @property
    def processes(self) -> tuple[_Process, _Process]:
        """Both."""
        return self.reader, self.judge

    @property
    def tasks(self) -> list[Task]:
        """What it has, the one that will be done first in front."""
        found = (self.judge.task, self.waiting.task if self.waiting else None, self.reader.task)
        return [task for task in found if task]

    @property
    def free(self) -> bool:
        """Whether it would read another study."""
        return self.reader.ready and self.reader.task is None and self.waiting is None


class Processes:
    """`Engine` of this machine: as many workers as were asked for, their processes replaced when they die.

    memory_mb: what a worker may take; where its processes take more together, the larger one at work is ended.
    """

    def __init__(
        self,
        work: Work,
        models: Models,
        config: BatchConfig,
        workers: int,
        threads: int,
        memory_mb: float | None = None,
    ) -> None:
        self._work = work
        self._models = models
        self._config = config
        self._threads = threads
        self._memory_mb = memory_mb
        self._context = multiprocessing.get_context("spawn")
        self._false_starts = 0
        self._workers = [self._make(f"worker-{number}") for number in range(1, workers + 1)]
        self._closed = threading.Event()
        # in a thread, so that no fsync of the supervisor's delays it
        self._watch = threading.Thread(target=self._watch_memory, name="memory", daemon=True)
        self._watch.start()

    def free(self) -> str:
        """A worker that would read another study now."""
        return next((worker.name for worker in self._workers if worker.free), "")

    def submit(self, task: Task) -> None:
        """Give a task to that worker."""
        reader = next(worker.reader for worker in self._workers if worker.free)
        reader.task, reader.since = task, time.monotonic()
        with suppress(OSError):  # it has died: the next poll says so
            reader.pipe.send(task)

    def running(self) -> list[Task]:
        """Tasks that workers have."""
        return [task for worker in self._workers for task in worker.tasks]

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for a message, a death, or the limit of a study in time or memory."""
        wait([handle for w in self._workers for p in w.processes for handle in (p.pipe, p.process.sentinel)], timeout_s)
        return [event for worker in self._workers for event in self._attend(worker)]

    def close(self) -> None:
        """End every process: one that has nothing to do by itself, one at work by force."""
        self._closed.set()
        self._watch.join()
        processes = [process for worker in self._workers for process in worker.processes]
        for process in processes:
            if process.task or not process.ready:
                process.process.kill()
            process.pipe.close()
        for process in processes:
            process.process.join(_LEAVE_S)
            process.process.kill()
            process.process.join(_LEAVE_S)
        for worker in self._workers:
            if worker.waiting:
                os.close(worker.waiting.parcel.descriptor)
        self._workers = []

    # -- processes ---------------------------------------------------------------------------------------------------
    def _make(self, name: str) -> _Worker:
        return _Worker(name, self._start_reader(f"{name} reader"), self._start_judge(f"{name} judge"))

    def _start_reader(self, name: str) -> _Process:
        return self._start(name, read_on)

    def _start_judge(self, name: str) -> _Process:
        return self._start(name, judge_on, self._models)

    def _start(self, name: str, target: Callable[..., None], *more: object) -> _Process:
        here, there = self._context.Pipe()
        words = (there, self._work, os.getpid(), _LogForm(logs_are_json(), error_stream()), *more)
        process = self._context.Process(target=target, args=words, name=name, daemon=True)
        with _thread_variables(self._threads):
            process.start()
        there.close()
        return _Process(name, process, here, time.monotonic())

    def _attend(self, worker: _Worker) -> list[Event]:
        """Hear both processes, replace what ended, and hand a study that was read to a judge that is free."""
        events = self._hear(worker, worker.reader) + self._hear(worker, worker.judge)
        for process in worker.processes:
            code = self._what_ended(process)
            if code:
                events += self._bury(worker, process, code)
        self._hand_over(worker)
        return events

    def _hear(self, worker: _Worker, process: _Process) -> list[Event]:
        """What a process has to say."""
        events = []
        try:
            while process.pipe.poll():
                said = process.pipe.recv()
                if said is None:
                    process.ready, self._false_starts = True, 0
                elif isinstance(said, _Sent) and process.task:
                    parcel = Parcel(recv_handle(process.pipe), said.sizes)
                    worker.waiting = _Waiting(process.task, parcel, process.seconds)
                    process.task = None
                else:
                    process.task = None
                    events.append(said)
        except (EOFError, OSError):
            pass
        return events

    def _hand_over(self, worker: _Worker) -> None:
        waiting, judge = worker.waiting, worker.judge
        if waiting is None or judge.task or not judge.ready:
            return
        try:
            judge.pipe.send(_Sent(waiting.parcel.sizes))
            send_handle(judge.pipe, waiting.parcel.descriptor, judge.process.pid)
        except OSError:  # it has died, and will be replaced
            return
        os.close(waiting.parcel.descriptor)
        judge.task, judge.read_s, judge.since = waiting.task, waiting.read_s, time.monotonic()
        worker.waiting = None

    def _what_ended(self, process: _Process) -> str:
        """The code of what ended a process; empty while it is well. One that takes too long is ended here."""
        if process.code or not process.process.is_alive():
            return process.code or "worker-died"
        limit_s = self._config.study_limit_s if process.task else self._config.load_limit_s
        if (process.task or not process.ready) and process.seconds > limit_s:
            _end(process, "time-limit")
        return process.code

    def _watch_memory(self) -> None:
        while self._memory_mb is not None and not self._closed.wait(LOOK_S):
            for worker in self._workers:
                if (process := self._greedy(worker)) is not None:
                    _end(process, "out-of-memory")

    def _greedy(self, worker: _Worker) -> _Process | None:
        """Which process has to go because the worker takes too much memory."""
        if self._memory_mb is None:
            return None
        sizes = {process.name: resident_mb(process.process.pid or 0) for process in worker.processes}
        at_work = [process for process in worker.processes if process.task]
        if sum(sizes.values()) <= self._memory_mb or not at_work:
            return None
        return max(at_work, key=lambda process: sizes[process.name])

    def _bury(self, worker: _Worker, process: _Process, code: str) -> list[Event]:
        """What a process said last, how its task ended, and another one in its place."""
        process.process.join(_LEAVE_S)  # one that waits for a share that is gone ends when that answers
        events = self._hear(worker, process)
        process.pipe.close()
        exit_code = process.process.exitcode
        LOG.warning("worker ended", extra={"fields": {"worker": process.name, "code": code, "exit": exit_code}})
        if process.task:
            events.append(Event("died", process.task, code=code))
        elif not process.ready:
            self._false_starts += 1
        if self._false_starts >= MOST_FALSE_STARTS:
            reason = f"{MOST_FALSE_STARTS} workers in a row ended before they were ready"
            return [*events, Event("fatal", error=LungscreenError("worker-died", reason))]
        if not any(event.kind == "fatal" for event in events):
            if process is worker.reader:
                worker.reader = self._start_reader(process.name)
            else:
                worker.judge = self._start_judge(process.name)
        return events


def read_on(pipe: Connection, work: Work, parent: int, log_form: _LogForm) -> None:
    """What a reader does: one task after the other, until the pipe closes."""
    _begin(parent, log_form)
    pipe.send(None)
    with suppress(EOFError, OSError):
        while True:
            said = _read(pipe.recv(), work)
            if isinstance(said, Event):
                pipe.send(said)
                continue
            pipe.send(_Sent(said.sizes))
            send_handle(pipe, said.descriptor, parent)
            os.close(said.descriptor)


def _read(task: Task, work: Work) -> Event | Parcel:
    """A study that was read, packed; or the event with which it ends."""
    try:
        found = read_task(task, work)
        return Event("done", task, found) if isinstance(found, Outcome) else pack(found)
    except LungscreenError as error:
        return Event("fatal", task, error=error)
    except (OSError, MemoryError):  # there is no room for the parcel
        return Event("died", task, code="out-of-memory")


def judge_on(pipe: Connection, work: Work, parent: int, log_form: _LogForm, models: Models) -> None:
    """What a judge does: load the networks, then one study after the other, until the pipe closes."""
    _begin(parent, log_form)
    networks: Future[Networks] = Future()
    try:
        networks.set_result(models.load(work.pipeline))
    except LungscreenError as error:
        pipe.send(Event("fatal", error=error))
        return
    pipe.send(None)
    with suppress(EOFError, OSError):
        while True:
            sizes = pipe.recv().sizes
            pipe.send(_judge(Parcel(recv_handle(pipe), sizes), work, networks))


def _judge(parcel: Parcel, work: Work, networks: Future[Networks]) -> Event:
    read = unpack(parcel)
    return as_event(read.task, lambda: judge_task(read, work, networks))


def _begin(parent: int, log_form: _LogForm) -> None:
    """What both kinds of process do first."""
    end_with(parent)  # nobody else would stop this process, or read what it says
    with suppress(OSError):  # where memory runs out, a worker goes and the supervisor stays
        _OOM_SCORE.write_text(_FIRST_TO_GO, encoding="ascii")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_form.start()
    quiet_progress()


def _end(process: _Process, code: str) -> None:
    """End a process by force."""
    process.code = code
    process.process.kill()


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

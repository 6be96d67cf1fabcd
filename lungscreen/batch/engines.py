"""Where tasks are carried out: `Engine` is what the supervisor sees; here, in the process itself.

submit(task) ─► … ─► poll() ─► Events: done, died, lost, full, fatal
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, Protocol

from lungscreen.batch.study import Outcome, Work, run_task
from lungscreen.batch.tasks import Task
from lungscreen.errors import LungscreenError, OutputError
from lungscreen.outputs.registry import import_outputs
from lungscreen.pipeline import Networks, Pipeline, load_networks, used_weights
from lungscreen.records import WeightsUsed

__all__ = ["Engine", "Event", "InProcess", "Models", "as_event", "carry_out", "shipped_models"]


_IDLE_S = 0.02
"""Where there is nothing to do yet, ask again so soon."""


@dataclass(frozen=True)
class Models:
    """How a worker comes by its networks, and what they are. `load` must be importable by name."""

    load: Callable[[Pipeline], Networks]
    used: tuple[WeightsUsed, ...]


def shipped_models(pipeline: Pipeline) -> Models:
    """The weights of this installation, or those that the pipeline names.

    Errors: `weights-invalid`, `bundle-invalid`, `config-invalid`.
    """
    return Models(load_networks, used_weights(pipeline))


@dataclass(frozen=True)
class Event:
    """Something happened to a task.

    died: code says how; lost: its worker went without its doing; full: the results could not be written; fatal: ends
    the run.
    """

    kind: Literal["done", "died", "lost", "full", "fatal"]
    task: Task | None = None
    outcome: Outcome | None = None
    error: LungscreenError | None = None
    code: str = ""


class Engine(Protocol):
    """Carries out tasks."""

    def free(self) -> str:
        """The name of the worker that would take up a task now; empty where none is free."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task to that worker."""
        ...

    def poll(self, timeout_s: float) -> list[Event]:
        """What happened; waits for something at most so long."""
        ...

    def running(self) -> list[Task]:
        """Tasks that were started and not reported."""
        ...

    def close(self) -> None:
        """End at once; what is running is lost."""
        ...


class InProcess:
    """One study at a time, here: no process is started.

    The networks load, and what the outputs are made with, while the inputs are being searched and read.
    """

    def __init__(self, work: Work, models: Models) -> None:
        self._work = work
        self._pool = ThreadPoolExecutor(1, "networks")
        self._networks: Future[Networks] = self._pool.submit(models.load, work.pipeline)
        self._pool.submit(import_outputs, work.pipeline.outputs.names)
        self._task: Task | None = None

    def free(self) -> str:
        """The process itself, where it is doing nothing."""
        return "" if self._task else "here"

    def submit(self, task: Task) -> None:
        """Keep it for the next `poll`."""
        self._task = task

    def poll(self, timeout_s: float) -> list[Event]:
        """Carry it out."""
        task = self._task
        if task is None:
            time.sleep(min(timeout_s, _IDLE_S))
            return []
        event = carry_out(task, self._work, self._networks)
        self._task = None
        return [event]

    def running(self) -> list[Task]:
        """What was begun."""
        return [self._task] if self._task else []

    def close(self) -> None:
        """Nothing is left running."""
        self._pool.shutdown(wait=True)


def carry_out(task: Task, work: Work, networks: Future[Networks]) -> Event:
    """Run a task; what concerns the whole run becomes `full` or `fatal`."""
    return as_event(task, lambda: run_task(task, work, networks))


def as_event(task: Task, step: Callable[[], Outcome]) -> Event:
    """The outcome of a step of a task as an event; what concerns the whole run becomes `full` or `fatal`."""
    try:
        return Event("done", task, step())
    except OutputError as error:
        return Event("full", task, error=error)
    except LungscreenError as error:
        return Event("fatal", task, error=error)

"""`Engine` of a Ray cluster: each node is shared out as a machine of its own, results come back to the head.

nodes ─► workers: placed, loaded, ready ─► submit(task) ─► poll() ─► results on the head's disk ─► Events

The ledger, the index and `--out` are the head's alone; a node reads the inputs, which it must see under the same path.
A worker that dies while its node lives costs one attempt of its study. A node that is lost costs none: its studies are
put back, as if the night had been interrupted for them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lungscreen import __version__
from lungscreen.batch.config import BatchConfig
from lungscreen.batch.engines import Event, Models
from lungscreen.batch.machine import Machine, memory_limit_mb, share_out
from lungscreen.batch.study import Work
from lungscreen.batch.tasks import Task
from lungscreen.errors import LungscreenError, OutputError, UsageError
from lungscreen.logs import LOG
from lungscreen.records import WeightsUsed
from lungscreen.results.folder import ResultsFolder

__all__ = ["Answer", "Cluster", "Node", "Opening", "RayEngine", "WorkerGoneError"]

LOOK_S = 1.0
"""How often the cluster is asked which nodes it has."""

MOST_FALSE_STARTS = 3
"""Workers of a node in a row that die before they are ready: the node is not used any more."""

GONE_AFTER_S = 10.0
"""A worker is gone: how long its node may take to turn out to be gone too, before the study is charged."""

UNSURE_GONE_AFTER_S = 60.0
"""The same where only the connection broke; Ray takes up to 45 s to give a silent node up."""

IDLE_S = 0.1
"""Where nothing was asked of any worker, look again so soon."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that can take workers."""

    id: str
    name: str
    """Its host name: stands in the ledger beside the worker's number."""
    machine: Machine


@dataclass(frozen=True)
class Opening:
    """What a worker is told once."""

    work: Work
    models: Models
    log_level: int
    memory_mb: float
    """What it may take; it ends itself above."""


@dataclass(frozen=True)
class Answer:
    """What a worker says: its version when it is placed, its weights when it has loaded, an event after a task.

    files: the study's results by name.
    logs: (level, event, fields) of what it logged.
    """

    version: str = ""
    weights: tuple[WeightsUsed, ...] = ()
    error: LungscreenError | None = None
    event: Event | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    logs: tuple[tuple[int, str, Mapping[str, Any]], ...] = ()


class WorkerGoneError(Exception):
    """A worker will not answer. sure: it has ended; otherwise the connection broke and nobody knows."""

    def __init__(self, sure: bool) -> None:
        super().__init__(sure)
        self.sure = sure


class Cluster(Protocol):
    """What the engine needs of a cluster. Workers and calls are the cluster's own objects; nothing here waits but
    `wait`.
    """

    def nodes(self) -> Sequence[Node]:
        """Nodes that are alive."""
        ...

    def start(self, node: Node, threads: int) -> Any:
        """A worker on that node, once there is room."""
        ...

    def ask(self, worker: Any, what: str, *words: Any) -> Any:
        """Have a worker `place`, `load`, `begin` or `read`, in the order asked. Returns the call."""
        ...

    def wait(self, calls: Sequence[Any], timeout_s: float) -> Sequence[Any]:
        """The calls that were answered, or whose worker is gone."""
        ...

    def answer(self, call: Any) -> Answer:
        """Errors: WorkerGoneError."""
        ...

    def end(self, worker: Any) -> None:
        """End a worker by force."""
        ...

    def close(self) -> None:
        """Leave the cluster; workers that are left end."""
        ...


@dataclass
class _Worker:
    """One worker, as the engine sees it."""

    name: str
    node: Node
    handle: Any
    state: Literal["placing", "loading", "ready", "reading", "gone", "ended"] = "placing"
    """gone: it will not answer, and why is not known yet."""
    since: float = field(default_factory=time.monotonic)
    """Monotonic: when it came into this state."""
    call: Any = None
    """What it was asked and has not answered."""
    begun: Any = None
    """The call that it answers before it takes up its task."""
    task: Task | None = None
    gone_after_s: float = 0.0

    def turn(self, state: Literal["placing", "loading", "ready", "reading", "gone", "ended"]) -> None:
        """Come into a state."""
        self.state, self.since = state, time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds in this state."""
        return time.monotonic() - self.since


class RayEngine:
    """Workers on every node of a cluster; nodes may come and go."""

    def __init__(self, work: Work, models: Models, config: BatchConfig, cluster: Cluster) -> None:
        self._work = work
        self._models = models
        self._config = config
        self._cluster = cluster
        self._made = 0
        self._workers: list[_Worker] = []
        self._alive: dict[str, Node] = {}
        self._looked_at = self._useful_at = time.monotonic()
        self._false_starts: dict[str, int] = {}
        self._unfit: dict[str, LungscreenError] = {}
        self._look()

    # -- what the supervisor asks ------------------------------------------------------------------------------------
    def free(self) -> str:
        """A worker that is ready and has no task."""
        return next((worker.name for worker in self._workers if worker.state == "ready"), "")

    def submit(self, task: Task) -> None:
        """Give a task to that worker."""
        worker = next(w for w in self._workers if w.state == "ready")
        worker.task = task
        worker.turn("reading")
        worker.begun = self._cluster.ask(worker.handle, "begin")
        worker.call = self._cluster.ask(worker.handle, "read", task)

    def running(self) -> list[Task]:
        """Tasks that were started and not reported."""
        return [worker.task for worker in self._workers if worker.task]

    def poll(self, timeout_s: float) -> list[Event]:
        """Wait for an answer, a death, a lost node or the time limit of a study."""
        events = self._answers(timeout_s)
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._look()
        events += [event for worker in self._workers for event in self._check(worker)]
        self._workers = [worker for worker in self._workers if worker.state != "ended"]
        return events + self._give_up()

    def _answers(self, timeout_s: float) -> list[Event]:
        """What the workers that were asked report within a time."""
        asked = {worker.call: worker for worker in self._workers if worker.call is not None}
        if not asked:
            time.sleep(min(timeout_s, IDLE_S))
            return []
        return [event for call in self._cluster.wait(list(asked), timeout_s) for event in self._hear(asked[call])]

    def close(self) -> None:
        """End every worker; what is running is lost."""
        for worker in self._workers:
            self._cluster.end(worker.handle)
        self._workers = []
        self._cluster.close()

    # -- nodes -------------------------------------------------------------------------------------------------------
    def _look(self) -> None:
        """Which nodes there are; workers for the ones that lack them."""
        before, self._alive = self._alive, {node.id: node for node in self._cluster.nodes()}
        for node_id in before.keys() - self._alive.keys():
            LOG.warning("node lost", extra={"fields": {"node": before[node_id].name}})
            self._unfit.pop(node_id, None)
        for node in self._alive.values():
            if node.id not in self._unfit:
                self._fill(node)
        self._looked_at = time.monotonic()

    def _fill(self, node: Node) -> None:
        """As many workers as a machine of this size takes."""
        wanted, threads = share_out(node.machine, self._config)
        there = sum(worker.node.id == node.id and worker.state not in ("gone", "ended") for worker in self._workers)
        for _ in range(wanted - there):
            self._made += 1
            worker = _Worker(f"{node.name}-{self._made}", node, self._cluster.start(node, threads))
            worker.call = self._cluster.ask(worker.handle, "place")
            self._workers.append(worker)

    def _reject(self, node: Node, error: LungscreenError) -> None:
        """Use a node no more."""
        self._unfit[node.id] = error
        LOG.error("node not used", extra={"fields": {"node": node.name, "code": error.code}})
        for worker in self._workers:
            if worker.node.id == node.id and worker.task is None:
                self._end(worker)

    def _give_up(self) -> list[Event]:
        """A fatal event where no node is any good, or none had room for too long."""
        if any(worker.state not in ("placing", "ended") for worker in self._workers):
            self._useful_at = time.monotonic()
            return []
        if self._alive and self._alive.keys() <= self._unfit.keys():
            return [Event("fatal", error=next(iter(self._unfit.values())))]
        limit_s = self._config.load_limit_s
        if time.monotonic() - self._useful_at < limit_s:
            return []
        reason = f"no node of the cluster had room for a worker for {limit_s:.0f} s"
        return [Event("fatal", error=UsageError("cluster-unreachable", reason))]

    # -- workers -----------------------------------------------------------------------------------------------------
    def _hear(self, worker: _Worker) -> list[Event]:
        """An answer, or that there will be none."""
        call, worker.call = worker.call, None
        if call is None:  # its node was rejected a moment ago
            return []
        try:
            answer = self._cluster.answer(call)
        except WorkerGoneError as gone:
            return self._mourn(worker, gone.sure)
        for level, event, fields in answer.logs:
            LOG.log(level, event, extra={"fields": dict(fields)})
        if worker.state == "reading":
            return self._has_read(worker, answer)
        error = answer.error or self._differs(worker, answer)
        if error is not None:
            self._reject(worker.node, error)
        elif worker.state == "placing":
            worker.turn("loading")
            worker.call = self._cluster.ask(worker.handle, "load", self._opening(worker.node))
        else:
            worker.turn("ready")
            self._false_starts[worker.node.id] = 0
        return []

    def _opening(self, node: Node) -> Opening:
        workers, _ = share_out(node.machine, self._config)
        limit_mb = memory_limit_mb(node.machine, self._config, workers)
        # a cluster that does not say what memory a node has leaves it to the node's own guard
        return Opening(self._work, self._models, LOG.getEffectiveLevel(), limit_mb or math.inf)

    def _differs(self, worker: _Worker, answer: Answer) -> LungscreenError | None:
        """Why a worker's results would not be the head's; a report names one version and one set of weights."""
        if worker.state == "placing":
            mine, theirs = __version__, answer.version
        else:
            mine, theirs = _weights_text(self._models.used), _weights_text(answer.weights)
        if mine == theirs:
            return None
        return UsageError("node-differs", f"a node has {theirs or 'nothing'}, the head {mine}", worker.node.name)

    def _has_read(self, worker: _Worker, answer: Answer) -> list[Event]:
        """The results are on this disk, whole, before the event says so."""
        task, worker.task = worker.task, None
        worker.turn("ready")
        event = answer.event
        if task is None or event is None:
            raise AssertionError("a worker that read has a task, and answers by an event")
        if not answer.files:
            return [event]
        try:
            with ResultsFolder(self._work.out).replace_study(task.key) as folder:
                for name, content in answer.files.items():
                    (folder / name).write_bytes(content)
        except OutputError as error:
            return [Event("full", task, error=error)]
        return [event]

    def _mourn(self, worker: _Worker, sure: bool) -> list[Event]:
        """It is gone. One with a task waits until it is known whether its node went too."""
        self._cluster.end(worker.handle)
        if worker.task is None:
            self._count_false_start(worker)
            self._end(worker)
            return []
        if not self._had_begun(worker):
            return self._lose(worker)
        worker.gone_after_s = GONE_AFTER_S if sure else UNSURE_GONE_AFTER_S
        worker.turn("gone")
        return []

    def _had_begun(self, worker: _Worker) -> bool:
        """Whether it was alive when its task came: an idle worker's death is not the next study's fault."""
        if not self._cluster.wait([worker.begun], 0.0):
            return False
        try:
            self._cluster.answer(worker.begun)
        except WorkerGoneError:
            return False
        return True

    def _check(self, worker: _Worker) -> list[Event]:
        """What time and the state of the node say of a worker."""
        if worker.state == "ended":
            return []
        if worker.node.id not in self._alive:
            return self._lose(worker)
        if worker.state == "gone" and worker.age_s >= worker.gone_after_s:
            return self._charge(worker, "worker-died")
        if worker.state == "reading" and worker.age_s > self._config.study_limit_s:
            return self._charge(worker, "time-limit")
        if worker.state == "loading" and worker.age_s > self._config.load_limit_s:
            self._count_false_start(worker)
            self._end(worker)
        return []

    def _lose(self, worker: _Worker) -> list[Event]:
        """It went without its study's doing."""
        task = worker.task
        self._end(worker)
        return [Event("lost", task)] if task else []

    def _charge(self, worker: _Worker, code: str) -> list[Event]:
        LOG.warning("worker ended", extra={"fields": {"worker": worker.name, "code": code}})
        task = worker.task
        self._end(worker)
        return [Event("died", task, code=code)]

    def _end(self, worker: _Worker) -> None:
        self._cluster.end(worker.handle)
        worker.task = worker.call = None
        worker.turn("ended")

    def _count_false_start(self, worker: _Worker) -> None:
        """One more worker that ended before it was ready."""
        node_id = worker.node.id
        self._false_starts[node_id] = self._false_starts.get(node_id, 0) + 1
        if self._false_starts[node_id] >= MOST_FALSE_STARTS and node_id in self._alive:
            reason = (
                f"{MOST_FALSE_STARTS} workers in a row ended before they were ready; the node's Ray logs may say why"
            )
            self._reject(worker.node, LungscreenError("worker-died", reason, worker.node.name))


def _weights_text(used: Sequence[WeightsUsed]) -> str:
    return ", ".join(f"{one.name} {one.version} {one.sha256[:12]}" for one in used)

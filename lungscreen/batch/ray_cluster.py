"""A Ray cluster, as `RayEngine` sees it. The one module that knows Ray; `pip install lungscreen[ray]`.

The head calls `connect_cluster`; a `Reader` is the actor that works on a node.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lungscreen import __version__
from lungscreen.batch.engines import Event, carry_out
from lungscreen.batch.lock import hold_lock, is_held
from lungscreen.batch.machine import WORKER_MB, Machine, resident_mb
from lungscreen.batch.progress import quiet_progress
from lungscreen.batch.ray_engine import Answer, Node, Opening, WorkerGoneError
from lungscreen.batch.tasks import Task
from lungscreen.errors import LungscreenError, UsageError
from lungscreen.logs import LOG, where_raised
from lungscreen.pipeline import Networks
from lungscreen.results.folder import ResultsFolder

__all__ = ["RayCluster", "Reader", "connect_cluster"]

_FOLDER = "lungscreen-reader-"
"""What a worker's folder for results on their way is called, below TMPDIR of its node."""

_CONNECT_S = 10.0
"""How long a cluster that was named may take to answer at all."""

_WATCH_S = 0.2
"""How often a reader looks at its own memory."""

_STALE_S = 60.0
"""A folder of that kind which nobody holds and which is older is a dead worker's."""


def connect_cluster() -> RayCluster:
    """The cluster that RAY_ADDRESS names, or the one that this machine is a node of.

    Errors: `cluster-unreachable`.
    """
    try:
        import ray
    except ImportError:
        reason = "Ray is not installed: pip install 'lungscreen[ray]'"
        raise UsageError("cluster-unreachable", reason) from None
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    try:
        _hush_ray()
        with _own_signals():
            # Workers log through their answers; what else they print goes nowhere (see Reader).
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        reason = f"no Ray cluster answers ({type(error).__name__}): start one with `ray start`, or set RAY_ADDRESS"
        raise UsageError("cluster-unreachable", reason) from None
    return RayCluster()


def _check_address(address: str) -> None:
    """Where nobody listens Ray itself would try for many minutes.

    Errors: `cluster-unreachable`.
    """
    if address.startswith("ray://"):
        raise UsageError(
            "cluster-unreachable", "run it on a machine of the cluster: ray:// addresses are not read", address
        )
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except OSError as error:
        reason = f"nobody answers at RAY_ADDRESS ({error.strerror or error})"
        raise UsageError("cluster-unreachable", reason, address) from None


class RayCluster:
    """`Cluster` of the connection that this process has."""

    def nodes(self) -> list[Node]:
        """Nodes that are alive and have a core to give."""
        import ray

        found = []
        for row in ray.nodes():
            size = row["Resources"]
            if row["Alive"] and size.get("CPU", 0) >= 1:
                machine = Machine(float(size["CPU"]), size.get("memory", 0.0) / 2**20)
                found.append(Node(row["NodeID"], row["NodeManagerHostname"], machine))
        return found

    def start(self, node: Node, threads: int) -> Any:
        """An actor bound to the node. It is never started again by Ray: the supervisor counts attempts."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options = {
            "num_cpus": min(threads, int(node.machine.cores)),
            "memory": int(min(WORKER_MB, node.machine.memory_mb) * 2**20),
            "max_restarts": 0,
            "max_task_retries": 0,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
        }
        return ray.remote(**options)(Reader).remote(threads)

    def ask(self, worker: Any, what: str, *words: Any) -> Any:
        """Call a method of the actor; calls are carried out in order."""
        return getattr(worker, what).remote(*words)

    def wait(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        """Those that ended, well or badly."""
        import ray

        if not ray.wait(list(calls), num_returns=1, timeout=timeout_s)[0]:
            return []
        return list(ray.wait(list(calls), num_returns=len(calls), timeout=0)[0])

    def answer(self, call: Any) -> Answer:
        """What the actor returned. Ray's errors quote values, so none of their text is kept."""
        import ray

        try:
            answer: Answer = ray.get(call)
        except ray.exceptions.ActorUnavailableError:
            raise WorkerGoneError(sure=False) from None
        except ray.exceptions.RayError:
            raise WorkerGoneError(sure=True) from None
        return answer

    def end(self, worker: Any) -> None:
        """Kill the actor, wherever it is."""
        import ray

        with suppress(ray.exceptions.RayError, ValueError):
            ray.kill(worker, no_restart=True)

    def close(self) -> None:
        """Leave; the cluster goes on without us."""
        import ray

        with _own_signals():
            ray.shutdown()


class Reader:
    """The actor: loads the networks once and reads one study after the other. No exception leaves it.

    Results are written to a folder of its own on the node, returned, and removed.
    """

    def __init__(self, threads: int) -> None:
        _fall_silent()
        # torch and SimpleITK read these when they are loaded, which is later
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
            os.environ[name] = str(threads)
        self._logs = _Kept()
        self._networks: Future[Networks] = Future()
        self._opening: Opening | None = None
        self._held = ExitStack()

    def place(self) -> Answer:
        """Say which version this is."""
        return Answer(version=__version__)

    def load(self, opening: Opening) -> Answer:
        """Load the networks. Answers by their weights."""
        self._opening = opening
        LOG.handlers[:], LOG.propagate = [self._logs], False
        LOG.setLevel(opening.log_level)
        quiet_progress()
        threading.Thread(target=_watch_memory, args=(opening.memory_mb,), daemon=True).start()
        try:
            networks = opening.models.load(opening.work.pipeline)
            self._networks.set_result(networks)
            self._folder = self._held.enter_context(_own_folder())
        except LungscreenError as error:
            return Answer(error=error, logs=self._logs.take())
        except Exception as error:  # Ray would write the values that a traceback quotes to its logs
            reason = f"the networks could not be loaded: {where_raised(error)}"
            return Answer(error=LungscreenError("internal-error", reason), logs=self._logs.take())
        return Answer(weights=networks.weights)

    def begin(self) -> Answer:
        """It lives, and its task is next."""
        return Answer()

    def read(self, task: Task) -> Answer:
        """Read a study. Answers by the event and the study's results."""
        if self._opening is None:
            raise AssertionError("load comes first")
        work = replace(self._opening.work, out=self._folder)
        folder = ResultsFolder(self._folder)
        try:
            event = carry_out(task, work, self._networks)
            files = folder.take_study(task.key)
        except Exception as error:
            LOG.error("study failed", extra={"fields": {"key": task.key, "where": where_raised(error)}})
            event, files = Event("died", task, code="internal-error"), {}
            folder.take_study(task.key)
        return Answer(event=event, files=files, logs=self._logs.take())


class _Kept(logging.Handler):
    """Keeps what is logged until it is taken."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[tuple[int, str, dict[str, Any]]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Level, event and fields: what the head's own log makes lines of."""
        self._records.append((record.levelno, record.getMessage(), dict(getattr(record, "fields", {}))))

    def take(self) -> tuple[tuple[int, str, dict[str, Any]], ...]:
        """What was kept, and forget it."""
        taken, self._records = tuple(self._records), []
        return taken


def _watch_memory(limit_mb: float) -> None:
    """End this process, at the cost of its study's attempt, before it costs the node."""
    while resident_mb(os.getpid()) <= limit_mb:
        time.sleep(_WATCH_S)
    os._exit(1)


def _fall_silent() -> None:
    """Ray keeps what a worker prints in files that others can read, and a library may print a header's values."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A folder on this node, readable to its owner only; those that dead workers left go."""
    base = Path(tempfile.gettempdir())
    for left in base.glob(f"{_FOLDER}*"):
        with suppress(OSError):
            if left.stat().st_uid == os.getuid() and _is_stale(left):
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDER, dir=base) as folder, hold_lock(Path(folder)):
        yield Path(folder)


def _is_stale(folder: Path) -> bool:
    return time.time() - folder.stat().st_mtime > _STALE_S and not is_held(folder)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts its own handler for SIGTERM in place of the command's, which puts back what is running."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _hush_ray() -> None:
    """Ray keeps and shows the command line of whoever connects, which names the inbox, and prints what its nodes say of
    themselves to stdout: neither may leave here.
    """
    from ray._private import utils, worker

    utils.get_entrypoint_name = lambda: "lungscreen batch run"
    worker.print_to_stdstream = lambda *_, **__: None

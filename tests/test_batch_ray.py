"""Nights on a cluster, without one: what the engine does when nodes and workers come, differ, die and are lost."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from batch_inbox import add_image, add_stub
from batch_models import MODELS, USED

from lungscreen import __version__
from lungscreen.batch import BatchConfig, BatchRun, Models, ray_cluster, ray_engine, run_batch
from lungscreen.batch.audit import read_audit
from lungscreen.batch.engines import Event
from lungscreen.batch.ledger import FoundStudy, Ledger
from lungscreen.batch.machine import Machine
from lungscreen.batch.ray_cluster import RayCluster, Reader, connect_cluster
from lungscreen.batch.ray_engine import Answer, Node, RayEngine, WorkerGoneError
from lungscreen.batch.study import Outcome, Work
from lungscreen.batch.tasks import Task
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.errors import LungscreenError, UsageError, WeightsError
from lungscreen.logs import LOG
from lungscreen.outputs.registry import OutputsConfig
from lungscreen.pipeline import read_pipeline
from lungscreen.records import WeightsUsed
from lungscreen.series import Identity

CONFIG = BatchConfig(threads=1, keep_free_mb=0.0, load_limit_s=60.0, full_wait_s=0.05, full_limit_s=0.2)
ONE = Node("n1", "alpha", Machine(1.0, 8192.0))
TWO = Node("n2", "beta", Machine(2.0, 16384.0))


@dataclass(eq=False)
class FakeWorker:
    node: Node
    threads: int
    dead: bool = False
    sure: bool = True
    reader: Any = None


@dataclass(eq=False)
class Call:
    worker: FakeWorker
    what: str
    words: tuple[Any, ...]
    said: Answer | None = None


@dataclass
class FakeCluster:
    """Answers at once, but for what is in `silent`; every answer can be set."""

    alive: list[Node]
    placed: Answer = field(default_factory=lambda: Answer(version=__version__))
    loaded: Answer = field(default_factory=lambda: Answer(weights=USED))
    files: dict[str, bytes] = field(default_factory=lambda: {"report.json": b"{}", "report.html": b"page"})
    silent: set[str] = field(default_factory=set)
    workers: list[FakeWorker] = field(default_factory=list)
    ended: list[FakeWorker] = field(default_factory=list)
    closed: bool = False

    def nodes(self) -> list[Node]:
        return list(self.alive)

    def start(self, node: Node, threads: int) -> FakeWorker:
        self.workers.append(FakeWorker(node, threads))
        return self.workers[-1]

    def ask(self, worker: FakeWorker, what: str, *words: Any) -> Call:
        call = Call(worker, what, words)
        if not worker.dead and what not in self.silent:
            call.said = self.say(call)
        return call

    def say(self, call: Call) -> Answer:
        if call.what == "place":
            return self.placed
        if call.what == "load":
            return self.loaded
        if call.what == "begin":
            return Answer()
        (task,) = call.words
        log = ((logging.WARNING, "study done", {"key": task.key}),)
        return Answer(event=Event("done", task, Outcome(task.key, "done")), files=self.files, logs=log)

    def wait(self, calls: Sequence[Call], timeout_s: float) -> list[Call]:
        return [call for call in calls if call.said is not None or call.worker.dead]

    def answer(self, call: Call) -> Answer:
        if call.said is None:
            raise WorkerGoneError(call.worker.sure)
        return call.said

    def end(self, worker: FakeWorker) -> None:
        self.ended.append(worker)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test waits for a cluster that needs no time."""
    for name in ("LOOK_S", "GONE_AFTER_S", "UNSURE_GONE_AFTER_S"):
        monkeypatch.setattr(ray_engine, name, 0.0)
    monkeypatch.setattr(ray_engine, "IDLE_S", 0.001)


@pytest.fixture(autouse=True)
def no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """A reader in this process takes the log's handlers away."""
    before = LOG.handlers[:], LOG.propagate, LOG.level
    yield
    LOG.handlers[:], LOG.propagate = before[0], before[1]
    LOG.setLevel(before[2])


def task(key: str = "k1") -> Task:
    return Task(key, Identity("ID1", "NAME", "1.2.3"), (), "input", 1)


def engine(cluster: FakeCluster, out: Path, config: BatchConfig = CONFIG, polls: int = 2) -> RayEngine:
    """An engine whose workers had time to be placed and to load."""
    made = RayEngine(Work(out, read_pipeline("screening"), "digest"), MODELS, config, cluster)
    for _ in range(polls):
        assert made.poll(0.0) == []
    return made


# -- nodes and workers -----------------------------------------------------------------------------------------------
def test_each_node_is_shared_out_as_a_machine_of_its_own(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE, TWO])
    made = engine(cluster, tmp_path, replace(CONFIG, threads=None))
    assert [(w.node.name, w.threads) for w in cluster.workers] == [("alpha", 1), ("beta", 1), ("beta", 1)]
    assert made.free() == "alpha-1"
    fewer = FakeCluster([ONE, TWO])
    engine(fewer, tmp_path, replace(CONFIG, workers=1, threads=None))
    assert [(w.node.name, w.threads) for w in fewer.workers] == [("alpha", 1), ("beta", 2)]


def test_nothing_is_free_before_it_has_loaded(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE], silent={"load"})
    assert engine(cluster, tmp_path, polls=4).free() == ""


def test_results_are_on_the_heads_disk_before_the_study_is_done(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = engine(FakeCluster([ONE]), tmp_path)
    made.submit(task())
    assert made.running() == [task()]
    assert made.free() == ""
    (event,) = made.poll(0.0)
    assert (event.kind, event.task) == ("done", task())
    folder = tmp_path / "studies" / "k1"
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"report.json": b"{}", "report.html": b"page"}
    assert made.running() == []
    assert made.free() == "alpha-1"
    assert [(r.levelno, r.message, r.fields) for r in caplog.records if r.name == "lungscreen"] == [
        (logging.WARNING, "study done", {"key": "k1"})
    ]


def test_a_study_without_results_leaves_the_old_ones(tmp_path: Path) -> None:
    """A refusal has no files."""
    old = tmp_path / "studies" / "k1" / "report.json"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    made = engine(FakeCluster([ONE], files={}), tmp_path)
    made.submit(task())
    assert made.poll(0.0)[0].kind == "done"
    assert old.read_text() == "old"


def test_a_head_that_cannot_write_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    made = engine(FakeCluster([ONE]), out)
    out.write_text("a file is no folder")
    made.submit(task())
    (event,) = made.poll(0.0)
    assert event.kind == "full"
    assert event.error is not None
    assert event.error.code == "output-failed"


def test_a_node_that_joins_gets_workers(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE])
    made = engine(cluster, tmp_path)
    cluster.alive.append(TWO)
    made.poll(0.0)
    assert [w.node.name for w in cluster.workers] == ["alpha", "beta", "beta"]


def test_close_ends_every_worker(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE, TWO])
    made = engine(cluster, tmp_path)
    made.close()
    assert cluster.ended == cluster.workers
    assert cluster.closed


# -- what is lost, and whose fault it is -----------------------------------------------------------------------------
def reading(cluster: FakeCluster, out: Path, config: BatchConfig = CONFIG) -> RayEngine:
    """An engine whose first worker has a task and says nothing."""
    cluster.silent = {"read"}
    made = engine(cluster, out, config)
    made.submit(task())
    assert made.poll(0.0) == []
    return made


def test_a_worker_that_dies_on_a_living_node_costs_an_attempt(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE])
    made = reading(cluster, tmp_path)
    cluster.workers[0].dead = True
    (event,) = made.poll(0.0)
    assert (event.kind, event.code, event.task) == ("died", "worker-died", task())
    assert made.running() == []
    for _ in range(3):
        made.poll(0.0)
    assert made.free() == "alpha-2", "another worker takes its place"


@pytest.mark.parametrize("sure", [True, False])
def test_a_lost_node_is_not_its_studies_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sure: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The worker is found dead first; only then does the cluster notice that its node is gone."""
    monkeypatch.setattr(ray_engine, "GONE_AFTER_S", 60.0)
    monkeypatch.setattr(ray_engine, "UNSURE_GONE_AFTER_S", 60.0)
    cluster = FakeCluster([ONE, TWO])
    made = reading(cluster, tmp_path)
    cluster.workers[0].dead, cluster.workers[0].sure = True, sure
    assert made.poll(0.0) == []
    assert made.running() == [task()], "nobody knows yet"
    cluster.alive.remove(ONE)
    (event,) = made.poll(0.0)
    assert (event.kind, event.task) == ("lost", task())
    assert made.running() == []
    assert made.free().startswith("beta")
    assert "node lost" in caplog.text


def test_a_node_that_falls_silent_is_lost_with_its_studies(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE, TWO])
    made = reading(cluster, tmp_path)
    cluster.alive.remove(ONE)
    assert [event.kind for event in made.poll(0.0)] == ["lost"]
    assert cluster.workers[0] in cluster.ended


def test_a_worker_that_died_while_idle_costs_the_next_study_nothing(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE])
    made = engine(cluster, tmp_path)
    cluster.workers[0].dead = True
    made.submit(task())
    assert [event.kind for event in made.poll(0.0)] == ["lost"]


def test_one_that_dies_between_two_words_costs_nothing(tmp_path: Path) -> None:
    """It was told to begin and did not say that it does."""
    cluster = FakeCluster([ONE])
    cluster.silent = {"read", "begin"}
    made = engine(cluster, tmp_path)
    made.submit(task())
    cluster.workers[0].dead = True
    assert [event.kind for event in made.poll(0.0)] == ["lost"]


def test_begin_that_is_not_answered_counts_as_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster([ONE])
    cluster.silent = {"read", "begin"}
    made = engine(cluster, tmp_path)
    made.submit(task())
    cluster.workers[0].dead = True
    monkeypatch.setattr(cluster, "wait", lambda calls, _: [c for c in calls if c.what == "read"])
    assert [event.kind for event in made.poll(0.0)] == ["lost"]


def test_a_study_has_a_time_limit(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE])
    made = reading(cluster, tmp_path)
    made._workers[0].since -= CONFIG.study_limit_s + 1
    (event,) = made.poll(0.0)
    assert (event.kind, event.code) == ("died", "time-limit")
    assert cluster.workers[0] in cluster.ended


# -- nodes that are no good ------------------------------------------------------------------------------------------
def fatal(made: RayEngine, polls: int = 12) -> LungscreenError:
    for _ in range(polls):
        for event in made.poll(0.0):
            assert event.kind == "fatal"
            assert event.error is not None
            return event.error
    raise AssertionError("nothing was said")


def test_a_node_of_another_version_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = FakeCluster([ONE, TWO])
    right = cluster.say

    def say(call: Call) -> Answer:
        return Answer(version="0.0.9") if (call.what, call.worker.node) == ("place", TWO) else right(call)

    monkeypatch.setattr(cluster, "say", say)
    made = engine(cluster, tmp_path, polls=4)
    assert made.free() == "alpha-1"
    assert len(cluster.workers) == 3, "none is started there again"


def test_nodes_that_all_differ_end_the_run(tmp_path: Path) -> None:
    made = RayEngine(
        Work(tmp_path, read_pipeline("screening"), ""), MODELS, CONFIG, FakeCluster([TWO], Answer(version="0.0.9"))
    )
    error = fatal(made)
    assert error.code == "node-differs"
    assert "0.0.9" in error.reason


def test_other_weights_on_a_node_are_not_used(tmp_path: Path) -> None:
    other = (WeightsUsed("detector", "test 2", "2" * 64), USED[1])
    cluster = FakeCluster([ONE], loaded=Answer(weights=other))
    error = fatal(RayEngine(Work(tmp_path, read_pipeline("screening"), ""), MODELS, CONFIG, cluster))
    assert error.code == "node-differs"
    assert "detector test 2 222222222222" in error.reason


def test_weights_that_cannot_be_loaded_end_the_run(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE], loaded=Answer(error=WeightsError("weights-invalid", "damaged")))
    error = fatal(RayEngine(Work(tmp_path, read_pipeline("screening"), ""), MODELS, CONFIG, cluster))
    assert error.code == "weights-invalid"


def test_workers_that_die_before_they_are_ready_are_the_nodes_fault(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE], silent={"place"})
    made = RayEngine(Work(tmp_path, read_pipeline("screening"), ""), MODELS, CONFIG, cluster)
    for number in range(3):
        cluster.workers[number].dead = True
        events = made.poll(0.0)
    (event,) = events
    assert event.error is not None
    assert event.error.code == "worker-died"


def test_workers_that_take_too_long_to_load_are_the_nodes_fault(tmp_path: Path) -> None:
    cluster = FakeCluster([ONE], silent={"load"})
    made = RayEngine(Work(tmp_path, read_pipeline("screening"), ""), MODELS, CONFIG, cluster)
    for _ in range(3):
        assert made.poll(0.0) + made.poll(0.0) == []
        assert made._workers[-1].state == "loading"
        made._workers[-1].since -= CONFIG.load_limit_s + 1
        events = made.poll(0.0)
    assert events[0].error is not None
    assert events[0].error.code == "worker-died"
    assert len(set(cluster.ended)) == 3


@pytest.mark.parametrize("alive", [[], [ONE]])
def test_a_cluster_without_room_ends_the_run_after_a_while(tmp_path: Path, alive: list[Node]) -> None:
    cluster = FakeCluster(alive, silent={"place"})
    made = RayEngine(Work(tmp_path, read_pipeline("screening"), ""), MODELS, CONFIG, cluster)
    assert made.poll(0.0) == []
    made._useful_at -= CONFIG.load_limit_s + 1
    assert fatal(made).code == "cluster-unreachable"


# -- whole nights, the readers in this process -----------------------------------------------------------------------
class HereCluster(FakeCluster):
    """Its workers are real readers."""

    def say(self, call: Call) -> Answer:
        if call.worker.reader is None:
            call.worker.reader = Reader(call.worker.threads)
        answer: Answer = getattr(call.worker.reader, call.what)(*call.words)
        return answer


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HereCluster]:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
        monkeypatch.setenv(name, "1")
    (tmp_path / "node").mkdir()
    monkeypatch.setattr(ray_cluster.tempfile, "gettempdir", lambda: str(tmp_path / "node"))
    monkeypatch.setattr(ray_cluster, "_fall_silent", lambda: None)
    cluster = HereCluster([ONE])
    monkeypatch.setattr(ray_cluster, "connect_cluster", lambda: cluster)
    yield cluster
    for worker in cluster.workers:
        worker.reader._held.close()


def ledger_of(out: Path) -> list[Any]:
    ledger = Ledger(out, read_only=True)
    try:
        return ledger.rows()
    finally:
        ledger.close()


def night(inbox: Path, out: Path, **options: Any) -> BatchRun:
    given = {"pipeline": read_pipeline("screening"), "engine": "ray", "config": CONFIG} | options
    return BatchRun([inbox], out, **given)


def test_a_night_on_a_cluster_is_as_one_on_this_machine(here: HereCluster, tmp_path: Path) -> None:
    """The same results, file by file, but for moments and seconds; nothing stays on the node."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    add_image(inbox, 1)
    add_stub(inbox, 2)
    masked = replace(read_pipeline("screening"), outputs=OutputsConfig(("page", "candidates", "masks")))
    ended = run_batch(night(inbox, tmp_path / "out", pipeline=masked), models=MODELS)
    assert (ended.how, ended.states["done"], ended.states["refused"]) == ("finished", 1, 1)
    run_batch(night(inbox, tmp_path / "local", engine="here", pipeline=masked), models=MODELS)
    names = [
        sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file())
        for out in (tmp_path / "out", tmp_path / "local")
    ]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith((".nii.gz", "candidates.csv")):
            assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()
    first, second = (
        [(r.key, r.state, r.code, dict(r.facts)) for r in ledger_of(out)]
        for out in (tmp_path / "out", tmp_path / "local")
    )
    assert first == second
    assert {(row["engine"], row["worker"]) for row in read_audit(tmp_path / "out")} == {("ray", "alpha-1")}
    (folder,) = (tmp_path / "node").iterdir()
    assert sorted(p.name for p in folder.iterdir()) == ["ledger.sqlite", "run.lock"]


def test_a_study_on_which_the_reader_itself_fails_costs_an_attempt(
    here: HereCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Event:
        raise RuntimeError("quotes DOE^JANE")

    monkeypatch.setattr(ray_cluster, "carry_out", broken)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    add_image(inbox, 1)
    run_batch(night(inbox, tmp_path / "out"), models=MODELS)
    (row,) = ledger_of(tmp_path / "out")
    assert (row.state, row.code, row.attempts) == ("failed", "internal-error", 2)


def test_a_reader_that_cannot_load_says_why_without_values(here: HereCluster, tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    add_image(inbox, 1)

    def broken(_: object) -> Any:
        raise RuntimeError("quotes DOE^JANE")

    with pytest.raises(LungscreenError, match="internal-error") as caught:
        run_batch(night(inbox, tmp_path / "out"), models=Models(broken, USED))
    assert "RuntimeError at" in str(caught.value)
    assert "DOE" not in str(caught.value)
    assert here.closed


def test_weights_that_a_reader_refuses(here: HereCluster, tmp_path: Path) -> None:
    def broken(_: object) -> Any:
        raise WeightsError("weights-invalid", "damaged")

    (tmp_path / "inbox").mkdir()
    add_stub(tmp_path / "inbox", 1)  # without a study the night may be over before any reader has said a word
    with pytest.raises(LungscreenError, match="weights-invalid"):
        run_batch(night(tmp_path / "inbox", tmp_path / "out"), models=Models(broken, USED))


def test_a_reader_takes_away_what_dead_ones_left(here: HereCluster, tmp_path: Path) -> None:
    node = tmp_path / "node"
    left, fresh = node / "lungscreen-reader-old", node / "lungscreen-reader-new"
    for folder in (left, fresh):
        (folder / "studies").mkdir(parents=True)
    os.utime(left, (1, 1))
    (tmp_path / "inbox").mkdir()
    add_stub(tmp_path / "inbox", 1)
    run_batch(night(tmp_path / "inbox", tmp_path / "out"), models=MODELS)
    assert not left.exists()
    assert fresh.exists(), "it may be about to be held"


def test_lost_nodes_count_as_interruptions(tmp_path: Path) -> None:
    """Three put it back, the last of them to be run alone; one more, and it is failed."""
    ledger = Ledger(tmp_path)
    ledger.enter([FoundStudy("k1", "i1", "p", "in", "st")], "p")
    names = ("user", "host", "software", "pipeline", "pipeline_name", "pipeline_hash", "weights", "engine")
    run = ledger.begin_run(**dict.fromkeys(names, "x"))
    seen = []
    for _ in range(4):
        again = ledger.count_interruption("k1", 3, ledger.start("k1", run, "w"))
        row = ledger.get("k1")
        assert row is not None
        seen.append((again, row.state, row.attempts, row.interruptions, row.alone))
    assert seen == [
        (True, "waiting", 0, 1, False),
        (True, "waiting", 0, 2, False),
        (True, "waiting", 0, 3, True),
        (False, "waiting", 0, 4, True),
    ]
    assert {attempt["outcome"] for attempt in ledger.attempts()} == {"node lost"}
    ledger.close()


def test_a_study_that_brings_every_node_down_is_failed(
    here: HereCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each node that reads it goes, and another one joins."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    add_image(inbox, 1)

    def falls(call: Call) -> Answer:
        if call.what != "read":
            return HereCluster.say(here, call)
        here.alive[0] = replace(ONE, id=f"n{int(here.alive[0].id[1:]) + 1}")
        call.worker.dead = True
        return None  # type: ignore[return-value]  # nothing is said

    monkeypatch.setattr(here, "say", falls)
    run_batch(night(inbox, tmp_path / "out"), models=MODELS)
    (row,) = ledger_of(tmp_path / "out")
    assert (row.state, row.code, row.attempts, row.interruptions) == ("failed", "interrupted", 0, 4)


# -- Ray -------------------------------------------------------------------------------------------------------------
class FakeError(Exception):
    pass


class FakeUnavailableError(FakeError):
    pass


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `RayCluster` uses of Ray."""

    class Strategy:
        def __init__(self, node_id: str, soft: bool) -> None:
            self.node_id, self.soft = node_id, soft

    ray = SimpleNamespace(
        exceptions=SimpleNamespace(RayError=FakeError, ActorUnavailableError=FakeUnavailableError),
        util=SimpleNamespace(scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=Strategy)),
        private=SimpleNamespace(utils=SimpleNamespace(), worker=SimpleNamespace()),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray._private", ray.private)
    monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", ray.util.scheduling_strategies)
    return ray


def test_nodes_are_those_alive_with_a_core(fake_ray: SimpleNamespace) -> None:
    size = {"CPU": 4.0, "memory": 8 * 2.0**30}
    rows = [
        {"Alive": True, "NodeID": "a", "NodeManagerHostname": "one", "Resources": size},
        {"Alive": False, "NodeID": "b", "NodeManagerHostname": "two", "Resources": {}},
        {"Alive": True, "NodeID": "c", "NodeManagerHostname": "head", "Resources": {"memory": 1.0}},
        {"Alive": True, "NodeID": "d", "NodeManagerHostname": "odd", "Resources": {"CPU": 1.0}},
    ]
    fake_ray.nodes = lambda: rows
    assert RayCluster().nodes() == [
        Node("a", "one", Machine(4.0, 8192.0)), Node("d", "odd", Machine(1.0, 0.0)),
    ]  # fmt: skip


def test_workers_are_bound_to_their_node_and_never_started_again_by_ray(fake_ray: SimpleNamespace) -> None:
    seen: dict[str, Any] = {}

    def remote(**options: Any) -> Any:
        seen.update(options)
        return lambda kind: SimpleNamespace(remote=lambda threads: (kind, threads))

    fake_ray.remote = remote
    assert RayCluster().start(Node("a", "one", Machine(4.0, 8192.0)), 2) == (Reader, 2)
    assert (seen["num_cpus"], seen["memory"], seen["max_restarts"], seen["max_task_retries"]) == (2, 4096 * 2**20, 0, 0)
    assert (seen["scheduling_strategy"].node_id, seen["scheduling_strategy"].soft) == ("a", False)


@pytest.mark.parametrize(("error", "sure"), [(FakeError, True), (FakeUnavailableError, False)])
def test_an_answer_or_that_there_is_none(fake_ray: SimpleNamespace, error: type[Exception], sure: bool) -> None:
    def get(call: object) -> object:
        if call == "bad":
            raise error("quotes DOE^JANE")
        return call

    fake_ray.get = get
    said = Answer(version="1")
    assert RayCluster().answer(said) is said
    with pytest.raises(WorkerGoneError) as caught:
        RayCluster().answer("bad")
    assert caught.value.sure is sure
    assert "DOE" not in repr(caught.value)


def test_waiting_asking_ending(fake_ray: SimpleNamespace) -> None:
    ready: list[str] = []

    def wait(calls: list[str], num_returns: int, timeout: float) -> tuple[list[str], list[str]]:
        found = [call for call in calls if call in ready][:num_returns]
        return found, [call for call in calls if call not in found]

    def kill(worker: object, no_restart: bool) -> None:
        raise FakeError(f"{worker} is gone already")

    fake_ray.wait, fake_ray.kill = wait, kill
    cluster = RayCluster()
    assert cluster.wait(["a", "b"], 0.0) == []
    ready += ["a", "b"]
    assert cluster.wait(["a", "b", "c"], 0.0) == ["a", "b"]
    worker = SimpleNamespace(read=SimpleNamespace(remote=lambda *words: words))
    assert cluster.ask(worker, "read", 1, 2) == (1, 2)
    cluster.end(worker)


@pytest.mark.parametrize(
    ("address", "reason"), [("127.0.0.1:9", "nobody answers"), ("ray://head:10001", "machine of the cluster")]
)
def test_an_address_that_cannot_be_meant(
    fake_ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, address: str, reason: str
) -> None:
    """Ray would try for minutes."""
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UsageError, match=reason) as caught:
        connect_cluster()
    assert caught.value.code == "cluster-unreachable"


def test_an_address_at_which_somebody_listens(fake_ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_ray.init = lambda **_: None
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{server.getsockname()[1]}")
        assert isinstance(connect_cluster(), RayCluster)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert isinstance(connect_cluster(), RayCluster)


def test_a_reader_that_takes_too_much_memory_ends_itself() -> None:
    """The study costs an attempt, and not the node."""
    code = (
        "import threading; from lungscreen.batch.ray_cluster import _watch_memory;"
        " threading.Thread(target=_watch_memory, args=(600.0,), daemon=True).start();"
        " hoard = [bytearray(b'x') * 2**20 for _ in range(20)]; print('small', flush=True);"
        " hoard += [bytearray(b'x') * 2**20 for _ in range(1000)]; import time; time.sleep(60); print('large')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (1, "small\n")


def test_what_a_reader_may_take_is_its_share_of_the_node(tmp_path: Path) -> None:
    cluster = FakeCluster([TWO, Node("n3", "gamma", Machine(1.0, 0.0))])
    told: list[ray_engine.Opening] = []
    right = cluster.say

    def say(call: Call) -> Answer:
        told.extend(word for word in call.words if isinstance(word, ray_engine.Opening))
        return right(call)

    cluster.say = say  # type: ignore[method-assign]
    engine(cluster, tmp_path)
    assert [round(opening.memory_mb) for opening in told[:2]] == [round(told[0].memory_mb)] * 2
    assert 0.4 * 16384 < told[0].memory_mb <= 0.5 * 16384
    assert told[2].memory_mb == float("inf"), "not known"
    told.clear()
    engine(cluster, tmp_path, replace(CONFIG, worker_memory_mb=700.0))
    assert {opening.memory_mb for opening in told} == {700.0}


def test_no_ray_no_cluster(fake_ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("nobody there")

    fake_ray.init = init
    with pytest.raises(UsageError, match="no Ray cluster answers"):
        connect_cluster()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="not installed"):
        connect_cluster()


def test_the_command_names_neither_the_inbox_nor_another_handler(
    fake_ray: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray keeps the command line, prints what nodes say, and takes SIGTERM for itself."""

    def init(**_: object) -> None:
        signal.signal(signal.SIGTERM, lambda *_: None)

    fake_ray.init = fake_ray.shutdown = init
    before = signal.getsignal(signal.SIGTERM)
    connect_cluster().close()
    assert signal.getsignal(signal.SIGTERM) is before
    assert fake_ray.private.utils.get_entrypoint_name() == "lungscreen batch run"
    assert fake_ray.private.worker.print_to_stdstream({"lines": ["x"]}, ignore_prefix=False) is None


def test_a_reader_prints_nothing(tmp_path: Path) -> None:
    """Neither from Python nor from C: Ray would keep it in files."""
    code = (
        "import os; from lungscreen.batch.ray_cluster import _fall_silent; print('before', flush=True);"
        " _fall_silent(); print('DOE^JANE', flush=True); os.write(2, b'DOE^JANE')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"before\n", b"")


def test_the_command_says_that_there_is_no_cluster(
    fake_ray: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("nobody there")

    fake_ray.init = init
    (tmp_path / "inbox").mkdir()
    code = main(["batch", "run", str(tmp_path / "inbox"), "--out", str(tmp_path / "out"), "--engine", "ray"])
    assert code == ExitCode.USAGE
    assert "cluster-unreachable" in capsys.readouterr().err

"""Nights on a real Ray cluster of several nodes on this machine. `make test-all`; needs `lungscreen[ray]`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from batch_inbox import add_dicom, add_image, add_stub, fill_inbox
from batch_models import MODELS, TRAPPED
from batch_sleep import LONG_S, SHORT, SHORT_S

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.batch.audit import read_audit
from lungscreen.batch.ledger import Ledger
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import LungscreenError
from lungscreen.logs import LOG, start_logs
from lungscreen.pipeline import read_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # Ray's own
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CONFIG = BatchConfig(workers=1, threads=1, keep_free_mb=0.0)
STORE_BYTES = 80 * 2**20


class LocalCluster:
    """A head without cores, and nodes of one core each, as processes of this machine."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster

        size = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **size})
        self.address = self._cluster.address
        self.nodes: list[Any] = []

    def add(self, count: int) -> None:
        self.nodes += [
            self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES, wait=False) for _ in range(count)
        ]
        self._cluster.wait_for_nodes()

    def kill(self, number: int) -> None:
        """As if its plug were pulled."""
        self._cluster.remove_node(self.nodes.pop(number), allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture
def session() -> Iterator[str]:
    """Ray's own folder; its name is short, since sockets lie in it."""
    folder = tempfile.mkdtemp(prefix="ray")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    pytest.importorskip("ray", reason="needs lungscreen[ray]")
    here = Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(here), str(here.parent)]))
    monkeypatch.setenv("RAY_TMPDIR", session)
    (Path(session) / "ray").mkdir()
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("LUNGSCREEN_TEST_TRAP", str(tmp_path / "trap"))
    made = LocalCluster()
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.close()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


def night(inbox: Path, out: Path, engine: str = "ray") -> BatchRun:
    return BatchRun([inbox], out, read_pipeline("screening"), engine=engine, config=CONFIG)


def rows(out: Path) -> list[Any]:
    ledger = Ledger(out, read_only=True)
    try:
        return ledger.rows()
    finally:
        ledger.close()


def results(out: Path) -> list[tuple[Any, ...]]:
    return [(row.key, row.state, row.code, dict(row.facts)) for row in rows(out)]


def ended(out: Path) -> int:
    return sum(attempt["ended"] != "" for attempt in read_audit(out)) if (out / "ledger.sqlite").exists() else 0


def running(out: Path) -> int:
    try:
        return sum(row.state == "running" for row in rows(out))
    except LungscreenError:  # not there yet, or being made
        return 0


def once(when: Callable[[], bool], what: Callable[[], None]) -> Callable[[], bool]:
    """A `stopped` that never says so, and does something once."""
    waiting = [what]

    def look() -> bool:
        if waiting and when():
            waiting.pop()()
        return False

    return look


def say(text: str) -> None:
    """Shown with `pytest -s`, and kept for the docs."""
    sys.stdout.write(f"{text}\n")


def test_a_node_that_is_killed_in_mid_run_costs_nothing(cluster: LocalCluster, inbox: Path, tmp_path: Path) -> None:
    """Nothing is lost, nothing is charged, and the results are those of one machine."""
    cluster.add(3)
    fill_inbox(inbox, 14)
    out = tmp_path / "out"
    stopped = once(lambda: ended(out) >= 3, lambda: cluster.kill(0))
    assert run_batch(night(inbox, out), models=MODELS, stopped=stopped).how == "finished"
    assert len(cluster.nodes) == 2
    outcomes = [attempt["outcome"] for attempt in read_audit(out)]
    assert outcomes.count("node lost") == 1
    assert outcomes.count("done") + outcomes.count("refused") == 14
    assert [(row.attempts, row.interruptions) for row in rows(out) if row.interruptions] == [(0, 1)]
    run_batch(night(inbox, tmp_path / "local", "here"), models=MODELS)
    assert results(out) == results(tmp_path / "local")


def test_a_worker_that_dies_costs_one_attempt(cluster: LocalCluster, inbox: Path, tmp_path: Path) -> None:
    cluster.add(1)
    (tmp_path / "trap").write_text("die\n")
    add_image(inbox, 1)
    out = tmp_path / "out"
    run_batch(night(inbox, out), models=TRAPPED)
    assert [(a["outcome"], a["code"]) for a in read_audit(out)] == [("died", "worker-died"), ("done", "")]
    assert [(row.state, row.attempts, row.interruptions) for row in rows(out)] == [("done", 1, 0)]


def test_four_nodes_are_worth_three_and_a_half(cluster: LocalCluster, inbox: Path, tmp_path: Path) -> None:
    """On work that sleeps: this proves the scheduling."""
    for number in range(60):
        (inbox / f"scan{number:03d}.mha").touch()
    cluster.add(1)
    one = studies_per_second(inbox, tmp_path / "one", 1, most=10)
    cluster.add(3)
    four = studies_per_second(inbox, tmp_path / "four", 4, most=52)
    say(f"one node {one:.3f}, four nodes {four:.3f} studies a second: {four / one:.2f} times")
    assert one <= 1 / SHORT_S
    assert four / one >= 3.5


def studies_per_second(inbox: Path, out: Path, workers: int, most: int) -> float:
    """The sum of what each worker does, from its first study's end to its last one's."""
    run_batch(night(inbox, out), models=SHORT, stopped=lambda: ended(out) >= most)
    ends: dict[str, list[float]] = {}
    for attempt in read_audit(out):
        if attempt["outcome"] == "refused":
            ends.setdefault(attempt["worker"], []).append(datetime.fromisoformat(attempt["ended"]).timestamp())
    assert len(ends) == workers
    assert min(map(len, ends.values())) >= 5
    return sum((len(of) - 1) / (max(of) - min(of)) for of in ends.values())


def test_sigterm_puts_back_what_runs_within_half_a_minute(cluster: LocalCluster, inbox: Path, tmp_path: Path) -> None:
    """Of the command itself, with its own 25 s of grace and studies that take two minutes."""
    cluster.add(2)
    for number in range(5):
        (inbox / f"scan{number}.mha").touch()
    out = tmp_path / "out"
    code = (
        "import sys, batch_sleep, lungscreen.batch.run as run; run.shipped_models = lambda _: batch_sleep.LONG;"
        " from lungscreen.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["batch", "run", str(inbox), "--out", str(out), "--engine", "ray", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], env=dict(os.environ))
    try:
        end = time.monotonic() + 120
        while running(out) < 2:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.2)
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(LONG_S)
        taken = time.monotonic() - start
    finally:
        process.kill()
        process.wait()
    say(f"SIGTERM: over after {taken:.1f} s")
    assert taken <= 30
    assert process.returncode == ExitCode.INTERRUPTED
    assert {(row.state, row.attempts, row.interruptions) for row in rows(out)} == {("waiting", 0, 0)}


def test_nobody_is_named_where_ray_keeps_things(
    cluster: LocalCluster, session: str, inbox: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every byte of Ray's logs and of what is printed, with a death, a failure and a refusal; the job table too."""
    import ray

    cluster.add(1)
    name, identity = "MARKEDNAME", "MARKEDID77"
    folder = inbox / identity
    tags = {"PatientID": identity, "PatientName": f"{name}^Jane"}
    add_dicom(folder, 1, tags=tags).rename(folder / f"{name} study")
    add_stub(folder, 31337)
    add_image(folder, 3).rename(folder / f"{name}.mha")
    (tmp_path / "trap").write_text("error\ndie\n")
    start_logs(as_json=True)
    try:
        run_batch(night(folder, tmp_path / "out"), models=TRAPPED)
    finally:
        LOG.handlers.clear()
    seen = capfd.readouterr()
    assert "study done" in seen.err
    ray.init(address="auto", log_to_driver=False)
    ray.shutdown()
    files = [path for path in Path(session).rglob("*") if path.is_file()]
    assert any("worker" in path.name for path in files)
    texts = {path.name: path.read_bytes() for path in files} | {"printed": (seen.out + seen.err).encode()}
    found = [(where, word) for where, text in texts.items() for word in (name, identity) if word.encode() in text]
    assert not found
    assert not list(Path(tempfile.gettempdir()).glob("lungscreen-reader-*/studies/*"))

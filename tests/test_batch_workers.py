"""Workers of two processes: what each may cost, what may wait between them, and what they may take."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_inbox import add_image
from batch_models import MODELS, TRAPPED
from test_batch_runs import QUICK, night, rows, wait_for

from lungscreen.batch import Models, run_batch
from lungscreen.batch.audit import read_audit
from lungscreen.batch.machine import Machine, memory_limit_mb, resident_mb
from lungscreen.batch.parcel import Parcel, pack, unpack
from lungscreen.batch.status import read_status
from lungscreen.batch.study import Outcome, Read, judge_task, read_task
from lungscreen.errors import UsageError
from lungscreen.pipeline import read_pipeline
from lungscreen.stopwatch import Stopwatch


# -- parcels ---------------------------------------------------------------------------------------------------------
def test_what_is_packed_is_unpacked_whole() -> None:
    """Arrays of odd sizes, one that is not contiguous, one of nothing; the copies may be written to."""
    base = np.arange(7 * 11 * 13, dtype=np.int16).reshape(7, 11, 13)
    thing = {"a": base, "b": base[:, ::-1, ::2] > 100, "none": np.zeros((0, 3), np.float32), "text": "ÄÖ" * 1000}
    parcel = pack(thing)
    got = unpack(parcel)
    assert got["text"] == thing["text"]
    for name in ("a", "b", "none"):
        np.testing.assert_array_equal(got[name], thing[name])  # type: ignore[arg-type]
        assert got[name].dtype == thing[name].dtype  # type: ignore[attr-defined]
    got["a"][0, 0, 0] = 5
    with pytest.raises(OSError):  # noqa: PT011 - the number differs between systems
        os.fstat(parcel.descriptor)


def test_a_parcel_that_has_no_room_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "no space left")

    before = open_parcels()
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="no space"):
        pack(np.zeros(10))
    assert open_parcels() == before


def open_parcels() -> int:
    """How many parcels this process holds open; what other threads open and close does not count."""
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(entry.readlink()))
    return sum("memfd:study" in link for link in links)


def test_arrays_travel_beside_the_rest() -> None:
    """Not inside the pickle, where they would be copied twice."""
    parcel = pack({"hu": np.zeros((100, 100, 100), np.int16)})
    assert parcel.sizes[0] < 1000
    assert parcel.sizes[1] == 2_000_000
    os.close(parcel.descriptor)


# -- reading ahead ---------------------------------------------------------------------------------------------------
class Night:
    """A watching run in a thread, whose processes can be got at."""

    def __init__(self, inbox: Path, out: Path, models: Models, **config: Any) -> None:
        self.out = out
        self._stop = threading.Event()
        options = {"engine": "local", "watch": True, "config": replace(QUICK, quiet_s=0.0, **config)}
        self._thread = threading.Thread(
            target=run_batch,
            args=(night(inbox, out, **options),),
            kwargs={"models": models, "stopped": self._stop.is_set},
        )
        self._thread.start()

    def process(self, role: str) -> int:
        """The number of a process of the one worker."""
        found: list[int | None] = []

        def there() -> bool:
            found[:] = [p.pid for p in multiprocessing.active_children() if p.name == f"worker-1 {role}"]
            return bool(found)

        wait_for(there)
        return found[0] or 0

    def states(self) -> dict[str, int]:
        """How many studies are in which state."""
        try:
            return read_status(self.out)
        except UsageError:  # it is just being made
            return {"running": 0, "done": 0}

    def end(self) -> None:
        """Stop and wait."""
        self._stop.set()
        self._thread.join()


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "trap"
    monkeypatch.setenv("LUNGSCREEN_TEST_TRAP", str(file))
    return file


@pytest.fixture
def begin(inbox: Path, tmp_path: Path) -> Iterator[Callable[..., Night]]:
    """Starts a night that ends with the test."""
    nights: list[Night] = []

    def start(models: Models, **config: Any) -> Night:
        nights.append(Night(inbox, tmp_path / "out", models, **config))
        return nights[0]

    yield start
    for one in nights:
        one.end()


def test_the_next_study_is_read_while_the_networks_look(
    begin: Callable[..., Night], inbox: Path, tmp_path: Path, trap: Path
) -> None:
    """One is looked at and one is read ahead, no third; a reader that dies costs the attempt of what it was reading."""
    trap.write_text("slow\n")
    for number in (1, 2, 3):
        add_image(inbox, number)
    one = begin(TRAPPED)
    wait_for(lambda: trap.exists() and trap.read_text() == "")
    wait_for(lambda: one.states()["running"] == 2)
    time.sleep(1.0)
    assert one.states()["running"] == 2, "what waits between the two is bounded"
    wait_for(lambda: one.states()["done"] == 3)
    assert [row["outcome"] for row in read_audit(one.out)] == ["done"] * 3


def test_a_reader_that_dies_costs_its_own_study_an_attempt_and_not_the_one_that_is_looked_at(
    begin: Callable[..., Night], inbox: Path, trap: Path
) -> None:
    trap.write_text("slow\n")
    add_image(inbox, 1)
    one = begin(TRAPPED)
    wait_for(lambda: trap.exists() and trap.read_text() == "")
    reader, judge = one.process("reader"), one.process("judge")
    os.kill(reader, signal.SIGSTOP)
    add_image(inbox, 2)
    wait_for(lambda: one.states()["running"] == 2)
    os.kill(reader, signal.SIGKILL)
    wait_for(lambda: one.states()["done"] == 2)
    assert one.process("judge") == judge, "the networks were not loaded again"
    first, *others = read_audit(one.out)
    assert first["outcome"] == "done"
    assert [(row["outcome"], row["code"]) for row in others] == [("died", "worker-died"), ("done", "")]
    assert sorted(row.attempts for row in rows(one.out).values()) == [0, 1]


def test_a_judge_that_dies_does_not_cost_the_study_that_was_read_ahead(
    begin: Callable[..., Night], inbox: Path, trap: Path
) -> None:
    trap.write_text("slow\n")
    for number in (1, 2):
        add_image(inbox, number)
    one = begin(TRAPPED)
    wait_for(lambda: trap.exists() and trap.read_text() == "")
    wait_for(lambda: one.states()["running"] == 2)
    os.kill(one.process("judge"), signal.SIGKILL)
    wait_for(lambda: one.states()["done"] == 2)
    assert sorted(row["outcome"] for row in read_audit(one.out)) == ["died", "done", "done"]


def test_a_reader_that_hangs_is_ended(begin: Callable[..., Night], inbox: Path) -> None:
    add_image(inbox, 1)
    one = begin(MODELS, study_limit_s=8.0)
    wait_for(lambda: one.states()["done"] == 1)
    os.kill(one.process("reader"), signal.SIGSTOP)
    add_image(inbox, 2)
    wait_for(lambda: one.states()["done"] == 2)
    assert ("died", "time-limit") in [(row["outcome"], row["code"]) for row in read_audit(one.out)]


def test_what_is_read_in_another_process_is_judged_alike(inbox: Path, tmp_path: Path) -> None:
    """Read, packed, unpacked, judged: the same report as in one process, but for moments and seconds.

    By a clock that goes on a second with each look: what waits between the two costs none.
    """
    from concurrent.futures import Future

    from test_batch_kill import results

    from lungscreen.batch.study import Work, run_task
    from lungscreen.batch.tasks import Task
    from lungscreen.pipeline import Networks
    from lungscreen.records import Source
    from lungscreen.series import Look, identify_image

    path = add_image(inbox, 1)
    task = Task("0123456789ab", identify_image(Source(path)), (Look(Source(path), "image"),), "i", 1)
    networks: Future[Networks] = Future()
    pipeline = read_pipeline("screening")
    networks.set_result(MODELS.load(pipeline))
    whole = run_task(task, Work(tmp_path / "whole", pipeline, "d"), networks)
    work = Work(tmp_path / "parts", pipeline, "d")
    seconds = itertools.count()
    read = read_task(task, work, Stopwatch(clock=lambda: float(next(seconds))))
    assert isinstance(read, Read)
    later = itertools.count(1_000_000)
    parts = judge_task(unpack(pack(read)), work, networks, Stopwatch(clock=lambda: float(next(later))))
    stages = sum(spent for name, spent in parts.seconds.items() if name != "study")
    assert 0 < read.seconds["study"] < stages <= parts.seconds["study"] < 1000
    assert (parts.state, parts.facts) == (whole.state, whole.facts) == ("done", parts.facts)
    assert set(parts.seconds) == set(whole.seconds)
    assert results(tmp_path / "parts") == results(tmp_path / "whole")


# -- memory ----------------------------------------------------------------------------------------------------------
def test_a_study_that_eats_memory_is_stopped_and_the_night_goes_on(inbox: Path, tmp_path: Path, trap: Path) -> None:
    """At the limit, and long before the 4 GiB that it would take."""
    for number in (1, 2):
        add_image(inbox, number)
    trap.write_text("eat\neat\n")
    config = replace(QUICK, worker_memory_mb=1500.0)
    ended = run_batch(night(inbox, tmp_path / "out", engine="local", config=config), models=TRAPPED)
    assert (ended.states["done"], ended.states["failed"]) == (1, 1)
    (failed,) = (row for row in rows(tmp_path / "out").values() if row.state == "failed")
    assert (failed.code, failed.attempts) == ("out-of-memory", 2)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        OSError(12, "no memory"),
    ],
    ids=["python", "torch", "system"],
)
def test_a_lack_of_memory_is_called_so(error: Exception, inbox: Path, tmp_path: Path) -> None:
    from lungscreen.batch.study import Work
    from lungscreen.batch.tasks import Task
    from lungscreen.records import Source
    from lungscreen.series import Look, identify_image

    path = add_image(inbox, 1)
    task = Task("0123456789ab", identify_image(Source(path)), (Look(Source(path), "image"),), "i", 1)

    def fail(*_: object) -> None:
        raise error

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lungscreen.batch.study.prepare_study", fail)
        found = read_task(task, Work(tmp_path, read_pipeline("screening"), "d"))
    assert isinstance(found, Outcome)
    assert (found.state, found.code) == ("failed", "out-of-memory")


def test_a_workers_share_of_the_memory() -> None:
    assert memory_limit_mb(Machine(4, 10_000), QUICK, 2) == pytest.approx(4500)
    assert memory_limit_mb(Machine(4, 10_000), replace(QUICK, worker_memory_mb=700.0), 2) == 700
    assert resident_mb(os.getpid()) > 10
    assert resident_mb(2**22 + 1) == 0


def test_a_parcel_is_a_descriptor_and_sizes() -> None:
    """What is told to another process says nothing of the study."""
    parcel = pack(["MARKEDNAME"])
    assert isinstance(parcel, Parcel)
    assert "MARKEDNAME" not in repr(parcel)
    os.close(parcel.descriptor)


# -- a share that does not answer ------------------------------------------------------------------------------------
def test_a_search_that_hangs_does_not_keep_a_run_from_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    from lungscreen.batch.scanner import Scanner

    answer = threading.Event()

    class Hanging:
        """An index whose inputs lie on a share that is gone."""

        def scan(self, *_: object, **__: object) -> None:
            answer.wait(60)
            raise OSError("stale file handle")

        def close(self) -> None:
            """Nothing is open."""

    monkeypatch.setattr("lungscreen.batch.scanner.LEAVE_S", 0.2)
    scanner = Scanner(Hanging, [], QUICK, watch=True)  # type: ignore[arg-type]
    scanner.start()
    scanner.close()
    assert scanner.busy(), "it still waits for the share, which was not waited for"
    answer.set()

"""Malformed studies get the code that they must get; mutated files never crash, hang or fill the memory."""

from __future__ import annotations

import csv
import faulthandler
import functools
import json
import random
import resource
import signal
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from batch_hostile import Case, healthy, hostile_cases
from batch_models import MODELS, load

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.batch.index import Index
from lungscreen.batch.study import Work, run_task
from lungscreen.pipeline import Networks, read_pipeline
from lungscreen.pseudonyms import Pseudonyms

CASES = list(hostile_cases())
EVERY = 12
"""One case in so many is in the default tests; all of them in `make chaos`."""

LONGEST_S = 10
"""A file may take so long at most, in seconds of the processor."""

WAITING_S = 60
"""And so long by the clock, on a machine that does other work too."""

MEMORY_BYTES = 2 << 30
"""What the fuzz run may take beside what it begins with."""


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Ends the process with a traceback where a test takes ten minutes."""
    faulthandler.dump_traceback_later(600, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


PIPELINE = read_pipeline("screening")
AT_ONCE = BatchConfig(keep_free_mb=0.0, full_limit_s=0.0, away_limit_s=0.0)


@functools.cache
def networks() -> Future[Networks]:
    """Networks of a few lines; every other stage is the real one."""
    loaded: Future[Networks] = Future()
    loaded.set_result(load(PIPELINE))
    return loaded


def codes_of(folder: Path, out: Path) -> set[str]:
    """Codes of everything that was refused or said, `read` where a report came of it, as a run of `screen` writes them:
    index, ledger, headers, volume, lungs, findings, reports that fit their schema, tables.
    """
    ended = run_batch(BatchRun([folder], out, PIPELINE, engine="here", config=AT_ONCE), models=MODELS)
    with (out / "refused.csv").open(newline="", encoding="utf-8") as file:
        found = {row["code"] for row in csv.DictReader(file)}
    assert found >= {row.code for row in ended.refusals}
    for path in out.glob("studies/*/report.json"):
        document = json.loads(path.read_text(encoding="utf-8"))
        found |= {row["code"] for row in (*document["notices"], *document["not_read"])} | {"read"}
    assert "internal-error" not in found
    return found


def outcome_codes(index: Index, path: Path, out: Path) -> set[str]:
    """The same without ledger and tables: the index, then each study that it found."""
    scan = index.scan([path])
    found = {row.code for row in index.input_refusals(path)}
    for study in scan.found:
        outcome = run_task(index.task(study.key, study.input, 1), Work(out, PIPELINE, "digest"), networks())
        found |= {row.code for row in outcome.refusals} | {outcome.code or outcome.state}
    assert "internal-error" not in found
    return found


OF_ALL = frozenset({"airways-not-found", "lung-small", "small-field-of-view", "thick-slices", "no-ct"})
"""What is said of every chest that the cases are made from, and of every folder without CT that can be used."""


def check(case: Case, folder: Path) -> None:
    """A study that is refused says exactly why; one that is read says at least what is odd about it."""
    case.make(folder / "study")
    got = codes_of(folder / "study", folder / "out")
    assert ("read" in got) == ("read" in case.codes), sorted(got)
    if "read" in got:
        assert case.codes <= got, f"expected {sorted(case.codes)}, got {sorted(got)}"
    else:
        assert got - OF_ALL == case.codes


@pytest.mark.parametrize("case", CASES[::EVERY], ids=lambda case: case.name)
def test_some_hostile_studies(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_hostile_study(case: Case, tmp_path: Path) -> None:
    """`make chaos`."""
    check(case, tmp_path)


def mutate(data: bytes, chance: random.Random) -> bytes:
    """Bits flipped, bytes set, parts cut out, doubled, moved or filled with one value; mostly in the header."""
    array = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 16))):
        end = len(array) if chance.random() < 0.2 else min(len(array), 1200)
        place = chance.randrange(max(1, end))
        size = chance.choice((1, 2, 4, 8, 64))
        match chance.randrange(7):
            case 0:
                array[place : place + 1] = bytes(
                    [(array[place] if place < len(array) else 0) ^ 1 << chance.randrange(8)]
                )
            case 1:
                array[place : place + size] = chance.randbytes(size)
            case 2:
                del array[place : place + size]
            case 3:
                array[place:place] = array[place : place + size]
            case 4:
                array[place : place + size] = bytes([chance.choice((0, 255, 127, 32))]) * size
            case 5:
                del array[place + 132 :]
            case 6:
                other = chance.randrange(max(1, end))
                array[place : place + size] = array[other : other + size]
    return bytes(array)


def _limit(clock_s: float, processor_s: float) -> None:
    """Interrupt after so long; 0: not at all."""
    signal.setitimer(signal.ITIMER_REAL, clock_s)
    signal.setitimer(signal.ITIMER_PROF, processor_s)


def fuzz(folder: Path, files: int, seed: int) -> None:
    """Each file alone, then the last thirty as one series."""

    def too_long(*_: object) -> None:
        raise AssertionError(f"a file took more than {LONGEST_S} s of the processor, or {WAITING_S} s by the clock")

    chance = random.Random(seed)
    originals = [path.read_bytes() for path in healthy(folder / "healthy", shuffle=False)]
    target = folder / "fuzzed"
    target.mkdir()
    (folder / "out").mkdir()
    index = Index(folder / "out", Pseudonyms(b"k" * 32))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    old = {number: signal.signal(number, too_long) for number in (signal.SIGALRM, signal.SIGPROF)}
    try:
        for number in range(files):
            path = target / f"{number % len(originals)}.dcm"
            path.write_bytes(mutate(originals[number % len(originals)], chance))
            _limit(WAITING_S, LONGEST_S)
            assert outcome_codes(index, path, folder / "out"), f"file {number} of seed {seed}"
            if number % len(originals) == len(originals) - 1:
                _limit(WAITING_S, LONGEST_S)
                assert outcome_codes(index, target, folder / "out"), f"series up to file {number} of seed {seed}"
            _limit(0, 0)
    finally:
        _limit(0, 0)
        index.close()
        for number, handler in old.items():
            signal.signal(number, handler)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY_BYTES


def test_some_mutated_files(tmp_path: Path) -> None:
    fuzz(tmp_path, 120, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_five_thousand_mutated_files(seed: int, tmp_path: Path) -> None:
    """`make chaos`: ten runs of five hundred."""
    fuzz(tmp_path, 500, seed=100 + seed)

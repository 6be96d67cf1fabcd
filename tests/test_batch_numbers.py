"""What a large night costs: figures that are promised, measured. `make chaos`."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest
from batch_models import MODELS

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.batch.index import Index
from lungscreen.batch.ledger import FoundStudy, Ledger
from lungscreen.batch.status import read_status
from lungscreen.pipeline import read_pipeline
from lungscreen.pseudonyms import Pseudonyms

pytestmark = pytest.mark.slow


def say(text: str) -> None:
    """Shown with `pytest -s`, and kept for the docs."""
    sys.stdout.write(f"{text}\n")


SECONDS = {"volume": 1.0, "lungs": 1.0, "detect": 9.0, "study": 11.0}


def test_the_ledger_costs_little_with_a_hundred_thousand_rows(tmp_path: Path) -> None:
    """At most 20 ms a study: finding it, starting it, ending it; every commit synced."""
    ledger = Ledger(tmp_path)
    ledger.enter((FoundStudy(f"{n:012x}", f"i{n}", "p-1", "in", "st", arrived=n) for n in range(100_000)), "p")
    names = ("user", "host", "software", "pipeline", "pipeline_name", "pipeline_hash", "weights", "engine")
    run = ledger.begin_run(**dict.fromkeys(names, "x"))
    start = time.perf_counter()
    for _ in range(200):
        row = ledger.next_waiting()
        assert row is not None
        attempt = ledger.start(row.key, run, "w")
        ledger.finish(
            row.key, "done", "p", "in", seconds=SECONDS, peak_mb=SECONDS, facts={"findings": 1}, attempt=attempt
        )
    each = (time.perf_counter() - start) / 200
    ledger.close()
    say(f"ledger: {1000 * each:.1f} ms a study")
    assert each <= 0.020


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """Ten thousand studies that are refused at once: empty image files."""
    inbox = tmp_path / "inbox"
    for number in range(10_000):
        folder = inbox / f"{number // 100:03d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"scan{number:05d}.mha").touch()
    return inbox


def test_a_large_night_resumes_at_once(many: Path, tmp_path: Path) -> None:
    """Ten thousand studies: work starts within 5 s of the command's beginning to run."""
    out = tmp_path / "out"
    run = BatchRun([many], out, read_pipeline("screening"), engine="here", config=BatchConfig(keep_free_mb=0.0))
    taken = []
    for goal in (1, 2):
        start = time.perf_counter()
        ended = run_batch(
            run,
            models=MODELS,
            stopped=lambda g=goal: (out / "ledger.sqlite").exists() and read_status(out)["refused"] >= g,
        )
        taken.append(time.perf_counter() - start)
        assert ended.how == "stopped"
    say(f"10,000 studies: first work and end {taken[0]:.1f} s after the first start, {taken[1]:.1f} s after the second")
    assert taken[1] <= 5.0


def test_an_unchanged_inbox_costs_a_stat_a_file(many: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    index = Index(tmp_path / "out", Pseudonyms(b"k" * 32))
    index.mark_entered(study.key for study in index.scan([many]).found)
    start = time.perf_counter()
    scan = index.scan([many], everything=False)
    taken = time.perf_counter() - start
    index.close()
    say(f"a second look at 10,000 files: {taken:.2f} s, {scan.opened} opened")
    assert (scan.opened, scan.found) == (0, [])
    assert taken < 5.0


def test_memory_stays_flat(many: Path, tmp_path: Path) -> None:
    """No growth over 5 % between the hundredth and the six hundredth study of one process."""
    from batch_inbox import add_image

    inbox = tmp_path / "few"
    inbox.mkdir()
    for number in range(600):
        add_image(inbox, number)
    sizes: list[int] = []

    def look() -> bool:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        sizes.append(pages * resource.getpagesize() >> 20)
        return False

    run = BatchRun(
        [inbox], tmp_path / "out", read_pipeline("screening"), engine="here", config=BatchConfig(keep_free_mb=0.0)
    )
    ended = run_batch(run, models=MODELS, stopped=look)
    assert ended.states["done"] == 600
    early, late = max(sizes[len(sizes) // 6 : len(sizes) // 3]), max(sizes[-len(sizes) // 6 :])
    say(f"memory: {early} MiB early, {late} MiB late")
    assert late <= 1.05 * early

"""A night that is killed at random moments and started again ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from batch_inbox import fill_inbox

from lungscreen.batch.ledger import Ledger
from lungscreen.errors import Refusal
from lungscreen.results.refusals import RefusalStore

SCRIPT = Path(__file__).with_name("batch_night.py")
TIMES = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+00:00|Z)?|<dt>Seconds</dt><dd>[^<]*</dd>")
"""What may differ between two runs: moments and seconds."""

OWN = {"run.lock", "ledger.sqlite", "index.sqlite", "refusals.sqlite", "metrics.prom", "night.json", "night.html"}
"""Files that tell of the runs themselves; ledger and refusals are compared row by row."""


def start(inbox: Path, out: Path) -> subprocess.Popen[bytes]:
    """A run in a process group of its own."""
    path = os.pathsep.join([str(SCRIPT.parent), str(SCRIPT.parents[1])])
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(inbox), str(out)],
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )


def done(out: Path) -> int:
    return len(list(out.glob("studies/*/report.json")))


def without_times(document: Any) -> Any:
    if isinstance(document, dict):
        return {k: without_times(v) for k, v in document.items() if k not in ("created", "seconds")}
    return [without_times(v) for v in document] if isinstance(document, list) else document


def results(out: Path) -> dict[str, Any]:
    """Every file of a results folder, without moments and seconds."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out).as_posix()
        if not path.is_file() or name in OWN:
            continue
        content = path.read_bytes()
        found[name] = without_times(json.loads(content)) if path.suffix == ".json" else TIMES.sub(b"", content)
    return found


def ledger_rows(out: Path) -> tuple[list[Any], list[dict[str, Any]]]:
    ledger = Ledger(out, read_only=True)
    try:
        rows = [(r.key, r.patient, r.state, r.code, r.attempts, r.input, dict(r.facts)) for r in ledger.rows()]
        return rows, ledger.attempts()
    finally:
        ledger.close()


def refusal_rows(out: Path) -> list[Refusal]:
    store = RefusalStore(out)
    try:
        return store.rows()
    finally:
        store.close()


def say(text: str) -> None:
    """Shown with `pytest -s`, and kept for the docs."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def kill_test(tmp_path: Path, studies: int, kills: int, seed: int, light: bool = False) -> None:
    """Two runs over one inbox, one of them killed again and again."""
    chance = random.Random(seed)
    inbox = fill_inbox(tmp_path / "inbox", studies, light)
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    begun = time.monotonic()
    assert start(inbox, calm).wait() == 0
    undisturbed = time.monotonic() - begun
    say(f"undisturbed: {undisturbed:.0f} s")
    longest_wait = min(1.5, undisturbed / (4 * kills))
    begun = time.monotonic()
    for number in range(kills):
        process = start(inbox, killed)
        goal = done(killed) + chance.randrange(1, max(2, studies // (2 * kills)))
        while process.poll() is None and done(killed) < goal:
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, longest_wait))
        if process.poll() is not None:
            pytest.fail(f"the night was over before kill {number + 1}: nothing was tested")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        say(f"kill {number + 1} at {time.monotonic() - begun:.0f} s, {done(killed)} studies done")
    assert start(inbox, killed).wait() == 0
    say(f"killed {kills} times: {time.monotonic() - begun:.0f} s")
    expected, got = results(calm), results(killed)
    assert sorted(got) == sorted(expected)
    for name, content in expected.items():
        assert got[name] == content, name
    assert refusal_rows(killed) == refusal_rows(calm)
    rows, attempts = ledger_rows(killed)
    assert rows == ledger_rows(calm)[0]
    assert len(rows) == studies
    ended = [a["study"] for a in attempts if a["outcome"] in ("done", "refused", "failed")]
    assert len(ended) == len(set(ended)), "no study was computed twice"
    assert not list(killed.rglob(".*")), "no temporary file is left"
    assert not list(killed.glob("*-wal")) + list(killed.glob("*-shm"))
    states = Counter(row[2] for row in rows)
    again = Counter(a["outcome"] for a in attempts)
    say(f"{len(got)} files identical; {dict(states)}; attempts: {dict(again)}")


def test_thirty_studies_and_four_kills(tmp_path: Path) -> None:
    kill_test(tmp_path, studies=30, kills=4, seed=7)


@pytest.mark.slow
def test_a_thousand_studies_and_twenty_kills(tmp_path: Path) -> None:
    """`make chaos`."""
    kill_test(tmp_path, studies=1000, kills=20, seed=11, light=True)

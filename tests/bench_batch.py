"""Studies an hour: one cold process per study, and nights of one and two workers over the same studies."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

__all__ = ["measure_throughput"]

COLD = 3
"""Of the studies, so many are read cold: each takes alike."""


def measure_throughput(out: Path, studies: int) -> list[str]:
    """Synthetic studies of about 125 slices; write bench-batch.json, return it in lines.

    busy: of the cores that this process may use, the share that worked, the start of Python and the networks included.
    """
    inbox = out / f"inbox-{studies}"
    if not inbox.is_dir():
        _run("phantom", "--out", str(inbox), "--patients", str(studies), "--size", "small", "--seed", "3")
    patients = sorted(path for path in inbox.iterdir() if path.is_dir())
    rows = [_timed("one cold process per study", [["screen", str(path)] for path in patients[:COLD]], COLD)]
    for workers in (1, 2):
        words = ["batch", "run", str(inbox), "--workers", str(workers)]
        rows.append(_timed(f"batch run --workers {workers}", [words], studies))
    (out / "bench-batch.json").write_text(json.dumps({"studies": studies, "runs": rows}, indent=1) + "\n")
    return [
        f"  {row['what']:<28} {row['seconds']:6.2f} s a study, {row['an_hour']:6.0f} an hour,"
        f" {rows[0]['seconds'] / row['seconds']:.2f} times the cold one, cores {100 * row['busy']:.0f} % busy"
        for row in rows
    ]


def _timed(what: str, commands: list[list[str]], studies: int) -> dict[str, Any]:
    """Wall-clock seconds a study of these commands, each into a folder of its own."""
    cpu, start = _cpu_s(), time.perf_counter()
    for command in commands:
        folder = tempfile.mkdtemp()
        try:
            _run(*command, "--out", folder)
        finally:
            shutil.rmtree(folder)
    taken = time.perf_counter() - start
    cores = len(os.sched_getaffinity(0))
    return {
        "what": what,
        "seconds": taken / studies,
        "an_hour": 3600 * studies / taken,
        "busy": (_cpu_s() - cpu) / taken / cores,
    }


def _cpu_s() -> float:
    """Processor seconds of processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(*words: str) -> None:
    command = [sys.executable, "-m", "lungscreen.cli.main", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

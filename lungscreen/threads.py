"""How many cores and threads this process may use."""

from __future__ import annotations

import os

__all__ = ["own_cores", "own_threads"]


def own_cores() -> int:
    """Cores by affinity."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def own_threads() -> int:
    """What the environment allows a library (OMP_NUM_THREADS, as a batch sets it for its workers), else the cores."""
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told) > 0:
        return int(told)
    return own_cores()

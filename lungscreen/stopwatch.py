"""Seconds and peak memory per stage."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["Stopwatch"]

_STATUS = Path("/proc/self/status")
_RESET = Path("/proc/self/clear_refs")
_RESET_PEAK = b"5"
"""Sets the peak resident size back to the present one (proc(5), since Linux 4.0)."""


class Stopwatch:
    """Seconds by stage, in the order in which stages were first entered; with `memory`, their peaks too.

    clock: what tells the time, in seconds from anywhere.
    """

    def __init__(self, memory: bool = False, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}
        """Largest resident size of the process during each stage, in MiB; empty where the system does not tell."""
        self._memory = memory
        self._open: list[str] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to `name`."""
        self._note_peak()
        self._open.append(name)
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + self._clock() - start
            self._note_peak()
            self._open.remove(name)

    def _note_peak(self) -> None:
        """Credit the peak so far to every stage that is open, and begin anew."""
        if not self._memory:
            return
        try:
            found = re.search(r"VmHWM:\s*(\d+) kB", _STATUS.read_text(encoding="ascii"))
            _RESET.write_bytes(_RESET_PEAK)
        except OSError:
            found = None
        if found is None:
            self._memory = False
            return
        for name in self._open:
            self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), int(found[1]) / 1024)

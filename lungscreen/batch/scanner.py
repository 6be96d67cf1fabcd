"""Looking at the inputs beside the reading: once, or again and again where a folder is watched."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.index import Index
from lungscreen.batch.ledger import FoundStudy
from lungscreen.logs import LOG

__all__ = ["Scanner"]


LEAVE_S = 8.0
"""How long the search may take to end. It is told at the beginning of the time that running studies have."""


class Scanner:
    """Searches the inputs in a thread of its own; what is complete can be taken from it."""

    def __init__(
        self, open_index: Callable[[], Index], inputs: Sequence[Path], config: BatchConfig, watch: bool
    ) -> None:
        self._open_index = open_index
        self._inputs = inputs
        self._config = config
        self._watch = watch
        self._found: queue.SimpleQueue[list[FoundStudy]] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._pending: dict[str, _Pending] = {}
        self._withdrawn: tuple[str, ...] = ()
        self._unfinished: frozenset[str] = frozenset()
        self._thread = threading.Thread(target=self._work, name="scanner", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop looking, soon."""
        self._stop.set()

    def close(self) -> None:
        """Stop, and wait until the index is closed, but not for a share that does not answer any more."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(LEAVE_S)

    def busy(self) -> bool:
        """Whether there may be more to come."""
        return self._thread.is_alive() or not self._found.empty() or bool(self._withdrawn) or self._error is not None

    def unfinished(self) -> frozenset[str]:
        """Studies to which something is being added just now."""
        return self._unfinished

    def withdrawn(self) -> tuple[str, ...]:
        """Keys of studies whose files turned out to be another's, since the last call."""
        found, self._withdrawn = self._withdrawn, ()
        return found

    def take(self) -> list[list[FoundStudy]]:
        """What was found complete since the last call.

        Errors: what went wrong with the index.
        """
        found = []
        while not self._found.empty():
            found.append(self._found.get())
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return found

    def _work(self) -> None:
        try:
            index = self._open_index()
            try:
                first = True
                while not self._stop.is_set():
                    self._look(index, first)
                    if not self._watch or self._stop.wait(self._config.poll_s):
                        return
                    first = False
            finally:
                index.close()
        except BaseException as error:  # it is raised where it can be handled
            self._error = error

    def _look(self, index: Index, first: bool) -> None:
        scan = index.scan(self._inputs, everything=first, stop=self._stop.is_set)
        self._withdrawn = tuple(scan.withdrawn)
        if scan.away:
            LOG.warning("inputs cannot be reached", extra={"fields": {"inputs": len(scan.away)}})
        if self._stop.is_set():
            return
        complete = self._complete(index, scan.found, time.monotonic()) if self._watch else scan.found
        if complete or first:
            self._found.put(complete)

    def _complete(self, index: Index, found: Sequence[FoundStudy], now: float) -> list[FoundStudy]:
        """Those to which nothing was added for a while, and that have no hole or had it for long."""
        for study in found:
            before = self._pending.get(study.key)
            if before is None or before.study.stamp != study.stamp:
                self._pending[study.key] = _Pending(study, now)
        complete = [entry.study for entry in self._pending.values() if self._is_complete(index, entry, now)]
        for study in complete:
            del self._pending[study.key]
        self._unfinished = frozenset(self._pending)
        return complete

    def _is_complete(self, index: Index, entry: _Pending, now: float) -> bool:
        """What the ledger knew already was complete then and has not changed since."""
        if entry.study.entered:
            return True
        wait_s = self._config.hole_s if index.has_hole(entry.study.key) else self._config.quiet_s
        return now - entry.since >= wait_s


class _Pending:
    """A study that may still be arriving."""

    __slots__ = ("since", "study")

    def __init__(self, study: FoundStudy, since: float) -> None:
        self.study = study
        self.since = since

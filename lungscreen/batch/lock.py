"""One run at a time on an `--out`: a lock that the kernel lets go of when its holder dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lungscreen.errors import OutputError, UsageError
from lungscreen.files import LEDGER_FILE

__all__ = ["LOCK_FILE", "hold_lock", "is_held"]

LOCK_FILE = "run.lock"

FILE_MODE = 0o644
"""Of a ledger that is made here."""


@contextmanager
def hold_lock(out: Path) -> Iterator[None]:
    """Hold the folder's lock. The file stays; only the lock on it counts, so there is no stale one.

    Errors: `out-in-use`, `output-failed`.
    """
    try:
        descriptor = os.open(out / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write there: {error.strerror}", str(out)) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise OutputError("output-failed", f"cannot lock the folder: {error.strerror}", str(out)) from None
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
            raise UsageError("out-in-use", f"another run is at work there ({holder})", str(out)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        with _hold_ledger(out):
            yield
    finally:
        os.close(descriptor)


@contextmanager
def _hold_ledger(out: Path) -> Iterator[None]:
    """The same lock on the ledger itself: somebody may remove the file above while a run holds it.

    Errors: as of `hold_lock`.
    """
    try:
        descriptor = os.open(out / LEDGER_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write there: {error.strerror}", str(out)) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UsageError("out-in-use", "another run is at work there (its lock file is gone)", str(out)) from None
    finally:
        os.close(descriptor)


def is_held(out: Path) -> bool:
    """Whether a run is at work there."""
    return any(_is_locked(out / name) for name in (LOCK_FILE, LEDGER_FILE))


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False

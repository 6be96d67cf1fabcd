"""Files that are whole or not there: written beside, synced, renamed; and folders for a moment that nobody inherits."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lungscreen.errors import OutputError

__all__ = [
    "LEDGER_FILE",
    "STUDIES_FOLDER",
    "clean_leftovers",
    "clean_scratch",
    "open_regular",
    "replace_file",
    "replace_folder",
    "scratch_folder",
]

LEDGER_FILE, STUDIES_FOLDER = "ledger.sqlite", "studies"
"""What lies in every folder of results, and tells it from a folder of images."""

_NEW = ".new"
"""Ending of a folder or file that is being written; worth nothing after a crash."""
_OLD = ".old"
"""Ending of a folder that is being replaced; after a crash between two renames it is the whole one."""
_SCRATCH = "lungscreen-scratch-"
"""Beginning of the names of folders for a moment."""
_HELD = ".held"
"""File in such a folder that its process keeps locked; the kernel lets go of it however the process ends."""
_YOUNG_S = 60.0
"""A scratch folder younger than this may not be locked yet."""


@contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` that takes its place when the block ends well, and vanishes when it does not.

    Errors: `output-failed`; the old folder is whole then.
    """
    new, old = _beside(target, _NEW), _beside(target, _OLD)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _recover(target)
        new.mkdir()
        yield new
        _sync_tree(new)
        if target.exists():
            target.rename(old)
        new.rename(target)
        _sync(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write results: {error.strerror or error}", str(target)) from None
    finally:
        _recover(target)


def replace_file(target: Path, content: str | bytes | Iterable[str]) -> None:
    """Write a file so that a reader sees the old content or the new, never a part.

    content: whole, or part by part where it is large.

    Errors: `output-failed`.
    """
    new = _beside(target, _NEW)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            for part in (content,) if isinstance(content, str | bytes) else content:
                file.write(part.encode("utf-8") if isinstance(part, str) else part)
            file.flush()
            os.fsync(file.fileno())
        new.replace(target)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise OutputError("output-failed", f"cannot write results: {error.strerror or error}", str(target)) from None


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """A plain file to read; a pipe or a device would keep us, or never end.

    Errors: OSError, also where it is no plain file.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        yield file


def clean_leftovers(folder: Path) -> None:
    """Put right what a crashed run left in a folder: what is half-written goes, what is half-replaced comes back.

    Only for a moment when nobody writes there: at the start of a run.
    """
    for left in (*folder.glob(f".*{_NEW}"), *folder.glob(f".*{_OLD}")):
        if left.is_dir():
            _recover(left.with_name(left.stem[1:]))
        else:
            left.unlink(missing_ok=True)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder for a moment. What a killed process leaves in one goes with the next `clean_scratch`."""
    with tempfile.TemporaryDirectory(prefix=_SCRATCH) as folder, Path(folder, _HELD).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield Path(folder)


def clean_scratch() -> None:
    """Remove the scratch folders of processes that are gone: they may hold images of patients."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_SCRATCH}*"):
        # another user's, or one that goes at this very moment
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < _YOUNG_S:
                continue
            with (folder / _HELD).open("r") as held:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}{ending}")


def _recover(target: Path) -> None:
    old = _beside(target, _OLD)
    if old.exists() and not target.exists():
        old.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    shutil.rmtree(_beside(target, _NEW), ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for file in folder.iterdir():
        _sync(file)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Source → bytes: a plain file or a member of a zip archive, read within limits.

Archives stay open while a `SourceReader` lives, so a thousand members cost one look at the archive's directory.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from lungscreen.errors import InputError
from lungscreen.records import Series, Source

__all__ = ["MOST_FILE_BYTES", "MOST_RATIO", "MOST_VOXELS", "RATIO_FREE_BYTES", "SourceReader", "source_fingerprint"]

MOST_VOXELS = 3 << 27
"""Voxels of a volume at most: 1,536 slices of 512 x 512, 768 MiB as int16."""

MOST_FILE_BYTES = 2 * MOST_VOXELS + (64 << 20)
"""Largest single file that is read at once: the voxels of one object, and its header."""

MOST_RATIO = 200.0
"""Unpacked bytes over packed ones, where that is more than `RATIO_FREE_BYTES`."""

RATIO_FREE_BYTES = 16 << 20
"""So much may any file unpack to."""

_BLOCK = 1 << 20

_READ_ERRORS = (OSError, EOFError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, ValueError)
"""What a damaged, vanished, encrypted or oddly compressed file raises while it is read."""


class SourceReader:
    """Reads sources; a context manager that closes the archives it opened."""

    def __init__(self) -> None:
        self._archives: dict[Path, zipfile.ZipFile] = {}

    def __enter__(self) -> SourceReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def read(self, source: Source, most_bytes: int | None = None) -> bytes:
        """The source's bytes, or its first `most_bytes`.

        Errors: `file-unreadable`; `file-too-large` where the whole was asked for and is above `MOST_FILE_BYTES`.
        """
        if most_bytes is None and self.size(source) > MOST_FILE_BYTES:
            raise InputError("file-too-large", f"larger than {MOST_FILE_BYTES >> 20} MiB", str(source))
        with self.open(source) as file:
            return file.read(MOST_FILE_BYTES if most_bytes is None else most_bytes)

    @contextmanager
    def open(self, source: Source) -> Iterator[BinaryIO]:
        """The source as a stream, for what is too large to be read at once; what goes wrong in the block counts too.

        Errors: `file-unreadable`.
        """
        try:
            with self._open(source) as file:
                yield file
        except _READ_ERRORS as error:
            raise InputError("file-unreadable", f"cannot be read ({_brief(error)})", str(source)) from None

    def size(self, source: Source) -> int:
        """The source's bytes, unpacked; of a member, as its archive says.

        Errors: `file-unreadable`.
        """
        try:
            return (
                self._archive(source).getinfo(source.member).file_size if source.member else source.path.stat().st_size
            )
        except (*_READ_ERRORS, KeyError) as error:
            raise InputError("file-unreadable", f"cannot be read ({_brief(error)})", str(source)) from None

    def _open(self, source: Source) -> BinaryIO:
        if source.member:
            return self._archive(source).open(source.member)  # type: ignore[return-value]
        # without waiting: a pipe would keep us until somebody writes into it
        file = os.fdopen(os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.close()
            raise OSError("not a regular file")
        return file

    def _archive(self, source: Source) -> zipfile.ZipFile:
        if source.path not in self._archives:
            self._archives[source.path] = zipfile.ZipFile(source.path)
        return self._archives[source.path]


def source_fingerprint(series: Series) -> str:
    """SHA-256 (hex) over the sorted SOP Instance UIDs, one a line; over the file's bytes for an image.

    Errors: `file-unreadable`.
    """
    digest = hashlib.sha256()
    if series.kind == "dicom":
        for uid in sorted({instance.sop_instance_uid for instance in series.instances}):
            digest.update(f"{uid}\n".encode())
    elif series.image is not None:
        with SourceReader() as reader, reader.open(series.image) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _brief(error: Exception) -> str:
    """What went wrong without the path, which may name a patient."""
    return str(getattr(error, "strerror", None) or type(error).__name__)

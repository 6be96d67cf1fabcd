"""One look at the inputs: what is new or changed is opened, what vanished is forgotten."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lungscreen.batch.index.files import FileTable
from lungscreen.batch.ledger import Offer
from lungscreen.batch.looks import Look, look_at, look_into
from lungscreen.records import Source
from lungscreen.series import SeriesConfig
from lungscreen.series.files import is_junk, list_sources
from lungscreen.series.rejects import Rejects
from lungscreen.sources import SourceReader

__all__ = ["Scan", "Visit"]


@dataclass
class Scan:
    """What a look at the inputs gave."""

    offers: list[Offer] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    """Inputs that cannot be reached now though they were once."""
    opened: int = 0
    """Files that had to be opened."""


class Visit:
    """One look at the inputs."""

    def __init__(
        self,
        files: FileTable,
        out: Path,
        config: SeriesConfig,
        reader: SourceReader,
        scan: Scan,
        number: int,
        stop: Callable[[], bool],
    ) -> None:
        """out: never searched. config: how archives are. number: of this look, higher than that of any before."""
        self._files = files
        self._config = config
        self._reader = reader
        self._scan = scan
        self._number = number
        self._stop = stop
        self._entered = {_identity(out)} if out.exists() else set()
        self._met: set[tuple[int, int]] = set()

    def input(self, path: Path) -> int:
        """One input; returns its number."""
        place = self._files.place_id(str(path))
        if not path.exists() or (path.is_dir() and self._files.was_filled(place) and not _has_entries(path)):
            if self._files.was_filled(place):
                self._scan.away.append(str(path))
            return place
        if path.is_dir():
            for folder, names in self._walk(path, place):
                self._folder(place, folder, names)
        else:
            by_folder: dict[str, list[str]] = {}
            for source in self._given(path, place):
                by_folder.setdefault(str(source.path.parent), []).append(source.path.name)
            for folder, names in by_folder.items():
                self._folder(place, folder, sorted(set(names)))
        if not self._stop():
            self._files.forget_folders(place, self._number)
        return place

    def _given(self, path: Path, place: int) -> list[Source]:
        """A file that was named itself: DICOM, an image, an archive, or a DICOMDIR with what it lists."""
        if path.name.upper() != "DICOMDIR":
            return [Source(path)]
        rejects = Rejects()
        found, failed = list_sources([path], self._config, self._reader, rejects)
        folder, _ = self._files.known_files(place, str(path.parent), self._number)
        rows = [*failed, *(row for at in rejects.places() for row in rejects.rows(at))]
        looks = [
            Look("bad", member="" if row.where == str(path) else row.where, code=row.code, reason=row.reason)
            for row in rows
        ]
        self._files.replace_file(folder, path.name, 0, 0, looks)
        return [source for _, source in found]

    def _walk(self, root: Path, place: int) -> Iterator[tuple[str, list[str]]]:
        """Folders below an input with their files. Links are followed, but no folder is entered twice."""

        def complain(error: OSError) -> None:
            folder, _ = self._files.known_files(place, str(error.filename), self._number)
            self._files.replace_file(
                folder, "", 0, 0, [Look("bad", code="file-unreadable", reason="the folder cannot be read")]
            )

        for folder, folders, names in os.walk(root, followlinks=True, onerror=complain):
            if self._stop():
                return
            try:
                identity = _identity(Path(folder))
            except OSError as error:  # gone since it was listed
                complain(error)
                folders.clear()
                continue
            if identity in self._entered:
                folders.clear()
                continue
            self._entered.add(identity)
            folders[:] = sorted(name for name in folders if not is_junk(name))
            yield folder, sorted(name for name in names if not is_junk(name) and name.upper() != "DICOMDIR")

    def _folder(self, place: int, path: str, names: Sequence[str]) -> None:
        folder, known = self._files.known_files(place, path, self._number)
        self._files.breathe()
        for name in names:
            if self._stop():
                return
            self._file(folder, Path(path, name), known.pop(name, None))
            self._files.breathe()
        for name in known:
            if name and name.upper() != "DICOMDIR":
                self._files.forget_file(folder, name)

    def _file(self, folder: int, path: Path, known: tuple[int, int] | None) -> None:
        status = _stat(path)
        if status is None:
            if known != _NOWHERE:
                look = Look("bad", code="file-unreadable", reason="not a regular file, or a link to nowhere")
                self._files.replace_file(folder, path.name, *_NOWHERE, [look])
            return
        if self._is_copy(status):
            if known is not None:
                self._files.forget_file(folder, path.name)
            return
        if known == (status.st_size, status.st_mtime_ns):
            return
        self._scan.opened += 1
        looks = look_into(path, self._reader, self._config) or [look_at(Source(path), self._reader)]
        self._files.replace_file(folder, path.name, status.st_size, status.st_mtime_ns, looks)

    def _is_copy(self, status: os.stat_result) -> bool:
        """Whether the same real file was met before under another name: one in a folder of its own, by a link."""
        identity = status.st_dev, status.st_ino
        if identity in self._met:
            return True
        self._met.add(identity)
        return False


_NOWHERE = (-1, -1)
"""Size and time of what is no file."""


def _stat(path: Path) -> os.stat_result | None:
    """Of the file itself, links followed; None where it is no regular file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _has_entries(folder: Path) -> bool:
    """Whether a folder can be listed and holds something: the mount point of a share that is gone does not."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False

"""One look at the inputs: what is new or changed is opened, what vanished is forgotten."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lungscreen.batch.index.files import FileTable
from lungscreen.batch.ledger import FoundStudy
from lungscreen.series import SeriesConfig
from lungscreen.series.files import Entry, Folder, Walk
from lungscreen.series.looks import look_into
from lungscreen.sources import SourceReader

__all__ = ["Scan", "Visit"]


@dataclass
class Scan:
    """What a look at the inputs gave."""

    found: list[FoundStudy] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    """Inputs that cannot be reached now though they were once."""
    withdrawn: list[str] = field(default_factory=list)
    """Keys of studies that turned out to be another's: their files say so now."""
    disturbed: bool = False
    """Something vanished while it was looked at, and is not back."""
    opened: int = 0
    """Files that had to be opened."""


class Visit:
    """One look at the inputs: the way that `lungscreen.series.find_series` goes, but for what is remembered."""

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
        """out: never searched.
        config: how archives are.
        number: of this look, higher than that of any before.
        """
        self._files = files
        self._config = config
        self._reader = reader
        self._scan = scan
        self._number = number
        self._stop = stop
        self._walk = Walk(reader, out)

    def input(self, path: Path) -> int:
        """One input; returns its number."""
        place = self._files.place_id(path)
        is_folder = os.path.isdir(path)  # noqa: PTH112 - unlike Path's, false where a right is missing
        there = os.path.exists(path)  # noqa: PTH110
        if not there or (is_folder and self._files.was_filled(place) and not _has_entries(path)):
            if self._files.was_filled(place):
                self._scan.away.append(str(path))
            return place
        for folder in self._walk.folders(path):
            if self._stop():
                return place
            self._folder(place, folder)
        if not self._stop():
            self._files.forget_folders(place, self._number)
        return place

    def _folder(self, place: int, folder: Folder) -> None:
        number, known = self._files.known_files(place, folder.path, self._number)
        self._files.breathe()
        for entry in folder.entries:
            if self._stop():
                return
            name = "" if entry.path == folder.path else entry.path.name
            self._file(number, name, entry, known.pop(name, None))
            self._files.breathe()
        if folder.listed:
            for name in known:
                self._files.forget_file(number, name)

    def _file(self, folder: int, name: str, entry: Entry, known: tuple[int, int] | None) -> None:
        if known == (entry.size, entry.mtime_ns) and not entry.is_index:
            return
        self._scan.opened += entry.is_file
        looks = look_into(entry, self._reader, self._config)
        if entry.is_file and not os.path.lexists(entry.path):
            # there a moment ago, and gone when it was opened: nothing is known of it
            self._walk.vanished += 1
            return
        self._files.replace_file(folder, name, looks)

    @property
    def is_disturbed(self) -> bool:
        """Whether something vanished while it was looked at."""
        return self._walk.vanished > 0


def _has_entries(folder: Path) -> bool:
    """Whether a folder can be listed and holds something: the mount point of a share that is gone does not."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False

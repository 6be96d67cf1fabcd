"""What was not read of the inputs: files that belong to no study."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from pathlib import Path

from lungscreen.database import guarded
from lungscreen.errors import Refusal
from lungscreen.records import Source
from lungscreen.series import refuse_input, refuse_others
from lungscreen.series.pile import OtherSeries

__all__ = ["RefusalTable"]

_OF_PLACE = (
    "FROM place JOIN folder ON folder.place = place.id JOIN file ON file.folder = folder.id WHERE place.path = ?"
)


class RefusalTable:
    """The part of the index that tells which files belong to no study."""

    def __init__(self, db: sqlite3.Connection, guard: guarded) -> None:
        self._db = db
        self._guard = guard

    def of_input(self, place: Path) -> list[Refusal]:
        """Files of this input that are no image, or cannot be read."""
        path = (os.fsencode(place),)
        bad = (
            "SELECT folder.path, file.name, file.member, file.code, file.reason"
            f" {_OF_PLACE} AND file.kind = 'bad' ORDER BY folder.path, file.name, file.member"
        )
        with self._guard:
            rows = [
                (str(Source(Path(os.fsdecode(folder), os.fsdecode(name)), member)), code, reason)
                for folder, name, member, code, reason in self._db.execute(bad, path)
            ]
            kinds = {row[0] for row in self._db.execute(f"SELECT DISTINCT file.kind {_OF_PLACE}", path)}
        return refuse_input(place, kinds, rows)

    def strangers(self) -> list[Refusal]:
        """DICOM objects that are no CT and belong to no study with CT."""
        query = (
            "SELECT file.series, file.sop, file.reason, COUNT(*) FROM file WHERE file.kind = 'other'"
            " AND file.series NOT IN (SELECT uid FROM study) GROUP BY file.series, file.sop, file.reason"
        )
        with self._guard:
            return refuse_others(Counter({OtherSeries(*row[:3]): row[3] for row in self._db.execute(query)}))

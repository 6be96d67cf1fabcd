"""What was not read: files that belong to no study, and the refusals of studies."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from lungscreen.batch.database import guarded
from lungscreen.batch.index.files import Turn
from lungscreen.errors import Refusal
from lungscreen.records import Source
from lungscreen.series import refuse_input, refuse_others
from lungscreen.series.pile import OtherSeries

__all__ = ["RefusalTable"]


class RefusalTable:
    """The part of the index that keeps refusals."""

    def __init__(self, db: sqlite3.Connection, guard: guarded, turn: Turn) -> None:
        self._db = db
        self._guard = guard
        self._turn = turn

    def keep_refusals(self, key: str, refusals: Iterable[Refusal]) -> None:
        """In place of the study's earlier ones."""
        with self._guard, self._turn:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("DELETE FROM refusal WHERE owner = ?", (key,))
            rows = [(key, json.dumps(asdict(refusal))) for refusal in refusals]
            self._db.executemany("INSERT INTO refusal VALUES (?, ?)", rows)
            self._db.execute("COMMIT")

    def refusals(self, inputs: Sequence[Path], keys: Collection[str] | None = None) -> list[Refusal]:
        """Of these inputs, of files that belong to no study, and of every study, or of those named."""
        with self._guard:
            found = [row for path in dict.fromkeys(inputs) for row in self._input_refusals(path)]
            found += self._strangers()
            rows = self._db.execute("SELECT owner, content FROM refusal ORDER BY owner, rowid")
            return found + [Refusal(**json.loads(text)) for owner, text in rows if keys is None or owner in keys]

    def _input_refusals(self, place: Path) -> list[Refusal]:
        of_place = "FROM place JOIN folder ON folder.place = place.id JOIN file ON file.folder = folder.id WHERE place.path = ?"
        path = (os.fsencode(place),)
        bad = (
            "SELECT folder.path, file.name, file.member, file.code, file.reason"
            f" {of_place} AND file.kind = 'bad' ORDER BY folder.path, file.name, file.member"
        )
        rows = [
            (str(Source(Path(os.fsdecode(folder), os.fsdecode(name)), member)), code, reason)
            for folder, name, member, code, reason in self._db.execute(bad, path)
        ]
        kinds = {row[0] for row in self._db.execute(f"SELECT DISTINCT file.kind {of_place}", path)}
        return refuse_input(place, kinds, rows)

    def _strangers(self) -> list[Refusal]:
        """DICOM objects that are no CT and belong to no study with CT."""
        query = (
            "SELECT file.series, file.sop, file.reason, COUNT(*) FROM file WHERE file.kind = 'other'"
            " AND file.series NOT IN (SELECT uid FROM study) GROUP BY file.series, file.sop, file.reason"
        )
        return refuse_others(Counter({OtherSeries(*row[:3]): row[3] for row in self._db.execute(query)}))

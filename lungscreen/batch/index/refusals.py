"""What was not read: files that belong to no study, and what became of studies."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from lungscreen.batch.database import guarded
from lungscreen.batch.index.files import Turn
from lungscreen.errors import Refusal
from lungscreen.records import Source
from lungscreen.series.rejects import Rejects

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
            found = [row for path in dict.fromkeys(inputs) for row in self._input_refusals(str(path))]
            found += self._strangers()
            rows = self._db.execute("SELECT owner, content FROM refusal ORDER BY owner, rowid")
            return found + [Refusal(**json.loads(text)) for owner, text in rows if keys is None or owner in keys]

    def _input_refusals(self, place: str) -> list[Refusal]:
        if not Path(place).exists():
            return [Refusal(place, "input-missing", "does not exist", "file")]
        query = (
            "SELECT folder.path, file.name, file.member, file.kind, file.code, file.reason FROM place"
            " JOIN folder ON folder.place = place.id JOIN file ON file.folder = folder.id"
            " WHERE place.path = ? AND file.kind = 'bad' ORDER BY folder.path, file.name, file.member"
        )
        rejects = Rejects()
        for folder, name, member, _, code, reason in self._db.execute(query, (place,)):
            rejects.add(place, str(Source(Path(folder, name), member)), code, reason)
        kinds = {
            row[0]
            for row in self._db.execute(
                "SELECT DISTINCT file.kind FROM place JOIN folder ON folder.place = place.id"
                " JOIN file ON file.folder = folder.id WHERE place.path = ?",
                (place,),
            )
        }
        rows = list(rejects.rows(place))
        if not kinds:
            rows.append(Refusal(place, "input-empty", "holds no file that could be an image", "file"))
        elif not kinds & {"ct", "image"} and place not in {row.where for row in rows}:
            rows.append(Refusal(place, "no-ct", "holds no CT image", "file"))
        return rows

    def _strangers(self) -> list[Refusal]:
        """DICOM objects that are no CT and belong to no study with CT."""
        query = (
            "SELECT file.series, file.sop, file.reason, COUNT(*) FROM file WHERE file.kind = 'other'"
            " AND file.series NOT IN (SELECT uid FROM study) GROUP BY file.series, file.sop, file.reason"
        )
        return [
            Refusal(series or uid or what, "not-ct", f"{count} object(s): {what}", "series", uid)
            for uid, series, what, count in self._db.execute(query)
        ]

"""The outbox: one row for each result and destination, kept until it is sent or given up.

    queued ─► sent
      │  ▲
      │  └── `lungscreen node retry`
      ├────► dead         refused `most_refusals` times
      └────► superseded   a newer result of the study took its place before it was sent

It names nobody: keys and UIDs of own objects only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungscreen.database import guarded, open_database
from lungscreen.results.folder import Stamp

__all__ = ["OUTBOX_FILE", "Outbox", "Outgoing"]

OUTBOX_FILE = "outbox.sqlite"


@dataclass(frozen=True)
class Outgoing:
    """A result that is to be sent.

    sop_uid: what the file held when it was queued.
    """

    id: int
    study: str
    file: str
    sop_uid: str
    refusals: int


def _first_schema(connection: Any) -> None:
    connection.execute(
        """CREATE TABLE object (
            id INTEGER PRIMARY KEY, destination TEXT NOT NULL, study TEXT NOT NULL, file TEXT NOT NULL,
            sop_uid TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'queued', refusals INTEGER NOT NULL DEFAULT 0,
            due REAL NOT NULL DEFAULT 0, code TEXT NOT NULL DEFAULT '', status TEXT NOT NULL DEFAULT '',
            changed REAL NOT NULL, UNIQUE (destination, sop_uid)
        )"""
    )
    connection.execute("CREATE INDEX object_due ON object (destination, state, due)")
    connection.execute(
        "CREATE TABLE seen (destination TEXT NOT NULL, study TEXT NOT NULL, stamp TEXT NOT NULL,"
        " PRIMARY KEY (destination, study)) WITHOUT ROWID"
    )
    connection.execute("CREATE TABLE half_sent (id INTEGER PRIMARY KEY, received TEXT NOT NULL, taken REAL NOT NULL)")


class Outbox:
    """The open outbox of a results folder, for one thread."""

    def __init__(self, results: Path, *, read_only: bool = False, clock: Callable[[], float] = time.time) -> None:
        """Errors: `ledger-invalid`, `output-failed`."""
        path = results / OUTBOX_FILE
        self._db = open_database(path, (_first_schema,), read_only=read_only)
        self._guard, self._clock = guarded(path), clock

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # -- what is to be sent ------------------------------------------------------------------------------------------
    def is_seen(self, destination: str, study: str, stamp: Stamp) -> bool:
        """Whether this very result of a study was queued before."""
        with self._guard:
            row = self._db.execute(
                "SELECT stamp FROM seen WHERE destination = ? AND study = ?", (destination, study)
            ).fetchone()
        return row is not None and row[0] == json.dumps(stamp)

    def queue(self, destination: str, study: str, stamp: Stamp, objects: Iterable[tuple[str, str]]) -> None:
        """Queue a study's objects, (file, SOP Instance UID) each; those of an older result that still wait are
        superseded. An object that was queued before is not queued again.
        """
        objects = list(objects)
        marks = ", ".join("?" * len(objects))
        now = self._clock()
        with self._guard, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE object SET state = 'superseded', changed = ? WHERE destination = ? AND study = ?"
                f" AND state IN ('queued', 'dead') AND sop_uid NOT IN ({marks})",
                (now, destination, study, *(uid for _, uid in objects)),
            )
            self._db.executemany(
                "INSERT INTO object (destination, study, file, sop_uid, changed) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET state = 'queued' WHERE state = 'superseded'",
                [(destination, study, file, uid, now) for file, uid in objects],
            )
            self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (destination, study, json.dumps(stamp)))

    def due(self, destination: str, most: int = 100) -> list[Outgoing]:
        """What is to be sent now, study by study."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, study, file, sop_uid, refusals FROM object WHERE destination = ? AND state = 'queued'"
                " AND due <= ? ORDER BY id LIMIT ?",
                (destination, self._clock(), most),
            ).fetchall()
        return [Outgoing(**dict(row)) for row in rows]

    # -- the outcome -------------------------------------------------------------------------------------------------
    def mark(self, item: Outgoing, state: str, code: str = "", status: str = "") -> None:
        """It is sent or superseded.

        code, status: what the destination had to say of it.
        """
        with self._guard:
            self._db.execute(
                "UPDATE object SET state = ?, code = ?, status = ?, changed = ? WHERE id = ?",
                (state, code, status, self._clock(), item.id),
            )

    def count_refusal(self, item: Outgoing, code: str, status: str, wait_s: float, most: int) -> str:
        """The destination refused it. It waits, or is dead. Returns its state."""
        state = "dead" if item.refusals + 1 >= most else "queued"
        with self._guard:
            self._db.execute(
                "UPDATE object SET state = ?, refusals = refusals + 1, due = ?, code = ?, status = ?, changed = ?"
                " WHERE id = ?",
                (state, self._clock() + wait_s, code, status, self._clock(), item.id),
            )
        return state

    def retry(self) -> int:
        """Queue the dead letters again. Returns how many."""
        with self._guard:
            query = "UPDATE object SET state = 'queued', refusals = 0, due = 0 WHERE state = 'dead'"
            return self._db.execute(query).rowcount

    # -- looking -----------------------------------------------------------------------------------------------------
    def note_half_sent(self, received: str) -> None:
        """A study whose association broke off was taken as it is."""
        with self._guard:
            self._db.execute("INSERT INTO half_sent (received, taken) VALUES (?, ?)", (received, self._clock()))

    def count_half_sent(self) -> int:
        """Studies that were taken so."""
        with self._guard:
            return int(self._db.execute("SELECT COUNT(*) FROM half_sent").fetchone()[0])

    def rows(self) -> list[dict[str, Any]]:
        """Every object with its destination, state, code and status."""
        columns = "destination, study, file, sop_uid, state, refusals, code, status, changed"
        with self._guard:
            return [dict(row) for row in self._db.execute(f"SELECT {columns} FROM object ORDER BY id")]

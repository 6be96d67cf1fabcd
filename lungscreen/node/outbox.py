"""The outbox: one row for each result and destination, kept until it is sent or given up.

    queued ─► sent ─► committed     where the destination commits to what it stored
      │  ▲     │
      │  └─────┴─ `lungscreen node retry`; a commitment that failed
      ├────► dead         refused, or not committed, `most_refusals` times
      └────► superseded   a newer result of the study took its place before it was sent

It names nobody: keys and UIDs of own objects only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungscreen.database import guarded, open_database
from lungscreen.results.folder import Stamp

__all__ = ["OUTBOX_FILE", "OUTBOX_STATES", "Outbox", "Outgoing", "outbox_rows", "retry_outbox"]

OUTBOX_FILE = "outbox.sqlite"

OUTBOX_STATES = ("queued", "sent", "committed", "dead", "superseded")


@dataclass(frozen=True)
class Outgoing:
    """A result that is to be sent.

    sop_uid, sop_class: what the file held when it was queued.
    asked: whether the destination was asked to commit to it.
    """

    id: int
    study: str
    file: str
    sop_uid: str
    sop_class: str
    refusals: int
    asked: bool = False


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


def _results_are_committed(connection: Any) -> None:
    """When each object was queued, sent and committed; what each transaction of storage commitment asks about."""
    for column in ("queued", "sent", "committed", "answer_by"):
        connection.execute(f"ALTER TABLE object ADD COLUMN {column} REAL NOT NULL DEFAULT 0")
    connection.execute("ALTER TABLE object ADD COLUMN sop_class TEXT NOT NULL DEFAULT ''")
    connection.execute("UPDATE object SET queued = changed")
    connection.execute("UPDATE object SET sent = changed WHERE state = 'sent'")
    connection.execute(
        "CREATE TABLE asked (transaction_uid TEXT NOT NULL, object INTEGER NOT NULL,"
        " PRIMARY KEY (transaction_uid, object)) WITHOUT ROWID"
    )


def _priors_are_asked_for(connection: Any) -> None:
    """text: what the report says of it; empty where every earlier exam that was found came."""
    connection.execute(
        "CREATE TABLE priors (received TEXT PRIMARY KEY, found INTEGER NOT NULL, came INTEGER NOT NULL,"
        " text TEXT NOT NULL, changed REAL NOT NULL) WITHOUT ROWID"
    )


MIGRATIONS = (_first_schema, _results_are_committed, _priors_are_asked_for)
"""One function a schema version; a version that was released is never changed."""


class Outbox:
    """The open outbox of a results folder, for one thread."""

    def __init__(self, results: Path, *, read_only: bool = False, clock: Callable[[], float] = time.time) -> None:
        """Errors: `ledger-invalid`, `output-failed`."""
        path = results / OUTBOX_FILE
        self._db = open_database(path, MIGRATIONS, read_only=read_only)
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

    def queue(self, destination: str, study: str, stamp: Stamp, objects: Iterable[tuple[str, str, str]]) -> None:
        """Queue a study's objects, (file, SOP Instance UID, SOP Class UID) each; those of an older result that still
        wait are superseded. An object that was queued before is not queued again.
        """
        objects = list(objects)
        marks = ", ".join("?" * len(objects))
        now = self._clock()
        with self._guard, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute(
                "UPDATE object SET state = 'superseded', changed = ? WHERE destination = ? AND study = ?"
                f" AND state IN ('queued', 'dead') AND sop_uid NOT IN ({marks})",
                (now, destination, study, *(uid for _, uid, _ in objects)),
            )
            self._db.executemany(
                "INSERT INTO object (destination, study, file, sop_uid, sop_class, queued, changed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET state = 'queued' WHERE state = 'superseded'",
                [(destination, study, *names, now, now) for names in objects],
            )
            self._db.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", (destination, study, json.dumps(stamp)))

    def due(self, destination: str, most: int = 100) -> list[Outgoing]:
        """What is to be sent now, study by study."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, study, file, sop_uid, sop_class, refusals FROM object WHERE destination = ?"
                " AND state = 'queued' AND due <= ? ORDER BY id LIMIT ?",
                (destination, self._clock(), most),
            ).fetchall()
        return [Outgoing(**dict(row)) for row in rows]

    # -- the outcome -------------------------------------------------------------------------------------------------
    def mark_sent(self, item: Outgoing, code: str = "", status: str = "") -> None:
        """The destination has it.

        code, status: what it had to say of it.
        """
        now = self._clock()
        with self._guard:
            self._db.execute(
                "UPDATE object SET state = 'sent', code = ?, status = ?, sent = ?, changed = ?, answer_by = 0"
                " WHERE id = ?",
                (code, status, now, now, item.id),
            )

    def supersede(self, item: Outgoing) -> None:
        """A newer result took its place."""
        with self._guard:
            self._db.execute(
                "UPDATE object SET state = 'superseded', changed = ? WHERE id = ?", (self._clock(), item.id)
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

    def retry(self, code: str | None = None) -> int:
        """Queue the dead letters again, all or those of one code. Returns how many."""
        query = "UPDATE object SET state = 'queued', refusals = 0, due = 0 WHERE state = 'dead'"
        with self._guard:
            if code is None:
                return self._db.execute(query).rowcount
            return self._db.execute(f"{query} AND code = ?", (code,)).rowcount

    # -- storage commitment ------------------------------------------------------------------------------------------
    def uncommitted(self, destination: str, most: int = 100) -> list[Outgoing]:
        """What a destination is to be asked about now: it has it, and was not asked, or did not answer in time."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, study, file, sop_uid, sop_class, refusals, answer_by > 0 AS asked FROM object"
                " WHERE destination = ? AND state = 'sent' AND answer_by <= ?"
                " AND sop_class != '' ORDER BY study, id LIMIT ?",
                (destination, self._clock(), most),
            ).fetchall()
        return [Outgoing(**dict(row) | {"asked": bool(row["asked"])}) for row in rows]

    def note_asked(self, transaction_uid: str, items: Sequence[Outgoing], answer_s: float) -> None:
        """Before the destination is asked, since the answer may come at once."""
        with self._guard, self._db:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("INSERT INTO asked VALUES (?, ?)", [(transaction_uid, item.id) for item in items])
            self._db.executemany(
                "UPDATE object SET answer_by = ? WHERE id = ?", [(self._clock() + answer_s, item.id) for item in items]
            )

    def count_silence(self, item: Outgoing, most: int) -> str:
        """The destination did not answer in time, or would not be asked. Returns the object's state."""
        state = "dead" if item.refusals + 1 >= most else "sent"
        with self._guard:
            self._db.execute(
                "UPDATE object SET state = ?, refusals = refusals + 1, code = 'commitment-missing', changed = ?"
                " WHERE id = ?",
                (state, self._clock(), item.id),
            )
        return state

    def asked_in(self, transaction_uid: str) -> list[Outgoing]:
        """What a transaction asked about and is not committed yet."""
        with self._guard:
            rows = self._db.execute(
                "SELECT id, study, file, sop_uid, sop_class, refusals FROM object"
                " JOIN asked ON asked.object = object.id"
                " WHERE transaction_uid = ? AND state IN ('queued', 'sent', 'dead') ORDER BY id",
                (transaction_uid,),
            ).fetchall()
        return [Outgoing(**dict(row)) for row in rows]

    def mark_committed(self, items: Iterable[Outgoing]) -> None:
        """The destination answers for them from now on."""
        now = self._clock()
        with self._guard:
            self._db.executemany(
                "UPDATE object SET state = 'committed', committed = ?, changed = ?,"
                " code = CASE code WHEN 'result-warned' THEN code ELSE '' END WHERE id = ?",
                [(now, now, item.id) for item in items],
            )

    # -- looking -----------------------------------------------------------------------------------------------------
    def note_half_sent(self, received: str) -> None:
        """A study whose association broke off was taken as it is."""
        with self._guard:
            self._db.execute("INSERT INTO half_sent (received, taken) VALUES (?, ?)", (received, self._clock()))

    def count_half_sent(self) -> int:
        """Studies that were taken so."""
        with self._guard:
            return int(self._db.execute("SELECT COUNT(*) FROM half_sent").fetchone()[0])

    def note_priors(self, received: str, found: int, came: int, text: str) -> None:
        """How asking for a study's earlier exams ended."""
        row = (received, found, came, text, self._clock())
        with self._guard:
            self._db.execute("INSERT OR REPLACE INTO priors VALUES (?, ?, ?, ?, ?)", row)

    def remark(self, received: str) -> str:
        """What is to be said of a study's earlier exams; empty where all is well."""
        with self._guard:
            row = self._db.execute("SELECT text FROM priors WHERE received = ?", (received,)).fetchone()
        return str(row[0]) if row else ""

    def count_priors(self) -> dict[str, int]:
        """Studies for which earlier exams were asked for; exams found, and those that came; studies with a remark."""
        sums = "COALESCE(SUM(found), 0), COALESCE(SUM(came), 0), COALESCE(SUM(text != ''), 0)"
        with self._guard:
            row = self._db.execute(f"SELECT COUNT(*), {sums} FROM priors").fetchone()
        return dict(zip(("studies", "found", "came", "not_fetched"), map(int, row), strict=True))

    def counts(self) -> dict[tuple[str, str], int]:
        """Objects by destination and state."""
        query = "SELECT destination, state, COUNT(*) FROM object GROUP BY destination, state"
        with self._guard:
            return {(name, state): count for name, state, count in self._db.execute(query)}

    def studies(self) -> dict[str, set[str]]:
        """Study → the states of its objects that no newer result replaced."""
        found: dict[str, set[str]] = {}
        query = "SELECT DISTINCT study, state FROM object WHERE state != 'superseded'"
        with self._guard:
            for study, state in self._db.execute(query):
                found.setdefault(study, set()).add(state)
        return found

    def rows(self) -> list[dict[str, Any]]:
        """Every object with its destination, state, code and status, and when it was queued, sent and committed (POSIX
        seconds; 0: not yet).
        """
        columns = (
            "id, destination, study, file, sop_uid, state, refusals, code, status, queued, sent, committed, changed"
        )
        with self._guard:
            return [dict(row) for row in self._db.execute(f"SELECT {columns} FROM object ORDER BY id")]


def outbox_rows(results: Path) -> list[dict[str, Any]]:
    """What was sent where, when, and how it was acknowledged, as `Outbox.rows`; nothing where no node was run.

    Errors: `ledger-invalid`.
    """
    if not (results / OUTBOX_FILE).is_file():
        return []
    outbox = Outbox(results, read_only=True)
    try:
        return outbox.rows()
    finally:
        outbox.close()


def retry_outbox(results: Path, code: str | None = None) -> int:
    """Queue the dead letters again, all or those of one code. Returns how many; 0 where no node was run.

    Errors: `ledger-invalid`, `output-failed`.
    """
    if not (results / OUTBOX_FILE).is_file():
        return 0
    outbox = Outbox(results)
    try:
        return outbox.retry(code)
    finally:
        outbox.close()

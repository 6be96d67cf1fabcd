"""The ledger: one row a study, and how every attempt ended. It names nobody (keyed hashes only).

    waiting ─► running ─► done | refused | failed
       ▲          │
       └──────────┴─ put back: stopped, interrupted, an attempt that died, new slices, a new pipeline, `batch retry`

Only the process that holds the lock of `--out` writes it.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from lungscreen.database import guarded, open_database
from lungscreen.errors import UsageError
from lungscreen.files import LEDGER_FILE

__all__ = ["FoundStudy", "Ledger", "State", "TaskRow", "hourly_rate"]


State = Literal["waiting", "running", "done", "refused", "failed"]

LEAST_ENDED = 10
"""Of fewer studies no speed is told."""

LEAST_SPAN_S = 60.0
"""And not of a shorter time."""

ENDED = ("done", "refused", "failed")


@dataclass(frozen=True, slots=True)
class FoundStudy:
    """A study as the index knows it now.

    input: keyed hash over its instances.
    stamp: keyed hash over the files' times, which decides whether a study that was refused or failed is worth another
        look.
    arrived: POSIX seconds of its newest file.
    only_shrunk: files vanished and none was added, which makes nothing new of what was read.
    """

    key: str
    identity: str
    patient: str
    input: str
    stamp: str
    arrived: float = 0.0
    urgent: bool = False
    files: int = 0
    only_shrunk: bool = False
    entered: bool = False
    """The ledger holds it as it is."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One study of the ledger."""

    key: str
    patient: str
    state: State
    attempts: int
    interruptions: int
    alone: bool
    urgent: bool
    arrived: float
    input: str
    code: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    peak_mb: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    finished: str = ""
    worker: str = ""
    pipeline: str = ""
    """Of pipeline, weights and outputs."""
    results: Mapping[str, str] = field(default_factory=dict)
    """What was written (`lungscreen.results.folder.ResultsFolder.seal`)."""


def _first_schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
    connection.execute(
        """CREATE TABLE study (
            key TEXT PRIMARY KEY, identity TEXT NOT NULL UNIQUE, patient TEXT NOT NULL, state TEXT NOT NULL,
            attempts INTEGER NOT NULL DEFAULT 0, interruptions INTEGER NOT NULL DEFAULT 0,
            alone INTEGER NOT NULL DEFAULT 0, urgent INTEGER NOT NULL DEFAULT 0, arrived REAL NOT NULL DEFAULT 0,
            files INTEGER NOT NULL DEFAULT 0, input TEXT NOT NULL, stamp TEXT NOT NULL,
            code TEXT NOT NULL DEFAULT '', pipeline TEXT NOT NULL DEFAULT '', seconds TEXT NOT NULL DEFAULT '{}',
            peak_mb TEXT NOT NULL DEFAULT '{}', facts TEXT NOT NULL DEFAULT '{}', worker TEXT NOT NULL DEFAULT '',
            finished TEXT NOT NULL DEFAULT ''
        ) WITHOUT ROWID"""
    )
    connection.execute("CREATE INDEX study_next ON study (state, alone, urgent DESC, arrived, key)")
    connection.execute(
        """CREATE TABLE run (
            id INTEGER PRIMARY KEY, started TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '', how TEXT NOT NULL DEFAULT '',
            user TEXT NOT NULL, host TEXT NOT NULL, software TEXT NOT NULL, pipeline TEXT NOT NULL,
            pipeline_name TEXT NOT NULL, pipeline_hash TEXT NOT NULL, weights TEXT NOT NULL, engine TEXT NOT NULL
        )"""
    )
    connection.execute(
        """CREATE TABLE attempt (
            id INTEGER PRIMARY KEY, run INTEGER NOT NULL REFERENCES run(id), study TEXT NOT NULL,
            input TEXT NOT NULL, worker TEXT NOT NULL, started TEXT NOT NULL, ended TEXT NOT NULL DEFAULT '',
            outcome TEXT NOT NULL DEFAULT '', code TEXT NOT NULL DEFAULT '', seconds TEXT NOT NULL DEFAULT '{}',
            peak_mb TEXT NOT NULL DEFAULT '{}'
        )"""
    )
    connection.execute("CREATE INDEX attempt_study ON attempt (study, id)")


def _results_are_sealed(connection: sqlite3.Connection) -> None:
    """results: what was written of a study, by which deleted and changed results are noticed."""
    connection.execute("ALTER TABLE study ADD COLUMN results TEXT NOT NULL DEFAULT '{}'")


MIGRATIONS = (_first_schema, _results_are_sealed)
"""One function a schema version; a version that was released is never changed."""


def hourly_rate(ends: Sequence[float]) -> float | None:
    """Studies per hour from when each ended, in seconds; None where they are too few, or too near, to tell."""
    span = max(ends) - min(ends) if len(ends) >= LEAST_ENDED else 0.0
    return (len(ends) - 1) / span * 3600 if span >= LEAST_SPAN_S else None


class Ledger:
    """The open ledger of an `--out`."""

    def __init__(self, out: Path, *, read_only: bool = False) -> None:
        """Errors: `ledger-invalid`, `output-failed`."""
        self.path = out / LEDGER_FILE
        self._db = open_database(self.path, MIGRATIONS, read_only=read_only)
        self._guard = guarded(self.path)

    def close(self) -> None:
        """Close it; the write-ahead log goes into the one file."""
        self._db.close()

    # -- whose key ---------------------------------------------------------------------------------------------------
    def check_key(self, fingerprint: str, identified: bool) -> None:
        """Remember the key on the first run, refuse another one later.

        Errors: `key-differs`.
        """
        kind = "identified" if identified else "pseudonyms"
        with self._guard:
            known = dict(self._db.execute("SELECT name, value FROM about").fetchall())
            if "key" not in known:
                self._db.executemany("INSERT INTO about VALUES (?, ?)", [("key", fingerprint), ("patients", kind)])
                return
        if known["key"] != fingerprint:
            raise UsageError("key-differs", "this folder was begun with another key file", str(self.path.parent))
        if known["patients"] != kind:
            reason = f"this folder was begun with {known['patients']}: --identified cannot change"
            raise UsageError("key-differs", reason, str(self.path.parent))

    def key_fingerprint(self) -> str:
        """Of the key that the ledger was begun with; empty before the first run."""
        with self._guard:
            row = self._db.execute("SELECT value FROM about WHERE name = 'key'").fetchone()
        return str(row[0]) if row else ""

    # -- runs --------------------------------------------------------------------------------------------------------
    def begin_run(self, **about: str) -> int:
        """A new run; `about`: user, host, software, pipeline, pipeline_name, pipeline_hash, weights, engine."""
        names = ("user", "host", "software", "pipeline", "pipeline_name", "pipeline_hash", "weights", "engine")
        with self._guard:
            cursor = self._db.execute(
                f"INSERT INTO run (started, {', '.join(names)}) VALUES (?{', ?' * len(names)})",
                (_now(), *(about[name] for name in names)),
            )
        return int(cursor.lastrowid or 0)

    def end_run(self, run: int, how: str) -> None:
        """How the run ended: finished, stopped, failed. An empty one was interrupted."""
        with self._guard:
            self._db.execute("UPDATE run SET ended = ?, how = ? WHERE id = ?", (_now(), how, run))

    def recover(self, most_interruptions: int) -> list[TaskRow]:
        """Studies that were running when an earlier run was interrupted. They stay running until `put_back` or
        `finish`.

        Counts the interruption: from `most_interruptions` on a study is run last and alone.
        """
        with self._guard, self._transaction():
            self._db.execute(
                "UPDATE study SET interruptions = interruptions + 1 WHERE state = 'running'",
            )
            self._db.execute("UPDATE attempt SET ended = ?, outcome = 'interrupted' WHERE outcome = ''", (_now(),))
            rows = [_row(r) for r in self._db.execute("SELECT * FROM study WHERE state = 'running' ORDER BY key")]
            self._db.execute(
                "UPDATE study SET alone = alone + 1 WHERE state = 'running' AND interruptions >= ?",
                (most_interruptions,),
            )
        return rows

    # -- what there is to do -----------------------------------------------------------------------------------------
    def enter(self, found: Iterable[FoundStudy], pipeline: str) -> int:
        """Enter what is new: an unknown study, new slices, another pipeline; one that was refused or failed also
        where its files changed. Returns how many studies are waiting because of it.

        A study that is known under another key (of an index that was lost) goes there: see `withdraw`.
        """
        fresh = 0
        with self._guard, self._transaction():
            for study in found:
                fresh += self._enter(study, pipeline)
        return fresh

    def _enter(self, new: FoundStudy, pipeline: str) -> int:
        self._db.execute("DELETE FROM study WHERE identity = ? AND key != ?", (new.identity, new.key))
        old = self._db.execute("SELECT * FROM study WHERE key = ?", (new.key,)).fetchone()
        if old is None:
            self._db.execute(
                "INSERT INTO study (key, identity, patient, state, urgent, arrived, files, input, stamp)"
                " VALUES (?, ?, ?, 'waiting', ?, ?, ?, ?, ?)",
                (new.key, new.identity, new.patient, new.urgent, new.arrived, new.files, new.input, new.stamp),
            )
            return 1
        if new.only_shrunk and old["state"] in ENDED and pipeline == old["pipeline"]:
            return 0
        again = _is_to_be_read_again(old, new, pipeline)
        self._db.execute(
            "UPDATE study SET identity = ?, urgent = ?, arrived = ?, files = ?, input = ?, stamp = ? WHERE key = ?",
            (new.identity, new.urgent, new.arrived, new.files, new.input, new.stamp, new.key),
        )
        if again:
            self._reset("key = ?", (new.key,))
        return int(again)

    def _reset(self, where: str, values: tuple[Any, ...]) -> int:
        cursor = self._db.execute(
            f"UPDATE study SET state = 'waiting', attempts = 0, interruptions = 0, alone = 0, code = '' WHERE {where}",
            values,
        )
        return cursor.rowcount

    def reopen(self, keys: Iterable[str]) -> int:
        """Studies that were done wait again: their results are gone or changed. Returns how many."""
        with self._guard, self._transaction():
            return sum(self._reset("key = ? AND state = 'done'", (key,)) for key in keys)

    def withdraw(self, keys: Iterable[str]) -> list[str]:
        """Forget studies that turned out to be another's, but for one that is running. Returns those known."""
        gone = []
        with self._guard, self._transaction():
            for key in keys:
                cursor = self._db.execute("DELETE FROM study WHERE key = ? AND state != 'running'", (key,))
                gone += [key] if cursor.rowcount else []
        return gone

    def keys(self) -> set[str]:
        """Of every study."""
        with self._guard:
            return {row[0] for row in self._db.execute("SELECT key FROM study")}

    def next_waiting(self, skip: Iterable[str] = ()) -> TaskRow | None:
        """The study to read next: urgent first, then oldest first; those that are run alone come last."""
        skip = tuple(skip)
        marks = ", ".join("?" * len(skip))
        with self._guard:
            for alone in ("alone = 0", "alone > 0"):
                row = self._db.execute(
                    f"SELECT * FROM study WHERE state = 'waiting' AND {alone} AND key NOT IN ({marks})"
                    " ORDER BY urgent DESC, arrived, key LIMIT 1",
                    skip,
                ).fetchone()
                if row:
                    return _row(row)
        return None

    def start(self, key: str, run: int, worker: str) -> int:
        """A worker has it now. Returns the number of the attempt."""
        with self._guard, self._transaction():
            self._db.execute("UPDATE study SET state = 'running', worker = ? WHERE key = ?", (worker, key))
            cursor = self._db.execute(
                "INSERT INTO attempt (run, study, input, worker, started)"
                " SELECT ?, key, input, ?, ? FROM study WHERE key = ?",
                (run, worker, _now(), key),
            )
        return int(cursor.lastrowid or 0)

    # -- how it ended -------------------------------------------------------------------------------------------------
    def finish(
        self,
        key: str,
        state: State,
        pipeline: str,
        input_hash: str,
        *,
        code: str = "",
        seconds: Mapping[str, float] | None = None,
        peak_mb: Mapping[str, float] | None = None,
        facts: Mapping[str, Any] | None = None,
        results: Mapping[str, str] | None = None,
        attempt: int | None = None,
    ) -> None:
        """Its results are on disk, whole, or it is refused or failed. One whose slices changed meanwhile waits
        again.
        """
        texts = tuple(json.dumps(dict(value or {}), sort_keys=True) for value in (seconds, peak_mb, facts, results))
        with self._guard, self._transaction():
            self._db.execute(
                "UPDATE study SET state = ?, code = ?, pipeline = ?, seconds = ?, peak_mb = ?, facts = ?, results = ?,"
                " finished = ? WHERE key = ?",
                (state, code, pipeline, *texts, _now(), key),
            )
            self._reset("key = ? AND input != ?", (key, input_hash))
            if attempt is not None:
                self._db.execute(
                    "UPDATE attempt SET ended = ?, outcome = ?, code = ?, seconds = ?, peak_mb = ? WHERE id = ?",
                    (_now(), state, code, *texts[:2], attempt),
                )

    def put_back(self, key: str, attempt: int | None = None, outcome: str = "put back") -> None:
        """It waits again, at no cost."""
        with self._guard, self._transaction():
            self._db.execute("UPDATE study SET state = 'waiting', worker = '' WHERE key = ?", (key,))
            self._end_attempt(attempt, outcome, "")

    def count_attempt(self, key: str, code: str, most: int, attempt: int | None = None) -> bool:
        """An attempt that ended badly. It waits again; False where that was the last attempt, and it is to be
        failed.
        """
        with self._guard, self._transaction():
            self._db.execute("UPDATE study SET attempts = attempts + 1, state = 'waiting' WHERE key = ?", (key,))
            self._end_attempt(attempt, "died", code)
            attempts = self._db.execute("SELECT attempts FROM study WHERE key = ?", (key,)).fetchone()[0]
        return bool(attempts < most)

    def count_interruption(self, key: str, most: int, attempt: int | None = None) -> bool:
        """The machine that had it is lost. It waits again, last and alone from `most` interruptions on; False where it
        was alone already, and is to be failed.
        """
        with self._guard, self._transaction():
            was_alone = self._db.execute("SELECT alone FROM study WHERE key = ?", (key,)).fetchone()[0]
            self._db.execute(
                "UPDATE study SET state = 'waiting', worker = '', interruptions = interruptions + 1,"
                " alone = alone + (interruptions + 1 >= ?) WHERE key = ?",
                (most, key),
            )
            self._end_attempt(attempt, "node lost", "")
        return not was_alone

    def _end_attempt(self, attempt: int | None, outcome: str, code: str) -> None:
        if attempt is not None:
            self._db.execute(
                "UPDATE attempt SET ended = ?, outcome = ?, code = ? WHERE id = ?", (_now(), outcome, code, attempt)
            )

    def retry(self, code: str | None = None) -> int:
        """Put failed and refused studies back, all or those of one code. Returns how many."""
        with self._guard, self._transaction():
            if code is None:
                return self._reset("state IN ('refused', 'failed')", ())
            return self._reset("state IN ('refused', 'failed') AND code = ?", (code,))

    # -- looking -----------------------------------------------------------------------------------------------------
    def get(self, key: str) -> TaskRow | None:
        """One study."""
        with self._guard:
            row = self._db.execute("SELECT * FROM study WHERE key = ?", (key,)).fetchone()
        return _row(row) if row else None

    def rows(self) -> list[TaskRow]:
        """Every study, by key."""
        with self._guard:
            return [_row(row) for row in self._db.execute("SELECT * FROM study ORDER BY key")]

    def counts(self, keys: Iterable[str] | None = None) -> dict[str, int]:
        """Studies by state, all or those named; every state is there."""
        found = dict.fromkeys(("waiting", "running", *ENDED), 0)
        with self._guard:
            if keys is not None:
                for key in keys:
                    for (state,) in self._db.execute("SELECT state FROM study WHERE key = ?", (key,)):
                        found[state] += 1
                return found
            found.update(self._db.execute("SELECT state, COUNT(*) FROM study GROUP BY state").fetchall())
        return found

    def codes(self) -> dict[tuple[str, str], int]:
        """Studies by state and code, of those that have a code."""
        query = "SELECT state, code, COUNT(*) FROM study WHERE code != '' GROUP BY state, code ORDER BY state, code"
        with self._guard:
            return {(state, code): count for state, code, count in self._db.execute(query)}

    def rate(self, hours: float) -> float | None:
        """Studies that ended per hour, over the last hours of work; None before there are enough (`hourly_rate`)."""
        query = "SELECT ended FROM attempt WHERE outcome IN ('done', 'refused', 'failed') ORDER BY id DESC LIMIT 10000"
        with self._guard:
            ends = [datetime.fromisoformat(row[0]).timestamp() for row in self._db.execute(query)]
        return hourly_rate([end for end in ends if end > ends[0] - hours * 3600])

    def stage_figures(self) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
        """Mean seconds and largest memory (MiB) by stage, of the studies that were read."""
        mean = (
            "SELECT stage.key, AVG(stage.value) FROM study, json_each(study.seconds) AS stage"
            " WHERE study.state = 'done' GROUP BY stage.key ORDER BY stage.key"
        )
        peak = (
            "SELECT stage.key, MAX(stage.value) FROM study, json_each(study.peak_mb) AS stage"
            " WHERE study.state = 'done' GROUP BY stage.key ORDER BY stage.key"
        )
        with self._guard:
            return tuple({(stage,): value for stage, value in self._db.execute(query)} for query in (mean, peak))  # type: ignore[return-value]  # two

    def attempts(self) -> list[dict[str, Any]]:
        """Every attempt with its run, in order."""
        query = (
            "SELECT attempt.*, run.user, run.host, run.software, run.pipeline_name, run.pipeline_hash, run.weights,"
            " run.engine FROM attempt JOIN run ON run.id = attempt.run ORDER BY attempt.id"
        )
        with self._guard:
            return [dict(row) for row in self._db.execute(query)]

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)


class _Transaction:
    """All of the block, or nothing."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self._db.execute("COMMIT")
        elif self._db.in_transaction:
            self._db.execute("ROLLBACK")


def _now() -> str:
    return datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="milliseconds")


def _table(text: str) -> dict[str, Any]:
    """Errors: `ledger-invalid` where it is none."""
    try:
        table = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        table = None
    if not isinstance(table, dict):
        raise UsageError("ledger-invalid", "the ledger is damaged: a field is no table")
    return table


def _row(row: sqlite3.Row) -> TaskRow:
    return TaskRow(
        key=row["key"],
        patient=row["patient"],
        state=row["state"],
        attempts=row["attempts"],
        interruptions=row["interruptions"],
        alone=bool(row["alone"]),
        urgent=bool(row["urgent"]),
        arrived=row["arrived"],
        input=row["input"],
        code=row["code"],
        seconds=_table(row["seconds"]),
        peak_mb=_table(row["peak_mb"]),
        facts=_table(row["facts"]),
        finished=row["finished"],
        worker=row["worker"],
        pipeline=row["pipeline"],
        results=_table(row["results"]),
    )


def _is_to_be_read_again(old: sqlite3.Row, new: FoundStudy, pipeline: str) -> bool:
    """Whether a study that ended has other files, another patient or another pipeline now; one that could not be read
    also where its files were written again.
    """
    if old["state"] not in ENDED:
        return False
    changed = new.input != old["input"] or new.identity != old["identity"] or pipeline != old["pipeline"]
    return bool(changed or (old["state"] in ("refused", "failed") and new.stamp != old["stamp"]))

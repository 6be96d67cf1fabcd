"""What was not read, or not whole: one store in the results folder, from which refused.csv and the pages are made.

    owner of a row     replaced when
    study <key>        the study is read again
    input <path>       the input, or a folder above it, is searched again
    strangers          any input is searched: objects that belong to no study
    priors             earlier exams are given

A row stays until its owner is looked at again. Paths and patient IDs stand in it: the file is its owner's alone (0600).
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from lungscreen.database import guarded, open_database
from lungscreen.errors import Refusal
from lungscreen.results.document import ReportDocument

__all__ = ["REFUSALS_FILE", "RefusalStore", "document_refusals"]

REFUSALS_FILE = "refusals.sqlite"

_STUDY, _INPUT, _STRANGERS, _PRIORS = "study", "input", "strangers", "priors"
_ORDER = (_INPUT, _STRANGERS, _STUDY, _PRIORS)
"""Of the rows in refused.csv."""


def _first_schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE refusal (kind TEXT NOT NULL, owner TEXT NOT NULL, content TEXT NOT NULL)")
    connection.execute("CREATE INDEX refusal_owner ON refusal (kind, owner)")


class RefusalStore:
    """The refusals of one results folder; open until closed."""

    def __init__(self, out: Path) -> None:
        """Errors: `ledger-invalid`, `output-failed`."""
        path = out / REFUSALS_FILE
        self._db = open_database(path, (_first_schema,), mode=0o600)
        self._guard = guarded(path)

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # -- writing -----------------------------------------------------------------------------------------------------
    def keep_study(self, key: str, refusals: Iterable[Refusal]) -> None:
        """What of a study was not read, in place of the study's earlier rows."""
        self._replace(_STUDY, [key], key, refusals)

    def keep_input(self, place: Path, refusals: Iterable[Refusal]) -> None:
        """Files of an input that belong to no study, in place of earlier rows of it and of inputs below it."""
        with self._guard:
            known = [row[0] for row in self._db.execute("SELECT DISTINCT owner FROM refusal WHERE kind = ?", (_INPUT,))]
        self._replace(_INPUT, [owner for owner in known if _covers(place, _place(owner))], _owner(place), refusals)
        self._forget_below(place, [owner for owner in known if not _covers(place, _place(owner))])

    def keep_strangers(self, refusals: Iterable[Refusal]) -> None:
        """Objects that belong to no study."""
        self._replace(_STRANGERS, [""], "", refusals)

    def keep_priors(self, refusals: Iterable[Refusal]) -> None:
        """What of the earlier exams that were given was not read, or is of nobody here."""
        self._replace(_PRIORS, [""], "", refusals)

    # -- reading -----------------------------------------------------------------------------------------------------
    def rows(self) -> list[Refusal]:
        """Every row once: of inputs, of no study, of studies, of earlier exams."""
        return list(dict.fromkeys(row for kind in _ORDER for row in self._rows(kind)))

    def of_run(self, inputs: Sequence[Path], keys: Collection[str]) -> list[Refusal]:
        """Of these inputs and studies, and objects that belong to no study; not of earlier exams."""
        found = [row for path in dict.fromkeys(inputs) for row in self._rows(_INPUT, {_owner(path)})]
        return [*found, *self._rows(_STRANGERS), *self._rows(_STUDY, keys)]

    def _rows(self, kind: str, owners: Collection[str] | None = None) -> list[Refusal]:
        query = "SELECT owner, content FROM refusal WHERE kind = ? ORDER BY owner, rowid"
        with self._guard:
            found = self._db.execute(query, (kind,)).fetchall()
        return [Refusal(**json.loads(text)) for owner, text in found if owners is None or owner in owners]

    def _replace(self, kind: str, old: Iterable[str], owner: str, refusals: Iterable[Refusal]) -> None:
        rows = [(kind, owner, json.dumps(asdict(refusal))) for refusal in dict.fromkeys(refusals)]
        with self._guard:
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany("DELETE FROM refusal WHERE kind = ? AND owner = ?", [(kind, one) for one in old])
            self._db.executemany("INSERT INTO refusal VALUES (?, ?, ?)", rows)
            self._db.execute("COMMIT")

    def _forget_below(self, place: Path, owners: Iterable[str]) -> None:
        """Rows of inputs above `place` that are of what lies in it: that was just searched."""
        for owner in owners:
            kept = [row for row in self._rows(_INPUT, {owner}) if not _covers(place, _file_of(row.where))]
            self._replace(_INPUT, [owner], owner, kept)


def document_refusals(document: ReportDocument) -> tuple[Refusal, ...]:
    """What a report says was not read of its study."""
    uid, patient_id = document.exam.study_uid, document.patient.patient_id or ""
    return tuple(Refusal(row.where, row.code, row.reason, row.scope, uid, patient_id) for row in document.not_read)


def _covers(place: Path, other: Path) -> bool:
    """Whether `other` is `place` or lies in it."""
    return other == place or place in other.parents


def _owner(place: Path) -> str:
    """An input's path as it is kept: a name may be no UTF-8, which SQLite does not take."""
    return json.dumps(str(place))


def _place(owner: str) -> Path:
    return Path(json.loads(owner))


def _file_of(where: str) -> Path:
    """The file that a row names; of an archive's member, the archive."""
    return Path(where.split("!", 1)[0])

"""The tables of the index."""

from __future__ import annotations

import sqlite3

__all__ = ["INDEX_FILE", "MIGRATIONS"]

INDEX_FILE = "index.sqlite"


def _first_schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE place (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE)")
    connection.execute(
        "CREATE TABLE folder (id INTEGER PRIMARY KEY, place INTEGER NOT NULL, path TEXT NOT NULL, seen INTEGER NOT"
        " NULL,"
        " UNIQUE (place, path))"
    )
    connection.execute(
        """CREATE TABLE file (
            folder INTEGER NOT NULL, name TEXT NOT NULL, member TEXT NOT NULL, size INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL, kind TEXT NOT NULL, study INTEGER, series TEXT, sop TEXT, along_mm REAL,
            code TEXT, reason TEXT, PRIMARY KEY (folder, name, member)
        ) WITHOUT ROWID"""
    )
    connection.execute("CREATE INDEX file_study ON file (study)")
    connection.execute("CREATE INDEX file_series ON file (series)")
    connection.execute("CREATE INDEX file_kind ON file (kind) WHERE kind IN ('bad', 'other')")
    connection.execute(
        """CREATE TABLE study (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, patient_id TEXT NOT NULL, name TEXT NOT NULL,
            uid TEXT NOT NULL, day TEXT NOT NULL, kind TEXT NOT NULL, changed INTEGER NOT NULL, grown INTEGER NOT NULL,
            input TEXT NOT NULL DEFAULT '', stamp TEXT NOT NULL DEFAULT '', arrived REAL NOT NULL DEFAULT 0,
            files INTEGER NOT NULL DEFAULT 0, urgent INTEGER NOT NULL DEFAULT 0, UNIQUE (patient_id, name, uid)
        )"""
    )
    connection.execute("CREATE INDEX study_changed ON study (changed) WHERE changed")
    connection.execute("CREATE INDEX study_uid ON study (uid)")
    connection.execute("CREATE INDEX study_patient ON study (patient_id)")
    connection.execute("CREATE TABLE refusal (owner TEXT NOT NULL, content TEXT NOT NULL)")
    connection.execute("CREATE INDEX refusal_owner ON refusal (owner)")


def _headers_are_remembered(connection: sqlite3.Connection) -> None:
    """Paths as bytes, since a name may be no UTF-8; headers beside their files. What is known is looked at once
    more.
    """
    connection.execute("CREATE TABLE common (id INTEGER PRIMARY KEY, content TEXT NOT NULL UNIQUE)")
    connection.execute("ALTER TABLE file ADD COLUMN common INTEGER")
    connection.execute("ALTER TABLE file ADD COLUMN own TEXT")
    for table, column in (("place", "path"), ("folder", "path"), ("file", "name")):
        connection.execute(f"UPDATE {table} SET {column} = CAST({column} AS BLOB)")
    connection.execute("UPDATE file SET mtime_ns = 0")


def _without_refusals(connection: sqlite3.Connection) -> None:
    """They have a store of their own (`lungscreen.results.refusals`)."""
    connection.execute("DROP TABLE IF EXISTS refusal")


def _people_are_told_apart(connection: sqlite3.Connection) -> None:
    """Issuer, birth date, sex and what was mended belong to an identity. What is known is looked at once more.

    whole: the study with which this one is read, itself as a rule. moved: its files turned out to be another study's.
    """
    connection.execute(
        """CREATE TABLE study_3 (
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, patient_id TEXT NOT NULL, name TEXT NOT NULL,
            uid TEXT NOT NULL, issuer TEXT NOT NULL DEFAULT '', birth_date TEXT NOT NULL DEFAULT '',
            sex TEXT NOT NULL DEFAULT '', mended TEXT NOT NULL DEFAULT '', whole INTEGER NOT NULL,
            moved INTEGER NOT NULL DEFAULT 0, day TEXT NOT NULL, kind TEXT NOT NULL, changed INTEGER NOT NULL,
            grown INTEGER NOT NULL, input TEXT NOT NULL DEFAULT '', stamp TEXT NOT NULL DEFAULT '',
            arrived REAL NOT NULL DEFAULT 0, files INTEGER NOT NULL DEFAULT 0, urgent INTEGER NOT NULL DEFAULT 0,
            UNIQUE (patient_id, name, uid, issuer, birth_date, sex, mended)
        )"""
    )
    known = "id, key, patient_id, name, uid, day, kind, changed, grown, input, stamp, arrived, files, urgent"
    connection.execute(f"INSERT INTO study_3 ({known}, whole) SELECT {known}, id FROM study")
    connection.execute("DROP TABLE study")
    connection.execute("ALTER TABLE study_3 RENAME TO study")
    connection.execute("CREATE INDEX study_changed ON study (changed) WHERE changed")
    connection.execute("CREATE INDEX study_uid ON study (uid)")
    connection.execute("CREATE INDEX study_patient ON study (patient_id)")
    connection.execute("CREATE INDEX study_whole ON study (whole)")
    connection.execute("UPDATE file SET mtime_ns = 0")


def _content_is_remembered(connection: sqlite3.Connection) -> None:
    """content: a hash of what was read, empty where nothing was. version: how often it was found to be another."""
    connection.execute("ALTER TABLE study ADD COLUMN content TEXT NOT NULL DEFAULT ''")
    connection.execute("ALTER TABLE study ADD COLUMN version INTEGER NOT NULL DEFAULT 0")


MIGRATIONS = (
    _first_schema,
    _headers_are_remembered,
    _without_refusals,
    _people_are_told_apart,
    _content_is_remembered,
)
"""One function a schema version; a version that was released is never changed."""

"""What is known of places (inputs), folders and files, and to which study each file belongs."""

from __future__ import annotations

import math
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path

import numpy as np

from lungscreen.pseudonyms import Pseudonyms
from lungscreen.records import Source
from lungscreen.series import Identity, Look, identify, identify_image
from lungscreen.series.headers import Header
from lungscreen.series.memory import pack_header, unpack_header

__all__ = ["IDENTITY_COLUMNS", "LOOK_COLUMNS", "FileTable", "Turn", "recall_identity", "recall_look"]

MOST_ATTEMPTS = 100
"""Keys that are tried for a study before giving up."""
COMMIT_S = 0.5
"""The index is committed so often while it is being filled: an interrupted look goes on where it was."""

LET_IN_S = 2.0
"""How long a look at the inputs waits for another writer of the index."""


class Turn:
    """Lets a short writer in between the commits of a long one: the database alone would let it starve."""

    def __init__(self) -> None:
        self._count = 0

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *error: object) -> None:
        self._count -= 1

    def let_in(self) -> None:
        """Called by the long writer while it holds nothing."""
        end = time.monotonic() + LET_IN_S
        while self._count > 0 and time.monotonic() < end:
            time.sleep(0.005)


class FileTable:
    """The part of the index that a visit fills. Its methods work inside a transaction that `begin` opens."""

    def __init__(self, db: sqlite3.Connection, names: Pseudonyms, turn: Turn) -> None:
        self._db = db
        self._names = names
        self._turn = turn
        self._committed = 0.0

    def begin(self) -> None:
        """Begin to write."""
        self._db.execute("BEGIN IMMEDIATE")
        self._committed = time.monotonic()

    def place_id(self, path: Path) -> int:
        """The number of an input."""
        place = os.fsencode(path)
        self._db.execute("INSERT OR IGNORE INTO place (path) VALUES (?)", (place,))
        return int(self._db.execute("SELECT id FROM place WHERE path = ?", (place,)).fetchone()[0])

    def known_files(self, place: int, path: Path, number: int) -> tuple[int, dict[str, tuple[int, int]]]:
        """A folder's number, and size and time of its files as they were; marks it as seen."""
        folder = os.fsencode(path)
        self._db.execute(
            "INSERT INTO folder (place, path, seen) VALUES (?, ?, ?) ON CONFLICT (place, path) DO UPDATE SET seen = ?",
            (place, folder, number, number),
        )
        row = self._db.execute("SELECT id FROM folder WHERE place = ? AND path = ?", (place, folder)).fetchone()
        files = self._db.execute("SELECT name, size, mtime_ns FROM file WHERE folder = ? AND member = ''", (row[0],))
        return int(row[0]), {os.fsdecode(name): (size, mtime_ns) for name, size, mtime_ns in files}

    def replace_file(self, folder: int, name: str, looks: Sequence[Look]) -> None:
        """What a file, or an archive with its members, holds now."""
        which = (folder, os.fsencode(name))
        query = "SELECT DISTINCT study FROM file WHERE folder = ? AND name = ? AND study IS NOT NULL"
        before = self._db.execute(query, which).fetchall()
        self.forget_file(folder, name)
        # unless it is this one's again, which takes the mark away
        self._db.executemany("UPDATE study SET moved = 1 WHERE id = ?", before)
        for look in looks:
            identity = _identity(look)
            common, own = (None, None) if look.header is None else pack_header(look.header)
            self._db.execute(
                f"INSERT OR REPLACE INTO file ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})",
                (
                    folder,
                    os.fsencode(name),
                    look.source.member,
                    look.size,
                    look.mtime_ns,
                    look.kind,
                    None if identity is None else self._study_of(look, identity),
                    # of another object the columns hold its study and series
                    look.study_uid if look.kind == "other" else look.series_uid,
                    look.series_uid if look.kind == "other" else _sop_uid(look, identity),
                    _along_mm(look.header),
                    look.code,
                    look.what or look.reason,
                    None if common is None else self._common_id(common),
                    own,
                ),
            )

    def breathe(self) -> None:
        """Commit now and then, and let others write."""
        if time.monotonic() - self._committed > COMMIT_S:
            self._db.execute("COMMIT")
            self._turn.let_in()
            self.begin()

    def forget_file(self, folder: int, name: str) -> None:
        """A file that is gone or changed; the studies it belonged to have changed."""
        where, which = "WHERE folder = ? AND name = ?", (folder, os.fsencode(name))
        self._db.execute(f"UPDATE study SET changed = 1 WHERE id IN (SELECT study FROM file {where})", which)
        self._db.execute(f"DELETE FROM file {where}", which)

    def forget_folders(self, place: int, number: int) -> None:
        """Folders of an input that this look did not meet."""
        for row in self._db.execute("SELECT id FROM folder WHERE place = ? AND seen != ?", (place, number)).fetchall():
            for (name,) in self._db.execute("SELECT DISTINCT name FROM file WHERE folder = ?", (row[0],)).fetchall():
                self.forget_file(row[0], os.fsdecode(name))
            self._db.execute("DELETE FROM folder WHERE id = ?", (row[0],))

    def was_filled(self, place: int) -> bool:
        """Whether files of an input are known."""
        query = "SELECT 1 FROM folder JOIN file ON file.folder = folder.id WHERE folder.place = ? LIMIT 1"
        return self._db.execute(query, (place,)).fetchone() is not None

    def _study_of(self, look: Look, identity: Identity) -> int:
        """The number of the study that a file belongs to, made where it is new; marked as changed."""
        who = _identity_values(identity)
        where = " AND ".join(f"{column} = ?" for column in IDENTITY_COLUMNS)
        row = self._db.execute(f"SELECT id FROM study WHERE {where}", who).fetchone()
        if row is not None:
            self._db.execute("UPDATE study SET changed = 1, grown = 1, moved = 0 WHERE id = ?", (row[0],))
            return int(row[0])
        day = "" if look.header is None else look.header.exam.date
        cursor = self._db.execute(
            f"INSERT INTO study (key, {', '.join(IDENTITY_COLUMNS)}, day, kind, changed, grown, whole)"
            f" VALUES (?{', ?' * len(IDENTITY_COLUMNS)}, ?, ?, 1, 1, 0)",
            (self._free_key(identity), *who, day, look.kind),
        )
        self._db.execute("UPDATE study SET whole = id WHERE id = ?", (cursor.lastrowid,))
        return int(cursor.lastrowid or 0)

    def _common_id(self, common: str) -> int:
        """The number of what many headers have in common."""
        self._db.execute("INSERT OR IGNORE INTO common (content) VALUES (?)", (common,))
        return int(self._db.execute("SELECT id FROM common WHERE content = ?", (common,)).fetchone()[0])

    def _free_key(self, identity: Identity) -> str:
        """Of the identity; another one in the rare case that two studies have the same digits."""
        for attempt in range(MOST_ATTEMPTS):
            key = self._names.study_key(identity.study_uid, identity.patient_id, identity.name, attempt)
            if self._db.execute("SELECT 1 FROM study WHERE key = ?", (key,)).fetchone() is None:
                return key
        raise AssertionError(f"{MOST_ATTEMPTS} keyed hashes in a row are taken")


_COLUMNS = (
    "folder",
    "name",
    "member",
    "size",
    "mtime_ns",
    "kind",
    "study",
    "series",
    "sop",
    "along_mm",
    "code",
    "reason",
    "common",
    "own",
)

IDENTITY_COLUMNS = ("patient_id", "name", "uid", "issuer", "birth_date", "sex", "mended")
"""Of a study, in the order of `Identity`."""

LOOK_COLUMNS = (
    "folder.path AS folder, file.name, file.member, file.size, file.mtime_ns, file.kind, file.series, file.sop,"
    " file.code,"
    " file.reason, file.own, common.content AS common"
)
"""What `recall_look` needs of a file joined with its folder and, from the left, with `common`."""


def recall_look(row: sqlite3.Row) -> Look:
    """The look that was remembered; one of an older version lacks its header, and is made anew when it is needed."""
    source = Source(Path(os.fsdecode(row["folder"]), os.fsdecode(row["name"])), row["member"])
    state = (row["kind"], row["size"], row["mtime_ns"])
    if row["kind"] == "other":
        return Look(source, *state, study_uid=row["series"], series_uid=row["sop"], what=row["reason"])
    header = None if row["common"] is None else unpack_header(source, row["common"], row["own"])
    study_uid = "" if header is None else header.study_uid
    return Look(source, *state, header, study_uid, row["series"], code=row["code"], reason=row["reason"])


def _identity_values(identity: Identity) -> tuple[str, ...]:
    """An identity as it stands in `IDENTITY_COLUMNS`."""
    return astuple(identity)


def recall_identity(row: sqlite3.Row) -> Identity:
    """The identity in a study's row."""
    return Identity(*(row[column] for column in IDENTITY_COLUMNS))


def _identity(look: Look) -> Identity | None:
    if look.header is not None:
        return identify(look.header.patient, look.header.study_uid)
    return identify_image(look.source) if look.kind == "image" else None


def _sop_uid(look: Look, identity: Identity | None) -> str:
    """What tells a file of a study from its others: an image file is the only one of its own."""
    if look.header is not None:
        return look.header.instance.sop_instance_uid
    return identity.study_uid if identity is not None else ""


def _along_mm(header: Header | None) -> float | None:
    """Where a slice lies along its normal, to a hundredth of a millimetre; None for a multi-frame object."""
    if header is None or header.instance.orientation is None or header.instance.position_mm is None:
        return None
    row, column = header.instance.orientation[:3], header.instance.orientation[3:]
    along = float(np.dot(np.cross(row, column), header.instance.position_mm))
    return round(along, 2) if math.isfinite(along) else None

"""What is known of places (inputs), folders and files, and to which study each file belongs."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence

from lungscreen.batch.looks import Look
from lungscreen.pseudonyms import Pseudonyms

__all__ = ["FileTable", "Turn"]

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

    def place_id(self, place: str) -> int:
        """The number of an input."""
        self._db.execute("INSERT OR IGNORE INTO place (path) VALUES (?)", (place,))
        return int(self._db.execute("SELECT id FROM place WHERE path = ?", (place,)).fetchone()[0])

    def known_files(self, place: int, folder: str, number: int) -> tuple[int, dict[str, tuple[int, int]]]:
        """A folder's number, and size and time of its files as they were; marks it as seen."""
        self._db.execute(
            "INSERT INTO folder (place, path, seen) VALUES (?, ?, ?) ON CONFLICT (place, path) DO UPDATE SET seen = ?",
            (place, folder, number, number),
        )
        row = self._db.execute("SELECT id FROM folder WHERE place = ? AND path = ?", (place, folder)).fetchone()
        files = self._db.execute("SELECT name, size, mtime_ns FROM file WHERE folder = ? AND member = ''", (row[0],))
        return int(row[0]), {name: (size, mtime_ns) for name, size, mtime_ns in files}

    def replace_file(self, folder: int, name: str, size: int, mtime_ns: int, looks: Sequence[Look]) -> None:
        """What a file, or an archive with its members, holds now."""
        self.forget_file(folder, name)
        for look in looks:
            study = self.study_of(look) if look.kind in ("ct", "image") else None
            self._db.execute(
                "INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    folder, name, look.member, size if not look.member else look.size, mtime_ns, look.kind, study,
                    look.series_uid, look.sop_uid, look.along_mm, look.code, look.reason,
                ),
            )  # fmt: skip

    def breathe(self) -> None:
        """Commit now and then, and let others write."""
        if time.monotonic() - self._committed > COMMIT_S:
            self._db.execute("COMMIT")
            self._turn.let_in()
            self.begin()

    def forget_file(self, folder: int, name: str) -> None:
        """A file that is gone or changed; the studies it belonged to have changed."""
        where = "WHERE folder = ? AND name = ?"
        self._db.execute(f"UPDATE study SET changed = 1 WHERE id IN (SELECT study FROM file {where})", (folder, name))
        self._db.execute(f"DELETE FROM file {where}", (folder, name))

    def forget_folders(self, place: int, number: int) -> None:
        """Folders of an input that this look did not meet."""
        for row in self._db.execute("SELECT id FROM folder WHERE place = ? AND seen != ?", (place, number)).fetchall():
            for (name,) in self._db.execute("SELECT DISTINCT name FROM file WHERE folder = ?", (row[0],)).fetchall():
                self.forget_file(row[0], name)
            self._db.execute("DELETE FROM folder WHERE id = ?", (row[0],))

    def was_filled(self, place: int) -> bool:
        """Whether files of an input are known."""
        query = "SELECT 1 FROM folder JOIN file ON file.folder = folder.id WHERE folder.place = ? LIMIT 1"
        return self._db.execute(query, (place,)).fetchone() is not None

    def study_of(self, look: Look) -> int:
        """The number of the study that a file belongs to, made where it is new; marked as changed."""
        who = (look.patient_id, look.name, look.study_uid)
        row = self._db.execute("SELECT id FROM study WHERE patient_id = ? AND name = ? AND uid = ?", who).fetchone()
        if row is not None:
            self._db.execute("UPDATE study SET changed = 1, grown = 1 WHERE id = ?", (row[0],))
            return int(row[0])
        cursor = self._db.execute(
            "INSERT INTO study (key, patient_id, name, uid, day, kind, changed, grown) VALUES (?, ?, ?, ?, ?, ?, 1, 1)",
            (self._free_key(look), *who, look.day, look.kind),
        )
        return int(cursor.lastrowid or 0)

    def _free_key(self, look: Look) -> str:
        """By the UID; where another study has that key (a copy under another name), by more."""
        tries = [(look.study_uid,), (look.study_uid, look.patient_id, look.name)]
        tries += [(look.study_uid, look.patient_id, look.name, str(n)) for n in range(100)]
        for parts in tries:
            key = self._names.study_key(*parts)
            if self._db.execute("SELECT 1 FROM study WHERE key = ?", (key,)).fetchone() is None:
                return key
        raise AssertionError("a hundred keyed hashes in a row are taken")

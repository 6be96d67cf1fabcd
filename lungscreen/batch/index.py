"""The index: which files there are, and which study each belongs to. The one file of a night that holds paths and UIDs.

    inputs ─► files (size, time, header) ─► studies ─► Offers to the ledger

A second look costs a `stat` a file: only what is new, or has another size or time, is opened. What vanished leaves the
index but takes no result with it; an input that is away (an unmounted share) is left as it was.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lungscreen.batch.database import guarded, open_database
from lungscreen.batch.keys import Pseudonyms
from lungscreen.batch.ledger import Offer
from lungscreen.batch.looks import Look, look_at, look_into
from lungscreen.batch.tasks import Person, Task
from lungscreen.clinical import ClinicalTable
from lungscreen.comparison import PriorTable
from lungscreen.dicomfile import quiet_pydicom
from lungscreen.errors import Refusal
from lungscreen.records import ClinicalData, Source
from lungscreen.series import SeriesConfig
from lungscreen.series.files import is_junk, list_sources
from lungscreen.series.rejects import Rejects
from lungscreen.sources import SourceReader

__all__ = ["INDEX_FILE", "URGENT_FOLDER", "Index", "Scan", "Turn"]

INDEX_FILE = "index.sqlite"

URGENT_FOLDER = "urgent"
"""What lies below a folder of this name (any case) in an input is read first."""

URGENT_WORDS = frozenset({"urgent", "stat", "asap", "emergency", "high", "1"})
"""What the clinical table's `priority` says of an urgent study; everything else is routine."""

COMMIT_S = 0.5
"""The index is committed so often while it is being filled: an interrupted look goes on where it was."""

LET_IN_S = 2.0
"""How long a look at the inputs waits for another writer of the index."""

HOLE_STEPS = 1.9
"""Neighbouring positions of a series so many usual steps apart leave room for a slice that is still to come."""


@dataclass
class Scan:
    """What a look at the inputs gave."""

    offers: list[Offer] = field(default_factory=list)
    away: list[str] = field(default_factory=list)
    """Inputs that cannot be reached now though they were once."""
    opened: int = 0
    """Files that had to be opened."""


def _first_schema(connection: sqlite3.Connection) -> None:
    connection.execute("CREATE TABLE place (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE)")
    connection.execute(
        "CREATE TABLE folder (id INTEGER PRIMARY KEY, place INTEGER NOT NULL, path TEXT NOT NULL, seen INTEGER NOT NULL,"
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


MIGRATIONS = (_first_schema,)
"""One function a schema version; a version that was released is never changed."""


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


class Index:
    """The open index of an `--out`."""

    def __init__(
        self,
        out: Path,
        pseudonyms: Pseudonyms,
        config: SeriesConfig | None = None,
        clinical: ClinicalTable | None = None,
        priors: PriorTable | None = None,
        turn: Turn | None = None,
        shard: tuple[int, int] = (1, 1),
    ) -> None:
        """Errors: `ledger-invalid`, `output-failed`."""
        self._out = out
        self._names = pseudonyms
        self._config = config or SeriesConfig()
        self._clinical = clinical
        self._priors = priors or PriorTable()
        path = out / INDEX_FILE
        self._db = open_database(path, MIGRATIONS, mode=0o600)
        self._guard = guarded(path)
        self._committed = 0.0
        self._turn = turn or Turn()
        self._shard = shard

    def close(self) -> None:
        """Close it."""
        self._db.close()

    # -- looking at the inputs ---------------------------------------------------------------------------------------
    def scan(
        self, inputs: Sequence[Path], *, everything: bool = True, stop: Callable[[], bool] = lambda: False
    ) -> Scan:
        """Bring the index up to date with the inputs.

        everything: offer all studies of these inputs, not only those that changed.
        stop: asked now and then; a look that is stopped is gone on with by the next one.
        """
        scan = Scan()
        with self._guard, quiet_pydicom(), SourceReader() as reader:
            self._begin()
            try:
                number = self._db.execute("SELECT COALESCE(MAX(seen), 0) + 1 FROM folder").fetchone()[0]
                visit = _Visit(self, reader, scan, number, stop)
                places = [visit.input(path) for path in dict.fromkeys(inputs)]
                if not stop():
                    self._update_studies()
                    scan.offers = self._offers(places if everything else None)
            finally:
                self._db.execute("COMMIT")
        return scan

    def settle(self, keys: Iterable[str]) -> None:
        """These studies were taken up by the ledger as they are now."""
        with self._guard, self._turn:
            self._begin()
            self._db.executemany("UPDATE study SET changed = 0, grown = 0 WHERE key = ?", [(key,) for key in keys])
            self._db.execute("COMMIT")

    def has_hole(self, key: str) -> bool:
        """Whether a series of the study lacks whole slices between others, by their positions."""
        query = (
            "SELECT DISTINCT file.series, file.along_mm FROM file JOIN study ON study.id = file.study"
            " WHERE study.key = ? AND file.along_mm IS NOT NULL ORDER BY file.series, file.along_mm"
        )
        places: dict[str, list[float]] = {}
        with self._guard:
            for series, along_mm in self._db.execute(query, (key,)):
                places.setdefault(series, []).append(along_mm)
        return any(_holed(along) for along in places.values())

    # -- what a worker needs -----------------------------------------------------------------------------------------
    def task(self, key: str, input_hash: str, attempt: int) -> Task:
        """What a worker needs to know of a study."""
        with self._guard:
            row = self._db.execute("SELECT * FROM study WHERE key = ?", (key,)).fetchone()
            names, number = self._names_of(row)
        person = Person(row["patient_id"], row["name"], row["uid"])
        return Task(
            key,
            person,
            tuple(self.sources(key)),
            input_hash,
            attempt,
            kind=row["kind"],
            names=names,
            earlier=tuple(source for other in self._earlier(row) for source in self.sources(other["key"])),
            number=number,
        )

    def _earlier(self, row: sqlite3.Row) -> list[sqlite3.Row]:
        """Earlier exams of the same patient ID; of nobody and of image files there are none."""
        if not row["patient_id"].strip() or not row["day"] or row["kind"] != "ct":
            return []
        return self._db.execute(
            "SELECT * FROM study WHERE patient_id = ? AND id != ? AND kind = 'ct' AND day != '' AND day < ? ORDER BY key",
            (row["patient_id"], row["id"], row["day"]),
        ).fetchall()

    def _names_of(self, row: sqlite3.Row) -> tuple[int, int]:
        """Names under the study's patient ID; of an image file, files of its name and which of them it is."""
        if row["kind"] == "image":
            same = self._db.execute("SELECT id FROM study WHERE kind = 'image' AND uid = ? ORDER BY id", (row["uid"],))
            numbers = [found[0] for found in same]
            return len(numbers), numbers.index(row["id"]) + 1
        query = "SELECT COUNT(DISTINCT name) FROM study WHERE kind = 'ct' AND patient_id = ? AND patient_id != ''"
        return int(self._db.execute(query, (row["patient_id"],)).fetchone()[0]), 1

    def sources(self, key: str) -> list[Source]:
        """The study's files, those of its series that are somebody else's too, and its objects that are no CT."""
        query = (
            "WITH mine AS (SELECT id, uid FROM study WHERE key = ?)"
            " SELECT folder.path, file.name, file.member FROM file JOIN folder ON folder.id = file.folder WHERE"
            " file.study IN (SELECT id FROM mine) OR (file.kind = 'ct' AND file.series IN"
            " (SELECT series FROM file WHERE study IN (SELECT id FROM mine) AND kind = 'ct'))"
            " OR (file.kind = 'other' AND file.series IN (SELECT uid FROM mine))"
            " ORDER BY folder.path, file.name, file.member"
        )
        with self._guard:
            rows = self._db.execute(query, (key,)).fetchall()
        return [Source(Path(folder, name), member) for folder, name, member in rows]

    # -- what was not read -------------------------------------------------------------------------------------------
    def keep_refusals(self, key: str, refusals: Iterable[Refusal]) -> None:
        """In place of the study's earlier ones."""
        with self._guard, self._turn:
            self._begin()
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

    def study_uids(self) -> list[str]:
        """Every study that was ever seen."""
        with self._guard:
            return [row[0] for row in self._db.execute("SELECT uid FROM study")]

    def patients(self) -> list[str]:
        """Every patient ID that was ever seen."""
        with self._guard:
            return [row[0] for row in self._db.execute("SELECT DISTINCT patient_id FROM study")]

    def keys_of(self, inputs: Sequence[Path]) -> list[str]:
        """Studies that have files in these inputs."""
        query = (
            "SELECT DISTINCT study.key FROM place JOIN folder ON folder.place = place.id"
            " JOIN file ON file.folder = folder.id JOIN study ON study.id = file.study WHERE place.path = ?"
        )
        with self._guard:
            return sorted({row[0] for path in inputs for row in self._db.execute(query, (str(path),))})

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

    # -- studies -----------------------------------------------------------------------------------------------------
    def _update_studies(self) -> None:
        """Fingerprints of the studies whose files changed."""
        for study in self._db.execute("SELECT id FROM study WHERE changed = 1").fetchall():
            rows = self._db.execute(
                "SELECT file.series, file.sop, file.size, file.mtime_ns, folder.path, place.path FROM file"
                " JOIN folder ON folder.id = file.folder JOIN place ON place.id = folder.place WHERE file.study = ?",
                (study[0],),
            ).fetchall()
            parts = sorted({f"{series}\t{sop}\t{size}" for series, sop, size, *_ in rows})
            times = sorted(str(row[3]) for row in rows)
            self._db.execute(
                "UPDATE study SET changed = 2, input = ?, stamp = ?, arrived = ?, files = ?, urgent = ? WHERE id = ?",
                (
                    self._names.digest("instances", *parts),
                    self._names.digest("times", *times),
                    max((row[3] for row in rows), default=0) / 1e9,
                    len(rows),
                    any(_is_urgent(row[4], row[5]) for row in rows),
                    study[0],
                ),
            )

    def _offers(self, places: Sequence[int] | None) -> list[Offer]:
        if places is None:
            rows = self._db.execute("SELECT * FROM study WHERE changed").fetchall()
        else:
            marks = ", ".join("?" * len(places))
            rows = self._db.execute(
                "SELECT * FROM study WHERE changed OR id IN (SELECT file.study FROM file JOIN folder"
                f" ON folder.id = file.folder WHERE folder.place IN ({marks}))",
                tuple(places),
            ).fetchall()
        return [offer for offer in map(self._offer, rows) if self._is_mine(offer)]

    def _is_mine(self, offer: Offer) -> bool:
        """Whether this shard reads the study: by its keyed hash, so that all shards agree without talking."""
        number, count = self._shard
        return int(offer.identity[:8], 16) % count == number - 1

    def _offer(self, row: sqlite3.Row) -> Offer:
        clinical = self._clinical.rows.get(row["patient_id"].strip(), ()) if self._clinical else ()
        known = sorted(repr((r.accession_number, r.study_date, _without_priority(r.data))) for r in clinical)
        urgent = bool(row["urgent"]) or any(r.data.priority.strip().lower() in URGENT_WORDS for r in clinical)
        return Offer(
            key=row["key"],
            identity=self._names.digest("identity", row["patient_id"], row["name"], row["uid"]),
            patient=self._names.patient(row["patient_id"]),
            input=self._names.digest("input", row["input"], *known, "earlier", *self._fingerprints(row)),
            stamp=row["stamp"],
            arrived=row["arrived"],
            urgent=urgent,
            files=row["files"],
            only_shrunk=bool(row["changed"]) and not row["grown"],
            settled=not row["changed"],
        )

    def _fingerprints(self, row: sqlite3.Row) -> list[str]:
        """Of what the study is compared with: an earlier exam that comes later makes it new."""
        given = self._priors
        mine = row["patient_id"].strip()
        found = [other["input"] for other in self._earlier(row)]
        found += [s.exam.study_uid for s in given.given if s.patient.patient_id.strip() == mine]
        return found + [r.study_uid for r in given.reports if r.patient.patient_id.strip() == mine]

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

    # -- for the visit -----------------------------------------------------------------------------------------------
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
            self._begin()

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

    @property
    def config(self) -> SeriesConfig:
        """How archives are searched."""
        return self._config

    @property
    def out(self) -> Path:
        """Never searched."""
        return self._out

    def _begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._committed = time.monotonic()


class _Visit:
    """One look at the inputs."""

    def __init__(self, index: Index, reader: SourceReader, scan: Scan, number: int, stop: Callable[[], bool]) -> None:
        self._index = index
        self._reader = reader
        self._scan = scan
        self._number = number
        self._stop = stop
        self._entered = {_identity(index.out)} if index.out.exists() else set()
        self._met: set[tuple[int, int]] = set()

    def input(self, path: Path) -> int:
        """One input; returns its number."""
        place = self._index.place_id(str(path))
        if not path.exists() or (path.is_dir() and self._index.was_filled(place) and not _has_entries(path)):
            if self._index.was_filled(place):
                self._scan.away.append(str(path))
            return place
        if path.is_dir():
            for folder, names in self._walk(path, place):
                self._folder(place, folder, names)
        else:
            by_folder: dict[str, list[str]] = {}
            for source in self._given(path, place):
                by_folder.setdefault(str(source.path.parent), []).append(source.path.name)
            for folder, names in by_folder.items():
                self._folder(place, folder, sorted(set(names)))
        if not self._stop():
            self._index.forget_folders(place, self._number)
        return place

    def _given(self, path: Path, place: int) -> list[Source]:
        """A file that was named itself: DICOM, an image, an archive, or a DICOMDIR with what it lists."""
        if path.name.upper() != "DICOMDIR":
            return [Source(path)]
        rejects = Rejects()
        found, failed = list_sources([path], self._index.config, self._reader, rejects)
        folder, _ = self._index.known_files(place, str(path.parent), self._number)
        rows = [*failed, *(row for at in rejects.places() for row in rejects.rows(at))]
        looks = [
            Look("bad", member="" if row.where == str(path) else row.where, code=row.code, reason=row.reason)
            for row in rows
        ]
        self._index.replace_file(folder, path.name, 0, 0, looks)
        return [source for _, source in found]

    def _walk(self, root: Path, place: int) -> Iterator[tuple[str, list[str]]]:
        """Folders below an input with their files. Links are followed, but no folder is entered twice."""

        def complain(error: OSError) -> None:
            folder, _ = self._index.known_files(place, str(error.filename), self._number)
            self._index.replace_file(
                folder, "", 0, 0, [Look("bad", code="file-unreadable", reason="the folder cannot be read")]
            )

        for folder, folders, names in os.walk(root, followlinks=True, onerror=complain):
            if self._stop():
                return
            identity = _identity(Path(folder))
            if identity in self._entered:
                folders.clear()
                continue
            self._entered.add(identity)
            folders[:] = sorted(name for name in folders if not is_junk(name))
            yield folder, sorted(name for name in names if not is_junk(name) and name.upper() != "DICOMDIR")

    def _folder(self, place: int, path: str, names: Sequence[str]) -> None:
        folder, known = self._index.known_files(place, path, self._number)
        self._index.breathe()
        for name in names:
            if self._stop():
                return
            self._file(folder, Path(path, name), known.pop(name, None))
            self._index.breathe()
        for name in known:
            if name and name.upper() != "DICOMDIR":
                self._index.forget_file(folder, name)

    def _file(self, folder: int, path: Path, known: tuple[int, int] | None) -> None:
        status = _stat(path)
        if status is None:
            if known != _NOWHERE:
                look = Look("bad", code="file-unreadable", reason="not a regular file, or a link to nowhere")
                self._index.replace_file(folder, path.name, *_NOWHERE, [look])
            return
        if self._is_copy(status):
            if known is not None:
                self._index.forget_file(folder, path.name)
            return
        if known == (status.st_size, status.st_mtime_ns):
            return
        self._scan.opened += 1
        looks = look_into(path, self._reader, self._index.config) or [look_at(Source(path), self._reader)]
        self._index.replace_file(folder, path.name, status.st_size, status.st_mtime_ns, looks)

    def _is_copy(self, status: os.stat_result) -> bool:
        """Whether the same real file was met before under another name: one in a folder of its own, by a link."""
        identity = status.st_dev, status.st_ino
        if identity in self._met:
            return True
        self._met.add(identity)
        return False


_NOWHERE = (-1, -1)
"""Size and time of what is no file."""


def _stat(path: Path) -> os.stat_result | None:
    """Of the file itself, links followed; None where it is no regular file."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _has_entries(folder: Path) -> bool:
    """Whether a folder can be listed and holds something: the mount point of a share that is gone does not."""
    try:
        with os.scandir(folder) as entries:
            return next(entries, None) is not None
    except OSError:
        return False


def _is_urgent(folder: str, place: str) -> bool:
    below = os.path.relpath(folder, place) if folder.startswith(place) else folder
    return URGENT_FOLDER in (part.lower() for part in Path(below).parts)


def _without_priority(data: ClinicalData) -> ClinicalData:
    """A study that became urgent is no other study."""
    return replace(data, priority="")


def _holed(along_mm: Sequence[float]) -> bool:
    """Whether neighbours lie whole steps apart; positions ascend."""
    steps = sorted(b - a for a, b in itertools.pairwise(along_mm) if b > a)
    return len(steps) > 1 and steps[-1] > HOLE_STEPS * steps[len(steps) // 2]

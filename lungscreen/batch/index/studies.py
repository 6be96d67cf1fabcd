"""Studies: whose files they are, whether they are new, and what a worker needs to know of one."""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from pathlib import Path

from lungscreen.batch.index.files import LOOK_COLUMNS, recall_identity, recall_look
from lungscreen.batch.ledger import FoundStudy
from lungscreen.batch.tasks import Task
from lungscreen.clinical import ClinicalTable
from lungscreen.comparison import PriorTable, names_somebody
from lungscreen.database import guarded
from lungscreen.pseudonyms import Pseudonyms
from lungscreen.records import ClinicalData, Patient
from lungscreen.series import Look, hash_content, whole_identities

__all__ = ["URGENT_FOLDER", "StudyTable"]

URGENT_FOLDER = "urgent"
"""What lies below a folder of this name (any case) in an input is read first."""

URGENT_WORDS = frozenset({"urgent", "stat", "asap", "emergency", "high", "1"})
"""What the clinical table's `priority` says of an urgent study; everything else is routine."""

HOLE_STEPS = 1.9
"""Neighbouring positions of a series so many usual steps apart leave room for a slice that is still to come."""


class StudyTable:
    """The part of the index that tells of studies."""

    def __init__(
        self,
        db: sqlite3.Connection,
        guard: guarded,
        names: Pseudonyms,
        clinical: ClinicalTable | None,
        priors: PriorTable,
        shard: tuple[int, int],
        companions: Sequence[Path] = (),
    ) -> None:
        self._db = db
        self._guard = guard
        self._names = names
        self._clinical = clinical
        self._priors = priors
        self._shard = shard
        self._companions = tuple(os.fsencode(path) for path in companions)

    # -- what a worker needs -----------------------------------------------------------------------------------------
    def task(self, key: str, input_hash: str, attempt: int) -> Task:
        """What a worker needs to know of a study."""
        with self._guard:
            row = self._db.execute("SELECT * FROM study WHERE key = ?", (key,)).fetchone()
            others = [recall_identity(other) for other in self._same_uid(row)]
            parts = [recall_identity(other) for other in self._same_uid(row) if other["whole"] == row["id"]]
            who = parts[0] if parts else recall_identity(row)
            return Task(
                key,
                whole_identities([who, *others])[who],
                tuple(self._all_looks(row)),
                input_hash,
                attempt,
                names=tuple(self._names_under(row["patient_id"])),
                others=tuple(others),
                earlier=tuple(look for other in self._earlier(row) for look in self._looks(other)),
            )

    def _earlier(self, row: sqlite3.Row) -> list[sqlite3.Row]:
        """Earlier exams of the same patient ID; of image files there are none. Of an ID that is nobody's, one at most:
        it is not compared, and that is said.
        """
        if not row["patient_id"].strip() or not row["day"] or row["kind"] != "ct":
            return []
        found = self._db.execute(
            "SELECT * FROM study WHERE patient_id = ? AND id != ? AND whole = id AND kind = 'ct' AND day != ''"
            " AND day < ? ORDER BY key",
            (row["patient_id"], row["id"], row["day"]),
        ).fetchall()
        return found if names_somebody(Patient(row["patient_id"])) else found[:1]

    def _same_uid(self, row: sqlite3.Row) -> list[sqlite3.Row]:
        """Every identity that files with this study's UID, person and name give now."""
        there = "id IN (SELECT study FROM file WHERE study = study.id)"
        query = f"SELECT * FROM study WHERE {_SAME_UID} AND {there} ORDER BY id"
        return self._db.execute(query, _same_uid(row)).fetchall()

    def _names_under(self, patient_id: str) -> list[str]:
        """Names under a patient ID; under none there may be anybody's."""
        query = "SELECT DISTINCT name FROM study WHERE kind = 'ct' AND patient_id = ? AND patient_id != ''"
        return [row[0] for row in self._db.execute(query, (patient_id,))]

    def _looks(self, study: sqlite3.Row) -> list[Look]:
        """The study's files, those of its series that are somebody else's too, and its objects that are no CT."""
        where = (
            f"file.study IN ({_PARTS}) OR (file.kind = 'ct' AND file.series IN"
            f" (SELECT series FROM file WHERE study IN ({_PARTS}) AND kind = 'ct'))"
            " OR (file.kind = 'other' AND file.series = :uid) ORDER BY folder.path, file.name, file.member"
        )
        return self._recall("", where, {"id": study["id"], "uid": study["uid"]})

    def _image_looks(self, study: sqlite3.Row) -> list[Look]:
        """The images with this one's name, and with names that a number after this one's could give, the oldest
        first.
        """
        join = "JOIN study ON study.id = file.study"
        where = (
            "study.kind = 'image' AND (study.uid = :uid OR substr(study.uid, 1, length(:uid) + 1) = :uid || '-')"
            " ORDER BY study.id"
        )
        return self._recall(join, where, {"uid": study["uid"]})

    def _recall(self, join: str, where: str, values: dict[str, object]) -> list[Look]:
        query = (
            f"SELECT {LOOK_COLUMNS} FROM file JOIN folder ON folder.id = file.folder"
            f" LEFT JOIN common ON common.id = file.common {join} WHERE {where}"
        )
        looks = [recall_look(row) for row in self._db.execute(query, values)]
        # a file below two inputs, of this run and of an earlier one, is remembered with each
        return list({look.source: look for look in looks}.values())

    def study_uids(self) -> list[str]:
        """Every study that was ever seen."""
        with self._guard:
            return [row[0] for row in self._db.execute("SELECT uid FROM study")]

    def keys_of(self, inputs: Sequence[Path]) -> list[str]:
        """Studies that have files in these inputs."""
        query = (
            "SELECT DISTINCT study.key FROM place JOIN folder ON folder.place = place.id"
            " JOIN file ON file.folder = folder.id JOIN study AS part ON part.id = file.study"
            " JOIN study ON study.id = part.whole WHERE place.path = ?"
        )
        with self._guard:
            return sorted({row[0] for path in inputs for row in self._db.execute(query, (os.fsencode(path),))})

    def has_hole(self, key: str) -> bool:
        """Whether a series of the study lacks whole slices between others, by their positions."""
        query = (
            "SELECT DISTINCT file.series, file.along_mm FROM file JOIN study AS part ON part.id = file.study"
            " JOIN study ON study.id = part.whole WHERE study.key = ? AND file.along_mm IS NOT NULL"
            " ORDER BY file.series, file.along_mm"
        )
        places: dict[str, list[float]] = {}
        with self._guard:
            for series, along_mm in self._db.execute(query, (key,)):
                places.setdefault(series, []).append(along_mm)
        return any(_holed(along) for along in places.values())

    # -- whether they are new ----------------------------------------------------------------------------------------
    def update(self, breathe: Callable[[], None] = lambda: None) -> None:
        """Make anew the fingerprints of the studies whose files changed.

        breathe: called now and then.
        """
        for row in self._db.execute("SELECT * FROM study WHERE changed = 1 AND kind = 'ct'").fetchall():
            self._regroup(row)
        for part in self._db.execute("SELECT * FROM study WHERE changed = 1 AND whole != id").fetchall():
            self._db.execute("UPDATE study SET changed = 0, grown = 0 WHERE id = ?", (part["id"],))
            self._mark(part["whole"], part["grown"])
        self._mark_later()
        for study in self._db.execute("SELECT * FROM study WHERE changed = 1").fetchall():
            breathe()
            rows = self._db.execute(
                "SELECT file.series, file.sop, CASE file.member WHEN '' THEN file.size ELSE 0 END, file.mtime_ns,"
                " folder.path, place.path FROM file"
                " JOIN folder ON folder.id = file.folder JOIN place ON place.id = folder.place"
                f" WHERE file.study IN ({_PARTS})",
                {"id": study["id"]},
            ).fetchall()
            parts = sorted({f"{series}\t{sop}\t{size}" for series, sop, size, *_ in rows})
            stamp = self._names.digest("times", *sorted(str(row[3]) for row in rows))
            version = study["version"] + int(stamp != study["stamp"] and self._is_rewritten(study))
            parts += [f"version {version}"] if version else []
            self._db.execute(
                "UPDATE study SET changed = 2, input = ?, stamp = ?, arrived = ?, files = ?, urgent = ?, version = ?,"
                " content = CASE version WHEN ? THEN content ELSE '' END WHERE id = ?",
                (
                    self._names.digest("instances", *parts),
                    stamp,
                    max((row[3] for row in rows), default=0) / 1e9,
                    len(rows),
                    any(_is_urgent(os.fsdecode(row[4]), os.fsdecode(row[5])) for row in rows),
                    version,
                    version,
                    study["id"],
                ),
            )

    def _is_rewritten(self, study: sqlite3.Row) -> bool:
        """Whether the files of a study that was read hold something else now."""
        return bool(study["content"]) and hash_content(self._all_looks(study)) != study["content"]

    def _all_looks(self, row: sqlite3.Row) -> list[Look]:
        return self._image_looks(row) if row["kind"] == "image" else self._looks(row)

    def _regroup(self, row: sqlite3.Row) -> None:
        """Which of the identities with this UID, person and name are read as one study: under the oldest's key."""
        there = [recall_identity(other) for other in self._same_uid(row)]
        everyone = self._db.execute(f"SELECT * FROM study WHERE {_SAME_UID} ORDER BY id", _same_uid(row)).fetchall()
        agreed = len(set(whole_identities(there).values())) == 1
        # also one whose files turned out to be these: it was corrected, and keeps its key
        here = [other["id"] for other in everyone if other["moved"] or recall_identity(other) in there]
        for other in everyone:
            whole = here[0] if agreed and other["id"] in here else other["id"]
            if whole != other["whole"]:
                self._db.execute("UPDATE study SET whole = ?, moved = 0 WHERE id = ?", (whole, other["id"]))
                for changed in (other["id"], whole, other["whole"]):
                    self._mark(changed, grown=1)

    def _mark_later(self) -> None:
        """Later exams of people to whose exams something was added: what they are compared with may be another now."""
        self._db.execute(
            "UPDATE study SET changed = 1, grown = 1 WHERE changed = 0 AND kind = 'ct' AND whole = id AND day != ''"
            " AND EXISTS (SELECT 1 FROM study AS other WHERE other.changed = 1 AND other.grown = 1"
            " AND other.kind = 'ct' AND other.day != '' AND other.patient_id = study.patient_id"
            " AND other.patient_id != '' AND other.day < study.day)"
        )

    def _mark(self, study: int, grown: int) -> None:
        """It changed.

        grown: it did not only lose files.
        """
        self._db.execute("UPDATE study SET changed = 1, grown = MAX(grown, ?) WHERE id = ?", (grown, study))

    def withdrawn(self) -> list[str]:
        """Keys of studies that turned out to be somebody else's or another's: all of their files are."""
        query = (
            "SELECT key FROM study WHERE whole != id OR (moved AND NOT EXISTS"
            " (SELECT 1 FROM file JOIN study AS part ON part.id = file.study WHERE part.whole = study.id))"
        )
        return sorted(row[0] for row in self._db.execute(query))

    def found(self, places: Sequence[int] | None) -> list[FoundStudy]:
        """Every study of these inputs that is this shard's, or those that changed where None."""
        if places is None:
            rows = self._db.execute("SELECT * FROM study WHERE changed AND whole = id").fetchall()
        else:
            marks = ", ".join("?" * len(places))
            rows = self._db.execute(
                "SELECT * FROM study WHERE whole = id AND (changed OR id IN (SELECT part.whole FROM file JOIN folder"
                " ON folder.id = file.folder JOIN study AS part ON part.id = file.study"
                f" WHERE folder.place IN ({marks})))",
                tuple(places),
            ).fetchall()
        beside = [row["id"] for row in rows if not self._is_read(row)]
        self._db.executemany("UPDATE study SET changed = 0, grown = 0 WHERE id = ?", [(number,) for number in beside])
        rows = [row for row in rows if row["id"] not in set(beside)]
        return [self._found(row) for row in rows if self._is_mine(row) and not self._is_moved(row)]

    def _is_mine(self, row: sqlite3.Row) -> bool:
        """Whether this shard reads the study: by a keyed hash, so that all shards agree without talking."""
        number, count = self._shard
        share = self._names.digest("identity", row["patient_id"], row["name"], row["uid"])
        return int(share[:8], 16) % count == number - 1

    def _is_read(self, row: sqlite3.Row) -> bool:
        """Whether any of its files lies elsewhere than among the companions: those are earlier exams only."""
        if not self._companions:
            return True
        query = (
            "SELECT 1 FROM study AS part JOIN file ON file.study = part.id JOIN folder ON folder.id = file.folder"
            f" JOIN place ON place.id = folder.place WHERE part.whole = ? AND place.path NOT IN"
            f" ({', '.join('?' * len(self._companions))}) LIMIT 1"
        )
        return self._db.execute(query, (row["id"], *self._companions)).fetchone() is not None

    def _is_moved(self, row: sqlite3.Row) -> bool:
        """Whether no file is this study's any more because all turned out to be another's."""
        return bool(row["moved"]) and row["files"] == 0

    def _identity(self, row: sqlite3.Row) -> str:
        """Names a study in the ledger: by UID, patient ID and name; by all that is known where these contradict."""
        there = {recall_identity(other) for other in self._same_uid(row)}
        who = recall_identity(row)
        if len(set(whole_identities(there).values())) < 2:
            return self._names.digest("identity", who.patient_id, who.name, who.study_uid, who.mended or "")
        return self._names.digest("identity", *astuple(who))

    def _found(self, row: sqlite3.Row) -> FoundStudy:
        clinical = self._clinical.rows.get(row["patient_id"].strip(), ()) if self._clinical else ()
        known = sorted(repr((r.accession_number, r.study_date, _without_priority(r.data))) for r in clinical)
        urgent = bool(row["urgent"]) or any(r.data.priority.strip().lower() in URGENT_WORDS for r in clinical)
        return FoundStudy(
            key=row["key"],
            identity=self._identity(row),
            patient=self._names.patient(row["patient_id"]),
            input=self._names.digest("input", row["input"], *known, "earlier", *self._fingerprints(row)),
            stamp=row["stamp"],
            arrived=row["arrived"],
            urgent=urgent,
            files=row["files"],
            only_shrunk=bool(row["changed"]) and not row["grown"],
            entered=not row["changed"],
        )

    def _fingerprints(self, row: sqlite3.Row) -> list[str]:
        """Of what the study is compared with: an earlier exam that comes later makes it new."""
        if not names_somebody(Patient(row["patient_id"])):
            return []
        given = self._priors
        mine = row["patient_id"].strip()
        found = [other["input"] for other in self._earlier(row)]
        found += [s.exam.study_uid for s in given.given if s.patient.patient_id.strip() == mine]
        return found + [r.study_uid for r in given.reports if r.patient.patient_id.strip() == mine]


_SAME_UID = "uid = ? AND patient_id = ? AND name = ? AND mended = ? AND kind = 'ct'"

_PARTS = "SELECT id FROM study WHERE whole = :id"
"""Of the study itself and of those that are read with it."""


def _same_uid(row: sqlite3.Row) -> tuple[str, ...]:
    return row["uid"], row["patient_id"], row["name"], row["mended"]


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

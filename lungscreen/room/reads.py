"""The state of a read: opened, worked on, signed, shown CAD, signed again. Every change is one transaction.

    reading ─sign─► signed-first ─CAD shown, every mark decided, sign─► final ─► addenda only
    reading ──────────────────── concurrent, triage: sign ────────────► final

A read belongs to one reader. Its lease keeps others away while it is worked on; in double reading each reader's read is
their own, and nobody learns of the other's.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select, update

from lungscreen import __version__
from lungscreen.results.document import ReportDocument
from lungscreen.results.reader import read_result
from lungscreen.room import tables
from lungscreen.room.accounts import Principal
from lungscreen.room.config import RoomConfig
from lungscreen.room.double import decide_after_final, next_kind
from lungscreen.room.folders import RoomFolders
from lungscreen.room.problems import Problem
from lungscreen.room.rules import Judged, judge_read
from lungscreen.room.studies import free_notices, pins_of
from lungscreen.room.words import Content

__all__ = ["ReadRow", "Reads", "canonical_json", "measured_marks"]

MOST_ACTIVE_S = 120.0
"""A client tells of its reader's active time at least so often; more at once is not believed."""

ReadRow = Row[Any]


def canonical_json(value: Any) -> str:
    """One text for one value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True)
class Reads:
    """What can be done with reads. Methods take a connection of a transaction that changes something."""

    config: RoomConfig
    folders: RoomFolders
    assess: Any
    """`AssessConfig` of the programme's pipeline."""

    # -- opening -----------------------------------------------------------------------------------------------------
    def open(self, connection: Connection, key: str, who: Principal) -> tuple[ReadRow, bool]:
        """The reader's read of a study: their own one again, or a new one. Returns it and whether it is new.

        Errors: `not-found`, `study-leased`, `read-not-wanted`.
        """
        study = connection.execute(select(tables.studies).where(tables.studies.c.key == key)).first()
        if study is None or study.status != "done":
            raise Problem("not-found")
        mine = self.mine(connection, key, who)
        now = time.time()
        if mine is not None:
            if mine.state != "final":
                self._lease(connection, mine.id, now)
            return self.get(connection, mine.id), False
        kind = next_kind(study, who)
        if kind is None:
            raise Problem("read-not-wanted")
        self._check_lease(connection, key, kind, now)
        number = secrets.token_hex(16)
        pin = self.folders.pin(key)
        pins = {**pins_of(_pinned_document(self.folders.pinned_report(pin))), "pin": pin}
        connection.execute(
            tables.reads.insert().values(
                id=number,
                study=key,
                kind=kind,
                reader=who.id,
                mode=self.config.mode,
                state="reading",
                version=1,
                content=canonical_json(Content().model_dump(mode="json")),
                pins=json.dumps(pins),
                lease_until=now + self.config.limits.lease_s,
                opened=now,
                last_active=now,
                cad_shown=None if self.config.mode == "second-reader" else now,
            )
        )
        return self.get(connection, number), True

    def _check_lease(self, connection: Connection, key: str, kind: str, now: float) -> None:
        """One person at a time for one kind of read. After it, others may begin theirs."""
        table = tables.reads
        query = select(table.c.id).where(
            table.c.study == key, table.c.kind == kind, table.c.state != "final", table.c.lease_until > now
        )
        if connection.execute(query).first():
            raise Problem("study-leased")

    def _lease(self, connection: Connection, number: str, now: float) -> None:
        until = now + self.config.limits.lease_s
        connection.execute(update(tables.reads).where(tables.reads.c.id == number).values(lease_until=until))

    # -- looking -----------------------------------------------------------------------------------------------------
    def get(self, connection: Connection, number: str) -> ReadRow:
        """Errors: `not-found`."""
        row = connection.execute(select(tables.reads).where(tables.reads.c.id == number)).first()
        if row is None:
            raise Problem("not-found")
        return row

    def own(self, connection: Connection, number: str, who: Principal) -> ReadRow:
        """The reader's own read; of somebody else's nobody learns that it is there.

        Errors: `not-found`.
        """
        row = self.get(connection, number)
        if row.reader != who.id:
            raise Problem("not-found")
        return row

    def mine(self, connection: Connection, key: str, who: Principal) -> ReadRow | None:
        """The reader's own read of a study."""
        query = select(tables.reads).where(tables.reads.c.study == key, tables.reads.c.reader == who.id)
        return connection.execute(query).first()

    def document(self, row: ReadRow) -> ReportDocument:
        """CAD's report as it was when the study was opened."""
        return _pinned_document(self.folders.pinned_report(json.loads(row.pins)["pin"]))

    def content(self, row: ReadRow) -> Content:
        """What the reader said so far."""
        return Content.model_validate_json(row.content)

    def judged(self, connection: Connection, row: ReadRow) -> Judged:
        """What the rules make of it."""
        shown = row.cad_shown is not None
        measured = {mark["id"]: mark["finding"] for mark in measured_marks(connection, row.id)}
        return judge_read(self.document(row), self.content(row), measured, with_cad=shown, config=self.assess)

    # -- changing ----------------------------------------------------------------------------------------------------
    def save(self, connection: Connection, row: ReadRow, version: int, content: Content) -> ReadRow:
        """Put the content in place of what was saved before.

        Errors: `read-signed`, `read-changed`, `body-invalid`, `first-read-unsigned`.
        """
        self._check_open(row, version)
        known = self._known_marks(connection, row.id)
        if not {mark.id for mark in content.marks} <= set(known):
            raise Problem("body-invalid", "a mark is added by POST …/marks")
        if content.decisions and row.cad_shown is None:
            raise Problem("first-read-unsigned")
        if row.cad_shown is not None:
            self._check_decisions(row, content)
        if row.state == "signed-first":
            self._check_first_stays(row, content, known)
        placed = tuple(
            mark.model_copy(update={"position_mm": tuple(json.loads(known[mark.id].position_mm)), "measured": None})
            for mark in content.marks
        )
        text = canonical_json(content.model_copy(update={"marks": placed}).model_dump(mode="json"))
        return self._put(connection, row, version, text)

    def _known_marks(self, connection: Connection, number: str) -> dict[str, Any]:
        """Where the marks of a read are and when they came, without what was measured."""
        table = tables.marks
        query = select(table.c.id, table.c.position_mm, table.c.after_cad, table.c.state)
        return {mark.id: mark for mark in connection.execute(query.where(table.c.read == number))}

    def _check_decisions(self, row: ReadRow, content: Content) -> None:
        there = {finding.number for finding in self.document(row).findings}
        if not {decision.finding for decision in content.decisions} <= there:
            raise Problem("body-invalid", "a decision is about a finding that is not there")

    def _check_first_stays(self, row: ReadRow, content: Content, known: dict[str, Any]) -> None:
        """Marks of the signed first read are there as they were; what came after CAD is free."""
        signed = {mark.id: mark for mark in Content.model_validate(json.loads(row.first_text)["content"]).marks}
        now = {mark.id: mark for mark in content.marks}
        for number, mark in signed.items():
            if number not in now or now[number].words != mark.words:
                raise Problem("read-signed", "marks of the signed first read stay as they are")
        if any(not known[number].after_cad for number in now.keys() - signed.keys()):
            raise Problem("read-signed", "a mark that the first read left out does not come back")

    def add_mark(
        self, connection: Connection, row: ReadRow, version: int, found: dict[str, Any]
    ) -> tuple[str, ReadRow]:
        """A nodule at a place, which is measured afterwards. Returns its id and the read.

        found: the finding as it is before that.

        Errors: `read-signed`, `read-changed`, `body-invalid` where there are too many.
        """
        self._check_open(row, version)
        content = self.content(row)
        numbers = [int(mark[1:]) for mark in self._known_marks(connection, row.id)]
        number = f"m{max(numbers, default=0) + 1}"
        position = found["position_mm"]
        connection.execute(
            tables.marks.insert().values(
                read=row.id,
                id=number,
                position_mm=json.dumps(position),
                measured=json.dumps(found),
                outline="null",
                after_cad=row.cad_shown is not None,
                made=time.time(),
                state="waiting",
            )
        )
        plain = content.model_dump(mode="json")
        plain["marks"] = [*plain["marks"], {"id": number, "position_mm": position}]
        text = canonical_json(Content.model_validate(plain).model_dump(mode="json"))
        return number, self._put(connection, row, version, text)

    def count_active(self, connection: Connection, row: ReadRow, active_s: float) -> None:
        """Add seconds of work, no more than have passed; the lease goes on."""
        now = time.time()
        seconds = max(0.0, min(active_s, now - row.last_active + 1.0, MOST_ACTIVE_S))
        phase = "active_first_s" if row.state == "reading" else "active_second_s"
        values = {phase: getattr(row, phase) + seconds, "last_active": now}
        if row.state != "final":
            connection.execute(update(tables.reads).where(tables.reads.c.id == row.id).values(**values))
            self._lease(connection, row.id, now)

    def release(self, connection: Connection, row: ReadRow) -> None:
        """Others may begin; what was read stays."""
        connection.execute(update(tables.reads).where(tables.reads.c.id == row.id).values(lease_until=0.0))

    # -- signing -----------------------------------------------------------------------------------------------------
    def missing(self, connection: Connection, row: ReadRow) -> list[str]:
        """What has to be said, or measured, before the next signature."""
        content, document = self.content(row), self.document(row)
        missing = []
        if content.exam.quality is None:
            missing.append("the images' quality")
        if content.exam.s_modifier and not content.exam.s_text.strip():
            missing.append("which other finding modifier S stands for")
        said = {notice["code"] for notice in free_notices(document)} - set(content.acknowledged)
        missing += [f"that you have seen the notice {code}" for code in sorted(said)]
        missing += self._unmeasured(connection, row, content)
        if row.state == "signed-first" and row.cad_shown is None:
            missing.append("that you have looked at what CAD found")
        if row.cad_shown is not None:
            decided = {decision.finding for decision in content.decisions}
            missing += [f"a decision on finding {f.number}" for f in document.findings if f.number not in decided]
        return missing

    def _unmeasured(self, connection: Connection, row: ReadRow, content: Content) -> list[str]:
        known = self._known_marks(connection, row.id)
        waiting = [mark.id for mark in content.marks if known[mark.id].state == "waiting"]
        return [f"the measurement of nodule {number.upper()}, which is under way" for number in waiting]

    def sign(self, connection: Connection, row: ReadRow, version: int, who: Principal) -> ReadRow:
        """The first signature, or the last one.

        Errors: `read-signed`, `read-changed`, `read-incomplete`.
        """
        self._check_open(row, version)
        missing = self.missing(connection, row)
        if missing:
            raise Problem("read-incomplete", "; ".join(missing), missing=missing)
        first = row.state == "reading" and self.config.mode == "second-reader" and row.cad_shown is None
        now = round(time.time(), 3)
        signed = self.signed_document(connection, row, who, now, "first" if first else "final")
        text = canonical_json(signed)
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        values: dict[str, Any] = {"version": version + 1, "last_active": now}
        if first:
            values |= {"state": "signed-first", "signed_first": now, "first_text": text, "first_sha256": digest}
        else:
            values |= {"state": "final", "signed_final": now, "final_text": text, "final_sha256": digest}
            values["lease_until"] = 0.0
        self._update(connection, row, version, values)
        if not first:
            decide_after_final(connection, self.config.double_reading, self.get(connection, row.id))
        return self.get(connection, row.id)

    def signed_document(
        self, connection: Connection, row: ReadRow, who: Principal, now: float, phase: str
    ) -> dict[str, Any]:
        """What a signature stands under."""
        content = self.content(row)
        return {
            "schema": "lungscreen-read",
            "schema_version": "1.0",
            "phase": phase,
            "read": row.id,
            "study": row.study,
            "kind": row.kind,
            "mode": row.mode,
            "cad": _cad_words(row),
            "content": content.model_dump(mode="json"),
            "marks": measured_marks(connection, row.id),
            "computed": self.judged(connection, row).plain,
            "before_cad": json.loads(row.first_text)["computed"] if row.first_text else None,
            "pins": {k: v for k, v in json.loads(row.pins).items() if k != "pin" or row.cad_shown is not None},
            "times": {
                "opened": row.opened,
                "signed_first": row.signed_first,
                "cad_shown": row.cad_shown,
                "signed": now,
                "active_first_s": round(row.active_first_s, 1),
                "active_second_s": round(row.active_second_s, 1),
            },
            "signed_by": {"name": who.name, "through": who.through},
            "room_version": __version__,
        }

    def show_cad(self, connection: Connection, row: ReadRow) -> ReadRow:
        """CAD is shown from now on.

        Errors: `first-read-unsigned`.
        """
        if row.cad_shown is None:
            if row.state == "reading":
                raise Problem("first-read-unsigned")
            now = time.time()
            connection.execute(
                update(tables.reads)
                .where(tables.reads.c.id == row.id, tables.reads.c.cad_shown.is_(None))
                .values(cad_shown=now)
            )
        return self.get(connection, row.id)

    def add_addendum(self, connection: Connection, row: ReadRow, text: str, who: Principal) -> None:
        """Errors: `read-unsigned`."""
        if row.state != "final":
            raise Problem("read-unsigned")
        connection.execute(tables.addenda.insert().values(read=row.id, text=text, who=who.id, at=time.time()))

    # -- small -------------------------------------------------------------------------------------------------------
    def _check_open(self, row: ReadRow, version: int) -> None:
        if row.state == "final":
            raise Problem("read-signed")
        if row.version != version:
            raise Problem("read-changed")

    def _put(self, connection: Connection, row: ReadRow, version: int, text: str) -> ReadRow:
        self._update(connection, row, version, {"content": text, "version": version + 1})
        return self.get(connection, row.id)

    def _update(self, connection: Connection, row: ReadRow, version: int, values: dict[str, Any]) -> None:
        """Only where nobody else was faster."""
        table = tables.reads
        done = connection.execute(
            update(table)
            .where(table.c.id == row.id, table.c.version == version, table.c.state == row.state)
            .values(**values)
        )
        if done.rowcount != 1:
            raise Problem("read-changed")


def measured_marks(connection: Connection, number: str, *, outlines: bool = False) -> list[dict[str, Any]]:
    """The marks of a read as they were measured, in the order in which they were made.

    outlines: with their outlines, which are long.
    """
    table = tables.marks
    columns = [table.c.id, table.c.position_mm, table.c.measured, table.c.after_cad, table.c.state]
    query = select(*columns, *([table.c.outline] if outlines else [])).where(table.c.read == number)
    return [
        {
            "id": mark.id,
            "position_mm": json.loads(mark.position_mm),
            "finding": json.loads(mark.measured),
            "after_cad": mark.after_cad,
            "state": mark.state,
            **({"outline": json.loads(mark.outline)} if outlines else {}),
        }
        for mark in connection.execute(query.order_by(table.c.made, table.c.id))
    ]


@lru_cache(maxsize=256)
def _pinned_document(path: Path) -> ReportDocument:
    """A pinned report: its folder is named by its hash, so that it never changes."""
    return read_result(path)


def _cad_words(row: ReadRow) -> str:
    if row.mode != "second-reader":
        return "CAD was shown from the start."
    return "CAD had not been shown." if row.cad_shown is None else "CAD was shown after the first read was signed."

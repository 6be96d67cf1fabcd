"""Who did what, when: rows that are only ever added, each chained to the one before by a keyed hash.

A changed, removed, moved or added row breaks the chain. Cut-off last rows do not, so the head of the chain is also
written, after each row, to an anchor: a file outside the database, which belongs on another disk or machine.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select

from lungscreen.room import tables
from lungscreen.room.store import Store

__all__ = ["AuditTrail", "Verified"]

_FIRST = "0" * 64
_AUDIT_LOCK = 0x61756469


@dataclass(frozen=True, slots=True)
class Verified:
    """What a look at the whole trail found.

    rows: how many there are.
    faults: what is wrong, in words.
    """

    rows: int
    faults: tuple[str, ...]


@dataclass(frozen=True)
class AuditTrail:
    """key: 32 bytes that only the service can read.
    anchor: file to which each new head is added.
    """

    key: bytes = field(repr=False)
    anchor: Path

    def add(self, connection: Connection, who: str, what: str, object_: str = "", **detail: Any) -> int:
        """Add a row inside a transaction that changes something. Returns its number.

        who: an account's name, or what acts by itself.
        object_: a study's or read's key; never a patient's name or ID.
        """
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_AUDIT_LOCK})")
        last = connection.execute(
            select(tables.audit.c.seq, tables.audit.c.mac).order_by(tables.audit.c.seq.desc()).limit(1)
        ).first()
        row: dict[str, Any] = {
            "seq": last.seq + 1 if last else 1,
            "at": round(time.time(), 3),
            "who": who,
            "what": what,
            "object": object_,
            "detail": json.dumps(detail, sort_keys=True),
        }
        row["mac"] = self._mac(last.mac if last else _FIRST, row)
        connection.execute(tables.audit.insert().values(**row))
        return int(row["seq"])

    def anchor_head(self, store: Store) -> None:
        """Write the newest row's number and hash to the anchor: after a transaction that added rows."""
        with store.read() as connection:
            last = connection.execute(
                select(tables.audit.c.seq, tables.audit.c.mac).order_by(tables.audit.c.seq.desc()).limit(1)
            ).first()
        if last is None:
            return
        line = f"{last.seq} {last.mac}\n".encode()
        descriptor = os.open(self.anchor, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def verify(self, store: Store) -> Verified:
        """Look at every row, and at every head in the anchor."""
        faults: list[str] = []
        heads: dict[int, str] = {}
        before, expected = _FIRST, 1
        with store.read() as connection:
            rows = connection.execute(select(tables.audit).order_by(tables.audit.c.seq)).mappings()
            for row in rows:
                if row["seq"] != expected:
                    faults.append(f"row {expected} is missing")
                if not hmac.compare_digest(self._mac(before, dict(row)), row["mac"]):
                    faults.append(f"row {row['seq']} does not follow from what stands before it")
                before, expected = row["mac"], row["seq"] + 1
                heads[row["seq"]] = row["mac"]
            count = connection.execute(select(func.count()).select_from(tables.audit)).scalar_one()
        faults += self._check_anchor(heads)
        return Verified(count, tuple(dict.fromkeys(faults)))

    def _check_anchor(self, heads: Mapping[int, str]) -> list[str]:
        try:
            lines = self.anchor.read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return ["the anchor cannot be read"] if heads else []
        faults = []
        for line in lines:
            number, _, mac = line.partition(" ")
            if not number.isdigit() or len(mac) != len(_FIRST):
                continue  # a line that a crash cut
            if int(number) not in heads:
                faults.append(f"row {number} is in the anchor and no longer in the table")
            elif heads[int(number)] != mac:
                faults.append(f"row {number} is another one than the anchor has")
        return faults

    def _mac(self, before: str, row: Mapping[str, Any]) -> str:
        parts = (before, str(row["seq"]), f"{row['at']:.3f}", row["who"], row["what"], row["object"], row["detail"])
        message = "\0".join(parts).encode("utf-8", "surrogatepass")
        return hmac.new(self.key, message, hashlib.sha256).hexdigest()

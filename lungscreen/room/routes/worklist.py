"""The worklist: what there is to read. Before the gate it knows nothing of CAD, its order included."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from sqlalchemy import ColumnElement, Connection, Row, func, select

from lungscreen.room import tables
from lungscreen.room.accounts import READERS, Principal
from lungscreen.room.core import Asking, Here, Room, allow
from lungscreen.room.gate import open_studies, shown_state
from lungscreen.room.images import images_state
from lungscreen.room.routes.answers import ANSWERS

__all__ = ["worklist_routes"]

worklist_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow(*READERS))])

State = Literal["unread", "reading", "signed-first", "second-read", "arbitration", "final", "refused", "failed"]

_STUDY_STATES = {
    "unread": ("unread",),
    "second-read": ("second",),
    "arbitration": ("arbitration",),
    "final": ("final",),
}


@worklist_routes.get("/worklist")
def _worklist(
    who: Asking,
    room: Here,
    q: Annotated[str, Query(max_length=100)] = "",
    state: State | None = None,
    mine: bool = False,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """A page of the list, most urgent first."""
    table, now = tables.studies, time.time()
    ranked = room.config.mode != "second-reader"
    with room.store.read() as connection:
        wanted = _conditions(room, who, q, state, mine)
        total = connection.execute(select(func.count()).select_from(table).where(*wanted)).scalar_one()
        first = [table.c.status == "done", table.c.urgent.desc()]
        order = [*first, table.c.suspicion.desc()] if ranked else first
        query = select(table).where(*wanted).order_by(*order, table.c.arrived, table.c.key)
        rows = connection.execute(query.offset(offset).limit(limit)).all()
        shown = _Shown(room, who, connection, tuple(row.key for row in rows), now)
    return {
        "total": total,
        "offset": offset,
        "ranked_by": "suspicion" if ranked else "arrival",
        "rows": [shown.row(row) for row in rows],
    }


def _conditions(room: Room, who: Principal, q: str, state: str | None, mine: bool) -> list[ColumnElement[bool]]:
    table, reads = tables.studies, tables.reads
    own = select(reads.c.study).where(reads.c.reader == who.id)
    wanted: list[ColumnElement[bool]] = []
    if who.role == "reader" and room.config.double_reading.active:
        # a reader sees what is theirs to read, and what they read: nothing of what others made of the rest
        wanted.append(table.c.state.in_(("unread", "second")) | table.c.key.in_(own) | (table.c.status != "done"))
    if q:
        wanted.append(table.c.search.contains(q.casefold(), autoescape=True))
    if mine:
        wanted.append(table.c.key.in_(own))
    if state in ("refused", "failed"):
        wanted.append(table.c.status == state)
    elif state in ("reading", "signed-first"):
        wanted.append(table.c.key.in_(own.where(reads.c.state == state)))
    elif state is not None:
        states = ("unread", "second") if state == "unread" and _blind(room, who) else _STUDY_STATES[state]
        wanted += [table.c.status == "done", table.c.state.in_(states)]
        if state == "unread":
            wanted.append(table.c.key.not_in(own))
    return wanted


def _blind(room: Room, who: Principal) -> bool:
    return room.config.double_reading.active and who.role == "reader"


class _Shown:
    """A page's rows as one person may see them."""

    def __init__(self, room: Room, who: Principal, connection: Connection, keys: tuple[str, ...], now: float) -> None:
        self._room, self._who, self._now = room, who, now
        self._open = open_studies(connection, room.config, who, keys)
        reads, users = tables.reads, tables.users
        query = select(reads, users.c.name).join_from(reads, users).where(reads.c.study.in_(keys))
        self._own: dict[str, Row[Any]] = {}
        self._others: dict[str, Row[Any]] = {}
        for read in connection.execute(query):
            if read.reader == who.id:
                self._own[read.study] = read
            elif read.state != "final" and read.lease_until > now:
                self._others[read.study] = read

    def row(self, study: Row[Any]) -> dict[str, Any]:
        """`Row` of docs/reference/room-api.md."""
        own, other = self._own.get(study.key), self._others.get(study.key)
        blind = _blind(self._room, self._who)
        reader = own if own is not None and own.state != "final" else None if blind else other
        return {
            "study": study.key,
            "patient_id": study.patient_id,
            "name": study.name,
            "date": study.date,
            "accession_number": study.accession_number,
            "description": study.description,
            "state": shown_state(study, own, other is not None, blind),
            "code": study.code,
            "reason": study.reason,
            "urgent": study.urgent,
            "arrived": study.arrived,
            "waiting_s": 60 * int(max(0.0, self._now - study.arrived) // 60),
            "priors": study.priors,
            "notices": json.loads(study.notices),
            "images": images_state(self._room, study),
            "reader": reader.name if reader is not None else "",
            "leased_until": reader.lease_until if reader is not None else None,
            "mine": own.id if own is not None else None,
            "cad": self._cad(study),
        }

    def _cad(self, study: Row[Any]) -> dict[str, Any] | None:
        if study.key not in self._open or study.status != "done":
            return None
        facts = json.loads(study.cad)
        return {name: facts[name] for name in ("category", "findings", "top_probability")} | {"tier": study.tier}

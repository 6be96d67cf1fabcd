"""For leads and administrators: the audit trail and the month."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from sqlalchemy import select

from lungscreen.room import tables
from lungscreen.room.core import Here, allow
from lungscreen.room.monthly import month_figures
from lungscreen.room.routes.answers import ANSWERS

__all__ = ["audit_routes", "monthly_routes"]

audit_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow("admin", "lead"))])
monthly_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow("lead"))])


@audit_routes.get("/audit")
def _trail(
    room: Here,
    before: Annotated[int | None, Query(ge=1)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> dict[str, Any]:
    """Newest first."""
    table = tables.audit
    query = select(table).order_by(table.c.seq.desc()).limit(limit)
    with room.store.read() as connection:
        rows = connection.execute(query if before is None else query.where(table.c.seq < before)).all()
    names = ("seq", "at", "who", "what", "object")
    return {"rows": [{**{n: getattr(row, n) for n in names}, "detail": json.loads(row.detail)} for row in rows]}


@audit_routes.get("/audit/check")
def _check(room: Here) -> dict[str, Any]:
    """Whether the trail is whole: every row by its hash, every head in the anchor."""
    found = room.audit.verify(room.store)
    return {"rows": found.rows, "faults": list(found.faults)}


@monthly_routes.get("/monthly")
def _month(room: Here, month: Annotated[str, Query(pattern="^[12][0-9]{3}-(0[1-9]|1[0-2])$")]) -> dict[str, Any]:
    """Reads, agreement, times and what CAD changed; of final reads only."""
    with room.store.read() as connection:
        return month_figures(connection, room.folders, month)

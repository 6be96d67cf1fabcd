"""The final report of a read."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends, Response
from sqlalchemy import select

from lungscreen.room import tables
from lungscreen.room.accounts import READERS, Principal
from lungscreen.room.core import Asking, Here, Room, allow
from lungscreen.room.final import final_document, final_page, final_pdf
from lungscreen.room.gate import cad_is_open
from lungscreen.room.problems import Problem
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.routes.reads import ReadId
from lungscreen.room.shield import SANDBOXED_POLICY

__all__ = ["final_routes"]

final_routes = APIRouter(
    prefix="/api/v1/reads/{number}",
    responses=ANSWERS,
    dependencies=[Depends(allow(*READERS))],
)


@final_routes.get("/final.json")
def _as_json(number: ReadId, who: Asking, room: Here) -> dict[str, Any]:
    """As data."""
    return _final(room, number, who)


@final_routes.get("/final.html", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def _as_page(number: ReadId, who: Asking, room: Here) -> Response:
    """As a page."""
    headers = {"Content-Security-Policy": SANDBOXED_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return Response(final_page(_final(room, number, who)), 200, headers, "text/html; charset=utf-8")


@final_routes.get("/final.pdf", response_class=Response, responses={200: {"content": {"application/pdf": {}}}})
def _as_pdf(number: ReadId, who: Asking, room: Here) -> Response:
    """As PDF."""
    return Response(final_pdf(_final(room, number, who)), media_type="application/pdf")


def _final(room: Room, number: str, who: Principal) -> dict[str, Any]:
    """Of one's own read; a lead sees everybody's of studies whose CAD they may see or that are final.

    Errors: `not-found`, `read-unsigned`.
    """
    with room.store.read() as connection:
        row = room.reads.get(connection, number)
        if row.reader != who.id:
            state = connection.execute(select(tables.studies.c.state).where(tables.studies.c.key == row.study)).scalar()
            if who.role != "lead" or not (state == "final" or cad_is_open(connection, room.config, row.study, who)):
                raise Problem("not-found")
        if row.state != "final":
            raise Problem("read-unsigned")
        query = select(tables.addenda, tables.users.c.name).join_from(tables.addenda, tables.users)
        added = connection.execute(query.where(tables.addenda.c.read == number).order_by(tables.addenda.c.id)).all()
    addenda = [{"text": one.text, "who": one.name, "when": one.at} for one in added]
    return final_document(row.final_text, row.final_sha256, room.reads.document(row), addenda)

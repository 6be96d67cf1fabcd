"""The final report of a read."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter, Depends, Response
from sqlalchemy import select

from lungscreen.errors import LungscreenError
from lungscreen.room import tables
from lungscreen.room.accounts import READERS, Principal
from lungscreen.room.core import Asking, Here, Room, allow
from lungscreen.room.final import final_document, final_page, final_pdf
from lungscreen.room.gate import cad_is_open
from lungscreen.room.objects import SignedRead, object_path, write_objects
from lungscreen.room.problems import Problem
from lungscreen.room.reads import measured_marks
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.routes.reads import ReadId
from lungscreen.room.shield import SANDBOXED_POLICY

__all__ = ["final_routes"]

_DICOM: dict[int | str, dict[str, Any]] = {200: {"content": {"application/dicom": {}}}}

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


@final_routes.get("/final-sr.dcm", response_class=Response, responses=_DICOM)
def _as_report_object(number: ReadId, who: Asking, room: Here) -> Response:
    """As DICOM: a structured report that a person verified. Addenda are not in it."""
    return _object(room, number, who, "sr")


@final_routes.get("/final-seg.dcm", response_class=Response, responses=_DICOM)
def _as_segmentation(number: ReadId, who: Asking, room: Here) -> Response:
    """As DICOM: the outlines of the nodules of the read; `not-found` where it has none."""
    return _object(room, number, who, "seg")


def _object(room: Room, number: str, who: Principal, kind: str) -> Response:
    """An object of a final read, made when it is first asked for: the study's files are read again for it.

    Errors: those of `_final`; `images-absent` where the files are gone.
    """
    report = _final(room, number, who)
    with room.store.read() as connection:
        row = room.reads.get(connection, number)
        outlines = {mark["id"]: mark["outline"] for mark in measured_marks(connection, number, outlines=True)}
    folder = room.folders.pinned(json.loads(row.pins)["pin"])
    kept = object_path(folder, number, kind)
    if not kept.exists():
        read = SignedRead(report["signed"], report["sha256"], outlines, room.config.programme or "lungscreen")
        try:
            room.bench.run(
                f"objects {number}", write_objects, room.folders.results, folder, read, room.config.pipeline,
                room.key_file,
            )  # fmt: skip
        except LungscreenError as error:
            raise Problem("images-absent", error.reason) from None
        except TimeoutError:
            raise Problem("not-ready", "the objects are being made", retry_after_s=10.0) from None
    if not kept.exists():
        raise Problem("not-found")
    return Response(kept.read_bytes(), media_type="application/dicom")


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

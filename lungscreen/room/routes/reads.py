"""Reads: opened, saved as they are typed, marked, signed, shown CAD, signed again."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from sqlalchemy import Connection, select

from lungscreen.outputs.room_pack import PackError
from lungscreen.results.reader import read_result
from lungscreen.results.values import to_plain
from lungscreen.room import tables
from lungscreen.room.accounts import READERS, Principal
from lungscreen.room.bodies import Active, Addendum, NewMark, Password
from lungscreen.room.core import Asking, Here, Room, address_of, allow
from lungscreen.room.double import differences
from lungscreen.room.images import find_pack, find_study_row, prepare_images
from lungscreen.room.marking import measure_later, unmeasured
from lungscreen.room.problems import Problem
from lungscreen.room.reads import ReadRow, measured_marks
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.routes.studies import StudyKey
from lungscreen.room.words import Content

__all__ = ["arbitration_routes", "read_routes"]

read_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow(*READERS))])
arbitration_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow("arbiter", "lead"))])

ReadId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
MarkId = Annotated[str, Path(pattern="^m[0-9]{1,4}$")]
IfMatch = Annotated[str | None, Header(max_length=20)]


@read_routes.post("/studies/{key}/reads", status_code=201, responses={200: {"description": "Yours, opened again"}})
def _open_read(key: StudyKey, who: Asking, response: Response, room: Here) -> dict[str, Any]:
    """Begin a read of a study, or go on with one's own."""
    with room.store.write() as connection:
        row, new = room.reads.open(connection, key, who)
        room.audit.add(
            connection, who.name, "read-opened" if new else "read-reopened", row.id, study=key, kind=row.kind
        )
        study = find_study_row(connection, key)
        answer = _read(room, connection, row, who, outlines=True)
    room.audit.anchor_head(room.store)
    prepare_images(room, study)
    response.status_code = 201 if new else 200
    return _tagged(response, answer)


@read_routes.get("/reads/{number}")
def _get_read(number: ReadId, who: Asking, response: Response, room: Here) -> dict[str, Any]:
    """One's own read."""
    with room.store.read() as connection:
        return _tagged(response, _read(room, connection, room.reads.own(connection, number, who), who, outlines=True))


@read_routes.put("/reads/{number}")
def _save_read(
    number: ReadId, content: Content, who: Asking, response: Response, room: Here, if_match: IfMatch = None
) -> dict[str, Any]:
    """Everything that was said so far, in place of what was saved."""
    version = _version(if_match)
    with room.store.write() as connection:
        row = room.reads.save(connection, room.reads.own(connection, number, who), version, content)
        answer = _read(room, connection, row, who)
    return _tagged(response, answer)


@read_routes.post("/reads/{number}/marks", status_code=201)
def _add_mark(
    number: ReadId, new: NewMark, who: Asking, response: Response, room: Here, if_match: IfMatch = None
) -> dict[str, Any]:
    """A nodule at a place: saved at once, measured, typed and located by the product afterwards."""
    version = _version(if_match)
    with room.store.read() as connection:
        row = room.reads.own(connection, number, who)
    pack = find_pack(room, row.study, who)
    try:
        found = unmeasured(pack, new.position_mm)
    except PackError:
        raise Problem("not-ready", "the images cannot be read") from None
    with room.store.write() as connection:
        mark, row = room.reads.add_mark(connection, room.reads.own(connection, number, who), version, found)
        room.audit.add(connection, who.name, "mark-added", number, mark=mark)
        answer = _read(room, connection, row, who)
    measure_later(room, number, mark, pack, new.position_mm)
    room.audit.anchor_head(room.store)
    _tagged(response, answer)
    return {"mark": next(m for m in answer["content"]["marks"] if m["id"] == mark), "read": answer}


@read_routes.get("/reads/{number}/marks/{mark}")
def _get_mark(number: ReadId, mark: MarkId, who: Asking, room: Here) -> dict[str, Any]:
    """A mark as it was measured, or that it waits for that: `measured.state`."""
    with room.store.read() as connection:
        room.reads.own(connection, number, who)
        known = {one["id"]: one for one in measured_marks(connection, number, outlines=True)}
    if mark not in known:
        raise Problem("not-found")
    return {"id": mark, "position_mm": known[mark]["position_mm"], "measured": _measured(known[mark])}


@read_routes.post("/reads/{number}/active", status_code=204)
def _active(number: ReadId, told: Active, who: Asking, room: Here) -> None:
    """Time of work; the lease goes on."""
    with room.store.write() as connection:
        room.reads.count_active(connection, room.reads.own(connection, number, who), told.active_s)


@read_routes.post("/reads/{number}/release", status_code=204)
def _release(number: ReadId, who: Asking, room: Here) -> None:
    """Others may begin."""
    with room.store.write() as connection:
        room.reads.release(connection, room.reads.own(connection, number, who))


@read_routes.post("/reads/{number}/sign")
def _sign(
    number: ReadId, proof: Password, who: Asking, request: Request, response: Response, room: Here,
    if_match: IfMatch = None,
) -> dict[str, Any]:  # fmt: skip
    """The first signature, or the last one."""
    version = _version(if_match)
    with room.store.read() as connection:
        room.reads.own(connection, number, who)
    _prove(room, who, proof, address_of(request))
    with room.store.write() as connection:
        row = room.reads.sign(connection, room.reads.own(connection, number, who), version, who)
        digest = row.final_sha256 or row.first_sha256
        room.audit.add(
            connection, who.name, f"signed-{'final' if row.final_sha256 else 'first'}", number, sha256=digest
        )
        answer = _read(room, connection, row, who)
    room.audit.anchor_head(room.store)
    return _tagged(response, answer)


SIGN_IN_FRESH_S = 300.0
"""Who signs in at the site's own sign-in signs within so many seconds of it."""


def _prove(room: Room, who: Principal, proof: Password, address: str) -> None:
    if who.through == "oidc":
        if time.time() - who.proved > SIGN_IN_FRESH_S:
            raise Problem("password-wrong", "sign in again, then sign within five minutes")
        return
    room.accounts.check_password(who, proof.password, address)


@read_routes.get("/reads/{number}/cad")
def _cad_route(number: ReadId, who: Asking, room: Here) -> dict[str, Any]:
    """What CAD said: after one's own first read is signed."""
    with room.store.write() as connection:
        row = room.reads.own(connection, number, who)
        fresh = row.cad_shown is None
        row = room.reads.show_cad(connection, row)
        if fresh:
            room.audit.add(connection, who.name, "cad-shown", number)
    if fresh:
        room.audit.anchor_head(room.store)
    return _cad(room, row)


def _cad(room: Room, row: ReadRow) -> dict[str, Any]:
    pin = json.loads(row.pins)["pin"]
    document = read_result(room.folders.pinned_report(pin))
    try:
        outlines = room.folders.pack(pin).outlines() or {}
    except PackError:
        outlines = {}
    return {
        "category": document.category,
        "category_reason": document.category_reason,
        "findings": [{**to_plain(f), "outline": outlines.get(f.number)} for f in document.findings],
        "no_nodules": to_plain(document.no_nodules),
        "lost": to_plain(document.lost),
        "notices": to_plain(document.notices),
        "candidates": document.candidates,
        "cut_off": document.cut_off,
        "shown_at": row.cad_shown,
    }


@read_routes.post("/reads/{number}/addenda", status_code=201)
def _add_addendum(number: ReadId, addendum: Addendum, who: Asking, room: Here) -> dict[str, Any]:
    """To a final read: nothing signed is changed."""
    with room.store.write() as connection:
        row = room.reads.own(connection, number, who)
        room.reads.add_addendum(connection, row, addendum.text, who)
        room.audit.add(connection, who.name, "addendum", number)
        answer = _read(room, connection, row, who)
    room.audit.anchor_head(room.store)
    return answer


# -- arbitration -----------------------------------------------------------------------------------------------------
@arbitration_routes.get("/studies/{key}/arbitration")
def _arbitration(key: StudyKey, who: Asking, room: Here) -> dict[str, Any]:
    """Two signed reads that differ, without what CAD said. Not for one of the two readers."""
    table = tables.reads
    with room.store.read() as connection:
        study = find_study_row(connection, key)
        query = select(table).where(table.c.study == key, table.c.kind != "arbitration", table.c.state == "final")
        rows = connection.execute(query.order_by(table.c.signed_final)).all()
        if study.state not in ("arbitration", "final") or len(rows) != 2 or who.id in {row.reader for row in rows}:
            raise Problem("not-found")
    texts = [json.loads(row.final_text) for row in rows]
    return {
        "reads": [_as_told(text) for text in texts],
        "differences": differences(texts[0], texts[1], room.config.double_reading.nodule_mm),
    }


def _as_told(text: dict[str, Any]) -> dict[str, Any]:
    """A signed read without what CAD said beside the reader's word, and without who it was."""
    rows = [
        {k: v for k, v in row.items() if k not in ("model", "source", "ref", "risks")}
        for row in text["computed"]["findings"]
    ]
    names = ("category", "label", "reason", "management")
    return {**{name: text["computed"][name] for name in names}, "findings": rows, "exam": text["content"]["exam"]}


# -- as the interface tells it ---------------------------------------------------------------------------------------
def _version(if_match: str | None) -> int:
    text = (if_match or "").strip().removeprefix("W/").strip('"')
    if not text:
        raise Problem("if-match-missing")
    if not text.isdecimal():
        raise Problem("read-changed")
    return int(text)


def _tagged(response: Response, answer: dict[str, Any]) -> dict[str, Any]:
    response.headers["ETag"] = f'"{answer["version"]}"'
    return answer


def _read(
    room: Room, connection: Connection, row: ReadRow, who: Principal, *, outlines: bool = False
) -> dict[str, Any]:
    """`Read` of docs/reference/room-api.md.

    outlines: of the marks too; they are long, and who saves has them.
    """
    content = room.reads.content(row)
    measured = {mark["id"]: mark for mark in measured_marks(connection, row.id, outlines=outlines)}
    plain = content.model_dump(mode="json")
    for mark in plain["marks"]:
        mark["measured"] = _measured(measured[mark["id"]])
    study = connection.execute(select(tables.studies.c.pins).where(tables.studies.c.key == row.study)).scalar_one()
    query = select(tables.addenda, tables.users.c.name).join_from(tables.addenda, tables.users)
    added = connection.execute(query.where(tables.addenda.c.read == row.id).order_by(tables.addenda.c.id)).all()
    return {
        "id": row.id,
        "study": row.study,
        "kind": "first" if row.kind == "second" else row.kind,
        "mode": row.mode,
        "state": row.state,
        "version": row.version,
        "lease_until": row.lease_until,
        "reader": who.name,
        "opened": row.opened,
        "signed_first": row.signed_first,
        "cad_shown": row.cad_shown,
        "signed_final": row.signed_final,
        "newer_result": _newer(study, row.pins),
        "content": plain,
        "computed": room.reads.judged(connection, row).plain,
        "missing": room.reads.missing(connection, row) if row.state != "final" else [],
        "sha256": {"first": row.first_sha256, "final": row.final_sha256},
        "addenda": [{"text": one.text, "who": one.name, "when": one.at} for one in added],
    }


def _newer(study: str, pins: str) -> bool:
    """Whether the study has results of another input, pipeline or weights than the read is pinned to."""
    now, then = json.loads(study), json.loads(pins)
    now.pop("pin"), then.pop("pin")
    return bool(now != then)


_MEASURED = (
    "long_axis_mm", "short_axis_mm", "mean_diameter_mm", "volume_mm3", "volume_sd_mm3", "solid_mean_diameter_mm",
)  # fmt: skip
_LOCATED = ("side", "lobe", "zone", "slice_from_top", "perifissural", "pleura_mm")


def _measured(mark: dict[str, Any]) -> dict[str, Any]:
    finding = mark["finding"]
    size, place = finding["measurement"] or {}, finding["location"]
    return {
        "state": mark["state"],
        **{name: size.get(name) for name in _MEASURED},
        "type": finding["type"],
        **{name: place.get(name) for name in _LOCATED},
        "second_look": finding.get("second_look"),
        "notices": finding["notices"],
        "after_cad": mark["after_cad"],
        "outline": mark.get("outline"),
    }

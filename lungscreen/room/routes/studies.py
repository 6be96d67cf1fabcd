"""One study: who, when and how; its pixels; its earlier exams; and, behind the gate, what CAD said."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import Connection, Row, select

from lungscreen.days import read_day
from lungscreen.outputs.outlines import lung_lines
from lungscreen.outputs.room_pack import CHUNK, pack_lungs
from lungscreen.results.reader import read_result
from lungscreen.results.values import to_plain
from lungscreen.room import tables
from lungscreen.room.accounts import READERS, Principal
from lungscreen.room.core import Asking, Here, Room, allow
from lungscreen.room.gate import cad_is_open
from lungscreen.room.images import find_pack, find_study_row, images_state, pin_for, prepare_images
from lungscreen.room.problems import Problem
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.shield import SANDBOXED_POLICY
from lungscreen.room.studies import free_notices, pins_of
from lungscreen.room.work import align_packs

__all__ = ["StudyKey", "result_routes", "study_routes"]

study_routes = APIRouter(prefix="/api/v1/studies/{key}", responses=ANSWERS, dependencies=[Depends(allow(*READERS))])
result_routes = APIRouter(
    prefix="/api/v1/studies/{key}",
    responses=ANSWERS,
    dependencies=[Depends(allow(*READERS, "machine"))],
)

StudyKey = Annotated[str, Path(pattern="^[0-9a-f]{12}$")]
_PIXELS = {"Cache-Control": "private, no-store", "Vary": "Accept-Encoding"}
_BYTES: dict[int | str, dict[str, Any]] = {200: {"content": {"application/octet-stream": {}}}}


@study_routes.get("")
def _study(key: StudyKey, who: Asking, room: Here) -> dict[str, Any]:
    """`StudyView`."""
    with room.store.read() as connection:
        row = find_study_row(connection, key)
        pin = _keep(room, connection, row, who)
        document = read_result(room.folders.pinned_report(pin))
        own = connection.execute(
            select(tables.reads.c.id).where(tables.reads.c.study == key, tables.reads.c.reader == who.id)
        ).first()
        is_open = cad_is_open(connection, room.config, key, who)
    volume = _volume(room, pin)
    images = "ready" if volume is not None else images_state(room, row)
    return {
        "study": key,
        "patient": to_plain(document.patient),
        "exam": to_plain(document.exam),
        "person": None if document.person is None else to_plain(document.person),
        "acquisition": to_plain(document.acquisition),
        "series": to_plain(document.series),
        "volume": volume,
        "images": images,
        "images_code": room.bench.failed(f"pack {pin}") if images == "failed" else "",
        "notices": free_notices(document),
        "not_read": [{"code": r.code, "reason": r.reason, "where": r.where} for r in document.not_read],
        "pinned": pins_of(document),
        "gate": "open" if is_open else "closed",
        "read": own.id if own is not None else None,
    }


def _keep(room: Room, connection: Connection, row: Row[Any], who: Principal) -> str:
    """The pin of the results that a person sees, kept from now on."""
    pin = pin_for(connection, row, who)
    if room.folders.pinned_report(pin).exists():
        return pin
    return room.folders.pin(row.key)


def _volume(room: Room, pin: str) -> dict[str, Any] | None:
    pack = room.folders.pack(pin)
    if not pack.path.exists():
        return None
    about = pack.about()
    names = ("shape", "affine", "spacing_mm", "lowest_hu", "highest_hu", "instance_numbers", "lung_box")
    return {**{name: about[name] for name in names}, "chunk": CHUNK}


@study_routes.post("/prepare", status_code=202)
def _prepare(key: StudyKey, room: Here) -> dict[str, str]:
    """Make the images ready; ask `images` how it goes."""
    with room.store.read() as connection:
        row = find_study_row(connection, key)
    prepare_images(room, row)
    return {"images": images_state(room, row)}


@result_routes.get("/slices/{first}/{end}", response_class=Response, responses=_BYTES)
def _slices(
    key: StudyKey,
    first: Annotated[int, Path(ge=0, le=100_000)],
    end: Annotated[int, Path(ge=1, le=100_000)],
    request: Request,
    who: Asking,
    room: Here,
) -> Response:
    """A chunk of pixels, as it was compressed once."""
    pack = find_pack(room, key, who)
    count = pack.about()["shape"][0]
    if first % CHUNK or first >= count or end != min(first + CHUNK, count):
        raise Problem("not-found")
    accepted = {part.partition(";")[0].strip() for part in request.headers.get("accept-encoding", "").split(",")}
    if "zstd" in accepted:
        content, encoding = pack.chunk(first), "zstd"
    else:
        content, encoding = pack.chunk_as_gzip(first, pack.path.parent / "gzip"), "gzip"
    return Response(content, 200, {**_PIXELS, "Content-Encoding": encoding}, "application/octet-stream")


@study_routes.get("/lungs")
def _lungs(key: StudyKey, who: Asking, room: Here) -> dict[str, Any]:
    """Lines around the lungs, slice by slice."""
    pack = find_pack(room, key, who)
    return {"slices": lung_lines(pack_lungs(pack.about(), pack.lung_mask()))}


# -- earlier exams ---------------------------------------------------------------------------------------------------
@study_routes.get("/priors")
def _priors(key: StudyKey, who: Asking, room: Here) -> dict[str, Any]:
    """Earlier exams that were compared, how long ago they were, and where their images are here."""
    with room.store.read() as connection:
        row = find_study_row(connection, key)
        document = read_result(room.folders.pinned_report(_keep(room, connection, row, who)))
        uids = [prior.study_uid for prior in document.priors]
        table = tables.studies
        here = {
            other.study_uid: other
            for other in connection.execute(select(table).where(table.c.study_uid.in_(uids), table.c.status == "done"))
        }
    rows = []
    for prior in document.priors:
        other = here.get(prior.study_uid)
        state = images_state(room, other) if other is not None else "absent"
        about = {"date": prior.date, "days": _days_between(prior.date, document.exam.date), "images": state}
        rows.append({"study": other.key if other is not None else None, **about})
    return {"priors": rows}


def _days_between(earlier: str | None, now: str | None) -> int | None:
    """None where one of the two is not known."""
    first, last = read_day(earlier), read_day(now)
    return None if first is None or last is None else (last - first).days


@study_routes.get("/priors/{earlier}/alignment", responses={202: {"description": "Being computed"}})
def _alignment(key: StudyKey, earlier: StudyKey, who: Asking, room: Here) -> Response:
    """Where places of this exam lay in the earlier one, by the product's registration."""
    listed = {row["study"] for row in _priors(key, who, room)["priors"]}
    if earlier not in listed:
        raise Problem("not-found")
    now, then = find_pack(room, key, who).path.parent, find_pack(room, earlier, who).path.parent
    table = now / f"alignment-{then.name}.json"
    if table.exists():
        return Response(table.read_bytes(), media_type="application/json")
    if room.bench.failed(name := f"align {table}"):
        raise Problem("not-ready", "the two exams could not be aligned")
    unpacked, most_bytes = room.folders.unpacked, int(room.config.limits.unpacked_bytes)
    room.bench.start(name, align_packs, now, then, table, unpacked, most_bytes)
    return JSONResponse({"state": "running"}, 202, {"Retry-After": "2"})


# -- behind the gate -------------------------------------------------------------------------------------------------
@result_routes.get("/report")
def _report(key: StudyKey, who: Asking, room: Here) -> dict[str, Any]:
    """CAD's report.json as it is."""
    with room.store.read() as connection:
        row = find_study_row(connection, key)
        _check_open(room, connection, key, who)
        pin = _keep(room, connection, row, who)
    found: dict[str, Any] = json.loads(room.folders.pinned_report(pin).read_bytes())
    room.note(who.name, "report-seen", key)
    return found


@result_routes.get("/report.html", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def _report_page(key: StudyKey, who: Asking, room: Here) -> Response:
    """CAD's page, in a sandbox: it has its own style and no script."""
    with room.store.read() as connection:
        find_study_row(connection, key)
        _check_open(room, connection, key, who)
    path = room.folders.study(key) / "report.html"
    if not path.is_file():
        raise Problem("not-found")
    room.note(who.name, "report-seen", key)
    headers = {"Content-Security-Policy": SANDBOXED_POLICY, "X-Frame-Options": "SAMEORIGIN"}
    return Response(path.read_bytes(), 200, headers, "text/html; charset=utf-8")


def _check_open(room: Room, connection: Connection, key: str, who: Principal) -> None:
    if not cad_is_open(connection, room.config, key, who):
        raise Problem("first-read-unsigned")

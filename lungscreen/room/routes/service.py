"""For programs: send a study, ask how it goes."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Request, Response
from sqlalchemy import Connection, select
from starlette.concurrency import run_in_threadpool

from lungscreen.room import tables
from lungscreen.room.accounts import SENDERS, Principal
from lungscreen.room.core import Asking, Here, Room, allow
from lungscreen.room.fetch import fetch_study
from lungscreen.room.problems import Problem
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.service import Upload, begin_upload, check_upload, drop_job, job_state, take_upload

__all__ = ["job_routes", "sending_routes"]

sending_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow(*SENDERS))])
job_routes = APIRouter(prefix="/api/v1/jobs/{number}", responses=ANSWERS, dependencies=[Depends(allow(*SENDERS))])

JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$")]
_KINDS = ("application/zip", "application/dicom")
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in _KINDS},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["dicomweb", "study"],
                    "additionalProperties": False,
                    "properties": {"dicomweb": {"type": "string"}, "study": {"type": "string"}},
                }
            },
        },
    }
}


@sending_routes.post("/studies", status_code=202, openapi_extra=_BODY)
async def _send_study(
    request: Request,
    who: Asking,
    response: Response,
    room: Here,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
) -> dict[str, Any]:
    """A study: a zip archive, one DICOM file, or where to fetch it."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    path = begin_upload(room.folders)
    try:
        if kind == "application/json":
            upload = await run_in_threadpool(fetch_study, room, await _reference(request), path)
        elif kind in _KINDS:
            upload = await _spool(request, path, kind)
        else:
            raise Problem("body-kind")
        number, state = await run_in_threadpool(_take, room, who, upload, idempotency_key)
    finally:
        path.unlink(missing_ok=True)
    response.headers["Location"] = f"/api/v1/jobs/{number}"
    response.headers["Retry-After"] = "5"
    return state


async def _spool(request: Request, path: Any, kind: str) -> Upload:
    digest = hashlib.sha256()
    with path.open("xb") as file:
        async for part in request.stream():
            digest.update(part)
            file.write(part)
    return Upload(path, kind, digest.hexdigest())


async def _reference(request: Request) -> dict[str, str]:
    try:
        found = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise Problem("body-invalid") from None
    fits = isinstance(found, dict) and found.keys() == {"dicomweb", "study"}
    if not fits or not all(isinstance(value, str) for value in found.values()):
        raise Problem("body-invalid", "expected dicomweb and study")
    return dict(found)


def _take(room: Room, who: Principal, upload: Upload, key: str | None) -> tuple[str, dict[str, Any]]:
    check_upload(upload, room.config.limits)
    with room.store.write() as connection:
        number, new = take_upload(connection, room.folders, room.config.limits, who, upload, key)
        if new:
            room.audit.add(connection, who.name, "study-sent", number)
        state = job_state(connection, room.folders, _job(connection, number, who))
    if new:
        room.audit.anchor_head(room.store)
    return number, state


@job_routes.get("")
def _get_job(number: JobId, who: Asking, response: Response, room: Here) -> dict[str, Any]:
    """How a job goes."""
    with room.store.write() as connection:
        state = job_state(connection, room.folders, _job(connection, number, who))
    if state["state"] in ("waiting", "running"):
        response.headers["Retry-After"] = "5"
    return state


@job_routes.delete("", status_code=204)
def _forget_job(number: JobId, who: Asking, room: Here) -> None:
    """Forget a job."""
    with room.store.write() as connection:
        drop_job(connection, room.folders, _job(connection, number, who))
        room.audit.add(connection, who.name, "job-forgotten", number)
    room.audit.anchor_head(room.store)


def _job(connection: Connection, number: str, who: Principal) -> Any:
    row = connection.execute(select(tables.jobs).where(tables.jobs.c.id == number)).first()
    if row is None or (row.sender != who.id and who.role != "admin"):
        raise Problem("not-found")
    return row

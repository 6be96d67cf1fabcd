"""Uploads and jobs: what programs send goes into an inbox that the batch engine reads; nothing is decoded here.

POST ─► spool file, looked at as an archive ─► inbox/<job>/ ─► `lungscreen batch run --watch` ─► results, ledger
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import IntegrityError

from lungscreen.batch.index import INDEX_FILE
from lungscreen.files import LEDGER_FILE
from lungscreen.room import tables
from lungscreen.room.accounts import Principal
from lungscreen.room.config import Limits
from lungscreen.room.folders import RoomFolders
from lungscreen.room.problems import Problem

__all__ = ["Upload", "begin_upload", "check_upload", "drop_job", "job_state", "take_upload"]

DAY_S = 24 * 3600.0
SMALL_BYTES = 4 * 1024 * 1024
"""A member below this may be packed as tightly as it likes: headers of zeros are."""
_ENDED = ("done", "refused", "failed")


@dataclass(frozen=True)
class Upload:
    """What came, spooled.

    sha256: of its bytes.
    """

    path: Path
    kind: str
    sha256: str


def begin_upload(folders: RoomFolders) -> Path:
    """A spool file's place, in a folder that the batch does not read."""
    spool = folders.room / "spool"
    spool.mkdir(exist_ok=True, mode=0o700)
    return spool / secrets.token_hex(16)


def check_upload(upload: Upload, limits: Limits) -> None:
    """Look at what came without unpacking it.

    Errors: `upload-refused`, with a code of the product in `reason_code`.
    """
    if upload.kind == "application/dicom":
        with upload.path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                raise Problem("upload-refused", "no DICOM file", reason_code="not-dicom")
        return
    try:
        with zipfile.ZipFile(upload.path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise Problem("upload-refused", "no whole archive", reason_code="archive-damaged") from None
    _check_members(members, upload.path.stat().st_size, limits)


def _check_members(members: Sequence[zipfile.ZipInfo], packed: int, limits: Limits) -> None:
    if not members:
        raise Problem("upload-refused", "an empty archive", reason_code="input-empty")
    if len(members) > limits.upload_members:
        raise Problem("upload-refused", "too many members", reason_code="archive-too-large")
    whole = sum(member.file_size for member in members)
    if whole > limits.upload_bytes or whole > limits.upload_ratio * max(packed, 1):
        raise Problem("upload-refused", "unpacks to too much", reason_code="archive-too-large")
    for member in members:
        _check_member(member, limits)


def _check_member(member: zipfile.ZipInfo, limits: Limits) -> None:
    parts = Path(member.filename.replace("\\", "/")).parts
    linked = (member.external_attr >> 16) & 0o170000 == 0o120000
    if member.filename.startswith(("/", "\\")) or ".." in parts or linked or ":" in member.filename:
        raise Problem("upload-refused", "a member points outside", reason_code="archive-unsafe")
    if member.flag_bits & 1:
        raise Problem("upload-refused", "an encrypted member", reason_code="archive-encrypted")
    if member.file_size > SMALL_BYTES and member.file_size > limits.upload_ratio * max(member.compress_size, 1):
        raise Problem("upload-refused", "a member unpacks to too much", reason_code="archive-too-large")


def take_upload(
    connection: Connection, folders: RoomFolders, limits: Limits, who: Principal, upload: Upload, key: str | None
) -> tuple[str, bool]:
    """Put what came into the inbox. Returns the job and whether it is new: the same key and body are the same job.

    Errors: `idempotency-reused`, `quota-used`.
    """
    table = tables.jobs
    if key is not None:
        query = select(table).where(table.c.sender == who.id, table.c.idempotency_key == key)
        known = connection.execute(query).first()
        if known is not None:
            return _known(known, upload), False
    since = time.time() - DAY_S
    query_count = select(func.count(), func.min(table.c.received)).where(
        table.c.sender == who.id, table.c.received > since
    )
    count, first = connection.execute(query_count).one()
    if count >= limits.uploads_a_day:
        raise Problem("quota-used", retry_after_s=first - since)
    number = secrets.token_hex(16)
    row = {"id": number, "sender": who.id, "idempotency_key": key, "body_sha256": upload.sha256}
    try:
        connection.execute(table.insert().values(**row, received=time.time(), state="waiting", folder=number))
    except IntegrityError:
        raise Problem("read-changed", "the same upload is being taken at this moment") from None
    _into_inbox(folders.inbox / number, upload)
    return number, True


def _known(job: Any, upload: Upload) -> str:
    if job.body_sha256 != upload.sha256:
        raise Problem("idempotency-reused")
    return str(job.id)


def _into_inbox(folder: Path, upload: Upload) -> None:
    """A whole file under its last name: the batch never sees half of one."""
    draft = folder.with_name(f".{folder.name}")
    draft.mkdir(mode=0o700)
    ending = {"application/zip": "zip", "application/dicom": "dcm"}[upload.kind]
    upload.path.rename(draft / f"upload.{ending}")
    draft.rename(folder)
    descriptor = os.open(folder.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- how a job goes --------------------------------------------------------------------------------------------------
def job_state(connection: Connection, folders: RoomFolders, job: Any) -> dict[str, Any]:
    """State, code and study of a job, from the ledger: it is asked, never written."""
    if job.state not in _ENDED:
        found = _ask_ledger(folders, job.folder)
        if found is not None and found != (job.state, job.code, job.study):
            state, code, study = found
            values = {"state": state, "code": code, "study": study}
            connection.execute(update(tables.jobs).where(tables.jobs.c.id == job.id).values(**values))
            return {"id": job.id, **values}
    return {"id": job.id, "state": job.state, "code": job.code, "study": job.study}


def _ask_ledger(folders: RoomFolders, job: str) -> tuple[str, str, str] | None:
    """The worst of the studies of an upload; None while the batch has not seen it."""
    keys = _studies_of(folders, job)
    rows = []
    if keys:
        with _look(folders.results / LEDGER_FILE) as ledger:
            for key in keys:
                rows += ledger.execute("SELECT state, code, key FROM study WHERE key = ?", (key,)).fetchall()
    if not rows:
        return None
    order = ("waiting", "running", "failed", "refused", "done")
    state, code, key = min(rows, key=lambda row: order.index(row[0]))
    return state, code, key


def _studies_of(folders: RoomFolders, job: str) -> list[str]:
    """Keys of the studies whose files lie in a job's folder."""
    if not (folders.results / INDEX_FILE).exists() or not (folders.results / LEDGER_FILE).exists():
        return []
    query = (
        "SELECT DISTINCT study.key, folder.path, place.path FROM file JOIN folder ON folder.id = file.folder"
        " JOIN place ON place.id = folder.place JOIN study ON study.id = file.study"
    )
    with _look(folders.results / INDEX_FILE) as index:
        rows = index.execute(query).fetchall()
    return sorted({key for key, folder, place in rows if job.encode() in _bytes(folder) + b"/" + _bytes(place)})


def _bytes(path: bytes | str) -> bytes:
    return path if isinstance(path, bytes) else os.fsencode(path)


class _look:  # noqa: N801 - reads like the keyword it stands beside
    """A database of the batch, read only."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=10.0)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *error: object) -> None:
        self._connection.close()


def drop_job(connection: Connection, folders: RoomFolders, job: Any) -> None:
    """Forget a job and its upload. A result that it gave stays: it belongs to the study."""
    connection.execute(tables.jobs.delete().where(tables.jobs.c.id == job.id))
    shutil.rmtree(folders.inbox / job.folder, ignore_errors=True)

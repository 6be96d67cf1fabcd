"""The images of a study for one reader: of the results that their read is pinned to, else of those of now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select

from lungscreen.outputs.room_pack import PACK_FILE, Pack
from lungscreen.room import tables
from lungscreen.room.accounts import Principal
from lungscreen.room.core import Room
from lungscreen.room.folders import KEY
from lungscreen.room.problems import Problem
from lungscreen.room.work import make_pack

__all__ = ["find_pack", "find_study_row", "images_state", "needed_pins", "pin_for", "prepare_images"]


def find_study_row(connection: Connection, key: str) -> Row[Any]:
    """A study that was read by the pipeline.

    Errors: `not-found`.
    """
    row = None
    if KEY.fullmatch(key):
        row = connection.execute(select(tables.studies).where(tables.studies.c.key == key)).first()
    if row is None or row.status != "done":
        raise Problem("not-found")
    return row


def pin_for(connection: Connection, study: Row[Any], who: Principal) -> str:
    """Which results a person sees: of their own read, else the newest."""
    table = tables.reads
    own = connection.execute(select(table.c.pins).where(table.c.study == study.key, table.c.reader == who.id)).first()
    return str(json.loads(own.pins if own is not None else study.pins)["pin"])


def find_pack(room: Room, key: str, who: Principal) -> Pack:
    """Errors: `not-found`, `images-absent`."""
    with room.store.read() as connection:
        study = find_study_row(connection, key)
        pin = pin_for(connection, study, who)
    pack = room.folders.pack(pin)
    if not pack.path.exists() and json.loads(study.pins)["pin"] == pin and _made(room, key).exists():
        room.folders.pin(key)
    if not pack.path.exists():
        raise Problem("images-absent")
    return pack


def images_state(room: Room, study: Row[Any]) -> str:
    """ready, preparing, failed or absent: of the newest results."""
    if study.status != "done":
        return "absent"
    pin = json.loads(study.pins)["pin"]
    if room.folders.pack(pin).path.exists() or _made(room, study.key).exists():
        return "ready"
    if room.bench.is_running(f"pack {pin}"):
        return "preparing"
    return "failed" if room.bench.failed(f"pack {pin}") else "absent"


def prepare_images(room: Room, study: Row[Any]) -> None:
    """Begin to make a study's images ready, unless they are, or it has begun."""
    if images_state(room, study) in ("ready", "preparing"):
        return
    pin = room.folders.pin(study.key)
    with room.store.read() as connection:
        needed = needed_pins(connection) | {pin}
    room.folders.drop_old_packs(int(room.config.limits.cache_bytes), needed)
    folder = room.folders.pinned(pin)
    room.bench.start(
        f"pack {pin}", make_pack, room.folders.results, study.key, folder, room.config.pipeline, room.key_file
    )


def needed_pins(connection: Connection) -> frozenset[str]:
    """Pins of reads that are not final."""
    query = select(tables.reads.c.pins).where(tables.reads.c.state != "final")
    return frozenset(json.loads(pins)["pin"] for pins in connection.execute(query).scalars())


def _made(room: Room, key: str) -> Path:
    """The pack that screening made."""
    return room.folders.study(key) / PACK_FILE

"""A reader's click ─► a mark that is saved at once and measured afterwards, in a process of its own.

POST …/marks ─► waiting ─► measured, or failed: it stays as the reader's mark, with the sizes that the reader gives.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import BrokenExecutor, Future
from functools import partial
from typing import Any

from sqlalchemy import select, update

from lungscreen.geometry import Vector
from lungscreen.logs import LOG, where_raised
from lungscreen.outputs.room_pack import Pack, pack_geometry
from lungscreen.records import NoduleType
from lungscreen.results.document import ReportedFinding, ReportedLocation, ReportedNotice
from lungscreen.results.values import to_plain
from lungscreen.room import tables
from lungscreen.room.core import Room
from lungscreen.room.problems import Problem
from lungscreen.room.work import measure_mark

__all__ = ["measure_later", "measure_waiting", "unmeasured"]

FORGOTTEN_S = 30.0
"""A mark that waits longer and that nobody measures here is begun again: the service was ended meanwhile."""

TRIES = 2
"""The process that measures may be killed for what another mark needed."""


def unmeasured(pack: Pack, position_mm: Vector) -> dict[str, Any]:
    """A mark as report.json has a finding of which nothing is known but the place.

    Errors: `outside-volume`, `PackError`.
    """
    about = pack.about()
    geometry = pack_geometry(about)
    if not geometry.contains(position_mm):
        raise Problem("outside-volume", "the place lies outside the scan")
    slices = geometry.shape[0]
    nearest = min(max(round(float(geometry.to_index(position_mm)[0])), 0), slices - 1)
    x, y, z = (round(float(c), 2) for c in position_mm)
    place = ReportedLocation(
        side="unknown", lobe=None, zone="unknown", slice_from_top=slices - nearest,
        instance_number=about["instance_numbers"][nearest],
    )  # fmt: skip
    notice = ReportedNotice(code="not-outlined", text="Nothing was measured at this place.")
    found = ReportedFinding(
        number=1, position_mm=(x, y, z), location=place, type=NoduleType.UNKNOWN, is_mass=False, detection_score=None,
        detector_diameter_mm=None, measurement=None, malignancy=None, category=None, category_reason=None,
        category_clause=None, management=None, growth=None, risks=(), notices=(notice,),
    )  # fmt: skip
    plain: dict[str, Any] = to_plain(found)
    return plain


def measure_later(room: Room, number: str, mark: str, pack: Pack, position_mm: Vector, tries: int = TRIES) -> None:
    """Begin to measure a mark of a read; what comes of it is kept when it is there."""
    future = room.measuring.start(
        _name(number, mark), measure_mark, pack.path.parent, room.config.pipeline, position_mm,
        room.folders.unpacked, int(room.config.limits.unpacked_bytes),
    )  # fmt: skip
    future.add_done_callback(partial(_keep, room, number, mark, pack, position_mm, tries))


def measure_waiting(room: Room, older_s: float = FORGOTTEN_S) -> int:
    """Begin with every mark that waits and that nobody measures. Returns how many there were."""
    marks, reads = tables.marks, tables.reads
    query = (
        select(marks.c.read, marks.c.id, marks.c.position_mm, reads.c.pins)
        .join_from(marks, reads)
        .where(marks.c.state == "waiting", marks.c.made <= time.time() - older_s)
        .order_by(marks.c.made)
    )
    with room.store.read() as connection:
        waiting = connection.execute(query).all()
    begun = [row for row in waiting if not room.measuring.is_running(_name(row.read, row.id))]
    for row in begun:
        place, pack = json.loads(row.position_mm), room.folders.pack(json.loads(row.pins)["pin"])
        measure_later(room, row.read, row.id, pack, (place[0], place[1], place[2]))
    return len(begun)


def _name(number: str, mark: str) -> str:
    return f"mark {number} {mark}"


def _keep(
    room: Room, number: str, mark: str, pack: Pack, position_mm: Vector, tries: int, done: Future[dict[str, Any]]
) -> None:
    """What measuring gave. A service that closes leaves the mark waiting for the next one."""
    if done.cancelled() or room.stopped.is_set():
        return
    error = done.exception()
    if isinstance(error, BrokenExecutor) and tries > 1:
        measure_later(room, number, mark, pack, position_mm, tries - 1)
        return
    values: dict[str, Any] = {"state": "failed"}
    if error is None:
        found = done.result()
        values = {
            "state": "measured",
            "measured": json.dumps(found["finding"]),
            "outline": json.dumps(found["outline"]),
        }
    table = tables.marks
    try:
        with room.store.write() as connection:
            connection.execute(
                update(table)
                .where(table.c.read == number, table.c.id == mark, table.c.state == "waiting")
                .values(**values)
            )
    except Exception as problem:  # it still waits, and is begun again
        LOG.error("mark not kept", extra={"fields": {"where": where_raised(problem)}})

"""The gate: what a person may see of what CAD said, and of other people's reads. Every route asks here.

In mode second-reader CAD of a study opens to a reader with the signature under their own first read of it, and to
nobody else who may still read it. Programs (machine) get reports as the batch wrote them: they do not read.
"""

from __future__ import annotations

from sqlalchemy import Connection, Row, select

from lungscreen.room import tables
from lungscreen.room.accounts import Principal
from lungscreen.room.config import RoomConfig

__all__ = ["cad_is_open", "open_studies", "shown_state"]


def cad_is_open(connection: Connection, config: RoomConfig, key: str, who: Principal) -> bool:
    """Whether a person may see CAD's results of a study now."""
    if who.role == "machine" or config.mode != "second-reader":
        return who.role != "admin"
    return key in open_studies(connection, config, who, (key,))


def open_studies(connection: Connection, config: RoomConfig, who: Principal, keys: tuple[str, ...]) -> set[str]:
    """Of some studies, those whose CAD a person may see: all at once, for a page of the worklist."""
    if config.mode != "second-reader" and who.role != "admin":
        return set(keys)
    table = tables.reads
    query = select(table.c.study).where(
        table.c.reader == who.id, table.c.study.in_(keys), table.c.cad_shown.is_not(None)
    )
    return set(connection.execute(query).scalars())


def shown_state(study: Row, own: Row | None, others_reading: bool, blind: bool) -> str:  # type: ignore[type-arg]
    """A study's state as the worklist shows it.

    own: the person's own read.
    blind: in double reading a reader does not learn that others read it.
    """
    if study.status != "done":
        return str(study.status)
    if own is not None and own.state != "final":
        return str(own.state)
    if own is not None and (blind or study.state == "final"):
        return "final"
    if study.state in ("unread", "second") and others_reading and not blind:
        return "reading"
    if blind and study.state == "second":
        return "unread"
    return "second-read" if study.state == "second" else str(study.state)

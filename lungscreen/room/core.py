"""Everything that a request needs, put together once: the room. And who asks, for every route."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from argon2 import PasswordHasher
from fastapi import Depends, Request

from lungscreen.assess import AssessConfig
from lungscreen.logs import LOG, where_raised
from lungscreen.pipeline import read_pipeline
from lungscreen.room.accounts import Accounts, Principal, Role
from lungscreen.room.audit import AuditTrail
from lungscreen.room.config import RoomConfig
from lungscreen.room.folders import RoomFolders
from lungscreen.room.problems import Problem
from lungscreen.room.reads import Reads
from lungscreen.room.store import Store, open_store
from lungscreen.room.studies import sync_studies
from lungscreen.room.work import Bench

__all__ = ["Asking", "Room", "address_of", "allow", "open_room", "room_of", "who_asks"]

SYNC_S = 5.0
"""So often the results are looked at for what is new."""


@dataclass(frozen=True)
class Room:
    """One room, open."""

    config: RoomConfig
    folders: RoomFolders
    store: Store
    accounts: Accounts
    audit: AuditTrail
    reads: Reads
    bench: Bench
    """Makes packs, alignments and objects: what takes its time."""
    measuring: Bench
    """Measures marks, which do not wait for what takes its time."""
    secure: bool
    """Whether browsers come by https: cookies are then of that kind."""
    key_file: Path | None = None
    stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def cookie(self) -> str:
        """The session cookie's name: with the prefix that browsers guard, where there is https."""
        return "__Host-room" if self.secure else "room"

    def note(self, who: str, what: str, object_: str = "", **detail: object) -> None:
        """A row of the audit trail for what changed nothing else."""
        with self.store.write() as connection:
            self.audit.add(connection, who, what, object_, **detail)
        self.audit.anchor_head(self.store)

    def sync(self) -> int:
        """Look at the results once. Returns how many studies changed."""
        return sync_studies(self.folders, self.store)

    def keep_in_sync(self, also: Callable[[Room], object]) -> None:
        """Look at the results again and again, until the room closes.

        also: what else is done each time.
        """
        while not self.stopped.wait(SYNC_S):
            try:
                self.sync()
                also(self)
            except Exception as error:  # the next look may go better; nothing that is answered depends on this one
                LOG.error("results not read", extra={"fields": {"where": where_raised(error)}})

    def close(self) -> None:
        """Let go of everything."""
        self.stopped.set()
        self.measuring.close()
        self.bench.close()
        self.store.close()


def open_room(
    results: Path,
    config: RoomConfig | None = None,
    *,
    database: str = "",
    secure: bool = False,
    key_file: Path | None = None,
    hasher: PasswordHasher | None = None,
    in_process: bool = False,
) -> Room:
    """Open the room of a results folder.

    database: an address of PostgreSQL; without one, a file beside the results.
    hasher, in_process: for tests.

    Errors: `output-failed`, `ledger-invalid`, `config-invalid`, `usage`.
    """
    config = config or RoomConfig()
    folders = RoomFolders(results.resolve())
    folders.make()
    assess: AssessConfig = read_pipeline(config.pipeline).assess
    store = open_store(database or folders.database)
    return Room(
        config,
        folders,
        store,
        Accounts(store, config.limits, hasher),
        AuditTrail(folders.secret("audit"), folders.anchor),
        Reads(config, folders, assess),
        Bench(in_process, niceness=10),
        Bench(in_process, niceness=5),
        secure,
        key_file,
    )


def room_of(request: Request) -> Room:
    """The room that answers."""
    room: Room = request.app.state.room
    return room


Here = Annotated[Room, Depends(room_of)]


def address_of(request: Request) -> str:
    """Where a request comes from."""
    return request.client.host if request.client else ""


def who_asks(request: Request, room: Here) -> Principal:
    """The person or program that asks.

    Errors: `not-signed-in`.
    """
    authorization = request.headers.get("authorization", "")
    if authorization.startswith("Bearer "):
        who = room.accounts.of_token(authorization.removeprefix("Bearer ").strip())
    else:
        token = request.cookies.get(room.cookie, "")
        who = room.accounts.of_session(token) if token else None
    if who is None:
        raise Problem("not-signed-in")
    return who


Asking = Annotated[Principal, Depends(who_asks)]


def allow(*roles: Role) -> Callable[[Principal], Principal]:
    """What a route depends on: one of these roles."""

    def check(who: Asking) -> Principal:
        if who.role not in roles:
            raise Problem("not-allowed")
        return who

    return check

"""People and programs: passwords (argon2id), sessions kept on the server, tokens, and waiting after wrong attempts."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import ColumnElement, Connection, Row, delete, func, select, update

from lungscreen.errors import UsageError
from lungscreen.room import tables
from lungscreen.room.config import Limits
from lungscreen.room.problems import Problem
from lungscreen.room.store import Store

__all__ = ["PEOPLE", "READERS", "ROLES", "SENDERS", "Accounts", "Principal", "Role"]

Role = Literal["reader", "arbiter", "lead", "admin", "machine"]
ROLES: tuple[Role, ...] = get_args(Role)
READERS: tuple[Role, ...] = ("reader", "arbiter", "lead")
"""Who reads studies."""
PEOPLE: tuple[Role, ...] = (*READERS, "admin")
"""Who signs in; programs have tokens."""
SENDERS: tuple[Role, ...] = ("machine", "lead", "admin")
"""Who sends them."""

SHORTEST_PASSWORD = 12
SEEN_EVERY_S = 30.0
"""A session's last use is written so often: not with every slice."""

_AT_ONCE = threading.BoundedSemaphore(2)
"""Passwords that are looked at once: each takes 64 MiB and a core."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks.

    through: password, oidc or token.
    session: SHA-256 of the cookie's token, empty for a program.
    """

    id: int
    name: str
    role: Role
    pseudonym: str
    settings: dict[str, Any]
    through: str
    session: str = ""
    proved: float = 0.0


class Accounts:
    """The accounts of a room."""

    def __init__(self, store: Store, limits: Limits, hasher: PasswordHasher | None = None) -> None:
        """hasher: another one than argon2id's default (64 MiB, 3 rounds), for tests."""
        self._store = store
        self._limits = limits
        self._hasher = hasher or PasswordHasher()

    @cached_property
    def _nobody(self) -> str:
        """A hash that no password has: an unknown name takes as long as a known one."""
        return self._hasher.hash(secrets.token_hex(16))

    # -- accounts ----------------------------------------------------------------------------------------------------
    def add(self, connection: Connection, name: str, role: str, password: str = "", subject: str = "") -> int:
        """A new account. Returns its number.

        Errors: `usage` for a name, role or password that cannot be.
        """
        if not (1 <= len(name) <= 64 and name.isprintable() and name == name.strip()):
            raise UsageError("usage", "a name has 1 to 64 printable characters")
        if role not in ROLES:
            raise UsageError("usage", f"a role is one of {', '.join(ROLES)}")
        if connection.execute(select(tables.users.c.id).where(tables.users.c.name == name)).first():
            raise UsageError("usage", "there is an account of that name")
        row = tables.users.insert().values(
            name=name,
            role=role,
            password=self.hash_password(password) if password else "",
            subject=subject,
            active=True,
            settings="{}",
            pseudonym=f"r-{secrets.token_hex(6)}",
            created=time.time(),
        )
        made = connection.execute(row.returning(tables.users.c.id)).scalar_one()
        return int(made)

    def hash_password(self, password: str) -> str:
        """Errors: `usage` where it is too short or too long."""
        if not SHORTEST_PASSWORD <= len(password) <= 1000:
            raise UsageError("usage", f"a password has at least {SHORTEST_PASSWORD} characters")
        with _AT_ONCE:
            return self._hasher.hash(password)

    def add_token(self, connection: Connection, user: int) -> str:
        """A token for a program. It is shown once: the database has its hash."""
        token = secrets.token_urlsafe(32)
        connection.execute(tables.tokens.insert().values(token=_sha256(token), user=user, created=time.time()))
        return token

    def change_own_password(self, who: Principal, password: str, new: str, address: str) -> None:
        """Another password for oneself; every session but this one ends.

        Errors: `password-wrong`, `too-many-attempts`; `usage` where the new one is too short or too long.
        """
        self.check_password(who, password, address)
        made = self.hash_password(new)
        others = (tables.sessions.c.user == who.id) & (tables.sessions.c.token != who.session)
        with self._store.write() as connection:
            connection.execute(update(tables.users).where(tables.users.c.id == who.id).values(password=made))
            connection.execute(delete(tables.sessions).where(others))

    def check_admins(self, connection: Connection) -> None:
        """Errors: `last-admin` where no account of an administrator is open any more."""
        table = tables.users
        query = select(func.count()).select_from(table).where(table.c.role == "admin", table.c.active)
        if not connection.execute(query).scalar_one():
            raise Problem("last-admin")

    # -- sessions ----------------------------------------------------------------------------------------------------
    def own_sessions(self, who: Principal) -> list[dict[str, Any]]:
        """A person's open sessions, the last used first."""
        table, now = tables.sessions, time.time()
        query = select(table).where(table.c.user == who.id, *self._is_open(now)).order_by(table.c.seen.desc())
        with self._store.read() as connection:
            rows = connection.execute(query).all()
        return [_shown_session(row, who) for row in rows]

    def end_session(self, who: Principal, number: str) -> bool:
        """End one of a person's own sessions. Returns whether there was one of that number."""
        table = tables.sessions
        with self._store.write() as connection:
            tokens = connection.execute(select(table.c.token).where(table.c.user == who.id)).scalars().all()
            found = [token for token in tokens if _session_id(token) == number]
            connection.execute(delete(table).where(table.c.token.in_(found)))
        return bool(found)

    def _is_open(self, now: float) -> tuple[ColumnElement[bool], ...]:
        """Neither idle for too long nor too old."""
        table, limits = tables.sessions, self._limits
        return table.c.seen >= now - limits.idle_s, table.c.created >= now - limits.session_s

    # -- getting in --------------------------------------------------------------------------------------------------
    def log_in(self, name: str, password: str, address: str) -> tuple[str, Principal]:
        """Check a password and begin a session. Returns the cookie's token and who it is.

        Errors: `login-failed`, `too-many-attempts`.
        """
        self._check_wrong(name, address)
        with self._store.read() as connection:
            row = connection.execute(select(tables.users).where(tables.users.c.name == name)).first()
        usable = row is not None and row.active and row.password and row.role != "machine"
        right = self._matches(row.password if usable and row is not None else self._nobody, password)
        if row is None or not usable or not right:
            self._count_wrong(name, address)
            raise Problem("login-failed")
        with self._store.write() as connection:
            connection.execute(delete(tables.wrong).where(tables.wrong.c.who == _account(name)))
        return self.begin_session(row.id, "password")

    def begin_session(self, user: int, through: str) -> tuple[str, Principal]:
        """A new session; sessions that ended go."""
        token, now = secrets.token_urlsafe(32), time.time()
        with self._store.write() as connection:
            connection.execute(delete(tables.sessions).where(tables.sessions.c.created < now - self._limits.session_s))
            session = {"token": _sha256(token), "user": user, "created": now, "seen": now, "through": through}
            connection.execute(tables.sessions.insert().values(**session, proved=now))
        who = self.of_session(token)
        if who is None:
            raise Problem("login-failed")
        return token, who

    def of_session(self, token: str) -> Principal | None:
        """Who holds a session's token; None where it ended, by its age, by idling or with the account."""
        now, digest = time.time(), _sha256(token)
        query = (
            select(tables.users, tables.sessions.c.seen, tables.sessions.c.through, tables.sessions.c.proved)
            .join_from(tables.sessions, tables.users)
            .where(
                tables.sessions.c.token == digest,
                *self._is_open(now),
                tables.users.c.active,
            )
        )
        with self._store.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if now - row.seen > min(SEEN_EVERY_S, self._limits.idle_s / 4):
            with self._store.write() as connection:
                connection.execute(update(tables.sessions).where(tables.sessions.c.token == digest).values(seen=now))
        return _principal(row, row.through, digest, row.proved)

    def of_token(self, token: str) -> Principal | None:
        """Which program holds a token."""
        query = (
            select(tables.users)
            .join_from(tables.tokens, tables.users)
            .where(tables.tokens.c.token == _sha256(token), tables.users.c.active)
        )
        with self._store.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else _principal(row, "token")

    def log_out(self, who: Principal) -> None:
        """End the session: its token is worth nothing afterwards."""
        with self._store.write() as connection:
            connection.execute(delete(tables.sessions).where(tables.sessions.c.token == who.session))

    def check_password(self, who: Principal, password: str, address: str) -> None:
        """The password again, as a signature asks for it.

        Errors: `password-wrong`, `too-many-attempts`.
        """
        self._check_wrong(who.name, address)
        with self._store.read() as connection:
            stored = connection.execute(select(tables.users.c.password).where(tables.users.c.id == who.id)).scalar_one()
        if not stored or not self._matches(stored, password):
            self._count_wrong(who.name, address)
            raise Problem("password-wrong")

    def _matches(self, stored: str, password: str) -> bool:
        with _AT_ONCE:
            try:
                return self._hasher.verify(stored, password[:1000])
            except (VerificationError, InvalidHashError):
                return False

    # -- wrong attempts ----------------------------------------------------------------------------------------------
    def _check_wrong(self, name: str, address: str) -> None:
        since = time.time() - self._limits.wrong_s
        with self._store.read() as connection:
            for who in (_account(name), _address(address)):
                query = select(func.count(), func.min(tables.wrong.c.at)).where(
                    tables.wrong.c.who == who, tables.wrong.c.at > since
                )
                count, first = connection.execute(query).one()
                if count >= self._limits.wrong_passwords:
                    raise Problem("too-many-attempts", retry_after_s=first - since)

    def _count_wrong(self, name: str, address: str) -> None:
        now = time.time()
        with self._store.write() as connection:
            connection.execute(delete(tables.wrong).where(tables.wrong.c.at < now - self._limits.wrong_s))
            rows = [{"who": who, "at": now} for who in (_account(name), _address(address))]
            connection.execute(tables.wrong.insert(), rows)


def _principal(row: Row[Any], through: str, session: str = "", proved: float = 0.0) -> Principal:
    settings = json.loads(row.settings)
    return Principal(row.id, row.name, row.role, row.pseudonym, settings, through, session, proved)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _shown_session(row: Row[Any], who: Principal) -> dict[str, Any]:
    times = {"begun": row.created, "seen": row.seen}
    return {"id": _session_id(row.token), **times, "through": row.through, "own": row.token == who.session}


def _session_id(digest: str) -> str:
    """What a session is called: neither its token nor what the database has of it."""
    return _sha256(f"session {digest}")[:16]


def _account(name: str) -> str:
    return f"account {_sha256(name)[:40]}"


def _address(address: str) -> str:
    return f"address {_sha256(address)[:40]}"

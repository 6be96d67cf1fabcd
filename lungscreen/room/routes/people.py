"""Signing in and out, one's own settings, and the accounts."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Request, Response
from sqlalchemy import delete, select, update

from lungscreen import RESEARCH_USE, __version__
from lungscreen.errors import UsageError
from lungscreen.room import tables
from lungscreen.room.accounts import PEOPLE, ROLES, Principal
from lungscreen.room.bodies import ChangedUser, Login, NewPassword, NewUser
from lungscreen.room.core import Asking, Here, Room, address_of, allow
from lungscreen.room.problems import Problem
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.words import QUALITIES, REJECT_REASONS

__all__ = ["account_routes", "own_routes", "person_routes", "public_routes", "set_cookie"]

MOST_SETTINGS = 16 * 1024

public_routes = APIRouter(prefix="/api/v1", responses=ANSWERS)
own_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow(*ROLES))])
person_routes = APIRouter(prefix="/api/v1/me", responses=ANSWERS, dependencies=[Depends(allow(*PEOPLE))])
account_routes = APIRouter(prefix="/api/v1", responses=ANSWERS, dependencies=[Depends(allow("admin"))])


@public_routes.post("/login")
def _log_in(login: Login, request: Request, response: Response, room: Here) -> dict[str, Any]:
    """Begin a session."""
    try:
        token, who = room.accounts.log_in(login.name, login.password, address_of(request))
    except Problem as error:
        room.note("nobody", error.code)
        raise
    room.note(who.name, "login")
    set_cookie(response, room, token)
    return _me(who)


@public_routes.get("/oidc")
def _oidc(room: Here) -> dict[str, Any]:
    """Whether the site's own sign-in is set up."""
    return {"enabled": bool(room.config.oidc.issuer), "label": room.config.oidc.label}


@own_routes.post("/logout", status_code=204)
def _log_out(who: Asking, response: Response, room: Here) -> None:
    """End the session."""
    room.accounts.log_out(who)
    room.note(who.name, "logout")
    response.delete_cookie(room.cookie, path="/", secure=room.secure, httponly=True, samesite="strict")


@own_routes.get("/me")
def _me_route(who: Asking) -> dict[str, Any]:
    """Who is signed in."""
    return _me(who)


@own_routes.put("/me/settings")
def _keep_settings(settings: dict[str, Any], who: Asking, room: Here) -> dict[str, Any]:
    """Keys and layout, as the pages want them."""
    text = json.dumps(settings)
    if len(text) > MOST_SETTINGS:
        raise Problem("body-too-large")
    with room.store.write() as connection:
        connection.execute(update(tables.users).where(tables.users.c.id == who.id).values(settings=text))
    return {**_me(who), "settings": settings}


@own_routes.get("/programme")
def _programme(room: Here) -> dict[str, Any]:
    """How this programme reads."""
    return {
        "name": room.config.programme,
        "mode": room.config.mode,
        "double_reading": room.config.double_reading.active,
        "research_use": RESEARCH_USE,
        "version": __version__,
        "lease_s": room.config.limits.lease_s,
        "autosave_ms": 1000,
        "reject_reasons": [{"code": code, "text": text} for code, text in REJECT_REASONS.items()],
        "types": ["solid", "part-solid", "ground-glass", "calcified", "unknown"],
        "qualities": list(QUALITIES),
    }


# -- one's own password and sessions ---------------------------------------------------------------------------------
@person_routes.put("/password", status_code=204)
def _change_password(change: NewPassword, who: Asking, request: Request, room: Here) -> None:
    """Another password for oneself; the other sessions end."""
    try:
        room.accounts.change_own_password(who, change.password, change.new, address_of(request))
    except UsageError as error:
        raise Problem("body-invalid", error.reason) from None
    room.note(who.name, "password-changed", who.name)


@person_routes.get("/sessions")
def _sessions(who: Asking, room: Here) -> dict[str, Any]:
    """One's own open sessions."""
    return {"sessions": room.accounts.own_sessions(who)}


@person_routes.delete("/sessions/{session}", status_code=204)
def _end_session(session: Annotated[str, Path(pattern="^[0-9a-f]{16}$")], who: Asking, room: Here) -> None:
    """End one of them."""
    if not room.accounts.end_session(who, session):
        raise Problem("not-found")
    room.note(who.name, "session-ended", who.name)


# -- accounts --------------------------------------------------------------------------------------------------------
@account_routes.get("/users")
def _users(room: Here) -> dict[str, Any]:
    """All accounts."""
    with room.store.read() as connection:
        rows = connection.execute(select(tables.users).order_by(tables.users.c.name)).all()
    shown = [{"name": r.name, "role": r.role, "active": r.active, "created": r.created} for r in rows]
    return {"users": shown}


@account_routes.post("/users", status_code=201)
def _add_user(new: NewUser, who: Asking, room: Here) -> dict[str, Any]:
    """A new account; a program's token is in the answer, once."""
    try:
        with room.store.write() as connection:
            number = room.accounts.add(connection, new.name, new.role, new.password, new.subject)
            token = room.accounts.add_token(connection, number) if new.role == "machine" else None
            room.audit.add(connection, who.name, "user-added", new.name, role=new.role)
    except UsageError as error:
        raise Problem("body-invalid", error.reason) from None
    room.audit.anchor_head(room.store)
    return {"name": new.name, "role": new.role, "token": token}


@account_routes.patch("/users/{name}")
def _change_user(name: str, change: ChangedUser, who: Asking, room: Here) -> dict[str, Any]:
    """Role, password, or whether it is open. Its sessions end."""
    values: dict[str, Any] = {k: v for k, v in (("role", change.role), ("active", change.active)) if v is not None}
    try:
        if change.password:
            values["password"] = room.accounts.hash_password(change.password)
    except UsageError as error:
        raise Problem("body-invalid", error.reason) from None
    with room.store.write() as connection:
        row = connection.execute(select(tables.users.c.id).where(tables.users.c.name == name)).first()
        if row is None:
            raise Problem("not-found")
        if values:
            connection.execute(update(tables.users).where(tables.users.c.id == row.id).values(**values))
            room.accounts.check_admins(connection)
        connection.execute(delete(tables.sessions).where(tables.sessions.c.user == row.id))
        room.audit.add(connection, who.name, "user-changed", name, changed=sorted(values))
    room.audit.anchor_head(room.store)
    return {"name": name, "changed": sorted(values)}


def set_cookie(response: Response, room: Room, token: str) -> None:
    """The session's cookie: for this host, for no script, for no other site."""
    response.set_cookie(room.cookie, token, path="/", secure=room.secure, httponly=True, samesite="strict")


def _me(who: Principal) -> dict[str, Any]:
    return {"name": who.name, "role": who.role, "through": who.through, "settings": who.settings}

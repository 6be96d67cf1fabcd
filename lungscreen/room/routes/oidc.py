"""Signing in through the site's own sign-in: two addresses that a browser visits, and no page asks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from lungscreen.room.core import Here
from lungscreen.room.oidc import ATTEMPT_S, OidcClient
from lungscreen.room.problems import Problem
from lungscreen.room.routes.answers import ANSWERS
from lungscreen.room.routes.people import set_cookie

__all__ = ["oidc_routes"]

oidc_routes = APIRouter(prefix="/oidc", responses=ANSWERS, include_in_schema=False)

_ATTEMPT = "room-oidc"
_PAGE = (
    "<!doctype html><html lang='en'><head><meta http-equiv='refresh' content='0;url=/'>"
    "<title>lungscreen</title></head></html>"
)


@oidc_routes.get("/login")
def _begin(room: Here) -> Response:
    """Off to the issuer."""
    if not room.config.oidc.issuer:
        raise Problem("not-found")
    attempt = OidcClient(room).begin()
    answer = RedirectResponse(attempt.url, 303)
    answer.set_cookie(
        _ATTEMPT, attempt.cookie, max_age=ATTEMPT_S, path="/oidc", secure=room.secure, httponly=True, samesite="lax"
    )
    return answer


@oidc_routes.get("/callback")
def _finish(
    request: Request,
    room: Here,
    state: Annotated[str, Query(max_length=500)] = "",
    code: Annotated[str, Query(max_length=4000)] = "",
) -> Response:
    """Back from the issuer. The session's cookie is for this site only, so a page of ours leads on, not a redirect."""
    if not room.config.oidc.issuer:
        raise Problem("not-found")
    number = OidcClient(room).finish(request.cookies.get(_ATTEMPT, ""), state, code)
    token, _ = room.accounts.begin_session(number, "oidc")
    answer = Response(_PAGE, 200, media_type="text/html; charset=utf-8")
    set_cookie(answer, room, token)
    answer.delete_cookie(_ATTEMPT, path="/oidc", secure=room.secure, httponly=True, samesite="lax")
    return answer

"""Everything that a route answers instead of what was asked for, by stable code (RFC 9457)."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.routing import Match

from lungscreen.logs import LOG, where_raised

__all__ = ["PROBLEMS", "Problem", "answer_problems", "problem_response"]

PROBLEMS: dict[str, tuple[int, str]] = {
    "not-signed-in": (401, "Sign in first."),
    "login-failed": (401, "Name or password is wrong, or the account is closed."),
    "password-wrong": (401, "The password is wrong."),
    "not-allowed": (403, "Your role may not do this."),
    "foreign-origin": (403, "The request came from another site."),
    "not-found": (404, "There is nothing here, or nothing of yours."),
    "method-unknown": (405, "This address does not answer that method."),
    "first-read-unsigned": (409, "CAD is shown after your own first read is signed."),
    "images-absent": (409, "The images are not ready."),
    "read-incomplete": (409, "Something is missing before it can be signed."),
    "read-not-wanted": (409, "This study wants no read of yours."),
    "read-signed": (409, "It is signed: only an addendum can follow."),
    "read-unsigned": (409, "It is not signed yet."),
    "study-leased": (409, "Somebody is reading this study."),
    "last-admin": (409, "The last open account of an administrator stays one."),
    "read-changed": (412, "It was changed meanwhile: load it again."),
    "body-too-large": (413, "The body is larger than is allowed."),
    "body-kind": (415, "This kind of body is not taken here."),
    "body-invalid": (422, "The body does not fit what is expected."),
    "idempotency-reused": (422, "This Idempotency-Key was used with another body."),
    "outside-volume": (422, "The place lies outside the scan."),
    "upload-refused": (422, "The upload is no study, or breaks a limit."),
    "if-match-missing": (428, "If-Match with the version is needed."),
    "too-many-attempts": (429, "Too many wrong attempts: wait."),
    "quota-used": (429, "The day's uploads are used up."),
    "internal-error": (500, "The software failed."),
    "not-ready": (503, "The service is not ready."),
}
"""Code → status, and what it says to people."""


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """A request that is not carried out."""

    def __init__(self, code: str, detail: str = "", *, retry_after_s: float = 0.0, **more: Any) -> None:
        """more: fields of the answer beside those that every problem has."""
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.more = more


def problem_response(code: str, detail: str = "", retry_after_s: float = 0.0, **more: Any) -> JSONResponse:
    """The answer of a code."""
    status, title = PROBLEMS[code]
    body = {"type": f"about:blank#{code}", "title": title, "status": status, "code": code, "detail": detail or title}
    headers = {"Retry-After": str(max(1, round(retry_after_s)))} if retry_after_s else {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="lungscreen room"'
    return JSONResponse({**body, **more}, status, headers, "application/problem+json")


def answer_problems(app: FastAPI) -> None:
    """Every error as a problem. None of them repeats what was sent: it may name a patient."""

    @app.exception_handler(Problem)
    async def ours(_: Request, error: Problem) -> JSONResponse:
        return problem_response(error.code, error.detail, error.retry_after_s, **error.more)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        places = sorted({".".join(map(str, one["loc"])) for one in error.errors()})
        in_path = all(place.startswith("path.") for place in places)
        return problem_response("not-found" if in_path else "body-invalid", "" if in_path else ", ".join(places)[:500])

    @app.exception_handler(HTTPException)
    async def plain(request: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not-found", 405: "method-unknown", 413: "body-too-large", 415: "body-kind"}
        response = problem_response(codes.get(error.status_code, "body-invalid"))
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_methods_at(app, request.url.path))
        return response

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        LOG.error("request failed", extra={"fields": {"where": where_raised(error)}})
        return problem_response("internal-error")


def _methods_at(app: FastAPI, path: str) -> list[str]:
    """Every method that an address answers: several routes may have the same one."""
    asked = {"type": "http", "path": path, "root_path": "", "headers": []}
    found = set()
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        if any(route.matches({**asked, "method": method})[0] is Match.FULL for route in app.routes):
            found.add(method)
    return sorted(found)

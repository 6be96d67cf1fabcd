"""What stands before every route: who the request comes from, how large it is, and what every answer carries."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lungscreen.room.problems import problem_response

__all__ = ["CONTENT_POLICY", "SANDBOXED_POLICY", "Shield"]

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Of every answer: nothing from elsewhere, nothing inline."""

SANDBOXED_POLICY = (
    "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'self'"
)
"""Of a report's own page, which carries its style and pictures in itself and no script."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_UPLOAD = "/api/v1/studies"
_UPLOAD_KINDS = ("application/zip", "application/dicom", "application/json")

_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class Shield:
    """An ASGI application around the room's."""

    def __init__(self, app: ASGIApp, *, body_bytes: int, upload_bytes: int, secure: bool) -> None:
        self._app = app
        self._body_bytes = body_bytes
        self._upload_bytes = upload_bytes
        self._headers = dict(_HEADERS)
        if secure:
            self._headers["Strict-Transport-Security"] = "max-age=31536000"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._with_headers(send)
        headers = Headers(scope=scope)
        most = self._upload_bytes if scope["path"] == _UPLOAD else self._body_bytes
        code = self._refuse(scope, headers, most)
        if code:
            await problem_response(code)(scope, receive, answer)
            return
        await self._app(scope, _counted(receive, most), answer)

    def _refuse(self, scope: Scope, headers: Headers, most: int) -> str:
        """Why a request goes no further; empty where it does."""
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > most:
            return "body-too-large"
        if scope["method"] in _SAFE:
            return ""
        if not headers.get("authorization", "").startswith("Bearer ") and not _own_page(headers):
            return "foreign-origin"
        has_body = declared != "0" or "transfer-encoding" in headers
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        kinds = _UPLOAD_KINDS if scope["path"] == _UPLOAD else ("application/json",)
        return "body-kind" if has_body and kind not in kinds else ""

    def _with_headers(self, send: Send) -> Send:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        return add


def _own_page(headers: Headers) -> bool:
    """Whether a request comes from a page of this very room, by what browsers say and pages cannot change."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = headers.get("origin", "")
    return bool(origin) and urlsplit(origin).netloc == headers.get("host", "")


def _counted(receive: Receive, most: int) -> Receive:
    """The body, as long as it is not larger than it may be, whatever was declared."""
    so_far = 0

    async def count() -> Message:
        nonlocal so_far
        message = await receive()
        if message["type"] == "http.request":
            so_far += len(message.get("body", b""))
            if so_far > most:
                raise HTTPException(413)
        return message

    return count

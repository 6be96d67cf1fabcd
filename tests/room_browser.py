"""A real browser, and volumes served to the viewer as the reading room serves them."""

from __future__ import annotations

import gzip
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.geometry import Geometry

__all__ = ["KEY", "STATIC", "Exam", "Pages", "axe_violations", "open_browser", "serve_exams", "watched_page"]

STATIC = Path(__file__).parents[1] / "lungscreen" / "room" / "static"
KEY = "0123456789ab"
CHUNK = 16
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "worker-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_ALWAYS: dict[str, Any] = {
    "me": {"name": "anna", "role": "reader", "settings": {}},
    "programme": {"mode": "second-reader", "autosave_ms": 500, "reject_reasons": [], "types": [], "qualities": []},
}
_KINDS = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


@dataclass
class Exam:
    """A volume to look at; its read belongs to somebody else, so that the viewer stands alone."""

    hu: NDArray[np.int16]
    geometry: Geometry
    instance_numbers: list[int | None] = field(default_factory=list)
    lung_box: list[list[int]] | None = None
    notices: list[dict[str, str]] = field(default_factory=list)

    def view(self, key: str) -> dict[str, Any]:
        volume = {
            "shape": list(self.hu.shape), "affine": self.geometry.affine.tolist(),
            "spacing_mm": list(self.geometry.spacing_mm), "chunk": CHUNK, "lowest_hu": -1024, "highest_hu": 3071,
            "instance_numbers": self.instance_numbers or [None] * self.hu.shape[0], "lung_box": self.lung_box,
        }  # fmt: skip
        return {
            "study": key, "patient": {"patient_id": "P1", "name": "Doe", "birth_date": "19500102", "sex": "F"},
            "exam": {"date": "20240102", "description": "LDCT", "accession_number": "A1"}, "volume": volume,
            "images": "ready", "notices": self.notices, "not_read": [], "gate": "closed", "read": None,
        }  # fmt: skip


@dataclass
class Pages:
    """Where the pages are, and what was asked for."""

    url: str
    asked: list[str]
    exams: dict[str, Exam]

    def study(self, key: str = KEY, extra: str = "&watch=1") -> str:
        return f"{self.url}/static/read.html?study={key}{extra}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, exams: dict[str, Exam]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.exams = exams
        self.asked: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/v1/"):
            return self._answer(*path.removeprefix("/api/v1/").split("/"))
        file = STATIC / (path.removeprefix("/static/") if path != "/" else "index.html")
        return self._send(200, file.read_bytes(), _KINDS[file.suffix]) if file.is_file() else self._problem(404)

    def do_POST(self) -> None:
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._problem(409, "study-leased")

    def _answer(self, what: str, key: str = "", part: str = "", *rest: str) -> None:
        exam = self.server.exams.get(key)
        if what in _ALWAYS:
            self._json(_ALWAYS[what])
        elif exam is None:
            self._problem(404)
        elif part == "slices":
            self._pixels(exam.hu[int(rest[0]) : int(rest[1])])
        else:
            self._json({"priors": []} if part == "priors" else exam.view(key))

    def _pixels(self, hu: NDArray[np.int16]) -> None:
        both = hu.astype("<i2").tobytes()
        body = gzip.compress(both[1::2] + both[0::2], 1)
        self._send(200, body, "application/octet-stream", {"Content-Encoding": "gzip"})

    def _json(self, value: Any, status: int = 200, kind: str = "application/json") -> None:
        self._send(status, json.dumps(value).encode(), kind)

    def _problem(self, status: int, code: str = "not-found") -> None:
        self._json({"code": code, "title": code, "status": status}, status, "application/problem+json")

    def _send(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Content-Security-Policy": POLICY}
        for name, value in {**headers, "Cache-Control": "no-store", **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve_exams(exams: dict[str, Exam]) -> Iterator[Pages]:
    """The pages and the pixel routes of docs/reference/room-api.md on a free port of 127.0.0.1."""
    server = _Server(exams)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield Pages(f"http://127.0.0.1:{server.server_address[1]}", server.asked, exams)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def open_browser() -> Iterator[Any]:
    """Chromium as Debian installs it; skips, saying so, where it or Playwright is absent."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no browser tests: Playwright is not installed")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no browser tests: no chromium here (make browser)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"]
        )
        yield browser
        browser.close()


@contextmanager
def watched_page(
    browser: Any, origin: str, *, width: int = 1400, height: int = 900, expected: tuple[str, ...] = ()
) -> Iterator[Any]:
    """A page in a context of its own; an error in its console, or a request to elsewhere, fails the test.

    expected: parts of console messages that the test provokes.
    """
    context = browser.new_context(viewport={"width": width, "height": height})
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("console", lambda m: wrong.append(f"console: {m.text}") if m.type in ("error", "warning") else None)
    page.on(
        "request",
        lambda r: wrong.append(f"elsewhere: {r.url}") if not r.url.startswith((origin, "data:", "blob:")) else None,
    )
    try:
        yield page
    finally:
        context.close()
    left = [text for text in wrong if not any(part in text for part in expected)]
    assert left == []


def axe_violations(page: Any) -> list[str]:
    """What axe-core finds on a page, by WCAG 2.2 A and AA."""
    axe = pytest.importorskip(
        "axe_playwright_python", reason="no accessibility tests: axe-playwright-python is not installed"
    )
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text(encoding="utf-8") + "; undefined")
    found = page.evaluate("() => axe.run(document, {runOnly: ['wcag2a','wcag2aa','wcag21aa','wcag22aa']})")[
        "violations"
    ]
    return [f"{v['id']}: {[n['html'][:160] for n in v['nodes']]}" for v in found]

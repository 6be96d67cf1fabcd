"""Room ─► ASGI application: every route with its roles, the shield around them, the pages beside them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse, RedirectResponse
from fastapi.routing import APIRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from lungscreen import RESEARCH_USE, __version__
from lungscreen.room.core import Room
from lungscreen.room.marking import measure_waiting
from lungscreen.room.problems import answer_problems
from lungscreen.room.routes import final, health, oidc, oversight, people, reads, service, studies, worklist
from lungscreen.room.routes.answers import ProblemAnswer
from lungscreen.room.shield import Shield

__all__ = ["ROUTERS", "make_app"]

STATIC = Path(__file__).with_name("static")
"""The pages: plain files, served as they are."""

ROUTERS = (
    people.public_routes,
    people.own_routes,
    people.person_routes,
    people.account_routes,
    worklist.worklist_routes,
    studies.study_routes,
    studies.result_routes,
    reads.read_routes,
    reads.arbitration_routes,
    final.final_routes,
    service.sending_routes,
    service.job_routes,
    oversight.audit_routes,
    oversight.monthly_routes,
    health.health_routes,
    oidc.oidc_routes,
)


def make_app(room: Room) -> ASGIApp:
    """The whole application of one room; it closes the room when it ends."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        watcher = threading.Thread(target=_look_after, args=(room,), name="room-sync", daemon=True)
        watcher.start()
        yield
        room.stopped.set()
        watcher.join(timeout=30)
        room.close()

    app = FastAPI(
        title="lungscreen reading room", version=__version__, description=RESEARCH_USE, lifespan=life,
        docs_url=None, redoc_url=None, generate_unique_id_function=_name_route,
    )  # fmt: skip
    app.state.room = room
    answer_problems(app)
    for router in ROUTERS:
        app.include_router(router)
    _add_pages(app)
    _describe_problems(app)
    limits = room.config.limits
    return Shield(app, body_bytes=int(limits.body_bytes), upload_bytes=int(limits.upload_bytes), secure=room.secure)


def _name_route(route: APIRoute) -> str:
    """What the OpenAPI calls a route: its method and address."""
    return (
        f"{min(route.methods or {'get'}).lower()}{route.path_format}".replace("/", "_")
        .replace("{", "")
        .replace("}", "")
    )


def _look_after(room: Room) -> None:
    try:
        room.sync()
        measure_waiting(room, older_s=0.0)
    finally:
        room.keep_in_sync(measure_waiting)


def _add_pages(app: FastAPI) -> None:
    """`/` and the files of the pages. They hold no data: those come through the routes."""

    @app.get("/", include_in_schema=False)
    def home() -> Any:
        index = STATIC / "index.html"
        return FileResponse(index) if index.exists() else RedirectResponse("/openapi.json")

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Any:
        found = STATIC / "favicon.svg"
        return FileResponse(found) if found.exists() else RedirectResponse("/livez")

    if STATIC.is_dir():
        app.mount("/static", StaticFiles(directory=STATIC), name="static")


def _describe_problems(app: FastAPI) -> None:
    """The problems' schema in the OpenAPI; the framework's own validation answer is not used and not described."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = made()
            parts = schema.setdefault("components", {}).setdefault("schemas", {})
            parts["ProblemAnswer"] = ProblemAnswer.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):
                parts.pop(name, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]

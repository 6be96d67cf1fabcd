"""Whether the service lives, is ready, and how busy it is. Nothing of a study."""

from __future__ import annotations

from fastapi import APIRouter, Response
from sqlalchemy import func, select, text

from lungscreen.room import tables
from lungscreen.room.core import Here
from lungscreen.room.problems import Problem
from lungscreen.room.routes.answers import ANSWERS

__all__ = ["health_routes"]

health_routes = APIRouter(responses=ANSWERS)


@health_routes.get("/livez")
def _alive() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@health_routes.get("/readyz")
def _ready(room: Here) -> dict[str, str]:
    """The database answers and the results are there."""
    try:
        with room.store.read() as connection:
            connection.execute(text("SELECT 1"))
    except Exception:  # whatever the database's driver raises
        raise Problem("not-ready") from None
    if not room.folders.results.is_dir():
        raise Problem("not-ready")
    return {"status": "ready"}


@health_routes.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def _metrics(room: Here) -> Response:
    """Jobs by state and sessions, for Prometheus. No count of what CAD found, nor of studies by what was found."""
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    jobs = Gauge("lungscreen_room_jobs", "Uploads by state", ["state"], registry=registry)
    sessions = Gauge("lungscreen_room_sessions", "Sessions in the database", registry=registry)
    with room.store.read() as connection:
        query = select(tables.jobs.c.state, func.count()).group_by(tables.jobs.c.state)
        for state, count in connection.execute(query):
            jobs.labels(state).set(count)
        sessions.set(connection.execute(select(func.count()).select_from(tables.sessions)).scalar_one())
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

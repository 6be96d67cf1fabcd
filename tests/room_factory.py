"""Rooms to test: a results folder of small studies, its room with quick passwords, and clients that are signed in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from argon2 import PasswordHasher
from report_examples import EXAM, PATIENT, changed, make_finding, make_report, make_volume, study_of, write_report

from lungscreen.records import Finding, Grade, Patient, Report
from lungscreen.room.app import make_app
from lungscreen.room.config import RoomConfig
from lungscreen.room.core import Room, open_room

__all__ = ["OWN_PLACE", "PASSWORD", "ROLES", "Client", "graded_finding", "make_room", "one_report", "write_studies"]

PASSWORD = "correct horse battery staple"
ROLES = ("reader", "arbiter", "lead", "admin", "machine")
OWN_PLACE = (-9.0, 27.0, -275.0)
"""In the bright ball of `report_examples.make_volume`."""


def graded_finding(report_volume: Any = None, **changes: Any) -> Finding:
    """A finding that CAD would have, with a category, a score and a place that are looked for in answers."""
    volume = report_volume or make_volume()
    found = make_finding(volume, score=0.87654, probability=0.6789)
    grade = Grade("4B", "solid, 11.8 mm, as baseline", "row 4A", "low-dose CT in 3 months", "not assessed: no prior")
    return changed(replace(found, grade=grade), **changes)


def one_report(uid: str, *findings: Finding, patient: Patient = PATIENT) -> Report:
    """A study's report; its category is the worst of the findings'."""
    return make_report(*findings, study=study_of(uid, patient))


def write_studies(folder: Path, *reports: Report, masks: bool = True) -> Path:
    """A results folder with their packs."""
    for report in reports:
        write_report(report, folder, "room", *(("masks",) if masks else ()))
    return folder


class Client:
    """A browser, or a program with a token, that asks a room in this process."""

    def __init__(self, room: Room, runner: asyncio.Runner, app: Any, name: str = "", token: str = "") -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {"Sec-Fetch-Site": "same-origin"}
        headers["Accept-Encoding"] = "zstd"
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.room, self._runner = room, runner
        self._http = httpx.AsyncClient(transport=transport, base_url="http://room.test", headers=headers, timeout=60)
        if name:
            answer = self.post("/api/v1/login", json={"name": name, "password": PASSWORD})
            assert answer.status_code == 200, answer.text

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._runner.run(self._http.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: Any) -> httpx.Response:
        return self.request("PUT", path, **more)

    @property
    def cookies(self) -> httpx.Cookies:
        return self._http.cookies

    # -- a reader's steps --------------------------------------------------------------------------------------------
    def open(self, key: str) -> dict[str, Any]:
        answer = self.post(f"/api/v1/studies/{key}/reads")
        assert answer.status_code in (200, 201), answer.text
        return answer.json()

    def save(self, read: dict[str, Any], **content: Any) -> httpx.Response:
        whole = {
            "acknowledged": [n["code"] for n in self.notices(read["study"])],
            "exam": {"quality": "good"},
            **content,
        }
        return self.put(f"/api/v1/reads/{read['id']}", json=whole, headers={"If-Match": f'"{read["version"]}"'})

    def mark(self, read: dict[str, Any], place: Any = OWN_PLACE) -> dict[str, Any]:
        """A nodule of the reader's own, measured; returns the read."""
        headers = {"If-Match": f'"{read["version"]}"'}
        answer = self.post(f"/api/v1/reads/{read['id']}/marks", json={"position_mm": place}, headers=headers)
        assert answer.status_code == 201, answer.text
        return self.measured(read["id"])

    def measured(self, number: str) -> dict[str, Any]:
        """A read when no mark of it waits any more to be measured."""
        for _ in range(600):
            read = self.get(f"/api/v1/reads/{number}").json()
            if not any(mark["measured"]["state"] == "waiting" for mark in read["content"]["marks"]):
                return read
            time.sleep(0.05)
        raise AssertionError("a mark was not measured within 30 s")

    def sign(self, read: dict[str, Any], password: str = PASSWORD) -> httpx.Response:
        headers = {"If-Match": f'"{read["version"]}"'}
        return self.post(f"/api/v1/reads/{read['id']}/sign", json={"password": password}, headers=headers)

    def cad(self, read: dict[str, Any]) -> httpx.Response:
        return self.get(f"/api/v1/reads/{read['id']}/cad")

    def notices(self, key: str) -> list[dict[str, str]]:
        return self.get(f"/api/v1/studies/{key}").json()["notices"]

    def read_to_end(self, key: str, verdict: str = "accept", **exam: Any) -> dict[str, Any]:
        """The whole way, every mark of CAD decided alike; returns the final read."""
        read = self.open(key)
        words = {"quality": "good", **exam}
        read = self.save(read, exam=words).json()
        if read["mode"] == "second-reader":
            read = self.sign(read).json()
        found = self.cad(read).json()["findings"]
        reason = "vessel" if verdict == "reject" else None
        decisions = [{"finding": f["number"], "verdict": verdict, "reason": reason} for f in found]
        read = self.save(read, exam=words, decisions=decisions).json()
        answer = self.sign(read)
        assert answer.status_code == 200, answer.text
        return answer.json()


class Rooms:
    """One room and whoever asks it."""

    def __init__(self, room: Room) -> None:
        self.room, self.app, self.runner = room, make_app(room), asyncio.Runner()
        self.tokens: dict[str, str] = {}
        room.sync()

    def add(self, name: str, role: str) -> None:
        with self.room.store.write() as connection:
            password = "" if role == "machine" else PASSWORD
            number = self.room.accounts.add(connection, name, role, password)
            if role == "machine":
                self.tokens[name] = self.room.accounts.add_token(connection, number)

    def client(self, name: str = "", role: str = "reader") -> Client:
        """Signed in as a person of that name, who is made where there is none; nobody without a name."""
        if name and name not in {row["name"] for row in self._users()}:
            self.add(name, role)
        if name in self.tokens:
            return Client(self.room, self.runner, self.app, token=self.tokens[name])
        return Client(self.room, self.runner, self.app, name)

    def _users(self) -> list[dict[str, Any]]:
        from lungscreen.room import tables

        with self.room.store.read() as connection:
            return [dict(row._mapping) for row in connection.execute(tables.users.select())]

    def close(self) -> None:
        self.runner.close()
        self.room.close()


@contextmanager
def make_room(results: Path, config: RoomConfig | None = None, **more: Any) -> Iterator[Rooms]:
    """A room over a results folder, closed at the end. Passwords are hashed with the least work that argon2 allows."""
    room = open_room(results, config, hasher=PasswordHasher(1, 8, 1), in_process=True, **more)
    rooms = Rooms(room)
    try:
        yield rooms
    finally:
        rooms.close()


assert EXAM.date  # studies have a day, so that earlier exams can be told apart

"""Who may do what: every route × role × own or foreign object, and what stands before all of them."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

import httpx
from report_examples import PATIENT, key_of
from room_factory import PASSWORD, ROLES, Rooms, graded_finding, make_room, one_report, write_studies

from lungscreen.room.config import Limits, RoomConfig
from lungscreen.room.shield import CONTENT_POLICY

KEY, OWNED = (key_of(one_report(uid)) for uid in ("1.2.3.4", "1.2.3.9"))
READERS = {"reader", "arbiter", "lead"}
PEOPLE = READERS | {"admin"}
SENDERS = {"machine", "lead", "admin"}
ANYBODY = {"", *ROLES}
SIGNED_IN = set(ROLES)

TABLE: dict[tuple[str, str], set[str]] = {
    ("POST", "/api/v1/login"): ANYBODY,
    ("GET", "/api/v1/oidc"): ANYBODY,
    ("POST", "/api/v1/logout"): SIGNED_IN,
    ("GET", "/api/v1/me"): SIGNED_IN,
    ("PUT", "/api/v1/me/settings"): SIGNED_IN,
    ("PUT", "/api/v1/me/password"): PEOPLE,
    ("GET", "/api/v1/me/sessions"): PEOPLE,
    ("DELETE", "/api/v1/me/sessions/{session}"): PEOPLE,
    ("GET", "/api/v1/programme"): SIGNED_IN,
    ("GET", "/api/v1/users"): {"admin"},
    ("POST", "/api/v1/users"): {"admin"},
    ("PATCH", "/api/v1/users/{name}"): {"admin"},
    ("GET", "/api/v1/worklist"): READERS,
    ("GET", "/api/v1/studies/{key}"): READERS,
    ("POST", "/api/v1/studies/{key}/prepare"): READERS,
    ("GET", "/api/v1/studies/{key}/lungs"): READERS,
    ("GET", "/api/v1/studies/{key}/priors"): READERS,
    ("GET", "/api/v1/studies/{key}/priors/{earlier}/alignment"): READERS,
    ("GET", "/api/v1/studies/{key}/slices/{first}/{end}"): READERS | {"machine"},
    ("GET", "/api/v1/studies/{key}/report"): READERS | {"machine"},
    ("GET", "/api/v1/studies/{key}/report.html"): READERS | {"machine"},
    ("POST", "/api/v1/studies/{key}/reads"): READERS,
    ("GET", "/api/v1/studies/{key}/arbitration"): {"arbiter", "lead"},
    ("GET", "/api/v1/reads/{number}"): READERS,
    ("PUT", "/api/v1/reads/{number}"): READERS,
    ("POST", "/api/v1/reads/{number}/marks"): READERS,
    ("GET", "/api/v1/reads/{number}/marks/{mark}"): READERS,
    ("POST", "/api/v1/reads/{number}/active"): READERS,
    ("POST", "/api/v1/reads/{number}/release"): READERS,
    ("POST", "/api/v1/reads/{number}/sign"): READERS,
    ("GET", "/api/v1/reads/{number}/cad"): READERS,
    ("POST", "/api/v1/reads/{number}/addenda"): READERS,
    ("GET", "/api/v1/reads/{number}/final.json"): READERS,
    ("GET", "/api/v1/reads/{number}/final.html"): READERS,
    ("GET", "/api/v1/reads/{number}/final.pdf"): READERS,
    ("GET", "/api/v1/reads/{number}/final-sr.dcm"): READERS,
    ("GET", "/api/v1/reads/{number}/final-seg.dcm"): READERS,
    ("POST", "/api/v1/studies"): SENDERS,
    ("GET", "/api/v1/jobs/{number}"): SENDERS,
    ("DELETE", "/api/v1/jobs/{number}"): SENDERS,
    ("GET", "/api/v1/audit"): {"admin", "lead"},
    ("GET", "/api/v1/audit/check"): {"admin", "lead"},
    ("GET", "/api/v1/monthly"): {"lead"},
    ("GET", "/livez"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/metrics"): ANYBODY,
}
"""Whom a route answers. A route that is not here fails the test."""

HIDDEN = {
    ("GET", "/"),
    ("GET", "/favicon.ico"),
    ("GET", "/openapi.json"),
    ("GET", "/oidc/login"),
    ("GET", "/oidc/callback"),
}
"""Pages, which hold no data."""


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """A room with two studies; nothing here signs a read. The second one is only read by `owner`."""
    folder = write_studies(
        tmp_path_factory.mktemp("results"), one_report("1.2.3.4", graded_finding()), one_report("1.2.3.9")
    )
    config = RoomConfig(limits=Limits(wrong_passwords=100))
    with make_room(folder, config) as found:
        yield found


def body_for(method: str, path: str) -> dict[str, Any]:
    """A body that fits, so that only the role can be what is wrong."""
    bodies: dict[str, Any] = {
        "/login": {"name": "nobody", "password": "a wrong one of length"},
        "/settings": {},
        "/password": {"password": "a wrong one of length", "new": "another one of length"},
        "/users": {"name": "new", "role": "nothing"},
        "{name}": {},
        "/marks": {"position_mm": [0, 0, 0]},
        "/active": {"active_s": 0},
        "/sign": {"password": "x"},
        "/addenda": {"text": "x"},
    }
    found = next((body for end, body in bodies.items() if path.endswith(end)), None)
    if method == "PUT" and found is None:
        found = {}
    return {} if method == "GET" or found is None else {"json": found}


@pytest.mark.parametrize("role", ["", *ROLES])
def test_every_route_answers_the_roles_of_the_table_and_nobody_else(rooms: Rooms, role: str) -> None:
    paths = rooms.client().get("/openapi.json").json()["paths"]
    there = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert there == set(TABLE), "a route without its row, or a row without its route"
    for method, path in sorted(there - {("POST", "/api/v1/logout")}):
        client = rooms.client(f"the-{role}" if role else "", role)
        real = path.format(
            key=KEY, number="0" * 32, first=0, end=16, earlier=KEY, name="nobody", mark="m1", session="0" * 16
        )
        if path == "/api/v1/monthly":
            real += "?month=2026-11"
        answer = client.request(method, real, **body_for(method, path))
        code = answer.json().get("code") if "json" in answer.headers.get("content-type", "") else ""
        if role in TABLE[method, path]:
            assert code not in ("not-signed-in", "not-allowed"), f"{role} {method} {path}: {code}"
        else:
            assert code == ("not-allowed" if role else "not-signed-in"), f"{role} {method} {path}: {answer.text[:200]}"


def test_routes_outside_the_openapi_are_the_pages(rooms: Rooms) -> None:
    app = rooms.app._app
    hidden = {
        (method, route.path)
        for route in app.routes
        if getattr(route, "methods", None) and not getattr(route, "include_in_schema", True)
        for method in route.methods - {"HEAD"}
    }
    assert hidden <= HIDDEN


@pytest.mark.parametrize(("method", "end"), [(m, p) for m, p in TABLE if "/reads/{number}" in p])
def test_a_read_of_somebody_else_is_not_there(rooms: Rooms, method: str, end: str) -> None:
    """Own: another answer than 404. Foreign: 404, as for a read that does not exist."""
    owner, other = rooms.client("owner"), rooms.client("other")
    read = owner.open(OWNED)
    headers = {"If-Match": '"1"'}
    if not read["content"]["marks"]:
        owner.mark(read)
    real = end.format(number=read["id"], mark="m1")
    foreign = other.request(method, real, headers=headers, **body_for(method, end))
    missing = other.request(method, end.format(number="1" * 32, mark="m1"), headers=headers, **body_for(method, end))
    assert (foreign.status_code, foreign.content) == (404, missing.content)
    if method == "GET":
        assert owner.request(method, real).status_code != 404


# -- sessions and passwords ------------------------------------------------------------------------------------------
def test_a_session_ends_with_logout_with_idling_and_with_its_age(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie that was copied before is worth nothing afterwards."""
    reader = rooms.client("sessions")
    cookie = reader.cookies["room"]
    with_cookie = {"Cookie": f"room={cookie}"}
    assert rooms.client().get("/api/v1/me", headers=with_cookie).status_code == 200
    assert rooms.client("sessions").cookies["room"] != cookie
    assert reader.post("/api/v1/logout").status_code == 204
    assert rooms.client().get("/api/v1/me", headers=with_cookie).status_code == 401
    start, limits = time.time(), rooms.room.config.limits
    late = {"Cookie": f"room={rooms.client('sessions').cookies['room']}"}
    monkeypatch.setattr(time, "time", lambda: start + limits.idle_s + 60)
    assert rooms.client().get("/api/v1/me", headers=late).status_code == 401
    old = {"Cookie": f"room={rooms.client('sessions').cookies['room']}"}
    begun = time.time()
    for step in range(1, int(limits.session_s / limits.idle_s) + 10):
        now = begun + step * limits.idle_s * 0.9
        monkeypatch.setattr(time, "time", lambda now=now: now)
        status = rooms.client().get("/api/v1/me", headers=old).status_code
        assert status == (200 if now - begun <= limits.session_s else 401)
    assert status == 401


def test_cookies_are_guarded(tmp_path: Path) -> None:
    """On https the name has the prefix that browsers guard; nowhere can a script read it."""
    for secure, name in ((True, "__Host-room"), (False, "room")):
        with make_room(write_studies(tmp_path / name, one_report("1.2.3.4")), secure=secure) as rooms:
            rooms.add("anna", "reader")
            answer = rooms.client().post("/api/v1/login", json={"name": "anna", "password": PASSWORD})
        words = {word.strip().lower() for word in answer.headers["set-cookie"].split(";")[1:]}
        assert answer.headers["set-cookie"].startswith(f"{name}=")
        assert {"httponly", "samesite=strict", "path=/"} <= words
        assert ("secure" in words) == secure == ("strict-transport-security" in answer.headers)


def test_ten_wrong_passwords_close_the_account_for_a_while(tmp_path: Path) -> None:
    """The right one does not help then, an unknown name behaves alike, and Retry-After says how long."""
    with make_room(write_studies(tmp_path, one_report("1.2.3.4"))) as rooms:
        rooms.add("anna", "reader")
        guesses = [
            rooms.client().post("/api/v1/login", json={"name": "anna", "password": f"wrong password {n}"})
            for n in range(10)
        ]
        assert {answer.status_code for answer in guesses} == {401}
        answer = rooms.client().post("/api/v1/login", json={"name": "anna", "password": PASSWORD})
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) > 600
        unknown = rooms.client().post("/api/v1/login", json={"name": "nobody", "password": PASSWORD})
        assert unknown.status_code == 429, "the address counts too"


def test_unknown_and_known_names_are_told_alike(rooms: Rooms) -> None:
    rooms.add("known", "reader")
    answers = [
        rooms.client().post("/api/v1/login", json={"name": name, "password": "a wrong one of length"})
        for name in ("known", "unknown")
    ]
    assert answers[0].content == answers[1].content
    assert answers[0].status_code == 401


def test_a_new_password_ends_the_other_sessions(tmp_path: Path) -> None:
    """The old one no longer gets in; a wrong or a short one changes nothing."""
    with make_room(write_studies(tmp_path, one_report("1.2.3.4"))) as rooms:
        here, elsewhere = rooms.client("anna"), rooms.client("anna")
        other = "another horse battery staple"

        def change(password: str, new: str) -> tuple[int, str]:
            answer = here.put("/api/v1/me/password", json={"password": password, "new": new})
            return answer.status_code, answer.json()["code"] if answer.content else ""

        assert change("not the password", other) == (401, "password-wrong")
        assert change(PASSWORD, "short") == (422, "body-invalid")
        assert elsewhere.get("/api/v1/me").status_code == 200
        assert change(PASSWORD, other) == (204, "")
        assert [client.get("/api/v1/me").status_code for client in (here, elsewhere)] == [200, 401]
        tries = [
            rooms.client().post("/api/v1/login", json={"name": "anna", "password": password}).status_code
            for password in (PASSWORD, other)
        ]
        assert tries == [401, 200]
        trail = rooms.client("ada", "admin").get("/api/v1/audit").json()["rows"]
        assert [(row["who"], row["object"]) for row in trail if row["what"] == "password-changed"] == [("anna", "anna")]
        assert other not in str(trail)


def test_one_ends_ones_own_sessions_only(tmp_path: Path) -> None:
    """A list without tokens; the session of somebody else is not there."""
    with make_room(write_studies(tmp_path, one_report("1.2.3.4"))) as rooms:
        here, lost, ben = rooms.client("anna"), rooms.client("anna"), rooms.client("ben")
        listed = here.get("/api/v1/me/sessions").json()["sessions"]
        assert [row["own"] for row in listed].count(True) == 1
        assert len(listed) == 2
        assert lost.cookies["room"] not in str(listed)
        (number,) = [row["id"] for row in listed if not row["own"]]
        assert ben.request("DELETE", f"/api/v1/me/sessions/{number}").status_code == 404
        assert lost.get("/api/v1/me").status_code == 200
        assert here.request("DELETE", f"/api/v1/me/sessions/{number}").status_code == 204
        assert lost.get("/api/v1/me").status_code == 401
        assert here.request("DELETE", f"/api/v1/me/sessions/{number}").status_code == 404


@pytest.mark.parametrize("change", [{"role": "lead"}, {"active": False}])
def test_the_last_administrator_stays(tmp_path: Path, change: dict[str, Any]) -> None:
    """Nobody could make accounts any more; with a second one the first may go."""
    with make_room(write_studies(tmp_path, one_report("1.2.3.4"))) as rooms:
        ada = rooms.client("ada", "admin")
        answer = ada.request("PATCH", "/api/v1/users/ada", json=change)
        assert (answer.status_code, answer.json()["code"]) == (409, "last-admin")
        assert ada.get("/api/v1/me").json()["role"] == "admin", "nothing changed, the session neither"
        rooms.add("alan", "admin")
        assert ada.request("PATCH", "/api/v1/users/ada", json=change).status_code == 200


def test_the_trail_is_checked_on_request(rooms: Rooms) -> None:
    admin = rooms.client("checker", "admin")
    told = admin.get("/api/v1/audit/check").json()
    assert told["faults"] == []
    assert told["rows"] >= len(admin.get("/api/v1/audit").json()["rows"]) - 1 > 0


@pytest.mark.parametrize("month", ["0000-01", "9999-12", "2026-13", "2026-1"])
def test_a_month_that_no_calendar_has_is_refused(rooms: Rooms, month: str) -> None:
    answer = rooms.client("months", "lead").get(f"/api/v1/monthly?month={month}")
    assert (answer.status_code, answer.json()["code"]) == (422, "body-invalid")


# -- before every route ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "foreign-origin"),
        ({"Sec-Fetch-Site": "same-site"}, "foreign-origin"),
        ({"Sec-Fetch-Site": "none"}, "foreign-origin"),
        ({"Origin": "http://evil.test"}, "foreign-origin"),
        ({"Origin": "null"}, "foreign-origin"),
        ({}, "foreign-origin"),
        ({"Sec-Fetch-Site": "same-origin", "Content-Type": "text/plain"}, "body-kind"),
        ({"Sec-Fetch-Site": "same-origin", "Content-Type": "application/x-www-form-urlencoded"}, "body-kind"),
        ({"Origin": "http://room.test"}, None),
    ],
)
def test_a_foreign_page_changes_nothing(rooms: Rooms, headers: dict[str, str], code: str | None) -> None:
    rooms.client("csrf")
    transport = httpx.ASGITransport(rooms.app, raise_app_exceptions=False)
    with_kind = {"Content-Type": "application/json", **headers}

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, base_url="http://room.test") as client:
            body = f'{{"name": "csrf", "password": "{PASSWORD}"}}'
            return await client.post("/api/v1/login", content=body, headers=with_kind)

    answer = rooms.runner.run(ask())
    assert answer.json().get("code") == code


def test_every_answer_carries_the_policy(rooms: Rooms) -> None:
    """Errors and pages too; a report's own page is in a sandbox."""
    reader = rooms.client("headers")
    for path in ("/", "/api/v1/me", "/nothing", f"/api/v1/studies/{KEY}/report.html", "/livez", "/openapi.json"):
        answer = reader.get(path)
        assert answer.headers["content-security-policy"] == CONTENT_POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
    machine = rooms.client("headers-machine", "machine")
    page = machine.get(f"/api/v1/studies/{KEY}/report.html")
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("sandbox;")


def test_an_address_says_which_methods_it_answers(rooms: Rooms) -> None:
    """All of them, where several routes share it."""
    reader = rooms.client("methods")
    for path, allowed in (("/api/v1/users", "GET, POST"), (f"/api/v1/reads/{'0' * 32}", "GET, PUT"), ("/livez", "GET")):
        answer = reader.request("DELETE", path)
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("declared", [True, False])
def test_a_large_body_is_refused_whatever_it_declares(rooms: Rooms, declared: bool) -> None:
    reader = rooms.client("large")
    content = b"[" + b" " * (2 * 1024 * 1024) + b"]"

    async def chunks() -> Any:
        for start in range(0, len(content), 65536):
            yield content[start : start + 65536]

    headers = {"Content-Type": "application/json"}
    answer = reader.put("/api/v1/me/settings", content=content if declared else chunks(), headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (413, "body-too-large")


@pytest.mark.parametrize(
    "name", ["../room.sqlite", "..%2froom.sqlite", "%2e%2e/%2e%2e/room.sqlite", "0123456789ab/../x"]
)
def test_no_address_leads_out_of_a_folder(rooms: Rooms, name: str) -> None:
    reader = rooms.client("paths")
    for path in (f"/api/v1/studies/{name}", f"/api/v1/studies/{name}/report", f"/static/{name}"):
        answer = reader.get(path)
        assert answer.status_code == 404
        assert b"SQLite" not in answer.content


def test_logs_name_no_patient(rooms: Rooms, caplog: pytest.LogCaptureFixture) -> None:
    """A whole read, a failing route and a wrong body leave neither name, ID nor UID in a log."""
    log = logging.getLogger("lungscreen")
    log.propagate = True
    with caplog.at_level(logging.DEBUG):
        reader = rooms.client("logs")
        reader.get(f"/api/v1/worklist?q={PATIENT.patient_id}")
        reader.get(f"/api/v1/studies/{KEY}")
        reader.put("/api/v1/reads/" + "0" * 32, json={"exam": {"text": PATIENT.name}, "more": PATIENT.patient_id})
    text = io.StringIO()
    text.writelines(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if record.name == "lungscreen"
    )
    assert PATIENT.patient_id not in text.getvalue()
    assert "Doe" not in text.getvalue()
    assert "1.2.3.4" not in text.getvalue()

"""CAD keeps quiet: whoever has not signed their own first read learns nothing of it, on no route."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

from report_examples import PATIENT, key_of
from room_factory import OWN_PLACE, Client, Rooms, graded_finding, make_room, one_report, write_studies

from lungscreen.errors import Notice
from lungscreen.records import PriorExam, Report
from lungscreen.room.app import STATIC
from lungscreen.room.config import RoomConfig

UIDS = ("1.2.3.4", "1.2.3.5", "1.2.3.6")
KEYS = [key_of(one_report(uid)) for uid in UIDS]

NOW = 1_800_000_000.0


@pytest.fixture
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """One time and one row of random numbers for all rooms of a test: what differs then comes from the results."""
    monkeypatch.setattr(time, "time", lambda: NOW)


def crawl(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int, list[tuple[str, str]], bytes]]:
    """Every route of the OpenAPI and every page, as a reader who has opened the first study and signed nothing."""
    numbers = itertools.count(1)
    monkeypatch.setattr(secrets, "token_hex", lambda n=16: f"{next(numbers):0{2 * n}x}")
    monkeypatch.setattr(secrets, "token_urlsafe", lambda _=32: f"token-{next(numbers)}")
    reader = rooms.client("anna")
    yield from told(reader, "POST", f"/api/v1/studies/{KEYS[0]}/reads")
    read = reader.open(KEYS[0])
    for method, path in sorted(places(rooms)):
        for key in KEYS[:2] if "{key}" in path else KEYS[:1]:
            real = path.format(
                key=key, number=read["id"], first=0, end=16, earlier=KEYS[1], name="anna", mark="m1", session="0" * 16
            )
            if real.endswith("/logout"):
                continue
            yield from told(reader, method, real, **body_of(method, path, read))
            read = reader.measured(read["id"])
    for name in sorted(p.relative_to(STATIC).as_posix() for p in STATIC.rglob("*") if p.is_file()):
        yield from told(reader, "GET", f"/static/{name}")
    for page in ("/", "/openapi.json", "/favicon.ico", "/nothing", "/api/v1/worklist?state=unread&q=doe&limit=1"):
        yield from told(reader, "GET", page)


def told(
    reader: Client, method: str, path: str, **more: Any
) -> Iterator[tuple[str, int, list[tuple[str, str]], bytes]]:
    answer = reader.request(method, path, **more)
    headers = sorted((k, v) for k, v in answer.headers.items() if k != "date")
    yield f"{method} {path}", answer.status_code, headers, answer.content


def places(rooms: Rooms) -> set[tuple[str, str]]:
    paths = rooms.client().get("/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods}


def body_of(method: str, path: str, read: dict[str, Any]) -> dict[str, Any]:
    """What is sent, so that a route does as much as it can."""
    headers = {"If-Match": f'"{read["version"]}"'}
    bodies: dict[str, Any] = {
        "/marks": {"position_mm": OWN_PLACE},
        "/active": {"active_s": 1.0},
        "/addenda": {"text": "late"},
        "/sign": {"password": "a wrong one of length"},
        "/login": {"name": "anna", "password": "a wrong one of length"},
        "/settings": {"keys": {}},
        "/password": {"password": "a wrong one of length", "new": "another one of length"},
    }
    if method == "PUT" and path.endswith("{number}"):
        return {"headers": headers, "json": {"exam": {"text": "seen"}, "marks": read["content"]["marks"]}}
    found = next((body for end, body in bodies.items() if path.endswith(end)), None)
    return {"headers": headers} if found is None else {"headers": headers, "json": found}


def test_a_study_with_cad_and_one_without_answer_byte_for_byte_alike(
    tmp_path: Path, no_chance: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status, headers but Date, and body, on every route and page, the worklist's order included."""
    last = UIDS[KEYS.index(max(KEYS))]  # by arrival it comes last, by suspicion first
    seen = {uid: (graded_finding(),) for uid in (UIDS[0], last)}
    with_cad = [noted(one_report(uid, *seen.get(uid, ()))) for uid in UIDS]
    without = [one_report(uid) for uid in UIDS]
    answers = []
    for name, reports in (("with", with_cad), ("without", without)):
        with make_room(write_studies(tmp_path / name, followed(reports[0]), *reports[1:])) as rooms:
            answers.append(list(crawl(rooms, monkeypatch)))
    assert len(answers[0]) > 40
    statuses = {status for _, status, _, _ in answers[0]}
    assert {200, 201, 204, 401, 403, 404, 409} <= statuses, "the crawl reaches too little"
    assert 500 not in statuses
    for one, other in zip(*answers, strict=True):
        assert one == other, f"{one[0]} tells of CAD"


def followed(report: Report) -> Report:
    """The report with an earlier exam: the second study, of which CAD said more in its own report."""
    return replace(report, priors=(PriorExam("20250210", UIDS[1], "images", overlap=0.9),))


def noted(report: Report) -> Report:
    """The report with notices that only findings give."""
    said = (Notice("findings-cut-off", "3 more findings."), Notice("no-nodule-marks", "2 marks."))
    return replace(report, notices=(*report.notices, *said), cut_off=3)


def test_no_answer_to_an_unsigned_reader_holds_what_cad_said(
    tmp_path: Path, no_chance: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Coordinates, category, score and probability of the marks are looked for in bodies and headers."""
    finding = graded_finding()
    reports = [one_report(uid, finding) for uid in UIDS]
    folder = write_studies(tmp_path, followed(reports[0]), *reports[1:])
    said = [f"{c:.2f}".rstrip("0") for c in finding.candidate.centre_mm] + ["0.87654", "0.6789", "4B", "841.3"]
    with make_room(folder) as rooms:
        for place, _, headers, body in crawl(rooms, monkeypatch):
            if "/slices/" in place or place.endswith((".js", ".css", "/openapi.json")) or "/marks" in place:
                continue  # pixels, and files that are the same for every study
            text = body + repr(headers).encode()
            found = [word for word in said if word.encode() in text and not _own(word, body)]
            assert not found, f"{place} holds {found}"


def _own(word: str, body: bytes) -> bool:
    """What the reader's own mark may say: it was measured for them, where they clicked."""
    return b'"m1"' in body and word != "0.87654"


def test_the_gate_opens_with_the_readers_own_signature_only(tmp_path: Path) -> None:
    """Anna's signature opens CAD to Anna; to Ben, who has signed nothing, it stays shut on every route that has it."""
    folder = write_studies(tmp_path, one_report(UIDS[0], graded_finding()), one_report(UIDS[1], graded_finding()))
    with make_room(folder) as rooms:
        anna, ben = rooms.client("anna"), rooms.client("ben")
        read = anna.open(KEYS[0])
        assert anna.cad(read).json()["code"] == "first-read-unsigned"
        read = anna.save(read).json()
        assert anna.sign(read, "a wrong one of length").json()["code"] == "password-wrong"
        read = anna.sign(read).json()
        assert read["state"] == "signed-first"
        assert anna.get(f"/api/v1/studies/{KEYS[0]}/report").json()["code"] == "first-read-unsigned"
        assert [f["number"] for f in anna.cad(read).json()["findings"]] == [1]
        assert anna.get(f"/api/v1/studies/{KEYS[0]}/report").json()["category"] == "4B"
        rows = {row["study"]: row["cad"] for row in anna.get("/api/v1/worklist").json()["rows"]}
        assert rows[KEYS[0]]["category"] == "4B"
        assert rows[KEYS[1]] is None
        assert ben.cad(read).status_code == 404
        for path in ("report", "report.html"):
            assert ben.get(f"/api/v1/studies/{KEYS[0]}/{path}").json()["code"] == "first-read-unsigned"
        assert {row["study"]: row["cad"] for row in ben.get("/api/v1/worklist").json()["rows"]}[KEYS[0]] is None


def test_after_the_signature_the_first_read_stays_as_it_was(tmp_path: Path) -> None:
    """Marks of the signed first read can neither go nor change; decisions and later marks can."""
    with make_room(write_studies(tmp_path, one_report(UIDS[0], graded_finding()))) as rooms:
        anna = rooms.client("anna")
        read = anna.open(KEYS[0])
        read = anna.mark(read)
        (mark,) = read["content"]["marks"]
        assert mark["measured"]["mean_diameter_mm"] == pytest.approx(12, abs=2.5)
        read = anna.save(read, marks=[mark]).json()
        assert read["computed"]["findings"][0]["category"] in ("3", "4A", "4B")
        assert anna.save({**read, "version": read["version"] - 1}, marks=[mark]).status_code == 412
        decided = [{"finding": 1, "verdict": "accept"}]
        assert anna.save(read, marks=[mark], decisions=decided).json()["code"] == "first-read-unsigned"
        read = anna.sign(read).json()
        anna.cad(read)
        assert anna.save(read, marks=[]).json()["code"] == "read-signed"
        other = {**mark, "words": {"type": "calcified"}}
        assert anna.save(read, marks=[other]).json()["code"] == "read-signed"
        assert anna.sign(read).json()["missing"] == ["a decision on finding 1"]
        read = anna.save(read, marks=[mark], decisions=decided).json()
        # one nodule that both have is counted once, and the reader's own word stands
        assert [row["source"] for row in read["computed"]["findings"]] == ["reader"]
        final = anna.sign(read).json()
        assert final["state"] == "final"
        assert len(final["sha256"]["final"]) == 64
        assert anna.save(final, marks=[mark]).json()["code"] == "read-signed"


@pytest.mark.parametrize(("mode", "ranked"), [("second-reader", "arrival"), ("triage", "suspicion")])
def test_the_worklist_is_ordered_by_what_may_be_known(tmp_path: Path, mode: Any, ranked: str) -> None:
    """A study with a 4B comes first in triage, and by its key in second-reader mode: all arrived at once."""
    for suspicious in UIDS:
        folder = tmp_path / suspicious
        write_studies(folder, *(one_report(uid, *([graded_finding()] if uid == suspicious else [])) for uid in UIDS))
        with make_room(folder, RoomConfig(mode=mode)) as rooms:
            answer = rooms.client("anna").get("/api/v1/worklist").json()
        assert answer["ranked_by"] == ranked
        order = [row["study"] for row in answer["rows"]]
        if ranked == "arrival":
            assert order == sorted(KEYS)
        else:
            assert order[0] == KEYS[UIDS.index(suspicious)]
        assert PATIENT.patient_id in {row["patient_id"] for row in answer["rows"]}

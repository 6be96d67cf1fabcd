"""A worklist of 5,000 studies: whole, in order, and quick, with the reads of fifty people in it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

from room_factory import Client, Rooms, graded_finding, make_room, one_report, write_studies
from sqlalchemy import event, select

from lungscreen.files import LEDGER_FILE
from lungscreen.room import studies, tables

STUDIES, PEOPLE, READS = 5000, 50, 2500
FINAL = {f"{n:012x}" for n in range(1, READS + 1) if n % 3 == 0}


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rooms]:
    """One study as screening wrote it, and 4,999 rows like its own. Every second study has a read."""
    with make_room(write_studies(tmp_path_factory.mktemp("results"), one_report("1.2.3.4", graded_finding()))) as made:
        fill(made)
        yield made


def fill(rooms: Rooms) -> None:
    """The rows, as a sync and fifty readers would have made them."""
    for n in range(PEOPLE):
        rooms.add(f"reader-{n}", "reader")
    with rooms.room.store.write() as connection:
        like = dict(connection.execute(select(tables.studies)).one()._mapping)
        ids = {row.name: row.id for row in connection.execute(select(tables.users))}
        connection.execute(tables.studies.insert(), [study_row(like, n) for n in range(1, STUDIES)])
        reads = [read_row(n, ids[f"reader-{n % PEOPLE}"]) for n in range(1, READS + 1)]
        connection.execute(tables.reads.insert(), reads)


def study_row(like: dict[str, Any], n: int) -> dict[str, Any]:
    """Every fiftieth is urgent; of three that were read one is final."""
    facts = {"patient_id": f"P-{n}", "search": f"p-{n}\ndoe^john", "arrived": float(n), "urgent": n % 50 == 0}
    return {**like, **facts, "key": f"{n:012x}", "state": "final" if f"{n:012x}" in FINAL else "unread"}


def read_row(n: int, reader: int) -> dict[str, Any]:
    """Of study `n`."""
    state = "final" if f"{n:012x}" in FINAL else "reading"
    words = {"kind": "single", "mode": "second-reader", "content": "{}", "pins": '{"pin": "x"}', "opened": 1.0}
    return {"id": f"{n:032x}", "study": f"{n:012x}", "reader": reader, "state": state, "lease_until": 2e9, **words}


@contextmanager
def counted(rooms: Rooms) -> Iterator[list[str]]:
    """What is asked of the database."""
    asked: list[str] = []
    engine = rooms.room.store._engine

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", note)


def whole_list(client: Client) -> list[dict[str, Any]]:
    """All pages of 500, one after the other."""
    pages = [client.get(f"/api/v1/worklist?limit=500&offset={n}").json() for n in range(0, STUDIES, 500)]
    assert {page["total"] for page in pages} == {STUDIES}
    return [row for page in pages for row in page["rows"]]


def test_every_study_is_on_one_page_urgent_and_early_ones_first(rooms: Rooms) -> None:
    rows = whole_list(rooms.client("reader-7"))
    assert len({row["study"] for row in rows}) == STUDIES
    assert [(not row["urgent"], row["arrived"]) for row in rows] == sorted(
        (not r["urgent"], r["arrived"]) for r in rows
    )
    states = {row["study"]: row["state"] for row in rows}
    assert states[f"{57:012x}"] == "final"
    assert states[f"{1:012x}"] == states[f"{107:012x}"] == "reading"
    assert states[f"{4001:012x}"] == "unread"


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("", STUDIES),
        ("offset=4900", STUDIES),
        ("limit=500", STUDIES),
        ("q=p-4999", 1),
        ("q=DOE", STUDIES),
        ("state=final", len(FINAL)),
        ("mine=true", READS // PEOPLE),
        ("state=reading", sum(n % PEOPLE == 7 and f"{n:012x}" not in FINAL for n in range(1, READS + 1))),
    ],
)
def test_a_page_takes_a_handful_of_questions_and_no_time(rooms: Rooms, query: str, total: int) -> None:
    """As many questions to the database for 500 rows as for one; a fifth of a second of processor at the most, tests'
    client included (0.01 to 0.04 s were measured).
    """
    client = rooms.client("reader-7")
    with counted(rooms) as asked:
        begun = time.process_time()
        answer = client.get(f"/api/v1/worklist?{query}").json()
        took = time.process_time() - begun
    assert answer["total"] == total
    assert len(asked) <= 8
    assert took < 0.2


def test_a_look_at_results_without_anything_new_opens_no_ledger(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every five seconds: the ledger of a large night is read where a study is new, not each time."""
    (rooms.room.folders.results / LEDGER_FILE).write_bytes(b"")
    monkeypatch.setattr(studies, "Ledger", lambda *_, **__: pytest.fail("the ledger was opened"))
    assert rooms.room.sync() == 0

"""People at work in the reading room: a real browser, the real service, real signatures."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room is not installed")
import uvicorn
from report_examples import PATIENT
from room_browser import axe_violations, open_browser, watched_page
from room_factory import OWN_PLACE, PASSWORD, Rooms, graded_finding, make_room, one_report, write_studies

from lungscreen.records import Patient
from lungscreen.room.config import DoubleReading, RoomConfig

REFUSED = (
    "status of 401",
    "status of 409",
    "status of 404",
    "status of 412",
)  # the browser says each refusal in its console


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_browser()


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The service on a free port of 127.0.0.1."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def opened_room(
    tmp_path: Path, config: RoomConfig | None = None, people: dict[str, str] | None = None
) -> Iterator[tuple[str, Any]]:
    """Two studies, one with two marks of CAD, and a listening room for them."""
    ball, other = graded_finding(), graded_finding(number=2)
    reports = (
        one_report("1.2.3", ball, other),
        one_report("1.2.4", patient=Patient("P-2", "Roe^Jane", "19500505", "F")),
    )
    results = write_studies(tmp_path / "results", *reports)
    with make_room(results, config) as rooms:
        for name, role in (people or {"anna": "reader"}).items():
            rooms.add(name, role)
        with listening(rooms.app) as url:
            yield url, rooms


def sign_in(page: Any, url: str, name: str = "anna") -> None:
    page.goto(url)
    page.wait_for_url("**/static/login.html**")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_selector("a.open", timeout=20_000)


def open_first(page: Any, patient: str = PATIENT.patient_id) -> None:
    page.locator("a.open", has_text=patient).first.click()
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=30_000)
    page.wait_for_selector("#panes[data-complete]", state="attached", timeout=30_000)


def go_to(page: Any, mm: tuple[float, ...]) -> None:
    """Crosshair to a place, by the page's own code: the address with &watch=1 shows it to the test."""
    page.evaluate("(mm) => { window.room.viewer.moveToMm(mm); window.room.viewer.pointer = null; }", list(mm))


def watch(page: Any) -> None:
    page.goto(page.url + "&watch=1")
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=30_000)
    page.wait_for_selector("#panes[data-complete]", state="attached", timeout=30_000)


def finish_exam(page: Any) -> None:
    """What every signature asks for."""
    while page.get_by_role("button", name="Seen", exact=True).count():
        page.get_by_role("button", name="Seen", exact=True).first.click()
    page.get_by_label("Images").last.select_option("good")


def sign(page: Any, password: str = PASSWORD) -> None:
    page.locator("#sign").click()
    page.get_by_label("Your password again").fill(password)
    page.locator("#dialog").get_by_role("button", name="Sign", exact=True).click()


def saved(page: Any) -> None:
    page.locator(".saved", has_text=re.compile("^Saved")).wait_for(timeout=10_000)  # not "Not saved"


def wait_for_measurements(page: Any, read: str) -> None:
    """A read is signed once its own marks are measured, which another process does."""
    states = (
        "async (read) => (await (await fetch(`/api/v1/reads/${read}`)).json()).content.marks.map(m => m.measured.state)"
    )
    for _ in range(120):
        if "waiting" not in page.evaluate(states, read):
            return
        page.wait_for_timeout(250)
    raise AssertionError("a mark was not measured within 30 s")


def test_a_second_reader_session_from_login_to_report(browser: Any, tmp_path: Path) -> None:
    """Login, worklist, own nodule, CAD asked for too early and refused, first signature, CAD, decisions, report."""
    with opened_room(tmp_path) as (url, _), watched_page(browser, url, expected=REFUSED) as page:
        sign_in(page, url)
        assert axe_violations(page) == []
        assert page.locator("#cad-head").is_hidden()
        open_first(page)
        watch(page)
        assert axe_violations(page) == []
        read = page.evaluate(
            """async () => { const key = new URLSearchParams(location.search).get('study');
            return (await (await fetch(`/api/v1/studies/${key}`)).json()).read; }"""
        )
        early = page.evaluate(
            "async (read) => { const a = await fetch(`/api/v1/reads/${read}/cad`); return [a.status, (await a.json()).code]; }",
            read,
        )
        assert early == [409, "first-read-unsigned"]

        go_to(page, OWN_PLACE)
        page.keyboard.press("Space")
        page.locator(".nodule.reader").wait_for(timeout=30_000)
        page.locator(".editor").get_by_label("Type").select_option("part-solid")
        page.locator(".editor").get_by_label("Long axis").fill("9.4")
        page.locator(".editor").get_by_label("Short axis").fill("7.1")
        page.locator(".editor").get_by_label("Note").fill("seen twice")
        page.locator(".nodule.reader", has_text="8.3 mm").wait_for(timeout=10_000)  # 9.4 and 7.1 → 8.25 → 8.3
        saved(page)

        sign(page, "not the password")
        page.locator("#dialog").get_by_role("alert").filter(has_text="assword").wait_for()
        page.get_by_label("Your password again").fill(PASSWORD)
        page.locator("#dialog").get_by_role("button", name="Sign", exact=True).click()
        page.get_by_text("Still missing").wait_for()
        page.get_by_role("button", name="Not yet").click()
        finish_exam(page)
        wait_for_measurements(page, read)
        sign(page)
        page.locator("#cad-state", has_text="CAD is shown").wait_for(timeout=10_000)
        page.locator(".nodule.cad").first.wait_for()
        assert page.locator(".nodule.cad").count() == 2
        assert page.locator(".nodule.reader").get_attribute("data-id") == "m1"
        page.locator(".nodule.cad").first.click()
        page.keyboard.press("a")
        page.locator(".nodule.cad", has_text="accept").wait_for()
        assert (
            page.locator(".nodule.cad[aria-pressed=true]").get_attribute("data-id") == "cad2"
        )  # the next one that is open
        page.keyboard.press("x")
        page.locator("#dialog").get_by_text("vessel").click()
        page.locator(".nodule.cad", has_text="reject").wait_for()
        page.keyboard.press("Control+z")
        page.locator(".nodule.cad", has_text="reject").wait_for(state="detached")
        page.keyboard.press("Control+y")
        page.locator(".nodule.cad", has_text="reject").wait_for()
        saved(page)
        assert axe_violations(page) == []
        sign(page)
        page.get_by_text("Signed. The report").wait_for(timeout=10_000)
        final = page.evaluate("async (read) => (await fetch(`/api/v1/reads/${read}/final.json`)).text()", read)
        assert "seen twice" in final
        assert {d["verdict"] for d in _find(json.loads(final), "decisions")} == {"accept", "reject"}
        page.get_by_label("Add to the signed report").fill("Discussed with the referrer.")
        page.get_by_role("button", name="Add", exact=True).click()
        page.locator("#addenda li").filter(has_text="Discussed").wait_for()
        page.get_by_role("link", name="Back to the worklist").click()
        page.locator("tr", has_text="signed").first.wait_for()


def _find(value: Any, name: str) -> Any:
    """The first value of that name, however deep."""
    if isinstance(value, dict):
        if name in value:
            return value[name]
        value = list(value.values())
    for part in value if isinstance(value, list) else []:
        if (found := _find(part, name)) is not None:
            return found
    return None


@pytest.mark.slow
def test_a_killed_tab_loses_nothing_that_was_typed(browser: Any, tmp_path: Path) -> None:
    """Two seconds after the last key the tab dies; reopened, the words stand there; the next study has none of them."""
    with opened_room(tmp_path) as (url, _):
        with watched_page(browser, url, expected=REFUSED) as page:
            sign_in(page, url)
            open_first(page)
            watch(page)
            go_to(page, OWN_PLACE)
            page.keyboard.press("Space")
            page.locator(".nodule.reader").wait_for(timeout=30_000)
            page.locator(".editor").get_by_label("Note").fill("half a sentence")
            page.get_by_label("Remarks").fill("quiet chest")
            page.wait_for_timeout(2000)
            page.context.new_cdp_session(page).send("Page.setLifecycleEventsEnabled", {"enabled": True})
        with watched_page(browser, url, expected=REFUSED) as page:
            sign_in(page, url)
            open_first(page)
            assert page.get_by_label("Remarks").input_value() == "quiet chest"
            page.locator(".nodule.reader").click()
            assert page.locator(".editor").get_by_label("Note").input_value() == "half a sentence"
            assert page.locator(".nodule.reader").count() == 1
            page.locator("#leave").click()
            page.wait_for_selector("a.open")
            open_first(page, "P-2")
            assert page.get_by_label("Remarks").input_value() == ""
            assert page.locator(".nodule").count() == 0


@pytest.mark.slow
def test_what_two_windows_say_is_asked_about(browser: Any, tmp_path: Path) -> None:
    """A read that was saved elsewhere in between is not overwritten silently."""
    with opened_room(tmp_path) as (url, _), watched_page(browser, url, expected=REFUSED) as page:
        sign_in(page, url)
        open_first(page)
        other = page.context.new_page()
        other.goto(page.url)
        other.wait_for_selector("html[data-ready=yes]", state="attached")
        other.get_by_label("Remarks").fill("from the other window")
        saved(other)
        other.wait_for_timeout(1500)
        page.get_by_label("Remarks").fill("from this one")
        page.get_by_text("This read was changed elsewhere").wait_for(timeout=10_000)
        page.get_by_role("button", name="Those on this page").click()
        saved(page)
        other.close()
        page.reload()
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        assert page.get_by_label("Remarks").input_value() == "from this one"


@pytest.mark.slow
def test_a_service_that_is_away_is_said_and_waited_for(browser: Any, tmp_path: Path) -> None:
    """Nothing typed is lost while the service cannot be reached: the page says so and saves when it is back."""
    expected = (*REFUSED, "ERR_INTERNET_DISCONNECTED", "ERR_FAILED")
    with opened_room(tmp_path) as (url, _), watched_page(browser, url, expected=expected) as page:
        sign_in(page, url)
        open_first(page)
        page.context.set_offline(True)
        page.get_by_label("Remarks").fill("typed while away")
        page.locator(".saved", has_text="Not saved").wait_for(timeout=10_000)
        page.context.set_offline(False)
        saved(page)
        page.reload()
        page.wait_for_selector("html[data-ready=yes]", state="attached")
        assert page.get_by_label("Remarks").input_value() == "typed while away"


def _read_twice(room: Any) -> None:
    """One reader accepts what CAD found, the other rejects it all."""
    rooms = Rooms(room)
    rows = rooms.client("cleo").get("/api/v1/worklist").json()["rows"]
    key = next(row["study"] for row in rows if row["patient_id"] == PATIENT.patient_id)
    rooms.client("anna").read_to_end(key)
    rooms.client("bert").read_to_end(key, "reject")
    rooms.runner.close()


@pytest.mark.slow
def test_two_reads_that_differ_go_to_arbitration(browser: Any, tmp_path: Path) -> None:
    """Double reading: two readers sign, neither learns of the other, an arbiter sees both and reads."""
    config = RoomConfig(
        mode="second-reader", double_reading=DoubleReading(active=True, tiers=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    )
    people = {"anna": "reader", "bert": "reader", "cleo": "arbiter"}
    with opened_room(tmp_path, config, people) as (url, rooms):
        with ThreadPoolExecutor(1) as elsewhere:  # Playwright has this thread's event loop
            elsewhere.submit(_read_twice, rooms.room).result()
        with watched_page(browser, url, expected=REFUSED) as page:
            sign_in(page, url, "cleo")
            page.locator("tr", has_text="arbitration").locator("a.open").click()
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            assert page.locator("#differences tr").count() >= 1
            assert page.get_by_role("region", name="First read").count() == 1
            assert axe_violations(page) == []
            page.get_by_role("link", name="Read this study").click()
            page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=30_000)
            page.locator("#sign").wait_for()


@pytest.mark.slow
def test_the_worklist_needs_no_mouse(browser: Any, tmp_path: Path) -> None:
    """Search, arrows, Enter: from the list into a study by keys alone."""
    with opened_room(tmp_path) as (url, _), watched_page(browser, url, expected=REFUSED) as page:
        sign_in(page, url)
        page.keyboard.press("/")
        page.keyboard.type("P-2")
        page.get_by_text("1 to 1 of 1").wait_for()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_url("**/static/read.html?study=*")
        page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=30_000)

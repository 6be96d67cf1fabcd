"""The pages beside reading in a real browser: the month, one's own account, the accounts, the audit trail."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the reading room is not installed")

from report_examples import key_of
from room_browser import axe_violations, open_browser, watched_page
from room_factory import PASSWORD, Rooms, graded_finding, make_room, one_report, write_studies
from test_room_pages import REFUSED, listening

pytestmark = pytest.mark.slow

PEOPLE = {"anna": "reader", "lea": "lead", "ada": "admin"}
REPORTS = [one_report(f"1.2.4.{n}", graded_finding()) for n in range(11)]
NEW = "another horse battery staple"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_browser()


@contextmanager
def opened(browser: Any, tmp_path: Path, name: str, page_name: str, reads: int = 0) -> Iterator[tuple[Any, str]]:
    """A page as somebody sees it who has just signed in. reads: studies that Anna has read to the end."""
    with make_room(write_studies(tmp_path / "results", *REPORTS[: max(1, reads)])) as rooms:
        for person, role in PEOPLE.items():
            rooms.add(person, role)
        with ThreadPoolExecutor(1) as elsewhere:  # Playwright has this thread's event loop
            elsewhere.submit(read_all, rooms, reads).result()
        with listening(rooms.app) as url, watched_page(browser, url, expected=(*REFUSED, "status of 422")) as page:
            sign_in(page, url, name, page_name)
            yield page, url


def read_all(rooms: Rooms, reads: int) -> None:
    other = Rooms(rooms.room)
    for report in REPORTS[:reads]:
        other.client("anna").read_to_end(key_of(report))
    other.runner.close()


def sign_in(page: Any, url: str, name: str, page_name: str, password: str = PASSWORD) -> None:
    """The page leads to the login and comes back."""
    page.goto(f"{url}/static/{page_name}.html")
    page.wait_for_url("**/static/login.html**")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/static/{page_name}.html")
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=20_000)


def cells(page: Any, section: str) -> list[list[str]]:
    """A section's table, row by row."""
    rows = page.get_by_role("region", name=section, exact=True).locator("tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


def test_the_month_says_what_was_read_and_what_is_too_few(browser: Any, tmp_path: Path) -> None:
    """Reads of one reader: CAD has a share with its interval; first reads and agreement say that they are few."""
    with opened(browser, tmp_path, "lea", "monthly", reads=11) as (page, _):
        page.get_by_text(f"11 final reads in {time.strftime('%Y-%m', time.gmtime())}").wait_for()
        assert cells(page, "Readers")[0][:2] == ["anna", "11"]
        cad = {row[0]: row[1] for row in cells(page, "CAD")}
        assert cad["Sensitivity against signed reads"] == "100 % (95 % interval 74 to 100) of 11"
        assert cad["Sensitivity against first reads, signed without CAD"] == "too few: fewer than 10 (0)"
        assert cad["Marks"] == "11 accepted, 0 rejected, 0 unsure"
        assert "not told" in dict(cells(page, "Agreement"))["Cohen's kappa of management"]
        groups = cells(page, "CAD's sensitivity by subgroup")
        assert [row[0] for row in groups] == ["sex", "age", "manufacturer", "kernel", "dose"]
        assert all(row[2] == "11" for row in groups)
        assert axe_violations(page) == []
        page.get_by_label("Month").fill("2020-02")
        page.get_by_text("0 final reads in 2020-02").wait_for()
        assert page.get_by_text("too few").count() == 4


def test_a_password_is_changed_and_a_session_ended(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, "anna", "account") as (page, url):
        with watched_page(browser, url, expected=REFUSED) as other:
            sign_in(other, url, "anna", "account")
            page.reload()
            page.get_by_role("button", name="End the session").click()
            page.get_by_role("button", name="End the session").wait_for(state="detached")
            other.reload()
            other.wait_for_url("**/static/login.html**")
        assert axe_violations(page) == []
        for now, new, again, words in (
            (PASSWORD, NEW, "something else", "not alike"),
            ("not the password", NEW, NEW, "password is wrong"),
            (PASSWORD, NEW, NEW, "The password is changed"),
        ):
            page.get_by_label("Password now").fill(now)
            page.get_by_label("New password, at least 12 characters").fill(new)
            page.get_by_label("New password again").fill(again)
            page.get_by_role("button", name="Change").click()
            page.get_by_text(words).wait_for(timeout=10_000)
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url("**/static/login.html**")
        sign_in(page, url, "anna", "account", NEW)


def test_accounts_are_made_changed_and_closed(browser: Any, tmp_path: Path) -> None:
    with opened(browser, tmp_path, "ada", "users") as (page, url):
        assert page.locator("tbody tr").count() == 3
        assert axe_violations(page) == []
        page.get_by_label("Name", exact=True).fill("ben")
        page.get_by_label("First password").fill("short")
        page.get_by_role("button", name="Make").click()
        page.get_by_role("alert").filter(has_text="at least 12").wait_for()
        page.get_by_label("First password").fill(PASSWORD)
        page.get_by_role("button", name="Make").click()
        page.get_by_text("ben is made.").wait_for()
        page.get_by_label("Role of ben").select_option("arbiter")
        page.get_by_text("ben: is arbiter now.").wait_for()
        page.get_by_label("Account of ben is open").click()
        page.get_by_text("ben: is closed.").wait_for()
        page.get_by_label("Name", exact=True).fill("pacs")
        page.locator("#new").get_by_label("Role").select_option("machine")
        page.get_by_role("button", name="Make").click()
        said = page.get_by_text("Its token, shown this once").inner_text()
        token = said.rpartition(" ")[2]
        answer = page.request.get(f"{url}/api/v1/me", headers={"Authorization": f"Bearer {token}", "Cookie": ""})
        assert answer.json()["name"] == "pacs"
        page.get_by_label("Role of ada").select_option("reader")
        page.get_by_role("alert").filter(has_text="last open account").wait_for()
        assert page.get_by_label("Role of ada").input_value() == "admin"


@pytest.mark.parametrize("name", ["ada", "lea"])
def test_the_trail_is_shown_and_checked(browser: Any, tmp_path: Path, name: str) -> None:
    with opened(browser, tmp_path, name, "audit", reads=1) as (page, _):
        what = page.locator("tbody tr td:nth-child(4)").all_inner_texts()
        assert what[0] == "login"
        assert {"read-opened", "signed-first", "cad-shown", "signed-final"} <= set(what)
        page.get_by_role("button", name="Check every row").click()
        page.get_by_text(f"Whole: {len(what)} rows.").wait_for()
        assert axe_violations(page) == []


@pytest.mark.parametrize(("page_name", "wrong"), [("monthly", "ada"), ("users", "lea"), ("audit", "anna")])
def test_a_page_says_that_it_is_not_for_a_role(browser: Any, tmp_path: Path, page_name: str, wrong: str) -> None:
    """And asks the service for nothing: the links above lead only to what the role may see."""
    with opened(browser, tmp_path, wrong, page_name) as (page, _):
        page.get_by_role("alert").filter(has_text="not for the role").wait_for()
        names = page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()
        assert (
            names
            == {
                "ada": ["Accounts", "Audit trail", "Your account"],
                "lea": ["Worklist", "Month", "Audit trail", "Your account"],
                "anna": ["Worklist", "Your account"],
            }[wrong]
        )

"""The earlier exam beside today's in a real browser: it follows by the product's registration, however one scrolls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the reading room is not installed")

from follow_ups import NODULE_MM, as_it_was, earlier_place, follow_up, grown
from report_examples import key_of
from room_browser import axe_violations, open_browser, watched_page
from room_factory import make_room, write_studies
from test_room_pages import REFUSED, listening, sign_in

FOUND = "() => { const { viewer } = window.room; return [viewer.scene.cursorMm, viewer.earlier.cursorMm]; }"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_browser()


@pytest.fixture(scope="module")
def opened(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Today's exam open, the earlier one beside it."""
    now, then = follow_up(grown), as_it_was()
    with make_room(write_studies(tmp_path_factory.mktemp("results"), now, then)) as rooms:
        rooms.add("anna", "reader")
        with listening(rooms.app) as url, watched_page(browser, url, expected=REFUSED) as page:
            sign_in(page, url)
            page.goto(f"{url}/static/read.html?study={key_of(now)}&watch=1")
            page.wait_for_selector("#panes[data-hanging=earlier]", state="attached", timeout=60_000)
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            yield page


def places(page: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both crosshairs, LPS mm."""
    now, then = page.evaluate(FOUND)
    return np.array(now), np.array(then)


def apart_mm(page: Any) -> float:
    """How far the earlier exam's crosshair is from where today's place truly lay."""
    now, then = places(page)
    return float(np.linalg.norm(then - earlier_place(now)))


@pytest.mark.slow
def test_the_earlier_exam_hangs_beside_and_shows_the_same_place(opened: Any) -> None:
    """Four panes, the days between said; on the nodule of today stands the nodule of then, 27 mm elsewhere."""
    assert opened.locator("#panes .pane").count() == 4
    assert opened.locator("#tools select").inner_text().strip().endswith("2025-02-10, 367 days ago")
    assert axe_violations(opened) == []
    opened.evaluate("(mm) => window.room.viewer.moveToMm(mm)", list(NODULE_MM))
    assert apart_mm(opened) < 2.0
    value = opened.evaluate(
        "() => { const { earlier } = window.room.viewer; return earlier.store.hu(earlier.cursor); }"
    )
    assert value == 400, "the nodule's own value"
    now, then = places(opened)
    assert np.linalg.norm(then - now) > 20


@pytest.mark.slow
def test_scrolling_today_or_then_moves_both(opened: Any) -> None:
    """Keys and wheel, in either exam's pane: never more than 2 mm from the truth, for 30 mm up and down."""
    opened.evaluate("(mm) => window.room.viewer.moveToMm(mm)", list(NODULE_MM))
    for pane in (0, 1):
        canvas = opened.locator(".over").nth(pane)
        canvas.focus()
        start = places(opened)[0][2]
        for key, count in (("ArrowUp", 9), ("PageDown", 2), ("ArrowUp", 10)):
            for _ in range(count):
                opened.keyboard.press(key)
                assert apart_mm(opened) < 2.0, (pane, key)
        canvas.hover()
        opened.mouse.wheel(0, 120)
        assert apart_mm(opened) < 2.0
        assert places(opened)[0][2] != start


@pytest.mark.slow
def test_unlinked_the_earlier_exam_stays_and_linked_again_it_comes(opened: Any) -> None:
    opened.evaluate("(mm) => window.room.viewer.moveToMm(mm)", list(NODULE_MM))
    opened.locator(".over").first.focus()
    before = places(opened)[1]
    opened.keyboard.press("k")
    for _ in range(5):
        opened.keyboard.press("ArrowUp")
    np.testing.assert_array_equal(places(opened)[1], before)
    opened.locator(".over").nth(1).focus()
    now = places(opened)[0]
    opened.keyboard.press("ArrowDown")
    np.testing.assert_array_equal(places(opened)[0], now)
    assert places(opened)[1][2] < before[2]
    opened.keyboard.press("k")
    assert apart_mm(opened) < 2.0


@pytest.mark.slow
def test_the_earlier_exam_can_be_put_away_and_hung_again(opened: Any) -> None:
    """Without it three planes of today and a MIP; no length or mark of one exam is drawn in the other."""
    opened.locator("#tools select").select_option("")
    opened.wait_for_selector("#panes[data-hanging=alone]", state="attached")
    assert opened.locator("#panes .pane-title").all_inner_texts()[2].startswith("Coronal")
    opened.locator("#tools select").select_option(index=1)
    opened.wait_for_selector("#panes[data-hanging=earlier]", state="attached", timeout=30_000)
    assert opened.evaluate("() => window.room.viewer.panes.map((p) => p.scene === window.room.viewer.earlier)") == [
        False, True, False, True,
    ]  # fmt: skip

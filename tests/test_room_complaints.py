"""Fifteen things for which people gave up other viewers (docs/room-validation.md): the table is kept, and what no other
test of the room looks at is looked at here, in a real browser.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the reading room is not installed")

from dicom_factory import make_series
from report_examples import tables
from room_browser import KEY, Exam, open_browser, serve_exams, watched_page
from room_factory import make_room, one_report, write_studies
from test_room_pages import REFUSED, listening, sign_in
from test_room_viewer import NOT_OURS, SHAPE, marked, open_study

from lungscreen.errors import Refusal, VolumeError
from lungscreen.geometry import Geometry
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "room-validation.md"


def test_every_complaint_names_tests_that_are_there() -> None:
    """Fifteen rows; each names at least one test function of this repository."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [int(number) for number, _, _ in rows] == list(range(1, 16))
    for _, complaint, proof in rows:
        named = re.findall(r"`(test_\w+)\.py::(test_\w+)`", proof)
        assert named, complaint
        for file, name in named:
            tree = ast.parse((TESTS / f"{file}.py").read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (file, name)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_browser()


@pytest.mark.slow
def test_canvases_stay_within_4096_pixels_on_a_large_fine_screen(browser: Any) -> None:
    """On 3840 x 2160 points of two by two pixels a pane would want more: it is drawn coarser, never black."""
    with serve_exams({KEY: Exam(marked(), Geometry.axial(SHAPE, (0.7, 0.7, 0.7)))}) as pages:
        context = browser.new_context(viewport={"width": 3840, "height": 2160}, device_scale_factor=2)
        page = context.new_page()
        open_study(page, pages)
        sizes = page.evaluate(
            """() => [...document.querySelectorAll('canvas')]
            .map((c) => [c.width, c.height, c.getBoundingClientRect().width])"""
        )
        wide, high, points = np.array(sizes).T
        assert max(wide.max(), high.max()) <= 4096
        assert points.max() * 2 > 4096, "the screen is large enough to tell"
        lit = page.evaluate(
            """() => { const { image, context } = window.room.viewer.panes[0];
            const { data } = context.getImageData(image.width >> 1, image.height >> 1, 64, 64);
            return data.some((v, n) => n % 4 < 3 && v > 30); }"""
        )
        assert lit
        at = page.evaluate(
            """() => { const { viewer } = window.room, pane = viewer.panes[0]; viewer.moveTo([18, 20, 33]);
            const [x, y] = pane.pixelOf([18, 20, 33]), box = pane.over.getBoundingClientRect();
            return [box.left + x * box.width / pane.over.width, box.top + y * box.height / pane.over.height]; }"""
        )
        page.mouse.move(*at)
        page.get_by_text(f"{marked()[18, 20, 33]} HU".replace("-", "−")).first.wait_for(timeout=5000)
        context.close()


@pytest.mark.slow
def test_a_study_with_a_gap_is_refused_with_its_code_and_cannot_be_opened(browser: Any, tmp_path: Path) -> None:
    """Twelve slices are missing in the middle: nothing is shown as if they were there, on no page and no route."""
    places = np.array([n for n in range(60) if not 20 <= n < 32]) * 1.25
    hu = np.full((len(places), 32, 32), -850, np.int16)
    make_series(tmp_path / "dicom", hu, positions_mm=np.array([[0.0, 0.0, z] for z in places]))
    with pytest.raises(VolumeError) as caught:
        build_volume(
            find_series([tmp_path / "dicom"]).studies[0].series[0], VolumeConfig(min_slices=1, min_extent_mm=0)
        )
    code = caught.value.code
    results = write_studies(tmp_path / "results", one_report("1.2.3"))
    tables(results, [Refusal("1.9.9", code, caught.value.reason, "study", "1.9.9", "P-GAP")])
    with make_room(results) as rooms:
        rooms.add("anna", "reader")
        with listening(rooms.app) as url, watched_page(browser, url, expected=REFUSED) as page:
            sign_in(page, url)
            row = page.locator("tr", has_text="P-GAP")
            assert row.locator("code", has_text=code).count() == 1
            assert row.get_by_role("link").count() == 0
            key = page.evaluate("async () => (await (await fetch('/api/v1/worklist?q=p-gap')).json()).rows[0].study")
            for path, method in (("", "GET"), ("/slices/0/16", "GET"), ("/reads", "POST"), ("/prepare", "POST")):
                status = page.evaluate(
                    "async ([path, method]) => (await fetch(path, { method })).status",
                    [f"/api/v1/studies/{key}{path}", method],
                )
                assert status == 404, path
            page.goto(f"{url}/static/read.html?study={key}")
            page.wait_for_selector("html[data-ready=failed]", state="attached")
            assert page.locator("canvas").count() == 0


@pytest.mark.slow
def test_an_exam_too_large_for_the_tab_is_said_before_anything_is_fetched(browser: Any) -> None:
    """24 GB of voxels: the page says how much it would need, and no slice is asked for."""
    with serve_exams({KEY: Exam(marked(), Geometry.axial(SHAPE, (0.7, 0.7, 0.7)))}) as pages:
        exam = pages.exams[KEY]
        whole = exam.view(KEY)
        whole["volume"]["shape"] = [3000, 2048, 2048]
        exam.view = lambda _: whole  # type: ignore[method-assign]
        with watched_page(browser, pages.url, expected=NOT_OURS) as page:
            page.goto(pages.study())
            page.get_by_text("This exam needs 24000 MB, more than the browser gives.").wait_for(timeout=10_000)
            page.locator("code", has_text="too-large").wait_for()
            page.wait_for_selector("html[data-ready=yes]", state="attached")
            assert page.locator("canvas").count() == 0
        assert not [path for path in pages.asked if "/slices/" in path]

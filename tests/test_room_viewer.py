"""The reading room's viewer in a real browser: what it shows is what the pipeline read, voxel by voxel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import AXIAL, make_series
from room_browser import KEY, Exam, Pages, axe_violations, open_browser, serve_exams, watched_page

from lungscreen.assess import mean_diameter
from lungscreen.geometry import Geometry
from lungscreen.records import Volume
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume

SHAPE = (37, 50, 60)
OTHER = "ba9876543210"
NOT_OURS = ("409",)  # the served exam is read by somebody else, and the browser says so in its console


def marked(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Different in every voxel along each axis, over most of what CT has."""
    k, j, i = np.indices(shape)
    return ((k * 97 + j * 31 + i * 7) % 2600 - 1100).clip(-1024).astype(np.int16)


def grey(hu: np.ndarray, centre: float = -600, width: float = 1500) -> np.ndarray:
    """As lungscreen/report/pictures.py makes its grey values."""
    return np.clip((hu - (centre - width / 2)) / width * 255 + 0.5, 0, 255).astype(np.uint8)


def read(folder: Path) -> Volume:
    """As the pipeline does."""
    return build_volume(find_series([folder]).studies[0].series[0], VolumeConfig(min_slices=1, min_extent_mm=0))


def plane(hu: np.ndarray, axis: int, n: int) -> np.ndarray:
    """Axial from above; coronal and sagittal with the head up."""
    cut = hu.take(n, axis=axis)
    return cut if axis == 0 else cut[::-1]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    yield from open_browser()


@pytest.fixture(scope="module")
def pages() -> Iterator[Pages]:
    with serve_exams({}) as served:
        yield served


def open_study(page: Any, pages: Pages, key: str = KEY, extra: str = "&watch=1") -> None:
    page.goto(pages.study(key, extra))
    page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=60_000)
    page.wait_for_selector("#panes[data-complete]", state="attached", timeout=60_000)


def shown(page: Any, axis: int, index: list[int], thickness: float = 0) -> np.ndarray:
    """Grey values on the canvas of a pane, at one voxel a pixel."""
    count, rows, columns, flat = page.evaluate(
        """([axis, index, thickness]) => new Promise((done) => {
            const { viewer } = window.room, pane = viewer.panes[axis ? axis + 1 : 0];
            pane.thickness = thickness;
            viewer.moveTo(index);
            pane.oneToOne();
            viewer.draw();
            requestAnimationFrame(() => requestAnimationFrame(() => {
                const [su, sv] = pane.scale, { picture: p, origin: [x, y] } = pane;
                const { data } = pane.context.getImageData(x, y, p.width, Math.round(p.height * sv));
                const grey = [];
                for (let n = 0; n < data.length; n += 4) {
                    if (data[n] !== data[n + 1] || data[n] !== data[n + 2]) throw new Error("not grey");
                    grey.push(data[n]);
                }
                done([su, Math.round(p.height * sv), p.width, grey]);
            }));
        })""",
        [axis, index, thickness],
    )
    assert count == 1
    return np.array(flat, np.uint8).reshape(rows, columns)


# -- pixel truth -----------------------------------------------------------------------------------------------------
def test_every_plane_shows_every_voxel_exactly(browser: Any, pages: Pages) -> None:
    """At one voxel a pixel the canvas equals numpy, in three planes and three windows; a neighbour slice would not."""
    hu = marked()
    pages.exams[KEY] = Exam(hu, Geometry.axial(SHAPE, (0.7, 0.7, 0.7), (-3.0, 5.0, 90.0)))
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        for press, window in (("2", (-600, 1500)), ("1", (40, 400)), ("4", (480, 2500))):
            page.keyboard.press(press)
            for axis, n in ((0, 0), (0, 36), (0, 17), (1, 0), (1, 49), (1, 23), (2, 0), (2, 59), (2, 31)):
                index = [11, 12, 13]
                index[axis] = n
                np.testing.assert_array_equal(shown(page, axis, index), grey(plane(hu, axis, n), *window))


def test_rows_of_thick_slices_are_repeated_not_blended(browser: Any, pages: Pages) -> None:
    """Slices three times as thick as pixels: every row of the coronal plane stands there three times."""
    hu = marked()
    pages.exams[KEY] = Exam(hu, Geometry.axial(SHAPE, (1.5, 0.5, 0.5)))
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        np.testing.assert_array_equal(shown(page, 1, [3, 20, 3]), grey(plane(hu, 1, 20)).repeat(3, axis=0))


POSES = {
    "head first": AXIAL,
    "feet first": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "prone": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "feet first, prone": (1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "rows to the right": (0.0, 1.0, 0.0, 1.0, 0.0, 0.0),
}


@pytest.mark.parametrize("pose", [*POSES, "tilted"])
def test_the_marker_is_where_the_patient_has_it(browser: Any, pages: Pages, tmp_path: Path, pose: str) -> None:
    """However a patient lay and slices were stored: pixels equal the volume's, and a marker that lies left, behind and
    above in the patient is on the right, below and above in the pictures.
    """
    hu = np.full((44, 40, 48), -900, np.int16)
    place = (30, 9, 40)
    hu[place] = 1200
    hu += (np.indices(hu.shape).sum(axis=0) % 5).astype(np.int16)
    orientation = POSES.get(pose, AXIAL)
    options: dict[str, Any] = {"orientation": orientation, "spacing_mm": (0.8, 0.8), "step_mm": 0.8}
    if pose == "tilted":
        angle = np.deg2rad(12.0)
        options["orientation"] = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
        normal = np.array([0.0, 0.0, 1.0])
        options["positions_mm"] = np.array([-10.0, 5.0, -100.0]) + np.arange(44)[:, None] * 0.8 * normal
    make_series(tmp_path / "dicom", hu, **options)
    volume = read(tmp_path / "dicom")
    exam = pages.exams[KEY] = Exam(volume.hu, volume.geometry, list(volume.instance_numbers))
    top = np.unravel_index(int(exam.hu.argmax()), exam.hu.shape)
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        for axis in (0, 1, 2):
            seen = shown(page, axis, [int(n) for n in top])
            if pose != "tilted":  # there slices and rows are not equally far apart
                np.testing.assert_array_equal(seen, grey(plane(exam.hu, axis, int(top[axis]))))
            row, column = np.unravel_index(int(seen.argmax()), seen.shape)
            at = page.evaluate(
                """([axis, row, column]) => { const { viewer } = window.room, pane = viewer.panes[axis ? axis + 1 : 0];
                const [x, y] = pane.origin; return pane.indexAt(x + column + 0.5, y + row + 0.5); }""",
                [axis, int(row), int(column)],
            )
            np.testing.assert_allclose(
                exam.geometry.to_mm(at), exam.geometry.to_mm(top), atol=0.8 if pose == "tilted" else 1e-6
            )
        if pose != "tilted":
            stored = np.array(_stored_place(orientation, place))
            np.testing.assert_allclose(exam.geometry.to_mm(top), stored, atol=1e-3)


def _stored_place(orientation: tuple[float, ...], place: tuple[int, int, int]) -> np.ndarray:
    """Of a stored voxel in LPS mm, by the header's definition (PS3.3 C.7.6.2.1.1)."""
    from dicom_factory import ORIGIN

    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    k, j, i = place
    return np.array(ORIGIN) + 0.8 * (i * along_row + j * along_column + k * np.cross(along_row, along_column))


def test_a_sphere_stays_round_after_gantry_tilt(browser: Any, pages: Pages, tmp_path: Path) -> None:
    """A sphere scanned with tilt is as high as it is wide in three planes, within a voxel."""
    angle = np.deg2rad(18.0)
    down = np.array([0.0, np.cos(angle), np.sin(angle)])
    steps = np.arange(60)[:, None] * np.array([0.0, 0.0, 1.0])
    k, j, i = np.indices((60, 60, 60))
    origin = np.array([-30.0, -30.0, -40.0])
    places = origin + i[..., None] * np.array([1.0, 0, 0]) + j[..., None] * down + k[..., None] * np.array([0, 0, 1.0])
    centre = places[30, 30, 30]
    hu = np.where(np.linalg.norm(places - centre, axis=-1) < 12, 100, -850).astype(np.int16)
    make_series(
        tmp_path / "tilt", hu, orientation=(1.0, 0, 0, *(float(c) for c in down)), spacing_mm=(1.0, 1.0), step_mm=float(np.cos(angle)),
        positions_mm=origin + steps,
    )  # fmt: skip
    volume = read(tmp_path / "tilt")
    pages.exams[KEY] = Exam(volume.hu, volume.geometry, list(volume.instance_numbers))
    index = [round(float(c)) for c in volume.geometry.to_index(centre)]
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        for axis in (0, 1, 2):
            bright = shown(page, axis, index) > 200
            high, wide = bright.any(axis=1).sum(), bright.any(axis=0).sum()
            assert abs(int(high) - int(wide)) <= 2
            assert abs(int(wide) - 24) <= 2


# -- slabs, numbers, overlays ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("spacing", "thickness"), [(1.25, 10), (0.7, 5), (2.5, 15), (3.0, 10)])
def test_a_slab_has_as_many_slices_as_its_thickness_needs(
    browser: Any, pages: Pages, spacing: float, thickness: int
) -> None:
    """One bright voxel a slice, each in a place of its own: ⌈thickness / spacing⌉ are seen, and go on being seen while
    scrolling.
    """
    hu = np.full((40, 44, 44), -1000, np.int16)
    hu[np.arange(40), 2, np.arange(40)] = 900
    pages.exams[KEY] = Exam(hu, Geometry.axial(hu.shape, (spacing, 0.8, 0.8)))
    wanted = int(np.ceil(thickness / spacing))
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        for k in (20, 21):
            row = shown(page, 0, [k, 2, 2], thickness)[2]
            lit = np.flatnonzero(row > 200)
            assert len(lit) == wanted
            assert lit[0] == k - (wanted - 1) // 2


def test_slices_carry_the_numbers_that_the_report_uses(browser: Any, pages: Pages) -> None:
    """The uppermost slice is number 1, the lowest the last one; the image's own number stands beside it."""
    pages.exams[KEY] = Exam(marked(), Geometry.axial(SHAPE, (2.0, 0.7, 0.7)), [200 - k for k in range(37)])
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        page.locator(".over").first.focus()
        page.keyboard.press("Home")
        page.get_by_text("Axial · slice 1 of 37 · image 164", exact=True).wait_for()
        page.keyboard.press("End")
        page.get_by_text("Axial · slice 37 of 37 · image 200", exact=True).wait_for()
        page.keyboard.press("ArrowDown")
        page.get_by_text("Axial · slice 37 of 37 · image 200", exact=True).wait_for()
        page.keyboard.press("PageUp")
        page.get_by_text("Axial · slice 27 of 37 · image 190", exact=True).wait_for()


@pytest.mark.parametrize("signs", [(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)])
def test_outlines_lie_where_their_nodule_is(browser: Any, pages: Pages, signs: tuple[int, int, int]) -> None:
    """For each flip of a grid's axes: the centroid of the drawn outline is the place in mm within half a voxel."""
    spacing = np.array([1.5, 0.8, 0.7])
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing * signs
    affine[:3, 3], affine[3, 3] = (12.0, -40.0, 300.0), 1
    geometry = Geometry(affine, SHAPE)
    pages.exams[KEY] = Exam(marked(), geometry)
    index = (17, 21, 30)
    place = geometry.to_mm(index)
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    ring = np.stack([0 * angle, 5 * np.cos(angle), 6 * np.sin(angle)], axis=1)
    outline = {
        name: {str(index[axis]): [geometry.to_mm(np.array(index) + np.roll(ring, axis, axis=1)).tolist()]}
        for axis, name in enumerate(("axial", "coronal", "sagittal"))
    }
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        found = page.evaluate(
            """([place, outline]) => new Promise((done) => {
                const { viewer } = window.room;
                viewer.scene.shapes = [{ id: "1", label: "", position_mm: place, diameter_mm: 8, outline, colour: "#f00", dashed: false, selected: false }];
                viewer.moveToMm(place);
                viewer.scene.cursor = [viewer.scene.cursor[0], viewer.scene.cursor[1], viewer.scene.cursor[2]];
                requestAnimationFrame(() => requestAnimationFrame(() => done([0, 2, 3].map((n) => {
                    const pane = viewer.panes[n], { width, height } = pane.over;
                    const { data } = pane.pen.getImageData(0, 0, width, height);
                    let left = width, right = 0, top = height, bottom = 0;
                    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
                        const at = (y * width + x) * 4;
                        if (data[at] > 200 && data[at + 1] < 60 && data[at + 3] > 200) { left = Math.min(left, x); right = Math.max(right, x); top = Math.min(top, y); bottom = Math.max(bottom, y); }
                    }
                    return pane.indexAt((left + right + 1) / 2, (top + bottom + 1) / 2);
                }))));
            })""",
            [place.tolist(), outline],
        )
        for axis, at in enumerate(found):
            assert np.abs(np.array(at) - index).max() < 0.5, (axis, at)


# -- the probe, the length tool --------------------------------------------------------------------------------------
def test_the_probe_tells_the_stored_value(browser: Any, pages: Pages) -> None:
    """HU and place come from the int16 values whatever the window, the floor of the values said."""
    hu = marked()
    hu[:, 25, 30] = -1024
    geometry = Geometry.axial(SHAPE, (2.0, 0.7, 0.7), (5.0, 6.0, 7.0))
    pages.exams[KEY] = Exam(hu, geometry)
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        for press in ("1", "4"):
            page.keyboard.press(press)
            for index in ((17, 20, 33), (17, 25, 30)):
                x, y = page.evaluate(
                    """(index) => { const { viewer } = window.room; viewer.moveTo(index); const pane = viewer.panes[0];
                    const [x, y] = pane.pixelOf(index), box = pane.over.getBoundingClientRect(); return [box.left + x, box.top + y]; }""",
                    list(index),
                )
                page.mouse.move(x, y)
                value = hu[index]
                words = "−1024 HU or below" if value <= -1024 else f"{value} HU".replace("-", "−")
                mm = ", ".join(f"{c:.1f}" for c in geometry.to_mm(index))
                page.get_by_text(f"{words} at {mm} mm (LPS)", exact=True).wait_for(timeout=5000)


def test_lengths_are_rounded_by_the_products_rule(browser: Any, pages: Pages) -> None:
    """Mean of both axes as `lungscreen.assess` has it, for halves that binary floats get wrong too."""
    rng = np.random.default_rng(5)
    pairs = [
        *np.round(rng.uniform(0.1, 80, (300, 2)), 2).tolist(),
        [6.05, 5.95],
        [8.25, 7.35],
        [1.15, 1.05],
        [6.0, 5.9],
        [0.3, 0.2],
    ]
    with watched_page(browser, pages.url, expected=("404",)) as page:  # no other sign-in is offered
        page.goto(f"{pages.url}/static/login.html")
        got = page.evaluate(
            "async (pairs) => { const { meanDiameter } = await import('/static/sizes.js'); return pairs.map(([a, b]) => meanDiameter(a, b)); }",
            pairs,
        )
    assert got == [float(mean_diameter(a, b)) for a, b in pairs]


def test_a_length_is_drawn_twice_and_said(browser: Any, pages: Pages) -> None:
    """Long axis, short axis, mean, in mm of the patient; the third line begins a new one."""
    pages.exams[KEY] = Exam(marked(), Geometry.axial(SHAPE, (2.0, 0.5, 0.8)))
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        page.keyboard.press("d")
        box = page.locator(".over").first.bounding_box()
        scale = page.evaluate("() => window.room.viewer.panes[0].scale")
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for dx, dy in ((10 * scale[0], 0), (0, 12 * scale[1])):  # 8.0 mm across, 6.0 mm down
            page.mouse.move(x, y)
            page.mouse.down()
            page.mouse.move(x + dx, y + dy, steps=3)
            page.mouse.up()
        text = page.evaluate("() => window.room.viewer.lastMeasure.text")
        long, short = page.evaluate("() => window.room.viewer.lastMeasure.lengths")
        assert (long, short) == (pytest.approx(8.0, abs=0.06), pytest.approx(6.0, abs=0.06))
        assert (
            text
            == f"{float(mean_diameter(long, long)):.1f} × {float(mean_diameter(short, short)):.1f} mm, mean {float(mean_diameter(long, short)):.1f} mm manual"
        )
        page.locator("#measure").get_by_text(text).wait_for()
        page.keyboard.press("Backspace")
        assert page.evaluate("() => window.room.viewer.measures.length") == 0


# -- world and voxel -------------------------------------------------------------------------------------------------
def test_space_is_pythons(browser: Any, pages: Pages) -> None:
    """World and voxel both ways for an oblique, anisotropic grid off the origin; and the grid of an alignment."""
    from scipy.ndimage import map_coordinates
    from scipy.spatial.transform import Rotation

    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [20, -35, 50], degrees=True).as_matrix() * [2.5, 0.7, 0.9]
    affine[:3, 3] = (-100.5, 33.25, 812.0)
    geometry = Geometry(affine, (40, 50, 60))
    rng = np.random.default_rng(2)
    index = rng.uniform(0, 40, (50, 3))
    nodes = (
        rng.normal(0, 3, (4, 5, 6, 3))
        + np.stack(np.meshgrid(*[np.arange(n) * 20.0 for n in (4, 5, 6)], indexing="ij"), -1)[..., ::-1]
    )
    table = {
        "origin_mm": [1.0, 2.0, 3.0],
        "step_mm": 20.0,
        "shape": [4, 5, 6],
        "to_earlier_mm": nodes.reshape(-1, 3).tolist(),
    }
    places = rng.uniform([1, 2, 3], [101, 82, 63], (50, 3))
    with watched_page(browser, pages.url, expected=("404",)) as page:  # no other sign-in is offered
        page.goto(f"{pages.url}/static/login.html")
        mm, back, earlier = page.evaluate(
            """async ([affine, index, table, places]) => { const g = await import('/static/geometry.js');
            const mm = index.map((each) => g.toMm(affine, each));
            return [mm, mm.map((each) => g.toIndex(affine, each)), places.map((each) => g.toEarlier(table, each))]; }""",
            [affine.tolist(), index.tolist(), table, places.tolist()],
        )
    np.testing.assert_allclose(mm, geometry.to_mm(index), atol=1e-9)
    np.testing.assert_allclose(back, index, atol=1e-9)
    at = ((places - [1, 2, 3]) / 20).T[::-1]
    expected = np.stack([map_coordinates(nodes[..., c], at, order=1) for c in range(3)], axis=1)
    np.testing.assert_allclose(earlier, expected, atol=1e-9)


# -- loading ---------------------------------------------------------------------------------------------------------
def test_the_first_image_waits_for_one_chunk(browser: Any, pages: Pages) -> None:
    """The picture stands before a second chunk is asked for; no WebGL, no isolation, plain http."""
    pages.exams[KEY] = Exam(marked((100, 50, 60)), Geometry.axial((100, 50, 60), (2.0, 0.7, 0.7)))
    pages.asked.clear()
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        assert page.evaluate("() => [crossOriginIsolated, 'SharedArrayBuffer' in self]") == [False, False]
        assert page.locator("#panes").get_attribute("data-first-chunks") == "1"
        kinds = page.evaluate("() => window.room.viewer.panes.map((p) => p.context.constructor.name)")
        assert set(kinds) == {"CanvasRenderingContext2D"}
    asked = [path for path in pages.asked if "/slices/" in path]
    assert len(asked) == 7
    assert asked[0].endswith("/96/100")  # the apex, where reading begins
    assert len(set(asked)) == 7


def test_a_thousand_slices_open_as_the_lungs_alone(browser: Any, pages: Pages) -> None:
    """Above 700 slices the lungs are loaded, that is said, and everything is a click away."""
    hu = np.full((1000, 40, 44), -900, np.int16)
    hu[:, 20, 30] = (np.arange(1000) % 1000).astype(np.int16)
    box = [[100, 600], [5, 35], [4, 40]]
    pages.exams[KEY] = Exam(hu, Geometry.axial(hu.shape, (0.7, 2.0, 2.0)), lung_box=box)
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        page.get_by_text("Only the lungs with a margin of 10 mm are loaded").wait_for()
        start = page.evaluate("() => window.room.store.start")
        assert start == [100 - 15, 0, 0]
        value, mm = page.evaluate(
            """async () => { const { toMm } = await import('/static/geometry.js'); const { store } = window.room;
            return [store.hu([300 - store.start[0], 20 - store.start[1], 30 - store.start[2]]), toMm(store.affine, [300 - store.start[0], 20 - store.start[1], 30 - store.start[2]])]; }"""
        )
        assert value == hu[300, 20, 30]
        np.testing.assert_allclose(mm, pages.exams[KEY].geometry.to_mm((300, 20, 30)))
        page.get_by_text("Load all of it").click()
        page.wait_for_selector("#panes[data-complete]", state="attached")
        page.get_by_text("of 1000").first.wait_for()
        assert page.get_by_text("Only the lungs").count() == 0


def test_missing_slices_are_said_not_shown(browser: Any, pages: Pages) -> None:
    """A chunk that does not come leaves its slices blank and a banner; nothing stands in for it."""
    hu = marked((40, 50, 60))
    pages.exams[KEY] = Exam(hu, Geometry.axial(hu.shape, (2.0, 0.7, 0.7)))
    with watched_page(browser, pages.url, expected=(*NOT_OURS, "404")) as page:
        page.route("**/slices/16/32", lambda route: route.fulfill(status=404, body="{}"))
        page.goto(pages.study())
        page.get_by_text("Some slices did not come").wait_for()
        assert page.evaluate("() => [window.room.store.hu([20, 5, 5]), window.room.store.complete]") == [None, False]
        assert page.evaluate("() => window.room.store.hu([33, 5, 5])") == hu[33, 5, 5]


@pytest.mark.slow
def test_twenty_studies_in_one_tab_take_the_memory_of_one(browser: Any, pages: Pages) -> None:
    """Heap after the twentieth study at most 1.2 times that after the first; lengths do not follow into the next."""
    shape = (96, 256, 256)
    pages.exams[KEY] = Exam(marked(shape), Geometry.axial(shape, (2.0, 0.7, 0.7)))
    pages.exams[OTHER] = Exam(marked(shape), Geometry.axial(shape, (2.5, 0.7, 0.7)))
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        session = page.context.new_cdp_session(page)
        sizes = []
        for n in range(20):
            open_study(page, pages, (KEY, OTHER)[n % 2])
            assert page.evaluate("() => window.room.viewer.measures.length") == 0
            page.evaluate("() => { const { viewer } = window.room; viewer.setMeasuring(true); }")
            session.send("HeapProfiler.collectGarbage")
            metrics = page.evaluate("() => performance.memory.usedJSHeapSize")
            sizes.append(metrics + 0)
        volume = np.prod(shape) * 2
        assert sizes[0] > volume  # the measure sees the voxels
        assert max(sizes) <= 1.2 * sizes[0], sizes


# -- keys, accessibility ---------------------------------------------------------------------------------------------
EFFECTS = {
    "ArrowDown": "() => window.room.viewer.scene.cursor[0]",
    "ArrowUp": "() => window.room.viewer.scene.cursor[0]",
    "PageDown": "() => window.room.viewer.scene.cursor[0]",
    "PageUp": "() => window.room.viewer.scene.cursor[0]",
    "Home": "() => window.room.viewer.scene.cursor[0]",
    "End": "() => window.room.viewer.scene.cursor[0]",
    "ArrowRight": "() => window.room.viewer.panes.indexOf(window.room.viewer.active)",
    "ArrowLeft": "() => window.room.viewer.panes.indexOf(window.room.viewer.active)",
    "1": "() => window.room.viewer.look.width",
    "2": "() => window.room.viewer.look.width",
    "4": "() => window.room.viewer.look.width",
    "i": "() => window.room.viewer.look.inverted",
    "+": "() => window.room.viewer.active.mmPerPixel",
    "-": "() => window.room.viewer.active.mmPerPixel",
    "=": "() => window.room.viewer.active.fitted",
    "0": "() => window.room.viewer.active.mmPerPixel",
    "m": "() => window.room.viewer.active.thickness",
    "Shift+M": "() => window.room.viewer.panes[1].thickness",
    "o": "() => window.room.viewer.look.overlay",
    "d": "() => window.room.viewer.measuring",
    "Escape": "() => window.room.viewer.measuring",
    "k": "() => window.room.viewer.linked",
    "?": "() => document.querySelector('#dialog').open",
}
PREPARE = """(key) => { const { viewer } = window.room; viewer.active = viewer.panes[0]; viewer.panes[1].thickness = 10; viewer.moveTo([18, 10, 10]);
    viewer.look.width = 1234; viewer.look.centre = 99; viewer.active.fit(); viewer.active.thickness = 0; viewer.setMeasuring(key === "Escape");
    if (key === "=") viewer.active.zoom(2); }"""


@pytest.mark.slow
def test_every_key_works_after_every_control(browser: Any, pages: Pages) -> None:
    """Each key does its work after a click on each button of the viewer: the focus never swallows it."""
    pages.exams[KEY] = Exam(marked(), Geometry.axial(SHAPE, (2.0, 0.7, 0.7)))
    with watched_page(browser, pages.url, expected=NOT_OURS) as page:
        open_study(page, pages)
        buttons = page.locator("#tools button")
        assert buttons.count() == 11
        for n in range(buttons.count()):
            for key, effect in EFFECTS.items():
                buttons.nth(n).click()
                page.evaluate(PREPARE, key)
                before = page.evaluate(effect)
                page.keyboard.press(key)
                assert page.evaluate(effect) != before, (n, key)
                page.evaluate("() => document.querySelector('#dialog').close()")


def test_keys_are_off_while_text_is_typed_and_can_be_changed(browser: Any, pages: Pages) -> None:
    """The list of keys changes one, refuses a key that is taken, and the new key works."""
    pages.exams[KEY] = Exam(marked(), Geometry.axial(SHAPE, (2.0, 0.7, 0.7)))
    with watched_page(browser, pages.url, expected=(*NOT_OURS, "501")) as page:
        open_study(page, pages)
        page.keyboard.press("?")
        page.get_by_role("button", name="invert: i").click()
        page.keyboard.press("o")
        page.get_by_text("already").wait_for()
        page.get_by_role("button", name="invert: i").click()
        page.keyboard.press("j")
        page.get_by_role("button", name="invert: j").wait_for()
        page.locator("#dialog").get_by_text("Close").click()
        page.locator("#dialog").wait_for(state="hidden")
        page.keyboard.press("j")
        assert page.evaluate("() => window.room.viewer.look.inverted") is True
        page.keyboard.press("i")
        assert page.evaluate("() => window.room.viewer.look.inverted") is True


def test_the_pages_are_accessible(browser: Any, pages: Pages) -> None:
    """axe-core finds nothing by WCAG 2.2 A and AA: viewer, list of keys, login."""
    pages.exams[KEY] = Exam(
        marked(),
        Geometry.axial(SHAPE, (2.0, 0.7, 0.7)),
        notices=[{"code": "thick-slices", "text": "Slices are thick."}],
    )
    with watched_page(browser, pages.url, expected=(*NOT_OURS, "404")) as page:
        open_study(page, pages)
        assert axe_violations(page) == []
        label = page.locator(".over").first.get_attribute("aria-label")
        assert label == "Axial · slice 1 of 37, window 1500 at -600"
        page.keyboard.press("?")
        assert axe_violations(page) == []
        page.goto(f"{pages.url}/static/login.html")
        page.wait_for_selector("html[data-ready]", state="attached")
        assert axe_violations(page) == []

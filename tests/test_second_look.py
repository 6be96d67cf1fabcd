"""The second look: what it sees, how one score comes of two answers, and how masses join the marks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lungscreen.classify import find_second_look, load_second_look
from lungscreen.classify.second_look import ScoreScale, SecondLook, cut_both_views, cut_logit
from lungscreen.classify.two_views import TwoViews, TwoViewsConfig
from lungscreen.detect import DetectConfig, detect_nodules
from lungscreen.errors import WeightsError
from lungscreen.geometry import Geometry
from lungscreen.records import Acquisition, Exam, Lungs, Patient, Series, Volume
from lungscreen.weights import add_weights


def volume_of(hu: NDArray[np.int16], geometry: Geometry) -> Volume:
    return Volume(hu, geometry, Series("image", "1.2.3", Patient(), Exam("1.2"), Acquisition()))


SMALL = TwoViewsConfig((2, 2, 2), (2, 2, 2), 16, 24, 4)
SCALE = ScoreScale((-1.0, 0.5, 2.0), (-2.0, 1.0), (0.0, 1.0), (0.5, 3.0))
NUMBERS = {"scale": {"mark": [-1, 0.5, 2], "heat": [-2, 1], "look": [0, 1], "mass": [0.5, 3]}}


class Says(SecondLook):
    """Answers what it is told, place by place, in order."""

    def __init__(self, *answers: float) -> None:
        super().__init__(TwoViews(SMALL), SCALE, "says")
        object.__setattr__(self, "answers", answers)

    def ask(
        self, hu: NDArray[np.int16], places: NDArray[np.floating]
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        answers: tuple[float, ...] = self.answers  # type: ignore[attr-defined]
        return np.array(answers[: len(places)]), np.zeros((len(places), 24, 24, 24), np.float32)


def test_both_views_have_the_place_in_their_middle() -> None:
    """A bright voxel is the middle one of the close view, and in one of the two middle ones of the wide view."""
    hu = np.full((70, 80, 90), -1000, np.int16)
    for place in ((33, 40, 51), (34, 41, 50)):
        hu[:] = -1000
        hu[place] = 400
        close, wide = cut_both_views(hu, np.array([place], float), SMALL)
        assert np.argwhere(close[0] == 1).tolist() == [[8, 8, 8]]
        assert wide.shape == (1, 24, 24, 24)
        (at,) = np.argwhere(wide[0] > 0)
        assert set(at) <= {11, 12}


def test_beyond_the_box_its_edge_goes_on() -> None:
    hu = np.full((20, 30, 40), -1000, np.int16)
    hu[0] = 400
    close, _ = cut_both_views(hu, np.array([[0.0, 15, 20]]), SMALL)
    assert (close[0, :9] == 1).all()
    assert (close[0, 9:] == 0).all()


def test_one_score_of_two_answers() -> None:
    heat, look = np.array([0.5, 0.5, 0.9]), np.array([1.0, math.nan, -3.0])
    expected = [-1 + 2.0, -2.0, -1 + 0.5 * math.log(9) - 6]
    assert SCALE.of_marks(heat, look) == pytest.approx([1 / (1 + math.exp(-x)) for x in expected])
    assert SCALE.of_masses(np.array([1.0])) == pytest.approx([1 / (1 + math.exp(-3.5))])
    assert np.isfinite(cut_logit(np.array([0.0, 1.0]))).all()


def test_marks_beyond_the_limit_keep_what_the_heatmap_says() -> None:
    marks = np.array([[5, 5, 5, 6, 0.5], [9, 9, 9, 6, 0.4]], np.float32)
    look = replace_most(Says(10.0, 10.0), 1)
    first, second = look.rate_marks(np.zeros((20, 20, 20), np.int16), marks)
    assert first > 0.99
    assert second == pytest.approx(SCALE.of_marks(np.array([0.4], np.float32), np.array([math.nan]))[0])


def replace_most(look: Says, most: int) -> Says:
    object.__setattr__(look, "most", most)
    return look


class Marks:
    """A detector that marks what it is told."""

    spacing_mm = 1.0

    def __init__(self, *rows: tuple[float, ...]) -> None:
        self.rows = np.array(rows, np.float32).reshape(-1, 5)

    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        return self.rows


SHAPE = (80, 90, 100)
GEOMETRY = Geometry(np.array([[0, 0, 1, -20], [0, 1, 0, 30], [1, 0, 0, 5], [0, 0, 0, 1.0]]), SHAPE, "frame")


def lungs_with_mass(radius: float) -> tuple[NDArray[np.int16], Lungs]:
    """A box of lung with a ball in its middle."""
    z, y, x = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    hu = np.full(SHAPE, -850, np.int16)
    hu[(z - 40) ** 2 + (y - 45) ** 2 + (x - 50) ** 2 < radius**2] = 20
    return hu, Lungs(np.ones(SHAPE, np.uint8), 1000.0, 1000.0)


def test_a_likely_mass_takes_the_marks_inside_it() -> None:
    hu, lungs = lungs_with_mass(16)
    volume = volume_of(hu, GEOMETRY)
    detector = Marks((42, 45, 55, 8, 0.3), (10, 10, 10, 6, 0.2))
    found = detect_nodules(volume, lungs, detector, DetectConfig(), Says(1.0, 0.0))
    (mass, other) = found
    assert mass.diameter_mm == pytest.approx(32, abs=3)
    assert mass.heat == pytest.approx(0.3)
    assert math.dist(mass.centre_mm, (50 - 20, 45 + 30, 40 + 5)) < 3
    assert other.heat == pytest.approx(0.2)
    assert mass.score == pytest.approx(1 / (1 + math.exp(-3.5)))


def test_an_unlikely_mass_leaves_a_likely_mark_alone() -> None:
    hu, lungs = lungs_with_mass(16)
    detector = Marks((42, 45, 55, 8, 0.9))
    doubtful = Says(-3.0)
    object.__setattr__(doubtful, "rate_marks", lambda _, marks: np.full(len(marks), 0.9))
    (mark,) = detect_nodules(volume_of(hu, GEOMETRY), lungs, detector, DetectConfig(), doubtful)
    assert mark.diameter_mm == 8
    assert mark.score == 0.9


def test_a_mass_where_nothing_is_marked_is_a_candidate_of_its_own() -> None:
    hu, lungs = lungs_with_mass(12)
    (mass,) = detect_nodules(volume_of(hu, GEOMETRY), lungs, Marks(), DetectConfig(), Says(2.0))
    assert mass.heat is None
    assert mass.score > 0.99
    assert detect_nodules(volume_of(hu, GEOMETRY), None, Marks(), DetectConfig(), Says(2.0)) == ()
    assert detect_nodules(volume_of(hu, GEOMETRY), lungs, Marks(), DetectConfig()) == ()


def test_a_mass_is_measured_by_its_outline(tmp_path: Path) -> None:
    """Middle and volume of what is drawn around the ball, not of the ball that fits into it."""
    look = Says(1.0)
    z, y, x = np.meshgrid(*(np.arange(24),) * 3, indexing="ij")
    drawn = (((z - 13) ** 2 + (y - 12) ** 2 + (x - 12) ** 2) < 36).astype(np.float32)[None]
    object.__setattr__(look, "ask", lambda *_: (np.array([1.0]), drawn))
    ((mz, my, mx, size, _),) = look.rate_masses(np.zeros(SHAPE, np.int16), np.array([[40, 40, 40, 8]], np.float32))
    start = 8  # (40 - 0.5) / 2 - 11.75
    assert (mz, my, mx) == pytest.approx(((start + 13) * 2 + 0.5, (start + 12) * 2 + 0.5, (start + 12) * 2 + 0.5))
    assert size == pytest.approx((6 * drawn.sum() * 8 / math.pi) ** (1 / 3))


def test_a_mass_that_several_balls_fit_into_is_one() -> None:
    """What is drawn around both, where the second is nearly as likely; a ball beside it stays its own."""
    z, y, x = np.meshgrid(*(np.arange(24),) * 3, indexing="ij")
    drawn = (((z - 12) ** 2 + (y - 12) ** 2 + (x - 12) ** 2) < 49).astype(np.float32)
    balls = np.array([[40, 40, 30, 8], [40, 40, 40, 8], [40, 40, 80, 8]], np.float32)
    single = (6 * drawn.sum() * 8 / math.pi) ** (1 / 3)
    for second, factor in ((2.0, 1.1), (-4.0, 1.0)):
        look, answers = Says(3.0), np.array([3.0, second, 1.0])
        object.__setattr__(look, "ask", lambda *_, a=answers: (a, np.stack([drawn] * 3)))
        found = look.rate_masses(np.zeros((80, 80, 120), np.int16), balls)
        assert len(found) == 2
        assert found[0, 3] >= single * factor - 0.01
        assert found[1, 3] == pytest.approx(single)


def written(folder: Path, **changes: object) -> SecondLook:
    torch.manual_seed(0)
    architecture = {"close": [2, 2, 2], "wide": [2, 2, 2], "close_voxels": 16, "wide_voxels": 24, "hidden": 4}
    numbers = {**NUMBERS, "operating_points": {}, "doubtful": 0.1, **changes}
    return load_second_look(
        add_weights(folder, "second_look", TwoViews(SMALL).state_dict(), "1", architecture, numbers)
    )


def test_weights_come_back_as_they_were_written(tmp_path: Path) -> None:
    look = written(tmp_path)
    assert look.network.config == SMALL
    assert look.scale == SCALE
    hu = np.random.default_rng(0).normal(-500, 300, (40, 40, 40)).astype(np.int16)
    answers, outlines = look.ask(hu, np.array([[20.0, 20, 20], [3, 3, 3]]))
    assert answers.shape == (2,)
    assert outlines.shape == (2, 24, 24, 24)
    assert outlines.min() >= 0
    assert outlines.max() <= 1
    again, _ = look.ask(hu, np.array([[3.0, 3, 3]]))
    assert again[0] == pytest.approx(answers[1], abs=0.02), "a place's answer does not hang on the others"


@pytest.mark.parametrize(
    "changes",
    [{"scale": {"mark": [1, 2], "heat": [1, 2], "look": [1, 2], "mass": [1, 2]}}, {"scale": {}}, {"scale": "none"}],
    ids=["too few", "empty", "no table"],
)
def test_weights_without_curves_are_refused(changes: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        written(tmp_path, **changes)
    assert caught.value.code == "weights-invalid"


def test_a_point_is_rated_as_a_place_of_the_volume() -> None:
    """Whatever the grid: the views around it are cut at 1 mm."""
    shipped = load_second_look(find_second_look())
    hu, _ = lungs_with_mass(4)
    volume = volume_of(hu, GEOMETRY)
    ball, lung = (30.0, 75.0, 45.0), (50.0, 95.0, 25.0)
    nodule, nothing = shipped.rate_points(volume, [ball, lung])
    assert nodule > nothing
    coarse = Geometry(
        np.array([[0, 0, 2, -19.5], [0, 2, 0, 30.5], [2, 0, 0, 5.5], [0, 0, 0, 1.0]]), (40, 45, 50), "frame"
    )
    z, y, x = (slice(0, n) for n in (80, 90, 100))
    half = hu[z, y, x].reshape(40, 2, 45, 2, 50, 2).mean((1, 3, 5)).astype(np.int16)
    again = shipped.rate_points(replace(volume, hu=half, geometry=coarse), [ball, lung])
    assert again[0] > again[1]

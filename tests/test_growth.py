"""Two exams aligned, their nodules matched, and looked for again."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from phantom_pairs import PairOfVisits, as_volume, compare_pair, make_pair
from small_chest import ORIGIN, SHAPE, SPACING, chest

from lungscreen.comparison import (
    Alignment,
    Comparison,
    ComparisonConfig,
    NodulePlace,
    align_exams,
    look_again,
    match_by_size,
    match_nodules,
)
from lungscreen.geometry import Geometry, Vector
from lungscreen.records import Acquisition, Exam, Lungs, NoduleType, Patient, Series, Volume


class Shift:
    """A transform that moves by (10, -5, 20) mm, with SimpleITK's face."""

    def TransformPoint(self, point: Any) -> Vector:
        return point[0] + 10.0, point[1] - 5.0, point[2] + 20.0


SHIFTED = Alignment(Shift(), 0.98)


def then(x: float, y: float, z: float, diameter: float | None = 8.0, **changes: Any) -> NodulePlace:
    """A nodule of the earlier exam, its place given in this exam's coordinates."""
    return replace(NodulePlace((x + 10.0, y - 5.0, z + 20.0), diameter, NoduleType.SOLID), **changes)


def now(x: float, y: float, z: float, diameter: float | None = 8.0, **changes: Any) -> NodulePlace:
    return replace(NodulePlace((x, y, z), diameter, NoduleType.SOLID), **changes)


# -- matching --------------------------------------------------------------------------------------------------------
def test_nodules_are_matched_where_the_alignment_expects_them() -> None:
    matches = match_nodules([now(0, 0, 0), now(50, 0, 0)], [then(51, 1, 0), then(0, 2, 0)], SHIFTED)
    assert [(p.current, p.earlier) for p in matches.pairs] == [(0, 1), (1, 0)]
    assert [round(p.distance_mm or 0, 3) for p in matches.pairs] == [2.0, round(math.sqrt(2), 3)]
    assert not any(p.ambiguous for p in matches.pairs)
    assert (matches.only_current, matches.only_earlier) == ((), ())


def test_what_lies_too_far_away_is_no_partner() -> None:
    matches = match_nodules([now(0, 0, 0)], [then(15.1, 0, 0)], SHIFTED)
    assert matches.pairs == ()
    assert (matches.only_current, matches.only_earlier) == ((0,), (0,))
    assert match_nodules([now(0, 0, 0)], [then(14.9, 0, 0)], SHIFTED).pairs


def test_a_mass_may_lie_half_its_diameter_away() -> None:
    """Its centre moves as it grows into one side."""
    assert match_nodules([now(0, 0, 0, 60.0)], [then(25, 0, 0, 40.0)], SHIFTED).pairs
    assert not match_nodules([now(0, 0, 0, 40.0)], [then(25, 0, 0, 40.0)], SHIFTED).pairs


def test_of_two_neighbours_neither_takes_the_others_partner() -> None:
    """Nearest first would give 1 to the left one and nothing to the right one."""
    matches = match_nodules([now(0, 0, 0), now(8, 0, 0)], [then(5, 0, 0), then(14, 0, 0)], SHIFTED)
    assert [(p.current, p.earlier) for p in matches.pairs] == [(0, 0), (1, 1)]
    assert all(p.ambiguous for p in matches.pairs)


def test_size_and_type_decide_between_two_at_one_place() -> None:
    beside = [then(4, 0, 0, 20.0), then(-4, 0, 0, 8.0)]
    (pair,) = match_nodules([now(0, 0, 0, 8.0)], beside, SHIFTED).pairs
    assert pair.earlier == 1
    beside = [then(4, 0, 0, nodule_type=NoduleType.GROUND_GLASS), then(-4, 0, 0)]
    (pair,) = match_nodules([now(0, 0, 0)], beside, SHIFTED).pairs
    assert pair.earlier == 1
    assert match_nodules([now(0, 0, 0)], [then(4, 0, 0), then(-4, 0, 0)], SHIFTED).pairs[0].ambiguous


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([now(0, 0, 0)], []), ([], [then(0, 0, 0)])])
def test_exams_without_nodules_have_no_pairs(ours: list[NodulePlace], theirs: list[NodulePlace]) -> None:
    matches = match_nodules(ours, theirs, SHIFTED)
    assert (matches.pairs, len(matches.only_current), len(matches.only_earlier)) == ((), len(ours), len(theirs))


RIGHT_UPPER = {"side": "right", "zone": "upper"}


@pytest.mark.parametrize(
    ("earlier", "paired"),
    [
        ([now(0, 0, 0, 7.0, **RIGHT_UPPER)], True),
        ([now(0, 0, 0, 7.0, side="left", zone="upper")], False),
        ([now(0, 0, 0, 7.0, side="right", zone="lower")], False),
        ([now(0, 0, 0, 7.0)], False),
        ([now(0, 0, 0, 4.0, **RIGHT_UPPER)], False),
        ([now(0, 0, 0, None, **RIGHT_UPPER)], False),
        ([now(0, 0, 0, 7.0, nodule_type=NoduleType.GROUND_GLASS, **RIGHT_UPPER)], False),
        ([now(0, 0, 0, 7.0, **RIGHT_UPPER), now(90, 0, 0, 9.0, **RIGHT_UPPER)], False),
    ],
)
def test_by_size_only_one_possible_partner_counts(earlier: list[NodulePlace], paired: bool) -> None:
    """Coordinates of two visits do not agree: side, zone, type and size are all there is."""
    matches = match_by_size([now(500, 500, 500, 8.0, **RIGHT_UPPER)], earlier)
    assert bool(matches.pairs) is paired
    assert len(matches.only_earlier) == len(earlier) - len(matches.pairs)
    assert all(pair.distance_mm is None for pair in matches.pairs)


def test_an_alignment_leads_there_and_back() -> None:
    place = (3.0, -70.0, 41.5)
    assert SHIFTED.to_earlier(place) == (13.0, -75.0, 61.5)
    assert SHIFTED.to_current(SHIFTED.to_earlier(place)) == pytest.approx(place, abs=0.02)


@pytest.mark.parametrize(
    "wrong",
    [{"coarse_mm": 0.0}, {"match_mm": -1.0}, {"least_overlap": 1.0}, {"least_contrast": 0.0}, {"most_tries": 0}],
)
def test_settings_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        ComparisonConfig(**wrong)


# -- looked for again ------------------------------------------------------------------------------------------------
def lung_with(ball_mm: Vector | None, seed: int, density: float = 0.0) -> Volume:
    """Noise of lung with a few vessels, anisotropic and off the origin, and a ball of 8 mm on request."""
    geometry = Geometry.axial((40, 60, 64), (1.5, 1.0, 0.9), (-20.0, 30.0, -50.0))
    z, y, x = np.moveaxis(geometry.to_mm(np.moveaxis(np.indices(geometry.shape), 0, -1)), -1, 0)[::-1]
    hu = np.full(geometry.shape, -850.0)
    hu[(np.hypot(x + 12, y - 55) < 1.5)] = 0.0
    hu[(np.hypot(x - 25, z + 30) < 1.2)] = 0.0
    if ball_mm is not None:
        hu[(x - ball_mm[0]) ** 2 + (y - ball_mm[1]) ** 2 + (z - ball_mm[2]) ** 2 < 16] = density
    hu += np.random.default_rng(seed).normal(0, 20, geometry.shape)
    series = Series("dicom", "1", Patient(), Exam("1"), Acquisition())
    return Volume(hu.astype(np.int16), geometry, series)


BALL: Vector = (5.0, 60.0, -20.0)


def test_a_nodule_is_seen_again_a_few_mm_off() -> None:
    shown, other = lung_with(BALL, 1), lung_with((8.0, 56.0, -17.0), 2)
    seen = look_again(shown, BALL, 8.0, other, BALL)
    assert seen is not None
    assert math.dist(seen.centre_mm, (8.0, 56.0, -17.0)) < 1.0
    assert seen.likeness > 0.9
    assert seen.contrast == pytest.approx(1.0, abs=0.1)


def test_a_nodule_that_is_not_there_is_not_seen() -> None:
    seen = look_again(lung_with(BALL, 1), BALL, 8.0, lung_with(None, 2), BALL)
    assert seen is not None
    assert seen.likeness < 0.5
    assert seen.contrast < 0.3


def test_vessels_around_a_faint_nodule_do_not_stand_for_it() -> None:
    """Much the same picture with and without it: what stands out at the nodule itself tells."""
    at = (-8.0, 57.0, -20.0)
    there = look_again(lung_with(at, 1, -650), at, 8.0, lung_with(at, 2, -650), at)
    gone = look_again(lung_with(at, 1, -650), at, 8.0, lung_with(None, 2), at)
    assert there is not None
    assert gone is not None
    assert there.contrast > 0.8
    assert gone.contrast < 0.6


def test_nothing_is_looked_for_outside_the_scan() -> None:
    assert look_again(lung_with(BALL, 1), BALL, 8.0, lung_with(BALL, 2), (5.0, 60.0, 200.0)) is None


# -- aligned ---------------------------------------------------------------------------------------------------------
def plain_exam(shift: tuple[int, int, int] = (0, 0, 0)) -> tuple[Volume, Lungs]:
    """The chest of the small fixture, moved by whole voxels."""
    hu = np.roll(chest(), shift, (0, 1, 2))
    series = Series("dicom", "1", Patient(), Exam("1"), Acquisition())
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :, : SHAPE[2] // 2] = 1
    mask[:, :, SHAPE[2] // 2 :] = 2
    mask[hu != -850] = 0
    return Volume(hu, Geometry.axial(SHAPE, SPACING, ORIGIN), series), Lungs(mask, 1.0, 1.0)


def test_a_shifted_chest_is_aligned() -> None:
    """By (9, -7, 12) mm: columns of 3 mm, rows of 3.5 mm, slices of 4 mm."""
    alignment = align_exams(*plain_exam(), *plain_exam((3, -2, 3)))
    place = (ORIGIN[0] + 60.0, ORIGIN[1] + 84.0, ORIGIN[2] + 120.0)
    moved = np.array(alignment.to_earlier(place)) - place
    assert alignment.overlap > 0.97
    assert moved == pytest.approx([9.0, -7.0, 12.0], abs=2.0)


def test_what_is_no_chest_like_this_is_not_aligned() -> None:
    """Half a lung against both: the overlap says that it failed."""
    volume, lungs = plain_exam()
    part = np.zeros_like(lungs.mask)
    part[28:34, 20:28, 15:25] = lungs.mask[28:34, 20:28, 15:25]
    alignment = align_exams(volume, lungs, volume, replace(lungs, mask=part))
    assert alignment.overlap < ComparisonConfig().least_overlap


@pytest.fixture(scope="module")
def pair() -> PairOfVisits:
    """One patient at two visits, breathed otherwise and lain elsewhere."""
    return make_pair(101, 8)


@pytest.fixture(scope="module")
def compared(pair: PairOfVisits) -> tuple[Comparison, list[Any]]:
    return compare_pair(pair)


def test_nodules_of_a_breathing_patient_are_matched(pair: PairOfVisits, compared: tuple[Comparison, list[Any]]) -> None:
    comparison, outcomes = compared
    assert pair.after.config.pose.breathing_mm != 0
    in_both = [o for o in outcomes if o.measured_in_both]
    assert len(in_both) >= 7
    assert sum(o.matched for o in in_both) / len(in_both) >= 0.97
    assert not any(o.wrong for o in outcomes)
    assert comparison.priors[0].overlap is not None
    assert comparison.priors[0].overlap > 0.95


def test_places_are_found_within_a_few_mm(pair: PairOfVisits, compared: tuple[Comparison, list[Any]]) -> None:
    """From where the aligned exam lets each be expected; marks lie 1 mm off on each axis in both exams."""
    away = [f.change.distance_mm for f in compared[0].found if f.change and f.change.distance_mm is not None]
    assert np.median(away) < 3.5
    assert max(away) < 10.0
    poses = [math.dist(a.centre_mm, b.centre_mm) for a, b in zip(pair.before.nodules, pair.after.nodules, strict=True)]
    assert min(poses) > 10.0, "without alignment none would lie where it was"


def test_growth_of_large_solid_nodules_is_measured(compared: tuple[Comparison, list[Any]]) -> None:
    """Of 10 mm and more, at 2 mm voxels: the ratio of volumes within 15 %."""
    large = [o for o in compared[1] if o.growth and o.diameter_mm >= 10 and o.kind is NoduleType.SOLID]
    assert large
    assert all(abs(o.growth / o.true_growth - 1) < 0.15 for o in large)


@pytest.mark.slow
def test_many_pairs_are_matched() -> None:
    """At least 97 % of the nodules that are in both scans and were measured."""
    outcomes = [o for seed in range(300, 306) for o in compare_pair(make_pair(seed, 10))[1] if o.measured_in_both]
    assert len(outcomes) > 50
    assert sum(o.matched for o in outcomes) / len(outcomes) >= 0.97
    assert not any(o.wrong for o in outcomes)


def test_a_phantoms_volume_is_what_the_pipeline_has(pair: PairOfVisits) -> None:
    """The helper does not move anything."""
    assert as_volume(pair.after).geometry.same_as(pair.after.geometry)

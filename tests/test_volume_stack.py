"""Positions → stack: the constants, each from both sides."""

from __future__ import annotations

import numpy as np
import pytest
from dicom_factory import AXIAL, CORONAL, FEET_FIRST, PRONE, slice_positions
from numpy.typing import NDArray

from lungscreen.errors import VolumeError
from lungscreen.volume import VolumeConfig
from lungscreen.volume.quality import check_size, thickness_notices
from lungscreen.volume.stack import Stack, is_uniform, plan_stack, same_positions, slice_normal

Floats = NDArray[np.float64]


def plan(along: list[float] | Floats, orientation: tuple[float, ...] = AXIAL) -> Stack:
    """Slices at these places on the normal."""
    normal = slice_normal(np.array(orientation))
    return plan_stack(np.array([-30.0, 12.0, 5.0]) + np.asarray(along)[:, None] * normal, np.array(orientation))


def code_of(along: list[float] | Floats) -> str:
    with pytest.raises(VolumeError) as caught:
        plan(along)
    return caught.value.code


def steps(*lengths: float) -> Floats:
    return np.concatenate([[0.0], np.cumsum(lengths)])


# -- order and orientation -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("orientation", [AXIAL, FEET_FIRST, PRONE, (1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0)])
def test_slices_go_up_whatever_the_handedness(orientation: tuple[float, ...]) -> None:
    """The normal points up, positions are ordered along it, names and numbers play no part."""
    positions = slice_positions(9, 2.0, orientation)
    order = np.random.default_rng(0).permutation(9)
    stack = plan_stack(positions[order], np.array(orientation, dtype=float))
    assert np.allclose(stack.normal, [0, 0, 1])
    assert np.all(np.diff(positions[order][stack.order][:, 2]) > 0)
    assert stack.spacing_mm == pytest.approx(2.0)
    assert stack.tilt_degrees == 0


def test_cosines_must_be_orthonormal() -> None:
    """To 1e-3."""
    assert np.allclose(slice_normal(np.array([1.0005, 0, 0, 0, 1, 0])), [0, 0, 1])
    for cosines in ([1.002, 0, 0, 0, 1, 0], [1, 0, 0, 0.002, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0]):
        with pytest.raises(VolumeError, match="position-invalid"):
            slice_normal(np.array(cosines, dtype=float))


@pytest.mark.parametrize(("degrees", "fine"), [(4.5, True), (5.5, False)])
@pytest.mark.parametrize("about", ["x", "y", "z"])
def test_oblique_beyond_5_degrees_is_refused(degrees: float, fine: bool, about: str) -> None:
    """A pure oblique stack: it moves along its own normal."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    orientation = {"x": (1, 0, 0, 0, c, s), "y": (c, 0, s, 0, 1, 0), "z": (c, s, 0, -s, c, 0)}[about]
    if fine:
        assert plan(steps(*[2.0] * 8), orientation).tilt_degrees == 0
    else:
        with pytest.raises(VolumeError, match="not-axial"):
            plan(steps(*[2.0] * 8), orientation)


def test_coronal_and_sagittal_are_refused() -> None:
    for orientation in (CORONAL, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)):
        with pytest.raises(VolumeError, match="not-axial"):
            plan(steps(*[2.0] * 8), orientation)


# -- same position ---------------------------------------------------------------------------------------------------
def test_same_position_is_a_hundredth_of_a_millimetre() -> None:
    assert [len(c) for c in same_positions(np.array([0.0, 0.009, 1.0, 1.011, 2.0]))] == [2, 1, 1, 1]
    assert is_uniform(np.array([2.0, 0.0, 1.0]))
    assert not is_uniform(np.array([0.0, 0.005, 1.0]))
    assert not is_uniform(np.array([0.0]))


# -- uniform ---------------------------------------------------------------------------------------------------------
def test_jitter_within_the_tolerance_is_uniform() -> None:
    """0.05 mm, or 2 % where that is more; nothing is interpolated."""
    jitter = 0.04 * np.array([1, -1] * 10)
    stack = plan(steps(*(1.0 + jitter)))
    assert not stack.resampled
    assert (stack.nearest >= 0).all()
    assert not plan(steps(*(4.0 + 1.9 * jitter))).resampled


def test_jitter_beyond_the_tolerance_is_resampled() -> None:
    stack = plan(steps(*(1.0 + 0.06 * np.array([1, -1] * 10))))
    assert stack.resampled


def test_drift_beyond_half_a_slice_is_not_uniform() -> None:
    """Each step is within the tolerance, but they add up to a slice."""
    lengths = [1.0] * 31 + [1.04] * 30
    stack = plan(steps(*lengths))
    assert stack.resampled
    assert not plan(steps(*([1.0] * 31 + [1.01] * 30))).resampled


def test_the_spacing_is_that_of_the_positions() -> None:
    """(last - first) / steps, so that both ends lie where they are."""
    stack = plan(steps(*[1.25] * 100))
    assert stack.spacing_mm == pytest.approx(1.25, abs=1e-12)
    assert stack.grid_mm[-1] - stack.grid_mm[0] == pytest.approx(125.0)


# -- holes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("step", "missing", "filled"),
    [(1.0, 1, True), (1.0, 2, True), (1.0, 3, False), (1.6, 2, True), (1.7, 2, False), (2.5, 1, True), (3.0, 1, False)],
)
def test_holes_that_may_be_filled(step: float, missing: int, filled: bool) -> None:
    """At most 2 neighbouring slices, at most 5 mm between those that are there."""
    along = np.delete(step * np.arange(30), np.arange(10, 10 + missing))
    if not filled:
        assert code_of(along) == "slice-gap"
        return
    stack = plan(along)
    assert not stack.resampled
    assert len(stack.grid_mm) == 30
    assert np.flatnonzero(stack.nearest < 0).tolist() == list(range(10, 10 + missing))
    assert stack.spacing_mm == pytest.approx(step)


def test_a_gap_is_refused_with_its_place() -> None:
    with pytest.raises(VolumeError, match=r"18\.0 to 28\.0 mm \(4 missing\)"):
        plan(np.delete(2.0 * np.arange(30), np.arange(10, 14)) - 5.0)


def test_itk_would_hide_this_gap() -> None:
    """1.0 mm slices with one missing are not 1.118 mm apart."""
    stack = plan(np.delete(np.arange(10.0), 4))
    assert stack.spacing_mm == pytest.approx(1.0)


# -- stray slices ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("along", "stray"),
    [
        ([-40.0, *range(0, 40, 2)], 1),
        ([*range(0, 40, 2), 60.0, 62.0, 64.0], 3),
        ([-50.0, -40.0, *range(0, 40, 2), 60.0], 3),
        ([-5.9, *range(40)], 1),
    ],
)
def test_stray_slices_are_left_out(along: list[float], stray: int) -> None:
    stack = plan(along)
    assert len(stack.stray) == stray
    assert len(stack.order) == len(along) - stray
    assert not stack.resampled


def test_four_slices_are_no_stray() -> None:
    assert code_of([*range(0, 40, 2), 60.0, 62.0, 64.0, 66.0]) == "slice-gap"


def test_a_near_outlier_is_no_stray() -> None:
    """More than three steps but not more than 5 mm off: a hole like any other."""
    assert code_of([*range(20), 23.5]) == "slice-gap"


# -- uneven spacing --------------------------------------------------------------------------------------------------
def test_uneven_spacing_is_resampled_to_the_median() -> None:
    along = steps(*[1.0] * 10, 1.4, *[1.0] * 10, 1.3)
    stack = plan(along)
    assert stack.resampled
    assert stack.spacing_mm == pytest.approx(1.0)
    assert np.ptp(stack.grid_mm) == pytest.approx(22.0)
    assert (stack.nearest[:11] >= 0).all()
    assert (stack.nearest[11:] < 0).all()


def test_uneven_spacing_above_5_mm_is_refused() -> None:
    assert code_of(steps(*[4.0] * 10, 5.3, *[4.0] * 10)) == "uneven-spacing"


# -- tilt ------------------------------------------------------------------------------------------------------------
def tilted(degrees: float, count: int = 30, step: float = 2.0) -> Stack:
    """Slices tilted about x while the table moves straight."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    positions = np.array([[-30.0, 12.0, step * k] for k in range(count)])
    return plan_stack(positions, np.array([1, 0, 0, 0, c, s]))


@pytest.mark.parametrize("degrees", [0.6, -12.0, 25.0, 29.5])
def test_a_tilt_is_measured(degrees: float) -> None:
    stack = tilted(degrees)
    assert stack.tilt_degrees == pytest.approx(abs(degrees), abs=1e-6)
    assert stack.spacing_mm == pytest.approx(2.0 * np.cos(np.radians(degrees)))
    assert np.ptp(stack.lateral_mm[:, 1]) == pytest.approx(58 * abs(np.sin(np.radians(degrees))))
    assert np.ptp(stack.lateral_mm[:, 0]) == pytest.approx(0, abs=1e-9)


def test_a_tilt_above_30_degrees_is_refused() -> None:
    with pytest.raises(VolumeError, match="tilt-too-large"):
        tilted(31)


def test_no_tilt_is_no_nan() -> None:
    """Acos would give NaN here."""
    assert tilted(0.0).tilt_degrees == 0.0


def test_a_small_sideways_drift_is_not_ignored() -> None:
    """0.3 degrees is no gantry tilt, but 0.3 mm over the stack is more than 0.1 mm."""
    assert tilted(0.3).tilt_degrees == pytest.approx(0.3)
    assert tilted(0.01).tilt_degrees == 0.0


def test_positions_off_the_line_are_refused() -> None:
    positions = slice_positions(20, 2.0)
    positions[7, 0] += 0.09
    assert plan_stack(positions, np.array(AXIAL)).tilt_degrees == 0
    positions[7, 0] += 0.1
    with pytest.raises(VolumeError, match="positions-irregular"):
        plan_stack(positions, np.array(AXIAL))


# -- size and thickness ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("slices", "spacing", "thickness", "code"),
    [
        (19, 5.0, 5.0, "too-few-slices"),
        (20, 4.9, None, "too-short"),
        (99, 1.0, 1.0, "too-short"),
        (30, 4.0, 5.1, "too-thick"),
        (30, 5.1, 1.0, "too-thick"),
        (20, 5.0, 5.0, ""),
        (100, 1.0, 1.0, ""),
    ],
)
def test_the_least_series(slices: int, spacing: float, thickness: float | None, code: str) -> None:
    """20 slices and 100 mm, at most 5 mm thick."""
    if not code:
        check_size(slices, spacing, thickness, VolumeConfig())
        return
    with pytest.raises(VolumeError, match=code):
        check_size(slices, spacing, thickness, VolumeConfig())


def test_any_size_on_request() -> None:
    check_size(2, 1.0, 1.0, VolumeConfig(min_slices=1, min_extent_mm=0))
    with pytest.raises(VolumeError, match="too-few-slices"):
        check_size(1, 0.0, 1.0, VolumeConfig(min_slices=1, min_extent_mm=0))


@pytest.mark.parametrize(
    ("spacing", "thickness", "codes"),
    [
        (1.0, 1.0, []),
        (2.5, 2.5, []),
        (2.6, 2.6, ["thick-slices"]),
        (2.0, 3.0, ["thick-slices"]),
        (1.25, 2.5, ["overlapping"]),
        (1.0, 1.5, []),
        (1.25, 1.0, ["gaps-between-slices"]),
        (3.0, None, ["thick-slices"]),
    ],
)
def test_thickness_against_spacing(spacing: float, thickness: float | None, codes: list[str]) -> None:
    assert [notice.code for notice in thickness_notices(spacing, thickness)] == codes


@pytest.mark.parametrize("values", [{"min_slices": 0}, {"min_extent_mm": -1}])
def test_a_configuration_out_of_range(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        VolumeConfig(**values)  # type: ignore[arg-type]

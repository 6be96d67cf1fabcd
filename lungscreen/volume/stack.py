"""Positions of slices ─► how they make a stack: order, holes, strays, spacing, tilt. Pure geometry; no pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import VolumeError
from lungscreen.geometry import ORTHONORMAL_TOLERANCE
from lungscreen.volume.config import (
    AXIAL_DEGREES,
    DRIFT_SHARE,
    FILLED_SLICES,
    LATERAL_MM,
    LONGEST_STEP_MM,
    SAME_POSITION_MM,
    STRAY_MM,
    STRAY_SLICES,
    STRAY_STEPS,
    TILT_DEGREES,
    UNIFORM_MM,
    UNIFORM_SHARE,
)

__all__ = ["Stack", "is_uniform", "plan_stack", "same_positions", "slice_normal"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """How slices make an evenly spaced stack.

    order: which slices are used, from the lowest up along `normal`.
    along_mm: their places on the normal.
    grid_mm: places of the slices to be made; equal to `along_mm` where nothing is filled or resampled.
    nearest: for each place of the grid the position in `order` of the slice that lies there, -1 where it is made of its
        neighbours.
    lateral_mm: (n, 2) how far each used slice lies off a straight stack along (row, column) axis.
    """

    normal: Floats
    order: NDArray[np.intp]
    along_mm: Floats
    grid_mm: Floats
    nearest: NDArray[np.intp]
    lateral_mm: Floats
    tilt_degrees: float
    stray: NDArray[np.intp]
    resampled: bool

    @property
    def spacing_mm(self) -> float:
        """Distance of neighbouring slices of the grid."""
        return float(self.grid_mm[1] - self.grid_mm[0]) if len(self.grid_mm) > 1 else 0.0

    @property
    def filled_mm(self) -> Floats:
        """Places that are interpolated."""
        return self.grid_mm[self.nearest < 0]


def slice_normal(orientation: Floats) -> Floats:
    """Unit normal of a slice, pointing up (towards the head) where the slice is roughly axial.

    orientation: ImageOrientationPatient, the row's and the column's direction cosines.

    Errors: `position-invalid` where the cosines are not orthonormal to 1e-3.
    """
    row, column = orientation[:3], orientation[3:]
    products = np.array([np.linalg.norm(row) - 1, np.linalg.norm(column) - 1, row @ column])
    if np.abs(products).max() > ORTHONORMAL_TOLERANCE:
        raise VolumeError("position-invalid", "the slices' direction cosines are not orthonormal")
    normal = np.cross(row, column)
    normal = normal / np.linalg.norm(normal)
    return normal if normal[int(np.abs(normal).argmax())] > 0 else -normal


def same_positions(along_mm: Floats) -> list[NDArray[np.intp]]:
    """Slices by position, lowest first: those within 0.01 mm of their neighbour are at one position."""
    order = np.argsort(along_mm, kind="stable")
    breaks = np.flatnonzero(np.diff(along_mm[order]) > SAME_POSITION_MM) + 1
    return list(np.split(order, breaks))


def is_uniform(along_mm: Floats) -> bool:
    """Whether slices, in any order, lie at distinct, evenly spaced positions."""
    steps = np.diff(np.sort(along_mm))
    return len(steps) > 0 and bool(steps.min() > SAME_POSITION_MM) and _even(steps)


def plan_stack(positions_mm: Floats, orientation: Floats) -> Stack:
    """How slices at distinct positions make a stack.

    positions_mm: (n, 3) ImagePositionPatient.
    orientation: (6,).

    Errors: `position-invalid`, `slice-gap`, `uneven-spacing`, `positions-irregular`, `tilt-too-large`, `not-axial`.
    """
    normal = slice_normal(orientation)
    along = positions_mm @ normal
    order = np.argsort(along, kind="stable").astype(np.intp)
    order, stray = _without_stray(order, along)
    lateral, tilt = _lateral(positions_mm[order], orientation, normal)
    direction = positions_mm[order[-1]] - positions_mm[order[0]] if len(order) > 1 else normal
    _check_axial(orientation, normal, direction, tilt)
    grid, nearest, resampled = _grid(along[order])
    return Stack(normal, order, along[order], grid, nearest, lateral, tilt, stray, resampled)


def _tolerance(step_mm: float) -> float:
    return max(UNIFORM_MM, UNIFORM_SHARE * step_mm)


def _even(steps: Floats) -> bool:
    """Every step near the median, and no place further than half a slice from an even grid."""
    median = float(np.median(steps))
    drift = np.concatenate([[0.0], np.cumsum(steps - median)])
    near = np.abs(steps - median).max() <= _tolerance(median)
    return bool(near and np.abs(drift).max() < DRIFT_SHARE * median)


def _without_stray(order: NDArray[np.intp], along: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Leave out at most three slices at an end that lie more than three steps and 5 mm off the rest."""
    if len(order) < 2 * STRAY_SLICES + 2:
        return order, np.array([], dtype=np.intp)
    steps = np.diff(along[order])
    far = steps > max(STRAY_MM, STRAY_STEPS * float(np.median(steps)))
    low = int(np.flatnonzero(far[:STRAY_SLICES]).max(initial=-1)) + 1
    high = int(np.flatnonzero(far[::-1][:STRAY_SLICES]).max(initial=-1)) + 1
    stop = len(order) - high
    return order[low:stop], np.concatenate([order[:low], order[stop:]])


def _lateral(positions: Floats, orientation: Floats, normal: Floats) -> tuple[Floats, float]:
    """How far each slice lies off a straight stack along its (row, column) directions; and the tilt in degrees.

    A line is fitted to the positions; what is left of the line below 0.1 mm over the whole stack is no tilt.

    Errors: `positions-irregular`, `tilt-too-large`.
    """
    along = positions @ normal
    offsets = np.stack([positions @ orientation[:3], positions @ orientation[3:]], axis=1)
    if len(positions) < 2:
        return np.zeros((len(positions), 2)), 0.0
    centred = along - along.mean()
    slopes = (centred @ (offsets - offsets.mean(axis=0))) / (centred @ centred)
    line = offsets.mean(axis=0) + centred[:, None] * slopes
    if np.abs(offsets - line).max() > LATERAL_MM:
        worst = int(np.abs(offsets - line).max(axis=1).argmax())
        raise VolumeError(
            "positions-irregular", f"the slices do not lie on a straight line (worst at {along[worst]:.1f} mm)"
        )
    tilt = float(np.degrees(np.arctan2(np.linalg.norm(slopes), 1.0)))
    if tilt > TILT_DEGREES[1]:
        raise VolumeError("tilt-too-large", f"the stack is tilted by {tilt:.1f} degrees")
    lateral = centred[:, None] * slopes
    if np.abs(lateral).max() <= LATERAL_MM:
        return np.zeros((len(positions), 2)), 0.0
    return lateral, tilt


def _check_axial(orientation: Floats, normal: Floats, direction: Floats, tilt: float) -> None:
    """Errors: `not-axial`. The stack's direction counts where a tilt was found, the slices' normal otherwise."""
    up = np.array([0.0, 0.0, 1.0])
    off = _degrees(direction if tilt else normal, up)
    flat = [np.array([axis[0], axis[1], 0.0]) for axis in (orientation[:3], orientation[3:])]
    turned = max(min(_degrees(axis, np.eye(3)[0]), _degrees(axis, np.eye(3)[1])) for axis in flat)
    if max(off, turned) > AXIAL_DEGREES:
        raise VolumeError("not-axial", f"the slices are {max(off, turned):.1f} degrees off the axial plane")


def _degrees(first: Floats, second: Floats) -> float:
    """Angle between two lines; 90 where one has no length."""
    if float(np.linalg.norm(first)) < 1e-6:
        return 90.0
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(first, second)), abs(float(first @ second)))))


def _grid(along: Floats) -> tuple[Floats, NDArray[np.intp], bool]:
    """Evenly spaced places, the slice at each (-1: interpolated), and whether everything had to be resampled.

    Errors: `slice-gap`, `uneven-spacing`.
    """
    count = len(along)
    everyone = np.arange(count, dtype=np.intp)
    steps = np.diff(along)
    if count < 2 or _even(steps):
        return (np.linspace(along[0], along[-1], count) if count > 1 else along.copy()), everyone, False
    median = float(np.median(steps))
    multiples = np.maximum(np.rint(steps / median), 1).astype(int)
    _check_holes(along, steps, multiples)
    whole = np.abs(steps - multiples * median) <= max(UNIFORM_MM, UNIFORM_SHARE * median)
    places = np.concatenate([[0], np.cumsum(multiples)])
    grid = np.linspace(along[0], along[-1], int(places[-1]) + 1)
    if whole.all() and np.abs(grid[places] - along).max() < DRIFT_SHARE * median:
        nearest = np.full(len(grid), -1, dtype=np.intp)
        nearest[places] = everyone
        return grid, nearest, False
    return _resampled_grid(along, median)


def _check_holes(along: Floats, steps: Floats, multiples: NDArray[np.int_]) -> None:
    """Errors: `slice-gap`, with the places; `uneven-spacing`."""
    longest = LONGEST_STEP_MM + SAME_POSITION_MM
    bad = np.flatnonzero((multiples - 1 > FILLED_SLICES) | ((multiples > 1) & (steps > longest)))
    if len(bad):
        shown = ", ".join(f"{along[i]:.1f} to {along[i + 1]:.1f} mm ({multiples[i] - 1} missing)" for i in bad[:3])
        raise VolumeError("slice-gap", f"{len(bad)} hole(s) in the stack, the first at {shown}")
    if float(steps.max()) > longest:
        raise VolumeError("uneven-spacing", f"uneven spacing, up to {float(steps.max()):.1f} mm")


def _resampled_grid(along: Floats, median: float) -> tuple[Floats, NDArray[np.intp], bool]:
    """Even places at the median step; a slice stays as it is where one lies at a place."""
    grid = along[0] + median * np.arange(int((along[-1] - along[0]) / median + 1e-6) + 1)
    candidates = np.abs(grid[:, None] - along[None, :]).argmin(axis=1)
    there = np.abs(grid - along[candidates]) <= SAME_POSITION_MM
    return grid, np.where(there, candidates, -1).astype(np.intp), True

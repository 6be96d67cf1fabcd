"""Millimetres and canonical voxels ─► pixels of the series' own slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.records import SourceSlice, Volume

__all__ = ["SlicePlace", "even_step_mm", "find_place", "on_source_slices", "used_slices"]

_EVEN_MM = 0.002
"""Distances that differ by less are the same: headers round places to a thousandth."""


@dataclass(frozen=True, slots=True)
class SlicePlace:
    """A point on a slice of the series.

    number: the slice's, from 0 at the bottom.
    column, row: as DICOM's SCOORD has them: 0 at the corner of the first pixel, 0.5 at its centre (PS3.3 C.18.6).
    off_mm: how far the point lies off the slice's plane.
    """

    number: int
    column: float
    row: float
    off_mm: float


def find_place(point_mm: Sequence[float], slices: Sequence[SourceSlice]) -> SlicePlace:
    """Where a point lies on the slice nearest to it.

    point_mm: x, y, z in LPS mm.
    slices: at least one.
    """
    offsets = np.array(point_mm) - np.array([one.position_mm for one in slices])
    cosines = np.array([one.orientation for one in slices])
    normals = np.cross(cosines[:, :3], cosines[:, 3:])
    distances = np.einsum("ij,ij->i", offsets, normals)
    number = int(np.abs(distances).argmin())
    row_mm, column_mm = slices[number].pixel_spacing_mm
    return SlicePlace(
        number,
        float(offsets[number] @ cosines[number, :3]) / column_mm + 0.5,
        float(offsets[number] @ cosines[number, 3:]) / row_mm + 0.5,
        float(abs(distances[number])),
    )


def on_source_slices(labels: NDArray[Any], volume: Volume) -> NDArray[Any]:
    """Labels on the canonical grid (z, y, x) ─► on the series' own slices (slice, row, column), from the bottom up.

    Each pixel takes the label of the voxel that its centre lies in: where nothing was straightened, voxel for voxel;
    then the result is a view of the labels, not a copy.
    """
    windows = [_window(volume, one) for one in volume.source_slices]
    whole = _as_one_view(labels, windows)
    if whole is not None:
        return whole
    first = volume.source_slices[0].instance
    out = np.zeros((len(windows), first.rows, first.columns), labels.dtype)
    for window, target in zip(windows, out, strict=True):
        if 0 <= window.k < labels.shape[0] and labels[window.k].any():
            _copy(labels[window.k], window, target)
    return out


def even_step_mm(slices: Sequence[SourceSlice]) -> float | None:
    """The distance between neighbouring slices; None where it is not the same everywhere, or there is one slice."""
    steps = np.linalg.norm(np.diff([one.position_mm for one in slices], axis=0), axis=1)
    if not len(steps) or np.ptp(steps) > _EVEN_MM:
        return None
    return round(float(steps.mean()), 6)


def used_slices(labels: NDArray[Any]) -> NDArray[np.intp]:
    """Numbers of the slices (the first axis) that hold a label above 0."""
    return np.flatnonzero([one.max(initial=0) > 0 for one in labels])


@dataclass(frozen=True, eq=False)
class _Window:
    """Where a slice's pixels lie on the canonical grid.

    k: the grid's slice.
    j, i: its row and column for each of the slice's rows and columns (or columns and rows, where the slice is turned),
        possibly outside the grid.
    """

    k: int
    j: NDArray[np.intp]
    i: NDArray[np.intp]
    turned: bool


def _window(volume: Volume, one: SourceSlice) -> _Window:
    corner = np.array(one.position_mm)
    down = np.array(one.orientation[3:]) * one.pixel_spacing_mm[0]
    across = np.array(one.orientation[:3]) * one.pixel_spacing_mm[1]
    start, below, beside = volume.geometry.to_index(np.array([corner, corner + down, corner + across]))
    # the slice's axes are the grid's, in one order or the other
    turned = bool(abs(below[1] - start[1]) < abs(beside[1] - start[1]))
    rows, columns = (beside, below) if turned else (below, beside)
    counts = (one.instance.columns, one.instance.rows) if turned else (one.instance.rows, one.instance.columns)
    return _Window(
        round(float(start[0])),
        np.rint(start[1] + (rows[1] - start[1]) * np.arange(counts[0])).astype(np.intp),
        np.rint(start[2] + (columns[2] - start[2]) * np.arange(counts[1])).astype(np.intp),
        turned,
    )


def _as_one_view(labels: NDArray[Any], windows: Sequence[_Window]) -> NDArray[Any] | None:
    """The labels, flipped or turned as the slices are; None where slices are not the whole grid, one by one."""
    first = windows[0]
    steps = [_direction(first.j, labels.shape[1]), _direction(first.i, labels.shape[2])]
    same = all(
        window.turned == first.turned and np.array_equal(window.j, first.j) and np.array_equal(window.i, first.i)
        for window in windows
    )
    if not same or 0 in steps or [window.k for window in windows] != list(range(labels.shape[0])):
        return None
    view = labels[:, :: steps[0], :: steps[1]]
    return view.transpose(0, 2, 1) if first.turned else view


def _direction(at: NDArray[np.intp], size: int) -> int:
    """1 where the places are 0 to size - 1, -1 where they are the same backwards, 0 otherwise."""
    everyone = np.arange(size)
    return 1 if np.array_equal(at, everyone) else -1 if np.array_equal(at, everyone[::-1]) else 0


def _copy(labels: NDArray[Any], window: _Window, target: NDArray[Any]) -> None:
    """One slice; what lies outside the grid stays 0."""
    j, i = window.j, window.i
    rows, columns = (j >= 0) & (j < labels.shape[0]), (i >= 0) & (i < labels.shape[1])
    view = target.T if window.turned else target
    view[np.ix_(rows, columns)] = labels[np.ix_(j[rows], i[columns])]

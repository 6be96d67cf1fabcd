"""Axes of a nodule from a field that is 1 inside, 0 outside and 0.5 at the edge; a mask of voxels is such a field.

The edge is where the field, linear between voxel centres, crosses 0.5: a row of n voxels of a mask is n voxels long,
neither n - 1 (centre to centre) nor more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.patches import resample_axis

__all__ = [
    "Axes",
    "effective_diameter",
    "fine_volume",
    "measure_axes",
    "measure_mask",
    "round_axis",
    "round_mean",
    "without_spikes",
]

EDGE = 0.5
"""Value of the field at the edge."""

FINER = 3
"""Pieces that a voxel's side is cut into to count a volume."""

MASK_SMOOTHING_VOXELS = 0.7
"""Sigma that rounds the staircase of a voxel mask."""

TENTH = Decimal("0.1")

DIRECTIONS = 16
"""In which a slice is measured roughly, to see whether it can have the longest axis."""

Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Axes:
    """Long axis and the longest chord at right angles to it in the same slice, in mm, not rounded."""

    long_mm: float
    short_mm: float
    plane: int
    """0 axial, 1 coronal, 2 sagittal."""
    slice_index: int


def measure_axes(field: NDArray[np.floating], spacing_mm: tuple[float, float, float]) -> tuple[Axes, Axes]:
    """Axes in the plane where the long axis is longest, and axes in the transverse plane.

    field: (z, y, x), 0.5 and more is inside; at least one voxel is. Raises ValueError otherwise.
    """
    if not (field >= EDGE).any():
        raise ValueError("expected a field with something inside")
    padded = np.pad(np.asarray(field, dtype=np.float64), 1)
    in_planes = [_longest(padded, plane, spacing_mm) for plane in range(3)]
    return max(in_planes, key=lambda axes: axes.long_mm), in_planes[0]


def measure_mask(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> tuple[Axes, Axes]:
    """Axes of a voxel mask, its staircase smoothed: for comparing masks, whoever drew them, by one rule."""
    soft = ndimage.gaussian_filter(np.pad(mask.astype(np.float64), 3), MASK_SMOOTHING_VOXELS)
    return measure_axes(soft if (soft >= EDGE).any() else mask.astype(np.float64), spacing_mm)


def fine_volume(field: NDArray[np.floating], step_mm: float) -> float:
    """Volume inside the field's edge on cubic voxels, the field taken as linear between them, mm3."""
    inside = field >= EDGE
    box = [np.flatnonzero(inside.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    cut = np.pad(np.asarray(field, dtype=np.float32), 1)[tuple(slice(b[0], b[-1] + 3) for b in box)]
    for axis in range(3):
        count = cut.shape[axis] * FINER
        cut = resample_axis(cut, axis, (np.arange(count) + 0.5) / FINER - 0.5)
    return float((cut >= EDGE).sum()) * (step_mm / FINER) ** 3


def round_axis(value_mm: float) -> float:
    """One decimal, half-up, in decimal arithmetic (Lung-RADS v2022 note 4)."""
    return float(Decimal(repr(float(value_mm))).quantize(TENTH, ROUND_HALF_UP))


def round_mean(long_mm: float, short_mm: float) -> float:
    """Mean of two rounded axes to one decimal, half-up (Lung-RADS v2022 note 4): 8.1 and 7.8 give 8.0."""
    total = Decimal(repr(float(long_mm))) + Decimal(repr(float(short_mm)))
    return float((total / 2).quantize(TENTH, ROUND_HALF_UP))


def without_spikes(field: NDArray[np.float32], step_mm: float, radius_mm: float) -> NDArray[np.float32]:
    """The field (cubic voxels) without what a ball of that radius does not fit into; all of it where none fits."""
    inside = field >= EDGE
    thick = ndimage.distance_transform_edt(inside) * step_mm > radius_mm
    if radius_mm <= 0 or not thick.any():
        return field
    opened = inside & (ndimage.distance_transform_edt(~thick) * step_mm <= radius_mm)
    return np.asarray(np.where(ndimage.binary_dilation(opened) & ~(inside & ~opened), field, 0.0), dtype=np.float32)


def effective_diameter(volume_mm3: float) -> float:
    """Diameter of the sphere of that volume."""
    return float((6.0 * volume_mm3 / math.pi) ** (1.0 / 3.0))


def _longest(padded: NDArray[np.float64], plane: int, spacing_mm: tuple[float, float, float]) -> Axes:
    """The longest axis over all slices of one plane; slices that cannot have it are not looked at."""
    slices = np.moveaxis(padded, plane, 0)
    row_mm, column_mm = (s for axis, s in enumerate(spacing_mm) if axis != plane)
    index, points = _edge_points(slices, row_mm, column_mm)
    best = Axes(0.0, 0.0, plane, 0)
    used = np.unique(index)
    starts = np.searchsorted(index, used)
    ends = np.searchsorted(index, used, side="right")
    reach = _most_across(points, starts)
    for n in np.argsort(reach)[::-1]:
        if reach[n] <= best.long_mm:
            break
        long_mm, short_mm = _axes_of(points[starts[n] : ends[n]])
        if long_mm > best.long_mm:
            best = Axes(long_mm, short_mm, plane, int(used[n]) - 1)
    return best


def _most_across(points: Points, starts: NDArray[np.intp]) -> NDArray[np.float64]:
    """What the longest axis of each slice is at most: its width in the widest of some directions, and a little more."""
    angles = np.pi * np.arange(DIRECTIONS) / DIRECTIONS
    along = points @ np.stack([np.cos(angles), np.sin(angles)])
    widths = np.maximum.reduceat(along, starts) - np.minimum.reduceat(along, starts)
    # the axis lies at most half a step from one of the directions
    return np.asarray(widths.max(axis=1) / np.cos(np.pi / (2 * DIRECTIONS)) * (1 + 1e-9))


def _edge_points(slices: NDArray[np.float64], row_mm: float, column_mm: float) -> tuple[NDArray[np.intp], Points]:
    """Every point where the field crosses the edge between neighbours of a slice: slice index (sorted), (n, 2) mm."""
    inside = slices >= EDGE
    found: list[tuple[NDArray[np.intp], Points]] = []
    for axis, (dr, dc) in ((1, (1.0, 0.0)), (2, (0.0, 1.0))):
        first = [slice(None)] * 3
        second = [slice(None)] * 3
        first[axis], second[axis] = slice(None, -1), slice(1, None)
        k, r, c = np.nonzero(inside[tuple(first)] != inside[tuple(second)])
        a = slices[tuple(first)][k, r, c]
        b = slices[tuple(second)][k, r, c]
        t = (EDGE - a) / (b - a)
        found.append((k, np.stack([(r + t * dr) * row_mm, (c + t * dc) * column_mm], axis=1)))
    index = np.concatenate([k for k, _ in found])
    order = np.argsort(index, kind="stable")
    return index[order], np.concatenate([p for _, p in found])[order]


def _axes_of(points: Points) -> tuple[float, float]:
    """Longest distance between edge points, and the longest chord of their hull at right angles to it."""
    hull = _hull(points)
    apart = hull[:, None, :] - hull[None, :, :]
    distance = np.hypot(apart[..., 0], apart[..., 1])
    i, j = np.unravel_index(int(distance.argmax()), distance.shape)
    long_mm = float(distance[i, j])
    along = (hull[j] - hull[i]) / long_mm
    across = np.array([-along[1], along[0]])
    t, w = (hull - hull[i]) @ along, (hull - hull[i]) @ across
    upper, lower = _chain(t, w, long_mm), _chain(t, -w, long_mm)
    at = np.unique(np.concatenate([upper[0], lower[0]]))
    width = np.interp(at, *upper) + np.interp(at, *lower)
    return long_mm, float(width.max())


def _chain(t: NDArray[np.float64], w: NDArray[np.float64], long_mm: float) -> tuple[Points, Points]:
    """The hull's side w >= 0 as a function of the place along the long axis."""
    side = w > 0
    order = np.argsort(t[side])
    return (
        np.concatenate([[0.0], t[side][order], [long_mm]]),
        np.concatenate([[0.0], w[side][order], [0.0]]),
    )


def _hull(points: Points) -> Points:
    """Convex hull, counter-clockwise (monotone chain): a slice's edge has a few dozen points."""
    ordered = sorted(set(map(tuple, points.tolist())))
    halves = []
    for run in (ordered, ordered[::-1]):
        half: list[tuple[float, float]] = []
        for p in run:
            while len(half) >= 2 and _turn(half[-2], half[-1], p) <= 0:
                half.pop()
            half.append(p)
        halves.append(half[:-1])
    return np.array(halves[0] + halves[1])


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])

"""Patches: a cube of the volume around a point on an isotropic grid, and back to the volume's voxels.

The grid's axes are the volume's, so nothing is rotated: a linear interpolation along each axis is all there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Geometry, Vector
from lungscreen.records import Outline

__all__ = ["Patch", "cut_patch", "halve", "resample_axis", "to_outline"]

Array = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Patch:
    """Cubic voxels of `step_mm`; voxel (0, 0, 0) lies at `start` in the volume's array positions."""

    hu: Array
    step_mm: float
    start: NDArray[np.float64]
    volume_spacing_mm: tuple[float, float, float]
    volume_shape: tuple[int, int, int]
    centre: NDArray[np.float64]
    """The point asked for, in this patch's voxels."""

    def positions(self, axis: int) -> NDArray[np.float64]:
        """Positions of this patch's voxels along one axis, in the volume's voxels."""
        step = self.step_mm / self.volume_spacing_mm[axis]
        return np.asarray(self.start[axis] + step * np.arange(self.hu.shape[axis]))

    def sample(self, array: NDArray[np.generic]) -> Array:
        """Another array of the volume's grid on this patch, nearest voxel; 0 outside."""
        index = [np.rint(self.positions(axis)).astype(int) for axis in range(3)]
        inside = [(i >= 0) & (i < n) for i, n in zip(index, self.volume_shape, strict=True)]
        taken = array[np.ix_(*[np.clip(i, 0, n - 1) for i, n in zip(index, self.volume_shape, strict=True)])]
        return np.asarray(np.where(np.logical_and.outer(np.logical_and.outer(*inside[:2]), inside[2]), taken, 0))

    def crop(self, box: tuple[slice, slice, slice]) -> Patch:
        """A part of this patch."""
        first = np.array([side.start for side in box], dtype=np.float64)
        start = self.start + first * self.step_mm / np.array(self.volume_spacing_mm)
        return replace(self, hu=self.hu[box], start=start, centre=self.centre - first)

    def from_cube(self, cube: Array, step_mm: float) -> Array:
        """A cube of another step around the same centre, linearly interpolated on this patch; beyond it 0."""
        away = (np.arange(self.hu.shape[0]) - self.centre[0]) * self.step_mm / step_mm + (cube.shape[0] - 1) / 2
        field = np.pad(cube, 1)
        for axis in range(3):
            field = resample_axis(field, axis, away + 1)
        return field

    def beyond(self) -> NDArray[np.bool_]:
        """Voxels that lie outside the volume (filled with its nearest voxel)."""
        parts = [
            (p < -0.5) | (p > n - 0.5)
            for p, n in zip((self.positions(a) for a in range(3)), self.volume_shape, strict=True)
        ]
        return np.asarray(parts[0][:, None, None] | parts[1][None, :, None] | parts[2][None, None, :])


def cut_patch(hu: NDArray[np.int16], geometry: Geometry, centre_mm: Vector, size: int, step_mm: float) -> Patch:
    """Cut a cube of `size` voxels centred on a point, linearly interpolated; beyond the volume its edge goes on."""
    spacing = np.array(geometry.spacing_mm)
    start = geometry.to_index(centre_mm) - (size - 1) / 2 * step_mm / spacing
    low = [min(max(0, math.floor(s) - 1), n - 1) for s, n in zip(start, geometry.shape, strict=True)]
    high = [
        max(min(n, math.ceil(s + (size - 1) * step_mm / d) + 2), a + 1)
        for s, d, n, a in zip(start, spacing, geometry.shape, low, strict=True)
    ]
    piece = hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float32)
    for axis in range(3):
        at = start[axis] + step_mm / spacing[axis] * np.arange(size) - low[axis]
        piece = resample_axis(piece, axis, at)
    return Patch(piece, step_mm, start, geometry.spacing_mm, geometry.shape, np.full(3, (size - 1) / 2))


def to_outline(inside: Array, patch: Patch) -> Outline | None:
    """A field on the patch (0.5 and more is inside) as voxels of the volume, cropped to its box; None where empty."""
    low = [max(0, math.ceil(patch.positions(a)[0])) for a in range(3)]
    high = [min(n, math.floor(patch.positions(a)[-1]) + 1) for a, n in zip(range(3), patch.volume_shape, strict=True)]
    if any(b <= a for a, b in zip(low, high, strict=True)):
        return None
    field = inside
    for axis in range(3):
        scale = patch.volume_spacing_mm[axis] / patch.step_mm
        field = resample_axis(field, axis, (np.arange(low[axis], high[axis]) - patch.start[axis]) * scale)
    mask = field >= 0.5
    if not mask.any():
        return None
    box = [np.flatnonzero(mask.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    cut = tuple(slice(int(b[0]), int(b[-1]) + 1) for b in box)
    z, y, x = (low[a] + int(box[a][0]) for a in range(3))
    return Outline((z, y, x), np.ascontiguousarray(mask[cut]))


def resample_axis(array: Array, axis: int, at: NDArray[np.float64]) -> Array:
    """Linear interpolation along one axis at fractional positions, the ends held."""
    size = array.shape[axis]
    at = np.clip(at, 0, size - 1)
    lower = np.minimum(at.astype(int), max(size - 2, 0))
    shape = [1, 1, 1]
    shape[axis] = len(at)
    share = (at - lower).astype(np.float32).reshape(shape)
    first = np.take(array, lower, axis)
    second = np.take(array, np.minimum(lower + 1, size - 1), axis)
    return np.asarray(first + share * (second - first), dtype=np.float32)


def halve(hu: NDArray[np.generic]) -> NDArray[np.float32]:
    """Means of 2 × 2 × 2 voxels; what fills no whole block at the far ends is left out."""
    z, y, x = (n // 2 * 2 for n in hu.shape)
    part = hu[:z, :y, :x].astype(np.float32)
    part = part[0::2] + part[1::2]
    part = part[:, 0::2] + part[:, 1::2]
    part = part[:, :, 0::2] + part[:, :, 1::2]
    return np.asarray(part / 8, np.float32)

"""Tubes → coverage of voxels, antialiased; fields on a coarse grid → slices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.phantom.trees import Tubes

__all__ = ["CoarseGrid", "Slab", "coverage", "draw_tubes"]

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]

THINNEST = 0.5
"""Tubes thinner than this many voxels (radius) are drawn so thick, and fainter: the amount of matter is kept."""


@dataclass(frozen=True, eq=False)
class Slab:
    """Axis-aligned voxels: centres of the columns, rows and (sub-)slices in mm, and the step of each."""

    x: Floats
    y: Floats
    z: Floats
    step: tuple[float, float, float]
    """(z, y, x)."""

    @property
    def voxel_mm(self) -> float:
        """Edge of the cube of a voxel's volume."""
        return float(np.prod(self.step) ** (1 / 3))

    @property
    def shape(self) -> tuple[int, int, int]:
        """(z, y, x)."""
        return len(self.z), len(self.y), len(self.x)


def coverage(distance: F32, width_mm: float) -> F32:
    """Share of a voxel of that width that lies inside a surface at this signed distance."""
    return np.clip(np.float32(0.5) - distance * np.float32(1 / width_mm), 0, 1)


def draw_tubes(tubes: Tubes, slab: Slab, extra_mm: float | Floats = 0.0) -> F32:
    """Coverage (z, y, x) of a slab by tapered tubes, each `extra_mm` (one value, or one each) thicker."""
    out = np.zeros(slab.shape, dtype=np.float32)
    if not len(tubes.start):
        return out
    radii = tubes.radii + np.reshape(extra_mm, (-1, 1))
    width = slab.voxel_mm
    reach = np.maximum(radii.max(axis=1), THINNEST * width) + 0.5 * width
    low = np.minimum(tubes.start, tubes.end) - reach[:, None]
    high = np.maximum(tubes.start, tubes.end) + reach[:, None]
    first, last = [], []
    for axis, centres in enumerate((slab.x, slab.y, slab.z)):
        step = slab.step[2 - axis]
        first.append(np.clip(np.ceil((low[:, axis] - centres[0]) / step), 0, None).astype(int))
        last.append(np.clip(np.floor((high[:, axis] - centres[0]) / step) + 1, 0, len(centres)).astype(int))
    seen = np.flatnonzero((last[0] > first[0]) & (last[1] > first[1]) & (last[2] > first[2]))
    x, y, z = (c.astype(np.float32) for c in (slab.x, slab.y, slab.z))
    for n in seen.tolist():
        i = slice(first[0][n], last[0][n]), slice(first[1][n], last[1][n]), slice(first[2][n], last[2][n])
        box = out[i[2], i[1], i[0]]
        a = tubes.start[n]
        u = tubes.end[n] - a
        cover = _cone(x[i[0]], y[i[1]], z[i[2]], a.tolist(), u.tolist(), radii[n].tolist(), width)
        np.maximum(box, cover, out=box)
    return out


def _cone(x: F32, y: F32, z: F32, start: list[float], along: list[float], radii: list[float], width: float) -> F32:
    """Coverage of a box by one tapered tube."""
    px, py, pz = (x - start[0])[None, None, :], (y - start[1])[None, :, None], (z - start[2])[:, None, None]
    ux, uy, uz = along
    length2 = max(ux * ux + uy * uy + uz * uz, 1e-9)
    t = (px * (ux / length2) + py * (uy / length2)) + pz * (uz / length2)
    np.clip(t, 0, 1, out=t)
    d2 = (px - t * ux) ** 2
    d2 += (py - t * uy) ** 2
    d2 += (pz - t * uz) ** 2
    distance = np.sqrt(d2, out=d2)
    if min(radii) > 2 * width:
        distance -= radii[0] + t * (radii[1] - radii[0])
        return coverage(distance, width)
    radius = radii[0] + t * (radii[1] - radii[0])
    drawn = np.maximum(radius, THINNEST * width)
    cover = coverage(distance - drawn, width)
    cover *= radius * radius / (drawn * drawn + width * width / 12)
    return np.asarray(cover, dtype=np.float32)


class CoarseGrid:
    """Linear interpolation of fields on a coarse grid to the rows and columns of slices."""

    def __init__(self, axes: tuple[Floats, Floats, Floats], slab: Slab) -> None:
        self._z = axes[0]
        self._rows = _between(axes[1], slab.y)
        self._columns = _between(axes[2], slab.x)

    def slice_at(self, field: F32, z: float) -> F32:
        """The field on the slice at height z, mm: (rows, columns)."""
        below, _, part = (v[0] for v in _between(self._z, np.array([z])))
        plane = field[below] * np.float32(1 - part) + field[below + 1] * np.float32(part)
        i0, i1, t = self._rows
        plane = plane[i0] * (1 - t)[:, None] + plane[i1] * t[:, None]
        j0, j1, s = self._columns
        return np.asarray(np.take(plane, j0, axis=1) * (1 - s) + np.take(plane, j1, axis=1) * s)


def _between(grid: Floats, at: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], F32]:
    """Neighbours on a regular grid and the share of the second."""
    place = np.clip((at - grid[0]) / (grid[1] - grid[0]), 0, len(grid) - 1.001)
    below = place.astype(np.intp)
    return below, below + 1, (place - below).astype(np.float32)

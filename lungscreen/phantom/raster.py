"""Tubes → coverage of voxels, antialiased; fields on a coarse grid → slices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.phantom.trees import Tubes

__all__ = ["RasterGrid", "Slab", "coverage", "draw_tubes"]

Floats = NDArray[np.floating[Any]]

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


def coverage(distance: Floats, width_mm: float) -> Floats:
    """Share of a voxel of that width that lies inside a surface at this signed distance."""
    return np.asarray(np.clip(np.float32(0.5) - distance * np.float32(1 / width_mm), 0, 1))


def draw_tubes(tubes: Tubes, slab: Slab, extras_mm: Sequence[float | Floats] = (0.0,)) -> list[Floats]:
    """Coverage (z, y, x) of a slab by tapered tubes, once for each of `extras_mm`: all or each so much thicker."""
    out = [np.zeros(slab.shape, dtype=np.float32) for _ in extras_mm]
    if not len(tubes.start):
        return out
    grown = [tubes.radii + np.reshape(extra, (-1, 1)) for extra in extras_mm]
    width = slab.voxel_mm
    reach = np.maximum(np.max(grown, axis=(0, 2)), THINNEST * width) + 0.5 * width
    first, last = _boxes(tubes, slab, reach)
    x, y, z = (c.astype(np.float32) for c in (slab.x, slab.y, slab.z))
    radii = np.stack(grown, axis=1).tolist()
    for n in np.flatnonzero((last > first).all(axis=1)).tolist():
        i, j, k = (slice(a, b) for a, b in zip(first[n].tolist(), last[n].tolist(), strict=True))
        start = tubes.start[n]
        t, distance = _axis_distance(x[i], y[j], z[k], start.tolist(), (tubes.end[n] - start).tolist())
        for layer, (r0, r1) in zip(out, radii[n], strict=True):
            box = layer[k, j, i]
            np.maximum(box, _tube_coverage(t, distance, r0, r1, width), out=box)
    return out


def _boxes(tubes: Tubes, slab: Slab, reach: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last (exclusive) index (n, 3) along x, y, z of the voxels that each tube may touch."""
    low = np.minimum(tubes.start, tubes.end) - reach[:, None]
    high = np.maximum(tubes.start, tubes.end) + reach[:, None]
    origin = np.array([slab.x[0], slab.y[0], slab.z[0]])
    step = np.array(slab.step[::-1])
    count = np.array(slab.shape[::-1])
    first = np.clip(np.ceil((low - origin) / step), 0, count).astype(np.int64)
    last = np.clip(np.floor((high - origin) / step) + 1, 0, count).astype(np.int64)
    return first, last


def _axis_distance(x: Floats, y: Floats, z: Floats, start: list[float], along: list[float]) -> tuple[Floats, Floats]:
    """How far along a tube (0 to 1) each voxel of a box lies, and its distance from the tube's axis."""
    px, py, pz = (x - start[0])[None, None, :], (y - start[1])[None, :, None], (z - start[2])[:, None, None]
    ux, uy, uz = along
    length2 = max(ux * ux + uy * uy + uz * uz, 1e-9)
    t = (px * (ux / length2) + py * (uy / length2)) + pz * (uz / length2)
    np.maximum(t, 0, out=t)
    np.minimum(t, 1, out=t)
    d2 = (px - t * ux) ** 2
    d2 += (py - t * uy) ** 2
    d2 += (pz - t * uz) ** 2
    return t, np.sqrt(d2, out=d2)


def _tube_coverage(t: Floats, distance: Floats, r0: float, r1: float, width: float) -> Floats:
    if max(r0, r1) <= 0:
        return np.zeros_like(t)
    if min(r0, r1) > 2 * width:
        return coverage(distance - (r0 + t * (r1 - r0)), width)
    radius = np.maximum(r0 + t * (r1 - r0), 0)
    drawn = np.maximum(radius, THINNEST * width)
    cover = coverage(distance - drawn, width)
    cover *= radius * radius / (drawn * drawn + width * width / 12)
    return cover


class RasterGrid:
    """Linear interpolation of fields on a coarse grid to the rows and columns of slices."""

    def __init__(self, axes: tuple[Floats, Floats, Floats], slab: Slab) -> None:
        self._z = axes[0]
        self._rows = _between(axes[1], slab.y)
        self._columns = _between(axes[2], slab.x)

    def slice_at(self, field: Floats, z: float) -> Floats:
        """The field on the slice at height z, mm: (rows, columns)."""
        below, _, part = (v[0] for v in _between(self._z, np.array([z])))
        plane = field[below] * np.float32(1 - part) + field[below + 1] * np.float32(part)
        i0, i1, t = self._rows
        plane = plane[i0] * (1 - t)[:, None] + plane[i1] * t[:, None]
        j0, j1, s = self._columns
        return np.asarray(np.take(plane, j0, axis=1) * (1 - s) + np.take(plane, j1, axis=1) * s)


def _between(grid: Floats, at: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
    """Neighbours on a regular grid and the share of the second."""
    place = np.clip((at - grid[0]) / (grid[1] - grid[0]), 0, len(grid) - 1.001)
    below = place.astype(np.intp)
    return below, below + 1, (place - below).astype(np.float32)

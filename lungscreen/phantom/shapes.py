"""Smooth bodies as signed distances on a grid of points, evaluated only where they matter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["FAR_MM", "Ball", "Path", "Shape", "Space", "blend_into", "superellipse", "to_distance", "union"]

Floats = NDArray[np.floating[Any]]

FAR_MM = 60.0
"""What stands for any larger distance."""
MARGIN_MM = 22.0
"""A shape's distance is worked out this far around it."""


class Space:
    """Points (nz, ny, nx) of a grid, perhaps bent: their anatomy coordinates x, y, z, float32."""

    def __init__(self, x: Floats, y: Floats, z: Floats) -> None:
        self.x, self.y, self.z = x, y, z
        others = ((1, 2), (0, 2), (0, 1))
        self._ranges = [[(c.min(axis=o), c.max(axis=o)) for o in others] for c in (x, y, z)]

    def box(self, low: Floats, high: Floats) -> tuple[slice, slice, slice] | None:
        """The part of the grid that may hold points between two corners (x, y, z); None where there is none."""
        slices = []
        for axis in range(3):
            near = np.ones(self.x.shape[axis], dtype=bool)
            for coordinate in range(3):
                least, most = self._ranges[coordinate][axis]
                near &= (most >= low[coordinate]) & (least <= high[coordinate])
            found = np.flatnonzero(near)
            if not len(found):
                return None
            slices.append(slice(int(found[0]), int(found[-1]) + 1))
        return slices[0], slices[1], slices[2]

    def at(self, box: tuple[slice, slice, slice]) -> tuple[Floats, Floats, Floats]:
        """Coordinates in a part of the grid."""
        return self.x[box], self.y[box], self.z[box]


class Shape(Protocol):
    """Something with a box around it and a signed distance."""

    def pieces(self) -> Iterable[Shape]:
        """Parts that are worth evaluating one by one."""

    def bounds(self) -> tuple[Floats, Floats]:
        """Lowest and highest corner, (x, y, z)."""

    def distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Signed distance in mm, negative inside."""


@dataclass(frozen=True, eq=False)
class Ball:
    """Ellipsoid; its semi-axes lie along the rows of `axes`."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    axes: Floats = field(default_factory=lambda: np.eye(3))

    def pieces(self) -> Iterable[Shape]:
        """Itself."""
        return (self,)

    def bounds(self) -> tuple[Floats, Floats]:
        """Box around the sphere that holds it."""
        reach = max(self.radii)
        return np.array(self.centre) - reach, np.array(self.centre) + reach

    def distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Exact to first order near the surface."""
        px, py, pz = (c - np.float32(o) for c, o in zip((x, y, z), self.centre, strict=True))
        rows = [[np.float32(v) for v in row] for row in self.axes]
        local = [a * px + b * py + c * pz for a, b, c in rows]
        u = [c / np.float32(r) for c, r in zip(local, self.radii, strict=True)]
        k0 = np.sqrt(u[0] ** 2 + u[1] ** 2 + u[2] ** 2)
        v = [c / np.float32(r) for c, r in zip(u, self.radii, strict=True)]
        k1 = np.sqrt(v[0] ** 2 + v[1] ** 2 + v[2] ** 2)
        return np.asarray(k0 * (k0 - 1) / np.maximum(k1, np.float32(1e-6)))


@dataclass(frozen=True, eq=False)
class Path:
    """Chain of round cones through (x, y, z, radius)."""

    points: tuple[tuple[float, float, float, float], ...]

    def pieces(self) -> Iterable[Shape]:
        """Its cones."""
        return [Path(pair) for pair in pairwise(self.points)]

    def bounds(self) -> tuple[Floats, Floats]:
        """Box around all of it."""
        rows = np.array(self.points)
        return (rows[:, :3] - rows[:, 3:]).min(axis=0), (rows[:, :3] + rows[:, 3:]).max(axis=0)

    def distance(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """To the nearest cone."""
        return np.asarray(np.min([_cone_distance(a, b, x, y, z) for a, b in pairwise(self.points)], axis=0))


def _cone_distance(a: tuple[float, ...], b: tuple[float, ...], x: Floats, y: Floats, z: Floats) -> Floats:
    ux, uy, uz, ur = (np.float32(q - p) for p, q in zip(a, b, strict=True))
    px, py, pz = x - np.float32(a[0]), y - np.float32(a[1]), z - np.float32(a[2])
    t = np.clip((px * ux + py * uy + pz * uz) / (ux * ux + uy * uy + uz * uz), 0, 1)
    d2 = (px - t * ux) ** 2 + (py - t * uy) ** 2 + (pz - t * uz) ** 2
    return np.asarray(np.sqrt(d2) - (np.float32(a[3]) + t * ur))


def union(space: Space, shapes: Iterable[Shape], blend_mm: float = 0.0, margin_mm: float = MARGIN_MM) -> Floats:
    """Distance to the nearest of the shapes, corners filled over `blend_mm`; FAR_MM where all are beyond the margin."""
    out = np.full(space.x.shape, FAR_MM, dtype=np.float32)
    for shape in shapes:
        for piece in shape.pieces():
            low, high = piece.bounds()
            box = space.box(low - margin_mm, high + margin_mm)
            if box is not None:
                blend_into(out[box], piece.distance(*space.at(box)), blend_mm)
    return out


def blend_into(out: Floats, other: Floats, blend_mm: float = 0.0) -> None:
    """`out` becomes the union of both, in place."""
    if blend_mm:
        overlap = np.maximum(np.float32(blend_mm) - np.abs(out - other), 0)
        np.minimum(out, other, out=out)
        out -= overlap * overlap * np.float32(0.25 / blend_mm)
    else:
        np.minimum(out, other, out=out)


def superellipse(x: Floats, y: Floats, a: Floats, b: Floats, power: float) -> Floats:
    """Level-set function of |x/a|ⁿ + |y/b|ⁿ = 1."""
    total = np.abs(x / a) ** np.float32(power) + np.abs(y / b) ** np.float32(power)
    return np.asarray(total ** np.float32(1 / power) - 1)


def to_distance(level: Floats, spacing_mm: tuple[float, float, float]) -> Floats:
    """A level-set function on a grid → distance to first order, mm, bounded to ±FAR_MM."""
    slopes = np.gradient(level, *spacing_mm)
    steep = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
    return np.asarray(np.clip(level / np.maximum(steep, 1e-4), -FAR_MM, FAR_MM), dtype=np.float32)

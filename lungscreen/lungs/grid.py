"""The coarse grid of the lung stage: shrinking, boxes, components.

    int16 HU, about 0.7 × 0.7 × 1 mm ─► float32 HU, about 2.2 mm, whole voxels averaged

Everything that needs the whole chest at once (what is air, what is body, what is lung) is decided here, where a scan
has a few million voxels; the border is drawn again on the volume's own grid by `refine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from lungscreen.geometry import Box
from lungscreen.morphology import Mask

__all__ = [
    "CLIP_HU",
    "CoarseGrid",
    "labelled",
    "largest_first",
    "narrowed",
    "slice_hulls",
    "widened",
    "without_holes",
]

CLIP_HU = (-1024, 1000)
"""Metal and overflow say nothing about lungs; clipped, they cannot outweigh a voxel's neighbours either."""


@dataclass(frozen=True, eq=False)
class CoarseGrid:
    """A volume averaged over whole voxels.

    hu: float32 (z, y, x).
    factors: volume voxels per coarse voxel along (z, y, x).
    spacing_mm: along (z, y, x).
    start: coarse voxel (z, y, x) of the whole volume at which a part begins.
    """

    hu: NDArray[np.float32]
    factors: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    start: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def shrink(cls, hu: NDArray[np.int16], spacing_mm: tuple[float, float, float], coarse_mm: float) -> CoarseGrid:
        """Average blocks of about `coarse_mm`; voxels that fill no whole block at the far ends are left out."""
        factors = [max(1, min(round(coarse_mm / s), n)) for s, n in zip(spacing_mm, hu.shape, strict=True)]
        fz, fy, fx = factors
        nz, ny, nx = (n // f for n, f in zip(hu.shape, factors, strict=True))
        coarse = np.empty((nz, ny, nx), np.float32)
        for k in range(nz):
            slab = np.clip(hu[k * fz : (k + 1) * fz, : ny * fy, : nx * fx], *CLIP_HU).sum(axis=0, dtype=np.int32)
            rows = sum((slab[n::fy] for n in range(1, fy)), start=slab[0::fy])
            coarse[k] = sum((rows[:, n::fx] for n in range(1, fx)), start=rows[:, 0::fx])
        coarse /= fz * fy * fx
        z, y, x = (s * f for s, f in zip(spacing_mm, factors, strict=True))
        return cls(coarse, (fz, fy, fx), (z, y, x))

    def part(self, box: Box) -> CoarseGrid:
        """A part of the grid."""
        start = (self.start[0] + box[0].start, self.start[1] + box[1].start, self.start[2] + box[2].start)
        return CoarseGrid(np.ascontiguousarray(self.hu[box]), self.factors, self.spacing_mm, start)

    def steps(self, mm: float) -> tuple[int, int, int]:
        """A length in whole voxels along (z, y, x), at least one."""
        z, y, x = (max(1, round(mm / s)) for s in self.spacing_mm)
        return z, y, x

    def on_volume(self, voxel: tuple[int, int, int]) -> tuple[float, float, float]:
        """The centre of a coarse voxel as an index (z, y, x) of the whole volume."""
        places = zip(voxel, self.start, self.factors, strict=True)
        z, y, x = ((index + start + 0.5) * factor - 0.5 for index, start, factor in places)
        return z, y, x

    @property
    def voxel_ml(self) -> float:
        """Volume of one coarse voxel."""
        return float(np.prod(self.spacing_mm)) / 1000

    @property
    def pixel_mm2(self) -> float:
        """Area of one coarse voxel in its slice."""
        return self.spacing_mm[1] * self.spacing_mm[2]


def widened(mask: Mask, steps: tuple[int, int, int]) -> Mask:
    """Everything within so many voxels along each axis: a box's dilation, many times as fast as a ball's."""
    result = mask.copy()
    for axis, count in enumerate(steps):
        for _ in range(count):
            source = result.copy()
            moved = np.moveaxis(result, axis, 0)
            before = np.moveaxis(source, axis, 0)
            moved[1:] |= before[:-1]
            moved[:-1] |= before[1:]
    return result


def narrowed(mask: Mask, steps: tuple[int, int, int]) -> Mask:
    """What is farther than so many voxels along each axis from everything else; beyond the array counts as mask."""
    return ~widened(~mask, steps)


def labelled(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Components (through faces) and their sizes in voxels; sizes[0] is 0."""
    labels, count = ndimage.label(mask, output=np.int32)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return labels, sizes


def without_holes(mask: Mask) -> Mask:
    """The mask and all that it encloses in 3D."""
    labels, sizes = labelled(~np.pad(mask, 1))
    holes = sizes > 0
    holes[labels[0, 0, 0]] = False  # the padding, and all that reaches it
    return mask | holes[labels][1:-1, 1:-1, 1:-1]


def largest_first(sizes: NDArray[np.int64]) -> list[int]:
    """Labels of non-empty components, the largest first, the lower label first among equals."""
    order = np.argsort(-sizes, kind="stable")
    return [int(n) for n in order if sizes[n] > 0]


def slice_hulls(lung: Mask) -> Mask:
    """Convex hull of each slice, by itself."""
    hulls = np.zeros_like(lung)
    for k in np.flatnonzero(lung.any(axis=(1, 2))):
        rows = np.flatnonzero(lung[k].any(axis=1))
        first = lung[k].argmax(axis=1)[rows]
        last = lung.shape[2] - 1 - lung[k, :, ::-1].argmax(axis=1)[rows]
        points = np.concatenate([np.stack([rows, first], 1), np.stack([rows, last], 1)])
        try:
            sides = ConvexHull(points).equations
        except QhullError:  # all in one line
            continue
        box = (slice(rows[0], rows[-1] + 1), slice(int(first.min()), int(last.max()) + 1))
        y, x = np.ogrid[box]
        hull = np.ones((rows[-1] + 1 - rows[0], int(last.max()) + 1 - int(first.min())), np.bool_)
        for a, b, c in sides:
            hull &= a * y + b * x + c <= 1e-6
        hulls[k][box] = hull
    return hulls

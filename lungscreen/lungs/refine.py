"""Back to the volume's own grid.

    right | left on the coarse grid, HU ─► uint8 mask on the volume's grid

Deep inside, and where dense tissue was taken in, the coarse decision stands, its edge made smooth; along the pleura
the volume's own voxels decide, by their HU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lungscreen.lungs.grid import CoarseGrid, narrowed, widened
from lungscreen.morphology import Mask

__all__ = ["refine_border"]

Between = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]
"""Two neighbours of each voxel, and how far it lies from the first to the second."""

SIDE, KEEP = 3, 4
"""Bits of a coarse voxel's code: the side it is nearest to; whether dense voxels in it are lung."""

NEAR = 0.08
"""Smoothed coarse lung of at least this much lies within about a coarse voxel of lung."""


def refine_border(
    hu: NDArray[np.int16],
    grid: CoarseGrid,
    sides: NDArray[np.uint8],
    air: Mask,
    forbidden: Mask,
    border_hu: float,
) -> NDArray[np.uint8]:
    """Mask on the volume's grid: 1 right, 2 left.

    air: coarse voxels that are lung by their HU; the rest of `sides` was filled.
    forbidden: airways and outer air.
    """
    mask = np.zeros(hu.shape, np.uint8)
    lung = sides > 0
    if not lung.any():
        return mask
    keep = lung & (narrowed(lung, (1, 1, 1)) | widened(lung & ~air, (1, 1, 1)))
    code = _spread(sides, forbidden) | np.where(keep, KEEP, 0).astype(np.uint8)
    (z0, z1), (y0, y1), (x0, x1) = (_fine_ends(grid, axis, lung, hu.shape[axis]) for axis in range(3))
    below, above, up = _between(grid, 0, z0, z1)
    rows, columns = _between(grid, 1, y0, y1), _between(grid, 2, x0, x1)
    nearest_z, nearest_y, nearest_x = (
        _nearest(grid, n, *ends) for n, ends in enumerate([(z0, z1), (y0, y1), (x0, x1)])
    )
    planes: dict[int, NDArray[np.float32]] = {}
    for n, k in enumerate(range(z0, z1)):
        first, second = int(below[n]), int(above[n])
        planes = {m: planes[m] if m in planes else _enlarged(lung[m], rows, columns) for m in {first, second}}
        smooth = planes[first] + up[n] * (planes[second] - planes[first])
        codes = code[nearest_z[n]].take(nearest_y, axis=0).take(nearest_x, axis=1)
        dark = hu[k, y0:y1, x0:x1] < border_hu
        inside = (dark & (smooth > NEAR)) | ((codes >= KEEP) & (smooth >= 0.5))
        np.multiply(codes & SIDE, inside, out=mask[k, y0:y1, x0:x1])
    return mask


def _spread(sides: NDArray[np.uint8], forbidden: Mask) -> NDArray[np.uint8]:
    """Sides, and around them the nearest side two voxels wide, but for forbidden places."""
    spread = sides.copy()
    for _ in range(2):
        for side in (1, 2):
            spread[widened(spread == side, (1, 1, 1)) & (spread == 0)] = side
    spread[forbidden & (sides == 0)] = 0
    return spread


def _fine_ends(grid: CoarseGrid, axis: int, lung: Mask, size: int) -> tuple[int, int]:
    """First and last + 1 voxel of the volume that the coarse lungs and one coarse voxel around them cover."""
    factor = grid.factors[axis]
    used = np.flatnonzero(lung.any(axis=tuple({0, 1, 2} - {axis}))) + grid.start[axis]
    stop = (int(used[-1]) + 2) * factor
    return max(0, (int(used[0]) - 1) * factor), size if stop + factor > size else stop


def _between(grid: CoarseGrid, axis: int, start: int, stop: int) -> Between:
    """For the volume's voxels start..stop: the coarse voxels on either side, and how far towards the second."""
    factor, last = grid.factors[axis], grid.hu.shape[axis] - 1
    position = np.clip((np.arange(start, stop) - (factor - 1) / 2) / factor - grid.start[axis], 0, last)
    lower = position.astype(np.intp)
    return lower, np.minimum(lower + 1, last), (position - lower).astype(np.float32)


def _nearest(grid: CoarseGrid, axis: int, start: int, stop: int) -> NDArray[np.intp]:
    """For the volume's voxels start..stop: the coarse voxel that covers each."""
    return np.clip(np.arange(start, stop) // grid.factors[axis] - grid.start[axis], 0, grid.hu.shape[axis] - 1)


def _enlarged(plane: Mask, rows: Between, columns: Between) -> NDArray[np.float32]:
    """One coarse slice on the volume's rows and columns, by linear interpolation."""
    coarse = plane.astype(np.float32)
    left, right, along = columns
    wide = coarse.take(left, axis=1)
    wide += along * (coarse.take(right, axis=1) - wide)
    front, back, across = rows
    fine = wide.take(front, axis=0)
    fine += across[:, None] * (wide.take(back, axis=0) - fine)
    return fine

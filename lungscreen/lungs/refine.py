"""Back to the volume's own grid.

    right | left on the coarse grid, HU ─► uint8 mask on the volume's grid

Deep inside, and where dense tissue was taken in, the coarse decision stands, its edge made smooth; along the pleura
the volume's own voxels decide, by their HU.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lungscreen.lungs.grid import CoarseGrid, Mask, narrowed, widened

__all__ = ["refine_border"]

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

    air: coarse voxels that are lung by their HU; the rest of `sides` was filled. forbidden: airways and outer air.
    """
    mask = np.zeros(hu.shape, np.uint8)
    lung = sides > 0
    if not lung.any():
        return mask
    keep = lung & (narrowed(lung, (1, 1, 1)) | widened(lung & ~air, (1, 1, 1)))
    code = _spread(sides, forbidden) | np.where(keep, 4, 0).astype(np.uint8)
    ends = [_fine_ends(grid, n, np.asarray(lung.any(axis=tuple({0, 1, 2} - {n}))), hu.shape[n]) for n in range(3)]
    (z0, z1), (y0, y1), (x0, x1) = ends
    weights = [_weights(grid, n, *ends[n]) for n in range(3)]
    nearest = [np.clip(np.arange(*ends[n]) // grid.factors[n] - grid.start[n], 0, lung.shape[n] - 1) for n in range(3)]
    region = lung.astype(np.float32)
    across = weights[2].T
    for k in range(z0, z1):
        used = np.flatnonzero(weights[0][k - z0])
        plane = np.tensordot(weights[0][k - z0, used], region[used], axes=1)
        smooth = weights[1] @ plane @ across
        codes = code[nearest[0][k - z0]][nearest[1]][:, nearest[2]]
        dark = hu[k, y0:y1, x0:x1] < border_hu
        inside = (dark & (smooth > NEAR)) | ((codes >= 4) & (smooth >= 0.5))
        mask[k, y0:y1, x0:x1] = np.where(inside, codes & 3, 0)
    return mask


def _spread(sides: NDArray[np.uint8], forbidden: Mask) -> NDArray[np.uint8]:
    """Sides, and around them the nearest side two voxels wide, but for forbidden places."""
    spread = sides.copy()
    for _ in range(2):
        for side in (1, 2):
            spread[widened(spread == side, (1, 1, 1)) & (spread == 0)] = side
    spread[forbidden & (sides == 0)] = 0
    return spread


def _fine_ends(grid: CoarseGrid, axis: int, filled: Mask, size: int) -> tuple[int, int]:
    """First and last + 1 voxel of the volume that the coarse lungs and one coarse voxel around them cover."""
    factor = grid.factors[axis]
    used = np.flatnonzero(filled) + grid.start[axis]
    stop = (int(used[-1]) + 2) * factor
    return max(0, (int(used[0]) - 1) * factor), size if stop + factor > size else stop


def _weights(grid: CoarseGrid, axis: int, start: int, stop: int) -> NDArray[np.float32]:
    """Linear interpolation from coarse voxels to the voxels start..stop of the volume, (stop - start, coarse)."""
    factor, coarse = grid.factors[axis], grid.hu.shape[axis]
    position = (np.arange(start, stop) - (factor - 1) / 2) / factor - grid.start[axis]
    weights = np.maximum(0, 1 - np.abs(np.clip(position, 0, coarse - 1)[:, None] - np.arange(coarse)))
    return np.asarray(weights, dtype=np.float32)

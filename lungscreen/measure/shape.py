"""Outline ─► how round it is, on the scale that LIDC's readers used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lungscreen.measure.sizes import measure_mask

__all__ = ["rate_sphericity"]

CONSTANT, PER_TRANSVERSE, PER_SPREAD = 0.29, 2.44, 1.94
"""Least squares on the readers' majority of 596 nodules of LIDC (training subsets), outlines as the network draws
them."""


def rate_sphericity(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    """How radiologists would rate an outline's roundness, 1 (linear) to 5 (round): an estimate, from its shape alone.

    mask: (z, y, x), not empty. From the short over the long axis in the transverse plane, which readers look at, and
    the least over the largest spread of the voxels in space.
    """
    _, transverse = measure_mask(mask, spacing_mm)
    across = transverse.short_mm / transverse.long_mm
    rating = CONSTANT + PER_TRANSVERSE * across + PER_SPREAD * _least_spread(mask, spacing_mm)
    return float(np.clip(rating, 1.0, 5.0))


def _least_spread(mask: NDArray[np.bool_], spacing_mm: tuple[float, float, float]) -> float:
    """Least over largest standard deviation of where the body is, a voxel's own extent included: 1 for a ball or a
    cube.
    """
    spacing = np.array(spacing_mm)
    places = np.argwhere(mask) * spacing
    away = places - places.mean(axis=0)
    spread = np.linalg.eigvalsh(away.T @ away / len(places) + np.diag(spacing**2) / 12.0)
    return float(np.sqrt(spread[0] / spread[-1]))

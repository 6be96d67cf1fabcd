"""Lungs, HU ─► places where something dense and thick lies in the lungs, or in what they close over.

    1 mm box ─► 2 mm ─► lungs closed by a large ball ─► dense tissue inside ─► middles of the balls that fit into it

A mass takes a piece out of the lung that is full of air: closing the lungs by a ball brings it back in. Vessels of the
hilum and the border of the heart fit in too, so these places are proposals only; a network that sees far around them
has to tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.morphology import closed, distance_mm
from lungscreen.patches import halve

__all__ = ["MassConfig", "propose_masses"]

COARSE = 2
"""Voxels of 1 mm that become one along each axis: masses are large."""

COARSE_MM = (2.0, 2.0, 2.0)

CLOSING_STEP = 2
"""Coarse voxels that become one for the closing: its ball is far larger."""

SMOOTHING = 0.5
"""Standard deviation in coarse voxels of what takes noise off before tissue is called dense."""


@dataclass(frozen=True, slots=True)
class MassConfig:
    """Where a mass may be.

    closing_mm: radius of the ball that closes the lungs.
    dense_hu: denser is no lung.
    ball_mm: radius of the ball that must fit into the dense tissue.
    apart_mm: of two balls whose middles are nearer than this, or than 0.8 of the larger one's radius, the larger stays.
    most: proposals, the thickest.
    """

    closing_mm: float = 16.0
    dense_hu: float = -250.0
    ball_mm: float = 6.5
    apart_mm: float = 8.0
    most: int = 24

    def __post_init__(self) -> None:
        if min(self.closing_mm, self.ball_mm, self.apart_mm) <= 0 or self.most < 0:
            raise ValueError("closing_mm, ball_mm, apart_mm: expected more than 0; most: expected 0 or more")


def propose_masses(
    hu: NDArray[np.int16], lungs: NDArray[np.bool_], config: MassConfig | None = None
) -> NDArray[np.float32]:
    """(n, 4): z, y, x in voxels, and the radius in mm of the ball that fits there; the thickest first.

    hu, lungs: (z, y, x) at 1 mm, a box around the lungs.
    """
    config = config or MassConfig()
    if min(hu.shape) < COARSE or not lungs.any() or not config.most:
        return np.empty((0, 4), np.float32)
    coarse = ndimage.gaussian_filter(halve(hu), SMOOTHING)
    inside = _closed_lungs(_thin(lungs, coarse.shape), config.closing_mm)
    depth = distance_mm(~(inside & (coarse > config.dense_hu)), COARSE_MM)
    top = (ndimage.maximum_filter(depth, 5) == depth) & (depth > config.ball_mm)
    places = np.argwhere(top)
    radii = depth[tuple(places.T)]
    order = np.argsort(-radii, kind="stable")
    kept: list[tuple[NDArray[np.intp], float]] = []
    for place, radius in zip(places[order], radii[order], strict=True):
        near = (np.linalg.norm((place - other) * COARSE_MM) <= max(config.apart_mm, 0.8 * r) for other, r in kept)
        if not any(near):
            kept.append((place, float(radius)))
        if len(kept) == config.most:
            break
    middle = (COARSE - 1) / 2
    return np.array([[*(p * COARSE + middle), r] for p, r in kept], np.float32).reshape(-1, 4)


def _thin(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Every other voxel of a mask, so many of them."""
    return mask[tuple(slice(0, COARSE * n, COARSE) for n in shape)]


def _closed_lungs(lungs: NDArray[np.bool_], closing_mm: float) -> NDArray[np.bool_]:
    """Lungs closed by a ball, on a grid half as fine, and the lungs themselves."""
    thin = lungs[::CLOSING_STEP, ::CLOSING_STEP, ::CLOSING_STEP]
    step = COARSE_MM[0] * CLOSING_STEP
    filled = closed(thin, closing_mm, (step, step, step))
    for axis in range(3):
        filled = filled.repeat(CLOSING_STEP, axis)
    z, y, x = lungs.shape
    return filled[:z, :y, :x] | lungs

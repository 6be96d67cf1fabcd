"""A nodule that one exam shows ─► Sighting: whether the other exam's image shows the same thing there.

The nodule with what is around it is laid over the other image, shifted a little to every side; how alike the best place
is (correlation of grey values) says whether it is the same thing. No network is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Vector
from lungscreen.growth.config import GrowthConfig
from lungscreen.patches import cut_patch
from lungscreen.records import Volume

__all__ = ["Sighting", "look_again"]

STEP_MM = 1.0
AROUND_MM = 3.0
"""Tissue around the nodule that is compared too."""
LEAST_HALF_MM, MOST_HALF_MM = 6.0, 20.0
"""Bounds of half the compared cube's side."""
DARKEST_HU, BRIGHTEST_HU = -1000.0, 200.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """The place in the other exam that looks most like the nodule, LPS mm, and how alike it is (correlation, -1 to 1)."""

    centre_mm: Vector
    likeness: float


def look_again(
    shown: Volume,
    centre_mm: Vector,
    diameter_mm: float,
    other: Volume,
    expected_mm: Vector,
    config: GrowthConfig | None = None,
) -> Sighting | None:
    """Look in `other`, around `expected_mm`, for what `shown` shows at `centre_mm`. None where that lies outside."""
    config = config or GrowthConfig()
    if not other.geometry.contains(expected_mm):
        return None
    half = round(min(max(diameter_mm / 2 + AROUND_MM, LEAST_HALF_MM), MOST_HALF_MM) / STEP_MM)
    reach = round(config.again_mm / STEP_MM)
    template = _cube(shown, centre_mm, half)
    field = _cube(other, expected_mm, half + reach)
    likeness = _correlate(field, template)
    best = np.unravel_index(int(likeness.argmax()), likeness.shape)
    spacing = np.array(other.geometry.spacing_mm)
    shift = (np.array(best) - reach) * STEP_MM / spacing
    x, y, z = other.geometry.to_mm(other.geometry.to_index(expected_mm) + shift)
    return Sighting((float(x), float(y), float(z)), float(likeness[best]))


def _cube(volume: Volume, centre_mm: Vector, half: int) -> NDArray[np.float32]:
    patch = cut_patch(volume.hu, volume.geometry, centre_mm, 2 * half + 1, STEP_MM)
    return np.clip(patch.hu, DARKEST_HU, BRIGHTEST_HU).astype(np.float32)


def _correlate(field: NDArray[np.float32], template: NDArray[np.float32]) -> NDArray[np.float64]:
    """Pearson's correlation of the template with the field, at every shift at which it lies within."""
    from scipy.signal import fftconvolve

    wanted = template.astype(np.float64) - template.mean()
    norm = float(np.sqrt(np.square(wanted).sum()))
    values = field.astype(np.float64) - field.mean()
    ones = np.ones_like(wanted)
    product = fftconvolve(values, wanted[::-1, ::-1, ::-1], mode="valid")
    sums = fftconvolve(values, ones, mode="valid")
    squares = fftconvolve(np.square(values), ones, mode="valid")
    spread = np.sqrt(np.maximum(squares - np.square(sums) / wanted.size, 0.0))
    return np.asarray(np.divide(product, spread * norm, out=np.zeros_like(product), where=spread * norm > 1.0))

"""A nodule that one exam shows ─► Sighting: whether the other exam's image shows the same thing there.

The nodule with what is around it is laid over the other image, shifted a little to every side, and the best place is
taken. Vessels around a faint nodule look alike whether it is there or not, so what stands out from the lung at the
nodule itself has to be there too. No network is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.comparison.config import ComparisonConfig
from lungscreen.geometry import Vector
from lungscreen.patches import cut_patch
from lungscreen.records import Volume

__all__ = ["Sighting", "look_again"]

STEP_MM = 1.0
AROUND_MM = 3.0
"""Tissue around the nodule that is compared too."""
LEAST_HALF_MM, MOST_HALF_MM = 6.0, 20.0
"""Bounds of half the compared cube's side."""
DARKEST_HU, BRIGHTEST_HU = -1000.0, 200.0
CORE_SHARE = 0.7
"""Share of the radius within which a nodule's density is taken."""
DARK_PERCENT = 30
"""Percentile that stands for the darker part: of the surroundings that is lung without vessels."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """The place in the other exam that looks most like the nodule with what is around it, LPS mm.

    likeness: correlation of grey values there, -1 to 1.
    contrast: how much denser than the lung around it is there at the nodule's core, as a share of what it is in the
        exam that shows the nodule.
    """

    centre_mm: Vector
    likeness: float
    contrast: float


def look_again(
    shown: Volume,
    centre_mm: Vector,
    diameter_mm: float,
    other: Volume,
    expected_mm: Vector,
    config: ComparisonConfig | None = None,
) -> Sighting | None:
    """Look in `other`, around `expected_mm`, for what `shown` shows at `centre_mm`. None where that lies outside."""
    config = config or ComparisonConfig()
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
    k, j, i = (int(n) for n in best)
    side = 2 * half + 1
    there = field[k : k + side, j : j + side, i : i + side]
    contrast = _contrast(there, diameter_mm / 2) / max(_contrast(template, diameter_mm / 2), 1.0)
    return Sighting((float(x), float(y), float(z)), float(likeness[best]), contrast)


def _contrast(cube: NDArray[np.float32], radius_mm: float) -> float:
    """How dense even the core's darker part is, above the darker part of what is around, HU.

    A nodule fills its core; a vessel that crosses the place fills a part of it.
    """
    axis = (np.arange(cube.shape[0]) - (cube.shape[0] - 1) / 2) * STEP_MM
    away = np.sqrt(axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2)
    core = cube[away <= max(CORE_SHARE * radius_mm, STEP_MM)]
    around = cube[away > min(radius_mm + STEP_MM, axis[-1])]
    return float(np.percentile(core, DARK_PERCENT) - np.percentile(around, DARK_PERCENT))


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

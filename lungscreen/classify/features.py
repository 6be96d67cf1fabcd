"""What is measured of a nodule inside the outline that the rating network draws: patch, outline ─► numbers for the
score.

Size, shape, density, edge and what lies around: what a radiologist's eye goes by too. They are taken on the network's
own voxels of 1 mm, so that the score needs nothing from other stages; what the report calls size is measured elsewhere,
finer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["FEATURES", "OUTLINE_LEVEL", "main_part", "measure_features"]

Array = NDArray[np.float32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

OUTLINE_LEVEL = 0.4
"""Probability from which a voxel is taken for the nodule's."""

HU_RANGE = (-1000.0, 400.0)
"""What lies outside is clipped; the calcium share and the densest voxels are taken before."""

SHELLS_MM = ((0.0, 1.5), (1.5, 3.5), (3.5, 7.0))
"""Layers around the outline that are looked at, by distance."""

SOLID, DENSE, CALCIUM = -0.3, -0.4, 0.25
"""In 1000 HU: from where tissue counts as solid, as dense around the nodule, as calcified."""

CROSS = ndimage.generate_binary_structure(3, 1)

FEATURES = (
    "log volume", "radius", "radius squared", "elongation", "flatness", "longest", "surface", "reach", "thin parts",
    "dents", "density 5 %", "density 25 %", "density 50 %", "density 75 %", "density 95 %", "density", "density sd",
    "solid share", "calcium share", "densest", "core", "core sd",
    "rim density", "rim density 25 %", "rim dense share", "rim sd",
    "near density", "near density 25 %", "near dense share", "near sd",
    "around density", "around density 25 %", "around dense share", "around sd",
    "contrast", "edge", "edge by contrast", "spicules", "largest spicule", "radius sd",
)  # fmt: skip
"""In order."""


def measure_features(hu: Array, inside: Array) -> Floats:
    """HU and outline probability of one patch, both (p, p, p) at 1 mm → `FEATURES`, (40,).

    The part that is large and near the middle is taken; where nothing is drawn, the likeliest voxel and its neighbours.
    """
    mask = main_part(inside)
    soft = np.where(ndimage.binary_dilation(mask, iterations=2), inside, 0)
    volume = max(float(soft.sum()), 0.5 * float(mask.sum()), 1.0)
    radius = (3 * volume / (4 * np.pi)) ** (1 / 3)
    points = np.argwhere(mask)
    centre = points.mean(axis=0)
    raw = (hu / 1000).astype(np.float64)
    clipped = np.clip(raw, HU_RANGE[0] / 1000, HU_RANGE[1] / 1000)
    away = ndimage.distance_transform_edt(~mask)
    shells = [(away > low) & (away <= high) for low, high in SHELLS_MM]
    core = ndimage.binary_erosion(mask)
    if core.sum() < 4:
        core = mask
    density = _density(raw[mask], clipped[mask], clipped[core])
    contrast = density[-2] - np.percentile(clipped[shells[2]] if shells[2].any() else clipped, 20)
    return np.array(
        [
            *_shape(mask, soft, points - centre, volume, radius),
            *density,
            *(value for shell in shells for value in _layer(clipped[shell] if shell.any() else clipped.ravel())),
            *_border(clipped, (mask & ~ndimage.binary_erosion(mask)) | shells[0], contrast),
            *_spicules(clipped[shells[1]], np.argwhere(shells[1]) - centre),
            _radius_spread(points - centre, radius),
        ]
    )


def main_part(inside: Array) -> Mask:
    """Of an outline's probability, the part that is large and near the middle."""
    labels, count = ndimage.label(inside >= OUTLINE_LEVEL)
    if not count:
        mask = np.zeros(inside.shape, dtype=bool)
        mask[np.unravel_index(np.argmax(inside), inside.shape)] = True
        return np.asarray(ndimage.binary_dilation(mask))
    index = np.argwhere(labels > 0)
    label = labels[tuple(index.T)]
    away = np.full(count + 1, np.inf)
    np.minimum.at(away, label, np.linalg.norm(index - (inside.shape[0] - 1) / 2, axis=1))
    size = np.bincount(label, minlength=count + 1)
    return np.asarray(labels == np.argmax(np.where(size > 0, size * np.exp(-away / 3), -1.0)))


def _shape(mask: Mask, soft: Array, points: Floats, volume: float, radius: float) -> list[float]:
    spread = np.linalg.eigvalsh(points.T @ points / len(points) + np.eye(3) / 12)[::-1]
    axes = np.sqrt(5 * spread)
    smooth = ndimage.gaussian_filter(soft.astype(np.float32), 0.7)
    surface = float(np.sqrt(sum(np.square(part) for part in np.gradient(smooth))).sum())
    opened = float(ndimage.binary_opening(mask, CROSS).sum())
    closed = float(ndimage.binary_closing(np.pad(mask, 3), CROSS, iterations=2).sum())
    return [
        np.log(volume),
        radius,
        radius**2,
        np.log(axes[0] / axes[1]),
        np.log(axes[1] / axes[2]),
        2 * axes[0],
        np.log(max(surface, 1.0) / (4 * np.pi * radius**2)),
        np.log((np.linalg.norm(points, axis=1).max() + 0.5) / radius),
        1 - opened / mask.sum(),
        closed / mask.sum() - 1,
    ]


def _density(raw: Floats, inside: Floats, core: Floats) -> list[float]:
    return [
        *np.percentile(inside, (5, 25, 50, 75, 95)),
        inside.mean(),
        inside.std(),
        (inside > SOLID).mean(),
        (raw > CALCIUM).mean(),
        np.clip(np.percentile(raw, 95), -1, 1.5),
        core.mean(),
        core.std(),
    ]


def _layer(values: Floats) -> list[float]:
    return [values.mean(), float(np.percentile(values, 25)), (values > DENSE).mean(), values.std()]


def _border(clipped: Floats, edge: Mask, contrast: float) -> list[float]:
    """Contrast, steepness of the edge, and steepness by contrast."""
    slopes = np.gradient(ndimage.gaussian_filter(clipped, 0.5))
    steep = float(np.sqrt(sum(np.square(part) for part in slopes))[edge].mean())
    return [contrast, steep, steep / max(contrast, 0.05)]


def _spicules(values: Floats, points: Floats) -> list[float]:
    """How the density of the layer around differs by direction: its spread and its highest."""
    if not len(values):
        return [0.0, 0.0]
    direction = _nearest_direction(points)
    count = np.bincount(direction, minlength=len(DIRECTIONS))
    mean = np.bincount(direction, values, len(DIRECTIONS))[count > 0] / count[count > 0]
    return [mean.std() if len(mean) > 5 else 0.0, mean.max()]


def _radius_spread(points: Floats, radius: float) -> float:
    """How the outline's reach differs by direction, as a share of its radius."""
    reach = np.zeros(len(DIRECTIONS))
    np.maximum.at(reach, _nearest_direction(points), np.linalg.norm(points, axis=1))
    reach = reach[reach > 0]
    return float(reach.std() / radius) if len(reach) > 5 else 0.0


def _nearest_direction(points: Floats) -> NDArray[np.intp]:
    unit = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-6)
    return np.asarray(np.argmax(unit @ DIRECTIONS.T, axis=1))


def _directions(count: int) -> Floats:
    """Points spread evenly over a sphere, (count, 3)."""
    n = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * n / count), np.pi * (1 + 5**0.5) * n
    return np.stack([np.cos(polar), np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn)], axis=1)


DIRECTIONS = _directions(48)

"""Masks whose voxels need not be cubes: dilation, erosion and closing by balls in millimetres; the box around one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Box

__all__ = ["Mask", "box_around", "closed", "dilated", "distance_mm", "eroded"]

Mask = NDArray[np.bool_]


def distance_mm(mask: Mask, spacing_mm: tuple[float, float, float]) -> NDArray[np.float32]:
    """Distance (mm) of each voxel to the nearest voxel of the mask, from centre to centre; 0 inside it."""
    import SimpleITK

    sitk: Any = SimpleITK
    if not mask.any():
        return np.full(mask.shape, np.inf, np.float32)
    image = sitk.GetImageFromArray(mask.view(np.uint8))
    image.SetSpacing(spacing_mm[::-1])
    distance = sitk.SignedMaurerDistanceMap(image, insideIsPositive=False, squaredDistance=False, useImageSpacing=True)
    return np.asarray(np.maximum(sitk.GetArrayViewFromImage(distance), 0), dtype=np.float32)


def dilated(mask: Mask, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Everything within a ball's radius of the mask."""
    return np.asarray(distance_mm(mask, spacing_mm) <= radius_mm)


def eroded(mask: Mask, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """What is farther than a ball's radius from everything else; the world beyond the array counts as mask."""
    return np.asarray(distance_mm(~mask, spacing_mm) > radius_mm)


def closed(mask: Mask, radius_mm: float, spacing_mm: tuple[float, float, float]) -> Mask:
    """Closing by a ball: gaps that the ball cannot enter from outside are filled."""
    margin = [int(np.ceil(radius_mm / s)) + 1 for s in spacing_mm]
    padded = np.pad(mask, [(m, m) for m in margin])
    filled = eroded(dilated(padded, radius_mm, spacing_mm), radius_mm, spacing_mm)
    return filled[tuple(slice(m, m + n) for m, n in zip(margin, mask.shape, strict=True))] | mask


def box_around(mask: Mask, margin: tuple[int, int, int]) -> Box:
    """The smallest box around a mask that is not empty, with a margin in voxels as far as there is room."""
    ends = []
    for axis in range(3):
        used = np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis})))
        first, last = int(used[0]), int(used[-1])
        ends.append(slice(max(0, first - margin[axis]), min(mask.shape[axis], last + 1 + margin[axis])))
    return ends[0], ends[1], ends[2]

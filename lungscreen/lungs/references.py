"""What air in the windpipe, blood and fat between the lungs measure, against what they are.

They hold where a box around the lungs has no air outside the body. In thirteen scans air in trachea and main bronchi
had its median between -1000 and -943 HU, the soft tissue between the lungs between 31 HU and, with contrast, 236 HU,
and fat its peak between -111 and -99 HU, once at -89; in phantoms they are what they were made with.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.errors import Notice
from lungscreen.lungs.grid import CoarseGrid
from lungscreen.morphology import Mask

__all__ = ["References", "measure_references", "reference_notices"]

AIRWAY_HU, FAT_HU = -968.0, -104.0
"""The middle of what the scans had."""
AIRWAY_OFF_HU, FAT_OFF_HU = 10.0, 14.0
"""Both off by so much, the same way: said."""
AIRWAY_RANGE_HU = (-1018.0, -890.0)
"""Air in the windpipe measures no less and no more, by itself."""
BLOOD_RANGE_HU = (5.0, 400.0)
"""Blood, with or without contrast, and muscle measure no less and no more."""
BLOOD_WINDOW_HU = (-60.0, 600.0)
"""Fat and bone between the lungs lie outside."""
FAT_WINDOW_HU = (-170, -50)
"""Where fat's peak is looked for, and as much higher or lower as the airways' air measures too much or too little."""
SMOOTH_HU = 21
HEART_HEIGHTS = (0.25, 0.6)
"""Where between the lungs' base and apex heart and great vessels lie."""
EDGE_STEPS = 2
"""Coarse voxels left out at the border of what lies between the lungs."""
LEAST_VOXELS = 200
"""Coarse ones: in fewer nothing is measured."""


@dataclass(frozen=True, slots=True)
class References:
    """Medians in HU of the airways' air and of the soft tissue between the lungs, and fat's peak; None where there is
    too little of it.
    """

    airway_hu: float | None = None
    blood_hu: float | None = None
    fat_hu: float | None = None


def measure_references(grid: CoarseGrid, airways: Mask | None, sides: NDArray[np.uint8]) -> References:
    """airways: their lumen.
    sides: 1 right lung, 2 left lung.
    """
    lumen = None if airways is None else grid.hu[ndimage.binary_erosion(airways)]
    between = grid.hu[_heart_level(sides)][_between(sides[_heart_level(sides)])]
    soft = between[(between > BLOOD_WINDOW_HU[0]) & (between < BLOOD_WINDOW_HU[1])]
    airway = _median(lumen)
    return References(airway, _median(soft), _fat(grid.hu, 0.0 if airway is None else airway - AIRWAY_HU))


def reference_notices(found: References) -> Iterator[Notice]:
    """What is said of references that are off."""
    airway, blood, fat = found.airway_hu, found.blood_hu, found.fat_hu
    if airway is not None and not AIRWAY_RANGE_HU[0] <= airway <= AIRWAY_RANGE_HU[1]:
        yield Notice("values-odd", f"Air in the windpipe measures {airway:.0f} HU: the values may be off.")
    elif airway is not None and fat is not None:
        off, too = airway - AIRWAY_HU, fat - FAT_HU
        if abs(off) >= AIRWAY_OFF_HU and abs(too) >= FAT_OFF_HU and off * too > 0:
            both = f"Air in the windpipe measures {airway:.0f} HU and fat {fat:.0f} HU"
            yield Notice("values-shifted", f"{both}: all values may be off by as much.")
    if blood is not None and not BLOOD_RANGE_HU[0] <= blood <= BLOOD_RANGE_HU[1]:
        yield Notice("values-odd", f"Soft tissue between the lungs measures {blood:.0f} HU: the values may be off.")


def _heart_level(sides: NDArray[np.uint8]) -> slice:
    heights = np.flatnonzero(sides.any(axis=(1, 2)))
    if not heights.size:
        return slice(0)
    low, high = (heights[0] + share * (heights[-1] - heights[0]) for share in HEART_HEIGHTS)
    return slice(int(low), int(high))


def _between(sides: NDArray[np.uint8]) -> Mask:
    """What has a lung on either side, row by row, without its border."""
    right, left = sides == 1, sides == 2
    within = (_from_left(right) & _from_right(left)) | (_from_left(left) & _from_right(right))
    return np.asarray(ndimage.binary_erosion(within & (sides == 0), iterations=EDGE_STEPS), np.bool_)


def _from_left(mask: Mask) -> Mask:
    return np.logical_or.accumulate(mask, axis=2)


def _from_right(mask: Mask) -> Mask:
    return np.logical_or.accumulate(mask[:, :, ::-1], axis=2)[:, :, ::-1]


def _median(values: NDArray[np.float32] | None) -> float | None:
    return None if values is None or values.size < LEAST_VOXELS else float(np.median(values))


def _fat(hu: NDArray[np.float32], off_hu: float) -> float | None:
    """The peak between two values; None where it is at either of them, so that it is no peak."""
    low, high = (value + round(off_hu) for value in FAT_WINDOW_HU)
    counts, _ = np.histogram(hu, np.arange(low - SMOOTH_HU, high + SMOOTH_HU + 1))
    smooth = np.convolve(counts, np.ones(SMOOTH_HU) / SMOOTH_HU, "same")[SMOOTH_HU:-SMOOTH_HU]
    best = int(smooth.argmax())
    return None if best in (0, len(smooth) - 1) or counts.sum() < LEAST_VOXELS else float(low + best)

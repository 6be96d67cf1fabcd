"""Volume ─► what its air, fat and soft tissue measure, against what they are: the whole volume may be off by as much.

In thirteen scans air outside the body had its peak between -1012 and -994 HU and fat, where it had one, between -108
and
-79; in phantoms they are what they were made with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import Notice
from lungscreen.volume.config import LEAST_HU

__all__ = ["ValueLevels", "level_notices", "measure_levels"]

AIR_HU, FAT_HU = -1000.0, -104.0
"""What they measure: air by definition, fat as the median of the scans."""
DARK_HU = -930
"""Where so much of a volume is darker, air outside the body is in it."""
DARK_SHARE = 0.03
NO_PEAK_HU = 30
"""What is most frequent so near to that is lung."""
AIR_OFF_HU, FAT_OFF_HU = 12.0, 14.0
"""Both off by so much, the same way: said. Either alone has other reasons: padding, contrast, noise, little fat."""
AIR_FAR_HU = 60.0
"""No calibration is off by more: where the header leaves the unit open, air is that near to what it should be."""
FAT_WINDOW_HU = (-170, -50)
SOFT_HU = (-200, 200)
SOFT_SHARE = 0.05
"""Less soft tissue than this, and more that is denser: no Hounsfield units of a body."""
STEP = 2
"""Every so many voxels along each axis."""
SMOOTH_HU = 21
SPIKE = 3.0
"""A value so many times as frequent as those around it is padding."""
LEAST_VOXELS = 5_000
"""In fewer of them nothing has a peak or a share."""

_TOP_HU = 1000


@dataclass(frozen=True, slots=True)
class ValueLevels:
    """HU at the peaks of air outside the body and of fat, None where there is no peak; shares of soft and dense
    voxels.
    """

    air_hu: float | None
    fat_hu: float | None
    soft_share: float
    dense_share: float

    @property
    def are_hu(self) -> bool:
        """Whether these can be Hounsfield units of a body."""
        return self.soft_share >= SOFT_SHARE or self.dense_share <= self.soft_share

    @property
    def air_fits(self) -> bool:
        """Whether air outside the body is there and measures roughly what it should."""
        return self.air_hu is not None and abs(self.air_hu - AIR_HU) <= AIR_FAR_HU


def measure_levels(hu: NDArray[np.int16]) -> ValueLevels:
    """hu: (z, y, x), never below -1024."""
    some = np.clip(hu[::STEP, ::STEP, ::STEP], LEAST_HU, _TOP_HU).ravel().astype(np.int32) - LEAST_HU
    counts = np.bincount(some, minlength=_TOP_HU - LEAST_HU + 1).astype(np.float64)
    if some.size < LEAST_VOXELS:
        return ValueLevels(None, None, 1.0, 0.0)
    soft = counts[_index(SOFT_HU[0]) : _index(SOFT_HU[1])].sum() / some.size
    dense = counts[_index(SOFT_HU[1]) :].sum() / some.size
    smooth = np.convolve(_without_spikes(counts), np.ones(SMOOTH_HU) / SMOOTH_HU, "same")
    return ValueLevels(_air(counts / some.size), _peak(smooth, *FAT_WINDOW_HU), float(soft), float(dense))


def level_notices(levels: ValueLevels) -> list[Notice]:
    """What is said of levels that are off."""
    if levels.air_hu is None or levels.fat_hu is None:
        return []
    air, fat = levels.air_hu - AIR_HU, levels.fat_hu - FAT_HU
    if abs(air) < AIR_OFF_HU or abs(fat) < FAT_OFF_HU or air * fat < 0:
        return []
    text = f"Air measures {levels.air_hu:.0f} HU and fat {levels.fat_hu:.0f} HU: all values may be off by as much."
    return [Notice("values-shifted", text)]


def _air(shares: NDArray[np.float64]) -> float | None:
    """Where the air around the body has its peak; -1024 where it was cut off there."""
    if shares[: _index(DARK_HU)].sum() < DARK_SHARE:
        return None
    place = 1 + int(_without_spikes(shares)[1 : _index(DARK_HU)].argmax())
    if place < _index(DARK_HU - NO_PEAK_HU):
        return float(LEAST_HU + place)
    return float(LEAST_HU) if shares[0] >= DARK_SHARE else None


def _index(hu: float) -> int:
    return int(hu) - LEAST_HU


def _without_spikes(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    around = np.stack([np.roll(counts, shift) for shift in (-3, -2, -1, 1, 2, 3)])
    return np.minimum(counts, SPIKE * np.median(around, axis=0))


def _peak(smooth: NDArray[np.float64], low: int, high: int) -> float | None:
    """The highest place between two values; None where it is at either of them, so that it is no peak."""
    part = smooth[_index(low) : _index(high)]
    best = int(part.argmax())
    return None if best in (0, len(part) - 1) else float(low + best)

"""What makes a volume, in numbers. The constants are ours, not the standard's."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "AXIAL_DEGREES",
    "CONTIGUOUS_SHARE",
    "DRIFT_SHARE",
    "FILLED_SLICES",
    "LATERAL_MM",
    "LEAST_HU",
    "LONGEST_STEP_MM",
    "MOST_HU",
    "OVERLAP_SHARE",
    "PADDING_HU",
    "SAME_POSITION_MM",
    "STRAY_MM",
    "STRAY_SLICES",
    "STRAY_STEPS",
    "THICKEST_MM",
    "THICK_MM",
    "TILT_DEGREES",
    "UNIFORM_MM",
    "UNIFORM_SHARE",
    "VolumeConfig",
]

SAME_POSITION_MM = 0.01
"""Slices this near along the normal are at one position."""
UNIFORM_MM = 0.05
"""A step may differ from the median by this much, or by `UNIFORM_SHARE` of it where that is more."""
UNIFORM_SHARE = 0.02
DRIFT_SHARE = 0.5
"""Summed drift stays below this share of a slice."""
FILLED_SLICES = 2
"""Neighbouring slices that may be missing and are interpolated."""
LONGEST_STEP_MM = 5.0
"""Slices that are there may be this far apart at most, for a hole to be filled or uneven spacing to be resampled."""
STRAY_SLICES = 3
"""Slices at one end that may be left out as stray..."""
STRAY_STEPS = 3.0
"""...where they lie more than this many steps..."""
STRAY_MM = 5.0
"""...and more than this far from the rest."""
AXIAL_DEGREES = 5.0
"""The slices' axes lie this near to the patient's, after tilt is taken out."""
TILT_DEGREES = (0.5, 30.0)
"""What counts as gantry tilt; more is refused, less is a sideways drift and taken out all the same."""
LATERAL_MM = 0.1
"""Positions lie this near to a straight line."""
THICK_MM = 2.5
"""Slices above are read with a warning."""
THICKEST_MM = 5.0
"""Slices above are refused."""
OVERLAP_SHARE = 1.5
"""Thickness above this multiple of the spacing counts as overlapping; 2.5 mm every 1.25 mm is ordinary but said."""
CONTIGUOUS_SHARE = 0.98
"""Thickness below this share of the spacing leaves gaps between the slices."""
LEAST_HU = -1024
"""Padding and everything below air is set to this."""
MOST_HU = 32767
"""Largest value that int16 holds."""
PADDING_HU = -900.0
"""A padding value above is not air, and ignored."""


@dataclass(frozen=True)
class VolumeConfig:
    """The least series that is read: a chest, unless detecting or assessing alone, which take any size."""

    min_slices: int = 20
    min_extent_mm: float = 100.0
    """From the first slice to the last, one spacing included."""

    @property
    def takes_any_size(self) -> bool:
        """Whether a piece of a chest is read as well as a whole one."""
        return self.min_extent_mm == 0

    def __post_init__(self) -> None:
        if self.min_slices < 1:
            raise ValueError("min_slices: expected at least 1")
        if self.min_extent_mm < 0:
            raise ValueError("min_extent_mm: expected 0 or more")

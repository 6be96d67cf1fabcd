"""What a nodule is made of: solid, part-solid with its solid core, ground-glass, calcified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.measure.outline import Levels, Region
from lungscreen.records import NoduleType

__all__ = ["Texture", "describe_texture", "total_levels", "type_of"]

SOLID_HU = -300.0
"""Denser is solid tissue, less dense is ground glass."""

CALCIUM_HU = 310.0
"""A nodule whose densest twentieth is denser than this is calcified: contrast in tissue stays below."""

CALCIFIED_THROUGH_HU = 200.0
"""… and its median denser than this: calcium all through is benign, calcium in a part of a nodule is not known to
be."""

GLASS_HU = -450.0
"""A ground-glass nodule's median is below this; blur takes small solid nodules nearly as low."""

GLASS_SOLID_SHARE = 0.05
"""A ground-glass nodule has less solid tissue than this."""

THIN_MM, THIN_GLASS_HU = 2.5, -500.0
"""Where no larger ball fits, blur makes a solid nodule look like ground glass: there the median is lower still."""

MIXED_SOLID_SHARE = 0.02
"""A part-solid nodule has at least so much solid tissue."""

SOLID_SOLID_SHARE = 0.7
"""A nodule with more solid tissue than this is solid."""

PART_SOLID_LOW_HU = -500.0
"""A part-solid nodule's least dense twentieth is below this."""

PART_SOLID_DEPTH_MM = 2.6
"""Radius of the largest ball inside, below which blur does not let a solid core be told from ground glass."""

RIM_MM = 1.5
"""Blur makes the outermost shell of a solid nodule look like ground glass: it does not count for the type."""


@dataclass(frozen=True, eq=False)
class Texture:
    """Densities inside a nodule, its outermost shell left out."""

    inner_hu: float
    """Median."""
    low_hu: float
    """5th percentile."""
    high_hu: float
    """95th percentile of the whole nodule, unsmoothed."""
    depth_mm: float
    """Radius of the largest ball inside."""
    solid_share: float
    """Share of voxels that are solid."""
    rim_hu: float
    """Median of what is not solid; NaN where all is."""
    solid_field: NDArray[np.float32]
    """0 to 1, 0.5 at the edge of the solid part."""


def describe_texture(hu: NDArray[np.float32], region: Region, step_mm: float) -> Texture:
    """Densities inside a region."""
    smooth = np.asarray(ndimage.gaussian_filter(hu, 0.6 / step_mm, truncate=3.0), dtype=np.float32)
    depth = ndimage.distance_transform_edt(region.mask) * step_mm
    inner = depth > min(RIM_MM, 0.5 * float(depth.max()))
    values = smooth[inner]
    soft = values[values < SOLID_HU]
    solid = np.where(region.mask, np.clip(0.5 + (smooth - SOLID_HU) / 600.0, 0, 1), 0)
    return Texture(
        inner_hu=float(np.median(values)),
        low_hu=float(np.percentile(values, 5)),
        high_hu=float(np.percentile(hu[region.mask], 95)),
        depth_mm=float(depth.max()),
        solid_share=float((values >= SOLID_HU).mean()),
        rim_hu=float(np.median(soft)) if soft.size else float("nan"),
        solid_field=solid.astype(np.float32),
    )


def type_of(texture: Texture) -> NoduleType:
    """Type from densities; the cuts were chosen on LIDC readers' ratings of texture and calcification.

    Calcified is said only of what is calcified all through, since a calcified nodule is taken as benign: among the
    nodules that the cuts were chosen on, none that readers called suspicious is, and half of those they called
    calcified are.
    """
    if texture.high_hu > CALCIUM_HU and texture.inner_hu > CALCIFIED_THROUGH_HU:
        return NoduleType.CALCIFIED
    glass_hu = GLASS_HU if texture.depth_mm > THIN_MM else THIN_GLASS_HU
    if texture.inner_hu < glass_hu and texture.solid_share < GLASS_SOLID_SHARE:
        return NoduleType.GROUND_GLASS
    mixed = MIXED_SOLID_SHARE <= texture.solid_share < SOLID_SOLID_SHARE and texture.low_hu < PART_SOLID_LOW_HU
    return NoduleType.PART_SOLID if mixed and texture.depth_mm > PART_SOLID_DEPTH_MM else NoduleType.SOLID


def total_levels(levels: Levels, texture: Texture) -> Levels:
    """Levels for the size of the whole: a part-solid nodule ends where its ground glass does, not its solid core."""
    if type_of(texture) is NoduleType.PART_SOLID and np.isfinite(texture.rim_hu):
        return Levels(levels.lung_hu, max(texture.rim_hu, levels.lung_hu + 120.0))
    return levels

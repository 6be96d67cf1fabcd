"""One nodule's region on a patch: intensities decide the edge, shape cuts off vessels and pleura.

The edge lies at a share of the way from the lung around to the nodule's core, so it means the same for a solid and a
ground-glass nodule. What hangs on by a neck thinner than the nodule (vessel, bronchus wall) or belongs to something
much larger (pleura, mediastinum) is cut off by an opening whose radius follows the nodule's own thickness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.patches import Patch

__all__ = [
    "Levels",
    "Region",
    "box_of",
    "edge_field",
    "estimate_diameter",
    "find_levels",
    "find_region",
    "pick_part",
    "refine_centre",
    "region_of",
]

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]

HU_FLOOR, HU_CEILING = -1000.0, 300.0
"""Window inside which intensities steer the outline: air in a bulla or calcium must not move the levels."""

LUNG_HU_DEFAULT = -850.0
"""Lung around a nodule where too little of it is seen to measure (nodule in the angle of pleura and mediastinum)."""

LUNG_HU_HIGHEST = -550.0
"""Denser voxels around a nodule are no aerated lung."""

LEAST_CONTRAST_HU = 120.0
"""A core is taken as at least this much denser than the lung around."""

FAINTEST = 0.1
"""A drawn field that is nowhere higher shows nothing."""

SCALES_MM = (4.0, 5.5, 7.5, 10.0, 14.0, 19.0, 26.0)
"""Diameters that are tried where none is given."""

BLOB_SIGMA = 1 / 3.6
"""Sigma of the Laplacian of a Gaussian that answers most to a ball, per diameter (1 / (2 * sqrt 3))."""


@dataclass(frozen=True, slots=True)
class Levels:
    """Lung around the nodule and the nodule's core, in HU."""

    lung_hu: float
    core_hu: float

    def at(self, share: float) -> float:
        """HU at a share of the way from lung to core."""
        return self.lung_hu + share * (self.core_hu - self.lung_hu)


@dataclass(frozen=True, eq=False)
class Region:
    """Which voxels of a patch are this nodule's, out to its outer border."""

    mask: Mask
    edge: Mask
    """Voxels that its edge may run through: the mask, and where that was drawn by eye a voxel more."""
    cut: Mask
    """Voxels as dense as the nodule that are not its own: vessel, pleura, a neighbour."""
    levels: Levels

    def crop(self, box: tuple[slice, slice, slice]) -> Region:
        """The part that lies in a box of the patch."""
        return Region(self.mask[box], self.edge[box], self.cut[box], self.levels)


def estimate_diameter(hu: Array, centre: NDArray[np.float64], step_mm: float, reach_mm: float) -> float:
    """Rough diameter of the blob near a point, from the scale at which it stands out most, mm."""
    clipped = np.clip(hu, HU_FLOOR, HU_CEILING)
    near = _distance(hu.shape, centre, step_mm) <= reach_mm
    answers = []
    for diameter in SCALES_MM:
        sigma = max(diameter * BLOB_SIGMA / step_mm, 1.0)
        answers.append(float((-ndimage.gaussian_laplace(clipped, sigma) * sigma**2)[near].max()))
    return SCALES_MM[int(np.argmax(answers))]


def refine_centre(
    hu: Array, centre: NDArray[np.float64], diameter_mm: float, step_mm: float, reach_mm: float
) -> NDArray[np.float64]:
    """The voxel within reach that is most like the middle of a ball of that size; nearer ones are preferred."""
    sigma = max(diameter_mm * BLOB_SIGMA / step_mm, 1.0)
    blob = -ndimage.gaussian_laplace(np.clip(hu, HU_FLOOR, HU_CEILING), sigma) * sigma**2
    away = _distance(hu.shape, centre, step_mm)
    blob = np.where(away <= max(reach_mm, 0.25 * diameter_mm), blob - 8.0 * away**2, -np.inf)
    return np.array(np.unravel_index(int(blob.argmax()), blob.shape), dtype=np.float64)


def find_levels(hu: Array, centre: NDArray[np.float64], diameter_mm: float, step_mm: float) -> Levels:
    """Median of the nodule's core and of the aerated lung in a shell around it."""
    clipped = np.clip(hu, HU_FLOOR, HU_CEILING)
    away = _distance(hu.shape, centre, step_mm)
    core = float(np.median(clipped[away <= max(1.3, 0.2 * diameter_mm)]))
    shell = clipped[(away > 0.5 * diameter_mm + 2) & (away < 0.5 * diameter_mm + 8)]
    aerated = shell[shell < LUNG_HU_HIGHEST]
    lung = float(np.median(aerated)) if aerated.size * step_mm**3 > 100 else LUNG_HU_DEFAULT
    return Levels(lung, max(core, lung + LEAST_CONTRAST_HU))


def find_region(
    patch: Patch, diameter_mm: float, level: float, neck: float, allowed: Mask | None, reach_mm: float
) -> Region | None:
    """The nodule's voxels out to `level`, without what hangs on by less than `neck` of its thickness.

    allowed: voxels that may be nodule (the lungs, grown a little); None allows all. None where nothing stands out.
    """
    step = patch.step_mm
    hu = np.asarray(
        ndimage.gaussian_filter(np.clip(patch.hu, HU_FLOOR, HU_CEILING), 0.5 / step, truncate=3.0), dtype=np.float32
    )
    centre = refine_centre(patch.hu, patch.centre, diameter_mm, step, reach_mm)
    levels = find_levels(patch.hu, centre, diameter_mm, step)
    away = _distance(hu.shape, centre, step)
    dense = hu > levels.at(level)
    if allowed is not None:
        dense &= allowed
    depth = ndimage.distance_transform_edt(dense) * step
    wall = _opened(dense, depth, 0.7 * diameter_mm, step)
    if wall is not None and not wall[away <= 1.5].any():
        dense &= ~wall
        depth = ndimage.distance_transform_edt(dense) * step
    thickness = float(depth[away <= max(1.5, 0.25 * diameter_mm)].max())
    if thickness <= 0:
        return None
    near = dense & (away <= 0.65 * diameter_mm + 3.0)
    opening = min(neck * thickness, neck * 0.55 * diameter_mm)
    core = _nearest_part((depth > opening) & near, away)
    if core is None:
        return None
    grown = near & (ndimage.distance_transform_edt(~core) * step <= opening + 1.0)
    labels, _ = ndimage.label(grown)
    mask = np.asarray(ndimage.binary_fill_holes(labels == np.bincount(labels[core]).argmax()), dtype=np.bool_)
    return Region(mask, mask, (hu > levels.at(level)) & ~mask, levels)


def pick_part(field: Array, reach_mm: float) -> Array | None:
    """The part of a drawn field (1 mm voxels) that lies nearest to the middle; None where none is within reach.

    A field that is unsure of itself is read at half of its highest value near the middle.
    """
    away = _distance(field.shape, (np.array(field.shape) - 1) / 2, 1.0)
    highest = float(field[away <= reach_mm + 1.0].max())
    if highest < FAINTEST:
        return None
    field = field * np.float32(max(1.0, 1.0 / highest)) if highest < 0.5 else field
    part = _nearest_part(field >= 0.5, away)
    if part is None or float(away[part].min()) > reach_mm + 1.0:
        return None
    near = ndimage.binary_dilation(part)
    return np.asarray(np.where(near, np.where(part, field, np.minimum(field, 0.49)), 0.0), dtype=np.float32)


def region_of(hu: Array, mask: Mask, step_mm: float, level: float) -> Region:
    """A region whose mask is known: its levels from its own core and from the lung around it."""
    clipped = np.clip(hu, HU_FLOOR, HU_CEILING)
    inner = box_of(mask, 1)
    depth = ndimage.distance_transform_edt(mask[inner]) * step_mm
    away = ndimage.distance_transform_edt(~mask) * step_mm
    core = float(np.median(clipped[inner][depth >= 0.6 * depth.max()]))
    shell = clipped[(away > 2.0) & (away < 8.0)]
    aerated = shell[shell < LUNG_HU_HIGHEST]
    lung = float(np.median(aerated)) if aerated.size * step_mm**3 > 100 else LUNG_HU_DEFAULT
    levels = Levels(lung, max(core, lung + LEAST_CONTRAST_HU))
    edge = np.asarray(ndimage.binary_dilation(mask))
    return Region(mask, edge, (clipped > levels.at(level)) & ~edge, levels)


def box_of(mask: Mask, margin: int) -> tuple[slice, slice, slice]:
    """The box of a mask, grown by some voxels."""
    found = [np.flatnonzero(mask.any(axis=tuple(b for b in range(3) if b != a))) for a in range(3)]
    z, y, x = (slice(max(0, int(f[0]) - margin), int(f[-1]) + 1 + margin) for f in found)
    return z, y, x


def edge_field(hu: Array, region: Region, levels: Levels, level: float) -> Array:
    """0 to 1 with 0.5 at the edge: where intensities fall through `level`, and half-way to a voxel that was cut off."""
    field = np.clip(
        0.5 + (np.clip(hu, HU_FLOOR, HU_CEILING) - levels.at(level)) / (levels.core_hu - levels.lung_hu), 0, 1
    )
    inner = ndimage.binary_erosion(region.mask, iterations=2)
    field = np.where(inner, np.maximum(field, 0.75), field)
    outside = ndimage.binary_dilation(region.edge) & ~region.edge & ~region.cut
    return np.asarray(np.where(region.edge, field, np.where(outside, np.minimum(field, 0.49), 0.0)), dtype=np.float32)


def _opened(dense: Mask, depth: Array, radius_mm: float, step_mm: float) -> Mask | None:
    """What is thick enough to hold a ball of that radius, and so no nodule but pleura or mediastinum; None where
    nothing is.
    """
    thick = depth > radius_mm
    if not thick.any():
        return None
    return np.asarray(dense & (ndimage.distance_transform_edt(~thick) * step_mm <= radius_mm))


def _nearest_part(mask: Mask, away: Array) -> Mask | None:
    """The connected part that comes nearest to the centre."""
    labels, count = ndimage.label(mask)
    if not count:
        return None
    nearest = int(np.argmin(np.where(mask, away, np.inf)))
    return np.asarray(labels == labels.ravel()[nearest])


def _distance(shape: tuple[int, ...], centre: NDArray[np.float64], step_mm: float) -> Array:
    """Distance of every voxel from a point of the patch, mm."""
    z, y, x = (((np.arange(n) - c) * step_mm) ** 2 for n, c in zip(shape, centre, strict=True))
    return np.asarray(np.sqrt(z[:, None, None] + y[None, :, None] + x[None, None, :]), dtype=np.float32)

"""From air to lung: vessels, juxtapleural nodules and masses come in, chest wall, heart and diaphragm stay out.

right | left air ─► closed by a ball ─► pockets of the chest's hull ─► right | left lung
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.lungs.grid import (
    CoarseGrid,
    labelled,
    largest_first,
    slice_hulls,
    widened,
    without_holes,
)
from lungscreen.morphology import Mask, closed, dilated, eroded

__all__ = ["Filled", "add_masses", "add_pockets", "close_lungs"]

STRIP_MM = 3.0
"""Half the width of a strip along the pleura that joins no two pockets."""

POCKET_MIN_ML = 0.03
"""Smaller than a nodule of 4 mm."""

POCKET_MAX_ML = 400.0
"""Larger than any mass that leaves lung around it; what is larger is abdomen or mediastinum."""


BETWEEN_SHARE = 0.1
"""A pocket that touches the one lung at least so much as the other lies between them: sternum or mediastinum."""

OVER_LUNG_SHARE = 0.3
"""Share of a pocket's lower faces that look at lung."""

MASS_CLOSING_MM = 32.0
"""Radius of the ball that looks for masses against the mediastinum; heart, great vessels and hila let it in."""

MASS_CORE_MM = 6.0
"""Half of a mass' least thickness."""

MASS_MIN_ML = 4.0
"""Smaller hollows of the mediastinal side are no mass."""

HILUM_MM = 30.0
"""What lies so near to the outer end of a main bronchus is hilum."""

BASE_SHARE = 0.3
"""Share of a lung's height, from below, in which hollows are diaphragm and heart."""

ENHANCED_HU = 110.0
"""Brighter on average is blood with contrast medium, or bone."""


@dataclass(frozen=True, eq=False)
class Filled:
    """The lungs with dense regions taken in, the volume of the largest one that was looked at, and a voxel of it."""

    sides: NDArray[np.uint8]
    largest_ml: float
    largest_at: tuple[int, int, int] | None = None


def close_lungs(grid: CoarseGrid, sides: NDArray[np.uint8], radius_mm: float, forbidden: Mask) -> NDArray[np.uint8]:
    """Each lung closed by a ball, its holes filled; air keeps its side, and forbidden voxels stay out."""
    result = sides.copy()
    for side in (1, 2):
        lung = sides == side
        if not lung.any():
            continue
        box = ndimage.find_objects(lung.view(np.uint8))[0]
        filled = np.zeros_like(lung)
        filled[box] = without_holes(closed(lung[box], radius_mm, grid.spacing_mm))
        result[filled & (result == 0) & ~forbidden] = side
    return result


def add_pockets(grid: CoarseGrid, sides: NDArray[np.uint8], forbidden: Mask) -> Filled:
    """Fill what lies between the lungs and their convex hull, slice by slice, but for what hangs on the middle.

    Heart, mediastinum and, through them, all below the diaphragm are one component in 3D; a nodule or mass on the
    chest wall is another.
    """
    lung = sides > 0
    gap = slice_hulls(lung) & ~lung & ~forbidden
    labels, sizes = labelled(eroded(gap, STRIP_MM, grid.spacing_mm))
    middle = set(largest_first(sizes)[:1]) | set(np.unique(labels[0]))
    result = sides.copy()
    largest, at = 0.0, None
    for n, box in enumerate(ndimage.find_objects(labels), start=1):
        if n in middle or sizes[n] * grid.voxel_ml < POCKET_MIN_ML:
            continue
        wide = tuple(slice(max(0, s.start - 5), s.stop + 5) for s in box)
        pocket = dilated(labels[wide] == n, STRIP_MM + max(grid.spacing_mm) / 2, grid.spacing_mm) & gap[wide]
        ml = float(pocket.sum() * grid.voxel_ml)
        if ml > POCKET_MAX_ML or grid.hu[wide][pocket].mean() > ENHANCED_HU or not _over_lung(pocket, lung[wide]):
            continue
        around = np.bincount(sides[wide][widened(pocket, (1, 1, 1))], minlength=3)[1:]
        if around.min() > BETWEEN_SHARE * around.max():
            continue
        result[wide][pocket] = 1 + int(around.argmax())
        if ml > largest:
            largest, at = ml, _middle(pocket, tuple(s.start for s in wide))
    return Filled(result, largest, at)


def _middle(region: Mask, start: tuple[int, ...]) -> tuple[int, int, int]:
    """The voxel of a region that lies nearest to its centre; `start` is the region's first voxel on the grid."""
    voxels = np.argwhere(region)
    z, y, x = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()] + np.array(start)
    return int(z), int(y), int(x)


def _over_lung(pocket: Mask, lung: Mask) -> bool:
    """Whether lung goes on below a pocket, as it does below a nodule but not below a part of the diaphragm."""
    bottom = pocket[1:] & ~pocket[:-1]
    return bool(lung[:-1][bottom].mean() >= OVER_LUNG_SHARE) if bottom.any() else False


def add_masses(grid: CoarseGrid, sides: NDArray[np.uint8], forbidden: Mask, airways: Mask | None) -> Filled:
    """Take in what fills a hollow of the mediastinal side as no vessel, heart or hilum does.

    A hollow above the base that is not bright with contrast medium is a mass; near the outer end of a main bronchus
    (or where no airway is known) it is hilum, and stays out, but its size counts.
    """
    result = sides.copy()
    largest, at = 0.0, None
    for side in (1, 2):
        for hollow in _hollows(grid, sides, side, forbidden):
            ml = hollow.sum() * grid.voxel_ml
            if ml < MASS_MIN_ML or grid.hu[hollow].mean() > ENHANCED_HU:
                continue
            if ml > largest:
                largest, at = float(ml), _middle(hollow, (0, 0, 0))
            if not _at_hilum(grid, hollow, airways, side):
                result[hollow] = side
        result[without_holes(result == side) & (result == 0) & ~forbidden] = side
    return Filled(result, largest, at)


def _hollows(grid: CoarseGrid, sides: NDArray[np.uint8], side: int, forbidden: Mask) -> Iterator[Mask]:
    """Thick hollows of one lung above its base. Looked for on a grid half as fine: a mass is large."""
    lung = sides == side
    if not lung.any():
        return
    box = ndimage.find_objects(lung.view(np.uint8))[0]
    steps = [2 if s < 3.5 else 1 for s in grid.spacing_mm]
    z, y, x = (s * n for s, n in zip(grid.spacing_mm, steps, strict=True))
    thin = lung[box][:: steps[0], :: steps[1], :: steps[2]]
    hollow = closed(thin, MASS_CLOSING_MM, (z, y, x)) & ~thin
    labels, sizes = labelled(eroded(hollow, MASS_CORE_MM, (z, y, x)))
    for n in largest_first(sizes):
        if sizes[n] * z * y * x / 1000 * 2 < MASS_MIN_ML / 10:
            break
        core = labels == n
        if np.nonzero(core)[0].mean() < BASE_SHARE * core.shape[0]:
            continue
        part = dilated(core, MASS_CORE_MM, (z, y, x)) & hollow
        for axis, step in enumerate(steps):
            part = part.repeat(step, axis=axis)
        found = np.zeros_like(lung)
        found[box] = part[tuple(slice(0, s.stop - s.start) for s in box)]
        yield found & (sides == 0) & ~forbidden


def _at_hilum(grid: CoarseGrid, hollow: Mask, airways: Mask | None, side: int) -> bool:
    """Whether the middle of a hollow lies near the outermost airway voxels of its side; True where none are known."""
    if airways is None:
        return True
    columns = np.flatnonzero(airways.any(axis=(0, 1)))
    outer = np.argwhere(airways & (np.arange(airways.shape[2]) == columns[0 if side == 1 else -1]))
    offset = (np.argwhere(hollow).mean(axis=0) - outer.mean(axis=0)) * grid.spacing_mm
    return bool(np.linalg.norm(offset) < HILUM_MM)

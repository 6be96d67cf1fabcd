"""From HU to two lungs of air: what is body, what is air inside it, which of that is lung, which lung it is.

coarse HU ─► inside ─► pieces of air ─► without airways ─► lung-like ─► right | left
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.geometry import Box
from lungscreen.lungs.grid import (
    CoarseGrid,
    labelled,
    largest_first,
    narrowed,
    slice_hulls,
    widened,
)
from lungscreen.morphology import Mask, box_around, distance_mm

__all__ = ["body_middle", "chest_box", "find_gas", "find_inside", "lung_like", "split_sides"]

WALL_HU = -500.0
"""Darker is air, for telling the body from what is around it."""

OPEN_AIR_HU = -920.0
"""Air around the body is darker than this."""

THIN_MM = 3.0
"""Half of the thickness below which tissue is no body wall: tables, cushions' covers, clothes, tubes."""

SKIN_MM = 4.5
"""Nearer to the outer air is no lung, however blurred the skin."""

PIECE_MIN_ML = 2.0
"""Smaller pieces of air are no lung by themselves; those within a lung come back when it is closed."""

GAS_HU = -930.0
"""Gas in bowel, stomach or between arms and body is darker than this throughout; even emphysema holds vessels."""

GAS_MIN_ML = 0.05
"""Least core of a piece of gas, a coarse voxel within its border; smaller bubbles are left with the lung."""

GAS_HEIGHT_SHARE = 0.4
"""Share of the lungs' height, from below, in which bowel may touch a lung."""

GAS_WALL_SHARE = 0.6
"""Share of tissue around a piece of gas; around dark lung on a pleura it was 0.56 at the most in a dozen scans."""

LUNG_SHARE = 0.1
"""Pieces of at least this share of the largest are lung, whatever they touch."""

LARGE_PIECE_ML = 20.0
"""Air that is looked at all around."""

GAS_SHARE = 0.10
"""Lung has at least this share of its inner voxels brighter than gas."""

ERODE_MM = (0.0, 2.0, 3.0, 4.5, 6.0, 8.0, 10.0, 12.0, 15.0)
"""How far touching lungs are shrunk, step by step, until they come apart."""

ENCLOSED_SHARE = 0.6
"""Share of a separate piece of lung that lies within the convex hull of both lungs, slice by slice."""

BASE_SHARE = 0.3
"""Share of the lungs' height, from below, in which pieces of air apart from the lungs are bowel."""

APART_MM = 70.0
"""Middles of two lungs lie at least this far apart, sideways; those of pieces of one lung do not."""

SMALLER_SHARE = 0.12
"""The smaller lung's share of both, at the least, where one component is cut in two."""


def find_inside(grid: CoarseGrid) -> Mask:
    """The body and all it encloses: not reached, slice by slice, from the sides through air or thin things.

    In a box cut around the lungs the body's wall ends at the sides, and lung may come near them: only open air there
    counts.
    """
    thin = grid.steps(THIN_MM)
    wall = widened(narrowed(grid.hu > WALL_HU, thin), thin)
    in_plane = np.zeros((3, 3, 3))
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(~wall, in_plane, output=np.int32)
    outer = np.zeros(count + 1, np.bool_)
    for side in np.s_[:, 0], np.s_[:, -1], np.s_[:, :, 0], np.s_[:, :, -1]:
        outer[labels[side][grid.hu[side] < OPEN_AIR_HU]] = True
    outer[0] = False
    return ~widened(outer[labels], grid.steps(SKIN_MM))


def chest_box(grid: CoarseGrid, air: Mask, margin_mm: float) -> Box | None:
    """The box around all large pieces of air, up to the top of the scan for the trachea; None where there are none."""
    labels, sizes = labelled(air)
    large = sizes * grid.voxel_ml >= LARGE_PIECE_ML
    if not large.any():
        return None
    z, y, x = box_around(large[labels], grid.steps(margin_mm))
    return slice(z.start, air.shape[0]), y, x


def body_middle(inside: Mask) -> float:
    """Column index of the body's middle, the median over slices."""
    columns = inside.sum(axis=1, dtype=np.float64)
    filled = columns.sum(axis=1)
    middles = (columns @ np.arange(inside.shape[2]))[filled > 0] / filled[filled > 0]
    return float(np.median(middles)) if middles.size else inside.shape[2] / 2


def lung_like(grid: CoarseGrid, air: Mask) -> tuple[NDArray[np.int32], list[int]]:
    """Components of air, and those of them that may be lung, the largest first.

    Lung is bigger than a bubble and holds vessels: unlike gas it is not equally dark all through.
    """
    labels, sizes = labelled(air)
    bright = np.bincount(labels[grid.hu > GAS_HU], minlength=sizes.size)
    inner = narrowed(air, (1, 1, 1))
    inner_sizes = np.bincount(labels[inner], minlength=sizes.size)
    inner_bright = np.bincount(labels[inner & (grid.hu > GAS_HU)], minlength=sizes.size)
    share = np.where(inner_sizes > 0, inner_bright / np.maximum(inner_sizes, 1), bright / np.maximum(sizes, 1))
    return labels, [
        n for n in largest_first(sizes) if sizes[n] * grid.voxel_ml >= PIECE_MIN_ML and share[n] >= GAS_SHARE
    ]


def split_sides(grid: CoarseGrid, labels: NDArray[np.int32], lungs: list[int], middle: float) -> NDArray[np.uint8]:
    """Every voxel of the lungs as 1 (right) or 2 (left lung); lung-like components elsewhere are 0."""
    air = np.isin(labels, lungs)
    cores = _two_cores(grid, air)
    if cores is None:
        main = labels == lungs[0]
        sides = np.where(main, 1 if float(np.nonzero(main)[2].mean()) < middle else 2, 0).astype(np.uint8)
    else:
        sides = _grown(grid, *cores, air)
    return _with_pieces(grid, sides, labels, lungs)


def _with_pieces(
    grid: CoarseGrid, sides: NDArray[np.uint8], labels: NDArray[np.int32], lungs: list[int]
) -> NDArray[np.uint8]:
    """Other lung-like components, where lung surrounds them and they are not near its base, as bowel is."""
    hulls = slice_hulls(sides > 0)
    heights = np.flatnonzero((sides > 0).any(axis=(1, 2)))
    base = heights[0] + BASE_SHARE * (heights[-1] - heights[0])
    result = sides.copy()
    for n in lungs:
        piece = (labels == n) & (sides == 0)
        if not piece.any() or hulls[piece].mean() < ENCLOSED_SHARE or float(np.nonzero(piece)[0].mean()) < base:
            continue
        nearer_left = distance_mm(sides == 2, grid.spacing_mm) < distance_mm(sides == 1, grid.spacing_mm)
        result[piece] = np.where(nearer_left[piece], 2, 1)
    return result


def _two_cores(grid: CoarseGrid, air: Mask) -> tuple[NDArray[np.uint8], float] | None:
    """One core in each lung, and by how much (mm) the air was shrunk to make two of them; None where one lung is."""
    depth = None
    for radius in ERODE_MM:
        if radius and depth is None:
            depth = distance_mm(~air, grid.spacing_mm)
        labels, sizes = labelled(air if depth is None else depth > radius)
        pair = largest_first(sizes)[:2]
        if len(pair) < 2 or sizes[pair[1]] < SMALLER_SHARE * sizes.sum():
            continue
        columns = {n: float(np.nonzero(labels == n)[2].mean()) * grid.spacing_mm[2] for n in pair}
        right, left = sorted(pair, key=lambda n: columns[n])
        if columns[left] - columns[right] >= APART_MM:
            code = np.zeros(sizes.size, np.uint8)
            code[[right, left]] = 1, 2
            return code[labels], radius
    return None


def _grown(grid: CoarseGrid, cores: NDArray[np.uint8], radius_mm: float, air: Mask) -> NDArray[np.uint8]:
    """Both cores given back what they were shrunk by, then all that hangs on one of them alone, then the rest.

    Distance alone would give a thin tongue of one lung that lies along the other to the wrong side.
    """
    sides = cores.copy()
    if not radius_mm:
        return sides
    right, left = (distance_mm(cores == side, grid.spacing_mm) for side in (1, 2))
    nearest = np.where(left < right, 2, 1).astype(np.uint8)
    near = air & (np.minimum(right, left) <= radius_mm + max(grid.spacing_mm))
    sides[near] = nearest[near]
    labels, sizes = labelled(air & (sides == 0))
    touches = []
    for side in (1, 2):
        touched = np.zeros(sizes.size, np.bool_)
        touched[labels[widened(sides == side, (1, 1, 1))]] = True
        touches.append(touched)
    only_right, only_left, both = touches[0] & ~touches[1], touches[1] & ~touches[0], touches[0] & touches[1]
    for allowed, side in ((only_right, 1), (only_left, 2)):
        allowed[0] = False
        sides[allowed[labels]] = side
    both[0] = False
    shared = both[labels]
    sides[shared] = nearest[shared]
    return sides


def find_gas(grid: CoarseGrid, sides: NDArray[np.uint8]) -> Mask:
    """Bowel or stomach gas that hangs on a lung's base through the thin diaphragm between.

    Low, thick, as dark as air all through, and with more tissue than lung around it, which a bulla does not have.
    """
    lung = sides > 0
    heights = np.flatnonzero(lung.any(axis=(1, 2)))
    low = int(heights[0] + GAS_HEIGHT_SHARE * (heights[-1] - heights[0]))
    part = lung[:low]
    hu = grid.hu[:low]
    thick = narrowed(part & (hu < GAS_HU), (0, 1, 1))
    labels, sizes = labelled(thick)
    boxes = ndimage.find_objects(labels)
    pieces = [n for n in largest_first(sizes) if sizes[n] * grid.voxel_ml >= GAS_MIN_ML]
    gas = np.zeros_like(part)
    for n in pieces * 2:  # of two bubbles side by side, the one is known once the other is
        z, y, x = (slice(max(0, s.start - 5), s.stop + 5) for s in boxes[n - 1])
        wide = (z, y, x)
        piece = widened(labels[wide] == n, (2, 3, 3))
        around = widened(piece, (1, 1, 1)) & ~piece & ~gas[wide]
        walls = np.count_nonzero(around & (hu[wide] > WALL_HU))
        if around.any() and walls >= GAS_WALL_SHARE * np.count_nonzero(around):
            gas[wide] |= piece & part[wide]
    whole = np.zeros_like(lung)
    whole[:low] = gas
    return whole | _hanging(whole, lung & ~whole)


def _hanging(gas: Mask, rest: Mask) -> Mask:
    """Components of the rest that touch gas and are small: shells and bubbles between bowel loops."""
    labels, sizes = labelled(rest)
    hanging = np.zeros(sizes.size, np.bool_)
    hanging[labels[widened(gas, (1, 1, 1))]] = True
    hanging &= sizes < LUNG_SHARE * sizes.max()
    hanging[0] = False
    return hanging[labels]

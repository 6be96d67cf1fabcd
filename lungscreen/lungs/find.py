"""From HU to two lungs of air: what is body, what is air inside it, which of that is lung, which lung it is.

coarse HU ─► inside ─► pieces of air ─► without airways ─► lung-like ─► right | left
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.lungs.grid import CoarseGrid, Mask, distance_mm, eroded, labelled, largest_first, slice_hulls

__all__ = ["body_middle", "find_inside", "lung_like", "split_sides"]

WALL_HU = -500.0
"""Darker is air, for telling the body from what is around it."""

THIN_MM = 3.0
"""Half of the thickness below which tissue is no body wall: tables, cushions' covers, clothes, tubes."""

SKIN_MM = 4.5
"""Nearer to the outer air is no lung, however blurred the skin."""

PIECE_MIN_ML = 2.0
"""Smaller pieces of air are no lung by themselves; those within a lung come back when it is closed."""

GAS_HU = -930.0
"""Gas in bowel, stomach or between arms and body is darker than this throughout; even emphysema holds vessels."""

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

    In a box cut around the lungs the body's wall ends at the sides; what it encloses is found all the same.
    """
    margin = [int(np.ceil(THIN_MM / s)) + 1 for s in grid.spacing_mm]
    tissue = np.pad(grid.hu > WALL_HU, [(m, m) for m in margin], mode="edge")
    core = eroded(tissue, THIN_MM, grid.spacing_mm)
    wall = distance_mm(core, grid.spacing_mm) <= THIN_MM
    wall = wall[tuple(slice(m, m + n) for m, n in zip(margin, grid.hu.shape, strict=True))]
    in_plane = np.zeros((3, 3, 3))
    in_plane[1] = ndimage.generate_binary_structure(2, 1)
    labels, count = ndimage.label(~wall, in_plane, output=np.int32)
    outer = np.zeros(count + 1, np.bool_)
    for side in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outer[side] = True
    outer[0] = False
    return np.asarray(distance_mm(outer[labels], grid.spacing_mm) > SKIN_MM)


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
    inner = ndimage.binary_erosion(air)
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
        sides = _grown(grid, cores, air)
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


def _two_cores(grid: CoarseGrid, air: Mask) -> NDArray[np.uint8] | None:
    """One core in each lung, after as little shrinking as makes two of them; None where there is one lung."""
    depth = distance_mm(~air, grid.spacing_mm)
    for radius in ERODE_MM:
        labels, sizes = labelled(depth > radius)
        pair = largest_first(sizes)[:2]
        if len(pair) < 2 or sizes[pair[1]] < SMALLER_SHARE * sizes.sum():
            continue
        right, left = sorted(pair, key=lambda n: float(np.nonzero(labels == n)[2].mean()))
        columns = [float(np.nonzero(labels == n)[2].mean()) for n in (right, left)]
        if (columns[1] - columns[0]) * grid.spacing_mm[2] >= APART_MM:
            return np.where(labels == right, 1, np.where(labels == left, 2, 0)).astype(np.uint8)
    return None


def _grown(grid: CoarseGrid, cores: NDArray[np.uint8], air: Mask) -> NDArray[np.uint8]:
    """Both cores grown through the air in step, through dark lung first, so that they meet on the pleura between."""
    sides = cores.copy()
    for allowed in (air & (grid.hu < -700), air):
        while True:
            right = ndimage.binary_dilation(sides == 1) & allowed & (sides == 0)
            left = ndimage.binary_dilation(sides == 2) & allowed & (sides == 0) & ~right
            if not right.any() and not left.any():
                break
            sides[right] = 1
            sides[left] = 2
    return sides

"""Trachea and main bronchi.

    coarse HU, dark air inside the body ─► trachea as a chain of round holes ─► wave down the tubes ─► mask

The wave walks through dark air from the trachea. A front that widens has left the airway into lung (a leak, the rule
in emphysema): its branch ends there and gives its last steps back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.lungs.grid import CoarseGrid
from lungscreen.morphology import Mask

__all__ = ["DARK_HU", "find_airways"]

DARK_HU = -850.0
"""Air in large airways is darker than this even where a coarse voxel holds some wall; the wall itself is not."""

TRACHEA_MM2 = (50.0, 800.0)
"""Cross-section of a trachea; adults' lie between about 100 and 500 mm² (sabre-sheath to tracheomegaly)."""

TRACHEA_CHAIN_MM = 25.0
"""Length over which a hole must keep its place and size from slice to slice to be called trachea."""

TRACHEA_OFF_MIDLINE_MM = 55.0
"""Farthest a trachea lies from the middle of the body, sideways."""

BRONCHUS_MIN_MM2 = 35.0
"""Below this cross-section (about 6.5 mm across) a tube is a lobar or smaller bronchus, which stays with the lung."""

MAIN_BRONCHUS_MAX_MM = 60.0
"""Longest way from the carina: a left main bronchus measures about 50 mm."""

BRONCHUS_TO_TRACHEA = (0.35, 0.8)
"""A main bronchus' cross-section, as a share of the trachea's, lies between these."""

LEAK_FACTOR = {False: 2.8, True: 1.8}
"""A front so much larger than its tube's section has left it: above the carina, where it widens, and past it."""

STEPS_BACK = 2
"""Fronts that a leaking branch gives back."""

Indices = NDArray[np.int64]
"""Flat indices of voxels."""


@dataclass(frozen=True)
class _Chain:
    """Holes in consecutive slices that lie upon each other, from the top down; indices within each slice."""

    top: int
    holes: list[Indices]


@dataclass(frozen=True)
class _Branch:
    """One tube the wave is in."""

    front: Indices
    section: float
    """Voxels of the tube's cross-section."""
    past_carina: bool = False
    length_mm: float = 0.0
    """Way from the carina."""
    recent: tuple[Indices, ...] = field(default=())
    """Fronts just behind, which are given back if the branch leaks."""


def find_airways(grid: CoarseGrid, inside: Mask, middle: float) -> Mask | None:
    """Lumen of trachea and main bronchi on the coarse grid, or None where there is no trachea.

    inside: the body without the air around it.
    middle: the body's middle, a column index.
    """
    dark = (grid.hu < DARK_HU) & inside
    chain = _trachea(grid, dark, middle)
    return None if chain is None else _walk(grid, dark, chain)


def _trachea(grid: CoarseGrid, dark: Mask, middle: float) -> _Chain | None:
    """The longest chain of round holes near the midline; of equals, the upper one."""
    reach = TRACHEA_OFF_MIDLINE_MM / grid.spacing_mm[2]
    columns = (middle - reach, middle + reach)
    best = _Chain(0, [])
    active: list[_Chain] = []
    for k in range(dark.shape[0] - 1, -1, -1):
        chains = [_prolonged(active, hole, k) for hole in _holes(dark[k], columns, grid)]
        best = max([best, *chains], key=lambda chain: len(chain.holes))
        active = chains
    return best if len(best.holes) * grid.spacing_mm[0] >= TRACHEA_CHAIN_MM else None


def _prolonged(active: list[_Chain], hole: Indices, k: int) -> _Chain:
    """The chain that the hole continues, or a new one."""
    above = max(active, key=lambda chain: _overlap(chain.holes[-1], hole), default=None)
    if above is None:
        return _Chain(k, [hole])
    last = above.holes[-1]
    continues = _overlap(last, hole) >= 0.4 * min(last.size, hole.size) and 0.5 <= hole.size / last.size <= 2
    return _Chain(above.top, [*above.holes, hole]) if continues else _Chain(k, [hole])


def _overlap(above: Indices, below: Indices) -> int:
    return int(np.intersect1d(above, below, assume_unique=True).size)


def _holes(dark: Mask, columns: tuple[float, float], grid: CoarseGrid) -> Iterator[Indices]:
    """Round dark patches of a trachea's size in one slice, whose middle lies between two columns."""
    labels, count = ndimage.label(dark)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    for n, box in enumerate(ndimage.find_objects(labels), start=1):
        area = sizes[n] * grid.pixel_mm2
        centre = (box[1].start + box[1].stop - 1) / 2
        if not TRACHEA_MM2[0] <= area <= TRACHEA_MM2[1] or not columns[0] <= centre <= columns[1]:
            continue
        height, width = ((s.stop - s.start) * mm for s, mm in zip(box, grid.spacing_mm[1:], strict=True))
        if max(height, width) <= 3 * min(height, width) and area >= 0.45 * height * width:
            yield np.flatnonzero(labels == n)


def _walk(grid: CoarseGrid, dark: Mask, chain: _Chain) -> Mask:
    """From the chain's top down through dark air, front by front."""
    free = np.pad(dark, 1)  # a rim of False: no neighbour's index leaves the array
    free[chain.top + 2 :] = False
    airway = np.zeros_like(free)
    rows, columns = free.shape[1:]
    first = np.stack(np.unravel_index(chain.holes[0], dark.shape[1:])) + 1
    start = (chain.top + 1) * rows * columns + first[0] * columns + first[1]
    trachea = float(np.median([hole.size for hole in chain.holes]))
    step_mm = float(np.mean(grid.spacing_mm))
    free.ravel()[start] = False
    branches = [_Branch(start, trachea)]
    while branches:
        branch = branches.pop()
        fronts = _next_fronts(branch.front, free)
        tubes = [front for front in fronts if front.size * grid.pixel_mm2 >= BRONCHUS_MIN_MM2]
        carina = len(tubes) > 1 and not branch.past_carina
        if len(tubes) != 1:
            _keep(airway, branch)
        for front in tubes:
            child = _child(branch, front, trachea, carina, step_mm)
            if front.size > LEAK_FACTOR[child.past_carina] * child.section:
                continue
            if child.length_mm > MAIN_BRONCHUS_MAX_MM:
                _keep(airway, branch)
                continue
            if len(tubes) == 1:
                _keep_oldest(airway, branch)
            branches.append(child)
    return airway[1:-1, 1:-1, 1:-1]


def _child(branch: _Branch, front: Indices, trachea: float, carina: bool, step_mm: float) -> _Branch:
    """The branch one front farther; past the carina the tube is a bronchus."""
    past = branch.past_carina or carina
    low, high = (trachea * share for share in BRONCHUS_TO_TRACHEA)
    section = min(max(front.size, low), high)
    return _Branch(
        front,
        section if carina else branch.section,
        past,
        branch.length_mm + step_mm if past else 0.0,
        (*branch.recent, branch.front)[-STEPS_BACK:],
    )


def _keep_oldest(airway: Mask, branch: _Branch) -> None:
    """Keep the oldest front that can no longer be given back."""
    if len(branch.recent) == STEPS_BACK:
        airway.ravel()[branch.recent[0]] = True


def _keep(airway: Mask, branch: _Branch) -> None:
    """Keep all that the branch has walked."""
    for front in (*branch.recent, branch.front):
        airway.ravel()[front] = True


def _next_fronts(front: Indices, free: Mask) -> list[Indices]:
    """Free voxels that touch the front (taken from `free`), by component, the lowest index first."""
    _, rows, columns = free.shape
    steps = np.array([k * rows * columns + j * columns + i for k in (-1, 0, 1) for j in (-1, 0, 1) for i in (-1, 0, 1)])
    around = np.unique(front[:, None] + steps)
    reached = around[free.ravel()[around]]
    free.ravel()[reached] = False
    if not reached.size:
        return []
    where = np.stack(np.unravel_index(reached, free.shape))
    low = where.min(axis=1)
    small = np.zeros(where.max(axis=1) - low + 1, np.bool_)
    small[tuple(where - low[:, None])] = True
    labels = ndimage.label(small, np.ones((3, 3, 3)))[0][tuple(where - low[:, None])]
    return [reached[labels == n] for n in range(1, int(labels.max()) + 1)]

"""Air inside the body that is neither lung nor airway ─► how much of it is lung that was thrown away.

    coarse HU, lungs, airways ─► pieces of air left over ─► without bowel, stomach and gas outside the chest ─► ml

A piece among the lungs counts whatever it looks like. One low down, or beside the hull of the lungs, counts where it
looks like lung: gas is darker all through, stool denser.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.lungs.grid import CoarseGrid, labelled, largest_first, narrowed, slice_hulls, widened
from lungscreen.morphology import Mask

__all__ = ["measure_left_out"]

PIECE_MIN_ML = 2.0
"""Smaller pieces are bronchi, oesophagus and the rims of what was taken in."""
ENCLOSED_SHARE = 0.6
"""Share of a piece among the lungs that lies within their hull, slice by slice."""
LOW_SHARE = 0.4
"""Share of the lungs' height, from below, in which bowel and stomach may lie within that hull."""
LUNG_HU = (-960.0, -450.0)
"""Lung, emphysema included, lies between; in a voxel of two millimetres gas is darker and stool denser."""
LUNG_SHARE = 0.5
"""Share of a piece's inner voxels in that range from which it looks like lung."""


def measure_left_out(grid: CoarseGrid, air: Mask, sides: NDArray[np.uint8], airways: Mask | None) -> float:
    """Millilitres of lung among the air that is not in the lungs.

    air: aerated voxels inside the body.
    sides: the lungs as they were found, 0 elsewhere.
    airways: with their wall.
    """
    lung = sides > 0
    rest = air & ~lung
    if airways is not None:
        rest &= ~airways
    labels, sizes = labelled(narrowed(rest, (1, 1, 1)))
    heights = np.flatnonzero(lung.any(axis=(1, 2)))
    if not heights.size:
        return 0.0
    low = heights[0] + LOW_SHARE * (heights[-1] - heights[0])
    hulls = slice_hulls(lung)
    boxes = ndimage.find_objects(labels)
    total = 0.0
    for n in largest_first(sizes):
        wide = tuple(slice(max(0, s.start - 1), s.stop + 1) for s in boxes[n - 1])
        core = labels[wide] == n
        piece = widened(core, (1, 1, 1)) & rest[wide]
        ml = float(np.count_nonzero(piece)) * grid.voxel_ml
        if ml < PIECE_MIN_ML:
            continue
        among = hulls[wide][piece].mean() >= ENCLOSED_SHARE and wide[0].start + np.nonzero(core)[0].mean() >= low
        if among or _looks_like_lung(grid.hu[wide][core]):
            total += ml
    return total


def _looks_like_lung(hu: NDArray[np.float32]) -> bool:
    return bool(((hu > LUNG_HU[0]) & (hu < LUNG_HU[1])).mean() >= LUNG_SHARE)

"""Volume ─► LungMask by classical image analysis, the same result every time.

Air inside the body, less airways and gas, split in two, closed over vessels, nodules and masses on the pleura, its
border drawn at the volume's own resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lungscreen.errors import VolumeError
from lungscreen.lungs.airways import find_airways
from lungscreen.lungs.fill import add_masses, add_pockets, close_lungs
from lungscreen.lungs.find import body_middle, chest_box, find_gas, find_inside, lung_like, split_sides
from lungscreen.lungs.grid import CoarseGrid
from lungscreen.lungs.left_out import measure_left_out
from lungscreen.lungs.mask import LungMask
from lungscreen.lungs.references import measure_references
from lungscreen.lungs.refine import refine_border
from lungscreen.morphology import Mask, dilated
from lungscreen.records import Volume

if TYPE_CHECKING:
    from lungscreen.lungs.stage import LungsConfig

__all__ = ["ClassicalSegmenter"]

AIRWAYS_LOW = 0.55
"""The middle of trachea and main bronchi lay at 0.72 to 0.81 of the lungs' height in thirteen scans and six phantoms,
turned over at 0.13 to 0.46."""


@dataclass(frozen=True, slots=True)
class ClassicalSegmenter:
    """Needs no weights. Trachea and main bronchi are out, nodules and masses in."""

    config: LungsConfig

    def find_lungs(self, volume: Volume) -> LungMask:
        """Both lungs, see `lungscreen.lungs.LungSegmenter`.

        Errors: `no-lungs`.
        """
        config = self.config
        whole = CoarseGrid.shrink(volume.hu, volume.geometry.spacing_mm, config.coarse_mm)
        inside = find_inside(whole)
        box = chest_box(whole, (whole.hu < config.air_hu) & inside, config.closing_mm)
        if box is None:
            raise VolumeError("no-lungs", "no large space filled with air was found inside a body")
        middle = body_middle(inside) - box[2].start
        grid, inside = whole.part(box), inside[box]
        airways = find_airways(grid, inside, middle)
        tubes = None if airways is None else dilated(airways, config.airway_wall_mm, grid.spacing_mm)
        forbidden = ~inside if tubes is None else ~inside | tubes
        labels, pieces = lung_like(grid, (grid.hu < config.air_hu) & ~forbidden)
        if not pieces:
            raise VolumeError("no-lungs", "the air inside the body is gas, not lung")
        sides = split_sides(grid, labels, pieces, middle)
        gas = find_gas(grid, sides)
        forbidden |= gas
        sides[gas] = 0
        air = sides > 0
        sides = close_lungs(grid, sides, config.closing_mm, forbidden)
        pockets = add_pockets(grid, sides, forbidden)
        masses = add_masses(grid, pockets.sides, forbidden, airways)
        mask = refine_border(volume.hu, grid, masses.sides, air, forbidden, config.air_hu)
        left_out_ml = measure_left_out(grid, (grid.hu < config.air_hu) & inside, masses.sides, tubes)
        opacity = max(pockets, masses, key=lambda filled: filled.largest_ml)
        return LungMask(
            mask,
            opacity.largest_ml,
            None if opacity.largest_at is None else grid.on_volume(opacity.largest_at),
            airways is not None,
            left_out_ml,
            airways is not None and _height(airways, masses.sides > 0) < AIRWAYS_LOW,
            measure_references(grid, airways, masses.sides),
        )


def _height(airways: Mask, lung: Mask) -> float:
    """How high the airways' middle lies in the lungs: 0 at their base, 1 at their apex."""
    heights = np.flatnonzero(lung.any(axis=(1, 2)))
    return float((np.nonzero(airways)[0].mean() - heights[0]) / max(heights[-1] - heights[0], 1))

"""Volume, Lungs, point ─► Location: side, zone and slice of a finding."""

from __future__ import annotations

import numpy as np

from lungscreen.geometry import Vector
from lungscreen.records import Location, Lungs, Volume

__all__ = ["locate_nodule"]

SIDES = {1: "right", 2: "left"}
"""Labels of the lung mask."""

SIDE_REACH_MM = 30.0
"""A point farther than this from both lungs lies in neither."""


def locate_nodule(volume: Volume, lungs: Lungs | None, centre_mm: Vector) -> Location:
    """Side and zone (thirds of that lung's height, from the lung mask), and the slice nearest to the point.

    Without lungs, side and zone are unknown. The lobe is left empty: nothing here estimates it.
    """
    k, j, i = volume.geometry.to_index(centre_mm)
    slices = volume.geometry.shape[0]
    slice_index = int(np.clip(np.rint(k), 0, slices - 1))
    numbers = volume.instance_numbers
    label = _nearest_lung(volume, lungs, (float(k), float(j), float(i)))
    return Location(
        side=SIDES.get(label, "unknown"),  # type: ignore[arg-type]
        zone=_zone(lungs, label, float(k)),  # type: ignore[arg-type]
        slice_from_top=slices - slice_index,
        instance_number=numbers[slice_index] if len(numbers) == slices else None,
    )


def _nearest_lung(volume: Volume, lungs: Lungs | None, index: tuple[float, float, float]) -> int:
    """Label of the lung that is nearest to a point, looked for in a box around it; 0 where none is near."""
    if lungs is None:
        return 0
    spacing = np.array(volume.geometry.spacing_mm)
    reach = np.ceil(SIDE_REACH_MM / spacing).astype(int)
    middle = np.rint(index).astype(int)
    low = np.clip(middle - reach, 0, np.array(lungs.mask.shape) - 1)
    high = np.clip(middle + reach + 1, 1, np.array(lungs.mask.shape))
    box = lungs.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    found = np.argwhere(box > 0)
    if not len(found):
        return 0
    away = np.linalg.norm((found + low - np.array(index)) * spacing, axis=1)
    nearest = int(away.argmin())
    return int(box[tuple(found[nearest])]) if away[nearest] <= SIDE_REACH_MM else 0


def _zone(lungs: Lungs | None, label: int, k: float) -> str:
    """Thirds of that lung's height, counted in slices (slices go up)."""
    if lungs is None or not label:
        return "unknown"
    rows = np.flatnonzero((lungs.mask == label).any(axis=(1, 2)))
    height = (k - rows[0]) / max(rows[-1] - rows[0], 1)
    return "lower" if height < 1 / 3 else "middle" if height < 2 / 3 else "upper"

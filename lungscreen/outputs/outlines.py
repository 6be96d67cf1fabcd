"""Outline ─► polygons in LPS mm, slice by slice, in three planes: what a viewer draws over the pixels."""

from __future__ import annotations

from typing import Any

import numpy as np

from lungscreen.geometry import Geometry
from lungscreen.records import Lungs, Outline

__all__ = ["lung_lines", "outline_polygons"]

PLANES = ("axial", "coronal", "sagittal")
"""By the array axis that stands still."""

LUNG_STEP = 2
"""Lungs are drawn on every other row and column: a line beside them, no measurement."""


def outline_polygons(outline: Outline | None, geometry: Geometry) -> dict[str, dict[str, list[Any]]] | None:
    """Plane → index of the slice → closed polygons of (x, y, z) in LPS mm; None without an outline."""
    from lungscreen.outputs.page.contour import contour_lines

    if outline is None or not outline.mask.any():
        return None
    found: dict[str, dict[str, list[Any]]] = {}
    for axis, plane in enumerate(PLANES):
        found[plane] = {}
        for n in range(outline.mask.shape[axis]):
            lines = contour_lines(np.asarray(outline.mask.take(n, axis=axis), np.float32))
            if lines:
                placed = [_placed(line, axis, n, outline, geometry) for line in lines]
                found[plane][str(outline.start[axis] + n)] = placed
    return found


def _placed(line: Any, axis: int, n: int, outline: Outline, geometry: Geometry) -> list[list[float]]:
    """A line within one slice of the outline's box, in mm to 0.01."""
    index = np.insert(np.asarray(line), axis, float(n), axis=1) + np.array(outline.start)
    return [[round(float(c), 2) for c in point] for point in geometry.to_mm(index)]


def lung_lines(lungs: Lungs) -> dict[str, list[Any]]:
    """Index of the axial slice → closed lines of (column, row) around each lung."""
    from lungscreen.outputs.page.contour import contour_lines

    found: dict[str, list[Any]] = {}
    for k in range(lungs.mask.shape[0]):
        lines = []
        for label in (1, 2):
            seen = (lungs.mask[k, ::LUNG_STEP, ::LUNG_STEP] == label).astype(np.float32)
            lines += [
                [[round(float(c) * LUNG_STEP, 1), round(float(r) * LUNG_STEP, 1)] for r, c in line]
                for line in contour_lines(seen)
            ]
        if lines:
            found[str(k)] = lines
    return found

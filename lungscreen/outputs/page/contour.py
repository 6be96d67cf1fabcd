"""Marching squares: the lines along which a field on a grid crosses a level."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["contour_lines"]

_CASES: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((3, 0),), 2: ((0, 1),), 3: ((3, 1),), 4: ((1, 2),), 5: ((3, 0), (1, 2)), 6: ((0, 2),), 7: ((3, 2),),
    8: ((2, 3),), 9: ((2, 0),), 10: ((0, 1), (2, 3)), 11: ((2, 1),), 12: ((1, 3),), 13: ((1, 0),), 14: ((0, 3),),
}  # fmt: skip
"""Which corners are inside (bits: top left, top right, bottom right, bottom left) → edges that a line joins
(0 top, 1 right, 2 bottom, 3 left)."""


def contour_lines(field: NDArray[np.float32], level: float = 0.5) -> list[NDArray[np.float64]]:
    """Closed lines (n, 2) as (row, column), in grid units with sample centres at whole numbers.

    Outside the grid the field is 0, so a line that meets the border closes along it.
    """
    padded = np.pad(np.asarray(field, dtype=np.float64), 1)
    corners = padded[:-1, :-1], padded[:-1, 1:], padded[1:, 1:], padded[1:, :-1]
    case = np.zeros(corners[0].shape, np.uint8)
    for n, corner in enumerate(corners):
        case |= (corner >= level).astype(np.uint8) << n
    follow: dict[tuple[int, int, int], tuple[int, int, int]] = {}
    for row, column in np.argwhere((case > 0) & (case < 15)).tolist():
        for start, end in _CASES[int(case[row, column])]:
            follow[_edge(row, column, start)] = _edge(row, column, end)
    return [np.array([_crossing(padded, edge, level) for edge in line]) - 1 for line in _join(follow)]


def _edge(row: int, column: int, side: int) -> tuple[int, int, int]:
    """An edge by its upper or left grid point, and whether it runs down: the same for both cells that share it."""
    return ((row, column, 0), (row, column + 1, 1), (row + 1, column, 0), (row, column, 1))[side]


def _crossing(padded: NDArray[np.float64], edge: tuple[int, int, int], level: float) -> tuple[float, float]:
    row, column, down = edge
    first, second = padded[row, column], padded[row + down, column + 1 - down]
    along = (level - first) / (second - first)
    return row + along * down, column + along * (1 - down)


def _join(follow: dict[tuple[int, int, int], tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Directed pieces, each edge left once and reached once → closed lines."""
    lines = []
    while follow:
        start, edge = follow.popitem()
        line = [start]
        while edge != start:
            line.append(edge)
            edge = follow.pop(edge)
        lines.append(line)
    return lines

"""Slices as they lie ─► an even, straight stack: tilt sheared out in the plane, holes filled, spacing made even."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungscreen.volume.config import LEAST_HU
from lungscreen.volume.stack import Stack

__all__ = ["fill_grid", "keep_slices", "shear_slices"]

Pixels = NDArray[np.int16]


def keep_slices(pixels: Pixels, numbers: Sequence[int] | NDArray[np.intp]) -> Pixels:
    """Some slices, numbers ascending, moved to the front of the same memory."""
    for place, number in enumerate(numbers):
        if place != number:
            pixels[place] = pixels[number]
    return pixels[: len(numbers)]


def shear_slices(pixels: Pixels, stack: Stack, spacing_mm: tuple[float, float]) -> tuple[Pixels, tuple[float, float]]:
    """Slices moved in their own plane until they lie above one another, on a plane that holds them all.

    pixels: (n, rows, columns).
    spacing_mm: row spacing, column spacing. Returns the pixels and where the first column and row now lie against those
        of the lowest slice, in mm along (row's, column's) direction.
    """
    shifts = [(2, spacing_mm[1], stack.lateral_mm[:, 0]), (1, spacing_mm[0], stack.lateral_mm[:, 1])]
    moved = [0.0, 0.0]
    for number, (axis, spacing, lateral) in enumerate(shifts):
        if np.ptp(lateral) > 0:
            moved[number] = float(lateral.min() - lateral[0])
            pixels = _shift(pixels, axis, (lateral - lateral.min()) / spacing)
    return pixels, (moved[0], moved[1])


def fill_grid(pixels: Pixels, stack: Stack) -> Pixels:
    """A slice at each place of the grid: the one that lies there, else interpolated between its neighbours."""
    if len(stack.grid_mm) == len(pixels) and bool((stack.nearest >= 0).all()):
        return pixels
    out = np.empty((len(stack.grid_mm), *pixels.shape[1:]), dtype=np.int16)
    upper = np.clip(np.searchsorted(stack.along_mm, stack.grid_mm), 1, len(pixels) - 1)
    for place, number in enumerate(stack.nearest):
        if number >= 0:
            out[place] = pixels[number]
            continue
        above, below = int(upper[place]), int(upper[place]) - 1
        low, high = stack.along_mm[below], stack.along_mm[above]
        out[place] = _mix(pixels[below], pixels[above], float((stack.grid_mm[place] - low) / (high - low)))
    return out


def _mix(first: Pixels, second: Pixels, share: float) -> Pixels:
    """`first` and a share of `second`, linearly."""
    return np.rint(first * np.float32(1 - share) + second * np.float32(share)).astype(np.int16)


def _shift(pixels: Pixels, axis: int, shifts: NDArray[np.float64]) -> Pixels:
    """Each slice moved by its own number of pixels (0 or more) along an axis; what comes in is air."""
    shape = list(pixels.shape)
    size = shape[axis]
    shape[axis] = size + int(np.ceil(shifts.max() - 1e-6))
    out = np.full(shape, LEAST_HU, dtype=np.int16)
    for number, shift in enumerate(shifts):
        whole = int(np.floor(shift + 1e-9))
        share = float(shift - whole)
        source = np.moveaxis(pixels[number], axis - 1, 0)
        target = np.moveaxis(out[number], axis - 1, 0)
        if share < 1e-6:
            target[whole : whole + size] = source
            continue
        edge = np.full((1, source.shape[1]), LEAST_HU, dtype=np.int16)
        target[whole : whole + size + 1] = _mix(np.concatenate([source, edge]), np.concatenate([edge, source]), share)[
            : len(target) - whole
        ]
    return out

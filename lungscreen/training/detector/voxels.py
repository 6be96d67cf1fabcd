"""Voxel work of the detector's data engine: targets, pieces cut with mirrored filling, balls."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.detect.network import STRIDE
from lungscreen.training.detector.data import CUBE, Mark

__all__ = [
    "Bools",
    "Floats",
    "ball",
    "beyond",
    "cut_mirrored",
    "make_targets",
    "thicken",
    "uneven_ball",
    "voxel_in_piece",
]

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)


def make_targets(nodules: list[Mark], nothing: list[Mark], ignore: Bools) -> Floats:
    """(6, p/2, p/2, p/2): heat 0…1 (1 at the output voxel nearest to a centre), loss weight, log mm, offsets z, y,
    x.
    """
    weight: Floats = (~ignore[::STRIDE, ::STRIDE, ::STRIDE]).astype(np.float32)
    shape = weight.shape
    out = np.zeros((6, *shape), np.float32)
    axes = [np.arange(n, dtype=np.float32) * STRIDE for n in shape]

    def square(voxel: tuple[float, float, float]) -> Floats:
        z, y, x = ((a - v) ** 2 for a, v in zip(axes, voxel, strict=True))
        return np.asarray(z[:, None, None] + y[None, :, None] + x[None, None, :], np.float32)

    for mark in nothing:
        weight[square(mark.voxel) < (mark.diameter_mm / 2) ** 2] = 0
    for mark in nodules:
        distance = square(mark.voxel)
        sigma = min(max(mark.diameter_mm / 6, 1.2), 4.0)
        k, j, i = (int(v) for v in np.unravel_index(int(distance.argmin()), shape))
        nearest = k, j, i
        heat = np.minimum(np.exp(-(distance - distance[nearest]) / (2 * sigma**2)), 0.95)
        heat[nearest] = 1
        out[0] = np.maximum(out[0], heat)
        weight[distance < (mark.diameter_mm / 2 + 2) ** 2] = 1
        out[2, k, j, i] = np.log(mark.diameter_mm)
        for n in range(3):
            out[3 + n, k, j, i] = mark.voxel[n] - nearest[n] * STRIDE
    out[1] = weight
    return out


def cut_mirrored(array: NDArray[Number], start: NDArray[np.integer], side: int) -> tuple[NDArray[Number], Bools]:
    """`side`³ voxels from `start`; beyond the array it is mirrored. Returns them and where that is."""
    indices = []
    for n, first in zip(array.shape, start, strict=True):
        index = np.abs(np.arange(int(first), int(first) + side)) % max(1, 2 * (n - 1))
        indices.append(np.where(index >= n, 2 * (n - 1) - index, index))
    outside = beyond(array.shape, start, side)
    if not outside.any():
        part = tuple(slice(int(s), int(s) + side) for s in start)
        return array[part].copy(), outside
    return array[np.ix_(*indices)], outside


def beyond(shape: tuple[int, ...], start: NDArray[np.integer], side: int, room: int = 0) -> Bools:
    """Which of `side`³ voxels from `start` lie further than `room` outside an array of that shape."""
    outside = []
    for n, first in zip(shape, start, strict=True):
        index = np.arange(int(first), int(first) + side)
        outside.append((index < -room) | (index >= n + room))
    z, y, x = outside
    return z[:, None, None] | y[None, :, None] | x[None, None, :]


def voxel_in_piece(voxel: tuple[float, ...] | list[float], start: NDArray[np.integer]) -> tuple[float, float, float]:
    """A voxel of an array as a voxel of the piece that starts at `start`."""
    z, y, x = (float(v) - int(s) for v, s in zip(voxel, start, strict=True))
    return z, y, x


def ball(shape: tuple[int, ...], voxel: tuple[float, float, float], radius: float) -> Bools:
    """Voxels nearer to `voxel` than `radius`."""
    z, y, x = ((np.arange(n) - v) ** 2 for n, v in zip(shape, voxel, strict=True))
    inside: Bools = (z[:, None, None] + y[None, :, None] + x[None, None, :]) < radius**2
    return inside


def uneven_ball(rng: np.random.Generator, radius: float) -> Floats:
    """A soft ball whose edge is uneven: 1 inside, 0 outside."""
    side = int(min(CUBE - 2, 2 * np.ceil(radius * 1.25 + 3) + 1))
    coarse = rng.normal(0, 1, (5, 5, 5)).astype(np.float32)
    rough = ndimage.zoom(coarse, side / 5, order=1, grid_mode=True, mode="nearest")
    middle = side // 2
    z, y, x = np.ogrid[:side, :side, :side]
    distance = np.sqrt((z - middle) ** 2 + (y - middle) ** 2 + (x - middle) ** 2)
    inside = distance < radius * (1 + 0.12 * rough)
    return np.asarray(ndimage.gaussian_filter(inside.astype(np.float32), 0.8), np.float32)


def thicken(hu: Floats, thickness: float, step: float, first: float) -> Floats:
    """Voxels (z, y, x) as slices of that thickness show them, `step` apart from `first` on, and back to the grid.

    Voxels of z along the first axis; each slice is the mean over its thickness, between slices it is linear.
    """
    side = hu.shape[0]
    centres = np.arange(first, side - 1 + step, step)
    edges = np.arange(side)
    low = np.clip(centres - thickness / 2, None, side - 1.5)[:, None]
    high = np.clip(centres + thickness / 2, 0.5, None)[:, None]
    share = np.clip(np.minimum(edges + 0.5, high) - np.maximum(edges - 0.5, low), 0, None)
    share /= share.sum(1, keepdims=True)
    after = np.clip(np.searchsorted(centres, edges, side="right"), 1, len(centres) - 1)
    right = np.clip((edges - centres[after - 1]) / step, 0, 1)[:, None]
    back = share[after - 1] * (1 - right) + share[after] * right
    return np.asarray(np.tensordot(back, hu, 1), np.float32)

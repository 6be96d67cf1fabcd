"""What an image file's header says, in one form for every format; and the checks that all of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice, VolumeError
from lungscreen.geometry import Geometry
from lungscreen.records import Source
from lungscreen.sources import MOST_VOXELS

__all__ = ["HEADER_BYTES", "ImageHeader", "Packing", "check_shape", "damaged", "make_geometry", "numbers"]

HEADER_BYTES = 1 << 20
"""A header is no longer: that of a chest CT has less than a thousandth of it."""

Packing = Literal["raw", "gzip", "zlib", "text"]


@dataclass(frozen=True, eq=False)
class ImageHeader:
    """Where an image's voxels lie, in the file and in space.

    geometry: array axes from the one that varies slowest in the file to the one that varies fastest.
    start: byte of `data` at which the packed voxels begin; -1: they are the file's last bytes.
    packed_bytes: how many they are, where the header says so.
    skipped: unpacked bytes before the first voxel. HU = slope x value + intercept.
    """

    geometry: Geometry
    dtype: np.dtype
    data: Source
    start: int = 0
    packing: Packing = "raw"
    packed_bytes: int | None = None
    skipped: int = 0
    slope: float = 1.0
    intercept: float = 0.0
    notices: tuple[Notice, ...] = ()

    @property
    def voxel_bytes(self) -> int:
        """Bytes of all voxels, unpacked."""
        return math.prod(self.geometry.shape) * self.dtype.itemsize


def damaged(reason: str) -> InputError:
    """The refusal `image-damaged`."""
    return InputError("image-damaged", reason)


def numbers(text: str, count: int | None = None) -> list[float]:
    """Finite numbers between blanks.

    Errors: `image-damaged` where one is none, or where there are not `count` of them.
    """
    try:
        found = [float(word) for word in text.split()]
    except ValueError:
        raise damaged("a number in its header is none") from None
    if not all(math.isfinite(number) for number in found) or (count is not None and len(found) != count):
        raise damaged("numbers in its header are missing or not finite")
    return found


def check_shape(sizes: Sequence[float], components: int = 1) -> tuple[int, int, int]:
    """Three sizes; further ones are 1.

    Errors: `image-dimensions`, `volume-too-large`.
    """
    text = " x ".join(f"{size:g}" for size in sizes)
    further = set(sizes[3:]) | {components}
    if len(sizes) < 3 or further != {1} or any(n < 1 or n % 1 for n in sizes):
        raise VolumeError("image-dimensions", f"expected one grey value in three dimensions, got {text}")
    if math.prod(int(size) for size in sizes) > MOST_VOXELS:
        raise VolumeError("volume-too-large", f"{text} voxels")
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def make_geometry(directions: NDArray[np.float64], origin: Sequence[float], sizes: tuple[int, int, int]) -> Geometry:
    """The grid of an array whose axes run against the file's: the one that varies slowest first.

    directions: (3, 3), column n is the step in LPS mm along the file's axis n, the fastest first.
    sizes: likewise.

    Errors: `image-geometry`.
    """
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]
    affine[:3, 3] = origin
    try:
        return Geometry(affine, (sizes[2], sizes[1], sizes[0]))
    except ValueError as error:
        raise VolumeError("image-geometry", str(error)) from None

"""Stored values ─► int16 HU: how values are written, padding, rescale, clipping."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lungscreen.dicomfile import get_number, get_text
from lungscreen.errors import VolumeError
from lungscreen.volume.config import LEAST_HU, MOST_HU, PADDING_HU

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["FrameShape", "Rescale", "Stored", "Values", "padding_is_air", "read_rescale", "read_shape", "to_hu"]

Stored = NDArray[np.uint16]
"""Stored values of one frame (rows, columns), as they lie in their 8 or 16 bits."""


@dataclass(frozen=True, slots=True)
class Rescale:
    """How stored values become Hounsfield units: HU = slope x stored + intercept."""

    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class Values:
    """How stored values are written."""

    bits_allocated: int
    bits_stored: int
    signed: bool
    padding: tuple[int, int] | None = None
    """Stored values from the first to the second, both included, are padding."""


@dataclass(frozen=True, slots=True)
class FrameShape:
    """What a decoder needs to know."""

    rows: int
    columns: int
    frames: int
    values: Values

    @property
    def frame_bytes(self) -> int:
        """Bytes of one unpacked frame."""
        return self.rows * self.columns * self.values.bits_allocated // 8


def read_rescale(dataset: Dataset | None) -> Rescale:
    """Slope and intercept.

    Errors: `rescale-missing`, `rescale-invalid`.
    """
    found = []
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        if not get_text(dataset, keyword):
            raise VolumeError("rescale-missing", f"{keyword} is absent")
        number = get_number(dataset, keyword)
        if number is None or (keyword == "RescaleSlope" and number == 0):
            raise VolumeError("rescale-invalid", f"{keyword} is 0 or no number")
        found.append(number)
    return Rescale(found[0], found[1])


def read_shape(dataset: Dataset) -> FrameShape:
    """Rows, columns, frames and how values are written.

    Errors: `pixels-unsupported`.
    """
    numbers = {
        key: get_number(dataset, key)
        for key in ("Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored", "HighBit", "SamplesPerPixel")
    }
    allocated, stored = _bits(numbers)
    if (numbers["SamplesPerPixel"] or 1) != 1 or get_text(dataset, "PhotometricInterpretation") not in _GREY:
        raise VolumeError("pixels-unsupported", "not a grey image")
    signed = get_number(dataset, "PixelRepresentation") == 1
    return FrameShape(
        int(numbers["Rows"] or 0),
        int(numbers["Columns"] or 0),
        int(numbers["NumberOfFrames"] or 1),
        Values(allocated, stored, signed, _padding(dataset, allocated, signed)),
    )


_GREY = ("MONOCHROME2", "MONOCHROME1", "")


def _bits(numbers: Mapping[str, float | None]) -> tuple[int, int]:
    """Bits allocated and bits stored, where the stored ones are the lowest.

    Errors: `pixels-unsupported`.
    """
    allocated, stored = numbers["BitsAllocated"], numbers["BitsStored"] or numbers["BitsAllocated"]
    high = numbers["HighBit"] if numbers["HighBit"] is not None else (stored or 0) - 1
    if allocated not in (8, 16) or stored is None or not 1 <= stored <= allocated or high != stored - 1:
        raise VolumeError("pixels-unsupported", f"{allocated} bits allocated, {stored} stored, high bit {high}")
    return int(allocated), int(stored)


def _padding(dataset: Dataset, allocated: int, signed: bool) -> tuple[int, int] | None:
    """PixelPaddingValue to PixelPaddingRangeLimit as stored values, lower end first."""
    ends = [get_number(dataset, key) for key in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    value = ends[0]
    if value is None:
        return None
    limit = value if ends[1] is None else ends[1]
    wrapped = [_wrap(int(end), allocated, signed) for end in (value, limit)]
    return min(wrapped), max(wrapped)


def _wrap(value: int, bits: int, signed: bool) -> int:
    """A value written with the wrong sign: US 63536 with signed pixels is -2000."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if signed and value >= 1 << (bits - 1) else value


def to_hu(
    stored: Stored, values: Values, rescale: Rescale, out: NDArray[np.int16] | None = None
) -> tuple[NDArray[np.int16], int]:
    """Stored values as HU, into `out` where given; and how many were clipped.

    Bits above BitsStored are masked; padding and everything below -1024 HU becomes -1024.
    """
    table, clipped = _table(values, rescale)
    count = int(np.count_nonzero(clipped[stored])) if clipped is not None else 0
    # every index is in the table; "clip" only spares numpy a buffer
    return np.take(table, stored, out=out, mode="clip"), count


def padding_is_air(values: Values, rescale: Rescale) -> bool:
    """Whether the padding value, where there is one, means air."""
    if values.padding is None:
        return True
    return max(rescale.slope * end + rescale.intercept for end in values.padding) <= PADDING_HU


@lru_cache(maxsize=64)
def _table(values: Values, rescale: Rescale) -> tuple[NDArray[np.int16], NDArray[np.bool_] | None]:
    """HU for each of the 65536 bit patterns; and which of them are clipped, None where none is."""
    pattern = np.arange(1 << 16, dtype=np.int64) & ((1 << values.bits_stored) - 1)
    if values.signed:
        pattern = np.where(pattern >= 1 << (values.bits_stored - 1), pattern - (1 << values.bits_stored), pattern)
    hu = np.rint(pattern * rescale.slope + rescale.intercept)
    clipped = hu > MOST_HU
    hu = np.clip(hu, LEAST_HU, MOST_HU)
    if values.padding is not None and padding_is_air(values, rescale):
        hu[(pattern >= values.padding[0]) & (pattern <= values.padding[1])] = LEAST_HU
    return hu.astype(np.int16), clipped if clipped.any() else None

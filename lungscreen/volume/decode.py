"""One DICOM object's frames ─► int16 HU. The decoder is fixed per transfer syntax; none ever falls through to another.

Others were found to answer garbage for damaged data, or to end the process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lungscreen.dicomfile import get_number, get_text, transfer_syntax
from lungscreen.errors import VolumeError
from lungscreen.volume.config import LEAST_HU, MOST_HU, PADDING_HU

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DECODERS", "Rescale", "Values", "decode_frame", "read_rescale", "to_hu"]

Stored = NDArray[np.uint16]

_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"


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
    allocated, stored = numbers["BitsAllocated"], numbers["BitsStored"] or numbers["BitsAllocated"]
    high = numbers["HighBit"] if numbers["HighBit"] is not None else (stored or 0) - 1
    if allocated not in (8, 16) or stored is None or not 1 <= stored <= allocated or high != stored - 1:
        raise VolumeError("pixels-unsupported", f"{allocated} bits allocated, {stored} stored, high bit {high}")
    if (numbers["SamplesPerPixel"] or 1) != 1 or get_text(dataset, "PhotometricInterpretation") not in (
        "MONOCHROME2",
        "MONOCHROME1",
        "",
    ):
        raise VolumeError("pixels-unsupported", "not a grey image")
    signed = get_number(dataset, "PixelRepresentation") == 1
    return FrameShape(
        int(numbers["Rows"] or 0),
        int(numbers["Columns"] or 0),
        int(numbers["NumberOfFrames"] or 1),
        Values(int(allocated), int(stored), signed, _padding(dataset, int(allocated), signed)),
    )


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


def to_hu(stored: Stored, values: Values, rescale: Rescale) -> tuple[NDArray[np.int16], int]:
    """Stored values, as they lie in their 8 or 16 bits, as HU; and how many were clipped.

    Bits above BitsStored are masked; padding and everything below -1024 HU becomes -1024.
    """
    table, clipped = _table(values, rescale)
    count = int(np.count_nonzero(clipped[stored])) if clipped is not None else 0
    return table[stored], count


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


# -- decoders --------------------------------------------------------------------------------------------------------
def decode_frame(dataset: Dataset, shape: FrameShape, index: int = 0) -> Stored:
    """One frame's stored values (rows, columns), as they lie in their bits.

    Errors: `transfer-syntax`, `pixels-damaged`.
    """
    syntax = transfer_syntax(dataset)
    decoder = DECODERS.get(syntax)
    if decoder is None:
        raise VolumeError("transfer-syntax", f"transfer syntax {syntax} is not supported")
    if "PixelData" not in dataset or not dataset.PixelData:
        raise VolumeError("pixels-damaged", "there are no pixel data")
    try:
        frame = decoder(dataset, shape, index)
    except VolumeError:
        raise
    except Exception as error:  # decoders raise whatever they like
        raise VolumeError("pixels-damaged", f"the pixels cannot be decoded ({type(error).__name__})") from None
    except BaseException as error:  # pyo3's PanicException is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise VolumeError("pixels-damaged", "the pixels cannot be decoded (the decoder panicked)") from None
    if frame.shape != (shape.rows, shape.columns):
        raise VolumeError("pixels-damaged", f"{frame.shape} pixels instead of {(shape.rows, shape.columns)}")
    return frame


def _native(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    data = dataset.PixelData
    expected = shape.frame_bytes * shape.frames
    if not expected <= len(data) <= expected + (expected & 1):
        raise VolumeError("pixels-damaged", f"{len(data)} bytes of pixels instead of {expected}")
    order = ">" if transfer_syntax(dataset) == _EXPLICIT_BIG else "<"
    # 8-bit cells in big-endian words would be swapped in pairs only where written as OW; CT does not do that
    kind = np.dtype(np.uint8) if shape.values.bits_allocated == 8 else np.dtype(f"{order}u2")
    frame = np.frombuffer(data, kind, shape.rows * shape.columns, index * shape.frame_bytes)
    return frame.reshape(shape.rows, shape.columns).astype(np.uint16, copy=False)


def _codestream(dataset: Dataset, shape: FrameShape, index: int) -> bytes:
    """The encoded bytes of one frame."""
    from pydicom.encaps import generate_frames, get_frame

    if shape.frames == 1:
        return next(generate_frames(dataset.PixelData, number_of_frames=1))
    extended = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    return get_frame(dataset.PixelData, index, number_of_frames=shape.frames, extended_offsets=extended)


def _as_cells(buffer: bytes | bytearray, shape: FrameShape, bits: int) -> Stored:
    kind = np.dtype(np.uint8) if bits <= 8 else np.dtype("<u2")
    if len(buffer) != shape.rows * shape.columns * kind.itemsize:
        raise VolumeError("pixels-damaged", f"{len(buffer)} bytes of pixels after decoding")
    return np.frombuffer(buffer, kind).reshape(shape.rows, shape.columns).astype(np.uint16, copy=False)


def _jpeg_ls(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    import jpeg_ls

    stream = _codestream(dataset, shape, index)
    buffer, info = jpeg_ls.decode_pixel_data(stream)
    _expect_size((info["height"], info["width"]), shape)
    return _as_cells(buffer, shape, info["bits_per_sample"])


def _expect_size(size: tuple[int, int], shape: FrameShape) -> None:
    """Errors: `pixels-damaged`."""
    if size != (shape.rows, shape.columns):
        raise VolumeError("pixels-damaged", f"the codestream holds {size} pixels, not {(shape.rows, shape.columns)}")


Decoder = Callable[["Dataset", FrameShape, int], Stored]

DECODERS: dict[str, Decoder] = {
    _IMPLICIT_LITTLE: _native,
    "1.2.840.10008.1.2.1": _native,
    _EXPLICIT_BIG: _native,
    "1.2.840.10008.1.2.1.99": _native,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.81": _jpeg_ls,
}
"""Transfer syntax → its one decoder. What is not here is refused."""

"""Encapsulated pixel data ─► one frame's codestream, whole: its end, its size, what its own grammar forbids.

JPEG, JPEG-LS, JPEG 2000 and run lengths carry no checksum: what their grammar does not forbid nobody can see here.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING

import numpy as np

from lungscreen.errors import VolumeError
from lungscreen.volume.values import FrameShape

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = [
    "check_run_lengths",
    "check_wavelets",
    "expect_size",
    "jpeg_2000_size",
    "jpeg_size",
    "one_codestream",
    "one_frame",
]

_START = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""How a JPEG, JPEG-LS or JPEG 2000 codestream begins."""
_END = b"\xff\xd9"
_FILL = b"\0\xff "
"""What writers put behind a codestream's end: zeros, as they should; fill bytes; blanks."""
_PADDING = 1
"""Bytes that a segment's padding to even length may look like."""
_ZEROS = 32
"""An arithmetic coder writes no run of zeros so long, but for one byte for each packet that is empty."""
_SOT, _SOD, _COD, _SIZ = 0xFF90, 0xFF93, 0xFF52, 0xFF51
_IN_PACKETS = {0x91: 0x02, 0x92: 0x04}
"""Markers that may stand among packets, by their second byte: the bit of the coding style that allows them."""


# -- frames ----------------------------------------------------------------------------------------------------------
def one_codestream(dataset: Dataset, shape: FrameShape, index: int) -> bytes:
    """The encoded bytes of one frame, without what follows their end.

    Errors: `pixels-damaged` where the end is missing, or another frame follows in the place of a single one.
    """
    stream = one_frame(dataset, shape, index)
    end = stream.rfind(_END)
    if end < 0 or stream[end + len(_END) :].strip(_FILL):
        raise VolumeError("pixels-damaged", "the encoded pixels break off")
    return stream[: end + len(_END)]


def one_frame(dataset: Dataset, shape: FrameShape, index: int) -> bytes:
    """What is encapsulated for one frame.

    Errors: `pixels-damaged` where another frame follows in the place of a single one.
    """
    from pydicom.encaps import generate_fragments, get_frame

    if shape.frames == 1:
        fragments = list(generate_fragments(_after_offset_table(dataset.PixelData)))
        if any(fragment.startswith(_START) for fragment in fragments[1:]):
            raise VolumeError("pixels-damaged", "there are more frames than the header says")
        return b"".join(fragments)
    extended = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    return get_frame(dataset.PixelData, index, number_of_frames=shape.frames, extended_offsets=extended)


def _after_offset_table(data: bytes) -> bytes:
    """Encapsulated pixel data without the item that holds the basic offset table."""
    if data[:4] != b"\xfe\xff\x00\xe0" or len(data) < 8:
        raise VolumeError("pixels-damaged", "the encoded pixels do not begin with an offset table")
    return data[8 + struct.unpack("<I", data[4:8])[0] :]


def expect_size(size: tuple[int, int], shape: FrameShape) -> None:
    """Errors: `pixels-damaged`."""
    if size != (shape.rows, shape.columns):
        raise VolumeError("pixels-damaged", f"the codestream holds {size} pixels, not {(shape.rows, shape.columns)}")


# -- run lengths -----------------------------------------------------------------------------------------------------
def check_run_lengths(frame: bytes, shape: FrameShape) -> None:
    """Each segment holds exactly one byte of every pixel (PS3.5, annex G).

    Errors: `pixels-damaged`.
    """
    pixels = shape.rows * shape.columns
    count, *starts = struct.unpack("<16I", frame[:64])
    if count != shape.values.bits_allocated // 8:
        raise VolumeError("pixels-damaged", f"{count} segments of run lengths")
    starts = [*starts[:count], len(frame)]
    for start, end in itertools.pairwise(starts):
        size = _unpacked(frame[start:end])
        if not pixels <= size <= pixels + _PADDING:
            raise VolumeError("pixels-damaged", f"{size} bytes in a segment instead of {pixels}")


def _unpacked(segment: bytes) -> int:
    at, size = 0, 0
    while at + 1 < len(segment):
        head = segment[at]
        if head < 128:
            size += head + 1
            at += head + 2
        else:
            size += 257 - head if head > 128 else 0
            at += 2 if head > 128 else 1
    return size


# -- JPEG, JPEG-LS ---------------------------------------------------------------------------------------------------
def jpeg_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG or JPEG-LS codestream, from its frame header.

    Errors: `pixels-damaged`.
    """
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xFF:  # a fill byte (T.81, B.1.1.2)
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">HH", stream[at + 5 : at + 9])
            return rows, columns
        at += 2 + int(struct.unpack(">H", stream[at + 2 : at + 4])[0])
    raise VolumeError("pixels-damaged", "the encoded pixels have no frame header")


# -- JPEG 2000 -------------------------------------------------------------------------------------------------------
def jpeg_2000_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns of a bare JPEG 2000 codestream, from its SIZ segment.

    Errors: `pixels-damaged`.
    """
    if stream[:4] != _START[1] or len(stream) < 24:
        raise VolumeError("pixels-damaged", "the encoded pixels are no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack(">IIII", stream[8:24])
    return bottom - top, right - left


def check_wavelets(stream: bytes) -> None:
    """What the grammar of JPEG 2000 (T.800, annex A and B) says of whole tile-parts, which decoders don't look at.

    Tile-parts follow one another up to the end; among their packets no marker stands and no zeros where data belong.

    Errors: `pixels-damaged`.
    """
    size = jpeg_2000_size(stream)
    at, style, packets = _main_header(stream, size)
    while stream[at : at + 2] != _END:
        if at + 12 > len(stream) or struct.unpack(">H", stream[at : at + 2])[0] != _SOT:
            raise VolumeError("pixels-damaged", "its tile-parts do not follow one another")
        length = struct.unpack(">I", stream[at + 6 : at + 10])[0] or len(stream) - len(_END) - at
        end = at + length
        start = stream.find(struct.pack(">H", _SOD), at + 12, end)
        if end > len(stream) - len(_END) or start < 0:
            raise VolumeError("pixels-damaged", "a tile-part is not whole")
        _check_packets(stream[start + 2 : end], style, packets)
        at = end
    if at + len(_END) != len(stream):
        raise VolumeError("pixels-damaged", "something follows the last tile-part")


def _check_packets(data: bytes, style: int, packets: int) -> None:
    """Errors: `pixels-damaged`."""
    values = np.frombuffer(data, np.uint8)
    second = values[1:][(values[:-1] == 0xFF) & (values[1:] > 0x8F)]
    if any(style & _IN_PACKETS.get(int(value), 0) == 0 for value in np.unique(second)):
        raise VolumeError("pixels-damaged", "a marker stands among its packets")
    if b"\0" * (_ZEROS + packets) in data:
        raise VolumeError("pixels-damaged", "a part of its packets is empty")


def _main_header(stream: bytes, size: tuple[int, int]) -> tuple[int, int, int]:
    """Where the first tile-part begins; the coding style; how many packets there are at most.

    Errors: `pixels-damaged`.
    """
    at, style, packets = 2, 0, 0
    while at + 4 <= len(stream):
        marker, length = struct.unpack(">HH", stream[at : at + 4])
        if marker == _SOT:
            return at, style, packets
        if marker == _COD and length >= 12:
            style = stream[at + 4]
            packets = _packets(stream[at + 4 : at + 2 + length], size)
        at += 2 + length
    raise VolumeError("pixels-damaged", "the encoded pixels have no tile-part")


def _packets(coding: bytes, size: tuple[int, int]) -> int:
    """One for each layer, resolution and precinct; tiles are not told apart, so that it is no fewer."""
    layers, levels = struct.unpack(">H", coding[2:4])[0], min(coding[5], 32)
    total = 0
    for resolution in range(levels + 1):
        sizes = coding[10 + resolution] if coding[0] & 1 and len(coding) > 10 + resolution else 0xFF
        scale = 1 << (levels - resolution)
        high, wide = (1 << (sizes >> 4), 1 << (sizes & 15))
        total += math.ceil(size[0] / scale / high + 1) * math.ceil(size[1] / scale / wide + 1)
    return int(layers * total)

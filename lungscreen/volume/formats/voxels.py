"""Packed bytes ─► voxels, slab by slab: unpacked to the exact length, the checksum verified, never all at once.

A chest packs to a half or a tenth; a file that unpacks to hundreds of times its size is refused before it is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError
from lungscreen.sources import MOST_RATIO, RATIO_FREE_BYTES, SourceReader
from lungscreen.volume.formats.header import ImageHeader, Packing, damaged

__all__ = ["read_slabs"]

SURPLUS_BYTES = 512
"""Bytes that may follow the last voxel: a line's end or a block's padding. A row more or less would be no fewer."""
CHUNK_BYTES = 1 << 18
"""Packed bytes that are taken at a time."""
TEXT_BYTES = 32
"""Of a voxel written as text, at most."""
TEXT_VOXELS = 1 << 16
"""Voxels written as text that are taken at a time."""

_WINDOW = {"gzip": 16 + zlib.MAX_WBITS, "zlib": zlib.MAX_WBITS}


def read_slabs(header: ImageHeader, reader: SourceReader) -> Iterator[NDArray[Any]]:
    """The image's slabs (second slowest axis, fastest axis) in the order of the file; as many as its slowest axis has.

    The last slab is only given once all that follows it was checked. A slab is overwritten by the next one.

    Errors: `image-damaged`, `image-reference`, `file-unreadable`, `file-too-large`.
    """
    slabs, rows, columns = header.geometry.shape
    slab = np.empty((rows, columns), header.dtype)
    with reader.open(header.data) as file:
        packed = _packed_bytes(header, reader, file)
        _check_ratio(header, packed)
        stream = _Stream(file, header.packing, packed)
        stream.skip(header.skipped)
        for number in range(slabs):
            if header.packing == "text":
                stream.take_numbers(slab.reshape(-1))
            else:
                stream.take_into(slab.view(np.uint8).reshape(-1).data)
            if number == slabs - 1:
                stream.finish()
            yield slab


def _packed_bytes(header: ImageHeader, reader: SourceReader, file: BinaryIO) -> int:
    """How many bytes the packed voxels have; the file stands at the first of them then.

    Errors: `image-damaged`.
    """
    size = reader.size(header.data)
    start = header.start if header.start >= 0 else size - header.voxel_bytes
    if start < 0 or start > size:
        raise damaged("the file is shorter than its header says")
    file.seek(start)
    there = size - start
    if header.packed_bytes is None:
        return there
    if header.packed_bytes > there:
        raise damaged(f"{there} bytes of packed voxels instead of {header.packed_bytes}")
    return header.packed_bytes


def _check_ratio(header: ImageHeader, packed: int) -> None:
    """Errors: `file-too-large`, `image-damaged`."""
    whole = header.voxel_bytes
    if header.packing == "raw":
        if not whole <= packed <= whole + SURPLUS_BYTES:
            raise damaged(f"{packed} bytes of voxels instead of {whole}")
    elif whole > RATIO_FREE_BYTES and whole > MOST_RATIO * packed:
        raise InputError("file-too-large", f"unpacks to more than {MOST_RATIO:g} times its size")


class _Stream:
    """Unpacked bytes in the order in which they come."""

    def __init__(self, file: BinaryIO, packing: Packing, packed: int) -> None:
        self._file = file
        self._left = packed
        self._packing = packing
        self._unpacker = zlib.decompressobj(_WINDOW[packing]) if packing in _WINDOW else None
        self._waiting = b""
        """Packed bytes that were read and not yet unpacked."""
        self._text = b""

    def skip(self, count: int) -> None:
        """Pass over so many unpacked bytes.

        Errors: `image-damaged`.
        """
        while count:
            part = self._next(min(count, CHUNK_BYTES))
            if not part:
                raise damaged("its voxels break off")
            count -= len(part)

    def take_into(self, target: memoryview) -> None:
        """Fill `target`.

        Errors: `image-damaged` where the bytes end before, or do not unpack.
        """
        filled = 0
        while filled < len(target):
            part = self._next(len(target) - filled)
            if not part:
                raise damaged("its voxels break off")
            target[filled : filled + len(part)] = part
            filled += len(part)

    def take_numbers(self, target: NDArray[Any]) -> None:
        """Fill `target` with voxels that are written as text.

        Errors: `image-damaged`.
        """
        for first in range(0, len(target), TEXT_VOXELS):
            part = target[first : first + TEXT_VOXELS]
            part[:] = _numbers_of(self._words(len(part)), target.dtype)

    def _words(self, count: int) -> list[bytes]:
        """The next words of the text, each at most so long as a number is.

        Errors: `image-damaged`.
        """
        words = self._text.split(None, count)
        while len(words) <= count and len(self._text) <= (count + 1) * TEXT_BYTES:
            part = self._next(CHUNK_BYTES)
            if not part:
                break
            self._text += part
            words = self._text.split(None, count)
        self._text = words[count] if len(words) > count else b""
        if len(words) < count:
            raise damaged("its voxels break off")
        if any(len(word) > TEXT_BYTES or b"_" in word for word in words[:count]):  # float() takes 1_000 for a number
            raise damaged("a voxel is no number")
        return words[:count]

    def finish(self) -> None:
        """See that nothing but a short surplus follows, and that the checksum is there and right.

        Errors: `image-damaged`.
        """
        surplus = len(self._text.strip())
        while surplus <= SURPLUS_BYTES and (part := self._next(CHUNK_BYTES)):
            surplus += len(part)
        if surplus > SURPLUS_BYTES:
            raise damaged("more voxels follow than its header says")
        if self._unpacker is not None and not self._unpacker.eof:
            raise damaged("its packed voxels break off")

    def _next(self, most: int) -> bytes:
        """At most so many unpacked bytes; none at the end.

        Errors: `image-damaged`.
        """
        if self._unpacker is None:
            return self._read(most)
        while not self._unpacker.eof or self._starts_anew():
            packed = self._waiting or self._read(CHUNK_BYTES)
            if not packed:
                return b""
            try:
                part = self._unpacker.decompress(packed, most)
            except zlib.error:
                raise damaged("its packed voxels are damaged") from None
            self._waiting = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            if part:
                return part
        return b""

    def _starts_anew(self) -> bool:
        """Whether another gzip member follows: large files are packed in several."""
        if self._packing != "gzip":
            return False
        self._waiting = self._waiting.lstrip(b"\0")
        self._waiting += self._read(max(0, 2 - len(self._waiting)))
        if not self._waiting.strip(b"\0"):
            return False
        self._unpacker = zlib.decompressobj(_WINDOW["gzip"])
        return True

    def _read(self, most: int) -> bytes:
        part = self._file.read(min(most, self._left))
        self._left -= len(part)
        return part


def _numbers_of(words: list[bytes], dtype: np.dtype[Any]) -> NDArray[np.float64]:
    """Errors: `image-damaged` where a word is no number, or none that the voxels' type holds."""
    try:
        values = np.array([float(word) for word in words])
    except ValueError:
        raise damaged("a voxel is no number") from None
    if dtype.kind in "iu":
        span = np.iinfo(dtype)
        if not np.all((values >= span.min) & (values <= span.max) & (values == np.floor(values))):
            raise damaged("a voxel is none that its type holds")
    return values

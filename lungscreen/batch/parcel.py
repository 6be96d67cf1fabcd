"""A thing ─► Parcel ─► the same thing in another process; its large arrays are written once and mapped there, not
copied.

The parcel lies in a file in memory that has no name: it is gone when the last process that holds it ends, however it
ends.
"""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Parcel", "pack", "unpack"]

ALIGNMENT = 64
"""Arrays begin at multiples of so many bytes, as numpy has them."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """descriptor: of the open file.
    sizes: bytes of the thing without its arrays, then of each array.
    """

    descriptor: int
    sizes: tuple[int, ...]


def pack(thing: object) -> Parcel:
    """Write a thing that can be pickled into memory.

    Errors: OSError where there is no room.
    """
    buffers: list[pickle.PickleBuffer] = []
    body = pickle.dumps(thing, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(body), *(buffer.raw() for buffer in buffers)]
    sizes = tuple(part.nbytes for part in parts)
    descriptor = os.memfd_create("study", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, _whole(sizes))
        for part, start in zip(parts, _starts(sizes), strict=True):
            _write(descriptor, part, start)
    except BaseException:
        os.close(descriptor)
        raise
    return Parcel(descriptor, sizes)


def unpack(parcel: Parcel) -> Any:
    """The thing; its arrays may be written to, which nobody else sees. Closes the parcel."""
    try:
        view = memoryview(mmap.mmap(parcel.descriptor, _whole(parcel.sizes), access=mmap.ACCESS_COPY))
    finally:
        os.close(parcel.descriptor)
    body, *arrays = (view[start : start + n] for start, n in zip(_starts(parcel.sizes), parcel.sizes, strict=True))
    return pickle.loads(body, buffers=arrays)


def _starts(sizes: Sequence[int]) -> Iterator[int]:
    """Where each part begins."""
    start = 0
    for size in sizes:
        yield start
        start += -(-size // ALIGNMENT) * ALIGNMENT


def _whole(sizes: Sequence[int]) -> int:
    """Bytes of all parts."""
    *_, end = _starts([*sizes, 0])
    return end


def _write(descriptor: int, part: memoryview, start: int) -> None:
    done = 0
    while done < part.nbytes:
        done += os.pwrite(descriptor, part[done:], start + done)

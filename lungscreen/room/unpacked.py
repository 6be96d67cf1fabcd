"""Pack ─► voxels in a file that is mapped, not held: measuring a mark then touches what lies around it, no more.

<cache>/<pin>.hu      int16, as in the volume
<cache>/<pin>.lungs   uint8, the lungs' labels

The files are a cache of patient data: readable to the service's account only, the longest unused go first.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.outputs.room_pack import Pack

__all__ = ["Unpacked", "open_unpacked"]


@dataclass(frozen=True)
class Unpacked:
    """A study's voxels and lungs, (z, y, x)."""

    hu: NDArray[np.int16]
    lungs: NDArray[np.uint8]


def open_unpacked(pack: Pack, name: Path, most_bytes: int) -> Unpacked:
    """The voxels of a pack, from `name`.hu and `name`.lungs, which are written where they are not there.

    most_bytes: of all files beside them. A disk without room for them costs memory instead.

    Errors: `PackError`.
    """
    hu, lungs = name.with_suffix(".hu"), name.with_suffix(".lungs")
    shape = tuple(pack.about()["shape"])
    try:
        _fill(hu, shape, np.int16, pack.fill_hu)
        _fill(lungs, shape, np.uint8, pack.fill_lungs)
        _drop_old(name.parent, most_bytes, keep={hu, lungs})
        return Unpacked(np.memmap(hu, np.int16, "r", shape=shape), np.memmap(lungs, np.uint8, "r", shape=shape))
    except OSError:
        return Unpacked(pack.hu(), pack.lung_mask())


def _fill(path: Path, shape: tuple[int, ...], kind: Any, fill: Callable[[NDArray[Any]], None]) -> None:
    """A file of these voxels: written whole, or not there."""
    if path.exists() and path.stat().st_size == int(np.prod(shape)) * np.dtype(kind).itemsize:
        os.utime(path)
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with draft.open("xb") as file:
            os.fchmod(file.fileno(), 0o600)
            # a full disk is said here; in a mapped file it would kill the process
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(kind).itemsize)
        fill(np.memmap(draft, kind, "r+", shape=shape))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _drop_old(folder: Path, most_bytes: int, keep: set[Path]) -> None:
    """The longest unused go until the rest is small enough; who has one mapped keeps it until it is let go of."""
    found = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.[hl]u*"))
    left = sum(size for _, size, _ in found)
    for _, size, path in found:
        if left <= most_bytes:
            return
        if path not in keep:
            path.unlink(missing_ok=True)
            left -= size

"""A study's voxels, lungs and outlines in one file, compressed once, read a chunk at a time: `room.pack`.

    about.json          grid, instance numbers, what the lungs lack: nothing that CAD said
    slices-0000.zst …   16 slices each, int16 as two planes: all high bytes, then all low bytes
    lungs.zst           uint8, one a voxel
    outlines.json       polygons of the findings: behind the gate

Two planes compress to four fifths of what int16 as it is does, and faster: the high bytes hardly change.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard
from numpy.typing import NDArray

from lungscreen.files import replace_file
from lungscreen.geometry import Geometry
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.outlines import outline_polygons
from lungscreen.records import Lungs, Volume
from lungscreen.results.finished import Finished

__all__ = [
    "CHUNK",
    "PACK_FILE",
    "Pack",
    "PackError",
    "RoomPack",
    "join_planes",
    "pack_geometry",
    "pack_lungs",
    "split_planes",
    "write_pack",
]

PACK_FILE = "room.pack"

CHUNK = 16
"""Slices that travel together."""

_LEVEL = 1
"""Of zstd: 345 MB/s on one core, and level 3 saves less than 2 %."""

_VERSION = 1
MOST_VOXELS = 2_000_000_000
"""A larger grid is none that screening wrote."""


class RoomPack:
    """room.pack, for the reading room: made while the volume is at hand, so that the first opening does not wait."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """The pack."""
        grid = finished.volume.geometry
        shapes = {shape.number: outline_polygons(shape.outline, grid) for shape in finished.findings}
        yield NamedFile(PACK_FILE, lambda file: write_pack(file, finished.volume, finished.lungs, shapes))


class PackError(ValueError):
    """A file that is no whole pack."""


def split_planes(hu: NDArray[np.int16]) -> bytes:
    """All high bytes, then all low bytes, in the array's order."""
    values = np.ascontiguousarray(hu, dtype="<i2").view(np.uint8).reshape(-1, 2)
    return values[:, 1].tobytes() + values[:, 0].tobytes()


def join_planes(planes: bytes, shape: Sequence[int]) -> NDArray[np.int16]:
    """The way back."""
    both = np.frombuffer(planes, np.uint8).reshape(2, -1)
    return np.stack([both[1], both[0]], axis=1).reshape(-1).view("<i2").reshape(shape).astype(np.int16, copy=False)


def write_pack(
    file: IO[bytes],
    volume: Volume,
    lungs: Lungs,
    outlines: Mapping[int, Any] | None,
) -> None:
    """Write a pack into an open file.

    outlines: polygons by the finding's number, None where none are known.
    """
    squeeze = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as pack:
        pack.writestr("about.json", json.dumps(_about(volume, lungs)))
        for start in range(0, volume.geometry.shape[0], CHUNK):
            pack.writestr(_member(start), squeeze.compress(split_planes(volume.hu[start : start + CHUNK])))
        pack.writestr("lungs.zst", squeeze.compress(np.ascontiguousarray(lungs.mask, np.uint8).tobytes()))
        pack.writestr("outlines.json", json.dumps(outlines))


@dataclass(frozen=True)
class Pack:
    """A pack on disk. Every look opens the file: it may be replaced at any moment by a new one."""

    path: Path

    def about(self) -> dict[str, Any]:
        """What is known of the volume.

        Errors: `PackError`.
        """
        try:
            status = self.path.stat()
        except OSError as error:
            raise PackError(f"no pack: {type(error).__name__}") from None
        return _read_about(self.path, status.st_mtime_ns, status.st_size)

    def chunk(self, start: int) -> bytes:
        """The zstd-compressed planes of the slices from `start` on.

        Errors: `PackError`.
        """
        return self._member(_member(start))

    def chunk_as_gzip(self, start: int, cache: Path) -> bytes:
        """The same for who cannot take zstd; compressed once, kept in `cache`.

        Errors: `PackError`.
        """
        kept = cache / f"{start:04d}.gz"
        if kept.is_file():
            return kept.read_bytes()
        content = gzip.compress(_expand(self.chunk(start)), 1, mtime=0)
        replace_file(kept, content)
        return content

    def outlines(self) -> dict[int, Any] | None:
        """Polygons by the finding's number; None where none were kept.

        Errors: `PackError`.
        """
        found = json.loads(self._member("outlines.json"))
        return None if found is None else {int(number): shape for number, shape in found.items()}

    def hu(self) -> NDArray[np.int16]:
        """The whole volume.

        Errors: `PackError`.
        """
        hu = np.empty(self.about()["shape"], np.int16)
        self.fill_hu(hu)
        return hu

    def fill_hu(self, hu: NDArray[np.int16]) -> None:
        """The whole volume, into an array of its shape.

        Errors: `PackError`.
        """
        for start in range(0, len(hu), CHUNK):
            part = hu[start : start + CHUNK]
            part[:] = join_planes(_expand(self.chunk(start)), part.shape)

    def lung_mask(self) -> NDArray[np.uint8]:
        """The lungs' labels.

        Errors: `PackError`.
        """
        return np.frombuffer(_expand(self._member("lungs.zst")), np.uint8).reshape(self.about()["shape"])

    def fill_lungs(self, mask: NDArray[np.uint8]) -> None:
        """The lungs' labels, into an array of the volume's shape.

        Errors: `PackError`.
        """
        mask[:] = self.lung_mask()

    def _member(self, name: str) -> bytes:
        try:
            with zipfile.ZipFile(self.path) as pack:
                return pack.read(name)
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise PackError(f"no pack: {type(error).__name__}") from None


def pack_geometry(about: Mapping[str, Any]) -> Geometry:
    """The volume's grid."""
    slices, rows, columns = about["shape"]
    return Geometry(np.array(about["affine"]), (slices, rows, columns), about["frame_of_reference"])


def pack_lungs(about: Mapping[str, Any], mask: NDArray[np.uint8]) -> Lungs:
    """The lungs as they were found."""
    told = dict(about["lungs"])
    place = told.get("opacity_mm")
    return Lungs(mask, **{**told, "opacity_mm": None if place is None else tuple(place)})


def _about(volume: Volume, lungs: Lungs) -> dict[str, Any]:
    inside = np.argwhere(lungs.mask.any(axis=(1, 2))), np.argwhere(lungs.mask.any(axis=(0, 2)))
    box = (*inside, np.argwhere(lungs.mask.any(axis=(0, 1))))
    found = all(len(axis) for axis in box)
    return {
        "version": _VERSION,
        "series_uid": volume.series_uid,
        "shape": list(volume.geometry.shape),
        "affine": volume.geometry.affine.tolist(),
        "spacing_mm": list(volume.geometry.spacing_mm),
        "frame_of_reference": volume.geometry.frame_of_reference,
        "instance_numbers": list(volume.instance_numbers),
        "lowest_hu": int(volume.hu.min()),
        "highest_hu": int(volume.hu.max()),
        "lung_box": [[int(axis[0, 0]), int(axis[-1, 0]) + 1] for axis in box] if found else None,
        "lungs": {f.name: getattr(lungs, f.name) for f in fields(lungs) if f.name not in ("mask", "notices")},
    }


@lru_cache(maxsize=256)
def _read_about(path: Path, _changed: int, _size: int) -> dict[str, Any]:
    """What a pack says of its volume: asked for with every chunk, read once as long as the file stays."""
    try:
        with zipfile.ZipFile(path) as pack:
            about: dict[str, Any] = json.loads(pack.read("about.json"))
        shape = about["shape"]
    except (OSError, KeyError, ValueError, TypeError, zipfile.BadZipFile) as error:
        raise PackError(f"no pack: {type(error).__name__}") from None
    if about.get("version") != _VERSION or len(shape) != 3 or not 0 < np.prod(shape, dtype=float) <= MOST_VOXELS:
        raise PackError("of another version, or too large")
    return about


def _member(start: int) -> str:
    return f"slices-{start:04d}.zst"


def _expand(content: bytes) -> bytes:
    try:
        return zstandard.ZstdDecompressor().decompress(content)
    except zstandard.ZstdError:
        raise PackError("damaged") from None

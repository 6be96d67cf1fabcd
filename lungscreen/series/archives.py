"""Zip archive ─► its members that may be read, within limits. Nothing is unpacked here."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

from lungscreen.errors import InputError
from lungscreen.records import Source
from lungscreen.series.config import SeriesConfig

__all__ = ["is_archive", "list_members"]

RATIO_FREE_BYTES = 4 << 20
"""Members up to this size are not held to the ratio: a blank slice packs well."""

_ENCRYPTED = 0x1


def is_archive(path: Path) -> bool:
    """By the first bytes (also of an empty archive)."""
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def list_members(path: Path, config: SeriesConfig) -> tuple[list[Source], list[tuple[Source, InputError]]]:
    """Members of an archive, sorted by name; and those that cannot be read: encrypted and nested ones.

    Errors: `archive-damaged`, `archive-unsafe`, `archive-too-large`.
    """
    members = _files_in(path)
    _check_sizes(members, config, str(path))
    unsafe = [info.filename for info in members if _leads_out(info.filename)]
    if unsafe:
        raise InputError("archive-unsafe", f"{len(unsafe)} member(s) whose name leads out of it", str(path))
    sources: dict[str, Source] = {}
    refused: list[tuple[Source, InputError]] = []
    for info in sorted(members, key=lambda member: member.filename):
        source = Source(path, info.filename)
        if info.flag_bits & _ENCRYPTED:
            refused.append((source, InputError("archive-encrypted", "encrypted")))
        elif info.filename.lower().endswith(".zip"):
            refused.append((source, InputError("archive-nested", "an archive in an archive")))
        elif not stat.S_ISLNK(info.external_attr >> 16):
            sources[info.filename] = source
    return list(sources.values()), refused


def _files_in(path: Path) -> list[zipfile.ZipInfo]:
    """Errors: `archive-damaged`."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [info for info in archive.infolist() if not info.is_dir()]
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise InputError("archive-damaged", f"cannot be opened as zip ({type(error).__name__})", str(path)) from None


def _check_sizes(members: list[zipfile.ZipInfo], config: SeriesConfig, where: str) -> None:
    """Errors: `archive-too-large`."""
    if len(members) > config.most_archive_members:
        raise InputError("archive-too-large", f"{len(members)} members", where)
    sizes = [(info.file_size, info.compress_size) for info in members]
    total, packed = (sum(column) for column in zip(*sizes, strict=True)) if sizes else (0, 0)
    if max(sizes, default=(0, 0))[0] > config.most_member_mb * 1e6 or total > config.most_archive_mb * 1e6:
        raise InputError("archive-too-large", f"unpacks to {total / 1e6:.0f} MB", where)

    def is_dense(size: int, compressed: int, free: int) -> bool:
        return size > free and size > config.most_ratio * compressed

    if is_dense(total, packed, 16 * RATIO_FREE_BYTES) or any(is_dense(*one, RATIO_FREE_BYTES) for one in sizes):
        raise InputError("archive-too-large", f"unpacks to more than {config.most_ratio:g} times its size", where)


def _leads_out(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or name.startswith(("/", "\\")) or (len(parts[0]) == 2 and parts[0].endswith(":"))

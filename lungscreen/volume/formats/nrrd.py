"""NRRD ─► ImageHeader. Lines of `field: value`, comments with `#`, key-value pairs with `:=`; an empty line ends
them.
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice, VolumeError
from lungscreen.records import Source
from lungscreen.volume.formats.beside import file_beside
from lungscreen.volume.formats.header import ImageHeader, Packing, check_shape, damaged, make_geometry, numbers

__all__ = ["parse_nrrd"]

_TYPES = {
    "i1": "signed char|int8|int8_t",
    "u1": "uchar|unsigned char|uint8|uint8_t",
    "i2": "short|short int|signed short|signed short int|int16|int16_t",
    "u2": "ushort|unsigned short|unsigned short int|uint16|uint16_t",
    "i4": "int|signed int|int32|int32_t",
    "u4": "uint|unsigned int|uint32|uint32_t",
    "i8": "longlong|long long|long long int|signed long long|signed long long int|int64|int64_t",
    "u8": "ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t",
    "f4": "float",
    "f8": "double",
}
_SPACES = {
    "left-posterior-superior": (1, 1, 1), "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1), "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1), "las": (1, -1, 1),
}  # fmt: skip
"""Signs that turn a space's axes into LPS. Every other name says nothing about the patient."""
_PACKINGS: dict[str, Packing] = {
    "raw": "raw",
    "gzip": "gzip",
    "gz": "gzip",
    "text": "text",
    "txt": "text",
    "ascii": "text",
}
_MM = frozenset({"mm", "millimeter", "millimeters", "millimetre", "millimetres", "???", ""})


def parse_nrrd(head: bytes, source: Source) -> ImageHeader:
    """head: the file's first bytes, `HEADER_BYTES` at most.

    Errors: `image-damaged`, `image-reference`, `image-dimensions`, `image-geometry`, `volume-too-large`.
    """
    fields, end = _fields(head)
    dims = int(numbers(_said(fields, "dimension"), 1)[0])
    sizes = check_shape(numbers(_said(fields, "sizes"), dims))
    directions, origin, notices = _place(fields)
    packing = _PACKINGS.get(_said(fields, "encoding").lower())
    if packing is None:
        raise damaged(f"its encoding {fields['encoding'][:20]} is not read")
    data, start = _data_place(fields, source, end, packing)
    return ImageHeader(
        geometry=make_geometry(directions, origin, sizes),
        dtype=_dtype(fields, packing),
        data=data,
        start=start,
        packing=packing,
        notices=notices,
    )


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Field → value, names without blanks in lower case; and the byte that follows the header.

    Errors: `image-damaged`.
    """
    if not re.match(rb"NRRD000[1-5]\r?\n", head):
        raise damaged("it does not begin as NRRD does")
    found = re.search(rb"\r?\n\r?\n", head)
    text = head[: found.start()] if found else head.rstrip()
    fields: dict[str, str] = {}
    for line in text.decode("latin-1").splitlines()[1:]:
        name, colon, value = line.partition(":")
        if line.startswith("#") or not colon or value.startswith("="):
            continue
        key = name.replace(" ", "").lower()
        if fields.get(key, value.strip()) != value.strip():
            raise damaged(f"its header gives {name[:40]} twice")
        fields[key] = value.strip()
    if not found and "datafile" not in fields:
        raise damaged("its header has no end")
    return fields, found.end() if found else len(head)


def _said(fields: dict[str, str], key: str) -> str:
    """Errors: `image-damaged`."""
    if not fields.get(key):
        raise damaged(f"its header lacks {key}")
    return fields[key]


def _dtype(fields: dict[str, str], packing: Packing) -> np.dtype:
    """Errors: `image-damaged`."""
    said = " ".join(_said(fields, "type").lower().split())
    kind = next((kind for kind, names in _TYPES.items() if said in names.split("|")), None)
    if kind is None:
        raise damaged(f"its type {said[:20]} is not read")
    endian = fields.get("endian", "").lower()
    if endian not in ("little", "big") and kind[1] != "1" and packing != "text":
        raise damaged("its header does not say which byte of a voxel comes first")
    order: Literal["<", ">"] = ">" if endian == "big" else "<"
    return np.dtype(kind).newbyteorder(order)


def _place(fields: dict[str, str]) -> tuple[NDArray[np.float64], list[float], tuple[Notice, ...]]:
    """Steps along the file's axes as columns, in LPS mm; the first voxel's place; what was guessed.

    Errors: `image-geometry`, `image-damaged`.
    """
    _check_units(fields)
    vectors, spacings = fields.get("spacedirections", ""), fields.get("spacings", "")
    if vectors:
        return *_directed(fields, vectors, spacings), ()
    if not spacings:
        raise VolumeError("image-geometry", "the header gives no spacing")
    if fields.get("space") or fields.get("spacedimension"):
        raise VolumeError("image-geometry", "its header names a space but no directions in it")
    steps = np.array(numbers(" ".join(spacings.split()[:3]), 3))
    text = "No orientation in the header; it was read as LPS."
    return np.diag(steps), [0.0, 0.0, 0.0], (Notice("image-geometry-guessed", text),)


def _check_units(fields: dict[str, str]) -> None:
    """Errors: `image-geometry`."""
    units = set(re.findall(r'"([^"]*)"', fields.get("spaceunits", "") + fields.get("units", "")))
    if not {unit.strip().lower() for unit in units} <= _MM:
        raise VolumeError("image-geometry", f"its units are {', '.join(sorted(units))[:40]}, not mm")


def _directed(fields: dict[str, str], vectors: str, spacings: str) -> tuple[NDArray[np.float64], list[float]]:
    """Steps as columns and the first voxel's place where the header gives directions.

    Errors: `image-geometry`, `image-damaged`.
    """
    signs = _SPACES.get(fields.get("space", "").lower())
    if signs is None or spacings:
        reason = "gives its spacing twice" if signs else "does not say where the patient's left and right are"
        raise VolumeError("image-geometry", f"its header {reason}")
    columns = [_vector(text) for text in re.findall(r"\([^()]*\)|none", vectors)[:3]]
    origin = _vector(fields["spaceorigin"]) if fields.get("spaceorigin") else [0.0, 0.0, 0.0]
    if len(columns) != 3:
        raise damaged("its header gives fewer than three directions")
    turn = np.array(signs, dtype=np.float64)
    return turn[:, None] * np.array(columns).T, list(turn * origin)


def _vector(text: str) -> list[float]:
    """Errors: `image-damaged`."""
    return numbers(text.strip("() ").replace(",", " "), 3)


def _data_place(fields: dict[str, str], source: Source, end: int, packing: Packing) -> tuple[Source, int]:
    """The file that holds the voxels, and the byte at which they begin; -1: they are its last bytes.

    Errors: `image-reference`, `image-damaged`.
    """
    lines, skipped = (int(numbers(fields.get(key, "0"), 1)[0]) for key in ("lineskip", "byteskip"))
    if lines or skipped < -1 or (skipped and packing != "raw"):
        raise damaged("lines or packed bytes are to be skipped before its voxels")
    name = fields.get("datafile", "")
    if not name:
        return source, -1 if skipped == -1 else end + skipped
    if name.split()[0].upper() == "LIST" or "%" in name:
        raise InputError("image-reference", "it names several data files")
    return file_beside(source, name), skipped

"""MetaImage (`.mha`; `.mhd` with its data file beside it) ─► ImageHeader.

Lines of `Key = value`, or `Key: value`, with blanks as one likes, as the library that defines the format reads them;
`ElementDataFile` ends the header.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice, VolumeError
from lungscreen.records import Source
from lungscreen.volume.formats.beside import file_beside
from lungscreen.volume.formats.header import (
    HEADER_BYTES,
    ImageHeader,
    Packing,
    check_shape,
    damaged,
    make_geometry,
    numbers,
)

__all__ = ["parse_metaimage"]

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2", "MET_INT": "i4", "MET_UINT": "u4",
    "MET_LONG": "i4", "MET_ULONG": "u4", "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_TWINS = (
    ("Offset", "Position", "Origin"),
    ("TransformMatrix", "Rotation", "Orientation"),
    ("BinaryDataByteOrderMSB", "ElementByteOrderMSB"),
)
"""Keys that mean the same."""
_AXES = (("R", "L"), ("A", "P"), ("I", "S"))
"""AnatomicalOrientation names where an axis comes from: along +x from the right, along -x from the left."""
_DEFAULT_ORIENTATION = "RAI"


def parse_metaimage(head: bytes, source: Source) -> ImageHeader:
    """head: the file's first bytes, `HEADER_BYTES` at most.

    Errors: `image-damaged`, `image-reference`, `image-dimensions`, `image-geometry`, `image-not-hu`,
    `volume-too-large`.
    """
    fields, end = _fields(head)
    dims = int(numbers(_said(fields, "NDims"), 1)[0])
    sizes = check_shape(numbers(_said(fields, "DimSize"), dims), _channels(fields))
    kind = _TYPES.get(_said(fields, "ElementType"))
    if kind is None:
        raise damaged(f"its element type {fields['ElementType'][:20]} is not read")
    directions, notices = _directions(fields, dims)
    origin = numbers(_twin(fields, 0), dims)[:3] if _twin(fields, 0) else [0.0, 0.0, 0.0]
    for key, plain in (("ElementToIntensityFunctionSlope", 1.0), ("ElementToIntensityFunctionOffset", 0.0)):
        if numbers(fields.get(key, str(plain)), 1)[0] != plain:
            raise VolumeError("image-not-hu", f"{key} is not {plain:g}")
    data, start = _data_place(fields, source, end)
    return ImageHeader(
        geometry=make_geometry(directions, origin, sizes),
        dtype=np.dtype(kind).newbyteorder(">" if _is_true(_twin(fields, 2)) else "<"),
        data=data,
        start=start,
        packing=_packing(fields),
        packed_bytes=_packed_bytes(fields),
        notices=notices,
    )


def _fields(head: bytes) -> tuple[dict[str, str], int]:
    """Key → value up to ElementDataFile; and the byte that follows that line.

    Errors: `image-damaged`.
    """
    fields: dict[str, str] = {}
    place = 0
    while "ElementDataFile" not in fields:
        end = head.find(b"\n", place)
        if end < 0:
            # a header alone may end without a line's end
            end = len(head)
        if place >= len(head) or (end == len(head) and len(head) >= HEADER_BYTES):
            raise damaged("its header has no end")
        key, value = _key_and_value(head[place:end].decode("latin-1"))
        place = end + 1
        if fields.get(key, value) != value:
            raise damaged(f"its header gives {key[:40]} twice")
        if key:
            fields[key] = value
    if any(fields.get(key, value) != value for key, value in (("ObjectType", "Image"), ("BinaryData", "True"))):
        raise damaged("it is no image, or its voxels are written as text")
    return fields, place


def _key_and_value(line: str) -> tuple[str, str]:
    """Parted at the first = or colon; empty where a line has neither."""
    cut = min((at for at in (line.find("="), line.find(":")) if at >= 0), default=-1)
    return ("", "") if cut < 0 else (line[:cut].strip(), line[cut:].lstrip("=: \t").rstrip())


def _said(fields: dict[str, str], key: str) -> str:
    """Errors: `image-damaged`."""
    if not fields.get(key):
        raise damaged(f"its header lacks {key}")
    return fields[key]


def _twin(fields: dict[str, str], number: int) -> str:
    """The value of keys that mean the same; empty where none is there.

    Errors: `image-damaged` where they differ.
    """
    found = {fields[key] for key in _TWINS[number] if fields.get(key)}
    if len(found) > 1:
        raise damaged(f"its header gives {' and '.join(_TWINS[number])} in different ways")
    return found.pop() if found else ""


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")


def _channels(fields: dict[str, str]) -> int:
    return int(numbers(fields.get("ElementNumberOfChannels", "1"), 1)[0])


def _directions(fields: dict[str, str], dims: int) -> tuple[NDArray[np.float64], tuple[Notice, ...]]:
    """Column n: the step in LPS mm along the file's axis n.

    Errors: `image-geometry`, `image-damaged`.
    """
    spacing = fields.get("ElementSpacing") or fields.get("ElementSize")
    if not spacing:
        raise VolumeError("image-geometry", "the header gives no spacing")
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?", ""):
        raise VolumeError("image-geometry", f"its unit is {fields['DistanceUnits'][:20]}, not mm")
    steps = np.array(numbers(spacing, dims)[:3])
    if steps.min() <= 0:
        raise VolumeError("image-geometry", "a spacing is not positive")
    matrix = _twin(fields, 1)
    if not matrix:
        text = "No orientation in the header; it was read as LPS."
        return np.diag(steps), (Notice("image-geometry-guessed", text),)
    cosines = np.array(numbers(matrix, dims * dims)).reshape(dims, dims)[:3, :3].T
    lengths = np.linalg.norm(cosines, axis=0)
    if lengths.min() <= 0:
        raise VolumeError("image-geometry", "an axis has no direction")
    return cosines / lengths * steps, _check_orientation(fields.get("AnatomicalOrientation", ""), cosines)


def _check_orientation(said: str, cosines: NDArray[np.float64]) -> tuple[Notice, ...]:
    """What AnatomicalOrientation has to say against the matrix; many writers put RAI whatever the matrix is.

    Errors: `image-geometry`.
    """
    said = said.upper()
    if len(said) != 3 or not set(said) <= set("RLAPIS"):
        return ()
    main = np.abs(cosines).argmax(axis=0)
    meant = "".join(_AXES[axis][int(cosines[axis, n] < 0)] for n, axis in enumerate(main))
    if said == meant:
        return ()
    if said != _DEFAULT_ORIENTATION:
        raise VolumeError("image-geometry", f"TransformMatrix means {meant}, AnatomicalOrientation says {said}")
    return (
        Notice("image-geometry-guessed", f"AnatomicalOrientation says {said}; TransformMatrix ({meant}) was used."),
    )


def _packing(fields: dict[str, str]) -> Packing:
    return "zlib" if _is_true(fields.get("CompressedData", "")) else "raw"


def _packed_bytes(fields: dict[str, str]) -> int | None:
    """Errors: `image-damaged`."""
    if _packing(fields) == "raw" or not fields.get("CompressedDataSize"):
        return None
    size = numbers(fields["CompressedDataSize"], 1)[0]
    return int(size) if size > 0 else None


def _data_place(fields: dict[str, str], source: Source, end: int) -> tuple[Source, int]:
    """The file that holds the voxels, and the byte at which they begin; -1: they are its last bytes.

    Errors: `image-reference`, `image-damaged`.
    """
    skipped = int(numbers(fields.get("HeaderSize", "0"), 1)[0])
    if skipped < -1 or (skipped == -1 and _packing(fields) != "raw"):
        raise damaged("the size of its header is negative")
    name = fields["ElementDataFile"]
    if name.upper() == "LOCAL":
        return source, skipped or end
    if not name or name.split()[0].upper() == "LIST" or "%" in name:
        raise InputError("image-reference", "it names several data files, or none")
    return file_beside(source, name), skipped

"""A scan around its lungs ─► a shard: voxels of 1 mm, int16, with its annotations; and back, its hash checked.

    OUT/NAME.npz   hu int16 (z, y, x), lung (packed bits of the same shape), affine (4, 4) LPS mm
    OUT/NAME.json  series, licence, whether all else is healthy; nodules and excluded findings by voxel (z, y, x)
    OUT/index.json every shard with its SHA-256, patient and split

The same seed, scan and options give the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.datasets.scans import Annotation, Annotations
from lungscreen.detect.resampling import resample_box
from lungscreen.errors import InputError
from lungscreen.files import replace_file
from lungscreen.geometry import Geometry
from lungscreen.records import Lungs, Volume
from lungscreen.weights import sha256_of

__all__ = [
    "INDEX",
    "Shard",
    "annotations_of",
    "check_shard",
    "cut_shard",
    "load_shard",
    "read_facts",
    "read_index",
    "write_index",
    "write_shard",
]

INDEX = "index.json"
SCHEMA = 1
"""Version of index.json."""
HIGHEST_HU = 3071
"""Values above are metal: cut, as everywhere in training."""
_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Shard:
    """One scan, ready to learn from.

    hu: int16 and lung: bool, (z, y, x) on `geometry` (1 mm, canonical axes).
    """

    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    geometry: Geometry
    annotations: Annotations


def cut_shard(volume: Volume, lungs: Lungs, annotations: Annotations, spacing_mm: float, margin_mm: float) -> Shard:
    """The box around lungs and nodules, `margin_mm` wider, at `spacing_mm`."""
    box = _box(volume.geometry, lungs.mask, annotations.nodules, margin_mm)
    hu, geometry = resample_box(volume.hu, volume.geometry, box, spacing_mm)
    lung = _nearest(lungs.mask > 0, volume.geometry, geometry)
    return Shard(np.clip(hu, None, HIGHEST_HU).astype(np.int16), lung, geometry, annotations)


def write_shard(folder: Path, name: str, shard: Shard, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Write NAME.npz and NAME.json, each whole or not at all.

    `facts`: what stands in NAME.json beside the annotations. Returns the shard's hashes and sizes for the index.

    Errors: `output-failed`.
    """
    arrays: dict[str, NDArray[Any]] = {"hu": shard.hu, "lung": np.packbits(shard.lung), "affine": shard.geometry.affine}
    content = _pack(arrays)
    lesions = [_by_voxel(a, shard.geometry) for a in shard.annotations.nodules]
    excluded = [_by_voxel(a, shard.geometry) for a in shard.annotations.excluded]
    text = json.dumps({"name": name, **facts, "lesions": lesions, "excluded": excluded}, allow_nan=False)
    replace_file(folder / f"{name}.npz", content)
    replace_file(folder / f"{name}.json", text)
    return {
        "sha256": hashlib.sha256(content).hexdigest(),
        "annotations_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "bytes": len(content),
        "shape": list(shard.hu.shape),
    }


def load_shard(folder: Path, entry: Mapping[str, Any]) -> tuple[Shard, Mapping[str, Any]]:
    """One shard of an index, its hashes checked first; and the facts of its NAME.json.

    Errors: `shard-damaged`.
    """
    check_shard(folder, entry)
    name = Path(str(entry["name"])).name
    facts = read_facts(folder, name)
    with np.load(folder / f"{name}.npz") as arrays:
        hu, packed, affine = arrays["hu"], arrays["lung"], arrays["affine"]
    lung = np.unpackbits(packed)[: hu.size].reshape(hu.shape).astype(bool)
    return Shard(hu, lung, Geometry(affine, hu.shape), annotations_of(facts)), facts


def annotations_of(facts: Mapping[str, Any]) -> Annotations:
    """Nodules and excluded findings of a NAME.json."""
    return Annotations(tuple(map(_annotation, facts["lesions"])), tuple(map(_annotation, facts["excluded"])))


def read_facts(folder: Path, name: str) -> dict[str, Any]:
    """A shard's NAME.json."""
    return dict(json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def check_shard(folder: Path, entry: Mapping[str, Any]) -> None:
    """Refuse a shard that is not what the index says, byte for byte.

    Errors: `shard-damaged`.
    """
    name = Path(str(entry["name"])).name
    for file, key in ((f"{name}.npz", "sha256"), (f"{name}.json", "annotations_sha256")):
        path = folder / file
        if not path.is_file():
            raise InputError("shard-damaged", "the file is missing", file)
        if (actual := sha256_of(path)) != entry[key]:
            raise InputError("shard-damaged", f"expected sha256 {entry[key]}, got {actual}", file)


def read_index(folder: Path) -> dict[str, Any] | None:
    """The index of a folder of shards, None where there is none.

    Errors: `shard-damaged` for an index that is none.
    """
    path = folder / INDEX
    if not path.exists():
        return None
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["schema"] != SCHEMA or not all({"name", "sha256", "split"} <= row.keys() for row in index["shards"]):
            raise ValueError("of another version")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError("shard-damaged", f"no index of shards: {error}", str(path)) from None
    return dict(index)


def write_index(folder: Path, content: Mapping[str, Any]) -> None:
    """Write index.json, whole or not at all.

    Errors: `output-failed`.
    """
    replace_file(folder / INDEX, json.dumps({"schema": SCHEMA, **content}, indent=1, allow_nan=False) + "\n")


def _box(
    geometry: Geometry, mask: NDArray[np.uint8], nodules: Sequence[Annotation], margin_mm: float
) -> tuple[slice, slice, slice]:
    """Where lungs and nodules are, in voxels of the volume."""
    spacing = np.array(geometry.spacing_mm)
    spans = [np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    low, high = np.array([s[0] for s in spans], float), np.array([s[-1] for s in spans], float)
    for nodule in nodules:
        place, reach = geometry.to_index(nodule.centre_mm), max(nodule.diameter_mm, 0) / 2 / spacing
        low, high = np.minimum(low, place - reach), np.maximum(high, place + reach)
    start = np.maximum(0, np.floor(low - margin_mm / spacing)).astype(int)
    stop = np.minimum(geometry.shape, np.ceil(high + margin_mm / spacing) + 1).astype(int)
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def _nearest(mask: NDArray[np.bool_], geometry: Geometry, wanted: Geometry) -> NDArray[np.bool_]:
    """A mask on another grid with the same axes."""
    first, last = geometry.to_index(wanted.origin_mm), geometry.to_index(wanted.to_mm(np.array(wanted.shape) - 1))
    index = [
        np.clip(np.rint(np.linspace(a, b, count)), 0, size - 1).astype(int)
        for a, b, count, size in zip(first, last, wanted.shape, mask.shape, strict=True)
    ]
    moved: NDArray[np.bool_] = mask[np.ix_(*index)]
    return moved


def _pack(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The bytes of an .npz file: deflated, without a clock in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy", _DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            content = io.BytesIO()
            np.lib.format.write_array(content, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(member, content.getbuffer(), compresslevel=1)
    return file.getvalue()


def _by_voxel(annotation: Annotation, geometry: Geometry) -> dict[str, Any]:
    voxel = [float(v) for v in geometry.to_index(annotation.centre_mm)]
    if not all(map(math.isfinite, voxel)):
        raise InputError("annotation-outside", "a nodule's place is no number")
    return {"voxel": voxel, **asdict(annotation), "centre_mm": list(annotation.centre_mm)}


def _annotation(row: Mapping[str, Any]) -> Annotation:
    x, y, z = row["centre_mm"]
    return Annotation((x, y, z), row["diameter_mm"], row["type"], row["readers"])

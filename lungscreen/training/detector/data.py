"""Nodule cubes and whole scans → compact 1 mm shards that the detector's training reads.

    DATA/cubes → OUT/cubes.npz, cubes.json, cubes.sha256
    DATA/scans.csv, lesions.csv, tables → OUT/SCAN.npz, SCAN.json, index.json (see `lungscreen.datasets`)

Everything is prepared once, for every split; which part is learned from is the training configuration's business
(`lungscreen.training.detector`). Voxel coordinates are (z, y, x) of the shard.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.datasets import find_collection, prepare_dataset
from lungscreen.datasets.shards import check_shard, read_index
from lungscreen.errors import InputError
from lungscreen.files import replace_file
from lungscreen.weights import sha256_of

__all__ = [
    "CUBE",
    "Cube",
    "Mark",
    "PreparedScan",
    "load_cubes",
    "load_scan",
    "prepare_cubes",
    "prepare_scans",
    "unpack_mask",
]

CUBE = 50
"""Voxels of a cube's side, 1 mm each."""

LUNG_ROOM_MM = 12
"""Room around the lungs that a scan's shard keeps."""

CUBES = ("cubes.npz", "cubes.json")
"""Files of the cubes; `cubes.sha256` holds their hashes, as `sha256sum` writes them."""

Voxel = tuple[float, float, float]


@dataclass(frozen=True)
class Mark:
    """Something annotated: place in voxels (z, y, x) and diameter in mm."""

    voxel: Voxel
    diameter_mm: float


@dataclass(frozen=True)
class Cube:
    """A nodule where it grew. `index` is its place in the arrays of `load_cubes`.

    diameter_mm: of the sphere of the mask's volume.
    placed: all else in the cube was read and annotated.
    texture: 1 ground-glass … 5 solid, 0 not rated.
    nodules, excluded: what else was annotated in it.
    """

    index: int
    name: str
    series_uid: str
    patient_id: str
    subset: str
    placed: bool
    nodule: Mark
    table_diameter_mm: float
    texture: int
    nodules: tuple[Mark, ...]
    excluded: tuple[Mark, ...]


@dataclass(frozen=True, eq=False)
class PreparedScan:
    """A scan around its lungs at 1 mm.

    sure: every nodule in it is annotated, other tissue is none.
    """

    name: str
    series_uid: str
    original_series_uid: str
    licence: str
    sure: bool
    lesions: tuple[Mark, ...]
    excluded: tuple[Mark, ...]
    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    affine: NDArray[np.float64]


# -- cubes -----------------------------------------------------------------------------------------------------------
def prepare_cubes(data: Path, out: Path) -> None:
    """All cubes → `cubes.npz` (hu, packed masks), `cubes.json` and `cubes.sha256`.

    Errors: `training-data-invalid`, `annotation-outside`, `output-failed`.
    """
    try:
        hus, packed, cubes = _read_cubes(data / "cubes")
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        reason = f"cannot read the cubes ({type(error).__name__})"
        raise InputError("training-data-invalid", reason, str(data / "cubes")) from None
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "cubes.npz", hu=np.stack(hus), masks=np.stack(packed))
    text = json.dumps([asdict(c) for c in cubes])
    replace_file(out / "cubes.json", text)
    replace_file(out / "cubes.sha256", "".join(f"{sha256_of(out / name)}  {name}\n" for name in CUBES))


def _read_cubes(folder: Path) -> tuple[list[NDArray[np.int16]], list[NDArray[np.uint8]], list[Cube]]:
    """HU and packed mask of each cube, and what the tables say of it."""
    import jpeg_ls

    with (folder / "masks.npz").open("rb") as file, np.load(file) as archive:
        masks = dict(archive)
    others: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in _table(folder / "others.csv"):
        others.setdefault((row["cube"], row["kind"]), []).append(row)
    hus, packed, cubes = [], [], []
    for index, row in enumerate(_table(folder / "cubes.csv")):
        name = row["cube"]
        code = jpeg_ls.decode(np.fromfile(folder / "ct" / f"{name}.jls", np.uint8))
        hus.append((code.reshape(CUBE, CUBE, CUBE).astype(np.int32) - 1024).astype(np.int16))
        packed.append(masks[name][: CUBE**3 // 8])
        volume = int(unpack_mask(packed[-1]).sum())
        if not all(0 <= v <= CUBE - 1 for v in _voxel(row, "nodule_")):
            raise InputError("annotation-outside", "a cube's nodule lies outside the cube", name)
        cubes.append(
            Cube(
                index, name, row["series_uid"], row["patient_id"], row["luna16_subset"], row["placed"] == "yes",
                Mark(_voxel(row, "nodule_"), (6 * max(volume, 8) / np.pi) ** (1 / 3)),
                float(row["diameter_mm"]), int(row["texture"] or 0),
                tuple(_other(o) for o in others.get((name, "nodule"), [])),
                tuple(_other(o) for o in others.get((name, "excluded"), [])),
            )
        )  # fmt: skip
    if not cubes:
        raise ValueError("no cube in cubes.csv")
    return hus, packed, cubes


def unpack_mask(packed: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """A cube's nodule, (50, 50, 50), from its row of the packed masks of `load_cubes`."""
    return np.unpackbits(packed)[: CUBE**3].reshape(CUBE, CUBE, CUBE).astype(bool)


def load_cubes(folder: Path) -> tuple[NDArray[np.int16], NDArray[np.uint8], list[Cube]]:
    """HU (n, 50, 50, 50), packed masks (n, 15625) for `unpack_mask`, and what is known of each cube.

    Errors: `shard-damaged` where a file is not what `cubes.sha256` says.
    """
    hashes = folder / "cubes.sha256"
    for line in hashes.read_text(encoding="utf-8").splitlines() if hashes.exists() else ():
        expected, name = line.split()
        if sha256_of(folder / Path(name).name) != expected:
            raise InputError("shard-damaged", "not what cubes.sha256 says", name)
    with np.load(folder / "cubes.npz") as arrays:
        hu, masks = arrays["hu"], arrays["masks"]
    rows = json.loads((folder / "cubes.json").read_text(encoding="utf-8"))
    for row in rows:
        row["nodule"] = _mark(row["nodule"])
        row["nodules"] = tuple(_mark(m) for m in row["nodules"])
        row["excluded"] = tuple(_mark(m) for m in row["excluded"])
    return hu, masks, [Cube(**row) for row in rows]


def _other(row: dict[str, str]) -> Mark:
    return Mark(_voxel(row), float(row["diameter_mm"]))


def _voxel(row: dict[str, str], before: str = "") -> Voxel:
    return float(row[f"{before}z"]), float(row[f"{before}y"]), float(row[f"{before}x"])


def _mark(row: dict[str, Any]) -> Mark:
    z, y, x = row["voxel"]
    return Mark((float(z), float(y), float(x)), float(row["diameter_mm"]))


# -- whole scans -----------------------------------------------------------------------------------------------------
def prepare_scans(
    data: Path, out: Path, names: Sequence[str] | None = None, progress: Callable[[str], None] = lambda _: None
) -> None:
    """Scans of `scans.csv` (all, or those named) → `NAME.npz`, `NAME.json` and `index.json`, as `data prepare` does it.

    The same reader, the same checks and the same lungs as when a study is screened. Shards without an index, of an
    earlier version, stay as they are: a run that was begun with them goes on with them.

    Errors: the code of the first scan that is refused (`annotation-outside`, `no-ct`, …); `output-failed`.
    """
    table = _folder_names(data) if names is None else names
    old = _of_earlier_version(table, out, progress)
    dataset = find_collection(data, [name for name in table if name not in old])
    sides = {scan.series.series_uid: "train" for scan in dataset.scans}
    for refusal in dataset.refused:
        raise InputError(refusal.code, refusal.reason, refusal.where)
    if old and not dataset.scans:
        return
    prepared = prepare_dataset(dataset, out, splits=sides)
    for refusal in prepared.refused:
        raise InputError(refusal.code, refusal.reason, refusal.where)
    for notice in prepared.notices:
        progress(f"{notice.code}: {notice.text}")


def _folder_names(data: Path) -> list[str]:
    return [Path(row["folder"]).name for row in _table(data / "scans.csv")]


def _of_earlier_version(names: Sequence[str], out: Path, progress: Callable[[str], None]) -> list[str]:
    """Scans whose shards are there without an index, which nothing is known of."""
    listed = _listed(out)
    if listed is not None:
        progress(f"{sum(name in listed for name in names)} scans are prepared")
        return []
    old = [name for name in names if (out / f"{name}.json").exists()]
    if old:
        progress(f"{len(old)} scans were prepared by an earlier version: kept as they are, without hashes")
    return old


def load_scan(folder: Path, name: str) -> PreparedScan:
    """One prepared scan, compared with its hashes where there is an index.

    Errors: `shard-damaged`.
    """
    entry = (_listed(folder) or {}).get(name)
    if entry is not None:
        check_shard(folder, entry)
    with np.load(folder / f"{name}.npz") as arrays:
        hu, packed, affine = arrays["hu"], arrays["lung"], arrays["affine"]
    row = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    row["lesions"] = tuple(_mark(m) for m in row["lesions"])
    row["excluded"] = tuple(_mark(m) for m in row["excluded"])
    lung = np.unpackbits(packed)[: hu.size].reshape(hu.shape).astype(bool)
    return PreparedScan(hu=hu, lung=lung, affine=affine, **row)


def _listed(folder: Path) -> dict[str, dict[str, Any]] | None:
    """What the index says of each shard, None without an index."""
    index = read_index(folder)
    return None if index is None else {row["name"]: row for row in index["shards"]}


def _table(path: Path) -> Iterable[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _write(path: Path, **arrays: NDArray[np.generic]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)

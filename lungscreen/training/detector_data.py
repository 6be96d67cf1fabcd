"""Nodule cubes and whole scans → compact 1 mm shards that the detector's training reads.

    DATA/cubes, DATA/scans.csv, DATA/lesions.csv, DATA/tables → OUT/cubes.npz, OUT/cubes.json, OUT/SCAN.npz, OUT/SCAN.json

Everything is prepared once, for every split; which part is learned from is the training configuration's business
(`lungscreen.training.detector`). Voxel coordinates are (z, y, x) of the shard.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.errors import LungscreenError
from lungscreen.geometry import Geometry

__all__ = ["CUBE", "Cube", "Mark", "Scan", "load_cubes", "load_scan", "prepare_cubes", "prepare_scans"]

CUBE = 50
"""Voxels of a cube's side, 1 mm each."""

LUNG_ROOM_MM = 12
"""Room around the lungs that a scan's shard keeps."""

Voxel = tuple[float, float, float]


@dataclass(frozen=True)
class Mark:
    """Something annotated: place in voxels (z, y, x) and diameter in mm."""

    voxel: Voxel
    diameter_mm: float


@dataclass(frozen=True)
class Cube:
    """A nodule where it grew. `index` is its place in the arrays of `load_cubes`.

    diameter_mm: of the sphere of the mask's volume.  placed: all else in the cube was read and annotated.
    texture: 1 ground-glass … 5 solid, 0 not rated.  nodules, excluded: what else was annotated in it.
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
class Scan:
    """A scan around its lungs at 1 mm. sure: every nodule in it is annotated, other tissue is none."""

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
    """All cubes → `cubes.npz` (hu, packed masks) and `cubes.json`."""
    import jpeg_ls

    folder = data / "cubes"
    masks = np.load(folder / "masks.npz")
    others: dict[str, list[dict[str, str]]] = {}
    for row in _table(folder / "others.csv"):
        others.setdefault(row["cube"], []).append(row)
    hus, packed, cubes = [], [], []
    for index, row in enumerate(_table(folder / "cubes.csv")):
        name = row["cube"]
        code = jpeg_ls.decode(np.fromfile(folder / "ct" / f"{name}.jls", np.uint8))
        hus.append((code.reshape(CUBE, CUBE, CUBE).astype(np.int32) - 1024).astype(np.int16))
        packed.append(masks[name][: CUBE**3 // 8])
        volume = int(np.unpackbits(packed[-1])[: CUBE**3].sum())
        cubes.append(
            Cube(
                index, name, row["series_uid"], row["patient_id"], row["luna16_subset"], row["placed"] == "yes",
                Mark(_voxel(row, "nodule_"), (6 * max(volume, 8) / np.pi) ** (1 / 3)),
                float(row["diameter_mm"]), int(row["texture"] or 0),
                tuple(_other(o) for o in others.get(name, []) if o["kind"] == "nodule"),
                tuple(_other(o) for o in others.get(name, []) if o["kind"] == "excluded"),
            )
        )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    _write(out / "cubes.npz", hu=np.stack(hus), masks=np.stack(packed))
    (out / "cubes.json").write_text(json.dumps([asdict(c) for c in cubes]), encoding="utf-8")


def load_cubes(folder: Path) -> tuple[NDArray[np.int16], NDArray[np.uint8], list[Cube]]:
    """HU (n, 50, 50, 50), packed masks (n, 15625) for `np.unpackbits`, and what is known of each cube."""
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
def prepare_scans(data: Path, out: Path, names: Sequence[str] | None = None) -> None:
    """Scans of `scans.csv` (all, or those named) → `NAME.npz` (hu, lung, affine) and `NAME.json`."""
    lesions = list(_table(data / "lesions.csv"))
    excluded = _excluded(data / "tables")
    out.mkdir(parents=True, exist_ok=True)
    for row in _table(data / "scans.csv"):
        name = Path(row["folder"]).name
        if (names is not None and name not in names) or (out / f"{name}.json").exists():
            continue
        hu, geometry = _read_dicom(data / row["folder"])
        hu, lung, geometry = _around_lungs(hu, geometry)
        known = [(_point(m), float(m["diameter_mm"])) for m in lesions if m["series_uid"] == row["series_uid"]]
        for place, _ in known:
            if not geometry.contains(place):
                raise LungscreenError("training-data-invalid", "a lesion lies outside the scan's lungs", name)
        _write(out / f"{name}.npz", hu=hu, lung=np.packbits(lung), affine=geometry.affine)
        text = {
            "name": name, "series_uid": row["series_uid"], "original_series_uid": row["original_series_uid"],
            "licence": row["licence"], "sure": row["annotation"] == "LUNA16",
            "lesions": _in_voxels(known, geometry),
            "excluded": _in_voxels(excluded.get(row["original_series_uid"], []), geometry),
        }  # fmt: skip
        (out / f"{name}.json").write_text(json.dumps(text), encoding="utf-8")


def load_scan(folder: Path, name: str) -> Scan:
    """One prepared scan."""
    with np.load(folder / f"{name}.npz") as arrays:
        hu, packed, affine = arrays["hu"], arrays["lung"], arrays["affine"]
    row = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    row["lesions"] = tuple(_mark(m) for m in row["lesions"])
    row["excluded"] = tuple(_mark(m) for m in row["excluded"])
    lung = np.unpackbits(packed)[: hu.size].reshape(hu.shape).astype(bool)
    return Scan(hu=hu, lung=lung, affine=affine, **row)


def _read_dicom(folder: Path) -> tuple[NDArray[np.int16], Geometry]:
    """The slices of one plain axial series, from the feet up."""
    import pydicom

    slices = [pydicom.dcmread(path) for path in sorted(folder.iterdir()) if path.is_file()]
    slices = [s for s in slices if "ImagePositionPatient" in s]
    slices.sort(key=lambda s: float(s.ImagePositionPatient[2]))
    first, last = slices[0], slices[-1]
    if any(abs(a - b) > 1e-3 for a, b in zip(first.ImageOrientationPatient, (1, 0, 0, 0, 1, 0), strict=True)):
        raise ValueError(f"expected axial slices, rows back and columns left, got {first.ImageOrientationPatient}")
    hu = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in slices])
    step = (float(last.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])) / (len(slices) - 1)
    rows, columns = (float(v) for v in first.PixelSpacing)
    x, y, z = (float(v) for v in first.ImagePositionPatient)
    geometry = Geometry.axial(hu.shape, (step, rows, columns), (x, y, z))
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16), geometry


def _around_lungs(hu: NDArray[np.int16], geometry: Geometry) -> tuple[NDArray[np.int16], NDArray[np.bool_], Geometry]:
    from lungscreen.detect.resampling import resample_box

    whole = (slice(None), slice(None), slice(None))
    hu, geometry = resample_box(hu, geometry, whole, 1.0)
    lung = rough_lungs(hu)
    found = ndimage.find_objects(lung.astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - LUNG_ROOM_MM), s.stop + LUNG_ROOM_MM) for s in found)
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_mm([s.start for s in box])
    hu = np.ascontiguousarray(hu[box])
    return hu, lung[box], Geometry(affine, hu.shape)


def rough_lungs(hu: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Large airy places inside the body, closed by 8 mm; 1 mm voxels. For choosing where to train only."""
    labels, count = ndimage.label(hu < -400)
    outside = np.unique(
        np.concatenate([labels[:, face].ravel() for face in (0, -1)] + [labels[:, :, f].ravel() for f in (0, -1)])
    )
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[outside] = 0
    sizes[0] = 0
    air = np.isin(labels, np.flatnonzero(sizes > 100_000))
    room = np.pad(air[::2, ::2, ::2], 8)
    grown = ndimage.distance_transform_edt(~room) <= 4
    closed = (ndimage.distance_transform_edt(grown) > 4)[8:-8, 8:-8, 8:-8]
    closed = closed.repeat(2, 0).repeat(2, 1).repeat(2, 2)[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
    lungs: NDArray[np.bool_] = air | closed
    return lungs


def _excluded(tables: Path) -> dict[str, list[tuple[NDArray[np.float64], float]]]:
    """LUNA16's excluded findings by series: LPS mm and diameter."""
    found: dict[str, list[tuple[NDArray[np.float64], float]]] = {}
    for path in sorted(tables.glob("*excluded*")):
        for row in _table(path):
            place = np.array([float(row[k]) for k in ("coordX", "coordY", "coordZ")])
            found.setdefault(row["seriesuid"], []).append((place, float(row["diameter_mm"])))
    return found


def _point(row: dict[str, str]) -> NDArray[np.float64]:
    return np.array([float(row["x_mm"]), float(row["y_mm"]), float(row["z_mm"])])


def _in_voxels(known: Iterable[tuple[NDArray[np.float64], float]], geometry: Geometry) -> list[dict[str, object]]:
    return [{"voxel": geometry.to_index(place).tolist(), "diameter_mm": diameter} for place, diameter in known]


def _table(path: Path) -> Iterable[dict[str, str]]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8")
    yield from csv.DictReader(io.StringIO(text, newline=""))


def _write(path: Path, **arrays: NDArray[np.generic]) -> None:
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    part.replace(path)

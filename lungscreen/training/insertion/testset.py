"""Real nodules of some subsets set into held-out scans: images and tables for `detect` and `evaluate detection`.

    cubes of the subsets, prepared scans ─► images/NAME.mha, annotations.csv, excluded.csv, series.csv, inserted.csv

It flatters a detector (nodules stand out more than where they grew), so it stands beside the measure on real places,
never for it. Nodules are set in at their own size, by the matched insertion, at places as those where they grew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import LungscreenError, OutputError
from lungscreen.evaluation.output import make_folder, write_csv
from lungscreen.geometry import Geometry
from lungscreen.training.detector.blocks import Block, NoiseBank, SampleConfig
from lungscreen.training.detector.data import (
    CUBE,
    Cube,
    Mark,
    PreparedScan,
    load_cubes,
    load_scan,
    prepare_cubes,
    prepare_scans,
    unpack_mask,
)
from lungscreen.training.detector.inserter import ALIKE, Inserter, read_surroundings
from lungscreen.training.detector.voxels import cut_mirrored

__all__ = ["InsertedSet", "InsertedSetConfig", "prepare_insertion", "write_inserted_set"]

COLUMNS = ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm", "type")

CLEAR_MM = 12.0
"""Room between an inserted nodule's edge and anything annotated in its scan."""

TRIES = 4000
"""Places that are tried for a nodule before it is left out."""


@dataclass(frozen=True)
class InsertedSetConfig:
    """Whose nodules go where.

    subsets: of the cubes.
    scans: names of whole scans, none of them learned from.

    per_image: nodules in one image, at least `apart_mm` from one another.
    largest_mm: of the nodules.
    """

    subsets: tuple[str, ...]
    scans: tuple[str, ...]
    per_image: int = 6
    apart_mm: float = 30.0
    largest_mm: float = 24.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.subsets or not self.scans or self.per_image < 1:
            raise ValueError("expected at least one subset, one scan, one nodule per image")
        if self.apart_mm < 0 or self.largest_mm <= 3:
            raise ValueError("apart_mm: expected at least 0; largest_mm: above 3")


@dataclass(frozen=True)
class InsertedSet:
    """What was made: images, nodules in them, nodules that found no place, those too large."""

    images: int
    nodules: int
    left_out: int
    too_large: int


@dataclass(eq=False)
class _Image:
    """A copy of a scan on its way."""

    name: str
    scan: PreparedScan
    hu: NDArray[np.int16]
    placed: list[tuple[Cube, Mark]]


def prepare_insertion(data: Path, out: Path, config: InsertedSetConfig) -> Path:
    """The folder of shards that the set is made of: `data` itself if it holds shards, `out`/shards otherwise, which are
    made where they are not there yet.

    Errors: as `prepare_cubes` and `prepare_scans`.
    """
    if (data / "cubes.npz").is_file():
        return data
    shards = out / "shards"
    if not (shards / "cubes.npz").is_file():
        prepare_cubes(data, shards)
    prepare_scans(data, shards, config.scans)
    return shards


def write_inserted_set(
    shards: Path, out: Path, config: InsertedSetConfig, progress: Callable[[str], None] = lambda _: None
) -> InsertedSet:
    """Each nodule of the subsets once. The same seed, shards and settings give the same images.

    A nodule never goes into a scan of its own patient. The scan's own nodules and excluded findings stand in
    excluded.csv: marks there count neither way.
    Errors: `training-data-invalid` without such nodules, `shard-damaged`, `output-failed`.
    """
    hu, masks, cubes = load_cubes(shards)
    scans = [load_scan(shards, name) for name in config.scans]
    sources, too_large = _sources(cubes, config)
    if not sources:
        raise LungscreenError("training-data-invalid", "the subsets have no nodule that is small enough", str(shards))
    rng = np.random.default_rng(config.seed)
    inserter = Inserter(SampleConfig(match=True, synthetic=0.0), hu, masks, NoiseBank(config.seed))
    images = [_copy_of(scans, n) for n in range(-(-len(sources) // config.per_image))]
    left_out = 0
    for number in rng.permutation(len(sources)):
        left_out += not _set_in_one(rng, inserter, images, sources[int(number)], config)
    made = [image for image in images if image.placed]
    _write(made, out)
    done = InsertedSet(len(made), sum(len(image.placed) for image in made), left_out, too_large)
    progress(f"{done.nodules} nodules in {done.images} images; {left_out} found no place; {too_large} were too large")
    return done


def _sources(cubes: Sequence[Cube], config: InsertedSetConfig) -> tuple[list[Cube], int]:
    """Cubes whose nodules are set in, and how many of the subsets' are too large."""
    named = [c for c in cubes if c.subset in config.subsets]
    small = [c for c in named if c.table_diameter_mm <= config.largest_mm]
    return small, len(named) - len(small)


def _set_in_one(
    rng: np.random.Generator, inserter: Inserter, images: list[_Image], source: Cube, config: InsertedSetConfig
) -> bool:
    """In one of the three images with the fewest nodules; False where none has a place."""
    emptiest = sorted(images, key=lambda image: len(image.placed))[:3]
    return any(_set_in(rng, inserter, image, source, config) for image in emptiest)


def _copy_of(scans: Sequence[PreparedScan], number: int) -> _Image:
    """Image `number`: the scans in turn, each copy with a number of its own."""
    scan = scans[number % len(scans)]
    return _Image(f"{scan.name}-{number // len(scans) + 1:02}", scan, scan.hu.copy(), [])


def _set_in(
    rng: np.random.Generator, inserter: Inserter, image: _Image, source: Cube, config: InsertedSetConfig
) -> bool:
    """At a place as the one where it grew, away from everything annotated; False where there is none."""
    scan = image.scan
    if source.series_uid == scan.original_series_uid or source.patient_id == scan.name:
        return False
    mask = unpack_mask(inserter.masks[source.index])
    wanted, _ = read_surroundings(inserter.hu[source.index], source.nodule.voxel, mask)
    places = np.argwhere(scan.lung[::2, ::2, ::2]) * 2
    for _ in range(TRIES):
        centre = places[int(rng.integers(len(places)))].astype(int)
        if not _is_free(image, centre, source, config):
            continue
        tissue, air = read_surroundings(image.hu, tuple(centre), None)
        if abs(tissue - wanted) > ALIKE or air < 0.25:
            continue
        start = centre - CUBE // 2
        piece, outside = cut_mirrored(image.hu, start, CUBE)
        block = Block(piece.astype(np.float32), outside, [], [])
        if inserter.insert_real(rng, block, np.full(3, CUBE // 2), source, 1.0):
            _put_back(image.hu, block, start)
            z, y, x = (float(v + s) for v, s in zip(block.nodules[0].voxel, start, strict=True))
            image.placed.append((source, Mark((z, y, x), source.table_diameter_mm)))
            return True
    return False


def _is_free(image: _Image, centre: NDArray[np.int_], source: Cube, config: InsertedSetConfig) -> bool:
    radius = source.nodule.diameter_mm / 2
    if (centre < radius).any() or (centre + radius >= image.hu.shape).any():
        return False
    known = [(m, max(m.diameter_mm, 3.0) / 2 + radius + CLEAR_MM) for m in (*image.scan.lesions, *image.scan.excluded)]
    known += [(m, max(config.apart_mm, m.diameter_mm / 2 + radius + CLEAR_MM)) for _, m in image.placed]
    return all(np.linalg.norm(np.array(m.voxel) - centre) > room for m, room in known)


# -- writing ---------------------------------------------------------------------------------------------------------
def _write(images: Sequence[_Image], out: Path) -> None:
    make_folder(out / "images")
    annotations, excluded, inserted = [], [], []
    for image in images:
        geometry = Geometry(image.scan.affine, (image.hu.shape[0], image.hu.shape[1], image.hu.shape[2]))
        _write_image(image.hu, geometry, out / "images" / f"{image.name}.mha")
        for cube, mark in image.placed:
            annotations.append(_row(image.name, mark, geometry, _type(cube.texture)))
            inserted.append((image.name, cube.name, cube.subset, image.scan.name, *mark.voxel, cube.nodule.diameter_mm))
        known = (*image.scan.lesions, *image.scan.excluded)
        excluded += [_row(image.name, mark, geometry, "") for mark in known]
    write_csv(out / "annotations.csv", COLUMNS, annotations)
    write_csv(out / "excluded.csv", COLUMNS, excluded)
    write_csv(out / "series.csv", ("seriesuid",), [(image.name,) for image in images])
    head = ("seriesuid", "cube", "subset", "scan", "voxel_z", "voxel_y", "voxel_x", "outline_diameter_mm")
    write_csv(out / "inserted.csv", head, inserted)


def _row(name: str, mark: Mark, geometry: Geometry, kind: str) -> tuple[Any, ...]:
    x, y, z = (round(float(v), 3) for v in geometry.to_mm(mark.voxel))
    return name, x, y, z, mark.diameter_mm, kind


def _type(texture: int) -> str:
    """Readers' texture, as `data prepare lidc` takes it: to 2 ground-glass, from 4 solid; 0 was not rated."""
    if texture == 0:
        return ""
    return "ground-glass" if texture <= 2 else "solid" if texture >= 4 else "part-solid"


def _write_image(hu: NDArray[np.int16], geometry: Geometry, path: Path) -> None:
    import SimpleITK

    sitk: Any = SimpleITK
    _, spacing, origin, direction = geometry.to_itk()
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    part = path.with_name(f".{path.stem}.part.mha")
    try:
        sitk.WriteImage(image, str(part), True)
        part.replace(path)
    except (OSError, RuntimeError) as error:
        part.unlink(missing_ok=True)
        raise OutputError("output-failed", f"cannot write the image: {error}", str(path)) from None


def _put_back(hu: NDArray[np.int16], block: Block, start: NDArray[np.integer]) -> None:
    """The part of a block that lies in the image takes the place of what was there."""
    low, high = np.maximum(start, 0), np.minimum(start + CUBE, hu.shape)
    there = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    here = tuple(slice(int(a - s), int(b - s)) for a, b, s in zip(low, high, start, strict=True))
    hu[there] = np.clip(np.rint(block.hu[here]), -1024, 3071).astype(np.int16)

"""Who is learned from, and who serves choices: a recipe's split and the sides of prepared folders ─► TrainingData.

    cubes, scans of the recipe's data ─► [split] ─┐
    folders of `lungscreen data prepare` ─► train │ validation ─┴─► engine │ cubes and scans for choices

Shards of the side "test" are never opened here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.config import config_hash
from lungscreen.datasets import read_index
from lungscreen.datasets.shards import check_shard
from lungscreen.datasets.splits import check_disjoint
from lungscreen.errors import LungscreenError
from lungscreen.training.detector.data import CUBE, Cube, Mark, PreparedScan, load_cubes, load_scan
from lungscreen.training.detector.phantoms import phantom_name
from lungscreen.training.detector.recipe import DetectorTraining, Split
from lungscreen.training.detector.samples import SampleEngine
from lungscreen.training.detector.voxels import ball, cut_mirrored

__all__ = ["TrainingData", "cut_cubes", "outline_nodule", "read_engines", "read_sides"]

LARGEST_CUBE_MM = 30.0
"""Nodules above this fill too much of a cube: they are learned in their scans only."""

BELOW_MASK_MM = 1.1
"""Annotated diameters lie this much below those of the outlines' volumes (median of 929 nodules): targets are
outlines'."""

STANDS_OUT = 0.3
"""Of the way from the lung around a nodule to its middle: what is brighter is taken for nodule."""

Arrays = tuple[NDArray[np.int16], NDArray[np.uint8], list[Cube]]


@dataclass(frozen=True, eq=False)
class TrainingData:
    """engine: of what is learned from.
    cubes, scans: for choices.
    hu: of all cubes.

    identity: of the prepared folders, empty without.
    said: what the one who trains should know.
    """

    engine: SampleEngine
    cubes: list[Cube]
    scans: list[PreparedScan]
    hu: NDArray[np.int16]
    identity: str = ""
    said: tuple[str, ...] = ()


def read_sides(config: DetectorTraining, shards: Path, prepared: Sequence[Path] = ()) -> TrainingData:
    """Everything that a run reads.

    shards: folder of `lungscreen.training.detector.data`, divided by `config.split`.
    prepared: folders with an index.json, divided by its sides; their nodules become cubes too, so that both ways of
        learning see them.

    Errors: `shard-damaged`, `split-leaks`, `training-data-invalid`.
    """
    read = _read_shards(config.split, shards, prepared)
    check_disjoint([(entry["patient"], entry["split"]) for entry, _ in read.own])
    patients = {scan.name: entry["patient"] for entry, scan in read.own}
    hu, masks, cubes = read.cubes
    sides = _divide(config.split, cubes, read.scans)
    sides.scans_train += [*read.phantoms, *read.on_side("train")]
    sides.scans_choice += [scan for scan in read.on_side("validation") if scan.sure]
    said = []
    for name, chosen in (("train", sides.cubes_train), ("validation", sides.cubes_choice)):
        there = read.on_side(name)
        # for choices the scan counts the false marks, so its cubes ask for their nodule only
        cut = cut_cubes(there, patients, len(hu), surroundings=name == "train")
        hu, masks = np.concatenate([hu, cut[0]]), np.concatenate([masks, cut[1]])
        chosen += cut[2]
        if there:
            said.append(f"{name}: {len(there)} scans with {len(cut[2])} nodules of at most {LARGEST_CUBE_MM:g} mm")
    if read.own and not sides.can_be_measured():
        said.append("no validation scan is wholly annotated: false marks cannot be counted, nothing is measured")
        said.append(
            "the weights will have no operating points: a pipeline with them needs [findings] threshold, or prepare a"
            " wholly annotated scan (data prepare --complete) for validation and train again"
        )
        sides.cubes_choice = []
    if not sides.can_be_learned_from(config.samples.cube_share):
        raise LungscreenError("training-data-invalid", "no cube or no scan is left to learn from", str(shards))
    engine = SampleEngine(config.samples, hu, masks, sides.cubes_train, sides.scans_train, config.seed)
    return TrainingData(engine, sides.cubes_choice, sides.scans_choice, hu, _identity(read.own), tuple(said))


def read_engines(
    config: DetectorTraining, shards: Path, prepared: Sequence[Path] = ()
) -> tuple[SampleEngine, SampleEngine]:
    """What is learned from and what is kept for choices, each as an engine that sets in real nodules as large as they
    are.

    Errors: as `read_sides`; `training-data-invalid` without cubes for choices.
    """
    samples = replace(config.samples, scales=(1.0,), synthetic=0.0, made=0.0, rare_weight=1.0, small_weight=1.0)
    data = read_sides(replace(config, samples=samples), shards, prepared)
    if not data.cubes:
        raise LungscreenError(
            "training-data-invalid", "no cube is kept for choices: nothing can be examined", str(shards)
        )
    return data.engine, SampleEngine(samples, data.hu, data.engine.masks, data.cubes, data.scans, config.seed + 1)


@dataclass(frozen=True, eq=False)
class _Shards:
    """What a run reads.

    cubes, scans: of the recipe's data, scans by name.
    own: of prepared folders, with their rows of the index.
    """

    cubes: Arrays
    scans: Mapping[str, PreparedScan]
    phantoms: list[PreparedScan]
    own: list[tuple[Mapping[str, Any], PreparedScan]]

    def on_side(self, name: str) -> list[PreparedScan]:
        """The prepared folders' scans of a side."""
        return [scan for entry, scan in self.own if entry["split"] == name]


@dataclass(eq=False)
class _Sides:
    """Cubes and scans that are learned from, and those for choices."""

    cubes_train: list[Cube]
    cubes_choice: list[Cube]
    scans_train: list[PreparedScan]
    scans_choice: list[PreparedScan]

    def can_be_learned_from(self, cube_share: float) -> bool:
        """There are cubes, and scans too unless all samples are cubes."""
        return bool(self.cubes_train) and (bool(self.scans_train) or cube_share == 1)

    def can_be_measured(self) -> bool:
        """Something for choices was annotated all through."""
        return bool(self.scans_choice) or any(cube.placed for cube in self.cubes_choice)


def _read_shards(split: Split, shards: Path, prepared: Sequence[Path]) -> _Shards:
    no_cubes: Arrays = (np.zeros((0, CUBE, CUBE, CUBE), np.int16), np.zeros((0, CUBE**3 // 8), np.uint8), [])
    try:
        return _Shards(
            cubes=load_cubes(shards) if split.names_data else no_cubes,
            scans={name: load_scan(shards, name) for name in split.scans},
            phantoms=[load_scan(shards, phantom_name(seed)) for seed in split.phantoms],
            own=[side for folder in prepared for side in _read_prepared(folder)],
        )
    except (OSError, KeyError, ValueError, BadZipFile) as error:
        raise LungscreenError("training-data-invalid", f"cannot read the shards: {error}", str(shards)) from None


def _identity(own: Sequence[tuple[Mapping[str, Any], PreparedScan]]) -> str:
    """Of the prepared folders' shards and their sides; empty without."""
    rows = sorted((entry["sha256"], entry["annotations_sha256"], entry["split"]) for entry, _ in own)
    return config_hash(rows) if rows else ""


def _divide(split: Split, cubes: Sequence[Cube], scans: Mapping[str, PreparedScan]) -> _Sides:
    """By the recipe. Nobody who is held out is learned from, and nobody who was learned from serves choices."""
    held, patients = _held_out(split, cubes, scans)
    train = [c for c in _without(patients, cubes, split.train_subsets) if c.series_uid not in held]
    known = {c.patient_id for c in train} - {""}
    kept = [scan for name, scan in scans.items() if name in split.held_out_scans]
    return _Sides(
        cubes_train=train,
        cubes_choice=_without(known, cubes, split.choice_subsets),
        scans_train=[scan for scan in scans.values() if scan not in kept],
        scans_choice=[scan for scan in kept if scan.sure],
    )


def _without(patients: Collection[str], cubes: Iterable[Cube], subsets: Collection[str]) -> list[Cube]:
    """The cubes of the subsets, but those of some patients."""
    return [c for c in cubes if c.subset in subsets and c.patient_id not in patients]


def _held_out(split: Split, cubes: Sequence[Cube], scans: Mapping[str, PreparedScan]) -> tuple[set[str], set[str]]:
    """Series and patients that are not learned from."""
    series = {scans[name].original_series_uid for name in split.held_out_scans if name in scans}
    patients = {c.patient_id for c in cubes if c.series_uid in series} - {""}
    return series, {*patients, *split.held_out_patients, *split.held_out_scans}


# -- prepared folders ------------------------------------------------------------------------------------------------
def _read_prepared(folder: Path) -> list[tuple[Mapping[str, Any], PreparedScan]]:
    """Shards of the sides train and validation, each compared with its hashes, with its entry in the index."""
    index = read_index(folder)
    if index is None:
        raise LungscreenError(
            "training-data-invalid", "expected an index.json of `lungscreen data prepare`", str(folder)
        )
    if (spacing := index.get("options", {}).get("spacing_mm")) != 1.0:
        raise LungscreenError("training-data-invalid", f"expected shards of 1 mm, got {spacing}", str(folder))
    found = []
    for entry in index["shards"]:
        if entry["split"] in ("train", "validation"):
            check_shard(folder, entry)
            found.append((entry, load_scan(folder, entry["name"])))
    return found


def cut_cubes(
    scans: Sequence[PreparedScan], patients: Mapping[str, str], first: int, surroundings: bool = True
) -> Arrays:
    """The nodules of scans as cubes, numbered from `first`: HU (n, 50, 50, 50), packed masks, what is known.

    surroundings: all else in a cube of a wholly annotated scan is taken for healthy. The masks are `outline_nodule`'s.
    """
    hus: list[NDArray[np.int16]] = []
    masks: list[NDArray[np.uint8]] = []
    cubes: list[Cube] = []
    for scan in scans:
        for mark in scan.lesions:
            if mark.diameter_mm > LARGEST_CUBE_MM:
                continue
            start = np.round(mark.voxel).astype(int) - CUBE // 2
            hu, outside = cut_mirrored(scan.hu, start, CUBE)

            def here(one: Mark, start: NDArray[np.int_] = start) -> Mark:
                z, y, x = (float(v) - int(s) for v, s in zip(one.voxel, start, strict=True))
                return replace(one, voxel=(z, y, x))

            nodule = here(mark)
            mask = outline_nodule(hu, nodule)
            near = [here(m) for m in scan.lesions if m is not mark]
            left = [here(m) for m in scan.excluded]
            diameter = mark.diameter_mm + BELOW_MASK_MM
            if mark.diameter_mm <= 0:
                diameter = float((6 * max(mask.sum(), 8) / np.pi) ** (1 / 3))
            cubes.append(
                Cube(
                    first + len(cubes), f"{scan.name}-{len(cubes)}", scan.original_series_uid,
                    patients.get(scan.name, ""), "", surroundings and scan.sure and not outside.any(),
                    replace(nodule, diameter_mm=diameter), max(mark.diameter_mm, 3.0), 0,
                    tuple(filter(_reaches, near)), tuple(filter(_reaches, left)),
                )
            )  # fmt: skip
            hus.append(hu)
            masks.append(np.packbits(mask))
    shape = (len(cubes), CUBE, CUBE, CUBE)
    return np.array(hus, np.int16).reshape(shape), np.array(masks, np.uint8).reshape(len(cubes), CUBE**3 // 8), cubes


def _reaches(mark: Mark) -> bool:
    """Some of it lies in a cube."""
    return all(-mark.diameter_mm / 2 < v < CUBE + mark.diameter_mm / 2 for v in mark.voxel)


def outline_nodule(hu: NDArray[np.int16], nodule: Mark) -> NDArray[np.bool_]:
    """A nodule's voxels, by its annotated centre and diameter: what stands out from the lung around it.

    The part that hangs together with the middle, within a ball a little larger than the nodule. On the 99 placed cubes
    of subset 9: Dice with the readers' masks 0.80 in the median (0.72 to 0.87 from the 10th to the 90th percentile),
    diameter of the volume 0.0 mm off.
    """
    diameter = max(nodule.diameter_mm, 3.0)
    whole = ball(hu.shape, nodule.voxel, diameter * 0.55 + 1.2)
    middle = ball(hu.shape, nodule.voxel, max(diameter * 0.2, 1.0))
    shell = ball(hu.shape, nodule.voxel, diameter * 0.5 + 6) & ~whole
    lung = float(np.percentile(hu[shell], 25)) if shell.any() else -850.0
    bright = hu > lung + STANDS_OUT * (float(np.median(hu[middle])) - lung)
    labels, _ = ndimage.label(bright & whole)
    inside = np.unique(labels[middle])
    joined: NDArray[np.bool_] = ndimage.binary_fill_holes(np.isin(labels, inside[inside > 0]) | middle)
    return joined

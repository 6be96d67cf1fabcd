"""Cubes of nodules as published → arrays that the classifier's training reads.

DATA/cubes/{cubes.csv, masks.npz, ct/*.jls} → Cubes (50 mm at 1 mm, mask, ratings, who it is of)
"""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.network import ATTRIBUTES, OUTPUTS
from lungscreen.errors import InputError

__all__ = ["SIDE", "Cubes", "read_cubes", "select"]

SIDE = 50
"""Voxels of a cube's side, 1 mm each."""

HU_OFFSET = 1024
"""What the published cubes' values lie above HU."""

CALCIFICATION_ABSENT = "6"
"""LIDC's rating for no calcification."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Cubes:
    """n nodules. Voxels are (z, y, x).

    targets: (n, outputs) 0 … 1, NaN where nobody rated it.
    mean_rating: of all readers, NaN where none.
    majority: whether more than half of the readers gave 4 or 5 (False where none rated). person: patient, or the series
        where the patient is not known.
    diameter_mm: LUNA16's, NaN where unknown.
    """

    names: tuple[str, ...]
    hu: NDArray[np.int16]
    masks: NDArray[np.bool_]
    centres: Floats
    targets: Floats
    mean_rating: Floats
    majority: NDArray[np.bool_]
    subsets: tuple[str, ...]
    persons: tuple[str, ...]
    diameter_mm: Floats

    @property
    def rated(self) -> NDArray[np.bool_]:
        """Cubes whose malignancy was rated."""
        return np.isfinite(self.mean_rating)


def read_cubes(data: Path, subsets: Collection[str] | None = None) -> Cubes:
    """Read the cubes of `data/cubes`: all, or those of some of LUNA16's subsets.

    Errors: `training-data-invalid`.
    """
    folder = data / "cubes"
    try:
        rows = _read_rows(folder / "cubes.csv", subsets)
        packed = np.load(folder / "masks.npz")
        hu = np.stack([_read_cube(folder / "ct" / f"{row['cube']}.jls") for row in rows])
        masks = np.stack([np.unpackbits(packed[row["cube"]])[: SIDE**3].reshape(hu.shape[1:]) for row in rows])
        scores = [np.array(row["malignancy_scores"].split(), dtype=float) for row in rows]
        return Cubes(
            names=tuple(row["cube"] for row in rows),
            hu=hu,
            masks=masks.astype(bool),
            centres=np.array([*map(_centre, rows)], dtype=np.float32),
            targets=np.stack([*map(_targets, rows, scores)]),
            mean_rating=np.array([*map(_mean, scores)], dtype=np.float32),
            majority=np.array([(s >= 4).sum() > 0.5 * len(s) for s in scores]),
            subsets=tuple(row["luna16_subset"] for row in rows),
            persons=tuple(map(_person, rows)),
            diameter_mm=np.array([float(row["diameter_mm"] or "nan") for row in rows], dtype=np.float32),
        )
    except (OSError, KeyError, ValueError) as error:
        raise InputError("training-data-invalid", f"cannot read the cubes: {error!r}", str(folder)) from None


def select(cubes: Cubes, subsets: Collection[str], without: Sequence[str] = ()) -> NDArray[np.intp]:
    """Indices of the cubes of some subsets, without some persons."""
    keep = [s in subsets and p not in without for s, p in zip(cubes.subsets, cubes.persons, strict=True)]
    return np.flatnonzero(keep)


def _read_cube(path: Path) -> NDArray[np.int16]:
    import jpeg_ls

    values = jpeg_ls.decode(np.fromfile(path, np.uint8)).reshape(SIDE, SIDE, SIDE)
    return np.asarray(values.astype(np.int32) - HU_OFFSET, dtype=np.int16)


def _targets(row: dict[str, str], scores: NDArray[np.float64]) -> Floats:
    """Shares of readers at or above 2, 3, 4, 5; attributes scaled to 0 … 1; calcified or not."""
    targets = np.full(len(OUTPUTS), np.nan, dtype=np.float32)
    if len(scores):
        targets[:4] = [(scores >= least).mean() for least in (2, 3, 4, 5)]
    if row["texture"]:
        targets[4:-1] = [(float(row[name]) - 1.0) / 4.0 for name in ATTRIBUTES]
        targets[-1] = float(row["calcification"] != CALCIFICATION_ABSENT)
    return targets


def _read_rows(path: Path, subsets: Collection[str] | None) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if subsets is None or row["luna16_subset"] in subsets]


def _mean(scores: NDArray[np.float64]) -> float:
    """NaN where nobody gave one."""
    return float(scores.mean()) if len(scores) else math.nan


def _centre(row: Mapping[str, str]) -> list[float]:
    """(z, y, x), voxels."""
    return [float(row[f"nodule_{axis}"]) for axis in "zyx"]


def _person(row: Mapping[str, str]) -> str:
    """The patient; where nobody knows who it is, each series stands for a person of its own."""
    return row["patient_id"] or row["series_uid"]

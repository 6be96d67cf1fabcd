"""What the second look learns from: nodules, and what was taken for one.

cubes ─► nodules in their middle, the detector's false marks beside them
phantoms ─► made nodules, and the densest spots of made lungs: vessels, mostly
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.detect import Detector, load_detector
from lungscreen.errors import InputError
from lungscreen.patches import cut_patch
from lungscreen.phantom import Phantom, make_phantom, sized
from lungscreen.phantom.anatomy import draw_person
from lungscreen.phantom.config import Size
from lungscreen.training.classifier_data import SIDE, Cubes

__all__ = ["Places", "join_places", "mine_cubes", "mine_phantoms", "mine_places"]

Progress = Callable[[str], None]

ROOM = 3
"""Voxels by which a cube is mirrored outwards before the detector looks."""

BEYOND_MM = 2.0
"""A mark nearer to an annotated place than its radius and this, or than 6 mm, is not counted as false."""

SURELY_MM = 6.0

LEAST_EDGE_MM = 8.0
"""A false mark nearer to its cube's faces is left out: too little of what is around it is known."""


@dataclass(frozen=True, eq=False)
class Places:
    """n places in m cubes of 50 voxels of 1 mm.

    hu: (m, 50, 50, 50).  masks: of nodules, same shape.  cube: (n,) which cube.  centres: (n, 3), (z, y, x).  nodule:
    (n,) whether it is one.  outlined: (n,) whether its mask is known.  score: the detector's, 0 where it was not asked.
    diameter_mm: of nodules, 0 else.  names: of each place's cube.  made: (n,) whether it is of a phantom.
    """

    hu: NDArray[np.int16]
    masks: NDArray[np.bool_]
    cube: NDArray[np.intp]
    centres: NDArray[np.float32]
    nodule: NDArray[np.bool_]
    outlined: NDArray[np.bool_]
    score: NDArray[np.float32]
    diameter_mm: NDArray[np.float32]
    names: tuple[str, ...]
    made: NDArray[np.bool_]


def mine_places(
    data: Path, cubes: Cubes, phantom_seeds: tuple[int, int], progress: Progress = lambda _: None
) -> Places:
    """Places of the cubes, by the shipped detector, and of the phantoms from the first seed to the last.

    Errors: as `mine_cubes`.
    """
    first, last = phantom_seeds
    made = mine_phantoms(range(first, last + 1), progress=progress)
    return join_places(mine_cubes(data, cubes, load_detector(), progress=progress), made)


def mine_cubes(
    data: Path,
    cubes: Cubes,
    detector: Detector,
    least: float = 0.05,
    most: int = 4,
    progress: Progress = lambda _: None,
) -> Places:
    """The nodules, and of each placed cube the highest `most` false marks of the detector from the score `least` on.

    A mark counts as false in the cube's lung, away from everything that was annotated.

    Errors: `training-data-invalid`, `weights-invalid`.
    """
    known = _annotated(data, cubes)
    rows: list[tuple[int, float, float, float, float]] = []
    for n in range(len(cubes.names)):
        if cubes.names[n] in known:
            marks = _false_marks(cubes.hu[n], detector, known[cubes.names[n]], least)
            rows += [(n, *mark) for mark in marks[:most]]
        if n % 100 == 99:
            progress(f"{n + 1} of {len(cubes.names)} cubes: {len(rows)} false marks")
    count, false = len(cubes.names), np.array(rows, dtype=np.float32).reshape(-1, 5)
    cube = np.concatenate([np.arange(count), false[:, 0].astype(int)])
    return Places(
        cubes.hu,
        cubes.masks,
        cube,
        np.concatenate([cubes.centres, false[:, 1:4]]),
        np.arange(len(cube)) < count,
        np.arange(len(cube)) < count,
        np.concatenate([np.zeros(count, np.float32), false[:, 4]]),
        np.concatenate([np.nan_to_num(cubes.diameter_mm), np.zeros(len(false), np.float32)]),
        tuple(cubes.names[n] for n in cube),
        np.zeros(len(cube), dtype=bool),
    )


def mine_phantoms(
    seeds: Sequence[int],
    nodules: int = 7,
    spots: int = 24,
    progress: Progress = lambda _: None,
    size: Size = "small",
) -> Places:
    """Made nodules of 4 mm and more, and of each phantom the `spots` densest places away from them."""
    cubes, rows, names = [], [], []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        sex, age = draw_person(seed)
        dose, kernel = str(rng.choice(["standard", "low"])), str(rng.choice(["soft", "standard"]))
        made = make_phantom(sized(size, seed=seed, nodules=nodules, dose=dose, kernel=kernel, sex=sex, age=age))
        shown = [n for n in made.nodules if n.visible]
        places = [(n.centre_mm, n.diameter_mm) for n in shown if n.diameter_mm >= 4]
        places += [(spot, 0.0) for spot in _dense_spots(made, [(n.centre_mm, n.diameter_mm) for n in shown], spots)]
        cubes += [np.rint(cut_patch(made.hu, made.geometry, at, SIDE, 1.0).hu).astype(np.int16) for at, _ in places]
        rows += [diameter for _, diameter in places]
        names += [f"phantom {seed}"] * len(places)
        progress(f"phantom {seed}: {len(rows)} places")
    diameter, count = np.array(rows, dtype=np.float32), len(rows)
    return Places(
        np.stack(cubes),
        np.zeros((count, SIDE, SIDE, SIDE), dtype=bool),
        np.arange(count),
        np.full((count, 3), (SIDE - 1) / 2, dtype=np.float32),
        diameter > 0,
        np.zeros(count, dtype=bool),
        np.zeros(count, dtype=np.float32),
        diameter,
        tuple(names),
        np.ones(count, dtype=bool),
    )


def join_places(first: Places, second: Places) -> Places:
    """Both, one after the other."""
    pairs = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("hu", "masks", "centres", "nodule", "outlined", "score", "diameter_mm", "made")
    }
    cube = np.concatenate([first.cube, second.cube + len(first.hu)])
    return Places(cube=cube, names=first.names + second.names, **pairs)


def _false_marks(
    hu: NDArray[np.int16], detector: Detector, known: NDArray[np.float64], least: float
) -> list[tuple[float, float, float, float]]:
    """(z, y, x, score) of marks that are no nodule, the highest first."""
    found = detector.find_marks(np.pad(hu, ROOM, mode="reflect"), None)
    lung = ndimage.gaussian_filter((hu < -500).astype(np.float32), 4, mode="nearest") > 0.3
    kept: list[tuple[float, float, float, float]] = []
    for z, y, x, _, score in found[np.argsort(-found[:, 4], kind="stable")]:
        place = np.array([z, y, x], dtype=np.float64) - ROOM
        inside = min(place.min(), (SIDE - 1 - place).min()) >= LEAST_EDGE_MM
        if score < least or not inside or not lung[tuple(np.rint(place).astype(int))]:
            continue
        if (np.linalg.norm(known[:, :3] - place, axis=1) < known[:, 3]).any():
            continue
        if all(np.linalg.norm(place - np.array(other[:3])) >= 5 for other in kept):
            kept.append((float(place[0]), float(place[1]), float(place[2]), float(score)))
    return kept


def _annotated(data: Path, cubes: Cubes) -> dict[str, NDArray[np.float64]]:
    """Of each placed cube what was annotated in it: (k, 4) z, y, x and the distance within which a mark is not false."""
    folder = data / "cubes"
    try:
        with (folder / "cubes.csv").open(newline="", encoding="utf-8") as file:
            placed = {row["cube"] for row in csv.DictReader(file) if row["placed"] == "yes"}
        with (folder / "others.csv").open(newline="", encoding="utf-8") as file:
            others = list(csv.DictReader(file))
        size = (6 * cubes.masks.sum(axis=(1, 2, 3)) / np.pi) ** (1 / 3)
        known = {
            name: [(*map(float, cubes.centres[n]), max(size[n] / 2 + BEYOND_MM, SURELY_MM))]
            for n, name in enumerate(cubes.names)
            if name in placed
        }
        for row in others:
            if row["cube"] in known:
                z, y, x, d = (float(row[key]) for key in ("z", "y", "x", "diameter_mm"))
                known[row["cube"]].append((z, y, x, max(d / 2 + BEYOND_MM, SURELY_MM)))
    except (OSError, KeyError, ValueError) as error:
        raise InputError("training-data-invalid", f"cannot read the cubes: {error!r}", str(folder)) from None
    return {name: np.array(rows) for name, rows in known.items()}


def _dense_spots(
    made: Phantom, nodules: Sequence[tuple[Sequence[float], float]], most: int
) -> list[tuple[float, float, float]]:
    """Places in the lungs that stand out from what is around them most, LPS mm."""
    spacing = np.array(made.geometry.spacing_mm)
    hu = np.clip(made.hu.astype(np.float32), -1000, 200)
    above = ndimage.gaussian_filter(hu, 2.2 / spacing) - ndimage.gaussian_filter(hu, 6.0 / spacing)
    above[~ndimage.binary_dilation(made.lungs > 0)] = -np.inf
    top = np.argwhere((ndimage.maximum_filter(above, 5) == above) & (above > 60))
    spots: list[tuple[float, float, float]] = []
    for index in top[np.argsort(-above[tuple(top.T)], kind="stable")]:
        x, y, z = (float(v) for v in made.geometry.to_mm(index.astype(float)))
        if all(np.linalg.norm(np.array([x, y, z]) - np.array(c)) > d / 2 + SURELY_MM for c, d in nodules):
            spots.append((x, y, z))
    return spots[:most]

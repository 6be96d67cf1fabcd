"""What the second look learns from: nodules, and what was taken for one.

cubes ─► nodules in their middle; beside them the detectors' false marks, and dense places that are none
phantoms ─► made nodules; the detectors' false marks in made lungs
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.detect import Detector
from lungscreen.detect.resampling import resample_box
from lungscreen.errors import InputError
from lungscreen.patches import cut_patch
from lungscreen.phantom import Phantom, make_phantom, sized
from lungscreen.phantom.anatomy import draw_person
from lungscreen.phantom.config import PhantomSize
from lungscreen.training.classifier.data import SIDE, Cubes
from lungscreen.training.second_look.recipe import Mining

__all__ = ["Places", "join_places", "mine_cubes", "mine_phantoms", "mine_places"]

Progress = Callable[[str], None]
_Spot = tuple[float, float, float, float]
"""Place on three axes, and the detector's score; 0 where it was not asked."""

ROOM = 3
"""Voxels by which a cube is mirrored outwards before a detector looks."""

BEYOND_MM = 2.0
"""A mark nearer to an annotated place than its radius and this, or than 6 mm, is not counted as false."""

SURELY_MM = 6.0

APART_MM = 5.0
"""Of two marks nearer than this the higher stays."""

LEAST_EDGE_MM = 6.0
"""A false mark nearer to its cube's faces is left out: too little of what is around it is known."""

LEAST_LUNG = 0.12
"""Share of lung around a mark (Gaussian, 4 mm) from which it is one that the product would see: inside, or at the
edge."""

SPOT_SCALES_MM = ((2.2, 6.0), (4.5, 12.0))
"""Standard deviations of the two Gaussians whose difference finds dense places: vessels and their forks; bumps of the
chest wall, the diaphragm and the mediastinum."""

LEAST_CONTRAST_HU = 60.0
"""Of a dense place, by that difference."""

NEAR_LUNGS_MM = 4.0
"""How far outside the lungs of a phantom a mark counts, as in the product."""

CONTEXT_MM = 12.0
"""What is looked at around a phantom's lungs, as in the product."""


@dataclass(frozen=True, eq=False)
class Places:
    """n places in m cubes of 50 voxels of 1 mm.

    hu: (m, 50, 50, 50).  masks: of nodules, same shape.  cube: (n,) which cube.  centres: (n, 3), (z, y, x).  nodule:
    (n,) whether it is one.  outlined: (n,) whether its mask is known.  score: the detectors' highest, 0 where none was
    asked.
    diameter_mm: of nodules, 0 else.  names: of each place's cube; of a phantom, `phantom SEED`.  made: (n,) whether it
    is of a phantom.
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
    data: Path, cubes: Cubes, detectors: Sequence[Detector], mining: Mining, progress: Progress = lambda _: None
) -> Places:
    """Places of the cubes and of all the phantoms.

    Errors: as `mine_cubes`.
    """
    seeds = (*mining.phantoms, *mining.held_out_phantoms)
    places = mine_cubes(data, cubes, detectors, mining, progress)
    return join_places(places, mine_phantoms(seeds, detectors, mining, progress=progress)) if seeds else places


def mine_cubes(
    data: Path, cubes: Cubes, detectors: Sequence[Detector], mining: Mining, progress: Progress = lambda _: None
) -> Places:
    """The nodules, and of each placed cube the detectors' highest false marks and the densest places beside them.

    Both lie in the cube's lung or at its edge, away from everything that was annotated.

    Errors: `training-data-invalid`, `weights-invalid`.
    """
    known = _annotated(data, cubes)
    rows: list[tuple[int, float, float, float, float]] = []
    for n in range(len(cubes.names)):
        if cubes.names[n] in known:
            marks = _false_marks(cubes.hu[n], detectors, known[cubes.names[n]], mining)
            rows += [(n, *mark) for mark in marks]
        if n % 100 == 99:
            progress(f"{n + 1} of {len(cubes.names)} cubes: {len(rows)} places that are no nodules")
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
    detectors: Sequence[Detector],
    mining: Mining,
    nodules: int = 7,
    size: PhantomSize = "small",
    progress: Progress = lambda _: None,
) -> Places:
    """Made nodules of 4 mm and more, and of each phantom the highest false marks of one of the detectors."""
    cubes, rows, names = [], [], []
    for turn, seed in enumerate(seeds):
        made = _draw_phantom(seed, nodules, size)
        places = [(n.centre_mm, n.diameter_mm, 0.0) for n in made.nodules if n.visible and n.diameter_mm >= 4]
        marks = _phantom_marks(made, detectors[turn % len(detectors)], mining)
        places += [((x, y, z), 0.0, score) for x, y, z, score in marks]
        cubes += [np.rint(cut_patch(made.hu, made.geometry, at, SIDE, 1.0).hu).astype(np.int16) for at, _, _ in places]
        rows += [(diameter, score) for _, diameter, score in places]
        names += [f"phantom {seed}"] * len(places)
        progress(f"phantom {seed}: {len(marks)} false marks")
    table, count = np.array(rows, dtype=np.float32).reshape(-1, 2), len(rows)
    return Places(
        np.stack(cubes),
        np.zeros((count, SIDE, SIDE, SIDE), dtype=bool),
        np.arange(count),
        np.full((count, 3), (SIDE - 1) / 2, dtype=np.float32),
        table[:, 0] > 0,
        np.zeros(count, dtype=bool),
        table[:, 1],
        table[:, 0],
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
    hu: NDArray[np.int16], detectors: Sequence[Detector], known: NDArray[np.float64], mining: Mining
) -> list[_Spot]:
    """Marks that are no nodule, the highest first, then the densest places."""
    padded = np.pad(hu, ROOM, mode="reflect")
    found = np.concatenate([detector.find_marks(padded, None) for detector in detectors])
    found = found[found[:, 4] >= mining.least[0]]
    marks = [(*(row[:3].astype(float) - ROOM), float(row[4])) for row in found[np.argsort(-found[:, 4], kind="stable")]]
    lung = ndimage.gaussian_filter((hu < -500).astype(np.float32), 4, mode="nearest")
    small, large = (_dense_spots(hu, lung > LEAST_LUNG, scale) for scale in SPOT_SCALES_MM)
    kept: list[_Spot] = []
    for rows, most in ((marks, mining.most[0]), (small, mining.spots[0]), (large, mining.spots[1])):
        before = len(kept)
        for z, y, x, score in rows:
            at = np.array([z, y, x])
            if len(kept) - before < most and _is_false(at, lung, known) and _is_apart(at, kept):
                kept.append((z, y, x, score))
    return kept


def _is_false(at: NDArray[np.float64], lung: NDArray[np.float32], known: NDArray[np.float64]) -> bool:
    """Whether a place of a cube is in its lung, away from its faces and from everything that was annotated."""
    if min(at.min(), (SIDE - 1 - at).min()) < LEAST_EDGE_MM or lung[tuple(np.rint(at).astype(int))] < LEAST_LUNG:
        return False
    return bool((np.linalg.norm(known[:, :3] - at, axis=1) >= known[:, 3]).all())


def _is_apart(at: NDArray[np.float64], others: Sequence[_Spot]) -> bool:
    return all(np.linalg.norm(at - np.array(other[:3])) >= APART_MM for other in others)


def _annotated(data: Path, cubes: Cubes) -> dict[str, NDArray[np.float64]]:
    """Of each placed cube what was annotated in it: (k, 4) z, y, x and the distance within which a mark is not
    false.
    """
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


def _dense_spots(hu: NDArray[np.int16], inside: NDArray[np.bool_], scale_mm: tuple[float, float]) -> list[_Spot]:
    """Voxels inside that stand out from what is around them, the most so first."""
    clipped = np.clip(hu.astype(np.float32), -1000, 200)
    near, far = (ndimage.gaussian_filter(clipped, sigma, mode="nearest") for sigma in scale_mm)
    above = np.where(inside, near - far, -np.inf)
    top = np.argwhere((ndimage.maximum_filter(above, 5) == above) & (above > LEAST_CONTRAST_HU))
    order = np.argsort(-above[tuple(top.T)], kind="stable")
    return [(float(z), float(y), float(x), 0.0) for z, y, x in top[order]]


def _draw_phantom(seed: int, nodules: int, size: PhantomSize) -> Phantom:
    rng = np.random.default_rng(seed)
    sex, age = draw_person(seed)
    dose, kernel = str(rng.choice(["standard", "low"])), str(rng.choice(["soft", "standard"]))
    return make_phantom(sized(size, seed=seed, nodules=nodules, dose=dose, kernel=kernel, sex=sex, age=age))


def _phantom_marks(made: Phantom, detector: Detector, mining: Mining) -> list[_Spot]:
    """A detector's highest marks near a phantom's lungs that are no nodule: LPS mm and score."""
    spacing, lungs = np.array(made.geometry.spacing_mm), made.lungs > 0
    room = np.ceil(CONTEXT_MM / spacing).astype(int)
    found_in = ndimage.find_objects(lungs.astype(np.uint8))[0]
    box = tuple(
        slice(max(0, s.start - n), min(size, s.stop + n))
        for s, n, size in zip(found_in, room, lungs.shape, strict=True)
    )
    near = ndimage.distance_transform_edt(~lungs, sampling=spacing) <= NEAR_LUNGS_MM
    hu, geometry = resample_box(made.hu, made.geometry, (box[0], box[1], box[2]), detector.spacing_mm)
    where, _ = resample_box(near.astype(np.int16) * 100, made.geometry, (box[0], box[1], box[2]), detector.spacing_mm)
    found = detector.find_marks(hu, where > 50)
    found = found[found[:, 4] >= mining.least[1]]
    kept: list[_Spot] = []
    for row in found[np.argsort(-found[:, 4], kind="stable")]:
        at = geometry.to_mm(row[:3].astype(float))
        away = all(np.linalg.norm(at - n.centre_mm) > n.diameter_mm / 2 + SURELY_MM for n in made.nodules)
        if away and _is_apart(at, kept) and len(kept) < mining.most[1]:
            kept.append((float(at[0]), float(at[1]), float(at[2]), float(row[4])))
    return kept

"""Whole chests that the second look learns from: scans and phantoms ─► WholeChest… with the places in them that are no
nodule.

Tissue outside the lungs is surely none, whoever annotated the scan; what lies inside them is surely none only where
every nodule is annotated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.detect import Detector, MassConfig, propose_masses
from lungscreen.detect.resampling import resample_box
from lungscreen.morphology import distance_mm
from lungscreen.phantom import make_phantom, sized
from lungscreen.phantom.anatomy import draw_person
from lungscreen.phantom.config import PhantomSize
from lungscreen.training.detector.data import LUNG_ROOM_MM, load_scan
from lungscreen.training.second_look.recipe import Mining
from lungscreen.training.second_look.spots import SPOT_SCALES_MM, find_spots

__all__ = ["KINDS", "WholeChest", "draw_chest", "find_places", "read_chest"]

Progress = Callable[[str], None]
Point = tuple[float, float, float, float]
"""LungBox (z, y, x) and diameter in mm."""

KINDS = ("mark", "small spot", "large spot", "ball", "anywhere")
"""What a place without a nodule is: a detector's mark, a dense place, where a mass could lie, drawn at random."""

COARSE = 2
"""Voxels that become one where only a distance in mm is wanted."""

APART_MM = 4.0
"""Of two places nearer than this the first stays."""

BESIDE_MM = 6.0
"""What is nearer to a nodule's surface than this, or than a quarter of its diameter, is left out."""

OUTSIDE_MM = 1.5
"""Farther outside the lungs than this is outside, whatever the lungs' border errs by."""

SPOT_ROOM_MM = 8.0
"""How far outside the lungs dense places are looked for."""

MOST_BALLS = 32
"""Places of a chest where a mass could lie."""

LEAST_MADE_MM = 4.0
"""Smaller nodules of phantoms are not learned from."""


@dataclass(frozen=True, eq=False)
class WholeChest:
    """A chest at 1 mm, a box around its lungs.

    nodules: (z, y, x, mm).
    excluded: neither nodules nor surely none.
    sure: all else is surely no nodule; else only what lies outside the lungs.
    made: a phantom.
    places: (n, 6): z, y, x, the detectors' highest score, kind (of `KINDS`), radius of a ball.
    """

    name: str
    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    nodules: tuple[Point, ...]
    excluded: tuple[Point, ...]
    sure: bool
    made: bool
    places: NDArray[np.float32]

    @cached_property
    def inside(self) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
        """Voxels of the lungs, every third along each axis, and how deep (mm) each lies: where nodules are set in."""
        thin = self.lung[::3, ::3, ::3]
        depth = ndimage.distance_transform_edt(thin)[thin] * 3
        return np.argwhere(thin) * 3, np.asarray(depth, np.float32)


def read_chest(shards: Path, name: str, detectors: Sequence[Detector] = (), mining: Mining | None = None) -> WholeChest:
    """A whole scan of `prepare_scans`, its places found; without them where nothing is said of `mining`.

    Errors: `shard-damaged`.
    """
    scan = load_scan(shards, name)
    nodules = tuple((*mark.voxel, mark.diameter_mm) for mark in scan.lesions)
    excluded = tuple((*mark.voxel, mark.diameter_mm) for mark in scan.excluded)
    bare = WholeChest(name, scan.hu, scan.lung, nodules, excluded, scan.sure, False, np.empty((0, 6), np.float32))
    return _with_places(bare, detectors, mining)


def draw_chest(
    seed: int,
    detectors: Sequence[Detector] = (),
    mining: Mining | None = None,
    size: PhantomSize = "small",
    nodules: int = 7,
) -> WholeChest:
    """A phantom with nodules, its places found; without them where nothing is said of `mining`."""
    rng = np.random.default_rng(seed)
    sex, age = draw_person(seed)
    dose, kernel = str(rng.choice(["standard", "low"])), str(rng.choice(["soft", "standard"]))
    made = make_phantom(sized(size, seed=seed, nodules=nodules, dose=dose, kernel=kernel, sex=sex, age=age))
    whole = (slice(None), slice(None), slice(None))
    hu, geometry = resample_box(made.hu, made.geometry, whole, 1.0)
    lung = resample_box((made.lungs > 0).astype(np.int16) * 100, made.geometry, whole, 1.0)[0] > 50
    found = ndimage.find_objects(lung.astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - LUNG_ROOM_MM), s.stop + LUNG_ROOM_MM) for s in found)
    start = np.array([s.start for s in box])
    seen = [n for n in made.nodules if n.visible]
    places = [np.asarray(geometry.to_index(nodule.centre_mm)) - start for nodule in seen]
    points = tuple((float(z), float(y), float(x), n.diameter_mm) for (z, y, x), n in zip(places, seen, strict=True))
    nothing = np.empty((0, 6), np.float32)
    bare = WholeChest(f"phantom-{seed}", np.ascontiguousarray(hu[box]), lung[box], points, (), True, True, nothing)
    return _with_places(bare, detectors, mining)


def _with_places(chest: WholeChest, detectors: Sequence[Detector], mining: Mining | None) -> WholeChest:
    return chest if mining is None else replace(chest, places=find_places(chest, detectors, mining))


def find_places(chest: WholeChest, detectors: Sequence[Detector], mining: Mining) -> NDArray[np.float32]:
    """Places of a chest that are surely no nodule, as `WholeChest.places` has them."""
    away = _outside_mm(chest.lung)
    kept = _Kept(chest, away, mining.near_mm)
    for detector in detectors:
        marks = detector.find_marks(chest.hu, None)
        marks = marks[marks[:, 4] >= mining.least]
        for z, y, x, _, score in marks[np.argsort(-marks[:, 4], kind="stable")][: mining.scan_marks]:
            kept.add((z, y, x), KINDS.index("mark"), score=score)
    where = MassConfig(closing_mm=mining.closing_mm, most=MOST_BALLS)
    for z, y, x, radius in propose_masses(chest.hu, chest.lung, where):
        kept.add((z, y, x), KINDS.index("ball"), radius=radius)
    near = away <= SPOT_ROOM_MM
    for kind, scale, most in zip(("small spot", "large spot"), SPOT_SCALES_MM, mining.scan_spots, strict=True):
        before = len(kept.rows)
        for place in find_spots(chest.hu, near, scale):
            if len(kept.rows) - before >= most:
                break
            kept.add(tuple(place), KINDS.index(kind))
    thin = away[::COARSE, ::COARSE, ::COARSE]
    border = np.argwhere((thin > 0) & (thin < SPOT_ROOM_MM + 1)) * COARSE
    for place in border[np.random.default_rng(0).permutation(len(border))[: mining.scan_places]]:
        kept.add(tuple(place), KINDS.index("anywhere"))
    return np.array(kept.rows, np.float32).reshape(-1, 6)


class _Kept:
    """Places that are surely none, each once."""

    def __init__(self, chest: WholeChest, away: NDArray[np.float32], near_mm: float) -> None:
        self.chest, self.away, self.near_mm = chest, away, near_mm
        self.rows: list[list[float]] = []

    def add(self, place: Sequence[float], kind: int, score: float = 0.0, radius: float = 0.0) -> None:
        """Take a place in, unless it may be a nodule, lies too far outside, or is known."""
        at = np.asarray(place, float)
        voxel = tuple(np.clip(np.rint(at).astype(int), 0, np.array(self.away.shape) - 1))
        outside = float(self.away[voxel])
        ball = kind == KINDS.index("ball")
        if (outside > self.near_mm and not ball) or self._may_be_one(at, radius):
            return
        if not self.chest.sure and outside < OUTSIDE_MM and not ball:
            return
        known = self._known(at)
        if known is None:
            self.rows.append([*(float(v) for v in at), float(score), float(kind), float(radius)])
            return
        known[3] = max(known[3], score)
        if ball:
            known[4:] = [kind, radius]

    def _known(self, at: NDArray[np.float64]) -> list[float] | None:
        """The place that was taken in near this one."""
        for row in self.rows:
            if abs(row[0] - at[0]) < APART_MM and np.linalg.norm(np.array(row[:3]) - at) < APART_MM:
                return row
        return None

    def _may_be_one(self, at: NDArray[np.float64], radius: float) -> bool:
        for *centre, size in self.chest.nodules:
            if np.linalg.norm(at - centre) < size / 2 + max(BESIDE_MM, 0.25 * size) + 0.5 * radius:
                return True
        return any(
            np.linalg.norm(at - centre) < max(BESIDE_MM, size / 2 + BESIDE_MM / 2)
            for *centre, size in self.chest.excluded
        )


def _outside_mm(lung: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance of every voxel from the lungs in mm, 0 inside; worked out on a coarser grid."""
    away = distance_mm(lung[::COARSE, ::COARSE, ::COARSE], (2.0, 2.0, 2.0))
    for axis in range(3):
        away = away.repeat(COARSE, axis)
    z, y, x = lung.shape
    return away[:z, :y, :x]

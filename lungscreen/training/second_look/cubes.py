"""Cubes of nodules where they grew ─► CubePlaces: the nodules, and beside them what is surely none.

Four radiologists read each cube that is placed: what the detectors mark away from all that they annotated is false,
and so are the dense places there, whether or not a detector marked them.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.classify.network import OUTPUTS
from lungscreen.detect import Detector
from lungscreen.errors import InputError
from lungscreen.training.classifier.data import SIDE, Cubes
from lungscreen.training.second_look.insertion import SourceNodule
from lungscreen.training.second_look.recipe import Mining, SampleShares
from lungscreen.training.second_look.spots import SPOT_SCALES_MM, find_spots

__all__ = ["CubePlaces", "find_cube_places", "read_annotated"]

Progress = Callable[[str], None]
Floats = NDArray[np.float64]

ROOM = 3
"""Voxels by which a cube is mirrored outwards before a detector looks."""

BEYOND_MM = 2.0
"""A mark nearer to an annotated place than its radius and this, or than 6 mm, is not counted as false."""

SURELY_MM = 6.0

APART_MM = 5.0
"""Of two places nearer than this the higher stays."""

LEAST_EDGE_MM = 6.0
"""A false mark nearer to its cube's faces is left out: too little of what is around it is known."""

LEAST_LUNG = 0.12
"""Share of lung around a mark (Gaussian, 4 mm) from which it is one that the product would see: inside, or at the
edge."""

FAINT_HU = -500.0
"""Mean inside its mask below which a nodule is mostly ground-glass."""

LARGE_MM = 15.0
"""A nodule from this size on is drawn more often."""

SIZES_MM, DENSITIES_HU = (5.0, 6.0, 8.0, 11.0, 15.0), (-650.0, -500.0, -300.0, -100.0)
"""Between which nodules are of one size, and of one mean density."""

LEAST_ALIKE = 8
"""Nodules of a size and density count as so many at the least: a single one does not come all the time."""

PART_SOLID = (0.125, 0.875)
"""Readers' texture, 0 … 1, between which a nodule is neither ground-glass nor solid."""

SOURCE_MM, SOURCE_HU = 11.0, (-250.0, 130.0)
"""A nodule from this size on, and of such a mean, may be enlarged to a mass."""

WEAKEST, STRONGER = 0.04, 1.2
"""A false mark is drawn in proportion to this power of its score, which counts as no less than the first."""


@dataclass(frozen=True, eq=False)
class CubePlaces:
    """n places in the cubes of one side.

    of: (n,) index of the cube.
    at: (n, 3) voxel (z, y, x).
    nodule: (n,) whether it is the cube's nodule.
    score: (n,) the detectors' highest, 0 where none marked it.
    """

    cubes: Cubes
    shares: SampleShares
    of: NDArray[np.intp]
    at: NDArray[np.float32]
    nodule: NDArray[np.bool_]
    score: NDArray[np.float32]

    def draw(
        self, rng: np.random.Generator, nodule: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int16], NDArray[np.bool_], float]:
        """A place, its cube, the nodule's mask (empty for a false mark) and the nodule's diameter."""
        places, often = self._nodules if nodule else self._false
        place = int(rng.choice(places, p=often))
        cube = self.of[place]
        mask = self.cubes.masks[cube] if nodule else np.zeros_like(self.cubes.masks[cube])
        return self.at[place], self.cubes.hu[cube], mask, float(self.diameters_mm[cube])

    @cached_property
    def diameters_mm(self) -> Floats:
        """Of each cube's mask."""
        voxels = self.cubes.masks.sum(axis=(1, 2, 3))
        return np.asarray((6 * np.maximum(voxels, 8) / np.pi) ** (1 / 3))

    def draw_source(self, rng: np.random.Generator) -> SourceNodule:
        """What is set into another lung."""
        drawn, often = self._sources
        return drawn[int(rng.choice(len(drawn), p=often))]

    @cached_property
    def _sources(self) -> tuple[tuple[SourceNodule, ...], Floats]:
        known = np.array([n for n in self._learned if self.cubes.masks[n].any()])
        often = self._rarity[known] ** self.shares.even
        return tuple(self._source(n) for n in known), often / often.sum()

    @cached_property
    def large(self) -> tuple[SourceNodule, ...]:
        """What may be enlarged to a mass."""
        low, high = SOURCE_HU
        return tuple(
            self._source(n)
            for n in self._learned
            if self.diameters_mm[n] >= SOURCE_MM and low < self._density[n] < high
        )

    def _source(self, cube: int) -> SourceNodule:
        return SourceNodule(self.cubes.hu[cube], self.cubes.masks[cube], float(self.diameters_mm[cube]))

    @cached_property
    def _learned(self) -> NDArray[np.intp]:
        return self.of[self.nodule]

    @cached_property
    def _density(self) -> Floats:
        pairs = zip(self.cubes.hu, self.cubes.masks, strict=True)
        return np.array([hu[mask].mean() if mask.any() else 0.0 for hu, mask in pairs])

    @cached_property
    def _nodules(self) -> tuple[NDArray[np.intp], Floats]:
        places, cubes = np.flatnonzero(self.nodule), self._learned
        texture = self.cubes.targets[cubes, OUTPUTS.index("texture")]
        often = np.where(self._density[cubes] < FAINT_HU, self.shares.faint, 1.0)
        often *= np.where(self.diameters_mm[cubes] >= LARGE_MM, self.shares.large, 1.0)
        mixed = (texture > PART_SOLID[0]) & (texture < PART_SOLID[1])
        often *= np.where(mixed, self.shares.part_solid, 1.0)
        often *= self._rarity[cubes] ** self.shares.even
        return places, often / often.sum()

    @cached_property
    def _rarity(self) -> Floats:
        """One over how many nodules learned from are of a cube's size and density."""
        bins = np.digitize(self.diameters_mm, SIZES_MM) * (len(DENSITIES_HU) + 1) + np.digitize(
            self._density, DENSITIES_HU
        )
        count = np.bincount(bins[self._learned], minlength=int(bins.max()) + 1)
        return np.asarray(1.0 / np.maximum(count[bins], LEAST_ALIKE))

    @cached_property
    def _false(self) -> tuple[NDArray[np.intp], Floats]:
        places = np.flatnonzero(~self.nodule)
        often = np.maximum(self.score[places].astype(float), WEAKEST) ** STRONGER
        return places, often / often.sum()


def find_cube_places(
    data: Path,
    cubes: Cubes,
    chosen: NDArray[np.intp],
    detectors: Sequence[Detector],
    mining: Mining,
    shares: SampleShares,
    progress: Progress = lambda _: None,
) -> CubePlaces:
    """Nodules of the chosen cubes, and of each placed one the detectors' highest false marks and the densest places.

    Both lie in the cube's lung or at its edge, away from everything that was annotated.

    Errors: `training-data-invalid`, `weights-invalid`.
    """
    known = read_annotated(data, cubes)
    of, at, score = list(chosen), [cubes.centres[n] for n in chosen], [0.0] * len(chosen)
    for count, n in enumerate(chosen, start=1):
        if cubes.names[n] in known:
            for place, value in _false_places(cubes.hu[n], detectors, known[cubes.names[n]], mining):
                of.append(n)
                at.append(place)
                score.append(value)
        if count % 100 == 0:
            progress(f"{count} of {len(chosen)} cubes: {len(of) - len(chosen)} places that are no nodules")
    nodule = np.arange(len(of)) < len(chosen)
    places = np.array(at, np.float32).reshape(-1, 3)
    return CubePlaces(cubes, shares, np.array(of, np.intp), places, nodule, np.array(score, np.float32))


def read_annotated(data: Path, cubes: Cubes) -> dict[str, Floats]:
    """Of each placed cube what was annotated in it: (k, 4) z, y, x and the distance within which a mark is not false.

    Errors: `training-data-invalid`.
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


def _false_places(
    hu: NDArray[np.int16], detectors: Sequence[Detector], known: Floats, mining: Mining
) -> list[tuple[Floats, float]]:
    """Marks that are no nodule and their scores, the highest first, then the densest places."""
    padded = np.pad(hu, ROOM, mode="reflect")
    found = np.concatenate([detector.find_marks(padded, None) for detector in detectors])
    found = found[found[:, 4] >= mining.least]
    found = found[np.argsort(-found[:, 4], kind="stable")]
    marks = [(row[:3].astype(float) - ROOM, float(row[4])) for row in found]
    lung = ndimage.gaussian_filter((hu < -500).astype(np.float32), 4, mode="nearest")
    dense = [[(p.astype(float), 0.0) for p in find_spots(hu, lung > LEAST_LUNG, scale)] for scale in SPOT_SCALES_MM]
    kept: list[tuple[Floats, float]] = []
    for rows, most in zip((marks, *dense), (mining.cube_marks, *mining.cube_spots), strict=True):
        before = len(kept)
        for at, score in rows:
            apart = all(np.linalg.norm(at - other) >= APART_MM for other, _ in kept)
            if len(kept) - before < most and apart and _is_false(at, lung, known):
                kept.append((at, score))
    return kept


def _is_false(at: Floats, lung: NDArray[np.float32], known: Floats) -> bool:
    """Whether a place of a cube is in its lung, away from its faces and from everything that was annotated."""
    if min(at.min(), (SIDE - 1 - at).min()) < LEAST_EDGE_MM or lung[tuple(np.rint(at).astype(int))] < LEAST_LUNG:
        return False
    return bool((np.linalg.norm(known[:, :3] - at, axis=1) >= known[:, 3]).all())

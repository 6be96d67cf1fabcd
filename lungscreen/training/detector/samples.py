"""The detector's data engine: one path for cubes and lungs.

    a block of 50³ (a cube, or a piece of a lung) → covered / inserted / decoys → shifted, mirrored filling
    → patch of 48³ → flips, turns, blur, noise → targets

Both kinds go through the same steps, so that nothing but the nodule says that there is one: the same share of blocks
without a nodule, the same seams, the same spread of places. All of a batch follows from its number and the seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.training.detector.blocks import Block, NoiseBank, SampleConfig
from lungscreen.training.detector.data import CUBE, Cube, Mark, PreparedScan, unpack_mask
from lungscreen.training.detector.inserter import Inserter, hollow
from lungscreen.training.detector.voxels import (
    Floats,
    ball,
    beyond,
    cut_mirrored,
    make_targets,
    thicken,
    uneven_ball,
    voxel_in_piece,
)

__all__ = ["SYNTHETIC", "Batch", "MinedMarks", "SampleEngine"]

SYNTHETIC = "synthetic"
"""Licence of a scan that is a phantom."""

Rng = np.random.Generator

SEAM = 4
"""Mirrored voxels next to real ones that are learned from: a seam is no nodule."""

MOST_TISSUE = 0.12
"""Largest share of soft tissue around a place whose normal tissue is set in elsewhere."""

ROOM_IN_CUBE = 12
"""Voxels between a cube's faces and a place whose normal tissue is taken: what is taken was seen."""

NEAR_PLEURA_MM = 4
"""A place this near to the lung's surface takes nodules that grew at a surface."""


@dataclass(frozen=True, eq=False)
class Batch:
    """hu: (n, 1, p, p, p) float32.
    targets: (n, 6, p/2, p/2, p/2): heat, weight, log diameter, offsets z, y, x.
    """

    hu: Floats
    targets: Floats


@dataclass(frozen=True, eq=False)
class MinedMarks:
    """Where the network was wrong: per scan rows (z, y, x, score), and per cube how hard it is (0 easy … 1)."""

    scans: Mapping[str, Floats] = field(default_factory=dict)
    cubes: Mapping[int, float] = field(default_factory=dict)


class SampleEngine:
    """Makes batches. `cubes` are those that may be learned from; `hu`, `masks` the arrays of `load_cubes`."""

    def __init__(
        self,
        config: SampleConfig,
        hu: NDArray[np.int16],
        masks: NDArray[np.uint8],
        cubes: list[Cube],
        scans: list[PreparedScan],
        seed: int,
    ) -> None:
        self.config, self.hu, self.masks, self.cubes, self.scans, self.seed = config, hu, masks, cubes, scans, seed
        self.mined = MinedMarks()
        self._weights = np.array([*map(self._weight, cubes)])
        self._sources = [c for c in cubes if c.nodule.diameter_mm <= 24]
        self._source_weights = np.array([*map(self._weight, self._sources)])
        self._placed = [c for c in cubes if c.placed]
        self._pleural = [self._air_share(c) < 0.55 for c in self._sources]
        self._lungs = [*map(_lung_voxels, scans)]
        self._real = [n for n, scan in enumerate(scans) if scan.licence != SYNTHETIC]
        self._volumes = np.array([*map(self._volume, scans)])
        self._noise = NoiseBank(seed)
        self.inserter = Inserter(config, hu, masks, self._noise)

    # -- batches -------------------------------------------------------------------------------------------------
    def batch(self, number: int, size: int) -> Batch:
        """Batch `number`: the same for the same seed, marks and data."""
        rng = np.random.default_rng([self.seed, number])
        hus, targets = [], []
        for n in range(size):
            cube = (n + 0.5) / size < self.config.cube_share
            hu, target = self.sample(rng, cube)
            hus.append(hu)
            targets.append(target)
        return Batch(np.stack(hus)[:, None], np.stack(targets))

    def sample(self, rng: Rng, cube: bool) -> tuple[Floats, Floats]:
        """One patch and its targets."""
        block = self._cube_block(rng) if cube else self._lung_block(rng)
        if rng.random() < self.config.decoy:
            self._decoy(rng, block)
        if self.config.turn_degrees:
            block = self._turn(rng, block)
        block = self._cut(rng, block)
        hu = self._augment(rng, block)
        return hu, make_targets(block.nodules, block.nothing, block.ignore)

    def plain(self, rng: Rng, cube: bool) -> Floats:
        """A patch of a cube or a lung as it is, cut and augmented as samples are; no label is looked at."""
        if cube or not self.scans:
            hu = self.hu[self.cubes[int(rng.integers(len(self.cubes)))].index].astype(np.float32)
            block = Block(hu, np.zeros(hu.shape, bool), [], [])
        else:
            found, _ = self.lung_place(rng)
            block = Block(found.hu, found.ignore, [], [])
        return self._augment(rng, self._cut(rng, block))

    # -- blocks --------------------------------------------------------------------------------------------------
    def _cube_block(self, rng: Rng) -> Block:
        weights = self._weights * np.array([1.0 + 2.0 * self.mined.cubes.get(c.index, 0.0) for c in self.cubes])
        cube = self.cubes[int(rng.choice(len(self.cubes), p=weights / weights.sum()))]
        hu = self.hu[cube.index].astype(np.float32)
        if self.config.cavity and rng.random() < self.config.cavity:
            hu = hollow(rng, hu, unpack_mask(self.masks[cube.index]))
        block = Block(hu, np.zeros(hu.shape, bool), [cube.nodule], [])
        for mark in cube.excluded:
            block.nothing.append(Mark(mark.voxel, max(mark.diameter_mm, 6.0) + 2))
        for mark in cube.nodules:
            (block.nodules if _lies_inside(mark) else block.nothing).append(Mark(mark.voxel, mark.diameter_mm + 1.1))
        if cube.placed:
            self._cover_or_insert(rng, block, cube)
        else:
            block.ignore[:] = True
            block.ignore[ball(hu.shape, cube.nodule.voxel, cube.nodule.diameter_mm / 2 + 5)] = False
        return block

    def _volume(self, scan: PreparedScan) -> float:
        """Of its lungs, in voxels; a phantom's counts by its weight."""
        return float(scan.lung.sum()) * (self.config.phantom_weight if scan.licence == SYNTHETIC else 1.0)

    def _cover_or_insert(self, rng: Rng, block: Block, cube: Cube) -> None:
        """At times hide the nodule of a placed cube under healthy lung, and at times set in another one."""
        small = cube.nodule.diameter_mm < self.config.cover_below_mm
        if small and rng.random() < self.config.cover:
            radius = cube.nodule.diameter_mm / 2 * rng.uniform(1.1, 1.4) + 2.0
            self.inserter.set_in(block, self._normal(rng), cube.nodule.voxel, uneven_ball(rng, radius))
            block.nodules.remove(cube.nodule)
        if self.config.insert_in_cubes and rng.random() < self.config.insert_in_cubes:
            self.insert(rng, block, rng.uniform(ROOM_IN_CUBE, CUBE - ROOM_IN_CUBE, 3))

    def _lung_block(self, rng: Rng) -> Block:
        n = int(rng.choice(len(self.scans), p=self._volumes / self._volumes.sum()))
        centre, mined = self._lung_centre(rng, n)
        block = self._piece(self.scans[n], centre)
        if rng.random() < (self.config.insert * 0.6 if mined else self.config.insert * 1.4):
            place = (
                rng.uniform(10, CUBE - 10, 3)
                if mined or rng.random() < 0.3
                else np.full(3, CUBE / 2) + rng.normal(0, 0.5, 3)
            )
            self.insert(rng, block, place)
        return block

    def _lung_centre(self, rng: Rng, n: int) -> tuple[NDArray[np.float64], bool]:
        """A voxel of scan number `n`, at a false mark, at a lesion or anywhere; and whether it is at a false mark."""
        scan, draw = self.scans[n], rng.random()
        marks = self.mined.scans.get(scan.name, np.zeros((0, 5)))
        if len(marks) and draw < self.config.from_mined:
            return marks[int(rng.integers(len(marks))), :3] + rng.normal(0, 1, 3), True
        if scan.lesions and draw > 0.94:
            return np.array(scan.lesions[int(rng.integers(len(scan.lesions)))].voxel) + rng.normal(0, 1, 3), False
        return self._lung_voxel(rng, n, 0.4) + rng.normal(0, 1, 3), False

    def _lung_voxel(self, rng: Rng, n: int, near_pleura: float) -> NDArray[np.int16]:
        """A voxel of the lungs of scan number `n`, with this probability near the pleura."""
        inner, outer = self._lungs[n]
        places = outer if rng.random() < near_pleura else inner
        voxel: NDArray[np.int16] = places[int(rng.integers(len(places)))]
        return voxel

    def lung_place(self, rng: Rng) -> tuple[Block, PreparedScan]:
        """The block around a place in a lung, drawn as for samples; nothing is set in yet."""
        n = int(rng.choice(len(self.scans), p=self._volumes / self._volumes.sum()))
        centre = self._lung_voxel(rng, n, 0.4) + rng.normal(0, 1, 3)
        return self._piece(self.scans[n], centre), self.scans[n]

    def _piece(self, scan: PreparedScan, centre: NDArray[np.floating]) -> Block:
        """The block of a scan around a voxel; what lies outside the scan is mirrored, and ignored."""
        start = np.round(centre).astype(int) - CUBE // 2
        hu, outside = cut_mirrored(scan.hu, start, CUBE)
        block = Block(hu.astype(np.float32), outside, [], [])
        for lesion in scan.lesions:
            mark = Mark(voxel_in_piece(lesion.voxel, start), lesion.diameter_mm + 1.1)
            if _lies_inside(mark) and mark.diameter_mm <= 36:
                block.nodules.append(mark)
            else:
                block.nothing.append(Mark(mark.voxel, mark.diameter_mm * (2.2 if mark.diameter_mm > 36 else 1) + 4))
        block.nothing += [Mark(voxel_in_piece(m.voxel, start), max(m.diameter_mm, 6.0) + 2) for m in scan.excluded]
        block.nothing += [Mark(voxel_in_piece(voxel, start), 12.0) for voxel in self._unsure_marks(scan)]
        block.nothing = [*filter(_touches_cube, block.nothing)]
        return block

    # -- what is set in ------------------------------------------------------------------------------------------
    def insert(self, rng: Rng, block: Block, place: NDArray[np.float64]) -> None:
        """A nodule at `place`, where there is air and no other nodule: a real one at one of the scales, or a made
        one.
        """
        whole = np.round(place).astype(int)
        around = tuple(slice(max(0, v - 6), v + 7) for v in whole)
        if float((block.hu[around] < -600).mean()) < 0.25:
            return
        if any(np.linalg.norm(np.array(m.voxel) - place) < m.diameter_mm + 4 for m in block.nodules):
            return
        wall = float((block.hu[around] > -300).mean()) > 0.25
        if self.config.made and rng.random() < self.config.made:
            self.inserter.insert_made(rng, block, whole, glassy=not wall)
            return
        chosen = rng.choice(len(self._sources), size=6, p=self._source_weights / self._source_weights.sum())
        pick = next((int(c) for c in chosen if self._pleural[c] == wall), int(chosen[0]))
        source = self._sources[pick]
        scale = float(rng.choice(self.config.scales))
        self.inserter.insert_real(rng, block, whole, source, scale, may_be_made=not wall)

    def _decoy(self, rng: Rng, block: Block) -> None:
        """Normal tissue, blended in as nodules are, away from those."""
        for _ in range(int(rng.integers(1, 3))):
            place = rng.uniform(6, CUBE - 6, 3)
            radius = rng.uniform(2.5, 9)
            if all(np.linalg.norm(np.array(m.voxel) - place) > m.diameter_mm / 2 + radius + 4 for m in block.nodules):
                self.inserter.set_in(block, self._normal(rng), tuple(place), uneven_ball(rng, radius))

    def _normal(self, rng: Rng) -> Floats:
        """Normal tissue around some lung voxel, away from what is annotated; vessels, but no wall: that would bulge."""
        if not self._real or rng.random() < self.config.normal_from_cubes:
            return self._normal_of_cube(rng)
        n = self._real[int(rng.integers(len(self._real)))]
        scan = self.scans[n]
        known = [*scan.lesions, *scan.excluded]
        for _ in range(12):
            centre = self._lung_voxel(rng, n, 0.15).astype(int)
            away = all(np.linalg.norm(np.array(m.voxel) - centre) > m.diameter_mm / 2 + 14 for m in known)
            around = scan.hu[tuple(slice(max(0, v - 8), v + 9) for v in centre)]
            if away and float((around > -300).mean()) < MOST_TISSUE:
                break
        hu, _ = cut_mirrored(scan.hu, centre - CUBE // 2, CUBE)
        return hu.astype(np.float32)

    def _normal_of_cube(self, rng: Rng) -> Floats:
        """The same, from a cube that was annotated all through: the lungs of many more people."""
        while True:
            cube = self._placed[int(rng.integers(len(self._placed)))]
            known = [cube.nodule, *cube.nodules, *cube.excluded]
            for _ in range(12):
                centre = rng.integers(ROOM_IN_CUBE, CUBE - ROOM_IN_CUBE, 3)
                if any(np.linalg.norm(np.array(m.voxel) - centre) < m.diameter_mm / 2 + ROOM_IN_CUBE for m in known):
                    continue
                around = self.hu[cube.index][tuple(slice(max(0, v - 8), v + 9) for v in centre)]
                if float((around > -300).mean()) < MOST_TISSUE and float((around < -600).mean()) > 0.5:
                    return cut_mirrored(self.hu[cube.index], centre - CUBE // 2, CUBE)[0].astype(np.float32)

    # -- cutting and augmenting ----------------------------------------------------------------------------------
    def _turn(self, rng: Rng, block: Block) -> Block:
        """The block turned about the body's axis; the corners that come from beyond it are mirrored, and ignored."""
        angle = np.deg2rad(rng.uniform(-self.config.turn_degrees, self.config.turn_degrees))
        cosine, sine = np.cos(angle), np.sin(angle)
        back = np.array([[1, 0, 0], [0, cosine, sine], [0, -sine, cosine]])
        middle = np.full(3, (CUBE - 1) / 2)
        offset = middle - back @ middle
        hu = ndimage.affine_transform(block.hu, back, offset, order=1, mode="mirror")
        taken = ndimage.affine_transform(block.ignore.astype(np.uint8), back, offset, order=0, mode="constant", cval=1)

        def move(mark: Mark) -> Mark:
            z, y, x = back.T @ (np.array(mark.voxel) - middle) + middle
            return Mark((float(z), float(y), float(x)), mark.diameter_mm)

        return Block(hu, taken > 0, [move(m) for m in block.nodules], [move(m) for m in block.nothing])

    def _unsure_marks(self, scan: PreparedScan) -> list[list[float]]:
        """Voxels of the marks, in a scan that was not wholly annotated, that may well be nodules nobody wrote down."""
        if scan.sure or scan.name not in self.mined.scans:
            return []
        return [voxel for *voxel, score in self.mined.scans[scan.name].tolist() if score > self.config.ignore_unsure]

    def _cut(self, rng: Rng, block: Block) -> Block:
        """Some of the block's faces cut off, a shift with mirrored filling, zoom at times, and the patch.

        So neither the patch's border nor the mirrors say where the block's middle was: cubes have their nodule there.
        """
        side = self.config.patch
        start = rng.integers(0, CUBE - side + 1, 3)
        low, high = np.zeros(3, int), np.full(3, CUBE)
        if rng.random() < self.config.shift:
            start = start + rng.integers(-self.config.shift_mm, self.config.shift_mm + 1, 3)
            largest = max((m.diameter_mm for m in block.nodules), default=0.0)
            most = int(np.clip(CUBE / 2 - 4 - largest / 2, 0, self.config.crop_mm))
            cut_off = rng.integers(0, most + 1, (2, 3)) * (rng.random((2, 3)) < 0.5)
            low, high = cut_off[0], CUBE - cut_off[1]
        zoom = float(rng.uniform(0.88, 1.14)) if rng.random() < self.config.zoom else 1.0
        real = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
        hu, ignore = block.hu[real], block.ignore[real]
        if zoom == 1.0:
            shape = hu.shape
            hu, mirrored = cut_mirrored(hu, start - low, side)
            ignore, _ = cut_mirrored(ignore, start - low, side)
            ignore = ignore | beyond(shape, start - low, side, SEAM)
        else:
            matrix = np.full(3, 1 / zoom)
            hu = ndimage.affine_transform(hu, matrix, start - low, (side,) * 3, order=1, mode="mirror")
            taken = ndimage.affine_transform(
                ignore.astype(np.uint8), matrix, start - low, (side,) * 3, order=0, mode="constant", cval=1
            )
            ignore = mirrored = taken > 0

        def move(mark: Mark) -> Mark:
            z, y, x = (np.array(mark.voxel) - start) * zoom
            return Mark((float(z), float(y), float(x)), mark.diameter_mm * zoom)

        cut = Block(hu, ignore, [], [move(m) for m in block.nothing])
        for mark in map(move, block.nodules):
            ignore |= mirrored & ball(ignore.shape, mark.voxel, mark.diameter_mm / 2 + 5)
            place = np.round(mark.voxel).astype(int)
            if ((place >= 1) & (place < side - 1)).all() and not ignore[tuple(place)]:
                cut.nodules.append(mark)
            else:
                cut.nothing.append(Mark(mark.voxel, mark.diameter_mm + 6))
        return cut

    def _augment(self, rng: Rng, block: Block) -> Floats:
        """Turns and flips (marks come along), blur or sharpening, noise, HU shift and scale."""
        side = self.config.patch
        hu, ignore = block.hu, block.ignore
        turns = int(rng.integers(4))
        flips = rng.random(3) < 0.5
        hu, ignore = np.rot90(hu, turns, (1, 2)), np.rot90(ignore, turns, (1, 2))
        axes = tuple(n for n in range(3) if flips[n])
        hu, block.ignore = np.ascontiguousarray(np.flip(hu, axes)), np.ascontiguousarray(np.flip(ignore, axes))

        def move(mark: Mark) -> Mark:
            z, y, x = mark.voxel
            for _ in range(turns):
                y, x = side - 1 - x, y
            place = [side - 1 - v if f else v for v, f in zip((z, y, x), flips, strict=True)]
            return Mark((place[0], place[1], place[2]), mark.diameter_mm)

        block.nodules, block.nothing = [move(m) for m in block.nodules], [move(m) for m in block.nothing]
        if rng.random() < self.config.blur:
            along, across = rng.uniform(0, 1.3), rng.uniform(0, 0.6)
            smooth = ndimage.gaussian_filter(hu, (along, across, across), truncate=2.5)
            hu = hu + rng.uniform(0.3, 1.0) * (hu - smooth) if rng.random() < 0.3 else smooth
        if rng.random() < 0.6:
            strength = self.config.noise_hu * float(rng.random()) ** 2
            hu = hu + strength * self._noise.draw(rng, side)
        if self.config.thick and rng.random() < self.config.thick:
            thickness = float(rng.uniform(*self.config.thick_mm))
            step = thickness * float(rng.uniform(0.6, 1.0))
            hu = thicken(hu, thickness, step, float(rng.uniform(-step / 2, step / 2)))
        return np.asarray(hu * rng.uniform(0.97, 1.03) + rng.uniform(-25, 25), np.float32)

    # -- helpers that need the data ------------------------------------------------------------------------------
    def _weight(self, cube: Cube) -> float:
        rare = self.config.rare_weight if 1 <= cube.texture <= 4 else 1.0
        return rare * (self.config.small_weight if cube.nodule.diameter_mm < 6 else 1.0)

    def _air_share(self, cube: Cube) -> float:
        """Share of air in the shell around the nodule: low where it lies at a wall."""
        box = tuple(slice(max(0, round(v) - 14), round(v) + 15) for v in cube.nodule.voxel)
        mask = unpack_mask(self.masks[cube.index])[box]
        far = ndimage.distance_transform_edt(~mask)
        shell = (far > 1.5) & (far < 4.5)
        return float((self.hu[cube.index][box][shell] < -500).mean())


def _lies_inside(mark: Mark) -> bool:
    """The mark's centre lies inside a cube, not at its faces."""
    return all(1 <= v < CUBE - 1 for v in mark.voxel)


def _touches_cube(mark: Mark) -> bool:
    """The mark's centre lies less than its diameter outside a cube, or in it."""
    return all(-mark.diameter_mm < v < CUBE + mark.diameter_mm for v in mark.voxel)


def _lung_voxels(scan: PreparedScan) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Every other voxel of the lungs: those deep inside, and those near the pleura. Each (n, 3)."""
    inside = ndimage.distance_transform_edt(scan.lung[::2, ::2, ::2]) * 2
    inner = np.argwhere(inside > NEAR_PLEURA_MM) * 2
    outer = np.argwhere((inside > 0) & (inside <= NEAR_PLEURA_MM)) * 2
    return inner.astype(np.int16), outer.astype(np.int16)

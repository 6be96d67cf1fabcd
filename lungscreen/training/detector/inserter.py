"""Nodules and other tissue set into a block: real ones cut by their masks, textures made, shapes made.

    a nodule of a cube, at a size ─► (matched in noise) ─► the brighter of it and what was there ─► soft edge ─► block

The air around a nodule digs no trench into a wall, a vessel that crosses stays (so what is set in lies in the
parenchyma, at a wall, at a vessel or at a fissure as its place has it), and one that would be hidden is not set in.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.phantom.config import NoduleShape, NoduleSpec
from lungscreen.phantom.nodules import blob_distance, make_blob
from lungscreen.records import NoduleType
from lungscreen.training.detector.blocks import Block, NoiseBank, SampleConfig
from lungscreen.training.detector.data import CUBE, Cube, Mark, unpack_mask
from lungscreen.training.detector.voxels import Bools, Floats, cut_mirrored

__all__ = ["ALIKE", "Inserter", "hollow", "read_surroundings"]

Rng = np.random.Generator
Place = NDArray[np.int_]

LEAST_SEEN = 0.5
"""Least share of an inserted nodule that must be brighter than what was there."""

MADE_TYPES = {NoduleType.SOLID: 0.2, NoduleType.PART_SOLID: 0.4, NoduleType.GROUND_GLASS: 0.4}
"""Types of nodules whose shape is made, and their shares: the rare ones more often."""

MADE_SHAPES: dict[NoduleShape, float] = {"ellipsoid": 0.3, "lobulated": 0.4, "spiculated": 0.3}

RIM_HU = 60
"""What is so much above the lung around a nodule belongs to it, though its mask ends before."""

ALIKE = 0.06
"""A place is like the one where a nodule grew: the share of tissue around it differs by no more."""

REACH_MM = 10.0
"""How far around a nodule a wall is looked for."""

WALL = 0.06
"""Least mean direction of tissue (0 for none or the same on all sides) that is a wall."""

PURE_GLASS_MM = 4.0
"""A made nodule smaller than this is solid: nobody could tell."""

HOLLOW_FROM_MM, HOLLOW_FROM_MM3 = 6.6, 150
"""Least diameter, and volume, of a nodule that may be hollow."""

LEAST_WALL_MM = 0.6
"""Thinnest wall of a made cavity."""


class Inserter:
    """`hu` and `masks` are the arrays of `load_cubes`."""

    def __init__(self, config: SampleConfig, hu: NDArray[np.int16], masks: NDArray[np.uint8], noise: NoiseBank) -> None:
        self.config, self.hu, self.masks, self.noise = config, hu, masks, noise

    def insert_real(
        self, rng: Rng, block: Block, centre: Place, source: Cube, scale: float, may_be_made: bool = False
    ) -> bool:
        """A cube's nodule, `scale` times its size; where it may, at times with a made texture. False: it would be
        hidden.
        """
        if source.nodule.diameter_mm * scale < 3:
            scale = 1.0
        hu, mask = self.cut_nodule(source, scale)
        moved = np.zeros(3)
        if self.config.match:
            moved = (np.array(source.nodule.voxel) - np.round(source.nodule.voxel)) * (scale == 1)
            ground, _ = cut_mirrored(block.hu, centre - mask.shape[0] // 2, mask.shape[0])
            hu, mask, moved = _face_wall(hu, mask, moved, ground)
        diameter = source.nodule.diameter_mm * scale
        if rng.random() < self.config.synthetic and may_be_made and 4 < diameter < 22:
            soft = ndimage.gaussian_filter(mask.astype(np.float32), rng.uniform(0.7, 1.6))
            self.blend(block, self._glass(rng, block, mask, centre), soft, centre)
        else:
            reach = ndimage.distance_transform_edt(~mask) < 1.8 + 0.5 * np.clip(
                self.noise.smooth(rng, mask.shape[0]), -2, 2
            )
            soft = ndimage.gaussian_filter(reach.astype(np.float32), 0.8)
            ground, _ = cut_mirrored(block.hu, centre - mask.shape[0] // 2, mask.shape[0])
            if float((hu > ground + 100)[mask].mean()) < LEAST_SEEN:
                return False
            if self.config.match:
                hu = self._matched(rng, hu, mask, ground)
            if self.config.cavity and rng.random() < self.config.cavity:
                hu = hollow(rng, hu, mask)
            hu = np.maximum(hu, ground)  # the air around a nodule digs no trench into a wall
            self.blend(block, hu, np.maximum(soft, mask), centre)
        self._note(block, centre + moved, diameter)
        return True

    def _draw_kind(self, rng: Rng, glassy: bool) -> tuple[NoduleType, float, bool]:
        """Type, diameter in mm, and whether it has a cavity."""
        kind = list(MADE_TYPES)[int(rng.choice(len(MADE_TYPES), p=list(MADE_TYPES.values())))]
        diameter = float(np.clip(rng.lognormal(np.log(8.5), 0.45), 3.5, 22))
        if not glassy or diameter < PURE_GLASS_MM:
            kind = NoduleType.SOLID
        if self.config.cavity and rng.random() < self.config.cavity:
            return NoduleType.SOLID, max(diameter, HOLLOW_FROM_MM), True
        return kind, diameter, False

    def insert_made(self, rng: Rng, block: Block, centre: Place, glassy: bool = True) -> bool:
        """A nodule whose shape and texture are made.

        glassy: it may be ground-glass or part-solid. False: hidden.
        """
        kind, diameter, cavity = self._draw_kind(rng, glassy)
        fraction = float(rng.uniform(0.3, 0.75))
        shape = list(MADE_SHAPES)[int(rng.choice(len(MADE_SHAPES), p=list(MADE_SHAPES.values())))]
        spec = NoduleSpec(diameter, kind, shape, solid_fraction=fraction)
        blob = make_blob(spec, int(rng.integers(1 << 31)), 0)
        side = int(min(CUBE - 2, 2 * np.ceil(blob.reach_mm + 2) + 1))
        axes = np.meshgrid(*(np.arange(side, dtype=np.float64) - side // 2,) * 3, indexing="ij")
        offset = np.stack(axes[::-1], axis=-1)  # as the blob has it: x, y, z
        uneven = 0.35 * self.noise.smooth(rng, side)
        edge = float(rng.uniform(0.5, 0.8)) if kind == NoduleType.SOLID else float(rng.uniform(0.7, 1.4))
        distance = blob_distance(blob, offset) + uneven
        soft = _soften(distance, edge)
        ground, _ = cut_mirrored(block.hu, centre - side // 2, side)
        if kind == NoduleType.SOLID:
            hu: Floats = self._tissue(rng, side)
        else:
            hu = self._veil(rng, ground)
            if kind == NoduleType.PART_SOLID:
                core = _soften(blob_distance(blob, offset, fraction) + uneven, 0.7)
                hu = np.asarray(hu + core * (np.maximum(self._tissue(rng, side), hu) - hu), np.float32)
        most = soft > 0.5
        if not most.any() or float((hu > ground + 60)[most].mean()) < LEAST_SEEN:
            return False
        hu = np.asarray(np.maximum(hu, ground), np.float32)
        if cavity:
            wall = float(rng.uniform(LEAST_WALL_MM, 0.3 * diameter))
            hu = _with_air(rng, hu, _soften(distance + wall, edge))
        self.blend(block, hu, soft, centre)
        self._note(block, centre, diameter)
        return True

    def set_in(self, block: Block, hu: Floats, voxel: tuple[float, ...], soft: Floats) -> None:
        """The middle of a block's worth of tissue, where `soft` says how much of it."""
        side = soft.shape[0]
        start = (CUBE - side) // 2
        part = hu[start : start + side, start : start + side, start : start + side]
        self.blend(block, part, soft, np.round(voxel).astype(int))

    def blend(self, block: Block, hu: Floats, soft: Floats, centre: Place) -> None:
        """`soft` of `hu`, the rest of what was there; parts beyond the block are lost."""
        side = soft.shape[0]
        start = centre - side // 2
        low, high = np.maximum(start, 0), np.minimum(start + side, CUBE)
        if (low >= high).any():
            return
        there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        here = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        part = block.hu[there]
        block.hu[there] = part + soft[here] * (hu[here] - part)

    def cut_nodule(self, cube: Cube, scale: float) -> tuple[Floats, Bools]:
        """A cube's nodule in the middle of a small box at another size: HU and mask."""
        side = int(min(CUBE - 2, 2 * np.ceil((cube.nodule.diameter_mm * 0.9 + 5) * scale) + 1))
        middle = side // 2
        centre = np.array(cube.nodule.voxel)
        if self.config.match and scale == 1:
            centre = np.round(centre)  # between voxels a nodule would be smoother than the lung around it
        offset = centre - middle / scale
        mask = unpack_mask(self.masks[cube.index])
        low = np.maximum(np.floor(offset).astype(int) - 1, 0)
        part = tuple(slice(a, a + int(np.ceil(side / scale)) + 3) for a in low)
        matrix = np.full(3, 1 / scale)
        hu = ndimage.affine_transform(
            self.hu[cube.index][part].astype(np.float32), matrix, offset - low, (side,) * 3, order=1, mode="mirror"
        )
        inside = ndimage.affine_transform(
            mask[part].astype(np.float32), matrix, offset - low, (side,) * 3, order=1, mode="mirror"
        )
        return hu, inside > 0.5

    # -- helpers -------------------------------------------------------------------------------------------------
    def _matched(self, rng: Rng, hu: Floats, mask: Bools, ground: Floats) -> Floats:
        """The nodule with its new place's noise, and nothing of the air that was around it."""
        (level, own), (_, wanted) = _air(hu, ~mask), _air(ground, np.ones_like(mask))
        if wanted > own:
            hu = hu + np.sqrt(wanted**2 - own**2) * self.noise.draw(rng, hu.shape[0])
        elif own > wanted:
            hu = hu + (1 - wanted / own) * (ndimage.gaussian_filter(hu, 0.7) - hu)
        rim = ndimage.gaussian_filter(hu, 0.7) > level + RIM_HU
        return np.asarray(np.where(mask | rim, hu, -2000), np.float32)

    def _note(self, block: Block, centre: NDArray[np.floating] | Place, diameter: float) -> None:
        voxel = (float(centre[0]), float(centre[1]), float(centre[2]))
        block.nodules.append(Mark(voxel, diameter))
        block.nothing = [m for m in block.nothing if np.linalg.norm(np.array(m.voxel) - centre) > 6]

    def _glass(self, rng: Rng, block: Block, mask: Bools, centre: Place) -> Floats:
        """Ground-glass over what is there: vessels stay visible; at times with a solid core."""
        side = mask.shape[0]
        ground, _ = cut_mirrored(block.hu, centre - side // 2, side)
        hu: Floats = np.maximum(ground, self._veil(rng, ground)).astype(np.float32)
        if rng.random() < 0.4:
            depth = ndimage.distance_transform_edt(mask)
            core = depth > depth.max() * rng.uniform(0.35, 0.75) + 0.2 * self.noise.smooth(rng, side)
            soft = ndimage.gaussian_filter(core.astype(np.float32), 0.8)
            hu = np.asarray(hu + soft * (rng.uniform(-120, 60) - hu), np.float32)
        return hu

    def _veil(self, rng: Rng, ground: Floats) -> Floats:
        """Ground-glass: 100 to 380 HU above the lung that is there, and uneven."""
        base = float(np.median(ground[ground < -600])) if (ground < -600).any() else -850.0
        return np.asarray(base + rng.uniform(100, 380) + 60 * self.noise.smooth(rng, ground.shape[0]), np.float32)

    def _tissue(self, rng: Rng, side: int) -> Floats:
        """A solid nodule's inside."""
        return np.asarray(rng.uniform(-90, 80) + 25 * self.noise.smooth(rng, side), np.float32)


def hollow(rng: Rng, hu: Floats, mask: Bools) -> Floats:
    """A solid nodule with a cavity full of air: what lies deeper than an uneven wall of 1.2 to 3.5 mm. Others stay."""
    if int(mask.sum()) < HOLLOW_FROM_MM3 or float(np.median(hu[mask])) < -400:
        return hu
    depth = ndimage.distance_transform_edt(mask)
    core = depth > min(rng.uniform(1.2, 3.5), 0.7 * float(depth.max()))
    core &= ndimage.gaussian_filter(rng.normal(0, 1, mask.shape).astype(np.float32), 2.0) * 12 > -1.5
    soft = ndimage.gaussian_filter(core.astype(np.float32), rng.uniform(0.4, 0.8))
    return _with_air(rng, hu, soft)


def read_surroundings(
    hu: NDArray[np.int16] | Floats, voxel: tuple[float, ...], mask: NDArray[np.bool_] | None
) -> tuple[float, float]:
    """Shares of tissue and of air within 6 voxels, the nodule itself left out."""
    box = tuple(slice(max(0, round(v) - 6), round(v) + 7) for v in voxel)
    values = hu[box] if mask is None else hu[box][~ndimage.binary_dilation(mask[box])]
    if not values.size:
        return 1.0, 0.0
    return float((values > -300).mean()), float((values < -600).mean())


def _with_air(rng: Rng, hu: Floats, inside: Floats) -> Floats:
    """Air, or lung, as much of it as `inside` says."""
    return np.asarray(hu + inside * (rng.uniform(-980, -780) - hu), np.float32)


def _face_wall(
    hu: Floats, mask: Bools, moved: NDArray[np.float64], ground: Floats
) -> tuple[Floats, Bools, NDArray[np.float64]]:
    """A nodule that grew at a wall is turned and flipped, about and along the body's axis, to the wall of its new
    place.

    moved: an offset within the nodule (z, y, x), which comes along.
    """
    own, there = _wall(hu, ~ndimage.binary_dilation(mask)), _wall(ground, np.ones_like(mask))
    if min(np.linalg.norm(own), np.linalg.norm(there)) < WALL:
        return hu, mask, moved
    ways = list(itertools.product(range(4), (False, True), (False, True)))
    turns, upright, across = max(ways, key=lambda way: float(_moved(own, *way) @ there))
    axes = tuple(n for n, flip in enumerate((upright, across)) if flip)
    hu, mask = np.flip(np.rot90(hu, turns, (1, 2)), axes), np.flip(np.rot90(mask, turns, (1, 2)), axes)
    return hu, mask, _moved(moved, turns, upright, across)


def _moved(offset: NDArray[np.float64], turns: int, upright: bool, across: bool) -> NDArray[np.float64]:
    """Where an offset (z, y, x) goes when its array is turned in the axial plane, then flipped along z and y."""
    z, y, x = offset
    for _ in range(turns):
        y, x = -x, y
    return np.array([-z if upright else z, -y if across else y, x])


def _wall(hu: Floats, where: Bools) -> NDArray[np.float64]:
    """Towards the tissue within `REACH_MM` of the middle, (z, y, x): as long as its share is one-sided."""
    half = hu.shape[0] // 2
    z, y, x = (a - half for a in np.indices(hu.shape, dtype=np.float32))
    near = where & (z**2 + y**2 + x**2 < REACH_MM**2) & (z**2 + y**2 + x**2 > 0)
    tissue = near & (hu > -300)
    length = np.sqrt(z[tissue] ** 2 + y[tissue] ** 2 + x[tissue] ** 2)
    return np.array([float((a[tissue] / length).sum()) for a in (z, y, x)]) / max(1, int(near.sum()))


def _air(hu: Floats, where: Bools) -> tuple[float, float]:
    """Median HU of aerated lung, and the deviation of its fine noise (robust, so that vessels do not count)."""
    fine = hu - ndimage.gaussian_filter(hu, 1.0)
    air = where & (hu < -600)
    if air.sum() < 50:
        return -850.0, 0.0
    return float(np.median(hu[air])), float(1.4826 * np.median(np.abs(fine[air])))


def _soften(distance: NDArray[np.floating], edge: float) -> Floats:
    """1 inside, 0 outside, over an edge as wide as the scanner blurs."""
    return np.asarray(ndimage.gaussian_filter(np.clip(0.5 - distance, 0, 1), edge), np.float32)

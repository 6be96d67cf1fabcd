"""Nodules and masses set into a box of a chest: real ones at another size, and masses that are made.

Large nodules are rare in the data, masses hardly there: nodules are enlarged to 18 to 80 mm, and shapes are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

__all__ = ["BOX", "LungBox", "SourceNodule", "cut_box", "set_in_mass", "set_in_nodule", "set_in_tissue", "smooth_noise"]

BOX = 96
"""Voxels of a box's side, 1 mm each: the widest view and room to turn it."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Rng = np.random.Generator
Number = TypeVar("Number", bound=np.generic)

LEAST_SEEN = 0.4
"""Share of what is set in that must be brighter than what was there."""

SEEN_HU = 100
"""… by so much."""

BONE_HU = 80
"""Tissue so much brighter than a mass is bone: no mass goes through it."""

NOISE_SCALES = (1.5, 3.0, 6.0)
NOISE_SIDE = 144


@dataclass(eq=False)
class LungBox:
    """A box of `BOX` voxels around what may be a nodule: HU, the nodule's voxels, the lungs."""

    hu: Floats
    mask: Bools
    lung: Bools


@dataclass(frozen=True, eq=False)
class SourceNodule:
    """A nodule where it grew: a cube and its mask, mm."""

    hu: NDArray[np.int16]
    mask: Bools
    diameter_mm: float


def cut_box(array: NDArray[Number], centre: NDArray[np.integer], side: int = BOX) -> NDArray[Number]:
    """A box around a voxel, (side, side, side); beyond the array its edge goes on."""
    low = np.asarray(centre) - side // 2
    index = [np.clip(np.arange(a, a + side), 0, n - 1) for a, n in zip(low, array.shape, strict=True)]
    box: NDArray[Number] = array[np.ix_(*index)]
    return box


def set_in_nodule(rng: Rng, place: LungBox, source: SourceNodule, scale: float, solid: bool = False) -> bool:
    """A real nodule in the box's middle, `scale` times its size. False: it would be hidden.

    solid: as a mass is set in, see `_blend`, with a grain of its own, which enlarging has smoothed away.
    """
    middle = np.argwhere(source.mask).mean(axis=0).round().astype(int)
    half = int(min(source.diameter_mm * 0.75 + 6, 24))
    hu = cut_box(source.hu, middle, 2 * half).astype(np.float32)
    mask = cut_box(source.mask, middle, 2 * half).astype(np.float32)
    for axis in range(3):
        if rng.random() < 0.5:
            hu, mask = np.flip(hu, axis), np.flip(mask, axis)
    if scale != 1.0:
        hu, mask = _enlarged(hu, scale), _enlarged(mask, scale)
    if solid:
        hu = hu + _grain(rng, hu.shape)
    soft = ndimage.gaussian_filter((ndimage.gaussian_filter(mask, 0.6) > 0.35).astype(np.float32), 0.8)
    if not solid:
        wider = ndimage.binary_dilation(mask > 0.5).astype(np.float32)
        soft = np.maximum(soft, ndimage.gaussian_filter(wider, 0.8))
    return _blend(rng, place, np.asarray(hu, np.float32), np.asarray(soft, np.float32), solid)


def set_in_mass(rng: Rng, place: LungBox, radius_mm: float) -> bool:
    """A mass that is made, in the box's middle: lobes, uneven surface, at times a dead core or a cavity. False:
    hidden.
    """
    line = np.arange(BOX // 2) * 2 - (BOX / 2 - 1)
    axes = np.meshgrid(line, line, line, indexing="ij")
    distance = np.full((BOX // 2,) * 3, np.inf)
    for lobe in range(rng.integers(1, 6)):
        size = radius_mm * (rng.uniform(0.65, 1.1, 3) if lobe == 0 else rng.uniform(0.3, 0.7, 3))
        centre = np.zeros(3) if lobe == 0 else rng.normal(size=3) * radius_mm * 0.5
        away = np.sqrt(sum(((a - c) / s) ** 2 for a, c, s in zip(axes, centre, size, strict=True)))
        distance = np.minimum(distance, (away - 1) * size.min())
    distance += smooth_noise(rng, BOX // 2) * rng.uniform(0.02, 0.16) * radius_mm
    signed = _enlarged(distance, 2.0)
    if rng.random() < 0.3:  # spicules
        signed = signed + smooth_noise(rng, BOX) * rng.uniform(0.5, 2.5)
    hu = rng.uniform(-20, 90) + smooth_noise(rng, BOX) * rng.uniform(0, 20) + _grain(rng, signed.shape)
    if rng.random() < 0.3:
        hu = hu - rng.uniform(10, 45) * np.clip(-signed / (0.3 * radius_mm) - 1, 0, 1)
    if rng.random() < 0.08:
        hu = hu + np.clip(-signed / 2 - rng.uniform(0.25, 0.5) * radius_mm / 2, 0, 1) * (-900 - hu)
    soft = ndimage.gaussian_filter(np.clip(0.5 - signed, 0, 1), rng.uniform(0.5, 1.2))
    return _blend(rng, place, np.asarray(hu, np.float32), np.asarray(soft, np.float32), True)


def set_in_tissue(rng: Rng, hu: Floats, tissue: Floats) -> None:
    """Normal tissue (32 voxels a side) in the middle of a box, by the seam that nodules are set in with; `hu`
    changes.
    """
    side = tissue.shape[0]
    line = np.arange(side) - (side - 1) / 2
    z, y, x = np.meshgrid(line, line, line, indexing="ij")
    away = np.sqrt(z**2 + y**2 + x**2) + smooth_noise(rng, side) * 1.5
    soft = ndimage.gaussian_filter((away < rng.uniform(4, 12)).astype(np.float32), 0.8)
    box = _middle(side)
    there = hu[box]
    new = np.maximum(tissue, there) if rng.random() < 0.6 else tissue
    hu[box] = there + soft * (new - there)


def smooth_noise(rng: Rng, side: int) -> Floats:
    """A piece of smooth noise of deviation 1, at one of several scales, turned at random."""
    field = _noise_fields()[rng.integers(len(NOISE_SCALES))]
    z, y, x = rng.integers(0, NOISE_SIDE - side + 1, 3)
    piece = field[z : z + side, y : y + side, x : x + side]
    for axis in range(3):
        if rng.random() < 0.5:
            piece = np.flip(piece, axis)
    return piece


def _blend(rng: Rng, place: LungBox, hu: Floats, soft: Floats, solid: bool) -> bool:
    """`soft` of `hu` in the box's middle; the brighter of both stays, so that no air digs a trench.

    solid: within the lungs it may push vessels aside; outside them it shows through fat at times, never through bone.
    """
    spare = max(0, (soft.shape[0] - BOX + 1) // 2)
    cut = slice(spare, spare + min(soft.shape[0], BOX))
    hu, soft = hu[cut, cut, cut], soft[cut, cut, cut]
    box = _middle(soft.shape[0])
    there = place.hu[box]
    if solid:
        inside = ndimage.uniform_filter(place.lung[box].astype(np.float32), 5) > 0.5
        beyond = bool(rng.random() < 0.5)
        outside = np.maximum(there, hu) if beyond else there
        new = np.where(inside, hu if rng.random() < 0.6 else np.maximum(there, hu), outside)
        most = (soft > 0.5) & (inside | (beyond & (there < hu + BONE_HU)))
    else:
        new, most = np.maximum(there, hu), soft > 0.5
    if most.sum() < 8 or float((hu > there + SEEN_HU)[most].mean()) < LEAST_SEEN:
        return False
    place.hu[box] = there + soft * (new - there)
    place.mask[box] |= most
    return True


def _middle(side: int) -> tuple[slice, slice, slice]:
    first = (BOX - side) // 2
    part = slice(first, first + side)
    return part, part, part


def _grain(rng: Rng, shape: tuple[int, ...]) -> Floats:
    """A scanner's noise."""
    noise = rng.normal(size=shape).astype(np.float32)
    if rng.random() < 0.7:
        noise = ndimage.uniform_filter(noise, 2) * 2
    return np.asarray(noise * rng.uniform(5, 25), np.float32)


def _enlarged(array: NDArray[np.floating], scale: float) -> Floats:
    """Linearly, to an even number of voxels."""
    tensor = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))[None, None]
    large = functional.interpolate(tensor, scale_factor=scale, mode="trilinear", align_corners=False)[0, 0].numpy()
    side = large.shape[0] // 2 * 2
    return np.asarray(large[:side, :side, :side], np.float32)


@cache
def _noise_fields() -> tuple[Floats, ...]:
    rng = np.random.default_rng(5)
    fields = []
    for scale in NOISE_SCALES:
        field = ndimage.gaussian_filter(rng.normal(size=(NOISE_SIDE,) * 3).astype(np.float32), scale)
        fields.append(np.asarray(field / field.std(), np.float32))
    return tuple(fields)

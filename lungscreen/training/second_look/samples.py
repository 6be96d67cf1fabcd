"""Cubes and chests ─► the samples that the second look learns from: two views each, and the nodule's voxels in either.

    a cube's nodule or false mark, or a place in a chest ─► box of 96 mm ─► turned, scaled, noisy ─► close and wide view

Half of a batch are nodules and masses. Nothing but the nodule may say that there is one:
- a cube ends 25 mm from its nodule, so half of the cubes are set into other lungs and half of them mirrored outwards,
both
  cut at random, nodules and false marks alike, and samples of chests are at times cut and mirrored too;
- what is set into chests has a seam, so other normal tissue is set in by the same seam where nothing is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.preparation import scale_hu
from lungscreen.classify.two_views import TwoViewsConfig
from lungscreen.patches import halve
from lungscreen.training.classifier.samples import blur_some
from lungscreen.training.second_look.chests import KINDS, WholeChest
from lungscreen.training.second_look.cubes import CubePlaces
from lungscreen.training.second_look.insertion import (
    BOX,
    LungBox,
    cut_box,
    set_in_mass,
    set_in_nodule,
    set_in_tissue,
)
from lungscreen.training.second_look.recipe import SampleShares

__all__ = ["Deck", "SampleBatch", "draw_samples", "spot_for_mass"]

Rng = np.random.Generator
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Number = TypeVar("Number", bound=np.generic)

KIND_SHARES = (0.42, 0.20, 0.13, 0.15, 0.10)
"""Of a chest's places without a nodule, by `KINDS`."""

WEAKEST = 0.03
"""Score that a place of a chest counts as when it is drawn by its score, at the least."""

MASS_RADII_MM = (9.0, 40.0)
"""Of what is set in as a mass; even on a logarithmic scale."""

ENLARGED_MOST = 6.0
"""A nodule is enlarged no more: its texture would be gone."""

NODULE_SCALES = (0.8, 1.0, 1.0, 1.0, 1.2)

SURE_SEAMS = ("small spot", "large spot", "anywhere")
"""Kinds of places into which other tissue may be set."""

FREE_TURNS = 0.3
"""Share of samples that are turned freely; the others keep the body's direction: 25° in the axial plane, 10° out of
it."""

SHARPEST = 2.0
"""By how much fine detail is raised at the most where a sample is sharpened; half of that in the wide view."""

MIRRORED = (0.3, 0.15, 0.5)
"""Share of samples that are mirrored along (z, y, x)."""


@dataclass(frozen=True, eq=False)
class Deck:
    """What is drawn from."""

    cubes: CubePlaces
    scans: tuple[WholeChest, ...]
    phantoms: tuple[WholeChest, ...]
    shares: SampleShares
    views: TwoViewsConfig

    @property
    def chests(self) -> tuple[WholeChest, ...]:
        """Scans and phantoms."""
        return (*self.scans, *self.phantoms)


@dataclass(frozen=True, eq=False)
class SampleBatch:
    """close, wide: (n, 1, side, side, side), 0 … 1.
    close_mask, wide_mask: the nodule's share of each voxel, same shapes.
    nodule: (n,) 1 where it is one.
    outlined: (n,) whether its mask is known.
    """

    close: Tensor
    wide: Tensor
    close_mask: Tensor
    wide_mask: Tensor
    nodule: Tensor
    outlined: Tensor


@dataclass(frozen=True, eq=False)
class _Sample:
    hu: Floats
    mask: Bools
    outlined: bool


def draw_samples(deck: Deck, size: int, seed: int, step: int) -> SampleBatch:
    """The batch of a step: half nodules, half none, in turn. It follows from the seed and the step."""
    rng = np.random.default_rng((seed, step))
    views, outlined = [], []
    for n in range(size):
        sample = _draw(deck, rng, nodule=n % 2 == 0)
        views.append(_views(deck.views, sample, rng))
        outlined.append(sample.outlined)
    close, wide, close_mask, wide_mask = (torch.stack([view[k] for view in views]) for k in range(4))
    close, wide = _vary(close, wide, deck.shares.sharp, torch.Generator().manual_seed(seed * 1_000_003 + step))
    return SampleBatch(
        close.contiguous(memory_format=torch.channels_last_3d),
        wide.contiguous(memory_format=torch.channels_last_3d),
        close_mask,
        wide_mask,
        torch.tensor([float(n % 2 == 0) for n in range(size)]),
        torch.tensor(outlined),
    )


def _draw(deck: Deck, rng: Rng, nodule: bool) -> _Sample:
    turn, shares = rng.random(), deck.shares
    if turn < shares.cubes:
        sample = _of_cube(deck, rng, nodule)
        reach = 2.0 if nodule else 0.6
        shift = np.round(rng.uniform(-reach, reach, 3)).astype(int)
        return _Sample(_moved(sample.hu, shift), _moved(sample.mask, shift), sample.outlined)
    made = bool(deck.phantoms) and (turn > 1 - shares.phantoms or not deck.scans)
    pool = deck.phantoms if made else deck.scans
    return _nodule_of_chest(deck, rng, pool) if nodule else _nothing_of_chest(deck, rng, pool)


# -- cubes -----------------------------------------------------------------------------------------------------------
def _of_cube(deck: Deck, rng: Rng, nodule: bool) -> _Sample:
    """A place of a cube, the cube cut at random, what lies beyond mirrored or another lung's."""
    cubes = deck.cubes
    at, hu, mask, size = cubes.draw(rng, nodule)
    box, low = _cut_at_random(rng, hu.shape, at, size / 2 + 3 if nodule else 6.0)
    part, inside, centre = hu[box].astype(np.float32), mask[box], np.round(at).astype(int) - low
    outlined = nodule and bool(mask.any())
    if rng.random() < 0.5 or not deck.scans:
        return _Sample(*_mirrored_out(part, inside, centre), outlined)
    return _Sample(*_set_into_lung(deck, rng, part, inside, centre), outlined)


def _cut_at_random(
    rng: Rng, shape: tuple[int, ...], at: Floats, room: float
) -> tuple[tuple[slice, ...], NDArray[np.int_]]:
    """A box of a cube with up to 20 voxels cut off some faces, and its first voxel.

    room: voxels around a place that stay.
    """
    low, high = np.zeros(3, int), np.array(shape)
    for axis in range(3):
        if rng.random() < 0.45:
            if rng.random() < 0.5:
                low[axis] = rng.integers(0, max(1, min(20, at[axis] - room)))
            else:
                high[axis] -= rng.integers(0, max(1, min(20, high[axis] - 1 - at[axis] - room)))
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True)), low


def _set_into_lung(deck: Deck, rng: Rng, part: Floats, inside: Bools, centre: NDArray[np.int_]) -> tuple[Floats, Bools]:
    """A box around a voxel of a cube's part, another lung around it, over a soft border."""
    chest = deck.chests[rng.integers(len(deck.chests))]
    around = cut_box(chest.hu, _spot_in_lung(chest, rng)).astype(np.float32)
    soft = np.ones(part.shape, np.float32)
    for axis, count in enumerate(part.shape):
        edge = np.minimum(np.arange(count) + 1, count - np.arange(count)) / rng.uniform(2, 5)
        soft *= np.clip(edge, 0, 1).reshape([-1 if k == axis else 1 for k in range(3)]).astype(np.float32)
    start = BOX // 2 - centre
    here = tuple(slice(max(0, -s), min(n, BOX - s)) for s, n in zip(start, part.shape, strict=True))
    there = tuple(slice(s + h.start, s + h.stop) for s, h in zip(start, here, strict=True))
    around[there] += soft[here] * (part[here] - around[there])
    drawn = np.zeros(around.shape, bool)
    drawn[there] = inside[here]
    return around, drawn


def _mirrored_out(part: Floats, mask: Bools, centre: NDArray[np.int_]) -> tuple[Floats, Bools]:
    """A box around a voxel of an array, the array mirrored outwards."""
    pad = [(max(0, BOX // 2 - c), max(0, BOX // 2 - (n - c))) for c, n in zip(centre, part.shape, strict=True)]
    starts = [c + before - BOX // 2 for c, (before, _) in zip(centre, pad, strict=True)]
    box = tuple(slice(a, a + BOX) for a in starts)
    return np.pad(part, pad, mode="reflect")[box], np.pad(mask, pad)[box]


# -- chests ----------------------------------------------------------------------------------------------------------
def _nothing_of_chest(deck: Deck, rng: Rng, pool: tuple[WholeChest, ...]) -> _Sample:
    """A place without a nodule."""
    chest = pool[rng.integers(len(pool))]
    kind = int(rng.choice(len(KINDS), p=KIND_SHARES))
    rows = chest.places[chest.places[:, 4] == kind]
    rows = rows if len(rows) else chest.places
    often = np.maximum(rows[:, 3].astype(float), WEAKEST)
    row = rows[rng.choice(len(rows), p=often / often.sum())]
    ball = KINDS[kind] == "ball"
    reach = 4.0 if ball else 1.5
    hu = cut_box(chest.hu, np.round(row[:3] + rng.uniform(-reach, reach, 3)).astype(int)).astype(np.float32)
    if KINDS[kind] in SURE_SEAMS and rng.random() < deck.shares.decoys:
        other = deck.chests[rng.integers(len(deck.chests))] if rng.random() < 0.5 else chest
        set_in_tissue(rng, hu, cut_box(other.hu, _spot_in_lung(other, rng), 32).astype(np.float32))
    mask = np.zeros(hu.shape, bool)
    if not ball and rng.random() < deck.shares.mirrored:
        hu, mask = _cut_like_cube(rng, hu, mask, 6.0)
    return _Sample(hu, mask, False)


def _nodule_of_chest(deck: Deck, rng: Rng, pool: tuple[WholeChest, ...]) -> _Sample:
    """One that is annotated, or one set in; another place where it would be hidden."""
    shares = deck.shares
    for _ in range(50):
        chest, turn = pool[rng.integers(len(pool))], rng.random()
        known = 0.5 if chest.made else shares.known
        if chest.nodules and turn < known:
            return _known_nodule(chest, rng, shares)
        mass = turn < shares.known + shares.masses
        sample = _mass_set_in(deck, rng, chest) if mass else _nodule_set_in(deck, rng, chest)
        if sample is not None:
            return sample
    raise RuntimeError("expected a chest that a nodule can be set into")


def _known_nodule(chest: WholeChest, rng: Rng, shares: SampleShares) -> _Sample:
    often = np.ones(len(chest.nodules)) if chest.made else np.array([n[3] for n in chest.nodules])
    *centre, size = chest.nodules[rng.choice(len(often), p=often / often.sum())]
    reach = max(1.5, 0.125 * size)
    hu = cut_box(chest.hu, np.round(np.array(centre) + rng.uniform(-reach, reach, 3)).astype(int)).astype(np.float32)
    mask = np.zeros(hu.shape, bool)
    if size < 20 and rng.random() < shares.mirrored:
        hu, mask = _cut_like_cube(rng, hu, mask, size / 2)
    return _Sample(hu, mask, False)


def _mass_set_in(deck: Deck, rng: Rng, chest: WholeChest) -> _Sample | None:
    radius = float(np.exp(rng.uniform(*np.log(MASS_RADII_MM))))
    place = _place(chest, spot_for_mass(chest, rng, radius))
    shift = np.round(rng.uniform(-1, 1, 3) * max(2.0, 0.3 * radius)).astype(int)
    sources = deck.cubes.large
    if sources and rng.random() < deck.shares.enlarged:
        source = sources[rng.integers(len(sources))]
        done = set_in_nodule(rng, place, source, min(2 * radius / source.diameter_mm, ENLARGED_MOST), solid=True)
    else:
        done = set_in_mass(rng, place, radius)
    return _Sample(_moved(place.hu, shift), _moved(place.mask, shift), True) if done else None


def _nodule_set_in(deck: Deck, rng: Rng, chest: WholeChest) -> _Sample | None:
    place = _place(chest, _spot_in_lung(chest, rng))
    source = deck.cubes.draw_source(rng)
    if not set_in_nodule(rng, place, source, float(rng.choice(NODULE_SCALES))):
        return None
    hu, mask = place.hu, place.mask
    if rng.random() < deck.shares.mirrored:
        hu, mask = _cut_like_cube(rng, hu, mask, 8.0)
    return _Sample(hu, mask, True)


def _place(chest: WholeChest, centre: NDArray[np.intp]) -> LungBox:
    hu = cut_box(chest.hu, centre).astype(np.float32)
    return LungBox(hu, np.zeros(hu.shape, bool), np.asarray(cut_box(chest.lung, centre), bool))


def _spot_in_lung(chest: WholeChest, rng: Rng) -> NDArray[np.intp]:
    """Anywhere in the lungs, 40 % of them near the surface."""
    points, depth = chest.inside
    near = depth < 6 if rng.random() < 0.4 else np.ones(len(points), bool)
    spot: NDArray[np.intp] = points[rng.choice(np.flatnonzero(near if near.any() else ~near))]
    return spot + rng.integers(-1, 2, 3)


def spot_for_mass(chest: WholeChest, rng: Rng, radius: float) -> NDArray[np.intp]:
    """Free, at the wall, at the mediastinum, or beside what a mass could be taken for, which lies at the hilum."""
    points, depth = chest.inside
    where = int(rng.integers(4))
    if where == 0:
        good = depth > min(0.8 * radius, float(np.quantile(depth, 0.9)))
    elif where == 1:
        good = depth < max(4.0, 0.6 * radius)
    elif where == 2:
        across = np.abs(points[:, 2] - chest.hu.shape[2] / 2)
        good = (across < np.quantile(across, 0.25)) & (depth < max(6.0, 0.8 * radius))
    else:
        balls = chest.places[chest.places[:, 4] == KINDS.index("ball")]
        good = np.ones(len(points), bool)
        if len(balls):
            away = np.linalg.norm(points - balls[rng.integers(len(balls)), :3], axis=1)
            good = (away > 0.5 * radius) & (away < radius + 14)
    spot: NDArray[np.intp] = points[rng.choice(np.flatnonzero(good if good.any() else ~good))]
    return spot


def _cut_like_cube(rng: Rng, hu: Floats, mask: Bools, room: float) -> tuple[Floats, Bools]:
    """As a cube shows it: 50 mm or less along some axes, mirrored outwards.

    room: mm around the middle that stay.
    """
    box, pad = [], []
    for _ in range(3):
        before, after = BOX // 2, BOX // 2
        if rng.random() < 0.6:
            before = max(int(rng.integers(6, 26)), int(room) + 2)
            after = max(50 - before, int(room) + 2)
        box.append(slice(BOX // 2 - before, BOX // 2 + after))
        pad.append((BOX // 2 - before, BOX // 2 - after))
    part = tuple(box)
    return np.pad(hu[part], pad, mode="reflect"), np.pad(mask[part], pad)


def _moved(array: NDArray[Number], shift: NDArray[np.int_]) -> NDArray[Number]:
    """Voxel n of the result is voxel n + shift; the edge goes on."""
    index = [np.clip(np.arange(n) + s, 0, n - 1) for n, s in zip(array.shape, shift, strict=True)]
    return array[np.ix_(*index)]


# -- views -----------------------------------------------------------------------------------------------------------
def _views(config: TwoViewsConfig, sample: _Sample, rng: Rng) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Close and wide view of a box's middle voxel, then their masks, each (1, side, side, side); turned alike."""
    values = scale_hu(sample.hu)
    turn = _turn(rng)
    half = BOX // 4
    close = (slice(half, -half),) * 3
    parts = (
        (values[close], sample.mask[close].astype(np.float32), config.close_voxels, 0.5),
        (halve(values), halve(sample.mask), config.wide_voxels, 0.25),
    )
    seen = [_turned(np.stack([hu, mask]), turn, side, middle) for hu, mask, side, middle in parts]
    return seen[0][:1], seen[1][:1], seen[0][1:], seen[1][1:]


def _turned(channels: Floats, turn: NDArray[np.float64], side: int, beyond: float) -> Tensor:
    """(c, n, n, n) → (c, side, side, side) around the point `beyond` voxels after the middle, turned."""
    line = np.arange(side) - (side - 1) / 2
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3) @ turn.T
    last = channels.shape[1] - 1
    places = (grid + last / 2 + beyond) / last * 2 - 1
    at = torch.from_numpy(places[:, ::-1].astype(np.float32)).reshape(1, side, side, side, 3)
    whole = torch.from_numpy(np.ascontiguousarray(channels))[None]
    return functional.grid_sample(whole, at, mode="bilinear", padding_mode="border", align_corners=True)[0]


def _turn(rng: Rng) -> NDArray[np.float64]:
    """A rotation, mirrored and scaled by up to 8 %."""
    if rng.random() < FREE_TURNS:
        turn = _rotation(rng.normal(size=4))
    else:
        angles = np.deg2rad([rng.uniform(-25, 25), rng.uniform(-10, 10), rng.uniform(-10, 10)])
        turn = np.eye(3) if rng.random() < 0.25 else _axial(*angles)
    sign = np.where(rng.random(3) < np.array(MIRRORED), -1.0, 1.0)
    scale = 1 + 0.08 * rng.uniform(-1, 1) if rng.random() < 0.75 else 1.0
    return np.asarray(turn * sign[None, :] * scale)


def _rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _axial(about_z: float, about_y: float, about_x: float) -> NDArray[np.float64]:
    """Rotations about the array's axes, one after the other, in (z, y, x)."""
    (sz, cz), (sy, cy), (sx, cx) = ((np.sin(a), np.cos(a)) for a in (about_z, about_y, about_x))
    z = np.array([[1, 0, 0], [0, cz, -sz], [0, sz, cz]])
    y = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
    x = np.array([[cx, -sx, 0], [sx, cx, 0], [0, 0, 1]])
    return np.asarray(z @ y @ x)


def _vary(close: Tensor, wide: Tensor, sharp: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Other scanners: intensity shifted and scaled alike in both views, blur, noise, sharp kernels."""
    one = (len(close), 1, 1, 1, 1)
    gain = 1 + 0.06 * torch.randn(one, generator=generator)
    offset = 0.02 * torch.randn(one, generator=generator)
    level = torch.rand(one, generator=generator) * 0.04
    close = blur_some(close * gain + offset, 0.3, generator)
    noise = blur_some(torch.randn(close.shape, generator=generator), 0.5, generator)
    coarse = torch.randn(wide.shape, generator=generator) * 0.3  # means of eight voxels are less noisy
    close, wide = close + noise * level, wide * gain + offset + coarse * level
    if sharp:
        some = (torch.rand(one, generator=generator) < sharp) * torch.rand(one, generator=generator)
        close, wide = _sharpened(close, SHARPEST * some), _sharpened(wide, SHARPEST / 2 * some)
    return close.clamp(0, 1), wide.clamp(0, 1)


def _sharpened(view: Tensor, by: Tensor) -> Tensor:
    """What stands out from the means of 3 voxels along each axis stands out the more."""
    return view + by * (view - functional.avg_pool3d(view, 3, 1, padding=1, count_include_pad=False))

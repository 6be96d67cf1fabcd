"""Nodules: where they may lie, their shape as a signed distance, their true volume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from lungscreen.phantom.anatomy import stream
from lungscreen.phantom.config import MOST_NODULES, NODULE_TYPES, NoduleShape, NoduleSpec, PhantomConfig, PhantomPlace
from lungscreen.phantom.trees import Inside
from lungscreen.records import NoduleType

__all__ = ["NODULE_HU", "Blob", "blob_distance", "draw_nodules", "make_blob", "place_nodules"]

Floats = NDArray[np.floating[Any]]

NODULE_HU: dict[NoduleType, float] = {
    NoduleType.SOLID: 35.0,
    NoduleType.PART_SOLID: -620.0,
    NoduleType.GROUND_GLASS: -640.0,
    NoduleType.CALCIFIED: 420.0,
}
"""Mean HU of a nodule, of the ground-glass part where it is part-solid."""
CORE_HU = 25.0
"""HU of a part-solid nodule's core."""
HILA_MM = ((-46, 12, -30), (47, 14, -26))
"""Where the great vessels enter the lungs: random nodules keep away."""
TYPE_SHARES = (0.60, 0.15, 0.17, 0.08)
SHAPE_SHARES = (0.25, 0.35, 0.25, 0.15)
DIRECTIONS = 20000
"""Directions in which a shape's radius is taken when its volume is worked out: better than 0.1 %."""


@dataclass(frozen=True, eq=False)
class Blob:
    """A nodule's shape about its centre: semi-axes, their directions, lobes and spikes."""

    spec: NoduleSpec
    radii: Floats
    axes: Floats
    lobes: Floats
    """Unit directions (n, 3) of bulges."""
    spikes: Floats
    """Unit directions (n, 3) of spicules."""
    size: float
    """Radius of the sphere of the same volume, mm, at this visit."""

    @property
    def reach_mm(self) -> float:
        """Nothing of it lies farther from its centre."""
        return float(self.radii.max()) * (1.9 if len(self.spikes) else 1.35) + 1.0


def place_nodules(config: PhantomConfig, inside: Inside, pleura: Inside) -> tuple[NoduleSpec, ...]:
    """The nodules that were asked for, each with its place; random ones do not overlap one another.

    inside, pleura: distance to the lungs' surface or a fissure, and to the surface alone; negative inside.
    """
    rng = stream(config.seed, "nodules")
    wanted = config.nodules if isinstance(config.nodules, tuple) else draw_nodules(config.seed, config.nodules)
    placed: list[NoduleSpec] = []
    for spec in wanted:
        centre = spec.centre_mm or _find_place(spec, placed, inside if spec.place == "parenchymal" else pleura, rng)
        placed.append(replace(spec, centre_mm=(float(centre[0]), float(centre[1]), float(centre[2]))))
    return tuple(placed)


def draw_nodules(seed: int, count: int) -> tuple[NoduleSpec, ...]:
    """Random nodules as a screening population has them: most solid, 4 to 24 mm, a quarter on the pleura."""
    if not 0 <= count <= MOST_NODULES:
        raise ValueError(f"expected 0 to {MOST_NODULES} nodules, got {count}")
    rng = stream(seed, "specifications")
    return tuple(_draw(rng) for _ in range(count))


def _draw(rng: np.random.Generator) -> NoduleSpec:
    kind = NODULE_TYPES[int(rng.choice(len(NODULE_TYPES), p=TYPE_SHARES))]
    shape = get_args(NoduleShape)[int(rng.choice(4, p=SHAPE_SHARES))]
    place = get_args(PhantomPlace)[int(rng.random() < 0.25)]
    diameter = float(np.clip(rng.lognormal(np.log(7.5), 0.45), 4, 24))
    return NoduleSpec(round(diameter, 1), kind, shape, place, solid_fraction=round(float(rng.uniform(0.3, 0.7)), 2))


def _find_place(spec: NoduleSpec, placed: list[NoduleSpec], distance: Inside, rng: np.random.Generator) -> Floats:
    """A place that fits: clear of the pleura and fissures or on the chest wall, clear of the hila and other nodules."""
    radius = spec.diameter_mm / 2
    taken = [*((np.array(p.centre_mm), p.diameter_mm / 2) for p in placed), *((np.array(h), 16.0) for h in HILA_MM)]
    for _ in range(200):
        draw = rng.uniform([-138, -95, -185], [138, 100, 118], (400, 3))
        depth = -distance(draw)
        if spec.place == "parenchymal":
            good = draw[depth > 1.3 * radius + 2]
        else:
            good = draw[(depth > 0.25 * radius) & (depth < 0.7 * radius + 0.5) & (np.abs(draw[:, 0]) > 40)]
        for centre in good:
            if all(np.linalg.norm(centre - c) > 1.6 * (radius + r) + 4 for c, r in taken):
                return np.asarray(centre)
    raise ValueError(f"no room in the lungs for a {spec.place} nodule of {spec.diameter_mm} mm")


def make_blob(spec: NoduleSpec, seed: int, number: int) -> Blob:
    """The shape that the seed gives the nodule, scaled so that its volume is the specification's times its growth."""
    rng = stream(seed, f"shape {number}")
    size = spec.diameter_mm / 2 * spec.growth ** (1 / 3)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    axes = np.array([1.25, 1.0, 0.8]) * rng.uniform(0.95, 1.05, 3)
    radii = np.ones(3) if spec.shape == "sphere" else axes / np.prod(axes) ** (1 / 3)
    none = np.zeros((0, 3))
    lobes = _directions(rng, 6) if spec.shape == "lobulated" else none
    spikes = _directions(rng, 14) if spec.shape == "spiculated" else none
    unit = Blob(spec, radii, turn, lobes, spikes, 1.0)
    if len(lobes) or len(spikes):
        radii = radii * (4 / 3 * np.pi / _unit_volume(unit)) ** (1 / 3)
    return Blob(spec, radii * size, turn, lobes, spikes, size)


def _directions(rng: np.random.Generator, count: int) -> Floats:
    draw = rng.normal(size=(count, 3))
    return np.asarray(draw / np.linalg.norm(draw, axis=1, keepdims=True))


def _unit_volume(blob: Blob) -> float:
    """The integral of radius³/3 over all directions, on a Fibonacci sphere of the scaled space."""
    n = np.arange(DIRECTIONS) + 0.5
    height, turn = 1 - 2 * n / DIRECTIONS, np.pi * (1 + 5**0.5) * n
    ring = np.sqrt(1 - height**2)
    local = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=-1) * blob.radii
    x, y, z = (sum(local[:, a] * blob.axes[a, c] for a in range(3)) for c in range(3))
    bulge = _bulge(blob, x, y, z)
    return float(4 / 3 * np.pi * np.prod(blob.radii) * (bulge**3).mean())


def _bulge(blob: Blob, x: Floats, y: Floats, z: Floats) -> Floats:
    """Factor on the ellipsoid's radius in the direction of each place."""
    safe = np.maximum(np.sqrt(x * x + y * y + z * z), 1e-9)
    bulge = np.ones_like(safe)
    for directions, height, width in ((blob.lobes, 0.28, 0.12), (blob.spikes, 0.75, 0.012)):
        for direction in directions:
            cosine = (x * direction[0] + y * direction[1] + z * direction[2]) / safe
            bulge += height * np.exp((cosine - 1) / width)
    return bulge


def blob_distance(blob: Blob, offset_mm: Floats, share: float = 1.0) -> Floats:
    """Signed distance of places (..., 3) about the centre, mm, to first order; `share` shrinks it to a core."""
    x, y, z = offset_mm[..., 0], offset_mm[..., 1], offset_mm[..., 2]
    if blob.spec.shape == "sphere":
        return np.asarray(np.sqrt(x * x + y * y + z * z) - blob.size * share)
    scaled = [(a[0] * x + a[1] * y + a[2] * z) / (r * share) for a, r in zip(blob.axes, blob.radii, strict=True)]
    k0 = np.sqrt(scaled[0] ** 2 + scaled[1] ** 2 + scaled[2] ** 2)
    slopes = [s / (r * share) for s, r in zip(scaled, blob.radii, strict=True)]
    k1 = np.sqrt(slopes[0] ** 2 + slopes[1] ** 2 + slopes[2] ** 2)
    distance = k0 * (k0 - _bulge(blob, x, y, z)) / np.maximum(k1, 1e-9)
    return np.asarray(np.where(k0 > 1e-6, distance, -blob.radii.min() * share))

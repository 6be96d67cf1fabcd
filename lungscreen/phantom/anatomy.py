"""The body as smooth fields: signed distances in mm (negative inside) of skin, rib cage, mediastinum, diaphragm, organs.

Anatomy space is LPS mm with the carina at the origin: x to the patient's left, y to the back, z up. Sizes are an
adult's at full inspiration; each seed scales and shifts them a little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

from lungscreen.phantom.config import PhantomConfig

__all__ = ["Body", "Fields", "cage_point", "draw_person", "make_body", "organ_fields", "stream", "vertebra_heights"]

F32 = NDArray[np.float32]
Floats = NDArray[np.float64]

CAGE_Z = (-230, -190, -150, -100, -50, 0, 40, 70, 95, 110, 119)
CAGE_HALF_WIDTH = (124, 130, 136, 140, 137, 128, 111, 90, 62, 40, 15)
CAGE_HALF_DEPTH = (88, 92, 95, 97, 95, 88, 76, 61, 42, 28, 11)
CAGE_CENTRE_Y = (2, 0, 0, 0, 0, 3, 10, 19, 28, 33, 36)
"""The inside of the rib cage by height: a superellipse in every slice, the apex behind."""
CAGE_POWER = 2.35

BODY_Z = (-230, -150, -50, 20, 70, 100, 125, 150)
BODY_HALF_WIDTH = (166, 172, 176, 180, 186, 186, 172, 140)
BODY_HALF_DEPTH = (116, 119, 121, 117, 106, 96, 86, 78)
BODY_CENTRE_Y = (4, 4, 4, 6, 12, 17, 20, 20)
BODY_POWER = 2.45

APEX_TOP_MM, RECESS_MM = 119.0, -182.0
"""Highest and lowest place of the lungs before the body's scale."""


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one purpose: drawing more for one does not shift another's."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *name.encode()])))


def draw_person(seed: int) -> tuple[Literal["M", "F"], int]:
    """Sex and age of a screening participant."""
    rng = stream(seed, "person")
    return ("F" if rng.random() < 0.45 else "M"), int(rng.integers(52, 78))


@dataclass(frozen=True)
class Body:
    """One person's measures: scale by axis, fat in mm, curve of the diaphragm, stages of the texture."""

    seed: int
    scale: tuple[float, float, float]
    fat_mm: float
    dome_right_mm: float
    dome_left_mm: float
    heart: float
    lattice: NDArray[np.float32]


def make_body(config: PhantomConfig) -> Body:
    """The person that the seed stands for."""
    rng = stream(config.seed, "body")
    common = rng.normal(0.97 if config.sex == "F" else 1.0, 0.02)
    scale = tuple(float(np.clip(common + rng.normal(0, 0.015), 0.9, 1.07)) for _ in range(3))
    dome = float(rng.normal(-90, 5))
    return Body(
        seed=config.seed,
        scale=(scale[0], scale[1], scale[2]),
        fat_mm=float(np.clip(rng.normal(13, 4), 6, 22)),
        dome_right_mm=dome,
        dome_left_mm=dome - float(rng.uniform(8, 18)),
        heart=float(np.clip(rng.normal(1, 0.04), 0.9, 1.1)),
        lattice=rng.standard_normal((32, 32, 32), dtype=np.float32),
    )


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields on one grid, (z, y, x) float32, mm: negative inside."""

    skin: F32
    muscle: F32
    cage: F32
    middle: F32
    """Mediastinum with the spine: what parts the right lung from the left."""
    blood: F32
    diaphragm: F32
    """Negative above it."""
    vertebra: F32
    liver: F32
    stomach: F32
    fissure: F32
    """Distance to the nearest fissure of the side."""
    x: F32
    """Anatomy's coordinates of each place."""
    y: F32
    z: F32
    texture: F32
    """Smooth random values, mean 0, standard deviation about 1."""

    @property
    def lung(self) -> F32:
        """Both lungs."""
        return np.maximum(np.maximum(self.cage + 1.5, 2.0 - self.middle), self.diaphragm + 1.0)


def _profile(z: tuple[int, ...], values: tuple[int, ...]) -> Callable[[Floats], Floats]:
    curve = PchipInterpolator(z, values)
    return lambda at: np.asarray(curve(np.clip(at, z[0], z[-1])))


_cage_width = _profile(CAGE_Z, CAGE_HALF_WIDTH)
_cage_depth = _profile(CAGE_Z, CAGE_HALF_DEPTH)
_cage_y = _profile(CAGE_Z, CAGE_CENTRE_Y)
_body_width = _profile(BODY_Z, BODY_HALF_WIDTH)
_body_depth = _profile(BODY_Z, BODY_HALF_DEPTH)
_body_y = _profile(BODY_Z, BODY_CENTRE_Y)


def cage_point(angle: Floats, z: Floats, side: float, outward_mm: float) -> Floats:
    """A place on the rib cage: angle 0 behind, pi in front; (n, 3) LPS mm."""
    width, depth = _cage_width(z) + outward_mm, _cage_depth(z) + outward_mm
    power = 2 / CAGE_POWER
    x = side * width * np.abs(np.sin(angle)) ** power
    y = _cage_y(z) + depth * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    return np.stack([x, y, z], axis=-1)


def vertebra_heights() -> Floats:
    """Middle of each vertebral body T1 … L2, mm."""
    return 100.0 - 22.5 * np.arange(16) - 0.12 * np.arange(16) ** 2


def spine_y(z: Floats) -> Floats:
    """Where the middle of a vertebral body lies."""
    return np.asarray(63.0 - 0.0013 * (z + 25.0) ** 2)


def organ_fields(body: Body, points: Floats, spacing_mm: tuple[float, float, float]) -> Fields:
    """Evaluate the body at anatomy points (nz, ny, nx, 3) that lie on a grid of that spacing in the scan."""
    sx, sy, sz = body.scale
    x = (points[..., 0] / sx).astype(np.float32)
    y = (points[..., 1] / sy).astype(np.float32)
    z = (points[..., 2] / sz).astype(np.float32)
    heights = z.astype(np.float64)

    def distance(field: NDArray[np.floating]) -> F32:
        return _to_distance(np.asarray(field, dtype=np.float32), spacing_mm)

    def profile(curve: Callable[[Floats], Floats]) -> F32:
        """The curve at every height; heights vary slowly, so a table does."""
        grid = np.arange(-260.0, 181.0)
        return np.interp(heights, grid, curve(grid)).astype(np.float32)

    cage = _superellipse(x, y - profile(_cage_y), profile(_cage_width), profile(_cage_depth), CAGE_POWER)
    cage = np.maximum(cage, (z - APEX_TOP_MM) / 60)
    fat = np.float32(body.fat_mm - 13)
    width, depth = profile(_body_width) + fat, profile(_body_depth) + fat
    skin = _superellipse(x, y - profile(_body_y), width, depth, BODY_POWER)
    cage, skin = distance(cage), distance(skin)
    blood = _blood(body, x, y, z)
    spine = _spine(x, y, z)
    middle = _middle(x, y, z, blood, spine)
    dome = _diaphragm(body, x, y)
    diaphragm = distance(dome - z)
    return Fields(
        skin=skin,
        muscle=_muscle(body, x, y, z, cage, skin),
        cage=cage,
        middle=middle,
        blood=blood,
        diaphragm=diaphragm,
        vertebra=spine,
        liver=_liver(x, y, z, diaphragm),
        stomach=_stomach(x, y, z),
        fissure=_fissure(x, y, z, distance),
        x=x,
        y=y,
        z=z,
        texture=_texture(body, x, y, z),
    )


def _superellipse(x: F32, y: F32, a: F32, b: F32, power: float) -> F32:
    return np.asarray((np.abs(x / a) ** power + np.abs(y / b) ** power) ** (1 / power) - 1, dtype=np.float32)


def _to_distance(field: F32, spacing_mm: tuple[float, float, float]) -> F32:
    """A level-set function → first-order distance, mm, bounded to ±60."""
    slopes = np.gradient(field, *spacing_mm)
    steep = np.sqrt(sum(s * s for s in slopes))
    return np.clip(field / np.maximum(steep, 1e-4), -60, 60).astype(np.float32)


def _ball(x: F32, y: F32, z: F32, centre: tuple[float, ...], radii: tuple[float, ...]) -> F32:
    """Ellipsoid along the axes, distance to first order near its surface."""
    u, v, w = ((c - o) / r for c, o, r in zip((x, y, z), centre, radii, strict=True))
    k0 = np.sqrt(u * u + v * v + w * w)
    k1 = np.sqrt((u / radii[0]) ** 2 + (v / radii[1]) ** 2 + (w / radii[2]) ** 2)
    return np.asarray(k0 * (k0 - 1) / np.maximum(k1, 1e-6), dtype=np.float32)


def _tube(x: F32, y: F32, z: F32, path: tuple[tuple[float, ...], ...]) -> F32:
    """Chain of round cones through (x, y, z, radius)."""
    best: F32 | None = None
    for (ax, ay, az, ar), (bx, by, bz, br) in zip(path[:-1], path[1:], strict=True):
        ux, uy, uz = bx - ax, by - ay, bz - az
        px, py, pz = x - ax, y - ay, z - az
        t = np.clip((px * ux + py * uy + pz * uz) / (ux * ux + uy * uy + uz * uz), 0, 1)
        d = np.sqrt((px - t * ux) ** 2 + (py - t * uy) ** 2 + (pz - t * uz) ** 2) - (ar + t * (br - ar))
        best = d if best is None else np.minimum(best, d)
    assert best is not None
    return np.asarray(best, dtype=np.float32)


def _smooth_union(parts: list[F32], blend_mm: float) -> F32:
    low = parts[0].copy()
    for part in parts[1:]:
        np.minimum(low, part, out=low)
    total = np.zeros_like(low)
    for part in parts:
        total += np.exp(np.maximum((low - part) / blend_mm, -30))
    return np.asarray(low - blend_mm * np.log(total), dtype=np.float32)


GREAT_VESSELS: dict[str, tuple[tuple[float, ...], ...]] = {
    "aorta": (
        (4, -16, -48, 14),
        (-14, -26, -15, 16),
        (-14, -26, 10, 15.5),
        (-8, -17, 30, 15),
        (8, 2, 38, 14),
        (22, 24, 33, 13),
        (28, 40, 14, 12.5),
        (28, 44, -20, 12),
        (25, 45, -70, 11.5),
        (16, 41, -130, 11),
        (8, 33, -240, 10),
    ),
    "cava superior": ((-26, -14, 62, 8), (-27, -12, 10, 9.5), (-27, -10, -40, 10)),
    "cava inferior": ((-22, 2, -85, 13), (-23, 8, -130, 12), (-18, 20, -240, 11)),
    "left brachiocephalic": ((-24, -20, 52, 7), (10, -30, 60, 7), (38, -8, 82, 6.5), (60, 2, 110, 6)),
    "right brachiocephalic": ((-26, -14, 60, 7.5), (-34, -2, 95, 6.5), (-50, 5, 115, 6)),
    "brachiocephalic artery": ((-6, -10, 44, 6.5), (-20, -4, 70, 6), (-26, 6, 100, 5), (-34, 8, 150, 4)),
    "left carotid": ((8, 4, 48, 4.5), (16, 4, 80, 4), (24, 8, 150, 3.5)),
    "left subclavian": ((18, 18, 42, 5.5), (24, 20, 75, 5), (34, 18, 98, 5), (70, 8, 112, 4.5)),
    "pulmonary trunk": ((10, -46, -42, 14), (20, -38, -18, 14), (26, -14, -6, 13), (40, 8, 2, 11), (54, 20, -6, 9)),
    "right pulmonary": ((22, -14, -10, 11), (-4, -4, -18, 11), (-34, 3, -18, 10), (-50, 8, -24, 8)),
    "right upper vein": ((-4, 14, -38, 9), (-36, -4, -32, 6.5), (-50, -8, -26, 5)),
    "right lower vein": ((0, 24, -50, 9), (-36, 22, -56, 7), (-48, 26, -62, 5.5)),
    "left upper vein": ((14, 14, -34, 9), (40, 2, -26, 6.5), (52, -6, -18, 5)),
    "left lower vein": ((14, 26, -48, 9), (38, 28, -50, 7), (50, 32, -54, 5.5)),
}
"""Centre lines, LPS mm, each point with its radius."""

OESOPHAGUS = ((4, 26, 150, 6), (5, 28, 60, 6), (5, 32, 0, 6.5), (10, 31, -70, 7), (16, 20, -112, 7), (36, 5, -135, 9))
AIRWAY_SHEATH = ((0, 10, 150, 12), (0, 14, 10, 12), (0, 16, -8, 14))
HILUM_SHEATHS = (
    ((0, 15, -8, 14), (-30, 17, -24, 15), (-44, 14, -32, 12)),
    ((0, 15, -8, 14), (34, 20, -22, 14), (46, 18, -28, 12)),
)


def _blood(body: Body, x: F32, y: F32, z: F32) -> F32:
    """Heart, great vessels and oesophagus."""
    k = body.heart
    along = np.array([0.72, -0.5, -0.48])
    along /= np.linalg.norm(along)
    side = np.cross(along, [0, 0, 1.0])
    side /= np.linalg.norm(side)
    up = np.cross(side, along)
    cx, cy, cz = x - 34, y + 22, z + 82
    turned = [np.asarray(cx * a + cy * b + cz * c, dtype=np.float32) for a, b, c in (along, side, up)]
    parts = [
        _ball(turned[0], turned[1], turned[2], (0, 0, 0), (62 * k, 42 * k, 43 * k)),
        _ball(x, y, z, (-20, -16, -72), (32 * k, 36 * k, 38 * k)),
        _ball(x, y, z, (6, 18, -48), (36, 20, 24)),
        _ball(x, y, z, (8, -44, -76), (44 * k, 28 * k, 40 * k)),
    ]
    vessels = [_tube(x, y, z, path) for path in GREAT_VESSELS.values()]
    heart = _smooth_union(parts, 5)
    return np.minimum(heart, _smooth_union([*vessels, _tube(x, y, z, OESOPHAGUS)], 1.0))


def _spine(x: F32, y: F32, z: F32) -> F32:
    """Vertebral bodies and discs as one column, waisted between the end plates."""
    heights = vertebra_heights()
    grid = np.arange(-280.0, 200.0, 0.5)
    nearest = np.abs(grid[:, None] - heights[None]).min(axis=1)
    waist = np.interp(z, grid, 1.6 * np.cos(np.pi * np.clip(nearest / 11.5, 0, 1))).astype(np.float32)
    size = np.clip((40 - z) / 140, -0.3, 1.3).astype(np.float32)
    a, b = 15.5 + 3.0 * size - waist, 12.5 + 3.5 * size - waist
    u, v = x / a, (y - spine_y(z).astype(np.float32)) / b
    radius = np.sqrt(u * u + v * v)
    return np.asarray((radius - 1) * np.minimum(a, b), dtype=np.float32)


def _middle(x: F32, y: F32, z: F32, blood: F32, spine: F32) -> F32:
    """Mediastinum: the organs in their fat, the spine with its ligaments, the thin septum in front."""
    sternum_gap = np.abs(x + 2) - np.interp(z, (-140, -60, 0, 60, 120), (14, 6, 3, 10, 22)).astype(np.float32)
    septum = np.maximum(sternum_gap, y - 30)
    behind = np.maximum(np.abs(x - 4) - 7, np.minimum(y - 70, 5 - y) * 0 + np.maximum(-y - 10, y - 70))
    neck = _ball(x, y, z, (0, 12, 128), (34, 34, 60))
    pad = _ball(x, y, z, (44, -62, -112), (26, 26, 26))
    sheaths = [_tube(x, y, z, path) for path in (AIRWAY_SHEATH, *HILUM_SHEATHS)]
    return _smooth_union([blood - 2.5, spine - 4.5, septum, behind, neck, pad, *sheaths], 4.0)


def _diaphragm(body: Body, x: F32, y: F32) -> F32:
    """Height of the diaphragm above each place of a slice, mm."""

    def dome(peak: float, cx: float, cy: float, lateral: float) -> F32:
        u = (x - cx) * np.sign(cx)
        u = np.where(u > 0, u / lateral, u / 190)
        v = np.where(y > cy, (y - cy) / 96, (y - cy) / 125)
        return np.asarray(peak - 84 * (u * u + v * v) ** 1.15, dtype=np.float32)

    right = dome(body.dome_right_mm, -66, -8, 74)
    left = dome(body.dome_left_mm, 70, -6, 70)
    blend = (1 / (1 + np.exp(-(x - 6) / 9))).astype(np.float32)
    return right * (1 - blend) + left * blend


def _muscle(body: Body, x: F32, y: F32, z: F32, cage: F32, skin: F32) -> F32:
    """Muscles of the chest wall around the cage; outside them is fat."""

    def bump(value: F32, centre: float, width: float) -> F32:
        return np.asarray(np.exp(-(((value - centre) / width) ** 2)), dtype=np.float32)

    ax = np.abs(x)
    thick = 13.0 + 15.0 * bump(ax, 34, 26) * (y > 40)
    thick += 15.0 * bump(ax, 75, 40) * bump(z, 50, 42) * (y < 0)
    thick += 12.0 * bump(ax, 120, 34) * bump(z, 10, 70) * (y > 0)
    thick += 10.0 * bump(ax, 128, 30) * bump(z, -60, 70) * (y > 20)
    thick += np.clip((z - 70) * 0.9, 0, 60)
    return np.maximum(cage - thick.astype(np.float32), skin + 3.0 + 0.45 * np.float32(body.fat_mm))


def _liver(x: F32, y: F32, z: F32, diaphragm: F32) -> F32:
    """Liver and spleen below the diaphragm (its field is positive there)."""
    edge = x - 40 + np.maximum(-130 - z, 0) * 0.9
    liver = np.maximum(np.maximum(edge, 3.5 - diaphragm), y - 78 + np.maximum(x + 40, 0) * 0.9)
    spleen = _ball(x, y, z, (92, 48, -158), (32, 40, 42))
    return np.minimum(liver, np.maximum(spleen, 3.5 - diaphragm))


def _stomach(x: F32, y: F32, z: F32) -> F32:
    return _ball(x, y, z, (66, -22, -160), (40, 46, 44))


def _fissure(x: F32, y: F32, z: F32, distance: Callable[[NDArray[np.floating]], F32]) -> F32:
    """Signed distance to the oblique fissures, and the horizontal one in front of it on the right."""
    bend = 6 * np.sin(x / 38) + 4 * np.sin(y / 30)
    oblique = distance(z - (0.92 * y + 6 + bend + np.where(x > 0, 8, 0)))
    level = distance(z + 30 + 0.12 * (y + 30) - 0.10 * (x + 80) + 0.5 * bend)
    horizontal = np.where((x < 0) & (oblique > 0), np.abs(level), 60)
    return np.asarray(np.minimum(np.abs(oblique), horizontal), dtype=np.float32)


def _texture(body: Body, x: F32, y: F32, z: F32) -> F32:
    """Random values on lattices of 24 and 9 mm that move with the anatomy."""
    from scipy.ndimage import map_coordinates

    total = np.zeros(x.shape, dtype=np.float32)
    for cell, share in ((24.0, 0.8), (9.0, 0.9)):
        at = np.stack([(c / cell).ravel() for c in (z, y, x)])
        total += share * map_coordinates(body.lattice, at, order=1, mode="grid-wrap").reshape(x.shape) * 1.4
    return total

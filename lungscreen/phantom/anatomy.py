"""The body as smooth fields: signed distances in mm (negative inside) of skin, rib cage, mediastinum, diaphragm,
organs.

Anatomy space is LPS mm with the carina at the origin: x to the patient's left, y to the back, z up. Sizes are an
adult's at full inspiration; each seed scales and shifts them a little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import map_coordinates

from lungscreen.phantom.config import Sex
from lungscreen.phantom.shapes import FAR_MM, Ball, Path, Space, blend_into, superellipse, to_distance, union

__all__ = [
    "APEX_TOP_MM",
    "MIDLINE_MM",
    "PLEURA_MM",
    "RECESS_MM",
    "Body",
    "Fields",
    "cage_point",
    "draw_person",
    "lobe_of",
    "make_body",
    "organ_fields",
    "spine_y",
    "stream",
    "vertebra_heights",
]

Floats = NDArray[np.floating[Any]]
Profile = Callable[[Floats], Floats]

CAGE_Z = (-230, -190, -150, -100, -50, 0, 40, 70, 95, 110, 119)
CAGE_HALF_WIDTH = (124, 131, 137, 141, 139, 131, 114, 92, 64, 41, 15)
CAGE_HALF_DEPTH = (86, 90, 92, 93, 91, 85, 74, 60, 42, 28, 11)
CAGE_CENTRE_Y = (2, 0, 0, 0, 0, 3, 10, 19, 28, 33, 36)
"""The inside of the rib cage by height: a superellipse in every slice, the apex behind."""
CAGE_POWER = 2.45

BODY_Z = (-230, -150, -50, 20, 70, 100, 125, 150)
BODY_HALF_WIDTH = (164, 168, 172, 176, 182, 180, 160, 130)
BODY_HALF_DEPTH = (110, 112, 114, 110, 101, 92, 84, 76)
BODY_CENTRE_Y = (6, 6, 6, 8, 13, 18, 21, 21)
BODY_POWER = 2.5

APEX_TOP_MM, RECESS_MM = 119.0, -182.0
"""Highest and lowest place of the lungs before the body's scale."""
MIDLINE_MM = -2.0
"""x of the septum between the lungs in front."""
STERNUM_DENT_MM = 9.0
"""How far the front of the cage is drawn in behind the sternum."""
PLEURA_MM = 1.5
"""From the rib cage's muscle to the lung."""
MUSCLE_LAYER_MM = 8.5
"""Ribs and the muscles between them."""


def stream(seed: int, name: str) -> np.random.Generator:
    """Random numbers of one purpose: drawing more for one does not shift another's."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *name.encode()])))


def draw_person(seed: int) -> tuple[Literal["M", "F"], int]:
    """Sex and age of a screening participant."""
    rng = stream(seed, "person")
    return ("F" if rng.random() < 0.45 else "M"), int(rng.integers(52, 78))


@dataclass(frozen=True, eq=False)
class Body:
    """One person's measures."""

    seed: int
    scale: tuple[float, float, float]
    """Factors along x, y and z."""
    fat_mm: float
    """Between skin and muscle, about."""
    breast_mm: float
    """How far the breasts stand out; 0 where there are none."""
    dome_right_mm: float
    dome_left_mm: float
    """Tops of the diaphragm."""
    heart: float
    """Factor on its size."""
    lattice: NDArray[np.float32]
    """Random values from which the lung's texture is interpolated."""


def make_body(seed: int, sex: Sex) -> Body:
    """The person that the seed stands for."""
    rng = stream(seed, "body")
    woman = sex == "F"
    common = rng.normal(0.955 if woman else 1.0, 0.02)
    scale = tuple(float(np.clip(common + rng.normal(0, 0.015), 0.88, 1.07)) for _ in range(3))
    dome = float(rng.normal(-90, 5))
    breast = float(np.clip(rng.normal(24, 7), 8, 40))
    return Body(
        seed=seed,
        scale=(scale[0], scale[1], scale[2]),
        fat_mm=float(np.clip(rng.normal(13, 4), 6, 22)),
        breast_mm=breast if woman else 0.0,
        dome_right_mm=dome,
        dome_left_mm=dome - float(rng.uniform(8, 18)),
        heart=float(np.clip(rng.normal(1, 0.04), 0.9, 1.1)),
        lattice=rng.standard_normal((32, 32, 32), dtype=np.float32),
    )


@dataclass(frozen=True, eq=False)
class Fields:
    """Fields on one grid, (z, y, x) float32, mm: negative inside."""

    skin: Floats
    muscle: Floats
    cage: Floats
    middle: Floats
    """Mediastinum with the spine: what parts the right lung from the left."""
    blood: Floats
    """Heart, vessels, oesophagus."""
    diaphragm: Floats
    """Negative above it."""
    vertebra: Floats
    disc: Floats
    """Negative between the vertebral bodies."""
    liver: Floats
    stomach: Floats
    fissure: Floats
    """Distance to the nearest fissure of the side, never negative."""
    lung: Floats
    """Both lungs."""
    x: Floats
    """Anatomy's coordinates, body scale taken out."""
    y: Floats
    texture: Floats
    """Smooth random values in the lung, mean 0, standard deviation about 1."""


def _profile(z: tuple[int, ...], values: tuple[int, ...]) -> Profile:
    curve = PchipInterpolator(z, values)
    return lambda at: np.asarray(curve(np.clip(at, z[0], z[-1])))


_cage_width = _profile(CAGE_Z, CAGE_HALF_WIDTH)
_cage_depth = _profile(CAGE_Z, CAGE_HALF_DEPTH)
_cage_y = _profile(CAGE_Z, CAGE_CENTRE_Y)
_body_width = _profile(BODY_Z, BODY_HALF_WIDTH)
_body_depth = _profile(BODY_Z, BODY_HALF_DEPTH)
_body_y = _profile(BODY_Z, BODY_CENTRE_Y)


def cage_point(angle: Floats, z: Floats, side: float, outward_mm: float) -> Floats:
    """A place on the rib cage: angle 0 behind, pi in front; (n, 3) mm."""
    width, depth = _cage_width(z) + outward_mm, _cage_depth(z) + outward_mm
    power = 2 / CAGE_POWER
    x = side * width * np.abs(np.sin(angle)) ** power
    y = _cage_y(z) + depth * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    return np.stack([x, y + _dent(x, y), z], axis=-1)


def _dent(x: Floats, y: Floats) -> Floats:
    """How far the cage's front is shifted back behind the sternum."""
    return np.asarray(STERNUM_DENT_MM * np.exp(-((x / 42) ** 2)) * np.clip((10 - y) / 60, 0, 1))


def vertebra_heights() -> Floats:
    """Middle of each vertebral body T1 … L4, mm."""
    return np.asarray(100.0 - 22.5 * np.arange(16) - 0.12 * np.arange(16) ** 2)


def spine_y(z: Floats) -> Floats:
    """Where the middle of a vertebral body lies."""
    return np.asarray(61.0 - 0.0012 * (z + 25.0) ** 2)


def organ_fields(
    body: Body, points: Floats, spacing_mm: tuple[float, float, float], *, arms_down: bool = False, plan: bool = False
) -> Fields:
    """Evaluate the body at anatomy points (nz, ny, nx, 3) that lie on a grid of that spacing in the scan.

    `plan`: only what says where the lungs and fissures are; the other fields are empty.
    """
    x, y, z = ((points[..., n] / body.scale[n]).astype(np.float32) for n in range(3))
    space = Space(x, y, z)
    grid = np.arange(-260.0, 181.0)

    def profile(curve: Profile) -> Floats:
        """The curve at every height, by a table."""
        return np.interp(z, grid, curve(grid)).astype(np.float32)

    width = profile(_cage_width)
    cage = superellipse(x, y - _dent(x, y) - profile(_cage_y), width, profile(_cage_depth), CAGE_POWER)
    flat = _in_plane(cage, x, y - profile(_cage_y))
    arch = _arch(x, y, z)
    cage = np.maximum(to_distance(np.maximum(cage, (z - np.float32(APEX_TOP_MM)) / 60), spacing_mm), -arch)
    blood = union(space, _blood_shapes(body), 3.0)
    spine, disc = _spine(x, y, z)
    middle = _middle(space, blood, spine)
    diaphragm = to_distance(_diaphragm(body, x, y) - z, spacing_mm)
    lung = np.maximum(np.maximum(cage + PLEURA_MM, -middle), diaphragm + 1.0)
    empty = np.zeros((0, 0, 0), dtype=np.float32)
    fissure = _fissure(x, y, z, lung, spacing_mm)
    if plan:
        return Fields(
            empty, empty, cage, middle, empty, diaphragm, empty, empty, empty, empty, fissure, lung, x, y, empty
        )
    skin = superellipse(
        x,
        y - profile(_body_y),
        profile(_body_width) + np.float32(body.fat_mm - 13),
        profile(_body_depth) + np.float32(body.fat_mm - 13),
        BODY_POWER,
    )
    skin = to_distance(skin, spacing_mm)
    blend_into(skin, union(space, _limbs(arms_down, grow_mm=8.0 + body.fat_mm * 0.5)), 18.0)
    if body.breast_mm:
        radii = (56.0, 14.0 + body.breast_mm, 58.0)
        blend_into(skin, union(space, [Ball((s * 78.0, -96.0, -42.0), radii) for s in (-1, 1)]), 25.0)
    return Fields(
        skin=skin,
        muscle=_muscle(body, space, np.maximum(flat, -arch), skin, arms_down),
        cage=cage,
        middle=middle,
        blood=blood,
        diaphragm=diaphragm,
        vertebra=spine,
        disc=disc,
        liver=_liver(space, diaphragm),
        stomach=union(space, [Ball((66, -22, -160), (40, 44, 44))]),
        fissure=fissure,
        lung=lung,
        x=x,
        y=y,
        texture=_texture(body, x, y, z, lung),
    )


# -- mediastinum -----------------------------------------------------------------------------------------------------
GREAT_VESSELS = {
    "aorta": (
        (4, -20, -48, 14),
        (-14, -30, -15, 16),
        (-14, -28, 10, 15.5),
        (-8, -18, 30, 15),
        (8, 2, 38, 14),
        (22, 24, 33, 13),
        (28, 40, 14, 12.5),
        (28, 44, -20, 12),
        (25, 44, -70, 11.5),
        (16, 40, -130, 11),
        (8, 32, -240, 10),
    ),
    "cava superior": ((-26, -14, 62, 8), (-27, -12, 10, 9.5), (-27, -12, -40, 10)),
    "cava inferior": ((-22, 2, -85, 13), (-23, 8, -130, 12), (-18, 20, -240, 11)),
    "left brachiocephalic": ((-24, -20, 52, 7), (10, -28, 60, 7), (36, -8, 82, 6.5), (52, 2, 112, 6)),
    "right brachiocephalic": ((-26, -14, 60, 7.5), (-33, -2, 95, 6.5), (-44, 5, 118, 6)),
    "brachiocephalic artery": ((-6, -10, 44, 6.5), (-20, -4, 70, 6), (-26, 6, 100, 5), (-34, 8, 150, 4)),
    "left carotid": ((8, 4, 48, 4.5), (16, 4, 80, 4), (24, 8, 150, 3.5)),
    "left subclavian": ((18, 18, 42, 5.5), (24, 20, 75, 5), (34, 18, 104, 5), (70, 8, 122, 4.5)),
    "pulmonary trunk": (
        (10, -50, -42, 14),
        (20, -40, -18, 14),
        (26, -16, -10, 13),
        (38, 6, -6, 11),
        (48, 20, -14, 8.5),
        (52, 29, -34, 5.4),
    ),
    "right pulmonary": (
        (22, -14, -10, 11),
        (-4, -4, -18, 11),
        (-34, 3, -18, 9.5),
        (-48, 6, -24, 7.5),
        (-52, 22, -44, 5.4),
    ),
    "right upper vein": ((-4, 14, -38, 9), (-32, -2, -33, 6.5), (-44, -8, -28, 4.4)),
    "right lower vein": ((0, 24, -50, 9), (-28, 22, -56, 6.5), (-40, 24, -62, 4.8)),
    "left upper vein": ((14, 14, -34, 9), (36, 2, -27, 6.5), (47, -8, -20, 4.4)),
    "left lower vein": ((14, 26, -48, 9), (33, 27, -52, 6.5), (43, 31, -58, 4.8)),
    "oesophagus": (
        (4, 26, 150, 6),
        (5, 28, 60, 6),
        (5, 31, 0, 6.5),
        (10, 30, -70, 7),
        (16, 20, -112, 7),
        (36, 5, -135, 9),
    ),
}
"""Centre lines, mm, each point with its radius."""

SHEATHS = (
    ((0, 10, 150, 12), (0, 14, 10, 12), (0, 16, -8, 14)),
    ((0, 15, -8, 14), (-30, 17, -24, 15), (-44, 14, -32, 12)),
    ((0, 15, -8, 14), (34, 20, -22, 14), (46, 18, -28, 12)),
)
"""Tissue around the trachea and the main bronchi."""

HULL_MM = 34.0
"""Fat fills the hollows between the great vessels as far as a blend of this width does."""


def _blood_shapes(body: Body) -> list[Ball | Path]:
    k = body.heart
    along = np.array([0.74, -0.5, -0.45])
    along /= np.linalg.norm(along)
    side = np.cross(along, [0, 0, 1.0])
    side /= np.linalg.norm(side)
    axes = np.stack([along, side, np.cross(side, along)])
    return [
        Ball((36, -32, -80), (64 * k, 42 * k, 43 * k), axes),
        Ball((-20, -24, -72), (32 * k, 36 * k, 38 * k)),
        Ball((6, 15, -48), (36, 20, 24)),
        Ball((10, -54, -76), (44 * k, 26 * k, 40 * k)),
        *(Path(path) for path in GREAT_VESSELS.values()),
    ]


def _spine(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Vertebral bodies and discs as one column, waisted between the end plates; and where the discs are."""
    grid = np.arange(-280.0, 200.0, 0.5)
    nearest = np.abs(grid[:, None] - vertebra_heights()[None]).min(axis=1)
    waist = np.interp(z, grid, 1.8 * np.cos(np.pi * np.clip(nearest / 11.5, 0, 1))).astype(np.float32)
    size = np.clip((40 - z) / 140, -0.3, 1.3).astype(np.float32)
    a, b = 15.0 + 3.0 * size - waist, 12.5 + 3.5 * size - waist
    u, v = x / a, (y - spine_y(z)) / b
    column = np.minimum((np.sqrt(u * u + v * v) - 1) * np.minimum(a, b), FAR_MM).astype(np.float32)
    return column, np.interp(z, grid, 9.0 - nearest).astype(np.float32)


def _hull(space: Space) -> Floats:
    """The great vessels with the fat between them."""
    hull = np.full(space.x.shape, FAR_MM, dtype=np.float32)
    for path in GREAT_VESSELS.values():
        blend_into(hull, union(space, [Path(path)], margin_mm=HULL_MM + 10), HULL_MM)
    return hull


def _arch(x: Floats, y: Floats, z: Floats) -> Floats:
    """The wedge behind the vertebral bodies: arches, rib heads and muscle, no part of the cage's inside."""
    behind = y - spine_y(z).astype(np.float32)
    return np.maximum(np.abs(x) - 15.0 - 0.42 * np.maximum(behind, 0), -behind).astype(np.float32)


def _in_plane(level: Floats, x: Floats, y: Floats) -> Floats:
    """Distance to a superellipse about the origin within the slice, along the radius."""
    return np.asarray(np.hypot(x, y) * level / np.maximum(level + 1, 1e-3), dtype=np.float32)


def _middle(space: Space, blood: Floats, spine: Floats) -> Floats:
    """Mediastinum: the organs in their fat, the spine with what lies behind it, the thin septum in front."""
    x, y, z = space.x, space.y, space.z
    gap = np.interp(z, (-140, -60, 0, 60, 120), (16, 8, 3, 12, 24)).astype(np.float32)
    septum = np.maximum(np.abs(x - np.float32(MIDLINE_MM)) - gap, y - 30)
    # in front of the spine: oesophagus, azygos, thoracic duct in their fat
    core = np.maximum(np.abs(x - 4) - 7, np.maximum(-y - 10, y - 70))
    middle = spine - 4.0
    for part, blend in (
        (septum, 8.0),
        (core, 8.0),
        (_arch(x, y, z), 8.0),
        (blood - 2.0, 10.0),
        (_hull(space) - 1.5, 6.0),
    ):
        blend_into(middle, part.astype(np.float32), blend)
    shapes: list[Ball | Path] = [
        Ball((0, 12, 128), (34, 34, 60)),
        Ball((46, -64, -112), (24, 24, 24)),
        *(Path(p) for p in SHEATHS),
    ]
    blend_into(middle, union(space, shapes, 8.0), 12.0)
    return middle


def _diaphragm(body: Body, x: Floats, y: Floats) -> Floats:
    """Height of the diaphragm above each place of a slice, mm."""

    def dome(peak: float, cx: float, cy: float, lateral: float) -> Floats:
        u = (x - cx) * np.sign(cx)
        u = np.where(u > 0, u / lateral, u / 190)
        v = np.where(y > cy, (y - cy) / 92, (y - cy) / 120)
        return np.asarray(peak - 84 * (u * u + v * v) ** 1.15)

    left_share = 1 / (1 + np.exp(-(x - 6) / 9))
    right = dome(body.dome_right_mm, -66, -8, 74)
    left = dome(body.dome_left_mm, 70, -6, 70)
    # slips of muscle make its surface a little uneven towards the ribs
    slips = 1.6 * np.sin(x / 11) * np.sin(y / 13)
    return np.asarray(right * (1 - left_share) + left * left_share + slips, dtype=np.float32)


# -- wall and abdomen ------------------------------------------------------------------------------------------------
def _limbs(arms_down: bool, grow_mm: float) -> list[Ball | Path]:
    """Muscle of shoulders and arms, so much thicker."""
    g = grow_mm
    shapes: list[Ball | Path] = []
    for s in (-1, 1):
        if arms_down:
            points = ((s * 150, 20, 100, 26 + g), (s * 186, 24, 84, 36 + g), (s * 196, 28, -60, 33 + g))
            shapes.append(Path((*points, (s * 200, 24, -240, 26 + g))))
        else:
            shapes.append(Path(((s * 120, 30, 70, 30 + g), (s * 150, 26, 112, 32 + g), (s * 168, 22, 190, 34 + g))))
    return shapes


def _bump(value: Floats, centre: float, width: float) -> Floats:
    return np.asarray(np.exp(-(((value - np.float32(centre)) / np.float32(width)) ** 2)))


def _muscle(body: Body, space: Space, cage: Floats, skin: Floats, arms_down: bool) -> Floats:
    """Muscles of the chest wall: a layer with the ribs, a second one over it, back and shoulders; the rest is fat."""
    x, y, z = space.x, space.y, space.z
    ax = np.abs(x)
    ragged = 2.0 * np.sin(x / 9 + z / 23) * np.sin(y / 11 - z / 19)
    inner = cage - (MUSCLE_LAYER_MM + ragged)
    pectoral = 13 * _bump(ax, 74, 46) * _bump(z, 46, 44) / (1 + np.exp((y + 10) / 8))
    back = 13 * _bump(ax, 122, 36) * _bump(z, -20, 80) / (1 + np.exp(-(y + 15) / 8))
    outer_mm = (pectoral + back + ragged).astype(np.float32)
    outer = np.maximum(12.0 - cage, cage - 12.0 - outer_mm)
    outer = np.where(outer_mm > 2.5, outer, FAR_MM)
    muscle = np.minimum(inner, outer).astype(np.float32)
    shapes = _limbs(arms_down, grow_mm=0.0)
    for s in (-1, 1):
        for lateral, depth, thick in ((17.0, 41.0, 10.0), (36.0, 44.0, 9.0)):
            heights = (150.0, 80.0, 0.0, -80.0, -160.0, -240.0)
            rows = [(s * lateral, float(spine_y(np.array(h))) + depth, h, thick - h / 90) for h in heights]
            shapes.append(Path(tuple(rows)))
        for t in np.linspace(0, 1, 5):
            blade = cage_point(
                np.array([0.62, 0.95, 1.2]), np.array([72, 66, 60]) - t * np.array([105, 70, 20]), s, 20.0
            )
            rows = [(float(p[0]), float(p[1]), float(p[2]), r) for p, r in zip(blade, (8.0, 12.0, 13.0), strict=True)]
            shapes.append(Path(tuple(rows)))
        shapes.append(Path(((s * 16, 6, 150, 14), (s * 20, 0, 105, 9))))
        shapes.append(
            Path(((s * 10, 78, 150, 17), (s * 40, 78, 105, 15), (s * 110, 55, 92, 14), (s * 150, 30, 105, 16)))
        )
    blend_into(muscle, union(space, shapes, 6.0), 8.0)
    return np.asarray(np.maximum(muscle, skin + (3.0 + 0.3 * body.fat_mm)), dtype=np.float32)


def _liver(space: Space, diaphragm: Floats) -> Floats:
    """Liver and spleen below the diaphragm (its field is positive there)."""
    x, y, z = space.x, space.y, space.z
    edge = x - 48 - 0.35 * (y + 40) + np.maximum(-128 - z, 0) * 0.8 + 6 * np.sin(y / 17) + 5 * np.sin(z / 15)
    liver = np.maximum(edge, y - 74 + np.maximum(x + 50, 0) * 0.8).astype(np.float32)
    blend_into(liver, union(space, [Ball((94, 44, -158), (30, 40, 42))]))
    return np.asarray(np.maximum(liver, 3.5 - diaphragm), dtype=np.float32)


# -- lungs -----------------------------------------------------------------------------------------------------------
def _planes(x: Floats, y: Floats, z: Floats) -> tuple[Floats, Floats]:
    """Height above the oblique and the horizontal fissure, mm."""
    bend = 6 * np.sin(x / 38) + 4 * np.sin(y / 30)
    oblique = z - (0.92 * y + 2 + bend + np.where(x > MIDLINE_MM, 8, 0))
    return oblique, z + 30 + 0.12 * (y + 30) - 0.10 * (x + 80) + 0.5 * bend


def lobe_of(points: Floats) -> NDArray[np.str_]:
    """Name of the lobe in whose part of the chest each place (n, 3) lies, body scale taken out."""
    oblique, level = _planes(points[:, 0], points[:, 1], points[:, 2])
    left = points[:, 0] > MIDLINE_MM
    upper = np.where(left, "left upper", np.where(level > 0, "right upper", "right middle"))
    return np.where(oblique > 0, upper, np.where(left, "left lower", "right lower"))


def _fissure(x: Floats, y: Floats, z: Floats, lung: Floats, spacing_mm: tuple[float, float, float]) -> Floats:
    """Distance to the oblique fissures, and the horizontal one in front of it on the right."""
    oblique, level = (to_distance(plane, spacing_mm) for plane in _planes(x, y, z))
    horizontal = np.where((x < MIDLINE_MM) & (oblique > 0), np.abs(level), FAR_MM)
    return np.where(lung < 10, np.minimum(np.abs(oblique), horizontal), FAR_MM).astype(np.float32)


def _texture(body: Body, x: Floats, y: Floats, z: Floats, lung: Floats) -> Floats:
    """Random values on lattices of 24 and 9 mm that move with the anatomy, in the lungs."""
    total = np.zeros(x.shape, dtype=np.float32)
    near = lung < 8
    for cell, share in ((24.0, 0.8), (9.0, 0.9)):
        at = np.stack([c[near] / cell for c in (z, y, x)])
        total[near] += share * 1.4 * map_coordinates(body.lattice, at, order=1, mode="grid-wrap")
    return total

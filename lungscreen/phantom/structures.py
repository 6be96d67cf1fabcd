"""Everything drawn as tubes in anatomy space: bones, airways, vessels of the lung, holes of emphysema."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lungscreen.geometry import Vector
from lungscreen.phantom.anatomy import Body, cage_point, lobe_of, spine_y, stream, vertebra_heights
from lungscreen.phantom.trees import Inside, Tubes, bundle, grow_tree, join

__all__ = ["Structures", "make_structures"]

Floats = NDArray[np.floating[Any]]

VESSEL_MARGIN_MM = 2.5
"""Vessels end this far from the pleura, fissures included."""
THINNEST_BRONCHUS_MM = 1.0
"""Thinner bronchi cannot be seen."""
RIB_STRANDS_MM = (-2.1, 2.1)
"""A rib is two strands, one above the other."""
COARSE_DETAIL = 500
"""With fewer vessels than this the voxels are so large that bones may be drawn from fewer pieces."""
LUNG_BOX_MM = ((-138, -95, -185), (138, 100, 118))
"""Corners of a box that holds the lungs, body scale taken out."""
LOBES: dict[str, tuple[Vector, float, Vector, Vector, float]] = {
    "right upper": ((-42, 10, -18), 4.3, (-0.5, -0.1, 0.8), (-44, -8, -28), 4.0),
    "right middle": ((-52, 8, -36), 3.2, (-0.6, -0.6, -0.4), (-42, -8, -32), 3.0),
    "right lower": ((-52, 22, -44), 5.2, (-0.4, 0.4, -0.8), (-40, 24, -62), 4.8),
    "left upper": ((46, 10, -12), 4.6, (0.5, -0.3, 0.6), (47, -8, -20), 4.4),
    "left lower": ((52, 29, -34), 5.0, (0.4, 0.4, -0.8), (43, 31, -58), 4.8),
}
"""Where the artery enters, its radius, the way it takes; where the vein leaves, its radius."""


@dataclass(frozen=True, eq=False)
class Structures:
    """Tubes in the scan's or the anatomy's mm."""

    bone: Tubes
    cartilage: Tubes
    vessels: Tubes
    airways: Tubes
    main_airways: Tubes
    """Trachea and main bronchi: not lung."""
    holes: Tubes


def make_structures(body: Body, inside: Inside, detail: int, *, emphysema: bool, arms_down: bool) -> Structures:
    """Grow everything that the seed holds.

    inside: distance to the lung's surface or fissures at anatomy points (n, 3), negative inside, +60 elsewhere.
    detail: how many ends the arteries of both lungs have.
    """
    rng = stream(body.seed, "trees")
    scale = np.array(body.scale)
    ribs, cartilage = _ribs(22 if detail > COARSE_DETAIL else 12)
    bone = join([ribs, _spine_processes(), _sternum(), _shoulders(arms_down)])
    main = _main_airways()
    vessels: list[Tubes] = []
    airways: list[Tubes] = []

    def unscaled(points: Floats) -> Floats:
        return inside(points * scale)

    for_arteries, for_veins = _places(inside, scale, detail, rng), _places(inside, scale, detail, rng)
    for name, (hilum, artery_mm, heading, vein_root, vein_mm) in LOBES.items():
        root, way = np.array(hilum, float), np.array(heading, float)
        artery = grow_tree(root, way, for_arteries[name], artery_mm, unscaled, rng)
        vessels += [artery, grow_tree(np.array(vein_root, float), way, for_veins[name], vein_mm, unscaled, rng)]
        airways.append(_bronchi(artery, root))
    holes = _holes(inside, scale, stream(body.seed, "emphysema")) if emphysema else join([])
    return Structures(
        bone=_scaled(bone, scale),
        cartilage=_scaled(cartilage, scale),
        vessels=_scaled(join(vessels), scale),
        airways=_scaled(join(airways), scale),
        main_airways=_scaled(main, scale),
        holes=holes,
    )


def _scaled(tubes: Tubes, scale: Floats) -> Tubes:
    return Tubes(tubes.start * scale, tubes.end * scale, tubes.radii, tubes.ends)


# -- lungs -----------------------------------------------------------------------------------------------------------
def _places(inside: Inside, scale: Floats, count: int, rng: np.random.Generator) -> dict[str, Floats]:
    """About `count` places in the lungs by lobe, spread more evenly than by chance, body scale taken out."""
    found = np.zeros((0, 3))
    while len(found) < 3 * count:
        draw = rng.uniform(*LUNG_BOX_MM, (4 * count, 3))
        found = np.concatenate([found, draw[inside(draw * scale) < -VESSEL_MARGIN_MM]])
    found = found[: 3 * count]
    # of three times too many, the ones with the nearest neighbours go
    while len(found) > count:
        near = cKDTree(found).query(found, k=2)[0][:, 1]
        drop = min(max(len(found) // 6, 1), len(found) - count)
        found = found[np.sort(np.argsort(near, kind="stable")[drop:])]
    lobes = lobe_of(found)
    return {name: found[lobes == name] for name in LOBES}


def _bronchi(artery: Tubes, hilum: Floats) -> Tubes:
    """The bronchus runs beside the artery, a little smaller, until it is too thin to be seen."""
    keep = (artery.radii[:, 1] > THINNEST_BRONCHUS_MM) & (artery.ends > 2)
    outer = artery.radii * 0.92
    beside = np.array([-0.3 * np.sign(hilum[0]), 0.85, -0.4])
    beside /= np.linalg.norm(beside)
    start = artery.start + (artery.radii[:, :1] + outer[:, :1]) * beside
    end = artery.end + (artery.radii[:, 1:] + outer[:, 1:]) * beside
    return Tubes(start[keep], end[keep], outer[keep], artery.ends[keep])


def _main_airways() -> Tubes:
    def chain(*rows: tuple[float, float, float, float]) -> Tubes:
        points = np.array(rows)
        return bundle(points[:, :3], points[:, 3])

    return join(
        [
            chain((0, 8, 160, 9), (0, 9, 90, 9), (1, 11, 40, 9), (0, 15, 4, 9)),
            chain((0, 15, 4, 8.5), (-10, 16, -8, 7.5), (-26, 17, -20, 7), (-38, 16, -30, 6.2)),
            chain((0, 15, 4, 8), (12, 17, -8, 6.8), (30, 20, -22, 6.2), (44, 19, -32, 5.6)),
            chain((-24, 17, -18, 5.5), (-36, 15, -18, 4.8), (-44, 13, -18, 4.4)),
            chain((-38, 16, -30, 6), (-44, 14, -40, 5.2), (-46, 24, -46, 4.6)),
            chain((44, 19, -30, 5.2), (47, 12, -22, 4.4)),
            chain((44, 19, -32, 5.2), (48, 27, -42, 4.6)),
        ]
    )


def _holes(inside: Inside, scale: Floats, rng: np.random.Generator) -> Tubes:
    """Centrilobular emphysema: round holes of 1.5 to 6 mm radius, most in the upper lobes."""
    draw = rng.uniform(*LUNG_BOX_MM, (60000, 3)) * scale
    draw = draw[inside(draw) < -1.0]
    chance = 1 / (1 + np.exp(-(draw[:, 2] - 25) / 28))
    draw = draw[rng.random(len(draw)) < chance * 0.26 + 0.004]
    radii = np.clip(rng.lognormal(1.05, 0.4, len(draw)), 1.3, 8.0)
    stretch = rng.normal(0, 0.7, (len(draw), 3)) * radii[:, None]
    return Tubes(draw, draw + stretch, np.stack([radii, 0.75 * radii], axis=1), np.ones(len(draw), dtype=np.int64))


# -- bones -----------------------------------------------------------------------------------------------------------
def _ribs(steps: int) -> tuple[Tubes, Tubes]:
    ribs: list[Tubes] = []
    cartilage: list[Tubes] = []
    drops = (30, 48, 62, 74, 84, 92, 98, 100, 96, 84, 50, 32)
    bone_ends = (2.55, 2.5, 2.5, 2.5, 2.48, 2.45, 2.4, 2.3, 2.15, 2.0, 1.55, 1.15)
    for number, (height, drop, stop) in enumerate(zip(vertebra_heights(), drops, bone_ends, strict=False)):
        reach = (2.93, 2.93, 2.93, 2.93, 2.93, 2.9, 2.85, 2.6, 2.4)[number] if number < 9 else stop
        for side in (-1.0, 1.0):
            angle = np.linspace(0.2, stop, steps)
            ribs.append(_rib(angle, height, drop, side, 4.1))
            if reach > stop:
                front = np.linspace(stop, reach, 1 + steps // 4)
                cartilage.append(_rib(front, height, drop, side, 4.3))
    return join(ribs), join(cartilage)


def _rib(angle: Floats, height: float, drop: float, side: float, radius: float) -> Tubes:
    """Along the cage from the spine to the front, down on the way, up again in the cartilage."""
    t = angle / np.pi
    fall = np.where(t < 0.8, np.sin(np.clip(t / 0.8, 0, 1) * np.pi / 2) ** 1.6, 1 - 2.2 * (t - 0.8))
    z = height + 4 - drop * fall
    strands = [bundle(cage_point(angle, z + h, side, 5.6), np.full(len(angle), radius)) for h in RIB_STRANDS_MM]
    return join(strands)


def _spine_processes() -> Tubes:
    parts: list[Tubes] = []
    for height in vertebra_heights():
        y = float(spine_y(np.array(height)))
        for side in (-1.0, 1.0):
            pedicle = np.array(
                [[side * 12, y + 10, height + 4], [side * 14, y + 27, height + 2], [0, y + 38, height - 4]]
            )
            parts.append(bundle(pedicle, np.array([4.5, 4.5, 4.0])))
            transverse = np.array([[side * 13, y + 26, height + 2], [side * 26, y + 36, height + 3]])
            parts.append(bundle(transverse, np.array([4.5, 3.6])))
        spinous = np.array([[0, y + 38, height - 4], [0, y + 54, height - 20]])
        parts.append(bundle(spinous, np.array([3.5, 3.0])))
    return join(parts)


def _sternum() -> Tubes:
    z = np.linspace(66, -84, 12)
    parts = []
    for x in np.linspace(-12.0, 12.0, 8):
        width = np.interp(z, (-84, -70, 10, 40, 66), (0.4, 1.0, 0.9, 1.3, 1.8))
        front = cage_point(np.full(len(z), np.pi), z, 1.0, 8.0)
        parts.append(bundle(np.stack([x * width, front[:, 1], z], axis=1), np.full(len(z), 5.0)))
    return join(parts)


def _shoulders(arms_down: bool) -> Tubes:
    parts: list[Tubes] = []
    lift = 0.0 if arms_down else 16.0
    for side in (-1.0, 1.0):
        clavicle = np.array(
            [[20, -46, 70], [50, -44, 80], [85, -20, 92 + lift / 2], [120, 10, 102 + lift], [148, 22, 106 + lift]]
        )
        parts.append(bundle(clavicle * [side, 1, 1], np.array([8.0, 6, 5.5, 6, 6.5])))
        turn = 0.0 if arms_down else 0.16
        glenoid = cage_point(np.array([1.25 + turn]), np.array([62.0]), side, 48.0)[0] + [0, 0, 24 + lift]
        for t in np.linspace(0, 1, 15):
            z = np.array([74.0 - 118 * t])
            medial = cage_point(np.array([0.62 + 0.10 * t + turn]), z, side, 17.0)[0]
            middle = cage_point(np.array([0.9 + turn]), z * 0.5 + 30, side, 23.0)[0]
            path = np.stack([medial, middle * 0.75 + 0.25 * glenoid, glenoid])
            parts.append(bundle(path, np.array([1.8, 2.2, 4.5])))
        spine = np.stack(
            [cage_point(np.array([0.62]), np.array([55.0]), side, 22.0)[0], glenoid + np.array([0, 18, 10])]
        )
        parts.append(bundle(spine, np.array([3.0, 6.0])))
        if arms_down:
            arm = np.array([[186, 22, 92], [192, 26, 60], [203, 30, -60], [206, 24, -230]])
            parts.append(bundle(arm * [side, 1, 1], np.array([23.0, 13, 11, 13])))
        else:
            arm = np.array([[168, 24, 118], [172, 20, 180]])
            parts.append(bundle(arm * [side, 1, 1], np.array([22.0, 20])))
    return join(parts)

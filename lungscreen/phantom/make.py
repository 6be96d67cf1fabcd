"""PhantomConfig ─► Phantom: body, structures, nodules and scan put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from lungscreen.geometry import Geometry, Vector
from lungscreen.phantom.anatomy import APEX_TOP_MM, MIDLINE_MM, RECESS_MM, Body, make_body, organ_fields
from lungscreen.phantom.config import NoduleSpec, PhantomConfig, Pose, Sex
from lungscreen.phantom.nodules import Blob, make_blob, place_nodules
from lungscreen.phantom.pose import to_anatomy, to_scan
from lungscreen.phantom.render import Scene, render, true_volume_mm3
from lungscreen.phantom.structures import Structures, make_structures
from lungscreen.phantom.trees import Inside, Tubes
from lungscreen.records import NoduleType

__all__ = ["Phantom", "TrueNodule", "make_phantom"]

Floats = NDArray[np.floating[Any]]

PLAN_MM = 6.0
"""Step of the grid on which places for vessels and nodules are looked for."""
ABOVE_MM, BELOW_MM = 14.0, 8.0
"""How far the scan reaches beyond the lungs."""
CUT_APEX_MM, CUT_BASE_MM = 52.0, 78.0
"""How much of the lungs is missing where the scan cuts them."""
CENTRE_Y_MM = 12.0
"""Middle of the field of view, from the carina backwards."""


@dataclass(frozen=True, slots=True)
class TrueNodule:
    """A nodule as it is in the scan. `centre_mm` and `diameter_mm` are the uncut shape's; `volume_mm3` what is in the
    lung.
    """

    number: int
    centre_mm: Vector
    diameter_mm: float
    volume_mm3: float
    solid_volume_mm3: float
    side: Literal["right", "left"]
    visible: bool
    """Its centre lies inside the scan."""
    spec: NoduleSpec


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic chest CT and what is true of it.

    hu: int16 (z, y, x) in canonical orientation.
    lungs: uint8, 1 right, 2 left, trachea and main bronchi out.
    nodule_labels: uint8, the number of the nodule that fills at least half of the voxel.
    """

    config: PhantomConfig
    hu: NDArray[np.int16]
    geometry: Geometry
    lungs: NDArray[np.uint8]
    nodule_labels: NDArray[np.uint8]
    nodules: tuple[TrueNodule, ...]


def make_phantom(config: PhantomConfig, progress: Callable[[int, int], None] | None = None) -> Phantom:
    """Make a thorax and scan it. `progress(done, all)` counts slices.

    Errors: ValueError where a nodule that was asked for finds no place.
    """
    person = _grow(config.seed, config.sex, _detail(config), config.emphysema, config.arms_down)
    body = person.body
    specs = place_nodules(config, person.inside, person.pleura)
    geometry = _scan_geometry(config, body)
    axes, points = _coarse(geometry, config)
    spacing = (axes[0][1] - axes[0][0], axes[1][1] - axes[1][0], axes[2][1] - axes[2][0])
    blobs = tuple(
        (make_blob(spec, config.seed, n), to_scan(np.array(spec.centre_mm), config.pose))
        for n, spec in enumerate(specs)
    )
    scene = Scene(
        config,
        geometry,
        organ_fields(body, to_anatomy(points, config.pose), spacing, arms_down=config.arms_down),
        axes,
        _posed(person.structures, config.pose),
        blobs,
    )
    drawn = render(scene, progress)
    return Phantom(config, drawn.hu, geometry, drawn.lungs, drawn.nodules, _truth(scene))


@dataclass(frozen=True, eq=False)
class _Person:
    """What a seed holds, whatever the scan."""

    body: Body
    inside: Inside
    pleura: Inside
    structures: Structures


@lru_cache(maxsize=2)
def _grow(seed: int, sex: Sex, detail: int, emphysema: bool, arms_down: bool) -> _Person:
    """The person; kept for the next scan, because visits of one patient follow one another."""
    body = make_body(seed, sex)
    inside, pleura = _plan(body)
    structures = make_structures(body, inside, detail, emphysema=emphysema, arms_down=arms_down)
    return _Person(body, inside, pleura, structures)


def _scan_geometry(config: PhantomConfig, body: Body) -> Geometry:
    """The scan's grid: the lungs where they lie at this visit, with some margin, cut where that was asked for."""
    scale, pose = body.scale[2], config.pose
    top = APEX_TOP_MM * scale + pose.shift_mm[2] + (ABOVE_MM if not config.cut_apex else -CUT_APEX_MM)
    deeper = min(pose.breathing_mm, 0.0)
    bottom = RECESS_MM * scale + pose.shift_mm[2] + deeper + (-BELOW_MM if not config.cut_base else CUT_BASE_MM)
    count = int(np.ceil((top - bottom) / config.slice_spacing_mm))
    origin = (
        -(config.columns - 1) / 2 * config.pixel_mm,
        CENTRE_Y_MM - (config.rows - 1) / 2 * config.pixel_mm,
        round(bottom, 1),
    )
    spacing = (config.slice_spacing_mm, config.pixel_mm, config.pixel_mm)
    return Geometry.axial((count, config.rows, config.columns), spacing, origin)


def _detail(config: PhantomConfig) -> int:
    """Ends of the arterial tree: as many as the voxels can show."""
    return int(np.clip(6500 * (0.7 / config.pixel_mm) ** 1.6, 260, 8000))


def _plan(body: Body) -> tuple[Inside, Inside]:
    """Distance to the lungs' surface or a fissure, and to the surface alone, at anatomy points (n, 3)."""
    axes = [np.arange(-200, 141, PLAN_MM), np.arange(-108, 121, PLAN_MM), np.arange(-156, 157, PLAN_MM)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    fields = organ_fields(body, np.stack([x, y, z], axis=-1), (PLAN_MM, PLAN_MM, PLAN_MM), plan=True)

    def reader(field: Floats) -> Inside:
        def distance(points: Floats) -> Floats:
            index = [(points[:, 2 - n] - axes[n][0]) / PLAN_MM for n in range(3)]
            return np.asarray(map_coordinates(field, index, order=1, mode="nearest"))

        return distance

    return reader(np.maximum(fields.lung, 1.0 - fields.fissure)), reader(fields.lung)


def _coarse(geometry: Geometry, config: PhantomConfig) -> tuple[tuple[Floats, Floats, Floats], Floats]:
    """Coarse grid around the scan: its axes (z, y, x) and its points (nz, ny, nx, 3), LPS mm."""
    step = max(3.0, min(1.2 * config.pixel_mm, 4.0))
    margin = config.slice_thickness_mm + step
    axes = []
    for axis in range(3):
        start = geometry.origin_mm[2 - axis] - margin
        axes.append(start + step * np.arange(int(np.ceil((geometry.extent_mm[axis] + 2 * margin) / step)) + 1))
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return (axes[0], axes[1], axes[2]), np.stack([x, y, z], axis=-1)


def _posed(structures: Structures, pose: Pose) -> Structures:
    def move(tubes: Tubes) -> Tubes:
        return replace(tubes, start=to_scan(tubes.start, pose), end=to_scan(tubes.end, pose))

    return Structures(
        bone=move(structures.bone),
        cartilage=move(structures.cartilage),
        vessels=move(structures.vessels),
        airways=move(structures.airways),
        main_airways=move(structures.main_airways),
        holes=move(structures.holes),
    )


def _truth(scene: Scene) -> tuple[TrueNodule, ...]:
    return tuple(_true_nodule(scene, number, *pair) for number, pair in enumerate(scene.blobs, 1))


def _true_nodule(scene: Scene, number: int, blob: Blob, centre: Floats) -> TrueNodule:
    spec = blob.spec
    volume = true_volume_mm3(scene, blob, centre)
    solid = {NoduleType.SOLID: volume, NoduleType.CALCIFIED: volume, NoduleType.GROUND_GLASS: 0.0}.get(spec.type)
    return TrueNodule(
        number=number,
        centre_mm=(float(centre[0]), float(centre[1]), float(centre[2])),
        diameter_mm=2 * blob.size,
        volume_mm3=volume,
        solid_volume_mm3=true_volume_mm3(scene, blob, centre, spec.solid_fraction) if solid is None else solid,
        side="right" if spec.centre_mm is not None and spec.centre_mm[0] < MIDLINE_MM else "left",
        visible=scene.geometry.contains(centre),
        spec=spec,
    )

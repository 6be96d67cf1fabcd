"""Volume, Lungs, Candidates ─► Measured: outline, sizes and type of each candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.errors import Notice
from lungscreen.geometry import Vector
from lungscreen.measure.outline import (
    Levels,
    Region,
    box_of,
    edge_field,
    estimate_diameter,
    find_region,
    pick_part,
    region_of,
)
from lungscreen.measure.shape import rate_sphericity
from lungscreen.measure.sizes import (
    effective_diameter,
    fine_volume,
    measure_axes,
    round_axis,
    round_mean,
    without_spikes,
)
from lungscreen.measure.texture import Texture, describe_texture, total_levels, type_of
from lungscreen.morphology import closed
from lungscreen.patches import Patch, cut_patch, to_outline
from lungscreen.records import Candidate, Lungs, Measured, Measurement, NoduleType, Outline, Volume

__all__ = ["MeasureConfig", "Outliner", "measure_nodules"]


CUT_SHARE = 0.5
"""Share of an outline that borders on equally dense tissue, above which it is uncertain: so are 2 % of LIDC's
nodules."""

GRID_LEFT = 1 / 6
"""What linear interpolation leaves of a voxel's own uncertainty."""

EDGE_SHARE = 0.03
"""Uncertainty from where the edge is put, as a share of the volume: largest error on balls of known volume."""

TRIES, LARGE_TRIES = 2, 5
"""How often a nodule is outlined by intensities, each time with a diameter nearer to what was found."""

CLOSING_STEP_MM = 4.0
"""Grid on which the lungs around a large nodule are closed: the ball is far larger."""


@dataclass(frozen=True, slots=True)
class MeasureConfig:
    """How a nodule is outlined and measured. Levels are shares of the way from the lung around to the nodule's core."""

    outline_level: float = 0.3
    """The outer border: where LIDC's readers drew theirs (chosen on readers' masks)."""
    edge_level: float = 0.42
    """The border that volumes are taken at: gives blurred balls of 6 mm and more their true volume."""
    axes_level: float = 0.36
    """The border that axes are taken at: gives the mean diameters that LIDC's readers' masks have (chosen on subset
    9)."""
    neck: float = 0.55
    """What hangs on by less than this share of the nodule's thickness is cut off."""
    spike: float = 0.06
    """Axes leave out what is thinner than twice this share of the diameter: spicules and vessels are not measured
    along."""
    reach_mm: float = 4.0
    """How far the true centre may lie from the candidate's."""
    lung_margin_mm: float = 2.0
    """How far outside the lung mask nodule voxels may lie."""
    largest_mm: float = 100.0
    """No nodule is looked for beyond this diameter."""
    finest_step_mm: float = 0.75
    """Finest grid that is worked on."""
    drawn_level: float = 0.4
    """Probability at which the network's outline runs: there, outlines are as large as readers' (chosen on subset
    9)."""
    drawn_up_to_mm: float = 20.0
    """Larger nodules do not fit into what the outlining network sees; they are outlined by intensities and shape."""
    closing_mm: float = 22.0
    """Radius of the ball that closes the lungs before a larger nodule is outlined: the lungs' mask may lack it."""
    large_hint: float = 1.3
    """How much larger than its hint a larger nodule is looked for at first: what is drawn of a mass ends early."""

    def __post_init__(self) -> None:
        if not 0 < self.outline_level <= self.axes_level <= self.edge_level < 1:
            raise ValueError("expected 0 < outline_level <= axes_level <= edge_level < 1")
        if not 0 < self.drawn_level < 1:
            raise ValueError("drawn_level is a probability: expected more than 0 and less than 1")
        if not 0 <= self.spike < 0.5:
            raise ValueError("spike is a share of the diameter: expected at least 0 and less than 0.5")
        if not 0 < self.neck < 1:
            raise ValueError("neck is a share of the thickness: expected more than 0 and less than 1")
        if (
            min(self.reach_mm, self.largest_mm, self.finest_step_mm, self.drawn_up_to_mm, self.closing_mm) <= 0
            or self.large_hint <= 0
            or self.lung_margin_mm < 0
        ):
            raise ValueError("lengths in mm must be positive")


class Outliner(Protocol):
    """A network that outlines the nodule in the middle of a patch of `patch_size` voxels of 1 mm."""

    @property
    def patch_size(self) -> int:
        """Voxels of a patch's side."""
        ...

    def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) HU → probability that a voxel is the nodule's, same shape."""
        ...


@dataclass(frozen=True, eq=False)
class _Drawn:
    """A region on its patch, and the field whose edge is the outline."""

    patch: Patch
    region: Region
    border: NDArray[np.float32]


def measure_nodules(
    volume: Volume,
    lungs: Lungs | None,
    candidates: Sequence[Candidate],
    config: MeasureConfig | None = None,
    outliner: Outliner | None = None,
) -> tuple[Measured, ...]:
    """Outline, measure and type each candidate, in order.

    A candidate's diameter is a hint; 0 or NaN means not known (a radiologist's mark). The outliner draws; without one,
    or where it sees nothing, or for large masses, intensities and shape decide, and then the lungs help to tell pleura
    from nodule. Notices: `outside-volume`, `not-outlined`, `cut-by-edge`, `outline-uncertain`.
    """
    config = config or MeasureConfig()
    inside = [n for n, candidate in enumerate(candidates) if volume.geometry.contains(candidate.centre_mm)]
    drawn = dict(zip(inside, _draw(volume, [candidates[n] for n in inside], outliner, config), strict=True))
    return tuple(
        _measure_one(volume, lungs, candidate, n in drawn, drawn.get(n), config)
        for n, candidate in enumerate(candidates)
    )


def _measure_one(
    volume: Volume, lungs: Lungs | None, candidate: Candidate, inside: bool, drawn: _Drawn | None, config: MeasureConfig
) -> Measured:
    if not inside:
        notice = Notice("outside-volume", "The point lies outside the volume; nothing was measured there.")
        return Measured(notices=(notice,))
    drawn = drawn or _outline_by_intensity(volume, lungs, candidate, config)
    outline = None if drawn is None else to_outline(drawn.border, drawn.patch)
    if drawn is None or outline is None:
        notice = Notice("not-outlined", "Nothing at this place stands out from the lung; it was not measured.")
        return Measured(notices=(notice,))
    box = box_of(drawn.region.edge, 6)
    patch, region = drawn.patch.crop(box), drawn.region.crop(box)
    texture = describe_texture(patch.hu, region, patch.step_mm)
    measurement = _measurement(patch, region, texture, config)
    notices = _notices(drawn, outline, volume.geometry.shape)
    roundness = rate_sphericity(outline.mask, volume.geometry.spacing_mm)
    return Measured(outline, measurement, type_of(texture), notices, roundness)


def _notices(drawn: _Drawn, outline: Outline, shape: tuple[int, int, int]) -> tuple[Notice, ...]:
    """What keeps an outline from being the whole nodule, or from being a nodule's at all."""
    notices = []
    if (drawn.region.mask & drawn.patch.beyond()).any() or _touches_end(outline, shape):
        text = "The finding reaches the edge of the volume; it may be larger than measured."
        notices.append(Notice("cut-by-edge", text))
    ring = ndimage.binary_dilation(drawn.region.edge) & ~drawn.region.edge
    if float((ring & drawn.region.cut).sum()) > CUT_SHARE * float(ring.sum()):
        text = "More than half of the outline borders on tissue as dense as the finding; its size is uncertain."
        notices.append(Notice("outline-uncertain", text))
    return tuple(notices)


# -- outlines drawn by the network -----------------------------------------------------------------------------------
def _fitting(candidates: Sequence[Candidate], config: MeasureConfig) -> list[int]:
    """Which candidates are not too large for the network's patch."""
    return [n for n, one in enumerate(candidates) if not one.diameter_mm > config.drawn_up_to_mm]


def _network_fields(
    outliner: Outliner, cubes: Sequence[Patch], config: MeasureConfig
) -> list[NDArray[np.float32] | None]:
    """What the network draws in the middle of each cube, scaled so that 0.5 is the border; None: nothing"""
    drawn = outliner.outline(np.stack([cube.hu for cube in cubes]))
    return [pick_part(np.minimum(field * np.float32(0.5 / config.drawn_level), 1), config.reach_mm) for field in drawn]


def _draw(
    volume: Volume, candidates: Sequence[Candidate], outliner: Outliner | None, config: MeasureConfig
) -> list[_Drawn | None]:
    """Outlines by the network, drawn twice: around the candidate's centre, then around what was drawn."""
    found: list[_Drawn | None] = [None] * len(candidates)
    fits = [] if outliner is None else _fitting(candidates, config)
    if outliner is None or not fits:
        return found
    centres = [candidates[n].centre_mm for n in fits]
    for _ in range(2):
        cubes = [cut_patch(volume.hu, volume.geometry, centre, outliner.patch_size, 1.0) for centre in centres]
        fields = _network_fields(outliner, cubes, config)
        centres = [_middle(volume, cube, field) for cube, field in zip(cubes, fields, strict=True)]
    for n, cube, field in zip(fits, cubes, fields, strict=True):
        found[n] = None if field is None else _refine(volume, cube, field, config)
    return found


def _middle(volume: Volume, cube: Patch, field: NDArray[np.float32] | None) -> Vector:
    """Centre of what was drawn, LPS mm; the cube's own where nothing was."""
    at = cube.centre if field is None else np.array(ndimage.center_of_mass(field))
    x, y, z = volume.geometry.to_mm(cube.start + at * cube.step_mm / np.array(cube.volume_spacing_mm))
    return float(x), float(y), float(z)


def _refine(volume: Volume, cube: Patch, field: NDArray[np.float32], config: MeasureConfig) -> _Drawn | None:
    """The drawn region on a finer patch, where its edge is measured; None where it does not fit into the cube, or is a
    speck.
    """
    inside = np.argwhere(field >= 0.5)
    if not len(inside) or inside.min() == 0 or inside.max() == len(field) - 1:
        return None
    half = min(float(np.abs(inside - cube.centre).max()) + 7.0, (len(field) - 1) / 2)
    step = min(max(config.finest_step_mm, half / 25), 1.0)
    centre = _middle(volume, cube, None)
    patch = cut_patch(volume.hu, volume.geometry, centre, 2 * math.ceil(half / step) + 1, step)
    border = patch.from_cube(field, cube.step_mm)
    if not (border >= 0.5).any():
        return None
    return _Drawn(patch, region_of(patch.hu, border >= 0.5, step, config.outline_level), border)


# -- outlines by intensity and shape ---------------------------------------------------------------------------------
def _outline_by_intensity(
    volume: Volume, lungs: Lungs | None, candidate: Candidate, config: MeasureConfig
) -> _Drawn | None:
    """On a patch whose size and grid follow the candidate's diameter; more than once, so that a bad diameter matters
    less.
    """
    diameter = candidate.diameter_mm
    if not (math.isfinite(diameter) and diameter > 0):
        wide = cut_patch(volume.hu, volume.geometry, candidate.centre_mm, 61, 1.0)
        diameter = estimate_diameter(wide.hu, wide.centre, wide.step_mm, config.reach_mm)
    large = diameter > config.drawn_up_to_mm
    diameter *= config.large_hint if large else 1.0
    drawn = None
    for _ in range(LARGE_TRIES if large else TRIES):
        again = _try_diameter(volume, lungs, candidate, diameter, large, config)
        if again is None:
            break
        drawn = again
        found = effective_diameter(float(drawn.region.mask.sum()) * drawn.patch.step_mm**3)
        if 0.8 < found / diameter < 1.25:
            break
        diameter = math.sqrt(found * diameter)
    return drawn


def _try_diameter(
    volume: Volume, lungs: Lungs | None, candidate: Candidate, diameter: float, large: bool, config: MeasureConfig
) -> _Drawn | None:
    diameter = min(max(diameter, 3.0), config.largest_mm)
    half = 0.7 * diameter + 9.0 + config.reach_mm / 2
    step = min(max(config.finest_step_mm, half / 30), 2.0)
    patch = cut_patch(volume.hu, volume.geometry, candidate.centre_mm, 2 * math.ceil(half / step) + 1, step)
    allowed = None if lungs is None else _allowed(volume, lungs, candidate, patch, large, config)
    region = find_region(patch, diameter, config.outline_level, config.neck, allowed, config.reach_mm)
    if region is None:
        return None
    return _Drawn(patch, region, edge_field(patch.hu, region, region.levels, config.outline_level))


def _allowed(
    volume: Volume, lungs: Lungs, candidate: Candidate, patch: Patch, large: bool, config: MeasureConfig
) -> NDArray[np.bool_] | None:
    """Where nodule may be: the lungs grown a little, around a large nodule closed; None where no lung is near."""
    inside = patch.sample(lungs.mask) > 0
    if large:
        reach = (len(patch.hu) - 1) / 2 * patch.step_mm + config.closing_mm
        side = 2 * math.ceil(reach / CLOSING_STEP_MM) + 1
        wide = cut_patch(volume.hu, volume.geometry, candidate.centre_mm, side, CLOSING_STEP_MM)
        filled = closed(wide.sample(lungs.mask) > 0, config.closing_mm, (CLOSING_STEP_MM,) * 3)
        inside |= patch.from_cube(filled.astype(np.float32), CLOSING_STEP_MM) >= 0.5
    if not inside.any():
        return None
    margin = max(1, round(config.lung_margin_mm / patch.step_mm))
    return np.asarray(ndimage.binary_dilation(inside, iterations=margin))


# -- sizes -----------------------------------------------------------------------------------------------------------
def _measurement(patch: Patch, region: Region, texture: Texture, config: MeasureConfig) -> Measurement:
    levels = total_levels(region.levels, texture)
    field = edge_field(patch.hu, region, levels, config.edge_level)
    step = (patch.step_mm,) * 3
    if not (field >= 0.5).any():
        field = region.mask.astype(np.float32)
    volume_mm3 = fine_volume(field, patch.step_mm)
    wider = np.maximum(field, edge_field(patch.hu, region, levels, config.axes_level))
    body = without_spikes(wider, patch.step_mm, config.spike * effective_diameter(volume_mm3))
    longest, transverse = measure_axes(body, step)
    inside = patch.hu[field >= 0.5]
    long_mm, short_mm = round_axis(longest.long_mm), round_axis(longest.short_mm)
    solid = _solid_part(texture, step) if type_of(texture) is NoduleType.PART_SOLID else (0.0, 0.0)
    return Measurement(
        long_axis_mm=long_mm,
        short_axis_mm=short_mm,
        mean_diameter_mm=round_mean(long_mm, short_mm),
        max_transverse_mm=round_axis(transverse.long_mm),
        effective_diameter_mm=effective_diameter(volume_mm3),
        volume_mm3=volume_mm3,
        volume_sd_mm3=_volume_sd(patch, field, levels, volume_mm3),
        mean_hu=float(inside.mean()),
        min_hu=float(inside.min()),
        max_hu=float(inside.max()),
        mass_mg=volume_mm3 * (float(inside.mean()) + 1000.0) / 1000.0,
        solid_mean_diameter_mm=solid[0],
        solid_volume_mm3=solid[1],
    )


def _solid_part(texture: Texture, step: tuple[float, float, float]) -> tuple[float, float]:
    """Mean diameter and volume of the solid part; 0 where there is none."""
    if not (texture.solid_field >= 0.5).any():
        return 0.0, 0.0
    longest, _ = measure_axes(texture.solid_field, step)
    mean = round_mean(round_axis(longest.long_mm), round_axis(longest.short_mm))
    return mean, fine_volume(texture.solid_field, step[0])


def _volume_sd(patch: Patch, field: NDArray[np.float32], levels: Levels, volume_mm3: float) -> float:
    """Standard uncertainty of the volume from the grid, the noise and the choice of the edge.

    The edge is taken as pieces of 2 mm by 2 mm that err independently: by the noise over the edge's slope, and by what
    interpolation leaves of the widest voxel. Checked on balls of 5 to 13 mm at 0.7 to 2.5 mm slices and 8 to 60 HU of
    noise. Breathing, position and another scanner are not in it, and are more: 25 % between two scans of one day.
    """
    inside = field >= 0.5
    edge = inside & ~ndimage.binary_erosion(inside)
    area = float(edge.sum()) * patch.step_mm**2 * 1.5
    slopes = [np.gradient(patch.hu, patch.step_mm, axis=axis) for axis in range(3)]
    steepness = float(np.median(np.sqrt(sum(np.square(g) for g in slopes))[edge])) + 1.0
    lung = patch.hu[(patch.hu < levels.at(0.15)) & ~inside]
    noise = 1.4826 * float(np.median(np.abs(lung - np.median(lung)))) if lung.size else 0.0
    grid = max(patch.volume_spacing_mm) / math.sqrt(12.0) * GRID_LEFT
    random = area / math.sqrt(max(area / 4.0, 1.0)) * math.hypot(grid, noise / steepness)
    return math.hypot(random, EDGE_SHARE * volume_mm3)


def _touches_end(outline: Outline, shape: tuple[int, int, int]) -> bool:
    """Whether the outline has voxels in the first or last slice, row or column of the volume."""
    return any(a == 0 or a + n == size for a, n, size in zip(outline.start, outline.mask.shape, shape, strict=True))

"""Volume, Lungs ─► Candidate…

    lungs + room → box at 1 mm ─┬─► detector (heatmap, tiles) → marks in the lungs → merged ─┬─► second look → one score
                                └─► dense places in the closed lungs: masses, perhaps ───────┘

The candidates go down to a very low score on purpose: which of them become findings is the operating point's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.detect.masses import MassConfig, propose_masses
from lungscreen.detect.resampling import Spacing, resample_box
from lungscreen.errors import WeightsError
from lungscreen.geometry import Box, Geometry
from lungscreen.morphology import box_around
from lungscreen.records import Candidate, Lungs, Volume

if TYPE_CHECKING:
    from lungscreen.weights import WeightsFile

__all__ = [
    "DetectConfig",
    "Detector",
    "Marks",
    "PlaceJudge",
    "detect_nodules",
    "find_detector",
    "load_detector",
    "merge_marks",
]

Marks = NDArray[np.float32]
"""(n, 5): z, y, x in voxels of the array that was searched, diameter in mm, score 0 to 1."""

SECOND_LOOK_MM = 1.0
"""Voxel size that the second look wants."""

LIKELY_SHARE = 0.5
"""A mass at least so likely, as a share of the likeliest mark inside it, is what is reported of the place."""


@dataclass(frozen=True)
class DetectConfig:
    """Lengths in mm.

    room_mm: marks this far outside the lungs still count (nodules at the pleura).
    context_mm: tissue around that is looked at.
    tile_voxels: a tile and its halo have no more voxels than a tile of this size (z, y, x) with its halo, whatever its
        sides; more are faster and take more memory (about 45 bytes a voxel).
    halo_voxels: what tiles overlap on each side.
    score_floor: lower marks are dropped.
    merge_mm: of two marks nearer than this, or than the higher one's radius, the higher stays.
    max_candidates: kept of a volume.
    precision: `auto` is bfloat16 where the processor computes in it.
    bundle: folder of a MONAI bundle that looks instead of the shipped network; it brings a window of its own instead of
        tile_voxels and halo_voxels.
    weights: folder of a manifest and a detector's weights, with their operating points, instead of the shipped ones.
    second_look: folder of a manifest and a second look's weights, with their operating points, instead of the shipped
        ones.
    masses: where a mass may be.
    large_mm: a mass from this diameter on takes the place of the marks inside it.
    """

    room_mm: float = 4.0
    context_mm: float = 12.0
    tile_voxels: tuple[int, int, int] = (160, 256, 384)
    halo_voxels: int = 16
    score_floor: float = 0.0001
    merge_mm: float = 5.0
    max_candidates: int = 200
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    bundle: str = ""
    weights: str = ""
    second_look: str = ""
    masses: MassConfig = field(default_factory=MassConfig)
    large_mm: float = 25.0

    def __post_init__(self) -> None:
        if min(self.room_mm, self.context_mm, self.merge_mm, self.halo_voxels) < 0:
            raise ValueError("room_mm, context_mm, merge_mm, halo_voxels: expected nothing below 0")
        if min(self.tile_voxels) < 16:
            raise ValueError("tile_voxels: expected at least 16 on each axis")
        if not 0 <= self.score_floor < 1 or self.max_candidates < 1:
            raise ValueError("expected score_floor of 0 to below 1, max_candidates of at least 1")
        if self.bundle and self.weights:
            raise ValueError("bundle, weights: expected one of them, got both")


class Detector(Protocol):
    """Anything that points at nodules in an array of HU."""

    @property
    def spacing_mm(self) -> Spacing:
        """Voxel size that it wants: one for every axis, or (z, y, x)."""
        ...

    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> Marks:
        """HU (z, y, x), canonical, at `spacing_mm` → marks, in any order; not outside `where` (None: anywhere)."""
        ...


class PlaceJudge(Protocol):
    """Tells nodules and masses from what was taken for one, in HU (z, y, x) at 1 mm."""

    def rate_marks(self, hu: NDArray[np.int16], marks: Marks) -> NDArray[np.float64]:
        """Marks, the highest heat first → probability that each is a nodule, (n,)."""
        ...

    def rate_masses(self, hu: NDArray[np.int16], balls: NDArray[np.float32]) -> Marks:
        """Balls (m, 4), as `propose_masses` gives them → what lies there: its middle, diameter, probability of being
        a mass.
        """
        ...


def detect_nodules(
    volume: Volume,
    lungs: Lungs | None,
    detector: Detector,
    config: DetectConfig | None = None,
    second_look: PlaceJudge | None = None,
) -> tuple[Candidate, ...]:
    """Places that may be nodules or masses, the highest score first; `max_candidates` at most.

    lungs: None searches the whole volume, whatever its size, and for no masses.
    second_look: makes one score of what both networks say; None leaves the heatmap's. Deterministic; the grid's
        spacing, orientation and origin only enter through the volume's geometry. Errors: `weights-invalid` when a
        network's numbers are not finite.
    """
    config = config or DetectConfig()
    box = _search_box(volume, lungs, config)
    if box is None:
        return ()
    hu, geometry = resample_box(volume.hu, volume.geometry, box, detector.spacing_mm)
    where = None if lungs is None else _near_lungs(lungs, volume.geometry, box, hu.shape, detector.spacing_mm, config)
    marks = np.array(detector.find_marks(hu, where), np.float32).reshape(-1, 5)
    if not np.isfinite(marks).all():
        raise WeightsError("weights-invalid", "the detector's numbers are not finite")
    marks[:, :3] = np.clip(marks[:, :3], 0, np.array(hu.shape) - 1)
    marks = merge_marks(marks, detector.spacing_mm, config)
    if second_look is None:
        return _candidates(marks, marks[:, 4], geometry)
    if detector.spacing_mm != SECOND_LOOK_MM:
        places = geometry.to_mm(marks[:, :3]).reshape(-1, 3)
        hu, geometry = resample_box(volume.hu, volume.geometry, box, SECOND_LOOK_MM)
        marks[:, :3] = np.array([geometry.to_index(place) for place in places]).reshape(-1, 3)
    scores = second_look.rate_marks(hu, marks)
    found = _candidates(marks, scores, geometry)
    if lungs is not None:
        inside = _lungs_on_grid(lungs, volume.geometry, box, hu.shape, SECOND_LOOK_MM)
        masses = second_look.rate_masses(hu, propose_masses(hu, inside, config.masses))
        found = _join_masses(found, _candidates(masses, masses[:, 4], geometry, heat=False), config)
    return tuple(sorted(found, key=lambda one: -one.score))[: config.max_candidates]


def find_detector(config: DetectConfig) -> WeightsFile:
    """The weights to look with: those of the bundle or the folder that the configuration names, else the shipped ones.

    Errors: `weights-invalid`, `bundle-invalid`.
    """
    from lungscreen.detect.bundle import find_bundle
    from lungscreen.weights import find_weights

    if config.bundle:
        return find_bundle(Path(config.bundle))
    return find_weights("detector", Path(config.weights) if config.weights else None)


def load_detector(weights: WeightsFile | None = None, config: DetectConfig | None = None) -> Detector:
    """The network of these weights (those that `find_detector` finds if None), ready to look; imports torch.

    Errors: `weights-invalid`, `bundle-invalid`, `bundle-needs-monai`.
    """
    from lungscreen.detect.bundle import load_bundle
    from lungscreen.detect.tiles import HeatmapDetector
    from lungscreen.weights import load_tensors

    config = config or DetectConfig()
    weights = weights or find_detector(config)
    if "bundle" in weights.architecture:
        return load_bundle(weights, config)
    return HeatmapDetector.from_tensors(weights.architecture, load_tensors(weights), config)


def merge_marks(marks: Marks, spacing_mm: Spacing, config: DetectConfig) -> Marks:
    """Of marks on one spot the highest; sorted by score, then by place, so that the order never depends on the
    input's.
    """
    marks = marks[marks[:, 4] >= config.score_floor]
    marks = marks[np.lexsort((marks[:, 2], marks[:, 1], marks[:, 0], -marks[:, 4]))]
    kept = np.empty((config.max_candidates, 5), np.float32)
    count = 0
    for mark in marks:
        away = np.linalg.norm((kept[:count, :3] - mark[:3]) * np.asarray(spacing_mm, np.float32), axis=1)
        if (away < np.maximum(config.merge_mm, kept[:count, 3] / 2)).any():
            continue
        kept[count] = mark
        count += 1
        if count == config.max_candidates:
            break
    return kept[:count]


def _search_box(volume: Volume, lungs: Lungs | None, config: DetectConfig) -> Box | None:
    """The lungs and what is looked at around them; None where there is no lung."""
    if lungs is None:
        return slice(0, volume.hu.shape[0]), slice(0, volume.hu.shape[1]), slice(0, volume.hu.shape[2])
    inside = lungs.mask > 0
    if not inside.any():
        return None
    z, y, x = (int(np.ceil((config.room_mm + config.context_mm) / s)) for s in volume.geometry.spacing_mm)
    return box_around(inside, (z, y, x))


def _lungs_on_grid(
    lungs: Lungs, geometry: Geometry, box: Box, shape: tuple[int, ...], spacing_mm: Spacing
) -> NDArray[np.bool_]:
    """The lungs in a box, on a grid of this shape and spacing."""
    part = lungs.mask[box] > 0
    index = [
        np.clip(np.rint(np.arange(n) * step / s).astype(int), 0, have - 1)
        for n, step, s, have in zip(shape, np.broadcast_to(spacing_mm, 3), geometry.spacing_mm, part.shape, strict=True)
    ]
    return part[np.ix_(*index)]


def _near_lungs(
    lungs: Lungs, geometry: Geometry, box: Box, shape: tuple[int, ...], spacing_mm: Spacing, config: DetectConfig
) -> NDArray[np.bool_]:
    """Lungs grown by `room_mm` along each axis, on the detector's grid."""
    near = _lungs_on_grid(lungs, geometry, box, shape, spacing_mm).astype(np.uint8)
    for axis, step in enumerate(np.broadcast_to(spacing_mm, 3)):
        near = ndimage.maximum_filter1d(near, 2 * round(config.room_mm / float(step)) + 1, axis=axis, mode="constant")
    return near.astype(bool)


def _join_masses(
    marks: Sequence[Candidate], masses: Sequence[Candidate], config: DetectConfig
) -> tuple[Candidate, ...]:
    """Marks and masses, each place once: a large mass that is likely takes the marks inside it, else a mark the
    mass.
    """
    kept = list(marks)
    for mass in sorted(masses, key=lambda one: -one.score):
        inside = [one for one in kept if _overlap(one, mass, config)]
        if not inside:
            kept.append(mass)
        elif _takes(mass, inside, config):
            kept = [*(one for one in kept if one not in inside), _standing_for(mass, inside)]
    return tuple(kept)


def _standing_for(mass: Candidate, inside: Sequence[Candidate]) -> Candidate:
    """A mass with the highest scores of the marks inside it."""
    heat = max((one.heat for one in inside if one.heat is not None), default=None)
    return replace(mass, score=max(mass.score, *(one.score for one in inside)), heat=heat)


def _takes(mass: Candidate, inside: Sequence[Candidate], config: DetectConfig) -> bool:
    """Whether a mass stands for the marks inside it: it is large, larger than they are, and nearly as likely."""
    if mass.diameter_mm < config.large_mm or any(one.diameter_mm >= mass.diameter_mm for one in inside):
        return False
    return mass.score >= LIKELY_SHARE * max(one.score for one in inside)


def _overlap(one: Candidate, mass: Candidate, config: DetectConfig) -> bool:
    return _apart(one, mass) < max(config.merge_mm, one.diameter_mm / 2, mass.diameter_mm / 2)


def _apart(one: Candidate, other: Candidate) -> float:
    return math.dist(one.centre_mm, other.centre_mm)


def _candidates(
    marks: Marks, scores: NDArray[np.floating], geometry: Geometry, heat: bool = True
) -> tuple[Candidate, ...]:
    """heat: whether the marks' own scores are the heatmap's."""
    places = geometry.to_mm(marks[:, :3]).reshape(-1, 3)
    return tuple(
        Candidate((float(x), float(y), float(z)), float(diameter), float(score), float(own) if heat else None)
        for (x, y, z), diameter, score, own in zip(places, marks[:, 3], scores, marks[:, 4], strict=True)
    )

"""Volume, Lungs ─► Candidate…

    lungs + room → box at 1 mm → detector (heatmap, tiles) → marks in the lungs → merged, sorted → LPS mm

The candidates go down to a very low score on purpose: which of them become findings is the operating point's business.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.detect.resampling import Spacing, resample_box
from lungscreen.errors import WeightsError
from lungscreen.geometry import Box, Geometry
from lungscreen.records import Candidate, Lungs, Volume

if TYPE_CHECKING:
    from lungscreen.weights import WeightsFile

__all__ = ["DetectConfig", "Detector", "Marks", "detect_nodules", "find_detector", "load_detector", "merge_marks"]

Marks = NDArray[np.float32]
"""(n, 5): z, y, x in voxels of the array that was searched, diameter in mm, score 0 to 1."""


@dataclass(frozen=True)
class DetectConfig:
    """Lengths in mm.

    room_mm: marks this far outside the lungs still count (nodules at the pleura).  context_mm: tissue around that is
    looked at.  tile_voxels: a tile's largest size (z, y, x) without its halo; larger is faster and takes more memory
    (about 45 bytes a voxel).  halo_voxels: what tiles overlap on each side.  score_floor: lower marks are dropped.
    merge_mm: of two marks nearer than this, or than the higher one's radius, the higher stays.  max_candidates: kept of
    a volume.  precision: `auto` is bfloat16 where the processor computes in it.
    bundle: folder of a MONAI bundle that looks instead of the shipped network; it brings a window of its own instead of
    tile_voxels and halo_voxels.
    weights: folder of a manifest and a detector's weights, with their operating points, instead of the shipped ones.
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


def detect_nodules(
    volume: Volume, lungs: Lungs | None, detector: Detector, config: DetectConfig | None = None
) -> tuple[Candidate, ...]:
    """Places that look like nodules, the highest score first; `max_candidates` at most.

    lungs: None searches the whole volume, whatever its size.  Deterministic; the grid's spacing, orientation and origin
    only enter through the volume's geometry.
    Errors: `weights-invalid` when the detector's numbers are not finite.
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
    return _candidates(merge_marks(marks, detector.spacing_mm, config), geometry)


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
    found = ndimage.find_objects((lungs.mask > 0).astype(np.uint8))
    if not found:
        return None
    sides = []
    for part, size, spacing in zip(found[0], volume.hu.shape, volume.geometry.spacing_mm, strict=True):
        room = int(np.ceil((config.room_mm + config.context_mm) / spacing))
        sides.append(slice(max(0, part.start - room), min(size, part.stop + room)))
    return sides[0], sides[1], sides[2]


def _near_lungs(
    lungs: Lungs, geometry: Geometry, box: Box, shape: tuple[int, ...], spacing_mm: Spacing, config: DetectConfig
) -> NDArray[np.bool_]:
    """Lungs grown by `room_mm` along each axis, on the detector's grid."""
    part = lungs.mask[box] > 0
    steps = [float(step) for step in np.broadcast_to(spacing_mm, 3)]
    index = [
        np.clip(np.rint(np.arange(n) * step / s).astype(int), 0, have - 1)
        for n, step, s, have in zip(shape, steps, geometry.spacing_mm, part.shape, strict=True)
    ]
    near = part[np.ix_(*index)].astype(np.uint8)
    for axis, step in enumerate(steps):
        near = ndimage.maximum_filter1d(near, 2 * round(config.room_mm / step) + 1, axis=axis, mode="constant")
    return near.astype(bool)


def _candidates(marks: Marks, geometry: Geometry) -> tuple[Candidate, ...]:
    places = geometry.to_mm(marks[:, :3]).reshape(-1, 3)
    return tuple(
        Candidate((float(x), float(y), float(z)), float(diameter), float(score))
        for (x, y, z), (diameter, score) in zip(places, marks[:, 3:5], strict=True)
    )

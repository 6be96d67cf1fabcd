"""Reading, slices ─► nodules and other findings in LPS mm: what the readers agree on.

Outlines of different readers that share a voxel are one nodule. It counts where at least `agreement` readers outlined
it; its consensus is every voxel that at least half of *those* readers hold for nodule. Everything else that anybody
marked (fewer readers, under 3 mm, called no nodule) is "excluded": neither a sure nodule nor surely none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.datasets.outlines import DrawnNodule, PointMark, SeriesMarks
from lungscreen.errors import InputError, Notice
from lungscreen.geometry import Geometry, Vector

__all__ = ["Agreed", "ConsensusConfig", "SlicePlaces", "agree_on_nodules"]

Z_TOLERANCE_SHARE = 0.25
"""A slice is an outline's by position where it lies within this share of the slice spacing."""
POINT_DIAMETER_MM = -1.0
"""A point mark has no diameter: LUNA16's -1."""


@dataclass(frozen=True)
class ConsensusConfig:
    """What counts as a nodule."""

    agreement: int = 3
    """Readers who must have outlined it (LUNA16: 3 of 4)."""
    share: float = 0.5
    """Share of the nodule's readers who must hold a voxel for nodule."""
    least_mm: float = 3.0
    """Smallest mean diameter (LUNA16)."""

    def __post_init__(self) -> None:
        if self.agreement < 1:
            raise ValueError(f"agreement: expected at least 1 reader, got {self.agreement}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share: expected above 0, at most 1, got {self.share}")
        if self.least_mm < 0:
            raise ValueError(f"least_mm: expected at least 0, got {self.least_mm}")


@dataclass(frozen=True, eq=False)
class SlicePlaces:
    """Where the slices that the readers looked at are: the grid of the images as they were stored.

    geometry: (slices, rows, columns) of the series, slices by rising z.
    sop_uids: one each, from the bottom up.
    crop: first column and row of these images in those that were read.
    """

    geometry: Geometry
    sop_uids: tuple[str, ...]
    crop: tuple[int, int] = (0, 0)


@dataclass(frozen=True, eq=False)
class Agreed:
    """One nodule or excluded finding.

    centre_mm: centre of gravity of the consensus (LPS).
    diameter_mm: of the sphere of its volume, -1 for a point.
    mean_centre_mm, mean_diameter_mm: the same of each reader's outline, averaged, as LUNA16 does.
    """

    centre_mm: Vector
    diameter_mm: float
    readers: int
    mean_centre_mm: Vector
    mean_diameter_mm: float
    ratings: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def agree_on_nodules(
    reading: SeriesMarks, places: SlicePlaces, config: ConsensusConfig | None = None
) -> tuple[tuple[Agreed, ...], tuple[Agreed, ...], tuple[Notice, ...]]:
    """Nodules, excluded findings, and what had to be said, of one series.

    Slices are found by SOP Instance UID; where none is known, by `imageZposition`, with the notice
    `outlines-by-position`.

    Errors: `outlines-elsewhere` where a mark lies on no slice or beyond the image.
    """
    config = config or ConsensusConfig()
    finder = _SliceFinder.of(reading, places)
    masks = [_mask(drawn, places, finder) for drawn in reading.drawn]
    nodules: list[Agreed] = []
    excluded: list[Agreed] = []
    notices = list(finder.notices)
    for members in _groups(masks):
        found = _agreed([reading.drawn[n] for n in members], [masks[n] for n in members], places.geometry, config)
        wanted = found.readers >= config.agreement and found.mean_diameter_mm >= config.least_mm
        (nodules if wanted else excluded).append(found)
        if found.readers < len(members):
            text = f"one reader drew {len(members) - found.readers + 1} outlines of what others drew as one nodule"
            notices.append(Notice("outlines-merged", text))
    excluded += [_point(mark, places, finder) for mark in reading.points]
    return tuple(nodules), tuple(excluded), tuple(notices)


# -- slices ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _SliceFinder:
    """Slice number of a mark."""

    by_uid: Mapping[str, int]
    z_mm: NDArray[np.float64]
    reach_mm: float
    notices: tuple[Notice, ...]

    @classmethod
    def of(cls, reading: SeriesMarks, places: SlicePlaces) -> _SliceFinder:
        named = {o.sop_uid for d in reading.drawn for o in d.outlines} | {p.sop_uid for p in reading.points}
        by_uid = {uid: n for n, uid in enumerate(places.sop_uids) if uid}
        z_mm = places.geometry.to_mm([(n, 0, 0) for n in range(places.geometry.shape[0])])[:, 2]
        reach = Z_TOLERANCE_SHARE * places.geometry.spacing_mm[0]
        if not named or named <= by_uid.keys():
            return cls(by_uid, z_mm, reach, ())
        known = len(named & by_uid.keys())
        text = (
            f"{len(named) - known} of {len(named)} slices of the readers' XML were matched by position, not by SOP UID"
        )
        return cls(by_uid, z_mm, reach, (Notice("outlines-by-position", text),))

    def find(self, sop_uid: str, z_mm: float) -> int:
        if sop_uid in self.by_uid:
            return self.by_uid[sop_uid]
        nearest = int(np.abs(self.z_mm - z_mm).argmin())
        if abs(self.z_mm[nearest] - z_mm) > self.reach_mm:
            raise InputError("outlines-elsewhere", f"no slice lies at z = {z_mm:g} mm, where a reader drew an outline")
        return nearest


@dataclass(frozen=True, eq=False)
class _Mask:
    """A reader's nodule as voxels: `voxels` lies at `start` of the series' grid."""

    start: tuple[int, int, int]
    voxels: NDArray[np.bool_]

    def part(self, start: NDArray[np.integer]) -> tuple[slice, ...]:
        """Where it lies in an array that begins at `start`."""
        first = np.subtract(self.start, start)
        return tuple(slice(a, a + n) for a, n in zip(first, self.voxels.shape, strict=True))


def _mask(drawn: DrawnNodule, places: SlicePlaces, finder: _SliceFinder) -> _Mask:
    slices = [finder.find(outline.sop_uid, outline.z_mm) for outline in drawn.outlines]
    points = np.concatenate([outline.points for outline in drawn.outlines]) - places.crop
    rows, columns = places.geometry.shape[1:]
    if points.min() < 0 or points[:, 0].max() >= columns or points[:, 1].max() >= rows:
        raise InputError("outlines-elsewhere", "a reader's outline lies beyond the image: is it cropped?")
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    voxels = np.zeros((max(slices) - min(slices) + 1, bottom - top + 1, right - left + 1), dtype=bool)
    # holes come last: a reader may list them before the outline that they lie in
    for outline, number in sorted(zip(drawn.outlines, slices, strict=True), key=lambda pair: not pair[0].inclusion):
        inside = _inside(outline.points - places.crop - (left, top), voxels.shape[1:])
        layer = voxels[number - min(slices)]
        layer[inside] = outline.inclusion
    return _Mask((min(slices), int(top), int(left)), voxels)


def _inside(points: NDArray[np.int64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Pixels strictly within a closed outline; those on it where nothing is within (a nodule of a pixel or two)."""
    edge = np.zeros(shape, dtype=bool)
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        steps = int(np.abs(b - a).max()) + 1
        line = np.rint(np.linspace(a, b, steps)).astype(int)
        edge[line[:, 1], line[:, 0]] = True
    within = ndimage.binary_fill_holes(edge) & ~edge
    return within if within.any() else edge


def _groups(masks: Sequence[_Mask]) -> list[list[int]]:
    """Masks that share a voxel, directly or through others."""
    group = list(range(len(masks)))
    for a in range(len(masks)):
        for b in range(a):
            if group[a] != group[b] and _overlap(masks[a], masks[b]):
                old, new = group[a], group[b]
                group = [new if g == old else g for g in group]
    return [[n for n in range(len(masks)) if group[n] == g] for g in dict.fromkeys(group)]


def _overlap(a: _Mask, b: _Mask) -> bool:
    low = np.maximum(a.start, b.start)
    high = np.minimum(np.add(a.start, a.voxels.shape), np.add(b.start, b.voxels.shape))
    if (high <= low).any():
        return False
    shared = [m.voxels[tuple(slice(*p) for p in zip(low - m.start, high - m.start, strict=True))] for m in (a, b)]
    return bool((shared[0] & shared[1]).any())


# -- agreement -------------------------------------------------------------------------------------------------------
def _all_ratings(drawn: Sequence[DrawnNodule]) -> dict[str, tuple[int, ...]]:
    """Every reader's, by name."""
    found: dict[str, tuple[int, ...]] = {}
    for one in drawn:
        for name, rating in one.ratings.items():
            found[name] = (*found.get(name, ()), rating)
    return found


def _agreed(
    drawn: Sequence[DrawnNodule], masks: Sequence[_Mask], geometry: Geometry, config: ConsensusConfig
) -> Agreed:
    start = np.min([m.start for m in masks], axis=0)
    stop = np.max([np.add(m.start, m.voxels.shape) for m in masks], axis=0)
    readers = sorted({d.reader for d in drawn})
    each = np.zeros((len(readers), *(stop - start)), dtype=bool)
    for one, mask in zip(drawn, masks, strict=True):
        each[readers.index(one.reader)][mask.part(start)] |= mask.voxels
    votes = each.sum(axis=0)
    needed = math.ceil(config.share * len(readers) - 1e-9)
    # readers may overlap so little that no voxel has the share: the best that there is, then
    consensus = votes >= min(needed, int(votes.max()))
    singles = [_sphere(mask, start, geometry) for mask in each]
    centre, diameter = _sphere(consensus, start, geometry)
    return Agreed(
        centre_mm=centre,
        diameter_mm=diameter,
        readers=len(readers),
        mean_centre_mm=_vector(np.mean([place for place, _ in singles], axis=0)),
        mean_diameter_mm=float(np.mean([size for _, size in singles])),
        ratings=_all_ratings(drawn),
    )


def _sphere(mask: NDArray[np.bool_], start: NDArray[np.int64], geometry: Geometry) -> tuple[Vector, float]:
    """Centre of gravity (LPS mm) and diameter of the sphere of the same volume."""
    places = np.argwhere(mask)
    centre = geometry.to_mm(places.mean(axis=0) + start)
    return _vector(centre), float((6 * len(places) * geometry.voxel_mm3 / math.pi) ** (1 / 3))


def _point(mark: PointMark, places: SlicePlaces, finder: _SliceFinder) -> Agreed:
    number = finder.find(mark.sop_uid, mark.z_mm)
    index = (number, mark.row - places.crop[1], mark.column - places.crop[0])
    centre = _vector(places.geometry.to_mm(index))
    if not places.geometry.contains(centre):
        raise InputError("outlines-elsewhere", "a reader's mark lies beyond the image: is it cropped?")
    return Agreed(centre, POINT_DIAMETER_MM, 1, centre, POINT_DIAMETER_MM)


def _vector(point: NDArray[np.float64]) -> Vector:
    x, y, z = point
    return float(x), float(y), float(z)

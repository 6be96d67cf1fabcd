"""Volume, Outline ─► Fissure: whether a thin bright sheet in the lung touches a nodule; an estimate, and said to be
one.

Nothing here knows what a fissure is: it looks for sheets. A voxel is on one where the image falls off steeply on both
sides of a plane and hardly within it; such voxels are joined where their planes agree, and a smooth surface is laid
through them. Vessels fall out (they are lines), so does what is small. A scar, a septum or the wall of a bulla that is
as wide as a fissure does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from lungscreen.geometry import Vector
from lungscreen.patches import Patch, cut_patch
from lungscreen.records import Outline, Volume

__all__ = ["Fissure", "find_fissure"]

THICKEST_SLICE_MM = 2.5
"""With thicker slices a fissure is a haze."""

PATCH_VOXELS = 49
"""Side of the cube of 1 mm voxels that is looked at."""

LARGEST_MM = 29.0
"""Around a wider outline too little of the cube is left to see a sheet in."""

LEAST_AIR_MM3 = 2000
"""Less aerated lung than this around a nodule shows no fissure."""

AERATED_HU = (-1000.0, -700.0)
DENSE_HU = -500.0
VESSEL_HU = 350.0
"""So much denser than the lung around is no fissure; what lies beside it counts as little, since its flanks look like
sheets."""

WINDOW_HU = (-100.0, 300.0)
"""About the lung around: outside it intensities do not steer the filter."""

WALL_MM = 3.0
"""Depth from which dense tissue is chest wall, mediastinum or a great vessel; sheets this near to it are its own
edge."""

STEEPNESS_HU = 12.0
"""Second derivative across a sheet at the scale of 1 mm, HU/mm²; fissures of LIDC's scans have 15 to 40."""

FLATNESS = 0.45
"""The second derivatives within a sheet are smaller than across it by at least this share."""

RIDGE_MM = 0.7
"""A voxel is on the sheet where the ridge runs this near to its centre."""

AGREE = 0.85
"""Cosine between planes that belong together."""

OFF_SHEET_MM = 1.2
"""Voxels farther than this from the surface laid through them are not its own."""

SEED_VOXELS, CRUMB_VOXELS = 40, 8
"""A sheet starts from so many joined voxels; joined pieces of the second number and more are added to it."""

SEEDS = 4
"""How many pieces are tried, the largest first."""

STIFFNESS = 8.0
"""How unwillingly the surface bends; fissures are nearly flat over 5 cm."""

FULL_MM, FULL_VOXELS = 4.0, 24
"""A sheet's voxel has so many others within this distance, about half of a whole plane; a vessel's row of them has
fewer."""

LEAST_SHEET = 400
"""Such voxels (about mm²) that a sheet must have."""

NEAR_MM, LEAST_NEAR, LEAST_DIRECTIONS = 8.0, 60, 3
"""Near the outline the sheet must be seen, by so many voxels and in so many of eight directions."""

TOUCH_MM = 1.5
"""An outline this near to the sheet's surface touches it. Our choice: a voxel and a half."""

REACH_MM = 10.0
"""Sheets farther from the outline are not told."""

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]
Points = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Fissure:
    """What was seen of fissures around a nodule.

    touches: a sheet touches the outline.
    distance_mm: from the outline to the nearest sheet, 0 where it touches; None where none is seen within 10 mm.
    """

    touches: bool
    distance_mm: float | None


@dataclass(frozen=True, eq=False)
class _Ridge:
    """Voxels on sheets: their voxel, the ridge's own place near it, the sheet's normal there, all in the patch's voxels
    (1 mm).
    """

    voxels: Index
    places: Points
    normals: Points

    def only(self, keep: Mask) -> _Ridge:
        """Some of them."""
        return _Ridge(self.voxels[keep], self.places[keep], self.normals[keep])


@dataclass(frozen=True, eq=False)
class _Surface:
    """A quadric laid through a sheet: height over its middle plane, which goes through the nodule's centre."""

    centre: Points
    axes: Points
    """Two directions in the plane, and its normal."""
    terms: Points

    def heights(self, places: Points) -> tuple[Points, Points]:
        """Distance of places from the surface along its normal, mm, and the surface's normals there."""
        u, v, w = self.axes @ (places - self.centre).T
        slope_u = self.terms[1] + 2 * self.terms[3] * u + self.terms[4] * v
        slope_v = self.terms[2] + self.terms[4] * u + 2 * self.terms[5] * v
        long = np.sqrt(1 + slope_u**2 + slope_v**2)
        normals = np.stack([-slope_u, -slope_v, np.ones_like(u)], axis=1) @ self.axes / long[:, None]
        return (w - _quadric(u, v) @ self.terms) / long, normals


def find_fissure(volume: Volume, outline: Outline) -> Fissure | None:
    """Look for a sheet around an outline; None where it cannot be told.

    It cannot with slices above 2.5 mm, around an outline wider than 29 mm, or where little aerated lung is around it.
    """
    if max(volume.geometry.spacing_mm) > THICKEST_SLICE_MM + 1e-3:
        return None
    patch = cut_patch(volume.hu, volume.geometry, _middle(volume, outline), PATCH_VOXELS, 1.0)
    nodule = _on_patch(outline, patch)
    if not nodule.any() or max(np.ptp(np.nonzero(nodule), axis=1)) > LARGEST_MM:
        return None
    aerated = patch.hu[(patch.hu > AERATED_HU[0]) & (patch.hu < AERATED_HU[1])]
    if aerated.size < LEAST_AIR_MM3:
        return None
    lung_hu = float(np.median(aerated))
    ridge = _find_ridge(patch.hu, lung_hu, _no_lung(patch, nodule, lung_hu))
    return _nearest_sheet(ridge, nodule)


# -- voxels on sheets ------------------------------------------------------------------------------------------------
def _middle(volume: Volume, outline: Outline) -> Vector:
    half = (np.array(outline.mask.shape) - 1) / 2
    x, y, z = volume.geometry.to_mm(np.array(outline.start) + half)
    return float(x), float(y), float(z)


def _on_patch(outline: Outline, patch: Patch) -> Mask:
    """The outline's voxels on the patch, nearest voxel."""
    index = [np.rint(patch.positions(axis)).astype(int) - outline.start[axis] for axis in range(3)]
    inside = [(i >= 0) & (i < n) for i, n in zip(index, outline.mask.shape, strict=True)]
    taken = outline.mask[np.ix_(*[np.clip(i, 0, n - 1) for i, n in zip(index, outline.mask.shape, strict=True)])]
    return np.asarray(taken & np.logical_and.outer(np.logical_and.outer(*inside[:2]), inside[2]))


def _no_lung(patch: Patch, nodule: Mask, lung_hu: float) -> Mask:
    """Where no sheet is looked for: nodule, vessels, chest wall and mediastinum with what lies beside each, and beyond
    the volume.
    """
    dense = (patch.hu > DENSE_HU) & ~nodule
    vessels = (patch.hu > lung_hu + VESSEL_HU) & ~nodule
    return _grown(nodule, 2) | _grown(vessels, 1) | _wall(dense) | patch.beyond()


def _grown(mask: Mask, times: int) -> Mask:
    """Grown by a voxel in all directions, diagonals included."""
    for _ in range(times):
        for axis in range(3):
            ahead, behind = [slice(None)] * 3, [slice(None)] * 3
            ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
            wider = mask.copy()
            wider[tuple(ahead)] |= mask[tuple(behind)]
            wider[tuple(behind)] |= mask[tuple(ahead)]
            mask = wider
    return mask


def _wall(dense: Mask) -> Mask:
    """What is thick, and everything near it; on every other voxel, which is enough to tell."""
    half = np.pad(dense[::2, ::2, ::2], 1, constant_values=True)
    thick = ndimage.distance_transform_edt(half)[1:-1, 1:-1, 1:-1] * 2 > WALL_MM + 0.5
    if not thick.any():
        return np.zeros_like(dense)
    near = ndimage.distance_transform_edt(~thick) * 2 <= 2 * WALL_MM + 0.5
    for axis in range(3):
        near = np.repeat(near, 2, axis)
    return np.asarray(near[tuple(slice(0, n) for n in dense.shape)])


def _find_ridge(hu: Array, lung_hu: float, left_out: Mask) -> _Ridge:
    """Voxels where the image is a thin bright sheet, at the scale of 1 mm."""
    smooth = np.clip(hu, lung_hu + WINDOW_HU[0], lung_hu + WINDOW_HU[1]).astype(np.float32)
    for axis in range(3):
        smooth = ndimage.gaussian_filter1d(smooth, 1.0, axis, truncate=3.0)
    inner = (slice(1, -1),) * 3
    falls = np.zeros_like(left_out)
    falls[inner] = _curvature(smooth) < -0.5 * STEEPNESS_HU  # far more than what is kept, and quickly found
    voxels = np.argwhere(falls & ~left_out)
    slope, bends = _derivatives(smooth, voxels)
    lowest, others, normals = _eigen(bends)
    across = (slope * normals).sum(axis=1) / np.maximum(-lowest, 1e-6)
    keep = (-lowest > STEEPNESS_HU) & (others < (1 - FLATNESS) * -lowest) & (np.abs(across) <= RIDGE_MM)
    return _Ridge(voxels, voxels + across[:, None] * normals, normals).only(keep)


def _curvature(smooth: Array) -> Array:
    """Sum of the second derivatives along the axes, without the outermost voxels."""
    total = -6 * smooth[1:-1, 1:-1, 1:-1]
    for axis in range(3):
        for part in (slice(2, None), slice(None, -2)):
            total += smooth[tuple(part if a == axis else slice(1, -1) for a in range(3))]
    return total


def _derivatives(smooth: Array, voxels: Index) -> tuple[Points, Points]:
    """First derivatives (n, 3), second ones (n, 6): zz, yy, xx, zy, zx, yx; at voxels that are not outermost."""
    steps = (smooth.shape[1] * smooth.shape[2], smooth.shape[2], 1)
    flat, here = smooth.ravel(), voxels @ np.array(steps)
    centre = flat[here]
    ahead, behind = [flat[here + s] for s in steps], [flat[here - s] for s in steps]
    straight = [a + b - 2 * centre for a, b in zip(ahead, behind, strict=True)]
    pairs = ((steps[0], steps[1]), (steps[0], steps[2]), (steps[1], steps[2]))
    mixed = [(flat[here + s + t] - flat[here + s - t] - flat[here - s + t] + flat[here - s - t]) / 4 for s, t in pairs]
    slope = np.stack([(a - b) / 2 for a, b in zip(ahead, behind, strict=True)], axis=1)
    return slope.astype(np.float64), np.stack([*straight, *mixed], axis=1).astype(np.float64)


def _eigen(bends: Points) -> tuple[Points, Points, Points]:
    """Of symmetric 3 × 3 matrices (n, 6): the lowest eigenvalue, the largest size of the others, the lowest's
    direction.

    In closed form (Smith 1961, Comm ACM 4:168): some thousand matrices in a millisecond.
    """
    a, b, c, d, e, f = bends.T
    mean = (a + b + c) / 3
    spread = np.sqrt(((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2 + 2 * (d * d + e * e + f * f)) / 6) + 1e-9
    p, q, r = (a - mean) / spread, (b - mean) / spread, (c - mean) / spread
    s, t, u = d / spread, e / spread, f / spread
    angle = np.arccos(np.clip((p * (q * r - u * u) - s * (s * r - u * t) + t * (s * u - q * t)) / 2, -1, 1)) / 3
    highest = mean + 2 * spread * np.cos(angle)
    lowest = mean + 2 * spread * np.cos(angle + 2 * np.pi / 3)
    others = np.maximum(np.abs(highest), np.abs(3 * mean - highest - lowest))
    rows = np.stack([a - lowest, d, e, d, b - lowest, f, e, f, c - lowest], axis=1).reshape(-1, 3, 3)
    # every two rows are at right angles to the direction; the pair that tells it best is taken
    tries = np.stack([np.cross(rows[:, i], rows[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))], axis=1)
    lengths = np.linalg.norm(tries, axis=2)
    best = lengths.argmax(axis=1)
    chosen = np.arange(len(best))
    return lowest, others, tries[chosen, best] / (lengths[chosen, best][:, None] + 1e-12)


# -- sheets ----------------------------------------------------------------------------------------------------------
def _nearest_sheet(ridge: _Ridge, nodule: Mask) -> Fissure:
    """The sheet that touches the nodule, or the nearest."""
    centre = np.argwhere(nodule).mean(axis=0)
    edge = np.argwhere(nodule & ~ndimage.binary_erosion(nodule)).astype(np.float64)
    found = []
    for surface, sheet in _sheets(ridge, centre):
        away = cKDTree(edge).query(sheet.places)[0]
        heights, _ = surface.heights(edge)
        gap = 0.0 if heights.min() < 0 < heights.max() else float(np.abs(heights).min())
        if gap <= TOUCH_MM and _is_seen_near(surface, sheet.places[away <= NEAR_MM]):
            return Fissure(True, 0.0)
        found.append(float(away.min()))
    nearest = min(found, default=np.inf)
    return Fissure(False, round(nearest, 1) if nearest <= REACH_MM else None)


def _is_seen_near(surface: _Surface, places: Points) -> bool:
    """Whether the sheet itself is seen beside the nodule, and not only where it would go on."""
    u, v, _ = surface.axes @ (places - surface.centre).T
    directions = np.unique(np.floor((np.arctan2(v, u) / (2 * np.pi) + 0.5) * 8).astype(int) % 8)
    return len(places) >= LEAST_NEAR and len(directions) >= LEAST_DIRECTIONS


def _sheets(ridge: _Ridge, centre: Points) -> list[tuple[_Surface, _Ridge]]:
    """Every sheet that is large enough, with the surface laid through it."""
    if not len(ridge.voxels):
        return []
    pieces = _joined(ridge)
    counts = np.bincount(pieces)
    counted = counts[pieces] >= CRUMB_VOXELS
    taken = np.zeros(len(pieces), dtype=np.bool_)
    found = []
    for piece in np.argsort(counts)[::-1][:SEEDS]:
        mine = pieces == piece
        if counts[piece] < SEED_VOXELS:
            break
        if taken[mine].mean() > 0.5:
            continue
        laid = _lay_surface(ridge, mine, counted, centre)
        if laid is None:
            continue
        surface, mine = laid
        taken |= mine
        sheet = ridge.only(mine)
        if _is_wide(sheet):
            found.append((surface, sheet))
    return found


def _is_wide(sheet: _Ridge) -> bool:
    """Whether it is a sheet of some width, and no bundle of lines."""
    around = cKDTree(sheet.places).query_ball_point(sheet.places, FULL_MM, return_length=True)
    return int((around >= FULL_VOXELS).sum()) >= LEAST_SHEET


def _joined(ridge: _Ridge) -> NDArray[np.int32]:
    """Which piece each voxel belongs to: neighbours are joined where each lies in the other's plane."""
    size = (PATCH_VOXELS + 2,) * 3
    number = np.full(size, -1)
    number[tuple((ridge.voxels + 1).T)] = np.arange(len(ridge.voxels))
    ahead = [o for o in np.ndindex(3, 3, 3) if o > (1, 1, 1)]
    first, second = [], []
    for offset in ahead:
        other = number[tuple((ridge.voxels + np.array(offset)).T)]
        one = np.flatnonzero(other >= 0)
        other = other[one]
        apart = ridge.places[one] - ridge.places[other]
        a, b = ridge.normals[one], ridge.normals[other]
        off = np.maximum(np.abs((apart * a).sum(axis=1)), np.abs((apart * b).sum(axis=1)))
        same = (np.abs((a * b).sum(axis=1)) > AGREE) & (off < 0.8)
        first.append(one[same])
        second.append(other[same])
    i, j = np.concatenate(first), np.concatenate(second)
    graph = coo_matrix((np.ones(len(i)), (i, j)), (len(ridge.voxels),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1])


def _lay_surface(ridge: _Ridge, mine: Mask, counted: Mask, centre: Points) -> tuple[_Surface, Mask] | None:
    """A surface through a piece, then through all that lies on it; None where that becomes less than a piece."""
    for _ in range(3):
        surface = _fit(ridge.only(mine), centre)
        heights, normals = surface.heights(ridge.places)
        along = np.abs((normals * ridge.normals).sum(axis=1)) > AGREE
        mine = np.asarray(counted & along & (np.abs(heights) < OFF_SHEET_MM))
        if mine.sum() < SEED_VOXELS:
            return None
    return surface, mine


def _fit(ridge: _Ridge, centre: Points) -> _Surface:
    axes = np.linalg.eigh(ridge.normals.T @ ridge.normals)[1].T
    u, v, w = axes @ (ridge.places - centre).T
    terms = _quadric(u, v)
    bending = np.diag([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]) * len(w) * STIFFNESS + 1e-6 * np.eye(6)
    return _Surface(centre, axes, np.linalg.solve(terms.T @ terms + bending, terms.T @ w))


def _quadric(u: Points, v: Points) -> Points:
    return np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=1)

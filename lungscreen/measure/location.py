"""Volume, Lungs, point ─► Location: side, zone, slice, lobe, distance to the lung's border and to a fissure
(estimated).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.geometry import Vector
from lungscreen.measure.fissure import find_fissure
from lungscreen.records import Location, Lungs, Outline, Volume

__all__ = ["PLEURA_REACH_MM", "LungBoxes", "find_lung_boxes", "locate_nodule"]

SIDES = {1: "right", 2: "left"}
"""Labels of the lung mask."""

SIDE_REACH_MM = 30.0
"""A point farther than this from both lungs lies in neither."""

LARGE_GRID = 128
"""Rows and columns from which a lung's ends are looked for on every other one."""

PLEURA_REACH_MM = 10.0
"""The lung's border is looked for within this distance: BTS 2015 calls nodules within 1 cm of it pleural."""

OBLIQUE = {1: (0.09, 0.69, 0.11), 2: (-0.06, 0.83, 0.27)}
"""The oblique fissure as a plane in the lung's box: height = a + b · (from front to back) + c · (from the side to the
middle), each from 0 to 1. Fitted to 43 places where it is seen on sagittal slices of six CT scans."""

HORIZONTAL = (0.45, 0.20)
"""The right lung's horizontal fissure, likewise: height = a + b · (from front to back). Seen in two of the scans."""

FISSURE_MARGIN = 0.05
"""Nearer to a fissure than this share of the lung's height (about 14 mm) no lobe is named: the planes miss the fissures
by 0.04 on average, by 0.11 at most."""


LungEnds = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""First and last slice, row and column of a lung."""


@dataclass(frozen=True, slots=True)
class LungBoxes:
    """Where each lung begins and ends, by its label; a lung that is not there is missing."""

    ends: dict[int, LungEnds]


def find_lung_boxes(lungs: Lungs | None) -> LungBoxes:
    """Where each lung begins and ends; found once for all nodules of a scan."""
    if lungs is None:
        return LungBoxes({})
    # every other row and column is enough to tell where a lung ends
    step = 2 if min(lungs.mask.shape[1:]) >= LARGE_GRID else 1
    boxes = ndimage.find_objects(lungs.mask[:, ::step, ::step], max(SIDES))
    return LungBoxes({n: _ends(box, step) for n, box in enumerate(boxes, start=1) if box})


def locate_nodule(
    volume: Volume,
    lungs: Lungs | None,
    centre_mm: Vector,
    outline: Outline | None = None,
    boxes: LungBoxes | None = None,
) -> Location:
    """Where a nodule lies: side, zone (thirds of that lung's height), nearest slice, lobe, pleura and fissure.

    The lobe is estimated from where the point lies in its lung's box, for want of the fissures themselves; it is empty
    near where a fissure is to be expected, and where the scan shows the lung only in part. Without lungs side and zone
    are unknown; without an outline, so are the distances.
    boxes: of these lungs, where they were found before.
    """
    k, j, i = (float(n) for n in volume.geometry.to_index(centre_mm))
    slices = volume.geometry.shape[0]
    slice_index = int(np.clip(np.rint(k), 0, slices - 1))
    numbers = volume.instance_numbers
    label = _nearest_lung(volume, lungs, (k, j, i))
    box = (boxes or find_lung_boxes(lungs)).ends.get(label)
    fissure = None if outline is None else find_fissure(volume, outline)
    return Location(
        side=SIDES.get(label, "unknown"),  # type: ignore[arg-type]
        zone=_zone(_height(box, k)),  # type: ignore[arg-type]
        slice_from_top=slices - slice_index,
        instance_number=numbers[slice_index] if len(numbers) == slices else None,
        lobe=_lobe_in(box, label, (k, j, i)) if _is_whole(lungs) else "",
        pleura_mm=_to_pleura(volume, lungs, outline) if lungs is not None and outline is not None else None,
        perifissural=fissure.touches if fissure else None,
        fissure_mm=fissure.distance_mm if fissure else None,
    )


def _is_whole(lungs: Lungs | None) -> bool:
    """The scan shows the lungs all through."""
    return lungs is not None and not any((lungs.apex_cut, lungs.base_cut, lungs.incomplete, lungs.left_out))


def _height(box: LungEnds | None, k: float) -> float | None:
    """How far up in the lung's box a slice lies, 0 at its lowest; None without a box."""
    return None if box is None else (k - box[0][0]) / max(box[0][1] - box[0][0], 1)


def _lobe_in(box: LungEnds | None, label: int, at: tuple[float, float, float]) -> str:
    """Lobe of a voxel in the box of its lung; empty without a box."""
    height = _height(box, at[0])
    if box is None or height is None:
        return ""
    return _lobe(label, height, _share(at[1], box[1]), _share(at[2], box[2]))


def _ends(box: tuple[slice, ...], step: int) -> LungEnds:
    slices, rows, columns = ((part.start, part.stop - 1) for part in box)
    return slices, (step * rows[0], step * rows[1]), (step * columns[0], step * columns[1])


def _nearest_lung(volume: Volume, lungs: Lungs | None, index: tuple[float, float, float]) -> int:
    """Label of the lung that is nearest to a point, looked for in a box around it; 0 where none is near."""
    if lungs is None:
        return 0
    middle = np.rint(index).astype(int)
    if ((middle >= 0) & (middle < lungs.mask.shape)).all() and lungs.mask[tuple(middle)]:
        return int(lungs.mask[tuple(middle)])
    spacing = np.array(volume.geometry.spacing_mm)
    reach = np.ceil(SIDE_REACH_MM / spacing).astype(int)
    low = np.clip(middle - reach, 0, np.array(lungs.mask.shape) - 1)
    high = np.clip(middle + reach + 1, 1, np.array(lungs.mask.shape))
    box = lungs.mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    found = np.argwhere(box > 0)
    if not len(found):
        return 0
    away = np.linalg.norm((found + low - np.array(index)) * spacing, axis=1)
    nearest = int(away.argmin())
    return int(box[tuple(found[nearest])]) if away[nearest] <= SIDE_REACH_MM else 0


def _zone(height: float | None) -> str:
    """Third of the lung's height, counted in slices (slices go up)."""
    if height is None:
        return "unknown"
    return "lower" if height < 1 / 3 else "middle" if height < 2 / 3 else "upper"


def _share(at: float, ends: tuple[int, int]) -> float:
    """How far along a place lies, 0 at the first voxel, 1 at the last."""
    return float(np.clip((at - ends[0]) / max(ends[1] - ends[0], 1), 0, 1))


def _lobe(label: int, height: float, back: float, left: float) -> str:
    """Lobe of a place in the lung's box; empty where a fissure may lie. The lingula belongs to the left upper lobe.

    back: from front to back.
    left: from the patient's right to the left; all from 0 to 1.
    """
    a, b, c = OBLIQUE[label]
    inward = left if label == 1 else 1 - left
    oblique = height - (a + b * back + c * inward)
    if abs(oblique) < FISSURE_MARGIN:
        return ""
    side = SIDES[label]
    if oblique < 0:
        return f"{side} lower lobe"
    if label == 2:
        return "left upper lobe"
    horizontal = height - (HORIZONTAL[0] + HORIZONTAL[1] * back)
    if abs(horizontal) < FISSURE_MARGIN:
        return ""
    return "right upper lobe" if horizontal > 0 else "right middle lobe"


def _to_pleura(volume: Volume, lungs: Lungs, outline: Outline) -> float:
    """From the outline to the nearest voxel that is no lung, mm; PLEURA_REACH_MM stands for that and more.

    The nodule itself counts as lung, whether or not the mask holds it.
    """
    spacing = np.array(volume.geometry.spacing_mm)
    margin = np.ceil(PLEURA_REACH_MM / spacing).astype(int) + 1
    start, shape = np.array(outline.start), np.array(outline.mask.shape)
    low, high = start - margin, start + shape + margin
    inside = np.ones(tuple(high - low), bool)  # what lies outside the volume is not known to be pleura
    first, last = np.maximum(low, 0), np.minimum(high, lungs.mask.shape)
    part = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    inside[tuple(slice(a, b) for a, b in zip(first - low, last - low, strict=True))] = lungs.mask[part] > 0
    nodule = tuple(slice(a, b) for a, b in zip(margin, margin + shape, strict=True))
    inside[nodule] |= outline.mask
    if inside.all():
        return PLEURA_REACH_MM
    away: NDArray[np.float64] = ndimage.distance_transform_edt(inside, sampling=spacing)
    # Neighbouring voxels' centres are a voxel apart: touching is 0.
    nearest = float(away[nodule][outline.mask].min()) - float(spacing.min())
    return round(min(max(nearest, 0.0), PLEURA_REACH_MM), 1)

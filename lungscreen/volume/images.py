"""Image file (NIfTI, NRRD, MHA, MHD) ─► Volume.

header ─► where the voxels lie ─► slab by slab: unpacked, checked, as int16 HU into the canonical volume
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice, VolumeError
from lungscreen.geometry import Geometry
from lungscreen.records import Series, Volume
from lungscreen.sources import SourceReader
from lungscreen.volume.config import AXIAL_DEGREES, LEAST_HU, MOST_HU, VolumeConfig
from lungscreen.volume.formats import ImageHeader, read_image_header, read_slabs
from lungscreen.volume.levels import level_notices, measure_levels
from lungscreen.volume.neighbours import find_misfits
from lungscreen.volume.quality import check_size, shift_notices, stack_notices, thickness_notices
from lungscreen.volume.stack import plan_stack
from lungscreen.volume.straighten import fill_grid, keep_slices

__all__ = ["build_from_image"]

AIR_HU = -500
"""A chest CT holds voxels below."""
AIR_SHARE = 0.001
"""Least share of them."""
TISSUE_HU = -200
"""And voxels above."""


def build_from_image(series: Series, config: VolumeConfig) -> Volume:
    """Read an image file: the values are HU already.

    Errors: `image-damaged`, `image-dimensions`, `image-geometry`, `image-not-hu`, `image-reference`, `not-axial`,
    `slice-gap`, `volume-too-large`, `too-few-slices`, `too-short`, `too-thick`, `file-unreadable`, `file-too-large`.
    """
    if series.image is None:
        raise VolumeError("image-damaged", "there is no image file", series.series_uid)
    with SourceReader() as reader:
        header = read_image_header(series.image, reader)
        geometry, order, flips = header.geometry.canonical()
        _check_axial(geometry)
        check_size(geometry.shape[0], geometry.spacing_mm[0], None, config)
        hu = np.empty(geometry.shape, np.int16)
        # the volume with its axes as they lie in the file
        as_stored = np.flip(hu, tuple(n for n in range(3) if flips[n])).transpose(np.argsort(order))
        notices = _fill(as_stored, read_slabs(header, reader), header)
    hu, damage = _mend(hu, geometry, config)
    levels = measure_levels(hu)
    if not levels.are_hu:
        raise VolumeError("image-not-hu", "hardly a value is that of soft tissue")
    notices += damage + level_notices(levels)
    return Volume(
        hu=hu,
        geometry=geometry,
        series=series,
        instance_numbers=(None,) * geometry.shape[0],
        source_order=order,
        source_flips=flips,
        notices=(*series.notices, *header.notices, *notices, *thickness_notices(geometry.spacing_mm[0], None)),
    )


def _mend(hu: NDArray[np.int16], geometry: Geometry, config: VolumeConfig) -> tuple[NDArray[np.int16], list[Notice]]:
    """The volume with slices that fit no neighbour interpolated; and what is said of it. Where volumes of any size are
    read, as cubes that were mirrored outwards, such slices are said and stay: nothing is typical of a piece.

    Errors: `image-damaged`, `slice-gap` where they are too many.
    """
    along = geometry.spacing_mm[0] * np.arange(len(hu), dtype=np.float64)
    misfits = find_misfits(hu, along)
    said = shift_notices(misfits)
    if config.takes_any_size:
        odd = len(misfits.damaged)
        text = f"{odd} slice(s) fit no neighbour; they were read as they stand, as this may be a piece of a scan."
        return hu, [*([Notice("slices-odd", text)] if odd else []), *said]
    if misfits.parted:
        raise InputError("image-damaged", "two parts of the image do not go on from each other")
    if not misfits.damaged:
        return hu, said
    if 0 in misfits.damaged or len(hu) - 1 in misfits.damaged:
        raise InputError("image-damaged", f"{len(misfits.damaged)} slices, the outermost too, fit no neighbour")
    fitting = [n for n in range(len(hu)) if n not in misfits.damaged]
    stack = plan_stack(along[fitting][:, None] * (0.0, 0.0, 1.0), np.array([1.0, 0, 0, 0, 1, 0]))
    text = f"{len(misfits.damaged)} slice(s) fit no neighbour and count as missing."
    filled = fill_grid(keep_slices(hu, fitting), stack)
    return filled, [Notice("slices-damaged", text), *stack_notices(stack), *said]


def _check_axial(geometry: Geometry) -> None:
    """Errors: `not-axial` where an axis is more than 5 degrees off the patient's."""
    cosines = geometry.affine[:3, :3] / np.array(geometry.spacing_mm)
    along = np.abs(np.array([cosines[2, 0], cosines[1, 1], cosines[0, 2]]))
    worst = float(np.degrees(np.arccos(np.clip(along, 0, 1))).max())
    if worst > AXIAL_DEGREES:
        raise VolumeError("not-axial", f"its axes are {worst:.1f} degrees off the patient's")


def _fill(hu: NDArray[np.int16], slabs: Iterable[NDArray[Any]], header: ImageHeader) -> list[Notice]:
    """Values as int16 HU, never below -1024; slab by slab, so that no second copy is made.

    Errors: `image-not-hu`, and those of `read_slabs`.
    """
    seen = _Seen()
    plain = header.slope == 1.0 and header.intercept == 0.0
    for target, values in zip(hu, slabs, strict=True):
        target[:] = _slab_as_hu(values if plain else values * header.slope + header.intercept, seen)
    if seen.air < AIR_SHARE * hu.size or seen.high < TISSUE_HU:
        raise VolumeError(
            "image-not-hu", f"values from {seen.low:g} to {seen.high:g} are no Hounsfield units of a chest"
        )
    notices = []
    if seen.bad:
        notices.append(Notice("values-clipped", f"{seen.bad} values that are no numbers were set to {LEAST_HU} HU."))
    if seen.over:
        notices.append(Notice("values-clipped", f"{seen.over} values above {MOST_HU} HU were clipped."))
    return notices


@dataclass
class _Seen:
    """What was met among the values."""

    low: float = np.inf
    high: float = -np.inf
    air: int = 0
    bad: int = 0
    over: int = 0


def _slab_as_hu(values: NDArray[Any], seen: _Seen) -> NDArray[np.int16]:
    if values.dtype.kind == "f":
        seen.bad += int(np.count_nonzero(~np.isfinite(values)))
        values = np.rint(np.nan_to_num(values, nan=LEAST_HU, posinf=LEAST_HU, neginf=LEAST_HU))
    seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))
    seen.air += int(np.count_nonzero(values < AIR_HU))
    seen.over += int(np.count_nonzero(values > MOST_HU))
    clipped: NDArray[np.int16] = np.clip(values, LEAST_HU, MOST_HU).astype(np.int16)
    return clipped

"""DICOM Series ─► Volume."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungscreen.dicomfile import quiet_pydicom
from lungscreen.errors import Notice, Refusal, VolumeError
from lungscreen.geometry import Geometry
from lungscreen.records import Series, Volume
from lungscreen.sources import MOST_VOXELS, SourceReader
from lungscreen.volume.config import VolumeConfig
from lungscreen.volume.frames import Frame, list_frames
from lungscreen.volume.levels import level_notices, measure_levels
from lungscreen.volume.neighbours import find_misfits
from lungscreen.volume.passes import choose_pass
from lungscreen.volume.pixels import PixelReader
from lungscreen.volume.quality import check_size, shift_notices, stack_notices, thickness_notices
from lungscreen.volume.stack import Stack, plan_stack
from lungscreen.volume.straighten import fill_grid, keep_slices, shear_slices

__all__ = ["build_from_dicom"]

Pixels = NDArray[np.int16]


def build_from_dicom(series: Series, config: VolumeConfig) -> Volume:
    """Read a DICOM series.

    Errors: as `lungscreen.volume.build_volume`.
    """
    with SourceReader() as sources, quiet_pydicom():
        frames, refused, notices = list_frames(series, sources)
        reader = PixelReader(sources)
        chosen = choose_pass(frames, reader, series.series_uid)
        stack = _plan(chosen.frames, series, config)
        stray = [chosen.frames[number] for number in stack.stray]
        frames = [chosen.frames[number] for number in stack.order]
        good, pixels = _decode(frames, reader)
    misfits = find_misfits(pixels, stack.along_mm[good])
    if misfits.parted:
        raise VolumeError("pixels-damaged", "two parts of the series do not go on from each other", series.series_uid)
    refused += [Refusal(frames[good[n]].where, "pixels-damaged", why) for n, why in sorted(misfits.damaged.items())]
    fitting = [n for n in range(len(good)) if n not in misfits.damaged]
    if len(fitting) < len(frames):
        # the places of what failed are holes now
        text = f"{len(frames) - len(fitting)} slice(s) could not be read, or fit no neighbour, and count as missing."
        notices.append(Notice("slices-damaged", text))
        frames, pixels = [frames[good[n]] for n in fitting], keep_slices(pixels, fitting)
        stack = _plan(frames, series, config)
        stray += [frames[number] for number in stack.stray]
        frames, pixels = [frames[number] for number in stack.order], keep_slices(pixels, stack.order)
    refused += chosen.refused + reader.refused
    refused += [Refusal(frame.where, "series-part", "a stray slice far off the rest") for frame in stray]
    notices += chosen.notices + stack_notices(stack) + shift_notices(misfits) + reader.notices()
    notices += thickness_notices(stack.spacing_mm, series.acquisition.slice_thickness_mm)
    return _canonical(series, pixels, frames, stack, notices + _level_notices(series, pixels), refused)


def _level_notices(series: Series, pixels: Pixels) -> list[Notice]:
    """What is said of the levels of air and soft tissue.

    Errors: `not-hu`.
    """
    levels = measure_levels(pixels)
    if not levels.are_hu:
        raise VolumeError("not-hu", "hardly a value is that of soft tissue", series.series_uid)
    if not levels.air_fits and any(notice.code == "unit-unspecified" for notice in series.notices):
        raise VolumeError("not-hu", "its unit is unspecified, and no air measures -1000", series.series_uid)
    return level_notices(levels)


def _plan(frames: Sequence[Frame], series: Series, config: VolumeConfig) -> Stack:
    """The stack, checked for size.

    Errors: those of `plan_stack`, `check_size`; `volume-too-large`.
    """
    least = max(config.min_slices, 2)
    if len(frames) < 2:
        raise VolumeError("too-few-slices", f"{len(frames)} slice(s); at least {least} are needed")
    positions = np.array([frame.position_mm for frame in frames], dtype=np.float64)
    stack = plan_stack(positions, np.array(frames[0].orientation, dtype=np.float64))
    check_size(len(stack.grid_mm), stack.spacing_mm, series.acquisition.slice_thickness_mm, config)
    rows, columns = frames[0].instance.rows, frames[0].instance.columns
    if len(stack.grid_mm) * rows * columns > MOST_VOXELS:
        raise VolumeError("volume-too-large", f"{len(stack.grid_mm)} slices of {rows} x {columns} pixels")
    return stack


def _decode(frames: Sequence[Frame], reader: PixelReader) -> tuple[list[int], Pixels]:
    """Numbers of the frames that can be read, and their pixels, in the order given.

    Errors: the most frequent code of its frames where none can be read.
    """
    first = frames[0].instance
    pixels: Pixels = np.empty((len(frames), first.rows, first.columns), dtype=np.int16)
    good = reader.read_all(frames, pixels)
    if not good:
        codes = [row.code for row in reader.refused]
        code = max(set(codes), key=codes.count)
        reason = next(row.reason for row in reader.refused if row.code == code)
        raise VolumeError(code, f"none of {len(frames)} slices can be read: {reason}")
    return good, keep_slices(pixels, good)


def _canonical(
    series: Series,
    pixels: Pixels,
    frames: Sequence[Frame],
    stack: Stack,
    notices: Sequence[Notice],
    refused: Sequence[Refusal],
) -> Volume:
    """Straighten, fill, place in space, turn to canonical orientation."""
    first = frames[0]
    pixels, moved = shear_slices(pixels, stack, first.pixel_spacing_mm)
    pixels = fill_grid(pixels, stack)
    row = np.array(first.orientation[:3]) / np.linalg.norm(first.orientation[:3])
    column = np.cross(stack.normal, row)
    column = column if column @ np.array(first.orientation[3:]) > 0 else -column
    affine = np.eye(4)
    affine[:3, 0] = stack.normal * stack.spacing_mm
    affine[:3, 1] = column * first.pixel_spacing_mm[0]
    affine[:3, 2] = row * first.pixel_spacing_mm[1]
    affine[:3, 3] = np.array(first.position_mm) + row * moved[0] + column * moved[1]
    shape = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
    geometry, order, flips = Geometry(affine, shape, series.frame_of_reference).canonical()
    turned = np.flip(np.transpose(pixels, order), tuple(n for n in range(3) if flips[n]))
    numbers = [frames[number].number if number >= 0 else None for number in stack.nearest]
    return Volume(
        hu=np.ascontiguousarray(turned),
        geometry=geometry,
        series=series,
        instance_numbers=tuple(numbers[::-1] if flips[0] else numbers),
        source_order=order,
        source_flips=flips,
        notices=(*series.notices, *notices),
        refused=tuple(refused),
        source_slices=tuple(frame.as_source for frame in frames),
    )

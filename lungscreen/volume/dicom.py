"""DICOM Series ─► Volume."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lungscreen.dicomfile import parse_dicom, quiet_pydicom
from lungscreen.errors import LungscreenError, Notice, Refusal, VolumeError
from lungscreen.geometry import Geometry
from lungscreen.records import Series, Volume
from lungscreen.sources import SourceReader
from lungscreen.volume.config import MOST_VOXELS, VolumeConfig
from lungscreen.volume.decode import decode_frame, read_rescale, read_shape, to_hu
from lungscreen.volume.frames import Frame, list_frames
from lungscreen.volume.stack import Stack, plan_stack

__all__ = ["build_from_dicom"]

Pixels = NDArray[np.int16]


def build_from_dicom(series: Series, config: VolumeConfig) -> Volume:
    """Read a DICOM series.

    Errors: as `lungscreen.volume.build_volume`.
    """
    frames = list_frames(series)
    notices: list[Notice] = []
    refused: list[Refusal] = []
    stack = _plan(frames)
    frames = [frames[i] for i in stack.order]
    if len(frames) < config.min_slices:
        raise VolumeError("too-few-slices", f"{len(frames)} slices; at least {config.min_slices} are needed")
    pixels = _allocate(frames)
    good = np.ones(len(frames), dtype=bool)
    with SourceReader() as reader, quiet_pydicom():
        for number, frame in enumerate(frames):
            try:
                dataset = parse_dicom(reader.read(frame.instance.source), pixels=True)
                shape = read_shape(dataset)
                rescale = read_rescale(dataset)
                pixels[number], _clipped = to_hu(decode_frame(dataset, shape, frame.index), shape.values, rescale)
            except LungscreenError as error:
                good[number] = False
                refused.append(Refusal(str(frame.instance.source), error.code, error.reason))
    if not good.all():
        frames = [frame for frame, kept in zip(frames, good, strict=True) if kept]
        pixels = pixels[good]
        stack = _plan(frames)
        notices.append(Notice("slices-damaged", f"{int((~good).sum())} slices could not be read."))
    return _finish(series, pixels, frames, stack, notices, refused)


def _plan(frames: list[Frame]) -> Stack:
    positions = np.array([frame.position_mm for frame in frames], dtype=np.float64)
    return plan_stack(positions, np.array(frames[0].orientation, dtype=np.float64))


def _allocate(frames: list[Frame]) -> Pixels:
    rows, columns = frames[0].instance.rows, frames[0].instance.columns
    if len(frames) * rows * columns > MOST_VOXELS:
        raise VolumeError("volume-too-large", f"{len(frames)} slices of {rows} x {columns} pixels")
    return np.empty((len(frames), rows, columns), dtype=np.int16)


def _finish(
    series: Series, pixels: Pixels, frames: list[Frame], stack: Stack, notices: list[Notice], refused: list[Refusal]
) -> Volume:
    orientation = np.array(frames[0].orientation)
    first = np.array(frames[0].position_mm)
    affine = np.eye(4)
    affine[:3, 0] = stack.normal * (stack.spacing_mm or 1.0)
    affine[:3, 1] = orientation[3:] * frames[0].pixel_spacing_mm[0]
    affine[:3, 2] = orientation[:3] * frames[0].pixel_spacing_mm[1]
    affine[:3, 3] = first
    geometry, order, flips = Geometry(affine, pixels.shape, series.frame_of_reference).canonical()
    axes = tuple(n for n in range(3) if flips[n])
    hu = np.ascontiguousarray(np.flip(np.transpose(pixels, order), axes))
    numbers = tuple(frame.instance.instance_number for frame in frames)
    return Volume(hu, geometry, series, numbers, order, flips, (*series.notices, *notices), tuple(refused))

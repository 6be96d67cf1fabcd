"""Series ─► frames: every slice with its place, whether it is a file of its own or one of a multi-frame object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lungscreen.dicomfile import (
    LONGEST_WHERE,
    first_item,
    get_items,
    get_number,
    get_numbers,
    get_text,
    get_texts,
    get_uid,
    plain_value,
    read_header,
)
from lungscreen.errors import Notice, Refusal, VolumeError
from lungscreen.geometry import ORTHONORMAL_TOLERANCE, Vector
from lungscreen.records import Instance, Series, SourceSlice
from lungscreen.sources import SourceReader
from lungscreen.units import unit_of_values
from lungscreen.volume.values import Rescale, read_rescale

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Frame", "list_frames", "split_stacks"]

Orientation = tuple[float, float, float, float, float, float]

_SAME_SPACING_MM = 1e-3
NEARLY_AXIAL = 0.8
"""Least z component of a normal that may be that of a tilted gantry (37 degrees)."""
_NOT_SLICES = frozenset({"LOCALIZER", "MIP", "MINIP", "MIN_IP", "MAX_IP", "MPR", "PROJECTION", "VOLUME_RENDER", "MEAN"})
"""Values of FrameType that are no plain axial slice."""
_TAGS = (
    "SOPClassUID",
    "ConcatenationUID",
    "InConcatenationTotalNumber",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice. `rescale` is None where each file has its own, read with its pixels."""

    instance: Instance
    index: int
    """Number of the frame in its object, from 0."""
    position_mm: Vector
    orientation: Orientation
    pixel_spacing_mm: tuple[float, float]
    stack: tuple[str, ...] = ()
    """What tells the stacks of a multi-frame object apart: stack, frame type, temporal position, units."""
    rescale: Rescale | None = None
    acquisition_number: str = ""
    temporal_position: str = ""
    acquisition_time: str = ""

    @property
    def number(self) -> int | None:
        """InstanceNumber; in a multi-frame object the frame's number, from 1."""
        return self.index + 1 if self.instance.position_mm is None else self.instance.instance_number

    @property
    def where(self) -> str:
        """The file, and the frame in it."""
        source = plain_value(self.instance.source, LONGEST_WHERE)
        return f"{source} frame {self.index + 1}" if self.instance.position_mm is None else source

    @property
    def as_source(self) -> SourceSlice:
        """The slice's object and place, for what is written beside the series."""
        frame = self.index + 1 if self.instance.position_mm is None else None
        return SourceSlice(self.instance, frame, self.position_mm, self.orientation, self.pixel_spacing_mm)


def list_frames(series: Series, reader: SourceReader) -> tuple[list[Frame], list[Refusal], list[Notice]]:
    """All frames of a series, of all its objects together (so that concatenations are whole again).

    Errors: `frames-invalid`, `rescale-missing` where no frame of a multi-frame object can be used; those of
    `read_header`.
    """
    frames: list[Frame] = []
    refused: list[Refusal] = []
    parts: list[tuple[str, int]] = []
    for instance in series.instances:
        if instance.position_mm and instance.orientation and instance.pixel_spacing_mm:
            frames.append(
                _single_frame(instance, instance.position_mm, instance.orientation, instance.pixel_spacing_mm)
            )
            continue
        dataset = read_header(reader, instance.source, _TAGS)
        found, bad = _enhanced_frames(instance, dataset)
        frames += found
        refused += bad
        parts.append(
            (get_uid(dataset, "ConcatenationUID"), int(get_number(dataset, "InConcatenationTotalNumber") or 0))
        )
    if not frames:
        code, reason = (refused[0].code, refused[0].reason) if refused else ("frames-invalid", "there are no frames")
        raise VolumeError(code, f"no frame can be used: {reason}", series.series_uid)
    return frames, refused, _missing_parts(parts)


def split_stacks(frames: Sequence[Frame]) -> tuple[list[list[Frame]], list[list[Frame]]]:
    """Frames of one stack, orientation and pixel spacing together, the largest stack first; and the stacks left out.

    Left out are those that are no plain slices, not in HU, or (where there are others) not nearly axial.

    Errors: `not-axial-image`, `not-hu` where nothing is left.
    """
    groups = _grouped(frames)
    kept = [group for group in groups if _is_slice_in_hu(group[0])]
    if not kept:
        code = "not-axial-image" if _in_hu(groups[0][0]) else "not-hu"
        raise VolumeError(code, f"its frames are {', '.join(filter(None, groups[0][0].stack))}")
    upright = [group for group in kept if _nearly_axial(group[0])]
    kept = sorted(upright or kept, key=len, reverse=True)
    return kept, [group for group in groups if not any(group is other for other in kept)]


def _grouped(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: list[list[Frame]] = []
    for frame in frames:
        group = next((group for group in groups if _belongs(frame, group[0])), None)
        if group is None:
            groups.append([frame])
        else:
            group.append(frame)
    return groups


def _is_slice_in_hu(frame: Frame) -> bool:
    return not _NOT_SLICES & set(frame.stack) and _in_hu(frame)


def _nearly_axial(frame: Frame) -> bool:
    """Within the largest gantry tilt; what it is exactly is judged with all positions."""
    normal = np.cross(frame.orientation[:3], frame.orientation[3:])
    return bool(abs(normal[2]) > NEARLY_AXIAL)


def _in_hu(frame: Frame) -> bool:
    return not frame.stack or unit_of_values(frame.stack[-1]) != "other"


def _belongs(frame: Frame, other: Frame) -> bool:
    if frame.stack != other.stack:
        return False
    if frame.orientation == other.orientation and frame.pixel_spacing_mm == other.pixel_spacing_mm:
        return True
    turned = np.abs(np.subtract(frame.orientation, other.orientation)).max() > ORTHONORMAL_TOLERANCE
    scaled = np.abs(np.subtract(frame.pixel_spacing_mm, other.pixel_spacing_mm)).max() > _SAME_SPACING_MM
    return not turned and not scaled


def _single_frame(
    instance: Instance, position: Vector, orientation: Orientation, spacing: tuple[float, float]
) -> Frame:
    return Frame(
        instance=instance,
        index=0,
        position_mm=position,
        orientation=orientation,
        pixel_spacing_mm=spacing,
        acquisition_number=instance.acquisition_number,
        temporal_position=instance.temporal_position,
        acquisition_time=instance.acquisition_time,
    )


def _enhanced_frames(instance: Instance, dataset: Dataset) -> tuple[list[Frame], list[Refusal]]:
    shared = first_item(dataset, "SharedFunctionalGroupsSequence")
    groups = get_items(dataset, "PerFrameFunctionalGroupsSequence")
    if len(groups) != instance.frames:
        reason = f"{len(groups)} frames are described, {instance.frames} are said to be there"
        return [], [Refusal(plain_value(instance.source, LONGEST_WHERE), "frames-invalid", reason)]
    frames: list[Frame] = []
    refused: list[Refusal] = []
    for index, group in enumerate(groups):
        try:
            frames.append(_enhanced_frame(instance, index, group, shared))
        except VolumeError as error:
            refused.append(
                Refusal(f"{plain_value(instance.source, LONGEST_WHERE)} frame {index + 1}", error.code, error.reason)
            )
    return frames, refused


def _enhanced_frame(instance: Instance, index: int, group: Dataset, shared: Dataset | None) -> Frame:
    """Errors: `frames-invalid`, `rescale-missing`, `rescale-invalid`."""

    def functional(keyword: str) -> Dataset | None:
        return first_item(group, keyword) or first_item(shared, keyword)

    position = get_numbers(functional("PlanePositionSequence"), "ImagePositionPatient", 3)
    cosines = get_numbers(functional("PlaneOrientationSequence"), "ImageOrientationPatient", 6)
    spacing = get_numbers(functional("PixelMeasuresSequence"), "PixelSpacing", 2)
    if position is None or cosines is None or spacing is None or min(spacing) <= 0:
        raise VolumeError("frames-invalid", "position, orientation or pixel spacing is absent or invalid")
    values = functional("PixelValueTransformationSequence")
    content = functional("FrameContentSequence")
    frame_type = get_texts(functional("CTImageFrameTypeSequence"), "FrameType")
    temporal = get_text(content, "TemporalPositionIndex")
    return Frame(
        instance=instance,
        index=index,
        position_mm=(position[0], position[1], position[2]),
        orientation=(cosines[0], cosines[1], cosines[2], cosines[3], cosines[4], cosines[5]),
        pixel_spacing_mm=(spacing[0], spacing[1]),
        stack=(get_text(content, "StackID"), *frame_type, temporal, get_text(values, "RescaleType").upper()),
        rescale=read_rescale(values),
        acquisition_number=get_text(content, "FrameAcquisitionNumber"),
        temporal_position=temporal,
        acquisition_time=get_text(content, "FrameAcquisitionDateTime"),
    )


def _missing_parts(parts: list[tuple[str, int]]) -> list[Notice]:
    """A concatenation of which not all parts are there."""
    counts = {uid: (sum(other == uid for other, _ in parts), total) for uid, total in parts if uid and total}
    return [
        Notice("file-left-out", f"{found} of {total} parts of a concatenation are there.")
        for found, total in counts.values()
        if found < total
    ]

"""Series ─► frames: every slice with its place, whether it is a file of its own or one of a multi-frame object."""

from __future__ import annotations

from dataclasses import dataclass

from lungscreen.geometry import Vector
from lungscreen.records import Instance, Series

__all__ = ["Frame", "list_frames"]


@dataclass(frozen=True, slots=True)
class Frame:
    """One slice."""

    instance: Instance
    index: int
    """Number of the frame in its object, from 0."""
    position_mm: Vector
    orientation: tuple[float, float, float, float, float, float]
    pixel_spacing_mm: tuple[float, float]
    stack: tuple[str, ...] = ()
    """What tells the stacks of a multi-frame object apart."""
    acquisition_number: str = ""
    temporal_position: str = ""
    acquisition_time: str = ""
    slice_thickness_mm: float | None = None


def list_frames(series: Series) -> list[Frame]:
    """All frames of a series."""
    return [
        Frame(
            instance=instance,
            index=0,
            position_mm=instance.position_mm,
            orientation=instance.orientation,
            pixel_spacing_mm=instance.pixel_spacing_mm,
            acquisition_number=instance.acquisition_number,
            temporal_position=instance.temporal_position,
            acquisition_time=instance.acquisition_time,
        )
        for instance in series.instances
        if instance.position_mm and instance.orientation and instance.pixel_spacing_mm
    ]

"""Planes of a volume on the screen: which axes they show, where a place lies on them, and a grey picture as SVG.

Planes are shown as radiologists hang them: the patient's right on the viewer's left, the head up, seen from the left
side in the sagittal plane. Plane coordinates are (down, across) in mm from the outer corner of the first voxel.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from numpy.typing import ArrayLike
from PIL import Image

from lungscreen.records import Volume
from lungscreen.results.finished import MarkShape

__all__ = [
    "PLANES",
    "PictureConfig",
    "PictureFrame",
    "Plane",
    "Window",
    "image_tag",
    "in_frame",
    "letters",
    "on_plane",
    "pixel_size",
    "plane_extent",
    "scale_bar",
]

_JPEG_QUALITY = 88


@dataclass(frozen=True)
class Window:
    """Which HU become black and white."""

    name: str
    level_hu: float
    width_hu: float


@dataclass(frozen=True)
class PictureConfig:
    """How findings are shown."""

    lung: Window = Window("Lung window", -600.0, 1500.0)
    soft: Window = Window("Soft-tissue window", 40.0, 400.0)
    crop_mm: float = 50.0
    """Side of a crop; a finding that fills more than half of it gets a larger one."""
    pixel_mm: float = 0.25
    """Pixel of a crop of that side."""
    overview_pixel_mm: float = 0.8

    def __post_init__(self) -> None:
        widths = self.lung.width_hu, self.soft.width_hu
        if min(*widths, self.crop_mm, self.pixel_mm, self.overview_pixel_mm) <= 0:
            raise ValueError("the windows' widths, crop_mm, pixel_mm and overview_pixel_mm must be positive")


@dataclass(frozen=True)
class Plane:
    """How a plane of the canonical volume lies on the screen."""

    name: str
    through: int
    """Array axis that the plane cuts."""
    down: int
    """Array axis that runs down the screen."""
    across: int
    """Array axis that runs to the viewer's right."""
    head_up: bool
    """Whether `down` is turned over: slices go up, screens go down."""
    letters: tuple[str, str, str, str]
    """Orientation at the left, right, top and bottom."""


PLANES = {
    "axial": Plane("axial", 0, 1, 2, head_up=False, letters=("R", "L", "A", "P")),
    "coronal": Plane("coronal", 1, 0, 2, head_up=True, letters=("R", "L", "H", "F")),
    "sagittal": Plane("sagittal", 2, 0, 1, head_up=True, letters=("A", "P", "H", "F")),
}


@dataclass(frozen=True)
class PictureFrame:
    """A square of the plane in mm."""

    top: float
    left: float
    height: float
    width: float


def on_plane(volume: Volume, plane: Plane, point_mm: ArrayLike) -> tuple[float, float]:
    """LPS mm → (down, across) of the plane."""
    index = volume.geometry.to_index(point_mm)
    spacing = volume.geometry.spacing_mm
    down = (index[plane.down] + 0.5) * spacing[plane.down]
    if plane.head_up:
        down = volume.geometry.extent_mm[plane.down] - down
    return float(down), float((index[plane.across] + 0.5) * spacing[plane.across])


def plane_extent(volume: Volume, plane: Plane) -> tuple[float, float]:
    """Height and width of the whole plane, mm."""
    return volume.geometry.extent_mm[plane.down], volume.geometry.extent_mm[plane.across]


def in_frame(volume: Volume, shape: MarkShape, plane: Plane, frame: PictureFrame) -> tuple[float, float]:
    """The mark's centre in a crop, (down, across) in mm."""
    down, across = on_plane(volume, plane, shape.centre_mm)
    return down - frame.top, across - frame.left


def pixel_size(frame: PictureFrame, pixel_mm: float) -> tuple[int, int]:
    """Columns and rows of a picture of the frame."""
    return max(round(frame.width / pixel_mm), 1), max(round(frame.height / pixel_mm), 1)


def image_tag(image: Image.Image, part: PictureFrame, frame: PictureFrame) -> str:
    """An image as SVG: JPEG, or PNG where it is transparent, on the part of the frame that it covers."""
    file = io.BytesIO()
    kind = "png" if image.mode == "RGBA" else "jpeg"
    image.save(file, kind.upper(), quality=_JPEG_QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<image x="{part.left - frame.left:.2f}" y="{part.top - frame.top:.2f}" width="{part.width:.2f}" '
        f'height="{part.height:.2f}" preserveAspectRatio="none" href="data:image/{kind};base64,{data}"/>'
    )


def letters(plane: Plane, frame: PictureFrame, size: float) -> str:
    """The orientation at the four edges, `size` mm high."""
    gap = 0.45 * size
    left, right, top, bottom = plane.letters
    middle, centre = frame.height / 2 + 0.36 * size, frame.width / 2
    places = (
        (left, gap, middle, "start"),
        (right, frame.width - gap, middle, "end"),
        (top, centre, gap + 0.75 * size, "middle"),
        (bottom, centre, frame.height - gap, "middle"),
    )
    return (
        f'<g class="letters" font-size="{size:.2f}">'
        + "".join(
            f'<text x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}">{letter}</text>' for letter, x, y, anchor in places
        )
        + "</g>"
    )


def scale_bar(frame: PictureFrame, length_mm: float, size: float) -> str:
    """A bar of that length at the lower left, its text 0.8 of `size` mm high."""
    gap = 0.6 * size
    x, y = gap, frame.height - gap
    return (
        f'<g class="scale" font-size="{0.8 * size:.2f}"><path d="M{x:.2f} {y - 0.3 * size:.2f}V{y:.2f}'
        f'H{x + length_mm:.2f}V{y - 0.3 * size:.2f}"/>'
        f'<text x="{x:.2f}" y="{y - 0.55 * size:.2f}">{length_mm:g} mm</text></g>'
    )

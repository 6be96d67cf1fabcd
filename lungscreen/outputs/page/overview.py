"""A look through the whole chest as SVG, with a numbered ring at each finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from lungscreen.outputs.page.planes import (
    PictureConfig,
    PictureFrame,
    Plane,
    image_tag,
    letters,
    on_plane,
    pixel_size,
    plane_extent,
    scale_bar,
)
from lungscreen.records import Lungs, Volume
from lungscreen.results.finished import MarkShape

__all__ = ["Chest", "look_through", "overview_svg"]

_PROJECTION_MM = 1.6
"""The overview needs no finer pixels in the slice."""


@dataclass(frozen=True, eq=False)
class Chest:
    """A volume as the overview takes it, on fewer rows and columns: clipped HU, well inside the lungs or not, and how
    much denser than air there.
    """

    volume: Volume
    hu: NDArray[np.int16]
    inside: NDArray[np.bool_]
    excess: NDArray[np.float32]


def look_through(volume: Volume, lungs: Lungs) -> Chest:
    """What the overviews in all planes are made of, so that it is made once."""
    step = max(int(_PROJECTION_MM / min(volume.geometry.spacing_mm[1:])), 1)
    hu = np.clip(volume.hu[:, ::step, ::step], -1000, 100)
    inside = lungs.mask[:, ::step, ::step] > 0
    # The mask's outermost voxels hold half of the chest wall and would outshine the vessels.
    for axis in (1, 2):
        inside = ndimage.minimum_filter1d(inside, 5, axis=axis, mode="constant")
    excess = np.where(inside, np.maximum(hu, -950), -950).astype(np.float32) + 950
    return Chest(volume, hu, inside, excess)


def overview_svg(chest: Chest, findings: Sequence[MarkShape], plane: Plane, config: PictureConfig) -> str:
    """All findings on a projection of the whole volume, numbered, each number a link to its finding."""
    volume = chest.volume
    frame = PictureFrame(0.0, 0.0, *plane_extent(volume, plane))
    picture = _projection(chest, plane)
    size = pixel_size(frame, config.overview_pixel_mm)
    image = image_tag(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC), frame, frame)
    places = [on_plane(volume, plane, shape.centre_mm) for shape in findings]
    text = 0.036 * max(frame.width, frame.height)
    return (
        f'<svg class="ct" role="img" aria-label="Overview, {plane.name}" '
        f'viewBox="0 0 {frame.width:.2f} {frame.height:.2f}">{image}'
        f"{letters(plane, frame, text)}{scale_bar(frame, 50.0, text)}{_markers(places, findings, frame, text)}</svg>"
    )


def _projection(chest: Chest, plane: Plane) -> NDArray[np.uint8]:
    """Grey levels of a look through the chest.

    The lungs by the root sum of squares of what is denser than air in them, which shows vessels and nodules with depth;
    the rest of the body faint, by its mean.
    """
    grey = 20 + 75 * (chest.hu.mean(axis=plane.through, dtype=np.float32) + 1000) / 1100
    covered = chest.inside.any(axis=plane.through)
    if covered.any():
        axes = "".join("zyx"[axis] for axis in range(3) if axis != plane.through)
        seen = np.sqrt(np.einsum(f"zyx,zyx->{axes}", chest.excess, chest.excess))
        grey = np.where(covered, 30 + 205 * seen / max(float(np.percentile(seen[covered], 99.7)), 1.0), grey)
    flat = grey[::-1] if plane.head_up else grey
    return np.ascontiguousarray(np.clip(flat, 0, 255).astype(np.uint8))


def _markers(
    places: Sequence[tuple[float, float]], findings: Sequence[MarkShape], frame: PictureFrame, size: float
) -> str:
    """A ring at each finding, its number beside it where it hides no other."""
    taken: list[tuple[float, float]] = list(places)
    parts = []
    for (down, across), shape in zip(places, findings, strict=True):
        radius = max(shape.diameter_mm / 2, 0.35 * size)
        label = _free_place(down, across, radius + 0.9 * size, taken, frame)
        taken.append(label)
        parts.append(
            f'<a href="#finding-{shape.number}"><circle cx="{across:.1f}" cy="{down:.1f}" r="{radius:.1f}"/>'
            f'<text x="{label[1]:.1f}" y="{label[0] + 0.36 * size:.1f}">{shape.number}</text></a>'
        )
    return f'<g class="markers" font-size="{size:.2f}">{"".join(parts)}</g>'


def _free_place(
    down: float, across: float, distance: float, taken: Sequence[tuple[float, float]], frame: PictureFrame
) -> tuple[float, float]:
    """Of sixteen places around a point, the one farthest from what is taken, inside the frame."""
    angles = np.arange(16) * np.pi / 8
    spots = np.stack([down + distance * np.sin(angles), across + distance * np.cos(angles)], axis=1)
    margin = 0.5 * distance
    inside = ((spots >= margin) & (spots <= np.array([frame.height, frame.width]) - margin)).all(axis=1)
    room = np.linalg.norm(spots[:, None] - np.array(taken)[None], axis=2).min(axis=1)
    best = int(np.argmax(np.where(inside, np.minimum(room, 1.2 * distance), -1.0)))
    return float(spots[best, 0]), float(spots[best, 1])

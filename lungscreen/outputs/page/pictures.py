"""CT pictures as SVG whose user unit is the millimetre: a grey image beneath, lines and letters above.

Planes are shown as radiologists hang them: the patient's right on the viewer's left, the head up, seen from the left
side in the sagittal plane. Plane coordinates are (down, across) in mm from the outer corner of the first voxel.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy import ndimage

from lungscreen.outputs.page.contour import contour_lines
from lungscreen.outputs.page.lines import axes_lines, crosshair
from lungscreen.records import Attribution, Lungs, Volume
from lungscreen.results.finished import MarkShape

__all__ = [
    "PLANES",
    "Chest",
    "PictureConfig",
    "Plane",
    "Window",
    "crop_svg",
    "earlier_svg",
    "heat_svg",
    "look_through",
    "overview_svg",
    "place_svg",
    "shown_voxel",
    "thumbnail_svg",
]

_JPEG_QUALITY = 88
_CONTOUR_STEP_MM = 0.4
"""Grid on which an outline is drawn."""
_HEAT_OPACITY = 0.65
"""Of the hottest place; what is colder is more transparent, so that the picture beneath stays readable."""
_HEAT_COLOURS = np.array([[0, 64, 0, 110], [0.35, 178, 24, 64], [0.7, 245, 130, 30], [1.0, 255, 236, 120]])
"""Heat and the red, green and blue that it has: from violet over red to yellow, darker where colder."""
_THUMBNAIL_MM, _THUMBNAIL_PIXEL_MM = 36.0, 0.5
_PROJECTION_MM = 1.6
"""The overview needs no finer pixels in the slice."""


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


@dataclass(frozen=True, eq=False)
class Chest:
    """A volume as the overview takes it, on fewer rows and columns: clipped HU, well inside the lungs or not, and how
    much denser than air there.
    """

    volume: Volume
    hu: NDArray[np.int16]
    inside: NDArray[np.bool_]
    excess: NDArray[np.float32]


PLANES = {
    "axial": Plane("axial", 0, 1, 2, head_up=False, letters=("R", "L", "A", "P")),
    "coronal": Plane("coronal", 1, 0, 2, head_up=True, letters=("R", "L", "H", "F")),
    "sagittal": Plane("sagittal", 2, 0, 1, head_up=True, letters=("A", "P", "H", "F")),
}


@dataclass(frozen=True)
class _Frame:
    """A square of the plane in mm."""

    top: float
    left: float
    height: float
    width: float


def shown_voxel(shape: MarkShape, volume: Volume) -> tuple[int, int, int]:
    """The voxel through which a finding's crops go: on the slice that its location names, inside the volume."""
    index = np.rint(volume.geometry.to_index(shape.centre_mm)).astype(int)
    index[0] = volume.geometry.shape[0] - shape.slice_from_top
    k, j, i = (int(n) for n in np.clip(index, 0, np.array(volume.geometry.shape) - 1))
    return k, j, i


def crop_svg(
    volume: Volume, shape: MarkShape, plane: Plane, config: PictureConfig, window: Window | None = None
) -> str:
    """One finding in one plane: grey image, outline with its axes, crosshair, scale bar, orientation letters.

    window: the lung window where None.
    """
    voxel = shown_voxel(shape, volume)
    frame = _crop_frame(volume, shape, plane, voxel, config)
    scale = frame.width / config.crop_mm
    image = _grey_image(volume.hu, volume, plane, voxel[plane.through], frame, config, window)
    lines = _outline_lines(volume, shape, plane, voxel[plane.through], frame)
    drawn = _as_path(lines) or _ring(volume, shape, plane, frame)
    window_name = "" if window is None else f", {window.name.lower()}"
    label = f"Finding {shape.number}, {plane.name}{window_name}"
    cross = crosshair(_in_frame(volume, shape, plane, frame), frame.width, frame.height)
    return (
        f'<svg class="ct" role="img" aria-label="{label}" viewBox="0 0 {frame.width:.2f} {frame.height:.2f}">'
        f'<rect class="beyond" width="100%" height="100%"/>{image}<g class="outline">{drawn}</g>'
        f"{axes_lines(lines) if plane.name == 'axial' else ''}{cross}"
        f"{_letters(plane, frame, 2.8 * scale)}{_scale_bar(frame, 10.0, 2.8 * scale)}</svg>"
    )


def heat_svg(volume: Volume, shape: MarkShape, plane: Plane, config: PictureConfig) -> str:
    """What the network looked at, in colour over the same crop; empty where nothing was attributed."""
    if shape.attribution is None:
        return ""
    voxel = shown_voxel(shape, volume)
    frame = _crop_frame(volume, shape, plane, voxel, config)
    coarse = dataclasses.replace(config, pixel_mm=2 * config.pixel_mm)
    image = _grey_image(volume.hu, volume, plane, voxel[plane.through], frame, coarse)
    drawn = _outline(volume, shape, plane, voxel[plane.through], frame)
    return (
        f'<svg class="ct" role="img" aria-label="Finding {shape.number}, {plane.name}, what the network looked at" '
        f'viewBox="0 0 {frame.width:.2f} {frame.height:.2f}"><rect class="beyond" width="100%" height="100%"/>{image}'
        f"{_heat_image(volume, shape.attribution, plane, voxel, frame)}"
        f'<g class="outline">{drawn}</g></svg>'
    )


def place_svg(volume: Volume, place: MarkShape, window: Window, config: PictureConfig, label: str) -> str:
    """A place that nothing outlined, in the axial plane, as large as it is."""
    plane, voxel = PLANES["axial"], shown_voxel(place, volume)
    frame = _crop_frame(volume, place, plane, voxel, config)
    image = _grey_image(volume.hu, volume, plane, voxel[0], frame, config, window)
    cross = crosshair(_in_frame(volume, place, plane, frame), frame.width, frame.height)
    return (
        f'<svg class="ct" role="img" aria-label="{label}, {window.name.lower()}" '
        f'viewBox="0 0 {frame.width:.2f} {frame.height:.2f}"><rect class="beyond" width="100%" height="100%"/>'
        f"{image}{cross}{_letters(plane, frame, 0.056 * frame.width)}"
        f"{_scale_bar(frame, 10.0, 0.056 * frame.width)}</svg>"
    )


def earlier_svg(volume: Volume, shape: MarkShape, config: PictureConfig) -> str:
    """The place of a finding in the earlier exam, as wide as the finding's own pictures; empty where it has no view."""
    view = shape.earlier_view
    if view is None:
        return ""
    side = _crop_side(volume, shape, config)
    place = MarkShape(shape.number, view.place_mm, view.place_mm, side / 2, slice_from_top=1)
    return place_svg(view.volume, place, config.lung, config, f"Finding {shape.number} at the earlier exam")


def thumbnail_svg(volume: Volume, mark: MarkShape, label: str) -> str:
    """A small axial picture of a mark, its outline where there is one."""
    config = PictureConfig(crop_mm=_THUMBNAIL_MM, pixel_mm=_THUMBNAIL_PIXEL_MM)
    plane, voxel = PLANES["axial"], shown_voxel(mark, volume)
    frame = _crop_frame(volume, mark, plane, voxel, config)
    image = _grey_image(volume.hu, volume, plane, voxel[0], frame, config)
    drawn = _outline(volume, mark, plane, voxel[0], frame) or _ring(volume, mark, plane, frame)
    return (
        f'<svg class="ct" role="img" aria-label="{label}" viewBox="0 0 {frame.width:.2f} {frame.height:.2f}">'
        f'<rect class="beyond" width="100%" height="100%"/>{image}<g class="outline">{drawn}</g></svg>'
    )


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
    frame = _Frame(0.0, 0.0, *_plane_extent(volume, plane))
    picture = _projection(chest, plane)
    size = _pixels(frame, config.overview_pixel_mm)
    image = _image_tag(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC), frame, frame)
    places = [_on_plane(volume, plane, shape.centre_mm) for shape in findings]
    text = 0.036 * max(frame.width, frame.height)
    return (
        f'<svg class="ct" role="img" aria-label="Overview, {plane.name}" '
        f'viewBox="0 0 {frame.width:.2f} {frame.height:.2f}">{image}'
        f"{_letters(plane, frame, text)}{_scale_bar(frame, 50.0, text)}{_markers(places, findings, frame, text)}</svg>"
    )


# -- places ----------------------------------------------------------------------------------------------------------
def _on_plane(volume: Volume, plane: Plane, point_mm: ArrayLike) -> tuple[float, float]:
    """LPS mm → (down, across) of the plane."""
    index = volume.geometry.to_index(point_mm)
    spacing = volume.geometry.spacing_mm
    down = (index[plane.down] + 0.5) * spacing[plane.down]
    if plane.head_up:
        down = volume.geometry.extent_mm[plane.down] - down
    return float(down), float((index[plane.across] + 0.5) * spacing[plane.across])


def _plane_extent(volume: Volume, plane: Plane) -> tuple[float, float]:
    return volume.geometry.extent_mm[plane.down], volume.geometry.extent_mm[plane.across]


def _crop_frame(
    volume: Volume, shape: MarkShape, plane: Plane, voxel: tuple[int, int, int], config: PictureConfig
) -> _Frame:
    """A square around the voxel, the same for all three planes of a finding."""
    side = _crop_side(volume, shape, config)
    down, across = _on_plane(volume, plane, volume.geometry.to_mm(voxel))
    return _Frame(down - side / 2, across - side / 2, side, side)


def _crop_side(volume: Volume, shape: MarkShape, config: PictureConfig) -> float:
    """How wide a finding's pictures are, mm."""
    side = max(config.crop_mm, 2.0 * min(shape.diameter_mm, 300.0))
    if shape.outline is not None:
        side = max(side, 1.6 * max(np.array(shape.outline.mask.shape) * np.array(volume.geometry.spacing_mm)))
    return float(side)


# -- grey images -----------------------------------------------------------------------------------------------------
def _slice(array: NDArray[Any], plane: Plane, at: int) -> NDArray[Any]:
    """One slice of a canonical array as it lies on the screen."""
    cut: NDArray[Any] = np.moveaxis(array, (plane.through, plane.down, plane.across), (0, 1, 2))[at]
    return cut[::-1] if plane.head_up else cut


def _grey_image(
    array: NDArray[Any],
    volume: Volume,
    plane: Plane,
    at: int,
    frame: _Frame,
    config: PictureConfig,
    window: Window | None = None,
) -> str:
    """The part of a slice that lies in the frame, in a window (the lung's where None), on square pixels."""
    window = window or config.lung
    part = _inside(volume, plane, frame)
    pixel_mm = config.pixel_mm * frame.width / config.crop_mm
    hu = _resampled(_slice(array, plane, at), volume, plane, part, pixel_mm, Image.Resampling.BICUBIC)
    low = window.level_hu - window.width_hu / 2
    grey = np.clip((hu - low) / window.width_hu * 255 + 0.5, 0, 255).astype(np.uint8)
    return _image_tag(Image.fromarray(grey), part, frame)


def _heat_image(
    volume: Volume, attribution: Attribution, plane: Plane, voxel: tuple[int, int, int], frame: _Frame
) -> str:
    """The heat on the plane through a voxel, as a transparent picture where its cube lies; empty where it does not."""
    heat = attribution.heat
    size = heat.shape[0]
    ahead = (voxel[plane.through] - volume.geometry.to_index(attribution.centre_mm)[plane.through]) * (
        volume.geometry.spacing_mm[plane.through]
    )
    layer = round((size - 1) / 2 + float(ahead))
    if not 0 <= layer < size:
        return ""
    cut = np.clip(_slice(heat, plane, layer), 0, 1)
    shown = np.stack([np.interp(cut, _HEAT_COLOURS[:, 0], _HEAT_COLOURS[:, n]) for n in (1, 2, 3)], axis=-1)
    opacity = 255 * _HEAT_OPACITY * cut[..., None]
    down, across = _on_plane(volume, plane, attribution.centre_mm)
    part = _Frame(down - size / 2, across - size / 2, size, size)
    pixels = np.concatenate([shown, opacity], axis=-1).round().astype(np.uint8)
    return _image_tag(Image.fromarray(pixels, "RGBA"), part, frame)


def _inside(volume: Volume, plane: Plane, frame: _Frame) -> _Frame:
    """The part of the frame that the volume covers."""
    height, width = _plane_extent(volume, plane)
    top, left = max(frame.top, 0.0), max(frame.left, 0.0)
    return _Frame(top, left, min(frame.top + frame.height, height) - top, min(frame.left + frame.width, width) - left)


def _resampled(
    slice_: NDArray[Any], volume: Volume, plane: Plane, part: _Frame, pixel_mm: float, how: Image.Resampling
) -> NDArray[np.float32]:
    """A rectangle of a slice on square pixels; voxels of any spacing become square millimetres."""
    rows_mm, columns_mm = volume.geometry.spacing_mm[plane.down], volume.geometry.spacing_mm[plane.across]
    box = (
        max(part.left / columns_mm, 0.0),
        max(part.top / rows_mm, 0.0),
        min((part.left + part.width) / columns_mm, slice_.shape[1]),
        min((part.top + part.height) / rows_mm, slice_.shape[0]),
    )
    image = Image.fromarray(np.ascontiguousarray(slice_, dtype=np.float32))
    return np.asarray(image.resize(_pixels(part, pixel_mm), how, box=box), dtype=np.float32)


def _pixels(frame: _Frame, pixel_mm: float) -> tuple[int, int]:
    return max(round(frame.width / pixel_mm), 1), max(round(frame.height / pixel_mm), 1)


def _image_tag(image: Image.Image, part: _Frame, frame: _Frame) -> str:
    file = io.BytesIO()
    kind = "png" if image.mode == "RGBA" else "jpeg"
    image.save(file, kind.upper(), quality=_JPEG_QUALITY, optimize=True)
    data = base64.b64encode(file.getvalue()).decode("ascii")
    return (
        f'<image x="{part.left - frame.left:.2f}" y="{part.top - frame.top:.2f}" width="{part.width:.2f}" '
        f'height="{part.height:.2f}" preserveAspectRatio="none" href="data:image/{kind};base64,{data}"/>'
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


# -- lines and letters -----------------------------------------------------------------------------------------------
def _outline(volume: Volume, shape: MarkShape, plane: Plane, at: int, frame: _Frame) -> str:
    """The outline where this slice cuts it, as one SVG path; empty where it does not."""
    return _as_path(_outline_lines(volume, shape, plane, at, frame))


def _as_path(lines_mm: Sequence[NDArray[np.float64]]) -> str:
    return f'<path d="{"".join(map(_path, lines_mm))}"/>' if lines_mm else ""


def _in_frame(volume: Volume, shape: MarkShape, plane: Plane, frame: _Frame) -> tuple[float, float]:
    """The mark's centre in a crop, (down, across) in mm."""
    down, across = _on_plane(volume, plane, shape.centre_mm)
    return down - frame.top, across - frame.left


def _outline_lines(volume: Volume, shape: MarkShape, plane: Plane, at: int, frame: _Frame) -> list[NDArray[np.float64]]:
    """The outline where this slice cuts it: closed lines (n, 2), (down, across) in mm of the frame."""
    if shape.outline is None:
        return []
    start, mask = shape.outline.start, shape.outline.mask
    layer = at - start[plane.through]
    if not 0 <= layer < mask.shape[plane.through]:
        return []
    cut = _slice(mask, plane, layer)
    step = np.array([volume.geometry.spacing_mm[plane.down], volume.geometry.spacing_mm[plane.across]])
    corner = np.array([start[plane.down], start[plane.across]]) * step
    if plane.head_up:
        corner[0] = volume.geometry.extent_mm[plane.down] - corner[0] - cut.shape[0] * step[0]
    # One empty voxel around it, then a finer grid: the line runs half-way between the voxels' centres, rounded.
    field = np.pad(cut.astype(np.float32), 1)
    extent = np.array(field.shape) * step
    rows, columns = np.maximum(np.rint(extent / _CONTOUR_STEP_MM), 1).astype(int).tolist()
    fine = np.asarray(Image.fromarray(field).resize((columns, rows), Image.Resampling.BICUBIC))
    fine_step = extent / np.array(fine.shape)
    shift = corner - step - np.array([frame.top, frame.left])
    return [(line + 0.5) * fine_step + shift for line in contour_lines(fine)]


def _path(line_mm: NDArray[np.float64]) -> str:
    points = " ".join(f"{across:.2f} {down:.2f}" for down, across in line_mm)
    return f"M{points}Z"


def _ring(volume: Volume, shape: MarkShape, plane: Plane, frame: _Frame) -> str:
    """A dashed circle of the detector's diameter where nothing outlined the finding."""
    if shape.outline is not None:
        return ""
    down, across = _in_frame(volume, shape, plane, frame)
    radius = max(shape.diameter_mm / 2, 2.0)
    return f'<circle class="guess" cx="{across:.2f}" cy="{down:.2f}" r="{radius:.2f}"/>'


def _letters(plane: Plane, frame: _Frame, size: float) -> str:
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


def _scale_bar(frame: _Frame, length_mm: float, size: float) -> str:
    gap = 0.6 * size
    x, y = gap, frame.height - gap
    return (
        f'<g class="scale" font-size="{0.8 * size:.2f}"><path d="M{x:.2f} {y - 0.3 * size:.2f}V{y:.2f}'
        f'H{x + length_mm:.2f}V{y - 0.3 * size:.2f}"/>'
        f'<text x="{x:.2f}" y="{y - 0.55 * size:.2f}">{length_mm:g} mm</text></g>'
    )


def _markers(places: Sequence[tuple[float, float]], findings: Sequence[MarkShape], frame: _Frame, size: float) -> str:
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
    down: float, across: float, distance: float, taken: Sequence[tuple[float, float]], frame: _Frame
) -> tuple[float, float]:
    """Of sixteen places around a point, the one farthest from what is taken, inside the frame."""
    angles = np.arange(16) * np.pi / 8
    spots = np.stack([down + distance * np.sin(angles), across + distance * np.cos(angles)], axis=1)
    margin = 0.5 * distance
    inside = ((spots >= margin) & (spots <= np.array([frame.height, frame.width]) - margin)).all(axis=1)
    room = np.linalg.norm(spots[:, None] - np.array(taken)[None], axis=2).min(axis=1)
    best = int(np.argmax(np.where(inside, np.minimum(room, 1.2 * distance), -1.0)))
    return float(spots[best, 0]), float(spots[best, 1])

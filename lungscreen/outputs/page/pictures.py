"""CT pictures as SVG whose user unit is the millimetre: a grey image beneath, lines and letters above."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lungscreen.outputs.page.contour import contour_lines
from lungscreen.outputs.page.lines import axes_lines, crosshair
from lungscreen.outputs.page.planes import (
    PLANES,
    PictureConfig,
    PictureFrame,
    Plane,
    Window,
    image_tag,
    in_frame,
    letters,
    on_plane,
    pixel_size,
    plane_extent,
    scale_bar,
)
from lungscreen.records import Attribution, Volume
from lungscreen.results.finished import MarkShape

__all__ = ["crop_svg", "earlier_svg", "heat_svg", "place_svg", "shown_voxel", "thumbnail_svg"]

_CONTOUR_STEP_MM = 0.4
"""Grid on which an outline is drawn."""
_HEAT_OPACITY = 0.65
"""Of the hottest place; what is colder is more transparent, so that the picture beneath stays readable."""
_HEAT_COLOURS = np.array([[0, 64, 0, 110], [0.35, 178, 24, 64], [0.7, 245, 130, 30], [1.0, 255, 236, 120]])
"""Heat and the red, green and blue that it has: from violet over red to yellow, darker where colder."""
_THUMBNAIL_MM, _THUMBNAIL_PIXEL_MM = 36.0, 0.5


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
    cross = crosshair(in_frame(volume, shape, plane, frame), frame.width, frame.height)
    return (
        f'<svg class="ct" role="img" aria-label="{label}" viewBox="0 0 {frame.width:.2f} {frame.height:.2f}">'
        f'<rect class="beyond" width="100%" height="100%"/>{image}<g class="outline">{drawn}</g>'
        f"{axes_lines(lines) if plane.name == 'axial' else ''}{cross}"
        f"{letters(plane, frame, 2.8 * scale)}{scale_bar(frame, 10.0, 2.8 * scale)}</svg>"
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
    cross = crosshair(in_frame(volume, place, plane, frame), frame.width, frame.height)
    return (
        f'<svg class="ct" role="img" aria-label="{label}, {window.name.lower()}" '
        f'viewBox="0 0 {frame.width:.2f} {frame.height:.2f}"><rect class="beyond" width="100%" height="100%"/>'
        f"{image}{cross}{letters(plane, frame, 0.056 * frame.width)}"
        f"{scale_bar(frame, 10.0, 0.056 * frame.width)}</svg>"
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


# -- places ----------------------------------------------------------------------------------------------------------
def _crop_frame(
    volume: Volume, shape: MarkShape, plane: Plane, voxel: tuple[int, int, int], config: PictureConfig
) -> PictureFrame:
    """A square around the voxel, the same for all three planes of a finding."""
    side = _crop_side(volume, shape, config)
    down, across = on_plane(volume, plane, volume.geometry.to_mm(voxel))
    return PictureFrame(down - side / 2, across - side / 2, side, side)


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
    frame: PictureFrame,
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
    return image_tag(Image.fromarray(grey), part, frame)


def _heat_image(
    volume: Volume, attribution: Attribution, plane: Plane, voxel: tuple[int, int, int], frame: PictureFrame
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
    down, across = on_plane(volume, plane, attribution.centre_mm)
    part = PictureFrame(down - size / 2, across - size / 2, size, size)
    pixels = np.concatenate([shown, opacity], axis=-1).round().astype(np.uint8)
    return image_tag(Image.fromarray(pixels, "RGBA"), part, frame)


def _inside(volume: Volume, plane: Plane, frame: PictureFrame) -> PictureFrame:
    """The part of the frame that the volume covers."""
    height, width = plane_extent(volume, plane)
    top, left = max(frame.top, 0.0), max(frame.left, 0.0)
    return PictureFrame(
        top, left, min(frame.top + frame.height, height) - top, min(frame.left + frame.width, width) - left
    )


def _resampled(
    slice_: NDArray[Any], volume: Volume, plane: Plane, part: PictureFrame, pixel_mm: float, how: Image.Resampling
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
    return np.asarray(image.resize(pixel_size(part, pixel_mm), how, box=box), dtype=np.float32)


# -- lines and letters -----------------------------------------------------------------------------------------------
def _outline(volume: Volume, shape: MarkShape, plane: Plane, at: int, frame: PictureFrame) -> str:
    """The outline where this slice cuts it, as one SVG path; empty where it does not."""
    return _as_path(_outline_lines(volume, shape, plane, at, frame))


def _as_path(lines_mm: Sequence[NDArray[np.float64]]) -> str:
    return f'<path d="{"".join(map(_path, lines_mm))}"/>' if lines_mm else ""


def _outline_lines(
    volume: Volume, shape: MarkShape, plane: Plane, at: int, frame: PictureFrame
) -> list[NDArray[np.float64]]:
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


def _ring(volume: Volume, shape: MarkShape, plane: Plane, frame: PictureFrame) -> str:
    """A dashed circle of the detector's diameter where nothing outlined the finding."""
    if shape.outline is not None:
        return ""
    down, across = in_frame(volume, shape, plane, frame)
    radius = max(shape.diameter_mm / 2, 2.0)
    return f'<circle class="guess" cx="{across:.2f}" cy="{down:.2f}" r="{radius:.2f}"/>'

"""Findings on CT as pixels: what key images and the PDF show. Planes hang as radiologists hang them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.spatial import ConvexHull, QhullError

from lungscreen.outputs.masks import finding_labels
from lungscreen.outputs.once import once_per_study
from lungscreen.outputs.page.contour import contour_lines
from lungscreen.records import Volume
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.results.finished import Finished

__all__ = [
    "FindingCrop",
    "Pictures",
    "finding_crop",
    "finding_voxel",
    "font",
    "overview_picture",
    "pictures_of",
    "slice_picture",
]

LEVEL_HU, WIDTH_HU = -600.0, 1500.0
"""Lung window."""
CROP_MM = 50.0
"""Side of a crop; a finding that fills more than half of it gets a larger one."""
CROP_PIXELS = 516
OVERVIEW_PIXELS = (516, 380)
"""Height and width that the overview fits into."""
OUTLINE, AXES, LETTERS = (255, 208, 64), (96, 216, 255), (230, 230, 230)
_FINER = 4
"""Pieces that a voxel's side is cut into to draw an outline."""

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FindingCrop:
    """A finding in the axial plane, drawn on: outline, its axes in this slice, orientation, scale."""

    image: Image.Image
    side_mm: float


class Pictures:
    """A study's pictures, each drawn once whoever asks: key images and the PDF show the same.

    lungs, labels: (z, y, x) on the volume's grid; labels are the findings' numbers.
    """

    def __init__(self, document: ReportDocument, volume: Volume, lungs: NDArray[Any], labels: NDArray[Any]) -> None:
        self.document, self.volume = document, volume
        self._lungs, self._labels = lungs, labels
        self._crops: dict[int, FindingCrop] = {}
        self._overview: Image.Image | None = None

    def crop(self, finding: ReportedFinding) -> FindingCrop:
        """The slice around a finding."""
        if finding.number not in self._crops:
            self._crops[finding.number] = finding_crop(self.volume, self._labels, finding, CROP_PIXELS)
        return self._crops[finding.number]

    def overview(self) -> Image.Image:
        """The look through the lungs, with all findings."""
        if self._overview is None:
            self._overview = overview_picture(self.volume, self._lungs, self.document.findings, *OVERVIEW_PIXELS)
        return self._overview


@once_per_study
def pictures_of(finished: Finished) -> Pictures:
    """The pictures of a study, which key images and the PDF share."""
    return Pictures(finished.document, finished.volume, finished.lungs.mask, finding_labels(finished))


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans in pixels."""
    name = f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    with as_file(files("lungscreen.outputs").joinpath("fonts", name)) as path:
        return ImageFont.truetype(str(path), size)


def finding_voxel(finding: ReportedFinding, volume: Volume) -> tuple[int, int, int]:
    """The voxel through which a finding is shown: on the slice that its location names, inside the volume."""
    index = np.rint(volume.geometry.to_index(finding.position_mm)).astype(int)
    index[0] = volume.geometry.shape[0] - finding.location.slice_from_top
    k, j, i = (int(n) for n in np.clip(index, 0, np.array(volume.geometry.shape) - 1))
    return k, j, i


def finding_crop(volume: Volume, labels: NDArray[Any], finding: ReportedFinding, pixels: int) -> FindingCrop:
    """A finding's axial slice around it.

    labels: (z, y, x) on the volume's grid, the finding's number.
    pixels: side of the picture.
    """
    k, j, i = finding_voxel(finding, volume)
    _, row_mm, column_mm = volume.geometry.spacing_mm
    mask = labels[k] == finding.number
    side = _side(mask, finding, (row_mm, column_mm))
    corner = np.array([(j + 0.5) * row_mm - side / 2, (i + 0.5) * column_mm - side / 2])
    scale = pixels / side
    image = _grey_crop(volume.hu[k], (row_mm, column_mm), corner, side, pixels).convert("RGB")
    draw = ImageDraw.Draw(image)
    lines = _outlines(mask, (row_mm, column_mm))
    for line in lines:
        points = (line - corner) * scale
        draw.line([(x, y) for y, x in np.concatenate([points, points[:1]])], fill=OUTLINE, width=2)
    if lines:
        for start, end in _axes(max(lines, key=len)):
            (y0, x0), (y1, x1) = (start - corner) * scale, (end - corner) * scale
            for colour, width in (((0, 0, 0), 4), (AXES, 2)):
                draw.line([(x0, y0), (x1, y1)], fill=colour, width=width)
    else:
        _ring(draw, finding, (np.array([j + 0.5, i + 0.5]) * (row_mm, column_mm) - corner) * scale, scale)
    _letters(draw, pixels)
    _scale_bar(draw, pixels, scale)
    return FindingCrop(image, side)


def slice_picture(volume: Volume, finding: ReportedFinding, side_mm: float, pixels: int) -> Image.Image:
    """The whole slice of a finding, a square where the crop was cut.

    pixels: the longer side of the picture.
    """
    k, j, i = finding_voxel(finding, volume)
    _, row_mm, column_mm = volume.geometry.spacing_mm
    height, width = volume.geometry.shape[1] * row_mm, volume.geometry.shape[2] * column_mm
    scale = pixels / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    image = Image.fromarray(_grey(volume.hu[k])).resize(size, Image.Resampling.BILINEAR).convert("RGB")
    y, x, half = (j + 0.5) * row_mm * scale, (i + 0.5) * column_mm * scale, side_mm * scale / 2
    ImageDraw.Draw(image).rectangle((x - half, y - half, x + half, y + half), outline=OUTLINE, width=2)
    return image


def overview_picture(
    volume: Volume, lungs: NDArray[Any], findings: Sequence[ReportedFinding], height: int, widest: int
) -> Image.Image:
    """A look through the lungs from the front, the findings' numbers on it.

    lungs: (z, y, x) on the volume's grid, above 0 inside.
    height, widest: of the picture, in pixels.
    """
    spacing = np.array(volume.geometry.spacing_mm)
    extent = np.array(volume.geometry.shape) * spacing
    scale = min(height / extent[0], widest / extent[2])
    size = max(round(extent[2] * scale), 1), max(round(extent[0] * scale), 1)
    image = Image.fromarray(_look_through(volume.hu, lungs, spacing)).resize(size, Image.Resampling.BICUBIC)
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    text = max(size[1] // 24, 13)
    for finding in reversed(findings):
        k, _, i = volume.geometry.to_index(finding.position_mm)
        x, y = (i + 0.5) * spacing[2] * scale, size[1] - (k + 0.5) * spacing[0] * scale
        radius = max((finding.detector_diameter_mm or 0.0) / 2 * scale, 0.45 * text)
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=OUTLINE, width=2)
        left = x > size[0] / 2
        place = (x - radius - 3, y) if left else (x + radius + 3, y)
        anchor = "rm" if left else "lm"
        number = str(finding.number)
        draw.text(place, number, fill=OUTLINE, font=font(text, bold=True), anchor=anchor, stroke_width=2, stroke_fill=0)
    for letter, x, anchor in (("R", 6, "lm"), ("L", size[0] - 6, "rm")):
        draw.text((x, size[1] / 2), letter, fill=LETTERS, font=font(text, bold=True), anchor=anchor)
    return image


def _look_through(hu: NDArray[Any], lungs: NDArray[Any], spacing_mm: Points) -> NDArray[np.uint8]:
    """Vessels and nodules by the root sum of squares of what is denser than air in the lungs; the body faint.

    Every few rows are enough: the eye sees depth, not rows.
    """
    rows, columns = (max(int(mm / step), 1) for mm, step in zip((2.5, 1.4), spacing_mm[1:], strict=True))
    cut = np.clip(hu[:, ::rows, ::columns], -1000, 100)
    inside = lungs[:, ::rows, ::columns] > 0
    # the mask's outermost voxels hold half of the chest wall and would outshine the vessels
    for axis in (1, 2):
        inside &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    excess = np.where(inside, np.maximum(cut, -950), -950).astype(np.float32) + 950
    grey = 20 + 75 * (cut.mean(axis=1, dtype=np.float32) + 1000) / 1100
    covered = inside.any(axis=1)
    if covered.any():
        seen = np.sqrt(np.einsum("zyx,zyx->zx", excess, excess))
        grey = np.where(covered, 30 + 205 * seen / max(float(np.percentile(seen[covered], 99.7)), 1.0), grey)
    return np.ascontiguousarray(np.clip(grey[::-1], 0, 255).astype(np.uint8))


def _grey(hu: NDArray[Any]) -> NDArray[np.uint8]:
    low = LEVEL_HU - WIDTH_HU / 2
    grey: NDArray[np.uint8] = np.clip((hu.astype(np.float32) - low) / WIDTH_HU * 255 + 0.5, 0, 255).astype(np.uint8)
    return grey


def _grey_crop(
    hu: NDArray[Any], spacing_mm: tuple[float, float], corner_mm: Points, side_mm: float, pixels: int
) -> Image.Image:
    """A square of a slice; black beyond it."""
    step = np.array(spacing_mm)
    low = np.floor(corner_mm / step).astype(int) - 2
    high = np.ceil((corner_mm + side_mm) / step).astype(int) + 2
    padded = np.full(tuple(high - low), -32768, np.int16)
    inside_low, inside_high = np.maximum(low, 0), np.minimum(high, hu.shape)
    (r0, c0), (r1, c1) = inside_low - low, inside_high - low
    padded[r0:r1, c0:c1] = hu[inside_low[0] : inside_high[0], inside_low[1] : inside_high[1]]
    (top, left), (bottom, right) = corner_mm / step - low, (corner_mm + side_mm) / step - low
    return Image.fromarray(_grey(padded)).resize(
        (pixels, pixels), Image.Resampling.BICUBIC, box=(float(left), float(top), float(right), float(bottom))
    )


def _side(mask: NDArray[np.bool_], finding: ReportedFinding, spacing_mm: tuple[float, float]) -> float:
    size = finding.measurement.mean_diameter_mm if finding.measurement else finding.detector_diameter_mm
    side = max(CROP_MM, 2.0 * min(size or 0.0, 300.0))
    for axis, step in enumerate(spacing_mm):
        along = np.flatnonzero(mask.any(axis=1 - axis))
        if len(along):
            side = max(side, 1.6 * (along[-1] - along[0] + 1) * step)
    return float(side)


def _outlines(mask: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> list[Points]:
    """Closed lines (n, 2) around a mask as (down, across) in mm from the slice's corner, half-way between voxels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    field = np.pad(cut.astype(np.float32), 1)
    size = (field.shape[1] * _FINER, field.shape[0] * _FINER)
    fine = np.asarray(Image.fromarray(field).resize(size, Image.Resampling.BICUBIC))
    corner = np.array([rows[0] - 1, columns[0] - 1])
    return [((line + 0.5) / _FINER + corner) * spacing_mm for line in contour_lines(fine)]


def _axes(line: Points) -> Sequence[tuple[Points, Points]]:
    """The longest axis of an outline and the longest chord of its hull at right angles to it."""
    try:
        hull = line[ConvexHull(line).vertices]
    except QhullError:  # a line without area
        return []
    apart = np.linalg.norm(hull[:, None] - hull[None], axis=2)
    first, second = (hull[n] for n in np.unravel_index(int(apart.argmax()), apart.shape))
    length = float(apart.max())
    along = (second - first) / length
    across = np.array([-along[1], along[0]])
    t, w = (hull - first) @ along, (hull - first) @ across
    at = np.sort(t)
    upper, lower = _border(t, w, length), _border(t, -w, length)
    width = np.interp(at, *upper) + np.interp(at, *lower)
    best = float(at[int(width.argmax())])
    middle = first + along * best
    return [
        (first, second),
        (middle + across * np.interp(best, *upper), middle - across * np.interp(best, *lower)),
    ]


def _border(t: Points, w: Points, length: float) -> tuple[Points, Points]:
    """One side of a hull as a function of the place along the long axis."""
    side = w > 0
    order = np.argsort(t[side])
    return np.concatenate([[0.0], t[side][order], [length]]), np.concatenate([[0.0], w[side][order], [0.0]])


def _ring(draw: ImageDraw.ImageDraw, finding: ReportedFinding, centre: Points, scale: float) -> None:
    """A circle of the detector's diameter where nothing outlined the finding in this slice."""
    radius = max((finding.detector_diameter_mm or 0.0) / 2, 2.0) * scale
    y, x = centre
    for start in range(0, 360, 24):
        draw.arc((x - radius, y - radius, x + radius, y + radius), start, start + 14, fill=OUTLINE, width=2)


def _letters(draw: ImageDraw.ImageDraw, pixels: int) -> None:
    size, gap, middle = max(pixels // 30, 12), max(pixels // 60, 6), pixels / 2
    places = (("R", gap, middle, "lm"), ("L", pixels - gap, middle, "rm"), ("A", middle, gap, "mt"))
    for letter, x, y, anchor in (*places, ("P", middle, pixels - gap, "mb")):
        draw.text(
            (x, y), letter, fill=LETTERS, font=font(size, bold=True), anchor=anchor, stroke_width=1, stroke_fill=0
        )


def _scale_bar(draw: ImageDraw.ImageDraw, pixels: int, scale: float) -> None:
    gap, length = max(pixels // 40, 8), 10.0 * scale
    y = pixels - gap
    for colour, width in (((0, 0, 0), 4), (LETTERS, 2)):
        draw.line([(gap, y - gap), (gap, y), (gap + length, y), (gap + length, y - gap)], fill=colour, width=width)
    size = max(pixels // 36, 11)
    place = (gap + length / 2, y - gap / 2)
    draw.text(place, "10 mm", fill=LETTERS, font=font(size), anchor="mb", stroke_width=1, stroke_fill=0)

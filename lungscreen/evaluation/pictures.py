"""Misses and false marks, images ─► contact sheets: each place in three planes, as PNG."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.errors import LungscreenError, Notice
from lungscreen.evaluation.detection import DetectionResult
from lungscreen.geometry import Vector
from lungscreen.records import Series, Volume

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["Place", "draw_places", "false_places", "missed_places"]

SIDE_MM = 60.0
"""Each picture shows a square of this side, the place in its middle."""
PIXELS = 150
WINDOW_HU = (-1350.0, 150.0)
"""Black and white: a lung window, -600 ± 750 HU."""
GAP, CAPTION = 6, 16
INK, RING = (235, 238, 240), (255, 176, 32)
COLUMNS = 2
"""Places side by side."""
DEFAULT_RING_MM = 10.0
"""Circle of a place without a size."""

Progress = Callable[[Iterable[str]], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Place:
    """One place to draw, with its caption. `diameter_mm` is drawn as a circle, negative where unknown."""

    series_uid: str
    centre_mm: Vector
    diameter_mm: float
    caption: str


def missed_places(result: DetectionResult, most: int) -> tuple[Place, ...]:
    """The largest misses, numbered as the rows of misses.csv; then those found below the operating point, if one is
    given.
    """
    missed = [
        Place(m.series_uid, m.centre_mm, m.diameter_mm, f"miss {n}: {m.diameter_mm:.1f} mm {m.type}".rstrip())
        for n, m in enumerate(result.missed, start=1)
    ]
    threshold = (result.figures["at_threshold"] or {}).get("threshold", -math.inf)
    weak = sorted((o.score, o.row, o) for o in result.outcomes if o.score is not None and o.score < threshold)
    missed += [
        Place(
            o.series_uid, o.centre_mm, o.diameter_mm, f"below {threshold:g}: {o.diameter_mm:.1f} mm, score {score:.3g}"
        )
        for score, _, o in weak
    ]
    return tuple(missed[:most])


def false_places(result: DetectionResult, most: int) -> tuple[Place, ...]:
    """The worst false marks; numbers are the ranks of false_positives.csv."""
    return tuple(
        Place(m.series_uid, m.centre_mm, -1.0, f"false mark {n}: score {m.score:.3g}")
        for n, m in enumerate(result.worst_false[:most], start=1)
    )


def draw_places(
    folder: Path, sheets: Mapping[str, Sequence[Place]], progress: Progress = iter
) -> tuple[dict[str, bytes | None], tuple[Notice, ...]]:
    """One contact sheet (PNG) for each entry of `sheets`, from the scans found below `folder`.

    A row is a place: axial, coronal (head up), sagittal (front at the left), `SIDE_MM` wide. Each scan is read once.
    A sheet without a picture is None; a scan that is missing or cannot be read is a `picture-missing` notice.
    """
    from lungscreen.series import find_series

    inventory = find_series([folder])
    found = {one.series_uid: one for study in inventory.studies for one in study.series}
    wanted: dict[str, list[Place]] = {}
    for place in itertools.chain(*sheets.values()):
        wanted.setdefault(place.series_uid, []).append(place)
    tiles: dict[Place, Image.Image] = {}
    notices = []
    for uid in progress(list(wanted)):
        volume, trouble = _read(found.get(uid))
        if volume is None:
            notices.append(Notice("picture-missing", f"no picture of series {uid[:80]}: {trouble}"))
            continue
        tiles |= {place: _tile(place, volume) for place in wanted[uid]}
    return {name: _sheet([tiles[p] for p in places if p in tiles]) for name, places in sheets.items()}, tuple(notices)


def _read(series: Series | None) -> tuple[Volume | None, str]:
    from lungscreen.volume import VolumeConfig, build_volume

    if series is None:
        return None, "it is not among the images"
    try:
        return build_volume(series, VolumeConfig(min_slices=1, min_extent_mm=0.0)), ""
    except LungscreenError as error:
        return None, error.code


def _tile(place: Place, volume: Volume) -> Image.Image:
    """Three planes side by side with their caption."""
    from PIL import Image, ImageDraw

    tile = Image.new("RGB", (3 * PIXELS + 2 * GAP, PIXELS + CAPTION), (0, 0, 0))
    draw = ImageDraw.Draw(tile)
    draw.text((2, 2), place.caption, fill=INK)
    radius = (place.diameter_mm if place.diameter_mm > 0 else DEFAULT_RING_MM) / 2 / SIDE_MM * PIXELS + 2
    # steps to the right and down, in LPS: axial as seen from the feet, coronal from the front, sagittal from the left
    for n, (right, down) in enumerate((((1, 0, 0), (0, 1, 0)), ((1, 0, 0), (0, 0, -1)), ((0, 1, 0), (0, 0, -1)))):
        left = n * (PIXELS + GAP)
        tile.paste(Image.fromarray(_plane(place.centre_mm, volume, right, down)), (left, CAPTION))
        x, y = left + PIXELS / 2, CAPTION + PIXELS / 2
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), outline=RING)
    return tile


def _plane(centre_mm: Vector, volume: Volume, right: tuple[int, ...], down: tuple[int, ...]) -> NDArray[np.uint8]:
    """A square of the volume around a point, sampled linearly, in the lung window; air outside the volume."""
    steps = (np.arange(PIXELS) + 0.5) / PIXELS * SIDE_MM - SIDE_MM / 2
    points = np.asarray(centre_mm) + steps[:, None, None] * np.array(down) + steps[None, :, None] * np.array(right)
    index = np.moveaxis(volume.geometry.to_index(points), -1, 0)
    hu = ndimage.map_coordinates(volume.hu, index, output=np.float32, order=1, mode="constant", cval=WINDOW_HU[0])
    grey = (hu - WINDOW_HU[0]) / (WINDOW_HU[1] - WINDOW_HU[0])
    return np.asarray(np.clip(grey, 0, 1) * 255).astype(np.uint8)


def _sheet(tiles: Sequence[Image.Image]) -> bytes | None:
    from PIL import Image

    if not tiles:
        return None
    width, height = tiles[0].size
    rows = -(-len(tiles) // COLUMNS)
    columns = min(COLUMNS, len(tiles))
    size = (columns * (width + 2 * GAP) - 2 * GAP, rows * (height + 2 * GAP) - 2 * GAP)
    sheet = Image.new("RGB", size, (30, 34, 38))
    for n, tile in enumerate(tiles):
        sheet.paste(tile, (n % COLUMNS * (width + 2 * GAP), n // COLUMNS * (height + 2 * GAP)))
    file = io.BytesIO()
    sheet.save(file, format="PNG")
    return file.getvalue()

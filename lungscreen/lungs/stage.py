"""Volume ─► Lungs.

A segmenter finds them; what is measured of them and said about them is the same whichever it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

import numpy as np

from lungscreen.errors import Notice, VolumeError
from lungscreen.geometry import Vector
from lungscreen.lungs.mask import LungMask
from lungscreen.lungs.references import reference_notices
from lungscreen.records import Lungs, Volume

__all__ = ["SEGMENTERS", "LungSegmenter", "LungsConfig", "segment_lungs"]


@dataclass(frozen=True, slots=True)
class LungsConfig:
    """How lungs are found.

    coarse_mm: voxel size of the grid on which everything but the border is decided.
    air_hu: darker is air or lung.
    closing_mm: radius of the ball that takes in vessels and small nodules.
    airway_wall_mm: taken out around the lumen of trachea and main bronchi.
    min_ml: less lung than this is none.
    small_ml: less than this is said.
    small_share: a lung that has less than this share of both is said (a left lung has about 0.46).
    cut_mm2: lung of this area in the first or last slice goes on beyond it.
    opacity_ml: a larger dense region, on the chest wall or against the mediastinum, is said.
    left_out_ml: more air that looks like lung, and is in no lung, is said.
    segmenter: which finds them, by its name in `SEGMENTERS`.
    """

    coarse_mm: float = 2.2
    air_hu: float = -320.0
    closing_mm: float = 10.0
    airway_wall_mm: float = 3.0
    min_ml: float = 300.0
    small_ml: float = 1500.0
    small_share: float = 0.36
    cut_mm2: float = 200.0
    opacity_ml: float = 35.0
    left_out_ml: float = 20.0
    segmenter: str = "classical"

    def __post_init__(self) -> None:
        if self.segmenter not in SEGMENTERS:
            raise ValueError(f"segmenter: expected one of {', '.join(SEGMENTERS)}, got {self.segmenter!r}")
        sizes = (self.coarse_mm, self.closing_mm, self.min_ml, self.small_ml, self.cut_mm2, self.opacity_ml)
        if min(*sizes, self.left_out_ml) <= 0 or self.airway_wall_mm < 0:
            raise ValueError("expected positive sizes in mm, mm² and ml")
        if not -900 <= self.air_hu <= -150:
            raise ValueError(f"expected air_hu between -900 and -150, got {self.air_hu}")
        if not 0 < self.small_share < 0.5:
            raise ValueError(f"expected small_share between 0 and 0.5, got {self.small_share}")


class LungSegmenter(Protocol):
    """Anything that finds both lungs in a canonical volume: trachea and main bronchi out, nodules and masses in."""

    def find_lungs(self, volume: Volume) -> LungMask:
        """Both lungs on the volume's grid.

        Errors: `no-lungs`.
        """
        ...


SEGMENTERS: Mapping[str, str] = {
    "classical": "lungscreen.lungs.classical.ClassicalSegmenter",
}
"""The segmenters that `[lungs] segmenter` names, each with its class: made with a `LungsConfig`, it is a
`LungSegmenter`. To add one: a file, and its line here. Only the one that is named is imported; one with weights
keeps what it loaded between volumes."""


def segment_lungs(volume: Volume, config: LungsConfig) -> Lungs:
    """Find both lungs in a canonical volume, measure them and say what is doubtful.

    The mask is uint8 (z, y, x) on the volume's grid, 1 right, 2 left.

    Errors: `no-lungs`.
    """
    found = _segmenter(config).find_lungs(volume)
    mask, opacity_ml = found.mask, found.opacity_ml
    large = opacity_ml > config.opacity_ml
    right_ml, left_ml = (np.count_nonzero(mask == n) * volume.geometry.voxel_mm3 / 1000 for n in (1, 2))
    if right_ml + left_ml < config.min_ml:
        raise VolumeError("no-lungs", f"no more than {right_ml + left_ml:.0f} ml of lung was found")
    base_cut, apex_cut = (
        np.count_nonzero(mask[end]) * float(np.prod(volume.geometry.spacing_mm[1:])) > config.cut_mm2 for end in (0, -1)
    )
    return Lungs(
        mask,
        right_ml,
        left_ml,
        apex_cut=bool(apex_cut),
        base_cut=bool(base_cut),
        incomplete=large,
        opacity_ml=opacity_ml if large else None,
        opacity_mm=_place(volume, found.opacity_at) if large else None,
        left_out=found.left_out_ml > config.left_out_ml,
        notices=(
            *_cut_notices(bool(apex_cut), bool(base_cut)),
            *_size_notices(right_ml, left_ml, config),
            *_doubt_notices(found, config),
            *reference_notices(found.references),
        ),
    )


def _segmenter(config: LungsConfig) -> LungSegmenter:
    module, _, name = SEGMENTERS[config.segmenter].rpartition(".")
    made: LungSegmenter = getattr(import_module(module), name)(config)
    return made


def _place(volume: Volume, index: tuple[float, float, float] | None) -> Vector | None:
    """A voxel's place, LPS mm."""
    if index is None:
        return None
    x, y, z = (float(value) for value in volume.geometry.to_mm(index))
    return x, y, z


def _cut_notices(apex_cut: bool, base_cut: bool) -> Iterator[Notice]:
    if apex_cut:
        yield Notice("lung-apex-cut", "the scan ends within the lungs at the top: the apex was not seen whole")
    if base_cut:
        yield Notice("lung-base-cut", "the scan ends within the lungs at the bottom: the base was not seen whole")


def _size_notices(right_ml: float, left_ml: float, config: LungsConfig) -> Iterator[Notice]:
    for side, ml in (("right", right_ml), ("left", left_ml)):
        if ml == 0:
            yield Notice("lung-missing", f"no air-filled {side} lung was found")
        elif ml < config.small_share * (right_ml + left_ml):
            text = f"the {side} lung has {ml:.0f} ml of {right_ml + left_ml:.0f} ml: a part may be airless and unread"
            yield Notice("lung-unequal", text)
    if right_ml + left_ml < config.small_ml:
        yield Notice("lung-small", f"both lungs together have {right_ml + left_ml:.0f} ml")


def _doubt_notices(found: LungMask, config: LungsConfig) -> Iterator[Notice]:
    if found.opacity_ml > config.opacity_ml:
        yield Notice("lung-incomplete", f"large opacity ({found.opacity_ml:.0f} ml): lung may be incomplete")
    if found.left_out_ml > config.left_out_ml:
        yield Notice("lung-left-out", f"{found.left_out_ml:.0f} ml of air that looks like lung were not searched")
    if found.upside_down:
        yield Notice("upside-down", "the trachea lies at the bottom: head and feet are probably exchanged")
    if not found.airways_found:
        yield Notice("airways-not-found", "no trachea was found: the lungs' mask may hold large airways")

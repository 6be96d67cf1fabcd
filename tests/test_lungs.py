"""Lungs: phantoms made of ellipsoids, whose truth is known to the voxel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.errors import VolumeError
from lungscreen.geometry import Geometry
from lungscreen.lungs import LungsConfig, segment_lungs
from lungscreen.records import Acquisition, Exam, Lungs, Patient, Series, Volume

SPACING = (2.5, 1.6, 1.5)
"""mm along (z, y, x): anisotropic on purpose."""

SHAPE = (120, 200, 250)


@dataclass
class Chest:
    """A chest of ellipsoids around the origin (mm: x to the left, y back, z up), painted one after the other."""

    shape: tuple[int, int, int] = SHAPE
    origin_mm: tuple[float, float, float] = (-187.0, -160.0, -150.0)
    hu: NDArray[np.float32] = field(init=False)
    truth: NDArray[np.uint8] = field(init=False)

    def __post_init__(self) -> None:
        self.geometry = Geometry.axial(self.shape, SPACING, self.origin_mm)
        self.hu = np.full(self.shape, -1000, np.float32)
        self.truth = np.zeros(self.shape, np.uint8)
        z, y, x = (
            np.arange(n, dtype=np.float32) * s + o
            for n, s, o in zip(self.shape, SPACING, self.origin_mm[::-1], strict=True)
        )
        self.z, self.y, self.x = z[:, None, None], y[None, :, None], x[None, None, :]

    def ball(self, centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.bool_]:
        """Voxels of an ellipsoid; an infinite radius makes a cylinder."""
        away = [(a - c) / r for a, c, r in zip((self.x, self.y, self.z), centre, radii, strict=True)]
        return np.asarray(away[0] ** 2 + away[1] ** 2 + away[2] ** 2 <= 1)

    def paint(self, where: NDArray[np.bool_], hu: float, truth: int | None = None) -> None:
        self.hu[where] = hu
        if truth is not None:
            self.truth[where] = truth

    def volume(self, noise_hu: float = 30.0) -> Volume:
        noise = np.random.default_rng(5).normal(0, noise_hu, self.shape).astype(np.float32)
        hu = np.clip(self.hu + noise, -1024, 3000).astype(np.int16)
        return Volume(hu, self.geometry, Series("image", "test", Patient(), Exam("test"), Acquisition()))


def chest(lung_hu: float = -850, gap_mm: float = 10, **kwargs: object) -> Chest:
    """Body, two lungs over a dome of diaphragm, heart, vessels, trachea with main bronchi."""
    made = Chest(**kwargs)  # type: ignore[arg-type]
    made.paint(made.ball((0, 0, 0), (170, 115, np.inf)), 40)
    heart = made.ball((15, -30, -40), (50, 45, 55))
    for label, side in ((1, -1), (2, 1)):
        lung = made.ball((side * (62 + gap_mm / 2), 0, -30), (62, 90, 140)) & (made.z > -90)
        lung &= ~made.ball((side * 65, 0, -95), (58, 80, 45)) & ~heart
        made.paint(lung, lung_hu, label)
        for n in range(6):
            made.paint(made.ball((side * 70, -50 + 20 * n, 0), (50, 3, 3)) & lung, 40)
    made.paint(made.ball((0, 5, 0), (11, 11, np.inf)) & (made.z > 20), 40, 0)
    made.paint(made.ball((0, 5, 0), (8, 8, np.inf)) & (made.z > 20), -1000, 0)
    for side in (-1, 1):
        along = np.abs(made.x) / 30
        tube = (side * made.x >= 0) & (along <= 1)
        across = np.hypot(made.y - 5, made.z - 20 + 20 * along)
        made.paint(tube & (across <= 9), 40, 0)
        made.paint(tube & (across <= 6), -1000, 0)
    return made


def dice(lungs: Lungs, truth: NDArray[np.uint8], label: int) -> float:
    found, true = lungs.mask == label, truth == label
    return float(2 * (found & true).sum() / (found.sum() + true.sum()))


def codes(lungs: Lungs) -> set[str]:
    return {notice.code for notice in lungs.notices}


def assert_good(lungs: Lungs, made: Chest, least: float = 0.98) -> None:
    assert min(dice(lungs, made.truth, 1), dice(lungs, made.truth, 2)) >= least


def test_both_lungs_of_a_plain_chest_are_found_without_airways_and_with_vessels() -> None:
    made = chest()
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert_good(lungs, made)
    assert codes(lungs) == set()
    voxel_ml = made.geometry.voxel_mm3 / 1000
    assert lungs.right_ml == pytest.approx((made.truth == 1).sum() * voxel_ml, rel=0.03)
    assert lungs.left_ml == pytest.approx((made.truth == 2).sum() * voxel_ml, rel=0.03)
    assert lungs.mask.dtype == np.uint8
    assert lungs.mask.shape == made.shape


@pytest.mark.parametrize("hu", [40, -300])
def test_a_nodule_on_the_chest_wall_belongs_to_the_lung(hu: float) -> None:
    made = chest()
    nodule = made.ball((-118, 0, 0), (13, 13, 13)) & (made.truth == 1)
    made.paint(nodule, hu)
    lungs = segment_lungs(made.volume(), LungsConfig())
    assert (lungs.mask[nodule] == 1).mean() > 0.95
    assert_good(lungs, made)


def test_an_object_without_lungs_is_refused() -> None:
    made = Chest()
    made.paint(made.ball((0, 0, 0), (150, 100, np.inf)), 0)
    with pytest.raises(VolumeError) as refused:
        segment_lungs(made.volume(), LungsConfig())
    assert refused.value.code == "no-lungs"

"""Sheets in made lungs: whether one that touches a nodule is seen, and whether vessels, bands and walls are taken for
one.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.geometry import Geometry
from lungscreen.measure import find_fissure, locate_nodule
from lungscreen.records import Acquisition, Exam, Outline, Patient, Series, Volume

SPACING = (1.25, 0.8, 0.7)
SHAPE = (52, 84, 92)
MIDDLE = np.array(SHAPE) // 2


def places() -> NDArray[np.float64]:
    """Each voxel's mm from the middle, (z, y, x)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij"), axis=-1)
    return (index - MIDDLE) * np.array(SPACING)


AT = places()


def scan(extra: NDArray[np.float64], spacing: tuple[float, float, float] = SPACING, noise: float = 20.0) -> Volume:
    """Aerated lung with something in it."""
    hu = -860.0 + extra + np.random.default_rng(4).normal(0, noise, SHAPE)
    geometry = Geometry.axial(SHAPE, spacing, (13.0, -40.0, 120.0))
    series = Series("image", "1.2", Patient(), Exam("1.3"), Acquisition())
    return Volume(np.clip(np.rint(hu), -1024, 3000).astype(np.int16), geometry, series)


def sheet(distance_mm: float, tilt: float = 0.5, bend: float = 0.0) -> NDArray[np.float64]:
    """What a fissure adds: a thin plane, oblique to every axis, so far from the middle, perhaps bent."""
    normal = np.array([1.0, tilt, 0.3]) / np.linalg.norm([1.0, tilt, 0.3])
    away = AT @ normal - distance_mm + bend * (AT[..., 1] ** 2 + AT[..., 2] ** 2)
    return np.asarray(90.0 * np.exp(-(away**2) / (2 * 0.75**2)))


def no_sheet(kind: str) -> NDArray[np.float64]:
    """Things beside a ball of 3.5 mm that are no fissure."""
    x, along = AT[..., 2], np.abs((AT[..., 1] + 2.0) % 4.0 - 2.0)
    if kind == "a row of thin vessels":
        return np.asarray(250.0 * np.exp(-(along**2 + AT[..., 0] ** 2) / 2.0))
    if kind == "a narrow band":
        return np.where(np.abs(AT[..., 1]) < 2.5, sheet(0.0, 0.0), 0.0)
    if kind == "a thick dense band":
        return np.where(np.abs(AT[..., 0]) < 2.0, 700.0, 0.0)
    if kind == "a line along the chest wall":
        return np.where(x > 7.0, 900.0, 120.0 * np.exp(-((x - 4.3) ** 2) / 1.2))
    if kind == "a sheet that ends before it":
        return np.where(x > 9.5, sheet(0.0), 0.0)
    return np.zeros(SHAPE)


def ball(radius_mm: float = 3.5) -> Outline:
    """An outline around the middle."""
    reach = np.ceil(radius_mm / np.array(SPACING)).astype(int)
    box = tuple(slice(m - r, m + r + 1) for m, r in zip(MIDDLE, reach, strict=True))
    return Outline(tuple(int(v) for v in MIDDLE - reach), np.linalg.norm(AT[box], axis=-1) <= radius_mm)  # type: ignore[arg-type]


def with_nodule(extra: NDArray[np.float64], radius_mm: float = 3.5) -> NDArray[np.float64]:
    return np.maximum(extra, 850.0 * np.clip(radius_mm + 0.5 - np.linalg.norm(AT, axis=-1), 0, 1))


@pytest.mark.parametrize(
    ("distance_mm", "touches"), [(0.0, True), (3.0, True), (-3.4, True), (7.0, False), (-9.0, False)]
)
def test_a_sheet_through_or_beside_the_outline_touches_it(distance_mm: float, touches: bool) -> None:
    """Ball of 3.5 mm radius; a sheet at its edge touches, one that lies apart is told with its distance."""
    seen = find_fissure(scan(with_nodule(sheet(distance_mm))), ball())
    assert seen is not None
    assert seen.touches == touches
    assert seen.distance_mm == (0.0 if touches else pytest.approx(abs(distance_mm) - 3.5, abs=1.0))


def test_a_bent_sheet_is_one_sheet() -> None:
    """1 mm of sag at 10 mm, as fissures have near the hilum."""
    seen = find_fissure(scan(with_nodule(sheet(0.0, bend=0.01))), ball())
    assert seen is not None
    assert seen.touches


def test_a_sheet_that_is_far_away_is_not_told() -> None:
    seen = find_fissure(scan(with_nodule(sheet(17.0))), ball())
    assert seen is not None
    assert (seen.touches, seen.distance_mm) == (False, None)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        ("a row of thin vessels", {"FLATNESS": -5.0}),
        ("a narrow band", {"LEAST_SHEET": 1}),
        ("a thick dense band", {"VESSEL_HU": 5000.0}),
        ("a line along the chest wall", {"WALL_MM": 30.0}),
        ("a sheet that ends before it", {"LEAST_NEAR": 1, "LEAST_DIRECTIONS": 1}),
    ],
)
def test_what_is_no_fissure_is_not_taken_for_one(
    kind: str, rule: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is kept out by its own rule: without that it would be taken for one."""
    volume = scan(with_nodule(no_sheet(kind)))
    seen = find_fissure(volume, ball())
    assert seen is not None
    assert not seen.touches
    for name, value in rule.items():
        monkeypatch.setattr(f"lungscreen.measure.fissure.{name}", value)
    fooled = find_fissure(volume, ball())
    assert fooled is not None
    assert fooled.touches


@pytest.mark.parametrize("noise", [20.0, 80.0])
def test_lung_alone_has_none(noise: float) -> None:
    seen = find_fissure(scan(with_nodule(no_sheet("nothing")), noise=noise), ball())
    assert seen is not None
    assert (seen.touches, seen.distance_mm) == (False, None)


def test_it_cannot_be_told_everywhere() -> None:
    """Thick slices, a mass, no air around, an outline beyond the volume's grid: None, which is neither yes nor no."""
    there = with_nodule(sheet(0.0))
    assert find_fissure(scan(there, (2.6, 0.8, 0.7)), ball()) is None
    assert find_fissure(scan(there), ball(16.0)) is None
    assert find_fissure(scan(there + 300.0), ball()) is None
    thin = Outline((0, 0, 0), np.zeros((1, 1, 1), dtype=np.bool_))
    assert find_fissure(scan(there), thin) is None


def test_the_place_of_a_finding_says_so() -> None:
    volume = scan(with_nodule(sheet(0.0)))
    centre = volume.geometry.to_mm(MIDDLE)
    point = (float(centre[0]), float(centre[1]), float(centre[2]))
    place = locate_nodule(volume, None, point, ball())
    assert (place.perifissural, place.fissure_mm) == (True, 0.0)
    bare = locate_nodule(volume, None, point)
    assert (bare.perifissural, bare.fissure_mm) == (None, None)


def test_the_answer_does_not_hang_on_the_scan_s_place() -> None:
    """The same voxels elsewhere in space."""
    volume = scan(with_nodule(sheet(7.0)))
    moved = replace(volume, geometry=Geometry.axial(SHAPE, SPACING, (-300.0, 88.0, -700.0)))
    assert find_fissure(volume, ball()) == find_fissure(moved, ball())

"""Geometry: voxels and millimetres, on grids where a swapped axis or sign shows."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from lungscreen.geometry import Geometry


def oblique(angle_deg: float = 3.0) -> Geometry:
    """Non-cubic, anisotropic, off-origin, feet-first, slightly rotated."""
    a = np.deg2rad(angle_deg)
    rotation = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1.0]])
    axes = rotation @ np.array([[0, 0, -0.7], [0, 0.9, 0], [-2.5, 0, 0]], dtype=float)
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = (-120.5, 33.25, 871.0)
    return Geometry(affine, (7, 11, 13), "1.2.3")


def test_points_go_there_and_back() -> None:
    grid = oblique()
    index = np.array([[0, 0, 0], [6, 10, 12], [2.5, 3.25, 7.75]])
    assert np.allclose(grid.to_index(grid.to_mm(index)), index)
    assert grid.spacing_mm == pytest.approx((2.5, 0.9, 0.7))


def test_itk_sees_the_same_places() -> None:
    """Written through SimpleITK's conventions, every voxel has the same LPS place there."""
    grid = oblique()
    size, spacing, origin, direction = grid.to_itk()
    image = sitk.Image([int(n) for n in size], sitk.sitkInt16)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    assert np.allclose(image.TransformIndexToPhysicalPoint((3, 5, 2)), grid.to_mm((2, 5, 3)))
    again = Geometry.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    assert again.same_as(grid)


def test_nifti_is_the_same_place_in_ras() -> None:
    grid = oblique()
    ras = nibabel.affines.apply_affine(grid.to_nifti(), (3, 5, 2))
    assert np.allclose(ras * (-1, -1, 1), grid.to_mm((2, 5, 3)))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("flips", [(False, False, False), (True, False, True), (False, True, False)])
def test_canonical_keeps_every_voxel_in_its_place(order: tuple[int, ...], flips: tuple[bool, ...]) -> None:
    """Any order and direction of axes ends as (up, back, left), and each value stays where it was in space."""
    base = oblique()
    array = np.arange(np.prod(base.shape)).reshape(base.shape)
    affine = base.affine[:, [*order, 3]].copy()
    source = np.transpose(array, order)
    for axis in range(3):
        if flips[axis]:
            affine[:3, 3] += affine[:3, axis] * (source.shape[axis] - 1)
            affine[:3, axis] *= -1
            source = np.flip(source, axis)
    turned = Geometry(affine, source.shape)
    grid, back, turn = turned.canonical()
    canonical = np.flip(np.transpose(source, back), [n for n in range(3) if turn[n]])
    cosines = grid.affine[:3, :3] / np.array(grid.spacing_mm)
    assert cosines[2, 0] > 0.9
    assert cosines[1, 1] > 0.9
    assert cosines[0, 2] > 0.9
    for k, j, i in [(0, 0, 0), (1, 4, 2), (6, 10, 12)]:
        place = base.to_mm((k, j, i))
        at = tuple(np.round(grid.to_index(place)).astype(int))
        assert canonical[at] == array[k, j, i]


def test_crop_moves_the_origin() -> None:
    grid = oblique()
    part = grid.crop((2, 3, 4), (3, 3, 3))
    assert np.allclose(part.to_mm((0, 0, 0)), grid.to_mm((2, 3, 4)))


def test_contains_counts_half_a_voxel_around() -> None:
    grid = Geometry.axial((4, 5, 6), (2.0, 1.0, 0.5), (10, 20, 30))
    assert grid.contains((9.76, 19.6, 29.1))
    assert not grid.contains((9.74, 20, 30))
    assert not grid.contains((10, 20, 37.1))
    assert grid.extent_mm == (8.0, 5.0, 3.0)
    assert grid.voxel_mm3 == pytest.approx(1.0)


def test_grids_differ_by_shape_or_place() -> None:
    grid = Geometry.axial((4, 5, 6), (2.0, 1.0, 0.5))
    assert grid.same_as(Geometry.axial((4, 5, 6), (2.0, 1.0, 0.5), (0, 0, 5e-4)))
    assert not grid.same_as(Geometry.axial((4, 5, 6), (2.0, 1.0, 0.5), (0, 0, 5e-3)))
    assert not grid.same_as(Geometry.axial((4, 5, 7), (2.0, 1.0, 0.5)))


@pytest.mark.parametrize(
    "affine",
    [
        np.eye(3),
        np.full((4, 4), np.nan),
        np.diag([1.0, 0.0, 1.0, 1.0]),
        np.array([[1, 0.2, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),
        np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1.0]]),
    ],
    ids=["3x3", "nan", "no spacing", "skew", "projective"],
)
def test_what_is_no_grid_is_refused(affine: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected"):
        Geometry(affine, (2, 2, 2))


def test_empty_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="positive sizes"):
        Geometry(np.eye(4), (2, 0, 2))


def test_the_affine_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        oblique().affine[0, 0] = 9

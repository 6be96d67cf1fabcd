"""Roundness of outlines by their shape alone."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.measure import rate_sphericity


def ellipsoid(radii_mm: tuple[float, float, float], spacing: tuple[float, float, float]) -> NDArray[np.bool_]:
    """(z, y, x) radii."""
    reach = [int(np.ceil(r / s)) + 1 for r, s in zip(radii_mm, spacing, strict=True)]
    axes = [np.arange(-n, n + 1) * s / r for n, s, r in zip(reach, spacing, radii_mm, strict=True)]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray(z * z + y * y + x * x <= 1)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 0.7, 0.7), (0.6, 0.8, 0.8)])
def test_a_ball_is_rounder_than_what_is_long(spacing: tuple[float, float, float]) -> None:
    """In every direction, on any grid; a ball gets the highest rating that readers' averages allow."""
    ball = rate_sphericity(ellipsoid((6, 6, 6), spacing), spacing)
    assert ball == pytest.approx(4.6, abs=0.2)
    for radii in ((3.0, 8.0, 8.0), (8.0, 8.0, 3.0), (8.0, 3.0, 8.0)):
        flat = rate_sphericity(ellipsoid(radii, spacing), spacing)
        assert flat < ball - 0.7
    in_plane = rate_sphericity(ellipsoid((8, 3, 8), spacing), spacing)
    assert in_plane < rate_sphericity(ellipsoid((3, 8, 8), spacing), spacing), "readers look at transverse slices"


def test_the_rating_stays_on_the_scale() -> None:
    """A row of voxels, and one voxel."""
    row = np.zeros((1, 1, 60), dtype=np.bool_)
    row[:] = True
    assert rate_sphericity(row, (1.0, 0.1, 1.0)) == 1.0
    assert 1.0 <= rate_sphericity(np.ones((1, 1, 1), dtype=np.bool_), (2.5, 0.7, 0.7)) <= 5.0

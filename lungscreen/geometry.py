"""Space: the one place that knows how voxels and millimetres relate.

World coordinates are DICOM's: LPS millimetres, as (x, y, z) tuples. Arrays are (z, y, x). Column n of the affine is
array axis n, so `affine @ (k, j, i, 1)` is the centre of voxel `array[k, j, i]`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["ORTHONORMAL_TOLERANCE", "Box", "Geometry", "Vector"]

Vector = tuple[float, float, float]
"""A point or extent in LPS millimetres: (x, y, z)."""

Box = tuple[slice, slice, slice]
"""A part of a voxel grid: slices, rows, columns."""

ORTHONORMAL_TOLERANCE = 1e-3
"""Largest departure of direction cosines from an orthonormal set."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Geometry:
    """A voxel grid in space.

    affine: (4, 4), maps (k, j, i, 1) to LPS mm. Rotation and spacing only: skew is refused.
    shape: (slices, rows, columns).
    frame_of_reference: DICOM Frame of Reference UID, empty where there is none.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, int, int]
    frame_of_reference: str = ""

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.array_equal(affine[3], [0, 0, 0, 1]):
            raise ValueError("expected a finite 4x4 affine with last row 0 0 0 1")
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise ValueError(f"expected a shape of three positive sizes, got {self.shape}")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        if spacing.min() <= 0:
            raise ValueError("expected positive spacing on every axis")
        cosines = affine[:3, :3] / spacing
        if np.abs(cosines.T @ cosines - np.eye(3)).max() > ORTHONORMAL_TOLERANCE:
            raise ValueError("expected orthogonal axes: the grid is skewed")
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    # -- made from -----------------------------------------------------------------------------------------------
    @classmethod
    def axial(
        cls, shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], origin_mm: Vector = (0.0, 0.0, 0.0)
    ) -> Geometry:
        """The canonical grid: slices go up, rows go back, columns go to the patient's left. `spacing_mm` is (z, y,
        x).
        """
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2] = spacing_mm
        affine[:3, 3] = origin_mm
        affine[3, 3] = 1
        return cls(affine, shape)

    @classmethod
    def from_itk(cls, size: ArrayLike, spacing: ArrayLike, origin: ArrayLike, direction: ArrayLike) -> Geometry:
        """From SimpleITK's (x, y, z) conventions; `direction` is row-major 3x3."""
        columns = np.asarray(direction, dtype=np.float64).reshape(3, 3) * np.asarray(spacing, dtype=np.float64)
        affine = np.eye(4)
        affine[:3, :3] = columns[:, ::-1]
        affine[:3, 3] = origin
        nx, ny, nz = (int(n) for n in np.asarray(size))
        return cls(affine, (nz, ny, nx))

    # -- looks ---------------------------------------------------------------------------------------------------
    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (z, y, x)."""
        z, y, x = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def origin_mm(self) -> Vector:
        """Centre of voxel (0, 0, 0)."""
        x, y, z = self.affine[:3, 3]
        return float(x), float(y), float(z)

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(np.prod(self.spacing_mm))

    @property
    def extent_mm(self) -> tuple[float, float, float]:
        """Size of the grid along (z, y, x), whole voxels."""
        z, y, x = (n * s for n, s in zip(self.shape, self.spacing_mm, strict=True))
        return z, y, x

    def to_mm(self, index: ArrayLike) -> NDArray[np.float64]:
        """Array positions (..., 3) as (k, j, i), fractions allowed → LPS mm (..., 3) as (x, y, z)."""
        return np.asarray(np.asarray(index, dtype=np.float64) @ self.affine[:3, :3].T + self.affine[:3, 3])

    def to_index(self, point_mm: ArrayLike) -> NDArray[np.float64]:
        """LPS mm (..., 3) as (x, y, z) → array positions (..., 3) as (k, j, i), with fractions."""
        offset = np.asarray(point_mm, dtype=np.float64) - self.affine[:3, 3]
        return np.asarray(offset @ np.linalg.inv(self.affine[:3, :3]).T)

    def contains(self, point_mm: ArrayLike) -> bool:
        """Whether a point lies inside the grid, half a voxel around the outer centres included."""
        index = self.to_index(point_mm)
        return bool((index >= -0.5).all() and (index <= np.array(self.shape) - 0.5).all())

    def to_itk(self) -> tuple[tuple[int, ...], tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """(size, spacing, origin, direction) in SimpleITK's (x, y, z) conventions."""
        spacing = np.array(self.spacing_mm)
        cosines = (self.affine[:3, :3] / spacing)[:, ::-1]
        return (
            tuple(self.shape[::-1]),
            tuple(float(s) for s in spacing[::-1]),
            self.origin_mm,
            tuple(float(c) for c in cosines.ravel()),
        )

    def to_nifti(self) -> NDArray[np.float64]:
        """NIfTI's affine: voxel (i, j, k) of the transposed (x, y, z) array → RAS mm."""
        xyz = self.affine[:, [2, 1, 0, 3]]
        return np.asarray(_LPS_TO_RAS @ xyz)

    def same_as(self, other: Geometry, tolerance_mm: float = 1e-3) -> bool:
        """Same shape, and no voxel centre differs by more than the tolerance."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1).T
        return bool(np.abs(self.to_mm(corners) - other.to_mm(corners)).max() <= tolerance_mm)

    # -- derived grids -------------------------------------------------------------------------------------------
    def crop(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> Geometry:
        """The grid of `array[start:start + shape]`; may reach beyond this one."""
        affine = self.affine.copy()
        affine[:3, 3] = self.to_mm(start)
        return Geometry(affine, shape, self.frame_of_reference)

    def canonical(self) -> tuple[Geometry, tuple[int, int, int], tuple[bool, bool, bool]]:
        """The same voxels with axes nearest to (up, back, left).

        Returns the geometry, the axis order and the flips such that
        `np.flip(np.transpose(array, order), [n for n in range(3) if flips[n]])` has that geometry.
        """
        cosines = self.affine[:3, :3] / np.array(self.spacing_mm)
        order = [-1, -1, -1]
        strength = np.abs(cosines).copy()
        for _ in range(3):
            world, axis = np.unravel_index(int(np.argmax(strength)), (3, 3))
            order[2 - int(world)] = int(axis)
            strength[world, :] = -1
            strength[:, axis] = -1
        flips = tuple(bool(cosines[2 - n, order[n]] < 0) for n in range(3))
        affine = self.affine[:, [*order, 3]].copy()
        shape = (self.shape[order[0]], self.shape[order[1]], self.shape[order[2]])
        for n in range(3):
            if flips[n]:
                affine[:3, 3] += affine[:3, n] * (shape[n] - 1)
                affine[:3, n] *= -1
        return (
            Geometry(affine, shape, self.frame_of_reference),
            (order[0], order[1], order[2]),
            (flips[0], flips[1], flips[2]),
        )

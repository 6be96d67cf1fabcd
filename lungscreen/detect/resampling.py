"""A box of a volume → voxels of another size, on the same axes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Box, Geometry

__all__ = ["Spacing", "resample_box"]

Spacing = float | tuple[float, float, float]
"""Distance of voxel centres in mm: one for every axis, or (z, y, x)."""


def resample_box(
    hu: NDArray[np.int16], geometry: Geometry, box: Box, spacing_mm: Spacing
) -> tuple[NDArray[np.int16], Geometry]:
    """`hu[box]` (z, y, x) at `spacing_mm`, linearly; its first voxel stays where it was.

    Beyond the outermost voxel centres the outermost value goes on. Returns the array and its geometry.
    """
    import SimpleITK

    sitk: Any = SimpleITK

    part = np.ascontiguousarray(hu[box])
    start = [s.indices(n)[0] for s, n in zip(box, hu.shape, strict=True)]
    affine = geometry.affine.copy()
    affine[:3, 3] = geometry.to_mm(start)
    steps = [float(step) for step in np.broadcast_to(spacing_mm, 3)]
    affine[:3, :3] *= np.array(steps) / np.array(geometry.spacing_mm)
    size = [max(1, round(n * s / step)) for n, s, step in zip(part.shape, geometry.spacing_mm, steps, strict=True)]
    shape = (size[0], size[1], size[2])
    image = sitk.GetImageFromArray(part)
    image.SetSpacing(geometry.spacing_mm[::-1])
    resample = sitk.ResampleImageFilter()
    resample.SetSize(size[::-1])
    resample.SetOutputSpacing(steps[::-1])
    resample.SetInterpolator(sitk.sitkLinear)
    resample.SetUseNearestNeighborExtrapolator(True)
    array: NDArray[np.int16] = sitk.GetArrayFromImage(resample.Execute(image))
    return array, Geometry(affine, shape, geometry.frame_of_reference)

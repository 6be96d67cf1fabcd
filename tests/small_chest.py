"""A chest of a few thousand voxels: two plain lungs in a body, anisotropic and off the origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from lungscreen.geometry import Geometry

__all__ = ["ORIGIN", "SHAPE", "SPACING", "chest", "mm", "write_image"]

SPACING = (4.0, 3.5, 3.0)
ORIGIN = (-110.0, -80.0, 200.0)
SHAPE = (60, 50, 74)


def chest() -> np.ndarray:
    """A body with two lungs in it, (z, y, x)."""
    z, y, x = np.ogrid[:60, :50, :74]
    body = ((y - 25) / 22.0) ** 2 + ((x - 37) / 34.0) ** 2 < 1
    hu = np.where(body & (z >= 0), 40, -1000).astype(np.int16)
    for middle in (20, 54):
        lung = ((z - 30) / 24.0) ** 2 + ((y - 24) / 13.0) ** 2 + ((x - middle) / 9.0) ** 2 < 1
        hu[lung] = -850
    return hu


def write_image(path: Path, hu: np.ndarray) -> Path:
    image = sitk.GetImageFromArray(hu)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


def mm(z: int, y: int, x: int) -> tuple[float, ...]:
    return tuple(Geometry.axial(SHAPE, SPACING, ORIGIN).to_mm((z, y, x)))

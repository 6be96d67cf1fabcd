"""What the network sees: 1 mm voxels around a point, HU -1000 … 400 scaled to 0 … 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["HU_HIGH", "HU_LOW", "scale_hu", "unscale_hu"]

HU_LOW, HU_HIGH = -1000.0, 400.0
"""The window; what lies outside is clipped."""


def scale_hu(hu: NDArray[np.generic]) -> NDArray[np.float32]:
    """HU → 0 … 1."""
    values = (np.asarray(hu, dtype=np.float32) - HU_LOW) / (HU_HIGH - HU_LOW)
    return np.asarray(np.clip(values, 0.0, 1.0), dtype=np.float32)


def unscale_hu(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """0 … 1 → HU, within the window."""
    return np.asarray(values * np.float32(HU_HIGH - HU_LOW) + np.float32(HU_LOW), dtype=np.float32)

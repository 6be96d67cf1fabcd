"""Dense places: what stands out at the scale of a vessel, or of a bump of the chest wall, the diaphragm or the
mediastinum.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["SPOT_SCALES_MM", "find_spots"]

SPOT_SCALES_MM = ((2.2, 6.0), (4.5, 12.0))
"""Standard deviations of the two Gaussians whose difference finds dense places: small ones and large ones."""

LEAST_CONTRAST_HU = 60.0
"""Of a dense place, by that difference."""

WINDOW_HU = (-1000.0, 200.0)
"""Bone stands out no more than tissue does."""


def find_spots(hu: NDArray[np.int16], inside: NDArray[np.bool_], scale_mm: tuple[float, float]) -> NDArray[np.intp]:
    """Voxels (n, 3) inside that stand out from what is around them, the most so first.

    hu, inside: (z, y, x) at 1 mm.
    """
    clipped = np.clip(hu.astype(np.float32), *WINDOW_HU)
    near, far = (ndimage.gaussian_filter(clipped, sigma, mode="nearest") for sigma in scale_mm)
    above = np.where(inside, near - far, -np.inf)
    top = np.argwhere((ndimage.maximum_filter(above, 5) == above) & (above > LEAST_CONTRAST_HU))
    return top[np.argsort(-above[tuple(top.T)], kind="stable")]

"""True HU of a slice → HU as a scanner gives them: the kernel's blur or overshoot, correlated noise."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter

from lungscreen.geometry import Geometry
from lungscreen.phantom.anatomy import stream
from lungscreen.phantom.config import PhantomConfig

__all__ = ["ScannerModel"]

Floats = NDArray[np.floating[Any]]

NOISE_HU = {"standard": 13.0, "low": 28.0, "ultra-low": 55.0}
"""Standard deviation in the middle of the chest at 1 mm slices and the standard kernel."""
KERNELS = {"soft": (0.75, 0.26, 0.62), "standard": (0.55, 0.38, 1.0), "sharp": (0.40, 0.62, 1.9)}
"""Kernel → blur (sigma, mm), where its noise fades (cycles per mm), factor on the noise."""
LEAST_BLUR = 0.15
"""Blur of fewer pixels than this is left out."""
EDGE_GAIN, EDGE_MM = 0.9, 0.9
"""How much the sharp kernel overshoots, and over what distance."""


class ScannerModel:
    """Kernel and noise of one scan; slices come in order."""

    def __init__(self, config: PhantomConfig, geometry: Geometry) -> None:
        self._config = config
        self._blur_mm, fade, factor = KERNELS[config.kernel]
        ny, nx = geometry.shape[1:]
        f = np.hypot(fft.fftfreq(ny, config.pixel_mm)[:, None], fft.rfftfreq(nx, config.pixel_mm)[None, :])
        self._filter = np.sqrt((f + 0.02) * np.exp(-((f / fade) ** 2))).astype(np.float32)
        self._filter /= np.sqrt((self._filter[:, 1:-1] ** 2).mean())
        g = np.linspace(0, 3 * fade, 600)
        power = (g + 0.02) * np.exp(-((g / fade) ** 2)) * g
        # large pixels average out what they cannot show
        seen = float(power[g <= 0.5 / config.pixel_mm].sum() / power.sum())
        self._sigma = NOISE_HU[config.dose] * factor * np.sqrt(seen / config.slice_thickness_mm)
        self._rho = 0.25 + 0.5 * max(0.0, 1 - config.slice_spacing_mm / config.slice_thickness_mm)
        self._before: Floats | None = None
        self._radial, self._height = _noise_shape(config, geometry)

    def finish(self, k: int, image: Floats) -> NDArray[np.int16]:
        """HU of slice k as the scanner would give it."""
        config = self._config
        sigma = self._blur_mm / config.pixel_mm
        if sigma > LEAST_BLUR:
            image = gaussian_filter(image, sigma, truncate=3.0)
        if config.kernel == "sharp" and EDGE_MM / config.pixel_mm > LEAST_BLUR:
            image = image + np.float32(EDGE_GAIN) * (image - gaussian_filter(image, EDGE_MM / config.pixel_mm))
        if config.noise:
            image = image + self._noise(k, image.shape) * (self._radial * self._height[k])
        return np.asarray(np.rint(np.clip(image, -1024, 3071)), dtype=np.int16)

    def _noise(self, k: int, shape: tuple[int, ...]) -> Floats:
        """Noise of slice k, correlated in the slice by the kernel and with the slice before."""
        rng = stream(self._config.scan_seed, f"noise {self._config.seed} {k}")
        white: Floats = rng.standard_normal(shape, dtype=np.float32)
        if self._before is not None:
            white = np.float32(self._rho) * self._before + np.float32(np.sqrt(1 - self._rho**2)) * white
        self._before = white
        coloured = fft.irfft2(fft.rfft2(white, workers=1) * self._filter, s=shape, workers=1)
        return np.asarray(coloured * np.float32(self._sigma), dtype=np.float32)


def _noise_shape(config: PhantomConfig, geometry: Geometry) -> tuple[Floats, Floats]:
    """Relative noise over a slice (most in the middle) and of each slice (most where the body is thick)."""
    nz, ny, nx = geometry.shape
    y = np.linspace(-1, 1, ny, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, nx, dtype=np.float32)[None, :]
    radial = 0.72 + 0.36 * np.exp(-1.8 * (x * x + y * y))
    heights = geometry.origin_mm[2] + np.arange(nz) * geometry.spacing_mm[0]
    shoulders = 0.6 if config.arms_down else 0.3
    height = 1 + shoulders / (1 + np.exp(-(heights - 85) / 9)) + 0.2 / (1 + np.exp((heights + 125) / 14))
    return radial, height.astype(np.float32)

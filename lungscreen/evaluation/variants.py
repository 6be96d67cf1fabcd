"""Volume ─► Volume as another protocol would have given it: less dose, thicker slices, a sharper or smoother kernel.

Simulated from the images, since the raw data are not there. The physics and their limits stand in docs/evaluation.md.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Geometry
from lungscreen.records import Volume

__all__ = ["Noise", "estimate_noise", "lower_dose", "sharpen_kernel", "smooth_kernel", "thicken_slices"]

Floats = NDArray[np.float64]

PATCH = 16
"""Side of the squares (voxels) in which noise is measured."""
TISSUE_HU = (0.0, 300.0)
"""Mean HU of soft tissue, with contrast medium or without."""
WITHIN_HU = (-200.0, 700.0)
"""No voxel of a square outside this: neither lung nor bone."""
SLICES = 40
"""Slices that are looked at for noise at most."""
LEAST_PATCHES = 40
"""Squares of soft tissue below which no noise is measured."""
QUIET_SHARE = 0.25
"""Share of the squares, the quietest, that are taken for even tissue: in the others there are edges."""
LEAST_HU = 0.1
"""Less is no noise of a CT scan: the tissue was made up."""
SMOOTH_PER_MM = 0.45
"""Spatial frequency (line pairs per mm) at which the smooth kernel halves what was there."""
SHARP_GAIN, SHARP_PER_MM = 2.0, 0.35
"""The sharp kernel's gain beyond 1 at the highest frequencies, and the frequency that sets where it rises."""
REACH = 16
"""Voxels by which slices are mirrored outwards before a filter, so that nothing wraps around."""
LOWEST_HU, HIGHEST_HU = -1024, 32767


@dataclass(frozen=True, eq=False)
class Noise:
    """What a scan's noise is like, where its tissue is even.

    sd_hu: standard deviation.
    frequency_per_mm, power: its radial power spectrum within the slice, any scale, from 0 up.
    between: correlation of neighbouring slices, 0 to 0.5.
    """

    sd_hu: float
    frequency_per_mm: Floats
    power: Floats
    between: float


def estimate_noise(volume: Volume) -> Noise | None:
    """Noise of a scan, from squares of even soft tissue; None where there are too few of them.

    A curved plane is taken out of each square. sd_hu is the 25th percentile over all squares: noise alone spreads them
    little, and edges only make a square noisier. Spectrum and correlation are those of the quarter below.
    """
    step = max(1, len(volume.hu) // SLICES)
    lower = volume.hu[: len(volume.hu) - 1 : step]
    squares, above = (_squares(part) for part in (lower, volume.hu[1::step][: len(lower)]))
    even = np.flatnonzero(_is_tissue(squares) & _is_tissue(above))
    if len(even) < LEAST_PATCHES:
        return None
    left, freedom = _without_trend(squares[even])
    spread = np.sqrt((left**2).sum((1, 2)) / freedom)
    limit = float(np.quantile(spread, QUIET_SHARE))
    if limit < LEAST_HU:
        return None
    quiet = spread <= limit
    next_left = _without_trend(above[even[quiet]])[0]
    between = float((left[quiet] * next_left).sum() / np.sqrt((left[quiet] ** 2).sum() * (next_left**2).sum()))
    frequency, power = _radial_power(left[quiet], volume.geometry.spacing_mm[1:])
    return Noise(limit, frequency, power, float(np.clip(between, 0.0, 0.5)))


def lower_dose(volume: Volume, noise: Noise, share: float, seed: int) -> Volume:
    """The scan at a share of its dose: quantum noise, whose variance goes with 1/dose, is made up to what it would be.

    Added is Gaussian noise of the scan's own spectrum within the slice and its own correlation of neighbouring slices,
    with (1 / share - 1) times the variance that was measured. The same seed gives the same pattern at every dose.
    """
    if not 0 < share < 1:
        raise ValueError(f"share: expected above 0 and below 1, got {share}")
    padded = [n + 2 * REACH for n in volume.hu.shape[1:]]
    gain = np.sqrt(np.interp(_frequencies(padded, volume.geometry.spacing_mm[1:]), noise.frequency_per_mm, noise.power))
    gain *= noise.sd_hu * math.sqrt(1 / share - 1) / math.sqrt(_mean_over_spectrum(gain**2, padded[1]))
    # a moving average of two patterns whose squares sum to 1 and whose product is the correlation wanted
    own = math.sqrt((1 + math.sqrt(1 - 4 * noise.between**2)) / 2)
    rng = np.random.default_rng(seed)

    def pattern() -> NDArray[np.float32]:
        return _filter(rng.standard_normal(padded, dtype=np.float32), gain.astype(np.float32))

    before = pattern()

    def noisy(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        nonlocal before
        fresh = pattern()
        added = own * fresh + math.sqrt(1 - own**2) * before
        before = fresh
        return np.asarray(plane + added[REACH:-REACH, REACH:-REACH], np.float32)

    return _each_slice(volume, noisy)


def smooth_kernel(volume: Volume) -> Volume:
    """The scan as a softer kernel gives it: within the slice, a Gaussian that halves `SMOOTH_PER_MM`."""
    return _with_gain(volume, lambda f: np.exp(-math.log(2) * (f / SMOOTH_PER_MM) ** 2))


def sharpen_kernel(volume: Volume) -> Volume:
    """The scan as a lung kernel gives it: within the slice, high frequencies raised up to `1 + SHARP_GAIN` times."""
    return _with_gain(volume, lambda f: 1 + SHARP_GAIN * (1 - np.exp(-((f / SHARP_PER_MM) ** 2))))


def thicken_slices(volume: Volume, thickness_mm: float) -> Volume | None:
    """The scan in slices of that thickness, side by side: each the mean of what the original's slices show of it.

    A slice counts by its overlap with the thick one. What is left at the top, less than a slice, is dropped. None where
    the scan's own slices, or their spacing, are as thick already, or less than two would remain.
    """
    spacing = volume.geometry.spacing_mm[0]
    own = max(spacing, volume.series.acquisition.slice_thickness_mm or 0.0)
    count = int(len(volume.hu) * spacing / thickness_mm + 1e-6)
    if own > thickness_mm - 0.01 or count < 2:
        return None
    hu = np.empty((count, *volume.hu.shape[1:]), np.int16)
    for k in range(count):
        first, last = k * thickness_mm / spacing, (k + 1) * thickness_mm / spacing
        start, stop = int(first), min(math.ceil(last - 1e-9), len(volume.hu))
        rows = np.arange(start, stop)
        weight = np.clip(np.minimum(rows + 1, last) - np.maximum(rows, first), 0, None)
        hu[k] = np.rint(np.tensordot(weight / weight.sum(), volume.hu[start:stop].astype(np.float64), 1))
    affine = volume.geometry.affine.copy()
    affine[:3, 3] = volume.geometry.to_mm(((thickness_mm / spacing - 1) / 2, 0.0, 0.0))
    affine[:3, 0] *= thickness_mm / spacing
    shape = (count, *volume.geometry.shape[1:])
    return dataclasses.replace(
        volume, hu=hu, geometry=Geometry(affine, shape, volume.geometry.frame_of_reference), instance_numbers=()
    )


# -- filters within the slice ----------------------------------------------------------------------------------------
def _with_gain(volume: Volume, gain_at: Callable[[Floats], Floats]) -> Volume:
    """Every slice with its spatial frequencies (line pairs per mm) multiplied."""
    padded = [n + 2 * REACH for n in volume.hu.shape[1:]]
    gain = gain_at(_frequencies(padded, volume.geometry.spacing_mm[1:])).astype(np.float32)

    def filtered(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        return _filter(np.pad(plane, REACH, mode="symmetric"), gain)[REACH:-REACH, REACH:-REACH]

    return _each_slice(volume, filtered)


def _each_slice(volume: Volume, change: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Volume:
    """The volume with each slice changed, in whole HU again and never below -1024."""
    hu = np.empty_like(volume.hu)
    for k, plane in enumerate(volume.hu):
        hu[k] = np.clip(np.rint(change(plane.astype(np.float32))), LOWEST_HU, HIGHEST_HU)
    return dataclasses.replace(volume, hu=hu)


def _filter(plane: NDArray[np.float32], gain: NDArray[np.float32]) -> NDArray[np.float32]:
    from scipy import fft

    shape = (plane.shape[0], plane.shape[1])
    return np.asarray(fft.irfft2(fft.rfft2(plane) * gain, s=shape), np.float32)


def _frequencies(shape: list[int], spacing_mm: tuple[float, ...]) -> Floats:
    """Radial frequency of each of `rfft2`'s coefficients, line pairs per mm."""
    rows, columns = np.fft.fftfreq(shape[0], spacing_mm[0]), np.fft.rfftfreq(shape[1], spacing_mm[1])
    return np.asarray(np.hypot(rows[:, None], columns[None, :]))


def _mean_over_spectrum(power: Floats, columns: int) -> float:
    """Mean over the whole plane of frequencies, of which `rfft2` gives one half."""
    twice = np.full(power.shape[1], 2.0)
    twice[0] = 1.0
    if columns % 2 == 0:
        twice[-1] = 1.0
    return float((power * twice).sum() / (power.shape[0] * columns))


# -- noise -----------------------------------------------------------------------------------------------------------
def _squares(slices: NDArray[np.int16]) -> Floats:
    """(n, PATCH, PATCH): slices cut into squares, what is left over at their ends dropped."""
    rows, columns = slices.shape[1] // PATCH, slices.shape[2] // PATCH
    cut = slices[:, : rows * PATCH, : columns * PATCH].reshape(-1, rows, PATCH, columns, PATCH)
    return np.asarray(cut.swapaxes(2, 3).reshape(-1, PATCH, PATCH), np.float64)


def _is_tissue(squares: Floats) -> NDArray[np.bool_]:
    """Whether each square holds soft tissue alone."""
    mean, low, high = squares.mean((1, 2)), squares.min((1, 2)), squares.max((1, 2))
    inside = (low > WITHIN_HU[0]) & (high < WITHIN_HU[1])
    return np.asarray(inside & (mean > TISSUE_HU[0]) & (mean < TISSUE_HU[1]))


def _without_trend(squares: Floats) -> tuple[Floats, int]:
    """Squares less the curved plane that fits each best, and the degrees of freedom that are left."""
    y, x = np.mgrid[-1 : 1 : PATCH * 1j, -1 : 1 : PATCH * 1j].reshape(2, -1)
    basis = np.linalg.qr(np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1))[0]
    flat = squares.reshape(len(squares), -1)
    left = flat - (flat @ basis) @ basis.T
    return left.reshape(squares.shape), flat.shape[1] - basis.shape[1]


def _radial_power(left: Floats, spacing_mm: tuple[float, ...]) -> tuple[Floats, Floats]:
    """The squares' mean power by radial frequency, from 0; the trend that was taken out leaves the lowest bin too
    low.
    """
    window = np.hanning(PATCH)
    power = np.mean(np.abs(np.fft.rfft2(left * window[:, None] * window[None, :])) ** 2, axis=0)
    frequency = _frequencies([PATCH, PATCH], spacing_mm)
    bins = np.linspace(0, float(frequency.max()), PATCH // 2 + 1)
    place = np.clip(np.digitize(frequency.ravel(), bins) - 1, 0, len(bins) - 2)
    count = np.bincount(place, minlength=len(bins) - 1)
    mean = np.bincount(place, power.ravel(), len(bins) - 1) / np.maximum(count, 1)
    middle = (bins[:-1] + bins[1:]) / 2
    return middle[count > 0], mean[count > 0]

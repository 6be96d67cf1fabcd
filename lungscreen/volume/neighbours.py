"""Slices in their order ─► those that cannot be: each is compared with its neighbours, none is believed alone.

A chest changes slowly from slice to slice: two slices differ less than one of them differs from the slice after the
next. In nineteen scans and phantoms the difference of a slice to its nearer neighbour was 0.79 times that of its two
neighbours at the most, in the worst of 64 tiles 1.6 times (2.3 in slices of 5 mm), and a step between two slices 1.6
times the steps around it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Misfits", "find_misfits"]

LEAST_SLICES = 8
LEAST_PIXELS = 40
"""In fewer slices, or fewer pixels along a side of them, nothing is typical."""
SLICE_RATIO = 1.2
"""Difference to the nearer neighbour over that between both neighbours, from which a slice does not belong..."""
TILE_RATIOS = (3.5, 2.5)
"""...and in its tiles: of one, of two."""
LEAST_HU = (10.0, 40.0)
"""Neighbours count as differing by so much at least: as slices, in a tile."""
STEP_RATIO = 2.2
"""A step so many times those around it is a break; between two of them a run of slices does not belong."""
END_RATIO = 3.5
END_SHARE = 0.1
"""A single break so large: a side of at most this share does not belong; where both are longer nobody knows which."""
SHIFT_HU = 15.0
"""Soft tissue that steps by so much (median) is said; in the same scans it was 10 HU at the most."""
SHIFT_SHARE = 0.02
"""Soft tissue is looked at where so much of both slices is."""
AROUND = 7
"""Steps on either side that are typical."""
TILES = 8
LEAST_TILE = 100
"""Tiles along each side of a slice, of so many samples at least: in fewer a single nodule fills a tile."""
ACROSS = 100
"""Samples along the shorter side of a slice."""
RANGE_HU = (-1024, 600)
SOFT_HU = 150.0
"""Soft tissue and fat lie between minus and plus this much."""
LEAST_VALUES = 50
"""Of so many different values is a picture with noise: no two slices of such are equal."""

Samples = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Misfits:
    """Numbers of the slices that do not belong, each with the reason; and where soft tissue steps up or down, in
    words.
    """

    damaged: dict[int, str]
    shifts: tuple[str, ...] = ()
    parted: bool = False
    """The slices are of two kinds, and either may be the wrong one."""


def find_misfits(pixels: NDArray[np.int16], along_mm: NDArray[np.float64]) -> Misfits:
    """Slices that cannot be what they are said to be.

    pixels: (n, rows, columns) HU in order.
    along_mm: (n,) their places.
    """
    if len(pixels) < LEAST_SLICES or min(pixels.shape[1:]) < LEAST_PIXELS:
        return Misfits({})
    step = max(1, min(pixels.shape[1:]) // ACROSS)
    samples = np.clip(pixels[:, ::step, ::step], *RANGE_HU).astype(np.float32)
    damaged: dict[int, str] = {}
    left = np.arange(len(pixels))
    while (worst := _worst_alone(samples[left])) is not None:
        damaged[int(left[worst])] = "it differs from both neighbours more than they differ from each other"
        left = np.delete(left, worst)
    copies = _copies(pixels[left], samples[left]) if damaged else _copies(pixels, samples)
    damaged |= {int(left[n]): "it repeats another slice, noise included" for n in copies}
    left = np.delete(left, copies)
    runs, parted = _runs_apart(samples[left], along_mm[left])
    apart = [n for first, last in runs for n in range(first, last + 1)]
    damaged |= {int(left[n]): "its values do not go on from the slices beside it" for n in apart}
    left = np.delete(left, apart)
    return Misfits(damaged, tuple(_shifts(samples[left], along_mm[left])), parted)


def _difference(first: Samples, second: Samples) -> Samples:
    """Mean absolute difference of slices (n, r, c), in HU."""
    return np.asarray(np.abs(first - second).mean(axis=(1, 2)))


def _worst_alone(samples: Samples) -> int | None:
    """The slice that differs most from both neighbours; None where each belongs."""
    if len(samples) < LEAST_SLICES:
        return None
    steps, over = np.abs(np.diff(samples, axis=0)), np.abs(samples[2:] - samples[:-2])
    ratio = _ratio(steps.mean(axis=(1, 2)), over.mean(axis=(1, 2)), LEAST_HU[0]) / SLICE_RATIO
    if samples[0].size >= LEAST_TILE * TILES**2:
        tiles = np.sort(_ratio(_tiled(steps), _tiled(over), LEAST_HU[1]), axis=1)
        ratio = np.maximum(ratio, np.maximum(tiles[:, -1] / TILE_RATIOS[0], tiles[:, -2] / TILE_RATIOS[1]))
    worst = int(ratio.argmax())
    return worst + 1 if ratio[worst] > 1 else None


def _ratio(steps: Samples, over: Samples, least: float) -> Samples:
    return np.asarray(np.minimum(steps[:-1], steps[1:]) / np.maximum(over, least))


def _tiled(differences: Samples) -> Samples:
    """Means (n, tiles)."""
    count, rows, columns = differences.shape
    high, wide = rows // TILES, columns // TILES
    cut = differences[:, : high * TILES, : wide * TILES].reshape(count, TILES, high, TILES, wide)
    return np.asarray(cut.mean(axis=(2, 4)).reshape(count, TILES**2))


def _runs_apart(samples: Samples, along_mm: NDArray[np.float64]) -> tuple[list[tuple[int, int]], bool]:
    """First and last of each run of slices that does not belong; whether the rest is parted in two."""
    if len(samples) < LEAST_SLICES:
        return [], False
    gaps = np.diff(along_mm)
    # over a hole the chest changes by more
    steps = _difference(samples[1:], samples[:-1]) / np.maximum(gaps / np.median(gaps), 1)
    typical = np.array([np.median(steps[max(0, k - AROUND) : k + AROUND + 1]) for k in range(len(steps))])
    size = steps / np.maximum(typical, LEAST_HU[0])
    breaks = [int(k) for k in np.flatnonzero(size > STEP_RATIO)]
    runs: list[tuple[int, int]] = []
    parted = False
    while breaks:
        first = breaks.pop(0)
        partner = next((last for last in breaks if _stands_apart(samples, steps, first, last)), None)
        if partner is not None:
            runs.append((first + 1, partner))
            breaks = [k for k in breaks if k > partner]
        elif size[first] > END_RATIO:
            end = len(samples) - 1
            shorter = (0, first) if first < end - first else (first + 1, end)
            if shorter[1] - shorter[0] < END_SHARE * len(samples):
                runs.append(shorter)
            else:
                parted = True
    return runs, parted


def _stands_apart(samples: Samples, steps: Floats, first: int, last: int) -> bool:
    """Whether the slices beside a run are more alike than either is like the run."""
    across = float(_difference(samples[first : first + 1], samples[last + 1 : last + 2])[0])
    return bool(min(steps[first], steps[last]) > SLICE_RATIO * max(across, LEAST_HU[0]))


def _copies(pixels: NDArray[np.int16], samples: Samples) -> list[int]:
    """Slices that equal another one, but for the one of each kind that goes on best from its neighbours."""
    groups = [[n for n in group if np.array_equal(pixels[n], pixels[group[0]])] for group in _alike(samples)]
    copied = np.zeros(len(samples), np.bool_)
    copied[[n for group in groups for n in group]] = True
    steps = _difference(samples[1:], samples[:-1])
    return sorted(n for group in groups for n in group if n != min(group, key=lambda n: (_ends(copied, steps, n), n)))


def _alike(samples: Samples) -> list[list[int]]:
    """Slices whose samples are the same, two at least, and not of one value like air."""
    alike: dict[int, list[int]] = defaultdict(list)
    for n, one in enumerate(samples):
        alike[hash(one.tobytes())].append(n)
    return [group for group in alike.values() if len(group) > 1 and len(np.unique(samples[group[0]])) >= LEAST_VALUES]


def _ends(copied: NDArray[np.bool_], steps: Floats, n: int) -> float:
    """The larger step at the ends of the run of copies that a slice lies in."""
    first, last = n, n
    while first > 0 and copied[first - 1]:
        first -= 1
    while last < len(copied) - 1 and copied[last + 1]:
        last += 1
    return float(max(steps[first - 1] if first else 0.0, steps[last] if last < len(steps) else 0.0))


def _shifts(samples: Samples, along_mm: NDArray[np.float64]) -> list[str]:
    """Where soft tissue steps by more than noise and anatomy do, in words."""
    found = []
    for n in range(len(samples) - 1):
        low, high = samples[n], samples[n + 1]
        soft = (np.abs(low) < SOFT_HU) & (np.abs(high) < SOFT_HU)
        if soft.mean() > SHIFT_SHARE:
            shift = float(np.median(high[soft] - low[soft]))
            if abs(shift) >= SHIFT_HU:
                found.append(f"{shift:+.0f} HU at {along_mm[n]:.1f} mm")
    return found

"""Lines over a crop: the outline's long and short axis, and ticks that point at the detector's place."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["axes_lines", "axes_of", "crosshair"]

_STEPS = 128
"""Places along the long axis at which the width is looked at."""
_TICK = 0.09
"""Length of a tick, as a share of the crop."""


def axes_of(line: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Ends of the longest straight line between two points of a closed line, and of the widest one at right angles.

    line: (n, 2), n >= 3. Returns two arrays (2, 2).
    """
    apart = np.linalg.norm(line[:, None] - line[None], axis=2)
    first, last = np.unravel_index(int(apart.argmax()), apart.shape)
    start, along = line[first], (line[last] - line[first]) / max(float(apart.max()), 1e-9)
    across = np.array([-along[1], along[0]])
    t, w = (line - start) @ along, (line - start) @ across
    places = np.linspace(0, float(apart.max()), _STEPS)
    low, high = _widths(t, w, places)
    widest = int((high - low).argmax())
    middle = start + places[widest] * along
    short = np.stack([middle + low[widest] * across, middle + high[widest] * across])
    return np.stack([line[first], line[last]]), short


def _widths(
    t: NDArray[np.float64], w: NDArray[np.float64], places: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lowest and highest w at which a closed line crosses each place; 0 where it crosses none."""
    t_next, w_next = np.roll(t, -1), np.roll(w, -1)
    crosses = (np.minimum(t, t_next)[:, None] <= places) & (places <= np.maximum(t, t_next)[:, None])
    span = np.where(t_next == t, 1.0, t_next - t)[:, None]
    at = w[:, None] + (places - t[:, None]) / span * (w_next - w)[:, None]
    low = np.where(crosses, at, np.inf).min(axis=0)
    high = np.where(crosses, at, -np.inf).max(axis=0)
    seen = np.isfinite(low)
    return np.where(seen, low, 0.0), np.where(seen, high, 0.0)


def axes_lines(lines_mm: Sequence[NDArray[np.float64]]) -> str:
    """Both axes of the longest of some closed lines (down, across), as SVG; empty where there is none."""
    if not lines_mm:
        return ""
    paths = "".join(f"M{a[1]:.2f} {a[0]:.2f}L{b[1]:.2f} {b[0]:.2f}" for a, b in axes_of(max(lines_mm, key=len)))
    return f'<g class="outline axes"><path d="{paths}"/></g>'


def crosshair(place_mm: tuple[float, float], width_mm: float, height_mm: float) -> str:
    """Ticks from the crop's edges towards a place (down, across); none of them covers it."""
    down, across = place_mm
    x, y = _TICK * width_mm, _TICK * height_mm
    path = (
        f"M0 {down:.2f}H{x:.2f}M{width_mm:.2f} {down:.2f}H{width_mm - x:.2f}"
        f"M{across:.2f} 0V{y:.2f}M{across:.2f} {height_mm:.2f}V{height_mm - y:.2f}"
    )
    return f'<g class="cross"><path d="{path}"/></g>'

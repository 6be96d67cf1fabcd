"""Matches ─► Curve, Bootstrap: the free-response curve, its seven sensitivities and their spread over scans.

Source of the rules: LUNA16's evaluation (Setio et al. 2017). False marks are divided by all scans; equal scores make
one point; a rate between two points is interpolated linearly; where the curve rises exactly at a rate, the top counts;
beyond the last point the curve is flat; before the first false mark it starts at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lungscreen.evaluation.matching import MarkMatches

__all__ = ["Bootstrap", "Curve", "Interval", "bootstrap_rates", "draw_scans", "froc_curve", "spread"]

Floats = NDArray[np.float64]
Arithmetic = Literal["script", "integer"]


@dataclass(frozen=True, eq=False)
class Curve:
    """One point per score at which the direction changes, from the highest score down; the first is (0, 0).

    fp_per_scan, sensitivity, threshold: (points,); the first threshold is +inf. Empty where undefined.
    """

    fp_per_scan: Floats
    sensitivity: Floats
    threshold: Floats

    @property
    def defined(self) -> bool:
        """Whether there is a curve: at least one nodule was hit."""
        return len(self.fp_per_scan) > 0

    def at(self, rates: Floats) -> Floats:
        """Sensitivity at each rate of false marks per scan; NaN where there is no curve."""
        if not self.defined:
            return np.full(len(rates), np.nan)
        return np.asarray(np.interp(rates, self.fp_per_scan, self.sensitivity))


@dataclass(frozen=True, eq=False)
class Interval:
    """Mean and bounds at each rate; NaN where undefined."""

    mean: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """Draws of scans with replacement.

    samples: (draws, rates) sensitivities in the challenge's arithmetic.
    integer: with false marks counted exactly.
    """

    samples: Floats
    integer: Floats
    confidence: float

    @property
    def undefined(self) -> int:
        """Draws that hold no hit nodule, so have no curve."""
        return int(np.isnan(self.samples[:, 0]).sum())

    def interval(self, arithmetic: Arithmetic = "script") -> Interval:
        """Mean and bounds at each rate: order statistics without interpolation, undefined draws last, as LUNA16
        does.
        """
        return spread(self.samples if arithmetic == "script" else self.integer, self.confidence)

    def cpm(self) -> Interval:
        """Mean and bounds of the mean over the rates."""
        return spread(self.samples.mean(axis=1, keepdims=True), self.confidence)


def froc_curve(matches: MarkMatches) -> Curve:
    """The curve of all scans together. Undefined without a hit nodule."""
    hits = matches.nodule_score[~np.isnan(matches.nodule_score)]
    if len(hits) == 0:
        return Curve(np.empty(0), np.empty(0), np.empty(0))
    scores, is_hit, _, last = _descending(hits, matches.false_score)
    found = np.cumsum(is_hit)[last]
    false = (last + 1) - found
    # a point on the straight line between its neighbours says nothing
    keep = np.ones(len(last), dtype=bool)
    keep[1:-1] = (np.diff(false, 2) != 0) | (np.diff(found, 2) != 0)
    return Curve(
        np.r_[0.0, false[keep] / matches.scans],
        np.r_[0.0, found[keep] / len(matches.nodule_score)],
        np.r_[np.inf, scores[last][keep]],
    )


def draw_scans(scans: int, samples: int, seed: int) -> NDArray[np.int64]:
    """(samples, scans): how often each scan is in each draw of as many scans as there are, with replacement.

    NumPy's legacy generator, which the challenge's own script draws from: the same seed gives the same figures.
    """
    generator = np.random.RandomState(seed)
    draws = [np.bincount(generator.randint(scans, size=scans), minlength=scans) for _ in range(samples)]
    return np.stack(draws).astype(np.int64)


def bootstrap_rates(
    matches: MarkMatches, weights: NDArray[np.int64], rates: Floats, confidence: float, unhit: float = np.nan
) -> Bootstrap:
    """Sensitivities of each draw of scans. Hits are not matched anew; a scan drawn twice counts twice.

    `unhit`: what a draw with nodules of which none is hit counts as; undefined in the challenge's script.
    """
    hit = ~np.isnan(matches.nodule_score)
    _, is_hit, order, last = _descending(matches.nodule_score[hit], matches.false_score)
    entry_scan = np.concatenate([matches.nodule_scan[hit], matches.false_scan])[order]
    shape = (len(weights), len(rates))
    script, integer = np.full(shape, np.nan), np.full(shape, np.nan)
    for n, weight in enumerate(weights):
        nodules = int(weight[matches.nodule_scan].sum())
        found = np.cumsum(weight[entry_scan] * is_hit)[last]
        if nodules and (len(found) == 0 or found[-1] == 0):
            script[n] = integer[n] = unhit
        elif nodules:
            false = np.cumsum(weight[entry_scan] * ~is_hit)[last]
            integer[n] = _interpolate(rates, false / matches.scans, found / nodules)
            script[n] = _interpolate(rates, *_script_arithmetic(false, found, matches.scans, nodules))
    return Bootstrap(script, integer, confidence)


def spread(samples: Floats, confidence: float) -> Interval:
    """Mean and bounds of draws (draws, n); undefined draws make the mean undefined and are sorted last."""
    ordered = np.sort(samples, axis=0)
    low = int(np.floor((1 - confidence) / 2 * len(samples)))
    high = int(np.floor((1 + confidence) / 2 * len(samples)))
    return Interval(samples.mean(axis=0), ordered[low], ordered[min(high, len(samples) - 1)])


def _interpolate(rates: Floats, fp_per_scan: Floats, sensitivity: Floats) -> Floats:
    return np.asarray(np.interp(rates, np.r_[0.0, fp_per_scan], np.r_[0.0, sensitivity]))


def _script_arithmetic(
    false: NDArray[np.int64], found: NDArray[np.int64], scans: int, nodules: int
) -> tuple[Floats, Floats]:
    """The challenge goes over shares: (k / all) * all / scans is at times one bit above k / scans."""
    share = false / false[-1] if false[-1] else np.zeros(len(false))
    return share * false[-1] / scans, (found / found[-1]) * found[-1] / nodules


def _descending(hits: Floats, false: Floats) -> tuple[Floats, NDArray[np.bool_], NDArray[np.intp], NDArray[np.intp]]:
    """All entries by falling score: scores, whether each is a hit, their order, and the last entry of each score."""
    scores = np.concatenate([hits, false])
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    last = np.r_[np.flatnonzero(np.diff(scores)), len(scores) - 1] if len(scores) else np.empty(0, dtype=np.intp)
    return scores, np.asarray(order < len(hits)), order, last.astype(np.intp)

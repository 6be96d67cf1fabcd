"""Labels, scores ─► areas, shares, bins: the statistics that an evaluation of a classifier rests on.

Sources: DeLong et al. 1988 (variance of the area), in Sun & Xu's midrank form (2014); Wilson 1927 (intervals of
shares); expected calibration error over bins of equal count (Naeini et al. 2015).
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "area_under_curve",
    "average_precision",
    "calibration_bins",
    "delong",
    "normal_reach",
    "roc_points",
    "share_interval",
    "weighted_kappa",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def area_under_curve(labels: Bools, scores: Floats, weights: Floats | None = None) -> float:
    """Share of pairs of a positive and a negative case that the scores order rightly, ties counting half.

    `weights`: how often each case counts. NaN where one class is absent.
    """
    weight = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    positive, negative = (weight * labels)[order], (weight * ~labels)[order]
    total = positive.sum() * negative.sum()
    if total == 0:
        return math.nan
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
    positive, negative = (np.diff(np.r_[0.0, np.cumsum(values)[ends]]) for values in (positive, negative))
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / total)


def delong(labels: Bools, *scores: Floats) -> tuple[Floats, Floats]:
    """Areas (n,) of n scores for the same cases, and their covariance (n, n), by DeLong.

    At least two cases of each class.
    """
    positive, negative = ([score[side] for score in scores] for side in (labels, ~labels))
    above = np.stack([_placements(p, n) for p, n in zip(positive, negative, strict=True)])
    below = np.stack([1 - _placements(n, p) for p, n in zip(positive, negative, strict=True)])
    covariance = np.atleast_2d(np.cov(above)) / above.shape[1] + np.atleast_2d(np.cov(below)) / below.shape[1]
    return above.mean(axis=1), covariance


def _placements(values: Floats, others: Floats) -> Floats:
    """Share of `others` below each value, ties counting half."""
    ordered = np.sort(others)
    below, upto = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((below + upto) / 2 / len(others))


def roc_points(labels: Bools, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """One point per distinct score, from the highest down, starting at (0, 0); empty where a class is absent."""
    if labels.all() or not labels.any():
        return np.empty(0), np.empty(0), np.empty(0)
    order = np.argsort(-scores, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
    found, false = np.cumsum(labels[order])[ends], np.cumsum(~labels[order])[ends]
    return (
        np.r_[0.0, false / (~labels).sum()],
        np.r_[0.0, found / labels.sum()],
        np.r_[np.inf, scores[order][ends]],
    )


def average_precision(labels: Bools, scores: Floats) -> float | None:
    """Mean precision over the positive cases as the threshold falls; None without one."""
    if not labels.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ends = np.r_[np.flatnonzero(np.diff(scores[order])), len(order) - 1]
    found = np.cumsum(labels[order])[ends]
    return float((np.diff(np.r_[0, found]) * found / (ends + 1)).sum() / labels.sum())


def share_interval(hits: Bools, confidence: float) -> dict[str, Any]:
    """A share with Wilson's interval; None of nothing."""
    count, found = len(hits), int(hits.sum())
    if not count:
        return {"value": None, "lower": None, "upper": None, "found": 0, "of": 0}
    z, share = normal_reach(confidence), found / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    reach = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return {
        "value": share,
        "lower": max(0.0, middle - reach) if found else 0.0,
        "upper": min(1.0, middle + reach) if found < count else 1.0,
        "found": found,
        "of": count,
    }


def calibration_bins(labels: Bools, probabilities: Floats, bins: int = 10) -> list[dict[str, float]]:
    """Cases by rising probability in bins of equal count (they differ by one at most): mean probability, share
    positive.

    Equal probabilities keep the table's order, so a tie may be split between two bins. Fewer cases than bins make
    fewer.
    """
    parts = np.array_split(np.argsort(probabilities, kind="stable"), min(bins, len(labels)))
    return [
        {
            "cases": len(part),
            "lowest": float(probabilities[part].min()),
            "highest": float(probabilities[part].max()),
            "mean_probability": float(probabilities[part].mean()),
            "share_positive": float(labels[part].mean()),
        }
        for part in parts
    ]


def normal_reach(confidence: float) -> float:
    """How many standard errors a two-sided interval reaches to either side."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def weighted_kappa(counts: NDArray[np.int_]) -> float | None:
    """Cohen's kappa of a square table of counts over ordered classes, disagreement weighted by its distance (linear).

    None where nothing was counted, or where chance alone leaves no disagreement.
    """
    if not counts.any():
        return None
    share = counts / counts.sum()
    order = np.arange(len(counts))
    distance = np.abs(order[:, None] - order[None])
    by_chance = float((distance * np.outer(share.sum(axis=1), share.sum(axis=0))).sum())
    return None if by_chance == 0 else 1.0 - float((distance * share).sum()) / by_chance

"""From a network's outputs to "how likely more than half of the radiologists would rate it 4 or 5"."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Calibration", "attributes_of", "expected_rating", "fit_calibration", "fit_logistic", "suspicion"]

Floats = NDArray[np.floating]

FIRST_ATTRIBUTE = 5
"""Of the network's outputs: sphericity; the four shares of malignancy and subtlety come before it."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Logistic curve over the score (or the suspicion): two numbers, stored with the weights."""

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept) and self.slope > 0):
            raise ValueError("expected finite numbers and a slope above 0")

    def probability(self, scores: Floats) -> NDArray[np.float64]:
        """0 … 1."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * np.asarray(scores, dtype=float) + self.intercept))))


def expected_rating(logits: Floats) -> NDArray[np.float64]:
    """Mean malignancy rating that radiologists would give, 1 … 5, from (n, outputs) logits."""
    return np.asarray(1.0 + (1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=float)[:, :4]))).sum(axis=1))


def attributes_of(logits: Floats) -> NDArray[np.float64]:
    """(n, 11) logits → (n, 6): sphericity, margin, lobulation, spiculation, texture, 1 to 5, and calcified, 0 to 1."""
    shares = 1.0 / (1.0 + np.exp(-np.asarray(logits, dtype=float)[:, FIRST_ATTRIBUTE : FIRST_ATTRIBUTE + 6]))
    return np.concatenate([1.0 + 4.0 * shares[:, :5], shares[:, 5:]], axis=1)


def suspicion(logits: Floats) -> NDArray[np.float64]:
    """What nodules are ranked by: mean of the four logits "at least 2 … 5", any real number."""
    return np.asarray(np.asarray(logits, dtype=float)[:, :4].mean(axis=1))


def fit_calibration(scores: Floats, majority: NDArray[np.bool_]) -> Calibration:
    """(n,) scores and whether more than half of the readers gave 4 or 5 → the curve.

    Logistic regression with Platt's targets, which keep it finite where the two groups do not overlap. Raises
    ValueError where one of the groups is empty.
    """
    yes = int(majority.sum())
    no = len(majority) - yes
    if not yes or not no:
        raise ValueError("expected nodules of both kinds to calibrate on")
    s = np.asarray(scores, dtype=float)
    middle, scale = float(s.mean()), float(s.std()) + 1e-9
    target = np.where(majority, (yes + 1) / (yes + 2), 1 / (no + 2))
    slope, constant = fit_logistic((s[:, None] - middle) / scale, target, 1e-3)
    return Calibration(float(slope / scale), float(constant - slope * middle / scale))


def fit_logistic(features: Floats, share: Floats, penalty: float) -> NDArray[np.float64]:
    """Coefficients and constant of a logistic regression on shares 0 to 1, the coefficients' squares weighed by
    `penalty`.
    """
    design = np.column_stack([features, np.ones(len(features))]).astype(np.float64)
    ridge = np.diag([*[penalty] * features.shape[1], 1e-6])
    beta = np.zeros(design.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(design @ beta, -30, 30)))
        hessian = (design * (p * (1 - p))[:, None]).T @ design + ridge
        beta = beta + np.linalg.solve(hessian, design.T @ (share - p) - ridge @ beta)
    return beta

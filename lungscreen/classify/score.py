"""Suspicion and measured features ─► one score, fitted to readers' ratings and stored as plain numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.features import FEATURES

__all__ = ["Score", "fit_score"]

Floats = NDArray[np.floating]

REACH = 4.0
"""A feature counts at most so many of its standard deviations away from its mean."""

DECIDED = (2.0, 4.0)
"""Mean ratings beyond which it does not matter how sure the readers were: ratings are clipped there before the fit."""

PENALTY = 1.0
"""Weight of the squared coefficients of the features (chosen on the subsets for training, as is the next)."""

SUSPICION_SHARE = 1.5
"""Of the network's suspicion beside the features, both in standard deviations."""


@dataclass(frozen=True)
class Score:
    """Any real number, the higher the more suspicious: suspicion · its factor + features · coefficients + constant.

    mean, scale, coefficients: one for each of `FEATURES`, which are clipped at `REACH` scales.
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[float, ...]
    suspicion: float
    constant: float

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.scale) == len(self.coefficients) == len(FEATURES):
            raise ValueError(f"expected {len(FEATURES)} features")
        numbers = np.array([*self.mean, *self.scale, *self.coefficients, self.suspicion, self.constant])
        if not np.isfinite(numbers).all() or min(self.scale) <= 0:
            raise ValueError("expected finite numbers and scales above 0")

    def of(self, suspicion: Floats, features: Floats) -> NDArray[np.float64]:
        """(n,) and (n, features) → (n,)."""
        away = np.clip((features - np.array(self.mean)) / np.array(self.scale), -REACH, REACH)
        return np.asarray(suspicion * self.suspicion + away @ np.array(self.coefficients) + self.constant)

    def as_numbers(self) -> dict[str, Any]:
        """As the manifest holds it."""
        return {"features": list(FEATURES), **asdict(self)}

    @classmethod
    def from_numbers(cls, numbers: Mapping[str, Any]) -> Score:
        """What `as_numbers` gave. ValueError where the features are others."""
        if tuple(numbers["features"]) != FEATURES:
            raise ValueError("the score is of other features")
        parts = {key: tuple(float(v) for v in numbers[key]) for key in ("mean", "scale", "coefficients")}
        return cls(**parts, suspicion=float(numbers["suspicion"]), constant=float(numbers["constant"]))


def fit_score(suspicion: Floats, features: Floats, mean_rating: Floats) -> Score:
    """The features by least squares (ridge) on the mean rating, clipped at `DECIDED`; then the suspicion beside them by
    a fixed share. Expects rated nodules.
    """
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-9
    away = np.clip((features - mean) / scale, -REACH, REACH)
    rating = np.clip(mean_rating, *DECIDED).astype(np.float64)
    middle = away.mean(axis=0)
    beside = away - middle
    ridge = PENALTY * np.eye(away.shape[1])
    beta = np.linalg.solve(beside.T @ beside + ridge, beside.T @ (rating - rating.mean()))
    factor = SUSPICION_SHARE * float((away @ beta).std() + 1e-9) / (float(suspicion.std()) + 1e-9)
    return Score(
        tuple(float(v) for v in mean),
        tuple(float(v) for v in scale),
        tuple(float(v) for v in beta),
        factor,
        float(rating.mean() - middle @ beta - factor * suspicion.mean()),
    )

"""The shipped networks, made to doubt: the second look says what a test wants, all else is their own."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.classify.second_look import SecondLook
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.pipeline import networks

__all__ = ["doubt_every_mark"]

LEAST_HEAT = 0.3
"""Marks that the heatmap scores lower are left to be next to nothing: a study has hundreds."""


def doubt_every_mark(monkeypatch: pytest.MonkeyPatch, probability: float, below: float) -> None:
    """Every strong mark is a nodule with this probability; marks below `below` are taken for none."""

    def marks(self: SecondLook, hu: object, found: NDArray[np.float32]) -> NDArray[np.float64]:
        return np.where(found[:, 4] >= LEAST_HEAT, probability, probability / 1000)

    def points(self: SecondLook, volume: object, centres: list[object]) -> NDArray[np.float64]:
        return np.full(len(centres), probability)

    def masses(self: SecondLook, hu: object, balls: object) -> NDArray[np.float32]:
        return np.empty((0, 5), np.float32)

    monkeypatch.setattr(SecondLook, "rate_marks", marks)
    monkeypatch.setattr(SecondLook, "rate_points", points)
    monkeypatch.setattr(SecondLook, "rate_masses", masses)
    monkeypatch.setattr(networks, "operating_points", lambda *_: dict.fromkeys(OPERATING_POINTS, below))
    monkeypatch.setattr(networks, "_doubtful", lambda *_: min(below, probability) / 2)

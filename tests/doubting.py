"""The shipped classifier, made to doubt: its second look says what a test wants, all else is its own."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lungscreen.classify import Answers, find_classifier
from lungscreen.classify.inference import TrainedClassifier

__all__ = ["doubt_every_mark"]


def doubt_every_mark(monkeypatch: pytest.MonkeyPatch, probability: float, below: float) -> None:
    """Every mark is a nodule with this probability; marks below `below` are taken for none."""
    rate = TrainedClassifier.rate

    def doubt(self: TrainedClassifier, patches: np.ndarray) -> Answers:
        return dataclasses.replace(rate(self, patches), nodule=np.full(len(patches), probability))

    monkeypatch.setattr(TrainedClassifier, "rate", doubt)
    shipped = TrainedClassifier.from_weights(find_classifier())
    told = dataclasses.replace(shipped, no_nodule_below=below)
    monkeypatch.setattr(TrainedClassifier, "from_weights", lambda _: told)

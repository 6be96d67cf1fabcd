"""Training of the network that outlines nodules and rates their malignancy: cubes ─► members ─► weights."""

from __future__ import annotations

from lungscreen.training.classifier.recipe import ClassifierTraining
from lungscreen.training.classifier.train import train_classifier

__all__ = ["ClassifierTraining", "train_classifier"]

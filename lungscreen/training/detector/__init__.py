"""Training of the nodule detector: annotated data ─► shards ─► samples ─► network."""

from __future__ import annotations

from lungscreen.training.detector.prepare import prepare_data
from lungscreen.training.detector.recipe import DetectorTraining
from lungscreen.training.detector.train import train_detector

__all__ = ["DetectorTraining", "prepare_data", "train_detector"]

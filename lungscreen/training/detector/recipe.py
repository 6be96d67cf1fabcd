"""The detector's recipe: `pipelines/train_detector.toml` as frozen dataclasses."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Literal

from lungscreen.config import config_hash
from lungscreen.detect.network import Architecture
from lungscreen.training.detector.blocks import SampleConfig

__all__ = ["DetectorTraining", "Pretraining", "Schedule", "Split", "learning_rate"]

_MAY_CHANGE = ("steps", "decay", "save_every", "measure_every", "workers", "replicas")
"""Settings of the schedule that a resumed run may have otherwise."""


@dataclass(frozen=True)
class Split:
    """Who is learned from; folders of `data prepare` are divided by their own index, not by this. Subsets are LUNA16's;
    a held-out scan takes its patient's cubes along.

    train_subsets: cubes learned from.
    choice_subsets: cubes for choices.
    scans: all whole scans that may be used.
    held_out_scans: those of `scans` that this run does not learn from; LIDC scans among them serve choices.
    held_out_patients: further patients left out.
    phantoms: seeds of synthetic lungs without nodules that join the scans.
    """

    train_subsets: tuple[str, ...] = ()
    choice_subsets: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()
    held_out_scans: tuple[str, ...] = ()
    held_out_patients: tuple[str, ...] = ()
    phantoms: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if set(self.train_subsets) & set(self.choice_subsets):
            raise ValueError("a subset is learned from and used for choices")
        if set(self.held_out_scans) - set(self.scans):
            raise ValueError("held_out_scans: not among scans")

    @property
    def names_data(self) -> bool:
        """Cubes or scans are learned from or chosen by, beside prepared folders."""
        return bool(self.train_subsets or self.choice_subsets or self.scans)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. Steps are optimiser steps.

    steps: all.
    warmup: linear from 0.
    decay: the last steps, where the rate falls to 0 by a cosine; before, it is `rate`.
    ema: decay of the running mean of the weights, which is what ships.
    clip: largest gradient norm.
    mine_every, measure_every, save_every: steps between (0: never).
    workers: processes that make samples.
    replicas: threads that share a batch, each with its own part and batch statistics (on busy CPUs faster than one
        network on as many cores: they wait for each other once a step).
    """

    steps: int
    batch: int = 16
    warmup: int = 200
    decay: int = 1000
    rate: float = 1.5e-3
    weight_decay: float = 0.01
    ema: float = 0.998
    clip: float = 5.0
    offset_weight: float = 0.2
    size_weight: float = 0.5
    mine_every: int = 1000
    mine_per_scan: int = 60
    measure_every: int = 1500
    save_every: int = 300
    workers: int = 1
    replicas: int = 1

    def __post_init__(self) -> None:
        if min(self.steps, self.batch, self.save_every, self.replicas) < 1 or self.batch % self.replicas:
            raise ValueError("expected steps, batch, save_every, replicas of at least 1; batch a multiple of replicas")
        if min(self.warmup, self.decay, self.mine_every, self.measure_every, self.workers, self.mine_per_scan) < 0:
            raise ValueError("expected nothing below 0")
        if not (0 < self.rate < 1 and 0 <= self.ema < 1 and self.clip > 0):
            raise ValueError("expected 0 < rate < 1, 0 <= ema < 1, clip > 0")


@dataclass(frozen=True)
class Pretraining:
    """Filling in what is hidden, before the steps with labels. `steps`: 0 for none.

    hidden: share of a patch that is.
    block: side of what is hidden at once, voxels.
    rate: highest, after a warm-up.
    """

    steps: int = 0
    batch: int = 16
    rate: float = 1.5e-3
    hidden: float = 0.5
    block: int = 8
    save_every: int = 100

    def __post_init__(self) -> None:
        if self.steps < 0 or min(self.batch, self.block, self.save_every) < 1:
            raise ValueError("expected steps of at least 0; batch, block, save_every of at least 1")
        if not 0 < self.hidden < 1 or not 0 < self.rate < 1:
            raise ValueError("expected 0 < hidden < 1 and 0 < rate < 1")


@dataclass(frozen=True)
class DetectorTraining:
    """The whole recipe: `pipelines/train_detector.toml`."""

    split: Split
    schedule: Schedule
    samples: SampleConfig = field(default_factory=SampleConfig)
    architecture: Architecture = field(default_factory=Architecture)
    pretraining: Pretraining = field(default_factory=Pretraining)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @property
    def identity(self) -> str:
        """What must not change when a run goes on; `steps` and `decay` may."""
        schedule = {k: v for k, v in asdict(self.schedule).items() if k not in _MAY_CHANGE}
        parts = [asdict(self.split), schedule, self.samples.settings, asdict(self.architecture), self.seed]
        before = {k: v for k, v in asdict(self.pretraining).items() if k != "save_every"}
        return config_hash(*parts, *([before] if self.pretraining.steps else []))


def learning_rate(step: int, schedule: Schedule) -> float:
    """Rate of the step that follows `step` finished ones: warm-up, stable, cosine to 0."""
    rise = min(1.0, (step + 1) / max(1, schedule.warmup))
    left = (schedule.steps - step) / max(1, schedule.decay)
    fall = 1.0 if left >= 1 else 0.5 * (1 - math.cos(math.pi * max(0.0, left)))
    return schedule.rate * rise * fall

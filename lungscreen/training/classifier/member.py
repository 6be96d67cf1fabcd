"""Training of one member of the classifier: cubes ─► a network.

A leg of the loop is an epoch: what is drawn in it follows from the seed, the member and the epoch.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.network import OUTPUTS, Network
from lungscreen.training.classifier.data import Cubes
from lungscreen.training.classifier.recipe import ClassifierTraining, new_network
from lungscreen.training.classifier.samples import draw_batch, to_tensors
from lungscreen.training.loop import Course, Leg, LoopConfig, TrainingState, resume, run_loop

__all__ = ["cycle_rate", "train_member"]

Progress = Callable[[str], None]
Indices = NDArray[np.intp]

LOSS_WEIGHTS = (1.0, 1.0, 2.0, 1.0, *(0.3,) * (len(OUTPUTS) - 4))
"""Of the outputs: "at least 4" is what is asked for; the attributes only help to see."""


@dataclass(frozen=True, eq=False)
class _Batch:
    """patch, mask: (n, 1, p, p, p).
    targets: (n, outputs), NaN where not rated.
    """

    patch: Tensor
    mask: Tensor
    targets: Tensor


def train_member(
    config: ClassifierTraining,
    cubes: Cubes,
    train: Indices,
    member: int,
    out: Path,
    progress: Progress = lambda _: None,
) -> Network:
    """Train one network on the cubes `train`, or continue from its checkpoint in `out`. Returns the running mean.

    Errors: `config-invalid` for a checkpoint of another recipe, `training-data-invalid` for one that cannot be read,
    `training-diverged`.
    """
    names = [cubes.names[i] for i in train]
    network, mean, optimiser = _start(config, member)
    state = TrainingState(config.identity(member, names), network, optimiser, mean)
    cycles = [(config.epochs, out / f"member{member}.pt", state.identity)]
    if config.second_cycle:
        again = config.identity(member, names, config.second_cycle)
        cycles.append((config.epochs + config.second_cycle, out / f"member{member}-second.pt", again))
    course = _MemberCourse(config, cubes, train, member, network)
    for epochs, checkpoint, identity in cycles:
        state.identity, course.epochs = identity, epochs
        resume(state, course, checkpoint)
        steps = epochs * course.steps_per_epoch
        run_loop(state, course, LoopConfig(steps, config.clip, config.ema), checkpoint, progress=progress)
    return mean.eval()


@dataclass(eq=False)
class _MemberCourse(Course[_Batch]):
    """What a member learns from, and how.

    epochs: of all cycles up to this one.
    """

    config: ClassifierTraining
    cubes: Cubes
    train: Indices
    member: int
    network: Network
    epochs: int = 0

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train) // self.config.batch

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return to_tensors(self.cubes)

    def next_stop(self, step: int) -> int:
        return (step // self.steps_per_epoch + 1) * self.steps_per_epoch

    def rate(self, step: int) -> float:
        epoch, n = divmod(step, self.steps_per_epoch)
        return cycle_rate(self.config, epoch + n / self.steps_per_epoch)

    def batches(self, first: int, stop: int) -> Iterator[_Batch]:
        config, cubes = self.config, self.cubes
        drawn = _seed_of(config.seed, self.member, first // self.steps_per_epoch)
        generator = torch.Generator().manual_seed(drawn)
        torch.manual_seed(drawn)
        order = self.train[torch.randperm(len(self.train), generator=generator).numpy()]
        for n in range(stop - first):
            chosen = order[n * config.batch : (n + 1) * config.batch]
            patch, mask = draw_batch(
                *self._tensors, cubes.centres[chosen], chosen, config.patch, config.variation, generator
            )
            yield _Batch(patch, mask, torch.from_numpy(cubes.targets[chosen]))

    def learn(self, batch: _Batch) -> dict[str, float]:
        self.network.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            ratings, outline = self.network(batch.patch)
        loss = _rating_loss(ratings.float(), batch.targets)
        loss = loss + self.config.outline_weight * _outline_loss(outline.float(), batch.mask)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach())}

    def describe(self, leg: Leg) -> str:
        return f"member {self.member}, epoch {leg.stop // self.steps_per_epoch}/{self.epochs}: loss {leg.loss:.3f}"


def _seed_of(seed: int, member: int, epoch: int) -> int:
    """What an epoch of a member draws from; epoch -1 is the network's start."""
    return (seed * 1_000_003 + member) * 1_000_003 + epoch + 1


def _rating_loss(ratings: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with the shares of readers; what was not rated does not count."""
    known = torch.isfinite(targets)
    weight = known * torch.tensor(LOSS_WEIGHTS)
    each = functional.binary_cross_entropy_with_logits(ratings, torch.nan_to_num(targets), reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1.0)


def _outline_loss(outline: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy and Dice."""
    inside = torch.sigmoid(outline)
    overlap = (inside * mask).sum((1, 2, 3, 4))
    dice = (2 * overlap + 1) / (inside.sum((1, 2, 3, 4)) + mask.sum((1, 2, 3, 4)) + 1)
    return 5 * functional.binary_cross_entropy_with_logits(outline, mask) + (1 - dice).mean()


def cycle_rate(config: ClassifierTraining, epochs: float) -> float:
    """Learning rate after `epochs`: in each cycle a rise by a cosine in the first 15 %, then a fall by a cosine."""
    first = epochs < config.epochs
    done = epochs / config.epochs if first else (epochs - config.epochs) / config.second_cycle
    rise = 0.15
    share = (
        0.5 - 0.5 * math.cos(math.pi * done / rise)
        if done < rise
        else 0.5 + 0.5 * math.cos(math.pi * (done - rise) / (1 - rise))
    )
    return config.rate * max(share, 1e-4)


def _start(config: ClassifierTraining, member: int) -> tuple[Network, Network, torch.optim.Optimizer]:
    """Network, running mean, optimiser."""
    torch.manual_seed(_seed_of(config.seed, member, -1))
    network: Network = new_network(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.weight_decay)
    return network, copy.deepcopy(network), optimiser

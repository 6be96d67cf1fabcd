"""Training of one member of the classifier: cubes ─► a network.

A run is a function of its configuration, its data and its seed: what is drawn in an epoch follows from the seed, the
member and the epoch, and the checkpoint, written after each, holds everything else. A run that was stopped goes on as
if it had not been.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.network import OUTPUTS, Network
from lungscreen.training.checkpoint import load_checkpoint, save_checkpoint
from lungscreen.training.classifier_data import Cubes
from lungscreen.training.classifier_recipe import ClassifierTraining, build_network
from lungscreen.training.classifier_samples import draw_batch, to_tensors
from lungscreen.training.steps import follow, take_step

__all__ = ["train_member"]

Progress = Callable[[str], None]
Indices = NDArray[np.intp]

LOSS_WEIGHTS = (1.0, 1.0, 2.0, 1.0, *(0.3,) * (len(OUTPUTS) - 4))
"""Of the outputs: "at least 4" is what is asked for; the attributes only help to see."""


@dataclass(eq=False)
class _State:
    """All that a member's checkpoint holds."""

    network: Network
    ema: Network
    optimiser: torch.optim.Optimizer
    epoch: int = 0


def train_member(
    config: ClassifierTraining,
    cubes: Cubes,
    train: Indices,
    member: int,
    out: Path,
    progress: Progress = lambda _: None,
) -> Network:
    """Train one network on the cubes `train`, or go on with its checkpoint in `out`. Returns the running mean.

    Errors: `config-invalid` for a checkpoint of another recipe, `training-diverged`.
    """
    state = _start(config, member)
    names = [cubes.names[i] for i in train]
    learn = _Learning(config, cubes, train, member, progress)
    learn.cycle(state, config.epochs, out / f"member{member}.pt", config.identity(member, names))
    if config.second_cycle:
        whole = config.epochs + config.second_cycle
        again = config.identity(member, names, config.second_cycle)
        learn.cycle(state, whole, out / f"member{member}-second.pt", again)
    return state.ema.eval()


@dataclass(frozen=True, eq=False)
class _Learning:
    """What a member learns from, and how."""

    config: ClassifierTraining
    cubes: Cubes
    train: Indices
    member: int
    progress: Progress

    def cycle(self, state: _State, until: int, path: Path, identity: str) -> None:
        """Epochs up to `until`, or what is left of them after the checkpoint `path`."""
        _restore(state, path, identity)
        if state.epoch == until:
            return
        tensors = to_tensors(self.cubes)
        while state.epoch < until:
            losses = self._epoch(state, *tensors)
            state.epoch += 1
            self.progress(f"member {self.member}, epoch {state.epoch}/{until}: loss {np.mean(losses):.3f}")
            _save(state, path, identity)

    def _epoch(self, state: _State, intensity: Tensor, masks: Tensor) -> list[float]:
        config, cubes = self.config, self.cubes
        drawn = _seed_of(config.seed, self.member, state.epoch)
        generator = torch.Generator().manual_seed(drawn)
        torch.manual_seed(drawn)
        order = self.train[torch.randperm(len(self.train), generator=generator).numpy()]
        steps = len(self.train) // config.batch
        losses = []
        for n in range(steps):
            _set_rate(state.optimiser, config, state.epoch + n / steps)
            chosen = order[n * config.batch : (n + 1) * config.batch]
            batch = draw_batch(
                intensity, masks, cubes.centres[chosen], chosen, config.patch, config.variation, generator
            )
            losses.append(_step(state, batch, torch.from_numpy(cubes.targets[chosen]), config, state.epoch * steps + n))
        return losses


def _step(state: _State, batch: tuple[Tensor, Tensor], targets: Tensor, config: ClassifierTraining, step: int) -> float:
    patch, mask = batch
    state.network.train()
    with torch.autocast("cpu", torch.bfloat16):
        ratings, outline = state.network(patch)
    loss = _rating_loss(ratings.float(), targets) + config.outline_weight * _outline_loss(outline.float(), mask)
    value = take_step(loss, state.network, state.optimiser, config.clip)
    follow(state.ema, state.network, config.ema, step)
    return value


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


def _set_rate(optimiser: torch.optim.Optimizer, config: ClassifierTraining, epochs: float) -> None:
    """Each cycle: a rise by a cosine in the first 15 %, then a fall by a cosine. epochs: done so far."""
    first = epochs < config.epochs
    done = epochs / config.epochs if first else (epochs - config.epochs) / config.second_cycle
    rise = 0.15
    share = (
        0.5 - 0.5 * math.cos(math.pi * done / rise)
        if done < rise
        else 0.5 + 0.5 * math.cos(math.pi * (done - rise) / (1 - rise))
    )
    for group in optimiser.param_groups:
        group["lr"] = config.rate * max(share, 1e-4)


# -- checkpoints -----------------------------------------------------------------------------------------------------
def _start(config: ClassifierTraining, member: int) -> _State:
    torch.manual_seed(_seed_of(config.seed, member, -1))
    network = build_network(config).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.weight_decay)
    return _State(network, copy.deepcopy(network), optimiser)


def _save(state: _State, path: Path, identity: str) -> None:
    content: dict[str, Any] = {
        "identity": identity,
        "epoch": state.epoch,
        "network": state.network.state_dict(),
        "ema": state.ema.state_dict(),
        "optimiser": state.optimiser.state_dict(),
    }
    save_checkpoint(content, path)


def _restore(state: _State, path: Path, identity: str) -> None:
    if not path.exists():
        return
    content = load_checkpoint(path, identity)
    state.network.load_state_dict(content["network"])
    state.ema.load_state_dict(content["ema"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.epoch = content["epoch"]

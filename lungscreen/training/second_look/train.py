"""Training of the second look: places ─► a network that tells a nodule from what was taken for one ─► its threshold.

It begins from chance and has its own weights' part, recipe and people, so that the network that rates can change
without it. Nodules and false marks are drawn in equal number, strong false marks more often than weak ones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.inference import mean_logits
from lungscreen.classify.network import FoldedNetwork, Network
from lungscreen.classify.preparation import scale_hu
from lungscreen.errors import UsageError
from lungscreen.training.classifier.data import SIDE
from lungscreen.training.classifier.samples import cut_turned, draw_batch, shift_centres
from lungscreen.training.loop import Course, Leg, LoopConfig, TrainingState, resume, run_loop
from lungscreen.training.second_look.places import Places
from lungscreen.training.second_look.recipe import SecondLookTraining

__all__ = ["choose_threshold", "rate_places", "train_second_look"]

Progress = Callable[[str], None]
Indices = NDArray[np.intp]
Shares = NDArray[np.float64]

OUTLINE_WEIGHT = 2.5
"""Of the outline's loss of nodules beside the answer's: what is pooled is pooled inside the outline."""

CLIP = 2.0
"""Largest norm of a step's gradient."""

RISE = 0.1
"""Share of the steps in which the rate rises; then it falls by a cosine."""

WEAKEST = 0.04
"""Score that a place counts as when false marks are drawn by their score, at the least."""


FAINT_HU = -500.0
"""Mean inside its outline below which a nodule is faint: these are few, and the first that a threshold loses."""


@dataclass(frozen=True, eq=False)
class _Deck:
    """What is drawn from: of real and of made places (in this order) the nodules and the false marks, and how often
    each.
    """

    nodules: tuple[Indices, Indices]
    false: tuple[Indices, Indices]
    nodule_shares: tuple[Shares, Shares]
    false_shares: tuple[Shares, Shares]


@dataclass(frozen=True, eq=False)
class _Batch:
    """patch, mask: (n, 1, p, p, p).  chosen: (n,) which places they are."""

    patch: Tensor
    mask: Tensor
    chosen: Indices


def train_second_look(
    config: SecondLookTraining,
    places: Places,
    train: Indices,
    checkpoint: Path | None = None,
    progress: Progress = lambda _: None,
) -> FoldedNetwork:
    """Train on the places `train`, or go on from the checkpoint. Returns the running mean of the weights.

    Errors: `config-invalid` where there are no nodules or no false marks, and for a checkpoint of another recipe or of
    other places; `training-diverged`.
    """
    deck = _deal(config, places, train)
    identity = config.identity([places.names[n] for n in train], places.centres[train].tolist())
    network, mean, optimiser = _start(config)
    state = TrainingState(identity, network, optimiser, mean)
    course = _SecondLookCourse(config, places, deck, network)
    if checkpoint:
        resume(state, course, checkpoint)
    run_loop(state, course, LoopConfig(config.steps, CLIP, config.ema), checkpoint, progress=progress)
    return mean.eval()


@dataclass(eq=False)
class _SecondLookCourse(Course[_Batch]):
    """What is learned from; a leg ends where the checkpoint is written."""

    config: SecondLookTraining
    places: Places
    deck: _Deck
    network: FoldedNetwork

    @cached_property
    def _tensors(self) -> tuple[Tensor, Tensor]:
        return _tensors(self.places)

    def next_stop(self, step: int) -> int:
        return step + self.config.save_every

    def rate(self, step: int) -> float:
        share = step / self.config.steps
        height = share / RISE if share < RISE else 0.5 + 0.5 * math.cos(math.pi * (share - RISE) / (1 - RISE))
        return self.config.rate * max(height, 1e-3)

    def batches(self, first: int, stop: int) -> Iterator[_Batch]:
        config, places = self.config, self.places
        torch.manual_seed(config.seed * 1_000_003 + first)
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + first)
        draw = np.random.default_rng((config.seed, first))
        for _ in range(first, stop):
            chosen = _draw_places(config, self.deck, draw)
            at, cube, bounds = places.centres[chosen], places.cube[chosen], _bounds(places, chosen, self.deck, draw)
            patch, mask = draw_batch(*self._tensors, at, cube, config.patch, config.variation, generator, bounds)
            yield _Batch(patch, mask, chosen)

    def learn(self, batch: _Batch) -> dict[str, float]:
        self.network.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            answer, outline = self.network(batch.patch)
        truth = torch.from_numpy(self.places.nodule[batch.chosen].astype(np.float32))
        loss = functional.binary_cross_entropy_with_logits(answer.float()[:, 0], truth)
        drawn = torch.from_numpy(np.flatnonzero(self.places.outlined[batch.chosen]))
        if len(drawn):
            outlines = functional.binary_cross_entropy_with_logits(outline.float()[drawn], batch.mask[drawn])
            loss = loss + OUTLINE_WEIGHT * outlines
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach())}

    def describe(self, leg: Leg) -> str:
        return f"second look, step {leg.stop}/{self.config.steps}: loss {leg.loss:.3f}"


def rate_places(
    members: list[Network], places: Places, chosen: Indices, side: int, shift_mm: float = 3.0, seed: int = 0
) -> NDArray[np.float64]:
    """Probability of being a nodule, (n,); nodules from centres drawn from a ball, false marks where they lie."""
    used, cube = np.unique(places.cube[chosen], return_inverse=True)
    intensity, masks = _tensors(replace(places, hu=places.hu[used], masks=places.masks[used]))
    moved = shift_centres(places.centres[chosen], shift_mm, seed)
    middle = torch.from_numpy(np.where(places.nodule[chosen][:, None], moved, places.centres[chosen]))
    parts = []
    for start in range(0, len(chosen), 16):
        part = slice(start, start + 16)
        still = torch.eye(3).expand(len(chosen[part]), 3, 3)
        patches, _ = cut_turned(intensity, masks, cube[part], middle[part], side, still)
        parts.append(mean_logits(members, patches)[0][:, 0])
    return np.asarray(1 / (1 + np.exp(-np.concatenate(parts).astype(float))))


def choose_threshold(probabilities: NDArray[np.float64], sensitivity: float) -> float:
    """The highest threshold that keeps (at or above it) at least this share of nodules, a little below the lowest
    kept.
    """
    lost = int(np.floor((1 - sensitivity) * len(probabilities) + 1e-9))
    return float(np.sort(probabilities)[lost]) * 0.999


def _deal(config: SecondLookTraining, places: Places, train: Indices) -> _Deck:
    sides = [train[places.made[train] == made] for made in (False, True)]
    nodules = [side[places.nodule[side]] for side in sides]
    false = [side[~places.nodule[side]] for side in sides]
    if not (sum(map(len, nodules)) and sum(map(len, false))):
        raise UsageError("config-invalid", "expected both nodules and false marks to learn from")
    often = [np.where(_are_faint(places, side), config.faint, 1.0) for side in nodules]
    weights = [np.maximum(places.score[side].astype(float), WEAKEST) ** config.strong for side in false]
    shares = [weight / max(weight.sum(), 1e-9) for weight in (*often, *weights)]
    return _Deck((nodules[0], nodules[1]), (false[0], false[1]), (shares[0], shares[1]), (shares[2], shares[3]))


def _are_faint(places: Places, nodules: Indices) -> NDArray[np.bool_]:
    """Which nodules are mostly ground-glass, as far as their outline is known."""
    inside = [places.hu[cube][places.masks[cube]] for cube in places.cube[nodules]]
    return np.array([len(hu) > 0 and hu.mean() < FAINT_HU for hu in inside], dtype=bool)


def _draw_places(config: SecondLookTraining, deck: _Deck, draw: np.random.Generator) -> Indices:
    """Half nodules, half false marks; of each half a share from phantoms."""
    chosen: list[int] = []
    for _ in range(config.batch // 2):
        for nodule in (True, False):
            groups = deck.nodules if nodule else deck.false
            made = int(len(groups[1]) > 0 and (draw.random() < config.made or not len(groups[0])))
            shares = deck.nodule_shares if nodule else deck.false_shares
            chosen.append(int(draw.choice(groups[made], p=shares[made])))
    return np.array(chosen)


def _bounds(places: Places, chosen: Indices, deck: _Deck, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Where each sample's surroundings end. False marks lie nearer to their cube's faces than nodules do; half of the
    nodules are cut off where a false mark's surroundings end, so that the cut does not tell them apart.
    """
    low, high = np.zeros((len(chosen), 3), np.float32), np.full((len(chosen), 3), SIDE - 1, np.float32)
    others, shares = deck.false[0], deck.false_shares[0]
    for n, place in enumerate(chosen):
        if places.nodule[place] and not places.made[place] and len(others) and draw.random() < 0.5:
            room = places.diameter_mm[place] / 2 + 4
            other, centre = places.centres[draw.choice(others, p=shares)], places.centres[place]
            low[n] = np.maximum(0, centre - np.maximum(other, room))
            high[n] = np.minimum(SIDE - 1, centre + np.maximum(SIDE - 1 - other, room))
    return torch.from_numpy(low), torch.from_numpy(high)


def _tensors(places: Places) -> tuple[Tensor, Tensor]:
    intensity = torch.from_numpy(scale_hu(places.hu).astype(np.float16))[:, None]
    return intensity, torch.from_numpy(places.masks)[:, None].half()


def _start(config: SecondLookTraining) -> tuple[FoldedNetwork, FoldedNetwork, torch.optim.Optimizer]:
    """Network, running mean, optimiser."""
    torch.manual_seed(config.seed)
    made = FoldedNetwork(config.widths, outputs=1)
    network: FoldedNetwork = made.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.weight_decay)
    return network, copy.deepcopy(network), optimiser

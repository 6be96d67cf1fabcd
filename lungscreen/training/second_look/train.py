"""Training of the second look: samples ─► a network that tells nodules and masses from what was taken for one."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import functional

from lungscreen.classify.two_views import TwoViews
from lungscreen.training.loop import Course, Leg, LoopConfig, TrainingState, resume, run_loop
from lungscreen.training.second_look.recipe import SecondLookTraining
from lungscreen.training.second_look.samples import Deck, SampleBatch, draw_samples
from lungscreen.weights import WeightsFile, load_tensors

__all__ = ["begin_with_mean", "train_second_look"]

Progress = Callable[[str], None]

OUTLINE_WEIGHT = 2.0
"""Of either outline's loss beside the answer's: what is pooled is pooled inside the outlines."""

CLIP = 2.0
"""Largest norm of a step's gradient."""

LEAST_RATE = 1e-3
"""Share of the highest rate that a fall ends at."""


def train_second_look(
    config: SecondLookTraining,
    deck: Deck,
    network: TwoViews,
    identity: str,
    checkpoint: Path | None = None,
    progress: Progress = lambda _: None,
) -> TwoViews:
    """Train the network from where it begins, or go on from the checkpoint. Returns the running mean of the weights.

    Errors: `config-invalid` for a checkpoint of another recipe or of other data; `training-diverged`.
    """
    last: TwoViews = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    mean = copy.deepcopy(last)
    optimiser = torch.optim.AdamW(last.parameters(), config.rate, weight_decay=config.weight_decay)
    state = TrainingState(identity, last, optimiser, mean)
    course = _SecondLookCourse(config, deck, last)
    if checkpoint:
        resume(state, course, checkpoint)
    run_loop(state, course, LoopConfig(config.steps, CLIP, config.ema), checkpoint, progress=progress)
    return mean.eval()


def begin_with_mean(network: TwoViews, weights: Sequence[WeightsFile]) -> None:
    """The mean of the weights of earlier runs, which all began with the same ones, into the network.

    Errors: `weights-invalid`; RuntimeError for another architecture.
    """
    tensors = [load_tensors(one) for one in weights]
    network.load_state_dict({key: sum(t[key] for t in tensors) / len(tensors) for key in tensors[0]})


@dataclass(eq=False)
class _SecondLookCourse(Course[SampleBatch]):
    """What is learned from; a leg ends where the checkpoint is written."""

    config: SecondLookTraining
    deck: Deck
    network: TwoViews

    def next_stop(self, step: int) -> int:
        return step + self.config.save_every

    def rate(self, step: int) -> float:
        share, rise = step / self.config.steps, self.config.rise
        if share < rise:
            height = share / rise
        else:
            height = 0.5 + 0.5 * math.cos(math.pi * (share - rise) / (1 - rise)) if self.config.fall else 1.0
        return self.config.rate * max(height, LEAST_RATE)

    def batches(self, first: int, stop: int) -> Iterator[SampleBatch]:
        for step in range(first, stop):
            batch = draw_samples(self.deck, self.config.batch, self.config.seed + 1, step)
            torch.manual_seed(self.config.seed * 1_000_003 + step)
            yield batch

    def learn(self, batch: SampleBatch) -> dict[str, float]:
        self.network.train().zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            answer, close, wide = self.network(batch.close, batch.wide)
        answers = functional.binary_cross_entropy_with_logits(answer.float(), batch.nodule)
        outlines = torch.zeros(())
        if (drawn := batch.outlined).any():
            for outline, mask in ((close, batch.close_mask), (wide, batch.wide_mask)):
                outlines = outlines + functional.binary_cross_entropy_with_logits(outline.float()[drawn], mask[drawn])
        loss = answers + OUTLINE_WEIGHT * outlines
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach()), "answers": float(answers.detach())}

    def describe(self, leg: Leg) -> str:
        return f"second look, step {leg.stop}/{self.config.steps}: loss {leg.loss:.3f}"

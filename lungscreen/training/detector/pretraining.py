"""Self-supervised pre-training: the detector's network learns to fill in what is hidden, from lungs without labels.

    patch of a cube or a lung ─► blocks hidden ─► backbone, another head ─► the hidden voxels ─► backbone's weights

After masked autoencoders (He et al. 2022). Only cubes and scans that the run learns from anyway are looked at, none of
their annotations. The backbone is all but the last layer; that one begins by chance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lungscreen.detect.network import STRIDE, Architecture, NoduleNet, window_hu
from lungscreen.training.detector.loader import load_batches
from lungscreen.training.detector.recipe import DetectorTraining, Pretraining
from lungscreen.training.detector.samples import SampleEngine
from lungscreen.training.detector.voxels import Floats
from lungscreen.training.loop import Course, Leg, LoopConfig, TrainingState, resume, run_loop

__all__ = ["hide_blocks", "pretrain", "reconstruction_loss"]

STREAM = 3 << 40
"""Keeps the random numbers of these batches apart from those of the steps with labels."""


def pretrain(
    config: DetectorTraining,
    engine: SampleEngine,
    identity: str,
    out: Path,
    device: torch.device,
    progress: Callable[[str], None],
) -> dict[str, Tensor]:
    """Weights of the backbone after `config.pretraining.steps`, by `NoduleNet`'s names.

    identity: of the run.
    out: gets pretraining.pt, from which a run that was stopped goes on exactly, and pretraining.csv. Errors:
        `config-invalid` where `out` holds another recipe's, `training-diverged`, `output-failed`,
        `training-data-invalid`.
    """
    torch.manual_seed(config.seed + 1)
    network = _filler(config.architecture).to(device)
    network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    settings, decay = config.pretraining, config.schedule.weight_decay
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=decay)
    state = TrainingState(identity, network, optimiser)
    course = _PretrainingCourse(config, engine, network, device)
    checkpoint, log = out / "pretraining.pt", out / "pretraining.csv"
    if resume(state, course, checkpoint, [log]):
        progress(f"pre-training: going on from step {state.step}")
    run_loop(state, course, LoopConfig(settings.steps, config.schedule.clip), checkpoint, log, progress)
    return {key: value for key, value in network.state_dict().items() if not key.startswith("head.")}


@dataclass(eq=False)
class _PretrainingCourse(Course[tuple[Tensor, Tensor]]):
    """Patches of the engine, and what of them is hidden."""

    config: DetectorTraining
    engine: SampleEngine
    network: NoduleNet
    device: torch.device

    def next_stop(self, step: int) -> int:
        every = self.config.pretraining.save_every
        return (step // every + 1) * every

    def rate(self, step: int) -> float:
        """Warm-up over a tenth of the steps, then a cosine to 0."""
        settings = self.config.pretraining
        rise = min(1.0, (step + 1) / max(1, settings.steps // 10))
        return settings.rate * rise * 0.5 * (1 + math.cos(math.pi * step / settings.steps))

    def batches(self, first: int, stop: int) -> Iterator[tuple[Tensor, Tensor]]:
        engine, config = self.engine, self.config
        return load_batches(
            lambda n: _batch(engine, config.pretraining, config.seed, n), first, stop, config.schedule.workers
        )

    def learn(self, batch: tuple[Tensor, Tensor]) -> dict[str, float]:
        hu, hidden = (part.to(self.device) for part in batch)
        mean = hu.mean((2, 3, 4), keepdim=True)
        seen = torch.where(hidden > 0, mean, hu).contiguous(memory_format=torch.channels_last_3d)
        self.network.train().zero_grad()
        with torch.autocast(hu.device.type, torch.bfloat16):
            out = self.network(seen)
        loss = reconstruction_loss(out.float(), hu, hidden, self.network.architecture)
        loss.backward()  # type: ignore[no-untyped-call]
        return {"loss": float(loss.detach())}

    def describe(self, leg: Leg) -> str:
        return f"pre-training, step {leg.stop}: loss {leg.loss:.5f}"


def hide_blocks(rng: np.random.Generator, shape: tuple[int, ...], share: float, side: int) -> Floats:
    """1 where something is hidden, 0 elsewhere: blocks of `side` voxels, `share` of them, on a grid that is shifted."""
    count = [-(-n // side) + 1 for n in shape]
    blocks = rng.random(count) < share
    whole = blocks.repeat(side, 0).repeat(side, 1).repeat(side, 2)
    start = rng.integers(0, side, len(shape))
    part = tuple(slice(int(a), int(a) + n) for a, n in zip(start, shape, strict=True))
    return whole[part].astype(np.float32)


def reconstruction_loss(out: Tensor, hu: Tensor, hidden: Tensor, architecture: Architecture) -> Tensor:
    """Mean absolute error of the hidden voxels, in the window that the network sees as 0…1.

    out: (n, 8, z/2, y/2, x/2), a channel for each of the 2³ voxels below an output voxel.
    hu, hidden: (n, 1, z, y, x).
    """
    n, _, z, y, x = out.shape
    fine = out.reshape(n, STRIDE, STRIDE, STRIDE, z, y, x).permute(0, 4, 1, 5, 2, 6, 3)
    fine = fine.reshape(n, 1, STRIDE * z, STRIDE * y, STRIDE * x)
    error = (fine - window_hu(hu, architecture)).abs() * hidden
    return error.sum() / hidden.sum().clamp(min=1)


def _filler(architecture: Architecture) -> NoduleNet:
    """The detector's network with a last layer that gives voxels."""
    network = NoduleNet(architecture)
    network.head = nn.Conv3d(architecture.head, STRIDE**3, 1)
    return network


def _batch(engine: SampleEngine, settings: Pretraining, seed: int, number: int) -> tuple[Floats, Floats]:
    """Patches (n, 1, p, p, p), and what of them is hidden."""
    rng = np.random.default_rng([seed, STREAM, number])
    hus, hidden = [], []
    for n in range(settings.batch):
        hu = engine.plain(rng, cube=n % 2 == 0)
        hus.append(hu)
        hidden.append(hide_blocks(rng, hu.shape, settings.hidden, settings.block))
    return np.stack(hus)[:, None], np.stack(hidden)[:, None]

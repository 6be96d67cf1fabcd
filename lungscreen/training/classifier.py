"""Training of the classifier: cubes ─► members (each a network) ─► calibration on the cubes for choices ─► weights.

A run is a function of its configuration, its data and its seed: what is drawn in an epoch follows from the seed, the
member and the epoch, and the checkpoint, written after each, holds everything else. A run that was stopped goes on as
if it had not been.
"""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.calibration import Calibration, expected_rating, fit_calibration, suspicion
from lungscreen.classify.network import OUTPUTS, NoduleNetwork
from lungscreen.config import config_hash
from lungscreen.errors import UsageError, WeightsError
from lungscreen.training.classifier_data import Cubes, select
from lungscreen.training.classifier_samples import Variation, cut_patches, draw_batch, shift_centres, to_tensors
from lungscreen.weights import WeightsFile, add_weights

__all__ = [
    "ClassifierSplit",
    "ClassifierTraining",
    "rate_cubes",
    "train_classifier",
    "train_member",
    "write_predictions",
    "write_weights",
]

Progress = Callable[[str], None]
Indices = NDArray[np.intp]

LOW, HIGH = 2.5, 3.5
"""Mean ratings up to which a nodule counts as benign, and from which as malignant; between is undecided."""

PATCHES = (24, 32, 40, 48)
"""Patches that can be trained on. With 16, the deepest maps are 2 x 2 x 2, and there the bfloat16 gradient of PyTorch 2.13's
convolution reads memory that nobody wrote: two equal runs differ, some diverge."""

LOSS_WEIGHTS = (1.0, 1.0, 2.0, 1.0, *(0.3,) * (len(OUTPUTS) - 4))
"""Of the outputs: "at least 4" is what is asked for; the attributes only help to see."""


@dataclass(frozen=True)
class ClassifierSplit:
    """Who is learned from. Subsets are LUNA16's.

    train_subsets: learned from.  choice_subsets: for choices and the calibration.  held_out_patients: left out of both.
    """

    train_subsets: tuple[str, ...]
    choice_subsets: tuple[str, ...]
    held_out_patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.train_subsets) & set(self.choice_subsets):
            raise ValueError("a subset is learned from and used for choices")


@dataclass(frozen=True)
class ClassifierTraining:
    """The whole recipe: `pipelines/train_classifier.toml`.

    members: networks that are averaged.  rate: highest learning rate of the one-cycle schedule.  ema: decay of the
    running mean of the weights, which is what ships.  patch: voxels of the cube that the network sees, 1 mm each.
    outline_weight: of the outline's loss beside the ratings'.
    """

    split: ClassifierSplit
    variation: Variation = field(default_factory=Variation)
    widths: tuple[int, int, int, int] = (8, 16, 32, 64)
    members: int = 1
    epochs: int = 40
    batch: int = 16
    rate: float = 3e-3
    weight_decay: float = 0.05
    ema: float = 0.995
    clip: float = 2.0
    outline_weight: float = 0.5
    patch: int = 40
    seed: int = 0
    version: str = "1"

    def __post_init__(self) -> None:
        if min(self.members, self.epochs, self.batch) < 1:
            raise ValueError("expected members, epochs and batch of at least 1")
        if self.patch not in PATCHES:
            raise ValueError(f"expected a patch of one of {PATCHES} voxels")
        if not (0 < self.rate < 1 and 0 <= self.ema < 1 and self.clip > 0 and self.outline_weight >= 0):
            raise ValueError("expected 0 < rate < 1, 0 <= ema < 1, clip above 0, outline_weight of at least 0")


@dataclass(eq=False)
class _State:
    """All that a member's checkpoint holds."""

    network: NoduleNetwork
    ema: NoduleNetwork
    optimiser: torch.optim.Optimizer
    epoch: int = 0


# -- the run ---------------------------------------------------------------------------------------------------------
def train_classifier(
    config: ClassifierTraining, cubes: Cubes, out: Path, progress: Progress = lambda _: None
) -> WeightsFile:
    """Train all members, or go on with the run in `out`; calibrate; write weights and manifest to `out/weights`,
    and the ratings of the cubes for choices to `out/choice.csv`.

    Errors: `config-invalid` where `out` holds a run of another recipe or the split is empty, `training-diverged`.
    """
    train = select(cubes, config.split.train_subsets, config.split.held_out_patients)
    choice = select(cubes, config.split.choice_subsets, config.split.held_out_patients)
    if len(train) < config.batch or not cubes.rated[choice].any():
        raise UsageError("config-invalid", "the split leaves too few cubes to learn from or to choose on")
    twice = {cubes.persons[i] for i in train} & {cubes.persons[i] for i in choice}
    if twice:
        raise UsageError("config-invalid", f"{len(twice)} persons are learned from and used for choices")
    out.mkdir(parents=True, exist_ok=True)
    members = [train_member(config, cubes, train, n, out, progress) for n in range(config.members)]
    weights = write_weights(members, config, cubes, choice, out / "weights")
    logits = rate_cubes(members, cubes, choice, config.patch, seed=config.seed)
    write_predictions(out / "choice.csv", cubes, choice, logits, Calibration(**weights.parameters["calibration"]))
    return weights


def write_weights(
    members: list[NoduleNetwork], config: ClassifierTraining, cubes: Cubes, choice: Indices, folder: Path
) -> WeightsFile:
    """Calibrate on the cubes for choices, then write weights and manifest entry to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rated = choice[cubes.rated[choice]]
    logits = rate_cubes(members, cubes, rated, config.patch, seed=config.seed)
    calibration = fit_calibration(logits, cubes.majority[rated])
    tensors = {f"member{n}.{key}": t for n, m in enumerate(members) for key, t in m.state_dict().items()}
    return add_weights(
        folder,
        "classifier",
        tensors,
        config.version,
        {"widths": list(config.widths), "members": len(members), "patch": config.patch},
        {"calibration": asdict(calibration)},
    )


def write_predictions(
    path: Path, cubes: Cubes, chosen: Indices, logits: NDArray[np.float32], calibration: Calibration
) -> None:
    """A row a cube, as `lungscreen evaluate classification` reads it.

    label: mean rating 3.5 and more (1), 2.5 and less (0), between or not rated empty.  majority: more than half of the
    readers gave 4 or 5, empty where not rated.
    """
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = (
            "id",
            "patient_id",
            "diameter_mm",
            "mean_rating",
            "label",
            "majority",
            "expected_rating",
            "probability",
        )
        table.writerow(names)
        parts = zip(chosen, expected_rating(logits), calibration.probability(suspicion(logits)), strict=True)
        for n, expected, probability in parts:
            mean = float(cubes.mean_rating[n])
            label = "1" if mean >= HIGH else "0" if mean <= LOW else ""
            majority = str(int(cubes.majority[n])) if math.isfinite(mean) else ""
            size = f"{cubes.diameter_mm[n]:.2f}" if math.isfinite(cubes.diameter_mm[n]) else ""
            rating = f"{mean:.3f}" if math.isfinite(mean) else ""
            row = (
                cubes.names[n],
                cubes.persons[n],
                size,
                rating,
                label,
                majority,
                f"{expected:.4f}",
                f"{probability:.6f}",
            )
            table.writerow(row)


def train_member(
    config: ClassifierTraining,
    cubes: Cubes,
    train: Indices,
    member: int,
    out: Path,
    progress: Progress = lambda _: None,
) -> NoduleNetwork:
    """Train one network on the cubes `train`, or go on with its checkpoint in `out`. Returns the running mean.

    Errors: `config-invalid` for a checkpoint of another recipe, `training-diverged`.
    """
    state = _start(config, member)
    path = out / f"member{member}.pt"
    identity = config_hash(asdict(config), member, [cubes.names[i] for i in train])
    _restore(state, path, identity)
    intensity, masks = to_tensors(cubes)
    steps = len(train) // config.batch
    while state.epoch < config.epochs:
        drawn = _seed_of(config.seed, member, state.epoch)
        generator = torch.Generator().manual_seed(drawn)
        torch.manual_seed(drawn)
        order = train[torch.randperm(len(train), generator=generator).numpy()]
        losses = []
        for n in range(steps):
            _set_rate(state.optimiser, config, (state.epoch * steps + n) / (config.epochs * steps))
            chosen = order[n * config.batch : (n + 1) * config.batch]
            batch = draw_batch(
                intensity, masks, cubes.centres[chosen], chosen, config.patch, config.variation, generator
            )
            losses.append(_step(state, batch, torch.from_numpy(cubes.targets[chosen]), config, state.epoch * steps + n))
        state.epoch += 1
        progress(f"member {member}, epoch {state.epoch}/{config.epochs}: loss {np.mean(losses):.3f}")
        _save(state, path, identity)
    return state.ema.eval()


def _step(state: _State, batch: tuple[Tensor, Tensor], targets: Tensor, config: ClassifierTraining, step: int) -> float:
    patch, mask = batch
    state.network.train()
    with torch.autocast("cpu", torch.bfloat16):
        ratings, outline = state.network(patch)
    loss = _rating_loss(ratings.float(), targets) + config.outline_weight * _outline_loss(outline.float(), mask)
    if not torch.isfinite(loss):
        raise WeightsError("training-diverged", "the loss is no longer a number; try a lower rate")
    state.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
    state.optimiser.step()
    decay = min(config.ema, (1 + step) / (10 + step))
    with torch.no_grad():
        for mean, now in zip(state.ema.state_dict().values(), state.network.state_dict().values(), strict=True):
            if mean.dtype.is_floating_point:
                mean.lerp_(now, 1 - decay)
            else:
                mean.copy_(now)
    return float(loss.detach())


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


def _set_rate(optimiser: torch.optim.Optimizer, config: ClassifierTraining, done: float) -> None:
    """One cycle: a rise by a cosine in the first 15 %, then a fall by a cosine."""
    rise = 0.15
    share = (
        0.5 - 0.5 * math.cos(math.pi * done / rise)
        if done < rise
        else 0.5 + 0.5 * math.cos(math.pi * (done - rise) / (1 - rise))
    )
    for group in optimiser.param_groups:
        group["lr"] = config.rate * max(share, 1e-4)


# -- ratings -----------------------------------------------------------------------------------------------------------
def rate_cubes(
    members: list[NoduleNetwork], cubes: Cubes, chosen: Indices, patch: int, shift_mm: float = 3.0, seed: int = 0
) -> NDArray[np.float32]:
    """Mean logits of members and mirrorings at centres drawn from a ball of `shift_mm`, (n, outputs)."""
    from lungscreen.classify.inference import mean_logits

    intensity, masks = to_tensors(cubes)
    middle = torch.from_numpy(shift_centres(cubes.centres[chosen], shift_mm, seed))
    still = torch.eye(3).expand(len(chosen), 3, 3)
    parts = []
    for start in range(0, len(chosen), 16):
        part = slice(start, start + 16)
        patches, _ = cut_patches(intensity, masks, chosen[part], middle[part], patch, still[part])
        parts.append(mean_logits(members, patches)[0])
    return np.concatenate(parts)


# -- checkpoints -----------------------------------------------------------------------------------------------------
def _start(config: ClassifierTraining, member: int) -> _State:
    torch.manual_seed(_seed_of(config.seed, member, -1))
    network = NoduleNetwork(config.widths).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
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
    temporary = path.with_suffix(".tmp")
    torch.save(content, temporary)
    temporary.replace(path)


def _restore(state: _State, path: Path, identity: str) -> None:
    if not path.exists():
        return
    content = torch.load(path, weights_only=True)
    if content["identity"] != identity:
        raise UsageError("config-invalid", "the folder holds a run of another recipe or other data", str(path))
    state.network.load_state_dict(content["network"])
    state.ema.load_state_dict(content["ema"])
    state.optimiser.load_state_dict(content["optimiser"])
    state.epoch = content["epoch"]

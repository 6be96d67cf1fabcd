"""Training of the second look: places ─► a network that tells a nodule from what was taken for one ─► its threshold.

It begins as the rating network, which already knows nodules and their outlines, and learns one answer from nodules and
false marks drawn in equal number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.inference import mean_logits
from lungscreen.classify.network import FoldedNetwork, Network
from lungscreen.classify.preparation import scale_hu
from lungscreen.errors import UsageError, WeightsError
from lungscreen.training.classifier_data import SIDE
from lungscreen.training.classifier_recipe import SecondLookTraining
from lungscreen.training.classifier_samples import cut_patches, draw_batch, shift_centres
from lungscreen.training.second_look_data import Places

__all__ = ["choose_threshold", "look_again", "train_second_look"]

Progress = Callable[[str], None]
Indices = NDArray[np.intp]

OUTLINE_WEIGHT = 0.5
"""Of the outline's loss of nodules beside the answer's: what is pooled is pooled inside the outline."""

RISE = 0.1
"""Share of the steps in which the rate rises; then it falls by a cosine."""


def train_second_look(
    config: SecondLookTraining,
    places: Places,
    train: Indices,
    begin_with: FoldedNetwork,
    side: int,
    progress: Progress = lambda _: None,
) -> FoldedNetwork:
    """Train on the places `train`, with patches of `side` voxels. Returns the running mean of the weights.

    Errors: `config-invalid` where there are no nodules or no false marks, `training-diverged`.
    """
    torch.manual_seed(config.seed)
    network, mean = _beginning(begin_with), _beginning(begin_with)
    mean.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.weight_decay)
    generator, draw = torch.Generator().manual_seed(config.seed), np.random.default_rng(config.seed)
    intensity, masks = _tensors(places)
    losses: list[float] = []
    for step in range(config.steps):
        share = step / config.steps
        height = share / RISE if share < RISE else 0.5 + 0.5 * np.cos(np.pi * (share - RISE) / (1 - RISE))
        for group in optimiser.param_groups:
            group["lr"] = config.rate * max(height, 1e-3)
        chosen = _draw_places(config, places, train, draw)
        batch = draw_batch(
            intensity,
            masks,
            places.centres[chosen],
            places.cube[chosen],
            side,
            config.variation,
            generator,
            _bounds(places, chosen, train, draw),
        )
        losses.append(_step(network, optimiser, batch, places, chosen))
        decay = min(config.ema, (1 + step) / (10 + step))
        with torch.no_grad():
            for kept, now in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
                if kept.dtype.is_floating_point:
                    kept.lerp_(now, 1 - decay)
                else:
                    kept.copy_(now)
        if step % 200 == 199:
            progress(f"second look, step {step + 1}/{config.steps}: loss {np.mean(losses[-200:]):.3f}")
    return mean.eval()


def look_again(
    members: list[Network], places: Places, chosen: Indices, side: int, shift_mm: float = 3.0, seed: int = 0
) -> NDArray[np.float64]:
    """Probability of being a nodule, (n,); nodules from centres drawn from a ball, false marks where they lie."""
    intensity, masks = _tensors(places)
    moved = shift_centres(places.centres[chosen], shift_mm, seed)
    middle = torch.from_numpy(np.where(places.nodule[chosen][:, None], moved, places.centres[chosen]))
    parts = []
    for start in range(0, len(chosen), 16):
        part = slice(start, start + 16)
        still = torch.eye(3).expand(len(chosen[part]), 3, 3)
        patches, _ = cut_patches(intensity, masks, places.cube[chosen[part]], middle[part], side, still)
        parts.append(mean_logits(members, patches)[0][:, 0])
    return np.asarray(1 / (1 + np.exp(-np.concatenate(parts).astype(float))))


def choose_threshold(probabilities: NDArray[np.float64], sensitivity: float) -> float:
    """The highest threshold that keeps (at or above it) at least this share of nodules, a little below the lowest kept."""
    lost = int(np.floor((1 - sensitivity) * len(probabilities) + 1e-9))
    return float(np.sort(probabilities)[lost]) * 0.999


def _beginning(rater: FoldedNetwork) -> FoldedNetwork:
    """A network of one answer whose other weights are the rater's."""
    widths = [layer[0][0].out_channels for layer in (rater.stem, rater.down2, rater.down3)]  # type: ignore[index]
    network = FoldedNetwork(widths, outputs=1)
    own = network.state_dict()
    taken = {key: value for key, value in rater.state_dict().items() if own[key].shape == value.shape}
    network.load_state_dict({**own, **taken})
    channels_last: FoldedNetwork = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return channels_last


def _step(
    network: FoldedNetwork,
    optimiser: torch.optim.Optimizer,
    batch: tuple[Tensor, Tensor],
    places: Places,
    chosen: Indices,
) -> float:
    patch, mask = batch
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        answer, outline = network(patch)
    truth = torch.from_numpy(places.nodule[chosen].astype(np.float32))
    loss = functional.binary_cross_entropy_with_logits(answer.float()[:, 0], truth)
    drawn = torch.from_numpy(np.flatnonzero(places.outlined[chosen]))
    if len(drawn):
        loss = loss + OUTLINE_WEIGHT * 5 * functional.binary_cross_entropy_with_logits(
            outline.float()[drawn], mask[drawn]
        )
    if not torch.isfinite(loss):
        raise WeightsError("training-diverged", "the loss is no longer a number; try a lower rate")
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
    optimiser.step()
    return float(loss.detach())


def _draw_places(config: SecondLookTraining, places: Places, train: Indices, draw: np.random.Generator) -> Indices:
    """Half nodules, half false marks; of each half a share from phantoms."""
    chosen: list[int] = []
    for nodule in (True, False):
        groups = [train[(places.nodule[train] == nodule) & (places.made[train] == made)] for made in (False, True)]
        if not len(groups[0]) + len(groups[1]):
            raise UsageError("config-invalid", "expected both nodules and false marks to learn from")
        for _ in range(config.batch // 2):
            made = bool(len(groups[1])) and (draw.random() < config.made or not len(groups[0]))
            chosen.append(int(draw.choice(groups[int(made)])))
    return np.array(chosen)


def _bounds(places: Places, chosen: Indices, train: Indices, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Where each sample's surroundings end. False marks lie nearer to their cube's faces than nodules do; half of the
    nodules are cut off where a false mark's surroundings end, so that the cut does not tell them apart.
    """
    low, high = np.zeros((len(chosen), 3), np.float32), np.full((len(chosen), 3), SIDE - 1, np.float32)
    others = train[~places.nodule[train] & ~places.made[train]]
    for n, place in enumerate(chosen):
        if places.nodule[place] and not places.made[place] and len(others) and draw.random() < 0.5:
            room = places.diameter_mm[place] / 2 + 4
            other, centre = places.centres[draw.choice(others)], places.centres[place]
            low[n] = np.maximum(0, centre - np.maximum(other, room))
            high[n] = np.minimum(SIDE - 1, centre + np.maximum(SIDE - 1 - other, room))
    return torch.from_numpy(low), torch.from_numpy(high)


def _tensors(places: Places) -> tuple[Tensor, Tensor]:
    intensity = torch.from_numpy(scale_hu(places.hu).astype(np.float16))[:, None]
    return intensity, torch.from_numpy(places.masks)[:, None].half()

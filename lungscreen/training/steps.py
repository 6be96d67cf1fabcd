"""One optimiser step, and the running mean that goes after it: what the classifier's trainings share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lungscreen.errors import WeightsError

__all__ = ["follow", "take_step"]


def take_step(loss: Tensor, network: nn.Module, optimiser: torch.optim.Optimizer, clip: float) -> float:
    """Down the gradient of the loss, its norm at most `clip`. Returns the loss.

    Errors: `training-diverged` where the loss is not finite: nothing has been changed then.
    """
    if not torch.isfinite(loss):
        raise WeightsError("training-diverged", "the loss is no longer a number; try a lower rate")
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
    optimiser.step()
    return float(loss.detach())


@torch.no_grad()
def follow(mean: nn.Module, network: nn.Module, most: float, step: int) -> None:
    """The running mean goes after step number `step` (from 0); its decay rises to `most`. Whole numbers are taken over."""
    decay = min(most, (1 + step) / (10 + step))
    for kept, now in zip(mean.state_dict().values(), network.state_dict().values(), strict=True):
        if kept.dtype.is_floating_point:
            kept.lerp_(now, 1 - decay)
        else:
            kept.copy_(now)

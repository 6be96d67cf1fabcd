"""The second look's network: two views of one place → how likely it is a nodule or a mass, and its outline in either
view.

    close, 1 mm voxels ─► trunk ─┐
                                 ├─► features inside the outlines and around ─► one logit
    wide, 2 mm voxels  ─► trunk ─┘

The close view tells a nodule from a vessel; the wide one sees where in the chest the place lies, and masses whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lungscreen.classify.network import FoldedTrunk, count_features, pool_features, rating_head

__all__ = ["TwoViews", "TwoViewsConfig"]


@dataclass(frozen=True)
class TwoViewsConfig:
    """What the network's constructor needs; stands in the manifest of the weights.

    close, wide: channels of the trunks at 2, 4 and 8 voxels.
    close_voxels, wide_voxels: side of the views, of 1 mm and of 2 mm.
    hidden: of the head.
    """

    close: tuple[int, ...] = (16, 32, 64)
    wide: tuple[int, ...] = (12, 24, 48)
    close_voxels: int = 32
    wide_voxels: int = 40
    hidden: int = 64

    def __post_init__(self) -> None:
        if len(self.close) != 3 or len(self.wide) != 3 or min(*self.close, *self.wide, self.hidden) < 1:
            raise ValueError("expected three positive widths for each view, and hidden of at least 1")
        if min(self.close_voxels, self.wide_voxels) < 16 or self.close_voxels % 8 or self.wide_voxels % 8:
            raise ValueError("expected views of 16 voxels and more that 8 divides")


class TwoViews(nn.Module):
    """(n, 1, c, c, c) and (n, 1, w, w, w), both 0 … 1 → (n,) logits, and outline logits of either view."""

    def __init__(self, config: TwoViewsConfig | None = None, dropout: float = 0.1) -> None:
        super().__init__()
        self.config = config = config or TwoViewsConfig()
        self.close, self.wide = FoldedTrunk(config.close), FoldedTrunk(config.wide)
        features = count_features(config.close) + count_features(config.wide)
        self.judge = rating_head(features, config.hidden, dropout, 1)

    def forward(self, close: Tensor, wide: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        views: Sequence[tuple[FoldedTrunk, Tensor]] = ((self.close, close), (self.wide, wide))
        seen = [(patch, *trunk.look(patch)) for trunk, patch in views]
        features = [pool_features(patch, maps, torch.sigmoid(outline).detach()) for patch, maps, outline in seen]
        logits: Tensor = self.judge(torch.cat(features, dim=1))[:, 0]
        return logits, seen[0][2], seen[1][2]

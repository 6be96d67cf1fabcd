"""The networks: one cube around a nodule → how radiologists would rate it, and its outline.

Small 3D U-Nets. Their features are averaged inside the outline that they draw themselves, and the size and density of
that outline join them, so that the ratings rest on the nodule and on its absolute size. `NoduleNetwork` works on every
voxel and draws the finer outline; `FoldedNetwork` takes blocks of 2 x 2 x 2 voxels as channels first, which is several
times faster. torch is needed here and nowhere else in the stage but for loading and asking them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = [
    "ATTRIBUTES",
    "OUTPUTS",
    "FoldedNetwork",
    "FoldedTrunk",
    "Network",
    "NoduleNetwork",
    "count_features",
    "pool_features",
    "rating_head",
]

ATTRIBUTES = ("subtlety", "sphericity", "margin", "lobulation", "spiculation", "texture")
"""LIDC's ratings 1 to 5 that the network gives, scaled to 0 … 1."""

OUTPUTS = ("at least 2", "at least 3", "at least 4", "at least 5", *ATTRIBUTES, "calcified")
"""Outputs in order, logits: the share of radiologists whose malignancy rating is at least so high; attributes;
calcium."""


class Network(nn.Module):
    """(n, 1, d, h, w) in 0 … 1, sides divisible by 8 → (n, outputs) logits, (n, 1, d, h, w) outline logits."""

    ratings: nn.Module

    def forward(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        """Ratings and outline, both as logits."""
        maps, outline = self.look(patch)
        return self.judge(patch, maps, torch.sigmoid(outline).detach()), outline

    def look(self, patch: Tensor) -> tuple[list[Tensor], Tensor]:
        """The feature maps that the ratings are drawn from, finest first, and the outline's logits."""
        raise NotImplementedError

    def judge(self, patch: Tensor, maps: Sequence[Tensor], inside: Tensor) -> Tensor:
        """Ratings from what was seen, logits.

        inside: probability that a voxel is the nodule's.
        """
        ratings: Tensor = self.ratings(pool_features(patch, maps, inside))
        return ratings


class NoduleNetwork(Network):
    """At full resolution: features at 1, 2, 4 and 8 mm."""

    def __init__(self, widths: Sequence[int] = (8, 16, 32, 64), hidden: int = 64, dropout: float = 0.3) -> None:
        super().__init__()
        a, b, c, d = widths
        self.stem = _convolution(1, a)
        self.down1 = nn.Sequential(_convolution(a, b, 2), _Residual(b))
        self.down2 = nn.Sequential(_convolution(b, c, 2), _Residual(c))
        self.down3 = nn.Sequential(_convolution(c, d, 2), _Residual(d))
        self.lateral3, self.up2 = nn.Conv3d(d, c, 1), _convolution(c, c)
        self.lateral2, self.up1 = nn.Conv3d(c, b, 1), _convolution(b, b)
        self.lateral1 = nn.Conv3d(b, a, 1)
        self.outline = nn.Sequential(nn.Conv3d(2 * a, 8, 1), nn.ReLU(inplace=True), nn.Conv3d(8, 1, 1))
        self.ratings = rating_head(count_features((b, c, d)), hidden, dropout, len(OUTPUTS))

    def look(self, patch: Tensor) -> tuple[list[Tensor], Tensor]:
        """The feature maps that the ratings are drawn from, finest first, and the outline's logits."""
        full = self.stem(patch)
        half = self.down1(full)
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        quarter = self.up2(quarter + _to_size_of(self.lateral3(eighth), quarter))
        half = self.up1(half + _to_size_of(self.lateral2(quarter), half))
        outline = self.outline(torch.cat([full, _to_size_of(self.lateral1(half), full)], dim=1)).float()
        return [half, quarter, eighth], outline


class FoldedTrunk(nn.Module):
    """Features and an outline at half resolution from the start, a voxel's eight parts as channels: 2, 4 and 8
    voxels.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        b, c, d = widths
        self.stem = nn.Sequential(_convolution(8, b), _Residual(b))
        self.down2 = nn.Sequential(_convolution(b, c, 2), _Residual(c))
        self.down3 = nn.Sequential(_convolution(c, d, 2), _Residual(d))
        self.lateral3, self.up2 = nn.Conv3d(d, c, 1), _convolution(c, c)
        self.lateral2 = nn.Conv3d(c, b, 1)
        self.outline = nn.Sequential(nn.Conv3d(2 * b, 16, 1), nn.ReLU(inplace=True), nn.Conv3d(16, 8, 1))

    def look(self, patch: Tensor) -> tuple[list[Tensor], Tensor]:
        """See `Network.look`."""
        half = self.stem(_fold(patch))
        quarter = self.down2(half)
        eighth = self.down3(quarter)
        quarter = self.up2(quarter + _to_size_of(self.lateral3(eighth), quarter))
        outline = self.outline(torch.cat([half, _to_size_of(self.lateral2(quarter), half)], dim=1)).float()
        return [half, quarter, eighth], _unfold(outline)


class FoldedNetwork(FoldedTrunk, Network):
    """Ratings from what a `FoldedTrunk` sees.

    normalised: features are brought to one scale before ratings are drawn from them; what they learn from a nodule's
    size comes sooner.
    """

    def __init__(
        self,
        widths: Sequence[int] = (16, 32, 64),
        hidden: int = 64,
        dropout: float = 0.1,
        outputs: int = len(OUTPUTS),
        normalised: bool = False,
    ) -> None:
        super().__init__(widths)
        features = count_features(widths)
        head = rating_head(features, hidden, dropout, outputs)
        self.ratings = nn.Sequential(nn.BatchNorm1d(features), *head) if normalised else head


def pool_features(patch: Tensor, maps: Sequence[Tensor], inside: Tensor) -> Tensor:
    """What a patch and its maps say of the place: means inside the outline and over all, size, density; (n,
    features).
    """
    return torch.cat([*(_pool(one, inside) for one in maps), _size_and_density(patch, inside)], dim=1)


def count_features(widths: Sequence[int]) -> int:
    """Of `pool_features`, where maps have so many channels."""
    return 2 * sum(widths) + 4


def rating_head(inputs: int, hidden: int, dropout: float, outputs: int) -> nn.Sequential:
    """Two layers from features to ratings."""
    return nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(inputs, hidden),
        nn.ReLU(inplace=True),
        nn.Dropout(dropout),
        nn.Linear(hidden, outputs),
    )


def _fold(x: Tensor) -> Tensor:
    """(n, 1, d, h, w) → (n, 8, d/2, h/2, w/2): the eight voxels of each block as channels."""
    n, _, d, h, w = x.shape
    parts = x.reshape(n, d // 2, 2, h // 2, 2, w // 2, 2).permute(0, 2, 4, 6, 1, 3, 5)
    folded = parts.reshape(n, 8, d // 2, h // 2, w // 2)
    return folded.contiguous(memory_format=torch.channels_last_3d)


def _unfold(x: Tensor) -> Tensor:
    """The way back from `_fold`."""
    n, _, d, h, w = x.shape
    return x.reshape(n, 2, 2, 2, d, h, w).permute(0, 4, 1, 5, 2, 6, 3).reshape(n, 1, 2 * d, 2 * h, 2 * w)


class _Residual(nn.Module):
    """Two convolutions around which the input goes on."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _convolution(width, width)
        self.second = nn.Sequential(nn.Conv3d(width, width, 3, 1, 1, bias=False), nn.BatchNorm3d(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm3d(outputs), nn.ReLU(inplace=True)
    )


def _to_size_of(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="trilinear", align_corners=False)


def _pool(features: Tensor, inside: Tensor) -> Tensor:
    """Mean inside the outline and mean over the whole cube, (n, 2 * channels)."""
    weight = functional.adaptive_avg_pool3d(inside, (features.shape[2], features.shape[3], features.shape[4]))
    features = features.float()
    within = (features * weight).sum((2, 3, 4)) / weight.sum((2, 3, 4)).clamp(min=0.05)
    return torch.cat([within, features.mean((2, 3, 4))], dim=1)


def _size_and_density(patch: Tensor, inside: Tensor) -> Tensor:
    """Logarithm and cube root of the outline's volume, mean and mean square of the intensity inside, (n, 4)."""
    patch = patch.float()
    volume = inside.sum((2, 3, 4)).clamp(min=1.0)
    mean = (inside * patch).sum((2, 3, 4)) / volume
    square = (inside * patch**2).sum((2, 3, 4)) / volume
    return torch.cat([volume.log() / 10.0, volume ** (1 / 3) / 20.0, mean, square], dim=1)

"""The detector's network: a heatmap of nodule centres, and their size and place, at half the resolution of 1 mm voxels.

    HU (B, 1, Z, Y, X) → window −1000…400 to 0…1 → stem (½) → stages (½ ¼ ⅛ 1⁄16) → top-down sums → heads at ½

Anchor-free, after CenterNet (Zhou et al. 2019): each output voxel says how much it is a nodule's centre, the
logarithm of its diameter, and how far the centre lies from the middle of the voxel. Torch is imported with this
module: import it where it is needed only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from lungscreen.errors import WeightsError

__all__ = [
    "STRIDE",
    "Architecture",
    "NoduleNet",
    "build_network",
    "count_flops",
    "describe",
    "fold_batchnorm",
    "window_hu",
]

STRIDE = 2
"""Input voxels per output voxel along each axis."""

OUTPUTS = 5
"""Heatmap logit, log diameter (mm), offset of the centre from the output voxel's middle along z, y, x (input
voxels)."""


@dataclass(frozen=True)
class Architecture:
    """What the network's constructor needs; stands in the manifest of the weights.

    channels: of the stages at 1/2, 1/4, 1/8, 1/16.
    blocks: residual blocks of each stage.
    head: channels of the top-down path at 1/2.
    prior: share of voxels that start as "a centre".
    hu_low, hu_high: the window, mapped to 0…1 and cut.
    """

    channels: tuple[int, ...] = (32, 64, 96, 128)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    head: int = 32
    prior: float = 0.001
    hu_low: float = -1000.0
    hu_high: float = 400.0

    def __post_init__(self) -> None:
        if len(self.channels) != len(self.blocks) or len(self.channels) < 2:
            raise ValueError("expected as many blocks as channels, two stages at least")
        if min(self.channels) < 1 or min(self.blocks) < 1 or self.head < 1:
            raise ValueError("expected positive channels and blocks")
        if not 0 < self.prior < 1 or not self.hu_low < self.hu_high:
            raise ValueError("expected 0 < prior < 1 and hu_low < hu_high")

    @property
    def multiple(self) -> int:
        """Input sizes are padded to a multiple of this."""
        return int(2 ** len(self.channels))


class NoduleNet(nn.Module):
    """HU (B, 1, Z, Y, X), any size → (B, 5, ⌈Z/2⌉, ⌈Y/2⌉, ⌈X/2⌉): heatmap logit, log diameter, offsets z, y, x."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        channels = architecture.channels
        self.stem = _Conv(1, channels[0], kernel=5, stride=2)
        stages: list[nn.Module] = []
        for n, (width, blocks) in enumerate(zip(channels, architecture.blocks, strict=True)):
            down: list[nn.Module] = [_Conv(channels[n - 1], width, kernel=3, stride=2)] if n else []
            stages.append(nn.Sequential(*down, *(_Residual(width) for _ in range(blocks))))
        self.stages = nn.ModuleList(stages)
        widths = [architecture.head, *channels[1:]]
        self.across = nn.ModuleList(
            _Conv(have, want, 1, relu=False) for have, want in zip(channels, widths, strict=True)
        )
        self.down = nn.ModuleList(_Conv(widths[n + 1], widths[n], 1, relu=False) for n in range(len(channels) - 1))
        self.smooth = nn.ModuleList(_Conv(widths[n], widths[n], 3) for n in range(len(channels) - 1))
        self.head = nn.Conv3d(architecture.head, OUTPUTS, 1)
        self._start()

    def forward(self, hu: Tensor) -> Tensor:
        """See the class."""
        size = hu.shape[2:]
        pad = [(-n) % self.architecture.multiple for n in size]
        x = window_hu(hu, self.architecture).to(self.head.weight.dtype)
        if any(pad):
            x = functional.pad(x, (0, pad[2], 0, pad[1], 0, pad[0]), mode="replicate")
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        x = self.across[-1](levels[-1])
        for n in reversed(range(len(levels) - 1)):
            up = functional.interpolate(self.down[n](x), scale_factor=2.0, mode="nearest")
            x = self.smooth[n](functional.relu(self.across[n](levels[n]) + up, inplace=True))
        out: Tensor = self.head(x)
        keep = [-(-n // STRIDE) for n in size]
        return out[:, :, : keep[0], : keep[1], : keep[2]]

    def _start(self) -> None:
        """Every voxel starts with the prior probability of being a centre, and a common diameter."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if isinstance(module, _Residual):
                nn.init.zeros_(module.second.scale)
        prior = self.architecture.prior
        nn.init.normal_(self.head.weight, std=0.01)
        assert self.head.bias is not None
        with torch.no_grad():
            self.head.bias.zero_()
            self.head.bias[0] = -math.log((1 - prior) / prior)
            self.head.bias[1] = math.log(8.0)


class _Conv(nn.Module):
    """Convolution, batch normalisation, ReLU on request."""

    def __init__(self, have: int, want: int, kernel: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv3d(have, want, kernel, stride, kernel // 2, bias=False)
        self.norm: nn.Module = nn.BatchNorm3d(want)
        self.relu = relu

    @property
    def scale(self) -> Tensor:
        """Of the batch normalisation."""
        weight = self.norm.weight
        assert isinstance(weight, Tensor)
        return weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return functional.relu(x, inplace=True) if self.relu else x


class _Residual(nn.Module):
    """Two convolutions and a way past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _Conv(width, width, 3)
        self.second = _Conv(width, width, 3, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)), inplace=True)


def window_hu(hu: Tensor, architecture: Architecture) -> Tensor:
    """HU → the window as 0…1, cut on both sides."""
    low, high = architecture.hu_low, architecture.hu_high
    return hu.float().sub(low).mul_(1 / (high - low)).clamp_(0, 1)


def build_network(architecture: Mapping[str, object] | Architecture, tensors: Mapping[str, Tensor]) -> NoduleNet:
    """The network with these weights, ready to look (not to learn).

    Errors: `weights-invalid` when keys, shapes or the architecture do not fit, or a number is not finite.
    """
    try:
        if not isinstance(architecture, Architecture):
            known = {key: tuple(v) if isinstance(v, list) else v for key, v in architecture.items()}
            architecture = Architecture(**known)  # type: ignore[arg-type]
        network = NoduleNet(architecture)
        network.load_state_dict(dict(tensors))
    except (RuntimeError, TypeError, ValueError) as error:
        raise WeightsError("weights-invalid", f"not weights of this detector: {str(error)[:300]}") from None
    bad = [
        key for key, tensor in tensors.items() if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    ]
    if bad:
        raise WeightsError("weights-invalid", f"{len(bad)} tensors hold numbers that are not finite, first {bad[0]}")
    return network.eval()


def fold_batchnorm(network: NoduleNet) -> NoduleNet:
    """Each batch normalisation goes into the convolution before it (in place): the same function, fewer passes."""
    for module in network.modules():
        if isinstance(module, _Conv) and isinstance(module.norm, nn.BatchNorm3d):
            module.conv = nn.utils.fusion.fuse_conv_bn_eval(module.conv.eval(), module.norm.eval())
            module.norm = nn.Identity()
    return network


def count_flops(architecture: Architecture, side: int = 64) -> float:
    """Convolution work per input voxel in FLOP; a multiply-add counts 2. Counted on a cube of `side` voxels."""
    network = NoduleNet(architecture).eval()
    total = 0.0

    def count(module: nn.Module, _: object, output: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv3d)
        total += 2.0 * module.weight.numel() * output[0, 0].numel()

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv3d)]
    with torch.inference_mode():
        network(torch.zeros(1, 1, side, side, side))
    for hook in hooks:
        hook.remove()
    return total / side**3


def describe(architecture: Architecture) -> dict[str, object]:
    """The architecture as the manifest holds it."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(architecture).items()}

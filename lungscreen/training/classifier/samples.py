"""Cubes → the patches that the classifier learns from, each varied at random.

Cubes ─► intensities and masks as tensors ─► patches around moved centres: turned, mirrored, scaled, blurred, noisy
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.preparation import scale_hu
from lungscreen.training.classifier.data import SIDE, Cubes

__all__ = ["Variation", "blur_some", "cut_turned", "draw_batch", "shift_centres", "to_tensors"]

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Variation:
    """How a cube is varied. Every sample is also turned at random in space and mirrored at random.

    shift_mm: centre drawn from a ball of this radius.
    scale: size by up to this share.
    gain, offset: standard deviation of the intensity's factor and sum (1400 HU is 1).
    noise: largest standard deviation of noise, half of the time smoothed.
    blur: share of samples blurred along one axis of the patch or along all, as thicker slices and softer kernels do.
    """

    shift_mm: float = 4.0
    scale: float = 0.08
    gain: float = 0.06
    offset: float = 0.02
    noise: float = 0.04
    blur: float = 0.3

    def __post_init__(self) -> None:
        if min(self.shift_mm, self.scale, self.gain, self.offset, self.noise, self.blur) < 0:
            raise ValueError("expected nothing below 0")
        if self.scale >= 1 or self.blur > 1:
            raise ValueError("expected scale below 1 and blur up to 1")


def draw_batch(
    intensity: Tensor,
    masks: Tensor,
    centres: NDArray[np.float32],
    chosen: Indices,
    side: int,
    variation: Variation,
    generator: torch.Generator,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Varied patches around the chosen cubes' nodules: (n, 1, p, p, p) intensity and mask, both 0 … 1.

    bounds: as `cut_turned` has them.
    """
    count, v = len(chosen), variation
    turn = _rotations(count, generator)
    sign = torch.where(torch.rand(count, 1, 1, generator=generator) < 0.5, -1.0, 1.0)
    scale = 1 + v.scale * (torch.rand(count, 1, 1, generator=generator) * 2 - 1)
    middle = torch.from_numpy(centres) + _ball(count, v.shift_mm, generator)
    patch, mask = cut_turned(intensity, masks, chosen, middle, side, turn * sign * scale, bounds)
    one = (count, 1, 1, 1, 1)
    patch = patch * (1 + v.gain * torch.randn(one, generator=generator)) + v.offset * torch.randn(
        one, generator=generator
    )
    patch = blur_some(patch, v.blur, generator)
    noise = blur_some(torch.randn(patch.shape, generator=generator), 0.5, generator)
    patch = patch + noise * torch.rand(one, generator=generator) * v.noise
    return patch.clamp(0, 1).contiguous(memory_format=torch.channels_last_3d), mask


def blur_some(patch: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """A share of the samples averaged over three voxels along one axis, or along all."""
    kind = torch.randint(4, (len(patch),), generator=generator)
    chosen = torch.rand(len(patch), generator=generator) < share
    result = patch.clone()
    for n, kernel in enumerate(((3, 1, 1), (1, 3, 1), (1, 1, 3), (3, 3, 3))):
        those = chosen & (kind == n)
        if those.any():
            padding = tuple(k // 2 for k in kernel)
            result[those] = functional.avg_pool3d(patch[those], kernel, 1, padding, count_include_pad=False)
    return result


def shift_centres(centres: NDArray[np.float32], radius_mm: float, seed: int) -> NDArray[np.float32]:
    """Centres moved at random inside a ball: a detector's, or a radiologist's, error."""
    moved = torch.from_numpy(centres) + _ball(len(centres), radius_mm, torch.Generator().manual_seed(seed))
    return np.asarray(moved.numpy())


def to_tensors(cubes: Cubes) -> tuple[Tensor, Tensor]:
    """Intensities 0 … 1 and masks as half floats, (n, 1, z, y, x): one copy for the whole run."""
    intensity = torch.from_numpy(scale_hu(cubes.hu).astype(np.float16))[:, None]
    return intensity, torch.from_numpy(cubes.masks)[:, None].half()


def cut_turned(
    intensity: Tensor,
    masks: Tensor,
    chosen: Indices,
    middle: Tensor,
    side: int,
    turn: Tensor,
    bounds: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Patches around `middle`, turned; linear interpolation; beyond a cube, or beyond `bounds` (lowest and highest
    voxel of each sample, both (n, 3)), its edge goes on.
    """
    line = torch.arange(side) - (side - 1) / 2
    grid = torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    places = torch.einsum("nij,kj->nki", turn, grid) + middle[:, None]
    if bounds is not None:
        places = places.clamp(bounds[0][:, None], bounds[1][:, None])
    places = (places / (SIDE - 1) * 2 - 1).flip(-1).reshape(len(chosen), side, side, side, 3)
    both = torch.cat([intensity[chosen], masks[chosen]], dim=1).float()
    taken = functional.grid_sample(both, places, align_corners=True, padding_mode="border")
    return taken[:, :1].contiguous(memory_format=torch.channels_last_3d), taken[:, 1:]


def _rotations(count: int, generator: torch.Generator) -> Tensor:
    """Rotations drawn evenly, (n, 3, 3), from unit quaternions."""
    q = torch.randn(count, 4, generator=generator)
    w, x, y, z = (q / q.norm(dim=1, keepdim=True)).T
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w),
        2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w),
        2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, 1).reshape(count, 3, 3)


def _ball(count: int, radius: float, generator: torch.Generator) -> Tensor:
    """Points drawn evenly from a ball, (n, 3)."""
    v = torch.randn(count, 3, generator=generator)
    points: Tensor = v / v.norm(dim=1, keepdim=True) * radius * torch.rand(count, 1, generator=generator) ** (1 / 3)
    return points

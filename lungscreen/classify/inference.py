"""Weights → a classifier that can be asked. torch is needed here; the stage only knows the protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungscreen.classify.calibration import Calibration
from lungscreen.classify.network import NoduleNetwork
from lungscreen.classify.preparation import scale_hu
from lungscreen.errors import WeightsError
from lungscreen.weights import WeightsFile, find_weights, load_tensors

__all__ = ["TrainedClassifier", "load_classifier", "mean_logits"]

MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (4,))
"""Axes that a patch is mirrored along; the results are averaged."""

AT_ONCE = 8
"""Patches that go through the network together."""


class TrainedClassifier:
    """Networks whose answers are averaged, and the calibration that was measured with them."""

    def __init__(self, members: Sequence[NoduleNetwork], patch: int, calibration: Calibration, name: str) -> None:
        self.members = [member.eval() for member in members]
        self.patch_size = patch
        self.calibration = calibration
        self.name = name

    def rate(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) in 0 … 1 → (n, outputs) logits."""
        parts = [
            mean_logits(self.members, torch.from_numpy(patches[start : start + AT_ONCE])[:, None])[0]
            for start in range(0, len(patches), AT_ONCE)
        ]
        return np.concatenate(parts)

    def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) HU → probability that a voxel is the nodule's, same shape; without mirrorings, for speed."""
        parts = [
            mean_logits(self.members, torch.from_numpy(scale_hu(hu[start : start + AT_ONCE]))[:, None], ((),))[1]
            for start in range(0, len(hu), AT_ONCE)
        ]
        return np.concatenate(parts)


def load_classifier(folder: Path | None = None) -> TrainedClassifier:
    """The classifier of a weights folder (None: the shipped one).

    Errors: `weights-invalid`.
    """
    weights = find_weights("classifier", folder)
    tensors = load_tensors(weights)
    try:
        calibration = Calibration(**weights.parameters["calibration"])
        members = [_member(weights, tensors, n) for n in range(int(weights.architecture["members"]))]
        patch = int(weights.architecture["patch"])
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise WeightsError("weights-invalid", f"no classifier of this version: {error}", str(weights.path)) from None
    return TrainedClassifier(members, patch, calibration, f"classifier {weights.version} ({weights.sha256[:12]})")


def mean_logits(
    members: Sequence[NoduleNetwork], patches: Tensor, mirrorings: Sequence[tuple[int, ...]] = MIRRORINGS
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean over members and mirrorings: (n, outputs) logits and (n, d, h, w) outline probability."""
    ratings: list[Tensor] = []
    outlines: list[Tensor] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
        for member in members:
            for axes in mirrorings:
                turned = patches.flip(axes) if axes else patches
                rating, outline = member.eval()(turned.contiguous(memory_format=torch.channels_last_3d))
                ratings.append(rating.float())
                outlines.append(outline.float().flip(axes) if axes else outline.float())
    inside = torch.sigmoid(torch.stack(outlines).mean(0))[:, 0]
    return torch.stack(ratings).mean(0).numpy(), inside.numpy()


def _member(weights: WeightsFile, tensors: dict[str, Tensor], number: int) -> NoduleNetwork:
    network = NoduleNetwork(tuple(weights.architecture["widths"]))
    prefix = f"member{number}."
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    network.load_state_dict(own)
    channels_last: NoduleNetwork = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return channels_last


def _has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, float32 is faster."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())

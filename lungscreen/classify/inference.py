"""Weights → a classifier that can be asked. torch is needed here; the stage only knows the protocol."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungscreen.classify.answers import Answers, join_answers
from lungscreen.classify.attribution import Seen, heat_of
from lungscreen.classify.calibration import Calibration, attributes_of, suspicion
from lungscreen.classify.network import NoduleNetwork
from lungscreen.classify.preparation import scale_hu
from lungscreen.errors import WeightsError
from lungscreen.weights import WeightsFile, load_tensors

__all__ = ["TrainedClassifier", "mean_logits"]

MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (4,))
"""Axes that a patch is mirrored along; the results are averaged."""

AT_ONCE = 8
"""Patches that go through the network together."""


class TrainedClassifier:
    """Networks whose answers are averaged, and the calibration that was measured with them."""

    no_nodule_below: float | None = None
    """Probability of being a nodule below which a candidate is taken for none; None where the weights do not tell."""

    def __init__(self, members: Sequence[NoduleNetwork], patch: int, calibration: Calibration, name: str) -> None:
        self.members = [member.eval() for member in members]
        self.patch_size = patch
        self.calibration = calibration
        self.name = name

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> TrainedClassifier:
        """From what a weights file holds.

        Errors: `weights-invalid`.
        """
        tensors = load_tensors(weights)
        try:
            calibration = Calibration(**weights.parameters["calibration"])
            members = [_member(weights, tensors, n) for n in range(int(weights.architecture["members"]))]
            patch = int(weights.architecture["patch"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = f"no classifier of this version: {error}"
            raise WeightsError("weights-invalid", reason, str(weights.path)) from None
        return cls(members, patch, calibration, f"classifier {weights.version} ({weights.sha256[:12]})")

    def rate(self, patches: NDArray[np.float32]) -> Answers:
        """(n, p, p, p) in 0 … 1, n at least 1 → malignancy, attributes and what was looked at."""
        return join_answers([self._rate(patches[at : at + AT_ONCE]) for at in range(0, len(patches), AT_ONCE)])

    def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) HU → probability that a voxel is the nodule's, same shape; without mirrorings, for speed."""
        parts = [
            mean_logits(self.members, torch.from_numpy(scale_hu(hu[start : start + AT_ONCE]))[:, None], ((),))[1]
            for start in range(0, len(hu), AT_ONCE)
        ]
        return np.concatenate(parts)

    def _rate(self, patches: NDArray[np.float32]) -> Answers:
        tensor = torch.from_numpy(patches)[:, None]
        seen: list[Seen] = []
        logits, _ = mean_logits(self.members, tensor, seen=seen)
        heat = heat_of(self.members, tensor, seen)
        return Answers(self.calibration.probability(suspicion(logits)), attributes_of(logits), heat.numpy())


def mean_logits(
    members: Sequence[NoduleNetwork],
    patches: Tensor,
    mirrorings: Sequence[tuple[int, ...]] = MIRRORINGS,
    seen: list[Seen] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean over members and mirrorings: (n, outputs) logits and (n, d, h, w) outline probability.

    seen: takes what each member saw in the patch as it is, in order.
    """
    ratings: list[Tensor] = []
    outlines: list[Tensor] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=_has_bfloat16()):
        for member in members:
            member.eval()
            for axes in mirrorings:
                turned = patches.flip(axes) if axes else patches
                turned = turned.contiguous(memory_format=torch.channels_last_3d)
                maps, outline = member.look(turned)
                ratings.append(member.judge(turned, maps, torch.sigmoid(outline)).float())
                outlines.append(outline.flip(axes) if axes else outline)
                if seen is not None and not axes:
                    seen.append((maps, outline))
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

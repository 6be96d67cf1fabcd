"""Weights → a classifier that can be asked. torch is needed here; the stage only knows the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lungscreen.classify.answers import Answers, join_answers
from lungscreen.classify.attribution import Seen, heat_of
from lungscreen.classify.calibration import Calibration, attributes_of, suspicion
from lungscreen.classify.features import OUTLINE_LEVEL, main_part, measure_features
from lungscreen.classify.network import OUTPUTS, FoldedNetwork, Network, NoduleNetwork
from lungscreen.classify.preparation import scale_hu, unscale_hu
from lungscreen.classify.score import Score
from lungscreen.errors import WeightsError
from lungscreen.weights import WeightsFile, load_tensors

__all__ = ["TrainedClassifier", "cut_views", "find_views", "has_bfloat16", "mean_logits", "measure_patches"]

MIRRORINGS: tuple[tuple[int, ...], ...] = ((), (2,), (3,), (4,))
"""Axes that a patch is mirrored along; the results are averaged."""

AT_ONCE = 8
"""Patches that go through the network together."""


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """Networks whose answers are averaged, and the numbers that were measured with them.

    raters: give ratings, from the middle `view` voxels of a patch, or from where `find_views` moves them.
    outliners: draw the outline that is measured.
    """

    raters: Sequence[Network]
    outliners: Sequence[Network]
    patch_size: int
    view: int
    calibration: Calibration
    name: str
    score: Score | None = None
    """None: the network's suspicion alone is calibrated."""
    reach: int = 0
    """Voxels that the view moves to the nodule, at most."""

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> TrainedClassifier:
        """From what a weights file holds.

        Errors: `weights-invalid`.
        """
        tensors, architecture, numbers = load_tensors(weights), weights.architecture, weights.parameters
        try:
            patch = int(architecture["patch"])
            raters = [_network(architecture, tensors, f"member{n}.") for n in range(int(architecture["members"]))]
            outliner = architecture.get("outliner")
            return cls(
                raters,
                [_network(outliner, tensors, "outliner.")] if outliner else raters,
                patch,
                int(architecture.get("view", patch)),
                Calibration(**numbers["calibration"]),
                f"classifier {weights.version} ({weights.sha256[:12]})",
                Score.from_numbers(numbers["score"]) if "score" in numbers else None,
                int(architecture.get("reach", 0)),
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = f"no classifier of this version: {error}"
            raise WeightsError("weights-invalid", reason, str(weights.path)) from None

    def rate(self, patches: NDArray[np.float32]) -> Answers:
        """(n, p, p, p) in 0 … 1, n at least 1 → malignancy, attributes and what was looked at."""
        return join_answers([self._rate(patches[at : at + AT_ONCE]) for at in range(0, len(patches), AT_ONCE)])

    def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) HU → probability that a voxel is the nodule's, same shape; without mirrorings, for speed."""
        parts = [
            mean_logits(self.outliners, torch.from_numpy(scale_hu(hu[start : start + AT_ONCE]))[:, None], ((),))[1]
            for start in range(0, len(hu), AT_ONCE)
        ]
        return np.concatenate(parts)

    def _rate(self, patches: NDArray[np.float32]) -> Answers:
        places = find_views(self.raters, patches, self.view, self.reach)
        views = cut_views(patches, places, self.view)
        tensor = torch.from_numpy(views)[:, None]
        seen: list[Seen] = []
        logits, inside = mean_logits(self.raters, tensor, seen=seen)
        score = suspicion(logits)
        if self.score is not None:
            score = self.score.of(score, measure_patches(views, inside))
        heat = np.zeros(patches.shape, dtype=np.float32)
        for whole, place, part in zip(heat, places, heat_of(self.raters, tensor, seen).numpy(), strict=True):
            whole[_box(place, self.view)] = part
        return Answers(self.calibration.probability(score), attributes_of(logits), heat)


def measure_patches(patches: NDArray[np.float32], inside: NDArray[np.float32]) -> NDArray[np.float64]:
    """Patches 0 … 1 and their outlines, both (n, p, p, p) → (n, features)."""
    return np.stack([measure_features(unscale_hu(one), drawn) for one, drawn in zip(patches, inside, strict=True)])


def mean_logits(
    members: Sequence[Network],
    patches: Tensor,
    mirrorings: Sequence[tuple[int, ...]] = MIRRORINGS,
    seen: list[Seen] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean over members and mirrorings: (n, outputs) logits and (n, d, h, w) outline probability.

    seen: takes what each member saw in the patch as it is, in order.
    """
    ratings: list[Tensor] = []
    outlines: list[Tensor] = []
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
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


def find_views(members: Sequence[Network], patches: NDArray[np.float32], view: int, reach: int) -> NDArray[np.intp]:
    """Of (n, p, p, p), the first voxel of the `view` voxels to look at, (n, 3): the middle, moved by whole voxels, up
    to `reach` and as far as the patch goes, to what the first network draws there.
    """
    places = _middle(patches, view)
    reach = min(reach, (patches.shape[-1] - view) // 2)
    if not reach:
        return places
    drawn = mean_logits(members[:1], torch.from_numpy(cut_views(patches, places, view))[:, None], ((),))[1]
    shifts = np.stack([_way_to_the_middle(inside) for inside in drawn])
    return places + np.clip(np.rint(shifts), -reach, reach).astype(np.intp)


def _way_to_the_middle(inside: NDArray[np.float32]) -> NDArray[np.float64]:
    """Voxels from the view's middle to that of what is drawn, (3,); 0 where nothing is."""
    if inside.max() < OUTLINE_LEVEL:
        return np.zeros(3)
    return np.asarray(np.argwhere(main_part(inside)).mean(axis=0) - (inside.shape[0] - 1) / 2)


def cut_views(patches: NDArray[np.float32], places: NDArray[np.intp], view: int) -> NDArray[np.float32]:
    """(n, p, p, p) and first voxels, (n, 3) → (n, view, view, view)."""
    return np.stack([patch[_box(place, view)] for patch, place in zip(patches, places, strict=True)])


def _middle(patches: NDArray[np.float32], view: int) -> NDArray[np.intp]:
    return np.full((len(patches), 3), (patches.shape[-1] - view) // 2, dtype=np.intp)


def _box(place: NDArray[np.intp], view: int) -> tuple[slice, ...]:
    return tuple(slice(int(start), int(start) + view) for start in place)


def _network(architecture: Mapping[str, Any], tensors: dict[str, Tensor], prefix: str) -> Network:
    widths, outputs = tuple(architecture["widths"]), int(architecture.get("outputs", len(OUTPUTS)))
    folded = architecture.get("network", "full") == "folded"
    normalised = bool(architecture.get("normalised"))
    network: Network = (
        FoldedNetwork(widths, outputs=outputs, normalised=normalised) if folded else NoduleNetwork(widths)
    )
    own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
    network.load_state_dict(own)
    channels_last: Network = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    return channels_last.eval()


def has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; where it does not, float32 is faster."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported() and torch.cpu._is_avx512_bf16_supported())

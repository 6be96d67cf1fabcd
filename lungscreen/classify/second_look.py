"""The second look: marks of the detector, and places where a mass may lie ─► how probable it is that each is one.

    1 mm box ─► close and wide view of each place ─► network ─► logit ─┐
    the heatmap's score of a mark ─────────────────────────────────────┴─► calibrated probability

torch is needed here; the detect stage only knows the protocol.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.classify.inference import has_bfloat16
from lungscreen.classify.preparation import scale_hu
from lungscreen.classify.two_views import TwoViews, TwoViewsConfig
from lungscreen.errors import WeightsError
from lungscreen.geometry import Vector
from lungscreen.patches import cut_patch, halve
from lungscreen.records import Volume
from lungscreen.weights import WeightsFile, load_tensors

__all__ = ["ScoreScale", "SecondLook", "cut_both_views", "cut_logit"]

Floats = NDArray[np.float64]

SPACING_MM = 1.0
"""Voxels that places are looked for in."""

AT_ONCE = 16
"""Places that go through the network together."""

MIRRORED: tuple[tuple[int, ...], ...] = ((), (4,))
"""Axes that the views are mirrored along; the answers are averaged. The body is nearly the same left and right."""

INSIDE = 0.5
"""Probability from which a voxel is inside an outline."""

ALIKE = 0.2
"""What is drawn around a ball joins a mass where the ball is at least so likely, as a share of the mass's
probability."""

SURE = 1e-4
"""Probabilities are cut to this and one less this before their logit is taken."""


@dataclass(frozen=True)
class ScoreScale:
    """Logistic curves that make one probability of what two networks say; numbers of the weights' manifest.

    mark: of a mark that both have seen: constant, share of the heatmap's cut_logit, share of the second look's.
    heat: of one that the second look was not asked about: constant, share of the heatmap's logit.
    look: of a place that a person points at: constant, share of the second look's logit.
    mass: of a place where a mass may lie, which the heatmap does not know: the same.
    """

    mark: tuple[float, float, float]
    heat: tuple[float, float]
    look: tuple[float, float]
    mass: tuple[float, float]

    def of_marks(self, heat: Floats, look: Floats) -> Floats:
        """Scores of the heatmap, and logits of the second look (NaN: not asked) → probabilities."""
        seen = self.mark[0] + self.mark[1] * cut_logit(heat) + self.mark[2] * look
        return _sigmoid(np.where(np.isnan(look), self.heat[0] + self.heat[1] * cut_logit(heat), seen))

    def of_points(self, look: Floats) -> Floats:
        """Logits of the second look → probabilities."""
        return _sigmoid(self.look[0] + self.look[1] * look)

    def of_masses(self, look: Floats) -> Floats:
        """Logits of the second look → probabilities."""
        return _sigmoid(self.mass[0] + self.mass[1] * look)


@dataclass(frozen=True, eq=False)
class SecondLook:
    """A network that tells nodules and masses from what was taken for one, and how its answer becomes a probability.

    most: marks that are looked at, those with the highest scores; the others keep what the heatmap alone says.
    """

    network: TwoViews
    scale: ScoreScale
    name: str
    most: int = 36

    @classmethod
    def from_weights(cls, weights: WeightsFile) -> SecondLook:
        """From what a weights file holds.

        Errors: `weights-invalid`.
        """
        try:
            config = TwoViewsConfig(**_tuples(weights.architecture))
            network = TwoViews(config)
            network.load_state_dict(load_tensors(weights))
            scale = ScoreScale(**_tuples(weights.parameters["scale"]))
            if [len(scale.mark), len(scale.heat), len(scale.look), len(scale.mass)] != [3, 2, 2, 2]:
                raise ValueError("expected three, two, two and two numbers of the scale")
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = f"no second look of this version: {error}"
            raise WeightsError("weights-invalid", reason, str(weights.path)) from None
        last: TwoViews = network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return cls(last.eval(), scale, f"second look {weights.version} ({weights.sha256[:12]})")

    def rate_marks(self, hu: NDArray[np.int16], marks: NDArray[np.float32]) -> Floats:
        """(n, 5) marks (z, y, x, mm, heat), the highest first, in `hu` (1 mm) → probability that each is a nodule,
        (n,).
        """
        look = np.full(len(marks), np.nan)
        asked = marks[: self.most]
        if len(asked):
            look[: self.most] = self.ask(hu, asked[:, :3])[0]
        return self.scale.of_marks(marks[:, 4].astype(float), look)

    def rate_masses(self, hu: NDArray[np.int16], balls: NDArray[np.float32]) -> NDArray[np.float32]:
        """(m, 4) balls (z, y, x, radius in mm) in `hu` (1 mm) → (k, 5) marks: middle, diameter, probability of a mass.

        A mass that several balls fit into is one: a ball whose middle lies in what was drawn around a likelier one
        belongs to it, with what was drawn around itself where it is nearly as likely. Middle and diameter are those
        of the whole; of the ball where nothing is drawn.
        """
        if not len(balls):
            return np.empty((0, 5), np.float32)
        look, outlines = self.ask(hu, balls[:, :3])
        scores = self.scale.of_masses(look)
        drawn = [_draw(hu.shape, inside, ball) for inside, ball in zip(outlines, balls, strict=True)]
        masses: list[tuple[int, NDArray[np.bool_]]] = []
        for n in np.argsort(-scores, kind="stable"):
            at = tuple(np.rint((balls[n, :3] - 0.5) / 2).astype(int))
            whose = next((k for k, (_, mask) in enumerate(masses) if mask[at]), None)
            if whose is None:
                masses.append((int(n), drawn[n]))
            elif scores[n] >= ALIKE * scores[masses[whose][0]]:
                masses[whose][1][drawn[n]] = True
        rows = [(*_measure(mask, balls[n]), scores[n]) for n, mask in masses]
        return np.array(rows, np.float32)

    def rate_points(self, volume: Volume, centres_mm: Sequence[Vector]) -> Floats:
        """Places in a volume that somebody points at → probability that each is a nodule, (n,)."""
        side = 2 * max(self.network.config.close_voxels, 2 * self.network.config.wide_voxels + 8) // 2
        cubes = [cut_patch(volume.hu, volume.geometry, centre, side, SPACING_MM).hu for centre in centres_mm]
        middle = np.full((1, 3), (side - 1) / 2)
        look = [self.ask(np.rint(cube).astype(np.int16), middle)[0][0] for cube in cubes]
        return self.scale.of_points(np.array(look, dtype=float))

    def ask(self, hu: NDArray[np.int16], places: NDArray[np.floating]) -> tuple[Floats, NDArray[np.float32]]:
        """Places (n, 3) in `hu` (1 mm), n at least 1 → logits (n,) and outlines in the wide view (n, w, w, w), 0 …
        1.
        """
        close, wide = cut_both_views(hu, places, self.network.config)
        parts = [self._ask(close[n : n + AT_ONCE], wide[n : n + AT_ONCE]) for n in range(0, len(close), AT_ONCE)]
        return np.concatenate([look for look, _ in parts]), np.concatenate([inside for _, inside in parts])

    def _ask(self, close: NDArray[np.float32], wide: NDArray[np.float32]) -> tuple[Floats, NDArray[np.float32]]:
        views = [torch.from_numpy(view)[:, None] for view in (close, wide)]
        logits, outlines = [], []
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16()):
            for axes in MIRRORED:
                turned = [view.flip(axes) if axes else view for view in views]
                answer, _, drawn = self.network(*(v.contiguous(memory_format=torch.channels_last_3d) for v in turned))
                logits.append(answer.float())
                outlines.append(drawn.flip(axes) if axes else drawn)
        inside = torch.sigmoid(torch.stack(outlines).float().mean(0))[:, 0]
        look = torch.stack(logits).mean(0).numpy().astype(float)
        if not np.isfinite(look).all():
            raise WeightsError("weights-invalid", "the second look's numbers are not finite")
        return look, inside.numpy()


def cut_both_views(
    hu: NDArray[np.int16], places: NDArray[np.floating], config: TwoViewsConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Views of places (n, 3) in `hu` (1 mm), whole voxels, 0 … 1: (n, c, c, c) and (n, w, w, w); its edge goes on
    outside.
    """
    coarse = halve(hu)
    close = [_cut(hu, np.rint(place).astype(int) - config.close_voxels // 2, config.close_voxels) for place in places]
    wide = [_cut(coarse, _wide_start(place, config.wide_voxels), config.wide_voxels) for place in places]
    return scale_hu(np.stack(close)), scale_hu(np.stack(wide))


def cut_logit(probability: Floats) -> Floats:
    """Of probabilities, cut to what a network can mean."""
    cut = np.clip(probability, SURE, 1 - SURE)
    return np.asarray(np.log(cut / (1 - cut)))


def _wide_start(place: NDArray[np.floating], side: int) -> NDArray[np.int_]:
    """First coarse voxel of a wide view: a place lies a quarter of a coarse voxel before its middle voxel."""
    return np.asarray(np.rint((np.rint(place) - 0.5) / 2 - (side / 2 - 0.25)), dtype=np.int_)


def _cut(array: NDArray[Any], start: NDArray[np.int_], side: int) -> NDArray[Any]:
    index = [np.clip(np.arange(first, first + side), 0, n - 1) for first, n in zip(start, array.shape, strict=True)]
    view: NDArray[Any] = array[np.ix_(*index)]
    return view


def _draw(shape: tuple[int, ...], inside: NDArray[np.float32], ball: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The part of a wide outline that holds the ball's middle, in the whole box at 2 mm; empty where nothing is
    drawn.
    """
    start = _wide_start(ball[:3], inside.shape[0])
    at = tuple(np.rint((ball[:3] - 0.5) / 2 - start).astype(int))
    labels, _ = ndimage.label(inside >= INSIDE)
    whole = np.zeros([n // 2 for n in shape], bool)
    if labels[at]:
        low, high = np.maximum(start, 0), np.minimum(start + inside.shape[0], whole.shape)
        there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        whole[there] = (labels == labels[at])[
            tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        ]
    return whole


def _measure(mask: NDArray[np.bool_], ball: NDArray[np.float32]) -> tuple[float, float, float, float]:
    """Middle (z, y, x, 1 mm voxels) and diameter (mm) of a mass at 2 mm; of the ball that fits into it where it is
    empty.
    """
    if not mask.any():
        return float(ball[0]), float(ball[1]), float(ball[2]), 2 * float(ball[3])
    z, y, x = np.array(ndimage.center_of_mass(mask)) * 2 + 0.5
    diameter = (6 * np.count_nonzero(mask) * 2.0**3 / math.pi) ** (1 / 3)
    return float(z), float(y), float(x), max(diameter, 2 * float(ball[3]))


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, Sequence) else value for key, value in table.items()}

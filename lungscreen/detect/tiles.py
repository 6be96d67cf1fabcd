"""The heatmap network over an array of any size: tiles with a halo, peaks, sub-voxel centres. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.detect.network import STRIDE, NoduleNet, build_network, fold_batchnorm
from lungscreen.errors import WeightsError

if TYPE_CHECKING:
    from lungscreen.detect.stage import DetectConfig, Marks

__all__ = ["HeatmapDetector", "computes_in_bfloat16", "decode_heatmap"]

DIAMETERS_MM = (2.0, 60.0)
"""Diameters are cut to this: the network learned from nothing outside it."""

PEAKS = 4000
"""Highest peaks that are decoded."""


class HeatmapDetector:
    """A `Detector`: `NoduleNet`, its batch normalisation folded, over tiles."""

    spacing_mm = 1.0

    def __init__(self, network: NoduleNet, config: DetectConfig) -> None:
        self.config = config
        half = config.precision == "bfloat16" or (config.precision == "auto" and computes_in_bfloat16())
        self.dtype = torch.bfloat16 if half else torch.float32
        folded = fold_batchnorm(network).to(self.dtype).eval()
        self.network: NoduleNet = folded.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.multiple = network.architecture.multiple

    @classmethod
    def from_tensors(
        cls, architecture: Mapping[str, object], tensors: Mapping[str, Tensor], config: DetectConfig
    ) -> HeatmapDetector:
        """From what a weights file holds.

        Errors: `weights-invalid`.
        """
        return cls(build_network(architecture, tensors), config)

    @torch.inference_mode()
    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> Marks:
        """See `Detector`. The same voxels give the same marks, however they are tiled, up to the halo's reach."""
        maps = self.heatmap(hu, where)
        score = torch.sigmoid_(maps[0])
        if where is not None:
            half = where[tuple(slice(0, n * STRIDE, STRIDE) for n in score.shape)]
            score *= torch.from_numpy(np.ascontiguousarray(half))
        return decode_heatmap(maps, self.config.score_floor)

    def heatmap(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None = None) -> Tensor:
        """(5, z/2, y/2, x/2) float32: logit, log diameter, offsets; −∞ logits where no tile was looked at.

        Errors: `weights-invalid` when a number is not finite.
        """
        sizes = [-(-n // STRIDE) for n in hu.shape]
        maps = torch.zeros(5, *sizes)
        maps[0] = -torch.inf
        for core in _tiles(hu.shape, self.config.tile_voxels, self.multiple):
            if where is not None and not where[core].any():
                continue
            halo = -(-self.config.halo_voxels // self.multiple) * self.multiple
            seen = tuple(
                slice(max(0, s.start - halo), min(n, s.stop + halo)) for s, n in zip(core, hu.shape, strict=True)
            )
            x = torch.from_numpy(np.ascontiguousarray(hu[seen]))[None, None]
            with torch.inference_mode():
                out = self.network(x)[0].float()
            there = (slice(None), *(slice(s.start // STRIDE, -(-s.stop // STRIDE)) for s in core))
            inner = [
                slice((s.start - v.start) // STRIDE, -(-(s.stop - v.start) // STRIDE))
                for s, v in zip(core, seen, strict=True)
            ]
            maps[there] = out[(slice(None), *inner)]
            if not bool(torch.isfinite(maps[there]).all()):
                raise WeightsError("weights-invalid", "the detector's numbers are not finite")
        return maps


def decode_heatmap(maps: Tensor, score_floor: float) -> Marks:
    """(5, …) with scores in channel 0 → a mark at each local maximum of 3³ that reaches the floor, the highest `PEAKS`.

    Of equal neighbours (a plateau) each is a mark; merging leaves one.
    """
    score = maps[0]
    top = functional.max_pool3d(score[None, None], 3, 1, 1)[0, 0]
    places = torch.nonzero((score == top) & (score >= max(score_floor, 1e-9)))
    values = score[tuple(places.T)]
    best = torch.sort(values, descending=True, stable=True).indices[:PEAKS]
    places, values = places[best], values[best]
    picked = maps[(slice(1, None), *places.T)]
    centres = places * STRIDE + picked[1:4].T.clamp(-STRIDE, STRIDE)
    diameters = picked[0].exp().clamp(*DIAMETERS_MM)
    marks: Marks = torch.cat([centres, diameters[:, None], values[:, None]], 1).float().numpy()
    return marks


def computes_in_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 itself; elsewhere float32 is faster."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(bool(getattr(torch.cpu, name, bool)()) for name in checks)


def _tiles(shape: tuple[int, ...], largest: tuple[int, int, int], multiple: int) -> Iterator[tuple[slice, ...]]:
    """Boxes that cover an array without overlap; they start at multiples, so that strides line up."""
    starts = []
    for size, most in zip(shape, largest, strict=True):
        count = -(-size // most)
        side = -(-size // (count * multiple)) * multiple
        starts.append([slice(v, min(size, v + side)) for v in range(0, size, side)])
    for z in starts[0]:
        for y in starts[1]:
            for x in starts[2]:
                yield z, y, x

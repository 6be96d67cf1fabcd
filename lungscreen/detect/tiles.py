"""The heatmap network over an array of any size: tiles with a halo, peaks, sub-voxel centres. Imports torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lungscreen.detect.network import STRIDE, NoduleNet, build_network, fold_batchnorm
from lungscreen.errors import WeightsError
from lungscreen.morphology import box_around

if TYPE_CHECKING:
    from lungscreen.detect.stage import DetectConfig, Marks

__all__ = ["HeatmapDetector", "computes_in_bfloat16", "decode_heatmap"]

DIAMETERS_MM = (2.0, 60.0)
"""Diameters are cut to this: the network learned from nothing outside it."""

PEAKS = 4000
"""Highest peaks that are decoded."""

MOST_PARTS = 24
"""Into so many parts an axis is cut at the most."""


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
        halo = -(-self.config.halo_voxels // self.multiple) * self.multiple
        most = math.prod(n + 2 * halo for n in self.config.tile_voxels)
        tiles = _tiles(hu.shape, most, halo, self.multiple)
        for core in tiles if where is None else _cut_to(tiles, where, self.multiple):
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


def _tiles(shape: tuple[int, ...], most: int, halo: int, multiple: int) -> list[tuple[slice, ...]]:
    """Boxes that cover an array without overlap; they start at multiples, so that strides line up.

    Of all ways to cut each axis into equal parts it is the one that makes the network look at the fewest voxels, halos
    included, where no tile has more than `most` with its halo; into the smallest parts where every way has more.
    """
    ways = [[_parts(size, count, multiple) for count in range(1, MOST_PARTS + 1)] for size in shape]
    seen = [[_with_halo(parts, size, halo) for parts in way] for way, size in zip(ways, shape, strict=True)]
    fits = [
        chosen
        for chosen in itertools.product(range(MOST_PARTS), repeat=3)
        if math.prod(max(seen[axis][n]) for axis, n in enumerate(chosen)) <= most
    ]
    best = min(
        fits or [(MOST_PARTS - 1,) * 3],
        key=lambda chosen: math.prod(sum(seen[axis][n]) for axis, n in enumerate(chosen)),
    )
    return list(itertools.product(*(ways[axis][n] for axis, n in enumerate(best))))


def _parts(size: int, count: int, multiple: int) -> list[slice]:
    side = -(-size // (count * multiple)) * multiple
    return [slice(start, min(size, start + side)) for start in range(0, size, side)]


def _with_halo(parts: Sequence[slice], size: int, halo: int) -> list[int]:
    return [min(size, part.stop + halo) - max(0, part.start - halo) for part in parts]


def _cut_to(tiles: Iterable[tuple[slice, ...]], where: NDArray[np.bool_], multiple: int) -> Iterator[tuple[slice, ...]]:
    """Of each tile the box that holds all of `where` in it, from a multiple on; none of a tile without any."""
    for tile in tiles:
        part = where[tile]
        if part.any():
            yield tuple(
                slice(t.start + n.start // multiple * multiple, t.start + n.stop)
                for t, n in zip(tile, box_around(part, (0, 0, 0)), strict=True)
            )

"""Batches by their number, made in worker processes where wanted: the same whoever makes them, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lungscreen.training.detector.voxels import Floats

__all__ = ["load_batches"]

Make = Callable[[int], tuple[Floats, Floats]]


class _Numbered(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Batches by number, for a worker process."""

    def __init__(self, make: Make) -> None:
        self.make = make

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        one, other = self.make(number)
        return torch.from_numpy(one), torch.from_numpy(other)


def load_batches(make: Make, start: int, stop: int, workers: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches `start` to `stop` - 1 of what `make` makes."""
    loader = torch.utils.data.DataLoader(
        _Numbered(make),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=3 if workers else None,
    )
    yield from loader

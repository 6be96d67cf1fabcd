"""What a network says of patches, before it becomes records."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Answers", "join_answers"]


@dataclass(frozen=True, eq=False)
class Answers:
    """Of n patches, in order.

    malignancy: (n,) probability that more than half of the radiologists would rate it 4 or 5.
    attributes: (n, 6) sphericity, margin, lobulation, spiculation, texture (1 to 5) and the share that calls it
    calcified (0 to 1), as in `records.Attributes`.
    heat: (n, p, p, p), 0 to 1: how much each place raised the suspicion, as a share of what the place that counted most
    did to it, for or against.
    """

    malignancy: NDArray[np.float64]
    attributes: NDArray[np.float64]
    heat: NDArray[np.float32]


def join_answers(parts: list[Answers]) -> Answers:
    """Answers on batches, one after the other. Expects at least one."""
    return Answers(
        np.concatenate([part.malignancy for part in parts]),
        np.concatenate([part.attributes for part in parts]),
        np.concatenate([part.heat for part in parts]),
    )

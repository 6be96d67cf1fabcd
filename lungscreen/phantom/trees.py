"""Branching trees: airways with their arteries, and veins, grown into each lobe by splitting its space.

A tree is a set of tapered tubes. At every node the places still to be reached are split in two along their widest
direction across the branch; each half gets a branch towards its middle. Radii follow Murray's law from the number of
ends a branch feeds, and each end tapers to almost nothing, as vessels do towards the pleura.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Inside", "Tubes", "bundle", "grow_tree", "join"]

Floats = NDArray[np.floating[Any]]
Inside = Callable[[Floats], Floats]

MURRAY = 3.0
"""Exponent of r³ = r₁³ + r₂³ (Murray's law)."""
THINNEST_MM = 0.48
"""Radius of the last branches before they taper: what a thin-slice CT still shows."""
FORK_AT = (0.12, 0.2, 0.3, 0.36)
"""Where on the way to the middle of what it feeds a branch forks, by generation: segments part at the hilum."""
PERSISTENCE = 0.35
"""How much a branch keeps its parent's direction."""
ACROSS = 0.4
"""How much splitting across a branch is preferred to splitting along it (side branches off a stem): 1 never along."""
SPLIT, EARLY_SPLIT = (0.2, 0.5), (0.33, 0.5)
"""Share of the places that the smaller branch of a fork feeds; the second in the first two generations."""
TIP_RADIUS = 0.5
"""Radius at an end, as a share of the end branch's."""


@dataclass(frozen=True, eq=False)
class Tubes:
    """Tapered tubes: start and end (n, 3) mm, radii (n, 2) mm, how many ends each feeds (n,)."""

    start: Floats
    end: Floats
    radii: Floats
    ends: NDArray[np.int64]


def join(parts: list[Tubes]) -> Tubes:
    """All tubes as one set."""
    if not parts:
        empty = np.zeros((0, 3))
        return Tubes(empty, empty, np.zeros((0, 2)), np.zeros(0, dtype=np.int64))
    return Tubes(
        np.concatenate([p.start for p in parts]),
        np.concatenate([p.end for p in parts]),
        np.concatenate([p.radii for p in parts]),
        np.concatenate([p.ends for p in parts]),
    )


def bundle(path: Floats, radii: Floats) -> Tubes:
    """A chain of tubes through points (n, 3)."""
    pairs = np.stack([radii[:-1], radii[1:]], axis=1)
    return Tubes(path[:-1], path[1:], pairs, np.full(len(path) - 1, 10**6))


def grow_tree(
    root: Floats, heading: Floats, places: Floats, radius_mm: float, inside: Inside, rng: np.random.Generator
) -> Tubes:
    """Reach every place (n, 3) from the root, which sets out along `heading` with that radius.

    inside: distance to the lobe's surface at points (n, 3), negative inside; forks are kept within.
    """
    if not len(places):
        return join([])
    rows: list[tuple[Floats, Floats, int, int, bool]] = []
    stack = [(np.asarray(root, float), np.asarray(heading, float), places, len(places), 0)]
    while stack:
        node, along, reach, above, age = stack.pop()
        if len(reach) == 1:
            rows.append((node, reach[0], above, 1, True))
            continue
        towards = reach.mean(axis=0) - node
        way = float(np.linalg.norm(towards))
        direction = towards / max(way, 1e-6) + PERSISTENCE * along
        direction /= max(float(np.linalg.norm(direction)), 1e-6)
        fork = node + direction * way * (FORK_AT[min(age, len(FORK_AT) - 1)] if len(reach) > 2 else 0.5)
        if len(reach) > 2 and inside(fork[None])[0] > -1.0:
            # a straight way would leave the lung (round the heart, say): go by the nearest place to be reached
            fork = (fork + reach[np.argmin(((reach - fork) ** 2).sum(axis=1))]) / 2
        rows.append((node, fork, above, len(reach), False))
        stack.extend(
            (fork, direction, half, len(reach), age + 1)
            for half in _halves(reach, direction, EARLY_SPLIT if age < 2 else SPLIT, rng)
        )
    return _with_radii(rows, radius_mm, len(places))


def _with_radii(rows: Sequence[tuple[Floats, Floats, int, int, bool]], radius_mm: float, total: int) -> Tubes:
    """Tubes of branches (start, end, places reached by the parent, by itself, whether it is a tip), by Murray's law."""
    starts, ends, above, own, tips = (np.array(column) for column in zip(*rows, strict=True))
    flow = np.stack([above, own], axis=1).astype(np.float64)
    radii = np.maximum(radius_mm * (flow / total) ** (1 / MURRAY), THINNEST_MM)
    # a branch starts no wider than 1.15 of itself: the step at a fork is the parent's affair
    radii[:, 0] = np.minimum(radii[:, 0], 1.15 * radii[:, 1])
    radii[tips, 1] *= TIP_RADIUS
    return Tubes(starts, ends, radii, own)


def _halves(
    reach: Floats, direction: Floats, split: tuple[float, float], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Split places across the branch, unevenly as lungs do."""
    spread = reach - reach.mean(axis=0)
    # sums, not matrix products: their last bit does not depend on how many threads there are
    spread = spread - (spread * direction).sum(axis=1)[:, None] * direction * ACROSS
    cov = (spread[:, :, None] * spread[:, None, :]).sum(axis=0)
    axis = np.linalg.eigh(cov)[1][:, 2]
    axis = axis * (1 if axis[np.argmax(np.abs(axis))] > 0 else -1)
    order = np.argsort((spread * axis).sum(axis=1), kind="stable")
    share = rng.uniform(*split)
    cut = min(max(round(len(reach) * (share if rng.random() < 0.5 else 1 - share)), 1), len(reach) - 1)
    return reach[order[:cut]], reach[order[cut:]]

"""Places of nodules in two exams ─► Matches: each nodule with at most one of the other exam.

The smallest sum of costs over all pairs decides (Hungarian method), so that of two neighbours neither takes the
other's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungscreen.comparison.align import Alignment
from lungscreen.comparison.config import ComparisonConfig
from lungscreen.geometry import Vector
from lungscreen.records import NoduleType

__all__ = ["Matches", "NodulePlace", "Pair", "match_by_size", "match_nodules"]

_FAR = 1e6
"""Cost of a pair that cannot be."""
SIZE_WEIGHT = 0.5
"""Cost of diameters that differ by a factor of e: growth is what is looked for, so size says little."""
TYPE_WEIGHT = 0.3
"""Cost of types that do not follow each other (a ground-glass nodule may become part-solid and solid)."""
_UNCLEAR_FLOOR = 0.3
"""Below this cost a second partner is not near in cost but near in place: it counts as near in any case."""
_SOLIDITY = {NoduleType.GROUND_GLASS: 0, NoduleType.PART_SOLID: 1, NoduleType.SOLID: 2, NoduleType.CALCIFIED: 3}
MOST_FACTOR_BY_SIZE = 1.6
"""Without images: factor between diameters up to which two nodules of one place can be the same."""


@dataclass(frozen=True, slots=True)
class NodulePlace:
    """A nodule as matching sees it. `diameter_mm` None and type unknown say nothing; side and zone as in `Location`."""

    centre_mm: Vector
    diameter_mm: float | None = None
    nodule_type: NoduleType = NoduleType.UNKNOWN
    side: str = "unknown"
    zone: str = "unknown"


@dataclass(frozen=True, slots=True)
class Pair:
    """One nodule in both exams: positions in the two lists.

    distance_mm: from where it was expected; None without images.
    ambiguous: another partner was nearly as likely.
    """

    current: int
    earlier: int
    distance_mm: float | None
    ambiguous: bool = False


@dataclass(frozen=True, slots=True)
class Matches:
    """Who is who: pairs, and positions of those that only one exam shows."""

    pairs: tuple[Pair, ...]
    only_current: tuple[int, ...]
    only_earlier: tuple[int, ...]


def match_nodules(
    current: Sequence[NodulePlace],
    earlier: Sequence[NodulePlace],
    alignment: Alignment,
    config: ComparisonConfig | None = None,
) -> Matches:
    """Pair the nodules of two aligned exams by place, then size and type; one to one.

    A nodule farther than `match_mm` (or half its diameter, where that is more) from its expected place is no partner.
    """
    config = config or ComparisonConfig()
    expected = [alignment.to_earlier(place.centre_mm) for place in current]
    away = np.array([[math.dist(e, p.centre_mm) for p in earlier] for e in expected]).reshape(
        len(current), len(earlier)
    )
    cost = np.full(away.shape, _FAR)
    for i, now in enumerate(current):
        for j, then in enumerate(earlier):
            reach = max(config.match_mm, (now.diameter_mm or 0.0) / 2, (then.diameter_mm or 0.0) / 2)
            if away[i, j] <= reach:
                cost[i, j] = away[i, j] / reach + _unlike(now, then)
    return _assign(cost, away, config)


def match_by_size(
    current: Sequence[NodulePlace], earlier: Sequence[NodulePlace], config: ComparisonConfig | None = None
) -> Matches:
    """Pair nodules of an exam with those of an earlier report whose images are not there.

    Coordinates of two visits do not agree, so only the same side and zone, a consistent type and a similar size count,
    and only where exactly one partner is possible on both sides. What has no partner is not said to be new or gone.
    """
    config = config or ComparisonConfig()
    possible = np.array([[_could_be(now, then) for then in earlier] for now in current], dtype=bool)
    possible = possible.reshape(len(current), len(earlier))
    pairs = [
        Pair(int(i), int(j), None)
        for i, j in np.argwhere(possible)
        if possible[i].sum() == 1 and possible[:, j].sum() == 1
    ]
    return _sorted_out(pairs, len(current), len(earlier))


def _unlike(now: NodulePlace, then: NodulePlace) -> float:
    cost = 0.0
    if now.diameter_mm and then.diameter_mm:
        cost += SIZE_WEIGHT * abs(math.log(now.diameter_mm / then.diameter_mm))
    return cost + (0.0 if _types_agree(now, then) else TYPE_WEIGHT)


def _types_agree(now: NodulePlace, then: NodulePlace) -> bool:
    """Types are the same, not known, or neighbours on the way from ground-glass to calcified."""
    before, after = _SOLIDITY.get(then.nodule_type), _SOLIDITY.get(now.nodule_type)
    return before is None or after is None or abs(before - after) <= 1


def _could_be(now: NodulePlace, then: NodulePlace) -> bool:
    if "unknown" in (now.side, then.side, now.zone, then.zone) or not (now.diameter_mm and then.diameter_mm):
        return False
    factor = max(now.diameter_mm / then.diameter_mm, then.diameter_mm / now.diameter_mm)
    same_place = now.side == then.side and now.zone == then.zone
    return same_place and factor <= MOST_FACTOR_BY_SIZE and _types_agree(now, then)


def _assign(cost: NDArray[np.float64], away: NDArray[np.float64], config: ComparisonConfig) -> Matches:
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    pairs = [
        Pair(int(i), int(j), float(away[i, j]), _is_ambiguous(cost, int(i), int(j), config))
        for i, j in zip(rows, columns, strict=True)
        if cost[i, j] < _FAR
    ]
    return _sorted_out(pairs, *cost.shape)


def _is_ambiguous(cost: NDArray[np.float64], i: int, j: int, config: ComparisonConfig) -> bool:
    """Whether another partner, of either nodule, costs nearly as little."""
    others = np.concatenate([np.delete(cost[i], j), np.delete(cost[:, j], i)])
    return bool((others <= max(cost[i, j] * config.unclear_share, _UNCLEAR_FLOOR)).any())


def _sorted_out(pairs: Sequence[Pair], current: int, earlier: int) -> Matches:
    with_partner = {pair.current for pair in pairs}, {pair.earlier for pair in pairs}
    return Matches(
        tuple(pairs),
        tuple(n for n in range(current) if n not in with_partner[0]),
        tuple(n for n in range(earlier) if n not in with_partner[1]),
    )

"""The five folds: cubes ─► folds by patient ─► members that have not seen a fold ─► ratings of it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lungscreen.training.classifier.data import Cubes
from lungscreen.training.classifier.recipe import ClassifierFolds

__all__ = ["assign_folds"]


def assign_folds(cubes: Cubes, config: ClassifierFolds) -> NDArray[np.intp]:
    """The fold of each cube, (n,). A person is in one fold, with all cubes.

    The first fold holds the people of `first_subsets` and `first_patients` (who are drawn like everybody else where
    there are none); everybody else goes, in an order drawn at random, to the fold with the fewest cubes.
    """
    rows: dict[str, list[int]] = {}
    for n, person in enumerate(cubes.persons):
        rows.setdefault(person, []).append(n)
    first = {p for p, s in zip(cubes.persons, cubes.subsets, strict=True) if s in config.first_subsets}
    first |= set(config.first_patients)
    fold = np.zeros(len(cubes.persons), dtype=np.intp)
    others = sorted(set(rows) - first)
    open_folds = list(range(1 if first else 0, config.count))
    held = dict.fromkeys(open_folds, 0)
    for n in np.random.default_rng(config.seed).permutation(len(others)):
        mine = rows[others[n]]
        least = min(open_folds, key=lambda k: held[k])
        fold[mine] = least
        held[least] += len(mine)
    return fold

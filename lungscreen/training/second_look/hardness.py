"""Places that are no nodule ─► the same, scored by what an earlier second look takes for one as well.

What the detectors score high is not what the second look errs on: a run that goes on from earlier weights sees their
errors more often.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.second_look import SecondLook
from lungscreen.classify.two_views import TwoViews
from lungscreen.training.second_look.calibrate import MIRROR, bare_look
from lungscreen.training.second_look.chests import KINDS, WholeChest
from lungscreen.training.second_look.cubes import CubePlaces
from lungscreen.training.second_look.samples import Deck

__all__ = ["score_by_look"]

HIGHEST = 0.6
"""An error of the second look counts as so high a detector's score at the most: some are nodules that nobody marked."""

ASKED = (KINDS.index("mark"), KINDS.index("ball"))
"""Kinds of places that the product asks the second look about."""


def score_by_look(deck: Deck, network: TwoViews) -> Deck:
    """Marks and balls that are none get the second look's probability as their score, where it is the higher."""
    look = bare_look(network.eval(), "before")
    return replace(
        deck,
        cubes=_score_cubes(deck.cubes, look),
        scans=tuple(_score_chest(chest, look) for chest in deck.scans),
        phantoms=tuple(_score_chest(chest, look) for chest in deck.phantoms),
    )


def _score_cubes(places: CubePlaces, look: SecondLook) -> CubePlaces:
    score = places.score.copy()
    asked = ~places.nodule & (places.score > 0)
    for cube in np.unique(places.of[asked]):
        rows = np.flatnonzero(asked & (places.of == cube))
        hu = np.pad(places.cubes.hu[cube], MIRROR, mode="reflect")
        score[rows] = _higher(score[rows], look.ask(hu, places.at[rows] + MIRROR)[0])
    return replace(places, score=score)


def _score_chest(chest: WholeChest, look: SecondLook) -> WholeChest:
    rows = np.flatnonzero(np.isin(chest.places[:, 4], ASKED))
    if not len(rows):
        return chest
    places = chest.places.copy()
    places[rows, 3] = _higher(places[rows, 3], look.ask(chest.hu, places[rows, :3])[0])
    return replace(chest, places=places)


def _higher(score: NDArray[np.float32], logits: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.maximum(score, np.minimum(1 / (1 + np.exp(-logits)), HIGHEST)).astype(np.float32)

"""What trained members say of cubes: members, cubes ─► logits and features ─► score, calibration, table of
predictions.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lungscreen.assess.brock import BrockInput, estimate_brock
from lungscreen.classify.calibration import (
    Calibration,
    attributes_of,
    expected_rating,
    fit_calibration,
    suspicion,
)
from lungscreen.classify.inference import cut_views, find_views, mean_logits, measure_patches
from lungscreen.classify.network import ATTRIBUTES, OUTPUTS, Network
from lungscreen.classify.score import Score, fit_score
from lungscreen.training.classifier.data import Cubes
from lungscreen.training.classifier.recipe import ClassifierTraining
from lungscreen.training.classifier.samples import cut_turned, shift_centres, to_tensors

__all__ = ["HIGH", "LOW", "SHIFT_MM", "Looks", "Numbers", "fit_numbers", "prediction_rows", "rate_cubes", "write_table"]

Indices = NDArray[np.intp]

LOW, HIGH = 2.5, 3.5
"""Mean ratings up to which a nodule counts as benign, and from which as malignant; between is undecided."""

SPICULATION, SPICULATED = 3, 3.0
"""Place among the attributes, and the rating (1 to 5) from which a nodule counts as spiculated."""

SHIFT_MM = 3.0
"""Radius of the ball that centres are drawn from: a detector's, or a radiologist's, error."""


@dataclass(frozen=True, eq=False)
class Looks:
    """Of the cubes `chosen`: mean logits of members and mirrorings, (n, outputs), and features, (n, features)."""

    chosen: Indices
    logits: NDArray[np.float32]
    features: NDArray[np.float64]

    def part(self, keep: NDArray[np.bool_]) -> Looks:
        """Some of them."""
        return Looks(self.chosen[keep], self.logits[keep], self.features[keep])


@dataclass(frozen=True)
class Numbers:
    """What turns looks into probabilities."""

    score: Score
    calibration: Calibration

    def scores(self, looks: Looks) -> NDArray[np.float64]:
        """What nodules are ranked by, (n,)."""
        return self.score.of(suspicion(looks.logits), looks.features)

    def probability(self, looks: Looks) -> NDArray[np.float64]:
        """That more than half of the readers gave 4 or 5, (n,)."""
        return self.calibration.probability(self.scores(looks))


def rate_cubes(members: list[Network], cubes: Cubes, chosen: Indices, config: ClassifierTraining, seed: int) -> Looks:
    """Rate cubes from centres drawn from a ball of `SHIFT_MM`; the view then moves to the nodule, as in use."""
    view, reach = config.patch, config.reach
    intensity, masks = to_tensors(cubes)
    middle = torch.from_numpy(shift_centres(cubes.centres[chosen], SHIFT_MM, seed))
    logits, features = [], []
    for start in range(0, len(chosen), 16):
        part = slice(start, start + 16)
        still = torch.eye(3).expand(len(chosen[part]), 3, 3)
        cut, _ = cut_turned(intensity, masks, chosen[part], middle[part], view + 2 * reach, still)
        patches = cut[:, 0].numpy()
        views = cut_views(patches, find_views(members, patches, view, reach), view)
        rated, inside = mean_logits(members, torch.from_numpy(views)[:, None])
        logits.append(rated)
        features.append(measure_patches(views, inside))
    return Looks(chosen, np.concatenate(logits), np.concatenate(features))


def fit_numbers(cubes: Cubes, learned: Looks, calibrated: Looks | None = None) -> Numbers:
    """The score on the cubes that were learned from; the calibration on others, or on the same where there are none.

    Only rated cubes count. Raises ValueError where nobody's or everybody's majority is 4 or 5.
    """
    learned = learned.part(cubes.rated[learned.chosen])
    calibrated = learned if calibrated is None else calibrated.part(cubes.rated[calibrated.chosen])
    score = fit_score(suspicion(learned.logits), learned.features, cubes.mean_rating[learned.chosen])
    scores = score.of(suspicion(calibrated.logits), calibrated.features)
    return Numbers(score, fit_calibration(scores, cubes.majority[calibrated.chosen]))


def prediction_rows(cubes: Cubes, looks: Looks, numbers: Numbers, fold: int | None = None) -> list[dict[str, Any]]:
    """A row a cube, as `lungscreen evaluate classification` reads it.

    brock_terms: size and spiculation terms of Brock 1b alone, as the probability of a man whose nodule is in no upper
    lobe: LUNA16's diameter, and spiculation where the estimate is 3 or more.  label: mean rating 3.5 and more (1), 2.5
    and less (0), between or not rated empty.  majority: more than half of the readers gave 4 or 5, empty where not
    rated.  Attributes: estimated, and `…_rated` by the readers' majority.
    """
    parts = (
        expected_rating(looks.logits),
        numbers.probability(looks),
        suspicion(looks.logits),
        attributes_of(looks.logits),
    )
    rows = []
    for n, expected, probability, raised, attributes in zip(looks.chosen, *parts, strict=True):
        mean = float(cubes.mean_rating[n])
        row: dict[str, Any] = {"id": cubes.names[n], "patient_id": cubes.persons[n], "subset": cubes.subsets[n]}
        if fold is not None:
            row["fold"] = fold
        row |= {
            "diameter_mm": _number(cubes.diameter_mm[n], 2),
            "mean_rating": _number(mean, 3),
            "label": "1" if mean >= HIGH else "0" if mean <= LOW else "",
            "majority": str(int(cubes.majority[n])) if math.isfinite(mean) else "",
            "expected_rating": f"{expected:.4f}",
            "suspicion": f"{raised:.4f}",
            "probability": f"{probability:.6f}",
            "brock_terms": _number(_brock_terms(float(cubes.diameter_mm[n]), float(attributes[SPICULATION])), 6),
        }
        for name, value in zip((*ATTRIBUTES[1:], "calcified"), attributes, strict=True):
            rated = float(cubes.targets[n, OUTPUTS.index(name)])
            row[name] = f"{value:.3f}"
            row[f"{name}_rated"] = _number(rated if name == "calcified" else 1 + 4 * rated, 2)
        rows.append(row)
    return rows


def _brock_terms(diameter_mm: float, spiculation: float) -> float:
    """NaN where the diameter is not known."""
    if not math.isfinite(diameter_mm):
        return math.nan
    data = BrockInput(diameter_mm, upper_lobe=False, sex="M", spiculation=spiculation >= SPICULATED)
    return float(estimate_brock(data, "1b").probability or math.nan)


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Rows of the same columns as CSV."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def _number(value: float, digits: int) -> str:
    """Empty where not known."""
    return f"{value:.{digits}f}" if math.isfinite(value) else ""

"""Predictions ─► ClassificationResult: how well probabilities separate two classes, and whether they mean what they
say.

The area has two intervals: DeLong's, which takes cases as independent, and a bootstrap's over groups (patients).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice
from lungscreen.evaluation.attributes import attribute_figures, read_attributes
from lungscreen.evaluation.froc import draw_scans
from lungscreen.evaluation.statistics import (
    area_under_curve,
    average_precision,
    calibration_bins,
    delong,
    normal_reach,
    roc_points,
    share_interval,
)
from lungscreen.evaluation.tables import Table, read_table_file

__all__ = [
    "ClassificationConfig",
    "ClassificationResult",
    "Predictions",
    "evaluate_classification",
    "read_predictions",
]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

ID_COLUMNS = ("id", "finding_id", "cube", "name")
GROUP_COLUMNS = ("group", "patient_id", "series_uid", "seriesuid")


@dataclass(frozen=True)
class ClassificationConfig:
    """How a classifier is measured."""

    thresholds: tuple[float, ...] = (0.5,)
    """Operating points given as probabilities; the first one makes the confusion matrix."""
    sensitivities: tuple[float, ...] = (0.95, 0.90)
    """Operating points given as the sensitivity to reach."""
    specificities: tuple[float, ...] = (0.90, 0.95)
    bins: int = 10
    """Bins of equal count for calibration."""
    diameter_edges_mm: tuple[float, ...] = (6.0, 15.0)
    bootstrap_samples: int = 1000
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not self.thresholds or not all(0 <= t <= 1 for t in self.thresholds):
            raise ValueError(f"thresholds: expected at least one from 0 to 1, got {self.thresholds}")
        if not all(0 < s <= 1 for s in self.sensitivities + self.specificities):
            raise ValueError("sensitivities and specificities: expected above 0, at most 1")
        if self.bins < 1 or self.bootstrap_samples < 1:
            raise ValueError("bins and bootstrap_samples: expected at least 1")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence: expected between 0 and 1, got {self.confidence}")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier said of cases whose class is known.

    labels: (n,), True is the positive class.
    probabilities: (n,), 0 to 1.
    groups: what is drawn together in the bootstrap (patients); each case alone where empty.
    diameters_mm, rival: (n,) or None. A rival is another score for the same cases, compared in pairs; any scale.
    undecided: rows without a label, left out.
    attributes: of each, estimates and readers' ratings where both are known.
    """

    labels: Bools
    probabilities: Floats
    groups: tuple[str, ...] = ()
    diameters_mm: Floats | None = None
    rival: Floats | None = None
    rival_name: str = ""
    undecided: int = 0
    notices: tuple[Notice, ...] = ()
    attributes: Mapping[str, tuple[Floats, Floats]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClassificationResult:
    """What was measured. `figures` is what `evaluation.json` holds: undefined figures are None."""

    figures: Mapping[str, Any]
    roc: tuple[Floats, Floats, Floats]
    """False-positive rate, sensitivity, threshold; empty where undefined."""
    notices: tuple[Notice, ...] = field(default=())


def read_predictions(
    path: Path, label: str = "label", probability: str = "probability", versus: str | None = None
) -> Predictions:
    """Read a table of predictions; the columns' names can be chosen. Rows with an empty label are left out, and
    counted.

    Also read where present: id (must be unique), group or patient_id, diameter_mm, and pairs NAME and NAME_rated.

    Errors: as `read_marks`, and `predictions-duplicate`.
    """
    table = read_table_file(path)
    cells = table.text((label,))
    kept = np.array([cell != "" for cell in cells], dtype=bool)
    decided = table.keep(kept.tolist())
    _check_ids(decided)
    labels, probabilities = decided.numbers((label,)), decided.numbers((probability,))
    if not np.isin(labels, (0, 1)).all():
        raise InputError("table-value-invalid", f"expected 0 or 1 in column {label}", table.where)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise InputError("table-value-invalid", f"expected 0 to 1 in column {probability}", table.where)
    return Predictions(
        labels=labels == 1,
        probabilities=probabilities,
        groups=_groups(decided),
        diameters_mm=decided.numbers(("diameter_mm",)) if decided.place(("diameter_mm",)) is not None else None,
        rival=decided.numbers((versus,)) if versus else None,
        rival_name=versus or "",
        undecided=int((~kept).sum()),
        notices=table.notices,
        attributes=read_attributes(decided),
    )


def evaluate_classification(
    predictions: Predictions,
    config: ClassificationConfig = ClassificationConfig(),
) -> ClassificationResult:
    """Measure probabilities against labels: area with two intervals, operating points, classes, calibration.

    Errors: `table-empty` without a single case.
    """
    labels, probabilities = predictions.labels, predictions.probabilities
    if len(labels) == 0:
        raise InputError("table-empty", "no row has a label")
    positives = int(labels.sum())
    notices = [*predictions.notices, *_notices(predictions)]
    figures = {
        "cases": len(labels),
        "positives": positives,
        "undecided": predictions.undecided,
        "groups": len(set(predictions.groups)) if predictions.groups else len(labels),
        "auc": _area_figures(predictions, config),
        "versus": _rival_figures(predictions, config),
        "average_precision": average_precision(labels, probabilities),
        "brier": float(np.mean((probabilities - labels) ** 2)),
        "threshold": config.thresholds[0],
        "confusion": _confusion(labels, probabilities >= config.thresholds[0]),
        "per_class": _per_class(labels, probabilities >= config.thresholds[0]),
        "operating_points": _operating_points(labels, probabilities, config),
        "calibration": _calibration(labels, probabilities, config),
        "by_diameter": _by_diameter(predictions, config),
        "attributes": attribute_figures(predictions.attributes),
        "notices": [{"code": notice.code, "text": notice.text} for notice in notices],
    }
    return ClassificationResult(figures, roc_points(labels, probabilities), tuple(notices))


# -- the area --------------------------------------------------------------------------------------------------------
def _area_figures(predictions: Predictions, config: ClassificationConfig) -> dict[str, Any]:
    labels, probabilities = predictions.labels, predictions.probabilities
    area = area_under_curve(labels, probabilities)
    figures: dict[str, Any] = {"value": None if math.isnan(area) else area, "confidence": config.confidence}
    figures["delong"] = _delong_interval(labels, probabilities, config.confidence)
    names = predictions.groups or tuple(str(n) for n in range(len(labels)))
    group = np.unique(np.array(names, dtype=str), return_inverse=True)[1]
    draws = draw_scans(int(group.max()) + 1, config.bootstrap_samples, config.seed)
    areas = np.array([area_under_curve(labels, probabilities, draw[group].astype(float)) for draw in draws])
    usable = areas[~np.isnan(areas)]
    tail = (1 - config.confidence) / 2
    figures["bootstrap"] = {
        "samples": config.bootstrap_samples,
        "seed": config.seed,
        "undefined_samples": int(len(areas) - len(usable)),
        "lower": float(np.quantile(usable, tail)) if len(usable) else None,
        "upper": float(np.quantile(usable, 1 - tail)) if len(usable) else None,
    }
    return figures


def _delong_interval(labels: Bools, scores: Floats, confidence: float) -> dict[str, float | None]:
    if min(labels.sum(), (~labels).sum()) < 2:
        return {"lower": None, "upper": None, "standard_error": None}
    areas, covariance = delong(labels, scores)
    error = math.sqrt(max(covariance[0, 0], 0.0))
    reach = normal_reach(confidence) * error
    lower, upper = max(0.0, float(areas[0]) - reach), min(1.0, float(areas[0]) + reach)
    return {"lower": lower, "upper": upper, "standard_error": error}


def _rival_figures(predictions: Predictions, config: ClassificationConfig) -> dict[str, Any] | None:
    """The paired gain in area over another score."""
    if predictions.rival is None:
        return None
    figures: dict[str, Any] = {
        "column": predictions.rival_name,
        "auc": None,
        "gain": None,
        "lower": None,
        "upper": None,
    }
    if min(predictions.labels.sum(), (~predictions.labels).sum()) < 2:
        return figures
    areas, covariance = delong(predictions.labels, predictions.probabilities, predictions.rival)
    gain = float(areas[0] - areas[1])
    spread = normal_reach(config.confidence) * math.sqrt(
        max(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1], 0.0)
    )
    return figures | {"auc": float(areas[1]), "gain": gain, "lower": gain - spread, "upper": gain + spread}


# -- operating points and classes ------------------------------------------------------------------------------------
def _operating_points(labels: Bools, probabilities: Floats, config: ClassificationConfig) -> list[dict[str, Any]]:
    """At fixed thresholds, and at thresholds found on these very data (which flatters: said by `chosen_here`)."""
    points = [("threshold", t, t) for t in config.thresholds]
    false_rate, sensitivity, threshold = roc_points(labels, probabilities)
    if len(threshold):
        reached = [(w, np.flatnonzero(sensitivity >= w - 1e-12)[0]) for w in config.sensitivities]
        spared = [(w, np.flatnonzero(1 - false_rate >= w - 1e-12)[-1]) for w in config.specificities]
        points += [("sensitivity", wanted, threshold[n]) for wanted, n in reached]
        points += [("specificity", wanted, threshold[n]) for wanted, n in spared]
    return [
        {
            "by": by,
            "wanted": wanted,
            "threshold": float(cut) if math.isfinite(cut) else None,
            "chosen_here": by != "threshold",
        }
        | _rates(labels, probabilities >= cut, config.confidence)
        for by, wanted, cut in points
    ]


def _rates(labels: Bools, called: Bools, confidence: float) -> dict[str, Any]:
    return {
        "sensitivity": share_interval(called[labels], confidence),
        "specificity": share_interval(~called[~labels], confidence),
        "positive_predictive_value": share_interval(labels[called], confidence),
        "negative_predictive_value": share_interval(~labels[~called], confidence),
    }


def _confusion(labels: Bools, called: Bools) -> dict[str, int]:
    return {
        "true_positive": int((labels & called).sum()),
        "false_positive": int((~labels & called).sum()),
        "false_negative": int((labels & ~called).sum()),
        "true_negative": int((~labels & ~called).sum()),
    }


def _per_class(labels: Bools, called: Bools) -> list[dict[str, Any]]:
    """Precision, recall and F1 of each class at the first threshold."""
    report = []
    for name, truth, said in ((0, ~labels, ~called), (1, labels, called)):
        right, support, named = int((truth & said).sum()), int(truth.sum()), int(said.sum())
        report.append(
            {
                "label": name,
                "support": support,
                "precision": right / named if named else None,
                "recall": right / support if support else None,
                "f1": 2 * right / (support + named) if support + named else None,
            }
        )
    return report


# -- calibration -----------------------------------------------------------------------------------------------------
def _calibration(labels: Bools, probabilities: Floats, config: ClassificationConfig) -> dict[str, Any]:
    bins = calibration_bins(labels, probabilities, config.bins)
    gaps = [abs(b["mean_probability"] - b["share_positive"]) for b in bins]
    return {
        "expected_calibration_error": sum(b["cases"] * gap for b, gap in zip(bins, gaps, strict=True)) / len(labels),
        "largest_gap": max(gaps),
        "mean_probability": float(probabilities.mean()),
        "share_positive": float(labels.mean()),
        "bins": [b | _bin_interval(b, config.confidence) for b in bins],
    }


def _bin_interval(one: Mapping[str, float], confidence: float) -> dict[str, float]:
    positives = round(one["share_positive"] * one["cases"])
    share = share_interval(np.arange(int(one["cases"])) < positives, confidence)
    return {"lower": share["lower"], "upper": share["upper"]}


# -- the rest --------------------------------------------------------------------------------------------------------
def _by_diameter(predictions: Predictions, config: ClassificationConfig) -> list[dict[str, Any]] | None:
    if predictions.diameters_mm is None:
        return None
    edges, groups = (-math.inf, *config.diameter_edges_mm, math.inf), []
    for low, high in itertools.pairwise(edges):
        inside = (predictions.diameters_mm >= low) & (predictions.diameters_mm < high)
        labels, probabilities = predictions.labels[inside], predictions.probabilities[inside]
        area = area_under_curve(labels, probabilities) if len(labels) else math.nan
        groups.append(
            {
                "from_mm": max(low, 0.0),
                "below_mm": None if math.isinf(high) else high,
                "cases": len(labels),
                "positives": int(labels.sum()),
                "auc": None if math.isnan(area) else area,
                "delong": _delong_interval(labels, probabilities, config.confidence),
                "versus": _rival_figures(_part(predictions, inside), config),
            }
        )
    return groups


def _part(predictions: Predictions, inside: Bools) -> Predictions:
    rival = None if predictions.rival is None else predictions.rival[inside]
    return Predictions(
        predictions.labels[inside], predictions.probabilities[inside], rival=rival, rival_name=predictions.rival_name
    )


def _notices(predictions: Predictions) -> list[Notice]:
    notices = []
    if predictions.undecided:
        notices.append(Notice("rows-unlabelled", f"{predictions.undecided} rows have no label and were left out"))
    fewer = min(int(predictions.labels.sum()), int((~predictions.labels).sum()))
    if fewer == 0:
        notices.append(Notice("figures-undefined", "all cases are of one class: no area, no curve (null)"))
    elif fewer == 1:
        notices.append(Notice("figures-undefined", "a single case of one class: no DeLong interval (null)"))
    return notices


def _check_ids(table: Table) -> None:
    if table.place(ID_COLUMNS) is None:
        return
    names = table.text(ID_COLUMNS)
    if len(set(names)) != len(names):
        twice = next(name for n, name in enumerate(names) if name in names[:n])
        raise InputError("predictions-duplicate", f"{twice[:80]!r} stands twice", table.where)


def _groups(table: Table) -> tuple[str, ...]:
    """Each row's group; a row whose cell is empty stands alone."""
    if table.place(GROUP_COLUMNS) is None:
        return ()
    return tuple(name or f"row {n}" for n, name in enumerate(table.text(GROUP_COLUMNS)))

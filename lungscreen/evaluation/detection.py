"""Marks, Nodules, excluded findings, series ─► DetectionResult: how well a detector finds nodules, by LUNA16's rules.

What LUNA16 defines (sensitivities, CPM, counts, curve, bootstrap) is exactly that. What it does not define stands
apart: results by diameter and type, the interval of the CPM, and what each nodule and each false mark looked like.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice
from lungscreen.evaluation.by_scan import ScanFigures, at_threshold, list_scans
from lungscreen.evaluation.froc import Bootstrap, Curve, Interval, bootstrap_rates, draw_scans, froc_curve, spread
from lungscreen.evaluation.matching import MarkMatches, match_marks, squared_distance_mm2
from lungscreen.evaluation.tables import MarkTable, Nodules
from lungscreen.geometry import Vector

__all__ = ["DetectionConfig", "DetectionResult", "FalseMark", "NoduleOutcome", "evaluate_detection"]

LUNA16_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False marks per scan at which the challenge reads the curve."""
LONGEST_LISTING = 3
"""How many UIDs a notice names at most."""


@dataclass(frozen=True)
class DetectionConfig:
    """How a detector is measured; the defaults are LUNA16's."""

    max_marks: int | None = 100
    """Marks of a scan that count at most; None counts all."""
    rates: tuple[float, ...] = LUNA16_RATES
    """False marks per scan at which sensitivity is given."""
    bootstrap_samples: int = 1000
    seed: int = 0
    confidence: float = 0.95
    diameter_edges_mm: tuple[float, ...] = (4.0, 6.0, 8.0, 15.0, 30.0)
    """Edges of the groups by diameter: Lung-RADS's sizes, and a mass."""
    worst: int = 50
    """False marks that are listed: the highest scores."""
    threshold: float | None = None
    """Score from which a mark counts at the operating point; None where figures at one are not asked for."""

    def __post_init__(self) -> None:
        if self.max_marks is not None and self.max_marks < 1:
            raise ValueError(f"max_marks: expected at least 1, or none, got {self.max_marks}")
        if not self.rates or not _rise(self.rates):
            raise ValueError(f"rates: expected rising positive numbers, got {self.rates}")
        self._check_resampling()
        if self.threshold is not None and not math.isfinite(self.threshold):
            raise ValueError(f"threshold: expected a finite number, got {self.threshold}")
        if not _rise(self.diameter_edges_mm):
            raise ValueError(f"diameter_edges_mm: expected rising positive numbers, got {self.diameter_edges_mm}")

    def _check_resampling(self) -> None:
        if self.bootstrap_samples < 1 or self.worst < 0:
            raise ValueError("bootstrap_samples: expected at least 1; worst: expected at least 0")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence: expected between 0 and 1, got {self.confidence}")


def _rise(numbers: Sequence[float]) -> bool:
    """They are above 0, and each is above the one before."""
    return list(numbers) == sorted(set(numbers)) and min(numbers, default=1) > 0


@dataclass(frozen=True, slots=True)
class NoduleOutcome:
    """One annotated nodule and what the detector made of it."""

    row: int
    """Row of the annotations, the first being 0."""
    series_uid: str
    centre_mm: Vector
    diameter_mm: float
    type: str
    score: float | None
    """Highest score inside; None where missed."""
    false_marks_above: int | None
    """False marks of its own scan that score higher."""
    fp_per_scan: float | None
    """False marks per scan, over all scans, down to its score."""
    nearest_mark_mm: float | None
    """Distance of the nearest mark that counts or not; None where the scan has none."""
    nearest_mark_score: float | None
    rank: int | None = None
    """Its place among all marks of its own scan, 1 the highest score, whatever the others hit; None where missed."""


@dataclass(frozen=True, slots=True)
class FalseMark:
    """A mark on nothing that was annotated."""

    series_uid: str
    centre_mm: Vector
    score: float
    fp_per_scan: float
    """False marks per scan down to this score."""


@dataclass(frozen=True, eq=False)
class DetectionResult:
    """What was measured. `figures` is what `evaluation.json` holds: undefined figures are None."""

    figures: Mapping[str, Any]
    curve: Curve
    bootstrap: Bootstrap
    outcomes: tuple[NoduleOutcome, ...]
    worst_false: tuple[FalseMark, ...]
    scans: tuple[ScanFigures, ...] = ()
    notices: tuple[Notice, ...] = field(default=())

    @property
    def missed(self) -> tuple[NoduleOutcome, ...]:
        """Nodules without a mark inside, the largest first."""
        missed = [outcome for outcome in self.outcomes if outcome.score is None]
        return tuple(sorted(missed, key=lambda outcome: -outcome.diameter_mm))


def evaluate_detection(
    marks: MarkTable,
    nodules: Nodules,
    excluded: Nodules,
    series: Sequence[str],
    config: DetectionConfig = DetectionConfig(),
) -> DetectionResult:
    """Measure a detector's marks against annotations.

    `series` lists every scan that was searched: the divisor of false marks, in the order the bootstrap draws from.

    Errors: `series-none-match` where marks or annotations exist and not one is of a listed scan;
    `annotations-duplicate`.
    """
    _check_series("candidates", marks.series, series)
    _check_series("annotations", nodules.series, series)
    _check_repeated(nodules)
    matches = match_marks(marks, nodules, excluded, series, config.max_marks)
    rates = np.array(config.rates)
    curve = froc_curve(matches)
    weights = draw_scans(matches.scans, config.bootstrap_samples, config.seed)
    bootstrap = bootstrap_rates(matches, weights, rates, config.confidence)
    read = (*marks.notices, *nodules.notices, *excluded.notices)
    notices = (*read, *_notices(matches, marks, nodules, series, bootstrap))
    figures = {
        **_counts(matches, marks),
        "fp_rates": list(config.rates),
        "sensitivity": _defined(curve.at(rates)),
        "cpm": _defined(curve.at(rates).mean()),
        "max_marks": config.max_marks,
        "bootstrap": _bootstrap_figures(bootstrap, config)
        | {"counting_misses": _counting_misses(matches, config, weights)},
        "by_diameter": _by_diameter(matches, nodules, config, weights),
        "by_type": _by_type(matches, nodules, config, weights),
        "froc_curve": {
            "fp_per_scan": _defined(curve.fp_per_scan),
            "sensitivity": _defined(curve.sensitivity),
            "threshold": _defined(curve.threshold),
        },
        "notices": [{"code": notice.code, "text": notice.text} for notice in notices],
    }
    scans = list_scans(matches, series, config.threshold)
    figures["at_threshold"] = at_threshold(scans, config.threshold, config.confidence)
    worst = np.argsort(-matches.false_score, kind="stable")[: config.worst]
    return DetectionResult(
        figures=figures,
        curve=curve,
        bootstrap=bootstrap,
        outcomes=_outcomes(matches, marks, nodules),
        worst_false=tuple(_false_mark(matches, marks, n) for n in worst),
        scans=scans,
        notices=notices,
    )


def _defined(values: Any) -> Any:
    """Numbers for JSON: None where undefined or infinite."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [_defined(value) for value in values]
    return float(values) if math.isfinite(values) else None


# -- the parts of the figures ----------------------------------------------------------------------------------------
def _counts(matches: MarkMatches, marks: MarkTable) -> dict[str, Any]:
    nodules, found = len(matches.nodule_row), int((~np.isnan(matches.nodule_score)).sum())
    return {
        "scans": matches.scans,
        "nodules": nodules,
        "rows_in_candidates_csv": len(marks.series),
        "total_candidates": matches.marks,
        "tp": found,
        "fp": len(matches.false_row),
        "fn": nodules - found,
        "ignored_excluded": matches.ignored_excluded,
        "double_ignored": matches.double_ignored,
        "cut_off": matches.marks_cut,
        "max_sensitivity": found / nodules if nodules else None,
        "candidates_per_scan": matches.marks / matches.scans,
    }


def _bootstrap_figures(bootstrap: Bootstrap, config: DetectionConfig) -> dict[str, Any]:
    return {
        "samples": config.bootstrap_samples,
        "confidence": config.confidence,
        "seed": config.seed,
        "nan_samples": bootstrap.undefined,
        "at_exact_rates": _interval(bootstrap.interval("script")),
        "at_exact_rates_integer_fp": _interval(bootstrap.interval("integer")),
        "cpm": {name: values[0] for name, values in _interval(bootstrap.cpm()).items()},
    }


def _counting_misses(matches: MarkMatches, config: DetectionConfig, weights: NDArray[np.int64]) -> dict[str, Any]:
    """The same draws, made usable for few scans: no hit among nodules is 0, draws without a nodule are left out."""
    draws = bootstrap_rates(matches, weights, np.array(config.rates), config.confidence, unhit=0.0).integer
    draws = draws[~np.isnan(draws[:, 0])]
    nothing = dict.fromkeys(("mean", "lower", "upper"), [None] * len(config.rates))
    return {"draws": len(draws), **(_interval(spread(draws, config.confidence)) if len(draws) else nothing)}


def _interval(interval: Interval) -> dict[str, Any]:
    return {name: _defined(getattr(interval, name)) for name in ("mean", "lower", "upper")}


def _by_diameter(
    matches: MarkMatches, nodules: Nodules, config: DetectionConfig, weights: NDArray[np.int64]
) -> list[dict[str, Any]]:
    diameters = nodules.diameters_mm[matches.nodule_row]
    groups = [
        {"from_mm": low, "below_mm": _defined(high), **_group(matches.only(members), config, weights)}
        for low, high in itertools.pairwise((0.0, *config.diameter_edges_mm, math.inf))
        for members in [(diameters >= low) & (diameters < high)]
    ]
    if (diameters < 0).any():
        groups.append({"from_mm": None, "below_mm": None, **_group(matches.only(diameters < 0), config, weights)})
    return groups


def _by_type(
    matches: MarkMatches, nodules: Nodules, config: DetectionConfig, weights: NDArray[np.int64]
) -> list[dict[str, Any]] | None:
    if not nodules.types:
        return None
    types = np.array([nodules.types[row] or "unknown" for row in matches.nodule_row], dtype=str)
    return [{"type": str(name), **_group(matches.only(types == name), config, weights)} for name in np.unique(types)]


def _group(matches: MarkMatches, config: DetectionConfig, weights: NDArray[np.int64]) -> dict[str, Any]:
    """Counts, sensitivities and intervals of some of the nodules, at the thresholds that all scans' false marks give.

    Unlike the challenge's own figures, nodules of which none is hit have a sensitivity of 0; no nodule, none.
    """
    rates, found = np.array(config.rates), int((~np.isnan(matches.nodule_score)).sum())
    empty = [0.0 if len(matches.nodule_row) else None] * len(rates)
    draws = _counting_misses(matches, config, weights)
    return {
        "nodules": len(matches.nodule_row),
        "tp": found,
        "sensitivity": _defined(froc_curve(matches).at(rates)) if found else empty,
        "lower": draws["lower"],
        "upper": draws["upper"],
    }


# -- one by one ------------------------------------------------------------------------------------------------------
def _outcomes(matches: MarkMatches, marks: MarkTable, nodules: Nodules) -> tuple[NoduleOutcome, ...]:
    rows_of: dict[str, list[int]] = {}
    for row, uid in enumerate(marks.series):
        rows_of.setdefault(uid, []).append(row)
    return tuple(_outcome(matches, marks, nodules, n, rows_of) for n in range(len(matches.nodule_row)))


def _outcome(
    matches: MarkMatches, marks: MarkTable, nodules: Nodules, n: int, rows_of: Mapping[str, list[int]]
) -> NoduleOutcome:
    row, score = int(matches.nodule_row[n]), float(matches.nodule_score[n])
    found = not math.isnan(score)
    own = matches.false_score[matches.false_scan == matches.nodule_scan[n]]
    near = np.array(rows_of.get(nodules.series[row], []), dtype=np.intp)
    distance = np.sqrt(squared_distance_mm2(nodules.centres_mm[[row]], marks.centres_mm[near]))[0]
    return NoduleOutcome(
        row=row,
        series_uid=nodules.series[row],
        centre_mm=_point(nodules.centres_mm[row]),
        diameter_mm=float(nodules.diameters_mm[row]),
        type=nodules.types[row] if nodules.types else "",
        score=score if found else None,
        false_marks_above=int((own > score).sum()) if found else None,
        fp_per_scan=float((matches.false_score >= score).sum() / matches.scans) if found else None,
        nearest_mark_mm=float(distance.min()) if len(near) else None,
        nearest_mark_score=float(marks.scores[near[distance.argmin()]]) if len(near) else None,
        rank=int((marks.scores[near] > score).sum()) + 1 if found else None,
    )


def _false_mark(matches: MarkMatches, marks: MarkTable, n: int) -> FalseMark:
    row, score = int(matches.false_row[n]), float(matches.false_score[n])
    above = float((matches.false_score >= score).sum() / matches.scans)
    return FalseMark(marks.series[row], _point(marks.centres_mm[row]), score, above)


def _point(point_mm: NDArray[np.float64]) -> Vector:
    x, y, z = point_mm
    return float(x), float(y), float(z)


# -- what is refused, what is said -----------------------------------------------------------------------------------
def _check_series(what: str, uids: Sequence[str], series: Sequence[str]) -> None:
    if uids and set(uids).isdisjoint(series):
        raise InputError(
            "series-none-match", f"no row of the {what} belongs to a listed series; its first is {uids[0][:80]}"
        )


def _check_repeated(nodules: Nodules) -> None:
    rows = collections.Counter(zip(nodules.series, map(_point, nodules.centres_mm), nodules.diameters_mm, strict=True))
    repeated = [uid for (uid, _, _), times in rows.items() if times > 1]
    if repeated:
        raise InputError(
            "annotations-duplicate", f"{len(repeated)} nodules stand twice, the first in {repeated[0][:80]}"
        )


def _notices(
    matches: MarkMatches, marks: MarkTable, nodules: Nodules, series: Sequence[str], bootstrap: Bootstrap
) -> tuple[Notice, ...]:
    notices = []
    for what, uids, rows in (
        ("marks", marks.series, matches.marks_elsewhere),
        ("annotated nodules", nodules.series, matches.nodules_elsewhere),
    ):
        if rows:
            names = sorted(set(uids) - set(series))
            listing = ", ".join(name[:80] for name in names[:LONGEST_LISTING]) + (" …" if names[3:] else "")
            notices.append(
                Notice("series-not-listed", f"{rows} {what} of {len(names)} series that are not listed: {listing}")
            )
    repeated = len(marks.series) - len(set(zip(marks.series, map(_point, marks.centres_mm), marks.scores, strict=True)))
    if repeated:
        notices.append(Notice("marks-duplicate", f"{repeated} marks repeat another mark; each counts, as in LUNA16"))
    if matches.marks_cut:
        notices.append(Notice("marks-cut", f"{matches.marks_cut} marks beyond the limit of a scan do not count"))
    return (*notices, *_undefined(matches, bootstrap))


def _undefined(matches: MarkMatches, bootstrap: Bootstrap) -> list[Notice]:
    if not len(matches.nodule_row):
        return [Notice("figures-undefined", "no annotated nodule lies in a listed scan: sensitivities are null")]
    if np.isnan(matches.nodule_score).all():
        return [
            Notice(
                "figures-undefined",
                f"none of {len(matches.nodule_row)} nodules is hit: LUNA16's curve is undefined, so are its figures"
                " (null)",
            )
        ]
    if bootstrap.undefined:
        text = f"{bootstrap.undefined} bootstrap draws hold no hit nodule: the bootstrap's means are null"
        return [Notice("figures-undefined", f"{text}, its bounds count such draws as highest, as LUNA16 does")]
    return []

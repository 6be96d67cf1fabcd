"""Cases ─► train_site_model ─► fusion.json: a site's own logistic model.

    folds by patient: standardise, fit, calibrate on the other folds ─► out-of-fold probabilities ─► what it is worth
    all cases: the same ─► the model that is kept

The network's logit and what is known of the person, each standardised; a value that is not known counts as the mean and
has a column of its own that says so. Ridge-penalised, classes weighted alike, then calibrated without weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.assess.site_model import LOGIT, SiteModel, Term, fusion_json
from lungscreen.errors import InputError, Notice, UsageError
from lungscreen.evaluation.classification import ClassificationConfig, Predictions, evaluate_classification
from lungscreen.evaluation.output import write_classification, write_csv
from lungscreen.evaluation.statistics import normal_reach
from lungscreen.files import replace_file
from lungscreen.training.site_model.cases import Cases

__all__ = ["COEFFICIENT_COLUMNS", "Fitted", "SiteModelTraining", "fit_site_model", "train_site_model"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_STEPS = 100
"""Of Newton's method; a ridge-penalised logistic fit takes about ten."""

NEARLY_BEST = 1.002
"""Of two penalties that do as well, the weaker one leaves the coefficients nearer to the truth. Our choice."""

FEW_EVENTS = 10
"""Cases of the rarer class per column below which coefficients are said to rest on little (Peduzzi et al. 1996)."""


COEFFICIENT_COLUMNS = (
    "term",
    "log_odds_per_sd",
    "lower",
    "upper",
    "sd",
    "mean",
    "log_odds_if_not_known",
    "known_share",
)
"""Of coefficients.csv: before calibration, with intervals by patient (sandwich)."""


@dataclass(frozen=True)
class SiteModelTraining:
    """How the model is fitted."""

    folds: int = 5
    inner_folds: int = 5
    """Within the other folds, for calibration and for choosing the penalty."""
    penalties: tuple[float, ...] = (0.1, 1.0, 10.0, 100.0)
    """Of half the sum of squared standardised coefficients, against the log likelihood; rising. The weakest is taken
    whose loss in the inner folds is nearly the best."""
    least_each: int = 20
    """Patients with the outcome, and without it, below which nothing is fitted."""
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.folds < 2 or self.inner_folds < 2:
            raise ValueError("folds, inner_folds: expected at least 2")
        if not self.penalties or min(self.penalties) <= 0 or list(self.penalties) != sorted(self.penalties):
            raise ValueError("penalties: expected at least one, all above 0, rising")
        if self.least_each < max(self.folds, self.inner_folds):
            raise ValueError("least_each: expected at least one patient of each class a fold")
        if not 0 < self.confidence < 1:
            raise ValueError("confidence: expected between 0 and 1")


@dataclass(frozen=True, eq=False)
class Fitted:
    """Terms and calibration; intervals of the coefficients before calibration, per standard deviation, by term's
    name.
    """

    terms: tuple[Term, ...]
    slope: float
    intercept: float
    penalty: float
    intervals: Mapping[str, tuple[float, float]]

    def probabilities(self, cases: Cases) -> Floats:
        """(n,)"""
        return _sigmoid(self.slope * self.scores(cases) + self.intercept)

    def scores(self, cases: Cases) -> Floats:
        """(n,) sums of the terms, before calibration."""
        places = [cases.columns.index(term.name) for term in self.terms]
        total = np.zeros(len(cases.labels))
        for term, place in zip(self.terms, places, strict=True):
            value = cases.values[:, place]
            known = term.coefficient * (value - term.mean) / term.scale
            total += np.where(np.isnan(value), term.if_missing or 0.0, known)
        return total


# -- the model -------------------------------------------------------------------------------------------------------
def train_site_model(
    cases: Cases,
    out: Path,
    meaning: str,
    network_sha256: str,
    config: SiteModelTraining | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> SiteModel:
    """Fit, cross-validate and write: fusion.json (the model), coefficients.csv, and evaluation.json with its plots,
    which measure the out-of-fold probabilities, in pairs against the network alone.

    meaning: what the outcome is.
    network_sha256: of the classifier's weights that the predictions come from.

    Errors: `training-data-invalid` with too few of a class, `output-failed`.
    """
    config = config or SiteModelTraining()
    if not meaning.strip():
        raise UsageError("usage", "say what the outcome is")
    cases, said = _usable(cases, config)
    fused, alone = (_out_of_fold(part, config) for part in (cases, _only_network(cases)))
    fitted = fit_site_model(cases, config)
    measured = ClassificationConfig(thresholds=(float(cases.labels.mean()),), seed=config.seed)
    rival = Predictions(cases.labels, alone, cases.patients)
    figures = evaluate_classification(rival, measured).figures
    result = evaluate_classification(
        Predictions(cases.labels, fused, cases.patients, rival=cases.network, rival_name="the network alone"), measured
    )
    more = {
        "outcome": meaning,
        "unit": cases.unit,
        "network_alone": {name: figures[name] for name in ("auc", "brier", "calibration")},
        "penalty": fitted.penalty,
        "columns": _column_figures(cases),
    }
    result = replace(result, figures={**result.figures, **more}, notices=(*cases.notices, *said, *result.notices))
    area = result.figures["auc"]
    model = SiteModel(
        meaning=meaning.strip(),
        unit=cases.unit,
        made=date.today().isoformat(),
        network_sha256=network_sha256,
        terms=fitted.terms,
        slope=fitted.slope,
        intercept=fitted.intercept,
        fitted_on={
            "cases": len(cases.labels),
            "patients": len(set(cases.patients)),
            "positives": int(cases.labels.sum()),
            "auc": area["value"],
            "auc_lower": area["delong"]["lower"],
            "auc_upper": area["delong"]["upper"],
            "network_auc": result.figures["versus"]["auc"],
        },
    )
    write_classification(result, out, {"config": asdict(config), **(provenance or {})})
    write_csv(out / "coefficients.csv", COEFFICIENT_COLUMNS, _coefficient_rows(cases, fitted))
    replace_file(out / "fusion.json", fusion_json(model))
    return model


def fit_site_model(cases: Cases, config: SiteModelTraining) -> Fitted:
    """Fit on all of the cases, calibrated by folds within them. Every column has to vary among those that are known."""
    folds = list(_folds(cases, config.inner_folds, config.seed + 1))
    trials = [(penalty, _held_out_scores(cases, folds, penalty)) for penalty in config.penalties]
    weights = _balanced(cases.labels)
    truth = cases.labels.astype(float)
    losses = [_weighted_loss(scores, truth, weights) for _, scores in trials]
    penalty, scores = next(
        trial for trial, loss in zip(trials, losses, strict=True) if loss <= NEARLY_BEST * min(losses)
    )
    slope, intercept = _calibrate(scores, cases.labels)
    terms, offset, errors = _fit_terms(cases, penalty)
    reach = normal_reach(config.confidence)
    intervals = {
        term.name: (term.coefficient - reach * error, term.coefficient + reach * error)
        for term, error in zip(terms, errors, strict=True)
    }
    return Fitted(terms, slope, slope * offset + intercept, penalty, intervals)


def _out_of_fold(cases: Cases, config: SiteModelTraining) -> Floats:
    """What models say that have not seen the patient; each fold standardises, chooses and calibrates anew."""
    found = np.empty(len(cases.labels))
    for fold in _folds(cases, config.folds, config.seed):
        rest, _ = _varying(_take(cases, ~fold))
        found[fold] = fit_site_model(rest, config).probabilities(_take(cases, fold))
    return found


def _held_out_scores(cases: Cases, folds: Sequence[Bools], penalty: float) -> Floats:
    found = np.empty(len(cases.labels))
    for fold in folds:
        rest, _ = _varying(_take(cases, ~fold))
        terms, offset, _ = _fit_terms(rest, penalty)
        found[fold] = Fitted(terms, 1.0, 0.0, penalty, {}).scores(_take(cases, fold)) + offset
    return found


def _fit_terms(cases: Cases, penalty: float) -> tuple[tuple[Term, ...], float, Floats]:
    """Terms, intercept with classes weighted alike, and the standard errors of the coefficients."""
    unknown = np.isnan(cases.values)
    means, scales = np.nanmean(cases.values, axis=0), np.nanstd(cases.values, axis=0)
    standard = np.where(unknown, 0.0, (cases.values - means) / scales)
    flagged = np.flatnonzero(unknown.any(axis=0))
    design = np.column_stack([standard, unknown[:, flagged], np.ones(len(standard))])
    weights = _balanced(cases.labels)
    beta = _logistic(design, cases.labels.astype(float), weights, penalty)
    errors = _clustered_errors(design, cases, weights, beta, penalty)
    columns = len(cases.columns)
    missing = dict(zip(flagged.tolist(), beta[columns:-1].tolist(), strict=True))
    terms = tuple(
        Term(name, float(means[n]), float(scales[n]), float(beta[n]), missing.get(n))
        for n, name in enumerate(cases.columns)
    )
    return terms, float(beta[-1]), errors[:columns]


def _logistic(design: Floats, target: Floats, weights: Floats, penalty: float) -> Floats:
    """Penalised logistic regression by Newton's method with halved steps; the last column is the intercept, and
    free.
    """
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 0.0

    def cost(beta: Floats) -> float:
        return _weighted_loss(design @ beta, target, weights) + 0.5 * float(ridge @ beta**2)

    beta = np.zeros(design.shape[1])
    now = cost(beta)
    for _ in range(MOST_STEPS):
        p = _sigmoid(design @ beta)
        gradient = design.T @ (weights * (p - target)) + ridge * beta
        hessian = (design * (weights * p * (1 - p))[:, None]).T @ design + np.diag(ridge + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        while (new := cost(beta - step)) > now and np.abs(step).max() > 1e-10:
            step = step / 2
        beta, gained, now = beta - step, now - new, new
        if gained < 1e-10 * (1 + abs(now)):
            break
    return beta


def _clustered_errors(design: Floats, cases: Cases, weights: Floats, beta: Floats, penalty: float) -> Floats:
    """Standard errors that hold with weights and with several cases of one patient (sandwich; Liang & Zeger 1986)."""
    p = _sigmoid(design @ beta)
    ridge = np.full(len(beta), penalty)
    ridge[-1] = 0.0
    bread = np.linalg.inv((design * (weights * p * (1 - p))[:, None]).T @ design + np.diag(ridge + 1e-9))
    _, whose = np.unique(np.array(cases.patients, dtype=str), return_inverse=True)
    pull = np.zeros((int(whose.max()) + 1, design.shape[1]))
    np.add.at(pull, whose, design * (weights * (cases.labels - p))[:, None])
    errors: Floats = np.sqrt(np.diag(bread @ (pull.T @ pull) @ bread))
    return errors


def _calibrate(scores: Floats, labels: Bools) -> tuple[float, float]:
    """Slope and intercept by Platt's targets, which keep them finite; a score that orders wrongly gets no weight."""
    yes, no = int(labels.sum()), int((~labels).sum())
    target = np.where(labels, (yes + 1) / (yes + 2), 1 / (no + 2))
    slope, intercept = _logistic(np.column_stack([scores, np.ones(len(scores))]), target, np.ones(len(scores)), 1e-6)
    if slope > 0:
        return float(slope), float(intercept)
    return 0.0, math.log((yes + 1) / (no + 1))


# -- folds and columns -----------------------------------------------------------------------------------------------
def _folds(cases: Cases, count: int, seed: int) -> Iterator[Bools]:
    """Cases of each fold. A patient is in one fold with all cases; those with the outcome are dealt out evenly."""
    names, whose = np.unique(np.array(cases.patients, dtype=str), return_inverse=True)
    ill = np.bincount(whose, weights=cases.labels, minlength=len(names)) > 0
    chance = np.random.default_rng(seed)
    dealt = np.empty(len(names), dtype=int)
    for group in (np.flatnonzero(ill), np.flatnonzero(~ill)):
        dealt[chance.permutation(group)] = np.arange(len(group)) % count
    for fold in range(count):
        yield dealt[whose] == fold


def _take(cases: Cases, which: Bools) -> Cases:
    patients = tuple(name for name, wanted in zip(cases.patients, which, strict=True) if wanted)
    return replace(
        cases, labels=cases.labels[which], network=cases.network[which], values=cases.values[which], patients=patients
    )


def _varying(cases: Cases) -> tuple[Cases, tuple[str, ...]]:
    """Without the columns that are never known or always the same; and which those are. The network's logit stays."""
    kept = []
    for n, name in enumerate(cases.columns):
        known = cases.values[~np.isnan(cases.values[:, n]), n]
        if len(known) and np.ptp(known) > 0:
            kept.append(n)
        elif name == LOGIT:
            raise InputError("training-data-invalid", "the network says the same of every case")
    dropped = tuple(name for n, name in enumerate(cases.columns) if n not in kept)
    return replace(cases, columns=tuple(cases.columns[n] for n in kept), values=cases.values[:, kept]), dropped


def _only_network(cases: Cases) -> Cases:
    place = cases.columns.index(LOGIT)
    return replace(cases, columns=(LOGIT,), values=cases.values[:, [place]])


def _usable(cases: Cases, config: SiteModelTraining) -> tuple[Cases, tuple[Notice, ...]]:
    """Enough patients of both classes, and columns that say something.

    Errors: `training-data-invalid`.
    """
    ill = {name for name, label in zip(cases.patients, cases.labels, strict=True) if label}
    rarer = min(len(ill), len(set(cases.patients) - ill))
    if rarer < config.least_each:
        reason = f"expected at least {config.least_each} patients with the outcome and without it, got {rarer}"
        raise InputError("training-data-invalid", reason)
    cases, dropped = _varying(cases)
    said = []
    if dropped:
        names = ", ".join(dropped)
        said.append(Notice("fusion-columns", f"Never known or always the same, so not in the model: {names}."))
    flagged = int(np.isnan(cases.values).any(axis=0).sum())
    columns = len(cases.columns) + flagged
    if rarer < FEW_EVENTS * columns:
        text = f"{rarer} patients of the rarer class for {columns} columns: coefficients rest on little."
        said.append(Notice("fusion-few", text))
    return cases, tuple(said)


def _column_figures(cases: Cases) -> list[dict[str, Any]]:
    known = ~np.isnan(cases.values)
    return [{"name": name, "known": int(known[:, n].sum())} for n, name in enumerate(cases.columns)]


def _coefficient_rows(cases: Cases, fitted: Fitted) -> Iterator[tuple[Any, ...]]:
    for term in fitted.terms:
        known = 1 - float(np.isnan(cases.values[:, cases.columns.index(term.name)]).mean())
        lower, upper = fitted.intervals[term.name]
        yield term.name, term.coefficient, lower, upper, term.scale, term.mean, term.if_missing, known


def _balanced(labels: Bools) -> Floats:
    """Weights that give both classes the same sum, and all cases a mean of 1."""
    share = labels.mean()
    return np.asarray(np.where(labels, 0.5 / share, 0.5 / (1 - share)))


def _weighted_loss(scores: Floats, target: Floats, weights: Floats) -> float:
    """Minus the log likelihood."""
    return float(weights @ (np.logaddexp(0.0, scores) - target * scores))


def _sigmoid(scores: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * scores)))

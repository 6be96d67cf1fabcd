"""A network's logit + ClinicalData ─► Risk: a site's own logistic model, fitted on its own outcomes, kept as JSON.

`lungscreen train fusion` makes the file; none ships. What it says stands beside the network's probability and the
published models, never instead of them.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from scipy.special import expit

from lungscreen.errors import UsageError
from lungscreen.records import NOT_ASSESSED, ClinicalData, Finding, Grade, Risk, WeightsUsed

__all__ = [
    "FUSION_SCHEMA",
    "LOGIT",
    "FusionConfig",
    "SiteModel",
    "Term",
    "add_site_risk",
    "find_site_model",
    "fusion_json",
    "logit",
    "person_terms",
    "read_site_model",
]

FUSION_SCHEMA = "1.0"
"""Of fusion.json. The first number rises when a field changes or goes, the second when one is added."""

LOGIT = "network_logit"
"""The term that every model has."""

NUMBERS = ("age", "pack_years", "cigarettes_per_day", "duration_years", "years_quit", "bmi", "education")
FLAGS = ("family_history", "emphysema", "prior_cancer", "copd", "immunosuppressed")

LEAST_PROBABILITY = 1e-6
"""Of the network: nearer to 0 or 1 it is taken for this, so that the logit stays finite."""

MODEL_NAME = "this site's own model"


@dataclass(frozen=True)
class FusionConfig:
    """The site's own model, where it has one."""

    model: str = ""
    """fusion.json of `lungscreen train fusion`."""


@dataclass(frozen=True)
class Term:
    """One column of the model: what it adds to the logit is `coefficient * (value - mean) / scale`.

    if_missing: added instead where the value is not known; None where it was always known, so that it has to be.
    """

    name: str
    mean: float
    scale: float
    coefficient: float
    if_missing: float | None = None

    def __post_init__(self) -> None:
        numbers = (self.mean, self.scale, self.coefficient, 0.0 if self.if_missing is None else self.if_missing)
        if not all(math.isfinite(number) for number in numbers) or self.scale <= 0:
            raise ValueError(f"{self.name}: expected finite numbers and a scale above 0")


@dataclass(frozen=True)
class SiteModel:
    """Terms, and the line (slope, intercept) that calibrates their sum; what it was fitted on, and how well it does."""

    meaning: str
    """What the outcome is, in the site's words."""
    unit: Literal["exam", "finding"]
    """exam: it was fitted on each exam's most suspicious finding, and says something of that one only."""
    made: str
    """YYYY-MM-DD."""
    network_sha256: str
    """Of the classifier's weights whose probabilities it was fitted on."""
    terms: tuple[Term, ...]
    slope: float
    intercept: float
    fitted_on: Mapping[str, Any]
    sha256: str = ""
    """Of the file."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.slope) and math.isfinite(self.intercept) and self.slope >= 0):
            raise ValueError("expected a finite slope of 0 or more and a finite intercept")
        if [term.name for term in self.terms].count(LOGIT) != 1:
            raise ValueError(f"expected one term {LOGIT}")
        unknown = {term.name for term in self.terms} - {LOGIT, *person_terms(None)}
        if unknown:
            raise ValueError(f"unknown term {min(unknown)}")

    @property
    def used(self) -> WeightsUsed:
        """How a report and the ledger name it."""
        return WeightsUsed("fusion", self.made, self.sha256)

    def risk(self, network: float, person: ClinicalData | None) -> Risk:
        """network: the network's probability, 0 to 1. What is not known counts as such, and is named."""
        known = person_terms(person) | {LOGIT: logit(network)}
        missing = [term for term in self.terms if math.isnan(known[term.name])]
        needs = tuple(_words(term.name) for term in missing if term.if_missing is None)
        total = sum(_part(term, known[term.name]) for term in self.terms)
        probability = None if needs else float(expit(self.slope * total + self.intercept))
        assumed = () if needs else tuple(f"{_words(term.name)} as not known" for term in missing)
        return Risk(MODEL_NAME, probability, self.meaning, needs, assumed, (self._origin(),))

    def _origin(self) -> str:
        of = self.fitted_on
        return (
            f"fitted by this site on {of['cases']} of its {self.unit}s, {of['positives']} with the outcome, on"
            f" {self.made}; cross-validated AUC {of['auc']:.3f} ({of['auc_lower']:.3f} to {of['auc_upper']:.3f}), of"
            " the"
            f" network alone {of['network_auc']:.3f}; checked by nobody else"
        )


def find_site_model(config: FusionConfig, network_sha256: str) -> SiteModel | None:
    """The model that the configuration names; None where it names none.

    Errors: `config-invalid`.
    """
    return read_site_model(Path(config.model), network_sha256) if config.model else None


def read_site_model(path: Path, network_sha256: str) -> SiteModel:
    """The model of a file, where it was fitted on this very network.

    Errors: `config-invalid`.
    """
    try:
        content = path.read_bytes()
        document = json.loads(content)
        if document["schema"] != "lungscreen-fusion" or document["schema_version"].split(".")[0] != "1":
            raise ValueError("expected schema lungscreen-fusion 1")
        fields = {name: document[name] for name in ("meaning", "unit", "made", "network_sha256", "slope", "intercept")}
        if fields["unit"] not in ("exam", "finding"):
            raise ValueError("expected unit exam or finding")
        terms = tuple(Term(**term) for term in document["terms"])
        model = SiteModel(
            terms=terms, fitted_on=document["fitted_on"], sha256=hashlib.sha256(content).hexdigest(), **fields
        )
        model.risk(0.5, None)  # says where a figure of its origin is missing
    except OSError as error:
        raise UsageError("config-invalid", f"cannot read the site's model: {error.strerror}", str(path)) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError("config-invalid", f"no model that can be used: {error}", str(path)) from None
    if model.network_sha256 != network_sha256:
        reason = "the site's model was fitted on another network's probabilities: train it again"
        raise UsageError("config-invalid", reason, str(path))
    return model


def fusion_json(model: SiteModel) -> str:
    """The file's text."""
    document = {"schema": "lungscreen-fusion", "schema_version": FUSION_SCHEMA, **asdict(model)}
    del document["sha256"]
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def add_site_risk(
    findings: Sequence[Finding], model: SiteModel | None, person: ClinicalData | None
) -> tuple[Finding, ...]:
    """The findings, each that the model holds for with what it says, behind the published models."""
    scores = [finding.malignancy.probability if finding.malignancy else -1.0 for finding in findings]
    if model is None or max(scores, default=-1.0) < 0:
        return tuple(findings)
    chosen = range(len(scores)) if model.unit == "finding" else (scores.index(max(scores)),)
    return tuple(
        _with_risk(finding, model.risk(score, person)) if n in chosen and score >= 0 else finding
        for n, (finding, score) in enumerate(zip(findings, scores, strict=True))
    )


def _with_risk(finding: Finding, risk: Risk) -> Finding:
    grade = finding.grade or Grade(NOT_ASSESSED)
    return replace(finding, grade=replace(grade, risks=(*grade.risks, risk)))


def person_terms(person: ClinicalData | None) -> dict[str, float]:
    """What a model may use of a person: numbers, yes as 1 and no as 0; NaN is not known. Race is no term on purpose."""
    who = person or ClinicalData()
    found = {name: _number(getattr(who, name)) for name in (*NUMBERS, *FLAGS)}
    found["female"] = float(who.sex == "F") if who.sex else math.nan
    for status in ("current", "former"):
        found[f"{status}_smoker"] = float(who.smoking_status == status) if who.smoking_status else math.nan
    return found


def logit(probability: float) -> float:
    """Log odds."""
    p = min(max(probability, LEAST_PROBABILITY), 1 - LEAST_PROBABILITY)
    return math.log(p / (1 - p))


def _part(term: Term, value: float) -> float:
    if math.isnan(value):
        return term.if_missing or 0.0
    return term.coefficient * (value - term.mean) / term.scale


def _number(value: float | bool | None) -> float:
    return math.nan if value is None else float(value)


def _words(name: str) -> str:
    return name.replace("_", " ")

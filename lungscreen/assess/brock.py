"""Size, lobe, person → probability of cancer by Brock (PanCan) 1a, 1b, 2a, 2b.

Source: McWilliams et al., N Engl J Med 2013;369:910, Table 2 (author manuscript; its page 16 heads the block of 1b and
2b wrongly). Size is the largest transverse diameter as PanCan recorded it, not the Lung-RADS mean of two axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scipy.special import expit

from lungscreen.assess.rounding import Number, exact
from lungscreen.records import PERSON_RANGES, NoduleType, Risk

__all__ = ["BROCK_MODELS", "MOST_NODULES", "BrockInput", "BrockModel", "estimate_brock"]

BrockModel = Literal["1a", "1b", "2a", "2b"]
BROCK_MODELS: tuple[BrockModel, ...] = ("1a", "1b", "2a", "2b")
"""Parsimonious (1) and full (2) model, without (a) and with (b) spiculation."""

_SIZE_CENTRE = 1.58113883
"""(4 mm / 10) to the power of -0.5: the size term is 0 at 4 mm."""

MOST_NODULES = 10_000
"""More are no number of nodules."""

_AGE_CENTRE = 62
_COUNT_CENTRE = 4


@dataclass(frozen=True, slots=True)
class BrockInput:
    """What Brock asks. None, empty or unknown is not known.

    size_mm: largest transverse diameter.
    upper_lobe: in an upper lobe; the lingula belongs to the left one, the middle lobe to none.
    nodule_count: all noncalcified nodules of the scan.
    assumed: which of these were estimated or assumed, in words.
    """

    size_mm: Number | None
    upper_lobe: bool | None
    sex: Literal["F", "M", ""] = ""
    spiculation: bool | None = None
    age: float | None = None
    family_history: bool | None = None
    emphysema: bool | None = None
    nodule_type: NoduleType = NoduleType.UNKNOWN
    nodule_count: int | None = None
    assumed: tuple[tuple[str, str], ...] = ()
    """Pairs of field name and how it was come by: ("upper_lobe", "lobe estimated from the image")."""

    def __post_init__(self) -> None:
        """Size, age and count are possible."""
        if self.size_mm is not None and exact(self.size_mm) <= 0:
            raise ValueError(f"expected a size above 0 mm, got {self.size_mm}")
        low, high = PERSON_RANGES["age"]
        if self.age is not None and not low <= self.age <= high:
            raise ValueError(f"expected an age from {low:g} to {high:g}, got {self.age}")
        if self.nodule_count is not None and not 1 <= self.nodule_count <= MOST_NODULES:
            raise ValueError(f"expected 1 to {MOST_NODULES} nodules, got {self.nodule_count}")


@dataclass(frozen=True, slots=True)
class _Weights:
    """One column of the table."""

    constant: float
    female: float
    size: float
    upper_lobe: float
    spiculation: float | None = None
    age: float | None = None
    family_history: float | None = None
    emphysema: float | None = None
    nonsolid: float | None = None
    part_solid: float | None = None
    count: float | None = None


_WEIGHTS: dict[BrockModel, _Weights] = {
    "1a": _Weights(constant=-6.5929, female=0.5806, size=-5.8616, upper_lobe=0.6439),
    "1b": _Weights(constant=-6.6144, female=0.6467, size=-5.5537, upper_lobe=0.6009, spiculation=0.9309),
    "2a": _Weights(
        constant=-6.8071,
        female=0.5635,
        size=-5.6693,
        upper_lobe=0.7116,
        age=0.0321,
        family_history=0.3013,
        emphysema=0.3462,
        nonsolid=-0.3005,
        part_solid=0.3395,
        count=-0.0803,
    ),
    "2b": _Weights(
        constant=-6.7892,
        female=0.6011,
        size=-5.3854,
        upper_lobe=0.6581,
        spiculation=0.7729,
        age=0.0287,
        family_history=0.2961,
        emphysema=0.2953,
        nonsolid=-0.1276,
        part_solid=0.3770,
        count=-0.0824,
    ),
}

_ASKED: dict[BrockModel, tuple[str, ...]] = {
    "1a": ("size_mm", "sex", "upper_lobe"),
    "1b": ("size_mm", "sex", "upper_lobe", "spiculation"),
    "2a": ("size_mm", "sex", "upper_lobe", "age", "family_history", "emphysema", "nodule_type", "nodule_count"),
    "2b": (
        "size_mm",
        "sex",
        "upper_lobe",
        "age",
        "family_history",
        "emphysema",
        "nodule_type",
        "nodule_count",
        "spiculation",
    ),
}
"""What each model asks for, by field."""

_WORDS = {
    "size_mm": "largest transverse diameter",
    "sex": "sex",
    "upper_lobe": "lobe",
    "spiculation": "spiculation",
    "age": "age",
    "family_history": "family history of lung cancer",
    "emphysema": "emphysema",
    "nodule_type": "nodule type",
    "nodule_count": "number of nodules",
}

_MEANING = "probability that the nodule is lung cancer, in people like those of PanCan"
_SOURCE = "McWilliams 2013, N Engl J Med 369:910, Table 2"


def estimate_brock(data: BrockInput, model: BrockModel) -> Risk:
    """Probability of cancer by one of the four Brock models; None with what it needs where something is not known."""
    name = f"Brock {model} ({'full' if model[0] == '2' else 'parsimonious'}, {_spiculation_words(model)})"
    if data.nodule_type is NoduleType.CALCIFIED:
        return Risk(name, None, _MEANING, limits=("benign calcification: not a nodule for Brock",), sources=(_SOURCE,))
    needs = tuple(_WORDS[field] for field in _ASKED[model] if _is_unknown(data, field))
    assumed = tuple(how for field, how in data.assumed if field in _ASKED[model])
    if needs:
        return Risk(name, None, _MEANING, needs=needs, assumed=assumed, sources=(_SOURCE,))
    probability = float(expit(_logit(data, _WEIGHTS[model])))
    return Risk(name, probability, _MEANING, assumed=assumed, sources=(_SOURCE,))


def _logit(data: BrockInput, weights: _Weights) -> float:
    """The linear predictor; unknown fields of the model were refused before."""
    size = math.pow(float(exact(data.size_mm or 0)) / 10, -0.5) - _SIZE_CENTRE
    logit = weights.constant + weights.size * size
    logit += weights.female * (data.sex == "F") + weights.upper_lobe * bool(data.upper_lobe)
    logit += (weights.spiculation or 0) * bool(data.spiculation)
    return logit if weights.age is None else logit + _full_model(data, weights, weights.age)


def _full_model(data: BrockInput, weights: _Weights, age: float) -> float:
    """What the models with all terms add; 0 without age or count."""
    if data.age is None or data.nodule_count is None:
        return 0.0
    logit = age * (data.age - _AGE_CENTRE) + (weights.count or 0) * (data.nodule_count - _COUNT_CENTRE)
    logit += (weights.family_history or 0) * bool(data.family_history)
    logit += (weights.emphysema or 0) * bool(data.emphysema)
    logit += (weights.nonsolid or 0) * (data.nodule_type is NoduleType.GROUND_GLASS)
    return logit + (weights.part_solid or 0) * (data.nodule_type is NoduleType.PART_SOLID)


def _is_unknown(data: BrockInput, field: str) -> bool:
    value = getattr(data, field)
    return value is None or value == "" or value is NoduleType.UNKNOWN


def _spiculation_words(model: BrockModel) -> str:
    return "with spiculation" if model[1] == "b" else "without spiculation"

"""Person and nodule → probability of cancer by Mayo and VA; Mayo and PET → Herder.

Sources: Mayo, Swensen et al., Arch Intern Med 1997;157:849. VA, Gould et al., Chest 2007;131:383. Herder et al., Chest
2005;128:2490. Coefficients cross-checked in Mourato et al. 2020 (PMC7159041). Mayo's limits (4 to 30 mm, no cancer in
the last 5 years) were not read in the primary source.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scipy.special import expit

from lungscreen.assess.rounding import Number, exact
from lungscreen.records import PERSON_RANGES, Risk

__all__ = ["FdgUptake", "PersonAndNodule", "estimate_herder", "estimate_mayo", "estimate_va"]

_MAYO_SOURCE = "Swensen 1997, Arch Intern Med 157:849"
_VA_SOURCE = "Gould 2007, Chest 131:383"
_HERDER_SOURCE = "Herder 2005, Chest 128:2490"
_UNVERIFIED_LIMITS = "unverified: Mayo's limits of 4 to 30 mm and of no cancer in the last 5 years"
_MEANING = "probability that a solitary nodule is malignant"

_SMALLEST_MM, _LARGEST_MM = 4, 30
"""Mayo's nodules (unverified in the primary source)."""


class FdgUptake(StrEnum):
    """Uptake of FDG on PET, as the BTS guideline grades it."""

    NONE = "none"
    """As background."""
    FAINT = "faint"
    """At most as the mediastinal blood pool."""
    MODERATE = "moderate"
    """Above the blood pool."""
    INTENSE = "intense"
    """Far above the blood pool."""


_HERDER_UPTAKE = {FdgUptake.NONE: 0.0, FdgUptake.FAINT: 2.322, FdgUptake.MODERATE: 4.617, FdgUptake.INTENSE: 4.771}


@dataclass(frozen=True, slots=True)
class PersonAndNodule:
    """What Mayo and VA ask. None is not known.

    ever_smoker: former or current.
    extrathoracic_cancer: diagnosed more than 5 years ago.
    recent_cancer: in the last 5 years, or any lung cancer before.
    years_quit: 0 for current smokers.
    """

    age: float | None = None
    ever_smoker: bool | None = None
    diameter_mm: Number | None = None
    extrathoracic_cancer: bool | None = None
    recent_cancer: bool | None = None
    spiculation: bool | None = None
    upper_lobe: bool | None = None
    years_quit: float | None = None

    def __post_init__(self) -> None:
        """Sizes and years are possible."""
        if self.diameter_mm is not None and exact(self.diameter_mm) <= 0:
            raise ValueError(f"expected a diameter above 0 mm, got {self.diameter_mm}")
        for name in ("age", "years_quit"):
            value, (low, high) = getattr(self, name), PERSON_RANGES[name]
            if value is not None and not low <= value <= high:
                raise ValueError(f"expected {name} from {low:g} to {high:g}, got {value}")


_WORDS = {
    "age": "age",
    "ever_smoker": "smoking status",
    "diameter_mm": "diameter",
    "extrathoracic_cancer": "extrathoracic cancer more than 5 years ago",
    "spiculation": "spiculation",
    "upper_lobe": "lobe",
    "years_quit": "years since quitting",
}


def estimate_mayo(data: PersonAndNodule) -> Risk:
    """Probability of malignancy by the Mayo model; None with what it needs."""
    asked = ("age", "ever_smoker", "extrathoracic_cancer", "diameter_mm", "spiculation", "upper_lobe")
    needs = _lacking(data, asked)
    sources = (_MAYO_SOURCE, _UNVERIFIED_LIMITS)
    if needs or data.age is None or data.diameter_mm is None:
        return Risk("Mayo", None, _MEANING, needs=needs, limits=_mayo_limits(data), sources=sources)
    logit = (
        -6.8272
        + 0.0391 * data.age
        + 0.7917 * bool(data.ever_smoker)
        + 1.3388 * bool(data.extrathoracic_cancer)
        + 0.1274 * float(exact(data.diameter_mm))
        + 1.0407 * bool(data.spiculation)
        + 0.7838 * bool(data.upper_lobe)
    )
    return Risk("Mayo", _logistic(logit), _MEANING, limits=_mayo_limits(data), sources=sources)


def estimate_va(data: PersonAndNodule) -> Risk:
    """Probability of malignancy by the VA model; for never-smokers the term of quitting is 0."""
    asked = ("age", "ever_smoker", "diameter_mm") + (() if data.ever_smoker is False else ("years_quit",))
    needs = _lacking(data, asked)
    if needs or data.age is None or data.diameter_mm is None:
        return Risk("VA", None, _MEANING, needs=needs, sources=(_VA_SOURCE,))
    quit_years = data.years_quit if data.ever_smoker and data.years_quit is not None else 0.0
    logit = (
        -8.404
        + 2.061 * bool(data.ever_smoker)
        + 0.779 * data.age / 10
        + 0.112 * float(exact(data.diameter_mm))
        - 0.567 * quit_years / 10
    )
    return Risk("VA", _logistic(logit), _MEANING, sources=(_VA_SOURCE,))


def estimate_herder(mayo: Risk, uptake: FdgUptake | None) -> Risk:
    """Probability of malignancy after PET, from Mayo's probability and the uptake of FDG.

    Errors: ValueError where `mayo` is another model's result.
    """
    if mayo.model != "Mayo":
        raise ValueError(f"Herder takes Mayo's probability, got {mayo.model}'s")
    sources = (_HERDER_SOURCE, *mayo.sources)
    needs = (*mayo.needs, *(("FDG uptake on PET",) if uptake is None else ()))
    if mayo.probability is None or uptake is None:
        return Risk("Herder", None, _MEANING, needs=needs, limits=mayo.limits, sources=sources)
    logit = -4.739 + 3.691 * mayo.probability + _HERDER_UPTAKE[uptake]
    return Risk("Herder", _logistic(logit), _MEANING, assumed=mayo.assumed, limits=mayo.limits, sources=sources)


def _mayo_limits(data: PersonAndNodule) -> tuple[str, ...]:
    """What lies outside the people and nodules that Mayo was made on."""
    size = None if data.diameter_mm is None else exact(data.diameter_mm)
    outside = size is not None and not _SMALLEST_MM <= size <= _LARGEST_MM
    return (
        *((f"made for nodules of {_SMALLEST_MM} to {_LARGEST_MM} mm",) if outside else ()),
        *(("made for people without cancer in the last 5 years",) if data.recent_cancer else ()),
    )


def _lacking(data: PersonAndNodule, asked: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_WORDS[name] for name in asked if getattr(data, name) is None)


def _logistic(logit: float) -> float:
    return float(expit(logit))

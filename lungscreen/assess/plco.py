"""ClinicalData → six-year risk of lung cancer by PLCOm2012, for people who ever smoked.

Source: Tammemägi et al., N Engl J Med 2013;368:728, Table 2. Current smokers have 0 years since quitting, so that the
centred term adds 0.309; race by its own coefficients (Native Hawaiian and American Indian are often swapped).
"""

from __future__ import annotations

from scipy.special import expit

from lungscreen.records import ClinicalData, Risk

__all__ = ["PLCO_RACES", "estimate_plco"]

PLCO_RACES: dict[str, float] = {
    "white": 0.0,
    "black": 0.3944778,
    "hispanic": -0.7434744,
    "asian": -0.466585,
    "american indian": 0.0,
    "native hawaiian": 1.027152,
}
"""Coefficients by race: "american indian" includes Alaskan Natives, "native hawaiian" Pacific Islanders."""

_SOURCE = "Tammemägi 2013, N Engl J Med 368:728, Table 2"
_MODEL = "PLCOm2012"
_MEANING = "probability of lung cancer within 6 years, from the person alone"
_INTENSITY_CENTRE = 0.4021541613

LEAST_CIGARETTES = 1
"""A day. Below it the model's term, which divides by them, says nothing of anybody whom it was made on (our
reading)."""

_WORDS = {
    "age": "age",
    "race": "race",
    "education": "education",
    "bmi": "body mass index",
    "copd": "COPD",
    "prior_cancer": "prior cancer",
    "family_history": "family history of lung cancer",
    "cigarettes_per_day": "cigarettes per day",
    "duration_years": "years of smoking",
}


def estimate_plco(person: ClinicalData) -> Risk:
    """Six-year risk of lung cancer by PLCOm2012; None with what it needs, and for people who never smoked."""
    if person.smoking_status == "never":
        return Risk(_MODEL, None, _MEANING, limits=("holds for people who ever smoked only",), sources=(_SOURCE,))
    needs = _lacking(person)
    if needs:
        return Risk(_MODEL, None, _MEANING, needs=needs, sources=(_SOURCE,))
    if _known(person.cigarettes_per_day) < LEAST_CIGARETTES:
        limits = (f"holds for people who smoked at least {LEAST_CIGARETTES} cigarette a day",)
        return Risk(_MODEL, None, _MEANING, limits=limits, sources=(_SOURCE,))
    return Risk(_MODEL, float(expit(_logit(person))), _MEANING, sources=(_SOURCE,))


def _logit(person: ClinicalData) -> float:
    """The linear predictor; what is asked for is known."""
    current = person.smoking_status == "current"
    return (
        -4.532506
        + PLCO_RACES[person.race]
        + 0.0778868 * (_known(person.age) - 62)
        - 0.0812744 * (_known(person.education) - 4)
        - 0.0274194 * (_known(person.bmi) - 27)
        + 0.3553063 * bool(person.copd)
        + 0.4589971 * bool(person.prior_cancer)
        + 0.587185 * bool(person.family_history)
        + 0.2597431 * current
        - 1.822606 * (10 / _known(person.cigarettes_per_day) - _INTENSITY_CENTRE)
        + 0.0317321 * (_known(person.duration_years) - 27)
        - 0.0308572 * ((0.0 if current else _known(person.years_quit)) - 10)
    )


def _lacking(person: ClinicalData) -> tuple[str, ...]:
    needs = [words for name, words in _WORDS.items() if getattr(person, name) is None or getattr(person, name) == ""]
    if person.race and person.race not in PLCO_RACES:
        needs.append(f"race as one of {', '.join(PLCO_RACES)}")
    if not person.smoking_status:
        needs.append("smoking status")
    if person.smoking_status == "former" and person.years_quit is None:
        needs.append("years since quitting")
    return tuple(needs)


def _known(value: float | None) -> float:
    if value is None:
        raise AssertionError("a missing value was refused before")
    return value

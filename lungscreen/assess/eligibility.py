"""ClinicalData → who would be screened where: information about the person, never a reason not to read a study.

USPSTF 2021 was read in its own statement, CMS 2022 in its proposed decision memo (CAG-00439R), NELSON's smoking in the
abstracts of Horeweg 2014 and Walter 2016; the others in secondary sources, and marked so.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lungscreen.assess.plco import estimate_plco
from lungscreen.records import ClinicalData, Eligibility

__all__ = ["PROGRAMMES", "judge_eligibility"]

PLCO_CUT = 0.0151
"""Six-year risk from which ILST and the UK pilots screen."""


@dataclass(frozen=True, slots=True)
class _PackYearRule:
    """Ages (inclusive, whole years), least pack-years, most years since quitting."""

    least_age: int
    most_age: int
    pack_years: float
    quit_years: float
    source: str


_USPSTF_2013 = _PackYearRule(55, 80, 30, 15, "USPSTF 2013, as ILST takes it, in a secondary source")

_PACK_YEAR_RULES = {
    "USPSTF 2021": _PackYearRule(50, 80, 20, 15, "USPSTF recommendation statement, 9 March 2021"),
    "CMS 2022": _PackYearRule(50, 77, 20, 15, "CMS CAG-00439R, proposed decision memo and secondary sources"),
    "NLST": _PackYearRule(55, 74, 30, 15, "NLST, in a secondary source"),
    "EU 2022 (proposal)": _PackYearRule(
        50, 75, 30, 15, "COM(2022) 474, in a secondary source; unverified: the adopted recommendation names no ages"
    ),
}

_NELSON_SOURCE = "Horeweg 2014 and Walter 2016 (abstracts; sources differ in ≥ and >); unverified: ages 50 to 74"
_ILST_SOURCE = "ILST, in a secondary source: 55 to 80 years, and PLCOm2012 from 1.51 % or USPSTF 2013"
_UK_SOURCE = "UK targeted lung health check, in a secondary source; LLPv2 is not in this software"


def judge_eligibility(person: ClinicalData) -> tuple[Eligibility, ...]:
    """Each programme's answer, in the order of `PROGRAMMES`."""
    return tuple(PROGRAMMES[name](person) for name in PROGRAMMES)


def _by_pack_years(name: str) -> Callable[[ClinicalData], Eligibility]:
    rule = _PACK_YEAR_RULES[name]
    return lambda person: _judge_pack_years(name, rule, person)


def _judge_pack_years(name: str, rule: _PackYearRule, person: ClinicalData) -> Eligibility:
    pack_years, assumed = _pack_years(person)
    checks = (
        _age_check(person, rule.least_age, rule.most_age),
        _smoking_check(person, rule.quit_years),
        ("pack-years", None if pack_years is None else pack_years >= rule.pack_years, f"≥ {rule.pack_years:g}"),
    )
    return _combine(name, person, checks, rule.source, assumed)


def _nelson(person: ClinicalData) -> Eligibility:
    checks = (
        _age_check(person, 50, 74),
        _smoking_check(person, 10),
        ("cigarettes per day and years of smoking", _nelson_smoking(person), "≥ 15 for > 25 years or ≥ 10 for > 30"),
    )
    return _combine("NELSON", person, checks, _NELSON_SOURCE)


def _nelson_smoking(person: ClinicalData) -> bool | None:
    daily, years = person.cigarettes_per_day, person.duration_years
    if daily is None or years is None:
        return None
    return (daily >= 15 and years > 25) or (daily >= 10 and years > 30)


def _ilst(person: ClinicalData) -> Eligibility:
    """55 to 80 years, and PLCOm2012 or USPSTF 2013: either is enough."""
    name, sources = "ILST (PLCOm2012)", (_ILST_SOURCE,)
    label, in_range, words = _age_check(person, _USPSTF_2013.least_age, _USPSTF_2013.most_age)
    if in_range is False:
        return Eligibility(name, False, f"{label} not {words}", sources=sources)
    if person.smoking_status == "never":
        return Eligibility(name, False, "never smoked", sources=sources)
    risk = estimate_plco(person)
    percent = "" if risk.probability is None else f"PLCOm2012 {100 * risk.probability:.2f} % (from 1.51 %)"
    if in_range and risk.probability is not None and risk.probability >= PLCO_CUT:
        return Eligibility(name, True, percent, sources=sources)
    packs = _judge_pack_years(name, _USPSTF_2013, person)
    if packs.eligible:
        return Eligibility(name, True, f"USPSTF 2013: {packs.reason}", assumed=packs.assumed, sources=sources)
    if risk.probability is not None and packs.eligible is False:
        reason = f"{percent}; USPSTF 2013: {packs.reason}"
        return Eligibility(name, False, reason, assumed=packs.assumed, sources=sources)
    needs = tuple(dict.fromkeys((*risk.needs, *packs.needs)))
    reason = f"needs {', '.join(needs)}" if needs else f"{risk.text}; USPSTF 2013: {packs.reason}"
    return Eligibility(name, None, reason, needs=needs, assumed=packs.assumed, sources=sources)


def _uk(person: ClinicalData) -> Eligibility:
    name = "UK targeted lung health check"
    label, in_range, words = _age_check(person, 55, 74)
    if in_range is False:
        return Eligibility(name, False, f"{label} not {words}", sources=(_UK_SOURCE,))
    if person.smoking_status == "never":
        return Eligibility(name, False, "never smoked", sources=(_UK_SOURCE,))
    risk = estimate_plco(person)
    if in_range and risk.probability is not None and risk.probability >= PLCO_CUT:
        return Eligibility(name, True, f"PLCOm2012 {100 * risk.probability:.2f} % (from 1.51 %)", sources=(_UK_SOURCE,))
    needs = (*((label,) if in_range is None else ()), *risk.needs, "LLPv2 five-year risk")
    return Eligibility(name, None, "PLCOm2012 alone does not decide", needs=needs, sources=(_UK_SOURCE,))


_Check = tuple[str, bool | None, str]
"""What is asked, whether it holds (None: not known), and the limit in words."""


def _age_check(person: ClinicalData, least: int, most: int) -> _Check:
    holds = None if person.age is None else least <= math.floor(person.age) <= most
    return ("age", holds, f"{least} to {most}")


def _smoking_check(person: ClinicalData, quit_years: float) -> _Check:
    words = f"smoking now, or quit at most {quit_years:g} years ago"
    if person.smoking_status == "never":
        return ("smoking status", False, words)
    if person.smoking_status == "current":
        return ("smoking status", True, words)
    if person.smoking_status == "former":
        return ("years since quitting", None if person.years_quit is None else person.years_quit <= quit_years, words)
    return ("smoking status", None, words)


def _pack_years(person: ClinicalData) -> tuple[float | None, tuple[str, ...]]:
    """Pack-years as they stand, else cigarettes per day / 20 × years, and said."""
    if person.pack_years is not None:
        return person.pack_years, ()
    if person.cigarettes_per_day is None or person.duration_years is None:
        return None, ()
    return person.cigarettes_per_day / 20 * person.duration_years, ("pack-years from cigarettes per day and years",)


def _combine(
    name: str, person: ClinicalData, checks: tuple[_Check, ...], source: str, assumed: tuple[str, ...] = ()
) -> Eligibility:
    """One failed check is enough for a no; a yes needs all of them."""
    failed = [f"{label} not {words}" for label, holds, words in checks if holds is False]
    if failed:
        reason = "never smoked" if person.smoking_status == "never" else "; ".join(failed)
        return Eligibility(name, False, reason, assumed=assumed, sources=(source,))
    needs = tuple(label for label, holds, _ in checks if holds is None)
    if needs:
        return Eligibility(name, None, f"needs {', '.join(needs)}", needs=needs, assumed=assumed, sources=(source,))
    reason = "; ".join(words if words.startswith("smoking") else f"{label} {words}" for label, _, words in checks)
    return Eligibility(name, True, reason, assumed=assumed, sources=(source,))


PROGRAMMES: dict[str, Callable[[ClinicalData], Eligibility]] = {
    **{name: _by_pack_years(name) for name in _PACK_YEAR_RULES},
    "NELSON": _nelson,
    "ILST (PLCOm2012)": _ilst,
    "UK targeted lung health check": _uk,
}
"""Programmes by name, each a function of the person."""

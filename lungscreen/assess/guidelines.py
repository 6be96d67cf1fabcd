"""Finding… + person + scan → the same with the advice of the guidelines that the pipeline names: `[assess] guidelines`.

Lung-RADS grades every finding; these stand beside it and change no category. Each is one object behind one protocol: to
add one, write it and give it a line in `GUIDELINES`. What a guideline needs and only a reader or clinician knows is
named; where few answers are possible, what each would lead to is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Protocol

from lungscreen.assess.bts import BtsContext, advise_bts, advise_bts_follow_up
from lungscreen.assess.fleischner import FleischnerContext, advise_fleischner_by_risk
from lungscreen.assess.inputs import AT_PLEURA_MM, NoduleAtExam, NoduleHistory, days_between, measured_nodule
from lungscreen.assess.lung_rads_special import (
    AirwayNodule,
    Change,
    CystAtExam,
    CystHistory,
    grade_airway_nodule,
    grade_cyst,
)
from lungscreen.assess.nelson import (
    advise_eu_position,
    advise_nelson,
    advise_nelson_growth,
    advise_nelson_new_solid,
)
from lungscreen.assess.results import Category
from lungscreen.records import NOT_ASSESSED, Advice, ClinicalData, Finding, Grade, NoduleType

__all__ = ["GUIDELINES", "LEAST_ROUND_DAYS", "Case", "Guideline", "advise_findings"]

NOT_APPLICABLE = "not applicable"
LEAST_ROUND_DAYS = 180
"""An exam this long after the last one is a round of its own, no repeat scan within a round. Our choice."""
UNSURE_VOLUME = ("outline-uncertain", "cut-by-edge")
"""Notices of a finding whose volume is not to be relied on."""
_SUBSOLID = (NoduleType.GROUND_GLASS, NoduleType.PART_SOLID)


@dataclass(frozen=True, eq=False)
class Case:
    """What a guideline is asked about: one nodule over all exams, the person and the scan.

    finding: assessed and measured, with its risks.
    alike: findings of this reading that are solid as it is, or subsolid as it is, itself among them.
    slice_mm: section thickness; None is not known.
    """

    finding: Finding
    history: NoduleHistory
    person: ClinicalData
    alike: int
    slice_mm: float | None = None

    @property
    def at_pleura(self) -> bool | None:
        """Whether the outline reaches the lung's border, estimated; None where that is not known."""
        away = self.finding.location.pleura_mm
        return None if away is None else away <= AT_PLEURA_MM

    @property
    def volume_reliable(self) -> bool:
        """Whether the volume may be used."""
        return not any(notice.code in UNSURE_VOLUME for notice in self.finding.notices)


class Guideline(Protocol):
    """A guideline, or a rule of one, that advises for a nodule."""

    @property
    def name(self) -> str:
        """As its advice names it."""
        ...

    def advise(self, case: Case) -> Sequence[Advice]:
        """What it says of the nodule; "not applicable" or `NOT_ASSESSED` with what it needs are answers too."""
        ...


def advise_findings(
    findings: Sequence[Finding],
    guidelines: Sequence[str],
    person: ClinicalData | None,
    exam_date: date | None = None,
    earlier: Sequence[Sequence[NoduleAtExam] | None] | None = None,
    slice_mm: float | None = None,
) -> tuple[Finding, ...]:
    """The findings, each with the advice of the guidelines of these names, in this order; as they are without any.

    earlier: as `assess_follow_up` takes it, in the order of the findings; None: nothing was compared.
    """
    if not guidelines:
        return tuple(findings)
    chosen = [GUIDELINES[name] for name in guidelines]
    exams = earlier if earlier is not None else [None] * len(findings)
    told = []
    for finding, seen in zip(findings, exams, strict=True):
        history = _history(finding, exam_date, seen)
        if history is None:
            case = None
        else:
            case = Case(finding, history, person or ClinicalData(), _alike(finding, findings), slice_mm)
        advice = _advice_on(case, chosen)
        grade = finding.grade or Grade(NOT_ASSESSED)
        told.append(replace(finding, grade=replace(grade, advice=tuple(advice))))
    return tuple(told)


def _advice_on(case: Case | None, guidelines: Sequence[Guideline]) -> list[Advice]:
    """Of a nodule that could not be measured each says that."""
    if case is None:
        return [_not_assessed(guideline.name, ("a measurement",)) for guideline in guidelines]
    return [one for guideline in guidelines for one in guideline.advise(case)]


def _history(finding: Finding, exam_date: date | None, earlier: Sequence[NoduleAtExam] | None) -> NoduleHistory | None:
    """The nodule over all exams; None where nothing was measured, or nothing possible."""
    if finding.measurement is None:
        return None
    try:
        now = measured_nodule(finding.measurement, finding.nodule_type, exam_date if earlier is not None else None)
    except ValueError:
        return None
    return NoduleHistory(now, tuple(earlier or ()), compared=earlier is not None)


def _alike(finding: Finding, findings: Sequence[Finding]) -> int:
    kinds = _SUBSOLID if finding.nodule_type in _SUBSOLID else (finding.nodule_type,)
    return sum(other.nodule_type in kinds for other in findings)


def _not_assessed(guideline: str, needs: tuple[str, ...], text: str = "") -> Advice:
    return Advice(guideline, NOT_ASSESSED, text, guideline, needs=needs)


def _not_applicable(guideline: str, why: str) -> Advice:
    return Advice(guideline, NOT_APPLICABLE, why, guideline)


# -- the guidelines --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Fleischner:
    """For nodules found by chance. The risk is the clinician's judgement: where it decides, both answers are said."""

    name: str = "Fleischner 2017"

    def advise(self, case: Case) -> Sequence[Advice]:
        history = case.history
        if not history.is_baseline:
            return (_not_applicable(self.name, "for nodules that no earlier exam was compared for"),)
        # any cancer before may be known and cured: only its absence answers what Fleischner asks
        context = FleischnerContext(
            multiple=case.alike > 1,
            slice_mm=case.slice_mm,
            known_cancer=False if case.person.prior_cancer is False else None,
        )
        advice = advise_fleischner_by_risk(history.current, case.person, context)
        counted = f"number of nodules of its kind: {case.alike} findings of this reading"
        return (replace(advice, assumed=(*advice.assumed, counted)),)


@dataclass(frozen=True, slots=True)
class _Bts:
    """Against the first exam that shows the nodule where there is one. Herder and PET are a clinician's."""

    name: str = "BTS 2015"

    def advise(self, case: Case) -> Sequence[Advice]:
        history = case.history
        risks = case.finding.grade.risks if case.finding.grade else ()
        brock = next((risk for risk in risks if risk.model.startswith("Brock 2b")), None)
        context = BtsContext(volumetry_reliable=case.volume_reliable, brock=brock)
        if history.earlier:
            return (advise_bts_follow_up(history.earlier[0], history.current, context),)
        return (advise_bts(history.current, context),)


@dataclass(frozen=True, slots=True)
class _Nelson:
    """NODCAT at baseline, growth against the last exam, risk class of a new solid nodule."""

    name: str = "NELSON"

    def advise(self, case: Case) -> Sequence[Advice]:
        history = case.history
        if history.is_new:
            return (advise_nelson_new_solid(history.current),)
        if not history.earlier:
            advice = advise_nelson(history.current, pleural_based=case.at_pleura)
            if history.current.nodule_type is NoduleType.SOLID and case.at_pleura is not None:
                advice = replace(advice, assumed=("whether it is based on the pleura: estimated from the image",))
            return (advice,)
        last = history.earlier[-1]
        own_round = days_between(last, history.current) >= LEAST_ROUND_DAYS
        advice = advise_nelson_growth(last, history.current, incidence_round=own_round)
        return (replace(advice, assumed=(f"{'incidence round' if own_round else 'repeat scan'}, by the interval",)),)


@dataclass(frozen=True, slots=True)
class _Eu:
    """For solid nodules."""

    name: str = "EU 2017"

    def advise(self, case: Case) -> Sequence[Advice]:
        history = case.history
        return (advise_eu_position(history.current, new=history.is_new),)


@dataclass(frozen=True, slots=True)
class _Airway:
    """The pipeline does not tell an airway nodule from any other: what the rows would give is said for a reader."""

    name: str = "Lung-RADS v2022, airway nodule"

    def advise(self, case: Case) -> Sequence[Advice]:
        history = case.history
        if history.current.nodule_type is not NoduleType.SOLID:
            return (_not_applicable(self.name, "for soft tissue in an airway"),)
        change = _AIRWAY_CHANGES.get(case.finding.change.state if case.finding.change else "", Change.BASELINE)
        prior = history.earlier[-1].category if history.earlier else ""
        answers = {
            where: grade_airway_nodule(AirwayNodule(proximal, change, prior_category=prior))
            for where, proximal in (("segmental or more proximal", True), ("subsegmental", False))
        }
        need = "a reader: whether it lies in an airway, and where"
        return (_by_reader(self.name, "in an airway", answers, need),)


_AIRWAY_CHANGES = {
    "new": Change.NEW,
    "stable": Change.STABLE,
    "growing": Change.GROWING,
    "shrinking": Change.SMALLER,
}


@dataclass(frozen=True, slots=True)
class _Cyst:
    """The pipeline measures no wall: what the rows give for a cyst seen first is said for a reader."""

    name: str = "Lung-RADS v2022, atypical cyst"

    def advise(self, case: Case) -> Sequence[Advice]:
        history = case.history
        need = "a reader: whether it is a cyst, its wall's thickness and its loculation"
        if history.earlier:
            return (_not_assessed(self.name, (need, "the same at the earlier exam")),)
        answers = {
            "wall of 2 mm or more": grade_cyst(CystHistory(CystAtExam(None, 2, multilocular=False))),
            "multilocular": grade_cyst(CystHistory(CystAtExam(None, 1, multilocular=True))),
            "thin-walled, unilocular": grade_cyst(CystHistory(CystAtExam(None, 1, multilocular=False))),
        }
        return (_by_reader(self.name, "a cyst", answers, need),)


def _by_reader(name: str, what: str, answers: Mapping[str, Category], need: str) -> Advice:
    """What each answer of a reader would lead to."""
    said = "; ".join(f"{answer}: {_category_words(category)}" for answer, category in answers.items())
    clause = "; ".join(dict.fromkeys(category.clause for category in answers.values()))
    return Advice(name, NOT_ASSESSED, f"where a reader finds it to be {what}: {said}", clause, needs=(need,))


def _category_words(category: Category) -> str:
    return f"{category.name}, {category.management}" if category.management else str(category.name)


GUIDELINES: Mapping[str, Guideline] = {
    "fleischner-2017": _Fleischner(),
    "bts-2015": _Bts(),
    "nelson": _Nelson(),
    "eu-2017": _Eu(),
    "lung-rads-airway": _Airway(),
    "lung-rads-cyst": _Cyst(),
}
"""What `[assess] guidelines` may name."""

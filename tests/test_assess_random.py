"""Whatever possible inputs are combined, no rule raises, every answer has a reason, and no growth lowers a category."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from datetime import date, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lungscreen.assess import (
    BROCK_MODELS,
    RANK,
    STAYING,
    AirwayNodule,
    BrockInput,
    BtsContext,
    Change,
    CystAtExam,
    CystHistory,
    FdgUptake,
    FleischnerContext,
    LungRads,
    NoduleAtExam,
    NoduleHistory,
    PersonAndNodule,
    advise_bts,
    advise_bts_follow_up,
    advise_eu_position,
    advise_fleischner,
    advise_fleischner_by_risk,
    advise_nelson,
    advise_nelson_growth,
    advise_nelson_new_solid,
    describe_person,
    estimate_brock,
    estimate_herder,
    estimate_mayo,
    estimate_va,
    grade_airway_nodule,
    grade_cyst,
    grade_nodule,
    is_suspicious_after_new,
    judge_change,
    name_growth,
    read_category,
)
from lungscreen.records import PERSON_RANGES, Advice, ClinicalData, NoduleType, Risk

DAY = date(2024, 6, 1)
MAYBE = st.sampled_from([None, True, False])
CATEGORIES = st.sampled_from(["", "0", "1", "2", "3", "4A", "4B", "4X", "4bs", "not assessed", "nonsense"])
SIZES = st.one_of(st.floats(0.01, 60), st.floats(1e-6, 1e8), st.sampled_from([3.95, 5.95, 7.95, 9.95, 14.95, 29.95]))
PARTS = st.one_of(st.none(), st.floats(0, 60), st.floats(0, 1e8))
GROWN = (", growing (note 6", "growing solid part", "slow growth, each", "grown as a whole")
"""Words of the rows that growth leads to."""
VOLUMES = st.one_of(st.none(), SIZES)


@st.composite
def nodules(draw: st.DrawFn, day: date | None = DAY) -> NoduleAtExam:
    long = draw(SIZES)
    return NoduleAtExam(
        day,
        draw(st.sampled_from(list(NoduleType))),
        long,
        long * draw(st.floats(0.01, 1)),
        draw(PARTS),
        draw(VOLUMES),
        draw(PARTS),
        draw(MAYBE),
        draw(CATEGORIES),
    )


@st.composite
def histories(draw: st.DrawFn) -> NoduleHistory:
    """Up to six exams, days or decades apart."""
    gaps = draw(st.lists(st.sampled_from([1, 74, 75, 149, 150, 200, 366, 367, 800, 9000]), max_size=5))
    days = [DAY - timedelta(days=sum(gaps[n:])) for n in range(len(gaps))]
    return NoduleHistory(
        draw(nodules()),
        tuple(draw(nodules(day)) for day in days),
        compared=draw(st.booleans()),
        benign_pattern=draw(st.sampled_from(["", "", "", "calcification", "fat"])),
        proven_benign=draw(st.booleans()),
        suspicious=draw(st.booleans()),
    )


@settings(max_examples=1500, deadline=None)
@given(histories(), st.sampled_from(["diameter", "volume"]))
def test_every_nodule_has_a_category_with_its_reason(history: NoduleHistory, measure: Any) -> None:
    """A 4B or 4X is lowered only by proof of the benign, or a benign pattern; words and category agree on growth."""
    result = grade_nodule(history, measure)
    assert result.reason
    assert result.clause
    assert result.name is not LungRads.NOT_ASSESSED or result.needs
    benign = history.benign_pattern or history.current.nodule_type is NoduleType.CALCIFIED
    assert (result.name is LungRads.NEGATIVE) is bool(benign)
    assert name_growth(history)
    if not history.earlier:
        return
    prior = read_category(history.earlier[-1].category)
    if prior in STAYING and not history.proven_benign and not benign:
        assert RANK[result.name] >= RANK[prior]
    change = judge_change(history)
    assert change.text
    if any(words in result.clause for words in GROWN):
        assert change.state == "growing"
    if "stable or smaller" in result.clause:
        assert change.state in ("stable", "shrinking")


PERSONS = st.builds(
    ClinicalData,
    sex=st.sampled_from(["", "F", "M"]),
    smoking_status=st.sampled_from(["", "never", "former", "current"]),
    family_history=MAYBE,
    emphysema=MAYBE,
    prior_cancer=MAYBE,
    copd=MAYBE,
    immunosuppressed=MAYBE,
    race=st.sampled_from(["", "white", "black", "martian"]),
    **{
        name: st.one_of(st.none(), st.sampled_from([low, high]), st.floats(low, high))
        for name, (low, high) in PERSON_RANGES.items()
        if name != "education"
    },
    education=st.one_of(st.none(), st.integers(1, 6)),
)


def is_probability(risk: Risk) -> bool:
    """A probability, or words for why there is none."""
    return bool(risk.text) if risk.probability is None else 0 <= risk.probability <= 1


@settings(max_examples=150, deadline=None)
@given(PERSONS)
def test_every_person_has_a_risk_and_an_answer_of_every_programme(person: ClinicalData) -> None:
    told = describe_person(person)
    assert told is not None
    assert is_probability(told.risk)
    assert all(one.reason for one in told.programmes)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_model_is_a_probability_or_says_why_not(data: st.DataObject) -> None:
    size = data.draw(st.one_of(st.none(), SIZES))
    age = data.draw(st.one_of(st.none(), st.floats(0, 120)))
    spiculation, upper = data.draw(MAYBE), data.draw(MAYBE)
    brock = BrockInput(
        size, upper, data.draw(st.sampled_from(["", "F", "M"])), spiculation, age, data.draw(MAYBE), data.draw(MAYBE),
        data.draw(st.sampled_from(list(NoduleType))), data.draw(st.one_of(st.none(), st.integers(1, 10_000))),
    )  # fmt: skip
    assert all(is_probability(estimate_brock(brock, model)) for model in BROCK_MODELS)
    years = data.draw(st.one_of(st.none(), st.floats(0, 120)))
    asked = PersonAndNodule(age, data.draw(MAYBE), size, data.draw(MAYBE), data.draw(MAYBE), spiculation, upper, years)
    mayo = estimate_mayo(asked)
    assert is_probability(mayo)
    assert is_probability(estimate_va(asked))
    assert is_probability(estimate_herder(mayo, data.draw(st.sampled_from([None, *FdgUptake]))))


def is_advice(advice: Advice) -> bool:
    """A group, and an advice or what is lacking."""
    return bool(advice.group) and bool(advice.advice or advice.needs) and bool(advice.sources)


@settings(max_examples=150, deadline=None)
@given(st.data(), PERSONS)
def test_every_guideline_has_an_answer(data: st.DataObject, person: ClinicalData) -> None:
    now, then = data.draw(nodules()), data.draw(nodules(DAY - timedelta(days=data.draw(st.integers(1, 9000)))))
    flags = {
        field.name: data.draw(st.booleans() if field.name in ("multiple", "by_volume") else MAYBE)
        for field in fields(FleischnerContext)
        if field.name != "slice_mm"
    }
    context = FleischnerContext(**flags, slice_mm=data.draw(st.one_of(st.none(), st.floats(0.1, 20))))
    known = st.builds(Risk, st.just("Brock 2b"), st.one_of(st.none(), st.floats(0, 1)), st.just(""))
    risk = st.one_of(st.none(), known)
    bts = BtsContext(data.draw(st.booleans()), data.draw(risk), data.draw(risk), data.draw(MAYBE))
    answers = [
        advise_fleischner(now, person, context),
        advise_fleischner_by_risk(now, person, context),
        advise_bts(now, bts),
        advise_bts_follow_up(then, now, bts, stable_by_diameter=data.draw(MAYBE)),
        advise_nelson(now, pleural_based=data.draw(MAYBE)),
        advise_nelson_growth(then, now, incidence_round=data.draw(st.booleans())),
        advise_nelson_new_solid(now),
        advise_eu_position(now, new=data.draw(st.booleans())),
    ]
    assert all(map(is_advice, answers)), [one for one in answers if not is_advice(one)]
    assert is_suspicious_after_new(then, now) in (None, True, False)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_airway_nodule_and_cyst_has_an_answer(data: st.DataObject) -> None:
    flags = [data.draw(st.booleans()) for _ in range(6)]
    airway = AirwayNodule(data.draw(MAYBE), data.draw(st.sampled_from(list(Change))), *flags, data.draw(CATEGORIES))
    result = grade_airway_nodule(airway)
    assert result.reason
    prior = read_category(airway.prior_category)
    if prior in STAYING and not airway.proven_benign:
        assert RANK.get(result.name, 0) >= RANK[prior]
    size = st.one_of(st.none(), st.floats(0, 100))
    days = sorted(data.draw(st.sets(st.integers(0, 9000), min_size=1, max_size=5)))
    exams = [
        CystAtExam(
            DAY + timedelta(days=day), data.draw(size), data.draw(st.booleans()), data.draw(size), data.draw(size),
            data.draw(CATEGORIES),
        )
        for day in days
    ]  # fmt: skip
    history = CystHistory(exams[-1], tuple(exams[:-1]), *[data.draw(st.booleans()) for _ in range(6)])
    assert grade_cyst(history).reason
    if history.earlier and (prior := read_category(history.earlier[-1].category)) in STAYING:
        assert RANK.get(grade_cyst(replace(history, proven_benign=False)).name, 0) >= RANK[prior]


def test_nan_is_no_size() -> None:
    """Where a history is made, once; no rule looks again."""
    for value in (math.nan, math.inf, -1.0, 0.0, 1e300):
        for name in ("long_axis_mm", "short_axis_mm", "volume_mm3"):
            base = {"long_axis_mm": 5.0, "short_axis_mm": 5.0, "volume_mm3": 60.0}
            try:
                NoduleAtExam(DAY, NoduleType.SOLID, **{**base, name: value})
            except ValueError:
                continue
            raise AssertionError(f"{name} = {value} was taken")

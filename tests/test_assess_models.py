"""Mayo, VA, Herder, PLCOm2012 and eligibility: golden values, needs, limits."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lungscreen.assess import (
    PLCO_RACES,
    PROGRAMMES,
    FdgUptake,
    PersonAndNodule,
    estimate_herder,
    estimate_mayo,
    estimate_plco,
    estimate_va,
    judge_eligibility,
)
from lungscreen.records import ClinicalData, Risk

SMOKER_65 = PersonAndNodule(65, True, 10, False, False, False, True, 0)


@pytest.mark.parametrize(
    ("data", "percent"),
    [(SMOKER_65, 19.213), (PersonAndNodule(70, True, 20, False, False, True, True), 74.536)],
)
def test_mayo_golden_values(data, percent):
    assert 100 * estimate_mayo(data).probability == pytest.approx(percent, abs=5e-4)


def test_va_golden_value_and_never_smokers():
    assert 100 * estimate_va(SMOKER_65).probability == pytest.approx(46.021, abs=5e-4)
    never = PersonAndNodule(65, False, 10)
    assert estimate_va(never).probability == estimate_va(replace(never, years_quit=30)).probability
    assert estimate_va(PersonAndNodule(65, True, 10)).needs == ("years since quitting",)


def test_va_risk_falls_with_the_years_since_quitting():
    assert estimate_va(replace(SMOKER_65, years_quit=20)).probability < estimate_va(SMOKER_65).probability


@pytest.mark.parametrize(
    ("uptake", "percent"), [("none", 2.58), ("faint", 21.25), ("moderate", 72.82), ("intense", 75.76)]
)
def test_herder_golden_values(uptake, percent):
    mayo = Risk("Mayo", 0.30, "")
    assert 100 * estimate_herder(mayo, FdgUptake(uptake)).probability == pytest.approx(percent, abs=5e-3)


def test_herder_takes_mayo_only_and_names_what_it_needs():
    with pytest.raises(ValueError, match="Mayo"):
        estimate_herder(Risk("Brock 2b", 0.3, ""), FdgUptake.NONE)
    bare = estimate_herder(estimate_mayo(PersonAndNodule(age=60)), None)
    assert bare.probability is None
    assert bare.needs[-1] == "FDG uptake on PET"
    assert "diameter" in bare.needs


def test_mayo_names_needs_and_limits():
    assert estimate_mayo(PersonAndNodule()).needs == (
        "age", "smoking status", "extrathoracic cancer more than 5 years ago", "diameter", "spiculation", "lobe",
    )  # fmt: skip
    outside = estimate_mayo(replace(SMOKER_65, diameter_mm=31, recent_cancer=True))
    assert outside.limits == ("made for nodules of 4 to 30 mm", "made for people without cancer in the last 5 years")
    assert estimate_mayo(replace(SMOKER_65, diameter_mm=30)).limits == ()
    assert any(source.startswith("unverified") for source in outside.sources)


@pytest.mark.parametrize(
    "values", [{"diameter_mm": 0}, {"age": -1}, {"age": 121}, {"years_quit": float("nan")}, {"years_quit": 1e300}]
)
def test_impossible_inputs_are_refused(values):
    with pytest.raises(ValueError, match="expected"):
        PersonAndNodule(**values)


@pytest.mark.parametrize(
    "values", [{"age": 121}, {"age": float("nan")}, {"bmi": 7}, {"cigarettes_per_day": -1}, {"duration_years": 1e300}]
)
def test_impossible_people_are_refused_where_they_are_made(values):
    with pytest.raises(ValueError, match="expected"):
        ClinicalData(**values)


# -- PLCOm2012 -------------------------------------------------------------------------------------------------------
CURRENT = ClinicalData(
    age=62, smoking_status="current", cigarettes_per_day=20, duration_years=40, education=4, bmi=27, race="white",
    copd=False, prior_cancer=False, family_history=False,
)  # fmt: skip
FORMER = ClinicalData(
    age=70, smoking_status="former", cigarettes_per_day=30, duration_years=45, years_quit=5, education=2, bmi=24,
    race="white", copd=True, prior_cancer=False, family_history=True,
)  # fmt: skip


@pytest.mark.parametrize(("person", "percent"), [(CURRENT, 2.343), (FORMER, 13.340)])
def test_plco_golden_values(person, percent):
    assert 100 * estimate_plco(person).probability == pytest.approx(percent, abs=5e-4)


def test_plco_race_coefficients_are_not_swapped():
    risks = {race: estimate_plco(replace(CURRENT, race=race)).probability for race in PLCO_RACES}
    assert risks["american indian"] == risks["white"]
    assert risks["native hawaiian"] > risks["black"] > risks["white"] > risks["asian"] > risks["hispanic"]


def test_plco_personal_cancer_raises_the_risk_by_its_odds():
    with_cancer = estimate_plco(replace(CURRENT, prior_cancer=True)).probability
    without = estimate_plco(CURRENT).probability
    odds = with_cancer / (1 - with_cancer) / (without / (1 - without))
    assert odds == pytest.approx(1.58245, rel=1e-4)


@pytest.mark.parametrize(
    ("change", "need"),
    [
        ({"age": None}, "age"),
        ({"race": ""}, "race"),
        ({"education": None}, "education"),
        ({"bmi": None}, "body mass index"),
        ({"copd": None}, "COPD"),
        ({"prior_cancer": None}, "prior cancer"),
        ({"family_history": None}, "family history of lung cancer"),
        ({"cigarettes_per_day": None}, "cigarettes per day"),
        ({"duration_years": None}, "years of smoking"),
        ({"smoking_status": ""}, "smoking status"),
        ({"smoking_status": "former"}, "years since quitting"),
    ],
)
def test_plco_names_what_it_needs(change, need):
    result = estimate_plco(replace(CURRENT, **change))
    assert (result.probability, result.needs) == (None, (need,))


def test_plco_names_the_races_that_it_knows():
    assert estimate_plco(replace(CURRENT, race="martian")).needs[0].startswith("race as one of white")


@pytest.mark.parametrize(
    "change", [{"smoking_status": "never"}, {"cigarettes_per_day": 0}, {"cigarettes_per_day": 0.02}]
)
def test_plco_is_for_ever_smokers(change):
    result = estimate_plco(replace(CURRENT, **change))
    assert (result.probability, result.needs) == (None, ())
    assert result.text.startswith("not assessed: holds for people who")


# -- eligibility -----------------------------------------------------------------------------------------------------
def eligible(programme, **person):
    return PROGRAMMES[programme](ClinicalData(**person)).eligible


@pytest.mark.parametrize(
    ("programme", "least", "most", "packs", "quit_years"),
    [
        ("USPSTF 2021", 50, 80, 20, 15),
        ("CMS 2022", 50, 77, 20, 15),
        ("NLST", 55, 74, 30, 15),
        ("EU 2022 (proposal)", 50, 75, 30, 15),
    ],
)
def test_pack_year_programmes_at_their_limits(programme, least, most, packs, quit_years):
    former = {"smoking_status": "former", "years_quit": quit_years, "pack_years": packs}
    assert eligible(programme, age=least, **former) is True
    assert eligible(programme, age=most + 0.9, **former) is True  # whole years
    assert eligible(programme, age=least - 0.1, **former) is False
    assert eligible(programme, age=most + 1, **former) is False
    assert eligible(programme, age=60, **{**former, "pack_years": packs - 0.1}) is False
    assert eligible(programme, age=60, **{**former, "years_quit": quit_years + 0.1}) is False
    assert eligible(programme, age=60, smoking_status="current", pack_years=packs) is True
    assert eligible(programme, age=60, smoking_status="never") is False


@pytest.mark.parametrize(
    ("daily", "years", "expected"),
    [(15, 25, False), (15, 25.1, True), (14.9, 30, False), (10, 30, False), (10, 30.1, True), (9.9, 60, False)],
)
def test_nelson_smoking(daily, years, expected):
    person = {"smoking_status": "current", "cigarettes_per_day": daily, "duration_years": years}
    assert eligible("NELSON", age=60, **person) is expected


@pytest.mark.parametrize(
    ("age", "quit_years", "expected"),
    [(50, 10, True), (74, 10, True), (49, 1, False), (75, 1, False), (60, 10.1, False)],
)
def test_nelson_age_and_quitting(age, quit_years, expected):
    person = {"smoking_status": "former", "cigarettes_per_day": 20, "duration_years": 40, "years_quit": quit_years}
    assert eligible("NELSON", age=age, **person) is expected


def test_missing_data_give_no_answer_but_a_failed_limit_is_enough():
    unknown = PROGRAMMES["USPSTF 2021"](ClinicalData(age=60))
    assert (unknown.eligible, unknown.needs) == (None, ("smoking status", "pack-years"))
    assert PROGRAMMES["USPSTF 2021"](ClinicalData(age=40)).eligible is False
    former = PROGRAMMES["USPSTF 2021"](ClinicalData(age=60, smoking_status="former", pack_years=40))
    assert former.needs == ("years since quitting",)
    assert PROGRAMMES["NELSON"](ClinicalData(age=60, smoking_status="current")).eligible is None


def test_pack_years_are_worked_out_and_said():
    person = ClinicalData(age=60, smoking_status="current", cigarettes_per_day=20, duration_years=20)
    result = PROGRAMMES["USPSTF 2021"](person)
    assert (result.eligible, result.assumed) == (True, ("pack-years from cigarettes per day and years",))


ILST = PROGRAMMES["ILST (PLCOm2012)"]


def test_ilst_takes_plco_from_1_51_percent():
    assert ILST(CURRENT).eligible is True
    low = replace(CURRENT, age=55, duration_years=20)
    assert estimate_plco(low).probability < 0.0151
    assert ILST(low).eligible is False
    assert ILST(ClinicalData(smoking_status="never")).eligible is False
    assert ILST(ClinicalData()).eligible is None


def test_ilst_or_uspstf_2013():
    """30 pack-years are enough where PLCOm2012 is below its cut, or cannot be told."""
    low = replace(CURRENT, age=55, duration_years=20, pack_years=30)
    assert estimate_plco(low).probability < 0.0151
    assert ILST(low).eligible is True
    assert "USPSTF 2013" in ILST(low).reason
    packs = {"smoking_status": "former", "pack_years": 30, "years_quit": 15}
    assert ILST(ClinicalData(age=60, **packs)).eligible is True
    assert ILST(ClinicalData(age=60, **{**packs, "pack_years": 29})).eligible is None  # PLCOm2012 is not known
    assert "race" in ILST(ClinicalData(age=60, **{**packs, "pack_years": 29})).needs


@pytest.mark.parametrize(("age", "eligible"), [(54.9, False), (55, True), (80.9, True), (81, False)])
def test_ilst_is_55_to_80_years(age, eligible):
    """However high the risk."""
    assert ILST(replace(FORMER, age=age)).eligible is eligible
    assert estimate_plco(replace(FORMER, age=54.9)).probability > 0.0151


def test_uk_is_answered_as_far_as_plco_goes():
    uk = PROGRAMMES["UK targeted lung health check"]
    assert uk(CURRENT).eligible is True
    low = uk(replace(CURRENT, age=56, duration_years=20))
    assert (low.eligible, low.needs) == (None, ("LLPv2 five-year risk",))
    assert uk(replace(CURRENT, age=75)).eligible is False
    assert uk(replace(CURRENT, smoking_status="never")).eligible is False
    assert uk(replace(CURRENT, age=None)).needs[0] == "age"


def test_every_programme_answers_for_everybody_and_cites_its_source():
    for person in (ClinicalData(), CURRENT, FORMER, ClinicalData(age=30, smoking_status="never")):
        answers = judge_eligibility(person)
        assert [answer.programme for answer in answers] == list(PROGRAMMES)
        assert all(answer.reason and answer.sources for answer in answers)

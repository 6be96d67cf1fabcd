"""Fleischner 2017, BTS 2015, NELSON, EU 2017: every row and boundary."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest

from lungscreen.assess import (
    BtsContext,
    FleischnerContext,
    NoduleAtExam,
    advise_bts,
    advise_bts_follow_up,
    advise_eu_position,
    advise_fleischner,
    advise_nelson,
    advise_nelson_growth,
    advise_nelson_new_solid,
    is_suspicious_after_new,
)
from lungscreen.assess.fleischner import fleischner_size_mm
from lungscreen.records import ClinicalData, NoduleType, Risk

SOLID, PART, GGN = NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS
DAY0 = date(2022, 5, 1)
ADULT = ClinicalData(age=60, immunosuppressed=False)
LOW = FleischnerContext(high_risk=False, slice_mm=1.0, known_cancer=False)
HIGH = replace(LOW, high_risk=True)


def nodule(kind=SOLID, mm=6.0, *, short=None, solid=None, volume=None, solid_volume=None, day=0, juxta=None):
    return NoduleAtExam(
        DAY0 + timedelta(days=day), kind, mm, mm if short is None else short, solid, volume, solid_volume, juxta
    )


# -- Fleischner ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("long", "short", "mm"), [(5.4, 5.5, 5), (6.0, 5.0, 6), (5.5, 5.5, 6), (8.6, 8.4, 9), (8.4, 8.4, 8), (5.9, 5.0, 5)]
)
def test_fleischner_rounds_the_average_of_the_axes_to_whole_millimetres(long, short, mm):
    """(5.4 + 5.5) / 2 = 5.45 is 5, although one decimal first would make it 5.5 and then 6."""
    assert fleischner_size_mm(nodule(mm=max(long, short), short=min(long, short))) == mm


@pytest.mark.parametrize(
    ("mm", "multiple", "low", "high"),
    [
        (5.4, False, "no routine", "12 months is optional"),
        (5.5, False, "6 to 12 months, then consider", "6 to 12 months, then CT"),
        (8.4, False, "6 to 12 months, then consider", "6 to 12 months, then CT"),
        (8.5, False, "consider CT at 3 months", "consider CT at 3 months"),
        (5.4, True, "no routine", "12 months is optional"),
        (6.0, True, "3 to 6 months, then consider", "3 to 6 months, then CT"),
        (9.0, True, "3 to 6 months, then consider", "3 to 6 months, then CT"),
    ],
)
def test_fleischner_solid(mm, multiple, low, high):
    assert low in advise_fleischner(nodule(mm=mm), ADULT, replace(LOW, multiple=multiple)).advice
    assert high in advise_fleischner(nodule(mm=mm), ADULT, replace(HIGH, multiple=multiple)).advice


@pytest.mark.parametrize(("mm3", "group"), [(99.4, "<6"), (100, "6–8"), (250, "6–8"), (250.5, ">8"), (300, ">8")])
def test_fleischner_by_volume(mm3, group):
    result = advise_fleischner(nodule(volume=mm3), ADULT, replace(LOW, by_volume=True))
    assert group in result.group
    assert advise_fleischner(nodule(), ADULT, replace(LOW, by_volume=True)).needs == ("volume",)


@pytest.mark.parametrize(
    ("kind", "mm", "solid", "multiple", "advice"),
    [
        (GGN, 5.4, None, False, "no routine"),
        (GGN, 5.5, None, False, "6 to 12 months, then every 2 years until 5 years"),
        (PART, 5.4, 2.0, False, "no routine"),
        (PART, 9.0, 5.4, False, "every year for 5 years"),
        (PART, 9.0, 5.5, False, "3 to 6 months, whether it persists"),
        (PART, 12.0, 8.4, False, "3 to 6 months, whether it persists"),
        (PART, 12.0, 8.5, False, "PET/CT, biopsy or resection"),
        (GGN, 5.4, None, True, "consider CT at 2 and 4 years"),
        (GGN, 6.0, None, True, "most suspicious nodule"),
        (PART, 6.0, 2.0, True, "most suspicious nodule"),
    ],
)
def test_fleischner_subsolid(kind, mm, solid, multiple, advice):
    """Risk plays no part in subsolid nodules."""
    context = replace(LOW, high_risk=None, multiple=multiple)
    assert advice in advise_fleischner(nodule(kind, mm, solid=solid), ADULT, context).advice


@pytest.mark.parametrize("solid", [3.0, 6.0, 8.0])
@pytest.mark.parametrize("sign", ["solid_part_growing", "suspicious_form"])
def test_fleischner_works_up_a_solid_part_that_grows_or_looks_suspicious(solid, sign):
    advice = advise_fleischner(nodule(PART, 12.0, solid=solid), ADULT, replace(LOW, **{sign: True}))
    assert advice.advice == "PET/CT, biopsy or resection"
    assert advise_fleischner(nodule(PART, 12.0, solid=solid), ADULT, replace(LOW, **{sign: False})).advice != (
        advice.advice
    )


@pytest.mark.parametrize("mm", [4.0, 7.0, 9.4])
@pytest.mark.parametrize("multiple", [True, False])
def test_fleischner_follows_no_typical_perifissural_nodule(mm, multiple):
    """Nor a juxtapleural one, also above 6 mm (2017, p. 240); risk is then not asked for."""
    result = advise_fleischner(nodule(mm=mm, juxta=True), ADULT, replace(LOW, high_risk=None, multiple=multiple))
    assert result.advice == "no routine follow-up CT"
    assert result.assumed == ("no spiculation", "no displaced fissure", "no history of cancer")


@pytest.mark.parametrize(
    ("person", "context", "word"),
    [
        (ADULT, replace(LOW, spiculated=True), "spiculated"),
        (ADULT, replace(LOW, displaces_fissure=True), "displaces the fissure"),
        (replace(ADULT, prior_cancer=True), LOW, "a history of cancer"),
    ],
)
@pytest.mark.parametrize("mm", [4.0, 7.0])
def test_fleischner_follows_one_that_may_be_malignant(person, context, word, mm):
    result = advise_fleischner(nodule(mm=mm, juxta=True), person, context)
    assert result.advice == "consider CT at 6 to 12 months"
    assert word in result.group


def test_fleischner_typical_means_small_and_solid():
    assert "3 months" in advise_fleischner(nodule(mm=9.5, juxta=True), ADULT, LOW).advice
    assert "6 to 12 months, then" in advise_fleischner(nodule(GGN, 7.0, juxta=True), ADULT, LOW).advice
    assert "6 to 12 months" in advise_fleischner(nodule(mm=7.0, juxta=False), ADULT, LOW).advice
    known = replace(LOW, known_cancer=True)
    assert advise_fleischner(nodule(mm=7.0, juxta=True), ADULT, known).group == "not applicable"


@pytest.mark.parametrize(
    ("person", "context", "words"),
    [
        (replace(ADULT, age=34.9), LOW, "age 34.9"),
        (replace(ADULT, immunosuppressed=True), LOW, "immunosuppressed"),
        (ADULT, replace(LOW, known_cancer=True), "known cancer"),
        (ADULT, replace(LOW, slice_mm=1.6), "sections of 1.6 mm"),
    ],
)
def test_fleischner_outside_its_limits(person, context, words):
    result = advise_fleischner(nodule(), person, context)
    assert result.group == "not applicable"
    assert words in result.advice


def test_fleischner_says_what_it_needs():
    result = advise_fleischner(nodule(), ClinicalData(), FleischnerContext())
    assert result.group == "not assessed"
    assert result.needs == ("age", "known cancer", "immunosuppression", "section thickness", "low or high risk")
    assert advise_fleischner(nodule(NoduleType.UNKNOWN), ADULT, LOW).needs == ("nodule type",)
    assert advise_fleischner(nodule(PART, 9.0), ADULT, LOW).needs == ("size of the solid part",)
    assert advise_fleischner(nodule(NoduleType.CALCIFIED), ADULT, LOW).advice == "no routine follow-up"
    assert advise_fleischner(nodule(), replace(ADULT, age=35), LOW).group.startswith("solid")


# -- BTS -------------------------------------------------------------------------------------------------------------
def brock(percent):
    return Risk("Brock 2b", percent / 100, "")


@pytest.mark.parametrize(
    ("mm3", "advice"),
    [(79.4, "discharge"), (79.5, "CT at 3 months"), (80, "CT at 3 months"), (299.4, "CT at 3 months")],
)
def test_bts_solid_by_volume(mm3, advice):
    """Volume wins where the two disagree: the diameter here is 9 mm."""
    assert advise_bts(nodule(mm=9.0, volume=mm3)).advice.startswith(advice)


@pytest.mark.parametrize(
    ("longest", "advice"),
    [
        (4.94, "discharge"),
        (4.95, "CT at 12 months"),
        (5.94, "CT at 12 months"),
        (5.95, "CT at 3 months"),
        (7.94, "CT at 3 months"),
    ],
)
def test_bts_solid_by_maximum_diameter(longest, advice):
    """The maximum, never the mean: the short axis is 2 mm."""
    assert advise_bts(nodule(mm=longest, short=2.0)).advice.startswith(advice)
    unreliable = BtsContext(volumetry_reliable=False)
    assert advise_bts(nodule(mm=longest, short=2.0, volume=10), unreliable).advice.startswith(advice)


@pytest.mark.parametrize("seen", [nodule(mm=8.0), nodule(mm=7.0, volume=300), nodule(mm=7.95)])
@pytest.mark.parametrize(
    ("context", "advice"),
    [
        (BtsContext(brock=brock(9.99)), "CT surveillance: at 3"),
        (BtsContext(brock=brock(10), above_pet_limit=True), "PET-CT, then Herder"),
        (BtsContext(brock=brock(10), above_pet_limit=False), "CT surveillance"),
        (BtsContext(brock=brock(20), above_pet_limit=True, herder=Risk("Herder", 0.099, "")), "CT surveillance"),
        (BtsContext(brock=brock(20), above_pet_limit=True, herder=Risk("Herder", 0.10, "")), "image-guided biopsy"),
        (BtsContext(brock=brock(20), above_pet_limit=True, herder=Risk("Herder", 0.70, "")), "image-guided biopsy"),
        (BtsContext(brock=brock(20), above_pet_limit=True, herder=Risk("Herder", 0.701, "")), "excision"),
    ],
)
def test_bts_solid_from_300_mm3_or_8_mm(seen, context, advice):
    assert advise_bts(seen, context).advice.startswith(advice)


def test_bts_says_what_it_needs():
    assert advise_bts(nodule(NoduleType.UNKNOWN)).needs == ("nodule type",)
    assert advise_bts(nodule(mm=9.0)).needs == ("Brock 2b",)
    incomplete = BtsContext(brock=Risk("Brock 2b", None, "", needs=("sex",)))
    assert advise_bts(nodule(mm=9.0), incomplete).needs == ("sex",)
    assert advise_bts(nodule(mm=9.0), BtsContext(brock=brock(30))).needs[0].startswith("whether")
    assert advise_bts(nodule(NoduleType.CALCIFIED)).advice == "discharge"


@pytest.mark.parametrize(("mm", "advice"), [(9.9, "discharge"), (10.0, "")])
def test_bts_typical_perifissural_nodules(mm, advice):
    assert advise_bts(nodule(mm=mm, juxta=True)).advice == advice


@pytest.mark.parametrize(
    ("mm", "context", "advice"),
    [
        (4.9, BtsContext(), "discharge"),
        (5.0, BtsContext(), "CT at 3 months, then Brock"),
        (9.0, BtsContext(brock=brock(5)), "CT at 3 months; if stable, CT at 1, 2 and 4 years"),
        (9.0, BtsContext(brock=brock(10)), "CT at 3 months; if stable, discuss"),
    ],
)
@pytest.mark.parametrize("kind", [PART, GGN])
def test_bts_subsolid(kind, mm, context, advice):
    assert advise_bts(nodule(kind, mm, solid=1.0), context).advice.startswith(advice)


@pytest.mark.parametrize(
    ("before", "after", "days", "group", "advice"),
    [
        (100, 110, 90, "stable by volume (<25 %)", "CT at 12 months"),  # VDT 654.5 d, but stable
        (100, 124, 365, "stable by volume (<25 %)", "discharge"),
        (100, 90, 365, "stable by volume (<25 %)", "discharge"),
        (100, 200, 90, "growing, doubling time ≤400 days", "further work-up, consider treatment"),
        (100, 200, 400, "growing, doubling time ≤400 days", "further work-up, consider treatment"),
        (100, 200, 401, "growing, doubling time >400 to 600 days", "consider biopsy or CT surveillance"),
        (100, 200, 600, "growing, doubling time >400 to 600 days", "consider biopsy or CT surveillance"),
        (100, 200, 601, "growing, doubling time >600 days", "consider discharge or CT surveillance"),
        (100, 125, 200, "growing, doubling time >600 days", "consider discharge or CT surveillance; CT at 12 months"),
    ],
)
def test_bts_follow_up_by_volume(before, after, days, group, advice):
    result = advise_bts_follow_up(nodule(volume=before), nodule(volume=after, day=days))
    assert (result.group, result.advice) == (group, advice)


@pytest.mark.parametrize(
    ("days", "stable", "advice"),
    [
        (90, True, "CT at 12 months"),
        (365, True, "CT at 24 months"),
        (730, True, "discharge"),
        (90, False, "further work-up"),
    ],
)
def test_bts_follow_up_by_diameter(days, stable, advice):
    result = advise_bts_follow_up(nodule(), nodule(day=days), stable_by_diameter=stable)
    assert result.advice == advice


def test_bts_follow_up_needs_volumes_or_a_reader_and_is_for_solid_nodules():
    assert advise_bts_follow_up(nodule(), nodule(day=90)).needs
    assert advise_bts_follow_up(nodule(GGN), nodule(GGN, day=90)).group == "not applicable"


# -- NELSON and EU ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mm3", "nodcat"), [(49.4, 2), (49.5, 3), (50, 3), (500, 3), (500.4, 3), (500.5, 4), (900, 4)])
def test_nelson_solid_by_volume(mm3, nodcat):
    assert advise_nelson(nodule(volume=mm3), pleural_based=False).group == f"NODCAT {nodcat}"


@pytest.mark.parametrize(("short", "nodcat"), [(4.9, 2), (4.95, 3), (5.0, 3), (10.0, 3), (10.1, 4)])
def test_nelson_pleural_based_by_minimal_diameter(short, nodcat):
    assert advise_nelson(nodule(mm=12.0, short=short, volume=10), pleural_based=True).group == f"NODCAT {nodcat}"


@pytest.mark.parametrize(
    ("kind", "mm", "solid_volume", "nodcat"),
    [
        (GGN, 7.9, None, 2),
        (GGN, 8.0, None, 3),
        (GGN, 40.0, None, 3),  # never positive at baseline
        (PART, 7.9, 49, 2),
        (PART, 8.0, 49, 3),
        (PART, 7.9, 50, 3),
        (PART, 7.9, 501, 4),
        (PART, 20.0, 501, 4),
    ],
)
def test_nelson_subsolid(kind, mm, solid_volume, nodcat):
    seen = nodule(kind, mm, solid_volume=solid_volume)
    assert advise_nelson(seen, pleural_based=None).group == f"NODCAT {nodcat}"


def test_nelson_says_what_it_needs():
    assert advise_nelson(nodule(), pleural_based=None).needs == ("whether it is based on the pleura",)
    assert advise_nelson(nodule(), pleural_based=False).needs == ("volume of what is solid",)
    assert advise_nelson(nodule(PART), pleural_based=False).needs == ("volume of what is solid",)
    assert advise_nelson(nodule(NoduleType.UNKNOWN), pleural_based=False).needs == ("nodule type",)
    assert advise_nelson(nodule(NoduleType.CALCIFIED), pleural_based=False).group == "not applicable"
    assert advise_nelson_growth(nodule(), nodule(day=90), incidence_round=True).needs == ("volumes of both exams",)


@pytest.mark.parametrize(
    ("before", "after", "days", "incidence", "result"),
    [
        (100, 124.9, 20, True, "negative"),
        (100, 200, 399, True, "positive"),  # below 400 days, not above
        (100, 200, 400, True, "indeterminate"),
        (100, 200, 600, True, "indeterminate"),
        (100, 200, 500, False, "negative"),
        (100, 200, 601, True, "negative"),
    ],
)
def test_nelson_growth(before, after, days, incidence, result):
    advice = advise_nelson_growth(nodule(volume=before), nodule(volume=after, day=days), incidence_round=incidence)
    assert advice.advice.startswith(result)
    assert any("unverified" in source for source in advice.sources) is (days == 500)


@pytest.mark.parametrize(
    ("mm3", "group"), [(29.4, "low"), (29.5, "medium"), (30, "medium"), (199.4, "medium"), (200, "high")]
)
def test_nelson_new_solid(mm3, group):
    result = advise_nelson_new_solid(nodule(volume=mm3))
    assert result.group == f"new solid, {group} probability"
    assert result.sources[0].startswith("unverified")


def test_nelson_new_solid_needs_a_volume_of_a_solid_nodule():
    assert advise_nelson_new_solid(nodule()).needs == ("volume",)
    assert advise_nelson_new_solid(nodule(GGN, volume=50)).group == "not applicable"


@pytest.mark.parametrize(
    ("before", "after", "days", "suspicious"),
    [(100, 200, 900, True), (50, 100, 590, True), (50, 100, 591, False), (100, 90, 90, False), (300, 250, 90, True)],
)
def test_new_nodules_that_do_not_resolve(before, after, days, suspicious):
    assert is_suspicious_after_new(nodule(volume=before), nodule(volume=after, day=days)) is suspicious
    assert is_suspicious_after_new(nodule(), nodule(volume=after, day=days)) is None


@pytest.mark.parametrize(
    ("mm3", "new", "referred"), [(300, False, False), (300.5, False, True), (200, True, False), (201, True, True)]
)
def test_eu_position_is_strict(mm3, new, referred):
    assert advise_eu_position(nodule(volume=mm3), new=new).advice.startswith("referral") is referred
    assert advise_eu_position(nodule(), new=new).needs == ("volume",)

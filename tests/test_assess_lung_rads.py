"""Lung-RADS v2022: every row of the table, every boundary, every declared choice, and the order of decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungscreen.assess import (
    RANK,
    LungRads,
    NoduleAtExam,
    NoduleHistory,
    grade_nodule,
    measured_nodule,
    name_growth,
    read_category,
)
from lungscreen.assess.change import judge_change
from lungscreen.records import Measurement, NoduleType

SOLID, PART, GGN = NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS
DAY0 = date(2020, 1, 15)


def nodule(kind, mm, solid=None, *, day=0, category="", volume=None, solid_volume=None, juxta=None):
    """A nodule with equal axes, `day` days after the first exam."""
    return NoduleAtExam(
        DAY0 + timedelta(days=day),
        kind,
        mm,
        mm,
        solid_mean_diameter_mm=solid,
        volume_mm3=volume,
        solid_volume_mm3=solid_volume,
        juxtapleural=juxta,
        category=category,
    )


def graded(*exams, new=False, **facts):
    """Category's name for a nodule seen at `exams`, oldest first."""
    return str(grade_nodule(NoduleHistory(exams[-1], exams[:-1], compared=new or len(exams) > 1, **facts)).name)


# -- rows by size ----------------------------------------------------------------------------------------------------
BASELINE = [
    *[(SOLID, mm, None, category) for mm, category in [
        (3.0, "2"), (5.9, "2"), (5.94, "2"), (5.95, "3"), (6.0, "3"), (7.9, "3"), (7.94, "3"), (7.95, "4A"), (8.0,
        "4A"),
        (14.9, "4A"), (14.95, "4B"), (15.0, "4B"), (30.0, "4B"), (80.0, "4B"),
    ]],
    (PART, 5.9, 5.0, "2"), (PART, 5.9, None, "2"), (PART, 5.94, 5.9, "2"), (PART, 5.95, 0.0, "3"),
    (PART, 6.0, 5.9, "3"), (PART, 12.0, 5.94, "3"), (PART, 12.0, 5.95, "4A"), (PART, 12.0, 6.0, "4A"),
    (PART, 12.0, 7.9, "4A"), (PART, 12.0, 7.95, "4B"), (PART, 12.0, 8.0, "4B"), (PART, 40.0, 0.0, "3"),
    (GGN, 3.0, None, "2"), (GGN, 29.9, None, "2"), (GGN, 29.94, None, "2"), (GGN, 29.95, None, "3"),
    (GGN, 30.0, None, "3"), (GGN, 60.0, None, "3"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mm", "solid", "category"), BASELINE)
def test_baseline_row(kind, mm, solid, category):
    assert graded(nodule(kind, mm, solid)) == category


NEW = [
    *[(SOLID, mm, None, category) for mm, category in [
        (3.0, "2"), (3.9, "2"), (3.94, "2"), (3.95, "3"), (4.0, "3"), (5.9, "3"), (5.95, "4A"), (6.0, "4A"),
        (7.9, "4A"), (7.95, "4B"), (8.0, "4B"), (20.0, "4B"),
    ]],
    (PART, 5.9, 1.0, "3"), (PART, 5.9, 3.94, "3"), (PART, 5.9, 3.95, "4B"), (PART, 5.9, 4.0, "4B"),
    (PART, 6.0, 1.0, "4A"), (PART, 6.0, 3.9, "4A"), (PART, 6.0, 4.0, "4B"), (PART, 5.95, 0.0, "4A"),
    (GGN, 29.9, None, "2"), (GGN, 30.0, None, "3"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "mm", "solid", "category"), NEW)
def test_row_for_a_new_nodule(kind, mm, solid, category):
    assert graded(nodule(kind, mm, solid), new=True) == category


@pytest.mark.parametrize(
    ("axes", "new", "juxta", "category"),
    [
        ((6.1, 5.8), False, False, "3"),
        ((8.1, 7.8), False, False, "4A"),
        ((4.1, 3.8), True, False, "3"),
        ((10.0, 9.9), False, True, "4A"),
        ((15.0, 14.9), False, False, "4B"),
        ((6.0, 5.9), False, False, "3"),
    ],
)
def test_rounding_golden_values_of_choice_g(axes, new, juxta, category):
    """Half-up in Decimal, each axis and then the mean: binary floats get these wrong."""
    seen = NoduleAtExam(DAY0, SOLID, *axes, juxtapleural=juxta)
    assert str(grade_nodule(NoduleHistory(seen, compared=new)).name) == category


def test_each_axis_is_rounded_before_the_mean():
    """6.05 and 5.84 are 6.1 and 5.8, whose mean is 5.95 → 6.0; the mean of the raw axes would be 5.9."""
    assert NoduleAtExam(DAY0, SOLID, 6.05, 5.84).mean_diameter_mm == Decimal("6.0")


@pytest.mark.parametrize(
    ("mm", "new", "category"),
    [
        (9.9, False, "2"),
        (9.9, True, "2"),
        (10.0, False, "4A"),
        (10.0, True, "4B"),
        (9.95, False, "4A"),
        (15.0, False, "4B"),
    ],
)
def test_juxtapleural_row_is_for_baseline_and_new_below_10_mm(mm, new, category):
    assert graded(nodule(SOLID, mm, juxta=True), new=new) == category


@pytest.mark.parametrize("kind", [PART, GGN])
def test_juxtapleural_row_is_for_solid_nodules_only(kind):
    assert graded(nodule(kind, 9.0, 7.0, juxta=True)) == ("4A" if kind is PART else "2")


@pytest.mark.parametrize("pattern", ["calcification", "fat"])
@pytest.mark.parametrize("kind", list(NoduleType))
def test_benign_pattern_is_category_1_whatever_else_holds(pattern, kind):
    """Step 1 comes before all others, even for a grown 4B."""
    exams = nodule(kind, 10, 5, category="4B"), nodule(kind, 20, 15, day=90)
    assert graded(*exams, benign_pattern=pattern) == "1"


def test_calcified_type_means_a_benign_pattern():
    assert graded(nodule(NoduleType.CALCIFIED, 20)) == "1"


# -- volume (choice h) -----------------------------------------------------------------------------------------------
VOLUMES = [
    (SOLID, False, 112.4, "2"), (SOLID, False, 112.5, "3"), (SOLID, False, 112.7, "3"), (SOLID, False, 113, "3"),
    (SOLID, False, 267.4, "3"), (SOLID, False, 267.5, "4A"), (SOLID, False, 268, "4A"), (SOLID, False, 1766.4, "4A"),
    (SOLID, False, 1766.5, "4B"), (SOLID, True, 33.4, "2"), (SOLID, True, 33.5, "3"), (SOLID, True, 112.4, "3"),
    (SOLID, True, 113, "4A"), (SOLID, True, 267.4, "4A"), (SOLID, True, 268, "4B"),
    (GGN, False, 14136.4, "2"), (GGN, False, 14136.5, "3"), (GGN, True, 14136, "2"), (GGN, True, 14137, "3"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "new", "mm3", "category"), VOLUMES)
def test_volume_cuts_are_the_printed_integers(kind, new, mm3, category):
    history = NoduleHistory(nodule(kind, 5.0, volume=mm3), compared=new)
    assert grade_nodule(history, "volume").name == category


@pytest.mark.parametrize(
    ("total", "solid", "new", "category"),
    [
        (112.4, 100, False, "2"),
        (112.5, 112.4, False, "3"),
        (900, 112.5, False, "4A"),
        (900, 267.4, False, "4A"),
        (900, 267.5, False, "4B"),
        (112, 33.4, True, "3"),
        (112, 33.5, True, "4B"),
        (113, 33, True, "4A"),
    ],
)
def test_volume_cuts_of_part_solid_nodules(total, solid, new, category):
    history = NoduleHistory(nodule(PART, 5.0, 1.0, volume=total, solid_volume=solid), compared=new)
    assert grade_nodule(history, "volume").name == category


@pytest.mark.parametrize(("mm3", "category"), [(523.4, "2"), (523.5, "4A"), (524, "4A")])
def test_juxtapleural_volume_cut(mm3, category):
    history = NoduleHistory(nodule(SOLID, 9.0, volume=mm3, juxta=True))
    assert grade_nodule(history, "volume").name == category


def test_measures_that_disagree_are_both_shown_and_said():
    """The diameter decides by default, the setting switches, the other stands beside."""
    history = NoduleHistory(nodule(SOLID, 5.9, volume=120))
    by_diameter, by_volume = grade_nodule(history), grade_nodule(history, "volume")
    assert (by_diameter.name, by_diameter.other) == ("2", "3")
    assert (by_volume.name, by_volume.other) == ("3", "2")
    assert [notice.code for notice in by_diameter.notices] == ["measures-disagree"]
    assert by_diameter.reason.endswith("(by volume: 3)")
    assert by_volume.reason.endswith("(by diameter: 2)")


def test_measures_that_agree_give_no_notice():
    graded_by = grade_nodule(NoduleHistory(nodule(SOLID, 6.0, volume=113)))
    assert (graded_by.name, graded_by.other, graded_by.notices) == ("3", "3", ())


def test_a_small_part_solid_nodule_needs_no_solid_volume_for_its_row():
    """Below 113 mm³ at baseline the row asks for the total only (choice d); from there on it asks for both."""
    small = grade_nodule(NoduleHistory(nodule(PART, 6.4, 5.0, volume=112.4)), "volume")
    assert (small.name, small.notices[0].code) == ("2", "measures-disagree")
    assert "volume-unknown" not in [notice.code for notice in small.notices]
    large = grade_nodule(NoduleHistory(nodule(PART, 6.4, 6.5, volume=112.5)), "volume")
    assert (large.name, [n.code for n in large.notices]) == ("4A", ["volume-unknown"])
    assert grade_nodule(NoduleHistory(nodule(PART, 6.4, 5.0, volume=112.4))).other == "2"


def test_a_row_asks_only_for_the_volumes_that_it_needs():
    """Growth is told by diameters; its row by today's volume, whatever is known of the earlier one's."""
    history = NoduleHistory(nodule(SOLID, 7.9, day=90, volume=268), (nodule(SOLID, 6.0, category="3"),))
    result = grade_nodule(history, "volume")
    assert (result.name, result.other) == ("4B", "4A")


def test_an_unknown_volume_falls_back_to_the_diameter_and_says_so():
    result = grade_nodule(NoduleHistory(nodule(SOLID, 6.0)), "volume")
    assert (result.name, result.other) == ("3", "")
    assert [notice.code for notice in result.notices] == ["volume-unknown"]


def test_growth_stays_with_the_diameter_under_the_volume_setting():
    """A volume that trebled is no growth where the mean diameter says so."""
    before = nodule(SOLID, 6.0, category="3", volume=120)
    after = nodule(SOLID, 6.5, day=180, volume=260)
    assert grade_nodule(NoduleHistory(after, (before,)), "volume").name == "2"


# -- growth (choice f) and the growing rows --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "after", "days", "category"),
    [
        (3.9, 5.4, 180, "2"),  # +1.5 mm is no growth
        (3.9, 5.5, 180, "4A"),  # +1.6 mm is; <8 mm
        (6.4, 8.0, 366, "4B"),  # 12 months are at most 366 days; ≥8 mm
        (6.0, 7.6, 90, "4A"),
        (6.34, 7.85, 90, "4A"),  # 6.3 → 7.9 as rounded
        (6.0, 7.6, 367, "4A"),  # longer than a year, between 1.5 and 3 mm: undetermined, read as grown
        (6.0, 9.0, 730, "4B"),  # +3.0 in 2 years: undetermined, read as grown
        (6.0, 9.1, 730, "4B"),  # +3.1 in 2 years: grown
        (6.0, 7.5, 730, "2"),  # +1.5 mm over any interval is no growth
    ],
)
def test_solid_growth(before, after, days, category):
    prior = "2" if before < 6 else "3"
    assert graded(nodule(SOLID, before, category=prior), nodule(SOLID, after, day=days)) == category


@pytest.mark.parametrize(("days", "said"), [(366, False), (367, True), (730, True)])
def test_undetermined_growth_is_said(days, said):
    result = grade_nodule(NoduleHistory(nodule(SOLID, 7.6, day=days), (nodule(SOLID, 6.0, category="3"),)))
    assert result.name == "4A"
    assert ("growth-undetermined" in [notice.code for notice in result.notices]) is said


def test_growth_against_an_exam_within_12_months_counts_though_the_last_step_was_small():
    """6.0 / 7.0 / 8.0 mm at 0 / 6 / 12 months has grown by f: 4B by its size (choice n)."""
    result = grade_nodule(
        NoduleHistory(
            nodule(SOLID, 8.0, day=366), (nodule(SOLID, 6.0, category="3"), nodule(SOLID, 7.0, day=183, category="3"))
        )
    )
    assert result.name == "4B"
    assert "growing" in result.clause


def test_an_older_exam_more_than_12_months_back_is_not_compared_for_growth():
    exams = nodule(SOLID, 6.0, category="3"), nodule(SOLID, 7.6, day=400, category="3"), nodule(SOLID, 7.6, day=600)
    assert graded(*exams) == "2"


def test_a_growing_juxtapleural_nodule_follows_the_rules_for_solid_ones():
    exams = nodule(SOLID, 5.0, category="2", juxta=True), nodule(SOLID, 7.0, day=180, juxta=True)
    assert graded(*exams) == "4A"


@pytest.mark.parametrize(
    ("solid", "category"), [(1.0, "4A"), (3.9, "4A"), (3.94, "4A"), (3.95, "4B"), (4.0, "4B"), (7.0, "4B")]
)
@pytest.mark.parametrize("total", [5.0, 8.0, 20.0])
def test_ground_glass_that_became_part_solid_has_a_new_solid_part(total, solid, category):
    """Whatever the total, and however small the change (choice b)."""
    assert graded(nodule(GGN, total, category="2"), nodule(PART, total, solid, day=365)) == category


@pytest.mark.parametrize(("mm", "category"), [(3.9, "4A"), (4.0, "4B"), (12.0, "4B")])
def test_ground_glass_that_became_solid(mm, category):
    assert graded(nodule(GGN, 12.0, category="2"), nodule(SOLID, mm, day=365)) == category


@pytest.mark.parametrize(("mm", "category"), [(3.9, "4A"), (6.1, "4B"), (9.0, "4B")])
def test_part_solid_that_became_solid_is_growth_of_the_solid_part(mm, category):
    assert graded(nodule(PART, 9.0, 6.0, category="3"), nodule(SOLID, mm, day=365)) == category


@pytest.mark.parametrize(
    ("before", "after", "category"),
    [
        ((9.0, 1.0), (9.0, 2.6), "4A"),  # solid part +1.6, <4
        ((9.0, 2.4), (9.0, 4.0), "4B"),  # solid part +1.6, ≥4
        ((9.0, 2.4), (9.0, 3.9), "2"),  # +1.5: stable, prior 3 at 6 months
        ((5.0, 2.0), (5.5, 4.5), "4B"),  # whatever the total
        ((9.0, 3.0), (11.0, 4.0), "3"),  # total grown, solid part not: no step-down
    ],
)
def test_part_solid_growth(before, after, category):
    exams = nodule(PART, *before, category="2" if before[0] < 6 else "3"), nodule(PART, *after, day=183)
    assert graded(*exams) == category


@pytest.mark.parametrize(("prior", "category"), [("2", "4A"), ("3", "4A"), ("4A", "4A"), ("4B", "4B"), ("", "4A")])
def test_total_growth_alone_takes_the_highest_of_prior_baseline_cuts_and_3(prior, category):
    exams = nodule(PART, 8.0, 6.0, category=prior), nodule(PART, 10.0, 6.5, day=90)
    assert graded(*exams) == category


def test_total_growth_of_a_small_part_solid_nodule_is_at_least_3():
    assert graded(nodule(PART, 4.0, 1.0, category="2"), nodule(PART, 5.8, 1.5, day=90)) == "3"


@pytest.mark.parametrize(
    ("exams", "category"),
    [
        ((nodule(SOLID, 7.0, category="3"), nodule(PART, 9.0, 5.0, day=183)), "2"),
        ((nodule(SOLID, 7.0, category="3"), nodule(GGN, 9.0, day=183)), "2"),
        ((nodule(PART, 7.0, 5.0, category="3"), nodule(GGN, 12.0, day=183)), "2"),
        ((nodule(PART, 29.0, 5.0, category="3"), nodule(GGN, 33.0, day=183)), "2"),
        ((nodule(SOLID, 5.8, category="2"), nodule(PART, 6.1, 5.0, day=183)), "3"),  # total crossed 6 mm
    ],
)
def test_becoming_less_solid_is_no_growth(exams, category):
    """The rows of the new type, no growth (choice b)."""
    assert graded(*exams) == category


def test_less_solid_with_a_larger_solid_part_is_said():
    history = NoduleHistory(nodule(PART, 9.0, 7.4, day=183), (nodule(SOLID, 7.0, category="3"),))
    assert [notice.code for notice in grade_nodule(history).notices] == ["type-size-disagree"]


# -- slow growth (choice n) ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("sizes", "days", "category"),
    [
        ((6.0, 6.8, 7.6), (0, 365, 731), "4B"),  # the golden case
        ((6.0, 6.7, 7.5), (0, 365, 731), "2"),  # +1.5 in all is not more than 1.5
        ((6.0, 6.8, 6.8, 7.6), (0, 365, 731, 1096), "2"),  # one step was not up
        ((6.0, 6.0, 6.8, 7.6), (0, 365, 731, 1096), "4B"),  # the last three exams step up
        ((4.0, 6.0, 6.2), (0, 366, 1100), "2"),  # +2.0 mm within 12 months was no slow growth
        ((4.0, 6.0, 6.2), (0, 367, 1100), "4B"),
        ((6.0, 7.6), (0, 366), "4A"),  # two exams: growth, not slow growth
        ((4.0, 6.0, 6.8, 7.7), (0, 300, 700, 1100), "4B"),  # an earlier fast step does not switch later runs off
        ((6.0, 6.8, 7.7), (300, 700, 1100), "4B"),  # the same without the first exam
        ((2.0, 4.0, 5.9, 6.6, 7.5), (0, 100, 300, 800, 1300), "4B"),  # two fast steps before it
    ],
)
def test_slow_growth_of_a_solid_nodule(sizes, days, category):
    exams = [nodule(SOLID, mm, day=day, category="3") for mm, day in zip(sizes, days, strict=True)]
    assert graded(*exams) == category


def test_slow_growth_of_the_solid_part():
    exams = [nodule(PART, 10.0, mm, day=day, category="3") for mm, day in ((2.0, 0), (2.8, 365), (3.6, 731))]
    assert graded(*exams) == "4B"


def test_an_earlier_exam_never_lowers_slow_growth():
    """Whatever stands before a run that grew slowly, it stays 4B."""
    run = [nodule(SOLID, mm, day=day, category="3") for mm, day in ((6.0, 900), (6.8, 1300), (7.7, 1700))]
    for mm in (3.0, 4.4, 5.9, 6.0, 9.0):
        for day in (0, 500, 899):
            assert graded(nodule(SOLID, mm, day=day, category="3"), *run) == "4B"


def test_slow_growth_of_ground_glass_stays_2():
    exams = [nodule(GGN, mm, day=day, category="2") for mm, day in ((10.0, 0), (10.8, 365), (11.6, 731))]
    assert graded(*exams) == "2"


def test_fast_growth_in_the_past_is_no_slow_growth():
    """+2.0 mm in 90 days at the first step, then small ones: note 8 is not about this nodule."""
    exams = [nodule(SOLID, mm, day=day, category="3") for mm, day in ((4.0, 0), (6.0, 90), (6.1, 600), (6.2, 1000))]
    assert graded(*exams) == "2"


# -- step 5: 4B and 4X stay ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("prior", ["4B", "4X"])
@pytest.mark.parametrize("kind", [SOLID, PART, GGN])
@pytest.mark.parametrize("days", [30, 90, 400, 2000])
def test_4b_and_4x_stay_until_proven_benign(prior, kind, days):
    exams = nodule(kind, 16.0, 9.0, category=prior), nodule(kind, 15.0, 8.0, day=days)
    assert graded(*exams) == prior
    assert graded(*exams, proven_benign=True) == "2"


def test_growth_comes_before_proven_benign():
    exams = nodule(SOLID, 10.0, category="4B"), nodule(SOLID, 12.0, day=90)
    assert graded(*exams, proven_benign=True) == "4B"


@pytest.mark.parametrize("prior", ["4B", "4X"])
@pytest.mark.parametrize(
    ("before", "now"),
    [
        (nodule(PART, 9.0, 5.0), nodule(PART, 9.0, day=90)),
        (nodule(PART, 9.0), nodule(PART, 9.0, 5.0, day=90)),
        (nodule(SOLID, 9.0), nodule(NoduleType.UNKNOWN, 9.0, day=90)),
    ],
)
def test_a_4b_whose_sizes_are_lacking_is_at_least_that(prior, before, now):
    """No size could lower it: only proof of the benign does. Any other nodule is then not assessed."""
    result = grade_nodule(NoduleHistory(now, (replace(before, category=prior),)))
    assert (result.name, [n.code for n in result.notices]) == (prior, ["not-assessed"])
    assert grade_nodule(NoduleHistory(now, (replace(before, category="4A"),))).name == "not assessed"


@pytest.mark.parametrize("prior", ["4B", "4X"])
@pytest.mark.parametrize(
    "exams",
    [
        (nodule(SOLID, 5.0), nodule(SOLID, 7.0, day=90)),  # its row gives 4A
        (nodule(SOLID, 5.0), nodule(SOLID, 7.0, day=500)),  # undetermined, read as grown
        (nodule(PART, 9.0, 1.0), nodule(PART, 9.0, 3.0, day=90)),
        (nodule(GGN, 9.0), nodule(PART, 9.0, 2.0, day=90)),
        (nodule(PART, 8.0, 2.0), nodule(PART, 12.0, 2.0, day=90)),
        (nodule(GGN, 31.0), nodule(GGN, 40.0, day=90)),
        (nodule(SOLID, 6.0), nodule(SOLID, 6.8, day=365), nodule(SOLID, 7.6, day=731)),  # slow growth gives 4B
    ],
)
def test_growth_lowers_no_4b_or_4x(prior, exams):
    """A prior 4B or 4X that grew stays at least that, and both are said; only proof of the benign lowers it."""
    *earlier, last, now = exams
    seen = (*earlier, replace(last, category=prior))
    result = grade_nodule(NoduleHistory(now, seen))
    assert result.name == prior
    assert prior in result.clause or "slow growth" in result.clause


def test_the_row_that_growth_would_have_given_is_said():
    result = grade_nodule(NoduleHistory(nodule(SOLID, 7.0, day=90), (nodule(SOLID, 5.0, category="4B"),)))
    assert result.name == "4B"
    (notice,) = [notice for notice in result.notices if notice.code == "prior-category-higher"]
    assert "gives 4A" in notice.text
    assert result.management.startswith("referral")
    proven = NoduleHistory(nodule(SOLID, 7.0, day=90), (nodule(SOLID, 5.0, category="4B"),), proven_benign=True)
    assert grade_nodule(proven).name == "4A"


def test_a_4b_that_turns_out_calcified_is_1_and_said():
    """Step 1 comes first; that the last exam was suspicious is for a reader to weigh."""
    exams = (nodule(SOLID, 9.0, category="4B"),)
    result = grade_nodule(NoduleHistory(nodule(NoduleType.CALCIFIED, 9.0, day=90), exams))
    assert (result.name, [notice.code for notice in result.notices]) == ("1", ["prior-category-higher"])


# -- step 6: ground-glass at follow-up (choice e) --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "after", "days", "category"),
    [
        (10.0, 20.0, 180, "2"),
        (28.0, 29.9, 180, "2"),
        (28.0, 30.0, 180, "3"),  # crossed and grown
        (29.0, 30.0, 180, "2"),  # crossed, not grown: c and m do not apply
        (35.0, 37.0, 180, "3"),  # was larger before, grown
        (35.0, 36.5, 30, "2"),  # slowly growing, at any interval
        (35.0, 35.0, 10, "2"),
        (35.0, 31.0, 10, "2"),
        (35.0, 37.0, 400, "3"),  # undetermined: read as grown
    ],
)
@pytest.mark.parametrize("prior", ["2", "3", "", "0"])
def test_ground_glass_at_follow_up(before, after, days, category, prior):
    assert graded(nodule(GGN, before, category=prior), nodule(GGN, after, day=days)) == category


@pytest.mark.parametrize(("volume", "flagged"), [(1000, True), (999, False), (400, False)])
def test_ground_glass_that_doubles_in_a_year_stays_2_and_is_flagged(volume, flagged):
    history = NoduleHistory(nodule(GGN, 12.0, day=365, volume=volume), (nodule(GGN, 10.0, category="2", volume=500),))
    result = grade_nodule(history)
    assert result.name == "2"
    assert ("consider-4x" in [notice.code for notice in result.notices]) is flagged


# -- step 7: step-down (choice c) and crossing (choice m) ------------------------------------------------------------
@pytest.mark.parametrize(
    ("prior", "days", "category"),
    [
        ("1", 10, "2"), ("2", 10, "2"), ("3", 149, "3"), ("3", 150, "2"), ("3", 700, "2"), ("4A", 74, "4A"),
        ("4A", 75, "3"), ("4A", 700, "3"), ("3S", 150, "2"), ("4a", 75, "3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(("kind", "solid"), [(SOLID, None), (PART, 5.0)])
def test_step_down(prior, days, category, kind, solid):
    assert graded(nodule(kind, 7.0, solid, category=prior), nodule(kind, 7.0, solid, day=days)) == category


@pytest.mark.parametrize("prior", ["", "0", "not assessed", "5"])
def test_an_unknown_prior_category_leaves_the_baseline_cuts_and_is_said(prior):
    result = grade_nodule(NoduleHistory(nodule(SOLID, 7.0, day=700), (nodule(SOLID, 7.0, category=prior),)))
    assert result.name == "3"
    assert [notice.code for notice in result.notices] == ["prior-category-unknown"]


@pytest.mark.parametrize(
    ("categories", "days", "category"),
    [
        (("3", "3"), (0, 100, 160), "2"),  # counts from the first 3
        (("4A", "3"), (0, 100, 160), "3"),  # the 3 began at day 100
        (("4A", "3"), (0, 100, 250), "2"),
        (("3", "4A", "3"), (0, 90, 180, 300), "3"),  # a higher one in between: counts from the later 3
        (("3", "2", "3"), (0, 90, 180, 300), "2"),  # a lower one in between: counts from the first 3
        (("3", "", "3"), (0, 90, 100, 160), "2"),  # so does one that is not known
        (("4A", "4A"), (0, 50, 80), "3"),
        (("4B", "4A"), (0, 50, 80), "4A"),
    ],
)
def test_interval_counts_from_the_exam_where_the_category_began(categories, days, category):
    exams = [nodule(SOLID, 9.0, day=day, category=c) for c, day in zip((*categories, ""), days, strict=True)]
    assert graded(*exams) == category


@pytest.mark.parametrize(
    ("kind", "before", "after", "prior", "days", "category"),
    [
        (SOLID, (7.8,), (8.1,), "3", 183, "4A"),  # golden
        (SOLID, (5.7,), (6.2,), "2", 365, "3"),  # golden
        (SOLID, (14.8,), (15.2,), "4A", 90, "4B"),
        (SOLID, (8.1,), (7.8,), "4A", 90, "3"),  # downward: step-down only
        (SOLID, (8.1,), (7.8,), "4A", 30, "4A"),
        (SOLID, (6.0,), (7.4,), "2", 365, "2"),  # no cut crossed
        (PART, (5.8, 3.0), (6.1, 3.0), "2", 365, "3"),  # total 6
        (PART, (9.0, 5.8), (9.0, 6.1), "3", 183, "4A"),  # solid 6
        (PART, (9.0, 7.8), (9.0, 8.1), "4A", 90, "4B"),  # solid 8
        (PART, (9.0, 8.1), (9.0, 7.8), "4A", 90, "3"),
    ],
)
def test_a_baseline_cut_crossed_upward(kind, before, after, prior, days, category):
    assert graded(nodule(kind, *before, category=prior), nodule(kind, *after, day=days)) == category


def test_a_stable_juxtapleural_nodule_stays_2():
    exams = nodule(SOLID, 9.5, category="2", juxta=True), nodule(SOLID, 9.6, day=365, juxta=True)
    assert graded(*exams) == "2"


def test_a_juxtapleural_nodule_that_reaches_10_mm_takes_the_solid_bands():
    exams = nodule(SOLID, 9.5, category="2", juxta=True), nodule(SOLID, 10.2, day=365, juxta=True)
    assert graded(*exams) == "4A"


# -- 4X (choice j) and flags -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mm", "category"), [(5.0, "2"), (6.0, "4X"), (9.0, "4X"), (16.0, "4X")])
def test_4x_comes_from_a_reader_and_from_3_or_4_only(mm, category):
    result = grade_nodule(NoduleHistory(nodule(SOLID, mm), suspicious=True))
    assert result.name == category
    assert ("consider-4x" in [notice.code for notice in result.notices]) is (category == "2")


def test_a_new_solid_nodule_of_8_mm_is_4b_with_the_inflammation_flag():
    result = grade_nodule(NoduleHistory(nodule(SOLID, 8.0), compared=True))
    assert result.name == "4B"
    assert [notice.code for notice in result.notices] == ["inflammation-possible"]


# -- what is missing -------------------------------------------------------------------------------------------------
def test_an_unknown_type_is_not_assessed():
    result = grade_nodule(NoduleHistory(nodule(NoduleType.UNKNOWN, 9.0)))
    assert result.name == "not assessed"
    assert result.needs == ("nodule type (solid, part-solid or ground-glass)",)
    assert result.management == ""


def test_an_unknown_solid_part_is_not_assessed_where_a_row_asks_for_it():
    assert grade_nodule(NoduleHistory(nodule(PART, 9.0))).needs == ("size of the solid part",)
    history = NoduleHistory(nodule(PART, 9.0, 5.0, day=90), (nodule(PART, 9.0, category="3"),))
    assert grade_nodule(history).needs == ("size of the solid part on 2020-01-15",)


def test_an_unknown_type_at_the_earlier_exam_is_compared_as_the_present_one_and_said():
    history = NoduleHistory(nodule(SOLID, 7.0, day=183), (nodule(NoduleType.UNKNOWN, 7.0, category="3"),))
    result = grade_nodule(history)
    assert result.name == "2"
    assert [notice.code for notice in result.notices] == ["prior-type-unknown"]


@pytest.mark.parametrize(
    ("first", "second"), [(DAY0, DAY0), (DAY0, DAY0 - timedelta(days=1)), (None, DAY0), (DAY0, None)]
)
def test_exams_out_of_order_or_without_a_date_are_refused(first, second):
    with pytest.raises(ValueError, match=r"order of time|dates"):
        NoduleHistory(NoduleAtExam(second, SOLID, 6, 6), (NoduleAtExam(first, SOLID, 6, 6),))


@pytest.mark.parametrize(
    "sizes",
    [
        {"long_axis_mm": 0, "short_axis_mm": 0},
        {"long_axis_mm": 5, "short_axis_mm": 6},
        {"long_axis_mm": float("nan"), "short_axis_mm": 5},
        {"long_axis_mm": float("inf"), "short_axis_mm": 5},
        {"long_axis_mm": 5, "short_axis_mm": 5, "volume_mm3": -1},
        {"long_axis_mm": 5, "short_axis_mm": 5, "volume_mm3": 0},
        {"long_axis_mm": 5, "short_axis_mm": 5, "solid_mean_diameter_mm": -0.1},
    ],
)
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(ValueError, match=r"expected|short axis"):
        NoduleAtExam(DAY0, SOLID, **sizes)


# -- words -----------------------------------------------------------------------------------------------------------
def test_reason_and_clause_name_the_row_and_the_comparison():
    first = grade_nodule(NoduleHistory(nodule(SOLID, 6.0)))
    assert first.clause == "Lung-RADS v2022, category 3: solid ≥6 to <8 mm (113 to <268 mm³) at baseline"
    assert first.reason.startswith("solid, 6.0 mm, as baseline: category 3")
    assert first.management == "low-dose CT in 6 months"
    later = grade_nodule(NoduleHistory(nodule(PART, 9.0, 5.0, day=183), (nodule(PART, 9.0, 5.0, category="3"),)))
    assert later.reason.startswith("part-solid, 9.0 mm, solid part 5.0 mm (9.0 mm on 2020-01-15, 183 days ago)")
    third = NoduleHistory(nodule(SOLID, 6.0, day=400), (nodule(SOLID, 5.0), nodule(SOLID, 6.0, day=30, category="2")))
    assert "(6.0 mm on 2020-02-14, 370 days ago)" in grade_nodule(third).reason
    assert "new" in grade_nodule(NoduleHistory(nodule(GGN, 9.0), compared=True)).reason
    assert "113 mm³" in grade_nodule(NoduleHistory(nodule(SOLID, 6.0, volume=112.7)), "volume").reason


@pytest.mark.parametrize(
    ("exams", "compared", "words"),
    [
        ((nodule(SOLID, 6.0),), False, "not assessed: no prior"),
        ((nodule(SOLID, 6.0),), True, "new"),
        ((nodule(SOLID, 6.0), nodule(SOLID, 7.6, day=90)), True, "grown"),
        ((nodule(GGN, 6.0), nodule(PART, 6.0, 1.0, day=90)), True, "grown"),
        ((nodule(SOLID, 6.0), nodule(SOLID, 7.5, day=90)), True, "larger, within the limits of stability"),
        ((nodule(SOLID, 6.0), nodule(SOLID, 6.0, day=90)), True, "stable"),
        ((nodule(SOLID, 6.0), nodule(SOLID, 4.4, day=90)), True, "smaller"),
        ((nodule(NoduleType.CALCIFIED, 6.0), nodule(NoduleType.CALCIFIED, 6.0, day=90)), True, "stable"),
    ],
)
def test_growth_in_words(exams, compared, words):
    assert name_growth(NoduleHistory(exams[-1], exams[:-1], compared=compared)) == words


@pytest.mark.parametrize(
    ("text", "name"),
    [("4a", "4A"), (" 4 A S", "4A"), ("2S", "2"), ("Lung-RADS 4X", "4X"), ("category 3", "3"), ("0", "0"), ("0S", "0")],
)
def test_categories_are_read_as_reports_write_them(text, name):
    assert read_category(text) == name


@pytest.mark.parametrize("text", ["", "5", "4", "not assessed", "4C", "S", "4AB"])
def test_what_is_no_category_is_none(text):
    assert read_category(text) is None


def test_a_measurement_becomes_a_nodule():
    measured = Measurement(9.1, 8.8, 9.0, 9.0, 8.9, 370.4, None, -30, -200, 60, 400, 4.2, 40)
    made = measured_nodule(measured, PART, DAY0)
    assert (made.mean_diameter_mm, made.solid_mm, made.volume_mm3) == (Decimal("9.0"), Decimal("4.2"), 370.4)


# -- properties: total, monotone, and the same whatever the order of words -------------------------------------------
sizes_mm = st.integers(30, 500).map(lambda tenth: Decimal(tenth) / 10)
kinds = st.sampled_from([SOLID, PART, GGN])
names = st.sampled_from(["", "0", "1", "2", "3", "4A", "4B", "4X"])


@st.composite
def exam_seen(draw, day):
    mm = draw(sizes_mm)
    solid = draw(st.integers(0, int(mm * 10)).map(lambda tenth: Decimal(tenth) / 10))
    kind = draw(st.sampled_from(list(NoduleType)))
    volume = draw(st.none() | st.floats(1, 60000))
    return nodule(
        kind,
        mm,
        draw(st.none() | st.just(solid)),
        day=day,
        category=draw(names),
        volume=volume,
        solid_volume=None if volume is None else draw(st.none() | st.floats(0, 1).map(lambda part: part * volume)),
        juxta=draw(st.sampled_from([None, True, False])),
    )


@st.composite
def histories(draw):
    days = sorted(draw(st.sets(st.integers(0, 2000), min_size=1, max_size=4)))
    exams = [draw(exam_seen(day)) for day in days]
    return NoduleHistory(
        exams[-1],
        tuple(exams[:-1]),
        compared=draw(st.booleans()),
        benign_pattern=draw(st.sampled_from(["", "", "", "fat"])),
        proven_benign=draw(st.booleans()),
        suspicious=draw(st.booleans()),
    )


@settings(max_examples=250, deadline=None)
@given(histories(), st.sampled_from(["diameter", "volume"]))
def test_every_combination_gets_a_category_with_reason_and_clause(history, measure):
    """The order of decision is total: a category 1 to 4X, or "not assessed" with what it needs; 0 never."""
    result = grade_nodule(history, measure)
    assert result.name in (*RANK, LungRads.NOT_ASSESSED)
    assert result.clause.startswith("Lung-RADS v2022")
    assert result.reason
    assert bool(result.needs) is (result.name is LungRads.NOT_ASSESSED)
    assert name_growth(history)


@settings(max_examples=100, deadline=None)
@given(kinds, sizes_mm, sizes_mm, st.booleans(), st.booleans())
def test_a_larger_nodule_is_never_less_suspicious(kind, one, other, new, juxta):
    """Monotone in size at baseline and when new; a part-solid one's solid part is half of it."""
    small, large = (
        grade_nodule(NoduleHistory(nodule(kind, mm, mm / 2, juxta=juxta), compared=new)).name
        for mm in sorted((one, other))
    )
    assert RANK[small] <= RANK[large]


@settings(max_examples=100, deadline=None)
@given(kinds, sizes_mm, names, st.integers(1, 1500))
def test_a_nodule_that_stays_as_it_is_never_rises_above_prior_and_baseline(kind, mm, prior, days):
    before, after = nodule(kind, mm, mm / 2, category=prior), nodule(kind, mm, mm / 2, day=days)
    result = grade_nodule(NoduleHistory(after, (before,))).name
    baseline = grade_nodule(NoduleHistory(after)).name
    known = read_category(prior)
    assert RANK[result] <= max(RANK[baseline], RANK.get(known, 0), RANK[LungRads.BENIGN])


@settings(max_examples=100, deadline=None)
@given(kinds, sizes_mm, st.sampled_from(["2", "3", "4A"]), st.integers(1, 1000), st.integers(1, 1000))
def test_a_longer_interval_never_raises_a_stable_nodule(kind, mm, prior, one, other):
    names_by_interval = [
        grade_nodule(NoduleHistory(nodule(kind, mm, mm / 2, day=d), (nodule(kind, mm, mm / 2, category=prior),))).name
        for d in sorted((one, other))
    ]
    assert RANK[names_by_interval[0]] >= RANK[names_by_interval[1]]


def test_growth_beyond_the_whole_of_an_unmeasured_part_solid_nodule_is_growth() -> None:
    """A solid part that was not measured was no larger than its nodule; words and category say the same."""
    history = NoduleHistory(
        nodule(SOLID, 9.0, day=200),
        (nodule(PART, 5.0, day=0), nodule(SOLID, 8.5, day=150, category="3")),
        compared=True,
    )
    result, change = grade_nodule(history), judge_change(history)
    assert result.name is LungRads.SUSPICIOUS_4B
    assert (change.state, change.before_mm, change.now_mm) == ("growing", Decimal("5.0"), Decimal("9.0"))

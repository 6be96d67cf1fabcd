"""Airway nodules, cysts, and the category of the exam."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungscreen.assess import (
    RANK,
    AirwayNodule,
    Category,
    Change,
    CystAtExam,
    CystHistory,
    ExamFacts,
    LungRads,
    grade_airway_nodule,
    grade_cyst,
    grade_exam,
)

DAY0 = date(2021, 3, 1)


# -- airway nodules (table and note 11) ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("proximal", "change", "category"),
    [
        (False, "baseline", "2"),
        (False, "new", "2"),
        (False, "stable", "2"),
        (False, "smaller", "2"),
        (False, "growing", "4A"),
        (True, "baseline", "4A"),
        (True, "new", "4A"),
        (True, "stable", "4B"),
        (True, "growing", "4B"),
        (True, "smaller", "4A"),
    ],
)
def test_airway_row(proximal, change, category):
    assert grade_airway_nodule(AirwayNodule(proximal, Change(change))).name == category


@pytest.mark.parametrize(
    ("facts", "category"),
    [
        ({"multiple_tubular": True, "underlying_nodule": False}, "2"),
        ({"multiple_tubular": True, "underlying_nodule": False, "infection_suspected": True}, "0"),
        ({"multiple_tubular": True, "underlying_nodule": True}, "4A"),
        ({"contains_air": True, "underlying_nodule": False}, "2"),
        ({"contains_air": True, "underlying_nodule": True}, "4A"),
        ({"suspicious": True}, "4X"),
        ({"prior_category": "4B", "proven_benign": True}, "2"),
        ({"prior_category": "3", "proven_benign": True}, "4A"),
        ({"prior_category": "4B"}, "4B"),
    ],
)
def test_airway_facts_of_note_11(facts, category):
    assert grade_airway_nodule(AirwayNodule(True, Change.NEW, **facts)).name == category


def test_a_smaller_airway_nodule_that_was_4b_stays():
    assert grade_airway_nodule(AirwayNodule(True, Change.SMALLER, prior_category="4B")).name == "4B"


@pytest.mark.parametrize("change", ["stable", "growing", "smaller"])
def test_an_airway_nodule_that_persists_from_4a_is_4b(change):
    """Note 11d, smaller or not: it is still there."""
    assert grade_airway_nodule(AirwayNodule(True, Change(change), prior_category="4A")).name == "4B"


@pytest.mark.parametrize("prior", ["4B", "4X"])
@pytest.mark.parametrize("change", list(Change))
@pytest.mark.parametrize("proximal", [True, False, None])
@pytest.mark.parametrize("looks", [{}, {"contains_air": True, "underlying_nodule": False}])
def test_an_airway_nodule_leaves_4b_and_4x_only_when_proven_benign(prior, change, proximal, looks):
    nodule = AirwayNodule(proximal, change, prior_category=prior, **looks)
    assert grade_airway_nodule(nodule).name == prior
    assert grade_airway_nodule(replace(nodule, proven_benign=True)).name == "2"


def test_suspicion_makes_no_category_2_airway_nodule_4x():
    assert grade_airway_nodule(AirwayNodule(False, Change.NEW, suspicious=True)).name == "2"


def test_an_airway_nodule_of_unknown_place_is_not_assessed():
    result = grade_airway_nodule(AirwayNodule(None, Change.NEW))
    assert (result.name, len(result.needs)) == ("not assessed", 1)


# -- cysts (table and note 12) ---------------------------------------------------------------------------------------
def cyst(day=0, wall=2.0, *, multi=False, mm=10.0, nodularity=0.0, category=""):
    return CystAtExam(DAY0 + timedelta(days=day), wall, multi, mm, nodularity, category)


def cyst_category(*exams, **facts):
    return grade_cyst(CystHistory(exams[-1], exams[:-1], **facts)).name


@pytest.mark.parametrize(
    ("exam", "category"),
    [
        (cyst(wall=1.9), "not classified"),
        (cyst(wall=1.94), "not classified"),
        (cyst(wall=1.95), "4A"),
        (cyst(wall=2.0), "4A"),
        (cyst(wall=1.0, multi=True), "4A"),
        (cyst(wall=3.0, multi=True), "4A"),
    ],
)
def test_cyst_at_baseline(exam, category):
    assert cyst_category(exam) == category


@pytest.mark.parametrize(
    ("exams", "facts", "category"),
    [
        ((cyst(category="4A"), cyst(90)), {}, "3"),  # stable at 3 months
        ((cyst(category="4A"), cyst(60)), {}, "4A"),
        ((cyst(category="3"), cyst(180)), {}, "2"),
        ((cyst(category="4A"), cyst(90, mm=11.6)), {}, "3"),  # cystic component grows
        ((cyst(category="2"), cyst(90, mm=11.6)), {}, "3"),
        ((cyst(category="2"), cyst(90, mm=11.5)), {}, "2"),  # +1.5 mm is no growth
        ((cyst(category="4A"), cyst(90, wall=3.6)), {}, "4B"),
        ((cyst(category="4A"), cyst(90, nodularity=1.6)), {}, "4B"),
        ((cyst(category="4A", wall=1.0), cyst(90, wall=2.1)), {}, "4A"),  # became thick-walled
        ((cyst(wall=1.0), cyst(90, wall=1.0, multi=True)), {}, "4A"),  # became multilocular
        ((cyst(multi=True, category="4A"), cyst(90, multi=True)), {}, "3"),
        ((cyst(multi=True, category="4A"), cyst(90, multi=True, mm=12.0)), {}, "4B"),
        ((cyst(wall=1, multi=True, category="4A"), cyst(90, wall=1, multi=True, nodularity=2.0)), {}, "4B"),
        ((cyst(multi=True, category="4A"), cyst(90, multi=True)), {"more_loculation": True}, "4B"),
        ((cyst(multi=True, category="4A"), cyst(90, multi=True)), {"new_opacity": True}, "4B"),
        ((cyst(category="4B"), cyst(90)), {}, "4B"),
        ((cyst(category="4B"), cyst(90)), {"proven_benign": True}, "2"),
        ((cyst(category="4B"), cyst(90, mm=12.0)), {}, "4B"),  # a growing cystic part lowers no 4B
        ((cyst(category="4B"), cyst(90, wall=1.0)), {}, "4B"),
        ((cyst(category="4A"), cyst(90, wall=1.0)), {}, "not classified"),
        ((cyst(category="4A"), cyst(400, mm=10.5), cyst(500, mm=10.5)), {}, "4A"),
        ((cyst(category="4B"), cyst(90, wall=3.6)), {"proven_benign": True}, "4B"),  # growth comes first
        ((cyst(category="4X"), cyst(90, wall=3.6)), {}, "4X"),  # nor does growth lower a 4X
        ((cyst(category="4X"), cyst(90, multi=True)), {}, "4X"),
        ((cyst(category="4B"), cyst(90)), {"fluid_filled": True}, "4B"),
        ((cyst(category="4B"), cyst(90)), {"fluid_filled": True, "proven_benign": True}, "2"),
        ((cyst(), cyst(90)), {"suspicious": True}, "4X"),
        ((cyst(category="4A"), cyst(90)), {"suspicious": True}, "4X"),
        ((cyst(category="3"), cyst(180)), {"suspicious": True}, "2"),
        ((cyst(multi=True), cyst(90, multi=True)), {"fluid_filled": True}, "not classified"),
        ((cyst(multi=True), cyst(90, multi=True)), {"one_of_many": True}, "not classified"),
    ],
)
def test_cyst_at_follow_up(exams, facts, category):
    assert cyst_category(*exams, **facts) == category


def test_a_cyst_of_unknown_prior_category_is_graded_as_baseline_and_said():
    result = grade_cyst(CystHistory(cyst(90), (cyst(),)))
    assert result.name == "4A"
    assert [notice.code for notice in result.notices] == ["prior-category-unknown"]


@pytest.mark.parametrize(("nodule", "expected"), [("4B", "4B"), ("2", "4A"), ("not assessed", "4A")])
def test_cyst_with_a_nodule_takes_the_more_concerning(nodule, expected):
    category = Category(LungRads(nodule), "clause", "reason")
    assert grade_cyst(CystHistory(cyst(), nodule=category)).name == expected


def test_an_unclassified_cyst_with_a_nodule_takes_the_nodules_category():
    category = Category(LungRads.PROBABLY_BENIGN, "clause", "reason")
    assert grade_cyst(CystHistory(cyst(wall=1.0), nodule=category)) is category


def test_impossible_cysts_are_refused():
    with pytest.raises(ValueError, match="at least 0"):
        CystAtExam(DAY0, -1, False)
    with pytest.raises(ValueError, match="order of time"):
        CystHistory(cyst(0), (cyst(5),))
    with pytest.raises(ValueError, match="dates"):
        CystHistory(cyst(0), (CystAtExam(None, 2, False),))


# -- exam ------------------------------------------------------------------------------------------------------------
def categories(*names):
    return [Category(LungRads(name), f"clause of {name}", f"reason of {name}") for name in names]


@pytest.mark.parametrize(
    ("names", "exam"),
    [
        ((), "1"),
        (("1",), "1"),
        (("2", "1"), "2"),
        (("2", "3", "1"), "3"),
        (("4A", "3"), "4A"),
        (("4A", "4B"), "4B"),
        (("4B", "4X", "4A"), "4X"),
        (("not classified",), "1"),
        (("not assessed",), "not assessed"),
        (("not assessed", "2"), "not assessed"),
        (("not assessed", "3"), "3"),
        (("0", "2"), "0"),
        (("0", "4B"), "4B"),
        (("0",), "0"),
    ],
)
def test_the_most_suspicious_nodule_decides(names, exam):
    assert grade_exam(categories(*names)).name == exam


@pytest.mark.parametrize(
    "facts", [ExamFacts(prior_pending=True), ExamFacts(not_evaluable=("apex cut",)), ExamFacts(inflammation=True)]
)
@pytest.mark.parametrize(
    ("names", "exam", "beside"),
    [
        ((), "0", "1"),
        (("3",), "0", "3"),
        (("4A",), "0", "4A"),
        (("4B",), "4B", "0"),
        (("4X",), "4X", "0"),
        (("not assessed",), "0", "not assessed"),
    ],
)
def test_category_0_stands_for_up_to_4a_and_beside_4b_and_4x(facts, names, exam, beside):
    result = grade_exam(categories(*names), facts)
    assert (result.name, result.beside) == (exam, beside)


def test_modifier_s():
    """A modifier on 0 to 4 for significant other findings; None is not assessed."""
    assert grade_exam(categories("2"), ExamFacts(significant_other=True)).label == "2S"
    assert grade_exam(categories("2"), ExamFacts(significant_other=False)).label == "2"
    assert grade_exam(categories("2")).significant_other is None
    assert grade_exam(categories("not assessed"), ExamFacts(significant_other=True)).label == "not assessed"


@pytest.mark.parametrize(("count", "flagged"), [(6, False), (7, True)])
def test_many_new_nodules_are_a_flag_only(count, flagged):
    result = grade_exam(categories("3"), ExamFacts(new_nodules=count))
    assert result.name == "3"
    assert ("inflammation-possible" in [n.code for n in result.notices]) is flagged


def test_reason_names_the_deciding_nodule_and_its_equals():
    result = grade_exam(categories("3", "3", "2"))
    assert result.reason == "the most suspicious nodule decides (and 1 more of category 3): reason of 3"
    assert result.management == "low-dose CT in 6 months"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(list(LungRads)), max_size=5), st.booleans(), st.booleans())
def test_an_exam_always_has_a_category_and_never_hides_a_worse_nodule(names, pending, cut):
    result = grade_exam(
        categories(*names), ExamFacts(prior_pending=pending, not_evaluable=("base cut",) if cut else ())
    )
    assert result.reason
    shown = [RANK.get(LungRads(name), 0) for name in (result.name, result.beside) if name]
    assert max(shown) >= max((RANK.get(name, 0) for name in names if RANK.get(name, 0) >= 3), default=0)

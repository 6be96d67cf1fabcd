"""A study read alone: categories, exam category, Brock as far as data allow, and what is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from lungscreen.assess import (
    AssessConfig,
    FindingFacts,
    NoduleAtExam,
    assess_baseline,
    assess_follow_up,
    share_prior_category,
)
from lungscreen.errors import Notice
from lungscreen.records import (
    Candidate,
    ClinicalData,
    Finding,
    Location,
    LostNodule,
    Lungs,
    Measured,
    Measurement,
    NoduleType,
    PastNodule,
)

WOMAN = ClinicalData(age=65, sex="F", family_history=False, emphysema=False)


def lungs(**flags):
    return Lungs(np.zeros((2, 3, 4), np.uint8), 2500.0, 2300.0, **flags)


def finding(number=1, mm=6.0, kind=NoduleType.SOLID, *, solid=0.0, transverse=8.0, volume=113.0, zone="upper", lobe=""):
    measured = Measurement(mm, mm, mm, transverse, mm, volume, None, -20, -300, 80, 100, solid, 0.0)
    place = Location("left", zone, 30, lobe=lobe)
    return Finding(number, Candidate((1.0, 2.0, 3.0), mm, 0.8), place, Measured(None, measured, kind))


def codes(notices):
    return [notice.code for notice in notices]


def test_each_finding_gets_category_reason_clause_management_and_growth():
    result = assess_baseline([finding(1, 6.0), finding(2, 9.0, volume=400.0)], lungs(), None)
    assert [f.category for f in result.findings] == ["3", "4A"]
    assert result.findings[0].grade.category_clause.endswith("at baseline")
    assert "as baseline" in result.findings[0].grade.category_reason
    assert result.findings[1].grade.management.startswith("low-dose CT in 3 months")
    assert {f.growth for f in result.findings} == {"not assessed: no prior"}
    assert (result.category, result.exam.clause) == ("4A", "Lung-RADS v2022 note 1, category 4A")
    assert "9.0 mm" in result.category_reason


def test_no_finding_is_category_1():
    result = assess_baseline([], lungs(), None)
    assert (result.category, result.category_reason) == ("1", "no nodule was found")
    assert codes(result.notices) == ["as-baseline"]


def test_an_earlier_exam_without_images_is_said_and_changes_nothing():
    clinical = ClinicalData(prior_exam_date="20250102", prior_category="3")
    result = assess_baseline([finding(1, 4.5, volume=50.0)], lungs(), clinical)
    assert result.category == "2"  # "new" would be 3
    assert "20250102" in result.notices[0].text
    assert "category 3" in result.notices[0].text


def test_category_0_for_a_pending_prior_only_when_asked_for():
    findings = [finding(1, 9.0, volume=400.0)]
    assert assess_baseline(findings, lungs(), None).category == "4A"
    pending = assess_baseline(findings, lungs(), None, AssessConfig(prior_pending=True))
    assert (pending.category, pending.exam.beside) == ("0", "4A")


@pytest.mark.parametrize("flag", ["apex_cut", "base_cut", "incomplete"])
@pytest.mark.parametrize(("mm", "category", "beside"), [(4.0, "0", "2"), (9.0, "0", "4A"), (16.0, "4B", "0")])
def test_lungs_that_are_not_evaluable(flag, mm, category, beside):
    result = assess_baseline([finding(1, mm)], lungs(**{flag: True}), None)
    assert (result.category, result.exam.beside) == (category, beside)
    assert "not-evaluable" in codes(result.notices)


def test_a_finding_without_measurement_or_type_is_not_assessed_and_no_negative_exam_is_claimed():
    bare = Finding(2, Candidate((0.0, 0.0, 0.0), 5.0, 0.4), Location("left", "lower", 3), Measured())
    result = assess_baseline([finding(1, 4.0), bare], lungs(), WOMAN)
    assert [f.category for f in result.findings] == ["2", "not assessed"]
    assert result.findings[1].grade.category_reason == "not assessed: needs a measurement"
    assert result.findings[1].grade.risks[0].needs == ("largest transverse diameter",)
    assert result.category == "not assessed"
    positive = assess_baseline([finding(1, 9.0), bare], lungs(), None)
    assert positive.category == "4A"
    assert "at least 4A" in positive.category_reason
    unknown = assess_baseline([finding(1, 9.0, NoduleType.UNKNOWN)], lungs(), None)
    assert unknown.findings[0].category == "not assessed"


def test_calcified_is_category_1_without_brock():
    result = assess_baseline([finding(1, 9.0, NoduleType.CALCIFIED)], lungs(), WOMAN)
    assert result.category == "1"
    assert result.findings[0].grade.risks[0].probability is None


def test_brock_without_person_names_what_it_needs():
    risks = assess_baseline([finding()], lungs(), None).findings[0].grade.risks
    assert [r.probability for r in risks] == [None] * 5
    assert risks[0].needs == ("sex",)
    assert risks[1].needs == ("sex", "spiculation")


def test_brock_takes_the_transverse_size_and_marks_what_was_assumed():
    """Golden: 8 mm, female, upper lobe, 65 years, one nodule; its Lung-RADS mean diameter is another."""
    result = assess_baseline([finding(1, 6.0, transverse=8.0)], lungs(), WOMAN, facts=[FindingFacts(spiculated=False)])
    one_a, one_b, two_a, two_b, _ = result.findings[0].grade.risks
    assert [round(100 * r.probability, 3) for r in (one_a, one_b, two_a, two_b)] == [6.575, 5.760, 7.114, 6.281]
    assert one_a.assumed == ("upper lobe assumed from the zone (upper)",)
    assert "spiculation estimated from the image" in one_b.assumed
    assert "number of nodules: 1 noncalcified findings of this reading" in two_b.assumed


def test_brock_counts_noncalcified_nodules():
    """Golden value of one nodule, whatever benign calcified ones lie beside it; other nodules do lower it."""
    calcified = finding(kind=NoduleType.CALCIFIED)

    def brock_2a(*beside):
        return round(
            100 * assess_baseline([finding(), *beside], lungs(), WOMAN).findings[0].grade.risks[2].probability, 3
        )

    assert brock_2a() == brock_2a(calcified, calcified) == 7.114
    assert brock_2a(finding(), calcified) < 7.114
    assert assess_baseline([calcified], lungs(), WOMAN).findings[0].grade.risks[2].limits


def test_what_came_from_the_header_is_marked():
    clinical = ClinicalData(sex="F", age=65, from_header=("sex", "age"))
    assert (
        "sex from the DICOM header"
        in assess_baseline([finding()], lungs(), clinical).findings[0].grade.risks[0].assumed
    )


@pytest.mark.parametrize(
    ("zone", "lobe", "upper"),
    [
        ("upper", "", True),
        ("lower", "", False),
        ("unknown", "", None),
        ("middle", "", None),
        ("lower", "left upper lobe", True),
        ("middle", "lingula", True),
        ("upper", "right middle lobe", False),
        ("upper", "left lower lobe", False),
        ("unknown", "RUL", True),
    ],
)
def test_lobe_for_brock(zone, lobe, upper):
    risk = assess_baseline([finding(zone=zone, lobe=lobe)], lungs(), WOMAN).findings[0].grade.risks[0]
    if upper is None:
        assert risk.needs == ("lobe",)
    else:
        assert round(100 * risk.probability, 3) == (6.575 if upper else 3.565)


def test_an_estimated_juxtapleural_shape_is_said_with_the_category_without_it():
    graded = assess_baseline([finding(1, 9.0, volume=400.0)], lungs(), None, facts=[FindingFacts(juxtapleural=True)])
    assert graded.category == "2"
    assert codes(graded.findings[0].notices) == ["estimated-shape"]
    assert "without it 4A" in graded.findings[0].notices[0].text
    by_reader = FindingFacts(juxtapleural=True, estimated=False)
    assert (
        codes(assess_baseline([finding(1, 9.0, volume=400.0)], lungs(), None, facts=[by_reader]).findings[0].notices)
        == []
    )


def test_an_estimated_shape_that_changes_nothing_needs_no_notice():
    graded = assess_baseline([finding(1, 4.0, volume=33.0)], lungs(), None, facts=[FindingFacts(juxtapleural=True)])
    assert codes(graded.findings[0].notices) == []


@pytest.mark.parametrize(("mm", "flagged"), [(5.0, False), (6.0, True)])
def test_estimated_spiculation_is_never_4x_but_is_said(mm, flagged):
    graded = assess_baseline(
        [finding(1, mm, volume=112.0 + (mm > 5))], lungs(), None, facts=[FindingFacts(spiculated=True)]
    )
    assert graded.category in ("2", "3")
    assert ("consider-4x" in codes(graded.findings[0].notices)) is flagged


def test_a_readers_suspicion_makes_4x():
    facts = [FindingFacts(spiculated=True, estimated=False, suspicious=True)]
    graded = assess_baseline([finding(1, 9.0, volume=400.0)], lungs(), None, facts=facts)
    assert graded.category == "4X"
    assert "consider-4x" not in codes(graded.findings[0].notices)


def test_part_solid_without_a_measured_solid_part_is_said():
    graded = assess_baseline([finding(1, 9.0, NoduleType.PART_SOLID)], lungs(), None)
    assert graded.category == "3"
    assert "type-size-disagree" in codes(graded.findings[0].notices)


def test_volume_setting_switches_the_measure():
    findings = [finding(1, 5.9, volume=120.0)]
    assert assess_baseline(findings, lungs(), None).category == "2"
    assert assess_baseline(findings, lungs(), None, AssessConfig(measure="volume")).category == "3"


def test_an_unknown_measure_is_refused():
    with pytest.raises(ValueError, match="measure"):
        AssessConfig(measure="area")


def test_what_nobody_looked_at_is_listed():
    items = assess_baseline([finding()], lungs(), None).not_assessed
    assert any(item.startswith("modifier S") for item in items)
    assert "airway nodules" in items
    assert "juxtapleural shape" in items
    facts = [FindingFacts(juxtapleural=False, spiculated=False)]
    assert "juxtapleural shape" not in assess_baseline([finding()], lungs(), None, facts=facts).not_assessed


def test_notices_that_a_finding_had_stay():
    before = replace(finding(), notices=(Notice("not-assessed", "kept"),))
    assert assess_baseline([before], lungs(), None).findings[0].notices[0].text == "kept"


@pytest.mark.parametrize(
    "sizes", [{"long_axis_mm": 0.0, "short_axis_mm": 0.0}, {"long_axis_mm": 2.0}, {"volume_mm3": 0.0}]
)
def test_an_impossible_measurement_is_not_assessed_rather_than_an_error(sizes):
    broken = finding()
    broken = replace(
        broken,
        measured=replace(broken.measured, measurement=replace(broken.measurement, max_transverse_mm=0.0, **sizes)),
    )
    graded = assess_baseline([broken], lungs(), WOMAN)
    assert graded.category == "not assessed"
    assert graded.findings[0].grade.risks[0].needs == ("largest transverse diameter",)


# -- against earlier exams -------------------------------------------------------------------------------------------
TODAY = date(2026, 3, 5)


def seen(mm, day, category="", volume=None, kind=NoduleType.SOLID):
    return NoduleAtExam(day, kind, mm, mm, volume_mm3=volume, category=category)


def test_follow_up_grades_new_grown_and_stable_findings():
    findings = [finding(1, 5.0, volume=65.0), finding(2, 9.0, volume=382.0), finding(3, 7.0, volume=180.0)]
    before = (seen(7.0, date(2025, 9, 1), "3", volume=180.0),)
    earlier = [(), before, before]
    result = assess_follow_up(findings, lungs(), None, TODAY, earlier)
    assert [f.category for f in result.findings] == ["3", "4B", "2"]
    assert result.findings[0].growth == "new"
    assert result.findings[1].growth == "grown; volume-doubling time: 170 days"
    assert result.findings[2].growth == "stable; volume-doubling time: not growing"
    assert result.category == "4B"
    assert "as-baseline" not in codes(result.notices)
    assert not any(item.startswith("growth") for item in result.not_assessed)


def test_follow_up_flags_many_new_nodules():
    findings = [finding(number, 4.5, volume=48.0) for number in range(1, 8)]
    result = assess_follow_up(findings, lungs(), None, TODAY, [()] * 7)
    assert result.category == "3"
    assert "inflammation-possible" in codes(result.notices)
    assert "inflammation-possible" not in codes(assess_follow_up(findings[:6], lungs(), None, TODAY, [()] * 6).notices)


def test_follow_up_without_a_measurement_or_earlier_volume():
    bare = replace(finding(1), measured=Measured())
    earlier = [(seen(7.0, date(2025, 9, 1), "3"),), (seen(6.0, date(2025, 9, 1), "3"),)]
    result = assess_follow_up([bare, finding(2)], lungs(), None, TODAY, earlier)
    assert [f.growth for f in result.findings] == ["not assessed: needs a measurement", "stable"]
    assert [f.category for f in result.findings] == ["not assessed", "2"]


# -- nodules of earlier exams that are no findings now ---------------------------------------------------------------
def lost(state="not assessed", *, outside=False, category="4B", kind=NoduleType.SOLID):
    past = PastNodule("20250901", "1.2", kind, 16.0, 16.0, 16.0, category=category)
    return LostNodule(past, state, "16.0 mm on 2025-09-01; its end is not known", outside_scan=outside)


def exam_of(*gone, sizes=(), not_measured=0, **flags):
    findings = [finding(n, mm) for n, mm in enumerate(sizes, 1)]
    now = [() for _ in findings]
    return assess_follow_up(findings, lungs(**flags), None, TODAY, now, lost=gone, not_measured=not_measured)


@pytest.mark.parametrize(
    ("gone", "sizes", "category"),
    [
        ((lost(),), (), "not assessed"),  # not 1
        ((lost(),), (3.5,), "not assessed"),  # not 2
        ((lost(category="2"),), (), "not assessed"),  # whatever it was: nobody knows what it is
        ((lost(category=""),), (), "not assessed"),
        ((lost(),), (4.5,), "3"),  # at least 3
        ((lost(),), (9.0,), "4B"),
        ((lost(outside=True),), (), "0"),
        ((lost(outside=True),), (4.5,), "0"),  # choice i: up to 4A
        ((lost(outside=True),), (9.0,), "4B"),
        ((lost(), lost(outside=True)), (), "0"),
        ((lost("resolved"),), (), "1"),
        ((lost("resolved"),), (3.5,), "2"),
        ((lost("below the least size", category="2"),), (), "1"),
        ((lost(category="1"), lost(outside=True, category="1")), (), "1"),  # benign then
        ((lost(kind=NoduleType.CALCIFIED),), (), "1"),
        ((lost(), lost("resolved")), (), "not assessed"),
    ],
)
def test_an_earlier_nodule_whose_fate_is_unknown_keeps_the_exam_from_1_and_2(gone, sizes, category):
    result = exam_of(*gone, sizes=sizes)
    assert result.category == category
    unknown = any(nodule.state == "not assessed" and nodule.past.category != "1" for nodule in gone)
    unknown = unknown and gone[0].past.nodule_type is not NoduleType.CALCIFIED
    assert ("prior-nodule-unknown" in codes(result.notices)) is unknown
    assert ("its end is not known" in result.category_reason) is unknown


def test_earlier_nodules_without_sizes_count_too():
    assert exam_of(not_measured=2).category == "not assessed"
    assert "2 nodules of the earlier exam without sizes" in exam_of(not_measured=2).category_reason
    assert exam_of(not_measured=1, sizes=(6.5,)).category == "4A"
    assert exam_of(lost(), apex_cut=True).category == "0"


def test_follow_up_refuses_an_exam_that_is_not_earlier():
    with pytest.raises(ValueError, match="order of time"):
        assess_follow_up([finding(1)], lungs(), None, TODAY, [(seen(7.0, TODAY),)])


def test_a_prior_exams_category_goes_to_its_most_suspicious_nodule():
    """The others count as not known (choice c)."""
    day = date(2025, 3, 5)
    prior = (seen(5.0, day), seen(9.0, day), seen(12.0, day), seen(29.0, day, kind=NoduleType.GROUND_GLASS))
    assert [nodule.category for nodule in share_prior_category(prior, "4A")] == ["", "", "4A", ""]


@pytest.mark.parametrize("exam", ["0", "", "not assessed"])
def test_a_prior_exam_of_0_or_unknown_category_leaves_all_unknown(exam):
    prior = (seen(5.0, date(2025, 3, 5)),)
    assert share_prior_category(prior, exam) == prior


def test_nodules_with_their_own_category_keep_it():
    prior = (seen(5.0, date(2025, 3, 5), "2"), seen(9.0, date(2025, 3, 5)))
    assert share_prior_category(prior, "4B") == prior
    assert share_prior_category((), "4B") == ()


def test_facts_and_earlier_exams_are_as_many_as_the_findings():
    with pytest.raises(ValueError, match="facts of 1 findings"):
        assess_baseline([finding()], lungs(), None, facts=[])
    with pytest.raises(ValueError, match="zip"):
        assess_follow_up([finding()], lungs(), None, TODAY, [])


def test_follow_up_grades_as_baseline_what_was_not_compared():
    """Outside the earlier scan, or without its images: neither new nor stable (None, not an empty list)."""
    result = assess_follow_up([finding(1), finding(2)], lungs(), None, TODAY, [None, ()])
    assert result.findings[0].growth == "not assessed: no prior"
    assert "as baseline" in result.findings[0].grade.category_reason
    assert result.findings[1].growth == "new"
    many = assess_follow_up([finding(n) for n in range(1, 8)], lungs(), None, TODAY, [None] * 7)
    assert "inflammation-possible" not in codes(many.notices)


# -- doubtful findings -----------------------------------------------------------------------------------------------
def doubtful(number=1, mm=6.0, **changes):
    return replace(finding(number, mm, volume=113.0), doubtful=True, **changes)


def test_a_doubtful_finding_is_graded_and_named_and_does_not_decide():
    """The exam has the category of the others; the reason says how many there are and how large the largest is."""
    result = assess_baseline([finding(1, 5.0, volume=65.0), doubtful(2, 23.0), doubtful(3, 9.0)], lungs(), None)
    assert [f.category for f in result.findings] == ["2", "4B", "4A"]
    assert result.category == "2"
    words = "2 doubtful marks, the largest 23.0 mm, to be looked at"
    assert result.category_reason.endswith(f"; {words}")
    assert result.exam.doubtful == words
    assert "doubtful-findings" in codes(result.notices)


def test_an_exam_of_doubtful_findings_alone_is_negative_and_says_so():
    result = assess_baseline([doubtful(1, 9.0)], lungs(), None)
    assert (result.category, result.exam.doubtful) == ("1", "1 doubtful mark, 9.0 mm, to be looked at")
    unmeasured = replace(doubtful(1), measured=Measured())
    result = assess_baseline([unmeasured], lungs(), None)
    assert (result.category, result.exam.doubtful) == ("1", "1 doubtful mark, 1 not measured, to be looked at")
    assert not assess_baseline([finding(1, 9.0)], lungs(), None).exam.doubtful


@pytest.mark.parametrize(("others", "category", "beside"), [([], "0", "1"), ([17.0], "4B", "0")])
def test_a_doubtful_mass_is_a_large_opacity(others, category, beside):
    """Nobody knows what it is until it is read: category 0; a 4B stands, with 0 beside it."""
    found = [doubtful(1, 34.0, is_mass=True), *(finding(2, mm) for mm in others)]
    result = assess_baseline(found, lungs(), None)
    assert (result.category, result.exam.beside) == (category, beside)
    assert "a large opacity may be a mass" in result.category_reason
    assert any("a large opacity may be a mass" in n.text for n in result.notices if n.code == "not-evaluable")


def test_at_follow_up_too():
    """A doubtful new finding is no 4B of the exam, and is not counted for inflammation."""
    found = [finding(1, 5.0), *(doubtful(n, 9.0) for n in range(2, 10))]
    result = assess_follow_up(found, lungs(), None, date(2026, 2, 12), [()] * 9)
    assert [f.category for f in result.findings[1:]] == ["4B"] * 8
    assert result.category == result.findings[0].category == "3"
    assert "8 doubtful marks, the largest 9.0 mm" in result.category_reason
    assert "inflammation-possible" not in codes(result.notices)

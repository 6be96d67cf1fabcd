"""Image and person come together: Mayo beside Brock, PLCOm2012 and eligibility as information, in page and JSON."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from report_examples import changed, document_of, make_finding, make_lungs, make_report, make_volume, page_of

from lungscreen.assess import FindingFacts, assess_baseline, describe_person
from lungscreen.records import ClinicalData, Finding, Location, NoduleType, Risk
from lungscreen.results.schema import report_schema

VOLUME = make_volume()
LUNGS = make_lungs(VOLUME)
SMOKER = ClinicalData(age=65.0, sex="F", smoking_status="current", prior_cancer=False)
WHOLE = ClinicalData(
    age=62.0, sex="M", smoking_status="current", pack_years=40.0, cigarettes_per_day=20.0, duration_years=40.0,
    family_history=False, emphysema=True, prior_cancer=False, copd=False, education=4, bmi=27.0, race="white",
    immunosuppressed=False, prior_exam_date="20250103", prior_category="3", priority="soon",
)  # fmt: skip
"""The first golden value of PLCOm2012 in its source: 2.343 %."""


def nodule(mm: float = 10.0, lobe: str = "left upper lobe", kind: NoduleType = NoduleType.SOLID) -> Finding:
    """A finding whose largest transverse diameter is that."""
    finding = make_finding(VOLUME, location=Location("left", "middle", 3, None, lobe), nodule_type=kind)
    assert finding.measurement is not None
    return changed(finding, measurement=replace(finding.measurement, max_transverse_mm=mm))


def mayo(*findings: Finding, person: ClinicalData | None = SMOKER, spiculated: bool | None = False) -> Risk:
    """Mayo of the first finding, its spiculation a reader's."""
    facts = [FindingFacts(spiculated=spiculated, estimated=False)] * len(findings)
    risks = assess_baseline(findings, LUNGS, person, facts=facts).findings[0].grade.risks
    assert [risk.model for risk in risks[4:]] == ["Mayo"]
    return risks[4]


def test_mayo_is_fed_with_what_was_measured_and_who_it_is() -> None:
    """65 years, smoker, 10 mm, upper lobe: 19.213 % (golden value), not the mean of 11.8 mm that Lung-RADS takes."""
    risk = mayo(nodule())
    assert 100 * (risk.probability or 0) == pytest.approx(19.213, abs=5e-4)
    assert risk.assumed == ("diameter: the largest transverse one", "lobe estimated from the image")


@pytest.mark.parametrize(
    ("change", "need"),
    [
        ({"age": None}, "age"),
        ({"smoking_status": ""}, "smoking status"),
        ({"prior_cancer": None}, "extrathoracic cancer more than 5 years ago"),
        ({"prior_cancer": True}, "extrathoracic cancer more than 5 years ago"),
    ],
)
def test_mayo_never_invents_a_person(change: dict[str, Any], need: str) -> None:
    """An earlier cancer of unknown kind and year is no answer to what Mayo asks; its absence is."""
    risk = mayo(nodule(), person=replace(SMOKER, **change))
    assert (risk.probability, risk.needs) == (None, (need,))


def test_mayo_asks_the_image_too() -> None:
    assert mayo(nodule(lobe="")).needs == ("lobe",)
    assert mayo(changed(nodule(), measurement=None)).needs == ("diameter",)


def test_where_only_spiculation_is_not_known_both_answers_stand() -> None:
    """A reader sees it at a glance; neither is chosen for them."""
    risk = mayo(nodule(), spiculated=None)
    assert risk.probability is None
    assert risk.needs == (f"spiculation (19.2 % without, {mayo(nodule(), spiculated=True).text} with)",)
    assert mayo(nodule(lobe=""), spiculated=None).needs == ("spiculation", "lobe")


def test_never_smokers_have_a_lower_mayo() -> None:
    never = mayo(nodule(), person=replace(SMOKER, smoking_status="never")).probability
    former = mayo(nodule(), person=replace(SMOKER, smoking_status="former")).probability
    assert never is not None
    assert former is not None
    assert never < former == mayo(nodule()).probability


def test_where_mayo_does_not_hold() -> None:
    """Beside other nodules it holds less, for a calcified one not at all."""
    assert "made for solitary nodules, and this reading has 2 noncalcified ones" in mayo(nodule(), nodule()).limits
    calcified = mayo(nodule(kind=NoduleType.CALCIFIED))
    assert (calcified.probability, calcified.limits) == (None, ("benign calcification: not a nodule for Mayo",))


def test_what_came_from_the_header_is_marked_where_mayo_uses_it() -> None:
    risk = mayo(nodule(), person=replace(SMOKER, from_header=("sex", "age")))
    assert "age from the DICOM header" in risk.assumed
    assert "sex from the DICOM header" not in risk.assumed


def test_person_reaches_json_and_page() -> None:
    report = make_report(person=describe_person(WHOLE))
    document = document_of(report)
    Draft202012Validator(report_schema()).validate(document)
    person = document["person"]
    expected = {"age": 62.0, "emphysema": True, "copd": False, "prior_exam_date": "2025-01-03", "years_quit": None}
    assert {name: person[name] for name in expected} == expected
    assert 100 * person["risk"]["probability"] == pytest.approx(2.343, abs=0.01)
    answers = {one["programme"]: one["eligible"] for one in person["eligibility"]}
    assert (answers["USPSTF 2021"], answers["ILST (PLCOm2012)"]) == (True, True)
    assert person["eligibility"][0]["reason"] == (
        "age 50 to 80; smoking now, or quit at most 15 years ago; pack-years ≥ 20"
    )
    page = page_of(report)
    for text in (
        "<dt>PLCOm2012</dt><dd>2.34 %",
        "40 pack-years",
        "USPSTF 2021",
        "education 4 of 6",
        "2025-01-03, category 3",
        "soon",
    ):
        assert text in page
    order = [page.index(text) for text in ("Exam category", "Overview", "<h2>Lungs</h2>", "<h2>Person</h2>")]
    assert order == sorted(order)


def test_what_is_not_known_of_a_person_is_said() -> None:
    """PLCOm2012 names what it needs; a programme that one failed limit excludes answers all the same."""
    report = make_report(person=describe_person(ClinicalData(age=45.0, smoking_status="former", from_header=("age",))))
    person = document_of(report)["person"]
    assert person["risk"]["probability"] is None
    assert "race" in person["risk"]["needs"]
    assert {one["programme"]: one["eligible"] for one in person["eligibility"]}["NLST"] is False
    assert person["from_header"] == ["age"]
    page = page_of(report)
    for text in ("45 years (from the header)", "<dt>PLCOm2012</dt><dd>not assessed: needs", "former", "not known"):
        assert text in page


@pytest.mark.parametrize("known", [None, ClinicalData(age=70.0, sex="F", from_header=("age", "sex"))])
def test_header_alone_makes_no_part_of_the_page(known: ClinicalData | None) -> None:
    report = make_report(person=describe_person(known))
    assert (document_of(report)["person"] is None) == (known is None)
    assert "<h2>Person</h2>" not in page_of(report)


def test_hostile_patient_data_are_text() -> None:
    report = make_report(person=describe_person(replace(WHOLE, priority="<b>now</b>")))
    assert "<b>now" not in page_of(report)

"""What the software estimates of a finding's looks reaches the rules marked, and never makes a category by itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from report_examples import changed, make_finding, make_lungs, make_volume

from lungscreen.assess import Assessment, FindingFacts, assess_baseline, assess_follow_up
from lungscreen.records import Attributes, ClinicalData, Finding, Location, NoduleType

VOLUME = make_volume()
LUNGS = make_lungs(VOLUME)
PERSON = ClinicalData(age=65.0, sex="F", family_history=False, emphysema=False)


def nodule(
    mm: float = 9.0,
    spiculation: float | None = None,
    pleura_mm: float | None = None,
    perifissural: bool | None = None,
    **changes: Any,
) -> Finding:
    """A finding of that mean diameter."""
    place = Location("left", "upper", 3, None, "left upper lobe", pleura_mm, perifissural)
    finding = make_finding(VOLUME, location=place, **changes)
    assert finding.measurement is not None
    size = replace(finding.measurement, long_axis_mm=mm, short_axis_mm=mm, mean_diameter_mm=mm, volume_mm3=0.52 * mm**3)
    looks = None if spiculation is None else Attributes(3.0, 3.0, 1.0, spiculation, 5.0, 0.0)
    return changed(finding, measurement=size, attributes=looks)


def baseline(finding: Finding) -> Assessment:
    return assess_baseline([finding], LUNGS, PERSON)


def codes(assessment: Assessment) -> set[str]:
    return {notice.code for notice in assessment.findings[0].notices}


@pytest.mark.parametrize(("spiculation", "said"), [(2.94, False), (2.95, True), (4.6, True)])
def test_estimated_spiculation_is_considered_not_graded(spiculation: float, said: bool) -> None:
    """From the middle of the scale on, as it is shown, a reader may consider 4X; the category is what the size
    gives.
    """
    assessment = baseline(nodule(spiculation=spiculation))
    assert assessment.findings[0].category == "4A"
    assert ("consider-4x" in codes(assessment)) == said
    assert any("spiculation" in item for item in assessment.not_assessed) != said


def test_brock_with_spiculation_takes_the_estimate_only_where_it_is_seen() -> None:
    """A low estimate is no absence, so the b models still lack spiculation; a high one is named as assumed."""
    for spiculation in (None, 1.2):
        risks = {risk.model[:8]: risk for risk in baseline(nodule(spiculation=spiculation)).findings[0].grade.risks}
        assert risks["Brock 2b"].probability is None
        assert risks["Brock 2b"].needs == ("spiculation",)
    plain = {risk.model[:8]: risk for risk in baseline(nodule()).findings[0].grade.risks}
    spiky = {risk.model[:8]: risk for risk in baseline(nodule(spiculation=4.0)).findings[0].grade.risks}
    assert (spiky["Brock 2b"].probability or 0) > 0
    assert any("spiculation estimated" in text for text in spiky["Brock 2b"].assumed)
    assert spiky["Brock 2a"].probability == plain["Brock 2a"].probability
    assert not any("spiculation" in text for text in spiky["Brock 2a"].assumed)


def test_what_a_reader_knows_comes_before_the_estimate() -> None:
    facts = FindingFacts(spiculated=False, estimated=False)
    assessment = assess_baseline([nodule(spiculation=4.5)], LUNGS, PERSON, facts=[facts])
    assert "consider-4x" not in codes(assessment)


@pytest.mark.parametrize(
    ("mm", "pleura_mm", "kind", "said"),
    [
        (9.0, 0.0, NoduleType.SOLID, True),
        (9.0, 2.0, NoduleType.SOLID, True),
        (9.0, 2.1, NoduleType.SOLID, False),
        (9.0, None, NoduleType.SOLID, False),
        (10.0, 0.0, NoduleType.SOLID, False),
        (5.0, 0.0, NoduleType.SOLID, False),
        (9.0, 0.0, NoduleType.GROUND_GLASS, False),
    ],
)
def test_at_the_pleura_a_reader_is_asked_for_the_shape(
    mm: float, pleura_mm: float | None, kind: NoduleType, said: bool
) -> None:
    """Solid and below 10 mm it would be category 2 if it has the shape; the software grades it as any other."""
    assessment = baseline(nodule(mm, pleura_mm=pleura_mm, nodule_type=kind))
    assert ("consider-juxtapleural" in codes(assessment)) == said
    assert assessment.findings[0].category == baseline(nodule(mm, nodule_type=kind)).findings[0].category
    assert "juxtapleural shape" in assessment.not_assessed


def test_a_new_nodule_at_the_pleura_is_asked_about_too() -> None:
    assessment = assess_follow_up([nodule(7.0, pleura_mm=0.0)], LUNGS, PERSON, date(2026, 2, 12), [()])
    assert assessment.findings[0].category == "4A"
    assert "consider-juxtapleural" in codes(assessment)


@pytest.mark.parametrize(
    ("mm", "perifissural", "kind", "said"),
    [
        (9.9, True, NoduleType.SOLID, True),
        (10.0, True, NoduleType.SOLID, False),
        (5.0, True, NoduleType.SOLID, False),
        (9.0, False, NoduleType.SOLID, False),
        (9.0, None, NoduleType.SOLID, False),
        (9.0, True, NoduleType.PART_SOLID, False),
    ],
)
def test_a_fissure_that_may_touch_lowers_no_category(
    mm: float, perifissural: bool | None, kind: NoduleType, said: bool
) -> None:
    """Solid and below 10 mm it would be category 2 if a reader agrees; the estimate itself grades nothing (choice
    a).
    """
    assessment = baseline(nodule(mm, perifissural=perifissural, nodule_type=kind))
    assert ("consider-perifissural" in codes(assessment)) == said
    assert assessment.findings[0].category == baseline(nodule(mm, nodule_type=kind)).findings[0].category
    assert "juxtapleural shape" in assessment.not_assessed


def test_the_pleura_is_named_before_a_fissure_and_only_one_of_them() -> None:
    said = codes(baseline(nodule(pleura_mm=1.0, perifissural=True)))
    assert "consider-juxtapleural" in said
    assert "consider-perifissural" not in said


@pytest.mark.parametrize("place", [{"pleura_mm": 0.0}, {"perifissural": True}])
def test_what_is_spiculated_is_not_smooth(place: dict[str, Any]) -> None:
    """No lower category is held out for a nodule whose spiculation is estimated, whatever it touches."""
    assert not {"consider-juxtapleural", "consider-perifissural"} & codes(baseline(nodule(spiculation=3.5, **place)))


@pytest.mark.parametrize(
    ("mm", "kind", "category"),
    [
        (5.9, NoduleType.GROUND_GLASS, ""),
        (6.0, NoduleType.GROUND_GLASS, "3"),
        (7.9, NoduleType.GROUND_GLASS, "3"),
        (8.0, NoduleType.GROUND_GLASS, ""),
        (7.0, NoduleType.SOLID, ""),
        (7.0, NoduleType.PART_SOLID, ""),
    ],
)
def test_small_ground_glass_may_be_solid(mm: float, kind: NoduleType, category: str) -> None:
    """Blur makes small solid nodules look fainter: the higher category is named, where there is one."""
    finding = baseline(nodule(mm, nodule_type=kind)).findings[0]
    said = [notice.text for notice in finding.notices if notice.code == "consider-solid"]
    assert bool(said) == bool(category)
    assert all(f"Category {category} if solid" in text for text in said)
    if kind is NoduleType.GROUND_GLASS:
        assert finding.category == "2"


def test_new_small_ground_glass_may_be_a_new_solid_nodule() -> None:
    """New and 5 mm: ground-glass 2, solid 3."""
    new = nodule(5.0, nodule_type=NoduleType.GROUND_GLASS)
    assessment = assess_follow_up([new], LUNGS, PERSON, date(2026, 2, 12), [()])
    assert assessment.findings[0].category == "2"
    assert "consider-solid" in codes(assessment)

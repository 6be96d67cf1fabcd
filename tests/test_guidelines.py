"""Advice of other guidelines beside Lung-RADS: by configuration, from the finding to JSON, CSV and page."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from report_examples import changed, document_of, make_finding, make_report, make_volume, page_of

from lungscreen.assess import (
    GUIDELINES,
    AssessConfig,
    NoduleAtExam,
    advise_findings,
    assess_baseline,
    assess_follow_up,
)
from lungscreen.errors import Notice, UsageError
from lungscreen.pipeline import read_pipeline
from lungscreen.records import NOT_ASSESSED, Advice, ClinicalData, Finding, Location, NoduleChange, NoduleType
from lungscreen.results.build import build_finding
from lungscreen.results.columns import Owner, finding_cells, finding_columns

VOLUME = make_volume()
TODAY = date(2026, 2, 12)
HEALTHY = ClinicalData(age=60, sex="F", prior_cancer=False, immunosuppressed=False, family_history=False)


def nodule(mm: float = 7.0, kind: NoduleType = NoduleType.SOLID, volume_mm3: float = 180.0, **changes: Any) -> Finding:
    finding = make_finding(VOLUME, location=Location("left", "upper", 3, pleura_mm=9.0))
    assert finding.measurement is not None
    size = replace(
        finding.measurement, long_axis_mm=mm, short_axis_mm=mm, mean_diameter_mm=mm, max_transverse_mm=mm,
        volume_mm3=volume_mm3,
    )  # fmt: skip
    return changed(finding, measurement=size, nodule_type=kind, **changes)


def baseline(name: str, *findings: Finding, person: ClinicalData | None = HEALTHY, slice_mm: float | None = 1.25):
    """Advice on the first of the findings."""
    graded = assess_baseline(findings, None, person).findings
    return advice_of(advise_findings(graded, [name], person, slice_mm=slice_mm)[0])


def follow_up(name: str, finding: Finding, *earlier: NoduleAtExam) -> Advice:
    graded = assess_follow_up([finding], None, HEALTHY, TODAY, [earlier]).findings
    return advice_of(advise_findings(graded, [name], HEALTHY, TODAY, [earlier], 1.25)[0])


def advice_of(finding: Finding) -> Advice:
    assert finding.grade is not None
    (advice,) = finding.grade.advice
    return advice


def then(when: date, mm: float, volume_mm3: float, category: str = "3") -> NoduleAtExam:
    return NoduleAtExam(when, NoduleType.SOLID, mm, mm, volume_mm3=volume_mm3, category=category)


def test_without_being_asked_nothing_is_added() -> None:
    findings = assess_baseline([nodule()], None, HEALTHY).findings
    assert advise_findings(findings, (), HEALTHY) == findings
    assert read_pipeline("screening").assess.guidelines == ()


def test_fleischner_says_both_answers_where_the_clinicians_risk_decides() -> None:
    """MacMahon 2017, table 1: solid, 6 to 8 mm, single."""
    advice = baseline("fleischner-2017", nodule(7.0))
    assert advice.group == "solid, single, 6–8 mm"
    assert advice.advice == (
        "low risk: CT at 6 to 12 months, then consider CT at 18 to 24 months; "
        "high risk: CT at 6 to 12 months, then CT at 18 to 24 months"
    )
    assert advice.needs == ("low or high risk",)
    large = baseline("fleischner-2017", nodule(9.0), nodule(4.0, NoduleType.GROUND_GLASS))
    assert (large.advice, large.needs) == ("consider CT at 3 months, PET/CT or tissue sampling", ())
    assert "multiple" in baseline("fleischner-2017", nodule(9.0), nodule(8.0)).group


@pytest.mark.parametrize(
    ("person", "slice_mm", "needs"),
    [
        (replace(HEALTHY, age=None), 1.25, ("age",)),
        (replace(HEALTHY, prior_cancer=True), 1.25, ("known cancer",)),
        (replace(HEALTHY, immunosuppressed=None), 1.25, ("immunosuppression",)),
        (HEALTHY, None, ("section thickness",)),
    ],
)
def test_fleischner_names_what_is_not_known(
    person: ClinicalData, slice_mm: float | None, needs: tuple[str, ...]
) -> None:
    ground_glass = nodule(7.0, NoduleType.GROUND_GLASS)
    advice = baseline("fleischner-2017", ground_glass, person=person, slice_mm=slice_mm)
    assert (advice.group, advice.needs) == (NOT_ASSESSED, needs)
    known = baseline("fleischner-2017", ground_glass)
    assert known.advice == "CT at 6 to 12 months, then every 2 years until 5 years"


def test_fleischner_is_for_first_exams_on_thin_sections() -> None:
    assert baseline("fleischner-2017", nodule(), slice_mm=2.5).group == "not applicable"
    assert follow_up("fleischner-2017", nodule(), then(date(2025, 2, 1), 7.0, 180.0)).group == "not applicable"


def test_bts_goes_by_volume_unless_the_outline_is_uncertain() -> None:
    """Callister 2015: 80 to 300 mm³; 8 mm and more asks Brock."""
    assert baseline("bts-2015", nodule(8.5, volume_mm3=200.0)).group == "solid, ≥80 to <300 mm³"
    unsure = nodule(6.5, volume_mm3=40.0, notices=(Notice("outline-uncertain", "unsure"),))
    assert baseline("bts-2015", unsure).group == "solid, ≥6 to <8 mm"
    large = baseline("bts-2015", nodule(9.0, volume_mm3=400.0))
    assert large.group == NOT_ASSESSED
    assert "spiculation" in " ".join(large.needs), "Brock's own needs are passed on"


def test_bts_follows_up_against_the_first_exam() -> None:
    earlier = then(date(2025, 2, 12), 6.0, 110.0), then(date(2025, 8, 12), 6.4, 135.0)
    grown = follow_up("bts-2015", nodule(7.5, volume_mm3=230.0), *earlier)
    assert grown.group == "growing, doubling time ≤400 days"
    same = follow_up("bts-2015", nodule(6.1, volume_mm3=115.0), *earlier)
    assert (same.group, same.advice) == ("stable by volume (<25 %)", "discharge")


def test_nelson_at_first_at_the_pleura_new_and_grown() -> None:
    assert baseline("nelson", nodule(volume_mm3=180.0)).group == "NODCAT 3"
    at_pleura = nodule(4.5, volume_mm3=180.0, location=Location("left", "upper", 3, pleura_mm=0.0))
    advice = baseline("nelson", at_pleura)
    assert (advice.group, advice.assumed) == (
        "NODCAT 2", ("whether it is based on the pleura: estimated from the image",),
    )  # fmt: skip
    unknown = nodule(location=Location("left", "upper", 3))
    assert baseline("nelson", unknown).needs == ("whether it is based on the pleura",)
    assert follow_up("nelson", nodule(volume_mm3=250.0)).group == "new solid, high probability"
    slow = nodule(volume_mm3=180.0)
    assert follow_up("nelson", slow, then(date(2024, 12, 1), 6.5, 105.0)).advice.startswith("indeterminate")
    assert follow_up("nelson", slow, then(date(2025, 11, 1), 6.5, 156.0)).group == "no growth (<25 %)"


@pytest.mark.parametrize(("mm3", "new", "referred"), [(300.0, False, False), (301.0, False, True), (201.0, True, True)])
def test_eu_position_by_volume(mm3: float, new: bool, referred: bool) -> None:
    solid = nodule(8.0, volume_mm3=mm3)
    advice = follow_up("eu-2017", solid) if new else baseline("eu-2017", solid)
    assert advice.advice.startswith("referral") == referred
    assert baseline("eu-2017", nodule(8.0, NoduleType.GROUND_GLASS)).group == "not applicable"


def test_airway_nodules_and_cysts_say_what_a_readers_answer_would_give() -> None:
    """Lung-RADS v2022 notes 11 and 12; growing proximal: 4B."""
    airway = baseline("lung-rads-airway", nodule())
    assert airway.group == NOT_ASSESSED
    assert "segmental or more proximal: 4A, " in airway.advice
    assert "subsegmental: 2, low-dose CT in 12 months" in airway.advice
    growing = nodule(change=NoduleChange("growing", "growing"))
    assert "proximal: 4B, " in follow_up("lung-rads-airway", growing, then(date(2025, 2, 1), 5.0, 65.0)).advice
    cyst = baseline("lung-rads-cyst", nodule())
    assert "wall of 2 mm or more: 4A, " in cyst.advice
    assert cyst.advice.endswith("thin-walled, unilocular: not classified")
    assert cyst.needs == ("a reader: whether it is a cyst, its wall's thickness and its loculation",)


@pytest.mark.parametrize("name", sorted(GUIDELINES))
def test_what_was_not_measured_is_not_assessed(name: str) -> None:
    bare = changed(nodule(), measurement=None, outline=None)
    advice = baseline(name, bare)
    assert (advice.guideline, advice.group, advice.needs) == (GUIDELINES[name].name, NOT_ASSESSED, ("a measurement",))
    assert baseline(name, nodule()).guideline == GUIDELINES[name].name


def test_no_advice_changes_the_category() -> None:
    graded = assess_baseline([nodule()], None, HEALTHY).findings
    (advised,) = advise_findings(graded, tuple(GUIDELINES), HEALTHY, slice_mm=1.25)
    assert advised.grade is not None
    assert replace(advised.grade, advice=()) == graded[0].grade
    assert len(advised.grade.advice) == len(GUIDELINES)


def test_it_stands_in_json_table_and_page() -> None:
    graded = assess_baseline([nodule(7.0)], None, HEALTHY).findings
    (advised,) = advise_findings(graded, ("bts-2015", "nelson"), HEALTHY, slice_mm=1.25)
    report = make_report(advised, volume=VOLUME)
    bts, nelson = document_of(report)["findings"][0]["advice"]
    assert (bts["guideline"], bts["advice"]) == ("BTS 2015", "CT at 3 months, then at 12 months")
    assert nelson["group"] == "NODCAT 3"
    page = page_of(report)
    assert "BTS 2015" in page
    assert "CT at 3 months, then at 12 months" in page
    row = dict(
        zip(finding_columns(), finding_cells(Owner("P", "1", "2"), 1, build_finding(advised, VOLUME)), strict=True)
    )
    assert row["advice"].startswith("BTS 2015: solid, ≥80 to <300 mm³: CT at 3 months")
    plain = make_report(graded[0], volume=VOLUME)
    assert document_of(plain)["findings"][0]["advice"] == []
    assert "BTS 2015" not in page_of(plain)


@pytest.mark.parametrize("names", ['["fleischner"]', '["nelson", "nelson"]'])
def test_an_unknown_guideline_or_one_named_twice_is_an_error(names: str, tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'name = "own"\n[assess]\nguidelines = {names}\n')
    with pytest.raises(UsageError) as refused:
        read_pipeline(str(file))
    assert refused.value.code == "config-invalid"
    file.write_text('name = "own"\n[assess]\nguidelines = ["nelson", "bts-2015"]\n')
    assert read_pipeline(str(file)).assess == AssessConfig(guidelines=("nelson", "bts-2015"))

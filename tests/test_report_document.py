"""report.json: what it says, that it fits its schema, and that numbers and strings are fit for JSON."""

from __future__ import annotations

import json
from dataclasses import replace

import jsonschema
import pytest
from report_examples import (
    ACQUISITION,
    EXAM,
    changed,
    document_of,
    json_of,
    make_finding,
    make_lungs,
    make_provenance,
    make_report,
    make_volume,
)

from lungscreen.errors import LungscreenError, Notice, Refusal
from lungscreen.records import (
    NOT_ASSESSED,
    Acquisition,
    Attributes,
    Conclusion,
    Exam,
    Location,
    Patient,
    Reading,
    Risk,
    Study,
)
from lungscreen.results.assemble import build_report
from lungscreen.results.document import ATTRIBUTES_MEANING, MALIGNANCY_MEANING
from lungscreen.results.schema import report_schema
from lungscreen.results.text import (
    csv_cell,
    plain,
    readable_age,
    readable_date,
    readable_name,
    readable_sex,
    readable_time,
    rounded,
    shown,
)
from lungscreen.results.validated import check_acquisition


def test_schema_is_a_schema_and_the_document_fits_it():
    jsonschema.Draft202012Validator.check_schema(report_schema())
    volume = make_volume()
    unmeasured = make_finding(volume, (3, 9, 9), probability=None, outline=None, measurement=None)
    report = make_report(make_finding(volume), unmeasured, cut_off=2)
    document = json.loads(json_of(report))
    jsonschema.validate(document, report_schema())
    assert document == document_of(report)


def test_schema_knows_every_field():
    """An unknown key anywhere is refused, so the schema cannot lag behind the document."""
    document = document_of(make_report(make_finding(make_volume())))
    for place in (document, document["patient"], document["findings"][0], document["findings"][0]["location"]):
        place["new"] = 1
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(document, report_schema())
        del place["new"]


def test_normal_report_is_whole():
    document = document_of(make_report())
    assert document["findings"] == []
    assert document["candidates"] == 1
    assert document["category"] == NOT_ASSESSED
    assert document["lungs"] == {
        "right_ml": 2412.3, "left_ml": 2107.8, "apex_cut": False, "base_cut": False, "incomplete": False,
        "left_out": False, "below_950_percent": 0.0, "opacity_ml": None, "opacity_mm": None,
    }  # fmt: skip
    assert "research" in document["research_use"]


def test_finding_says_where_what_and_how_sure():
    (finding,) = document_of(make_report(make_finding(make_volume())))["findings"]
    assert finding["position_mm"] == [-9.0, 27.0, -275.0]
    assert finding["location"] == {
        "side": "left", "lobe": "left upper lobe", "lobe_is_estimated": True, "zone": "middle",
        "slice_from_top": 14, "instance_number": 14, "pleura_mm": None, "perifissural": None,
        "fissure_mm": None,
    }  # fmt: skip
    assert finding["measurement"]["long_axis_mm"] == 12.1
    assert finding["malignancy"] == {"probability": 0.4, "meaning": MALIGNANCY_MEANING, "model": "classifier 1"}
    assert finding["category"] is None


def test_what_the_rules_said_reaches_the_document():
    risk = Risk("Brock 2a", 0.28915556, "probability of cancer", (), ("lobe estimated",), (), ("McWilliams 2013",))
    lacking = Risk("Brock 2b", None, "probability of cancer", ("spiculation",))
    finding = make_finding(
        make_volume(),
        category="4A",
        category_clause="row",
        management="CT in 3 months",
        growth="new",
        risks=(risk, lacking),
    )
    document = json.loads(json_of(make_report(finding, not_assessed=("airway nodules",))))
    (written,) = document["findings"]
    assert document["not_assessed"] == ["airway nodules"]
    assert (written["category_clause"], written["management"], written["growth"]) == ("row", "CT in 3 months", "new")
    assert written["risks"][0] == {
        "model": "Brock 2a", "probability": 0.2892, "meaning": "probability of cancer", "needs": [],
        "assumed": ["lobe estimated"], "limits": [], "sources": ["McWilliams 2013"],
    }  # fmt: skip
    assert (written["risks"][1]["probability"], written["risks"][1]["needs"]) == (None, ["spiculation"])


def test_looks_and_second_look_reach_the_document():
    """And fit the schema, as do marks that are no nodules."""
    volume = make_volume()
    finding = make_finding(
        volume, attributes=Attributes(4.2, 3.1, 1.5, 2.754, 4.9, 0.031), nodule_probability=0.97, second_look="nodule"
    )
    mark = make_finding(volume, (12, 30, 20), 0.31, None, number=1, nodule_probability=0.0212, second_look="no nodule")
    document = json.loads(json_of(make_report(finding, volume=volume, no_nodules=(mark,))))
    (written,), (dropped,) = document["findings"], document["no_nodules"]
    assert written["attributes"] == {
        "sphericity": 4.2, "margin": 3.1, "lobulation": 1.5, "spiculation": 2.75, "texture": 4.9, "calcified": 0.03,
        "meaning": ATTRIBUTES_MEANING,
    }  # fmt: skip
    assert (written["nodule_probability"], written["second_look"]) == (0.97, "nodule")
    assert dropped == {
        "number": 1, "position_mm": [-16.0, 35.0, -270.0], "lobe": "left upper lobe", "side": "left",
        "zone": "middle", "slice_from_top": 12,
        "instance_number": 14, "detection_score": 0.31, "nodule_probability": 0.0212, "mean_diameter_mm": 11.8,
    }  # fmt: skip
    seen = make_finding(
        volume,
        attributes=Attributes(None, 3.1, 1.5, 2.7, 4.9, 0.0),
        location=Location("left", "middle", 3, None, "", 0, True, 0.04),
    )
    (document,) = json.loads(json_of(make_report(seen, volume=volume)))["findings"]
    assert document["attributes"]["sphericity"] is None
    assert (document["location"]["perifissural"], document["location"]["fissure_mm"]) == (True, 0.0)
    (plain,) = document_of(make_report(make_finding(volume)))["findings"]
    assert (plain["attributes"], plain["nodule_probability"], plain["second_look"]) == (None, None, None)


def test_marks_that_are_no_nodules_are_numbered_by_score():
    volume = make_volume()
    marks = [make_finding(volume, score=score, number=0) for score in (0.3, 0.7, 0.5)]
    study = Study(volume.series.patient, EXAM, (volume.series,))
    exam = Reading(volume, make_lungs(volume), (), ())
    report = build_report(study, exam, Conclusion(no_nodules=tuple(marks)), make_provenance())
    assert [(mark.number, mark.candidate.score) for mark in report.no_nodules] == [(1, 0.7), (2, 0.5), (3, 0.3)]


def test_what_is_missing_is_null():
    volume = make_volume(acquisition=Acquisition())
    bare = Study(Patient(), Exam("1.2"), (volume.series,))
    document = document_of(make_report(volume=volume, study=bare))
    assert document["patient"] == dict.fromkeys(("patient_id", "name", "birth_date", "sex", "issuer"))
    assert document["exam"]["date"] is None
    assert document["acquisition"]["kvp"] is None
    assert document["prior"] is None


def test_a_number_that_is_none_is_refused_not_written():
    """NaN in a size is a mistake of this software: said, never written."""
    finding = make_finding(make_volume())
    broken = changed(finding, measurement=replace(finding.measurement, long_axis_mm=float("nan")))
    with pytest.raises(LungscreenError) as error:
        json_of(make_report(broken))
    assert error.value.code == "internal-error"
    assert "long_axis_mm" in error.value.reason


def test_hostile_strings_are_bounded_and_plain_in_json():
    hostile = Patient("=cmd()|' /C calc'!A0", "<script>alert(1)</script>\x1b[2J\u202e" + "x" * 65536, "2026\x00", "F")
    volume = make_volume()
    document = json.loads(json_of(make_report(study=Study(hostile, EXAM, (volume.series,)))))
    name = document["patient"]["name"]
    assert len(name) <= 201
    assert name.isprintable()
    assert document["patient"]["patient_id"] == "=cmd()|' /C calc'!A0", "JSON is data: nothing to escape"


def test_not_read_and_notices_reach_the_document():
    volume = make_volume(
        notices=(Notice("findings-cut-off", "volume"),), refused=(Refusal("1.9", "no-ct", "a part", "series"),)
    )
    study = Study(volume.series.patient, EXAM, (volume.series,), (Refusal("1.8", "not-ct", "scout", "series"),))
    document = document_of(make_report(volume=volume, study=study, cut_off=3))
    assert [row["where"] for row in document["not_read"]] == ["1.8", "1.9"]
    assert [n["text"] for n in document["notices"]] == [
        "volume", "3 more findings lie above the operating point; less suspicious, not listed.",
    ]  # fmt: skip
    assert document["cut_off"] == 3


# -- build_report ----------------------------------------------------------------------------------------------------
def test_findings_are_listed_by_category_then_chance_times_meaning_doubtful_ones_last():
    """What could not be graded comes before what is known to be harmless; what nothing rated, last of its category."""
    volume = make_volume()
    findings = [
        make_finding(volume, score=0.1, probability=0.9, category="4B", doubtful=True, nodule_probability=0.1),
        make_finding(volume, score=0.2, probability=0.3, category="2"),
        make_finding(volume, score=0.3, probability=0.9, category="3", nodule_probability=0.3),
        make_finding(volume, score=0.4, probability=0.4, category="3", nodule_probability=0.9),
        make_finding(volume, score=0.5, probability=None, category="3"),
        make_finding(volume, score=0.6, probability=None, category="3"),
        make_finding(volume, score=0.7, probability=0.1, category="4A"),
        make_finding(volume, score=0.8, probability=0.1, category=NOT_ASSESSED),
    ]
    report = make_report(*findings)
    assert [f.candidate.score for f in report.findings] == [0.7, 0.4, 0.3, 0.6, 0.5, 0.8, 0.2, 0.1]
    assert [f.number for f in report.findings] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert report.category == "4A", "the doubtful one does not decide"


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        (("2", "4A", "3"), "4A"),
        (("4B", "4X"), "4X"),
        (("1", "2"), "2"),
        (("", ""), NOT_ASSESSED),
        (("2", ""), NOT_ASSESSED),
        (("4B", ""), "4B"),
        ((), NOT_ASSESSED),
    ],
)
def test_exam_category_is_the_worst_of_the_findings(categories, expected):
    volume = make_volume()
    report = make_report(*(make_finding(volume, category=c, category_reason="a rule") for c in categories))
    assert report.category == expected
    assert report.category_reason


def test_exam_category_of_a_rule_stands():
    volume = make_volume()
    study = Study(volume.series.patient, EXAM, (volume.series,))
    exam = Reading(volume, make_lungs(volume), (), ())
    report = build_report(study, exam, Conclusion(category="0", category_reason="apex cut"), make_provenance())
    assert (report.category, report.category_reason) == ("0", "apex cut")


def test_every_notice_stands_once():
    notice = Notice("findings-cut-off", "same")
    volume = make_volume(notices=(notice,))
    study = Study(volume.series.patient, EXAM, (volume.series,), (), (notice,))
    assert make_report(volume=volume, study=study).notices == (notice,)


# -- what was validated ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "codes"),
    [
        ({}, []),
        ({"kvp": 100.0}, ["kvp-not-validated"]),
        ({"kvp": 140.0}, []),
        ({"kernel": ("LUNG",)}, ["kernel-not-validated"]),
        ({"kernel": ("B70f", "2")}, ["kernel-not-validated"]),
        ({"kernel": ("Br40d", "3")}, []),
        ({"kernel": ("FC08-H",)}, []),
        ({"kernel": ("B",)}, []),
        ({"kernel": ("YB",)}, ["kernel-not-validated"]),
        ({"kernel": ("FC51",)}, ["kernel-not-validated"]),
        ({"kernel": ("new kernel",)}, ["kernel-not-validated"]),
        ({"slice_thickness_mm": 2.5}, []),
        ({"slice_thickness_mm": 3.0}, ["thickness-not-validated"]),
        ({"ctdi_vol_mgy": 3.0}, ["dose-not-validated"]),
        ({"ctdi_vol_mgy": 3.1, "tube_current_ma": 20.0}, []),
        ({"tube_current_ma": 40.0}, ["dose-not-validated"]),
        ({"exposure_mas": 3.0}, []),
        ({"tube_current_ma": None, "exposure_mas": 30.0}, ["dose-not-validated"]),
        ({"tube_current_ma": None, "exposure_mas": None}, ["acquisition-unknown"]),
        ({"kvp": 0.0, "kernel": (), "slice_thickness_mm": None}, ["acquisition-unknown"]),
    ],
)
def test_acquisition_outside_what_was_validated_is_said(change, codes):
    assert [notice.code for notice in check_acquisition(replace(ACQUISITION, **change))] == codes


def test_low_dose_notice_names_the_reason():
    (notice,) = check_acquisition(replace(ACQUISITION, ctdi_vol_mgy=1.21))
    assert "training data are standard-dose" in notice.text
    assert "1.21 mGy" in notice.text


def test_what_a_stage_said_is_not_said_again():
    """Low dose, kernel and thickness come from the series and volume stages too, under their own codes."""
    outside = replace(ACQUISITION, kvp=80.0, kernel=("LUNG",), slice_thickness_mm=5.0, ctdi_vol_mgy=1.0)
    said = ("low-dose", "sharp-kernel", "thick-slices")
    assert [notice.code for notice in check_acquisition(outside, said)] == ["kvp-not-validated"]
    (notice,) = check_acquisition(Acquisition(), ("dose-unknown", "kernel-unknown"))
    assert notice.text.endswith("data: kVp, slice thickness.")
    volume = make_volume(acquisition=outside, notices=(Notice("thick-slices", "5 mm"),))
    codes = [notice.code for notice in make_report(volume=volume).notices]
    assert sorted(codes) == ["dose-not-validated", "kernel-not-validated", "kvp-not-validated", "thick-slices"]


# -- text ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("raw", "shown_as"),
    [
        ("Doe^Jane^Q", "Doe, Jane Q"),
        ("Doe^Jane^^Dr^Jr", "Doe, Jane, Jr (Dr)"),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
        ("=山田^太郎", "山田 太郎"),
        ("Anonymous", "Anonymous"),
        ("^^^^", ""),
        ("", ""),
    ],
)
def test_names_are_readable(raw, shown_as):
    assert readable_name(raw) == shown_as


def test_dates_times_ages_and_sexes_are_readable():
    assert readable_date("19550322") == "1955-03-22"
    assert readable_date("1955.03.22") == "1955-03-22"
    assert readable_date("19551399") == "19551399", "what is no date stays as it stands"
    assert readable_date("") == ""
    assert readable_date("abcdefgh") == "abcdefgh"
    assert readable_time("081512.5") == "08:15"
    assert readable_time("99") == "99"
    assert [readable_age(a) for a in ("070Y", "001M", "63", "")] == ["70 years", "1 month", "63", ""]
    assert [readable_sex(s) for s in ("F", "m", "O", "X", "")] == ["female", "male", "other", "X", ""]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r=", "\n@", " =", "\x00=", "＝"])
def test_no_cell_starts_a_formula(start):
    assert csv_cell(f"{start}cmd()").startswith("'")


def test_plain_text_is_one_bounded_line():
    assert plain("a\r\nb\tc\x07d\u2028e") == "a  b cd e"
    assert plain("x" * 300) == "x" * 200 + "…"
    assert plain("\x00" * 90000 + "x") == "…", "what was dropped is said"


def test_numbers_round_half_up_and_never_to_nan():
    assert shown(7.25, 1) == "7.3"
    assert shown(None, 1) == shown(float("nan"), 1) == ""
    assert rounded(float("inf"), 2) is None
    assert rounded(1.005, 1) == 1.0


def test_location_unknown_is_allowed():
    finding = make_finding(make_volume(), location=Location("unknown", "unknown", 3))
    (written,) = json.loads(json_of(make_report(finding)))["findings"]
    assert written["location"]["lobe"] is None
    assert written["location"]["instance_number"] is None

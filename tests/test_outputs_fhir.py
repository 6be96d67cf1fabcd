"""fhir.json: an R4 bundle that another library reads, whose references resolve and which adds nothing to the result."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
from dicom_results import some_findings
from fhir.resources.R4B.bundle import Bundle
from report_examples import EXAM, changed, finish, make_report, make_volume

from lungscreen import RESEARCH_USE
from lungscreen.outputs.fhir import FhirBundle
from lungscreen.records import Patient, Report, Study
from lungscreen.uids import finding_uid


def bundle_of(report: Report) -> dict[str, Any]:
    (file,) = FhirBundle().files(finish(report))
    assert file.name == "fhir.json"
    bundle: dict[str, Any] = json.loads(file.content)
    return bundle


def some_report(count: int, **changes: Any) -> Report:
    volume = make_volume()
    return make_report(*some_findings(volume, count), volume=volume, **changes)


def resources(bundle: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [entry["resource"] for entry in bundle["entry"] if entry["resource"]["resourceType"] == kind]


def values(node: Any, name: str):
    """Every value under that name, at any depth."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key == name:
                yield value
            yield from values(value, name)
    elif isinstance(node, list):
        for item in node:
            yield from values(item, name)


BARE = Study(Patient(), replace(EXAM, date="", time="", accession_number="", description=""), ())
REPORTS = {
    "none": lambda: some_report(0),
    "one": lambda: some_report(1),
    "twenty": lambda: some_report(20),
    "category not assessed": lambda: some_report(1, category="not assessed"),
    "nothing in the header": lambda: some_report(1, study=BARE),
    "nothing measured": lambda: make_report(
        *(changed(f, outline=None, measurement=None, malignancy=None) for f in some_findings(make_volume(), 1))
    ),
}


@pytest.mark.parametrize("name", REPORTS)
def test_another_library_reads_it(name):
    """fhir.resources knows R4B's fields, cardinalities, choices of value and forms of dates."""
    Bundle.model_validate(bundle_of(REPORTS[name]()))


@pytest.mark.parametrize("name", REPORTS)
def test_references_resolve(name):
    """Each leads to a resource of the bundle, of a kind that may stand there; no two have one name."""
    bundle = bundle_of(REPORTS[name]())
    known = {entry["fullUrl"]: entry["resource"]["resourceType"] for entry in bundle["entry"]}
    assert len(known) == len(bundle["entry"])
    for entry in bundle["entry"]:
        assert entry["fullUrl"] == f"urn:uuid:{entry['resource']['id']}"
    wanted = {"subject": "Patient", "device": "Device", "derivedFrom": "ImagingStudy", "imagingStudy": "ImagingStudy",
              "result": "Observation"}  # fmt: skip
    seen = 0
    for field, kind in wanted.items():
        for value in values(bundle, field):
            for reference in value if isinstance(value, list) else [value]:
                assert known[reference["reference"]] == kind
                seen += 1
    assert seen == sum(1 for _ in values(bundle, "reference"))


@pytest.mark.parametrize("name", REPORTS)
def test_a_value_or_the_reason_for_its_absence(name):
    """Constraint obs-6: never both; and none of our observations has neither, components included (obs-3 asks less)."""
    for observation in resources(bundle_of(REPORTS[name]()), "Observation"):
        has_value = any(key.startswith("value") for key in observation)
        assert not (has_value and "dataAbsentReason" in observation)
        assert has_value or "dataAbsentReason" in observation or observation.get("component")
        for component in observation.get("component", []):
            assert sum(key.startswith("value") for key in component) == 1


def test_required_codes_are_of_their_value_sets():
    """What fhir.resources accepts as any text: status, bundle type, gender (required bindings of R4)."""
    bundle = bundle_of(some_report(2))
    assert bundle["type"] == "collection"
    assert {o["status"] for o in resources(bundle, "Observation")} == {"preliminary"}
    (report,), (study,), (patient,) = (
        resources(bundle, kind) for kind in ("DiagnosticReport", "ImagingStudy", "Patient")
    )
    assert (report["status"], study["status"], patient["gender"]) == ("preliminary", "available", "female")
    assert resources(bundle, "Device")[0]["deviceName"][0]["type"] == "model-name"


def test_dates_have_no_zone_that_nobody_knows():
    """DICOM's times have no zone: dates stand alone, and a date that is none does not stand at all."""
    text = json.dumps(bundle_of(some_report(1)))
    assert '"effectiveDateTime": "2026-02-12"' in text
    assert '"started": "2026-02-12"' in text
    assert not re.search(r"\d{2}:\d{2}(:\d{2})?(Z|[+-]\d{2}:\d{2})", text)
    odd = Study(Patient(birth_date="1955"), replace(EXAM, date="20261399"), ())
    bundle = bundle_of(some_report(1, study=odd))
    assert not list(values(bundle, "effectiveDateTime"))
    assert not list(values(bundle, "birthDate"))
    Bundle.model_validate(bundle)


def test_zero_findings_are_a_number():
    """Nothing found is a result, not an absence."""
    bundle = bundle_of(some_report(0))
    counts = [o["valueInteger"] for o in resources(bundle, "Observation") if "valueInteger" in o]
    assert counts == [0]
    assert not any("dataAbsentReason" in o for o in resources(bundle, "Observation") if "valueInteger" in o)


def test_a_nodule_is_tracked_and_measured_as_in_the_other_outputs():
    """The identifier is the tracking UID of SR and SEG; numbers are the report's digits with UCUM units."""
    report = some_report(1)
    document = finish(report).document
    nodules = [o for o in resources(bundle_of(report), "Observation") if "component" in o]
    (nodule,), (finding,) = nodules, document.findings
    tracking = finding_uid(document.series.series_uid, finding.position_mm)
    assert nodule["identifier"] == [{"system": "urn:dicom:uid", "value": f"urn:oid:{tracking}"}]
    found = {
        component["code"]["coding"][0]["code"]: component["valueQuantity"]
        for component in nodule["component"] if "valueQuantity" in component
    }  # fmt: skip
    size = finding.measurement
    assert (found["103339001"]["value"], found["103339001"]["code"]) == (size.long_axis_mm, "mm")
    assert (found["118565006"]["value"], found["118565006"]["code"]) == (size.volume_mm3, "mm3")
    assert nodule["bodySite"]["coding"][0]["code"] == "45653009"


def test_the_report_says_what_it_is_not():
    """And what nobody looked at."""
    (report,) = resources(bundle_of(some_report(1, not_assessed=("modifier S",))), "DiagnosticReport")
    assert RESEARCH_USE in report["conclusion"]
    assert "No person has verified it." in report["conclusion"]
    assert "modifier S" in report["conclusion"]


def test_the_same_result_gives_the_same_bundle():
    """Also later in the day."""
    report = some_report(2)
    later = replace(report.provenance, created="2031-01-01T00:00:00Z", seconds={})
    assert bundle_of(report) == bundle_of(replace(report, provenance=later))

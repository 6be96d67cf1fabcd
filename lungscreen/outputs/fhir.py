"""Result ─► a FHIR R4 bundle for records and registries: a preliminary diagnostic report and what it rests on.

The pattern is that of HL7's DICOM SR guide (tracking UIDs as identifiers, a device for the algorithm), whose profiles
are R5; the fields are those of HL7 Lithuania's lung-cancer screening guide. Nothing carries a time zone that the input
lacks: dates stand alone. The same result gives the same bundle.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

from lungscreen import RESEARCH_USE
from lungscreen.days import iso_day
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.words import category_text, count_text, place_text
from lungscreen.results.document import MALIGNANCY_MEANING, ReportDocument, ReportedFinding
from lungscreen.results.finished import Finished
from lungscreen.uids import derived_uid, finding_uid

__all__ = ["FhirBundle", "build_bundle", "fhir_file"]

LOCAL = f"urn:oid:{derived_uid('lungscreen', 'local codes')}"
"""System of the codes that no terminology has: an OID made from a UUID, which needs no registry."""
SCT, LOINC, DICOM, UCUM = (
    "http://snomed.info/sct",
    "http://loinc.org",
    "http://dicom.nema.org/resources/ontology/DCM",
    "http://unitsofmeasure.org",
)
NOT_VERIFIED = "No person has verified it."
STATUS = "preliminary"
_SPACE = uuid.UUID("6f2d3f5e-5a51-5c8e-9d4b-3b6d5a1c7e20")
"""Name space of the bundle's own identifiers."""

Resource = dict[str, Any]

_TYPES = {
    "solid": (SCT, "35702001", "Solid"),
    "ground-glass": (DICOM, "112120", "Ground glass opacity"),
    "calcified": (DICOM, "112063", "Abnormal calcifications"),
    "part-solid": (LOCAL, "PARTSOLID", "Part-solid nodule"),
}
_SITES = {
    ("right", "upper"): ("45653009", "Structure of upper lobe of lung", "24028007"),
    ("right", "middle"): ("72481006", "Middle lobe of right lung", ""),
    ("right", "lower"): ("90572001", "Lower lobe of lung", "24028007"),
    ("left", "upper"): ("45653009", "Structure of upper lobe of lung", "7771000"),
    ("left", "lower"): ("90572001", "Lower lobe of lung", "7771000"),
}
_LUNG_RADS = ("0", "1", "2", "3", "4A", "4B", "4X")


class FhirBundle:
    """fhir.json: the bundle."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """The one file."""
        yield fhir_file(finished.document)


def fhir_file(document: ReportDocument) -> NamedFile:
    """The bundle as a file."""
    bundle = build_bundle(document)
    return NamedFile("fhir.json", json.dumps(bundle, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def build_bundle(document: ReportDocument) -> Resource:
    """A collection: patient, imaging study, device, observations, report."""
    names = _Names(document)
    nodules = [_nodule(finding, document, names) for finding in document.findings]
    observations = [_category(document, names), _count(document, names), *nodules]
    resources = [
        _patient(document, names),
        _study(document, names),
        _device(document, names),
        *observations,
        _report(document, names, observations),
    ]
    return {
        "resourceType": "Bundle",
        "id": names.number("bundle"),
        "type": "collection",
        "entry": [{"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource} for resource in resources],
    }


class _Names:
    """Identifiers that depend on the result alone."""

    def __init__(self, document: ReportDocument) -> None:
        provenance = document.provenance
        self._result = "/".join(
            (provenance.software_version, provenance.pipeline_hash, provenance.series_uid,
             provenance.sop_instance_uids_sha256)
        )  # fmt: skip

    def number(self, *role: object) -> str:
        """A UUID for one resource."""
        return str(uuid.uuid5(_SPACE, "/".join((self._result, *map(str, role)))))

    def to(self, *role: object) -> Resource:
        """A reference to it."""
        return {"reference": f"urn:uuid:{self.number(*role)}"}


def _code(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}], "text": display}


def _quantity(value: float, unit: str, code: str) -> Resource:
    return {"value": value, "unit": unit, "system": UCUM, "code": code}


def _known(resource: Resource) -> Resource:
    """Without what is not known: FHIR has no empty values."""
    return {name: value for name, value in resource.items() if value not in (None, "", [], {})}


# -- who, what, by what ----------------------------------------------------------------------------------------------
def _patient(document: ReportDocument, names: _Names) -> Resource:
    patient = document.patient
    return _known(
        {
            "resourceType": "Patient",
            "id": names.number("patient"),
            "identifier": [{"value": patient.patient_id}] if patient.patient_id else [],
            "name": _human_name(patient.name),
            "gender": {"M": "male", "F": "female", "O": "other"}.get(patient.sex or ""),
            "birthDate": iso_day(patient.birth_date),
        }
    )


def _human_name(name: str | None) -> list[Resource]:
    """DICOM's Family^Given^Middle^Prefix^Suffix, the alphabetic group."""
    family, given, middle, prefix, suffix = (
        [part.strip() for part in (name or "").split("=")[0].split("^")] + [""] * 5
    )[:5]
    human = _known(
        {
            "family": family,
            "given": [part for part in (given, middle) if part],
            "prefix": [prefix] if prefix else [],
            "suffix": [suffix] if suffix else [],
        }
    )
    return [human] if human else []


def _study(document: ReportDocument, names: _Names) -> Resource:
    exam, series = document.exam, document.series
    accession = {"type": _code("http://terminology.hl7.org/CodeSystem/v2-0203", "ACSN", "Accession ID")}
    identifiers: list[Resource] = [{"system": "urn:dicom:uid", "value": f"urn:oid:{exam.study_uid}"}]
    if exam.accession_number:
        identifiers.append({**accession, "value": exam.accession_number})
    modality = {"system": DICOM, "code": "CT", "display": "Computed Tomography"}
    return _known(
        {
            "resourceType": "ImagingStudy",
            "id": names.number("study"),
            "identifier": identifiers,
            "status": "available",
            "modality": [modality],
            "subject": names.to("patient"),
            "started": iso_day(exam.date),
            "description": exam.description,
            "numberOfSeries": 1,
            "series": [
                _known(
                    {
                        "uid": series.series_uid,
                        "modality": modality,
                        "description": document.acquisition.series_description,
                        "numberOfInstances": series.slices,
                    }
                )
            ],
        }
    )


def _device(document: ReportDocument, names: _Names) -> Resource:
    provenance = document.provenance
    weights = ", ".join(f"{used.name} {used.version} sha256 {used.sha256}" for used in provenance.weights)
    versions = [
        {"type": {"text": "software"}, "value": provenance.software_version},
        {"type": {"text": "pipeline"}, "value": f"{provenance.pipeline_name} {provenance.pipeline_hash}"},
    ]
    if weights:
        versions.append({"type": {"text": "weights"}, "value": weights})
    return {
        "resourceType": "Device",
        "id": names.number("device"),
        "manufacturer": "lungscreen",
        "deviceName": [{"name": "lungscreen", "type": "model-name"}],
        "type": _code(DICOM, "123110", "Artificial Intelligence"),
        "version": versions,
        "note": [{"text": f"{RESEARCH_USE} {NOT_VERIFIED}"}],
    }


# -- what was found --------------------------------------------------------------------------------------------------
def _observation(document: ReportDocument, names: _Names, role: tuple[object, ...], code: Resource) -> Resource:
    """What all observations have."""
    observation = {
        "resourceType": "Observation",
        "id": names.number(*role),
        "status": STATUS,
        "category": [_code("http://terminology.hl7.org/CodeSystem/observation-category", "imaging", "Imaging")],
        "code": code,
        "subject": names.to("patient"),
        "derivedFrom": [names.to("study")],
        "device": names.to("device"),
    }
    day = iso_day(document.exam.date)
    return {**observation, "effectiveDateTime": day} if day else observation


def _category_value(category: str | None) -> Resource | None:
    """A coded Lung-RADS category, or the words of another one; None where there is none."""
    value = category_text(category)
    if value.removesuffix("S") in _LUNG_RADS:
        code = value.removesuffix("S")
        return {**_code(LOCAL, f"LUNGRADS{code}", f"Lung-RADS category {code}"), "text": value}
    return None if value == "not assessed" else {"text": value}


def _category_code() -> Resource:
    return _code(SCT, "1362105002", "Lung Imaging Reporting and Data System category")


def _category(document: ReportDocument, names: _Names) -> Resource:
    """The exam's category."""
    observation = _observation(document, names, ("category",), _category_code())
    value = _category_value(document.category)
    if value is None:
        observation["dataAbsentReason"] = _code(
            "http://terminology.hl7.org/CodeSystem/data-absent-reason", "not-performed", "Not Performed"
        )
    else:
        observation["valueCodeableConcept"] = value
    if document.category_reason:
        observation["note"] = [{"text": document.category_reason}]
    return observation


def _count(document: ReportDocument, names: _Names) -> Resource:
    """How many findings: 0 is a value, not an absence."""
    code = _code(LOCAL, "FINDINGCOUNT", "Number of findings")
    return {**_observation(document, names, ("count",), code), "valueInteger": len(document.findings)}


def _nodule(finding: ReportedFinding, document: ReportDocument, names: _Names) -> Resource:
    """One finding; its numbers are components."""
    kind = ("4147007", "Mass") if finding.is_mass else ("27925004", "Nodule")
    observation = _observation(document, names, ("finding", finding.number), _code(SCT, *kind))
    tracking = finding_uid(document.series.series_uid, finding.position_mm)
    observation["identifier"] = [{"system": "urn:dicom:uid", "value": f"urn:oid:{tracking}"}]
    observation["component"] = list(_components(finding))
    site = _site(finding)
    if site:
        observation["bodySite"] = site
    notes = [finding.category_reason, *(f"{notice.code}: {notice.text}" for notice in finding.notices)]
    texts = [{"text": text} for text in notes if text]
    return {**observation, "note": texts} if texts else observation


def _site(finding: ReportedFinding) -> Resource | None:
    location = finding.location
    words = (location.lobe or "").split()
    lobe = next((zone for zone in ("upper", "middle", "lower") if zone in words), "")
    found = _SITES.get((location.side, lobe))
    if found is None:
        return None if location.side == "unknown" else {**_code(SCT, "39607008", "Lung"), "text": place_text(finding)}
    code, display, side = found
    site: Resource = {"coding": [{"system": SCT, "code": code, "display": display}], "text": place_text(finding)}
    if side:
        meaning = "Right" if location.side == "right" else "Left"
        site["coding"].append({"system": SCT, "code": side, "display": meaning})
    return site


def _components(finding: ReportedFinding) -> Iterator[Resource]:
    size = finding.measurement
    if size is not None:
        for code, value in (
            (_code(SCT, "103339001", "Long axis"), size.long_axis_mm),
            (_code(SCT, "103340004", "Short axis"), size.short_axis_mm),
            (_code(SCT, "81827009", "Diameter"), size.mean_diameter_mm),
        ):
            yield {"code": code, "valueQuantity": _quantity(value, "mm", "mm")}
        yield {"code": _code(SCT, "118565006", "Volume"), "valueQuantity": _quantity(size.volume_mm3, "mm3", "mm3")}
        if finding.type == "part-solid":
            name = _code(LOCAL, "SOLIDDIAMETER", "Mean diameter of the solid part")
            yield {"code": name, "valueQuantity": _quantity(size.solid_mean_diameter_mm, "mm", "mm")}
    kind = _TYPES.get(str(finding.type))
    if kind is not None:
        yield {"code": _code(SCT, "116676008", "Associated morphology"), "valueCodeableConcept": _code(*kind)}
    category = _category_value(finding.category)
    if category is not None:
        yield {"code": _category_code(), "valueCodeableConcept": category}
    if finding.malignancy is not None:
        name = {**_code(LOCAL, "MALRATING", "Malignancy rating as of readers"), "text": MALIGNANCY_MEANING}
        yield {"code": name, "valueQuantity": _quantity(round(100 * finding.malignancy.probability, 2), "%", "%")}
    if finding.location.instance_number is not None:
        name = _code(LOCAL, "IMAGENUMBER", "Instance number of the slice")
        yield {"code": name, "valueInteger": finding.location.instance_number}
    if finding.change is not None and finding.change.doubling_days is not None:
        name = _code(LOCAL, "DOUBLINGTIME", "Volume doubling time")
        yield {"code": name, "valueQuantity": _quantity(finding.change.doubling_days, "d", "d")}


def _report(document: ReportDocument, names: _Names, observations: list[Resource]) -> Resource:
    category = category_text(document.category)
    conclusion = f"Category {category}. {count_text(document)}. {document.category_reason or ''}".strip()
    missing = f" Not assessed: {'; '.join(document.not_assessed)}." if document.not_assessed else ""
    day = iso_day(document.exam.date)
    report = {
        "resourceType": "DiagnosticReport",
        "id": names.number("report"),
        "status": STATUS,
        "category": [_code("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology")],
        "code": _code(LOINC, "79086-5", "CT Chest for screening WO contrast"),
        "subject": names.to("patient"),
        "effectiveDateTime": day,
        "performer": [],
        "result": [{"reference": f"urn:uuid:{observation['id']}"} for observation in observations],
        "imagingStudy": [names.to("study")],
        "conclusion": f"{conclusion}{missing} {RESEARCH_USE} {NOT_VERIFIED}",
    }
    return _known(report)

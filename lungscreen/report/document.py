"""Report → the JSON document `report.json`, whose schema ships as `report.schema.json`.

What was not in the input, or nothing measured, is null. Places are LPS mm of the series that was read.
"""

from __future__ import annotations

import dataclasses
import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from lungscreen import RESEARCH_USE
from lungscreen.errors import LungscreenError, Notice, Refusal
from lungscreen.records import (
    Acquisition,
    Attributes,
    Eligibility,
    Finding,
    LostNodule,
    Malignancy,
    Measurement,
    NoduleChange,
    PastNodule,
    Patient,
    Person,
    PriorExam,
    Report,
    Risk,
    Volume,
)
from lungscreen.report.masks import finding_position
from lungscreen.report.text import plain, readable_date, readable_time, rounded
from lungscreen.report.validated import VALIDATED_ON

__all__ = [
    "ATTRIBUTES_MEANING",
    "MALIGNANCY_MEANING",
    "SCHEMA_VERSION",
    "patient_document",
    "report_document",
    "report_json",
    "report_schema",
]

SCHEMA_VERSION = "1.3"
"""Of `report.json`. The first number rises when a field changes or goes, the second when one is added."""

ATTRIBUTES_MEANING = "estimated, on the LIDC readers' scales 1 to 5"
"""Stands wherever a nodule's attributes stand."""

MALIGNANCY_MEANING = "how likely more than half of the radiologists would rate it 4 or 5; not a cancer risk"
"""Stands wherever a malignancy probability stands."""

_LONG_TEXT = 2000
"""Characters of a reason or notice that are kept."""


def report_document(report: Report) -> dict[str, Any]:
    """The report as plain JSON types, numbers rounded to what they are good for."""
    return {
        "schema": "lungscreen-report",
        "schema_version": SCHEMA_VERSION,
        "research_use": RESEARCH_USE,
        "key": report.key,
        "patient": patient_document(report.study.patient),
        "person": None if report.person is None else _person(report.person),
        "exam": _exam(report),
        "prior": _prior(report.priors[0]) if report.priors else None,
        "priors": [_prior(prior) for prior in report.priors],
        "acquisition": _acquisition(report.volume.series.acquisition),
        "series": _series(report.volume),
        "validated_on": VALIDATED_ON,
        "category": report.category,
        "category_reason": _text(report.category_reason, _LONG_TEXT),
        "not_assessed": [plain(item, _LONG_TEXT) for item in report.not_assessed],
        "lungs": _lungs(report),
        "candidates": len(report.candidates),
        "findings": [finding_document(finding, report.volume) for finding in report.findings],
        "no_nodules": [_no_nodule(mark, report.volume) for mark in report.no_nodules],
        "cut_off": report.cut_off,
        "lost": [_lost(nodule) for nodule in report.lost],
        "notices": [_notice(notice) for notice in report.notices],
        "not_read": [_refusal(refusal) for refusal in (*report.study.not_read, *report.volume.refused)],
        "provenance": _provenance(report),
    }


def report_json(report: Report) -> str:
    """The document as text, checked against the schema.

    Errors: `internal-error` where it does not fit, which is a mistake in this software and costs this study only.
    """
    import jsonschema

    document = report_document(report)
    try:
        _validator().validate(document)
    except jsonschema.ValidationError as error:
        raise LungscreenError("internal-error", f"report.json does not fit its schema: {error.json_path}") from None
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def patient_document(patient: Patient) -> dict[str, str | None]:
    """Who it is, as it stands in `report.json`."""
    return {
        "patient_id": _text(patient.patient_id),
        "name": _text(patient.name),
        "birth_date": _text(readable_date(patient.birth_date)),
        "sex": _text(patient.sex),
    }


def report_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of `report.json`."""
    text = files("lungscreen.report").joinpath("report.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


@lru_cache(maxsize=1)
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(report_schema())


def _text(text: str, longest: int = 200) -> str | None:
    return plain(text, longest) or None


def _exam(report: Report) -> dict[str, Any]:
    exam = report.study.exam
    return {
        "study_uid": plain(exam.study_uid),
        "accession_number": _text(exam.accession_number),
        "date": _text(readable_date(exam.date)),
        "time": _text(readable_time(exam.time)),
        "description": _text(exam.description),
        "age": _text(exam.age),
    }


def _acquisition(acquisition: Acquisition) -> dict[str, Any]:
    return {
        "manufacturer": _text(acquisition.manufacturer),
        "model": _text(acquisition.model),
        "body_part": _text(acquisition.body_part),
        "series_description": _text(acquisition.series_description),
        "image_type": [plain(value) for value in acquisition.image_type],
        "kernel": [plain(value) for value in acquisition.kernel],
        "kvp": rounded(acquisition.kvp, 3),
        "tube_current_ma": rounded(acquisition.tube_current_ma, 3),
        "exposure_mas": rounded(acquisition.exposure_mas, 3),
        "ctdi_vol_mgy": rounded(acquisition.ctdi_vol_mgy, 4),
        "slice_thickness_mm": rounded(acquisition.slice_thickness_mm, 4),
        "contrast": _text(acquisition.contrast),
        "lossy": acquisition.lossy,
        "burned_in": _text(acquisition.burned_in),
    }


def _series(volume: Volume) -> dict[str, Any]:
    slices, rows, columns = volume.geometry.shape
    z, y, x = volume.geometry.spacing_mm
    return {
        "series_uid": plain(volume.series_uid),
        "kind": volume.series.kind,
        "frame_of_reference": _text(volume.geometry.frame_of_reference),
        "slices": slices,
        "rows": rows,
        "columns": columns,
        "slice_spacing_mm": rounded(z, 4),
        "row_spacing_mm": rounded(y, 4),
        "column_spacing_mm": rounded(x, 4),
    }


def _lungs(report: Report) -> dict[str, Any]:
    lungs = report.lungs
    return {
        "right_ml": rounded(lungs.right_ml, 1),
        "left_ml": rounded(lungs.left_ml, 1),
        "apex_cut": lungs.apex_cut,
        "base_cut": lungs.base_cut,
        "incomplete": lungs.incomplete,
    }


def finding_document(finding: Finding, volume: Volume) -> dict[str, Any]:
    """One finding as report.json has it."""
    location = finding.location
    return {
        "number": finding.number,
        "position_mm": list(finding_position(finding, volume.geometry)),
        "location": {
            "side": location.side,
            "lobe": _text(location.lobe),
            "lobe_is_estimated": True,
            "zone": location.zone,
            "slice_from_top": location.slice_from_top,
            "instance_number": location.instance_number,
            "pleura_mm": rounded(location.pleura_mm, 1),
            "perifissural": location.perifissural,
            "fissure_mm": rounded(location.fissure_mm, 1),
        },
        "type": str(finding.nodule_type),
        "is_mass": finding.is_mass,
        "detection_score": rounded(finding.candidate.score, 6),
        "detector_diameter_mm": rounded(finding.candidate.diameter_mm, 2),
        "measurement": _measurement(finding.measurement),
        "malignancy": _malignancy(finding.malignancy),
        "attributes": _attributes(finding.attributes),
        "nodule_probability": rounded(finding.nodule_probability, 4),
        "second_look": finding.second_look or None,
        "category": _text(finding.category),
        "category_reason": _text(finding.category_reason, _LONG_TEXT),
        "category_clause": _text(finding.category_clause, _LONG_TEXT),
        "management": _text(finding.management, _LONG_TEXT),
        "growth": _text(finding.growth, _LONG_TEXT),
        "change": _change(finding.change),
        "risks": [_risk(risk) for risk in finding.risks],
        "notices": [_notice(notice) for notice in finding.notices],
    }


def _measurement(measurement: Measurement | None) -> dict[str, Any] | None:
    if measurement is None:
        return None
    return {field.name: rounded(getattr(measurement, field.name), 2) for field in dataclasses.fields(measurement)}


def _malignancy(malignancy: Malignancy | None) -> dict[str, Any] | None:
    if malignancy is None:
        return None
    return {
        "probability": rounded(malignancy.probability, 4),
        "meaning": MALIGNANCY_MEANING,
        "model": _text(malignancy.model),
    }


def _attributes(attributes: Attributes | None) -> dict[str, Any] | None:
    if attributes is None:
        return None
    values = {field.name: rounded(getattr(attributes, field.name), 2) for field in dataclasses.fields(attributes)}
    return {**values, "meaning": ATTRIBUTES_MEANING}


def _no_nodule(mark: Finding, volume: Volume) -> dict[str, Any]:
    """A mark that the second look takes for no nodule: where it lies and how large it is, no more."""
    size, location = mark.measurement, mark.location
    return {
        "number": mark.number,
        "position_mm": list(finding_position(mark, volume.geometry)),
        "side": location.side,
        "zone": location.zone,
        "slice_from_top": location.slice_from_top,
        "instance_number": location.instance_number,
        "detection_score": rounded(mark.candidate.score, 6),
        "nodule_probability": rounded(mark.nodule_probability, 4),
        "mean_diameter_mm": rounded(size.mean_diameter_mm, 1) if size else None,
    }


def _prior(prior: PriorExam) -> dict[str, Any]:
    return {
        "date": _text(readable_date(prior.date)),
        "study_uid": plain(prior.study_uid),
        "series_uid": _text(prior.series_uid),
        "how": prior.how,
        "lungs_overlap": rounded(prior.overlap, 3),
        "category": _text(prior.category),
    }


def _change(change: NoduleChange | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {
        "state": change.state,
        "text": plain(change.text, _LONG_TEXT),
        "exams": [_past(past) for past in change.exams],
        "days": change.days,
        "diameter_change_mm": rounded(change.diameter_change_mm, 1),
        "volume_change_percent": rounded(change.volume_change_percent, 1),
        "doubling_days": rounded(change.doubling_days, 1),
        "doubling_shortest_days": rounded(change.doubling_shortest_days, 1),
        "doubling_longest_days": rounded(change.doubling_longest_days, 1),
        "distance_mm": rounded(change.distance_mm, 1),
        "ambiguous": change.ambiguous,
    }


def _past(past: PastNodule) -> dict[str, Any]:
    return {
        "date": _text(readable_date(past.date)),
        "study_uid": plain(past.study_uid),
        "number": past.number,
        "how": past.how,
        "type": str(past.nodule_type),
        "long_axis_mm": rounded(past.long_axis_mm, 1),
        "short_axis_mm": rounded(past.short_axis_mm, 1),
        "mean_diameter_mm": rounded(past.mean_diameter_mm, 1),
        "volume_mm3": rounded(past.volume_mm3, 2),
        "volume_sd_mm3": rounded(past.volume_sd_mm3, 2),
        "solid_mean_diameter_mm": rounded(past.solid_mean_diameter_mm, 2),
        "solid_volume_mm3": rounded(past.solid_volume_mm3, 2),
        "position_mm": None if past.centre_mm is None else [rounded(v, 2) for v in past.centre_mm],
        "side": past.side,
        "zone": past.zone,
        "category": _text(past.category),
    }


def _lost(nodule: LostNodule) -> dict[str, Any]:
    return {
        "state": nodule.state,
        "text": plain(nodule.text, _LONG_TEXT),
        "exam": _past(nodule.past),
        "expected_mm": None if nodule.expected_mm is None else [rounded(v, 2) for v in nodule.expected_mm],
    }


def _person(person: Person) -> dict[str, Any]:
    """The patient data as they were used; what is not known is null."""
    data = dataclasses.asdict(person.data)
    known = {name: _known(value) for name, value in data.items() if name != "from_header"}
    return {
        **known,
        "prior_exam_date": _text(readable_date(person.data.prior_exam_date)),
        "from_header": list(person.data.from_header),
        "risk": _risk(person.risk),
        "eligibility": [_eligibility(programme) for programme in person.programmes],
    }


def _known(value: Any) -> Any:
    """Texts made safe, numbers as they are; empty is not known."""
    return _text(value) if isinstance(value, str) else value


def _eligibility(programme: Eligibility) -> dict[str, Any]:
    return {
        "programme": plain(programme.programme),
        "eligible": programme.eligible,
        "reason": plain(programme.reason, _LONG_TEXT),
        "needs": list(programme.needs),
        "assumed": list(programme.assumed),
        "sources": list(programme.sources),
    }


def _risk(risk: Risk) -> dict[str, Any]:
    return {
        "model": plain(risk.model),
        "probability": rounded(risk.probability, 4),
        "meaning": plain(risk.meaning, _LONG_TEXT),
        "needs": list(risk.needs),
        "assumed": list(risk.assumed),
        "limits": list(risk.limits),
        "sources": list(risk.sources),
    }


def _notice(notice: Notice) -> dict[str, str]:
    return {"code": notice.code, "text": plain(notice.text, _LONG_TEXT)}


def _refusal(refusal: Refusal) -> dict[str, str]:
    return {
        "where": plain(refusal.where, _LONG_TEXT),
        "code": refusal.code,
        "reason": plain(refusal.reason, _LONG_TEXT),
        "scope": refusal.scope,
    }


def _provenance(report: Report) -> dict[str, Any]:
    provenance = report.provenance
    return {
        "software": "lungscreen",
        "software_version": provenance.software_version,
        "pipeline_name": provenance.pipeline_name,
        "pipeline_hash": provenance.pipeline_hash,
        "weights": [dataclasses.asdict(weights) for weights in provenance.weights],
        "operating_point": provenance.operating_point,
        "study_uid": plain(report.study.exam.study_uid),
        "series_uid": plain(provenance.series_uid),
        "sop_instance_uids_sha256": provenance.sop_instance_uids_sha256,
        "created": provenance.created,
        "seconds": {name: rounded(seconds, 3) for name, seconds in provenance.seconds.items()},
        "options": {plain(name): plain(value) for name, value in provenance.options.items()},
    }

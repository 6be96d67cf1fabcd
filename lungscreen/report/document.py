"""Report → the JSON document `report.json`."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from lungscreen.errors import LungscreenError
from lungscreen.records import Finding, Report, Volume
from lungscreen.results.build import build_document, build_finding
from lungscreen.results.document import ATTRIBUTES_MEANING, MALIGNANCY_MEANING, SCHEMA_VERSION
from lungscreen.results.schema import report_schema
from lungscreen.results.values import to_plain

__all__ = [
    "ATTRIBUTES_MEANING",
    "MALIGNANCY_MEANING",
    "SCHEMA_VERSION",
    "finding_document",
    "report_document",
    "report_json",
    "report_schema",
]


def report_document(report: Report) -> dict[str, Any]:
    """The report as plain JSON types, numbers rounded to what they are good for."""
    document: dict[str, Any] = to_plain(build_document(report, report.key))
    return document


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


def finding_document(finding: Finding, volume: Volume) -> dict[str, Any]:
    """One finding as report.json has it."""
    document: dict[str, Any] = to_plain(build_finding(finding, volume))
    return document


@lru_cache(maxsize=1)
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(report_schema())

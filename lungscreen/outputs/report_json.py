"""report.json: the document as data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lungscreen.errors import LungscreenError
from lungscreen.outputs.interface import NamedFile
from lungscreen.results.document import ReportDocument
from lungscreen.results.finished import Finished
from lungscreen.results.schema import report_schema
from lungscreen.results.values import to_plain

__all__ = ["ReportJson", "document_json"]


class ReportJson:
    """report.json."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """The document, checked against its schema."""
        yield NamedFile("report.json", document_json(finished.document))


def document_json(document: ReportDocument) -> str:
    """The document as text, checked against the schema.

    Errors: `internal-error` where it does not fit, which is a mistake in this software and costs this study only.
    """
    import jsonschema

    plain = to_plain(document)
    try:
        _validator().validate(plain)
        return json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except jsonschema.ValidationError as error:
        where = error.json_path
    except ValueError:
        where = "a number that is none"
    raise LungscreenError("internal-error", f"report.json does not fit its schema: {where}")


@lru_cache(maxsize=1)
def _validator() -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(report_schema())

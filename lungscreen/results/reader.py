"""report.json ─► ReportDocument; whoever reads a result reads it through here.

The file may come from anywhere: its size, its lists and its texts are bounded, numbers are finite and within their
bounds, control characters go, words are among the known ones. Every version from 1.0 on is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lungscreen.files import open_regular
from lungscreen.results.document import ReportDocument
from lungscreen.results.values import UnreadableError, from_plain

__all__ = ["MOST_BYTES", "read_document", "read_json", "read_result"]

MOST_BYTES = 20 * 1024 * 1024
"""A larger file is no report of one study."""


def read_result(path: Path, *, foreign: bool = False) -> ReportDocument:
    """A report that this software wrote, in this version or an earlier one.

    foreign: it comes from elsewhere: a finding whose sizes are impossible is read as one that was not measured.

    Errors: `UnreadableError`, which says why; it names no patient.
    """
    return read_document(read_json(path), foreign=foreign)


def read_document(document: Any, *, foreign: bool = False) -> ReportDocument:
    """The same from JSON values.

    Errors: `UnreadableError`.
    """
    if not isinstance(document, dict) or document.get("schema") != "lungscreen-report":
        raise UnreadableError("not a report of this software")
    if not str(document.get("schema_version")).startswith("1."):
        raise UnreadableError("of a version to come")
    return from_plain(ReportDocument, document, foreign=foreign)


def read_json(path: Path, most_bytes: int = MOST_BYTES) -> Any:
    """The values of a JSON file of bounded size; no NaN, no infinity.

    Errors: `UnreadableError`.
    """
    try:
        with open_regular(path) as file:
            content = file.read(most_bytes + 1)
        if len(content) > most_bytes:
            raise UnreadableError("larger than any report")
        return json.loads(content.decode("utf-8"), parse_constant=_no_number)
    except UnreadableError:
        raise
    except (OSError, ValueError, RecursionError) as error:
        raise UnreadableError(f"cannot be read: {type(error).__name__}") from None


def _no_number(name: str) -> None:
    raise UnreadableError(f"holds {name}, which is no number")

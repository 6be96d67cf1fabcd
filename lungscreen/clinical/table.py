"""A file of patient data → its rows by PatientID, each cell understood or said to be not known."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from lungscreen.clinical.values import DATA_COLUMNS, read_date, read_person, read_text
from lungscreen.errors import InputError, Notice
from lungscreen.records import ClinicalData
from lungscreen.text import plain_text

__all__ = ["COLUMNS", "ClinicalRow", "ClinicalTable", "read_clinical"]

MAX_BYTES = 32 * 1024 * 1024
"""A larger file of patient data is refused."""

MAX_ROWS = 500_000
"""More rows than this are refused."""

MAX_COLUMNS = 200
"""More columns than this are refused."""

SHOWN = 10
"""Names or row numbers that a notice lists at most."""

COLUMNS = ("patient_id", "accession_number", "study_date", *DATA_COLUMNS)
"""Columns that are read; all but patient_id may be absent, and every cell may be empty."""


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """One row of the file: whose it is, what it says, and what in it was not understood."""

    number: int
    """Counted from 1, without the header."""
    patient_id: str
    accession_number: str
    study_date: str
    """YYYYMMDD, or empty."""
    data: ClinicalData
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class ClinicalTable:
    """All rows by PatientID, and what is to be said of the file as a whole."""

    rows: Mapping[str, tuple[ClinicalRow, ...]] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class _Content:
    """What stands in the file, before any value is understood."""

    names: tuple[str, ...]
    records: tuple[tuple[int, Mapping[str, Any]], ...]
    """Row number and cells by column."""
    misfits: tuple[int, ...] = ()
    """Rows with another number of cells than the header."""
    decimal_comma: bool = False
    """Commas do not separate cells, so that 27,5 is a number."""


def read_clinical(path: Path) -> ClinicalTable:
    """Read a CSV (comma, semicolon or tab) or JSON (list of objects) of patient data.

    Unknown columns, rows that do not fit the header and a guessed encoding are in the table's notices; values that are
    not understood are in their row's.
    Errors: `clinical-invalid`.
    """
    text, guessed = _decode(_bounded_bytes(path))
    content = _json_content(text) if text.lstrip().startswith(("[", "{")) else _csv_content(text)
    if "patient_id" not in content.names:
        raise _invalid("it has no column patient_id")
    rows: dict[str, list[ClinicalRow]] = {}
    for number, cells in content.records:
        row = _row(number, cells, content.decimal_comma)
        rows.setdefault(row.patient_id, []).append(row)
    nameless = [row.number for row in rows.pop("", [])]
    notices = (*guessed, *_unknown(content.names), *_misfits(content.misfits), *_nameless(nameless))
    return ClinicalTable({key: tuple(found) for key, found in rows.items()}, notices)


# -- from bytes to cells ---------------------------------------------------------------------------------------------
def _bounded_bytes(path: Path) -> bytes:
    try:
        if not path.is_file():
            raise InputError("clinical-invalid", "there is no such file of patient data", str(path))
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError("clinical-invalid", f"cannot read the patient data: {error.strerror}", str(path)) from None
    if len(data) > MAX_BYTES:
        raise _invalid(f"it is larger than {MAX_BYTES // 2**20} MiB")
    return data


def _decode(data: bytes) -> tuple[str, tuple[Notice, ...]]:
    """UTF-8 or UTF-16 by their marks, else UTF-8, else Windows-1252 and said."""
    guessed: tuple[Notice, ...] = ()
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        guessed = (Notice("clinical-encoding", "The patient data are not UTF-8: read as Windows-1252."),)
    if "\0" in text:
        raise _invalid("it is no text: it holds NUL characters")
    return text, guessed


def _csv_content(text: str) -> _Content:
    text = text.lstrip()
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    records: list[tuple[int, Mapping[str, Any]]] = []
    misfits: list[int] = []
    try:
        lines = csv.reader(StringIO(text, newline=""), delimiter=delimiter, strict=True)
        names = _column_names(next(lines, []))
        for number, cells in enumerate((line for line in lines if any(cell.strip() for cell in line)), 1):
            if number > MAX_ROWS:
                raise _invalid(f"it has more than {MAX_ROWS} rows")
            if len(cells) == len(names):
                records.append((number, dict(zip(names, cells, strict=True))))
            else:
                misfits.append(number)
    except csv.Error as error:
        raise _invalid(f"it is no CSV: {error}") from None
    return _Content(names, tuple(records), tuple(misfits), decimal_comma=delimiter != ",")


def _json_content(text: str) -> _Content:
    try:
        parsed = json.loads(text, parse_constant=str, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise _invalid("it is no valid JSON") from None
    if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
        raise _invalid("expected a JSON list with one object a row")
    if len(parsed) > MAX_ROWS:
        raise _invalid(f"it has more than {MAX_ROWS} rows")
    records = [
        (number, dict(zip(_column_names(list(item)), item.values(), strict=True)))
        for number, item in enumerate(parsed, 1)
    ]
    names = {name: None for _, record in records for name in record}
    return _Content(tuple(names), tuple(records))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def _column_names(cells: Sequence[str]) -> tuple[str, ...]:
    if len(cells) > MAX_COLUMNS:
        raise _invalid(f"it has more than {MAX_COLUMNS} columns")
    names = tuple("_".join(cell.strip().lower().split()) for cell in cells)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _invalid(f"the column {plain_text(twice[0], 40)!r} stands twice")
    return names


# -- from cells to a row ---------------------------------------------------------------------------------------------
def _row(number: int, cells: Mapping[str, Any], decimal_comma: bool) -> ClinicalRow:
    data, notices = read_person(cells, number, decimal_comma=decimal_comma)
    study_date = read_date(cells.get("study_date"))
    if study_date is None:
        text = f"Row {number} of the patient data: study_date is not understood and counts as not known."
        notices = (*notices, Notice("clinical-value", text))
    return ClinicalRow(
        number,
        read_text(cells.get("patient_id")),
        read_text(cells.get("accession_number")),
        study_date or "",
        data,
        notices,
    )


def _unknown(names: Sequence[str]) -> tuple[Notice, ...]:
    unknown = sorted(set(names) - set(COLUMNS))
    if not unknown:
        return ()
    shown = [plain_text(name, 40) or "(no name)" for name in unknown]
    return (Notice("clinical-columns", f"Unknown columns in the patient data are not used: {_listed(shown)}."),)


def _misfits(numbers: Sequence[int]) -> tuple[Notice, ...]:
    if not numbers:
        return ()
    text = f"Rows of the patient data with another number of cells than the header are not used: {_listed(numbers)}."
    return (Notice("clinical-columns", text),)


def _nameless(numbers: Sequence[int]) -> tuple[Notice, ...]:
    if not numbers:
        return ()
    return (Notice("clinical-columns", f"Rows of the patient data without a patient_id: {_listed(numbers)}."),)


def _listed(items: Sequence[object]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{', '.join(str(item) for item in items[:SHOWN])}{more}"


def _invalid(reason: str) -> InputError:
    return InputError("clinical-invalid", f"the file of patient data is refused: {reason}")

"""A file of patient data → its rows by PatientID, each cell understood or said to be not known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lungscreen.cells import read_cells, read_date, read_text
from lungscreen.clinical.values import DATA_COLUMNS, read_person
from lungscreen.errors import InputError, Notice
from lungscreen.records import ClinicalData
from lungscreen.text import plain_text

__all__ = ["COLUMNS", "ClinicalRow", "ClinicalTable", "read_clinical"]

SHOWN = 10
"""Names or row numbers that a notice lists at most."""

COLUMNS = ("patient_id", "accession_number", "study_date", *DATA_COLUMNS)
"""Columns that are read; all but patient_id may be absent, and every cell may be empty."""


@dataclass(frozen=True, slots=True)
class ClinicalRow:
    """One row of the file: the person it belongs to, what it says, and what in it was not understood."""

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


def read_clinical(path: Path) -> ClinicalTable:
    """Read a CSV (comma, semicolon or tab) or JSON (list of objects) of patient data.

    Unknown columns, rows that do not fit the header and a guessed encoding are in the table's notices; values that are
    not understood are in their row's.
    Errors: `clinical-invalid`.
    """
    content = read_cells(path, "clinical-invalid", "patient data")
    if "patient_id" not in content.names:
        reason = "the file of patient data is refused: it has no column patient_id"
        raise InputError("clinical-invalid", reason)
    guessed = "The patient data are not UTF-8: read as Windows-1252."
    rows: dict[str, list[ClinicalRow]] = {}
    for number, cells in content.records:
        row = _row(number, cells, content.decimal_comma)
        rows.setdefault(row.patient_id, []).append(row)
    nameless = [row.number for row in rows.pop("", [])]
    said = (Notice("clinical-encoding", guessed),) if content.guessed_encoding else ()
    notices = (*said, *_unknown(content.names), *_misfits(content.misfits), *_nameless(nameless), *_doubtful(rows))
    return ClinicalTable({key: tuple(found) for key, found in rows.items()}, notices)


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


def _doubtful(rows: Mapping[str, Sequence[ClinicalRow]]) -> tuple[Notice, ...]:
    """How many rows hold something that is not understood or contradicts itself; each exam's report says what."""
    numbers = sorted(row.number for found in rows.values() for row in found if row.notices)
    if not numbers:
        return ()
    count = f"{len(numbers)} row{'' if len(numbers) == 1 else 's'}"
    text = (
        f"{count} of the patient data with a value that is not understood or contradicts another: {_listed(numbers)}."
    )
    return (Notice("clinical-value", text),)


def _listed(items: Sequence[object]) -> str:
    more = f" and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return f"{', '.join(str(item) for item in items[:SHOWN])}{more}"

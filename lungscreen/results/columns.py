"""`document` ─► the columns and rows of findings.csv and worklist.csv.

A field of the document says in which column it stands; columns are only ever added at the end.
"""

from __future__ import annotations

import csv
import io
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, is_dataclass
from functools import lru_cache
from typing import Any

from lungscreen.geometry import Vector
from lungscreen.results.document import LONG_TEXT, ReportDocument, ReportedFinding, WorklistRow
from lungscreen.results.fields import Cell, Column, parts_of
from lungscreen.results.text import csv_cell

__all__ = [
    "Owner",
    "csv_text",
    "empty_cells",
    "finding_cells",
    "finding_columns",
    "owner_of",
    "worklist_cells",
    "worklist_columns",
]


@dataclass(frozen=True, slots=True)
class Owner:
    """The patient, study and series that a finding is of."""

    patient_id: str
    study_uid: str
    series_uid: str
    accession_number: str = ""
    date: str = ""
    """Of the exam, as reports have it."""


def owner_of(document: ReportDocument) -> Owner:
    """Of a report's findings."""
    exam = document.exam
    return Owner(
        document.patient.patient_id or "",
        exam.study_uid,
        document.series.series_uid,
        exam.accession_number or "",
        exam.date or "",
    )


@lru_cache(maxsize=1)
def finding_columns() -> tuple[str, ...]:
    """The head of findings.csv."""
    return tuple(column.name for _, column in _finding_fields())


@lru_cache(maxsize=1)
def worklist_columns() -> tuple[str, ...]:
    """The head of worklist.csv."""
    return ("rank", *(column.name for _, column in _worklist_fields()))


def finding_cells(owner: Owner, name: int | str, finding: ReportedFinding) -> tuple[str, ...]:
    """A row of findings.csv.

    name: the finding's number, or what a reader called it.
    """
    return tuple(map(_cell, _finding_values(owner, name, finding)))


def empty_cells(owner: Owner, name: str, position_mm: Vector) -> tuple[str, ...]:
    """The row of a place where nothing was read."""
    known: dict[str, Cell] = {
        "finding": name,
        "type": "unknown",
        **dict(zip(("x_mm", "y_mm", "z_mm"), position_mm, strict=True)),
    }
    known.update(patient_id=owner.patient_id, study_uid=owner.study_uid, series_uid=owner.series_uid)
    return tuple(_cell(known.get(column)) for column in finding_columns())


def worklist_cells(rank: int, row: WorklistRow) -> tuple[str, ...]:
    """A row of worklist.csv."""
    return (_cell(rank), *(_cell(getattr(row, path[0])) for path, _ in _worklist_fields()))


def csv_text(rows: Iterable[Iterable[Any]]) -> str:
    """Rows as CSV."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


# -- fields ----------------------------------------------------------------------------------------------------------
_Path = tuple[str, ...]


@lru_cache(maxsize=1)
def _finding_fields() -> list[tuple[_Path, Column]]:
    return _in_order(_with_columns(ReportDocument, ()))


@lru_cache(maxsize=1)
def _worklist_fields() -> list[tuple[_Path, Column]]:
    return _in_order(_with_columns(WorklistRow, ()))


def _in_order(found: Iterable[tuple[_Path, Column]]) -> list[tuple[_Path, Column]]:
    return sorted(found, key=lambda one: one[1].place)


def _with_columns(kind: type, path: _Path) -> Iterator[tuple[_Path, Column]]:
    """Fields that stand in a column; of lists, only the findings are gone into: a row is a finding's."""
    for part in parts_of(kind):
        below = (*path, part.name)
        yield from ((below, column) for column in part.said.columns)
        if is_dataclass(part.kind):
            yield from _with_columns(typing.cast(type, part.kind), below)
        elif part.kind == tuple[ReportedFinding, ...]:
            yield from _with_columns(ReportedFinding, below)


def _finding_values(owner: Owner, name: int | str, finding: ReportedFinding) -> Iterator[Cell]:
    for path, column in _finding_fields():
        if path[0] != "findings":
            yield getattr(owner, path[-1])
        elif path == ("findings", "number"):
            yield name
        else:
            value = _follow(finding, path[1:])
            yield value if column.cell is None or value is None else column.cell(value, finding)


def _follow(value: Any, path: _Path) -> Any:
    for name in path:
        value = None if value is None else getattr(value, name)
    return value


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return csv_cell(str(value), LONG_TEXT) if isinstance(value, str) else repr(value)

"""CSV file ─► Marks, Nodules or series: the tables that an evaluation compares.

Columns are found by name, LUNA16's or this project's, and the order does not matter; `.csv.gz` is read as it stands.
Every cell that should be a number is checked: a wrong one is refused with its row, never skipped.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice

__all__ = ["MarkTable", "Nodules", "Table", "read_marks", "read_nodules", "read_series_list", "read_table_file"]

LARGEST_TABLE = 1 << 29
"""Bytes of text read at most from one table: a compressed file cannot fill the memory."""
LARGEST_MM = 1e6
"""Coordinates beyond a kilometre are no millimetres."""
SERIES_COLUMNS = ("seriesuid", "series_uid")
CENTRE_COLUMNS = (("coordX", "x_mm"), ("coordY", "y_mm"), ("coordZ", "z_mm"))
DIAMETER_COLUMNS = ("diameter_mm",)
SCORE_COLUMNS = ("probability", "score")
TYPE_COLUMNS = ("type", "texture")


@dataclass(frozen=True, eq=False)
class MarkTable:
    """What a detector points at.

    series: UID of each mark's scan.
    centres_mm: (n, 3), LPS (x, y, z).
    scores: (n,), any finite scale.
    """

    series: tuple[str, ...]
    centres_mm: NDArray[np.float64]
    scores: NDArray[np.float64]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class Nodules:
    """Annotated findings.

    series, centres_mm: as in `MarkTable`.
    diameters_mm: (n,), negative where unknown.
    types: one each, empty where unknown.
    """

    series: tuple[str, ...]
    centres_mm: NDArray[np.float64]
    diameters_mm: NDArray[np.float64]
    types: tuple[str, ...] = ()
    notices: tuple[Notice, ...] = ()

    @classmethod
    def none(cls) -> Nodules:
        """No finding at all."""
        return cls((), np.empty((0, 3)), np.empty(0))


@dataclass(frozen=True)
class Table:
    """A CSV file's header and rows, as text."""

    where: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notices: tuple[Notice, ...] = ()
    lines: tuple[int, ...] = ()
    """Of each row in the file; counted from the header's, line 1, where empty."""

    def keep(self, rows: Sequence[bool]) -> Table:
        """The rows that are marked so; each still knows its line."""
        kept = [n for n, wanted in enumerate(rows) if wanted]
        lines = self.lines or tuple(range(2, len(self.rows) + 2))
        return replace(self, rows=tuple(self.rows[n] for n in kept), lines=tuple(lines[n] for n in kept))

    def text(self, names: Sequence[str]) -> tuple[str, ...]:
        """The column that has one of these names, stripped.

        Errors: `table-column-missing`.
        """
        place = self.place(names)
        if place is None:
            expected = " or ".join(names)
            raise InputError(
                "table-column-missing", f"expected a column {expected}, got {', '.join(self.header)}", self.where
            )
        return tuple(row[place].strip() for row in self.rows)

    def numbers(self, names: Sequence[str], largest: float = math.inf, *, gaps: bool = False) -> NDArray[np.float64]:
        """The same column as finite numbers, in float64.

        gaps: empty cells are NaN, and not refused.

        Errors: `table-column-missing`, `table-value-invalid`.
        """
        values = np.empty(len(self.rows))
        for n, cell in enumerate(self.text(names)):
            if gaps and not cell:
                values[n] = math.nan
                continue
            try:
                values[n] = float(cell)
            except ValueError:
                values[n] = math.nan
            if not math.isfinite(values[n]) or abs(values[n]) > largest:
                raise InputError(
                    "table-value-invalid", f"expected a finite number as {names[0]}, got {cell[:40]!r}", self.row(n)
                )
        return values

    def place(self, names: Sequence[str]) -> int | None:
        """Which column has one of these names; letter case does not matter."""
        lower = [name.lower() for name in self.header]
        return next((lower.index(name.lower()) for name in names if name.lower() in lower), None)

    def row(self, number: int) -> str:
        """How an error names a row: the file and its line."""
        return f"{self.where}, line {self.lines[number] if self.lines else number + 2}"


def read_marks(path: Path) -> MarkTable:
    """Read a detector's candidates: seriesuid, coordX, coordY, coordZ, probability.

    Errors: `input-missing`, `table-unreadable`, `table-empty`, `table-column-missing`, `table-value-invalid`.
    """
    table = read_table_file(path)
    return MarkTable(_series(table), _centres(table), table.numbers(SCORE_COLUMNS), table.notices)


def read_nodules(path: Path) -> Nodules:
    """Read annotations: seriesuid, coordX, coordY, coordZ, diameter_mm and, where there is one, type.

    Errors: as `read_marks`.
    """
    table = read_table_file(path)
    types = table.text(TYPE_COLUMNS) if table.place(TYPE_COLUMNS) is not None else ()
    return Nodules(_series(table), _centres(table), table.numbers(DIAMETER_COLUMNS, LARGEST_MM), types, table.notices)


def read_series_list(path: Path) -> tuple[str, ...]:
    """The scans that count, one UID a row (first column); a first row that reads `seriesuid` is a header.

    Errors: `input-missing`, `table-unreadable`, `table-empty`, `table-value-invalid`, `series-duplicate`.
    """
    rows = [row for _, row in _rows(path)]
    cells = [row[0].strip() for row in rows]
    if cells and cells[0].lower() in SERIES_COLUMNS:
        cells = cells[1:]
    if not cells:
        raise InputError("table-empty", "expected at least one series UID", str(path))
    if not all(cells):
        raise InputError("table-value-invalid", "a row has no series UID", str(path))
    if len(set(cells)) != len(cells):
        twice = next(uid for n, uid in enumerate(cells) if uid in cells[:n])
        raise InputError("series-duplicate", f"{twice[:80]} is listed twice", str(path))
    return tuple(cells)


def read_table_file(path: Path) -> Table:
    """A CSV file with a header.

    Errors: `input-missing`, `table-unreadable`, `table-empty`, `table-value-invalid` for a row of another length.
    """
    lines, rows = zip(*_rows(path), strict=True)
    header = tuple(cell.strip() for cell in rows[0])
    for number, row in zip(lines[1:], rows[1:], strict=True):
        if len(row) < len(header):
            raise InputError(
                "table-value-invalid",
                f"expected {len(header)} cells as in the header, got {len(row)}",
                f"{path}, line {number}",
            )
    long = sum(len(row) > len(header) for row in rows)
    text = f"{long} rows of {path.name} have more cells than the header; what lies beyond was not read"
    return Table(
        str(path),
        header,
        tuple(tuple(row[: len(header)]) for row in rows[1:]),
        (Notice("table-extra-cells", text),) if long else (),
        lines[1:],
    )


def _series(table: Table) -> tuple[str, ...]:
    series = table.text(SERIES_COLUMNS)
    if not all(series):
        raise InputError("table-value-invalid", "a row has no series UID", table.row(series.index("")))
    return series


def _centres(table: Table) -> NDArray[np.float64]:
    return np.stack([table.numbers(names, LARGEST_MM) for names in CENTRE_COLUMNS], axis=1)


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Rows that are not empty, each with the line on which it ends."""
    if not path.is_file():
        raise InputError("input-missing", "expected a CSV file", str(path))
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            content = file.read(LARGEST_TABLE + 1)
        if len(content) > LARGEST_TABLE:
            raise InputError("table-unreadable", f"more than {LARGEST_TABLE >> 20} MiB of text", str(path))
        reader = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("table-unreadable", f"no CSV text: {error}", str(path)) from None
    if not rows:
        raise InputError("table-empty", "the file has no row", str(path))
    return rows

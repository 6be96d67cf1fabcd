"""A foreign CSV or JSON file ─► its cells, before any value is understood.

The file is bounded in size, rows and columns, and nothing in it is run. One reader for every table that a user writes.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from io import StringIO
from pathlib import Path
from typing import Any

from lungscreen.errors import InputError
from lungscreen.text import plain_text

__all__ = [
    "CellError",
    "Cells",
    "date_cell",
    "flag_cell",
    "number_cell",
    "one_of_cell",
    "read_cells",
    "read_date",
    "read_text",
]

MAX_BYTES = 32 * 1024 * 1024
"""A larger file is refused."""

MAX_ROWS = 500_000
"""More rows than this are refused."""

MAX_COLUMNS = 200
"""More columns than this are refused."""

MAX_CELL = 200
"""Characters of one value; a longer one is not understood."""

_TRUE, _FALSE = ("yes", "y", "true", "1"), ("no", "n", "false", "0")


@dataclass(frozen=True, slots=True)
class Cells:
    """What stands in the file."""

    names: tuple[str, ...]
    """Columns, in lower case, blanks as underscores."""
    records: tuple[tuple[int, Mapping[str, Any]], ...]
    """Row number from 1, without the header, and cells by column."""
    misfits: tuple[int, ...] = ()
    """Rows with another number of cells than the header."""
    decimal_comma: bool = False
    """Commas do not separate cells, so that 27,5 is a number."""
    guessed_encoding: bool = False
    """It was neither UTF-8 nor UTF-16, and was read as Windows-1252."""


def read_cells(path: Path, code: str, what: str) -> Cells:
    """Read a CSV (comma, semicolon or tab; UTF-8, UTF-16, else Windows-1252) or a JSON list of objects.

    what: the file's content in words, for messages. Errors: `code`.
    """
    try:
        text, guessed = _decode(_bounded_bytes(path, what))
        read = _json_cells if text.lstrip().startswith(("[", "{")) else _csv_cells
        return read(text, guessed)
    except _RefusedError as refused:
        raise InputError(code, f"the file of {what} is refused: {refused}") from None
    except OSError as error:
        raise InputError(code, f"cannot read the {what}: {error.strerror}", str(path)) from None


class _RefusedError(ValueError):
    """Why the file is none, in words."""


def _bounded_bytes(path: Path, what: str) -> bytes:
    if not path.is_file():
        raise FileNotFoundError(2, f"there is no such file of {what}")
    with path.open("rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise _RefusedError(f"it is larger than {MAX_BYTES // 2**20} MiB")
    return data


def _decode(data: bytes) -> tuple[str, bool]:
    """UTF-8 or UTF-16 by their marks, else UTF-8, else Windows-1252; and whether that was guessed."""
    guessed = False
    try:
        text = data.decode("utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        guessed = True
    if "\0" in text:
        raise _RefusedError("it is no text: it holds NUL characters")
    return text, guessed


def _csv_cells(text: str, guessed: bool) -> Cells:
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
                raise _RefusedError(f"it has more than {MAX_ROWS} rows")
            if len(cells) == len(names):
                records.append((number, dict(zip(names, cells, strict=True))))
            else:
                misfits.append(number)
    except csv.Error as error:
        raise _RefusedError(f"it is no CSV: {error}") from None
    return Cells(names, tuple(records), tuple(misfits), decimal_comma=delimiter != ",", guessed_encoding=guessed)


def _json_cells(text: str, guessed: bool) -> Cells:
    try:
        parsed = json.loads(text, parse_constant=str, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise _RefusedError("it is no valid JSON") from None
    if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
        raise _RefusedError("expected a JSON list with one object a row")
    if len(parsed) > MAX_ROWS:
        raise _RefusedError(f"it has more than {MAX_ROWS} rows")
    records = [
        (number, dict(zip(_column_names(list(item)), item.values(), strict=True)))
        for number, item in enumerate(parsed, 1)
    ]
    names = {name: None for _, record in records for name in record}
    return Cells(tuple(names), tuple(records), guessed_encoding=guessed)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name stands twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return dict(pairs)


def _column_names(cells: Sequence[str]) -> tuple[str, ...]:
    if len(cells) > MAX_COLUMNS:
        raise _RefusedError(f"it has more than {MAX_COLUMNS} columns")
    names = tuple("_".join(cell.strip().lower().split()) for cell in cells)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise _RefusedError(f"the column {plain_text(twice[0], 40)!r} stands twice")
    return names


# -- one cell --------------------------------------------------------------------------------------------------------
class CellError(ValueError):
    """A cell that is not understood, or impossible."""


def read_text(raw: Any) -> str:
    """A cell as text; empty where there is none. JSON numbers lose no digit as long as they are whole."""
    if raw is None or isinstance(raw, bool | list | dict):
        return ""
    return str(raw).strip()


def read_date(raw: Any) -> str | None:
    """YYYYMMDD from YYYYMMDD or YYYY-MM-DD, empty from an empty cell, None where it is no date."""
    text = read_text(raw)
    try:
        return date_cell(text) if text else ""
    except CellError:
        return None


def number_cell(low: float, high: float) -> Callable[[str], float]:
    """Reads a plain finite number from `low` to `high`; the reader raises `CellError`."""

    def read(text: str) -> float:
        plain = text.strip()
        if not plain.isascii() or len(plain) > MAX_CELL or "_" in plain:
            raise CellError
        try:
            value = float(plain)
        except ValueError:
            raise CellError from None
        if not (math.isfinite(value) and low <= value <= high):
            raise CellError
        return value

    return read


def flag_cell(text: str) -> bool:
    """Yes or no.

    Errors: CellError.
    """
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise CellError
    return word in _TRUE


def one_of_cell(words: Mapping[str, str]) -> Callable[[str], str]:
    """Reads one of some words as what it stands for; the reader raises `CellError`."""

    def read(text: str) -> str:
        word = " ".join(text.lower().replace("/", " or ").split())
        if word not in words:
            raise CellError
        return words[word]

    return read


def date_cell(text: str) -> str:
    """YYYYMMDD from YYYYMMDD or YYYY-MM-DD.

    Errors: CellError.
    """
    plain = text.strip()
    if len(plain) == 10 and plain[4] == plain[7] == "-":
        plain = plain.replace("-", "")
    if len(plain) != 8 or not (plain.isascii() and plain.isdigit()):
        raise CellError
    try:
        date(int(plain[:4]), int(plain[4:6]), int(plain[6:]))
    except ValueError:
        raise CellError from None
    return plain

"""A table of typed-in nodules, or of exams ─► its rows, each cell understood or said to be not known.

A row that lacks the patient, the date or the nodule is refused, and so are two rows of one nodule at one exam: the
exam they may belong to is then never called negative. A cell that is not understood or impossible counts as not known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from lungscreen.assess import read_category
from lungscreen.cells import (
    CellError,
    Cells,
    flag_cell,
    number_cell,
    one_of_cell,
    read_cells,
    read_date,
    read_text,
)
from lungscreen.days import read_day
from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.records import NoduleType
from lungscreen.text import plain_text

__all__ = [
    "EXAM_COLUMNS",
    "NODULE_COLUMNS",
    "TypedNodule",
    "TypedTable",
    "UnreadRow",
    "read_typed_exams",
    "read_typed_nodules",
]

LONGEST_NAME = 64
"""Characters of a patient's ID or a nodule's name; a longer one is none."""
MOST_MM = 500
MOST_MM3 = 10_000_000
LEAST_SIZE = 0.1
"""A size in mm or mm³ below this is none that anybody measured."""

LOBES: dict[str, bool] = {
    **dict.fromkeys(
        ("rul", "right upper lobe", "right upper", "lul", "left upper lobe", "left upper", "lingula"), True
    ),
    **dict.fromkeys(("rml", "right middle lobe", "right middle", "middle lobe"), False),
    **dict.fromkeys(("rll", "right lower lobe", "right lower", "lll", "left lower lobe", "left lower"), False),
}
"""Lobes as tables write them → whether Brock and Mayo count them as upper; the lingula is left upper."""


@dataclass(frozen=True, slots=True)
class TypedNodule:
    """One nodule at one exam, as it was typed in. None and empty are not known."""

    number: int
    """Row of the table, from 1 without the header."""
    patient_id: str
    day: date
    name: str
    kind: str = ""
    """solid, part-solid, ground-glass, calcified, cyst, airway."""
    long_axis_mm: float | None = None
    short_axis_mm: float | None = None
    max_transverse_mm: float | None = None
    solid_mean_diameter_mm: float | None = None
    volume_mm3: float | None = None
    solid_volume_mm3: float | None = None
    juxtapleural: bool | None = None
    perifissural: bool | None = None
    smooth_typical_form: bool | None = None
    """Smooth, and oval, lentiform or triangular."""
    spiculation: bool | None = None
    lobe: str = ""
    benign_pattern: str = ""
    """calcification (complete, central, popcorn, concentric), fat, none."""
    proven_benign: bool | None = None
    suspicious: bool | None = None
    airway_level: str = ""
    airway_air: bool | None = None
    airway_tubular: bool | None = None
    cyst_wall_mm: float | None = None
    cyst_loculation: str = ""
    prior_category: str = ""
    notices: tuple[Notice, ...] = ()

    @property
    def nodule_type(self) -> NoduleType:
        """What the rules for nodules take it for; unknown for cysts and airway nodules."""
        return NoduleType(self.kind) if self.kind in set(NoduleType) else NoduleType.UNKNOWN

    @property
    def is_benign_calcified(self) -> bool:
        """No nodule for Brock."""
        return self.nodule_type is NoduleType.CALCIFIED or self.benign_pattern == "calcification"

    @property
    def typical_at_border(self) -> bool | None:
        """Juxtapleural or perifissural, smooth, and oval, lentiform or triangular."""
        places = (self.juxtapleural, self.perifissural)
        if self.smooth_typical_form is False or places == (False, False):
            return False
        return True if self.smooth_typical_form and True in places else None

    @property
    def upper_lobe(self) -> bool | None:
        """Whether it lies in an upper lobe."""
        return LOBES.get(self.lobe)


@dataclass(frozen=True, slots=True)
class UnreadRow:
    """A row that was refused: whose it may be. Empty or None where that is not known."""

    number: int
    patient_id: str
    day: date | None
    name: str


@dataclass(frozen=True, eq=False)
class TypedTable:
    """What a table says.

    nodules: none of a table of exams.
    exams: patient and day of each row.
    unread: rows that may hold a nodule which nobody could read.
    refused: every row and cell that was not understood, for `refused.csv`.
    """

    nodules: tuple[TypedNodule, ...] = ()
    exams: tuple[tuple[str, date], ...] = ()
    unread: tuple[UnreadRow, ...] = ()
    refused: tuple[Refusal, ...] = field(default_factory=tuple)


_KEY = ("patient_id", "exam_date", "nodule")


def read_typed_nodules(path: Path) -> TypedTable:
    """Read a CSV (comma, semicolon or tab) or JSON (list of objects) of nodules, a row a nodule and exam.

    Errors: `nodules-invalid`.
    """
    content = _content(path, NODULE_COLUMNS, _KEY, "nodules-invalid", "nodules")
    keys = [_key(cells) for _, cells in content.records]
    times = Counter(key for key in keys if None not in key and "" not in key)
    nodules: list[TypedNodule] = []
    unread: list[UnreadRow] = []
    refused: list[Refusal] = []
    for (number, cells), key in zip(content.records, keys, strict=True):
        patient, day, name = key
        if not patient or day is None or not name:
            refused.append(_not_understood(path, number, _KEY, key))
        elif times[key] > 1:
            refused.append(_refusal(path, number, "nodule-duplicate", "another row has this nodule and exam", patient))
        else:
            nodule = _nodule(number, patient, day, name, cells, content.decimal_comma)
            nodules.append(nodule)
            refused += [_refusal(path, number, one.code, one.text, patient) for one in nodule.notices]
            continue
        unread.append(UnreadRow(number, patient, day, name))
    return TypedTable(tuple(nodules), unread=tuple(unread), refused=tuple(refused))


def read_typed_exams(path: Path) -> TypedTable:
    """Read a table of exams, those without nodules among them.

    Errors: `nodules-invalid`.
    """
    content = _content(path, EXAM_COLUMNS, EXAM_COLUMNS, "nodules-invalid", "exams")
    exams: list[tuple[str, date]] = []
    refused: list[Refusal] = []
    for number, cells in content.records:
        patient, day, _ = _key(cells)
        if patient and day is not None:
            exams.append((patient, day))
        else:
            refused.append(_not_understood(path, number, EXAM_COLUMNS, (patient, day)))
    return TypedTable(exams=tuple(exams), refused=tuple(refused))


# -- rows ------------------------------------------------------------------------------------------------------------
def _content(path: Path, known: tuple[str, ...], needed: tuple[str, ...], code: str, what: str) -> Cells:
    content = read_cells(path, code, what)
    missing = [name for name in needed if name not in content.names]
    unknown = sorted(set(content.names) - set(known))
    if missing:
        raise InputError(code, f"the file of {what} is refused: it has no column {', '.join(missing)}")
    if unknown:
        shown = ", ".join(plain_text(name, 40) or "(no name)" for name in unknown[:10])
        raise InputError(code, f"the file of {what} is refused: unknown columns {shown}")
    if content.misfits:
        rows = ", ".join(map(str, content.misfits[:10]))
        raise InputError(
            code, f"the file of {what} is refused: rows {rows} have another number of cells than the header"
        )
    return content


def _key(cells: Mapping[str, Any]) -> tuple[str, date | None, str]:
    """Patient, day and nodule; empty or None where missing or not understood."""
    return _name(cells.get("patient_id")), read_day(read_date(cells.get("exam_date"))), _name(cells.get("nodule"))


def _name(raw: Any) -> str:
    text = read_text(raw)
    return text if len(text) <= LONGEST_NAME and text.isprintable() else ""


def _nodule(
    number: int, patient: str, day: date, name: str, cells: Mapping[str, Any], decimal_comma: bool
) -> TypedNodule:
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for column, read in _READERS.items():
        text = (
            "yes" if cells.get(column) is True else "no" if cells.get(column) is False else read_text(cells.get(column))
        )
        if isinstance(cells.get(column), list | dict):
            text = "?"
        if not text:
            continue
        try:
            values[_FIELDS.get(column, column)] = read(text.replace(",", ".") if decimal_comma else text)
        except CellError:
            wrong.append(f"{column} is not understood or impossible; it counts as not known")
    wrong += _contradictions(values)
    notices = tuple(Notice("nodule-value", f"Row {number} of the nodules: {text}.") for text in wrong)
    return TypedNodule(number, patient, day, name, notices=notices, **values)


def _contradictions(values: dict[str, Any]) -> list[str]:
    """Sizes that cannot be true together go, and are said."""
    wrong = []
    for small, large in (("short_axis_mm", "long_axis_mm"), ("solid_volume_mm3", "volume_mm3")):
        if small in values and large in values and values[small] > values[large]:
            wrong.append(f"{small} is more than {large}; both count as not known")
            del values[small], values[large]
    solid, long = values.get("solid_mean_diameter_mm"), values.get("long_axis_mm")
    if solid is not None and long is not None and solid > long:
        wrong.append("solid_mean_diameter_mm is more than long_axis_mm; it counts as not known")
        del values["solid_mean_diameter_mm"]
    return wrong


def _not_understood(path: Path, number: int, columns: Sequence[str], cells: Sequence[object]) -> Refusal:
    """The row of the table of refusals for a row whose patient, day or name is missing or not understood."""
    lacking = ", ".join(column for column, cell in zip(columns, cells, strict=True) if not cell)
    return _refusal(path, number, "nodule-row-invalid", f"{lacking} missing or not understood", str(cells[0]))


def _refusal(path: Path, number: int, code: str, reason: str, patient: str = "") -> Refusal:
    return Refusal(f"{path.name} row {number}", code, reason, "file", "", patient)


def _category(text: str) -> str:
    category = read_category(text)
    if category is None:
        raise CellError
    return str(category)


_MM, _MM3 = number_cell(LEAST_SIZE, MOST_MM), number_cell(LEAST_SIZE, MOST_MM3)
_PART_MM, _PART_MM3 = number_cell(0, MOST_MM), number_cell(0, MOST_MM3)


def _words(*words: str) -> Callable[[str], str]:
    return one_of_cell({word: word for word in words})


_READERS: dict[str, Callable[[str], Any]] = {
    "type": one_of_cell(
        {
            **{word: word for word in ("solid", "part-solid", "ground-glass", "calcified", "cyst", "airway")},
            "part solid": "part-solid",
            "ground glass": "ground-glass",
        }
    ),
    "long_axis_mm": _MM,
    "short_axis_mm": _MM,
    "max_transverse_mm": _MM,
    "solid_mean_diameter_mm": _PART_MM,
    "volume_mm3": _MM3,
    "solid_volume_mm3": _PART_MM3,
    "juxtapleural": flag_cell,
    "perifissural": flag_cell,
    "smooth_typical_form": flag_cell,
    "spiculation": flag_cell,
    "lobe": _words(*LOBES),
    "benign_pattern": _words("calcification", "fat", "none"),
    "proven_benign": flag_cell,
    "suspicious": flag_cell,
    "airway_level": _words("subsegmental", "segmental", "proximal"),
    "airway_air": flag_cell,
    "airway_tubular": flag_cell,
    "cyst_wall_mm": _PART_MM,
    "cyst_loculation": _words("unilocular", "multilocular"),
    "prior_category": _category,
}
"""How each column is understood."""

_FIELDS = {"type": "kind"}

EXAM_COLUMNS = ("patient_id", "exam_date")
NODULE_COLUMNS = (*_KEY, *_READERS)
"""Columns that are read; all but the first three may be absent, and every other cell may be empty."""

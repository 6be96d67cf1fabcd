"""A cell of patient data → its value; empty is not known, and so is what is not understood or impossible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

from lungscreen.cells import CellError, date_cell, flag_cell, number_cell, one_of_cell, read_text
from lungscreen.errors import Notice
from lungscreen.records import PERSON_RANGES, ClinicalData

__all__ = [
    "DATA_COLUMNS",
    "OLDEST_YEARS",
    "RACES",
    "fit_smoking_to_age",
    "read_age",
    "read_person",
]

DATA_COLUMNS = tuple(f.name for f in fields(ClinicalData) if f.name != "from_header")
"""Columns that say something of the person."""

OLDEST_YEARS = int(PERSON_RANGES["age"][1])
"""An age above this is impossible."""

YOUNGEST_SMOKER_YEARS = 5
"""Nobody smoked before this age: years of smoking and since quitting are at most the age less these."""

RACES: dict[str, str] = {
    "white": "white",
    "caucasian": "white",
    "black": "black",
    "african american": "black",
    "black or african american": "black",
    "hispanic": "hispanic",
    "latino": "hispanic",
    "hispanic or latino": "hispanic",
    "asian": "asian",
    "american indian": "american indian",
    "alaskan native": "american indian",
    "american indian or alaskan native": "american indian",
    "american indian or alaska native": "american indian",
    "native hawaiian": "native hawaiian",
    "pacific islander": "native hawaiian",
    "native hawaiian or pacific islander": "native hawaiian",
    "native hawaiian or other pacific islander": "native hawaiian",
}
"""Races as tables write them → as PLCOm2012 asks them."""

_SEXES = {"f": "F", "female": "F", "m": "M", "male": "M"}
_CATEGORIES = ("0", "1", "2", "3", "4A", "4B", "4X")


def read_age(text: str) -> float | None:
    """Years from "63", "63.5" or DICOM's "063Y", "756M"; None where not understood or impossible."""
    try:
        return _age(text)
    except CellError:
        return None


def read_person(
    cells: Mapping[str, Any], number: int, *, decimal_comma: bool
) -> tuple[ClinicalData, tuple[Notice, ...]]:
    """One row's data, and what in it counts as not known although the cell is not empty."""
    values: dict[str, Any] = {}
    notices: list[Notice] = []
    for column in DATA_COLUMNS:
        text = read_text(cells.get(column))
        if isinstance(cells.get(column), bool):
            text = "yes" if cells[column] else "no"
        elif isinstance(cells.get(column), list | dict):
            text = "?"
        if not text:
            continue
        try:
            values[column] = _READERS[column](text.replace(",", ".") if decimal_comma else text)
        except CellError:
            code = "clinical-age" if column == "age" else "clinical-value"
            notices.append(_not_known(code, number, column, "is not understood or impossible"))
    data, contradictions = _consistent(ClinicalData(**values), number)
    return data, (*notices, *contradictions)


def _consistent(data: ClinicalData, number: int) -> tuple[ClinicalData, tuple[Notice, ...]]:
    """What contradicts its own row counts as not known."""
    notices: list[Notice] = []
    smoked = any(value for value in (data.pack_years, data.cigarettes_per_day, data.duration_years, data.years_quit))
    if data.smoking_status == "never" and smoked:
        notices.append(_not_known("clinical-value", number, "smoking_status", "contradicts the amounts: none is used"))
        data = replace(data, smoking_status="", pack_years=None, cigarettes_per_day=None)
        data = replace(data, duration_years=None, years_quit=None)
    if data.smoking_status == "current" and data.years_quit:
        notices.append(_not_known("clinical-value", number, "years_quit", "contradicts smoking_status"))
        data = replace(data, years_quit=None)
    data, said = fit_smoking_to_age(data, f"Row {number} of the patient data")
    return data, (*notices, *said)


def fit_smoking_to_age(data: ClinicalData, source: str) -> tuple[ClinicalData, tuple[Notice, ...]]:
    """Years of smoking and since quitting that the age has no room for count as not known, and are said.

    source: whose data they are, in words that name no person.
    """
    given = [name for name in ("duration_years", "years_quit") if getattr(data, name)]
    years = sum(getattr(data, name) for name in given)
    if data.age is None or not given or years <= data.age - YOUNGEST_SMOKER_YEARS:
        return data, ()
    which, verb, count = (given[0], "is", "counts") if len(given) == 1 else (" and ".join(given), "are", "count")
    text = (
        f"{source}: {which} {verb} more than the age less {YOUNGEST_SMOKER_YEARS} years:"
        f" the smoking data contradict, {which} {count} as not known."
    )
    return replace(data, duration_years=None, years_quit=None), (Notice("clinical-value", text),)


def _not_known(code: str, number: int, column: str, why: str) -> Notice:
    return Notice(code, f"Row {number} of the patient data: {column} {why}; it counts as not known.")


# -- one cell --------------------------------------------------------------------------------------------------------
def _in_range(name: str) -> Callable[[str], float]:
    return number_cell(*PERSON_RANGES[name])


def _age(text: str) -> float:
    plain = text.strip().upper()
    unit = {"Y": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}.get(plain[-1:], 0.0)
    if unit:
        return _in_range("age")(str(number_cell(0, 99_999)(plain[:-1]) / unit))
    return _in_range("age")(plain)


def _whole_in_range(name: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        value = _in_range(name)(text)
        if value != int(value):
            raise CellError
        return int(value)

    return read


def _category(text: str) -> str:
    plain = "".join(text.upper().split())
    if plain.removesuffix("S") not in _CATEGORIES:
        raise CellError
    return plain


def _short_text(text: str) -> str:
    plain = text.strip()
    if len(plain) > 20 or not plain.isprintable():
        raise CellError
    return plain


_READERS: dict[str, Callable[[str], Any]] = {
    "age": _age,
    "sex": one_of_cell(_SEXES),
    "smoking_status": one_of_cell({word: word for word in ("never", "former", "current")}),
    **{name: _in_range(name) for name in ("pack_years", "cigarettes_per_day", "duration_years", "years_quit", "bmi")},
    "family_history": flag_cell,
    "emphysema": flag_cell,
    "prior_cancer": flag_cell,
    "copd": flag_cell,
    "education": _whole_in_range("education"),
    "race": one_of_cell(RACES),
    "immunosuppressed": flag_cell,
    "prior_exam_date": date_cell,
    "prior_category": _category,
    "priority": _short_text,
}
"""How each column is understood, with the range of what is possible."""

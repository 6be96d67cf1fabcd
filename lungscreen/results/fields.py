"""What a field of a result says, beside its type: meaning, unit, digits, bounds, since when, and where it is shown.

The dataclasses of `document` carry this with each field; the JSON Schema, the reader, the columns of the tables and
docs/reference/report-json.md follow from it.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass
from functools import lru_cache
from typing import Any

__all__ = ["Cell", "Column", "Part", "Said", "field_types", "optional_of", "parts_of", "said", "said_of"]

Cell = str | float | int | bool | None
"""What may stand in a cell of a table; None is an empty cell."""

_NAME = "said"
"""Under this name a dataclass field's metadata hold its `Said`."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    place: its position, 1 first; columns are only ever added at the end.

    cell: of the field's value (and the finding it belongs to, of findings.csv); the value itself where None.
    """

    place: int
    name: str
    cell: Callable[[Any, Any], Cell] | None = None


@dataclass(frozen=True)
class Said:
    """What is said of a field.

    digits: decimals to which a number is rounded.
    least, most: bounds of a number, both within.
    one_of: the texts that it may be.
    longest: characters of a text that are kept.
    since: schema version that brought the field.
    doubtful: in a report of unknown origin, a value that fits nothing is taken for none, and an entry is skipped.
    columns: where it stands in findings.csv, or in worklist.csv for what `WorklistRow` has.
    label: what stands before a number among the page's facts of a finding; the page shows it by itself then, to
        `page_digits` decimals.
    off_page: why the page does not show it; empty where it does.
    """

    meaning: str = ""
    unit: str = ""
    digits: int | None = None
    least: float | None = None
    most: float | None = None
    one_of: tuple[str, ...] = ()
    pattern: str = ""
    longest: int = 200
    since: str = ""
    doubtful: bool = False
    columns: tuple[Column, ...] = ()
    label: str = ""
    page_digits: int = 1
    off_page: str = ""


@dataclass(frozen=True)
class Part:
    """A field of a dataclass with its type and what is said of it."""

    name: str
    kind: Any
    """The type as annotated, without None."""
    optional: bool
    """Whether it may be None."""
    has_default: bool
    default: Any
    said: Said


def said(meaning: str = "", *, default: Any = MISSING, **more: Any) -> Any:
    """A dataclass field that says what it means; `more` are the fields of `Said`."""
    metadata = {_NAME: Said(meaning, **more)}
    if default is MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def said_of(field: dataclasses.Field[Any]) -> Said:
    """What is said of a field; nothing where it carries nothing."""
    found = field.metadata.get(_NAME)
    return found if isinstance(found, Said) else Said()


@lru_cache(maxsize=256)
def parts_of(kind: Any) -> tuple[Part, ...]:
    """The fields of a dataclass, in order."""
    hints = typing.get_type_hints(kind)
    found = []
    for field in dataclasses.fields(kind):
        inner, optional = optional_of(hints[field.name])
        known = field.default is not MISSING
        found.append(Part(field.name, inner, optional, known, field.default if known else None, said_of(field)))
    return tuple(found)


def optional_of(hint: Any) -> tuple[Any, bool]:
    """A type without None, and whether None was among its options."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if len(options) != 1:
        raise TypeError(f"expected one type and None, got {hint}")
    return options[0], True


def field_types(kind: type) -> Iterator[type]:
    """The dataclass and every dataclass below it, each once, outermost first."""
    seen: dict[type, None] = {}

    def visit(hint: Any) -> None:
        inner = optional_of(hint)[0]
        if typing.get_origin(inner) is tuple:
            visit(typing.get_args(inner)[0])
        elif isinstance(inner, type) and dataclasses.is_dataclass(inner) and inner not in seen:
            seen[inner] = None
            for part in parts_of(inner):
                visit(part.kind)

    visit(kind)
    yield from seen

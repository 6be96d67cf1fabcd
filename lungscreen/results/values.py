"""Typed results ⇄ plain JSON values, by what each field says of itself.

tidied      numbers rounded, texts bounded and printable
to_plain    dataclasses ─► dicts, lists, numbers, texts
from_plain  the way back: every value checked, nothing taken over that does not fit
"""

from __future__ import annotations

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, TypeVar

from lungscreen.errors import LungscreenError
from lungscreen.results.fields import Part, Said, parts_of
from lungscreen.results.text import plain, rounded

__all__ = ["MOST_ROWS", "UnreadableError", "from_plain", "tidied", "to_plain"]

T = TypeVar("T")

MOST_ROWS = 10_000
"""Entries of a list or table at most; more are no report of one study."""


class UnreadableError(ValueError):
    """A value that fits no result. It names the field, never the value, which may identify a patient."""


def tidied(value: T) -> T:
    """The same record, its numbers rounded and its texts bounded and printable as its fields say; None where empty.

    Errors: `internal-error` for a number that is not finite where one must be.
    """
    kind: Any = type(value)
    changes = {part.name: _tidy(getattr(value, part.name), part, kind.__name__) for part in parts_of(kind)}
    return typing.cast(T, kind(**changes))


def _tidy(value: Any, part: Part, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tidied(value)
    if isinstance(value, tuple):
        return tuple(_tidy(item, part, where) for item in value)
    if isinstance(value, Mapping):
        return {plain(name): _tidy(item, part, where) for name, item in value.items()}
    if value is None or isinstance(value, bool | StrEnum):
        return value
    return _tidy_text(value, part) if isinstance(value, str) else _tidy_number(value, part, where)


def _tidy_text(value: str, part: Part) -> str | None:
    text = plain(value, part.said.longest)
    return text or (None if part.optional else "")


def _tidy_number(value: float, part: Part, where: str) -> float | None:
    if part.kind is int:
        return int(value)
    number = rounded(value, part.said.digits) if part.said.digits is not None else value
    if number is None and not part.optional:
        raise LungscreenError("internal-error", f"report.json does not fit its schema: {where}.{part.name}")
    return number


def to_plain(value: Any) -> Any:
    """A record as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {part.name: to_plain(getattr(value, part.name)) for part in parts_of(type(value))}
    if isinstance(value, Mapping):
        return {name: to_plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, StrEnum) else value


def from_plain(kind: type[T], value: Any, where: str = "", *, foreign: bool = False) -> T:
    """A record of that kind from JSON. Fields that it does not know are skipped: a later version may have them.

    foreign: the record's origin is unknown: what is `doubtful` and fits nothing is None.

    Errors: `UnreadableError` with the field.
    """
    if not isinstance(value, Mapping):
        raise UnreadableError(f"{where or kind.__name__}: expected an object")
    target: Any = kind
    found = {}
    for part in parts_of(target):
        path = f"{where}.{part.name}" if where else part.name
        if part.name in value:
            found[part.name] = _field(part, value[part.name], path, foreign)
        elif not part.has_default:
            raise UnreadableError(f"{path}: missing")
    return kind(**found)


def _field(part: Part, raw: Any, where: str, foreign: bool) -> Any:
    """What a field holds, null included."""
    if raw is None and part.optional:
        return None
    if raw is None:
        raise UnreadableError(f"{where}: expected a value")
    try:
        return _value(part.kind, raw, part.said, where, foreign)
    except UnreadableError:
        if foreign and part.said.doubtful and part.optional:
            return None
        raise


def _value(kind: Any, raw: Any, said: Said, where: str, foreign: bool) -> Any:
    """A value that is not null, as the type says."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _tuple(typing.get_args(kind), raw, said, where, foreign)
    if origin is typing.Literal:
        return _one_of(typing.get_args(kind), raw, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _table(typing.get_args(kind)[1], raw, said, where, foreign)
    if dataclasses.is_dataclass(kind):
        return from_plain(typing.cast(type, kind), raw, where, foreign=foreign)
    if issubclass(kind, StrEnum):
        return kind(_one_of([str(item) for item in kind], raw, where))
    return _scalar(kind, raw, said, where)


def _scalar(kind: type, raw: Any, said: Said, where: str) -> Any:
    if kind is str:
        return _text(raw, said, where)
    if kind is bool:
        return _expect(raw, bool, "true or false", where)
    if isinstance(raw, bool) or not isinstance(raw, int if kind is int else int | float):
        raise UnreadableError(f"{where}: expected a number")
    return _number(kind, raw, said, where)


def _number(kind: type, raw: float, said: Said, where: str) -> Any:
    if abs(raw) > 1e18 or not math.isfinite(raw):
        raise UnreadableError(f"{where}: expected a finite number")
    if (said.least is not None and raw < said.least) or (said.most is not None and raw > said.most):
        raise UnreadableError(f"{where}: out of bounds")
    return kind(raw)


def _text(raw: Any, said: Said, where: str) -> str:
    text = plain(_expect(raw, str, "a text", where), said.longest)
    if said.one_of and text not in said.one_of:
        raise UnreadableError(f"{where}: an unknown word")
    if said.pattern and not re.search(said.pattern, text):
        raise UnreadableError(f"{where}: expected {said.pattern}")
    return text


def _one_of(options: Any, raw: Any, where: str) -> Any:
    if not isinstance(raw, str | bool) or raw not in options:
        raise UnreadableError(f"{where}: an unknown word")
    return raw


def _tuple(kinds: tuple[Any, ...], raw: Any, said: Said, where: str, foreign: bool) -> tuple[Any, ...]:
    items = _expect(raw, list, "a list", where)
    many = len(kinds) == 2 and kinds[1] is Ellipsis
    if len(items) > MOST_ROWS or (not many and len(items) != len(kinds)):
        raise UnreadableError(f"{where}: a list of another length")
    found = []
    for n, item in enumerate(items):
        try:
            found.append(_value(kinds[0], item, said, f"{where}[{n}]", foreign))
        except UnreadableError:
            if not (foreign and said.doubtful and many):
                raise
    return tuple(found)


def _table(kind: Any, raw: Any, said: Said, where: str, foreign: bool) -> dict[str, Any]:
    table = _expect(raw, dict, "an object", where)
    if len(table) > MOST_ROWS:
        raise UnreadableError(f"{where}: too large")
    return {plain(name): _value(kind, item, said, where, foreign) for name, item in table.items()}


def _expect(raw: Any, kind: type, name: str, where: str) -> Any:
    if not isinstance(raw, kind):
        raise UnreadableError(f"{where}: expected {name}")
    return raw

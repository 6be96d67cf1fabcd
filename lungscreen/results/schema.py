"""`document` ─► the JSON Schema (2020-12) of report.json; `python -m lungscreen.results.schema` prints it."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import typing
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

from lungscreen.results.document import ReportDocument
from lungscreen.results.fields import Part, Said, field_types, parts_of

__all__ = ["field_meaning", "report_schema"]

_WORDS = {str: "string", int: "integer", float: "number", bool: "boolean"}


@lru_cache(maxsize=1)
def report_schema() -> dict[str, Any]:
    """The schema of every version from 1.0 on: a field that came later is not required."""
    whole, *inner = field_types(ReportDocument)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:lungscreen:report:1",
        "title": "lungscreen report",
        "description": " ".join(inspect.cleandoc(whole.__doc__ or "").split()),
        **_object(whole),
        "$defs": {kind.__name__: {"description": _first_line(kind), **_object(kind)} for kind in inner},
    }


def field_meaning(said: Said) -> str:
    """What a field means, its unit where the words do not name it, and since when it is there."""
    parts = [said.meaning] if said.meaning else []
    if said.unit and said.unit not in said.meaning.split():
        parts.append(f"in {said.unit}" if said.meaning else said.unit)
    text = ", ".join(parts)
    return f"{text} (since {said.since})".strip() if said.since else text


def _object(kind: type) -> dict[str, Any]:
    parts = parts_of(kind)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [part.name for part in parts if not part.said.since],
        "properties": {part.name: _field(part) for part in parts},
    }


def _field(part: Part) -> dict[str, Any]:
    found = _type(part.kind, part.said)
    if part.optional:
        found = {"anyOf": [found, {"type": "null"}]} if "$ref" in found or "enum" in found else _nullable(found)
    meaning = field_meaning(part.said)
    return {**found, "description": meaning} if meaning else found


def _nullable(found: dict[str, Any]) -> dict[str, Any]:
    return {**found, "type": [found["type"], "null"]}


def _type(kind: Any, said: Said) -> dict[str, Any]:
    origin = typing.get_origin(kind)
    if origin is tuple:
        return _list(typing.get_args(kind), said)
    if origin is typing.Literal:
        options = list(typing.get_args(kind))
        return {"const": options[0]} if len(options) == 1 else {"enum": options}
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": {"type": _WORDS[typing.get_args(kind)[1]]}}
    if dataclasses.is_dataclass(kind):
        return {"$ref": f"#/$defs/{typing.cast(type, kind).__name__}"}
    if issubclass(kind, StrEnum):
        return {"enum": [str(item) for item in kind]}
    return _scalar(kind, said)


def _scalar(kind: type, said: Said) -> dict[str, Any]:
    if said.one_of:
        return {"const": said.one_of[0]} if len(said.one_of) == 1 else {"enum": list(said.one_of)}
    bounds = {"minimum": said.least, "maximum": said.most, "pattern": said.pattern or None}
    return {"type": _WORDS[kind], **{name: bound for name, bound in bounds.items() if bound is not None}}


def _list(kinds: tuple[Any, ...], said: Said) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "array", "items": _type(kinds[0], said)}
    return found if Ellipsis in kinds else {**found, "minItems": len(kinds), "maxItems": len(kinds)}


def _first_line(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n")

"""Configuration is data: TOML → frozen dataclasses. An unknown key, a wrong type or a value out of range is an error.

A config dataclass checks its own ranges in `__post_init__` by raising ValueError; `read_table` turns that into a
`UsageError` that names the key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lungscreen.errors import UsageError
from lungscreen.files import open_regular

__all__ = ["config_hash", "packaged_folder", "read_table", "read_toml"]

T = TypeVar("T")

MOST_BYTES = 1 << 20
"""A larger file is no configuration."""

LARGEST = 1 << 62
"""No setting is larger."""


def packaged_folder(name: str) -> Path:
    """The folder `weights`, `pipelines` or `docs`: inside the installed package, else at the top of the checkout."""
    package = Path(__file__).resolve().parent
    installed = package / f"_{name}"
    return installed if installed.is_dir() else package.parent / name


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Errors: `config-invalid`.
    """
    try:
        with open_regular(path) as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError("config-invalid", f"larger than {MOST_BYTES >> 20} MiB", str(path))
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError:
        raise UsageError("config-invalid", "nested too deeply", str(path)) from None
    except (OSError, ValueError) as error:
        raise UsageError("config-invalid", f"cannot read the configuration: {error}", str(path)) from None


def read_table(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """One frozen dataclass from one TOML table; nested dataclasses and dicts of dataclasses come along.

    Errors: `config-invalid` for an unknown or missing key, a wrong type, or a value that the dataclass refuses.
    """
    hints = typing.get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise UsageError("config-invalid", f"unknown key {unknown[0]!r}; known: {', '.join(sorted(known))}", where)
    values = {name: _value(hints[name], raw, f"{where}.{name}") for name, raw in table.items()}
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise UsageError("config-invalid", str(error), where) from None


def config_hash(*configs: object) -> str:
    """SHA-256 (hex) over the values of frozen dataclasses, independent of key order."""
    plain = [dataclasses.asdict(c) if dataclasses.is_dataclass(c) and not isinstance(c, type) else c for c in configs]
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def _value(hint: Any, raw: Any, where: str) -> Any:
    """`raw`, as TOML gave it, as the annotated type `hint`."""
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read_table(hint, _expect(raw, Mapping, "a table", where), where)
    if origin in (typing.Union, types.UnionType):
        return _value(next(option for option in typing.get_args(hint) if option is not type(None)), raw, where)
    if origin is tuple:
        return _list(typing.get_args(hint), _expect(raw, list, "a list", where), where)
    if origin is typing.Literal:
        return _choice(typing.get_args(hint), raw, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping(typing.get_args(hint)[1], _expect(raw, Mapping, "a table", where), where)
    return _plain_value(hint, raw, where)


def _mapping(item: Any, raw: Mapping[Any, Any], where: str) -> dict[str, Any]:
    return {str(name): _value(item, value, f"{where}.{name}") for name, value in raw.items()}


def _choice(options: tuple[Any, ...], raw: Any, where: str) -> Any:
    if raw not in options:
        raise UsageError("config-invalid", f"expected one of {options}, got {raw!r}", where)
    return raw


def _plain_value(hint: Any, raw: Any, where: str) -> Any:
    """A number, a text or a truth value; a whole number may stand for a number."""
    if hint is float and type(raw) is int:
        if abs(raw) > LARGEST:
            raise UsageError("config-invalid", "expected a number of a possible size", where)
        return float(raw)
    if type(raw) is int and abs(raw) > LARGEST:
        raise UsageError("config-invalid", "expected a number of a possible size", where)
    if type(raw) is float and not math.isfinite(raw):
        raise UsageError("config-invalid", f"expected a finite number, got {raw}", where)
    return raw if type(raw) is hint else _expect(None, hint, f"{hint.__name__}, got {raw!r}", where)


def _list(options: tuple[Any, ...], raw: list[Any], where: str) -> tuple[Any, ...]:
    if len(options) == 2 and options[1] is Ellipsis:
        options = (options[0],) * len(raw)
    if len(options) != len(raw):
        raise UsageError("config-invalid", f"expected {len(options)} values, got {len(raw)}", where)
    return tuple(_value(option, item, where) for option, item in zip(options, raw, strict=True))


def _expect(raw: Any, kind: Any, name: str, where: str) -> Any:
    if not isinstance(raw, kind):
        raise UsageError("config-invalid", f"expected {name}", where)
    return raw

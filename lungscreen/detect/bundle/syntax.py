"""A MONAI bundle's configuration, read without running any of it.

It is JSON in which "@name" refers to another entry and "$text" is Python. Such text is parsed, and understood where it
is one call with literals and references as its arguments. Everything here refuses by ValueError or KeyError.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "Call",
    "Config",
    "Three",
    "Vector3",
    "flag",
    "look_up",
    "nothing_left",
    "number",
    "read_call",
    "read_object",
    "read_transforms",
    "three_numbers",
    "three_wholes",
    "whole_number",
]

Config = Mapping[str, Any]
Three = tuple[int, int, int]
Vector3 = tuple[float, float, float]

DEPTH = 8
"""References that may lead to references."""

LARGEST = 1e9
"""No number in such a configuration is as large."""

REFERENCE = "reference_to_"
"""Stands for @ while Python's grammar is used."""


@dataclass(frozen=True)
class Call:
    """A call as it is written, its arguments looked up."""

    function: str
    args: tuple[Any, ...]
    keywords: Mapping[str, Any]

    def expect(self, function: str, positional: tuple[str, ...]) -> dict[str, Any]:
        """The arguments by name, where it is a call of that function; `positional` names those without a keyword."""
        if self.function != function:
            raise ValueError(f"unknown function {self.function}")
        if len(self.args) > len(positional) or set(positional[: len(self.args)]) & set(self.keywords):
            raise ValueError(f"{function}: unknown arguments")
        return dict(zip(positional, self.args, strict=False)) | dict(self.keywords)


def read_call(config: Config, text: Any, where: str) -> Call:
    """The call in "$name(literal, @reference, ...)"."""
    try:
        tree = ast.parse(text.removeprefix("$").replace("@", REFERENCE).strip(), mode="eval").body
    except (AttributeError, SyntaxError, MemoryError):
        raise ValueError(f"{where}: expected a call") from None
    if not isinstance(tree, ast.Call):
        raise ValueError(f"{where}: expected a call")
    function = ast.unparse(tree.func).replace(REFERENCE, "@")
    args = tuple(_argument(config, node) for node in tree.args)
    return Call(function, args, {str(k.arg): _argument(config, k.value) for k in tree.keywords})


def _argument(config: Config, node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id.startswith(REFERENCE):
        return look_up(config, "@" + node.id.removeprefix(REFERENCE))
    return ast.literal_eval(node)


def look_up(config: Config, value: Any) -> Any:
    """What "@name" stands for; anything else is itself."""
    for _ in range(DEPTH):
        if not isinstance(value, str) or not value.startswith("@"):
            return value
        value = config[value[1:]]
    raise ValueError(f"{value}: leads nowhere")


def read_object(config: Config, name: str, kind: str) -> dict[str, Any]:
    """The settings of an object that must be a `kind`, looked up."""
    table = config[name]
    if not isinstance(table, dict) or _kind(table) != kind:
        raise ValueError(f"{name}: expected a {kind}")
    remarks = ("_target_", "_requires_", "_desc_")
    return {key: look_up(config, value) for key, value in table.items() if key not in remarks}


def read_transforms(config: Config, name: str, known: Mapping[str, Iterable[str]]) -> list[tuple[str, dict[str, Any]]]:
    """A chain's transforms in order, with their settings but for those that `known` lists as harmless."""
    chain = []
    for step in config[name]["transforms"]:
        kind = _kind(step)
        if kind not in known:
            raise ValueError(f"{name}: unknown transform {kind}")
        skip = {"_target_", *known[kind]}
        chain.append((kind, {key: look_up(config, value) for key, value in step.items() if key not in skip}))
    return chain


def _kind(table: Config) -> str:
    """The class's own name, without its module's."""
    return str(table.get("_target_", "")).rpartition(".")[2]


# -- values ----------------------------------------------------------------------------------------------------------
def nothing_left(settings: Config, where: str) -> None:
    """What was not asked for may change a result: it is refused."""
    if settings:
        raise ValueError(f"{where}: unknown setting {min(settings)}")


def flag(value: Any, name: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name}: expected true or false")
    return value


def number(value: Any, name: str, above: float = -math.inf) -> float:
    """A finite number of a size that nothing here exceeds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < LARGEST:
        raise ValueError(f"{name}: expected a number" + ("" if above == -math.inf else f" above {above:g}"))
    return float(value)


def whole_number(value: Any, name: str) -> int:
    """A whole number above 0."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 31:
        raise ValueError(f"{name}: expected a whole number above 0")
    return value


def three_numbers(values: Any, name: str) -> Vector3:
    """Three numbers above 0."""
    x, y, z = (number(value, name, above=0.0) for value in _three(values, name))
    return x, y, z


def three_wholes(values: Any, name: str) -> Three:
    """Three whole numbers above 0, or one that counts for all."""
    x, y, z = (whole_number(value, name) for value in _three(values, name))
    return x, y, z


def _three(values: Any, name: str) -> list[Any]:
    listed = list(values) if isinstance(values, list | tuple) else [values] * 3
    if len(listed) != 3:
        raise ValueError(f"{name}: expected three values")
    return listed

"""Configuration: what is unknown or of the wrong type is an error that names the key."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest

from lungscreen.config import config_hash, packaged_folder, read_table, read_toml
from lungscreen.errors import UsageError


@dataclass(frozen=True)
class Inner:
    size_mm: float = 1.0


@dataclass(frozen=True)
class Outer:
    name: str
    inner: Inner = Inner()
    kind: Literal["a", "b"] = "a"
    box: tuple[int, int, int] = (1, 2, 3)
    many: tuple[str, ...] = ()
    limit: int | None = None
    points: dict[str, float] | None = None
    on: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError("limit: expected 0 or more")


def test_a_whole_table_is_read() -> None:
    table = {
        "name": "x",
        "inner": {"size_mm": 2},
        "kind": "b",
        "box": [4, 5, 6],
        "many": ["p", "q"],
        "limit": 3,
        "points": {"s": 1},
        "on": True,
    }
    outer = read_table(Outer, table, "t")
    assert outer == Outer("x", Inner(2.0), "b", (4, 5, 6), ("p", "q"), 3, {"s": 1.0}, True)
    assert isinstance(outer.inner.size_mm, float)


@pytest.mark.parametrize(
    ("table", "word"),
    [
        ({"name": "x", "nmae": 1}, "nmae"),
        ({}, "name"),
        ({"name": 3}, "t.name"),
        ({"name": "x", "on": 1}, "t.on"),
        ({"name": "x", "inner": 3}, "t.inner"),
        ({"name": "x", "inner": {"size": 3}}, "t.inner"),
        ({"name": "x", "kind": "c"}, "t.kind"),
        ({"name": "x", "box": [1, 2]}, "3 values"),
        ({"name": "x", "box": 1}, "a list"),
        ({"name": "x", "limit": True}, "t.limit"),
        ({"name": "x", "limit": -1}, "limit"),
        ({"name": "x", "points": [1]}, "a table"),
        ({"name": "x", "inner": {"size_mm": float("nan")}}, "finite"),
        ({"name": "x", "points": {"a": float("inf")}}, "finite"),
    ],
)
def test_mistakes_are_named(table: dict[str, Any], word: str) -> None:
    with pytest.raises(UsageError, match=word) as caught:
        read_table(Outer, table, "t")
    assert caught.value.code == "config-invalid"


@pytest.mark.parametrize("content", [b"a = ", b"\xff\xfe", None])
def test_a_file_that_is_no_toml(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "p.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError):
        read_toml(path)


def test_the_hash_follows_every_value() -> None:
    assert config_hash(Outer("x"), {"a": 1}) == config_hash(Outer("x"), {"a": 1})
    others = ({"name": "y"}, {"inner": Inner(1.5)}, {"kind": "b"}, {"box": (1, 2, 4)}, {"many": ("m",)}, {"limit": 0},
              {"points": {"p": 1.0}}, {"on": True})  # fmt: skip
    assert {name for other in others for name in other} == {field.name for field in fields(Outer)}
    hashes = {config_hash(Outer(**{"name": "x", **other})) for other in ({}, *others)}
    assert len(hashes) == len(others) + 1


def test_weights_and_pipelines_are_found() -> None:
    assert packaged_folder("pipelines").is_dir()

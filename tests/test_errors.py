"""Codes are an interface: every one is known, and what reaches a terminal is plain."""

from __future__ import annotations

import pytest

from lungscreen.codes import CODES
from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.text import plain_text


def test_unknown_codes_cannot_be_used() -> None:
    for make in (lambda: InputError("nope", "x"), lambda: Notice("nope", "x"), lambda: Refusal("x", "nope", "y")):
        with pytest.raises(AssertionError, match="unknown code"):
            make()


def test_every_code_says_what_it_means_and_what_to_do() -> None:
    for name, code in CODES.items():
        assert name == name.lower().replace("_", "-").strip()
        assert code.meaning.endswith(".")
        assert code.action.endswith(".")


def test_an_error_reads_as_one_line() -> None:
    assert str(InputError("no-ct", "nothing here", "a/b")) == "no-ct: nothing here [a/b]"
    assert str(InputError("no-ct", "nothing here")) == "no-ct: nothing here"


def test_control_characters_do_not_reach_a_terminal() -> None:
    assert plain_text("a\x1b[31mb\nc\u202e") == "a?[31mb?c?"
    assert plain_text("x" * 70_000).endswith("…")
    assert len(plain_text("x" * 70_000)) == 501

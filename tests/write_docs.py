"""`make docs`: the pages of docs/reference and the drawing of the house, which follow from the code.

A test checks that they are up to date.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import typing
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from lungscreen.cli.main import COMMANDS, command_parser
from lungscreen.codes import CODES
from lungscreen.results.columns import finding_columns, worklist_columns
from lungscreen.results.document import SCHEMA_VERSION, ReportDocument
from lungscreen.results.fields import Part, parts_of
from lungscreen.results.schema import field_meaning

sys.path.insert(0, str(Path(__file__).parent))  # as pytest has it: this runs as `python -m tests.write_docs` too

from house import house_drawing

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"
CONTRIBUTING = REFERENCE.parent / "contributing.md"
HOUSE = ("<!-- house: written by `make docs` -->", "<!-- /house -->")
"""What stands around the drawing of the house."""


def codes_page() -> str:
    """docs/reference/codes.md."""
    lines = [
        "# Codes",
        "",
        "What each code means and what a site does about it. A code never changes its meaning. *Refusals* stand in",
        "`refused.csv` and in error messages, *notices* in the reports. This page follows from `lungscreen/codes.py`.",
    ]
    for kind, title in (("refusal", "Refusals"), ("notice", "Notices")):
        lines += ["", f"## {title}", "", "| code | meaning | what to do |", "|---|---|---|"]
        lines += [f"| `{name}` | {code.meaning} | {code.action} |" for name, code in CODES.items() if code.kind == kind]
    return "\n".join(lines) + "\n"


def contributing_page() -> str:
    """docs/contributing.md with the drawing of the house as it is now."""
    before, _, rest = CONTRIBUTING.read_text(encoding="utf-8").partition(HOUSE[0])
    after = rest.partition(HOUSE[1])[2]
    return f"{before}{HOUSE[0]}\n\n{house_drawing()}\n{HOUSE[1]}{after}"


def cli_page() -> str:
    """docs/reference/cli.md."""
    lines = [
        "# Commands",
        "",
        "`lungscreen COMMAND ...`; exit codes stand in [files.md](files.md). This page follows from the commands' own"
        " help.",
    ]
    for name, summary in COMMANDS.items():
        lines += ["", f"## lungscreen {name}", "", f"{summary[0].upper()}{summary[1:]}.", ""]
        lines += _options(command_parser(name))
    return "\n".join(lines) + "\n"


def _options(parser: argparse.ArgumentParser, title: str = "") -> list[str]:
    """A table of what a parser takes, and one for each of its subcommands."""
    lines = [f"### {title}", ""] if title else []
    rows = [_row(action) for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    lines += ["| argument | meaning |", "|---|---|", *(row for row in rows if row)]
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                lines += ["", *_options(sub, sub.prog)]
    return lines


def _row(action: argparse.Action) -> str:
    if isinstance(action, argparse._HelpAction):
        return ""
    metavar = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else "")
    value = "" if action.nargs == 0 else " ".join(metavar) if isinstance(metavar, tuple) else str(metavar)
    names = ", ".join(action.option_strings) or action.dest
    shown = f"{names} {value}".strip() if action.option_strings else value or names
    text = (action.help or "").replace("|", "\\|")
    if "%(default)" in text:
        text = text % {"default": action.default}
    return f"| `{shown.replace('|', chr(92) + '|')}` | {text} |"


def schema_page() -> str:
    """docs/reference/report-json.md."""
    description = " ".join((ReportDocument.__doc__ or "").split())
    lines = [
        "# report.json",
        "",
        f"{description} Schema version {SCHEMA_VERSION}; fields are only ever added.",
        "`python -m lungscreen.results.schema` prints the JSON Schema. This page follows from",
        "`lungscreen/results/document.py`.",
        "",
        "*Column*: where the field stands in `findings.csv`. *Page*: whether `report.html` shows it, or why not.",
        "",
        "| field | type | meaning | column | page |",
        "|---|---|---|---|---|",
        *_fields(ReportDocument, ""),
        "",
        *_columns_text("findings.csv", finding_columns()),
        "",
        *_columns_text("worklist.csv", worklist_columns()),
    ]
    return "\n".join(lines) + "\n"


def _fields(kind: type, prefix: str) -> list[str]:
    """Rows of an object's fields, those of its parts below each."""
    lines = []
    for part in parts_of(kind):
        inner, many = _inner(part)
        path = f"{prefix}{part.name}{'[]' if many else ''}"
        said = part.said
        meaning = field_meaning(said) or ("" if inner is None else " ".join((inner.__doc__ or "").split()))
        cells = (
            f"`{path}`", _type_text(part), meaning, ", ".join(f"`{column.name}`" for column in said.columns),
            "" if inner is not None and not said.off_page else said.off_page or "yes",
        )  # fmt: skip
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        if inner is not None:
            lines += _fields(inner, f"{path}.")
    return lines


def _inner(part: Part) -> tuple[type | None, bool]:
    """The dataclass that a field, or each of its items, is; and whether there are several."""
    many = typing.get_origin(part.kind) is tuple
    kind = typing.get_args(part.kind)[0] if many else part.kind
    return (kind, many) if dataclasses.is_dataclass(kind) and isinstance(kind, type) else (None, False)


def _type_text(part: Part) -> str:
    kind = part.kind
    if part.said.one_of:
        text = ", ".join(f"`{json.dumps(word)}`" for word in part.said.one_of)
    elif typing.get_origin(kind) is typing.Literal:
        text = ", ".join(f"`{json.dumps(word)}`" for word in typing.get_args(kind))
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        text = ", ".join(f"`{json.dumps(str(word))}`" for word in kind)
    else:
        words = {str: "string", int: "integer", float: "number", bool: "boolean", tuple: "array"}
        text = words.get(typing.get_origin(kind) or kind, "object")
    return text + (" or null" if part.optional else "")


def _columns_text(table: str, columns: Sequence[str]) -> list[str]:
    return [f"**Columns of {table}**, in order:", "", ", ".join(f"`{name}`" for name in columns) + "."]


def main() -> None:
    """Write the pages."""
    (REFERENCE / "report-json.md").write_text(schema_page(), encoding="utf-8")
    (REFERENCE / "codes.md").write_text(codes_page(), encoding="utf-8")
    (REFERENCE / "cli.md").write_text(cli_page(), encoding="utf-8")
    CONTRIBUTING.write_text(contributing_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""`make docs`: the pages of docs/reference that follow from the code. A test checks that they are up to date."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from lungscreen.cli.main import COMMANDS, command_parser
from lungscreen.codes import CODES
from lungscreen.report import SCHEMA_VERSION, report_schema

REFERENCE = Path(__file__).resolve().parents[1] / "docs" / "reference"


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


def cli_page() -> str:
    """docs/reference/cli.md."""
    lines = [
        "# Commands",
        "",
        "`lungscreen COMMAND ...`; exit codes stand in [files.md](files.md). This page follows from the commands' own help.",
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
    schema = report_schema()
    lines = [
        "# report.json",
        "",
        f"{schema['description']} Schema version {SCHEMA_VERSION}; fields are only ever added. The JSON Schema itself is",
        "[report.schema.json](../../lungscreen/report/report.schema.json); this page follows from it.",
        "",
        "| field | type | meaning |",
        "|---|---|---|",
        *_fields(schema, "", schema["$defs"]),
    ]
    return "\n".join(lines) + "\n"


def _fields(node: dict[str, Any], prefix: str, definitions: dict[str, Any]) -> list[str]:
    """Rows of an object's fields, those of its parts below each."""
    lines = []
    for name, field in node.get("properties", {}).items():
        whole, many = _resolve(field, definitions)
        path = f"{prefix}{name}{'[]' if many else ''}"
        kind = _kind(whole) + (" or null" if _may_be_null(field) else "")
        text = field.get("description", whole.get("description", "")).replace("|", "\\|")
        lines.append(f"| `{path}` | {kind} | {text} |")
        lines += _fields(whole, f"{path}.", definitions)
    return lines


def _resolve(field: dict[str, Any], definitions: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """What a field, or each of its items, is made of; and whether there are several."""
    for option in field.get("anyOf", field.get("oneOf", [])):
        if option.get("type") != "null":
            field = option
    if "$ref" in field:
        field = definitions[field["$ref"].rsplit("/", 1)[-1]]
    items = field.get("items")
    if isinstance(items, dict) and ("$ref" in items or "properties" in items):
        return _resolve(items, definitions)[0], True
    return field, False


def _kind(field: dict[str, Any]) -> str:
    if "enum" in field:
        return ", ".join(f"`{json.dumps(v)}`" for v in field["enum"])
    if "const" in field:
        return f"`{json.dumps(field['const'])}`"
    kind = field.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _may_be_null(field: dict[str, Any]) -> bool:
    return any(option.get("type") == "null" for option in field.get("anyOf", field.get("oneOf", [])))


def main() -> None:
    """Write the pages."""
    (REFERENCE / "report-json.md").write_text(schema_page(), encoding="utf-8")
    (REFERENCE / "codes.md").write_text(codes_page(), encoding="utf-8")
    (REFERENCE / "cli.md").write_text(cli_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

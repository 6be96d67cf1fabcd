"""`make docs`: the pages of docs/reference that follow from the code. A test checks that they are up to date."""

from __future__ import annotations

import argparse
from pathlib import Path

from lungscreen.cli.main import COMMANDS, command_parser
from lungscreen.codes import CODES

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


def main() -> None:
    """Write both pages."""
    (REFERENCE / "codes.md").write_text(codes_page(), encoding="utf-8")
    (REFERENCE / "cli.md").write_text(cli_page(), encoding="utf-8")


if __name__ == "__main__":
    main()

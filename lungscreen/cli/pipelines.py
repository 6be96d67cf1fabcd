"""`lungscreen pipelines [NAME]`: the pipelines and recipes that are installed; one of them as a file to change."""

from __future__ import annotations

import argparse
import sys

from lungscreen.errors import UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this one (default: list their names)")


def run(args: argparse.Namespace) -> int:
    """The names, each with what it is for; or the text of one."""
    from lungscreen.cli.exit_codes import ExitCode
    from lungscreen.config import packaged_folder

    files = {path.stem: path for path in sorted(packaged_folder("pipelines").glob("*.toml"))}
    if args.name is None:
        width = max(map(len, files))
        for name, path in files.items():
            first = path.read_text(encoding="utf-8").split("\n", 1)[0].lstrip("# ")
            print(f"{name:{width}}  {first}")
        print(f"Documentation: {packaged_folder('docs') / 'README.md'}", file=sys.stderr)
        return ExitCode.OK
    if args.name not in files:
        raise UsageError("config-invalid", "no pipeline of that name", args.name)
    sys.stdout.write(files[args.name].read_text(encoding="utf-8"))
    return ExitCode.OK

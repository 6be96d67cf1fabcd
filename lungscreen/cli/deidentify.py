"""`lungscreen deidentify STUDY... --out DIR --key-file K`: CT for research, without what names a person."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

from lungscreen.cli.exit_codes import ExitCode

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    add = parser.add_argument
    add(
        "inputs", nargs="+", type=Path, metavar="STUDY_OR_FOLDER",
        help="DICOM file, folder (searched recursively), DICOMDIR or zip",
    )  # fmt: skip
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the series")
    add(
        "--key-file", type=Path, required=True, metavar="FILE",
        help="the project's key: the same key gives the same pseudonyms; who has it can find them again, so keep it",
    )  # fmt: skip
    add(
        "--refused", type=Path, metavar="FILE",
        help="table of what was not written and why; it names the input's files, so keep it out of DIR",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the series; says how many, and what was refused by code."""
    from lungscreen.deidentify import Deidentified, deidentify_inputs
    from lungscreen.errors import Refusal
    from lungscreen.files import replace_file
    from lungscreen.outputs.tables import refused_csv
    from lungscreen.pseudonyms import load_key

    pseudonyms = load_key(args.key_file)
    series: list[Deidentified] = []
    refusals: list[Refusal] = []
    for row in deidentify_inputs(args.inputs, args.out, pseudonyms):
        if isinstance(row, Refusal):
            refusals.append(row)
        else:
            series.append(row)
            print(f"{row.folder}\t{row.files} files", flush=True)
    if args.refused is not None:
        replace_file(args.refused, refused_csv(refusals))
    for code, count in sorted(Counter(row.code for row in refusals).items()):
        print(f"not written: {count} × {code}", file=sys.stderr)
    print(
        "Pixels were not looked at. Before you pass the images on, make sure that none shows a name; "
        "head and neck may show a face.",
        file=sys.stderr,
    )
    if not series:
        return ExitCode.FAILED
    return ExitCode.SOME_REFUSED if refusals else ExitCode.OK

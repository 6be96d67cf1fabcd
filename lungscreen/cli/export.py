"""`lungscreen export RESULTS --to dicom,pdf,fhir --out DIR`: what was not asked for when the studies were read."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.shared import comma_names
from lungscreen.errors import Refusal, UsageError

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    from lungscreen.jobs.export import EXPORTS

    add = parser.add_argument
    add("results", type=Path, metavar="RESULTS", help="folder that `lungscreen screen` or `batch run` wrote")
    add("--to", required=True, metavar="A,B", help=f"what to write: {', '.join(EXPORTS)}")
    add("--out", required=True, type=Path, metavar="DIR", help="folder for the files, a folder a study")
    add("--study", metavar="KEY", help="only the study of that key (default: all)")
    add(
        "--input", type=Path, nargs="+", default=[], metavar="DIR",
        help="where the original series lie: DICOM objects and the PDF need them, and the masks of --save-masks",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Write the files; prints each study's folder."""
    from lungscreen.jobs.export import export_results

    names = _exports(args.to)
    written = refused = 0
    for row in export_results(args.results, names, args.out, args.input, args.study):
        if isinstance(row, Refusal):
            refused += 1
            print(f"not written: {row.where}: {row.reason} [{row.code}]", file=sys.stderr)
        else:
            written += 1
            print(row, flush=True)
    if not written:
        return ExitCode.FAILED
    return ExitCode.SOME_REFUSED if refused else ExitCode.OK


def _exports(text: str) -> tuple[str, ...]:
    """Errors: `usage`."""
    from lungscreen.jobs.export import EXPORTS

    names = comma_names(text)
    if not names or not set(names) <= set(EXPORTS):
        raise UsageError("usage", f"expected some of {', '.join(EXPORTS)}", "--to")
    return names

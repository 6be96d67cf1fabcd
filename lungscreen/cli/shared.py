"""What several commands take and say alike."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import UsageError
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.text import plain_text

if TYPE_CHECKING:
    from lungscreen.clinical import ClinicalTable
    from lungscreen.pipeline import Pipeline

__all__ = [
    "add_clinical",
    "add_log_json",
    "add_operating_point",
    "add_pipeline",
    "chosen_pipeline",
    "clinical_table",
    "exit_code",
]


def add_pipeline(parser: argparse.ArgumentParser) -> None:
    """`--pipeline`."""
    parser.add_argument(
        "--pipeline", default="screening", metavar="NAME_OR_FILE", help="pipeline: a shipped name or a TOML file"
    )


def add_operating_point(parser: argparse.ArgumentParser) -> None:
    """`--operating-point`."""
    parser.add_argument(
        "--operating-point", choices=tuple(OPERATING_POINTS),
        help="which candidates become findings (default: as the pipeline says)",
    )  # fmt: skip


def add_clinical(
    parser: argparse.ArgumentParser, text: str = "patient data as CSV or JSON (docs/clinical-rules.md)"
) -> None:
    """`--clinical`."""
    parser.add_argument("--clinical", type=Path, metavar="FILE", help=text)


def add_log_json(parser: argparse.ArgumentParser) -> None:
    """`--log-json`."""
    parser.add_argument("--log-json", action="store_true", help="log every event to stderr, one JSON object a line")


def chosen_pipeline(args: argparse.Namespace) -> Pipeline:
    """The pipeline that was named, at the operating point that was chosen.

    Errors: `config-invalid`; `usage` where the pipeline sets a threshold of its own.
    """
    from lungscreen.pipeline import read_pipeline

    pipeline = read_pipeline(args.pipeline)
    if not args.operating_point:
        return pipeline
    if pipeline.findings.threshold is not None:
        raise UsageError("usage", "the pipeline sets findings.threshold, so no operating point can be chosen")
    return replace(pipeline, findings=replace(pipeline.findings, operating_point=args.operating_point))


def clinical_table(path: Path | None) -> ClinicalTable | None:
    """The patient data that were named; what is to be said of the file goes to stderr.

    Errors: `clinical-invalid`.
    """
    from lungscreen.clinical import read_clinical

    if path is None:
        return None
    table = read_clinical(path)
    for notice in table.notices:
        print(f"{path.name}: {plain_text(notice.text)}", file=sys.stderr)
    return table


def exit_code(out: Path, complete: bool) -> ExitCode:
    """How a run over studies ends; says where to look when not everything was read."""
    if complete:
        return ExitCode.OK
    print(f"Not everything was read: see {out / 'refused.csv'}", file=sys.stderr)
    return ExitCode.SOME_REFUSED

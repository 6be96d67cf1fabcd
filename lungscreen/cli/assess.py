"""`lungscreen assess IMAGE... --points POINTS.csv --out DIR`: a reader's own marks, measured and graded."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="as for `screen`: DICOM, folders, zips, image files"
    )
    parser.add_argument(
        "--points", required=True, type=Path, metavar="CSV", help="seriesuid, x_mm, y_mm, z_mm (LPS), finding"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for findings.csv, refused.csv")
    parser.add_argument("--no-lungs", action="store_true", help="look for no lungs (small crops)")
    parser.add_argument(
        "--clinical", type=Path, metavar="FILE", help="patient data as CSV or JSON (docs/clinical-rules.md)"
    )
    parser.add_argument(
        "--pipeline", default="screening", metavar="NAME_OR_FILE", help="pipeline: a shipped name or a TOML file"
    )
    parser.add_argument("--log-json", action="store_true", help="log every event to stderr, one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Assess, then say where the findings are."""
    from lungscreen.clinical import read_clinical
    from lungscreen.logs import start_logs
    from lungscreen.marking import assess_points, read_points
    from lungscreen.pipeline import read_pipeline

    start_logs(args.log_json)
    points = read_points(args.points)
    clinical = read_clinical(args.clinical) if args.clinical else None
    pipeline = read_pipeline(args.pipeline)
    count, complete = assess_points(
        args.inputs, points, args.out, pipeline, use_lungs=not args.no_lungs, clinical=clinical
    )
    print(args.out / "findings.csv")
    print(f"{count} of {len(points)} points assessed. {RESEARCH_USE}", file=sys.stderr)
    if not complete:
        print(f"Not everything was read: see {args.out / 'refused.csv'}", file=sys.stderr)
    return ExitCode.OK if complete else ExitCode.SOME_REFUSED

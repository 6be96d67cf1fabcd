"""`lungscreen assess IMAGE... --points POINTS.csv --out DIR`: a reader's own marks, measured and graded."""

from __future__ import annotations

import argparse
from pathlib import Path

from lungscreen import RESEARCH_USE
from lungscreen.cli.shared import add_clinical, add_log_json, add_pipeline, clinical_table, exit_code
from lungscreen.logs import tell

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="as for `screen`: DICOM, folders, zips, image files"
    )
    parser.add_argument(
        "--points",
        required=True,
        type=Path,
        metavar="CSV",
        help="seriesuid, x_mm, y_mm, z_mm (LPS), finding; CSV or JSON",
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for findings.csv, refused.csv")
    parser.add_argument("--no-lungs", action="store_true", help="look for no lungs (small crops)")
    add_clinical(parser)
    add_pipeline(parser)
    add_log_json(parser)


def run(args: argparse.Namespace) -> int:
    """Assess, then say where the findings are."""
    from lungscreen.jobs.assess import assess_points, read_points
    from lungscreen.pipeline import read_pipeline

    points = read_points(args.points)
    clinical = clinical_table(args.clinical)
    pipeline = read_pipeline(args.pipeline)
    assessed = assess_points(args.inputs, points, args.out, pipeline, use_lungs=not args.no_lungs, clinical=clinical)
    print(args.out / "findings.csv")
    outside = f", {assessed.outside} outside their volume" if assessed.outside else ""
    sentence = f"{assessed.points} of {len(points)} points assessed{outside}. {RESEARCH_USE}"
    told = {"points": len(points), "assessed": assessed.points, "outside": assessed.outside}
    tell("run ended", sentence, **told, note=RESEARCH_USE)
    return exit_code(args.out, assessed.complete)

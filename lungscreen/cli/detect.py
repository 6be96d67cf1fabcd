"""`lungscreen detect IMAGE... --out DIR [--no-lungs]`: detection alone, on volumes of any size."""

from __future__ import annotations

import argparse
from pathlib import Path

from lungscreen import RESEARCH_USE
from lungscreen.cli.shared import add_log_json, add_pipeline, exit_code
from lungscreen.logs import tell

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="as for `screen`: DICOM, folders, zips, image files"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for candidates.csv, refused.csv")
    parser.add_argument(
        "--no-lungs", action="store_true", help="search all of each volume: no lungs are looked for (small crops)"
    )
    add_pipeline(parser)
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="DIR",
        help="folder with a manifest and a detector's weights, perhaps a second look's too (default: the pipeline's)",
    )
    parser.add_argument(
        "--first-stage", action="store_true", help="score by the heatmap alone: no second look, no search for masses"
    )
    add_log_json(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, then say where the candidates are."""
    from lungscreen.jobs.detect import detect_inputs
    from lungscreen.pipeline import read_pipeline

    read, complete = detect_inputs(
        args.inputs,
        args.out,
        read_pipeline(args.pipeline),
        use_lungs=not args.no_lungs,
        weights=args.weights,
        first_stage=args.first_stage,
    )
    print(args.out / "candidates.csv")
    tell("run ended", f"{read} volumes searched. {RESEARCH_USE}", volumes=read, note=RESEARCH_USE)
    return exit_code(args.out, complete)

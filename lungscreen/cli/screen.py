"""`lungscreen screen STUDY_OR_FOLDER... --out results/`: the main job."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from lungscreen import RESEARCH_USE
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.errors import UsageError
from lungscreen.text import plain_text

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="STUDY_OR_FOLDER",
        help="DICOM file, folder (searched recursively), DICOMDIR, zip, or a NIfTI / NRRD / MHA / MHD volume",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--pipeline", default="screening", metavar="NAME_OR_FILE", help="pipeline: a shipped name or a TOML file"
    )
    parser.add_argument(
        "--operating-point", choices=("screening", "second-reader", "high-specificity"),
        help="which candidates become findings (default: as the pipeline says)",
    )  # fmt: skip
    parser.add_argument(
        "--clinical", type=Path, metavar="FILE", help="patient data as CSV or JSON (docs/clinical-rules.md)"
    )
    parser.add_argument(
        "--priors", type=Path, metavar="DIR",
        help="earlier exams of the same patients: images, report.json files or both (docs/how-to.md)",
    )  # fmt: skip
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE",
        help="key for pseudonyms, which names the studies' folders (default: the user's own, made when absent)",
    )  # fmt: skip
    parser.add_argument("--save-masks", action="store_true", help="write lungs.nii.gz and findings.nii.gz per study")
    parser.add_argument("--log-json", action="store_true", help="log every event to stderr, one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Screen, then say where the results are."""
    from lungscreen.clinical import read_clinical
    from lungscreen.logs import start_logs
    from lungscreen.pipeline import read_pipeline
    from lungscreen.screening import screen_inputs

    start_logs(args.log_json)
    pipeline = read_pipeline(args.pipeline)
    if args.operating_point:
        if pipeline.findings.threshold is not None:
            raise UsageError("usage", "the pipeline sets findings.threshold, so no operating point can be chosen")
        pipeline = replace(pipeline, findings=replace(pipeline.findings, operating_point=args.operating_point))
    clinical = read_clinical(args.clinical) if args.clinical else None
    for notice in clinical.notices if clinical else ():
        print(f"{args.clinical.name}: {plain_text(notice.text)}", file=sys.stderr)
    summary = screen_inputs(
        args.inputs,
        args.out,
        pipeline,
        clinical=clinical,
        priors=args.priors,
        save_masks=args.save_masks,
        key_file=args.key_file,
    )
    print(args.out / "worklist.html")
    print(f"{summary.reports} of {summary.studies} studies read. {RESEARCH_USE}", file=sys.stderr)
    if not summary.complete:
        print(f"Not everything was read: see {args.out / 'refused.csv'}", file=sys.stderr)
    return ExitCode.OK if summary.complete else ExitCode.SOME_REFUSED

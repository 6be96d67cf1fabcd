"""`lungscreen screen STUDY_OR_FOLDER... --out results/`: the main job."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from lungscreen import RESEARCH_USE
from lungscreen.cli.shared import (
    add_clinical,
    add_log_json,
    add_operating_point,
    add_outputs,
    add_pipeline,
    add_umask,
    chosen_pipeline,
    clinical_table,
    exit_code,
    name_missing,
)
from lungscreen.logs import tell

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="STUDY_OR_FOLDER",
        help="DICOM file, folder (searched recursively), DICOMDIR, zip, or a NIfTI / NRRD / MHA / MHD volume",
    )  # fmt: skip
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder for the results")
    add_pipeline(parser)
    add_operating_point(parser)
    add_clinical(parser)
    parser.add_argument(
        "--priors", type=Path, metavar="DIR",
        help="earlier exams of the same patients: images, report.json files or both (docs/how-to.md)",
    )  # fmt: skip
    parser.add_argument(
        "--key-file", type=Path, metavar="FILE",
        help="key for pseudonyms, which names the studies' folders (default: the user's own, made when absent)",
    )  # fmt: skip
    add_outputs(parser)
    add_umask(parser)
    add_log_json(parser)


def run(args: argparse.Namespace) -> int:
    """Screen, then say where the results are."""
    from lungscreen.batch.screen import screen_inputs

    os.umask(args.umask)
    pipeline = chosen_pipeline(args)
    clinical = clinical_table(args.clinical)
    summary = screen_inputs(
        args.inputs,
        args.out,
        pipeline,
        clinical=clinical,
        priors=args.priors,
        key_file=args.key_file,
    )
    name_missing(args.inputs)
    print(args.out / "worklist.html")
    sentence = f"{summary.reports} of {summary.studies} studies read. {RESEARCH_USE}"
    tell("run ended", sentence, studies=summary.studies, reports=summary.reports, note=RESEARCH_USE)
    return exit_code(args.out, summary.complete)

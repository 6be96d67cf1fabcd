"""`lungscreen grade NODULES.csv --out DIR`: the rules for typed-in numbers, without images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lungscreen import RESEARCH_USE
from lungscreen.cli.shared import clinical_table, exit_code

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command understands."""
    parser.add_argument(
        "nodules", type=Path, metavar="NODULES.csv", help="a row a nodule and exam (docs/grade.md); CSV or JSON"
    )
    parser.add_argument(
        "--exams", type=Path, metavar="EXAMS.csv", help="patient_id, exam_date: exams without nodules too"
    )
    parser.add_argument(
        "--persons", type=Path, metavar="FILE", help="patient data, as for `screen --clinical` (docs/clinical-rules.md)"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="folder for graded.csv, exams-graded.csv, refused.csv"
    )


def run(args: argparse.Namespace) -> int:
    """Grade, then say where the tables are."""
    from lungscreen.jobs.grade import grade_tables

    done = grade_tables(args.nodules, args.exams, clinical_table(args.persons), args.out)
    print(args.out / "graded.csv")
    print(f"{done.nodules} nodules at {done.exams} exams graded. {RESEARCH_USE}", file=sys.stderr)
    if done.refused:
        print(f"{done.refused} rows or cells were not understood.", file=sys.stderr)
    return exit_code(args.out, complete=not done.refused)

"""Tables of typed-in nodules, exams and persons ─► graded.csv, exams-graded.csv, refused.csv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lungscreen.clinical import ClinicalTable
from lungscreen.cohort import exams_csv, grade_cohort, graded_csv, read_typed_exams, read_typed_nodules
from lungscreen.errors import UsageError
from lungscreen.files import replace_file
from lungscreen.outputs.tables import refused_csv
from lungscreen.results.folder import ResultsFolder

__all__ = ["Graded", "grade_tables"]


@dataclass(frozen=True, slots=True)
class Graded:
    """How many nodules and exams were graded, and how many rows and cells were not understood."""

    nodules: int
    exams: int
    refused: int


def grade_tables(nodules: Path, exams: Path | None, persons: ClinicalTable | None, out: Path) -> Graded:
    """Grade a cohort and write its tables.

    Errors: `nodules-invalid`, `usage`, `output-failed`.
    """
    written = {(out / name).resolve() for name in ("graded.csv", "exams-graded.csv", "refused.csv")}
    if {path.resolve() for path in (nodules, exams) if path is not None} & written:
        raise UsageError("usage", "the results would replace an input: name another folder with --out", str(out))
    typed, visits = read_typed_nodules(nodules), None if exams is None else read_typed_exams(exams)
    graded, results = grade_cohort(typed, visits, persons)
    refused = (*typed.refused, *(visits.refused if visits else ()))
    ResultsFolder(out).make()
    replace_file(out / "graded.csv", graded_csv(graded))
    replace_file(out / "exams-graded.csv", exams_csv(results))
    replace_file(out / "refused.csv", refused_csv(refused))
    return Graded(len(graded), len(results), len(refused))

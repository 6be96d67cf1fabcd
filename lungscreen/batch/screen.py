"""Many studies, one after the other: each ends as a report or as a refusal, and none stops the others.

inputs ─► run_batch, in this process ─► studies/<key>/, worklist, findings, candidates, refused
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lungscreen.batch.config import BatchConfig
from lungscreen.batch.run import BatchRun, run_batch
from lungscreen.clinical import ClinicalTable
from lungscreen.errors import Refusal
from lungscreen.jobs.studies import is_complete
from lungscreen.pipeline import Pipeline

__all__ = ["Summary", "screen_inputs"]


@dataclass(frozen=True, slots=True)
class Summary:
    """The outcome of a run: studies found, those with a report, and everything that was not read."""

    studies: int
    reports: int
    refusals: tuple[Refusal, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that is a study, or should have been one, was read."""
        return 0 < self.studies == self.reports and is_complete(self.refusals)


def screen_inputs(
    inputs: Sequence[Path],
    out: Path,
    pipeline: Pipeline,
    *,
    clinical: ClinicalTable | None = None,
    priors: Path | None = None,
    key_file: Path | None = None,
) -> Summary:
    """Screen every study in the inputs that is new and write the results (docs/reference/files.md): a batch of a
    handful, in this process.

    clinical: patient data beside the images (`lungscreen.clinical.read_clinical`).
    priors: earlier exams or reports; without it, earlier studies of the same patient in the inputs are compared.
    key_file: of the key that names the studies' folders; the user's own where None.

    Errors: `usage` where an input and `out` are the same folder, `output-failed`, `weights-invalid`, `config-invalid`,
    and those of the ledger (`lungscreen.batch.run_batch`).
    What is wrong with a study or file is no error of the run: it is in the summary and in refused.csv.
    """
    run = BatchRun(
        inputs,
        out,
        pipeline,
        clinical=clinical,
        priors=priors,
        config=PATIENT,
        key_file=key_file,
        engine="here",
    )
    ended = run_batch(run)
    return Summary(ended.studies, ended.states["done"], ended.refusals)


PATIENT = BatchConfig(keep_free_mb=0.0, full_limit_s=0.0, away_limit_s=0.0)
"""Somebody is waiting for a handful of studies: what cannot be written or reached now ends the command."""

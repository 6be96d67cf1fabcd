"""Many studies, one after the other: each ends as a report or as a refusal, and none stops the others.

inputs ─► run_batch, in this process ─► studies/<key>/, worklist, findings, candidates, refused
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lungscreen.batch import BatchConfig, BatchRun, is_complete, make_output, run_batch
from lungscreen.batch.keys import load_key
from lungscreen.batch.study import RUN_ERRORS
from lungscreen.clinical import ClinicalTable
from lungscreen.errors import LungscreenError, Refusal, UsageError
from lungscreen.logs import LOG
from lungscreen.pipeline import Pipeline
from lungscreen.records import Study
from lungscreen.report import clean_leftovers
from lungscreen.stopwatch import Stopwatch

__all__ = ["Summary", "guard", "is_complete", "prepare_output", "screen_inputs", "show_progress"]


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a run: studies found, those with a report, and everything that was not read."""

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
    save_masks: bool = False,
    key_file: Path | None = None,
) -> Summary:
    """Screen every study in the inputs that is new and write the results (docs/reference/files.md): a batch of a handful,
    in this process.

    clinical: patient data beside the images (`lungscreen.clinical.read_clinical`). priors: earlier exams or reports;
    without it, earlier studies of the same patient in the inputs are compared.
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
        save_masks=save_masks,
        config=PATIENT,
        key_file=key_file,
        engine="here",
    )
    ended = run_batch(run)
    return Summary(ended.studies, ended.states["done"], ended.refusals)


PATIENT = BatchConfig(keep_free_mb=0.0, full_limit_s=0.0, away_limit_s=0.0)
"""Somebody is waiting for a handful of studies: what cannot be written or reached now ends the command."""


def prepare_output(out: Path, inputs: Sequence[Path]) -> None:
    """Make `out`, see that it is none of the inputs, and clean up after a run that crashed there.

    Errors: `usage`, `output-failed`.
    """
    make_output(out, inputs)
    clean_leftovers(out)


@contextmanager
def guard(study: Study, refusals: list[Refusal]) -> Iterator[None]:
    """Whatever goes wrong inside costs this study only: it becomes the study's refusal.

    Errors: those that concern the run and not the study (`output-failed`, `weights-invalid`) pass.
    """
    key = _pseudonym(study.exam.study_uid)
    clock = Stopwatch()
    try:
        with clock.stage("study"):
            yield
    except RUN_ERRORS:
        raise
    except LungscreenError as error:
        LOG.warning("study refused", extra={"fields": {"key": key, "code": error.code}})
        refusals.extend(_refuse(study, error.code, error.reason))
    except Exception as error:  # whatever a library throws at a hostile file
        LOG.error("study failed", extra={"fields": {"key": key, "where": _places(error)}})
        refusals.extend(_refuse(study, "internal-error", "The software failed on this study."))
    else:
        LOG.info("study done", extra={"fields": {"key": key, "seconds": round(clock.seconds["study"], 2)}})


def _pseudonym(study_uid: str) -> str:
    """What names a study in a log: a keyed hash, or nothing where there is no key."""
    try:
        return load_key().study_key(study_uid)
    except UsageError:
        return ""


def show_progress(studies: Sequence[Study]) -> Iterator[Study]:
    """The studies, with a bar on a terminal."""
    from tqdm import tqdm

    yield from tqdm(studies, "studies", unit="study", disable=not sys.stderr.isatty(), leave=False)


def _refuse(study: Study, code: str, reason: str) -> tuple[Refusal, ...]:
    uid = study.exam.study_uid
    return Refusal(uid, code, reason, "study", uid, study.patient.patient_id), *study.not_read


def _places(error: Exception) -> str:
    """Where an unexpected exception came from: files and lines, no values (they may name a patient)."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))

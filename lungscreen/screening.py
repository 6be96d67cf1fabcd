"""Many studies, one after the other: each ends as a report or as a refusal, and none stops the others.

inputs ─► Inventory ─► (screen_study ─► studies/<key>/)… ─► worklist, findings, candidates, refused
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lungscreen.clinical import ClinicalTable
from lungscreen.comparison import read_priors
from lungscreen.errors import LungscreenError, OutputError, Refusal, UsageError, WeightsError
from lungscreen.logs import LOG
from lungscreen.pipeline import Pipeline, load_networks, screen_study
from lungscreen.records import Study
from lungscreen.report import clean_leftovers, study_key, write_report, write_tables
from lungscreen.series import find_series
from lungscreen.stopwatch import Stopwatch

__all__ = ["Summary", "guard", "is_complete", "prepare_output", "screen_inputs", "show_progress"]

NEVER_MEANT = frozenset(
    {"not-dicom", "not-ct", "localizer", "series-other-chosen", "duplicate-files", "series-part", "prior-other-patient"}
)
"""Codes of what is in a healthy folder too and nobody meant to have read: it leaves a run complete."""


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
) -> Summary:
    """Screen every study in the inputs and write the results (docs/reference/files.md).

    clinical: patient data beside the images (`lungscreen.clinical.read_clinical`). priors: earlier exams or reports;
    without it, earlier studies of the same patient in the inputs are compared.

    Errors: `usage` where an input and `out` are the same folder, `output-failed`, `weights-invalid`, `config-invalid`.
    What is wrong with a study or file is no error of the run: it is in the summary and in refused.csv.
    """
    prepare_output(out, inputs)
    reports = 0
    with ThreadPoolExecutor(1, "networks") as pool:
        # Loading the networks takes seconds, and so does reading headers: side by side.
        networks = pool.submit(load_networks, pipeline)
        inventory = find_series(inputs, pipeline.series, skip=out)
        earlier = read_priors(priors, inventory.studies, pipeline.series, skip=out)
        refusals = [*inventory.refused, *earlier.refused]
        for study in show_progress(inventory.studies):
            with guard(study, refusals):
                report = screen_study(study, pipeline, networks, clinical, priors=earlier)
                write_report(report, out, save_masks)
                refusals.extend(report.volume.refused)
                reports += 1
        networks.result()
    write_tables(
        out, refusals, screened=[s.exam.study_uid for s in inventory.studies], inputs=[str(path) for path in inputs]
    )
    return Summary(len(inventory.studies), reports, tuple(refusals))


def prepare_output(out: Path, inputs: Sequence[Path]) -> None:
    """Make `out`, see that it is none of the inputs, and clean up after a run that crashed there.

    Errors: `usage`, `output-failed`.
    """
    if out.resolve() in {path.resolve() for path in inputs}:
        raise UsageError("usage", "the results cannot go into the input itself: name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-failed", f"cannot make the folder: {error.strerror}", str(out)) from None
    clean_leftovers(out)


def is_complete(refusals: Iterable[Refusal]) -> bool:
    """Whether nothing is among them that somebody may have meant to have read."""
    return all(refusal.code in NEVER_MEANT or refusal.scope == "series" for refusal in refusals)


@contextmanager
def guard(study: Study, refusals: list[Refusal]) -> Iterator[None]:
    """Whatever goes wrong inside costs this study only: it becomes the study's refusal.

    Errors: those that concern the run and not the study (`output-failed`, `weights-invalid`) pass.
    """
    key = study_key(study.exam.study_uid)
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


RUN_ERRORS = (OutputError, WeightsError, UsageError)
"""What goes wrong for every study alike."""


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

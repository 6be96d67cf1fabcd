"""One study after the other, without a ledger: what detecting alone and assessing alone have in common."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lungscreen.errors import Refusal, UsageError
from lungscreen.jobs.guard import describe_failure, study_rows
from lungscreen.logs import LOG
from lungscreen.pipeline import Pipeline, read_first_series
from lungscreen.pseudonyms import load_key
from lungscreen.records import Study, Volume
from lungscreen.results.folder import ResultsFolder
from lungscreen.series import find_series, identify_study
from lungscreen.stopwatch import Stopwatch

__all__ = ["any_size", "guard_study", "is_complete", "prepare_output", "read_volumes", "show_progress"]

NEVER_MEANT = frozenset(
    {
        "not-dicom",
        "not-ct",
        "localizer",
        "series-other-chosen",
        "duplicate-files",
        "series-part",
        "prior-other-patient",
        "results-passed-over",
    }
)
"""Codes of what is in a healthy folder too and nobody meant to have read: it leaves a run complete."""


def is_complete(refusals: Iterable[Refusal]) -> bool:
    """Whether nothing is among them that somebody may have meant to have read."""
    return all(refusal.code in NEVER_MEANT or refusal.scope == "series" for refusal in refusals)


def any_size(pipeline: Pipeline) -> Pipeline:
    """The pipeline, taking volumes of any size: a small crop too."""
    return dataclasses.replace(pipeline, volume=dataclasses.replace(pipeline.volume, min_slices=1, min_extent_mm=0.0))


def prepare_output(out: Path, inputs: Sequence[Path]) -> None:
    """Make `out`, see that it is none of the inputs, and clean up after a run that crashed there.

    Errors: `usage`, `output-failed`.
    """
    folder = ResultsFolder(out)
    folder.make(inputs)
    folder.clean()


def read_volumes(inputs: Sequence[Path], out: Path, pipeline: Pipeline, refusals: list[Refusal]) -> Iterator[Volume]:
    """Every volume in the inputs, one by one; what cannot be read is added to `refusals`.

    out: results, not searched for inputs.
    """
    inventory = find_series(inputs, pipeline.series, skip=out)
    refusals.extend(inventory.refused)
    for study in show_progress(inventory.studies):
        volume = None
        with guard_study(study, refusals):
            read, volume = read_first_series(study, pipeline.volume)
            refusals += (*read.not_read, *volume.refused)
        if volume is not None:
            yield volume


@contextmanager
def guard_study(study: Study, refusals: list[Refusal]) -> Iterator[None]:
    """Whatever goes wrong inside costs this study only: it becomes the study's refusal.

    Errors: those that concern the run and not the study (`lungscreen.jobs.guard.RUN_ERRORS`) pass.
    """
    key = _pseudonym(study)
    clock = Stopwatch()
    try:
        with clock.stage("study"):
            yield
    except Exception as error:  # whatever a library throws at a hostile file
        failure = describe_failure(error, key)
        fields = {"key": key, "state": failure.state, "code": failure.code}
        LOG.warning(f"study {failure.state}", extra={"fields": fields})
        refusals.extend(
            study_rows(study.exam.study_uid, study.patient.patient_id, failure.code, failure.reason, study.not_read)
        )
    else:
        LOG.info("study done", extra={"fields": {"key": key, "seconds": round(clock.seconds["study"], 2)}})


def _pseudonym(study: Study) -> str:
    """What names a study in a log: a keyed hash, or nothing where there is no key."""
    try:
        who = identify_study(study)
        return load_key().study_key(who.study_uid, who.patient_id, who.name)
    except UsageError:
        return ""


def show_progress(studies: Sequence[Study]) -> Iterator[Study]:
    """The studies, with a bar on a terminal."""
    from tqdm import tqdm

    yield from tqdm(studies, "studies", unit="study", disable=not sys.stderr.isatty(), leave=False)

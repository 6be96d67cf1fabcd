"""One study after the other, without a ledger: what detecting alone and assessing alone have in common."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lungscreen.batch import is_complete, make_output
from lungscreen.batch.keys import load_key
from lungscreen.batch.study import RUN_ERRORS
from lungscreen.errors import LungscreenError, Refusal, UsageError
from lungscreen.logs import LOG, where_raised
from lungscreen.pipeline import Pipeline
from lungscreen.records import Study
from lungscreen.report import clean_leftovers
from lungscreen.stopwatch import Stopwatch

__all__ = ["any_size", "guard", "is_complete", "prepare_output", "show_progress"]


def any_size(pipeline: Pipeline) -> Pipeline:
    """The pipeline, taking volumes of any size: a small crop too."""
    return dataclasses.replace(pipeline, volume=dataclasses.replace(pipeline.volume, min_slices=1, min_extent_mm=0.0))


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
        LOG.error("study failed", extra={"fields": {"key": key, "where": where_raised(error)}})
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

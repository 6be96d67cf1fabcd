"""What a failure of a study becomes: the same in every job and in the batch.

error ─► Failure (refused: the study's fault; failed: the machine's or the software's) ─► the study's rows
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lungscreen.errors import LungscreenError, OutputError, Refusal, UsageError, WeightsError, is_lack_of_memory
from lungscreen.logs import LOG, where_raised

__all__ = ["RUN_ERRORS", "Failure", "describe_failure", "study_rows"]

RUN_ERRORS = (OutputError, WeightsError, UsageError)
"""What goes wrong for every study alike: it ends the run and is no study's failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a study has no result. refused: it cannot be read; failed: it might be, on another day or machine."""

    state: Literal["refused", "failed"]
    code: str
    reason: str


def describe_failure(error: Exception, key: str) -> Failure:
    """What an error inside a study says of the study.

    key: the study's pseudonym, for the log; a fault of the software is logged by its place, never by its words, which
    may quote the header.

    Errors: those of `RUN_ERRORS` pass.
    """
    if isinstance(error, RUN_ERRORS):
        raise error
    if isinstance(error, LungscreenError):
        return Failure("failed" if error.code == "internal-error" else "refused", error.code, error.reason)
    if is_lack_of_memory(error):
        return Failure("failed", "out-of-memory", "There was not enough memory for this study.")
    LOG.error("study failed", extra={"fields": {"key": key, "where": where_raised(error)}})
    return Failure("failed", "internal-error", "The software failed on this study.")


def study_rows(
    study_uid: str, patient_id: str, code: str, reason: str, not_read: Sequence[Refusal] = ()
) -> tuple[Refusal, ...]:
    """The rows of a study without a result: its own, then what of it was not read anyway."""
    return Refusal(study_uid, code, reason, "study", study_uid, patient_id), *not_read

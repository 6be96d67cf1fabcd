"""Many studies, one after the other: each ends as a report or as a refusal, and none stops the others.

inputs ─► Inventory ─► (screen_study ─► studies/<key>/)… ─► worklist, findings, candidates, refused
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from lungscreen.errors import LungscreenError, OutputError, Refusal, UsageError
from lungscreen.logs import LOG
from lungscreen.pipeline import Networks, Pipeline, load_networks, screen_study
from lungscreen.records import Inventory, Study
from lungscreen.report import clean_leftovers, study_key, write_report, write_tables
from lungscreen.series import find_series
from lungscreen.stopwatch import Stopwatch

__all__ = ["Outcome", "Summary", "screen_inputs"]


NEVER_MEANT = frozenset({"not-dicom", "not-ct", "localizer", "series-other-chosen", "duplicate-files", "series-part"})
"""Codes of what is in a healthy folder too and nobody meant to have read: it leaves a run complete."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one study."""

    key: str
    code: str = ""
    """Empty when there is a report."""
    category: str = ""
    findings: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a run."""

    outcomes: tuple[Outcome, ...]
    refusals: tuple[Refusal, ...]

    @property
    def complete(self) -> bool:
        """Whether everything that is a study, or should have been one, was read."""
        missing = [r for r in self.refusals if r.code not in NEVER_MEANT]
        return bool(self.outcomes) and not any(o.code for o in self.outcomes) and not missing


def screen_inputs(inputs: Sequence[Path], out: Path, pipeline: Pipeline, *, save_masks: bool = False) -> Summary:
    """Screen every study in the inputs and write the results (docs/reference/files.md).

    Errors: `usage` where an input and `out` are the same folder, `output-failed`, `weights-invalid`, `config-invalid`.
    What is wrong with a study or file is no error of the run: it is in the summary and in refused.csv.
    """
    prepare_output(out, inputs)
    with ThreadPoolExecutor(1, "networks") as pool:
        # Loading the networks takes seconds, and so does reading headers: side by side.
        networks = pool.submit(load_networks, pipeline)
        inventory = find_series(inputs, pipeline.series, skip=out)
        outcomes, refusals = _screen_all(inventory, networks, out, pipeline, save_masks)
    write_tables(
        out, refusals, screened=[s.exam.study_uid for s in inventory.studies], inputs=[str(path) for path in inputs]
    )
    return Summary(tuple(outcomes), tuple(refusals))


def prepare_output(out: Path, inputs: Sequence[Path]) -> None:
    """Make `out`, and see that it lies in no input's way.

    Errors: `usage`, `output-failed`.
    """
    for path in inputs:
        if out.resolve() == path.resolve():
            raise UsageError("usage", "the results cannot go into the input itself: name another folder with --out")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-failed", f"cannot make the folder: {error.strerror}", str(out)) from None
    clean_leftovers(out)


def _screen_all(
    inventory: Inventory, networks: Future[Networks], out: Path, pipeline: Pipeline, save_masks: bool
) -> tuple[list[Outcome], list[Refusal]]:
    outcomes: list[Outcome] = []
    refusals = list(inventory.refused)
    for study in _progress(inventory.studies):
        outcome, refused = _screen_one(study, networks, out, pipeline, save_masks)
        outcomes.append(outcome)
        refusals.extend(refused)
    return outcomes, refusals


def _screen_one(
    study: Study, networks: Future[Networks], out: Path, pipeline: Pipeline, save_masks: bool
) -> tuple[Outcome, tuple[Refusal, ...]]:
    """One study to its folder; whatever goes wrong becomes its refusal."""
    key = study_key(study.exam.study_uid)
    clock = Stopwatch()
    with clock.stage("study"):
        try:
            report = screen_study(study, pipeline, networks)
            write_report(report, out, save_masks)
        except LungscreenError as error:
            return _refuse(study, key, error.code, error.reason)
        except Exception:  # whatever a library throws at a hostile file: it costs this study only
            LOG.error("study failed", extra={"fields": {"key": key, "traceback": _places()}})
            return _refuse(study, key, "internal-error", "The software failed on this study.")
    outcome = Outcome(key, "", report.category, len(report.findings), clock.seconds["study"])
    LOG.info("study done", extra={"fields": {"key": key, "seconds": round(outcome.seconds, 2)}})
    return outcome, report.volume.refused


def _refuse(study: Study, key: str, code: str, reason: str) -> tuple[Outcome, tuple[Refusal, ...]]:
    LOG.warning("study refused", extra={"fields": {"key": key, "code": code}})
    uid = study.exam.study_uid
    refusal = Refusal(uid, code, reason, "study", uid, study.patient.patient_id)
    return Outcome(key, code), (refusal, *study.not_read)


def _places() -> str:
    """Where an unexpected exception came from: files of this package and lines, no values (they may name a patient)."""
    error = sys.exc_info()[1]
    frames = traceback.extract_tb(error.__traceback__ if error else None)
    return f"{type(error).__name__} at " + " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))


def _progress(studies: Sequence[Study]) -> Iterator[Study]:
    from tqdm import tqdm

    yield from tqdm(studies, "studies", unit="study", disable=not sys.stderr.isatty(), leave=False)

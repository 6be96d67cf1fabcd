"""Study ─► Volume of the first of its series that can be read; what could not is recorded with the study."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from lungscreen.errors import LungscreenError, Notice, Refusal
from lungscreen.records import Study, Volume
from lungscreen.volume import VolumeConfig, build_volume

__all__ = ["read_first_series"]


def read_first_series(study: Study, config: VolumeConfig) -> tuple[Study, Volume]:
    """The volume of the first of the study's series that can be read; what could not is recorded with the study.

    Errors: those of the first series where none can be read.
    """
    failed: list[LungscreenError] = []
    for series in study.series:
        try:
            volume = build_volume(series, config)
        except LungscreenError as error:
            failed.append(error)
            continue
        return _with_failed(study, failed, series.series_uid), volume
    raise failed[0]


def _with_failed(study: Study, failed: Sequence[LungscreenError], read: str) -> Study:
    """The study, where a stand-in was read: it says so, and why the series before it were not."""
    if not failed:
        return study
    rows = [
        Refusal(series.series_uid, error.code, error.reason, "series", study.exam.study_uid, study.patient.patient_id)
        for series, error in zip(study.series, failed, strict=False)
    ]
    others = [row for row in study.not_read if row.where not in {read, *(r.where for r in rows)}]
    text = f"The series that comes first could not be read ({failed[0].code}); another one of the study was."
    return dataclasses.replace(
        study, not_read=(*rows, *others), notices=(*study.notices, Notice("stand-in-series", text))
    )

"""Reading, the patient's earlier exams ─► Comparison.

The latest earlier exam whose images are there is read like this one, aligned with it, and compared:

    prepare_study ─► read_exam ─► align_exams ─► pair_exams ─► grade_candidates (what is looked for again) ─►
    compare_images ─► add_earlier_views
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from datetime import date

from lungscreen.comparison import (
    Between,
    Comparison,
    Prior,
    add_earlier_views,
    align_exams,
    compare_by_report,
    compare_images,
    pair_exams,
)
from lungscreen.errors import LungscreenError, Notice
from lungscreen.pipeline.exam import grade_candidates, prepare_study, read_exam
from lungscreen.pipeline.networks import Networks
from lungscreen.pipeline.selection import nodules_of_prior
from lungscreen.pipeline.settings import Pipeline
from lungscreen.records import ClinicalData, Reading, Study

__all__ = ["compare_with_priors"]


def compare_with_priors(
    exam: Reading,
    day: date | None,
    priors: Sequence[Prior],
    person: ClinicalData | None,
    pipeline: Pipeline,
    networks: Networks,
) -> Comparison:
    """The exam of `day` against the latest of its earlier ones that can be compared; as it is where there is none.

    An earlier exam that cannot be read or aligned is said in a notice, and its report, where there is one, stands in.
    """
    if day is None:
        return Comparison(exam.found)
    unread = [prior for prior in priors if prior.unread]
    read = [prior for prior in priors if not prior.unread]
    compared = _with_latest(exam, day, read, person, pipeline, networks)
    said = [
        Notice("prior-unreadable", f"The earlier exam of {prior.date} was not compared: {prior.unread}.")
        for prior in unread
    ]
    unknown = sum(prior.report.not_measured for prior in unread if prior.report)
    return dataclasses.replace(
        compared, not_measured=compared.not_measured + unknown, notices=(*said, *compared.notices)
    )


def _with_latest(
    exam: Reading,
    day: date,
    priors: Sequence[Prior],
    person: ClinicalData | None,
    pipeline: Pipeline,
    networks: Networks,
) -> Comparison:
    """Against the latest that can be compared."""
    notices: list[Notice] = []
    for prior in priors[: pipeline.comparison.most_tries]:
        between = Between(prior, day, networks.threshold(pipeline), pipeline.findings.least_mm, person)
        compared, said = _compare_one(exam, between, pipeline, networks)
        notices += said
        if compared is not None:
            more = _not_looked_at(priors, prior, compared)
            return dataclasses.replace(compared, notices=(*notices, *compared.notices, *more))
    return Comparison(exam.found, notices=tuple(notices))


def _compare_one(
    exam: Reading, between: Between, pipeline: Pipeline, networks: Networks
) -> tuple[Comparison | None, tuple[Notice, ...]]:
    """By images, else by the report's sizes, else None; and why not by images, where they are there."""
    compared, said = _by_images(exam, between, pipeline, networks)
    if compared is None and between.prior.report is not None:
        compared = compare_by_report(exam.found, between, pipeline.comparison)
    return compared, said


def _by_images(
    exam: Reading, between: Between, pipeline: Pipeline, networks: Networks
) -> tuple[Comparison | None, tuple[Notice, ...]]:
    prior = between.prior
    if prior.study is None:
        return None, ()
    try:
        then = _read_prior(prior, prior.study, pipeline, networks)
    except LungscreenError as error:
        text = f"The earlier exam of {prior.date} could not be read ({error.code})."
        return None, (Notice("prior-unreadable", text),)
    alignment = align_exams(exam.volume, exam.lungs, then.volume, then.lungs, pipeline.comparison)
    if alignment.overlap < pipeline.comparison.least_overlap:
        text = f"The lungs of the earlier exam of {prior.date} could not be aligned with this exam's."
        return None, (Notice("prior-not-aligned", text),)
    pairing = pair_exams(exam, then, alignment, between.threshold, pipeline.comparison)
    seen_then = grade_candidates(then.volume, then.lungs, pairing.marks_then, networks, pipeline)
    seen_now = grade_candidates(exam.volume, exam.lungs, pairing.marks_now, networks, pipeline)
    compared = compare_images(pairing, seen_then, seen_now, between)
    found = add_earlier_views(compared.found, then.volume, alignment, prior)
    return dataclasses.replace(compared, found=found), ()


def _read_prior(prior: Prior, study: Study, pipeline: Pipeline, networks: Networks) -> Reading:
    """An earlier exam, read as this one is; what is too small there or no nodule has no part in the comparison."""
    reading = read_exam(prepare_study(study, pipeline), pipeline, networks, prior=prior)
    return dataclasses.replace(reading, found=nodules_of_prior(reading.found, prior, pipeline.findings))


def _not_looked_at(priors: Sequence[Prior], used: Prior, compared: Comparison) -> tuple[Notice, ...]:
    """How many earlier exams there are whose images were not looked at."""
    shown = {past.study_uid for f in compared.found if f.change for past in f.change.exams} | {used.study_uid}
    left = [prior for prior in priors if prior.study_uid not in shown]
    if not left:
        return ()
    text = f"{len(left)} more earlier exam{'s' if len(left) > 1 else ''} of this patient, not compared: the latest was."
    return (Notice("prior-older", text),)

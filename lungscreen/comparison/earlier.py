"""A nodule of an earlier exam ─► PastNodule, as its images and its report show it; and as the rules take it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lungscreen.assess import NoduleAtExam, share_prior_category
from lungscreen.comparison.changes import nodule_at_exam
from lungscreen.comparison.pairing import NEAR_CANDIDATE_MM
from lungscreen.comparison.priors import Prior
from lungscreen.records import NOT_ASSESSED, ClinicalData, Evidence, Finding, PastNodule

__all__ = ["EarlierNodule", "describe_earlier", "earlier_exams", "nodules_in_report", "share_categories"]


@dataclass(frozen=True, eq=False)
class EarlierNodule:
    """A nodule of the earlier exam: as it was there, and what came before, oldest first."""

    past: PastNodule
    history: tuple[PastNodule, ...] = ()

    @property
    def exams(self) -> tuple[PastNodule, ...]:
        """All of it, oldest first."""
        return *self.history, self.past


def describe_earlier(finding: Finding, evidence: Evidence, prior: Prior) -> EarlierNodule:
    """A nodule that was measured in the earlier exam's images, with what that exam's report says of it.

    Errors: ValueError where it was not measured.
    """
    size = finding.measurement
    if size is None:
        raise ValueError("expected a measured nodule")
    past = PastNodule(
        date=f"{prior.date:%Y%m%d}",
        study_uid=prior.study_uid,
        nodule_type=finding.nodule_type,
        long_axis_mm=size.long_axis_mm,
        short_axis_mm=size.short_axis_mm,
        mean_diameter_mm=size.mean_diameter_mm,
        volume_mm3=size.volume_mm3,
        volume_sd_mm3=size.volume_sd_mm3,
        solid_mean_diameter_mm=size.solid_mean_diameter_mm,
        solid_volume_mm3=size.solid_volume_mm3,
        centre_mm=finding.candidate.centre_mm,
        how=evidence,
        side=finding.location.side,
        zone=finding.location.zone,
        doubtful=finding.doubtful,
    )
    return _with_report(past, prior)


def nodules_in_report(prior: Prior) -> list[EarlierNodule]:
    """The nodules that the earlier exam's report names, none where there is no report."""
    if prior.report is None:
        return []
    rows = zip(prior.report.nodules, prior.report.histories, strict=True)
    return [EarlierNodule(past, history) for past, history in rows]


def share_categories(
    earlier: Sequence[EarlierNodule], prior: Prior, person: ClinicalData | None
) -> list[EarlierNodule]:
    """The nodules, where only the exam's category is known with that category on the nodule that choice c names."""
    shared = share_prior_category([nodule_at_exam(then.past) for then in earlier], _exam_category(prior, person))
    return [
        replace(then, past=replace(then.past, category=nodule.category))
        for then, nodule in zip(earlier, shared, strict=True)
    ]


def earlier_exams(finding: Finding) -> tuple[NoduleAtExam, ...] | None:
    """A finding's earlier exams as the rules take them; None where its place was not compared."""
    change = finding.change
    if change is None or (change.state == NOT_ASSESSED and not change.exams):
        return None
    return tuple(nodule_at_exam(past) for past in change.exams)


def _with_report(past: PastNodule, prior: Prior) -> EarlierNodule:
    """Number, category and history from the earlier exam's own report, by place."""
    report = prior.report
    if report is None or past.centre_mm is None:
        return EarlierNodule(past)
    near = [
        (math.dist(row.centre_mm, past.centre_mm), n)
        for n, row in enumerate(report.nodules)
        if row.centre_mm is not None
    ]
    distance, n = min(near, default=(math.inf, -1))
    if distance > max(NEAR_CANDIDATE_MM, past.mean_diameter_mm / 2):
        return EarlierNodule(past)
    row = report.nodules[n]
    return EarlierNodule(replace(past, category=row.category, number=row.number), report.histories[n])


def _exam_category(prior: Prior, person: ClinicalData | None) -> str:
    if prior.report is not None:
        return prior.report.category
    if person is None or person.prior_exam_date not in ("", f"{prior.date:%Y%m%d}"):
        return ""
    return person.prior_category

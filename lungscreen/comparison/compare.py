"""Pairing, or an earlier report ─► Comparison: how each nodule changed since the earlier exam.

By images every finding is stable, growing, shrinking or new, and every earlier nodule without a partner is resolved or
still there. A report without images is compared by size only: then nothing is called new or resolved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from lungscreen.assess import STAYING, read_category
from lungscreen.comparison.changes import describe_change, say_not_compared
from lungscreen.comparison.config import ComparisonConfig
from lungscreen.comparison.earlier import EarlierNodule, describe_earlier, nodules_in_report, share_categories
from lungscreen.comparison.match import NodulePlace, Pair, match_by_size
from lungscreen.comparison.pairing import Pairing, Sought, accept_again, is_measured, is_taken, place_of
from lungscreen.comparison.priors import Prior
from lungscreen.errors import Notice
from lungscreen.geometry import Vector
from lungscreen.records import (
    NOT_ASSESSED,
    ClinicalData,
    Evidence,
    Finding,
    LostNodule,
    NoduleChange,
    PastNodule,
    PriorExam,
)

__all__ = ["Between", "Comparison", "compare_by_report", "compare_images"]


@dataclass(frozen=True, eq=False)
class Between:
    """The earlier exam and what the comparison with it goes by.

    day: of this exam.
    least_mm: mean diameter below which there is no finding.
    threshold: score of the operating point.
    person: its prior_category goes to a nodule of the exam of prior_exam_date (choice c).
    """

    prior: Prior
    day: date
    threshold: float
    least_mm: float
    person: ClinicalData | None = None

    @property
    def days(self) -> int:
        """From the earlier exam to this one."""
        return (self.day - self.prior.date).days


@dataclass(frozen=True, eq=False)
class Comparison:
    """An exam compared.

    found: its findings, each with its change, and those that only an earlier exam led to.
    lost: nodules of the earlier exam that are no findings now.
    not_measured: how many more it has that cannot be compared, as they have no sizes.
    """

    found: tuple[Finding, ...]
    priors: tuple[PriorExam, ...] = ()
    lost: tuple[LostNodule, ...] = ()
    not_measured: int = 0
    notices: tuple[Notice, ...] = ()


def compare_images(
    pairing: Pairing, seen_then: Sequence[Finding], seen_now: Sequence[Finding], between: Between
) -> Comparison:
    """The exam against the images of an earlier one.

    seen_then, seen_now: `pairing.marks_then` and `pairing.marks_now`, measured in their exams, in order.
    """
    measured = [describe_earlier(finding, Evidence.FINDING, between.prior) for finding in pairing.earlier]
    earlier = share_categories(measured, between.prior, between.person)
    outcomes = [_pair(pair, pairing.now.found, earlier, between) for pair in pairing.pairs]
    outcomes += [
        _only_now(sought, seen, pairing.now.found[sought.position], between)
        for sought, seen in _with_seen(pairing.sought_then, seen_then)
    ]
    looked = _with_seen((*pairing.sought_now, *pairing.sought_unmeasured), seen_now)
    outcomes += [
        _only_then(sought, seen, earlier[sought.position], pairing.now.found, between)
        for sought, seen in looked[: len(pairing.sought_now)]
    ]
    outcomes += [_never_measured(sought, seen, between) for sought, seen in looked[len(pairing.sought_now) :]]
    exam = _prior_exam(between.prior, "images", pairing.then.volume.series_uid, pairing.overlap)
    return _gather(pairing.now.found, outcomes, exam, between.prior)


def compare_by_report(found: Sequence[Finding], between: Between, config: ComparisonConfig | None = None) -> Comparison:
    """The exam against an earlier exam's report, whose images are not there, by sizes alone.

    Errors: ValueError where the earlier exam has no report.
    """
    report, when = between.prior.report, between.prior.date
    if report is None:
        raise ValueError("expected an earlier exam with a report")
    earlier = share_categories(nodules_in_report(between.prior), between.prior, between.person)
    places = [
        NodulePlace((0.0, 0.0, 0.0), t.past.mean_diameter_mm, t.past.nodule_type, t.past.side, t.past.zone)
        for t in earlier
    ]
    matches = match_by_size([place_of(finding) for finding in found], places, config)
    outcomes = [_pair(pair, found, earlier, between) for pair in matches.pairs]
    reason = f"the images of {when} are not here, and its report has no nodule that must be this one"
    outcomes += [_Outcome(n, _not_compared(found[n], reason)) for n in matches.only_current]
    for n in matches.only_earlier:
        past = earlier[n].past
        text = f"{past.mean_diameter_mm:.1f} mm on {when}; compared by size only, no partner for certain"
        outcomes.append(_Outcome(lost=LostNodule(past, NOT_ASSESSED, text)))
    text = f"The exam of {when} was compared by the sizes in its report only: its images are not here."
    exam = _prior_exam(between.prior, "report", report.series_uid, None)
    outcomes += [_Outcome(not_measured=True)] * report.not_measured
    return _gather(found, outcomes, exam, between.prior, (Notice("prior-by-size", text),))


# -- one nodule ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Outcome:
    """One nodule compared.

    position: among the exam's findings; None where only the earlier exam led to it.
    finding: with its change; None where it is no finding of this exam.
    lost: the earlier nodule, where it is to be listed.
    not_measured: the earlier exam has no sizes of it, and nobody knows whether it is still there.
    """

    position: int | None = None
    finding: Finding | None = None
    lost: LostNodule | None = None
    not_measured: bool = False


def _with_seen(sought: Sequence[Sought], seen: Sequence[Finding]) -> list[tuple[Sought, Finding | None]]:
    """What was looked for, each with what was measured at its mark; None where it has no mark."""
    rest = iter(seen)
    return [(one, None if one.mark is None else next(rest)) for one in sought]


def _pair(pair: Pair, found: Sequence[Finding], earlier: Sequence[EarlierNodule], between: Between) -> _Outcome:
    """A finding and its partner."""
    finding, then = found[pair.current], earlier[pair.earlier]
    if not is_measured(finding):
        return _Outcome(pair.current, _not_compared(finding, "it was not measured now"))
    changed = _with_change(finding, then.exams, between.day, pair.distance_mm, ambiguous=pair.ambiguous)
    return _Outcome(pair.current, changed, _too_small(changed, then, between) if _is_small(changed, between) else None)


def _only_now(sought: Sought, seen: Finding | None, finding: Finding, between: Between) -> _Outcome:
    """A finding without a partner: new, unless the earlier exam shows it after all or not its place."""
    when = between.prior.date
    if not sought.inside:
        return _Outcome(sought.position, _not_compared(finding, f"its place lies outside the scan of {when}"))
    seen = accept_again(sought, seen, between.threshold)
    if seen is None:
        change = NoduleChange("new", f"new since {when}", days=between.days)
        return _Outcome(sought.position, replace(finding, change=change))
    if not (is_measured(seen) and is_measured(finding)):
        which = "now" if not is_measured(finding) else f"on {when}"
        reason = f"{when} shows it too, but it was not measured {which}"
        return _Outcome(sought.position, _not_compared(finding, reason))
    marked = seen.candidate.score > 0
    past = describe_earlier(seen, Evidence.BELOW if marked else Evidence.UNMARKED, between.prior).past
    distance = math.dist(seen.candidate.centre_mm, sought.expected_mm)
    changed = _with_change(finding, (past,), between.day, distance)
    if not marked:
        text = f"Nothing was marked at its place on {when}; what is there looks alike and was measured."
        changed = replace(changed, notices=(*changed.notices, Notice("seen-again", text)))
    return _Outcome(sought.position, changed)


def _only_then(
    sought: Sought, seen: Finding | None, gone: EarlierNodule, found: Sequence[Finding], between: Between
) -> _Outcome:
    """A nodule of the earlier exam without a partner: resolved, unless this exam shows it after all."""
    when, expected = between.prior.date, sought.expected_mm
    if not sought.inside:
        text = f"seen on {when}; its place lies outside this scan"
        return _Outcome(lost=LostNodule(gone.past, NOT_ASSESSED, text, expected, outside_scan=True))
    seen = accept_again(sought, seen, between.threshold)
    if seen is None or not is_measured(seen):
        return _Outcome(lost=_not_seen(gone, seen is not None, is_taken(expected, found), expected, when))
    distance = math.dist(seen.candidate.centre_mm, expected)
    changed = _with_change(seen, gone.exams, between.day, distance)
    if _is_small(changed, between):
        return _Outcome(lost=_too_small(changed, gone, between))
    text = f"Below the operating point; a finding because the exam of {when} shows it."
    return _Outcome(finding=replace(changed, notices=(*changed.notices, Notice("found-by-prior", text))))


def _never_measured(sought: Sought, seen: Finding | None, between: Between) -> _Outcome:
    """A nodule of the earlier exam that has no sizes there: nothing to compare, but it may still be here."""
    if not sought.inside:
        return _Outcome(not_measured=True)
    seen = accept_again(sought, seen, between.threshold)
    if seen is None:
        return _Outcome()
    reason = f"{between.prior.date} shows it too, but it was not measured there"
    return _Outcome(finding=_not_compared(seen, reason))


def _is_small(finding: Finding, between: Between) -> bool:
    """Below the least size of a finding, unless it was 4B or 4X, which shrinking alone does not end."""
    size, exams = finding.measurement, finding.change.exams if finding.change else ()
    stays = bool(exams) and read_category(exams[-1].category) in STAYING
    return size is not None and size.mean_diameter_mm < between.least_mm and not stays


def _not_seen(gone: EarlierNodule, unmeasured: bool, merged: bool, expected: Vector, when: date) -> LostNodule:
    """An earlier nodule that was not measured now.

    unmeasured: it is there, and could not be outlined.
    merged: another finding covers its place.
    """
    then = f"{gone.past.mean_diameter_mm:.1f} mm on {when}"
    if unmeasured:
        return LostNodule(gone.past, NOT_ASSESSED, f"{then}; still there, but not measured", expected)
    if merged:
        return LostNodule(gone.past, NOT_ASSESSED, f"{then}; it may have merged with another finding", expected)
    return LostNodule(gone.past, "resolved", f"{then}; not seen now", expected)


def _too_small(finding: Finding, then: EarlierNodule, between: Between) -> LostNodule:
    size = finding.measurement.mean_diameter_mm if finding.measurement else 0.0
    before = f"{then.past.mean_diameter_mm:.1f} mm on {between.prior.date}"
    text = f"{before}, {size:.1f} mm now: below the least size of a finding"
    return LostNodule(then.past, "below the least size", text, finding.candidate.centre_mm)


def _with_change(
    finding: Finding, exams: Sequence[PastNodule], day: date, distance: float | None, *, ambiguous: bool = False
) -> Finding:
    change = describe_change(finding, [past for past in exams if _is_before(past, day)], day)
    notices = finding.notices
    if ambiguous:
        text = "Another nodule was nearly as likely to be this one at the earlier exam: check which is which."
        notices = (*notices, Notice("match-ambiguous", text))
    return replace(finding, change=replace(change, distance_mm=distance, ambiguous=ambiguous), notices=notices)


def _not_compared(finding: Finding, reason: str) -> Finding:
    notice = Notice("place-not-compared", f"Graded as on a first exam: {reason}.")
    return replace(finding, change=say_not_compared(reason), notices=(*finding.notices, notice))


def _is_before(past: PastNodule, day: date) -> bool:
    return len(past.date) == 8 and past.date < f"{day:%Y%m%d}"


# -- the exam --------------------------------------------------------------------------------------------------------
def _left_out_notice(prior: Prior) -> tuple[Notice, ...]:
    """What of an earlier report's histories was not used."""
    if prior.report is None or not prior.report.left_out:
        return ()
    count = prior.report.left_out
    text = (
        f"{count} exams in the histories of the report of {prior.date} are damaged or have impossible dates: left out."
    )
    return (Notice("prior-history-left-out", text),)


def _gather(
    found: Sequence[Finding],
    outcomes: Sequence[_Outcome],
    exam: PriorExam,
    prior: Prior,
    notices: tuple[Notice, ...] = (),
) -> Comparison:
    notices = (*notices, *_left_out_notice(prior))
    known = [(one.position, one.finding) for one in outcomes if one.finding is not None]
    changed = {position: finding for position, finding in known if position is not None}
    more = [finding for position, finding in known if position is None]
    lost = tuple(filter(None, (one.lost for one in outcomes)))
    not_measured = sum(one.not_measured for one in outcomes)
    return Comparison((*(changed.get(n, f) for n, f in enumerate(found)), *more), (exam,), lost, not_measured, notices)


def _prior_exam(prior: Prior, how: Literal["images", "report"], series_uid: str, overlap: float | None) -> PriorExam:
    category = prior.report.category if prior.report else ""
    return PriorExam(f"{prior.date:%Y%m%d}", prior.study_uid, how, series_uid, overlap, category)

"""A finding and its earlier exams ─► NoduleChange: state, differences, doubling time, in numbers and in words.

The state is the one that the category rests on (`judge_change`); volume and doubling time stand beside.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date

from lungscreen.assess import (
    ChangeSince,
    DoublingTime,
    NoduleAtExam,
    NoduleHistory,
    doubling_time,
    judge_change,
    measured_nodule,
)
from lungscreen.days import read_day
from lungscreen.records import NOT_ASSESSED, Evidence, Finding, Measurement, NoduleChange, PastNodule

__all__ = ["describe_change", "nodule_at_exam", "say_not_compared"]

REPEAT_SHARE = 0.25 / 1.96 / math.sqrt(2)
"""Standard uncertainty of a volume from breathing, position and scanner, as a share of it: two scans of one day differ
by up to 25 % in 95 % of nodules (the cut of BTS 2015 and NELSON). Added to what the outline's own uncertainty is."""


def say_not_compared(reason: str) -> NoduleChange:
    """The change of a finding whose earlier state nobody knows."""
    return NoduleChange(NOT_ASSESSED, f"{NOT_ASSESSED}: {reason}")


def describe_change(finding: Finding, exams: Sequence[PastNodule], day: date) -> NoduleChange:
    """The change since the exams, which are before `day`, oldest first; at least one. Differences are since the last.

    Errors: ValueError where the finding was not measured or no exam is given.
    """
    size = finding.measurement
    if size is None or not exams:
        raise ValueError("expected a measured finding and an earlier exam")
    last = exams[-1]
    then = read_day(last.date)
    if then is None:
        raise ValueError("expected an earlier exam with a date")
    days = (day - then).days
    change = judge_change(
        NoduleHistory(measured_nodule(size, finding.nodule_type, day), tuple(map(nodule_at_exam, exams)), compared=True)
    )
    doubling = _doubling(last, size, days)
    difference = round(size.mean_diameter_mm - last.mean_diameter_mm, 1)
    percent = 100 * (size.volume_mm3 / last.volume_mm3 - 1) if last.volume_mm3 and size.volume_mm3 > 0 else None
    return NoduleChange(
        change.state,
        _words(change, last, then, difference, percent, doubling),
        tuple(exams),
        days,
        difference,
        percent,
        doubling.days if doubling else None,
        doubling.shortest_days if doubling else None,
        doubling.longest_days if doubling else None,
    )


def nodule_at_exam(past: PastNodule) -> NoduleAtExam:
    """An earlier nodule as the rules take it.

    Errors: ValueError where its date or sizes are impossible.
    """
    return NoduleAtExam(
        read_day(past.date),
        past.nodule_type,
        past.long_axis_mm,
        past.short_axis_mm,
        solid_mean_diameter_mm=past.solid_mean_diameter_mm,
        volume_mm3=past.volume_mm3,
        solid_volume_mm3=past.solid_volume_mm3,
        category=past.category,
    )


def _doubling(last: PastNodule, size: Measurement, days: int) -> DoublingTime | None:
    if not last.volume_mm3 or size.volume_mm3 <= 0:
        return None
    before, after = (
        _whole_sd(*row) for row in ((last.volume_mm3, last.volume_sd_mm3), (size.volume_mm3, size.volume_sd_mm3))
    )
    return doubling_time(last.volume_mm3, size.volume_mm3, days, before, after)


def _whole_sd(volume_mm3: float, sd_mm3: float | None) -> float | None:
    """Standard uncertainty of a volume between two scans; None where the outline's own is not known."""
    return None if sd_mm3 is None else math.hypot(sd_mm3, REPEAT_SHARE * volume_mm3)


def _time_in_words(doubling: DoublingTime) -> str:
    """Where no growth at all is within the uncertainty, only the shortest time says something."""
    if doubling.shortest_days is not None and doubling.longest_days is None:
        return f"at least {doubling.shortest_days:.0f} days (no growth is within the uncertainty)"
    return doubling.text


def _words(
    change: ChangeSince,
    last: PastNodule,
    then: date,
    difference: float,
    percent: float | None,
    doubling: DoublingTime | None,
) -> str:
    parts = [change.text]
    if change.state != NOT_ASSESSED and (change.part or change.since.exam_date != then):
        parts.append(f"as a whole {difference:+.1f} mm since {then}")
    if percent is not None:
        parts.append(f"volume {percent:+.0f} %")
    if doubling is not None and doubling.days is not None:
        parts.append(f"volume-doubling time {_time_in_words(doubling)}")
    if last.how is not Evidence.FINDING:
        parts.append("then by its report" if last.how is Evidence.REPORT else f"then {last.how}")
    return "; ".join(parts)

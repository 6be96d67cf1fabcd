"""Two measurements at two dates → grown or not; volume-doubling time.

Grown is Lung-RADS v2022 note 6 as choice f reads it: a mean diameter larger by more than 1.5 mm within 12 months.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

from lungscreen.assess.rounding import Number, exact, tenths

__all__ = [
    "FIVE_MONTHS_DAYS",
    "GROWTH_MM",
    "TWELVE_MONTHS_DAYS",
    "TWO_AND_A_HALF_MONTHS_DAYS",
    "DoublingTime",
    "Growth",
    "doubling_time",
    "has_grown_by_volume",
    "judge_growth",
    "months_between",
]

GROWTH_MM = Decimal("1.5")
"""A mean diameter has grown where it is larger by more than this within 12 months (Lung-RADS v2022 note 6)."""

DAYS_PER_YEAR = Decimal("365.25")

TWELVE_MONTHS_DAYS = 366
"""An interval of "12 months" is at most this long (choice f)."""

FIVE_MONTHS_DAYS = 150
"""Category 3 steps down from this interval on: "6 months" as patients keep it (choices c, f)."""

TWO_AND_A_HALF_MONTHS_DAYS = 75
"""Category 4A steps down from this interval on: "3 months" as patients keep it (choices c, f)."""

VOLUME_GROWTH = Decimal("1.25")
"""A volume has grown from this ratio on (BTS 2015, NELSON: ≥ 25 %)."""

_COVERAGE = 1.96
"""Standard deviations of a 95 % interval."""


class Growth(StrEnum):
    """What two mean diameters say."""

    GROWN = "grown"
    NOT_GROWN = "not grown"
    UNDETERMINED = "undetermined"
    """Over more than a year, more than 1.5 mm but not more than 1.5 mm a year: read as grown, and said."""


@dataclass(frozen=True, slots=True)
class DoublingTime:
    """Volume-doubling time. `days` is None where the volume did not grow: there is no doubling time, nor a negative
    one.

    shortest_days, longest_days: 95 % interval from the volumes' uncertainties; `longest_days` None where no growth at
    all is within the uncertainty; both None where an uncertainty is not known, or nothing grew.
    """

    days: float | None
    shortest_days: float | None = None
    longest_days: float | None = None

    @property
    def text(self) -> str:
        """In words: "90 days (70 to 130)" or "not growing"."""
        if self.days is None:
            return "not growing"
        if self.shortest_days is None:
            return f"{self.days:.0f} days"
        longest = "no growth" if self.longest_days is None else f"{self.longest_days:.0f}"
        return f"{self.days:.0f} days (95 % interval {self.shortest_days:.0f} to {longest})"


def months_between(earlier: date, later: date) -> Decimal:
    """Months from one date to another: days × 12 / 365.25 (choice f)."""
    return Decimal((later - earlier).days) * 12 / DAYS_PER_YEAR


def judge_growth(earlier_mm: Number, later_mm: Number, days: int) -> Growth:
    """Whether a mean diameter (mm) has grown over `days` (Lung-RADS v2022 note 6, choice f).

    Within 12 months (366 days): grown where the difference of the rounded diameters is more than 1.5 mm. Longer: grown
    where it is more than 1.5 mm for every begun 12 months, not grown up to 1.5 mm, else undetermined.
    Errors: ValueError for an interval that is not positive.
    """
    if days <= 0:
        raise ValueError(f"expected an interval of at least one day, got {days}")
    difference = tenths(later_mm) - tenths(earlier_mm)
    if difference <= GROWTH_MM:
        return Growth.NOT_GROWN
    years = 1 if days <= TWELVE_MONTHS_DAYS else int((days / DAYS_PER_YEAR).to_integral_value(ROUND_CEILING))
    return Growth.GROWN if difference > GROWTH_MM * years else Growth.UNDETERMINED


def has_grown_by_volume(earlier_mm3: Number, later_mm3: Number) -> bool:
    """Whether a volume (mm³) is larger by at least 25 % (BTS 2015; NELSON), whatever the interval."""
    return exact(later_mm3) >= exact(earlier_mm3) * VOLUME_GROWTH


def doubling_time(
    earlier_mm3: Number,
    later_mm3: Number,
    days: int,
    earlier_sd_mm3: Number | None = None,
    later_sd_mm3: Number | None = None,
) -> DoublingTime:
    """Volume-doubling time, days × ln 2 / ln(V2 / V1), with its 95 % interval where both uncertainties are known.

    Errors: ValueError for an interval or a volume that is not positive.
    """
    first, second = float(exact(earlier_mm3)), float(exact(later_mm3))
    if days <= 0 or first <= 0 or second <= 0:
        raise ValueError(f"expected a positive interval and volumes, got {days} days, {first} and {second} mm³")
    ratio = second / first  # of absurd volumes it may be no float any more, their logarithms are
    log_ratio = math.log(ratio) if 0 < ratio < math.inf else math.log(second) - math.log(first)
    if log_ratio <= 0:
        return DoublingTime(None)
    log_two = days * math.log(2)
    if earlier_sd_mm3 is None or later_sd_mm3 is None:
        return DoublingTime(log_two / log_ratio)
    spread = _COVERAGE * math.hypot(float(earlier_sd_mm3) / first, float(later_sd_mm3) / second)
    slowest = log_ratio - spread
    return DoublingTime(
        log_two / log_ratio,
        shortest_days=log_two / (log_ratio + spread),
        longest_days=log_two / slowest if slowest > 0 else None,
    )

"""Sizes as the rules compare them: Decimal, rounded half-up, never a binary float (Lung-RADS v2022 note 4, choice
g).
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

__all__ = ["exact", "mean_diameter", "tenths", "whole", "whole_mm3"]

Number = Decimal | float | int
"""What a size may come as; a float stands for the decimal number that it prints as."""

LARGEST = Decimal(10) ** 9
"""No size in mm or mm³ is larger: a litre is a million mm³."""

_TENTH = Decimal("0.1")
_ONE = Decimal(1)


def exact(value: Number) -> Decimal:
    """The decimal number that `value` prints as: 6.05 is 6.05, not 6.04999…

    Errors: ValueError where it is not finite, or no number that anything here could measure.
    """
    number = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
    if not number.is_finite():
        raise ValueError(f"expected a finite number, got {value!r}")
    if abs(number) > LARGEST:
        raise ValueError(f"expected a number of at most {LARGEST:g}, got {value!r}")
    return number


def tenths(value: Number) -> Decimal:
    """To one decimal, half-up: 5.95 → 6.0."""
    return exact(value).quantize(_TENTH, rounding=ROUND_HALF_UP)


def whole(value: Number) -> int:
    """To a whole number, half-up: 112.5 → 113."""
    return int(exact(value).quantize(_ONE, rounding=ROUND_HALF_UP))


def whole_mm3(value: Number) -> Decimal:
    """A volume in mm³ as Lung-RADS compares it: to the nearest mm³, half-up (note 4)."""
    return Decimal(whole(value))


def mean_diameter(long_axis_mm: Number, short_axis_mm: Number) -> Decimal:
    """Mean of both axes in mm: each axis to one decimal, then the mean to one decimal (Lung-RADS v2022 note 4)."""
    return tenths((tenths(long_axis_mm) + tenths(short_axis_mm)) / 2)

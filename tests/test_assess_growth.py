"""Growth, months, doubling time, rounding."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungscreen.assess import (
    Growth,
    doubling_time,
    has_grown_by_volume,
    judge_growth,
    mean_diameter,
    months_between,
)
from lungscreen.assess.rounding import exact, tenths, whole


@pytest.mark.parametrize(
    ("first", "second", "days", "expected"),
    [(100, 200, 90, 90.0), (100, 125, 365, 1133.8), (100, 125, 90, 279.6), (100, 110, 90, 654.5)],
)
def test_doubling_time_golden_values(first, second, days, expected):
    assert doubling_time(first, second, days).days == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("second", [100, 99, 1])
def test_no_growth_has_no_doubling_time(second):
    """Never a negative number."""
    result = doubling_time(100, second, 90, 5, 5)
    assert (result.days, result.shortest_days, result.longest_days) == (None, None, None)
    assert result.text == "not growing"


def test_doubling_time_with_uncertainty():
    """Logarithm of 2 ± 1.96 · √(0.05² + 0.05²), by hand."""
    result = doubling_time(100, 200, 90, 5, 10)
    assert result.shortest_days == pytest.approx(90 * 0.693147 / (0.693147 + 0.138593), rel=1e-4)
    assert result.longest_days == pytest.approx(90 * 0.693147 / (0.693147 - 0.138593), rel=1e-4)
    assert result.text == "90 days (95 % interval 75 to 112)"
    assert doubling_time(100, 200, 90).text == "90 days"
    assert doubling_time(100, 200, 90, 5).text == doubling_time(100, 200, 90, None, 5).text == "90 days"


def test_a_growth_within_the_uncertainty_has_no_longest_doubling_time():
    result = doubling_time(100, 105, 90, 10, 10)
    assert result.longest_days is None
    assert result.text.endswith("to no growth)")


@pytest.mark.parametrize(
    ("first", "second", "days"), [(0, 10, 90), (10, 0, 90), (-1, 10, 90), (10, 20, 0), (10, 20, -5)]
)
def test_impossible_volumes_and_intervals_are_refused(first, second, days):
    with pytest.raises(ValueError, match="positive"):
        doubling_time(first, second, days)


@pytest.mark.parametrize(("second", "grown"), [(124.9, False), (125, True), (125.1, True), (80, False)])
def test_growth_by_volume_is_25_percent(second, grown):
    assert has_grown_by_volume(100, second) is grown


@pytest.mark.parametrize(
    ("before", "after", "days", "expected"),
    [
        (3.9, 5.4, 100, Growth.NOT_GROWN),
        (3.9, 5.5, 100, Growth.GROWN),
        (6.0, 7.6, 366, Growth.GROWN),
        (6.0, 7.6, 367, Growth.UNDETERMINED),
        (6.0, 9.0, 730, Growth.UNDETERMINED),
        (6.0, 9.1, 730, Growth.GROWN),
        (6.0, 9.1, 731, Growth.UNDETERMINED),
        (6.0, 10.6, 1095, Growth.GROWN),
        (6.0, 7.5, 5000, Growth.NOT_GROWN),
        (9.0, 6.0, 90, Growth.NOT_GROWN),
    ],
)
def test_growth_by_diameter(before, after, days, expected):
    assert judge_growth(before, after, days) is expected


@pytest.mark.parametrize("days", [0, -3])
def test_growth_needs_an_interval(days):
    with pytest.raises(ValueError, match="interval"):
        judge_growth(6, 8, days)


def test_months():
    assert months_between(date(2020, 1, 1), date(2021, 1, 1)) == Decimal(366) * 12 / Decimal("365.25")


@pytest.mark.parametrize(
    ("long", "short", "mean"),
    [
        (6.1, 5.8, "6.0"), (8.1, 7.8, "8.0"), (4.1, 3.8, "4.0"), (10.0, 9.9, "10.0"), (15.0, 14.9, "15.0"),
        (6.0, 5.9, "6.0"), (6.05, 5.84, "6.0"), (2.675, 2.675, "2.7"), (Decimal("6.05"), 5, "5.6"),
    ],
)  # fmt: skip
def test_mean_diameter_is_rounded_half_up_in_decimal(long, short, mean):
    assert str(mean_diameter(long, short)) == mean


def test_rounding_of_single_numbers():
    assert [whole(v) for v in (112.4, 112.5, 112.7, 113, 0.5, 2.5)] == [112, 113, 113, 113, 1, 3]
    assert str(tenths(1.25)) == "1.3"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN")])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError, match="finite"):
        exact(value)


@settings(max_examples=100, deadline=None)
@given(st.floats(3, 50), st.floats(3, 50), st.integers(1, 3000))
def test_growth_is_monotone_in_size(one, other, days):
    order = [Growth.NOT_GROWN, Growth.UNDETERMINED, Growth.GROWN]
    small, large = sorted((one, other))
    assert order.index(judge_growth(5.0, small, days)) <= order.index(judge_growth(5.0, large, days))


@settings(max_examples=100, deadline=None)
@given(st.floats(1, 1e4), st.floats(1, 1e4), st.integers(1, 3000), st.floats(0, 100), st.floats(0, 100))
def test_doubling_time_is_positive_and_inside_its_interval(first, second, days, sd_first, sd_second):
    result = doubling_time(first, second, days, sd_first, sd_second)
    if result.days is None:
        assert second <= first
    else:
        assert 0 < result.shortest_days <= result.days
        assert result.longest_days is None or result.longest_days >= result.days

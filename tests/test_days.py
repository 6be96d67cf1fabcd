"""Calendar days as headers, tables and reports write them."""

from __future__ import annotations

from datetime import date

import pytest

from lungscreen.days import dicom_day, iso_day, read_day, whole_years


@pytest.mark.parametrize("text", ["20240229", "2024-02-29", "2024.02.29", " 20240229 "])
def test_a_day_is_read_in_each_of_its_forms(text: str) -> None:
    assert read_day(text) == date(2024, 2, 29)
    assert (dicom_day(text), iso_day(text)) == ("20240229", "2024-02-29")


NO_DAYS = (None, "", "20230229", "2024-0229", "240229", "2024022", "２０２４０２２９", "00000101")


@pytest.mark.parametrize("text", NO_DAYS)
def test_what_is_no_day_is_none(text: str | None) -> None:
    assert read_day(text) is None
    assert (dicom_day(text), iso_day(text)) == ("", "")


def test_an_age_grows_on_the_birthday() -> None:
    born = date(1960, 2, 29)
    assert [whole_years(born, day) for day in (date(2020, 2, 28), date(2020, 2, 29), date(2021, 2, 28))] == [59, 60, 60]
    assert whole_years(born, date(2021, 3, 1)) == 61
    assert whole_years(born, date(1959, 3, 1)) == -1

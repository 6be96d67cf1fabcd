"""A header's age and dates ─► whole years at the exam."""

from __future__ import annotations

import re

from lungscreen.days import read_day, whole_years

__all__ = ["ADULT_YEARS", "years_at"]

ADULT_YEARS = 18
"""Younger patients are said: no scan of the training was theirs, and Lung-RADS is for screening of adults."""

_A_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


def years_at(age: str, birth_date: str, exam_date: str) -> int | None:
    """Whole years: what PatientAge says (DICOM AS, as 008Y), else from the dates (YYYYMMDD); None where neither tells.

    Where both tell and differ, the younger counts: it is what has to be said.
    """
    known = []
    if stated := re.fullmatch(r"(\d{1,3})([DWMY])", age.strip().upper(), re.ASCII):
        known.append(int(int(stated[1]) / _A_YEAR[stated[2]]))
    born, seen = read_day(birth_date), read_day(exam_date)
    if born and seen and born <= seen:
        known.append(whole_years(born, seen))
    return min(known, default=None)

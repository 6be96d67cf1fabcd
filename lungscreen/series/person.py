"""A header's age and dates ─► whole years at the exam."""

from __future__ import annotations

import re

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
    if re.fullmatch(r"\d{16}", birth_date + exam_date, re.ASCII) and birth_date <= exam_date:
        # dates as numbers: the difference's tens of thousands are whole years
        known.append((int(exam_date) - int(birth_date)) // 10_000)
    return min(known, default=None)

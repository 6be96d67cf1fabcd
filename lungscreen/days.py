"""A calendar day as text ─► `date`, and back: DICOM writes YYYYMMDD (before 1993 YYYY.MM.DD), reports YYYY-MM-DD."""

from __future__ import annotations

import re
from datetime import date

__all__ = ["dicom_day", "iso_day", "read_day", "whole_years"]


def read_day(text: str | None) -> date | None:
    """The day; None where the text names none that the calendar has."""
    parts = re.fullmatch(r"(\d{4})([.-]?)(\d{2})\2(\d{2})", (text or "").strip(), re.ASCII)
    if parts is None:
        return None
    try:
        return date(int(parts[1]), int(parts[3]), int(parts[4]))
    except ValueError:
        return None


def dicom_day(text: str | None) -> str:
    """YYYYMMDD; empty where the text names no day."""
    return iso_day(text).replace("-", "")


def iso_day(text: str | None) -> str:
    """YYYY-MM-DD; empty where the text names no day."""
    day = read_day(text)
    return day.isoformat() if day else ""


def whole_years(born: date, day: date) -> int:
    """The age on a day: one more on each birthday; negative before birth."""
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))

"""Foreign text made safe and readable: header strings are hostile, dates and names are DICOM's."""

from __future__ import annotations

import html
import math
import re
from decimal import ROUND_HALF_UP, Decimal

from lungscreen.days import iso_day

__all__ = [
    "ABSENT",
    "csv_cell",
    "escape",
    "plain",
    "readable_age",
    "readable_date",
    "readable_name",
    "readable_sex",
    "readable_time",
    "rounded",
    "shown",
]

ABSENT = "not in the header"
"""What stands where the header says nothing."""

LONGEST = 200
"""Characters of one foreign string that are kept; the rest becomes an ellipsis."""

_FORMULA = re.compile(r"[=+\-@\uff1d\uff0b\uff0d\uff20]")
"""First characters that spreadsheets take for a formula, full-width ones included (OWASP, CSV injection)."""


def plain(text: str, longest: int = LONGEST) -> str:
    """Foreign text as one bounded printable line: line breaks and tabs become spaces, control characters go."""
    head = text[: 4 * longest + 1]
    line = "".join(c for c in (" " if c.isspace() else c for c in head) if c.isprintable()).strip()
    cut = len(line) > longest or len(text) > len(head)
    return f"{line[:longest].rstrip()}…" if cut else line


def escape(text: object, longest: int = LONGEST) -> str:
    """Anything as text for HTML, in elements and in quoted attributes."""
    return html.escape(plain(str(text), longest), quote=True)


def csv_cell(text: str, longest: int = LONGEST) -> str:
    """Foreign text for a CSV cell: no spreadsheet takes it for a formula."""
    line = plain(text, longest)
    return f"'{line}" if _FORMULA.match(line) else line


def readable_date(text: str) -> str:
    """DICOM's YYYYMMDD (or YYYY.MM.DD) as ISO 8601; what is no date stays as it stands; empty stays empty."""
    return iso_day(plain(text)) or plain(text)


def readable_time(text: str) -> str:
    """DICOM's HHMMSS.FFFFFF as HH:MM; what is no time stays as it stands."""
    match = re.match(r"([01]\d|2[0-3]):?([0-5]\d)", text)
    return f"{match[1]}:{match[2]}" if match else plain(text)


def readable_name(text: str) -> str:
    """DICOM's Family^Given^Middle^Prefix^Suffix=ideographic=phonetic as a person would write it."""
    groups = [_name_group(group, first=n == 0) for n, group in enumerate(plain(text).split("=")[:3])]
    spoken = [group for group in groups if group]
    return f"{spoken[0]} ({', '.join(spoken[1:])})" if len(spoken) > 1 else "".join(spoken)


def _joined(between: str, *parts: str) -> str:
    """The parts that are not empty."""
    return between.join(filter(None, parts))


def _name_group(group: str, first: bool) -> str:
    family, given, middle, prefix, suffix = ([part.strip() for part in group.split("^")] + [""] * 5)[:5]
    forenames = _joined(" ", given, middle)
    if not first:
        return _joined(" ", family, forenames)
    name = _joined(", ", family, forenames, suffix)
    return f"{name} ({prefix})" if prefix and name else name or prefix


def readable_sex(text: str) -> str:
    """DICOM's M, F, O in words; anything else as it stands."""
    return {"M": "male", "F": "female", "O": "other"}.get(text.strip().upper(), plain(text))


def readable_age(text: str) -> str:
    """DICOM's 063Y in words; what is no age string stays as it stands."""
    match = re.fullmatch(r"(\d{3})([DWMY])", text.strip())
    if not match:
        return plain(text)
    unit = {"D": "day", "W": "week", "M": "month", "Y": "year"}[match[2]]
    return f"{int(match[1])} {unit}" + ("" if int(match[1]) == 1 else "s")


def rounded(value: float | None, digits: int) -> float | None:
    """A number for JSON: rounded; None where there is none or it is not finite."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def shown(value: float | None, digits: int) -> str:
    """A number for people, half-up (Lung-RADS v2022 note 4), empty where there is none."""
    if value is None or not math.isfinite(value):
        return ""
    return str(Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP))

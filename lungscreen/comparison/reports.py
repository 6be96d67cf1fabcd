"""An earlier `report.json` ─► EarlierReport: what it says of its nodules, as far as it can be understood.

The file may come from anywhere: it is bounded, and nothing of it is taken over but numbers, dates and known words.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from lungscreen.assess import mean_diameter
from lungscreen.errors import InputError
from lungscreen.geometry import Vector
from lungscreen.records import Evidence, NoduleType, PastNodule, Patient
from lungscreen.text import plain_text

__all__ = ["EarlierReport", "read_report"]

MAX_BYTES = 20 * 1024 * 1024
"""A larger file is no report of one study."""
MAX_FINDINGS = 1000
MOST_MM = 500.0
"""No axis of a nodule is longer."""
MOST_MM3 = 1e7
"""No nodule is larger: ten litres."""
LONGEST = 200
"""Characters of a foreign string that are kept."""


@dataclass(frozen=True, slots=True)
class EarlierReport:
    """A report of an earlier exam. dates: YYYYMMDD.

    histories: for each nodule, the exams before that one, oldest first and each on a day of its own. not_measured:
    findings that have no possible sizes. left_out: exams of histories whose dates are impossible.
    """

    patient: Patient
    study_uid: str
    series_uid: str
    date: str
    category: str
    nodules: tuple[PastNodule, ...]
    histories: tuple[tuple[PastNodule, ...], ...]
    not_measured: int = 0
    left_out: int = 0


def read_report(path: Path) -> EarlierReport:
    """Read one.

    Errors: `prior-report-invalid`.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError("prior-report-invalid", "larger than any report", str(path))
        document = json.loads(path.read_text(encoding="utf-8"))
        if document["schema"] != "lungscreen-report" or not str(document["schema_version"]).startswith("1."):
            raise InputError(
                "prior-report-invalid", "not a report of this software, or of a version to come", str(path)
            )
        return _report(document)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InputError("prior-report-invalid", "cannot be read as a report", str(path)) from None


def _report(document: dict[str, Any]) -> EarlierReport:
    exam, who = document["exam"], document["patient"]
    day, uid = _date(exam["date"]), _words(exam["study_uid"])
    found = [_current(finding, day, uid) for finding in document["findings"][:MAX_FINDINGS]]
    kept = [
        (nodule, _history(finding, day))
        for nodule, finding in zip(found, document["findings"], strict=False)
        if nodule is not None
    ]
    return EarlierReport(
        Patient(_words(who["patient_id"]), _words(who["name"]), _date(who["birth_date"]), _words(who["sex"])),
        uid,
        _words(document["series"]["series_uid"]),
        day,
        _words(document["category"]),
        tuple(nodule for nodule, _ in kept),
        tuple(history for _, (history, _) in kept),
        not_measured=len(found) - len(kept),
        left_out=sum(left_out for _, (_, left_out) in kept),
    )


def _history(finding: dict[str, Any], report_date: str) -> tuple[tuple[PastNodule, ...], int]:
    """The exams before the report's own, oldest first, one a day; and how many have no date that can be."""
    rows = ((finding.get("change") or {}).get("exams") or ())[:MAX_FINDINGS]
    pasts = [past for past in (_past(row) for row in rows) if past is not None]
    by_day = {past.date: past for past in pasts if past.date and past.date < report_date}
    return tuple(by_day[day] for day in sorted(by_day)), len(pasts) - len(by_day)


def _current(finding: dict[str, Any], day: str, uid: str) -> PastNodule | None:
    """A finding of the report; None where it was not measured there."""
    size, where = finding["measurement"], finding["location"]
    if size is None:
        return None
    return _nodule({**size, **where, **finding, "date": day, "study_uid": uid})


def _past(row: dict[str, Any]) -> PastNodule | None:
    """An exam of a nodule's history."""
    return _nodule(row)


def _nodule(row: dict[str, Any]) -> PastNodule | None:
    long_mm, short_mm = (_positive(row[name], MOST_MM) for name in ("long_axis_mm", "short_axis_mm"))
    if long_mm is None or short_mm is None or short_mm > long_mm:
        return None
    number = row.get("number")
    return PastNodule(
        date=_date(row["date"]),
        study_uid=_words(row["study_uid"]),
        nodule_type=_type(row["type"]),
        long_axis_mm=long_mm,
        short_axis_mm=short_mm,
        mean_diameter_mm=float(mean_diameter(long_mm, short_mm)),
        volume_mm3=_positive(row["volume_mm3"], MOST_MM3),
        volume_sd_mm3=_positive(row["volume_sd_mm3"], MOST_MM3),
        solid_mean_diameter_mm=_number(row["solid_mean_diameter_mm"], MOST_MM),
        solid_volume_mm3=_number(row["solid_volume_mm3"], MOST_MM3),
        centre_mm=_place(row.get("position_mm")),
        how=Evidence.REPORT,
        category=_words(row.get("category")),
        number=number if isinstance(number, int) else None,
        side=_words(row.get("side")) or "unknown",
        zone=_words(row.get("zone")) or "unknown",
    )


def _number(value: Any, most: float) -> float | None:
    """A number from 0 to `most`."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        return None
    return float(value)


def _positive(value: Any, most: float) -> float | None:
    return _number(value, most) or None


def _place(value: Any) -> Vector | None:
    try:
        x, y, z = (float(v) for v in value)
    except (TypeError, ValueError):
        return None
    return (x, y, z) if math.isfinite(x + y + z) else None


def _type(value: Any) -> NoduleType:
    return NoduleType(value) if value in set(NoduleType) else NoduleType.UNKNOWN


def _date(value: Any) -> str:
    """YYYYMMDD from YYYY-MM-DD, empty where there is no such day."""
    digits = _words(value).replace("-", "")
    if len(digits) != 8 or not (digits.isdecimal() and digits.isascii()):
        return ""
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return ""
    return digits


def _words(value: Any) -> str:
    return plain_text(value)[:LONGEST].strip() if isinstance(value, str) else ""

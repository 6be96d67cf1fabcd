"""Matches ─► ScanFigures…: what every scan's reader would meet at one score, the operating point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lungscreen.evaluation.matching import MarkMatches
from lungscreen.evaluation.statistics import share_interval

__all__ = ["ScanFigures", "at_threshold", "list_scans"]


@dataclass(frozen=True, slots=True)
class ScanFigures:
    """One scan. `found_at` and `false_at` are those at the threshold, None where none was given."""

    series_uid: str
    nodules: int
    found: int
    """Nodules with a mark inside, whatever its score."""
    false_marks: int
    highest_false: float | None
    found_at: int | None
    false_at: int | None


def list_scans(matches: MarkMatches, series: Sequence[str], threshold: float | None) -> tuple[ScanFigures, ...]:
    """Every listed scan, in the list's order; scans without a nodule or a mark too."""
    listed = []
    for scan, uid in enumerate(series):
        hits = matches.nodule_score[matches.nodule_scan == scan]
        false = matches.false_score[matches.false_scan == scan]
        listed.append(
            ScanFigures(
                series_uid=uid,
                nodules=len(hits),
                found=int((~np.isnan(hits)).sum()),
                false_marks=len(false),
                highest_false=float(false.max()) if len(false) else None,
                found_at=None if threshold is None else int((hits >= threshold).sum()),
                false_at=None if threshold is None else int((false >= threshold).sum()),
            )
        )
    return tuple(listed)


def at_threshold(scans: Sequence[ScanFigures], threshold: float | None, confidence: float) -> dict[str, Any] | None:
    """Sensitivity with Wilson's interval and false marks per scan at a score; None where none was given."""
    if threshold is None:
        return None
    nodules, found = sum(scan.nodules for scan in scans), sum(scan.found_at or 0 for scan in scans)
    false = sorted(scan.false_at or 0 for scan in scans)
    mean = sum(false) / len(false)
    spread = math.sqrt(sum((count - mean) ** 2 for count in false) / (len(false) - 1)) if len(false) > 1 else None
    return {
        "threshold": threshold,
        "sensitivity": share_interval(np.arange(nodules) < found, confidence),
        "false_marks": sum(false),
        "false_per_scan": mean,
        "false_per_scan_sd": spread,
        "most_in_a_scan": false[-1],
        "scans_without": sum(count == 0 for count in false),
    }

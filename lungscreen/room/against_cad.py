"""Signed reads against what CAD had said: nodules that it has or lacks, subgroups, shares with intervals."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from lungscreen.kernels import classify_kernel
from lungscreen.results.document import ReportDocument
from lungscreen.results.reader import read_result
from lungscreen.results.values import UnreadableError
from lungscreen.room.double import NEAR_MM
from lungscreen.room.folders import RoomFolders
from lungscreen.shares import share_of

__all__ = ["document_of", "groups_of", "nodules_of", "subgroups_of"]


def document_of(folders: RoomFolders, pin: str) -> ReportDocument | None:
    """The report as it was when the study was opened; None where it cannot be read."""
    try:
        return read_result(folders.pinned_report(pin))
    except UnreadableError:
        return None


def nodules_of(
    signed: dict[str, Any], document: ReportDocument | None, *, before_cad: bool = False
) -> Iterable[dict[str, Any]]:
    """Each nodule of a signed read, and whether CAD had it.

    before_cad: those of the first read, which was signed without CAD; none where there was no such read.
    """
    graded = signed["before_cad" if before_cad else "computed"]
    if document is None or graded is None:
        return
    groups = groups_of(document)
    for row in graded["findings"]:
        apart = [
            sum((a - b) ** 2 for a, b in zip(row["position_mm"], f.position_mm, strict=True)) ** 0.5
            for f in document.findings
        ]
        reach = max(NEAR_MM, (row["mean_diameter_mm"] or 0.0) / 2)
        yield {"cad": row["source"] == "cad" or min(apart, default=reach + 1) <= reach, "groups": groups}


def groups_of(document: ReportDocument) -> dict[str, str]:
    """Kind of subgroup → the exam's: sex, age band, manufacturer, kernel, dose."""
    age = document.person.age if document.person else None
    dose = document.acquisition.ctdi_vol_mgy
    return {
        "sex": (document.person.sex if document.person else None) or document.patient.sex or "unknown",
        "age": "unknown" if age is None else "under 60" if age < 60 else "60 to 69" if age < 70 else "70 and over",
        "manufacturer": (document.acquisition.manufacturer or "unknown").strip() or "unknown",
        "kernel": classify_kernel(document.acquisition.kernel),
        "dose": "unknown" if dose is None else "low dose (to 3 mGy)" if dose <= 3 else "above 3 mGy",
    }


def subgroups_of(marks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """CAD's share of the nodules in each subgroup; `marks`: of `nodules_of`."""
    rows = []
    for kind in ("sex", "age", "manufacturer", "kernel", "dose"):
        ordered = sorted(marks, key=lambda mark: mark["groups"][kind])
        for group, members in itertools.groupby(ordered, key=lambda mark: mark["groups"][kind]):
            own = list(members)
            share = share_of(sum(mark["cad"] for mark in own), len(own))
            rows.append({"kind": kind, "group": group, "nodules": len(own), "cad": share})
    return rows

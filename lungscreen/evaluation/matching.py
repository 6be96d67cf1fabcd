"""Marks, Nodules, excluded findings, series ─► Matches: which mark hits what, by LUNA16's rules.

Source: the challenge's evaluation page and Setio et al. 2017 (doi 10.1016/j.media.2017.06.015):
- A mark hits where its squared distance to the centre is strictly below the squared radius, in float64.
- A negative diameter (-1 in the excluded table) stands for 10 mm.
- A hit nodule counts once, with the highest score of the marks inside; the other marks inside are no false marks.
- A mark inside two nodules counts for both. A mark inside a nodule is used up by it.
- Any other mark inside an excluded finding is ignored; what remains is a false mark.
- Above the limit of marks of a scan, only those strictly above the first one too many stay: ties at the cut all go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lungscreen.evaluation.tables import MarkTable, Nodules

__all__ = ["MarkMatches", "match_marks", "squared_distance_mm2"]

UNKNOWN_DIAMETER_MM = 10.0
"""What a negative diameter stands for."""

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class MarkMatches:
    """Which marks hit and which nodules were hit, in the listed series. A scan is a row number in the list of series.

    nodule_row: rows of the annotations that count.
    nodule_scan: scan of each.
    nodule_score: highest score inside, NaN where missed.
    nodule_mark: row of that mark, -1 where missed.
    false_row, false_scan, false_score: the false marks.
    """

    scans: int
    nodule_row: Rows
    nodule_scan: Rows
    nodule_score: NDArray[np.float64]
    nodule_mark: Rows
    false_row: Rows
    false_scan: Rows
    false_score: NDArray[np.float64]
    marks: int
    """Marks left after the cut."""
    marks_cut: int
    marks_elsewhere: int
    """Marks of series that are not listed: dropped."""
    nodules_elsewhere: int
    ignored_excluded: int
    double_ignored: int

    def only(self, members: NDArray[np.bool_]) -> MarkMatches:
        """The same marks with some of the nodules: `members` is (nodules,)."""
        return replace(
            self,
            nodule_row=self.nodule_row[members],
            nodule_scan=self.nodule_scan[members],
            nodule_score=self.nodule_score[members],
            nodule_mark=self.nodule_mark[members],
        )


def match_marks(
    marks: MarkTable, nodules: Nodules, excluded: Nodules, series: Sequence[str], max_marks: int | None = 100
) -> MarkMatches:
    """Match a detector's marks with the annotations, scan by scan.

    `max_marks`: marks of a scan that count at most, None for all. `series`: distinct UIDs; all count as scans.
    """
    number = {uid: n for n, uid in enumerate(series)}
    marks_of, nodules_of, excluded_of = (_by_scan(t.series, number) for t in (marks, nodules, excluded))
    listed = np.sort(np.concatenate([np.empty(0, np.intp), *nodules_of.values()]))
    score = np.full(len(nodules.series), np.nan)
    best = np.full(len(nodules.series), -1, dtype=np.intp)
    false, kept, ignored, double = [np.empty(0, np.intp)], 0, 0, 0
    for scan, rows in marks_of.items():
        left = _cut(rows, marks.scores, max_marks)
        inside = _inside(marks, left, nodules, nodules_of.get(scan))
        hit = inside.any(axis=1)
        if hit.any():
            which = np.where(inside, marks.scores[left], -np.inf).argmax(axis=1)[hit]
            hit_rows = nodules_of[scan][hit]
            score[hit_rows], best[hit_rows] = marks.scores[left][which], left[which]
        used = inside.any(axis=0)
        near = _inside(marks, left, excluded, excluded_of.get(scan)).any(axis=0) & ~used
        kept += len(left)
        double += int(inside.sum() - hit.sum())
        ignored += int(near.sum())
        false.append(left[~used & ~near])
    false_row = np.concatenate(false)
    return MarkMatches(
        scans=len(series),
        nodule_row=listed,
        nodule_scan=_scans(nodules.series, listed, number),
        nodule_score=score[listed],
        nodule_mark=best[listed],
        false_row=false_row,
        false_scan=_scans(marks.series, false_row, number),
        false_score=marks.scores[false_row],
        marks=kept,
        marks_cut=sum(map(len, marks_of.values())) - kept,
        marks_elsewhere=len(marks.series) - sum(map(len, marks_of.values())),
        nodules_elsewhere=len(nodules.series) - len(listed),
        ignored_excluded=ignored,
        double_ignored=double,
    )


def squared_distance_mm2(a_mm: NDArray[np.float64], b_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances (len(a), len(b)) of points (n, 3), summed x, y, z: what the strict test is sensitive to."""
    offset = a_mm[:, None, :] - b_mm[None, :, :]
    squares = offset * offset
    return np.asarray(squares[..., 0] + squares[..., 1] + squares[..., 2])


def _inside(marks: MarkTable, left: Rows, findings: Nodules, rows: Rows | None) -> NDArray[np.bool_]:
    """(findings, marks): whether each mark lies inside each finding."""
    if rows is None:
        return np.zeros((0, len(left)), dtype=bool)
    diameter = findings.diameters_mm[rows]
    radius = np.where(diameter < 0, UNKNOWN_DIAMETER_MM, diameter) / 2
    distance = squared_distance_mm2(findings.centres_mm[rows], marks.centres_mm[left])
    return np.asarray(distance < (radius * radius)[:, None])


def _cut(rows: Rows, scores: NDArray[np.float64], limit: int | None) -> Rows:
    if limit is None or len(rows) <= limit:
        return rows
    threshold = np.sort(scores[rows])[-(limit + 1)]
    above: Rows = rows[scores[rows] > threshold]
    return above


def _by_scan(series: Sequence[str], number: dict[str, int]) -> dict[int, Rows]:
    """Rows of each listed scan that has any, in the table's order."""
    scans = np.array([number.get(uid, -1) for uid in series], dtype=np.intp)
    order = np.argsort(scans, kind="stable")
    present, first = np.unique(scans[order], return_index=True)
    groups = np.split(order, first[1:]) if len(present) else []
    return {int(scan): rows for scan, rows in zip(present, groups, strict=True) if scan >= 0}


def _scans(series: Sequence[str], rows: Rows, number: dict[str, int]) -> Rows:
    return np.array([number[series[row]] for row in rows], dtype=np.intp)

"""Assessment alone: a reader's own marks, measured, typed and graded as the pipeline would.

points.csv + inputs ─► (Volume ─► Lungs? ─► Finding…)… ─► findings.csv, a row a point, in the points' order
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungscreen.assess import advise_findings, assess_baseline
from lungscreen.cells import CellError, number_cell, read_cells, read_text
from lungscreen.clinical import ClinicalTable, match_clinical
from lungscreen.errors import InputError, Refusal
from lungscreen.files import replace_file
from lungscreen.geometry import Vector
from lungscreen.jobs.studies import any_size, guard_study, is_complete, prepare_output, show_progress
from lungscreen.lungs import segment_lungs
from lungscreen.outputs.tables import findings_csv, refused_csv
from lungscreen.pipeline import Networks, Pipeline, grade_candidates, keep_doubtful, load_networks, read_first_series
from lungscreen.records import Candidate, Study
from lungscreen.results.build import build_finding
from lungscreen.results.columns import Owner, empty_cells, finding_cells
from lungscreen.results.document import ReportedFinding
from lungscreen.results.text import readable_date
from lungscreen.series import find_series

__all__ = ["Assessed", "Point", "assess_points", "read_points"]

COLUMNS = ("seriesuid", "x_mm", "y_mm", "z_mm", "finding")


@dataclass(frozen=True, slots=True)
class _Assessed:
    """A point that was assessed: of which series, what the reader calls it, and the finding as a report has it."""

    owner: Owner
    name: str
    finding: ReportedFinding

    @property
    def codes(self) -> set[str]:
        """Of what is said of it."""
        return {notice.code for notice in self.finding.notices}


@dataclass(frozen=True, slots=True)
class Assessed:
    """How many points have a row of their own, how many of these lie outside their volume, and whether all is read."""

    points: int
    outside: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A reader's mark: a few mm off a nodule's centre at most."""

    series_uid: str
    centre_mm: Vector
    finding: str
    """What the reader calls it."""


def read_points(path: Path) -> tuple[Point, ...]:
    """A CSV (comma, semicolon or tab) or JSON list: seriesuid, x_mm, y_mm, z_mm (LPS) and, where there is one, finding.

    It is read as every table of a user's is (`lungscreen.cells`).
    Errors: `points-invalid` with the row.
    """
    content = read_cells(path, "points-invalid", "points")
    missing = set(COLUMNS[:4]) - set(content.names)
    if missing:
        raise InputError("points-invalid", f"the columns {', '.join(sorted(missing))} are missing", str(path))
    if content.misfits:
        reason = f"row {content.misfits[0]}: another number of cells than the header"
        raise InputError("points-invalid", reason, str(path))
    if not content.records:
        raise InputError("points-invalid", "no point in it", str(path))
    return tuple(_point(row, number, path, content.decimal_comma) for number, row in content.records)


def assess_points(
    inputs: Sequence[Path],
    points: Sequence[Point],
    out: Path,
    pipeline: Pipeline,
    *,
    use_lungs: bool = True,
    clinical: ClinicalTable | None = None,
) -> Assessed:
    """Measure, type and grade every point; write findings.csv and refused.csv.

    use_lungs: False looks for no lungs, so that a small crop can be assessed too. A point of a series that is not in
    the input or cannot be read has a row with nothing measured, and stands in refused.csv. A row's notices are those of
    the finding, the scan and the patient data. What the second look takes for
    no nodule is graded all the same, since a reader marked it; the column `second_look` says so.

    Errors: `usage`, `output-failed`, `weights-invalid`.
    """
    prepare_output(out, inputs)
    networks = load_networks(pipeline)
    pipeline = any_size(pipeline)
    wanted = _by_series(points)
    inventory = find_series(inputs, pipeline.series, skip=out)
    refusals = list(inventory.refused)
    rows: dict[int, _Assessed] = {}
    marked = [one for study in inventory.studies for one in _with_points(study, wanted)]
    for study in show_progress(marked):
        numbers = wanted[study.series[0].series_uid]
        with guard_study(study, refusals):
            graded = _grade(study, [points[n] for n in numbers], pipeline, networks, clinical, use_lungs)
            rows.update(zip(numbers, graded, strict=True))
    outside = _all_outside(points, rows)
    refusals += [*_missing_series(points, rows, inventory.studies), *outside]
    replace_file(out / "findings.csv", findings_csv([_cells(point, rows.get(n)) for n, point in enumerate(points)]))
    replace_file(out / "refused.csv", refused_csv(dict.fromkeys(refusals)))
    return Assessed(len(rows), len(outside), len(rows) == len(points) and is_complete(refusals))


def _with_points(study: Study, wanted: Mapping[str, Sequence[int]]) -> list[Study]:
    """The study once for each of its series that has points, that series alone."""
    return [dataclasses.replace(study, series=(series,)) for series in study.series if series.series_uid in wanted]


def _grade(
    study: Study,
    points: Sequence[Point],
    pipeline: Pipeline,
    networks: Networks,
    clinical: ClinicalTable | None,
    use_lungs: bool,
) -> list[_Assessed]:
    """The points of one series as rows, in their order."""
    study, volume = read_first_series(study, pipeline.volume)
    lungs = segment_lungs(volume, pipeline.lungs) if use_lungs else None
    marks = [Candidate(point.centre_mm, math.nan, math.nan) for point in points]
    found = grade_candidates(volume, lungs, marks, networks, pipeline)
    person, said = match_clinical(clinical, study.patient, study.exam)
    doubted = [keep_doubtful(finding, "a reader marked it") for finding in found]
    graded = assess_baseline(doubted, lungs, person, pipeline.assess).findings
    slice_mm = volume.series.acquisition.slice_thickness_mm
    graded = advise_findings(graded, pipeline.assess.guidelines, person, slice_mm=slice_mm)
    exam = study.exam
    owner = Owner(
        study.patient.patient_id, exam.study_uid, volume.series_uid, exam.accession_number, readable_date(exam.date)
    )
    of_scan = (*study.notices, *volume.series.notices, *volume.notices, *(lungs.notices if lungs else ()), *said)
    told = [dataclasses.replace(f, notices=(*f.notices, *of_scan)) for f in graded]
    return [_Assessed(owner, p.finding, build_finding(f, volume)) for p, f in zip(points, told, strict=True)]


def _outside(point: Point, row: _Assessed) -> Refusal:
    of = row.owner
    reason = f"The point {point.finding} lies outside the volume; nothing was measured there."
    return Refusal(of.series_uid, "outside-volume", reason, "file", of.study_uid, of.patient_id)


def _cells(point: Point, row: _Assessed | None) -> tuple[str, ...]:
    """A point's row of findings.csv; one whose series was not read has its place and no more."""
    if row is None:
        return empty_cells(Owner("", "", point.series_uid), point.finding, point.centre_mm)
    return finding_cells(row.owner, row.name, row.finding)


def _by_series(points: Sequence[Point]) -> dict[str, list[int]]:
    """UID of a series → which points are of it."""
    found: dict[str, list[int]] = {}
    for n, point in enumerate(points):
        found.setdefault(point.series_uid, []).append(n)
    return found


def _all_outside(points: Sequence[Point], rows: Mapping[int, _Assessed]) -> list[Refusal]:
    """Rows for the points outside their volume."""
    return [_outside(points[n], row) for n, row in sorted(rows.items()) if "outside-volume" in row.codes]


def _missing_series(
    points: Sequence[Point], rows: Mapping[int, _Assessed], studies: Sequence[Study]
) -> Iterator[Refusal]:
    """That the series of points without a row were not read; and why, where that is known."""
    uids = {point.series_uid for n, point in enumerate(points) if n not in rows}
    yield from (Refusal(u, "points-without-series", "No series of this UID was read.", "study") for u in sorted(uids))
    yield from (row for study in studies for row in study.not_read if row.where in uids)


def _point(row: Mapping[str, Any], number: int, path: Path, decimal_comma: bool) -> Point:
    cells = [read_text(row.get(name)) for name in COLUMNS[1:4]]
    try:
        x, y, z = (_COORDINATE(cell.replace(",", ".") if decimal_comma else cell) for cell in cells)
    except CellError:
        x = y = z = math.nan
    uid = read_text(row.get("seriesuid"))
    if not uid or math.isnan(x):
        raise InputError("points-invalid", f"row {number}: expected a seriesuid and three finite numbers", str(path))
    return Point(uid, (x, y, z), read_text(row.get("finding")) or str(number))


_COORDINATE = number_cell(-1e6, 1e6)

"""DetectionResult, ClassificationResult ─► files: evaluation.json, tables and plots.

Detection: froc.csv, froc.png, nodules.csv, scans.csv, misses.csv, false_positives.csv; with images misses.png,
false_positives.png. Screening: exams.csv, nodules.csv, false_findings.csv.
Classification: classes.csv, operating_points.csv, roc.csv, roc.png, calibration.csv, reliability.png, confusion.png.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lungscreen import RESEARCH_USE, __version__
from lungscreen.errors import Notice, OutputError
from lungscreen.evaluation.classification import ClassificationResult
from lungscreen.evaluation.detection import DetectionResult, NoduleOutcome
from lungscreen.evaluation.pictures import Progress, draw_places, false_places, missed_places
from lungscreen.evaluation.plots import draw_confusion, draw_froc, draw_reliability, draw_roc
from lungscreen.evaluation.screening import (
    EXAM_COLUMNS,
    FALSE_FINDING_COLUMNS,
    SCREENED_NODULE_COLUMNS,
    ScreeningResult,
)
from lungscreen.files import replace_file

__all__ = [
    "make_folder",
    "write_classification",
    "write_csv",
    "write_detection",
    "write_json",
    "write_picture",
    "write_screening",
]

MOST_PICTURES = 40
"""Places on one contact sheet at most."""
SCHEMA = 1
"""Version of evaluation.json: fields are only ever added."""
NODULE_COLUMNS = (
    "seriesuid",
    "coordX",
    "coordY",
    "coordZ",
    "diameter_mm",
    "type",
    "score",
    "false_marks_above",
    "fp_per_scan",
    "nearest_mark_mm",
    "nearest_mark_score",
    "rank",
)
SCAN_COLUMNS = ("seriesuid", "nodules", "found", "false_marks", "highest_false", "found_at", "false_at")
FALSE_COLUMNS = ("rank", "seriesuid", "coordX", "coordY", "coordZ", "score", "fp_per_scan")


def write_detection(
    result: DetectionResult,
    folder: Path,
    provenance: Mapping[str, Any],
    images: Path | None = None,
    progress: Progress = iter,
) -> tuple[Notice, ...]:
    """Write an evaluation into `folder`, every file whole or not at all; older files of the same name are replaced.

    `provenance`: inputs and options, as they should stand in evaluation.json. `images`: the scans, for pictures of the
    largest misses and the worst false marks; `progress` wraps the series that are read for them.

    Returns all notices. Errors: `output-failed`.
    """
    make_folder(folder)
    drawn, said = draw_froc(result)
    said = (*result.notices, *said)
    if images is not None:
        sheets = {
            "misses.png": missed_places(result, MOST_PICTURES),
            "false_positives.png": false_places(result, MOST_PICTURES),
        }
        pictures, trouble = draw_places(images, sheets, progress)
        said = (*said, *trouble)
        for name, picture in pictures.items():
            write_picture(folder / name, picture)
    write_csv(folder / "froc.csv", ("fp_per_scan", "sensitivity", "threshold"), _curve_rows(result))
    write_csv(folder / "nodules.csv", NODULE_COLUMNS, map(_nodule_row, result.outcomes))
    write_csv(folder / "scans.csv", SCAN_COLUMNS, map(dataclasses.astuple, result.scans))
    write_csv(folder / "misses.csv", NODULE_COLUMNS, map(_nodule_row, result.missed))
    false = [
        (rank, m.series_uid, *m.centre_mm, m.score, m.fp_per_scan) for rank, m in enumerate(result.worst_false, start=1)
    ]
    write_csv(folder / "false_positives.csv", FALSE_COLUMNS, false)
    write_picture(folder / "froc.png", drawn)
    figures = dict(result.figures) | {"notices": [dataclasses.asdict(notice) for notice in said]}
    write_json(folder / "evaluation.json", "detection", figures, provenance)
    return said


def write_classification(
    result: ClassificationResult, folder: Path, provenance: Mapping[str, Any]
) -> tuple[Notice, ...]:
    """Write an evaluation into `folder`, as `write_detection` does.

    Returns all notices. Errors: `output-failed`.
    """
    make_folder(folder)
    drawings = {"roc.png": draw_roc(result), "reliability.png": draw_reliability(result)}
    drawings["confusion.png"] = draw_confusion(result)
    said = tuple(dict.fromkeys([*result.notices, *(n for _, notices in drawings.values() for n in notices)]))
    roc = [values.tolist() for values in result.roc]
    write_csv(folder / "roc.csv", ("false_positive_rate", "sensitivity", "threshold"), zip(*roc, strict=True))
    for file, name in (("classes.csv", "per_class"), ("operating_points.csv", "operating_points")):
        rows = [_flat(row) for row in result.figures[name]]
        write_csv(folder / file, tuple(rows[0]), [tuple(row.values()) for row in rows])
    bins = result.figures["calibration"]["bins"]
    write_csv(folder / "calibration.csv", tuple(bins[0]), [tuple(b.values()) for b in bins])
    for name, (drawn, _) in drawings.items():
        write_picture(folder / name, drawn)
    figures = dict(result.figures) | {"notices": [dataclasses.asdict(notice) for notice in said]}
    write_json(folder / "evaluation.json", "classification", figures, provenance)
    return said


def write_screening(result: ScreeningResult, folder: Path, provenance: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Write an evaluation of whole exams into `folder`, as `write_detection` does.

    Returns all notices. Errors: `output-failed`.
    """
    make_folder(folder)
    tables = {
        "exams.csv": (EXAM_COLUMNS, result.exams),
        "nodules.csv": (SCREENED_NODULE_COLUMNS, result.nodules),
        "false_findings.csv": (FALSE_FINDING_COLUMNS, result.false_findings),
    }
    for name, (columns, rows) in tables.items():
        write_csv(folder / name, columns, ([row[column] for column in columns] for row in rows))
    figures = dict(result.figures) | {"notices": [dataclasses.asdict(notice) for notice in result.notices]}
    write_json(folder / "evaluation.json", "screening", figures, provenance)
    return result.notices


def make_folder(folder: Path) -> None:
    """Make a folder for results where there is none.

    Errors: `output-failed`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError("output-failed", f"cannot make the folder: {error.strerror}", str(folder)) from None


def write_json(path: Path, kind: str, figures: Mapping[str, Any], provenance: Mapping[str, Any]) -> None:
    """Figures with what they are and where they come from; no NaN ever stands in it.

    Errors: `output-failed`.
    """
    head = {"schema": SCHEMA, "kind": kind, "software_version": __version__, "use": RESEARCH_USE}
    content = {**head, **figures, "provenance": provenance}
    replace_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A table; None is an empty cell, and no text cell can be taken for a formula.

    Errors: `output-failed`.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    replace_file(path, text.getvalue())


def write_picture(path: Path, drawn: bytes | None) -> None:
    """Write a picture, or remove the one of an earlier run where there is none now.

    Errors: `output-failed`.
    """
    if drawn is None:
        path.unlink(missing_ok=True)
    else:
        replace_file(path, drawn)


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of figures as one of a table: a share with its interval becomes columns."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {name if inner == "value" else f"{name}_{inner}": number for inner, number in value.items()}
        else:
            flat[name] = value
    return flat


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def _curve_rows(result: DetectionResult) -> Iterable[tuple[float, float, float]]:
    curve = result.curve
    return zip(curve.fp_per_scan.tolist(), curve.sensitivity.tolist(), curve.threshold.tolist(), strict=True)


def _nodule_row(outcome: NoduleOutcome) -> tuple[Any, ...]:
    return (
        outcome.series_uid,
        *outcome.centre_mm,
        outcome.diameter_mm,
        outcome.type,
        outcome.score,
        outcome.false_marks_above,
        outcome.fp_per_scan,
        outcome.nearest_mark_mm,
        outcome.nearest_mark_score,
        outcome.rank,
    )

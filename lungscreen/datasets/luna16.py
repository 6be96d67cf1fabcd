"""LUNA16 as downloaded (subset*/UID.mhd, annotations, excluded findings) ─► Dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from lungscreen.datasets.scans import AnnotationTables, Dataset, DatasetScan
from lungscreen.errors import InputError, Notice
from lungscreen.evaluation.tables import Nodules, read_nodules
from lungscreen.series import find_series

__all__ = ["find_luna16"]

LICENCE = "CC BY 4.0"
ANNOTATIONS = ("annotations.csv", "annotations.csv.gz")
EXCLUDED = ("annotations_excluded.csv", "annotations_excluded.csv.gz")


def find_luna16(folder: Path, patients: Mapping[str, str] | None = None) -> Dataset:
    """Find LUNA16's scans in `subset0` to `subset9` and its tables anywhere below `folder`.

    `patients`: series UID → patient; LUNA16 itself does not say. Without it each scan stands for a patient of its own,
    and the dataset's notices say so.

    Errors: `input-missing` without scans or `annotations.csv`; as `lungscreen.evaluation.read_nodules`.
    """
    images = sorted(path for path in folder.glob("subset*/**/*.mhd") if path.is_file())
    if not images:
        raise InputError("input-missing", "expected LUNA16's folders subset0 ... with .mhd files", str(folder))
    nodules = read_nodules(_table(folder, ANNOTATIONS))
    excluded, notices = _excluded(folder)
    if patients is None:
        notices.append(
            Notice("patients-unknown", "LUNA16 does not name patients: each scan is split as one of its own")
        )
    inventory = find_series(images)
    tables = AnnotationTables.of(nodules, excluded)
    folds = {path.stem: _fold(folder, path) for path in images}
    scans = tuple(
        DatasetScan(
            series=series,
            patient=(patients or {}).get(series.series_uid, ""),
            annotate=tables.finder(series.series_uid),
            fingerprint=tables.fingerprint(series.series_uid),
            complete=True,
            licence=LICENCE,
            original_series_uid=series.series_uid,
            fold=folds.get(series.series_uid, ""),
        )
        for study in inventory.studies
        for series in study.series
    )
    return Dataset("luna16", scans, inventory.refused, tuple(notices))


def _excluded(folder: Path) -> tuple[Nodules, list[Notice]]:
    """Findings that count neither way; none, and that is said, where their table is missing."""
    try:
        return read_nodules(_table(folder, EXCLUDED)), []
    except InputError as error:
        if error.code != "input-missing":
            raise
        return Nodules.none(), [Notice("excluded-missing", "no annotations_excluded.csv: nothing is excluded")]


def _table(folder: Path, names: Sequence[str]) -> Path:
    found = sorted((path for name in names for path in folder.rglob(name)), key=lambda p: (len(p.parts), str(p)))
    if not found:
        raise InputError("input-missing", f"expected {names[0]} somewhere below", str(folder))
    return found[0]


def _fold(folder: Path, path: Path) -> str:
    match = re.fullmatch(r"subset(\d+)", path.relative_to(folder).parts[0])
    return match.group(1) if match else ""

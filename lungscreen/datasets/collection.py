"""A collection of scans with a table of them (scans.csv, lesions.csv, tables/) ─► Dataset.

DATA/scans.csv     folder, series_uid, original_series_uid, licence, annotation ("LUNA16": every nodule is annotated)
DATA/lesions.csv   series_uid, x_mm, y_mm, z_mm, diameter_mm: nodules, LPS mm
DATA/tables/       annotations_excluded.csv of LUNA16, by original_series_uid
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lungscreen.config import config_hash
from lungscreen.datasets.scans import Annotations, AnnotationTables, Dataset, DatasetScan
from lungscreen.errors import InputError, Refusal
from lungscreen.evaluation.tables import Nodules, read_nodules, read_table_file
from lungscreen.records import Series
from lungscreen.series import find_series

__all__ = ["find_collection"]

COMPLETE = "LUNA16"
"""What the column `annotation` says of a scan whose every nodule is annotated."""


def find_collection(folder: Path, names: Sequence[str] | None = None) -> Dataset:
    """The scans of `scans.csv` (all, or those whose folder has one of these names); a shard is named after its folder.

    Excluded findings are those of every table in `tables/` that has "excluded" in its name.

    Errors: `input-missing` where a name is in no row; as `lungscreen.evaluation.read_nodules`.
    """
    there = {Path(row["folder"]).name: row for row in _rows(folder / "scans.csv")}
    missing = sorted(set(names or ()) - set(there))
    if missing:
        raise InputError("input-missing", f"scans.csv has no row for {missing[0]}", str(folder))
    wanted = {name: row for name, row in there.items() if names is None or name in names}
    lesions = AnnotationTables.of(read_nodules(folder / "lesions.csv"), Nodules.none())
    excluded = [AnnotationTables.of(Nodules.none(), read_nodules(path)) for path in _excluded(folder)]
    scans, refused = [], []
    for name, row in wanted.items():
        series, why = _find(folder / row["folder"], row["series_uid"])
        if series is None:
            refused.append(why)
        else:
            scans.append(_scan(name, row, series, lesions, excluded))
    return Dataset("collection", tuple(scans), tuple(refused))


def _rows(path: Path) -> list[dict[str, str]]:
    table = read_table_file(path)
    columns = ("folder", "series_uid", "original_series_uid", "licence", "annotation")
    cells = zip(*(table.text((name,)) for name in columns), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in cells]


def _excluded(folder: Path) -> list[Path]:
    return sorted((folder / "tables").glob("*excluded*"))


def _find(folder: Path, series_uid: str) -> tuple[Series | None, Refusal]:
    """The series of that UID below a folder; else why there is none."""
    inventory = find_series([folder])
    found = [s for study in inventory.studies for s in study.series if s.series_uid == series_uid]
    refused = [*inventory.refused, *(row for study in inventory.studies for row in study.not_read)]
    nothing = Refusal(series_uid, "input-missing", "its folder holds no such series", "series")
    return (found[0] if found else None), next(iter(refused), nothing)


def _scan(
    name: str,
    row: Mapping[str, str],
    series: Series,
    lesions: AnnotationTables,
    excluded: Sequence[AnnotationTables],
) -> DatasetScan:
    uid, original = row["series_uid"], row["original_series_uid"]
    left = tuple(a for table in excluded for a in table.excluded.get(original, ()))
    known = Annotations(lesions.nodules.get(uid, ()), left)
    return DatasetScan(
        series=series,
        patient=series.patient.patient_id,
        annotate=lambda _: known,
        complete=row["annotation"] == COMPLETE,
        licence=row["licence"],
        original_series_uid=original,
        fingerprint=config_hash(known.nodules, known.excluded),
        name=name,
    )

"""Any CT, and a table of nodules in LPS mm ─► Dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lungscreen.datasets.scans import AnnotationTables, Dataset, DatasetScan
from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.evaluation.tables import Nodules
from lungscreen.records import Series
from lungscreen.series import find_series

__all__ = ["find_folder"]


def find_folder(
    folder: Path,
    nodules: Nodules,
    excluded: Nodules | None = None,
    complete: bool = False,
    patients: Mapping[str, str] | None = None,
    licence: str = "",
) -> Dataset:
    """Find every CT below `folder`: DICOM series or volumes; the tables name them by series UID or file name.

    complete: every nodule of every scan is in the table. Without it nothing outside the nodules is taken for healthy,
        and a scan without a row is left out (`annotations-missing`).
    patients: series UID → patient, where the header has none.

    Errors: `series-none-match` where no row of the table names a scan that was found.
    """
    inventory = find_series([folder])
    tables = AnnotationTables.of(nodules, excluded or Nodules.none())
    found = [series for study in inventory.studies for series in study.series]
    names = {series.series_uid for series in found}
    _check_names(nodules.series, names, folder)
    known = [series for series in found if complete or series.series_uid in tables.nodules]
    refused = [_without_row(series) for series in found if series not in known]

    def scan_of(series: Series) -> DatasetScan:
        return DatasetScan(
            series=series,
            patient=_patient(series, patients or {}),
            annotate=tables.finder(series.series_uid),
            fingerprint=tables.fingerprint(series.series_uid),
            complete=complete,
            licence=licence,
            original_series_uid=series.series_uid,
        )

    scans = tuple(map(scan_of, known))
    return Dataset("folder", scans, (*inventory.refused, *refused), _unused(set(nodules.series) - names))


def _check_names(named: Sequence[str], there: set[str], folder: Path) -> None:
    """Errors: `series-none-match` where the table names series, and none of those that were found."""
    if named and there.isdisjoint(named):
        text = f"no row names a scan that was found; the first row says {named[0][:80]}"
        raise InputError("series-none-match", text, str(folder))


def _patient(series: Series, patients: Mapping[str, str]) -> str:
    """By the table, or by the header of a DICOM series; empty where neither says."""
    return patients.get(series.series_uid) or (series.patient.patient_id if series.instances else "")


def _without_row(series: Series) -> Refusal:
    reason = "no row of the table names this scan"
    return Refusal(series.series_uid, "annotations-missing", reason, "series", series.exam.study_uid)


def _unused(names: set[str]) -> tuple[Notice, ...]:
    """Series of the table that were not found."""
    if not names:
        return ()
    text = f"{len(names)} series of the table were not found, the first {min(names)[:80]}"
    return (Notice("annotations-unused", text),)

"""Any CT, and a table of nodules in LPS mm ─► Dataset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lungscreen.datasets.scans import AnnotationTables, Dataset, DatasetScan
from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.evaluation.tables import Nodules
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
    and a scan without a row is left out (`annotations-missing`). patients: series UID → patient, where the header has
    none.

    Errors: `series-none-match` where no row of the table names a scan that was found.
    """
    inventory = find_series([folder])
    tables = AnnotationTables.of(nodules, excluded or Nodules.none())
    found = [series for study in inventory.studies for series in study.series]
    names = {series.series_uid for series in found}
    if nodules.series and names.isdisjoint(nodules.series):
        text = f"no row names a scan that was found; the first row says {nodules.series[0][:80]}"
        raise InputError("series-none-match", text, str(folder))
    known = [series for series in found if complete or series.series_uid in tables.nodules]
    refused = [
        Refusal(s.series_uid, "annotations-missing", "no row of the table names this scan", "series", s.exam.study_uid)
        for s in found
        if s not in known
    ]
    strange = sorted(set(nodules.series) - names)
    text = f"{len(strange)} series of the table were not found, the first {strange[0][:80]}" if strange else ""
    scans = tuple(
        DatasetScan(
            series=series,
            patient=(patients or {}).get(series.series_uid) or (series.patient.patient_id if series.instances else ""),
            annotate=tables.finder(series.series_uid),
            fingerprint=tables.fingerprint(series.series_uid),
            complete=complete,
            licence=licence,
            original_series_uid=series.series_uid,
        )
        for series in known
    )
    notices = (Notice("annotations-unused", text),) if strange else ()
    return Dataset("folder", scans, (*inventory.refused, *refused), notices)

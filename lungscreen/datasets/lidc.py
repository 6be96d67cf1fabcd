"""LIDC-IDRI as downloaded (DICOM and readers' XML) ─► Dataset."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from lungscreen.config import config_hash
from lungscreen.datasets.consensus import Agreed, ConsensusConfig, SlicePlaces, agree_on_nodules
from lungscreen.datasets.outlines import SeriesMarks, read_outlines
from lungscreen.datasets.scans import Annotation, Annotations, Dataset, DatasetScan, stored_geometry
from lungscreen.errors import InputError, LungscreenError, Notice, Refusal
from lungscreen.evaluation.tables import read_table_file
from lungscreen.records import Series, Volume
from lungscreen.series import find_series
from lungscreen.weights import sha256_of

__all__ = ["find_lidc", "read_crops"]

LICENCE = "CC BY 3.0"
FULL_SIZE = 512
"""Rows and columns of every image that LIDC's readers looked at."""
ON_GRID = 0.02
"""A slice's stored place may be this far, in voxels, from the grid's."""

Crops = Mapping[str, tuple[int, int]]
"""Series UID → first column and row of its images in those that the readers saw."""


@dataclass(frozen=True, eq=False)
class _Xml:
    """A reading and where it stood."""

    path: Path
    reading: SeriesMarks


def find_lidc(
    folder: Path, xml: Path | None = None, consensus: ConsensusConfig | None = None, crops: Crops | None = None
) -> Dataset:
    """Find LIDC's CT series and their readers' XML, below `folder` or in a folder of their own.

    An XML file belongs to the series whose UID it names; else to the series of the same folder, or of the patient that
    the file is named after, which the scan's notices say. A series without XML is refused: nobody read it.
    """
    inventory = find_series([folder])
    readings, refused = _read_all(sorted({*folder.rglob("*.xml"), *(xml.rglob("*.xml") if xml else ())}))
    series = [one for study in inventory.studies for one in study.series]
    scans = []
    used: set[Path] = set()
    for one in series:
        found = _reading_of(one, readings, {s.series_uid for s in series})
        if found is None:
            text = "no readers' XML names this series"
            refused.append(Refusal(one.series_uid, "annotations-missing", text, "series", one.exam.study_uid))
            continue
        used.add(found.path)
        scans.append(_scan(one, found, consensus or ConsensusConfig(), crops or {}))
    left = len(readings) - len(used)
    notices = (Notice("annotations-unused", f"{left} XML files belong to no series that was found"),) if left else ()
    return Dataset("lidc", tuple(scans), (*inventory.refused, *refused), notices)


def read_crops(path: Path) -> Crops:
    """A table of series_uid, crop_x, crop_y: for images cut to a box. Rows with empty cells are left out.

    Errors: as `lungscreen.evaluation.read_marks`.
    """
    table = read_table_file(path)
    cells = zip(*(table.text((name,)) for name in ("series_uid", "crop_x", "crop_y")), strict=True)
    try:
        return {uid: (int(x), int(y)) for uid, x, y in cells if x and y}
    except ValueError:
        raise InputError("table-value-invalid", "expected whole numbers as crop_x and crop_y", str(path)) from None


def _read_all(paths: list[Path]) -> tuple[list[_Xml], list[Refusal]]:
    readings, refused = [], []
    for path in paths:
        try:
            reading = read_outlines(path)
        except LungscreenError as error:
            refused.append(Refusal(str(path), error.code, error.reason))
        else:
            if reading is not None:
                readings.append(_Xml(path, reading))
    return readings, refused


def _reading_of(series: Series, readings: list[_Xml], known: set[str]) -> _Xml | None:
    own = [x for x in readings if x.reading.series_uid == series.series_uid]
    if own:
        return own[0]
    return _unnamed_reading_of(series, [x for x in readings if x.reading.series_uid not in known])


def _unnamed_reading_of(series: Series, free: list[_Xml]) -> _Xml | None:
    """Of the files that name no series that is there: the one beside the slices, or named after the patient."""
    folders = {instance.source.path.parent for instance in series.instances}
    beside = [x for x in free if x.path.parent in folders]
    named = [x for x in free if x.path.stem == series.patient.patient_id]
    return next(iter(beside or named), None)


def _scan(series: Series, xml: _Xml, consensus: ConsensusConfig, crops: Crops) -> DatasetScan:
    reading = xml.reading

    def annotate(volume: Volume) -> Annotations:
        places = replace(_places(volume, reading), crop=crops.get(series.series_uid, (0, 0)))
        _check_size(volume, reading, series.series_uid in crops)
        nodules, excluded, notices = agree_on_nodules(reading, places, consensus)
        if reading.series_uid != series.series_uid:
            text = "the readers' XML names another series; it was matched by folder or patient"
            notices = (Notice("outlines-by-name", text), *notices)
        return Annotations(tuple(map(_annotation, nodules)), tuple(map(_annotation, excluded)), notices)

    return DatasetScan(
        series=series,
        patient=series.patient.patient_id,
        annotate=annotate,
        complete=True,
        licence=LICENCE,
        original_series_uid=reading.series_uid,
        fingerprint=config_hash(sha256_of(xml.path), consensus, crops.get(series.series_uid)),
    )


def _places(volume: Volume, reading: SeriesMarks) -> SlicePlaces:
    """The stored grid with its slices' UIDs."""
    geometry = stored_geometry(volume)
    uids = [""] * geometry.shape[0]
    for instance in volume.series.instances:
        if instance.position_mm is None:
            continue
        index = geometry.to_index(instance.position_mm)
        number = round(float(index[0]))
        if np.abs(index - (number, 0, 0)).max() > ON_GRID or not 0 <= number < len(uids):
            text = "a slice is not where the volume has it (tilted or uneven): pixel coordinates do not hold"
            raise InputError("outlines-elsewhere", text, reading.series_uid)
        uids[number] = instance.sop_instance_uid
    return SlicePlaces(geometry, tuple(uids))


def _check_size(volume: Volume, reading: SeriesMarks, crop_known: bool) -> None:
    rows, columns = stored_geometry(volume).shape[1:]
    if (rows, columns) != (FULL_SIZE, FULL_SIZE) and not crop_known:
        text = f"the images are {columns} x {rows}, not 512 x 512 as read: where were they cropped?"
        raise InputError("outlines-elsewhere", text, reading.series_uid)


def _annotation(agreed: Agreed) -> Annotation:
    return Annotation(agreed.centre_mm, agreed.diameter_mm, _type(agreed.ratings.get("texture", ())), agreed.readers)


def _type(texture: tuple[int, ...]) -> str:
    """From the readers' texture (1 ground-glass, 3 part-solid, 5 solid): the median's side."""
    if not texture:
        return ""
    median = statistics.median(texture)
    return "ground-glass" if median <= 2 else "solid" if median >= 4 else "part-solid"

"""File ─► Look: what the index keeps of one file, or of one member of an archive."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from lungscreen.dicomfile import get_uid, plain_value
from lungscreen.errors import InputError
from lungscreen.records import Source
from lungscreen.series import SeriesConfig
from lungscreen.series.archives import is_archive, list_members
from lungscreen.series.files import image_name, is_junk
from lungscreen.series.headers import Header, load_header
from lungscreen.series.rejects import Rejects
from lungscreen.series.scan import FOREIGN_ENDINGS, class_name
from lungscreen.series.studies import plain_name
from lungscreen.sources import SourceReader

__all__ = ["Look", "look_at", "look_into"]

LONGEST_NAME = 250
"""Characters of an image file's name that stand for its UIDs."""


@dataclass(frozen=True, slots=True)
class Look:
    """kind: ct, image, other (DICOM, no CT), archive, bad (cannot be used; code and reason say why).

    For `other`, series_uid is the study's and sop_uid the series' UID, and reason says what it is.
    """

    kind: Literal["ct", "image", "other", "archive", "bad"]
    member: str = ""
    size: int = 0
    patient_id: str = ""
    name: str = ""
    study_uid: str = ""
    day: str = ""
    """Of the exam: YYYYMMDD, or empty."""
    series_uid: str = ""
    sop_uid: str = ""
    along_mm: float | None = None
    """Place along the slices' normal."""
    code: str = ""
    reason: str = ""


def look_at(source: Source, reader: SourceReader) -> Look:
    """One file or member."""
    if name := image_name(source):
        uid = plain_value(name, LONGEST_NAME) or "image"
        return Look(
            "image", source.member, patient_id=uid, name=str(source), study_uid=uid, series_uid=uid, sop_uid=uid
        )
    if (source.member or source.path.name).lower().endswith(tuple(FOREIGN_ENDINGS)):
        return Look("bad", source.member, code="not-dicom", reason="not a DICOM file")
    try:
        header = load_header(reader, source)
    except InputError as error:
        return Look("bad", source.member, code=error.code, reason=error.reason)
    if isinstance(header, Header):
        return _ct(header, source)
    study, series = get_uid(header, "StudyInstanceUID"), get_uid(header, "SeriesInstanceUID")
    return Look(
        "other", source.member, series_uid=study, sop_uid=series, reason=class_name(get_uid(header, "SOPClassUID"))
    )


def look_into(path: Path, reader: SourceReader, config: SeriesConfig) -> list[Look]:
    """The archive and its members; nothing where the file is no archive."""
    if path.suffix.lower() != ".zip" or not is_archive(path):
        return []
    rejects = Rejects()
    try:
        members = list_members(path, config, rejects)
    except InputError as error:
        return [Look("bad", code=error.code, reason=error.reason)]
    looks = [look_at(source, reader) for source in members if not _is_hidden(source.member)]
    rows = [row for place in rejects.places() for row in rejects.rows(place)]
    bad = [Look("bad", row.where.removeprefix(f"{path}!"), code=row.code, reason=row.reason) for row in rows]
    return [Look("archive"), *looks, *bad]


def _is_hidden(member: str) -> bool:
    return any(is_junk(part) or part.upper() == "DICOMDIR" for part in member.split("/"))


def _ct(header: Header, source: Source) -> Look:
    instance = header.instance
    return Look(
        "ct",
        source.member,
        patient_id=header.patient.patient_id,
        name=plain_name(header.patient),
        study_uid=header.study_uid,
        day=header.exam.date,
        series_uid=header.series_uid,
        sop_uid=instance.sop_instance_uid,
        along_mm=_along(instance.orientation, instance.position_mm),
    )


def _along(orientation: tuple[float, ...] | None, position_mm: tuple[float, ...] | None) -> float | None:
    """Where a slice lies along its normal, to a hundredth of a millimetre; None for a multi-frame object."""
    if orientation is None or position_mm is None:
        return None
    along = float(np.dot(np.cross(orientation[:3], orientation[3:]), position_mm))
    return round(along, 2) if math.isfinite(along) else None

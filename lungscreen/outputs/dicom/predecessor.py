"""Which result a new one replaces: told from the structured report that lies in the study's folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.dicomfile import first_item, get_items, get_number, get_text, get_uid, parse_dicom, quiet_pydicom
from lungscreen.errors import InputError
from lungscreen.outputs.dicom.common import MAKER, SERIES, revision_of
from lungscreen.outputs.dicom.identity import Predecessor

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["STRUCTURED_REPORT", "find_predecessor"]

STRUCTURED_REPORT = "dicom-sr.dcm"
"""File of a study's folder."""


def find_predecessor(folder: Path | None, series_uid: str, digest: str) -> Predecessor | None:
    """The result that a new one of this content replaces; None where there is none.

    Where the folder holds the very same result its own predecessor is taken over, so that writing it again gives the
    same bytes. A report that cannot be read, or is another series', is no predecessor.
    """
    path = None if folder is None else folder / STRUCTURED_REPORT
    if path is None or not path.is_file():
        return None
    with quiet_pydicom():
        try:
            report = parse_dicom(path.read_bytes())
        except (OSError, InputError):
            return None
        number = int(get_number(report, "SeriesNumber") or SERIES["sr"][0])
        if get_text(report, "Manufacturer") != MAKER or series_uid not in _series_of(report):
            return None
        found = Predecessor(
            get_uid(report, "StudyInstanceUID"),
            get_uid(report, "SeriesInstanceUID"),
            get_uid(report, "SOPClassUID"),
            get_uid(report, "SOPInstanceUID"),
            revision_of(number),
        )
        if get_text(report, "DeviceSerialNumber") != digest[:16]:
            return found
        return _own_predecessor(report, found.revision)


def _series_of(report: Dataset) -> set[str]:
    """Series that a report rests on."""
    study = first_item(report, "CurrentRequestedProcedureEvidenceSequence")
    return {get_uid(item, "SeriesInstanceUID") for item in get_items(study, "ReferencedSeriesSequence")}


def _own_predecessor(report: Dataset, revision: int) -> Predecessor | None:
    study = first_item(report, "PredecessorDocumentsSequence")
    series = first_item(study, "ReferencedSeriesSequence")
    instance = first_item(series, "ReferencedSOPSequence")
    if study is None or series is None or instance is None:
        return None
    return Predecessor(
        get_uid(study, "StudyInstanceUID"),
        get_uid(series, "SeriesInstanceUID"),
        get_uid(instance, "ReferencedSOPClassUID"),
        get_uid(instance, "ReferencedSOPInstanceUID"),
        revision - 1,
    )

"""Earlier exams from a DICOM node: C-FIND tells what there is, C-MOVE has it sent to our own AE title."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from lungscreen.dicomfile import quiet_pydicom
from lungscreen.node.config import Destination, NodeConfig
from lungscreen.node.deliveries import UnreachableError, dicom_status
from lungscreen.node.dimse import open_association
from lungscreen.node.priors import ArchivedExam, person_tags
from lungscreen.node.tls import client_tls

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DimseArchive", "ct_series", "days_before"]

MOST_ROWS = 500
"""Of one answer."""


class DimseArchive:
    """One DICOM node with Query/Retrieve (study root)."""

    def __init__(self, archive: Destination, config: NodeConfig) -> None:
        """Errors: `config-invalid`."""
        self._archive, self._ae_title = archive, config.ae_title
        self._tls = client_tls(archive.tls) if archive.tls else None

    def find(self, patient_id: str, before: date, until: float) -> list[Dataset]:
        """See `lungscreen.node.priors.Archive`."""
        query = _query("STUDY", *person_tags(), "StudyInstanceUID")
        query.PatientID, query.StudyDate, query.ModalitiesInStudy = patient_id, days_before(before), "CT"
        return self._ask(query, until)

    def series_of(self, study_uid: str, until: float) -> tuple[tuple[str, int], ...]:
        """See `lungscreen.node.priors.Archive`."""
        query = _query("SERIES", "SeriesInstanceUID", "NumberOfSeriesRelatedInstances")
        query.StudyInstanceUID, query.Modality = study_uid, "CT"
        return ct_series(self._ask(query, until))

    def fetch(self, exam: ArchivedExam, until: float) -> None:
        """See `lungscreen.node.priors.Archive`."""
        from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
            StudyRootQueryRetrieveInformationModelMove as Move,
        )

        with self._open(Move, until) as association:
            for series_uid, _ in exam.series:
                query = _query("SERIES")
                query.StudyInstanceUID, query.SeriesInstanceUID = exam.study_uid, series_uid
                for _ in _answers(association, association.send_c_move(query, self._ae_title, Move), until):
                    pass

    def _ask(self, query: Dataset, until: float) -> list[Dataset]:
        from pynetdicom.sop_class import (  # type: ignore[attr-defined]  # made at run time
            StudyRootQueryRetrieveInformationModelFind as Find,
        )

        with self._open(Find, until) as association, quiet_pydicom():
            return list(_answers(association, association.send_c_find(query, Find), until))

    def _open(self, sop_class: str, until: float) -> Any:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise UnreachableError("no time left")
        return open_association(self._archive, self._ae_title, [sop_class], tls=self._tls, wait_s=left_s)


def _answers(association: Any, answers: Iterator[Any], until: float) -> Iterator[Dataset]:
    """What comes, until the last one.

    Errors: `UnreachableError` where it is refused, breaks off or takes too long.
    """
    if not association.accepted_contexts:
        raise UnreachableError("no such service")
    for number, (status, row) in enumerate(answers):
        if not status or time.monotonic() > until:
            association.abort()
            raise UnreachableError("no answer in time")
        if status.Status in (0xFF00, 0xFF01):
            if row is not None:
                yield row
            if number >= MOST_ROWS and row is not None:
                association.abort()
                raise UnreachableError("too many answers")
        elif status.Status not in (0x0000, 0xB000):  # with 0xB000 some came: they are counted
            raise UnreachableError(dicom_status(status.Status))


def _query(level: str, *returned: str) -> Dataset:
    from pydicom.dataset import Dataset

    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword in returned:
        setattr(query, keyword, "")
    return query


def days_before(day: date) -> str:
    """A range of days, as archives are asked for it."""
    return f"-{day - timedelta(days=1):%Y%m%d}"


def ct_series(rows: list[Dataset]) -> tuple[tuple[str, int], ...]:
    """Series UID and number of instances of an archive's rows; of other modalities it may have sent none."""
    rows = [row for row in rows if str(row.get("Modality", "CT")) in ("CT", "")]
    return tuple(
        (str(row.SeriesInstanceUID), int(row.get("NumberOfSeriesRelatedInstances") or 0))
        for row in rows
        if row.get("SeriesInstanceUID")
    )

"""Folders of studies ─► a folder of de-identified series; what is refused is said, the rest goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.deidentify.dataset import deidentify_dataset
from lungscreen.dicomfile import encode_dicom, parse_dicom, quiet_pydicom
from lungscreen.errors import LungscreenError, OutputError, Refusal
from lungscreen.files import replace_folder
from lungscreen.records import Series
from lungscreen.series import find_series
from lungscreen.sources import SourceReader

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lungscreen.pseudonyms import Pseudonyms

__all__ = ["Deidentified", "deidentify_inputs"]


@dataclass(frozen=True)
class Deidentified:
    """A series as it was written."""

    folder: Path
    files: int


def deidentify_inputs(inputs: Sequence[Path], out: Path, pseudonyms: Pseudonyms) -> Iterator[Deidentified | Refusal]:
    """Write every CT series of the input, a folder each: OUT/PATIENT/STUDY/SERIES/NNNNNN.dcm, all names pseudonyms.

    Yields each series once it is written, and what was not written with its code. Series that the screening would not
    read (localizers, dose sheets, results) are among the latter.

    Errors: `output-failed`, which ends the run.
    """
    inventory = find_series(inputs, skip=out)
    yield from inventory.refused
    for study in inventory.studies:
        yield from (row for row in study.not_read if row.code != "series-other-chosen")
        for series in study.series:
            yield from _series(series, out, pseudonyms)


def _series(series: Series, out: Path, pseudonyms: Pseudonyms) -> Iterator[Deidentified | Refusal]:
    """Errors: `output-failed`."""
    if series.kind != "dicom":
        yield Refusal(str(series.image), "not-dicom", "an image file, no DICOM series")
        return
    folder: Path | None = None
    written = 0
    with ExitStack() as stack:
        reader = stack.enter_context(SourceReader())
        stack.enter_context(quiet_pydicom())
        for number, instance in enumerate(series.instances, 1):
            try:
                dataset = deidentify_dataset(parse_dicom(reader.read(instance.source), pixels=True), pseudonyms)
                content = encode_dicom(dataset, instance.transfer_syntax_uid)
            except OutputError:
                raise
            except LungscreenError as error:
                yield Refusal(str(instance.source), error.code, error.reason)
                continue
            except Exception as error:  # whatever pydicom raises at a hostile file
                yield Refusal(
                    str(instance.source), "dicom-damaged", f"cannot be written again ({type(error).__name__})"
                )
                continue
            if folder is None:
                folder = out / _place(dataset, pseudonyms)
                new = stack.enter_context(replace_folder(folder))
            (new / f"{number:06d}.dcm").write_bytes(content)
            written += 1
    if folder is not None:
        yield Deidentified(folder, written)


def _place(dataset: Dataset, pseudonyms: Pseudonyms) -> Path:
    """PATIENT/STUDY/SERIES, all pseudonyms."""
    uids = (dataset.StudyInstanceUID, dataset.SeriesInstanceUID)
    names = [pseudonyms.digest("research folder", str(uid))[:12] for uid in uids]
    return Path(str(dataset.PatientID), *names)

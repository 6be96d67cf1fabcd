"""What all objects have in common: who made them, for what use, and how they become bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from lungscreen import __version__
from lungscreen.dicomfile import encode_dicom
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.results.text import plain

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lungscreen.outputs.dicom.codes import Concept

__all__ = [
    "MAKER",
    "MODEL",
    "RESEARCH",
    "SERIES",
    "SignedBy",
    "ascii_text",
    "code_item",
    "encode",
    "finish",
    "foreign_text",
    "new_object",
    "revision_of",
    "series_description",
]

MAKER = "lungscreen"
MODEL = "lungscreen"
RESEARCH = "RESEARCH USE ONLY"
"""Ends every series description; no code in DICOM says so."""

SERIES = {
    "key images": (7001, "lungscreen key images"),
    "pdf": (7002, "lungscreen report"),
    "sr": (7003, "lungscreen measurements"),
    "seg": (7004, "lungscreen segmentation"),
    "kos": (7005, "lungscreen key objects"),
    "gsps": (7006, "lungscreen marks"),
    "cad": (7007, "lungscreen chest CAD"),
    "labelmap": (7008, "lungscreen label maps"),
    "signed sr": (7009, "signed read"),
    "signed seg": (7010, "signed read, outlines"),
}
"""Kind of object → its series number and the beginning of its series description."""


@dataclass(frozen=True, slots=True)
class SignedBy:
    """The person who read the exam and signed.

    organisation: for whom.
    sized: numbers of the findings whose axes the person gave, so that nothing that was measured of an outline belongs
        to them.
    own: numbers of the findings that the person marked; the software found none of them.
    statements: what is said of the read.
    """

    name: str
    organisation: str
    when: datetime
    sized: frozenset[int] = frozenset()
    own: frozenset[int] = frozenset()
    statements: tuple[str, ...] = ()


_REVISION_STEP = 10
"""Series numbers of a result that replaces another lie this much higher."""

_PLAIN = str.maketrans({
    "≥": ">=", "≤": "<=", "×": "x", "³": "3", "²": "2", "–": "-", "—": "-", "−": "-", "±": "+-", "≈": "about ",
    "“": '"', "”": '"', "‘": "'", "’": "'", "…": "...", "µ": "u", "→": "->", "ä": "ae", "\n": " ", "\\": "/",
})  # fmt: skip


def ascii_text(text: str, longest: int = 1024) -> str:
    """Our own words as ASCII, which every character set of DICOM can write; bounded."""
    return text.translate(_PLAIN).encode("ascii", "replace").decode("ascii")[:longest].strip()


def foreign_text(text: str, longest: int = 4096) -> str:
    """A person's words as one line without control characters, for an object in UTF-8; bounded."""
    return plain(text.replace("\\", "/"), longest)


def series_description(kind: str, identity: ResultIdentity) -> str:
    """What a viewer lists: what it is, which revision holds, and that it is for research."""
    revision = "" if identity.revision == 1 else f", rev. {identity.revision} replaces {identity.revision - 1}"
    return f"{SERIES[kind][1]}{revision}, {RESEARCH}"


def finish(dataset: Dataset, kind: str, source: DicomSource, identity: ResultIdentity, number: int = 1) -> None:
    """Give an object its place among the patient's: study, series, equipment and times, whoever built it."""
    for element in source.header:
        dataset[element.tag] = element
    dataset.SeriesInstanceUID = identity.uid(kind, "series")
    dataset.SeriesNumber = SERIES[kind][0] + _REVISION_STEP * (identity.revision - 1)
    dataset.SeriesDescription = series_description(kind, identity)
    dataset.SeriesDate, dataset.SeriesTime = identity.date, identity.time
    dataset.InstanceNumber = number
    if kind != "gsps":  # which has times of its own
        dataset.ContentDate, dataset.ContentTime = identity.date, identity.time
    dataset.Manufacturer, dataset.ManufacturerModelName = MAKER, MODEL
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = __version__, identity.digest[:16]
    for keyword in ("InstanceCreationDate", "InstanceCreationTime", "ContributingEquipmentSequence"):
        if keyword in dataset:  # highdicom's, of today
            delattr(dataset, keyword)


def code_item(code: Concept) -> Dataset:
    """A code as an item of a code sequence."""
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def revision_of(series_number: int) -> int:
    """Which revision of a result a series of ours belongs to."""
    return (series_number - min(first for first, _ in SERIES.values())) // _REVISION_STEP + 1


def new_object(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """An empty object of a class."""
    from pydicom.dataset import Dataset

    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class_uid, sop_instance_uid
    return dataset


def encode(dataset: Dataset) -> bytes:
    """The object as a file in explicit VR little endian; the same object gives the same bytes."""
    from pydicom.uid import ExplicitVRLittleEndian

    return encode_dicom(dataset, ExplicitVRLittleEndian)

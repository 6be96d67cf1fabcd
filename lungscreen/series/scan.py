"""Sources ─► a pile of headers: one look at each file."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lungscreen.dicomfile import get_uid
from lungscreen.errors import InputError
from lungscreen.records import Source
from lungscreen.series.files import image_name
from lungscreen.series.headers import Header, load_header
from lungscreen.series.rejects import Rejects
from lungscreen.sources import SourceReader

__all__ = ["FOREIGN_ENDINGS", "OtherSeries", "Pile", "class_name", "scan_sources"]

PROGRESS_AFTER_S = 1.0
"""A progress bar appears, on a terminal, only where reading takes longer."""

FOREIGN_ENDINGS = frozenset(
    [
        ".txt",
        ".xml",
        ".json",
        ".csv",
        ".tsv",
        ".pdf",
        ".html",
        ".htm",
        ".md",
        ".log",
        ".ini",
        ".inf",
        ".exe",
        ".dll",
        ".jar",
        ".js",
        ".css",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
        ".bmp",
        ".doc",
        ".docx",
        ".xls",
        ".xlsx",
        ".rtf",
        ".py",
        ".toml",
        ".yaml",
        ".yml",
        ".npz",
        ".npy",
        ".lnk",
        ".ico",
    ]
)
"""Files that are plainly something else: not opened."""


@dataclass(frozen=True, slots=True)
class OtherSeries:
    """DICOM objects that are no CT."""

    study_uid: str
    series_uid: str
    what: str


@dataclass
class Pile:
    """What one look at each file gives."""

    headers: dict[str, list[Header]] = field(default_factory=lambda: defaultdict(list))
    """CT objects by series UID."""
    images: list[Source] = field(default_factory=list)
    others: Counter[OtherSeries] = field(default_factory=Counter)
    places: set[str] = field(default_factory=set)
    """Inputs that hold CT or image files."""


def scan_sources(sources: Sequence[tuple[str, Source]], reader: SourceReader, rejects: Rejects) -> Pile:
    """Read every header once. Files that are neither CT nor an image file go to `rejects` under their input."""
    pile = Pile()
    for place, source in _with_progress(sources):
        if image_name(source):
            pile.images.append(source)
            pile.places.add(place)
            continue
        if (source.member or source.path.name).lower().endswith(tuple(FOREIGN_ENDINGS)):
            rejects.add(place, str(source), "not-dicom", "not a DICOM file")
            continue
        try:
            _take(pile, place, source, reader)
        except InputError as error:
            rejects.add(place, str(source), error.code, error.reason)
    return pile


def _take(pile: Pile, place: str, source: Source, reader: SourceReader) -> None:
    """Errors: those of `load_header`."""
    header = load_header(reader, source)
    if isinstance(header, Header):
        pile.headers[header.series_uid].append(header)
        pile.places.add(place)
    else:
        what = get_uid(header, "SOPClassUID")
        other = OtherSeries(get_uid(header, "StudyInstanceUID"), get_uid(header, "SeriesInstanceUID"), class_name(what))
        pile.others[other] += 1


def class_name(uid: str) -> str:
    """What a SOP class is, in words."""
    from pydicom.uid import UID

    return str(UID(uid).name)


def _with_progress(sources: Sequence[tuple[str, Source]]) -> Iterable[tuple[str, Source]]:
    from tqdm import tqdm

    progress: Iterable[tuple[str, Source]] = tqdm(
        sources, desc="headers", unit="file", disable=None, delay=PROGRESS_AFTER_S, leave=False
    )
    return progress

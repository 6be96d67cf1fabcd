"""Entry ─► Looks: what a file is, or each member of an archive. The one rule, for direct reading and for the index.

A Look can be remembered (`lungscreen.series.memory`) and looked at again later without opening the file, as long as the
file's size and time are the same (`renew_looks`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lungscreen.dicomfile import get_uid
from lungscreen.errors import InputError
from lungscreen.records import Source
from lungscreen.series.archives import is_archive, list_members
from lungscreen.series.config import SeriesConfig
from lungscreen.series.files import COPY, NO_FILE, Entry, image_name, is_hidden_member
from lungscreen.series.headers import Header, load_header
from lungscreen.sources import SourceReader

__all__ = ["Kind", "Look", "is_unchanged", "look_at", "look_into", "renew_looks"]

Kind = Literal["ct", "image", "other", "archive", "copy", "bad"]

FOREIGN_ENDINGS = (
    *(".txt", ".xml", ".json", ".csv", ".tsv", ".pdf", ".html", ".htm", ".md", ".log", ".ini", ".inf", ".exe", ".dll"),
    *(".jar", ".js", ".css", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".doc", ".docx", ".xls", ".xlsx", ".rtf", ".py"),
    *(".toml", ".yaml", ".yml", ".npz", ".npy", ".lnk", ".ico"),
)
"""Files that are plainly something else: not opened."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one file, or one member of an archive, is.

    kind: ct, image (NIfTI, NRRD, MetaImage), other (DICOM, no CT), archive (its members have looks of their own), copy
    (a file that was met before), bad (cannot be used; code and reason say why).
    """

    source: Source
    kind: Kind
    size: int = NO_FILE
    """Of the file in bytes, as it was looked at; with `mtime_ns` it tells a changed file."""
    mtime_ns: int = NO_FILE
    header: Header | None = None
    """Of a CT."""
    study_uid: str = ""
    series_uid: str = ""
    what: str = ""
    """Of another object: the class, in words."""
    code: str = ""
    reason: str = ""


def look_into(entry: Entry, reader: SourceReader, config: SeriesConfig) -> list[Look]:
    """What an entry is; an archive and each of its members."""
    source = Source(entry.path)
    if entry.problems:
        looks = [_bad(where, error) for where, error in entry.problems]
    elif entry.size == COPY:
        looks = [Look(source, "copy")]
    elif (entry.named or entry.path.suffix.lower() == ".zip") and is_archive(entry.path):
        looks = list(_look_into_archive(entry.path, reader, config))
    else:
        looks = [look_at(source, reader)]
    return [replace(look, size=entry.size, mtime_ns=entry.mtime_ns) for look in looks]


def look_at(source: Source, reader: SourceReader) -> Look:
    """What one file or member is; its header where it is CT, its pixels untouched."""
    if image_name(source):
        return Look(source, "image")
    if (source.member or source.path.name).lower().endswith(FOREIGN_ENDINGS):
        return Look(source, "bad", code="not-dicom", reason="not a DICOM file")
    try:
        header = load_header(reader, source)
    except InputError as error:
        return _bad(source, error)
    if isinstance(header, Header):
        return Look(source, "ct", header=header, study_uid=header.study_uid, series_uid=header.series_uid)
    study, series = get_uid(header, "StudyInstanceUID"), get_uid(header, "SeriesInstanceUID")
    return Look(source, "other", study_uid=study, series_uid=series, what=_class_name(get_uid(header, "SOPClassUID")))


def renew_looks(looks: Iterable[Look], reader: SourceReader) -> list[Look]:
    """The looks as they are now: of files that are as they were, without opening one; the others are looked at
    again.
    """
    states: dict[Path, tuple[int, int]] = {}
    renewed = []
    for look in looks:
        path = look.source.path
        if path not in states:
            states[path] = _state(path)
        renewed.append(look if states[path] == (look.size, look.mtime_ns) else _again(look, states[path], reader))
    return renewed


def is_unchanged(look: Look) -> bool:
    """Whether its file has the size and time that it had."""
    return _state(look.source.path) == (look.size, look.mtime_ns)


def _again(look: Look, state: tuple[int, int], reader: SourceReader) -> Look:
    if state[0] == NO_FILE:
        return _bad(look.source, InputError("file-unreadable", "cannot be read (it is gone)"))
    return replace(look_at(look.source, reader), size=state[0], mtime_ns=state[1])


def _state(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return NO_FILE, NO_FILE
    return status.st_size, status.st_mtime_ns


def _look_into_archive(path: Path, reader: SourceReader, config: SeriesConfig) -> Iterator[Look]:
    try:
        members, refused = list_members(path, config)
    except InputError as error:
        yield _bad(Source(path), error)
        return
    yield Look(Source(path), "archive")
    yield from (look_at(member, reader) for member in members if not is_hidden_member(member.member))
    yield from (_bad(member, error) for member, error in refused)


def _bad(source: Source, error: InputError) -> Look:
    return Look(source, "bad", code=error.code, reason=error.reason)


def _class_name(uid: str) -> str:
    """What a SOP class is, in words."""
    from pydicom.uid import UID

    return str(UID(uid).name)

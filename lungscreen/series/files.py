"""Inputs ─► folders ─► Entries: every file that may hold images, each real file once. Nothing is opened but DICOMDIRs.

Direct reading goes this way once; the batch's index goes it again and again, and opens only what is new.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lungscreen.dicomfile import DICOMDIR_CLASS, get_items, get_texts, get_uid, parse_dicom
from lungscreen.errors import InputError
from lungscreen.files import LEDGER_FILE, STUDIES_FOLDER
from lungscreen.records import Source
from lungscreen.sources import SourceReader

__all__ = [
    "AGAIN_AFTER_S",
    "IMAGE_ENDINGS",
    "Entry",
    "Folder",
    "Walk",
    "image_name",
    "is_hidden_member",
    "read_dicomdir",
]

AGAIN_AFTER_S = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Where something vanishes while it is looked at, the inputs are looked at again after so long, and again."""

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Image files that are read; `.nii.gz` is one ending."""

_IMAGE_DATA_ENDINGS = (".raw", ".zraw", ".raw.gz")
"""Pixel data that belong to a header file beside them."""

_DICOM_ENDINGS = (".dcm", ".ima", ".dicom")

_JUNK_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", ".DS_Store", ".git"})

NO_FILE = -1
"""Size and time of what is no file."""
COPY = -2
"""Size and time of a file that was met before under another name."""

_Identity = tuple[int, int]
"""Device and number: the same for the same file or folder, whatever it is called."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file worth a look; or what is none, and then why.

    size, mtime_ns: what tells a changed file from the one that was looked at, `NO_FILE` or `COPY` where none is to be.
    """

    path: Path
    size: int
    mtime_ns: int
    named: bool = False
    """Whether the user named the file itself, so that its ending does not matter."""
    problems: tuple[tuple[Source, InputError], ...] = ()
    """What of it cannot be read; there is nothing else in it."""
    is_index: bool = False
    """A DICOMDIR: what it lists may have changed though it has not."""

    @property
    def is_file(self) -> bool:
        """Whether it has to be opened to know what it is."""
        return self.size >= 0


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder with its files, one by one.

    listed: False where its files cannot be known now.
    """

    path: Path
    entries: Iterator[Entry]
    listed: bool = True


class Walk:
    """One way through the inputs, which may overlap."""

    def __init__(self, reader: SourceReader, skip: Path | None = None) -> None:
        """skip: a folder that is not entered where it lies inside an input (the results of an earlier run)."""
        self._reader = reader
        self._skip = {_identity(skip.stat())} if skip is not None and skip.exists() else set()
        self._met: set[_Identity] = set()
        self.vanished = 0
        """Files and folders that were gone before they could be looked at, though they had just been listed."""

    def folders(self, path: Path) -> Iterator[Folder]:
        """The folders of one input that have files, each once; nothing where the input does not exist."""
        if os.path.isdir(path):  # noqa: PTH112 - unlike Path's, false where a right is missing
            yield from self._below(path)
        elif not os.path.exists(path):  # noqa: PTH110
            return
        elif path.name.upper() == "DICOMDIR":
            yield from self._listed(path)
        else:
            yield Folder(path.parent, iter([self._entry(path, named=True)]))

    def _below(self, root: Path) -> Iterator[Folder]:
        """Folders by name. Links are followed, but no folder is entered twice."""
        entered = set(self._skip)
        failed: list[OSError] = []
        for folder, folders, names in os.walk(root, followlinks=True, onerror=failed.append):
            try:
                identity = _identity(os.stat(folder))  # noqa: PTH116 - a Path for every folder costs more than the call
            except OSError as error:  # gone since it was listed
                failed.append(error)
                identity = None
            yield from self._unreadable(failed)
            if identity is None or identity in entered:
                folders.clear()
                continue
            entered.add(identity)
            if LEDGER_FILE in names and STUDIES_FOLDER in folders:
                folders.clear()
                yield Folder(Path(folder), iter([_results_of_ours(Path(folder))]))
                continue
            folders[:] = sorted(name for name in folders if not _is_left_behind(name))
            wanted = sorted(name for name in names if not _is_junk(name) and name.upper() != "DICOMDIR")
            yield Folder(Path(folder), (self._entry(Path(folder, name)) for name in wanted))
        yield from self._unreadable(failed)

    def _listed(self, path: Path) -> Iterator[Folder]:
        """A DICOMDIR that was named itself, with the files that it lists."""
        found, problems = read_dicomdir(path, self._reader)
        by_folder: dict[Path, list[Path]] = {path.parent: []}
        for target in dict.fromkeys(found):
            by_folder.setdefault(target.parent, []).append(target)
        for folder, paths in by_folder.items():
            entries = [self._entry(target) for target in sorted(paths)]
            if folder == path.parent and problems:
                entries.append(Entry(path, NO_FILE, NO_FILE, problems=tuple(problems), is_index=True))
            yield Folder(folder, iter(entries))

    def _unreadable(self, failed: list[OSError]) -> Iterator[Folder]:
        """A folder for each that could not be read since the last one; takes them off the list."""
        for error in failed:
            path = Path(error.filename)
            self.vanished += not os.path.lexists(path)
            yield Folder(path, iter([_no_file(path, "the folder cannot be read")]), listed=False)
        failed.clear()

    def _entry(self, path: Path, named: bool = False) -> Entry:
        try:
            status = path.stat()
        except FileNotFoundError:
            self.vanished += not os.path.lexists(path)
            return _no_file(path, "not a regular file, or a link to nowhere")
        except OSError as error:
            return _no_file(path, f"cannot be read ({error.strerror})")
        if not stat.S_ISREG(status.st_mode):
            return _no_file(path, "not a regular file, or a link to nowhere")
        identity = _identity(status)
        if identity in self._met:
            return Entry(path, COPY, COPY)
        self._met.add(identity)
        return Entry(path, status.st_size, status.st_mtime_ns, named)


def _results_of_ours(folder: Path) -> Entry:
    reason = "results of lungscreen, with masks and pictures: not searched for studies"
    return Entry(folder, NO_FILE, NO_FILE, problems=((Source(folder), InputError("results-passed-over", reason)),))


def _no_file(path: Path, reason: str) -> Entry:
    return Entry(path, NO_FILE, NO_FILE, problems=((Source(path), InputError("file-unreadable", reason)),))


def read_dicomdir(path: Path, reader: SourceReader) -> tuple[list[Path], list[tuple[Source, InputError]]]:
    """The files that a DICOMDIR lists, found below its folder whatever the case of their names; and what is wrong."""
    try:
        dataset = parse_dicom(reader.read(Source(path)), ["SOPClassUID", "DirectoryRecordSequence"])
        if get_uid(dataset.file_meta, "MediaStorageSOPClassUID") != DICOMDIR_CLASS:
            raise InputError("not-dicom", "named DICOMDIR but is none")
    except InputError as error:
        return [], [(Source(path), error)]
    found: list[Path] = []
    problems: list[tuple[Source, InputError]] = []
    for record in get_items(dataset, "DirectoryRecordSequence"):
        parts = get_texts(record, "ReferencedFileID")
        if not parts:
            continue
        target = _resolve(path.parent, parts)
        if target is None:
            lost = InputError("dicomdir-reference", "listed, but not there or outside the folder")
            problems.append((Source(path, "/".join(parts)), lost))
        else:
            found.append(target)
    if not found:
        problems.append((Source(path), InputError("dicomdir-reference", "lists no file that is there")))
    return found, problems


def _resolve(root: Path, parts: tuple[str, ...]) -> Path | None:
    """The file that the parts name below `root`, or None.

    DICOM names are upper case, file systems may differ; a file may have an ending that its name there lacks (PS3.10,
    8.2).
    """
    place = root
    for number, part in enumerate(parts):
        if part in ("", ".", "..") or "/" in part or "\\" in part:
            return None
        exact = place / part
        if exact.exists():
            place = exact
            continue
        found = _without_case_or_ending(place, part, last=number == len(parts) - 1)
        if found is None:
            return None
        place = found
    inside = place.resolve().is_relative_to(root.resolve())
    return place if inside and place.is_file() else None


def _without_case_or_ending(folder: Path, part: str, last: bool) -> Path | None:
    """The entry that `part` names but for its case; where it is the last one, but for an ending, if there is only
    one.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return None
    same = [entry for entry in entries if entry.name.lower() == part.lower()]
    if same:
        return same[0]
    return _without_ending(entries, part) if last else None


def _without_ending(entries: Sequence[Path], part: str) -> Path | None:
    """The one file that `part` names but for an ending; one of DICOM's counts before others."""
    longer = [entry for entry in entries if entry.stem.lower() == part.lower() and entry.is_file()]
    same = [entry for entry in longer if entry.suffix.lower() in _DICOM_ENDINGS] or longer
    return same[0] if len(same) == 1 else None


def image_name(source: Source) -> str:
    """The name of an image file without its ending; empty where it is no image file."""
    name = (source.member or source.path.name).rsplit("/", 1)[-1]
    ending = next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: -len(ending)] if ending else ""


def is_hidden_member(member: str) -> bool:
    """Members of an archive that an operating system added; a DICOMDIR is an index only."""
    return any(_is_junk(part) or part.upper() == "DICOMDIR" for part in member.split("/"))


def _is_junk(name: str) -> bool:
    """What is no image of its own: left behind by a system, or data that belong to a header beside them."""
    return _is_left_behind(name) or name.lower().endswith(_IMAGE_DATA_ENDINGS)


def _is_left_behind(name: str) -> bool:
    """What an operating system or a version control leaves behind."""
    return name in _JUNK_NAMES or name.startswith("._")


def _identity(status: os.stat_result) -> _Identity:
    return status.st_dev, status.st_ino

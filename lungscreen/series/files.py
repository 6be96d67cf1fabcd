"""Inputs ─► Sources: every file that may hold images, from files, folders, DICOMDIRs and zip archives."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from lungscreen.dicomfile import DICOMDIR_CLASS, LONGEST_WHERE, get_items, get_texts, get_uid, parse_dicom, plain_value
from lungscreen.errors import InputError, Refusal
from lungscreen.records import Source
from lungscreen.series.archives import is_archive, list_members
from lungscreen.series.config import SeriesConfig
from lungscreen.series.rejects import Rejects
from lungscreen.sources import SourceReader

__all__ = ["IMAGE_ENDINGS", "image_name", "is_junk", "list_sources"]

IMAGE_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")
"""Image files that are read; `.nii.gz` is one ending."""

_IMAGE_DATA_ENDINGS = (".raw", ".zraw", ".raw.gz")
"""Pixel data that belong to a header file beside them."""

_JUNK_NAMES = frozenset({"__MACOSX", "Thumbs.db", "desktop.ini", ".DS_Store", ".git"})


def list_sources(
    inputs: Sequence[Path],
    config: SeriesConfig,
    reader: SourceReader,
    rejects: Rejects,
    skip: Path | None = None,
) -> tuple[list[tuple[str, Source]], list[Refusal]]:
    """Every file worth a look, as (input it came from, source), each real file once; and the inputs that fail.

    skip: a folder that is not entered where it lies inside an input (the results of an earlier run).

    Codes of failing inputs: `input-missing`, `input-empty`, `file-unreadable`, `archive-damaged`, `archive-unsafe`,
    `archive-too-large`, `dicomdir-reference`.
    """
    found: list[tuple[str, Source]] = []
    refused: list[Refusal] = []
    seen: set[tuple[int, int, str]] = set()
    for path in inputs:
        place = str(path)
        before = len(found)
        try:
            for source in _from_input(Path(path), config, reader, rejects, skip):
                key = _identity(source)
                if key not in seen:
                    seen.add(key)
                    found.append((place, source))
                else:
                    before -= 1
        except InputError as error:
            refused.append(Refusal(plain_value(error.where or place, LONGEST_WHERE), error.code, error.reason, "file"))
            continue
        except OSError as error:
            reason = f"cannot be searched ({error.strerror})"
            refused.append(Refusal(plain_value(place, LONGEST_WHERE), "file-unreadable", reason, "file"))
            continue
        if len(found) == before and not rejects.count(place):
            refused.append(
                Refusal(
                    plain_value(place, LONGEST_WHERE), "input-empty", "holds no file that could be an image", "file"
                )
            )
    return found, refused


def image_name(source: Source) -> str:
    """The name of an image file without its ending; empty where it is no image file."""
    name = (source.member or source.path.name).rsplit("/", 1)[-1]
    ending = next((ending for ending in IMAGE_ENDINGS if name.lower().endswith(ending)), "")
    return name[: -len(ending)] if ending else ""


def _from_input(
    path: Path, config: SeriesConfig, reader: SourceReader, rejects: Rejects, skip: Path | None
) -> Iterator[Source]:
    if not path.exists():
        raise InputError("input-missing", "does not exist", str(path))
    if path.is_dir():
        yield from _from_folder(path, config, rejects, skip)
    elif is_archive(path):
        yield from _visible(list_members(path, config, rejects))
    elif path.name.upper() == "DICOMDIR":
        yield from _from_dicomdir(path, reader, rejects)
    else:
        yield Source(path)


def _from_folder(root: Path, config: SeriesConfig, rejects: Rejects, skip: Path | None) -> Iterator[Source]:
    """Files below a folder, by name. Links are followed, but no folder is entered twice, and `skip` never."""
    entered: set[tuple[int, int]] = set()
    if skip is not None and skip.exists():
        entered.add((skip.stat().st_dev, skip.stat().st_ino))
    place = str(root)

    def complain(error: OSError) -> None:
        rejects.add(place, str(error.filename), "file-unreadable", "the folder cannot be read")

    for folder, folders, files in os.walk(root, followlinks=True, onerror=complain):
        device, number, _ = _identity(Source(Path(folder)))
        if (device, number) in entered:
            folders.clear()
            continue
        entered.add((device, number))
        folders[:] = sorted(name for name in folders if name not in _JUNK_NAMES)
        for name in sorted(files):
            try:
                yield from _from_folder_file(Path(folder, name), place, config, rejects)
            except OSError as error:
                rejects.add(place, str(Path(folder, name)), "file-unreadable", f"cannot be read ({error.strerror})")


def _from_folder_file(path: Path, place: str, config: SeriesConfig, rejects: Rejects) -> Iterator[Source]:
    if is_junk(path.name) or path.name.upper() == "DICOMDIR":
        return
    if not path.is_file():
        rejects.add(place, str(path), "file-unreadable", "not a regular file, or a link to nowhere")
    elif path.suffix.lower() == ".zip" and is_archive(path):
        try:
            yield from _visible(list_members(path, config, rejects))
        except InputError as error:
            rejects.add(place, str(path), error.code, error.reason)
    else:
        yield Source(path)


def _from_dicomdir(path: Path, reader: SourceReader, rejects: Rejects) -> Iterator[Source]:
    """The files that a DICOMDIR lists, found below its folder whatever the case of their names.

    Errors: those of `parse_dicom`; `dicomdir-reference` where it lists nothing that is there.
    """
    dataset = parse_dicom(reader.read(Source(path)), ["SOPClassUID", "DirectoryRecordSequence"])
    if get_uid(dataset.file_meta, "MediaStorageSOPClassUID") != DICOMDIR_CLASS:
        raise InputError("not-dicom", "named DICOMDIR but is none", str(path))
    found = 0
    for record in get_items(dataset, "DirectoryRecordSequence"):
        parts = get_texts(record, "ReferencedFileID")
        if not parts:
            continue
        target = _resolve(path.parent, parts)
        if target is None:
            rejects.add(str(path), "/".join(parts), "dicomdir-reference", "listed, but not there or outside the folder")
        else:
            found += 1
            yield Source(target)
    if not found:
        raise InputError("dicomdir-reference", "lists no file that is there", str(path))


def _resolve(root: Path, parts: tuple[str, ...]) -> Path | None:
    """The file that the parts name below `root`, or None; DICOM names are upper case, file systems may differ."""
    place = root
    for part in parts:
        if part in ("", ".", "..") or "/" in part or "\\" in part:
            return None
        exact = place / part
        if exact.exists():
            place = exact
            continue
        try:
            place = next(entry for entry in sorted(place.iterdir()) if entry.name.lower() == part.lower())
        except (StopIteration, OSError):
            return None
    inside = place.resolve().is_relative_to(root.resolve())
    return place if inside and place.is_file() else None


def _visible(sources: list[Source]) -> list[Source]:
    """Members without those that an operating system added; a DICOMDIR is an index only."""
    return [s for s in sources if not any(is_junk(part) or part.upper() == "DICOMDIR" for part in s.member.split("/"))]


def is_junk(name: str) -> bool:
    """What an operating system or a version control leaves behind, and data that belong to a header beside them."""
    return name in _JUNK_NAMES or name.startswith("._") or name.lower().endswith(_IMAGE_DATA_ENDINGS)


def _identity(source: Source) -> tuple[int, int, str]:
    """The same for the same file or folder on disk, whatever it is called; of one that just vanished, its name."""
    try:
        status = source.path.stat()
    except OSError:
        return 0, 0, str(source)
    return status.st_dev, status.st_ino, source.member

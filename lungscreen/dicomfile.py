"""Bytes → DICOM data set → plain values. Every value is hostile: nothing here raises on a bad one, but for `parse`.

Text comes back printable and bounded; a number that is no finite number comes back as None.
"""

from __future__ import annotations

import logging
import math
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any

from lungscreen import __version__
from lungscreen.errors import InputError
from lungscreen.sources import MOST_FILE_BYTES, MOST_RATIO, RATIO_FREE_BYTES
from lungscreen.uids import derived_uid

if TYPE_CHECKING:
    from pydicom.dataset import Dataset
    from pydicom.tag import BaseTag

    from lungscreen.records import Source
    from lungscreen.sources import SourceReader

__all__ = [
    "DICOMDIR_CLASS",
    "LONGEST_TEXT",
    "LONGEST_WHERE",
    "encode_dicom",
    "first_item",
    "get_items",
    "get_number",
    "get_numbers",
    "get_text",
    "get_texts",
    "get_uid",
    "get_whole",
    "looks_like_dicom",
    "parse_dicom",
    "plain_value",
    "quiet_pydicom",
    "read_header",
    "transfer_syntax",
]

LONGEST_WHERE = 1024
"""Characters that are kept of a path."""

LONGEST_TEXT = 64
"""Characters that are kept of a header's text (what DICOM allows a name's component and most others)."""

MOST_VALUES = 16
"""Values that are kept of a multi-valued text."""

MOST_HEADER_BYTES = 16 << 20
"""Longest header: the frames of a multi-frame object take a few kilobytes each."""

HEAD_BYTES = 1 << 16
"""Bytes of a file that are read first; nearly every CT header fits."""

DICOMDIR_CLASS = "1.2.840.10008.1.3.10"
"""Media storage directory: an index, no image."""

DEFLATED = "1.2.840.10008.1.2.1.99"
_EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_IMPLICIT_LITTLE = "1.2.840.10008.1.2"
_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_UID = re.compile(r"[0-9A-Za-z][0-9A-Za-z.\-_]{0,63}")
_FIRST_TAGS = (b"\x02\x00", b"\x08\x00", b"\x00\x08")
"""How a data set without preamble begins: group 0002 or 0008, the last one big endian."""


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes (132 or more) may be DICOM: the magic word, or a group number where it is left out."""
    return head[128:132] == b"DICM" or head[:2] in _FIRST_TAGS


@contextmanager
def quiet_pydicom() -> Iterator[None]:
    """No warnings and no log lines of pydicom's: they quote header values, and what matters is checked here."""
    logger = logging.getLogger("pydicom")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def parse_dicom(data: bytes, tags: Sequence[str] | None = None, pixels: bool = False) -> Dataset:
    """A data set from a file's bytes; only `tags` where given, without pixels unless asked for.

    Errors: `not-dicom` where it has no SOP class; `dicom-damaged` where it cannot be parsed; `file-too-large`.
    """
    return _parse(BytesIO(data), data, tags, pixels)


def read_header(reader: SourceReader, source: Source, tags: Sequence[str]) -> Dataset:
    """The named elements of a file's header; reads on only where the header is longer than `HEAD_BYTES`.

    Errors: those of `parse_dicom`, `file-unreadable`; `file-too-large` where the header is above `MOST_HEADER_BYTES`.
    """
    head = reader.read(source, HEAD_BYTES)
    file = BytesIO(head)
    try:
        dataset = _parse(file, head, tags, pixels=False)
        if len(head) < HEAD_BYTES or file.tell() < len(head):
            return dataset
    except InputError as error:
        # what names no SOP class in so many bytes names none: elements stand in the order of their tags
        if len(head) < HEAD_BYTES or error.code == "not-dicom":
            raise
    whole = reader.read(source, MOST_HEADER_BYTES)
    file = BytesIO(whole)
    dataset = _parse(file, whole, tags, pixels=False)
    if len(whole) == MOST_HEADER_BYTES and file.tell() >= len(whole) and transfer_syntax(dataset) != DEFLATED:
        raise InputError("file-too-large", f"its header is longer than {MOST_HEADER_BYTES >> 20} MiB")
    return dataset


def _parse(file: BytesIO, data: bytes, tags: Sequence[str] | None, pixels: bool) -> Dataset:
    import pydicom

    if not looks_like_dicom(data[:132]):
        raise InputError("not-dicom", "not a DICOM file")
    wanted: list[BaseTag | int] | None = None if tags is None else [_tag(keyword) for keyword in tags]
    try:
        dataset = _parse_deflated(file, data, wanted, pixels) if DEFLATED.encode() in data else None
        if dataset is None:
            file.seek(0)
            dataset = pydicom.dcmread(file, stop_before_pixels=not pixels, force=True, specific_tags=wanted)
    except InputError:
        raise
    except Exception as error:  # pydicom raises whatever its parts raise
        raise InputError("dicom-damaged", f"the DICOM file is damaged ({type(error).__name__})") from None
    # pydicom keeps what it read from: of a multi-frame object that is its pixels once more
    dataset.buffer = None
    if not get_uid(dataset, "SOPClassUID") and not get_uid(dataset.file_meta, "MediaStorageSOPClassUID"):
        raise InputError("not-dicom", "not a DICOM file: it names no SOP class")
    return dataset


def transfer_syntax(dataset: Dataset) -> str:
    """The transfer syntax, or the one that was recognised where the file does not say it."""
    stated = get_uid(getattr(dataset, "file_meta", None), "TransferSyntaxUID")
    if stated:
        return stated
    implicit, little = dataset.original_encoding
    if implicit:
        return _IMPLICIT_LITTLE
    return _EXPLICIT_LITTLE if little else _EXPLICIT_BIG


def plain_value(value: object, longest: int = LONGEST_TEXT) -> str:
    """One value as printable text: control characters out, blanks at the ends off, cut to `longest` characters."""
    text = str(value)[: 8 * longest]
    printable = text if text.isprintable() else "".join(c for c in text if c.isprintable())
    return printable.strip()[:longest].strip()


def get_text(dataset: Dataset | None, keyword: str, longest: int = LONGEST_TEXT) -> str:
    """A value as printable bounded text; the first one where there are several; empty where absent."""
    values = _values(dataset, keyword)
    return plain_value(values[0], longest) if values else ""


def get_texts(dataset: Dataset | None, keyword: str) -> tuple[str, ...]:
    """All values of a multi-valued text, printable and bounded; trailing empty ones off."""
    texts = [plain_value(value) for value in _values(dataset, keyword)[:MOST_VALUES]]
    while texts and not texts[-1]:
        texts.pop()
    return tuple(texts)


def get_whole(dataset: Dataset | None, keyword: str) -> str:
    """A text as it stands, however long: all of its values with their backslashes; blanks at the ends off."""
    return "\\".join(str(value) for value in _values(dataset, keyword)).strip(" \0")


def get_uid(dataset: Dataset | None, keyword: str) -> str:
    """A UID, or empty where it is absent or no UID.

    It is never mended: a number, one of several values or one without its control characters could be another study's.
    """
    values = _values(dataset, keyword)
    text = values[0].strip(" \0") if len(values) == 1 and isinstance(values[0], str) else ""
    return str(text) if _UID.fullmatch(text) else ""


def get_numbers(dataset: Dataset | None, keyword: str, count: int) -> tuple[float, ...] | None:
    """Exactly `count` finite numbers, or None."""
    values = _values(dataset, keyword)
    if len(values) != count:
        return None
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def get_number(dataset: Dataset | None, keyword: str) -> float | None:
    """One finite number, or None."""
    numbers = get_numbers(dataset, keyword, 1)
    return numbers[0] if numbers else None


def get_items(dataset: Dataset | None, keyword: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence."""
    from pydicom.sequence import Sequence as Items

    value = _element(dataset, keyword)
    return list(value) if isinstance(value, Items) else []


def first_item(dataset: Dataset | None, keyword: str) -> Dataset | None:
    """The first item of a sequence, or None."""
    items = get_items(dataset, keyword)
    return items[0] if items else None


def _values(dataset: Dataset | None, keyword: str) -> list[Any]:
    value = _element(dataset, keyword)
    if value is None or value == "":
        return []
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        return [value]
    # a PersonName iterates over its letters
    return [value] if type(value).__name__ == "PersonName" else list(value)


def _element(dataset: Dataset | None, keyword: str) -> object:
    """A value as pydicom gives it; the raw bytes as Latin-1 where pydicom cannot convert them."""
    if dataset is None:
        return None
    tag = _tag(keyword)
    if tag not in dataset:
        return None
    try:
        return dataset[tag].value
    except Exception:  # a value of the wrong form, an unknown character set, a recursive sequence
        pass
    try:
        raw = dataset.get_item(tag).value
        return raw.decode("latin-1") if isinstance(raw, bytes) else None
    except Exception:
        return None


@lru_cache(maxsize=256)
def _tag(keyword: str) -> BaseTag:
    from pydicom.tag import Tag

    return Tag(keyword)


def _parse_deflated(file: BytesIO, data: bytes, tags: list[BaseTag | int] | None, pixels: bool) -> Dataset | None:
    """A deflated data set, unpacked within limits, which pydicom has none of; None where it is not deflated.

    Errors: `dicom-damaged`, `file-too-large`; whatever pydicom raises.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.filereader import read_dataset, read_preamble

    for implicit in (False, True):
        file.seek(0)
        preamble = read_preamble(file, force=True)
        meta = read_dataset(file, implicit, True, stop_when=lambda tag, *_: tag >> 16 != _META_GROUP)
        if get_uid(meta, "TransferSyntaxUID") == DEFLATED:
            break
    else:
        return None
    unpacked = BytesIO(_inflate(data[file.tell() :], pixels))
    file.seek(len(data))
    dataset = read_dataset(
        unpacked, False, True, stop_when=None if pixels else lambda tag, *_: tag >= _PIXELS, specific_tags=tags
    )
    parsed = FileDataset("", dataset, preamble, FileMetaDataset(meta), False, True)
    parsed.set_original_encoding(False, True, dataset.original_character_set)
    return parsed


_META_GROUP = 0x0002
_PIXELS = 0x7FE00008


def _inflate(packed: bytes, pixels: bool) -> bytes:
    """The unpacked data set; without pixels its beginning, as far as a header may go.

    Errors: `dicom-damaged` where it does not unpack; `file-too-large` where it unpacks to a multiple that no image has.
    """
    most = MOST_FILE_BYTES if pixels else MOST_HEADER_BYTES
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    parts: list[bytes] = []
    size = 0
    try:
        while not unpacker.eof and packed and size < most:
            parts.append(unpacker.decompress(packed, min(most - size, RATIO_FREE_BYTES)))
            size += len(parts[-1])
            used = len(packed) - len(unpacker.unconsumed_tail)
            if len(parts[-1]) == RATIO_FREE_BYTES and len(parts[-1]) > MOST_RATIO * used:
                raise InputError("file-too-large", f"the deflated data set unpacks to {MOST_RATIO:g} times its size")
            packed = unpacker.unconsumed_tail
    except zlib.error:
        raise InputError("dicom-damaged", "the deflated data set is damaged") from None
    if pixels and not unpacker.eof:
        raise InputError("dicom-damaged", "the deflated data set breaks off, or is larger than any image")
    return b"".join(parts)


def encode_dicom(dataset: Dataset, transfer_syntax_uid: str) -> bytes:
    """A data set as a file of this transfer syntax, its file meta made anew; the same object gives the same bytes."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.filewriter import dcmwrite
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(derived_uid("lungscreen", "implementation"))
    meta.ImplementationVersionName = f"LUNGSCREEN {__version__}"[:16]
    plain: Any = dataset
    plain.file_meta = meta
    buffer = BytesIO()
    dcmwrite(buffer, plain, enforce_file_format=True)
    return buffer.getvalue()

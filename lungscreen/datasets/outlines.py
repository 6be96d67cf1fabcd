"""LIDC reader XML ─► Reading: what each of the readers drew.

The file is foreign: it is parsed by expat with document types and entities refused, its size, depth and counts bounded.
Source of the format: LIDC-IDRI's `LidcReadMessage` (Armato et al. 2011). An outline runs through the first pixels
*outside* the nodule; a nodule under 3 mm and a non-nodule are one point each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError

__all__ = ["DrawnNodule", "PointMark", "SeriesMarks", "SliceOutline", "read_outlines"]

LARGEST_XML = 1 << 26
"""Bytes of one XML file at most; the collection's largest is under 4 MB."""
DEEPEST = 32
"""Nesting of elements at most."""
MOST_PIXELS = 1 << 16
"""Pixel coordinates beyond this are no image's."""
RATINGS = (
    "subtlety",
    "internalStructure",
    "calcification",
    "sphericity",
    "margin",
    "lobulation",
    "spiculation",
    "texture",
    "malignancy",
)


@dataclass(frozen=True, eq=False)
class SliceOutline:
    """One closed outline on one slice.

    points: (n, 2) pixels (column, row) of the image as it was read.
    inclusion: False cuts a hole.
    """

    sop_uid: str
    z_mm: float
    inclusion: bool
    points: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class DrawnNodule:
    """One reader's nodule of 3 mm or more: outlines, and ratings where given (name → 1 to 6)."""

    reader: int
    name: str
    outlines: tuple[SliceOutline, ...]
    ratings: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PointMark:
    """A point: one reader's nodule under 3 mm, or what one called no nodule."""

    reader: int
    is_nodule: bool
    sop_uid: str
    z_mm: float
    column: float
    row: float


@dataclass(frozen=True, eq=False)
class SeriesMarks:
    """All readers' marks of one series."""

    series_uid: str
    study_uid: str
    readers: int
    drawn: tuple[DrawnNodule, ...]
    points: tuple[PointMark, ...]


def read_outlines(path: Path) -> SeriesMarks | None:
    """Read one LIDC XML file; None where it is another kind of LIDC message (a radiograph's).

    Errors: `outlines-unreadable` for what is no such XML, or hostile.
    """
    try:
        if path.stat().st_size > LARGEST_XML:
            raise InputError("outlines-unreadable", f"more than {LARGEST_XML >> 20} MiB", str(path))
        root = _parse(path.read_bytes())
        return _reading(root) if _tag(root) == "LidcReadMessage" else None
    except (OSError, ValueError, expat.ExpatError) as error:
        raise InputError("outlines-unreadable", f"no LIDC reading: {error}", str(path)) from None


def _parse(content: bytes) -> ElementTree.Element:
    """An element tree, or ValueError for a document type, an entity, or nesting without end."""
    builder, depth = ElementTree.TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise ValueError("elements are nested too deeply")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> int:
        raise ValueError("document types and entities are not read")

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler, parser.EntityDeclHandler = refuse, refuse
    parser.ExternalEntityRefHandler = refuse
    parser.Parse(content, True)
    return builder.close()


def _reading(root: ElementTree.Element) -> SeriesMarks:
    header = _child(root, "ResponseHeader")
    drawn: list[DrawnNodule] = []
    points: list[PointMark] = []
    sessions = list(_children(root, "readingSession"))
    for reader, session in enumerate(sessions):
        for element in _children(session, "unblindedReadNodule"):
            _add_nodule(reader, element, drawn, points)
        for element in _children(session, "nonNodule"):
            column, row = _pixels(element, "locus")[0]
            points.append(PointMark(reader, False, *_slice(element), float(column), float(row)))
    return SeriesMarks(
        series_uid=_text(header, "SeriesInstanceUid"),
        study_uid=_text(header, "StudyInstanceUID"),
        readers=len(sessions),
        drawn=tuple(drawn),
        points=tuple(points),
    )


def _add_nodule(reader: int, element: ElementTree.Element, drawn: list[DrawnNodule], points: list[PointMark]) -> None:
    outlines = tuple(
        SliceOutline(*_slice(roi), _text(roi, "inclusion").upper() != "FALSE", _pixels(roi, "edgeMap"))
        for roi in _children(element, "roi")
    )
    if not outlines:
        raise ValueError("a nodule without an outline")
    if len(outlines) == 1 and len(outlines[0].points) == 1:
        column, row = outlines[0].points[0]
        points.append(PointMark(reader, True, outlines[0].sop_uid, outlines[0].z_mm, float(column), float(row)))
    else:
        drawn.append(DrawnNodule(reader, _text(element, "noduleID")[:64], outlines, _ratings(element)))


def _ratings(element: ElementTree.Element) -> dict[str, int]:
    """Ratings from 1 to 6; whatever else stands there (0: not rated) is left out."""
    given = next(_children(element, "characteristics"), None)
    if given is None:
        return {}
    texts = {name: _text(given, name) for name in RATINGS}
    return {name: int(text) for name, text in texts.items() if text in ("1", "2", "3", "4", "5", "6")}


def _slice(element: ElementTree.Element) -> tuple[str, float]:
    z_mm = float(_text(element, "imageZposition"))
    if not math.isfinite(z_mm):
        raise ValueError("a slice's position is no number")
    return _text(element, "imageSOP_UID"), z_mm


def _pixels(element: ElementTree.Element, name: str) -> NDArray[np.int64]:
    points = [(int(_text(e, "xCoord")), int(_text(e, "yCoord"))) for e in _children(element, name)]
    if not points:
        raise ValueError(f"no point in {name}")
    pixels = np.array(points, dtype=np.int64)
    if pixels.min() < 0 or pixels.max() > MOST_PIXELS:
        raise ValueError("a pixel coordinate is no image's")
    return pixels


def _tag(element: ElementTree.Element) -> str:
    """The element's name without a prefix."""
    return element.tag.rsplit(":", 1)[-1]


def _children(element: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    return (child for child in element if _tag(child) == name)


def _child(element: ElementTree.Element, name: str) -> ElementTree.Element:
    found = next(_children(element, name), None)
    if found is None:
        raise ValueError(f"no {name}")
    return found


def _text(element: ElementTree.Element, name: str) -> str:
    return (_child(element, name).text or "").strip()

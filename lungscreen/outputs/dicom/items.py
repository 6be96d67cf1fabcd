"""Content items of structured reports (PS3.3 C.17.3): a data set each, named by a code, nested as the template says."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from lungscreen.outputs.dicom.codes import Concept
from lungscreen.outputs.dicom.common import code_item

if TYPE_CHECKING:
    from lungscreen.records import SourceSlice

__all__ = [
    "ACQUISITION",
    "CONCEPT",
    "CONTAINS",
    "INFERRED",
    "OBSERVATION",
    "PROPERTIES",
    "SELECTED",
    "code",
    "container",
    "count",
    "date",
    "image",
    "link",
    "numeric",
    "person",
    "point",
    "slice_reference",
    "text",
    "uid",
]

CONTAINS, CONCEPT, OBSERVATION = "CONTAINS", "HAS CONCEPT MOD", "HAS OBS CONTEXT"
PROPERTIES, INFERRED, SELECTED, ACQUISITION = "HAS PROPERTIES", "INFERRED FROM", "SELECTED FROM", "HAS ACQ CONTEXT"
"""How an item belongs to the one that holds it."""


def container(
    relation: str, name: Concept, children: Iterable[Dataset], *, template: str | None = None, separate: bool = False
) -> Dataset:
    """A heading with what stands under it.

    template: its identifier in PS3.16, where it has one.
    separate: whether the children are read each for itself, or as one text.
    """
    item = _item("CONTAINER", relation, name, children)
    item.ContinuityOfContent = "SEPARATE" if separate else "CONTINUOUS"
    if template is not None:
        of = Dataset()
        of.MappingResource, of.TemplateIdentifier = "DCMR", template
        item.ContentTemplateSequence = [of]
    return item


def code(relation: str, name: Concept, value: Concept, children: Iterable[Dataset] = ()) -> Dataset:
    """A coded value."""
    item = _item("CODE", relation, name, children)
    item.ConceptCodeSequence = [code_item(value)]
    return item


def text(relation: str, name: Concept, value: str) -> Dataset:
    """Words, in characters that the object's character set has."""
    item = _item("TEXT", relation, name)
    item.TextValue = value
    return item


def person(relation: str, name: Concept, value: str) -> Dataset:
    """A person's name."""
    item = _item("PNAME", relation, name)
    item.PersonName = value
    return item


def uid(relation: str, name: Concept, value: str) -> Dataset:
    """A UID."""
    item = _item("UIDREF", relation, name)
    item.UID = value
    return item


def date(relation: str, name: Concept, value: str) -> Dataset | None:
    """A day; None where the text is none."""
    if not re.fullmatch(r"\d{8}", value, re.ASCII):
        return None
    item = _item("DATE", relation, name)
    item.Date = value
    return item


def numeric(relation: str, name: Concept, value: float, unit: Concept, children: Iterable[Dataset] = ()) -> Dataset:
    """A measured value, whole as a floating-point number and in at most 16 characters beside it."""
    item, measured = _measured(relation, name, format_number_as_ds(float(value)), unit, children)
    measured.FloatingPointValue = float(value)
    return item


def count(relation: str, name: Concept, value: int, unit: Concept) -> Dataset:
    """A number of things."""
    return _measured(relation, name, str(value), unit)[0]


def image(relation: str, name: Concept | None, reference: Dataset, children: Iterable[Dataset] = ()) -> Dataset:
    """An image or a part of one, by its reference."""
    item = _item("IMAGE", relation, name, children)
    item.ReferencedSOPSequence = [reference]
    return item


def point(relation: str, name: Concept, column: float, row: float, on: Dataset) -> Dataset:
    """A place on an image.

    column, row: 0.5 is the centre of the first pixel.
    on: the item of the image.
    """
    item = _item("SCOORD", relation, name, [on])
    item.GraphicType, item.GraphicData = "POINT", [column, row]
    return item


def link(relation: str, place: Sequence[int]) -> Dataset:
    """An item that stands elsewhere in the tree, by its numbers from the root on."""
    item = Dataset()
    item.RelationshipType, item.ReferencedContentItemIdentifier = relation, list(place)
    return item


def slice_reference(one: SourceSlice) -> Dataset:
    """A slice of the series: its object, and its frame among many."""
    reference = Dataset()
    reference.ReferencedSOPClassUID = one.instance.sop_class_uid
    reference.ReferencedSOPInstanceUID = one.instance.sop_instance_uid
    if one.frame is not None:
        reference.ReferencedFrameNumber = one.frame
    return reference


def _item(kind: str, relation: str, name: Concept | None, children: Iterable[Dataset] = ()) -> Dataset:
    item = Dataset()
    item.RelationshipType, item.ValueType = relation, kind
    if name is not None:
        item.ConceptNameCodeSequence = [code_item(name)]
    held = list(children)
    if held:
        item.ContentSequence = held
    return item


def _measured(
    relation: str, name: Concept, value: str, unit: Concept, children: Iterable[Dataset] = ()
) -> tuple[Dataset, Dataset]:
    item, measured = _item("NUM", relation, name, children), Dataset()
    measured.NumericValue = value
    measured.MeasurementUnitsCodeSequence = [code_item(unit)]
    item.MeasuredValueSequence = [measured]
    return item, measured

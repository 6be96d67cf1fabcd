"""Every field of a report is where it says it is: in JSON, in its column, on the page, or off the page for a reason."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from enum import StrEnum
from functools import cache
from typing import Any

import jsonschema
import numpy as np
import pytest

from lungscreen.geometry import Geometry
from lungscreen.outputs.page.planes import PictureConfig
from lungscreen.outputs.page.whole import report_page
from lungscreen.outputs.report_json import document_json
from lungscreen.records import Exam, Lungs, NoduleType, Patient, Series, Volume
from lungscreen.results.columns import (
    finding_cells,
    finding_columns,
    owner_of,
    worklist_cells,
    worklist_columns,
)
from lungscreen.results.document import ReportDocument, ReportedFinding, WorklistRow
from lungscreen.results.fields import Part, field_types, optional_of, parts_of
from lungscreen.results.finished import Finished, MarkShape
from lungscreen.results.reader import read_document
from lungscreen.results.schema import report_schema
from lungscreen.results.values import from_plain, tidied, to_plain

from report_examples import ACQUISITION  # isort: skip

Path = tuple[str, ...]
COARSE = PictureConfig(crop_mm=20.0, pixel_mm=2.0, overview_pixel_mm=4.0)


# -- a report in which every field says something --------------------------------------------------------------------
def filled(kind: Any, part: Part | None = None, name: str = "") -> Any:
    """A value of a type; a record of it with every field filled."""
    inner = optional_of(kind)[0]
    origin = typing.get_origin(inner)
    if dataclasses.is_dataclass(inner):
        return typing.cast(type, inner)(**{p.name: filled(p.kind, p, p.name) for p in parts_of(inner)})
    if origin is tuple:
        kinds = typing.get_args(inner)
        return tuple(filled(k, part, name) for k in kinds[:1] * (1 if Ellipsis in kinds else len(kinds)))
    if origin is typing.Literal:
        return typing.get_args(inner)[0]
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {f"{name}-entry": filled(typing.get_args(inner)[1], part, f"{name}-value")}
    if issubclass(inner, StrEnum):
        return next(iter(inner))
    return scalar(inner, part, name)


def scalar(kind: type, part: Part | None, name: str) -> Any:
    said = part.said if part else None
    if kind is bool:
        return True
    if kind is str and said and said.pattern:
        return {r"^1\.[0-9]+$": "1.4", "^[0-9a-f]{12}$": "0" * 12}[said.pattern]
    if kind is str:
        return said.one_of[0] if said and said.one_of else name
    low = 0.0 if said is None or said.least is None else said.least
    return kind(low + (0.25 if said and said.most == 1 else 1))


def other(value: Any, part: Part) -> Any:
    """A different value that the field may have too."""
    kind, said = part.kind, part.said
    if typing.get_origin(kind) is typing.Literal:
        return next((word for word in typing.get_args(kind) if word != value), value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, StrEnum):
        return next(word for word in type(value) if word != value)
    if isinstance(value, str) and (said.pattern or said.one_of):
        return {"1.4": "1.5", "0" * 12: "1" * 12}.get(value, value)
    if isinstance(value, str):
        return f"{value} changed"
    if isinstance(value, tuple):
        return (other(value[0], dataclasses.replace(part, kind=type(value[0]))), *value[1:])
    if isinstance(value, Mapping):
        inner = dataclasses.replace(part, kind=str)
        return {name: other(item, inner) for name, item in value.items()}
    return type(value)(0.5 if said.most == 1 else value + 2)


def leaves(kind: type, path: Path = ()) -> Iterator[tuple[Path, Part]]:
    """Every field that holds no record, with its path."""
    for part in parts_of(kind):
        inner = part.kind
        if typing.get_origin(inner) is tuple and dataclasses.is_dataclass(typing.get_args(inner)[0]):
            inner = typing.get_args(inner)[0]
        if dataclasses.is_dataclass(inner):
            yield from leaves(typing.cast(type, inner), (*path, part.name))
        else:
            yield (*path, part.name), part


def at(record: Any, path: Path, change: Callable[[Any], Any]) -> Any:
    """The record with one field changed; of a list, the first entry's. Unchanged where the way there is not."""
    if not path:
        return change(record)
    if isinstance(record, tuple):
        return (at(record[0], path, change), *record[1:]) if record else record
    if record is None:
        return None
    return replace(record, **{path[0]: at(getattr(record, path[0]), path[1:], change)})


FIELDS = list(leaves(ReportDocument))
IDS = [".".join(path) for path, _ in FIELDS]


@cache
def whole() -> ReportDocument:
    document = tidied(filled(ReportDocument))
    return at(document, ("findings", "type"), lambda _: NoduleType.PART_SOLID)


@cache
def variants() -> tuple[ReportDocument, ...]:
    """The whole report, and others in which something is not known, so that what stands in its place is shown."""
    full = whole()
    bare = at(full, ("findings", "location", "lobe"), lambda _: None)
    bare = at(bare, ("no_nodules", "lobe"), lambda _: None)
    bare = at(bare, ("no_nodules", "mean_diameter_mm"), lambda _: None)
    bare = at(bare, ("findings", "measurement"), lambda _: None)
    bare = at(bare, ("findings", "location", "perifissural"), lambda _: False)
    lacking = at(full, ("findings", "risks", "probability"), lambda _: None)
    lacking = at(lacking, ("person", "risk", "probability"), lambda _: None)
    lacking = at(lacking, ("findings", "risks", "sources"), lambda _: ("unverified: a source",))
    lacking = at(lacking, ("findings", "advice", "sources"), lambda _: ("unverified: a source",))
    lacking = at(lacking, ("person", "from_header"), lambda _: ("age",))
    unverified = at(full, ("findings", "risks", "sources"), lambda _: ("unverified: a source",))
    return full, bare, lacking, unverified


@cache
def scan() -> tuple[Volume, Lungs, tuple[MarkShape, ...]]:
    geometry = Geometry.axial((6, 10, 12), (4.0, 4.0, 3.0), (-20.0, 5.0, -90.0))
    series = Series("dicom", "1.2", Patient(), Exam("1"), ACQUISITION)
    volume = Volume(np.full(geometry.shape, -700, np.int16), geometry, series)
    lungs = Lungs(np.ones(geometry.shape, np.uint8), 1.0, 1.0)
    place = tuple(float(c) for c in geometry.to_mm((2, 4, 5)))
    return volume, lungs, (MarkShape(1, place, place, 5.0, 4),)  # type: ignore[arg-type]


def page(document: ReportDocument) -> str:
    volume, lungs, shapes = scan()
    return report_page(Finished(document, volume, lungs, shapes, shapes), COARSE)


@cache
def page_of_variant(number: int) -> str:
    return page(variants()[number])


# -- where it is shown -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("owner", list(field_types(ReportDocument)), ids=lambda kind: kind.__name__)
def test_a_field_is_on_the_page_or_off_it_as_it_says(owner: type) -> None:
    """Changing it changes the page of a report that has it, somewhere; or no page where it says why not."""
    for part in parts_of(owner):
        paths = [path for path, other_part in FIELDS if other_part is part]
        if not paths:
            continue  # a record, whose own fields have their turn
        shown = any(is_shown(path, part, number) for path in paths for number in range(len(variants())))
        assert shown != bool(part.said.off_page), f"{part.name}: {part.said.off_page or 'it says that it is shown'}"


def is_shown(path: Path, part: Part, number: int) -> bool:
    """Whether another value gives another page; of a constant, whether the page has it."""
    document = variants()[number]
    changed = at(document, path, lambda value: value if value is None else other(value, part))
    if changed != document:
        return page(changed) != page_of_variant(number)
    values: list[Any] = []
    at(document, path, values.append)
    return len(typing.get_args(part.kind)) == 1 and f">{values[0]} " in page_of_variant(number)


@pytest.mark.parametrize(("path", "part"), FIELDS, ids=IDS)
def test_a_field_is_in_json_and_comes_back(path: Path, part: Part) -> None:
    changed = at(whole(), path, lambda value: other(value, part))
    text = json.loads(document_json(changed))
    assert read_document(text) == changed
    for name in path:
        text = text[0][name] if isinstance(text, list) else text[name]
    assert text is not None


IN_COLUMNS = [(path, part) for path, part in FIELDS if part.said.columns]


@pytest.mark.parametrize(("path", "part"), IN_COLUMNS, ids=[".".join(path) for path, _ in IN_COLUMNS])
def test_a_column_follows_its_field(path: Path, part: Part) -> None:
    """Its cells change with the field, and no other cell does."""
    before, after = whole(), at(whole(), path, lambda value: other(value, part))
    rows = [dict(zip(finding_columns(), cells(document), strict=True)) for document in (before, after)]
    moved = {name for name in finding_columns() if rows[0][name] != rows[1][name]}
    mine = {column.name for column in part.said.columns}
    assert moved <= mine | ({"solid_mean_diameter_mm", "solid_volume_mm3"} if path[-1] == "type" else set())
    assert moved or path[-1] in ("risks", "exams"), "risks and earlier exams are lists of records"


def cells(document: ReportDocument) -> tuple[str, ...]:
    (finding,) = document.findings
    return finding_cells(owner_of(document), finding.number, finding)


@pytest.mark.parametrize("kind", [ReportDocument, WorklistRow])
def test_columns_are_numbered_without_a_gap(kind: type) -> None:
    """A new one takes the next number: columns are only ever added at the end."""
    places = [c.place for inner in field_types(kind) for part in parts_of(inner) for c in part.said.columns]
    first = 2 if kind is WorklistRow else 1
    assert sorted(places) == list(range(first, first + len(places)))


def test_the_worklist_has_its_fields_in_its_columns() -> None:
    row = WorklistRow(
        patient_id="P", study_uid="1.2", status="done", category="4A", top_probability=0.25, findings=2, report="x.html"
    )
    told = dict(zip(worklist_columns(), worklist_cells(3, row), strict=True))
    known = {
        "rank": "3", "patient_id": "P", "study_uid": "1.2", "status": "done", "category": "4A",
        "top_probability": "0.25", "findings": "2", "report": "x.html",
    }  # fmt: skip
    assert {name: text for name, text in told.items() if text} == known


# -- types and schema ------------------------------------------------------------------------------------------------
def test_a_full_report_fits_the_schema_and_an_odd_one_does_not() -> None:
    check = jsonschema.Draft202012Validator(report_schema())
    document = to_plain(whole())
    check.validate(document)
    for path, value in (
        (("findings", 0, "measurement", "long_axis_mm"), -1.0),
        (("findings", 0, "detection_score"), 1.5),
        (("findings", 0, "type"), "metal"),
        (("key",), "P-17"),
        (("exam", "extra"), 1),
        (("findings", 0, "position_mm"), [1.0, 2.0]),
    ):
        odd = json.loads(json.dumps(document))
        inner = odd
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        assert not check.is_valid(odd), path


def test_what_came_later_is_missing_in_old_reports_and_reads_as_not_known() -> None:
    """Reports of 1.0 to 1.3: without the fields that came since, they fit the schema and are read."""
    check = jsonschema.Draft202012Validator(report_schema())
    for version in ("1.0", "1.1", "1.2", "1.3"):
        document = {**without_later(to_plain(whole()), ReportDocument, version), "schema_version": version}
        check.validate(document)
        read = read_document(document)
        (finding,) = read.findings
        assert read.schema_version == version
        assert (finding.change is None) == (version < "1.1")
        assert (finding.attributes is None, read.no_nodules == ()) == (version < "1.2", version < "1.2")
        assert (read.person is None, finding.location.fissure_mm is None) == (version < "1.3", version < "1.3")
        assert finding.advice == ()


def without_later(value: Any, kind: Any, version: str) -> Any:
    """A document as that version had it."""
    inner = optional_of(kind)[0]
    if isinstance(value, list) and typing.get_origin(inner) is tuple:
        return [without_later(item, typing.get_args(inner)[0], version) for item in value]
    if not dataclasses.is_dataclass(inner) or not isinstance(value, dict):
        return value
    parts = [part for part in parts_of(inner) if not part.said.since or part.said.since <= version]
    return {part.name: without_later(value[part.name], part.kind, version) for part in parts}


def test_a_finding_of_a_later_version_is_read_without_what_is_not_known() -> None:
    plain = {**to_plain(whole()), "schema_version": "1.99", "of a later version": {"a": 1}}
    plain["findings"][0]["also new"] = [1]
    assert replace(read_document(plain), schema_version="1.4") == whole()


def test_from_plain_is_the_way_back() -> None:
    (finding,) = whole().findings
    assert from_plain(ReportedFinding, to_plain(finding)) == finding

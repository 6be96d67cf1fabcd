"""Header ─► two short texts, and back: what the index keeps, so that no header is read twice.

The first is the same for nearly all slices of a series, and kept once; the second is a slice's own.
"""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from lungscreen.errors import InputError
from lungscreen.records import Acquisition, Exam, Instance, Patient, Source
from lungscreen.series.headers import Header

__all__ = ["pack_header", "unpack_header"]

OF_A_SLICE = {
    "": ("positions_mm", "problem"),
    "instance": (
        "sop_instance_uid",
        "frames",
        "instance_number",
        "position_mm",
        "acquisition_number",
        "temporal_position",
        "acquisition_time",
    ),
    "acquisition": ("tube_current_ma", "exposure_mas", "ctdi_vol_mgy"),
}
"""Fields that differ from slice to slice, by record; of the header itself under the empty name."""

PARTS: dict[str, type[Any]] = {"instance": Instance, "patient": Patient, "exam": Exam, "acquisition": Acquisition}
"""Records within a header."""


def pack_header(header: Header) -> tuple[str, str]:
    """What a header has in common with those of its series, and what is its own. Everything but the file's name."""
    whole: dict[str, Any] = {"": _values(header), **{name: _values(getattr(header, name)) for name in PARTS}}
    for name in PARTS:
        del whole[""][name]
    del whole["instance"]["source"]
    if header.problem is not None:
        whole[""]["problem"] = (header.problem.code, header.problem.reason, header.problem.where)
    own = [whole[part].pop(name) for part, names in OF_A_SLICE.items() for name in names]
    return json.dumps(whole, separators=(",", ":")), json.dumps(own, separators=(",", ":"))


def unpack_header(source: Source, common: str, own: str) -> Header:
    """The header again.

    Errors: ValueError, KeyError, TypeError where the texts are none of `pack_header`'s.
    """
    whole = {part: {name: _frozen(value) for name, value in row.items()} for part, row in json.loads(common).items()}
    values = iter(json.loads(own))
    for part, names in OF_A_SLICE.items():
        whole[part].update((name, _frozen(next(values))) for name in names)
    whole["instance"]["source"] = source
    top = whole[""]
    if top["problem"] is not None:
        top["problem"] = InputError(*top["problem"])
    return Header(**top, **{name: kind(**whole[name]) for name, kind in PARTS.items()})


def _values(record: Any) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def _frozen(value: Any) -> Any:
    """Lists as the tuples that they were."""
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value

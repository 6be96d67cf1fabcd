"""A signed read ─► DICOM: a structured report that a person verified, and the outlines of its nodules.

What the reader said stands there; nodules that the reader rejected do not. Made once, kept beside the pinned report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lungscreen.files import replace_file
from lungscreen.geometry import Geometry
from lungscreen.outputs.masks import paint_findings
from lungscreen.outputs.room_pack import PACK_FILE, Pack, PackError
from lungscreen.records import NoduleType, Outline, Volume
from lungscreen.results.document import ReportDocument, ReportedFinding, ReportedNotice
from lungscreen.results.reader import read_result
from lungscreen.results.values import from_plain
from lungscreen.room.work import check_images, find_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungscreen.outputs.dicom.common import SignedBy

__all__ = ["SignedRead", "build_objects", "fill_polygons", "object_path", "write_objects"]


@dataclass(frozen=True)
class SignedRead:
    """What the objects are made from.

    signed: the signed canonical JSON as data.
    sha256: of its text.
    outlines: of the reader's own marks, by the mark's id.
    """

    signed: dict[str, Any]
    sha256: str
    outlines: Mapping[str, Any]
    organisation: str


def object_path(folder: Path, number: str, kind: str) -> Path:
    """Where an object of a read is kept, in the folder of its pin."""
    return folder / f"{number}-{kind}.dcm"


def write_objects(
    results: Path, folder: Path, read: SignedRead, pipeline_name: str, key_file: Path | None
) -> tuple[str, ...]:
    """Read the study's files again and write what can be made of the read. Returns the kinds that there are.

    A read without a nodule has no outlines. Errors: `input-missing` and what keeps the series from being read.
    """
    from lungscreen.pipeline import read_first_series, read_pipeline

    study = find_images(results, read.signed["study"], key_file)
    _, volume = read_first_series(study, read_pipeline(pipeline_name).volume)
    check_images(volume, folder)
    try:
        found = Pack(folder / PACK_FILE).outlines() or {}
    except PackError:
        found = {}
    document = read_result(folder / "report.json")
    made = build_objects(document, volume, read, found)
    for kind, content in made.items():
        replace_file(object_path(folder, read.signed["read"], kind), content)
    return tuple(made)


def build_objects(
    document: ReportDocument, volume: Volume, read: SignedRead, outlines: Mapping[int, Any]
) -> dict[str, bytes]:
    """The objects' bytes by kind, `sr` and, where there is a nodule, `seg`.

    document: the pinned report.
    outlines: CAD's, by the finding's number, as `outline_polygons` gives them.
    """
    from lungscreen.dicomfile import quiet_pydicom
    from lungscreen.outputs.dicom.common import encode
    from lungscreen.outputs.dicom.identity import ResultIdentity, content_moment
    from lungscreen.outputs.dicom.measurement_report import build_measurement_report
    from lungscreen.outputs.dicom.places import on_source_slices
    from lungscreen.outputs.dicom.segmentation import build_findings_segmentation
    from lungscreen.outputs.dicom.source import read_source

    rows = read.signed["computed"]["findings"]
    said = _said(document, read.signed)
    drawn = [read.outlines.get(r["ref"]) if r["source"] == "reader" else outlines.get(int(r["ref"])) for r in rows]
    geometry = volume.geometry
    labels = paint_findings(
        geometry,
        [
            (f.number, f.position_mm, fill_polygons(lines, geometry))
            for f, lines in zip(said.findings, drawn, strict=True)
        ],
    )
    with quiet_pydicom():
        source = read_source(volume)
        digest = hashlib.blake2b(f"signed read {read.sha256}".encode(), digest_size=32).hexdigest()
        identity = ResultIdentity(digest, *content_moment(source.moments))
        signed = _signed_by(read)
        own = on_source_slices(labels, volume)
        segments = build_findings_segmentation(own, said.findings, source, identity, "binary", signed)
        made = {"sr": encode(build_measurement_report(said, source, identity, segments, signed))}
        if segments is not None:
            made["seg"] = encode(segments.dataset)
    return made


# -- what the reader said, in the words of a report ------------------------------------------------------------------
def _said(document: ReportDocument, signed: dict[str, Any]) -> ReportDocument:
    computed = signed["computed"]
    measured = {mark["id"]: mark["finding"] for mark in signed["marks"]}
    known = {str(finding.number): finding for finding in document.findings}
    findings = [
        _finding(
            n,
            row,
            from_plain(ReportedFinding, measured[row["ref"]]) if row["source"] == "reader" else known[row["ref"]],
        )
        for n, row in enumerate(computed["findings"], 1)
    ]
    return replace(
        document,
        category=computed["category"] or "not assessed",
        category_reason=computed["reason"],
        management=computed["management"] or None,
        not_assessed=tuple(computed["not_assessed"]),
        findings=tuple(findings),
        no_nodules=(),
        cut_off=0,
        notices=tuple(ReportedNotice(code=n["code"], text=n["text"]) for n in computed["notices"]),
    )


def _finding(number: int, row: dict[str, Any], before: ReportedFinding) -> ReportedFinding:
    """A nodule as the reader has it; what the networks say stays with a nodule that they found, no other."""
    size = before.measurement
    if size is not None and row["mean_diameter_mm"] is not None:
        names = ("long_axis_mm", "short_axis_mm", "mean_diameter_mm")
        size = replace(size, **{name: row[name] for name in names}) if row["volume_mm3"] is None else size
    if row["source"] == "reader":
        before = replace(before, malignancy=None, nodule_probability=None, detection_score=None, attributes=None)
    return replace(
        before,
        number=number,
        type=NoduleType(row["type"]),
        measurement=size,
        category=row["category"],
        category_reason=row["reason"] or None,
        category_clause=row["clause"] or None,
        management=row["management"] or None,
        growth=row["growth"] or None,
        notices=tuple(ReportedNotice(code=n["code"], text=n["text"]) for n in row["notices"]),
    )


def _signed_by(read: SignedRead) -> SignedBy:
    from lungscreen.outputs.dicom.common import SignedBy

    signed = read.signed
    exam, rows = signed["content"]["exam"], signed["computed"]["findings"]
    said = [f"{signed['kind']} read, mode {signed['mode']}. {signed['cad']}", f"SHA-256 of the read {read.sha256}"]
    said += [f"Image quality: {exam['quality']}", f"Modifier S: {exam['s_text']}" if exam["s_modifier"] else ""]
    said += [exam["text"], *(f"Finding {n}: {row['note']}" for n, row in enumerate(rows, 1) if row["note"])]
    given = {n for n, row in enumerate(rows, 1) if row["mean_diameter_mm"] is not None and row["volume_mm3"] is None}
    when = datetime.fromtimestamp(signed["times"]["signed"], UTC)
    own = {n for n, row in enumerate(rows, 1) if row["source"] == "reader"}
    return SignedBy(
        signed["signed_by"]["name"],
        read.organisation,
        when,
        sized=frozenset(given),
        own=frozenset(own),
        statements=tuple(filter(None, said)),
    )


# -- outlines --------------------------------------------------------------------------------------------------------
def fill_polygons(polygons: Mapping[str, Any] | None, geometry: Geometry) -> Outline | None:
    """The mask whose outline `outline_polygons` gave, from its axial lines; None without any.

    The lines pass half-way between voxels, so that a voxel's centre is inside or outside, never on one.
    """
    lines = [
        geometry.to_index(np.asarray(line, float))
        for lines in (polygons or {}).get("axial", {}).values()
        for line in lines
    ]
    if not lines:
        return None
    points = np.concatenate(lines)
    low = np.maximum(np.floor(points.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int), np.array(geometry.shape) - 1)
    mask = np.zeros(high - low + 1, bool)
    rows, columns = np.mgrid[low[1] : high[1] + 1, low[2] : high[2] + 1]
    for line in lines:
        mask[round(float(line[0, 0])) - low[0]] ^= _inside(line[:, 1:], rows, columns)
    return Outline((int(low[0]), int(low[1]), int(low[2])), mask)


def _inside(line: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[np.bool_]:
    """Even-odd rule: whether a ray along the row crosses the closed line an odd number of times."""
    inside = np.zeros(rows.shape, bool)
    for (r0, c0), (r1, c1) in zip(line, np.roll(line, -1, axis=0), strict=True):
        if r0 != r1:
            crosses = (r0 > rows) != (r1 > rows)
            inside ^= crosses & (columns < c0 + (rows - r0) / (r1 - r0) * (c1 - c0))
    return inside

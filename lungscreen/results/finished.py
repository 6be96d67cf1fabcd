"""Report ─► Finished: the document with what pictures, masks and objects need beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from lungscreen.geometry import Vector
from lungscreen.records import Attribution, Candidate, EarlierView, Finding, Lungs, Outline, Report, Verdict, Volume
from lungscreen.results.build import build_document, finding_position
from lungscreen.results.document import ReportDocument

__all__ = ["Finished", "MarkShape", "finish_report"]


@dataclass(frozen=True, eq=False)
class MarkShape:
    """Where a finding, or a mark that is none, lies on the volume. Places are LPS mm."""

    number: int
    """As in the document."""
    position_mm: Vector
    """As in the document: the voxel that holds it carries the number in the masks."""
    centre_mm: Vector
    """Where the detector, or a reader, points."""
    diameter_mm: float
    """How large to draw it: as measured, else as the detector has it, 0 where neither knows."""
    slice_from_top: int
    outline: Outline | None = None
    attribution: Attribution | None = None
    earlier_view: EarlierView | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """A study that was read: what every output is made from."""

    document: ReportDocument
    volume: Volume
    lungs: Lungs
    findings: tuple[MarkShape, ...]
    """In the order of the document's findings."""
    no_nodules: tuple[MarkShape, ...] = ()
    """In the order of the document's marks."""
    candidates: tuple[Candidate, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    """Of each candidate, in their order; empty where nothing was decided."""
    earlier: Path | None = None
    """Folder of the result that this one replaces, which may not be there."""


def finish_report(report: Report, key: str) -> Finished:
    """What the stages found, in the words of a result.

    key: of the study, which names its folder.

    Errors: `internal-error` for a number that is none where one must be.
    """
    return Finished(
        build_document(report, key),
        report.volume,
        report.lungs,
        tuple(_shape(finding, report.volume) for finding in report.findings),
        tuple(_shape(mark, report.volume) for mark in report.no_nodules),
        report.candidates,
        report.verdicts,
    )


def _shape(finding: Finding, volume: Volume) -> MarkShape:
    size = finding.measurement
    diameter_mm = size.mean_diameter_mm if size else finding.candidate.diameter_mm
    return MarkShape(
        finding.number,
        finding_position(finding, volume.geometry),
        finding.candidate.centre_mm,
        diameter_mm if math.isfinite(diameter_mm) else 0.0,
        finding.location.slice_from_top,
        finding.outline,
        finding.attribution,
        finding.earlier_view,
    )

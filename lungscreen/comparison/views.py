"""Findings, the earlier exam's volume, Alignment ─► findings with the earlier exam's slice at their place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lungscreen.comparison.align import Alignment
from lungscreen.comparison.priors import Prior
from lungscreen.geometry import Vector
from lungscreen.records import EarlierView, Evidence, Finding, Volume

__all__ = ["add_earlier_views"]

LEAST_SIDE_MM = 100.0
"""A view is at least so wide, and four times as wide as its nodule."""


def add_earlier_views(
    findings: Sequence[Finding], then: Volume, alignment: Alignment, prior: Prior
) -> tuple[Finding, ...]:
    """The findings, each with a view of the earlier exam; without one where that scan does not show the place.

    A nodule that was measured there is shown where it was; another one where the aligned exam lets it be expected.
    """
    return tuple(replace(one, earlier_view=_view(one, then, alignment, prior)) for one in findings)


def _view(finding: Finding, then: Volume, alignment: Alignment, prior: Prior) -> EarlierView | None:
    place = _measured_place(finding, prior) or alignment.to_earlier(finding.candidate.centre_mm)
    if not then.geometry.contains(place):
        return None
    size = finding.measurement.mean_diameter_mm if finding.measurement else finding.candidate.diameter_mm
    return EarlierView(f"{prior.date:%Y%m%d}", _slice_around(then, place, max(LEAST_SIDE_MM, 4 * size)), place)


def _measured_place(finding: Finding, prior: Prior) -> Vector | None:
    """Where the nodule was measured in that exam's images."""
    last = finding.change.exams[-1] if finding.change and finding.change.exams else None
    if last is None or last.study_uid != prior.study_uid or last.how is Evidence.REPORT:
        return None
    return last.centre_mm


def _slice_around(volume: Volume, place: Vector, side_mm: float) -> Volume:
    """The slice through a place, as far as it lies within the side and the scan: a volume of one slice."""
    shape, spacing = np.array(volume.geometry.shape), np.array(volume.geometry.spacing_mm)
    at = np.clip(np.rint(volume.geometry.to_index(place)).astype(int), 0, shape - 1)
    reach = np.ceil(side_mm / 2 / spacing).astype(int)
    reach[0] = 0
    low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, shape)
    hu = volume.hu[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].copy()
    start = int(low[0]), int(low[1]), int(low[2])
    return Volume(hu, volume.geometry.crop(start, hu.shape), volume.series)

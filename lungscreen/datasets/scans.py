"""What every dataset is turned into before it is prepared: scans, and how to get their annotations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lungscreen.config import config_hash
from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.evaluation.tables import Nodules
from lungscreen.geometry import Geometry, Vector
from lungscreen.records import Series, Volume

__all__ = ["Annotation", "AnnotationTables", "Annotations", "Dataset", "DatasetScan", "check_inside", "stored_geometry"]


@dataclass(frozen=True, slots=True)
class Annotation:
    """A nodule or another finding: centre in LPS mm, diameter (negative where unknown), type where known."""

    centre_mm: Vector
    diameter_mm: float
    type: str = ""
    readers: int | None = None
    """Readers who marked it, where that is known."""


@dataclass(frozen=True)
class Annotations:
    """What is annotated in one scan. `excluded` is neither a sure nodule nor surely none."""

    nodules: tuple[Annotation, ...] = ()
    excluded: tuple[Annotation, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class DatasetScan:
    """One scan that can be prepared.

    patient: what the splits keep together, never written in clear; empty where unknown.
    annotate: finds the annotations once the volume is there.
    complete: every nodule is annotated, so all else is none.
    """

    series: Series
    patient: str
    annotate: Callable[[Volume], Annotations]
    complete: bool
    licence: str = ""
    original_series_uid: str = ""
    fold: str = ""
    """The part of the dataset that its makers put it in (LUNA16's subsets)."""
    fingerprint: str = ""
    """Changes where the annotations' source changes: a shard is kept only while this is the same."""
    name: str = ""
    """Of its shard, where that may be known; else 12 hex digits of the series UID."""


@dataclass(frozen=True)
class Dataset:
    """A dataset as it lies on the disk."""

    kind: str
    scans: tuple[DatasetScan, ...]
    refused: tuple[Refusal, ...] = ()
    notices: tuple[Notice, ...] = field(default=())


@dataclass(frozen=True, eq=False)
class AnnotationTables:
    """Annotations of many scans, from tables of nodules and of excluded findings."""

    nodules: Mapping[str, tuple[Annotation, ...]]
    excluded: Mapping[str, tuple[Annotation, ...]]

    @classmethod
    def of(cls, nodules: Nodules, excluded: Nodules) -> AnnotationTables:
        """By series UID; excluded findings that are listed several times count once."""
        kept, left = _by_series(nodules), _by_series(excluded)
        return cls(kept, {uid: tuple(dict.fromkeys(rows)) for uid, rows in left.items()})

    def fingerprint(self, series_uid: str) -> str:
        """What `DatasetScan.fingerprint` wants."""
        return config_hash([self.nodules.get(series_uid), self.excluded.get(series_uid)])

    def finder(self, series_uid: str) -> Callable[[Volume], Annotations]:
        """What `DatasetScan.annotate` wants."""
        found = Annotations(self.nodules.get(series_uid, ()), self.excluded.get(series_uid, ()))
        return lambda _: found


def _by_series(table: Nodules) -> dict[str, tuple[Annotation, ...]]:
    rows: dict[str, list[Annotation]] = {}
    types = table.types or ("",) * len(table.series)
    for uid, centre, diameter, kind in zip(table.series, table.centres_mm, table.diameters_mm, types, strict=True):
        x, y, z = centre
        rows.setdefault(uid, []).append(Annotation((float(x), float(y), float(z)), float(diameter), kind))
    return {uid: tuple(annotations) for uid, annotations in rows.items()}


def check_inside(annotations: Annotations, volume: Volume) -> Annotations:
    """The same annotations, if every nodule's centre lies in the volume.

    An excluded finding beyond it (a mark outside a cropped image) is left out, with a notice.

    Errors: `annotation-outside`.
    """
    outside = [a for a in annotations.nodules if not volume.geometry.contains(a.centre_mm)]
    if outside:
        x, y, z = outside[0].centre_mm
        raise InputError(
            "annotation-outside",
            f"{len(outside)} of {len(annotations.nodules)} nodules lie outside the volume, one at ({x:.1f}, {y:.1f},"
            f" {z:.1f})",
        )
    kept = tuple(a for a in annotations.excluded if volume.geometry.contains(a.centre_mm))
    left = len(annotations.excluded) - len(kept)
    said = (Notice("excluded-outside", f"{left} excluded findings lie outside the volume"),) if left else ()
    return Annotations(annotations.nodules, kept, annotations.notices + said)


def stored_geometry(volume: Volume) -> Geometry:
    """The grid of the images as they were stored (slices in either order): what pixel coordinates refer to."""
    affine = np.eye(4)
    affine[:3, 3] = volume.geometry.origin_mm
    shape = [0, 0, 0]
    for axis, (source, flipped) in enumerate(zip(volume.source_order, volume.source_flips, strict=True)):
        column, size = volume.geometry.affine[:3, axis], volume.geometry.shape[axis]
        shape[source] = size
        affine[:3, source] = -column if flipped else column
        if flipped:
            affine[:3, 3] += column * (size - 1)
    return Geometry(affine, (shape[0], shape[1], shape[2]), volume.geometry.frame_of_reference)

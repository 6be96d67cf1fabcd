"""Two exams of one chest, small and quick: a year later it lies otherwise, on another grid, and a nodule grew."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from report_examples import ACQUISITION, EXAM, PATIENT, changed, make_finding, make_report
from scipy.spatial.transform import Rotation

from lungscreen.geometry import Geometry
from lungscreen.records import (
    Evidence,
    Finding,
    Lungs,
    NoduleChange,
    NoduleType,
    PastNodule,
    PriorExam,
    Report,
    Series,
    Study,
    Volume,
)

__all__ = ["BEFORE", "EARLIER_UID", "NODULE_MM", "UID", "as_it_was", "earlier_place", "follow_up", "grown"]

UID, EARLIER_UID = "1.2.7.2", "1.2.7.1"
DATE, EARLIER_DATE = "20260212", "20250210"
NODULE_MM = (46.0, 8.0, -120.0)
"""The nodule's place today, LPS mm."""
BEFORE = PastNodule(
    EARLIER_DATE, EARLIER_UID, NoduleType.SOLID, 6.1, 5.8, 6.0, 113.0, 20.0, how=Evidence.FINDING, category="3"
)  # fmt: skip

_TURN = Rotation.from_euler("xyz", [2.0, -1.5, 3.0], degrees=True).as_matrix()
_SHIFT_MM = np.array([14.0, -9.0, 21.0])
_LUNGS_MM = np.array([[-50.0, 5.0, -110.0], [50.0, 5.0, -110.0]])
_RADII_MM = np.array([38.0, 55.0, 70.0])


def earlier_place(mm: Any) -> NDArray[np.float64]:
    """Where a place of today lay then: turned about the middle of the chest, and shifted. The truth of these tests."""
    middle = _LUNGS_MM.mean(axis=0)
    return np.asarray((np.asarray(mm, float) - middle) @ _TURN.T + middle + _SHIFT_MM)


@dataclass(frozen=True)
class _Exam:
    uid: str
    date: str
    geometry: Geometry
    to_today: Any
    nodule_mm: float


def _scan(exam: _Exam) -> tuple[Volume, Lungs]:
    """Two lungs of air with vessels in them, seen from a grid; the nodule is a ball."""
    geometry = exam.geometry
    places = geometry.to_mm(np.moveaxis(np.indices(geometry.shape), 0, -1).astype(float))
    places = exam.to_today(places.reshape(-1, 3)).reshape(*geometry.shape, 3)
    mask = np.zeros(geometry.shape, np.uint8)
    for side, centre in enumerate(_LUNGS_MM, start=1):
        mask[(((places - centre) / _RADII_MM) ** 2).sum(axis=-1) < 1] = side
    hu = np.where(mask > 0, -860.0, 30.0)
    rng = np.random.default_rng(1)
    for centre in _LUNGS_MM:
        for spot in centre + rng.uniform(-0.8, 0.8, (60, 3)) * _RADII_MM:
            hu = hu + (mask > 0) * 700 * np.exp(-((places - spot) ** 2).sum(axis=-1) / (2 * 4.0**2))
    hu = np.clip(hu, -1000, 100)
    hu[((places - NODULE_MM) ** 2).sum(axis=-1) < (exam.nodule_mm / 2) ** 2] = 400
    series = Series("dicom", f"{exam.uid}.5", PATIENT, replace(EXAM, study_uid=exam.uid, date=exam.date), ACQUISITION)
    numbers = tuple(range(geometry.shape[0], 0, -1))
    volume = Volume(hu.astype(np.int16), geometry, series, numbers)
    return volume, Lungs(mask, 2400.0, 2100.0)


def grown(volume: Volume) -> Finding:
    """The nodule as CAD would have it today: 11.8 mm, where it was 6.0 mm a year before."""
    voxel = tuple(round(float(n)) for n in volume.geometry.to_index(NODULE_MM))
    change = NoduleChange("growing", "6.0 mm in February 2025", (BEFORE,), 367, 5.8, 644.0)
    return changed(make_finding(volume, (voxel[0], voxel[1], voxel[2])), change=change)


def as_it_was() -> Report:
    """The earlier exam's report."""
    shape = (44, 60, 72)
    geometry = Geometry.axial(shape, (4.0, 2.6, 3.0), (-95.0, -75.0, -180.0))
    turn_back = _LUNGS_MM.mean(axis=0)

    def to_today(then: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((then - _SHIFT_MM - turn_back) @ _TURN + turn_back)

    return _report(_Exam(EARLIER_UID, EARLIER_DATE, geometry, to_today, 8.0))


def follow_up(*findings: Any) -> Report:
    """Today's report, which was compared with the earlier one. findings: made from its volume, as `grown` is."""
    geometry = Geometry.axial((52, 64, 70), (3.2, 2.4, 2.8), (-96.0, -68.0, -196.0))
    prior = PriorExam(EARLIER_DATE, EARLIER_UID, "images", f"{EARLIER_UID}.5", 0.95, "3")
    return replace(_report(_Exam(UID, DATE, geometry, lambda mm: mm, 16.0), *findings), priors=(prior,))


def _report(exam: _Exam, *findings: Any) -> Report:
    volume, lungs = _scan(exam)
    study = Study(PATIENT, volume.series.exam, (volume.series,))
    return replace(make_report(*(make(volume) for make in findings), volume=volume, study=study), lungs=lungs)

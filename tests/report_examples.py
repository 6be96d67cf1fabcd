"""Reports to write in tests: a small anisotropic, off-origin volume with a nodule of known place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from lungscreen.errors import Refusal
from lungscreen.geometry import Geometry
from lungscreen.outputs.page.planes import PictureConfig
from lungscreen.outputs.page.whole import report_page
from lungscreen.outputs.registry import OutputsConfig
from lungscreen.outputs.report_json import document_json
from lungscreen.outputs.tables import StudyRows, write_tables
from lungscreen.outputs.write import write_study
from lungscreen.pseudonyms import Pseudonyms
from lungscreen.records import (
    Acquisition,
    Candidate,
    Conclusion,
    Exam,
    Finding,
    Grade,
    Location,
    Lungs,
    Malignancy,
    Measured,
    Measurement,
    NoduleType,
    Outline,
    Patient,
    Provenance,
    Rating,
    Reading,
    Report,
    Series,
    Study,
    Volume,
    WeightsUsed,
)
from lungscreen.results.assemble import build_report
from lungscreen.results.finished import Finished, MarkShape, finish_report
from lungscreen.results.folder import ResultsFolder
from lungscreen.results.values import to_plain
from lungscreen.series import plain_name

GRID = Geometry.axial((24, 50, 60), (2.5, 0.8, 0.7), (-30.0, 11.0, -300.0))
"""Non-cubic, anisotropic, off-origin."""

PATIENT = Patient("P-17", "Doe^Jane^Q", "19550322", "F")
EXAM = Exam("1.2.3.4", "ACC-9", "20260212", "081512.5", "LDCT chest", "070Y")
ACQUISITION = Acquisition(
    "Maker",
    "Scanner",
    "CHEST",
    "Thin",
    ("ORIGINAL", "PRIMARY", "AXIAL"),
    ("STANDARD",),
    120.0,
    200.0,
    150.0,
    None,
    1.25,
)


def make_volume(geometry: Geometry = GRID, acquisition: Acquisition = ACQUISITION, **changes: Any) -> Volume:
    """Lung with a bright ball at (z, y, x) = (10, 20, 30), soft tissue around; `changes` replace fields of the
    volume.
    """
    hu = np.full(geometry.shape, -850, np.int16)
    hu[:, :4] = 40
    k, j, i = np.indices(geometry.shape)
    distance = np.sqrt(((k - 10) * 2.5) ** 2 + ((j - 20) * 0.8) ** 2 + ((i - 30) * 0.7) ** 2)
    hu[distance < 6] = 30
    series = Series("dicom", "1.2.3.4.5", PATIENT, EXAM, acquisition)
    volume = Volume(hu, geometry, series, tuple(range(geometry.shape[0], 0, -1)))
    return replace(volume, **changes)


def make_lungs(volume: Volume) -> Lungs:
    """Right and left half of what is darker than soft tissue."""
    mask = np.zeros(volume.hu.shape, np.uint8)
    middle = mask.shape[2] // 2
    mask[:, 4:, :middle], mask[:, 4:, middle:] = 1, 2
    return Lungs(mask, 2412.3, 2107.8)


def make_finding(
    volume: Volume,
    voxel: tuple[int, int, int] = (10, 20, 30),
    score: float = 0.9,
    probability: float | None = 0.4,
    **changes: Any,
) -> Finding:
    """A measured finding with a ball of 6 mm as outline; `changes` replace fields of the finding."""
    geometry = volume.geometry
    start = tuple(max(v - n, 0) for v, n in zip(voxel, (2, 7, 8), strict=True))
    stop = tuple(min(v + n + 1, s) for v, n, s in zip(voxel, (2, 7, 8), geometry.shape, strict=True))
    grid = np.moveaxis(np.indices([b - a for a, b in zip(start, stop, strict=True)]), 0, -1) + start
    mask = np.linalg.norm((grid - voxel) * geometry.spacing_mm, axis=-1) < 6
    x, y, z = (float(c) for c in geometry.to_mm(voxel))
    size = Measurement(12.1, 11.4, 11.8, 12.0, 11.7, 841.3, 40.2, 12.5, -310.0, 96.0, 850.1)
    finding = Finding(
        number=1,
        candidate=Candidate((x, y, z), 11.0, score),
        location=Location("left", "middle", geometry.shape[0] - voxel[0], 14, "left upper lobe"),
        measured=Measured(Outline((start[0], start[1], start[2]), mask), size, NoduleType.SOLID),
    )
    if probability is not None:
        finding = changed(finding, malignancy=Malignancy(probability, "classifier 1"))
    return changed(finding, **changes)


PARTS = {"measured": Measured(), "rating": Rating(None, None), "grade": Grade("")}  # type: ignore[arg-type]
"""What a part is before anything in it is known."""


def changed(finding: Finding, **changes: Any) -> Finding:
    """The finding with other fields, each its own or one of a part: measured, rating, grade."""
    for name, nothing in PARTS.items():
        own = {field.name for field in fields(nothing)} - {field.name for field in fields(finding)}
        part = {key: changes.pop(key) for key in own & changes.keys()}
        if part:
            finding = replace(finding, **{name: replace(getattr(finding, name) or nothing, **part)})  # type: ignore[arg-type]
    return replace(finding, **changes)


def make_provenance() -> Provenance:
    """How the results of these tests claim to have come about."""
    weights = (WeightsUsed("detector", "1", "b" * 64), WeightsUsed("classifier", "2", "c" * 64))
    return Provenance(
        "0.1.0", "screening", "a" * 64, weights, "screening", "1.2.3.4.5", "d" * 64, "2026-02-12T08:40:11Z",
        {"volume": 2.91, "detect": 6.12},
    )  # fmt: skip


def make_report(
    *findings: Finding, volume: Volume | None = None, study: Study | None = None, cut_off: int = 0, **changes: Any
) -> Report:
    """A report; without findings given, a normal one. `changes` replace fields of the report."""
    volume = volume or make_volume()
    study = study or Study(volume.series.patient, volume.series.exam, (volume.series,))
    candidates = (*(f.candidate for f in findings), Candidate((1.25, 2.5, -290.123456), 4.0, 0.0123456789))
    conclusion = Conclusion(findings, cut_off)
    report = build_report(study, Reading(volume, make_lungs(volume), candidates, ()), conclusion, make_provenance())
    return replace(report, **changes)


def study_of(uid: str, patient: Patient = PATIENT) -> Study:
    """A study of that UID."""
    exam = replace(EXAM, study_uid=uid)
    return Study(patient, exam, (Series("dicom", f"{uid}.5", patient, exam, ACQUISITION),))


# -- a report as its outputs -----------------------------------------------------------------------------------------
NAMES = Pseudonyms(b"k" * 32)


def key_of(report: Report) -> str:
    """The study's key, by the key of these tests."""
    patient = report.study.patient
    return NAMES.study_key(report.study.exam.study_uid, patient.patient_id, plain_name(patient))


def finish(report: Report) -> Finished:
    """The report as outputs take it."""
    return finish_report(report, key_of(report))


def shape_of(finding: Finding, volume: Volume) -> MarkShape:
    """A finding as pictures take it."""
    return finish(make_report(finding, volume=volume)).findings[0]


def json_of(report: Report) -> str:
    """The text of its report.json."""
    return document_json(finish(report).document)


def document_of(report: Report) -> dict[str, Any]:
    """Its report.json as plain values."""
    document: dict[str, Any] = to_plain(finish(report).document)
    return document


def page_of(report: Report, config: PictureConfig | None = None) -> str:
    """Its report.html."""
    return report_page(finish(report), config or PictureConfig())


def write_report(report: Report, out: Path, *more: str) -> Path:
    """Its files in a results folder, and those of the outputs named beside the usual ones. Returns the study's
    folder.
    """
    return write_study(finish(report), ResultsFolder(out), OutputsConfig((*OutputsConfig().write, *more)))


def tables(out: Path, refusals: Sequence[Refusal] = (), known: dict[str, StudyRows] | None = None) -> None:
    """The tables over a results folder."""
    write_tables(ResultsFolder(out), refusals, known=known)

"""Results on disk ─► their DICOM objects, PDF or FHIR bundle, as if they had been asked for at once.

report.json, masks, the original series ─► Finished ─► files, OUT/<key>/…
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, LungscreenError, Refusal, UsageError
from lungscreen.files import replace_folder
from lungscreen.jobs.guard import describe_failure
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.registry import check_extras, load_output
from lungscreen.records import Lungs, Outline, Series, Volume
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.results.finished import Finished, MarkShape
from lungscreen.results.folder import ResultsFolder
from lungscreen.results.values import UnreadableError

__all__ = ["EXPORTS", "export_results"]

EXPORTS = ("dicom", "dicom-labelmap", "dicom-kos", "dicom-gsps", "dicom-cad", "pdf", "fhir")
"""Outputs that can be made later."""

_WITHOUT_IMAGES = ("fhir",)
"""Of these, what needs neither the series nor masks."""


def export_results(
    results: Path, names: Sequence[str], out: Path, inputs: Sequence[Path], key: str | None = None
) -> Iterator[Path | Refusal]:
    """Write outputs of one study, or of all: a folder each. Yields the folder, or why there is none.

    results: a folder that `lungscreen screen` or `batch run` wrote.
    inputs: where the original series are looked for.

    Errors: `input-missing`, `usage`, `extra-missing`, `output-failed`.
    """
    check_extras(names)
    folder = ResultsFolder(results)
    if out.resolve() == results.resolve():
        raise UsageError("usage", "the export cannot go into the results themselves", "--out")
    with_images = [name for name in names if name not in _WITHOUT_IMAGES]
    if with_images and not inputs:
        raise UsageError("usage", f"{with_images[0]} needs the original series: name their folder", "--input")
    keys = [key] if key else folder.study_keys()
    if not keys:
        raise InputError("input-missing", "expected a folder that `lungscreen screen` wrote", str(results))
    series = _find_series(inputs) if with_images else {}
    for one in keys:
        yield _export_study(folder, one, names, out, series)


def _find_series(inputs: Sequence[Path]) -> dict[str, Series]:
    from lungscreen.series import find_series

    inventory = find_series(inputs)
    return {series.series_uid: series for study in inventory.studies for series in study.series}


def _export_study(
    folder: ResultsFolder, key: str, names: Sequence[str], out: Path, series: dict[str, Series]
) -> Path | Refusal:
    """Errors: `output-failed`."""
    try:
        document = folder.read(key)
    except UnreadableError as error:
        return Refusal(str(folder.report(key)), "table-unreadable", f"no report of this software: {error}", "study")
    try:
        files = list(_files(document, folder.study(key), names, series))
    except Exception as error:  # whatever a library throws at a hostile file
        failure = describe_failure(error, key)
        patient = document.patient.patient_id or ""
        return Refusal(key, failure.code, failure.reason, "study", document.exam.study_uid, patient)
    with replace_folder(out / key) as target:
        for file in files:
            content = file.content.encode() if isinstance(file.content, str) else file.content
            assert isinstance(content, bytes)  # none of `EXPORTS` writes by itself
            (target / file.name).write_bytes(content)
    return out / key


def _files(
    document: ReportDocument, study: Path, names: Sequence[str], series: dict[str, Series]
) -> Iterable[NamedFile]:
    """Errors: `export-series-missing`, `export-masks-missing`, those of reading the series and of the outputs."""
    from lungscreen.outputs.fhir import fhir_file

    finished = None
    for name in names:
        if name in _WITHOUT_IMAGES:
            yield fhir_file(document)
            continue
        finished = finished or _finish_again(document, study, series)
        yield from load_output(name).files(finished)


def _finish_again(document: ReportDocument, study: Path, series: dict[str, Series]) -> Finished:
    """The study as its outputs are made from, from what stands on disk."""
    from lungscreen.volume import VolumeConfig, build_volume, source_fingerprint

    found = series.get(document.series.series_uid)
    if found is None:
        raise InputError("export-series-missing", "the series is not in the input")
    if source_fingerprint(found) != document.provenance.sop_instance_uids_sha256:
        raise InputError("export-series-missing", "the series has other objects than those that were read")
    # that it may be read was decided when it was read
    volume = build_volume(found, VolumeConfig(min_slices=1, min_extent_mm=0.0))
    shape = document.series
    if sorted(volume.geometry.shape) != sorted((shape.slices, shape.rows, shape.columns)):
        raise InputError("export-series-missing", f"the series makes another volume now: {volume.geometry.shape}")
    lungs, labels = (_mask(study / name, volume) for name in ("lungs.nii.gz", "findings.nii.gz"))
    told = document.lungs
    return Finished(
        document,
        volume,
        Lungs(lungs, told.right_ml or 0.0, told.left_ml or 0.0, told.apex_cut, told.base_cut, told.incomplete),
        tuple(_shape(finding, labels) for finding in document.findings),
    )


def _mask(path: Path, volume: Volume) -> NDArray[np.uint8]:
    """A label image of the results on the volume's grid.

    Errors: `export-masks-missing`.
    """
    from lungscreen.outputs.masks import read_mask

    try:
        return read_mask(path, volume)
    except LungscreenError:
        raise
    except Exception as error:  # whatever nibabel throws at a damaged file
        reason = f"{path.name} is absent or cannot be read ({type(error).__name__})"
        raise InputError("export-masks-missing", reason) from None


def _shape(finding: ReportedFinding, labels: NDArray[Any]) -> MarkShape:
    """Where a finding lies, as the masks have it."""
    x, y, z = finding.position_mm
    size = finding.measurement.mean_diameter_mm if finding.measurement else finding.detector_diameter_mm
    return MarkShape(
        finding.number,
        (x, y, z),
        (x, y, z),
        size or 0.0,
        finding.location.slice_from_top,
        _outline(labels, finding.number),
    )


def _outline(labels: NDArray[Any], number: int) -> Outline | None:
    voxels = np.argwhere(labels == number)
    if not len(voxels):
        return None
    start, stop = voxels.min(axis=0), voxels.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Outline((int(start[0]), int(start[1]), int(start[2])), labels[box] == number)

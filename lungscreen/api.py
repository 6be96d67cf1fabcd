"""For notebooks: `lungscreen.screen(path)` and `lungscreen.detect(array, affine)`, the commands as two functions.

They do what `lungscreen screen` and `lungscreen detect` do, by the same code: nothing here decides anything.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.errors import InputError, Refusal, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lungscreen.results.document import ReportDocument

__all__ = ["FoundMark", "Screened", "detect", "screen"]


@dataclass(frozen=True)
class Screened:
    """What screening gave: a report a study, the most urgent first, and everything that was not read.

    For research use only; not a diagnosis.
    """

    reports: tuple[ReportDocument, ...]
    refusals: tuple[Refusal, ...]


@dataclass(frozen=True)
class FoundMark:
    """A place that may be a nodule.

    position_mm: its middle in the world that the affine leads to.
    diameter_mm: as the network estimates it.
    probability: that it is a nodule or a mass; nothing is said about malignancy.
    """

    position_mm: tuple[float, float, float]
    diameter_mm: float
    probability: float


def screen(
    path: str | Path | Sequence[str | Path], out: str | Path | None = None, *, pipeline: str = "screening"
) -> Screened:
    """Screen every study in a folder, file, DICOMDIR or zip.

    out: folder for the files that `lungscreen screen` writes; None writes none that stay.
    pipeline: the name of one that is installed, or a TOML file.

    Errors: `LungscreenError`, those of `lungscreen.batch.screen.screen_inputs`.
    What is wrong with a study is no error: it is among the refusals.
    """
    from lungscreen.batch.screen import screen_inputs
    from lungscreen.pipeline import read_pipeline
    from lungscreen.results.folder import ResultsFolder
    from lungscreen.results.ranking import done_row, worklist_order

    inputs = [Path(one) for one in ([path] if isinstance(path, str | Path) else path)]
    with tempfile.TemporaryDirectory(prefix="lungscreen-") as kept:
        folder = ResultsFolder(Path(out) if out is not None else Path(kept))
        summary = screen_inputs(inputs, folder.path, read_pipeline(pipeline))
        reports = [folder.read(key) for key in folder.study_keys()]
    ranked = sorted(reports, key=lambda document: worklist_order(done_row(document, "")))
    return Screened(tuple(ranked), summary.refusals)


def detect(array: NDArray[Any], affine: NDArray[Any], *, lungs: bool = True) -> tuple[FoundMark, ...]:
    """Search an array for nodules; the likeliest mark first.

    array: (i, j, k) Hounsfield units.
    affine: (4, 4) from voxel to millimetres, x to the patient's left-to-right as NIfTI has it (RAS), which is what
        nibabel gives; the marks' positions are in the same world.
    lungs: False searches all of the array, so that a crop can be searched too.

    Errors: `LungscreenError`: `no-lungs` where there are none, and those of an image that cannot be one (`not-hu`,
    `image-geometry`, ...).
    """
    import nibabel
    import numpy as np

    from lungscreen.jobs.detect import load_search
    from lungscreen.jobs.studies import any_size
    from lungscreen.pipeline import read_first_series, read_pipeline
    from lungscreen.series import find_series

    hu = np.asarray(array)
    if hu.ndim != 3 or np.shape(affine) != (4, 4):
        raise UsageError("usage", "expected an array of three axes and an affine of 4 x 4")
    if not np.isfinite(hu).all() or not np.isfinite(affine).all():
        raise UsageError("usage", "the array or the affine holds numbers that are not finite")
    if not np.linalg.det(np.asarray(affine, float)[:3, :3]):
        raise UsageError("usage", "the affine maps the array to less than a volume")
    pipeline = any_size(read_pipeline("screening"))
    with tempfile.TemporaryDirectory(prefix="lungscreen-") as folder:
        file = Path(folder, "array.nii")
        made: Any = nibabel
        image = made.Nifti1Image(np.clip(np.rint(hu), -32768, 32767).astype(np.int16), np.asarray(affine, float))
        made.save(image, file)
        inventory = find_series([file], pipeline.series)
        if not inventory.studies:
            raise InputError(inventory.refused[0].code, inventory.refused[0].reason)
        (study,) = inventory.studies
        _, volume = read_first_series(study, pipeline.volume)
    found = load_search(pipeline, use_lungs=lungs)(volume)
    return tuple(FoundMark((-x, -y, z), one.diameter_mm, one.score) for one in found for x, y, z in (one.centre_mm,))

"""Results over CT series that lie on disk, and what other people's programs say of the objects made from them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_factory import AXIAL, FEET_FIRST, make_enhanced, make_series
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from report_examples import finish, make_finding, make_report, make_volume
from scipy import ndimage

from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.registry import load_output
from lungscreen.records import Finding, Report, Volume
from lungscreen.results.finished import Finished
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume

ALL_DICOM = ("dicom", "dicom-labelmap", "dicom-kos", "dicom-gsps", "dicom-cad")
KINDS = ("axial", "feet first", "tilted", "with a hole", "uneven", "enhanced")
STEP_MM, SPACING = 2.5, (0.8, 0.7)
ANY_SIZE = VolumeConfig(min_slices=1, min_extent_mm=0)


def write_chest(folder: Path, kind: str = "axial", **more: Any) -> Path:
    """The small chest of the report tests as a DICOM series of one kind, with what makes objects valid beside it."""
    hu = make_volume().hu
    # slices of a scan go over into each other: a noisy block would be taken for slices that were mixed up
    texture = ndimage.gaussian_filter(np.random.default_rng(5).normal(size=hu.shape), (3, 1, 1), mode="nearest")
    smooth = ndimage.gaussian_filter(hu.astype(np.float64), (1, 0.5, 0.5)) + texture * 80 / texture.std()
    hu = np.clip(np.rint(smooth), -1000, 2000).astype(np.int16)
    tags = {
        "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "",
        "PatientAge": "070Y",
        "StudyID": "7",
        **more,
    }
    if kind == "enhanced":
        make_enhanced(folder / "e.dcm", hu, step_mm=STEP_MM, tags=tags)
        return folder
    orientation: Sequence[float] = FEET_FIRST if kind == "feet first" else AXIAL
    count = len(hu)
    positions = np.array([[-30.0, 11.0, -300.0 + STEP_MM * k] for k in range(count)])
    if kind == "tilted":
        c, s = np.cos(np.radians(12.0)), np.sin(np.radians(12.0))
        orientation = (1.0, 0.0, 0.0, 0.0, c, s)
    if kind == "uneven":
        positions[14:, 2] += 1.0
    if kind == "feet first":
        hu = np.ascontiguousarray(hu[::-1, :, ::-1])
        positions = np.array([[12.0, 11.0, -242.5 - STEP_MM * k] for k in range(count)])
    paths = make_series(folder, hu, orientation=orientation, positions_mm=positions, tags=tags)
    if kind == "with a hole":
        paths[15].unlink()
    return folder


def read_chest(folder: Path) -> Volume:
    """The volume of the one series in a folder."""
    inventory = find_series([folder])
    return build_volume(inventory.studies[0].series[0], ANY_SIZE)


def chest_report(folder: Path, kind: str = "axial", findings: int = 1) -> Report:
    """A report over such a series with so many findings, the first on the bright ball."""
    volume = read_chest(write_chest(folder, kind))
    return make_report(*some_findings(volume, findings), volume=volume)


def some_findings(volume: Volume, count: int) -> list[Finding]:
    """Findings at different places, the first on the ball; scores fall so that the order stays."""
    _, rows, columns = volume.geometry.shape
    places = [(10, 20, 30), *((4 + n % 15, 8 + 7 * (n % 5), 6 + 8 * (n % 6)) for n in range(1, count))]
    return [
        make_finding(
            volume, (k, min(j, rows - 1), min(i, columns - 1)), score=0.9 - 0.01 * n, probability=0.6 - 0.02 * n
        )
        for n, (k, j, i) in enumerate(places[:count])
    ]


def objects_of(finished: Finished, *names: str) -> dict[str, bytes]:
    """Files of some outputs by name."""
    files: list[NamedFile] = []
    for name in names:
        files += load_output(name).files(finished)
    contents = {file.name: file.content for file in files}
    assert all(isinstance(content, bytes) for content in contents.values())
    return contents  # type: ignore[return-value]


def write_objects(report: Report, folder: Path, *names: str) -> list[Path]:
    """The same as files."""
    return write_files(objects_of(finish(report), *names), folder)


def write_files(objects: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Objects that were made already, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, content in objects.items():
        (folder / name).write_bytes(content)
        paths.append(folder / name)
    return paths


def text_of(dataset: Dataset) -> str:
    """Every value of an object that is no picture or document, as one text."""
    return "\n".join(
        str(element.value)
        for element in dataset.iterall()
        if element.VR not in ("OB", "OW", "SQ") and element.keyword != "PixelData"
    )


def groups_of(report: Dataset) -> list[Dataset]:
    """The measurement groups of a structured report."""
    return [group for item in report.ContentSequence if item.ConceptNameCodeSequence[0].CodeValue == "126010"
            for group in item.ContentSequence]  # fmt: skip


# -- other people's programs -----------------------------------------------------------------------------------------
def validator_errors(program: str, paths: Iterable[Path]) -> list[str]:
    """Lines with "Error" of one of dicom3tools' validators."""
    found = []
    arguments = [str(path) for path in paths]
    runs = [arguments] if program == "dcentvfy" else [[argument] for argument in arguments]
    for run in runs:
        ended = subprocess.run(
            [_installed(program), *run], capture_output=True, text=True, errors="replace", check=False
        )
        lines = (ended.stdout + ended.stderr).splitlines()
        found += [f"{Path(run[0]).name}: {line}" for line in lines if line.startswith(("Error", "Abort"))]
    return found


def run_program(program: str, *arguments: str) -> str:
    """What a program that came with a Python package or with the system says; skips where it is absent."""
    ended = subprocess.run([_installed(program), *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _installed(program: str) -> str:
    import sysconfig

    places = [Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))]
    places += [Path(folder).parents[2] / "bin" for folder in sys.path if folder.endswith("site-packages")]
    for place in places:
        if (place / program).is_file():
            return str(place / program)
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed: make test-dicom does it")
    return found


def in_plane_mm(point_mm: NDArray[np.float64], image: Dataset, column: float, row: float) -> tuple[float, float]:
    """How far a point lies from a place of a slice by the slice's own header: in its plane, and off it."""
    corner = np.array([float(v) for v in image.ImagePositionPatient])
    cosines = np.array([float(v) for v in image.ImageOrientationPatient])
    row_mm, column_mm = (float(v) for v in image.PixelSpacing)
    place = corner + (column - 0.5) * column_mm * cosines[:3] + (row - 0.5) * row_mm * cosines[3:]
    normal = np.cross(cosines[:3], cosines[3:])
    off = float((point_mm - place) @ normal)
    return float(np.linalg.norm(point_mm - place - off * normal)), abs(off)

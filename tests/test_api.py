"""The functions for notebooks: the examples of docs/python.md as they stand, and what they answer."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from shrunk import write_shrunk

import lungscreen
from lungscreen.errors import LungscreenError
from lungscreen.phantom import NoduleSpec, sized
from lungscreen.series import find_series
from lungscreen.volume import build_volume

PAGE = Path(__file__).parent.parent / "docs" / "python.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with demo/studies, and the same chest as chest.nii.gz."""
    here = tmp_path_factory.mktemp("notebook")
    series = write_shrunk(sized("tiny", seed=5, nodules=(NoduleSpec(20.0),)), 0.5, here / "demo" / "studies" / "one")
    (study,) = find_series([series]).studies
    volume = build_volume(study.series[0])
    to_ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ volume.geometry.affine @ np.eye(4)[[2, 1, 0, 3]]
    nibabel.save(nibabel.Nifti1Image(volume.hu.transpose(2, 1, 0), to_ras), here / "chest.nii.gz")
    return here


@pytest.mark.parametrize("number", range(3))
def test_an_example_runs_as_it_stands(
    number: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(folder, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    assert len(EXAMPLES) == 3
    exec(compile(EXAMPLES[number], f"example {number}", "exec"), {})
    said = capsys.readouterr().out
    assert said.strip()
    assert (tmp_path / "here" / "results" / "worklist.html").is_file() == (number == 1)


def test_array_and_study_give_the_same_marks(folder: Path) -> None:
    """The nodule is found in either, at one place of the patient: LPS in the report, RAS in the array's world."""
    (report,) = lungscreen.screen(folder / "demo").reports
    image = nibabel.load(folder / "chest.nii.gz")
    marks = lungscreen.detect(np.asarray(image.dataobj), image.affine)
    first = report.findings[0]
    x, y, z = first.position_mm
    nearest = min(marks, key=lambda mark: np.linalg.norm(np.subtract(mark.position_mm, (-x, -y, z))))
    assert np.linalg.norm(np.subtract(nearest.position_mm, (-x, -y, z))) < 2
    assert nearest.probability == pytest.approx(first.detection_score, abs=0.05)
    assert list(marks) == sorted(marks, key=lambda mark: -mark.probability)


def test_what_is_no_study_is_among_the_refusals(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("no image")
    screened = lungscreen.screen(tmp_path)
    assert screened.reports == ()
    assert {row.code for row in screened.refusals} == {"not-dicom", "no-ct"}


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.full((30, 30, 30), np.nan), np.zeros((30, 30, 30))], ids=["flat", "nan", "no lungs"]
)
def test_an_array_that_is_no_chest_is_an_error_with_a_code(array: np.ndarray) -> None:
    with pytest.raises(LungscreenError) as caught:
        lungscreen.detect(array, np.eye(4))
    assert caught.value.code in ("usage", "image-not-hu")


@pytest.mark.parametrize(
    ("affine", "code"),
    [
        (np.zeros((4, 4)), "usage"),
        (np.full((4, 4), np.nan), "usage"),
        (np.diag([1.0, 1.0, 0.0, 1.0]), "usage"),
        (np.eye(3), "usage"),
        (np.array([[1.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "image-geometry"),
    ],
    ids=["zeros", "nan", "flat", "three axes", "skewed"],
)
def test_an_affine_that_is_none_is_an_error_with_a_code(affine: np.ndarray, code: str) -> None:
    hu = np.random.default_rng(0).integers(-1000, 100, (30, 30, 30))
    with pytest.raises(LungscreenError) as caught:
        lungscreen.detect(hu, affine, lungs=False)
    assert caught.value.code == code


def test_nothing_else_is_offered() -> None:
    with pytest.raises(AttributeError, match="no attribute 'scren'"):
        _ = lungscreen.scren

"""Stale results: files that were rewritten, people that were corrected, results that were deleted or edited."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batch_models import MODELS
from dicom_factory import make_series
from pydicom import dcmread
from small_chest import ORIGIN, SPACING, chest

from lungscreen.batch import BatchConfig, BatchRun, Ended, run_batch
from lungscreen.batch.audit import read_audit
from lungscreen.pipeline import read_pipeline

QUICK = BatchConfig(workers=1, threads=1, keep_free_mb=0.0, full_limit_s=0.0, away_limit_s=0.0)
PIPELINE = read_pipeline("screening")


def run(box: Path, out: Path, **options: Any) -> Ended:
    return run_batch(BatchRun([box], out, PIPELINE, **{"engine": "here", "config": QUICK} | options), models=MODELS)


def documents(out: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(out.glob("studies/*/report.json"))]


def values(out: Path) -> list[tuple[Any, ...]]:
    """What a report says, without its times and marks."""
    return [
        (d["patient"]["patient_id"], d["lungs"]["right_ml"], d["lungs"]["left_ml"], d["category"], d["findings"])
        for d in documents(out)
    ]


def box_with_study(folder: Path, **options: Any) -> list[Path]:
    return make_series(
        folder, chest_with_smooth_nodules(), step_mm=SPACING[0], spacing_mm=SPACING[1:], origin_mm=ORIGIN,
        shuffle=False, **{"study_uid": "1.2.3", "series_uid": "1.2.3.4"} | options,
    )  # fmt: skip


def chest_with_smooth_nodules() -> np.ndarray:
    """As scanners see them: no slice differs from both of its neighbours."""
    hu = chest().astype(float)
    z, y, x = np.ogrid[: hu.shape[0], : hu.shape[1], : hu.shape[2]]
    for centre in ((30, 24, 20), (26, 24, 54)):
        away = [(axis - middle) * step for axis, middle, step in zip((z, y, x), centre, SPACING, strict=True)]
        share = np.clip((10 - np.sqrt(sum(step**2 for step in away))) / 3, 0, 1)
        hu = hu * (1 - share) + 30 * share
    return hu.astype(np.int16)


def later(paths: list[Path]) -> None:
    """The files were written again at a later time."""
    for path in paths:
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 5_000_000_000))


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Any, ...]]:
    """What the healthy study's report says."""
    folder = tmp_path_factory.mktemp("clean")
    box_with_study(folder / "in")
    run(folder / "in", folder / "out")
    found = values(folder / "out")
    assert found[0][4], "findings, or the comparisons below say nothing"
    return found


def zero(data: bytes, start: float, end: float) -> bytes:
    """Zeros where the pixels were still to come."""
    place = data.rindex(b"\xe0\x7f\x10\x00OW") + 12
    first, last = (place + int((len(data) - place) * share) for share in (start, end))
    return data[:first] + b"\0" * (last - first) + data[last:]


@pytest.mark.parametrize(
    ("slices", "start", "end"),
    [
        (slice(10, 13), 0, 1),
        (slice(10, 13), 0.5, 1),
        (slice(None), 0.4, 0.6),
        (slice(None), 0, 1),
        (slice(5, 6), 0, 0.5),
    ],
    ids=str,
)
def test_a_study_that_was_read_while_its_files_were_zeros_is_read_again(
    slices: slice, start: float, end: float, tmp_path: Path, clean: list[tuple[Any, ...]]
) -> None:
    """The sizes are the same before and after, as a copy into reserved space has them."""
    paths = box_with_study(tmp_path / "in")
    whole = [path.read_bytes() for path in paths]
    for path in paths[slices]:
        path.write_bytes(zero(path.read_bytes(), start, end))
    run(tmp_path / "in", tmp_path / "out")
    assert values(tmp_path / "out") != clean
    for path, data in zip(paths, whole, strict=True):
        path.write_bytes(data)
    later(paths)
    assert run(tmp_path / "in", tmp_path / "out").states["done"] == 1
    assert values(tmp_path / "out") == clean


def edit(paths: list[Path], **tags: Any) -> None:
    for path in paths:
        size = path.stat().st_size
        dataset = dcmread(path)
        for keyword, value in tags.items():
            setattr(dataset, keyword, value)
        dataset.save_as(path)
        assert path.stat().st_size == size, "of the same size, or it would be new anyway"
    later(paths)


@pytest.mark.parametrize(
    "tags",
    [
        {"PixelSpacing": ["3.2", "3.3"]},
        {"StudyDate": "20240507"},
        {"ConvolutionKernel": "STANDARE"},
        {"AccessionNumber": "B3"},
    ],
    ids=str,
)
def test_a_corrected_header_is_read_again(tags: dict[str, Any], tmp_path: Path) -> None:
    paths = box_with_study(tmp_path / "in")
    for path in paths:
        dataset = dcmread(path)
        for keyword in tags:
            if keyword == "PixelSpacing":
                dataset.PixelSpacing = ["3.0", "3.1"]
        dataset.save_as(path)
    run(tmp_path / "in", tmp_path / "out")
    (before,) = documents(tmp_path / "out")
    edit(paths, **tags)
    run(tmp_path / "in", tmp_path / "out")
    (after,) = documents(tmp_path / "out")
    assert after["key"] == before["key"]
    changed = {
        "PixelSpacing": ([after["series"][name] for name in ("row_spacing_mm", "column_spacing_mm")], [3.2, 3.3]),
        "StudyDate": (after["exam"]["date"], "2024-05-07"),
        "ConvolutionKernel": (after["acquisition"]["kernel"], ["STANDARE"]),
        "AccessionNumber": (after["exam"]["accession_number"], "B3"),
    }
    got, expected = changed[next(iter(tags))]
    assert got == expected


@pytest.mark.parametrize(
    ("tags", "field", "value"),
    [
        ({"PatientName": "Roe^Jane"}, "name", "Roe^Jane"),
        ({"PatientID": "P002"}, "patient_id", "P002"),
        ({"PatientBirthDate": "19600103"}, "birth_date", "1960-01-03"),
        ({"PatientSex": "M"}, "sex", "M"),
    ],
    ids=str,
)
def test_no_report_of_the_old_person_stays_behind(tags: dict[str, str], field: str, value: str, tmp_path: Path) -> None:
    """Corrected in place: the files are another person's now, or the same one's under another name."""
    paths = box_with_study(tmp_path / "in", tags={"PatientName": "Doe^Jane", "PatientID": "P001"})
    run(tmp_path / "in", tmp_path / "out")
    edit(paths, **tags)
    ended = run(tmp_path / "in", tmp_path / "out")
    assert ended.states["done"] == ended.studies == 1
    (document,) = documents(tmp_path / "out")
    assert document["patient"][field] == value
    with (tmp_path / "out" / "worklist.csv").open(newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert row["patient_id"] == document["patient"]["patient_id"]
    assert "Doe" not in (tmp_path / "out" / "worklist.html").read_text(encoding="utf-8") or "PatientName" not in tags


def test_a_touch_makes_nothing_new(tmp_path: Path) -> None:
    paths = box_with_study(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    later(paths)
    run(tmp_path / "in", tmp_path / "out")
    assert len(read_audit(tmp_path / "out")) == 1


def test_an_archive_whose_member_was_rewritten_is_read_again(tmp_path: Path, clean: list[tuple[Any, ...]]) -> None:
    paths = box_with_study(tmp_path / "files")
    whole = [path.read_bytes() for path in paths]
    paths[12].write_bytes(zero(whole[12], 0, 1))
    (tmp_path / "in").mkdir()
    shutil.make_archive(str(tmp_path / "in" / "study"), "zip", tmp_path / "files")
    run(tmp_path / "in", tmp_path / "out")
    assert values(tmp_path / "out") != clean
    paths[12].write_bytes(whole[12])
    shutil.make_archive(str(tmp_path / "in" / "study"), "zip", tmp_path / "files")
    later([tmp_path / "in" / "study.zip"])
    run(tmp_path / "in", tmp_path / "out")
    assert values(tmp_path / "out") == clean


# -- results ---------------------------------------------------------------------------------------------------------
def _edited(folder: Path) -> None:
    report = folder / "report.json"
    report.write_text(report.read_text(encoding="utf-8").replace('"category": "', '"category": "0 by hand, was '))


def _of_another(folder: Path) -> None:
    report = folder / "report.json"
    document = json.loads(report.read_text(encoding="utf-8"))
    document["provenance"]["options"]["input"] = "0" * 64
    report.write_text(json.dumps(document))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "the folder is gone": shutil.rmtree,
    "the report is gone": lambda folder: (folder / "report.json").unlink(),
    "the page is gone": lambda folder: (folder / "report.html").unlink(),
    "the report is empty": lambda folder: (folder / "report.json").write_bytes(b""),
    "the report is cut": lambda folder: os.truncate(folder / "report.json", 200),
    "the page is cut": lambda folder: os.truncate(folder / "report.html", 200),
    "the report was edited": _edited,
    "the report is of another input": _of_another,
    "the report is a pipe": lambda folder: ((folder / "report.json").unlink(), os.mkfifo(folder / "report.json")),
    "the report is a link": lambda folder: (
        (folder / "report.json").rename(folder / "moved.json"),
        (folder / "report.json").symlink_to(folder / "moved.json"),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_results_that_are_gone_or_changed_are_made_again(
    damage: str, tmp_path: Path, clean: list[tuple[Any, ...]]
) -> None:
    box_with_study(tmp_path / "in")
    run(tmp_path / "in", tmp_path / "out")
    (folder,) = (tmp_path / "out" / "studies").iterdir()
    DAMAGES[damage](folder)
    assert run(tmp_path / "in", tmp_path / "out").complete
    assert values(tmp_path / "out") == clean
    assert {path.name for path in folder.iterdir()} >= {"report.json", "report.html"}
    assert len(read_audit(tmp_path / "out")) == 2
    run(tmp_path / "in", tmp_path / "out")
    assert len(read_audit(tmp_path / "out")) == 2, "what is whole is left alone"

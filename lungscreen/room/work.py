"""What takes a processor: making a pack, measuring a mark, aligning two exams. Runs in a process of its own.

The web service never decodes a file, loads a network or holds a volume: it asks here, and waits or comes back.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from lungscreen.errors import InputError, LungscreenError
from lungscreen.files import replace_file
from lungscreen.geometry import Vector
from lungscreen.logs import LOG, where_raised
from lungscreen.outputs.room_pack import PACK_FILE, Pack
from lungscreen.room.unpacked import Unpacked, open_unpacked

if TYPE_CHECKING:
    from lungscreen.measure import LungBoxes
    from lungscreen.pipeline import Networks, Pipeline
    from lungscreen.records import Lungs, Series, Study, Volume

__all__ = ["Bench", "align_packs", "check_images", "find_images", "make_pack", "measure_mark"]


class Bench:
    """Does one thing at a time, in another process; the same thing asked for twice is done once."""

    def __init__(self, in_process: bool = False, niceness: int = 0) -> None:
        """in_process: work in a thread of this process, for tests.
        niceness: how far the process stands back behind the one that answers readers.
        """
        self._in_process = in_process
        self._niceness = niceness
        self._executor: Executor | None = None
        self._running: dict[str, Future[Any]] = {}
        self._failed: dict[str, str] = {}
        self._lock = Lock()

    def start(self, name: str, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Begin, unless it is running already. What fails leaves its code under that name."""
        with self._lock:
            running = self._running.get(name)
            if running is not None:
                return running
            self._failed.pop(name, None)
            future: Future[Any] = self._open().submit(function, *args)
            self._running[name] = future
        future.add_done_callback(lambda done: self._end(name, done))
        return future

    def run(self, name: str, function: Callable[..., Any], *args: Any, limit_s: float = 120.0) -> Any:
        """Begin, wait, and have the result.

        Errors: those of the function; TimeoutError.
        """
        return self.start(name, function, *args).result(limit_s)

    def is_running(self, name: str) -> bool:
        """Whether something of that name is being done."""
        return name in self._running

    def failed(self, name: str) -> str:
        """The code with which it failed last; empty where it did not."""
        return self._failed.get(name, "")

    def close(self) -> None:
        """What has not begun is not done any more."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)

    def _open(self) -> Executor:
        if self._executor is None:
            self._executor = (
                ThreadPoolExecutor(1)
                if self._in_process
                else ProcessPoolExecutor(
                    1, mp_context=get_context("spawn"), initializer=_begin_work, initargs=(self._niceness,)
                )
            )
        return self._executor

    def _end(self, name: str, done: Future[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        with self._lock:
            self._running.pop(name, None)
            if error is not None:
                self._failed[name] = error.code if isinstance(error, LungscreenError) else "internal-error"
                self._executor = None if isinstance(error, BrokenExecutor) else self._executor
        if isinstance(error, Exception) and not isinstance(error, LungscreenError):
            LOG.error("work failed", extra={"fields": {"where": where_raised(error)}})


def _begin_work(niceness: int) -> None:
    """One core for the work: the other answers readers. A killed service takes its worker with it."""
    import torch

    os.nice(niceness)
    torch.set_num_threads(1)
    Thread(target=_end_with_service, name="service-ends", daemon=True).start()


def _end_with_service() -> None:
    """The signal of `end_with` would come with the end of the thread that asked first; here the process counts."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


# -- a pack at first opening -----------------------------------------------------------------------------------------
def make_pack(results: Path, key: str, folder: Path, pipeline_name: str, key_file: Path | None) -> None:
    """Read a study's files again, as screening did, and write its pack into `folder`.

    Errors: what keeps the study from being read; `input-missing` where its files are gone, or are others now.
    """
    from lungscreen.outputs.room_pack import write_pack
    from lungscreen.pipeline import prepare_study, read_pipeline

    study = find_images(results, key, key_file)
    prepared = prepare_study(study, read_pipeline(pipeline_name))
    volume = prepared.volume
    check_images(volume, folder)
    draft = folder / f".{PACK_FILE}.new"
    with draft.open("wb") as file:
        write_pack(file, volume, prepared.lungs, _kept_outlines(results, key, volume))
    draft.replace(folder / PACK_FILE)


def find_images(results: Path, key: str, key_file: Path | None) -> Study:
    """The files of a study, where the results say they lie.

    Errors: `input-missing`.
    """
    from lungscreen.batch.index import INDEX_FILE, Index
    from lungscreen.pseudonyms import load_key
    from lungscreen.series import find_study

    if not (results / INDEX_FILE).exists():
        raise InputError("input-missing", "the results do not say where the images lie")
    index = Index(results, load_key(key_file))
    try:
        task = index.task(key, "", 0)
    except (TypeError, IndexError):
        raise InputError("input-missing", "the results do not say where the images lie") from None
    finally:
        index.close()
    study, _ = find_study(task.looks, task.identity, task.names)
    if study is None:
        raise InputError("input-missing", "the images are gone")
    return study


def check_images(volume: Volume, folder: Path) -> None:
    """That these are the images of the pinned report.

    Errors: `input-missing`.
    """
    from lungscreen.results.reader import read_result
    from lungscreen.volume import source_fingerprint

    document = read_result(folder / "report.json")
    if source_fingerprint(volume.series) != document.provenance.sop_instance_uids_sha256:
        raise InputError("input-missing", "the images are no longer those that were read")


def _kept_outlines(results: Path, key: str, volume: Any) -> dict[int, Any] | None:
    """Polygons of the findings from findings.nii.gz; None where screening kept none, or of another grid."""
    from scipy import ndimage

    from lungscreen.outputs.masks import read_mask
    from lungscreen.outputs.outlines import outline_polygons
    from lungscreen.records import Outline
    from lungscreen.results.folder import ResultsFolder

    try:
        labels = read_mask(ResultsFolder(results).study(key) / "findings.nii.gz", volume)
    except Exception:  # whatever nibabel throws at a damaged file: the pixels are shown without outlines
        return None
    found = {}
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None:
            start = (box[0].start, box[1].start, box[2].start)
            found[number] = outline_polygons(Outline(start, labels[box] == number), volume.geometry)
    return found


# -- a mark ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Facts:
    """What is known of a study beside its voxels; small, so that many are kept."""

    about: dict[str, Any]
    series: Series
    boxes: LungBoxes


@lru_cache(maxsize=256)
def _facts(folder: Path, stamp: int, cache: Path, most_bytes: int) -> _Facts:
    from lungscreen.measure import find_lung_boxes
    from lungscreen.outputs.room_pack import pack_lungs
    from lungscreen.records import Series
    from lungscreen.results.reader import read_result
    from lungscreen.room.rebuild import acquisition_of, exam_of, patient_of

    document, about = read_result(folder / "report.json"), Pack(folder / PACK_FILE).about()
    series = Series("dicom", about["series_uid"], patient_of(document), exam_of(document), acquisition_of(document))
    lungs = pack_lungs(about, _voxels(folder, stamp, cache, most_bytes).lungs)
    return _Facts(about, series, find_lung_boxes(lungs))


@lru_cache(maxsize=8)
def _voxels(folder: Path, _stamp: int, cache: Path, most_bytes: int) -> Unpacked:
    return open_unpacked(Pack(folder / PACK_FILE), cache / folder.name, most_bytes)


def _open_study(folder: Path, cache: Path, most_bytes: int) -> tuple[Volume, Lungs, LungBoxes]:
    """A study as the stages know it, from its pack and its report. Its voxels are mapped from a file, not held."""
    from lungscreen.outputs.room_pack import pack_geometry, pack_lungs
    from lungscreen.records import Volume

    key = (folder, (folder / PACK_FILE).stat().st_mtime_ns, cache, most_bytes)
    facts, voxels = _facts(*key), _voxels(*key)
    volume = Volume(voxels.hu, pack_geometry(facts.about), facts.series, tuple(facts.about["instance_numbers"]))
    return volume, pack_lungs(facts.about, voxels.lungs), facts.boxes


@lru_cache(maxsize=1)
def _networks(pipeline_name: str) -> tuple[Pipeline, Networks]:
    from lungscreen.pipeline import load_networks, read_pipeline

    pipeline = read_pipeline(pipeline_name)
    return pipeline, load_networks(pipeline)


def measure_mark(folder: Path, pipeline_name: str, position_mm: Vector, cache: Path, most_bytes: int) -> dict[str, Any]:
    """A reader's click: outlined, measured, typed, located and rated as `lungscreen assess` does it.

    cache: where unpacked studies lie, `most_bytes` of them.
    Returns the finding as report.json has it, and its outline as polygons. Errors: `outside-volume`, `weights-invalid`.
    """
    import math

    from lungscreen.outputs.outlines import outline_polygons
    from lungscreen.pipeline import grade_candidates, keep_doubtful
    from lungscreen.records import Candidate
    from lungscreen.results.build import build_finding
    from lungscreen.results.values import to_plain

    volume, lungs, boxes = _open_study(folder, cache, most_bytes)
    if not volume.geometry.contains(position_mm):
        raise InputError("outside-volume", "the place lies outside the scan")
    pipeline, networks = _networks(pipeline_name)
    place = Candidate(position_mm, math.nan, math.nan)
    (found,) = grade_candidates(volume, lungs, [place], networks, pipeline, boxes=boxes)
    found = keep_doubtful(found, "a reader marked it")
    return {
        "finding": {**to_plain(build_finding(found, volume)), "number": 1},
        "outline": outline_polygons(found.outline, volume.geometry),
    }


# -- two exams -------------------------------------------------------------------------------------------------------
GRID_STEP_MM = 20.0
"""Of the nodes at which the alignment is told: its B-spline is coarser than that."""


def align_packs(folder: Path, earlier: Path, target: Path, cache: Path, most_bytes: int) -> None:
    """Where places of this exam lay in the earlier one, by the product's registration, on a grid: to `target`."""
    import numpy as np

    from lungscreen.comparison.align import align_exams

    now, lungs_now, _ = _open_study(folder, cache, most_bytes)
    then, lungs_then, _ = _open_study(earlier, cache, most_bytes)
    found = align_exams(now, lungs_now, then, lungs_then)
    slices, rows, columns = (size - 1 for size in now.geometry.shape)
    corners = now.geometry.to_mm([[k, j, i] for k in (0, slices) for j in (0, rows) for i in (0, columns)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    count = np.ceil((high - low) / GRID_STEP_MM).astype(int) + 1
    nodes = [
        found.to_earlier((low[0] + i * GRID_STEP_MM, low[1] + j * GRID_STEP_MM, low[2] + k * GRID_STEP_MM))
        for k in range(count[2])
        for j in range(count[1])
        for i in range(count[0])
    ]
    table = {
        "origin_mm": [round(float(c), 3) for c in low],
        "step_mm": GRID_STEP_MM,
        "shape": [int(n) for n in count[::-1]],
        "to_earlier_mm": [[round(float(c), 2) for c in node] for node in nodes],
        "overlap": round(found.overlap, 3),
    }
    replace_file(target, json.dumps(table))

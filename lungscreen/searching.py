"""Detection alone: volumes of any size, whole or only their lungs, to candidates.csv.

inputs ─► Inventory ─► (Volume ─► Lungs? ─► Candidate…)… ─► candidates.csv, refused.csv
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lungscreen.detect import Detector, detect_nodules, find_detector, load_detector
from lungscreen.files import replace_file
from lungscreen.lungs import segment_lungs
from lungscreen.pipeline import Pipeline, read_first_series
from lungscreen.records import Candidate, Study
from lungscreen.report import candidates_csv, refused_csv
from lungscreen.series import find_series
from lungscreen.walking import any_size, guard, is_complete, prepare_output, show_progress

__all__ = ["detect_inputs"]


def detect_inputs(
    inputs: Sequence[Path], out: Path, pipeline: Pipeline, *, use_lungs: bool = True, weights: Path | None = None
) -> tuple[int, bool]:
    """Search every volume in the inputs. Returns how many were searched, and whether that is everything.

    use_lungs: False searches all of each volume, so that a small crop can be measured too.
    weights: a folder with a manifest and a detector's weights; None takes those that the pipeline names.

    Errors: `usage`, `output-failed`, `weights-invalid`, and those of a bundle. What is wrong with a volume stands in refused.csv.
    """
    prepare_output(out, inputs)
    config = replace(pipeline.detect, bundle="", weights=str(weights)) if weights else pipeline.detect
    detector = load_detector(find_detector(config), config)
    pipeline = any_size(pipeline)
    inventory = find_series(inputs, pipeline.series, skip=out)
    refusals = list(inventory.refused)
    found: list[tuple[str, Sequence[Candidate]]] = []
    for study in show_progress(inventory.studies):
        with guard(study, refusals):
            found.append(_search(study, pipeline, detector, use_lungs))
    replace_file(out / "candidates.csv", candidates_csv(found))
    replace_file(out / "refused.csv", refused_csv(refusals))
    return len(found), len(found) == len(inventory.studies) > 0 and is_complete(refusals)


def _search(study: Study, pipeline: Pipeline, detector: Detector, use_lungs: bool) -> tuple[str, Sequence[Candidate]]:
    _, volume = read_first_series(study, pipeline.volume)
    lungs = segment_lungs(volume, pipeline.lungs) if use_lungs else None
    return volume.series_uid, detect_nodules(volume, lungs, detector, pipeline.detect)

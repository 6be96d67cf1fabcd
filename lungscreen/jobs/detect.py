"""Detection alone: volumes of any size, whole or only their lungs, to candidates.csv.

inputs ─► Inventory ─► (Volume ─► Lungs? ─► Candidate…)… ─► candidates.csv, refused.csv
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from lungscreen.classify import load_second_look
from lungscreen.detect import detect_nodules, find_detector, load_detector
from lungscreen.files import replace_file
from lungscreen.jobs.studies import any_size, guard_study, is_complete, prepare_output, show_progress
from lungscreen.lungs import segment_lungs
from lungscreen.outputs.candidates import candidates_csv
from lungscreen.outputs.tables import refused_csv
from lungscreen.pipeline import Pipeline, read_first_series, second_look_of
from lungscreen.records import Candidate, Volume
from lungscreen.series import find_series

__all__ = ["Search", "detect_inputs", "load_search", "with_weights"]

Search = Callable[[Volume], Sequence[Candidate]]
"""Everything from a volume to its candidates."""


def detect_inputs(
    inputs: Sequence[Path],
    out: Path,
    pipeline: Pipeline,
    *,
    use_lungs: bool = True,
    weights: Path | None = None,
    first_stage: bool = False,
) -> tuple[int, bool]:
    """Search every volume in the inputs. Returns how many were searched, and whether that is everything.

    use_lungs: False searches all of each volume, so that a small crop can be measured too.
    weights: as `with_weights` has it.
    first_stage: the score is the heatmap's alone, and no masses are looked for.

    Of a study's series the one that comes first is searched; the others stand in refused.csv, as what is wrong with a
    volume.

    Errors: `usage`, `output-failed`, `weights-invalid`, and those of a bundle.
    """
    prepare_output(out, inputs)
    pipeline = any_size(with_weights(pipeline, weights, first_stage=first_stage))
    search = load_search(pipeline, use_lungs=use_lungs)
    inventory = find_series(inputs, pipeline.series, skip=out)
    refusals = list(inventory.refused)
    found: list[tuple[str, Sequence[Candidate]]] = []
    for study in show_progress(inventory.studies):
        with guard_study(study, refusals):
            read, volume = read_first_series(study, pipeline.volume)
            found.append((volume.series_uid, search(volume)))
            refusals += (*read.not_read, *volume.refused)
    replace_file(out / "candidates.csv", candidates_csv(found))
    replace_file(out / "refused.csv", refused_csv(refusals))
    return len(found), len(found) == len(inventory.studies) > 0 and is_complete(refusals)


def with_weights(pipeline: Pipeline, weights: Path | None, *, first_stage: bool = False) -> Pipeline:
    """The pipeline with other weights, or with the first of its two stages alone.

    weights: a folder with a manifest and a detector's weights, perhaps with a second look's.  None: those that the
    pipeline names.
    """
    detect = pipeline.detect
    if weights is not None:
        detect = replace(detect, bundle="", weights=str(weights), second_look="")
    findings = replace(pipeline.findings, second_look=False) if first_stage else pipeline.findings
    return replace(pipeline, detect=detect, findings=findings)


def load_search(pipeline: Pipeline, *, use_lungs: bool = True) -> Search:
    """The search of one volume, its network loaded: lungs (where they are used), then detection.

    Errors: `weights-invalid`, and those of a bundle; the search's own: `no-lungs`.
    """
    detector = load_detector(find_detector(pipeline.detect), pipeline.detect)
    weights = second_look_of(pipeline)
    second_look = load_second_look(weights) if weights else None

    def search(volume: Volume) -> Sequence[Candidate]:
        lungs = segment_lungs(volume, pipeline.lungs) if use_lungs else None
        return detect_nodules(volume, lungs, detector, pipeline.detect, second_look)

    return search

"""One exam read, this one or an earlier one: Study ─► Prepared ─► Reading.

prepare_study      Study ─► Prepared: volume and lungs, without a network
read_exam          Prepared ─► Reading: candidates, and the findings among them
grade_candidates   marks ─► Finding…: each outlined, measured, typed, located and rated
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from lungscreen.classify import classify_nodules
from lungscreen.comparison import Prior
from lungscreen.detect import detect_nodules
from lungscreen.lungs import segment_lungs
from lungscreen.measure import LungBoxes, find_lung_boxes, locate_nodule, measure_nodules
from lungscreen.pipeline.first_series import read_first_series
from lungscreen.pipeline.networks import Networks
from lungscreen.pipeline.selection import look_twice
from lungscreen.pipeline.settings import Pipeline
from lungscreen.records import Candidate, Finding, Location, Lungs, Measured, Rating, Reading, Study, Volume
from lungscreen.stopwatch import Stopwatch

__all__ = ["Prepared", "grade_candidates", "prepare_study", "read_exam"]


@dataclass(frozen=True)
class Prepared:
    """A study as far as it goes without a network: what may be done ahead, in another process."""

    study: Study
    volume: Volume
    lungs: Lungs


def prepare_study(study: Study, pipeline: Pipeline, clock: Stopwatch | None = None) -> Prepared:
    """Volume and lungs of a study.

    Errors: what keeps every one of the study's series from being read, `no-lungs`.
    """
    clock = clock or Stopwatch()
    with clock.stage("volume"):
        study, volume = read_first_series(study, pipeline.volume)
    with clock.stage("lungs"):
        lungs = segment_lungs(volume, pipeline.lungs)
    return Prepared(study, volume, lungs)


def read_exam(
    prepared: Prepared,
    pipeline: Pipeline,
    networks: Networks,
    clock: Stopwatch | None = None,
    prior: Prior | None = None,
) -> Reading:
    """One exam, or an earlier one: candidates looked for, and those of the operating point measured, rated and located.

    prior: the earlier exam that this is; nodules of its report that the detector does not mark now are read too.
    """
    clock, volume, lungs = clock or Stopwatch(), prepared.volume, prepared.lungs
    with clock.stage("detect"):
        candidates = detect_nodules(volume, lungs, networks.detector, pipeline.detect, networks.second_look)
    least = networks.least(pipeline)
    chosen = [candidate for candidate in candidates if candidate.score >= least]
    chosen += [] if prior is None else prior.unmarked(chosen)
    found = grade_candidates(volume, lungs, chosen, networks, pipeline, clock)
    return Reading(volume, lungs, candidates, tuple(found))


def grade_candidates(
    volume: Volume,
    lungs: Lungs | None,
    candidates: Sequence[Candidate],
    networks: Networks,
    pipeline: Pipeline,
    clock: Stopwatch | None = None,
    boxes: LungBoxes | None = None,
) -> list[Finding]:
    """Each candidate outlined, measured, typed, located and rated, in order; not ranked, not yet assessed.

    boxes: of these lungs, where they were found before.
    """
    clock, classifier = clock or Stopwatch(), networks.classifier
    with clock.stage("measure"):
        measured = measure_nodules(volume, lungs, candidates, pipeline.measure, classifier)
    with clock.stage("classify"):
        ratings = classify_nodules(volume, candidates, classifier, pipeline.classify)
    with clock.stage("locate"):
        boxes = boxes or find_lung_boxes(lungs)
        places = [
            locate_nodule(volume, lungs, candidate.centre_mm, one.outline, boxes)
            for candidate, one in zip(candidates, measured, strict=True)
        ]
        probabilities = _probabilities(volume, candidates, networks)
    below, deciding = networks.threshold(pipeline), networks.deciding or 0.0
    graded = zip(candidates, places, measured, ratings, probabilities, strict=True)
    return [_finding(*parts, below, deciding, pipeline.findings.mass_mm) for parts in graded]


def _probabilities(volume: Volume, candidates: Sequence[Candidate], networks: Networks) -> list[float | None]:
    """That each is a nodule: the candidate's own score; of a place that no network pointed at, what the second look
    says.
    """
    if networks.second_look is None:
        return [None] * len(candidates)
    found = [candidate.score if candidate.score > 0 else None for candidate in candidates]
    inside = (volume.geometry.contains(candidate.centre_mm) for candidate in candidates)
    asked = [n for n, (known, there) in enumerate(zip(found, inside, strict=True)) if known is None and there]
    answers = networks.second_look.rate_points(volume, [candidates[n].centre_mm for n in asked])
    for n, answer in zip(asked, answers, strict=True):
        found[n] = float(answer)
    return found


def _finding(
    candidate: Candidate,
    location: Location,
    measured: Measured,
    rating: Rating | None,
    is_nodule: float | None,
    no_nodule_below: float,
    doubtful_below: float,
    mass_mm: float,
) -> Finding:
    size = measured.measurement
    return Finding(
        number=0,
        candidate=candidate,
        location=location,
        measured=measured,
        rating=None if rating is None else _with_roundness(rating, measured.sphericity),
        nodule_probability=is_nodule,
        second_look=look_twice(is_nodule, no_nodule_below),
        doubtful=is_nodule is not None and is_nodule < doubtful_below,
        is_mass=size is not None and size.mean_diameter_mm > mass_mm,
        notices=measured.notices,
    )


def _with_roundness(rating: Rating, sphericity: float | None) -> Rating:
    """The rating with the roundness that was measured on the outline, not the network's estimate."""
    return dataclasses.replace(rating, attributes=dataclasses.replace(rating.attributes, sphericity=sphericity))

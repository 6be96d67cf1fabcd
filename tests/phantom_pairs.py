"""Two visits of one synthetic patient: lain and breathed otherwise, each nodule grown by a known factor."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from lungscreen.classify import load_classifier
from lungscreen.comparison import Comparison, ComparisonConfig, Prior
from lungscreen.lungs import LungsConfig, segment_lungs
from lungscreen.measure import MeasureConfig, locate_nodule, measure_nodules
from lungscreen.phantom import NoduleSpec, Phantom, PhantomConfig, Pose, make_phantom, sized
from lungscreen.pipeline import FindingsConfig, Networks, Pipeline, compare_with_priors
from lungscreen.records import (
    Acquisition,
    Candidate,
    ClinicalData,
    Exam,
    Finding,
    Lungs,
    NoduleType,
    Patient,
    Reading,
    Series,
    Study,
    Volume,
)

FIRST = date(2020, 1, 1)
GROWTHS = (1.0, 1.0, 1.25, 1.5, 2.0, 3.0, 0.5)
"""Factors on a nodule's volume between the visits."""
DIAMETERS_MM = (4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0)
KINDS = (NoduleType.SOLID, NoduleType.SOLID, NoduleType.SOLID, NoduleType.GROUND_GLASS, NoduleType.PART_SOLID)
MARK_OFF_MM = 1.0
"""How far a mark lies off a nodule's true centre, standard deviation on each axis."""


@dataclass(frozen=True)
class PairOfVisits:
    """Both visits and the days between them."""

    before: Phantom
    after: Phantom
    days: int


@dataclass(frozen=True)
class Outcome:
    """One true nodule after the comparison. None where it was not measured or not matched."""

    diameter_mm: float
    kind: NoduleType
    true_growth: float
    measured_in_both: bool
    matched: bool
    wrong: bool
    growth: float | None = None
    days: int = 0
    shortest: float | None = None
    longest: float | None = None
    doubling: float | None = None


def random_pose(rng: np.random.Generator) -> Pose:
    """Repositioned by up to 25 mm and 6 degrees, and breathed in or out by up to 25 mm at the diaphragm."""
    shift, turn = rng.uniform(-25, 25, 3), rng.uniform(-6, 6, 3)
    return Pose(
        (float(shift[0]), float(shift[1]), float(shift[2])),
        (float(turn[0]), float(turn[1]), float(turn[2])),
        float(rng.uniform(-15, 25)),
    )


def make_pair(seed: int, count: int = 8, size: Any = "small", days: int = 365, **options: Any) -> PairOfVisits:
    """Two visits of the patient `seed`, with nodules of all sizes and types."""
    rng = np.random.default_rng(seed)
    specs = tuple(
        NoduleSpec(
            float(rng.choice(DIAMETERS_MM)), KINDS[int(rng.integers(len(KINDS)))], growth=float(rng.choice(GROWTHS))
        )
        for _ in range(count)
    )
    base: PhantomConfig = sized(size, seed=seed, scan_seed=1, nodules=tuple(replace(s, growth=1.0) for s in specs))
    base = replace(base, study_date=f"{FIRST:%Y%m%d}", **options)
    later = replace(
        base,
        scan_seed=2,
        nodules=specs,
        pose=random_pose(rng),
        study_date=f"{FIRST + timedelta(days):%Y%m%d}",
    )
    return PairOfVisits(make_phantom(base), make_phantom(later), days)


def as_volume(phantom: Phantom) -> Volume:
    """The scan as the pipeline has it."""
    config = phantom.config
    exam = Exam(f"1.2.{config.seed}.{config.study_date}", date=config.study_date)
    series = Series("dicom", f"{exam.study_uid}.1", Patient("P", "Doe^J"), exam, Acquisition())
    return Volume(phantom.hu, phantom.geometry, series)


def study_of(volume: Volume) -> Study:
    """The study of a volume."""
    return Study(volume.series.patient, volume.series.exam, (volume.series,))


def grade(volume: Volume, lungs: Lungs, marks: Sequence[Candidate]) -> list[Finding]:
    """Marks measured, typed and located; not rated."""
    measured = measure_nodules(volume, lungs, marks, MeasureConfig(), load_classifier())
    return [
        Finding(
            n,
            mark,
            locate_nodule(volume, lungs, mark.centre_mm),
            measured=m,
            notices=m.notices,
        )
        for n, (mark, m) in enumerate(zip(marks, measured, strict=True), 1)
    ]


def read_true(phantom: Phantom, seed: int = 0) -> Reading:
    """A reading whose candidates are the true nodules, a little off, in their order."""
    volume = as_volume(phantom)
    lungs = segment_lungs(volume, LungsConfig())
    rng = np.random.default_rng(seed)
    marks = []
    for nodule in phantom.nodules:
        x, y, z = np.array(nodule.centre_mm) + rng.normal(0, MARK_OFF_MM, 3)
        marks.append(Candidate((float(x), float(y), float(z)), nodule.diameter_mm, 0.9))
    return Reading(volume, lungs, tuple(marks), tuple(grade(volume, lungs, marks)))


Grade = Callable[[Volume, Lungs, Sequence[Candidate]], list[Finding]]


def compare_readings(
    now: Reading,
    day: date,
    priors: Sequence[Prior],
    read: Callable[[], Reading],
    grade: Grade,
    person: ClinicalData | None = None,
    least_mm: float = 3.0,
    config: ComparisonConfig | None = None,
) -> Comparison:
    """The pipeline's own comparison; `read` reads any earlier exam, `grade` measures marks, the operating point is
    0.5.
    """
    pipeline = Pipeline(
        "pair", comparison=config or ComparisonConfig(), findings=FindingsConfig(least_mm=least_mm)
    )  # fmt: skip
    nobody: Any = None
    networks = Networks(nobody, nobody, (), {"screening": 0.5})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lungscreen.pipeline.priors._read_prior", lambda *_: read())
        patch.setattr("lungscreen.pipeline.priors.grade_candidates", lambda v, lungs, marks, *_: grade(v, lungs, marks))
        return compare_with_priors(now, day, priors, person, pipeline, networks)


def compare_pair(pair: PairOfVisits, config: ComparisonConfig | None = None) -> tuple[Comparison, list[Outcome]]:
    """Compare both visits, and say of each true nodule how it ended."""
    before, after = read_true(pair.before, 1), read_true(pair.after, 2)
    prior = Prior(FIRST, study_of(before.volume))
    day = FIRST + timedelta(pair.days)
    compared = compare_readings(after, day, [prior], lambda: before, grade, least_mm=0.0, config=config)
    rows = zip(pair.before.nodules, pair.after.nodules, before.found, compared.found, strict=False)
    return compared, [_outcome(*row, pair.days) for row in rows]


def _outcome(then: Any, now: Any, before: Finding, after: Finding, days: int) -> Outcome:
    both = before.measurement is not None and after.measurement is not None
    exams = after.change.exams if after.change else ()
    truth = now.volume_mm3 / then.volume_mm3
    place = exams[-1].centre_mm if exams else None
    right = place is not None and math.dist(place, then.centre_mm) < max(6.0, then.diameter_mm / 2)
    outcome = Outcome(then.diameter_mm, then.spec.type, truth, both, right, bool(exams) and not right)
    if not (right and both and after.change is not None and after.measurement is not None and exams[-1].volume_mm3):
        return outcome
    return replace(
        outcome,
        growth=after.measurement.volume_mm3 / exams[-1].volume_mm3,
        days=days,
        shortest=after.change.doubling_shortest_days,
        longest=after.change.doubling_longest_days,
        doubling=after.change.doubling_days,
    )

"""Reading of this exam and of an earlier one, Alignment ─► Pairing: pairs of nodules, and marks still to be measured.

What only one of the two exams shows is looked for again in the other's image before it is called new or resolved. Where
something alike is seen, or the detector marked the place, the mark has to be measured: the pipeline does that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lungscreen.comparison.again import look_again
from lungscreen.comparison.align import Alignment
from lungscreen.comparison.config import ComparisonConfig
from lungscreen.comparison.match import NodulePlace, Pair, match_nodules
from lungscreen.geometry import Vector
from lungscreen.records import Candidate, Finding, Reading, Volume

__all__ = [
    "NEAR_CANDIDATE_MM",
    "Pairing",
    "Sought",
    "accept_again",
    "is_measured",
    "is_taken",
    "pair_exams",
    "place_of",
]

NEAR_CANDIDATE_MM = 6.0
"""A candidate this near to the place where something is looked for again is that something."""
CANDIDATE_SHARE = 0.1
"""Such a candidate counts from this share of the operating point's score."""
TAKEN_SHARE = 0.75
"""Of a nodule's radius: what lies nearer to another nodule's centre is that nodule."""
LARGEST_FACTOR = 2.5
"""Between the diameter of what was looked for and of what was found again."""
UNMARKED_FACTOR = 1.6
"""The same where no detector's mark lies there."""
UNKNOWN_SIZE_MM = 6.0
"""Diameter that something is looked for with where neither outline nor detector gave one."""


@dataclass(frozen=True, eq=False)
class Sought:
    """A nodule that one exam shows, looked for in the other.

    position: among the findings of the exam that shows it.
    expected_mm: its place in the other exam, LPS mm.
    inside: whether the other scan shows that place.
    mark: what lies there and has to be measured; None where nothing does.
    alike: whether the two images look alike there.
    size_mm: its diameter in the exam that shows it.
    """

    position: int
    expected_mm: Vector
    inside: bool
    size_mm: float
    mark: Candidate | None = None
    alike: bool = False


@dataclass(frozen=True, eq=False)
class Pairing:
    """Two aligned exams with their nodules paired.

    earlier: the measured findings of the earlier exam; pairs name positions in `now.found` and in these.
    sought_then: findings of this exam without a partner, looked for in the earlier one.
    sought_now: the other way round.
    sought_unmeasured: findings of the earlier exam that have no sizes there, looked for in this one.
    """

    now: Reading
    then: Reading
    overlap: float
    earlier: tuple[Finding, ...]
    pairs: tuple[Pair, ...]
    sought_then: tuple[Sought, ...]
    sought_now: tuple[Sought, ...]
    sought_unmeasured: tuple[Sought, ...]

    @property
    def marks_then(self) -> tuple[Candidate, ...]:
        """What has to be measured in the earlier exam, in the order of `sought_then`."""
        return tuple(sought.mark for sought in self.sought_then if sought.mark is not None)

    @property
    def marks_now(self) -> tuple[Candidate, ...]:
        """What has to be measured in this exam, in the order of `sought_now`, then of `sought_unmeasured`."""
        return tuple(one.mark for one in (*self.sought_now, *self.sought_unmeasured) if one.mark is not None)


def pair_exams(
    now: Reading, then: Reading, alignment: Alignment, threshold: float, config: ComparisonConfig | None = None
) -> Pairing:
    """Pair the nodules of two aligned exams, and look in each for what only the other shows.

    threshold: score of the operating point.
    """
    config = config or ComparisonConfig()
    earlier = tuple(filter(is_measured, then.found))
    unmeasured = [finding for finding in then.found if not is_measured(finding)]
    matches = match_nodules([*map(place_of, now.found)], [*map(place_of, earlier)], alignment, config)
    again_then, again_now = _Other(then, earlier, threshold, config), _Other(now, now.found, threshold, config)

    def look_then(n: int) -> Sought:
        finding = now.found[n]
        return _look(n, finding, alignment.to_earlier(finding.candidate.centre_mm), now.volume, again_then)

    def look_now(n: int, finding: Finding) -> Sought:
        return _look(n, finding, alignment.to_current(finding.candidate.centre_mm), then.volume, again_now)

    sought_then = tuple(look_then(n) for n in matches.only_current)
    sought_now = tuple(look_now(n, earlier[n]) for n in matches.only_earlier)
    sought_unmeasured = tuple(look_now(n, finding) for n, finding in enumerate(unmeasured))
    return Pairing(now, then, alignment.overlap, earlier, matches.pairs, sought_then, sought_now, sought_unmeasured)


def accept_again(sought: Sought, seen: Finding | None, threshold: float) -> Finding | None:
    """The same nodule in the other exam, as it was measured there; None where that is not it.

    It is without a measurement where it lies there for certain, and could not be outlined.
    """
    mark = sought.mark
    if mark is None or seen is None:
        return None
    if seen.measurement is None:
        return seen if sought.alike or mark.score >= threshold else None
    factor = seen.measurement.mean_diameter_mm / sought.size_mm
    return seen if _fits(factor, sought.alike, mark.score > 0) else None


def place_of(finding: Finding) -> NodulePlace:
    """A finding as matching sees it."""
    size = finding.measurement.mean_diameter_mm if finding.measurement else finding.candidate.diameter_mm
    where = finding.location
    return NodulePlace(
        finding.candidate.centre_mm, size if size > 0 else None, finding.nodule_type, where.side, where.zone
    )


def is_measured(finding: Finding) -> bool:
    """Whether a finding has sizes that can be compared."""
    size = finding.measurement
    return size is not None and size.long_axis_mm >= size.short_axis_mm > 0 and size.volume_mm3 > 0


def is_taken(place: Vector, known: Sequence[Finding]) -> bool:
    """Whether a place lies within a finding that is known already."""
    return any(
        math.dist(place, finding.candidate.centre_mm)
        <= TAKEN_SHARE * max(finding.measurement.mean_diameter_mm if finding.measurement else 0.0, 4.0) / 2
        for finding in known
    )


# -- looking again ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Other:
    """The exam in which something is looked for, and what is known in it already."""

    reading: Reading
    known: tuple[Finding, ...]
    threshold: float
    config: ComparisonConfig


def _look(position: int, finding: Finding, expected: Vector, shown: Volume, other: _Other) -> Sought:
    size = finding.measurement.mean_diameter_mm if finding.measurement else finding.candidate.diameter_mm
    size = size if size > 0 else UNKNOWN_SIZE_MM
    inside = other.reading.volume.geometry.contains(expected)
    mark, alike = _again(finding, size, expected, shown, other) if inside else (None, False)
    return Sought(position, expected, inside, size, mark, alike)


def _again(
    finding: Finding, size: float, expected: Vector, shown: Volume, other: _Other
) -> tuple[Candidate | None, bool]:
    """What to measure at the expected place, None where nothing is there; and whether it looks alike."""
    config = other.config
    sighting = look_again(shown, finding.candidate.centre_mm, size, other.reading.volume, expected, config)
    if sighting is None:
        return None, False
    alike = sighting.likeness >= config.least_likeness and sighting.contrast >= config.least_contrast
    mark = _nearest(other.reading.candidates, sighting.centre_mm if alike else expected)
    if not alike and (mark is None or mark.score < CANDIDATE_SHARE * other.threshold):
        return None, False
    mark = mark or Candidate(sighting.centre_mm, size, 0.0)
    return (None if is_taken(mark.centre_mm, other.known) else mark), alike


def _nearest(candidates: Sequence[Candidate], place: Vector) -> Candidate | None:
    """The candidate that lies at a place, None where none does."""
    near = [(math.dist(candidate.centre_mm, place), candidate.score, candidate) for candidate in candidates]
    near = [row for row in near if row[0] <= NEAR_CANDIDATE_MM]
    return min(near, key=lambda row: (row[0], -row[1]))[2] if near else None


def _fits(factor: float, alike: bool, marked: bool) -> bool:
    """Whether a diameter `factor` times the other exam's can be the same nodule's.

    What nothing marked must be of much the same size; what looks otherwise was, or has become, smaller.
    """
    if not marked:
        return 1 / UNMARKED_FACTOR <= factor <= UNMARKED_FACTOR
    return 1 / LARGEST_FACTOR <= factor <= (LARGEST_FACTOR if alike else 1.0)

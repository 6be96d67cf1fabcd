"""How exams are aligned and nodules matched: lengths in mm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["ComparisonConfig"]


@dataclass(frozen=True, slots=True)
class ComparisonConfig:
    """Settings of the comparison with earlier exams.

    priors_by: what tells that an earlier exam is of the same person. person: the same ID and name, and an agreeing
        birth date or issuer of IDs. id: the ID alone, for archives whose pseudonyms have no birth dates; every report
        says so.
    most_tries: earlier exams that are tried, the latest first, until one can be read and aligned; each costs a reading.
    coarse_mm: voxel size of the images that are aligned.
    margin_mm: tissue around the lungs that is looked at.
    control_mm: distance of the B-spline's control points.
    least_overlap: Dice of the aligned lungs below which exams are not compared.
    match_mm: how far a nodule may lie from where it is expected.
    again_mm: how far around the expected place a nodule is looked for again.
    least_likeness: correlation of the two images there from which it is the same thing, with at least least_contrast of
        what stands out from the lung.
    unclear_share: a second partner whose cost is no higher than this many times the first's makes a match ambiguous.
    """

    priors_by: Literal["person", "id"] = "person"
    most_tries: int = 3
    coarse_mm: float = 4.0
    margin_mm: float = 8.0
    control_mm: float = 60.0
    least_overlap: float = 0.75
    match_mm: float = 15.0
    again_mm: float = 8.0
    least_likeness: float = 0.7
    least_contrast: float = 0.6
    unclear_share: float = 1.5

    def __post_init__(self) -> None:
        lengths = (self.coarse_mm, self.margin_mm, self.control_mm, self.match_mm, self.again_mm)
        if min(lengths) <= 0:
            raise ValueError("expected lengths above 0 mm")
        if not all(0 < share < 1 for share in (self.least_overlap, self.least_likeness, self.least_contrast)):
            raise ValueError("least_overlap, least_likeness, least_contrast: expected between 0 and 1")
        if self.most_tries < 1 or self.unclear_share < 1:
            raise ValueError("most_tries, unclear_share: expected at least 1")

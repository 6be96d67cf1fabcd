"""What the rules are asked about: a nodule as one exam shows it, and as all exams show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import pairwise
from typing import Literal

from lungscreen.assess.rounding import Number, exact, mean_diameter, tenths
from lungscreen.records import Measurement, NoduleType

__all__ = ["AT_PLEURA_MM", "BenignPattern", "NoduleAtExam", "NoduleHistory", "days_between", "measured_nodule"]

AT_PLEURA_MM = 2.0
"""An outline this near to the lung's border lies at the pleura: a voxel or two. Our choice."""

BenignPattern = Literal["", "calcification", "fat"]
"""Complete, central, popcorn or concentric calcification; fat; or neither."""


@dataclass(frozen=True, slots=True)
class NoduleAtExam:
    """One nodule as one exam shows it. None or empty is not known.

    exam_date: may be None only where no other exam is compared.
    solid_mean_diameter_mm, solid_volume_mm3: of the solid part; asked for in part-solid nodules only, as a solid
    nodule's is the whole and a ground-glass nodule's is 0.
    juxtapleural: whether it is juxtapleural or perifissural, smooth, and oval, lentiform or triangular.
    category: the nodule's own Lung-RADS category in that exam's report, "" or "0" where not known.
    """

    exam_date: date | None
    nodule_type: NoduleType
    long_axis_mm: Number
    short_axis_mm: Number
    solid_mean_diameter_mm: Number | None = None
    volume_mm3: Number | None = None
    solid_volume_mm3: Number | None = None
    juxtapleural: bool | None = None
    category: str = ""

    def __post_init__(self) -> None:
        """Sizes are positive (a solid part may be 0) and finite; axes in order."""
        for name in ("long_axis_mm", "short_axis_mm", "volume_mm3"):
            value = getattr(self, name)
            if value is not None and exact(value) <= 0:
                raise ValueError(f"expected {name} above 0, got {value}")
        for name in ("solid_mean_diameter_mm", "solid_volume_mm3"):
            value = getattr(self, name)
            if value is not None and exact(value) < 0:
                raise ValueError(f"expected {name} of at least 0, got {value}")
        if exact(self.short_axis_mm) > exact(self.long_axis_mm):
            raise ValueError(f"the short axis {self.short_axis_mm} mm is longer than the long one {self.long_axis_mm}")

    @property
    def mean_diameter_mm(self) -> Decimal:
        """Mean diameter to one decimal (Lung-RADS v2022 note 4)."""
        return mean_diameter(self.long_axis_mm, self.short_axis_mm)

    @property
    def solid_mm(self) -> Decimal | None:
        """Mean diameter of what is solid: the whole, the solid part, or 0 (choice b); None where not known."""
        if self.nodule_type is NoduleType.GROUND_GLASS:
            return Decimal("0.0")
        if self.nodule_type is NoduleType.SOLID:
            return self.mean_diameter_mm
        return None if self.solid_mean_diameter_mm is None else tenths(self.solid_mean_diameter_mm)

    @property
    def solid_mm3(self) -> Number | None:
        """Volume of what is solid, mm³: the whole, the solid part, or 0; None where not known."""
        if self.nodule_type is NoduleType.GROUND_GLASS:
            return Decimal(0)
        return self.volume_mm3 if self.nodule_type is NoduleType.SOLID else self.solid_volume_mm3


@dataclass(frozen=True, slots=True)
class NoduleHistory:
    """One nodule over all exams that show it, and what a reader knows of it.

    earlier: the earlier exams that show it, oldest first.
    compared: whether images of an earlier exam were compared; with `earlier` empty the nodule is then new.
    proven_benign: after work-up.
    suspicious: a reader sees features that raise suspicion (category 4X).
    """

    current: NoduleAtExam
    earlier: tuple[NoduleAtExam, ...] = ()
    compared: bool = False
    benign_pattern: BenignPattern = ""
    proven_benign: bool = False
    suspicious: bool = False

    def __post_init__(self) -> None:
        """Exams are in order of time and on different days."""
        for before, after in pairwise((*self.earlier, self.current)):
            if days_between(before, after) <= 0:
                raise ValueError(f"expected exams in order of time, got {before.exam_date} before {after.exam_date}")

    @property
    def is_baseline(self) -> bool:
        """No earlier exam was compared."""
        return not (self.earlier or self.compared)

    @property
    def is_new(self) -> bool:
        """An earlier exam was compared and does not show it."""
        return self.compared and not self.earlier


def days_between(before: NoduleAtExam, after: NoduleAtExam) -> int:
    """Days from one exam to another.

    Errors: ValueError where a date is not known.
    """
    if before.exam_date is None or after.exam_date is None:
        raise ValueError("exams that are compared need their dates")
    return (after.exam_date - before.exam_date).days


def measured_nodule(
    measurement: Measurement,
    nodule_type: NoduleType,
    exam_date: date | None,
    *,
    juxtapleural: bool | None = None,
    category: str = "",
) -> NoduleAtExam:
    """A measured nodule as the rules take it."""
    return NoduleAtExam(
        exam_date,
        nodule_type,
        measurement.long_axis_mm,
        measurement.short_axis_mm,
        solid_mean_diameter_mm=measurement.solid_mean_diameter_mm,
        volume_mm3=measurement.volume_mm3,
        solid_volume_mm3=measurement.solid_volume_mm3,
        juxtapleural=juxtapleural,
        category=category,
    )

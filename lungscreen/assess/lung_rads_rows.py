"""The table of Lung-RADS v2022: a size → the row that it matches, at baseline, new or growing; and the step-down.

Source: ACR Lung-RADS v2022 table. Volumes are compared with the printed integers, never with those of spheres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from lungscreen.assess.growth import FIVE_MONTHS_DAYS, TWO_AND_A_HALF_MONTHS_DAYS
from lungscreen.assess.inputs import NoduleAtExam
from lungscreen.assess.results import RANK, LungRads, read_category
from lungscreen.assess.rounding import whole_mm3
from lungscreen.errors import Notice
from lungscreen.records import NoduleType

__all__ = [
    "CUT_30",
    "Cut",
    "Lacking",
    "Measure",
    "Row",
    "Size",
    "baseline_row",
    "counted_from",
    "growing_solid_row",
    "new_row",
    "size_by",
    "solid_part_row",
    "step_down",
]

Measure = Literal["diameter", "volume"]
"""What the size cuts are compared with (choice h)."""


class Lacking(Exception):  # noqa: N818 - control flow inside this folder, never seen outside
    """A row asks for a measurement that nobody made."""


@dataclass(frozen=True, slots=True)
class Cut:
    """A size cut of the table: mean diameter in mm, and the volume in mm³ that is printed for it."""

    mm: Decimal
    mm3: Decimal


CUT_4 = Cut(Decimal(4), Decimal(34))
CUT_6 = Cut(Decimal(6), Decimal(113))
CUT_8 = Cut(Decimal(8), Decimal(268))
CUT_10 = Cut(Decimal(10), Decimal(524))
CUT_15 = Cut(Decimal(15), Decimal(1767))
CUT_30 = Cut(Decimal(30), Decimal(14137))


@dataclass(frozen=True, slots=True)
class Size:
    """What is compared with the cuts, by one measure: the whole nodule and what is solid of it."""

    measure: Measure
    total: Decimal
    solid: Decimal | None

    def whole_reaches(self, cut: Cut) -> bool:
        """The whole nodule is at least as large as the cut."""
        return self.total >= self._limit(cut)

    def solid_reaches(self, cut: Cut) -> bool:
        """The solid part is at least as large as the cut.

        Errors: `Lacking` where its size is not known.
        """
        if self.solid is None:
            raise Lacking("size of the solid part")
        return self.solid >= self._limit(cut)

    def _limit(self, cut: Cut) -> Decimal:
        return cut.mm if self.measure == "diameter" else cut.mm3


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the table that a nodule matches."""

    category: LungRads
    clause: str
    notices: tuple[Notice, ...] = ()


def size_by(nodule: NoduleAtExam, measure: Measure) -> Size:
    """A nodule's size by one measure.

    Errors: Lacking where its volume is asked for and not known.
    """
    if measure == "diameter":
        return Size(measure, nodule.mean_diameter_mm, nodule.solid_mm)
    if nodule.volume_mm3 is None:
        raise Lacking("volume")
    solid = nodule.solid_mm3
    return Size(measure, whole_mm3(nodule.volume_mm3), None if solid is None else whole_mm3(solid))


def baseline_row(nodule: NoduleAtExam, size: Size) -> Row:
    """The rows for baseline."""
    if nodule.nodule_type is NoduleType.GROUND_GLASS:
        return _ground_glass_by_size(size, "at baseline")
    if nodule.nodule_type is NoduleType.PART_SOLID:
        return _baseline_part_solid(size)
    if _is_small_juxtapleural(nodule, size):
        return Row(LungRads.BENIGN, "category 2: juxtapleural <10 mm (524 mm³) at baseline (choice a)")
    return _baseline_solid(size)


def _baseline_solid(size: Size) -> Row:
    if not size.whole_reaches(CUT_6):
        return Row(LungRads.BENIGN, "category 2: solid <6 mm (<113 mm³) at baseline")
    if not size.whole_reaches(CUT_8):
        return Row(LungRads.PROBABLY_BENIGN, "category 3: solid ≥6 to <8 mm (113 to <268 mm³) at baseline")
    if not size.whole_reaches(CUT_15):
        return Row(LungRads.SUSPICIOUS_4A, "category 4A: solid ≥8 to <15 mm (268 to <1767 mm³) at baseline")
    return Row(LungRads.SUSPICIOUS_4B, "category 4B: solid ≥15 mm (≥1767 mm³)")


def _baseline_part_solid(size: Size) -> Row:
    if not size.whole_reaches(CUT_6):
        return Row(LungRads.BENIGN, "category 2: part-solid <6 mm (<113 mm³) total at baseline (choice d)")
    total = "part-solid ≥6 mm (≥113 mm³) total"
    if not size.solid_reaches(CUT_6):
        return Row(LungRads.PROBABLY_BENIGN, f"category 3: {total} with solid part <6 mm (<113 mm³) at baseline")
    if not size.solid_reaches(CUT_8):
        clause = f"category 4A: {total} with solid part ≥6 to <8 mm (113 to <268 mm³) at baseline"
        return Row(LungRads.SUSPICIOUS_4A, clause)
    return Row(LungRads.SUSPICIOUS_4B, "category 4B: part-solid with solid part ≥8 mm (≥268 mm³)")


def _new_solid(size: Size) -> Row:
    if not size.whole_reaches(CUT_4):
        return Row(LungRads.BENIGN, "category 2: solid <4 mm (<34 mm³), new")
    if not size.whole_reaches(CUT_6):
        return Row(LungRads.PROBABLY_BENIGN, "category 3: solid 4 to <6 mm (34 to <113 mm³), new")
    if not size.whole_reaches(CUT_8):
        return Row(LungRads.SUSPICIOUS_4A, "category 4A: solid 6 to <8 mm (113 to <268 mm³), new")
    text = "A new solid nodule of 8 mm or more can be inflammation: category 0 may be considered (note 10, choice l)."
    clause = "category 4B: solid ≥8 mm (≥268 mm³), new (choice l)"
    return Row(LungRads.SUSPICIOUS_4B, clause, (Notice("inflammation-possible", text),))


def _new_part_solid(size: Size) -> Row:
    if size.solid_reaches(CUT_4):
        return Row(LungRads.SUSPICIOUS_4B, "category 4B: part-solid with new solid part ≥4 mm (≥34 mm³) (choice b)")
    if not size.whole_reaches(CUT_6):
        return Row(LungRads.PROBABLY_BENIGN, "category 3: part-solid <6 mm (<113 mm³) total, new (choice b)")
    return Row(LungRads.SUSPICIOUS_4A, "category 4A: part-solid ≥6 mm total with new solid part <4 mm (<34 mm³)")


def _ground_glass_by_size(size: Size, when: str) -> Row:
    if size.whole_reaches(CUT_30):
        return Row(LungRads.PROBABLY_BENIGN, f"category 3: ground-glass ≥30 mm (≥14,137 mm³), {when}")
    return Row(LungRads.BENIGN, f"category 2: ground-glass <30 mm (<14,137 mm³), {when}")


def new_row(nodule: NoduleAtExam, size: Size) -> Row:
    """The rows for new nodules."""
    if nodule.nodule_type is NoduleType.GROUND_GLASS:
        return _ground_glass_by_size(size, "new")
    if nodule.nodule_type is NoduleType.PART_SOLID:
        return _new_part_solid(size)
    if _is_small_juxtapleural(nodule, size):
        return Row(LungRads.BENIGN, "category 2: juxtapleural <10 mm (524 mm³), new (choice a)")
    return _new_solid(size)


def growing_solid_row(size: Size) -> Row:
    """The rows for a solid nodule that has grown; a juxtapleural one too (choice a)."""
    if size.whole_reaches(CUT_8):
        return Row(LungRads.SUSPICIOUS_4B, "category 4B: solid ≥8 mm (≥268 mm³), growing (note 6, choice f)")
    return Row(LungRads.SUSPICIOUS_4A, "category 4A: solid <8 mm (<268 mm³), growing (note 6, choice f)")


def solid_part_row(size: Size, what: str) -> Row:
    """The rows for a solid part that is `what`: new or growing, whatever the total (choice b)."""
    if size.solid_reaches(CUT_4):
        return Row(LungRads.SUSPICIOUS_4B, f"category 4B: {what} solid part ≥4 mm (≥34 mm³) (choice b)")
    return Row(LungRads.SUSPICIOUS_4A, f"category 4A: {what} solid part <4 mm (<34 mm³) (choice b)")


def _is_small_juxtapleural(nodule: NoduleAtExam, size: Size) -> bool:
    """Solid, smooth, oval, lentiform or triangular, juxtapleural and <10 mm (choice a)."""
    return bool(nodule.juxtapleural) and nodule.nodule_type is NoduleType.SOLID and not size.whole_reaches(CUT_10)


def step_down(prior: LungRads, days: int) -> Row:
    """The row of a nodule that is stable or smaller, `days` after it first got its category 1 to 4A (choice c)."""
    if prior in (LungRads.NEGATIVE, LungRads.BENIGN):
        return Row(LungRads.BENIGN, f"category 2: category {prior}, stable or smaller (choice c)")
    if prior is LungRads.PROBABLY_BENIGN:
        if days >= FIVE_MONTHS_DAYS:
            return Row(LungRads.BENIGN, f"category 2: category 3, stable or smaller for {days} days (choice c)")
        clause = f"category 3: stable or smaller for {days} days, less than 5 months (choice c)"
        return Row(LungRads.PROBABLY_BENIGN, clause)
    if days >= TWO_AND_A_HALF_MONTHS_DAYS:
        return Row(LungRads.PROBABLY_BENIGN, f"category 3: category 4A, stable or smaller for {days} days (choice c)")
    clause = f"category 4A: stable or smaller for {days} days, less than 2.5 months (choice c)"
    return Row(LungRads.SUSPICIOUS_4A, clause)


def counted_from(categories: Sequence[str]) -> int:
    """Which exam the interval of a step-down counts from, given a nodule's categories from the oldest exam on.

    The one where it first got its last category without a higher one since (choice c).
    """
    prior = read_category(categories[-1])
    first = len(categories) - 1
    for index in range(len(categories) - 1, -1, -1):
        category = read_category(categories[index])
        if category is prior:
            first = index
        elif category is not None and prior is not None and RANK.get(category, 0) > RANK.get(prior, 0):
            break
    return first

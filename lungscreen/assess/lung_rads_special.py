"""Airway nodules and cysts → Category: the rows of Lung-RADS v2022 that need a reader's eye (notes 11 and 12).

The pipeline recognises neither; these functions are for a reader's input.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from itertools import pairwise

from lungscreen.assess.growth import TWELVE_MONTHS_DAYS, Growth, judge_growth
from lungscreen.assess.lung_rads_rows import Row, counted_from, step_down
from lungscreen.assess.results import RANK, STAYING, Category, LungRads, highest, read_category
from lungscreen.assess.rounding import Number, exact, tenths
from lungscreen.errors import Notice

__all__ = ["AirwayNodule", "Change", "CystAtExam", "CystHistory", "grade_airway_nodule", "grade_cyst"]

THICK_WALL_MM = 2
"""A cyst's wall is thick from here on (Lung-RADS v2022 note 12)."""


class Change(StrEnum):
    """What a reader says of an airway nodule since the last exam."""

    BASELINE = "baseline"
    NEW = "new"
    STABLE = "stable"
    GROWING = "growing"
    SMALLER = "smaller"
    PERSISTING = "persisting"
    """It was there before; whether it grew is not known."""


@dataclass(frozen=True, slots=True)
class AirwayNodule:
    """An endotracheal or endobronchial abnormality, as a reader describes it. None is not known.

    segmental_or_proximal: in a segmental bronchus or more proximal; False is subsegmental.
    multiple_tubular: several tubular ones (note 11b).
    contains_air: favours secretions (note 11c).
    underlying_nodule: an obstructing or soft-tissue nodule was seen.
    infection_suspected: whether the reader takes tubular ones for infection or inflammation.
    """

    segmental_or_proximal: bool | None
    change: Change
    multiple_tubular: bool = False
    contains_air: bool = False
    underlying_nodule: bool = True
    infection_suspected: bool = False
    proven_benign: bool = False
    suspicious: bool = False
    prior_category: str = ""


def grade_airway_nodule(nodule: AirwayNodule) -> Category:
    """Lung-RADS v2022 category of an airway nodule (table rows and note 11)."""
    row = _airway_row(nodule)
    if row is None:
        level = "whether it lies in a segmental bronchus or more proximal"
        need = level if nodule.segmental_or_proximal is None else "whether it has grown"
        return Category(LungRads.NOT_ASSESSED, "Lung-RADS v2022 note 11", f"not assessed: needs {need}", needs=(need,))
    return _finished(row, nodule.suspicious, f"airway nodule, {nodule.change}")


def _airway_row(nodule: AirwayNodule) -> Row | None:
    prior = read_category(nodule.prior_category)
    if nodule.proven_benign and prior in STAYING:
        return Row(LungRads.BENIGN, "category 2: category 4B proven to be benign after work-up")
    row = _airway_by_looks(nodule, prior)
    return row if nodule.proven_benign else _at_least(prior, row)


def _airway_by_looks(nodule: AirwayNodule, prior: LungRads | None) -> Row | None:
    if nodule.multiple_tubular and not nodule.underlying_nodule:
        if nodule.infection_suspected:
            return Row(LungRads.INCOMPLETE, "category 0: multiple tubular, infection or inflammation likely (note 11b)")
        return Row(LungRads.BENIGN, "category 2: multiple tubular, without an underlying nodule (note 11b)")
    if nodule.contains_air and not nodule.underlying_nodule:
        return Row(LungRads.BENIGN, "category 2: contains air, favours secretions (note 11c)")
    if nodule.segmental_or_proximal is None:
        return None
    return _proximal_row(nodule.change, prior) if nodule.segmental_or_proximal else _subsegmental_row(nodule.change)


def _proximal_row(change: Change, prior: LungRads | None) -> Row:
    if change is Change.BASELINE:
        return Row(LungRads.SUSPICIOUS_4A, "category 4A: airway nodule, segmental or more proximal, at baseline")
    if change is Change.NEW:
        return Row(LungRads.SUSPICIOUS_4A, "category 4A: airway nodule, segmental or more proximal, new (note 11a)")
    if change is not Change.SMALLER:
        return Row(LungRads.SUSPICIOUS_4B, f"category 4B: airway nodule, segmental or more proximal, {change}")
    if prior is LungRads.SUSPICIOUS_4A:
        return Row(
            LungRads.SUSPICIOUS_4B, "category 4B: airway nodule of category 4A, smaller but still there (note 11d)"
        )
    return Row(LungRads.SUSPICIOUS_4A, "category 4A: airway nodule, smaller: the table has no row for it")


def _subsegmental_row(change: Change) -> Row | None:
    if change is Change.PERSISTING:
        return None
    if change is not Change.GROWING:
        return Row(LungRads.BENIGN, f"category 2: airway nodule, subsegmental, {change}")
    clause = (
        "category 4A: airway nodule, subsegmental, growing: the table has no row for it; read as a growing solid one"
    )
    return Row(LungRads.SUSPICIOUS_4A, clause)


def _at_least(prior: LungRads | None, row: Row | None) -> Row | None:
    """A 4B or 4X that nobody proved benign is not lowered, by whatever row (order of decision, 4 and 5)."""
    if prior not in STAYING or (row is not None and RANK.get(row.category, 0) >= RANK[prior]):
        return row
    said = f"; by its row: {row.clause}" if row else ""
    return Row(prior, f"category {prior} at the last exam stays{said}")


@dataclass(frozen=True, slots=True)
class CystAtExam:
    """An atypical cyst as one exam shows it. None is not known.

    wall_mm: greatest thickness of the wall.
    cyst_mm: mean diameter of the cyst.
    nodularity_mm: mean diameter of the largest nodular part, 0 where there is none.
    """

    exam_date: date | None
    wall_mm: Number | None
    multilocular: bool
    cyst_mm: Number | None = None
    nodularity_mm: Number | None = None
    category: str = ""

    def __post_init__(self) -> None:
        """Sizes are finite and not negative."""
        for value in (self.wall_mm, self.cyst_mm, self.nodularity_mm):
            if value is not None and exact(value) < 0:
                raise ValueError(f"expected sizes of at least 0 mm, got {value}")

    @property
    def is_thick(self) -> bool:
        """The wall is 2 mm or more, as far as it is known."""
        return self.wall_mm is not None and tenths(self.wall_mm) >= THICK_WALL_MM


@dataclass(frozen=True, slots=True)
class CystHistory:
    """A cyst over all exams that show it, oldest first, and what a reader sees of it.

    more_loculation, new_opacity: in a multilocular cyst since the last exam.
    fluid_filled, one_of_many: not classified (notes 12d, 12g).
    nodule: the category of a nodule beside or in it.
    """

    current: CystAtExam
    earlier: tuple[CystAtExam, ...] = ()
    more_loculation: bool = False
    new_opacity: bool = False
    fluid_filled: bool = False
    one_of_many: bool = False
    proven_benign: bool = False
    suspicious: bool = False
    nodule: Category | None = None

    def __post_init__(self) -> None:
        """Exams are in order of time and have their dates."""
        for before, after in pairwise((*self.earlier, self.current)):
            if _days(before, after) <= 0:
                raise ValueError(f"expected exams in order of time, got {before.exam_date} before {after.exam_date}")


def grade_cyst(history: CystHistory) -> Category:
    """Lung-RADS v2022 category of an atypical pulmonary cyst (table rows and note 12).

    A cavitary nodule is no cyst: it is graded as a solid nodule by its total diameter. A cyst with a nodule takes the
    more concerning category of the two.
    """
    row = _cyst_row(history)
    if row.category is not LungRads.NOT_CLASSIFIED:
        graded = _finished(row, history.suspicious, "cyst")
        return _more_concerning(graded, history.nodule)
    if history.nodule is not None:
        return history.nodule
    return Category(row.category, f"Lung-RADS v2022, {row.clause}", f"cyst: {row.clause}")


def _cyst_row(history: CystHistory) -> Row:
    prior = read_category(history.earlier[-1].category) if history.earlier else None
    row = _cyst_by_looks(history, prior)
    if prior not in STAYING or RANK.get(row.category, 0) >= RANK[LungRads.SUSPICIOUS_4B]:
        return row if history.proven_benign else _at_least(prior, row) or row
    if history.proven_benign:
        return Row(LungRads.BENIGN, "category 2: category 4B proven to be benign after work-up")
    return _at_least(prior, row) or row


def _cyst_by_looks(history: CystHistory, prior: LungRads | None) -> Row:
    now = history.current
    if history.fluid_filled or history.one_of_many:
        reason = "fluid-filled (note 12g)" if history.fluid_filled else "one of multiple cysts (note 12)"
        return Row(LungRads.NOT_CLASSIFIED, f"not classified: {reason}")
    change = _cyst_change(history)
    if change is not None:
        return change
    if not (now.is_thick or now.multilocular):
        return Row(LungRads.NOT_CLASSIFIED, "not classified: thin-walled (<2 mm) unilocular cyst (note 12)")
    if prior is None or prior in (LungRads.INCOMPLETE, *STAYING):
        return _cyst_at_baseline(history)
    return step_down(prior, _days(history.earlier[counted_from([e.category for e in history.earlier])], now))


def _cyst_at_baseline(history: CystHistory) -> Row:
    what = "multilocular" if history.current.multilocular else "thick-walled (≥2 mm)"
    if not history.earlier:
        return Row(LungRads.SUSPICIOUS_4A, f"category 4A: {what} cyst")
    text = "The cyst's category at the last exam is not known: it is graded as at baseline (choice c)."
    clause = f"category 4A: {what} cyst; category at the last exam not known (choice c)"
    return Row(LungRads.SUSPICIOUS_4A, clause, (Notice("prior-category-unknown", text),))


def _cyst_change(history: CystHistory) -> Row | None:
    """The most suspicious of the rows for a change since earlier exams (note 12; growth as 12f has it)."""
    if not history.earlier:
        return None
    now, last = history.current, history.earlier[-1]
    solid_grows = _grows(history, "wall_mm") or _grows(history, "nodularity_mm")
    if now.is_thick and solid_grows:
        return Row(LungRads.SUSPICIOUS_4B, "category 4B: thick-walled cyst with growing wall or nodularity")
    if now.multilocular and last.multilocular:
        return _multilocular_change(history, solid_grows)
    if now.multilocular:
        return Row(LungRads.SUSPICIOUS_4A, "category 4A: cyst that became multilocular")
    return _thick_change(history) if now.is_thick else None


def _thick_change(history: CystHistory) -> Row | None:
    """Of a thick-walled cyst whose wall and nodularity do not grow."""
    last = history.earlier[-1]
    if not (last.is_thick or last.multilocular):
        return Row(LungRads.SUSPICIOUS_4A, "category 4A: thick-walled cyst, thin-walled at the last exam")
    if _grows(history, "cyst_mm"):
        return Row(LungRads.PROBABLY_BENIGN, "category 3: growing cystic component of a thick-walled cyst")
    return None


def _multilocular_change(history: CystHistory, solid_grows: bool) -> Row | None:
    if history.more_loculation or history.new_opacity:
        what = "more loculation" if history.more_loculation else "new or increased opacity"
        return Row(LungRads.SUSPICIOUS_4B, f"category 4B: multilocular cyst with {what}")
    if solid_grows or _grows(history, "cyst_mm"):
        return Row(LungRads.SUSPICIOUS_4B, "category 4B: growing multilocular cyst")
    return None


def _grows(history: CystHistory, part: str) -> bool:
    """More than 1.5 mm in nodule, wall or cyst (note 12f), over intervals as for nodules (choice f)."""
    now = getattr(history.current, part)
    for earlier in history.earlier:
        before = getattr(earlier, part)
        days = _days(earlier, history.current)
        asked = earlier is history.earlier[-1] or days <= TWELVE_MONTHS_DAYS
        if asked and None not in (before, now) and judge_growth(before, now, days) is not Growth.NOT_GROWN:
            return True
    return False


def _days(before: CystAtExam, after: CystAtExam) -> int:
    if before.exam_date is None or after.exam_date is None:
        raise ValueError("exams that are compared need their dates")
    return (after.exam_date - before.exam_date).days


def _more_concerning(cyst: Category, nodule: Category | None) -> Category:
    if nodule is None or nodule.name not in RANK:
        return cyst
    return nodule if highest((cyst.name, nodule.name)) is nodule.name else cyst


def _finished(row: Row, suspicious: bool, what: str) -> Category:
    """The row as a category; 4X by a reader's suspicion from category 3 or 4 only (choice j)."""
    category, clause = row.category, row.clause
    if suspicious and RANK.get(category, 0) >= RANK[LungRads.PROBABLY_BENIGN]:
        category, clause = (
            LungRads.SUSPICIOUS_4X,
            f"category 4X: a reader sees suspicious features; without them {clause}",
        )
    return Category(category, f"Lung-RADS v2022, {clause}", f"{what}: {clause}", notices=row.notices)

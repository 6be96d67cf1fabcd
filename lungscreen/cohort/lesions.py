"""One lesion at one exam, and its earlier rows ─► Category and state, by the rules for its kind.

A row's earlier exams are the earlier rows of the same nodule. Rows of another kind (a cyst that is solid now), or
without sizes, cannot be compared: the lesion is then graded as on a first exam, never as new, and said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lungscreen.assess import (
    RANK,
    STAYING,
    AirwayNodule,
    Category,
    Change,
    CystAtExam,
    CystHistory,
    Growth,
    LungRads,
    NoduleAtExam,
    NoduleHistory,
    benign_clause,
    grade_airway_nodule,
    grade_cyst,
    grade_nodule,
    judge_change,
    judge_growth,
    mean_diameter,
    read_category,
)
from lungscreen.cohort.rows import TypedNodule
from lungscreen.errors import Notice
from lungscreen.records import NOT_ASSESSED

__all__ = ["Before", "GradedLesion", "grade_lesion", "typed_at_exam"]

SMALLER_MM = 1.5
"""A mean diameter of an airway nodule that lost more than this is smaller."""

State = Literal["baseline", "new", "growing", "stable", "shrinking", "not assessed"]


@dataclass(frozen=True, slots=True)
class Before:
    """An earlier row of the same nodule, and the nodule's own category there; empty where not known."""

    row: TypedNodule
    category: str


@dataclass(frozen=True, slots=True)
class GradedLesion:
    """What Lung-RADS says of a lesion, and how it changed.

    before: the earlier rows that it was compared with.
    """

    category: Category
    state: State
    growth: str
    before: tuple[Before, ...] = ()


def grade_lesion(row: TypedNodule, before: Sequence[Before], *, earlier_exam: bool) -> GradedLesion:
    """Grade one row.

    before: the earlier rows of this nodule, oldest first.
    earlier_exam: whether the person has an earlier exam at all.
    """
    alike = tuple(one for one in before if _family(one.row) == _family(row) and _has_sizes(one.row))
    seen_before = bool(before) or bool(row.prior_category)
    if alike and alike[-1] is not before[-1]:
        alike = (*alike[:-1], replace(alike[-1], category=""))  # its category since then is another row's
    graded = _graded(row, alike, compared=earlier_exam and not seen_before)
    prior = row.prior_category or (before[-1].category if before else "")
    if alike:
        return replace(graded, category=_at_least_prior(graded.category, prior, row))
    if not seen_before:
        return graded
    text = "An earlier exam shows it, but not in sizes that can be compared: graded as on a first exam."
    category = _at_least_prior(graded.category, prior, row)
    category = replace(category, notices=(*category.notices, Notice("place-not-compared", text)))
    return GradedLesion(category, NOT_ASSESSED, f"{NOT_ASSESSED}: no sizes of an earlier exam that can be compared")


def typed_at_exam(row: TypedNodule, category: str = "") -> NoduleAtExam | None:
    """A row as the rules for nodules take it; None without both axes."""
    if row.long_axis_mm is None or row.short_axis_mm is None:
        return None
    return NoduleAtExam(
        row.day,
        row.nodule_type,
        row.long_axis_mm,
        row.short_axis_mm,
        solid_mean_diameter_mm=row.solid_mean_diameter_mm,
        volume_mm3=row.volume_mm3,
        solid_volume_mm3=row.solid_volume_mm3,
        juxtapleural=row.typical_at_border,
        category=category,
    )


def _graded(row: TypedNodule, before: tuple[Before, ...], *, compared: bool) -> GradedLesion:
    kind = _family(row)
    if kind == "airway":
        return _airway(row, before, compared=compared)
    return _cyst(row, before, compared=compared) if kind == "cyst" else _nodule(row, before, compared=compared)


def _family(row: TypedNodule) -> str:
    return row.kind if row.kind in ("airway", "cyst") else "nodule"


def _has_sizes(row: TypedNodule) -> bool:
    """An airway nodule's change is told from its sizes where there are any, a cyst's from its parts."""
    return _family(row) != "nodule" or typed_at_exam(row) is not None


def _at_least_prior(category: Category, prior: str, row: TypedNodule) -> Category:
    """A 4B or 4X that nobody proved benign stays, with or without sizes of the earlier exam."""
    known = read_category(prior)
    if known not in STAYING or category.name is LungRads.NEGATIVE:
        return category
    if row.proven_benign:
        clause = "category 2: category 4B proven to be benign after work-up"
        return Category(LungRads.BENIGN, f"Lung-RADS v2022, {clause}", clause)
    if RANK.get(category.name, 0) >= RANK[known]:
        return category
    clause = f"category {known} at the last exam stays (order of decision, 5)"
    return replace(
        category, name=known, clause=f"Lung-RADS v2022, {clause}", reason=f"{clause}; {category.reason}", needs=()
    )


# -- nodules ---------------------------------------------------------------------------------------------------------
def _nodule(row: TypedNodule, before: tuple[Before, ...], *, compared: bool) -> GradedLesion:
    pattern = _benign_pattern(row)
    now = typed_at_exam(row)
    state: State = "new" if compared else "baseline"
    if now is None:
        return _without_axes(row, before, state)
    earlier = [typed_at_exam(one.row, one.category) for one in before]
    history = NoduleHistory(
        now,
        tuple(nodule for nodule in earlier if nodule is not None),
        compared=compared or bool(before),
        benign_pattern=pattern,
        proven_benign=bool(row.proven_benign),
        suspicious=bool(row.suspicious),
    )
    category = grade_nodule(history)
    if not before:
        return GradedLesion(category, state, "")
    change = judge_change(history)
    return GradedLesion(category, change.state, change.text, before)


def _benign_pattern(row: TypedNodule) -> Literal["", "calcification", "fat"]:
    if row.benign_pattern == "fat":
        return "fat"
    return "calcification" if row.benign_pattern == "calcification" else ""


def _without_axes(row: TypedNodule, before: tuple[Before, ...], state: State) -> GradedLesion:
    """A benign pattern is graded without sizes; nothing else is."""
    clause = benign_clause(_benign_pattern(row), row.nodule_type)
    category = Category(LungRads.NEGATIVE, f"Lung-RADS v2022, {clause}", clause) if clause else _lacking("both axes")
    if before:
        category = _at_least_prior(category, before[-1].category, row)
        return GradedLesion(category, NOT_ASSESSED, f"{NOT_ASSESSED}: needs both axes")
    return GradedLesion(category, state, "")


def _lacking(need: str) -> Category:
    notice = Notice("not-assessed", f"No Lung-RADS category: the rule needs {need}.")
    reason = f"{NOT_ASSESSED}: needs {need}"
    return Category(LungRads.NOT_ASSESSED, "Lung-RADS v2022", reason, notices=(notice,), needs=(need,))


# -- airway nodules --------------------------------------------------------------------------------------------------
def _airway(row: TypedNodule, before: tuple[Before, ...], *, compared: bool) -> GradedLesion:
    """Air or a tubular form means no underlying nodule (notes 11b, 11c), unless a reader finds it suspicious."""
    change = _airway_change(row, before, compared=compared)
    level = row.airway_level
    secretions = bool(row.airway_air or row.airway_tubular) and not row.suspicious
    prior = row.prior_category or (before[-1].category if before else "")
    nodule = AirwayNodule(
        segmental_or_proximal=None if not level else level != "subsegmental",
        change=change,
        multiple_tubular=bool(row.airway_tubular),
        contains_air=bool(row.airway_air),
        underlying_nodule=not secretions,
        proven_benign=bool(row.proven_benign),
        suspicious=bool(row.suspicious),
        prior_category=prior,
    )
    state = _AIRWAY_STATES[change]
    words = f"{state} since {before[-1].row.day}" if before else ""
    if change is Change.PERSISTING:
        words = f"{NOT_ASSESSED}: needs sizes at both exams"
    return GradedLesion(grade_airway_nodule(nodule), state, words, before)


_AIRWAY_STATES: dict[Change, State] = {
    Change.BASELINE: "baseline",
    Change.NEW: "new",
    Change.STABLE: "stable",
    Change.GROWING: "growing",
    Change.SMALLER: "shrinking",
    Change.PERSISTING: NOT_ASSESSED,
}


def _airway_change(row: TypedNodule, before: tuple[Before, ...], *, compared: bool) -> Change:
    if not before:
        return Change.NEW if compared else Change.BASELINE
    then = before[-1].row
    if None in (row.long_axis_mm, row.short_axis_mm, then.long_axis_mm, then.short_axis_mm):
        return Change.PERSISTING
    now_mm = mean_diameter(row.long_axis_mm or 0, row.short_axis_mm or 0)
    then_mm = mean_diameter(then.long_axis_mm or 0, then.short_axis_mm or 0)
    if judge_growth(then_mm, now_mm, (row.day - then.day).days) is not Growth.NOT_GROWN:
        return Change.GROWING
    return Change.SMALLER if float(then_mm - now_mm) > SMALLER_MM else Change.STABLE


# -- cysts -----------------------------------------------------------------------------------------------------------
def _cyst(row: TypedNodule, before: tuple[Before, ...], *, compared: bool) -> GradedLesion:
    need = _cyst_needs(row)
    first: State = "new" if compared else "baseline"
    if need and before:
        category = _at_least_prior(_lacking(need), before[-1].category, row)
        return GradedLesion(category, NOT_ASSESSED, f"{NOT_ASSESSED}: needs {need}")
    if need:
        return GradedLesion(_lacking(need), first, "")
    history = CystHistory(
        _cyst_at_exam(row, ""),
        tuple(_cyst_at_exam(one.row, one.category) for one in before),
        proven_benign=bool(row.proven_benign),
        suspicious=bool(row.suspicious),
    )
    category = grade_cyst(history)
    if not before:
        return GradedLesion(category, first, "")
    state: State = "growing" if "growing" in category.clause else "stable"
    return GradedLesion(category, state, f"{state} since {before[-1].row.day}", before)


def _cyst_needs(row: TypedNodule) -> str:
    """What its rows would need: a multilocular cyst's wall may stay unknown, a thick-walled one's form."""
    thick = row.cyst_wall_mm is not None and row.cyst_wall_mm >= 1.95
    if row.cyst_loculation == "multilocular" or thick:
        return ""
    return "thickness of the wall" if row.cyst_wall_mm is None else "" if row.cyst_loculation else "loculation"


def _cyst_at_exam(row: TypedNodule, category: str) -> CystAtExam:
    both = row.long_axis_mm is not None and row.short_axis_mm is not None
    return CystAtExam(
        row.day,
        row.cyst_wall_mm,
        row.cyst_loculation == "multilocular",
        mean_diameter(row.long_axis_mm or 0, row.short_axis_mm or 0) if both else None,
        row.solid_mean_diameter_mm,
        category,
    )

"""NoduleHistory → how the nodule changed since earlier exams: the one judgement that category and words rest on.

Growth is Lung-RADS v2022 note 6 (choices b and f), slow growth note 8 (choice n). Whoever grades, and whoever says what
changed, asks here, so that no report calls a nodule stable beside a category for growing ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from lungscreen.assess.growth import GROWTH_MM, TWELVE_MONTHS_DAYS, Growth, judge_growth
from lungscreen.assess.inputs import NoduleAtExam, NoduleHistory, days_between
from lungscreen.assess.lung_rads_rows import Lacking
from lungscreen.errors import Notice
from lungscreen.records import NOT_ASSESSED, NoduleType

__all__ = [
    "SOLIDITY",
    "ChangeSince",
    "Step",
    "became_less_solid",
    "became_more_solid",
    "find_slow_growth",
    "grown_solid_steps",
    "grown_total_steps",
    "judge_change",
    "known_solid",
    "with_known_types",
]

SOLIDITY = {NoduleType.GROUND_GLASS: 0, NoduleType.PART_SOLID: 1, NoduleType.SOLID: 2}
"""Nodule types by how solid they are."""

LEAST_RUN = 3
"""Exams that slow growth asks for (note 8, choice n)."""


@dataclass(frozen=True, slots=True)
class Step:
    """One earlier exam against today: its interval, and whether the nodule has grown since."""

    earlier: NoduleAtExam
    days: int
    growth: Growth


@dataclass(frozen=True, slots=True)
class ChangeSince:
    """How a nodule that earlier exams show changed.

    since: the exam that the state rests on; not always the last one.
    part: "solid part" where that has changed rather than the whole.
    before_mm, now_mm: mean diameters of that part.
    how: "slowly" for slow growth, "by type" where it became more solid, "less solid" where it is larger and yet no
        growth.
    lacks: what a state would need.
    """

    state: Literal["growing", "stable", "shrinking", "not assessed"]
    since: NoduleAtExam
    part: Literal["", "solid part"] = ""
    before_mm: Decimal = Decimal(0)
    now_mm: Decimal = Decimal(0)
    how: Literal["", "slowly", "by type", "less solid"] = ""
    exams: int = 2
    lacks: str = ""

    @property
    def text(self) -> str:
        """In words: "growing in its solid part since 2020-01-15: 3.0 mm then, +2.5 mm"."""
        if self.state == NOT_ASSESSED:
            return f"not assessed: needs {self.lacks}"
        head: str = self.state
        if self.how == "by type":
            head += f", {self.since.nodule_type} then and more solid now"
        if self.how == "slowly":
            head += f" slowly over {self.exams} exams"
        if self.how == "less solid":
            head += " by the rules, larger but less solid (choice b)"
        if self.part:
            head += " in its solid part"
        return f"{head} since {self.since.exam_date}: {self.before_mm} mm then, {self.now_mm - self.before_mm:+.1f} mm"


def judge_change(history: NoduleHistory) -> ChangeSince:
    """The change of a nodule that at least one earlier exam shows.

    Errors: ValueError where no earlier exam shows it.
    """
    if not history.earlier:
        raise ValueError("expected an earlier exam that shows the nodule")
    history, _ = with_known_types(history)
    try:
        return _growing(history) or _not_growing(history)
    except Lacking as lacking:
        return ChangeSince(NOT_ASSESSED, history.earlier[-1], lacks=str(lacking))


def _growing(history: NoduleHistory) -> ChangeSince | None:
    """What of it has grown, in the order of decision; None where nothing has."""
    now, last = history.current, history.earlier[-1]
    if became_less_solid(last, now):
        return None
    if became_more_solid(history):
        return _grown(history, last, how="by type")
    if now.nodule_type in (NoduleType.SOLID, NoduleType.PART_SOLID):
        steps = grown_solid_steps(history)
        if steps:
            return _grown(history, steps[0].earlier, solid=True)
    steps = grown_total_steps(history)
    if steps:
        return _grown(history, steps[0].earlier)
    run = find_slow_growth(history) if now.nodule_type in SOLIDITY else ()
    return _grown(history, run[-1], solid=True, how="slowly", exams=len(run)) if run else None


def _grown(
    history: NoduleHistory,
    since: NoduleAtExam,
    *,
    solid: bool = False,
    how: Literal["", "slowly", "by type"] = "",
    exams: int = 2,
) -> ChangeSince:
    now = history.current
    both_solid = now.nodule_type is since.nodule_type is NoduleType.SOLID
    whole = not solid or both_solid or since.solid_mm is None
    if whole:
        return ChangeSince("growing", since, "", since.mean_diameter_mm, now.mean_diameter_mm, how, exams)
    return ChangeSince("growing", since, "solid part", known_solid(since), known_solid(now), how, exams)


def _not_growing(history: NoduleHistory) -> ChangeSince:
    now, last = history.current, history.earlier[-1]
    difference = now.mean_diameter_mm - last.mean_diameter_mm
    state: Literal["stable", "shrinking"] = "shrinking" if difference < -GROWTH_MM else "stable"
    larger = became_less_solid(last, now) and difference > GROWTH_MM
    return ChangeSince(state, last, "", last.mean_diameter_mm, now.mean_diameter_mm, "less solid" if larger else "")


# -- growth by choice f ----------------------------------------------------------------------------------------------
def grown_solid_steps(history: NoduleHistory) -> list[Step]:
    """The exams since which the solid nodule, or the solid part, has grown: the surest and latest first.

    A solid part that was not measured before the last exam was no larger than its whole nodule: growth beyond that is
    growth for certain.

    Errors: Lacking where the last exam's solid part, or today's, was not measured.
    """
    now = known_solid(history.current)
    steps = []
    for earlier, days in _compared(history):
        if became_less_solid(earlier, history.current):
            continue
        before = earlier.solid_mm
        if before is None and earlier is history.earlier[-1]:
            raise Lacking(f"size of the solid part on {earlier.exam_date}")
        before = earlier.mean_diameter_mm if before is None else before
        steps.append(Step(earlier, days, judge_growth(before, now, days)))
    return _surest(steps)


def grown_total_steps(history: NoduleHistory) -> list[Step]:
    """The exams since which the whole nodule has grown: the surest and latest first."""
    now = history.current
    steps = [
        Step(earlier, days, judge_growth(earlier.mean_diameter_mm, now.mean_diameter_mm, days))
        for earlier, days in _compared(history)
        if not became_less_solid(earlier, now)
    ]
    return _surest(steps)


def _compared(history: NoduleHistory) -> list[tuple[NoduleAtExam, int]]:
    """The last exam, and every other at most 12 months back, each with its interval in days (choice f)."""
    pairs = [(earlier, days_between(earlier, history.current)) for earlier in history.earlier]
    return [(earlier, days) for earlier, days in pairs if earlier is history.earlier[-1] or days <= TWELVE_MONTHS_DAYS]


def _surest(steps: list[Step]) -> list[Step]:
    grown = [step for step in steps if step.growth is not Growth.NOT_GROWN]
    return sorted(grown, key=lambda step: (step.growth is not Growth.GROWN, step.days))


# -- slow growth (note 8, choice n) ----------------------------------------------------------------------------------
def find_slow_growth(history: NoduleHistory) -> tuple[NoduleAtExam, ...]:
    """The longest run of exams, newest first, over which what is solid grew slowly; empty where there is none.

    A run has at least three exams, ends today, and is larger at each; more than 1.5 mm in all, never within 12 months.
    An earlier fast step ends the runs that hold it, not the later ones.
    """
    longest: tuple[NoduleAtExam, ...] = ()
    run: list[NoduleAtExam] = []
    for exam in _rising(history):
        if any(_is_fast(exam, later) for later in run):
            break
        run.append(exam)
        if len(run) >= LEAST_RUN and _step(exam, run[0]) > GROWTH_MM:
            longest = tuple(run)
    return longest


def _rising(history: NoduleHistory) -> tuple[NoduleAtExam, ...]:
    """Today's exam and those before it, back to the first step that was not up."""
    run = [history.current]
    for earlier in reversed(history.earlier):
        before, after = earlier.solid_mm, run[-1].solid_mm
        if before is None or after is None or after <= before or became_less_solid(earlier, run[-1]):
            break
        run.append(earlier)
    return tuple(run)


def _is_fast(earlier: NoduleAtExam, later: NoduleAtExam) -> bool:
    """More than 1.5 mm within 12 months."""
    return _step(earlier, later) > GROWTH_MM and days_between(earlier, later) <= TWELVE_MONTHS_DAYS


def _step(earlier: NoduleAtExam, later: NoduleAtExam) -> Decimal:
    return known_solid(later) - known_solid(earlier)


# -- types -----------------------------------------------------------------------------------------------------------
def became_more_solid(history: NoduleHistory) -> bool:
    """Whether the nodule is more solid by its type than at the last exam."""
    return became_less_solid(history.current, history.earlier[-1])


def became_less_solid(earlier: NoduleAtExam, later: NoduleAtExam) -> bool:
    """Whether the later nodule is less solid by its type."""
    before, after = SOLIDITY.get(earlier.nodule_type), SOLIDITY.get(later.nodule_type)
    return before is not None and after is not None and after < before


def known_solid(nodule: NoduleAtExam) -> Decimal:
    """Mean diameter of what is solid.

    Errors: Lacking where it was not measured.
    """
    if nodule.solid_mm is None:
        raise Lacking("size of the solid part")
    return nodule.solid_mm


def with_known_types(history: NoduleHistory) -> tuple[NoduleHistory, tuple[Notice, ...]]:
    """Earlier exams whose type is not known are read as the present type, and said."""
    kind = history.current.nodule_type
    if kind not in SOLIDITY or all(earlier.nodule_type in SOLIDITY for earlier in history.earlier):
        return history, ()
    earlier = tuple(e if e.nodule_type in SOLIDITY else replace(e, nodule_type=kind) for e in history.earlier)
    text = f"The nodule's type at an earlier exam is not known: it is compared as {kind}, its type now."
    return replace(history, earlier=earlier), (Notice("prior-type-unknown", text),)

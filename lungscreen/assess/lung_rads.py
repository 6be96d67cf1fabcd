"""NoduleHistory → Category: Lung-RADS v2022 for one nodule; every row, choices a to n, in their order.

Source: ACR Lung-RADS v2022 (table and notes, November 2022). Where the table has a gap or contradicts itself the choice
that is named in the documentation (docs/clinical-rules.md, a to n) is taken, and the category's reason or a notice says
so. The first step of `_STEPS` that applies decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lungscreen.assess.change import (
    Step,
    became_less_solid,
    became_more_solid,
    find_slow_growth,
    grown_solid_steps,
    grown_total_steps,
    judge_change,
    with_known_types,
)
from lungscreen.assess.growth import Growth, doubling_time
from lungscreen.assess.inputs import BenignPattern, NoduleAtExam, NoduleHistory, days_between
from lungscreen.assess.lung_rads_rows import (
    CUT_30,
    Lacking,
    Measure,
    Row,
    Size,
    baseline_row,
    counted_from,
    growing_solid_row,
    new_row,
    size_by,
    solid_part_row,
    step_down,
)
from lungscreen.assess.results import RANK, STAYING, Category, LungRads, highest, read_category
from lungscreen.assess.rounding import whole_mm3
from lungscreen.errors import Notice
from lungscreen.records import NoduleType

__all__ = ["benign_clause", "grade_nodule", "name_growth"]

GROUND_GLASS_DOUBLING_DAYS = 365
"""A ground-glass nodule doubles within a year: volume-doubling time up to this (choice j)."""


@dataclass(frozen=True, slots=True)
class _Case:
    """One nodule under one measure."""

    history: NoduleHistory
    measure: Measure

    @property
    def now(self) -> NoduleAtExam:
        return self.history.current

    @property
    def last(self) -> NoduleAtExam:
        return self.history.earlier[-1]

    @property
    def size(self) -> Size:
        return size_by(self.now, self.measure)

    @property
    def prior_category(self) -> LungRads | None:
        """The nodule's own category at the last exam that shows it; None where not known, 0 included (choice c)."""
        category = read_category(self.last.category)
        return None if category is LungRads.INCOMPLETE else category


# -- the public function ---------------------------------------------------------------------------------------------
def grade_nodule(history: NoduleHistory, measure: Measure = "diameter") -> Category:
    """Lung-RADS v2022 category of one nodule that is no airway nodule and no cyst.

    `measure` is what size cuts are compared with; growth, stability and slow growth stay with mean diameters. Where
    the other measure gives another category, it is named in `other` and a notice says so (choice h). Missing
    measurements give "not assessed" with `needs`.
    """
    history, notices = with_known_types(history)
    if history.current.nodule_type is NoduleType.UNKNOWN and not history.benign_pattern:
        return _not_assessed("nodule type (solid, part-solid or ground-glass)", history)
    try:
        row, used, fallback = _decide_by(history, measure)
    except Lacking as lacking:
        return _not_assessed(str(lacking), history)
    notices = (*notices, *fallback, *row.notices)
    category, clause = row.category, row.clause
    if history.suspicious:
        category, clause, flags = _with_suspicion(row)
        notices = (*notices, *flags)
    other, disagreement = _by_other_measure(history, used, row.category)
    return Category(
        category,
        f"Lung-RADS v2022, {clause}",
        f"{_describe(history, used)}: {clause}{_other_words(used, other)}",
        other=other,
        notices=(*notices, *disagreement),
    )


def name_growth(history: NoduleHistory) -> str:
    """How a nodule changed since earlier exams: new, grown, slowly growing, stable, smaller; or "not assessed"."""
    if history.is_baseline:
        return "not assessed: no prior"
    if history.is_new:
        return "new"
    change = judge_change(history)
    if change.state == "growing":
        return "slowly growing" if change.how == "slowly" else "grown"
    if change.state != "stable":
        return "smaller" if change.state == "shrinking" else change.text
    return "larger, within the limits of stability" if change.now_mm > change.before_mm else "stable"


def benign_clause(pattern: BenignPattern, nodule_type: NoduleType) -> str:
    """The row of category 1 that a benign pattern matches, whatever the size; empty where none does."""
    if pattern == "fat":
        return "category 1: contains fat"
    if pattern == "calcification" or nodule_type is NoduleType.CALCIFIED:
        return "category 1: complete, central, popcorn or concentric calcification"
    return ""


# -- the order of decision: the first that applies decides -----------------------------------------------------------
def _decide(case: _Case) -> Row:
    for step in _STEPS:
        row = step(case)
        if row is not None:
            return row
    raise AssertionError("the last step always decides")


def _benign_pattern(case: _Case) -> Row | None:
    """(1) Benign calcification or fat."""
    clause = benign_clause(case.history.benign_pattern, case.now.nodule_type)
    if not clause:
        return None
    prior = case.prior_category if case.history.earlier else None
    if prior not in STAYING:
        return Row(LungRads.NEGATIVE, clause)
    text = f"Benign by its calcification or fat, but {prior} at the last exam: a reader must decide."
    return Row(LungRads.NEGATIVE, clause, (Notice("prior-category-higher", text),))


def _first_exam(case: _Case) -> Row | None:
    """(2) No earlier exam: baseline cuts."""
    return baseline_row(case.now, case.size) if case.history.is_baseline else None


def _new_nodule(case: _Case) -> Row | None:
    """(3) New: the cuts for new nodules."""
    return new_row(case.now, case.size) if case.history.is_new else None


def _grown(case: _Case) -> Row | None:
    """(4) Grown: the growing rows; slow growth: 4B. Ground-glass is decided by choice e in step 6."""
    if case.now.nodule_type is NoduleType.GROUND_GLASS or became_less_solid(case.last, case.now):
        return None
    by_solid = _change_of_type(case) or _solid_growth(case)
    rows = [row for row in (by_solid or _total_only(case), _slow_growth(case)) if row]
    return _at_least_prior(case, max(rows, key=lambda row: RANK[row.category])) if rows else None


def _at_least_prior(case: _Case, row: Row) -> Row:
    """Growth lowers no 4B or 4X: the table has no row by which it could."""
    prior = case.prior_category
    if prior not in STAYING or case.history.proven_benign or RANK[row.category] >= RANK[prior]:
        return row
    text = (
        f"The row for a growing nodule of its size gives {row.category}; it was {prior} at the last exam and stays"
        " that."
    )
    clause = f"category {prior} at the last exam stays, and it has grown (order of decision, 4)"
    return replace(row, category=prior, clause=clause, notices=(*row.notices, Notice("prior-category-higher", text)))


def _stays(case: _Case) -> Row | None:
    """(5) Category 4B or 4X at the last exam stays, unless proven benign."""
    prior = case.prior_category
    if prior not in STAYING:
        return None
    if case.history.proven_benign:
        return Row(LungRads.BENIGN, "category 2: category 4B proven to be benign after work-up")
    return Row(prior, f"category {prior} at the last exam stays (order of decision, 5)", _less_solid_notice(case))


def _ground_glass(case: _Case) -> Row | None:
    """(6) Ground-glass at follow-up (choice e)."""
    if case.now.nodule_type is not NoduleType.GROUND_GLASS:
        return None
    flags = _doubling_notice(case)
    if not case.size.whole_reaches(CUT_30):
        return Row(LungRads.BENIGN, "category 2: ground-glass <30 mm (<14,137 mm³) at follow-up (choice e)", flags)
    steps = [] if became_less_solid(case.last, case.now) else grown_total_steps(case.history)
    if not steps:
        return Row(
            LungRads.BENIGN,
            "category 2: ground-glass ≥30 mm (≥14,137 mm³), stable, smaller or slowly growing (note 7, choice e)",
            flags,
        )
    clause = "category 3: ground-glass ≥30 mm (≥14,137 mm³), growing (note 6, choice e)"
    return Row(LungRads.PROBABLY_BENIGN, clause, (*flags, *_undetermined_notice(steps)))


def _stepped_down(case: _Case) -> Row:
    """(7) Step-down by interval; where a baseline cut was crossed upward, the higher of both (choices c, m)."""
    prior = case.prior_category
    baseline = baseline_row(case.now, case.size)
    if prior is None:
        clause = f"{baseline.clause}; category at the last exam not known (choice c)"
        return replace(baseline, clause=clause, notices=_unknown_notice(prior))
    row = step_down(prior, days_between(_counted_from(case), case.now))
    crossed = RANK[baseline.category] > RANK[baseline_row(_as_if(case.last, case.now), _last_size(case)).category]
    if crossed and RANK[baseline.category] > RANK[row.category]:
        row = replace(
            baseline, clause=f"{baseline.clause}, a cut that was crossed since the last exam (note 5, choice m)"
        )
    return replace(row, notices=_less_solid_notice(case))


_STEPS: tuple[Callable[[_Case], Row | None], ...] = (
    _benign_pattern,
    _first_exam,
    _new_nodule,
    _grown,
    _stays,
    _ground_glass,
    _stepped_down,
)


# -- change since earlier exams --------------------------------------------------------------------------------------
def _change_of_type(case: _Case) -> Row | None:
    """Ground-glass that became part-solid or solid; part-solid that became solid (choice b)."""
    if not became_more_solid(case.history):
        return None
    what = "new" if case.last.nodule_type is NoduleType.GROUND_GLASS else "growing"
    return solid_part_row(case.size, what)


def _solid_growth(case: _Case) -> Row | None:
    """A solid nodule, or the solid part, that has grown by choice f; against each exam with the rows that fit it."""
    rows: list[Row] = []
    for step in grown_solid_steps(case.history):
        both_solid = step.earlier.nodule_type is case.now.nodule_type is NoduleType.SOLID
        row = growing_solid_row(case.size) if both_solid else solid_part_row(case.size, "growing")
        rows.append(replace(row, notices=_undetermined_notice([step])))
    return max(rows, key=lambda row: (RANK[row.category], -len(row.notices)), default=None)


def _total_only(case: _Case) -> Row | None:
    """A part-solid nodule that has grown as a whole: never below its prior, the baseline cuts and 3 (choice b)."""
    steps = grown_total_steps(case.history) if case.now.nodule_type is NoduleType.PART_SOLID else []
    if not steps:
        return None
    prior = case.prior_category
    options = [LungRads.PROBABLY_BENIGN, baseline_row(case.now, case.size).category]
    category = highest(options if prior is None else (*options, prior))
    clause = f"category {category}: part-solid, grown as a whole, not in its solid part: no step-down (choice b)"
    return Row(category, clause, (*_undetermined_notice(steps), *_unknown_notice(prior)))


def _slow_growth(case: _Case) -> Row | None:
    """Slow growth of a solid nodule or solid part over at least three exams (note 8, choice n)."""
    if not find_slow_growth(case.history):
        return None
    clause = "category 4B: slow growth, each exam larger, more than 1.5 mm in all (note 8, choice n)"
    return Row(LungRads.SUSPICIOUS_4B, clause)


def _counted_from(case: _Case) -> NoduleAtExam:
    earlier = case.history.earlier
    return earlier[counted_from([exam.category for exam in earlier])]


def _as_if(earlier: NoduleAtExam, now: NoduleAtExam) -> NoduleAtExam:
    """The earlier nodule under the rows that hold for it now: a cut is crossed by size, not by another type."""
    return replace(earlier, nodule_type=now.nodule_type, juxtapleural=now.juxtapleural)


# -- sizes and what is said of them ----------------------------------------------------------------------------------
def _last_size(case: _Case) -> Size:
    """Size at the last exam; its solid part by the type that it had then (choice b)."""
    return size_by(case.last, case.measure)


def _decide_by(history: NoduleHistory, measure: Measure) -> tuple[Row, Measure, tuple[Notice, ...]]:
    """The deciding row by the measure that is asked for; by diameter, and said, where a volume it needs is not
    known.
    """
    if measure == "volume":
        try:
            return _decide(_Case(history, measure)), measure, ()
        except Lacking:
            said = Notice("volume-unknown", "A volume is not known: the diameter rules decide for this nodule.")
            return _decide(_Case(history, "diameter")), "diameter", (said,)
    return _decide(_Case(history, measure)), measure, ()


def _by_other_measure(history: NoduleHistory, used: Measure, decided: LungRads) -> tuple[str, tuple[Notice, ...]]:
    """The category by the other measure, and a notice where it is another (choice h)."""
    other: Measure = "volume" if used == "diameter" else "diameter"
    try:
        category = _decide(_Case(history, other)).category
    except Lacking:
        return "", ()
    if category is decided:
        return str(category), ()
    text = f"By {other} the category would be {category}; by {used} it is {decided}, which decides (choice h)."
    return str(category), (Notice("measures-disagree", text),)


def _other_words(used: Measure, other: str) -> str:
    return f" (by {'volume' if used == 'diameter' else 'diameter'}: {other})" if other else ""


def _with_suspicion(row: Row) -> tuple[LungRads, str, tuple[Notice, ...]]:
    """4X: a reader's suspicious features, from category 3 or 4 only (choice j)."""
    if RANK[row.category] >= RANK[LungRads.PROBABLY_BENIGN]:
        return LungRads.SUSPICIOUS_4X, f"category 4X: a reader sees suspicious features; without them {row.clause}", ()
    text = f"Suspicious features make no category {row.category} nodule 4X (choice j); the reader may judge otherwise."
    return row.category, row.clause, (Notice("consider-4x", text),)


def _less_solid_notice(case: _Case) -> tuple[Notice, ...]:
    """Less solid by type while the solid part got larger: no growth by choice b, but the reader has to know."""
    before, now = case.last.solid_mm, case.now.solid_mm
    if not became_less_solid(case.last, case.now) or before is None or now is None or now <= before:
        return ()
    text = (
        "The nodule is less solid by its type, yet its solid part is larger: types or measurements should be checked."
    )
    return (Notice("type-size-disagree", text),)


def _unknown_notice(prior: LungRads | None) -> tuple[Notice, ...]:
    if prior is not None:
        return ()
    text = "The nodule's category at the last exam is not known: the baseline cuts stand in for it (choice c)."
    return (Notice("prior-category-unknown", text),)


def _undetermined_notice(steps: list[Step]) -> tuple[Notice, ...]:
    """Said where no exam shows growth for certain; `steps` has the surest first."""
    if steps[0].growth is Growth.GROWN:
        return ()
    text = "Over more than 12 months growth within any 12 is undetermined: read as grown (choice f)."
    return (Notice("growth-undetermined", text),)


def _doubling_notice(case: _Case) -> tuple[Notice, ...]:
    """A ground-glass nodule whose volume doubles in a year is flagged (choice j)."""
    before, now = case.last.volume_mm3, case.now.volume_mm3
    if before is None or now is None:
        return ()
    days = doubling_time(before, now, days_between(case.last, case.now)).days
    if days is None or days > GROUND_GLASS_DOUBLING_DAYS:
        return ()
    text = f"Ground-glass whose volume doubles in {days:.0f} days: a reader may consider 4X (choice j)."
    return (Notice("consider-4x", text),)


def _describe(history: NoduleHistory, measure: Measure) -> str:
    """The nodule in words: type, sizes, and what it was compared with."""
    now = history.current
    size = f"{now.mean_diameter_mm} mm"
    if measure == "volume" and now.volume_mm3 is not None:
        size = f"{whole_mm3(now.volume_mm3)} mm³"
    if now.nodule_type is NoduleType.PART_SOLID and now.solid_mm is not None:
        size += f", solid part {now.solid_mm} mm"
    if history.is_baseline:
        return f"{now.nodule_type}, {size}, as baseline"
    if history.is_new:
        return f"{now.nodule_type}, {size}, new"
    last = history.earlier[-1]
    return (
        f"{now.nodule_type}, {size} ({last.mean_diameter_mm} mm on {last.exam_date}, {days_between(last, now)} days"
        " ago)"
    )


def _not_assessed(need: str, history: NoduleHistory) -> Category:
    """Without what a row needs; but a 4B or 4X at the last exam is at least that, whatever is lacking."""
    prior = read_category(history.earlier[-1].category) if history.earlier else None
    if prior in STAYING and not history.proven_benign:
        clause = f"category {prior} at the last exam stays (order of decision, 5)"
        text = f"The rule needs {need}: the nodule is at least {prior}, its category at the last exam."
        said = Notice("not-assessed", text)
        return Category(
            prior, f"Lung-RADS v2022, {clause}", f"at least {prior}, needs {need}: {clause}", notices=(said,)
        )
    return Category(
        LungRads.NOT_ASSESSED,
        "Lung-RADS v2022",
        f"not assessed: needs {need}",
        notices=(Notice("not-assessed", f"No Lung-RADS category: the rule needs {need}."),),
        needs=(need,),
    )

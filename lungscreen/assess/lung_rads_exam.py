"""Categories of all nodules → category of the exam (Lung-RADS v2022 note 1; choices i, k, l)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lungscreen.assess.inputs import NoduleAtExam, NoduleHistory
from lungscreen.assess.lung_rads import grade_nodule
from lungscreen.assess.results import RANK, Category, LungRads, highest, read_category
from lungscreen.errors import Notice

__all__ = ["ExamFacts", "grade_exam", "share_prior_category"]

MANY_NEW_NODULES = 6
"""More new nodules than this are a flag for inflammation (note 10, choice l)."""


@dataclass(frozen=True, slots=True)
class ExamFacts:
    """What is known of the whole exam.

    not_evaluable: what could not be evaluated, each in words (apex cut, lung may be incomplete).
    prior_pending: the user says that an earlier exam is being located (choice i).
    inflammation: a reader sees signs of infection or inflammation (note 10); None is not assessed.
    significant_other: a reader sees a significant finding that is no lung cancer (modifier S); None is not assessed.
    new_nodules: how many nodules are new.
    unknown_earlier: nodules of earlier exams of which nobody knows whether they are still there, each in words.
    doubtful: findings that are probably no nodules and do not decide, in words; empty where there are none.
    """

    not_evaluable: tuple[str, ...] = ()
    prior_pending: bool = False
    inflammation: bool | None = None
    significant_other: bool | None = None
    new_nodules: int = 0
    unknown_earlier: tuple[str, ...] = ()
    doubtful: str = ""

    @property
    def reasons_for_incomplete(self) -> tuple[str, ...]:
        """Why the exam would be category 0."""
        return (
            *(("an earlier exam is being located",) if self.prior_pending else ()),
            *((f"not evaluable: {', '.join(self.not_evaluable)}",) if self.not_evaluable else ()),
            *(("signs of infection or inflammation (note 10)",) if self.inflammation else ()),
        )


def grade_exam(nodules: Sequence[Category], facts: ExamFacts | None = None) -> Category:
    """Lung-RADS v2022 category of the exam: that of the nodule with the highest suspicion (note 1).

    Category 0 takes its place where that is at most 4A; a 4B or 4X stays, with 0 shown beside it (choice i). Where a
    nodule could not be assessed, or it is not known whether an earlier one is still there, and all others are 1 or 2,
    the exam is "not assessed": a negative exam isn't claimed. Doubtful findings are not among the nodules; the reason
    names them (choice o).
    """
    facts = facts or ExamFacts()
    worst = _with_unknown_earlier(_with_doubtful(_worst(nodules), facts.doubtful), facts.unknown_earlier)
    reasons = facts.reasons_for_incomplete
    if reasons:
        worst = _with_incomplete(worst, reasons)
    flags = _inflammation_flag(facts)
    return replace(worst, significant_other=facts.significant_other, notices=(*worst.notices, *flags))


def share_prior_category(matched: Sequence[NoduleAtExam], exam_category: str) -> tuple[NoduleAtExam, ...]:
    """Nodules of a prior exam, of which only the exam's category is known, each with the category that counts as its
    own.

    The exam's category goes to the nodule with the highest baseline category at the prior, the larger one of two; the
    others, and all where the exam was 0 or is not known, stay not known (choice c). Categories that are known stay.
    """
    category = read_category(exam_category)
    open_ones = [index for index, nodule in enumerate(matched) if read_category(nodule.category) is None]
    if category not in RANK or len(open_ones) < len(matched) or not matched:
        return tuple(matched)
    chosen = max(open_ones, key=lambda index: (_baseline_rank(matched[index]), matched[index].mean_diameter_mm))
    return tuple(
        replace(nodule, category=str(category)) if index == chosen else nodule for index, nodule in enumerate(matched)
    )


def _baseline_rank(nodule: NoduleAtExam) -> int:
    return RANK.get(grade_nodule(NoduleHistory(nodule)).name, 0)


def _worst(nodules: Sequence[Category]) -> Category:
    graded = [nodule for nodule in nodules if nodule.name in RANK]
    open_ones = sum(nodule.name is LungRads.NOT_ASSESSED for nodule in nodules)
    incomplete = any(nodule.name is LungRads.INCOMPLETE for nodule in nodules)
    name = highest((LungRads.NEGATIVE, *(nodule.name for nodule in graded)))
    if open_ones and RANK[name] < RANK[LungRads.PROBABLY_BENIGN]:
        return _not_assessed(open_ones, len(nodules))
    clause = f"Lung-RADS v2022 note 1, category {name}"
    reason = _reason(name, graded)
    if open_ones:
        reason += f"; {open_ones} of {len(nodules)} findings could not be assessed, so at least {name}"
    worst = Category(name, clause, reason, notices=_open_notice(open_ones, len(nodules)))
    return _with_incomplete(worst, ("a finding is category 0",)) if incomplete else worst


def _reason(name: LungRads, graded: Sequence[Category]) -> str:
    if not graded:
        return "no nodule was found"
    same = [nodule for nodule in graded if nodule.name is name]
    more = f" (and {len(same) - 1} more of category {name})" if len(same) > 1 else ""
    return f"the most suspicious nodule decides{more}: {same[0].reason}"


def _with_doubtful(worst: Category, doubtful: str) -> Category:
    if not doubtful:
        return worst
    text = f"{doubtful}: probably no nodules, so that they do not decide the exam's category (choice o)."
    notices = (*worst.notices, Notice("doubtful-findings", text))
    return replace(worst, reason=f"{worst.reason}; {doubtful}", notices=notices, doubtful=doubtful)


def _with_unknown_earlier(worst: Category, unknown: tuple[str, ...]) -> Category:
    """What nobody knows the fate of keeps the exam from 1 and 2; a category of 3 or more is then "at least" that."""
    if not unknown:
        return worst
    some, verb = ("a nodule", "is") if len(unknown) == 1 else (f"{len(unknown)} nodules", "are")
    why = f"it is not known whether {some} of an earlier exam {verb} still there ({'; '.join(unknown)})"
    notices = (*worst.notices, Notice("prior-nodule-unknown", f"{why[0].upper()}{why[1:]}."))
    if worst.name not in (LungRads.NEGATIVE, LungRads.BENIGN):
        at_least = f", so at least {worst.name}" if worst.name in RANK else ""
        return replace(worst, reason=f"{worst.reason}; {why}{at_least}", notices=notices)
    return replace(
        worst,
        name=LungRads.NOT_ASSESSED,
        clause="Lung-RADS v2022 note 1 (choice i)",
        reason=f"not assessed: {why}; by its findings the exam would be {worst.name}: {worst.reason}",
        notices=notices,
        needs=("whether every nodule of the earlier exam is still there",),
    )


def _with_incomplete(worst: Category, reasons: tuple[str, ...]) -> Category:
    why = "; ".join(reasons)
    if worst.name in (LungRads.SUSPICIOUS_4B, LungRads.SUSPICIOUS_4X):
        return replace(
            worst, beside=LungRads.INCOMPLETE, reason=f"{worst.reason}; category 0 beside it: {why} (choice i)"
        )
    beside = worst.beside or worst.name
    return replace(
        worst,
        name=LungRads.INCOMPLETE,
        beside=beside,
        clause="Lung-RADS v2022, category 0 (choice i)",
        reason=f"category 0: {why}; by its nodules the exam would be {beside}: {worst.reason}",
    )


def _inflammation_flag(facts: ExamFacts) -> tuple[Notice, ...]:
    if facts.new_nodules <= MANY_NEW_NODULES:
        return ()
    text = (
        f"{facts.new_nodules} new nodules can be inflammation (note 10); the nodules' own categories decide (choice l)."
    )
    return (Notice("inflammation-possible", text),)


def _open_notice(count: int, of: int) -> tuple[Notice, ...]:
    if not count:
        return ()
    return (Notice("not-assessed", f"{count} of {of} findings have no Lung-RADS category."),)


def _not_assessed(count: int, of: int) -> Category:
    reason = f"not assessed: {count} of {of} findings could not be graded, and the others alone make no negative exam"
    return Category(
        LungRads.NOT_ASSESSED,
        "Lung-RADS v2022 note 1",
        reason,
        notices=_open_notice(count, of),
        needs=("type and measurement of every finding",),
    )

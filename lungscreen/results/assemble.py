"""Study, Reading, Conclusion ─► Report

Ranks and numbers the findings, takes the exam's category from them where no rule gave one, and gathers every notice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from lungscreen.errors import Notice
from lungscreen.records import NOT_ASSESSED, Conclusion, Finding, Provenance, Reading, Report, Study
from lungscreen.results.ranking import category_rank
from lungscreen.results.validated import check_acquisition

__all__ = ["build_report", "place_in_list", "rank_findings"]

LIST_ORDER = ("4X", "4B", "4A", "3", NOT_ASSESSED, "2", "1")
"""Categories of findings in the order in which they are listed, and in which the limit of findings spares them."""

_NEVER_HIDDEN = ("4X", "4B", "4A")
"""Categories that stand even where another finding could not be graded: it could only add suspicion."""


def build_report(study: Study, exam: Reading, conclusion: Conclusion, provenance: Provenance) -> Report:
    """All that is said about one study.

    Findings are ranked (`rank_findings`) and numbered from 1, marks that are no nodules by detection score. Every
    notice of the records stands once, in the order of the stages.
    """
    findings = tuple(rank_findings(conclusion.findings))
    category, reason = conclusion.category, conclusion.category_reason
    if not category:
        category, reason = _worst_category(findings)
    return Report(
        study=study,
        volume=exam.volume,
        lungs=exam.lungs,
        candidates=exam.candidates,
        findings=findings,
        cut_off=conclusion.cut_off,
        category=category,
        category_reason=reason,
        management=conclusion.management,
        doubtful=conclusion.doubtful,
        notices=_gather(study, exam, conclusion),
        provenance=provenance,
        not_assessed=conclusion.not_assessed,
        priors=conclusion.priors,
        lost=conclusion.lost,
        no_nodules=_by_score(conclusion.no_nodules),
        verdicts=conclusion.verdicts,
        person=conclusion.person,
    )


def rank_findings(findings: Iterable[Finding]) -> list[Finding]:
    """By category, then by the chance that it is a nodule and a malignant one, doubtful ones last; numbered from 1."""
    ranked = sorted(findings, key=_suspicion)
    return [dataclasses.replace(finding, number=n) for n, finding in enumerate(ranked, start=1)]


def _by_score(marks: Iterable[Finding]) -> tuple[Finding, ...]:
    ranked = sorted(marks, key=lambda mark: -mark.candidate.score)
    return tuple(dataclasses.replace(mark, number=n) for n, mark in enumerate(ranked, start=1))


def place_in_list(category: str) -> int:
    """Place of a finding's category in the list; what could not be graded comes before what is known to be 2 or 1."""
    return LIST_ORDER.index(category if category in LIST_ORDER else NOT_ASSESSED)


def _suspicion(finding: Finding) -> tuple[bool, int, float, float]:
    """Sorts what most deserves a look first: within a category the chance that it is a nodule times that of
    malignancy. A finding that nothing classified comes after those that something did.
    """
    is_nodule = 1.0 if finding.nodule_probability is None else finding.nodule_probability
    together = is_nodule * finding.malignancy.probability if finding.malignancy else -math.inf
    return finding.doubtful, place_in_list(finding.category), -together, -finding.candidate.score


def _worst_category(findings: Sequence[Finding]) -> tuple[str, str]:
    findings = [finding for finding in findings if not finding.doubtful]
    graded = [finding for finding in findings if finding.category not in ("", NOT_ASSESSED)]
    if not graded:
        return (
            NOT_ASSESSED,
            "No category rules were applied." if findings else "No finding. No category rules were applied.",
        )
    worst = min(graded, key=lambda finding: category_rank(finding.category))
    ungraded = len(findings) - len(graded)
    if ungraded and worst.category not in _NEVER_HIDDEN:
        return NOT_ASSESSED, f"{ungraded} of {len(findings)} findings could not be graded."
    why = worst.grade.category_reason if worst.grade else ""
    reason = f"Finding {worst.number}: {why}" if why else f"Finding {worst.number}."
    return worst.category, reason + (f" {ungraded} more could not be graded." if ungraded else "")


def _gather(study: Study, exam: Reading, conclusion: Conclusion) -> tuple[Notice, ...]:
    """Every notice once, in the order of the stages."""
    volume, cut_off = exam.volume, conclusion.cut_off
    more: tuple[Notice, ...] = ()
    if cut_off:
        some = "1 more finding lies" if cut_off == 1 else f"{cut_off} more findings lie"
        more = (Notice("findings-cut-off", f"{some} above the operating point; less suspicious, not listed."),)
    stages = (*study.notices, *volume.series.notices, *volume.notices, *exam.lungs.notices)
    outside = check_acquisition(volume.series.acquisition, {notice.code for notice in stages})
    return tuple(dict.fromkeys((*outside, *stages, *conclusion.notices, *more)))

"""A reader's words ─► what the product's rules make of them: category, management, risks, growth.

The reader's word wins; what was measured and what CAD said stay beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lungscreen.assess import (
    AssessConfig,
    Assessment,
    ExamFacts,
    FindingFacts,
    assess_baseline,
    assess_follow_up,
    mean_diameter,
)
from lungscreen.comparison.earlier import earlier_exams
from lungscreen.errors import Notice
from lungscreen.records import NOT_ASSESSED, Finding, Measurement, NoduleType
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.results.values import from_plain
from lungscreen.room.rebuild import clinical_of, exam_day_of, finding_of, lost_of, lungs_of
from lungscreen.room.words import Content, ExamWords, Words

__all__ = ["Judged", "Nodule", "judge_read", "same_place"]

NEAR_MM = 8.0
"""Two marks are of one nodule within this, or half of its diameter where that is more."""


@dataclass(frozen=True)
class Nodule:
    """A nodule of a read: what it is called there, from whom, as it was measured, and what the reader says of it."""

    ref: str
    source: str
    """reader or cad."""
    finding: Finding
    words: Words
    model_category: str | None = None
    """CAD's own, of a finding of CAD."""


@dataclass(frozen=True)
class Judged:
    """What the rules make of a read. plain: as the interface tells it."""

    nodules: tuple[Nodule, ...]
    assessment: Assessment

    @property
    def plain(self) -> dict[str, Any]:
        """`Computed` of docs/reference/room-api.md."""
        said = self.assessment
        return {
            "category": said.category,
            "label": said.exam.label,
            "reason": said.category_reason,
            "management": said.exam.management,
            "not_assessed": list(said.not_assessed),
            "notices": [{"code": notice.code, "text": notice.text} for notice in said.notices],
            "findings": [_row(*both) for both in zip(self.nodules, said.findings, strict=True)],
        }


def judge_read(
    document: ReportDocument, content: Content, measured: dict[str, Any], *, with_cad: bool, config: AssessConfig
) -> Judged:
    """Grade what a reader says of a study.

    measured: the reader's own marks as they were measured, by their id: findings as report.json has them.
    with_cad: whether CAD was shown. Before that nothing that CAD found, matched or said takes part: the reader's marks
    are graded as at baseline. Afterwards a mark that CAD has too takes its history from there.
    """
    nodules = _own(document, content, measured, with_cad)
    if with_cad:
        nodules += _accepted(document, content)
    findings = [_with_words(nodule) for nodule in nodules]
    facts = [_facts(nodule) for nodule in nodules]
    seen = _seen(content.exam)
    lungs, person, day = lungs_of(document), clinical_of(document), exam_day_of(document)
    if with_cad and document.priors and day is not None:
        earlier = [earlier_exams(finding) for finding in findings]
        assessment = assess_follow_up(
            findings, lungs, person, day, earlier, config, facts=facts, lost=lost_of(document), seen=seen
        )
    else:
        assessment = assess_baseline(findings, lungs, person, config, facts=facts, seen=seen)
        assessment = _not_yet_compared(assessment) if document.priors and not with_cad else assessment
    return Judged(tuple(nodules), _without_answered(assessment, content.exam))


def same_place(first: Finding, second: Finding) -> bool:
    """Whether two findings are of one nodule, by their places."""
    sizes = [f.measurement.mean_diameter_mm for f in (first, second) if f.measurement]
    pairs = zip(first.candidate.centre_mm, second.candidate.centre_mm, strict=True)
    apart = sum((a - b) ** 2 for a, b in pairs) ** 0.5
    return bool(apart <= max(NEAR_MM, max(sizes, default=0.0) / 2))


# -- which nodules ---------------------------------------------------------------------------------------------------
def _own(document: ReportDocument, content: Content, measured: dict[str, Any], with_cad: bool) -> list[Nodule]:
    known = [finding_of(row) for row in document.findings] if with_cad else []
    found = []
    for mark in content.marks:
        finding = finding_of(from_plain(ReportedFinding, measured[mark.id]))
        same = [cad for cad in known if same_place(finding, cad)]
        found.append(
            Nodule(mark.id, "reader", replace(finding, change=same[0].change) if same else finding, mark.words)
        )
    return found


def _accepted(document: ReportDocument, content: Content) -> list[Nodule]:
    """CAD's marks that the reader accepted or is unsure of, but for those that the reader has marked too."""
    own = content.marks
    decided = {decision.finding: decision for decision in content.decisions if decision.verdict != "reject"}
    rows = [row for row in document.findings if row.number in decided]
    return [
        Nodule(str(row.number), "cad", finding_of(row), decided[row.number].words, row.category)
        for row in rows
        if not any(_near(mark.position_mm, row) for mark in own)
    ]


def _near(position_mm: Sequence[float], row: ReportedFinding) -> bool:
    size = row.measurement.mean_diameter_mm if row.measurement else 0.0
    apart = sum((a - b) ** 2 for a, b in zip(position_mm, row.position_mm, strict=True)) ** 0.5
    return bool(apart <= max(NEAR_MM, size / 2))


# -- the reader's word wins ------------------------------------------------------------------------------------------
def _with_words(nodule: Nodule) -> Finding:
    words, measured = nodule.words, nodule.finding.measured
    kind = words.type or measured.nodule_type
    size = _with_axes(measured.measurement, words)
    if size is not None and words.solid_mean_diameter_mm is not None:
        size = replace(size, solid_mean_diameter_mm=words.solid_mean_diameter_mm)
    return replace(nodule.finding, measured=replace(measured, nodule_type=kind, measurement=size))


def _with_axes(size: Measurement | None, words: Words) -> Measurement | None:
    """The reader's axes in place of what was measured. The volume stays what it was: a reader gives none."""
    if words.long_axis_mm is None or words.short_axis_mm is None:
        return size
    mean = float(mean_diameter(words.long_axis_mm, words.short_axis_mm))
    axes = {
        "long_axis_mm": words.long_axis_mm,
        "short_axis_mm": words.short_axis_mm,
        "mean_diameter_mm": mean,
        "max_transverse_mm": words.long_axis_mm,
        "effective_diameter_mm": mean,
    }
    if size is not None:
        return replace(size, **axes)
    sphere = 3.141592653589793 / 6 * mean**3
    return Measurement(**axes, volume_mm3=sphere, volume_sd_mm3=None, mean_hu=0.0, min_hu=0.0, max_hu=0.0, mass_mg=0.0)


def _facts(nodule: Nodule) -> FindingFacts:
    words = nodule.words
    if words.perifissural is None and words.spiculated is None and not words.suspicious:
        looks = nodule.finding.attributes
        return FindingFacts(spiculated=True if looks is not None and looks.spiculation >= 3.0 else None)
    return FindingFacts(words.perifissural, words.spiculated, estimated=False, suspicious=words.suspicious)


def _seen(exam: ExamWords) -> ExamFacts:
    not_evaluable = ("the reader finds the images non-diagnostic",) if exam.quality == "non-diagnostic" else ()
    return ExamFacts(
        not_evaluable=not_evaluable, inflammation=exam.inflammation or None, significant_other=exam.s_modifier
    )


def _without_answered(assessment: Assessment, exam: ExamWords) -> Assessment:
    """What the reader answered is no longer open."""
    answered = (
        *(("modifier S",) if exam.s_modifier is not None else ()),
        *(("signs of infection",) if exam.inflammation is not None else ()),
    )
    left = tuple(item for item in assessment.not_assessed if not item.startswith(answered or ("\0",)))
    return replace(assessment, not_assessed=left)


_LATER = "CAD's comparison with the earlier exam takes part once CAD is shown"


def _not_yet_compared(assessment: Assessment) -> Assessment:
    """Graded as at baseline though an earlier exam is there, since its comparison is CAD's; that is said instead."""
    findings = [
        replace(finding, grade=replace(finding.grade, growth=f"{NOT_ASSESSED}: {_LATER}")) if finding.grade else finding
        for finding in assessment.findings
    ]
    notices = [
        replace(notice, text=f"{_LATER}: until then every nodule is graded as baseline (choice i).")
        if notice.code == "as-baseline"
        else notice
        for notice in assessment.notices
    ]
    left = [f"growth ({_LATER})" if item.startswith("growth (") else item for item in assessment.not_assessed]
    return replace(assessment, findings=tuple(findings), notices=tuple(notices), not_assessed=tuple(left))


# -- as the interface tells it ---------------------------------------------------------------------------------------
def _row(nodule: Nodule, graded: Finding) -> dict[str, Any]:
    size, grade, before = graded.measurement, graded.grade, nodule.finding
    x, y, z = before.candidate.centre_mm
    return {
        "ref": nodule.ref,
        "source": nodule.source,
        "position_mm": [round(c, 2) for c in (x, y, z)],
        "type": str(graded.nodule_type),
        **_sizes(size, changed=nodule.words.long_axis_mm is not None),
        "category": graded.category or None,
        "reason": grade.category_reason if grade else "",
        "clause": grade.category_clause if grade else "",
        "management": grade.management if grade else "",
        "growth": _growth(nodule, graded),
        "risks": [{"model": risk.model, "text": risk.text} for risk in (grade.risks if grade else ())],
        "notices": [_notice(notice) for notice in graded.notices],
        "confidence": nodule.words.confidence,
        "note": nodule.words.note,
        "model": {
            "type": str(before.nodule_type if before.nodule_type else NoduleType.UNKNOWN),
            "mean_diameter_mm": before.measurement.mean_diameter_mm if before.measurement else None,
            "category": nodule.model_category,
        },
    }


def _growth(nodule: Nodule, graded: Finding) -> str:
    """What CAD measured of the change; what the rules say of the reader's own axes where these decide."""
    said = graded.grade.growth if graded.grade else ""
    return said if nodule.words.long_axis_mm is not None else graded.growth


def _sizes(size: Measurement | None, *, changed: bool) -> dict[str, float | None]:
    """changed: whether the reader gave the axes; the volume is not theirs then."""
    if size is None:
        return dict.fromkeys(("long_axis_mm", "short_axis_mm", "mean_diameter_mm", "volume_mm3"))
    return {
        "long_axis_mm": round(size.long_axis_mm, 1),
        "short_axis_mm": round(size.short_axis_mm, 1),
        "mean_diameter_mm": round(size.mean_diameter_mm, 1),
        "volume_mm3": None if changed else round(size.volume_mm3, 1),
    }


def _notice(notice: Notice) -> dict[str, str]:
    return {"code": notice.code, "text": notice.text}

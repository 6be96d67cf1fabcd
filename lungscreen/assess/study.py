"""Finding… + Lungs + ClinicalData → Assessment: what the rules say of a study, alone or against earlier exams."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import get_args

from lungscreen.assess.finding import Earlier, FindingFacts, GradedFinding, add_grade, estimate_facts, grade_finding
from lungscreen.assess.guidelines import GUIDELINES
from lungscreen.assess.inputs import NoduleAtExam
from lungscreen.assess.lung_rads_exam import ExamFacts, grade_exam
from lungscreen.assess.lung_rads_rows import Measure
from lungscreen.assess.results import Category, LungRads
from lungscreen.assess.rounding import tenths
from lungscreen.errors import Notice
from lungscreen.records import NOT_ASSESSED, ClinicalData, Finding, LostNodule, Lungs, NoduleType

__all__ = ["AssessConfig", "Assessment", "assess_baseline", "assess_follow_up"]

NOT_ASSESSED_ITEMS = (
    "modifier S (significant findings other than lung cancer)",
    "airway nodules",
    "atypical cysts",
    "signs of infection or inflammation",
    "coronary artery calcium",
    "cavities and consolidation",
    "masses that fill a lobe, lie in the mediastinum or drown in fluid or collapse",
)
"""What Lung-RADS asks for and the pipeline cannot see (choice k)."""

NOTHING_SEEN = ExamFacts()
"""No reader said anything of the exam."""

_SHAPE_ITEM = "juxtapleural shape"
_SPICULATION_ITEM = "spiculation (category 4X comes from a reader only)"


@dataclass(frozen=True)
class AssessConfig:
    """How the rules are applied.

    measure: what the size cuts of Lung-RADS are compared with, "diameter" or "volume" (choice h).
    prior_pending: an earlier exam is being located, so that the exam is category 0 (choice i).
    guidelines: whose advice stands beside Lung-RADS, by their names in `GUIDELINES`; none without being asked for.
    """

    measure: Measure = "diameter"
    prior_pending: bool = False
    guidelines: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown measure or guideline, and one named twice."""
        if self.measure not in get_args(Measure):
            raise ValueError(f"measure: expected one of {get_args(Measure)}, got {self.measure!r}")
        for name in self.guidelines:
            if name not in GUIDELINES or self.guidelines.count(name) > 1:
                raise ValueError(f"guidelines: expected each of {', '.join(GUIDELINES)} at most once, got {name!r}")


@dataclass(frozen=True, eq=False)
class Assessment:
    """What the rules say of one study.

    findings: as they came, each with category, reason, clause, management, risks and growth.
    not_assessed: what nobody looked at, in words.
    """

    findings: tuple[Finding, ...]
    exam: Category
    notices: tuple[Notice, ...]
    not_assessed: tuple[str, ...]

    @property
    def category(self) -> str:
        """Exam category, or "not assessed"."""
        return str(self.exam.name)

    @property
    def category_reason(self) -> str:
        """Why."""
        return self.exam.reason

    @property
    def management(self) -> str:
        """What the table advises for it."""
        return self.exam.management


def assess_baseline(
    findings: Sequence[Finding],
    lungs: Lungs | None,
    clinical: ClinicalData | None,
    config: AssessConfig = AssessConfig(),
    *,
    facts: Sequence[FindingFacts] | None = None,
    not_measured: int = 0,
    seen: ExamFacts = NOTHING_SEEN,
) -> Assessment:
    """Grade a study that is read without images of an earlier exam: every nodule as baseline, and said (choice i).

    `findings` are all of the study, also those that no list will show. `facts` stand in their order (without them,
    spiculation is what their attributes estimate). A finding without a measurement or type is "not assessed". Brock and
    Mayo take the largest transverse diameter; what they lack is named, what was estimated is marked. `seen`: what a
    reader says of the whole exam. `not_measured`: nodules of earlier exams of which nothing can be read.
    Errors: ValueError where `facts` are not as many as the findings.
    """
    known = _known_facts(findings, facts)
    graded = [
        grade_finding(finding, facts_of, config.measure, None)
        for finding, facts_of in zip(findings, known, strict=True)
    ]
    exam = grade_exam(
        _deciding(findings, graded),
        replace(
            seen,
            not_evaluable=(*_not_evaluable(lungs), *_opacities(findings), *seen.not_evaluable),
            prior_pending=config.prior_pending or seen.prior_pending,
            unknown_earlier=_unknown_earlier((), not_measured),
            doubtful=_describe_doubtful(findings),
        ),
    )
    count = _noncalcified(findings)
    return Assessment(
        tuple(add_grade(*row, clinical, count) for row in zip(findings, graded, known, strict=True)),
        exam,
        (_as_baseline(clinical), *_evaluable_notice(lungs, findings), *exam.notices),
        (*_open_items(known), "growth (no images of an earlier exam)"),
    )


def assess_follow_up(
    findings: Sequence[Finding],
    lungs: Lungs | None,
    clinical: ClinicalData | None,
    exam_date: date,
    earlier: Sequence[Sequence[NoduleAtExam] | None],
    config: AssessConfig = AssessConfig(),
    *,
    facts: Sequence[FindingFacts] | None = None,
    lost: Sequence[LostNodule] = (),
    not_measured: int = 0,
    seen: ExamFacts = NOTHING_SEEN,
) -> Assessment:
    """Grade a study whose findings were matched with those of earlier exams.

    `earlier` in the order of the findings: the exams that show each, oldest first, with the nodule's own category where
    it is known (`share_prior_category`); a finding that none shows is new. None: its place was not compared (outside
    the earlier scan, or no images of it), so that it is graded as baseline and not as new, and said.
    `lost`: nodules of earlier exams that are no findings now; where nobody knows whether one is still there, the exam
    is no 1 or 2. `not_measured`: how many more an earlier exam has that cannot be compared, since they have no sizes.
    `seen`: what a reader says of the whole exam.
    Errors: ValueError where an earlier exam has no date or is not before this one, or `earlier` or `facts` are not as
    many as the findings.
    """
    known = _known_facts(findings, facts)
    histories = [None if exams is None else Earlier(exam_date, tuple(exams)) for exams in earlier]
    graded = [
        grade_finding(finding, facts_of, config.measure, history)
        for finding, facts_of, history in zip(findings, known, histories, strict=True)
    ]
    exam = grade_exam(
        _deciding(findings, graded),
        replace(
            seen,
            not_evaluable=(*_not_evaluable(lungs), *_opacities(findings), *_outside(lost), *seen.not_evaluable),
            prior_pending=config.prior_pending or seen.prior_pending,
            unknown_earlier=_unknown_earlier(lost, not_measured),
            new_nodules=sum(
                not finding.doubtful and history is not None and not history.exams
                for finding, history in zip(findings, histories, strict=True)
            ),
            doubtful=_describe_doubtful(findings),
        ),
    )
    count = _noncalcified(findings)
    return Assessment(
        tuple(add_grade(*row, clinical, count) for row in zip(findings, graded, known, strict=True)),
        exam,
        (*_evaluable_notice(lungs, findings), *_outside_notice(lost), *exam.notices),
        _open_items(known),
    )


def _noncalcified(findings: Sequence[Finding]) -> int:
    """Nodules as Brock counts them: benign calcified ones are none."""
    return sum(finding.nodule_type is not NoduleType.CALCIFIED for finding in findings)


# -- the exam -------------------------------------------------------------------------------------------------------
def _not_evaluable(lungs: Lungs | None) -> tuple[str, ...]:
    if lungs is None:
        return ("the lungs were not looked for",)
    return (
        *(("the apex is cut",) if lungs.apex_cut else ()),
        *(("the base is cut",) if lungs.base_cut else ()),
        *(("a lung may be incomplete",) if lungs.incomplete else ()),
        *(("a part of the lungs was not searched",) if lungs.left_out else ()),
        *(f"no air-filled {side} lung was found" for side in lungs.missing_sides),
    )


def _deciding(findings: Sequence[Finding], graded: Sequence[GradedFinding]) -> list[Category]:
    """Categories of the findings that are probably nodules."""
    return [grade.category for finding, grade in zip(findings, graded, strict=True) if not finding.doubtful]


def _describe_doubtful(findings: Sequence[Finding]) -> str:
    """How many findings are doubtful and how large the largest is, in words; empty where none is."""
    doubtful = [finding for finding in findings if finding.doubtful]
    if not doubtful:
        return ""
    sizes = [finding.measurement.mean_diameter_mm for finding in doubtful if finding.measurement]
    unmeasured = len(doubtful) - len(sizes)
    largest = f"{'the largest ' if len(doubtful) > 1 else ''}{tenths(max(sizes))} mm, " if sizes else ""
    open_ones = f"{unmeasured} not measured, " if unmeasured else ""
    return f"{len(doubtful)} doubtful mark{'s' if len(doubtful) > 1 else ''}, {largest}{open_ones}to be looked at"


def _opacities(findings: Sequence[Finding]) -> tuple[str, ...]:
    """A doubtful finding as large as a mass may be one, or fluid or collapsed lung: nobody knows until it is read."""
    count = sum(finding.doubtful and finding.is_mass for finding in findings)
    if not count:
        return ()
    return ("a large opacity may be a mass" if count == 1 else f"{count} large opacities may be masses",)


def _evaluable_notice(lungs: Lungs | None, findings: Sequence[Finding]) -> tuple[Notice, ...]:
    missing = (*_not_evaluable(lungs), *_opacities(findings))
    return (Notice("not-evaluable", f"Not evaluable: {', '.join(missing)}."),) if missing else ()


def _matters(nodule: LostNodule) -> bool:
    """A nodule whose fate is not known, and that was not benign anyway."""
    benign = nodule.past.nodule_type is NoduleType.CALCIFIED or nodule.past.category == LungRads.NEGATIVE
    return nodule.state == NOT_ASSESSED and not benign


def _unknown_earlier(lost: Sequence[LostNodule], not_measured: int) -> tuple[str, ...]:
    """Earlier nodules whose fate this scan could show and nobody knows, each in words."""
    inside = (nodule.text for nodule in lost if _matters(nodule) and not nodule.outside_scan)
    unmeasured = f"{not_measured} nodule{'s' if not_measured > 1 else ''} of the earlier exam without sizes"
    return (*inside, *((unmeasured,) if not_measured else ()))


def _outside(lost: Sequence[LostNodule]) -> tuple[str, ...]:
    """Earlier nodules whose place this scan does not show, each in words."""
    return tuple(f"a nodule {nodule.text}" for nodule in lost if _matters(nodule) and nodule.outside_scan)


def _outside_notice(lost: Sequence[LostNodule]) -> tuple[Notice, ...]:
    outside = _outside(lost)
    return (Notice("prior-nodule-unknown", f"Not evaluable: {'; '.join(outside)}."),) if outside else ()


def _as_baseline(clinical: ClinicalData | None) -> Notice:
    text = "No images of an earlier exam were compared: every nodule is graded as baseline, none as new (choice i)."
    if clinical is not None and (clinical.prior_exam_date or clinical.prior_category):
        date = f" of {clinical.prior_exam_date}" if clinical.prior_exam_date else ""
        category = f" (category {clinical.prior_category})" if clinical.prior_category else ""
        text += f" An earlier exam{date}{category} is on record, but its images are not here."
    return Notice("as-baseline", text)


def _open_items(known: Sequence[FindingFacts]) -> tuple[str, ...]:
    shape = any(fact.juxtapleural is None for fact in known)
    spiculation = any(fact.spiculated is None for fact in known)
    return (
        *NOT_ASSESSED_ITEMS,
        *((_SHAPE_ITEM,) if shape else ()),
        *((_SPICULATION_ITEM,) if spiculation else ()),
    )


def _known_facts(findings: Sequence[Finding], facts: Sequence[FindingFacts] | None) -> tuple[FindingFacts, ...]:
    """One for each finding; where none are given, what the findings' own attributes estimate."""
    if facts is None:
        return tuple(map(estimate_facts, findings))
    if len(facts) != len(findings):
        raise ValueError(f"expected facts of {len(findings)} findings, got {len(facts)}")
    return tuple(facts)

"""Finding… + Lungs + ClinicalData → Assessment: what the rules say of a study that was read without an earlier exam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from lungscreen.assess.brock import BROCK_MODELS, BrockInput, estimate_brock
from lungscreen.assess.inputs import NoduleAtExam, NoduleHistory, measured_nodule
from lungscreen.assess.lung_rads import grade_nodule
from lungscreen.assess.lung_rads_exam import ExamFacts, grade_exam
from lungscreen.assess.lung_rads_rows import Measure
from lungscreen.assess.results import RANK, Category, LungRads
from lungscreen.errors import Notice
from lungscreen.records import ClinicalData, Finding, Location, Lungs, NoduleType, Risk

__all__ = ["AssessConfig", "Assessment", "FindingFacts", "assess_baseline"]

NO_PRIOR = "not assessed: no prior"
"""Growth of a study that was read alone."""

NOT_ASSESSED_ITEMS = (
    "modifier S (significant findings other than lung cancer)",
    "airway nodules",
    "atypical cysts",
    "signs of infection or inflammation",
)
"""What Lung-RADS asks for and the pipeline cannot see (choice k)."""

_SHAPE_ITEM = "juxtapleural shape"
_SPICULATION_ITEM = "spiculation (category 4X comes from a reader only)"


@dataclass(frozen=True)
class AssessConfig:
    """How the rules are applied.

    measure: what the size cuts of Lung-RADS are compared with, "diameter" or "volume" (choice h).
    prior_pending: an earlier exam is being located, so that the exam is category 0 (choice i).
    """

    measure: Measure = "diameter"
    prior_pending: bool = False

    def __post_init__(self) -> None:
        """Refuse an unknown measure."""
        if self.measure not in get_args(Measure):
            raise ValueError(f"measure: expected one of {get_args(Measure)}, got {self.measure!r}")


@dataclass(frozen=True, slots=True)
class FindingFacts:
    """What is known of one finding beside its measurement. None is not known.

    juxtapleural: juxtapleural or perifissural, smooth, and oval, lentiform or triangular.
    estimated: whether these come from the software rather than from a reader.
    suspicious: a reader's judgement (category 4X); never the software's.
    """

    juxtapleural: bool | None = None
    spiculated: bool | None = None
    estimated: bool = True
    suspicious: bool = False


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
    growth: str = NO_PRIOR

    @property
    def category(self) -> str:
        """Exam category, or "not assessed"."""
        return str(self.exam.name)

    @property
    def category_reason(self) -> str:
        """Why."""
        return self.exam.reason


def assess_baseline(
    findings: Sequence[Finding],
    lungs: Lungs,
    clinical: ClinicalData | None,
    config: AssessConfig = AssessConfig(),
    *,
    facts: Mapping[int, FindingFacts] | None = None,
    cut_off: int = 0,
) -> Assessment:
    """Grade a study that is read without images of an earlier exam: every nodule as baseline, and said (choice i).

    `facts` by the finding's number; `cut_off` is how many nodules the limit of findings left out (they count in Brock).
    A finding without a measurement or type is "not assessed". Brock takes the largest transverse diameter; what it
    lacks is named, what was estimated is marked.
    """
    facts = facts or {}
    graded = [_grade(finding, facts.get(finding.number), config.measure) for finding in findings]
    assessed = tuple(
        _with_result(finding, category, facts.get(finding.number), clinical, len(findings) + cut_off)
        for finding, category in zip(findings, graded, strict=True)
    )
    exam = grade_exam(graded, ExamFacts(not_evaluable=_not_evaluable(lungs), prior_pending=config.prior_pending))
    notices = (_as_baseline(clinical), *_evaluable_notice(lungs), *exam.notices)
    return Assessment(assessed, exam, notices, _open_items(findings, facts))


# -- one finding -----------------------------------------------------------------------------------------------------
def _grade(finding: Finding, facts: FindingFacts | None, measure: Measure) -> Category:
    facts = facts or FindingFacts()
    if finding.measurement is None:
        need = "a measurement"
        notice = Notice("not-assessed", f"No Lung-RADS category: the rule needs {need}.")
        return Category(
            LungRads.NOT_ASSESSED, "Lung-RADS v2022", f"not assessed: needs {need}", notices=(notice,), needs=(need,)
        )
    nodule = measured_nodule(finding.measurement, finding.nodule_type, None, juxtapleural=facts.juxtapleural)
    category = grade_nodule(NoduleHistory(nodule, suspicious=facts.suspicious), measure)
    flags = (
        *_estimated_shape(nodule, category, facts, measure),
        *_consider_4x(category, facts),
        *_no_solid_part(nodule),
    )
    return replace(category, notices=(*category.notices, *flags))


def _estimated_shape(
    nodule: NoduleAtExam, category: Category, facts: FindingFacts, measure: Measure
) -> tuple[Notice, ...]:
    """Says which category a nodule would have without an estimated juxtapleural shape."""
    if not (facts.juxtapleural and facts.estimated):
        return ()
    without = grade_nodule(NoduleHistory(replace(nodule, juxtapleural=False), suspicious=facts.suspicious), measure)
    if without.name is category.name:
        return ()
    text = f"Category {category.name} rests on an estimated juxtapleural shape; without it {without.name}."
    return (Notice("estimated-shape", text),)


def _consider_4x(category: Category, facts: FindingFacts) -> tuple[Notice, ...]:
    """Estimated spiculation is no 4X: a reader decides (choice j)."""
    suspicious = facts.spiculated and RANK.get(category.name, 0) >= RANK[LungRads.PROBABLY_BENIGN]
    if not suspicious or category.name is LungRads.SUSPICIOUS_4X:
        return ()
    how = "Estimated spiculation" if facts.estimated else "Spiculation"
    return (Notice("consider-4x", f"{how}: a reader may consider 4X (choice j)."),)


def _no_solid_part(nodule: NoduleAtExam) -> tuple[Notice, ...]:
    if nodule.nodule_type is not NoduleType.PART_SOLID or nodule.solid_mm is None or nodule.solid_mm > 0:
        return ()
    return (Notice("type-size-disagree", "Part-solid by its type, but no solid part was measured: taken as 0 mm."),)


def _with_result(
    finding: Finding, category: Category, facts: FindingFacts | None, clinical: ClinicalData | None, count: int
) -> Finding:
    return replace(
        finding,
        category=str(category.name),
        category_reason=category.reason,
        category_clause=category.clause,
        management=category.management,
        risks=_brock(finding, facts or FindingFacts(), clinical or ClinicalData(), count),
        growth=NO_PRIOR,
        notices=(*finding.notices, *category.notices),
    )


# -- Brock -----------------------------------------------------------------------------------------------------------
def _brock(finding: Finding, facts: FindingFacts, person: ClinicalData, count: int) -> tuple[Risk, ...]:
    upper_lobe, lobe_how = _upper_lobe(finding.location)
    assumed = [("nodule_count", f"number of nodules: {count} findings of this reading")]
    assumed += [("nodule_type", "nodule type estimated from the image")]
    if lobe_how:
        assumed.append(("upper_lobe", lobe_how))
    if facts.estimated and facts.spiculated is not None:
        assumed.append(("spiculation", "spiculation estimated from the image"))
    assumed += [(name, f"{name} from the DICOM header") for name in person.from_header]
    data = BrockInput(
        size_mm=None if finding.measurement is None else finding.measurement.max_transverse_mm,
        upper_lobe=upper_lobe,
        sex=person.sex,
        spiculation=facts.spiculated,
        age=person.age,
        family_history=person.family_history,
        emphysema=person.emphysema,
        nodule_type=finding.nodule_type,
        nodule_count=count,
        assumed=tuple(assumed),
    )
    return tuple(estimate_brock(data, model) for model in BROCK_MODELS)


def _upper_lobe(location: Location) -> tuple[bool | None, str]:
    """Whether a finding lies in an upper lobe, and how that was come by; the lingula counts to the left upper lobe."""
    lobe = location.lobe.lower()
    if lobe:
        return "upper" in lobe or "lingula" in lobe or lobe in ("rul", "lul"), "lobe estimated from the image"
    if location.zone == "unknown":
        return None, ""
    return location.zone == "upper", f"upper lobe assumed from the zone ({location.zone})"


# -- the exam --------------------------------------------------------------------------------------------------------
def _not_evaluable(lungs: Lungs) -> tuple[str, ...]:
    return (
        *(("the apex is cut",) if lungs.apex_cut else ()),
        *(("the base is cut",) if lungs.base_cut else ()),
        *(("a lung may be incomplete",) if lungs.incomplete else ()),
    )


def _evaluable_notice(lungs: Lungs) -> tuple[Notice, ...]:
    missing = _not_evaluable(lungs)
    return (Notice("not-evaluable", f"Not evaluable: {', '.join(missing)}."),) if missing else ()


def _as_baseline(clinical: ClinicalData | None) -> Notice:
    text = "No images of an earlier exam were compared: every nodule is graded as baseline, none as new (choice i)."
    if clinical is not None and (clinical.prior_exam_date or clinical.prior_category):
        date = f" of {clinical.prior_exam_date}" if clinical.prior_exam_date else ""
        category = f" (category {clinical.prior_category})" if clinical.prior_category else ""
        text += f" An earlier exam{date}{category} is on record, but its images are not here."
    return Notice("as-baseline", text)


def _open_items(findings: Sequence[Finding], facts: Mapping[int, FindingFacts]) -> tuple[str, ...]:
    known = [facts.get(finding.number, FindingFacts()) for finding in findings]
    shape = any(fact.juxtapleural is None for fact in known)
    spiculation = any(fact.spiculated is None for fact in known)
    return (
        *NOT_ASSESSED_ITEMS,
        *((_SHAPE_ITEM,) if shape else ()),
        *((_SPICULATION_ITEM,) if spiculation else ()),
        "growth (no images of an earlier exam)",
    )

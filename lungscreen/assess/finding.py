"""Finding + what is known of it + earlier exams ─► its category, growth and risks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal

from lungscreen.assess.growth import doubling_time
from lungscreen.assess.inputs import AT_PLEURA_MM, NoduleAtExam, NoduleHistory, days_between, measured_nodule
from lungscreen.assess.lung_rads import grade_nodule, name_growth
from lungscreen.assess.lung_rads_rows import Measure
from lungscreen.assess.results import RANK, Category, LungRads
from lungscreen.assess.risks import estimate_risks
from lungscreen.assess.rounding import tenths
from lungscreen.errors import Notice
from lungscreen.records import NOT_ASSESSED, ClinicalData, Finding, Grade, NoduleType

__all__ = ["Earlier", "FindingFacts", "GradedFinding", "add_grade", "estimate_facts", "grade_finding"]

NO_PRIOR = f"{NOT_ASSESSED}: no prior"
"""Growth of a study that was read alone."""

SPICULATED_FROM = Decimal("3.0")
"""Estimated spiculation, 1 to 5 and to one decimal as reports show it, from which a nodule counts as spiculated: the
middle of the readers' scale. Our choice. Below it nothing is known: the shipped network's estimate is too low for
most."""

BLUR_TELLS_FROM_MM = Decimal("8.0")
"""Mean diameter from which blur no longer makes a solid nodule look like ground glass: of 573 that LIDC's readers
called solid, 28 are typed ground-glass, all of them smaller."""


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


@dataclass(frozen=True, slots=True)
class Earlier:
    """When this exam was, and the earlier exams that show a nodule."""

    exam_date: date
    exams: tuple[NoduleAtExam, ...]


@dataclass(frozen=True, slots=True)
class GradedFinding:
    """A finding's category and how it changed."""

    category: Category
    growth: str


def grade_finding(finding: Finding, facts: FindingFacts, measure: Measure, earlier: Earlier | None) -> GradedFinding:
    """Grade one finding as baseline, or against the exams that show it."""
    nodule = _nodule(finding, facts, earlier)
    if nodule is None:
        words = NO_PRIOR if earlier is None else "not assessed: needs a measurement"
        return GradedFinding(_without_measurement(), words)
    exams = () if earlier is None else earlier.exams
    history = NoduleHistory(nodule, exams, compared=earlier is not None, suspicious=facts.suspicious)
    category = grade_nodule(history, measure)
    flags = (
        *_estimated_shape(history, category, facts, measure),
        *_consider_4x(category, facts),
        *_consider_juxtapleural(finding, history, category, facts, measure),
        *_consider_solid(history, category, measure),
        *_no_solid_part(nodule),
    )
    return GradedFinding(replace(category, notices=(*category.notices, *flags)), _growth_words(history))


def _nodule(finding: Finding, facts: FindingFacts, earlier: Earlier | None) -> NoduleAtExam | None:
    """The finding as the rules take it; None where nothing was measured, or nothing possible."""
    if finding.measurement is None:
        return None
    exam_date = None if earlier is None else earlier.exam_date
    try:
        return measured_nodule(finding.measurement, finding.nodule_type, exam_date, juxtapleural=facts.juxtapleural)
    except ValueError:
        return None


def _without_measurement() -> Category:
    need = "a measurement"
    notice = Notice("not-assessed", f"No Lung-RADS category: the rule needs {need}.")
    reason = f"not assessed: needs {need}"
    return Category(LungRads.NOT_ASSESSED, "Lung-RADS v2022", reason, notices=(notice,), needs=(need,))


def _growth_words(history: NoduleHistory) -> str:
    """How a nodule changed, with its volume-doubling time where both volumes are known."""
    words = name_growth(history)
    if not history.earlier:
        return words
    last, now = history.earlier[-1], history.current
    if last.volume_mm3 is None or now.volume_mm3 is None:
        return words
    return (
        f"{words}; volume-doubling time: {doubling_time(last.volume_mm3, now.volume_mm3, days_between(last, now)).text}"
    )


def _estimated_shape(
    history: NoduleHistory, category: Category, facts: FindingFacts, measure: Measure
) -> tuple[Notice, ...]:
    """Says which category a nodule would have without an estimated juxtapleural shape."""
    if not (facts.juxtapleural and facts.estimated):
        return ()
    without = _with_shape(history, False, measure)
    if without.name is category.name:
        return ()
    text = f"Category {category.name} rests on an estimated juxtapleural shape; without it {without.name}."
    return (Notice("estimated-shape", text),)


def _with_shape(history: NoduleHistory, juxtapleural: bool, measure: Measure) -> Category:
    """What the nodule would be if its shape at the pleura were known to be this."""
    return grade_nodule(replace(history, current=replace(history.current, juxtapleural=juxtapleural)), measure)


def _consider_4x(category: Category, facts: FindingFacts) -> tuple[Notice, ...]:
    """Estimated spiculation is no 4X: a reader decides (choice j)."""
    suspicious = facts.spiculated and RANK.get(category.name, 0) >= RANK[LungRads.PROBABLY_BENIGN]
    if not suspicious or category.name is LungRads.SUSPICIOUS_4X:
        return ()
    how = "Estimated spiculation" if facts.estimated else "Spiculation"
    return (Notice("consider-4x", f"{how}: a reader may consider 4X (choice j)."),)


def _consider_juxtapleural(
    finding: Finding, history: NoduleHistory, category: Category, facts: FindingFacts, measure: Measure
) -> tuple[Notice, ...]:
    """Says which category a nodule at the pleura or a fissure would have if a reader found its shape to be the benign
    one.

    Not where spiculation is seen or estimated: such a nodule is not smooth.
    """
    place = finding.location
    at_pleura = place.pleura_mm is not None and place.pleura_mm <= AT_PLEURA_MM
    if facts.juxtapleural is not None or facts.spiculated or not (at_pleura or place.perifissural):
        return ()
    shaped = _with_shape(history, True, measure)
    if shaped.name is category.name:
        return ()
    shape = f"category {shaped.name} if a reader finds it smooth and oval, lentiform or triangular."
    if at_pleura:
        return (Notice("consider-juxtapleural", f"Lies at the lung's border: {shape}"),)
    text = f"A fissure may touch it (estimated): where a reader sees that too, {shape}"
    return (Notice("consider-perifissural", text),)


def _consider_solid(history: NoduleHistory, category: Category, measure: Measure) -> tuple[Notice, ...]:
    """Says which higher category a small ground-glass nodule would have if a reader found it solid."""
    now = history.current
    if now.nodule_type is not NoduleType.GROUND_GLASS or tenths(now.mean_diameter_mm) >= BLUR_TELLS_FROM_MM:
        return ()
    solid = grade_nodule(replace(history, current=replace(now, nodule_type=NoduleType.SOLID)), measure)
    if RANK.get(solid.name, 0) <= RANK.get(category.name, 0):
        return ()
    text = (
        f"Small for telling its type: blur can make a solid nodule look like ground glass. Category {solid.name} if"
        " solid."
    )
    return (Notice("consider-solid", text),)


def _no_solid_part(nodule: NoduleAtExam) -> tuple[Notice, ...]:
    if nodule.nodule_type is not NoduleType.PART_SOLID or nodule.solid_mm is None or nodule.solid_mm > 0:
        return ()
    return (Notice("type-size-disagree", "Part-solid by its type, but no solid part was measured: taken as 0 mm."),)


def add_grade(
    finding: Finding, grade: GradedFinding, facts: FindingFacts, clinical: ClinicalData | None, count: int
) -> Finding:
    """The finding with its grade, its growth and its risks.

    count: noncalcified nodules of the exam, which Brock asks for.
    """
    category = grade.category
    said = Grade(
        category=str(category.name),
        category_reason=category.reason,
        category_clause=category.clause,
        management=category.management,
        growth=grade.growth,
        risks=estimate_risks(finding, clinical or ClinicalData(), facts.spiculated, facts.estimated, count),
    )
    return replace(finding, grade=said, notices=(*finding.notices, *category.notices))


def estimate_facts(finding: Finding) -> FindingFacts:
    """Spiculation where the network sees it; where it does not, nothing is known, since it sees few of those there
    are.
    """
    looks = finding.attributes
    seen = looks is not None and tenths(looks.spiculation) >= SPICULATED_FROM
    return FindingFacts(spiculated=True if seen else None)

"""A typed-in nodule, its earlier rows and the person ─► what the published models and guidelines say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lungscreen.assess import (
    BROCK_MODELS,
    LEAST_ROUND_DAYS,
    BtsContext,
    FleischnerContext,
    NoduleAtExam,
    NoduleLooks,
    advise_bts,
    advise_bts_follow_up,
    advise_eu_position,
    advise_fleischner_by_risk,
    advise_nelson,
    advise_nelson_growth,
    advise_nelson_new_solid,
    brock_input,
    doubling_time,
    estimate_brock,
    estimate_mayo,
    mayo_input,
)
from lungscreen.cohort.lesions import GradedLesion, typed_at_exam
from lungscreen.cohort.rows import TypedNodule
from lungscreen.records import NOT_ASSESSED, Advice, ClinicalData, NoduleType, Risk

__all__ = ["Opinions", "ask_models"]

THIN_SECTIONS_MM = 1.5
"""Typed-in sizes are taken to come from sections that Fleischner asks for, and said: no column has the thickness."""

_SUBSOLID = (NoduleType.GROUND_GLASS, NoduleType.PART_SOLID)


@dataclass(frozen=True, slots=True)
class Opinions:
    """What each model and guideline says, in a cell: a number, an advice, or "not assessed" with its reason."""

    doubling_days: str
    brock: tuple[str, ...]
    mayo: str
    fleischner: str
    bts: str
    nelson: str
    eu: str


def ask_models(
    row: TypedNodule, lesion: GradedLesion, beside: Sequence[TypedNodule], person: ClinicalData, *, all_read: bool
) -> Opinions:
    """Ask all of them.

    beside: every row of the exam, this one among them.
    all_read: whether no row of the exam was refused, so that its nodules can be counted.
    """
    if row.kind in ("cyst", "airway"):
        return _of_no_nodule("a cyst" if row.kind == "cyst" else "an airway nodule")
    kinds = [one for one in beside if one.kind not in ("cyst", "airway") and not one.is_benign_calcified]
    nodule_type = NoduleType.CALCIFIED if row.is_benign_calcified else row.nodule_type
    looks = NoduleLooks(
        row.max_transverse_mm, row.upper_lobe, row.spiculation, nodule_type, len(kinds) if all_read else None
    )
    brock = [estimate_brock(brock_input(looks, person), model) for model in BROCK_MODELS]
    mayo = estimate_mayo(mayo_input(looks, person))
    if row.is_benign_calcified:
        mayo = replace(mayo, probability=None, needs=(), limits=("benign calcification: not a nodule for Mayo",))
    nodule = typed_at_exam(row)
    if nodule is None:
        four = (_no("both axes"),) * 4
        return Opinions(_doubling(row, lesion), tuple(map(_risk, brock)), _risk(mayo), *four)
    nodule = replace(nodule, nodule_type=nodule_type)
    return Opinions(
        _doubling(row, lesion),
        tuple(map(_risk, brock)),
        _risk(mayo),
        _fleischner(row, nodule, lesion, kinds, person),
        _advice(_bts(nodule, lesion, brock[-1])),
        _advice(_nelson(row, nodule, lesion)),
        _advice(advise_eu_position(nodule, new=lesion.state == "new")),
    )


def _of_no_nodule(what: str) -> Opinions:
    no = f"not applicable: {what}"
    return Opinions(_no("a nodule's volumes"), (no,) * len(BROCK_MODELS), no, no, no, no, no)


def _doubling(row: TypedNodule, lesion: GradedLesion) -> str:
    """Days since the last row that it was compared with."""
    if not lesion.before:
        return _no("an earlier exam")
    then = lesion.before[-1].row
    if then.volume_mm3 is None or row.volume_mm3 is None:
        return _no("volumes of both exams")
    days = doubling_time(then.volume_mm3, row.volume_mm3, (row.day - then.day).days).days
    return "not growing" if days is None else f"{days:.1f}"


def _fleischner(
    row: TypedNodule, nodule: NoduleAtExam, lesion: GradedLesion, kinds: Sequence[TypedNodule], person: ClinicalData
) -> str:
    """At a first exam, and where a solid part has grown; sections of at most 1.5 mm are assumed, and said."""
    subsolid = nodule.nodule_type in _SUBSOLID
    growing = lesion.state == "growing" and nodule.nodule_type is NoduleType.PART_SOLID
    if lesion.before and not growing:
        return "not applicable: for nodules that no earlier exam was compared for"
    same = [one for one in kinds if (one.nodule_type in _SUBSOLID) == subsolid]
    context = FleischnerContext(
        multiple=len(same) > 1,
        slice_mm=THIN_SECTIONS_MM,
        # any cancer before may be one that spreads to the lungs: only its absence answers what Fleischner asks
        known_cancer=False if person.prior_cancer is False else None,
        spiculated=row.spiculation,
        solid_part_growing=growing,
        suspicious_form=row.suspicious,
    )
    advice = advise_fleischner_by_risk(nodule, person, context)
    sections = f"sections of at most {THIN_SECTIONS_MM} mm"
    return _advice(replace(advice, assumed=(*advice.assumed, sections)))


def _bts(nodule: NoduleAtExam, lesion: GradedLesion, brock_2b: Risk) -> Advice:
    context = BtsContext(brock=brock_2b)
    earlier = [typed_at_exam(one.row) for one in lesion.before]
    first = next((one for one in earlier if one is not None), None)
    return advise_bts(nodule, context) if first is None else advise_bts_follow_up(first, nodule, context)


def _nelson(row: TypedNodule, nodule: NoduleAtExam, lesion: GradedLesion) -> Advice:
    """Growth against the last exam that shows it; a new solid nodule's class; else its class at baseline."""
    earlier = [typed_at_exam(one.row) for one in lesion.before]
    last = earlier[-1] if earlier else None
    if last is not None:
        days = (row.day - lesion.before[-1].row.day).days
        return advise_nelson_growth(last, nodule, incidence_round=days >= LEAST_ROUND_DAYS)
    if lesion.state == "new" and nodule.nodule_type is NoduleType.SOLID:
        return advise_nelson_new_solid(nodule)
    return advise_nelson(nodule, pleural_based=row.juxtapleural)


# -- cells -----------------------------------------------------------------------------------------------------------
def _no(need: str) -> str:
    return f"{NOT_ASSESSED}: needs {need}"


def _risk(risk: Risk) -> str:
    """The probability, 0 to 1, or why there is none; where it holds less, that too."""
    if risk.probability is None:
        return risk.text
    limits = f" ({'; '.join(risk.limits)})" if risk.limits else ""
    return f"{risk.probability:.5f}{limits}"


def _advice(advice: Advice) -> str:
    needs = f" (needs {', '.join(advice.needs)})" if advice.needs else ""
    if advice.group == NOT_ASSESSED:
        return _no(", ".join(advice.needs))
    assumed = f" (assumed: {', '.join(advice.assumed)})" if advice.assumed else ""
    return f"{advice.group}: {advice.advice}{needs}{assumed}"

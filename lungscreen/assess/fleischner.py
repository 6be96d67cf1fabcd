"""A nodule that was found by chance → follow-up by the Fleischner Society 2017; not for screening.

Source: MacMahon et al., Radiology 2017;284:228 (recommendations of 2017). For people of 35 years and more, without a
known cancer and not immunosuppressed, on contiguous sections of at most 1.5 mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lungscreen.assess.inputs import NoduleAtExam
from lungscreen.assess.rounding import Number, exact, whole
from lungscreen.records import NOT_ASSESSED, Advice, ClinicalData, NoduleType

__all__ = ["FleischnerContext", "advise_fleischner", "advise_fleischner_by_risk", "fleischner_size_mm"]

_GUIDELINE = "Fleischner 2017"
_SOURCE = "MacMahon 2017, Radiology 284:228"
_LEAST_AGE = 35
_THICKEST_MM = 1.5

SMALL_TYPICAL_MM = 10
"""A typical perifissural or juxtapleural nodule is small below this average: the paper names no limit above its 6 mm;
this is the one of Lung-RADS v2022 and BTS 2015 (our reading)."""

LARGE_SOLID_PART_MM = 8
"""Above this a solid part is worked up at once."""

Band = Literal["<6 mm", "6–8 mm", ">8 mm"]


@dataclass(frozen=True, slots=True)
class FleischnerContext:
    """What Fleischner asks beside the nodule. None is not known.

    high_risk: by the clinician's judgement (smoking, age, family, emphysema, shape).
    multiple: several nodules of the kind; the advice then goes by the most suspicious.
    slice_mm: section thickness.
    known_cancer: of the person.
    by_volume: compare volumes instead of diameters.
    spiculated, displaces_fissure: speak against a lymph node in a nodule at a fissure or the pleura.
    solid_part_growing, suspicious_form: of a part-solid nodule.
    """

    high_risk: bool | None = None
    multiple: bool = False
    slice_mm: float | None = None
    known_cancer: bool | None = None
    by_volume: bool = False
    spiculated: bool | None = None
    displaces_fissure: bool | None = None
    solid_part_growing: bool | None = None
    suspicious_form: bool | None = None


_SOLID_SINGLE: dict[tuple[Band, bool], str] = {
    ("<6 mm", False): "no routine follow-up",
    ("<6 mm", True): "CT at 12 months is optional",
    ("6–8 mm", False): "CT at 6 to 12 months, then consider CT at 18 to 24 months",
    ("6–8 mm", True): "CT at 6 to 12 months, then CT at 18 to 24 months",
    (">8 mm", False): "consider CT at 3 months, PET/CT or tissue sampling",
    (">8 mm", True): "consider CT at 3 months, PET/CT or tissue sampling",
}

_SOLID_MULTIPLE: dict[tuple[Band, bool], str] = {
    ("<6 mm", False): "no routine follow-up",
    ("<6 mm", True): "CT at 12 months is optional",
    ("6–8 mm", False): "CT at 3 to 6 months, then consider CT at 18 to 24 months",
    ("6–8 mm", True): "CT at 3 to 6 months, then CT at 18 to 24 months",
    (">8 mm", False): "CT at 3 to 6 months, then consider CT at 18 to 24 months",
    (">8 mm", True): "CT at 3 to 6 months, then CT at 18 to 24 months",
}

_SUBSOLID_MULTIPLE = {
    False: "CT at 3 to 6 months; if stable, consider CT at 2 and 4 years",
    True: "CT at 3 to 6 months, then by the most suspicious nodule",
}


def fleischner_size_mm(nodule: NoduleAtExam) -> int:
    """Average of long and short axis to the nearest whole millimetre, half-up; not the mean of Lung-RADS."""
    return whole((exact(nodule.long_axis_mm) + exact(nodule.short_axis_mm)) / 2)


def advise_fleischner(nodule: NoduleAtExam, person: ClinicalData, context: FleischnerContext) -> Advice:
    """What Fleischner 2017 advises for a nodule that was found by chance.

    Without the person's age, cancer, immune state or the section thickness the result says what it needs; outside
    those limits it is "not applicable".
    """
    outside = _outside(person, context)
    if outside:
        return _advice("not applicable", f"the guideline does not hold: {', '.join(outside)}")
    at_border = _typical_at_border(nodule, person, context)
    needs = _needs(nodule, person, context, asks_risk=at_border is None)
    if needs:
        return _advice(NOT_ASSESSED, "", needs)
    if nodule.nodule_type is NoduleType.CALCIFIED:
        return _advice("benign calcification", "no routine follow-up")
    if at_border is not None:
        return at_border
    band = _band(nodule, context.by_volume)
    if nodule.nodule_type is NoduleType.SOLID:
        table = _SOLID_MULTIPLE if context.multiple else _SOLID_SINGLE
        risk = "high" if context.high_risk else "low"
        group = f"solid, {'multiple' if context.multiple else 'single'}, {band}, {risk} risk"
        return _advice(group, table[band, bool(context.high_risk)])
    return _subsolid(nodule, context, large=band != "<6 mm")


def advise_fleischner_by_risk(nodule: NoduleAtExam, person: ClinicalData, context: FleischnerContext) -> Advice:
    """The same; where only the clinician's judgement of the risk is lacking, both answers, and none is chosen."""
    unknown, low, high = (
        advise_fleischner(nodule, person, replace(context, high_risk=risk)) for risk in (None, False, True)
    )
    if unknown.needs != ("low or high risk",):
        return unknown
    group = low.group.removesuffix(", low risk")
    same = low.advice == high.advice
    text = low.advice if same else f"low risk: {low.advice}; high risk: {high.advice}"
    clause = f"{_GUIDELINE}, {group}"
    return replace(unknown, group=group, advice=text, clause=clause, needs=() if same else unknown.needs)


def _typical_at_border(nodule: NoduleAtExam, person: ClinicalData, context: FleischnerContext) -> Advice | None:
    """A small solid nodule at a fissure or the pleura that looks like a lymph node (2017, p. 240); None for any
    other.
    """
    if nodule.nodule_type is not NoduleType.SOLID or not nodule.juxtapleural:
        return None
    if fleischner_size_mm(nodule) >= SMALL_TYPICAL_MM:
        return None
    group = "solid, typical perifissural or juxtapleural"
    against = (
        *(("spiculated",) if context.spiculated else ()),
        *(("displaces the fissure",) if context.displaces_fissure else ()),
        *(("a history of cancer",) if person.prior_cancer else ()),
    )
    if against:
        return _advice(f"{group}, but {', '.join(against)}", "consider CT at 6 to 12 months")
    open_ones = {
        "no spiculation": context.spiculated,
        "no displaced fissure": context.displaces_fissure,
        "no history of cancer": person.prior_cancer,
    }
    assumed = tuple(words for words, known in open_ones.items() if known is None)
    return _advice(group, "no routine follow-up CT", assumed=assumed)


def _subsolid(nodule: NoduleAtExam, context: FleischnerContext, *, large: bool) -> Advice:
    multiple, size = context.multiple, "≥6 mm" if large else "<6 mm"
    if multiple:
        return _advice(f"subsolid, multiple, {size}", _SUBSOLID_MULTIPLE[large])
    group = f"{nodule.nodule_type}, single, {size}"
    if not large:
        return _advice(group, "no routine follow-up")
    if nodule.nodule_type is NoduleType.GROUND_GLASS:
        return _advice(group, "CT at 6 to 12 months, then every 2 years until 5 years")
    if nodule.solid_mean_diameter_mm is None:
        return _advice(NOT_ASSESSED, "", ("size of the solid part",))
    return _part_solid(group, nodule.solid_mean_diameter_mm, context)


def _part_solid(group: str, solid_mm: Number, context: FleischnerContext) -> Advice:
    """A part-solid nodule of 6 mm and more, by its solid part."""
    why = (
        *(("solid part >8 mm",) if whole(solid_mm) > LARGE_SOLID_PART_MM else ()),
        *(("solid part growing",) if context.solid_part_growing else ()),
        *(("suspicious form",) if context.suspicious_form else ()),
    )
    if why:
        return _advice(f"{group}, {', '.join(why)}", "PET/CT, biopsy or resection")
    if whole(solid_mm) >= 6:
        text = "CT at 3 to 6 months, whether it persists; PET/CT, biopsy or resection only where the solid part grows"
        return _advice(f"{group}, solid part 6–8 mm", f"{text} or its form is suspicious")
    text = "CT at 3 to 6 months; if unchanged and the solid part stays <6 mm, CT every year for 5 years"
    return _advice(f"{group}, solid part <6 mm", text)


def _band(nodule: NoduleAtExam, by_volume: bool) -> Band:
    """The size class: by whole millimetres, or by <100, 100 to 250, >250 mm³."""
    if by_volume and nodule.volume_mm3 is not None:
        size, low, high = whole(nodule.volume_mm3), 100, 250
    else:
        size, low, high = fleischner_size_mm(nodule), 6, 8
    if size < low:
        return "<6 mm"
    return "6–8 mm" if size <= high else ">8 mm"


def _outside(person: ClinicalData, context: FleischnerContext) -> tuple[str, ...]:
    age, slice_mm = person.age, context.slice_mm
    return (
        *((f"age {age:g} is below {_LEAST_AGE}",) if age is not None and age < _LEAST_AGE else ()),
        *(("known cancer",) if context.known_cancer else ()),
        *(("immunosuppressed",) if person.immunosuppressed else ()),
        *((f"sections of {slice_mm:g} mm",) if slice_mm is not None and slice_mm > _THICKEST_MM else ()),
    )


def _needs(
    nodule: NoduleAtExam, person: ClinicalData, context: FleischnerContext, *, asks_risk: bool
) -> tuple[str, ...]:
    asks_risk = asks_risk and nodule.nodule_type is NoduleType.SOLID
    asks_volume = context.by_volume and nodule.nodule_type is not NoduleType.CALCIFIED
    lacking = {
        "age": person.age is None,
        "known cancer": context.known_cancer is None,
        "immunosuppression": person.immunosuppressed is None,
        "section thickness": context.slice_mm is None,
        "nodule type": nodule.nodule_type is NoduleType.UNKNOWN,
        "low or high risk": asks_risk and context.high_risk is None,
        "volume": asks_volume and nodule.volume_mm3 is None,
    }
    return tuple(need for need, is_lacking in lacking.items() if is_lacking)


def _advice(group: str, text: str, needs: tuple[str, ...] = (), assumed: tuple[str, ...] = ()) -> Advice:
    return Advice(_GUIDELINE, group, text, f"{_GUIDELINE}, {group}", needs, assumed, (_SOURCE,))

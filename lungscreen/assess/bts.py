"""A nodule → what the British Thoracic Society's guideline of 2015 advises, at first and at follow-up.

Source: Callister et al., Thorax 2015;70(Suppl 2):ii1, by its summary in PMC6784443, Table 4. Volume wins where it is
reliable; else the maximum diameter, never the mean of two axes. Growth is asked before the doubling time.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from lungscreen.assess.growth import doubling_time, has_grown_by_volume
from lungscreen.assess.inputs import NoduleAtExam, days_between
from lungscreen.assess.rounding import tenths, whole
from lungscreen.records import NOT_ASSESSED, Advice, NoduleType, Risk

__all__ = ["BtsContext", "advise_bts", "advise_bts_follow_up"]

_GUIDELINE = "BTS 2015"
_SOURCES = (
    "Callister 2015, Thorax 70(Suppl 2):ii1, as summarised in PMC6784443 Table 4",
    "unverified: that the full Brock model with spiculation (2b) is meant",
)

TWELVE_MONTH_VISIT_DAYS = 335
"""A CT from here on counts as the one at 12 months: 11 months, as patients keep it (our tolerance, not the
guideline's)."""

TWENTY_FOUR_MONTH_VISIT_DAYS = 700
"""A CT from here on counts as the one at 24 months: 23 months (our tolerance)."""

_FAST_DAYS, _SLOW_DAYS = 400, 600
_BROCK_CUT = 0.10
_HERDER_LOW, _HERDER_HIGH = 0.10, 0.70


@dataclass(frozen=True, slots=True)
class BtsContext:
    """What the guideline asks beside the nodule. None is not known.

    volumetry_reliable: whether volumes are to be used.
    brock: of the full model with spiculation (2b).
    herder: after PET.
    above_pet_limit: the nodule is larger than what the local PET resolves.
    """

    volumetry_reliable: bool = True
    brock: Risk | None = None
    herder: Risk | None = None
    above_pet_limit: bool | None = None


def advise_bts(nodule: NoduleAtExam, context: BtsContext = BtsContext()) -> Advice:
    """What BTS 2015 advises for a nodule that is seen for the first time."""
    if nodule.nodule_type is NoduleType.UNKNOWN:
        return _advice(NOT_ASSESSED, "", ("nodule type",))
    if nodule.nodule_type is NoduleType.CALCIFIED:
        return _advice("benign calcification", "discharge")
    longest = tenths(nodule.long_axis_mm)
    if nodule.nodule_type is not NoduleType.SOLID:
        return _subsolid(longest, context)
    if nodule.juxtapleural and longest < 10:
        return _advice("perifissural or juxtapleural <10 mm, typical", "discharge")
    if context.volumetry_reliable and nodule.volume_mm3 is not None:
        return _by_volume(whole(nodule.volume_mm3), context)
    return _by_diameter(longest, context)


def advise_bts_follow_up(
    first: NoduleAtExam,
    now: NoduleAtExam,
    context: BtsContext = BtsContext(),
    *,
    stable_by_diameter: bool | None = None,
) -> Advice:
    """What BTS 2015 advises for a solid nodule at follow-up, against the first exam that shows it.

    Without reliable volumes a reader's `stable_by_diameter` is needed: the guideline's doubling times are volumes'.
    """
    days = days_between(first, now)
    if NoduleType.SOLID not in (first.nodule_type, now.nodule_type):
        return _advice("not applicable", "subsolid nodules: CT at 3 months, then 1, 2 and 4 years")
    if context.volumetry_reliable and first.volume_mm3 is not None and now.volume_mm3 is not None:
        if not has_grown_by_volume(first.volume_mm3, now.volume_mm3):
            return _stable(days, by_volume=True)
        doubling = doubling_time(first.volume_mm3, now.volume_mm3, days).days
        return _growing(float("inf") if doubling is None else doubling, days)
    if stable_by_diameter is None:
        return _advice(NOT_ASSESSED, "", ("volumes of both exams, or a reader's judgement of stability",))
    if stable_by_diameter:
        return _stable(days, by_volume=False)
    return _advice("growing by diameter", "further work-up")


def _by_volume(mm3: int, context: BtsContext) -> Advice:
    if mm3 < 80:
        return _advice("solid, <80 mm³", "discharge")
    if mm3 < 300:
        return _advice("solid, ≥80 to <300 mm³", "CT at 3 months, then at 12 months")
    return _by_risk("solid, ≥300 mm³", context)


def _by_diameter(longest: Decimal, context: BtsContext) -> Advice:
    if longest < 5:
        return _advice("solid, <5 mm", "discharge")
    if longest < 6:
        return _advice("solid, 5 to <6 mm", "CT at 12 months")
    if longest < 8:
        return _advice("solid, ≥6 to <8 mm", "CT at 3 months, then at 12 months")
    return _by_risk("solid, ≥8 mm", context)


def _by_risk(group: str, context: BtsContext) -> Advice:
    """From 300 mm³ or 8 mm: Brock, then PET-CT and Herder."""
    if context.brock is None or context.brock.probability is None:
        needs = ("Brock 2b",) if context.brock is None else context.brock.needs or ("Brock 2b",)
        return _advice(NOT_ASSESSED, "", needs)
    if context.brock.probability < _BROCK_CUT:
        return _advice(f"{group}, Brock <10 %", "CT surveillance: at 3 months, then at 12 months")
    if context.above_pet_limit is None:
        return _advice(NOT_ASSESSED, "", ("whether the nodule is above the local size limit of PET",))
    if not context.above_pet_limit:
        return _advice(f"{group}, Brock ≥10 %, below the size limit of PET", "CT surveillance")
    if context.herder is None or context.herder.probability is None:
        return _advice(f"{group}, Brock ≥10 %", "PET-CT, then Herder", needs=("Herder",))
    return _after_pet(group, context.herder.probability)


def _after_pet(group: str, herder: float) -> Advice:
    if herder < _HERDER_LOW:
        return _advice(f"{group}, Herder <10 %", "CT surveillance")
    if herder <= _HERDER_HIGH:
        return _advice(f"{group}, Herder 10 to 70 %", "image-guided biopsy; else excision biopsy or CT surveillance")
    return _advice(f"{group}, Herder >70 %", "excision or non-surgical treatment")


def _subsolid(longest: Decimal, context: BtsContext) -> Advice:
    if longest < 5:
        return _advice("subsolid, <5 mm", "discharge")
    group = "subsolid, ≥5 mm"
    if context.brock is None or context.brock.probability is None:
        return _advice(group, "CT at 3 months, then Brock; CT at 1, 2 and 4 years", needs=("Brock 2b",))
    if context.brock.probability < _BROCK_CUT:
        return _advice(f"{group}, Brock <10 %", "CT at 3 months; if stable, CT at 1, 2 and 4 years")
    text = "CT at 3 months; if stable, discuss biopsy, excision or CT at 1, 2 and 4 years"
    return _advice(f"{group}, Brock ≥10 %", text)


def _stable(days: int, *, by_volume: bool) -> Advice:
    group = "stable by volume (<25 %)" if by_volume else "stable by diameter"
    if days < TWELVE_MONTH_VISIT_DAYS:
        return _advice(group, "CT at 12 months")
    if by_volume or days >= TWENTY_FOUR_MONTH_VISIT_DAYS:
        return _advice(group, "discharge")
    return _advice(group, "CT at 24 months")


def _growing(doubling_days: float, days: int) -> Advice:
    if doubling_days <= _FAST_DAYS:
        return _advice("growing, doubling time ≤400 days", "further work-up, consider treatment")
    early = "; CT at 12 months" if days < TWELVE_MONTH_VISIT_DAYS else ""
    if doubling_days <= _SLOW_DAYS:
        return _advice("growing, doubling time >400 to 600 days", f"consider biopsy or CT surveillance{early}")
    return _advice("growing, doubling time >600 days", f"consider discharge or CT surveillance{early}")


def _advice(group: str, text: str, needs: tuple[str, ...] = ()) -> Advice:
    return Advice(_GUIDELINE, group, text, f"{_GUIDELINE}, {group}", needs=needs, sources=_SOURCES)

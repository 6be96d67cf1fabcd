"""A nodule → what the NELSON trial made of it (NODCAT, growth), and the European position of 2017.

Sources: protocol in Cochrane CD013829, Table 1, and Horeweg 2013 (which other copies misprint: a doubling time *below*
400 days is positive, and "500 mm³ to 500 mm³" means 50 to 500). New solid nodules: Walter 2016, rounded cut-offs that
were not read in the primary source. EU: Oudkerk 2017, in a secondary source.
"""

from __future__ import annotations

from lungscreen.assess.growth import doubling_time, has_grown_by_volume
from lungscreen.assess.inputs import NoduleAtExam, days_between
from lungscreen.assess.rounding import tenths, whole
from lungscreen.records import NOT_ASSESSED, Advice, NoduleType

__all__ = [
    "advise_eu_position",
    "advise_nelson",
    "advise_nelson_growth",
    "advise_nelson_new_solid",
    "is_suspicious_after_new",
]

_NELSON = "NELSON"
_SOURCES = ("Cochrane CD013829 Table 1", "Horeweg 2013")
_NEW_SOURCES = ("unverified: Walter 2016, Lancet Oncol 17:907, rounded cut-offs",)
_EU_SOURCES = ("Oudkerk 2017, Lancet Oncol 18:e754, in a secondary source",)
_BASELINE_ROUND_SOURCE = "unverified: how doubling times of 400 to 600 days were handled after baseline"

_RESULTS = {
    2: ("NODCAT 2", "negative: next screening round"),
    3: ("NODCAT 3", "indeterminate: CT at 3 months"),
    4: ("NODCAT 4", "positive: work-up"),
}


def advise_nelson(nodule: NoduleAtExam, *, pleural_based: bool | None) -> Advice:
    """NODCAT of a nodule at baseline: by volume, pleural-based solid ones by minimal diameter, non-solid by mean."""
    if nodule.nodule_type is NoduleType.UNKNOWN:
        return _advice(NOT_ASSESSED, "", ("nodule type",))
    if nodule.nodule_type is NoduleType.CALCIFIED:
        return _advice("not applicable", "benign calcification")
    if nodule.nodule_type is NoduleType.SOLID:
        return _advise_solid(nodule, pleural_based)
    by_mean = 2 if nodule.mean_diameter_mm < 8 else 3
    if nodule.nodule_type is NoduleType.GROUND_GLASS:
        return _advice(*_RESULTS[by_mean])
    if nodule.solid_mm3 is None:
        return _advice(NOT_ASSESSED, "", ("volume of what is solid",))
    return _advice(*_RESULTS[max(_by_volume(whole(nodule.solid_mm3)), by_mean)])


def _advise_solid(nodule: NoduleAtExam, pleural_based: bool | None) -> Advice:
    if pleural_based is None:
        return _advice(NOT_ASSESSED, "", ("whether it is based on the pleura",))
    if pleural_based:
        smallest = tenths(nodule.short_axis_mm)
        return _advice(*_RESULTS[2 if smallest < 5 else 3 if smallest <= 10 else 4])
    if nodule.solid_mm3 is None:
        return _advice(NOT_ASSESSED, "", ("volume of what is solid",))
    return _advice(*_RESULTS[_by_volume(whole(nodule.solid_mm3))])


def advise_nelson_growth(before: NoduleAtExam, now: NoduleAtExam, *, incidence_round: bool) -> Advice:
    """Growth by NELSON: at least 25 % in volume, then the doubling time.

    400 to 600 days is indeterminate in incidence rounds; after baseline it is read as negative (unverified).
    """
    if before.volume_mm3 is None or now.volume_mm3 is None:
        return _advice(NOT_ASSESSED, "", ("volumes of both exams",))
    if not has_grown_by_volume(before.volume_mm3, now.volume_mm3):
        return _advice("no growth (<25 %)", "negative: next screening round")
    days = doubling_time(before.volume_mm3, now.volume_mm3, days_between(before, now)).days
    if days is not None and days < 400:
        return _advice("growing, doubling time <400 days", "positive: work-up")
    if days is not None and days <= 600:
        group = "growing, doubling time 400 to 600 days"
        if incidence_round:
            return _advice(group, "indeterminate: CT in between the rounds")
        return _advice(group, "negative: next screening round", sources=(*_SOURCES, _BASELINE_ROUND_SOURCE))
    return _advice("growing, doubling time >600 days", "negative: next screening round")


def advise_nelson_new_solid(nodule: NoduleAtExam) -> Advice:
    """Risk class of a solid nodule that is new at an incidence round (not part of the NELSON protocol)."""
    if nodule.nodule_type is not NoduleType.SOLID:
        return _advice("not applicable", "for solid nodules only", sources=_NEW_SOURCES)
    if nodule.volume_mm3 is None:
        return _advice(NOT_ASSESSED, "", ("volume",), sources=_NEW_SOURCES)
    mm3 = whole(nodule.volume_mm3)
    group = "low" if mm3 < 30 else "medium" if mm3 < 200 else "high"
    return _advice(f"new solid, {group} probability", f"{group} probability of lung cancer", sources=_NEW_SOURCES)


def is_suspicious_after_new(before: NoduleAtExam, now: NoduleAtExam) -> bool | None:
    """Whether a new solid nodule below 500 mm³ that did not resolve is ≥200 mm³ or doubles within 590 days.

    At its first later screen (Walter 2018, repub.eur.nl/pub/113797); None where a volume is not known.
    """
    if before.volume_mm3 is None or now.volume_mm3 is None:
        return None
    days = doubling_time(before.volume_mm3, now.volume_mm3, days_between(before, now)).days
    return whole(now.volume_mm3) >= 200 or (days is not None and days <= 590)


def advise_eu_position(nodule: NoduleAtExam, *, new: bool) -> Advice:
    """EU position statement 2017: a solid nodule above 300 mm³ at baseline, above 200 mm³ when new, goes to a team."""
    if nodule.nodule_type is NoduleType.UNKNOWN:
        return Advice("EU 2017", NOT_ASSESSED, "", "EU 2017", needs=("nodule type",), sources=_EU_SOURCES)
    if nodule.nodule_type is not NoduleType.SOLID:
        return Advice("EU 2017", "not applicable", "for solid nodules only", "EU 2017", sources=_EU_SOURCES)
    if nodule.volume_mm3 is None:
        return Advice("EU 2017", NOT_ASSESSED, "", "EU 2017", needs=("volume",), sources=_EU_SOURCES)
    limit = 200 if new else 300
    above = whole(nodule.volume_mm3) > limit
    group = f"{'new' if new else 'baseline'}, {'>' if above else '≤'}{limit} mm³"
    advice = "referral to a multidisciplinary team" if above else "no immediate referral"
    return Advice("EU 2017", group, advice, f"EU 2017, {group}", sources=_EU_SOURCES)


def _by_volume(mm3: int) -> int:
    return 2 if mm3 < 50 else 3 if mm3 <= 500 else 4


def _advice(group: str, text: str, needs: tuple[str, ...] = (), sources: tuple[str, ...] = _SOURCES) -> Advice:
    return Advice(_NELSON, group, text, f"{_NELSON}, {group}", needs=needs, sources=sources)

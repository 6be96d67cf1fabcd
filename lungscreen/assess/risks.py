"""Finding + ClinicalData → what published models say of it; ClinicalData → what they say of the person alone.

Image and person come together here: sizes, place and type as they were measured, the person as the patient data have
it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lungscreen.assess.brock import BROCK_MODELS, MOST_NODULES, BrockInput, estimate_brock
from lungscreen.assess.eligibility import judge_eligibility
from lungscreen.assess.mayo import PersonAndNodule, estimate_mayo
from lungscreen.assess.plco import estimate_plco
from lungscreen.records import ClinicalData, Finding, Location, NoduleType, Person, Risk

__all__ = ["NoduleLooks", "brock_input", "describe_person", "estimate_risks", "mayo_input"]

SPICULATION = "spiculation"
"""What Mayo lacks where only a reader can tell: both answers are then shown, and none is chosen."""


@dataclass(frozen=True, slots=True)
class NoduleLooks:
    """What the models ask of a nodule. None is not known.

    transverse_mm: largest transverse diameter.
    count: noncalcified nodules of the scan.
    """

    transverse_mm: float | None
    upper_lobe: bool | None
    spiculated: bool | None
    nodule_type: NoduleType
    count: int | None


def describe_person(person: ClinicalData | None) -> Person | None:
    """What is known of a person, with PLCOm2012 and who would be screened where: information, never a reason not to
    read.

    None where nothing is known.
    """
    return None if person is None else Person(person, estimate_plco(person), judge_eligibility(person))


def estimate_risks(
    finding: Finding, person: ClinicalData, spiculated: bool | None, estimated: bool, count: int
) -> tuple[Risk, ...]:
    """Brock's four models and Mayo, each with its probability or with what it lacks.

    spiculated, estimated: whether the nodule is, and whether that comes from the software.
    count: all noncalcified nodules of the scan; 0 where this one is calcified and alone.
    """
    upper_lobe, lobe_how = _upper_lobe(finding.location)
    image = [("upper_lobe", lobe_how)] if lobe_how else []
    if estimated and spiculated is not None:
        image.append(("spiculation", "spiculation estimated from the image"))
    header = [(name, f"{name} from the DICOM header") for name in person.from_header]
    looks = NoduleLooks(_transverse_mm(finding), upper_lobe, spiculated, finding.nodule_type, count)
    brock = replace(
        brock_input(looks, person),
        assumed=(
            ("nodule_count", f"number of nodules: {count} noncalcified findings of this reading"),
            ("nodule_type", "nodule type estimated from the image"),
            *image,
            *header,
        ),
    )
    mayo = mayo_input(looks, person)
    assumed = tuple(how for name, how in (*image, *header) if name != "sex")
    return *(estimate_brock(brock, model) for model in BROCK_MODELS), _mayo(finding, mayo, assumed, count)


def brock_input(looks: NoduleLooks, person: ClinicalData) -> BrockInput:
    """What Brock asks, from a nodule and a person."""
    return BrockInput(
        size_mm=looks.transverse_mm,
        upper_lobe=looks.upper_lobe,
        sex=person.sex,
        spiculation=looks.spiculated,
        age=person.age,
        family_history=person.family_history,
        emphysema=person.emphysema,
        nodule_type=looks.nodule_type,
        nodule_count=min(looks.count, MOST_NODULES) if looks.count else None,
    )


def mayo_input(looks: NoduleLooks, person: ClinicalData) -> PersonAndNodule:
    """What Mayo asks, from a nodule and a person."""
    return PersonAndNodule(
        age=person.age,
        ever_smoker=person.smoking_status != "never" if person.smoking_status else None,
        diameter_mm=looks.transverse_mm,
        # any cancer before may have been recent, or of the lung: only its absence answers what Mayo asks
        extrathoracic_cancer=False if person.prior_cancer is False else None,
        spiculation=looks.spiculated,
        upper_lobe=looks.upper_lobe,
    )


def _mayo(finding: Finding, data: PersonAndNodule, assumed: tuple[str, ...], count: int) -> Risk:
    """Mayo with what was assumed, and said where the nodule is not the only one."""
    risk = estimate_mayo(data)
    if finding.nodule_type is NoduleType.CALCIFIED:
        limits = ("benign calcification: not a nodule for Mayo",)
        return replace(risk, probability=None, needs=(), limits=limits)
    if risk.needs == (SPICULATION,):
        seen = [estimate_mayo(replace(data, spiculation=spiculation)).text for spiculation in (False, True)]
        risk = replace(risk, needs=(f"{SPICULATION} ({seen[0]} without, {seen[1]} with)",))
    several = (f"made for solitary nodules, and this reading has {count} noncalcified ones",) if count > 1 else ()
    size = ("diameter: the largest transverse one",)
    return replace(risk, assumed=(*size, *assumed), limits=(*risk.limits, *several))


def _transverse_mm(finding: Finding) -> float | None:
    size = 0.0 if finding.measurement is None else finding.measurement.max_transverse_mm
    return size if math.isfinite(size) and size > 0 else None


def _upper_lobe(location: Location) -> tuple[bool | None, str]:
    """Whether a finding lies in an upper lobe, and how that was come by; the lingula counts to the left upper lobe.

    Without a lobe the upper third of the lung is assumed to be upper lobe, the lower third not; the middle third is
    neither, and not known.
    """
    lobe = location.lobe.lower()
    if lobe:
        return "upper" in lobe or "lingula" in lobe or lobe in ("rul", "lul"), "lobe estimated from the image"
    if location.zone not in ("upper", "lower"):
        return None, ""
    return location.zone == "upper", f"upper lobe assumed from the zone ({location.zone})"

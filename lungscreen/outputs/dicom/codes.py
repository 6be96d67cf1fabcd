"""Codes of the DICOM objects: standard ones where there are any, local ones of at most 16 characters elsewhere.

Standard codes: PS3.16 of 2024 by pydicom's dictionaries. UMLS C0034375 and SNOMED 1362105002, which they lack: TID 1500
row 12 and HL7 Lithuania's lung-cancer screening guide.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "LOCAL_CODES",
    "LOCAL_SCHEME",
    "Concept",
    "category_code",
    "dcm",
    "finding_code",
    "growth_code",
    "lobe_code",
    "local",
    "side_code",
    "type_code",
    "zone_code",
]


class Concept(NamedTuple):
    """A coded concept, in the order of highdicom's and pydicom's own; theirs take a tenth of a second to import."""

    value: str
    scheme_designator: str
    meaning: str


def dcm(value: str, meaning: str) -> Concept:
    """A code of DICOM's own (PS3.16 annex D)."""
    return Concept(value, "DCM", meaning)


LOCAL_SCHEME = "99LUNGSCREEN"

LOCAL_CODES = {
    "PARTSOLID": "Part-solid nodule",
    "LUNGRADS0": "Lung-RADS category 0",
    "LUNGRADS1": "Lung-RADS category 1",
    "LUNGRADS2": "Lung-RADS category 2",
    "LUNGRADS3": "Lung-RADS category 3",
    "LUNGRADS4A": "Lung-RADS category 4A",
    "LUNGRADS4B": "Lung-RADS category 4B",
    "LUNGRADS4X": "Lung-RADS category 4X",
    "CATEGORYTEXT": "Category",
    "CATEGORYREASON": "Reason for the category",
    "MANAGEMENT": "Advice of the guideline's table",
    "FINDINGCOUNT": "Number of findings",
    "CUTOFFCOUNT": "Findings not listed",
    "NOTASSESSED": "Not assessed",
    "RESEARCHUSE": "Research use only",
    "NOTICE": "Notice",
    "MALRATING": "Malignancy rating as of readers",
    "DETECTORSCORE": "Score of the detector",
    "SOLIDDIAMETER": "Mean diameter of the solid part",
    "SOLIDVOLUME": "Volume of the solid part",
    "DOUBLINGTIME": "Volume doubling time",
    "GROWTH": "Growth since the last exam",
    "NEW": "New",
    "STABLE": "Stable",
    "GROWING": "Growing",
    "SHRINKING": "Shrinking",
    "RIGHTLUNGVOLUME": "Volume of the right lung",
    "LEFTLUNGVOLUME": "Volume of the left lung",
}
"""Code value (at most 16 characters, so that it fits CodeValue) → meaning."""

NODULE = Concept("27925004", "SCT", "Nodule")
MASS = Concept("4147007", "SCT", "Mass")
ABNORMAL = Concept("49755003", "SCT", "Morphologically Abnormal Structure")
ANATOMICAL = Concept("123037004", "SCT", "Body structure")
LUNG = Concept("39607008", "SCT", "Lung")
RIGHT = Concept("24028007", "SCT", "Right")
LEFT = Concept("7771000", "SCT", "Left")
UPPER_LOBE = Concept("45653009", "SCT", "Structure of upper lobe of lung")
MIDDLE_LOBE = Concept("72481006", "SCT", "Middle lobe of right lung")
LOWER_LOBE = Concept("90572001", "SCT", "Lower lobe of lung")
LONG_AXIS = Concept("103339001", "SCT", "Long Axis")
"""OHIF matches the meaning in title case."""
SHORT_AXIS = Concept("103340004", "SCT", "Short Axis")
DIAMETER = Concept("81827009", "SCT", "Diameter")
VOLUME = Concept("118565006", "SCT", "Volume")
ATTENUATION = Concept("112031", "DCM", "Attenuation Coefficient")
CERTAINTY = Concept("111012", "DCM", "Certainty of Finding")
MEAN = Concept("373098007", "SCT", "Mean")
STANDARD_DEVIATION = Concept("386136009", "SCT", "Standard Deviation")
VOXEL_SUM = Concept("126030", "DCM", "Sum of segmented voxel method for volume")
MM = Concept("mm", "UCUM", "mm")
MM3 = Concept("mm3", "UCUM", "cubic millimeter")
PERCENT = Concept("%", "UCUM", "Percent")
HOUNSFIELD = Concept("[hnsf'U]", "UCUM", "Hounsfield unit")
DAYS = Concept("d", "UCUM", "day")
NO_UNIT = Concept("1", "UCUM", "no units")
TYPE_OF_NODULE = Concept("112024", "DCM", "Single Image Finding Modifier")
MORPHOLOGY = Concept("116676008", "SCT", "Associated morphology")
LUNG_RADS = Concept("1362105002", "SCT", "Lung Imaging Reporting and Data System category")
QUALITATIVE = Concept("C0034375", "UMLS", "Qualitative Evaluations")
COMMENT = Concept("121106", "DCM", "Comment")
PROCEDURE = Concept("25045-6", "LN", "CT unspecified body region")
ARTIFICIAL_INTELLIGENCE = Concept("123110", "DCM", "Artificial Intelligence")
OF_INTEREST = Concept("113000", "DCM", "Of Interest")
SEGMENTATION = Concept("113076", "DCM", "Segmentation")
SOURCE_FOR_PROCESSING = Concept("121322", "DCM", "Source image for image processing operation")
BACKGROUND = dcm("125040", "Background")
OBSERVER_TYPE = dcm("121005", "Observer Type")
DERIVATION = dcm("121401", "Derivation")
METHOD = Concept("370129005", "SCT", "Measurement Method")
FINDING_SITE = Concept("363698007", "SCT", "Finding Site")
LATERALITY = Concept("272741003", "SCT", "Laterality")
SOURCE = Concept("260753009", "SCT", "Source")
ENGLISH = Concept("en-US", "RFC5646", "English (United States)")
PIXELS = Concept("{pixels}", "UCUM", "Pixels")
COSINE = Concept("{-1:1}", "UCUM", "{-1:1}")
REPORT_TITLE = Concept("18748-4", "LN", "Diagnostic imaging report")

_LUNG_RADS_VALUES = ("0", "1", "2", "3", "4A", "4B", "4X")
_LOBES = {"upper": UPPER_LOBE, "middle": MIDDLE_LOBE, "lower": LOWER_LOBE}
_SIDES = {"right": RIGHT, "left": LEFT}
_ZONES = {
    "upper": Concept("281392002", "SCT", "Upper zone of lung"),
    "middle": Concept("281393007", "SCT", "Middle zone of lung"),
    "lower": Concept("281394001", "SCT", "Lower zone of lung"),
}
_TYPES = {
    "solid": Concept("35702001", "SCT", "Solid"),
    "ground-glass": Concept("112120", "DCM", "Ground glass opacity"),
    "calcified": Concept("112063", "DCM", "Abnormal calcifications"),
}
_GROWTH = {"new": "NEW", "stable": "STABLE", "growing": "GROWING", "shrinking": "SHRINKING"}


def local(value: str) -> Concept:
    """A local code by its value."""
    return Concept(value, LOCAL_SCHEME, LOCAL_CODES[value])


def finding_code(is_mass: bool) -> Concept:
    """Nodule or mass."""
    return MASS if is_mass else NODULE


def type_code(nodule_type: str) -> Concept | None:
    """What a nodule is made of; None where it is not known."""
    return local("PARTSOLID") if nodule_type == "part-solid" else _TYPES.get(nodule_type)


def lobe_code(lobe: str | None) -> Concept | None:
    """A lobe from words such as "right upper lobe"; None where it is not known."""
    return next((code for word, code in _LOBES.items() if word in (lobe or "").split()), None)


def side_code(side: str) -> Concept | None:
    """Right or left; None where it is not known."""
    return _SIDES.get(side)


def zone_code(zone: str) -> Concept | None:
    """A third of the lung; None where it is not known."""
    return _ZONES.get(zone)


def category_code(category: str | None) -> Concept | None:
    """A Lung-RADS category without its modifier S; None for other guidelines' categories and where there is none."""
    value = (category or "").removesuffix("S")
    return local(f"LUNGRADS{value}") if value in _LUNG_RADS_VALUES else None


def growth_code(state: str) -> Concept | None:
    """New, stable, growing, shrinking; None where it was not assessed."""
    return local(_GROWTH[state]) if state in _GROWTH else None

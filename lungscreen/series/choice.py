"""Which series of a study is read: two tables, one of reasons not to read a series, one of preferences.

Thin before thick, soft or standard kernel before sharp, most lung, original axial before derived.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lungscreen.errors import Refusal
from lungscreen.kernels import classify_kernel
from lungscreen.records import Series
from lungscreen.units import unit_of_values

__all__ = ["EXCLUSIONS", "PREFERENCES", "Facts", "angle_degrees", "choose_series", "exclude_series"]

THIN_MM = 1.5
"""Best up to here."""
MEDIUM_MM = 2.5
"""Good up to here; above, small nodules are missed and the report warns (LUNA16 kept scans up to 2.5 mm)."""
THICKEST_MM = 5.0
"""Refused above."""
AXIAL_DEGREES = 5.0
"""A slice's axes lie within this angle of the patient's; a gantry tilt of the stack is judged with its positions."""
TILT_DEGREES = 30.0
"""Largest gantry tilt."""
EXTENDED_FIELD_MM = 600.0
"""Wider than any scanner's full field: what is reconstructed so far out corrects another scanner's attenuation."""
WHOLE_SHARE = 0.8
"""A series that covers less than this share of the longest one, or of the widest field of view, is partial."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules look at."""

    series: Series
    slices: int
    spacing_mm: float
    """Median distance of neighbouring positions, 0 where there is one."""
    coverage_mm: float
    field_of_view_mm: float
    degrees_off_axial: float
    """Angle between the stack's direction and the patient's long axis; of the slices' normal where that is smaller."""
    degrees_rotated: float
    """Angle of the slices' rows against the patient's left-right or front-back axis."""
    rescale_type: str = ""
    multi_energy: bool = False

    @property
    def thickness_mm(self) -> float:
        """The larger of slice thickness and spacing."""
        return max(self.series.acquisition.slice_thickness_mm or 0.0, self.spacing_mm)

    @property
    def for_attenuation(self) -> str:
        """What says that this CT only corrects another scanner's attenuation (PET, SPECT); empty where nothing does."""
        if re.search(r"\\(?:CTAC|AC|ATTEN[^\\]*|[^\\]*_AC)\\", self.image_type):
            return "image type"
        if re.search(
            r" (?:CTAC|CT ?AC|AC ?CT|ACCT|LDCTAC|ATTENUATION CORR\w*|ATTN CORR\w*|AC (?:WB|LOW DOSE)) ",
            self.description,
        ):
            return "description"
        return f"field of view of {self.field_of_view_mm:.0f} mm" if self.field_of_view_mm > EXTENDED_FIELD_MM else ""

    @property
    def image_type(self) -> str:
        """All values of ImageType, upper case, between backslashes."""
        return "\\" + "\\".join(value.upper() for value in self.series.acquisition.image_type) + "\\"

    @property
    def description(self) -> str:
        """Series description, upper case, words between single blanks."""
        words = re.sub(r"[^A-Z0-9]+", " ", self.series.acquisition.series_description.upper())
        return f" {words.strip()} "


def _in_image_type(pattern: str) -> Callable[[Facts], str]:
    def test(facts: Facts) -> str:
        found = re.search(rf"\\({pattern})\\", facts.image_type)
        return f"its image type says {found[1]}" if found else ""

    return test


def _in_description(pattern: str) -> Callable[[Facts], str]:
    def test(facts: Facts) -> str:
        found = re.search(rf" ({pattern}) ", facts.description)
        return f'its description says "{found[1].lower()}"' if found else ""

    return test


def _not_hu(facts: Facts) -> str:
    other = unit_of_values(facts.rescale_type) == "other"
    return f"its values are {facts.rescale_type.upper()}, not HU" if other else ""


def _not_axial(facts: Facts) -> str:
    angle = max(facts.degrees_off_axial, facts.degrees_rotated)
    return f"its slices are {angle:.0f} degrees off the axial plane" if angle > AXIAL_DEGREES else ""


def _too_thick(facts: Facts) -> str:
    return f"slices of {facts.thickness_mm:.1f} mm" if facts.thickness_mm > THICKEST_MM + 0.01 else ""


_OTHER_PARTS = (
    r"HEAD|BRAIN|SKULL|FACE|ORBIT|ORBITS|SINUS|SINUSES|TEMPORALBONE|IAC|JAW|MANDIBLE|MAXILLA|NECK|CSPINE|LSPINE|SSPINE|"
    r"PELVIS|HIP|HIPS|KNEE|LEG|THIGH|CALF|ANKLE|FOOT|FEET|TOE|EXTREMITY|ARM|ELBOW|WRIST|HAND|FINGER|COLON|PROSTATE|"
    r"BLADDER|UTERUS"
)
_CHEST_WORDS = r"CHEST|THORAX|THORACIC|LUNG|LUNGS|LUNGE|LDCT|PULMONARY|PULMON|TORAX|POUMON|WHOLE BODY|TAP|CAP"


def _other_part(facts: Facts) -> str:
    part = re.sub(r"[^A-Z]+", "", facts.series.acquisition.body_part.upper())
    if not re.fullmatch(_OTHER_PARTS, part):
        return ""
    study = re.sub(r"[^A-Z0-9]+", " ", facts.series.exam.description.upper())
    if re.search(rf" ({_CHEST_WORDS}) ", f" {study} {facts.description} "):
        return ""
    return f"body part {part.lower()}, and no word of a chest in its descriptions"


EXCLUSIONS: tuple[tuple[str, Callable[[Facts], str]], ...] = (
    ("localizer", _in_image_type("LOCALIZER|SCOUT")),
    ("localizer", _in_description("SCOUT|LOCALIZER|LOCALISER|TOPOGRAM|SURVIEW|SCANOGRAM|SCANO|TOPO")),
    ("not-hu", _not_hu),
    (
        "not-hu",
        _in_image_type(
            r"EFF_ATOMIC_NUM|ELECTRON_DENSITY|MAT_SPECIFIC|MAT_FRACTIONAL|MAT_VALUE_BASED|IODINE[^\\]*|"
            r"Z.?EFF(?:ECTIVE)?|RHO.?Z|[^\\]*IODINE_MAP[^\\]*|ELECTRON DENSITY|EFFECTIVE.?Z"
        ),
    ),
    (
        "not-hu",
        _in_description("IODINE (?:MAP|DENSITY|NO WATER|WATER|OVERLAY)|Z EFF(?:ECTIVE)?|ZEFF|ELECTRON DENSITY|RHO Z"),
    ),
    (
        "altered-image",
        _in_image_type(r"MAT_REMOVED|MAT_MODIFIED|[^\\]*VESSEL_SUPPRESS[^\\]*|[^\\]*BONE_SUPPRESS[^\\]*|CAD"),
    ),
    (
        "altered-image",
        _in_description(
            "(?:VESSEL|BONE|RIB) SUPPRESS(?:ED|ION)?|CLEARREAD(?: CT)?|CAD(?: MARKS?)?|VNC|VIRTUAL NON CONTRAST"
        ),
    ),
    (
        "not-axial-image",
        _in_image_type(
            r"MIP|MINIP|MIN IP|MAXIP|MAX_IP|MIN_IP|MPR|[^\\]* MPR|CSA MPR[^\\]*|CSAPARALLEL|PROJECTION IMAGE|"
            r"PROJECTION|REFORMATTED|AVERAGE|AVERAGED|VRT|3D|SCREEN SAVE|DOSE_INFO|VOLUME_RENDER"
        ),
    ),
    (
        "not-axial-image",
        _in_description(
            "MIP|MIPS|MINIP|MPR|MPRS|REFORMAT(?:TED|S)?|AVERAGE|AVG|SLAB|VRT|3D VR|DOSE (?:REPORT|INFO|PAGE)|"
            "SCREEN SAVE|SMART ?PREP|(?:PRE ?)?MONITORING|BOLUS TRACK(?:ING)?"
        ),
    ),
    ("not-axial", _not_axial),
    ("body-part", _other_part),
    ("too-thick", _too_thick),
)
"""Code, test: the first test that gives a reason refuses the series."""


def _partial(facts: Facts, best: Facts) -> bool:
    return (
        facts.coverage_mm < WHOLE_SHARE * best.coverage_mm
        or facts.field_of_view_mm < WHOLE_SHARE * best.field_of_view_mm
    )


def _thickness_rank(facts: Facts) -> int:
    return sum(facts.thickness_mm > limit + 0.01 for limit in (THIN_MM, MEDIUM_MM))


def _kernel_rank(facts: Facts) -> int:
    return {"soft": 0, "standard": 0, "unknown": 1, "sharp": 2}[classify_kernel(facts.series.acquisition.kernel)]


def _derived_rank(facts: Facts) -> int:
    """0 original axial, 1 unknown, 2 derived or secondary."""
    values = {value.upper() for value in facts.series.acquisition.image_type}
    if values & {"DERIVED", "SECONDARY"}:
        return 2
    return 0 if {"ORIGINAL", "PRIMARY"} <= values else 1


PREFERENCES: tuple[tuple[str, Callable[[Facts, Facts], float]], ...] = (
    ("covers less of the lungs", lambda facts, widest: float(_partial(facts, widest))),
    ("is for attenuation correction", lambda facts, _: float(bool(facts.for_attenuation))),
    ("is thicker", lambda facts, _: float(_thickness_rank(facts))),
    ("has a sharper or unknown kernel", lambda facts, _: float(_kernel_rank(facts))),
    ("is derived", lambda facts, _: float(_derived_rank(facts))),
    ("is shorter", lambda facts, _: -round(facts.coverage_mm / 5.0)),
    ("is thicker", lambda facts, _: facts.thickness_mm),
    ("has a smaller field of view", lambda facts, _: -round(facts.field_of_view_mm / 5.0)),
    ("has fewer slices", lambda facts, _: -facts.slices),
)
"""Why a series comes later, measure: smaller comes first, later rows decide only where earlier ones are equal."""


def exclude_series(facts: Facts) -> tuple[str, str] | None:
    """Code and reason why a series is not read, or None."""
    for code, test in EXCLUSIONS:
        reason = test(facts)
        if reason:
            return code, reason
    return None


def choose_series(candidates: Sequence[Facts]) -> tuple[list[Facts], list[Refusal]]:
    """Candidates of one study, the one to read first, then the stand-ins; and why each stand-in comes later."""
    if not candidates:
        return [], []
    widest = _widest(candidates)
    ordered = sorted(candidates, key=lambda facts: (_measures(facts, widest), facts.series.series_uid))
    first = ordered[0]
    refusals = [
        Refusal(
            where=other.series.series_uid,
            code="series-other-chosen",
            reason=_why_later(other, first, widest),
            scope="series",
            study_uid=other.series.exam.study_uid,
            patient_id=other.series.patient.patient_id,
        )
        for other in ordered[1:]
    ]
    return ordered, refusals


def _widest(candidates: Sequence[Facts]) -> Facts:
    """An ideal that covers as much as the longest candidate, with the widest field of view."""
    coverage = max(facts.coverage_mm for facts in candidates)
    width = max(facts.field_of_view_mm for facts in candidates)
    return Facts(candidates[0].series, 0, 0.0, coverage, width, 0.0, 0.0)


def _measures(facts: Facts, widest: Facts) -> tuple[float, ...]:
    return tuple(measure(facts, widest) for _, measure in PREFERENCES)


def _why_later(other: Facts, first: Facts, widest: Facts) -> str:
    texts = [why for why, _ in PREFERENCES]
    pairs = zip(texts, _measures(other, widest), _measures(first, widest), strict=True)
    why = next((text for text, mine, best in pairs if mine > best), "equal, and its UID sorts later")
    return f"{_describe(other)} {why}; {_describe(first)} was chosen"


def _describe(facts: Facts) -> str:
    kernel = "/".join(facts.series.acquisition.kernel) or "no kernel named"
    return f"{facts.slices} slices of {facts.thickness_mm:.2f} mm over {facts.coverage_mm:.0f} mm ({kernel})"


def angle_degrees(first: np.ndarray, second: np.ndarray) -> float:
    """Angle between two lines, 0 to 90 degrees."""
    across = np.linalg.norm(np.cross(first, second))
    return float(np.degrees(np.arctan2(across, abs(float(np.dot(first, second))))))

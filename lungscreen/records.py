"""The frozen records that travel through the stages.

Space is LPS millimetres, (x, y, z), wherever a field's name ends in `_mm`; arrays are (z, y, x) and live on a
`Geometry`. A field that is None or empty was not in the input, or nothing measured it: it is never made up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import Notice, Refusal
from lungscreen.geometry import Geometry, Vector

__all__ = [
    "NOT_ASSESSED",
    "PERSON_RANGES",
    "Acquisition",
    "Advice",
    "Attributes",
    "Attribution",
    "Candidate",
    "ClinicalData",
    "Conclusion",
    "EarlierView",
    "Eligibility",
    "Evidence",
    "Exam",
    "Finding",
    "Grade",
    "Instance",
    "Inventory",
    "Location",
    "LostNodule",
    "Lungs",
    "Malignancy",
    "Measured",
    "Measurement",
    "NoduleChange",
    "NoduleType",
    "Outline",
    "PastNodule",
    "Patient",
    "Person",
    "PriorExam",
    "Provenance",
    "Rating",
    "Reading",
    "Report",
    "Risk",
    "Series",
    "Source",
    "SourceSlice",
    "Study",
    "Verdict",
    "Volume",
    "WeightsUsed",
]

NOT_ASSESSED: Final = "not assessed"
"""A value, not a gap: no rule was applied, or nothing was compared, and beside it stands why."""

Verdict = Literal["finding", "no nodule", "too small", "not listed", "below the operating point"]
"""How a candidate ended: as a finding; taken for no nodule by the second look; smaller than the least size; above the
operating point but left out by the limit of findings; not looked at further."""


# -- who and what was scanned, from the header: every string is hostile and bounded by the reader --------------------
@dataclass(frozen=True, slots=True)
class Patient:
    """Who the header says it is."""

    patient_id: str = ""
    name: str = ""
    birth_date: str = ""
    """YYYYMMDD as in DICOM, or empty."""
    sex: str = ""
    """M, F, O or empty."""
    issuer: str = ""
    """Who gave the patient ID (IssuerOfPatientID): under another issuer it is another person's."""
    mended: str = ""
    """A hash of what the header says of ID, name, issuer and birth date where it is not what stands here: longer, with
    control characters, no date. Empty where nothing was mended."""


@dataclass(frozen=True, slots=True)
class Exam:
    """One visit to the scanner."""

    study_uid: str
    accession_number: str = ""
    date: str = ""
    """YYYYMMDD as in DICOM, or empty."""
    time: str = ""
    description: str = ""
    age: str = ""
    """DICOM age string such as 063Y, or empty."""


@dataclass(frozen=True, slots=True)
class Acquisition:
    """How the series was made."""

    manufacturer: str = ""
    model: str = ""
    body_part: str = ""
    series_description: str = ""
    image_type: tuple[str, ...] = ()
    kernel: tuple[str, ...] = ()
    kvp: float | None = None
    tube_current_ma: float | None = None
    exposure_mas: float | None = None
    ctdi_vol_mgy: float | None = None
    slice_thickness_mm: float | None = None
    contrast: str = ""
    lossy: bool = False
    burned_in: str = ""
    """BurnedInAnnotation as it stands: YES, NO or empty."""


PERSON_RANGES: Mapping[str, tuple[float, float]] = {
    "age": (0, 120),
    "pack_years": (0, 400),
    "cigarettes_per_day": (0, 200),
    "duration_years": (0, 120),
    "years_quit": (0, 120),
    "education": (1, 6),
    "bmi": (8, 120),
}
"""What is possible of a person; NaN is not."""


@dataclass(frozen=True, slots=True)
class ClinicalData:
    """What is known of the person beside the image. None or empty is not known; nothing is made up.

    Age in years at the exam; dates YYYYMMDD.
    family_history: lung cancer in a first-degree relative.
    prior_cancer: any cancer before.
    education: 1 less than high school to 6 postgraduate (PLCOm2012).
    from_header: names of the fields that came from the DICOM header.
    """

    age: float | None = None
    sex: Literal["F", "M", ""] = ""
    smoking_status: Literal["never", "former", "current", ""] = ""
    pack_years: float | None = None
    cigarettes_per_day: float | None = None
    duration_years: float | None = None
    years_quit: float | None = None
    family_history: bool | None = None
    emphysema: bool | None = None
    prior_cancer: bool | None = None
    copd: bool | None = None
    education: int | None = None
    bmi: float | None = None
    race: str = ""
    immunosuppressed: bool | None = None
    prior_exam_date: str = ""
    prior_category: str = ""
    priority: str = ""
    from_header: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Numbers lie within `PERSON_RANGES`: what is read from a table is checked there, so that no rule has to."""
        for name, (low, high) in PERSON_RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"expected {name} from {low:g} to {high:g}, got {value}")


# -- series ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Source:
    """Where bytes come from: a file, or a member of a zip archive."""

    path: Path
    member: str = ""

    def __str__(self) -> str:
        return f"{self.path}!{self.member}" if self.member else str(self.path)


@dataclass(frozen=True, slots=True)
class Instance:
    """One DICOM object of a series, as its header describes it; pixels are read later.

    `orientation` is ImageOrientationPatient, `position_mm` ImagePositionPatient; both None in enhanced multi-frame
    objects, whose frames have their own.
    """

    source: Source
    sop_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    rows: int
    columns: int
    frames: int = 1
    instance_number: int | None = None
    position_mm: Vector | None = None
    orientation: tuple[float, float, float, float, float, float] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    """Row spacing, column spacing (DICOM PixelSpacing)."""
    acquisition_number: str = ""
    temporal_position: str = ""
    acquisition_time: str = ""


@dataclass(frozen=True, slots=True)
class Series:
    """One series that could be read: DICOM instances, or one image file."""

    kind: Literal["dicom", "image"]
    series_uid: str
    patient: Patient
    exam: Exam
    acquisition: Acquisition
    instances: tuple[Instance, ...] = ()
    image: Source | None = None
    frame_of_reference: str = ""
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Study:
    """One exam of one patient: the series to read first, then the ones that stand in should it fail."""

    patient: Patient
    exam: Exam
    series: tuple[Series, ...]
    not_read: tuple[Refusal, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """Everything that was found in the input."""

    studies: tuple[Study, ...]
    refused: tuple[Refusal, ...] = ()


# -- volume and lungs ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class SourceSlice:
    """A slice as it lies in the series' files, before tilt was straightened or holes were filled.

    frame: its number in a multi-frame object, from 1; None in an object of its own.
    position_mm: centre of its first pixel (ImagePositionPatient).
    orientation: ImageOrientationPatient.
    """

    instance: Instance
    frame: int | None
    position_mm: Vector
    orientation: tuple[float, float, float, float, float, float]
    pixel_spacing_mm: tuple[float, float]
    """Row spacing, column spacing (DICOM PixelSpacing)."""


@dataclass(frozen=True, eq=False)
class Volume:
    """A checked CT volume in canonical orientation: slices go up, rows go back, columns go to the patient's left.

    hu: int16 (z, y, x), never below -1024.
    instance_numbers: InstanceNumber of each slice from the bottom up, None where unknown or interpolated.
    source_order, source_flips: how the canonical array came from the source's axes (`Geometry.canonical`).
    source_slices: the slices that were read, from the bottom up, as they lie in their files; none where an image file
    was read.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    series: Series
    instance_numbers: tuple[int | None, ...] = ()
    source_order: tuple[int, int, int] = (0, 1, 2)
    source_flips: tuple[bool, bool, bool] = (False, False, False)
    notices: tuple[Notice, ...] = ()
    refused: tuple[Refusal, ...] = ()
    source_slices: tuple[SourceSlice, ...] = ()

    @property
    def series_uid(self) -> str:
        """UID of the series that was read."""
        return self.series.series_uid


@dataclass(frozen=True, eq=False)
class Lungs:
    """Lungs on the volume's grid.

    mask: uint8 (z, y, x): 0 elsewhere, 1 right lung, 2 left lung.
    """

    mask: NDArray[np.uint8]
    right_ml: float
    left_ml: float
    apex_cut: bool = False
    base_cut: bool = False
    incomplete: bool = False
    """A large opacity may hide part of a lung."""
    opacity_ml: float | None = None
    """Volume of that opacity; None where there is none."""
    opacity_mm: Vector | None = None
    """A place in it, LPS mm; None where none is known."""
    left_out: bool = False
    """Air that looks like lung is not in the mask: it was not searched."""
    notices: tuple[Notice, ...] = ()

    @property
    def missing_sides(self) -> tuple[str, ...]:
        """Sides without any air-filled lung: opaque, taken out, or not found."""
        return tuple(side for side, ml in (("right", self.right_ml), ("left", self.left_ml)) if ml == 0)


# -- candidates and findings -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Candidate:
    """A place that may be a nodule or a mass."""

    centre_mm: Vector
    diameter_mm: float
    score: float
    """Calibrated probability that it is one; of the first stage alone, the heatmap's score, which only orders marks."""
    heat: float | None = None
    """The heatmap's score, 0 to 1; None where something else pointed here: a dense place, a reader, an earlier
    report."""


class NoduleType(StrEnum):
    """What a nodule is made of."""

    SOLID = "solid"
    PART_SOLID = "part-solid"
    GROUND_GLASS = "ground-glass"
    CALCIFIED = "calcified"
    UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class Outline:
    """A nodule's voxels on the volume's grid: `mask` lies at `volume[start : start + mask.shape]`."""

    start: tuple[int, int, int]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What was measured of a nodule's outline. Axes to one decimal, half-up (Lung-RADS v2022 note 4)."""

    long_axis_mm: float
    short_axis_mm: float
    mean_diameter_mm: float
    max_transverse_mm: float
    """Longest axis in the transverse plane (Brock's size)."""
    effective_diameter_mm: float
    """Diameter of the sphere of the same volume."""
    volume_mm3: float
    volume_sd_mm3: float | None
    """Standard uncertainty from spacing and noise."""
    mean_hu: float
    min_hu: float
    max_hu: float
    mass_mg: float
    solid_mean_diameter_mm: float = 0.0
    solid_volume_mm3: float = 0.0


@dataclass(frozen=True, eq=False)
class Measured:
    """What was found at a candidate's place; None where nothing could be outlined, and a notice says so."""

    outline: Outline | None = None
    measurement: Measurement | None = None
    nodule_type: NoduleType = NoduleType.UNKNOWN
    notices: tuple[Notice, ...] = ()
    sphericity: float | None = None
    """How radiologists would rate the outline's roundness, 1 to 5."""


@dataclass(frozen=True, slots=True)
class Location:
    """Where a finding lies."""

    side: Literal["right", "left", "unknown"]
    zone: Literal["upper", "middle", "lower", "unknown"]
    slice_from_top: int
    """1 is the uppermost slice of the series."""
    instance_number: int | None = None
    lobe: str = ""
    """Estimated, and marked so; empty where not estimated."""
    pleura_mm: float | None = None
    """From the outline to where the lung ends (chest wall, diaphragm, mediastinum; not fissures), 0 where it touches;
    10 stands for 10 or more. None where not known."""
    perifissural: bool | None = None
    """Whether a fissure, or another thin sheet as wide, touches the outline: estimated. None where it cannot be
    told."""
    fissure_mm: float | None = None
    """From the outline to the nearest such sheet, 0 where it touches; None where none is seen within 10 mm."""


@dataclass(frozen=True, slots=True)
class Malignancy:
    """How likely more than half of the radiologists would rate the nodule 4 or 5. No cancer risk."""

    probability: float
    model: str


@dataclass(frozen=True, slots=True)
class Attributes:
    """How radiologists would rate what the nodule looks like: estimates on LIDC's scales, 1.0 to 5.0.

    The network's, but for sphericity: that is measured on the outline in a report, None where nothing was outlined.

    sphericity: 1 linear … 5 round.
    margin: 1 poorly defined … 5 sharp.
    lobulation, spiculation: 1 none … 5 marked.
    texture: 1 ground-glass … 5 solid.
    calcified: share of readers that would call it calcified, 0 to 1.
    """

    sphericity: float | None
    margin: float
    lobulation: float
    spiculation: float
    texture: float
    calcified: float


@dataclass(frozen=True, eq=False)
class Attribution:
    """What the network looked at when it rated a nodule: `heat` lies on a cube of 1 mm voxels around `centre_mm`.

    heat: float32 (p, p, p) along the volume's axes, 0 to 1: how much each place raised the suspicion.
    """

    centre_mm: Vector
    heat: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rating:
    """All that the classifier says of one candidate."""

    malignancy: Malignancy
    attributes: Attributes
    attribution: Attribution | None = None


@dataclass(frozen=True, slots=True)
class Risk:
    """A probability from a published model, 0 to 1, or None with what the model needs.

    assumed: inputs that were estimated or assumed, each in words.
    sources: where the numbers were read; one that says "unverified" was not checked in the primary source.
    """

    model: str
    probability: float | None
    meaning: str
    needs: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    """Why it does not hold here, or holds less."""
    sources: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """In words: "5.8 %" or "not assessed: needs sex"."""
        if self.probability is not None:
            return f"{100 * self.probability:.1f} %"
        return f"not assessed: needs {', '.join(self.needs)}" if self.needs else f"not assessed: {self.limits[0]}"


@dataclass(frozen=True, slots=True)
class Eligibility:
    """Whether a programme would screen this person; None where it needs more."""

    programme: str
    eligible: bool | None
    reason: str
    needs: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Person:
    """What is known of the person, and what that alone says: PLCOm2012, and which programmes would screen."""

    data: ClinicalData
    risk: Risk
    programmes: tuple[Eligibility, ...]


class Evidence(StrEnum):
    """How an earlier exam shows a nodule."""

    FINDING = "finding"
    """A finding of that exam's reading."""
    BELOW = "below the operating point"
    """The detector marked it there, with a lower score."""
    UNMARKED = "measured at the place"
    """No detector marked it; what lies there looks alike and was measured."""
    REPORT = "report"
    """Taken over from that exam's report: its images were not read."""


@dataclass(frozen=True, slots=True)
class PastNodule:
    """A nodule as an earlier exam showed it. Axes and diameter in mm, volumes in mm³; None is not known."""

    date: str
    """YYYYMMDD."""
    study_uid: str
    nodule_type: NoduleType
    long_axis_mm: float
    short_axis_mm: float
    mean_diameter_mm: float
    volume_mm3: float | None = None
    volume_sd_mm3: float | None = None
    solid_mean_diameter_mm: float | None = None
    solid_volume_mm3: float | None = None
    centre_mm: Vector | None = None
    """LPS mm of that exam's own series."""
    how: Evidence = Evidence.FINDING
    category: str = ""
    """Its own category in that exam's report, empty where not known."""
    number: int | None = None
    """Its number in that exam's report."""
    side: str = "unknown"
    zone: str = "unknown"
    doubtful: bool = False
    """A finding there that was probably no nodule, so that it did not decide that exam's category."""


@dataclass(frozen=True, slots=True)
class NoduleChange:
    """How a nodule changed since earlier exams.

    exams: those that show it, oldest first. The changes are against the last of them. doubling_days is None where the
    volume did not grow or is not known; its bounds are a 95 % interval from both volumes' uncertainties, the longest
    None where no growth at all is within it.
    """

    state: Literal["new", "stable", "growing", "shrinking", "not assessed"]
    text: str
    """In words."""
    exams: tuple[PastNodule, ...] = ()
    days: int | None = None
    diameter_change_mm: float | None = None
    volume_change_percent: float | None = None
    doubling_days: float | None = None
    doubling_shortest_days: float | None = None
    doubling_longest_days: float | None = None
    distance_mm: float | None = None
    """From where the aligned earlier exam let it be expected; None where places were not compared."""
    ambiguous: bool = False
    """Another nodule was nearly as likely to be the same one."""


@dataclass(frozen=True, eq=False)
class EarlierView:
    """The place of a finding as an earlier exam shows it, for a picture.

    date: YYYYMMDD.
    volume: the one slice through the place, cut out around it.
    place_mm: LPS mm of that exam's series.
    """

    date: str
    volume: Volume
    place_mm: Vector


@dataclass(frozen=True, slots=True)
class LostNodule:
    """A nodule of an earlier exam that is no finding of this one.

    state: "resolved" where this scan shows the place and nothing is left of it; "below the least size" where something
    is left; "not assessed" where this exam does not show the place or it was not compared.
    """

    past: PastNodule
    state: Literal["resolved", "below the least size", "not assessed"]
    text: str
    expected_mm: Vector | None = None
    """Where it would lie in this exam, LPS mm."""
    outside_scan: bool = False
    """That place is not in this exam's volume."""


@dataclass(frozen=True, slots=True)
class PriorExam:
    """An earlier exam with which this one was compared.

    how: "images" or "report" (sizes only).
    overlap: Dice of the aligned lungs.
    """

    date: str
    """YYYYMMDD."""
    study_uid: str
    how: Literal["images", "report"]
    series_uid: str = ""
    overlap: float | None = None
    category: str = ""
    """The exam's category in its report, empty where not known."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What a guideline advises for a nodule, or that it was not assessed and what is needed."""

    guideline: str
    group: str
    """The guideline's own class ("solid, single, 6–8 mm"; "indeterminate"), or `NOT_ASSESSED`, "not applicable"."""
    advice: str
    clause: str
    needs: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Grade:
    """What the rules and published models say of one finding."""

    category: str
    """Lung-RADS category, or `NOT_ASSESSED`."""
    category_reason: str = ""
    category_clause: str = ""
    """Row, note or declared choice that the category rests on."""
    management: str = ""
    """What the table advises for the category."""
    growth: str = ""
    """How the rules read its growth since the last exam, in words; "not assessed: no prior" without one."""
    risks: tuple[Risk, ...] = ()
    """Published models (Brock), beside the network's probability and never multiplied into it."""
    advice: tuple[Advice, ...] = ()
    """What other guidelines advise: those that the pipeline names."""


@dataclass(frozen=True, eq=False)
class Finding:
    """A candidate that reached the operating point, in parts: one for each stage, whole once that stage is done."""

    number: int
    """In the report, from 1; 0 before it is ranked."""
    candidate: Candidate
    """As the detector marked it."""
    location: Location
    measured: Measured
    rating: Rating | None = None
    """The classifier's; None where it lies outside the volume, or is taken for no nodule."""
    nodule_probability: float | None = None
    """That it is a nodule at all, see `Rating`."""
    second_look: Literal["", "nodule", "no nodule"] = ""
    """What the classifier takes the mark for, by the threshold of its weights; empty where it does not tell."""
    doubtful: bool = False
    """Listed and graded, but probably no nodule: it does not decide the exam's category."""
    is_mass: bool = False
    """Mean diameter above 30 mm."""
    change: NoduleChange | None = None
    """Since earlier exams; None where none was compared."""
    earlier_view: EarlierView | None = None
    """None where no images of an earlier exam were compared, or these do not show the place."""
    grade: Grade | None = None
    """None before it is assessed."""
    notices: tuple[Notice, ...] = ()

    # what is asked most, without asking for the part first
    @property
    def outline(self) -> Outline | None:
        """None where nothing could be outlined."""
        return self.measured.outline

    @property
    def measurement(self) -> Measurement | None:
        """None where nothing could be outlined."""
        return self.measured.measurement

    @property
    def nodule_type(self) -> NoduleType:
        """What it is made of."""
        return self.measured.nodule_type

    @property
    def malignancy(self) -> Malignancy | None:
        """None where nothing rated it."""
        return None if self.rating is None else self.rating.malignancy

    @property
    def attributes(self) -> Attributes | None:
        """None where nothing rated it."""
        return None if self.rating is None else self.rating.attributes

    @property
    def attribution(self) -> Attribution | None:
        """None where nothing rated it."""
        return None if self.rating is None else self.rating.attribution

    @property
    def category(self) -> str:
        """Lung-RADS category; empty where no rule was applied."""
        return "" if self.grade is None else self.grade.category

    @property
    def growth(self) -> str:
        """How it changed since the last exam, in words; empty where nobody asked."""
        if self.change is not None:
            return self.change.text
        return "" if self.grade is None else self.grade.growth


@dataclass(frozen=True, eq=False)
class Reading:
    """One exam read.

    found: what reached the operating point, measured and rated; in any number and size.
    """

    volume: Volume
    lungs: Lungs
    candidates: tuple[Candidate, ...]
    found: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Conclusion:
    """What is concluded from an exam that was read: by selection, comparison with earlier exams, and rules."""

    findings: tuple[Finding, ...] = ()
    """In any order."""
    cut_off: int = 0
    """Findings above the operating point that the limit of findings left out."""
    no_nodules: tuple[Finding, ...] = ()
    """Marks above the operating point that the second look takes for no nodule, in any order."""
    verdicts: tuple[Verdict, ...] = ()
    """What was decided of each candidate, in their order; empty where nothing was decided."""
    category: str = ""
    """The exam's, where a rule gave one; empty: the worst of the findings' categories stands."""
    category_reason: str = ""
    management: str = ""
    """What the rule's table advises for that category; empty where it advises nothing."""
    doubtful: str = ""
    """How many findings are doubtful and how large the largest is, in words; empty where none is."""
    not_assessed: tuple[str, ...] = ()
    """What the exam's category would need and nobody looked at, in words."""
    priors: tuple[PriorExam, ...] = ()
    """Earlier exams that were compared, the latest first."""
    lost: tuple[LostNodule, ...] = ()
    """Nodules of the last exam that are no findings of this one."""
    person: Person | None = None
    """What is known of the person beside the image; None where nothing is."""
    notices: tuple[Notice, ...] = ()
    """What else the reader has to know, beyond what the records of the exam carry."""


# -- report ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class WeightsUsed:
    """Which weights gave the result."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """How a result came about."""

    software_version: str
    pipeline_name: str
    pipeline_hash: str
    weights: tuple[WeightsUsed, ...]
    operating_point: str
    series_uid: str
    sop_instance_uids_sha256: str
    """SHA-256 over the sorted SOP Instance UIDs that were read, one a line; of the file's bytes for an image."""
    created: str
    """ISO 8601, UTC."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Report:
    """All that is said about one study."""

    study: Study
    volume: Volume
    lungs: Lungs
    candidates: tuple[Candidate, ...]
    findings: tuple[Finding, ...]
    """Ranked: masses first, then by suspicion."""
    cut_off: int
    """Findings above the operating point that the limit of findings left out."""
    category: str
    """Exam category, or `NOT_ASSESSED`."""
    category_reason: str
    notices: tuple[Notice, ...]
    provenance: Provenance
    not_assessed: tuple[str, ...] = ()
    """What the exam's category would need and nobody looked at, in words."""
    priors: tuple[PriorExam, ...] = ()
    """Earlier exams that were compared, the latest first."""
    lost: tuple[LostNodule, ...] = ()
    """Nodules of the last exam that are no findings of this one."""
    no_nodules: tuple[Finding, ...] = ()
    """Marks above the operating point that the second look takes for no nodule: measured, neither rated nor graded."""
    verdicts: tuple[Verdict, ...] = ()
    """How each of `candidates` ended, in their order; empty where nothing was decided."""
    person: Person | None = None
    """What is known of the person beside the image; None where nothing is."""
    management: str = ""
    """What the table advises for the exam's category; empty where it advises nothing."""
    doubtful: str = ""
    """How many findings are doubtful and how large the largest is, in words; empty where none is."""

"""What a report says, field by field: the data model of `report.json`, of the tables and of every other output.

Each field says its meaning, unit, digits and bounds, the column of `findings.csv` or `worklist.csv` in which it stands,
and why the page leaves it out where it does. None is not in the input, or nothing measured it. Dates are ISO 8601
where the header's are dates, else as they stand. Places are LPS mm of the series that was read.

Adding a field: put it here (with `default=None` and `since=`), fill it in `build`, show it on the page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lungscreen.geometry import Vector
from lungscreen.records import NoduleType
from lungscreen.results.fields import Cell, Column, said

__all__ = [
    "ATTRIBUTES_MEANING",
    "LONG_TEXT",
    "MALIGNANCY_MEANING",
    "SCHEMA_VERSION",
    "ReportDocument",
    "ReportedAcquisition",
    "ReportedAdvice",
    "ReportedAttributes",
    "ReportedChange",
    "ReportedEligibility",
    "ReportedExam",
    "ReportedFinding",
    "ReportedLocation",
    "ReportedLoss",
    "ReportedLungs",
    "ReportedMalignancy",
    "ReportedMark",
    "ReportedMeasurement",
    "ReportedNotice",
    "ReportedPast",
    "ReportedPatient",
    "ReportedPerson",
    "ReportedPrior",
    "ReportedProvenance",
    "ReportedRefusal",
    "ReportedRisk",
    "ReportedSeries",
    "ReportedWeights",
    "WorklistRow",
]

SCHEMA_VERSION = "1.7"
"""Of `report.json`. The first number rises when a field changes or goes, the second when one is added."""

ATTRIBUTES_MEANING = "estimated, on the LIDC readers' scales 1 to 5"
"""Stands wherever a nodule's attributes stand."""
_ATTRIBUTES_MEANING_UNTIL_1_2 = "estimated by the network, on the LIDC readers' scales 1 to 5"

MALIGNANCY_MEANING = "how likely more than half of the radiologists would rate it 4 or 5; not a cancer risk"
"""Stands wherever a malignancy probability stands."""

LONG_TEXT = 2000
"""Characters of a reason or notice that are kept."""

_NAMES = "a name for machines; the page has it in words or not at all"
_ELSEWHERE = "stands elsewhere on the page"


def _risk_cell(model: str) -> Any:
    """The probability of a published model; the model's name is the one in the report up to a bracket, in lower
    case.
    """

    def cell(risks: Iterable[ReportedRisk], _: ReportedFinding) -> Cell:
        told = {risk.model.split(" (")[0].lower().replace(" ", "_"): risk.probability for risk in risks}
        return told.get(model)

    return cell


def _solid_cell(value: float | None, finding: ReportedFinding) -> Cell:
    """A solid part is a part-solid nodule's only."""
    return value if finding.type is NoduleType.PART_SOLID else None


def _axis_cell(axis: int) -> Any:
    return lambda position_mm, _: position_mm[axis]


def _last_date_cell(exams: tuple[ReportedPast, ...], _: ReportedFinding) -> Cell:
    return exams[-1].date if exams else None


def _codes_cell(notices: Iterable[ReportedNotice], _: ReportedFinding) -> Cell:
    return " ".join(dict.fromkeys(notice.code for notice in notices))


def _advice_cell(advice: Iterable[ReportedAdvice], _: ReportedFinding) -> Cell:
    """Guideline, group and advice of each, one after the other; what was not assessed says what it needs."""
    words = [f"{a.guideline}: {a.group}: {a.advice or 'needs ' + ', '.join(a.needs)}" for a in advice]
    return " | ".join(words)


# -- who, when, how --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPatient:
    """Who the header says it is."""

    patient_id: str | None = said(columns=(Column(1, "patient_id"),))
    name: str | None = said("DICOM PN as it stands")
    birth_date: str | None = said()
    sex: str | None = said()
    issuer: str | None = said("of the patient ID (IssuerOfPatientID)", since="1.5", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRisk:
    """A probability from a published model."""

    model: str = said()
    probability: float | None = said("null: not assessed", digits=4, least=0, most=1)
    meaning: str = said(longest=LONG_TEXT)
    needs: tuple[str, ...] = said("what the model lacks")
    assumed: tuple[str, ...] = said("inputs that were estimated or assumed", longest=LONG_TEXT)
    limits: tuple[str, ...] = said("why it does not hold here, or holds less", longest=LONG_TEXT)
    sources: tuple[str, ...] = said("on the page what is marked as unverified", longest=LONG_TEXT)

    @property
    def text(self) -> str:
        """In words: "5.8 %" or "not assessed: needs sex"."""
        if self.probability is not None:
            return f"{100 * self.probability:.1f} %"
        return f"not assessed: needs {', '.join(self.needs)}" if self.needs else f"not assessed: {self.limits[0]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAdvice:
    """What a guideline advises for a finding, beside Lung-RADS."""

    guideline: str = said()
    group: str = said('the guideline\'s own class; "not assessed"; "not applicable"')
    advice: str | None = said("what it advises, or what each answer of a reader would lead to", longest=LONG_TEXT)
    clause: str | None = said("row or note that it rests on", longest=LONG_TEXT, off_page="the group says the row")
    needs: tuple[str, ...] = said("what it lacks")
    assumed: tuple[str, ...] = said("inputs that were estimated or assumed", longest=LONG_TEXT)
    sources: tuple[str, ...] = said("on the page what is marked as unverified", longest=LONG_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedEligibility:
    """Whether a programme would screen this person."""

    programme: str = said()
    eligible: bool | None = said("null: not assessed")
    reason: str = said(longest=LONG_TEXT)
    needs: tuple[str, ...] = said("what was not known", off_page="the reason names them")
    assumed: tuple[str, ...] = said(longest=LONG_TEXT)
    sources: tuple[str, ...] = said(longest=LONG_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPerson:
    """What is known of the person beside the image (patient data, else the header); null: nothing (since 1.3)."""

    age: float | None = said("years at the exam", unit="years")
    sex: str | None = said("F or M")
    smoking_status: str | None = said("never, former or current")
    pack_years: float | None = said()
    cigarettes_per_day: float | None = said()
    duration_years: float | None = said("years of smoking", unit="years")
    years_quit: float | None = said("years since quitting", unit="years")
    family_history: bool | None = said("lung cancer in a first-degree relative")
    emphysema: bool | None = said()
    prior_cancer: bool | None = said("any cancer before")
    copd: bool | None = said()
    education: int | None = said("1 less than high school to 6 postgraduate")
    bmi: float | None = said("kg/m²", unit="kg/m²")
    race: str | None = said("as PLCOm2012 asks it")
    immunosuppressed: bool | None = said()
    prior_exam_date: str | None = said("an earlier exam, as the patient data have it")
    prior_category: str | None = said()
    priority: str | None = said()
    from_header: tuple[str, ...] = said("which of these came from the DICOM header")
    risk: ReportedRisk = said("PLCOm2012: lung cancer within 6 years, from the person alone")
    eligibility: tuple[ReportedEligibility, ...] = said(
        "which programmes would screen this person: information, never a reason not to read"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedExam:
    """The visit to the scanner."""

    study_uid: str = said(columns=(Column(2, "study_uid"),))
    accession_number: str | None = said(columns=(Column(55, "accession_number"),))
    date: str | None = said(columns=(Column(56, "exam_date"),))
    time: str | None = said()
    description: str | None = said()
    age: str | None = said("DICOM AS, such as 063Y")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPrior:
    """An earlier exam that was compared."""

    date: str | None = said()
    study_uid: str = said(off_page=_NAMES)
    series_uid: str | None = said(off_page=_NAMES)
    how: Literal["images", "report"] = said()
    lungs_overlap: float | None = said(
        "Dice of the aligned lungs; null: not aligned", digits=3, off_page="a notice says so where it is poor"
    )
    category: str | None = said("the exam's category in its report", off_page="each finding's history has its own")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAcquisition:
    """How the series was made."""

    manufacturer: str | None = said()
    model: str | None = said()
    body_part: str | None = said(off_page="the exam's description says it")
    series_description: str | None = said(off_page="the technique says what matters of it")
    image_type: tuple[str, ...] = said(off_page="decides which series is read; of no use to a reader")
    kernel: tuple[str, ...] = said()
    kvp: float | None = said(unit="kVp", digits=3)
    tube_current_ma: float | None = said(unit="mA", digits=3)
    exposure_mas: float | None = said(unit="mAs", digits=3)
    ctdi_vol_mgy: float | None = said(unit="mGy", digits=4)
    slice_thickness_mm: float | None = said(unit="mm", digits=4)
    contrast: str | None = said()
    lossy: bool = said(off_page="a notice says so")
    burned_in: str | None = said(off_page="a notice says so")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedSeries:
    """The series that was read."""

    series_uid: str = said(columns=(Column(3, "series_uid"),), off_page="the provenance names the series")
    kind: Literal["dicom", "image"] = said()
    frame_of_reference: str | None = said(off_page=_NAMES)
    slices: int = said(least=1)
    rows: int = said(least=1, off_page="the pixels' size says more")
    columns: int = said(least=1, off_page="the pixels' size says more")
    slice_spacing_mm: float = said(unit="mm", digits=4)
    row_spacing_mm: float = said(unit="mm", digits=4)
    column_spacing_mm: float = said(unit="mm", digits=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLungs:
    """Volumes of the lungs, and what is missing of them."""

    right_ml: float | None = said(unit="ml", digits=1, least=0)
    left_ml: float | None = said(unit="ml", digits=1, least=0)
    apex_cut: bool = said()
    base_cut: bool = said()
    incomplete: bool = said()
    left_out: bool = said("lung that the mask left out; never told before 1.4", since="1.4", default=False)
    below_950_percent: float | None = said(
        "share of the lungs' voxels below -950 HU: a measure of emphysema, raised by noise, sharp kernels and thin "
        "slices; null: not measured",
        unit="%", digits=1, least=0, most=100, since="1.5", default=None,
    )  # fmt: skip
    opacity_ml: float | None = said(
        "volume of the large opacity that makes a lung incomplete; null: none, or not told before 1.5",
        unit="ml", digits=1, least=0, since="1.5", default=None,
    )  # fmt: skip
    opacity_mm: Vector | None = said(
        "a place in it, LPS mm; null: none known", unit="mm", digits=2, since="1.5", default=None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedNotice:
    """What the reader has to know."""

    code: str = said()
    text: str = said(longest=LONG_TEXT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedRefusal:
    """What of this study was not read, or not whole."""

    where: str = said(longest=LONG_TEXT)
    code: str = said()
    reason: str = said(longest=LONG_TEXT)
    scope: Literal["file", "series", "study"] = said(off_page="the place says it")


# -- a finding -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLocation:
    """Where a finding lies."""

    side: Literal["right", "left", "unknown"] = said(columns=(Column(30, "side"),))
    lobe: str | None = said("estimated; null where not estimated", columns=(Column(32, "estimated_lobe"),))
    lobe_is_estimated: Literal[True] = said(default=True, off_page="the page writes it after each lobe")
    zone: Literal["upper", "middle", "lower", "unknown"] = said(columns=(Column(31, "zone"),))
    slice_from_top: int = said("1 is the uppermost slice of the series", least=1)
    instance_number: int | None = said("DICOM InstanceNumber of that slice")
    pleura_mm: float | None = said(
        "from the outline to where the lung ends (chest wall, diaphragm, mediastinum), mm; 0 where it touches, 10 for"
        " 10 "
        "or more",
        unit="mm", digits=1, least=0, since="1.2", default=None, columns=(Column(33, "pleura_mm"),),
    )  # fmt: skip
    perifissural: bool | None = said(
        "whether a fissure, or another thin sheet as wide, touches the outline: estimated; null: it could not be told "
        "(slices above 2.5 mm, an outline above 29 mm, little aerated lung around); told since 1.3",
        since="1.2", default=None, columns=(Column(42, "estimated_perifissural"),),
    )  # fmt: skip
    fissure_mm: float | None = said(
        "from the outline to the nearest such sheet, mm; 0 where it touches; null: none seen within 10 mm, or not told",
        unit="mm", digits=1, least=0, since="1.3", default=None, columns=(Column(43, "fissure_mm"),),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMeasurement:
    """What was measured of a nodule's outline."""

    long_axis_mm: float = said(unit="mm", digits=2, least=0, columns=(Column(8, "long_axis_mm"),))
    short_axis_mm: float = said(unit="mm", digits=2, least=0, columns=(Column(9, "short_axis_mm"),))
    mean_diameter_mm: float = said(unit="mm", digits=2, least=0, columns=(Column(10, "mean_diameter_mm"),))
    max_transverse_mm: float = said(
        "longest axis in the transverse plane (Brock's size)",
        unit="mm", digits=2, least=0, columns=(Column(45, "max_transverse_mm"),),
    )  # fmt: skip
    effective_diameter_mm: float = said(
        "diameter of the sphere of the same volume",
        unit="mm", digits=2, least=0, columns=(Column(44, "effective_diameter_mm"),),
    )  # fmt: skip
    volume_mm3: float = said(unit="mm³", digits=2, least=0, columns=(Column(11, "volume_mm3"),))
    volume_sd_mm3: float | None = said(
        "standard uncertainty from spacing and noise",
        unit="mm³", digits=2, least=0, columns=(Column(46, "volume_sd_mm3"),),
    )  # fmt: skip
    mean_hu: float | None = said(unit="HU", digits=2, columns=(Column(49, "mean_hu"),))
    min_hu: float | None = said(unit="HU", digits=2, columns=(Column(50, "min_hu"),))
    max_hu: float | None = said(unit="HU", digits=2, columns=(Column(51, "max_hu"),))
    mass_mg: float | None = said(unit="mg", digits=2, label="Mass", page_digits=0, columns=(Column(52, "mass_mg"),))
    solid_mean_diameter_mm: float = said(
        "of the solid part", unit="mm", digits=2, least=0,
        columns=(Column(47, "solid_mean_diameter_mm", _solid_cell),),
    )  # fmt: skip
    solid_volume_mm3: float = said(
        "of the solid part", unit="mm³", digits=2, least=0, columns=(Column(48, "solid_volume_mm3", _solid_cell),)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMalignancy:
    """The network's rating."""

    probability: float = said(digits=4, least=0, most=1, columns=(Column(14, "malignancy_probability"),))
    meaning: str = said(
        "what the probability is calibrated to", one_of=(MALIGNANCY_MEANING,), default=MALIGNANCY_MEANING,
        off_page="always the same words, which stand beside the probability",
    )  # fmt: skip
    model: str | None = said(off_page="the provenance names the weights")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAttributes:
    """What the nodule looks like, as radiologists would rate it."""

    sphericity: float | None = said(
        "1 linear, 5 round; measured on the outline since 1.3, null where nothing was outlined",
        digits=2, least=1, most=5, columns=(Column(24, "estimated_sphericity"),),
    )  # fmt: skip
    margin: float = said(
        "1 poorly defined, 5 sharp", digits=2, least=1, most=5, columns=(Column(25, "estimated_margin"),)
    )
    lobulation: float = said(
        "1 none, 5 marked", digits=2, least=1, most=5, columns=(Column(26, "estimated_lobulation"),)
    )
    spiculation: float = said(
        "1 none, 5 marked", digits=2, least=1, most=5, columns=(Column(27, "estimated_spiculation"),)
    )
    texture: float = said(
        "1 ground-glass, 5 solid", digits=2, least=1, most=5, columns=(Column(28, "estimated_texture"),)
    )
    calcified: float = said(
        "share of readers that would call it calcified",
        digits=2, least=0, most=1, columns=(Column(29, "estimated_calcified"),),
    )  # fmt: skip
    meaning: str = said(
        "the second until 1.2", one_of=(ATTRIBUTES_MEANING, _ATTRIBUTES_MEANING_UNTIL_1_2), default=ATTRIBUTES_MEANING,
        off_page="always the same words, which stand beside the attributes",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedPast:
    """A nodule as an earlier exam showed it."""

    date: str | None = said()
    study_uid: str = said(off_page=_NAMES)
    number: int | None = said("its number in that exam's report", off_page="of use in that report only")
    how: str = said("finding; below the operating point; measured at the place; report")
    type: NoduleType = said()
    long_axis_mm: float = said(unit="mm", digits=1, least=0)
    short_axis_mm: float = said(unit="mm", digits=1, least=0)
    mean_diameter_mm: float = said(unit="mm", digits=1, least=0)
    volume_mm3: float | None = said(unit="mm³", digits=2)
    volume_sd_mm3: float | None = said(unit="mm³", digits=2)
    solid_mean_diameter_mm: float | None = said(
        unit="mm", digits=2, off_page="the history has mean diameter and volume"
    )
    solid_volume_mm3: float | None = said(unit="mm³", digits=2, off_page="the history has mean diameter and volume")
    position_mm: Vector | None = said(
        "x, y, z in LPS mm of that exam's series", unit="mm", digits=2, off_page="a place in another exam"
    )
    side: str = said()
    zone: str = said()
    category: str | None = said("its category in that exam's report")
    doubtful: bool = said(
        "whether it was doubtful there", since="1.7", default=False, off_page="that exam's report says so"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedChange:
    """How a nodule changed since earlier exams."""

    state: Literal["new", "stable", "growing", "shrinking", "not assessed"] = said(
        columns=(Column(16, "growth_state"),)
    )
    text: str = said(longest=LONG_TEXT, off_page="the finding's growth says the same")
    exams: tuple[ReportedPast, ...] = said(
        "earlier exams that show it, oldest first", doubtful=True, columns=(Column(23, "prior_date", _last_date_cell),)
    )
    days: int | None = said(columns=(Column(17, "growth_days"),), off_page="the finding's growth says it in words")
    diameter_change_mm: float | None = said(
        "mean diameter now less that at the last of the exams",
        unit="mm", digits=1, columns=(Column(18, "diameter_change_mm"),),
    )  # fmt: skip
    volume_change_percent: float | None = said(
        unit="%", digits=1, columns=(Column(19, "volume_change_percent"),),
        off_page="the finding's growth says it in words",
    )  # fmt: skip
    doubling_days: float | None = said(
        "volume-doubling time; null: not growing, or not known", unit="days", digits=1,
        columns=(Column(20, "doubling_days"),), off_page="the finding's growth says it in words",
    )  # fmt: skip
    doubling_shortest_days: float | None = said(
        "lower end of its 95 % interval", unit="days", digits=1, columns=(Column(21, "doubling_shortest_days"),),
        off_page="the finding's growth says it in words",
    )  # fmt: skip
    doubling_longest_days: float | None = said(
        "upper end; null with a shortest: no growth is within the interval", unit="days", digits=1,
        columns=(Column(22, "doubling_longest_days"),), off_page="the finding's growth says it in words",
    )  # fmt: skip
    distance_mm: float | None = said(
        "from where the aligned earlier exam let it be expected", unit="mm", digits=1,
        off_page="a notice says so where the match is doubtful",
    )  # fmt: skip
    ambiguous: bool = said(
        "another nodule was nearly as likely to be the same", off_page="a notice of the finding says so"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedFinding:
    """A finding: a candidate that reached the operating point, measured and graded."""

    number: int = said(
        "rank of suspicion, 1 first; the label in findings.nii.gz", least=1, columns=(Column(4, "finding"),)
    )
    position_mm: Vector = said(
        "x, y, z in LPS mm", unit="mm", digits=2,
        columns=tuple(Column(5 + axis, name, _axis_cell(axis)) for axis, name in enumerate(("x_mm", "y_mm", "z_mm"))),
    )  # fmt: skip
    location: ReportedLocation = said()
    type: NoduleType = said(columns=(Column(12, "type"),))
    is_mass: bool = said("mean diameter above 30 mm")
    detection_score: float | None = said(
        "probability that it is a nodule or a mass, of heatmap and second look; 0: an earlier report's place; null: a "
        "reader's own mark; without a second look the heatmap's score, no probability",
        digits=6, least=0, most=1, columns=(Column(13, "detection_score"),),
    )  # fmt: skip
    detector_diameter_mm: float | None = said(
        "the detector's own estimate, no measurement; null or 0: none", unit="mm", digits=2, least=0,
    )  # fmt: skip
    measurement: ReportedMeasurement | None = said("null where nothing was measured", doubtful=True)
    malignancy: ReportedMalignancy | None = said("null where nothing classified it")
    attributes: ReportedAttributes | None = said(
        "what the nodule looks like; null where nothing estimated it", since="1.2", default=None
    )
    nodule_probability: float | None = said(
        "that it is a nodule at all, and no vessel, scar or other false mark; null where the weights do not tell",
        digits=4, least=0, most=1, since="1.2", default=None, columns=(Column(34, "nodule_probability"),),
    )  # fmt: skip
    second_look: Literal["nodule", "no nodule"] | None = said(
        'nodule_probability against the threshold of the weights; "no nodule" here is a mark that was kept all the'
        ' same, '
        "and a notice says why",
        since="1.2", default=None, columns=(Column(35, "second_look"),), off_page="a notice says why it was kept",
    )  # fmt: skip
    doubtful: bool = said(
        "nodule_probability is below the score from which a finding decides the exam's category, so that it does not",
        since="1.6", default=False, columns=(Column(57, "doubtful"),),
    )  # fmt: skip
    category: str | None = said("the finding's category; null: not assessed", columns=(Column(15, "category"),))
    category_reason: str | None = said(longest=LONG_TEXT)
    category_clause: str | None = said(
        "row, note or declared choice that the category rests on", longest=LONG_TEXT,
        columns=(Column(53, "category_clause"),),
    )  # fmt: skip
    management: str | None = said("what the table advises for the category", longest=LONG_TEXT)
    growth: str | None = said("how it changed since the last exam", longest=LONG_TEXT)
    change: ReportedChange | None = said(
        "how it changed since earlier exams; null: none was compared", since="1.1", default=None
    )
    risks: tuple[ReportedRisk, ...] = said(
        "published models, beside the network's probability and never multiplied into it",
        columns=tuple(
            Column(36 + n, name, _risk_cell(name))
            for n, name in enumerate(("brock_1a", "brock_1b", "brock_2a", "brock_2b", "mayo"))
        ),
    )
    notices: tuple[ReportedNotice, ...] = said(columns=(Column(41, "notices", _codes_cell),))
    advice: tuple[ReportedAdvice, ...] = said(
        "of the guidelines that the pipeline names, beside Lung-RADS; empty where it names none",
        since="1.4",
        default=(),
        columns=(Column(54, "advice", _advice_cell),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedMark:
    """A doubtful mark: below the operating point, and measured all the same."""

    number: int = said(least=1)
    position_mm: Vector = said("x, y, z in LPS mm", unit="mm", digits=2, off_page="the picture shows the place")
    lobe: str | None = said("estimated; null where not estimated", since="1.4", default=None)
    side: Literal["right", "left", "unknown"] = said()
    zone: Literal["upper", "middle", "lower", "unknown"] = said()
    slice_from_top: int = said("1 is the uppermost slice of the series", least=1)
    instance_number: int | None = said("DICOM InstanceNumber of that slice")
    detection_score: float | None = said("as findings[].detection_score", digits=6, least=0, most=1)
    nodule_probability: float | None = said("that it is a nodule at all", digits=4, least=0, most=1)
    mean_diameter_mm: float | None = said("of what was outlined; null where nothing was", unit="mm", digits=1, least=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedLoss:
    """A nodule of the last exam that is no finding now."""

    state: Literal["resolved", "below the least size", "not assessed"] = said()
    text: str = said(longest=LONG_TEXT)
    exam: ReportedPast = said()
    expected_mm: Vector | None = said(
        "where it would lie now", unit="mm", digits=2, off_page="a place without a picture"
    )


# -- how it came about -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedWeights:
    """Which weights gave the result."""

    name: str = said()
    version: str = said()
    sha256: str = said()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedProvenance:
    """How the result came about."""

    software: Literal["lungscreen"] = said(default="lungscreen")
    software_version: str = said()
    pipeline_name: str = said()
    pipeline_hash: str = said()
    weights: tuple[ReportedWeights, ...] = said()
    operating_point: str = said()
    study_uid: str = said(off_page="the exam's study UID, which is shown")
    series_uid: str = said()
    sop_instance_uids_sha256: str = said(
        "SHA-256 over the sorted SOP Instance UIDs that were read, one a line; of the file's bytes for an image"
    )
    created: str = said("ISO 8601, UTC")
    seconds: Mapping[str, float] = said("by stage", unit="s", digits=3)
    options: Mapping[str, str] = said()


# -- the whole -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDocument:
    """One study read by lungscreen. null: not in the input, or nothing measured it.

    Dates are ISO 8601 where the header's are dates, else as they stand. Places are LPS mm of the series that was read.
    """

    schema: Literal["lungscreen-report"] = said(default="lungscreen-report", off_page="names the file's kind")
    schema_version: str = said(
        "the first number rises when a field changes or goes, the second when one is added",
        pattern=r"^1\.[0-9]+$", default=SCHEMA_VERSION, off_page="of the file, not of the exam",
    )  # fmt: skip
    research_use: str = said(off_page="the banner says it in the software's own words")
    key: str = said(
        "names the study's folder; says nothing about the patient", pattern="^[0-9a-f]{12}$", off_page=_NAMES
    )
    patient: ReportedPatient = said()
    person: ReportedPerson | None = said(
        "what is known of the person beside the image (patient data, else the header); null: nothing",
        since="1.3", default=None,
    )  # fmt: skip
    exam: ReportedExam = said()
    prior: ReportedPrior | None = said(
        "the earlier exam this one was compared with; null: none", off_page="the first of the priors, which are shown"
    )
    priors: tuple[ReportedPrior, ...] = said(
        "earlier exams that were compared, the latest first", since="1.1", default=()
    )
    acquisition: ReportedAcquisition = said()
    series: ReportedSeries = said("the series that was read")
    validated_on: str = said("what the networks were trained and measured on", longest=LONG_TEXT)
    category: str = said('the exam\'s category, or "not assessed"')
    category_reason: str | None = said(longest=LONG_TEXT)
    management: str | None = said(
        "what the table advises for the exam's category; null: nothing", longest=LONG_TEXT, since="1.5", default=None
    )
    doubtful: str | None = said(
        "how many findings are doubtful and how large the largest is, in words; null: none is",
        since="1.6",
        default=None,
    )
    not_assessed: tuple[str, ...] = said("what the exam's category would need and nobody looked at", longest=LONG_TEXT)
    lungs: ReportedLungs = said()
    candidates: int = said("places the detector pointed at, down to a low score: see candidates.csv", least=0)
    findings: tuple[ReportedFinding, ...] = said(
        "by category, then by the chance that it is a nodule and a malignant one, doubtful ones last; may be empty"
    )
    no_nodules: tuple[ReportedMark, ...] = said(
        "doubtful marks, their score below the operating point: measured, neither rated nor graded; no findings",
        since="1.2", default=(),
    )  # fmt: skip
    cut_off: int = said("findings above the operating point that the limit of findings left out", least=0)
    lost: tuple[ReportedLoss, ...] = said(
        "nodules of the last exam that are no findings of this one", since="1.1", default=()
    )
    notices: tuple[ReportedNotice, ...] = said()
    not_read: tuple[ReportedRefusal, ...] = said("what of this study was not read, or not whole")
    provenance: ReportedProvenance = said()

    @property
    def top_probability(self) -> float | None:
        """The highest malignancy probability of a finding; None where none was rated."""
        rated = [f.malignancy.probability for f in self.findings if f.malignancy]
        return max(rated, default=None)

    @property
    def doubtful_findings(self) -> tuple[ReportedFinding, ...]:
        """Those that do not decide the exam's category."""
        return tuple(finding for finding in self.findings if finding.doubtful)

    @property
    def opacities(self) -> tuple[ReportedFinding, ...]:
        """Doubtful findings as large as masses: nobody knows what they are until they are read."""
        return tuple(finding for finding in self.doubtful_findings if finding.is_mass)

    @property
    def top_score(self) -> float | None:
        """The highest detection score of a finding; None where there is none."""
        return max((f.detection_score for f in self.findings if f.detection_score is not None), default=None)


# -- the worklist ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class WorklistRow:
    """What the worklist says of a study; None or empty where there is no value."""

    patient_id: str = said(columns=(Column(2, "patient_id"),))
    study_uid: str = said(columns=(Column(3, "study_uid"),))
    status: Literal["done", "refused", "failed"] = said(columns=(Column(4, "status"),))
    code: str = said("why it was not read", default="", columns=(Column(5, "code"),))
    category: str = said(default="", columns=(Column(6, "category"),))
    top_probability: float | None = said(default=None, columns=(Column(7, "top_probability"),))
    findings: int | None = said(default=None, columns=(Column(8, "findings"),))
    report: str = said("path to the study's page, relative to the results", default="", columns=(Column(9, "report"),))
    top_score: float | None = None
    """Decides the rank where categories and probabilities are alike."""
    name: str = ""
    date: str = said("of the exam", default="", columns=(Column(11, "exam_date"),))
    accession_number: str = said(default="", columns=(Column(10, "accession_number"),))
    doubtful: int | None = said(
        "findings that do not decide the category", default=None, columns=(Column(12, "doubtful"),)
    )
    notices: tuple[str, ...] = ()
    """Codes."""

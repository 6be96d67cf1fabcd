"""A result's facts in the short words that key images and the PDF share."""

from __future__ import annotations

from lungscreen.results.document import ReportDocument, ReportedFinding, ReportedLungs
from lungscreen.results.text import shown

__all__ = [
    "axes_text",
    "category_text",
    "count_text",
    "finding_category",
    "finding_lines",
    "joined",
    "lung_gaps",
    "place_text",
    "rating_text",
    "slice_text",
]


def joined(*parts: str | None) -> str:
    """What is known of some texts, with a blank between."""
    return " ".join(part for part in parts if part)


def lung_gaps(lungs: ReportedLungs) -> list[str]:
    """What the scan or the search lacks of the lungs, a sentence each."""
    said = (
        (lungs.apex_cut, "The scan cuts the apex: what lies above was not read."),
        (lungs.base_cut, "The scan cuts the base: what lies below was not read."),
        (lungs.incomplete, "A large opacity may hide part of a lung."),
        (lungs.left_out, "A part of the lungs was not searched: read it yourself."),
        (lungs.right_ml == 0, "No air-filled right lung was found: read that side yourself."),
        (lungs.left_ml == 0, "No air-filled left lung was found: read that side yourself."),
    )
    return [sentence for is_so, sentence in said if is_so]


def category_text(category: str | None) -> str:
    """A category, or that there is none."""
    return category if category and category != "not assessed" else "not assessed"


def count_text(document: ReportDocument) -> str:
    """How many findings there are, and how many of them are doubtful."""
    number, doubtful = len(document.findings), len(document.doubtful_findings)
    found = "No finding" if number == 0 else "1 finding" if number == 1 else f"{number} findings"
    return f"{found}, {'it is' if number == 1 else f'{doubtful} of them'} doubtful" if doubtful else found


def finding_category(finding: ReportedFinding) -> str:
    """A finding's category, marked where it does not decide the exam's."""
    return f"{category_text(finding.category)}{' (doubtful)' if finding.doubtful else ''}"


def place_text(finding: ReportedFinding) -> str:
    """Lobe where it is estimated, else side and zone."""
    location = finding.location
    if location.lobe:
        return f"{location.lobe} (estimated)"
    side = f"{location.side} lung" if location.side != "unknown" else "side not known"
    return side if location.zone == "unknown" else f"{side}, {location.zone} zone"


def slice_text(finding: ReportedFinding, document: ReportDocument) -> str:
    """Where to scroll to."""
    number = finding.location.instance_number
    image = "" if number is None else f", image {number}"
    return f"slice {finding.location.slice_from_top} of {document.series.slices} from the top{image}"


def axes_text(finding: ReportedFinding) -> str:
    """Long and short axis, or about how large the detector takes it for."""
    size = finding.measurement
    if size is not None:
        return f"{shown(size.long_axis_mm, 1)} × {shown(size.short_axis_mm, 1)} mm"
    return (
        f"not measured, about {shown(finding.detector_diameter_mm, 0)} mm"
        if finding.detector_diameter_mm
        else "not measured"
    )


def rating_text(finding: ReportedFinding) -> str:
    """The malignancy rating; empty where there is none."""
    return "" if finding.malignancy is None else f"{shown(100 * finding.malignancy.probability, 0)} %"


def finding_lines(finding: ReportedFinding, document: ReportDocument) -> list[tuple[str, str]]:
    """Label and value of what is known of a finding, most wanted first."""
    size = finding.measurement
    facts = [("Where", place_text(finding)), ("Slice", slice_text(finding, document)), ("Axes", axes_text(finding))]
    if size is not None:
        spread = "" if size.volume_sd_mm3 is None else f" ± {shown(size.volume_sd_mm3, 0)}"
        facts += [
            ("Mean diameter", f"{shown(size.mean_diameter_mm, 1)} mm"),
            ("Volume", f"{shown(size.volume_mm3, 0)}{spread} mm³"),
        ]
        if finding.type == "part-solid":
            facts.append(("Solid part", f"{shown(size.solid_mean_diameter_mm, 1)} mm"))
    facts += [("Type", str(finding.type)), ("Since prior", finding.growth or "not assessed")]
    rating = rating_text(finding)
    if rating:
        facts.append(("Rating*", rating))
    return facts

"""The part of the page that shows each finding: pictures, measurements, risks, history."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lungscreen.outputs.page.pictures import crop_svg, earlier_svg, heat_svg, shown_voxel
from lungscreen.outputs.page.pieces import (
    REASON,
    absent,
    facts_list,
    finding_chip,
    folded,
    guess,
    labelled_facts,
    minus,
    minus_signs,
    notices_list,
    percent,
    sentence,
    where_text,
    whole_percent,
)
from lungscreen.outputs.page.planes import PLANES, PictureConfig, Window
from lungscreen.records import NOT_ASSESSED, NoduleType
from lungscreen.results.document import (
    ATTRIBUTES_MEANING,
    MALIGNANCY_MEANING,
    ReportedAdvice,
    ReportedAttributes,
    ReportedFinding,
    ReportedLocation,
    ReportedRisk,
)
from lungscreen.results.finished import Finished, MarkShape
from lungscreen.results.text import escape, readable_date, shown

__all__ = ["findings_part"]

_HEAT_CAPTION = (
    "<strong>What the network looked at</strong> for its part of the malignancy probability (HiResCAM, of the Grad-CAM "
    "family): the warmer, the more a place raised it, relative to the place of this finding that counted most; without "
    "colour, nothing did. It helps to see whether the network looked at the nodule or at something beside it. It is no "
    "outline, no measurement, and no proof that the answer is right; findings cannot be compared by it."
)


def findings_part(finished: Finished, config: PictureConfig) -> str:
    """A card for each finding; empty where there are none."""
    findings = finished.document.findings
    if not findings:
        return ""
    cards = "\n".join(
        _finding(finished, finding, shape, config) for finding, shape in zip(findings, finished.findings, strict=True)
    )
    return (
        f'<h2>Finding by finding</h2><p class="note">{_window_text(config.lung)} {_window_text(config.soft)} The line '
        "is the outline that was measured, with its long and short axis on that slice; a dashed circle marks a place "
        "that was not measured. Ticks at the edges point at the detector's place. Grey lies outside the "
        f"scan.</p>{cards}"
    )


def _finding(finished: Finished, finding: ReportedFinding, shape: MarkShape, config: PictureConfig) -> str:
    voxel = shown_voxel(shape, finished.volume)
    views = (("axial", config.lung), ("axial", config.soft), ("coronal", config.lung), ("sagittal", config.lung))
    crops = [
        f"<figure>{crop_svg(finished.volume, shape, PLANES[name], config, window)}"
        f"<figcaption>{_crop_caption(finished, finding, name, voxel, window)}</figcaption></figure>"
        for name, window in views
    ]
    earlier = _earlier(finished, shape, config)
    crops.insert(1, earlier)
    reason = finding.category_reason
    why = f'<p class="why soft">{escape(sentence(reason), REASON)}</p>' if reason else ""
    chip = finding_chip(finding) if finding.category or finding.doubtful else ""
    pictures = f'<div class="crops{" five" if earlier else ""}">{"".join(crops)}</div>'
    return (
        f'<section class="finding" id="finding-{finding.number}"><div class="title">'
        f"<h3>{finding.number}. {escape(sentence(where_text(finding.location)))}</h3>{chip}</div>{why}"
        f"{pictures}{_finding_facts(finding)}{_history(finding)}{notices_list(finding.notices)}"
        f"{_folds(finished, finding, shape, config)}</section>"
    )


def _earlier(finished: Finished, shape: MarkShape, config: PictureConfig) -> str:
    """The earlier exam's picture of the same place, as wide; empty where there is none."""
    if shape.earlier_view is None:
        return ""
    day = readable_date(shape.earlier_view.date)
    picture = earlier_svg(finished.volume, shape, config)
    return f"<figure>{picture}<figcaption>Earlier exam, {escape(day)}</figcaption></figure>"


def _window_text(window: Window) -> str:
    return f"{window.name}: width {window.width_hu:.0f}, level {minus(f'{window.level_hu:.0f}')} HU."


def _crop_caption(
    finished: Finished, finding: ReportedFinding, plane: str, voxel: tuple[int, int, int], window: Window
) -> str:
    if plane != "axial":
        return plane.capitalize()
    if window == PictureConfig().soft:
        return f"{plane.capitalize()}, {window.name.lower()}"
    total = finished.volume.geometry.shape[0]
    image = "" if finding.location.instance_number is None else f", image {finding.location.instance_number}"
    return f"Axial, slice {total - voxel[0]} of {total} from the top{image}"


def _finding_facts(finding: ReportedFinding) -> str:
    measured, malignancy = finding.measurement, finding.malignancy
    size: tuple[tuple[str, str], ...] = (
        ("Size", f"not measured{guess(finding.detector_diameter_mm, '; the detector takes it for about ', ' mm')}"),
    )
    if measured:
        spread = f" ± {shown(measured.volume_sd_mm3, 0)}" if measured.volume_sd_mm3 is not None else ""
        size = (
            ("Long × short axis", f"{shown(measured.long_axis_mm, 1)} × {shown(measured.short_axis_mm, 1)} mm"),
            ("Mean diameter", f"{shown(measured.mean_diameter_mm, 1)} mm"),
            ("Volume", f"{shown(measured.volume_mm3, 0)}{spread} mm³"),
            ("Solid part", _solid_part(finding)),
            (
                "Attenuation",
                minus(f"{shown(measured.mean_hu, 0)} HU ({shown(measured.min_hu, 0)} to {shown(measured.max_hu, 0)})"),
            ),
        )
    likely = f"{percent(finding)} – {MALIGNANCY_MEANING}" if malignancy else "not classified"
    facts = (*size, ("Type", finding.type.value), ("A nodule at all", _nodule_at_all(finding)))
    growth = ("Growth", [escape(minus_signs(finding.growth or NOT_ASSESSED), REASON)])
    return _facts(facts, (growth, ("Malignancy probability", [escape(likely)]), *_advice(finding)))


def _facts(facts: Iterable[tuple[str, str]], wide: Iterable[tuple[str, list[str]]]) -> str:
    """The facts that say something, then those over the whole width."""
    return facts_list(
        ((label, text) for label, text in facts if text), "".join(_wide_fact(label, lines) for label, lines in wide)
    )


def _folds(finished: Finished, finding: ReportedFinding, shape: MarkShape, config: PictureConfig) -> str:
    """What a reader may want after the rest: published models, looks, place, the other sizes, what was looked at."""
    x, y, z = finding.position_mm
    facts = (
        *_more_sizes(finding),
        ("To the lung's border", _pleura(finding.location.pleura_mm)),
        ("To a fissure", _fissure(finding.location)),
        ("Detection score", shown(finding.detection_score, 3)),
        ("Place (LPS, mm)", minus(f"{x:.1f}, {y:.1f}, {z:.1f}")),
    )
    wide = (*_risks(finding.risks), *_looks(finding.attributes), *_beside(finding.advice))
    more = folded("Risk models, looks, more measurements", _facts(facts, wide))
    heat = _heat(finished, shape, config)
    return more + (folded("What the network looked at", heat) if heat else "")


def _more_sizes(finding: ReportedFinding) -> tuple[tuple[str, str], ...]:
    """Sizes that no category rests on."""
    measured = finding.measurement
    if measured is None:
        return ()
    return (
        ("Longest axial", f"{shown(measured.max_transverse_mm, 1)} mm"),
        ("Effective diameter", f"{shown(measured.effective_diameter_mm, 1)} mm"),
        *labelled_facts(measured),
    )


def _pleura(distance_mm: float | None) -> str:
    if distance_mm is None:
        return "not assessed"
    return "touches" if distance_mm == 0 else "10 mm or more" if distance_mm >= 10 else f"{shown(distance_mm, 1)} mm"


def _fissure(location: ReportedLocation) -> str:
    """What was seen of fissures near a finding: they are looked for as thin sheets, and some are missed."""
    if location.perifissural is None:
        return "not assessed"
    if location.perifissural:
        return "may touch (estimated)"
    return (
        "none seen within 10 mm" if location.fissure_mm is None else f"{shown(location.fissure_mm, 1)} mm (estimated)"
    )


def _nodule_at_all(finding: ReportedFinding) -> str:
    """Probability by the second look; empty where the weights do not tell."""
    return "" if finding.nodule_probability is None else whole_percent(finding.nodule_probability)


def _looks(attributes: ReportedAttributes | None) -> tuple[tuple[str, list[str]], ...]:
    """Attributes in one line, and what they are."""
    if attributes is None:
        return ()
    scales = (
        ("sphericity", attributes.sphericity, "5 round"),
        ("spiculation", attributes.spiculation, "5 marked"),
        ("lobulation", attributes.lobulation, "5 marked"),
        ("margin", attributes.margin, "5 sharp"),
        ("texture", attributes.texture, "5 solid"),
    )
    text = ", ".join(f"{name} {shown(value, 1)} ({end})" for name, value, end in scales if value is not None)
    calcified = f"; {whole_percent(attributes.calcified)} of readers would call it calcified"
    return (
        (
            "What it looks like",
            [f"{escape(text + calcified)} <small>{ATTRIBUTES_MEANING}</small>"],
        ),
    )


def _heat(finished: Finished, shape: MarkShape, config: PictureConfig) -> str:
    """Pictures of what the network looked at, with what they are and are not; empty where there are none."""
    if shape.attribution is None:
        return ""
    figures = "".join(
        f"<figure>{heat_svg(finished.volume, shape, plane, config)}"
        f"<figcaption>{name.capitalize()}</figcaption></figure>"
        for name, plane in PLANES.items()
    )
    return f'<div class="heat">{figures}<p class="soft">{_HEAT_CAPTION}</p></div>'


def _history(finding: ReportedFinding) -> str:
    """The nodule exam by exam, oldest first, this one last."""
    size, change = finding.measurement, finding.change
    if change is None or not change.exams or size is None:
        return ""
    rows = [
        (
            past.date or "", past.type.value, past.mean_diameter_mm, past.long_axis_mm,
            past.short_axis_mm, past.volume_mm3, past.volume_sd_mm3, past.category, past.how,
        )
        for past in change.exams
    ]  # fmt: skip
    rows.append(
        (
            "this exam", finding.type.value, size.mean_diameter_mm, size.long_axis_mm,
            size.short_axis_mm, size.volume_mm3, size.volume_sd_mm3, finding.category, "finding",
        )
    )  # fmt: skip
    heads = (
        ("", "Exam"), ("", "Type"), ("n", "Mean, mm"), ("n", "Axes, mm"), ("n", "Volume, mm³"), ("", "Category"),
        ("", "How"),
    )  # fmt: skip
    head = "".join(f'<th class="{kind}" scope="col">{text}</th>' for kind, text in heads)
    body = "".join(_history_row(*row) for row in rows)
    return (
        '<div class="wide"><table class="history"><caption>History</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _history_row(
    when: str, kind: str, mean: float, long_mm: float, short_mm: float, volume: float | None, spread: float | None,
    category: str | None, how: str,
) -> str:  # fmt: skip
    error = f" ± {shown(spread, 0)}" if spread is not None else ""
    cells = (
        ("", escape(when)),
        ("", escape(kind)),
        ("n", shown(mean, 1)),
        ("n", f"{shown(long_mm, 1)} × {shown(short_mm, 1)}"),
        ("n", f"{shown(volume, 0)}{error}" if volume is not None else absent("–")),
        ("", escape(category) if category else absent("not known")),
        ("", escape(how)),
    )
    return "<tr>" + "".join(f'<td class="{css}">{text}</td>' for css, text in cells) + "</tr>"


def _wide_fact(label: str, lines: Iterable[str]) -> str:
    """One fact over the whole width; its lines are HTML already."""
    return (
        f'<div class="span"><dt>{escape(label, REASON)}</dt>' + "".join(f"<dd>{line}</dd>" for line in lines) + "</div>"
    )


def _beside(advice: Iterable[ReportedAdvice]) -> Iterator[tuple[str, list[str]]]:
    """What other guidelines advise, each with what it lacks and assumes."""
    for one in advice:
        open_ones = f"needs {', '.join(one.needs)}" if one.needs else ""
        assumed = f"assumed: {', '.join(one.assumed)}" if one.assumed else ""
        unverified = ", ".join(source for source in one.sources if source.startswith("unverified"))
        small = "; ".join(words for words in (open_ones, assumed, unverified) if words)
        text = f"{one.group}: {one.advice}" if one.advice else one.group
        line = f"{escape(sentence(text), REASON)}" + (f" <small>{escape(small, REASON)}</small>" if small else "")
        yield one.guideline, [line]


def _advice(finding: ReportedFinding) -> tuple[tuple[str, list[str]], ...]:
    if not finding.management:
        return ()
    clause = f"<small>{escape(finding.category_clause, REASON)}</small>" if finding.category_clause else ""
    return (("What the table advises", [f"{escape(sentence(finding.management), REASON)} {clause}"]),)


def _risks(risks: Sequence[ReportedRisk]) -> list[tuple[str, list[str]]]:
    """Published models by what they mean: a line for each that gave a number, one for those that lack something."""
    facts = []
    for meaning in dict.fromkeys(risk.meaning for risk in risks):
        same = [risk for risk in risks if risk.meaning == meaning]
        lines = [_risk_line(risk) for risk in same if risk.probability is not None]
        lacking = "; ".join(
            f"{risk.model} {risk.text.removeprefix('not assessed: ')}" for risk in same if risk.probability is None
        )
        if lacking:
            lines.append(f'<span class="soft">Not assessed: {escape(lacking, REASON)}</span>')
        facts.append((sentence(meaning), lines))
    return facts


def _risk_line(risk: ReportedRisk) -> str:
    notes = [f"assumed: {', '.join(risk.assumed)}"] if risk.assumed else []
    notes += [*risk.limits, *(source for source in risk.sources if "unverified" in source)]
    return f"{escape(risk.model)}: {escape(risk.text)} <small>{escape('; '.join(notes), REASON)}</small>"


def _solid_part(finding: ReportedFinding) -> str:
    measured = finding.measurement
    if measured is None or finding.type is not NoduleType.PART_SOLID:
        return ""
    return f"{shown(measured.solid_mean_diameter_mm, 1)} mm, {shown(measured.solid_volume_mm3, 0)} mm³"

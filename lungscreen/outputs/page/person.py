"""The part of the page that is about the person: the patient data as they were used, and what they alone say."""

from __future__ import annotations

from collections.abc import Iterable

from lungscreen.outputs.page.pieces import REASON, facts_list, sentence
from lungscreen.results.document import ReportedEligibility, ReportedPerson, ReportedRisk
from lungscreen.results.fields import parts_of
from lungscreen.results.text import escape, readable_sex, shown

__all__ = ["person_part"]

_ANSWERS = {True: "yes", False: "no", None: "not assessed"}
_NOT_KNOWN = "not known"
_FLAG_ANSWERS = {**_ANSWERS, None: _NOT_KNOWN}


def person_part(data: ReportedPerson | None) -> str:
    """Patient data, PLCOm2012 and programmes; empty where nothing is known beyond the DICOM header."""
    if data is None or not _beside_header(data):
        return ""
    marked = dict.fromkeys(data.from_header, " (from the header)")
    age = _NOT_KNOWN if data.age is None else f"{data.age:g} years"
    sex = readable_sex(data.sex) if data.sex else _NOT_KNOWN
    facts = (
        ("Age", f"{age}{marked.get('age', '')}"),
        ("Sex", f"{sex}{marked.get('sex', '')}"),
        ("Smoking", _smoking(data)),
        *((label, _FLAG_ANSWERS[value]) for label, value in _flags(data)),
        ("Body mass index", f"{data.bmi:g} kg/m²" if data.bmi is not None else _NOT_KNOWN),
        ("Race, education", ", ".join((data.race or _NOT_KNOWN, _education(data.education)))),
        *_on_record(data),
    )
    return (
        f"<h2>Person</h2>{facts_list(facts, _risk(data.risk))}{_programmes(data.eligibility)}"
        '<p class="note">Information about the person: no reason to read a scan or not to.</p>'
    )


def _beside_header(data: ReportedPerson) -> bool:
    """Whether anything is known that the header does not say."""
    names = (part.name for part in parts_of(ReportedPerson) if part.name not in ("from_header", "risk", "eligibility"))
    return any(getattr(data, name) is not None for name in names if name not in data.from_header)


def _smoking(data: ReportedPerson) -> str:
    amounts = (
        (data.pack_years, "{:g} pack-years"),
        (data.cigarettes_per_day, "{:g} cigarettes a day"),
        (data.duration_years, "for {:g} years"),
        (data.years_quit, "quit {:g} years ago"),
    )
    known = [text.format(value) for value, text in amounts if value is not None]
    return ", ".join((data.smoking_status or f"status {_NOT_KNOWN}", *known))


def _flags(data: ReportedPerson) -> Iterable[tuple[str, bool | None]]:
    return (
        ("Lung cancer in the family", data.family_history),
        ("Emphysema", data.emphysema),
        ("COPD", data.copd),
        ("Cancer before", data.prior_cancer),
        ("Immunosuppressed", data.immunosuppressed),
    )


def _education(level: int | None) -> str:
    return f"education {_NOT_KNOWN}" if level is None else f"education {level} of 6"


def _on_record(data: ReportedPerson) -> Iterable[tuple[str, str]]:
    """An earlier exam and the priority, where the patient data have them."""
    category = f"category {data.prior_category}" if data.prior_category else ""
    earlier = ", ".join(part for part in (data.prior_exam_date or "", category) if part)
    return (row for row in (("Earlier exam on record", earlier), ("Priority", data.priority or "")) if row[1])


def _risk(risk: ReportedRisk) -> str:
    """PLCOm2012 as a fact over the whole width, to two decimals: programmes cut at 1.51 %."""
    text = risk.text if risk.probability is None else f"{shown(100 * risk.probability, 2)} %"
    notes = "; ".join((risk.meaning, *risk.limits)) if risk.probability is not None else risk.meaning
    line = f"{escape(text, REASON)} <small>{escape(notes, REASON)}</small>"
    return f'<div class="span"><dt>{escape(risk.model)}</dt><dd>{line}</dd></div>'


def _programmes(programmes: Iterable[ReportedEligibility]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.programme)}</td><td>{_ANSWERS[one.eligible]}</td>"
        f"<td>{escape(sentence('; '.join((one.reason, *one.assumed))), REASON)}</td>"
        f"<td>{escape('; '.join(one.sources), REASON)}</td></tr>"
        for one in programmes
    )
    heads = "".join(f'<th scope="col">{text}</th>' for text in ("Programme", "Would screen", "Why", "Read in"))
    return f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'

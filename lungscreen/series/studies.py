"""Pile of headers ─► Studies: patients told apart, copies dropped, series chosen."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.records import Patient, Study
from lungscreen.series.choice import Facts, choose_series, exclude_series
from lungscreen.series.grouping import describe_series, group_headers, header_notices
from lungscreen.series.headers import Header
from lungscreen.series.rejects import Rejects
from lungscreen.series.scan import OtherSeries, Pile
from lungscreen.sources import SourceReader

__all__ = ["make_studies", "plain_name"]

StudyKey = tuple[str, str, str]
"""Patient ID, plain name, study UID."""


class _Draft:
    """A study being put together."""

    def __init__(self) -> None:
        self.candidates: list[Facts] = []
        self.excluded: list[tuple[Facts, str]] = []
        self.not_read: list[Refusal] = []
        self.notices: list[Notice] = []
        self.header: Header | None = None


def make_studies(pile: Pile, reader: SourceReader) -> tuple[list[Study], list[Refusal]]:
    """Studies with their series in the order of reading; and the refusals that belong to no study that can be read."""
    drafts: dict[StudyKey, _Draft] = defaultdict(_Draft)
    refused: list[Refusal] = []
    for series_uid in sorted(pile.headers):
        headers = pile.headers[series_uid]
        keys = {_study_key(header) for header in headers}
        if len({key[:2] for key in keys}) > 1:
            reason = f"{len(headers)} files with this series UID belong to {len({key[:2] for key in keys})} patients"
            refused += [
                Refusal(series_uid, "series-two-patients", reason, "series", key[2], key[0]) for key in sorted(keys)
            ]
            continue
        for key in sorted(keys):
            mine = [header for header in headers if _study_key(header) == key]
            _add_series(drafts[key], mine, reader)
    _add_others(drafts, pile, refused)
    _warn_of_names(drafts)
    studies = []
    for key in sorted(drafts):
        study, rows = _finish(drafts[key], key)
        refused += rows
        studies += [study] if study else []
    return studies, refused


def _study_key(header: Header) -> StudyKey:
    return header.patient.patient_id, plain_name(header.patient), header.study_uid


def plain_name(patient: Patient) -> str:
    """A name as it is compared: case, carets and blanks do not matter."""
    return re.sub(r"[\^\s=]+", " ", patient.name).strip().casefold()


def _add_series(draft: _Draft, headers: list[Header], reader: SourceReader) -> None:
    """One series UID of one study: copies out, unusable objects out, split, described, excluded or a candidate."""
    first = headers[0]
    draft.header = draft.header or first
    headers, copies = _drop_copies(headers, reader)
    notices = [Notice("duplicate-files", f"{copies} files are in the input more than once.")] if copies else []
    rejects = Rejects()
    usable = [header for header in headers if header.problem is None]
    for header in headers:
        if header.problem is not None:
            source = str(header.instance.source)
            rejects.add(first.series_uid, source, header.problem.code, header.problem.reason)
    if not usable:
        codes = rejects.codes(first.series_uid)
        reason = next(h.problem.reason for h in headers if h.problem is not None and h.problem.code == codes[0])
        text = f"none of its {len(headers)} images can be used: {reason}"
        draft.not_read.append(_refuse(first, codes[0], text))
        return
    draft.not_read += rejects.rows(first.series_uid, first.study_uid, first.patient.patient_id)
    if len(usable) < len(headers):
        text = f"{len(headers) - len(usable)} of {len(headers)} files cannot be used ({', '.join(rejects.codes(first.series_uid))})."
        notices.append(Notice("file-left-out", text))
    groups = group_headers(usable)
    if len(groups) > 1:
        notices.append(Notice("series-split", f"This series UID holds {len(groups)} groups of images that differ."))
    for group in groups:
        _judge(draft, describe_series(group), notices)


def _judge(draft: _Draft, facts: Facts, notices: Sequence[Notice]) -> None:
    excluded = exclude_series(facts)
    if excluded:
        code, reason = excluded
        series = facts.series
        row = Refusal(
            series.series_uid,
            code,
            f"{facts.slices} slices: {reason}",
            "series",
            series.exam.study_uid,
            series.patient.patient_id,
        )
        draft.not_read.append(row)
        draft.excluded.append((facts, code))
        return
    series = replace(facts.series, notices=(*notices, *header_notices(facts)))
    draft.candidates.append(replace(facts, series=series))


def _drop_copies(headers: list[Header], reader: SourceReader) -> tuple[list[Header], int]:
    """One header per SOP Instance UID where the files are equal; those that differ stay for the pixels to decide."""
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[header.instance.sop_instance_uid].append(header)
    kept: list[Header] = []
    for same in by_uid.values():
        if len(same) == 1:
            kept += same
            continue
        distinct: dict[str, Header] = {}
        for header in same:
            distinct.setdefault(_content(header, reader), header)
        kept += distinct.values()
    return kept, len(headers) - len(kept)


def _content(header: Header, reader: SourceReader) -> str:
    try:
        return hashlib.sha256(reader.read(header.instance.source)).hexdigest()
    except InputError:
        return str(header.instance.source)


def _add_others(drafts: dict[StudyKey, _Draft], pile: Pile, refused: list[Refusal]) -> None:
    """A row for each series that is no CT, beside the study it belongs to where that is read."""
    by_study = {key[2]: draft for key, draft in drafts.items()}
    for other, count in sorted(pile.others.items(), key=lambda item: (item[0].study_uid, item[0].series_uid)):
        row = Refusal(_name_other(other), "not-ct", f"{count} object(s): {other.what}", "series", other.study_uid)
        draft = by_study.get(other.study_uid)
        (draft.not_read if draft else refused).append(row)


def _name_other(other: OtherSeries) -> str:
    return other.series_uid or other.study_uid or other.what


def _warn_of_names(drafts: dict[StudyKey, _Draft]) -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for patient_id, name, _ in drafts:
        if patient_id:
            names[patient_id].add(name)
    for (patient_id, _, _), draft in drafts.items():
        if len(names[patient_id]) > 1:
            text = (
                f"{len(names[patient_id])} names occur under this patient ID; studies are kept apart, never compared."
            )
            draft.notices.append(Notice("two-names-one-id", text))


def _finish(draft: _Draft, key: StudyKey) -> tuple[Study | None, list[Refusal]]:
    ordered, later = choose_series(draft.candidates)
    rows = [*draft.not_read, *later]
    if ordered:
        best = ordered[0].series
        study = Study(
            best.patient, best.exam, tuple(f.series for f in ordered), tuple(rows), tuple(_unclear(ordered[0], draft))
        )
        return study, []
    if draft.header is None:
        return None, rows
    largest = max(draft.excluded, key=lambda item: item[0].slices, default=None)
    code = largest[1] if largest else rows[0].code
    reason = next(row.reason for row in rows if row.code == code)
    whole = Refusal(key[2], code, f"no series can be read: {reason}", "study", key[2], key[0])
    return None, [whole, *rows]


def _unclear(chosen: Facts, draft: _Draft) -> list[Notice]:
    part = chosen.series.acquisition.body_part.upper()
    if part and not re.search(r"CHEST|THORA|LUNG|HEART|BODY|TORSO|TRUNK", part):
        return [*draft.notices, Notice("body-part-unclear", f"The header calls the body part {part}.")]
    return draft.notices


def _refuse(header: Header, code: str, reason: str) -> Refusal:
    return Refusal(header.series_uid, code, reason, "series", header.study_uid, header.patient.patient_id)

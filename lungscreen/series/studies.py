"""Pile of headers ─► Studies: patients told apart, copies dropped, series chosen."""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from lungscreen.errors import InputError, Notice, Refusal
from lungscreen.records import Study
from lungscreen.series.choice import Facts, choose_series, exclude_series
from lungscreen.series.grouping import describe_series, group_headers, header_notices
from lungscreen.series.headers import Header
from lungscreen.series.identity import Identity, identify, whole_identities
from lungscreen.series.pile import OtherSeries, Pile
from lungscreen.series.rejects import Rejects
from lungscreen.sources import SourceReader

__all__ = ["make_studies", "refuse_others"]


class _Draft:
    """A study being put together."""

    def __init__(self) -> None:
        self.candidates: list[Facts] = []
        self.excluded: list[tuple[Facts, str]] = []
        self.not_read: list[Refusal] = []
        self.notices: list[Notice] = []
        self.header: Header | None = None


def make_studies(
    pile: Pile, reader: SourceReader, names: Mapping[str, Collection[str]], others: Collection[Identity] = ()
) -> tuple[list[Study], list[Refusal]]:
    """Studies with their series in the order of reading; and the refusals that belong to no study that can be read.

    names: by patient ID, the names that are known to occur under it beside those of the pile.
    others: identities that are known beside those of the pile's headers.
    """
    drafts: dict[Identity, _Draft] = defaultdict(_Draft)
    refused: list[Refusal] = []
    whole = whole_identities({*others, *(_identity(header) for header in _all_headers(pile))})
    for series_uid in sorted(pile.headers):
        headers = pile.headers[series_uid]
        by_identity: dict[Identity, list[Header]] = defaultdict(list)
        for header in headers:
            by_identity[whole[_identity(header)]].append(header)
        people = {identity.person for identity in by_identity}
        if len(people) > 1:
            reason = f"{len(headers)} files with this series UID belong to {len(people)} patients"
            refused += [
                Refusal(series_uid, "series-two-patients", reason, "series", i.study_uid, i.patient_id)
                for i in sorted(by_identity)
            ]
            continue
        for identity in sorted(by_identity):
            _add_series(drafts[identity], by_identity[identity], reader)
    _add_others(drafts, pile, refused)
    _warn_of_names(drafts, pile, names)
    studies = []
    for identity in sorted(drafts):
        study, rows = _finish(drafts[identity], identity)
        refused += rows
        studies += [study] if study else []
    return studies, refused


def _identity(header: Header) -> Identity:
    return identify(header.patient, header.study_uid)


def _all_headers(pile: Pile) -> Iterator[Header]:
    return (header for headers in pile.headers.values() for header in headers)


def _add_series(draft: _Draft, headers: list[Header], reader: SourceReader) -> None:
    """One series UID of one study: copies out, unusable objects out, split, described, excluded or a candidate."""
    first = headers[0]
    draft.header = draft.header or first
    headers, copies = _drop_copies(headers, reader)
    notices = [Notice("duplicate-files", f"{copies} files are in the input more than once.")] if copies else []
    usable = _leave_out_unusable(draft, first, headers, notices)
    if not usable:
        return
    groups = group_headers(usable)
    if len(groups) > 1:
        notices.append(Notice("series-split", f"This series UID holds {len(groups)} groups of images that differ."))
    for group in groups:
        _judge(draft, describe_series(group), notices)


def _leave_out_unusable(draft: _Draft, first: Header, headers: list[Header], notices: list[Notice]) -> list[Header]:
    """The headers that can be used; what is said of the others goes into the draft and the notices."""
    rejects = Rejects()
    usable = [header for header in headers if header.problem is None]
    problems = [(header, header.problem) for header in headers if header.problem is not None]
    for header, problem in problems:
        rejects.add(first.series_uid, str(header.instance.source), problem.code, problem.reason)
    if not usable:
        code = rejects.codes(first.series_uid)[0]
        reason = next(problem.reason for _, problem in problems if problem.code == code)
        draft.not_read.append(_refuse(first, code, f"none of its {len(headers)} images can be used: {reason}"))
        return []
    draft.not_read += rejects.rows(first.series_uid, first.study_uid, first.patient.patient_id)
    if problems:
        codes = ", ".join(rejects.codes(first.series_uid))
        notices.append(Notice("file-left-out", f"{len(problems)} of {len(headers)} files cannot be used ({codes})."))
    return usable


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


def _add_others(drafts: dict[Identity, _Draft], pile: Pile, refused: list[Refusal]) -> None:
    """A row for each series that is no CT, beside the study it belongs to where that is read."""
    by_study = {identity.study_uid: draft for identity, draft in drafts.items()}
    for row in refuse_others(pile.others):
        draft = by_study.get(row.study_uid)
        (draft.not_read if draft else refused).append(row)


def refuse_others(others: Counter[OtherSeries]) -> list[Refusal]:
    """A row for each series of DICOM objects that are no CT."""
    return [
        Refusal(
            other.series_uid or other.study_uid or other.what,
            "not-ct",
            f"{count} object(s): {other.what}",
            "series",
            other.study_uid,
        )
        for other, count in sorted(others.items())
    ]


def _warn_of_names(drafts: dict[Identity, _Draft], pile: Pile, more: Mapping[str, Collection[str]]) -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for identity in map(_identity, _all_headers(pile)):
        names[identity.patient_id].add(identity.name)
    for identity, draft in drafts.items():
        known = names[identity.patient_id] | set(more.get(identity.patient_id, ()))
        if identity.patient_id and len(known) > 1:
            text = f"{len(known)} names occur under this patient ID; studies are kept apart, never compared."
            draft.notices.append(Notice("two-names-one-id", text))


def _finish(draft: _Draft, identity: Identity) -> tuple[Study | None, list[Refusal]]:
    ordered, later = choose_series(draft.candidates)
    rows = [*draft.not_read, *later]
    if ordered:
        best = ordered[0].series
        # of its files some may leave out what others say
        patient = replace(best.patient, issuer=identity.issuer, birth_date=identity.birth_date, sex=identity.sex)
        series = tuple(facts.series for facts in ordered)
        return Study(patient, best.exam, series, tuple(rows), tuple(_unclear(ordered[0], draft))), []
    if draft.header is None:
        return None, rows
    largest = max(draft.excluded, key=lambda item: item[0].slices, default=None)
    code = largest[1] if largest else rows[0].code
    reason = next(row.reason for row in rows if row.code == code)
    text = f"no series can be read: {reason}"
    whole = Refusal(identity.study_uid, code, text, "study", identity.study_uid, identity.patient_id)
    return None, [whole, *rows]


def _unclear(chosen: Facts, draft: _Draft) -> list[Notice]:
    part = chosen.series.acquisition.body_part.upper()
    if part and not re.search(r"CHEST|THORA|LUNG|HEART|BODY|TORSO|TRUNK", part):
        return [*draft.notices, Notice("body-part-unclear", f"The header calls the body part {part}.")]
    return draft.notices


def _refuse(header: Header, code: str, reason: str) -> Refusal:
    return Refusal(header.series_uid, code, reason, "series", header.study_uid, header.patient.patient_id)

"""Looks ─► a pile of headers, from which studies are made."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from lungscreen.records import Source
from lungscreen.series.headers import Header
from lungscreen.series.looks import Look

__all__ = ["OtherSeries", "Pile", "gather_looks"]


@dataclass(frozen=True, slots=True, order=True)
class OtherSeries:
    """DICOM objects that are no CT."""

    study_uid: str
    series_uid: str
    what: str


@dataclass
class Pile:
    """What the looks at all files give."""

    headers: dict[str, list[Header]] = field(default_factory=lambda: defaultdict(list))
    """CT objects by series UID, in the order of their folders and names."""
    images: list[Source] = field(default_factory=list)
    """As they were found."""
    others: Counter[OtherSeries] = field(default_factory=Counter)


def gather_looks(looks: Iterable[Look]) -> Pile:
    """The usable looks, put together."""
    pile = Pile()
    for look in looks:
        if look.kind == "image":
            pile.images.append(look.source)
        elif look.kind == "other":
            pile.others[OtherSeries(look.study_uid, look.series_uid, look.what)] += 1
        elif look.header is not None:
            pile.headers[look.header.series_uid].append(look.header)
    for headers in pile.headers.values():
        headers.sort(key=_place)
    return pile


def _place(header: Header) -> tuple[str, str, str]:
    source = header.instance.source
    return str(source.path.parent), source.path.name, source.member

"""What a result's objects are called: UIDs that depend on its content only, the exam's times, what it replaces."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from numpy.typing import NDArray

from lungscreen.outputs.dicom.places import used_slices
from lungscreen.uids import derived_uid

__all__ = ["NO_DATE", "Predecessor", "ResultIdentity", "content_digest", "content_moment"]

OUTPUT_FORMAT = 2
"""Rises when the objects of an unchanged result change."""

NO_DATE = "19000101"
"""Where the exam has no date: an object must have one, and today's would make two runs differ."""

_VOLATILE = ("created", "seconds", "options")
"""Of the provenance: differs from run to run of the same result. The options are the run's, such as its batch."""


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An earlier result of the same series.

    study_uid, series_uid, sop_class_uid, sop_instance_uid: its structured report.
    revision: 1 for the first result.
    """

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_instance_uid: str
    revision: int


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """Of one result: the digest of its content, the date and time its objects carry, and what it replaces.

    date: YYYYMMDD.
    time: HHMMSS.
    revision: 1 for the first result of a series.
    """

    digest: str
    date: str
    time: str
    predecessor: Predecessor | None = None

    @property
    def revision(self) -> int:
        """1 for the first result of a series, one more for each that replaces another."""
        return 1 if self.predecessor is None else self.predecessor.revision + 1

    def uid(self, *role: object) -> str:
        """The UID of one of the result's objects, series or findings."""
        return derived_uid("lungscreen result", OUTPUT_FORMAT, self.digest, self.revision, *role)


def content_digest(document: Mapping[str, Any], *masks: NDArray[Any]) -> str:
    """BLAKE2b (256 bit) over what a result says and outlines, without what differs from run to run.

    document: as in report.json. Which files were refused is not part of it: their paths are the machine's.
    """
    content = {name: value for name, value in document.items() if name != "not_read"}
    content["provenance"] = {name: value for name, value in document["provenance"].items() if name not in _VOLATILE}
    digest = hashlib.blake2b(json.dumps(content, sort_keys=True, default=dict).encode(), digest_size=32)
    for mask in masks:
        # labels are small numbers: how wide they are stored says nothing
        kind = "<u2" if mask.max(initial=0) > 255 else "u1"
        slices = used_slices(mask)
        digest.update(f"{mask.shape} {slices.tolist()}".encode())
        for number in slices:
            digest.update(mask[number].astype(kind).tobytes())
    return digest.hexdigest()


def content_moment(moments: Sequence[tuple[str, str]]) -> tuple[str, str]:
    """The first date that is one, and its time; midnight where the time is unknown, `NO_DATE` where every date is.

    moments: DICOM dates and times.
    """
    for day, time in moments:
        day = day.replace(".", "")
        if _is(day, "%Y%m%d", r"\d{8}"):
            time = time.replace(":", "")[:6]
            return day, time if _is(time, "%H%M%S", r"\d{6}") else "000000"
    return NO_DATE, "000000"


def _is(text: str, form: str, pattern: str) -> bool:
    if not re.fullmatch(pattern, text, re.ASCII):
        return False
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return True

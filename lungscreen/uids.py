"""UIDs that depend on nothing but the words they are made from: the same input gives the same objects."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

__all__ = ["derived_uid", "finding_uid"]


def derived_uid(*words: object) -> str:
    """A UID under 2.25 (UUID-derived, DICOM PS3.5 B.2) that depends on nothing but the words."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()[:16]
    # the version and variant bits of a UUID (version 8: made by the application's own rule, RFC 9562)
    raw = bytearray(digest)
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return f"2.25.{int.from_bytes(raw, 'big')}"


def finding_uid(series_uid: str, position_mm: Sequence[float]) -> str:
    """What a finding is tracked by, in every output: the same place of the same series is the same finding.

    position_mm: x, y, z in LPS mm as the result has them.
    """
    return derived_uid("lungscreen finding", series_uid, *(f"{value:.2f}" for value in position_mm))

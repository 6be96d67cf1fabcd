"""Records of the monitor: a study that a night read, and one that people signed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SignedStudy", "StudyOutcome"]


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """A study of a night's ledger.

    pipeline: of pipeline, weights and outputs, as the ledger tells them apart.
    """

    finished: float
    """Seconds since 1970."""
    pipeline: str
    was_read: bool
    findings: int


@dataclass(frozen=True, slots=True)
class SignedStudy:
    """A study that nobody reads any more, by its last signed read. No name and no UID is in it.

    signed: seconds since 1970.
    pipeline: name, software version, pipeline hash and weights.
    groups: kind of subgroup → the exam's.
    alone: whether CAD had each nodule of a first read, which was signed before CAD was shown; empty without one.
    final: the same of the signed read, which CAD helped to make.
    rejected: marks of CAD that the reader refused.
    changed: whether the category is another one than before CAD was shown; None where CAD was shown at once.
    """

    signed: float
    pipeline: str
    groups: Mapping[str, str]
    alone: tuple[bool, ...]
    final: tuple[bool, ...]
    rejected: int
    changed: bool | None

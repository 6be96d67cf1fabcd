"""ReportDocument ─► StudyFacts: figures of a study for the morning page and for drift, without names.

The ledger keeps them, so that a night of thousands is summed up without reading a report.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lungscreen.kernels import classify_kernel
from lungscreen.results.document import ReportDocument
from lungscreen.results.fields import said
from lungscreen.results.values import UnreadableError, from_plain, to_plain

__all__ = ["StudyFacts", "facts_of", "plain_facts", "recall_facts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """No text of the header's, which may hold anything."""

    category: str = said(default="")
    findings: int = said(least=0, default=0)
    doubtful: int = said("findings that do not decide the category", least=0, default=0)
    top_score: float | None = said("highest detection score of a finding", default=None)
    top_probability: float | None = said("highest malignancy probability of a finding", default=None)
    kernel: str = said("soft, standard, sharp or unknown", default="unknown")
    spacing_mm: float | None = said("of the slices", unit="mm", default=None)
    dose_mgy: float | None = said("CTDIvol", unit="mGy", default=None)
    noise_hu: float | None = said("in the lungs", unit="HU", default=None)
    notices: tuple[str, ...] = said("codes, sorted", default=())
    networks: str = said("first characters of the weights' hashes; scores of others cannot be compared", default="")


def facts_of(document: ReportDocument) -> StudyFacts:
    """Figures of a report."""
    return StudyFacts(
        category=document.category,
        findings=len(document.findings),
        doubtful=len(document.doubtful_findings),
        top_score=document.top_score,
        top_probability=document.top_probability,
        kernel=classify_kernel(document.acquisition.kernel),
        spacing_mm=document.series.slice_spacing_mm,
        dose_mgy=document.acquisition.ctdi_vol_mgy,
        noise_hu=_number(document.provenance.options.get("noise_hu")),
        notices=tuple(sorted({notice.code for notice in document.notices})),
        networks=" ".join(weights.sha256[:12] for weights in document.provenance.weights),
    )


def plain_facts(facts: StudyFacts | None) -> dict[str, Any]:
    """As the ledger keeps them; nothing of a study that was not read."""
    kept: dict[str, Any] = {} if facts is None else to_plain(facts)
    return kept


def recall_facts(kept: Mapping[str, Any]) -> StudyFacts:
    """From the ledger; what an earlier version did not keep, or kept otherwise, is not known."""
    try:
        return from_plain(StudyFacts, kept)
    except UnreadableError:
        return StudyFacts()


def _number(text: str | None) -> float | None:
    """A number that the provenance has as text."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None

"""Tonight's scans against those of the last nights: has the scanner, the protocol or the software changed?

A comparison warns only where the difference is both beyond chance and large enough to matter. Test, threshold and
figures stand with each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lungscreen.errors import Notice
from lungscreen.results.facts import StudyFacts

__all__ = ["HISTORY_NIGHTS", "NightComparison", "compare_nights", "drift_notices"]

HISTORY_NIGHTS = 30
"""Nights before this one that it is compared with."""

LEAST_TONIGHT = 20
LEAST_BEFORE = 60
"""With fewer studies nothing is compared: it would warn of nothing, or of chance."""

OVERALL_ALPHA = 0.01
"""Chance that a night that is like the others gets any warning; shared out over the comparisons (Bonferroni)."""

LEAST_DISTANCE = 0.25
"""Kolmogorov-Smirnov distance below which a difference is not worth a warning, however certain. Our choice."""

LEAST_SHARE = 0.15
"""The same for the difference of shares."""

MEASURED = {
    "spacing_mm": "slice spacing (mm)",
    "dose_mgy": "dose (CTDIvol, mGy)",
    "noise_hu": "noise in the lungs (HU)",
    "top_score": "highest detection score of a study",
}
"""Figures that are compared by their distribution."""

OF_SCORES = ("top_score", "with_finding")
"""Figures that other weights change, whatever the scans."""

COUNTED = {"kernel": "kernel", "with_finding": "share of studies with a finding"}
"""What is compared by its shares."""


@dataclass(frozen=True, slots=True)
class NightComparison:
    """One figure, tonight and before. p_value and size are None where there was too little to compare."""

    name: str
    what: str
    test: Literal["Kolmogorov-Smirnov", "chi-square", "Fisher's exact"]
    tonight: int
    before: int
    p_value: float | None
    size: float | None
    """Kolmogorov-Smirnov distance, or the largest difference of shares."""
    alpha: float
    least_size: float
    shown_tonight: str
    shown_before: str

    @property
    def drifted(self) -> bool:
        """Beyond chance and large."""
        return (
            self.p_value is not None
            and self.size is not None
            and self.p_value < self.alpha
            and self.size >= self.least_size
        )


def compare_nights(tonight: Sequence[StudyFacts], before: Sequence[StudyFacts]) -> list[NightComparison]:
    """Every figure; `tonight`, `before`: facts of the studies that were read.

    What rests on scores is compared with studies that the same weights read: with new ones it starts anew.
    """
    alpha = OVERALL_ALPHA / (len(MEASURED) + len(COUNTED))
    alike = [study for study in before if study.networks in {now.networks for now in tonight}]

    def earlier(name: str) -> Sequence[StudyFacts]:
        return alike if name in OF_SCORES else before

    found = [_measured(name, tonight, earlier(name), alpha) for name in MEASURED]
    return found + [_counted(name, tonight, earlier(name), alpha) for name in COUNTED]


def drift_notices(comparisons: Sequence[NightComparison]) -> list[Notice]:
    """A warning for each figure that drifted."""
    return [
        Notice(
            "drift",
            f"{c.what}: tonight {c.shown_tonight}, before {c.shown_before} ({c.test}, p = {c.p_value:.2g}, threshold"
            f" {c.alpha:.2g}; difference {c.size:.2f}, threshold {c.least_size:g}).",
        )
        for c in comparisons
        if c.drifted
    ]


def _measured(name: str, tonight: Sequence[StudyFacts], before: Sequence[StudyFacts], alpha: float) -> NightComparison:
    new = _values(name, tonight)
    old = _values(name, before)
    p_value = size = None
    if len(new) >= LEAST_TONIGHT and len(old) >= LEAST_BEFORE:
        # imported where it is needed: half a second, which a single study need not wait for
        from scipy.stats import ks_2samp

        # asymptotic: the exact method takes long with thousands of studies
        result = ks_2samp(new, old, method="asymp")
        p_value, size = float(result.pvalue), float(result.statistic)
    return NightComparison(
        name, MEASURED[name], "Kolmogorov-Smirnov", len(new), len(old), p_value, size, alpha, LEAST_DISTANCE,
        _median(new), _median(old),
    )  # fmt: skip


def _counted(name: str, tonight: Sequence[StudyFacts], before: Sequence[StudyFacts], alpha: float) -> NightComparison:
    new, old = (Counter(_label(name, facts) for facts in night) for night in (tonight, before))
    few = new.total() < LEAST_TONIGHT or old.total() < LEAST_BEFORE
    labels = sorted({*new, *old})
    p_value, size = (
        (None, None) if few else _share_test(name, [[night[label] for label in labels] for night in (new, old)])
    )
    return NightComparison(
        name, COUNTED[name], "Fisher's exact" if name == "with_finding" else "chi-square", new.total(), old.total(),
        p_value, size, alpha, LEAST_SHARE, _shares(new), _shares(old),
    )  # fmt: skip


def _share_test(name: str, table: list[list[int]]) -> tuple[float, float]:
    """p-value and largest difference of shares."""
    from scipy.stats import chi2_contingency, fisher_exact

    if len(table[0]) < 2:
        return 1.0, 0.0
    new, old = ([count / sum(row) for count in row] for row in table)
    size = max(abs(a - b) for a, b in zip(new, old, strict=True))
    result = fisher_exact(table) if name == "with_finding" else chi2_contingency(table)
    return float(result.pvalue), size


def _values(name: str, night: Sequence[StudyFacts]) -> list[float]:
    """A figure of every study that has it."""
    return [float(value) for facts in night if (value := getattr(facts, name)) is not None]


def _label(name: str, facts: StudyFacts) -> str:
    if name == "with_finding":
        return "with" if facts.findings else "without"
    return facts.kernel


def _median(values: Sequence[float]) -> str:
    if not values:
        return "not known"
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return f"median {median:.3g}"


def _shares(counts: Counter[str]) -> str:
    total = counts.total()
    return ", ".join(f"{label} {100 * count / total:.0f} %" for label, count in sorted(counts.items())) or "none"

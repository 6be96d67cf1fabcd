"""Volumes, Nodules ─► RobustnessResult: what a detector finds when the same scans come from another protocol.

Every scan goes through the whole search once as it is and once in each variant (`variants`): lungs are found again, as
the product would. What counts is what stands at one score, the operating point; matching is LUNA16's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import LungscreenError, Notice
from lungscreen.evaluation.matching import MarkMatches, match_marks
from lungscreen.evaluation.statistics import share_interval
from lungscreen.evaluation.tables import MarkTable, Nodules
from lungscreen.evaluation.variants import (
    estimate_noise,
    lower_dose,
    sharpen_kernel,
    smooth_kernel,
    thicken_slices,
)
from lungscreen.records import Candidate, Volume

__all__ = ["ORIGINAL", "RobustnessConfig", "RobustnessResult", "ScanOutcome", "VariantOutcome", "measure_robustness"]

ORIGINAL = "original"
"""The scan as it is."""

Search = Callable[[Volume], Sequence[Candidate]]
"""The whole search of a volume: lungs, detector."""


@dataclass(frozen=True)
class RobustnessConfig:
    """Which variants are made.

    threshold: score from which a mark counts.
    doses: shares of the scan's dose.
    slices_mm: thicknesses.
    kernels: a sharper and a smoother one.
    seed: of the added noise.
    confidence: of the intervals.
    """

    threshold: float
    doses: tuple[float, ...] = (0.5, 0.25)
    slices_mm: tuple[float, ...] = (2.5, 5.0)
    kernels: bool = True
    seed: int = 0
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise ValueError(f"threshold: expected 0 to below 1, got {self.threshold}")
        if not all(0 < dose < 1 for dose in self.doses):
            raise ValueError(f"doses: expected shares above 0 and below 1, got {self.doses}")
        if not all(0 < slices <= 20 for slices in self.slices_mm):
            raise ValueError(f"slices_mm: expected above 0, at most 20, got {self.slices_mm}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence: expected between 0 and 1, got {self.confidence}")

    @property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, the scan as it is first."""
        doses = (f"dose {100 * dose:g} %" for dose in self.doses)
        slices = (f"slices {slices:g} mm" for slices in self.slices_mm)
        return ORIGINAL, *doses, *slices, *(("sharp kernel", "smooth kernel") if self.kernels else ())


@dataclass(frozen=True, slots=True)
class ScanOutcome:
    """One scan in one variant. noise_hu is None where no even tissue was found.

    left_out: why this variant of the scan was not made; empty where it was.
    failed: the code with which the search refused it: its nodules count as missed.
    """

    variant: str
    series_uid: str
    left_out: str = ""
    failed: str = ""
    noise_hu: float | None = None
    spacing_mm: tuple[float, float, float] | None = None
    """(z, y, x)."""
    nodules: int = 0
    found: int = 0
    false_marks: int = 0
    scores: tuple[float | None, ...] = ()
    """The highest score inside each nodule, also below the operating point, in the annotations' order; None: no
    mark."""


@dataclass(frozen=True, slots=True)
class VariantOutcome:
    """All scans of one variant together, beside the same scans as they are."""

    variant: str
    scans: int
    nodules: int
    found: int
    lower: float | None
    upper: float | None
    """Wilson's interval of the sensitivity; nodules are taken as independent."""
    false_marks: int
    found_original: int
    false_marks_original: int
    gained: int
    """Nodules found here and not in the original."""
    lost: int
    """Nodules found in the original and not here."""
    noise_hu: float | None
    """Mean over the scans whose noise could be measured."""

    @property
    def sensitivity(self) -> float | None:
        """Share of the nodules that are found; None without any."""
        return self.found / self.nodules if self.nodules else None

    @property
    def false_per_scan(self) -> float | None:
        """False marks at the operating point per scan; None without a scan."""
        return self.false_marks / self.scans if self.scans else None


@dataclass(frozen=True, eq=False)
class RobustnessResult:
    """What was measured.

    marks: every mark of each variant, down to a low score.
    """

    config: RobustnessConfig
    variants: tuple[VariantOutcome, ...]
    scans: tuple[ScanOutcome, ...]
    marks: Mapping[str, tuple[tuple[str, Sequence[Candidate]], ...]]
    notices: tuple[Notice, ...] = field(default=())


def measure_robustness(
    volumes: Iterable[Volume], nodules: Nodules, excluded: Nodules, search: Search, config: RobustnessConfig
) -> RobustnessResult:
    """Search each volume and its variants, and count what is found and what is false at the operating point.

    volumes: scans whose every nodule is annotated; read one by one, each once. A scan without an annotation is searched
    too: all its marks are false.
    """
    scans: list[ScanOutcome] = []
    marks: dict[str, list[tuple[str, Sequence[Candidate]]]] = {name: [] for name in config.variants}
    for volume in volumes:
        for name in config.variants:
            scan, found = _measure_variant(name, volume, nodules, excluded, search, config)
            scans.append(scan)
            if not scan.left_out:
                marks[name].append((volume.series_uid, found))
    pooled = tuple(_pool(name, scans, config) for name in config.variants)
    seen = {scan.series_uid for scan in scans}
    notices = [*nodules.notices, *excluded.notices, *_notices(scans, nodules, seen)]
    return RobustnessResult(
        config, pooled, tuple(scans), {name: tuple(rows) for name, rows in marks.items()}, tuple(notices)
    )


# -- one scan in one variant -----------------------------------------------------------------------------------------
def _measure_variant(
    name: str, volume: Volume, nodules: Nodules, excluded: Nodules, search: Search, config: RobustnessConfig
) -> tuple[ScanOutcome, Sequence[Candidate]]:
    made = _make(name, volume, config)
    if isinstance(made, str):
        return ScanOutcome(name, volume.series_uid, left_out=made), ()
    found: Sequence[Candidate] = ()
    failed = ""
    try:
        found = search(made)
    except LungscreenError as error:
        failed = error.code
    noise = estimate_noise(made)
    everything = _match(volume.series_uid, found, nodules, excluded)
    counted = _match(volume.series_uid, [c for c in found if c.score >= config.threshold], nodules, excluded)
    outcome = ScanOutcome(
        variant=name,
        series_uid=volume.series_uid,
        failed=failed,
        noise_hu=noise.sd_hu if noise else None,
        spacing_mm=made.geometry.spacing_mm,
        nodules=len(counted.nodule_row),
        found=int((~np.isnan(counted.nodule_score)).sum()),
        false_marks=len(counted.false_row),
        scores=tuple(None if np.isnan(score) else float(score) for score in everything.nodule_score),
    )
    return outcome, found


def _make(name: str, volume: Volume, config: RobustnessConfig) -> Volume | str:
    """The variant of that name, or why there is none."""
    if name == ORIGINAL:
        return volume
    if name == "sharp kernel":
        return sharpen_kernel(volume)
    if name == "smooth kernel":
        return smooth_kernel(volume)
    place = config.variants.index(name) - 1
    if place < len(config.doses):
        noise = estimate_noise(volume)
        if noise is None:
            return "too little even soft tissue to measure the noise"
        return lower_dose(volume, noise, config.doses[place], config.seed)
    thick = thicken_slices(volume, config.slices_mm[place - len(config.doses)])
    return "slices as thick already" if thick is None else thick


def _match(uid: str, found: Sequence[Candidate], nodules: Nodules, excluded: Nodules) -> MarkMatches:
    marks = MarkTable(
        (uid,) * len(found),
        np.array([c.centre_mm for c in found], np.float64).reshape(-1, 3),
        np.array([c.score for c in found], np.float64),
    )
    return match_marks(marks, nodules, excluded, (uid,), None)


# -- all scans of a variant ------------------------------------------------------------------------------------------
def _mean_noise(scans: Sequence[ScanOutcome]) -> float | None:
    """Of the scans whose noise could be measured; None where that is none."""
    known = [scan.noise_hu for scan in scans if scan.noise_hu is not None]
    return float(np.mean(known)) if known else None


def _pool(name: str, scans: Sequence[ScanOutcome], config: RobustnessConfig) -> VariantOutcome:
    mine = [scan for scan in scans if scan.variant == name and not scan.left_out]
    original = {scan.series_uid: scan for scan in scans if scan.variant == ORIGINAL}
    before = [original[scan.series_uid] for scan in mine]
    here, there = (_hits(rows, config.threshold) for rows in (mine, before))
    share = share_interval(here, config.confidence)
    return VariantOutcome(
        variant=name,
        scans=len(mine),
        nodules=len(here),
        found=int(here.sum()),
        lower=share["lower"],
        upper=share["upper"],
        false_marks=sum(scan.false_marks for scan in mine),
        found_original=int(there.sum()),
        false_marks_original=sum(scan.false_marks for scan in before),
        gained=int((here & ~there).sum()),
        lost=int((there & ~here).sum()),
        noise_hu=_mean_noise(mine),
    )


def _hits(scans: Sequence[ScanOutcome], threshold: float) -> NDArray[np.bool_]:
    """Whether each nodule of these scans is found at the operating point."""
    scores = [score for scan in scans for score in scan.scores]
    return np.array([score is not None and score >= threshold for score in scores], dtype=bool)


def _notices(scans: Sequence[ScanOutcome], nodules: Nodules, seen: set[str]) -> list[Notice]:
    elsewhere = sorted(set(nodules.series) - seen)
    notices = []
    if elsewhere:
        text = f"{len(elsewhere)} annotated series were not searched, the first {elsewhere[0][:80]}"
        notices.append(Notice("series-not-listed", text))
    left_out = Counter((scan.variant, scan.left_out) for scan in scans if scan.left_out)
    for (variant, reason), count in left_out.items():
        notices.append(Notice("variant-left-out", f"{variant}: left out of {count} scans ({reason})"))
    for scan in scans:
        if scan.failed:
            text = f"{scan.series_uid[:80]}, {scan.variant}: refused ({scan.failed}); its nodules count as missed"
            notices.append(Notice("variant-refused", text))
    if not any(scan.nodules for scan in scans):
        notices.append(Notice("figures-undefined", "no annotated nodule lies in a searched scan: no sensitivity"))
    return notices

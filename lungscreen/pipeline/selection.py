"""Finding… above the operating point ─► Selection: which are graded; graded Finding… ─► Listed: which are reported.

What is graded and what is listed are two steps: the limit of findings cuts the list, never the exam's category.

A mark whose score (the probability that it is a nodule at all) is below the operating point is taken for none: it gets
neither a malignancy, nor a category, nor a risk, whatever its size; from the score of doubtful marks on it is listed
apart. A finding whose score is below the deciding one is doubtful: graded and listed, last, but the exam's category
does not follow it. The score decides nothing about what an earlier exam shows, or what grew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lungscreen.assess import STAYING, read_category
from lungscreen.comparison import Prior
from lungscreen.errors import Notice
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.records import Candidate, Evidence, Finding, Verdict
from lungscreen.results.assemble import place_in_list, rank_findings

__all__ = [
    "FindingsConfig",
    "Listed",
    "Selection",
    "keep_doubtful",
    "list_findings",
    "look_twice",
    "nodules_of_prior",
    "select_findings",
    "verdicts_of",
    "was_4b",
]

READ_BEFORE = (Evidence.FINDING, Evidence.REPORT)
"""How an earlier exam has to show a nodule (`PastNodule.how`) for its mark to stay: as a finding of that exam. A place
where only something alike was measured does not count, since vessels are in both exams too."""


@dataclass(frozen=True)
class FindingsConfig:
    """Which candidates become findings."""

    operating_point: str = "screening"
    """One of `OPERATING_POINTS`."""
    least_mm: float = 3.0
    """Mean diameter below which a candidate is no finding."""
    mass_mm: float = 30.0
    """Mean diameter above which a finding is a mass, listed first."""
    most: int = 20
    """Findings of one study that are listed, the most suspicious by category; how many more there were is said."""
    threshold: float | None = None
    """Score from which a candidate becomes a finding, instead of the operating point's; needed by a bundle,
    whose scores those do not fit."""
    second_look: bool = True
    """Whether a candidate's score is what heatmap and second look say together; else it is the heatmap's alone."""

    def __post_init__(self) -> None:
        if self.operating_point not in OPERATING_POINTS:
            expected = ", ".join(OPERATING_POINTS)
            raise ValueError(f"operating_point: expected one of {expected}, got {self.operating_point!r}")
        if not 0 <= self.least_mm < self.mass_mm:
            raise ValueError("least_mm, mass_mm: expected 0 <= least_mm < mass_mm")
        if self.most < 1:
            raise ValueError("most: expected at least 1")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError("threshold: expected a score between 0 and 1")


@dataclass(frozen=True, eq=False)
class Selection:
    """The marks above the operating point, by how each ended.

    findings: to be graded, ranked and numbered.
    too_small: below the least size.
    no_nodules: by the second look; neither rated nor graded.
    """

    findings: tuple[Finding, ...]
    too_small: tuple[Finding, ...] = ()
    no_nodules: tuple[Finding, ...] = ()
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, eq=False)
class Listed:
    """Graded findings: those that the report lists, ranked and numbered, and those that its limit leaves out."""

    findings: tuple[Finding, ...]
    left_out: tuple[Finding, ...] = ()


def look_twice(probability: float | None, below: float) -> Literal["", "nodule", "no nodule"]:
    """What a mark is taken for: its probability of being a nodule against the operating point's score.

    Empty where no network tells.
    """
    if probability is None:
        return ""
    return "no nodule" if probability < below else "nodule"


def select_findings(found: Sequence[Finding], config: FindingsConfig) -> Selection:
    """Sort out what is too small and what is no nodule.

    One that was 4B or 4X at the last exam stays, however small it is now: it leaves only when proven benign.
    """
    large = [f for f in found if _is_large(f, config) or was_4b(f)]
    staying = set(map(id, large))
    too_small = [f for f in found if id(f) not in staying]
    dropped: list[Finding] = []
    kept: list[Finding] = []
    for finding in large:
        why = _why_kept(finding)
        if finding.second_look == "no nodule" and not why:
            dropped.append(finding)
        else:
            kept.append(_say_doubt(keep_doubtful(finding, why, decides=_decides(finding))))
    return Selection(
        tuple(rank_findings(kept)),
        tuple(too_small),
        tuple(_bare(finding) for finding in dropped),
        (*_say_small(len(too_small), config), *_say_dropped(len(dropped))),
    )


def list_findings(graded: Sequence[Finding], most: int) -> Listed:
    """The findings that a report lists, ranked and numbered, and those that the limit leaves out.

    The limit cuts by category, doubtful or not: none is left out while one of a lower category stays. Of one category,
    those that grew come first, then those that rank higher.
    """
    ordered = sorted(rank_findings(graded), key=lambda f: (place_in_list(f.category), _state(f) != "growing"))
    return Listed(tuple(rank_findings(ordered[:most])), tuple(ordered[most:]))


def was_4b(finding: Finding) -> bool:
    """Whether the last exam that shows it graded it 4B or 4X."""
    exams = finding.change.exams if finding.change else ()
    return bool(exams) and read_category(exams[-1].category) in STAYING


def _is_large(finding: Finding, config: FindingsConfig) -> bool:
    return finding.measurement is None or finding.measurement.mean_diameter_mm >= config.least_mm


def _state(finding: Finding) -> str:
    return finding.change.state if finding.change else ""


def keep_doubtful(finding: Finding, why: str, *, decides: bool = True) -> Finding:
    """The finding; where the second look takes it for no nodule, with a notice that says why it stays one.

    decides: whether it counts for the exam's category, however doubtful it is.
    """
    finding = dataclasses.replace(finding, doubtful=finding.doubtful and not decides)
    if finding.second_look != "no nodule" or finding.nodule_probability is None:
        return finding
    text = (
        "The second look takes this for no nodule (probability that it is one:"
        f" {_percent(finding.nodule_probability)}); "
        f"it stays a finding because {why}."
    )
    return dataclasses.replace(finding, notices=(*finding.notices, Notice("second-look-doubts", text)))


def nodules_of_prior(found: Sequence[Finding], prior: Prior, config: FindingsConfig) -> tuple[Finding, ...]:
    """Of an earlier exam's marks, those that are large enough and a nodule by the second look or by that exam's
    report.
    """
    reported = len(prior.unmarked([]))
    known = [
        dataclasses.replace(f, second_look="") if len(prior.unmarked([f.candidate])) < reported else f for f in found
    ]
    selected = select_findings(known, config)
    return selected.findings


def verdicts_of(candidates: Sequence[Candidate], selection: Selection, listed: Listed) -> tuple[Verdict, ...]:
    """How each candidate ended, in their order."""
    groups: tuple[tuple[Verdict, tuple[Finding, ...]], ...] = (
        ("too small", selection.too_small),
        ("no nodule", selection.no_nodules),
        ("not listed", listed.left_out),
        ("finding", listed.findings),
    )
    known = {finding.candidate: verdict for verdict, findings in groups for finding in findings}
    return tuple(known.get(candidate, "below the operating point") for candidate in candidates)


def _why_kept(finding: Finding) -> str:
    """Why the second look does not decide about a mark, in words; empty where it does."""
    change = finding.change
    if change is not None and any(past.how in READ_BEFORE for past in change.exams):
        return "it was a finding of an earlier exam"
    if was_4b(finding):
        return "it was category 4B or 4X at the last exam"
    return "it grew since the earlier exam" if change is not None and change.state == "growing" else ""


def _decides(finding: Finding) -> bool:
    """Whether a finding counts for the exam's category however doubtful it is: it grew, or an earlier exam shows it as
    a finding that was not doubtful there.
    """
    change = finding.change
    if change is None:
        return False
    sure = [past for past in change.exams if not past.doubtful]
    was = bool(change.exams) and not change.exams[-1].doubtful and was_4b(finding)
    return was or change.state == "growing" or any(past.how in READ_BEFORE for past in sure)


def _say_doubt(finding: Finding) -> Finding:
    """A doubtful finding with a notice."""
    if not finding.doubtful or finding.nodule_probability is None:
        return finding
    text = (
        f"Probably no nodule (probability that it is one: {_percent(finding.nodule_probability)}): it does not decide"
        " the exam's category."
    )
    return dataclasses.replace(finding, notices=(*finding.notices, Notice("doubtful-findings", text)))


def _bare(finding: Finding) -> Finding:
    """Without what is only true of nodules."""
    return dataclasses.replace(finding, rating=None, is_mass=False, notices=())


def _say_small(count: int, config: FindingsConfig) -> tuple[Notice, ...]:
    text = f"{count} marks above the operating point measure less than {config.least_mm:g} mm and are no findings."
    return (Notice("marks-too-small", text),) if count else ()


def _say_dropped(count: int) -> tuple[Notice, ...]:
    some = "1 mark above the operating point is" if count == 1 else f"{count} marks above the operating point are"
    it = "it is" if count == 1 else "they are"
    text = f"{some} taken for no nodule by the second look: {it} listed apart, neither rated nor graded."
    return (Notice("no-nodule-marks", text),) if count else ()


def _percent(probability: float) -> str:
    return "below 1 %" if probability < 0.01 else f"{100 * probability:.0f} %"

"""Reading, priors ─► Comparison: what became of each nodule since the earlier exams.

The latest earlier exam whose images are there is read like this one and aligned with it. What only one of the two shows
is looked for again in the other before it is called new or resolved. A report without images is compared by size only:
then nothing is called new or resolved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from lungscreen.assess import NoduleAtExam, share_prior_category
from lungscreen.comparison.changes import describe_change, say_not_compared
from lungscreen.comparison.find import Prior
from lungscreen.errors import LungscreenError, Notice
from lungscreen.geometry import Vector
from lungscreen.growth import (
    Alignment,
    GrowthConfig,
    NodulePlace,
    Pair,
    align_exams,
    look_again,
    match_by_size,
    match_nodules,
)
from lungscreen.records import (
    Candidate,
    ClinicalData,
    Finding,
    LostNodule,
    Lungs,
    NoduleChange,
    PastNodule,
    PriorExam,
    Volume,
)

__all__ = ["Comparison", "Reading", "Tools", "compare_exams", "earlier_exams"]

NEAR_CANDIDATE_MM = 6.0
"""A candidate this near to the place where something is looked for again is that something."""
CANDIDATE_SHARE = 0.1
"""Such a candidate counts from this share of the operating point's score."""
TAKEN_SHARE = 0.75
"""Of a nodule's radius: what lies nearer to another nodule's centre is that nodule."""
LARGEST_FACTOR = 2.5
"""Between the diameter of what was looked for and of what was found again."""
UNMARKED = "measured at the place"
"""How a nodule was found that no detector marked."""
UNMARKED_FACTOR = 1.6
"""The same where no detector's mark lies there."""


@dataclass(frozen=True, eq=False)
class Reading:
    """One exam as the pipeline read it. found: what reached the operating point, graded, in any number and size."""

    volume: Volume
    lungs: Lungs
    candidates: tuple[Candidate, ...]
    found: tuple[Finding, ...]


@dataclass(frozen=True, eq=False)
class Tools:
    """What the comparison asks of the pipeline.

    read: images of an earlier exam → its reading; its report, where there is one, says where its nodules lie.
    grade: marks in a volume → findings, in their order. threshold: score of the operating point. least_mm: mean
    diameter below which there is no finding.
    """

    read: Callable[[Prior], Reading]
    grade: Callable[[Volume, Lungs, Sequence[Candidate]], list[Finding]]
    threshold: float
    least_mm: float
    config: GrowthConfig = field(default_factory=GrowthConfig)


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of it. found: the exam's findings, each with its change, and those that only an earlier exam led to."""

    found: tuple[Finding, ...]
    priors: tuple[PriorExam, ...] = ()
    lost: tuple[LostNodule, ...] = ()
    notices: tuple[Notice, ...] = ()


def compare_exams(
    now: Reading, day: date, priors: Sequence[Prior], person: ClinicalData | None, tools: Tools
) -> Comparison:
    """Compare an exam of `day` with earlier ones, the latest first.

    An earlier exam that cannot be read or aligned is said in a notice, and its report, where there is one, stands in.
    person: its prior_category goes to a nodule of the exam of prior_exam_date (choice c).
    """
    notices: list[Notice] = []
    for prior in priors[: tools.config.most_tries]:
        one = _OneComparison(now, day, prior, tools)
        said = one.run(person)
        notices += said.notices
        if said.priors:
            more = _older(priors, prior, said)
            return replace(said, notices=(*notices, *more))
    return Comparison(now.found, notices=tuple(notices))


def earlier_exams(finding: Finding) -> tuple[NoduleAtExam, ...] | None:
    """A finding's earlier exams as the rules take them; None where its place was not compared."""
    if finding.change is None or finding.change.state == "not assessed":
        return None
    return tuple(_at_exam(past) for past in finding.change.exams)


def _older(priors: Sequence[Prior], used: Prior, said: Comparison) -> tuple[Notice, ...]:
    """How many earlier exams there are whose images were not looked at."""
    shown = {past.study_uid for f in said.found if f.change for past in f.change.exams} | {used.study_uid}
    left = [prior for prior in priors if prior.study_uid not in shown]
    if not left:
        return ()
    text = f"{len(left)} more earlier exam{'s' if len(left) > 1 else ''} of this patient, not compared: the latest was."
    return (Notice("prior-older", text),)


# -- one earlier exam ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Then:
    """A nodule of the earlier exam: as it was, where it was found, and what came before."""

    past: PastNodule
    history: tuple[PastNodule, ...] = ()


class _OneComparison:
    """The exam against one earlier exam."""

    def __init__(self, now: Reading, day: date, prior: Prior, tools: Tools) -> None:
        self.now, self.day, self.prior, self.tools = now, day, prior, tools
        self.found = list(now.found)
        self.lost: list[LostNodule] = []
        self.notices: list[Notice] = []

    def run(self, person: ClinicalData | None) -> Comparison:
        """By images, else by the report's sizes, else nothing."""
        if self.prior.study is not None:
            try:
                then = self.tools.read(self.prior)
            except LungscreenError as error:
                text = f"The earlier exam of {self.prior.date} could not be read ({error.code})."
                self.notices.append(Notice("prior-unreadable", text))
            else:
                alignment = align_exams(self.now.volume, self.now.lungs, then.volume, then.lungs, self.tools.config)
                if alignment.overlap >= self.tools.config.least_overlap:
                    return self._by_images(then, alignment, person)
                text = f"The lungs of the earlier exam of {self.prior.date} could not be aligned with this exam's."
                self.notices.append(Notice("prior-not-aligned", text))
        if self.prior.report is not None:
            return self._by_report(person)
        return Comparison(self.now.found, notices=tuple(self.notices))

    # -- whole -------------------------------------------------------------------------------------------------------
    def _by_images(self, then: Reading, alignment: Alignment, person: ClinicalData | None) -> Comparison:
        measured = [finding for finding in then.found if finding.measurement is not None]
        earlier = [self._then(finding, "finding") for finding in measured]
        matches = match_nodules(
            [_place(finding) for finding in self.now.found],
            [_place(finding) for finding in measured],
            alignment,
            self.tools.config,
        )
        earlier = self._categories(earlier, person)
        for pair in matches.pairs:
            self._settle(pair, earlier[pair.earlier])
        for n in matches.only_current:
            self._only_now(n, then, alignment, measured)
        for n in matches.only_earlier:
            self._only_then(earlier[n], measured[n], then, alignment)
        exam = self._exam("images", then.volume.series_uid, alignment.overlap)
        return Comparison(tuple(self.found), (exam,), tuple(self.lost), tuple(self.notices))

    def _only_now(self, n: int, then: Reading, alignment: Alignment, known: Sequence[Finding]) -> None:
        """A finding without a partner: new, unless the earlier exam shows it after all or not its place."""
        finding = self.found[n]
        expected = alignment.to_earlier(finding.candidate.centre_mm)
        if not then.volume.geometry.contains(expected):
            reason = f"its place lies outside the scan of {self.prior.date}"
            self.found[n] = _not_compared(finding, reason)
            return
        seen = self._again(finding, self.now.volume, then, expected, known)
        if seen is not None and (seen.measurement is None or finding.measurement is None):
            when = "now" if finding.measurement is None else f"on {self.prior.date}"
            self.found[n] = _not_compared(finding, f"{self.prior.date} shows it too, but it was not measured {when}")
            return
        if seen is None:
            text = f"new since {self.prior.date}"
            self.found[n] = replace(finding, change=NoduleChange("new", text, days=self._days))
            return
        past = self._then(seen, _how(seen)).past
        distance = math.dist(seen.candidate.centre_mm, expected)
        changed = self._with_change(finding, (past,), distance, ambiguous=False)
        if past.how == UNMARKED:
            text = f"Nothing was marked at its place on {self.prior.date}; what is there looks alike and was measured."
            changed = replace(changed, notices=(*changed.notices, Notice("seen-again", text)))
        self.found[n] = changed

    def _only_then(self, gone: _Then, finding: Finding, then: Reading, alignment: Alignment) -> None:
        """A nodule of the earlier exam without a partner: resolved, unless this exam shows it after all."""
        expected = alignment.to_current(finding.candidate.centre_mm)
        if not self.now.volume.geometry.contains(expected):
            text = f"seen on {self.prior.date}; its place lies outside this scan"
            self.lost.append(LostNodule(gone.past, "not assessed", text, expected))
            return
        neighbour = _taken(expected, self.now.found)
        seen = self._again(finding, then.volume, self.now, expected, self.now.found)
        if seen is None or seen.measurement is None:
            state, text = "resolved", "not seen now"
            if neighbour or seen is not None:
                state = "not assessed"
                text = "still there, but not measured" if seen else "it may have merged with another finding"
            text = f"{gone.past.mean_diameter_mm:.1f} mm on {self.prior.date}; {text}"
            self.lost.append(LostNodule(gone.past, state, text, expected))  # type: ignore[arg-type]
            return
        distance = math.dist(seen.candidate.centre_mm, expected)
        changed = self._with_change(seen, (*gone.history, gone.past), distance, ambiguous=False)
        if seen.measurement.mean_diameter_mm < self.tools.least_mm:
            self._say_small(changed, gone)
            return
        text = f"Below the operating point; a finding because the exam of {self.prior.date} shows it."
        self.found.append(replace(changed, notices=(*changed.notices, Notice("found-by-prior", text))))

    def _again(
        self, finding: Finding, shown: Volume, other: Reading, expected: Vector, known: Sequence[Finding]
    ) -> Finding | None:
        """The same nodule in the other exam, graded there; None where nothing alike is found.

        It is without a measurement where it lies there for certain, and could not be outlined.
        """
        size = finding.measurement.mean_diameter_mm if finding.measurement else finding.candidate.diameter_mm
        size = size if size > 0 else 6.0
        config = self.tools.config
        sighting = look_again(shown, finding.candidate.centre_mm, size, other.volume, expected, config)
        if sighting is None:
            return None
        alike = sighting.likeness >= config.least_likeness and sighting.contrast >= config.least_contrast
        mark = _nearest(other.candidates, sighting.centre_mm if alike else expected)
        if mark is not None and not alike and mark.score < CANDIDATE_SHARE * self.tools.threshold:
            mark = None
        if mark is None and not alike:
            return None
        mark = mark or Candidate(sighting.centre_mm, size, 0.0)
        if _taken(mark.centre_mm, known):
            return None
        (seen,) = self.tools.grade(other.volume, other.lungs, [mark])
        if seen.measurement is None:
            return seen if alike or mark.score >= self.tools.threshold else None
        return seen if _fits(seen.measurement.mean_diameter_mm / size, alike, mark.score > 0) else None

    # -- by sizes ----------------------------------------------------------------------------------------------------
    def _by_report(self, person: ClinicalData | None) -> Comparison:
        report = self.prior.report
        if report is None:
            raise AssertionError("expected a report")
        rows = [_Then(past, history) for past, history in zip(report.nodules, report.histories, strict=True)]
        earlier = self._categories(rows, person)
        places = [
            NodulePlace((0.0, 0.0, 0.0), t.past.mean_diameter_mm, t.past.nodule_type, t.past.side, t.past.zone)
            for t in earlier
        ]
        matches = match_by_size([_place(finding) for finding in self.now.found], places, self.tools.config)
        for pair in matches.pairs:
            self._settle(pair, earlier[pair.earlier])
        reason = f"the images of {self.prior.date} are not here, and its report has no nodule that must be this one"
        for n in matches.only_current:
            self.found[n] = _not_compared(self.found[n], reason)
        for n in matches.only_earlier:
            past = earlier[n].past
            text = f"{past.mean_diameter_mm:.1f} mm on {self.prior.date}; compared by size only, no partner for certain"
            self.lost.append(LostNodule(past, "not assessed", text))
        text = f"The exam of {self.prior.date} was compared by the sizes in its report only: its images are not here."
        self.notices.append(Notice("prior-by-size", text))
        exam = self._exam("report", report.series_uid, None)
        return Comparison(tuple(self.found), (exam,), tuple(self.lost), tuple(self.notices))

    # -- both --------------------------------------------------------------------------------------------------------
    @property
    def _days(self) -> int:
        return (self.day - self.prior.date).days

    def _settle(self, pair: Pair, then: _Then) -> None:
        """A finding and its partner."""
        finding = self.found[pair.current]
        if finding.measurement is None:
            self.found[pair.current] = _not_compared(finding, "it was not measured now")
            return
        changed = self._with_change(finding, (*then.history, then.past), pair.distance_mm, pair.ambiguous)
        self.found[pair.current] = changed
        if finding.measurement.mean_diameter_mm < self.tools.least_mm:
            self._say_small(changed, then)

    def _say_small(self, finding: Finding, then: _Then) -> None:
        size = finding.measurement.mean_diameter_mm if finding.measurement else 0.0
        text = f"{then.past.mean_diameter_mm:.1f} mm on {self.prior.date}, {size:.1f} mm now: below the least size of a finding"
        self.lost.append(LostNodule(then.past, "below the least size", text, finding.candidate.centre_mm))

    def _with_change(
        self, finding: Finding, exams: tuple[PastNodule, ...], distance: float | None, ambiguous: bool
    ) -> Finding:
        before = tuple(past for past in exams if _is_before(past, self.day))
        change = describe_change(finding, before, self.day)
        notices = finding.notices
        if ambiguous:
            text = "Another nodule was nearly as likely to be this one at the earlier exam: check which is which."
            notices = (*notices, Notice("match-ambiguous", text))
        return replace(finding, change=replace(change, distance_mm=distance, ambiguous=ambiguous), notices=notices)

    def _then(self, finding: Finding, how: str) -> _Then:
        """A nodule of the earlier exam with what its report says of it."""
        size = finding.measurement
        if size is None:
            raise AssertionError("expected a measured nodule")
        past = PastNodule(
            date=f"{self.prior.date:%Y%m%d}",
            study_uid=self.prior.study_uid,
            nodule_type=finding.nodule_type,
            long_axis_mm=size.long_axis_mm,
            short_axis_mm=size.short_axis_mm,
            mean_diameter_mm=size.mean_diameter_mm,
            volume_mm3=size.volume_mm3,
            volume_sd_mm3=size.volume_sd_mm3,
            solid_mean_diameter_mm=size.solid_mean_diameter_mm,
            solid_volume_mm3=size.solid_volume_mm3,
            centre_mm=finding.candidate.centre_mm,
            how=how,
            side=finding.location.side,
            zone=finding.location.zone,
        )
        return self._with_report(past)

    def _with_report(self, past: PastNodule) -> _Then:
        """Number, category and history from the earlier exam's own report, by place."""
        report = self.prior.report
        if report is None or past.centre_mm is None:
            return _Then(past)
        near = [
            (math.dist(row.centre_mm, past.centre_mm), n)
            for n, row in enumerate(report.nodules)
            if row.centre_mm is not None
        ]
        distance, n = min(near, default=(math.inf, -1))
        if distance > max(NEAR_CANDIDATE_MM, past.mean_diameter_mm / 2):
            return _Then(past)
        row = report.nodules[n]
        return _Then(replace(past, category=row.category, number=row.number), report.histories[n])

    def _categories(self, earlier: Sequence[_Then], person: ClinicalData | None) -> list[_Then]:
        """The exam's category, where only that is known, goes to the nodule that choice c names."""
        category = self._exam_category(person)
        shared = share_prior_category([_at_exam(then.past) for then in earlier], category)
        return [
            replace(then, past=replace(then.past, category=nodule.category))
            for then, nodule in zip(earlier, shared, strict=True)
        ]

    def _exam_category(self, person: ClinicalData | None) -> str:
        if self.prior.report is not None:
            return self.prior.report.category
        if person is None or person.prior_exam_date not in ("", f"{self.prior.date:%Y%m%d}"):
            return ""
        return person.prior_category

    def _exam(self, how: str, series_uid: str, overlap: float | None) -> PriorExam:
        category = self.prior.report.category if self.prior.report else ""
        when = f"{self.prior.date:%Y%m%d}"
        return PriorExam(when, self.prior.study_uid, how, series_uid, overlap, category)  # type: ignore[arg-type]


# -- small pieces ----------------------------------------------------------------------------------------------------
def _not_compared(finding: Finding, reason: str) -> Finding:
    text = f"Graded as on a first exam: {reason}."
    return replace(
        finding,
        change=say_not_compared(reason),
        notices=(*finding.notices, Notice("place-not-compared", text)),
    )


def _place(finding: Finding) -> NodulePlace:
    size = finding.measurement.mean_diameter_mm if finding.measurement else finding.candidate.diameter_mm
    where = finding.location
    return NodulePlace(
        finding.candidate.centre_mm, size if size > 0 else None, finding.nodule_type, where.side, where.zone
    )


def _nearest(candidates: Sequence[Candidate], place: Vector) -> Candidate | None:
    """The candidate that lies at a place, None where none does."""
    near = [(math.dist(candidate.centre_mm, place), candidate.score, candidate) for candidate in candidates]
    near = [row for row in near if row[0] <= NEAR_CANDIDATE_MM]
    return min(near, key=lambda row: (row[0], -row[1]))[2] if near else None


def _fits(factor: float, alike: bool, marked: bool) -> bool:
    """Whether a diameter `factor` times the other exam's can be the same nodule's.

    What nothing marked must be of much the same size; what looks otherwise was, or has become, smaller.
    """
    if not marked:
        return 1 / UNMARKED_FACTOR <= factor <= UNMARKED_FACTOR
    return 1 / LARGEST_FACTOR <= factor <= (LARGEST_FACTOR if alike else 1.0)


def _taken(place: Vector, known: Sequence[Finding]) -> bool:
    """Whether a place lies within a finding that is known already."""
    return any(
        math.dist(place, finding.candidate.centre_mm)
        <= TAKEN_SHARE * max(finding.measurement.mean_diameter_mm if finding.measurement else 0.0, 4.0) / 2
        for finding in known
    )


def _how(seen: Finding) -> str:
    return "below the operating point" if seen.candidate.score > 0 else UNMARKED


def _is_before(past: PastNodule, day: date) -> bool:
    return len(past.date) == 8 and past.date < f"{day:%Y%m%d}"


def _at_exam(past: PastNodule) -> NoduleAtExam:
    return NoduleAtExam(
        datetime.strptime(past.date, "%Y%m%d").date() if past.date else None,
        past.nodule_type,
        past.long_axis_mm,
        past.short_axis_mm,
        solid_mean_diameter_mm=past.solid_mean_diameter_mm,
        volume_mm3=past.volume_mm3,
        solid_volume_mm3=past.solid_volume_mm3,
        category=past.category,
    )

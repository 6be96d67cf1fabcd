"""What a reader says: the content of a read, as it is saved, signed and exported."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from lungscreen.records import NoduleType

__all__ = [
    "QUALITIES",
    "REJECT_REASONS",
    "CadVerdict",
    "Content",
    "Decision",
    "ExamWords",
    "OwnMark",
    "PlaceMm",
    "Words",
]  # fmt: skip

REJECT_REASONS: dict[str, str] = {
    "vessel": "a vessel or a branching of vessels",
    "scar": "scar, fibrosis or atelectasis",
    "lymph-node": "an intrapulmonary or perifissural lymph node",
    "pleura": "pleura, fissure or chest wall",
    "airway": "mucus or airway wall",
    "artefact": "motion, noise or another artefact",
    "benign": "a nodule that is benign by its look",
    "small": "too small to count",
    "other": "something else: see the note",
}
"""Why a mark is no nodule, or none that counts."""

QUALITIES = ("good", "limited", "non-diagnostic")

Quality = Literal["good", "limited", "non-diagnostic"]
CadVerdict = Literal["accept", "reject", "unsure"]
Coordinate = Annotated[FiniteFloat, Field(ge=-10_000, le=10_000)]
PlaceMm = tuple[Coordinate, Coordinate, Coordinate]
"""LPS mm."""
Size = Annotated[FiniteFloat, Field(gt=0, le=400)]
Text = Annotated[str, Field(max_length=4000)]
MarkId = Annotated[str, Field(pattern="^m[0-9]{1,4}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Words(_Strict):
    """What a reader says of one nodule. None: nothing, so that what was measured stands."""

    type: NoduleType | None = None
    long_axis_mm: Size | None = None
    short_axis_mm: Size | None = None
    solid_mean_diameter_mm: Annotated[FiniteFloat, Field(ge=0, le=400)] | None = None
    perifissural: bool | None = None
    spiculated: bool | None = None
    suspicious: bool = False
    confidence: Annotated[int, Field(ge=0, le=100)] | None = None
    note: Text = ""

    @model_validator(mode="after")
    def _axes_belong_together(self) -> Words:
        if (self.long_axis_mm is None) != (self.short_axis_mm is None):
            raise ValueError("both axes, or none")
        if self.long_axis_mm is not None and (self.short_axis_mm or 0) > self.long_axis_mm:
            raise ValueError("the short axis is not longer than the long one")
        return self


class OwnMark(_Strict):
    """A nodule that the reader added.

    measured: as the server told it; what a client sends there is not looked at.
    """

    id: MarkId
    position_mm: PlaceMm
    measured: dict[str, Any] | None = None
    words: Words = Words()


class Decision(_Strict):
    """What the reader says of one of CAD's marks."""

    finding: Annotated[int, Field(ge=1, le=100_000)]
    verdict: CadVerdict
    reason: str | None = None
    words: Words = Words()

    @model_validator(mode="after")
    def _reason_with_a_reject(self) -> Decision:
        if (self.verdict == "reject") != (self.reason in REJECT_REASONS):
            raise ValueError("a reject has one of the reasons, and nothing else has one")
        return self


class ExamWords(_Strict):
    """What the reader says of the whole exam. None: nothing."""

    s_modifier: bool | None = None
    s_text: Text = ""
    quality: Quality | None = None
    inflammation: bool | None = None
    text: Text = ""


class Content(_Strict):
    """All that a reader said of a study."""

    marks: Annotated[tuple[OwnMark, ...], Field(max_length=200)] = ()
    decisions: Annotated[tuple[Decision, ...], Field(max_length=500)] = ()
    exam: ExamWords = ExamWords()
    acknowledged: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], Field(max_length=200)] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Content:
        for ids in ([m.id for m in self.marks], [d.finding for d in self.decisions]):
            if len(set(ids)) < len(ids):
                raise ValueError("each mark and each finding once")
        return self

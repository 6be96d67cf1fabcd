"""What the rules answer: a category, with its clause and what it lacked. An advice is `records.Advice`, a risk
`records.Risk`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from lungscreen import records
from lungscreen.errors import Notice

__all__ = ["MANAGEMENT", "RANK", "STAYING", "Category", "LungRads", "highest", "read_category"]


class LungRads(StrEnum):
    """Categories of Lung-RADS v2022, and the value where the rule could not be applied."""

    INCOMPLETE = "0"
    NEGATIVE = "1"
    BENIGN = "2"
    PROBABLY_BENIGN = "3"
    SUSPICIOUS_4A = "4A"
    SUSPICIOUS_4B = "4B"
    SUSPICIOUS_4X = "4X"
    NOT_CLASSIFIED = "not classified"
    """Lung-RADS leaves it out by its own words (thin-walled cysts)."""
    NOT_ASSESSED = records.NOT_ASSESSED
    """The rule could not be applied."""


RANK: dict[LungRads, int] = {
    LungRads.NEGATIVE: 1,
    LungRads.BENIGN: 2,
    LungRads.PROBABLY_BENIGN: 3,
    LungRads.SUSPICIOUS_4A: 4,
    LungRads.SUSPICIOUS_4B: 5,
    LungRads.SUSPICIOUS_4X: 6,
}
"""Categories in the order of suspicion; 0, "not classified" and "not assessed" have no place in it."""

STAYING = (LungRads.SUSPICIOUS_4B, LungRads.SUSPICIOUS_4X)
"""Categories that a nodule leaves only when it is proven benign."""

MANAGEMENT: dict[LungRads, str] = {
    LungRads.INCOMPLETE: "compare with the earlier exam, or repeat what could not be evaluated, or low-dose CT in 1"
    " to 3"
    " months where infection or inflammation is suspected",
    LungRads.NEGATIVE: "low-dose CT in 12 months",
    LungRads.BENIGN: "low-dose CT in 12 months",
    LungRads.PROBABLY_BENIGN: "low-dose CT in 6 months",
    LungRads.SUSPICIOUS_4A: "low-dose CT in 3 months; PET/CT may be considered where the solid nodule or part is ≥ 8"
    " mm",
    LungRads.SUSPICIOUS_4B: "referral; diagnostic CT, PET/CT where the solid nodule or part is ≥ 8 mm, or tissue"
    " sampling",
    LungRads.SUSPICIOUS_4X: "referral; diagnostic CT, PET/CT where the solid nodule or part is ≥ 8 mm, or tissue"
    " sampling",
    LungRads.NOT_CLASSIFIED: "",
    LungRads.NOT_ASSESSED: "",
}
"""Management as the Lung-RADS v2022 table has it; intervals count from the exam that is read (note 2)."""


@dataclass(frozen=True, slots=True)
class Category:
    """A Lung-RADS category with its reason.

    clause: the row, note or declared choice that decided.
    other: the category by the other measure (volume or diameter), empty where not known.
    beside: a category that is shown beside this one (exam level).
    needs: what was missing, where it could not be assessed.
    doubtful: the findings that do not decide, in words (exam level).
    """

    name: LungRads
    clause: str
    reason: str
    other: str = ""
    beside: str = ""
    significant_other: bool | None = None
    """Modifier S; None is not assessed."""
    notices: tuple[Notice, ...] = ()
    needs: tuple[str, ...] = ()
    doubtful: str = ""

    @property
    def management(self) -> str:
        """What the table advises."""
        return MANAGEMENT[self.name]

    @property
    def label(self) -> str:
        """The category with its modifier: "2", "2S"."""
        return (
            f"{self.name}S" if self.significant_other and self.name in (LungRads.INCOMPLETE, *RANK) else str(self.name)
        )


def read_category(text: str) -> LungRads | None:
    """The Lung-RADS category that a report or a table names ("4a", "2S"), None where it names none."""
    plain = "".join(text.upper().split())
    plain = plain.removeprefix("LUNG-RADS").removeprefix("CATEGORY").removesuffix("S")
    return next(
        (category for category in LungRads if category is not LungRads.NOT_ASSESSED and category == plain), None
    )


def highest(categories: Iterable[LungRads]) -> LungRads:
    """The most suspicious of some categories 1 to 4X.

    Errors: ValueError where there is none.
    """
    return max(categories, key=RANK.__getitem__)

"""Everything that can go wrong, by stable code.

    LungscreenError
    ├── UsageError       the command, an option or a configuration is wrong
    ├── InputError       a file, folder, archive or study cannot be read
    ├── VolumeError      a series was read but is no volume that can be trusted
    ├── WeightsError     weights are missing, damaged or of another architecture
    └── OutputError      results cannot be written

A code never changes its meaning. What each means and what a site does about it stands in `CODES`, from which the
documentation's table is checked. A `Notice` carries a code too: nothing refused, but the reader has to know.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

from lungscreen.codes import CODES

__all__ = [
    "InputError",
    "LungscreenError",
    "Notice",
    "OutputError",
    "Refusal",
    "UsageError",
    "VolumeError",
    "WeightsError",
    "is_lack_of_memory",
]


NO_MEMORY = ("allocate memory", "not enough memory", "out of memory", "bad_alloc", "failed to allocate")
"""What PyTorch and ITK say where Python would raise MemoryError."""


class LungscreenError(Exception):
    """A refusal with a stable code, a reason in plain words and, where it helps, the place.

    `where` names the file, UID or setting. It may identify a patient (a path can), so it is shown in `refused.csv`
    and on the terminal of the person who named the input, never in a log.
    """

    def __init__(self, code: str, reason: str, where: str = "") -> None:
        if code not in CODES:
            raise AssertionError(f"unknown code {code!r}: add it to lungscreen/codes.py")
        super().__init__(code, reason, where)
        self.code = code
        self.reason = reason
        self.where = where

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}" + (f" [{self.where}]" if self.where else "")


class UsageError(LungscreenError):
    """The command, an option or a configuration is wrong: nothing was read."""


class InputError(LungscreenError):
    """A file, folder, archive or study cannot be read."""


class VolumeError(LungscreenError):
    """A series was found but does not make a volume that can be trusted."""


class WeightsError(LungscreenError):
    """Weights are missing, damaged or of another architecture."""


class OutputError(LungscreenError):
    """Results cannot be written."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that was dropped, guessed, substituted or is out of the ordinary; it reaches the report."""

    code: str
    text: str

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise AssertionError(f"unknown code {self.code!r}: add it to lungscreen/codes.py")


@dataclass(frozen=True, slots=True)
class Refusal:
    """What was not read, or not whole: a row of `refused.csv`.

    `scope` says how much it concerns: one file, one series (another one may have been read), or a whole study.
    """

    where: str
    code: str
    reason: str
    scope: Literal["file", "series", "study"] = "file"
    study_uid: str = ""
    patient_id: str = ""

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise AssertionError(f"unknown code {self.code!r}: add it to lungscreen/codes.py")


def is_lack_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, which is no fault of the file that was being read."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, MemoryError) or any(phrase in words for phrase in NO_MEMORY)

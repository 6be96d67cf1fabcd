"""The outputs by name. An output's code is imported only where it is written."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lungscreen.outputs.interface import Output

__all__ = ["OUTPUTS", "OutputsConfig", "load_output"]

OUTPUTS = {
    "json": "lungscreen.outputs.report_json:ReportJson",
    "page": "lungscreen.outputs.page.whole:ReportPage",
    "candidates": "lungscreen.outputs.candidates:CandidatesTable",
    "masks": "lungscreen.outputs.masks:Masks",
}
"""Name and where its class is. Files in the order of this table."""

ALWAYS = "json"
"""The report itself: tables, later exams and every reader of results are made from it."""


@dataclass(frozen=True)
class OutputsConfig:
    """What is written of each study.

    write: names of `OUTPUTS`; report.json is written whether or not `json` is among them.
    """

    write: tuple[str, ...] = ("page", "candidates")

    def __post_init__(self) -> None:
        unknown = sorted(set(self.write) - set(OUTPUTS))
        if unknown:
            raise ValueError(f"no output {unknown[0]!r}; there are: {', '.join(OUTPUTS)}")

    @property
    def names(self) -> tuple[str, ...]:
        """All that is written, in the order of `OUTPUTS`."""
        return tuple(name for name in OUTPUTS if name == ALWAYS or name in self.write)


def load_output(name: str) -> Output:
    """The output of that name."""
    module, _, kind = OUTPUTS[name].partition(":")
    output: Output = getattr(importlib.import_module(module), kind)()
    return output

"""The outputs by name. An output's code is imported only where it is written."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lungscreen.errors import UsageError

if TYPE_CHECKING:
    from lungscreen.outputs.interface import Output

__all__ = ["OUTPUTS", "OutputsConfig", "check_extras", "import_outputs", "load_output"]

OUTPUTS = {
    "json": "lungscreen.outputs.report_json:ReportJson",
    "page": "lungscreen.outputs.page.whole:ReportPage",
    "candidates": "lungscreen.outputs.candidates:CandidatesTable",
    "masks": "lungscreen.outputs.masks:Masks",
    "masks-nrrd": "lungscreen.outputs.masks_nrrd:NrrdMasks",
    "pdf": "lungscreen.outputs.pdf:PdfReport",
    "fhir": "lungscreen.outputs.fhir:FhirBundle",
    "dicom": "lungscreen.outputs.dicom.output:DicomObjects",
    "dicom-labelmap": "lungscreen.outputs.dicom.output:LabelMaps",
    "dicom-kos": "lungscreen.outputs.dicom.output:KeyObjects",
    "dicom-gsps": "lungscreen.outputs.dicom.output:PresentationStates",
    "dicom-cad": "lungscreen.outputs.dicom.output:ChestCad",
    "room": "lungscreen.outputs.room_pack:RoomPack",
}
"""Name and where its class is. Files in the order of this table."""

NEEDED = {
    "pdf": ("fpdf",),
    "dicom": ("fpdf",),
    "dicom-gsps": ("highdicom",),
    "room": ("zstandard",),
}
"""Packages that an output cannot do without: of the extra lungscreen[dicom], of the room's of lungscreen[room]."""

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


def check_extras(names: Iterable[str]) -> None:
    """See that what some outputs need is installed, before anything is read.

    Errors: `extra-missing`, which names the extra.
    """
    for name in names:
        missing = [package for package in NEEDED.get(name, ()) if importlib.util.find_spec(package) is None]
        if missing:
            reason = f"needs {' and '.join(missing)}: pip install 'lungscreen[{'room' if name == 'room' else 'dicom'}]'"
            raise UsageError("extra-missing", reason, f"output {name}")


def load_output(name: str) -> Output:
    """The output of that name."""
    module, _, kind = OUTPUTS[name].partition(":")
    output: Output = getattr(importlib.import_module(module), kind)()
    return output


def import_outputs(names: Iterable[str]) -> None:
    """Import what these outputs are made with, before it is needed; what cannot be imported says so when it is."""
    with suppress(ImportError):
        for name in names:
            for module in (OUTPUTS[name].partition(":")[0], *NEEDED.get(name, ())):
                importlib.import_module(module)

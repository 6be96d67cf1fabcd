"""The one table of codes: what each means and what a site does about it.

Kinds: "refusal" (a file, series, study or command was not carried out) and "notice" (it was, and the report says this).
A code is part of the interface: it may be added, never renamed or given another meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["CODES", "Code"]


@dataclass(frozen=True, slots=True)
class Code:
    """One row of the table."""

    kind: Literal["refusal", "notice"]
    meaning: str
    action: str


CODES: dict[str, Code] = {
    # -- the command ---------------------------------------------------------------------------------------------
    "usage": Code(
        "refusal", "The command line is wrong.", "Read the message; `lungscreen COMMAND --help` lists the options."
    ),
    "config-invalid": Code(
        "refusal",
        "A pipeline or training configuration is wrong: an unknown key, a wrong type or range.",
        "Correct the named key.",
    ),
    "weights-invalid": Code(
        "refusal",
        "Weights are missing, damaged or belong to another network.",
        "Reinstall, or point the pipeline at intact weights.",
    ),
    "output-failed": Code(
        "refusal", "Results could not be written.", "Check the folder's rights and free space, then run again."
    ),
    "internal-error": Code(
        "refusal",
        "The software failed on this study; the others went on.",
        "Report it with the log; the study was not read.",
    ),
    # -- files and containers ------------------------------------------------------------------------------------
    "input-missing": Code("refusal", "The path does not exist.", "Check the path."),
    "input-empty": Code("refusal", "The folder or archive holds no file.", "Check the path or the transfer."),
    "no-ct": Code(
        "refusal",
        "No CT series was found in the input.",
        "Check that the CT itself, not only reports or scouts, was sent.",
    ),
    # -- series: what the header pass finds ----------------------------------------------------------------------
    # -- volume: geometry and pixels -----------------------------------------------------------------------------
    # -- lungs ---------------------------------------------------------------------------------------------------
    # -- detect and measure --------------------------------------------------------------------------------------
    # -- classify and assess -------------------------------------------------------------------------------------
    # -- training and evaluation ---------------------------------------------------------------------------------
}
"""All codes, by name; each stage's part stands under its own heading."""

"""What a destination says of an object that it was given."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Delivery", "UnreachableError", "dicom_status", "stored_or_refused"]


@dataclass(frozen=True)
class Delivery:
    """How one object was taken.

    code, status: why it was refused, or what was said beside it; empty where all is well.
    """

    stored: bool
    code: str = ""
    status: str = ""


class UnreachableError(Exception):
    """The destination is away, or lets nobody in.

    status: what it said of it, if anything.
    """

    def __init__(self, status: str = "") -> None:
        super().__init__(status)
        self.status = status


def dicom_status(status: int) -> str:
    """A DICOM status as the standard writes it."""
    return f"0x{status:04X}"


def stored_or_refused(status: int) -> Delivery:
    """What a DICOM status means (PS3.4 B.2.3, PS3.7 annex C): 0 is stored, 0x0001 and 0xBxxx are with a warning."""
    if status == 0:
        return Delivery(stored=True)
    warned = status == 0x0001 or status >> 12 == 0xB
    return Delivery(warned, "result-warned" if warned else "result-refused", dicom_status(status))

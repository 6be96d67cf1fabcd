"""What the networks were trained and measured on, as data; a scan outside it is read, and the report says so."""

from __future__ import annotations

from collections.abc import Collection

from lungscreen.errors import Notice
from lungscreen.kernels import classify_kernel
from lungscreen.records import Acquisition

__all__ = [
    "LARGEST_SLICE_THICKNESS_MM",
    "SAID_BY_STAGES",
    "SMALLEST_CTDI_VOL_MGY",
    "SMALLEST_EXPOSURE_MAS",
    "SMALLEST_TUBE_CURRENT_MA",
    "VALIDATED_KVP",
    "VALIDATED_ON",
    "check_acquisition",
]

VALIDATED_KVP = (120.0, 140.0)
"""Tube voltage of the LIDC-IDRI scans (Armato et al. 2011)."""

SMALLEST_CTDI_VOL_MGY = 3.0
"""Up to here a chest CT counts as low dose (ACR–STR practice parameter, patient of standard size)."""

SMALLEST_TUBE_CURRENT_MA = 100.0
"""Stands in where the header has no CTDIvol: with half-second rotations some 50 mAs, about 3 mGy. Our choice."""

SMALLEST_EXPOSURE_MAS = 60.0
"""Stands in where it has no tube current either: some scanners of the training data wrote 3 mAs, or 6439, at
hundreds of mA, so the header's mAs is trusted last. Our choice."""

LARGEST_SLICE_THICKNESS_MM = 2.5
"""LUNA16 left out thicker scans."""

VALIDATED_ON = (
    f"Trained and measured on standard-dose scans of {VALIDATED_KVP[0]:g} to {VALIDATED_KVP[1]:g} kVp, mostly with"
    " soft "
    f"or standard kernels, slices up to {LARGEST_SLICE_THICKNESS_MM:g} mm."
)
"""Stands on every report."""

SAID_BY_STAGES = {
    "dose-not-validated": ("low-dose",),
    "kernel-not-validated": ("sharp-kernel", "kernel-unknown"),
    "thickness-not-validated": ("thick-slices",),
    "dose": ("dose-unknown",),
    "kernel": ("kernel-unknown",),
}
"""What is not said again where an earlier stage has said it, by its codes."""

_LOW_DOSE = "The scan is low-dose; training data are standard-dose. Sensitivity and false alarms may differ."


def check_acquisition(acquisition: Acquisition, said: Collection[str] = ()) -> tuple[Notice, ...]:
    """A notice for each of tube voltage, dose, kernel and slice thickness that is outside, or not in the header.

    said: codes of the notices that earlier stages gave; what they said is not said twice.
    """
    found = (
        _check_kvp(acquisition.kvp),
        _check_dose(acquisition),
        _check_kernel(acquisition.kernel),
        _check_thickness(acquisition.slice_thickness_mm),
    )
    missing = [name for name, known in _known(acquisition).items() if not known and not _said(name, said)]
    notices = [notice for notice in found if notice and not _said(notice.code, said)]
    if missing:
        text = f"Not in the header, so not compared with the training data: {', '.join(missing)}."
        notices.append(Notice("acquisition-unknown", text))
    return tuple(notices)


def _said(what: str, said: Collection[str]) -> bool:
    return any(code in said for code in SAID_BY_STAGES.get(what, ()))


def _known(acquisition: Acquisition) -> dict[str, bool]:
    doses = (acquisition.ctdi_vol_mgy, acquisition.exposure_mas, acquisition.tube_current_ma)
    return {
        "kVp": bool(acquisition.kvp),
        "dose": any(doses),
        "kernel": bool(acquisition.kernel),
        "slice thickness": bool(acquisition.slice_thickness_mm),
    }


def _check_kvp(kvp: float | None) -> Notice | None:
    low, high = VALIDATED_KVP
    if not kvp or low <= kvp <= high:
        return None
    return Notice("kvp-not-validated", f"Tube voltage is {kvp:g} kVp; training data are {low:g} to {high:g} kVp.")


def _check_dose(acquisition: Acquisition) -> Notice | None:
    """The first of CTDIvol, mA and mAs that the header has decides; a zero is no value."""
    for value, least, unit in (
        (acquisition.ctdi_vol_mgy, SMALLEST_CTDI_VOL_MGY, "mGy CTDIvol"),
        (acquisition.tube_current_ma, SMALLEST_TUBE_CURRENT_MA, "mA"),
        (acquisition.exposure_mas, SMALLEST_EXPOSURE_MAS, "mAs"),
    ):
        if value:
            low = value <= least if unit.startswith("mGy") else value < least
            return Notice("dose-not-validated", f"{_LOW_DOSE} ({value:.3g} {unit})") if low else None
    return None


def _check_kernel(kernel: tuple[str, ...]) -> Notice | None:
    if not kernel:
        return None
    name = kernel[0].strip().upper()
    kind = classify_kernel(kernel)
    if kind == "sharp":
        return Notice(
            "kernel-not-validated", f"Kernel {name} is sharp; most training data have soft or standard kernels."
        )
    if kind == "unknown":
        return Notice("kernel-not-validated", f"Kernel {name} is not among the known soft and standard kernels.")
    return None


def _check_thickness(thickness_mm: float | None) -> Notice | None:
    if not thickness_mm or thickness_mm <= LARGEST_SLICE_THICKNESS_MM:
        return None
    return Notice(
        "thickness-not-validated",
        f"Slices are {thickness_mm:g} mm thick; training data are up to {LARGEST_SLICE_THICKNESS_MM:g} mm. "
        "Small nodules may be missed and sizes be off.",
    )

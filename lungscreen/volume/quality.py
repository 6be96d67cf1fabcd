"""What a stack's geometry says about quality, as notices; and the refusals that need no pixels."""

from __future__ import annotations

from lungscreen.errors import Notice, VolumeError
from lungscreen.volume.config import (
    CONTIGUOUS_SHARE,
    OVERLAP_SHARE,
    THICK_MM,
    THICKEST_MM,
    TILT_DEGREES,
    VolumeConfig,
)
from lungscreen.volume.neighbours import Misfits
from lungscreen.volume.stack import Stack

__all__ = ["check_size", "shift_notices", "stack_notices", "thickness_notices"]

_SLACK_MM = 0.01


def check_size(slices: int, spacing_mm: float, thickness_mm: float | None, config: VolumeConfig) -> None:
    """Errors: `too-few-slices`, `too-short`, `too-thick`."""
    least = max(config.min_slices, 2)
    if slices < least:
        raise VolumeError("too-few-slices", f"{slices} slice(s); at least {least} are needed")
    thickest = max(thickness_mm or 0.0, spacing_mm)
    if thickest > THICKEST_MM + _SLACK_MM:
        raise VolumeError("too-thick", f"slices of {thickest:.2f} mm; at most {THICKEST_MM:g} mm are read")
    if slices * spacing_mm < config.min_extent_mm - _SLACK_MM:
        raise VolumeError(
            "too-short", f"{slices * spacing_mm:.0f} mm are covered; at least {config.min_extent_mm:g} mm are needed"
        )


def thickness_notices(spacing_mm: float, thickness_mm: float | None) -> list[Notice]:
    """Thick, overlapping or gapped slices."""
    found = []
    thickest = max(thickness_mm or 0.0, spacing_mm)
    if thickest > THICK_MM + _SLACK_MM:
        found.append(Notice("thick-slices", f"Slices of {thickest:.2f} mm: small nodules may be missed."))
    if thickness_mm and thickness_mm > OVERLAP_SHARE * spacing_mm:
        found.append(Notice("overlapping", f"Slices of {thickness_mm:.2f} mm every {spacing_mm:.2f} mm."))
    if thickness_mm and thickness_mm < CONTIGUOUS_SHARE * spacing_mm:
        found.append(Notice("gaps-between-slices", f"Slices of {thickness_mm:.2f} mm every {spacing_mm:.2f} mm."))
    return found


def stack_notices(stack: Stack) -> list[Notice]:
    """What was left out, made or moved."""
    found = []
    if len(stack.stray):
        found.append(Notice("slices-stray", f"{len(stack.stray)} slice(s) far off the rest were left out."))
    if stack.resampled:
        steps = stack.along_mm[1:] - stack.along_mm[:-1]
        text = f"Uneven spacing ({steps.min():.2f} to {steps.max():.2f} mm), interpolated to {stack.spacing_mm:.2f} mm."
        found.append(Notice("spacing-resampled", text))
    elif len(stack.filled_mm):
        places = ", ".join(f"{place:.1f}" for place in stack.filled_mm[:10])
        more = " and more" if len(stack.filled_mm) > 10 else ""
        text = f"{len(stack.filled_mm)} missing slice(s) interpolated, at {places}{more} mm along the stack."
        found.append(Notice("slices-filled", text))
    if stack.tilt_degrees:
        what = "gantry tilt" if stack.tilt_degrees >= TILT_DEGREES[0] else "sideways drift"
        found.append(Notice("gantry-tilt", f"A {what} of {stack.tilt_degrees:.2f} degrees was taken out."))
    return found


def shift_notices(misfits: Misfits) -> list[Notice]:
    """Steps of soft tissue between neighbouring slices."""
    if not misfits.shifts:
        return []
    more = f" and {len(misfits.shifts) - 4} more" if len(misfits.shifts) > 4 else ""
    return [Notice("values-uneven", f"Soft tissue steps by {', '.join(misfits.shifts[:4])}{more} along the stack.")]

"""Reconstruction kernel ─► soft, standard, sharp or unknown, by the makers' names.

GE writes words, Siemens a letter and a number (sharper as it grows), Philips one or two letters, Canon (Toshiba) FC and
a number. The families' meaning is the makers' public description; what is not in the table is unknown, not guessed.
"""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["KernelClass", "classify_kernel"]

KernelClass = Literal["soft", "standard", "sharp", "unknown"]

_RULES: tuple[tuple[str, KernelClass], ...] = (
    # GE, United Imaging and whoever writes words
    (r".*(LUNG|BONE|EDGE|SHARP|ULTRA|HIGH.?RES).*", "sharp"),
    (r".*(SOFT|SMOOTH).*", "soft"),
    (r".*(STANDARD|STND|STAND|MEDIUM|DETAIL|CHEST|BODY).*", "standard"),
    # Siemens: B30f, B31s, I41f, Br40, Bl57d, Qr44, Bv36, D30f, ...
    (r"[A-Z][A-Z]?[123]\d[A-Z]?(\\.*)?", "soft"),
    (r"[A-Z][A-Z]?4\d[A-Z]?(\\.*)?", "standard"),
    (r"[A-Z][A-Z]?[5-9]\d[A-Z]?(\\.*)?", "sharp"),
    # Philips
    (r"A|CA|UA|EA", "soft"),
    (r"B|C|CB|CC|UB|UC|EB|EC", "standard"),
    (r"D|E|L|Y[A-E]?", "sharp"),
)
"""First match of the whole, upper-case name wins; Canon's FC numbers are looked up before."""

_CANON: tuple[tuple[range, KernelClass], ...] = (
    (range(1, 3), "soft"),
    (range(3, 10), "standard"),
    (range(10, 13), "soft"),
    (range(13, 20), "standard"),
    (range(30, 40), "sharp"),
    (range(50, 60), "sharp"),
    (range(80, 90), "sharp"),
)
"""FC01-09 body with, FC10-19 without beam-hardening correction, FC30s bone, FC50s lung, FC80s high resolution."""


def classify_kernel(kernel: tuple[str, ...]) -> KernelClass:
    """How sharp a ConvolutionKernel is; its first value counts (later ones give iteration strengths and the like)."""
    name = kernel[0].strip().upper() if kernel else ""
    canon = re.fullmatch(r"FC(\d{1,3}).*", name)
    if canon:
        return next((kind for numbers, kind in _CANON if int(canon[1]) in numbers), "unknown")
    return next((kind for pattern, kind in _RULES if re.fullmatch(pattern, name)), "unknown")

"""What RescaleType (0028,1054) says of a CT's values."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["unit_of_values"]

_HOUNSFIELD = re.compile(r"HU|HOUNSFIELDS?(UNITS?|NUMBERS?|EINHEIT(EN)?)?|UNITE?S?HOUNSFIELD")


def unit_of_values(rescale_type: str) -> Literal["HU", "unspecified", "other"]:
    """The unit: HU where nothing is said (PS3.3, C.11.1.1.2) or they are spelled out; US is unspecified."""
    letters = re.sub(r"[\s.\-]+", "", rescale_type.upper())
    if not letters or _HOUNSFIELD.fullmatch(letters):
        return "HU"
    return "unspecified" if letters in ("US", "UNSPECIFIED") else "other"

"""A share with its interval, or that there is too little to tell one."""

from __future__ import annotations

from typing import Any

__all__ = ["LEAST_OF_A_SHARE", "share_of"]

LEAST_OF_A_SHARE = 10
"""A share of fewer than so many is not told."""

Z = 1.959964


def share_of(part: int, whole: int) -> dict[str, Any]:
    """A share with its 95 % interval (Wilson); of too few, only that."""
    if whole < LEAST_OF_A_SHARE:
        return {"of": whole, "share": None, "why": f"fewer than {LEAST_OF_A_SHARE}"}
    p, n = part / whole, whole
    middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
    half = Z * ((p * (1 - p) + Z * Z / (4 * n)) / n) ** 0.5 / (1 + Z * Z / n)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return {"of": n, "share": round(p, 3), "low": round(low, 3), "high": round(high, 3)}

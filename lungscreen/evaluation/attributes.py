"""Estimated ratings against the readers': how well they are ordered alike, and how far apart they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from lungscreen.evaluation.tables import Table

__all__ = ["RATED", "attribute_figures", "read_attributes"]

RATED = "_rated"
"""Ending of a column of readers' ratings; the column of the estimates is named without it."""

Floats = NDArray[np.float64]


def read_attributes(table: Table) -> dict[str, tuple[Floats, Floats]]:
    """Of each pair of columns NAME and NAME_rated: estimates and ratings, rows where either is empty left out.

    Errors: `table-value-invalid` for a cell that is no number.
    """
    found = {}
    for column in table.header:
        name = column.removesuffix(RATED)
        if name == column or table.place((name,)) is None:
            continue
        filled = [
            bool(estimate) and bool(rated)
            for estimate, rated in zip(table.text((name,)), table.text((column,)), strict=True)
        ]
        kept = table.keep(filled)
        found[name] = (kept.numbers((name,)), kept.numbers((column,)))
    return found


def attribute_figures(attributes: Mapping[str, tuple[Floats, Floats]]) -> list[dict[str, Any]]:
    """Spearman's rank correlation, mean absolute error and bias (estimate minus rating) of each; None where
    undefined.
    """
    rows = []
    for name, (estimate, rated) in attributes.items():
        varied = len(rated) > 1 and float(np.ptp(estimate)) > 0 and float(np.ptp(rated)) > 0
        rows.append(
            {
                "name": name,
                "cases": len(rated),
                "spearman": float(np.corrcoef(rankdata(estimate), rankdata(rated))[0, 1]) if varied else None,
                "mean_absolute_error": float(np.abs(estimate - rated).mean()) if len(rated) else None,
                "bias": float((estimate - rated).mean()) if len(rated) else None,
            }
        )
    return rows

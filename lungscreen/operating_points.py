"""The operating points: the one place that names them.

The command line, the pipeline's settings, the training of a detector and its manifest go by these names. The score of
each belongs to the weights and stands in their manifest.
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = ["OPERATING_POINTS"]

OPERATING_POINTS = MappingProxyType({"screening": 2.0, "second-reader": 1.0, "high-specificity": 0.5})
"""Name → false marks per 5 litres of lung (about a scan) at which training sets the point's score."""

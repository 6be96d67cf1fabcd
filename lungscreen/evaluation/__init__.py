"""Measuring the detector and the classifier against what is known.

Marks, Nodules ─► DetectionResult ─► evaluation.json, tables, plots, pictures
"""

from lungscreen.evaluation.detection import (
    DetectionConfig,
    DetectionResult,
    FalseMark,
    NoduleOutcome,
    evaluate_detection,
)
from lungscreen.evaluation.output import write_detection
from lungscreen.evaluation.tables import Marks, Nodules, read_marks, read_nodules, read_series_list

__all__ = [
    "DetectionConfig",
    "DetectionResult",
    "FalseMark",
    "Marks",
    "NoduleOutcome",
    "Nodules",
    "evaluate_detection",
    "read_marks",
    "read_nodules",
    "read_series_list",
    "write_detection",
]

"""Measuring the detector and the classifier against what is known.

Marks, Nodules ─► DetectionResult ─► evaluation.json, tables, plots, pictures
Volumes, Nodules ─► RobustnessResult ─► robustness.json, tables, plot
Reports, Nodules ─► ScreeningResult ─► evaluation.json, tables
Predictions    ─► ClassificationResult ─► evaluation.json, tables, plots
"""

from lungscreen.evaluation.classification import (
    ClassificationConfig,
    ClassificationResult,
    Predictions,
    evaluate_classification,
    read_predictions,
)
from lungscreen.evaluation.detection import (
    DetectionConfig,
    DetectionResult,
    FalseMark,
    NoduleOutcome,
    evaluate_detection,
)
from lungscreen.evaluation.output import write_classification, write_detection, write_screening
from lungscreen.evaluation.robustness import RobustnessConfig, RobustnessResult, measure_robustness
from lungscreen.evaluation.robustness_output import robustness_lines, write_robustness
from lungscreen.evaluation.screening import ScreenedExam, ScreeningResult, evaluate_screening, read_exams
from lungscreen.evaluation.tables import MarkTable, Nodules, read_marks, read_nodules, read_series_list

__all__ = [
    "ClassificationConfig",
    "ClassificationResult",
    "DetectionConfig",
    "DetectionResult",
    "FalseMark",
    "MarkTable",
    "NoduleOutcome",
    "Nodules",
    "Predictions",
    "RobustnessConfig",
    "RobustnessResult",
    "ScreenedExam",
    "ScreeningResult",
    "evaluate_classification",
    "evaluate_detection",
    "evaluate_screening",
    "measure_robustness",
    "read_exams",
    "read_marks",
    "read_nodules",
    "read_predictions",
    "read_series_list",
    "robustness_lines",
    "write_classification",
    "write_detection",
    "write_robustness",
    "write_screening",
]

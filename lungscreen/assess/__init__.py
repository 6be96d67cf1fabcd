"""Finding… + person → categories and risks: clinical rules as published, each citing its clause.

Pure functions of frozen records. What is missing is never invented: a result is then "not assessed", and says what it
needs. Declared choices a to n stand in docs/clinical-rules.md.
"""

from __future__ import annotations

from lungscreen.assess.brock import BROCK_MODELS, BrockInput, BrockModel, estimate_brock
from lungscreen.assess.growth import (
    DoublingTime,
    Growth,
    doubling_time,
    has_grown_by_volume,
    judge_growth,
    months_between,
)
from lungscreen.assess.inputs import NoduleAtExam, NoduleHistory, measured_nodule
from lungscreen.assess.lung_rads import grade_nodule, name_growth
from lungscreen.assess.lung_rads_exam import ExamFacts, grade_exam
from lungscreen.assess.lung_rads_rows import Measure
from lungscreen.assess.lung_rads_special import (
    AirwayNodule,
    Change,
    CystAtExam,
    CystHistory,
    grade_airway_nodule,
    grade_cyst,
)
from lungscreen.assess.results import NOT_ASSESSED, RANK, Advice, Category, LungRads, read_category
from lungscreen.assess.rounding import mean_diameter
from lungscreen.assess.study import AssessConfig, Assessment, FindingFacts, assess_baseline

__all__ = [
    "BROCK_MODELS",
    "NOT_ASSESSED",
    "RANK",
    "Advice",
    "AirwayNodule",
    "AssessConfig",
    "Assessment",
    "BrockInput",
    "BrockModel",
    "Category",
    "Change",
    "CystAtExam",
    "CystHistory",
    "DoublingTime",
    "ExamFacts",
    "FindingFacts",
    "Growth",
    "LungRads",
    "Measure",
    "NoduleAtExam",
    "NoduleHistory",
    "assess_baseline",
    "doubling_time",
    "estimate_brock",
    "grade_airway_nodule",
    "grade_cyst",
    "grade_exam",
    "grade_nodule",
    "has_grown_by_volume",
    "judge_growth",
    "mean_diameter",
    "measured_nodule",
    "months_between",
    "name_growth",
    "read_category",
]

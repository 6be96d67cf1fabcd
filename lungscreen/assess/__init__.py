"""Finding… + person → categories and risks: clinical rules as published, each citing its clause.

Pure functions of frozen records. What is missing is never invented: a result is then "not assessed", and says what it
needs. Declared choices a to n stand in docs/clinical-rules.md.
"""

from __future__ import annotations

from lungscreen.assess.brock import BROCK_MODELS, BrockInput, BrockModel, estimate_brock
from lungscreen.assess.bts import BtsContext, advise_bts, advise_bts_follow_up
from lungscreen.assess.change import ChangeSince, judge_change
from lungscreen.assess.eligibility import PROGRAMMES, judge_eligibility
from lungscreen.assess.finding import FindingFacts
from lungscreen.assess.fleischner import FleischnerContext, advise_fleischner, advise_fleischner_by_risk
from lungscreen.assess.growth import (
    DoublingTime,
    Growth,
    doubling_time,
    has_grown_by_volume,
    judge_growth,
    months_between,
)
from lungscreen.assess.guidelines import GUIDELINES, LEAST_ROUND_DAYS, Case, Guideline, advise_findings
from lungscreen.assess.inputs import NoduleAtExam, NoduleHistory, measured_nodule
from lungscreen.assess.lung_rads import benign_clause, grade_nodule, name_growth
from lungscreen.assess.lung_rads_exam import ExamFacts, grade_exam, share_prior_category
from lungscreen.assess.lung_rads_rows import Measure
from lungscreen.assess.lung_rads_special import (
    AirwayNodule,
    Change,
    CystAtExam,
    CystHistory,
    grade_airway_nodule,
    grade_cyst,
)
from lungscreen.assess.mayo import FdgUptake, PersonAndNodule, estimate_herder, estimate_mayo, estimate_va
from lungscreen.assess.nelson import (
    advise_eu_position,
    advise_nelson,
    advise_nelson_growth,
    advise_nelson_new_solid,
    is_suspicious_after_new,
)
from lungscreen.assess.plco import PLCO_RACES, estimate_plco
from lungscreen.assess.results import RANK, STAYING, Category, LungRads, read_category
from lungscreen.assess.risks import NoduleLooks, brock_input, describe_person, mayo_input
from lungscreen.assess.rounding import mean_diameter
from lungscreen.assess.site_model import FusionConfig, SiteModel, add_site_risk, find_site_model
from lungscreen.assess.study import AssessConfig, Assessment, assess_baseline, assess_follow_up
from lungscreen.records import Eligibility

__all__ = [
    "BROCK_MODELS",
    "GUIDELINES",
    "LEAST_ROUND_DAYS",
    "PLCO_RACES",
    "PROGRAMMES",
    "RANK",
    "STAYING",
    "AirwayNodule",
    "AssessConfig",
    "Assessment",
    "BrockInput",
    "BrockModel",
    "BtsContext",
    "Case",
    "Category",
    "Change",
    "ChangeSince",
    "CystAtExam",
    "CystHistory",
    "DoublingTime",
    "Eligibility",
    "ExamFacts",
    "FdgUptake",
    "FindingFacts",
    "FleischnerContext",
    "FusionConfig",
    "Growth",
    "Guideline",
    "LungRads",
    "Measure",
    "NoduleAtExam",
    "NoduleHistory",
    "NoduleLooks",
    "PersonAndNodule",
    "SiteModel",
    "add_site_risk",
    "advise_bts",
    "advise_bts_follow_up",
    "advise_eu_position",
    "advise_findings",
    "advise_fleischner",
    "advise_fleischner_by_risk",
    "advise_nelson",
    "advise_nelson_growth",
    "advise_nelson_new_solid",
    "assess_baseline",
    "assess_follow_up",
    "benign_clause",
    "brock_input",
    "describe_person",
    "doubling_time",
    "estimate_brock",
    "estimate_herder",
    "estimate_mayo",
    "estimate_plco",
    "estimate_va",
    "find_site_model",
    "grade_airway_nodule",
    "grade_cyst",
    "grade_exam",
    "grade_nodule",
    "has_grown_by_volume",
    "is_suspicious_after_new",
    "judge_change",
    "judge_eligibility",
    "judge_growth",
    "mayo_input",
    "mean_diameter",
    "measured_nodule",
    "months_between",
    "name_growth",
    "read_category",
    "share_prior_category",
]

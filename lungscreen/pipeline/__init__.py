"""The chain and what it is made of.

chain       screen_study: the whole way on one page
exam        prepare_study, read_exam, grade_candidates: one exam, this one or an earlier one
priors      compare_with_priors
selection   which candidates are findings, and why the others are none
settings    Pipeline, read_pipeline
networks    Networks, load_networks
"""

from lungscreen.pipeline.chain import screen_study
from lungscreen.pipeline.exam import Prepared, grade_candidates, prepare_study, read_exam
from lungscreen.pipeline.first_series import read_first_series
from lungscreen.pipeline.networks import (
    Networks,
    RatingNetwork,
    load_networks,
    operating_points,
    second_look_of,
    used_weights,
)
from lungscreen.pipeline.priors import compare_with_priors
from lungscreen.pipeline.selection import FindingsConfig, keep_doubtful
from lungscreen.pipeline.settings import Pipeline, pipeline_hash, read_pipeline

__all__ = [
    "FindingsConfig",
    "Networks",
    "Pipeline",
    "Prepared",
    "RatingNetwork",
    "compare_with_priors",
    "grade_candidates",
    "keep_doubtful",
    "load_networks",
    "operating_points",
    "pipeline_hash",
    "prepare_study",
    "read_exam",
    "read_first_series",
    "read_pipeline",
    "screen_study",
    "second_look_of",
    "used_weights",
]

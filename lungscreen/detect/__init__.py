"""Detect: where a nodule or a mass may be. Called, it is the function for notebooks: see `lungscreen.api.detect`."""

import sys

import lungscreen
from lungscreen.detect.masses import MassConfig, propose_masses
from lungscreen.detect.stage import (
    DetectConfig,
    Detector,
    Marks,
    PlaceJudge,
    detect_nodules,
    find_detector,
    load_detector,
)

__all__ = [
    "DetectConfig",
    "Detector",
    "Marks",
    "MassConfig",
    "PlaceJudge",
    "detect_nodules",
    "find_detector",
    "load_detector",
    "propose_masses",
]

sys.modules[__name__].__class__ = lungscreen.CallableStage

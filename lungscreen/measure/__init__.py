"""Measure: Volume, Lungs, Candidates ─► Measured (outline, sizes, type) and where each lies.

Two borders, both from the intensities and both said: the *outline* runs along the outer border, as radiologists draw
it; the *sizes* are taken at the edge that gives a body of known size its true volume, which lies a little further in.
"""

from __future__ import annotations

from lungscreen.measure.fissure import Fissure, find_fissure
from lungscreen.measure.location import LungBoxes, find_lung_boxes, locate_nodule
from lungscreen.measure.measure import MeasureConfig, Outliner, measure_nodules
from lungscreen.measure.shape import rate_sphericity
from lungscreen.measure.sizes import Axes, effective_diameter, measure_axes, measure_mask, round_axis, round_mean

__all__ = [
    "Axes",
    "Fissure",
    "LungBoxes",
    "MeasureConfig",
    "Outliner",
    "effective_diameter",
    "find_fissure",
    "find_lung_boxes",
    "locate_nodule",
    "measure_axes",
    "measure_mask",
    "measure_nodules",
    "rate_sphericity",
    "round_axis",
    "round_mean",
]

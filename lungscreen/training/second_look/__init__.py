"""Training of the second look, which tells nodules and masses from what was taken for one.

recipe     what a run is made of
cubes      nodules where they grew, and what is none beside them
chests     whole scans and phantoms, and what is none in them
insertion  nodules and masses set into chests
samples    what a step learns from
train      the network
calibrate  one probability of heatmap and second look, and the operating points on it
run        all of it, to weights
"""

from __future__ import annotations

from lungscreen.training.second_look.recipe import SecondLookTraining
from lungscreen.training.second_look.run import make_second_look

__all__ = ["SecondLookTraining", "make_second_look"]

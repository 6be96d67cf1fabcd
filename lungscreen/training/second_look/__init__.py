"""Training of the second look, which tells a nodule from what was taken for one: places ─► network ─► weights."""

from __future__ import annotations

from lungscreen.training.second_look.recipe import SecondLookTraining
from lungscreen.training.second_look.run import make_second_look

__all__ = ["SecondLookTraining", "make_second_look"]

"""Examinations of the insertion engine: can its nodules be told from real ones, and a test set made with it."""

from __future__ import annotations

from lungscreen.training.insertion.seams import SeamsConfig, check_seams, write_seams
from lungscreen.training.insertion.testset import InsertedSetConfig, prepare_insertion, write_inserted_set

__all__ = ["InsertedSetConfig", "SeamsConfig", "check_seams", "prepare_insertion", "write_inserted_set", "write_seams"]

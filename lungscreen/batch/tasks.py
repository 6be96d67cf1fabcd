"""What is handed to a worker."""

from __future__ import annotations

from dataclasses import dataclass

from lungscreen.errors import Notice
from lungscreen.series import Identity, Look

__all__ = ["Task"]


@dataclass(frozen=True, slots=True)
class Task:
    """A study to read, its headers with it. It names files and persons: it goes to the worker and nowhere else."""

    key: str
    identity: Identity
    looks: tuple[Look, ...]
    """What `lungscreen.series.find_study` makes the study of."""
    input: str
    attempt: int
    names: tuple[str, ...] = ()
    """Under the study's patient ID."""
    others: tuple[Identity, ...] = ()
    """Of all files with the study's UID: who contradicts whom."""
    earlier: tuple[Look, ...] = ()
    """Files of the same patient's earlier exams in the inputs."""
    remarks: tuple[Notice, ...] = ()
    """What is to be said of its earlier exams beside what the files say."""

"""What is handed to a worker."""

from __future__ import annotations

from dataclasses import dataclass

from lungscreen.records import Source

__all__ = ["Person", "Task"]


@dataclass(frozen=True, slots=True)
class Person:
    """Who a study is of, as headers tell studies apart."""

    patient_id: str
    name: str
    """As it is compared: blanks and carets alike, no upper case; of an image file, its path."""
    study_uid: str


@dataclass(frozen=True, slots=True)
class Task:
    """A study to read. It names files and persons: it goes to the worker and nowhere else."""

    key: str
    person: Person
    sources: tuple[Source, ...]
    input: str
    attempt: int
    kind: str = "ct"
    names: int = 1
    """Names under the study's patient ID; of an image file, files of that name."""
    earlier: tuple[Source, ...] = ()
    """Files of the same patient's earlier exams in the inputs."""
    number: int = 1
    """Of an image file: which of those it is."""

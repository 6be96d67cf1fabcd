"""Whose study it is, as headers tell people and studies apart: the one rule, for direct reading and for the index."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from lungscreen.dicomfile import plain_value
from lungscreen.records import Patient, Source, Study
from lungscreen.series.files import image_name

__all__ = ["Identity", "identify", "identify_image", "identify_study", "plain_name"]

LONGEST_NAME = 250
"""Characters of an image file's name that stand for its UIDs."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """One study of one person. Studies of two identities are never read as one."""

    patient_id: str
    name: str
    """As it is compared (`plain_name`); of an image file, its path."""
    study_uid: str

    @property
    def person(self) -> tuple[str, str]:
        """The same for every study of a person."""
        return self.patient_id, self.name


def identify(patient: Patient, study_uid: str) -> Identity:
    """The identity that a header gives."""
    return Identity(patient.patient_id, plain_name(patient), study_uid)


def identify_image(source: Source) -> Identity:
    """Of an image file: its name stands for person and study, and its path tells files of one name apart."""
    name = plain_value(image_name(source), LONGEST_NAME) or "image"
    path = os.fsencode(str(source)).decode("utf-8", "backslashreplace")
    return Identity(name, path, name)


def identify_study(study: Study) -> Identity:
    """The identity of a study that was found."""
    image = study.series[0].image
    return identify_image(image) if image is not None else identify(study.patient, study.exam.study_uid)


def plain_name(patient: Patient) -> str:
    """A name as it is compared: case, carets and blanks do not matter."""
    return re.sub(r"[\^\s=]+", " ", patient.name).strip().casefold()

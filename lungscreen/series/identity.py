"""Whose study it is, as headers tell people and studies apart: the one rule, for direct reading and for the index.

A header may leave out issuer, birth date and sex. What is left out contradicts nothing; two that differ are two people,
whatever ID, name and UIDs say (`whole_identities`).
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from lungscreen.dicomfile import plain_value
from lungscreen.records import Patient, Source, Study
from lungscreen.series.files import image_name

__all__ = ["Identity", "identify", "identify_image", "identify_study", "plain_name", "whole_identities"]

LONGEST_NAME = 250
"""Characters of an image file's name that stand for its UIDs."""

MAY_BE_ABSENT = ("issuer", "birth_date", "sex")
"""What of an identity may be left out in some of a study's files."""


@dataclass(frozen=True, slots=True, order=True)
class Identity:
    """One study of one person. Studies of two identities are never read as one."""

    patient_id: str
    name: str
    """As it is compared (`plain_name`); of an image file, its path."""
    study_uid: str
    issuer: str = ""
    birth_date: str = ""
    sex: str = ""
    mended: str = ""
    """See `Patient.mended`."""

    @property
    def person(self) -> tuple[str, ...]:
        """The same for every study of a person."""
        return self.patient_id, self.name, self.issuer, self.birth_date, self.sex, self.mended

    @property
    def certain(self) -> tuple[str, ...]:
        """What every file of a study has in common, whatever some of them leave out."""
        return self.patient_id, self.name, self.study_uid, self.mended


def identify(patient: Patient, study_uid: str) -> Identity:
    """The identity that a header gives."""
    name = plain_name(patient)
    return Identity(
        patient.patient_id, name, study_uid, patient.issuer, patient.birth_date, patient.sex, patient.mended
    )


def identify_image(source: Source) -> Identity:
    """Of an image file: its name stands for person and study, and its path tells files of one name apart."""
    name = plain_value(image_name(source), LONGEST_NAME) or "image"
    path = os.fsencode(str(source)).decode("utf-8", "backslashreplace")
    return Identity(name, path, name)


def identify_study(study: Study) -> Identity:
    """The identity of a study that was found."""
    image = study.series[0].image
    return identify_image(image) if image is not None else identify(study.patient, study.exam.study_uid)


def whole_identities(identities: Iterable[Identity]) -> dict[Identity, Identity]:
    """Whose each identity is: what files of one study leave out is taken from the others where these agree.

    Where they contradict each other, nobody knows whose the incomplete ones are: each is somebody of their own.
    """
    groups: dict[tuple[str, ...], set[Identity]] = defaultdict(set)
    for identity in identities:
        groups[identity.certain].add(identity)
    whole: dict[Identity, Identity] = {}
    for group in groups.values():
        known = {name: {getattr(one, name) for one in group} - {""} for name in MAY_BE_ABSENT}
        agreed = all(len(values) <= 1 for values in known.values())
        filled = {name: next(iter(values), "") for name, values in known.items()} if agreed else {}
        whole |= {one: replace(one, **filled) for one in group}
    return whole


def plain_name(patient: Patient) -> str:
    """A name as it is compared: case, carets and blanks do not matter."""
    return re.sub(r"[\^\s=]+", " ", patient.name).strip().casefold()

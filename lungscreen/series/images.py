"""Image files ─► Studies: one volume each; the file's name without its ending stands for every UID."""

from __future__ import annotations

from collections.abc import Sequence

from lungscreen.dicomfile import plain_value
from lungscreen.errors import Notice
from lungscreen.records import Acquisition, Exam, Patient, Series, Source, Study
from lungscreen.series.files import image_name

__all__ = ["make_image_studies"]

_LONGEST_NAME = 250


def make_image_studies(sources: Sequence[Source]) -> list[Study]:
    """A study for each image file; of files with one name, the second gets `-2` and so on, and all say so."""
    named = sorted(
        (plain_value(image_name(source), _LONGEST_NAME) or "image", str(source), source) for source in sources
    )
    names = [name for name, _, _ in named]
    taken = set(names)
    used: set[str] = set()
    studies = []
    for name, _, source in named:
        uid, number = name, 1
        while uid in used or (number > 1 and uid in taken):
            number += 1
            uid = f"{name}-{number}"
        used.add(uid)
        notices: tuple[Notice, ...] = ()
        if names.count(name) > 1:
            notices = (Notice("same-file-name", f"{names.count(name)} files are named {name}; this one is {uid}."),)
        studies.append(_study(uid, source, notices))
    return studies


def _study(uid: str, source: Source, notices: tuple[Notice, ...]) -> Study:
    patient, exam = Patient(patient_id=uid), Exam(study_uid=uid)
    series = Series("image", uid, patient, exam, Acquisition(), image=source)
    return Study(patient, exam, (series,), notices=notices)

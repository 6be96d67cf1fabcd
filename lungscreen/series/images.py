"""Image files ─► Studies: one volume each; the file's name without its ending stands for every UID."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lungscreen.errors import Notice
from lungscreen.records import Acquisition, Exam, Patient, Series, Source, Study
from lungscreen.series.identity import identify_image

__all__ = ["make_image_studies"]


def make_image_studies(sources: Sequence[Source]) -> list[Study]:
    """A study for each image file, in order; of files with one name, the second gets `-2` and so on, and all say so."""
    names = [identify_image(source).study_uid for source in sources]
    counts = Counter(names)
    used: set[str] = set()
    studies = []
    for name, source in zip(names, sources, strict=True):
        uid, number = name, 1
        while uid in used or (number > 1 and uid in counts):
            number += 1
            uid = f"{name}-{number}"
        used.add(uid)
        notices: tuple[Notice, ...] = ()
        if counts[name] > 1:
            notices = (Notice("same-file-name", f"{counts[name]} files are named {name}; this one is {uid}."),)
        studies.append(_study(uid, source, notices))
    return studies


def _study(uid: str, source: Source, notices: tuple[Notice, ...]) -> Study:
    patient, exam = Patient(patient_id=uid), Exam(study_uid=uid)
    series = Series("image", uid, patient, exam, Acquisition(), image=source)
    return Study(patient, exam, (series,), notices=notices)

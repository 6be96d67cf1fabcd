"""Inboxes of very small studies: a chest of a few thousand voxels each, as DICOM or as an image file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from dicom_factory import make_series
from small_chest import ORIGIN, SPACING, chest, write_image

NODULES = ((30, 24, 20), (26, 24, 54), (34, 20, 54))
"""Where nodules can be: voxels in the lungs of `chest`."""


def chest_with_nodules(seed: int, most: int = 3) -> np.ndarray:
    """A chest with one to three nodules and noise, different for each seed; with `most`, none to so many."""
    hu = chest()
    for z, y, x in NODULES[: 1 + seed % 3 if most == 3 else seed % (most + 1)]:
        hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 1 + seed % 2] = 30
    noise = np.random.default_rng(seed).normal(0, 15, hu.shape)
    return (hu + noise).astype(np.int16)


def add_image(inbox: Path, number: int, most: int = 3) -> Path:
    """A study as one image file."""
    return write_image(inbox / f"scan{number:03d}.mha", chest_with_nodules(number, most))


def add_dicom(inbox: Path, number: int, **options: object) -> Path:
    """A study as a folder of DICOM files, every second slice of the chest; patient and UIDs by its number."""
    folder = inbox / f"study{number:03d}"
    tags = {"PatientID": f"ID{number:03d}", "PatientName": f"Name^Nr{number}", "AccessionNumber": f"A{number}"}
    tags |= options.pop("tags", {})  # type: ignore[operator]
    make_series(
        folder, chest_with_nodules(number), step_mm=SPACING[0], spacing_mm=SPACING[1:], origin_mm=ORIGIN,
        study_uid=f"1.2.826.0.1.{number}", series_uid=f"1.2.826.0.1.{number}.1", tags=tags, **options,
    )  # fmt: skip
    return folder


def add_cut(inbox: Path, number: int) -> Path:
    """A hostile study: most of its slices are cut short."""
    folder = add_dicom(inbox, number)
    for path in sorted(folder.iterdir())[::2]:
        os.truncate(path, path.stat().st_size // 2)
    return folder


def add_stub(inbox: Path, number: int) -> Path:
    """A hostile study: five slices are no chest."""
    folder = inbox / f"study{number:03d}"
    make_series(
        folder, slices=5, study_uid=f"1.2.826.0.1.{number}", series_uid=f"1.2.826.0.1.{number}.1",
        tags={"PatientID": f"ID{number:03d}", "PatientName": f"Name^Nr{number}"},
    )  # fmt: skip
    return folder


def fill_inbox(inbox: Path, count: int, hostile_every: int = 10, most: int = 3) -> Path:
    """An inbox of `count` studies, every tenth hostile, one in twenty of the others DICOM.

    most: nodules of an image file; most of a study's time goes into measuring them.
    """
    for number in range(count):
        if hostile_every and number % hostile_every == hostile_every - 1:
            (add_cut, add_stub)[number // hostile_every % 2](inbox, number)
        elif number % 20 == 0:
            add_dicom(inbox, number)
        else:
            add_image(inbox, number, most)
    return inbox


def forget(inbox: Path) -> None:
    """Take everything away, as a share that is unmounted does."""
    for path in inbox.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

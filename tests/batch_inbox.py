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


def chest_with_nodules(seed: int) -> np.ndarray:
    """A chest with one to three nodules and noise, different for each seed."""
    hu = chest()
    for z, y, x in NODULES[: 1 + seed % 3]:
        hu[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 1 + seed % 2] = 30
    noise = np.random.default_rng(seed).normal(0, 15, hu.shape)
    # Below -1024 the unsigned pixels of a DICOM slice would wrap round to bone.
    return np.clip(hu + noise, -1024, None).astype(np.int16)


def add_image(inbox: Path, number: int) -> Path:
    """A study as one image file."""
    return write_image(inbox / f"scan{number:03d}.mha", chest_with_nodules(number))


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


def fill_inbox(inbox: Path, count: int, light: bool = False) -> Path:
    """An inbox of `count` studies, every tenth hostile, one in twenty of the others DICOM.

    light: for very many; less DICOM, and hostile studies mostly of a few slices.
    """
    cut_every, dicom_every = (10, 60) if light else (2, 20)
    for number in range(count):
        if number % 10 == 9:
            (add_stub if number // 10 % cut_every else add_cut)(inbox, number)
        elif number % dicom_every == 0:
            add_dicom(inbox, number)
        else:
            add_image(inbox, number)
    return inbox


def forget(inbox: Path) -> None:
    """Take everything away, as a share that is unmounted does."""
    for path in inbox.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()

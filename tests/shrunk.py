"""Phantoms of a child's size: for tests of the whole chain that need no particular nodule."""

from __future__ import annotations

from pathlib import Path

import pydicom

from lungscreen.phantom import PhantomConfig, make_phantom, write_dicom

__all__ = ["write_shrunk"]


def write_shrunk(config: PhantomConfig, factor: float, folder: Path) -> Path:
    """A phantom's series with every length made smaller: the networks have a fraction of the voxels to look at."""
    write_dicom(make_phantom(config), folder)
    for path in folder.rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        for keyword in ("PixelSpacing", "ImagePositionPatient"):
            setattr(dataset, keyword, [round(float(value) * factor, 6) for value in dataset[keyword].value])
        dataset.SliceThickness = round(float(dataset.SliceThickness) * factor, 6)
        dataset.save_as(path)
    return folder

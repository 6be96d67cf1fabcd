"""Random damage to every compressed form: with a checksum nothing goes unseen; without one what does is counted.

`pytest -m slow tests/test_bit_flips.py -s` prints the counts that stand in docs/safety.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damaged_studies import clean_chest, write_clean, write_image
from pydicom import dcmread
from pydicom.uid import RLELossless
from test_volume_decode import ENCODERS, JPEG_2000, JPEG_LOSSLESS, JPEG_LS

from lungscreen.errors import LungscreenError
from lungscreen.records import Series
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume

FLIPS = 250
"""For each of eight forms: two thousand."""
SLICES = slice(40, 64)
CONFIG = VolumeConfig(min_slices=1, min_extent_mm=0)
IMAGES = (".nii.gz", ".mha", ".nrrd")
DEFLATED, RUN_LENGTHS = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5"
DICOM = {
    "deflated": DEFLATED, "RLE": RUN_LENGTHS,
    "JPEG-LS": JPEG_LS, "JPEG lossless": JPEG_LOSSLESS, "JPEG 2000": JPEG_2000,
}  # fmt: skip


def write_form(folder: Path, form: str) -> list[Path]:
    """The middle of the chest, in one form."""
    hu = np.ascontiguousarray(clean_chest()[SLICES])
    if form in IMAGES:
        return [write_image(folder / f"scan{form}", hu)]
    syntax = DICOM[form]
    if syntax in ENCODERS:
        return write_clean(folder, hu, syntax=syntax, edit=ENCODERS[syntax])
    paths = write_clean(folder, hu, **({"syntax": DEFLATED} if syntax == DEFLATED else {}))
    if syntax == RUN_LENGTHS:
        for path in paths:
            dataset = dcmread(path)
            dataset.compress(RLELossless, generate_instance_uid=False)
            dataset.save_as(path)
    return paths


def flipped(paths: list[Path], count: int) -> Iterator[Path]:
    """One bit of one file at a time, behind its header; the file is whole again afterwards."""
    chance = np.random.default_rng(11)
    for _ in range(count):
        path = paths[int(chance.integers(1, len(paths) - 1))] if len(paths) > 2 else paths[0]
        whole = path.read_bytes()
        data = bytearray(whole)
        # nothing here is about the header: what it says is checked elsewhere
        start = max(len(data) - 4000, len(data) // 3) if len(paths) > 2 else 800
        data[int(chance.integers(start, len(data)))] ^= 1 << int(chance.integers(8))
        path.write_bytes(data)
        yield path
        path.write_bytes(whole)


def read(series: Series) -> tuple[np.ndarray | None, bool]:
    """The volume, None where it is refused; and whether anything is said of damage."""
    try:
        volume = build_volume(series, CONFIG)
    except LungscreenError:
        return None, True
    return volume.hu, any(notice.code in ("slices-damaged", "values-uneven") for notice in volume.notices)


def count_flips(folder: Path, form: str, count: int) -> tuple[int, int, int]:
    """Flips that were refused or said; that changed no voxel; that changed some, unsaid."""
    paths = write_form(folder, form)
    series = find_series([folder]).studies[0].series[0]
    clean = build_volume(series, CONFIG).hu
    seen = harmless = unseen = 0
    for _ in flipped(paths, count):
        hu, said = read(series)
        if hu is None or said:
            seen += 1
        elif np.array_equal(hu, clean):
            harmless += 1
        else:
            unseen += 1
    return seen, harmless, unseen


@pytest.mark.parametrize("form", [*IMAGES, "deflated"])
def test_no_flip_changes_a_voxel_of_what_has_a_checksum(tmp_path: Path, form: str) -> None:
    """DICOM's deflated files have none, but their stream breaks."""
    _, _, unseen = count_flips(tmp_path, form, 8)
    assert unseen == 0 or form == "deflated"


@pytest.mark.slow
@pytest.mark.parametrize("form", [*IMAGES, *DICOM])
def test_random_flips(tmp_path: Path, form: str) -> None:
    seen, harmless, unseen = count_flips(tmp_path, form, FLIPS)
    sys.stdout.write(f"{form}: {seen} refused or said, {harmless} changed nothing, {unseen} changed voxels unseen\n")
    if form in IMAGES:
        assert unseen == 0

"""The whole process tree of `screen` and of `batch run --workers 1`, with the shipped networks, on inputs made to be
large: under 3 GiB, and over within 20 s of the processors where the input is refused. Linux.

`pytest -m slow tests/test_memory.py -s` prints what docs/safety.md quotes.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from batch_hostile import hostile_cases
from damaged_studies import clean_chest, damaged_studies, write_clean
from dicom_factory import make_enhanced
from memory import Use, watch_command
from pydicom import dcmread

from lungscreen.sources import MOST_VOXELS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's smaps_rollup"),
]

MOST_MB = 3 * 1024
LONGEST_REFUSAL_S = 20.0
COMMANDS = {"screen": ["screen"], "batch run": ["batch", "run", "--workers", "1"]}
DEFLATED = "1.2.840.10008.1.2.1.99"


def deflated_bomb(folder: Path, with_length: bool) -> None:
    """A CT header without an end: 3 MB that unpack to 3 GiB."""
    path = write_clean(folder, clean_chest()[:1], syntax=DEFLATED)[0]
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    whole = zlib.decompress(data[start:], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = packer.compress(whole[:-1000]) + b"".join(packer.compress(bytes(1 << 24)) for _ in range(192))
    path.write_bytes((data[:start] if with_length else data[:132] + data[144:start]) + packed + packer.flush())


def sparse(folder: Path, name: str, head: bytes) -> None:
    """200 GB that take no room."""
    folder.mkdir(parents=True)
    (folder / name).write_bytes(head)
    os.truncate(folder / name, 200 * 10**9)


def sparse_dicom(folder: Path, count: int) -> None:
    """A chest, so many of whose files have 200 GB."""
    for path in write_clean(folder)[60 : 60 + count]:
        os.truncate(path, 200 * 10**9)


def endless_header(folder: Path) -> None:
    """A header of five million elements."""
    path = write_clean(folder, clean_chest()[:1])[0]
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00")
    path.write_bytes(data[:place] + b"\x09\x70\x10\x10UN\0\0\0\0\0\0" * 5_000_000 + data[place:])


def nifti(folder: Path, shape: tuple[int, int, int], kind: type, packed: bytes | None) -> None:
    header = nib.Nifti1Header()
    header.set_data_dtype(kind)
    header.set_data_shape(shape)
    header.set_sform(np.diag([0.7, 0.7, 0.27, 1]), 1)
    header["pixdim"][1:4] = 0.7, 0.7, 0.27
    header["vox_offset"], header["magic"] = 352, b"n+1"
    folder.mkdir(parents=True)
    with gzip.open(folder / "scan.nii.gz", "wb", compresslevel=1) as file:
        file.write(header.binaryblock + bytes(4))
        if packed is not None:
            file.write(packed)
            return
        for z in range(shape[2]):
            file.write(scaled(z, shape[2], shape[0]).astype(kind).tobytes())


@cache
def noise(across: int) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 14, (across, across))


def scaled(z: int, slices: int, across: int) -> np.ndarray:
    """Slice z of a chest like `clean_chest`, with as many slices and pixels as are wanted; no two slices are equal."""
    height = 128.0 * z / slices
    y, x = np.ogrid[:across, :across]
    y, x = (y - across / 2) / (across / 72), (x - across / 2) / (across / 92)
    hu = np.where((y / 31) ** 2 + (x / 42) ** 2 < 1, -104.0, -1000.0)
    hu[(y / 27) ** 2 + (x / 38) ** 2 < 1] = 45
    for middle in (-22, 22):
        hu[((height - 60) / 50) ** 2 + (y / 20) ** 2 + ((x - middle) / 13) ** 2 < 1] = -860
    if height > 76:
        hu[(y + 2) ** 2 + x**2 < 7] = -1000
    hu += np.roll(noise(across), (37 * z, 11 * z), (0, 1))
    return np.rint(np.clip(hu, -1024, 1500)).astype(np.int16)


def multiframe(folder: Path) -> None:
    """One object of as many voxels as are read."""
    frames = MOST_VOXELS // 512**2
    folder.mkdir(parents=True)
    path = make_enhanced(folder / "a.dcm", np.zeros((frames, 8, 8), np.int16), step_mm=0.2)
    dataset = dcmread(path)
    dataset.Rows = dataset.Columns = 512
    dataset.PixelData = b"".join((scaled(z, frames, 512) + 1024).astype("<u2").tobytes() for z in range(frames))
    dataset.save_as(path)


LARGE: dict[str, tuple[Callable[[Path], object], bool]] = {
    "deflated bomb": (lambda f: deflated_bomb(f, with_length=True), False),
    "deflated bomb without group length": (lambda f: deflated_bomb(f, with_length=False), False),
    "sparse DICOM of 200 GB each": (lambda f: sparse_dicom(f, 40), False),
    "one sparse slice of 200 GB": (lambda f: sparse_dicom(f, 1), True),
    "sparse nothing of 200 GB": (lambda f: sparse(f, "image", bytes(128) + b"DICM"), False),
    "sparse NIfTI of 200 GB": (lambda f: sparse(f, "scan.nii", bytes(352)), False),
    "endless header": (endless_header, False),
    "NIfTI that unpacks a thousandfold": (
        lambda f: nifti(f, (1024, 1024, 384), np.float64, bytes(1 << 24)),
        False,
    ),
    "NIfTI of 1200 slices": (lambda f: nifti(f, (512, 512, 1200), np.int16, None), True),
    "NIfTI of all voxels that are read": (lambda f: nifti(f, (512, 512, 1536), np.int16, None), True),
    "multi-frame of all voxels that are read": (multiframe, True),
}
"""What it is; how it is made, and whether it is read."""


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", LARGE)
def test_no_input_takes_more_than_three_gigabytes(name: str, command: str, tmp_path: Path) -> None:
    make, is_read = LARGE[name]
    make(tmp_path / "in")
    out = tmp_path / "out"
    use = watch_command(
        [sys.executable, "-m", "lungscreen.cli.main", *COMMANDS[command], str(tmp_path / "in"), "--out", str(out)]
    )
    took = f"{use.peak_mb:.0f} MiB | {use.processor_s:.0f} s of the processors, {use.seconds:.0f} s"
    sys.stdout.write(f"{name} | {command} | {took} | {use.status}\n")
    assert use.peak_mb < MOST_MB
    assert use.status == 3 or is_read
    assert len(list(out.glob("studies/*/report.json"))) == is_read
    assert is_read or use.processor_s < LONGEST_REFUSAL_S


def small_inputs() -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Every hostile study, every damaged one, and the small inputs that went wrong once."""
    for hostile in hostile_cases():
        yield hostile.name, hostile.make
    for damage in damaged_studies():
        yield damage.name, damage.make
    shared = Path(__file__).resolve().parents[2] / "shared" / "cases"
    for folder in sorted(path for path in shared.glob("*") if path.is_dir()):
        yield folder.name, lambda target, source=folder: shutil.copytree(source, target)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_small_input_takes_more_than_three_gigabytes_or_hangs(command: str, tmp_path: Path) -> None:
    """Each in a run of its own, since most have the same UIDs; those that are read take what a healthy one takes.

    On a busy machine processor time is longer too: run it alone.
    """
    used: list[tuple[Use, str]] = []
    for n, (name, make) in enumerate([("the healthy study", write_clean), *small_inputs()]):
        folder, out = tmp_path / f"in-{n}", tmp_path / f"out-{n}"
        make(folder)
        words = [*COMMANDS[command], str(folder), "--out", str(out)]
        use = watch_command([sys.executable, "-m", "lungscreen.cli.main", *words])
        assert use.status in (0, 3), (name, use.output[-2000:])
        used.append((use, name))
        for path in (folder, out):
            shutil.rmtree(path)
    for title, key in (("MiB", lambda use: use.peak_mb), ("s of the processors", lambda use: use.processor_s)):
        for use, name in sorted(used, key=lambda pair: -key(pair[0]))[:5]:
            sys.stdout.write(f"{command} | {len(used)} inputs | {name} | {key(use):.0f} {title}\n")
    assert max(use.peak_mb for use, _ in used) < MOST_MB
    assert max(use.processor_s for use, _ in used) < LONGEST_REFUSAL_S + used[0][0].processor_s


def test_a_multi_frame_object_of_one_voxel_too_many_is_refused_by_its_header(tmp_path: Path) -> None:
    """The limit stands in the header's check, so that no pixel is read."""
    (tmp_path / "in").mkdir()
    path = make_enhanced(tmp_path / "in" / "a.dcm", clean_chest()[:24], step_mm=2.0)
    dataset = dcmread(path)
    dataset.Rows, dataset.Columns, dataset.NumberOfFrames = 4096, 4096, MOST_VOXELS // 4096**2 + 1
    dataset.save_as(path)
    out = tmp_path / "out"
    use = watch_command(
        [sys.executable, "-m", "lungscreen.cli.main", "screen", str(tmp_path / "in"), "--out", str(out)]
    )
    assert use.status == 3
    assert "size-absurd" in (out / "refused.csv").read_text()

"""Malformed studies and the code that each must get: at least two hundred, made from a healthy one.

    for case in hostile_cases(): case.make(folder); the folder's refusals must be those of case.codes, `read` where a
    report comes of it all the same

Families: where a file is cut, which bits are flipped, what a length says, sizes, spacings, positions, orientations,
rescale, missing and doubled UIDs, mixed series, wrong VRs, nested sequences, bombs (zip, deflated, encapsulated),
links, unreadable files, names in odd encodings, image files.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from dicom_factory import make_enhanced, make_series, set_codestream
from pydicom import dcmread
from pydicom.dataset import Dataset
from small_chest import ORIGIN, SPACING, chest

SLICES = 30


@dataclass(frozen=True)
class Case:
    """One malformed study. With `read` among the codes it is usable, and the others are said in its report."""

    name: str
    make: Callable[[Path], object]
    codes: frozenset[str]


def healthy(folder: Path, **options: Any) -> list[Path]:
    """The chest that the others are made from: every second slice, so that it stays fast."""
    place = {"hu": chest()[::2], "step_mm": 4.0, "spacing_mm": SPACING[1:], "origin_mm": ORIGIN}
    return make_series(folder, **(place | options))


def hostile_cases() -> Iterator[Case]:
    """Every case, each with a name of its own."""
    for family in (
        _cut,
        _flipped,
        _lengths,
        _sizes,
        _tags,
        _missing,
        _geometry,
        _mixed,
        _wrong_vrs,
        _nested,
        _bombs,
        _codestreams,
        _files,
        _images,
    ):
        yield from family()


def _case(name: str, make: Callable[[Path], object], *codes: str) -> Case:
    return Case(name, make, frozenset(codes))


def _every(folder: Path, change: Callable[[bytes], bytes], **options: Any) -> None:
    for path in healthy(folder, **options):
        path.write_bytes(change(path.read_bytes()))


def _cut() -> Iterator[Case]:
    """Every file cut at a byte: in the preamble, the meta header, the header, the pixels."""
    for size in (0, 1, 64, 127, 128, 131):
        yield _case(f"cut at {size}", lambda f, n=size: _every(f, lambda b: b[:n]), "not-dicom")
    for size in (132, 140, 160, 200, 260, 300):
        code = "not-dicom" if size < 200 else "not-ct"
        yield _case(f"cut at {size}", lambda f, n=size: _every(f, lambda b: b[:n]), code)
    for part in (0.02, 0.04, 0.06, 0.08, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
        code = "not-ct" if part < 0.05 else "header-incomplete" if part < 0.2 else "pixels-damaged"
        yield _case(f"cut at {part:.0%}", lambda f, p=part: _every(f, lambda b: b[: int(len(b) * p)]), code)
    for count in (3, 8, 15):

        def some(folder: Path, n: int = count) -> None:
            for path in healthy(folder, shuffle=False)[5 : 5 + n]:
                os.truncate(path, path.stat().st_size // 2)

        yield _case(f"{count} slices cut short", some, "slice-gap")


_FLIPPED = (
    "not-dicom", "header-incomplete", "dicom-damaged", "not-dicom", "not-ct",
    "header-incomplete", "header-incomplete", "pixels-unsupported", "pixels-unsupported", "header-incomplete",
    "rescale-invalid", "read", "read", "read", "read",
    "spacing-invalid", "position-invalid", "rescale-missing", "header-incomplete", "header-incomplete",
)  # fmt: skip
"""By seed: which part of the header the flipped bits hit."""


def _flipped() -> Iterator[Case]:
    """The word DICM, the UID of the class, bits all over the header."""
    yield _case("no DICM", lambda f: _every(f, lambda b: b.replace(b"DICM", b"DICN", 1)), "not-dicom")
    yield _case("class unknown", lambda f: healthy(f, tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.999"}), "not-ct")
    yield _case("class of MR", lambda f: healthy(f, tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}), "not-ct")
    yield _case("class of SR", lambda f: healthy(f, tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}), "not-ct")
    for seed, code in enumerate(_FLIPPED):

        def noise(data: bytes, seed: int = seed) -> bytes:
            chance, array = np.random.default_rng(seed), bytearray(data)
            for place in chance.integers(*((132, 900, 12) if seed < 5 else (360, 1000, 2))):
                array[place] ^= 1 << int(chance.integers(8))
            return bytes(array)

        # always the same bytes: a longer UID would move what the bits hit
        same = {
            "study_uid": "1.2.3",
            "series_uid": "1.2.3.4",
            "tags": {"FrameOfReferenceUID": "1.2.3.9"},
            "edit": _same,
        }
        yield _case(f"bits of the header flipped, {seed}", lambda f, n=noise, o=same: _every(f, n, **o), code)


def _lengths() -> Iterator[Case]:
    """An element says that it is longer than the file, or than memory."""
    for length in (0xFFFFFFFF, 0xFFFFFFFE, 0x7FFFFFFF, 0x40000000, 1 << 20, 3):

        def change(data: bytes, n: int = length) -> bytes:
            place = data.rindex(b"\xe0\x7f\x10\x00OW\x00\x00") + 8
            return data[:place] + struct.pack("<I", n) + data[place + 4 :]

        # What is longer than the file ends with it: all the pixels are there. The largest number means "not said".
        code = "pixels-damaged" if length in (3, 0xFFFFFFFF) else "read"
        yield _case(f"pixels {length} bytes long", lambda f, c=change: _every(f, c), code)
    for length in (0xFFFF, 0x8000, 1000):

        def short(data: bytes, n: int = length) -> bytes:
            place = data.index(b"\x10\x00\x10\x00PN") + 6
            return data[:place] + struct.pack("<H", n) + data[place + 2 :]

        yield _case(f"name {length} bytes long", lambda f, c=short: _every(f, c), "header-incomplete")
    for length in (0xFFFFFFF0, 5):

        def group(data: bytes, n: int = length) -> bytes:
            return data[:140] + struct.pack("<I", n) + data[144:]

        yield _case(f"meta header {length} bytes long", lambda f, c=group: _every(f, c), "read")


def _sizes() -> Iterator[Case]:
    """Rows, columns, bits and samples that no CT has, or that the pixels do not have."""
    for rows, columns in ((0, 74), (50, 0), (65535, 65535), (5000, 74), (50, 5000), (4097, 4097)):
        yield _case(
            f"{rows} x {columns}",
            lambda f, r=rows, c=columns: healthy(f, tags={"Rows": r, "Columns": c}),
            "size-absurd",
        )
    for rows, columns in ((51, 74), (50, 75), (100, 74), (4000, 4000), (25, 74)):
        yield _case(
            f"pixels are not {rows} x {columns}",
            lambda f, r=rows, c=columns: healthy(f, tags={"Rows": r, "Columns": c}),
            "pixels-damaged",
        )
    for bits in (1, 4, 12, 24, 32, 64):
        yield _case(
            f"{bits} bits allocated", lambda f, b=bits: healthy(f, tags={"BitsAllocated": b}), "pixels-unsupported"
        )
    yield _case("colour", lambda f: healthy(f, tags={"SamplesPerPixel": 3}), "pixels-unsupported")
    yield _case(
        "16 bits stored, 12 used of 0", lambda f: healthy(f, tags={"BitsStored": 0, "HighBit": 0}), "pixels-unsupported"
    )
    for frames in (20_000, 2_000_000_000):
        yield _case(f"{frames} frames", lambda f, n=frames: healthy(f, tags={"NumberOfFrames": n}), "size-absurd")


def _tags() -> Iterator[Case]:
    """Values of single elements."""
    for value in ([0, 0], [-1, 1], [1e-9, 1e-9], [100, 100], [6, 6], ["nan", "nan"], [1], ["a", "b"], ""):
        yield _case(f"spacing {value}", lambda f, v=value: healthy(f, tags={"PixelSpacing": v}), "spacing-invalid")
    for value in ("0", "nan", "inf", "x", "", "1e400"):
        code = "rescale-invalid" if value else "rescale-missing"
        yield _case(f"slope {value!r}", lambda f, v=value: healthy(f, tags={"RescaleSlope": v}), code)
    for value in ("nan", "1,5", "", "-inf"):
        code = "rescale-invalid" if value else "rescale-missing"
        yield _case(f"intercept {value!r}", lambda f, v=value: healthy(f, tags={"RescaleIntercept": v}), code)
    for value in (["x", "y", "z"], [1, 2], ["nan", 0, 0], ["inf", 0, 0], "", ["1e999", 0, 0]):
        yield _case(
            f"position {value}", lambda f, v=value: healthy(f, tags={"ImagePositionPatient": v}), "position-invalid"
        )
    for value, code in (
        ([0, 0, 0, 0, 0, 0], "not-axial"), ([1, 0, 0, 1, 0, 0], "position-invalid"), ([1, 0, 0], "position-invalid"),
        (["nan"] * 6, "position-invalid"), ([2, 0, 0, 0, 2, 0], "too-thick"), ("", "position-invalid"),
    ):  # fmt: skip
        yield _case(f"orientation {value}", lambda f, v=value: healthy(f, tags={"ImageOrientationPatient": v}), code)
    for kind in ("LOCALIZER",):
        yield _case(kind, lambda f, k=kind: healthy(f, tags={"ImageType": ["ORIGINAL", "PRIMARY", k]}), "localizer")
    for part in ("HEAD", "KNEE", "PELVIS"):
        yield _case(
            f"body part {part}",
            lambda f, p=part: healthy(f, tags={"BodyPartExamined": p}),
            "body-part-unclear",
            "read",
        )
    yield _case("units US", lambda f: healthy(f, tags={"RescaleType": "US"}), "unit-unspecified", "read")
    for unit in ("HU_MOD", "Z_EFF"):
        yield _case(f"units {unit}", lambda f, u=unit: healthy(f, tags={"RescaleType": u}), "not-hu")


def _missing() -> Iterator[Case]:
    """Elements that are not there."""
    expected = {
        "StudyInstanceUID": ("header-incomplete",), "SeriesInstanceUID": ("header-incomplete",),
        "SOPInstanceUID": ("header-incomplete",),
        "Rows": ("header-incomplete",), "Columns": ("header-incomplete",), "BitsAllocated": ("header-incomplete",),
        "ImagePositionPatient": ("position-invalid",), "ImageOrientationPatient": ("position-invalid",),
        "PixelSpacing": ("spacing-invalid",), "RescaleSlope": ("rescale-missing",),
        "RescaleIntercept": ("rescale-missing",),
        "PixelData": ("pixels-damaged",), "SOPClassUID": ("not-ct",),
    }  # fmt: skip
    for keyword, codes in expected.items():

        def without(folder: Path, keyword: str = keyword) -> None:
            for path in healthy(folder):
                dataset = dcmread(path)
                delattr(dataset, keyword)
                dataset.save_as(path, enforce_file_format=False)

        yield _case(f"no {keyword}", without, *codes)
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        for value in ("", "x" * 65, "../../etc/passwd", "1.2.3\n4"):
            yield _case(f"{keyword} {value[:20]!r}", lambda f, k=keyword, v=value: _force(f, k, v), "header-incomplete")


def _force(folder: Path, keyword: str, value: str) -> None:
    """A value that pydicom would refuse to write as what it is."""
    for path in healthy(folder):
        dataset = dcmread(path)
        dataset[keyword]._value = value
        dataset.save_as(path, enforce_file_format=False)


def _geometry() -> Iterator[Case]:
    """Positions that make no volume."""
    z = np.arange(SLICES) * 4.0
    line = np.stack([np.full(SLICES, ORIGIN[0]), np.full(SLICES, ORIGIN[1]), z], 1)
    yield _case(
        "all at one place",
        lambda f: healthy(f, positions_mm=line * (1, 1, 0)),
        "several-images-per-position",
    )
    yield _case("a hole of ten slices", lambda f: [p.unlink() for p in healthy(f, shuffle=False)[10:20]], "slice-gap")
    yield _case("a hole at a third", lambda f: [p.unlink() for p in healthy(f, shuffle=False)[8:13]], "slice-gap")
    yield _case(
        "five slices",
        lambda f: healthy(f, hu=chest()[::2][:5]),
        "too-few-slices",
    )
    yield _case("too thick", lambda f: healthy(f, step_mm=8.0), "too-thick")
    yield _case("too short", lambda f: healthy(f, step_mm=0.5), "too-short")
    yield _case(
        "squares apart",
        lambda f: healthy(f, positions_mm=line * (1, 1, 0) + (np.arange(SLICES) ** 2)[:, None] * (0, 0, 0.2)),
        "too-thick",
    )
    yield _case(
        "a zigzag",
        lambda f: healthy(f, positions_mm=line + (np.arange(SLICES) % 2)[:, None] * (40, 0, 0)),
        "positions-irregular",
    )
    yield _case(
        "a bow",
        lambda f: healthy(f, positions_mm=line + ((np.arange(SLICES) - 15) ** 2)[:, None] * (0.3, 0, 0)),
        "positions-irregular",
    )
    for degrees in (40, 60, 90):
        a = np.radians(degrees)
        yield _case(
            f"tilted by {degrees}",
            lambda f, a=a: healthy(f, orientation=(1, 0, 0, 0, float(np.cos(a)), float(np.sin(a)))),
            "not-axial",
        )
    for far in (1e6, 1e12, 1e30):
        yield _case(
            f"{far:g} mm away",
            lambda f, d=far: healthy(
                f, edit=lambda s, k: setattr(s, "ImagePositionPatient", [f"{d:.9g}", "0", f"{d + k:.9g}"])
            ),
            "too-short" if far < 1e9 else "several-images-per-position",  # nine digits keep no step
        )
    yield _case("no lungs", lambda f: healthy(f, hu=np.full((SLICES, 50, 74), 40, np.int16)), "no-lungs")
    yield _case("all air", lambda f: healthy(f, hu=np.full((SLICES, 50, 74), -1000, np.int16)), "no-lungs")


def _mixed() -> Iterator[Case]:
    """Several patients, studies or series where one belongs."""

    def two_patients(folder: Path) -> None:
        healthy(folder / "a", series_uid="1.2.3.4", study_uid="1.2.3")
        healthy(folder / "b", series_uid="1.2.3.4", study_uid="1.2.3", tags={"PatientID": "other"})

    def same_uids(folder: Path) -> None:
        for part in ("a", "b"):
            hu = chest()[::2] + (0 if part == "a" else 300)
            healthy(
                folder / part,
                hu=hu.astype(np.int16),
                tags={"FrameOfReferenceUID": "1.2.3.9"},
                series_uid="1.2.3.4",
                study_uid="1.2.3",
                edit=lambda d, k: _same(d, k),
            )

    yield _case("one series, two patients", two_patients, "series-two-patients")
    yield _case("one UID, two pixels", same_uids, "same-uid-other-pixels")
    yield _case("one UID for every slice", lambda f: healthy(f, edit=lambda d, _: _same(d, 0)), "same-uid-other-pixels")
    for count in (2, 3):

        def copies(folder: Path, count: int = count) -> None:
            for path in healthy(folder / "a"):
                for n in range(count - 1):
                    (folder / f"copy{n}").mkdir(exist_ok=True)
                    (folder / f"copy{n}" / path.name).write_bytes(path.read_bytes())

        yield _case(f"every file {count} times", copies, "duplicate-files", "read")


def _same(dataset: Dataset, number: int) -> None:
    dataset.SOPInstanceUID = f"1.2.3.4.{number + 1}"


def _wrong_vrs() -> Iterator[Case]:
    """An element in the wrong representation."""
    for keyword, old, new, code in (
        ("Rows", b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00SS", "read"),
        ("Rows", b"\x28\x00\x10\x00US", b"\x28\x00\x10\x00CS", "pixels-damaged"),
        ("PixelSpacing", b"\x28\x00\x30\x00DS", b"\x28\x00\x30\x00LO", "read"),
        ("PixelSpacing", b"\x28\x00\x30\x00DS", b"\x28\x00\x30\x00FD", "spacing-invalid"),
        ("Position", b"\x20\x00\x32\x00DS", b"\x20\x00\x32\x00FD", "position-invalid"),
        ("Position", b"\x20\x00\x32\x00DS", b"\x20\x00\x32\x00ZZ", "position-invalid"),
        ("SOP", b"\x08\x00\x18\x00UI", b"\x08\x00\x18\x00SQ", "header-incomplete"),
        ("Study", b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00US", "header-incomplete"),
        ("Name", b"\x10\x00\x10\x00PN", b"\x10\x00\x10\x00AT", "read"),
        ("Name", b"\x10\x00\x10\x00PN", b"\x10\x00\x10\x00SQ", "header-incomplete"),
        ("Pixels", b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00SQ", "pixels-damaged"),
        ("Pixels", b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00UN", "read"),
    ):
        yield _case(
            f"{keyword} as {new[-2:].decode()}", lambda f, o=old, n=new: _every(f, lambda b: b.replace(o, n)), code
        )


def _nested() -> Iterator[Case]:
    """Sequences in sequences."""
    for depth in (50, 500, 3000):

        def deep(data: bytes, depth: int = depth) -> bytes:
            item = b"\x08\x00\x15\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
            place = data.index(b"\x10\x00\x10\x00PN")
            return data[:place] + item * depth + data[place:]

        yield _case(f"sequences {depth} deep", lambda f, c=deep: _every(f, c), "dicom-damaged")


def _bombs() -> Iterator[Case]:
    """Small files that unpack to large ones."""

    def zip_bomb(folder: Path, size: int = 64 << 20, members: int = 1) -> None:
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for n in range(members):
                archive.writestr(f"{n}.dcm", b"\0" * size)

    def deflated(folder: Path) -> None:
        for path in healthy(folder):
            data = path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.1.99", 1)
            start = 144 + struct.unpack("<I", data[140:144])[0]
            packer = zlib.compressobj(9, zlib.DEFLATED, -15)
            path.write_bytes(data[:start] + packer.compress(b"\0" * (1 << 20)) + packer.flush())

    yield _case("zip of zeros", zip_bomb, "archive-too-large")
    yield _case("zip of many zeros", lambda f: zip_bomb(f, 4 << 20, 30), "archive-too-large")
    yield _case("deflated nothing", deflated, "not-ct")
    for name, member in (
        ("climbs", "../../x.dcm"),
        ("absolute", "/etc/x.dcm"),
        ("drive", "C:/x.dcm"),
        ("backslash", "..\\x.dcm"),
    ):

        def unsafe(folder: Path, member: str = member) -> None:
            folder.mkdir(parents=True)
            with zipfile.ZipFile(folder / "x.zip", "w") as archive:
                archive.writestr(member, b"x")

        yield _case(f"zip that {name}", unsafe, "archive-unsafe")

    def nested(folder: Path) -> None:
        inner = io.BytesIO()
        with zipfile.ZipFile(inner, "w") as archive:
            archive.writestr("x", b"x")
        folder.mkdir(parents=True)
        with zipfile.ZipFile(folder / "x.zip", "w") as archive:
            archive.writestr("inner.zip", inner.getvalue())

    yield _case("zip in a zip", nested, "archive-nested")
    for keep in (4, 40, 90):

        def cut(folder: Path, keep: int = keep) -> None:
            zip_bomb(folder, 1000)
            data = (folder / "bomb.zip").read_bytes()
            (folder / "bomb.zip").write_bytes(data[:keep])

        yield _case(f"zip cut at {keep}", cut, "archive-damaged")


def _codestreams() -> Iterator[Case]:
    """Encapsulated pixels that no decoder can read."""
    for syntax, name in (
        ("1.2.840.10008.1.2.4.80", "JPEG-LS"), ("1.2.840.10008.1.2.4.90", "JPEG 2000"), ("1.2.840.10008.1.2.5", "RLE"),
        ("1.2.840.10008.1.2.4.70", "JPEG lossless"),
    ):  # fmt: skip
        for what, stream in (
            ("of two bytes", b"\0\0"),
            ("of noise", bytes(range(256)) * 4),
            ("of zeros", b"\0" * 1000),
        ):
            yield _case(
                f"{name} {what}",
                lambda f, s=syntax, b=stream: healthy(f, syntax=s, edit=lambda d, _: set_codestream(d, b)),
                "pixels-damaged",
            )  # fmt: skip
    for syntax, name, stream in _encapsulated_bombs():
        yield _case(
            f"{name} bomb",
            lambda f, s=syntax, b=stream: healthy(f, syntax=s, edit=lambda d, _: set_codestream(d, b)),
            "pixels-damaged",
        )
    from pydicom.pixels.encoders import RLELosslessEncoder

    for rows, columns in ((100, 74), (25, 74)):
        frame = np.arange(rows * columns, dtype=np.uint16).reshape(rows, columns)
        options = {"rows": rows, "columns": columns, "bits_allocated": 16, "bits_stored": 16, "samples_per_pixel": 1}
        options |= {"number_of_frames": 1, "pixel_representation": 0, "photometric_interpretation": "MONOCHROME2"}
        stream = RLELosslessEncoder.encode(frame.tobytes(), encoding_plugin="pydicom", **options)  # type: ignore[arg-type]
        yield _case(
            f"RLE of {rows} x {columns}",
            lambda f, b=stream: healthy(f, syntax="1.2.840.10008.1.2.5", edit=lambda d, _: set_codestream(d, b)),
            "pixels-damaged",
        )
    for syntax in ("1.2.840.10008.1.2.4.100", "1.2.3.4.5"):
        yield _case(
            f"syntax {syntax}",
            lambda f, s=syntax: healthy(f, syntax=s, edit=lambda d, _: set_codestream(d, b"x" * 20)),
            "transfer-syntax",
        )


def _encapsulated_bombs() -> Iterator[tuple[str, str, bytes]]:
    """A few bytes that say they are 60,000 x 60,000 pixels; runs that unpack to far more than the header says."""
    sizes = struct.pack(">HBHHBBBB", 11, 16, 60_000, 60_000, 1, 1, 0x11, 0)
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x00\x00" + b"\0" * 1000 + b"\xff\xd9"
    yield "1.2.840.10008.1.2.4.80", "JPEG-LS", b"\xff\xd8\xff\xf7" + sizes + scan
    yield "1.2.840.10008.1.2.4.70", "JPEG lossless", b"\xff\xd8\xff\xc3" + sizes + scan
    siz = struct.pack(">HHIIIIIIIIHBBB", 41, 0, 60_000, 60_000, 0, 0, 60_000, 60_000, 0, 0, 1, 15, 1, 1)
    yield "1.2.840.10008.1.2.4.90", "JPEG 2000", b"\xff\x4f\xff\x51" + siz + b"\0" * 1000 + b"\xff\xd9"
    yield "1.2.840.10008.1.2.5", "RLE", struct.pack("<16I", 2, 64, 100_064, *[0] * 13) + b"\x81\0" * 100_000


def _files() -> Iterator[Case]:
    """What a folder can hold beside files; names in odd encodings."""

    def loop(folder: Path) -> None:
        folder.mkdir(parents=True)
        (folder / "loop").symlink_to(folder)
        (folder / "nowhere").symlink_to(folder / "gone")

    def pipe(folder: Path) -> None:
        folder.mkdir(parents=True)
        os.mkfifo(folder / "pipe.dcm")

    def odd(folder: Path) -> None:
        folder.mkdir(parents=True)
        for name in (b"\xff\xfe.dcm", b"new\nline.dcm", b"\x1b[31m.dcm", "ｆ́.dcm".encode()):
            Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(b"no DICOM")  # noqa: PTH118 - bytes

    yield _case("links in circles", loop, "file-unreadable")
    yield _case("a pipe", pipe, "file-unreadable")
    yield _case("odd file names", odd, "not-dicom")
    yield _case("an empty folder", lambda f: f.mkdir(parents=True), "input-empty")
    yield _case("a text", lambda f: f.mkdir(parents=True) or (f / "a.txt").write_text("x"), "not-dicom")
    for charset in ("ISO_IR 13", "ISO 2022 IR 149", "GB18030", "ISO_IR 999", "\\ISO 2022 IR 87"):
        yield _case(
            f"name in {charset}",
            lambda f, c=charset: healthy(f, edit=lambda d, _: d.add_new("SpecificCharacterSet", "CS", c)),
            "read",
        )  # fmt: skip
    yield _case(
        "enhanced without frames",
        lambda f: make_enhanced(f / "x.dcm", edit=lambda d: delattr(d, "PerFrameFunctionalGroupsSequence")),
        "frames-invalid",
    )
    yield _case(
        "enhanced with one frame described",
        lambda f: make_enhanced(
            f / "x.dcm",
            edit=lambda d: setattr(d, "PerFrameFunctionalGroupsSequence", d.PerFrameFunctionalGroupsSequence[:1]),
        ),
        "frames-invalid",
    )
    yield _case(
        "enhanced without places",
        lambda f: make_enhanced(
            f / "x.dcm",
            edit=lambda d: [delattr(i, "PlanePositionSequence") for i in d.PerFrameFunctionalGroupsSequence],
        ),
        "frames-invalid",
    )


def _images() -> Iterator[Case]:
    """Image files that are none."""
    for ending in (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"):
        for what, content in (("empty", b""), ("noise", bytes(range(256)) * 8), ("zeros", b"\0" * 4000)):

            def write(folder: Path, ending: str = ending, content: bytes = content) -> None:
                folder.mkdir(parents=True)
                (folder / f"scan{ending}").write_bytes(content)

            yield _case(f"{ending} of {what}", write, "image-damaged")

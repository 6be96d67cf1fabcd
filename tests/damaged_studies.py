"""Damaged studies, each with what must come of it: the clean study's lungs and findings, or a refusal's exact code.

    for case in damaged_studies(): case.make(folder); `case.codes` are said, and where `case.read` the values are right

All are made of one chest: two lungs with a nodule each, a trachea, fat under the skin, noise.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import SimpleITK as sitk
from dicom_factory import make_series, set_codestream, set_stored, slice_positions
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from test_volume_decode import as_jpeg_lossless

from lungscreen.geometry import Geometry

__all__ = ["SLICES", "Damage", "clean_chest", "damaged_studies", "write_clean", "write_image"]

SHAPE = SLICES, ROWS, COLUMNS = (128, 72, 92)
SPACING = (2.0, 4.0, 4.0)
ORIGIN = (-180.0, -140.0, -700.0)
MIDDLE = 60
NODULES = ((48, 34, 24), (76, 40, 68))

Pixels = NDArray[np.int16]


@dataclass(frozen=True)
class Damage:
    """One damaged study. read: whether a report with the clean study's values comes of it. category: its own."""

    name: str
    make: Callable[[Path], object]
    codes: frozenset[str]
    read: bool
    category: str = ""
    same_values: bool = True


@cache
def clean_chest() -> Pixels:
    """HU (z, y, x)."""
    z, y, x = np.ogrid[:SLICES, :ROWS, :COLUMNS]
    outer = ((y - 36) / 31.0) ** 2 + ((x - 46) / 42.0) ** 2
    hu = np.where((outer < 1) & (z >= 0), -104.0, -1000.0)
    hu[np.broadcast_to(((y - 36) / 27.0) ** 2 + ((x - 46) / 38.0) ** 2 < 1, SHAPE)] = 45
    for middle in (24, 68):
        lung = ((z - 60) / 50.0) ** 2 + ((y - 36) / 20.0) ** 2 + ((x - middle) / 13.0) ** 2 < 1
        hu[lung] = -860
    for nodule in NODULES:
        hu[((z - nodule[0]) / 2) ** 2 + (y - nodule[1]) ** 2 + (x - nodule[2]) ** 2 < 5] = 60
    hu[((y - 34) ** 2 + (x - 46) ** 2 < 7) & (z > 76)] = -1000
    noise = np.random.default_rng(5).normal(0, 14, SHAPE)
    return np.rint(np.clip(hu + noise, -1024, 1500)).astype(np.int16)


def write_clean(folder: Path, hu: Pixels | None = None, **options: Any) -> list[Path]:
    """The chest as DICOM, the files in the order of the slices."""
    place = {"step_mm": SPACING[0], "spacing_mm": SPACING[1:], "origin_mm": ORIGIN, "shuffle": False}
    return make_series(folder, clean_chest() if hu is None else hu, **(place | options))


def write_image(path: Path, hu: Pixels | None = None, packed: bool = True) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(clean_chest() if hu is None else hu)
    image.SetSpacing(SPACING[::-1])
    image.SetOrigin(ORIGIN)
    sitk.WriteImage(image, str(path), packed)
    return path


def damaged_studies() -> Iterator[Damage]:
    """Every case, each with a name of its own."""
    for family in (_slices, _codestreams, _large, _passes, _units, _people, _lungs, _images, _headers):
        yield from family()


def _filled(name: str, make: Callable[[Path], object], *more: str) -> Damage:
    """Interpolated, and said."""
    return Damage(name, make, frozenset({"slices-damaged", "slices-filled", *more}), read=True)


def _refused(name: str, make: Callable[[Path], object], *codes: str) -> Damage:
    return Damage(name, make, frozenset(codes), read=False)


def _read(name: str, make: Callable[[Path], object], *codes: str, **more: Any) -> Damage:
    return Damage(name, make, frozenset(codes), read=True, **more)


def _changed(change: Callable[[Pixels], None]) -> Callable[[Path], object]:
    """The chest with its voxels changed in place."""

    def make(folder: Path) -> None:
        hu = clean_chest().copy()
        change(hu)
        write_clean(folder, hu)

    return make


def _tagged(numbers: slice, **tags: Any) -> Callable[[Path], object]:
    """The chest with some slices' elements changed, their pixels as they are."""

    def edit(dataset: Dataset, k: int) -> None:
        if k in range(SLICES)[numbers]:
            for keyword, value in tags.items():
                setattr(dataset, keyword, value)

    return lambda folder: write_clean(folder, edit=edit)


def _stored_zero(*numbers: int) -> Callable[[Path], object]:
    def edit(dataset: Dataset, k: int) -> None:
        if k in numbers:
            set_stored(dataset, np.zeros((ROWS, COLUMNS), np.int64))

    return lambda folder: write_clean(folder, edit=edit)


def _put(hu: Pixels, numbers: slice | int, value: Any) -> None:
    hu[numbers] = value


def _slices() -> Iterator[Damage]:
    """Slices that are not what they say."""
    m = MIDDLE
    yield _filled("a slice of zeros", _stored_zero(m))
    yield _refused("two slices of zeros, 6 mm apart", _stored_zero(m, m + 1), "slice-gap")
    yield _filled("five scattered slices of zeros", _stored_zero(24, 42, 63, 80, 95))
    yield _refused("three slices of zeros", _stored_zero(m, m + 1, m + 2), "slice-gap")
    yield _refused("ten slices of zeros", _stored_zero(*range(m, m + 10)), "slice-gap")
    yield _filled("a slice without its intercept", _tagged(slice(m, m + 1), RescaleIntercept=0))
    yield _refused("ten slices without their intercept", _tagged(slice(m, m + 10), RescaleIntercept=0), "slice-gap")
    yield _filled("a slice with slope 2", _tagged(slice(m, m + 1), RescaleSlope=2))
    yield _refused("ten slices with slope 2", _tagged(slice(m, m + 10), RescaleSlope=2), "slice-gap")
    yield _filled("a slice back to front", _changed(lambda hu: _put(hu, m, hu[m, ::-1, ::-1] + 0)))
    yield _filled("a slice moved aside", _changed(lambda hu: _put(hu, m, np.roll(hu[m], 12, axis=1))))
    yield _filled("half a slice of zeros", _changed(lambda hu: _put(hu[m], slice(36, None), -1024)))
    yield _filled(
        "a block of noise",
        _changed(lambda hu: _put(hu[m], np.s_[30:50, 20:45], np.random.default_rng(1).integers(-1024, 1500, (20, 25)))),
    )
    yield _filled("a slice of noise", _changed(lambda hu: _put(hu, m, np.random.default_rng(2).permuted(hu[m]))))
    yield _filled("a slice that repeats the one below", _changed(lambda hu: _put(hu, m + 1, hu[m].copy())))
    yield _filled("a slice that repeats one far off", _changed(lambda hu: _put(hu, m + 1, hu[m - 32].copy())))
    yield _refused(
        "one slice fifteen times", _changed(lambda hu: _put(hu, slice(m, m + 15), hu[m].copy())), "slice-gap"
    )
    yield _refused(
        "fifteen slices of elsewhere", _changed(lambda hu: _put(hu, slice(72, 87), hu[30:45].copy())), "slice-gap"
    )
    half = _tagged(slice(0, 60), RescaleIntercept=0)
    yield _refused("half of the slices without their intercept", half, "pixels-damaged")
    yield _read("zeros beyond the lungs", _stored_zero(125, 126, 127), "slices-damaged")
    yield _read("ten slices 30 HU off", _tagged(slice(m, m + 10), RescaleIntercept=-994), "values-uneven")
    yield _read("all slices 24 HU off", _tagged(slice(None), RescaleIntercept=-1000), "values-shifted")
    yield _refused("all slices with slope 2", _tagged(slice(None), RescaleSlope=2), "not-hu")


# -- encoded ---------------------------------------------------------------------------------------------------------
def _stored(dataset: Dataset) -> NDArray[np.uint16]:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


def _as_jpeg_ls(dataset: Dataset, k: int) -> None:
    set_codestream(dataset, bytes(jpeg_ls.encode_array(_stored(dataset))))


def _as_jpeg_2000(dataset: Dataset, k: int) -> None:
    file = BytesIO()
    Image.fromarray(_stored(dataset)).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    set_codestream(dataset, file.getvalue())


def _encoded(encode: Callable[[Dataset, int], None], numbers: range, spoil: Callable[[bytes], bytes]) -> Any:
    def edit(dataset: Dataset, k: int) -> None:
        encode(dataset, k)
        if k in numbers:
            set_codestream(dataset, spoil(next(generate_frames(dataset.PixelData, number_of_frames=1)).rstrip(b"\0")))

    return edit


def _half_lost(stream: bytes) -> bytes:
    half = len(stream) // 2
    return stream[:half] + bytes(len(stream) - half - 2) + stream[-2:]


def _codestreams() -> Iterator[Damage]:
    ls, j2k = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"
    one, ten, every = range(MIDDLE, MIDDLE + 1), range(MIDDLE, MIDDLE + 10), range(SLICES)
    lossless = "1.2.840.10008.1.2.4.70"
    for name, syntax, encode in (
        ("JPEG-LS", ls, _as_jpeg_ls),
        ("JPEG 2000", j2k, _as_jpeg_2000),
        ("JPEG lossless", lossless, as_jpeg_lossless),
    ):
        for numbers, make in ((one, _filled), (ten, _refused)):
            edit = _encoded(encode, numbers, _half_lost)
            codes = () if make is _filled else ("slice-gap",)
            yield make(
                f"{name}, half of {len(numbers)} lost",
                lambda f, s=syntax, e=edit: write_clean(f, syntax=s, edit=e),
                *codes,
            )
        edit = _encoded(encode, every, lambda stream: stream + b"\xff\xff")
        yield _read(f"{name} with FF behind its end", lambda f, s=syntax, e=edit: write_clean(f, syntax=s, edit=e))

    def padded(dataset: Dataset, k: int) -> None:
        dataset.PixelData += bytes(300)

    yield _read("zeros behind the pixels", lambda f: write_clean(f, edit=padded))


def _large() -> Iterator[Damage]:
    """Files that are, or unpack to, more than any image is."""

    def sparse(count: int) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            for path in write_clean(folder)[MIDDLE : MIDDLE + count]:
                os.truncate(path, 200 * 10**9)

        return make

    yield _filled("a file of 200 GB", sparse(1))
    yield _refused("ten files of 200 GB", sparse(10), "slice-gap")

    def bombs(count: int, with_length: bool) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            for path in write_clean(folder, syntax="1.2.840.10008.1.2.1.99")[MIDDLE : MIDDLE + count]:
                data = path.read_bytes()
                start = 144 + int.from_bytes(data[140:144], "little")
                packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
                packed = packer.compress(zlib.decompress(data[start:], -zlib.MAX_WBITS)) + packer.compress(
                    bytes(1 << 26)
                )
                head = data[:start] if with_length else data[:132] + data[144:start]
                path.write_bytes(head + packed + packer.flush())

        return make

    for text, with_length in (("", True), (" without group length", False)):
        yield _read(f"a deflated bomb{text}", bombs(1, with_length), "slices-filled")
        yield _refused(f"ten deflated bombs{text}", bombs(10, with_length), "slice-gap", "file-too-large")


# -- passes ----------------------------------------------------------------------------------------------------------
_UIDS = {"study_uid": "1.2.3", "series_uid": "1.2.3.4"}
_FRAME = {"FrameOfReferenceUID": "1.2.3.9"}


def _run(
    folder: Path, name: str, numbers: slice, add: int = 0, shift: float = 0.0, begin: int = 0, **tags: Any
) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.AcquisitionTime = f"10{(begin + k) // 60:02d}{(begin + k) % 60:02d}"

    places = slice_positions(SLICES, SPACING[0], origin_mm=ORIGIN)[numbers] + (0.0, 0.0, shift)
    hu = clean_chest()[numbers] + np.int16(add)
    write_clean(folder, hu, positions_mm=places, prefix=name, edit=edit, tags=_FRAME | tags, **_UIDS)


def _passes() -> Iterator[Damage]:
    def runs(*rest: dict[str, Any]) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            for n, options in enumerate(rest):
                _run(folder, f"run{n}", **options)

        return make

    whole = {"numbers": slice(None)}
    yield _read("a slice once more", runs(whole, {"numbers": slice(60, 61), "add": 50, "begin": 500}), "several-passes")
    yield _read("a part once more", runs(whole, {"numbers": slice(40, 90), "add": 100, "begin": 500}), "several-passes")
    yield _read(
        "two runs that overlap",
        runs({"numbers": slice(0, 80)}, {"numbers": slice(56, None), "begin": 500, "add": 1}),
        "several-passes",
    )
    first, second = ({"TemporalPositionIdentifier": n} for n in (1, 2))
    yield _read(
        "two moments half a step apart",
        runs({**whole, **first}, {**whole, **second, "shift": 1.0, "add": 3}),
        "several-passes",
    )


def _units() -> Iterator[Damage]:
    yield _read("units in words", lambda f: write_clean(f, tags={"RescaleType": "Hounsfield Unit"}))
    yield _read("units unspecified", lambda f: write_clean(f, tags={"RescaleType": "US"}), "unit-unspecified")
    raw = {"RescaleType": "US", "RescaleIntercept": -700}
    yield _refused("units unspecified, and no air", lambda f: write_clean(f, tags=raw), "not-hu")


def _people() -> Iterator[Damage]:
    """Whom and what the networks do not know."""
    age = {"PatientAge": "008Y"}
    yield _read("a child by its age", lambda f: write_clean(f, tags=age), "not-adult")
    dates = {"PatientBirthDate": "20150101", "StudyDate": "20210101"}
    yield _read("a child by its dates", lambda f: write_clean(f, tags=dates), "not-adult")
    for tags in ({"SeriesDescription": "CT AC WB  3.0"}, {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CTAC"]}):
        name = f"for attenuation correction by its {next(iter(tags))}"
        yield _read(name, lambda f, t=tags: write_clean(f, tags=t), "attenuation-correction")


def _opaque(middle: int, nodules: bool) -> Callable[[Pixels], None]:
    """One lung as dense as muscle; with or without the other one's nodule."""

    def change(hu: Pixels) -> None:
        z, y, x = np.ogrid[:SLICES, :ROWS, :COLUMNS]
        noise = np.random.default_rng(8).normal(0, 14, SHAPE)
        for centre, value in ((middle, 30.0), *(() if nodules else ((92 - middle, -860.0),))):
            lung = ((z - 60) / 50.0) ** 2 + ((y - 36) / 20.0) ** 2 + ((x - centre) / 13.0) ** 2 < 1
            hu[lung] = np.rint(value + noise[lung])

    return change


def _lungs() -> Iterator[Damage]:
    for side, middle in (("right", 24), ("left", 68)):
        yield _read(
            f"an opaque {side} lung",
            _changed(_opaque(middle, nodules=False)),
            "lung-missing", "not-evaluable",
            category="0",
            same_values=False,
        )  # fmt: skip
        yield _read(
            f"an opaque {side} lung, a nodule in the other",
            _changed(_opaque(middle, nodules=True)),
            "lung-missing", "not-evaluable",
            category="4B",
            same_values=False,
        )  # fmt: skip
    yield _read(
        "head and feet exchanged",
        lambda f: write_clean(f, np.ascontiguousarray(clean_chest()[::-1])),
        "upside-down",
        same_values=False,
    )

    def parted(hu: Pixels) -> None:
        z, y, x = np.ogrid[:SLICES, :ROWS, :COLUMNS]
        oblique = (np.abs(z - 60 - (y - 36)) < 4) & (((y - 36) / 27.0) ** 2 + ((x - 46) / 38.0) ** 2 < 1)
        hu[oblique & (hu < -300)] = 45

    yield _read("lungs parted", _changed(parted), "lung-left-out", category="0", same_values=False)


# -- image files -----------------------------------------------------------------------------------------------------
def _flipped(ending: str, place: float) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = write_image(folder / f"scan{ending}")
        data = bytearray(path.read_bytes())
        data[int(len(data) * place)] ^= 4
        path.write_bytes(data)

    return make


def _cut(ending: str, count: int) -> Callable[[Path], object]:
    def make(folder: Path) -> None:
        path = write_image(folder / f"scan{ending}")
        path.write_bytes(path.read_bytes()[:-count])

    return make


def _images() -> Iterator[Damage]:
    for ending in (".nii.gz", ".nrrd", ".mha"):
        yield _read(f"{ending} as it is", lambda f, e=ending: write_image(f / f"scan{e}"))
        yield _refused(f"{ending} with a bit flipped", _flipped(ending, 0.6), "image-damaged")
        yield _refused(f"{ending} without its last bytes", _cut(ending, 3), "image-damaged")

    def lost(folder: Path) -> None:
        path = write_image(folder / "scan.mha")
        data = path.read_bytes()
        half = len(data) // 2
        path.write_bytes(data[:half] + bytes(len(data) - half))

    yield _refused("half of an mha lost", lost, "image-damaged")

    def zeroed(count: int) -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            hu = clean_chest().copy()
            hu[MIDDLE : MIDDLE + count] = 0
            write_image(folder / "scan.nii.gz", hu)

        return make

    yield _filled("an image with a slice of zeros", zeroed(1))
    yield _refused("an image with ten slices of zeros", zeroed(10), "slice-gap")

    def bomb(folder: Path) -> None:
        folder.mkdir(parents=True)
        path = write_image(folder / "scan.nii", packed=False)
        head = bytearray(path.read_bytes()[:352])
        head[42:48] = np.array([1000, 1000, 400], "<i2").tobytes()
        path.unlink()
        (folder / "scan.nii.gz").write_bytes(gzip.compress(bytes(head) + bytes(1 << 20)))

    yield _refused("a small file of 0.8 GB", bomb, "file-too-large")


def _headers() -> Iterator[Damage]:
    def sform(folder: Path) -> None:
        path = write_image(folder / "scan.nii", packed=False)
        data = bytearray(path.read_bytes())
        rows = np.frombuffer(data, "<f4", 12, 280).reshape(3, 4).copy()
        rows[2, :3] *= 0.8
        data[280:328] = rows.astype("<f4").tobytes()
        path.write_bytes(data)

    yield _refused("sform of another scale", sform, "image-geometry")

    def nameless(folder: Path) -> None:
        path = write_image(folder / "scan.nrrd")
        path.write_bytes(path.read_bytes().replace(b"space: left-posterior-superior", b"space dimension: 3", 1))

    yield _refused("a space without a name", nameless, "image-geometry")

    def pointing(target: str, sign: str = " = ") -> Callable[[Path], object]:
        def make(folder: Path) -> None:
            path = write_image(folder / "scan.mhd", packed=False)
            (folder / "scan.raw").rename(folder / "CT scan 1.raw")
            (folder.parent / f"{folder.name}.secret.raw").write_bytes((folder / "CT scan 1.raw").read_bytes())
            name = target.replace("SECRET", str(folder.parent / f"{folder.name}.secret.raw"))
            text = path.read_text().replace("ElementDataFile = scan.raw", f"ElementDataFile{sign}{name}")
            path.write_text(text)

        return make

    yield _read("a data file with blanks in its name", pointing("CT scan 1.raw"))
    yield _read("a data file named with ./", pointing("./CT scan 1.raw"))
    yield _refused("a data file elsewhere, after a colon", pointing("SECRET", ": "), "image-reference")
    yield _refused("a data file elsewhere, after a tab", pointing("SECRET", "\t=\t"), "image-reference")


def nodule_places() -> NDArray[np.float64]:
    """LPS mm of both nodules."""
    return Geometry.axial(SHAPE, SPACING, ORIGIN).to_mm(NODULES)

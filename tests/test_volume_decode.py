"""Stored values: decoders pinned per transfer syntax, padding, rescale, bits, clipping; damaged codestreams."""

from __future__ import annotations

import copy
import os
import shutil
import struct
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any

import jpeg_ls
import numpy as np
import pydicom.config
import pytest
import SimpleITK
from dicom_factory import (
    make_enhanced,
    make_series,
    ramp_hu,
    save,
    set_codestream,
    set_stored,
    set_tags,
    slice_positions,
)
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from lungscreen.errors import LungscreenError, VolumeError
from lungscreen.records import Volume
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume
from lungscreen.volume import decode as decoders
from lungscreen.volume.decode import DECODERS, decode_frame
from lungscreen.volume.jpeg_ls import decode_jpeg_ls
from lungscreen.volume.library_warnings import hear_warnings
from lungscreen.volume.values import Rescale, Values, read_shape, to_hu

ANY_SIZE = VolumeConfig(min_slices=1, min_extent_mm=0)
JPEG_LS, JPEG_LS_LOSSY = "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"
JPEG_2000, JPEG_LOSSLESS = "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.70"


def build(folder: Path) -> Volume:
    inventory = find_series([folder])
    assert inventory.studies, inventory.refused
    return build_volume(inventory.studies[0].series[0], ANY_SIZE)


def codes(volume: Volume) -> list[str]:
    return [notice.code for notice in volume.notices if notice not in volume.series.notices]


def stored_of(dataset: Dataset) -> NDArray[Any]:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(dataset.Rows, dataset.Columns)


# -- native syntaxes -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "syntax",
    ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"],
    ids=["implicit", "explicit", "deflated"],
)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_native_pixels(tmp_path: Path, syntax: str, signed: bool) -> None:
    make_series(
        tmp_path, slices=6, syntax=syntax, signed=signed, bits_stored=13, intercept=-24.0 if signed else -1024.0
    )
    assert np.array_equal(build(tmp_path).hu, ramp_hu(6))


def test_big_endian_pixels(tmp_path: Path) -> None:
    def edit(dataset: Dataset, k: int) -> None:
        dataset.PixelData = stored_of(dataset).astype(">u2").tobytes()

    make_series(tmp_path, slices=6, syntax="1.2.840.10008.1.2.2", edit=edit)
    assert np.array_equal(build(tmp_path).hu, ramp_hu(6))


def test_8_bit_pixels_of_odd_length(tmp_path: Path) -> None:
    """An odd number of bytes is padded to even: that is no excess."""
    hu = np.arange(6 * 15, dtype=np.int16).reshape(6, 3, 5)

    def edit(dataset: Dataset, k: int) -> None:
        dataset.BitsAllocated = dataset.BitsStored = 8
        dataset.HighBit = 7
        dataset.PixelData = hu[k].astype(np.uint8).tobytes() + b"\0"
        dataset["PixelData"].VR = "OB"

    make_series(tmp_path, hu, intercept=0, edit=edit)
    assert np.array_equal(build(tmp_path).hu, hu)


# -- encapsulated syntaxes -------------------------------------------------------------------------------------------
def as_jpeg_ls(dataset: Dataset, k: int) -> None:
    set_codestream(dataset, bytes(jpeg_ls.encode_array(stored_of(dataset))))


def as_jpeg_2000(dataset: Dataset, k: int) -> None:
    file = BytesIO()
    Image.fromarray(stored_of(dataset)).save(file, "JPEG2000", irreversible=False, no_jp2=True)
    set_codestream(dataset, file.getvalue())


def as_jpeg_lossless(dataset: Dataset, k: int) -> None:
    """By SimpleITK's writer: it is the only encoder at hand."""
    image = SimpleITK.GetImageFromArray(stored_of(dataset)[None])
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "frame.dcm"))
        writer = SimpleITK.ImageFileWriter()
        writer.SetFileName(path)
        writer.SetImageIO("GDCMImageIO")
        writer.UseCompressionOn()
        writer.SetCompressor("JPEG")
        writer.Execute(image)
        written = dcmread(path)
    assert written.file_meta.TransferSyntaxUID == JPEG_LOSSLESS
    dataset.PixelData = written.PixelData
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"


ENCODERS = {JPEG_LS: as_jpeg_ls, JPEG_2000: as_jpeg_2000, JPEG_LOSSLESS: as_jpeg_lossless}


@pytest.mark.parametrize("syntax", ENCODERS, ids=["JPEG-LS", "JPEG 2000", "JPEG lossless"])
def test_encapsulated_pixels(tmp_path: Path, syntax: str) -> None:
    """Each by its one decoder; every value comes back."""
    make_series(tmp_path, slices=6, syntax=syntax, edit=ENCODERS[syntax])
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, ramp_hu(6))
    assert codes(volume) == []


@pytest.mark.parametrize("syntax", ENCODERS, ids=["JPEG-LS", "JPEG 2000", "JPEG lossless"])
def test_signed_values_in_unsigned_codestreams(tmp_path: Path, syntax: str) -> None:
    """Codestreams that know no sign, or state the wrong one: BitsStored and PixelRepresentation decide."""
    make_series(tmp_path, slices=6, syntax=syntax, signed=True, bits_stored=16, intercept=0.0, edit=ENCODERS[syntax])
    assert np.array_equal(build(tmp_path).hu, ramp_hu(6))


@pytest.mark.parametrize("tags", [{"RescaleSlope": 2}, {"PhotometricInterpretation": "MONOCHROME1"}])
def test_simpleitk_neither_rescales_nor_inverts(tmp_path: Path, tags: dict[str, object]) -> None:
    """It would do both by itself: it gets a copy that gives no cause."""

    def edit(dataset: Dataset, k: int) -> None:
        as_jpeg_lossless(dataset, k)
        set_tags(dataset, tags)

    make_series(tmp_path, slices=4, syntax=JPEG_LOSSLESS, edit=edit)
    slope = int(tags.get("RescaleSlope", 1))  # type: ignore[call-overload]
    expected = (ramp_hu(4).astype(int) + 1024) * slope - 1024
    assert np.array_equal(build(tmp_path).hu, expected)


def test_run_length_encoding(tmp_path: Path) -> None:
    for path in make_series(tmp_path, slices=4):
        dataset = dcmread(path)
        dataset.compress(RLELossless, generate_instance_uid=False)
        dataset.save_as(path)
    assert np.array_equal(build(tmp_path).hu, ramp_hu(4))


def test_near_lossless(tmp_path: Path) -> None:
    """Within its error, and the report says lossy though the header does not."""

    def edit(dataset: Dataset, k: int) -> None:
        set_codestream(dataset, bytes(jpeg_ls.encode_array(stored_of(dataset), lossy_error=3)))

    make_series(tmp_path, slices=6, syntax=JPEG_LS_LOSSY, edit=edit)
    volume = build(tmp_path)
    assert np.abs(volume.hu.astype(int) - ramp_hu(6)).max() <= 3
    assert "lossy" in {notice.code for notice in volume.notices}


def test_an_encapsulated_multi_frame_object(tmp_path: Path) -> None:
    """Each frame its own codestream, found with and without an offset table."""
    hu = ramp_hu(6)
    for table in (True, False):

        def edit(dataset: Dataset, table: bool = table) -> None:
            streams = [bytes(jpeg_ls.encode_array((frame + 1024).astype(np.uint16))) for frame in hu]
            dataset.PixelData = encapsulate(streams, has_bot=table)
            dataset["PixelData"].is_undefined_length = True
            dataset["PixelData"].VR = "OB"

        path = tmp_path / str(table) / "e.dcm"
        make_enhanced(path, hu, positions_mm=slice_positions(6, 2.0), edit=edit)
        dataset = dcmread(path)
        save(dataset, path, JPEG_LS)
        assert np.array_equal(build(path.parent).hu, hu)


@pytest.mark.parametrize(
    ("command", "syntax", "error"),
    [
        (["dcmcjpeg", "+ee", "+q", "98"], "1.2.840.10008.1.2.4.51", 5),
        (["dcmcjpeg", "+el"], "1.2.840.10008.1.2.4.57", 0),
        (["dcmcjpeg", "+e1"], JPEG_LOSSLESS, 0),
        (["dcmcjpls"], JPEG_LS, 0),
        (["dcmcrle"], "1.2.840.10008.1.2.5", 0),
    ],
    ids=["JPEG extended", "JPEG lossless", "JPEG lossless SV1", "JPEG-LS", "RLE"],
)
@pytest.mark.parametrize("signed", [False, True], ids=["unsigned", "signed"])
def test_files_encoded_by_dcmtk(tmp_path: Path, command: list[str], syntax: str, error: int, signed: bool) -> None:
    """By somebody else's encoder, with a slope."""
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed (dcmtk)")
    if signed and error:
        pytest.skip("JPEG extended holds 12 unsigned bits")
    y, x = np.mgrid[:32, :40]
    hu = np.array([9 * y + 11 * x + 5 * k - 900 for k in range(3)], dtype=np.int16)
    values = {"signed": True, "bits_stored": 16, "intercept": 0.0} if signed else {"slope": 0.5, "bits_stored": 12}
    paths = make_series(tmp_path / "plain", hu, **values)  # type: ignore[arg-type]
    (tmp_path / "packed").mkdir()
    for path in paths:
        subprocess.run([*command, str(path), str(tmp_path / "packed" / path.name)], check=True, capture_output=True)
    volume = build(tmp_path / "packed")
    assert volume.series.instances[0].transfer_syntax_uid == syntax
    assert np.abs(volume.hu.astype(int) - hu).max() <= error


def test_fragments_are_joined(tmp_path: Path) -> None:
    """One codestream in three pieces."""

    def edit(dataset: Dataset, k: int) -> None:
        stream = bytes(jpeg_ls.encode_array(stored_of(dataset)))
        dataset.PixelData = encapsulate([stream], fragments_per_frame=3)
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"

    make_series(tmp_path, slices=4, syntax=JPEG_LS, edit=edit)
    assert np.array_equal(build(tmp_path).hu, ramp_hu(4))


@pytest.mark.parametrize("syntax", ENCODERS, ids=["JPEG-LS", "JPEG 2000", "JPEG lossless"])
@pytest.mark.parametrize("tail", [b"\xff", b"\xff\xff", b" ", b"\0\0"], ids=["FF", "FF FF", "blank", "zeros"])
def test_bytes_behind_a_codestream_s_end(tmp_path: Path, syntax: str, tail: bytes) -> None:
    """As in the WG-04 samples."""

    def edit(dataset: Dataset, k: int) -> None:
        ENCODERS[syntax](dataset, k)
        stream = _first_stream(dataset)
        set_codestream(dataset, stream[: stream.rindex(b"\xff\xd9") + 2] + tail)

    make_series(tmp_path, slices=4, syntax=syntax, edit=edit)
    assert np.array_equal(build(tmp_path).hu, ramp_hu(4))


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_LOSSLESS], ids=["JPEG-LS", "JPEG lossless"])
def test_fill_bytes_before_a_marker(tmp_path: Path, syntax: str) -> None:
    """T.81, B.1.1.2: any number of FF."""
    header = b"\xff\xf7" if syntax == JPEG_LS else b"\xff\xc3"

    def edit(dataset: Dataset, k: int) -> None:
        ENCODERS[syntax](dataset, k)
        stream = _first_stream(dataset)
        at = stream.index(header)
        set_codestream(dataset, stream[:at] + b"\xff\xff\xff" + stream[at:])

    make_series(tmp_path, slices=4, syntax=syntax, edit=edit)
    assert np.array_equal(build(tmp_path).hu, ramp_hu(4))


@pytest.mark.parametrize(
    ("excess", "right"),
    [
        (b"\0\0", True),
        (b"\x20\x07" * 3, True),
        (b"\0" * 514, True),
        (b"\0" * 32, False),
        (b"\0" * 40, False),
        (b"\x20\x07" * 257, False),
    ],
    ids=["two zeros", "less than a row", "a block of zeros", "a column", "a row", "more pixels"],
)
def test_bytes_behind_the_pixels(tmp_path: Path, excess: bytes, right: bool) -> None:
    """Padding is passed over (PS3.5, 8.1.1); what may be pixels, so that rows or columns are wrong, is damage."""

    def edit(dataset: Dataset, k: int) -> None:
        dataset.PixelData += excess

    make_series(tmp_path, slices=4, edit=edit)
    if right:
        assert np.array_equal(build(tmp_path).hu, ramp_hu(4))
    else:
        with pytest.raises(VolumeError, match="pixels-damaged"):
            build(tmp_path)


# -- refused syntaxes ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "syntax",
    [
        "1.2.840.10008.1.2.1.98",
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.92",
        "1.2.840.10008.1.2.4.93",
        "1.2.840.10008.1.2.4.110",
        "1.2.840.10008.1.2.4.112",
        "1.2.840.10008.1.2.8.1",
        "1.2.3.4",
    ],
)
def test_other_syntaxes_are_refused(tmp_path: Path, syntax: str) -> None:
    """Whatever plugin is installed."""
    make_series(tmp_path, slices=3, edit=as_jpeg_ls, syntax=JPEG_LS)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes().replace(_uid_element(JPEG_LS), _uid_element(syntax)))
    inventory = find_series([tmp_path])
    with pytest.raises(LungscreenError) as caught:
        build_volume(inventory.studies[0].series[0], ANY_SIZE)
    assert caught.value.code in ("transfer-syntax", "pixels-damaged")
    assert syntax not in DECODERS
    dataset = dcmread(next(tmp_path.iterdir()))
    dataset.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(VolumeError, match="transfer-syntax"):
        decode_frame(dataset, read_shape(dataset))


def _uid_element(uid: str) -> bytes:
    value = uid.encode() + b"\0" * (len(uid) % 2)
    return b"\x02\x00\x10\x00UI" + struct.pack("<H", len(value)) + value


def test_high_throughput_needs_its_extra(tmp_path: Path) -> None:
    if decoders.find_spec("openjpeg") is not None:
        pytest.skip("the extra htj2k is installed")
    make_series(tmp_path, slices=3, edit=as_jpeg_2000, syntax="1.2.840.10008.1.2.4.201")
    inventory = find_series([tmp_path])
    with pytest.raises(VolumeError, match="htj2k"):
        build_volume(inventory.studies[0].series[0], ANY_SIZE)


# -- damaged codestreams ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("syntax", ENCODERS, ids=["JPEG-LS", "JPEG 2000", "JPEG lossless"])
@pytest.mark.parametrize("spoil", ["truncated", "other size", "two frames", "rubbish", "empty"])
def test_damaged_codestreams_are_refused(tmp_path: Path, syntax: str, spoil: str) -> None:
    """Never decoded to garbage, never ending the process."""

    def edit(dataset: Dataset, k: int) -> None:
        ENCODERS[syntax](dataset, k)
        if k != 3:
            return
        stream = _first_stream(dataset)
        if spoil == "truncated":
            set_codestream(dataset, stream[: len(stream) // 2])
        elif spoil == "other size":
            dataset.Rows, dataset.Columns = 16, 20
            other = copy.deepcopy(dataset)
            other.Rows, other.Columns = 20, 16
            set_stored(other, np.arange(320).reshape(20, 16))
            ENCODERS[syntax](other, k)
            dataset.PixelData = other.PixelData
        elif spoil == "two frames":
            dataset.PixelData = encapsulate([stream, stream], has_bot=False)
        elif spoil == "rubbish":
            set_codestream(dataset, b"\xff\xd8\xff\xf7" + b"rubbish" * 20 + b"\xff\xd9")
        else:
            set_codestream(dataset, b"\0\0")
        dataset["PixelData"].is_undefined_length = True
        dataset["PixelData"].VR = "OB"

    make_series(tmp_path, slices=8, step_mm=2.0, syntax=syntax, edit=edit)
    volume = build(tmp_path)
    assert [row.code for row in volume.refused] == ["pixels-damaged"]
    assert codes(volume) == ["slices-damaged", "slices-filled"]
    assert np.array_equal(np.delete(volume.hu, 3, axis=0), np.delete(ramp_hu(8), 3, axis=0))


def _first_stream(dataset: Dataset) -> bytes:
    from pydicom.encaps import generate_frames

    return next(generate_frames(dataset.PixelData, number_of_frames=1))


@pytest.mark.parametrize("syntax", ENCODERS, ids=["JPEG-LS", "JPEG 2000", "JPEG lossless"])
@pytest.mark.parametrize("spoil", ["second half", "third quarter", "a thousand bytes"])
def test_zeros_within_a_codestream_are_damage(
    tmp_path: Path, syntax: str, spoil: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its end is there: libjpeg only warns, on the error stream, and OpenJPEG says nothing at all."""
    hu = np.random.default_rng(3).integers(-900, 900, (8, 64, 64)).astype(np.int16)

    def edit(dataset: Dataset, k: int) -> None:
        ENCODERS[syntax](dataset, k)
        if k == 3:
            stream = bytearray(_first_stream(dataset).rstrip(b"\0"))
            half, end = len(stream) // 2, len(stream) - 2
            stop = {"second half": end, "third quarter": (half + end) // 2, "a thousand bytes": half + 1000}[spoil]
            stream[half:stop] = bytes(stop - half)
            set_codestream(dataset, bytes(stream))

    make_series(tmp_path, hu, step_mm=2.0, syntax=syntax, edit=edit)
    volume = build(tmp_path)
    assert [row.code for row in volume.refused] == ["pixels-damaged"]
    assert np.array_equal(np.delete(volume.hu, 3, axis=0), np.delete(hu, 3, axis=0))
    assert capfd.readouterr().err == ""


def test_what_others_write_on_the_error_stream_is_passed_on(capfd: pytest.CaptureFixture[str]) -> None:
    with hear_warnings() as said:
        os.write(2, b"a line of somebody's\nCorrupt JPEG data: 3 extraneous bytes before marker 0xd9\n")
    assert said == ["Corrupt JPEG data: 3 extraneous bytes before marker 0xd9"]
    assert capfd.readouterr().err == "a line of somebody's\n"


@pytest.mark.parametrize("layers", [1, 6])
def test_empty_packets_are_no_damage(tmp_path: Path, layers: int) -> None:
    """A blank slice in small precincts: hundreds of packets of one zero byte each."""
    hu = np.full((4, 512, 512), -1024, np.int16)

    def edit(dataset: Dataset, k: int) -> None:
        file = BytesIO()
        options = {"quality_mode": "rates", "quality_layers": [2**n for n in range(layers)][::-1]}
        image = Image.fromarray(stored_of(dataset))
        image.save(file, "JPEG2000", irreversible=False, no_jp2=True, precinct_size=(64, 64), **options)
        set_codestream(dataset, file.getvalue())

    make_series(tmp_path, hu, syntax=JPEG_2000, edit=edit)
    assert np.array_equal(build(tmp_path).hu, hu)


def test_a_truncated_encapsulated_file(tmp_path: Path) -> None:
    """Pydicom loses the pixel data with a warning only."""
    paths = make_series(tmp_path, slices=8, step_mm=2.0, syntax=JPEG_LS, edit=as_jpeg_ls)
    paths[3].write_bytes(paths[3].read_bytes()[:-60])
    volume = build(tmp_path)
    assert [row.code for row in volume.refused] == ["pixels-damaged"]


class PanicException(BaseException):
    """What a decoder written in Rust raises: no Exception."""


@pytest.mark.parametrize(
    "error",
    [ValueError, AttributeError, TypeError, RuntimeError, NotImplementedError, OSError, MemoryError, PanicException],
)
def test_whatever_a_decoder_raises_costs_one_slice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    make_series(tmp_path, slices=8, step_mm=2.0, syntax=JPEG_LS, edit=as_jpeg_ls)
    real, calls = decode_jpeg_ls, []

    def decode(stream: bytes) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise error("patient name")
        return real(stream)

    monkeypatch.setattr("lungscreen.volume.decode.decode_jpeg_ls", decode)
    volume = build(tmp_path)
    assert [row.code for row in volume.refused] == ["pixels-damaged"]
    assert "patient" not in volume.refused[0].reason


def test_ctrl_c_is_no_damaged_slice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_series(tmp_path, slices=3, syntax=JPEG_LS, edit=as_jpeg_ls)

    def decode(stream: bytes) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("lungscreen.volume.decode.decode_jpeg_ls", decode)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path)


# -- values ----------------------------------------------------------------------------------------------------------
def test_slope_and_intercept_are_each_slice_s_own(tmp_path: Path) -> None:
    """PET-like rescale that changes from slice to slice."""

    def edit(dataset: Dataset, k: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 0.5 + 0.25 * k, -1000 + k
        set_stored(dataset, np.full((16, 20), 100 * k))

    make_series(tmp_path, slices=6, edit=edit)
    expected = [round((0.5 + 0.25 * k) * 100 * k - 1000 + k) for k in range(6)]
    assert build(tmp_path).hu[:, 0, 0].tolist() == expected


def test_no_value_wraps(tmp_path: Path) -> None:
    """-32768 - 1024 is no +31744, 65535 + 0 no -1: below air is air, above int16 is clipped and counted."""

    def edit(dataset: Dataset, k: int) -> None:
        stored = np.zeros((16, 20))
        stored[0, :3] = (-32768, 32767, -5)
        set_stored(dataset, stored)

    make_series(tmp_path / "signed", slices=3, signed=True, bits_stored=16, edit=edit)
    assert build(tmp_path / "signed").hu[0, 0, :3].tolist() == [-1024, 31743, -1024]

    def large(dataset: Dataset, k: int) -> None:
        set_stored(dataset, np.full((16, 20), 65535))

    make_series(tmp_path / "unsigned", slices=3, bits_stored=16, intercept=0, edit=large)
    volume = build(tmp_path / "unsigned")
    assert (volume.hu == 32767).all()
    assert codes(volume) == ["values-clipped"]
    assert str(3 * 16 * 20) in next(n.text for n in volume.notices if n.code == "values-clipped")


def test_bits_above_bits_stored_are_masked(tmp_path: Path) -> None:
    """Old overlays: four bits on top of twelve, set in every other pixel; signed and unsigned."""

    def edit(dataset: Dataset, k: int) -> None:
        stored = stored_of(dataset).copy()
        stored[:, ::2] ^= 0xFFFF << dataset.BitsStored & 0xFFFF
        dataset.PixelData = stored.tobytes()

    make_series(tmp_path / "u", slices=4, edit=edit)
    assert np.array_equal(build(tmp_path / "u").hu, ramp_hu(4))
    make_series(tmp_path / "s", slices=4, signed=True, bits_stored=13, intercept=0, edit=edit)
    assert np.array_equal(build(tmp_path / "s").hu, ramp_hu(4))


@pytest.mark.parametrize(
    ("tags", "stored", "padded"),
    [
        ({"PixelPaddingValue": -2000}, [-2000, -1024, -1023, 0], [True, True, False, False]),
        ({"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1500}, [-2000, -1700, -1500, 0], [True] * 3 + [False]),
        ({"PixelPaddingValue": 10, "PixelPaddingRangeLimit": 0}, [0, 5, 10, 11], [True] * 3 + [False]),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 10}, [0, 5, 10, 11], [True] * 3 + [False]),
        ({}, [-2000, -1025, 0, 1], [True, True, False, False]),
    ],
)
def test_padding(tmp_path: Path, tags: dict[str, int], stored: list[int], padded: list[bool]) -> None:
    """Value to limit, both included, either end lower, on stored values; and below -1024 HU in any case."""

    def edit(dataset: Dataset, k: int) -> None:
        values = np.full((16, 20), 500)
        values[3, :4] = stored
        set_stored(dataset, values)
        dataset.RescaleIntercept = -950
        set_tags(dataset, tags)

    make_series(tmp_path, slices=3, signed=True, bits_stored=16, edit=edit)
    volume = build(tmp_path)
    expected = [-1024 if pad else max(value - 950, -1024) for value, pad in zip(stored, padded, strict=True)]
    assert volume.hu[1, 3, :4].tolist() == expected
    assert codes(volume) == []


def test_padding_written_unsigned_for_signed_pixels(tmp_path: Path) -> None:
    """US 63536 is -2000."""
    paths = make_series(
        tmp_path, slices=3, signed=True, bits_stored=16, intercept=1000, tags={"PixelPaddingValue": -2000}
    )
    for path in paths:
        data = path.read_bytes()
        assert data.count(b"\x28\x00\x20\x01SS") == 1
        path.write_bytes(data.replace(b"\x28\x00\x20\x01SS", b"\x28\x00\x20\x01US"))
    assert dcmread(paths[0]).PixelPaddingValue == 63536
    hu = ramp_hu(3)
    assert np.array_equal(build(tmp_path).hu, np.where(hu == -1000, -1024, hu))


def test_a_padding_value_that_is_not_air_is_ignored_and_said(tmp_path: Path) -> None:
    """Stored 1024 is water: every voxel of water would become air."""
    hu = ramp_hu(3)
    make_series(tmp_path, hu, tags={"PixelPaddingValue": 1024})
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert codes(volume) == ["padding-ignored"]


@pytest.mark.parametrize("tags", [{"BitsStored": 17}, {"HighBit": 14}, {"PhotometricInterpretation": "PALETTE COLOR"}])
def test_pixels_in_forms_that_ct_does_not_use(tmp_path: Path, tags: dict[str, object]) -> None:
    make_series(tmp_path, slices=3, tags=tags)
    inventory = find_series([tmp_path])
    with pytest.raises(VolumeError, match="pixels-unsupported"):
        build_volume(inventory.studies[0].series[0], ANY_SIZE)


def test_the_table_of_values_is_exact() -> None:
    """Against plain arithmetic, over all bit patterns, with a fractional slope."""
    pattern = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    hu, clipped = to_hu(pattern, Values(16, 14, True), Rescale(0.37, -800.5))
    low = pattern.astype(np.int64) & 0x3FFF
    signed = np.where(low >= 0x2000, low - 0x4000, low)
    assert np.array_equal(hu, np.maximum(np.rint(signed * 0.37 - 800.5), -1024))
    assert clipped == 0


def test_pydicom_s_own_settings_are_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its log lines quote header values; they are kept quiet while a file is read, and only then."""
    before = pydicom.config.logger.level
    make_series(tmp_path, slices=3)
    caplog.clear()
    build(tmp_path)
    assert caplog.records == []
    assert pydicom.config.logger.level == before

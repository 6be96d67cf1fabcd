"""One frame's bytes ─► stored values. The decoder is fixed per transfer syntax; none ever falls through to another.

Others were found to answer garbage for damaged data, or to end the process.
"""

from __future__ import annotations

import itertools
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lungscreen.dicomfile import transfer_syntax
from lungscreen.errors import VolumeError
from lungscreen.volume.values import FrameShape, Stored

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DECODERS", "decode_frame"]

_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_START = (b"\xff\xd8\xff", b"\xff\x4f\xff\x51")
"""How a JPEG, JPEG-LS or JPEG 2000 codestream begins."""
_END = b"\xff\xd9"

_PADDING = 1
"""Bytes that a segment's padding to even length may look like."""


def decode_frame(dataset: Dataset, shape: FrameShape, index: int = 0) -> Stored:
    """One frame's stored values (rows, columns), as they lie in their bits.

    Errors: `transfer-syntax`, `pixels-damaged`.
    """
    syntax = transfer_syntax(dataset)
    decoder = DECODERS.get(syntax)
    if decoder is None:
        raise VolumeError("transfer-syntax", f"transfer syntax {syntax} is not supported")
    try:
        frame = decoder(dataset, shape, index)
    except VolumeError:
        raise
    except Exception as error:  # decoders raise whatever they like
        raise VolumeError("pixels-damaged", f"the pixels cannot be decoded ({type(error).__name__})") from None
    except BaseException as error:
        # pyo3's PanicException is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise VolumeError("pixels-damaged", "the pixels cannot be decoded (the decoder panicked)") from None
    if frame.shape != (shape.rows, shape.columns):
        raise VolumeError("pixels-damaged", f"{frame.shape} pixels instead of {(shape.rows, shape.columns)}")
    return frame


def _native(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    data = dataset.PixelData
    expected = shape.frame_bytes * shape.frames
    if not expected <= len(data) <= expected + (expected & 1):
        raise VolumeError("pixels-damaged", f"{len(data)} bytes of pixels instead of {expected}")
    order = ">" if transfer_syntax(dataset) == _EXPLICIT_BIG else "<"
    kind = np.dtype(np.uint8) if shape.values.bits_allocated == 8 else np.dtype(f"{order}u2")
    frame = np.frombuffer(data, kind, shape.rows * shape.columns, index * shape.frame_bytes)
    return frame.reshape(shape.rows, shape.columns).astype(np.uint16, copy=False)


def _jpeg_ls(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    import jpeg_ls

    stream = _codestream(dataset, shape, index)
    _expect_size(_jpeg_size(stream), shape)
    buffer, info = jpeg_ls.decode_pixel_data(stream)
    kind = np.dtype(np.uint8) if info["bits_per_sample"] <= 8 else np.dtype("<u2")
    return np.frombuffer(buffer, kind).reshape(shape.rows, shape.columns).astype(np.uint16, copy=False)


def _jpeg_2000(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    from PIL import Image

    with Image.open(BytesIO(_codestream(dataset, shape, index)), formats=("JPEG2000",)) as image:
        _expect_size((image.height, image.width), shape)
    return _by_pydicom(dataset, shape, index, "pillow")


def _high_throughput(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    if find_spec("openjpeg") is None:
        raise VolumeError("transfer-syntax", "high-throughput JPEG 2000 needs the extra lungscreen[htj2k]")
    stream = _codestream(dataset, shape, index)
    _expect_size(_jpeg_2000_size(stream), shape)
    return _by_pydicom(dataset, shape, index, "pylibjpeg")


def _run_length(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    # of segments that hold more pixels than the frame has pydicom takes the first ones, and only warns
    most = max(_run_lengths(_one_frame(dataset, shape, index)), default=0)
    if most > shape.rows * shape.columns + _PADDING:
        raise VolumeError("pixels-damaged", f"{most} bytes in a segment instead of {shape.rows * shape.columns}")
    return _by_pydicom(dataset, shape, index, "pydicom")


def _by_pydicom(dataset: Dataset, shape: FrameShape, index: int, plugin: str) -> Stored:
    """Decode with one named plugin of pydicom's, and no other."""
    from pydicom.pixels.decoders.base import get_decoder

    # without a number of frames pydicom takes a single frame, whatever is asked for
    array, _ = get_decoder(transfer_syntax(dataset)).as_array(
        dataset, index=index if shape.frames > 1 else None, raw=True, decoding_plugin=plugin
    )
    return (array.astype(np.int64) & 0xFFFF).astype(np.uint16)


def _jpeg(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    """JPEG lossless and 12-bit extended, by SimpleITK: pixels only, from a private copy that has no rescale to apply."""
    import SimpleITK

    sitk: Any = SimpleITK

    stream = _codestream(dataset, shape, index)
    _expect_size(_jpeg_size(stream), shape)
    with _nameless_file(_private_copy(dataset, shape, stream)) as path:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            image = sitk.ReadImage(path, imageIO="GDCMImageIO")
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)
        array = sitk.GetArrayFromImage(image)
    stored: Stored = (array.reshape(array.shape[-2:]).astype(np.int64) & 0xFFFF).astype(np.uint16)
    return stored


@contextmanager
def _nameless_file(content: bytes) -> Iterator[str]:
    """A path to a file in memory: a process that is killed leaves nothing behind."""
    if not hasattr(os, "memfd_create"):  # no Linux
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "frame.dcm")
            path.write_bytes(content)
            yield str(path)
        return
    with os.fdopen(os.memfd_create("frame", os.MFD_CLOEXEC), "wb") as file:
        file.write(content)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _private_copy(dataset: Dataset, shape: FrameShape, stream: bytes) -> bytes:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID("1.2.840.10008.5.1.4.1.1.2")
    meta.MediaStorageSOPInstanceUID = UID("2.25.1")
    meta.TransferSyntaxUID = UID(transfer_syntax(dataset))
    copy = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    copy.SOPClassUID, copy.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    copy.SamplesPerPixel, copy.PhotometricInterpretation = 1, "MONOCHROME2"
    copy.Rows, copy.Columns = shape.rows, shape.columns
    copy.BitsAllocated, copy.BitsStored = shape.values.bits_allocated, shape.values.bits_stored
    copy.HighBit, copy.PixelRepresentation = shape.values.bits_stored - 1, int(shape.values.signed)
    copy.RescaleSlope, copy.RescaleIntercept = "1", "0"
    copy.PixelData = encapsulate([stream])
    copy["PixelData"].is_undefined_length = True
    file = BytesIO()
    copy.save_as(file, enforce_file_format=True)
    return file.getvalue()


# -- codestreams -----------------------------------------------------------------------------------------------------
def _codestream(dataset: Dataset, shape: FrameShape, index: int) -> bytes:
    """The encoded bytes of one frame.

    Errors: `pixels-damaged` where its end is missing, or another frame follows in the place of a single one.
    """
    stream = _one_frame(dataset, shape, index)
    # a codestream is padded to even length with a zero
    if not stream.rstrip(b"\0").endswith(_END):
        raise VolumeError("pixels-damaged", "the encoded pixels break off")
    return stream


def _one_frame(dataset: Dataset, shape: FrameShape, index: int) -> bytes:
    """What is encapsulated for one frame.

    Errors: `pixels-damaged` where another frame follows in the place of a single one.
    """
    from pydicom.encaps import generate_fragments, get_frame

    if shape.frames == 1:
        fragments = list(generate_fragments(_after_offset_table(dataset.PixelData)))
        if any(fragment.startswith(_START) for fragment in fragments[1:]):
            raise VolumeError("pixels-damaged", "there are more frames than the header says")
        return b"".join(fragments)
    extended = None
    if "ExtendedOffsetTable" in dataset and "ExtendedOffsetTableLengths" in dataset:
        extended = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    return get_frame(dataset.PixelData, index, number_of_frames=shape.frames, extended_offsets=extended)


def _run_lengths(frame: bytes) -> list[int]:
    """Bytes that each segment of a run-length encoded frame unpacks to (PS3.5, annex G)."""
    count, *starts = struct.unpack("<16I", frame[:64])
    starts = [*starts[:count], len(frame)]
    return [_unpacked(frame[start:end]) for start, end in itertools.pairwise(starts)]


def _unpacked(segment: bytes) -> int:
    at, size = 0, 0
    while at + 1 < len(segment):
        head = segment[at]
        if head < 128:
            size += head + 1
            at += head + 2
        else:
            size += 257 - head if head > 128 else 0
            at += 2 if head > 128 else 1
    return size


def _after_offset_table(data: bytes) -> bytes:
    """Encapsulated pixel data without the item that holds the basic offset table."""
    if data[:4] != b"\xfe\xff\x00\xe0" or len(data) < 8:
        raise VolumeError("pixels-damaged", "the encoded pixels do not begin with an offset table")
    return data[8 + struct.unpack("<I", data[4:8])[0] :]


def _jpeg_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns of a JPEG or JPEG-LS codestream, from its frame header.

    Errors: `pixels-damaged`.
    """
    at = 2
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        marker = stream[at + 1]
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            rows, columns = struct.unpack(">HH", stream[at + 5 : at + 9])
            return rows, columns
        at += 2 + int(struct.unpack(">H", stream[at + 2 : at + 4])[0])
    raise VolumeError("pixels-damaged", "the encoded pixels have no frame header")


def _jpeg_2000_size(stream: bytes) -> tuple[int, int]:
    """Rows and columns of a bare JPEG 2000 codestream, from its SIZ segment.

    Errors: `pixels-damaged`.
    """
    if stream[:4] != _START[1] or len(stream) < 24:
        raise VolumeError("pixels-damaged", "the encoded pixels are no JPEG 2000 codestream")
    right, bottom, left, top = struct.unpack(">IIII", stream[8:24])
    return bottom - top, right - left


def _expect_size(size: tuple[int, int], shape: FrameShape) -> None:
    """Errors: `pixels-damaged`."""
    if size != (shape.rows, shape.columns):
        raise VolumeError("pixels-damaged", f"the codestream holds {size} pixels, not {(shape.rows, shape.columns)}")


Decoder = Callable[["Dataset", FrameShape, int], Stored]

DECODERS: dict[str, Decoder] = {
    "1.2.840.10008.1.2": _native,
    "1.2.840.10008.1.2.1": _native,
    "1.2.840.10008.1.2.1.99": _native,
    _EXPLICIT_BIG: _native,
    "1.2.840.10008.1.2.4.51": _jpeg,
    "1.2.840.10008.1.2.4.57": _jpeg,
    "1.2.840.10008.1.2.4.70": _jpeg,
    "1.2.840.10008.1.2.4.80": _jpeg_ls,
    "1.2.840.10008.1.2.4.81": _jpeg_ls,
    "1.2.840.10008.1.2.4.90": _jpeg_2000,
    "1.2.840.10008.1.2.4.91": _jpeg_2000,
    "1.2.840.10008.1.2.4.201": _high_throughput,
    "1.2.840.10008.1.2.4.202": _high_throughput,
    "1.2.840.10008.1.2.4.203": _high_throughput,
    "1.2.840.10008.1.2.5": _run_length,
}
"""Transfer syntax → its one decoder. What is not here is refused."""

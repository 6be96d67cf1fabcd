"""One frame's bytes ─► stored values. The decoder is fixed per transfer syntax; none ever falls through to another.

Others were found to answer garbage for damaged data, or to end the process. What a decoder only warns of is damage.
"""

from __future__ import annotations

import os
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
from lungscreen.volume.codestreams import (
    check_run_lengths,
    check_wavelets,
    expect_size,
    jpeg_2000_size,
    jpeg_size,
    one_codestream,
    one_frame,
)
from lungscreen.volume.jpeg_ls import decode_jpeg_ls
from lungscreen.volume.library_warnings import hear_warnings
from lungscreen.volume.values import FrameShape, Stored

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["DECODERS", "SIDE_BY_SIDE", "decode_frame"]

_EXPLICIT_BIG = "1.2.840.10008.1.2.2"
_PADDING_BYTES = 1 << 16
"""Excess that older writers put behind the last pixel (PS3.5, 8.1.1): at most so much, all of one value."""


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
    if len(data) < expected or not _is_padding(data[expected:], shape):
        raise VolumeError("pixels-damaged", f"{len(data)} bytes of pixels instead of {expected}")
    order = ">" if transfer_syntax(dataset) == _EXPLICIT_BIG else "<"
    kind = np.dtype(np.uint8) if shape.values.bits_allocated == 8 else np.dtype(f"{order}u2")
    frame = np.frombuffer(data, kind, shape.rows * shape.columns, index * shape.frame_bytes)
    return frame.reshape(shape.rows, shape.columns).astype(np.uint16, copy=False)


def _is_padding(excess: bytes, shape: FrameShape) -> bool:
    """Whether what follows the pixels cannot be pixels: less than a row or column, or one value and no whole rows."""
    row, column = (n * shape.values.bits_allocated // 8 for n in (shape.columns, shape.rows))
    if len(excess) < min(row, column):
        return True
    whole = len(excess) % row == 0 or len(excess) % column == 0
    return not whole and len(excess) <= _PADDING_BYTES and len(set(excess)) == 1


def _jpeg_ls(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    stream = one_codestream(dataset, shape, index)
    expect_size(jpeg_size(stream), shape)
    return decode_jpeg_ls(stream)


def _jpeg_2000(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    from PIL import Image

    stream = one_codestream(dataset, shape, index)
    check_wavelets(stream)
    with Image.open(BytesIO(stream), formats=("JPEG2000",)) as image:
        expect_size((image.height, image.width), shape)
    return _by_pydicom(dataset, shape, index, "pillow")


def _high_throughput(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    if find_spec("openjpeg") is None:
        raise VolumeError("transfer-syntax", "high-throughput JPEG 2000 needs the extra lungscreen[htj2k]")
    stream = one_codestream(dataset, shape, index)
    expect_size(jpeg_2000_size(stream), shape)
    return _by_pydicom(dataset, shape, index, "pylibjpeg")


def _run_length(dataset: Dataset, shape: FrameShape, index: int) -> Stored:
    # of segments that hold more pixels than the frame has pydicom takes the first ones, and only warns
    check_run_lengths(one_frame(dataset, shape, index), shape)
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
    """JPEG lossless and 12-bit extended, by SimpleITK: pixels only, from a private copy that has no rescale to
    apply.
    """
    import SimpleITK

    sitk: Any = SimpleITK

    stream = one_codestream(dataset, shape, index)
    expect_size(jpeg_size(stream), shape)
    with _nameless_file(_private_copy(dataset, shape, stream)) as path, hear_warnings() as said:
        shown = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)
        try:
            image = sitk.ReadImage(path, imageIO="GDCMImageIO")
        finally:
            sitk.ProcessObject.SetGlobalWarningDisplay(shown)
        array = sitk.GetArrayFromImage(image)
    if said:
        raise VolumeError("pixels-damaged", f"the decoder says: {said[0]}")
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

SIDE_BY_SIDE = frozenset({"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"})
"""Transfer syntaxes whose decoder lets other threads work meanwhile."""

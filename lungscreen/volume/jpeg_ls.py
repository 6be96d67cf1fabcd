"""A JPEG-LS codestream ─► stored values, by CharLS as pyjpegls brings it.

pyjpegls keeps the interpreter's lock while CharLS works, so that slices would wait for each other. Its module holds
CharLS's C interface too (charls_jpegls_decoder.h, CharLS 2); called through it, slices are decoded side by side. The
library, the numbers and the errors are the same. Where a build hides that interface, pyjpegls is called as usual.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["decode_jpeg_ls"]


class _FrameInfo(ctypes.Structure):
    """charls_frame_info."""

    _fields_ = (
        ("width", ctypes.c_uint32),
        ("height", ctypes.c_uint32),
        ("bits_per_sample", ctypes.c_int32),
        ("component_count", ctypes.c_int32),
    )


def decode_jpeg_ls(stream: bytes) -> NDArray[np.uint16]:
    """Stored values (rows, columns).

    Errors: `RuntimeError`, `ValueError` with the library's words where it does not decode to one grey image.
    """
    library = _library()
    return _by_pyjpegls(stream) if library is None else _by_charls(library, stream)


def _by_charls(library: Any, stream: bytes) -> NDArray[np.uint16]:
    decoder = library.charls_jpegls_decoder_create()
    if not decoder:
        raise MemoryError("no decoder for JPEG-LS")
    try:
        _check(library, library.charls_jpegls_decoder_set_source_buffer(decoder, stream, len(stream)))
        _check(library, library.charls_jpegls_decoder_read_header(decoder))
        info = _FrameInfo()
        _check(library, library.charls_jpegls_decoder_get_frame_info(decoder, ctypes.byref(info)))
        if info.component_count != 1:
            raise ValueError(f"{info.component_count} components")
        kind = np.dtype(np.uint8) if info.bits_per_sample <= 8 else np.dtype(np.uint16)
        values: NDArray[Any] = np.zeros((info.height, info.width), kind)
        done = library.charls_jpegls_decoder_decode_to_buffer(decoder, values.ctypes.data, values.nbytes, 0)
        _check(library, done)
    finally:
        library.charls_jpegls_decoder_destroy(decoder)
    return values.astype(np.uint16, copy=False)


def _by_pyjpegls(stream: bytes) -> NDArray[np.uint16]:
    import jpeg_ls

    buffer, info = jpeg_ls.decode_pixel_data(stream)
    kind = np.dtype(np.uint8) if info["bits_per_sample"] <= 8 else np.dtype("<u2")
    return np.frombuffer(buffer, kind).reshape(info["height"], info["width"]).astype(np.uint16, copy=False)


def _check(library: Any, error: int) -> None:
    """Errors: `RuntimeError`."""
    if error:
        raise RuntimeError(library.charls_get_error_message(error).decode("ascii", "replace"))


@lru_cache(maxsize=1)
def _library() -> Any:
    """CharLS's C interface in pyjpegls's module; None where it is not to be seen."""
    import _CharLS

    try:
        library = ctypes.CDLL(_CharLS.__file__)
        create, destroy = library.charls_jpegls_decoder_create, library.charls_jpegls_decoder_destroy
        source, header = library.charls_jpegls_decoder_set_source_buffer, library.charls_jpegls_decoder_read_header
        info, decode = library.charls_jpegls_decoder_get_frame_info, library.charls_jpegls_decoder_decode_to_buffer
        message = library.charls_get_error_message
    except (OSError, AttributeError):
        return None
    pointer, size = ctypes.c_void_p, ctypes.c_size_t
    create.restype, create.argtypes = pointer, ()
    destroy.restype, destroy.argtypes = None, (pointer,)
    source.argtypes = (pointer, ctypes.c_char_p, size)
    header.argtypes = (pointer,)
    info.argtypes = (pointer, ctypes.POINTER(_FrameInfo))
    decode.argtypes = (pointer, pointer, size, ctypes.c_uint32)
    message.restype, message.argtypes = ctypes.c_char_p, (ctypes.c_int32,)
    return library

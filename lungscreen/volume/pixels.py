"""Frames ─► int16 HU; keeps what it learns on the way."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lungscreen.dicomfile import parse_dicom
from lungscreen.errors import LungscreenError, Notice, Refusal, VolumeError
from lungscreen.sources import SourceReader
from lungscreen.threads import own_threads
from lungscreen.volume.decode import SIDE_BY_SIDE, decode_frame
from lungscreen.volume.frames import Frame
from lungscreen.volume.values import padding_is_air, read_rescale, read_shape, to_hu

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["PixelReader"]


@dataclass(frozen=True, eq=False)
class _Pixels:
    """One frame: its HU (rows, columns), how many values were clipped, padding values that are not air."""

    hu: NDArray[np.int16]
    clipped: int
    odd_padding: frozenset[tuple[int, int]]


class PixelReader:
    """Decodes frames. `refused` gathers the frames that failed, `notices()` says what was done to values."""

    def __init__(self, reader: SourceReader) -> None:
        self._reader = reader
        self._last: tuple[str, Dataset] | None = None
        self._clipped = 0
        self._odd_padding: set[tuple[int, int]] = set()
        self.refused: list[Refusal] = []

    def read(self, frame: Frame, out: NDArray[np.int16] | None = None) -> NDArray[np.int16] | None:
        """One frame's HU (rows, columns), into `out` where given; None where it cannot be read, which is recorded."""
        return self._keep(frame, self._try(frame, out))

    def read_all(self, frames: Sequence[Frame], out: NDArray[np.int16]) -> list[int]:
        """Every frame's HU into its place of `out` (n, rows, columns); the numbers of those that could be read.

        Side by side where the decoder allows it and each frame is a file; what is learned does not depend on that.
        """
        threads = own_threads()
        alone = all(f.instance.frames == 1 and not f.instance.source.member for f in frames)
        if threads < 2 or not alone or not {f.instance.transfer_syntax_uid for f in frames} <= SIDE_BY_SIDE:
            return [number for number, frame in enumerate(frames) if self.read(frame, out[number]) is not None]
        with ThreadPoolExecutor(threads, "decode") as pool:
            learned = list(pool.map(self._try, frames, out))
        return [number for number, one in enumerate(learned) if self._keep(frames[number], one) is not None]

    def notices(self) -> list[Notice]:
        """What was done to values on the way."""
        found = []
        if self._clipped:
            found.append(Notice("values-clipped", f"{self._clipped} values above 32767 HU were clipped."))
        for first, last in sorted(self._odd_padding):
            stored = str(first) if first == last else f"{first} to {last}"
            found.append(Notice("padding-ignored", f"The padding value (stored {stored}) is not air; it was ignored."))
        return found

    def _keep(self, frame: Frame, one: _Pixels | LungscreenError) -> NDArray[np.int16] | None:
        if isinstance(one, LungscreenError):
            self.refused.append(Refusal(frame.where, one.code, one.reason))
            return None
        self._clipped += one.clipped
        self._odd_padding |= one.odd_padding
        return one.hu

    def _try(self, frame: Frame, out: NDArray[np.int16] | None) -> _Pixels | LungscreenError:
        try:
            return self._read(frame, out)
        except LungscreenError as error:
            return error

    def _read(self, frame: Frame, out: NDArray[np.int16] | None) -> _Pixels:
        """Errors: `file-unreadable`, `dicom-damaged`, `pixels-damaged`, `pixels-unsupported`, `transfer-syntax`, ..."""
        dataset = self._dataset(frame)
        if "PixelData" not in dataset:
            # where encoded pixels break off pydicom drops them, or everything, and only warns
            raise VolumeError("pixels-damaged", "there are no pixel data")
        shape = read_shape(dataset)
        known = frame.instance
        if (shape.rows, shape.columns, shape.frames) != (known.rows, known.columns, known.frames):
            raise VolumeError("pixels-damaged", "the file changed while it was read")
        rescale = frame.rescale or read_rescale(dataset)
        stored = decode_frame(dataset, shape, frame.index)
        hu, clipped = to_hu(stored, shape.values, rescale, out)
        padding = shape.values.padding
        odd = padding and not padding_is_air(shape.values, rescale)
        return _Pixels(hu, clipped, frozenset((padding,)) if padding and odd else frozenset())

    def _dataset(self, frame: Frame) -> Dataset:
        """A frame's whole file; that of a multi-frame object is kept for its next frame."""
        name = str(frame.instance.source)
        if self._last is not None and self._last[0] == name:
            return self._last[1]
        self._last = None
        dataset = parse_dicom(self._reader.read(frame.instance.source), pixels=True)
        if frame.instance.frames > 1:
            self._last = (name, dataset)
        return dataset

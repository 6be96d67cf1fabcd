"""Frames ─► int16 HU, one at a time; keeps what it learns on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lungscreen.dicomfile import parse_dicom
from lungscreen.errors import LungscreenError, Notice, Refusal, VolumeError
from lungscreen.sources import SourceReader
from lungscreen.volume.decode import decode_frame
from lungscreen.volume.frames import Frame
from lungscreen.volume.values import padding_is_air, read_rescale, read_shape, to_hu

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["PixelReader"]


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
        try:
            return self._read(frame, out)
        except LungscreenError as error:
            self.refused.append(Refusal(frame.where, error.code, error.reason))
            return None

    def notices(self) -> list[Notice]:
        """What was done to values on the way."""
        found = []
        if self._clipped:
            found.append(Notice("values-clipped", f"{self._clipped} values above 32767 HU were clipped."))
        for first, last in sorted(self._odd_padding):
            stored = str(first) if first == last else f"{first} to {last}"
            found.append(Notice("padding-ignored", f"The padding value (stored {stored}) is not air; it was ignored."))
        return found

    def _read(self, frame: Frame, out: NDArray[np.int16] | None) -> NDArray[np.int16]:
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
        self._clipped += clipped
        if shape.values.padding and not padding_is_air(shape.values, rescale):
            self._odd_padding.add(shape.values.padding)
        return hu

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

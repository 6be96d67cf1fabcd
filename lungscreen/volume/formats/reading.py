"""Source ─► ImageHeader, by the file's ending."""

from __future__ import annotations

from pathlib import PurePosixPath

from lungscreen.errors import InputError
from lungscreen.records import Source
from lungscreen.sources import SourceReader
from lungscreen.volume.formats.header import HEADER_BYTES, ImageHeader
from lungscreen.volume.formats.metaimage import parse_metaimage
from lungscreen.volume.formats.nifti import NIFTI_BYTES, first_bytes, parse_nifti
from lungscreen.volume.formats.nrrd import parse_nrrd

__all__ = ["read_image_header"]


def read_image_header(source: Source, reader: SourceReader) -> ImageHeader:
    """What a NIfTI, NRRD or MetaImage file says of its voxels, checked; none of them is read.

    Errors: `image-damaged`, `image-dimensions`, `image-geometry`, `image-not-hu`, `image-reference`,
    `volume-too-large`, `file-unreadable`.
    """
    header = _parse(source, reader)
    if header.data != source:
        try:
            reader.size(header.data)
        except InputError:
            raise InputError("image-reference", "its data file is not beside it", str(source)) from None
    return header


def _parse(source: Source, reader: SourceReader) -> ImageHeader:
    """Errors: those of `read_image_header`."""
    name = (source.member or source.path.name).lower()
    if name.endswith(".nii"):
        return parse_nifti(reader.read(source, NIFTI_BYTES), source, packed=False)
    head = reader.read(source, HEADER_BYTES)
    if name.endswith(".nii.gz"):
        return parse_nifti(first_bytes(head), source, packed=True)
    if name.endswith(".nrrd"):
        return parse_nrrd(head, source)
    if PurePosixPath(name).suffix in (".mha", ".mhd"):
        return parse_metaimage(head, source)
    raise InputError("image-damaged", "its name has no ending of an image file")

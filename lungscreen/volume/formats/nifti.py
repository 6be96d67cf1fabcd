"""NIfTI (`.nii`, `.nii.gz`; version 1 or 2) ─► ImageHeader. nibabel reads the header; its two geometries must agree."""

from __future__ import annotations

import math
import zlib
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import Notice, VolumeError
from lungscreen.records import Source
from lungscreen.volume.config import AXIAL_DEGREES
from lungscreen.volume.formats.header import ImageHeader, check_shape, damaged, make_geometry

__all__ = ["NIFTI_BYTES", "first_bytes", "parse_nifti"]

NIFTI_BYTES = 540
"""Of the longer header, that of version 2."""
SAME_AFFINE_MM = 0.5
"""NIfTI's two geometries may differ by this much in the volume's corners; else the one that was used is named."""
SAME_SCALE = 0.005
"""What they say a voxel measures may differ by this share; a nodule's volume is off by three times as much."""

_LPS_FROM_RAS = np.array([-1.0, -1.0, 1.0])
_UNITS = ("mm", "unknown")
_SIZES = {348: "n+1", 540: "n+2"}


def parse_nifti(head: bytes, source: Source, packed: bool) -> ImageHeader:
    """head: the file's first bytes, unpacked already where `packed`; `NIFTI_BYTES` at least.

    Errors: `image-damaged`, `image-dimensions`, `image-geometry`, `volume-too-large`.
    """
    header = _read_header(head)
    sizes = header.get_data_shape()
    dtype = header.get_data_dtype()
    shape = check_shape(sizes, 1 if dtype.fields is None and dtype.kind in "iuf" else 2)
    if header.get_xyzt_units()[0] not in _UNITS:
        raise VolumeError("image-geometry", f"its unit is {header.get_xyzt_units()[0]}, not mm")
    affine, notices = _affine(header, shape)
    directions = _LPS_FROM_RAS[:, None] * affine[:3, :3]
    slope, intercept = header.get_slope_inter()
    start = int(header["vox_offset"])
    if start < header.single_vox_offset:
        raise damaged("its voxels begin within its header")
    return ImageHeader(
        geometry=make_geometry(directions, list(_LPS_FROM_RAS * affine[:3, 3]), shape),
        dtype=dtype,
        data=source,
        start=0 if packed else start,
        packing="gzip" if packed else "raw",
        skipped=start if packed else 0,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        notices=notices,
    )


def first_bytes(packed: bytes) -> bytes:
    """The first bytes of what a gzip file holds.

    Errors: `image-damaged`.
    """
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(packed, NIFTI_BYTES)
    except zlib.error:
        raise damaged("it is no gzip file") from None


def _read_header(head: bytes) -> Any:
    """Errors: `image-damaged`."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    first = {int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")}
    length = next((size for size in _SIZES if size in first), 0)
    if not length or len(head) < length:
        raise damaged("it does not begin as NIfTI does")
    kind: Any = Nifti1Header if length == 348 else Nifti2Header
    try:
        header: Any = kind.from_fileobj(BytesIO(head[:length]))
    except Exception as error:  # nibabel raises whatever its checks raise
        raise damaged(f"its header cannot be read ({type(error).__name__})") from None
    if bytes(header["magic"])[:3].decode("latin-1") != _SIZES[length]:
        raise damaged("its voxels lie in another file, or it is no NIfTI")
    return header


def _affine(header: Any, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], tuple[Notice, ...]]:
    """RAS affine: the sform, else the qform. Both, and the sizes of a voxel, say the same where they are there.

    Errors: `image-geometry` where neither is set, or where they contradict one another.
    """
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform <= 0 and qform <= 0:
        raise VolumeError("image-geometry", "neither sform nor qform is set: left and right are not known")
    if sform <= 0:
        return np.asarray(header.get_qform()), ()
    affine = np.asarray(header.get_sform(), dtype=np.float64)
    scale = np.linalg.norm(affine[:3, :3], axis=0)
    zooms = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    if not np.isfinite(affine).all() or np.abs(scale - zooms).max() > SAME_SCALE * float(scale.min()):
        text = f"sform says {_sizes(scale)} mm a voxel, pixdim {_sizes(zooms)} mm"
        raise VolumeError("image-geometry", text)
    if qform <= 0:
        return affine, ()
    other = np.asarray(header.get_qform(), dtype=np.float64)
    along = (affine[:3, :3] / scale * (other[:3, :3] / np.linalg.norm(other[:3, :3], axis=0))).sum(axis=0)
    turned = math.degrees(math.acos(float(np.clip(along.min(), -1, 1))))
    if turned > AXIAL_DEGREES:
        raise VolumeError("image-geometry", f"sform and qform point {turned:.0f} degrees apart")
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
    apart = float(np.abs((affine - other) @ corners).max())
    if apart <= SAME_AFFINE_MM:
        return affine, ()
    return affine, (Notice("image-geometry-guessed", f"sform and qform differ by {apart:.1f} mm; the sform was used."),)


def _sizes(lengths: NDArray[np.float64]) -> str:
    return " x ".join(f"{length:.3g}" for length in lengths)

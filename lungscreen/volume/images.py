"""Image file (NIfTI, NRRD, MHA, MHD) ─► Volume."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.errors import InputError, Notice, VolumeError, is_lack_of_memory
from lungscreen.files import scratch_folder
from lungscreen.geometry import Geometry
from lungscreen.records import Series, Source, Volume
from lungscreen.sources import SourceReader
from lungscreen.volume.config import AXIAL_DEGREES, LEAST_HU, MOST_HU, MOST_VOXELS, VolumeConfig
from lungscreen.volume.quality import check_size, thickness_notices

__all__ = ["build_from_image"]

AIR_HU = -500
"""A chest CT holds voxels below."""
AIR_SHARE = 0.001
"""Least share of them."""
TISSUE_HU = -200
"""And voxels above."""
SAME_AFFINE_MM = 0.5
"""NIfTI's two geometries may differ by this much in the volume's corners; else the one that was used is named."""
HEADER_BYTES = 1 << 16
"""Text header of NRRD, MHA and MHD: its first bytes."""

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_NIFTI_MM = ("mm", "unknown")


@dataclass(frozen=True, eq=False)
class _Image:
    """What a reader gives: values with their geometry, axes in any order."""

    values: NDArray[Any]
    geometry: Geometry
    notices: tuple[Notice, ...] = ()
    slope: float = 1.0
    intercept: float = 0.0
    """HU = slope x value + intercept."""


def build_from_image(series: Series, config: VolumeConfig) -> Volume:
    """Read an image file: the values are HU already.

    Errors: `image-damaged`, `image-dimensions`, `image-geometry`, `image-not-hu`, `image-reference`, `not-axial`,
    `volume-too-large`, `too-few-slices`, `too-short`, `too-thick`, `file-unreadable`.
    """
    if series.image is None:
        raise VolumeError("image-damaged", "there is no image file", series.series_uid)
    with _on_disk(series.image) as path:
        image = _read(path)
        hu, notices = _as_hu(image)
    geometry, order, flips = image.geometry.canonical()
    _check_axial(geometry)
    check_size(geometry.shape[0], geometry.spacing_mm[0], None, config)
    turned = np.flip(np.transpose(hu, order), tuple(n for n in range(3) if flips[n]))
    return Volume(
        hu=np.ascontiguousarray(turned),
        geometry=geometry,
        series=series,
        instance_numbers=(None,) * geometry.shape[0],
        source_order=order,
        source_flips=flips,
        notices=(*series.notices, *image.notices, *notices, *thickness_notices(geometry.spacing_mm[0], None)),
    )


@contextmanager
def _on_disk(source: Source) -> Iterator[Path]:
    """The image as a file; a member of an archive lies in a private folder meanwhile, with its data file.

    Errors: `image-reference`, `file-unreadable`.
    """
    name = source.member or source.path.name
    with SourceReader() as reader:
        data = _data_file(name, reader.read(source, HEADER_BYTES))
        if not source.member:
            if data and not (source.path.parent / data).is_file():
                raise InputError("image-reference", "its data file is not beside it")
            if name.endswith(_ending(name)) and name.isprintable():
                yield source.path
                return
        with scratch_folder() as folder:
            try:
                path = _unpack(source, name, data, reader, folder)
            except OSError as error:
                reason = f"no copy of it can be made for a moment ({error.strerror})"
                raise InputError("file-unreadable", reason, str(source)) from None
            yield path


def _unpack(source: Source, name: str, data: str, reader: SourceReader, folder: Path) -> Path:
    """The image in `folder`, with its data file, under a name that every reader takes."""
    path = folder / f"volume{_ending(name)}"
    if source.member:
        path.write_bytes(reader.read(source))
    else:
        # the readers know endings in lower case only, and no names in odd encodings
        path.symlink_to(source.path.resolve())
    if data and source.member:
        beside = str(PurePosixPath(name).with_name(data))
        (folder / data).write_bytes(reader.read(Source(source.path, beside)))
    elif data:
        (folder / data).symlink_to((source.path.parent / data).resolve())
    return path


def _ending(name: str) -> str:
    low = name.lower()
    return ".nii.gz" if low.endswith(".nii.gz") else PurePosixPath(low).suffix


def _data_file(name: str, head: bytes) -> str:
    """The file that a MetaImage or NRRD header names for its data; empty where they follow the header.

    Errors: `image-reference` where it names several files or a place outside the header's folder.
    """
    if _ending(name) in (".nii", ".nii.gz"):
        return ""
    text = head.decode("latin-1")
    key = r"data ?file\s*:" if _ending(name) == ".nrrd" else r"ElementDataFile\s*="
    found = re.search(rf"^{key}[ \t]*(.*?)[ \t\r]*$", text, re.MULTILINE | re.IGNORECASE)
    data = found[1] if found else ""
    if not data or data.upper() == "LOCAL":
        return ""
    if data.upper().startswith("LIST") or re.search(r"[/\\%\0]|^\.\.?$", data) or " " in data.strip():
        raise InputError("image-reference", "it names several data files, or one outside its own folder")
    return data


def _read(path: Path) -> _Image:
    """Errors: those of `build_from_image`."""
    reader = _read_nifti if _ending(path.name) in (".nii", ".nii.gz") else _read_itk
    try:
        return reader(path)
    except (InputError, VolumeError):
        raise
    except Exception as error:  # readers raise whatever they like
        if is_lack_of_memory(error):
            raise
        raise InputError("image-damaged", f"the image cannot be read ({type(error).__name__})") from None


def _read_nifti(path: Path) -> _Image:
    import nibabel as nib

    image: Any = nib.load(path)
    shape = tuple(image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    dtype = image.get_data_dtype()
    _check_shape(shape, dtype.fields is not None or dtype.kind not in "iuf")
    if image.header.get_xyzt_units()[0] not in _NIFTI_MM:
        raise VolumeError("image-geometry", f"its unit is {image.header.get_xyzt_units()[0]}, not mm")
    affine, notices = _nifti_affine(image, shape)
    geometry = _geometry(_LPS_FROM_RAS @ affine, shape)
    # unscaled: scaled values would come as float64, four times as large
    values = np.asanyarray(image.dataobj.get_unscaled()).reshape(shape)
    return _Image(values, geometry, notices, float(image.dataobj.slope), float(image.dataobj.inter))


def _nifti_affine(image: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.float64], tuple[Notice, ...]]:
    """RAS affine: the sform, else the qform.

    Errors: `image-geometry` where neither is set.
    """
    header = image.header
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    if sform <= 0 and qform <= 0:
        raise VolumeError("image-geometry", "neither sform nor qform is set: left and right are not known")
    if sform <= 0:
        return np.asarray(header.get_qform()), ()
    affine = np.asarray(header.get_sform())
    if qform <= 0:
        return affine, ()
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], [1])).reshape(4, -1)
    apart = np.abs((affine - np.asarray(header.get_qform())) @ corners).max()
    if apart <= SAME_AFFINE_MM:
        return affine, ()
    return affine, (Notice("image-geometry-guessed", f"sform and qform differ by {apart:.1f} mm; the sform was used."),)


def _read_itk(path: Path) -> _Image:
    import SimpleITK

    sitk: Any = SimpleITK
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size = list(reader.GetSize())
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    _check_shape(tuple(size), reader.GetNumberOfComponents() != 1)
    notices = _unsaid_geometry(path)
    image = reader.Execute()
    if image.GetDimension() > 3:
        image = image[(slice(None),) * 3 + (0,) * (image.GetDimension() - 3)]
    try:
        geometry = Geometry.from_itk(image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())
    except ValueError as error:
        raise VolumeError("image-geometry", str(error)) from None
    return _Image(sitk.GetArrayFromImage(image), geometry, notices)


def _unsaid_geometry(path: Path) -> tuple[Notice, ...]:
    """SimpleITK makes up what a header leaves out.

    Errors: `image-geometry` where the spacing is left out.
    """
    with path.open("rb") as file:
        text = file.read(HEADER_BYTES).decode("latin-1")
    if _ending(path.name) == ".nrrd":
        spacing, orientation = r"^(spacings|space directions):", r"^space( dimension)?:"
    else:
        spacing, orientation = r"^Element(Spacing|Size)\s*=", r"^(TransformMatrix|Rotation|Orientation)\s*="
    if not re.search(spacing, text, re.MULTILINE | re.IGNORECASE):
        raise VolumeError("image-geometry", "the header gives no spacing")
    if not re.search(orientation, text, re.MULTILINE | re.IGNORECASE):
        return (Notice("image-geometry-guessed", "No orientation in the header; it was read as LPS."),)
    return ()


def _check_shape(shape: tuple[int, ...], odd: bool) -> None:
    """Errors: `image-dimensions`, `volume-too-large`."""
    if len(shape) != 3 or odd or min(shape) < 1:
        raise VolumeError("image-dimensions", f"expected one grey value in three dimensions, got {shape}")
    if int(np.prod([int(n) for n in shape])) > MOST_VOXELS:
        raise VolumeError("volume-too-large", f"{' x '.join(str(n) for n in shape)} voxels")


def _geometry(affine: NDArray[np.float64], shape: tuple[int, ...]) -> Geometry:
    """Errors: `image-geometry`."""
    try:
        return Geometry(affine, (shape[0], shape[1], shape[2]))
    except ValueError as error:
        raise VolumeError("image-geometry", str(error)) from None


def _check_axial(geometry: Geometry) -> None:
    """Errors: `not-axial` where an axis is more than 5 degrees off the patient's."""
    cosines = geometry.affine[:3, :3] / np.array(geometry.spacing_mm)
    along = np.abs(np.array([cosines[2, 0], cosines[1, 1], cosines[0, 2]]))
    worst = float(np.degrees(np.arccos(np.clip(along, 0, 1))).max())
    if worst > AXIAL_DEGREES:
        raise VolumeError("not-axial", f"its axes are {worst:.1f} degrees off the patient's")


def _as_hu(image: _Image) -> tuple[NDArray[np.int16], list[Notice]]:
    """Values as int16 HU, never below -1024; slab by slab, so that no second copy in floats is made.

    Errors: `image-not-hu`.
    """
    hu = np.empty_like(image.values, dtype=np.int16)
    seen = _Seen()
    # slabs lie whole in memory: NIfTI's last axis is the slowest, other formats' first
    axis = int(np.argmax(np.abs(image.values.strides)))
    source, target = np.moveaxis(image.values, axis, 0), np.moveaxis(hu, axis, 0)
    for slab, values in enumerate(source):
        plain = image.slope == 1.0 and image.intercept == 0.0
        scaled = values if plain else values * image.slope + image.intercept
        target[slab] = _slab_as_hu(scaled, seen)
    if seen.air < AIR_SHARE * hu.size or seen.high < TISSUE_HU:
        raise VolumeError(
            "image-not-hu", f"values from {seen.low:g} to {seen.high:g} are no Hounsfield units of a chest"
        )
    notices = []
    if seen.bad:
        notices.append(Notice("values-clipped", f"{seen.bad} values that are no numbers were set to {LEAST_HU} HU."))
    if seen.over:
        notices.append(Notice("values-clipped", f"{seen.over} values above {MOST_HU} HU were clipped."))
    return hu, notices


@dataclass
class _Seen:
    """What was met among the values."""

    low: float = np.inf
    high: float = -np.inf
    air: int = 0
    bad: int = 0
    over: int = 0


def _slab_as_hu(values: NDArray[Any], seen: _Seen) -> NDArray[np.int16]:
    if values.dtype.kind == "f":
        seen.bad += int(np.count_nonzero(~np.isfinite(values)))
        values = np.rint(np.nan_to_num(values, nan=LEAST_HU, posinf=LEAST_HU, neginf=LEAST_HU))
    seen.low, seen.high = min(seen.low, float(values.min())), max(seen.high, float(values.max()))
    seen.air += int(np.count_nonzero(values < AIR_HU))
    seen.over += int(np.count_nonzero(values > MOST_HU))
    clipped: NDArray[np.int16] = np.clip(values, LEAST_HU, MOST_HU).astype(np.int16)
    return clipped

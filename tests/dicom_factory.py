"""Tiny CT series written with pydicom: unequal pixel spacing, off-origin, any orientation, any trap.

    paths = make_series(tmp_path, slices=24, step_mm=2.0, tags={"ConvolutionKernel": "LUNG"})
    paths = make_series(tmp_path, edit=lambda dataset, k: setattr(dataset, "ImagePositionPatient", ["1,0", "2", "3"]))

The values differ in every voxel, so that a flip, a swap or a shift cannot go unseen.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
FEET_FIRST = (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
"""Rows lead to the patient's right: the normal points down."""
PRONE = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
CORONAL = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0)
SPACING = (0.8, 0.7)
"""Row spacing, column spacing."""
ORIGIN = (-31.5, 12.25, -107.0)


def ramp_hu(slices: int = 44, rows: int = 16, columns: int = 20) -> NDArray[np.int16]:
    """HU (z, y, x), different in every voxel: -1000 and up."""
    return (np.arange(slices * rows * columns).reshape(slices, rows, columns) % 3000 - 1000).astype(np.int16)


def slice_positions(
    slices: int, step_mm: float, orientation: Sequence[float] = AXIAL, origin_mm: Sequence[float] = ORIGIN
) -> NDArray[np.float64]:
    """(n, 3): evenly along the slices' normal."""
    normal = np.cross(orientation[:3], orientation[3:])
    return np.asarray(origin_mm) + np.arange(slices)[:, None] * step_mm * normal


def make_series(
    folder: Path,
    hu: NDArray[np.int16] | None = None,
    *,
    slices: int = 44,
    rows: int = 16,
    columns: int = 20,
    step_mm: float = 2.5,
    spacing_mm: tuple[float, float] = SPACING,
    orientation: Sequence[float] = AXIAL,
    origin_mm: Sequence[float] = ORIGIN,
    positions_mm: Sequence[Sequence[float]] | NDArray[np.float64] | None = None,
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = False,
    bits_stored: int = 12,
    syntax: str = str(ExplicitVRLittleEndian),
    study_uid: str | None = None,
    series_uid: str | None = None,
    tags: Mapping[str, Any] | None = None,
    without: Sequence[str] = (),
    edit: Callable[[Dataset, int], None] | None = None,
    prefix: str = "slice",
    shuffle: bool = True,
) -> list[Path]:
    """Write one file per slice; the paths in slice order, the names in another order unless `shuffle` is off.

    hu: (z, y, x), `ramp_hu` of the given size where it is left out. positions_mm: ImagePositionPatient per slice,
    evenly from `origin_mm` along the normal where it is left out. tags: set in every slice; without: left out of every
    slice;
    edit: called last with each data set and its number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = ramp_hu(slices, rows, columns) if hu is None else hu
    count = len(values)
    places = slice_positions(count, step_mm, orientation, origin_mm) if positions_mm is None else positions_mm
    study_uid, series_uid = study_uid or generate_uid(), series_uid or generate_uid()
    frame_of_reference = generate_uid()
    names = np.random.default_rng(1).permutation(count) if shuffle else np.arange(count)
    paths = []
    for k in range(count):
        dataset = make_slice(values[k], places[k], orientation, spacing_mm, slope, intercept, signed, bits_stored)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID = frame_of_reference
        dataset.InstanceNumber = k + 1
        dataset.SliceThickness = round(step_mm, 4)
        set_tags(dataset, tags or {})
        for keyword in without:
            if keyword in dataset:
                delattr(dataset, keyword)
        if edit is not None:
            edit(dataset, k)
        path = folder / f"{prefix}{names[k]:04d}.dcm"
        save(dataset, path, syntax)
        paths.append(path)
    return paths


def make_slice(
    hu: NDArray[np.int16],
    position_mm: Sequence[float],
    orientation: Sequence[float] = AXIAL,
    spacing_mm: tuple[float, float] = SPACING,
    slope: float = 1.0,
    intercept: float = -1024.0,
    signed: bool = False,
    bits_stored: int = 12,
) -> Dataset:
    """One CT slice as a data set without study and series."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = CT, generate_uid()
    dataset.PatientID, dataset.PatientName, dataset.PatientSex = "P001", "Doe^Jane", "F"
    dataset.PatientBirthDate, dataset.StudyDate, dataset.StudyTime = "19600102", "20240506", "101500"
    dataset.AccessionNumber, dataset.StudyDescription, dataset.SeriesDescription = "A1", "LDCT chest", "Thorax 2.5"
    dataset.StudyID, dataset.SeriesNumber = "1", 2
    dataset.Modality, dataset.Manufacturer, dataset.BodyPartExamined = "CT", "Maker", "CHEST"
    dataset.ImageType, dataset.ConvolutionKernel = ["ORIGINAL", "PRIMARY", "AXIAL"], "STANDARD"
    dataset.KVP, dataset.XRayTubeCurrent, dataset.Exposure = "120", "160", "80"
    dataset.ImagePositionPatient = [round(float(v), 6) for v in position_mm]
    dataset.ImageOrientationPatient = [round(float(v), 9) for v in orientation]
    dataset.PixelSpacing = list(spacing_mm)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = hu.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, bits_stored, bits_stored - 1
    dataset.PixelRepresentation = int(signed)
    dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
    set_stored(dataset, np.rint((hu.astype(np.float64) - intercept) / slope).astype(np.int64))
    return dataset


def set_stored(dataset: Dataset, stored: NDArray[Any]) -> None:
    """Write stored values as they are (negative ones wrap into 16 bits)."""
    dataset.PixelData = (stored.astype(np.int64) & 0xFFFF).astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"


def set_tags(dataset: Dataset, tags: Mapping[str, Any]) -> None:
    """Set values by keyword, invalid ones too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for keyword, value in tags.items():
            try:
                setattr(dataset, keyword, value)
            except ValueError:
                # text where a number belongs; in implicit VR it is read as what the dictionary says
                dataset[keyword] = DataElement(tag_for_keyword(keyword) or 0, "LO", value)


def save(dataset: Dataset, path: Path, syntax: str = str(ExplicitVRLittleEndian)) -> None:
    """Write a file in a transfer syntax; the pixels are already encoded as it says, or native."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    kind = UID(syntax)
    known = not kind.is_private
    file = FileDataset(
        str(path),
        dataset,
        file_meta=meta,
        preamble=b"\0" * 128,
        is_implicit_VR=known and kind.is_implicit_VR,
        is_little_endian=not known or kind.is_little_endian,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.save_as(path, enforce_file_format=True)


def set_codestream(dataset: Dataset, *frames: bytes) -> None:
    """Put encoded frames into a data set."""
    dataset.PixelData = encapsulate(list(frames))
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"


def make_enhanced(
    path: Path,
    hu: NDArray[np.int16] | None = None,
    *,
    step_mm: float = 2.5,
    orientation: Sequence[float] = AXIAL,
    positions_mm: Sequence[Sequence[float]] | NDArray[np.float64] | None = None,
    intercepts: Sequence[float] | None = None,
    stacks: Sequence[str] | None = None,
    temporal: Sequence[int] | None = None,
    study_uid: str | None = None,
    series_uid: str | None = None,
    tags: Mapping[str, Any] | None = None,
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write an enhanced multi-frame CT: one frame per slice, with its own place, rescale, stack and time."""
    values = ramp_hu() if hu is None else hu
    count = len(values)
    places = slice_positions(count, step_mm, orientation) if positions_mm is None else positions_mm
    per_frame = [-1024.0] * count if intercepts is None else list(intercepts)
    dataset = make_slice(values[0], places[0], orientation)
    for keyword in (
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "RescaleSlope",
        "RescaleIntercept",
    ):
        delattr(dataset, keyword)
    dataset.SOPClassUID = ENHANCED_CT
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid or generate_uid(), series_uid or generate_uid()
    dataset.FrameOfReferenceUID = generate_uid()
    dataset.InstanceNumber, dataset.NumberOfFrames = 1, count
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    dataset.SharedFunctionalGroupsSequence = [_shared_groups(orientation, step_mm)]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame_groups(places[k], per_frame[k], k, stacks[k] if stacks else "1", temporal[k] if temporal else None)
        for k in range(count)
    ]
    stored = values.astype(np.float64) - np.array(per_frame)[:, None, None]
    set_stored(dataset, stored)
    set_tags(dataset, tags or {})
    if edit is not None:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(dataset, path)
    return path


def _shared_groups(orientation: Sequence[float], step_mm: float) -> Dataset:
    groups, plane, measures = Dataset(), Dataset(), Dataset()
    plane.ImageOrientationPatient = [round(float(v), 9) for v in orientation]
    measures.PixelSpacing, measures.SliceThickness = list(SPACING), step_mm
    groups.PlaneOrientationSequence, groups.PixelMeasuresSequence = [plane], [measures]
    reconstruction = Dataset()
    reconstruction.ConvolutionKernel = "STANDARD"
    groups.CTReconstructionSequence = [reconstruction]
    return groups


def _frame_groups(position: Sequence[float], intercept: float, number: int, stack: str, time: int | None) -> Dataset:
    groups, plane, rescale, content = Dataset(), Dataset(), Dataset(), Dataset()
    plane.ImagePositionPatient = [round(float(v), 6) for v in position]
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1.0, intercept, "HU"
    content.StackID, content.InStackPositionNumber = stack, number + 1
    if time is not None:
        content.TemporalPositionIndex = time
    groups.PlanePositionSequence, groups.PixelValueTransformationSequence = [plane], [rescale]
    groups.FrameContentSequence = [content]
    return groups

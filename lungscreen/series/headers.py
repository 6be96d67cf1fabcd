"""File ─► Header: what one DICOM object says about itself, as plain bounded values; pixels are not touched."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lungscreen.dicomfile import (
    first_item,
    get_items,
    get_number,
    get_numbers,
    get_text,
    get_texts,
    get_uid,
    get_whole,
    plain_value,
    read_header,
    transfer_syntax,
)
from lungscreen.errors import InputError
from lungscreen.geometry import Vector
from lungscreen.records import Acquisition, Exam, Instance, Patient, Source
from lungscreen.sources import MOST_VOXELS, SourceReader

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["CT_CLASSES", "ENHANCED_CLASSES", "Header", "load_header", "read_patient"]

CT_CLASS = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CLASSES = frozenset({"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"})
"""Enhanced CT and Legacy Converted Enhanced CT: many frames in one object."""
CT_CLASSES = ENHANCED_CLASSES | {CT_CLASS}
"""What is CT: never by Modality, never by ImageType."""
LOSSY_SYNTAXES = frozenset({"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.81"})
"""JPEG extended and near-lossless JPEG-LS: lossy, whatever the header says."""

MOST_PIXELS_ACROSS = 4096
"""Rows or columns of a slice at most."""
MOST_FRAMES = 10_000
"""Frames of one object at most."""
SPACING_RANGE_MM = (0.05, 5.0)
"""Pixel spacing that a chest CT can have."""

Orientation = tuple[float, float, float, float, float, float]

_TAGS = [
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "PatientAge",
    "AccessionNumber",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "SeriesDescription",
    "SeriesNumber",
    "ImageType",
    "Manufacturer",
    "ManufacturerModelName",
    "BodyPartExamined",
    "ConvolutionKernel",
    "KVP",
    "XRayTubeCurrent",
    "XRayTubeCurrentInuA",
    "XRayTubeCurrentInmA",
    "Exposure",
    "ExposureInuAs",
    "ExposureInmAs",
    "CTDIvol",
    "SliceThickness",
    "ContrastBolusAgent",
    "ContrastBolusAgentSequence",
    "LossyImageCompression",
    "BurnedInAnnotation",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "SamplesPerPixel",
    "PixelRepresentation",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "AcquisitionTime",
    "RescaleSlope",
    "RescaleIntercept",
    "RescaleType",
    "MultienergyCTAcquisition",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
]


_WHO = ("PatientID", "PatientName", "IssuerOfPatientID", "PatientBirthDate")
"""Texts that tell people apart to the last character."""


@dataclass(frozen=True, slots=True)
class Header:
    """One CT object: the instance, and what grouping and choice look at.

    orientation, pixel_spacing_mm: of the middle frame in a multi-frame object.
    positions_mm: of all frames.
    """

    instance: Instance
    study_uid: str
    series_uid: str
    patient: Patient
    exam: Exam
    acquisition: Acquisition
    frame_of_reference: str
    orientation: Orientation
    pixel_spacing_mm: tuple[float, float]
    positions_mm: tuple[Vector, ...]
    rescale_type: str = ""
    multi_energy: bool = False
    problem: InputError | None = None
    """Why this object cannot be used, though it is CT and its series is known."""


def load_header(reader: SourceReader, source: Source) -> Header | Dataset:
    """Read one object's header; a data set of `_TAGS` where the object is no CT (its SOP class tells what it is).

    Errors: `file-unreadable`, `not-dicom`, `dicom-damaged`, `header-incomplete`.
    """
    dataset = read_header(reader, source, _TAGS)
    if get_uid(dataset, "SOPClassUID") not in CT_CLASSES:
        return dataset
    missing = [k for k in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID") if not get_uid(dataset, k)]
    if missing:
        raise InputError("header-incomplete", f"{', '.join(missing)}: absent or no UID")
    try:
        return _header(dataset, source, None)
    except InputError as problem:
        return _header(dataset, source, problem)


def _header(dataset: Dataset, source: Source, problem: InputError | None) -> Header:
    """Errors: those of `_shape` and `_places`, but where `problem` says that they failed already."""
    enhanced = get_uid(dataset, "SOPClassUID") in ENHANCED_CLASSES
    shared = first_item(dataset, "SharedFunctionalGroupsSequence") if enhanced else None
    rows, columns, frames = (0, 0, 1) if problem else _shape(dataset)
    orientation, spacing, positions = _NOWHERE if problem else _places(dataset, shared, enhanced)
    single = not problem and not enhanced
    if single:
        _check_rescale(dataset)
    instance = Instance(
        source=source,
        sop_instance_uid=get_uid(dataset, "SOPInstanceUID"),
        sop_class_uid=get_uid(dataset, "SOPClassUID"),
        transfer_syntax_uid=transfer_syntax(dataset),
        rows=rows,
        columns=columns,
        frames=frames,
        instance_number=_whole(get_number(dataset, "InstanceNumber")),
        position_mm=positions[0] if positions and single else None,
        orientation=orientation if single else None,
        pixel_spacing_mm=spacing if single else None,
        acquisition_number=get_text(dataset, "AcquisitionNumber"),
        temporal_position=get_text(dataset, "TemporalPositionIdentifier"),
        acquisition_time=get_text(dataset, "AcquisitionTime"),
    )
    return Header(
        instance=instance,
        study_uid=get_uid(dataset, "StudyInstanceUID"),
        series_uid=get_uid(dataset, "SeriesInstanceUID"),
        patient=read_patient(dataset),
        exam=_exam(dataset),
        acquisition=_acquisition(dataset, shared),
        frame_of_reference=get_uid(dataset, "FrameOfReferenceUID"),
        orientation=orientation,
        pixel_spacing_mm=spacing,
        positions_mm=positions,
        rescale_type=get_text(dataset, "RescaleType")
        or get_text(first_item(shared, "PixelValueTransformationSequence"), "RescaleType"),
        multi_energy=get_text(dataset, "MultienergyCTAcquisition").upper() == "YES",
        problem=problem,
    )


_NOWHERE: tuple[Orientation, tuple[float, float], tuple[Vector, ...]] = ((1, 0, 0, 0, 1, 0), (1.0, 1.0), ())


def _check_size(rows: int, columns: int, frames: int) -> None:
    """Errors: `size-absurd`."""
    across = min(rows, columns) > 0 and max(rows, columns) <= MOST_PIXELS_ACROSS
    if not across or not 0 < frames <= MOST_FRAMES or rows * columns * frames > MOST_VOXELS:
        raise InputError("size-absurd", f"{frames} frame(s) of {rows} x {columns} pixels")


def _shape(dataset: Dataset) -> tuple[int, int, int]:
    """Errors: `header-incomplete`, `size-absurd`, `frames-invalid`, `pixels-unsupported`."""
    rows, columns = (_whole(get_number(dataset, k)) for k in ("Rows", "Columns"))
    frames = _whole(get_number(dataset, "NumberOfFrames") or 1.0)
    bits = get_number(dataset, "BitsAllocated")
    if rows is None or columns is None or frames is None or bits is None:
        raise InputError("header-incomplete", "no pixel module: rows, columns or bits allocated are absent")
    _check_size(rows, columns, frames)
    if frames > 1 and get_uid(dataset, "SOPClassUID") not in ENHANCED_CLASSES:
        raise InputError("frames-invalid", f"{frames} frames in a single-frame object")
    _check_samples(bits, get_number(dataset, "SamplesPerPixel") or 1)
    return rows, columns, frames


def _check_samples(bits: float, samples: float) -> None:
    """Errors: `pixels-unsupported`."""
    if bits not in (8, 16) or samples != 1:
        raise InputError("pixels-unsupported", f"{bits:g} bits allocated, or more than one sample a pixel")


def _places(
    dataset: Dataset, shared: Dataset | None, enhanced: bool
) -> tuple[Orientation, tuple[float, float], tuple[Vector, ...]]:
    """Orientation, pixel spacing and positions.

    Errors: `position-invalid`, `spacing-invalid`, `frames-invalid`.
    """
    if not enhanced:
        position = get_numbers(dataset, "ImagePositionPatient", 3)
        if position is None:
            raise InputError("position-invalid", "ImagePositionPatient is absent or not three numbers")
        return _orientation(dataset), _spacing(dataset), (_vector(position),)
    frames = get_items(dataset, "PerFrameFunctionalGroupsSequence")
    if not frames:
        raise InputError("frames-invalid", "the multi-frame object does not describe its frames")
    # the middle one: a scout may come first
    first = frames[len(frames) // 2]
    plane = first_item(first, "PlaneOrientationSequence") or first_item(shared, "PlaneOrientationSequence")
    measures = first_item(first, "PixelMeasuresSequence") or first_item(shared, "PixelMeasuresSequence")
    found = [get_numbers(first_item(frame, "PlanePositionSequence"), "ImagePositionPatient", 3) for frame in frames]
    positions = tuple(_vector(position) for position in found if position is not None)
    return _orientation(plane), _spacing(measures), positions


def _orientation(dataset: Dataset | None) -> Orientation:
    cosines = get_numbers(dataset, "ImageOrientationPatient", 6)
    if cosines is None:
        raise InputError("position-invalid", "ImageOrientationPatient is absent or not six numbers")
    return cosines[0], cosines[1], cosines[2], cosines[3], cosines[4], cosines[5]


def _spacing(dataset: Dataset | None) -> tuple[float, float]:
    spacing = get_numbers(dataset, "PixelSpacing", 2)
    if spacing is None or not all(SPACING_RANGE_MM[0] <= s <= SPACING_RANGE_MM[1] for s in spacing):
        raise InputError("spacing-invalid", f"PixelSpacing is absent or not two numbers in {SPACING_RANGE_MM} mm")
    return spacing[0], spacing[1]


def _check_rescale(dataset: Dataset) -> None:
    """Errors: `rescale-missing`, `rescale-invalid`."""
    for keyword in ("RescaleSlope", "RescaleIntercept"):
        if not get_text(dataset, keyword):
            raise InputError("rescale-missing", f"{keyword} is absent")
        if get_number(dataset, keyword) is None:
            raise InputError("rescale-invalid", f"{keyword} is no number")
    if get_number(dataset, "RescaleSlope") == 0:
        raise InputError("rescale-invalid", "RescaleSlope is 0")


def read_patient(dataset: Dataset) -> Patient:
    """Who it is, for people to read; what had to be mended for that still tells two people apart (`Patient.mended`)."""
    sex = get_text(dataset, "PatientSex").upper()
    stated = {keyword: get_whole(dataset, keyword) for keyword in _WHO}
    kept = {keyword: plain_value(text) for keyword, text in stated.items()}
    birth_date = _date(dataset, "PatientBirthDate")
    lost = [text for keyword, text in stated.items() if text != kept[keyword]]
    if stated["PatientBirthDate"] and not birth_date:
        lost.append(stated["PatientBirthDate"])
    return Patient(
        patient_id=kept["PatientID"],
        name=kept["PatientName"],
        birth_date=birth_date,
        sex=sex if sex in ("M", "F", "O") else "",
        issuer=kept["IssuerOfPatientID"],
        mended=hashlib.sha256("\0".join(lost).encode("utf-8", "surrogatepass")).hexdigest()[:16] if lost else "",
    )


def _exam(dataset: Dataset) -> Exam:
    return Exam(
        study_uid=get_uid(dataset, "StudyInstanceUID"),
        accession_number=get_text(dataset, "AccessionNumber"),
        date=_date(dataset, "StudyDate"),
        time=get_text(dataset, "StudyTime"),
        description=get_text(dataset, "StudyDescription"),
        age=get_text(dataset, "PatientAge"),
    )


def _acquisition(dataset: Dataset, shared: Dataset | None) -> Acquisition:
    """From the top level, or from the functional groups that all frames share."""
    exposure = first_item(shared, "CTExposureSequence")
    reconstruction = first_item(shared, "CTReconstructionSequence")
    milliampere_seconds = _scaled(dataset, "ExposureInuAs", 1e-3) or get_number(dataset, "Exposure")
    return Acquisition(
        manufacturer=get_text(dataset, "Manufacturer"),
        model=get_text(dataset, "ManufacturerModelName"),
        body_part=get_text(dataset, "BodyPartExamined")
        or get_text(first_item(first_item(shared, "FrameAnatomySequence"), "AnatomicRegionSequence"), "CodeMeaning"),
        series_description=get_text(dataset, "SeriesDescription"),
        image_type=get_texts(dataset, "ImageType"),
        kernel=get_texts(dataset, "ConvolutionKernel") or get_texts(reconstruction, "ConvolutionKernel"),
        kvp=_positive(get_number(dataset, "KVP") or get_number(first_item(shared, "CTXRayDetailsSequence"), "KVP")),
        tube_current_ma=_positive(
            get_number(dataset, "XRayTubeCurrent")
            or _scaled(dataset, "XRayTubeCurrentInuA", 1e-3)
            or get_number(exposure, "XRayTubeCurrentInmA")
        ),
        exposure_mas=_positive(milliampere_seconds or get_number(exposure, "ExposureInmAs")),
        ctdi_vol_mgy=_positive(get_number(dataset, "CTDIvol") or get_number(exposure, "CTDIvol")),
        slice_thickness_mm=_positive(
            get_number(dataset, "SliceThickness")
            or get_number(first_item(shared, "PixelMeasuresSequence"), "SliceThickness")
        ),
        contrast=get_text(dataset, "ContrastBolusAgent")
        or get_text(first_item(dataset, "ContrastBolusAgentSequence"), "CodeMeaning"),
        lossy=get_text(dataset, "LossyImageCompression") == "01" or transfer_syntax(dataset) in LOSSY_SYNTAXES,
        burned_in=get_text(dataset, "BurnedInAnnotation").upper(),
    )


def _scaled(dataset: Dataset, keyword: str, factor: float) -> float | None:
    number = get_number(dataset, keyword)
    return None if number is None else number * factor


def _positive(number: float | None) -> float | None:
    return number if number is not None and number > 0 else None


def _whole(number: float | None) -> int | None:
    return int(number) if number is not None and number == int(number) and abs(number) < 1 << 31 else None


def _date(dataset: Dataset, keyword: str) -> str:
    text = get_text(dataset, keyword).replace(".", "").replace("-", "")
    return text if re.fullmatch(r"\d{8}", text, re.ASCII) else ""


def _vector(numbers: tuple[float, ...]) -> Vector:
    return numbers[0], numbers[1], numbers[2]

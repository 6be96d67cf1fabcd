"""Phantom ─► CT Image Storage files: a valid axial series, clearly synthetic, the same bytes every time."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless

from lungscreen import __version__
from lungscreen.config import config_hash
from lungscreen.errors import OutputError
from lungscreen.phantom.config import Dose, Kernel, PhantomConfig
from lungscreen.phantom.make import Phantom
from lungscreen.uids import derived_uid

__all__ = ["Syntax", "patient_id", "patient_name", "phantom_uid", "series_uid", "study_uid", "write_dicom"]

Syntax = Literal["explicit", "implicit", "jpeg-ls"]

SYNTAXES = {"explicit": ExplicitVRLittleEndian, "implicit": ImplicitVRLittleEndian, "jpeg-ls": JPEGLSLossless}
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
MAS: dict[Dose, int] = {"standard": 150, "low": 32, "ultra-low": 8}
"""Exposure that goes with each level of noise."""
CTDI_PER_MAS = 0.067
"""CTDIvol of the 32 cm phantom at 120 kVp, mGy per mAs: ordinary for a chest protocol."""
KERNEL_NAMES: dict[Kernel, str] = {"soft": "SOFT", "standard": "STANDARD", "sharp": "LUNG"}
INTERCEPT = -1024
HALF_SECOND_ROTATION_MS = 500


def phantom_uid(*words: object) -> UID:
    """A UID under 2.25 (UUID-derived, DICOM PS3.5 B.2) that depends on nothing but the words."""
    return UID(derived_uid("lungscreen phantom", *words))


def patient_id(config: PhantomConfig) -> str:
    """The synthetic patient's ID: the same body always has the same."""
    return f"PHANTOM-{config.seed:06d}"


def patient_name(config: PhantomConfig) -> str:
    """The name: the last digits of the seed, spelt."""
    number = str(config.seed % 10000)
    return "PHANTOM^" + " ".join(DIGITS[int(d)] for d in number)


def study_uid(config: PhantomConfig) -> str:
    """One study for each visit (body, date, scan)."""
    return phantom_uid("study", config.seed, config.scan_seed, config.study_date)


def series_uid(config: PhantomConfig) -> str:
    """One series for each configuration."""
    return phantom_uid("series", config_hash(config))


def write_dicom(
    phantom: Phantom,
    folder: Path,
    *,
    syntax: Syntax = "explicit",
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write IM0001.dcm (uppermost slice) and so on into a folder, which is made; returns the files.

    Errors: `output-failed`.
    """
    if syntax not in get_args(Syntax):
        raise ValueError(f"unknown syntax {syntax!r}; known: {', '.join(get_args(Syntax))}")
    count = phantom.geometry.shape[0]
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, count + 1):
            path = folder / f"IM{number:04d}.dcm"
            path.write_bytes(_encoded(_instance(phantom, count - number, number), syntax))
            paths.append(path)
            if progress:
                progress(number, count)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write the phantom: {error.strerror}", str(folder)) from None
    return paths


def _encoded(dataset: Dataset, syntax: Syntax) -> bytes:
    if syntax == "jpeg-ls":
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _instance(phantom: Phantom, k: int, number: int) -> Dataset:
    """The object of slice k (from below)."""
    config = phantom.config
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.ImplementationClassUID = phantom_uid("implementation")
    dataset.file_meta.ImplementationVersionName = f"LUNGSCREEN {__version__}"[:16]
    _who(dataset, config)
    _how(dataset, config)
    _where(dataset, phantom, k, number)
    _pixels(dataset, phantom.hu[k])
    return dataset


def _who(dataset: Dataset, config: PhantomConfig) -> None:
    """Patient, study, series and equipment."""
    day = config.study_date
    time = f"08{config.scan_seed % 60:02d}00"
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.PatientName, dataset.PatientID = patient_name(config), patient_id(config)
    dataset.PatientBirthDate = f"{int(day[:4]) - config.age:04d}0101"
    dataset.PatientSex, dataset.PatientAge = config.sex, f"{config.age:03d}Y"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid(config), series_uid(config)
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = day
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = time
    dataset.StudyID, dataset.SeriesNumber, dataset.AcquisitionNumber = "1", 2, 1
    dataset.AccessionNumber = f"PH{int(study_uid(config)[5:]) % 10**10:010d}"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "SYNTHETIC CHEST LOW DOSE"
    dataset.SeriesDescription = f"SYNTHETIC {config.slice_thickness_mm:g} MM {KERNEL_NAMES[config.kernel]}"
    dataset.Modality, dataset.BodyPartExamined, dataset.PatientPosition = "CT", "CHEST", "HFS"
    dataset.Manufacturer, dataset.ManufacturerModelName = "lungscreen", "phantom"
    dataset.SoftwareVersions, dataset.DeviceSerialNumber = __version__, "0"
    dataset.InstitutionName, dataset.StationName = "SYNTHETIC DATA", "PHANTOM"
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"


def _how(dataset: Dataset, config: PhantomConfig) -> None:
    """Acquisition: what a low-dose chest protocol says."""
    mas = MAS[config.dose]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.KVP, dataset.Exposure, dataset.ExposureTime = "120", mas, HALF_SECOND_ROTATION_MS
    dataset.XRayTubeCurrent = round(mas / (HALF_SECOND_ROTATION_MS / 1000))
    dataset.CTDIvol = round(mas * CTDI_PER_MAS, 2)
    dataset.CTDIPhantomTypeCodeSequence = [_code("113691", "DCM", "IEC Body Dosimetry Phantom")]
    dataset.ConvolutionKernel, dataset.ScanOptions = KERNEL_NAMES[config.kernel], "HELICAL MODE"
    dataset.ProtocolName = "PHANTOM LDCT"
    dataset.GantryDetectorTilt, dataset.RotationDirection = "0", "CW"
    dataset.DataCollectionDiameter, dataset.FilterType = "500", "BODY"
    dataset.ReconstructionDiameter = f"{config.pixel_mm * max(config.rows, config.columns):g}"
    dataset.SliceThickness = f"{config.slice_thickness_mm:g}"


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _where(dataset: Dataset, phantom: Phantom, k: int, number: int) -> None:
    """Image plane and identity of one slice."""
    config = phantom.config
    x, y, z = (float(v) for v in phantom.geometry.to_mm((k, 0, 0)))
    uid = phantom_uid("instance", config_hash(config), k)
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, uid
    dataset.file_meta.MediaStorageSOPClassUID, dataset.file_meta.MediaStorageSOPInstanceUID = CTImageStorage, uid
    dataset.InstanceNumber = number
    dataset.FrameOfReferenceUID = phantom_uid("frame", study_uid(config))
    dataset.PositionReferenceIndicator = ""
    dataset.ImagePositionPatient = [f"{x:.4f}", f"{y:.4f}", f"{z:.4f}"]
    dataset.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    dataset.PixelSpacing = [f"{config.pixel_mm:g}", f"{config.pixel_mm:g}"]
    dataset.SliceLocation = f"{z:.4f}"


def _pixels(dataset: Dataset, hu: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> None:
    stored = np.clip(hu.astype(np.int32) - INTERCEPT, 0, 4095).astype("<u2")
    dataset.Rows, dataset.Columns = stored.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = str(INTERCEPT), "1", "HU"
    dataset.WindowCenter, dataset.WindowWidth = ["-600", "40"], ["1500", "400"]
    dataset.WindowCenterWidthExplanation = ["LUNG", "MEDIASTINUM"]
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"

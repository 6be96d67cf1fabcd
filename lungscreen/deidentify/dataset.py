"""One CT object ─► a new one that holds only what is on the list below.

After PS3.15 annex E (Basic Application Level Confidentiality Profile) with the options Retain Longitudinal Temporal
Information With Modified Dates and Retain Patient Characteristics (sex and age only). The list is what reading needs:
geometry, HU, dose, kernel. Everything else is left out, whether or not the profile knows it; private elements always.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.coding import Code

from lungscreen.days import read_day, whole_years
from lungscreen.dicomfile import get_text, get_texts, get_uid
from lungscreen.errors import InputError

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement

    from lungscreen.pseudonyms import Pseudonyms

__all__ = ["KEPT", "METHOD", "OLDEST", "deidentify_dataset", "research_name", "shift_days"]

KEPT = frozenset({
    # object and place in the study
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
    "ImageType", "InstanceNumber", "SeriesNumber", "AcquisitionNumber", "AcquisitionUID", "BodyPartExamined",
    "TemporalPositionIdentifier", "NumberOfTemporalPositions", "ConcatenationUID", "InConcatenationNumber",
    "InConcatenationTotalNumber", "ConcatenationFrameOffsetNumber",
    # times, moved as a whole
    "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime", "FrameAcquisitionDateTime",
    "FrameReferenceDateTime", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime",
    # patient characteristics
    "PatientSex", "PatientAge",
    # scanner, dose, reconstruction
    "Manufacturer", "ManufacturerModelName", "KVP", "XRayTubeCurrent", "XRayTubeCurrentInmA", "Exposure",
    "ExposureInmAs", "ExposureTime", "ExposureTimeInms", "CTDIvol", "ConvolutionKernel", "FilterType", "ScanOptions",
    "SliceThickness", "SpacingBetweenSlices", "DataCollectionDiameter", "ReconstructionDiameter",
    "GantryDetectorTilt", "TableHeight", "RotationDirection", "SingleCollimationWidth", "TotalCollimationWidth",
    "TableSpeed", "SpiralPitchFactor", "RevolutionTime", "PatientPosition", "ContrastBolusAgent",
    "AcquisitionType", "ReconstructionAlgorithm", "MultienergyCTAcquisition",
    # geometry
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceLocation", "PositionReferenceIndicator",
    # pixels
    "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "SmallestImagePixelValue", "LargestImagePixelValue", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "WindowCenter", "WindowWidth", "VOILUTFunction", "BurnedInAnnotation", "LossyImageCompression",
    "LossyImageCompressionRatio", "LossyImageCompressionMethod", "PixelData", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PresentationLUTShape", "PixelPresentation", "VolumetricProperties",
    "VolumeBasedCalculationTechnique",
    # enhanced multi-frame objects
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "PlanePositionSequence",
    "PlaneOrientationSequence", "PixelMeasuresSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence",
    "FrameContentSequence", "CTImageFrameTypeSequence", "CTReconstructionSequence", "CTExposureSequence",
    "CTXRayDetailsSequence", "CTAcquisitionTypeSequence", "CTAcquisitionDetailsSequence",
    "FrameType", "StackID", "InStackPositionNumber", "TemporalPositionIndex", "DimensionIndexValues",
    "FrameAcquisitionNumber", "DimensionOrganizationSequence", "DimensionOrganizationUID", "DimensionIndexSequence",
    "DimensionIndexPointer", "FunctionalGroupPointer", "DimensionOrganizationType",
})  # fmt: skip
"""Keywords that are kept, at any depth."""

EMPTY = (
    "PatientBirthDate", "StudyID", "AccessionNumber", "ReferringPhysicianName", "StudyDate", "StudyTime", "PatientSex",
)  # fmt: skip
"""Type 2 of a CT image: there, and empty where not kept."""

OLDEST = 90
"""Years: whoever is older is given as this old."""

LONGEST_SHIFT_DAYS = 3650
METHOD = "lungscreen whitelist, PS3.15 E.1 Basic Profile"

OPTIONS = (
    Code("113100", "DCM", "Basic Application Confidentiality Profile"),
    Code("113107", "DCM", "Retain Longitudinal Temporal Information Modified Dates Option"),
    Code("113108", "DCM", "Retain Patient Characteristics Option"),
)
"""CID 7050."""

_STANDARD_UID = "1.2.840.10008."
_CONTRAST = "CONTRAST"
"""Stands for whatever the agent's text says: only that there was one matters to a reader."""


def deidentify_dataset(dataset: Dataset, pseudonyms: Pseudonyms) -> Dataset:
    """A new object of the same slice.

    Errors: `not-ct` for another kind of object; `deidentify-pixels` where the pixels may show a name: burned-in
    annotation, a secondary capture; `header-incomplete` where it names no study, series or object.
    """
    _check(dataset)
    person = _person(dataset)
    days = shift_days(person, pseudonyms)
    result = _kept(dataset, pseudonyms, days)
    result.SpecificCharacterSet = "ISO_IR 192"
    for keyword in EMPTY:
        if keyword not in result:
            setattr(result, keyword, "")
    name = research_name(person, pseudonyms)
    result.PatientID, result.PatientName = name, f"{name}^"
    if result.PatientSex not in ("M", "F", "O"):
        result.PatientSex = ""
    age = _age(dataset)
    if "PatientAge" in result:
        del result.PatientAge
    if age:
        result.PatientAge = age
    result.PatientIdentityRemoved = "YES"
    result.DeidentificationMethod = METHOD
    result.DeidentificationMethodCodeSequence = [_code_item(code) for code in OPTIONS]
    result.LongitudinalTemporalInformationModified = "MODIFIED"
    return result


def research_name(person: str, pseudonyms: Pseudonyms) -> str:
    """What stands for a person: ID and name."""
    return f"LS-{pseudonyms.digest('research patient', person)[:12].upper()}"


def shift_days(person: str, pseudonyms: Pseudonyms) -> int:
    """By how many days a person's dates go back; the same for all of that person's exams."""
    return 1 + int(pseudonyms.digest("research dates", person)[:8], 16) % LONGEST_SHIFT_DAYS


def _check(dataset: Dataset) -> None:
    """Errors: `not-ct`, `deidentify-pixels`, `header-incomplete`."""
    from lungscreen.series.headers import CT_CLASSES

    if get_uid(dataset, "SOPClassUID") not in CT_CLASSES:
        raise InputError("not-ct", "not a CT image; results are made again from the de-identified CT")
    if get_text(dataset, "BurnedInAnnotation").upper() == "YES":
        raise InputError("deidentify-pixels", "the header says that annotation is burned into the pixels")
    if {"SECONDARY", "SCREEN SAVE"} & {value.upper() for value in get_texts(dataset, "ImageType")}:
        raise InputError("deidentify-pixels", "a secondary image: its pixels may show who it is")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not get_uid(dataset, keyword):
            raise InputError("header-incomplete", f"{keyword} is absent or no UID")


def _person(dataset: Dataset) -> str:
    """Tells people apart: ID, issuer; the study where there is no ID."""
    patient_id = get_text(dataset, "PatientID")
    if not patient_id:
        return f"study {get_uid(dataset, 'StudyInstanceUID')}"
    return "\0".join((patient_id, get_text(dataset, "IssuerOfPatientID")))


def _kept(dataset: Dataset, pseudonyms: Pseudonyms, days: int) -> Dataset:
    """The elements on the list, sequences item by item."""
    result = Dataset()
    for tag in sorted(dataset.keys()):
        if tag.is_private:
            continue
        try:
            element = dataset[tag]
            if element.keyword in KEPT:
                _take_over(result, element, pseudonyms, days)
        except Exception:  # a hostile value: whatever pydicom raises, it is left out
            continue
    return result


def _take_over(result: Dataset, element: DataElement, pseudonyms: Pseudonyms, days: int) -> None:
    value = element.value
    if element.VR == "SQ":
        items = [_kept(item, pseudonyms, days) for item in value]
        result.add_new(element.tag, "SQ", Items(items))
    elif element.VR == "UI":
        result.add_new(element.tag, "UI", _new_uid(str(value), pseudonyms))
    elif element.VR in ("DA", "DT"):
        moved = _moved(str(value), days)
        if moved:
            result.add_new(element.tag, element.VR, moved)
    elif element.keyword == "ContrastBolusAgent":
        result.add_new(element.tag, element.VR, _CONTRAST if str(value).strip() else "")
    else:
        result[element.tag] = element


def _new_uid(uid: str, pseudonyms: Pseudonyms) -> str:
    """The standard's own UIDs stay; every other one becomes another, the same wherever it stands."""
    if not uid or uid.startswith(_STANDARD_UID):
        return uid
    raw = bytearray(bytes.fromhex(pseudonyms.digest("research uid", uid))[:16])
    raw[6] = (raw[6] & 0x0F) | 0x80
    raw[8] = (raw[8] & 0x3F) | 0x80
    return f"2.25.{int.from_bytes(raw, 'big')}"


def _moved(text: str, days: int) -> str:
    """A date, or the date of a date and time, so many days earlier; empty where it is none."""
    match = re.fullmatch(r"(\d{4})\.?(\d{2})\.?(\d{2})(.*)", text.strip(), re.ASCII)
    if not match:
        return ""
    try:
        day = date(int(match[1]), int(match[2]), int(match[3])) - timedelta(days)
    except (ValueError, OverflowError):
        return ""
    clock = re.match(r"[\d.]*", match[4])
    return f"{day:%Y%m%d}" + (clock[0] if clock else "")


def _age(dataset: Dataset) -> str:
    """The age as it stands, or from the birth date, at most `OLDEST`; empty where neither says it."""
    text = get_text(dataset, "PatientAge").upper()
    match = re.fullmatch(r"(\d{3})([DWMY])", text, re.ASCII)
    if match:
        years = int(match[1]) * {"D": 1 / 365.25, "W": 7 / 365.25, "M": 1 / 12, "Y": 1}[match[2]]
        return text if years < OLDEST else f"{OLDEST:03d}Y"
    born, seen = read_day(get_text(dataset, "PatientBirthDate")), read_day(get_text(dataset, "StudyDate"))
    if born is None or seen is None or born > seen:
        return ""
    return f"{min(whole_years(born, seen), OLDEST):03d}Y"


def _code_item(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item

"""Volume ─► what our objects take over from the series that was read: patient, study and the slices to point at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset
from pydicom.tag import Tag

from lungscreen.dicomfile import first_item, get_items, get_text, parse_dicom, quiet_pydicom
from lungscreen.errors import InputError
from lungscreen.records import SourceSlice, Volume
from lungscreen.sources import SourceReader
from lungscreen.volume.values import read_rescale

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement

__all__ = ["DicomSource", "read_source", "reference_to"]

PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDs", "OtherPatientIDsSequence",
    "OtherPatientNames", "EthnicGroup", "EthnicGroupCodeSequence", "PatientComments", "QualityControlSubject",
    "PatientSpeciesDescription", "PatientSpeciesCodeSequence", "PatientBreedDescription", "ResponsiblePerson",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip
"""Of the Patient module (PS3.3 C.7.1.1)."""

TRIAL = (
    "ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID",
    "ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID", "ClinicalTrialTimePointID",
    "ClinicalTrialTimePointDescription", "LongitudinalTemporalOffsetFromEvent", "LongitudinalTemporalEventType",
)  # fmt: skip
"""Of the Clinical Trial Subject and Study modules (PS3.3 C.7.1.3, C.7.2.3)."""

STUDY = (
    "StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName", "ReferringPhysicianIdentificationSequence", "ConsultingPhysicianName", "StudyDescription",
    "ProcedureCodeSequence", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "ReferencedStudySequence",
    "AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientWeight",
    "MedicalAlerts", "Allergies", "Occupation", "SmokingStatus", "AdditionalPatientHistory", "PregnancyStatus",
    "LastMenstrualDate", "PatientSexNeutered", "ReasonForVisit", "AdmissionID", "IssuerOfAdmissionIDSequence",
    "ServiceEpisodeID", "ServiceEpisodeDescription", "PatientState",
)  # fmt: skip
"""Of the General Study and Patient Study modules (PS3.3 C.7.2.1, C.7.2.2)."""

TYPE_2 = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex",
    "StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""What every object has, empty where the series has no value."""

_MOMENTS = (
    ("AcquisitionDate", "AcquisitionTime"),
    ("ContentDate", "ContentTime"),
    ("SeriesDate", "SeriesTime"),
    ("StudyDate", "StudyTime"),
)
"""Where the exam's date is looked for, the closest to the images first."""

_LONGEST_VALUE = 16384
"""Characters of one value that are taken over; a longer one is no patient's or study's attribute."""


@dataclass(frozen=True, eq=False)
class DicomSource:
    """What is taken over from the series.

    header: patient, study and clinical-trial attributes as the lowest slice has them, those of type 2 always.
    slices: those that were read, from the bottom up.
    moments: date and time pairs of the lowest slice, the closest to the images first.
    """

    header: Dataset
    slices: tuple[SourceSlice, ...]
    moments: tuple[tuple[str, str], ...]
    volume: Volume
    _images: dict[int, Dataset] = field(default_factory=dict, repr=False)

    @property
    def series_uid(self) -> str:
        """UID of the series that was read."""
        return self.volume.series_uid

    @property
    def slice_thickness_mm(self) -> float:
        """As the scanner tells it, else the slices' distance."""
        spacing_mm = round(self.volume.geometry.spacing_mm[0], 6)
        return self.volume.series.acquisition.slice_thickness_mm or spacing_mm

    def image(self, number: int) -> Dataset:
        """What highdicom wants to know of a slice's object; who the patient is stands in the header alone."""
        if number not in self._images:
            self._images[number] = _image(self.slices[number], self)
        return self._images[number]

    def objects(self, slices: Iterable[int]) -> list[Dataset]:
        """The objects that hold some slices, each once, in order."""
        first = {self.slices[number].instance.sop_instance_uid: number for number in reversed(list(slices))}
        return [self.image(number) for number in sorted(first.values())]

    def references(self, slices: Iterable[int]) -> list[Dataset]:
        """Items that name these objects, each once."""
        instances = {self.slices[n].instance.sop_instance_uid: self.slices[n].instance for n in slices}
        return [reference_to(one.sop_class_uid, one.sop_instance_uid) for one in instances.values()]

    def read_rescale(self, number: int) -> tuple[float, float]:
        """Slope and intercept of a slice, from its file.

        Errors: `file-unreadable`, `dicom-damaged`, `rescale-missing`, `rescale-invalid`.
        """
        one = self.slices[number]
        with SourceReader() as reader, quiet_pydicom():
            dataset = parse_dicom(reader.read(one.instance.source))
            values: Dataset | None = dataset
            if one.frame is not None:
                groups = get_items(dataset, "PerFrameFunctionalGroupsSequence")
                own = groups[one.frame - 1] if one.frame <= len(groups) else None
                shared = first_item(dataset, "SharedFunctionalGroupsSequence")
                name = "PixelValueTransformationSequence"
                values = first_item(own, name) or first_item(shared, name)
            rescale = read_rescale(values)
        return rescale.slope, rescale.intercept


def read_source(volume: Volume) -> DicomSource:
    """What our objects take over from the series that a volume was read from.

    Errors: `output-needs-dicom` where it was no DICOM series; `file-unreadable`, `dicom-damaged`.
    """
    if not volume.source_slices:
        raise InputError("output-needs-dicom", "the scan was read from an image file, not from a DICOM series")
    lowest = volume.source_slices[0]
    with SourceReader() as reader, quiet_pydicom():
        dataset = parse_dicom(reader.read(lowest.instance.source))
        header = _take_over(dataset, ("SpecificCharacterSet", "TimezoneOffsetFromUTC", *PATIENT, *TRIAL, *STUDY))
        moments = tuple((get_text(dataset, day), get_text(dataset, time)) for day, time in _MOMENTS)
    for keyword in TYPE_2:
        if keyword not in header:
            setattr(header, keyword, "")
    header.StudyInstanceUID = volume.series.exam.study_uid
    _choose_character_set(header)
    return DicomSource(header, volume.source_slices, moments, volume)


def reference_to(sop_class_uid: str, sop_instance_uid: str) -> Dataset:
    """An item that names an object."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
    return item


def _take_over(dataset: Dataset, keywords: Iterable[str]) -> Dataset:
    """The named elements; what cannot be read or is absurdly long is left out."""
    taken = Dataset()
    for keyword in keywords:
        tag = Tag(keyword)
        if tag not in dataset:
            continue
        try:
            element: DataElement = dataset[tag]
            if len(str(element.value)) <= _LONGEST_VALUE:
                taken[tag] = element
        except Exception:  # pydicom raises whatever a hostile value makes its parts raise
            continue
    return taken


def _choose_character_set(header: Dataset) -> None:
    """The series' own character set where its values can be written in it, UTF-8 elsewhere."""
    from pydicom.charset import convert_encodings

    try:
        encodings = convert_encodings(header.get("SpecificCharacterSet", "ISO_IR 6"))
        for element in header.iterall():
            text = str(element.value)
            if not text.isascii() and not any(_can_encode(text, encoding) for encoding in encodings):
                raise ValueError("another character set is needed")
    except Exception:
        header.SpecificCharacterSet = "ISO_IR 192"


def _can_encode(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _image(one: SourceSlice, source: DicomSource) -> Dataset:
    """A slice as a data set without pixels, as if it were an object of its own."""
    image = Dataset()
    for keyword in TYPE_2:  # highdicom wants them, and takes no date that is none; `finish` puts the series' own there
        setattr(image, keyword, "")
    image.StudyInstanceUID = source.header.StudyInstanceUID
    image.SOPClassUID, image.SOPInstanceUID = one.instance.sop_class_uid, one.instance.sop_instance_uid
    image.SeriesInstanceUID, image.Modality = source.series_uid, "CT"
    if source.volume.geometry.frame_of_reference:
        image.FrameOfReferenceUID = source.volume.geometry.frame_of_reference
    image.ImagePositionPatient = list(one.position_mm)
    image.ImageOrientationPatient = list(one.orientation)
    image.PixelSpacing = list(one.pixel_spacing_mm)
    if one.frame is not None:
        image.NumberOfFrames = one.instance.frames
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows, image.Columns = one.instance.rows, one.instance.columns
    image.SliceThickness = source.slice_thickness_mm
    return image

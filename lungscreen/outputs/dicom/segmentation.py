"""Masks ─► DICOM segmentations on the series' own slices: one of the lungs, one with a segment for each finding.

Written without highdicom, which takes five times as long: modules and attributes are PS3.3 A.51 and A.91, as highdicom
writes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lungscreen import __version__
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.codes import Concept
from lungscreen.outputs.dicom.common import MAKER, MODEL, RESEARCH, SignedBy, ascii_text, code_item, finish, new_object
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.places import even_step_mm, used_slices
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.results.document import ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["SegmentKind", "Segments", "build_findings_segmentation", "build_lungs_segmentation"]

SegmentKind = Literal["binary", "labelmap"]

_CLASSES = {"binary": "1.2.840.10008.5.1.4.1.1.66.4", "labelmap": "1.2.840.10008.5.1.4.1.1.66.7"}

_COLOURS = (
    (53895, 34900, 54450), (49254, 27161, 23005), (41600, 49794, 32330),
    (51990, 18648, 49706), (44052, 43508, 19947), (45686, 42661, 48198),
)  # fmt: skip
"""CIELab of the findings' segments, one after the other: yellow, sky blue, pink, green, violet, orange."""
_LUNG_COLOURS = ((37468, 33080, 23600), (48207, 22344, 35616))
_NO_COLOUR = (0, 32896, 32896)

_SEGMENT_NUMBER, _SEGMENT_GROUP = 0x0062000B, 0x0062000A
_POSITION, _POSITION_GROUP = 0x00200032, 0x00209113
"""What frames are ordered by, and the functional group that holds it."""

_FRAMES_AT_ONCE = 8
"""Frames whose bits are packed in one go: eight of any size end at a byte's end."""


@dataclass(frozen=True, eq=False)
class Segments:
    """A segmentation, and which segment each finding has.

    numbers: finding's number → segment's number; findings of which no voxel lies on a slice of the series are absent.
    """

    dataset: Dataset
    numbers: Mapping[int, int]


def build_lungs_segmentation(
    mask: NDArray[Any], source: DicomSource, identity: ResultIdentity, kind: SegmentKind
) -> Dataset | None:
    """Right and left lung; None where no lung lies on a slice.

    mask: (slice, row, column) on the source's slices: 1 right lung, 2 left lung.
    """
    used = used_slices(mask)
    present = _present(mask, used)
    if not len(present):
        return None
    described = []
    for number, label in enumerate(present.tolist(), 1):
        side = "right" if label == 1 else "left"
        item = _described(number, f"{side.capitalize()} lung", codes.ANATOMICAL, codes.LUNG, _LUNG_COLOURS[label - 1])
        (what,) = item.SegmentedPropertyTypeCodeSequence
        what.SegmentedPropertyTypeModifierCodeSequence = [code_item(codes.RIGHT if label == 1 else codes.LEFT)]
        described.append(item)
    return _segmentation(_Labels(mask, used, present), described, source, identity, kind, "lungs", 1)


def build_findings_segmentation(
    labels: NDArray[Any],
    findings: Sequence[ReportedFinding],
    source: DicomSource,
    identity: ResultIdentity,
    kind: SegmentKind,
    signed: SignedBy | None = None,
) -> Segments | None:
    """A segment for each finding; None where none has a voxel on a slice of the series.

    labels: (slice, row, column) on the source's slices: the finding's number.
    signed: who says that they are findings.
    """
    used = used_slices(labels)
    present = _present(labels, used)
    numbers = {finding: segment for segment, finding in enumerate(present.tolist(), 1)}
    if not numbers:
        return None
    described = [
        _finding(finding, numbers[finding.number], source, signed) for finding in findings if finding.number in numbers
    ]
    held = _Labels(labels, used, present)
    dataset = _segmentation(held, described, source, identity, kind, "findings", 2, signed)
    return Segments(dataset, numbers)


# -- which voxels ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Labels:
    """Labels on the source's slices.

    used: slices that hold something.
    present: the labels that there are, in the order of their segments.
    """

    on_slices: NDArray[Any]
    used: NDArray[np.intp]
    present: NDArray[np.intp]

    def frames(self) -> Iterator[tuple[int, int, NDArray[np.bool_]]]:
        """Segment, place among the used slices (both from 1) and pixels of each frame that holds something."""
        for segment, label in enumerate(self.present, 1):
            for place, number in enumerate(self.used, 1):
                pixels = self.on_slices[number] == label
                if pixels.any():
                    yield segment, place, pixels

    def renumbered(self, number: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """A slice with segments' numbers in the place of labels."""
        table = np.zeros(int(self.present.max()) + 1, np.uint8 if len(self.present) < 256 else np.uint16)
        table[self.present] = np.arange(1, len(self.present) + 1)
        numbers: NDArray[np.uint8] | NDArray[np.uint16] = table[self.on_slices[number]]
        return numbers


def _present(labels: NDArray[Any], used: NDArray[np.intp]) -> NDArray[np.intp]:
    """Labels that there are, in their order."""
    highest = max((int(labels[number].max()) for number in used), default=0)
    there = [label for label in range(1, highest + 1) if any((labels[number] == label).any() for number in used)]
    return np.array(there, np.intp)


# -- segments --------------------------------------------------------------------------------------------------------
def _finding(finding: ReportedFinding, segment: int, source: DicomSource, signed: SignedBy | None) -> Dataset:
    name = f"Finding {finding.number}"
    item = _described(
        segment,
        name,
        codes.ABNORMAL,
        codes.finding_code(finding.is_mass),
        _COLOURS[(finding.number - 1) % len(_COLOURS)],
        by_hand=signed is not None and finding.number in signed.own,
    )
    item.TrackingID, item.TrackingUID = name, finding_uid(source.series_uid, finding.position_mm)
    site, side = codes.lobe_code(finding.location.lobe) or codes.LUNG, codes.side_code(finding.location.side)
    region = code_item(site)
    if side and site is not codes.MIDDLE_LOBE:  # its name says the side
        region.AnatomicRegionModifierSequence = [code_item(side)]
    item.AnatomicRegionSequence = [region]
    return item


def _described(
    number: int, label: str, category: Concept, kind: Concept, colour: tuple[int, int, int], *, by_hand: bool = False
) -> Dataset:
    """An item of the segment sequence (PS3.3 C.8.20.4).

    by_hand: a person pointed at it and the software drew the outline; elsewhere the software did all.
    """
    family = Dataset()
    family.AlgorithmSource, family.AlgorithmName, family.AlgorithmVersion = MAKER, MODEL, __version__
    family.AlgorithmFamilyCodeSequence = [code_item(codes.ARTIFICIAL_INTELLIGENCE)]
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, label
    item.SegmentedPropertyCategoryCodeSequence = [code_item(category)]
    item.SegmentedPropertyTypeCodeSequence = [code_item(kind)]
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "SEMIAUTOMATIC" if by_hand else "AUTOMATIC", MODEL
    item.SegmentationAlgorithmIdentificationSequence = [family]
    item.RecommendedDisplayCIELabValue = list(colour)
    return item


def _background() -> Dataset:
    """Label 0 of a label map."""
    item = _described(0, "Background", codes.BACKGROUND, codes.BACKGROUND, _NO_COLOUR)
    del item.SegmentationAlgorithmIdentificationSequence
    return item


# -- the object ------------------------------------------------------------------------------------------------------
def _segmentation(
    labels: _Labels,
    described: Sequence[Dataset],
    source: DicomSource,
    identity: ResultIdentity,
    kind: SegmentKind,
    what: str,
    number: int,
    signed: SignedBy | None = None,
) -> Dataset:
    """Only slices that hold something are stored and referred to."""
    series = "signed seg" if signed else "seg" if kind == "binary" else "labelmap"
    state = "read and signed by a person" if signed else "not verified"
    dataset = new_object(_CLASSES[kind], identity.uid(series, what))
    finish(dataset, series, source, identity, number)
    dataset.Modality, dataset.ImageType = "SEG", ["DERIVED", "PRIMARY"]
    dataset.ContentLabel, dataset.ContentCreatorName = what.upper(), f"{MAKER}^"
    dataset.ContentDescription = ascii_text(f"{what}; {RESEARCH.lower()}, {state}", 64)
    dataset.SegmentationType, dataset.SegmentsOverlap = kind.upper(), "NO"
    dataset.LossyImageCompression, dataset.PresentationLUTShape = "00", "IDENTITY"
    dataset.SegmentSequence = list(described) if kind == "binary" else [_background(), *described]
    _place_in_space(dataset, labels, source)
    organisation = identity.uid(series, what, "dimensions")
    if kind == "binary":
        _write_bits(dataset, labels, source, organisation)
    else:
        _write_labels(dataset, labels, source, organisation)
    return dataset


def _place_in_space(dataset: Dataset, labels: _Labels, source: DicomSource) -> None:
    """What all frames share, and the objects that they were drawn on."""
    lowest = int(labels.used[0])
    if source.volume.geometry.frame_of_reference:
        dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = source.volume.geometry.frame_of_reference, ""
    orientation, measures, shared = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(source.slices[lowest].orientation)
    measures.PixelSpacing = list(source.slices[lowest].pixel_spacing_mm)
    measures.SliceThickness = source.slice_thickness_mm
    step_mm = even_step_mm(source.slices)
    if step_mm is not None:
        measures.SpacingBetweenSlices = step_mm
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    dataset.SharedFunctionalGroupsSequence = [shared]
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = source.references(labels.used.tolist())
    dataset.ReferencedSeriesSequence = [series]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.Rows, dataset.Columns = labels.on_slices.shape[1:]


def _write_bits(dataset: Dataset, labels: _Labels, source: DicomSource, organisation: str) -> None:
    """A frame for each segment on each slice, a bit for each pixel."""
    _name_dimensions(dataset, organisation, (_SEGMENT_NUMBER, _SEGMENT_GROUP, "Referenced Segment Number"))
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    slices = _FrameItems(source, labels.used)
    frames, packed = [], bytearray()
    waiting: list[NDArray[np.bool_]] = []
    for segment, place, pixels in labels.frames():
        group = slices.group(place, [segment, place])
        identification = Dataset()
        identification.ReferencedSegmentNumber = segment
        group.SegmentIdentificationSequence = [identification]
        frames.append(group)
        waiting.append(pixels)
        if len(waiting) == _FRAMES_AT_ONCE:
            packed += np.packbits(np.stack(waiting), bitorder="little").tobytes()
            waiting.clear()
    if waiting:
        packed += np.packbits(np.stack(waiting), bitorder="little").tobytes()
    _put_frames(dataset, frames, bytes(packed), "OB")


def _write_labels(dataset: Dataset, labels: _Labels, source: DicomSource, organisation: str) -> None:
    """A frame for each slice, its pixels the segments' numbers."""
    _name_dimensions(dataset, organisation)
    slices = _FrameItems(source, labels.used)
    pixels = np.stack([labels.renumbered(number) for number in labels.used])
    bits = 8 * pixels.itemsize
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelPaddingValue = bits, bits, bits - 1, 0
    dataset["PixelPaddingValue"].VR = "US"
    frames = [slices.group(place, [place]) for place in range(1, len(labels.used) + 1)]
    _put_frames(dataset, frames, pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), "OB" if bits == 8 else "OW")


def _put_frames(dataset: Dataset, frames: Sequence[Dataset], pixels: bytes, representation: str) -> None:
    dataset.PerFrameFunctionalGroupsSequence = list(frames)
    dataset.NumberOfFrames = len(frames)
    dataset.add_new("PixelData", representation, pixels + b"\0" * (len(pixels) % 2))


def _name_dimensions(dataset: Dataset, organisation: str, *before: tuple[int, int, str]) -> None:
    """What frames are sorted by: the given indices, then the slice."""
    item = Dataset()
    item.DimensionOrganizationUID = organisation
    dataset.DimensionOrganizationSequence = [item]
    indices = []
    for pointer, group, words in (*before, (_POSITION, _POSITION_GROUP, "Image Position Patient")):
        index = Dataset()
        index.DimensionOrganizationUID = organisation
        index.DimensionIndexPointer, index.FunctionalGroupPointer = pointer, group
        index.DimensionDescriptionLabel = words
        indices.append(index)
    dataset.DimensionIndexSequence = indices


class _FrameItems:
    """Per-frame items; what belongs to a slice is made once for all segments on it."""

    def __init__(self, source: DicomSource, used: NDArray[np.intp]) -> None:
        self._source, self._used = source, used
        self._of_slice: dict[int, tuple[Dataset, Dataset]] = {}

    def group(self, place: int, index: list[int]) -> Dataset:
        """The functional groups of a frame.

        place: of its slice among the used ones, from 1.
        index: its values of the dimensions.
        """
        if place not in self._of_slice:
            number = int(self._used[place - 1])
            position = Dataset()
            position.ImagePositionPatient = list(self._source.slices[number].position_mm)
            self._of_slice[place] = position, _derivation(self._source, number)
        position, derivation = self._of_slice[place]
        content, group = Dataset(), Dataset()
        content.DimensionIndexValues = index
        group.DerivationImageSequence, group.PlanePositionSequence = [derivation], [position]
        group.FrameContentSequence = [content]
        return group


def _derivation(source: DicomSource, number: int) -> Dataset:
    """PS3.3 C.7.6.16.2.6: a segmentation, for which the slice was the source."""
    (image,) = source.references([number])
    frame = source.slices[number].frame
    if frame is not None:
        image.ReferencedFrameNumber = frame
    image.PurposeOfReferenceCodeSequence = [code_item(codes.SOURCE_FOR_PROCESSING)]
    derivation = Dataset()
    derivation.SourceImageSequence = [image]
    derivation.DerivationCodeSequence = [code_item(codes.SEGMENTATION)]
    return derivation

"""Masks ─► DICOM segmentations on the series' own slices: one of the lungs, one with a segment for each finding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import highdicom as hd
import numpy as np
from highdicom.seg import Segmentation, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage

from lungscreen import __version__
from lungscreen.outputs.dicom import codes
from lungscreen.outputs.dicom.common import MAKER, MODEL, RESEARCH, SERIES, SignedBy, ascii_text, code_item, finish
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.results.document import ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["SegmentKind", "Segments", "build_findings_segmentation", "build_lungs_segmentation"]

SegmentKind = Literal["binary", "labelmap"]

_COLOURS = ((255, 196, 0), (0, 200, 255), (255, 96, 160), (120, 220, 60), (190, 140, 255), (255, 140, 60))
"""Red, green, blue of the findings' segments, one after the other."""
_LUNG_COLOURS = ((90, 140, 200), (90, 200, 160))


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
    sides = [(label, side) for label, side in ((1, "right"), (2, "left")) if (mask == label).any()]
    if not sides:
        return None
    described = [
        _described(
            number,
            f"{side.capitalize()} lung",
            codes.ANATOMICAL,
            codes.LUNG,
            _LUNG_COLOURS[label - 1],
            modifier=codes.side_code(side),
        )
        for number, (label, side) in enumerate(sides, 1)
    ]
    labels = mask if len(sides) == 2 else (mask > 0).astype(np.uint8)
    return _segmentation(labels, described, source, identity, kind, "lungs", 1)


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
    held = labels[labels.any(axis=(1, 2))]
    present = np.unique(held[held > 0])
    numbers = {int(finding): segment for segment, finding in enumerate(present, 1)}
    if not numbers:
        return None
    renumbered = np.zeros(int(present.max()) + 1, labels.dtype)
    renumbered[present] = list(numbers.values())
    described = [
        _finding(finding, numbers[finding.number], source) for finding in findings if finding.number in numbers
    ]
    dataset = _segmentation(renumbered[labels], described, source, identity, kind, "findings", 2, signed)
    return Segments(dataset, numbers)


def _finding(finding: ReportedFinding, segment: int, source: DicomSource) -> SegmentDescription:
    site = codes.lobe_code(finding.location.lobe) or codes.LUNG
    return _described(
        segment,
        f"Finding {finding.number}",
        codes.ABNORMAL,
        codes.finding_code(finding.is_mass),
        _COLOURS[(finding.number - 1) % len(_COLOURS)],
        tracking=(f"Finding {finding.number}", finding_uid(source.series_uid, finding.position_mm)),
        site=site,
        side=codes.side_code(finding.location.side),
    )


def _described(
    number: int,
    label: str,
    category: Any,
    kind: Any,
    rgb: tuple[int, int, int],
    *,
    modifier: Any = None,
    tracking: tuple[str, str] | None = None,
    site: Any = None,
    side: Any = None,
) -> SegmentDescription:
    family = hd.AlgorithmIdentificationSequence(
        name=MODEL, family=codes.ARTIFICIAL_INTELLIGENCE, version=__version__, source=MAKER
    )
    description = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=category,
        segmented_property_type=kind,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=family,
        tracking_id=tracking[0] if tracking else None,
        tracking_uid=tracking[1] if tracking else None,
        anatomic_regions=[site] if site else None,
        display_color=hd.color.CIELabColor.from_rgb(*rgb),
    )
    if modifier:
        kind_item = description.SegmentedPropertyTypeCodeSequence[0]
        kind_item.SegmentedPropertyTypeModifierCodeSequence = [hd.sr.CodedConcept.from_code(modifier)]
    if side:
        region = description.AnatomicRegionSequence[0]
        if site is codes.MIDDLE_LOBE:  # its name says the side
            return description
        region.AnatomicRegionModifierSequence = [hd.sr.CodedConcept.from_code(side)]
    return description


def _segmentation(
    labels: NDArray[Any],
    described: Sequence[SegmentDescription],
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
    used = np.flatnonzero(labels.any(axis=(1, 2)))
    first = source.slices[used[0]]
    dataset = Segmentation(
        # one image stands for all: highdicom looks through each it is given, and `_refer_to_slices` names them
        source_images=[_stand_in(source.image(int(used[0])))],
        pixel_array=np.ascontiguousarray(labels[used]),
        plane_positions=[hd.PlanePositionSequence("PATIENT", source.slices[n].position_mm) for n in used],
        plane_orientation=hd.PlaneOrientationSequence("PATIENT", first.orientation),
        pixel_measures=hd.PixelMeasuresSequence(first.pixel_spacing_mm, source.image(int(used[0])).SliceThickness),
        segmentation_type=kind.upper(),
        segment_descriptions=described,
        series_instance_uid=identity.uid(series, "series"),
        series_number=SERIES[series][0],
        sop_instance_uid=identity.uid(series, what),
        instance_number=number,
        manufacturer=MAKER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=identity.digest[:16],
        content_description=ascii_text(f"{what}; {RESEARCH.lower()}, {state}", 64),
        content_creator_name=f"{MAKER}^",
        content_label=what.upper(),
    )
    _refer_to_slices(dataset, source, used)
    finish(dataset, series, source, identity, number)
    organisation = identity.uid(series, what, "dimensions")
    dataset.DimensionOrganizationSequence[0].DimensionOrganizationUID = organisation
    for item in dataset.DimensionIndexSequence:
        item.DimensionOrganizationUID = organisation
    return dataset


def _stand_in(image: Dataset) -> Dataset:
    """A slice as a classic CT image, also where it is a frame among many."""
    single = Dataset()
    single.update(image)
    # a new element: the one that is there belongs to the source as well
    single.add_new("SOPClassUID", "UI", CTImageStorage)
    if "NumberOfFrames" in single:
        del single.NumberOfFrames
    return single


def _refer_to_slices(dataset: Dataset, source: DicomSource, used: NDArray[np.intp]) -> None:
    """Each frame names the slice that it was drawn on; the object names every slice's object once."""
    by_place = {_rounded(source.slices[n].position_mm): n for n in used.tolist()}
    made = {n: _derivation(source, n) for n in used.tolist()}
    for group in dataset.PerFrameFunctionalGroupsSequence:
        place = _rounded(group.PlanePositionSequence[0].ImagePositionPatient)
        group.DerivationImageSequence = [made[by_place[place]]]
    series = Dataset()
    series.SeriesInstanceUID = source.series_uid
    series.ReferencedInstanceSequence = source.references(used.tolist())
    dataset.ReferencedSeriesSequence = [series]


def _rounded(position_mm: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in position_mm)


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

"""The DICOM outputs behind the outputs' interface: which objects each writes, under which names.

All start from the same: what is taken over from the series, the result's identity, and the masks on the series' slices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lungscreen.dicomfile import quiet_pydicom
from lungscreen.outputs.dicom.common import encode
from lungscreen.outputs.dicom.identity import ResultIdentity, content_digest, content_moment
from lungscreen.outputs.dicom.places import on_source_slices
from lungscreen.outputs.dicom.predecessor import find_predecessor
from lungscreen.outputs.dicom.source import DicomSource, read_source
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.masks import finding_labels
from lungscreen.outputs.raster import pictures_of
from lungscreen.results.finished import Finished

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from lungscreen.outputs.dicom.segmentation import SegmentKind, Segments

__all__ = ["ChestCad", "DicomObjects", "KeyObjects", "LabelMaps", "PresentationStates"]


@dataclass(frozen=True, eq=False)
class _Study:
    """A finished study as its objects need it; each part is made once, when it is asked for."""

    finished: Finished

    @cached_property
    def source(self) -> DicomSource:
        """What is taken over from the series."""
        return read_source(self.finished.volume)

    @cached_property
    def own_labels(self) -> NDArray[Any]:
        """Findings' numbers on the series' slices."""
        return on_source_slices(finding_labels(self.finished), self.finished.volume)

    @cached_property
    def identity(self) -> ResultIdentity:
        """What the objects are called."""
        digest = content_digest(asdict(self.finished.document), self.finished.lungs.mask, finding_labels(self.finished))
        earlier = find_predecessor(self.finished.earlier, self.source.series_uid, digest)
        return ResultIdentity(digest, *content_moment(self.source.moments), earlier)

    def segments(self, kind: SegmentKind) -> Segments | None:
        """A segment for each finding."""
        from lungscreen.outputs.dicom.segmentation import build_findings_segmentation

        findings = self.finished.document.findings
        return build_findings_segmentation(self.own_labels, findings, self.source, self.identity, kind)

    def lungs(self, kind: SegmentKind) -> Dataset | None:
        """Both lungs."""
        from lungscreen.outputs.dicom.segmentation import build_lungs_segmentation

        mask = on_source_slices(self.finished.lungs.mask, self.finished.volume)
        return build_lungs_segmentation(mask, self.source, self.identity, kind)


class DicomObjects:
    """Key images, the PDF, the structured report and the segmentations: what most sites want."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """One file an object.

        Errors: `output-needs-dicom`, `file-unreadable`, `dicom-damaged`.
        """
        from lungscreen.outputs.dicom.encapsulated import build_encapsulated_pdf
        from lungscreen.outputs.dicom.key_images import build_key_images
        from lungscreen.outputs.dicom.measurement_report import build_measurement_report
        from lungscreen.outputs.pdf import build_pdf

        study = _Study(finished)
        with quiet_pydicom():
            images = build_key_images(pictures_of(finished), study.source, study.identity)
            for number, image in enumerate(images):
                yield _file("summary" if number == 0 else f"finding-{number:02d}", image)
            pdf = build_encapsulated_pdf(build_pdf(finished), study.source, study.identity)
            yield _file("pdf", pdf)
            segments = study.segments("binary")
            yield _file("sr", build_measurement_report(finished.document, study.source, study.identity, segments))
            yield from _segmentations(study.lungs("binary"), segments, "seg")


class LabelMaps:
    """The segmentations as label maps, for viewers that take them."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """One file of the lungs, one of the findings."""
        study = _Study(finished)
        with quiet_pydicom():
            yield from _segmentations(study.lungs("labelmap"), study.segments("labelmap"), "labelmap")


class KeyObjects:
    """The key object selection; it names the key images of the output `dicom`."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """The one file."""
        from lungscreen.outputs.dicom.key_objects import build_key_objects

        study = _Study(finished)
        with quiet_pydicom():
            yield _file("kos", build_key_objects(finished.document, study.source, study.identity))


class PresentationStates:
    """Presentation states, one a finding."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """One file a finding."""
        from lungscreen.outputs.dicom.marks import build_marks

        study = _Study(finished)
        with quiet_pydicom():
            states = build_marks(finished.document, study.own_labels, study.source, study.identity)
            for number, state in enumerate(states, 1):
                yield _file(f"gsps-{number:02d}", state)


class ChestCad:
    """The Chest CAD SR."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """The one file."""
        from lungscreen.outputs.dicom.chest_cad import build_chest_cad

        study = _Study(finished)
        with quiet_pydicom():
            yield _file("chest-cad", build_chest_cad(finished.document, study.source, study.identity))


def _segmentations(lungs: Dataset | None, segments: Segments | None, name: str) -> Iterator[NamedFile]:
    if lungs is not None:
        yield _file(f"{name}-lungs", lungs)
    if segments is not None:
        yield _file(f"{name}-findings", segments.dataset)


def _file(name: str, dataset: Dataset) -> NamedFile:
    return NamedFile(f"dicom-{name}.dcm", encode(dataset))

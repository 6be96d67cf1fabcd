"""Presentation states: each finding's outline and number on its own slice, for viewers that draw no SR."""

from __future__ import annotations

from typing import Any

import highdicom as hd
import numpy as np
from highdicom.pr import (
    GraphicAnnotation,
    GraphicLayer,
    GraphicObject,
    GrayscaleSoftcopyPresentationState,
    SoftcopyVOILUTTransformation,
    TextObject,
)
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from lungscreen import __version__
from lungscreen.outputs.dicom.common import MAKER, MODEL, RESEARCH, SERIES, ascii_text, finish
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.places import SlicePlace, find_place
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.page.contour import contour_lines
from lungscreen.outputs.raster import LEVEL_HU, WIDTH_HU
from lungscreen.results.document import ReportDocument, ReportedFinding
from lungscreen.uids import finding_uid

__all__ = ["build_marks"]

_LAYER = "LUNGSCREEN"
_RADIUS_PX = 8.0
"""Of the circle around a finding that nothing outlined on its slice."""


def build_marks(
    document: ReportDocument, labels: NDArray[Any], source: DicomSource, identity: ResultIdentity
) -> list[Dataset]:
    """A presentation state for each finding.

    labels: (slice, row, column) on the source's slices: the finding's number.
    """
    return [_mark(finding, labels, source, identity) for finding in document.findings]


def _mark(finding: ReportedFinding, labels: NDArray[Any], source: DicomSource, identity: ResultIdentity) -> Dataset:
    place = find_place(finding.position_mm, source.slices)
    one, image = source.slices[place.number], source.image(place.number)
    layer = GraphicLayer(_LAYER, 1, description=f"lungscreen, {RESEARCH}")
    tracking: dict[str, Any] = {
        "tracking_id": f"Finding {finding.number}",
        "tracking_uid": finding_uid(source.series_uid, finding.position_mm),
    }
    drawn = [
        GraphicObject("POLYLINE", line, units="PIXEL", **tracking)
        for line in _lines(labels[place.number] == finding.number)
    ] or [GraphicObject("CIRCLE", _circle(place), units="PIXEL", **tracking)]
    corner = np.max([np.max(item.graphic_data, axis=0) for item in drawn], axis=0)
    text = TextObject(
        ascii_text(f"{finding.number} ({RESEARCH.lower()})"),
        units="PIXEL",
        anchor_point=(float(corner[0]) + 2, float(corner[1])),
        anchor_point_visible=False,
        **tracking,
    )
    annotation = GraphicAnnotation(
        referenced_images=[image], graphic_layer=layer, graphic_objects=drawn, text_objects=[text],
        referenced_frame_number=one.frame,
    )  # fmt: skip
    dataset = GrayscaleSoftcopyPresentationState(
        referenced_images=[image],
        series_instance_uid=identity.uid("gsps", "series"),
        series_number=SERIES["gsps"][0],
        sop_instance_uid=identity.uid("gsps", finding.number),
        instance_number=finding.number,
        manufacturer=MAKER,
        manufacturer_model_name=MODEL,
        software_versions=__version__,
        device_serial_number=identity.digest[:16],
        content_label=f"FINDING {finding.number}",
        content_description=ascii_text(f"Finding {finding.number}, {RESEARCH.lower()}, not verified", 64),
        content_creator_name=f"{MAKER}^",
        graphic_layers=[layer],
        graphic_annotations=[annotation],
        modality_lut_transformation=_rescale(source, place.number),
        voi_lut_transformations=[SoftcopyVOILUTTransformation(window_center=LEVEL_HU, window_width=WIDTH_HU)],
    )
    finish(dataset, "gsps", source, identity, finding.number)
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = identity.date, identity.time
    # with a body part that is not paired the laterality must be absent
    dataset.BodyPartExamined = "CHEST"
    return dataset


def _rescale(source: DicomSource, number: int) -> hd.ModalityLUTTransformation:
    """The slice's own way from stored values to HU: without it a viewer would show the window on stored values."""
    slope, intercept = source.read_rescale(number)
    return hd.ModalityLUTTransformation(rescale_intercept=intercept, rescale_slope=slope, rescale_type="HU")


def _lines(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Closed outlines as (column, row), 0.5 at the centre of the first pixel (PS3.3 C.10.5.1.2)."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    cut = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    corner = np.array([rows[0], columns[0]]) + 0.5
    lines = [line + corner for line in contour_lines(cut.astype(np.float32))]
    return [np.concatenate([line, line[:1]])[:, ::-1] for line in lines]


def _circle(place: SlicePlace) -> NDArray[np.float64]:
    return np.array([[place.column, place.row], [place.column + _RADIUS_PX, place.row]])

"""Findings as secondary captures: the one result that every PACS shows, also where nothing was found."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from lungscreen import RESEARCH_USE
from lungscreen.outputs.dicom.common import RESEARCH, ascii_text, finish, new_object
from lungscreen.outputs.dicom.identity import ResultIdentity
from lungscreen.outputs.dicom.places import find_place
from lungscreen.outputs.dicom.source import DicomSource
from lungscreen.outputs.dicom.statements import NOT_VERIFIED
from lungscreen.outputs.raster import CROP_PIXELS, OVERVIEW_PIXELS, Pictures, font, slice_picture
from lungscreen.outputs.words import (
    axes_text,
    category_text,
    count_text,
    finding_category,
    finding_lines,
    place_text,
)
from lungscreen.results.document import MALIGNANCY_MEANING, ReportDocument, ReportedFinding
from lungscreen.results.text import plain

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["build_key_images", "draw_finding", "draw_summary", "key_image_uids"]

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SIZE = (840, 612)
BAR, GAP = 36, 12
INK, SOFT, YELLOW, PAPER, BARS = (235, 235, 235), (165, 170, 175), (255, 208, 64), (16, 18, 20), (40, 44, 48)
_SUMMARY = "summary"
MOST_ROWS = 10
"""Findings that the summary lists; the report has them all."""


def build_key_images(pictures: Pictures, source: DicomSource, identity: ResultIdentity) -> list[Dataset]:
    """The summary, then an image of each finding."""
    images = [_object(draw_summary(pictures), _SUMMARY, 1, source, identity)]
    for finding in pictures.document.findings:
        image = _object(draw_finding(finding, pictures), _role(finding), finding.number + 1, source, identity)
        _refer_to_slice(image, finding, source)
        images.append(image)
    return images


def key_image_uids(document: ReportDocument, identity: ResultIdentity) -> list[str]:
    """What the images are called, in their order."""
    return [identity.uid("key images", what) for what in (_SUMMARY, *map(_role, document.findings))]


def _role(finding: ReportedFinding) -> str:
    return f"finding {finding.number}"


def draw_finding(finding: ReportedFinding, pictures: Pictures) -> Image.Image:
    """A finding's slice around it and as a whole, with what is known of it."""
    document = pictures.document
    title = f"Finding {finding.number} of {len(document.findings)} · category {finding_category(finding)}"
    canvas, draw = _canvas(title)
    crop = pictures.crop(finding)
    canvas.paste(crop.image, (GAP, BAR + GAP))
    left = CROP_PIXELS + 2 * GAP
    width = SIZE[0] - left - GAP
    whole = slice_picture(pictures.volume, finding, crop.side_mm, width)
    canvas.paste(whole, (left, BAR + GAP))
    y = BAR + GAP + whole.height + 10
    for label, value in finding_lines(finding, document):
        y = _fact(draw, label, value, left, y)
    y = max(y + 6, SIZE[1] - BAR - GAP - 76)
    if finding.malignancy is not None:
        y = _wrapped(draw, f"* {MALIGNANCY_MEANING}", (left, y), 46, 10, SOFT)
    _wrapped(draw, "Yellow: outline as measured. Blue: axes in this slice.", (left, y), 46, 10, SOFT)
    return canvas


def draw_summary(pictures: Pictures) -> Image.Image:
    """The exam's category and why, the findings on an overview and in a table."""
    document = pictures.document
    canvas, draw = _canvas(f"Summary · {count_text(document)}")
    canvas.paste(pictures.overview(), (GAP, BAR + GAP))
    left = OVERVIEW_PIXELS[1] + 2 * GAP
    y = BAR + GAP
    draw.text((left, y), f"Category {category_text(document.category)}", fill=YELLOW, font=font(26, bold=True))
    y = _wrapped(draw, plain(document.category_reason or "", 400), (left, y + 38), 52, 13, INK) + 10
    y = _table(draw, document.findings, left, y)
    if document.not_assessed:
        text = f"Not assessed: {'; '.join(document.not_assessed)}."
        _wrapped(draw, plain(text, 420), (left, min(y + 10, SIZE[1] - BAR - 110)), 62, 11, SOFT)
    return canvas


def _canvas(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """An empty picture with its bars."""
    canvas = Image.new("RGB", SIZE, PAPER)
    draw = ImageDraw.Draw(canvas)
    width, height = SIZE
    draw.rectangle((0, 0, width, BAR), fill=BARS)
    draw.rectangle((0, height - BAR, width, height), fill=BARS)
    draw.text((GAP, BAR / 2), f"lungscreen · {title}", fill=INK, font=font(16, bold=True), anchor="lm")
    draw.text((width - GAP, BAR / 2), RESEARCH, fill=YELLOW, font=font(14, bold=True), anchor="rm")
    words = f"{RESEARCH_USE} {NOT_VERIFIED} Made by software."
    draw.text((GAP, height - BAR / 2), words, fill=YELLOW, font=font(14), anchor="lm")
    return canvas, draw


def _fact(draw: ImageDraw.ImageDraw, label: str, value: str, left: int, y: int) -> int:
    """A label and its value, in as many lines as it takes; returns where the next one begins."""
    draw.text((left, y), label, fill=SOFT, font=font(11))
    return _wrapped(draw, plain(value, 90), (left + 96, y - 1), 25, 12, INK) + 3


def _wrapped(
    draw: ImageDraw.ImageDraw, text: str, place: tuple[int, int], letters: int, size: int, colour: tuple[int, int, int]
) -> int:
    x, y = place
    for line in textwrap.wrap(text, letters):
        draw.text((x, y), line, fill=colour, font=font(size))
        y += size + 4
    return y


def _table(draw: ImageDraw.ImageDraw, findings: Sequence[ReportedFinding], left: int, y: int) -> int:
    columns = (0, 26, 204, 294, 392)
    if not findings:
        draw.text((left, y), "No finding reached the operating point.", fill=INK, font=font(15, bold=True))
        return y + 24
    for x, head in zip(columns, ("No.", "Where", "Axes", "Type", "Cat."), strict=True):
        draw.text((left + x, y), head, fill=SOFT, font=font(11))
    for finding in findings[:MOST_ROWS]:
        y += 20
        where = place_text(finding).replace(" (estimated)", "*")
        cells = (str(finding.number), where, axes_text(finding).removesuffix(" mm"), str(finding.type))
        for x, cell, longest in zip(columns, (*cells, finding.category or "–"), (3, 25, 14, 12, 5), strict=True):
            draw.text((left + x, y), plain(cell, longest), fill=INK, font=font(12))
    y += 20
    left_out = len(findings) - MOST_ROWS
    more = f"{left_out} more in the report. " if left_out > 0 else ""
    draw.text((left, y), f"{more}Axes in mm. * estimated", fill=SOFT, font=font(11))
    return y + 16


def _object(picture: Image.Image, what: str, number: int, source: DicomSource, identity: ResultIdentity) -> Dataset:
    pixels = np.asarray(picture.convert("RGB"))
    dataset = new_object(SECONDARY_CAPTURE, identity.uid("key images", what))
    finish(dataset, "key images", source, identity, number)
    dataset.Modality, dataset.ConversionType = "OT", "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    # with a body part that is not paired the laterality must be absent
    dataset.BodyPartExamined = "CHEST"
    dataset.PatientOrientation = ""
    dataset.BurnedInAnnotation = "YES"
    dataset.ImageComments = ascii_text(f"{what}. {RESEARCH_USE} {NOT_VERIFIED}")
    dataset.DerivationDescription = ascii_text(f"lungscreen: {what}")
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    return dataset


def _refer_to_slice(image: Dataset, finding: ReportedFinding, source: DicomSource) -> None:
    from pydicom.dataset import Dataset

    one = source.slices[find_place(finding.position_mm, source.slices).number]
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = (
        one.instance.sop_class_uid,
        one.instance.sop_instance_uid,
    )
    if one.frame is not None:
        item.ReferencedFrameNumber = one.frame
    image.SourceImageSequence = [item]

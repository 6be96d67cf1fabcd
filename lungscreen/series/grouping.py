"""Headers ─► Facts: the objects of one series UID, split into what belongs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import median_high
from typing import Any

import numpy as np

from lungscreen.errors import Notice
from lungscreen.geometry import ORTHONORMAL_TOLERANCE
from lungscreen.kernels import classify_kernel
from lungscreen.records import Acquisition, Series
from lungscreen.series.choice import Facts, angle_degrees
from lungscreen.series.headers import Header
from lungscreen.series.person import ADULT_YEARS, years_at
from lungscreen.units import unit_of_values

__all__ = ["describe_series", "group_headers", "header_notices"]

SAME_SPACING_MM = 1e-3
"""Pixel spacings that differ by no more are one."""
SAME_POSITION_MM = 0.01
"""Slices nearer than this along the normal are at the same position."""
SMALL_FIELD_MM = 250.0
"""Field of view below which parts of the lungs probably lie outside."""
DEPTH_SHARE = 0.7
"""A chest's depth over its width: so much less may a field of view measure from front to back."""
LOW_CTDI_MGY = 3.0
"""CTDIvol up to which a chest CT counts as low-dose (ACR-STR practice parameter for a standard-sized patient)."""
LOW_CURRENT_MA = 100.0
"""Tube current below which a scan counts as low-dose where CTDIvol is absent; below nearly all training scans."""


def group_headers(headers: Sequence[Header]) -> list[list[Header]]:
    """Split by frame of reference, matrix, kernel, rescale type, orientation and spacing; the largest group first.

    Never by acquisition number, current, exposure or time: these vary slice by slice in a single pass.
    """
    groups: list[list[Header]] = []
    for header in headers:
        fitting = next((group for group in groups if _belongs(header, group[0])), None)
        if fitting is None:
            groups.append([header])
        else:
            fitting.append(header)
    return sorted(groups, key=lambda group: -sum(header.instance.frames for header in group))


def _belongs(header: Header, other: Header) -> bool:
    if _exact_key(header) != _exact_key(other):
        return False
    if header.orientation == other.orientation and header.pixel_spacing_mm == other.pixel_spacing_mm:
        return True
    turned = np.abs(np.subtract(header.orientation, other.orientation)).max() > ORTHONORMAL_TOLERANCE
    scaled = np.abs(np.subtract(header.pixel_spacing_mm, other.pixel_spacing_mm)).max() > SAME_SPACING_MM
    return not turned and not scaled


def _exact_key(header: Header) -> tuple[object, ...]:
    instance, acquisition = header.instance, header.acquisition
    return (
        header.frame_of_reference,
        instance.rows,
        instance.columns,
        acquisition.kernel,
        unit_of_values(header.rescale_type),
        _is_localizer(acquisition),
    )


def _is_localizer(acquisition: Acquisition) -> bool:
    return "LOCALIZER" in {value.upper() for value in acquisition.image_type}


def describe_series(headers: Sequence[Header], notices: tuple[Notice, ...] = ()) -> Facts:
    """One group of headers as a Series with the facts that the choice looks at."""
    first = headers[0]
    row, column = np.array(first.orientation[:3]), np.array(first.orientation[3:])
    normal = np.cross(row, column)
    positions = np.array([position for header in headers for position in header.positions_mm])
    slices, spacing, coverage = _extent(positions, normal)
    series = Series(
        kind="dicom",
        series_uid=first.series_uid,
        patient=first.patient,
        exam=first.exam,
        acquisition=_common(headers),
        instances=tuple(header.instance for header in headers),
        frame_of_reference=first.frame_of_reference,
        notices=notices,
    )
    return Facts(
        series=series,
        slices=slices,
        spacing_mm=spacing,
        coverage_mm=coverage,
        field_of_view_mm=_field_of_view(first),
        degrees_off_axial=min(_off_axis(normal), _off_axis(_direction(positions, normal))),
        degrees_rotated=max(_rotated(row), _rotated(column)),
        rescale_type=first.rescale_type,
        multi_energy=any(header.multi_energy for header in headers),
    )


def _field_of_view(header: Header) -> float:
    """The width that counts: from side to side, or from front to back in proportion where that is cut closer."""
    rows_mm = header.instance.rows * header.pixel_spacing_mm[0]
    columns_mm = header.instance.columns * header.pixel_spacing_mm[1]
    across, deep = (
        (columns_mm, rows_mm) if abs(header.orientation[0]) > abs(header.orientation[1]) else (rows_mm, columns_mm)
    )
    return min(across, deep / DEPTH_SHARE)


def _common(headers: Sequence[Header]) -> Acquisition:
    """One acquisition for all slices: medians of what varies slice by slice, the worst of what warns."""
    acquisitions = [header.acquisition for header in headers]
    vary = ("tube_current_ma", "exposure_mas", "ctdi_vol_mgy", "slice_thickness_mm")
    medians: dict[str, Any] = {name: _median([getattr(one, name) for one in acquisitions]) for name in vary}
    return replace(
        acquisitions[0],
        **medians,
        contrast=next((a.contrast for a in acquisitions if a.contrast), ""),
        lossy=any(a.lossy for a in acquisitions),
        burned_in="YES" if any(a.burned_in == "YES" for a in acquisitions) else acquisitions[0].burned_in,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median_high(known) if known else None


def _kernel_notices(kernel: tuple[str, ...]) -> list[Notice]:
    kind, name = classify_kernel(kernel), "/".join(kernel)
    if kind == "sharp":
        return [Notice("sharp-kernel", f"Sharp kernel ({name}).")]
    if kind == "unknown":
        return [Notice("kernel-unknown", f"Kernel not known ({name or 'none named'}).")]
    return []


def header_notices(facts: Facts) -> tuple[Notice, ...]:
    """Quality flags that the header alone gives."""
    acquisition = facts.series.acquisition
    found = _kernel_notices(acquisition.kernel)
    if acquisition.contrast:
        found.append(Notice("contrast", f"Contrast agent ({acquisition.contrast})."))
    if acquisition.lossy:
        found.append(Notice("lossy", "The images went through lossy compression."))
    if acquisition.burned_in == "YES":
        found.append(Notice("burned-in", "The header says that text is burned into the images."))
    if facts.field_of_view_mm < SMALL_FIELD_MM:
        found.append(Notice("small-field-of-view", f"The field of view is {facts.field_of_view_mm:.0f} mm."))
    if facts.multi_energy:
        found.append(Notice("multi-energy", "A multi-energy acquisition, read as ordinary CT."))
    if unit_of_values(facts.rescale_type) == "unspecified":
        text = "The header leaves the values' unit unspecified; they were read as HU, which their levels fit."
        found.append(Notice("unit-unspecified", text))
    found += _person_notices(facts.series)
    if facts.for_attenuation:
        text = f"Probably a CT for attenuation correction ({facts.for_attenuation}): small nodules are missed in it."
        found.append(Notice("attenuation-correction", text))
    if {"DERIVED", "SECONDARY"} & {value.upper() for value in acquisition.image_type}:
        found.append(Notice("derived", "The header calls the images derived or secondary."))
    return (*found, *_dose_notices(acquisition))


def _person_notices(series: Series) -> list[Notice]:
    """A child: networks and rules know adults only."""
    age = years_at(series.exam.age, series.patient.birth_date, series.exam.date)
    if age is None or age >= ADULT_YEARS:
        return []
    text = f"The patient is {age} years old by the header: networks, measures and rules are for adults."
    return [Notice("not-adult", text)]


def _dose_notices(acquisition: Acquisition) -> list[Notice]:
    if acquisition.ctdi_vol_mgy is not None:
        low = acquisition.ctdi_vol_mgy <= LOW_CTDI_MGY
        return [Notice("low-dose", f"CTDIvol is {acquisition.ctdi_vol_mgy:.2f} mGy.")] if low else []
    if acquisition.tube_current_ma is not None:
        low = acquisition.tube_current_ma < LOW_CURRENT_MA
        return [Notice("low-dose", f"The tube current is {acquisition.tube_current_ma:.0f} mA.")] if low else []
    return [Notice("dose-unknown", "Neither CTDIvol nor tube current is in the header.")]


def _extent(positions: np.ndarray, normal: np.ndarray) -> tuple[int, float, float]:
    """Distinct positions along the normal, their median distance, and what they cover, in mm."""
    if not len(positions):
        return 0, 0.0, 0.0
    along = np.sort(positions @ normal)
    steps = np.diff(along)
    steps = steps[steps > SAME_POSITION_MM]
    spacing = float(np.median(steps)) if steps.size else 0.0
    return int(steps.size) + 1, spacing, float(along[-1] - along[0]) + spacing


def _direction(positions: np.ndarray, normal: np.ndarray) -> np.ndarray:
    """Where the stack leads: from its first to its last slice; the normal where there is one position only."""
    if len(positions) < 2:
        return normal
    along = positions @ normal
    way = np.asarray(positions[int(along.argmax())] - positions[int(along.argmin())], dtype=np.float64)
    return way if float(np.linalg.norm(way)) > SAME_POSITION_MM else normal


def _off_axis(direction: np.ndarray) -> float:
    return angle_degrees(direction, np.array([0.0, 0.0, 1.0]))


def _rotated(axis: np.ndarray) -> float:
    """Angle of a slice's row or column, seen from above, against the nearer of the patient's x and y axes."""
    flat = np.array([axis[0], axis[1], 0.0])
    if float(np.linalg.norm(flat)) < ORTHONORMAL_TOLERANCE:
        return 90.0
    return min(angle_degrees(flat, np.eye(3)[0]), angle_degrees(flat, np.eye(3)[1]))

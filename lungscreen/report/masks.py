"""Lungs and findings as label images, on the grid and in the axis order of the series that was read."""

from __future__ import annotations

import gzip
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Geometry
from lungscreen.records import Finding, Report, Volume
from lungscreen.results.build import finding_position

__all__ = ["finding_labels", "finding_position", "nifti_bytes", "source_grid"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def finding_labels(report: Report) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(z, y, x) labels on the volume's grid: each outline's voxels carry the finding's number.

    Where outlines overlap the more suspicious finding has the voxel. A finding without an outline, which nothing
    measured, is the one voxel at its place.
    """
    shape = report.volume.geometry.shape
    highest = max((finding.number for finding in report.findings), default=0)
    labels = np.zeros(shape, np.uint8 if highest < 256 else np.uint16)
    for finding in reversed(report.findings):
        if finding.outline is not None:
            _paint(labels, finding)
    for finding in report.findings:
        index = np.rint(report.volume.geometry.to_index(finding_position(finding, report.volume.geometry))).astype(int)
        k, j, i = np.clip(index, 0, np.array(shape) - 1)
        labels[k, j, i] = finding.number
    return labels


def source_grid(array: NDArray[Any], volume: Volume) -> tuple[NDArray[Any], Geometry]:
    """An array on the canonical grid → the same voxels in the source's axes, and their geometry."""
    affine, shape = volume.geometry.affine.copy(), volume.geometry.shape
    for n in range(3):
        if volume.source_flips[n]:
            affine[:3, 3] += affine[:3, n] * (shape[n] - 1)
            affine[:3, n] *= -1
    back = np.argsort(volume.source_order)
    flipped = np.flip(array, tuple(n for n in range(3) if volume.source_flips[n]))
    source = Geometry(
        affine[:, [*back, 3]], (shape[back[0]], shape[back[1]], shape[back[2]]), volume.geometry.frame_of_reference
    )
    return np.transpose(flipped, back), source


def nifti_bytes(array: NDArray[Any], volume: Volume) -> bytes:
    """A canonical label array as gzipped NIfTI on the source's grid; the same labels give the same bytes."""
    from nibabel.nifti1 import Nifti1Image

    labels, geometry = source_grid(array, volume)
    # A NIfTI source's axes are the file's own (i, j, k); all others' are (z, y, x), the reverse of NIfTI's.
    voxels, affine = (labels, _LPS_TO_RAS @ geometry.affine) if _is_nifti(volume) else (labels.T, geometry.to_nifti())
    # Its stubs leave the constructor untyped.
    image: Any = Nifti1Image(np.asfortranarray(voxels), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    # Readers disagree on which of the two they trust: both say scanner coordinates.
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def _is_nifti(volume: Volume) -> bool:
    image = volume.series.image
    return image is not None and (image.member or image.path.name).lower().endswith((".nii", ".nii.gz"))


def _paint(labels: NDArray[Any], finding: Finding) -> None:
    """Write the outline's voxels that lie inside the volume."""
    assert finding.outline is not None
    voxels = np.argwhere(finding.outline.mask) + np.array(finding.outline.start)
    inside = voxels[((voxels >= 0) & (voxels < np.array(labels.shape))).all(axis=1)]
    labels[tuple(inside.T)] = finding.number

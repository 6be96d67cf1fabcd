"""Lungs and findings as label images, on the grid and in the axis order of the series that was read."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.geometry import Geometry, Vector
from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.once import once_per_study
from lungscreen.records import Outline, Volume
from lungscreen.results.finished import Finished

__all__ = ["Masks", "finding_labels", "nifti_bytes", "paint_findings", "read_mask", "source_grid"]


class Masks:
    """lungs.nii.gz (1 right, 2 left lung) and findings.nii.gz (label: the finding's number)."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """Both label images."""
        yield NamedFile("lungs.nii.gz", nifti_bytes(finished.lungs.mask, finished.volume))
        yield NamedFile("findings.nii.gz", nifti_bytes(finding_labels(finished), finished.volume))


@once_per_study
def finding_labels(finished: Finished) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(z, y, x) labels on the volume's grid: each outline's voxels carry the finding's number.

    Where outlines overlap the more suspicious finding has the voxel. A finding without an outline, which nothing
    measured, is the one voxel at its place.
    """
    shapes = [(shape.number, shape.position_mm, shape.outline) for shape in finished.findings]
    labels = paint_findings(finished.volume.geometry, shapes)
    labels.flags.writeable = False  # all outputs share it
    return labels


def paint_findings(
    geometry: Geometry, shapes: Sequence[tuple[int, Vector, Outline | None]]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """As `finding_labels`, of numbers, places in mm and outlines, the most suspicious first."""
    highest = max((number for number, _, _ in shapes), default=0)
    labels = np.zeros(geometry.shape, np.uint8 if highest < 256 else np.uint16)
    for number, _, outline in reversed(shapes):
        if outline is not None:
            _paint(labels, outline, number)
    for number, position_mm, _ in shapes:
        index = np.rint(geometry.to_index(position_mm)).astype(int)
        k, j, i = np.clip(index, 0, np.array(geometry.shape) - 1)
        labels[k, j, i] = number
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
    # The source's axes are (z, y, x), the reverse of NIfTI's.
    voxels, affine = labels.T, geometry.to_nifti()
    # Its stubs leave the constructor untyped.
    image: Any = Nifti1Image(np.asfortranarray(voxels), affine)  # type: ignore[no-untyped-call]
    image.header.set_xyzt_units("mm")
    # Readers disagree on which of the two they trust: both say scanner coordinates.
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    return gzip.compress(image.to_bytes(), compresslevel=1, mtime=0)


def read_mask(path: Path, volume: Volume) -> NDArray[Any]:
    """A label image that `nifti_bytes` wrote ─► the labels on the volume's grid.

    Errors: OSError, and what nibabel raises for a damaged file; ValueError where it is another grid's.
    """
    import nibabel

    image: Any = nibabel.load(path)
    labels = np.asarray(image.dataobj).T
    canonical = np.flip(np.transpose(labels, volume.source_order), tuple(n for n in range(3) if volume.source_flips[n]))
    if canonical.shape != volume.geometry.shape:
        raise ValueError(f"expected labels of shape {volume.geometry.shape}, got {canonical.shape}")
    return np.ascontiguousarray(canonical.astype(np.uint8 if canonical.max(initial=0) < 256 else np.uint16))


def _paint(labels: NDArray[Any], outline: Outline, number: int) -> None:
    """Write the outline's voxels that lie inside the volume."""
    voxels = np.argwhere(outline.mask) + np.array(outline.start)
    inside = voxels[((voxels >= 0) & (voxels < np.array(labels.shape))).all(axis=1)]
    labels[tuple(inside.T)] = number

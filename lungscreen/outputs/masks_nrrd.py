"""Lungs and findings as NRRD label images: the series' exact grid, for ITK.

NIfTI keeps its affine in 32 bits, so that ITK finds a mask a few micrometres beside the CT and refuses to combine the
two. NRRD writes the grid in full.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.outputs.interface import NamedFile
from lungscreen.outputs.masks import finding_labels, source_grid
from lungscreen.records import Volume
from lungscreen.results.finished import Finished

__all__ = ["NrrdMasks", "nrrd_bytes"]


class NrrdMasks:
    """lungs.nrrd (1 right, 2 left lung) and findings.nrrd (label: the finding's number)."""

    def files(self, finished: Finished) -> Iterator[NamedFile]:
        """Both label images."""
        yield NamedFile("lungs.nrrd", nrrd_bytes(finished.lungs.mask, finished.volume))
        yield NamedFile("findings.nrrd", nrrd_bytes(finding_labels(finished), finished.volume))


def nrrd_bytes(array: NDArray[Any], volume: Volume) -> bytes:
    """A canonical array of uint8 or uint16 labels as NRRD 4 on the source's grid, LPS; equal labels, equal bytes."""
    labels, geometry = source_grid(array, volume)
    # NRRD names its fastest axis first: the last one here.
    axes = [geometry.affine[:3, n] for n in (2, 1, 0)]
    header = (
        "NRRD0004",
        f"type: {labels.dtype.name}",
        "dimension: 3",
        "space: left-posterior-superior",
        f"sizes: {' '.join(str(n) for n in reversed(labels.shape))}",
        f"space directions: {' '.join(_vector(axis) for axis in axes)}",
        "kinds: domain domain domain",
        "endian: little",
        "encoding: gzip",
        f"space origin: {_vector(geometry.affine[:3, 3])}",
    )
    voxels = np.ascontiguousarray(labels).astype(labels.dtype.newbyteorder("<"), copy=False).tobytes()
    return "\n".join(header).encode("ascii") + b"\n\n" + gzip.compress(voxels, compresslevel=1, mtime=0)


def _vector(values: NDArray[np.float64]) -> str:
    return f"({','.join(repr(float(value)) for value in values)})"

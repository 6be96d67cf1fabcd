"""Image files' own headers and voxels: NIfTI, NRRD, MetaImage.

header's bytes ─► ImageHeader (grid, type, where the voxels lie) ─► slabs, unpacked to the exact length and checked

No library reads the voxels: ITK answers "read" where unpacking failed, and leaves in memory what lay there before.
"""

from lungscreen.volume.formats.header import ImageHeader
from lungscreen.volume.formats.reading import read_image_header
from lungscreen.volume.formats.voxels import read_slabs

__all__ = ["ImageHeader", "read_image_header", "read_slabs"]

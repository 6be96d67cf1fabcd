"""PhantomConfig ─► Phantom ─► DICOM and truth: a synthetic chest CT of which everything is known.

config      what can be asked for            pose      breathing and repositioning
anatomy     the body as smooth fields        shapes    the solids they are made of
structures  bones, airways, vessels          trees     how vessels branch
nodules     their places, shapes, volumes    raster    tubes and fields → voxels
render      slices with partial volume       scanner   kernel and noise
make        all of it put together           dicom, truth    the files
"""

from lungscreen.phantom.config import SIZES, NoduleSpec, PhantomConfig, Pose, sized
from lungscreen.phantom.dicom import write_dicom
from lungscreen.phantom.make import Phantom, TrueNodule, make_phantom
from lungscreen.phantom.truth import describe_truth, write_truth

__all__ = [
    "SIZES",
    "NoduleSpec",
    "Phantom",
    "PhantomConfig",
    "Pose",
    "TrueNodule",
    "describe_truth",
    "make_phantom",
    "sized",
    "write_dicom",
    "write_truth",
]

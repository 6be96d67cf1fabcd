"""PhantomConfig ─► Phantom ─► DICOM and truth: a synthetic chest CT of which everything is known.

config    what can be asked for
anatomy   the body as smooth fields          trees       branching vessels and airways
structures  bones, airways, vessels          nodules     their places, shapes and volumes
pose      breathing and repositioning        raster      tubes and fields → voxels
render    partial volume, kernel, noise      make        all of it put together
dicom     CT Image Storage files             truth       JSON and masks
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

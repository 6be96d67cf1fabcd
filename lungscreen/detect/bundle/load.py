"""Bundle's folder ─► a detector that is ready to look."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.detect.bundle.config import read_bundle
from lungscreen.errors import WeightsError
from lungscreen.weights import WeightsFile

if TYPE_CHECKING:
    from lungscreen.detect.bundle.retinanet import BundleDetector
    from lungscreen.detect.stage import DetectConfig

__all__ = ["load_bundle"]


def load_bundle(weights: WeightsFile, config: DetectConfig) -> BundleDetector:
    """The detector of a bundle that `find_bundle` found; imports torch and MONAI.

    Errors: `bundle-needs-monai`, `bundle-invalid`, `weights-invalid`.
    """
    if find_spec("monai") is None:
        raise WeightsError("bundle-needs-monai", "MONAI is not installed: pip install 'lungscreen[monai]'")
    from lungscreen.detect.bundle.retinanet import BundleDetector, build_retinanet
    from lungscreen.detect.bundle.tensors import read_tensors

    bundle = read_bundle(Path(str(weights.architecture["bundle"])))
    return BundleDetector(bundle, build_retinanet(bundle, read_tensors(weights)), config)

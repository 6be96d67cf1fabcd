"""Classify: Volume, Candidates ─► Malignancy of each.

The probability says how likely more than half of the radiologists would rate the nodule 4 or 5 ("moderately" or "highly
suspicious"). It was learned from radiologists' opinion, not from pathology, and is no cancer risk.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.calibration import Calibration, suspicion
from lungscreen.classify.preparation import scale_hu
from lungscreen.geometry import Vector
from lungscreen.patches import cut_patch
from lungscreen.records import Candidate, Malignancy, Volume

if TYPE_CHECKING:
    from lungscreen.classify.inference import TrainedClassifier

__all__ = ["Calibration", "Classifier", "ClassifyConfig", "classify_nodules", "cut_patches", "load_classifier"]


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    """How nodules are classified."""

    batch: int = 8
    """Candidates whose patches are held at once."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError("expected a batch of at least 1")


class Classifier(Protocol):
    """A network that rates patches of `patch_size` voxels of 1 mm, scaled to 0 … 1."""

    patch_size: int
    calibration: Calibration
    name: str

    def rate(self, patches: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) → (n, outputs) logits, the first four "at least 2 … 5"."""
        ...


def classify_nodules(
    volume: Volume, candidates: Sequence[Candidate], classifier: Classifier, config: ClassifyConfig | None = None
) -> tuple[Malignancy | None, ...]:
    """Malignancy of each candidate, in order; None where its centre lies outside the volume.

    A few mm between a candidate's centre and the nodule's do not matter: the network was trained with that.
    """
    config = config or ClassifyConfig()
    inside = [n for n, candidate in enumerate(candidates) if volume.geometry.contains(candidate.centre_mm)]
    found: list[Malignancy | None] = [None] * len(candidates)
    for start in range(0, len(inside), config.batch):
        part = inside[start : start + config.batch]
        patches = cut_patches(volume, [candidates[n].centre_mm for n in part], classifier.patch_size)
        logits = classifier.rate(patches)
        for n, p in zip(part, classifier.calibration.probability(suspicion(logits)), strict=True):
            found[n] = Malignancy(float(p), classifier.name)
    return tuple(found)


def cut_patches(volume: Volume, centres_mm: Sequence[Vector], size: int) -> NDArray[np.float32]:
    """Cubes of `size` voxels of 1 mm around points, scaled to 0 … 1: (n, size, size, size)."""
    cubes = [cut_patch(volume.hu, volume.geometry, centre, size, 1.0).hu for centre in centres_mm]
    return scale_hu(np.stack(cubes)) if cubes else np.empty((0, size, size, size), np.float32)


def load_classifier(folder: Path | None = None) -> TrainedClassifier:
    """The classifier of a weights folder (None: the shipped one). Imports torch.

    Errors: `weights-invalid`.
    """
    inference = importlib.import_module("lungscreen.classify.inference")
    classifier: TrainedClassifier = inference.load_classifier(folder)
    return classifier

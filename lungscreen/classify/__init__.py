"""Classify: Volume, Candidates ─► Rating of each: malignancy, attributes, what was looked at.

The malignancy's probability says how likely more than half of the radiologists would rate the nodule 4 or 5
("moderately" or "highly suspicious"). It was learned from radiologists' opinion, not from pathology, and is no cancer
risk.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.answers import Answers
from lungscreen.classify.calibration import Calibration
from lungscreen.classify.preparation import scale_hu
from lungscreen.geometry import Vector
from lungscreen.patches import cut_patch
from lungscreen.records import Attributes, Attribution, Candidate, Malignancy, Rating, Volume

if TYPE_CHECKING:
    from lungscreen.classify.inference import TrainedClassifier
    from lungscreen.classify.second_look import SecondLook
    from lungscreen.weights import WeightsFile

__all__ = [
    "SECOND_LOOK",
    "Answers",
    "Calibration",
    "Classifier",
    "ClassifyConfig",
    "classify_nodules",
    "cut_patches",
    "find_classifier",
    "find_second_look",
    "load_classifier",
    "load_second_look",
]


SECOND_LOOK = "second_look"
"""Its weights' name in a manifest."""


@dataclass(frozen=True, slots=True)
class ClassifyConfig:
    """How nodules are classified."""

    batch: int = 8
    """Candidates whose patches are held at once."""
    weights: str = ""
    """Folder of a manifest and a classifier's weights, instead of the shipped ones."""

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError("expected a batch of at least 1")


class Classifier(Protocol):
    """A network that rates patches of `patch_size` voxels of 1 mm, scaled to 0 … 1."""

    @property
    def patch_size(self) -> int:
        """Voxels of a patch's side."""
        ...

    @property
    def name(self) -> str:
        """Stands in the report beside what it says."""
        ...

    def rate(self, patches: NDArray[np.float32]) -> Answers:
        """(n, p, p, p), n at least 1 → what it says of them."""
        ...


def classify_nodules(
    volume: Volume, candidates: Sequence[Candidate], classifier: Classifier, config: ClassifyConfig | None = None
) -> tuple[Rating | None, ...]:
    """Rating of each candidate, in order; None where its centre lies outside the volume.

    A few mm between a candidate's centre and the nodule's do not matter: the network was trained with that.
    """
    config = config or ClassifyConfig()
    inside = [n for n, candidate in enumerate(candidates) if volume.geometry.contains(candidate.centre_mm)]
    found: list[Rating | None] = [None] * len(candidates)
    for start in range(0, len(inside), config.batch):
        part = inside[start : start + config.batch]
        centres = [candidates[n].centre_mm for n in part]
        answers = classifier.rate(cut_patches(volume, centres, classifier.patch_size))
        for place, n in enumerate(part):
            found[n] = _rating(answers, place, centres[place], classifier.name)
    return tuple(found)


def cut_patches(volume: Volume, centres_mm: Sequence[Vector], size: int) -> NDArray[np.float32]:
    """Cubes of `size` voxels of 1 mm around points, scaled to 0 … 1: (n, size, size, size)."""
    cubes = [cut_patch(volume.hu, volume.geometry, centre, size, 1.0).hu for centre in centres_mm]
    return scale_hu(np.stack(cubes)) if cubes else np.empty((0, size, size, size), np.float32)


def find_classifier(config: ClassifyConfig | None = None) -> WeightsFile:
    """The weights to rate with: those of the folder that the configuration names, else the shipped ones.

    Errors: `weights-invalid`.
    """
    from lungscreen.weights import find_weights

    folder = config.weights if config else ""
    return find_weights("classifier", Path(folder) if folder else None)


def load_classifier(weights: WeightsFile | None = None) -> TrainedClassifier:
    """The classifier of these weights (None: the shipped ones). Imports torch.

    Errors: `weights-invalid`.
    """
    inference = importlib.import_module("lungscreen.classify.inference")
    classifier: TrainedClassifier = inference.TrainedClassifier.from_weights(weights or find_classifier())
    return classifier


def find_second_look(folder: str = "") -> WeightsFile:
    """The second look's weights: those of a folder, else the shipped ones.

    Errors: `weights-invalid`.
    """
    from lungscreen.weights import find_weights

    return find_weights(SECOND_LOOK, Path(folder) if folder else None)


def load_second_look(weights: WeightsFile | None = None) -> SecondLook:
    """The second look of these weights (None: the shipped ones). Imports torch.

    Errors: `weights-invalid`.
    """
    inference = importlib.import_module("lungscreen.classify.second_look")
    second_look: SecondLook = inference.SecondLook.from_weights(weights or find_second_look())
    return second_look


def _rating(answers: Answers, place: int, centre_mm: Vector, model: str) -> Rating:
    return Rating(
        Malignancy(float(answers.malignancy[place]), model),
        Attributes(*(float(value) for value in answers.attributes[place])),
        Attribution(centre_mm, answers.heat[place]),
    )

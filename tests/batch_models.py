"""Networks of a few lines, so that a whole night takes seconds: every other stage is the real one.

Worker processes import this module by name.
"""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.batch import Models
from lungscreen.classify import Answers, Calibration
from lungscreen.pipeline import Networks, Pipeline
from lungscreen.records import WeightsUsed

USED = (WeightsUsed("detector", "test 1", "0" * 64), WeightsUsed("classifier", "test 1", "1" * 64))


class SpotDetector:
    """Points at dense spots among air; the larger, the higher the score."""

    spacing_mm = 4.0
    largest = 100
    """Voxels of a spot; what is larger is the chest's wall."""

    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        """(n, 5) marks, as `lungscreen.detect.Detector` has them."""
        dense = (hu > -500) & (where if where is not None else True)
        labels, count = ndimage.label(dense)
        index = range(1, count + 1)
        centres = np.array(ndimage.center_of_mass(dense, labels, index)).reshape(-1, 3)
        sizes = np.asarray(ndimage.sum_labels(dense, labels, index))
        score = np.clip(sizes / 40, 0.01, 0.95)
        marks = np.column_stack([centres, np.cbrt(sizes) * self.spacing_mm, score])
        return marks[sizes <= self.largest].astype(np.float32)[:8]


LOOKS = (3.0, 3.0, 3.0, 3.0, 3.0, 0.1)
"""What every nodule looks like to the classifier below."""


class SpotClassifier:
    """Rates a patch by how dense its middle is; outlines what is dense near the middle."""

    patch_size = 16
    name = "test 1"

    def rate(self, patches: NDArray[np.float32]) -> Answers:
        """(n, p, p, p) → what it says of them; everything looks alike to it but for density."""
        dense = patches[:, 7:9, 7:9, 7:9].mean((1, 2, 3)).astype(float)
        return Answers(Calibration(2.0, -1.0).probability(dense), np.tile(LOOKS, (len(patches), 1)), np.abs(patches))

    def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, p, p, p) → probability that a voxel is the nodule's."""
        line = np.arange(hu.shape[-1]) - (hu.shape[-1] - 1) / 2
        z, y, x = np.meshgrid(line, line, line, indexing="ij", sparse=True)
        return ((hu > -500) & (z**2 + y**2 + x**2 < 49)).astype(np.float32)


def load(pipeline: Pipeline) -> Networks:
    """Networks that need no weights."""
    points = {"screening": 0.3, "second-reader": 0.2, "high-specificity": 0.6}
    classifier: Any = SpotClassifier()
    return Networks(SpotDetector(), classifier, USED, points)  # type: ignore[arg-type]


MOST_EATEN_MB = 4096
"""Where nobody stops a study that eats memory, it stops itself."""


class TrapDetector(SpotDetector):
    """Does what the file named in LUNGSCREEN_TEST_TRAP says, once a line: die, hang, memory, eat, error, slow; then
    finds spots. The study that it met first is its victim: it does nothing to others.
    """

    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> NDArray[np.float32]:
        trap = Path(os.environ["LUNGSCREEN_TEST_TRAP"])
        lines = trap.read_text().split() if trap.exists() else []
        if lines:
            victim = trap.with_name("victim")
            this = hashlib.sha256(hu.tobytes()).hexdigest()
            if not victim.exists():
                victim.write_text(this)
            if victim.read_text() != this:
                return super().find_marks(hu, where)
        trap.write_text("\n".join(lines[1:]))
        match lines[0] if lines else "":
            case "die":
                os.abort()
            case "hang":
                time.sleep(600)
            case "memory":
                raise MemoryError
            case "eat":
                eaten = [np.ones(1 << 20) for _ in range(MOST_EATEN_MB // 8) if not time.sleep(0.01)]
                raise AssertionError(f"nobody stopped it at {8 * len(eaten)} MB")
            case "error":
                raise RuntimeError("something broke, and quotes DOE^JANE")
            case "slow":
                time.sleep(6)
        return super().find_marks(hu, where)


def load_trapped(pipeline: Pipeline) -> Networks:
    """Networks with a trap in the detector."""
    good = load(pipeline)
    return Networks(TrapDetector(), good.classifier, good.weights, good.operating_points)  # type: ignore[arg-type]


MODELS = Models(load, USED)
TRAPPED = Models(load_trapped, USED)

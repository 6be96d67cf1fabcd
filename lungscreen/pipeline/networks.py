"""Pipeline ─► Networks: what is loaded from weights, and what every report has to say about it.

The chain knows networks by their protocols only. To swap one, load another object here that answers the same calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lungscreen.assess import SiteModel, find_site_model
from lungscreen.classify import (
    SECOND_LOOK,
    Classifier,
    find_classifier,
    find_second_look,
    load_classifier,
    load_second_look,
)
from lungscreen.detect import DetectConfig, Detector, PlaceJudge, find_detector, load_detector
from lungscreen.errors import Notice, UsageError, WeightsError
from lungscreen.geometry import Vector
from lungscreen.measure import Outliner
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.pipeline.settings import Pipeline
from lungscreen.records import Volume, WeightsUsed
from lungscreen.weights import WeightsFile, has_weights

__all__ = [
    "NetworkFiles",
    "Networks",
    "PlaceNetwork",
    "RatingNetwork",
    "find_files",
    "load_networks",
    "operating_points",
    "second_look_of",
    "used_weights",
]


class RatingNetwork(Classifier, Outliner, Protocol):
    """A network that rates a nodule and outlines it, both from patches of one size."""


class PlaceNetwork(PlaceJudge, Protocol):
    """A network that says how probable it is that a place is a nodule or a mass."""

    def rate_points(self, volume: Volume, centres_mm: Sequence[Vector]) -> NDArray[np.float64]:
        """Places that somebody points at → probability that each is a nodule, (n,)."""
        ...


@dataclass(frozen=True)
class NetworkFiles:
    """The weights of a pipeline's networks."""

    detector: WeightsFile
    classifier: WeightsFile
    second_look: WeightsFile | None

    @property
    def all(self) -> tuple[WeightsFile, ...]:
        """Those that are used."""
        return (self.detector, self.classifier, *((self.second_look,) if self.second_look else ()))


@dataclass(frozen=True)
class Networks:
    """The networks of a pipeline, loaded, and the weights they came from."""

    detector: Detector
    classifier: RatingNetwork
    weights: tuple[WeightsUsed, ...]
    operating_points: Mapping[str, float]
    """Score from which a candidate becomes a finding."""
    second_look: PlaceNetwork | None = None
    """Makes one score of what the detector and it say; without it the score is the detector's."""
    doubtful: float | None = None
    """Score from which a candidate that is no finding is measured and listed as doubtful; None: none is."""
    deciding: float | None = None
    """Score below which a finding is doubtful, so that it does not decide the exam's category; None: every one does."""
    notices: tuple[Notice, ...] = ()
    """What every report has to say about them."""
    site_model: SiteModel | None = None
    """The site's own, which joins the network's probability and the patient data."""

    def threshold(self, pipeline: Pipeline) -> float:
        """Score of the pipeline's operating point."""
        return self.operating_points[pipeline.findings.operating_point]

    def least(self, pipeline: Pipeline) -> float:
        """Score from which a candidate is measured: that of the operating point, or below it that of doubtful ones."""
        threshold = self.threshold(pipeline)
        return threshold if self.doubtful is None else min(threshold, self.doubtful)


def load_networks(pipeline: Pipeline) -> Networks:
    """All networks of a pipeline, ready to look.

    Errors: `weights-invalid`, `config-invalid`, and those of a bundle.
    """
    files = find_files(pipeline)
    points = operating_points(files.second_look or files.detector, pipeline)
    site_model = find_site_model(pipeline.fusion, files.classifier.sha256)
    return Networks(
        load_detector(files.detector, pipeline.detect),
        load_classifier(files.classifier),
        _used(files, site_model),
        points,
        load_second_look(files.second_look) if files.second_look else None,
        _doubtful(files, pipeline),
        _deciding(files, pipeline),
        _about_detector(files.detector, pipeline.detect),
        site_model,
    )


def used_weights(pipeline: Pipeline) -> tuple[WeightsUsed, ...]:
    """What a pipeline's results will rest on: both networks and, where it names one, the site's own model.

    Errors: `weights-invalid`, `config-invalid`, and those of a bundle.
    """
    files = find_files(pipeline)
    return _used(files, find_site_model(pipeline.fusion, files.classifier.sha256))


def find_files(pipeline: Pipeline) -> NetworkFiles:
    """The weights that a pipeline names, their hashes checked.

    Errors: `weights-invalid`, and those of a bundle.
    """
    detector, classifier = find_detector(pipeline.detect), find_classifier(pipeline.classify)
    return NetworkFiles(detector, classifier, second_look_of(pipeline))


def second_look_of(pipeline: Pipeline) -> WeightsFile | None:
    """The second look's weights; None where the pipeline does without.

    A second look was calibrated with one detector. Where another one looks (a bundle, or weights that the pipeline
    names) it is one that the pipeline names too, or that lies in the same folder; else the score is the detector's
    alone.

    Errors: `weights-invalid`.
    """
    detect = pipeline.detect
    if not pipeline.findings.second_look or detect.bundle:
        return None
    if detect.second_look or not detect.weights:
        return find_second_look(detect.second_look)
    return find_second_look(detect.weights) if has_weights(SECOND_LOOK, Path(detect.weights)) else None


def operating_points(weights: WeightsFile, pipeline: Pipeline) -> dict[str, float]:
    """Score from which a candidate becomes a finding: those of the weights, or the one threshold that the pipeline
    sets.

    Errors: `config-invalid`; `weights-invalid` where the manifest lacks the pipeline's own point or any score is no
    number.
    """
    threshold, chosen = pipeline.findings.threshold, pipeline.findings.operating_point
    if threshold is not None:
        return dict.fromkeys(OPERATING_POINTS, threshold)
    if pipeline.detect.bundle:
        reason = "a bundle has no operating points: say from which score a candidate becomes a finding"
        raise UsageError("config-invalid", reason, f"{pipeline.name}.findings.threshold")
    try:
        given = weights.parameters["operating_points"]
        points = {name: float(given[name]) for name in OPERATING_POINTS if name in given or name == chosen}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError("weights-invalid", f"the manifest lacks operating points: {error!r}") from None
    return points


def _used(files: NetworkFiles, site_model: SiteModel | None) -> tuple[WeightsUsed, ...]:
    used = tuple(WeightsUsed(file.name, file.version, file.sha256) for file in files.all)
    return (*used, site_model.used) if site_model else used


def _doubtful(files: NetworkFiles, pipeline: Pipeline) -> float | None:
    """Errors: `weights-invalid`."""
    if files.second_look is None or pipeline.findings.threshold is not None:
        return None
    try:
        return float(files.second_look.parameters["doubtful"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError("weights-invalid", f"the manifest lacks the doubtful marks' score: {error!r}") from None


def _deciding(files: NetworkFiles, pipeline: Pipeline) -> float | None:
    """None for weights that were made before there was one, and where the pipeline sets its own threshold.

    Errors: `weights-invalid`.
    """
    if files.second_look is None or pipeline.findings.threshold is not None:
        return None
    score = files.second_look.parameters.get("deciding")
    if score is None or (isinstance(score, float) and 0 < score < 1):
        return score
    raise WeightsError("weights-invalid", f"the manifest's deciding score is no probability: {score!r}")


def _about_detector(weights: WeightsFile, config: DetectConfig) -> tuple[Notice, ...]:
    """What every report has to say where not the shipped weights look for nodules."""
    if config.bundle:
        text = f"Nodules were looked for by {weights.name} {weights.version}, not by the shipped detector."
        return (Notice("detector-foreign", text),)
    if config.weights:
        text = (
            f"Nodules were looked for with weights {weights.version} ({weights.sha256[:12]}), not with the shipped"
            " ones."
        )
        return (Notice("detector-weights", text),)
    return ()

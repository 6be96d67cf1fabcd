"""Pipeline ─► Networks: what is loaded from weights, and what every report has to say about it.

The chain knows networks by their protocols only. To swap one, load another object here that answers the same calls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lungscreen.assess import SiteModel, find_site_model
from lungscreen.classify import Classifier, find_classifier, load_classifier
from lungscreen.detect import DetectConfig, Detector, find_detector, load_detector
from lungscreen.errors import Notice, UsageError, WeightsError
from lungscreen.measure import Outliner
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.pipeline.settings import Pipeline
from lungscreen.records import WeightsUsed
from lungscreen.weights import WeightsFile

__all__ = ["Networks", "RatingNetwork", "load_networks", "operating_points", "used_weights"]


class RatingNetwork(Classifier, Outliner, Protocol):
    """A network that rates a nodule and outlines it, both from patches of one size."""


@dataclass(frozen=True)
class Networks:
    """The networks of a pipeline, loaded, and the weights they came from."""

    detector: Detector
    classifier: RatingNetwork
    weights: tuple[WeightsUsed, ...]
    operating_points: Mapping[str, float]
    """Detection score from which a candidate becomes a finding."""
    notices: tuple[Notice, ...] = ()
    """What every report has to say about them."""
    site_model: SiteModel | None = None
    """The site's own, which joins the network's probability and the patient data."""

    def threshold(self, pipeline: Pipeline) -> float:
        """Detection score of the pipeline's operating point."""
        return self.operating_points[pipeline.findings.operating_point]


def load_networks(pipeline: Pipeline) -> Networks:
    """All networks of a pipeline, ready to look.

    Errors: `weights-invalid`, `config-invalid`, and those of a bundle.
    """
    detector, classifier = find_detector(pipeline.detect), find_classifier(pipeline.classify)
    points = operating_points(detector, pipeline)
    site_model = find_site_model(pipeline.fusion, classifier.sha256)
    return Networks(
        load_detector(detector, pipeline.detect),
        load_classifier(classifier),
        _used((detector, classifier), site_model),
        points,
        _about_detector(detector, pipeline.detect),
        site_model,
    )


def used_weights(pipeline: Pipeline) -> tuple[WeightsUsed, ...]:
    """What a pipeline's results will rest on: both networks and, where it names one, the site's own model.

    Errors: `weights-invalid`, `config-invalid`, and those of a bundle.
    """
    files = (find_detector(pipeline.detect), find_classifier(pipeline.classify))
    return _used(files, find_site_model(pipeline.fusion, files[1].sha256))


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


def _used(files: Sequence[WeightsFile], site_model: SiteModel | None) -> tuple[WeightsUsed, ...]:
    used = tuple(WeightsUsed(file.name, file.version, file.sha256) for file in files)
    return (*used, site_model.used) if site_model else used


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

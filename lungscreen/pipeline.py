"""The whole chain on one page.

folder ─► Series ─► Volume ─► Lungs ─► Candidate… ─► Finding… ─► Report
series   volume    lungs     detect        measure    report
classify
assess
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from lungscreen import __version__
from lungscreen.assess import AssessConfig, Assessment, assess_baseline, assess_follow_up, describe_person
from lungscreen.classify import ClassifyConfig, classify_nodules, find_classifier, load_classifier
from lungscreen.clinical import ClinicalTable, match_clinical
from lungscreen.comparison import (
    Comparison,
    Prior,
    PriorTable,
    Reading,
    Tools,
    compare_exams,
    earlier_exams,
    exam_day,
    match_priors,
)
from lungscreen.config import config_hash, packaged_folder, read_table, read_toml
from lungscreen.detect import DetectConfig, detect_nodules, find_detector, load_detector
from lungscreen.errors import Notice, UsageError, WeightsError
from lungscreen.fusion import FusionConfig, SiteModel, add_site_risk, find_site_model
from lungscreen.growth import GrowthConfig
from lungscreen.lungs import LungsConfig, segment_lungs
from lungscreen.measure import MeasureConfig, Measured, find_lung_boxes, locate_nodule, measure_nodules
from lungscreen.reading import read_first_series
from lungscreen.records import (
    Candidate,
    ClinicalData,
    Finding,
    Location,
    Lungs,
    Provenance,
    Rating,
    Report,
    Study,
    Volume,
    WeightsUsed,
)
from lungscreen.report import build_report
from lungscreen.selection import (
    FindingsConfig,
    OperatingPoint,
    look_twice,
    nodules_of_prior,
    select_findings,
    verdicts_of,
)
from lungscreen.series import SeriesConfig
from lungscreen.stopwatch import Stopwatch
from lungscreen.volume import VolumeConfig, source_fingerprint
from lungscreen.weights import WeightsFile

if TYPE_CHECKING:
    from lungscreen.classify.inference import TrainedClassifier
    from lungscreen.detect import Detector

__all__ = [
    "FindingsConfig",
    "Networks",
    "OperatingPoint",
    "Pipeline",
    "Prepared",
    "grade_candidates",
    "load_networks",
    "prepare_study",
    "read_first_series",
    "read_pipeline",
    "screen_study",
    "used_weights",
]


@dataclass(frozen=True)
class Pipeline:
    """The settings of every stage: `pipelines/*.toml`. The hash over them stands in every report."""

    name: str
    series: SeriesConfig = field(default_factory=SeriesConfig)
    volume: VolumeConfig = field(default_factory=VolumeConfig)
    lungs: LungsConfig = field(default_factory=LungsConfig)
    detect: DetectConfig = field(default_factory=DetectConfig)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    classify: ClassifyConfig = field(default_factory=ClassifyConfig)
    assess: AssessConfig = field(default_factory=AssessConfig)
    growth: GrowthConfig = field(default_factory=GrowthConfig)
    findings: FindingsConfig = field(default_factory=FindingsConfig)
    fusion: FusionConfig = field(default_factory=FusionConfig)


@dataclass(frozen=True)
class Networks:
    """The networks of a pipeline, loaded, and the weights they came from."""

    detector: Detector
    classifier: TrainedClassifier
    """Rates nodules and outlines them."""
    weights: tuple[WeightsUsed, ...]
    operating_points: Mapping[OperatingPoint, float]
    """Detection score from which a candidate becomes a finding."""
    notices: tuple[Notice, ...] = ()
    """What every report has to say about them."""
    site_model: SiteModel | None = None
    """The site's own, which joins the network's probability and the patient data."""


@dataclass(frozen=True)
class Prepared:
    """A study as far as it goes without a network: what may be done ahead, in another process."""

    study: Study
    volume: Volume
    lungs: Lungs


def read_pipeline(name_or_file: str) -> Pipeline:
    """A shipped pipeline by name, or any TOML file.

    Errors: `config-invalid`.
    """
    path = Path(name_or_file)
    if path.suffix != ".toml":
        path = packaged_folder("pipelines") / f"{path.name}.toml"
        if not path.is_file():
            raise UsageError("config-invalid", "no pipeline of that name", name_or_file)
    return read_table(Pipeline, read_toml(path), path.stem)


def load_networks(pipeline: Pipeline) -> Networks:
    """Both networks, ready to look.

    Errors: `weights-invalid`, `config-invalid`, and those of a bundle.
    """
    files = [find_detector(pipeline.detect), find_classifier(pipeline.classify)]
    points = operating_points(files[0], pipeline)
    site_model = find_site_model(pipeline.fusion, files[1].sha256)
    said = _about_detector(files[0], pipeline.detect)
    return Networks(
        load_detector(files[0], pipeline.detect),
        load_classifier(files[1]),
        _used(files, site_model),
        points,
        said,
        site_model,
    )


def used_weights(pipeline: Pipeline) -> tuple[WeightsUsed, ...]:
    """What a pipeline's results will rest on: both networks and, where it names one, the site's own model.

    Errors: `weights-invalid`, `config-invalid`, and those of a bundle.
    """
    files = [find_detector(pipeline.detect), find_classifier(pipeline.classify)]
    return _used(files, find_site_model(pipeline.fusion, files[1].sha256))


def _used(files: Sequence[WeightsFile], site_model: SiteModel | None) -> tuple[WeightsUsed, ...]:
    used = tuple(WeightsUsed(file.name, file.version, file.sha256) for file in files)
    return (*used, site_model.used) if site_model else used


def prepare_study(study: Study, pipeline: Pipeline, clock: Stopwatch | None = None) -> Prepared:
    """Volume and lungs of a study.

    Errors: what keeps every one of the study's series from being read, `no-lungs`.
    """
    clock = clock or Stopwatch()
    with clock.stage("volume"):
        study, volume = read_first_series(study, pipeline.volume)
    with clock.stage("lungs"):
        lungs = segment_lungs(volume, pipeline.lungs)
    return Prepared(study, volume, lungs)


def screen_study(
    study: Study | Prepared,
    pipeline: Pipeline,
    networks: Future[Networks],
    clinical: ClinicalTable | None = None,
    clock: Stopwatch | None = None,
    priors: PriorTable | None = None,
) -> Report:
    """One study from its files to its report. The networks may still be loading: they are waited for when needed.

    study: as it was found, or with its volume and lungs where those were made ahead.
    clinical: what is known of the people beside the images; the row of this exam is looked up.
    clock: takes the seconds of the stages.
    priors: what may be earlier exams of the people; the ones of this patient are looked up and compared.

    Errors: what keeps every one of the study's series from being read, `no-lungs`, `weights-invalid`.
    """
    clock = clock or Stopwatch()
    prepared = study if isinstance(study, Prepared) else prepare_study(study, pipeline, clock)
    study, volume, lungs = prepared.study, prepared.volume, prepared.lungs
    with clock.stage("networks"):
        loaded = networks.result()
    with clock.stage("detect"):
        candidates = detect_nodules(volume, lungs, loaded.detector, pipeline.detect)
    threshold = loaded.operating_points[pipeline.findings.operating_point]
    chosen = [candidate for candidate in candidates if candidate.score >= threshold]
    found = grade_candidates(volume, lungs, chosen, loaded.classifier, pipeline, clock)
    person, said = match_clinical(clinical, study.patient, study.exam)
    with clock.stage("compare"):
        reading = Reading(volume, lungs, candidates, tuple(found))
        compared = _compare(study, reading, match_priors(priors, study), person, pipeline, loaded)
    selected = select_findings(compared.found, pipeline.findings)
    cut_off = len(selected.not_listed)
    with clock.stage("assess"):
        assessment = _assess(selected.findings, lungs, person, study, compared, pipeline, cut_off)
    return build_report(
        study,
        volume,
        lungs,
        candidates,
        add_site_risk(assessment.findings, loaded.site_model, person),
        cut_off,
        _provenance(volume, pipeline, loaded, clock),
        category=assessment.category,
        category_reason=assessment.category_reason,
        notices=(*loaded.notices, *assessment.notices, *compared.notices, *selected.notices, *said),
        not_assessed=assessment.not_assessed,
        priors=compared.priors,
        lost=compared.lost,
        no_nodules=selected.no_nodules,
        verdicts=verdicts_of(candidates, selected),
        person=describe_person(person),
    )


def grade_candidates(
    volume: Volume,
    lungs: Lungs | None,
    candidates: Sequence[Candidate],
    classifier: TrainedClassifier,
    pipeline: Pipeline,
    clock: Stopwatch,
) -> list[Finding]:
    """Each candidate outlined, measured, typed, located and rated, in order; not ranked, not yet assessed."""
    with clock.stage("measure"):
        measured = measure_nodules(volume, lungs, candidates, pipeline.measure, classifier)
    with clock.stage("classify"):
        ratings = classify_nodules(volume, candidates, classifier, pipeline.classify)
    with clock.stage("locate"):
        boxes = find_lung_boxes(lungs)
        places = [
            locate_nodule(volume, lungs, candidate.centre_mm, one.outline, boxes)
            for candidate, one in zip(candidates, measured, strict=True)
        ]
    below = classifier.no_nodule_below if pipeline.findings.second_look else None
    graded = zip(candidates, places, measured, ratings, strict=True)
    return [_finding(*parts, below, pipeline.findings.mass_mm) for parts in graded]


def _compare(
    study: Study,
    reading: Reading,
    known: tuple[tuple[Prior, ...], tuple[Notice, ...]],
    person: ClinicalData | None,
    pipeline: Pipeline,
    networks: Networks,
) -> Comparison:
    """The exam against the patient's earlier ones; as it is where there are none."""
    priors, said = known
    day = exam_day(study.exam.date)
    if not priors or day is None:
        return Comparison(reading.found, notices=said)
    threshold = networks.operating_points[pipeline.findings.operating_point]

    def grade(volume: Volume, lungs: Lungs, marks: Sequence[Candidate]) -> list[Finding]:
        return grade_candidates(volume, lungs, marks, networks.classifier, pipeline, Stopwatch())

    def read(prior: Prior) -> Reading:
        return _read_prior(prior, pipeline, networks, threshold)

    tools = Tools(read, grade, threshold, pipeline.findings.least_mm, pipeline.growth)
    compared = compare_exams(reading, day, priors, person, tools)
    return dataclasses.replace(compared, notices=(*said, *compared.notices))


def _read_prior(prior: Prior, pipeline: Pipeline, networks: Networks, threshold: float) -> Reading:
    """An earlier exam, read as this one is; nodules of its report that the detector does not mark now are added."""
    if prior.study is None:
        raise AssertionError("expected an earlier exam with images")
    _, volume = read_first_series(prior.study, pipeline.volume)
    lungs = segment_lungs(volume, pipeline.lungs)
    candidates = detect_nodules(volume, lungs, networks.detector, pipeline.detect)
    chosen = [candidate for candidate in candidates if candidate.score >= threshold]
    chosen += prior.unmarked(chosen)
    found = grade_candidates(volume, lungs, chosen, networks.classifier, pipeline, Stopwatch())
    return Reading(volume, lungs, candidates, nodules_of_prior(found, prior, pipeline.findings))


def _assess(
    findings: Sequence[Finding],
    lungs: Lungs,
    person: ClinicalData | None,
    study: Study,
    compared: Comparison,
    pipeline: Pipeline,
    cut_off: int,
) -> Assessment:
    """By the rows of a first exam, or of a follow-up where an earlier one was compared."""
    day = exam_day(study.exam.date)
    if not compared.priors or day is None:
        return assess_baseline(findings, lungs, person, pipeline.assess, cut_off=cut_off)
    earlier = [earlier_exams(finding) for finding in findings]
    assessment = assess_follow_up(findings, lungs, person, day, earlier, pipeline.assess, cut_off=cut_off)
    graded = [
        finding if finding.change is None else dataclasses.replace(finding, growth=finding.change.text)
        for finding in assessment.findings
    ]
    return dataclasses.replace(assessment, findings=tuple(graded))


def _finding(
    candidate: Candidate,
    location: Location,
    measured: Measured,
    rating: Rating | None,
    no_nodule_below: float | None,
    mass_mm: float,
) -> Finding:
    size = measured.measurement
    is_nodule = None if rating is None else rating.nodule_probability
    return Finding(
        number=0,
        candidate=candidate,
        location=location,
        outline=measured.outline,
        measurement=size,
        nodule_type=measured.nodule_type,
        malignancy=None if rating is None else rating.malignancy,
        is_mass=size is not None and size.mean_diameter_mm > mass_mm,
        notices=measured.notices,
        attributes=None if rating is None else dataclasses.replace(rating.attributes, sphericity=measured.sphericity),
        nodule_probability=is_nodule,
        attribution=None if rating is None else rating.attribution,
        second_look=look_twice(is_nodule, no_nodule_below),
    )


def operating_points(weights: WeightsFile, pipeline: Pipeline) -> dict[OperatingPoint, float]:
    """Score from which a candidate becomes a finding: those of the weights, or the one threshold that the pipeline sets.

    Errors: `config-invalid`, `weights-invalid`.
    """
    threshold, names = pipeline.findings.threshold, get_args(OperatingPoint)
    if threshold is not None:
        return dict.fromkeys(names, threshold)
    if pipeline.detect.bundle:
        reason = "a bundle has no operating points: say from which score a candidate becomes a finding"
        raise UsageError("config-invalid", reason, f"{pipeline.name}.findings.threshold")
    try:
        return {name: float(weights.parameters["operating_points"][name]) for name in names}
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError("weights-invalid", f"the manifest lacks operating points: {error!r}") from None


def _about_detector(weights: WeightsFile, config: DetectConfig) -> tuple[Notice, ...]:
    """What every report has to say where not the shipped weights look for nodules."""
    if config.bundle:
        text = f"Nodules were looked for by {weights.name} {weights.version}, not by the shipped detector."
        return (Notice("detector-foreign", text),)
    if config.weights:
        text = f"Nodules were looked for with weights {weights.version} ({weights.sha256[:12]}), not with the shipped ones."
        return (Notice("detector-weights", text),)
    return ()


def _provenance(volume: Volume, pipeline: Pipeline, networks: Networks, clock: Stopwatch) -> Provenance:
    threshold = pipeline.findings.threshold
    return Provenance(
        software_version=__version__,
        pipeline_name=pipeline.name,
        pipeline_hash=config_hash(pipeline),
        weights=networks.weights,
        operating_point=f"score of {threshold:g} and up" if threshold else pipeline.findings.operating_point,
        series_uid=volume.series_uid,
        sop_instance_uids_sha256=source_fingerprint(volume.series),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=dict(clock.seconds),
    )

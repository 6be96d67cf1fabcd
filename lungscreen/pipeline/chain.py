"""The whole chain on one page.

folder ─► Series ─► Volume ─► Lungs ─► Candidate… ─► Finding… ─► Comparison ─► Report
series    volume    lungs    detect        measure     comparison    assess
classify                  results
└─ prepare_study ──────────┘
└─ read_exam ────────────────────┘
compare_with_priors: each earlier exam read alike
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from datetime import UTC, datetime

from lungscreen import __version__
from lungscreen.assess import (
    Assessment,
    add_site_risk,
    advise_findings,
    assess_baseline,
    assess_follow_up,
    describe_person,
)
from lungscreen.clinical import ClinicalTable, match_clinical
from lungscreen.comparison import Comparison, PriorTable, earlier_exams, match_priors
from lungscreen.days import read_day
from lungscreen.pipeline.exam import Prepared, prepare_study, read_exam
from lungscreen.pipeline.networks import Networks
from lungscreen.pipeline.priors import compare_with_priors
from lungscreen.pipeline.selection import list_findings, select_findings, verdicts_of
from lungscreen.pipeline.settings import Pipeline, pipeline_hash
from lungscreen.records import ClinicalData, Conclusion, Finding, Lungs, Provenance, Report, Study, Volume
from lungscreen.results.assemble import build_report
from lungscreen.stopwatch import Stopwatch
from lungscreen.volume import source_fingerprint

__all__ = ["screen_study"]


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
    study = prepared.study
    with clock.stage("networks"):
        loaded = networks.result()
    exam = read_exam(prepared, pipeline, loaded, clock)
    person, about_person = match_clinical(clinical, study.patient, study.exam)
    with clock.stage("compare"):
        earlier, about_priors = match_priors(priors, study, pipeline.comparison.priors_by)
        compared = compare_with_priors(exam, read_day(study.exam.date), earlier, person, pipeline, loaded)
    selected = select_findings(compared.found, pipeline.findings)
    with clock.stage("assess"):
        assessment = _assess(selected.findings, exam.lungs, person, study, compared, pipeline)
        advised = _advise(assessment, exam.volume, person, study, compared, pipeline)
    listed = list_findings(advised, pipeline.findings.most)
    said = (*assessment.notices, *about_priors, *compared.notices, *selected.notices, *about_person)
    conclusion = Conclusion(
        findings=add_site_risk(listed.findings, loaded.site_model, person),
        cut_off=len(listed.left_out),
        no_nodules=selected.no_nodules,
        verdicts=verdicts_of(exam.candidates, selected, listed),
        category=assessment.category,
        category_reason=assessment.category_reason,
        management=assessment.management,
        doubtful=assessment.exam.doubtful,
        not_assessed=assessment.not_assessed,
        priors=compared.priors,
        lost=compared.lost,
        person=describe_person(person),
        notices=(*loaded.notices, *said),
    )
    return build_report(study, exam, conclusion, _provenance(exam.volume, pipeline, loaded, clock))


def _assess(
    findings: Sequence[Finding],
    lungs: Lungs,
    person: ClinicalData | None,
    study: Study,
    compared: Comparison,
    pipeline: Pipeline,
) -> Assessment:
    """By the rows of a first exam, or of a follow-up where an earlier one was compared."""
    day = read_day(study.exam.date)
    if not compared.priors or day is None:
        return assess_baseline(findings, lungs, person, pipeline.assess, not_measured=compared.not_measured)
    return assess_follow_up(
        findings,
        lungs,
        person,
        day,
        [earlier_exams(finding) for finding in findings],
        pipeline.assess,
        lost=compared.lost,
        not_measured=compared.not_measured,
    )


def _advise(
    assessment: Assessment,
    volume: Volume,
    person: ClinicalData | None,
    study: Study,
    compared: Comparison,
    pipeline: Pipeline,
) -> Sequence[Finding]:
    """The findings with what other guidelines advise, where the pipeline names any."""
    findings, day = assessment.findings, read_day(study.exam.date)
    earlier = [earlier_exams(finding) for finding in findings] if compared.priors and day is not None else None
    slice_mm = volume.series.acquisition.slice_thickness_mm
    return advise_findings(findings, pipeline.assess.guidelines, person, day, earlier, slice_mm)


def _provenance(volume: Volume, pipeline: Pipeline, networks: Networks, clock: Stopwatch) -> Provenance:
    threshold = pipeline.findings.threshold
    return Provenance(
        software_version=__version__,
        pipeline_name=pipeline.name,
        pipeline_hash=pipeline_hash(pipeline),
        weights=networks.weights,
        operating_point=f"score of {threshold:g} and up" if threshold else pipeline.findings.operating_point,
        series_uid=volume.series_uid,
        sop_instance_uids_sha256=source_fingerprint(volume.series),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seconds=dict(clock.seconds),
    )

"""`lungscreen evaluate detection|robustness|screening|classification`: measure against what is known."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.shared import add_operating_point, add_pipeline, chosen_pipeline, exit_code
from lungscreen.errors import UsageError
from lungscreen.text import plain_text

if TYPE_CHECKING:
    from lungscreen.errors import Notice
    from lungscreen.evaluation import ClassificationResult, DetectionResult, ScreeningResult

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lungscreen evaluate`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    detection = kinds.add_parser("detection", help="sensitivity at false marks per scan, by LUNA16's rules")
    detection.add_argument("--candidates", type=Path, required=True, metavar="CSV", help="the detector's marks")
    detection.add_argument("--annotations", type=Path, required=True, metavar="CSV", help="the nodules")
    detection.add_argument("--excluded", type=Path, metavar="CSV", help="findings that count neither way")
    detection.add_argument(
        "--series", type=Path, required=True, metavar="CSV", help="every scan searched, one UID a row"
    )
    detection.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    detection.add_argument(
        "--max-marks", type=_limit, default=100, metavar="N|none", help="marks of a scan that count at most (100)"
    )
    detection.add_argument(
        "--threshold", type=float, metavar="SCORE", help="operating point: figures of each scan at this score too"
    )
    detection.add_argument(
        "--images", type=Path, metavar="DIR", help="the scans, for pictures of misses and false marks"
    )
    _add_robustness(
        kinds.add_parser("robustness", help="the same scans at less dose, in thicker slices, other kernels")
    )
    whole = kinds.add_parser(
        "screening", help="whole reports: categories, false findings and ranks, patient by patient"
    )
    whole.add_argument(
        "--results", type=Path, required=True, nargs="+", metavar="DIR", help="folders that `lungscreen screen` wrote"
    )
    whole.add_argument(
        "--annotations", type=Path, required=True, metavar="CSV", help="the nodules; a header alone: none"
    )
    whole.add_argument("--excluded", type=Path, metavar="CSV", help="findings that count neither way")
    whole.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    classes = kinds.add_parser("classification", help="area, operating points and calibration of probabilities")
    classes.add_argument("--predictions", type=Path, required=True, metavar="CSV", help="one row a case")
    classes.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    classes.add_argument("--label", default="label", metavar="COLUMN", help="0 or 1, empty where undecided (label)")
    classes.add_argument("--probability", default="probability", metavar="COLUMN", help="0 to 1 (probability)")
    classes.add_argument("--versus", metavar="COLUMN", help="another score of the same cases, compared in pairs")
    classes.add_argument(
        "--threshold", type=float, action="append", metavar="P", help="operating point; may be repeated (0.5)"
    )


def _add_robustness(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("inputs", nargs="+", type=Path, metavar="IMAGE", help="scans whose every nodule is annotated")
    parser.add_argument("--annotations", type=Path, required=True, metavar="CSV", help="the nodules")
    parser.add_argument("--excluded", type=Path, metavar="CSV", help="findings that count neither way")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the results go")
    add_pipeline(parser)
    add_operating_point(parser)
    parser.add_argument("--weights", type=Path, metavar="DIR", help="folder with a detector's weights (the pipeline's)")
    parser.add_argument(
        "--dose", type=float, action="append", metavar="SHARE", help="share of the dose; may be repeated (0.5, 0.25)"
    )
    parser.add_argument(
        "--slices", type=float, action="append", metavar="MM", help="slice thickness; may be repeated (2.5, 5)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the added noise (0)")


def run(args: argparse.Namespace) -> int:
    """Evaluate. Returns the exit code."""
    kinds = {
        "detection": _run_detection,
        "robustness": _run_robustness,
        "screening": _run_screening,
        "classification": _run_classification,
    }
    return kinds[args.kind](args)


def _run_detection(args: argparse.Namespace) -> int:
    from lungscreen.evaluation import (
        DetectionConfig,
        Nodules,
        evaluate_detection,
        read_marks,
        read_nodules,
        read_series_list,
        write_detection,
    )

    try:
        config = DetectionConfig(max_marks=args.max_marks, threshold=args.threshold)
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    excluded = read_nodules(args.excluded) if args.excluded else Nodules.none()
    series = read_series_list(args.series)
    result = evaluate_detection(read_marks(args.candidates), read_nodules(args.annotations), excluded, series, config)
    provenance = _provenance(args, "candidates", "annotations", "excluded", "series")
    _say(write_detection(result, args.out, provenance, args.images, _with_bar))
    print("\n".join(_detection_lines(result)))
    return ExitCode.OK


def _run_robustness(args: argparse.Namespace) -> int:
    from lungscreen.detect import find_detector
    from lungscreen.errors import Refusal
    from lungscreen.evaluation import (
        Nodules,
        RobustnessConfig,
        measure_robustness,
        read_nodules,
        robustness_lines,
        write_robustness,
    )
    from lungscreen.files import replace_file
    from lungscreen.jobs.detect import load_search, with_weights
    from lungscreen.jobs.studies import is_complete, prepare_output, read_volumes
    from lungscreen.outputs.tables import refused_csv
    from lungscreen.pipeline import operating_points, pipeline_hash, second_look_of

    pipeline = with_weights(chosen_pipeline(args), args.weights)
    weights, point = find_detector(pipeline.detect), pipeline.findings.operating_point
    scores = second_look_of(pipeline) or weights
    try:
        config = RobustnessConfig(
            threshold=operating_points(scores, pipeline)[point],
            doses=tuple(args.dose or RobustnessConfig.doses),
            slices_mm=tuple(args.slices or RobustnessConfig.slices_mm),
            seed=args.seed,
        )
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    nodules = read_nodules(args.annotations)
    excluded = read_nodules(args.excluded) if args.excluded else Nodules.none()
    prepare_output(args.out, args.inputs)
    refusals: list[Refusal] = []
    volumes = read_volumes(args.inputs, args.out, pipeline, refusals)
    result = measure_robustness(volumes, nodules, excluded, load_search(pipeline), config)
    provenance = _provenance(args, "annotations", "excluded") | {
        "pipeline": {"name": pipeline.name, "hash": pipeline_hash(pipeline), "operating_point": point},
        "detector": {"name": weights.name, "version": weights.version, "sha256": weights.sha256},
    }
    replace_file(args.out / "refused.csv", refused_csv(refusals))
    _say(write_robustness(result, args.out, provenance))
    print("\n".join(robustness_lines(result)))
    return exit_code(args.out, bool(result.scans) and is_complete(refusals))


def _run_screening(args: argparse.Namespace) -> int:
    from lungscreen.evaluation import Nodules, evaluate_screening, read_exams, read_nodules, write_screening

    excluded = read_nodules(args.excluded) if args.excluded else Nodules.none()
    result = evaluate_screening(read_exams(args.results), read_nodules(args.annotations), excluded)
    _say(write_screening(result, args.out, _provenance(args, "annotations", "excluded")))
    print("\n".join(_screening_lines(result)))
    return ExitCode.OK


def _screening_lines(result: ScreeningResult) -> list[str]:
    figures, ranks = result.figures, result.figures["rank"]

    def share(name: str) -> str:
        part = figures[name]
        return f"{part['found']} of {part['of']} ({_interval(part)})" if part["of"] else "none of none"

    return [
        f"exams {figures['exams']}, annotated nodules {figures['nodules']}, findings {figures['findings']}",
        f"category 3 or more because of a finding that is no annotated nodule: {share('positive_by_false_finding')}",
        f"a finding of category 3 or more that is no annotated nodule: {share('has_positive_false_finding')}",
        f"findings that are no annotated nodule: {figures['false_findings']}, "
        f"{_number(figures['false_findings_per_exam'])} an exam; of category 3 or more: "
        f"{figures['positive_false_findings']}, {_number(figures['positive_false_findings_per_exam'])} an exam; "
        f"doubtful ones beside these: {figures['doubtful_positive_false_findings']}",
        f"nodules that are findings: {share('nodules_found')}; "
        f"taken for no nodule by the second look: {figures['nodules_taken_for_none']}; "
        f"doubtful, so that they decide no exam: {figures['nodules_doubtful']}",
        f"another category than size and type give: {share('category_differs')}; a lower one:"
        f" {share('category_lower')}",
        f"agreement over 2, 3, 4A, 4B: kappa {_number(figures['category_agreement']['kappa'])} (linear weights)",
        f"rank of the nodules: first {ranks['first']}, up to third {ranks['up_to_three']}, lowest {ranks['lowest']}",
    ]


def _run_classification(args: argparse.Namespace) -> int:
    from lungscreen.evaluation import (
        ClassificationConfig,
        evaluate_classification,
        read_predictions,
        write_classification,
    )

    try:
        config = ClassificationConfig(thresholds=tuple(args.threshold or [0.5]))
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    predictions = read_predictions(args.predictions, args.label, args.probability, args.versus)
    result = evaluate_classification(predictions, config)
    columns = {"label": args.label, "probability": args.probability, "versus": args.versus}
    _say(write_classification(result, args.out, {**_provenance(args, "predictions"), "columns": columns}))
    print("\n".join(_classification_lines(result)))
    return ExitCode.OK


def _classification_lines(result: ClassificationResult) -> list[str]:
    figures, area = result.figures, result.figures["auc"]
    lines = [
        f"cases {figures['cases']}, positive {figures['positives']}, left out {figures['undecided']}",
        f"AUC {_number(area['value'])}, 95 % interval {_interval(area['delong'])} (DeLong), "
        f"{_interval(area['bootstrap'])} (bootstrap over {figures['groups']} groups)",
        f"expected calibration error {_number(figures['calibration']['expected_calibration_error'])}",
    ]
    lines += [
        f"class {row['label']}: {row['support']} cases, precision {_number(row['precision'])}, "
        f"recall {_number(row['recall'])}, F1 {_number(row['f1'])} (threshold {figures['threshold']:g})"
        for row in figures["per_class"]
    ]
    for point in figures["operating_points"]:
        sensitivity, specificity = point["sensitivity"]["value"], point["specificity"]["value"]
        lines.append(
            f"{point['by']} {point['wanted']:g}: threshold {_number(point['threshold'])}, "
            f"sensitivity {_number(sensitivity)}, specificity {_number(specificity)}"
        )
    if figures["versus"]:
        rival = figures["versus"]
        lines.append(
            f"gain over {plain_text(rival['column'], 40)} (AUC {_number(rival['auc'])}): {_number(rival['gain'])}, "
            f"95 % interval {_interval(rival)}"
        )
    lines += [
        f"{plain_text(row['name'], 40)}: {row['cases']} rated, rank correlation {_number(row['spearman'])}, "
        f"mean absolute error {_number(row['mean_absolute_error'])}"
        for row in figures["attributes"]
    ]
    return lines


def _interval(bounds: Mapping[str, float | None]) -> str:
    return f"{_number(bounds['lower'])} – {_number(bounds['upper'])}"


def _detection_lines(result: DetectionResult) -> list[str]:
    figures = result.figures
    bootstrap = figures["bootstrap"]
    whole = bootstrap["nan_samples"] == 0
    interval = bootstrap["at_exact_rates" if whole else "counting_misses"]
    lines = [
        f"scans {figures['scans']}, nodules {figures['nodules']}: found {figures['tp']}, missed {figures['fn']}, "
        f"false marks {figures['fp']}",
        "false marks per scan   sensitivity   95 % interval",
    ]
    for n, rate in enumerate(figures["fp_rates"]):
        low, high = interval["lower"][n], interval["upper"][n]
        lines.append(f"{rate:>20g}   {_number(figures['sensitivity'][n]):>11}   {_number(low)} – {_number(high)}")
    if not whole:
        lines.append("intervals: draws without a hit count as 0, draws without a nodule are left out")
    lines.append(f"CPM {_number(figures['cpm'])}")
    point = figures["at_threshold"]
    if point:
        found = point["sensitivity"]
        lines.append(
            f"at score {point['threshold']:g}: {found['found']} of {found['of']} nodules, 95 % interval"
            f" {_interval(found)}; "
            f"{point['false_per_scan']:.2f} false marks per scan, at most {point['most_in_a_scan']}"
        )
    return lines


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _provenance(args: argparse.Namespace, *inputs: str) -> dict[str, Any]:
    """Inputs by content, not by path: a path can name a person."""
    from lungscreen.weights import sha256_of

    paths = {name: getattr(args, name) for name in inputs}
    return {"sha256": {name: sha256_of(path) for name, path in paths.items() if path is not None}}


def _with_bar(series: Iterable[str]) -> Iterable[str]:
    """A progress bar on stderr, none where that is no terminal."""
    from tqdm import tqdm

    bar: Iterable[str] = tqdm(series, desc="pictures", unit="scan", disable=None, file=sys.stderr)
    return bar


def _say(notices: tuple[Notice, ...]) -> None:
    for notice in notices:
        print(f"lungscreen: {notice.code}: {plain_text(notice.text)}", file=sys.stderr)


def _limit(text: str) -> int | None:
    return None if text.lower() == "none" else int(text)

"""`lungscreen train detector|classifier|fusion`: make weights again, or with other data; fit a site's own model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from lungscreen.cli.exit_codes import ExitCode

__all__ = ["KINDS", "add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `lungscreen train`."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    for name, (summary, _) in KINDS.items():
        sub = kinds.add_parser(name, help=summary, description=summary)
        if name == "fusion":
            _fusion_arguments(sub)
            continue
        sub.add_argument("--config", type=Path, required=True, metavar="FILE", help="the recipe, TOML")
        sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="annotated data it names")
        sub.add_argument(
            "--out", type=Path, required=True, metavar="DIR", help="checkpoint, curves, weights; a run there goes on"
        )

        if name == "detector":
            sub.add_argument(
                "--begin-with",
                type=Path,
                nargs="+",
                default=[],
                metavar="DIR",
                help="weights/ of an earlier run to begin with; of several that went on from the same one: their mean",
            )


def run(args: argparse.Namespace) -> int:
    """Train. Returns the exit code."""
    KINDS[args.kind][1](args)
    return ExitCode.OK


def _train_detector(args: argparse.Namespace) -> None:
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.detector import train_detector
    from lungscreen.training.detector_data import prepare_cubes, prepare_scans
    from lungscreen.training.detector_phantoms import prepare_phantoms
    from lungscreen.training.detector_recipe import DetectorTraining
    from lungscreen.weights import find_weights

    config = read_table(DetectorTraining, read_toml(args.config), args.config.name)
    shards = args.out / "shards"
    if not (shards / "cubes.json").exists():
        _say("preparing cubes")
        prepare_cubes(args.data, shards)
    _say("preparing scans")
    prepare_scans(args.data, shards, config.split.scans)
    prepare_phantoms(shards, config.split.phantoms)
    begin_with = [find_weights("detector", folder) for folder in args.begin_with]
    train_detector(config, shards, args.out, _say, begin_with)
    print(args.out / "weights")


def _train_classifier(args: argparse.Namespace) -> None:
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.classifier import ClassifierTraining, train_classifier
    from lungscreen.training.classifier_data import read_cubes

    config = read_table(ClassifierTraining, read_toml(args.config), args.config.name)
    _say("reading cubes")
    subsets = (*config.split.train_subsets, *config.split.choice_subsets)
    weights = train_classifier(config, read_cubes(args.data, subsets), args.out, _say)
    print(weights.path)


def _fusion_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--predictions", type=Path, required=True, metavar="CSV", help="findings.csv of a screening run, or alike")
    add("--clinical", type=Path, required=True, metavar="FILE", help="patient data as CSV or JSON")
    add(
        "--outcomes", type=Path, required=True, metavar="CSV",
        help="patient_id, outcome (0 or 1) and, where an outcome is one exam's or finding's, study_uid, finding",
    )  # fmt: skip
    add("--out", type=Path, required=True, metavar="DIR", help="fusion.json, coefficients.csv, evaluation.json, plots")
    add("--meaning", required=True, metavar="TEXT", help="what the outcome is: stands in every report")
    add(
        "--pipeline", default="screening", metavar="NAME_OR_FILE",
        help="pipeline that the predictions come from: a shipped name or a TOML file",
    )  # fmt: skip
    add("--folds", type=int, default=5, metavar="N", help="folds by patient (5)")
    add("--seed", type=int, default=0, metavar="N", help="of the folds (0)")


def _train_fusion(args: argparse.Namespace) -> None:
    from lungscreen.classify import find_classifier
    from lungscreen.cli.shared import clinical_table
    from lungscreen.clinical import ClinicalTable
    from lungscreen.errors import UsageError
    from lungscreen.pipeline import read_pipeline
    from lungscreen.training.fusion import FusionTraining, train_fusion
    from lungscreen.training.fusion_cases import read_cases
    from lungscreen.weights import sha256_of

    try:
        config = FusionTraining(folds=args.folds, seed=args.seed)
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    network = find_classifier(read_pipeline(args.pipeline).classify)
    cases = read_cases(args.predictions, clinical_table(args.clinical) or ClinicalTable(), args.outcomes)
    inputs = {name: sha256_of(getattr(args, name)) for name in ("predictions", "clinical", "outcomes")}
    train_fusion(cases, args.out, args.meaning, network.sha256, config, {"inputs": inputs})
    print(args.out / "fusion.json")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


KINDS: dict[str, tuple[str, Callable[[argparse.Namespace], None]]] = {
    "detector": ("train the nodule detector", _train_detector),
    "classifier": ("train the network that outlines nodules and rates their malignancy", _train_classifier),
    "fusion": ("fit a site's own model on its outcomes: the network's logit and the patient data", _train_fusion),
}
"""What can be trained → what it is, and how."""

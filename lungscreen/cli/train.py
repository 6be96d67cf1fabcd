"""`lungscreen train detector|classifier|second-look|fusion`: make weights again, or with other data; fit a site's own model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from lungscreen.training.detector_recipe import DetectorTraining

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
        if name in ("detector", "seams"):
            sub.add_argument(
                "--data",
                type=Path,
                required=True,
                nargs="+",
                metavar="DIR",
                help="annotated data that the recipe names; folders of `data prepare`, divided by their index.json",
            )
        else:
            sub.add_argument("--data", type=Path, required=True, metavar="DIR", help="annotated data it names")
        what = "seams.json, seams.png" if name == "seams" else "checkpoint, curves, weights; a run there goes on"
        sub.add_argument("--out", type=Path, required=True, metavar="DIR", help=what)
        if name == "classifier":
            sub.add_argument(
                "--outliner",
                type=Path,
                metavar="DIR",
                help="weights/ whose network draws the outlines instead of the ones that rate",
            )
        if name == "second-look":
            sub.add_argument(
                "--weights",
                type=Path,
                metavar="DIR",
                help="weights/ of the classifier that the second look joins, instead of the shipped ones",
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
    from lungscreen.training.detector import train_detector
    from lungscreen.weights import find_weights

    config, shards, prepared = _detector_data(args)
    begin_with = [find_weights("detector", folder) for folder in args.begin_with]
    train_detector(config, shards, args.out, _say, begin_with, prepared)
    print(args.out / "weights")


def _check_seams(args: argparse.Namespace) -> None:
    from lungscreen.training.detector_seams import SeamsConfig, check_seams, write_seams
    from lungscreen.training.detector_sides import read_engines

    config, shards, prepared = _detector_data(args)
    learn, examine = read_engines(config, shards, prepared)
    seams = SeamsConfig(seed=config.seed)
    write_seams(check_seams(learn, examine, seams, _say), seams, learn.config.settings, args.out)
    print(args.out / "seams.json")


def _detector_data(args: argparse.Namespace) -> tuple[DetectorTraining, Path, list[Path]]:
    """The recipe, the shards of what it names (made where they are not there yet), folders of `data prepare`."""
    from lungscreen.config import read_table, read_toml
    from lungscreen.errors import UsageError
    from lungscreen.training.detector_data import prepare_cubes, prepare_scans
    from lungscreen.training.detector_phantoms import prepare_phantoms
    from lungscreen.training.detector_recipe import DetectorTraining

    config, shards = read_table(DetectorTraining, read_toml(args.config), args.config.name), args.out / "shards"
    prepared = [folder for folder in args.data if (folder / "index.json").is_file()]
    named = [folder for folder in args.data if folder not in prepared]
    if len(named) > 1 or (config.split.names_data and not named):
        text = "--data: expected one folder that holds what the recipe names, and any of `data prepare`"
        raise UsageError("usage", text)
    if config.split.names_data and not (shards / "cubes.json").exists():
        _say("preparing cubes")
        prepare_cubes(named[0], shards)
    if config.split.scans:
        _say("preparing scans")
        prepare_scans(named[0], shards, config.split.scans, _say)
    prepare_phantoms(shards, config.split.phantoms)
    return config, shards, prepared


def _train_classifier(args: argparse.Namespace) -> None:
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.classifier import train_classifier
    from lungscreen.training.classifier_data import read_cubes
    from lungscreen.training.classifier_recipe import ClassifierTraining
    from lungscreen.weights import find_weights

    config = read_table(ClassifierTraining, read_toml(args.config), args.config.name)
    outliner = find_weights("classifier", args.outliner) if args.outliner else None
    _say("reading cubes")
    split = config.split
    cubes = read_cubes(args.data, (*split.train_subsets, *split.choice_subsets) if split else None)
    print(train_classifier(config, cubes, args.out, _say, outliner).path)


def _train_second_look(args: argparse.Namespace) -> None:
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.second_look_recipe import SecondLookTraining
    from lungscreen.training.second_look_run import make_second_look
    from lungscreen.weights import find_weights

    config = read_table(SecondLookTraining, read_toml(args.config), args.config.name)
    print(make_second_look(config, args.data, find_weights("classifier", args.weights), args.out, _say).path)


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
    "seams": ("examine whether a small network can tell inserted nodules from real ones", _check_seams),
    "classifier": ("train the network that outlines nodules and rates their malignancy", _train_classifier),
    "second-look": ("train the network that tells a nodule from what was taken for one", _train_second_look),
    "fusion": ("fit a site's own model on its outcomes: the network's logit and the patient data", _train_fusion),
}
"""What can be trained → what it is, and how."""

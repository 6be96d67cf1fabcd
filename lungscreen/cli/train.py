"""`lungscreen train detector|classifier|second-look|fusion`: make weights again, or with other data; fit a site's own
model.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from lungscreen.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from lungscreen.training.detector import DetectorTraining

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
        if name in ("detector", "second-look"):
            sub.add_argument(
                "--begin-with",
                type=Path,
                nargs="+",
                default=[],
                metavar="DIR",
                help="weights/ of an earlier run to begin with; of several that began with the same one: their mean",
            )


def run(args: argparse.Namespace) -> int:
    """Train. Returns the exit code."""
    KINDS[args.kind][1](args)
    return ExitCode.OK


def _train_detector(args: argparse.Namespace) -> None:
    from lungscreen.training.detector import prepare_data, train_detector
    from lungscreen.weights import find_weights

    config, shards = _detector_recipe(args), args.out / "shards"
    prepared = prepare_data(config, args.data, shards, _say)
    begin_with = [find_weights("detector", folder) for folder in args.begin_with]
    train_detector(config, shards, args.out, _say, begin_with, prepared)
    print(args.out / "weights")


def _check_seams(args: argparse.Namespace) -> None:
    from lungscreen.training.detector import prepare_data
    from lungscreen.training.detector.sides import read_engines
    from lungscreen.training.insertion import SeamsConfig, check_seams, write_seams

    config, shards = _detector_recipe(args), args.out / "shards"
    learn, examine = read_engines(config, shards, prepare_data(config, args.data, shards, _say))
    seams = SeamsConfig(seed=config.seed)
    write_seams(check_seams(learn, examine, seams, _say), seams, learn.config.settings, args.out)
    print(args.out / "seams.json")


def _detector_recipe(args: argparse.Namespace) -> DetectorTraining:
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.detector import DetectorTraining

    return read_table(DetectorTraining, read_toml(args.config), args.config.name)


def _train_classifier(args: argparse.Namespace) -> None:
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.classifier import ClassifierTraining, train_classifier
    from lungscreen.training.classifier.data import read_cubes
    from lungscreen.weights import find_weights

    config = read_table(ClassifierTraining, read_toml(args.config), args.config.name)
    outliner = find_weights("classifier", args.outliner) if args.outliner else None
    _say("reading cubes")
    print(train_classifier(config, read_cubes(args.data, config.subsets), args.out, _say, outliner).path)


def _train_second_look(args: argparse.Namespace) -> None:
    from lungscreen.classify import SECOND_LOOK
    from lungscreen.config import read_table, read_toml
    from lungscreen.training.second_look import SecondLookTraining, make_second_look
    from lungscreen.weights import find_weights

    config = read_table(SecondLookTraining, read_toml(args.config), args.config.name)
    begin_with = [find_weights(SECOND_LOOK, folder) for folder in args.begin_with]
    print(make_second_look(config, args.data, args.out, begin_with, _say).path)


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
    from lungscreen.training.site_model import SiteModelTraining, read_cases, train_site_model
    from lungscreen.weights import sha256_of

    try:
        config = SiteModelTraining(folds=args.folds, seed=args.seed)
    except ValueError as error:
        raise UsageError("usage", str(error)) from None
    network = find_classifier(read_pipeline(args.pipeline).classify)
    cases = read_cases(args.predictions, clinical_table(args.clinical) or ClinicalTable(), args.outcomes)
    inputs = {name: sha256_of(getattr(args, name)) for name in ("predictions", "clinical", "outcomes")}
    train_site_model(cases, args.out, args.meaning, network.sha256, config, {"inputs": inputs})
    print(args.out / "fusion.json")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


KINDS: dict[str, tuple[str, Callable[[argparse.Namespace], None]]] = {
    "detector": ("train the nodule detector", _train_detector),
    "seams": ("examine whether a small network can tell inserted nodules from real ones", _check_seams),
    "classifier": ("train the network that outlines nodules and rates their malignancy", _train_classifier),
    "second-look": ("train the network that tells nodules and masses from what was taken for one", _train_second_look),
    "fusion": ("fit a site's own model on its outcomes: the network's logit and the patient data", _train_fusion),
}
"""What can be trained → what it is, and how."""

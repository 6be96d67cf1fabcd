"""Training of the classifier: cubes ─► members (each a network) ─► score and calibration ─► weights.

With a split, the calibration is fitted on the cubes for choices. With folds, every cube is rated by members that have
not seen its patient, score and calibration come from the same cubes that those members learned from, and the first
fold's members are the ones that ship. Nothing in a fold knows of the cubes that it is scored on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.network import Network
from lungscreen.errors import UsageError
from lungscreen.training.classifier.data import Cubes, select
from lungscreen.training.classifier.folds import assign_folds
from lungscreen.training.classifier.member import train_member
from lungscreen.training.classifier.recipe import ClassifierSplit, ClassifierTraining
from lungscreen.training.classifier.scores import (
    Numbers,
    fit_numbers,
    prediction_rows,
    rate_cubes,
    write_table,
)
from lungscreen.weights import WeightsFile, add_weights, load_tensors

__all__ = ["Trained", "train_classifier", "train_folds", "train_split", "write_weights"]

Progress = Callable[[str], None]
Indices = NDArray[np.intp]

TEST_SEED, FIT_SEED = 7, 8
"""Of the draw of centres: of cubes that are scored, and of cubes that score and calibration are fitted on."""


@dataclass(frozen=True, eq=False)
class Trained:
    """What ships: members, their numbers, and the cubes that they learned from."""

    members: list[Network]
    numbers: Numbers
    learned: Indices


def train_classifier(
    config: ClassifierTraining,
    cubes: Cubes,
    out: Path,
    progress: Progress = lambda _: None,
    outliner: WeightsFile | None = None,
) -> WeightsFile:
    """Train all members, or go on with the run in `out`; write `out/weights` and tables of predictions: `choice.csv` of
    a split, `folds.csv` of folds.

    outliner: weights whose network draws outlines instead of the members.

    Errors: `config-invalid` where `out` holds a run of another recipe or the split is empty, `training-diverged`.
    """
    out.mkdir(parents=True, exist_ok=True)
    trained = train_split(config, cubes, out, progress) if config.split else train_folds(config, cubes, out, progress)
    return write_weights(trained, config, out / "weights", outliner)


def train_split(config: ClassifierTraining, cubes: Cubes, out: Path, progress: Progress = lambda _: None) -> Trained:
    """One run on the split's training subsets, calibrated on the subsets for choices."""
    split = config.split or ClassifierSplit((), ())
    train = select(cubes, split.train_subsets, split.held_out_patients)
    choice = select(cubes, split.choice_subsets, split.held_out_patients)
    if len(train) < config.batch or not cubes.rated[choice].any():
        raise UsageError("config-invalid", "the split leaves too few cubes to learn from or to choose on")
    twice = {cubes.persons[i] for i in train} & {cubes.persons[i] for i in choice}
    if twice:
        raise UsageError("config-invalid", f"{len(twice)} persons are learned from and used for choices")
    members = [train_member(config, cubes, train, n, out, progress) for n in range(config.members)]
    learned = rate_cubes(members, cubes, train, config, FIT_SEED)
    chosen = rate_cubes(members, cubes, choice, config, TEST_SEED)
    numbers = fit_numbers(cubes, learned, chosen)
    write_table(out / "choice.csv", prediction_rows(cubes, chosen, numbers))
    return Trained(members, numbers, train)


def train_folds(config: ClassifierTraining, cubes: Cubes, out: Path, progress: Progress = lambda _: None) -> Trained:
    """Every cube rated by members that have not seen its patient; returns the first fold's.

    Errors: as `train_classifier`.
    """
    if config.folds is None:
        raise UsageError("config-invalid", "the recipe has no folds")
    fold = assign_folds(cubes, config.folds)
    rows: list[dict[str, Any]] = []
    trained: list[Trained] = []
    for k in range(config.folds.count):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        if len(train) < config.batch or not len(test):
            raise UsageError("config-invalid", f"fold {k + 1} leaves too few cubes to learn from or to score")
        folder = out / f"fold{k + 1}"
        folder.mkdir(parents=True, exist_ok=True)
        progress(f"fold {k + 1} of {config.folds.count}: {len(train)} cubes to learn from, {len(test)} to score")
        members = [train_member(config, cubes, train, n, folder, progress) for n in range(config.members)]
        numbers = fit_numbers(cubes, rate_cubes(members, cubes, train, config, FIT_SEED))
        rows += prediction_rows(cubes, rate_cubes(members, cubes, test, config, TEST_SEED), numbers, k + 1)
        trained.append(Trained(members, numbers, train))
        write_table(out / "folds.csv", rows)
    return trained[0]


def write_weights(
    trained: Trained,
    config: ClassifierTraining,
    folder: Path,
    outliner: WeightsFile | None = None,
) -> WeightsFile:
    """Weights and manifest entry in `folder`; of an outliner, its first member."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"member{n}.{key}": t for n, m in enumerate(trained.members) for key, t in m.state_dict().items()}
    architecture: dict[str, Any] = {
        "network": config.network,
        "widths": list(config.widths),
        "normalised": config.normalised,
        "members": len(trained.members),
        "patch": config.patch + 2 * config.reach,
        "view": config.patch,
        "reach": config.reach,
    }
    numbers: dict[str, Any] = {
        "score": trained.numbers.score.as_numbers(),
        "calibration": asdict(trained.numbers.calibration),
    }
    if outliner is not None:
        prefix = "outliner." if "outliner" in outliner.architecture else "member0."
        drawn = outliner.architecture.get("outliner", outliner.architecture)
        architecture["outliner"] = {"network": drawn.get("network", "full"), "widths": list(drawn["widths"])}
        architecture["patch"] = int(outliner.architecture["patch"])
        loaded = load_tensors(outliner)
        tensors |= {f"outliner.{k.removeprefix(prefix)}": t for k, t in loaded.items() if k.startswith(prefix)}
    return add_weights(folder, "classifier", tensors, config.version, architecture, numbers)

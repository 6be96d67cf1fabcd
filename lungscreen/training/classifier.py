"""Training of the classifier: cubes ─► members (each a network) ─► score and calibration ─► second look ─► weights.

With a split, the calibration is fitted on the cubes for choices. With folds, every cube is rated by members that have not
seen its patient, score and calibration come from the same cubes that those members learned from, and the first fold's
members are the ones that ship. Nothing in a fold knows of the cubes that it is scored on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.network import FoldedNetwork, Network
from lungscreen.errors import UsageError
from lungscreen.training.classifier_data import Cubes, select
from lungscreen.training.classifier_folds import assign_folds
from lungscreen.training.classifier_member import train_member
from lungscreen.training.classifier_recipe import ClassifierSplit, ClassifierTraining, SecondLookTraining
from lungscreen.training.classifier_scores import (
    Numbers,
    fit_numbers,
    look_at,
    prediction_rows,
    write_table,
)
from lungscreen.training.second_look import choose_threshold, look_again, train_second_look
from lungscreen.training.second_look_data import Places
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
    places: Places | None = None,
) -> WeightsFile:
    """Train all members, or go on with the run in `out`; write `out/weights` and tables of predictions: `choice.csv` of a
    split, `folds.csv` of folds, `second_look.csv` where the recipe has one.

    outliner: weights whose network draws outlines instead of the members.  places: what the second look learns from,
    needed where the recipe has one.

    Errors: `config-invalid` where `out` holds a run of another recipe or the split is empty, `training-diverged`.
    """
    out.mkdir(parents=True, exist_ok=True)
    trained = train_split(config, cubes, out, progress) if config.split else train_folds(config, cubes, out, progress)
    second: tuple[FoldedNetwork, float] | None = None
    if config.second_look:
        if places is None:
            raise UsageError("config-invalid", "the recipe has a second look and there are no places to learn from")
        second = _second_look(config, config.second_look, cubes, trained, places, out, progress)
    return write_weights(trained, config, out / "weights", outliner, second)


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
    learned = look_at(members, cubes, train, config.patch, FIT_SEED)
    chosen = look_at(members, cubes, choice, config.patch, TEST_SEED)
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
        numbers = fit_numbers(cubes, look_at(members, cubes, train, config.patch, FIT_SEED))
        rows += prediction_rows(cubes, look_at(members, cubes, test, config.patch, TEST_SEED), numbers, k + 1)
        trained.append(Trained(members, numbers, train))
        write_table(out / "folds.csv", rows)
    return trained[0]


def write_weights(
    trained: Trained,
    config: ClassifierTraining,
    folder: Path,
    outliner: WeightsFile | None = None,
    second: tuple[FoldedNetwork, float] | None = None,
) -> WeightsFile:
    """Weights and manifest entry in `folder`; of an outliner, its first member. second: network and threshold."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"member{n}.{key}": t for n, m in enumerate(trained.members) for key, t in m.state_dict().items()}
    architecture: dict[str, Any] = {
        "network": config.network,
        "widths": list(config.widths),
        "members": len(trained.members),
        "patch": config.patch,
        "view": config.patch,
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
    if second is not None:
        architecture["second_look"] = {"network": "folded", "widths": list(config.widths), "outputs": 1}
        tensors |= {f"second_look.{key}": value for key, value in second[0].state_dict().items()}
        numbers["no_nodule_below"] = second[1]
    return add_weights(folder, "classifier", tensors, config.version, architecture, numbers)


def _second_look(
    config: ClassifierTraining,
    recipe: SecondLookTraining,
    cubes: Cubes,
    trained: Trained,
    places: Places,
    out: Path,
    progress: Progress,
) -> tuple[FoldedNetwork, float]:
    """Learn from places of the same people, but for the choice subsets'.

    The threshold keeps enough of the choice subsets' nodules and of those that were learned from: the former are few, and
    the lowest of a few is a matter of luck.
    """
    rater = trained.members[0]
    if not isinstance(rater, FoldedNetwork):
        raise UsageError("config-invalid", "a second look begins with a folded network")
    subset = dict(zip(cubes.names, cubes.subsets, strict=True))
    known = {cubes.names[n] for n in trained.learned}
    choice = np.array([name in known and subset[name] in recipe.choice_subsets for name in places.names])
    train = np.array([name in known for name in places.names]) | places.made
    network = train_second_look(recipe, places, np.flatnonzero(train & ~choice), rater, config.patch, progress)
    probability = look_again([network], places, np.arange(len(places.names)), config.patch)
    sides = [side & places.nodule & ~places.made for side in (choice, train & ~choice)]
    threshold = min(choose_threshold(probability[side], recipe.sensitivity) for side in sides if side.any())
    rows = [
        {
            "cube": name,
            "use": "choice" if choice[n] else "learned" if train[n] else "held out",
            "nodule": int(places.nodule[n]),
            "diameter_mm": f"{places.diameter_mm[n]:.2f}",
            "detector_score": f"{places.score[n]:.4f}",
            "probability": f"{probability[n]:.6f}",
        }
        for n, name in enumerate(places.names)
    ]
    write_table(out / "second_look.csv", rows)
    return network, threshold

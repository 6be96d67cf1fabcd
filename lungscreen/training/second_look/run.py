"""A run of the second look's training: cubes, weights ─► places ─► network, threshold ─► weights with it, table.

What ships with it (the network that rates, the one that draws outlines, score, calibration) is taken over as it is.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungscreen.classify.network import FoldedNetwork
from lungscreen.config import config_hash
from lungscreen.detect import load_detector
from lungscreen.errors import LungscreenError, UsageError
from lungscreen.files import replace_file
from lungscreen.training.classifier.data import Cubes, read_cubes, select
from lungscreen.training.classifier.scores import write_table
from lungscreen.training.second_look.places import Places, mine_places
from lungscreen.training.second_look.recipe import SecondLookTraining
from lungscreen.training.second_look.train import choose_threshold, rate_places, train_second_look
from lungscreen.weights import WeightsFile, add_weights, find_weights, load_tensors

__all__ = ["make_second_look", "replace_second_look", "sides_of"]

Progress = Callable[[str], None]

DRAWS = 4
"""Centres from which each nodule for choices is looked at."""

TOLD_SCORE = 0.1
"""Detectors' score from which a false mark that was learned from is in the table."""

PARTS = ("cube", "centres", "nodule", "outlined", "score", "diameter_mm", "made")
"""Of `Places`, beside names and voxels."""


def make_second_look(
    config: SecondLookTraining, data: Path, weights: WeightsFile, out: Path, progress: Progress = lambda _: None
) -> WeightsFile:
    """Look for false marks, learn, choose the threshold; or go on with the run in `out`.

    weights: the classifier's, which get the new second look. Written: `places.npz`, `second_look.pt`, `second_look.csv`
    (a row
    a place: who it is of, what it is, the probability of being a nodule) and `weights`.

    Errors: `config-invalid` where `out` holds another run or the split is empty, `training-data-invalid`,
    `training-diverged`, `weights-invalid`.
    """
    out.mkdir(parents=True, exist_ok=True)
    cubes = read_cubes(data)
    detectors = [find_weights("detector", Path(name)) for name in config.mining.detectors] or [find_weights("detector")]
    places = _places_of(config, data, cubes, detectors, out / "places.npz", progress)
    train, choice = sides_of(config, cubes, places)
    learned = train & places.nodule & ~places.made
    if not (learned.any() and (choice & places.nodule).any()):
        raise UsageError("config-invalid", "the split leaves no nodules to learn from or to choose on")
    network = train_second_look(config, places, np.flatnonzero(train), out / "second_look.pt", progress)
    known = rate_places([network], places, np.flatnonzero(learned), config.patch)
    threshold = _choose_threshold(config, places, network, np.flatnonzero(choice & places.nodule), known)
    progress(f"threshold {threshold:.4f}")
    made = replace_second_look(weights, network, config, threshold, out / "weights")
    _write_rows(out / "second_look.csv", config, places, network, train, choice)
    return made


def _choose_threshold(
    config: SecondLookTraining,
    places: Places,
    network: FoldedNetwork,
    choice: NDArray[np.intp],
    learned: NDArray[np.float64],
) -> float:
    """Keeps enough of the nodules for choices, each from several centres, and of those learned from: the former are
    few, and the lowest of a few is a matter of luck.
    """
    draws = [rate_places([network], places, choice, config.patch, seed=seed) for seed in range(1, DRAWS + 1)]
    return min(choose_threshold(some, config.sensitivity) for some in (np.concatenate(draws), learned))


def sides_of(config: SecondLookTraining, cubes: Cubes, places: Places) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which places are learned from, and which choose; everything else is held out."""
    split = config.split
    names = [
        {cubes.names[n] for n in select(cubes, subsets, split.held_out_patients)}
        for subsets in (split.train_subsets, split.choice_subsets)
    ]
    persons = dict(zip(cubes.names, cubes.persons, strict=True))
    if twice := {persons[name] for name in names[0]} & {persons[name] for name in names[1]}:
        raise UsageError("config-invalid", f"{len(twice)} persons are learned from and used for choices")
    names[0] |= {f"phantom {seed}" for seed in config.mining.phantoms}
    train, choice = (np.array([name in known for name in places.names]) for known in names)
    return train, choice


def replace_second_look(
    weights: WeightsFile, network: FoldedNetwork, config: SecondLookTraining, threshold: float, folder: Path
) -> WeightsFile:
    """The classifier's weights, in `folder`, with this second look instead of the one that they had, if any."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: value for key, value in load_tensors(weights).items() if not key.startswith("second_look.")}
    tensors |= {f"second_look.{key}": value for key, value in network.state_dict().items()}
    kind = {"network": "folded", "widths": list(config.widths), "outputs": 1, "view": config.patch}
    architecture = {**weights.architecture, "second_look": kind}
    numbers = {**weights.parameters, "no_nodule_below": threshold}
    return add_weights(folder, "classifier", tensors, weights.version, architecture, numbers)


def _write_rows(
    path: Path,
    config: SecondLookTraining,
    places: Places,
    network: FoldedNetwork,
    train: NDArray[np.bool_],
    choice: NDArray[np.bool_],
) -> None:
    """Every place but the weak ones among the false marks that were learned from, which are thousands and say
    little.
    """
    told = np.flatnonzero(~train | places.nodule | (places.score >= TOLD_SCORE))
    rows = [
        {
            "cube": places.names[n],
            "use": "choice" if choice[n] else "learned" if train[n] else "held out",
            "nodule": int(places.nodule[n]),
            "diameter_mm": f"{places.diameter_mm[n]:.2f}",
            "detector_score": f"{places.score[n]:.4f}",
            "probability": f"{probability:.6f}",
        }
        for n, probability in zip(told, rate_places([network], places, told, config.patch), strict=True)
    ]
    write_table(path, rows)


# -- places that were found before -----------------------------------------------------------------------------------
def _places_of(
    config: SecondLookTraining,
    data: Path,
    cubes: Cubes,
    detectors: Sequence[WeightsFile],
    path: Path,
    progress: Progress,
) -> Places:
    """As they were found before in this run, or found now."""
    identity = config_hash(config.mining, [weights.sha256 for weights in detectors], list(cubes.names))
    if path.exists():
        return _known_places(path, cubes, identity)
    places = mine_places(data, cubes, [load_detector(weights) for weights in detectors], config.mining, progress)
    parts = {name: getattr(places, name) for name in PARTS}
    made, names = places.hu[len(cubes.names) :], np.array(json.dumps([identity, list(places.names)]))
    content = io.BytesIO()
    np.savez(content, made=made, names=names, **{f"of_{name}": value for name, value in parts.items()})
    replace_file(path, content.getvalue())
    return places


def _known_places(path: Path, cubes: Cubes, identity: str) -> Places:
    """Errors: `config-invalid` for another run's, `training-data-invalid` where they cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as kept:
            found, names = json.loads(str(kept["names"]))
            made = kept["made"]
            parts = {name: kept[f"of_{name}"] for name in PARTS}
    except (OSError, KeyError, ValueError, EOFError) as error:
        raise LungscreenError("training-data-invalid", f"cannot read the places: {error!r}", str(path)) from None
    if found != identity:
        raise UsageError("config-invalid", "the folder holds a run of other data or detectors", str(path))
    return Places(
        hu=np.concatenate([cubes.hu, made]),
        masks=np.concatenate([cubes.masks, np.zeros(made.shape, dtype=bool)]),
        names=tuple(names),
        **parts,
    )

"""A run of the second look's training: cubes, chests ─► places ─► network ─► curves and operating points ─► weights.

RUN/shards          whole scans at 1 mm, as the detector's training prepares them
RUN/places          what is no nodule in each chest; found once, a run that was stopped takes it as it is
RUN/second_look.pt  checkpoint
RUN/weights         the second look and what belongs to it
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from lungscreen.classify.two_views import TwoViews
from lungscreen.config import config_hash
from lungscreen.detect import DetectConfig, Detector, load_detector
from lungscreen.errors import UsageError, WeightsError
from lungscreen.files import replace_file
from lungscreen.training.classifier.data import Cubes, read_cubes, select
from lungscreen.training.detector.data import prepare_scans
from lungscreen.training.second_look.calibrate import (
    Choice,
    answer_chest,
    answer_cube,
    answer_masses,
    bare_look,
    choose,
)
from lungscreen.training.second_look.chests import WholeChest, draw_chest, read_chest
from lungscreen.training.second_look.cubes import find_cube_places, read_annotated
from lungscreen.training.second_look.hardness import score_by_look
from lungscreen.training.second_look.recipe import SecondLookTraining
from lungscreen.training.second_look.samples import Deck
from lungscreen.training.second_look.train import begin_with_mean, train_second_look
from lungscreen.weights import WeightsFile, add_weights, find_weights

__all__ = ["make_second_look"]

Progress = Callable[[str], None]

SET_IN = 40
"""Masses that are set into each scan for choices."""


def make_second_look(
    config: SecondLookTraining,
    data: Path,
    out: Path,
    begin_with: Sequence[WeightsFile] = (),
    progress: Progress = lambda _: None,
) -> WeightsFile:
    """Look for false marks, learn, choose; or go on with the run in `out`.

    begin_with: weights of earlier runs, which are averaged; by chance without.

    Errors: `config-invalid` where `out` holds another run or the split is empty, `training-data-invalid`,
    `training-diverged`, `weights-invalid`.
    """
    out.mkdir(parents=True, exist_ok=True)
    cubes = read_cubes(data)
    files = [find_weights("detector", Path(name)) for name in config.mining.detectors] or [find_weights("detector")]
    detectors = [load_detector(file) for file in files]
    if config.split.scans or config.split.choice_scans:
        prepare_scans(data, out / "shards", (*config.split.scans, *config.split.choice_scans), progress)
    deck = _deal(config, data, cubes, detectors, out, progress)
    network = _begin(config, begin_with)
    if config.shares.hard:
        deck = score_by_look(deck, network)
    identity = config.identity([file.sha256 for file in (*files, *begin_with)], list(cubes.names))
    mean = train_second_look(config, deck, network, identity, out / "second_look.pt", progress)
    choice = _choose(config, data, cubes, deck, detectors[-1], mean, out, progress)
    return _write(config, mean, choice, out / "weights")


def _deal(
    config: SecondLookTraining,
    data: Path,
    cubes: Cubes,
    detectors: Sequence[Detector],
    out: Path,
    progress: Progress,
) -> Deck:
    """Everything that is learned from.

    Errors: `config-invalid` where the split leaves nothing, or a person is learned from and used for choices.
    """
    split = config.split
    chosen = select(cubes, split.train_subsets, split.held_out_patients)
    choosing = select(cubes, split.choice_subsets, split.held_out_patients)
    twice = {cubes.persons[n] for n in chosen} & {cubes.persons[n] for n in choosing}
    if twice:
        raise UsageError("config-invalid", f"{len(twice)} persons are learned from and used for choices")
    if not len(chosen) or not len(choosing) or not (split.scans or split.phantoms):
        raise UsageError("config-invalid", "the split leaves no cubes or no chests")
    places = find_cube_places(data, cubes, chosen, detectors, config.mining, config.shares, progress)
    scans = tuple(_kept(out, name, config, detectors, progress) for name in split.scans)
    phantoms = tuple(_kept(out, seed, config, detectors, progress) for seed in split.phantoms)
    return Deck(places, scans, phantoms, config.shares, config.network)


def _kept(
    out: Path, which: str | int, config: SecondLookTraining, detectors: Sequence[Detector], progress: Progress
) -> WholeChest:
    """A scan by its name or a phantom by its seed, its places as they were found before in this run, or found now."""
    identity = config_hash(asdict(config.mining), str(which))[:16]
    path = out / "places" / f"{which}-{identity}.npy"
    known = path.exists()
    asked = ((), None) if known else (detectors, config.mining)
    chest = draw_chest(which, *asked) if isinstance(which, int) else read_chest(out / "shards", which, *asked)
    if known:
        return replace(chest, places=np.load(path, allow_pickle=False))
    path.parent.mkdir(exist_ok=True)
    np.save(path, chest.places)
    progress(f"{chest.name}: {len(chest.places)} places that are no nodules")
    return chest


def _begin(config: SecondLookTraining, weights: Sequence[WeightsFile]) -> TwoViews:
    """Errors: `weights-invalid`."""
    torch.manual_seed(config.seed)
    network = TwoViews(config.network)
    try:
        if weights:
            begin_with_mean(network, weights)
    except (KeyError, RuntimeError) as error:
        raise WeightsError("weights-invalid", f"not weights to begin with: {str(error)[:300]}") from None
    return network


def _choose(
    config: SecondLookTraining,
    data: Path,
    cubes: Cubes,
    deck: Deck,
    detector: Detector,
    network: TwoViews,
    out: Path,
    progress: Progress,
) -> Choice:
    """Curves and points on the choice cubes and scans; the last detector's marks."""
    settings = DetectConfig()
    look = bare_look(network, "in training")
    known = read_annotated(data, cubes)
    chosen = select(cubes, config.split.choice_subsets, config.split.held_out_patients)
    answered = [answer_cube(cubes, int(n), known.get(cubes.names[n]), detector, look, settings) for n in chosen]
    chests = [read_chest(out / "shards", name) for name in config.split.choice_scans]
    answered += [answer_chest(chest, detector, look, settings) for chest in chests if chest.sure]
    where = chests or list(deck.phantoms)
    choice = choose(answered, answer_masses(deck, where, look, SET_IN, config.seed), len(where))
    for name, point in choice.points.items():
        progress(f"{name}: from {point:.3f} on, {choice.sensitivity[name]:.3f} of the nodules for choices")
    return choice


def _write(config: SecondLookTraining, network: TwoViews, choice: Choice, folder: Path) -> WeightsFile:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "manifest.json").exists():
        replace_file(folder / "manifest.json", '{"schema": 1, "weights": {}}\n')
    numbers = {"scale": asdict(choice.scale), "operating_points": dict(choice.points), "doubtful": choice.doubtful}
    numbers["deciding"] = choice.deciding
    return add_weights(folder, "second_look", network.state_dict(), "1", asdict(config.network), numbers)

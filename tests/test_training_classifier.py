"""Training the classifier: a dry run on synthetic cubes from the command line, going on after a stop, and refusals."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import shared_folder
from small_cubes import assert_nobody_is_on_two_sides, cubes_of, write_cubes

from lungscreen.classify import Calibration, load_classifier
from lungscreen.classify.features import FEATURES
from lungscreen.classify.network import OUTPUTS
from lungscreen.classify.preparation import scale_hu
from lungscreen.classify.score import Score
from lungscreen.cli.main import main
from lungscreen.config import packaged_folder, read_table, read_toml
from lungscreen.errors import InputError, UsageError, WeightsError
from lungscreen.training.classifier.data import read_cubes, select
from lungscreen.training.classifier.folds import assign_folds
from lungscreen.training.classifier.member import cycle_rate, train_member
from lungscreen.training.classifier.recipe import (
    ClassifierFolds,
    ClassifierSplit,
    ClassifierTraining,
)
from lungscreen.training.classifier.samples import Variation, draw_batch, shift_centres, to_tensors
from lungscreen.training.classifier.scores import Looks, Numbers, prediction_rows
from lungscreen.training.classifier.train import train_classifier
from lungscreen.weights import find_weights

SPLIT = ClassifierSplit(("2",), ("9",), ("P3",))
TINY = ClassifierTraining(SPLIT, widths=(2, 2, 4, 4), epochs=2, batch=4, patch=24)


# -- data ------------------------------------------------------------------------------------------------------------
def test_published_cubes_are_read_as_they_were_written(tmp_path: Path) -> None:
    cubes = cubes_of()
    read = read_cubes(write_cubes(cubes, tmp_path))
    assert np.array_equal(read.hu, cubes.hu)
    assert np.array_equal(read.masks, cubes.masks)
    assert np.allclose(read.centres, cubes.centres, atol=1e-4)
    assert np.array_equal(read.majority, cubes.majority)
    assert read.persons[1] == "1.2.1"
    assert read.targets[1][:4].tolist() == [1, 1, 1, pytest.approx(2 / 3)]
    assert read.targets[2][:4].tolist() == [pytest.approx(1 / 3), 0, 0, 0]
    assert np.isnan(read.targets[0][4:]).all()
    assert read.targets[1][4:].tolist() == [1.0, 0.5, 0.5, 0.0, 0.0, 1.0, 0.0]
    assert len(read_cubes(tmp_path, ("9",)).names) == 4


def test_data_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        read_cubes(tmp_path)
    assert refusal.value.code == "training-data-invalid"
    write_cubes(cubes_of(3), tmp_path)
    (tmp_path / "cubes" / "ct" / "c1.jls").unlink()
    with pytest.raises(InputError):
        read_cubes(tmp_path)


def test_a_split_leaves_persons_out() -> None:
    cubes = cubes_of()
    assert 3 not in select(cubes, ("2",), ("P3",))
    assert select(cubes, ("9",)).tolist() == [10, 11, 12, 13]


def numbers() -> Numbers:
    """A score that ranks by the first feature and the suspicion alike."""
    count = len(FEATURES)
    score = Score((0.0,) * count, (1.0,) * count, (1.0, *(0.0,) * (count - 1)), 1.0, 0.0)
    return Numbers(score, Calibration(1.0, 0.0))


def test_undecided_and_unrated_cubes_have_no_label() -> None:
    """A mean between 2.5 and 3.5 is neither; what nobody rated has no majority; attributes stand beside their
    ratings.
    """
    cubes = cubes_of(4)
    cubes = replace(cubes, mean_rating=np.array([2.5, 3.0, 3.5, np.nan], np.float32))
    looks = Looks(np.arange(4), np.zeros((4, len(OUTPUTS)), np.float32), np.zeros((4, len(FEATURES))))
    rows = prediction_rows(cubes, looks, numbers(), fold=2)
    assert [row["label"] for row in rows] == ["0", "", "1", ""]
    assert [row["majority"] for row in rows] == ["0", "1", "0", ""]
    assert {row["expected_rating"] for row in rows} == {"3.0000"}
    assert {row["fold"] for row in rows} == {2}
    assert {row["probability"] for row in rows} == {"0.500000"}
    assert [row["spiculation_rated"] for row in rows] == ["", "", "3.00", "3.00"]
    assert {row["spiculation"] for row in rows} == {"3.000"}


# -- folds -----------------------------------------------------------------------------------------------------------
def test_a_person_is_in_one_fold_and_the_first_holds_who_it_should() -> None:
    cubes = cubes_of(40)
    persons = tuple(f"P{n // 2}" for n in range(40))
    subsets = tuple("1" if n == 7 else "2" for n in range(40))
    cubes = replace(cubes, persons=persons, subsets=subsets)
    fold = assign_folds(cubes, ClassifierFolds(4, ("1",), ("P9",), seed=3))
    assert set(np.flatnonzero(fold == 0)) == {6, 7, 18, 19}
    assert all(len(set(fold[np.array(persons) == p])) == 1 for p in persons)
    assert sorted(np.bincount(fold)) == [4, 12, 12, 12]
    assert not np.array_equal(fold, assign_folds(cubes, ClassifierFolds(4, ("1",), ("P9",), seed=4)))
    even = assign_folds(cubes, ClassifierFolds(4))
    assert sorted(np.bincount(even)) == [10, 10, 10, 10]
    with pytest.raises(ValueError, match="2 folds"):
        ClassifierFolds(1)


# -- samples ---------------------------------------------------------------------------------------------------------
def test_a_batch_is_varied_but_keeps_its_nodule() -> None:
    """The mask goes with the picture: bright voxels are the nodule's, dark ones are not."""
    cubes = cubes_of()
    chosen = np.array([1, 3, 5])
    config = replace(TINY, patch=32, variation=Variation(noise=0.0, gain=0.0, offset=0.0, blur=0.0))
    patch, mask = draw_batch(
        *to_tensors(cubes), cubes.centres[chosen], chosen, 32, config.variation, torch.Generator().manual_seed(1)
    )
    assert patch.shape == mask.shape == (3, 1, 32, 32, 32)
    assert 0 <= float(patch.min()) <= float(patch.max()) <= 1
    assert float(patch[mask > 0.9].mean()) > 0.65
    assert float(patch[mask < 0.1].mean()) < 0.2
    volume = mask.sum((1, 2, 3, 4)) / (4 / 3 * np.pi * 216)
    assert bool(((volume > 0.75) & (volume < 1.3)).all())
    again, _ = draw_batch(
        *to_tensors(cubes), cubes.centres[chosen], chosen, 32, config.variation, torch.Generator().manual_seed(2)
    )
    assert not torch.allclose(patch, again, atol=0.05)


def test_blur_and_noise_change_the_picture_only() -> None:
    cubes = cubes_of(4)
    chosen = np.arange(4)
    still = Variation(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    noisy = replace(still, noise=0.2, blur=1.0)
    drawn = [
        draw_batch(*to_tensors(cubes), cubes.centres, chosen, 24, v, torch.Generator().manual_seed(3))
        for v in (still, noisy)
    ]
    assert not torch.allclose(drawn[0][0], drawn[1][0], atol=0.02)
    assert torch.equal(drawn[0][1], drawn[1][1])


def test_centres_move_within_their_ball() -> None:
    moved = shift_centres(np.zeros((500, 3), np.float32), 3.0, seed=5)
    away = np.linalg.norm(moved, axis=1)
    assert away.max() <= 3.0
    assert away.mean() == pytest.approx(2.25, abs=0.1)
    assert np.array_equal(moved, shift_centres(np.zeros((500, 3), np.float32), 3.0, seed=5))


# -- the run ---------------------------------------------------------------------------------------------------------
def test_a_run_from_the_command_line_makes_weights_that_load(tmp_path: Path) -> None:
    """From the command line, data as published, to weights that the product loads."""
    data = write_cubes(cubes_of(18), tmp_path / "data")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "epochs = 1\nbatch = 4\npatch = 24\nmembers = 2\nwidths = [2, 2, 4, 4]\n"
        '[split]\ntrain_subsets = ["2"]\nchoice_subsets = ["9"]\n'
    )
    out = tmp_path / "out"
    assert main(["train", "classifier", "--config", str(recipe), "--data", str(data), "--out", str(out)]) == 0
    with (out / "choice.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == ["0", "1", "0", "1"]
    assert [row["majority"] for row in rows] == ["0", "1", "0", "1"]
    assert all(0 <= float(row["probability"]) <= 1 for row in rows)
    classifier = load_classifier(find_weights("classifier", out / "weights"))
    assert len(classifier.raters) == 2
    answers = classifier.rate(np.zeros((1, 24, 24, 24), np.float32))
    assert answers.malignancy.shape == (1,)


def test_folds_from_the_command_line_make_weights_with_an_outliner(tmp_path: Path) -> None:
    """Every cube is rated once, by a fold that left its person out; what ships draws outlines with another network."""
    cubes = cubes_of(18)
    data = write_cubes(cubes, tmp_path / "data")
    split = tmp_path / "split.toml"
    split.write_text(
        "epochs = 1\nbatch = 4\npatch = 32\nwidths = [2, 2, 4, 4]\n"
        '[split]\ntrain_subsets = ["2"]\nchoice_subsets = ["9"]\n'
    )
    first = tmp_path / "first"
    assert main(["train", "classifier", "--config", str(split), "--data", str(data), "--out", str(first)]) == 0
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        'network = "folded"\nnormalised = true\nmembers = 2\nepochs = 1\nbatch = 4\npatch = 24\nreach = 3\nwidths ='
        " [4, 4, 8]\n"
        'version = "5"\n'
        '[folds]\ncount = 3\nfirst_subsets = ["9"]\n'
    )
    out = tmp_path / "out"
    words = ["train", "classifier", "--config", str(recipe), "--data", str(data), "--out", str(out)]
    assert main([*words, "--outliner", str(first / "weights")]) == 0
    with (out / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == sorted(cubes.names)
    assert {row["fold"] for row in rows if row["subset"] == "9"} == {"1"}
    weights = find_weights("classifier", out / "weights")
    classifier = load_classifier(weights)
    assert (classifier.patch_size, classifier.view, classifier.reach, len(classifier.raters)) == (32, 24, 3, 2)
    hu = np.random.default_rng(0).normal(-500, 200, (2, 32, 32, 32)).astype(np.float32)
    same = load_classifier(find_weights("classifier", first / "weights")).outline(hu)
    assert np.allclose(classifier.outline(hu), same, atol=2e-3)
    answers = classifier.rate(scale_hu(hu))
    assert answers.heat.shape == hu.shape
    assert (
        main(["evaluate", "classification", "--predictions", str(out / "folds.csv"), "--out", str(tmp_path / "e")]) == 0
    )


def test_a_second_cycle_goes_on_from_the_first_and_leaves_it_as_it_was(tmp_path: Path) -> None:
    """The rate rises again; the same as both cycles in one go; of another length, it is another run."""
    cubes = cubes_of(8)
    train = select(cubes, ("2",))
    one = replace(TINY, epochs=1)
    first = train_member(one, cubes, train, 0, tmp_path)
    said: list[str] = []
    both = train_member(replace(one, second_cycle=1), cubes, train, 0, tmp_path, said.append)
    assert [line.split(":")[0] for line in said] == ["member 0, epoch 2/2"]
    (tmp_path / "new").mkdir()
    afresh = train_member(replace(one, second_cycle=1), cubes, train, 0, tmp_path / "new")
    again = train_member(one, cubes, train, 0, tmp_path)
    weights = [network.state_dict()["stem.0.weight"] for network in (first, both, afresh, again)]
    assert torch.equal(weights[1], weights[2])
    assert torch.equal(weights[0], weights[3])
    assert not torch.equal(weights[0], weights[1])
    with pytest.raises(UsageError) as refusal:
        train_member(replace(one, second_cycle=2), cubes, train, 0, tmp_path)
    assert refusal.value.code == "config-invalid"


@pytest.mark.parametrize(
    ("epochs", "share"), [(0.0, 1e-4), (1.5, 1.0), (10.0, 1e-4), (10.3, 0.5), (10.6, 1.0), (13.999, 1e-4)]
)
def test_the_rate_rises_and_falls_in_each_cycle(epochs: float, share: float) -> None:
    rate = cycle_rate(replace(TINY, epochs=10, second_cycle=4, rate=0.5), epochs)
    assert rate == pytest.approx(0.5 * share, rel=0.01)


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    cubes = cubes_of()
    train = select(cubes, ("2",))
    whole = train_member(replace(TINY, epochs=3), cubes, train, 0, tmp_path)
    seen: list[str] = []

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        seen.append(line)
        if len(seen) == 2:
            raise StoppedError

    (tmp_path / "two").mkdir()
    with pytest.raises(StoppedError):
        train_member(replace(TINY, epochs=3), cubes, train, 0, tmp_path / "two", stop)
    halves = train_member(replace(TINY, epochs=3), cubes, train, 0, tmp_path / "two")
    for key, value in whole.state_dict().items():
        assert torch.equal(value, halves.state_dict()[key]), key
    with pytest.raises(UsageError) as refusal:
        train_member(replace(TINY, epochs=3, rate=1e-4), cubes, train, 0, tmp_path / "two")
    assert refusal.value.code == "config-invalid"


def test_splits_that_mix_or_are_empty_are_refused(tmp_path: Path) -> None:
    cubes = cubes_of()
    with pytest.raises(ValueError, match="learned from and used"):
        ClassifierSplit(("2",), ("2", "9"))
    with pytest.raises(UsageError, match="too few"):
        train_classifier(replace(TINY, split=ClassifierSplit(("7",), ("9",))), cubes, tmp_path)
    same = replace(cubes, persons=("P0",) * len(cubes.persons))
    with pytest.raises(UsageError, match="learned from and used"):
        train_classifier(TINY, same, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    cubes = cubes_of()
    broken = replace(cubes, targets=np.full_like(cubes.targets, 3e38))
    with pytest.raises(WeightsError) as refusal:
        train_member(TINY, broken, select(cubes, ("2",)), 0, tmp_path)
    assert refusal.value.code == "training-diverged"


@pytest.mark.parametrize("wrong", [{"patch": 20}, {"patch": 16}, {"members": 0}, {"rate": 2.0}, {"ema": 1.0}])
def test_a_recipe_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(TINY, **wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="expected"):
        Variation(blur=1.5)


def test_the_shipped_recipe_keeps_the_test_data_out() -> None:
    """Subset 1 and the patients of the test scans are nowhere in it; nobody is on both sides."""
    config = read_table(
        ClassifierTraining, read_toml(packaged_folder("pipelines") / "train_classifier.toml"), "train_classifier"
    )
    assert config.split is not None
    used = {*config.split.train_subsets, *config.split.choice_subsets}
    assert not used & {"0", "1", "5"}
    assert {"LIDC-IDRI-0001", "LIDC-IDRI-0003", "LIDC-IDRI-0005", "LIDC-IDRI-0063"} <= {*config.split.held_out_patients}
    assert_nobody_is_on_two_sides(config.split)


def test_the_shipped_folds_keep_the_test_data_out_of_what_ships() -> None:
    """The first fold, which the shipped network has not seen, is subset 1 and the people of the whole test scans."""
    recipe = packaged_folder("pipelines") / "train_classifier_folds.toml"
    config = read_table(ClassifierTraining, read_toml(recipe), "train_classifier_folds")
    assert config.folds is not None
    assert config.folds.first_subsets == ("1",)
    people = {f"LIDC-IDRI-{n:04d}" for n in (1, 3, 4, 5, 7, 63)}
    assert set(config.folds.first_patients) == people
    with shared_folder("data", "cubes", "cubes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    persons = tuple(row["patient_id"] or row["series_uid"] for row in rows)
    subsets = tuple(row["luna16_subset"] for row in rows)
    fold = assign_folds(replace(cubes_of(1), persons=persons, subsets=subsets), config.folds)
    first = {n for n, row in enumerate(rows) if subsets[n] == "1" or row["patient_id"] in people}
    assert set(np.flatnonzero(fold == 0)) == first
    assert all(len({fold[n] for n in range(len(rows)) if persons[n] == p}) == 1 for p in set(persons))
    assert np.bincount(fold)[1:].min() > 0.95 * np.bincount(fold)[1:].max()


@pytest.mark.parametrize(
    "wrong",
    [
        {"split": None},
        {"folds": ClassifierFolds()},
        {"network": "folded"},
        {"widths": (2, 2, 4)},
        {"normalised": True},
        {"second_cycle": -1},
        {"reach": 13},
        {"reach": -1},
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(TINY, **wrong)  # type: ignore[arg-type]

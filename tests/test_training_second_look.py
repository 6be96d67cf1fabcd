"""Training the second look: where false marks are looked for, learning and going on, the run from the command line."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_cubes import assert_nobody_is_on_two_sides, cubes_of, write_cubes

from lungscreen.classify import load_classifier
from lungscreen.classify.preparation import scale_hu
from lungscreen.cli.main import main
from lungscreen.config import packaged_folder, read_table, read_toml
from lungscreen.errors import InputError, LungscreenError, UsageError, WeightsError
from lungscreen.phantom import sized
from lungscreen.training.classifier.data import Cubes
from lungscreen.training.classifier.recipe import ClassifierSplit
from lungscreen.training.second_look import places as places_module
from lungscreen.training.second_look import run, train
from lungscreen.training.second_look.places import Places, join_places, mine_cubes, mine_phantoms
from lungscreen.training.second_look.recipe import Mining, SecondLookTraining
from lungscreen.training.second_look.run import make_second_look, sides_of
from lungscreen.training.second_look.train import choose_threshold, rate_places, train_second_look
from lungscreen.weights import find_weights, load_tensors

SPLIT = ClassifierSplit(("2",), ("9",), ("P3",))
RECIPE = SecondLookTraining(SPLIT, widths=(8, 8, 8), patch=24, steps=30, made=0.0, rate=1e-2, ema=0.8, save_every=15)


class BrightDetector:
    """Marks the brightest voxel of each eighth of what it is given."""

    spacing_mm = 1.0

    def __init__(self, scores: tuple[float, float] = (0.1, 0.2)) -> None:
        self.scores = scores

    def find_marks(self, hu: np.ndarray, where: np.ndarray | None) -> np.ndarray:
        marks = []
        half = [n // 2 for n in hu.shape]
        seen = hu if where is None else np.where(where, hu, -2000)
        for corner in np.ndindex(2, 2, 2):
            part = tuple(slice(c * h, c * h + h) for c, h in zip(corner, half, strict=True))
            at = np.unravel_index(np.argmax(seen[part]), seen[part].shape)
            marks.append([*(p.start + a for p, a in zip(part, at, strict=True)), 4.0, self.scores[corner[0]]])
        return np.array(marks, dtype=np.float32)


def write_others(folder: Path, rows: list[tuple[str, str, float, float, float, float]]) -> None:
    with (folder / "cubes" / "others.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("cube", "kind", "z", "y", "x", "diameter_mm"), *rows])


# -- where false marks are looked for --------------------------------------------------------------------------------
def test_false_marks_lie_away_from_all_that_was_annotated(tmp_path: Path) -> None:
    """A bright spot is a false mark, unless it is annotated, at the cube's face, or in a cube that is not placed."""
    cubes = cubes_of(3)
    for n in range(3):
        cubes.hu[n, 12, 12, 12] = cubes.hu[n, 36, 38, 37] = cubes.hu[n, 2, 40, 12] = 300
    write_others(write_cubes(cubes, tmp_path), [("c1", "excluded", 12, 12, 12, -1.0)])
    table = tmp_path / "cubes" / "cubes.csv"
    table.write_text(table.read_text().replace("c2,1.2.2,P2,9,yes", "c2,1.2.2,P2,9,no"))
    places = mine_cubes(tmp_path, cubes, [BrightDetector()], Mining(most=(4, 4), spots=(0, 0)))
    false = ~places.nodule
    spots = {(places.names[n], *places.centres[n].astype(int)) for n in np.flatnonzero(false)}
    assert ("c0", 12, 12, 12) in spots
    assert {("c0", 36, 38, 37), ("c1", 36, 38, 37)} <= spots
    assert ("c1", 12, 12, 12) not in spots
    assert not any(name == "c2" or z == 2 for name, z, _, _ in spots)
    assert places.nodule[:3].all()
    assert places.score[false].min() > 0
    for n in np.flatnonzero(false):
        cube = places.cube[n]
        assert not cubes.masks[cube][tuple(places.centres[n].astype(int))]


def test_of_two_detectors_the_higher_score_stays_and_weak_marks_do_not_count(tmp_path: Path) -> None:
    cubes = cubes_of(1)
    cubes.hu[0, 12, 12, 12] = 300
    write_others(write_cubes(cubes, tmp_path), [])
    both = [BrightDetector((0.3, 0.04)), BrightDetector((0.6, 0.04))]
    places = mine_cubes(tmp_path, cubes, both, Mining(spots=(0, 0)))
    at = np.flatnonzero((places.centres == 12).all(axis=1))
    assert places.score[at].tolist() == [pytest.approx(0.6)]
    assert set(places.score[~places.nodule].round(3)) == {np.float32(0.6).round(3)}


def test_dense_places_join_the_marks_and_count_as_weak(tmp_path: Path) -> None:
    """A vessel that no detector marked is none of the nodules either."""
    cubes = cubes_of(1)
    cubes.hu[0, 36, 10:16, 36:40] = 100
    write_others(write_cubes(cubes, tmp_path), [])
    places = mine_cubes(tmp_path, cubes, [BrightDetector((0.01, 0.01))], Mining(spots=(1, 0)))
    assert places.score.max() == 0
    spot = places.centres[~places.nodule]
    assert spot.shape == (1, 3)
    assert np.abs(spot[0] - (36, 12.5, 37.5)).max() <= 2


def test_a_bump_of_the_wall_is_a_large_dense_place(tmp_path: Path) -> None:
    """A hill of fat on the chest wall, far wider than a vessel, is found at the larger scale."""
    cubes = cubes_of(1)
    z, y, x = np.meshgrid(*[np.arange(50)] * 3, indexing="ij")
    hill = ((z - 34) ** 2 + (y - 34) ** 2) / 49 + (x - 41) ** 2 / 144 <= 1
    cubes.hu[0][hill | (x > 38)] = -100
    write_others(write_cubes(cubes, tmp_path), [])
    places = mine_cubes(tmp_path, cubes, [BrightDetector((0.01, 0.01))], Mining(spots=(0, 1)))
    spot = places.centres[~places.nodule]
    assert spot.shape == (1, 3)
    assert np.abs(spot[0] - (34, 34, 37)).max() <= 4


def test_phantoms_give_nodules_and_the_marks_of_one_detector_in_turn() -> None:
    """Nodules have their sizes, marks their scores; both lie in the middle of a cube."""
    detectors = [BrightDetector(), BrightDetector((0.5, 0.5))]
    places = mine_phantoms([71, 72], detectors, Mining(most=(8, 5)), nodules=2, size="tiny")
    assert places.made.all()
    assert not places.outlined.any()
    assert 1 <= places.nodule.sum() <= 4
    assert (places.diameter_mm[places.nodule] >= 4).all()
    assert (places.score[places.nodule] == 0).all()
    second = np.array([name == "phantom 72" for name in places.names])
    assert set(places.score[second & ~places.nodule]) == {0.5}
    assert 1 <= (second & ~places.nodule).sum() <= 5
    assert {round(float(score), 3) for score in places.score[~second & ~places.nodule]} <= {0.1, 0.2}
    middle = places.hu[:, 23:27, 23:27, 23:27].max(axis=(1, 2, 3))
    assert (middle[places.nodule] > -800).all()
    assert (middle[~places.nodule] > 200).all()


def test_tables_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        mine_cubes(write_cubes(cubes_of(1), tmp_path), cubes_of(1), [BrightDetector()], Mining())
    assert refusal.value.code == "training-data-invalid"


# -- learning --------------------------------------------------------------------------------------------------------
def places_of(cubes: Cubes, other: tuple[int, int, int]) -> Places:
    """The cubes' nodules, and a place beside each that is none."""
    count = len(cubes.names)
    return Places(
        cubes.hu,
        cubes.masks,
        np.tile(np.arange(count), 2),
        np.concatenate([cubes.centres, np.tile(np.array(other, np.float32), (count, 1))]),
        np.arange(2 * count) < count,
        np.arange(2 * count) < count,
        np.zeros(2 * count, np.float32),
        np.concatenate([cubes.diameter_mm, np.zeros(count, np.float32)]),
        cubes.names * 2,
        np.zeros(2 * count, dtype=bool),
    )


def test_the_second_look_learns_to_tell_a_nodule_from_none(tmp_path: Path) -> None:
    """Balls are told from empty places of cubes that were not learned from; a run that was stopped ends at the same
    weights.
    """
    places = places_of(cubes_of(16), (10, 12, 38))
    train = np.flatnonzero(places.cube < 12)
    network = train_second_look(RECIPE, places, train)
    unseen = np.flatnonzero(places.cube >= 12)
    after = rate_places([network], places, unseen, 24)
    assert after[places.nodule[unseen]].min() > after[~places.nodule[unseen]].max()
    with pytest.raises(UsageError, match="both"):
        train_second_look(RECIPE, places, train[places.nodule[train]])
    kept, said = tmp_path / "second_look.pt", []

    class StoppedError(Exception):
        pass

    def stop(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            raise StoppedError

    with pytest.raises(StoppedError):
        train_second_look(RECIPE, places, train, kept, stop)
    again = train_second_look(RECIPE, places, train, kept, said.append)
    assert [line.split(":")[0] for line in said] == [f"second look, step {n}/30" for n in (15, 30, 30)]
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(UsageError, match="another recipe"):
        train_second_look(replace(RECIPE, seed=1), places, train, kept)
    with pytest.raises(UsageError, match="another recipe"):
        train_second_look(RECIPE, places, train[1:], kept)


def test_made_places_are_drawn_too_and_a_loss_that_is_no_number_stops_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With every place made, or some: both halves come from them; without an outline only the answer is learned."""
    places = places_of(cubes_of(4), (10, 12, 38))
    made = replace(places, made=np.ones(8, dtype=bool), outlined=np.zeros(8, dtype=bool))
    both = join_places(places, made)
    short = replace(RECIPE, steps=2, save_every=2)
    for some, learned in ((made, np.arange(8)), (both, np.arange(16))):
        network = train_second_look(replace(short, made=0.5), some, learned)
        assert all(torch.isfinite(value).all() for value in network.state_dict().values())
    monkeypatch.setattr(train, "OUTLINE_WEIGHT", float("inf"))
    with pytest.raises(WeightsError) as refusal:
        train_second_look(short, places, np.arange(8))
    assert refusal.value.code == "training-diverged"


def test_faint_nodules_are_drawn_more_often_and_strong_false_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One nodule of two is ground-glass, one mark of two strong: both make up most of what is learned from."""
    places = places_of(cubes_of(2), (10, 12, 38))
    places.hu[0][places.masks[0]] = -650
    places.score[2:] = (0.8, 0.08)
    drawn: list[int] = []
    real = train._draw_places

    def watched(*given: Any) -> np.ndarray:
        chosen = real(*given)
        drawn.extend(chosen)
        return chosen

    monkeypatch.setattr(train, "_draw_places", watched)
    config = replace(RECIPE, steps=60, widths=(2, 2, 2), faint=9.0, strong=1.0)
    train_second_look(config, places, np.arange(4))
    count = np.bincount(drawn, minlength=4)
    assert count[:2].sum() == count[2:].sum() == 240
    assert count[0] / 240 == pytest.approx(0.9, abs=0.06)
    assert count[2] / 240 == pytest.approx(0.8 / 0.88, abs=0.06)


def test_the_threshold_keeps_the_share_asked_for() -> None:
    probability = np.linspace(0.01, 1.0, 100)
    for share, lost in ((1.0, 0), (0.99, 1), (0.955, 4)):
        assert (probability < choose_threshold(probability, share)).sum() == lost


# -- the run ---------------------------------------------------------------------------------------------------------
def test_a_run_from_the_command_line_gives_the_classifier_another_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rates and outlines stays; the new answer is the network's that was trained; the run goes on where it
    stands.
    """
    cubes = cubes_of(16)
    data = write_cubes(cubes, tmp_path / "data")
    write_others(data, [])
    monkeypatch.setattr(run, "load_detector", lambda _: BrightDetector())
    monkeypatch.setattr(places_module, "sized", lambda _, **options: sized("tiny", **options))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "steps = 2\npatch = 24\nwidths = [4, 4, 8]\n"
        '[split]\ntrain_subsets = ["2"]\nchoice_subsets = ["9"]\nheld_out_patients = ["P3"]\n'
        "[mining]\nphantoms = [71]\nheld_out_phantoms = [72]\n"
    )
    out = tmp_path / "out"
    words = ["train", "second-look", "--config", str(recipe), "--data", str(data), "--out", str(out)]
    assert main(words) == 0
    with (out / "second_look.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    use = {row["cube"]: row["use"] for row in rows}
    assert (use["c3"], use["c0"], use["c15"]) == ("held out", "learned", "choice")
    assert (use["phantom 71"], use["phantom 72"]) == ("learned", "held out")
    shipped, made = find_weights("classifier"), find_weights("classifier", out / "weights")
    before, after = load_tensors(shipped), load_tensors(made)
    kept = [key for key in before if not key.startswith("second_look.")]
    assert kept
    assert all(torch.equal(before[key], after[key]) for key in kept)
    assert made.parameters["calibration"] == shipped.parameters["calibration"]
    real = [row for row in rows if row["nodule"] == "1" and row["use"] == "learned" and row["cube"] in cubes.names]
    learned = [float(row["probability"]) for row in real]
    assert 0 < made.parameters["no_nodule_below"] <= min(learned)
    classifier = load_classifier(made)
    size = classifier.patch_size
    hu = np.random.default_rng(0).normal(-500, 200, (2, size, size, size)).astype(np.float32)
    answers = classifier.rate(scale_hu(hu))
    assert answers.nodule is not None
    edge = (size - 24) // 2
    hu[:, :edge] = 0
    assert np.array_equal(classifier.rate(scale_hu(hu)).nodule, answers.nodule)
    hu[:, edge : edge + 8] = 0
    assert not np.array_equal(classifier.rate(scale_hu(hu)).nodule, answers.nodule)
    monkeypatch.setattr(run, "mine_places", None)
    first = load_file(made.path)
    assert main(words) == 0
    assert all(torch.equal(value, first[key]) for key, value in load_file(made.path).items())


def test_runs_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run's places, damaged places, a person on both sides, nobody to choose on."""
    cubes = cubes_of(16)
    data = write_cubes(cubes, tmp_path / "data")
    write_others(data, [])
    monkeypatch.setattr(run, "load_detector", lambda _: BrightDetector())
    config, weights, out = replace(RECIPE, steps=1), find_weights("classifier"), tmp_path / "out"
    with pytest.raises(UsageError, match="no nodules"):
        make_second_look(replace(config, split=replace(SPLIT, choice_subsets=("7",))), data, weights, out)
    with pytest.raises(UsageError, match="other data or detectors"):
        make_second_look(replace(config, mining=Mining(spots=(1, 0))), data, weights, out)
    (out / "places.npz").write_bytes(b"no places")
    with pytest.raises(LungscreenError) as refusal:
        make_second_look(config, data, weights, out)
    assert refusal.value.code == "training-data-invalid"
    both = replace(cubes, persons=("P0",) * len(cubes.names))
    with pytest.raises(UsageError, match="1 persons"):
        sides_of(config, both, places_of(both, (10, 12, 38)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 3},
        {"made": 1.0},
        {"sensitivity": 0.0},
        {"strong": -1.0},
        {"faint": 0.0},
        {"patch": 16},
        {"widths": (2, 2)},
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(RECIPE, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [{"phantoms": (1,), "held_out_phantoms": (1,)}, {"least": (0.0, 0.1)}, {"most": (0, 1)}, {"spots": (-1, 0)}],
)
def test_a_search_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|held out"):
        Mining(**wrong)  # type: ignore[arg-type]


def test_the_shipped_recipe_keeps_the_test_data_out() -> None:
    """Nobody of subset 1 or of the whole test scans is learned from or chosen on; nobody is on both sides."""
    recipe = packaged_folder("pipelines") / "train_second_look.toml"
    config = read_table(SecondLookTraining, read_toml(recipe), "train_second_look")
    assert not {*config.split.train_subsets, *config.split.choice_subsets} & {"0", "1", "5"}
    assert set(config.split.held_out_patients) == {f"LIDC-IDRI-{n:04d}" for n in (1, 3, 4, 5, 7, 63)}
    assert not {*config.mining.phantoms, *config.mining.held_out_phantoms} & set(range(900, 950))
    assert_nobody_is_on_two_sides(config.split)

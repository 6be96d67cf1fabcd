"""Training the second look: what is surely no nodule, what is set in, learning and going on, curves, the run."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from small_cubes import assert_nobody_is_on_two_sides, cubes_of, write_cubes

from lungscreen.classify import load_second_look
from lungscreen.classify.second_look import ScoreScale
from lungscreen.classify.two_views import TwoViews, TwoViewsConfig
from lungscreen.cli.main import main
from lungscreen.config import packaged_folder, read_table, read_toml
from lungscreen.errors import InputError, LungscreenError, UsageError
from lungscreen.operating_points import OPERATING_POINTS
from lungscreen.phantom import sized
from lungscreen.training.second_look import chests, run
from lungscreen.training.second_look.calibrate import Answered, choose
from lungscreen.training.second_look.chests import KINDS, WholeChest, draw_chest, find_places
from lungscreen.training.second_look.cubes import CubePlaces, find_cube_places
from lungscreen.training.second_look.hardness import HIGHEST, score_by_look
from lungscreen.training.second_look.insertion import BOX, LungBox, SourceNodule, cut_box, set_in_mass, set_in_nodule
from lungscreen.training.second_look.recipe import Mining, SampleShares, SecondLookSplit, SecondLookTraining
from lungscreen.training.second_look.run import make_second_look
from lungscreen.training.second_look.samples import Deck, draw_samples
from lungscreen.training.second_look.train import train_second_look
from lungscreen.weights import find_weights

SPLIT = SecondLookSplit(("2",), ("9",), ("P3",), phantoms=(71,))
VIEWS = TwoViewsConfig((8, 8, 8), (8, 8, 8), 24, 24, 8)
RECIPE = SecondLookTraining(SPLIT, network=VIEWS, steps=12, batch=8, rate=2e-3, ema=0.8, save_every=6)
FEW = Mining(scan_marks=8, scan_spots=(20, 20), scan_places=10)


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


def cube_places(folder: Path, count: int, mining: Mining, *detectors: BrightDetector) -> CubePlaces:
    cubes = cubes_of(count)
    return find_cube_places(folder, cubes, np.arange(count), detectors, mining, SampleShares())


# -- cubes -----------------------------------------------------------------------------------------------------------
def test_false_marks_lie_away_from_all_that_was_annotated(tmp_path: Path) -> None:
    """A bright spot is a false mark, unless it is annotated, at the cube's face, or in a cube that is not placed."""
    cubes = cubes_of(3)
    for n in range(3):
        cubes.hu[n, 12, 12, 12] = cubes.hu[n, 36, 38, 37] = cubes.hu[n, 2, 40, 12] = 300
    write_others(write_cubes(cubes, tmp_path), [("c1", "excluded", 12, 12, 12, -1.0)])
    table = tmp_path / "cubes" / "cubes.csv"
    table.write_text(table.read_text().replace("c2,1.2.2,P2,9,yes", "c2,1.2.2,P2,9,no"))
    mining = Mining(cube_marks=4, cube_spots=(0, 0))
    places = find_cube_places(tmp_path, cubes, np.arange(3), [BrightDetector()], mining, SampleShares())
    false = np.flatnonzero(~places.nodule)
    spots = {(int(places.of[n]), *(int(v) for v in places.at[n])) for n in false}
    assert {(0, 12, 12, 12), (0, 36, 38, 37), (1, 36, 38, 37)} <= spots
    assert (1, 12, 12, 12) not in spots
    assert not any(cube == 2 or z == 2 for cube, z, _, _ in spots)
    assert places.nodule[:3].all()
    assert places.score[false].min() > 0


def test_of_two_detectors_the_higher_score_stays_and_weak_marks_do_not_count(tmp_path: Path) -> None:
    cubes = cubes_of(1)
    cubes.hu[0, 12, 12, 12] = 300
    write_others(write_cubes(cubes, tmp_path), [])
    both = [BrightDetector((0.3, 0.01)), BrightDetector((0.6, 0.01))]
    places = find_cube_places(tmp_path, cubes, np.arange(1), both, Mining(cube_spots=(0, 0)), SampleShares())
    at = np.flatnonzero((places.at == 12).all(axis=1))
    assert places.score[at].tolist() == [pytest.approx(0.6)]
    assert set(places.score[~places.nodule].round(3)) == {np.float32(0.6).round(3)}


def test_a_bump_of_the_wall_is_a_large_dense_place(tmp_path: Path) -> None:
    """A hill of fat on the chest wall, far wider than a vessel, is found at the larger scale, whoever marked it."""
    cubes = cubes_of(1)
    z, y, x = np.meshgrid(*[np.arange(50)] * 3, indexing="ij")
    hill = ((z - 34) ** 2 + (y - 34) ** 2) / 49 + (x - 41) ** 2 / 144 <= 1
    cubes.hu[0][hill | (x > 38)] = -100
    write_others(write_cubes(cubes, tmp_path), [])
    mining = Mining(cube_spots=(0, 1))
    places = find_cube_places(tmp_path, cubes, np.arange(1), [BrightDetector((0.01, 0.01))], mining, SampleShares())
    spot = places.at[~places.nodule]
    assert spot.shape == (1, 3)
    assert np.abs(spot[0] - (34, 34, 37)).max() <= 4
    assert places.score.max() == 0


def test_tables_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    write_cubes(cubes_of(1), tmp_path)
    with pytest.raises(InputError) as refusal:
        cube_places(tmp_path, 1, Mining(), BrightDetector())
    assert refusal.value.code == "training-data-invalid"


def test_rare_nodules_are_drawn_more_often() -> None:
    """Faint ones three times as often as others."""
    cubes = cubes_of(4)
    cubes.hu[2][cubes.masks[2]] = -650
    count = len(cubes.names)
    nothing, sure = np.zeros(count, np.float32), np.ones(count, bool)
    places = CubePlaces(cubes, SampleShares(), np.arange(count), cubes.centres, sure, nothing)
    rng, drawn = np.random.default_rng(0), np.zeros(count)
    for _ in range(800):
        at = places.draw(rng, nodule=True)[0]
        drawn[np.flatnonzero((cubes.centres == at).all(axis=1))[0]] += 1
    assert 2 < drawn[2] / drawn[3] < 4.5


def test_sizes_and_densities_come_more_evenly_where_asked() -> None:
    """One large nodule among many small ones: with `even` it is drawn, and set in elsewhere, more often."""
    cubes = cubes_of(40)
    grown = np.argwhere(np.ones((50,) * 3)).reshape(50, 50, 50, 3) - cubes.centres[5]
    cubes.masks[5] = np.linalg.norm(grown, axis=-1) < 9
    count = len(cubes.names)
    nothing, sure = np.zeros(count, np.float32), np.ones(count, bool)
    drawn, set_in = {}, {}
    for even in (0.0, 1.0):
        shares = SampleShares(even=even, faint=1.0, large=1.0, part_solid=1.0)
        places = CubePlaces(cubes, shares, np.arange(count), cubes.centres, sure, nothing)
        rng = np.random.default_rng(0)
        drawn[even] = sum(places.draw(rng, nodule=True)[3] > 17 for _ in range(1200))
        set_in[even] = sum(places.draw_source(rng).diameter_mm > 17 for _ in range(1200))
    for often in (drawn, set_in):
        assert 15 < often[0.0] < 60
        assert often[1.0] > 1.5 * often[0.0]


# -- chests ----------------------------------------------------------------------------------------------------------
def chest_of(*, sure: bool) -> WholeChest:
    """A box of lung with tissue around; a nodule, and dense places inside and outside the lung."""
    hu = np.full((80, 80, 80), 40, np.int16)
    lung = np.zeros(hu.shape, bool)
    lung[12:68, 12:68, 12:68] = True
    hu[lung] = -850
    for place in ((30, 30, 30), (50, 50, 50)):
        hu[tuple(slice(p - 3, p + 4) for p in place)] = 60
    hu[40, 40, 7] = 900
    return WholeChest("c", hu, lung, ((30.0, 30.0, 30.0, 7.0),), (), sure, False, np.empty((0, 6), np.float32))


def test_what_lies_in_the_lungs_of_an_unsure_scan_is_left_out() -> None:
    """Outside them it is surely no nodule, whoever annotated the scan."""
    for sure in (True, False):
        chest = chest_of(sure=sure)
        places = find_places(chest, [BrightDetector()], FEW)
        assert len(places)
        assert np.linalg.norm(places[:, :3] - (30, 30, 30), axis=1).min() > 6
        inside = [bool(chest.lung[tuple(np.rint(p).astype(int))]) for p in places[:, :3]]
        dense = np.linalg.norm(places[:, :3] - (50, 50, 50), axis=1).min() < 4
        assert dense == sure
        assert any(inside) == sure
        assert not all(inside)
        assert set(places[:, 4]) <= set(range(len(KINDS)))


def test_a_run_may_close_the_lungs_further_than_the_product_does(monkeypatch: pytest.MonkeyPatch) -> None:
    closings = []
    real = chests.propose_masses
    monkeypatch.setattr(chests, "propose_masses", lambda *a: closings.append(a[2].closing_mm) or real(*a))
    for mining in (FEW, replace(FEW, closing_mm=22.0)):
        find_places(chest_of(sure=True), [BrightDetector()], mining)
    assert closings == [16.0, 22.0]


def test_balls_far_outside_the_lungs_are_places_too() -> None:
    """Where the closed lungs reach, however far that is from the lungs themselves; nothing else from there."""
    chest = chest_of(sure=True)
    chest.lung[:, :, 36:] = False
    chest.hu[:, :, 36:] = 40
    away = chests._outside_mm(chest.lung)
    kept = chests._Kept(chest, away, near_mm=12.0)
    for kind in ("ball", "mark"):
        kept.add((40, 40, 60), KINDS.index(kind), radius=7.0)
        kept.add((60, 60, 40), KINDS.index(kind))
    assert [row[:3] for row in kept.rows] == [[40, 40, 60], [60, 60, 40]]


def test_places_of_a_phantom_lie_away_from_its_nodules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chests, "sized", lambda _, **options: sized("tiny", **options))
    chest = draw_chest(71, [BrightDetector()], FEW, nodules=2)
    assert chest.made
    assert chest.sure
    assert chest.nodules
    for *centre, size in chest.nodules:
        assert np.linalg.norm(chest.places[:, :3] - centre, axis=1).min() > size / 2 + 5.9
        assert chest.hu[tuple(np.rint(centre).astype(int))] > -800


# -- what is set in --------------------------------------------------------------------------------------------------
def lung_box() -> LungBox:
    """Lung, beyond a wall of tissue with a rib in it."""
    hu = np.full((BOX,) * 3, -850, np.float32)
    lung = np.ones(hu.shape, bool)
    hu[:, :, 60:], lung[:, :, 60:] = 40, False
    hu[40:56, 40:56, 62:70] = 700
    return LungBox(hu, np.zeros(hu.shape, bool), lung)


@pytest.mark.parametrize("seed", range(6))
def test_a_mass_fills_lung_and_spares_bone(seed: int) -> None:
    place = lung_box()
    assert set_in_mass(np.random.default_rng(seed), place, 20.0)
    assert place.mask[BOX // 2, BOX // 2, BOX // 2]
    assert place.mask.sum() > 4000
    inside = place.mask & place.lung
    assert np.median(place.hu[inside]) > -150
    assert (place.hu[40:56, 40:56, 62:70] >= 700).all()
    assert not place.mask[40:56, 40:56, 62:70].any()


def test_a_nodule_is_enlarged_and_one_that_would_be_hidden_is_not_set_in() -> None:
    cubes = cubes_of(2)
    source = SourceNodule(cubes.hu[1], cubes.masks[1], 12.0)
    place = lung_box()
    assert set_in_nodule(np.random.default_rng(0), place, source, 3.0, solid=True)
    size = (6 * place.mask[:, :, :60].sum() / math.pi) ** (1 / 3)
    assert 25 < size < 42
    tissue = LungBox(np.full((BOX,) * 3, 60, np.float32), np.zeros((BOX,) * 3, bool), np.ones((BOX,) * 3, bool))
    before = tissue.hu.copy()
    assert not set_in_nodule(np.random.default_rng(0), tissue, source, 1.0)
    assert (tissue.hu == before).all()


def test_a_box_beyond_the_array_goes_on_with_its_edge() -> None:
    array = np.arange(27).reshape(3, 3, 3)
    assert cut_box(array, np.array([0, 0, 0]), 4)[:2, :2, :2].tolist() == [[[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert cut_box(array, np.array([2, 2, 2]), 4)[3, 3, 3] == 26


# -- samples and learning --------------------------------------------------------------------------------------------
def deck_of(views: TwoViewsConfig = VIEWS) -> Deck:
    cubes = cubes_of(8)
    count = len(cubes.names)
    of = np.tile(np.arange(count), 2)
    at = np.concatenate([cubes.centres, np.tile(np.array([[10, 12, 38]], np.float32), (count, 1))])
    places = CubePlaces(cubes, SampleShares(), of, at, np.arange(2 * count) < count, np.zeros(2 * count, np.float32))
    chest = chest_of(sure=True)
    found = replace(chest, places=find_places(chest, [BrightDetector()], FEW))
    return Deck(places, (found,), (replace(found, made=True),), SampleShares(), views)


def test_a_step_has_its_own_batch_half_of_it_nodules() -> None:
    deck = deck_of()
    first, again, other = (draw_samples(deck, 16, 0, step) for step in (3, 3, 4))
    assert torch.equal(first.close, again.close)
    assert torch.equal(first.wide, again.wide)
    assert not torch.equal(first.close, other.close)
    assert first.nodule.tolist() == [1.0, 0.0] * 8
    assert not first.outlined[1::2].any()
    assert first.close.shape == (16, 1, 24, 24, 24)
    assert first.wide_mask.shape == (16, 1, 24, 24, 24)
    assert first.close.min() >= 0
    assert first.close.max() <= 1
    middle = first.close_mask[first.outlined][:, 0, 10:14, 10:14, 10:14].amax((1, 2, 3))
    assert (middle > 0.5).float().mean() > 0.8, "the nodule is near the middle"


def test_sharp_kernels_raise_fine_detail_only() -> None:
    """The same samples, all of them sharpened: neighbouring voxels differ more, the mean stays."""
    deck = deck_of()
    plain = draw_samples(deck, 16, 0, 0)
    sharp = draw_samples(replace(deck, shares=replace(deck.shares, sharp=1.0)), 16, 0, 0)
    for seen, before in ((sharp.close, plain.close), (sharp.wide, plain.wide)):
        assert seen.diff(dim=-1).abs().mean() > 1.05 * before.diff(dim=-1).abs().mean()
        assert seen.mean() == pytest.approx(float(before.mean()), abs=0.05)
    assert torch.equal(sharp.close_mask, plain.close_mask)


class SureOfMiddle(TwoViews):
    """Takes everything whose middle is bright for a nodule."""

    def forward(self, close: torch.Tensor, wide: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        middle = close[:, 0, 8:16, 8:16, 8:16].mean((1, 2, 3))
        return 200 * (middle - 0.2), close, wide


def test_what_earlier_weights_took_for_nodules_counts_as_if_a_detector_had_scored_it() -> None:
    """Marks and balls that are none, up to a limit; neither nodules nor dense places that nothing marked."""
    deck = deck_of()
    cubes = deck.cubes
    false = np.flatnonzero(~cubes.nodule)
    bright, dark, unmarked = false[:3]
    score = cubes.score.copy()
    score[[bright, dark]] = 0.05
    for n in (bright, unmarked):
        cubes.cubes.hu[cubes.of[n], 4:17, 6:19, 32:45] = 60
    cubes.cubes.hu[cubes.of[dark], 4:17, 6:19, 32:45] = -900
    rows = np.array([[50, 50, 50, 0.1, KINDS.index("mark"), 0], [50, 50, 50, 0, KINDS.index("small spot"), 0]])
    chest = replace(deck.scans[0], places=rows.astype(np.float32))
    empty = replace(chest, places=rows[1:].astype(np.float32))
    before = replace(deck, cubes=replace(cubes, score=score), scans=(chest, empty))
    after = score_by_look(before, SureOfMiddle(VIEWS))
    assert after.cubes.score[bright] == pytest.approx(HIGHEST)
    assert after.cubes.score[dark] == pytest.approx(0.05)
    assert after.cubes.score[unmarked] == 0
    assert (after.cubes.score[cubes.nodule] == score[cubes.nodule]).all()
    assert after.scans[0].places[:, 3].tolist() == pytest.approx([HIGHEST, 0])
    assert after.scans[1] is empty
    assert score[bright] == pytest.approx(0.05), "the deck before stays as it was"


def test_it_learns_and_a_run_that_was_stopped_continues_as_if_it_had_not_been(tmp_path: Path) -> None:
    deck, losses = deck_of(), []

    def fresh() -> TwoViews:
        torch.manual_seed(0)
        return TwoViews(VIEWS)

    whole = train_second_look(replace(RECIPE, steps=14), deck, fresh(), "id", None, losses.append)
    first, last = (float(line.rsplit(" ", 1)[1]) for line in (losses[0], losses[-1]))
    assert last < first
    kept = tmp_path / "second_look.pt"

    class StoppedError(Exception):
        pass

    def stop(_: str) -> None:
        if kept.exists():
            raise StoppedError

    with pytest.raises(StoppedError):
        train_second_look(replace(RECIPE, steps=14), deck, fresh(), "id", kept, stop)
    again = train_second_look(replace(RECIPE, steps=14), deck, fresh(), "id", kept)
    for key, value in again.state_dict().items():
        assert torch.equal(value, whole.state_dict()[key]), key
    with pytest.raises(LungscreenError) as refusal:
        train_second_look(RECIPE, deck, fresh(), "another", kept)
    assert refusal.value.code == "config-invalid"


def test_no_steps_leave_what_a_run_begins_with() -> None:
    network = TwoViews(VIEWS)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    after = train_second_look(replace(RECIPE, steps=0), deck_of(), network, "id").state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


# -- curves and points -----------------------------------------------------------------------------------------------
def answered(seed: int, hits: int, false: int, litres: float) -> Answered:
    """Nodules answer high, the others low, with some overlap."""
    rng = np.random.default_rng(seed)
    hit = np.where(np.arange(hits + false) < hits, np.arange(hits + false), -1)
    heat = np.clip(rng.normal(np.where(hit >= 0, 0.6, 0.2), 0.15), 0.01, 0.99)
    return Answered(heat, rng.normal(np.where(hit >= 0, 2.0, -2.0), 1.2), hit, hits, litres)


def test_points_are_scores_with_so_many_false_marks_a_scan() -> None:
    some = [answered(n, 3, 30, 5.0) for n in range(10)]
    chosen = choose(some, (np.array([3.0, 4.0, 2.5]), np.array([-3.0, -2.0, 0.0])), 10)
    scale: ScoreScale = chosen.scale
    scores = np.concatenate([scale.of_marks(a.heat, a.look)[a.hit < 0] for a in some])
    for name, rate in OPERATING_POINTS.items():
        assert (scores > chosen.points[name]).sum() == rate * 10
    assert chosen.doubtful < chosen.points["screening"] < chosen.points["second-reader"]
    assert chosen.sensitivity["screening"] >= chosen.sensitivity["high-specificity"]
    assert min(scale.mark[1:]) >= 0
    assert scale.of_masses(np.array([4.0]))[0] > scale.of_masses(np.array([-3.0]))[0]


def test_the_deciding_score_is_reached_by_19_of_20_nodules_that_matter_and_are_findings() -> None:
    """Those below 6 mm and whole scans' say nothing, and what is no finding anyway neither."""
    some = [replace(answered(n, 1, 6, 5.0), size_mm=8.0) for n in range(100)]
    small = [replace(answered(n, 1, 6, 5.0), size_mm=4.0) for n in range(100, 140)]
    chosen = choose([*some, *small, answered(200, 3, 30, 5.0)], (np.array([3.0]), np.array([-3.0])), 10)
    best = np.array([chosen.scale.of_marks(a.heat, a.look)[a.hit == 0].max() for a in some])
    best = best[best >= chosen.points["screening"]]
    assert (best >= chosen.deciding).mean() == pytest.approx(0.95, abs=0.011)
    assert chosen.deciding > chosen.points["screening"]


def test_a_probability_is_what_a_scan_holds() -> None:
    """Of the marks on 100 scans with 1.34 nodules each, the mean probability is the nodules' share."""
    some = [answered(n, 1, 20, 5.0) for n in range(60)]
    chosen = choose(some, (np.array([3.0]), np.array([-3.0])), 60)
    both = [chosen.scale.of_marks(a.heat, a.look) for a in some]
    hit = np.concatenate([a.hit >= 0 for a in some])
    scores = np.concatenate(both)
    expected = scores[hit].mean() * (1186 / 888) + scores[~hit].sum() / 60
    assert expected == pytest.approx(1186 / 888, rel=0.05)


# -- the run ---------------------------------------------------------------------------------------------------------
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path, list[str]]:
    data = write_cubes(cubes_of(16), tmp_path / "data")
    write_others(data, [])
    monkeypatch.setattr(run, "load_detector", lambda _: BrightDetector())
    monkeypatch.setattr(run, "SET_IN", 4)
    monkeypatch.setattr(chests, "sized", lambda _, **options: sized("tiny", **options))
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        "steps = 2\nbatch = 4\n"
        '[split]\ntrain_subsets = ["2"]\nchoice_subsets = ["9"]\nheld_out_patients = ["P3"]\nphantoms = [71]\n'
        "[network]\nclose = [4, 4, 4]\nwide = [4, 4, 4]\nclose_voxels = 24\nwide_voxels = 24\nhidden = 8\n"
        "[mining]\nscan_marks = 8\nscan_spots = [10, 10]\nscan_places = 5\n"
    )
    out = tmp_path / "out"
    return data, out, ["train", "second-look", "--config", str(recipe), "--data", str(data), "--out", str(out)]


def test_a_run_from_the_command_line_makes_weights_that_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With curves and operating points; it goes on where it stands, and another run can begin with it."""
    _, out, words = small_run(tmp_path, monkeypatch)
    assert main(words) == 0
    made = find_weights("second_look", out / "weights")
    assert set(made.parameters["operating_points"]) == {"screening", "second-reader", "high-specificity"}
    assert 0 < made.parameters["deciding"] < 1
    assert 0 <= made.parameters["doubtful"] <= made.parameters["operating_points"]["screening"] <= 1
    look = load_second_look(made)
    hu: NDArray[np.int16] = np.random.default_rng(0).normal(-500, 200, (60, 60, 60)).astype(np.int16)
    assert 0 < look.rate_marks(hu, np.array([[30, 30, 30, 5, 0.4]], np.float32))[0] < 1
    first = load_file(made.path)
    monkeypatch.setattr(chests, "propose_masses", None)
    assert main(words) == 0, "places are taken as they were found"
    assert all(torch.equal(value, first[key]) for key, value in load_file(made.path).items())


def test_runs_that_cannot_be_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody to choose on, and a person on both sides."""
    data, out, _ = small_run(tmp_path, monkeypatch)
    with pytest.raises(UsageError, match="no cubes or no chests"):
        make_second_look(replace(RECIPE, split=replace(SPLIT, choice_subsets=("7",))), data, out)
    both = replace(cubes_of(16), persons=("P0",) * 16)
    monkeypatch.setattr(run, "read_cubes", lambda _: both)
    with pytest.raises(UsageError, match="1 persons"):
        make_second_look(RECIPE, data, out)


@pytest.mark.parametrize("wrong", [{"batch": 3}, {"steps": -1}, {"rate": 0.0}, {"ema": 1.0}, {"rise": 0.0}])
def test_a_recipe_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        replace(RECIPE, **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"cubes": 1.2}, {"phantoms": 0.6}, {"masses": 0.9}, {"faint": 0.0}])
def test_shares_that_contradict_themselves_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SampleShares(**wrong)


@pytest.mark.parametrize("wrong", [{"least": 0.0}, {"cube_marks": -1}, {"scan_spots": (-1, 0)}])
def test_a_search_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Mining(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "name",
    ["train_second_look", *(f"train_second_look_{part}" for part in ("base", "a", "b", "long_a", "long_b", "long"))],
)
def test_the_shipped_recipes_keep_the_test_data_out(name: str) -> None:
    """Nobody of subset 1 or of the whole test scans is learned from or chosen on; nobody is on both sides."""
    config = read_table(SecondLookTraining, read_toml(packaged_folder("pipelines") / f"{name}.toml"), name)
    assert not {*config.split.train_subsets, *config.split.choice_subsets} & {"0", "1", "5"}
    assert set(config.split.held_out_patients) == {f"LIDC-IDRI-{n:04d}" for n in (1, 3, 4, 5, 7, 63)}
    assert not {"LIDC-IDRI-0001", "LUNG1-003"} & {*config.split.scans, *config.split.choice_scans}
    assert not set(config.split.phantoms) & set(range(900, 950))
    assert_nobody_is_on_two_sides(config.split)

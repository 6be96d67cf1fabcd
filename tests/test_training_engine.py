"""The detector's data engine beyond real nodules: made ones, matched insertion, slices, turns, and its examination."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

torch = pytest.importorskip("torch")

from small_collection import RECIPE_TEXT  # noqa: E402

from lungscreen.cli.main import main  # noqa: E402  (torch first)
from lungscreen.errors import LungscreenError  # noqa: E402
from lungscreen.evaluation import read_nodules, read_series_list  # noqa: E402
from lungscreen.records import NoduleType  # noqa: E402
from lungscreen.training.detector import inserter  # noqa: E402
from lungscreen.training.detector.blocks import Block, NoiseBank, SampleConfig  # noqa: E402
from lungscreen.training.detector.data import Cube, Mark, load_cubes, load_scan, prepare_cubes  # noqa: E402
from lungscreen.training.detector.inserter import Inserter, _face_wall, hollow  # noqa: E402
from lungscreen.training.detector.samples import SampleEngine  # noqa: E402
from lungscreen.training.detector.voxels import ball, thicken  # noqa: E402
from lungscreen.training.insertion.seams import Crop, SeamsConfig, _area, check_seams, write_seams  # noqa: E402
from lungscreen.training.insertion.testset import InsertedSetConfig, write_inserted_set  # noqa: E402

MIDDLE = np.array([25, 25, 25])


def lung_block(noise: float = 20.0, seed: int = 0) -> Block:
    hu = np.random.default_rng(seed).normal(-850, noise, (50, 50, 50)).astype(np.float32)
    return Block(hu, np.zeros(hu.shape, bool), [], [])


def make_inserter(config: SampleConfig | None = None, cube_hu: np.ndarray | None = None) -> tuple[Inserter, Cube]:
    """One source: a ball of 8 mm at a place between voxels, in a cube without noise."""
    voxel = (25.3, 24.6, 25.2)
    mask = ball((50, 50, 50), voxel, 4.0)
    hu = np.full((50, 50, 50), -850, np.int16) if cube_hu is None else cube_hu
    hu = np.where(mask, 40, hu).astype(np.int16)
    cube = Cube(0, "c", "s", "p", "2", True, Mark(voxel, 8.0), 7.0, 5, (), ())
    return Inserter(config or SampleConfig(), hu[None], np.packbits(mask)[None], NoiseBank(0)), cube


# -- made nodules ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", list(inserter.MADE_TYPES))
def test_made_nodules_look_like_their_type(kind: NoduleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """A solid one is tissue, ground-glass a veil, a part-solid one a veil with a core; each as large as its mark
    says.
    """
    monkeypatch.setattr(inserter, "MADE_TYPES", {kind: 1.0})
    rng, (setter, _) = np.random.default_rng(1), make_inserter()
    middles, sizes = [], []
    for n in range(12):
        block = lung_block(seed=n)
        before = block.hu.copy()
        if not setter.insert_made(rng, block, MIDDLE):  # a veil that hardly shows is not set in
            assert kind == NoduleType.GROUND_GLASS
            assert block.nodules == []
            continue
        (mark,) = block.nodules
        middles.append(float(block.hu[ball(block.hu.shape, (25.0, 25.0, 25.0), 1.6)].mean()))
        raised = block.hu - before > (440 if kind == NoduleType.SOLID else 80)
        sizes.append((6 * raised.sum() / np.pi) ** (1 / 3) / mark.diameter_mm)
        if kind == NoduleType.GROUND_GLASS and mark.diameter_mm > 5:
            assert -800 < middles[-1] < -350
    assert len(sizes) >= 6
    assert 0.75 < np.median(sizes) < 1.35
    least = {NoduleType.SOLID: -150, NoduleType.PART_SOLID: -420, NoduleType.GROUND_GLASS: -800}
    assert np.median(middles) > least[kind]


def test_a_vessel_shows_through_ground_glass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inserter, "MADE_TYPES", {NoduleType.GROUND_GLASS: 1.0})
    setter, _ = make_inserter()
    block = lung_block()
    block.hu[:, 24:27, 24:27] = 30
    setter.insert_made(np.random.default_rng(3), block, MIDDLE)
    assert block.hu[:, 25, 25].min() > -50


def test_nothing_is_made_where_it_would_be_hidden() -> None:
    setter, _ = make_inserter()
    block = lung_block()
    block.hu[:] = 60
    before = block.hu.copy()
    assert not setter.insert_made(np.random.default_rng(0), block, MIDDLE, glassy=False)
    assert np.array_equal(block.hu, before)
    assert block.nodules == []


def test_shapes_differ_from_one_another_and_follow_from_the_seed() -> None:
    setter, _ = make_inserter()

    def made(seed: int) -> np.ndarray:
        block = lung_block()
        setter.insert_made(np.random.default_rng(seed), block, MIDDLE)
        return block.hu

    assert np.array_equal(made(5), made(5))
    assert not np.array_equal(made(5), made(6))


def test_the_share_of_made_nodules_is_kept(collection_shards: Path) -> None:
    """1: every nodule that is set in is a made one; the sources are never drawn."""
    engine = engine_of(collection_shards, SampleConfig(made=1.0, insert=0.7, from_mined=0.0))
    engine._sources = []
    rng = np.random.default_rng(0)
    assert sum(len(engine._lung_block(rng).nodules) > 0 for _ in range(30)) > 5


def test_a_made_cavity_is_a_ring_of_at_least_its_least_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Air in the middle, a brighter wall around it, lung outside; however small the shape that was drawn."""
    monkeypatch.setattr(inserter, "MADE_SHAPES", {"ellipsoid": 1.0})
    rng, (setter, _) = np.random.default_rng(2), make_inserter(SampleConfig(cavity=1.0))
    z, y, x = np.indices((50, 50, 50)) - 25
    apart = np.sqrt(z**2 + y**2 + x**2)
    for n in range(8):
        block = lung_block(seed=n)
        assert setter.insert_made(rng, block, MIDDLE)
        (mark,) = block.nodules
        assert mark.diameter_mm >= inserter.HOLLOW_FROM_MM
        radius = mark.diameter_mm / 2
        assert block.hu[apart < 1].mean() < -600
        rim = [block.hu[(apart > r) & (apart < r + 1)].mean() for r in np.arange(0.5 * radius, radius, 0.5)]
        assert max(rim) > block.hu[apart < 1].mean() + 150
        assert abs(block.hu[(apart > 2 * radius + 2) & (apart < 24)].mean() + 850) < 10


def test_cubes_get_another_nodule_at_the_share_that_is_asked_for(collection_shards: Path) -> None:
    plain = engine_of(collection_shards, SampleConfig(cover=0.0))
    more = engine_of(collection_shards, SampleConfig(cover=0.0, insert_in_cubes=1.0))

    def most(engine: SampleEngine) -> int:
        rng = np.random.default_rng(4)
        return max(len(engine._cube_block(rng).nodules) for _ in range(20))

    assert most(more) == most(plain) + 1


# -- matched insertion -----------------------------------------------------------------------------------------------
def test_a_matched_nodule_has_its_places_noise() -> None:
    """Within the nodule as much fine noise as around it; without matching, none."""
    inside = ball((50, 50, 50), (25.0, 25.0, 25.0), 3.0)
    deviation = {}
    for match in (False, True):
        setter, cube = make_inserter(SampleConfig(match=match, synthetic=0.0))
        values = []
        for n in range(8):
            block = lung_block(noise=60.0, seed=n)
            assert setter.insert_real(np.random.default_rng(n), block, MIDDLE, cube, 1.0)
            values.append(block.hu[inside].std())
        deviation[match] = float(np.median(values))
    assert deviation[False] < 15
    assert 25 < deviation[True] < 90


def test_a_matched_nodule_is_not_resampled_and_its_mark_is_between_voxels() -> None:
    setter, cube = make_inserter(SampleConfig(match=True, synthetic=0.0))
    block = lung_block(noise=0.0)
    setter.insert_real(np.random.default_rng(0), block, MIDDLE, cube, 1.0)
    (mark,) = block.nodules
    assert mark.voxel == pytest.approx((25.3, 24.6, 25.2))
    assert {-850.0, 40.0} == set(np.unique(block.hu[20:31, 20:31, 20:31]).round()) or len(np.unique(block.hu)) < 40
    assert np.argwhere(block.hu > -100).mean(0) == pytest.approx(mark.voxel, abs=0.25)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_nodule_turns_to_the_wall_of_its_new_place(axis: int, side: int) -> None:
    """Its own wall lay in the axial plane: it comes to lie there, or stays where the place's wall is along the body."""
    hu = np.full((25, 25, 25), -850, np.float32)
    hu[:, :, 18:] = 40
    mask = ball(hu.shape, (12.0, 12.0, 12.0), 3.0)
    ground = np.full((25, 25, 25), -850, np.float32)
    wall = [slice(None)] * 3
    wall[axis] = slice(18, None) if side > 0 else slice(0, 7)
    ground[tuple(wall)] = 40
    turned, same, moved = _face_wall(hu, mask, np.array([0.0, 0.0, 0.4]), ground)
    assert same.sum() == mask.sum()
    if axis:
        assert np.array_equal(turned > 0, ground > 0)
        expected = np.zeros(3)
        expected[axis] = 0.4 * side
        assert moved == pytest.approx(expected)


# -- augmentation ----------------------------------------------------------------------------------------------------
def test_thick_slices_average_along_the_body_only() -> None:
    """A sheet of 1 mm keeps its sum and is as wide as the slice; what is the same all along stays."""
    hu = np.zeros((48, 6, 6), np.float32)
    hu[24] = 100
    for first in (-1.0, 0.3):
        thick = thicken(hu, 4.0, 4.0, first)
        assert thick[:, 0, 0].sum() == pytest.approx(100, rel=0.02)
        assert 12 < thick.max() <= 26
    plain = np.broadcast_to(np.arange(6, dtype=np.float32), (48, 6, 6)).copy()
    assert np.allclose(thicken(plain, 3.3, 2.1, 0.4), plain, atol=1e-4)
    ramp = np.broadcast_to(np.arange(48, dtype=np.float32)[:, None, None], (48, 6, 6)).copy()
    assert np.allclose(thicken(ramp, 3.0, 2.0, 0.5)[5:-5], ramp[5:-5], atol=0.2)


def engine_of(shards: Path, config: SampleConfig) -> SampleEngine:
    hu, masks, cubes = load_cubes(shards)
    return SampleEngine(config, hu, masks, cubes[:6], [load_scan(shards, "first")], 5)


def test_marks_come_along_when_a_patch_is_turned(collection_shards: Path) -> None:
    config = SampleConfig(turn_degrees=45, thick=0.5, cover=0.0, decoy=0.0, blur=0.0, noise_hu=0.0, synthetic=0.0)
    engine = engine_of(collection_shards, config)
    rng, seen = np.random.default_rng(1), 0
    for n in range(40):
        hu, targets = engine.sample(rng, cube=n % 2 == 0)
        for k, j, i in np.argwhere(targets[0] == 1):
            centre = np.array([k, j, i]) * 2 + targets[3:6, k, j, i]
            near = (hu > -500) & ball(hu.shape, tuple(centre), float(np.exp(targets[2, k, j, i])) * 0.7)
            assert np.linalg.norm(np.argwhere(near).mean(0) - centre) < 2.5
            seen += 1
    assert seen > 15


def test_options_that_are_off_leave_a_runs_identity() -> None:
    """A recipe that was begun before there were options goes on; one that uses them is another."""
    plain = SampleConfig()
    assert "made" not in plain.settings
    assert "match" not in plain.settings
    assert replace(plain, made=0.2).settings["made"] == 0.2


@pytest.mark.parametrize(
    "wrong",
    [{"made": 1.5}, {"insert_in_cubes": -0.1}, {"thick": -1.0}, {"turn_degrees": 90.0}, {"thick_mm": (4.0, 2.0)}],
)
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SampleConfig(**wrong)


# -- the examination -------------------------------------------------------------------------------------------------
QUICK = SeamsConfig(learned=16, steps=6, batch=8, examined=8, draws=20)


def engines(shards: Path) -> tuple[SampleEngine, SampleEngine]:
    hu, masks, cubes = load_cubes(shards)
    config = SampleConfig(scales=(1.0,), synthetic=0.0)
    one, other = load_scan(shards, "first"), load_scan(shards, "second")
    return SampleEngine(config, hu, masks, cubes[:6], [one], 5), SampleEngine(config, hu, masks, cubes[6:], [other], 6)


def test_the_examination_gives_an_area_for_each_kind_of_host(collection_shards: Path, tmp_path: Path) -> None:
    learn, examine = engines(collection_shards)
    result = check_seams(learn, examine, QUICK)
    assert set(result.hosts) == {"cubes", "scans", "places"}
    for kind, row in result.hosts.items():
        assert 0 <= row["low"] <= row["area"] <= row["high"] <= 1
        assert (row["real"], row["inserted"]) == ((8, 8) if kind == "places" else (1, 8))
    again = check_seams(*engines(collection_shards), QUICK)
    assert again.hosts == result.hosts
    write_seams(result, QUICK, SampleConfig().settings, tmp_path)
    assert json.loads((tmp_path / "seams.json").read_text())["hosts"] == result.hosts
    assert (tmp_path / "seams.png").stat().st_size > 1000


def test_what_gives_insertion_away_is_found(collection_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that leaves a bright dot beside each nodule is caught: an examination that finds nothing would be
    none.
    """
    learn, examine = engines(collection_shards)
    for engine in (learn, examine):
        right = engine.inserter.insert_real

        def wrong(rng: Any, block: Block, centre: Any, *rest: Any, right: Any = right, **more: Any) -> bool:
            done = right(rng, block, centre, *rest, **more)
            z, y, x = (int(v) for v in centre)
            block.hu[z - 6 : z - 3, y - 3 : y + 3, x - 3 : x + 3] = 400
            return bool(done)

        monkeypatch.setattr(engine.inserter, "insert_real", wrong)
    result = check_seams(learn, examine, replace(QUICK, steps=30, batch=12))
    assert result.hosts["cubes"]["area"] > 0.95


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    nothing = np.zeros((1, 1, 1), np.float32)
    real = [Crop(nothing, False, g, s) for g, s in (("a", 0.1), ("b", 0.5))]
    inserted = [Crop(nothing, True, g, s) for g, s in (("c", 0.5), ("d", 0.3))]
    assert _area(real, inserted, QUICK)["area"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)


def test_an_examination_without_small_nodules_is_refused(collection_shards: Path) -> None:
    learn, examine = engines(collection_shards)
    with pytest.raises(LungscreenError) as caught:
        check_seams(learn, examine, replace(QUICK, largest_mm=3.5))
    assert caught.value.code == "training-data-invalid"


@pytest.mark.parametrize("wrong", [{"side": 20}, {"steps": 1}, {"largest_mm": 2.0}, {"rate": 0.0}])
def test_impossible_examinations_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SeamsConfig(**wrong)


def test_the_command_examines_a_recipe(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`lungscreen train seams`: the recipe's split, on prepared data of the same kind as training's."""
    from lungscreen.training import insertion

    monkeypatch.setattr(insertion, "SeamsConfig", lambda seed: replace(QUICK, seed=seed))
    (tmp_path / "recipe.toml").write_text(RECIPE_TEXT)
    words = ["train", "seams", "--config", str(tmp_path / "recipe.toml"), "--data", str(collection)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "seams.json")
    assert set(json.loads((tmp_path / "out" / "seams.json").read_text())["hosts"]) == {"cubes", "scans", "places"}


# -- the test set ----------------------------------------------------------------------------------------------------
def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


INTO_SECOND = InsertedSetConfig(("9",), ("first", "second"), per_image=1, apart_mm=20, seed=3)


def test_an_inserted_set_is_images_with_nodules_where_the_table_says(collection_shards: Path, tmp_path: Path) -> None:
    """Each nodule once, bright at its place by somebody else's reader, and nothing else of the image has changed."""
    done = write_inserted_set(collection_shards, tmp_path, INTO_SECOND)
    assert (done.images, done.nodules, done.left_out, done.too_large) == (2, 2, 0, 0)
    rows = rows_of(tmp_path / "annotations.csv")
    assert {row["seriesuid"] for row in rows} == {"first-01", "second-01"}
    for row in rows:
        image = sitk.ReadImage(str(tmp_path / "images" / f"{row['seriesuid']}.mha"))
        place = [float(row[name]) for name in ("coordX", "coordY", "coordZ")]
        hu = sitk.GetArrayFromImage(image)
        voxel = image.TransformPhysicalPointToIndex(place)[::-1]
        before = load_scan(collection_shards, row["seriesuid"][:-3]).hu
        assert before.shape == hu.shape
        assert hu[voxel] > -200
        assert before[voxel] < -600
        changed = np.argwhere(np.abs(hu.astype(int) - before) > 0)
        assert len(changed) > 50
        assert np.linalg.norm(changed - np.array(voxel), axis=1).max() < float(row["diameter_mm"]) + 8
    assert (tmp_path / "series.csv").read_text().split() == ["seriesuid", "first-01", "second-01"]
    excluded = rows_of(tmp_path / "excluded.csv")
    assert len(excluded) == 3, "the scans' own nodules, and the finding that counts neither way"
    again = tmp_path / "again"
    write_inserted_set(collection_shards, again, INTO_SECOND)
    assert (again / "annotations.csv").read_bytes() == (tmp_path / "annotations.csv").read_bytes()


def test_no_nodule_goes_into_a_scan_of_its_own_patient(collection_shards: Path, tmp_path: Path) -> None:
    """c4 is a cube of the very scan `second`."""
    config = InsertedSetConfig(("2",), ("second",), per_image=3, apart_mm=15)
    done = write_inserted_set(collection_shards, tmp_path, config)
    there = [row["cube"] for row in rows_of(tmp_path / "inserted.csv")]
    assert "c4" not in there
    assert done.left_out >= 1
    assert done.nodules == len(there)


@pytest.mark.parametrize("damage", ["no folder", "a file", "no masks", "no row", "masks", "cube"])
def test_data_without_readable_cubes_are_refused(collection: Path, tmp_path: Path, damage: str) -> None:
    """Whatever `--data` names: one line with a code, and nothing half made."""
    data = tmp_path / "data"
    if damage == "a file":
        data.write_text("x")
    elif damage != "no folder":
        shutil.copytree(collection / "cubes", data / "cubes")
        cube = next((data / "cubes" / "ct").iterdir())
        header = (data / "cubes" / "cubes.csv").read_text().splitlines()[0]
        {
            "no masks": (data / "cubes" / "masks.npz").unlink,
            "no row": lambda: (data / "cubes" / "cubes.csv").write_text(header + "\n"),
            "masks": lambda: (data / "cubes" / "masks.npz").write_bytes(b"PK\3\4 no archive"),
            "cube": lambda: cube.write_bytes(cube.read_bytes()[:40]),
        }[damage]()
    with pytest.raises(LungscreenError) as caught:
        prepare_cubes(data, tmp_path / "out")
    assert caught.value.code == "training-data-invalid"
    assert not (tmp_path / "out").exists()


def test_the_command_makes_what_evaluation_reads(collection: Path, tmp_path: Path) -> None:
    """`lungscreen data insert`, its tables read by those that measure."""
    words = ["data", "insert", str(collection), "--subsets", "9", "--scans", "first", "--out", str(tmp_path)]
    assert main([*words, "--per-image", "2"]) == 0
    nodules = read_nodules(tmp_path / "annotations.csv")
    assert set(nodules.series) == set(read_series_list(tmp_path / "series.csv")) == {"first-01"}
    assert main([*words, "--per-image", "0"]) == 2


@pytest.mark.parametrize(
    "wrong", [{"subsets": ()}, {"scans": ()}, {"per_image": 0}, {"apart_mm": -1.0}, {"largest_mm": 1.0}]
)
def test_impossible_sets_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        InsertedSetConfig(**{"subsets": ("9",), "scans": ("first",), **wrong})


def test_a_set_of_no_nodules_is_refused(collection_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(LungscreenError) as caught:
        write_inserted_set(collection_shards, tmp_path, replace(INTO_SECOND, subsets=("7",)))
    assert caught.value.code == "training-data-invalid"


def test_a_hollow_nodule_keeps_its_wall_and_holds_air() -> None:
    """Solid nodules only, large enough to have a wall; nothing changes outside."""
    z, y, x = np.indices((40, 40, 40)) - 20
    mask = z**2 + y**2 + x**2 < 8**2
    hu = np.where(mask, 30.0, -850.0).astype(np.float32)
    made = hollow(np.random.default_rng(0), hu, mask)
    assert made[20, 20, 20] < -700
    wall = mask & (z**2 + y**2 + x**2 > 7.4**2)
    assert np.median(made[wall]) > -200
    assert np.abs(made - hu)[z**2 + y**2 + x**2 > 10**2].max() < 1
    glass = np.where(mask, -600.0, -850.0).astype(np.float32)
    assert hollow(np.random.default_rng(0), glass, mask) is glass
    small = z**2 + y**2 + x**2 < 3**2
    assert hollow(np.random.default_rng(0), hu, small) is hu

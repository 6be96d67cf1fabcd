"""Training of the detector: the data engine's geometry, the loss, and the whole recipe on made-up data."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_chest import chest  # noqa: E402  (torch first)
from small_collection import RECIPE_TEXT, SPACING_MM, ball, write_table  # noqa: E402

from lungscreen.cli.main import main  # noqa: E402  (torch first)
from lungscreen.config import packaged_folder, read_table, read_toml  # noqa: E402
from lungscreen.detect import detect_nodules, load_detector  # noqa: E402
from lungscreen.detect.network import Architecture, count_flops  # noqa: E402
from lungscreen.errors import LungscreenError, OutputError, UsageError  # noqa: E402
from lungscreen.geometry import Geometry  # noqa: E402
from lungscreen.records import Acquisition, Exam, Patient, Series, Volume  # noqa: E402
from lungscreen.training.detector import measure, train  # noqa: E402
from lungscreen.training.detector.blocks import SampleConfig  # noqa: E402
from lungscreen.training.detector.data import (  # noqa: E402
    Mark,
    load_cubes,
    load_scan,
    prepare_cubes,
    prepare_scans,
)
from lungscreen.training.detector.recipe import DetectorTraining, Schedule, Split, learning_rate  # noqa: E402
from lungscreen.training.detector.samples import MinedMarks, SampleEngine  # noqa: E402
from lungscreen.training.detector.sides import read_sides  # noqa: E402
from lungscreen.training.detector.train import detection_loss, train_detector  # noqa: E402
from lungscreen.training.detector.voxels import beyond, cut_mirrored, make_targets  # noqa: E402
from lungscreen.weights import find_weights, load_tensors  # noqa: E402

SPLIT = Split(("2",), ("9",), ("first", "second", "third"), ("second",))
TINY = Architecture(channels=(4, 6), blocks=(1, 1), head=4, prior=0.01)
RECIPE = DetectorTraining(
    SPLIT,
    Schedule(
        steps=6, batch=2, warmup=2, decay=2, mine_every=4, mine_per_scan=5, measure_every=6, save_every=2, workers=0
    ),
    SampleConfig(patch=32),
    TINY,
    device="cpu",
)


# -- made-up data ----------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def data(collection: Path) -> Path:
    return collection


@pytest.fixture(scope="module")
def shards(collection_shards: Path) -> Path:
    return collection_shards


# -- preparing -------------------------------------------------------------------------------------------------------
def test_cubes_come_back(shards: Path) -> None:
    hu, masks, cubes = load_cubes(shards)
    assert hu.shape == (8, 50, 50, 50)
    assert [c.subset for c in cubes] == ["2"] * 6 + ["9"] * 2
    assert not cubes[3].placed
    assert cubes[0].excluded == (Mark((8.0, 9.0, 10.0), -1.0),)
    assert cubes[2].nodules == (Mark((40.0, 40.0, 40.0), 6.0),)
    inside = np.unpackbits(masks[1])[:125000].reshape(50, 50, 50).astype(bool)
    assert np.allclose(hu[1][inside], 100)
    assert cubes[1].nodule.diameter_mm == pytest.approx(8, abs=0.6)


def test_scans_come_back_at_one_millimetre(shards: Path) -> None:
    """Anisotropic slices in shuffled files: the lesion's voxel is the ball's, and the lungs are the lungs."""
    for name, sure in (("first", True), ("third", False)):
        scan = load_scan(shards, name)
        assert scan.sure == sure
        (lesion,) = scan.lesions
        assert scan.hu[tuple(np.round(lesion.voxel).astype(int))] > 0
        centre = np.argwhere((scan.hu > -300) & ball(scan.hu.shape, lesion.voxel, 8)).mean(0)
        assert np.linalg.norm(centre - lesion.voxel) < 1.0
        assert scan.lung.sum() == pytest.approx((chest() == -850).sum() * np.prod(SPACING_MM), rel=0.1)
    assert len(load_scan(shards, "first").excluded) == 1


def test_training_reads_scans_as_screening_does(data: Path, shards: Path) -> None:
    """The same series, volume and lungs: prepared by `data prepare` from any folder, the scan is the same, bit by
    bit.
    """
    from lungscreen.datasets import find_folder, load_shard, prepare_dataset
    from lungscreen.evaluation import read_nodules

    dataset = find_folder(data / "scans" / "first", read_nodules(data / "lesions.csv"), complete=True)
    (entry,) = prepare_dataset(dataset, data / "elsewhere").shards
    shard, _ = load_shard(data / "elsewhere", entry)
    scan = load_scan(shards, "first")
    assert np.array_equal(shard.hu, scan.hu)
    assert np.array_equal(shard.lung, scan.lung)
    assert np.array_equal(shard.geometry.affine, scan.affine)


def test_preparing_again_does_nothing(data: Path, shards: Path) -> None:
    before = (shards / "first.npz").stat().st_mtime_ns
    prepare_scans(data, shards, ["first"])
    assert (shards / "first.npz").stat().st_mtime_ns == before


def test_shards_of_an_earlier_version_stay(data: Path, shards: Path, tmp_path: Path) -> None:
    """Without an index nothing says what they were made with: a run that was begun with them goes on, and it is
    said.
    """
    for name in ("first.npz", "first.json"):
        (tmp_path / name).write_bytes((shards / name).read_bytes())
    before = (tmp_path / "first.npz").stat().st_mtime_ns
    said: list[str] = []
    prepare_scans(data, tmp_path, ["first"], said.append)
    assert (tmp_path / "first.npz").stat().st_mtime_ns == before
    assert any("earlier version" in line for line in said)
    assert load_scan(tmp_path, "first").name == "first"


def test_a_damaged_shard_is_made_again_and_said(data: Path, shards: Path, tmp_path: Path) -> None:
    prepare_scans(data, tmp_path, ["first"])
    whole = (tmp_path / "first.npz").read_bytes()
    (tmp_path / "first.npz").write_bytes(whole[:-7] + b"nothing")
    with pytest.raises(LungscreenError) as caught:
        load_scan(tmp_path, "first")
    assert caught.value.code == "shard-damaged"
    said: list[str] = []
    prepare_scans(data, tmp_path, ["first"], said.append)
    assert any("shard-remade" in line for line in said)
    assert (tmp_path / "first.npz").read_bytes() == whole


def test_damaged_cubes_are_refused(shards: Path, tmp_path: Path) -> None:
    """A changed label is as bad as a changed voxel."""
    for name in ("cubes.npz", "cubes.json", "cubes.sha256"):
        (tmp_path / name).write_bytes((shards / name).read_bytes())
    text = (tmp_path / "cubes.json").read_text()
    (tmp_path / "cubes.json").write_text(text.replace('"subset": "9"', '"subset": "2"'))
    with pytest.raises(LungscreenError) as caught:
        load_cubes(tmp_path)
    assert caught.value.code == "shard-damaged"


@pytest.mark.parametrize(
    ("damage", "code"), [("lesion", "annotation-outside"), ("folder", "input-empty"), ("row", "input-missing")]
)
def test_a_scan_that_cannot_be_prepared_is_said(data: Path, tmp_path: Path, damage: str, code: str) -> None:
    for name in ("tables", "scans.csv"):
        (tmp_path / name).symlink_to(data / name)
    (tmp_path / "scans" / "first").mkdir(parents=True)
    if damage == "lesion":
        (tmp_path / "scans" / "first").rmdir()
        (tmp_path / "scans" / "first").symlink_to(data / "scans" / "first")
    lesion = {"series_uid": "1.2.3.1", "x_mm": 900, "y_mm": 0, "z_mm": 340, "diameter_mm": 10}
    write_table(tmp_path / "lesions.csv", [lesion])
    with pytest.raises(LungscreenError) as caught:
        prepare_scans(tmp_path, tmp_path / "out", ["fourth" if damage == "row" else "first"])
    assert caught.value.code == code


def test_a_cube_whose_nodule_lies_outside_is_said(data: Path, tmp_path: Path) -> None:
    (tmp_path / "cubes").mkdir()
    for path in (data / "cubes").iterdir():
        (tmp_path / "cubes" / path.name).symlink_to(path)
    table = (data / "cubes" / "cubes.csv").read_text().replace("c1,s1,p1,2,yes,25,", "c1,s1,p1,2,yes,55,")
    (tmp_path / "cubes" / "cubes.csv").unlink()
    (tmp_path / "cubes" / "cubes.csv").write_text(table)
    with pytest.raises(LungscreenError) as caught:
        prepare_cubes(tmp_path, tmp_path / "out")
    assert caught.value.code == "annotation-outside"


# -- samples ---------------------------------------------------------------------------------------------------------
def engine_of(shards: Path, config: SampleConfig | None = None) -> SampleEngine:
    hu, masks, cubes = load_cubes(shards)
    scans = [load_scan(shards, name) for name in ("first", "third")]
    return SampleEngine(config or SampleConfig(), hu, masks, cubes[:6], scans, 5)


def test_positives_lie_on_nodules(shards: Path) -> None:
    """After shift, zoom, turns and flips the target's sub-voxel centre lies in something dense, at its middle."""
    config = SampleConfig(cover=0.0, decoy=0.0, blur=0.0, noise_hu=0.0, synthetic=0.0, zoom=0.5)
    engine = engine_of(shards, config)
    rng = np.random.default_rng(1)
    seen = 0
    for n in range(60):
        hu, targets = engine.sample(rng, cube=n % 2 == 0)
        for k, j, i in np.argwhere(targets[0] == 1):
            centre = np.array([k, j, i]) * 2 + targets[3:6, k, j, i]
            assert hu[tuple(np.clip(np.round(centre).astype(int), 0, 47))] > -200
            near = (hu > -400) & ball(hu.shape, tuple(centre), np.exp(targets[2, k, j, i]) * 0.7)
            assert np.linalg.norm(np.argwhere(near).mean(0) - centre) < 2.5
            seen += 1
    assert seen > 30


def test_the_seam_is_learned_from_and_the_mirror_is_not(shards: Path) -> None:
    """Beyond a cut face 4 mirrored voxels count, but not where they mirror the nodule; further out nothing does."""
    engine = engine_of(shards, SampleConfig(shift=1.0, shift_mm=16, crop_mm=14, zoom=0.0, cover=0.0, decoy=0.0))
    rng = np.random.default_rng(6)
    shares = []
    for _ in range(40):
        block = engine._cube_block(rng)
        if block.ignore.any():
            continue
        cut = engine._cut(rng, block)
        shares.append(float(cut.ignore.mean()))
        for mark in cut.nodules:
            assert not cut.ignore[tuple(np.round(mark.voxel).astype(int))]
            assert cut.hu[tuple(np.round(mark.voxel).astype(int))] > -200
    assert 0.1 < np.mean(shares) < 0.8
    array = np.arange(20.0)[:, None, None] * np.ones((1, 20, 20))
    piece, outside = cut_mirrored(array, np.array([-6, 0, 0]), 20)
    assert piece[:7, 0, 0].tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert outside[:, 0, 0].tolist() == [True] * 6 + [False] * 14
    assert beyond(array.shape, np.array([-6, 0, 0]), 20, 4)[:, 0, 0].tolist() == [True] * 2 + [False] * 18


def test_covered_cubes_have_no_nodule(shards: Path) -> None:
    """Where the nodule is covered nothing dense is left in the middle, and nothing is asked for there."""
    engine = engine_of(shards, SampleConfig(cover=1.0, cover_below_mm=99.0))
    rng = np.random.default_rng(2)
    for _ in range(10):
        block = engine._cube_block(rng)
        if not block.ignore.any() and not any(m.voxel == (40.0, 40.0, 40.0) for m in block.nodules):
            assert block.nodules == []
            assert block.hu[22:29, 22:29, 22:29].mean() < -300


def test_unplaced_cubes_are_ignored_but_for_their_nodule(shards: Path) -> None:
    engine = engine_of(shards)
    engine.cubes = [engine.cubes[3]]
    engine._weights = np.ones(1)
    block = engine._cube_block(np.random.default_rng(3))
    assert block.ignore[2, 2, 2]
    assert not block.ignore[25, 25, 25]
    assert len(block.nodules) == 1


def test_suspicious_places_of_unsure_scans_are_ignored(shards: Path) -> None:
    engine = engine_of(shards)
    marks = np.array([[30, 50, 60, 0.9], [30, 30, 60, 0.1]], np.float32)
    engine.mined = MinedMarks({"first": marks, "third": marks}, {})
    sure, unsure = (engine._piece(scan, np.array([30.0, 40.0, 60.0])) for scan in engine.scans)
    assert len(unsure.nothing) - len(sure.nothing) >= 1 - len(sure.nothing)
    assert any(m.voxel == (25.0, 35.0, 25.0) for m in unsure.nothing)
    assert not any(m.voxel == (25.0, 35.0, 25.0) for m in sure.nothing)
    assert not any(m.voxel == (25.0, 15.0, 25.0) for m in unsure.nothing)


def test_synthetic_ground_glass_is_brighter_than_lung_and_darker_than_tissue(shards: Path) -> None:
    engine = engine_of(shards, SampleConfig(synthetic=1.0, insert=0.7, from_mined=0.0))
    rng = np.random.default_rng(4)
    levels = []
    for _ in range(40):
        block = engine._lung_block(rng)
        middles = [ball(block.hu.shape, m.voxel, m.diameter_mm / 4) for m in block.nodules if 5 < m.diameter_mm < 30]
        levels += [float(block.hu[middle].mean()) for middle in middles]
    assert sum(-820 < level < -300 for level in levels) >= 3


def test_batches_follow_from_their_number(shards: Path) -> None:
    first, second = engine_of(shards).batch(7, 3), engine_of(shards).batch(7, 3)
    assert np.array_equal(first.hu, second.hu)
    assert np.array_equal(first.targets, second.targets)
    assert not np.array_equal(first.hu, engine_of(shards).batch(8, 3).hu)


def test_targets_of_a_known_nodule() -> None:
    ignore = np.zeros((16, 16, 16), bool)
    ignore[:, :, 12:] = True
    targets = make_targets([Mark((5.0, 6.5, 7.0), 8.0)], [Mark((14.0, 14.0, 2.0), 3.0)], ignore)
    assert targets.shape == (6, 8, 8, 8)
    (peak,) = np.argwhere(targets[0] == 1)
    assert tuple(peak) in {(2, 3, 3), (3, 3, 3), (2, 3, 4), (3, 3, 4)}
    k, j, i = peak
    assert targets[2, k, j, i] == pytest.approx(np.log(8))
    assert targets[3:6, k, j, i] + 2 * peak == pytest.approx([5.0, 6.5, 7.0])
    assert targets[1, 7, 7, 1] == 0
    assert targets[1, 0, 0, 7] == 0
    assert targets[1, 0, 0, 0] == 1


@pytest.mark.parametrize("wrong", [{"cover": 1.2}, {"patch": 40}, {"shift_mm": 40}, {"scales": ()}])
def test_impossible_samples_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SampleConfig(**wrong)


# -- loss and schedule -----------------------------------------------------------------------------------------------
def test_the_loss_knows_right_from_wrong() -> None:
    targets = torch.from_numpy(make_targets([Mark((8, 8, 8), 6.0)], [], np.zeros((16, 16, 16), bool)))[None]
    right = torch.zeros(1, 5, 8, 8, 8)
    right[:, 0] = torch.where(targets[:, 0] == 1, 12.0, -12.0)
    right[:, 1:] = targets[:, 2:]
    heat, size, offset = detection_loss(right, targets)
    assert float(heat) < 0.01
    assert float(size) == 0
    assert float(offset) == 0
    missed = right.clone()
    missed[:, 0] = -12.0
    false = right.clone()
    false[0, 0, 0, 0, 0] = 12.0
    assert float(detection_loss(missed, targets)[0]) > 10
    assert float(detection_loss(false, targets)[0]) > 10
    targets[0, 1, 0, 0, 0] = 0
    assert float(detection_loss(false, targets)[0]) < 0.01, "what is ignored costs nothing"


def test_the_rate_rises_stays_and_falls() -> None:
    schedule = Schedule(steps=100, warmup=10, decay=20, rate=0.01)
    rates = [learning_rate(step, schedule) for step in range(100)]
    assert rates[0] == pytest.approx(0.001)
    assert rates[10:80] == pytest.approx([0.01] * 70)
    assert rates[90] == pytest.approx(0.005)
    assert 0 < rates[99] < 1e-4


# -- measuring -------------------------------------------------------------------------------------------------------
class LooksForDense(torch.nn.Module):
    """Stands in for the network: says "centre" where a ball of tissue lies, by a mean over 7³ voxels."""

    def __init__(self) -> None:
        super().__init__()
        self.architecture = TINY

    def forward(self, hu: Any) -> Any:
        dense = torch.nn.functional.avg_pool3d(((hu > -300) & (hu < 300)).float(), 7, 1, 3)[:, :, ::2, ::2, ::2]
        out = torch.zeros(hu.shape[0], 5, *dense.shape[2:])
        out[:, 0] = (dense[:, 0] - 0.5) * 12
        return out


def test_measuring_finds_what_is_there(shards: Path) -> None:
    hu, _, cubes = load_cubes(shards)
    measured = measure.measure(LooksForDense(), hu, cubes[4:], [], torch.device("cpu"))
    assert measured.nodules == 4
    assert measured.sensitivity == (1.0,) * 7
    assert measured.row()["at_4"] == 1.0
    assert "4 nodules" in measured.line()


def test_the_curve_counts_as_the_protocol_does() -> None:
    """Two "scans", false marks at .9 .5 .4: at a rate of 1 two are allowed, so hits above .4 count."""
    hits, rare = np.array([0.95, 0.45, 0.41, 0.2]), np.array([True, False, False, True])
    measured = measure._curve(hits, rare, np.array([0.9, 0.5, 0.4]), 2.0, (1,))
    by_rate = dict(zip(measure.RATES, measured.sensitivity, strict=True))
    assert by_rate[0.125] == 0.25
    assert by_rate[0.5] == 0.25
    assert by_rate[1.0] == 0.75
    assert by_rate[2.0] == 1.0
    assert measured.rare_at_4 == 1.0


def test_mining_keeps_what_is_not_annotated(shards: Path) -> None:
    engine = engine_of(shards)
    mined = measure.mine(LooksForDense(), engine, 10, torch.device("cpu"))
    for scan in engine.scans:
        for mark in mined.scans[scan.name]:
            assert all(np.linalg.norm(mark[:3] - m.voxel) > m.diameter_mm / 2 for m in scan.lesions)
    assert set(mined.cubes) == {c.index for c in engine.cubes}
    assert all(0 <= v <= 1 for v in mined.cubes.values())


# -- the run ---------------------------------------------------------------------------------------------------------
def losses_of(out: Path) -> list[str]:
    return (out / "losses.csv").read_text().splitlines()


def test_the_whole_recipe_runs_dry(data: Path, tmp_path: Path, capsys) -> None:
    """From annotated data to weights that detect, by the command; then again: nothing is left to do."""
    config = tmp_path / "recipe.toml"
    config.write_text(RECIPE_TEXT)
    words = ["train", "detector", "--config", str(config), "--data", str(data), "--out", str(tmp_path / "run")]
    assert main(words) == 0
    weights = find_weights("detector", tmp_path / "run" / "weights")
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "weights")
    points = weights.parameters["operating_points"]
    assert points["screening"] <= points["second-reader"] <= points["high-specificity"]
    hu = np.full((20, 20, 20), -800, np.int16)
    series = Series("image", "1.2", Patient(), Exam("1"), Acquisition())
    volume = Volume(hu, Geometry.axial(hu.shape, (1.0, 1.0, 1.0)), series)
    assert isinstance(detect_nodules(volume, None, load_detector(weights)), tuple)
    assert len(losses_of(tmp_path / "run")) == 5
    assert (tmp_path / "run" / "measured.csv").exists()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000
    assert main(words) == 0
    assert len(losses_of(tmp_path / "run")) == 5


class _StopError(Exception):
    pass


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_run_that_was_stopped_goes_on_exactly(shards: Path, tmp_path: Path, replicas: int) -> None:
    """The same losses and the same weights, to the last bit, marks that were mined between included."""
    recipe = replace(RECIPE, schedule=replace(RECIPE.schedule, replicas=replicas))
    whole = train_detector(recipe, shards, tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("step 6: loss"):
            raise _StopError

    with pytest.raises(_StopError):
        train_detector(recipe, shards, tmp_path / "parts", stop)
    assert len(losses_of(tmp_path / "parts")) == 7, "rows beyond the checkpoint are on the disk"
    lines: list[str] = []
    parts = train_detector(recipe, shards, tmp_path / "parts", lines.append)
    assert lines[0] == "going on from step 4"
    assert losses_of(tmp_path / "parts") == losses_of(tmp_path / "whole")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name


def test_a_run_may_begin_with_the_mean_of_earlier_ones(shards: Path, tmp_path: Path) -> None:
    """With nothing learned after, what it gives is that mean; a folder that began otherwise is not continued."""
    still = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=1, decay=0, rate=1e-12, weight_decay=0.0))
    for n in (1, 2):
        train_detector(replace(still, seed=n), shards, tmp_path / f"run{n}")
    runs = [find_weights("detector", tmp_path / f"run{n}" / "weights") for n in (1, 2)]
    one, two = (load_tensors(run) for run in runs)
    train_detector(still, shards, tmp_path / "mean", begin_with=runs)
    mean = load_tensors(find_weights("detector", tmp_path / "mean" / "weights"))
    key = "stem.conv.weight"
    assert not torch.allclose(one[key], two[key], atol=1e-2)
    assert torch.allclose(mean[key], (one[key] + two[key]) / 2, atol=2e-3)
    with pytest.raises(UsageError, match="another recipe"):
        train_detector(still, shards, tmp_path / "mean", begin_with=runs[:1])


def test_learning_lowers_the_loss(shards: Path, tmp_path: Path) -> None:
    """On a batch that was not among those learned from, before and after."""
    schedule = Schedule(
        steps=60,
        batch=4,
        warmup=5,
        decay=20,
        rate=1e-2,
        ema=0.9,
        mine_every=0,
        measure_every=0,
        save_every=60,
        workers=0,
    )
    recipe = replace(RECIPE, schedule=schedule)
    before = train._start(recipe, torch.device("cpu"))[0]
    after = train_detector(recipe, shards, tmp_path)
    batch = engine_of(shards, recipe.samples).batch(10_000, 24)

    def loss(network: Any) -> float:
        with torch.inference_mode():
            heat, _, _ = detection_loss(network.eval()(torch.from_numpy(batch.hu)), torch.from_numpy(batch.targets))
        return float(heat)

    assert loss(after) < 0.7 * loss(before)


def test_a_loss_that_is_not_finite_stops_the_run(shards: Path, tmp_path: Path, monkeypatch) -> None:
    """Said with its code; the checkpoint before it stands, and the run can go on from there."""
    right = train.detection_loss
    calls = []

    def wrong(out: Any, targets: Any, count: Any = None) -> Any:
        calls.append(1)
        heat, size, offset = right(out, targets, count)
        return heat * (float("nan") if len(calls) == 4 else 1.0), size, offset

    monkeypatch.setattr(train, "detection_loss", wrong)
    with pytest.raises(LungscreenError, match="step 4") as caught:
        train_detector(RECIPE, shards, tmp_path)
    assert caught.value.code == "training-diverged"
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 2
    monkeypatch.setattr(train, "detection_loss", right)
    train_detector(RECIPE, shards, tmp_path)


def test_a_full_disk_leaves_the_last_checkpoint(shards: Path, tmp_path: Path, monkeypatch) -> None:
    train_detector(replace(RECIPE, schedule=replace(RECIPE.schedule, steps=2, decay=1)), shards, tmp_path)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def full(content: Any, file: Any) -> None:
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="No space left") as caught:
        train_detector(RECIPE, shards, tmp_path)
    assert caught.value.code == "output-failed"
    assert (tmp_path / "checkpoint.pt").read_bytes() == before
    assert not list(tmp_path.glob(".*.part"))


def test_a_run_of_another_recipe_is_not_continued(shards: Path, tmp_path: Path) -> None:
    short = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=2, decay=1))
    train_detector(short, shards, tmp_path)
    with pytest.raises(UsageError, match="another recipe"):
        train_detector(replace(RECIPE, seed=9), shards, tmp_path)
    train_detector(replace(short, schedule=replace(short.schedule, steps=3)), shards, tmp_path)


@pytest.mark.parametrize("damage", ["checkpoint", "shard", "empty"])
def test_what_cannot_be_read_is_said(shards: Path, tmp_path: Path, damage: str) -> None:
    recipe = RECIPE
    if damage == "checkpoint":
        (tmp_path / "checkpoint.pt").write_bytes(b"nothing of the kind")
    elif damage == "shard":
        for path in shards.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
        content = bytearray((tmp_path / "first.npz").read_bytes())
        content[len(content) // 2] ^= 0xFF
        (tmp_path / "first.npz").write_bytes(content)
        shards = tmp_path
    else:
        recipe = replace(RECIPE, split=replace(SPLIT, train_subsets=("7",)))
    with pytest.raises(LungscreenError) as caught:
        train_detector(recipe, shards, tmp_path)
    assert caught.value.code == ("shard-damaged" if damage == "shard" else "training-data-invalid")


def test_what_is_held_out_is_not_learned_from(shards: Path) -> None:
    """The scan, its series' cube, its patient's cubes and the choices stay out; and the choices' scan is the
    held-out.
    """
    sides = read_sides(RECIPE, shards)
    engine, choice, kept = sides.engine, sides.cubes, sides.scans
    assert [s.name for s in engine.scans] == ["first", "third"]
    assert [c.name for c in engine.cubes] == ["c0", "c1", "c2", "c3", "c5"], "c4 is of the series of the scan held out"
    assert [c.name for c in choice] == ["c6", "c7"]
    assert [s.name for s in kept] == ["second"]
    named = replace(RECIPE, split=replace(SPLIT, held_out_patients=("p1",)))
    assert "c1" not in [c.name for c in read_sides(named, shards).engine.cubes]


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice_subsets": ("2",)},
        {"held_out_scans": ("fourth",)},
    ],
)
def test_impossible_splits_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"subset|held_out"):
        replace(SPLIT, **wrong)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 3, "replicas": 2}, {"decay": -1}, {"rate": 0.0}])
def test_impossible_schedules_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Schedule(**{"steps": 5, **wrong})


def test_a_gpu_that_is_not_there_is_said() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(UsageError, match="no usable GPU"):
        train._device("cuda")


# -- the recipe that ships -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["cubes", "made", "a", "b", ""])
def test_the_shipped_recipes_are_read_and_keep_the_rules(name: str) -> None:
    """Subset 1, 0 and 5, the scan and the study kept for the end, and the NC scan are in no part of them."""
    table = read_toml(packaged_folder("pipelines") / f"train_detector{name and '_' + name}.toml")
    recipe = read_table(DetectorTraining, table, "train_detector")
    assert not {"0", "1", "5"} & {*recipe.split.train_subsets, *recipe.split.choice_subsets}
    assert not {"LIDC-IDRI-0001", "NSCLC-Radiogenomics-R01-001", "LUNG1-003"} & set(recipe.split.scans)
    assert count_flops(recipe.architecture) <= 60_000
    table["schedule"]["stepps"] = 3
    with pytest.raises(UsageError, match="stepps"):
        read_table(DetectorTraining, table, "train_detector")


def test_each_scan_is_held_out_by_the_cubes_recipes_and_by_one_of_two_models() -> None:
    def held_out(name: str) -> set[str]:
        table = read_toml(packaged_folder("pipelines") / f"train_detector_{name}.toml")
        split = read_table(DetectorTraining, table, name).split
        assert len(split.scans) == 10
        return set(split.held_out_scans)

    assert held_out("cubes") == held_out("made") == held_out("a") | held_out("b")
    assert not held_out("a") & held_out("b")


def test_the_identity_follows_what_matters() -> None:
    longer = replace(RECIPE, schedule=replace(RECIPE.schedule, steps=99, workers=1))
    assert longer.identity == RECIPE.identity
    assert replace(RECIPE, schedule=replace(RECIPE.schedule, rate=0.1)).identity != RECIPE.identity

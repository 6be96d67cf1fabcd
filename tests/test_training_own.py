"""A user's own prepared data, and pre-training without labels."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_chest import chest, write_image  # noqa: E402  (torch first)
from small_chest import mm as to_mm  # noqa: E402
from small_collection import RECIPE_TEXT  # noqa: E402

from lungscreen.cli.main import main  # noqa: E402
from lungscreen.config import packaged_folder, read_table, read_toml  # noqa: E402
from lungscreen.detect.network import Architecture  # noqa: E402
from lungscreen.errors import LungscreenError, UsageError  # noqa: E402
from lungscreen.training.detector import pretraining  # noqa: E402
from lungscreen.training.detector.blocks import SampleConfig  # noqa: E402
from lungscreen.training.detector.data import Mark, load_scan  # noqa: E402
from lungscreen.training.detector.pretraining import hide_blocks, reconstruction_loss  # noqa: E402
from lungscreen.training.detector.recipe import DetectorTraining, Pretraining, Schedule, Split  # noqa: E402
from lungscreen.training.detector.sides import cut_cubes, outline_nodule, read_sides  # noqa: E402
from lungscreen.training.detector.train import train_detector  # noqa: E402
from lungscreen.training.detector.voxels import ball  # noqa: E402
from lungscreen.weights import find_weights  # noqa: E402

TINY = Architecture(channels=(4, 6), blocks=(1, 1), head=4, prior=0.01)
SCHEDULE = Schedule(
    steps=2, batch=2, warmup=1, decay=1, mine_every=0, mine_per_scan=5, measure_every=2, save_every=2, workers=0
)
OWN = DetectorTraining(Split(), SCHEDULE, SampleConfig(patch=32), TINY, device="cpu")
BOTH = replace(OWN, split=Split(("2",), ("9",), ("first", "second", "third"), ("second",)))
SIDES = {"one": "train", "two": "validation", "three": "test"}


# -- own data --------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scans of a user's own, with a nodule each, on the three sides: by `lungscreen data prepare`."""
    root = tmp_path_factory.mktemp("own")
    rng = np.random.default_rng(2)
    rows = []
    for name in SIDES:
        hu = chest() + rng.normal(0, 15, chest().shape)
        hu[29:32, 23:26, 19:22] = 80
        write_image(root / "scans" / f"{name}.mha", hu.astype(np.int16))
        rows.append([name, *to_mm(30, 24, 20), 11.0])
    for name, head, lines in (
        ("nodules.csv", ["seriesuid", "x_mm", "y_mm", "z_mm", "diameter_mm"], rows),
        ("splits.csv", ["series_uid", "split"], list(SIDES.items())),
    ):
        with (root / name).open("w", newline="") as file:
            csv.writer(file).writerows([head, *lines])
    words = ["data", "prepare", "folder", str(root / "scans"), "--nodules", str(root / "nodules.csv"), "--complete"]
    assert main([*words, "--splits", str(root / "splits.csv"), "--out", str(root / "shards")]) == 0
    return root / "shards"


def test_sides_are_those_of_the_index(prepared: Path, tmp_path: Path) -> None:
    """Train is learned from, validation serves choices, test is never opened: here it is not even readable."""
    index = json.loads((prepared / "index.json").read_text())
    by_side = {row["split"]: row for row in index["shards"]}
    for path in prepared.iterdir():
        if path.stem != by_side["test"]["name"]:
            (tmp_path / path.name).write_bytes(path.read_bytes())
    data = read_sides(OWN, tmp_path, [tmp_path])
    assert [s.series_uid for s in data.engine.scans] == ["one"]
    assert [s.series_uid for s in data.scans] == ["two"]
    assert [c.series_uid for c in data.engine.cubes] == ["one"]
    assert [c.series_uid for c in data.cubes] == ["two"]
    assert data.engine.cubes[0].placed
    assert not data.cubes[0].placed, "the scan itself counts its false marks"
    assert any("train: 1 scans with 1 nodules" in line for line in data.said)
    cube = data.engine.cubes[0]
    inside = np.unpackbits(data.engine.masks[cube.index])[:125000].reshape(50, 50, 50).astype(bool)
    assert data.hu[cube.index][inside].mean() > -300
    assert cube.nodule.voxel == pytest.approx((25, 25, 25), abs=0.51)


def test_own_data_join_the_cubes_of_a_recipe(prepared: Path, collection_shards: Path) -> None:
    data = read_sides(BOTH, collection_shards, [prepared])
    assert [s.name for s in data.engine.scans][:2] == ["first", "third"]
    assert [s.series_uid for s in data.engine.scans][2:] == ["one"]
    assert [c.name for c in data.cubes][:2] == ["c6", "c7"]
    assert all(data.hu[c.index].shape == (50, 50, 50) for c in (*data.engine.cubes, *data.cubes))
    assert data.identity
    assert not read_sides(BOTH, collection_shards).identity


def test_a_detector_is_trained_on_own_data_alone(prepared: Path, tmp_path: Path, capsys) -> None:
    """By the command, from a recipe without a split; the same folder again has nothing left to do."""
    text = RECIPE_TEXT.split("[architecture]")[1].replace("measure_every = 4", "measure_every = 2")
    (tmp_path / "own.toml").write_text(f'device = "cpu"\n[split]\n[architecture]{text}')
    words = ["train", "detector", "--config", str(tmp_path / "own.toml"), "--data", str(prepared)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert find_weights("detector", tmp_path / "run" / "weights").parameters["operating_points"]
    assert len((tmp_path / "run" / "losses.csv").read_text().splitlines()) == 5
    assert main([*words, "--out", str(tmp_path / "run")]) == 0
    assert "going on from step 4" in capsys.readouterr().err


def test_the_shipped_recipe_for_own_data_is_read() -> None:
    """It names nobody's scans, has the shipped network's shape, and sets nodules in as the shipped weights learned
    them.
    """
    folder = packaged_folder("pipelines")
    own = read_table(DetectorTraining, read_toml(folder / "train_detector_own.toml"), "own")
    shipped = read_table(DetectorTraining, read_toml(folder / "train_detector.toml"), "shipped")
    assert not own.split.names_data
    assert own.architecture == shipped.architecture
    assert replace(own.samples, cube_share=shipped.samples.cube_share) == shipped.samples


def test_a_run_does_not_go_on_with_other_data(prepared: Path, tmp_path: Path) -> None:
    """A nodule more, a scan on another side: another run."""
    train_detector(OWN, tmp_path, tmp_path / "run", prepared=[prepared])
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index = json.loads((tmp_path / "index.json").read_text())
    for row in index["shards"]:
        row["split"] = "train" if row["split"] == "test" else row["split"]
    (tmp_path / "index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match="another recipe or data"):
        train_detector(OWN, tmp_path, tmp_path / "run", prepared=[tmp_path])


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        ("hash", "shard-damaged"),
        ("side", "split-leaks"),
        ("spacing", "training-data-invalid"),
        ("index", "shard-damaged"),
    ],
)
def test_damaged_own_data_are_refused(prepared: Path, tmp_path: Path, damage: str, code: str) -> None:
    for path in prepared.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index = json.loads((tmp_path / "index.json").read_text())
    train = next(row for row in index["shards"] if row["split"] == "train")
    if damage == "hash":
        (tmp_path / f"{train['name']}.json").write_text("{}")
    elif damage == "side":
        index["shards"].append({**train, "split": "validation"})
    elif damage == "spacing":
        index["options"]["spacing_mm"] = 0.7
    text = "no index" if damage == "index" else json.dumps(index)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(LungscreenError) as caught:
        read_sides(OWN, tmp_path, [tmp_path])
    assert caught.value.code == code


def test_data_that_the_recipe_needs_are_asked_for(prepared: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE_TEXT)
    words = ["train", "detector", "--config", str(tmp_path / "recipe.toml"), "--data", str(prepared)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 2
    assert "what the recipe names" in capsys.readouterr().err


def test_without_a_wholly_annotated_scan_nothing_is_measured(prepared: Path, tmp_path: Path) -> None:
    """Nobody knows which marks are false: said, and no operating point is made up."""
    for path in prepared.iterdir():
        text = path.read_bytes().replace(b'"sure": true', b'"sure": false')
        (tmp_path / path.name).write_bytes(text)
    from lungscreen.weights import sha256_of

    index = json.loads((tmp_path / "index.json").read_text())
    for row in index["shards"]:
        row["annotations_sha256"] = sha256_of(tmp_path / f"{row['name']}.json")
    (tmp_path / "index.json").write_text(json.dumps(index))
    data = read_sides(OWN, tmp_path, [tmp_path])
    assert data.cubes == []
    assert data.scans == []
    assert not data.engine.cubes[0].placed
    assert any("nothing is measured" in line for line in data.said)
    assert any("needs [findings] threshold" in line for line in data.said), "what to do about it"


def test_what_is_too_large_or_of_unknown_size(prepared: Path) -> None:
    """A mass makes no cube; where the size is not known, the outline's is taken."""
    index = json.loads((prepared / "index.json").read_text())
    scan = load_scan(prepared, next(row["name"] for row in index["shards"] if row["split"] == "train"))
    (mark,) = scan.lesions
    large, unknown = (replace(scan, lesions=(replace(mark, diameter_mm=d),)) for d in (40.0, -1.0))
    assert cut_cubes([large], {}, 0)[2] == []
    (cube,) = cut_cubes([unknown], {}, 7)[2]
    assert cube.index == 7
    assert 3 < cube.nodule.diameter_mm < 14


def test_an_outline_is_the_nodule_without_the_vessel() -> None:
    """A ball of 9 mm of which a vessel leaves, in noise."""
    rng = np.random.default_rng(0)
    hu = rng.normal(-850, 25, (50, 50, 50))
    truth = ball(hu.shape, (25.0, 26.0, 24.0), 4.5)
    hu[truth] = 20
    hu[25:27, 26:28, 24:] = 20
    found = outline_nodule(hu.astype(np.int16), Mark((25.0, 26.0, 24.0), 8.0))
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) > 0.9


# -- pre-training ----------------------------------------------------------------------------------------------------
def test_what_is_hidden_comes_in_blocks() -> None:
    rng = np.random.default_rng(0)
    hidden = np.stack([hide_blocks(rng, (32, 32, 48), 0.4, 8) for _ in range(20)])
    assert set(np.unique(hidden)) == {0, 1}
    assert hidden.mean() == pytest.approx(0.4, abs=0.05)
    flips = np.abs(np.diff(hidden, axis=1)).mean()
    assert flips < 0.1, "neighbours are nearly always both hidden or both seen"


def test_the_reconstruction_is_compared_voxel_by_voxel() -> None:
    """The right answer costs nothing, wherever the eight voxels of an output lie; what is seen is not asked for."""
    hu = torch.randn(2, 1, 8, 6, 10) * 300 - 700
    scaled = ((hu + 1000) / 1400).clamp(0, 1)
    parts = scaled.reshape(2, 4, 2, 3, 2, 5, 2).permute(0, 2, 4, 6, 1, 3, 5).reshape(2, 8, 4, 3, 5)
    hidden = torch.ones_like(hu)
    assert float(reconstruction_loss(parts, hu, hidden, TINY)) == pytest.approx(0, abs=1e-6)
    wrong = parts.clone()
    wrong[0, 3, 1, 2, 4] += 1
    assert float(reconstruction_loss(wrong, hu, hidden, TINY)) > 0
    hidden[0, 0, 2, 5, 9] = 0
    assert float(reconstruction_loss(wrong, hu, hidden, TINY)) == pytest.approx(0, abs=1e-6)


PRETRAINED = replace(BOTH, pretraining=Pretraining(steps=6, batch=2, save_every=2, rate=5e-3))


class _StopError(Exception):
    pass


def test_pre_training_that_was_stopped_goes_on_exactly(collection_shards: Path, tmp_path: Path) -> None:
    """The same weights to the last bit, the steps with labels after it included; the second call does not repeat it."""
    whole = train_detector(PRETRAINED, collection_shards, tmp_path / "whole")

    def stop(line: str) -> None:
        if line.startswith("pre-training, step 6"):
            raise _StopError

    with pytest.raises(_StopError):
        train_detector(PRETRAINED, collection_shards, tmp_path / "parts", stop)
    said: list[str] = []
    parts = train_detector(PRETRAINED, collection_shards, tmp_path / "parts", said.append)
    assert "pre-training: going on from step 4" in said
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name]), name
    assert (tmp_path / "parts" / "pretraining.csv").read_text() == (tmp_path / "whole" / "pretraining.csv").read_text()
    said.clear()
    train_detector(PRETRAINED, collection_shards, tmp_path / "parts", said.append)
    assert not any("pre-training" in line for line in said)


def test_the_backbone_is_what_was_pre_trained(collection_shards: Path, tmp_path: Path, monkeypatch) -> None:
    """All but the last layer comes from it, and no annotation is looked at on the way."""
    from lungscreen.training.detector import samples, train

    def no_targets(*_: Any) -> Any:
        raise AssertionError("labels were looked at")

    monkeypatch.setattr(samples, "make_targets", no_targets)
    data = read_sides(PRETRAINED, collection_shards)
    device = torch.device("cpu")
    backbone = pretraining.pretrain(PRETRAINED, data.engine, "x", tmp_path, device, lambda _: None)
    network, _, _ = train._start(PRETRAINED, device)
    head = network.head.weight.clone()
    train._begin_with_backbone(network, backbone)
    assert torch.equal(network.head.weight, head)
    assert torch.equal(network.stem.conv.weight, backbone["stem.conv.weight"])
    assert not any(name.startswith("head") for name in backbone)


def test_pre_training_lowers_its_loss(collection_shards: Path, tmp_path: Path) -> None:
    config = replace(BOTH, pretraining=Pretraining(steps=20, batch=2, save_every=20, rate=2e-2))
    engine = read_sides(config, collection_shards).engine
    pretraining.pretrain(config, engine, "x", tmp_path, torch.device("cpu"), lambda _: None)
    rows = [float(line.split(",")[2]) for line in (tmp_path / "pretraining.csv").read_text().splitlines()[1:]]
    assert np.mean(rows[-5:]) < 0.7 * np.mean(rows[:5])


def test_pre_training_and_other_weights_exclude_each_other(collection_shards: Path, tmp_path: Path) -> None:
    train_detector(BOTH, collection_shards, tmp_path / "first")
    weights = find_weights("detector", tmp_path / "first" / "weights")
    with pytest.raises(UsageError, match="not with both"):
        train_detector(PRETRAINED, collection_shards, tmp_path / "second", begin_with=[weights])


def test_a_pre_training_that_diverges_is_said(collection_shards: Path, tmp_path: Path, monkeypatch) -> None:
    right = pretraining.reconstruction_loss
    monkeypatch.setattr(pretraining, "reconstruction_loss", lambda *a: right(*a) * float("nan"))
    with pytest.raises(LungscreenError) as caught:
        train_detector(PRETRAINED, collection_shards, tmp_path)
    assert caught.value.code == "training-diverged"


def test_the_identity_follows_pre_training() -> None:
    """None leaves older runs as they are; how often it is saved is nobody's business."""
    assert replace(BOTH, pretraining=Pretraining(steps=0, rate=0.1)).identity == BOTH.identity
    assert PRETRAINED.identity != BOTH.identity
    often = replace(PRETRAINED, pretraining=replace(PRETRAINED.pretraining, save_every=1))
    assert often.identity == PRETRAINED.identity


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"hidden": 1.0}, {"block": 0}, {"rate": 0.0}])
def test_impossible_pre_trainings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Pretraining(**wrong)

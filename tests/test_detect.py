"""Detect: tiles, decoding, merging, geometry; fakes where no network is needed."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.detect import DetectConfig, Marks, detect_nodules, find_detector, load_detector
from lungscreen.detect.stage import merge_marks
from lungscreen.errors import WeightsError
from lungscreen.geometry import Geometry
from lungscreen.pipeline import Pipeline, load_networks
from lungscreen.records import Acquisition, Exam, Lungs, Patient, Series, Volume

torch = pytest.importorskip("torch")

from lungscreen.detect.network import (  # noqa: E402  (torch first)
    STRIDE,
    Architecture,
    NoduleNet,
    build_network,
    count_flops,
    describe,
    fold_batchnorm,
)
from lungscreen.detect.tiles import HeatmapDetector, _tiles, computes_in_bfloat16, decode_heatmap  # noqa: E402
from lungscreen.weights import WeightsFile, add_weights  # noqa: E402

TINY = Architecture(channels=(4, 6), blocks=(1, 1), head=4)
FULL = Architecture()


@dataclass(frozen=True)
class BrightSpots:
    """Points at voxels above 500 HU; the score grows with HU."""

    spacing_mm: float | tuple[float, float, float] = 1.0

    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> Marks:
        bright = hu > 500
        if where is not None:
            bright &= where
        places = np.argwhere(bright)
        score = hu[tuple(places.T)][:, None] / 4000
        return np.concatenate([places, np.full((len(places), 1), 6.0), score], 1).astype(np.float32)


@dataclass(frozen=True)
class Fixed:
    """Points at what it was given, whatever it sees."""

    marks: NDArray[np.float32]
    spacing_mm: float = 1.0

    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> Marks:
        del hu, where
        return self.marks


def volume_of(hu: NDArray[np.int16], geometry: Geometry) -> Volume:
    series = Series("image", "1.2.3", Patient(), Exam("1.2"), Acquisition())
    return Volume(hu, geometry, series)


def wake(network: NoduleNet, seed: int = 0) -> NoduleNet:
    """Random numbers everywhere, batch statistics and output layer too: a network that says something."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) * 0.5 + 0.5 if tensor.ndim < 2 else torch.randn_like(tensor) * 0.2)
    return network.eval()


# -- network ---------------------------------------------------------------------------------------------------------
def test_work_per_voxel_is_bounded() -> None:
    """At most 60 kFLOP a voxel of 1 mm, counted; and not nothing."""
    assert 5_000 < count_flops(FULL) <= 60_000


def test_flops_are_counted_as_one_multiplies() -> None:
    """A network small enough to count by hand: 1→4 (5³ at ½), 4→4 twice, 4→6 at ¼, 6→6 twice, 1³ sums, smooth, head."""
    at_half = 125 * 4 + 2 * 27 * 16 + 16 + 27 * 16 + 4 * 5
    at_quarter = 27 * 24 + 2 * 27 * 36 + 36 + 24
    assert count_flops(TINY, 32) == pytest.approx(2 * (at_half / 8 + at_quarter / 64))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 18, 31), (16, 16, 16)])
def test_any_size_goes_in(shape: tuple[int, int, int]) -> None:
    with torch.inference_mode():
        out = NoduleNet(TINY).eval()(torch.zeros(1, 1, *shape))
    assert out.shape == (1, 5, *(math.ceil(n / STRIDE) for n in shape))


def test_starts_at_the_prior() -> None:
    """An untrained network calls about one voxel in a thousand a centre."""
    with torch.inference_mode():
        out = NoduleNet(TINY).eval()(torch.full((1, 1, 16, 16, 16), -800.0))
    assert float(out[:, 0].sigmoid().mean()) == pytest.approx(TINY.prior, rel=0.3)


def test_folding_changes_nothing() -> None:
    network = wake(NoduleNet(TINY))
    x = torch.randn(1, 1, 16, 20, 24) * 400 - 500
    with torch.inference_mode():
        before = network(x)
        after = fold_batchnorm(network)(x)
    assert not any(isinstance(m, torch.nn.BatchNorm3d) for m in network.modules())
    assert torch.allclose(before, after, atol=1e-3 * float(before.abs().max()))


def test_input_is_left_alone() -> None:
    x = torch.full((1, 1, 16, 16, 16), 900.0)
    with torch.inference_mode():
        NoduleNet(TINY).eval()(x)
    assert bool((x == 900).all())


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": (4,), "blocks": (1,)},
        {"channels": (4, 6), "blocks": (1,)},
        {"channels": (4, 0), "blocks": (1, 1)},
        {"prior": 0.0},
        {"hu_low": 400.0},
    ],
)
def test_impossible_architectures_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        Architecture(**wrong)  # type: ignore[arg-type]


# -- weights ---------------------------------------------------------------------------------------------------------
def test_weights_go_through_the_door(tmp_path) -> None:
    network = wake(NoduleNet(TINY))
    weights = add_weights(tmp_path, "detector", network.state_dict(), "1", describe(TINY), {})
    detector = load_detector(weights, DetectConfig(precision="float32"))
    hu = np.random.default_rng(0).integers(-1000, 300, (20, 24, 28)).astype(np.int16)
    expected = HeatmapDetector(network, DetectConfig(precision="float32")).heatmap(hu)
    assert torch.allclose(detector.heatmap(hu), expected, atol=0.02 * float(expected.abs().max()))


def own_weights(folder: Path) -> WeightsFile:
    """Weights that a pipeline may name: a folder with a manifest, their own operating points in it."""
    points = {"screening": 0.21, "second-reader": 0.43, "high-specificity": 0.65}
    tensors = wake(NoduleNet(TINY)).state_dict()
    return add_weights(folder, "detector", tensors, "7.own", describe(TINY), {"operating_points": points})


def test_a_pipeline_may_name_other_weights(tmp_path: Path) -> None:
    """They look, with operating points of their own; version and hash stand in the provenance, a notice in each
    report.
    """
    weights = own_weights(tmp_path)
    networks = load_networks(Pipeline("p", detect=DetectConfig(weights=str(tmp_path))))
    assert (networks.weights[0].version, networks.weights[0].sha256) == ("7.own", weights.sha256)
    assert networks.operating_points == {"screening": 0.21, "second-reader": 0.43, "high-specificity": 0.65}
    (notice,) = networks.notices
    assert notice.code == "detector-weights"
    assert "7.own" in notice.text
    assert weights.sha256[:12] in notice.text
    assert isinstance(networks.detector, HeatmapDetector)
    assert networks.detector.network.architecture == TINY


def test_the_shipped_weights_are_not_remarked_upon() -> None:
    assert load_networks(Pipeline("p")).notices == ()


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no usable entry") as caught:
        find_detector(DetectConfig(weights=str(tmp_path)))
    assert caught.value.code == "weights-invalid"


@pytest.mark.parametrize("named_by", ["pipeline", "option"])
def test_detect_looks_with_the_weights_that_are_named(named_by: str, tmp_path: Path) -> None:
    """From the command line: the marks are those of these weights, whether a pipeline or `--weights` names them."""
    weights = own_weights(tmp_path)
    hu = np.random.default_rng(5).integers(-1000, 300, (20, 24, 28)).astype(np.int16)
    image = sitk.GetImageFromArray(hu)
    image.SetOrigin((-20.0, 30.0, -400.0))
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    (tmp_path / "p.toml").write_text(f'name = "own"\n[detect]\nweights = "{tmp_path}"\n')
    how = ["--pipeline", str(tmp_path / "p.toml")] if named_by == "pipeline" else ["--weights", str(tmp_path)]
    out = tmp_path / "out"
    assert main(["detect", str(tmp_path / "scan.mha"), "--out", str(out), "--no-lungs", *how]) == ExitCode.OK
    scores = [float(row["probability"]) for row in csv.DictReader((out / "candidates.csv").read_text().splitlines())]
    volume = volume_of(hu, Geometry.axial(hu.shape, (1.0, 1.0, 1.0), (-20.0, 30.0, -400.0)))
    expected = [c.score for c in detect_nodules(volume, None, load_detector(weights))]
    assert len(expected) > 3
    assert scores == pytest.approx(expected, abs=1e-5)


def test_weights_of_another_architecture_are_refused() -> None:
    tensors = NoduleNet(TINY).state_dict()
    with pytest.raises(WeightsError, match="not weights of this detector"):
        build_network({"channels": [4, 8], "blocks": [1, 1], "head": 4}, tensors)
    with pytest.raises(WeightsError, match="not weights of this detector"):
        build_network({"colour": 3}, tensors)


def test_weights_that_are_not_finite_are_refused() -> None:
    tensors = NoduleNet(TINY).state_dict()
    tensors["head.bias"][0] = float("nan")
    with pytest.raises(WeightsError, match="not finite") as caught:
        build_network(TINY, tensors)
    assert caught.value.code == "weights-invalid"


def test_overflow_inside_the_network_is_refused() -> None:
    """Finite weights whose product is not: said, not passed on as a score."""
    network = wake(NoduleNet(TINY))
    with torch.no_grad():
        network.head.weight.fill_(3e38)
    detector = HeatmapDetector(network, DetectConfig(precision="float32"))
    with pytest.raises(WeightsError, match="not finite"):
        detector.find_marks(np.zeros((16, 16, 16), np.int16), None)


# -- tiles -----------------------------------------------------------------------------------------------------------
def test_tiles_equal_the_whole() -> None:
    """With a halo as wide as the network looks, tiles give the numbers that one piece gives, at their seams too."""
    hu = np.random.default_rng(1).integers(-1000, 300, (150, 90, 58)).astype(np.int16)
    network = wake(NoduleNet(TINY))
    tensors = {k: v.clone() for k, v in network.state_dict().items()}
    whole = HeatmapDetector(network, DetectConfig(precision="float32", tile_voxels=(999, 999, 999)))
    tiled = HeatmapDetector.from_tensors(
        describe(TINY), tensors, DetectConfig(precision="float32", tile_voxels=(16, 16, 16), halo_voxels=32)
    )
    looked = []
    tiled.network.register_forward_hook(lambda _, given, __: looked.append(given[0].shape))
    expected = whole.heatmap(hu)
    assert float(expected.std()) > 1e-3
    assert torch.allclose(tiled.heatmap(hu), expected, atol=1e-4 * float(expected.abs().max()))
    assert len(looked) > 1
    assert max(math.prod(shape) for shape in looked) <= (16 + 2 * 32) ** 3


@pytest.mark.parametrize("shape", [(304, 240, 360), (280, 270, 390), (1200, 400, 500), (9, 17, 3)])
def test_tiles_cover_an_array_once_with_few_voxels_twice(shape: tuple[int, int, int]) -> None:
    most, halo = 192 * 288 * 416, 16
    tiles = _tiles(shape, most, halo, 8)
    times = np.zeros(tuple(-(-n // 8) for n in shape), int)
    for tile in tiles:
        assert all(side.start % 8 == 0 for side in tile)
        times[tuple(slice(side.start // 8, -(-side.stop // 8)) for side in tile)] += 1
    assert (times == 1).all()
    seen = [
        math.prod(min(n, s.stop + halo) - max(0, s.start - halo) for s, n in zip(tile, shape, strict=True))
        for tile in tiles
    ]
    assert max(seen) <= most
    assert sum(seen) <= 1.5 * math.prod(shape)


def test_tiles_without_lung_are_not_looked_at() -> None:
    hu = np.full((32, 32, 64), -800, np.int16)
    where = np.zeros(hu.shape, bool)
    where[:, :, 50:] = True
    detector = HeatmapDetector(wake(NoduleNet(TINY)), DetectConfig(tile_voxels=(32, 32, 32)))
    logit = detector.heatmap(hu, where)[0]
    assert bool(torch.isinf(logit[:, :, :24]).all())
    assert bool(torch.isfinite(logit[:, :, 24:]).all())


def test_marks_stay_where_they_may_be() -> None:
    hu = np.random.default_rng(2).integers(-1000, 300, (32, 32, 32)).astype(np.int16)
    where = np.zeros(hu.shape, bool)
    where[:, :12] = True
    marks = HeatmapDetector(wake(NoduleNet(TINY)), DetectConfig(score_floor=0.0)).find_marks(hu, where)
    assert len(marks) > 3
    assert marks[:, 1].max() <= 12 + STRIDE


def test_precision_follows_the_processor() -> None:
    auto = HeatmapDetector(NoduleNet(TINY), DetectConfig())
    assert (auto.dtype == torch.bfloat16) == computes_in_bfloat16()
    assert HeatmapDetector(NoduleNet(TINY), DetectConfig(precision="float32")).dtype == torch.float32
    assert HeatmapDetector(NoduleNet(TINY), DetectConfig(precision="bfloat16")).dtype == torch.bfloat16


# -- decoding and merging --------------------------------------------------------------------------------------------
def test_a_peak_is_read_with_its_size_and_place() -> None:
    maps = torch.zeros(5, 6, 7, 8)
    maps[:, 2, 3, 4] = torch.tensor([0.9, math.log(7.5), 0.5, -0.75, 5.0])
    maps[0, 2, 3, 5] = 0.8
    assert decode_heatmap(maps, 0.1) == pytest.approx(np.array([[4.5, 5.25, 10.0, 7.5, 0.9]]), abs=1e-5)


def test_silence_gives_no_mark() -> None:
    assert decode_heatmap(torch.zeros(5, 4, 4, 4), 0.0).shape == (0, 5)


def test_merging_keeps_the_higher_of_two_near_marks() -> None:
    marks = np.array(
        [
            [0, 0, 0, 6, 0.3],
            [0, 0, 4, 6, 0.9],
            [0, 0, 30, 6, 0.2],
            [0, 9, 4, 6, 0.1],
            [0, 0, 50, 40, 0.8],
            [0, 0, 68, 5, 0.7],
        ],
        np.float32,
    )
    kept = merge_marks(marks, 1.0, DetectConfig(merge_mm=5))
    assert kept[:, 4] == pytest.approx([0.9, 0.8, 0.2, 0.1])
    kept = merge_marks(marks, 0.5, DetectConfig(merge_mm=5))
    assert kept[:, 4] == pytest.approx([0.9, 0.8]), "distances are millimetres, not voxels"
    kept = merge_marks(marks, (1.0, 0.5, 1.0), DetectConfig(merge_mm=5))
    assert kept[:, 4] == pytest.approx([0.9, 0.8, 0.2]), "each axis has its own"
    assert len(merge_marks(marks, 1.0, DetectConfig(max_candidates=2))) == 2
    assert len(merge_marks(marks, 1.0, DetectConfig(score_floor=0.5))) == 2


def test_order_of_marks_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    marks = np.concatenate([rng.uniform(0, 60, (80, 3)), np.full((80, 1), 6), rng.integers(1, 4, (80, 1)) / 4], 1)
    marks = marks.astype(np.float32)
    config = DetectConfig()
    assert np.array_equal(merge_marks(marks, 1.0, config), merge_marks(rng.permutation(marks), 1.0, config))


# -- the stage -------------------------------------------------------------------------------------------------------
def oblique() -> Geometry:
    """Anisotropic, turned by 20° about z, off-origin."""
    turn = math.radians(20)
    affine = np.eye(4)
    affine[:3, 0] = np.array([0, 0, 1]) * 2.5
    affine[:3, 1] = np.array([-math.sin(turn), math.cos(turn), 0]) * 0.7
    affine[:3, 2] = np.array([math.cos(turn), math.sin(turn), 0]) * 0.9
    affine[:3, 3] = (-113.0, 42.0, -310.5)
    return Geometry(affine, (24, 60, 50))


@pytest.mark.parametrize(
    "geometry",
    [oblique(), Geometry.axial((24, 60, 50), (2.5, 0.7, 0.9), (30.0, -80.0, 400.0))],
    ids=["oblique", "axial"],
)
@pytest.mark.parametrize("with_lungs", [True, False])
@pytest.mark.parametrize("spacing", [1.0, (1.25, 0.703125, 0.8)], ids=["cubes", "bricks"])
def test_candidates_are_where_the_nodules_are(geometry: Geometry, with_lungs: bool, spacing: Any) -> None:
    """Bright balls on a turned, anisotropic grid come back at their LPS millimetres, brightest first."""
    truth = [(geometry.to_mm([8, 20, 15]), 3000), (geometry.to_mm([16, 40, 35]), 2500)]
    hu = np.full(geometry.shape, -800, np.int16)
    places = geometry.to_mm(np.stack(np.indices(geometry.shape), -1))
    for centre, value in truth:
        hu[np.linalg.norm(places - centre, axis=-1) < 3] = value
    mask = np.zeros(geometry.shape, np.uint8)
    mask[5:20, 10:50, 5:45] = 1
    lungs = Lungs(mask, 1.0, 0.0) if with_lungs else None
    found = detect_nodules(volume_of(hu, geometry), lungs, BrightSpots(spacing), DetectConfig(merge_mm=12))
    assert len(found) == 2
    for (centre, value), candidate in zip(truth, found, strict=True):
        assert np.linalg.norm(np.array(candidate.centre_mm) - centre) < 3.5
        assert candidate.score == pytest.approx(value / 4000, rel=0.05)
        assert candidate.diameter_mm == 6


def test_a_mark_at_a_known_voxel_has_exact_millimetres() -> None:
    """The detector's voxel (3, 4, 5) at 1 mm lies 3, 4, 5 mm along the box's axes from the first voxel searched."""
    geometry = oblique()
    marks = np.array([[3, 4, 5, 8, 0.5]], np.float32)
    (found,) = detect_nodules(volume_of(np.zeros(geometry.shape, np.int16), geometry), None, Fixed(marks))
    expected = geometry.to_mm([3 / 2.5, 4 / 0.7, 5 / 0.9])
    assert found.centre_mm == pytest.approx(tuple(expected), abs=1e-4)


@pytest.mark.parametrize("spacing", [1.0, (1.25, 0.703125, 0.8), (1.0, 1.0, 0.5)], ids=["cubes", "bricks", "thin"])
def test_nothing_outside_the_lungs_but_near_them(spacing: Any) -> None:
    """A mark 3 mm outside the lung counts, one 15 mm outside does not."""
    geometry = Geometry.axial((30, 60, 60), (1.0, 1.0, 1.0))
    hu = np.full(geometry.shape, -800, np.int16)
    hu[15, 30, [10, 33, 45]] = 3000
    mask = np.zeros(geometry.shape, np.uint8)
    mask[5:25, 20:40, 5:31] = 2
    found = detect_nodules(volume_of(hu, geometry), Lungs(mask, 0.0, 1.0), BrightSpots(spacing))
    assert sorted(round(c.centre_mm[0]) for c in found) == [10, 33]


def test_no_lungs_no_candidates() -> None:
    geometry = Geometry.axial((8, 9, 10), (1.0, 1.0, 1.0))
    empty = Lungs(np.zeros(geometry.shape, np.uint8), 0.0, 0.0)
    assert detect_nodules(volume_of(np.full(geometry.shape, 3000, np.int16), geometry), empty, BrightSpots()) == ()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 40, 3), (30, 31, 29)])
def test_a_crop_smaller_than_a_tile_is_searched(shape: tuple[int, int, int]) -> None:
    """The real network, untrained, on volumes down to one voxel."""
    hu = np.random.default_rng(4).integers(-1000, 400, shape).astype(np.int16)
    detector = HeatmapDetector(wake(NoduleNet(TINY)), DetectConfig())
    volume = volume_of(hu, Geometry.axial(shape, (1.0, 0.8, 0.8), (5.0, 6.0, 7.0)))
    first = detect_nodules(volume, None, detector)
    assert len(first) >= 1
    assert first == detect_nodules(volume, None, detector)
    assert all(volume.geometry.contains(c.centre_mm) for c in first)
    assert [c.score for c in first] == sorted((c.score for c in first), reverse=True)


def test_scores_that_are_not_finite_are_refused() -> None:
    volume = volume_of(np.zeros((8, 8, 8), np.int16), Geometry.axial((8, 8, 8), (1.0, 1.0, 1.0)))
    with pytest.raises(WeightsError, match="not finite"):
        detect_nodules(volume, None, Fixed(np.array([[1, 1, 1, 5, np.nan]], np.float32)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"room_mm": -1.0},
        {"tile_voxels": (8, 64, 64)},
        {"score_floor": 1.0},
        {"max_candidates": 0},
        {"bundle": "here", "weights": "there"},
    ],
)
def test_impossible_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="expected"):
        DetectConfig(**wrong)  # type: ignore[arg-type]

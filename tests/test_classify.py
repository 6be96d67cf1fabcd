"""Classifying: what the network is shown, what its answer becomes, and weights that are not what they should be."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.classify import (
    Answers,
    Calibration,
    ClassifyConfig,
    classify_nodules,
    cut_patches,
    find_classifier,
    load_classifier,
)
from lungscreen.classify.calibration import expected_rating, fit_calibration, suspicion
from lungscreen.classify.features import FEATURES, measure_features
from lungscreen.classify.preparation import scale_hu
from lungscreen.classify.score import Score, fit_score
from lungscreen.errors import WeightsError
from lungscreen.geometry import Geometry, Vector
from lungscreen.records import Acquisition, Attributes, Candidate, Exam, Patient, Series, Volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lungscreen.classify.inference import TrainedClassifier
    from lungscreen.classify.network import Network


def volume_of(hu: NDArray[np.int16], geometry: Geometry) -> Volume:
    return Volume(hu, geometry, Series("image", "1.2.3", Patient(), Exam("1.2"), Acquisition()))


def ramp(geometry: Geometry) -> NDArray[np.int16]:
    """HU that says where a voxel lies: 1 HU a mm along y, 5 along x, 20 along z."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), -1)
    mm = geometry.to_mm(index)
    return np.rint(mm @ np.array([5.0, 1.0, 20.0]) - 600).astype(np.int16)


class FakeClassifier:
    """Rates a patch by its middle: the logits are what the middle's intensity says."""

    patch_size = 8
    calibration = Calibration(2.0, -1.0)
    name = "fake 1"

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def rate(self, patches: NDArray[np.float32]) -> Answers:
        self.sizes.append(len(patches))
        middle = patches[:, 3:5, 3:5, 3:5].mean((1, 2, 3))
        attributes = np.stack([1 + n * middle for n in range(6)], axis=1).astype(float)
        return Answers(self.calibration.probability(middle), attributes, patches)


GEOMETRY = Geometry.axial((20, 34, 40), (2.0, 0.7, 0.8), (-40.0, 11.0, 5.0))


# -- what the network is shown ---------------------------------------------------------------------------------------
def test_a_patch_is_cut_in_millimetres_around_the_point() -> None:
    """On an anisotropic, off-origin grid every voxel of the patch has the HU of its own place."""
    volume = volume_of(ramp(GEOMETRY), GEOMETRY)
    point: Vector = (-25.3, 22.1, 21.7)
    (patch,) = cut_patches(volume, [point], 8)
    away = np.arange(8) - 3.5
    expected = 20 * (point[2] + away)[:, None, None] + (point[1] + away)[:, None] + 5 * (point[0] + away) - 600
    assert np.abs(patch * 1400 - 1000 - expected).max() < 1.0


def test_beyond_the_volume_its_edge_goes_on() -> None:
    volume = volume_of(np.full(GEOMETRY.shape, -400, np.int16), GEOMETRY)
    corner = GEOMETRY.origin_mm
    assert np.allclose(cut_patches(volume, [corner], 16), 600 / 1400)
    assert cut_patches(volume, [], 16).shape == (0, 16, 16, 16)


def test_the_window() -> None:
    assert scale_hu(np.array([-1024, -1000, -300, 400, 3000])).tolist() == pytest.approx([0, 0, 0.5, 1, 1])


# -- what its answer becomes -----------------------------------------------------------------------------------------
def test_each_candidate_gets_its_own_probability_in_order() -> None:
    """Batches and points outside the volume do not mix up the order."""
    hu = np.full(GEOMETRY.shape, -1000, np.int16)
    hu[:, :, 20:] = 400
    volume = volume_of(hu, GEOMETRY)
    dark, bright, outside = (-35.0, 22.0, 25.0), (-15.0, 22.0, 25.0), (500.0, 0.0, 0.0)
    candidates = [Candidate(place, 6.0, 0.5) for place in (bright, outside, dark, dark, bright)]
    fake = FakeClassifier()
    found = classify_nodules(volume, candidates, fake, ClassifyConfig(batch=3))
    assert fake.sizes == [3, 1]
    values = [None if one is None else round(one.malignancy.probability, 4) for one in found]
    high, low = (round(1 / (1 + np.exp(-(2 * x - 1))), 4) for x in (1.0, 0.0))
    assert values == [high, None, low, low, high]
    assert {one.malignancy.model for one in found if one} == {"fake 1"}
    assert found[0] is not None
    assert found[2] is not None
    assert found[0].attributes == Attributes(1, 2, 3, 4, 5, 6)
    assert found[2].attributes == Attributes(1, 1, 1, 1, 1, 1)
    assert found[0].attribution is not None
    assert found[0].attribution.centre_mm == bright
    assert found[0].attribution.heat.shape == (8, 8, 8)
    assert classify_nodules(volume, [], fake) == ()


def test_a_batch_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ClassifyConfig(batch=0)


def test_calibration_recovers_a_known_curve() -> None:
    """Labels drawn from a logistic curve give that curve back."""
    rng = np.random.default_rng(4)
    logits = np.repeat(rng.normal(0, 2, 4000)[:, None], 11, axis=1)
    truth = Calibration(1.4, -0.8)
    majority = rng.random(4000) < truth.probability(suspicion(logits))
    found = fit_calibration(suspicion(logits), majority)
    assert (found.slope, found.intercept) == (pytest.approx(1.4, abs=0.12), pytest.approx(-0.8, abs=0.12))


def test_calibration_stays_finite_where_groups_do_not_overlap() -> None:
    found = fit_calibration(np.array([-3.0, -2.0, 2.0, 3.0]), np.array([False, False, True, True]))
    assert 0 < found.slope < 20


def test_calibration_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        fit_calibration(np.zeros(3), np.zeros(3, dtype=bool))
    for slope, intercept in ((0.0, 1.0), (float("nan"), 0.0)):
        with pytest.raises(ValueError, match="slope"):
            Calibration(slope, intercept)


def test_expected_rating_runs_from_1_to_5() -> None:
    logits = np.array([[-50.0] * 11, [0.0] * 11, [50.0] * 11])
    assert expected_rating(logits).tolist() == pytest.approx([1, 3, 5])


# -- what is measured beside it --------------------------------------------------------------------------------------
def drawn_ball(
    radius: float, density: float = 40.0, stretch: tuple[float, float, float] = (1, 1, 1)
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """A ball, or a stretched one, in lung of -850 HU: HU and outline probability."""
    index = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"), -1) - np.array([16.5, 14.0, 15.5])
    away = np.linalg.norm(index / np.array(stretch), axis=-1)
    inside = 1 / (1 + np.exp((away - radius) * 3))
    return (-850 + (density + 850) * inside).astype(np.float32), inside.astype(np.float32)


def feature(hu: NDArray[np.float32], inside: NDArray[np.float32], name: str) -> float:
    return float(measure_features(hu, inside)[FEATURES.index(name)])


def test_features_of_a_ball_are_what_is_known_of_it() -> None:
    small, large = drawn_ball(4), drawn_ball(8)
    for ball, radius in ((small, 4), (large, 8)):
        assert feature(*ball, "radius") == pytest.approx(radius, rel=0.06)
        assert feature(*ball, "log volume") == pytest.approx(np.log(4 / 3 * np.pi * radius**3), abs=0.2)
        assert feature(*ball, "elongation") == pytest.approx(0, abs=0.03)
        assert feature(*ball, "core") == pytest.approx(0.04, abs=0.03)
        assert feature(*ball, "around density") == pytest.approx(-0.85, abs=0.01)
    assert len(measure_features(*small)) == len(FEATURES)


def test_features_tell_one_nodule_from_another() -> None:
    """Long from round, ground-glass from solid, smooth from fuzzy, calcified, with and without spicules."""
    round_one, long_one = drawn_ball(5), drawn_ball(5, stretch=(1.8, 0.8, 0.8))
    assert feature(*long_one, "elongation") > feature(*round_one, "elongation") + 0.4
    assert feature(*long_one, "longest") > feature(*round_one, "longest") + 3
    faint, stony = drawn_ball(5, -600), drawn_ball(5, 390)
    assert feature(*faint, "solid share") == 0 < feature(*round_one, "solid share")
    assert feature(*stony, "calcium share") > 0.3 > feature(*round_one, "calcium share")
    assert feature(*faint, "edge") < feature(*round_one, "edge")
    hu, inside = round_one
    spiked = hu.copy()
    spiked[15:18, 13:16, :] = 30
    assert feature(spiked, inside, "spicules") > 2 * feature(hu, inside, "spicules")
    assert feature(spiked, inside, "largest spicule") > feature(hu, inside, "largest spicule") + 0.1


def test_features_where_little_or_nothing_is_drawn() -> None:
    """No outline, a speck, and two parts of which the one in the middle counts: all finite."""
    hu, inside = drawn_ball(5)
    nothing = np.full_like(inside, 0.01)
    nothing[16, 14, 15] = 0.02
    assert np.isfinite(measure_features(hu, nothing)).all()
    two = np.maximum(inside, np.roll(drawn_ball(5)[1], 16, axis=2))
    two[:, :, 28:] = two[:, :, :4] = 1.0
    assert feature(hu, np.where(two > 0.99, two, inside), "longest") < 20
    everything = np.ones_like(inside)
    assert np.isfinite(measure_features(hu, everything)).all()


def test_a_score_ranks_what_readers_rate_higher_and_is_stored_as_numbers() -> None:
    """The suspicion weighs one and a half times the features; of these, the one that the ratings follow counts most."""
    rng = np.random.default_rng(2)
    features = rng.normal(0, 1, (300, len(FEATURES)))
    suspicion_of = features[:, 3] + rng.normal(0, 1, 300)
    rating = np.clip(3 + features[:, 3] + 0.3 * suspicion_of, 1, 5)
    score = fit_score(suspicion_of, features, rating)
    assert np.corrcoef(score.of(suspicion_of, features), rating)[0, 1] > 0.9
    assert int(np.argmax(np.abs(score.coefficients))) == 3
    by_suspicion = score.of(suspicion_of, np.tile(score.mean, (300, 1))).std()
    by_features = score.of(np.zeros(300), features).std()
    assert by_suspicion == pytest.approx(1.5 * by_features, rel=0.01)
    assert score.of(suspicion_of, features).mean() == pytest.approx(np.clip(rating, 2, 4).mean(), abs=0.01)
    assert Score.from_numbers(json.loads(json.dumps(score.as_numbers()))) == score
    far = features.copy()
    far[:, 3] = 1e6
    assert np.isfinite(score.of(suspicion_of, far)).all()
    with pytest.raises(ValueError, match="other features"):
        Score.from_numbers({**score.as_numbers(), "features": ["size"]})
    with pytest.raises(ValueError, match="scales above 0"):
        replace(score, scale=(0.0,) * len(FEATURES))
    with pytest.raises(ValueError, match="expected 40 features"):
        replace(score, mean=(0.0,))


# -- weights ---------------------------------------------------------------------------------------------------------
def make_weights(folder: Path, **changes: object) -> Path:
    """A small classifier as weights, with its manifest's entry changed."""
    import torch

    from lungscreen.classify.network import NoduleNetwork
    from lungscreen.weights import add_weights

    torch.manual_seed(0)
    network = NoduleNetwork((2, 2, 4, 4))
    architecture = {"widths": [2, 2, 4, 4], "members": 1, "patch": 16}
    parameters: dict[str, object] = {"calibration": asdict(Calibration(1.0, 0.0))}
    architecture.update({k: v for k, v in changes.items() if k in architecture})  # type: ignore[misc]
    parameters.update({k: v for k, v in changes.items() if k in parameters})
    tensors = {f"member0.{key}": value for key, value in network.state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    add_weights(folder, "classifier", tensors, "7", architecture, parameters)
    return folder


def load_from(folder: Path) -> TrainedClassifier:
    return load_classifier(find_classifier(ClassifyConfig(weights=str(folder))))


def test_weights_make_a_classifier_that_rates_and_outlines(tmp_path: Path) -> None:
    """Loaded twice they say the same; a rating is the mean over the patch and its three mirrorings."""
    import torch

    from lungscreen.classify.inference import mean_logits
    from lungscreen.classify.network import OUTPUTS

    patches = np.random.default_rng(1).random((9, 16, 16, 16)).astype(np.float32)
    first, second = (load_from(make_weights(tmp_path)) for _ in range(2))
    answers = first.rate(patches)
    assert np.array_equal(answers.malignancy, second.rate(patches).malignancy)
    tensor = torch.from_numpy(patches)[:, None]
    single = [mean_logits(first.raters, tensor.flip(axes), ((),))[0] for axes in ((), (2,), (3,), (4,))]
    logits = np.mean(single, axis=0)
    assert logits.shape == (9, 11)
    assert np.allclose(answers.malignancy, 1 / (1 + np.exp(-logits[:, :4].mean(1))), atol=1e-3)
    assert not np.allclose(answers.malignancy, 1 / (1 + np.exp(-single[0][:, :4].mean(1))), atol=1e-6)
    shares = 1 / (1 + np.exp(-logits))
    assert np.allclose(answers.attributes[:, 4], 1 + 4 * shares[:, OUTPUTS.index("texture")], atol=1e-3)
    assert np.allclose(answers.attributes[:, 5], shares[:, OUTPUTS.index("calcified")], atol=1e-3)
    assert first.name.startswith("classifier 7 (")
    drawn = first.outline(patches * 1400 - 1000)
    assert drawn.shape == patches.shape
    assert 0 <= drawn.min() <= drawn.max() <= 1


@pytest.mark.parametrize(
    "wrong",
    [{"members": 2}, {"widths": [2, 2, 4, 8]}, {"calibration": {"slope": -1.0, "intercept": 0.0}}, {"calibration": {}}],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(WeightsError) as refusal:
        load_from(make_weights(tmp_path, **wrong))
    assert refusal.value.code == "weights-invalid"


def test_damaged_or_absent_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        load_from(tmp_path)
    make_weights(tmp_path)
    content = (tmp_path / "classifier.safetensors").read_bytes()
    (tmp_path / "classifier.safetensors").write_bytes(content[:-4] + b"abcd")
    with pytest.raises(WeightsError, match="sha256"):
        load_from(tmp_path)


# -- where the view lies ---------------------------------------------------------------------------------------------
def drawing_network() -> Network:
    """Draws what is bright, and rates it by how much of that there is."""
    import torch

    from lungscreen.classify.network import Network

    class Draws(Network):
        def look(self, patch: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
            return [patch], 20 * (patch - 0.5)

        def judge(self, patch: torch.Tensor, maps: Sequence[torch.Tensor], inside: torch.Tensor) -> torch.Tensor:
            del patch
            return (maps[0] * inside).sum((2, 3, 4)).repeat(1, 11)

    return Draws()


def test_the_view_moves_to_what_is_drawn_as_far_as_it_may() -> None:
    """By whole voxels, each axis on its own; nothing drawn, or no room, and it stays in the middle."""
    from lungscreen.classify.inference import cut_views, find_views

    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1)
    ball = (np.linalg.norm(index - np.array([22.0, 17.0, 13.0]), axis=-1) <= 3).astype(np.float32)
    patches = np.stack([ball, np.zeros_like(ball)])
    members = [drawing_network()]
    assert find_views(members, patches, 24, 4).tolist() == [[10, 6, 4], [8, 8, 8]]
    assert find_views(members, patches, 24, 2).tolist() == [[10, 6, 6], [8, 8, 8]]
    assert find_views(members, patches, 24, 0).tolist() == [[8, 8, 8]] * 2
    assert find_views(members, patches, 36, 4).tolist() == [[4, 0, 0], [2, 2, 2]]
    assert find_views(members, patches, 40, 4).tolist() == [[0, 0, 0]] * 2
    view = cut_views(patches, find_views(members, patches, 24, 4), 24)
    assert np.argwhere(view[0]).mean(axis=0).tolist() == [12.0, 11.0, 9.0]


def test_a_nodule_beside_the_middle_is_rated_as_the_one_in_the_middle() -> None:
    """With a reach, an error of the centre by whole voxels changes neither rating nor heat, but for the heat's
    place.
    """
    from lungscreen.classify.inference import TrainedClassifier

    hu, _ = drawn_ball(6)
    scene = np.full((1, 48, 48, 48), scale_hu(np.array(-850.0)), np.float32)
    scene[0, 8:40, 8:40, 8:40] = scale_hu(hu)
    beside = np.roll(scene, (3, -2, 4), axis=(1, 2, 3))
    middle = (slice(None), *(slice(4, 44),) * 3)
    still = TrainedClassifier([drawing_network()], [], 40, 16, Calibration(0.002, -1.0), "draws")
    moving = replace(still, reach=4)
    there, here = moving.rate(beside[middle]), moving.rate(scene[middle])
    assert there.malignancy == pytest.approx(here.malignancy, abs=1e-4)
    assert not np.allclose(still.rate(beside[middle]).malignancy, still.rate(scene[middle]).malignancy, atol=0.01)
    assert here.malignancy[0] > 0.4
    bright = [np.argwhere(answers.heat[0] > 0.5).mean(axis=0) for answers in (there, here)]
    assert np.allclose(bright[0] - bright[1], (3, -2, 4), atol=0.2)


# -- what was looked at ----------------------------------------------------------------------------------------------
MIDDLE = (19.5, 22.0, 17.0)
"""Of the made nodule, (z, y, x), away from the patch's own."""


def nodule_and_vessel(lobes: float = 0.35) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """A patch of 40 mm with a nodule of 16 mm and a vessel along z beside it; both masks. lobes: depth of its five."""
    index = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"), -1) - np.array(MIDDLE)
    away = np.linalg.norm(index, axis=-1)
    z, y, x = np.moveaxis(index / np.maximum(away, 1e-6)[..., None], -1, 0)
    wave = np.sin(5 * np.arctan2(y, x)) * np.sqrt(np.clip(1 - z**2, 0, 1))
    nodule = np.asarray(away <= 8 * (1 + lobes * wave))
    vessel = np.zeros_like(nodule)
    vessel[:, 2:5, 33:36] = True
    hu = np.random.default_rng(0).normal(-850, 25, nodule.shape)
    hu[nodule | vessel] += 880
    return scale_hu(hu)[None], nodule, vessel


def test_a_lobed_nodule_is_rated_higher_than_a_smooth_one() -> None:
    """The shipped network, on made nodules of one size: readers do so too."""
    classifier = load_classifier()
    smooth, lobed = (float(classifier.rate(nodule_and_vessel(lobes)[0]).malignancy[0]) for lobes in (0.0, 0.35))
    assert smooth < 0.3 < 0.5 < lobed


def test_the_heat_lies_on_the_nodule_and_not_on_a_vessel_beside_it() -> None:
    """In a made patch the shipped network's heat is many times denser in the nodule than elsewhere."""
    patch, nodule, vessel = nodule_and_vessel()
    heat = load_classifier().rate(patch).heat[0]
    assert heat.dtype == np.float32
    assert heat.shape == nodule.shape
    assert heat.min() == 0.0
    assert 0.5 < heat.max() <= 1.0
    assert heat[nodule].mean() > 5 * heat[~nodule].mean()
    assert heat[nodule].mean() > 5 * heat[vessel].mean()


def test_other_weights_give_other_heat() -> None:
    """Adebayo's sanity check: with weights drawn at random the map is another one, so it does not merely show edges."""
    import torch

    classifier = load_classifier()
    patch, _, _ = nodule_and_vessel()
    before = classifier.rate(patch).heat[0]
    torch.manual_seed(1)
    for member in classifier.raters:
        for layer in member.modules():
            if isinstance(layer, torch.nn.Linear | torch.nn.Conv3d):
                layer.reset_parameters()
    after = classifier.rate(patch).heat[0]
    assert before.std() > 0
    assert after.std() == 0 or np.corrcoef(before.ravel(), after.ravel())[0, 1] < 0.5


def test_the_manifest_says_what_the_network_is(tmp_path: Path) -> None:
    entry = json.loads((make_weights(tmp_path) / "manifest.json").read_text())["weights"]["classifier"]
    assert entry["architecture"] == {"widths": [2, 2, 4, 4], "members": 1, "patch": 16}
    assert set(entry["parameters"]["calibration"]) == {"slope", "intercept"}

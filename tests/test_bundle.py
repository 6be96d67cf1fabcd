"""A MONAI bundle as the detector: its configuration, weights, network, boxes and places; against MONAI's own classes.

The bundles are made here: the model zoo's layout and configuration, a narrow network, random numbers.
"""

from __future__ import annotations

import copy
import csv
import json
import math
import os
import pickle
import re
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from bundle_factory import BACKBONE, CONFIG, PYRAMID, WIDEN, WIDTH, narrow, write_bundle
from numpy.typing import NDArray

import lungscreen
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.detect import DetectConfig, detect_nodules, find_detector, load_detector
from lungscreen.detect.bundle import Bundle, find_bundle, load_bundle, read_bundle
from lungscreen.errors import UsageError, WeightsError
from lungscreen.geometry import Geometry
from lungscreen.phantom import make_phantom, sized, write_dicom
from lungscreen.pipeline import FindingsConfig, Pipeline, load_networks
from lungscreen.records import Acquisition, Exam, Lungs, Patient, Series, Volume
from lungscreen.weights import sha256_of

torch = pytest.importorskip("torch")
pytest.importorskip("monai", reason="MONAI is an extra: pip install 'lungscreen[monai]'")

from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector  # noqa: E402
from monai.apps.detection.networks.retinanet_network import RetinaNet  # noqa: E402
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape  # noqa: E402
from monai.networks.blocks import backbone_fpn_utils  # noqa: E402
from monai.networks.blocks.feature_pyramid_network import LastLevelMaxPool  # noqa: E402
from monai.networks.nets import resnet  # noqa: E402

from lungscreen.detect.bundle.retinanet import BundleDetector, build_retinanet  # noqa: E402
from lungscreen.detect.bundle.tensors import read_tensors  # noqa: E402


def random_tensors(seed: int = 0) -> dict[str, Any]:
    """A state dict with MONAI's names and random numbers that keep a signal alive through the network."""
    network = monai_network()
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.ndim > 1:
                tensor.copy_(torch.randn_like(tensor) * math.sqrt(1.5 / tensor[0].numel()))
            else:
                tensor.copy_(torch.rand_like(tensor) * 0.5 + (0.0 if name.endswith("bias") else 0.75))
    network.classification_head.cls_logits.bias.data.fill_(-3.0)
    return network.state_dict()


class LayerGetter(torch.nn.ModuleDict):
    """What torchvision's class of this purpose does, for MONAI's own network: children up to the last one wanted."""

    def __init__(self, model: Any, return_layers: dict[str, str]) -> None:
        children = list(model.named_children())
        last = max(n for n, (name, _) in enumerate(children) if name in return_layers)
        super().__init__(OrderedDict(children[: last + 1]))
        self.wanted = return_layers

    def forward(self, x: Any) -> dict[str, Any]:
        found = OrderedDict()
        for name, module in self.items():
            x = module(x)
            if name in self.wanted:
                found[self.wanted[name]] = x
        return found


def monai_network() -> Any:
    """The bundle's network, narrow, of MONAI's own classes; only torchvision's part is the one above."""
    backbone = resnet.resnet50(
        spatial_dims=3, n_input_channels=1, conv1_t_stride=[2, 2, 1], conv1_t_size=[7, 7, 7], widen_factor=WIDEN
    )
    first = backbone.in_planes // 8

    class Models:
        class _utils:  # noqa: N801
            IntermediateLayerGetter = LayerGetter

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone_fpn_utils, "torchvision_models", Models)
        features = backbone_fpn_utils.BackboneWithFPN(
            backbone, {"layer1": "0", "layer2": "1"}, [first, 2 * first], WIDTH, 3, LastLevelMaxPool(3)
        )
    return RetinaNet(3, 1, 3, features, [16, 16, 8]).eval()


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    return random_tensors()


@pytest.fixture
def folder(tmp_path: Path, tensors: dict[str, Any]) -> Path:
    return write_bundle(tmp_path / "bundle", narrow(CONFIG), tensors)


def monai_detector(window: Any, tensors: dict[str, Any]) -> Any:
    """MONAI's detector, set up by hand as the narrow configuration says."""
    network = monai_network()
    network.load_state_dict(tensors)
    anchors = AnchorGeneratorWithAnchorShape([1, 2, 4], [[6, 8, 4], [8, 6, 5], [10, 10, 6]])
    detector = RetinaNetDetector(network, anchors).eval()
    detector.set_target_keys(box_key="box", label_key="label")
    detector.set_box_selector_parameters(0.02, 60, 0.22, 20)
    detector.set_sliding_window_inferer(window, 1, 0.5, "constant")
    return detector


def noise(shape: tuple[int, int, int], seed: int = 0) -> NDArray[np.int16]:
    return np.random.default_rng(seed).integers(-1300, 600, shape).astype(np.int16)


def as_monai_sees(hu: NDArray[np.int16]) -> Any:
    """A canonical array as an image of RAS axes in 0 to 1, by plain arithmetic."""
    xyz = hu.transpose(2, 1, 0)[::-1, ::-1].astype(np.float64)
    return torch.from_numpy((np.clip(xyz, -1024, 300) + 1024) / 1324).float()[None, None]


# -- configuration ---------------------------------------------------------------------------------------------------
def test_the_model_zoos_configuration_is_understood(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path, CONFIG))
    assert bundle == Bundle(
        folder=tmp_path,
        name="MONAI bundle: Lung nodule CT detection",
        version="0.6.8",
        axes="RAS",
        spacing_mm=(0.703125, 0.703125, 1.25),
        hu_range=(-1024.0, 300.0),
        value_range=(0.0, 1.0),
        clip=True,
        anchor_scales=(1.0, 2.0, 4.0),
        anchor_shapes=((6.0, 8.0, 4.0), (8.0, 6.0, 5.0), (10.0, 10.0, 6.0)),
        stem_size=(7, 7, 7),
        stem_stride=(2, 2, 1),
        widen=1.0,
        levels=(1, 2),
        divisible=(16, 16, 8),
        window=(512, 512, 192),
        overlap=0.25,
        blend="constant",
        always_window=False,
        score_above=0.02,
        most_per_level=1000,
        iou_above=0.22,
        most=300,
        half=True,
    )


def test_older_configurations_are_understood(tmp_path: Path) -> None:
    """Versions before 0.5 write values where later ones refer to them, name what they work on, force no window."""
    old = copy.deepcopy(CONFIG)
    old["network_def"] = {
        "_target_": "RetinaNet",
        "spatial_dims": 3,
        "num_classes": 1,
        "num_anchors": 3,
        "feature_extractor": "@feature_extractor",
        "size_divisible": [16, 16, 8],
    }
    del old["inferer"]["force_sliding_window"]
    for step in old["preprocessing"]["transforms"][:-1]:
        step |= {"keys": "@image_key", "meta_key_postfix": "meta_dict", "allow_missing_keys": False}
    new = read_bundle(write_bundle(tmp_path / "new", CONFIG))
    assert replace(read_bundle(write_bundle(tmp_path / "old", old)), folder=new.folder) == new


@pytest.mark.parametrize(
    ("codes", "to_ras", "axes"),
    [("RAS", True, "RAS"), ("LPS", True, "LPS"), ("RAS", False, "LPS"), ("LAI", False, "RPI")],
)
def test_axes_follow_the_orientation_and_its_flag(tmp_path: Path, codes: str, to_ras: bool, axes: str) -> None:
    """Without LPS to RAS the bundle takes LPS coordinates for RAS ones: its R is L, and its A is P."""
    config = copy.deepcopy(CONFIG)
    config["preprocessing"]["transforms"][1]["affine_lps_to_ras"] = to_ras
    config["preprocessing"]["transforms"][3]["axcodes"] = codes
    assert read_bundle(write_bundle(tmp_path, config)).axes == axes


def put(path: str, value: Any) -> dict[str, Any]:
    """The configuration with one entry set, `None` deletes it; the path's parts are keys and positions."""
    config = copy.deepcopy(CONFIG)
    *parts, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    table: Any = config
    for part in parts:
        table = table[part]
    if value is None:
        del table[last]
    else:
        table[last] = value
    return config


def operation(name: str, arguments: str) -> str:
    return f"$@detector.{name}({arguments})"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("anchor_generator", None, "anchor_generator"),
        ("anchor_generator/_target_", "my.AnchorGenerator", "expected a AnchorGeneratorWithAnchorShape"),
        ("anchor_generator/indexing", "xy", "indexing"),
        ("anchor_generator/feature_map_scales", [1, 2], "feature_map_scales"),
        ("anchor_generator/base_anchor_shapes", [[6, 8], [8, 6], [1, 1]], "three values"),
        ("network_def/_target_", "UNet", "RetinaNet"),
        ("network_def/num_classes", 2, "one class"),
        ("network_def/num_anchors", 4, "num_anchors"),
        ("network_def/size_divisible", [8, 8, 8], "size_divisible"),
        ("network_def/extra", 1, "unknown setting extra"),
        ("backbone", "$monai.networks.nets.resnet.resnet101(spatial_dims=3,n_input_channels=1)", "resnet101"),
        ("backbone", f"${BACKBONE}(pretrained=True,spatial_dims=3,n_input_channels=1)", "pretrained"),
        ("backbone", f"${BACKBONE}(spatial_dims=3,n_input_channels=2)", "one channel"),
        ("backbone", f"${BACKBONE}(**@size_divisible,n_input_channels=1)", "unknown setting"),
        ("backbone", "$__import__('os').system('true')", "unknown function"),
        ("backbone", "$[1, 2]", "expected a call"),
        ("backbone", "$(", "expected a call"),
        ("backbone", 5, "expected a call"),
        ("feature_extractor", f"${PYRAMID}(@backbone,3,True,[1,2],None)", "no weights from elsewhere"),
        ("feature_extractor", f"${PYRAMID}(@backbone,3,False,[2,3],None)", "returned_layers"),
        ("feature_extractor", f"${PYRAMID}(@backbone,3,False,open('x').read(),None)", "not understood"),
        ("feature_extractor", f"${PYRAMID}(@backbone,3,False,[1,2],None,1)", "unknown arguments"),
        ("detector/box_overlap_metric", "$monai.data.box_utils.box_giou", "box_overlap_metric"),
        ("detector_ops/0", operation("set_box_coder_weights", "(1,1,1,2,2,2)"), "set_box_coder_weights"),
        ("detector_ops/1", operation("set_box_selector_parameters", "apply_sigmoid=False"), "sigmoid"),
        ("detector_ops/1", operation("set_box_selector_parameters", "score_thresh='all'"), "score_thresh"),
        ("detector_ops/1", operation("set_box_selector_parameters", "odd=1"), "unknown setting odd"),
        ("detector_ops/2", None, "set_sliding_window_inferer"),
        ("detector_ops/2", operation("set_sliding_window_inferer", "roi_size=100,overlap=0.25"), "multiples"),
        ("detector_ops/2", operation("set_sliding_window_inferer", "roi_size=64,overlap=1.5"), "overlap"),
        ("detector_ops/2", operation("set_sliding_window_inferer", "roi_size=64,mode='odd'"), "constant or gaussian"),
        ("detector_ops/2", operation("set_sliding_window_inferer", "roi_size=64,padding_mode='reflect'"),
        "padding_mode"),
        ("inferer/_target_", "SlidingWindowInferer", "RetinaNetInferer"),
        ("inferer/force_sliding_window", "yes", "true or false"),
        ("amp", "no", "amp"),
        ("size_divisible", "@size_divisible", "leads nowhere"),
        ("preprocessing/transforms/0/affine_lps_to_ras", False, "both true and false"),
        ("preprocessing/transforms/3/axcodes", "SAR", "axes such as RAS"),
        ("preprocessing/transforms/3/axcodes", 7, "axes such as RAS"),
        ("preprocessing/transforms/4", None, "Spacingd"),
        ("preprocessing/transforms/4/pixdim", [0.7, 0.7, 0], "above 0"),
        ("preprocessing/transforms/4/mode", "nearest", "unknown setting mode"),
        ("preprocessing/transforms/5/a_max", -2000, "ranges that rise"),
        ("preprocessing/transforms/5/a_max", 10**400, "a_max"),
        ("preprocessing/transforms/5/a_min", True, "a_min"),
        ("preprocessing/transforms/6", {"_target_": "NormalizeIntensityd", "keys": "image"}, "NormalizeIntensityd"),
        ("preprocessing/transforms/6", {"_target_": "Orientationd", "axcodes": "LPS"}, "twice"),
        ("postprocessing/transforms/2/src_mode", "xxyyzz", "xyzxyz"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(tmp_path: Path, path: str, value: Any, said: str) -> None:
    """Each entry that changes a result, and only that one, as this software does not know it."""
    with pytest.raises(WeightsError, match=re.escape(said)) as caught:
        read_bundle(write_bundle(tmp_path, put(path, value)))
    assert caught.value.code == "bundle-invalid"


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '{"a": "' + "x" * (1 << 20) + '"}'])
@pytest.mark.parametrize("name", ["inference.json", "metadata.json"])
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (write_bundle(tmp_path, CONFIG) / "configs" / name).write_text(text)
    with pytest.raises(WeightsError, match="bundle-invalid") as caught:
        read_bundle(tmp_path)
    assert caught.value.where.endswith(name)


@pytest.mark.parametrize("missing", ["configs/inference.json", "configs/metadata.json", "models/model.pt"])
def test_missing_files_are_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(WeightsError, match="bundle-invalid") as caught:
        find_bundle(folder)
    assert caught.value.where.endswith(missing)


def test_names_are_made_plain(tmp_path: Path) -> None:
    """A bundle's name reaches reports and terminals."""
    bundle = read_bundle(write_bundle(tmp_path, CONFIG, metadata={"name": "a\x1b[2J" + "b" * 999, "version": 7}))
    assert bundle.name.startswith("MONAI bundle: a?[2Jbbb")
    assert len(bundle.name) < 120
    assert bundle.version == "7"


# -- weights ---------------------------------------------------------------------------------------------------------
class Payload:
    """Runs a command where a pickle is read without care."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("plain", [True, False], ids=["pickle", "torch"])
def test_a_pickle_with_code_is_refused_and_not_run(folder: Path, tmp_path: Path, plain: bool) -> None:
    trap, model = tmp_path / "trap", folder / "models" / "model.pt"
    content = {"feature_extractor.fpn.inner_blocks.0.weight": Payload(trap)}
    if plain:
        model.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, model)
    with pytest.raises(WeightsError, match="more than tensors") as caught:
        load_detector(config=DetectConfig(bundle=str(folder)))
    assert caught.value.code == "weights-invalid"
    assert not trap.exists()
    assert sorted(p.name for p in (folder / "models").iterdir()) == ["model.pt"]


@pytest.mark.parametrize(
    "content",
    [{}, [1], {"a": 1}, {1: torch.zeros(1)}, {"a": torch.zeros(1, dtype=torch.int8)}, {"a": torch.eye(2).to_sparse()}],
    ids=["empty", "list", "number", "key", "type", "sparse"],
)
def test_anything_but_tensors_by_name_is_refused(folder: Path, content: Any) -> None:
    torch.save(content, folder / "models" / "model.pt")
    with pytest.raises(WeightsError, match="tensors") as caught:
        read_tensors(find_bundle(folder))
    assert caught.value.code == "weights-invalid"


def test_a_damaged_file_is_refused(folder: Path) -> None:
    model = folder / "models" / "model.pt"
    model.write_bytes(model.read_bytes()[:5000])
    with pytest.raises(WeightsError, match="damaged"):
        read_tensors(find_bundle(folder))


def test_weights_of_another_network_are_refused(folder: Path, tensors: dict[str, Any]) -> None:
    bundle = read_bundle(folder)
    fewer = {k: v for k, v in tensors.items() if k != "regression_head.bbox_reg.bias"}
    for wrong in (fewer, {"only": torch.zeros(1)}):
        with pytest.raises(WeightsError, match="not weights of this bundle's network"):
            build_retinanet(bundle, wrong)
    with pytest.raises(WeightsError, match="not weights of this bundle's network"):
        build_retinanet(replace(bundle, widen=0.25), tensors)


def test_weights_that_are_not_finite_are_refused(folder: Path, tensors: dict[str, Any]) -> None:
    bad = dict(tensors) | {"regression_head.bbox_reg.bias": torch.full((18,), math.nan)}
    torch.save(bad, folder / "models" / "model.pt")
    with pytest.raises(WeightsError, match="not finite"):
        read_tensors(find_bundle(folder))


def test_overflow_inside_the_network_is_refused(folder: Path, tensors: dict[str, Any]) -> None:
    """Finite weights whose product is not."""
    bundle = read_bundle(folder)
    tensors = dict(tensors) | {"classification_head.cls_logits.weight": torch.full((3, WIDTH, 3, 3, 3), 3e38)}
    detector = BundleDetector(bundle, build_retinanet(bundle, tensors), DetectConfig())
    with pytest.raises(WeightsError, match="not finite"):
        detector.find_marks(noise((8, 16, 16)), None)


def test_the_state_dict_may_lie_under_its_models_name(folder: Path, tensors: dict[str, Any]) -> None:
    torch.save({"model": tensors}, folder / "models" / "model.pt")
    assert set(read_tensors(find_bundle(folder))) == set(tensors)


def test_half_precision_weights_are_widened(folder: Path, tensors: dict[str, Any]) -> None:
    torch.save(
        {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}, folder / "models" / "model.pt"
    )
    assert {t.dtype for t in read_tensors(find_bundle(folder)).values()} == {torch.float32, torch.int64}


def test_weights_are_kept_as_safetensors_with_their_hash(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pickle is read once; after that the copy is, and gives the same numbers."""
    weights = find_bundle(folder)
    first = read_tensors(weights)
    models = folder / "models"
    assert sorted(p.name for p in models.iterdir()) == ["model.pt", "model.safetensors", "model.safetensors.json"]
    note = json.loads((models / "model.safetensors.json").read_text())
    assert note == {"source_sha256": sha256_of(models / "model.pt"), "sha256": sha256_of(models / "model.safetensors")}
    assert weights.sha256 == note["source_sha256"]

    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("the pickle was read again"))
    again = read_tensors(weights)
    assert set(again) == set(first)
    assert all(torch.equal(again[key], first[key]) for key in first)


@pytest.mark.parametrize("what", ["copy", "note", "nested", "source"])
def test_a_copy_that_does_not_fit_is_made_anew(folder: Path, tensors: dict[str, Any], what: str) -> None:
    """A damaged copy, a damaged note, or weights that were replaced since."""
    models = folder / "models"
    read_tensors(find_bundle(folder))
    if what == "copy":
        with (models / "model.safetensors").open("ab") as file:
            file.write(b"x")
    elif what == "source":
        tensors = random_tensors(1)
        torch.save(tensors, models / "model.pt")
    else:
        (models / "model.safetensors.json").write_text("{" if what == "note" else "[" * 100_000)
    found = read_tensors(find_bundle(folder))
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert json.loads((models / "model.safetensors.json").read_text())["source_sha256"] == find_bundle(folder).sha256


def test_a_bundle_that_cannot_be_written_to_is_read_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **keywords: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert read_tensors(find_bundle(folder))
    assert [p.name for p in (folder / "models").iterdir()] == ["model.pt"]


def test_a_full_disk_leaves_nothing_half_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert read_tensors(find_bundle(folder))
    assert [p.name for p in (folder / "models").iterdir()] == ["model.pt"]


def test_nothing_is_written_outside_the_bundle(folder: Path, tmp_path: Path) -> None:
    """A bundle whose folder of weights is a link is read, and nothing is left where the link leads."""
    elsewhere = (folder / "models").rename(tmp_path / "elsewhere")
    (folder / "models").symlink_to(elsewhere)
    assert read_tensors(find_bundle(folder))
    assert [p.name for p in elsewhere.iterdir()] == ["model.pt"]


# -- against MONAI's own classes -------------------------------------------------------------------------------------
def test_the_network_is_monais(folder: Path, tensors: dict[str, Any]) -> None:
    """Same names, same shapes, same maps as MONAI's own RetinaNet with the same weights."""
    ours = build_retinanet(read_bundle(folder), tensors)
    theirs = monai_network()
    theirs.load_state_dict(tensors)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    image = torch.rand(1, 1, 32, 48, 16)
    with torch.inference_mode():
        mine, other = ours(image), theirs(image)
    for key in ("classification", "box_regression"):
        assert [m.shape[2:] for m in mine[key]] == [(8, 12, 8), (4, 6, 4), (2, 3, 2)]
        for a, b in zip(mine[key], other[key], strict=True):
            assert float(b.std()) > 0.01
            assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((8, 32, 32), (32, 32, 16)),
        ((7, 21, 30), (32, 32, 16)),
        ((24, 32, 48), (32, 32, 16)),
        ((8, 32, 64), (32, 32, 8)),
    ],
    ids=["fits", "padded", "windows", "narrower"],
)
def test_boxes_are_monais(folder: Path, tensors: dict[str, Any], shape: tuple[int, int, int], window: Any) -> None:
    """Boxes and scores of an array are those of MONAI's detector on the same image: whole, padded, in windows.

    Where the image is narrower than the window, those of a window that is as narrow.
    """
    bundle = read_bundle(folder)
    hu = noise(shape)
    theirs = monai_detector(window, tensors)
    image = as_monai_sees(hu)
    with torch.inference_mode():
        (expected,) = theirs(image, use_inferer=image.numel() >= 32 * 32 * 16)
    boxes, scores = BundleDetector(
        bundle, build_retinanet(bundle, tensors), DetectConfig(precision="float32")
    ).find_boxes(hu)
    assert len(scores) == len(expected["label_scores"]) > 3
    assert scores == pytest.approx(expected["label_scores"].numpy(), abs=1e-5)
    assert boxes == pytest.approx(expected["box"].numpy(), abs=1e-2)


def test_boxes_are_decoded_as_worked_out_by_hand(folder: Path, tensors: dict[str, Any]) -> None:
    """One anchor of the coarsest map speaks: 10 x 10 x 6 voxels times 4, at the middle of the cell, shifted and scaled.

    Its centre lies at 8, 8, 4 of a cell of 16 x 16 x 8; offsets are shares of the anchor's sides, sizes logarithms.
    """
    bundle = replace(read_bundle(folder), window=(64, 64, 32))

    class OneVoice(torch.nn.Module):
        def forward(self, image: Any) -> dict[str, Any]:
            logits = [torch.full((1, 3, *(n // s for n, s in zip(image.shape[2:], stride, strict=True))), -20.0)
                      for stride in ((4, 4, 2), (8, 8, 4), (16, 16, 8))]  # fmt: skip
            offsets = [torch.zeros(1, 18, *level.shape[2:]) for level in logits]
            logits[2][0, 2, 1, 2, 1] = 1.5
            offsets[2][0, 12:18, 1, 2, 1] = torch.tensor([0.1, -0.1, 0.25, 0.0, math.log(0.5), math.log(0.25)])
            return {"classification": logits, "box_regression": offsets}

    hu = np.zeros((24, 64, 48), np.int16)
    boxes, scores = BundleDetector(bundle, OneVoice(), DetectConfig()).find_boxes(hu)
    centre, size = np.array([16 + 8 + 4, 32 + 8 - 4, 8 + 4 + 6]), np.array([40, 20, 6])
    assert boxes == pytest.approx(np.concatenate([centre - size / 2, centre + size / 2])[None], abs=1e-4)
    assert scores == pytest.approx([1 / (1 + math.exp(-1.5))], abs=1e-6)

    (mark,) = BundleDetector(bundle, OneVoice(), DetectConfig()).find_marks(hu, None)
    sides = size * np.array([0.703125, 0.703125, 1.25])
    expected = [centre[2], 63 - centre[1], 47 - centre[0], sides.mean(), scores[0]]
    assert mark == pytest.approx(expected, abs=1e-4)


def test_half_precision_changes_little(folder: Path, tensors: dict[str, Any]) -> None:
    """The bundle's own setting: convolutions in bfloat16, boxes in float32; not where the pipeline asks for float32."""
    bundle = read_bundle(folder)
    network = build_retinanet(bundle, tensors)
    hu = noise((8, 32, 32))
    exact = BundleDetector(bundle, network, DetectConfig(precision="float32")).find_boxes(hu)
    half = BundleDetector(bundle, network, DetectConfig(precision="bfloat16")).find_boxes(hu)
    plain = BundleDetector(replace(bundle, half=False), network, DetectConfig(precision="bfloat16")).find_boxes(hu)
    assert np.array_equal(exact[0], plain[0])
    assert not np.array_equal(exact[1][:5], half[1][:5])
    assert half[1][:5] == pytest.approx(exact[1][:5], abs=0.1)


# -- places ----------------------------------------------------------------------------------------------------------
class BrightVoxel(torch.nn.Module):
    """It lights, at the finest map, in each cell that holds a bright voxel, and puts the box on the brightest one."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Any] = []

    def forward(self, image: Any) -> dict[str, Any]:
        self.seen.append(image)
        strides = ((4, 4, 2), (8, 8, 4), (16, 16, 8))
        logits = [
            torch.full((1, 3, *(n // s for n, s in zip(image.shape[2:], t, strict=True))), -20.0) for t in strides
        ]
        offsets = [torch.zeros(1, 18, *level.shape[2:]) for level in logits]
        value, index = torch.nn.functional.max_pool3d(image, strides[0], strides[0], return_indices=True)
        logits[0][:, 2] = torch.where(value > 0.9, (value - 0.9) * 30, -20.0)[0]
        peaks = torch.unravel_index(index[0, 0], image.shape[2:])
        cells = torch.meshgrid(*(torch.arange(n) for n in value.shape[2:]), indexing="ij")
        for axis, (peak, cell, stride, side) in enumerate(zip(peaks, cells, strides[0], (10, 10, 6), strict=True)):
            offsets[0][0, 12 + axis] = (peak - (cell * stride + stride // 2)) / side
        return {"classification": logits, "box_regression": offsets}


def volume_of(hu: NDArray[np.int16], geometry: Geometry) -> Volume:
    return Volume(hu, geometry, Series("image", "1.2.3", Patient(), Exam("1.2"), Acquisition()))


def oblique() -> Geometry:
    turn = math.radians(20)
    affine = np.eye(4)
    affine[:3, 0] = np.array([0, 0, 1]) * 2.5
    affine[:3, 1] = np.array([-math.sin(turn), math.cos(turn), 0]) * 0.7
    affine[:3, 2] = np.array([math.cos(turn), math.sin(turn), 0]) * 0.9
    affine[:3, 3] = (-113.0, 42.0, -310.5)
    return Geometry(affine, (24, 60, 50))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "LAI"])
@pytest.mark.parametrize(
    "geometry",
    [oblique(), Geometry.axial((24, 60, 50), (2.5, 0.7, 0.9), (30.0, -80.0, 400.0))],
    ids=["oblique", "axial"],
)
@pytest.mark.parametrize("window", [(512, 512, 192), (32, 32, 16)], ids=["whole", "windows"])
def test_a_mark_lies_where_the_bright_spot_is(folder: Path, axes: str, geometry: Geometry, window: Any) -> None:
    """Through resampling, turned axes, windows, boxes and back: LPS millimetres on an anisotropic, off-origin grid."""
    hu = np.full(geometry.shape, -800, np.int16)
    places = geometry.to_mm(np.stack(np.indices(geometry.shape), -1))
    truth = geometry.to_mm([17, 44, 12])
    hu[np.linalg.norm(places - truth, axis=-1) < 2.6] = 200
    hu[17, 44, 12] = 290
    bundle = replace(read_bundle(folder), axes=axes, window=window)
    detector = BundleDetector(bundle, BrightVoxel(), DetectConfig())
    mask = np.zeros(geometry.shape, np.uint8)
    mask[5:20, 10:50, 5:45] = 1
    for lungs in (None, Lungs(mask, 1.0, 0.0)):
        (found,) = detect_nodules(volume_of(hu, geometry), lungs, detector, DetectConfig(merge_mm=12))
        assert np.linalg.norm(np.array(found.centre_mm) - truth) < 1.3
        assert found.diameter_mm == pytest.approx((10 * 0.703125 * 2 + 6 * 1.25) / 3, abs=1e-3)


def test_the_network_sees_ras_axes_in_its_window(folder: Path) -> None:
    """The first voxel along each axis lies to the left, at the back and at the feet: R, A, S is where axes point to."""
    network = BrightVoxel()
    hu = np.full((8, 16, 32), -1024, np.int16)
    hu[1, 2, 3], hu[5, 6, 7] = 5000, -362  # beyond the window; in its middle
    BundleDetector(read_bundle(folder), network, DetectConfig()).find_marks(hu, None)
    (image,) = network.seen
    assert image.shape == (1, 1, 32, 16, 8)
    assert float(image[0, 0, 31 - 3, 15 - 2, 1]) == pytest.approx(1.0)
    assert float(image[0, 0, 31 - 7, 15 - 6, 5]) == pytest.approx(0.5)
    assert float(image.sum()) == pytest.approx(1.5)


def test_nothing_outside_the_lungs(folder: Path) -> None:
    hu = np.full((8, 16, 32), -800, np.int16)
    hu[4, 8, 20] = 300
    detector = BundleDetector(read_bundle(folder), BrightVoxel(), DetectConfig())
    where = np.zeros(hu.shape, bool)
    assert len(detector.find_marks(hu, where)) == 0
    where[4, 8, 20] = True
    assert detector.find_marks(hu, where)[0, :3] == pytest.approx([4, 8, 20], abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 40, 3)], ids=["voxel", "plate"])
def test_a_crop_of_any_size_is_searched(folder: Path, shape: tuple[int, int, int]) -> None:
    detector = load_detector(config=DetectConfig(bundle=str(folder)))
    volume = volume_of(noise(shape), Geometry.axial(shape, (1.25, 0.703125, 0.703125), (5.0, 6.0, 7.0)))
    found = detect_nodules(volume, None, detector)
    assert found == detect_nodules(volume, None, detector)
    assert all(volume.geometry.contains(c.centre_mm) for c in found)


# -- in the pipeline -------------------------------------------------------------------------------------------------
def test_a_pipeline_that_names_a_bundle_looks_with_it(folder: Path) -> None:
    """End to end on random weights: its marks, its hash in the provenance, one threshold, and a word in each report."""
    pipeline = Pipeline("p", detect=DetectConfig(bundle=str(folder)), findings=FindingsConfig(threshold=0.3))
    networks = load_networks(pipeline)
    assert isinstance(networks.detector, BundleDetector)
    assert networks.detector.spacing_mm == (1.25, 0.703125, 0.703125)
    used = networks.weights[0]
    assert (used.name, used.version) == ("MONAI bundle: Lung nodule CT detection", "0.6.8")
    assert used.sha256 == sha256_of(folder / "models" / "model.pt")
    assert set(networks.operating_points.values()) == {0.3}
    assert [notice.code for notice in networks.notices] == ["detector-foreign"]
    shape = (20, 30, 40)
    volume = volume_of(noise(shape), Geometry.axial(shape, (1.25, 0.703125, 0.703125)))
    found = detect_nodules(volume, None, networks.detector, pipeline.detect)
    assert len(found) > 3
    assert all(0.02 < c.score < 1 and c.diameter_mm > 0 for c in found)


def test_a_bundle_needs_a_threshold(folder: Path) -> None:
    with pytest.raises(UsageError, match="threshold") as caught:
        load_networks(Pipeline("p", detect=DetectConfig(bundle=str(folder))))
    assert caught.value.code == "config-invalid"


def write_pipeline(path: Path, folder: Path) -> Path:
    path.write_text(f'name = "bundled"\n[detect]\nbundle = "{folder}"\n[findings]\nthreshold = 0.99\n')
    return path


def test_detect_looks_with_the_bundle(folder: Path, tmp_path: Path) -> None:
    """From the command line, on an image file: candidates down to the bundle's own threshold, in LPS mm."""
    image = sitk.GetImageFromArray(noise((20, 30, 40)))
    image.SetSpacing((0.8, 0.7, 1.5))
    image.SetOrigin((-20.0, 30.0, -400.0))
    sitk.WriteImage(image, str(tmp_path / "scan.mha"))
    pipeline = write_pipeline(tmp_path / "p.toml", folder)
    out = tmp_path / "out"
    words = ["detect", str(tmp_path / "scan.mha"), "--out", str(out), "--no-lungs", "--pipeline", str(pipeline)]
    assert main(words) == ExitCode.OK
    rows = list(csv.DictReader((out / "candidates.csv").read_text().splitlines()))
    assert len(rows) > 3
    for row in rows:
        assert 0.02 < float(row["probability"]) < 1
        assert -21 < float(row["coordX"]) < 13
        assert -401 < float(row["coordZ"]) < -370


@pytest.mark.slow
def test_a_report_says_who_looked(folder: Path, tmp_path: Path) -> None:
    """A study screened with a bundle: its name, version and hash, the threshold, and that it is not the shipped one."""
    study = tmp_path / "study"
    write_dicom(make_phantom(sized("tiny", seed=5, nodules=1)), study)
    write_bundle(folder, {**narrow(CONFIG), "infer_patch_size": [512, 512, 192]}, random_tensors())
    pipeline = str(write_pipeline(tmp_path / "p.toml", folder))
    assert main(["screen", str(study), "--out", str(tmp_path / "out"), "--pipeline", pipeline]) == ExitCode.OK
    (path,) = (tmp_path / "out").glob("studies/*/report.json")
    report = json.loads(path.read_text())
    provenance = report["provenance"]
    assert provenance["operating_point"] == "score of 0.99 and up"
    digest = sha256_of(folder / "models" / "model.pt")
    assert {"name": "MONAI bundle: Lung nodule CT detection", "version": "0.6.8", "sha256": digest} in provenance[
        "weights"
    ]
    assert "detector-foreign" in {notice["code"] for notice in report["notices"]}


def test_an_operating_point_beside_a_threshold_is_refused(folder: Path, tmp_path: Path) -> None:
    pipeline = str(write_pipeline(tmp_path / "p.toml", folder))
    words = ["screen", str(tmp_path), "--out", str(tmp_path / "out"), "--pipeline", pipeline]
    assert main([*words, "--operating-point", "screening"]) == ExitCode.USAGE
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threshold", [0.0, 1.0, -2.0])
def test_impossible_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        FindingsConfig(threshold=threshold)


def test_nothing_but_the_bundles_network_needs_monai() -> None:
    """The default install leaves MONAI out."""
    package = Path(lungscreen.__file__).parent
    users = {p.name for p in package.rglob("*.py") if re.search(r"^\s*(from|import) monai", p.read_text(), re.M)}
    assert users == {"retinanet.py"}


def test_without_a_bundle_nothing_changes() -> None:
    assert find_detector(DetectConfig()).name == "detector"


def test_without_monai_a_bundle_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungscreen.detect.bundle.load.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"lungscreen\[monai\]") as caught:
        load_bundle(find_bundle(folder), DetectConfig())
    assert caught.value.code == "bundle-needs-monai"

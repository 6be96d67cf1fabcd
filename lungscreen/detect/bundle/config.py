"""Folder of a MONAI bundle ─► Bundle: what it says of its detector

    configs/inference.json, configs/metadata.json, models/model.pt

Made for the model zoo's `lung_nodule_ct_detection` and for what was trained again with its recipe. Whatever such a
configuration says that would change a result and is not understood here is refused. Needs neither torch nor MONAI.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lungscreen.detect.bundle.syntax import (
    Config,
    Three,
    Vector3,
    flag,
    nothing_left,
    number,
    read_call,
    read_object,
    read_transforms,
    three_numbers,
    three_wholes,
    whole_number,
)
from lungscreen.errors import WeightsError
from lungscreen.text import plain_text
from lungscreen.weights import WeightsFile, sha256_of

__all__ = ["CONFIG", "METADATA", "MODEL", "Bundle", "find_bundle", "read_bundle"]

CONFIG = Path("configs", "inference.json")
METADATA = Path("configs", "metadata.json")
MODEL = Path("models", "model.pt")
"""Where every bundle keeps its weights."""

LARGEST_CONFIG = 1 << 20
"""Bytes; the model zoo's are 7 kB."""

AXES = ("RL", "AP", "SI")
"""Letters for x, y, z: the axis points to the patient's right or left, front or back, head or feet."""

NAMES = ("keys", "meta_keys", "meta_key_postfix", "allow_missing_keys", "image_meta_key", "image_meta_key_postfix")
BOX_NAMES = (*NAMES, "box_keys", "label_keys", "box_ref_image_keys")
"""Settings that only name what a transform works on."""

TRANSFORMS = {
    "LoadImaged": (*NAMES, "reader", "image_only", "_disabled_"),
    "EnsureChannelFirstd": NAMES,
    "Orientationd": NAMES,
    "Spacingd": (*NAMES, "_disabled_"),
    "ScaleIntensityRanged": NAMES,
    "EnsureTyped": NAMES,
    "ClipBoxToImaged": (*BOX_NAMES, "remove_empty"),
    "AffineBoxToWorldCoordinated": (*BOX_NAMES, "affine_lps_to_ras"),
    "ConvertBoxModed": (*BOX_NAMES, "dst_mode"),
    "DeleteItemsd": NAMES,
}
"""The transforms that are understood, each with those of its settings that make no difference here.

Whether scans were resampled beforehand (`_disabled_`) is one of them: every volume is brought to the spacing. So is the
affine by which the bundle writes world coordinates: the volume's geometry does that here.
"""

OPERATIONS = {
    "@detector.set_target_keys": ("box_key", "label_key"),
    "@detector.set_box_selector_parameters": ("score_thresh", "topk_candidates_per_level", "nms_thresh"),
    "@detector.set_sliding_window_inferer": ("roi_size", "sw_batch_size", "overlap", "mode"),
}
"""What may be done to the detector, with the positional arguments."""

SAME_RESULT = ("sw_batch_size", "device", "sw_device", "progress", "cache_roi_weight_map")
"""Settings of the sliding window that change no result."""


@dataclass(frozen=True)
class Bundle:
    """What a bundle says. Axes are (x, y, z), as its network takes them.

    axes: where each axis points to, as R or L, A or P, S or I.
    spacing_mm: of the voxels it was trained on. hu_range → value_range: the window, linear.
    clip: cut at its ends.
    anchor_scales: of each feature map.
    anchor_shapes: in voxels, of the first one.
    stem_size, stem_stride: of the first convolution.
    widen: factor on the backbone's channels.
    levels: the stages of the backbone that the pyramid takes.
    divisible: an image is padded to a multiple of this.
    window: voxels of the sliding window.
    overlap: its share.
    blend: how windows are weighed (constant or gaussian).
    always_window: for small images too.
    score_above, most_per_level, iou_above, most: how boxes are chosen.
    half: computes in half precision where the processor does.
    """

    folder: Path
    name: str
    version: str
    axes: str
    spacing_mm: Vector3
    hu_range: tuple[float, float]
    value_range: tuple[float, float]
    clip: bool
    anchor_scales: tuple[float, ...]
    anchor_shapes: tuple[Vector3, ...]
    stem_size: Three
    stem_stride: Three
    widen: float
    levels: tuple[int, ...]
    divisible: Three
    window: Three
    overlap: float
    blend: str
    always_window: bool
    score_above: float
    most_per_level: int
    iou_above: float
    most: int
    half: bool

    def __post_init__(self) -> None:
        if not self.hu_range[0] < self.hu_range[1] or not self.value_range[0] < self.value_range[1]:
            raise ValueError("ScaleIntensityRanged: expected ranges that rise")
        if self.levels != tuple(range(1, len(self.levels) + 1)) or not 1 <= len(self.levels) <= 4:
            raise ValueError("returned_layers: expected 1, 2… up to 4")
        if len(self.anchor_scales) != len(self.levels) + 1:
            raise ValueError("feature_map_scales: expected one more than there are returned layers")
        if not 0 <= self.overlap < 1 or self.blend not in ("constant", "gaussian"):
            raise ValueError("sliding window: expected an overlap of 0 to below 1, mode constant or gaussian")
        self._check_sizes()

    def _check_sizes(self) -> None:
        """The stem's stride, the pooling after it, one halving from stage to stage, and the pyramid's last map."""
        if any(n % (s * 2 ** (len(self.levels) + 1)) for n, s in zip(self.divisible, self.stem_stride, strict=True)):
            raise ValueError("size_divisible: expected a multiple of the last feature map's stride")
        steps = [int(n * (1 - self.overlap)) for n in self.window]
        if any(n % d for n, d in zip((*self.window, *steps), self.divisible * 2, strict=True)):
            raise ValueError("sliding window: expected windows and steps that are multiples of size_divisible")


def find_bundle(folder: Path) -> WeightsFile:
    """A bundle's weights as a manifest's entry would describe them; the hash is that of its `model.pt`.

    Errors: `bundle-invalid`.
    """
    bundle = read_bundle(folder)
    try:
        digest = sha256_of(folder / MODEL)
    except OSError as error:
        raise WeightsError("bundle-invalid", f"cannot read: {error.strerror}", str(folder / MODEL)) from None
    return WeightsFile(bundle.name, folder / MODEL, digest, bundle.version, {"bundle": str(folder)})


def read_bundle(folder: Path) -> Bundle:
    """What the bundle's configuration says.

    Errors: `bundle-invalid` where a file is missing, or something is not as this software knows it.
    """
    config, metadata = _read_json(folder / CONFIG), _read_json(folder / METADATA)
    title = plain_text(str(metadata.get("name") or metadata.get("task") or "without a name"), 80)
    try:
        return Bundle(
            folder=folder,
            name=f"MONAI bundle: {title}",
            version=plain_text(str(metadata.get("version", "")), 40),
            half=flag(config.get("amp", False), "amp"),
            **_image(config),
            **_network(config),
            **_anchors(config),
            **_boxes(config),
            **_window(config),
        )
    except KeyError as error:
        reason = f"it does not say: {plain_text(str(error), 200)}"
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        reason = f"not understood: {plain_text(str(error), 200)}"
    raise WeightsError("bundle-invalid", reason, str(folder / CONFIG))


# -- the parts of inference.json -------------------------------------------------------------------------------------
def _image(config: Config) -> dict[str, Any]:
    """How an image is prepared and how boxes leave: every transform must be one that is understood."""
    chain = _transforms(config)
    loads = [settings for kind, settings in chain if kind == "LoadImaged"]
    flags = [settings.pop("affine_lps_to_ras") for settings in loads if "affine_lps_to_ras" in settings]
    by_kind = dict(chain)
    scale, spacing, orientation = (by_kind[k] for k in ("ScaleIntensityRanged", "Spacingd", "Orientationd"))
    found = {
        "axes": _axes(orientation.pop("axcodes"), flags),
        "spacing_mm": three_numbers(spacing.pop("pixdim"), "pixdim"),
        "hu_range": (number(scale.pop("a_min"), "a_min"), number(scale.pop("a_max"), "a_max")),
        "value_range": (number(scale.pop("b_min"), "b_min"), number(scale.pop("b_max"), "b_max")),
        "clip": flag(scale.pop("clip", False), "clip"),
    }
    if by_kind["ConvertBoxModed"].pop("src_mode") != "xyzxyz":
        raise ValueError("ConvertBoxModed: expected boxes as xyzxyz")
    for kind, settings in chain:
        nothing_left(settings, kind)
    return found


def _transforms(config: Config) -> list[tuple[str, dict[str, Any]]]:
    """Kind and settings of what is done before and after, each kind once but for loading."""
    chain = [step for name in ("preprocessing", "postprocessing") for step in read_transforms(config, name, TRANSFORMS)]
    kinds = [kind for kind, _ in chain if kind != "LoadImaged"]
    if len(set(kinds)) != len(kinds):
        raise ValueError("a transform comes twice")
    return chain


def _axes(codes: Any, to_ras: Sequence[Any]) -> str:
    """Where the axes point to. A bundle that does not turn LPS into RAS takes L for R and P for A throughout."""
    if not isinstance(codes, str) or len(codes) != 3 or any(c not in pair for c, pair in zip(codes, AXES, strict=True)):
        raise ValueError("Orientationd: expected axes such as RAS")
    flags = {flag(value, "affine_lps_to_ras") for value in to_ras}
    if len(flags) > 1:
        raise ValueError("LoadImaged: affine_lps_to_ras is both true and false")
    return codes.translate(str.maketrans("RLAP", "LRPA")) if flags == {False} else codes


def _network(config: Config) -> dict[str, Any]:
    """RetinaNet over ResNet-50 with a feature pyramid, three dimensions, one channel, one class."""
    settings = read_object(config, "network_def", "RetinaNet")
    divisible = three_wholes(settings.pop("size_divisible"), "size_divisible")
    anchors = settings.pop("num_anchors")
    fixed = (settings.pop("spatial_dims"), settings.pop("num_classes"))
    nothing_left(
        {k: v for k, v in settings.items() if k not in ("feature_extractor", "use_list_output")}, "network_def"
    )
    pyramid = read_call(config, config["feature_extractor"], "feature_extractor").expect(
        "monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor",
        ("backbone", "spatial_dims", "pretrained_backbone", "returned_layers", "trainable_backbone_layers"),
    )
    stem = read_call(config, config["backbone"], "backbone").expect("monai.networks.nets.resnet.resnet50", ())
    below = (pyramid["spatial_dims"], stem.pop("spatial_dims", 3), stem.pop("n_input_channels", 3))
    if (*fixed, *below) != (3, 1, 3, 3, 1) or pyramid.get("pretrained_backbone"):
        raise ValueError("network: expected 3 dimensions, one class, one channel, no weights from elsewhere")
    if anchors != len(read_object(config, "anchor_generator", "AnchorGeneratorWithAnchorShape")["base_anchor_shapes"]):
        raise ValueError("network_def: num_anchors is not the number of anchors")
    found = {
        "stem_size": three_wholes(stem.pop("conv1_t_size", 7), "conv1_t_size"),
        "stem_stride": three_wholes(stem.pop("conv1_t_stride", 1), "conv1_t_stride"),
        "widen": number(stem.pop("widen_factor", 1.0), "widen_factor", above=0.0),
        "levels": tuple(whole_number(level, "returned_layers") for level in pyramid["returned_layers"]),
        "divisible": divisible,
    }
    nothing_left(stem, "backbone")
    return found


def _anchors(config: Config) -> dict[str, Any]:
    settings = read_object(config, "anchor_generator", "AnchorGeneratorWithAnchorShape")
    scales, shapes = settings.pop("feature_map_scales"), settings.pop("base_anchor_shapes")
    if settings.pop("indexing", "ij") != "ij":
        raise ValueError("anchor_generator: expected indexing ij")
    nothing_left(settings, "anchor_generator")
    return {
        "anchor_scales": tuple(number(scale, "feature_map_scales", above=0.0) for scale in scales),
        "anchor_shapes": tuple(three_numbers(shape, "base_anchor_shapes") for shape in shapes),
    }


def _operations(config: Config) -> dict[str, dict[str, Any]]:
    """Arguments of what is done to the detector, by function."""
    calls = [read_call(config, text, "detector_ops") for text in config["detector_ops"]]
    for call in calls:
        if call.function not in OPERATIONS:
            raise ValueError(f"detector_ops: unknown function {call.function}")
    return {call.function: call.expect(call.function, OPERATIONS[call.function]) for call in calls}


def _boxes(config: Config) -> dict[str, Any]:
    """How boxes are chosen; what is not set is as in MONAI."""
    repeated = ("network", "anchor_generator", "debug", "spatial_dims", "num_classes", "size_divisible")
    detector = read_object(config, "detector", "RetinaNetDetector")
    nothing_left({key: value for key, value in detector.items() if key not in repeated}, "detector")
    settings = _operations(config).get("@detector.set_box_selector_parameters", {})
    if settings.pop("apply_sigmoid", True) is not True:
        raise ValueError("detector_ops: expected scores by a sigmoid")
    found = {
        "score_above": number(settings.pop("score_thresh", 0.05), "score_thresh"),
        "most_per_level": whole_number(settings.pop("topk_candidates_per_level", 1000), "topk_candidates_per_level"),
        "iou_above": number(settings.pop("nms_thresh", 0.5), "nms_thresh"),
        "most": whole_number(settings.pop("detections_per_img", 300), "detections_per_img"),
    }
    nothing_left(settings, "set_box_selector_parameters")
    return found


def _window(config: Config) -> dict[str, Any]:
    """The sliding window; what is not set is as in MONAI."""
    settings = _operations(config)["@detector.set_sliding_window_inferer"]
    inferer = read_object(config, "inferer", "RetinaNetInferer")
    found = {
        "window": three_wholes(settings.pop("roi_size"), "roi_size"),
        "overlap": number(settings.pop("overlap", 0.5), "overlap"),
        "blend": settings.pop("mode", "constant"),
        "always_window": flag(inferer.pop("force_sliding_window", False), "force_sliding_window"),
    }
    nothing_left(
        {key: value for key, value in settings.items() if key not in SAME_RESULT}, "set_sliding_window_inferer"
    )
    nothing_left({key: value for key, value in inferer.items() if key != "detector"}, "inferer")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_CONFIG + 1)
        content = json.loads(text) if len(text) <= LARGEST_CONFIG else None
    except (OSError, ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise WeightsError("bundle-invalid", "missing, too large, or no JSON object", str(path))
    return content

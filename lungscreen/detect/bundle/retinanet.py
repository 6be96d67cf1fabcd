"""RetinaNet of a MONAI bundle over an array of any size. Imports torch and MONAI.

    HU (z, y, x) → the bundle's axes and window → ResNet-50 + pyramid → MONAI's anchors, boxes, selection → marks

MONAI's own network cannot be built without torchvision, which picks the stages out of its backbone. That part is here,
with the same names, so that the bundle's state dict fits; all the rest is MONAI's.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool
from monai.networks.nets import resnet
from numpy.typing import NDArray
from torch import Tensor, nn

from lungscreen.detect.bundle.config import Bundle
from lungscreen.detect.tiles import computes_in_bfloat16
from lungscreen.errors import WeightsError

if TYPE_CHECKING:
    from lungscreen.detect.stage import DetectConfig, Marks

__all__ = ["BundleDetector", "PyramidBackbone", "build_retinanet", "empty_retinanet"]

PYRAMID = "feature_extractor.fpn.inner_blocks.0.weight"
"""Its first size is the pyramid's width."""

PYRAMID_WIDTH = 256
"""That of MONAI's own networks."""


class PyramidBackbone(nn.Module):
    """Image (B, 1, X, Y, Z) → the feature maps of the backbone's stages, summed from the top, and one pooled more."""

    def __init__(self, backbone: nn.Module, levels: tuple[int, ...], widths: list[int], width: int) -> None:
        super().__init__()
        stages = [f"layer{n}" for n in range(1, levels[-1] + 1)]
        children = dict(backbone.named_children())
        self.body = nn.ModuleDict({name: children[name] for name in ("conv1", "bn1", "act", "maxpool", *stages)})
        self.fpn = FeaturePyramidNetwork(3, widths, width, LastLevelMaxPool(3))
        self.out_channels = width
        self.stages = stages

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        """See the class."""
        x, maps = image, OrderedDict[str, Tensor]()
        for name, module in self.body.items():
            x = module(x)
            if name in self.stages:
                maps[name] = x
        pyramid: dict[str, Tensor] = self.fpn(maps)
        return pyramid


def build_retinanet(bundle: Bundle, tensors: Mapping[str, Tensor]) -> nn.Module:
    """The bundle's network with these weights, ready to look (not to learn).

    Errors: `weights-invalid` where names or shapes do not fit the configuration.
    """
    try:
        network = empty_retinanet(bundle, tensors[PYRAMID].shape[0])
        network.load_state_dict(dict(tensors), assign=True)
    except (KeyError, RuntimeError, ValueError) as error:
        raise WeightsError("weights-invalid", f"not weights of this bundle's network: {str(error)[:300]}") from None
    return network.eval().requires_grad_(False)


def empty_retinanet(bundle: Bundle, width: int = PYRAMID_WIDTH) -> nn.Module:
    """The bundle's network without numbers: names and shapes only (torch's device `meta`)."""
    with torch.device("meta"):
        backbone = resnet.resnet50(
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=bundle.stem_size,
            conv1_t_stride=bundle.stem_stride,
            widen_factor=bundle.widen,
            feed_forward=False,
        )
        first = backbone.in_planes // 8
        widths = [first * 2 ** (level - 1) for level in bundle.levels]
        features = PyramidBackbone(backbone, bundle.levels, widths, width)
        network: nn.Module = RetinaNet(3, 1, len(bundle.anchor_shapes), features, bundle.divisible)
    return network


class _Heads(nn.Module):
    """The network in half precision on request; what it says in float32, and finite."""

    def __init__(self, network: nn.Module, half: bool) -> None:
        super().__init__()
        self.network = network
        self.half_precision = half

    def forward(self, images: Tensor) -> dict[str, list[Tensor]]:
        """Errors: `weights-invalid`."""
        with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=self.half_precision):
            warnings.simplefilter("ignore", UserWarning)  # MONAI warns of what is refused below
            maps: dict[str, list[Tensor]] = self.network(images)
        heads = {key: [level.float() for level in levels] for key, levels in maps.items()}
        if not all(bool(torch.isfinite(level).all()) for levels in heads.values() for level in levels):
            raise WeightsError("weights-invalid", "the detector's numbers are not finite")
        return heads


class BundleDetector:
    """A `Detector`: the bundle's network, looking as its configuration says.

    One thing differs: MONAI fills an image that is narrower than the window with air on both sides, which can move its
    boxes by some voxels; here the window is made as narrow as the image.
    """

    def __init__(self, bundle: Bundle, network: nn.Module, config: DetectConfig) -> None:
        self.bundle = bundle
        wanted = config.precision == "bfloat16" or (config.precision == "auto" and computes_in_bfloat16())
        anchors = AnchorGeneratorWithAnchorShape(bundle.anchor_scales, bundle.anchor_shapes)
        heads = _Heads(network, bundle.half and wanted).eval()
        self.detector = RetinaNetDetector(
            heads, anchors, spatial_dims=3, num_classes=1, size_divisible=bundle.divisible
        )
        self.detector.eval()
        self.detector.set_box_selector_parameters(
            bundle.score_above, bundle.most_per_level, bundle.iou_above, bundle.most
        )

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x) that it wants."""
        x, y, z = self.bundle.spacing_mm
        return z, y, x

    @torch.inference_mode()
    def find_marks(self, hu: NDArray[np.int16], where: NDArray[np.bool_] | None) -> Marks:
        """See `Detector`. A mark's diameter is the mean of its box's sides, in mm.

        Errors: `weights-invalid` when a number is not finite.
        """
        boxes, scores = self.find_boxes(hu)
        low, high = boxes[:, :3], boxes[:, 3:]
        centres = (low + high) / 2
        for axis, (letter, size) in enumerate(zip(self.bundle.axes, reversed(hu.shape), strict=True)):
            if letter in TURNED:
                centres[:, axis] = size - 1 - centres[:, axis]
        diameters = ((high - low) * np.array(self.bundle.spacing_mm, np.float32)).mean(1)
        marks: Marks = np.concatenate([centres[:, ::-1], diameters[:, None], scores[:, None]], 1)
        if where is None:
            return marks
        nearest = np.clip(np.rint(marks[:, :3]).astype(int), 0, np.array(hu.shape) - 1)
        inside: Marks = marks[where[tuple(nearest.T)]]
        return inside

    def find_boxes(self, hu: NDArray[np.int16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Boxes (n, 6) as x, y, z and x, y, z in voxels on the bundle's axes, and their scores (n)."""
        image = _prepare(hu, self.bundle)
        size = image.shape[2:]
        padded = [-(-n // d) * d for n, d in zip(size, self.bundle.divisible, strict=True)]
        window = [min(n, w) for n, w in zip(padded, self.bundle.window, strict=True)]
        self.detector.set_sliding_window_inferer(window, 1, self.bundle.overlap, self.bundle.blend)
        self.detector.size_divisible = self.bundle.divisible
        if tuple(padded) == self.bundle.divisible:  # the last map would be one voxel, which cannot be normalised
            self.detector.size_divisible = (2 * padded[0], padded[1], padded[2])
        # The rule of the bundle's own inferer: by the number of voxels.
        slide = self.bundle.always_window or image.numel() >= int(np.prod(self.bundle.window))
        (found,) = self.detector(image, use_inferer=slide)
        return found["boxes"].numpy(), found["labels_scores"].numpy()


TURNED = "RAI"
"""Axes that run against those of a canonical volume (left, back, head)."""


def _prepare(hu: NDArray[np.int16], bundle: Bundle) -> Tensor:
    """HU (z, y, x), canonical → (1, 1, x, y, z) on the bundle's axes, in its window."""
    turned = tuple(axis for axis, letter in enumerate(bundle.axes) if letter in TURNED)
    array = np.flip(hu.transpose(2, 1, 0), turned).astype(np.float32)
    (low, high), (to_low, to_high) = bundle.hu_range, bundle.value_range
    image = torch.from_numpy(np.ascontiguousarray(array))
    image.sub_(low).mul_((to_high - to_low) / (high - low)).add_(to_low)
    if bundle.clip:
        image.clamp_(to_low, to_high)
    return image[None, None]

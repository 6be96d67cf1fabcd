"""MONAI bundles of the model zoo's layout, made here: its configuration, other weights."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

__all__ = ["BACKBONE", "CONFIG", "METADATA", "PYRAMID", "WIDEN", "WIDTH", "narrow", "write_bundle"]

WIDEN, WIDTH = 0.125, 8
"""The narrow backbone's share of ResNet-50's channels, and the channels of its pyramid."""

BACKBONE = "monai.networks.nets.resnet.resnet50"
PYRAMID = "monai.apps.detection.networks.retinanet_network.resnet_fpn_feature_extractor"
SELECT = "score_thresh=0.02,topk_candidates_per_level=1000,nms_thresh=0.22,detections_per_img=300"
SLIDE = "roi_size=@infer_patch_size,overlap=0.25,sw_batch_size=1,mode='constant',device='cpu'"

METADATA = {"version": "0.6.8", "name": "Lung nodule CT detection", "monai_version": "1.4.0"}
CONFIG: dict[str, Any] = {
    "whether_raw_luna16": False,
    "whether_resampled_luna16": "$(not @whether_raw_luna16)",
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "amp": True,
    "spatial_dims": 3,
    "num_classes": 1,
    "force_sliding_window": False,
    "size_divisible": [16, 16, 8],
    "infer_patch_size": [512, 512, 192],
    "anchor_generator": {
        "_target_": "monai.apps.detection.utils.anchor_utils.AnchorGeneratorWithAnchorShape",
        "feature_map_scales": [1, 2, 4],
        "base_anchor_shapes": [[6, 8, 4], [8, 6, 5], [10, 10, 6]],
    },
    "backbone": f"${BACKBONE}(spatial_dims=3,n_input_channels=1,conv1_t_stride=[2,2,1],conv1_t_size=[7,7,7])",
    "feature_extractor": f"${PYRAMID}(@backbone,3,False,[1,2],None)",
    "network_def": {
        "_target_": "RetinaNet",
        "spatial_dims": "@spatial_dims",
        "num_classes": "@num_classes",
        "num_anchors": 3,
        "feature_extractor": "@feature_extractor",
        "size_divisible": "@size_divisible",
        "use_list_output": False,
    },
    "network": "$@network_def.to(@device)",
    "detector": {
        "_target_": "RetinaNetDetector",
        "network": "@network",
        "anchor_generator": "@anchor_generator",
        "debug": False,
        "spatial_dims": "@spatial_dims",
        "num_classes": "@num_classes",
        "size_divisible": "@size_divisible",
    },
    "detector_ops": [
        "$@detector.set_target_keys(box_key='box', label_key='label')",
        f"$@detector.set_box_selector_parameters({SELECT})",
        f"$@detector.set_sliding_window_inferer({SLIDE})",
    ],
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "image", "_disabled_": "@whether_raw_luna16"},
            {
                "_target_": "LoadImaged",
                "keys": "image",
                "reader": "itkreader",
                "affine_lps_to_ras": True,
                "_disabled_": "@whether_resampled_luna16",
            },
            {"_target_": "EnsureChannelFirstd", "keys": "image"},
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {
                "_target_": "Spacingd",
                "keys": "image",
                "pixdim": [0.703125, 0.703125, 1.25],
                "_disabled_": "@whether_resampled_luna16",
            },
            {
                "_target_": "ScaleIntensityRanged",
                "keys": "image",
                "a_min": -1024.0,
                "a_max": 300.0,
                "b_min": 0.0,
                "b_max": 1.0,
                "clip": True,
            },
            {"_target_": "EnsureTyped", "keys": "image"},
        ],
    },
    "inferer": {
        "_target_": "scripts.detection_inferer.RetinaNetInferer",
        "detector": "@detector",
        "force_sliding_window": "@force_sliding_window",
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "ClipBoxToImaged", "box_keys": "box", "box_ref_image_keys": "image", "remove_empty": True},
            {"_target_": "AffineBoxToWorldCoordinated", "box_keys": "box", "affine_lps_to_ras": True},
            {"_target_": "ConvertBoxModed", "box_keys": "box", "src_mode": "xyzxyz", "dst_mode": "cccwhd"},
            {"_target_": "DeleteItemsd", "keys": ["image"]},
        ],
    },
}
"""What the model zoo's inference.json says, but for where its data lie and how its evaluation is run."""


def narrow(config: dict[str, Any]) -> dict[str, Any]:
    """The same with the narrow backbone, small windows and fewer boxes: quick."""
    config = copy.deepcopy(config)
    config["backbone"] = config["backbone"][:-1] + f",widen_factor={WIDEN})"
    config["infer_patch_size"] = [32, 32, 16]
    config["detector_ops"][1] = config["detector_ops"][1].replace("=1000", "=60").replace("=300", "=20")
    config["detector_ops"][2] = config["detector_ops"][2].replace("overlap=0.25", "overlap=0.5")
    return config


def write_bundle(folder: Path, config: dict[str, Any], tensors: Any = None, metadata: Any = METADATA) -> Path:
    for part, content in (("inference.json", config), ("metadata.json", metadata)):
        (folder / "configs").mkdir(parents=True, exist_ok=True)
        (folder / "configs" / part).write_text(json.dumps(content))
    (folder / "models").mkdir(exist_ok=True)
    import torch

    torch.save({} if tensors is None else tensors, folder / "models" / "model.pt")
    return folder

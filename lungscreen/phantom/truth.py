"""Phantom ─► JSON: what is true of a synthetic scan, and on request its masks."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lungscreen import __version__
from lungscreen.errors import OutputError
from lungscreen.phantom.dicom import patient_id, series_uid, study_uid
from lungscreen.phantom.make import Phantom, TrueNodule

__all__ = ["TRUTH_SCHEMA", "describe_truth", "write_truth"]

TRUTH_SCHEMA = 1
"""Version of the JSON's layout."""


def describe_truth(phantom: Phantom) -> dict[str, Any]:
    """The truth as plain data; LPS mm, volumes in mm³ and ml."""
    millilitres = phantom.geometry.voxel_mm3 / 1000
    config = phantom.config
    return {
        "schema_version": TRUTH_SCHEMA,
        "software": f"lungscreen {__version__}",
        "synthetic": True,
        "patient_id": patient_id(config),
        "study_uid": study_uid(config),
        "series_uid": series_uid(config),
        "geometry": {
            "affine_kji_to_lps_mm": phantom.geometry.affine.tolist(),
            "shape_zyx": list(phantom.geometry.shape),
        },
        "lungs": {
            "right_ml": round(float((phantom.lungs == 1).sum() * millilitres), 2),
            "left_ml": round(float((phantom.lungs == 2).sum() * millilitres), 2),
            "apex_cut": config.cut_apex,
            "base_cut": config.cut_base,
        },
        "nodules": [_nodule(n) for n in phantom.nodules],
        "config": asdict(config),
    }


def write_truth(phantom: Phantom, path: Path, *, masks: bool = False) -> list[Path]:
    """Write the JSON; with `masks` also NAME_lungs.nii.gz and NAME_nodules.nii.gz beside it. Returns the files.

    Errors: `output-failed`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(describe_truth(phantom), indent=2) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise OutputError("output-failed", f"cannot write the truth: {error.strerror}", str(path)) from None
    return [path, *(_write_masks(phantom, path) if masks else [])]


def _nodule(nodule: TrueNodule) -> dict[str, Any]:
    return {
        "number": nodule.number,
        "centre_mm": [round(v, 4) for v in nodule.centre_mm],
        "diameter_mm": round(nodule.diameter_mm, 4),
        "volume_mm3": round(nodule.volume_mm3, 3),
        "solid_volume_mm3": round(nodule.solid_volume_mm3, 3),
        "type": nodule.spec.type.value,
        "shape": nodule.spec.shape,
        "place": nodule.spec.place,
        "side": nodule.side,
        "visible": nodule.visible,
        "growth": nodule.spec.growth,
    }


def _write_masks(phantom: Phantom, path: Path) -> list[Path]:
    import SimpleITK as sitk

    written = []
    _, spacing, origin, direction = phantom.geometry.to_itk()
    for name, mask in (("lungs", phantom.lungs), ("nodules", phantom.nodule_labels)):
        image: Any = sitk.GetImageFromArray(mask)
        image.SetSpacing(spacing)
        image.SetOrigin(origin)
        image.SetDirection(direction)
        target = path.with_name(f"{path.stem}_{name}.nii.gz")
        try:
            sitk.WriteImage(image, str(target), True)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1]
            raise OutputError("output-failed", f"cannot write the masks: {reason}", str(target)) from None
        written.append(target)
    return written

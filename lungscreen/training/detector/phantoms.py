"""Synthetic lungs without nodules among the detector's scans: seeds → shards, as `detector.data` makes them of real
scans.

What the network marks in them is false beyond doubt, and real nodules are set into them as into real lungs.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from lungscreen.files import replace_file
from lungscreen.training.detector.data import LUNG_ROOM_MM
from lungscreen.training.detector.samples import SYNTHETIC

if TYPE_CHECKING:
    from lungscreen.phantom.config import PhantomSize

__all__ = ["phantom_name", "prepare_phantoms"]


def phantom_name(seed: int) -> str:
    """The shard's name."""
    return f"phantom-{seed}"


def prepare_phantoms(out: Path, seeds: Iterable[int], size: PhantomSize = "small") -> None:
    """Phantoms (`lungscreen.phantom`, low dose, no nodules) → `phantom-SEED.npz` and `.json` in `out`; what is there
    stays.
    """
    from lungscreen.detect.resampling import resample_box
    from lungscreen.phantom import make_phantom, sized
    from lungscreen.phantom.anatomy import draw_person

    out.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        name = phantom_name(seed)
        if (out / f"{name}.json").exists():
            continue
        sex, age = draw_person(seed)
        phantom = make_phantom(sized(size, seed=seed, nodules=(), dose="low", sex=sex, age=age))
        whole = (slice(None), slice(None), slice(None))
        hu, geometry = resample_box(phantom.hu, phantom.geometry, whole, 1.0)
        inside, _ = resample_box((phantom.lungs > 0).astype(np.int16) * 100, phantom.geometry, whole, 1.0)
        lung = inside > 50
        found = ndimage.find_objects(lung.astype(np.uint8))[0]
        box = tuple(slice(max(0, s.start - LUNG_ROOM_MM), s.stop + LUNG_ROOM_MM) for s in found)
        affine = geometry.affine.copy()
        affine[:3, 3] = geometry.to_mm([s.start for s in box])
        hu, lung = np.ascontiguousarray(hu[box]), lung[box]
        arrays = io.BytesIO()
        np.savez(arrays, hu=hu, lung=np.packbits(lung), affine=affine)
        replace_file(out / f"{name}.npz", arrays.getvalue())
        text = {
            "name": name, "series_uid": name, "original_series_uid": name, "licence": SYNTHETIC, "sure": True,
            "lesions": [], "excluded": [],
        }  # fmt: skip
        replace_file(out / f"{name}.json", json.dumps(text))

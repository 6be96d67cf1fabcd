"""Looking at what the detector learned: marks in cubes and scans, what was found, and where it was wrong.

network, cubes, scans → Measured (sensitivity where nodules grew, by false marks per 5 litres), MinedMarks
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional

from lungscreen.detect.network import STRIDE, NoduleNet
from lungscreen.training.detector.data import CUBE, Cube, Mark, PreparedScan
from lungscreen.training.detector.samples import MinedMarks, SampleEngine

__all__ = ["RATES", "DetectorFigures", "find_marks", "measure", "mine"]

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False marks per `LITRES` of lung at which sensitivity is read."""

LITRES = 5.0
"""Lung that counts as one scan."""

Marks = NDArray[np.float32]
"""Rows of (z, y, x, score), the highest first."""


@dataclass(frozen=True)
class DetectorFigures:
    """Sensitivity at `RATES`, on cubes and scans that were not learned from."""

    sensitivity: tuple[float, ...]
    nodules: int
    scans: float
    rare_at_4: float
    """Of ground-glass and part-solid nodules, at 4."""
    thresholds: tuple[float, ...]
    """Score that gives each of `RATES`."""
    ranks: tuple[int, ...]
    """Of each lesion of the whole scans: 1 and the false marks above it; 0 where it was not found."""

    def row(self) -> dict[str, float]:
        """As a row of `measured.csv`."""
        names = [f"at_{rate:g}" for rate in RATES]
        return {**dict(zip(names, self.sensitivity, strict=True)), "rare_at_4": self.rare_at_4}

    def line(self) -> str:
        """As a line of the log."""
        text = ", ".join(f"{s:.3f} at {r:g}" for s, r in zip(self.sensitivity, RATES, strict=True))
        return (
            f"{self.nodules} nodules, {self.scans:.1f} scans: {text}; rare at 4 {self.rare_at_4:.3f}; ranks"
            f" {self.ranks}"
        )


def measure(
    network: NoduleNet,
    hu: NDArray[np.int16],
    cubes: Sequence[Cube],
    scans: Sequence[PreparedScan],
    device: torch.device,
) -> DetectorFigures:
    """The in-place protocol: a nodule is found by a mark within max(radius, 2.5 mm); other marks in lung are false.

    Cubes are mirrored outwards by 7 mm only, so figures differ a little from the protocol's own 25 mm.
    """
    hits, false, litres, rare = [], [], 0.0, []
    for cube, marks in zip(cubes, _cube_marks(network, hu, cubes, device), strict=True):
        truth = Mark(cube.nodule.voxel, cube.table_diameter_mm)
        hits.append(_hit(marks, truth))
        rare.append(1 <= cube.texture <= 4)
        if cube.placed:
            lung = ndimage.gaussian_filter((hu[cube.index] < -500).astype(np.float32), 4, mode="nearest") > 0.3
            litres += float(lung.sum()) / 1e6
            known = [*cube.nodules, *cube.excluded]
            false += _false(marks, lung, [Mark(truth.voxel, max(truth.diameter_mm, 10)), *_at_least(known, 10)])
    ranks = []
    for scan in scans:
        marks = find_marks(network, scan.hu, device)
        near = ndimage.binary_dilation(scan.lung, iterations=3)
        litres += LITRES
        wrong = _false(marks, near, _at_least([*scan.lesions, *scan.excluded], 10))
        false += wrong
        for lesion in scan.lesions:
            score = _hit(marks, lesion)
            ranks.append(0 if score == -np.inf else 1 + sum(p > score for p in wrong))
    return _curve(np.array(hits), np.array(rare), np.sort(np.array(false))[::-1], litres / LITRES, tuple(ranks))


def mine(network: NoduleNet, engine: SampleEngine, per_scan: int, device: torch.device) -> MinedMarks:
    """The highest false marks of each scan that is learned from, and how hard each cube is."""
    scans: dict[str, Marks] = {}
    for scan in engine.scans:
        marks = find_marks(network, scan.hu, device)
        near = ndimage.binary_dilation(scan.lung, iterations=3)
        known = [Mark(m.voxel, m.diameter_mm * 1.5 + 6) for m in scan.lesions] + _at_least(scan.excluded, 10)
        keep = [m for m in marks if _is_false(m, near, known)]
        scans[scan.name] = np.array(keep[:per_scan], np.float32).reshape(-1, 4)
    hard: dict[int, float] = {}
    for cube, marks in zip(engine.cubes, _cube_marks(network, engine.hu, engine.cubes, device, room=-1), strict=True):
        missed = 1 - max(_hit(marks, cube.nodule), 0.0)
        inside = np.ones((CUBE,) * 3, bool)
        known = [
            Mark(cube.nodule.voxel, max(cube.nodule.diameter_mm, 10)),
            *_at_least([*cube.nodules, *cube.excluded], 10),
        ]
        wrong = max(_false(marks, inside, known), default=0.0) if cube.placed else 0.0
        hard[cube.index] = float(min(1.0, max(missed, wrong)))
    return MinedMarks(scans, hard)


def find_marks(
    network: NoduleNet, hu: NDArray[np.int16], device: torch.device, tile: int = 160, halo: int = 16
) -> Marks:
    """Peaks of the heatmap of a whole array, the highest 300."""
    heat = np.zeros([-(-n // STRIDE) for n in hu.shape], np.float32)
    offsets = np.zeros((3, *heat.shape), np.float32)
    step = tile - 2 * halo
    for z in range(0, hu.shape[0], step):
        for y in range(0, hu.shape[1], step):
            for x in range(0, hu.shape[2], step):
                start = [max(0, v - halo) for v in (z, y, x)]
                part = hu[tuple(slice(a, v + step + halo) for a, v in zip(start, (z, y, x), strict=True))]
                if (part < -500).mean() < 0.02:
                    continue
                out = _look(network, part[None], device)[0]
                here = tuple(slice((v - a) // 2, (v - a + step) // 2) for a, v in zip(start, (z, y, x), strict=True))
                there = tuple(slice(v // 2, v // 2 + out[0][here].shape[n]) for n, v in enumerate((z, y, x)))
                heat[there] = out[0][here]
                offsets[(slice(None), *there)] = out[2:5][(slice(None), *here)]
    return _peaks(heat, offsets)[:300]


def _cube_marks(
    network: NoduleNet, hu: NDArray[np.int16], cubes: Sequence[Cube], device: torch.device, room: int = 7
) -> list[Marks]:
    """Marks of each cube: mirrored outwards by `room` voxels, or (below 0) cut to less."""
    found: list[Marks] = []
    for first in range(0, len(cubes), 8):
        part = hu[[c.index for c in cubes[first : first + 8]]]
        if room >= 0:
            part = np.pad(part, ((0, 0), *((room, room),) * 3), mode="reflect")
        else:
            part = part[:, -room:room, -room:room, -room:room]
        out = _look(network, part, device)
        for one in out:
            marks = _peaks(one[0], one[2:5])
            marks[:, :3] -= room
            found.append(marks[((marks[:, :3] > -0.5) & (marks[:, :3] < CUBE - 0.5)).all(1)])
    return found


@torch.inference_mode()
def _look(network: NoduleNet, hu: NDArray[np.int16], device: torch.device) -> NDArray[np.float32]:
    x = torch.from_numpy(hu.astype(np.float32))[:, None].to(device).contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast(device.type, torch.bfloat16):
        out = network(x)
    out = out.float()
    out[:, 0] = out[:, 0].sigmoid()
    array: NDArray[np.float32] = out.cpu().numpy()
    return array


def _peaks(heat: NDArray[np.float32], offsets: NDArray[np.float32], floor: float = 0.01) -> Marks:
    top = functional.max_pool3d(torch.from_numpy(heat)[None, None], 3, 1, 1)[0, 0].numpy()
    places = np.argwhere((heat == top) & (heat > floor))
    scores = heat[tuple(places.T)]
    moved = places * STRIDE + np.clip(offsets[(slice(None), *places.T)].T, -2, 2)
    marks = np.concatenate([moved, scores[:, None]], 1).astype(np.float32)
    return _merge(marks[np.argsort(-marks[:, 3], kind="stable")][:600])


def _merge(marks: Marks, distance: float = 5.0) -> Marks:
    """Marks nearer than this to a higher one go."""
    keep: list[int] = []
    for n in range(len(marks)):
        if not keep or np.min(np.linalg.norm(marks[keep, :3] - marks[n, :3], axis=1)) >= distance:
            keep.append(n)
    return marks[keep]


def _hit(marks: Marks, nodule: Mark) -> float:
    near = np.linalg.norm(marks[:, :3] - np.array(nodule.voxel), axis=1) < max(nodule.diameter_mm / 2, 2.5)
    return float(marks[near, 3].max()) if near.any() else -np.inf


def _at_least(marks: Sequence[Mark], least: float) -> list[Mark]:
    return [Mark(m.voxel, max(m.diameter_mm, least)) for m in marks]


def _is_false(mark: NDArray[np.float32], lung: NDArray[np.bool_], known: Sequence[Mark]) -> bool:
    voxel = np.round(mark[:3]).astype(int)
    if (voxel < 0).any() or (voxel >= lung.shape).any() or not lung[tuple(voxel)]:
        return False
    return all(np.linalg.norm(mark[:3] - np.array(k.voxel)) >= k.diameter_mm / 2 for k in known)


def _false(marks: Marks, lung: NDArray[np.bool_], known: Sequence[Mark]) -> list[float]:
    return [float(m[3]) for m in marks if _is_false(m, lung, known)]


def _curve(
    hits: NDArray[np.float64], rare: NDArray[np.bool_], false: NDArray[np.float64], scans: float, ranks: tuple[int, ...]
) -> DetectorFigures:
    thresholds = []
    for rate in RATES:
        allowed = int(rate * scans)
        thresholds.append(float(false[allowed]) if allowed < len(false) else 0.0)
    sensitivity = tuple(float((hits > t).mean()) for t in thresholds)
    at_4 = float((hits[rare] > thresholds[RATES.index(4.0)]).mean()) if rare.any() else float("nan")
    return DetectorFigures(sensitivity, len(hits), scans, at_4, tuple(thresholds), ranks)

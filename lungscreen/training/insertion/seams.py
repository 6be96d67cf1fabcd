"""Can a small network tell inserted nodules from real ones? The insertion engine's own examination.

    real nodules of cubes ──────────────────────────────┐
    the same kind of nodules set in elsewhere (engine) ─┴─► small CNN ─► area under the curve on held-out ones

Learned from a recipe's training cubes and scans, examined on its choice cubes and held-out scans. 0.5 is chance: the
network sees no difference. In the examination both sides show nodules of the same held-out cubes, so what the network
can tell is their places and what the engine did, not the nodules. Scans as hosts differ from cubes in more than that
(few people against hundreds), so both are reported, the cubes as the measure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from lungscreen.detect.network import STRIDE
from lungscreen.errors import LungscreenError
from lungscreen.evaluation.statistics import area_under_curve
from lungscreen.files import replace_file
from lungscreen.training.detector.blocks import Block
from lungscreen.training.detector.data import CUBE, Cube, unpack_mask
from lungscreen.training.detector.inserter import ALIKE, read_surroundings
from lungscreen.training.detector.samples import SampleEngine
from lungscreen.training.detector.voxels import Floats, cut_mirrored

__all__ = ["Crop", "SeamsConfig", "SeamsResult", "check_seams", "write_seams"]

Rng = np.random.Generator

OFF = 1
"""Voxels that a crop may be off its nodule, along each axis."""

LEAST_AIR = 0.25
"""Least share of air around a place that a nodule is set into."""

SOURCES, TRIES = 50, 80
"""Nodules, and places for each, that are tried for one insertion."""


@dataclass(frozen=True)
class SeamsConfig:
    """side: of a crop, 1 mm voxels.
    largest_mm: nodules that are shown.
    learned, examined: inserted nodules per kind of host.

    steps, batch, rate: of the small network's training.
    draws: of the bootstrap over scans.
    """

    side: int = 16
    largest_mm: float = 10.0
    learned: int = 1200
    steps: int = 600
    batch: int = 32
    rate: float = 2e-3
    examined: int = 200
    draws: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 16 <= self.side <= 32 or self.side % 8 or self.largest_mm <= 3:
            raise ValueError("side: expected 16, 24 or 32; largest_mm: above 3")
        if min(self.learned, self.steps, self.batch, self.examined, self.draws) < 2 or not 0 < self.rate < 1:
            raise ValueError("expected learned, steps, batch, examined, draws of at least 2 and 0 < rate < 1")


@dataclass(frozen=True, eq=False)
class Crop:
    """A nodule in the middle.

    group: the scan it is of.
    """

    hu: Floats
    inserted: bool
    group: str
    score: float = 0.0
    """Of the small network: higher for "inserted"."""


@dataclass(frozen=True, eq=False)
class SeamsResult:
    """hosts: kind → area under the curve, its 95 % interval, and counts.
    crops: what was examined, scored.

    `places` among the hosts is the control: scans against cubes where nothing was set in.
    """

    hosts: dict[str, dict[str, float]]
    crops: dict[str, tuple[Crop, ...]]


def check_seams(
    learn: SampleEngine, examine: SampleEngine, config: SeamsConfig, progress: Callable[[str], None] = lambda _: None
) -> SeamsResult:
    """Train on what `learn` sets in, examine on what `examine` does; their cubes and scans share no patient.

    Errors: `training-data-invalid` where there are no nodules or no places to show.
    """
    rng = np.random.default_rng([config.seed, 1])
    cubes, inserted = _fitting(learn, config), _set_in_all(rng, learn, config, config.learned)
    pool = [crop for crops in inserted.values() for crop in crops]
    progress(f"{len(cubes)} real nodules, {len(pool)} inserted")

    def nodules(count: int) -> list[Crop]:
        real = [_real(rng, learn, cubes[int(n)], config) for n in rng.integers(len(cubes), size=count)]
        return real + [pool[int(n)] for n in rng.integers(len(pool), size=count)]

    network = _learn(rng, config, nodules, progress)
    hosts: dict[str, dict[str, float]] = {}
    shown: dict[str, tuple[Crop, ...]] = {}
    real = _scored(network, [_real(rng, examine, c, config) for c in _fitting(examine, config)])
    for kind, crops in _set_in_all(rng, examine, config, config.examined).items():
        there = _scored(network, crops)
        hosts[kind] = _area(real, there, config)
        shown[kind] = (*real, *there)
        progress(f"hosts {kind}: " + ", ".join(f"{k} {v:.3f}" for k, v in hosts[kind].items()))
    if learn.scans and examine.scans:
        hosts["places"] = _tell_places(rng, learn, examine, config, progress)
    return SeamsResult(hosts, shown)


def _tell_places(
    rng: Rng, learn: SampleEngine, examine: SampleEngine, config: SeamsConfig, progress: Callable[[str], None]
) -> dict[str, float]:
    """The control: the same kind of places in scans and in cubes, nothing set in. What tells these is no insertion."""
    pools = [_empty(rng, learn, config, kind, config.learned) for kind in ("cubes", "scans")]

    def places(count: int) -> list[Crop]:
        return [pool[int(n)] for pool in pools for n in rng.integers(len(pool), size=count)]

    network = _learn(rng, config, places, progress)
    sides = [_scored(network, _empty(rng, examine, config, kind, config.examined)) for kind in ("cubes", "scans")]
    area = _area(sides[0], sides[1], config)
    progress("places without nodules, scans against cubes: " + ", ".join(f"{k} {v:.3f}" for k, v in area.items()))
    return area


def _learn(
    rng: Rng, config: SeamsConfig, draw: Callable[[int], list[Crop]], progress: Callable[[str], None]
) -> _SmallNet:
    """A new network, taught on what `draw` gives: so many crops of either side."""
    torch.manual_seed(config.seed)
    network = _SmallNet()
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=0.01)
    losses = []
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate * 0.5 * (1 + np.cos(np.pi * step / config.steps))
        crops = draw(config.batch // 2)
        hu = torch.from_numpy(np.stack([_turned(rng, c.hu) for c in crops]))[:, None]
        wanted = torch.tensor([float(c.inserted) for c in crops])
        loss = functional.binary_cross_entropy_with_logits(network.train()(hu), wanted)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        losses.append(float(loss.detach()))
        if (step + 1) % 50 == 0:
            progress(f"step {step + 1}: loss {np.mean(losses[-50:]):.3f}")
    return network


def write_seams(result: SeamsResult, config: SeamsConfig, settings: dict[str, object], out: Path) -> None:
    """`seams.json`, and `seams.png`: a hundred real ones beside a hundred inserted ones, middle slices.

    Errors: `output-failed`.
    """
    content = {"hosts": result.hosts, "examination": asdict(config), "samples": settings}
    replace_file(out / "seams.json", json.dumps(content, indent=1) + "\n")
    _draw_sheet(result.crops["cubes"], out / "seams.png")


# -- crops -----------------------------------------------------------------------------------------------------------
def _fitting(engine: SampleEngine, config: SeamsConfig) -> list[Cube]:
    found = [c for c in engine.cubes if c.nodule.diameter_mm <= config.largest_mm]
    if not found:
        raise LungscreenError("training-data-invalid", "no nodule is small enough to be shown")
    return found


def _set_in_all(rng: Rng, engine: SampleEngine, config: SeamsConfig, count: int) -> dict[str, list[Crop]]:
    """Kind of host → that many nodules set in."""
    kinds = ("cubes", "scans") if engine.scans else ("cubes",)
    return {kind: [_inserted(rng, engine, config, kind) for _ in range(count)] for kind in kinds}


def _real(rng: Rng, engine: SampleEngine, cube: Cube, config: SeamsConfig) -> Crop:
    hu = engine.hu[cube.index].astype(np.float32)
    return Crop(_around(rng, hu, cube.nodule.voxel, config.side), False, cube.series_uid)


def _inserted(rng: Rng, engine: SampleEngine, config: SeamsConfig, kind: str) -> Crop:
    """A nodule that the engine sets into a cube's own tissue, or into a lung, at a place as the one where it grew."""
    cubes = _fitting(engine, config)
    for _ in range(SOURCES):
        source = cubes[int(rng.integers(len(cubes)))]
        mask = unpack_mask(engine.masks[source.index])
        tissue, _ = read_surroundings(engine.hu[source.index], source.nodule.voxel, mask)
        for _ in range(TRIES):
            block, place, group = _host_cube(rng, engine, config) if kind == "cubes" else _host_scan(rng, engine)
            if block is None:
                continue
            there, air = read_surroundings(block.hu, tuple(place), None)
            if abs(there - tissue) > ALIKE or air < LEAST_AIR:
                continue
            if engine.inserter.insert_real(rng, block, np.round(place).astype(int), source, 1.0):
                return Crop(_around(rng, block.hu, block.nodules[-1].voxel, config.side), True, group)
    raise LungscreenError("training-data-invalid", f"the {kind} have no place for a nodule")


def _empty(rng: Rng, engine: SampleEngine, config: SeamsConfig, kind: str, count: int) -> list[Crop]:
    """Places where a nodule might be set in, and none is; those of scans count as the inserted side."""
    crops: list[Crop] = []
    for _ in range(count * TRIES):
        block, place, group = _host_cube(rng, engine, config) if kind == "cubes" else _host_scan(rng, engine)
        if block is None or read_surroundings(block.hu, tuple(place), None)[1] < LEAST_AIR:
            continue
        crops.append(Crop(_around(rng, block.hu, tuple(place), config.side), kind == "scans", group))
        if len(crops) == count:
            return crops
    raise LungscreenError("training-data-invalid", f"the {kind} have no place for a nodule")


def _host_cube(rng: Rng, engine: SampleEngine, config: SeamsConfig) -> tuple[Block | None, NDArray[np.float64], str]:
    """A place in a cube that was annotated all through, its crop within the cube and clear of all findings."""
    placed = [c for c in engine.cubes if c.placed]
    cube = placed[int(rng.integers(len(placed)))]
    half = config.side / 2
    place = rng.uniform(half + OFF + 1, CUBE - half - OFF - 1, 3)
    for mark in (cube.nodule, *cube.nodules, *cube.excluded):
        apart = np.abs(np.array(mark.voxel) - place).max()
        if apart < max(mark.diameter_mm, 3) / 2 + half + OFF:
            return None, place, ""
    hu = engine.hu[cube.index].astype(np.float32)
    return Block(hu, np.zeros(hu.shape, bool), [], []), place, cube.series_uid


def _host_scan(rng: Rng, engine: SampleEngine) -> tuple[Block | None, NDArray[np.float64], str]:
    """A place in a lung, as the engine draws them."""
    block, scan = engine.lung_place(rng)
    middle = np.full(3, CUBE / 2)
    near = any(np.linalg.norm(np.array(m.voxel) - middle) < m.diameter_mm / 2 + CUBE / 4 for m in block.nodules)
    near |= any(np.linalg.norm(np.array(m.voxel) - middle) < m.diameter_mm / 2 + CUBE / 4 for m in block.nothing)
    return (None if near else block), middle + rng.normal(0, 0.5, 3), scan.series_uid


def _around(rng: Rng, hu: Floats, voxel: tuple[float, ...], side: int) -> Floats:
    """The crop around a nodule, up to a voxel off."""
    start = np.round(voxel).astype(int) - side // 2 + rng.integers(-OFF, OFF + 1, 3)
    return cut_mirrored(hu, start, side)[0].astype(np.float32)


def _turned(rng: Rng, hu: Floats) -> Floats:
    """Turns, flips and a shift of all HU: none of them touches a seam."""
    hu = np.rot90(hu, int(rng.integers(4)), (1, 2))
    hu = np.flip(hu, tuple(n for n in range(3) if rng.random() < 0.5))
    return np.ascontiguousarray(hu + rng.uniform(-20, 20), np.float32)


# -- the small network -----------------------------------------------------------------------------------------------
class _SmallNet(nn.Module):
    """HU crops (n, 1, side, side, side) → (n,) logit of "inserted". Sees fine texture at full resolution first."""

    def __init__(self, widths: tuple[int, ...] = (12, 24, 32, 48)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n, (have, want) in enumerate(zip((2, *widths), widths, strict=False)):
            stride = STRIDE if n else 1
            layers += [nn.Conv3d(have, want, 3, stride, 1, bias=False), nn.BatchNorm3d(want), nn.ReLU(inplace=True)]
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(2 * widths[-1], 1)

    def forward(self, hu: Tensor) -> Tensor:
        wide = (hu + 1000).div(1400).clamp(0, 1)
        air = (hu + 1000).div(300).clamp(0, 1)  # the lung's own texture, which a window that shows tissue hides
        x = self.body(torch.cat([wide, air], 1))
        out: Tensor = self.last(torch.cat([x.mean((2, 3, 4)), x.amax((2, 3, 4))], 1))[:, 0]
        return out


@torch.no_grad()
def _scored(network: _SmallNet, crops: list[Crop]) -> list[Crop]:
    network.eval()
    scores: list[float] = []
    for first in range(0, len(crops), 64):
        hu = torch.from_numpy(np.stack([c.hu for c in crops[first : first + 64]]))[:, None]
        scores += network(hu).tolist()
    return [Crop(c.hu, c.inserted, c.group, s) for c, s in zip(crops, scores, strict=True)]


def _area(real: list[Crop], inserted: list[Crop], config: SeamsConfig) -> dict[str, float]:
    """Area under the ROC curve with a bootstrap over scans (hosts and real ones each by their own)."""
    rng = np.random.default_rng([config.seed, 2])
    sides = [
        [np.array([c.score for c in side if c.group == g]) for g in sorted({c.group for c in side})]
        for side in (real, inserted)
    ]
    areas = []
    for _ in range(config.draws):
        drawn = [np.concatenate([side[int(n)] for n in rng.integers(len(side), size=len(side))]) for side in sides]
        areas.append(_above(drawn[1], drawn[0]))
    low, high = np.quantile(areas, (0.025, 0.975))
    area = _above(np.concatenate(sides[1]), np.concatenate(sides[0]))
    return {
        "area": area, "low": float(low), "high": float(high), "real": float(len(real)),
        "inserted": float(len(inserted)),
        "scans_of_real": float(len(sides[0])), "scans_of_inserted": float(len(sides[1])),
    }  # fmt: skip


def _above(high: NDArray[np.float64], low: NDArray[np.float64]) -> float:
    """How often one of the first is above one of the second; a tie counts half."""
    return area_under_curve(np.repeat([True, False], [len(high), len(low)]), np.concatenate([high, low]))


# -- the picture -----------------------------------------------------------------------------------------------------
def _draw_sheet(crops: tuple[Crop, ...], path: Path, rows: int = 10, columns: int = 10) -> None:
    """Real ones on the left, inserted ones on the right, each from the least to the most suspicious; lung window."""
    from PIL import Image

    def page(some: list[Crop]) -> NDArray[np.uint8]:
        some = sorted(some, key=lambda c: c.score)
        some = [some[round(n)] for n in np.linspace(0, len(some) - 1, min(len(some), rows * columns))]
        side = some[0].hu.shape[0]
        sheet = np.zeros((rows * (side * 3 + 2), columns * (side * 3 + 2)), np.uint8)
        for n, crop in enumerate(some):
            y, x = (n // columns) * (side * 3 + 2), (n % columns) * (side * 3 + 2)
            grey = np.clip((crop.hu[side // 2] + 1350) / 1500, 0, 1) * 255
            sheet[y : y + side * 3, x : x + side * 3] = grey.astype(np.uint8).repeat(3, 0).repeat(3, 1)
        return sheet

    left, right = (page([c for c in crops if c.inserted == kind]) for kind in (False, True))
    gap = np.full((left.shape[0], 20), 255, np.uint8)
    Image.fromarray(np.hstack([left, gap, right])).save(path)

"""`make bench-masses`: thirty masses of 25 to 60 mm set into lungs: how many are found, how large they are measured.

Half are made, half are enlarged nodules of the choice subset; they lie free, at the wall, at the mediastinum and
beside what could be taken for one at the hilum; in half of them the lungs' mask lacks the mass. Each is looked for and
measured in a block of the scan around it, at 1 mm, not in the whole scan: false findings are counted elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lungscreen.detect import DetectConfig, MassConfig, detect_nodules, propose_masses
from lungscreen.geometry import Geometry, Vector
from lungscreen.measure import effective_diameter, measure_nodules
from lungscreen.pipeline.networks import Networks, load_networks
from lungscreen.pipeline.settings import Pipeline
from lungscreen.records import Acquisition, Exam, Lungs, Patient, Series, Volume
from lungscreen.training.classifier.data import read_cubes, select
from lungscreen.training.detector.data import prepare_scans
from lungscreen.training.second_look.chests import KINDS, WholeChest, read_chest
from lungscreen.training.second_look.cubes import SOURCE_HU, SOURCE_MM
from lungscreen.training.second_look.insertion import (
    BOX,
    LungBox,
    SourceNodule,
    cut_box,
    set_in_mass,
    set_in_nodule,
)
from lungscreen.training.second_look.samples import spot_for_mass

SCANS = ("LIDC-IDRI-0003", "LIDC-IDRI-0005", "LIDC-IDRI-0063", "QIN-LSC-0014", "CMB-CRC_MSB-01068")
"""Which model A of the second look has not learned from."""

RADIUS_MM = (12.5, 30.0)
ROOM = 76
"""Voxels of the block on each side of a mass's middle."""

NEAR = 0.15
"""Share of the true diameter within which a size is right."""


@dataclass(frozen=True, eq=False)
class Case:
    """A block of a scan at 1 mm with a mass in it."""

    name: str
    hu: NDArray[np.int16]
    lung: NDArray[np.bool_]
    mask: NDArray[np.bool_]

    @property
    def diameter_mm(self) -> float:
        """Of the ball of the mass's volume."""
        return effective_diameter(float(self.mask.sum()))

    def volume(self) -> Volume:
        """The block as a scan of its own."""
        geometry = Geometry.axial(self.hu.shape, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        return Volume(self.hu, geometry, Series("image", "1.2.3", Patient(), Exam("1.2"), Acquisition()))


def make_cases(
    data: Path, work: Path, scans: Sequence[str], subsets: Sequence[str], seed: int, count: int
) -> Iterator[Case]:
    """Masses in the scans by turns; one that would be hidden is drawn anew."""
    prepare_scans(data, work / "shards", tuple(scans), print)
    chests = [with_balls(read_chest(work / "shards", name)) for name in scans]
    sources = read_sources(data, subsets, scans)
    rng = np.random.default_rng(seed)
    for n in range(count):
        chest = chests[n % len(chests)]
        case = None
        while case is None:
            case = set_in(rng, chest, sources if n % 2 else (), lacks=n // 2 % 2 == 0)
        yield case


def with_balls(chest: WholeChest) -> WholeChest:
    """The places where a mass could lie, beside which masses are set in."""
    balls = propose_masses(chest.hu, chest.lung)
    rows = [(*ball[:3], 0.0, KINDS.index("ball"), ball[3]) for ball in balls]
    return replace(chest, places=np.array(rows, np.float32).reshape(-1, 6))


def read_sources(data: Path, subsets: Sequence[str], scans: Sequence[str]) -> tuple[SourceNodule, ...]:
    """Nodules that may be enlarged, none of the scans' own patients."""
    cubes = read_cubes(data)
    sources = []
    for n in select(cubes, subsets, [name for name in scans if name.startswith("LIDC")]):
        diameter = effective_diameter(float(cubes.masks[n].sum()))
        if diameter >= SOURCE_MM and SOURCE_HU[0] < cubes.hu[n][cubes.masks[n]].mean() < SOURCE_HU[1]:
            sources.append(SourceNodule(cubes.hu[n], cubes.masks[n], diameter))
    return tuple(sources)


def set_in(rng: np.random.Generator, chest: WholeChest, sources: Sequence[SourceNodule], lacks: bool) -> Case | None:
    """A mass in a block of the chest, an enlarged nodule where there are sources; None where it would be hidden."""
    radius = float(rng.uniform(*RADIUS_MM))
    at = spot_for_mass(chest, rng, radius)
    box = LungBox(cut_box(chest.hu, at).astype(np.float32), np.zeros((BOX,) * 3, bool), cut_box(chest.lung, at))
    if sources:
        source = sources[rng.integers(len(sources))]
        done = set_in_nodule(rng, box, source, 2 * radius / source.diameter_mm, True)
    else:
        done = set_in_mass(rng, box, radius)
    if not done:
        return None
    block = tuple(slice(max(0, a - ROOM), min(n, a + ROOM)) for a, n in zip(at, chest.hu.shape, strict=True))
    hu, mask = chest.hu.copy(), np.zeros(chest.hu.shape, bool)
    low = [max(0, a - BOX // 2) for a in at]
    high = [min(n, a - BOX // 2 + BOX) for a, n in zip(at, chest.hu.shape, strict=True)]
    there = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    here = tuple(slice(a - c + BOX // 2, b - c + BOX // 2) for a, b, c in zip(low, high, at, strict=True))
    hu[there], mask[there] = np.rint(box.hu[here]), box.mask[here]
    mask = mask[block]
    if not 2 * RADIUS_MM[0] <= effective_diameter(float(mask.sum())) <= 2 * RADIUS_MM[1]:
        return None
    lung = chest.lung[block]
    return Case(chest.name, hu[block], lung & ~mask if lacks else lung, mask)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said of a mass.

    score: of the likeliest candidate in it, 0 where there is none.
    hint_mm: the candidate's diameter.
    measured_mm: equivalent diameter of its outline; None where it was not outlined.
    others: candidates at the screening point that lie outside the mass.
    """

    score: float
    hint_mm: float
    measured_mm: float | None
    others: int


def answer(case: Case, networks: Networks, pipeline: Pipeline, closing_mm: float) -> Answer:
    """Look for the mass, and measure what was found of it."""
    volume = case.volume()
    lungs = Lungs(case.lung.astype(np.uint8), 1000.0, 1000.0)
    config = DetectConfig(masses=MassConfig(closing_mm=closing_mm))
    candidates = detect_nodules(volume, lungs, networks.detector, config, networks.second_look)
    inside = [one for one in candidates if case.mask[_voxel(volume, one.centre_mm, case.mask.shape)]]
    least = networks.threshold(pipeline)
    others = sum(one.score >= least for one in candidates) - sum(one.score >= least for one in inside)
    if not inside:
        return Answer(0.0, 0.0, None, others)
    best = max(inside, key=lambda one: one.score)
    size = measure_nodules(volume, lungs, [best], pipeline.measure, networks.classifier)[0].measurement
    return Answer(best.score, best.diameter_mm, None if size is None else size.effective_diameter_mm, others)


def _voxel(volume: Volume, centre_mm: Vector, shape: tuple[int, ...]) -> tuple[int, ...]:
    at = np.rint(volume.geometry.to_index(centre_mm)).astype(int)
    return tuple(int(n) for n in np.clip(at, 0, np.array(shape) - 1))


def main() -> None:
    """Make the masses, ask, print a line for each and the sums."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for prepared scans")
    parser.add_argument("--detector", default="", help="folder of weights; the shipped ones if left out")
    parser.add_argument("--second-look", default="checkpoints/second_look_a", help="has not learned from the scans")
    parser.add_argument("--scans", nargs="+", default=list(SCANS))
    parser.add_argument("--subsets", nargs="+", default=["9"], help="whose nodules are enlarged")
    parser.add_argument("--closing-mm", type=float, default=MassConfig().closing_mm)
    parser.add_argument("--seed", type=int, default=30)
    parser.add_argument("--count", type=int, default=30)
    args = parser.parse_args()
    pipeline = Pipeline("masses", detect=DetectConfig(weights=args.detector, second_look=args.second_look))
    networks = load_networks(pipeline)
    least, found, right, ratios, others = networks.threshold(pipeline), 0, 0, [], 0
    for case in make_cases(args.shared / "data", args.work, args.scans, args.subsets, args.seed, args.count):
        said = answer(case, networks, pipeline, args.closing_mm)
        ratio = None if said.measured_mm is None else said.measured_mm / case.diameter_mm
        hit = said.score >= least
        found += hit
        others += said.others
        right += hit and ratio is not None and abs(ratio - 1) <= NEAR
        ratios += [ratio] if hit and ratio is not None else []
        print(
            f"{case.name}: {case.diameter_mm:.1f} mm, score {said.score:.3f}, hint {said.hint_mm:.1f}, ratio {ratio}",
            flush=True,
        )
    print(
        f"{found} of {args.count} found from {least:.3f} on, {others} others; within 15 %: {right}; "
        f"median ratio {np.median(ratios) if ratios else float('nan'):.2f}"
    )


if __name__ == "__main__":
    main()

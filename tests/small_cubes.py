"""Cubes as the classifier's training reads them, made up: balls in noise."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from conftest import shared_folder

from lungscreen.classify.network import OUTPUTS
from lungscreen.training.classifier.data import Cubes
from lungscreen.training.classifier.recipe import ClassifierSplit

__all__ = ["assert_nobody_is_on_two_sides", "cubes_of", "write_cubes"]


def cubes_of(count: int = 14, seed: int = 0) -> Cubes:
    """Balls in noise: large ones are rated 5, small ones 1."""
    rng = np.random.default_rng(seed)
    hu = rng.normal(-850, 30, (count, 50, 50, 50))
    radius = np.where(np.arange(count) % 2, 6.0, 2.5)
    centres = 24.5 + rng.uniform(-1.5, 1.5, (count, 3))
    index = np.stack(np.meshgrid(*[np.arange(50)] * 3, indexing="ij"), -1)
    masks = np.stack([np.linalg.norm(index - c, axis=-1) <= r for c, r in zip(centres, radius, strict=True)])
    hu[masks] += 870
    high = radius > 4
    targets = np.full((count, len(OUTPUTS)), np.nan, np.float32)
    targets[:, :4] = high[:, None]
    targets[2:, 4:] = 0.5
    return Cubes(
        names=tuple(f"c{n}" for n in range(count)),
        hu=hu.astype(np.int16),
        masks=masks,
        centres=centres.astype(np.float32),
        targets=targets,
        mean_rating=np.where(high, 5, 1).astype(np.float32),
        majority=high,
        subsets=tuple("9" if n >= count - 4 else "2" for n in range(count)),
        persons=tuple(f"P{n}" for n in range(count)),
        diameter_mm=(2 * radius).astype(np.float32),
    )


def write_cubes(cubes: Cubes, folder: Path) -> Path:
    """The cubes as they are published: table, packed masks, JPEG-LS."""
    import jpeg_ls

    (folder / "cubes" / "ct").mkdir(parents=True)
    names = [
        "cube",
        "series_uid",
        "patient_id",
        "luna16_subset",
        "placed",
        "nodule_z",
        "nodule_y",
        "nodule_x",
        "diameter_mm",
        "malignancy_scores",
    ]
    ratings = ["subtlety", "calcification", "sphericity", "margin", "lobulation", "spiculation", "texture"]
    with (folder / "cubes" / "cubes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*names, *ratings])
        for n, name in enumerate(cubes.names):
            scores = "5 5 4" if cubes.majority[n] else "1 2 1"
            rest = ["5", "6", "3", "3", "1", "1", "5"] if n else [""] * 7
            person = "" if n == 1 else cubes.persons[n]
            table.writerow([name, f"1.2.{n}", person, cubes.subsets[n], "yes", *cubes.centres[n], 5.0, scores, *rest])
            path = folder / "cubes" / "ct" / f"{name}.jls"
            stored = (cubes.hu[n].astype(np.int32) + 1024).astype(np.uint16)
            path.write_bytes(bytes(jpeg_ls.encode(np.ascontiguousarray(stored.reshape(2500, 50)))))
    packed = {name: np.packbits(cubes.masks[n]) for n, name in enumerate(cubes.names)}
    np.savez(folder / "cubes" / "masks.npz", **packed)  # type: ignore[arg-type]
    return folder


def assert_nobody_is_on_two_sides(split: ClassifierSplit) -> None:
    """Nobody of the real cubes is learned from and chosen on, and nobody of subset 1 is in either."""
    with shared_folder("data", "cubes", "cubes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [r for r in rows if r["patient_id"] not in split.held_out_patients]
    sides = [
        {r["patient_id"] or r["series_uid"] for r in kept if r["luna16_subset"] in subsets}
        for subsets in (split.train_subsets, split.choice_subsets, ("1",))
    ]
    assert not sides[0] & sides[1]
    assert not (sides[0] | sides[1]) & sides[2]

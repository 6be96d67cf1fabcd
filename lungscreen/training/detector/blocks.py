"""What the detector's samples are made of: their settings, a block on its way, and a bank of noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

import numpy as np
from scipy import ndimage

from lungscreen.training.detector.data import CUBE, Mark
from lungscreen.training.detector.voxels import Bools, Floats

__all__ = ["Block", "NoiseBank", "SampleConfig"]


@dataclass(frozen=True)
class SampleConfig:
    """What the blocks are made of; probabilities, millimetres, HU.

    patch: side of a patch, voxels.
    cube_share: blocks that are cubes.
    cover: cubes with a nodule under `cover_below_mm` whose nodule is covered.
    insert: lung blocks that get a nodule.
    from_mined: lung blocks around a mined false mark.
    synthetic: inserted nodules whose texture is made (ground-glass, part-solid).
    decoy: blocks with normal tissue set in.
    normal_from_cubes: normal tissue that is set in and comes from cubes, the rest comes from scans.
    shift: blocks shifted by up to `shift_mm`, up to `crop_mm` cut off each face.
    phantom_weight: how much more often a phantom is drawn than a scan of the same volume.
    rare_weight: how much more often ground-glass and part-solid nodules are drawn.
    small_weight: those under 6 mm.
    ignore_unsure: marks above this score in scans that are not wholly annotated are ignored.

    Options, off in the recipes of the first weights: made: inserted nodules whose shape is made too, solid, part-solid
    or ground-glass.
    cavity: solid nodules of 6.6 mm and more that are made hollow, in cubes and inserted, and made ones that are
        thin-walled cavities.
    insert_in_cubes: cubes that get another nodule.
    match: what is inserted gets the noise of its new place, and none is smoothed by half a voxel.
    turn_degrees: patches are turned by up to this about the body's axis.
    thick: patches as slices of `thick_mm` show them.
    """

    patch: int = 48
    cube_share: float = 0.5
    cover: float = 0.6
    cover_below_mm: float = 12.0
    insert: float = 0.5
    from_mined: float = 0.5
    synthetic: float = 0.15
    decoy: float = 0.35
    normal_from_cubes: float = 0.3
    shift: float = 0.8
    shift_mm: int = 16
    crop_mm: int = 14
    zoom: float = 0.25
    phantom_weight: float = 0.25
    rare_weight: float = 2.5
    small_weight: float = 1.4
    ignore_unsure: float = 0.3
    noise_hu: float = 50.0
    blur: float = 0.5
    scales: tuple[float, ...] = (0.7, 0.85, 0.85, 1.0, 1.0, 1.2)
    made: float = 0.0
    insert_in_cubes: float = 0.0
    cavity: float = 0.0
    match: bool = False
    turn_degrees: float = 0.0
    thick: float = 0.0
    thick_mm: tuple[float, float] = (1.5, 5.0)

    def __post_init__(self) -> None:
        shares = (
            "cube_share", "cover", "insert", "from_mined", "synthetic", "decoy", "normal_from_cubes", "shift", "zoom",
            "blur", "ignore_unsure", "made", "insert_in_cubes", "cavity", "thick",
        )  # fmt: skip
        for name in shares:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected 0 to 1")
        if not 16 <= self.patch <= CUBE or self.patch % 16:
            raise ValueError(f"patch: expected a multiple of 16 up to {CUBE}")
        weights = (self.rare_weight, self.small_weight, self.phantom_weight)
        if not all((0 <= self.shift_mm <= 20, 0 <= self.crop_mm <= 16, min(weights) > 0, self.scales)):
            raise ValueError("expected shift_mm of 0 to 20, crop_mm of 0 to 16, weights above 0, at least one scale")
        if not 0 <= self.turn_degrees <= 45 or not 1 <= self.thick_mm[0] <= self.thick_mm[1] <= 10:
            raise ValueError("expected turn_degrees of 0 to 45, thick_mm of 1 to 10 with the smaller first")

    @property
    def settings(self) -> dict[str, object]:
        """What a run's identity follows from: options that are off say nothing, so that older runs can go on."""
        return {k: v for k, v in asdict(self).items() if k not in _OPTIONS or v != _OPTIONS[k]}


_OPTIONS = {
    f.name: f.default
    for f in fields(SampleConfig)
    if f.name in ("made", "insert_in_cubes", "cavity", "match", "turn_degrees", "thick", "thick_mm")
}


@dataclass(eq=False)
class Block:
    """A block on its way: what is known of it in voxels."""

    hu: Floats
    ignore: Bools
    nodules: list[Mark]
    nothing: list[Mark]
    """Balls to ignore."""


class NoiseBank:
    """Fields of noise, white to smooth, mean 0 and deviation 1; the smoothest is for edges and textures."""

    def __init__(self, seed: int) -> None:
        self.bank = _make_noise(seed)

    def draw(self, rng: np.random.Generator, side: int) -> Floats:
        """A piece of one of them, the smoothest left out."""
        return self._piece(rng, self.bank[int(rng.integers(len(self.bank) - 1))], side)

    def smooth(self, rng: np.random.Generator, side: int) -> Floats:
        """A piece of the smoothest."""
        return self._piece(rng, self.bank[-1], side)

    def _piece(self, rng: np.random.Generator, field: Floats, side: int) -> Floats:
        z, y, x = rng.integers(0, field.shape[0] - side + 1, 3)
        return field[z : z + side, y : y + side, x : x + side]


def _make_noise(seed: int) -> list[Floats]:
    rng = np.random.default_rng([seed, 1 << 40])
    bank = []
    for sigma in (0.0, 0.0, 0.5, 0.7, 0.9, 1.2, 2.0):
        noise = rng.standard_normal((80, 80, 80)).astype(np.float32)
        if sigma:
            noise = ndimage.gaussian_filter(noise, (sigma * 0.7, sigma, sigma), mode="wrap")
        bank.append(np.asarray(noise / noise.std(), np.float32))
    return bank

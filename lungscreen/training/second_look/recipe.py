"""What a run of the second look's training is made of: TOML → SecondLookTraining."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from lungscreen.config import config_hash
from lungscreen.training.classifier.recipe import PATCHES, ClassifierSplit
from lungscreen.training.classifier.samples import Variation

__all__ = ["Mining", "SecondLookTraining"]


@dataclass(frozen=True)
class Mining:
    """Where false marks come from.

    detectors: folders of weights that look, as `[detect] weights` names them; empty: the shipped ones. Of a phantom one
    of them looks, in turn.  least: score from which a mark counts, of the cubes and of the phantoms.  most: marks of a
    cube, the highest, and of a phantom.  spots: densest places of a cube beside its marks, small ones and large ones.
    phantoms: seeds learned from;
    held_out_phantoms: seeds that are only looked at in the end.
    """

    detectors: tuple[str, ...] = ()
    least: tuple[float, float] = (0.05, 0.09)
    most: tuple[int, int] = (8, 16)
    spots: tuple[int, int] = (5, 3)
    phantoms: tuple[int, ...] = ()
    held_out_phantoms: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if set(self.phantoms) & set(self.held_out_phantoms):
            raise ValueError("a phantom is learned from and held out")
        if not (0 < min(self.least) <= max(self.least) < 1 and min(self.most) >= 1 and min(self.spots) >= 0):
            raise ValueError("expected 0 < least < 1, most of at least 1, no spots or some")


@dataclass(frozen=True)
class SecondLookTraining:
    """The whole recipe: `pipelines/train_second_look.toml`.

    split: who is learned from, whose nodules choose the threshold, who is in neither.  steps: of `batch` places, half
    of them nodules.  rate: highest learning rate.  made: share of phantoms' places among either half.  strong: a false
    mark is drawn in proportion to this power of its score.  faint: how much more often a nodule is drawn that is mostly
    ground-glass.
    ema: decay of the running mean of the weights, which is what ships.  patch: voxels of the cube that the network
    sees, 1 mm each.  sensitivity: share of nodules that the threshold must keep, of the choice subsets and of those
    learned from.  save_every: steps between checkpoints; what is drawn between two of them follows from the seed and
    the step, so it is part of the run's identity.
    """

    split: ClassifierSplit
    mining: Mining = field(default_factory=Mining)
    variation: Variation = field(default_factory=lambda: Variation(shift_mm=3.0))
    widths: tuple[int, ...] = (16, 32, 64)
    patch: int = 32
    steps: int = 3000
    batch: int = 8
    rate: float = 2e-3
    weight_decay: float = 0.05
    made: float = 0.25
    strong: float = 1.5
    faint: float = 1.0
    ema: float = 0.995
    sensitivity: float = 0.99
    save_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.save_every, self.batch // 2) < 1 or self.batch % 2:
            raise ValueError("expected steps and save_every of at least 1 and an even batch of at least 2")
        if not all((0 < self.rate < 1, 0 <= self.made < 1, 0 <= self.ema < 1, 0 < self.sensitivity <= 1)):
            raise ValueError("expected 0 < rate < 1, 0 <= made < 1, 0 <= ema < 1, 0 < sensitivity <= 1")
        if self.strong < 0 or self.faint <= 0 or self.patch not in PATCHES or len(self.widths) != 3:
            raise ValueError(
                f"expected strong of at least 0, faint above 0, a patch of one of {PATCHES} voxels and three widths"
            )

    def identity(self, *what: object) -> str:
        """A hash over all that decides what is learned from the same places."""
        table = {key: value for key, value in asdict(self).items() if key not in {"mining", "sensitivity"}}
        return config_hash(table, *what)

"""What a run of the classifier's training is made of: TOML → ClassifierTraining."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Literal

from lungscreen.classify.network import FoldedNetwork, Network, NoduleNetwork
from lungscreen.config import config_hash
from lungscreen.training.classifier.samples import Variation

__all__ = ["ClassifierFolds", "ClassifierSplit", "ClassifierTraining", "new_network"]

PATCHES = (24, 32, 40, 48)
"""Patches that can be trained on. With 16, the deepest maps are 2 x 2 x 2, and there the bfloat16 gradient of PyTorch
2.13's
convolution reads memory that nobody wrote: two equal runs differ, some diverge."""


@dataclass(frozen=True)
class ClassifierSplit:
    """Who is learned from. Subsets are LUNA16's.

    train_subsets: learned from.
    choice_subsets: for choices and the calibration.
    held_out_patients: left out of both.
    """

    train_subsets: tuple[str, ...]
    choice_subsets: tuple[str, ...]
    held_out_patients: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if set(self.train_subsets) & set(self.choice_subsets):
            raise ValueError("a subset is learned from and used for choices")


@dataclass(frozen=True)
class ClassifierFolds:
    """Who is rated by networks that have learned from everybody else: a fold is left out at a time, by patient.

    count: folds.
    first_subsets, first_patients: who is in the first fold; its networks are the ones that ship, so that these people
        stay unseen by them.
    seed: of the draw that puts everybody else into the other folds.
    """

    count: int = 5
    first_subsets: tuple[str, ...] = ()
    first_patients: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError("expected at least 2 folds")


@dataclass(frozen=True)
class ClassifierTraining:
    """The whole recipe: `pipelines/train_classifier*.toml`. It has either a split or folds.

    network: "full" works on every voxel and draws the finer outline, "folded" is several times faster.
    normalised: of a folded one, features are brought to one scale before ratings are drawn from them.
    members: networks that are averaged.
    epochs: in which the learning rate rises and falls once.
    second_cycle: epochs in which it then does so again, 0 for none.
    rate: the highest.
    ema: decay of the running mean of the weights, which is what ships.
    patch: voxels of the cube that the network sees, 1 mm each.
    reach: voxels that this view is moved to what the network draws, at most, before it rates.
    outline_weight: of the outline's loss beside the ratings'.
    """

    split: ClassifierSplit | None = None
    folds: ClassifierFolds | None = None
    variation: Variation = field(default_factory=Variation)
    network: Literal["full", "folded"] = "full"
    widths: tuple[int, ...] = (8, 16, 32, 64)
    normalised: bool = False
    members: int = 1
    epochs: int = 40
    second_cycle: int = 0
    batch: int = 16
    rate: float = 3e-3
    weight_decay: float = 0.05
    ema: float = 0.995
    clip: float = 2.0
    outline_weight: float = 0.5
    patch: int = 40
    reach: int = 0
    seed: int = 0
    version: str = "1"

    def __post_init__(self) -> None:
        if (self.split is None) == (self.folds is None):
            raise ValueError("expected either a split or folds")
        if min(self.members, self.epochs, self.batch) < 1:
            raise ValueError("expected members, epochs and batch of at least 1")
        if self.second_cycle < 0:
            raise ValueError("expected a second cycle of 0 epochs or more")
        if not all((0 < self.rate < 1, 0 <= self.ema < 1, self.clip > 0, self.outline_weight >= 0)):
            raise ValueError("expected 0 < rate < 1, 0 <= ema < 1, clip above 0, outline_weight of at least 0")
        self._check_network()

    def _check_network(self) -> None:
        if len(self.widths) != (4 if self.network == "full" else 3):
            raise ValueError("expected four widths of a full network, three of a folded one")
        if self.normalised and self.network == "full":
            raise ValueError("expected a folded network where features are normalised")
        if self.patch not in PATCHES:
            raise ValueError(f"expected a patch of one of {PATCHES} voxels")
        if not 0 <= self.reach <= self.patch // 2:
            raise ValueError("expected a reach of 0 to half the patch")

    @property
    def subsets(self) -> tuple[str, ...] | None:
        """Subsets whose cubes are read; None for all of them."""
        return (*self.split.train_subsets, *self.split.choice_subsets) if self.split else None

    def identity(self, *what: object) -> str:
        """A hash over all that decides what a member learns from the same cubes, up to the end of the first cycle."""
        elsewhere = {"split", "folds", "members", "reach", "second_cycle", "version"}
        return config_hash({key: value for key, value in asdict(self).items() if key not in elsewhere}, *what)


def new_network(config: ClassifierTraining) -> Network:
    """A network as it starts, drawn from torch's own seed."""
    if config.network == "full":
        return NoduleNetwork(config.widths)
    return FoldedNetwork(config.widths, normalised=config.normalised)

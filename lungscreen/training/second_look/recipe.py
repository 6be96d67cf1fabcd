"""What a run of the second look's training is made of: TOML → SecondLookTraining."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from lungscreen.classify.two_views import TwoViewsConfig
from lungscreen.config import config_hash

__all__ = ["Mining", "SampleShares", "SecondLookSplit", "SecondLookTraining"]


@dataclass(frozen=True)
class SecondLookSplit:
    """Who is learned from, and who chooses.

    train_subsets: LUNA16's official subsets whose cubes are learned from.
    choice_subsets: those whose cubes choose the curves and operating points.
    held_out_patients: in neither.
    scans: whole scans that are learned from.
    choice_scans: whole scans, every nodule of theirs known, that choose.
    phantoms: seeds learned from.
    """

    train_subsets: tuple[str, ...]
    choice_subsets: tuple[str, ...]
    held_out_patients: tuple[str, ...] = ()
    scans: tuple[str, ...] = ()
    choice_scans: tuple[str, ...] = ()
    phantoms: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if set(self.train_subsets) & set(self.choice_subsets) or set(self.scans) & set(self.choice_scans):
            raise ValueError("a subset or a scan is learned from and used for choices")
        if not self.train_subsets or not self.choice_subsets:
            raise ValueError("expected subsets to learn from and subsets to choose on")


@dataclass(frozen=True)
class Mining:
    """Where false marks come from.

    detectors: folders of weights that look, as `[detect] weights` names them; empty: the shipped ones.
    least: score from which a mark counts.
    cube_marks, cube_spots: marks of a cube, and densest small and large places of it.
    scan_marks, scan_spots: the same of a whole scan.
    scan_places: places at and outside its lungs' border drawn at random.
    near_mm: how far outside the lungs a place may lie, but for one where a mass could.
    closing_mm: radius of the ball that closes the lungs where a mass could lie: larger than in the product, more of
        what is none is seen.
    """

    detectors: tuple[str, ...] = ()
    least: float = 0.02
    cube_marks: int = 12
    cube_spots: tuple[int, int] = (6, 4)
    scan_marks: int = 250
    scan_spots: tuple[int, int] = (200, 150)
    scan_places: int = 120
    near_mm: float = 12.0
    closing_mm: float = 16.0

    def __post_init__(self) -> None:
        counts = (self.cube_marks, *self.cube_spots, self.scan_marks, *self.scan_spots, self.scan_places)
        if not 0 < self.least < 1 or min(counts) < 0 or self.near_mm < 0 or self.closing_mm <= 0:
            raise ValueError("expected least between 0 and 1, and no counts or lengths below 0")


@dataclass(frozen=True)
class SampleShares:
    """How samples are drawn, as shares of 1.

    cubes, phantoms: of all samples; the rest comes from whole scans.
    masses: of the positives of scans that are masses, of which `enlarged` are real nodules enlarged, the others made.
    known: of the positives of scans that are annotated there.
    decoys: of the places without a mark into which other normal tissue is set.
    mirrored: of samples of scans that are cut and mirrored outwards, as cubes are.
    faint, large, part_solid: how much more often such a nodule of a cube comes.
    even: 0: all others as often as they are there; 1: every size and density as often as every other, in cubes and
        among what is set into chests; between: a power.
    sharp: of samples that are sharpened, their noise too, as sharp kernels do.
    hard: false marks that the weights which the run begins with take for nodules come more often, as if a detector had
        scored them so.
    """

    cubes: float = 0.5
    phantoms: float = 0.15
    masses: float = 0.4
    enlarged: float = 0.45
    known: float = 0.15
    decoys: float = 0.35
    mirrored: float = 0.3
    faint: float = 3.0
    large: float = 2.0
    part_solid: float = 2.0
    even: float = 0.0
    sharp: float = 0.0
    hard: bool = False

    def __post_init__(self) -> None:
        shares = (
            self.cubes,
            self.phantoms,
            self.masses,
            self.enlarged,
            self.known,
            self.decoys,
            self.mirrored,
            self.even,
            self.sharp,
        )
        if min(shares) < 0 or self.cubes + self.phantoms > 1 or max(shares) > 1 or self.masses + self.known > 1:
            raise ValueError("expected shares of 0 to 1")
        if min(self.faint, self.large, self.part_solid) <= 0:
            raise ValueError("faint, large, part_solid: expected more than 0")


@dataclass(frozen=True)
class SecondLookTraining:
    """The whole recipe: `pipelines/train_second_look*.toml`.

    steps: of `batch` samples, half of them nodules; 0: what the run begins with is averaged, and chosen for.
    rate: highest learning rate.
    rise: share of the steps in which it rises; then it falls by a cosine, where `fall`.
    ema: decay of the running mean of the weights, which is what ships.
    save_every: steps between checkpoints.
    """

    split: SecondLookSplit
    mining: Mining = field(default_factory=Mining)
    shares: SampleShares = field(default_factory=SampleShares)
    network: TwoViewsConfig = field(default_factory=TwoViewsConfig)
    steps: int = 800
    batch: int = 16
    rate: float = 1.5e-3
    rise: float = 0.08
    fall: bool = True
    weight_decay: float = 0.05
    ema: float = 0.997
    save_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 0 or self.save_every < 1 or self.batch < 2 or self.batch % 2:
            raise ValueError("expected steps of at least 0, save_every of at least 1 and an even batch of at least 2")
        if not (0 < self.rate < 1 and 0 <= self.ema < 1 and 0 < self.rise < 1 and self.weight_decay >= 0):
            raise ValueError("expected 0 < rate < 1, 0 <= ema < 1, 0 < rise < 1, weight_decay of at least 0")

    def identity(self, *what: object) -> str:
        """A hash over all that decides what is learned from the same places."""
        table = {key: value for key, value in asdict(self).items() if key != "save_every"}
        return config_hash(table, *what)

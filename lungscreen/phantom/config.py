"""What can be asked of a phantom: sizes in millimetres, values in HU.

Anatomy, nodules and scan are separate: `seed` makes the body, its vessels and the nodules; `scan_seed` the noise, and
`pose` how the body lay and breathed. Two configurations that differ in the last two (and in `growth`) only are two
visits of one patient.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from lungscreen.geometry import Vector
from lungscreen.records import NoduleType

__all__ = [
    "SIZES",
    "Dose",
    "Kernel",
    "NoduleShape",
    "NoduleSpec",
    "PhantomConfig",
    "PhantomPlace",
    "PhantomSize",
    "Pose",
    "Sex",
    "sized",
]

NoduleShape = Literal["sphere", "ellipsoid", "lobulated", "spiculated"]
PhantomPlace = Literal["parenchymal", "juxtapleural"]
Kernel = Literal["soft", "standard", "sharp"]
Sex = Literal["M", "F", "O"]
Dose = Literal["standard", "low", "ultra-low"]
PhantomSize = Literal["full", "small", "tiny"]

NODULE_TYPES = (NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS, NoduleType.CALCIFIED)
"""What a phantom's nodule can be made of."""

MOST_NODULES = 100
"""More do not fit into a pair of lungs."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, slots=True)
class NoduleSpec:
    """One nodule that is wanted.

    centre_mm: LPS mm in the anatomy's own space (the scan's, at the neutral pose); None: a place is drawn.
    diameter_mm: of the sphere of the same volume, before any cut by the pleura and before growth.
    place: where it is drawn; a juxtapleural nodule sits on the chest wall, and what would lie outside the lung is cut.
    solid_fraction: share of a part-solid nodule's diameter that its core has.
    growth: factor on its volume at this visit.
    """

    diameter_mm: float = 8.0
    type: NoduleType = NoduleType.SOLID
    shape: NoduleShape = "sphere"
    place: PhantomPlace = "parenchymal"
    centre_mm: Vector | None = None
    solid_fraction: float = 0.5
    growth: float = 1.0

    def __post_init__(self) -> None:
        _require(1 <= self.diameter_mm <= 60, f"expected a nodule of 1 to 60 mm, got {self.diameter_mm}")
        _require(self.type in NODULE_TYPES, f"a phantom has no nodule of type {self.type}")
        _require(self.shape in get_args(NoduleShape), f"unknown nodule shape {self.shape!r}")
        _require(self.place in get_args(PhantomPlace), f"unknown nodule place {self.place!r}")
        _require(0 < self.solid_fraction < 1, "expected a solid_fraction between 0 and 1")
        _require(0.01 <= self.growth <= 100, "expected growth as a factor of 0.01 to 100")


@dataclass(frozen=True, slots=True)
class Pose:
    """How the body lay and breathed at a visit; the neutral pose changes nothing.

    shift_mm: LPS.
    rotation_deg: about the x, y and z axis through the carina, applied in this order.
    breathing_mm: how far the diaphragm went up (expiration, positive) or down against the neutral scan.
    """

    shift_mm: Vector = (0.0, 0.0, 0.0)
    rotation_deg: Vector = (0.0, 0.0, 0.0)
    breathing_mm: float = 0.0

    def __post_init__(self) -> None:
        _require(max(map(abs, self.shift_mm)) <= 100, "expected a shift of at most 100 mm")
        _require(max(map(abs, self.rotation_deg)) <= 30, "expected rotations of at most 30 degrees")
        _require(-30 <= self.breathing_mm <= 40, "expected breathing_mm from -30 to 40")


@dataclass(frozen=True, slots=True)
class PhantomConfig:
    """A patient and one scan of it.

    rows, columns: the matrix.
    pixel_mm: of both.
    slice_spacing_mm, slice_thickness_mm: thicker than spaced overlaps.
    nodules: specifications, or how many to draw at random.
    age: years, sex: M, F or O.
    study_date: YYYYMMDD. The patient's name and ID come from the seed.
    """

    seed: int = 0
    scan_seed: int = 0
    rows: int = 512
    columns: int = 512
    pixel_mm: float = 0.7
    slice_spacing_mm: float = 1.0
    slice_thickness_mm: float = 1.0
    nodules: int | tuple[NoduleSpec, ...] = 3
    emphysema: bool = False
    arms_down: bool = False
    cut_apex: bool = False
    cut_base: bool = False
    dose: Dose = "low"
    kernel: Kernel = "standard"
    noise: bool = True
    pose: Pose = field(default_factory=Pose)
    sex: Sex = "M"
    age: int = 63
    study_date: str = "20200101"

    def __post_init__(self) -> None:
        _require(0 <= self.seed < 2**63 and 0 <= self.scan_seed < 2**63, "expected seeds from 0 to 2**63 - 1")
        _require(
            16 <= min(self.rows, self.columns) <= max(self.rows, self.columns) <= 1024, "expected 16 to 1024 pixels"
        )
        _require(0.3 <= self.pixel_mm <= 6, "expected pixel_mm from 0.3 to 6")
        _require(0.3 <= self.slice_spacing_mm <= 10, "expected slice_spacing_mm from 0.3 to 10")
        _require(0.3 <= self.slice_thickness_mm <= 10, "expected slice_thickness_mm from 0.3 to 10")
        count = len(self.nodules) if isinstance(self.nodules, tuple) else self.nodules
        _require(0 <= count <= MOST_NODULES, f"expected 0 to {MOST_NODULES} nodules, got {count}")
        _require(self.dose in get_args(Dose), f"unknown dose {self.dose!r}")
        _require(self.kernel in get_args(Kernel), f"unknown kernel {self.kernel!r}")
        _require(self.sex in get_args(Sex) and 18 <= self.age <= 120, "expected sex M, F or O and an age of 18 to 120")
        _require(len(self.study_date) == 8 and self.study_date.isdecimal(), "expected study_date as YYYYMMDD")


SIZES: dict[PhantomSize, dict[str, Any]] = {
    "full": {"rows": 512, "columns": 512, "pixel_mm": 0.7, "slice_spacing_mm": 1.0, "slice_thickness_mm": 1.0},
    "small": {"rows": 160, "columns": 192, "pixel_mm": 2.0, "slice_spacing_mm": 2.5, "slice_thickness_mm": 2.5},
    "tiny": {"rows": 72, "columns": 92, "pixel_mm": 4.0, "slice_spacing_mm": 5.0, "slice_thickness_mm": 5.0},
}
"""Matrix and slices by name: what a scanner writes; a whole thorax in seconds; the least that is still a chest CT."""


ARMS_VIEW = 1.3
"""How much wider the field of view is that holds the arms too."""


def sized(size: PhantomSize, **options: Any) -> PhantomConfig:
    """A configuration of a named size; `options` are PhantomConfig's fields. Arms beside the body get a wider view."""
    table = dict(SIZES[size])
    if options.get("arms_down"):
        table["pixel_mm"] = round(table["pixel_mm"] * ARMS_VIEW, 3)
    return replace(PhantomConfig(), **{**table, **options})

"""What a segmenter of lungs answers."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lungscreen.lungs.references import References

__all__ = ["LungMask"]


@dataclass(frozen=True, eq=False)
class LungMask:
    """Lungs as a segmenter finds them: what is measured of them, and said, is the stage's business.

    mask: uint8 (z, y, x) on the volume's grid: 0 elsewhere, 1 right lung, 2 left lung.
    """

    mask: NDArray[np.uint8]
    opacity_ml: float = 0.0
    """The largest dense region on the chest wall or against the mediastinum, which may hide part of a lung."""
    opacity_at: tuple[float, float, float] | None = None
    """A place in it: voxel (z, y, x) of the volume. None where no place is known."""
    airways_found: bool = True
    """False where the mask may hold large airways."""
    left_out_ml: float = 0.0
    """Air inside the chest that looks like lung and is neither in the mask nor airway or bowel."""
    upside_down: bool = False
    """The airways lie low in the lungs: head and feet are probably exchanged."""
    references: References = field(default_factory=References)
    """What air in the airways, blood and fat measure."""

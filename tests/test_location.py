"""Where a nodule lies: the estimated lobe and the distance to the lung's border."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lungscreen.geometry import Geometry
from lungscreen.measure import find_lung_boxes, locate_nodule
from lungscreen.measure.location import PLEURA_REACH_MM
from lungscreen.phantom import make_phantom, sized
from lungscreen.phantom.anatomy import lobe_of, make_body
from lungscreen.records import Acquisition, Exam, Lungs, Outline, Patient, Series, Volume

GRID = Geometry.axial((60, 70, 90), (3.0, 2.0, 1.5), (-70.0, 12.0, -310.0))
"""Not cubic, anisotropic, off the origin; the patient's right comes first in a row."""


def a_volume(geometry: Geometry = GRID) -> Volume:
    series = Series("dicom", "1.2", Patient(), Exam("1"), Acquisition())
    return Volume(np.zeros(geometry.shape, np.int16), geometry, series)


def two_blocks() -> Lungs:
    """Each lung a block: (z, y, x) from (5, 10, 5) to (54, 59, 39), and the same from column 50 on."""
    mask = np.zeros(GRID.shape, np.uint8)
    mask[5:55, 10:60, 5:40], mask[5:55, 10:60, 50:85] = 1, 2
    return Lungs(mask, 1.0, 1.0)


def place(height: float, back: float, column: int) -> tuple[float, float, float]:
    """LPS mm of a place in the blocks: 0 to 1 from their base and from their front."""
    x, y, z = GRID.to_mm((5 + 49 * height, 10 + 49 * back, column))
    return float(x), float(y), float(z)


@pytest.mark.parametrize(
    ("height", "back", "column", "lobe"),
    [
        (0.9, 0.5, 20, "right upper lobe"),
        (0.9, 0.5, 70, "left upper lobe"),
        (0.35, 0.05, 20, "right middle lobe"),
        (0.35, 0.05, 70, "left upper lobe"),
        (0.3, 0.9, 20, "right lower lobe"),
        (0.3, 0.9, 70, "left lower lobe"),
        (0.55, 0.95, 20, "right lower lobe"),
        (0.49, 0.5, 20, ""),
        (0.52, 0.3, 20, ""),
    ],
)
def test_lobes_lie_as_anatomy_has_them(height: float, back: float, column: int, lobe: str) -> None:
    """Upper above and in front of the oblique fissure; on the right the middle lobe below the horizontal one; near a
    fissure none.
    """
    assert locate_nodule(a_volume(), two_blocks(), place(height, back, column)).lobe == lobe


@pytest.mark.parametrize("flaw", ["apex_cut", "base_cut", "incomplete"])
def test_no_lobe_where_the_lung_is_not_whole(flaw: str) -> None:
    """The planes hang on the lung's own top and bottom."""
    lungs = replace(two_blocks(), **{flaw: True})
    where = locate_nodule(a_volume(), lungs, place(0.9, 0.5, 20))
    assert (where.side, where.zone, where.lobe) == ("right", "upper", "")


def test_boxes_found_before_give_the_same() -> None:
    lungs = two_blocks()
    at = place(0.3, 0.9, 70)
    assert locate_nodule(a_volume(), lungs, at, None, find_lung_boxes(lungs)) == locate_nodule(a_volume(), lungs, at)
    assert find_lung_boxes(None).ends == {}
    only_left = replace(lungs, mask=np.where(lungs.mask == 2, lungs.mask, 0).astype(np.uint8))
    assert set(find_lung_boxes(only_left).ends) == {2}


def outline_at(start: tuple[int, int, int], shape: tuple[int, int, int] = (2, 3, 4)) -> Outline:
    return Outline(start, np.ones(shape, bool))


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ((30, 30, 5), 0.0),  # its first column is the lung's
        ((30, 30, 7), 3.0),  # two columns of 1.5 mm between them
        ((30, 12, 20), 4.0 + 2.0 - 1.5),  # two rows of 2 mm
        ((53, 30, 20), 3.0 - 1.5),  # it reaches the lung's top: one slice of 3 mm to the next centre
        ((30, 30, 20), PLEURA_REACH_MM),
        ((30, 30, 1), 0.0),  # it sticks out
    ],
)
def test_distance_to_the_lungs_border(start: tuple[int, int, int], expected: float) -> None:
    outline = outline_at(start)
    centre = tuple(float(c) for c in GRID.to_mm(np.array(start) + 1))
    where = locate_nodule(a_volume(), two_blocks(), (centre[0], centre[1], centre[2]), outline)
    assert where.pleura_mm == pytest.approx(expected, abs=0.051)


def test_a_nodule_that_the_mask_leaves_out_is_measured_all_the_same() -> None:
    """A hole of its own shape in the mask is no pleura; the end of the volume is none either."""
    lungs = two_blocks()
    lungs.mask[30:32, 30:33, 20:24] = 0
    at = place(0.5, 0.4, 21)
    assert locate_nodule(a_volume(), lungs, at, outline_at((30, 30, 20))).pleura_mm == PLEURA_REACH_MM
    everywhere = Lungs(np.ones(GRID.shape, np.uint8), 1.0, 1.0)
    assert locate_nodule(a_volume(), everywhere, at, outline_at((0, 0, 0))).pleura_mm == PLEURA_REACH_MM
    assert locate_nodule(a_volume(), lungs, at).pleura_mm is None
    assert locate_nodule(a_volume(), None, at, outline_at((30, 30, 20))).pleura_mm is None


def test_phantoms_lobes_are_mostly_named_right() -> None:
    """Their fissures were drawn without knowing this rule."""
    config = sized("tiny", seed=12, nodules=0)
    phantom, body = make_phantom(config), make_body(config.seed, config.sex)
    lungs, volume = Lungs(phantom.lungs, 1.0, 1.0), a_volume(phantom.geometry)
    boxes = find_lung_boxes(lungs)
    voxels = np.random.default_rng(1).permutation(np.argwhere(phantom.lungs > 0))[:300]
    places = phantom.geometry.to_mm(voxels)
    true = [f"{name} lobe" for name in lobe_of(places / np.array(body.scale))]
    said = [locate_nodule(volume, lungs, tuple(p), None, boxes).lobe for p in places]
    named = [(a, b) for a, b in zip(said, true, strict=True) if a]
    assert len(named) > 0.7 * len(places)
    assert sum(a == b for a, b in named) > 0.75 * len(named)

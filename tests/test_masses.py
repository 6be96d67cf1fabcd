"""Where a mass may lie: what fills a piece of the lung is proposed, what is thin or outside is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lungscreen.detect import MassConfig, propose_masses
from lungscreen.patches import halve

SHAPE = (90, 110, 130)
CENTRE = np.array([44.0, 52.0, 64.0])
OFFSET = np.array([4.0, -6.0, 12.0])


def away_from(centre: NDArray[np.float64], scale: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> NDArray[np.float64]:
    axes = np.meshgrid(*(np.arange(n) for n in SHAPE), indexing="ij")
    return np.sqrt(sum(((a - c) * s) ** 2 for a, c, s in zip(axes, centre, scale, strict=True)))


def chest() -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """A lung full of air, an ellipsoid, in tissue."""
    lung = away_from(CENTRE, (1 / 38, 1 / 48, 1 / 58)) < 1
    return np.where(lung, -850, 40).astype(np.int16), lung


def test_a_mass_in_the_lung_is_proposed_at_its_middle() -> None:
    hu, lung = chest()
    mass = away_from(CENTRE + OFFSET) < 15
    hu[mass] = 30
    (ball,) = propose_masses(hu, lung)
    assert np.abs(ball[:3] - (CENTRE + OFFSET)).max() <= 2
    assert ball[3] == pytest.approx(15, abs=2)


def test_a_mass_that_the_lungs_lack_is_proposed_where_they_are_closed_over_it() -> None:
    """It grew from the wall and is no part of the lungs' mask; closing brings it back."""
    hu, lung = chest()
    middle = CENTRE + np.array([0, 0, 42])
    mass = away_from(middle) < 12
    hu[mass] = 30
    lung &= ~mass
    found = propose_masses(hu, lung)
    assert len(found) == 1
    assert np.linalg.norm(found[0, :3] - middle) < 12
    assert len(propose_masses(hu, lung, MassConfig(closing_mm=1.0))) == 0


def test_a_larger_ball_closes_over_larger_masses_at_the_wall() -> None:
    """A ball of 16 mm rolls into the dent that a mass of 40 mm leaves in the lung; one of 22 mm does not."""
    hu, lung = chest()
    middle = CENTRE + np.array([0, 0, 42])
    mass = away_from(middle) < 20
    hu[mass] = 30
    lung &= ~mass
    (ball, *_) = propose_masses(hu, lung, MassConfig(closing_mm=22.0))
    assert np.linalg.norm(ball[:3] - middle) < 20
    assert len(propose_masses(hu, lung, MassConfig(closing_mm=16.0))) == 0


def test_vessels_and_nodules_are_too_thin() -> None:
    hu, lung = chest()
    hu[:, 50:60, 60:70] = np.where(lung[:, 50:60, 60:70], 40, hu[:, 50:60, 60:70])
    hu[away_from(CENTRE + np.array([10, 20, -20])) < 5] = 40
    assert propose_masses(hu, lung).shape == (0, 4)


def test_of_two_masses_the_thicker_comes_first_and_only_so_many_are_kept() -> None:
    hu, lung = chest()
    for offset, radius in (((0, 0, -30), 10), ((0, 5, 22), 15)):
        hu[away_from(CENTRE + offset) < radius] = 30
    found = propose_masses(hu, lung)
    assert [round(float(b[2])) > 64 for b in found] == [True, False]
    assert len(propose_masses(hu, lung, MassConfig(most=1))) == 1


def test_no_lungs_no_masses() -> None:
    hu, lung = chest()
    assert propose_masses(hu, np.zeros_like(lung)).shape == (0, 4)
    assert propose_masses(hu[:1, :1, :1], lung[:1, :1, :1]).shape == (0, 4)


@pytest.mark.parametrize("field", ["closing_mm", "ball_mm", "apart_mm"])
def test_lengths_are_positive(field: str) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        MassConfig(**{field: 0.0})


def test_halving_takes_means_of_whole_blocks() -> None:
    values = np.arange(5 * 4 * 3, dtype=np.int16).reshape(5, 4, 3)
    half = halve(values)
    assert half.shape == (2, 2, 1)
    assert half[1, 0, 0] == values[2:4, 0:2, 0:2].mean()

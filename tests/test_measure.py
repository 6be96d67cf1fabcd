"""Measuring: bodies of known size on awkward grids, outlines beside vessels and pleura, types, refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import shared_folder
from numpy.typing import NDArray
from scipy import ndimage

from lungscreen.geometry import Geometry, Vector
from lungscreen.measure import (
    MeasureConfig,
    effective_diameter,
    locate_nodule,
    measure_axes,
    measure_mask,
    measure_nodules,
    round_axis,
    round_mean,
)
from lungscreen.records import (
    Acquisition,
    Candidate,
    Exam,
    Lungs,
    NoduleType,
    Patient,
    Series,
    Volume,
)

LUNG, TISSUE = -860.0, 40.0
Floats = NDArray[np.float64]


def grid(
    shape: tuple[int, int, int] = (44, 60, 66),
    spacing: tuple[float, float, float] = (1.25, 0.8, 0.7),
    turned: float = 0.0,
    origin: Vector = (-31.0, 12.5, -240.0),
) -> Geometry:
    """An off-origin grid, turned about the patient's length axis by some degrees."""
    c, s = math.cos(math.radians(turned)), math.sin(math.radians(turned))
    affine = np.eye(4)
    affine[:3, 0] = np.array([0, 0, 1]) * spacing[0]
    affine[:3, 1] = np.array([-s, c, 0]) * spacing[1]
    affine[:3, 2] = np.array([c, s, 0]) * spacing[2]
    affine[:3, 3] = origin
    return Geometry(affine, shape)


def volume_of(hu: Floats, geometry: Geometry, numbers: tuple[int, ...] = ()) -> Volume:
    series = Series("image", "1.2.3", Patient(), Exam("1.2"), Acquisition())
    return Volume(np.rint(hu).clip(-1024, 3071).astype(np.int16), geometry, series, numbers)


def body(
    geometry: Geometry, centre: Vector, semi_axes: tuple[float, float, float], core: float = TISSUE, blur: float = 0.6
) -> Floats:
    """An ellipsoid (semi-axes along z, y, x of the grid, mm) in lung, with partial volume and blur."""
    spacing = geometry.spacing_mm
    middle = geometry.to_index(centre)
    line = [(np.arange(n * 3) / 3 - 1 / 3 - m) * s for n, m, s in zip(geometry.shape, middle, spacing, strict=True)]
    z, y, x = np.meshgrid(*line, indexing="ij", sparse=True)
    inside = (z / semi_axes[0]) ** 2 + (y / semi_axes[1]) ** 2 + (x / semi_axes[2]) ** 2 <= 1
    share = inside.reshape(geometry.shape[0], 3, geometry.shape[1], 3, geometry.shape[2], 3).mean((1, 3, 5))
    return LUNG + (core - LUNG) * ndimage.gaussian_filter(share, [blur / s for s in spacing])


def centre_of(geometry: Geometry, off: tuple[float, float, float] = (0.3, -0.2, 0.4)) -> Vector:
    x, y, z = geometry.to_mm((np.array(geometry.shape) - 1) / 2 + np.array(off))
    return float(x), float(y), float(z)


def moved(centre: Vector, by: Vector) -> Vector:
    return centre[0] + by[0], centre[1] + by[1], centre[2] + by[2]


class FakeOutliner:
    """Draws what is dense and lies within a radius of the patch's middle."""

    patch_size = 40

    def __init__(self, radius: float = 9.0, value: float = 1.0) -> None:
        self.radius, self.value, self.asked = radius, value, 0

    def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked += len(hu)
        line = np.arange(40) - 19.5
        z, y, x = np.meshgrid(line, line, line, indexing="ij", sparse=True)
        near = np.sqrt(z**2 + y**2 + x**2) <= self.radius
        return (np.clip((hu + 800) / 400, 0, 1) * near * self.value).astype(np.float32)


# -- axes ------------------------------------------------------------------------------------------------------------
def test_rounding_is_half_up_in_decimal() -> None:
    """Axes to one decimal, then their mean to one decimal: the pairs that binary floats get wrong."""
    assert round_axis(7.25) == 7.3
    assert round_axis(0.049999) == 0.0
    pairs = ((6.1, 5.8), (8.1, 7.8), (4.1, 3.8), (10.0, 9.9), (15.0, 14.9), (5.9, 6.0))
    assert [round_mean(*pair) for pair in pairs] == [6.0, 8.0, 4.0, 10.0, 15.0, 6.0]


def test_a_row_of_voxels_is_as_long_as_its_voxels() -> None:
    """Neither centre to centre nor a voxel too much, on every axis."""
    for axis, spacing in enumerate((1.1, 0.8, 0.9)):
        mask = np.zeros((9, 9, 9))
        place: list[slice | int] = [4, 4, 4]
        place[axis] = slice(2, 7)
        mask[tuple(place)] = 1
        longest, _ = measure_axes(mask, (1.1, 0.8, 0.9))
        assert longest.long_mm == pytest.approx(5 * spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.25, 0.7, 0.7), (0.6, 0.9, 0.75)])
@pytest.mark.parametrize("diameter", [6.0, 13.0])
def test_axes_of_a_soft_ball(spacing: tuple[float, float, float], diameter: float) -> None:
    geometry = Geometry.axial((40, 40, 40), spacing)
    share = (body(geometry, centre_of(geometry), (diameter / 2,) * 3, blur=0.3) - LUNG) / (TISSUE - LUNG)
    longest, transverse = measure_axes(share, spacing)
    for axes in (longest, transverse):
        assert axes.long_mm == pytest.approx(diameter, abs=0.35)
        assert axes.short_mm == pytest.approx(diameter, abs=0.35)


def test_axes_of_voxel_masks_are_not_a_voxel_too_long() -> None:
    """The staircase of a ball's mask must not add up to a voxel (it adds 0.8 mm at 1 mm unsmoothed)."""
    z, y, x = np.mgrid[:30, :30, :30] - 14.7
    longest, _ = measure_mask(z**2 + y**2 + x**2 <= 36, (1.0, 1.0, 1.0))
    assert longest.long_mm == pytest.approx(12.0, abs=0.35)
    assert longest.short_mm == pytest.approx(12.0, abs=0.45)


def test_the_long_axis_is_taken_in_the_plane_where_it_is_longest() -> None:
    """A body upright in the chest is long in coronal and sagittal slices, and short in transverse ones."""
    geometry = Geometry.axial((60, 40, 40), (0.8, 0.7, 0.7))
    share = (body(geometry, centre_of(geometry), (9.0, 3.5, 5.0)) - LUNG) / (TISSUE - LUNG)
    longest, transverse = measure_axes(share, geometry.spacing_mm)
    assert longest.plane == 1
    assert (longest.long_mm, longest.short_mm) == (pytest.approx(18, abs=0.5), pytest.approx(10, abs=0.5))
    assert (transverse.long_mm, transverse.short_mm) == (pytest.approx(10, abs=0.5), pytest.approx(7, abs=0.5))


def test_the_short_axis_is_at_right_angles_to_the_long_one() -> None:
    """A square's long axis is its diagonal, and so is its short one."""
    mask = np.zeros((3, 20, 20))
    mask[1, 5:15, 5:15] = 1
    _, axes = measure_axes(mask, (1.0, 1.0, 1.0))
    assert axes.long_mm == pytest.approx(math.hypot(10, 9), abs=0.4)
    assert axes.short_mm == pytest.approx(axes.long_mm, abs=0.7)


def test_an_empty_mask_has_no_axes() -> None:
    with pytest.raises(ValueError, match="something inside"):
        measure_axes(np.zeros((4, 4, 4)), (1, 1, 1))


# -- nodules ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("outliner", [None, FakeOutliner()])
@pytest.mark.parametrize("turned", [0.0, 20.0])
@pytest.mark.parametrize("diameter", [6.0, 9.0, 15.0])
def test_volume_and_diameter_of_a_ball(outliner: FakeOutliner | None, turned: float, diameter: float) -> None:
    """Within 10 % and 0.5 mm from 6 mm on, on anisotropic and oblique grids, from a centre 2 mm off."""
    geometry = grid(turned=turned)
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (diameter / 2,) * 3), geometry)
    candidate = Candidate(moved(centre, (1.2, -1.2, 1.0)), diameter * 1.2, 0.9)
    (found,) = measure_nodules(volume, None, (candidate,), outliner=outliner)
    assert found.measurement is not None
    assert found.outline is not None
    assert found.measurement.volume_mm3 == pytest.approx(math.pi / 6 * diameter**3, rel=0.10)
    assert found.measurement.mean_diameter_mm == pytest.approx(diameter, abs=0.5)
    assert found.measurement.effective_diameter_mm == pytest.approx(
        effective_diameter(found.measurement.volume_mm3), abs=1e-9
    )
    assert found.nodule_type is NoduleType.SOLID
    assert not found.notices
    middle = np.argwhere(found.outline.mask).mean(axis=0) + found.outline.start
    assert np.linalg.norm(geometry.to_mm(middle) - centre) < 0.5


def test_axes_are_taken_further_out_than_volumes() -> None:
    """Where readers draw: the axes move with their level, the volume does not."""
    geometry = grid()
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (5.0, 5.0, 5.0)), geometry)
    sizes = []
    for level in (0.42, 0.36, 0.30):
        (found,) = measure_nodules(volume, None, (Candidate(centre, 10.0, 0.9),), MeasureConfig(axes_level=level))
        assert found.measurement is not None
        sizes.append((found.measurement.mean_diameter_mm, found.measurement.volume_mm3))
    assert sizes[0][0] < sizes[1][0] < sizes[2][0] < sizes[0][0] + 1
    assert len({volume for _, volume in sizes}) == 1


def test_axes_follow_an_ellipsoid() -> None:
    """Long, short and transverse axes of a body that is longest along the patient."""
    geometry = grid(spacing=(1.0, 0.7, 0.7), shape=(60, 66, 70))
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (9.0, 5.0, 6.5)), geometry)
    (found,) = measure_nodules(volume, None, (Candidate(centre, 12.0, 0.9),))
    assert found.measurement is not None
    assert found.measurement.long_axis_mm == pytest.approx(18, abs=0.8)
    assert found.measurement.short_axis_mm == pytest.approx(13, abs=0.8)
    assert found.measurement.max_transverse_mm == pytest.approx(13, abs=0.8)
    assert found.measurement.mean_diameter_mm == round_mean(
        found.measurement.long_axis_mm, found.measurement.short_axis_mm
    )
    (round_one,) = measure_nodules(
        volume_of(body(geometry, centre, (6.0, 6.0, 6.0)), geometry), None, (Candidate(centre, 12.0, 0.9),)
    )
    assert found.sphericity is not None
    assert round_one.sphericity is not None
    assert found.sphericity < round_one.sphericity - 0.3


def test_a_point_without_a_diameter_is_measured_all_the_same() -> None:
    """A radiologist's mark says where, not how large."""
    geometry = grid()
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (5.0, 5.0, 5.0)), geometry)
    for diameter in (0.0, float("nan")):
        (found,) = measure_nodules(volume, None, (Candidate(moved(centre, (-2.0, 1.0, 0.5)), diameter, 0.0),))
        assert found.measurement is not None
        assert found.measurement.mean_diameter_mm == pytest.approx(10.0, abs=0.7)


def test_a_vessel_that_passes_through_is_cut_off() -> None:
    """A 2.5 mm vessel adds at most a tenth to a 10 mm nodule's volume."""
    geometry = grid(spacing=(1.0, 0.7, 0.7), shape=(60, 66, 70))
    centre = centre_of(geometry)
    hu = body(geometry, centre, (5.0, 5.0, 5.0))
    vessel = body(geometry, moved(centre, (2.0, 0.0, 0.0)), (400.0, 1.25, 1.25))
    volume = volume_of(np.maximum(hu, vessel), geometry)
    (found,) = measure_nodules(volume, None, (Candidate(centre, 10.0, 0.9),))
    assert found.measurement is not None
    assert found.measurement.volume_mm3 == pytest.approx(math.pi / 6 * 1000, rel=0.15)


def test_pleura_is_cut_off_with_the_help_of_the_lungs() -> None:
    """A nodule on the chest wall does not take the wall along."""
    geometry = grid(spacing=(1.0, 0.7, 0.7), shape=(60, 90, 90))
    centre = centre_of(geometry)
    hu = body(geometry, centre, (5.0, 5.0, 5.0))
    wall = int(geometry.to_index(centre)[1] + 4.5 / 0.7)
    hu[:, wall:] = TISSUE
    mask = np.ones(geometry.shape, np.uint8)
    mask[:, wall:] = 0
    volume = volume_of(hu, geometry)
    for lungs in (None, Lungs(mask, 1.0, 0.0)):
        (found,) = measure_nodules(volume, lungs, (Candidate(centre, 10.0, 0.9),))
        assert found.measurement is not None
        assert found.measurement.effective_diameter_mm == pytest.approx(10.0, abs=1.3)


def test_types() -> None:
    """Solid, ground-glass, a solid core in ground glass, and calcium."""
    geometry = grid(spacing=(1.0, 0.7, 0.7), shape=(60, 66, 70))
    centre = centre_of(geometry)
    glass = body(geometry, centre, (8.0, 8.0, 8.0), core=-560.0)
    core = body(geometry, centre, (3.5, 3.5, 3.5), core=TISSUE)
    expected = {
        NoduleType.SOLID: body(geometry, centre, (5.0, 5.0, 5.0)),
        NoduleType.GROUND_GLASS: glass,
        NoduleType.PART_SOLID: np.maximum(glass, core),
        NoduleType.CALCIFIED: body(geometry, centre, (4.0, 4.0, 4.0), core=600.0),
    }
    for kind, hu in expected.items():
        (found,) = measure_nodules(volume_of(hu, geometry), None, (Candidate(centre, 12.0, 0.9),))
        assert found.nodule_type is kind
        if kind is NoduleType.PART_SOLID:
            assert found.measurement is not None
            assert found.measurement.mean_diameter_mm == pytest.approx(16.0, abs=1.5)
            assert found.measurement.solid_mean_diameter_mm == pytest.approx(7.0, abs=1.2)
            assert 0 < found.measurement.solid_volume_mm3 < found.measurement.volume_mm3 / 4


def test_calcium_in_a_part_leaves_a_nodule_solid() -> None:
    """A cancer may hold calcium at one side: only what is calcified all through is taken as benign."""
    geometry = grid(spacing=(1.0, 0.7, 0.7), shape=(60, 66, 70))
    centre = centre_of(geometry)
    hu = body(geometry, centre, (7.0, 7.0, 7.0))
    hu = np.maximum(hu, body(geometry, moved(centre, (3.5, 0.0, 0.0)), (3.0, 3.0, 3.0), core=900.0))
    (found,) = measure_nodules(volume_of(hu, geometry), None, (Candidate(centre, 14.0, 0.9),))
    assert found.measurement is not None
    assert found.measurement.max_hu > 500
    assert found.nodule_type is NoduleType.SOLID


def test_density_and_mass() -> None:
    """Mass is volume times density: water weighs 1 mg a mm³."""
    geometry = grid()
    centre = centre_of(geometry)
    (found,) = measure_nodules(
        volume_of(body(geometry, centre, (7.0, 7.0, 7.0), core=0.0), geometry), None, (Candidate(centre, 14.0, 0.9),)
    )
    m = found.measurement
    assert m is not None
    assert m.mass_mg == pytest.approx(m.volume_mm3 * (m.mean_hu + 1000) / 1000)
    assert m.min_hu < m.mean_hu < m.max_hu <= 1
    assert m.mean_hu > -200


def test_the_volume_is_less_certain_with_noise_and_thick_slices() -> None:
    """Same ball: the uncertainty grows with noise and with slices, and covers the error made."""
    said = []
    for spacing, noise in ((1.0, 5.0), (1.0, 90.0), (2.5, 5.0)):
        geometry = grid(spacing=(spacing, 0.7, 0.7), shape=(round(50 / spacing), 66, 70))
        centre = centre_of(geometry)
        hu = body(geometry, centre, (3.5, 3.5, 3.5)) + np.random.default_rng(3).normal(0, noise, geometry.shape)
        (found,) = measure_nodules(volume_of(hu, geometry), None, (Candidate(centre, 7.0, 0.9),))
        assert found.measurement is not None
        assert found.measurement.volume_sd_mm3 is not None
        said.append(found.measurement.volume_sd_mm3)
        assert found.measurement.volume_mm3 == pytest.approx(math.pi / 6 * 343, abs=3 * said[-1])
    assert said[0] < said[1]
    assert said[0] < said[2]


# -- the network's outline -------------------------------------------------------------------------------------------
def test_the_outliner_is_asked_twice_and_followed() -> None:
    """Where the network draws only the inner part of something dense, the rest is not the nodule's."""
    geometry = grid(shape=(60, 80, 80), spacing=(1.0, 0.8, 0.8))
    centre = centre_of(geometry)
    volume = volume_of(np.full(geometry.shape, TISSUE), geometry)
    outliner = FakeOutliner(radius=6.0)
    (found,) = measure_nodules(volume, None, (Candidate(centre, 12.0, 0.9),), outliner=outliner)
    assert outliner.asked == 2
    assert found.outline is not None
    drawn = found.outline.mask.sum() * geometry.voxel_mm3
    assert drawn == pytest.approx(4 / 3 * math.pi * 6**3, rel=0.15)


def test_an_outliner_that_sees_nothing_hands_over_to_intensities() -> None:
    geometry = grid()
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (4.0, 4.0, 4.0)), geometry)
    (blind,) = measure_nodules(volume, None, (Candidate(centre, 8.0, 0.9),), outliner=FakeOutliner(value=0.05))
    (alone,) = measure_nodules(volume, None, (Candidate(centre, 8.0, 0.9),))
    assert blind.measurement == alone.measurement


def test_an_unsure_outliner_is_read_at_half_of_its_highest_value() -> None:
    geometry = grid()
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (4.0, 4.0, 4.0)), geometry)
    (sure,) = measure_nodules(volume, None, (Candidate(centre, 8.0, 0.9),), outliner=FakeOutliner(value=0.9))
    (unsure,) = measure_nodules(volume, None, (Candidate(centre, 8.0, 0.9),), outliner=FakeOutliner(value=0.3))
    assert sure.measurement is not None
    assert unsure.measurement is not None
    assert unsure.measurement.volume_mm3 == pytest.approx(sure.measurement.volume_mm3, rel=0.02)


def test_a_drawn_speck_hands_over_to_intensities() -> None:
    """One voxel, barely: nothing is left of it on the finer grid, and that is no crash."""
    geometry = grid()
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (4.0, 4.0, 4.0)), geometry)

    class Speck:
        patch_size = 40

        def outline(self, hu: NDArray[np.float32]) -> NDArray[np.float32]:
            field = np.zeros_like(hu)
            field[:, 21, 20, 19] = 0.41
            return field

    (found,) = measure_nodules(volume, None, (Candidate(centre, 8.0, 0.9),), outliner=Speck())
    (alone,) = measure_nodules(volume, None, (Candidate(centre, 8.0, 0.9),))
    assert found.measurement == alone.measurement


def test_a_mass_is_not_given_to_the_outliner() -> None:
    """What does not fit into the network's patch is outlined by intensities; so is what turns out not to fit."""
    geometry = grid(shape=(80, 80, 80), spacing=(1.2, 1.2, 1.2))
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (21.0, 21.0, 21.0)), geometry)
    outliner = FakeOutliner(radius=99.0)
    (known,) = measure_nodules(volume, None, (Candidate(centre, 42.0, 0.9),), outliner=outliner)
    assert outliner.asked == 0
    assert known.measurement is not None
    assert known.measurement.mean_diameter_mm == pytest.approx(42.0, abs=1.5)
    (unknown,) = measure_nodules(volume, None, (Candidate(centre, 19.0, 0.9),), outliner=outliner)
    assert outliner.asked == 2
    assert unknown.measurement is not None
    assert unknown.measurement.mean_diameter_mm > 30


def test_a_mass_that_the_lungs_lack_is_measured_whole() -> None:
    """The lungs' mask leaves a mass of 40 mm out, and what is drawn of it is half as wide."""
    geometry = grid(shape=(70, 70, 70), spacing=(1.2, 1.2, 1.2))
    centre = centre_of(geometry)
    hu = body(geometry, centre, (20.0, 20.0, 20.0))
    volume = volume_of(hu, geometry)
    lungs = Lungs((hu < -500).astype(np.uint8), 1000.0, 1000.0)
    assert not lungs.mask[35, 35, 35]
    (mass,) = measure_nodules(volume, lungs, (Candidate(centre, 22.0, 0.9),))
    assert mass.measurement is not None
    assert mass.measurement.effective_diameter_mm == pytest.approx(40.0, abs=2.0)


# -- what cannot be measured is said ---------------------------------------------------------------------------------
def test_a_point_outside_the_volume_is_said() -> None:
    geometry = grid()
    volume = volume_of(np.full(geometry.shape, LUNG), geometry)
    (found,) = measure_nodules(volume, None, (Candidate((900.0, 0.0, 0.0), 8.0, 0.9),), outliner=FakeOutliner())
    assert found.measurement is None
    assert found.outline is None
    assert [notice.code for notice in found.notices] == ["outside-volume"]
    assert found.nodule_type is NoduleType.UNKNOWN


def test_empty_lung_has_no_outline() -> None:
    geometry = grid()
    volume = volume_of(np.full(geometry.shape, LUNG), geometry)
    (found,) = measure_nodules(volume, None, (Candidate(centre_of(geometry), 8.0, 0.9),))
    assert [notice.code for notice in found.notices] == ["not-outlined"]
    assert found.measurement is None
    assert found.sphericity is None


def test_a_nodule_at_the_edge_of_the_volume_is_said() -> None:
    geometry = grid()
    centre = geometry.to_mm((0.0, 30.0, 33.0))
    place = (float(centre[0]), float(centre[1]), float(centre[2]))
    volume = volume_of(body(geometry, place, (5.0, 5.0, 5.0)), geometry)
    (found,) = measure_nodules(volume, None, (Candidate(place, 10.0, 0.9),))
    assert [notice.code for notice in found.notices] == ["cut-by-edge"]
    assert found.measurement is not None


def test_an_outline_inside_equally_dense_tissue_is_said_to_be_uncertain() -> None:
    geometry = grid(shape=(60, 80, 80), spacing=(1.0, 0.8, 0.8))
    centre = centre_of(geometry)
    volume = volume_of(np.full(geometry.shape, TISSUE), geometry)
    (found,) = measure_nodules(volume, None, (Candidate(centre, 12.0, 0.9),), outliner=FakeOutliner(radius=6.0))
    assert [notice.code for notice in found.notices] == ["outline-uncertain"]


def test_axes_leave_spicules_out() -> None:
    """A spicule 1.2 mm thick makes a 14 mm nodule no longer."""
    geometry = grid(spacing=(0.8, 0.7, 0.7), shape=(60, 66, 80))
    centre = centre_of(geometry)
    spicule = body(geometry, moved(centre, (9.0, 0.0, 0.0)), (0.6, 0.6, 7.0), blur=0.3)
    volume = volume_of(np.maximum(body(geometry, centre, (7.0, 7.0, 7.0)), spicule), geometry)
    (found,) = measure_nodules(volume, None, (Candidate(centre, 14.0, 0.9),))
    assert found.measurement is not None
    assert found.measurement.long_axis_mm == pytest.approx(14.0, abs=1.0)


def test_candidates_keep_their_order() -> None:
    geometry = grid()
    centre = centre_of(geometry)
    volume = volume_of(body(geometry, centre, (4.0, 4.0, 4.0)), geometry)
    outside = Candidate((900.0, 0.0, 0.0), 8.0, 0.9)
    found = measure_nodules(volume, None, (outside, Candidate(centre, 8.0, 0.9), outside), outliner=FakeOutliner())
    assert [one.measurement is None for one in found] == [True, False, True]
    assert measure_nodules(volume, None, ()) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"outline_level": 0.6},
        {"edge_level": 1.0},
        {"axes_level": 0.29},
        {"axes_level": 0.43},
        {"neck": 0.0},
        {"drawn_level": 0.0},
        {"reach_mm": 0.0},
        {"lung_margin_mm": -1.0},
    ],
)
def test_a_config_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"expected|must be"):
        MeasureConfig(**wrong)


# -- where it lies ---------------------------------------------------------------------------------------------------
def test_side_zone_and_slice() -> None:
    """Slices go up: the uppermost is number 1 from the top, and has its own InstanceNumber."""
    geometry = grid(shape=(30, 40, 50))
    mask = np.zeros(geometry.shape, np.uint8)
    mask[3:27, 5:35, 2:22] = 1
    mask[0:24, 5:35, 28:48] = 2
    numbers = tuple(range(130, 100, -1))
    volume = volume_of(np.full(geometry.shape, LUNG), geometry, numbers)
    lungs = Lungs(mask, 1.0, 1.0)

    def at(k: float, j: float, i: float) -> Vector:
        x, y, z = geometry.to_mm((k, j, i))
        return float(x), float(y), float(z)

    upper = locate_nodule(volume, lungs, at(25, 20, 10))
    assert (upper.side, upper.zone, upper.slice_from_top, upper.instance_number) == ("right", "upper", 5, 105)
    lower = locate_nodule(volume, lungs, at(2, 20, 40))
    assert (lower.side, lower.zone, lower.slice_from_top, lower.instance_number) == ("left", "lower", 28, 128)
    middle = locate_nodule(volume, lungs, at(14.6, 38, 10))
    assert (middle.side, middle.zone) == ("right", "middle")
    nowhere = locate_nodule(volume, None, at(14, 20, 10))
    assert (nowhere.side, nowhere.zone, nowhere.lobe) == ("unknown", "unknown", "")
    far = locate_nodule(volume, lungs, (900.0, 900.0, -240.0))
    assert (far.side, far.zone) == ("unknown", "unknown")


def test_without_instance_numbers_none_is_made_up() -> None:
    geometry = grid(shape=(30, 40, 50))
    volume = volume_of(np.full(geometry.shape, LUNG), geometry)
    assert locate_nodule(volume, None, geometry.origin_mm).instance_number is None
    assert locate_nodule(volume, None, geometry.origin_mm).slice_from_top == 30


# -- real nodules ----------------------------------------------------------------------------------------------------
def test_real_nodules_beside_readers_outlines() -> None:
    """A small sample of subset 9, intensities alone: most outlines agree with the readers'."""
    from lungscreen.training.classifier.data import read_cubes, select

    cubes = read_cubes(shared_folder("data", "cubes").parent, subsets=("9",))
    geometry = Geometry.axial((50, 50, 50), (1.0, 1.0, 1.0))
    overlaps = []
    for n in select(cubes, ("9",))[:6]:
        z, y, x = (float(v) for v in cubes.centres[n])
        candidate = Candidate((x, y, z), float("nan"), 0.9)
        (found,) = measure_nodules(volume_of(cubes.hu[n].astype(float), geometry), None, (candidate,))
        assert found.outline is not None
        mask = np.zeros((50, 50, 50), bool)
        box = tuple(slice(a, a + b) for a, b in zip(found.outline.start, found.outline.mask.shape, strict=True))
        mask[box] = found.outline.mask
        overlaps.append(2 * (mask & cubes.masks[n]).sum() / (mask.sum() + cubes.masks[n].sum()))
    assert float(np.median(overlaps)) > 0.7

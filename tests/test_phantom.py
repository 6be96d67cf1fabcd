"""The synthetic thorax: anatomy in its place, nodules as large as they say, scans as they were asked for."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from lungscreen.geometry import Geometry
from lungscreen.phantom import NoduleSpec, Phantom, PhantomConfig, Pose, make_phantom, sized
from lungscreen.phantom.anatomy import make_body, stream
from lungscreen.phantom.make import _grow
from lungscreen.phantom.nodules import blob_distance, draw_nodules, make_blob
from lungscreen.phantom.pose import to_anatomy, to_scan
from lungscreen.phantom.raster import Slab, draw_tubes
from lungscreen.phantom.render import blob_coverage
from lungscreen.phantom.scanner import ScannerModel
from lungscreen.phantom.trees import bundle, grow_tree, join
from lungscreen.records import NoduleType

TYPES = (NoduleType.SOLID, NoduleType.PART_SOLID, NoduleType.GROUND_GLASS, NoduleType.CALCIFIED)
SHAPES = ("sphere", "ellipsoid", "lobulated", "spiculated")
FREE_MM = (-88.0, 30.0, 30.0)
"""A place well inside the right lung of every body."""
FOUR_PLACES_MM = (FREE_MM, (-88.0, 30.0, -20.0), (88.0, 30.0, 30.0), (92.0, 30.0, -20.0))


@cache
def phantom(size: str = "tiny", **options: object) -> Phantom:
    return make_phantom(sized(size, **{"nodules": 0, **options}))  # type: ignore[arg-type]


def quiet(**options: object) -> Phantom:
    return phantom(noise=False, **options)


def hu_at(scan: Phantom, *points_mm: tuple[float, float, float]) -> np.ndarray:
    """HU of the voxels nearest to anatomy points, the body's scale put in."""
    scale = np.array(make_body(scan.config.seed, scan.config.sex).scale)
    index = np.rint(scan.geometry.to_index(np.array(points_mm) * scale)).astype(int)
    return scan.hu[tuple(index.T)]


def digest(scan: Phantom) -> str:
    return hashlib.sha256(scan.hu.tobytes() + scan.lungs.tobytes() + scan.nodule_labels.tobytes()).hexdigest()


# -- the seed --------------------------------------------------------------------------------------------------------
def test_same_seed_gives_the_same_voxels_and_another_seed_does_not():
    first = make_phantom(sized("tiny", seed=3))
    _grow.cache_clear()
    assert digest(first) == digest(make_phantom(sized("tiny", seed=3)))
    assert digest(first) != digest(make_phantom(sized("tiny", seed=4)))


def test_voxels_do_not_depend_on_the_number_of_threads():
    code = (
        "import hashlib, sys; from lungscreen.phantom import make_phantom, sized; p = make_phantom(sized('tiny',"
        " seed=5));"
        "print(hashlib.sha256(p.hu.tobytes() + p.lungs.tobytes() + p.nodule_labels.tobytes()).hexdigest())"
    )
    threads = {"OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3", "PYTHONHASHSEED": "77"}
    other = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **threads}, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == digest(make_phantom(sized("tiny", seed=5)))


def test_another_visit_has_other_noise_but_the_same_anatomy_and_nodules():
    first, second = phantom(nodules=3), phantom(nodules=3, scan_seed=1)
    assert np.array_equal(first.lungs, second.lungs)
    assert first.nodules == second.nodules
    assert not np.array_equal(first.hu, second.hu)


def test_nodules_of_a_seed_do_not_depend_on_the_matrix():
    tiny, small = phantom("tiny", nodules=4).nodules, phantom("small", nodules=4).nodules
    assert [n.spec for n in tiny] == [n.spec for n in small]


# -- anatomy ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("seed", "sex"), [(0, "M"), (1, "F"), (2, "M"), (3, "F")])
def test_lungs_lie_on_their_sides_and_have_plausible_volumes(seed, sex):
    scan = phantom(seed=seed, sex=sex)
    millilitres = scan.geometry.voxel_mm3 / 1000
    right, left = ((scan.lungs == n).sum() * millilitres for n in (1, 2))
    assert left < right < 1.5 * left
    assert 2000 < right + left < 7000
    x = scan.geometry.to_mm(np.argwhere(scan.lungs == 1))[:, 0]
    assert x.mean() < -40
    assert scan.geometry.to_mm(np.argwhere(scan.lungs == 2))[:, 0].mean() > 40


def test_each_lung_is_one_piece_and_does_not_touch_the_edge():
    from scipy.ndimage import label

    scan = quiet(size="small")
    for side in (1, 2):
        pieces, _ = label(scan.lungs == side)
        assert np.bincount(pieces.ravel())[1:].max() > 0.999 * (scan.lungs == side).sum()
    edge = np.ones(scan.lungs.shape, dtype=bool)
    edge[1:-1, 1:-1, 1:-1] = False
    assert not scan.lungs[edge].any()


def test_organs_have_their_places_and_values():
    """Heart to the left, liver right, aorta left of the spine, sternum in front, trachea above the carina."""
    scan = quiet(size="small")
    heart, liver, aorta, trachea = hu_at(scan, (38, -35, -85), (-60, -20, -150), (24.5, 44, -70), (0.5, 10.5, 60))
    assert 30 < heart < 55
    assert 45 < liver < 70
    assert 25 < aorta < 60
    assert trachea < -930
    mirrored = hu_at(scan, *((-70, y, -75) for y in (-45, -35, -25, -15, -5)))
    assert np.median(mirrored) < -800
    bone = scan.geometry.to_mm(np.argwhere(scan.hu > 250))
    assert np.abs(np.median(bone[:, 0])) < 15
    spine = bone[(np.abs(bone[:, 0]) < 20) & (np.abs(bone[:, 2]) < 60)]
    assert (spine[:, 1] > 35).sum() > 1.2 * (spine[:, 1] < 0).sum() > 0
    assert not ((spine[:, 1] > 0) & (spine[:, 1] < 25)).any()


def test_trachea_is_no_lung_and_runs_down_to_the_carina():
    scan = quiet(size="small")
    scale = np.array(make_body(scan.config.seed, scan.config.sex).scale)
    for point in ((0, 9, 90), (0.5, 11, 40), (-26, 17, -20), (30, 20, -22)):
        index = tuple(np.rint(scan.geometry.to_index(np.array(point) * scale)).astype(int))
        assert scan.lungs[index] == 0
        assert scan.hu[index] < -700


def test_table_lies_behind_the_patient():
    scan = quiet()
    outside = scan.geometry.to_mm(np.argwhere((scan.hu > -980) & (scan.hu < -880) & (scan.lungs == 0)))
    slice_level = np.abs(outside[:, 2]) < 3
    assert (outside[slice_level][:, 1] > 110).sum() > 100
    assert not (outside[slice_level][:, 1] < -150).any()


def test_lung_is_denser_behind_and_as_dense_as_lung():
    scan = quiet(size="small")
    index = np.argwhere((scan.lungs > 0) & (scan.hu < -700))
    y, hu = scan.geometry.to_mm(index)[:, 1], scan.hu[tuple(index.T)]
    assert np.median(hu[y > 50]) - np.median(hu[y < -50]) > 20
    assert -890 < np.median(hu) < -840


def test_vessels_fill_the_lungs_more_densely_near_the_hilum():
    scan = quiet(size="small")
    inside = (scan.lungs > 0).nonzero()
    bright = scan.hu[inside] > -750
    assert 0.03 < bright.mean() < 0.25
    points = scan.geometry.to_mm(np.stack(inside, axis=1))
    near = np.linalg.norm(np.abs(points) * [1, 1, 1] - [46, 14, 28], axis=1) < 45
    assert bright[near].mean() > 1.25 * bright[~near].mean()


def test_tree_reaches_every_place_and_tapers():
    rng = stream(1, "test")
    places = rng.uniform([20, -30, -30], [80, 30, 30], (200, 3))
    tree = grow_tree(np.zeros(3), np.array([1.0, 0, 0]), places, 4.0, lambda p: np.full(len(p), -9.0), rng)
    ends = tree.end[tree.ends == 1]
    assert len(ends) == 200
    assert np.allclose(np.sort(ends, axis=0), np.sort(places, axis=0))
    assert (tree.radii[:, 1] <= tree.radii[:, 0] + 1e-9).all()
    assert tree.radii[tree.ends == 1, 1].max() < 0.5 * 4 * 200 ** (-1 / 3) + 0.3
    starts = {tuple(p) for p in tree.start} - {(0.0, 0.0, 0.0)}
    assert starts <= {tuple(p) for p in tree.end}


def test_tree_without_places_is_empty():
    rng = stream(1, "test")
    assert len(grow_tree(np.zeros(3), np.ones(3), np.zeros((0, 3)), 4.0, lambda p: p[:, 0], rng).start) == 0


@pytest.mark.parametrize("radius", [0.4, 1.0, 2.2, 6.0])
def test_tube_holds_its_matter_on_any_grid(radius):
    """Cross-section of a drawn tube: π r² within 12 % whether it is thinner than a voxel or not."""
    tube = bundle(np.array([[0.3, 0.2, -50.0], [0.9, -0.4, 50.0]]), np.array([radius, radius]))
    slab = Slab(np.arange(-12, 13) * 1.5, np.arange(-15, 16) * 1.2, np.array([-2.0, 0.0, 2.0]), (2.0, 1.2, 1.5))
    (cover,) = draw_tubes(tube, slab)
    assert cover[1].sum() * 1.2 * 1.5 == pytest.approx(np.pi * radius**2, rel=0.12)


def test_no_tubes_cover_nothing():
    slab = Slab(np.arange(3.0), np.arange(4.0), np.arange(5.0), (1.0, 1.0, 1.0))
    assert not draw_tubes(join([]), slab)[0].any()


# -- options ---------------------------------------------------------------------------------------------------------
def test_emphysema_makes_holes_most_of_them_above():
    scan, plain = quiet(size="small", emphysema=True), quiet(size="small")
    assert np.array_equal(scan.lungs, plain.lungs)
    index = np.argwhere(scan.lungs > 0)
    low = scan.hu[scan.lungs > 0] < -940
    upper = scan.geometry.to_mm(index)[:, 2] > 0
    assert low.mean() > 5 * (plain.hu[plain.lungs > 0] < -940).mean() + 0.02
    assert low[upper].mean() > 2 * low[~upper].mean()


def test_arms_lie_beside_the_body_on_request():
    down, up = quiet(arms_down=True), quiet(pixel_mm=5.2)
    assert down.geometry.same_as(up.geometry)
    x = down.geometry.to_mm(np.argwhere(down.hu > -200))[:, 0]
    assert np.abs(x).max() > 215
    low = down.geometry.to_mm(np.arange(down.geometry.shape[0])[:, None] * [1, 0, 0])[:, 2] < -50
    beside = np.abs(down.geometry.to_mm(np.arange(down.geometry.shape[2])[:, None] * [0, 0, 1])[:, 0]) > 190
    assert (down.hu[low][:, :, beside] > 100).any()
    assert not (up.hu[low][:, :, beside] > 100).any()


@pytest.mark.parametrize(("option", "end"), [("cut_apex", -1), ("cut_base", 0)])
def test_scan_ends_within_the_lungs_on_request(option, end):
    cut, whole = quiet(**{option: True}), quiet()
    assert (cut.lungs[end] > 0).sum() > 500
    assert not whole.lungs[end].any()
    assert cut.geometry.shape[0] < whole.geometry.shape[0]


def noise(**options: object) -> np.ndarray:
    """What a scanner adds to slices of water, at 0.7 mm pixels (z, y, x)."""
    config = PhantomConfig(**{"rows": 96, "columns": 128, **options})  # type: ignore[arg-type]
    geometry = Geometry.axial((12, 96, 128), (config.slice_spacing_mm, config.pixel_mm, config.pixel_mm))
    scanner = ScannerModel(config, geometry)
    return np.stack([scanner.finish(k, np.zeros((96, 128), dtype=np.float32)) for k in range(12)]).astype(float)


def test_low_dose_noise_is_of_a_low_dose_scan():
    """At 1 mm slices and the standard kernel 18 to 40 HU (a standard dose: about 10 to 15)."""
    assert 18 < noise().std() < 40
    assert noise(dose="standard").std() < 0.6 * noise().std() < 0.6 * 0.7 * noise(dose="ultra-low").std()
    assert abs(noise().mean()) < 1


def test_noise_grows_with_thinner_slices_and_sharper_kernels():
    assert noise(slice_thickness_mm=0.6).std() > 1.2 * noise().std() > 1.2 * 1.4 * noise(slice_thickness_mm=2.5).std()
    assert noise(kernel="soft").std() < 0.8 * noise().std() < 0.8 * 0.8 * noise(kernel="sharp").std()


def test_noise_is_correlated_as_kernel_and_slices_are():
    def agreement(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    soft, sharp = noise(kernel="soft"), noise(kernel="sharp")
    assert agreement(soft[:, :, 1:], soft[:, :, :-1]) > 0.5
    assert agreement(sharp[:, :, 1:], sharp[:, :, :-1]) < 0.3
    overlapped = noise(slice_thickness_mm=2.0)
    assert agreement(overlapped[1:], overlapped[:-1]) > agreement(noise()[1:], noise()[:-1]) + 0.1


def test_noise_reaches_the_image_and_can_be_switched_off():
    liver = np.s_[3:12, 33:42, 20:32]
    assert (phantom().hu[liver].astype(float) - quiet().hu[liver]).std() > 1
    assert quiet(scan_seed=4).hu[liver].std() == quiet().hu[liver].std()


def test_sharp_kernel_overshoots_at_edges():
    config = PhantomConfig(rows=64, columns=64, pixel_mm=0.7, noise=False, kernel="sharp")
    step = np.where(np.arange(64) < 32, -860.0, 40.0).astype(np.float32) * np.ones((64, 1), dtype=np.float32)
    seen = ScannerModel(config, Geometry.axial((1, 64, 64), (1, 0.7, 0.7))).finish(0, step)
    assert seen.max() > 60
    assert seen.min() < -900


def test_slices_can_be_thicker_than_their_spacing():
    overlapped, thin = (
        quiet(slice_spacing_mm=2.5, slice_thickness_mm=5.0),
        quiet(slice_spacing_mm=2.5, slice_thickness_mm=2.5),
    )
    assert overlapped.geometry.same_as(thin.geometry)
    steps = [np.abs(np.diff(s.hu.astype(float), axis=0)).mean() for s in (overlapped, thin)]
    assert steps[0] < 0.9 * steps[1]


def test_size_full_is_what_a_scanner_writes():
    config = sized("full")
    assert (config.rows, config.columns, config.slice_spacing_mm) == (512, 512, 1.0)


def test_progress_counts_slices():
    calls: list[tuple[int, int]] = []
    scan = make_phantom(sized("tiny", nodules=0), lambda done, total: calls.append((done, total)))
    count = scan.geometry.shape[0]
    assert calls == [(n, count) for n in range(1, count + 1)]


# -- nodules ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("diameter", [4.0, 9.0])
def test_shapes_have_the_volume_of_their_diameter(shape, diameter):
    """Counted on a fine grid, and on a coarse anisotropic one through partial volume: within 2 %."""
    blob = make_blob(NoduleSpec(diameter, NoduleType.SOLID, shape), seed=4, number=0)
    true = np.pi / 6 * diameter**3
    for step in ((0.3, 0.3, 0.3), (2.5, 1.6, 1.1)):
        reach = blob.reach_mm + 2
        centres = [np.arange(-np.ceil(reach / s), np.ceil(reach / s) + 1) * s for s in step]
        slab = Slab(centres[2], centres[1], centres[0], step)
        if step[0] < 1:
            z, y, x = np.meshgrid(*centres, indexing="ij")
            cover = np.clip(0.5 - blob_distance(blob, np.stack([x, y, z], axis=-1)) / step[0], 0, 1)
        else:
            cover = blob_coverage(blob, np.array([0.4, -0.3, 0.7]), slab)
        assert cover.sum() * np.prod(step) == pytest.approx(true, rel=0.02)


def test_nodule_adds_its_volume_to_the_image():
    """What a nodule adds to the HU is its volume times its contrast, within 4 %, on a coarse grid too."""
    specs = tuple(
        NoduleSpec(14.0, kind, "ellipsoid", centre_mm=p) for kind, p in zip(TYPES, FOUR_PLACES_MM, strict=True)
    )
    with_them, without = quiet(nodules=specs, size="small"), quiet(size="small")
    for truth in with_them.nodules:
        assert truth.volume_mm3 == pytest.approx(np.pi / 6 * 14**3, rel=1e-6)
        k, j, i = np.rint(with_them.geometry.to_index(truth.centre_mm)).astype(int)
        box = np.s_[k - 6 : k + 7, j - 8 : j + 9, i - 8 : i + 9]
        added = with_them.hu[box].astype(float) - without.hu[box]
        cover = blob_box(truth, with_them.geometry, box)
        assert cover.sum() * with_them.geometry.voxel_mm3 == pytest.approx(truth.volume_mm3, rel=0.02)
        # vessels that are denser than the nodule stay as they are
        hu = {NoduleType.SOLID: 35.0, NoduleType.CALCIFIED: 420.0, NoduleType.PART_SOLID: -620.0}.get(
            truth.spec.type, -640.0
        )
        expected = float((cover * np.maximum(hu - without.hu[box], 0)).sum())
        expected += (
            (truth.spec.type == NoduleType.PART_SOLID) * 645 * truth.solid_volume_mm3 / with_them.geometry.voxel_mm3
        )
        assert added.sum() == pytest.approx(expected, rel=0.04)


def blob_box(truth, geometry, box) -> np.ndarray:
    """How much of each voxel of a box the nodule fills."""
    axes = [np.arange(s.start, s.stop) * step for s, step in zip(box, geometry.spacing_mm, strict=True)]
    z, y, x = (a + o for a, o in zip(axes, geometry.origin_mm[::-1], strict=True))
    return blob_coverage(
        make_blob(truth.spec, 0, truth.number - 1), np.array(truth.centre_mm), Slab(x, y, z, geometry.spacing_mm)
    )


def test_nodule_labels_lie_where_the_truth_says():
    scan = phantom("small", nodules=4)
    assert len(scan.nodules) == 4
    for nodule in scan.nodules:
        found = np.argwhere(scan.nodule_labels == nodule.number)
        centre = scan.geometry.to_mm(found).mean(axis=0)
        assert np.linalg.norm(centre - nodule.centre_mm) < 2.0
        assert (scan.lungs[tuple(found.T)] == {"right": 1, "left": 2}[nodule.side]).mean() > 0.9
        if nodule.diameter_mm > 6 and nodule.spec.shape != "spiculated":
            assert len(found) * scan.geometry.voxel_mm3 == pytest.approx(nodule.volume_mm3, rel=0.25)


def test_types_have_their_values_at_the_centre():
    specs = tuple(NoduleSpec(28.0, kind, centre_mm=p) for kind, p in zip(TYPES, FOUR_PLACES_MM, strict=True))
    scan = quiet(nodules=specs)
    centres = [tuple(np.rint(scan.geometry.to_index(n.centre_mm)).astype(int)) for n in scan.nodules]
    values = {kind: int(scan.hu[index]) for kind, index in zip(TYPES, centres, strict=True)}
    assert values[NoduleType.SOLID] == pytest.approx(35, abs=10)
    assert values[NoduleType.PART_SOLID] == pytest.approx(25, abs=10)
    assert -660 < values[NoduleType.GROUND_GLASS] < -400
    assert values[NoduleType.CALCIFIED] == pytest.approx(420, abs=10)


def test_juxtapleural_nodule_sits_on_the_wall_and_only_its_part_in_the_lung_counts():
    scan = phantom(nodules=(NoduleSpec(24.0, place="juxtapleural"),))
    (nodule,) = scan.nodules
    whole = np.pi / 6 * 24**3
    assert 0.5 * whole < nodule.volume_mm3 < 0.99 * whole
    counted = (scan.nodule_labels == 1).sum() * scan.geometry.voxel_mm3
    assert counted == pytest.approx(nodule.volume_mm3, rel=0.15)


def test_random_nodules_keep_apart():
    nodules = phantom(nodules=12, seed=6).nodules
    for a in nodules:
        for b in nodules[a.number :]:
            gap = np.linalg.norm(np.subtract(a.centre_mm, b.centre_mm))
            assert gap > (a.diameter_mm + b.diameter_mm) / 2


def test_random_nodules_are_of_all_types_shapes_and_places():
    drawn = [n for seed in range(20) for n in draw_nodules(seed, 10)]
    assert {n.type for n in drawn} == set(TYPES)
    assert {n.shape for n in drawn} == set(SHAPES)
    assert {n.place for n in drawn} == {"parenchymal", "juxtapleural"}
    assert all(4 <= n.diameter_mm <= 24 for n in drawn)


def test_nodule_that_fits_nowhere_is_refused():
    with pytest.raises(ValueError, match="no room"):
        make_phantom(sized("tiny", nodules=(NoduleSpec(60.0), NoduleSpec(60.0), NoduleSpec(60.0), NoduleSpec(60.0))))


# -- visits ----------------------------------------------------------------------------------------------------------
POSE = Pose(shift_mm=(6.0, -4.0, 9.0), rotation_deg=(2.0, -1.5, 4.0), breathing_mm=18.0)


def test_pose_and_its_inverse_agree():
    points = stream(1, "pose").uniform(-150, 150, (500, 3))
    assert np.abs(to_anatomy(to_scan(points, POSE), POSE) - points).max() < 1e-6
    assert np.array_equal(to_scan(points, Pose()), points)


def test_breathing_moves_the_base_and_not_the_spine():
    base, apex, spine = (np.array(p) for p in ((-60.0, 0, -95), (-30.0, 20, 114), (0.0, 80, -90)))
    pose = Pose(breathing_mm=20.0)
    assert to_scan(base, pose)[2] - base[2] > 19
    assert to_scan(apex, pose)[2] - apex[2] < 0.1
    assert np.array_equal(to_scan(spine, pose), spine)


def test_nodules_move_with_the_pose_and_grow_as_asked():
    spec = NoduleSpec(16.0, NoduleType.SOLID, "lobulated", centre_mm=FREE_MM)
    first = phantom(nodules=(spec,))
    second = phantom(nodules=(replace(spec, growth=2.0),), pose=POSE, scan_seed=9)
    (before,), (after,) = first.nodules, second.nodules
    assert after.volume_mm3 == pytest.approx(2 * before.volume_mm3, rel=1e-6)
    assert np.allclose(after.centre_mm, to_scan(np.array(before.centre_mm), POSE))
    found = second.geometry.to_mm(np.argwhere(second.nodule_labels == 1)).mean(axis=0)
    assert np.linalg.norm(found - after.centre_mm) < 3.0


def test_expiration_makes_the_lungs_smaller():
    assert (phantom(pose=Pose(breathing_mm=25.0)).lungs > 0).sum() < 0.93 * (phantom().lungs > 0).sum()


# -- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (PhantomConfig, {"seed": -1}),
        (PhantomConfig, {"rows": 8}),
        (PhantomConfig, {"pixel_mm": 9.0}),
        (PhantomConfig, {"slice_spacing_mm": 0.1}),
        (PhantomConfig, {"slice_thickness_mm": 20.0}),
        (PhantomConfig, {"nodules": -1}),
        (PhantomConfig, {"dose": "none"}),
        (PhantomConfig, {"kernel": "edgy"}),
        (PhantomConfig, {"age": 4}),
        (PhantomConfig, {"study_date": "2020-1-1"}),
        (NoduleSpec, {"diameter_mm": 0.5}),
        (NoduleSpec, {"type": NoduleType.UNKNOWN}),
        (NoduleSpec, {"shape": "cube"}),
        (NoduleSpec, {"place": "elsewhere"}),
        (NoduleSpec, {"solid_fraction": 1.0}),
        (NoduleSpec, {"growth": 0.0}),
        (Pose, {"shift_mm": (200.0, 0.0, 0.0)}),
        (Pose, {"rotation_deg": (0.0, 45.0, 0.0)}),
        (Pose, {"breathing_mm": 90.0}),
    ],
)
def test_what_cannot_be_made_is_refused(kind, options):
    with pytest.raises(ValueError, match=r"expected|unknown|no nodule"):
        kind(**options)

"""Series → Volume: values and geometry of every trap, on tiny series written with pydicom."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from conftest import shared_folder
from dicom_factory import (
    AXIAL,
    CORONAL,
    FEET_FIRST,
    ORIGIN,
    PRONE,
    SPACING,
    make_enhanced,
    make_series,
    ramp_hu,
    save,
    set_stored,
    slice_positions,
)
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lungscreen.errors import LungscreenError
from lungscreen.records import Volume
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume, source_fingerprint

ANY_SIZE = VolumeConfig(min_slices=1, min_extent_mm=0)
ALONG = np.array([0.0, 0.0, 1.0])


def build(*inputs: Path, config: VolumeConfig = ANY_SIZE) -> Volume:
    """The volume of the first study's first series."""
    inventory = find_series(inputs)
    assert inventory.studies, inventory.refused
    return build_volume(inventory.studies[0].series[0], config)


def codes(volume: Volume) -> list[str]:
    """What reading the pixels said, without what the header said."""
    return [notice.code for notice in volume.notices if notice not in volume.series.notices]


def code_of(*inputs: Path, config: VolumeConfig = ANY_SIZE) -> str:
    with pytest.raises(LungscreenError) as caught:
        build(*inputs, config=config)
    return caught.value.code


def by_somebody_else(paths: list[Path]) -> tuple[NDArray[np.int16], SimpleITK.Image]:
    """SimpleITK's series reader, in canonical (LPS, slices up) orientation."""
    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage([str(path) for path in paths]), "LPS")
    return SimpleITK.GetArrayFromImage(image), image


# -- plain series ----------------------------------------------------------------------------------------------------
def test_a_plain_series(tmp_path: Path) -> None:
    """Values, spacing (row before column), origin, numbers; nothing to say."""
    make_series(tmp_path)
    volume = build(tmp_path, config=VolumeConfig())
    assert volume.hu.dtype == np.int16
    assert volume.hu.flags.c_contiguous
    assert np.array_equal(volume.hu, ramp_hu())
    assert volume.geometry.spacing_mm == pytest.approx((2.5, *SPACING))
    assert volume.geometry.origin_mm == pytest.approx(ORIGIN)
    assert volume.instance_numbers == tuple(range(1, 45))
    assert (volume.source_order, volume.source_flips) == ((0, 1, 2), (False, False, False))
    assert volume.geometry.frame_of_reference == volume.series.frame_of_reference != ""
    assert codes(volume) == []
    assert volume.refused == ()


OBLIQUE = (
    float(np.cos(0.05)),
    float(np.sin(0.05)),
    0.0,
    float(-np.sin(0.05) * np.cos(0.06)),
    float(np.cos(0.05) * np.cos(0.06)),
    float(np.sin(0.06)),
)


@pytest.mark.parametrize(
    "orientation",
    [AXIAL, FEET_FIRST, PRONE, (1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0), OBLIQUE],
    ids=["head first", "feet first", "prone", "upside down", "rows down", "oblique"],
)
@pytest.mark.parametrize("direction", [1, -1], ids=["up", "down"])
def test_geometry_agrees_with_simpleitk(tmp_path: Path, orientation: tuple[float, ...], direction: int) -> None:
    """In any orientation and file order: same values at the same millimetres, canonical."""
    hu = ramp_hu(9)
    positions = slice_positions(9, 2.0, orientation)[::direction]
    paths = make_series(tmp_path, hu, orientation=orientation, positions_mm=positions)
    volume = build(tmp_path)
    array, image = by_somebody_else(paths)
    assert np.array_equal(volume.hu, array)
    size, spacing, origin, cosines = volume.geometry.to_itk()
    assert size == image.GetSize()
    assert np.allclose(spacing, image.GetSpacing(), atol=1e-6)
    assert np.allclose(origin, image.GetOrigin(), atol=1e-4)
    assert np.allclose(cosines, image.GetDirection(), atol=1e-6)


def test_every_voxel_lies_where_the_header_says(tmp_path: Path) -> None:
    """Position of a voxel = IPP + row cosine x column spacing x column + column cosine x row spacing x row."""
    positions = slice_positions(6, 2.0, FEET_FIRST)
    hu = ramp_hu(6)
    make_series(tmp_path, hu, orientation=FEET_FIRST, positions_mm=positions)
    volume = build(tmp_path)
    for k, j, i in [(0, 0, 0), (5, 15, 19), (2, 7, 3)]:
        point = positions[k] + np.array(FEET_FIRST[:3]) * SPACING[1] * i + np.array(FEET_FIRST[3:]) * SPACING[0] * j
        index = np.rint(volume.geometry.to_index(point)).astype(int)
        assert np.allclose(volume.geometry.to_mm(index), point, atol=1e-6)
        assert volume.hu[tuple(index)] == hu[k, j, i]


def test_instance_numbers_follow_the_slices(tmp_path: Path) -> None:
    """Numbers count down, start at 5 and have gaps: none of it means a missing slice."""
    make_series(tmp_path, slices=8, edit=lambda d, k: setattr(d, "InstanceNumber", 100 - 3 * k))
    volume = build(tmp_path)
    assert volume.instance_numbers == tuple(100 - 3 * k for k in range(8))
    assert codes(volume) == []


@pytest.mark.parametrize("orientation", [AXIAL, FEET_FIRST, PRONE], ids=["axial", "feet first", "prone"])
def test_source_slices_say_where_a_voxel_lies_in_its_file(tmp_path: Path, orientation: tuple[float, ...]) -> None:
    """The first pixel of each file, from the bottom up, is the voxel at its ImagePositionPatient."""
    make_series(tmp_path, slices=6, orientation=orientation)
    volume = build(tmp_path)
    assert len(volume.source_slices) == 6
    for k, one in enumerate(volume.source_slices):
        written = dcmread(one.instance.source.path)
        assert written.SOPInstanceUID == one.instance.sop_instance_uid
        index = volume.geometry.to_index([float(v) for v in written.ImagePositionPatient])
        assert index[0] == pytest.approx(k, abs=1e-6)
        stored = written.pixel_array[0, 0] * written.RescaleSlope + written.RescaleIntercept
        assert volume.hu[tuple(np.rint(index).astype(int))] == stored
        assert one.frame is None


def test_a_series_without_instance_numbers(tmp_path: Path) -> None:
    make_series(tmp_path, slices=8, without=["InstanceNumber"])
    volume = build(tmp_path)
    assert volume.instance_numbers == (None,) * 8
    assert np.array_equal(volume.hu, ramp_hu(8))


def test_spacing_tags_are_not_used(tmp_path: Path) -> None:
    """SpacingBetweenSlices, SliceLocation and GantryDetectorTilt lie."""
    make_series(tmp_path, slices=8, tags={"SpacingBetweenSlices": 9, "SliceLocation": 1, "GantryDetectorTilt": 20})
    volume = build(tmp_path)
    assert volume.geometry.spacing_mm[0] == pytest.approx(2.5)
    assert codes(volume) == []


@pytest.mark.parametrize(
    ("slices", "step", "thickness", "code"),
    [(19, 5.0, 5.0, "too-few-slices"), (39, 2.5, 2.5, "too-short"), (30, 2.5, 5.5, "too-thick")],
)
def test_series_too_small_or_too_thick(tmp_path: Path, slices: int, step: float, thickness: float, code: str) -> None:
    make_series(tmp_path, slices=slices, step_mm=step, tags={"SliceThickness": thickness})
    inventory = find_series([tmp_path])
    if code == "too-thick":
        assert inventory.refused[0].code == code
    else:
        assert code_of(tmp_path, config=VolumeConfig()) == code


def test_the_fingerprint_is_that_of_the_sorted_uids(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=3)
    uids = sorted(str(dcmread(path).SOPInstanceUID) for path in paths)
    series = find_series([tmp_path]).studies[0].series[0]
    assert source_fingerprint(series) == hashlib.sha256("".join(f"{uid}\n" for uid in uids).encode()).hexdigest()


# -- copies and several passes ---------------------------------------------------------------------------------------
def test_one_position_twice_with_the_same_pixels(tmp_path: Path) -> None:
    """Another SOP Instance UID, the same image: one is kept, and it is said."""
    paths = make_series(tmp_path, slices=8)
    copy = dcmread(paths[3])
    copy.SOPInstanceUID = generate_uid()
    save(copy, tmp_path / "copy.dcm")
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, ramp_hu(8))
    assert codes(volume) == ["slices-duplicate"]


def test_one_position_twice_with_other_pixels(tmp_path: Path) -> None:
    """Nothing tells which is right."""
    paths = make_series(tmp_path, slices=8)
    other = dcmread(paths[3])
    other.SOPInstanceUID = generate_uid()
    set_stored(other, np.zeros((16, 20)))
    save(other, tmp_path / "other.dcm")
    assert code_of(tmp_path) == "several-images-per-position"


@pytest.mark.parametrize("move", [0.0, 2.5])
def test_one_uid_with_other_pixels_is_refused(tmp_path: Path, move: float) -> None:
    """At the same or another position."""
    paths = make_series(tmp_path, slices=8)
    other = dcmread(paths[7])
    other.ImagePositionPatient = [*ORIGIN[:2], ORIGIN[2] + 7 * 2.5 + move]
    set_stored(other, np.zeros((16, 20)))
    save(other, tmp_path / "other.dcm")
    assert code_of(tmp_path) == "same-uid-other-pixels"


def test_one_uid_with_the_same_pixels_in_another_file(tmp_path: Path) -> None:
    """The header was edited in between; the image is the same."""
    paths = make_series(tmp_path, slices=8)
    other = dcmread(paths[3])
    other.AccessionNumber = "B2"
    save(other, tmp_path / "other.dcm")
    assert codes(build(tmp_path)) == ["slices-duplicate"]


def two_passes(folder: Path, tags: tuple[dict[str, str], dict[str, str]], shift: float = 0.0) -> None:
    """Two passes in one series: the first full of bone, the second of lung."""
    uids = {"study_uid": generate_uid(), "series_uid": generate_uid()}
    for number, value in enumerate((400, -800)):
        hu = np.full((8, 16, 20), value, dtype=np.int16)
        positions = slice_positions(8, 2.0) + number * shift * ALONG
        fixed = {"FrameOfReferenceUID": "1.2.3", **tags[number]}
        make_series(folder, hu, positions_mm=positions, prefix=f"pass{number}", tags=fixed, **uids)


@pytest.mark.parametrize(
    "keyword", ["AcquisitionNumber", "TemporalPositionIdentifier", "AcquisitionTime"], ids=["number", "phase", "time"]
)
@pytest.mark.parametrize("shift", [0.0, 0.7], ids=["equal positions", "interleaved"])
def test_several_passes_are_told_apart(tmp_path: Path, keyword: str, shift: float) -> None:
    """The one with most lung is read, the other recorded."""
    two_passes(tmp_path, ({keyword: "1"}, {keyword: "2"}), shift)
    volume = build(tmp_path)
    assert volume.hu.shape == (8, 16, 20)
    assert (volume.hu == -800).all()
    assert volume.geometry.origin_mm[2] == pytest.approx(ORIGIN[2] + shift)
    assert codes(volume) == ["several-passes"]
    assert [(row.scope, row.code) for row in volume.refused] == [("series", "series-part")]


def test_passes_whose_slices_each_have_their_own_time(tmp_path: Path) -> None:
    """They follow one another."""
    uids = {"study_uid": generate_uid(), "series_uid": generate_uid()}
    for number, value in enumerate((-800, 400)):
        hu = np.full((6, 16, 20), value, dtype=np.int16)
        make_series(
            tmp_path,
            hu,
            prefix=f"pass{number}",
            tags={"FrameOfReferenceUID": "1.2.3"},
            edit=lambda d, k, n=number: setattr(d, "AcquisitionTime", f"10{n}5{k:02d}"),  # type: ignore[misc]
            **uids,
        )
    volume = build(tmp_path)
    assert (volume.hu == -800).all()
    assert codes(volume) == ["several-passes"]


def _times(first: int) -> Callable[[Dataset, int], None]:
    """Each slice has a time of its own."""
    return lambda dataset, k: setattr(dataset, "AcquisitionTime", f"{100000 + first + k}.5")


def test_a_slice_that_was_scanned_once_more(tmp_path: Path) -> None:
    """All positions of the first run, not half of them."""
    hu, uids = ramp_hu(21), {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "tags": {"FrameOfReferenceUID": "1.2.3.9"}}
    make_series(tmp_path, hu, edit=_times(0), **uids)
    again = slice_positions(21, 2.5)[10:11]
    make_series(tmp_path, hu[10:11] + 50, positions_mm=again, edit=_times(500), prefix="again", **uids)
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert codes(volume) == ["several-passes"]


@pytest.mark.parametrize("upwards", [True, False])
def test_a_second_run_of_a_part(tmp_path: Path, upwards: bool) -> None:
    """Never a volume of slices of both."""
    hu, uids = ramp_hu(21), {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "tags": {"FrameOfReferenceUID": "1.2.3.9"}}
    make_series(tmp_path, hu, edit=_times(0), **uids)
    order = np.arange(5, 16) if upwards else np.arange(15, 4, -1)
    places = slice_positions(21, 2.5)[order]
    make_series(tmp_path, (hu + 100)[order], positions_mm=places, edit=_times(500), prefix="again", **uids)
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert codes(volume) == ["several-passes"]


@pytest.mark.parametrize("told_by", ["AcquisitionNumber", "AcquisitionTime"])
@pytest.mark.parametrize("shift", [0.0, 1.0], ids=["same places", "other places"])
def test_two_runs_that_overlap_are_joined(tmp_path: Path, told_by: str, shift: float) -> None:
    """What only one of them shows is not lost; where both are one of them alone is read."""
    hu, uids = ramp_hu(30), {"study_uid": "1.2.3", "series_uid": "1.2.3.4"}
    places = slice_positions(30, 2.5)
    for name, part, value in (("a", slice(0, 20), "1"), ("b", slice(12, 30), "2")):
        moved = places[part] + (shift if name == "b" else 0) * np.array([0, 0, 1.0])
        tags = {"FrameOfReferenceUID": "1.2.3.9", told_by: value}
        make_series(tmp_path, hu[part] + (name == "b"), positions_mm=moved, tags=tags, prefix=name, **uids)
    volume = build(tmp_path)
    assert volume.hu.shape[0] == 30
    assert np.array_equal(volume.hu[:20], hu[:20])
    assert codes(volume)[:2] == ["several-passes", "several-passes"]
    if not shift:
        assert np.array_equal(volume.hu[20:], hu[20:] + 1)


def test_alternating_images_with_times_are_no_runs(tmp_path: Path) -> None:
    """Two images at each position, one after the other: no pass could be told from its neighbours."""
    hu, uids = ramp_hu(21), {"study_uid": "1.2.3", "series_uid": "1.2.3.4", "tags": {"FrameOfReferenceUID": "1.2.3.9"}}
    for number in range(2):

        def edit(dataset: Dataset, k: int, number: int = number) -> None:
            dataset.AcquisitionTime = f"{100000 + 2 * k + number}"

        make_series(tmp_path, hu + number, edit=edit, prefix=f"phase{number}", **uids)
    assert code_of(tmp_path) == "several-images-per-position"


def test_time_points_half_a_step_apart_are_no_thin_series(tmp_path: Path) -> None:
    """Evenly spaced together, but the temporal positions differ."""
    two_passes(tmp_path, ({"TemporalPositionIdentifier": "1"}, {"TemporalPositionIdentifier": "2"}), 1.0)
    volume = build(tmp_path)
    assert volume.geometry.spacing_mm[0] == pytest.approx(2.0)
    assert codes(volume) == ["several-passes"]


def test_temporal_positions_that_number_the_slices_split_nothing(tmp_path: Path) -> None:
    make_series(tmp_path, ramp_hu(21), edit=lambda dataset, k: setattr(dataset, "TemporalPositionIdentifier", k + 1))
    assert np.array_equal(build(tmp_path).hu, ramp_hu(21))


def test_passes_that_nothing_tells_apart(tmp_path: Path) -> None:
    two_passes(tmp_path, ({}, {}))
    assert code_of(tmp_path) == "several-images-per-position"


def test_interleaved_passes_that_nothing_tells_apart_are_no_thin_series(tmp_path: Path) -> None:
    """0.7 mm and 1.3 mm in turn: resampled, and said."""
    two_passes(tmp_path, ({}, {}), 0.7)
    assert codes(build(tmp_path)) == ["spacing-resampled", "overlapping"]


def test_two_runs_of_one_scan_are_not_passes(tmp_path: Path) -> None:
    """The acquisition number changes half way, a slice is missing there: both halves are read."""

    def edit(dataset: Dataset, k: int) -> None:
        dataset.AcquisitionNumber = 1 if k < 6 else 2

    paths = make_series(tmp_path, slices=12, step_mm=2.0, edit=edit)
    paths[6].unlink()
    volume = build(tmp_path)
    assert volume.hu.shape[0] == 12
    assert codes(volume) == ["slices-filled"]


# -- holes, strays, uneven spacing, tilt -----------------------------------------------------------------------------
def test_a_hole_is_filled_between_its_neighbours(tmp_path: Path) -> None:
    """Linearly; the filled slice has no number, and its place is said."""
    hu = np.repeat(np.arange(10, dtype=np.int16)[:, None, None] * 30, 16, axis=1).repeat(20, axis=2)
    paths = make_series(tmp_path, hu, step_mm=1.5, positions_mm=slice_positions(10, 1.5))
    paths[4].unlink()
    paths[5].unlink()
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert volume.instance_numbers == (1, 2, 3, 4, None, None, 7, 8, 9, 10)
    assert codes(volume) == ["slices-filled"]
    text = next(notice.text for notice in volume.notices if notice.code == "slices-filled")
    assert f"{ORIGIN[2] + 6.0:.1f}" in text


def test_a_large_hole_is_refused(tmp_path: Path) -> None:
    for path in make_series(tmp_path, slices=12)[5:7]:
        path.unlink()
    assert code_of(tmp_path) == "slice-gap"


def test_stray_slices_are_recorded(tmp_path: Path) -> None:
    positions = slice_positions(12, 2.0)
    positions[11, 2] += 60
    make_series(tmp_path, slices=12, positions_mm=positions)
    volume = build(tmp_path)
    assert volume.hu.shape[0] == 11
    assert "slices-stray" in codes(volume)
    assert [row.code for row in volume.refused] == ["series-part"]


def test_uneven_spacing_is_interpolated(tmp_path: Path) -> None:
    """Values that rise with the position stay on their line."""
    along = np.array([0, 1, 2, 3, 4.4, 5.4, 6.4, 7.4, 8.4, 9.4])
    hu = np.rint(along * 100)[:, None, None].repeat(16, axis=1).repeat(20, axis=2).astype(np.int16)
    make_series(tmp_path, hu, positions_mm=np.array(ORIGIN) + along[:, None] * ALONG)
    volume = build(tmp_path)
    assert volume.geometry.spacing_mm[0] == pytest.approx(1.0)
    assert volume.hu[:, 0, 0].tolist() == [100 * k for k in range(10)]
    assert volume.instance_numbers[:5] == (1, 2, 3, 4, None)
    assert "spacing-resampled" in codes(volume)


@pytest.mark.parametrize("degrees", [12.0, -20.0])
@pytest.mark.parametrize("mirrored", [False, True], ids=["", "mirrored"])
def test_a_gantry_tilt_is_taken_out(tmp_path: Path, degrees: float, mirrored: bool) -> None:
    """A straight rod through tilted slices lies where the header's positions say, in every slice."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    orientation = (-1.0 if mirrored else 1.0, 0.0, 0.0, 0.0, c, s)
    positions = np.array([[-30.0, 12.0, 3.0 * k] for k in range(12)])
    hu = np.full((12, 40, 30), -800, dtype=np.int16)
    rods = []
    for k in range(12):
        # a vertical rod at y = 26 mm: the row where the slice meets it
        row = (26.0 - positions[k, 1]) / c / SPACING[0]
        rows = np.arange(40)
        hu[k] = np.rint(-800 + 800 * np.exp(-(((rows - row) / 2) ** 2)))[:, None]
        rods.append(positions[k] + np.array(orientation[3:]) * row * SPACING[0])
    make_series(tmp_path, hu, orientation=orientation, positions_mm=positions)
    volume = build(tmp_path)
    assert "gantry-tilt" in codes(volume)
    assert volume.geometry.spacing_mm[0] == pytest.approx(3.0 * c)
    for k, rod in enumerate(rods):
        profile = volume.hu[k, :, 5].astype(float) + 800
        profile[profile < 0] = 0
        centre = (profile * np.arange(len(profile))).sum() / profile.sum()
        found = volume.geometry.to_mm([k, centre, 5])
        assert found[1:] == pytest.approx(rod[1:], abs=0.05)
    assert volume.instance_numbers == tuple(range(1, 13))


def test_a_tilt_with_a_hole(tmp_path: Path) -> None:
    """The hole is filled after the slices were moved."""
    c, s = np.cos(np.radians(15)), np.sin(np.radians(15))
    positions = np.array([[-30.0, 12.0, 2.0 * k] for k in range(12)])
    paths = make_series(tmp_path, slices=12, orientation=(1, 0, 0, 0, c, s), positions_mm=positions)
    paths[5].unlink()
    assert codes(build(tmp_path)) == ["slices-filled", "gantry-tilt"]


# -- damaged pixels --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("spoil", ["short", "long", "empty", "absent", "cut off", "gone"])
def test_a_damaged_slice_counts_as_missing(tmp_path: Path, spoil: str) -> None:
    """The header pass sees nothing; the hole is filled, and everything is said."""
    hu = ramp_hu(10)
    paths = make_series(tmp_path, hu, step_mm=2.0)
    series = find_series([tmp_path]).studies[0].series[0]
    dataset = dcmread(paths[4])
    if spoil == "cut off":
        paths[4].write_bytes(paths[4].read_bytes()[:-100])
    elif spoil == "gone":
        paths[4].unlink()
    else:
        pixels = dataset.PixelData
        dataset.PixelData = {"short": pixels[:-40], "long": pixels + bytes(40), "empty": b"", "absent": b""}[spoil]
        if spoil == "absent":
            del dataset.PixelData
        save(dataset, paths[4])
    volume = build_volume(series, ANY_SIZE)
    assert volume.hu.shape == (10, 16, 20)
    assert volume.instance_numbers[4] is None
    assert np.array_equal(np.delete(volume.hu, 4, axis=0), np.delete(hu, 4, axis=0))
    assert codes(volume) == ["slices-damaged", "slices-filled"]
    assert [row.code for row in volume.refused] == ["file-unreadable" if spoil == "gone" else "pixels-damaged"]
    assert volume.refused[0].where == str(paths[4])


def test_too_many_damaged_slices_are_a_gap(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=12)
    for path in paths[4:7]:
        dataset = dcmread(path)
        dataset.PixelData = b"\0\0"
        save(dataset, path)
    assert code_of(tmp_path) == "slice-gap"


def test_nothing_but_damaged_slices(tmp_path: Path) -> None:
    make_series(tmp_path, slices=6, tags={"PixelData": b"\0\0"})
    assert code_of(tmp_path) == "pixels-damaged"


def test_damage_at_an_end_makes_a_series_too_short(tmp_path: Path) -> None:
    """The size is checked again after decoding."""
    paths = make_series(
        tmp_path, slices=21, step_mm=4.9, edit=lambda d, k: setattr(d, "PixelData", b"\0\0") if k > 18 else None
    )
    assert paths
    assert code_of(tmp_path, config=VolumeConfig()) == "too-few-slices"


def test_a_damaged_copy_leaves_the_good_one(tmp_path: Path) -> None:
    """Two files at one position, one of them broken."""
    paths = make_series(tmp_path, slices=8)
    copy = dcmread(paths[3])
    copy.SOPInstanceUID = generate_uid()
    copy.PixelData = b"\0\0"
    save(copy, tmp_path / "copy.dcm")
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, ramp_hu(8))
    assert [row.code for row in volume.refused] == ["pixels-damaged"]


def test_a_file_that_changes_between_the_passes(tmp_path: Path) -> None:
    """Rows differ from what the header pass saw."""
    paths = make_series(tmp_path, slices=8)
    series = find_series([tmp_path]).studies[0].series[0]
    dataset = dcmread(paths[3])
    dataset.Rows, dataset.Columns = 20, 16
    save(dataset, paths[3])
    volume = build_volume(series, ANY_SIZE)
    assert [row.code for row in volume.refused] == ["pixels-damaged"]


def test_a_series_larger_than_memory_allows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lungscreen.volume import dicom

    make_series(tmp_path, slices=8)
    monkeypatch.setattr(dicom, "MOST_VOXELS", 8 * 16 * 20 - 1)
    assert code_of(tmp_path) == "volume-too-large"


# -- multi-frame -----------------------------------------------------------------------------------------------------
def test_enhanced_frames_have_their_own_place_and_rescale(tmp_path: Path) -> None:
    """Shuffled frames, an intercept per frame: SimpleITK applies one to all, pydicom's apply_rescale none."""
    hu = ramp_hu(10)
    order = np.random.default_rng(3).permutation(10)
    positions = slice_positions(10, 2.0)[order]
    make_enhanced(tmp_path / "e.dcm", hu[order], positions_mm=positions, intercepts=[-1024.0 - k for k in range(10)])
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert volume.geometry.origin_mm == pytest.approx(ORIGIN)
    assert volume.geometry.spacing_mm == pytest.approx((2.0, *SPACING))
    assert volume.instance_numbers == tuple(int(np.flatnonzero(order == k)[0]) + 1 for k in range(10))
    assert tuple(one.frame for one in volume.source_slices) == volume.instance_numbers
    assert [one.position_mm[2] for one in volume.source_slices] == pytest.approx(ORIGIN[2] + 2.0 * np.arange(10))


def test_enhanced_stacks_are_split(tmp_path: Path) -> None:
    """By StackID; the one with most lung is read."""
    hu = np.concatenate([np.full((6, 16, 20), 300), np.full((6, 16, 20), -700)]).astype(np.int16)
    positions = np.concatenate([slice_positions(6, 2.0)] * 2)
    make_enhanced(tmp_path / "e.dcm", hu, positions_mm=positions, stacks=["1"] * 6 + ["2"] * 6)
    volume = build(tmp_path)
    assert (volume.hu == -700).all()
    assert codes(volume) == ["several-passes"]


def test_enhanced_phases_are_split(tmp_path: Path) -> None:
    hu = np.concatenate([np.full((6, 16, 20), -700), np.full((6, 16, 20), 300)]).astype(np.int16)
    positions = np.concatenate([slice_positions(6, 2.0)] * 2)
    make_enhanced(tmp_path / "e.dcm", hu, positions_mm=positions, temporal=[1] * 6 + [2] * 6)
    volume = build(tmp_path)
    assert (volume.hu == -700).all()


def test_enhanced_frames_of_another_type_are_left_out(tmp_path: Path) -> None:
    """A MIP among the frames."""

    def edit(dataset: Dataset) -> None:
        for number, frame in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            kind = Dataset()
            kind.FrameType = (
                ["DERIVED", "PRIMARY", "VOLUME", "MIP"] if number > 7 else ["ORIGINAL", "PRIMARY", "AXIAL", "NONE"]
            )
            frame.CTImageFrameTypeSequence = [kind]

    make_enhanced(tmp_path / "e.dcm", ramp_hu(10), edit=edit)
    volume = build(tmp_path)
    assert volume.hu.shape[0] == 8
    assert [row.code for row in volume.refused] == ["series-part"]


@pytest.mark.parametrize(("kind", "code"), [("MGML", "not-hu"), ("", "")])
def test_enhanced_frames_in_other_units(tmp_path: Path, kind: str, code: str) -> None:
    def edit(dataset: Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            frame.PixelValueTransformationSequence[0].RescaleType = kind

    make_enhanced(tmp_path / "e.dcm", ramp_hu(6), edit=edit)
    if code:
        assert code_of(tmp_path) == code
    else:
        assert build(tmp_path).hu.shape[0] == 6


def test_enhanced_frames_all_mip_are_refused(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        kind = Dataset()
        kind.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "MIP"]
        dataset.SharedFunctionalGroupsSequence[0].CTImageFrameTypeSequence = [kind]

    make_enhanced(tmp_path / "e.dcm", ramp_hu(6), edit=edit)
    assert code_of(tmp_path) == "not-axial-image"


def test_an_enhanced_stack_that_is_not_axial_is_left_out(tmp_path: Path) -> None:
    """A coronal reformat of lung beside the axial slices."""
    hu = np.concatenate([np.full((4, 16, 20), -700), np.full((8, 16, 20), 100)]).astype(np.int16)
    positions = np.concatenate([slice_positions(4, 2.0, CORONAL), slice_positions(8, 2.0)])

    def edit(dataset: Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence[:4]:
            plane = Dataset()
            plane.ImageOrientationPatient = list(CORONAL)
            frame.PlaneOrientationSequence = [plane]

    make_enhanced(tmp_path / "e.dcm", hu, positions_mm=positions, edit=edit)
    volume = build(tmp_path)
    assert (volume.hu == 100).all()
    assert [row.code for row in volume.refused] == ["series-part"]


def test_concatenations_are_joined(tmp_path: Path) -> None:
    """Two objects, one volume; with one of them missing it is said."""
    uids = {"study_uid": generate_uid(), "series_uid": generate_uid()}
    hu, positions = ramp_hu(12), slice_positions(12, 2.0)
    for number, part in enumerate((slice(0, 7), slice(7, 12))):
        tags = {
            "ConcatenationUID": "1.2.3",
            "InConcatenationNumber": number + 1,
            "InConcatenationTotalNumber": 2,
            "FrameOfReferenceUID": "1.2.9",
        }
        make_enhanced(tmp_path / f"{number}.dcm", hu[part], positions_mm=positions[part], tags=tags, **uids)
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, hu)
    assert codes(volume) == []
    (tmp_path / "1.dcm").unlink()
    assert codes(build(tmp_path)) == ["file-left-out"]


@pytest.mark.parametrize(
    ("group", "code"),
    [("PlanePositionSequence", "frames-invalid"), ("PixelValueTransformationSequence", "rescale-missing")],
)
def test_enhanced_frames_that_lack_something(tmp_path: Path, group: str, code: str) -> None:
    """One frame is left out and its hole filled; all of them refuse the series."""
    make_enhanced(
        tmp_path / "one" / "e.dcm",
        ramp_hu(8),
        step_mm=2.0,
        edit=lambda d: delattr(d.PerFrameFunctionalGroupsSequence[3], group),
    )
    volume = build(tmp_path / "one")
    assert [row.code for row in volume.refused] == [code]
    assert "slices-filled" in codes(volume)

    def spoil(dataset: Dataset) -> None:
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            delattr(frame, group)

    make_enhanced(tmp_path / "all" / "e.dcm", ramp_hu(8), edit=spoil)
    assert code_of(tmp_path / "all") == code


def test_enhanced_frames_that_are_not_described(tmp_path: Path) -> None:
    make_enhanced(tmp_path / "e.dcm", ramp_hu(8), edit=lambda d: setattr(d, "NumberOfFrames", 9))
    assert code_of(tmp_path) == "frames-invalid"


# -- real data -------------------------------------------------------------------------------------------------------
def test_a_real_study_agrees_with_simpleitk() -> None:
    """LIDC-IDRI-0001 (feet first, 21 % padding): pixels and geometry as SimpleITK's, but for the padding."""
    folder = shared_folder("data", "dicom", "LIDC-IDRI-0001")
    volume = build(folder, config=VolumeConfig())
    paths = sorted(
        folder.rglob("*.dcm"), key=lambda p: float(dcmread(p, stop_before_pixels=True).ImagePositionPatient[2])
    )
    array, image = by_somebody_else(paths)
    assert np.array_equal(volume.hu, np.maximum(array, -1024))
    assert float((array < -1024).mean()) == pytest.approx(0.21, abs=0.01)
    _, spacing, origin, cosines = volume.geometry.to_itk()
    assert np.allclose(spacing, image.GetSpacing(), atol=1e-6)
    assert np.allclose(origin, image.GetOrigin(), atol=1e-4)
    assert np.allclose(cosines, image.GetDirection(), atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["4D-Lung_113_HM10395_p4_40pct", "QIN-LSC-0014"]
    + [
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "CMB-CRC_MSB-01068",
            "LIDC-IDRI-0003",
            "LIDC-IDRI-0004",
            "LIDC-IDRI-0005",
            "LIDC-IDRI-0007",
            "LIDC-IDRI-0063",
            "LUNG1-003",
            "QIN-LSC-0028",
            "QIN-LSC-0055",
        )
    ],
)
def test_real_boxes_are_read_without_a_geometry_notice(name: str) -> None:
    """All are good series: only what the header says, and thick slices."""
    volume = build(shared_folder("data", "lungbox", name), config=VolumeConfig())
    assert set(codes(volume)) <= {"thick-slices"}
    assert volume.hu.min() >= -1024
    assert volume.refused == ()

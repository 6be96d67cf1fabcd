"""NIfTI, NRRD, MHA, MHD → Volume: the same voxels at the same millimetres as DICOM, or a refusal."""

from __future__ import annotations

import errno
import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from dicom_factory import make_series
from numpy.typing import NDArray

from lungscreen.errors import LungscreenError
from lungscreen.records import Acquisition, Exam, Patient, Series, Volume
from lungscreen.series import find_series
from lungscreen.volume import VolumeConfig, build_volume

ANY_SIZE = VolumeConfig(min_slices=1, min_extent_mm=0)
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".mha", ".mhd")


def build(path: Path, config: VolumeConfig = ANY_SIZE) -> Volume:
    inventory = find_series([path])
    assert len(inventory.studies) == 1, inventory
    return build_volume(inventory.studies[0].series[0], config)


def code_of(path: Path, config: VolumeConfig = ANY_SIZE) -> str:
    with pytest.raises(LungscreenError) as caught:
        build(path, config)
    return caught.value.code


def notices(volume: Volume) -> list[str]:
    return [notice.code for notice in volume.notices]


def chest(shape: tuple[int, int, int] = (7, 6, 5)) -> NDArray[np.int16]:
    """Air and tissue, every voxel different."""
    return (np.arange(np.prod(shape)).reshape(shape) * 7 - 900).astype(np.int16)


def lps_image(hu: NDArray[np.int16], orientation: str = "LPS") -> SimpleITK.Image:
    """Anisotropic, off-origin."""
    image = SimpleITK.GetImageFromArray(hu)
    image.SetSpacing((0.7, 0.8, 2.5))
    image.SetOrigin((-31.5, 12.25, -107.0))
    return SimpleITK.DICOMOrient(image, orientation)


# -- the same volume in every form -----------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("orientation", ["LPS", "RAS", "LPI", "PIR", "SAL"])
def test_every_format_and_orientation_gives_the_dicom_volume(tmp_path: Path, ending: str, orientation: str) -> None:
    """Slices along any axis, any sign."""
    make_series(tmp_path / "dicom", slices=6)
    inventory = find_series([tmp_path / "dicom"])
    reference = build_volume(inventory.studies[0].series[0], ANY_SIZE)
    _, spacing, origin, direction = reference.geometry.to_itk()
    image = SimpleITK.GetImageFromArray(reference.hu)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    path = tmp_path / f"image{ending}"
    SimpleITK.WriteImage(SimpleITK.DICOMOrient(image, orientation), str(path))
    volume = build(path)
    assert np.array_equal(volume.hu, reference.hu)
    assert volume.geometry.same_as(reference.geometry, 1e-3)
    assert volume.hu.flags.c_contiguous
    assert volume.instance_numbers == (None,) * 6
    assert volume.series_uid == "image"
    assert notices(volume) == []


@pytest.mark.parametrize("ending", ENDINGS)
def test_images_in_archives(tmp_path: Path, ending: str) -> None:
    """Read from a private folder that is gone afterwards; a header's data file comes along."""
    (tmp_path / "a").mkdir()
    SimpleITK.WriteImage(lps_image(chest(), "RAS"), str(tmp_path / "a" / f"image{ending}"))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for path in (tmp_path / "a").iterdir():
            archive.write(path, f"sub/{path.name}")
    volume = build(tmp_path / "in.zip")
    assert np.array_equal(volume.hu, chest())
    assert volume.geometry.origin_mm == pytest.approx((-31.5, 12.25, -107.0), abs=1e-4)


def test_no_room_for_a_copy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image in an archive needs a file for a moment; a full disk is the machine's fault, and named."""
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        SimpleITK.WriteImage(lps_image(chest()), str(tmp_path / "image.mha"))
        archive.write(tmp_path / "image.mha", "image.mha")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(LungscreenError, match="No space left") as caught:
        build(tmp_path / "in.zip")
    assert caught.value.code == "file-unreadable"


def test_nibabel_s_voxels_lie_where_nibabel_says(tmp_path: Path) -> None:
    """Written by nibabel in RAS with an oblique affine of 3 degrees."""
    angle = np.radians(3)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.7, 0.8, 2.0])
    affine[:3, 3] = (10, -20, 30)
    data = chest((5, 6, 7))
    nib.save(nib.Nifti1Image(data, affine), tmp_path / "a.nii.gz")
    volume = build(tmp_path / "a.nii.gz")
    for i, j, k in [(0, 0, 0), (4, 5, 6), (1, 3, 2)]:
        x, y, z, _ = affine @ (i, j, k, 1)
        index = np.rint(volume.geometry.to_index((-x, -y, z))).astype(int)
        assert volume.hu[tuple(index)] == data[i, j, k]


@pytest.mark.parametrize("ending", [".NII", ".Nii.GZ", ".NRRD", ".MHA"])
def test_endings_in_upper_case(tmp_path: Path, ending: str) -> None:
    SimpleITK.WriteImage(lps_image(chest()), str(tmp_path / f"a{ending.lower()}"))
    (tmp_path / f"a{ending.lower()}").rename(tmp_path / f"b{ending}")
    volume = build(tmp_path)
    assert np.array_equal(volume.hu, chest())
    assert volume.series_uid == "b"


# -- values ----------------------------------------------------------------------------------------------------------
def test_float_values_are_rounded_padding_is_air(tmp_path: Path) -> None:
    """NaN and values below -1024 are air, values above int16 are clipped and counted."""
    data = chest().astype(np.float32) + 0.4
    data[0, 0, :3] = (np.nan, -3024, 50000)
    image = SimpleITK.GetImageFromArray(data)
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    volume = build(tmp_path / "a.mha")
    assert volume.hu[0, 0, :3].tolist() == [-1024, -1024, 32767]
    assert np.array_equal(volume.hu.ravel()[3:], chest().ravel()[3:])
    assert notices(volume) == ["values-clipped", "values-clipped"]


def test_nifti_scaling_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image((chest() + 1024).astype(np.int16), np.diag([-1.0, -1.0, 1.0, 1.0]))
    image.header.set_slope_inter(1.0, -1024.0)
    nib.save(image, tmp_path / "a.nii")
    volume = build(tmp_path / "a.nii")
    assert sorted(volume.hu.ravel()) == sorted(chest().ravel())


@pytest.mark.parametrize(
    "data",
    [
        np.linspace(0, 1, 210, dtype=np.float32),
        np.linspace(-1, 1, 210, dtype=np.float32),
        np.linspace(0, 255, 210).astype(np.uint8),
        np.linspace(0, 4095, 210).astype(np.uint16),
        np.zeros(210, dtype=np.int16),
        np.full(210, -1000, dtype=np.int16),
    ],
    ids=["0..1", "-1..1", "0..255", "0..4095", "empty", "air only"],
)
def test_values_that_are_not_hu(tmp_path: Path, data: NDArray[np.generic]) -> None:
    """Scaled, windowed, not rescaled, labels: refused, never guessed."""
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(data.reshape(7, 6, 5)), str(tmp_path / "a.mha"))
    assert code_of(tmp_path / "a.mha") == "image-not-hu"


# -- shapes ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(5, 6), (5, 6, 7, 2), (5, 6, 7, 1, 3)])
def test_images_of_other_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), tmp_path / "a.nii")
    assert code_of(tmp_path / "a.nii") == "image-dimensions"


def test_a_fourth_dimension_of_one_is_none(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(chest()[..., None], np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "a.nii")
    assert build(tmp_path / "a.nii").hu.size == 210
    image = SimpleITK.JoinSeries([lps_image(chest())])
    SimpleITK.WriteImage(image, str(tmp_path / "b.mha"))
    volume = build(tmp_path / "b.mha")
    assert np.array_equal(volume.hu, chest())
    assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    two = SimpleITK.JoinSeries([lps_image(chest())] * 2)
    SimpleITK.WriteImage(two, str(tmp_path / "c.mha"))
    assert code_of(tmp_path / "c.mha") == "image-dimensions"


def test_colour_is_refused(tmp_path: Path) -> None:
    image = SimpleITK.GetImageFromArray(np.zeros((4, 5, 6, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(image, str(tmp_path / "a.mha"))
    assert code_of(tmp_path / "a.mha") == "image-dimensions"
    rgb = np.zeros((4, 5, 6), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(rgb, np.eye(4)), tmp_path / "b.nii")
    assert code_of(tmp_path / "b.nii") == "image-dimensions"


def test_too_large_is_refused_before_reading(tmp_path: Path) -> None:
    """A header that promises 10^11 voxels."""
    nib.save(nib.Nifti1Image(chest(), np.eye(4)), tmp_path / "a.nii")
    data = bytearray((tmp_path / "a.nii").read_bytes())
    data[42:48] = np.array([5000, 5000, 5000], "<i2").tobytes()
    (tmp_path / "a.nii").write_bytes(data)
    assert code_of(tmp_path / "a.nii") == "volume-too-large"
    (tmp_path / "b.mha").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 5000 5000 5000\nElementType = MET_SHORT\nElementSpacing = 1 1 1\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nElementDataFile = LOCAL\n"
    )
    assert code_of(tmp_path / "b.mha") == "volume-too-large"


def test_size_and_thickness_count_for_images_too(tmp_path: Path) -> None:
    SimpleITK.WriteImage(lps_image(chest()), str(tmp_path / "a.mha"))
    assert code_of(tmp_path / "a.mha", VolumeConfig()) == "too-few-slices"
    thick = lps_image(chest())
    thick.SetSpacing((0.7, 0.8, 5.5))
    SimpleITK.WriteImage(thick, str(tmp_path / "b.mha"))
    assert code_of(tmp_path / "b.mha") == "too-thick"
    thick.SetSpacing((0.7, 0.8, 3.0))
    SimpleITK.WriteImage(thick, str(tmp_path / "c.mha"))
    assert notices(build(tmp_path / "c.mha")) == ["thick-slices"]


# -- geometry --------------------------------------------------------------------------------------------------------
def nifti(path: Path, sform: NDArray[np.float64] | None, qform: NDArray[np.float64] | None) -> Path:
    image = nib.Nifti1Image(chest(), None)
    image.header.set_sform(sform, 1 if sform is not None else 0)
    image.header.set_qform(qform, 1 if qform is not None else 0)
    nib.save(image, path)
    return path


def test_nifti_without_sform_and_qform_is_refused(tmp_path: Path) -> None:
    assert code_of(nifti(tmp_path / "a.nii", None, None)) == "image-geometry"


def test_nifti_with_only_one_of_them(tmp_path: Path) -> None:
    affine = np.diag([-0.7, -0.8, 2.5, 1.0])
    for sform, qform in ((affine, None), (None, affine)):
        volume = build(nifti(tmp_path / "a.nii", sform, qform))
        assert volume.geometry.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
        assert notices(volume) == []


def test_nifti_whose_sform_and_qform_differ_says_so(tmp_path: Path) -> None:
    volume = build(nifti(tmp_path / "a.nii", np.diag([-1.0, -1.0, 2.0, 1.0]), np.diag([1.0, -1.0, 2.0, 1.0])))
    assert notices(volume) == ["image-geometry-guessed"]
    assert volume.geometry.spacing_mm == pytest.approx((2.0, 1.0, 1.0))


def test_skewed_nifti_is_refused(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[1, 2] = 0.3
    assert code_of(nifti(tmp_path / "a.nii", affine, None)) == "image-geometry"


def test_nifti_in_metres_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(chest(), np.eye(4))
    image.header.set_xyzt_units("meter")
    nib.save(image, tmp_path / "a.nii")
    assert code_of(tmp_path / "a.nii") == "image-geometry"


def test_oblique_images_are_refused_beyond_5_degrees(tmp_path: Path) -> None:
    for degrees in (4, 7):
        c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
        image = lps_image(chest())
        image.SetDirection((1, 0, 0, 0, c, -s, 0, s, c))
        SimpleITK.WriteImage(image, str(tmp_path / f"{degrees}.nrrd"))
    assert build(tmp_path / "4.nrrd").hu.shape == (7, 6, 5)
    assert code_of(tmp_path / "7.nrrd") == "not-axial"


HEADER = "ObjectType = Image\nNDims = 3\nDimSize = 5 6 7\nElementType = MET_SHORT\n"


def test_headers_that_leave_out_geometry(tmp_path: Path) -> None:
    """No spacing: refused. No orientation: read as LPS, and said."""
    (tmp_path / "a.mha").write_bytes((HEADER + "ElementDataFile = LOCAL\n").encode() + chest().tobytes())
    assert code_of(tmp_path / "a.mha") == "image-geometry"
    text = HEADER + "ElementSpacing = 1 1 2\nElementDataFile = LOCAL\n"
    (tmp_path / "b.mha").write_bytes(text.encode() + chest().tobytes())
    assert notices(build(tmp_path / "b.mha")) == ["image-geometry-guessed"]
    nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 7\nspacings: 1 1 2\nencoding: raw\nendian: little\n\n"
    (tmp_path / "c.nrrd").write_bytes(nrrd.encode() + chest().tobytes())
    assert notices(build(tmp_path / "c.nrrd")) == ["image-geometry-guessed"]
    (tmp_path / "d.nrrd").write_bytes(nrrd.replace("spacings: 1 1 2\n", "").encode() + chest().tobytes())
    assert code_of(tmp_path / "d.nrrd") == "image-geometry"


@pytest.mark.parametrize(
    "target", ["../secret.raw", "/etc/hostname", "LIST", "a%03d.raw 1 7 1", "sub\\x.raw", "gone.raw"]
)
def test_headers_that_point_elsewhere(tmp_path: Path, target: str) -> None:
    """The data lie in the header's own folder or nowhere."""
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.raw").write_bytes(chest().tobytes())
    text = HEADER + "ElementSpacing = 1 1 2\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    (tmp_path / "in" / "a.mhd").write_text(f"{text}ElementDataFile = {target}\n")
    assert code_of(tmp_path / "in") == "image-reference"
    (tmp_path / "in" / "a.mhd").unlink()
    nrrd = "NRRD0004\ntype: short\ndimension: 3\nsizes: 5 6 7\nspacings: 1 1 2\nencoding: raw\nendian: little\n"
    (tmp_path / "in" / "b.nrrd").write_text(f"{nrrd}data file: {target}\n")
    assert code_of(tmp_path / "in") == "image-reference"


# -- damage ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("ending", ENDINGS)
def test_rubbish_is_refused(tmp_path: Path, ending: str) -> None:
    (tmp_path / f"a{ending}").write_bytes(b"this is no image at all" * 30)
    assert code_of(tmp_path) in ("image-damaged", "image-geometry")


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_truncated_files_are_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a{ending}"
    noise = np.random.default_rng(0).integers(-1000, 1000, (20, 20, 20)).astype(np.int16)
    SimpleITK.WriteImage(lps_image(noise), str(path))
    path.write_bytes(path.read_bytes()[:-3000])
    assert code_of(path) == "image-damaged"


def test_a_gzip_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(b"short"))
    assert code_of(tmp_path / "a.nii.gz") == "image-damaged"


def test_a_series_without_its_file_is_refused() -> None:
    series = Series("image", "x", Patient(), Exam("x"), Acquisition())
    with pytest.raises(LungscreenError, match="image-damaged"):
        build_volume(series)


def test_an_image_that_vanishes(tmp_path: Path) -> None:
    SimpleITK.WriteImage(lps_image(chest()), str(tmp_path / "a.mha"))
    series = find_series([tmp_path]).studies[0].series[0]
    (tmp_path / "a.mha").unlink()
    with pytest.raises(LungscreenError, match="file-unreadable"):
        build_volume(series)

"""NIfTI, NRRD, MHA, MHD → Volume: the same voxels at the same millimetres as DICOM, or a refusal."""

from __future__ import annotations

import gzip
import os
import zipfile
import zlib
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
    if sform is not None:
        image.header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
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


def test_nifti_whose_sform_and_qform_lie_a_little_apart_says_so(tmp_path: Path) -> None:
    other = np.diag([-1.0, -1.0, 2.0, 1.0])
    other[2, 3] = 3.0
    volume = build(nifti(tmp_path / "a.nii", np.diag([-1.0, -1.0, 2.0, 1.0]), other))
    assert notices(volume) == ["image-geometry-guessed"]
    assert volume.geometry.origin_mm[2] == 0.0


@pytest.mark.parametrize(
    ("sform", "qform", "pixdim"),
    [
        ((-1, -1, 2), (1, -1, 2), None),
        ((-1, -1, 2), (1, 1, 2), None),
        ((-1, -1, 2), (-1, -1, 2.5), None),
        ((-1, -1, 2), None, (1, 1, 2.5)),
        ((-1, -1, 2), None, (1, 1, 1)),
        ((-0.7, -0.7, 1), (-0.7, -0.72, 1), None),
    ],
    ids=["left and right", "turned about", "scale", "pixdim", "pixdim never set", "scale in the plane"],
)
def test_nifti_that_contradicts_itself_is_refused(
    tmp_path: Path,
    sform: tuple[float, ...],
    qform: tuple[float, ...] | None,
    pixdim: tuple[float, ...] | None,
) -> None:
    image = nib.Nifti1Image(chest(), None)
    image.header["pixdim"][1:4] = np.abs(sform) if pixdim is None else pixdim
    if qform is not None:
        image.header.set_qform(np.diag([*qform, 1.0]), 1)
    image.header.set_sform(np.diag([*sform, 1.0]), 1)
    nib.save(image, tmp_path / "a.nii")
    assert code_of(tmp_path / "a.nii") == "image-geometry"


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


def noise(shape: tuple[int, int, int] = (20, 18, 16)) -> NDArray[np.int16]:
    return np.random.default_rng(0).integers(-1000, 1000, shape).astype(np.int16)


PACKED = (".nii.gz", ".nrrd", ".mha")


@pytest.mark.parametrize("ending", PACKED)
def test_no_flipped_bit_of_packed_voxels_goes_unseen(tmp_path: Path, ending: str) -> None:
    """Each of forty flips, the checksum's own included, is refused; none leaves another picture."""
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(lps_image(noise()), str(path), True)
    whole = path.read_bytes()
    chance = np.random.default_rng(1)
    for place in [len(whole) - 1, len(whole) - 6, *chance.integers(500, len(whole) - 8, 38)]:
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(chance.integers(8))
        path.write_bytes(flipped)
        assert code_of(path) == "image-damaged", place


@pytest.mark.parametrize("ending", PACKED)
@pytest.mark.parametrize("cut", [1, 4, 8, 9, 1000])
def test_packed_voxels_that_break_off(tmp_path: Path, ending: str, cut: int) -> None:
    """Where the checksum is cut, too."""
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(lps_image(noise()), str(path), True)
    path.write_bytes(path.read_bytes()[:-cut])
    assert code_of(path) == "image-damaged"


def test_an_image_without_the_size_of_its_packed_voxels(tmp_path: Path) -> None:
    """CompressedDataSize may be left out; what was read before must not show through."""
    for name, hu in (("a", noise()), ("b", noise()[::-1])):
        SimpleITK.WriteImage(lps_image(np.ascontiguousarray(hu)), str(tmp_path / f"{name}.mha"), True)
        data = (tmp_path / f"{name}.mha").read_bytes()
        line = next(line for line in data.split(b"\n") if line.startswith(b"CompressedDataSize"))
        (tmp_path / f"{name}.mha").write_bytes(data.replace(line + b"\n", b""))
        assert np.array_equal(build(tmp_path / f"{name}.mha").hu, hu)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_more_voxels_than_the_header_says(tmp_path: Path, ending: str) -> None:
    """A header that lost a slice describes another volume."""
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(lps_image(noise()), str(path), ending != ".nii")
    if ending in (".nii", ".nii.gz"):
        data = bytearray(gzip.decompress(path.read_bytes()) if ending == ".nii.gz" else path.read_bytes())
        data[46:48] = (19).to_bytes(2, "little")
        path.write_bytes(gzip.compress(data) if ending == ".nii.gz" else data)
    else:
        path.write_bytes(path.read_bytes().replace(b"16 18 20", b"16 18 19"))
    assert code_of(path) == "image-damaged"


def test_a_gzip_file_in_several_members(tmp_path: Path) -> None:
    """As parallel packers write it; what pads the last block is no damage."""
    SimpleITK.WriteImage(lps_image(noise()), str(tmp_path / "a.nii"))
    data = (tmp_path / "a.nii").read_bytes()
    packed = gzip.compress(data[:5000]) + gzip.compress(data[5000:]) + b"\0" * 300
    (tmp_path / "b.nii.gz").write_bytes(packed)
    assert np.array_equal(build(tmp_path / "b.nii.gz").hu, noise())


def test_small_files_that_unpack_to_gigabytes(tmp_path: Path) -> None:
    """Refused by their sizes, before anything is unpacked."""
    zeros = zlib.compress(bytes(1 << 20))
    text = "ObjectType = Image\nNDims = 3\nDimSize = 1000 1000 400\nElementType = MET_DOUBLE\nElementSpacing = 1 1 1\n"
    text += "TransformMatrix = 1 0 0 0 1 0 0 0 1\nCompressedData = True\nElementDataFile = LOCAL\n"
    (tmp_path / "a.mha").write_bytes(text.encode() + zeros)
    assert code_of(tmp_path / "a.mha") == "file-too-large"
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float64)
    header.set_data_shape((1000, 1000, 400))
    header.set_sform(np.eye(4), 1)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1 << 20)))
    assert code_of(tmp_path / "b.nii.gz") == "file-too-large"


# -- headers -----------------------------------------------------------------------------------------------------------
def mhd(folder: Path, **changes: str | None) -> Path:
    """A header beside `scan 1.raw`; with keys changed, or left out where None."""
    fields: dict[str, str | None] = {
        "ObjectType": "Image", "NDims": "3", "DimSize": "16 18 20", "ElementType": "MET_SHORT",
        "ElementSpacing": "0.7 0.8 2.5", "TransformMatrix": "1 0 0 0 1 0 0 0 1", "Offset": "1 2 3",
        "ElementDataFile": "scan 1.raw",
    }  # fmt: skip
    fields |= changes
    fields["ElementDataFile"] = fields.pop("ElementDataFile")
    folder.mkdir(exist_ok=True)
    (folder / "scan 1.raw").write_bytes(noise().tobytes())
    (folder / "a.mhd").write_text("".join(f"{key} = {value}\n" for key, value in fields.items() if value is not None))
    return folder / "a.mhd"


@pytest.mark.parametrize("name", ["scan 1.raw", "./scan 1.raw"])
def test_a_data_file_with_a_blank_in_its_name(tmp_path: Path, name: str) -> None:
    volume = build(mhd(tmp_path / "in", ElementDataFile=name))
    assert np.array_equal(volume.hu, noise())
    assert volume.geometry.origin_mm == (1.0, 2.0, 3.0)


@pytest.mark.parametrize(
    "line",
    ["ElementDataFile: {}", "  ElementDataFile = {}", "\tElementDataFile\t=\t{}", "ElementDataFile =\t {} "],
)
def test_however_a_header_is_written_its_data_lie_beside_it(tmp_path: Path, line: str) -> None:
    """The library takes a colon for the sign, and blanks anywhere: so must whoever looks where the header leads."""
    (tmp_path / "secret.raw").write_bytes(noise()[::-1].tobytes())
    path = mhd(tmp_path / "in", ElementDataFile=None)
    text = path.read_text()
    path.write_text(text + line.format("scan 1.raw") + "\n")
    assert np.array_equal(build(path).hu, noise())
    path.write_text(text + line.format(tmp_path / "secret.raw") + "\n")
    assert code_of(path) == "image-reference"


def test_a_long_header_hides_nothing(tmp_path: Path) -> None:
    """More than 64 KiB of comment before the line that matters; above a mebibyte it is no header."""
    (tmp_path / "secret.raw").write_bytes(noise().tobytes())
    path = mhd(tmp_path / "in")
    for comment, code in ((100_000, "image-reference"), (1 << 20, "image-damaged")):
        target = tmp_path / "secret.raw"
        path.write_text(f"Comment = {'x' * comment}\n" + mhd(tmp_path / "in", ElementDataFile=str(target)).read_text())
        assert code_of(path) == code


def test_a_data_file_that_is_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "secret.raw").write_bytes(noise().tobytes())
    path = mhd(tmp_path / "in", ElementDataFile="b.raw")
    (path.parent / "b.raw").symlink_to(tmp_path / "secret.raw")
    assert code_of(path) == "image-reference"
    (path.parent / "b.raw").unlink()
    os.mkfifo(path.parent / "b.raw")
    assert code_of(path) == "image-reference"
    (path.parent / "b.raw").unlink()
    (path.parent / "b.raw").symlink_to("scan 1.raw")
    assert np.array_equal(build(path).hu, noise())


@pytest.mark.parametrize("target", ["gone.raw", "../secret.raw", "/tmp/secret.raw"])
def test_headers_in_archives_point_beside_themselves(tmp_path: Path, target: str) -> None:
    path = mhd(tmp_path / "in", ElementDataFile=target)
    (tmp_path / "secret.raw").write_bytes(noise().tobytes())
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "sub/a.mhd")
        archive.write(tmp_path / "secret.raw", "secret.raw")
    assert code_of(tmp_path / "a.zip") == "image-reference"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"AnatomicalOrientation": "LAI"}, "image-geometry"),
        ({"DistanceUnits": "cm"}, "image-geometry"),
        ({"ElementSpacing": "0.7 0 2.5"}, "image-geometry"),
        ({"TransformMatrix": "1 0 0 0 1 0 0 0 0"}, "image-geometry"),
        ({"Position": "9 9 9"}, "image-damaged"),
        ({"ElementSpacing": "0.7 0.8"}, "image-damaged"),
        ({"ElementSpacing": "0.7 0.8 nan"}, "image-damaged"),
        ({"BinaryData": "False"}, "image-damaged"),
        ({"ElementType": "MET_OTHER"}, "image-damaged"),
        ({"HeaderSize": "100"}, "image-damaged"),
        ({"ElementNumberOfChannels": "3"}, "image-dimensions"),
        ({"ElementToIntensityFunctionOffset": "-1024"}, "image-not-hu"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value,
)
def test_metaimage_headers_that_contradict_themselves(tmp_path: Path, changes: dict[str, str], code: str) -> None:
    assert code_of(mhd(tmp_path, **changes)) == code


def test_an_orientation_that_writers_put_by_default_is_said(tmp_path: Path) -> None:
    """RAI beside another matrix: the matrix counts."""
    volume = build(mhd(tmp_path, TransformMatrix="-1 0 0 0 -1 0 0 0 1", AnatomicalOrientation="RAI"))
    assert notices(volume) == ["image-geometry-guessed"]
    assert np.array_equal(volume.hu, noise()[:, ::-1, ::-1])


def test_bytes_before_the_voxels(tmp_path: Path) -> None:
    """A data file with a header of its own: of known size, or whatever comes before the last bytes."""
    for size in ("7", "-1"):
        path = mhd(tmp_path, HeaderSize=size, ElementDataFile="b.raw")
        (tmp_path / "b.raw").write_bytes(b"1234567" + noise().tobytes())
        assert np.array_equal(build(path).hu, noise())


def test_voxels_whose_first_byte_is_the_high_one(tmp_path: Path) -> None:
    path = mhd(tmp_path, BinaryDataByteOrderMSB="True")
    (tmp_path / "scan 1.raw").write_bytes(noise().astype(">i2").tobytes())
    assert np.array_equal(build(path).hu, noise())


NRRD = (
    "NRRD0004\n# a comment\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 16 18 20\n"
    "space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\nkinds: domain domain domain\nkey:=value\nendian: little\n"
    "encoding: raw\nspace origin: (1,2,3)\n"
)


def nrrd(folder: Path, old: str = "", new: str = "", voxels: bytes | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    assert old in NRRD
    header = NRRD.replace(old, new) if old else NRRD
    (folder / "a.nrrd").write_bytes(header.encode() + b"\n" + (noise().tobytes() if voxels is None else voxels))
    return folder / "a.nrrd"


@pytest.mark.parametrize(
    ("space", "flips"),
    [("left-posterior-superior", ()), ("LPS", ()), ("right-anterior-superior", (1, 2)), ("LAS", (1,))],
)
def test_spaces_that_name_the_patient(tmp_path: Path, space: str, flips: tuple[int, ...]) -> None:
    """As SimpleITK reads them."""
    path = nrrd(tmp_path, "left-posterior-superior", space)
    volume = build(path)
    assert np.array_equal(volume.hu, np.flip(noise(), flips))
    other = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    assert volume.geometry.origin_mm == pytest.approx(other.GetOrigin())


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("space: left-posterior-superior", "space dimension: 3", "image-geometry"),
        ("left-posterior-superior", "3D-right-handed", "image-geometry"),
        ("left-posterior-superior", "scanner-xyz", "image-geometry"),
        ("kinds:", 'space units: "cm" "cm" "cm"\nkinds:', "image-geometry"),
        ("kinds:", "spacings: 0.7 0.8 5\nkinds:", "image-geometry"),
        ("(0,0.8,0)", "(0,0.8,0.5)", "image-geometry"),
        ("(0,0.8,0) (0,0,2.5)", "(0,0.8,0)", "image-damaged"),
        ("endian: little\n", "", "image-damaged"),
        ("encoding: raw", "encoding: bzip2", "image-damaged"),
        ("encoding: raw", "encoding: gzip", "image-damaged"),
        ("sizes: 16 18 20", "sizes: 16 18 21", "image-damaged"),
        ("type: short", "type: block", "image-damaged"),
        ("kinds:", "sizes: 18 16 20\nkinds:", "image-damaged"),
    ],
)
def test_nrrd_headers_that_say_too_little_or_two_things(tmp_path: Path, old: str, new: str, code: str) -> None:
    assert code_of(nrrd(tmp_path, old, new)) == code


def test_nrrd_voxels_as_text(tmp_path: Path) -> None:
    text = "\n".join(" ".join(str(value) for value in row) for row in noise().reshape(-1, 16))
    path = nrrd(tmp_path, "encoding: raw", "encoding: ascii", text.encode() + b"\n")
    assert np.array_equal(build(path).hu, noise())
    path = nrrd(tmp_path, "encoding: raw", "encoding: ascii", text[:-40].encode())
    assert code_of(path) == "image-damaged"
    path = nrrd(tmp_path, "encoding: raw", "encoding: ascii", text.encode() + b" 1" * 600)
    assert code_of(path) == "image-damaged"


@pytest.mark.parametrize("word", ["40000", "12.5", "nan", "1e400", "1_0", "1" * 40, "x", "0x10", "1" * 3_000_000])
def test_a_voxel_as_text_that_its_type_does_not_hold_is_damage(tmp_path: Path, word: str) -> None:
    """Neither cut, nor rounded, nor taken for another number; the others are read to the last one."""
    words = [str(value) for value in noise().ravel()]
    words[700] = word
    path = nrrd(tmp_path, "encoding: raw", "encoding: ascii", " ".join(words).encode())
    assert code_of(path) == "image-damaged"
    words[700] = "-1024.0"
    path = nrrd(tmp_path, "encoding: raw", "encoding: ascii", " ".join(words).encode())
    assert build(path).hu.size == len(words)


def test_text_takes_no_memory_for_a_whole_slab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slab may have a billion voxels by its header; words are taken a few at a time."""
    monkeypatch.setattr("lungscreen.volume.formats.voxels.TEXT_VOXELS", 7)
    monkeypatch.setattr("lungscreen.volume.formats.voxels.CHUNK_BYTES", 5)
    text = " ".join(str(value) for value in noise().ravel())
    assert np.array_equal(build(nrrd(tmp_path, "encoding: raw", "encoding: ascii", text.encode())).hu, noise())


def test_a_mirrored_piece_is_read_as_it_stands_where_any_size_is_read(tmp_path: Path) -> None:
    """Cubes mirrored outwards repeat their slices: as a chest that is damage, as a piece it is said."""
    noise = np.random.default_rng(3).normal(0, 20, (24, 40, 40))
    piece = np.pad((np.where(np.indices((24, 40, 40))[2] < 14, 30, -850) + noise).astype(np.int16), 12, "reflect")
    path = tmp_path / "cube.mha"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(piece), str(path))
    volume = build(path)
    assert np.array_equal(np.sort(volume.hu.ravel()), np.sort(np.maximum(piece, -1024).ravel()))
    assert "slices-odd" in {notice.code for notice in volume.notices}
    assert code_of(path, VolumeConfig(min_slices=20, min_extent_mm=20.0)) in ("image-damaged", "slice-gap")

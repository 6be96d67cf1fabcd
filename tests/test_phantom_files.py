"""The phantom's files: DICOM that others read, truth beside it, the command that writes both."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from lungscreen.cli.main import main
from lungscreen.errors import OutputError
from lungscreen.phantom import NoduleSpec, make_phantom, sized, write_dicom, write_truth
from lungscreen.phantom.dicom import patient_id, patient_name, phantom_uid
from lungscreen.records import NoduleType

SPEC = NoduleSpec(16.0, NoduleType.CALCIFIED, "sphere", centre_mm=(-88.0, 30.0, 30.0))
TRUTH_SCHEMA = {
    "type": "object",
    "required": [
        "schema_version",
        "synthetic",
        "patient_id",
        "study_uid",
        "series_uid",
        "geometry",
        "lungs",
        "nodules",
    ],
    "properties": {
        "schema_version": {"const": 1},
        "synthetic": {"const": True},
        "series_uid": {"type": "string", "pattern": r"^2\.25\.[1-9][0-9]*$"},
        "geometry": {"required": ["affine_kji_to_lps_mm", "shape_zyx"]},
        "lungs": {"required": ["right_ml", "left_ml", "apex_cut", "base_cut"]},
        "nodules": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["number", "centre_mm", "diameter_mm", "volume_mm3", "solid_volume_mm3", "type", "side"],
                "properties": {
                    "centre_mm": {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3},
                    "volume_mm3": {"type": "number", "exclusiveMinimum": 0},
                    "type": {"enum": ["solid", "part-solid", "ground-glass", "calcified"]},
                    "side": {"enum": ["right", "left"]},
                },
            },
        },
    },
}


@pytest.fixture(scope="module")
def scan():
    """Non-square pixels' stand-in: a matrix, spacing and origin that differ on every axis."""
    return make_phantom(sized("tiny", rows=70, columns=94, nodules=(SPEC,), seed=11, noise=False))


@pytest.fixture(scope="module")
def folder(scan, tmp_path_factory):
    place = tmp_path_factory.mktemp("dicom") / "series"
    assert len(write_dicom(scan, place)) == scan.geometry.shape[0]
    return place


def read_by_itk(folder: Path):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return reader.Execute()


def test_simpleitk_reads_the_same_voxels_in_the_same_place(scan, folder):
    image = read_by_itk(folder)
    size, spacing, origin, direction = scan.geometry.to_itk()
    assert image.GetSize() == tuple(size)
    assert np.allclose(image.GetSpacing(), spacing, atol=1e-4)
    assert np.allclose(image.GetOrigin(), origin, atol=1e-3)
    assert np.allclose(image.GetDirection(), direction)
    assert np.array_equal(sitk.GetArrayFromImage(image), scan.hu)


def test_nodule_lies_at_its_truth_in_the_written_series(scan, folder):
    image = read_by_itk(folder)
    index = image.TransformPhysicalPointToIndex(scan.nodules[0].centre_mm)
    assert image[index] == pytest.approx(420, abs=25)


def test_first_file_is_the_uppermost_slice(scan, folder):
    first, second = (pydicom.dcmread(folder / name) for name in ("IM0001.dcm", "IM0002.dcm"))
    assert (first.InstanceNumber, second.InstanceNumber) == (1, 2)
    assert first.ImagePositionPatient[2] > second.ImagePositionPatient[2]
    assert np.array_equal(first.pixel_array.astype(int) - 1024, scan.hu[-1])


def test_header_is_synthetic_and_of_a_low_dose_chest_ct(folder):
    header = pydicom.dcmread(folder / "IM0005.dcm")
    assert str(header.PatientName).startswith("PHANTOM^")
    assert header.InstitutionName == "SYNTHETIC DATA"
    assert (header.Modality, header.BodyPartExamined, header.PatientPosition) == ("CT", "CHEST", "HFS")
    assert (header.KVP, header.Exposure) == (120, 32)
    assert 1 < header.CTDIvol < 3
    assert header.SOPClassUID == pydicom.uid.CTImageStorage
    assert header.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert all(uid.is_valid for uid in (header.SOPInstanceUID, header.SeriesInstanceUID, header.FrameOfReferenceUID))


def test_every_slice_has_its_own_uid_and_all_share_series_study_and_frame(folder):
    headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in sorted(folder.iterdir())]
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert len({(h.SeriesInstanceUID, h.StudyInstanceUID, h.FrameOfReferenceUID) for h in headers}) == 1


def test_same_configuration_gives_the_same_files(scan, folder, tmp_path):
    write_dicom(make_phantom(scan.config), tmp_path)
    assert all((tmp_path / p.name).read_bytes() == p.read_bytes() for p in folder.iterdir())


def test_identity_follows_the_seed():
    a, b = sized("tiny", seed=1), sized("tiny", seed=12)
    assert patient_id(a) != patient_id(b)
    assert patient_name(a) == "PHANTOM^ONE"
    assert patient_name(b) == "PHANTOM^ONE TWO"
    assert phantom_uid("a", 1) == phantom_uid("a", 1) != phantom_uid("a", 2)


@pytest.mark.parametrize("syntax", ["implicit", "jpeg-ls"])
def test_other_transfer_syntaxes_hold_the_same_pixels(scan, folder, tmp_path, syntax):
    write_dicom(scan, tmp_path, syntax=syntax)
    for name in ("IM0001.dcm", "IM0030.dcm"):
        other, plain = pydicom.dcmread(tmp_path / name), pydicom.dcmread(folder / name)
        assert other.file_meta.TransferSyntaxUID != plain.file_meta.TransferSyntaxUID
        assert np.array_equal(other.pixel_array, plain.pixel_array)
        assert other.SOPInstanceUID == plain.SOPInstanceUID


def test_unknown_syntax_is_refused(scan, tmp_path):
    with pytest.raises(ValueError, match="unknown syntax"):
        write_dicom(scan, tmp_path, syntax="rle")


@pytest.mark.parametrize("syntax", ["explicit", "jpeg-ls"])
def test_dciodvfy_finds_no_error(scan, tmp_path, syntax):
    if shutil.which("dciodvfy") is None:
        pytest.skip("dciodvfy (Debian's dicom3tools) is not installed: the files were not checked by it")
    write_dicom(scan, tmp_path, syntax=syntax)
    for name in ("IM0001.dcm", "IM0040.dcm"):
        said = subprocess.run(["dciodvfy", tmp_path / name], capture_output=True, text=True, check=False).stderr
        assert "CTImage" in said
        assert "Error" not in said


def test_unwritable_folder_is_refused(scan, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.raises(OutputError, match="output-failed"):
        write_dicom(scan, blocked / "series")
    with pytest.raises(OutputError, match="output-failed"):
        write_truth(scan, blocked / "truth.json")


def test_truth_and_masks_are_beside_and_on_the_same_grid(scan, folder, tmp_path):
    paths = write_truth(scan, tmp_path / "one.json", masks=True)
    assert [p.name for p in paths] == ["one.json", "one_lungs.nii.gz", "one_nodules.nii.gz"]
    truth = json.loads(paths[0].read_text())
    jsonschema.validate(truth, TRUTH_SCHEMA)
    assert truth["series_uid"] == pydicom.dcmread(folder / "IM0001.dcm").SeriesInstanceUID
    image, lungs = read_by_itk(folder), sitk.ReadImage(str(paths[1]))
    assert np.allclose(lungs.GetOrigin(), image.GetOrigin(), atol=1e-3)
    assert np.allclose(lungs.GetSpacing(), image.GetSpacing(), atol=1e-4)
    assert np.array_equal(sitk.GetArrayFromImage(lungs), scan.lungs)
    nodules = sitk.ReadImage(str(paths[2]))
    assert nodules[nodules.TransformPhysicalPointToIndex(scan.nodules[0].centre_mm)] == 1


# -- the command -----------------------------------------------------------------------------------------------------
def test_command_writes_patients_and_says_where(tmp_path, capsys):
    out = tmp_path / "demo"
    assert (
        main(["phantom", "--out", str(out), "--patients", "2", "--size", "tiny", "--seed", "5", "--nodules", "2"]) == 0
    )
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [Path(a).name for a, _ in lines] == ["phantom-0001", "phantom-0002"]
    patients = set()
    for folder, truth_file in lines:
        truth = json.loads(Path(truth_file).read_text())
        jsonschema.validate(truth, TRUTH_SCHEMA)
        assert len(truth["nodules"]) == 2
        headers = [pydicom.dcmread(p, stop_before_pixels=True) for p in Path(folder).iterdir()]
        assert {h.SeriesInstanceUID for h in headers} == {truth["series_uid"]}
        patients.add(truth["patient_id"])
    assert len(patients) == 2
    assert not list(out.rglob("*.json"))


def test_command_refuses_a_folder_in_use_unless_told(tmp_path, capsys):
    words = ["phantom", "--out", str(tmp_path / "a"), "--size", "tiny", "--no-nodules", "--truth", str(tmp_path / "t")]
    assert main(words) == 0
    assert main(words) == 1
    assert "output-failed" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--cut-base"]) == 0
    count = len(list((tmp_path / "a" / "phantom-0001").iterdir()))
    truth = json.loads((tmp_path / "t" / "phantom-0001.json").read_text())
    assert (truth["geometry"]["shape_zyx"][0], truth["nodules"], truth["lungs"]["base_cut"]) == (count, [], True)


@pytest.mark.parametrize(
    "words",
    [["--patients", "0"], ["--slice-thickness", "99"], ["--nodules", "-1"], ["--nodules", "99", "--growth", "0"]],
)
def test_command_refuses_what_cannot_be_made(tmp_path, capsys, words):
    assert main(["phantom", "--out", str(tmp_path / "x"), "--size", "tiny", *words]) == 2
    assert "usage" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_command_passes_thickness_spacing_kernel_and_dose_on(tmp_path):
    words = ["--slice-thickness", "4", "--spacing", "2.5", "--kernel", "sharp", "--dose", "ultra-low", "--cut-base"]
    assert main(["phantom", "--out", str(tmp_path / "x"), "--size", "tiny", "--no-nodules", "--cut-apex", *words]) == 0
    files = sorted((tmp_path / "x" / "phantom-0001").iterdir())
    first, second = (pydicom.dcmread(p) for p in files[:2])
    assert (first.SliceThickness, first.ConvolutionKernel, first.Exposure) == (4, "LUNG", 8)
    assert first.ImagePositionPatient[2] - second.ImagePositionPatient[2] == pytest.approx(2.5)


def test_visits_of_other_years_are_the_same_person_older(tmp_path):
    """So that an exam and an earlier one of the same seed may be compared."""
    people = []
    for date in ("20200101", "20230601"):
        words = ["phantom", "--out", str(tmp_path / date), "--size", "tiny", "--no-nodules", "--date", date]
        assert main(words) == 0
        first = next(path for path in sorted((tmp_path / date).rglob("*")) if path.is_file())
        people.append(pydicom.dcmread(first, stop_before_pixels=True))
    one, other = people
    assert (one.PatientID, one.PatientBirthDate) == (other.PatientID, other.PatientBirthDate)
    assert int(other.PatientAge[:3]) - int(one.PatientAge[:3]) == 3

"""Finding and grouping: what is CT, whose it is, what belongs together, what is said about the rest."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from dicom_factory import (
    CORONAL,
    make_enhanced,
    make_series,
    ramp_hu,
    save,
    set_tags,
    slice_positions,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lungscreen.errors import Refusal
from lungscreen.records import Inventory, Study
from lungscreen.series import SeriesConfig, find_series


def only(inventory: Inventory) -> Study:
    """The one study that was found."""
    assert len(inventory.studies) == 1, inventory.refused
    return inventory.studies[0]


def refusal(inventory: Inventory, code: str) -> Refusal:
    """The one row with this code."""
    rows = [row for row in inventory.refused if row.code == code]
    rows += [row for study in inventory.studies for row in study.not_read if row.code == code]
    assert rows, inventory
    return rows[0]


def notice_codes(study: Study) -> set[str]:
    return {notice.code for notice in study.notices} | {n.code for series in study.series for n in series.notices}


def test_a_series_is_found_with_its_header(tmp_path: Path) -> None:
    """Patient, exam and acquisition come from the header; absent values stay empty."""
    make_series(tmp_path, slices=3, tags={"CTDIvol": 1.25, "ContrastBolusAgent": "IV", "PatientAge": "063Y"})
    inventory = find_series([tmp_path])
    study = only(inventory)
    assert inventory.refused == ()
    assert (study.patient.patient_id, study.patient.name, study.patient.birth_date) == ("P001", "Doe^Jane", "19600102")
    assert (study.exam.date, study.exam.accession_number, study.exam.age) == ("20240506", "A1", "063Y")
    series = study.series[0]
    assert len(series.instances) == 3
    acquisition = series.acquisition
    assert (acquisition.kvp, acquisition.tube_current_ma, acquisition.ctdi_vol_mgy) == (120, 160, 1.25)
    assert acquisition.kernel == ("STANDARD",)
    assert acquisition.slice_thickness_mm == 2.5
    assert acquisition.burned_in == ""
    assert notice_codes(study) == {"contrast", "low-dose", "small-field-of-view"}


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"ConvolutionKernel": "BONE"}, "sharp-kernel"),
        ({"ConvolutionKernel": ["B70f", "2"]}, "sharp-kernel"),
        ({"ConvolutionKernel": ""}, "kernel-unknown"),
        ({"ContrastBolusAgent": "OMNI 350"}, "contrast"),
        ({"LossyImageCompression": "01"}, "lossy"),
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
        ({"MultienergyCTAcquisition": "YES"}, "multi-energy"),
        ({"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]}, "derived"),
        ({"XRayTubeCurrent": "40"}, "low-dose"),
        ({"CTDIvol": 1.9}, "low-dose"),
        ({"XRayTubeCurrent": None}, "dose-unknown"),
        ({"BodyPartExamined": "ABDOMEN"}, "body-part-unclear"),
    ],
)
def test_quality_flags_come_from_one_header_field(tmp_path: Path, tags: dict[str, object], code: str) -> None:
    """Only this field differs; without it the flag is absent."""
    make_series(tmp_path / "plain", slices=2)
    make_series(tmp_path / "flagged", slices=2, tags=tags)
    assert code not in notice_codes(only(find_series([tmp_path / "plain"])))
    assert code in notice_codes(only(find_series([tmp_path / "flagged"])))


def test_what_varies_slice_by_slice_is_summed_up(tmp_path: Path) -> None:
    """Medians of current and thickness; what warns in one slice warns for all."""

    def edit(dataset: Dataset, k: int) -> None:
        dataset.XRayTubeCurrent = (300, 90, 100, 110, 120)[k]
        dataset.BurnedInAnnotation = "YES" if k == 4 else "NO"
        dataset.LossyImageCompression = "01" if k == 4 else "00"

    make_series(tmp_path, slices=5, edit=edit)
    acquisition = only(find_series([tmp_path])).series[0].acquisition
    assert (acquisition.tube_current_ma, acquisition.slice_thickness_mm) == (110, 2.5)
    assert (acquisition.burned_in, acquisition.lossy) == ("YES", True)


def test_a_full_field_of_view_is_not_called_small(tmp_path: Path) -> None:
    """300 mm wide and 200 mm deep are enough; 200 mm wide, or 160 mm deep, are not."""
    hu = np.zeros((2, 60, 60), dtype=np.int16)
    turned = (0, 1, 0, -1, 0, 0)
    make_series(tmp_path / "a", hu[:, :40], spacing_mm=(5.0, 5.0))
    make_series(tmp_path / "b", hu[:, :, :40], spacing_mm=(5.0, 5.0))
    make_series(tmp_path / "c", hu[:, :32], spacing_mm=(5.0, 5.0))
    make_series(tmp_path / "d", hu[:, :, :40], spacing_mm=(5.0, 5.0), orientation=turned)
    small = [name for name in "abcd" if "small-field-of-view" in notice_codes(only(find_series([tmp_path / name])))]
    assert small == ["b", "c"]


# -- what is CT ------------------------------------------------------------------------------------------------------
def test_ct_is_known_by_its_sop_class_not_by_modality_or_image_type(tmp_path: Path) -> None:
    """A CT without ImageType and with a wrong Modality is read; an MR that says CT is not."""
    make_series(tmp_path / "ct", slices=2, tags={"Modality": "OT"}, without=["ImageType"])
    make_series(tmp_path / "mr", slices=2, tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4", "PatientID": "P2"})
    inventory = find_series([tmp_path])
    assert only(inventory).patient.patient_id == "P001"
    row = refusal(inventory, "not-ct")
    assert row.scope == "series"
    assert "MR Image Storage" in row.reason


def test_other_objects_of_a_study_are_recorded_with_it(tmp_path: Path) -> None:
    """A structured report in the CT's study becomes one row of that study."""
    study_uid = generate_uid()
    make_series(tmp_path, slices=2, study_uid=study_uid)
    make_series(
        tmp_path, slices=3, study_uid=study_uid, prefix="sr", tags={"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}
    )
    study = only(find_series([tmp_path]))
    assert [row.code for row in study.not_read] == ["not-ct"]
    assert "3 object(s)" in study.not_read[0].reason


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"RescaleType": "HU_MOD"}, "not-hu"),
        ({"RescaleType": "Z_EFF"}, "not-hu"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "EFF_ATOMIC_NUM"]}, "not-hu"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "ELECTRON_DENSITY"]}, "not-hu"),
        ({"SeriesDescription": "Iodine no water 1.0"}, "not-hu"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"SeriesDescription": "Topogram 0.6"}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MIP"]}, "not-axial-image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "not-axial-image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "OTHER", "CSA MPR", "", "CSAPARALLEL"]}, "not-axial-image"),
        ({"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "AVERAGE"]}, "not-axial-image"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]}, "not-axial-image"),
        ({"SeriesDescription": "Lung MIP 8/2"}, "not-axial-image"),
        ({"SeriesDescription": "Vessel-suppressed"}, "altered-image"),
        ({"SeriesDescription": "Chest CAD marks"}, "altered-image"),
        ({"BodyPartExamined": "HEAD", "StudyDescription": "CT head", "SeriesDescription": "ax"}, "body-part"),
        ({"BodyPartExamined": "KNEE", "StudyDescription": "", "SeriesDescription": ""}, "body-part"),
        ({"SliceThickness": "7.5"}, "too-thick"),
    ],
)
def test_series_that_are_not_read(tmp_path: Path, tags: dict[str, object], code: str) -> None:
    """Each is refused with its code, as a series and as a study in which nothing else is left."""
    make_series(tmp_path, slices=4, tags=tags)
    inventory = find_series([tmp_path])
    assert inventory.studies == ()
    assert [(row.scope, row.code) for row in inventory.refused] == [("study", code), ("series", code)]


@pytest.mark.parametrize(
    "tags",
    [
        {"RescaleType": "HU"},
        {"RescaleType": "Hounsfield Unit"},
        {"RescaleType": "H.U."},
        {"RescaleType": "US"},
        {"RescaleType": ""},
        {"ImageType": ["DERIVED", "SECONDARY", "AXIAL"]},
        {"ImageType": ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]},
        {"ImageType": ["DERIVED", "PRIMARY", "AXIAL", "VMI"], "MultienergyCTAcquisition": "YES"},
        {"BodyPartExamined": "HEAD", "StudyDescription": "CT Thorax"},
        {"BodyPartExamined": ""},
        {"SeriesDescription": "MIPPER"},
        {"SeriesDescription": "Chest with iodine contrast"},
    ],
)
def test_series_that_are_read_all_the_same(tmp_path: Path, tags: dict[str, object]) -> None:
    """Near misses of the rules."""
    make_series(tmp_path, slices=4, tags=tags)
    assert only(find_series([tmp_path])).series


def test_coronal_slices_are_refused_tilted_ones_are_not(tmp_path: Path) -> None:
    """The stack's direction counts: a tilted gantry moves along the patient, a coronal stack does not."""
    make_series(tmp_path / "coronal", slices=6, orientation=CORONAL)
    assert find_series([tmp_path / "coronal"]).refused[0].code == "not-axial"
    angle = np.radians(18)
    tilted = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    straight = np.array([[0.0, 0.0, 2.0 * k] for k in range(6)])
    make_series(tmp_path / "tilted", slices=6, orientation=tilted, positions_mm=straight)
    assert only(find_series([tmp_path / "tilted"])).series
    make_series(tmp_path / "oblique", slices=6, orientation=tilted)
    assert find_series([tmp_path / "oblique"]).refused[0].code == "not-axial"


def test_slices_turned_in_their_plane_are_refused(tmp_path: Path) -> None:
    """By 20 degrees: neither axis would be the patient's. By 90 degrees: rows and columns change places, that is
    fine.
    """
    for degrees, fine in ((20, False), (90, True), (4, True)):
        angle = np.radians(degrees)
        turned = (np.cos(angle), np.sin(angle), 0.0, -np.sin(angle), np.cos(angle), 0.0)
        make_series(tmp_path / str(degrees), slices=4, orientation=turned)
        assert bool(find_series([tmp_path / str(degrees)]).studies) is fine


# -- grouping --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "edit",
    [
        lambda dataset, k: setattr(dataset, "AcquisitionNumber", k),
        lambda dataset, k: setattr(dataset, "XRayTubeCurrent", 100 + k),
        lambda dataset, k: setattr(dataset, "Exposure", 20 + k),
        lambda dataset, k: setattr(dataset, "AcquisitionTime", f"1015{k:02d}.1"),
        lambda dataset, k: setattr(dataset, "PixelSpacing", [0.8 + 1e-5 * k, 0.7]),
        lambda dataset, k: setattr(dataset, "ImageOrientationPatient", [1, 1e-5 * k, 0, -1e-5 * k, 1, 0]),
        lambda dataset, k: setattr(dataset, "RescaleIntercept", -1024 + k),
    ],
    ids=["acquisition", "current", "exposure", "time", "spacing", "orientation", "intercept"],
)
def test_what_varies_slice_by_slice_does_not_split_a_series(tmp_path: Path, edit: object) -> None:
    """Acquisition number, current, exposure, time; noise in the last digits of floats."""
    make_series(tmp_path, slices=8, edit=edit)  # type: ignore[arg-type]
    study = only(find_series([tmp_path]))
    assert len(study.series) == 1
    assert len(study.series[0].instances) == 8


@pytest.mark.parametrize(
    "tags",
    [
        {"ConvolutionKernel": ["B70f", "1"]},
        {"FrameOfReferenceUID": "1.2.3.4"},
        {"PixelSpacing": [0.9, 0.7]},
        {"ImageOrientationPatient": [0, 1, 0, -1, 0, 0]},
    ],
    ids=["kernel", "frame of reference", "spacing", "orientation"],
)
def test_reconstructions_under_one_uid_are_split(tmp_path: Path, tags: dict[str, object]) -> None:
    """The larger part is read, the other stands in, and it is said."""
    study_uid, series_uid = generate_uid(), generate_uid()

    def edit(dataset: Dataset, k: int) -> None:
        dataset.FrameOfReferenceUID = "1.2.3"
        if k >= 8:
            set_tags(dataset, tags)

    make_series(tmp_path, slices=12, study_uid=study_uid, series_uid=series_uid, edit=edit)
    study = only(find_series([tmp_path]))
    assert [len(series.instances) for series in study.series] == [8, 4]
    assert "series-split" in notice_codes(study)
    assert [row.code for row in study.not_read] == ["series-other-chosen"]


def test_a_localizer_in_the_series_is_recorded_not_read(tmp_path: Path) -> None:
    """The scout shares the series UID; it must not be a slice."""
    uids = {"study_uid": generate_uid(), "series_uid": generate_uid()}
    make_series(tmp_path, slices=6, tags={"FrameOfReferenceUID": "1.2.3"}, **uids)
    scout = {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "FrameOfReferenceUID": "1.2.3"}
    make_series(tmp_path, slices=1, prefix="scout", tags=scout, **uids)
    study = only(find_series([tmp_path]))
    assert [len(series.instances) for series in study.series] == [6]
    assert [row.code for row in study.not_read] == ["localizer"]


def test_kernel_and_frame_of_reference_may_be_absent(tmp_path: Path) -> None:
    make_series(tmp_path, slices=3, without=["ConvolutionKernel", "FrameOfReferenceUID", "AcquisitionNumber"])
    series = only(find_series([tmp_path])).series[0]
    assert series.frame_of_reference == ""
    assert series.acquisition.kernel == ()


# -- whose it is -----------------------------------------------------------------------------------------------------
def test_two_names_under_one_id_are_two_studies_that_say_so(tmp_path: Path) -> None:
    """Both are read, apart, each with the warning."""
    make_series(tmp_path / "a", slices=2)
    make_series(tmp_path / "b", slices=2, tags={"PatientName": "Roe^Richard"})
    inventory = find_series([tmp_path])
    assert sorted(study.patient.name for study in inventory.studies) == ["Doe^Jane", "Roe^Richard"]
    assert all("two-names-one-id" in notice_codes(study) for study in inventory.studies)


def test_one_name_written_in_two_ways_is_one_name(tmp_path: Path) -> None:
    """Case, carets and blanks do not make another patient, not even within one series."""
    make_series(tmp_path, slices=4, edit=lambda d, k: setattr(d, "PatientName", "DOE^JANE^^" if k % 2 else "Doe^Jane"))
    assert "two-names-one-id" not in notice_codes(only(find_series([tmp_path])))


def test_one_series_uid_in_two_patients_is_refused(tmp_path: Path) -> None:
    series_uid = generate_uid()
    make_series(tmp_path / "a", slices=2, series_uid=series_uid)
    make_series(tmp_path / "b", slices=2, series_uid=series_uid, tags={"PatientID": "P002"})
    inventory = find_series([tmp_path])
    assert inventory.studies == ()
    assert {row.code for row in inventory.refused} == {"series-two-patients"}
    assert {row.patient_id for row in inventory.refused} == {"P001", "P002"}


def test_one_series_uid_in_two_studies_of_a_patient(tmp_path: Path) -> None:
    """Kept apart by study, also where one part cannot be used."""
    series_uid = generate_uid()
    make_series(tmp_path / "a", slices=4, series_uid=series_uid)
    make_series(tmp_path / "b", slices=3, series_uid=series_uid, without=["RescaleSlope"])
    make_series(tmp_path / "c", slices=2, series_uid=series_uid, without=["PixelSpacing"])
    inventory = find_series([tmp_path])
    assert len(only(inventory).series[0].instances) == 4
    assert {row.code for row in inventory.refused} == {"rescale-missing", "spacing-invalid"}
    assert len({row.study_uid for row in inventory.refused}) == 2


# -- copies ----------------------------------------------------------------------------------------------------------
def test_the_same_files_twice_are_read_once_and_noted(tmp_path: Path) -> None:
    """A folder and its copy."""
    make_series(tmp_path / "a", slices=4)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    study = only(find_series([tmp_path / "a", tmp_path / "b"]))
    assert len(study.series[0].instances) == 4
    assert "duplicate-files" in notice_codes(study)


def test_one_folder_named_twice_is_no_copy(tmp_path: Path) -> None:
    """The same file on disk is the same file."""
    make_series(tmp_path / "a", slices=4)
    study = only(find_series([tmp_path / "a", tmp_path, tmp_path / "a" / "slice0000.dcm"]))
    assert len(study.series[0].instances) == 4
    assert "duplicate-files" not in notice_codes(study)


def test_copies_that_differ_are_left_for_the_pixels_to_decide(tmp_path: Path) -> None:
    """One SOP Instance UID, another header: both stay in the series; building the volume compares the pixels."""
    paths = make_series(tmp_path, slices=4)
    other = dcmread(paths[1])
    other.AccessionNumber = "B2"
    save(other, tmp_path / "copy.dcm")
    assert len(only(find_series([tmp_path])).series[0].instances) == 5


# -- unusable objects ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("tags", "without", "code"),
    [
        ({}, ["ImagePositionPatient"], "position-invalid"),
        ({"ImagePositionPatient": [1, 2]}, [], "position-invalid"),
        ({"ImagePositionPatient": ["1", "NaN", "2"]}, [], "position-invalid"),
        ({"ImagePositionPatient": ["1,5", "2", "3"]}, [], "position-invalid"),
        ({}, ["ImageOrientationPatient"], "position-invalid"),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 1]}, [], "position-invalid"),
        ({}, ["PixelSpacing"], "spacing-invalid"),
        ({"PixelSpacing": ["0,7", "0,7"]}, [], "spacing-invalid"),
        ({"PixelSpacing": [0.7, 0]}, [], "spacing-invalid"),
        ({"PixelSpacing": [7000, 7000]}, [], "spacing-invalid"),
        ({}, ["RescaleSlope"], "rescale-missing"),
        ({}, ["RescaleIntercept"], "rescale-missing"),
        ({"RescaleIntercept": ""}, [], "rescale-missing"),
        ({"RescaleSlope": 0}, [], "rescale-invalid"),
        ({"RescaleSlope": "1,0"}, [], "rescale-invalid"),
        ({}, ["Rows"], "header-incomplete"),
        ({"Rows": 65535, "Columns": 65535}, [], "size-absurd"),
        ({"NumberOfFrames": 2_000_000_000}, [], "size-absurd"),
        ({"NumberOfFrames": 9000, "Rows": 4000, "Columns": 4000}, [], "size-absurd"),
        ({"NumberOfFrames": 2}, [], "frames-invalid"),
        ({"BitsAllocated": 32}, [], "pixels-unsupported"),
        ({"SamplesPerPixel": 3}, [], "pixels-unsupported"),
    ],
)
def test_malformed_headers(tmp_path: Path, tags: dict[str, object], without: list[str], code: str) -> None:
    """One such slice is left out and recorded, the rest is read; a whole series of them is refused with the code."""

    def spoil(dataset: Dataset, k: int) -> None:
        if k == 3 or spoil_all:
            for keyword in without:
                delattr(dataset, keyword)
            set_tags(dataset, tags)

    spoil_all = False
    implicit = "1.2.840.10008.1.2"  # there the reader knows the VR, whatever was written
    make_series(tmp_path / "one", slices=8, edit=spoil, syntax=implicit)
    study = only(find_series([tmp_path / "one"]))
    assert len(study.series[0].instances) == 7
    assert [(row.scope, row.code) for row in study.not_read] == [("file", code)]
    assert "file-left-out" in notice_codes(study)
    spoil_all = True
    make_series(tmp_path / "all", slices=8, edit=spoil, syntax=implicit)
    inventory = find_series([tmp_path / "all"])
    assert inventory.studies == ()
    assert [(row.scope, row.code) for row in inventory.refused] == [("study", code), ("series", code)]
    assert "8 images" in inventory.refused[1].reason


@pytest.mark.parametrize("keyword", ["SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"])
@pytest.mark.parametrize("value", ["", "=cmd()", "<script>", "../../etc"])
def test_uids_that_are_none(tmp_path: Path, keyword: str, value: str) -> None:
    """UIDs become keys and columns: what is no UID is not taken for one."""
    paths = make_series(tmp_path, slices=2)
    dataset = dcmread(paths[0])
    set_tags(dataset, {keyword: value})
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.save_as(paths[0])
    inventory = find_series([tmp_path])
    assert refusal(inventory, "header-incomplete").scope == "file"
    assert len(only(inventory).series[0].instances) == 1


def test_many_bad_files_make_one_row(tmp_path: Path) -> None:
    """A thousand rows would hide the others: the count and the first names stand for them."""
    make_series(tmp_path, slices=30, edit=lambda d, k: delattr(d, "RescaleSlope") if k < 15 else None)
    study = only(find_series([tmp_path]))
    assert [row.code for row in study.not_read] == ["rescale-missing"]
    assert "15 files" in study.not_read[0].reason


# -- hostile text ----------------------------------------------------------------------------------------------------
def test_header_strings_are_bounded_and_printable(tmp_path: Path) -> None:
    """64 kB names, control characters, escape sequences: cut to 64 printable characters; escaping is the writer's."""
    hostile = {
        "PatientName": "A" * 65000,
        "PatientID": "ID\x1b[31m\r\n\x00=cmd()",
        "SeriesDescription": "<script>alert(1)</script>\x07",
        "Manufacturer": "M" * 10000,
        "AccessionNumber": "@SUM(1)\n",
    }
    make_series(tmp_path, slices=2, tags=hostile)
    study = only(find_series([tmp_path]))
    series = study.series[0]
    texts = [study.patient.name, study.patient.patient_id, series.acquisition.series_description]
    texts += [series.acquisition.manufacturer, study.exam.accession_number]
    assert all(len(text) <= 64 and text.isprintable() for text in texts)
    assert series.acquisition.series_description == "<script>alert(1)</script>"


@pytest.mark.parametrize("charset", ["ISO_IR 192", "NONSENSE", ["", "ISO 2022 IR 87"], None])
def test_a_wrong_character_set_never_raises(tmp_path: Path, charset: object) -> None:
    """The bytes are Latin-1, whatever the header says."""

    def edit(dataset: Dataset, k: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.PatientName = "Müller^Jörg"

    paths = make_series(tmp_path, slices=1, edit=edit)
    data = paths[0].read_bytes()
    text = charset if isinstance(charset, str) else "\\".join(charset or [""])
    old = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
    assert old in data
    value = text.encode().ljust(len(text) + len(text) % 2)
    paths[0].write_bytes(data.replace(old, b"\x08\x00\x05\x00CS" + len(value).to_bytes(2, "little") + value))
    assert only(find_series([tmp_path])).patient.name.startswith("M")


@pytest.mark.parametrize("number", ["", "abc", "1e999", "NaN"])
def test_numbers_that_are_none_are_absent(tmp_path: Path, number: str) -> None:
    """KVp and the like are never made up."""

    def edit(dataset: Dataset, k: int) -> None:
        set_tags(dataset, {"KVP": "120"})

    paths = make_series(tmp_path, slices=1, edit=edit)
    data = paths[0].read_bytes()
    old = b"\x18\x00\x60\x00DS\x04\x00120 "
    assert old in data
    value = number.encode().ljust(len(number) + len(number) % 2)
    paths[0].write_bytes(data.replace(old, b"\x18\x00\x60\x00DS" + len(value).to_bytes(2, "little") + value))
    assert only(find_series([tmp_path])).series[0].acquisition.kvp is None


# -- multi-frame -----------------------------------------------------------------------------------------------------
def test_enhanced_ct_is_found_with_its_shared_header(tmp_path: Path) -> None:
    make_enhanced(tmp_path / "e.dcm", ramp_hu(30))
    series = only(find_series([tmp_path])).series[0]
    assert series.instances[0].frames == 30
    assert series.acquisition.kernel == ("STANDARD",)
    assert series.acquisition.slice_thickness_mm == 2.5


def test_enhanced_ct_without_its_frames_is_refused(tmp_path: Path) -> None:
    make_enhanced(tmp_path / "e.dcm", ramp_hu(4), edit=lambda d: delattr(d, "PerFrameFunctionalGroupsSequence"))
    assert find_series([tmp_path]).refused[0].code == "frames-invalid"


def test_enhanced_iodine_map_is_refused(tmp_path: Path) -> None:
    """Its rescale type stands in the shared functional groups."""

    def edit(dataset: Dataset) -> None:
        values = dataset.PerFrameFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
        values.RescaleType = "MGML"
        dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = [values]

    make_enhanced(tmp_path / "e.dcm", ramp_hu(4), edit=edit)
    assert find_series([tmp_path]).refused[0].code == "not-hu"


def test_a_configuration_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="most_ratio"):
        SeriesConfig(most_ratio=0)


def test_positions_of_the_factory_are_what_it_says() -> None:
    """Guards the fixtures: feet-first stacks go down."""
    assert slice_positions(2, 2.0, (-1, 0, 0, 0, 1, 0), (0, 0, 0))[1].tolist() == [0, 0, -2]

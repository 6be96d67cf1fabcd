"""DICOM objects of a result: valid to other people's programs, at the right pixels, the same bytes every time."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from dicom_results import (
    ALL_DICOM,
    KINDS,
    chest_report,
    in_plane_mm,
    objects_of,
    read_chest,
    run_program,
    some_findings,
    text_of,
    validator_errors,
    write_chest,
    write_files,
    write_objects,
)
from pydicom import dcmread
from pydicom.dataset import Dataset
from report_examples import finish, key_of, make_report, make_volume

from lungscreen import RESEARCH_USE
from lungscreen.errors import LungscreenError
from lungscreen.outputs.dicom.codes import LOCAL_CODES, LOCAL_SCHEME
from lungscreen.outputs.masks import finding_labels
from lungscreen.outputs.registry import OutputsConfig
from lungscreen.outputs.write import write_study
from lungscreen.records import Report
from lungscreen.results.folder import ResultsFolder
from lungscreen.uids import derived_uid


def read(content: bytes) -> Dataset:
    return dcmread(BytesIO(content))


def items(dataset: Dataset):
    """Every content item of an SR, in order."""
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from items(item)


def named(dataset: Dataset, code: str):
    """Content items whose concept name has that code."""
    return [
        item for item in items(dataset)
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == code
    ]  # fmt: skip


@pytest.fixture(scope="module")
def reports(tmp_path_factory) -> dict[str, Report]:
    """A report with two findings over each kind of series."""
    return {kind: chest_report(tmp_path_factory.mktemp("chest"), kind, 2) for kind in KINDS}


@pytest.fixture(scope="module")
def objects(reports) -> dict[str, dict[str, bytes]]:
    """Every DICOM output of each of them, by file name."""
    return {kind: objects_of(finish(report), *ALL_DICOM) for kind, report in reports.items()}


# -- others read them ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS)
def test_every_object_is_valid(objects, kind, tmp_path):
    """Dciodvfy knows the standard's modules and attributes of each kind of object."""
    paths = write_files(objects[kind], tmp_path)
    assert len(paths) == 13, "3 key images, PDF, SR, 2 + 2 segmentations, KOS, 2 GSPS, CAD"
    assert validator_errors("dciodvfy", paths) == []


@pytest.mark.parametrize("count", [0, 1, 20])
def test_any_number_of_findings(tmp_path, count):
    """Without findings there is no segmentation of them, and the structured report is valid without measurements."""
    report = chest_report(tmp_path / "ct", "axial", count)
    paths = write_objects(report, tmp_path / "out", *ALL_DICOM)
    once = [path for path in paths if path.stem[-3:] not in [f"-{n:02d}" for n in range(3, 21)]]
    assert validator_errors("dciodvfy", once) == []
    names = {path.name for path in paths}
    assert ("dicom-seg-findings.dcm" in names) == (count > 0)
    assert {"dicom-summary.dcm", "dicom-sr.dcm", "dicom-pdf.dcm", "dicom-seg-lungs.dcm"} <= names
    assert sum(name.startswith("dicom-finding-") for name in names) == count
    sr = dcmread(tmp_path / "out" / "dicom-sr.dcm")
    assert bool(named(sr, "126010")) == (count > 0)
    assert named(sr, "C0034375"), "what is said of the exam is there, whatever was found"


def test_objects_stand_beside_the_ct_as_the_same_patient_and_study(tmp_path):
    """It compares every patient and study attribute between our objects and the series, and follows references."""
    report = chest_report(tmp_path / "ct", "axial", 2)
    paths = write_objects(report, tmp_path / "out", *ALL_DICOM)
    assert validator_errors("dcentvfy", [*paths, *(tmp_path / "ct").glob("*.dcm")]) == []


def test_dcmtk_dumps_the_structured_reports(objects, tmp_path):
    """A second implementation parses the content trees."""
    write_files(objects["axial"], tmp_path)
    assert "Finding 2" in run_program("dsrdump", str(tmp_path / "dicom-sr.dcm"))
    assert "Single Image Finding" in run_program("dsrdump", str(tmp_path / "dicom-chest-cad.dcm"))
    assert "Of Interest" in run_program("dsrdump", str(tmp_path / "dicom-kos.dcm"))


def test_dcmqi_reads_measurements_and_segments(reports, objects, tmp_path):
    """What other people's research tools get from the report and the segmentation."""
    import json

    import SimpleITK

    report = reports["axial"]
    write_files(objects["axial"], tmp_path)
    run_program(
        "tid1500reader", "--inputDICOM", str(tmp_path / "dicom-sr.dcm"), "--outputMetadata", str(tmp_path / "m.json")
    )
    groups = json.loads((tmp_path / "m.json").read_text())["Measurements"]
    volumes = [
        float(item["value"]) for group in groups for item in group["measurementItems"]
        if item["quantity"]["CodeValue"] == "118565006" and "derivationModifier" not in item
    ]  # fmt: skip
    assert volumes
    assert set(volumes) == {f.measurement.volume_mm3 for f in finish(report).document.findings}
    run_program(
        "segimage2itkimage", "--inputDICOM", str(tmp_path / "dicom-seg-findings.dcm"),
        "--outputDirectory", str(tmp_path), "--outputType", "nrrd", "--prefix", "f",
    )  # fmt: skip
    labels = finding_labels(finish(report))
    for number in (1, 2):
        image = SimpleITK.ReadImage(str(tmp_path / f"f-{number}.nrrd"))
        assert int((SimpleITK.GetArrayFromImage(image) > 0).sum()) == int((labels == number).sum())


def test_highdicom_reads_the_groups(objects, tmp_path):
    """Each finding has a group for its segment and one for its point, with one tracking UID."""
    write_files(objects["axial"], tmp_path)
    sr = hd.sr.srread(tmp_path / "dicom-sr.dcm")
    volumetric = sr.content.get_volumetric_roi_measurement_groups()
    planar = sr.content.get_planar_roi_measurement_groups()
    seg = hd.seg.segread(tmp_path / "dicom-seg-findings.dcm")
    tracked = [seg.get_segment_description(number).tracking_uid for number in seg.segment_numbers]
    assert [group.tracking_uid for group in volumetric] == [group.tracking_uid for group in planar] == tracked
    assert len(set(tracked)) == 2


# -- at the right place ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "enhanced"])
def test_points_lie_on_the_nearest_slice(reports, objects, kind):
    """By the slice's own header: 0.01 mm in its plane, and no other slice is nearer."""
    report = reports[kind]
    finished = finish(report)
    sr = read(objects[kind]["dicom-sr.dcm"])
    files = [dcmread(one.instance.source.path, stop_before_pixels=True) for one in report.volume.source_slices]
    images = {image.SOPInstanceUID: image for image in files}
    points = [item for item in items(sr) if item.ValueType == "SCOORD"]
    assert len(points) == len(finished.document.findings)
    for finding, point in zip(finished.document.findings, points, strict=True):
        image = images[point.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID]
        place = np.array(finding.position_mm)
        across, off = in_plane_mm(place, image, *(float(v) for v in point.GraphicData))
        assert across < 0.01
        assert off <= min(in_plane_mm(place, other, 0.5, 0.5)[1] for other in images.values()) + 1e-6


def test_points_in_a_multi_frame_object_name_their_frame(reports, objects):
    """The object is one for all slices; the frame tells which."""
    finished = finish(reports["enhanced"])
    sr = read(objects["enhanced"]["dicom-sr.dcm"])
    volume = reports["enhanced"].volume
    points = [item for item in items(sr) if item.ValueType == "SCOORD"]
    for finding, point in zip(finished.document.findings, points, strict=True):
        k = volume.geometry.to_index(finding.position_mm)[0]
        reference = point.ContentSequence[0].ReferencedSOPSequence[0]
        assert reference.ReferencedFrameNumber == volume.source_slices[round(float(k))].frame


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["seg", "labelmap"])
def test_masks_lie_on_the_series_own_slices(reports, objects, kind, name):
    """Every pixel of every frame, by the header of the slice it refers to, has the label of the voxel it lies in."""
    report = reports[kind]
    finished = finish(report)
    made = objects[kind]
    _check_masks(read(made[f"dicom-{name}-findings.dcm"]), finding_labels(finished), report)
    _check_masks(read(made[f"dicom-{name}-lungs.dcm"]), finished.lungs.mask, report)


def _check_masks(seg: Dataset, labels: np.ndarray, report: Report) -> None:
    slices = {(one.instance.sop_instance_uid, one.frame): one for one in report.volume.source_slices}
    pixels = seg.pixel_array if seg.NumberOfFrames > 1 else seg.pixel_array[None]
    binary = seg.SegmentationType == "BINARY"
    counted = 0
    for frame, group in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        source = group.DerivationImageSequence[0].SourceImageSequence[0]
        one = slices[source.ReferencedSOPInstanceUID, source.get("ReferencedFrameNumber")]
        assert [float(v) for v in group.PlanePositionSequence[0].ImagePositionPatient] == pytest.approx(one.position_mm)
        expected = _labels_on(one, labels, report)
        if binary:
            number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            expected = expected == number
        assert np.array_equal(frame, expected)
        counted += int((frame > 0).sum())
    assert counted


def _labels_on(one, labels, report):
    """Labels at the centres of a slice's pixels, from its place and directions alone."""
    rows, columns = np.indices((one.instance.rows, one.instance.columns)).reshape(2, -1)
    cosines, (row_mm, column_mm) = np.array(one.orientation), one.pixel_spacing_mm
    points = (
        np.array(one.position_mm) + np.outer(columns * column_mm, cosines[:3]) + np.outer(rows * row_mm, cosines[3:])
    )
    index = np.rint(report.volume.geometry.to_index(points)).astype(int)
    inside = ((index >= 0) & (index < np.array(labels.shape))).all(axis=1)
    found = np.zeros(len(index), labels.dtype)
    found[inside] = labels[tuple(index[inside].T)]
    return found.reshape(one.instance.rows, one.instance.columns)


def test_numbers_are_the_reports_digits(reports, objects):
    """Each measurement of the segment's group, by its code."""
    finished = finish(reports["axial"])
    sr = hd.sr.srread(BytesIO(objects["axial"]["dicom-sr.dcm"]))
    for finding, group in zip(
        finished.document.findings, sr.content.get_volumetric_roi_measurement_groups(), strict=True
    ):
        values = {(m.name.value, bool(m.derivation)): m.value for m in group.get_measurements()}
        size = finding.measurement
        assert values["103339001", False] == size.long_axis_mm
        assert values["103340004", False] == size.short_axis_mm
        assert values["81827009", True] == size.mean_diameter_mm
        assert values["118565006", False] == size.volume_mm3
        assert values["118565006", True] == size.volume_sd_mm3
        assert values["MALRATING", False] == pytest.approx(100 * finding.malignancy.probability)


# -- the same every time ---------------------------------------------------------------------------------------------
def test_two_runs_give_the_same_bytes(tmp_path):
    """From the files on, also when the first result lies where the second is written."""
    made = []
    for _ in range(2):
        report = chest_report(tmp_path / "ct", "axial", 2) if not made else _again(tmp_path / "ct")
        folder = ResultsFolder(tmp_path / "results")
        study = write_study(finish(report), folder, OutputsConfig(ALL_DICOM))
        made.append({path.name: path.read_bytes() for path in study.glob("*.dcm")})
    assert made[0] == made[1]
    assert len(made[0]) == 13


def _again(folder: Path) -> Report:
    volume = read_chest(folder)
    report = make_report(*some_findings(volume, 2), volume=volume)
    later = replace(report.provenance, created="2031-01-01T00:00:00Z", seconds={"volume": 99.0}, options={"batch": "x"})
    return replace(report, provenance=later)


def test_a_newer_result_names_the_one_it_replaces(tmp_path):
    """Another content: other UIDs, the next revision, the earlier report as predecessor; then the same again."""
    report = chest_report(tmp_path / "ct", "axial", 2)
    folder = ResultsFolder(tmp_path / "results")
    first = dcmread(write_study(finish(report), folder, OutputsConfig(("dicom",))) / "dicom-sr.dcm")
    newer = replace(report, category="4X", category_reason="another reading")
    study = write_study(finish(newer), folder, OutputsConfig(("dicom",)))
    second = dcmread(study / "dicom-sr.dcm")
    earlier = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0]
    assert earlier.SeriesInstanceUID == first.SeriesInstanceUID
    assert earlier.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == first.SOPInstanceUID != second.SOPInstanceUID
    assert "PredecessorDocumentsSequence" not in first
    assert "rev. 2 replaces 1" in second.SeriesDescription
    assert second.SeriesNumber > first.SeriesNumber
    once = (study / "dicom-sr.dcm").read_bytes()
    assert (write_study(finish(newer), folder, OutputsConfig(("dicom",))) / "dicom-sr.dcm").read_bytes() == once
    assert validator_errors("dciodvfy", [study / "dicom-sr.dcm"]) == []


def test_uids_are_of_the_uuid_kind():
    """2.25 and the number of a UUID, at most 64 characters (PS3.5 B.2)."""
    uid = derived_uid("a", 1)
    assert uid == derived_uid("a", 1) != derived_uid("a", 2)
    assert uid.startswith("2.25.")
    assert len(uid) <= 64
    assert int(uid[5:]) < 2**128


# -- what they say ---------------------------------------------------------------------------------------------------
def test_every_object_says_what_it_is_not(objects):
    """For research, not verified, no diagnosis: in the series' name, and again where there is a place for words."""
    for name, content in objects["axial"].items():
        dataset = read(content)
        assert dataset.SeriesDescription.endswith("RESEARCH USE ONLY"), name
        assert len(dataset.SeriesDescription) <= 64
        said = text_of(dataset).lower()
        assert RESEARCH_USE.lower() in said or "research use only, not verified" in said, name
    sr = read(objects["axial"]["dicom-sr.dcm"])
    assert (sr.CompletionFlag, sr.VerificationFlag, sr.PreliminaryFlag) == ("COMPLETE", "UNVERIFIED", "PRELIMINARY")


def test_local_codes_fit_and_are_listed_in_the_docs(objects):
    """At most 16 characters, or readers that know only CodeValue see nothing; none is used that the table lacks."""
    page = (Path(__file__).resolve().parents[1] / "docs" / "pacs.md").read_text(encoding="utf-8")
    assert all(len(value) <= 16 and f"`{value}`" in page for value in LOCAL_CODES)
    sr = read(objects["axial"]["dicom-sr.dcm"])
    values = {
        code.CodeValue for item in items(sr) for sequence in ("ConceptNameCodeSequence", "ConceptCodeSequence")
        for code in item.get(sequence, []) if code.CodingSchemeDesignator == LOCAL_SCHEME
    }  # fmt: skip
    assert values
    assert values <= set(LOCAL_CODES)


CAD_ROWS = {
    "finding": [
        ("HAS CONCEPT MOD", "112024"), ("HAS CONCEPT MOD", "111056"), ("HAS OBS CONTEXT", "112039"),
        ("HAS OBS CONTEXT", "112040"), ("HAS OBS CONTEXT", "111001"), ("HAS OBS CONTEXT", "111003"),
        ("HAS OBS CONTEXT", "111002"), ("HAS PROPERTIES", "111012"), ("HAS PROPERTIES", "111010"),
        ("HAS PROPERTIES", "112013"),
    ],
    "root": [
        ("HAS CONCEPT MOD", "121049"), ("CONTAINS", "111028"), ("CONTAINS", "111017"), ("CONTAINS", "111064"),
        ("CONTAINS", "111065"),
    ],
}  # fmt: skip
"""Rows of TID 4100 and 4104 in the order of PS3.16: the templates are neither extensible nor free in their order."""


@pytest.mark.parametrize("count", [0, 2])
def test_the_chest_cad_report_keeps_its_templates_order(tmp_path, count):
    """Each row where the template has it; every link leads to the image it means."""
    report = chest_report(tmp_path, "axial", count)
    cad = read(objects_of(finish(report), "dicom-cad")["dicom-chest-cad.dcm"])
    assert _rows(cad) == CAD_ROWS["root"]
    summary = cad.ContentSequence[2]
    assert summary.ConceptCodeSequence[0].CodeValue == ("111242" if count else "111241")
    findings = summary.get("ContentSequence", [])
    assert len(findings) == count
    for finding in findings:
        rows = [row for row in CAD_ROWS["finding"] if row[1] != "111012"]
        assert _rows(finding) == rows
        (link,) = next(item for item in finding.ContentSequence if item.ValueType == "SCOORD").ContentSequence
        target = cad
        for number in list(link.ReferencedContentItemIdentifier)[1:]:
            target = target.ContentSequence[number - 1]
        assert target.ValueType == "IMAGE"


def _rows(item: Dataset) -> list[tuple[str, str]]:
    return [(child.RelationshipType, child.ConceptNameCodeSequence[0].CodeValue) for child in item.ContentSequence]


# -- bad input -------------------------------------------------------------------------------------------------------
def test_hostile_headers_do_not_keep_the_objects_away(tmp_path):
    """Other character sets, dates that are none, endless values: written all the same, readable, nothing made up."""
    tags = {
        "SpecificCharacterSet": "ISO_IR 192", "PatientName": "山田^太郎=Ж", "PatientID": "ü-1",
        "StudyDate": "2024-13-99", "SeriesDate": "", "PatientComments": "x" * 100_000, "StudyDescription": "a\\b",
    }  # fmt: skip
    volume = read_chest(write_chest(tmp_path / "ct", **tags))
    report = make_report(*some_findings(volume, 1), volume=volume)
    paths = write_objects(report, tmp_path / "out", *ALL_DICOM)
    for path in paths:
        dataset = dcmread(path)
        assert str(dataset.PatientName) == "山田^太郎=Ж"
        assert dataset.PatientID == "ü-1"
        assert "PatientComments" not in dataset
        assert dataset.get("ContentDate", "19000101") == "19000101"
    assert "no date" in text_of(dcmread(tmp_path / "out" / "dicom-sr.dcm"))


def test_an_image_file_has_a_report_but_no_objects(tmp_path):
    """The study is not lost: its report is written, and what is missing is said with its code."""
    report = make_report(*some_findings(make_volume(), 1))
    missed = {}
    study = write_study(finish(report), ResultsFolder(tmp_path), OutputsConfig(("dicom", "pdf")), missed.__setitem__)
    assert {name: error.code for name, error in missed.items()} == {"dicom": "output-needs-dicom"}
    assert {path.name for path in study.iterdir()} == {"report.json", "report.pdf"}
    with pytest.raises(LungscreenError) as caught:
        write_study(finish(report), ResultsFolder(tmp_path), OutputsConfig(("dicom",)))
    assert caught.value.code == "output-needs-dicom"
    assert (study / "report.json").is_file(), "the earlier result is whole"


def test_nothing_is_written_unless_asked_for(tmp_path):
    """The usual outputs hold no object, PDF or bundle."""
    report = make_report(*some_findings(make_volume(), 1))
    study = write_study(finish(report), ResultsFolder(tmp_path))
    assert study.name == key_of(report)
    assert {path.suffix for path in study.iterdir()} <= {".json", ".html", ".csv"}
    assert not (study / "fhir.json").exists()

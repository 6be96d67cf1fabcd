"""Datasets as downloaded → shards: readers' outlines, LUNA16, plain folders, splits, resuming, and what is refused."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from conftest import shared_folder
from small_chest import SPACING, chest, mm, write_image

from lungscreen.cli.main import main
from lungscreen.datasets import (
    Annotations,
    ConsensusConfig,
    Dataset,
    DatasetScan,
    PrepareConfig,
    SplitConfig,
    check_shards,
    find_folder,
    find_lidc,
    find_luna16,
    load_shard,
    prepare_dataset,
    read_crops,
    read_index,
)
from lungscreen.datasets import prepare as prepare_module
from lungscreen.datasets.consensus import SlicePlaces, agree_on_nodules
from lungscreen.datasets.outlines import DrawnNodule, PointMark, SeriesMarks, SliceOutline, read_outlines
from lungscreen.datasets.scans import stored_geometry
from lungscreen.datasets.splits import assign_split, patient_key, read_column
from lungscreen.errors import LungscreenError
from lungscreen.evaluation import Nodules, read_nodules, read_series_list
from lungscreen.geometry import Geometry
from lungscreen.records import Acquisition, Exam, Patient, Series, Volume
from lungscreen.volume import build_volume

GRID = Geometry.axial((12, 40, 50), (2.5, 0.8, 0.7), (-20.0, 30.0, -100.0))
"""Anisotropic and off the origin."""


# -- readers' outlines, drawn here -----------------------------------------------------------------------------------
def ring(column: int, row: int, radius: int) -> np.ndarray:
    """Pixels just outside a square of side 2 radius + 1: the outline a reader would draw."""
    r = radius + 1
    return np.array([(column - r, row - r), (column + r, row - r), (column + r, row + r), (column - r, row + r)])


def outline(number: int, points: np.ndarray, inclusion: bool = True, uid: str | None = None) -> SliceOutline:
    return SliceOutline(f"sop{number}" if uid is None else uid, -100.0 + 2.5 * number, inclusion, points)


def drawn(reader: int, *outlines: SliceOutline, **ratings: int) -> DrawnNodule:
    return DrawnNodule(reader, f"n{reader}", outlines, ratings)


def reading(*nodules: DrawnNodule, points: tuple[PointMark, ...] = ()) -> SeriesMarks:
    return SeriesMarks("1.2.3", "1.2", 4, nodules, points)


def places(crop: tuple[int, int] = (0, 0)) -> SlicePlaces:
    return SlicePlaces(GRID, tuple(f"sop{n}" for n in range(12)), crop)


def test_outline_lies_outside_the_nodule() -> None:
    """A 5 x 5 nodule on three slices: volume and centre of what is strictly within the outlines."""
    one = drawn(0, *(outline(n, ring(20, 10, 2)) for n in (3, 4, 5)))
    nodules, excluded, notices = agree_on_nodules(reading(one), places(), ConsensusConfig(agreement=1))
    assert (len(nodules), excluded, notices) == (1, (), ())
    assert nodules[0].centre_mm == pytest.approx(tuple(GRID.to_mm((4, 10, 20))))
    volume = 3 * 25 * 2.5 * 0.8 * 0.7
    assert nodules[0].diameter_mm == pytest.approx((6 * volume / np.pi) ** (1 / 3))


def test_holes_are_cut_out_in_any_order() -> None:
    whole, hole = outline(3, ring(20, 10, 4)), outline(3, ring(20, 10, 1), inclusion=False)
    sizes = [
        agree_on_nodules(reading(drawn(0, *order)), places(), ConsensusConfig(agreement=1))[0][0].diameter_mm
        for order in ((whole, hole), (hole, whole))
    ]
    assert sizes[0] == sizes[1] == pytest.approx((6 * (81 - 9) * 2.5 * 0.8 * 0.7 / np.pi) ** (1 / 3))


def test_outline_of_two_pixels_is_itself_the_nodule() -> None:
    one = drawn(0, outline(3, np.array([(20, 10), (21, 10)])))
    config = ConsensusConfig(agreement=1, least_mm=0)
    assert agree_on_nodules(reading(one), places(), config)[0][0].centre_mm == pytest.approx(
        tuple(GRID.to_mm((3, 10, 20.5)))
    )


def test_consensus_is_what_half_of_the_readers_hold() -> None:
    """Three readers, nested: the middle one is the consensus, the mean of three is the mean."""
    readers = [drawn(n, outline(3, ring(20, 10, r)), texture=5, malignancy=n + 1) for n, r in enumerate((2, 3, 5))]
    nodules, _, _ = agree_on_nodules(reading(*readers), places())
    sizes = [(6 * (2 * r + 1) ** 2 * 2.5 * 0.8 * 0.7 / np.pi) ** (1 / 3) for r in (2, 3, 5)]
    assert nodules[0].diameter_mm == pytest.approx(sizes[1])
    assert nodules[0].mean_diameter_mm == pytest.approx(np.mean(sizes))
    assert nodules[0].ratings == {"texture": (5, 5, 5), "malignancy": (1, 2, 3)}


def test_readers_who_hardly_overlap_still_have_a_consensus() -> None:
    readers = [drawn(n, outline(3, ring(16 + 4 * n, 10, 2))) for n in range(4)]
    config = ConsensusConfig(agreement=4, share=1.0)
    (nodule,), _, _ = agree_on_nodules(reading(*readers), places(), config)
    assert nodule.readers == 4
    assert nodule.diameter_mm > 0


@pytest.mark.parametrize(("agreement", "expected"), [(1, 3), (2, 2), (3, 1), (4, 0)])
def test_agreement_decides_what_is_a_nodule(agreement: int, expected: int) -> None:
    """Nodules of three, two and one readers: the others are excluded, never lost."""
    marks = [
        drawn(reader, outline(3, ring(10 + 14 * place, 12, 3)))
        for place, readers in enumerate((3, 2, 1))
        for reader in range(readers)
    ]
    nodules, excluded, _ = agree_on_nodules(reading(*marks), places(), ConsensusConfig(agreement=agreement))
    assert (len(nodules), len(excluded)) == (expected, 3 - expected)


def test_small_nodules_and_points_are_excluded() -> None:
    small = [drawn(n, outline(3, ring(30, 30, 0))) for n in range(4)]
    points = tuple(PointMark(1, kind, "sop5", -87.5, 12.0, 13.0) for kind in (True, False))
    nodules, excluded, _ = agree_on_nodules(reading(*small, points=points), places())
    assert nodules == ()
    assert [e.diameter_mm for e in excluded[1:]] == [-1, -1]
    assert excluded[1].centre_mm == pytest.approx(tuple(GRID.to_mm((5, 13, 12))))


def test_two_outlines_of_one_reader_within_one_nodule_are_said() -> None:
    parts = [drawn(0, outline(3, ring(16, 10, 2))), drawn(0, outline(3, ring(24, 10, 2)))]
    others = [drawn(n, outline(3, ring(20, 10, 7))) for n in (1, 2)]
    nodules, _, notices = agree_on_nodules(reading(*parts, *others), places())
    assert (len(nodules), nodules[0].readers) == (1, 3)
    assert [notice.code for notice in notices] == ["outlines-merged"]


def test_slices_are_matched_by_position_where_no_uid_is_known() -> None:
    """The UID decides where it is known, even against the position; else the position does, and it is said."""
    by_uid = drawn(0, SliceOutline("sop7", -100.0, True, ring(20, 10, 2)))
    nodules, _, notices = agree_on_nodules(reading(by_uid), places(), ConsensusConfig(agreement=1))
    assert (nodules[0].centre_mm[2], notices) == (pytest.approx(-82.5), ())
    by_z = drawn(0, SliceOutline("other", -82.4, True, ring(20, 10, 2)))
    nodules, _, notices = agree_on_nodules(reading(by_z), places(), ConsensusConfig(agreement=1))
    assert (nodules[0].centre_mm[2], notices[0].code) == (pytest.approx(-82.5), "outlines-by-position")


def test_crop_is_subtracted() -> None:
    one = drawn(0, outline(3, ring(120, 310, 2)))
    nodules, _, _ = agree_on_nodules(reading(one), places((100, 300)), ConsensusConfig(agreement=1))
    assert nodules[0].centre_mm == pytest.approx(tuple(GRID.to_mm((3, 10, 20))))


@pytest.mark.parametrize(
    "bad",
    [
        reading(drawn(0, SliceOutline("other", -81.2, True, ring(20, 10, 2)))),
        reading(drawn(0, SliceOutline("other", 500.0, True, ring(20, 10, 2)))),
        reading(drawn(0, outline(3, ring(48, 10, 2)))),
        reading(points=(PointMark(0, True, "sop3", -92.5, 49.0, 60.0),)),
    ],
    ids=["between slices", "beyond the scan", "beyond the image", "point beyond the image"],
)
def test_marks_elsewhere_are_refused(bad: SeriesMarks) -> None:
    with pytest.raises(LungscreenError, match="outlines-elsewhere"):
        agree_on_nodules(bad, places())


@pytest.mark.parametrize("wrong", [{"agreement": 0}, {"share": 0.0}, {"share": 1.5}, {"least_mm": -1.0}])
def test_consensus_config_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ConsensusConfig(**wrong)


# -- readers' XML ----------------------------------------------------------------------------------------------------
NODULE = """<unblindedReadNodule><noduleID>1</noduleID>
<characteristics><subtlety>5</subtlety><internalStructure>1</internalStructure><calcification>6</calcification>
<sphericity>3</sphericity><margin>3</margin><lobulation>3</lobulation><spiculation>4</spiculation><texture>0</texture>
<malignancy>5</malignancy></characteristics>
<roi><imageZposition>-92.5 </imageZposition><imageSOP_UID>sop3</imageSOP_UID><inclusion>TRUE</inclusion>
<edgeMap><xCoord>10</xCoord><yCoord>20</yCoord></edgeMap><edgeMap><xCoord>12</xCoord><yCoord>20</yCoord></edgeMap>
</roi></unblindedReadNodule>"""
SMALL = """<unblindedReadNodule><noduleID>2</noduleID><roi><imageZposition>-90</imageZposition>
<imageSOP_UID>sop4</imageSOP_UID><inclusion>TRUE</inclusion><edgeMap><xCoord>7</xCoord><yCoord>8</yCoord></edgeMap>
</roi></unblindedReadNodule>"""
NON_NODULE = """<nonNodule><nonNoduleID>3</nonNoduleID><imageZposition>-95</imageZposition>
<imageSOP_UID>sop2</imageSOP_UID><locus><xCoord>5</xCoord><yCoord>6</yCoord></locus></nonNodule>"""


def message(session: str, root: str = "LidcReadMessage", before: str = "") -> str:
    return f"""<?xml version="1.0"?>{before}<{root} xmlns="http://www.nih.gov"><ResponseHeader>
<SeriesInstanceUid>1.2.3</SeriesInstanceUid><StudyInstanceUID>1.2</StudyInstanceUID></ResponseHeader>
<readingSession>{session}</readingSession><readingSession></readingSession></{root}>"""


def read_text(tmp_path: Path, text: str) -> SeriesMarks | None:
    (tmp_path / "r.xml").write_text(text)
    return read_outlines(tmp_path / "r.xml")


def test_xml_is_read(tmp_path: Path) -> None:
    found = read_text(tmp_path, message(NODULE + SMALL + NON_NODULE))
    assert found is not None
    assert (found.series_uid, found.study_uid, found.readers) == ("1.2.3", "1.2", 2)
    assert found.drawn[0].outlines[0].points.tolist() == [[10, 20], [12, 20]]
    assert (found.drawn[0].outlines[0].z_mm, found.drawn[0].outlines[0].inclusion) == (-92.5, True)
    assert found.drawn[0].ratings["malignancy"] == 5
    assert "texture" not in found.drawn[0].ratings
    assert [(p.is_nodule, p.sop_uid, p.column, p.row) for p in found.points] == [
        (True, "sop4", 7, 8),
        (False, "sop2", 5, 6),
    ]


def test_a_radiograph_s_reading_is_passed_over(tmp_path: Path) -> None:
    assert read_text(tmp_path, message("", root="IdriReadMessage")) is None


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no XML",
        message(NODULE)[:-40],
        message("&b;", before=LAUGHS),
        message("", before='<!DOCTYPE x SYSTEM "file:///etc/passwd">'),
        message("", before='<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
        "<a>" * 200 + "</a>" * 200,
        message(NODULE.replace("-92.5", "nan")),
        message(NODULE.replace("-92.5", "here")),
        message(NODULE.replace("<xCoord>10</xCoord>", "<xCoord>-1</xCoord>")),
        message(NODULE.replace("<xCoord>10</xCoord>", "<xCoord>99999999</xCoord>")),
        message(NODULE.replace("<xCoord>10</xCoord>", "")),
        message(re.sub("<roi>.*</roi>", "", NODULE, flags=re.DOTALL)),
        message(re.sub("<edgeMap>.*</edgeMap>", "", NODULE, flags=re.DOTALL)),
        message("").replace("ResponseHeader", "Else"),
    ],
)
def test_damaged_and_hostile_xml_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LungscreenError, match="outlines-unreadable"):
        read_text(tmp_path, text)


def test_large_xml_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungscreen.datasets.outlines.LARGEST_XML", 100)
    with pytest.raises(LungscreenError, match="outlines-unreadable"):
        read_text(tmp_path, message(NODULE))
    with pytest.raises(LungscreenError, match="outlines-unreadable"):
        read_outlines(tmp_path / "absent.xml")


def test_stored_geometry_undoes_the_canonical_order() -> None:
    """A grid stored feet first, prone, sideways: pixel coordinates come back to where they were."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, -0.7], [0, 0.8, 0], [-2.5, 0, 0]]).T
    affine[:3, 3] = (5, -7, 30)
    stored = Geometry(affine, (3, 4, 5))
    canonical, order, flips = stored.canonical()
    series = Series("image", "u", Patient(), Exam("u"), Acquisition())
    volume = Volume(np.zeros(canonical.shape, np.int16), canonical, series, source_order=order, source_flips=flips)
    assert stored_geometry(volume).same_as(stored)


# -- LIDC itself -----------------------------------------------------------------------------------------------------
LUNA16_NODULES = {
    "LIDC-IDRI-0001": 1,
    "LIDC-IDRI-0003": 3,
    "LIDC-IDRI-0004": 1,
    "LIDC-IDRI-0005": 2,
    "LIDC-IDRI-0007": 1,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LUNA16_NODULES)
def test_consensus_of_real_readers_is_where_luna16_has_it(name: str) -> None:
    """Each of LUNA16's nodules and no other; the others' quick stand-in is the download below."""
    data = shared_folder("data")
    folder = next(data.glob(f"*/{name}"))
    (scan,) = find_lidc(folder, data / "lidc_xml", None, read_crops(data / "scans.csv")).scans
    found = scan.annotate(build_volume(scan.series))
    check_against_luna16(name, scan, found)
    codes = [notice.code for notice in found.notices]
    assert codes[-1] == "outlines-by-position"
    assert ("outlines-by-name" in codes) == (name != "LIDC-IDRI-0001")


def check_against_luna16(name: str, scan: DatasetScan, found: Annotations) -> None:
    """Centres within 0.6 mm, diameters within 1.8 mm (a readers' consensus, not LUNA16's mean), all four readers."""
    truth = read_nodules(shared_folder("data", "tables", "luna16_annotations.csv"))
    expected = [n for n, uid in enumerate(truth.series) if uid == scan.original_series_uid]
    assert len(found.nodules) == len(expected) == LUNA16_NODULES[name]
    for row in expected:
        distance = [np.linalg.norm(np.subtract(a.centre_mm, truth.centres_mm[row])) for a in found.nodules]
        assert min(distance) < 0.6
        nearest = found.nodules[int(np.argmin(distance))]
        assert nearest.diameter_mm == pytest.approx(truth.diameters_mm[row], abs=1.8)
        assert nearest.readers == 4


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Volume]:
    """LIDC-IDRI-0001 as TCIA gives it: XML beside the DICOM, its UIDs the images' own; and its volume."""
    folder = tmp_path_factory.mktemp("download") / "LIDC-IDRI-0001" / "study" / "series"
    shutil.copytree(shared_folder("data", "dicom", "LIDC-IDRI-0001"), folder)
    (scan,) = find_lidc(folder, shared_folder("data", "lidc_xml")).scans
    volume = build_volume(scan.series)
    text = shared_folder("data", "lidc_xml", "LIDC-IDRI-0001.xml").read_text()
    by_z = {round(i.position_mm[2], 2): i.sop_instance_uid for i in scan.series.instances if i.position_mm}
    pattern = r"<imageZposition>\s*(\S+)\s*</imageZposition>(\s*)<imageSOP_UID>[^<]*"
    changed = re.sub(
        pattern,
        lambda m: f"<imageZposition>{m[1]}</imageZposition>{m[2]}<imageSOP_UID>{by_z[round(float(m[1]), 2)]}",
        text,
    )
    (folder / "069.xml").write_text(changed)
    return folder.parents[1], volume


def test_slices_of_a_download_are_matched_by_uid(download: tuple[Path, Volume]) -> None:
    """The same nodule as by position, and nothing to say."""
    folder, volume = download
    (scan,) = find_lidc(folder).scans
    found = scan.annotate(volume)
    assert found.notices == ()
    check_against_luna16("LIDC-IDRI-0001", scan, found)
    assert (scan.patient, scan.licence) == ("LIDC-IDRI-0001", "CC BY 3.0")
    (by_position,) = find_lidc(folder / "study" / "series", shared_folder("data", "lidc_xml")).scans
    assert [a.centre_mm for a in found.nodules] == [a.centre_mm for a in by_position.annotate(volume).nodules]
    assert (found.nodules[0].type, found.nodules[0].readers) == ("solid", 4)


def test_agreement_is_an_option(download: tuple[Path, Volume]) -> None:
    folder, volume = download
    (scan,) = find_lidc(folder, consensus=ConsensusConfig(agreement=5)).scans
    found = scan.annotate(volume)
    assert found.nodules == ()
    assert len(found.excluded) == 23


def test_cropped_images_need_to_know_where(download: tuple[Path, Volume]) -> None:
    folder, volume = download
    (scan,) = find_lidc(folder).scans
    cut = dataclasses.replace(
        volume, hu=volume.hu[:, 40:, 30:], geometry=volume.geometry.crop((0, 40, 30), (133, 472, 482))
    )
    with pytest.raises(LungscreenError, match="outlines-elsewhere"):
        scan.annotate(cut)


def test_series_without_readers_and_readers_without_series(tmp_path: Path, download: tuple[Path, Volume]) -> None:
    folder, _ = download
    xml = next(folder.rglob("*.xml"))
    apart = tmp_path / "xml"
    apart.mkdir()
    (apart / "else.xml").write_text(xml.read_text().replace(".179049373636438705059720603192<", ".1<"))
    (apart / "broken.xml").write_text("<a>")
    (tmp_path / "ct").symlink_to(xml.parent)
    hidden = xml.rename(xml.with_suffix(".hidden"))
    try:
        found = find_lidc(xml.parent, apart)
    finally:
        hidden.rename(xml)
    assert found.scans == ()
    codes = [refusal.code for refusal in found.refused]
    assert "annotations-missing" in codes
    assert "outlines-unreadable" in codes
    assert [notice.code for notice in found.notices] == ["annotations-unused"]


def test_table_of_crops(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("series_uid,crop_x,crop_y,more\na,3,4,x\nb,,,y\n")
    assert read_crops(tmp_path / "c.csv") == {"a": (3, 4)}
    (tmp_path / "c.csv").write_text("series_uid,crop_x,crop_y\na,3.5,4\n")
    with pytest.raises(LungscreenError, match="table-value-invalid"):
        read_crops(tmp_path / "c.csv")


# -- chests made here, small and quick ---------------------------------------------------------------------------------
def write_rows(path: Path, *rows: tuple[str, tuple[float, ...], float]) -> Path:
    lines = [f"{uid},{x},{y},{z},{diameter}" for uid, (x, y, z), diameter in rows]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *lines]) + "\n")
    return path


@pytest.fixture
def luna16(tmp_path: Path) -> Path:
    """Three scans in two subsets, a nodule each in two; one official file deeper down."""
    root = tmp_path / "LUNA16"
    for uid, subset in (("1.1", 0), ("1.2", 0), ("1.3", 7)):
        write_image(root / f"subset{subset}" / f"{uid}.mhd", chest())
    write_rows(root / "annotations.csv", ("1.1", mm(30, 24, 20), 8.0), ("1.3", mm(12, 20, 54), 12.0))
    excluded = [("1.1", mm(40, 24, 54), -1.0)] * 2
    write_rows(root / "evaluationScript" / "annotations" / "annotations_excluded.csv", *excluded)
    return root


# -- LUNA16 ----------------------------------------------------------------------------------------------------------
def test_luna16_becomes_shards_and_tables(luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command line; voxels, annotations and tables agree with what went in."""
    out = tmp_path / "shards"
    assert main(["data", "prepare", "luna16", str(luna16), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("shards 3 (0 kept): ")
    assert "patients-unknown" in captured.err
    index = read_index(out)
    assert index is not None
    rows = {row["series_uid"]: row for row in index["shards"]}
    assert {uid: (row["fold"], row["nodules"], row["excluded"]) for uid, row in rows.items()} == {
        "1.1": ("0", 1, 1),
        "1.2": ("0", 0, 0),
        "1.3": ("7", 1, 0),
    }
    shard, facts = load_shard(out, rows["1.1"])
    assert (facts["sure"], facts["licence"], shard.hu.dtype) == (True, "CC BY 4.0", np.int16)
    assert shard.geometry.spacing_mm == pytest.approx((1, 1, 1))
    assert shard.annotations.nodules[0].centre_mm == pytest.approx(mm(30, 24, 20))
    voxel = np.rint(facts["lesions"][0]["voxel"]).astype(int)
    assert shard.hu[tuple(voxel)] == -850
    assert shard.lung[tuple(voxel)]
    assert shard.geometry.to_index(mm(30, 24, 20)) == pytest.approx(facts["lesions"][0]["voxel"])
    original = chest()
    for k, j, i in [(30, 24, 37), (30, 10, 20), (20, 24, 54)]:
        place = np.rint(shard.geometry.to_index(mm(k, j, i))).astype(int)
        assert shard.hu[tuple(place)] == original[k, j, i]
    assert len(read_nodules(out / "annotations.csv").series) == 2
    assert set(read_series_list(out / "series.csv")) == {"1.1", "1.2", "1.3"}
    assert main(["data", "check", str(out)]) == 0
    assert "shards 3, damaged 0" in capsys.readouterr().out


def test_box_holds_lungs_nodules_and_room(luna16: Path, tmp_path: Path) -> None:
    """A nodule outside the lungs' box is inside the shard all the same."""
    far = mm(30, 46, 37)
    write_rows(luna16 / "annotations.csv", ("1.1", far, 10.0))
    prepare_dataset(find_luna16(luna16), tmp_path / "out")
    rows = {row["series_uid"]: row for row in read_index(tmp_path / "out")["shards"]}
    with_nodule, without = (load_shard(tmp_path / "out", rows[uid])[0] for uid in ("1.1", "1.2"))
    assert with_nodule.geometry.contains(far)
    assert not without.geometry.contains(far)
    spans = [np.flatnonzero(without.lung.any(axis=tuple(a for a in range(3) if a != axis))) for axis in range(3)]
    for span, size, spacing in zip(spans, without.hu.shape, SPACING, strict=True):
        assert 12 - 1 <= span[0] <= 12 + spacing + 1
        assert 12 - 1 <= size - 1 - span[-1] <= 12 + 2 * spacing + 1


def test_luna16_without_its_parts(luna16: Path, tmp_path: Path) -> None:
    shutil.rmtree(luna16 / "evaluationScript")
    found = find_luna16(luna16, {"1.1": "p", "1.2": "p"})
    assert [notice.code for notice in found.notices] == ["excluded-missing"]
    assert [scan.patient for scan in found.scans] == ["p", "p", ""]
    (luna16 / "annotations.csv").unlink()
    with pytest.raises(LungscreenError, match="input-missing"):
        find_luna16(luna16)
    with pytest.raises(LungscreenError, match="input-missing"):
        find_luna16(tmp_path)


def test_damaged_table_of_excluded_findings_is_not_passed_over(luna16: Path) -> None:
    next(luna16.rglob("annotations_excluded.csv")).write_text("seriesuid\n1.1\n")
    with pytest.raises(LungscreenError, match="table-column-missing"):
        find_luna16(luna16)


def test_nodule_outside_the_volume_leaves_only_that_scan_out(
    luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """RAS instead of LPS, as it happens: refused with its code, the other two are prepared."""
    write_rows(luna16 / "annotations.csv", ("1.1", mm(30, 24, 20), 8.0), ("1.3", (400.0, 0.0, 0.0), 8.0))
    next(luna16.rglob("annotations_excluded.csv")).write_text(
        "seriesuid,coordX,coordY,coordZ,diameter_mm\n1.1,900,0,0,-1\n"
    )
    out = tmp_path / "out"
    assert main(["data", "prepare", "luna16", str(luna16), "--out", str(out)]) == 3
    assert "annotation-outside" in capsys.readouterr().err
    index = read_index(out)
    assert [row["series_uid"] for row in index["shards"]] == sorted(
        ["1.1", "1.2"], key=lambda uid: prepare_module.shard_name(uid)
    )
    notices = {row["series_uid"]: [n["code"] for n in row["notices"]] for row in index["shards"]}
    assert "excluded-outside" in notices["1.1"]
    with (out / "refused.csv").open() as file:
        assert [(row["where"], row["code"]) for row in csv.DictReader(file)] == [("1.3", "annotation-outside")]


# -- resuming and damage ---------------------------------------------------------------------------------------------
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The series that are read from here on."""
    read: list[str] = []
    original: Callable[..., Volume] = prepare_module.build_volume

    def build(series: Series) -> Volume:
        read.append(series.series_uid)
        return original(series)

    monkeypatch.setattr(prepare_module, "build_volume", build)
    return read


def test_what_is_said_of_scans_is_said_on_the_terminal_too(
    luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A notice of single scans (here: an excluded finding outside) stands once, with how many; on a second run
    again.
    """
    write_rows(luna16 / "annotations_excluded.csv", ("1.1", (900.0, 0.0, 0.0), -1.0), ("1.3", (900.0, 0.0, 0.0), -1.0))
    for _ in range(2):
        assert main(["data", "prepare", "luna16", str(luna16), "--out", str(tmp_path / "shards")]) == 0
        assert "excluded-outside: said of 2 scans: see index.json" in capsys.readouterr().err


def test_a_stopped_run_goes_on_and_a_damaged_shard_is_made_again(
    luna16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle: what was done is kept, the result is the same bytes as of a run in one go."""
    out = tmp_path / "out"
    dataset = find_luna16(luna16)
    whole = prepare_dataset(dataset, tmp_path / "whole")

    def stop(scans):
        yield from scans[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(dataset, out, progress=stop)
    read = counted(monkeypatch)
    prepared = prepare_dataset(dataset, out)
    assert (len(read), prepared.kept) == (1, 2)
    assert prepared.shards == whole.shards
    victim = out / f"{prepared.shards[0]['name']}.npz"
    victim.write_bytes(victim.read_bytes()[:-100])
    with pytest.raises(LungscreenError, match="shard-damaged"):
        load_shard(out, prepared.shards[0])
    assert [refusal.code for refusal in check_shards(out)[1]] == ["shard-damaged"]
    again = prepare_dataset(dataset, out)
    assert (len(read), again.kept, again.shards) == (2, 2, whole.shards)
    assert [notice.code for notice in again.notices] == ["patients-unknown", "shard-remade"]
    victim.unlink()
    assert main(["data", "check", str(out)]) == 1


def test_changed_annotations_make_a_shard_anew(luna16: Path, tmp_path: Path) -> None:
    prepare_dataset(find_luna16(luna16), tmp_path / "out")
    write_rows(luna16 / "annotations.csv", ("1.1", mm(30, 24, 20), 9.0), ("1.3", mm(12, 20, 54), 12.0))
    again = prepare_dataset(find_luna16(luna16), tmp_path / "out")
    assert again.kept == 2
    assert 9.0 in read_nodules(tmp_path / "out" / "annotations.csv").diameters_mm


def test_a_folder_of_other_shards_is_left_alone(luna16: Path, tmp_path: Path) -> None:
    empty = Dataset("luna16", ())
    prepare_dataset(empty, tmp_path / "out")
    with pytest.raises(LungscreenError, match="shards-differ"):
        prepare_dataset(empty, tmp_path / "out", PrepareConfig(margin_mm=5))
    (tmp_path / "out" / "index.json").write_text('{"schema": 99, "shards": []}')
    with pytest.raises(LungscreenError, match="shard-damaged"):
        prepare_dataset(empty, tmp_path / "out")
    with pytest.raises(LungscreenError, match="input-missing"):
        check_shards(tmp_path)


def test_a_full_disk_stops_the_run_and_loses_nothing(
    luna16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, dataset = tmp_path / "out", find_luna16(luna16)
    one = dataclasses.replace(dataset, scans=dataset.scans[:1])
    prepare_dataset(one, out)

    def disk_full(*_: object) -> None:
        raise prepare_module.OutputError("output-failed", "no space left on device")

    monkeypatch.setattr("lungscreen.datasets.shards.replace_file", disk_full)
    with pytest.raises(LungscreenError, match="output-failed"):
        prepare_dataset(dataset, out)
    monkeypatch.undo()
    assert check_shards(out) == (1, ())
    assert len(prepare_dataset(dataset, out).shards) == 3


def test_a_scan_that_breaks_the_software_does_not_stop_the_others(
    luna16: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = prepare_module.segment_lungs

    def fragile(volume: Volume, config: object) -> object:
        if volume.series_uid == "1.2":
            raise ZeroDivisionError
        return original(volume, config)

    monkeypatch.setattr(prepare_module, "segment_lungs", fragile)
    prepared = prepare_dataset(find_luna16(luna16), tmp_path / "out")
    assert [(r.where, r.code) for r in prepared.refused] == [("1.2", "internal-error")]
    assert len(prepared.shards) == 2


# -- plain folders ---------------------------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "mine"
    for name in ("alpha.nii.gz", "beta.mha"):
        write_image(root / "scans" / name, chest())
    write_rows(tmp_path / "n.csv", ("alpha", mm(30, 24, 20), 7.0), ("gone", (0.0, 0.0, 0.0), 5.0))
    return root


def test_folder_leaves_out_what_nobody_annotated(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --complete a scan without a row is left out, and nothing is taken for healthy."""
    words = ["data", "prepare", "folder", str(folder), "--nodules", str(tmp_path / "n.csv"), "--licence", "mine"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 3
    message = capsys.readouterr().err
    assert "annotations-missing" in message
    assert "annotations-unused" in message
    (row,) = read_index(tmp_path / "out")["shards"]
    _, facts = load_shard(tmp_path / "out", row)
    assert (facts["series_uid"], facts["sure"], facts["licence"]) == ("alpha", False, "mine")


def test_complete_folder_keeps_scans_without_nodules(folder: Path, tmp_path: Path) -> None:
    found = find_folder(folder, read_nodules(tmp_path / "n.csv"), complete=True)
    assert [(s.series.series_uid, s.complete) for s in found.scans] == [("alpha", True), ("beta", True)]


def test_table_that_names_no_scan_is_refused(folder: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "n.csv", ("alpha.nii.gz", mm(30, 24, 20), 7.0))
    with pytest.raises(LungscreenError, match="series-none-match"):
        find_folder(folder, read_nodules(tmp_path / "n.csv"))
    assert find_folder(folder, Nodules.none(), complete=True).notices == ()


@pytest.mark.parametrize(
    "words",
    [
        ["folder", "X", "--out", "Y"],
        ["lidc", "X", "--out", "Y", "--agreement", "0"],
        ["luna16", "X", "--out", "Y", "--validation", "0.9", "--test", "0.9"],
    ],
)
def test_wrong_options_are_usage_errors(words: list[str], tmp_path: Path) -> None:
    assert main(["data", "prepare", *words]) == 2


# -- splits ----------------------------------------------------------------------------------------------------------
def test_sides_depend_on_seed_and_patient_alone() -> None:
    keys = [patient_key(f"p{n}", "") for n in range(4000)]
    config = SplitConfig(validation=0.2, test=0.1)
    sides = [assign_split(key, config) for key in keys]
    assert sides.count("test") == pytest.approx(400, abs=60)
    assert sides.count("validation") == pytest.approx(800, abs=80)
    assert sides != [assign_split(key, dataclasses.replace(config, seed=1)) for key in keys]
    assert patient_key("p", "1.1") == patient_key("p", "1.2")
    assert patient_key("", "1.1") != patient_key("", "1.2")


def test_one_patient_is_never_on_two_sides(luna16: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a table of patients; and a table of sides that parts a patient is refused before anything is read."""
    (tmp_path / "p.csv").write_text("series_uid,patient_id\n1.1,a\n1.2,a\n1.3,b\n")
    (tmp_path / "s.csv").write_text("series_uid,split\n1.1,train\n1.2,test\n1.3,test\n")
    words = ["data", "prepare", "luna16", str(luna16), "--patients", str(tmp_path / "p.csv"), "--out"]
    assert main([*words, str(tmp_path / "out"), "--splits", str(tmp_path / "s.csv")]) == 1
    assert "split-leaks" in capsys.readouterr().err
    (tmp_path / "s.csv").write_text("series_uid,split\n1.1,validation\n1.2,validation\n1.3,test\n")
    assert main([*words, str(tmp_path / "out"), "--splits", str(tmp_path / "s.csv")]) == 0
    index = read_index(tmp_path / "out")
    assert {row["series_uid"]: row["split"] for row in index["shards"]} == {
        "1.1": "validation",
        "1.2": "validation",
        "1.3": "test",
    }
    assert "a" not in {row["patient"] for row in index["shards"]}
    for row in index["shards"]:
        row["split"] = "train" if row["series_uid"] == "1.1" else row["split"]
    (tmp_path / "out" / "index.json").write_text(json.dumps(index))
    with pytest.raises(LungscreenError, match="split-leaks"):
        check_shards(tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "code"),
    [("series_uid,split\na,left\n", "table-value-invalid"), ("series_uid,split\na,test\na,test\n", "series-duplicate")],
)
def test_bad_table_of_sides(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(LungscreenError, match=code):
        read_column(tmp_path / "s.csv", "split", ("train", "test"))


@pytest.mark.parametrize("wrong", [{"validation": -0.1}, {"validation": 0.6, "test": 0.6}, {"test": float("nan")}])
def test_split_config_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match="validation"):
        SplitConfig(**wrong)
    with pytest.raises(ValueError, match="spacing_mm"):
        PrepareConfig(spacing_mm=0)


# -- to and fro ------------------------------------------------------------------------------------------------------
def test_real_scan_as_luna16_gives_the_same_nodules_as_lidc(tmp_path: Path) -> None:
    """A real box written as LUNA16 has it (MHD and RAW, tables): the shard's nodules are where LUNA16 says."""
    data = shared_folder("data")
    (scan,) = find_lidc(
        data / "lungbox" / "LIDC-IDRI-0005", data / "lidc_xml", None, read_crops(data / "scans.csv")
    ).scans
    volume = build_volume(scan.series)
    root = tmp_path / "LUNA16"
    uid = scan.original_series_uid
    image = sitk.GetImageFromArray(volume.hu)
    _, spacing, origin, direction = volume.geometry.to_itk()
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    (root / "subset4").mkdir(parents=True)
    sitk.WriteImage(image, str(root / "subset4" / f"{uid}.mhd"))
    shutil.copy(data / "tables" / "luna16_annotations.csv", root / "annotations.csv")
    shutil.copy(data / "tables" / "luna16_annotations_excluded.csv.gz", root / "annotations_excluded.csv.gz")
    prepared = prepare_dataset(find_luna16(root), tmp_path / "out")
    assert prepared.refused == ()
    assert [(row["nodules"], row["fold"]) for row in prepared.shards] == [(2, "4")]
    shard, _ = load_shard(tmp_path / "out", prepared.shards[0])
    readers = scan.annotate(volume).nodules
    for nodule in shard.annotations.nodules:
        distance = min(np.linalg.norm(np.subtract(nodule.centre_mm, a.centre_mm)) for a in readers)
        assert distance < 0.6
        place = np.rint(shard.geometry.to_index(nodule.centre_mm)).astype(int)
        assert shard.hu[tuple(place)] > -400

"""Containers: files, folders, links, DICOMDIRs, zip archives, image files; and what is not DICOM."""

from __future__ import annotations

import os
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from dicom_factory import make_series, save, set_tags
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from lungscreen import sources
from lungscreen.dicomfile import parse_dicom
from lungscreen.errors import InputError
from lungscreen.records import Inventory, Source
from lungscreen.series import SeriesConfig, find_series
from lungscreen.series.rejects import ROWS_PER_CODE
from lungscreen.sources import SourceReader, source_fingerprint
from lungscreen.volume import VolumeConfig, build_volume


def codes(inventory: Inventory) -> list[str]:
    return [row.code for row in inventory.refused]


def slices(inventory: Inventory) -> int:
    """Slices of all series that can be read."""
    return sum(len(series.instances) for study in inventory.studies for series in study.series)


def zip_folder(folder: Path, archive: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            target.write(path, prefix + str(path.relative_to(folder)))
    return archive


# -- inputs that fail ------------------------------------------------------------------------------------------------
def test_a_missing_path(tmp_path: Path) -> None:
    assert codes(find_series([tmp_path / "nowhere"])) == ["input-missing"]


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "input-empty" in codes(find_series([tmp_path]))


def test_a_folder_without_ct(tmp_path: Path) -> None:
    """Plainly foreign files make one row, and the folder says that it holds no CT."""
    for number in range(40):
        (tmp_path / f"note{number}.txt").write_text("ISO_IR 100 CT")
    rows = find_series([tmp_path]).refused
    assert sorted(row.code for row in rows) == ["no-ct", "not-dicom"]
    assert any("40 files" in row.reason for row in rows)


def test_a_bad_input_does_not_stop_the_others(tmp_path: Path) -> None:
    make_series(tmp_path / "good", slices=3)
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 no archive")
    inventory = find_series([tmp_path / "gone", tmp_path / "bad.zip", tmp_path / "good"])
    assert slices(inventory) == 3
    assert codes(inventory) == ["input-missing", "archive-damaged"]


# -- files -----------------------------------------------------------------------------------------------------------
def test_a_single_file_is_an_input(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=3)
    assert slices(find_series([paths[1]])) == 1


def test_folders_are_searched_to_the_bottom_whatever_files_are_called(tmp_path: Path) -> None:
    """No ending, a wrong one, blanks, letters of all kinds."""
    paths = make_series(tmp_path / "source", slices=4)
    for path, name in zip(paths, ("IM0001", "a b.IMA", "ü/日本/x", "1.2.840.3"), strict=True):
        target = tmp_path / "deep" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    assert slices(find_series([tmp_path / "deep"])) == 4


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_dicom_without_preamble_is_read(tmp_path: Path, syntax: str) -> None:
    """Neither preamble nor meta header: the data set begins at once."""
    for path in make_series(tmp_path, slices=3, syntax=syntax):
        data = path.read_bytes()
        path.write_bytes(data[144 + struct.unpack("<I", data[140:144])[0] :])
    inventory = find_series([tmp_path])
    assert slices(inventory) == 3
    assert inventory.studies[0].series[0].instances[0].transfer_syntax_uid == syntax


def test_text_that_pydicom_would_take_for_dicom_is_not(tmp_path: Path) -> None:
    """`force=True` accepts anything; a SOP class and a pixel module are asked for."""
    (tmp_path / "a").write_bytes(b"\x08\x00" + b"no data set at all, but it begins like one" * 20)
    (tmp_path / "b").write_bytes(b"some text without ending" * 40)
    (tmp_path / "c").write_bytes(b"")
    (tmp_path / "d").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 300)
    assert set(codes(find_series([tmp_path]))) <= {"not-dicom", "dicom-damaged", "no-ct"}


def test_a_header_beyond_the_first_bytes_is_read_on(tmp_path: Path) -> None:
    """A private block of 200 kB stands before the rows and columns."""

    def edit(dataset: Dataset, k: int) -> None:
        block = dataset.private_block(0x0009, "MAKER", create=True)
        block.add_new(1, "OB", bytes(200_000))

    make_series(tmp_path, slices=2, edit=edit)
    assert slices(find_series([tmp_path])) == 2


def test_a_truncated_header_is_recorded(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=4)
    paths[2].write_bytes(paths[2].read_bytes()[:420])
    inventory = find_series([tmp_path])
    assert slices(inventory) == 3
    assert len(inventory.refused) == 1
    assert inventory.refused[0].code in ("dicom-damaged", "header-incomplete", "not-dicom")


def test_many_bad_files_of_an_input_make_one_row(tmp_path: Path) -> None:
    for number in range(ROWS_PER_CODE + 1):
        (tmp_path / f"x{number}").write_bytes(b"\0" * 128 + b"DICM\x02\x00\x00\x00XX")
    rows = find_series([tmp_path]).refused
    assert len(rows) == 2
    assert any(f"{ROWS_PER_CODE + 1} files" in row.reason for row in rows)


@pytest.mark.parametrize("with_length", [True, False], ids=["group length", "no group length"])
def test_a_deflated_bomb_is_not_unpacked(with_length: bool, tmp_path: Path) -> None:
    """A deflated data set is measured while it is unpacked, by no library that has no limit."""
    path = make_series(tmp_path, slices=1, syntax="1.2.840.10008.1.2.1.99")[0]
    data = path.read_bytes()
    start = 144 + struct.unpack("<I", data[140:144])[0]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = data[:start] if with_length else data[:132] + data[144:start]
    bomb = b"".join(packer.compress(bytes(1 << 24)) for _ in range(12)) + packer.flush()
    tracemalloc.start()
    try:
        path.write_bytes(head + bomb)
        inventory = find_series([tmp_path])
        assert tracemalloc.get_traced_memory()[1] < 120 << 20
    finally:
        tracemalloc.stop()
    assert inventory.refused[0].code == "file-too-large"
    path.write_bytes(head + b"\xff\xff no deflate")
    assert find_series([tmp_path]).refused[0].code == "dicom-damaged"


def test_a_deflated_series_is_read(tmp_path: Path) -> None:
    make_series(tmp_path, slices=2, syntax="1.2.840.10008.1.2.1.99")
    assert slices(find_series([tmp_path])) == 2


# -- links, rights, rubbish ------------------------------------------------------------------------------------------
def test_link_loops_end(tmp_path: Path) -> None:
    make_series(tmp_path / "a", slices=3)
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a" / "self")
    (tmp_path / "a" / "dead").symlink_to(tmp_path / "nowhere")
    inventory = find_series([tmp_path])
    assert slices(inventory) == 3
    assert set(codes(inventory)) == {"file-unreadable"}


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    make_series(tmp_path / "real", slices=3)
    (tmp_path / "in").mkdir()
    for name in ("x", "y"):
        (tmp_path / "in" / name).symlink_to(tmp_path / "real", target_is_directory=True)
    assert slices(find_series([tmp_path / "in"])) == 3


def test_what_operating_systems_leave_behind_is_skipped(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=2)
    (tmp_path / "__MACOSX").mkdir()
    shutil.copy(paths[0], tmp_path / "__MACOSX" / "x")
    (tmp_path / f"._{paths[0].name}").write_bytes(b"\0\5\x16\7")
    (tmp_path / ".DS_Store").write_bytes(b"Bud1")
    inventory = find_series([tmp_path])
    assert slices(inventory) == 2
    assert inventory.refused == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_recorded(tmp_path: Path) -> None:
    paths = make_series(tmp_path, slices=3)
    paths[0].chmod(0)
    assert codes(find_series([tmp_path])) == ["file-unreadable"]


def test_names_in_no_encoding_are_recorded_readably(tmp_path: Path) -> None:
    """File names are bytes: what is no UTF-8 must not break the table of what was refused."""
    (tmp_path / os.fsdecode(b"caf\xe9\x1b[31m.dcm")).write_bytes(b"no DICOM, but long enough to be looked at" * 9)
    missing = tmp_path / os.fsdecode(b"gone\xff")
    for row in find_series([tmp_path, missing]).refused:
        row.where.encode()
        assert row.where.isprintable()
    paths = make_series(tmp_path / os.fsdecode(b"d\xe9"), slices=6, step_mm=2.0)
    paths[2].write_bytes(paths[2].read_bytes()[:-100])
    volume = build_volume(find_series([tmp_path]).studies[0].series[0], VolumeConfig(min_slices=1, min_extent_mm=0))
    assert volume.refused[0].where.isprintable()


def test_folders_and_files_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A right that is missing concerns that place only."""
    make_series(tmp_path / "a", slices=2)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "secret").write_bytes(b"x")
    real = Path.stat

    def status(self: Path, **options: bool) -> os.stat_result:
        if self.name == "secret":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, **options)

    monkeypatch.setattr(Path, "stat", status)
    inventory = find_series([tmp_path])
    assert slices(inventory) == 2
    assert [(row.code, row.reason) for row in inventory.refused] == [
        ("file-unreadable", "cannot be read (Permission denied)")
    ]
    assert codes(find_series([tmp_path / "b" / "secret"])) == ["file-unreadable"]


def test_a_file_that_vanishes_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between listing and reading, and it is not back at the second look; the message does not repeat the path."""
    paths = make_series(tmp_path, slices=3)
    real = SourceReader.read

    def read(self: SourceReader, source: Source, most_bytes: int | None = None) -> bytes:
        if source.path == paths[1]:
            paths[1].unlink()
        return real(self, source, most_bytes)

    monkeypatch.setattr(SourceReader, "read", read)
    inventory = find_series([tmp_path])
    assert [(row.code, row.reason) for row in inventory.refused] == [
        ("file-unreadable", "cannot be read (No such file or directory)")
    ]


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    make_series(tmp_path, slices=2)
    os.mkfifo(tmp_path / "pipe")
    inventory = find_series([tmp_path])
    assert slices(inventory) == 2
    assert codes(inventory) == ["file-unreadable"]


# -- DICOMDIR --------------------------------------------------------------------------------------------------------
def make_medium(folder: Path) -> Path:
    """A DICOMDIR with its files, named as on a medium."""
    root = folder / "medium"
    (root / "PT000000" / "SE000000").mkdir(parents=True)
    records = [Dataset()]
    records[0].DirectoryRecordType = "PATIENT"
    for number, path in enumerate(make_series(folder / "source", slices=3)):
        parts = ["PT000000", "SE000000", f"IM{number:06d}"]
        path.rename(root.joinpath(*parts))
        record = Dataset()
        record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", parts
        records.append(record)
    index = Dataset()
    index.SOPClassUID, index.SOPInstanceUID = "1.2.840.10008.1.3.10", generate_uid()
    index.DirectoryRecordSequence = records
    save(index, root / "DICOMDIR")
    return root / "DICOMDIR"


def test_a_dicomdir_leads_to_its_files(tmp_path: Path) -> None:
    index = make_medium(tmp_path)
    assert slices(find_series([index])) == 3
    assert slices(find_series([index.parent])) == 3
    assert find_series([index.parent]).refused == ()


def test_a_dicomdir_whose_files_are_in_lower_case(tmp_path: Path) -> None:
    """Media copied from Windows."""
    index = make_medium(tmp_path)
    for path in sorted(index.parent.rglob("*"), key=lambda p: -len(p.parts)):
        if path != index:
            path.rename(path.with_name(path.name.lower()))
    assert slices(find_series([index])) == 3


def test_a_dicomdir_that_points_elsewhere(tmp_path: Path) -> None:
    """Paths that leave the medium, and files that are gone, are recorded and not followed."""
    index = make_medium(tmp_path)
    outside = make_series(tmp_path / "outside", slices=1)[0]
    dataset = dcmread(index)
    records = [r for r in dataset.DirectoryRecordSequence if "ReferencedFileID" in r]
    set_tags(records[0], {"ReferencedFileID": ["..", "outside", outside.name]})
    set_tags(records[1], {"ReferencedFileID": "GONE"})
    save(dataset, index)
    inventory = find_series([index])
    assert slices(inventory) == 1
    assert codes(inventory) == ["dicomdir-reference", "dicomdir-reference"]


def test_a_dicomdir_without_its_files(tmp_path: Path) -> None:
    index = make_medium(tmp_path)
    (tmp_path / "alone").mkdir()
    shutil.copy(index, tmp_path / "alone" / "DICOMDIR")
    assert "dicomdir-reference" in codes(find_series([tmp_path / "alone" / "DICOMDIR"]))
    (tmp_path / "DICOMDIR").write_bytes(b"\x08\x00 nothing of the kind")
    assert codes(find_series([tmp_path / "DICOMDIR"]))[0] in ("dicom-damaged", "not-dicom")


# -- archives --------------------------------------------------------------------------------------------------------
def test_an_archive_is_read_in_place(tmp_path: Path) -> None:
    """Also with __MACOSX, a DICOMDIR and folders in it, and inside a folder of other files."""
    make_series(tmp_path / "a", slices=3)
    (tmp_path / "a" / "__MACOSX").mkdir()
    (tmp_path / "a" / "__MACOSX" / "._x").write_bytes(b"\0\5\x16\7")
    (tmp_path / "a" / "DICOMDIR").write_bytes(b"any")
    archive = zip_folder(tmp_path / "a", tmp_path / "in.zip", "patient/")
    inventory = find_series([archive])
    assert slices(inventory) == 3
    assert inventory.refused == ()
    instance = inventory.studies[0].series[0].instances[0]
    assert instance.source.member.startswith("patient/")
    shutil.rmtree(tmp_path / "a")
    assert slices(find_series([tmp_path])) == 3


def test_folder_and_archive_of_one_study_are_one(tmp_path: Path) -> None:
    make_series(tmp_path / "a", slices=3)
    archive = zip_folder(tmp_path / "a", tmp_path / "in.zip")
    inventory = find_series([tmp_path / "a", archive])
    assert slices(inventory) == 3
    assert [n.code for n in inventory.studies[0].series[0].notices].count("duplicate-files") == 1


@pytest.mark.parametrize("name", ["../evil.dcm", "a/../../evil", "/etc/evil", "C:\\evil", "..\\evil"])
def test_members_that_lead_out_refuse_the_archive(tmp_path: Path, name: str) -> None:
    make_series(tmp_path / "a", slices=3)
    archive = zip_folder(tmp_path / "a", tmp_path / "in.zip")
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(name, b"x")
    inventory = find_series([archive])
    assert inventory.studies == ()
    assert codes(inventory) == ["archive-unsafe"]


def test_a_zip_bomb_is_refused_unopened(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB; many small members; too many members; too large in all."""
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("x.dcm", bytes(100_000_000))
    assert codes(find_series([bomb])) == ["archive-too-large"]
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(40):
            target.writestr(f"{number}.dcm", bytes(2_000_000))
    assert codes(find_series([bomb])) == ["archive-too-large"]
    make_series(tmp_path / "a", slices=3)
    archive = zip_folder(tmp_path / "a", tmp_path / "in.zip")
    assert codes(find_series([archive], SeriesConfig(most_archive_members=2))) == ["archive-too-large"]
    assert codes(find_series([archive], SeriesConfig(most_archive_mb=0.001))) == ["archive-too-large"]
    assert codes(find_series([archive], SeriesConfig(most_member_mb=0.0005))) == ["archive-too-large"]
    shutil.move(bomb, tmp_path / "a" / "bomb.zip")
    inventory = find_series([tmp_path / "a"])
    assert slices(inventory) == 3
    assert codes(inventory) == ["archive-too-large"]


def test_an_archive_whose_directory_lies_about_sizes(tmp_path: Path) -> None:
    """The member unpacks to more than its entry says: its checksum fails, nothing more than that is unpacked."""
    archive = tmp_path / "lie.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("x.dcm", b"\0" * 128 + b"DICM" + bytes(3_000_000))
    data = archive.read_bytes()
    real = struct.pack("<I", 3_000_132)
    assert data.count(real) == 2
    archive.write_bytes(data.replace(real, struct.pack("<I", 1000)))
    assert "file-unreadable" in codes(find_series([archive]))


def test_encrypted_and_nested_members_are_recorded(tmp_path: Path) -> None:
    """The rest of the archive is read."""
    make_series(tmp_path / "a", slices=3)
    zip_folder(tmp_path / "a", tmp_path / "inner.zip")
    archive = zip_folder(tmp_path / "a", tmp_path / "in.zip")
    with zipfile.ZipFile(archive, "a") as target:
        target.write(tmp_path / "inner.zip", "inner.zip")
        target.writestr("secret.dcm", b"secret")
    data = bytearray(archive.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 8] |= 1
    archive.write_bytes(data)
    inventory = find_series([archive])
    assert slices(inventory) == 3
    assert sorted(codes(inventory)) == ["archive-encrypted", "archive-nested"]


def test_an_empty_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w"):
        pass
    assert "input-empty" in codes(find_series([tmp_path / "in.zip"]))


# -- image files -----------------------------------------------------------------------------------------------------
def write_nifti(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.full((2, 3, 4), value, np.int16), np.eye(4)), path)


def test_image_files_are_studies_named_after_them(tmp_path: Path) -> None:
    """`.nii.gz` is one ending; the name stands for every UID; DICOM beside them is read too."""
    write_nifti(tmp_path / "case.01.nii.gz")
    write_nifti(tmp_path / "sub" / "case.02.nii")
    make_series(tmp_path / "dicom", slices=2)
    studies = find_series([tmp_path]).studies
    named = {s.exam.study_uid for s in studies if s.series[0].kind == "image"}
    assert named == {"case.01", "case.02"}
    assert len(studies) == 3
    for study in studies:
        if study.series[0].kind == "image":
            assert study.patient.patient_id == study.series[0].series_uid == study.exam.study_uid


def test_images_of_one_name_get_numbers_and_say_so(tmp_path: Path) -> None:
    """Neither is lost, neither overwrites the other, and a made-up name never meets a real one."""
    write_nifti(tmp_path / "a" / "ct.nii.gz")
    write_nifti(tmp_path / "b" / "ct.nii.gz", 1)
    write_nifti(tmp_path / "c" / "ct-2.nii.gz", 2)
    studies = find_series([tmp_path]).studies
    assert sorted(study.exam.study_uid for study in studies) == ["ct", "ct-2", "ct-3"]
    marked = {study.exam.study_uid for study in studies if study.notices}
    assert marked == {"ct", "ct-3"}
    assert {notice.code for study in studies for notice in study.notices} == {"same-file-name"}


def test_the_raw_file_of_a_header_is_no_file_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.mhd").write_text("ObjectType = Image\nElementDataFile = a.raw\n")
    (tmp_path / "a.raw").write_bytes(b"\0" * 10)
    inventory = find_series([tmp_path])
    assert len(inventory.studies) == 1
    assert inventory.refused == ()


# -- fingerprints and sources ----------------------------------------------------------------------------------------
def test_the_fingerprint_knows_instances_not_their_order_or_place(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "a", slices=4)
    first = source_fingerprint(find_series([tmp_path / "a"]).studies[0].series[0])
    archive = zip_folder(tmp_path / "a", tmp_path / "a.zip")
    assert source_fingerprint(find_series([archive]).studies[0].series[0]) == first
    paths[0].unlink()
    assert source_fingerprint(find_series([tmp_path / "a"]).studies[0].series[0]) != first


def test_the_fingerprint_of_an_image_is_that_of_its_bytes(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii", 1)
    first = source_fingerprint(find_series([tmp_path]).studies[0].series[0])
    write_nifti(tmp_path / "a.nii", 2)
    assert source_fingerprint(find_series([tmp_path]).studies[0].series[0]) != first


def test_a_file_above_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MOST_FILE_BYTES", 10)
    (tmp_path / "x").write_bytes(b"0123456789A")
    with SourceReader() as reader, pytest.raises(InputError, match="file-too-large"):
        reader.read(Source(tmp_path / "x"))


def test_parsing_needs_a_sop_class() -> None:
    with pytest.raises(InputError, match="not-dicom"):
        parse_dicom(b"\0" * 128 + b"DICM" + b"\x10\x00\x10\x00PN\x02\x00A ")


def test_progress_is_silent_where_stderr_is_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_series(tmp_path, slices=3, study_uid=generate_uid())
    find_series([tmp_path])
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""

"""One intake: what the batch's index remembers gives the same studies as reading anew, and opens nothing twice."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from batch_hostile import Case, healthy, hostile_cases
from batch_inbox import add_image, add_stub
from batch_models import MODELS
from dicom_factory import make_enhanced, make_series, save
from pydicom import dcmread
from pydicom.dataset import Dataset

from lungscreen.batch import BatchConfig, BatchRun, run_batch
from lungscreen.batch.index import INDEX_FILE, Index
from lungscreen.errors import Refusal
from lungscreen.pipeline import read_pipeline
from lungscreen.pseudonyms import Pseudonyms
from lungscreen.records import Source, Study
from lungscreen.series import find_series, find_study
from lungscreen.series.headers import Header, load_header
from lungscreen.series.memory import pack_header, unpack_header
from lungscreen.sources import SourceReader

NAMES = Pseudonyms(b"k" * 32)
SHARED = Path(__file__).parents[2] / "shared" / "data"
CASES = list(hostile_cases())


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    (tmp_path / "out").mkdir()
    opened = Index(tmp_path / "out", NAMES)
    yield opened
    opened.close()


def recalled(index: Index, inputs: list[Path]) -> tuple[list[Study], set[Refusal]]:
    """What a batch makes of the inputs: each study of the index, and everything that was not read."""
    found = index.scan(inputs).found
    refused = {row for place in inputs for row in index.input_refusals(place)} | set(index.strangers())
    studies = []
    for study in found:
        task = index.task(study.key, study.input, 1)
        study, others = find_study(task.looks, task.identity, task.names, task.others)
        refused |= set(others)
        studies += [] if study is None else [study]
    return studies, refused


def check_agreement(index: Index, inputs: list[Path]) -> int:
    """Equal studies, field by field, and equal refusals. Returns how many studies there are."""
    inventory = find_series(inputs)
    studies, refused = recalled(index, inputs)
    by_uid = sorted(inventory.studies, key=_place), sorted(studies, key=_place)
    for direct, remembered in zip(*by_uid, strict=True):
        assert remembered == direct
    assert refused == set(inventory.refused)
    return len(studies)


def _place(study: Study) -> str:
    series = study.series[0]
    return str(series.image or series.instances[0].source)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_index_and_direct_reading_agree_on_hostile_studies(case: Case, index: Index, tmp_path: Path) -> None:
    case.make(tmp_path / "study")
    check_agreement(index, [tmp_path / "study"])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real studies are not beside this checkout")
def test_index_and_direct_reading_agree_on_every_real_study(index: Index) -> None:
    assert check_agreement(index, [SHARED / "dicom", SHARED / "lungbox"]) == 13


def test_index_and_direct_reading_agree_on_a_mixed_inbox(index: Index, tmp_path: Path) -> None:
    """Two people under one ID, one UID of two people, images of one name and of a name with a number, objects that are
    no CT with and without a study, archives, links, a text, and inputs that overlap.
    """
    box = tmp_path / "box"
    for name in ("Doe^Jane", "Roe^Richard"):
        make_series(box / name[:3], slices=4, tags={"PatientID": "ID7", "PatientName": name})
    for part in "ab":
        make_series(box / "mixed" / part, slices=3, series_uid="1.2.3.4", tags={"PatientID": part})
    for folder in ("x", "x/y", "z"):
        (box / folder).mkdir(parents=True, exist_ok=True)
        (box / folder / "scan.nii").write_bytes(b"no image")
    (box / "z" / "scan-2.nii").write_bytes(b"no image")
    paths = make_series(box / "report", slices=2, study_uid="1.2.3.7")
    for number, uid in enumerate(("1.2.3.7", "1.2.3.8")):
        other = Dataset()
        other.SOPClassUID, other.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.22", f"1.2.3.9.{number}"
        other.StudyInstanceUID, other.SeriesInstanceUID = uid, f"{uid}.5"
        save(other, box / f"sr{number}.dcm")
    (box / "letter.txt").write_text("Dear colleague")
    (box / "again").symlink_to(paths[0])
    assert check_agreement(index, [box, box / "Doe", paths[0], tmp_path / "nowhere"]) == 7


# -- opening ---------------------------------------------------------------------------------------------------------
_OPENED: Counter[str] | None = None


def _count(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and _OPENED is not None and isinstance(arguments[0], str | bytes):
        _OPENED[os.fsdecode(arguments[0])] += 1


@contextmanager
def opened_files() -> Iterator[Counter[str]]:
    """How often each file is opened in this process; an audit hook stays for good, so that it is set once."""
    global _OPENED
    if not getattr(opened_files, "hooked", False):
        sys.addaudithook(_count)
        opened_files.hooked = True  # type: ignore[attr-defined]
    _OPENED = Counter()
    try:
        yield _OPENED
    finally:
        _OPENED = None


def test_a_run_opens_a_slice_for_its_header_once_and_for_its_pixels_once(tmp_path: Path) -> None:
    """Beside these once to hash the content. The second of two exams of a person reads the first one's pixels again,
    and no header of it.
    """
    first = healthy(tmp_path / "in" / "1", tags={"PatientID": "A", "StudyDate": "20200101"})
    second = healthy(tmp_path / "in" / "2", tags={"PatientID": "A", "StudyDate": "20210101"})
    config = BatchConfig(keep_free_mb=0.0)
    run = BatchRun([tmp_path / "in"], tmp_path / "out", read_pipeline("screening"), engine="here", config=config)
    with opened_files() as opened:
        ended = run_batch(run, models=MODELS)
    assert ended.states["done"] == 2
    assert {opened[str(path)] for path in second} == {3}
    assert {opened[str(path)] for path in first} == {4}


def test_direct_reading_opens_a_file_once(tmp_path: Path) -> None:
    paths = make_series(tmp_path / "in", slices=5)
    with opened_files() as opened:
        find_series([tmp_path / "in"])
    assert {opened[str(path)] for path in paths} == {1}


# -- remembering -----------------------------------------------------------------------------------------------------
def headers(folder: Path) -> list[Header]:
    with SourceReader() as reader:
        found = [load_header(reader, Source(path)) for path in sorted(folder.iterdir())]
    return [header for header in found if isinstance(header, Header)]


def test_a_header_is_remembered_whole(tmp_path: Path) -> None:
    """Plain, multi-frame, and one that cannot be used: every field, to the last digit."""
    make_series(tmp_path / "a", slices=2, step_mm=0.1 + 0.2, tags={"XRayTubeCurrent": "123", "CTDIvol": 1 / 3})
    make_enhanced(tmp_path / "b" / "x.dcm")
    make_series(tmp_path / "c", slices=1, tags={"PixelSpacing": "", "PatientName": 'Dö"e^\\J'})
    found = [header for name in "abc" for header in headers(tmp_path / name)]
    assert len(found) == 4
    for header in found:
        again = unpack_header(header.instance.source, *pack_header(header))
        assert (str(again.problem), type(again.problem)) == (str(header.problem), type(header.problem))
        assert replace(again, problem=None) == replace(header, problem=None)


def test_slices_of_a_series_share_what_they_have_in_common(index: Index, tmp_path: Path) -> None:
    make_series(tmp_path / "in", slices=20, edit=lambda d, n: setattr(d, "XRayTubeCurrent", 100 + n))
    index.scan([tmp_path / "in"])
    with sqlite3.connect(tmp_path / "out" / INDEX_FILE) as db:
        assert db.execute("SELECT COUNT(*) FROM common").fetchone()[0] == 1
        assert db.execute("SELECT MAX(LENGTH(own)) FROM file").fetchone()[0] < 300


def test_a_file_that_changed_since_it_was_looked_at_is_looked_at_again(index: Index, tmp_path: Path) -> None:
    paths = make_series(tmp_path / "in", slices=5, shuffle=False)
    (study,) = index.scan([tmp_path / "in"]).found
    task = index.task(study.key, study.input, 1)
    changed = dcmread(paths[0])
    changed.ImagePositionPatient = [0, 0, -777]
    changed.save_as(paths[0])
    os.utime(paths[0], ns=(7, 7))
    paths[1].unlink()
    study, refused = find_study(task.looks, task.identity, task.names, task.others)
    assert study is not None
    positions = [instance.position_mm for instance in study.series[0].instances if instance.position_mm]
    assert len(positions) == 4
    assert min(z for _, _, z in positions) == -777
    assert [(row.code, row.where) for row in refused] == [("file-unreadable", str(paths[1]))]


def test_an_index_of_the_version_before_is_looked_at_once_more(tmp_path: Path) -> None:
    """No study becomes new by it, and nothing is forgotten."""
    (tmp_path / "out").mkdir()
    add_stub(tmp_path / "in", 1)
    first = Index(tmp_path / "out", NAMES)
    before = first.scan([tmp_path / "in"]).found
    first.close()
    with sqlite3.connect(tmp_path / "out" / INDEX_FILE) as db:
        for table, column in (("place", "path"), ("folder", "path"), ("file", "name")):
            db.execute(f"UPDATE {table} SET {column} = CAST({column} AS TEXT)")
        db.execute("DROP TABLE common")
        db.execute("ALTER TABLE file DROP COLUMN common")
        db.execute("ALTER TABLE file DROP COLUMN own")
        then = "id, key, patient_id, name, uid, day, kind, changed, grown, input, stamp, arrived, files, urgent"
        db.execute(f"CREATE TABLE study_1 AS SELECT {then} FROM study")
        db.execute("DROP TABLE study")
        db.execute("ALTER TABLE study_1 RENAME TO study")
        db.execute("CREATE TABLE refusal (owner TEXT NOT NULL, content TEXT NOT NULL)")
        db.execute("PRAGMA user_version = 1")
    second = Index(tmp_path / "out", NAMES)
    (study,) = before
    task = second.task(study.key, study.input, 1)
    study, _ = find_study(task.looks, task.identity, task.names, task.others)
    assert study is not None, "headers that are not remembered are read"
    again = second.scan([tmp_path / "in"])
    assert again.opened == 5
    assert [(o.key, o.input, o.stamp) for o in again.found] == [(o.key, o.input, o.stamp) for o in before]
    second.close()


def test_names_that_are_no_utf8_are_found_again(index: Index, tmp_path: Path) -> None:
    """In folders, files and image files; as sites with old file servers have them."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path / "in") + b"/M\xfcller"))
    make_series(folder, slices=3)
    add_image(tmp_path, 1).rename(Path(os.fsdecode(os.fsencode(folder) + b"/Befund_\xfc.nii")))
    assert check_agreement(index, [tmp_path / "in"]) == 2
    assert check_agreement(index, [folder]) == 2
    assert index.scan([tmp_path / "in"]).opened == 0


# -- people ----------------------------------------------------------------------------------------------------------
OTHER_PERSON = {
    "another birth date": {"PatientBirthDate": "19600103"},
    "another sex": {"PatientSex": "M"},
    "another issuer": {"IssuerOfPatientID": "Hospital B"},
    "after a backslash": {"PatientID": "P001\\B"},
    "after 64 characters": {"PatientID": "P" * 64 + "2"},
    "a name after 64 characters": {"PatientName": "N" * 64 + "2"},
    "a birth date that is none": {"PatientBirthDate": "unknown"},
}
"""What of a header tells a person from the one below."""

FIRST_PERSON = {
    "after 64 characters": {"PatientID": "P" * 64 + "1"},
    "a name after 64 characters": {"PatientName": "N" * 64 + "1"},
}


def two_people(folder: Path, what: str, *, one_series: bool, nobody: bool = False) -> None:
    """The same UIDs twice; the second half of the files, or a series of its own, of another person."""
    blank = {"PatientID": "", "PatientName": ""} if nobody else {}
    first = {"IssuerOfPatientID": "Hospital A", **FIRST_PERSON.get(what, {}), **blank}
    second = {**first, **OTHER_PERSON[what], **blank}
    make_series(folder / "a", slices=4, study_uid="1.2.3", series_uid="1.2.3.4", tags=first)
    uid = "1.2.3.4" if one_series else "1.2.3.5"
    make_series(folder / "b", slices=4, study_uid="1.2.3", series_uid=uid, tags=second)


@pytest.mark.parametrize("what", OTHER_PERSON)
def test_one_series_of_two_people_is_refused(what: str, index: Index, tmp_path: Path) -> None:
    two_people(tmp_path / "in", what, one_series=True)
    assert check_agreement(index, [tmp_path / "in"]) == 0
    assert {row.code for row in find_series([tmp_path / "in"]).refused} == {"series-two-patients"}


@pytest.mark.parametrize("what", OTHER_PERSON)
def test_two_people_under_one_study_uid_have_studies_of_their_own(what: str, index: Index, tmp_path: Path) -> None:
    two_people(tmp_path / "in", what, one_series=False)
    assert check_agreement(index, [tmp_path / "in"]) == 2
    inventory = find_series([tmp_path / "in"])
    assert [[series.series_uid for series in study.series] for study in inventory.studies] in (
        [["1.2.3.4"], ["1.2.3.5"]],
        [["1.2.3.5"], ["1.2.3.4"]],
    )
    keys = [study.key for study in index.scan([tmp_path / "in"]).found]
    assert len(set(keys)) == 2


@pytest.mark.parametrize("what", ["another birth date", "another sex", "another issuer"])
def test_nobody_twice_is_two_people_where_anything_differs(what: str, index: Index, tmp_path: Path) -> None:
    """Blank ID and blank name."""
    two_people(tmp_path / "in", what, one_series=True, nobody=True)
    check_agreement(index, [tmp_path / "in"])
    assert {row.code for row in find_series([tmp_path / "in"]).refused} == {"series-two-patients"}


def test_what_some_files_leave_out_contradicts_nothing(index: Index, tmp_path: Path) -> None:
    """As a workstation that adds a series does; they may arrive in any order, and the study keeps its key."""
    bare = {"PatientBirthDate": "", "PatientSex": "", "IssuerOfPatientID": ""}
    options = {"study_uid": "1.2.3", "hu": chest_values()}
    make_series(tmp_path / "in" / "a", series_uid="1.2.3.4", tags=bare, **options)
    (before,) = index.scan([tmp_path / "in"]).found
    make_series(tmp_path / "in" / "b", series_uid="1.2.3.5", tags={"IssuerOfPatientID": "A"}, **options)
    (after,) = index.scan([tmp_path / "in"]).found
    assert (after.key, after.identity) == (before.key, before.identity)
    assert after.input != before.input
    assert check_agreement(index, [tmp_path / "in"]) == 1
    (study,) = find_series([tmp_path / "in"]).studies
    patient = study.patient
    assert (patient.issuer, patient.birth_date, patient.sex) == ("A", "19600102", "F")
    assert len(study.series) == 2
    make_series(tmp_path / "in" / "c", series_uid="1.2.3.6", tags={"PatientBirthDate": "19500101"}, **options)
    found = index.scan([tmp_path / "in"]).found
    assert len({study.key for study in found}) == len({study.identity for study in found}) == 3
    assert before.key in {study.key for study in found}
    check_agreement(index, [tmp_path / "in"])


def chest_values() -> np.ndarray:
    return np.zeros((24, 16, 20), np.int16)

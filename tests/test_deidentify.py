"""`lungscreen deidentify`: what is left of a CT series, by PS3.15's own table and by what was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_factory import make_enhanced, make_series, save
from dicom_results import read_chest, validator_errors, write_chest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as profile
from pydicom import dcmread
from pydicom.datadict import dictionary_keyword, dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from lungscreen.cli.main import main
from lungscreen.deidentify.dataset import KEPT, deidentify_dataset
from lungscreen.errors import LungscreenError
from lungscreen.pseudonyms import Pseudonyms

KEY = Pseudonyms(b"a key of the tests, long enough")
OTHER_KEY = Pseudonyms(b"another key of the tests, as long")
PLANTED = "PLANTED"
MODIFIED_DATES = {
    "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate", "AcquisitionDateTime", "FrameAcquisitionDateTime",
    "FrameReferenceDateTime", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime",
}  # fmt: skip
"""Option Retain Longitudinal Temporal Information With Modified Dates (113107)."""
CHARACTERISTICS = {"PatientSex", "PatientAge"}
"""Option Retain Patient Characteristics (113108)."""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(KEY.key)
    path.chmod(0o600)
    return path


def one_slice(tmp_path: Path, **tags) -> Dataset:
    """A slice of a small series."""
    return dcmread(make_series(tmp_path, slices=1, tags=tags)[0])


def all_values(dataset: Dataset) -> str:
    return "\n".join(str(element.value) for element in dataset.iterall() if element.VR not in ("OW", "OB", "SQ"))


def test_no_planted_value_of_the_profiles_table_is_left(tmp_path):
    """PS3.15 table E.1-1, row by row, an element planted for each: gone, empty, or another value."""
    checked = 0
    dataset = one_slice(tmp_path)
    before = {}
    for row in profile.ALL_TAGS:
        if len(row) != 2:
            continue  # repeating groups: curves and overlays, planted below
        tag = Tag(row)
        keyword = keyword_for_tag(tag)
        if not keyword or keyword in ("PixelData", "SOPInstanceUID", "ContentSequence"):
            continue
        value = _planted(dictionary_VR(tag))
        if value is None:
            continue
        dataset.add_new(tag, dictionary_VR(tag), value)
        before[keyword] = value
        checked += 1
    assert checked > 300
    dataset.add_new(0x60003000, "OW", b"\0\0")
    dataset.add_new(0x60004000, "LT", PLANTED)
    after = deidentify_dataset(dataset, KEY)
    for keyword, value in before.items():
        left = after.get(keyword)
        if keyword in CHARACTERISTICS or (
            keyword in MODIFIED_DATES and keyword.endswith("Time") and "DateTime" not in keyword
        ):
            continue
        assert left in (None, "", []) or str(left) != str(value), keyword
    assert PLANTED not in all_values(after)
    assert not any(0x6000 <= element.tag.group < 0x6100 for element in after.iterall())


def _planted(kind: str):
    """A value of that form that is easily found again."""
    if " or " in kind:
        return None
    forms = {
        "DA": "20010203", "DT": "20010203040506", "TM": "040506", "UI": "1.2.999.1", "AS": "077Y",
        "IS": "77", "DS": "77",
        "US": 77, "UL": 77, "SS": 77, "SL": 77, "FL": 77.0, "FD": 77.0, "OB": b"77", "OW": b"77", "UN": b"77",
        "AT": 0x00100010, "PN": f"{PLANTED}^X", "CS": PLANTED, "UR": f"http://{PLANTED}",
    }  # fmt: skip
    if kind == "SQ":
        item = Dataset()
        item.PatientName = f"{PLANTED}^X"
        return [item]
    return forms.get(kind, PLANTED)


def test_the_list_keeps_nothing_that_the_profile_takes_out():
    """Every kept keyword that the table names is one that an option retains, a UID that is replaced, or a dummy."""
    named = {keyword_for_tag(Tag(row)) for row in profile.ALL_TAGS if len(row) == 2}
    uids = {keyword for keyword in KEPT & named if keyword.endswith("UID")}
    assert KEPT & named - MODIFIED_DATES - CHARACTERISTICS - uids == {"ContrastBolusAgent"}
    assert all(dictionary_keyword(Tag(keyword)) == keyword for keyword in KEPT)


def test_private_elements_go_at_every_depth(tmp_path):
    """Also inside the functional groups of a multi-frame object."""

    def plant(dataset: Dataset) -> None:
        for place in (dataset, dataset.PerFrameFunctionalGroupsSequence[0]):
            block = place.private_block(0x0019, "SOMEONE", create=True)
            block.add_new(1, "LO", PLANTED)

    path = make_enhanced(tmp_path / "e.dcm", edit=plant)
    after = deidentify_dataset(dcmread(path), KEY)
    assert not any(element.tag.is_private for element in after.iterall())
    assert PLANTED not in all_values(after)
    assert len(after.PerFrameFunctionalGroupsSequence) == 44


def test_names_and_uids_are_one_to_one_under_the_key(tmp_path):
    """One patient has one pseudonym, another key another; references stay consistent; the originals are gone."""
    paths = make_series(tmp_path, slices=3)
    datasets = [dcmread(path) for path in paths]
    first, second = (deidentify_dataset(dataset, KEY) for dataset in datasets[:2])
    assert first.PatientID == second.PatientID
    assert first.PatientID.startswith("LS-")
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.SOPInstanceUID == deidentify_dataset(datasets[0], KEY).SOPInstanceUID
    other = deidentify_dataset(datasets[0], OTHER_KEY)
    assert other.PatientID != first.PatientID
    assert other.StudyInstanceUID != first.StudyInstanceUID
    said = all_values(first)
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert str(datasets[0][keyword].value) not in said
    assert first.SOPClassUID == datasets[0].SOPClassUID


def test_dates_move_by_the_same_days_for_one_person(tmp_path):
    """Intervals between exams stay; the dates do not; another person's move by another number of days."""
    first = deidentify_dataset(one_slice(tmp_path / "a", StudyDate="20240506"), KEY)
    later = deidentify_dataset(one_slice(tmp_path / "b", StudyDate="20250506"), KEY)
    from datetime import datetime

    days = [datetime.strptime(d.StudyDate, "%Y%m%d") for d in (first, later)]
    assert (days[1] - days[0]).days == 365
    assert first.StudyDate != "20240506"
    other = deidentify_dataset(one_slice(tmp_path / "c", StudyDate="20240506", PatientID="P002"), KEY)
    assert other.StudyDate != first.StudyDate
    assert first.LongitudinalTemporalInformationModified == "MODIFIED"
    assert deidentify_dataset(one_slice(tmp_path / "d", StudyDate="2024"), KEY).StudyDate == ""


@pytest.mark.parametrize(
    ("tags", "age"),
    [
        ({"PatientAge": "063Y"}, "063Y"),
        ({"PatientAge": "095Y"}, "090Y"),
        ({"PatientAge": "", "PatientBirthDate": "19300101", "StudyDate": "20240506"}, "090Y"),
        ({"PatientAge": "", "PatientBirthDate": "19600507", "StudyDate": "20240506"}, "063Y"),
        ({"PatientAge": "old", "PatientBirthDate": ""}, None),
    ],
)
def test_age_is_kept_up_to_ninety(tmp_path, tags, age):
    """From the birth date where the header has no age; the birth date itself goes."""
    after = deidentify_dataset(one_slice(tmp_path, **tags), KEY)
    assert after.get("PatientAge") == age
    assert after.PatientBirthDate == ""


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "deidentify-pixels"),
        ({"ImageType": ["DERIVED", "SECONDARY"]}, "deidentify-pixels"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "not-ct"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.34"}, "not-ct"),
        ({"StudyInstanceUID": "no uid!"}, "header-incomplete"),
    ],
)
def test_what_may_show_a_name_is_refused(tmp_path, tags, code):
    """Pixels are not looked at, so what the header warns of is not passed on; results are made again, never cleaned."""
    with pytest.raises(LungscreenError) as caught:
        deidentify_dataset(one_slice(tmp_path, **tags), KEY)
    assert caught.value.code == code


@pytest.mark.parametrize("kind", ["axial", "feet first", "enhanced"])
def test_the_command_writes_series_that_read_as_before(tmp_path, key_file, capsys, kind):
    """HU and geometry are the same, the objects valid, names nowhere in paths; and the run says how many."""
    write_chest(tmp_path / "ct", kind)
    assert main(["deidentify", str(tmp_path / "ct"), "--out", str(tmp_path / "out"), "--key-file", str(key_file)]) == 0
    said = capsys.readouterr()
    files = sorted((tmp_path / "out").rglob("*.dcm"))
    assert f"{len(files)} files" in said.out
    assert len(files) == (1 if kind == "enhanced" else 24)
    assert "Doe" not in said.out + said.err + "".join(map(str, files))
    assert "P001" not in said.out
    before, after = read_chest(tmp_path / "ct"), read_chest(tmp_path / "out")
    assert np.array_equal(before.hu, after.hu)
    assert np.allclose(before.geometry.affine, after.geometry.affine, atol=1e-9)
    assert before.series.acquisition.kernel == after.series.acquisition.kernel
    assert dcmread(files[0]).DeidentificationMethodCodeSequence[0].CodeValue == "113100"
    if kind == "axial":
        was, now = (validator_errors("dciodvfy", [path]) for path in (next((tmp_path / "ct").glob("*.dcm")), files[0]))
        assert {line.split(": ", 1)[1] for line in now} <= {line.split(": ", 1)[1] for line in was}


def test_what_is_refused_is_counted_and_the_rest_goes_on(tmp_path, key_file, capsys):
    """A secondary image and a file that is no DICOM beside a series: exit code 3, the codes, a table."""
    write_chest(tmp_path / "ct")
    other = dcmread(next((tmp_path / "ct").glob("*.dcm")))
    other.SOPClassUID, other.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3.4.5.6"
    other.SeriesInstanceUID = "1.2.3.4.5"
    save(other, tmp_path / "ct" / "screen.dcm")
    table = tmp_path / "refused.csv"
    arguments = ["deidentify", str(tmp_path / "ct"), "--out", str(tmp_path / "out"), "--key-file", str(key_file)]
    assert main([*arguments, "--refused", str(table)]) == 3
    assert "not written: 1 × not-ct" in capsys.readouterr().err
    assert "not-ct" in table.read_text(encoding="utf-8")
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 24
    assert not list((tmp_path / "out").rglob("*.csv")), "the table names the input's files"


def test_a_key_that_others_may_read_is_refused(tmp_path, key_file):
    """Whoever has the key finds the people again."""
    write_chest(tmp_path / "ct")
    key_file.chmod(0o644)
    assert main(["deidentify", str(tmp_path / "ct"), "--out", str(tmp_path / "out"), "--key-file", str(key_file)]) == 2
    assert not (tmp_path / "out").exists()

"""Patient data: what is read, what is refused, whose it is, and what is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungscreen.assess import PLCO_RACES
from lungscreen.clinical import COLUMNS, RACES, match_clinical, read_clinical
from lungscreen.errors import InputError
from lungscreen.records import ClinicalData, Exam, Patient

FULL = {
    "patient_id": "P-1", "accession_number": "A7", "study_date": "2026-03-05", "age": "64", "sex": "F",
    "smoking_status": "former", "pack_years": "32.5", "cigarettes_per_day": "20", "duration_years": "33",
    "years_quit": "4", "family_history": "yes", "emphysema": "no", "prior_cancer": "0", "copd": "TRUE",
    "education": "3", "bmi": "27.5", "race": "White", "immunosuppressed": "n", "prior_exam_date": "20250301",
    "prior_category": "3s", "priority": "urgent",
}  # fmt: skip
UNDERSTOOD = ClinicalData(
    age=64, sex="F", smoking_status="former", pack_years=32.5, cigarettes_per_day=20, duration_years=33, years_quit=4,
    family_history=True, emphysema=False, prior_cancer=False, copd=True, education=3, bmi=27.5, race="white",
    immunosuppressed=False, prior_exam_date="20250301", prior_category="3S", priority="urgent",
)  # fmt: skip
WOMAN = Patient("P-1", "X", "19620101", "F")
EXAM = Exam("1.2.3", "A7", "20260305")


def written(folder, text, name="people.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def table_of(folder, *rows, delimiter=","):
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [delimiter.join(names), *(delimiter.join(row.get(name, "") for name in names) for row in rows)]
    return read_clinical(written(folder, "\r\n".join(lines)))


def codes(notices):
    return [notice.code for notice in notices]


# -- reading ---------------------------------------------------------------------------------------------------------
def test_every_column_is_read(tmp_path):
    table = table_of(tmp_path, FULL)
    (row,) = table.rows["P-1"]
    assert row.data == UNDERSTOOD
    assert (row.number, row.accession_number, row.study_date) == (1, "A7", "20260305")
    assert (table.notices, row.notices) == ((), ())
    assert set(FULL) == set(COLUMNS)


@pytest.mark.parametrize(
    ("encoding", "delimiter"),
    [("utf-8-sig", ","), ("utf-16", ","), ("utf-8", ";"), ("utf-8-sig", ";"), ("utf-8", "\t")],
)
def test_marks_encodings_and_delimiters(tmp_path, encoding, delimiter):
    lines = [delimiter.join(FULL), delimiter.join(FULL.values())]
    table = read_clinical(written(tmp_path, "\n".join(lines), encoding=encoding))
    assert table.rows["P-1"][0].data == UNDERSTOOD
    assert table.notices == ()


def test_decimal_comma_where_commas_separate_nothing(tmp_path):
    table = table_of(tmp_path, {**FULL, "bmi": "27,5"}, delimiter=";")
    assert table.rows["P-1"][0].data.bmi == 27.5


def test_a_quoted_decimal_comma_in_a_comma_file_is_not_understood(tmp_path):
    table = read_clinical(written(tmp_path, 'patient_id,bmi\nP-1,"27,5"\n'))
    assert table.rows["P-1"][0].data.bmi is None
    assert codes(table.rows["P-1"][0].notices) == ["clinical-value"]


def test_a_guessed_encoding_is_said(tmp_path):
    table = read_clinical(written(tmp_path, "patient_id,sex,größe\nP-1,F,2\n", encoding="cp1252"))
    assert codes(table.notices) == ["clinical-encoding", "clinical-columns"]
    assert "größe" in table.notices[1].text


def test_json(tmp_path):
    row = {**FULL, "age": 64, "pack_years": 32.5, "copd": True, "emphysema": False, "education": 3, "priority": None}
    table = read_clinical(written(tmp_path, json.dumps([row]), "people.json"))
    data = table.rows["P-1"][0].data
    assert (data.age, data.pack_years, data.copd, data.emphysema, data.priority) == (64, 32.5, True, False, "")


def test_column_names_are_read_in_any_case_and_with_blanks(tmp_path):
    table = read_clinical(written(tmp_path, " Patient ID ,AGE\nP-1,64\n"))
    assert table.rows["P-1"][0].data.age == 64


def test_unknown_columns_are_named(tmp_path):
    table = read_clinical(written(tmp_path, "patient_id,shoe_size,<script>\nP-1,42,1\n"))
    assert codes(table.notices) == ["clinical-columns"]
    assert "shoe_size" in table.notices[0].text


def test_many_and_nameless_unknown_columns_are_listed_shortly(tmp_path):
    names = ",".join(f"x{number:02d}" for number in range(30))
    table = read_clinical(written(tmp_path, f"patient_id,,{names}\nP-1{',' * 31}\n"))
    assert "and 21 more" in table.notices[0].text
    assert "(no name)" in table.notices[0].text


def test_rows_that_do_not_fit_or_have_no_patient_are_said_and_not_used(tmp_path):
    table = read_clinical(written(tmp_path, "patient_id,age\nP-1,64\nP-2,65,66\nP-3\n,50\n\nP-4,70\n"))
    assert sorted(table.rows) == ["P-1", "P-4"]
    texts = [notice.text for notice in table.notices]
    assert "2, 3" in texts[0]
    assert texts[1].endswith("without a patient_id: 4.")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name,age\nx,3\n",
        "patient_id,age,age\nP-1,3,4\n",
        'patient_id,age\nP-1,"3\n',
        'patient_id,age\n"P"1,3\n',
        "patient_id\0,age\n",
        "patient_id,x\nP," + "y" * 200_000,
        ",".join(["patient_id", *(f"c{n}" for n in range(201))]) + "\n",
        "[",
        "[1, 2]",
        "{}",
        "[]",
        '[{"age": 3}]',
        '[{"patient_id": "a", "patient_id": "b"}]',
        "[" * 100_000,
        '[{"patient_id": ' + "9" * 5000 + "}]",
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text):
    with pytest.raises(InputError) as refused:
        read_clinical(written(tmp_path, text))
    assert refused.value.code == "clinical-invalid"


def test_a_missing_file_a_folder_and_a_huge_file_are_refused(tmp_path, monkeypatch):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="clinical-invalid"):
            read_clinical(path)
    monkeypatch.setattr("lungscreen.cells.MAX_BYTES", 10)
    with pytest.raises(InputError, match="larger"):
        read_clinical(written(tmp_path, "patient_id,age\nP-1,64\n"))


def test_too_many_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("lungscreen.cells.MAX_ROWS", 1)
    with pytest.raises(InputError, match="more than 1 rows"):
        read_clinical(written(tmp_path, "patient_id\nP-1\nP-2\n"))
    with pytest.raises(InputError, match="more than 1 rows"):
        read_clinical(written(tmp_path, '[{"patient_id": "a"}, {"patient_id": "b"}]'))


def test_an_unreadable_file_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path, "patient_id\nP-1\n")

    really = Path.open

    def broken(self, *words, **options):
        if self == path:
            raise PermissionError(13, "Permission denied")
        return really(self, *words, **options)

    monkeypatch.setattr("pathlib.Path.open", broken)
    with pytest.raises(InputError, match="Permission denied"):
        read_clinical(path)


# -- values ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("column", "raw", "value"),
    [
        ("age", "063Y", 63), ("age", "756M", 63), ("age", "63.5", 63.5), ("age", "120", 120), ("age", "0", 0),
        ("sex", "female", "F"), ("sex", "M", "M"), ("smoking_status", "Never", "never"),
        ("family_history", "Y", True), ("copd", "0", False), ("education", "6", 6), ("education", "2.0", 2),
        ("race", "Black or African American", "black"), ("race", "Pacific Islander", "native hawaiian"),
        ("race", "American Indian/Alaska Native", "american indian"), ("prior_category", " 4 a ", "4A"),
        ("prior_exam_date", "2025-12-31", "20251231"), ("bmi", "", None), ("sex", "  ", ""),
    ],
)  # fmt: skip
def test_values_as_tables_write_them(tmp_path, column, raw, value):
    row = table_of(tmp_path, {"patient_id": "P-1", column: raw}).rows["P-1"][0]
    assert getattr(row.data, column) == value
    assert row.notices == ()


@pytest.mark.parametrize(
    ("column", "raw"),
    [
        ("age", "121"), ("age", "-1"), ("age", "abc"), ("age", "nan"), ("age", "1e999"), ("age", "999Y"), ("age", "Y"),
        ("age", "٦٣"), ("age", "6_3"), ("age", "9" * 500), ("sex", "O"), ("sex", "zz"), ("smoking_status", "sometimes"),
        ("pack_years", "-3"), ("pack_years", "401"), ("cigarettes_per_day", "201"), ("duration_years", "121"),
        ("years_quit", "inf"), ("family_history", "maybe"), ("emphysema", "2"), ("education", "0"), ("education", "7"),
        ("education", "2.5"), ("bmi", "7"), ("bmi", "121"), ("race", "martian"), ("prior_exam_date", "20251332"),
        ("prior_exam_date", "31.12.2025"), ("prior_exam_date", "2025"), ("prior_category", "4"), ("prior_category",
        "5"),
        ("priority", "x" * 21), ("priority", "a\x07b"), ("study_date", "yesterday"),
    ],
)  # fmt: skip
def test_what_is_not_understood_counts_as_not_known_and_is_said(tmp_path, column, raw):
    row = table_of(tmp_path, {"patient_id": "P-1", column: raw}).rows["P-1"][0]
    assert row.data == ClinicalData()
    assert row.study_date == ""
    assert codes(row.notices) == ["clinical-age" if column == "age" else "clinical-value"]
    assert raw not in row.notices[0].text
    assert column in row.notices[0].text


def test_json_values_of_another_kind_are_not_understood(tmp_path):
    text = '[{"patient_id": 17, "age": [64], "bmi": {"x": 1}, "pack_years": NaN, "sex": true, "accession_number": {}}]'
    row = read_clinical(written(tmp_path, text)).rows["17"][0]
    assert row.data == ClinicalData()
    assert sorted(codes(row.notices)) == ["clinical-age", "clinical-value", "clinical-value", "clinical-value"]


@pytest.mark.parametrize(
    ("row", "gone"),
    [
        ({"smoking_status": "never", "pack_years": "20"}, ["smoking_status", "pack_years"]),
        ({"smoking_status": "current", "years_quit": "3"}, ["years_quit"]),
        ({"age": "50", "duration_years": "51"}, ["duration_years"]),
        ({"age": "50", "years_quit": "51"}, ["years_quit"]),
        ({"age": "50", "duration_years": "45.5"}, ["duration_years"]),
        ({"age": "60", "duration_years": "40", "years_quit": "15.5"}, ["duration_years", "years_quit"]),
    ],
)
def test_a_row_that_contradicts_itself(tmp_path, row, gone):
    found = table_of(tmp_path, {"patient_id": "P-1", **row}).rows["P-1"][0]
    assert codes(found.notices) == ["clinical-value"]
    assert all(not getattr(found.data, column) for column in gone)


@pytest.mark.parametrize(
    ("duration", "quit_years", "fits"), [("40", "15", True), ("40", "15.1", False), ("56", "", False)]
)
def test_years_of_smoking_and_since_have_to_fit_the_age(tmp_path, duration, quit_years, fits):
    """Both together are at most the age less 5: the row's own age, or the header's where the row has none."""
    row = {"patient_id": "P-1", "duration_years": duration, "years_quit": quit_years}
    (own,) = table_of(tmp_path, {**row, "age": "60"}).rows["P-1"]
    data, notices = match_clinical(table_of(tmp_path, row), Patient("P-1", "", "19660101", "F"), EXAM)
    for found, said in ((own.data, own.notices), (data, notices)):
        assert found.age == 60
        assert (found.duration_years is not None) is fits
        assert codes(said) == ([] if fits else ["clinical-value"])


def test_a_never_smoker_with_zeros_is_no_contradiction(tmp_path):
    row = {"patient_id": "P-1", "smoking_status": "never", "pack_years": "0", "years_quit": "0"}
    assert table_of(tmp_path, row).rows["P-1"][0].notices == ()


def test_races_are_those_that_plco_knows():
    assert set(RACES.values()) == set(PLCO_RACES)


# -- matching --------------------------------------------------------------------------------------------------------
def rows_of(folder, *rows):
    return table_of(folder, *({"patient_id": "P-1", **row} for row in rows))


def test_a_row_is_found_by_patient_and_accession_number(tmp_path):
    data, notices = match_clinical(table_of(tmp_path, FULL), WOMAN, EXAM)
    assert (data, notices) == (UNDERSTOOD, ())


def test_the_row_with_the_accession_number_comes_before_the_one_without(tmp_path):
    table = rows_of(
        tmp_path, {"bmi": "20"}, {"bmi": "30", "accession_number": "A7"}, {"bmi": "40", "accession_number": "B"}
    )
    data, notices = match_clinical(table, WOMAN, EXAM)
    assert (data.bmi, notices) == (30, ())


def test_without_accession_number_the_row_of_the_date_then_the_one_without_a_date(tmp_path):
    dated = {"bmi": "30", "study_date": "20260305"}, {"bmi": "40", "study_date": "20200101"}
    assert match_clinical(rows_of(tmp_path, {"bmi": "20"}, *dated), WOMAN, EXAM)[0].bmi == 30
    assert match_clinical(rows_of(tmp_path, {"bmi": "20"}, dated[1]), WOMAN, EXAM)[0].bmi == 20


def test_an_exam_without_accession_number_takes_a_row_with_one_by_its_date_only(tmp_path):
    exam = Exam("1.2.3", "", "20260305")
    by_date = rows_of(tmp_path, {"bmi": "30", "accession_number": "A7", "study_date": "20260305"})
    assert match_clinical(by_date, WOMAN, exam)[0].bmi == 30
    without = rows_of(tmp_path, {"bmi": "30", "accession_number": "A7"})
    data, notices = match_clinical(without, WOMAN, exam)
    assert data.bmi is None
    assert codes(notices) == ["clinical-unmatched"]


@pytest.mark.parametrize(
    "row",
    [
        {"accession_number": "OTHER"},
        {"study_date": "20200101"},
        {"accession_number": "OTHER", "study_date": "20260305"},
    ],
)
def test_rows_of_other_exams_are_not_used_and_said(tmp_path, row):
    data, notices = match_clinical(rows_of(tmp_path, {"bmi": "30", **row}), WOMAN, EXAM)
    assert data.bmi is None
    assert codes(notices) == ["clinical-unmatched"]
    assert "other exams" in notices[0].text


def test_an_unknown_patient_is_said_and_the_header_stands(tmp_path):
    data, notices = match_clinical(table_of(tmp_path, FULL), Patient("P-2", "Y", "19500101", "M"), EXAM)
    assert data == ClinicalData(age=76, sex="M", from_header=("sex", "age"))
    assert codes(notices) == ["clinical-unmatched"]


def test_a_patient_without_id_matches_nobody(tmp_path):
    table = table_of(tmp_path, {"patient_id": "", "age": "64"}, FULL)
    assert match_clinical(table, Patient(), EXAM)[0] is None


def test_two_rows_that_agree_are_used_and_said(tmp_path):
    data, notices = match_clinical(rows_of(tmp_path, {"bmi": "30"}, {"bmi": "30.0"}), WOMAN, EXAM)
    assert data.bmi == 30
    assert codes(notices) == ["clinical-duplicate"]


def test_two_rows_that_differ_are_not_used_and_said(tmp_path):
    data, notices = match_clinical(rows_of(tmp_path, {"bmi": "30"}, {"bmi": "31"}), WOMAN, EXAM)
    assert data.bmi is None
    assert codes(notices) == ["clinical-duplicate"]
    assert "none is used" in notices[0].text


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"sex": "M"}, "sex"),
        ({"age": "62"}, "age"),  # the header says 64
        ({"age": "66"}, "age"),
        ({"sex": "M", "age": "30"}, "sex and age"),
        ({"accession_number": "A7", "study_date": "20260304"}, "study date"),
    ],
)
def test_a_row_that_contradicts_the_header_is_not_used_at_all(tmp_path, row, words):
    data, notices = match_clinical(rows_of(tmp_path, {"bmi": "30", **row}), WOMAN, EXAM)
    assert data.bmi is None
    assert codes(notices) == ["clinical-contradicts"]
    assert words in notices[0].text
    assert data.sex == "F"  # the header stands


@pytest.mark.parametrize("age", ["63", "64", "65", "64.9"])
def test_a_birthday_in_between_is_no_contradiction(tmp_path, age):
    assert match_clinical(rows_of(tmp_path, {"age": age}), WOMAN, EXAM)[1] == ()


def test_an_age_that_agrees_with_one_of_the_headers_two_is_no_contradiction(tmp_path):
    exam = Exam("1.2.3", "A7", "20260305", age="070Y")
    assert match_clinical(rows_of(tmp_path, {"age": "70"}), WOMAN, exam)[1] == ()


def test_sex_and_age_come_from_the_header_where_the_row_has_none(tmp_path):
    data, _ = match_clinical(rows_of(tmp_path, {"bmi": "30"}), WOMAN, EXAM)
    assert (data.sex, data.age, data.from_header) == ("F", 64, ("sex", "age"))
    kept, _ = match_clinical(rows_of(tmp_path, {"sex": "F", "age": "63"}), WOMAN, EXAM)
    assert (kept.age, kept.from_header) == (63, ())


@pytest.mark.parametrize(
    ("birth", "seen", "field", "age", "impossible"),
    [
        ("19620305", "20260305", "", 64, False),
        ("19620306", "20260305", "", 63, False),
        ("", "20260305", "061Y", 61, False),
        ("", "", "732M", 61, False),
        ("20270101", "20260305", "", None, True),
        ("18500101", "20260305", "", None, True),
        ("18500101", "20260305", "061Y", 61, True),
        ("", "20260305", "999Y", None, True),
        ("garbage", "20260305", "", None, False),
    ],
)
def test_age_from_the_header(birth, seen, field, age, impossible):
    data, notices = match_clinical(None, Patient("P-1", "", birth, "F"), Exam("1", "", seen, age=field))
    assert data.age == age
    assert codes(notices) == (["clinical-age"] if impossible else [])


def test_nothing_known_is_none():
    assert match_clinical(None, Patient("P-1", sex="O"), Exam("1")) == (None, ())


@pytest.mark.parametrize("prior", ["20260305", "20270101"])
def test_a_prior_that_is_not_before_the_exam_counts_as_not_known(tmp_path, prior):
    table = rows_of(tmp_path, {"prior_exam_date": prior, "prior_category": "4B"})
    data, notices = match_clinical(table, WOMAN, EXAM)
    assert (data.prior_exam_date, data.prior_category) == ("", "")
    assert codes(notices) == ["clinical-value"]


def test_notices_of_the_row_come_along_with_it(tmp_path):
    _, notices = match_clinical(rows_of(tmp_path, {"bmi": "huge"}), WOMAN, EXAM)
    assert codes(notices) == ["clinical-value"]


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: ("patient_id,age\n" + text).encode()))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    """No other error than the refusal, whatever the file holds."""
    path = tmp_path_factory.mktemp("hostile") / "people.csv"
    path.write_bytes(data)
    try:
        table = read_clinical(path)
    except InputError:
        return
    for patient_id in table.rows:
        data, notices = match_clinical(table, Patient(patient_id), EXAM)
        assert data is not None or notices or table.rows[patient_id][0].data == ClinicalData()

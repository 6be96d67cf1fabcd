"""`lungscreen grade`: the rules for typed-in numbers, as a user runs it; the page's examples; bad input."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lungscreen.assess import RANK, LungRads
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.cohort import EXAM_HEAD, NODULE_COLUMNS, NODULE_HEAD, grade_cohort, read_typed_nodules

PAGE = Path(__file__).resolve().parents[1] / "docs" / "grade.md"


def table(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def nodules_csv(*rows: dict[str, str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def run(folder: Path, nodules: str, *, exams: str = "", persons: str = "", expect: int = ExitCode.OK) -> Path:
    """Grade what is given, as text; the folder of results."""
    (folder / "nodules.csv").write_text(nodules, encoding="utf-8")
    words = ["grade", str(folder / "nodules.csv"), "--out", str(folder / "out")]
    for option, text in (("--exams", exams), ("--persons", persons)):
        if text:
            (folder / f"{option[2:]}.csv").write_text(text, encoding="utf-8")
            words += [option, str(folder / f"{option[2:]}.csv")]
    assert main(words) == expect
    return folder / "out"


def row(nodule: str = "a", day: str = "2020-01-01", mm: str = "6.0", **more: str) -> dict[str, str]:
    base = {
        "patient_id": "P",
        "exam_date": day,
        "nodule": nodule,
        "type": "solid",
        "long_axis_mm": mm,
        "short_axis_mm": mm,
    }
    return {**base, **more}


def graded(
    folder: Path, *rows: dict[str, str], expect: int = ExitCode.OK, exams: str = ""
) -> dict[tuple[str, str], dict[str, str]]:
    """Rows of graded.csv by nodule and date."""
    out = run(folder, nodules_csv(*rows), expect=expect, exams=exams)
    return {(one["nodule"], one["exam_date"]): one for one in table(out, "graded.csv")}


def exams_of(folder: Path) -> dict[str, dict[str, str]]:
    return {one["exam_date"]: one for one in table(folder / "out", "exams-graded.csv")}


# -- the page --------------------------------------------------------------------------------------------------------
def test_the_worked_examples_of_the_page_come_out_as_it_says(tmp_path: Path) -> None:
    """Every golden value of the rules that can be typed in, through the command."""
    page = PAGE.read_text(encoding="utf-8")
    nodules, exams, persons = re.findall(r"```csv\n(.*?)```", page, flags=re.S)
    out = run(tmp_path, nodules, exams=exams, persons=persons)
    found = {(one["patient_id"], one["exam_date"], one["nodule"]): one for one in table(out, "graded.csv")}
    rows = re.findall(r"^\| (\w+) \| (\d{4}-\d\d-\d\d) \| (\w) \| (\w+) \| (.*?) \|", page, flags=re.M)
    assert len(rows) > 30
    for patient, day, nodule, column, value in rows:
        assert found[patient, day, nodule][column] == value, (patient, day, nodule, column)
    assert len(found) == len(nodules.strip().splitlines()) - 1
    assert table(out, "refused.csv") == []


def test_the_page_names_every_column() -> None:
    page = PAGE.read_text(encoding="utf-8")
    named = set(re.findall(r"`(\w+)`", page))
    assert set(NODULE_COLUMNS) <= named
    for head in (NODULE_HEAD, EXAM_HEAD):
        assert ", ".join(head) in page.replace("\n", " ")


# -- histories -------------------------------------------------------------------------------------------------------
def test_an_exam_takes_its_worst_nodule_and_the_next_one_steps_down(tmp_path: Path) -> None:
    """A category at one exam is the prior category at the next."""
    found = graded(
        tmp_path, row(mm="7.0"), row("b", mm="4.0"), row(day="2020-07-01", mm="7.0"), row("b", "2020-07-01", "4.0")
    )
    assert [found["a", day]["category"] for day in ("2020-01-01", "2020-07-01")] == ["3", "2"]
    assert [exams_of(tmp_path)[day]["category"] for day in ("2020-01-01", "2020-07-01")] == ["3", "2"]
    assert found["a", "2020-07-01"]["compared_with"] == "2020-01-01"


def test_exams_without_nodules_make_new_ones_new_and_lost_ones_resolved(tmp_path: Path) -> None:
    exams = "patient_id,exam_date\nP,2019-01-01\nP,2021-01-01\nQ,2020-05-05\n"
    found = graded(tmp_path, row(mm="6.0"), exams=exams)
    assert (found["a", "2020-01-01"]["state"], found["a", "2020-01-01"]["category"]) == ("new", "4A")
    by_day = exams_of(tmp_path)
    assert [by_day[day]["category"] for day in ("2019-01-01", "2020-01-01", "2021-01-01")] == ["1", "4A", "1"]
    assert (by_day["2021-01-01"]["taken_as_resolved"], by_day["2021-01-01"]["notices"]) == ("a", "taken-as-resolved")
    assert by_day["2020-05-05"]["patient_id"] == "Q"
    assert graded(tmp_path, row(mm="6.0"))["a", "2020-01-01"]["state"] == "baseline"


@pytest.mark.parametrize(("said", "category"), [("", "4A"), ("4B", "4B"), ("4X", "4X"), ("3", "4A")])
def test_the_prior_category_that_is_typed_in_counts_more_than_the_one_worked_out(
    tmp_path: Path, said: str, category: str
) -> None:
    found = graded(tmp_path, row(mm="5.0"), row(day="2020-04-01", mm="7.0", prior_category=said))
    assert found["a", "2020-04-01"]["category"] == category


@pytest.mark.parametrize(
    ("rows", "category"),
    [
        ([row(mm="9.0", prior_category="4B")], "4B"),  # no earlier row at all
        ([row(mm="9.0", prior_category="4B", proven_benign="yes")], "2"),
        ([row(mm="9.0", prior_category="3")], "4A"),
        ([row(mm=""), row(day="2020-07-01", mm="9.0")], "4A"),  # not new, which would be 4B
        ([row(type="cyst", cyst_wall_mm="3"), row(day="2020-07-01", mm="9.0")], "4A"),
        ([row(mm="16"), row(day="2020-04-01", mm=""), row(day="2020-07-01", mm="3.0")], "4B"),
        ([row(mm="16"), row(day="2020-07-01", mm="")], "4B"),
        ([row(mm=""), row(day="2020-07-01", mm="")], "not assessed"),
    ],
)
def test_what_was_there_before_and_cannot_be_compared_is_never_new(
    tmp_path: Path, rows: list[dict[str, str]], category: str
) -> None:
    found = graded(tmp_path, *rows)
    last = found["a", rows[-1]["exam_date"]]
    assert last["category"] == category
    assert last["state"] != "new"


def test_models_say_what_they_lack_and_count_noncalcified_nodules(tmp_path: Path) -> None:
    looks = {"max_transverse_mm": "8", "lobe": "right upper lobe", "spiculation": "no"}
    persons = "patient_id,age,sex,family_history,emphysema\nP,65,F,no,no\n"
    rows = [row(mm="8.0", **looks), row("b", type="calcified"), row("c", type="cyst", cyst_wall_mm="3")]
    out = run(tmp_path, nodules_csv(*rows), persons=persons)
    first, calcified, cyst = table(out, "graded.csv")
    assert first["brock_2a"] == "0.07114"
    assert first["mayo"].startswith("not assessed: needs smoking status")
    assert first["fleischner"] == "not assessed: needs known cancer, immunosuppression, low or high risk"
    assert first["bts"] == "solid, ≥8 mm, Brock <10 %: CT surveillance: at 3 months, then at 12 months"
    assert first["nelson"].startswith("not assessed: needs whether it is based on the pleura")
    assert first["eu"] == "not assessed: needs volume"
    assert calcified["brock_2a"].startswith("not assessed: benign calcification")
    assert cyst["brock_2a"] == "not applicable: a cyst"


def test_fleischner_stands_with_both_risks_and_leaves_typical_perifissural_nodules(tmp_path: Path) -> None:
    persons = "patient_id,age,prior_cancer,immunosuppressed\nP,65,no,no\n"
    typical = row("b", mm="7.0", perifissural="yes", smooth_typical_form="yes")
    out = run(
        tmp_path, nodules_csv(row(mm="7.0", day="2020-01-01"), {**typical, "exam_date": "2020-01-02"}), persons=persons
    )
    plain, perifissural = table(out, "graded.csv")
    assert "low risk: " in plain["fleischner"]
    assert "high risk: " in plain["fleischner"]
    assert "assumed: sections" in plain["fleischner"]
    assert "no routine follow-up CT" in perifissural["fleischner"]
    assert perifissural["category"] == "2"


# -- bad input -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("patient_id,exam_date,nodule,colour\nP,2020-01-01,a,red\n", "colour"),
        ("patient_id,exam_date\nP,2020-01-01\n", "nodule"),
        ("patient_id,exam_date,nodule\nP,2020-01-01\n", "rows 1"),
        ("patient_id,exam_date,nodule,nodule\nP,2020-01-01,a,b\n", "stands twice"),
        ('patient_id,exam_date,nodule\n"P,2020-01-01,a\n', "no CSV"),
        ("", "no column"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_whole(
    text: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(tmp_path, text, expect=ExitCode.FAILED)
    said = capsys.readouterr().err
    assert "nodules-invalid" in said
    assert word in said
    assert not out.exists()


def test_a_table_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grade", str(tmp_path / "none.csv"), "--out", str(tmp_path / "out")]) == ExitCode.FAILED
    assert "nodules-invalid" in capsys.readouterr().err


def test_results_never_replace_an_input(tmp_path: Path) -> None:
    text = nodules_csv(row()).encode()
    (tmp_path / "graded.csv").write_bytes(text)
    assert main(["grade", str(tmp_path / "graded.csv"), "--out", str(tmp_path)]) == ExitCode.USAGE
    assert (tmp_path / "graded.csv").read_bytes() == text


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (row("b", "2019-13-40"), "nodule-row-invalid"),
        (row("b", ""), "nodule-row-invalid"),
        (row("", "2020-01-01"), "nodule-row-invalid"),
        (row("x" * 65), "nodule-row-invalid"),
        (row("b\x07"), "nodule-row-invalid"),
    ],
)
def test_a_row_that_is_refused_keeps_the_exam_from_1_and_2(bad: dict[str, str], code: str, tmp_path: Path) -> None:
    """The 4 mm nodule alone would make it 2."""
    found = graded(tmp_path, row(mm="4.0"), bad, expect=ExitCode.SOME_REFUSED)
    assert found["a", "2020-01-01"]["category"] == "2"
    assert exams_of(tmp_path)["2020-01-01"]["category"] == "not assessed"
    (said,) = table(tmp_path / "out", "refused.csv")
    assert (said["code"], said["path_or_uid"], said["patient_id"]) == (code, "nodules.csv row 2", "P")


def test_two_rows_of_one_nodule_are_both_refused_and_its_later_exam_is_not_stable(tmp_path: Path) -> None:
    rows = [row(mm="4.0"), row(mm="9.0"), row(day="2020-07-01", mm="9.0"), row("b", "2020-07-01", "3.5")]
    found = graded(tmp_path, *rows, expect=ExitCode.SOME_REFUSED)
    assert found["a", "2020-07-01"]["category"] == "not assessed"
    assert "row 1, 2 of the table" in found["a", "2020-07-01"]["reason"]
    assert {day: one["category"] for day, one in exams_of(tmp_path).items()} == {
        "2020-01-01": "not assessed",
        "2020-07-01": "not assessed",
    }
    assert [said["code"] for said in table(tmp_path / "out", "refused.csv")] == ["nodule-duplicate"] * 2


@pytest.mark.parametrize(
    ("cells", "column"),
    [
        ({"long_axis_mm": "six"}, "long_axis_mm"),
        ({"long_axis_mm": "-6"}, "long_axis_mm"),
        ({"long_axis_mm": "0"}, "long_axis_mm"),
        ({"long_axis_mm": "1e300"}, "long_axis_mm"),
        ({"long_axis_mm": "nan"}, "long_axis_mm"),
        ({"short_axis_mm": "9.0"}, "short_axis_mm"),  # more than the long one
        ({"type": "granuloma"}, "type"),
        ({"type": "calcified?"}, "type"),
    ],
)
def test_a_cell_that_is_not_understood_counts_as_not_known(cells: dict[str, str], column: str, tmp_path: Path) -> None:
    found = graded(tmp_path, row(mm="4.0", **cells), expect=ExitCode.SOME_REFUSED)
    assert found["a", "2020-01-01"]["category"] == "not assessed"
    assert "nodule-value" in found["a", "2020-01-01"]["notices"]
    (said,) = table(tmp_path / "out", "refused.csv")
    assert said["code"] == "nodule-value"
    assert column in said["reason"]
    assert exams_of(tmp_path)["2020-01-01"]["category"] == "not assessed"


def test_impossible_exams_and_persons_are_said(tmp_path: Path) -> None:
    exams = "patient_id,exam_date\nP,2019-13-40\n,2020-01-01\n"
    persons = "patient_id,age,sex,smoking_status,cigarettes_per_day,duration_years\nP,400,F,current,0.02,40\n"
    out = run(tmp_path, nodules_csv(row()), exams=exams, persons=persons, expect=ExitCode.SOME_REFUSED)
    assert [said["path_or_uid"] for said in table(out, "refused.csv")] == ["exams.csv row 1", "exams.csv row 2"]
    assert "clinical-age" in table(out, "graded.csv")[0]["notices"]


def test_hostile_text_reaches_no_spreadsheet_as_a_formula(tmp_path: Path) -> None:
    found = graded(tmp_path, {**row(), "patient_id": "=1+1"})
    assert found["a", "2020-01-01"]["patient_id"] == "'=1+1"


def test_semicolons_decimal_commas_and_json(tmp_path: Path) -> None:
    plain = ";".join(("patient_id", "exam_date", "nodule", "type", "long_axis_mm", "short_axis_mm"))
    out = run(tmp_path, f"\ufeff{plain}\nP;20200101;a;ground glass;6,1;5,8\n")
    assert [(one["mean_diameter_mm"], one["category"]) for one in table(out, "graded.csv")] == [("6.0", "2")]
    sizes = '"type": "solid", "long_axis_mm": 8, "short_axis_mm": 8'
    out = run(tmp_path, f'[{{"patient_id": 7, "exam_date": "2020-01-01", "nodule": 1, {sizes}}}]')
    assert table(out, "graded.csv")[0]["category"] == "4A"


def test_a_person_with_too_many_exams_is_refused(tmp_path: Path) -> None:
    days = [f"20{year:02d}-{month:02d}-01" for year in range(10, 20) for month in range(1, 13)]
    run(tmp_path, nodules_csv(*(row(day=day) for day in days)), expect=ExitCode.FAILED)


# -- nothing raises, nothing is lost ---------------------------------------------------------------------------------
CELLS = {
    "type": ["", "solid", "part-solid", "ground-glass", "calcified", "cyst", "airway", "?"],
    "long_axis_mm": ["", "3", "5.9", "8.0", "16", "31", "-1", "x"],
    "short_axis_mm": ["", "3", "5.9", "8", "14"],
    "max_transverse_mm": ["", "0.1", "8", "500"],
    "solid_mean_diameter_mm": ["", "0", "3", "7", "20"],
    "volume_mm3": ["", "0.1", "100", "9999999"],
    "solid_volume_mm3": ["", "0", "90"],
    "juxtapleural": ["", "yes", "no"],
    "perifissural": ["", "yes", "no"],
    "smooth_typical_form": ["", "yes", "no", "maybe"],
    "spiculation": ["", "yes", "no"],
    "lobe": ["", "RUL", "lingula", "RLL"],
    "benign_pattern": ["", "calcification", "fat", "none"],
    "proven_benign": ["", "yes", "no"],
    "suspicious": ["", "yes", "no"],
    "airway_level": ["", "subsegmental", "segmental", "proximal"],
    "airway_air": ["", "yes"],
    "airway_tubular": ["", "yes"],
    "cyst_wall_mm": ["", "0", "1.9", "2", "5"],
    "cyst_loculation": ["", "unilocular", "multilocular"],
    "prior_category": ["", "0", "1", "2", "3", "4A", "4B", "4X", "not assessed"],
}
DAYS = ["2020-01-01", "2020-03-20", "2020-06-15", "2021-01-01", "2023-02-28", "2020-02-30"]
ROW = st.fixed_dictionaries(
    {
        "patient_id": st.sampled_from(["P", "Q", ""]),
        "exam_date": st.sampled_from(DAYS),
        "nodule": st.sampled_from(["a", "b"]),
        **{name: st.sampled_from(values) for name, values in CELLS.items()},
    }
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(ROW, min_size=1, max_size=8))
def test_whatever_is_typed_in_every_row_has_an_answer(tmp_path: Path, rows: list[dict[str, str]]) -> None:
    """Every row is graded or refused; no cell is empty that needs a reason; no exam hides its worst nodule."""
    path = tmp_path / "random.csv"
    path.write_text(nodules_csv(*rows), encoding="utf-8")
    typed = read_typed_nodules(path)
    found, exams = grade_cohort(typed)
    rows_refused = {said.where for said in typed.refused if said.code != "nodule-value"}
    assert len(found) + len(rows_refused) == len(rows)
    for one in found:
        assert one.lesion.category.reason
        said = one.opinions
        assert all((said.doubling_days, *said.brock, said.mayo, said.fleischner, said.bts, said.nelson, said.eu))
    for exam in exams:
        worst = [
            one.lesion.category.name
            for one in found
            if (one.row.patient_id, one.row.day) == (exam.patient_id, exam.day)
        ]
        rank = max((RANK.get(name, 0) for name in worst), default=0)
        if exam.category.name is LungRads.NOT_ASSESSED:
            assert rank < RANK[LungRads.PROBABLY_BENIGN]
        elif exam.category.name is not LungRads.INCOMPLETE:
            assert RANK[exam.category.name] == max(rank, 1)

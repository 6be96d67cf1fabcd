"""Whole reports against annotations: what counts as a false alarm, which category a nodule should have, ranks."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_examples import make_finding, make_report, make_volume, study_of, write_report

from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.errors import InputError
from lungscreen.evaluation import Nodules, ScreenedExam, evaluate_screening, read_exams
from lungscreen.results.build import build_finding
from lungscreen.results.document import ReportedFinding, ReportedMark


def finding(number: int, x: float, category: str | None) -> ReportedFinding:
    """A solid nodule of 8 mm."""
    volume = make_volume()
    found = build_finding(make_finding(volume), volume)
    size = replace(found.measurement, mean_diameter_mm=8.0)
    return replace(found, number=number, position_mm=(x, 20.0, -300.0), category=category, measurement=size)


def exam(uid: str, *findings: ReportedFinding, no_nodules: tuple[ReportedMark, ...] = ()) -> ScreenedExam:
    return ScreenedExam(uid, f"study {uid}", "2", findings, no_nodules)


def nodules(*rows: tuple[str, float, float, str]) -> Nodules:
    """Series, x, diameter and type of each."""
    centres = np.array([[x, 20.0, -300.0] for _, x, _, _ in rows]).reshape(-1, 3)
    sizes = np.array([size for _, _, size, _ in rows])
    return Nodules(tuple(uid for uid, *_ in rows), centres, sizes, tuple(kind for *_, kind in rows))


def only_exam(result: Any) -> dict[str, Any]:
    (row,) = result.exams
    return dict(row)


@pytest.mark.parametrize(
    ("true", "false", "because", "has"),
    [
        (None, "3", True, True),
        (None, "2", False, False),
        ("4A", "4A", False, True),
        ("4A", "4B", True, True),
        ("2", "3", True, True),
        ("4B", "3", False, True),
        (None, None, False, False),
        (None, "not assessed", False, False),
    ],
)
def test_an_exam_is_positive_because_of_a_false_finding(
    true: str | None, false: str | None, because: bool, has: bool
) -> None:
    """Only where no annotated nodule has a category as high."""
    findings = [finding(1, 50.0, false)] + ([finding(2, 1.0, true)] if true else [])
    row = only_exam(evaluate_screening([exam("1", *findings)], nodules(("1", 0.0, 8.0, "solid")), Nodules.none()))
    assert (row["positive_by_false_finding"], row["has_positive_false_finding"]) == (because, has)
    assert row["false_findings"] == 1


def test_a_second_finding_in_a_nodule_is_not_false() -> None:
    """Both lie within its radius; the more suspicious one counts, the other is no false alarm."""
    result = evaluate_screening(
        [exam("1", finding(1, 60.0, "2"), finding(2, 1.0, "4A"), finding(3, -2.0, "3"))],
        nodules(("1", 0.0, 8.0, "solid")),
        Nodules.none(),
    )
    (row,) = result.nodules
    assert (row["finding"], row["category"]) == (2, "4A")
    assert [false["finding"] for false in result.false_findings] == [1]
    assert result.figures["rank"] == {"first": 0, "up_to_three": 1, "median": 2.0, "lowest": 2}


def test_the_radius_is_strict_and_excluded_findings_count_neither_way() -> None:
    """At exactly the radius it is no hit; what lies in an excluded finding is neither true nor false."""
    found = [finding(1, 4.0, "4B"), finding(2, 100.0, "4B")]
    without = evaluate_screening([exam("1", *found)], nodules(("1", 0.0, 8.0, "solid")), Nodules.none())
    assert (only_exam(without)["false_findings"], without.nodules[0]["finding"]) == (2, None)
    excluded = nodules(("1", 100.0, 6.0, ""))
    apart = evaluate_screening([exam("1", *found)], nodules(("1", 0.0, 8.0, "solid")), excluded)
    assert [row["finding"] for row in apart.false_findings] == [1]


@pytest.mark.parametrize(
    ("size", "kind", "expected"),
    [
        (5.9, "solid", "2"),
        (6.0, "solid", "3"),
        (8.0, "solid", "4A"),
        (15.0, "solid", "4B"),
        (29.0, "ground-glass", "2"),
        (30.0, "1", "3"),
        (5.0, "3", "2"),
        (9.0, "part-solid", "not assessed"),
        (9.0, "5", "4A"),
        (-1.0, "solid", "not assessed"),
        (9.0, "?", "4A"),
    ],
)
def test_the_category_that_size_and_type_give(size: float, kind: str, expected: str) -> None:
    """By the baseline rows; a part-solid nodule of 6 mm needs its solid part; an unknown type is taken for solid."""
    result = evaluate_screening([exam("1")], nodules(("1", 0.0, size, kind)), Nodules.none())
    assert result.nodules[0]["expected_category"] == expected
    assert ("type-assumed" in {notice.code for notice in result.notices}) == (kind == "?")


def test_categories_are_compared_where_both_are_known() -> None:
    exams = [
        exam("1", finding(1, 0.0, "4A")),
        exam("2", finding(1, 0.0, "3")),
        exam("3", finding(1, 0.0, "not assessed")),
        exam("4"),
        exam("5", finding(1, 0.0, "4B")),
    ]
    annotated = nodules(*((str(n), 0.0, 9.0, "solid") for n in (1, 2, 3, 4, 5, 9)))
    figures = evaluate_screening(exams, annotated, Nodules.none()).figures
    assert (figures["category_differs"]["found"], figures["category_differs"]["of"]) == (2, 3)
    assert (figures["category_lower"]["found"], figures["category_lower"]["of"]) == (1, 3)
    assert (figures["nodules_found"]["found"], figures["nodules_found"]["of"]) == (4, 5)
    assert figures["nodules_elsewhere"] == 1


def test_agreement_of_categories_is_a_table_with_a_weighted_kappa() -> None:
    """By hand: expected 2, 3, 4B, given 2, 4A, 4B. One step apart in one of three; chance alone gives 1.4444 steps."""
    found = exam("a", finding(1, 0, "2"), finding(2, 50, "4A"), finding(3, 100, "4B"), finding(4, 200, "3"))
    known = nodules(("a", 0, 5, "solid"), ("a", 50, 7, "solid"), ("a", 100, 20, "solid"))
    figures = evaluate_screening([found], known, Nodules.none()).figures
    agreement = figures["category_agreement"]
    assert agreement["categories"] == ["2", "3", "4A", "4B"]
    assert agreement["counts"] == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]
    assert agreement["kappa"] == pytest.approx(1 - (1 / 3) / (13 / 9))
    assert (figures["positive_false_findings"], figures["positive_false_findings_per_exam"]) == (1, 1.0)


def test_doubtful_findings_are_counted_apart_and_decide_nothing() -> None:
    """A false 4B that is doubtful makes no exam positive; a nodule that only a doubtful finding hits is told."""
    doubtful = replace(finding(1, 50.0, "4B"), doubtful=True)
    result = evaluate_screening(
        [exam("a", doubtful, finding(2, 80.0, "2"), replace(finding(3, 0.0, "3"), doubtful=True))],
        nodules(("a", 0.0, 8.0, "5")), Nodules.none(),
    )  # fmt: skip
    row, (one,) = only_exam(result), result.nodules
    assert (row["positive_false_findings"], row["doubtful_positive_false_findings"], row["doubtful_findings"]) == (
        0,
        1,
        2,
    )
    assert not row["positive_by_false_finding"]
    assert (one["finding"], one["doubtful"], one["false_before"]) == (3, True, 2)
    assert (result.figures["nodules_doubtful"], result.figures["most_false_before_a_nodule"]) == (1, 2)
    assert sorted(row["doubtful"] for row in result.false_findings) == [False, True]


def test_a_nodule_that_the_second_look_dropped_is_told() -> None:
    dropped = ReportedMark(
        number=1, position_mm=(1.0, 20.0, -300.0), side="left", zone="upper", slice_from_top=1, instance_number=None,
        detection_score=0.3, nodule_probability=0.02, mean_diameter_mm=None,
    )  # fmt: skip
    annotated = nodules(("1", 0.0, 8.0, "solid"), ("2", 0.0, 8.0, "solid"))
    exams = [exam("1", no_nodules=(dropped,)), exam("2")]
    result = evaluate_screening(exams, annotated, Nodules.none())
    assert [row["taken_for_no_nodule"] for row in result.nodules] == [True, False]
    assert (result.figures["nodules_taken_for_none"], result.figures["marks_taken_for_none"]) == (1, 1)


def test_no_nodule_and_no_finding_at_all() -> None:
    figures = evaluate_screening([exam("1"), exam("2")], Nodules.none(), Nodules.none()).figures
    assert (figures["false_findings_per_exam"], figures["nodules"]) == (0.0, 0)
    assert figures["nodules_found"]["value"] is None
    assert figures["rank"]["median"] is None


# -- from files to files ---------------------------------------------------------------------------------------------
@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Two screened studies: a true and a false finding in one, nothing in the other."""
    out = tmp_path / "results"
    volume = make_volume()
    far = make_finding(volume, (18, 40, 50), 0.4, 0.1, category="4B")
    dropped = make_finding(volume, (3, 9, 9), 0.3, None, number=1, nodule_probability=0.02)
    report = make_report(make_finding(volume, category="4A"), far, volume=volume, no_nodules=(dropped,))
    write_report(report, out)
    series = replace(volume.series, series_uid="1.9.5")
    write_report(make_report(volume=replace(volume, series=series), study=study_of("1.9")), out)
    return out


def annotations(path: Path, *rows: str) -> Path:
    path.write_text("\n".join(("seriesuid,coordX,coordY,coordZ,diameter_mm,type", *rows)) + "\n", encoding="utf-8")
    return path


def test_the_command_reads_what_screen_writes(
    results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = annotations(tmp_path / "a.csv", "1.2.3.4.5,-9,27,-275,11,solid", "7.7,0,0,0,5,solid")
    out = tmp_path / "out"
    words = ["evaluate", "screening", "--results", str(results), "--annotations", str(table), "--out", str(out)]
    assert main(words) == ExitCode.OK
    seen = capsys.readouterr()
    assert "category 3 or more because of a finding that is no annotated nodule: 1 of 2" in seen.out
    assert "series-not-listed" in seen.err
    figures = json.loads((out / "evaluation.json").read_text())
    assert (figures["kind"], figures["exams"], figures["false_findings"]) == ("screening", 2, 1)
    with (out / "nodules.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["finding"], row["category"], row["expected_category"], row["differs"]) == ("2", "4A", "4A", "False")
    with (out / "exams.csv").open() as file:
        assert [row["no_nodules"] for row in csv.DictReader(file)] in (["0", "1"], ["1", "0"])
    with (out / "false_findings.csv").open() as file:
        assert [row["category"] for row in csv.DictReader(file)] == ["4B"]


def test_a_header_alone_is_no_nodule_at_all(results: Path, tmp_path: Path) -> None:
    table = annotations(tmp_path / "none.csv")
    words = [
        "evaluate",
        "screening",
        "--results",
        str(results),
        "--annotations",
        str(table),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(words) == ExitCode.OK
    assert json.loads((tmp_path / "o" / "evaluation.json").read_text())["false_findings"] == 2


def test_what_cannot_be_read_is_refused(results: Path, tmp_path: Path) -> None:
    """A folder without reports, a damaged report, one series twice."""
    with pytest.raises(InputError) as caught:
        read_exams([tmp_path / "nothing"])
    assert caught.value.code == "input-missing"
    with pytest.raises(InputError) as caught:
        read_exams([results, results])
    assert caught.value.code == "series-duplicate"
    path = next(results.glob("studies/*/report.json"))
    path.write_text('{"series": 3}')
    with pytest.raises(InputError) as caught:
        read_exams([results])
    assert caught.value.code == "table-unreadable"


def test_places_that_are_no_numbers_are_refused(results: Path) -> None:
    path = next(p for p in results.glob("studies/*/report.json") if json.loads(p.read_text())["findings"])
    document = json.loads(path.read_text())
    document["findings"][0]["position_mm"] = [1.0, None, 2.0]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="no report"):
        read_exams([results])

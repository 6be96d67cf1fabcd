"""`lungscreen evaluate detection`: LUNA16's rules, the challenge's own figures, and what is refused or said."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import shared_folder

from lungscreen.cli.main import main
from lungscreen.errors import LungscreenError
from lungscreen.evaluation import (
    DetectionConfig,
    MarkTable,
    Nodules,
    evaluate_detection,
    plots,
    read_marks,
    read_nodules,
    read_series_list,
    write_detection,
)

CASES = ("A_small", "B_full888", "C_perfect", "D_rules")
COUNTS = (
    "scans",
    "nodules",
    "rows_in_candidates_csv",
    "total_candidates",
    "tp",
    "fp",
    "fn",
    "ignored_excluded",
    "double_ignored",
    "max_sensitivity",
    "candidates_per_scan",
    "fp_rates",
    "sensitivity",
    "cpm",
)
QUICK = DetectionConfig(bootstrap_samples=20)


def marks(*rows: tuple[str, float, float, float, float]) -> MarkTable:
    return MarkTable(
        tuple(r[0] for r in rows), np.array([r[1:4] for r in rows]).reshape(-1, 3), np.array([r[4] for r in rows])
    )


def nodules(*rows: tuple[str, float, float, float, float], types: tuple[str, ...] = ()) -> Nodules:
    found = marks(*rows)
    return Nodules(found.series, found.centres_mm, found.scores, types)


def close(actual: object, expected: object, where: str = "") -> None:
    """Equal within 1e-6, None included."""
    if isinstance(expected, list):
        assert isinstance(actual, list), where
        assert len(actual) == len(expected), where
        for n, (a, e) in enumerate(zip(actual, expected, strict=True)):
            close(a, e, f"{where}[{n}]")
    elif expected is None or actual is None:
        assert actual is expected, where
    else:
        assert actual == pytest.approx(expected, abs=1e-6, rel=0), where


# -- the challenge's own figures -------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CASES)
def test_golden_case(case: str, tmp_path: Path) -> None:
    """evaluation.json holds the figures of the challenge's own script, to 1e-6, through the command line."""
    folder = shared_folder("data", "froc", case)
    expected = json.loads((folder / "expected.json").read_text())
    tables = {name: next(folder.glob(f"{name}.csv*")) for name in ("candidates", "annotations", "seriesuids")}
    excluded = next(folder.glob("annotations_excluded.csv*"))
    command = ["evaluate", "detection", "--candidates", str(tables["candidates"]), "--excluded", str(excluded)]
    command += ["--annotations", str(tables["annotations"]), "--series", str(tables["seriesuids"])]
    started = time.process_time()
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert time.process_time() - started < 20
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    for name in COUNTS:
        close(written[name], expected[name], name)
    assert written["bootstrap"]["nan_samples"] == expected["bootstrap"]["nan_samples"]
    for kind in ("at_exact_rates", "at_exact_rates_integer_fp"):
        for bound in ("mean", "lower", "upper"):
            close(written["bootstrap"][kind][bound], expected["bootstrap"][kind][bound], f"{kind} {bound}")
    for name, values in golden_curve(folder, expected).items():
        close(written["froc_curve"][name], values, name)


def golden_curve(folder: Path, expected: dict) -> dict[str, list]:
    if isinstance(expected["froc_curve"], dict):
        return {name: expected["froc_curve"][name] for name in ("fp_per_scan", "sensitivity", "threshold")}
    with gzip.open(folder / expected["froc_curve"], "rt") as file:
        rows = list(csv.DictReader(file))
    numbers = {name: [float(row[name]) for row in rows] for name in rows[0]}
    return numbers | {"threshold": [None, *numbers["threshold"][1:]]}


# -- the rules, one by one -------------------------------------------------------------------------------------------
def test_mark_exactly_on_the_sphere_is_no_hit() -> None:
    result = evaluate_detection(
        marks(("a", 5, 0, 0, 0.9), ("a", 0, 4.9999999, 0, 0.5)),
        nodules(("a", 0, 0, 0, 10)),
        Nodules.none(),
        ["a"],
        QUICK,
    )
    assert result.figures["tp"] == 1
    assert result.figures["fp"] == 1
    assert result.outcomes[0].score == 0.5
    assert result.outcomes[0].false_marks_above == 1


def test_unknown_diameter_means_ten_millimetres_and_zero_cannot_be_hit() -> None:
    truth = nodules(("a", 0, 0, 0, -1), ("a", 50, 0, 0, 0))
    result = evaluate_detection(marks(("a", 0, 0, 4.9, 2), ("a", 50, 0, 0, 1)), truth, Nodules.none(), ["a"], QUICK)
    assert [o.score for o in result.outcomes] == [2, None]
    assert result.figures["by_diameter"][-1] | {"lower": 0, "upper": 0} == {
        "from_mm": None,
        "below_mm": None,
        "nodules": 1,
        "tp": 1,
        "sensitivity": [1.0] * 7,
        "lower": 0,
        "upper": 0,
    }


def test_excluded_findings_swallow_false_marks_but_no_hits() -> None:
    truth, excluded = nodules(("a", 0, 0, 0, 10)), nodules(("a", 0, 0, 0, 40))
    found = marks(("a", 0, 0, 0, 0.3), ("a", 0, 0, 10, 0.9), ("a", 0, 0, 30, 0.8))
    result = evaluate_detection(found, truth, excluded, ["a"], QUICK)
    assert (result.figures["tp"], result.figures["fp"], result.figures["ignored_excluded"]) == (1, 1, 1)
    assert result.worst_false[0].centre_mm == (0, 0, 30)


def test_highest_mark_inside_counts_and_the_others_vanish() -> None:
    found = marks(("a", 1, 0, 0, 0.3), ("a", 0, 0, 0, 0.2), ("a", 2, 0, 0, 0.7))
    result = evaluate_detection(found, nodules(("a", 0, 0, 0, 10)), Nodules.none(), ["a"], QUICK)
    assert (result.figures["fp"], result.figures["double_ignored"]) == (0, 2)
    assert result.outcomes[0].score == 0.7


def test_each_scan_is_listed_at_the_operating_point(tmp_path: Path) -> None:
    """Rank counts every mark of the scan, "above" only the false ones; an excluded finding's mark harms nobody."""
    found = marks(
        ("a", 50, 0, 0, 0.9), ("a", 90, 0, 0, 0.8), ("a", 0, 0, 0, 0.7), ("a", 0, 40, 0, 0.3), ("a", 30, 0, 0, 0.2),
        ("b", 5, 5, 5, 0.6), ("b", 80, 5, 5, 0.5),
    )  # fmt: skip
    known = nodules(("a", 0, 0, 0, 8), ("a", 0, 40, 0, 8), ("a", 0, 0, 70, 8))
    excluded = nodules(("a", 90, 0, 0, -1))
    config = dataclasses.replace(QUICK, threshold=0.5)
    result = evaluate_detection(found, known, excluded, ["c", "a", "b"], config)
    assert [(o.rank, o.false_marks_above) for o in result.outcomes] == [(3, 1), (4, 1), (None, None)]
    assert [dataclasses.astuple(scan) for scan in result.scans] == [
        ("c", 0, 0, 0, None, 0, 0),
        ("a", 3, 2, 2, 0.9, 1, 1),
        ("b", 0, 0, 2, 0.6, 0, 2),
    ]
    point = result.figures["at_threshold"]
    assert (point["sensitivity"]["found"], point["sensitivity"]["of"]) == (1, 3)
    assert (point["false_marks"], point["false_per_scan"], point["most_in_a_scan"]) == (3, 1.0, 2)
    assert (point["scans_without"], point["false_per_scan_sd"]) == (1, 1.0)
    write_detection(result, tmp_path, {})
    rows = list(csv.DictReader((tmp_path / "scans.csv").read_text().splitlines()))
    assert [row["false_at"] for row in rows] == ["0", "1", "2"]
    rows = list(csv.DictReader((tmp_path / "nodules.csv").read_text().splitlines()))
    assert [row["rank"] for row in rows] == ["3", "4", ""]


def test_without_an_operating_point_nothing_stands_at_one() -> None:
    result = evaluate_detection(marks(("a", 0, 0, 0, 0.7)), nodules(("a", 0, 0, 0, 8)), Nodules.none(), ["a"], QUICK)
    assert result.figures["at_threshold"] is None
    assert (result.scans[0].found_at, result.scans[0].false_at) == (None, None)


def test_scans_without_marks_are_in_the_divisor() -> None:
    found, truth = marks(("a", 0, 0, 0, 0.4), ("a", 90, 0, 0, 0.9)), nodules(("a", 0, 0, 0, 10))
    alone = evaluate_detection(found, truth, Nodules.none(), ["a"], QUICK)
    among_eight = evaluate_detection(found, truth, Nodules.none(), [*"abcdefgh"], QUICK)
    assert alone.figures["sensitivity"][:4] == [0, 0, 0, 1]
    assert among_eight.figures["sensitivity"][0] == 1
    assert among_eight.outcomes[0].fp_per_scan == 1 / 8


def test_cut_drops_all_marks_that_tie_with_the_first_one_too_many() -> None:
    rows = [("a", float(n), 99.0, 0.0, 0.5 if n > 1 else 0.9) for n in range(6)]
    truth = nodules(("a", 0, 0, 0, 10))
    cut = evaluate_detection(marks(*rows), truth, Nodules.none(), ["a"], dataclasses.replace(QUICK, max_marks=4))
    assert (cut.figures["total_candidates"], cut.figures["cut_off"]) == (2, 4)
    assert "marks-cut" in [notice.code for notice in cut.notices]
    whole = evaluate_detection(marks(*rows), truth, Nodules.none(), ["a"], dataclasses.replace(QUICK, max_marks=None))
    assert whole.figures["fp"] == 6


def test_ties_of_hits_and_false_marks_are_interpolated() -> None:
    """One threshold takes a hit and two false marks at once: halfway there, half a hit."""
    found = marks(("a", 0, 0, 0, 0.5), ("a", 90, 0, 0, 0.5), ("a", -90, 0, 0, 0.5))
    result = evaluate_detection(found, nodules(("a", 0, 0, 0, 10)), Nodules.none(), ["a"], QUICK)
    assert result.figures["sensitivity"][3] == 0.5


def test_types_and_diameters_are_reported_apart() -> None:
    truth = nodules(("a", 0, 0, 0, 5), ("b", 0, 0, 0, 9), ("b", 50, 0, 0, 9), types=("solid", "ground-glass", ""))
    found = marks(("a", 0, 0, 0, 0.9), ("b", 50, 0, 0, 0.8), ("b", 0, 30, 0, 0.85))
    figures = evaluate_detection(found, truth, Nodules.none(), ["a", "b"], QUICK).figures
    by_type = {group["type"]: group for group in figures["by_type"]}
    assert by_type["solid"]["sensitivity"] == [1.0] * 7
    assert by_type["ground-glass"]["sensitivity"] == [0.0] * 7
    assert by_type["unknown"]["sensitivity"] == [0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    groups = {group["from_mm"]: group for group in figures["by_diameter"]}
    assert (groups[4.0]["nodules"], groups[8.0]["nodules"], groups[8.0]["tp"]) == (1, 2, 1)
    assert groups[30.0]["sensitivity"] == [None] * 7
    assert groups[30.0]["lower"] == [None] * 7


def test_missed_nodules_say_what_lay_nearest() -> None:
    truth = nodules(("a", 0, 0, 0, 6), ("b", 0, 0, 0, 8), ("c", 0, 0, 0, 4))
    found = marks(("a", 0, 0, 4, 0.9), ("c", 0, 0, 0, 0.1))
    missed = evaluate_detection(found, truth, Nodules.none(), ["a", "b", "c"], QUICK).missed
    assert [(o.series_uid, o.nearest_mark_mm, o.nearest_mark_score) for o in missed] == [
        ("b", None, None),
        ("a", 4.0, 0.9),
    ]


def test_same_seed_same_bootstrap_and_another_seed_differs() -> None:
    rng = np.random.default_rng(3)
    series = [str(n) for n in range(12)]
    truth = nodules(*[(uid, 0, 0, 0, 8) for uid in series])
    found = marks(*[(uid, x, 0, 0, rng.random()) for uid in series for x in (0, 40, 80)])
    first, same, other = (
        evaluate_detection(found, truth, Nodules.none(), series, dataclasses.replace(QUICK, seed=seed)).figures
        for seed in (0, 0, 1)
    )
    assert first["bootstrap"] == same["bootstrap"]
    assert first["bootstrap"]["at_exact_rates"] != other["bootstrap"]["at_exact_rates"]


# -- undefined figures are null, and said -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("found", "truth"),
    [
        (marks(("a", 90, 0, 0, 0.9)), nodules(("a", 0, 0, 0, 10))),
        (marks(), nodules(("a", 0, 0, 0, 10))),
        (marks(("a", 0, 0, 0, 0.9)), Nodules.none()),
        (marks(), Nodules.none()),
    ],
    ids=["no hit", "no mark", "no nodule", "nothing at all"],
)
def test_undefined_figures_are_null(found: MarkTable, truth: Nodules, tmp_path: Path) -> None:
    result = evaluate_detection(found, truth, Nodules.none(), ["a", "b"], QUICK)
    write_detection(result, tmp_path, {})
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["cpm"] is None
    assert written["sensitivity"] == [None] * 7
    assert written["froc_curve"]["threshold"] == []
    assert written["max_sensitivity"] == (0.0 if truth.series else None)
    assert "figures-undefined" in [notice["code"] for notice in written["notices"]]
    assert "picture-missing" in [notice["code"] for notice in written["notices"]]
    assert not (tmp_path / "froc.png").exists()


# -- refused ---------------------------------------------------------------------------------------------------------
CANDIDATES = "seriesuid,coordX,coordY,coordZ,probability\na,0,0,0,0.5\n"
ANNOTATIONS = "seriesuid,coordX,coordY,coordZ,diameter_mm\na,0,0,0,8\n"


@pytest.fixture
def tables(tmp_path: Path) -> dict[str, Path]:
    paths = {name: tmp_path / f"{name}.csv" for name in ("candidates", "annotations", "series")}
    for path, text in zip(paths.values(), (CANDIDATES, ANNOTATIONS, "a\nb\n"), strict=True):
        path.write_text(text)
    return paths


def evaluate(tables: dict[str, Path], out: Path) -> int:
    return main(
        ["evaluate", "detection", "--out", str(out), *(w for n, p in tables.items() for w in (f"--{n}", str(p)))]
    )


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("candidates", "", "table-empty"),
        ("series", "", "table-empty"),
        ("series", "seriesuid\n", "table-empty"),
        ("candidates", "seriesuid,coordX,coordY,coordZ\na,0,0,0\n", "table-column-missing"),
        ("annotations", "seriesuid,coordX,coordY,coordZ\na,0,0,0\n", "table-column-missing"),
        ("candidates", CANDIDATES + "a,0,0,0,nan\n", "table-value-invalid"),
        ("candidates", CANDIDATES + "a,0,0,0,inf\n", "table-value-invalid"),
        ("candidates", CANDIDATES + "a,0,0,0,high\n", "table-value-invalid"),
        ("candidates", CANDIDATES + "a,0,1e9,0,0.5\n", "table-value-invalid"),
        ("candidates", CANDIDATES + "a,0,0\n", "table-value-invalid"),
        ("candidates", CANDIDATES + ",0,0,0,0.5\n", "table-value-invalid"),
        ("series", "a\n,x\n", "table-value-invalid"),
        ("series", "a\nb\na\n", "series-duplicate"),
        ("series", "c\nd\n", "series-none-match"),
        ("annotations", ANNOTATIONS + "a,0,0,0,8\n", "annotations-duplicate"),
        ("candidates", "\x00\x01,\n", "table-column-missing"),
        ("candidates", 'a,"b\n', "table-unreadable"),
    ],
)
def test_bad_table_is_refused(
    tables: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str, code: str
) -> None:
    """One line with the code, exit code 1, nothing written."""
    tables[name].write_text(content)
    assert evaluate(tables, tmp_path / "out") == 1
    assert f"lungscreen: {code}:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_text_are_refused(tables: dict[str, Path], tmp_path: Path) -> None:
    broken = {
        "bytes.csv": b"\xff\xfe\x00\x81",
        "short.csv.gz": gzip.compress(CANDIDATES.encode())[:-9],
        "no.csv.gz": b"no",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(LungscreenError, match="table-unreadable"):
            read_marks(tmp_path / name)
    with pytest.raises(LungscreenError, match="input-missing"):
        read_marks(tmp_path / "absent.csv")


def test_compressed_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungscreen.evaluation.tables.LARGEST_TABLE", 1 << 12)
    (tmp_path / "bomb.csv.gz").write_bytes(gzip.compress(b"a" * (1 << 16)))
    with pytest.raises(LungscreenError, match="table-unreadable"):
        read_nodules(tmp_path / "bomb.csv.gz")


@pytest.mark.parametrize("limit", ["0", "-3", "many"])
def test_wrong_limit_is_a_usage_error(tables: dict[str, Path], tmp_path: Path, limit: str) -> None:
    words = ["--max-marks", limit, *(w for n, p in tables.items() for w in (f"--{n}", str(p)))]
    try:
        code = main(["evaluate", "detection", "--out", str(tmp_path / "out"), *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": ()},
        {"rates": (1.0, 0.5)},
        {"rates": (0.0, 1.0)},
        {"bootstrap_samples": 0},
        {"worst": -1},
        {"confidence": 1.0},
        {"diameter_edges_mm": (8.0, 4.0)},
        {"threshold": float("nan")},
    ],
)
def test_config_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DetectionConfig(**wrong)


def test_the_operating_point_is_shown(tables: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [w for n, p in tables.items() for w in (f"--{n}", str(p))]
    assert main(["evaluate", "detection", "--out", str(tmp_path / "out"), *words, "--threshold", "2"]) == 0
    assert "at score 2: 0 of " in capsys.readouterr().out
    point = json.loads((tmp_path / "out" / "evaluation.json").read_text())["at_threshold"]
    assert (point["threshold"], point["false_marks"], point["scans_without"]) == (2.0, 0, 2)


# -- said ------------------------------------------------------------------------------------------------------------
def test_unlisted_series_and_repeated_marks_are_said(
    tables: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tables["candidates"].write_text(CANDIDATES + "a,0,0,0,0.5\n" + "zz,1,1,1,0.9\n" + "b,7,7,7,0.1,surplus\n")
    tables["annotations"].write_text(ANNOTATIONS + "yy,0,0,0,5\n")
    assert evaluate(tables, tmp_path / "out") == 0
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    codes = [notice["code"] for notice in written["notices"]]
    assert codes == [
        "table-extra-cells",
        "series-not-listed",
        "series-not-listed",
        "marks-duplicate",
        "figures-undefined",
    ]
    assert (written["nodules"], written["fp"], written["double_ignored"]) == (1, 1, 1)
    captured = capsys.readouterr()
    assert "zz" in captured.err
    assert captured.out.splitlines()[0] == "scans 2, nodules 1: found 1, missed 0, false marks 1"


def test_a_header_in_the_list_of_series_is_no_scan(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("SeriesUID,subset\na,1\n\nb,2\n")
    assert read_series_list(tmp_path / "s.csv") == ("a", "b")


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    """The project's own names, other columns between them, a byte order mark."""
    (tmp_path / "n.csv").write_text("\ufeffType,z_mm,x_mm,other,y_mm,diameter_mm,series_uid\nsolid,3,1,?,2,9,a\n")
    found = read_nodules(tmp_path / "n.csv")
    assert found.centres_mm.tolist() == [[1, 2, 3]]
    assert (found.types, found.series, found.diameters_mm.tolist()) == (("solid",), ("a",), [9])


# -- what is written -------------------------------------------------------------------------------------------------
def test_tables_hold_what_the_figures_count(tmp_path: Path) -> None:
    truth = nodules(("a", 0, 0, 0, 6), ("=cmd()", 1, 2, 3, 8))
    found = marks(("a", 0, 0, 0, 0.9), ("a", 70, 0, 0, 0.95), ("=cmd()", 70, 0, 0, 0.2))
    result = evaluate_detection(found, truth, Nodules.none(), ["a", "=cmd()"], dataclasses.replace(QUICK, worst=1))
    write_detection(result, tmp_path, {})
    tables = {path.name: list(csv.DictReader(path.read_text().splitlines())) for path in tmp_path.glob("*.csv")}
    assert [row["score"] for row in tables["nodules.csv"]] == ["0.9", ""]
    assert [row["false_marks_above"] for row in tables["nodules.csv"]] == ["1", ""]
    assert [row["seriesuid"] for row in tables["misses.csv"]] == ["'=cmd()"]
    assert [(row["rank"], row["score"]) for row in tables["false_positives.csv"]] == [("1", "0.95")]
    assert tables["froc.csv"][0] == {"fp_per_scan": "0.0", "sensitivity": "0.0", "threshold": "inf"}
    assert (tmp_path / "froc.png").read_bytes().startswith(b"\x89PNG")
    provenance = json.loads((tmp_path / "evaluation.json").read_text())
    assert provenance["kind"] == "detection"


def test_without_matplotlib_all_but_the_plot_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda _: None)
    (tmp_path / "froc.png").write_bytes(b"of an earlier run")
    result = evaluate_detection(marks(("a", 0, 0, 0, 1)), nodules(("a", 0, 0, 0, 6)), Nodules.none(), ["a"], QUICK)
    said = write_detection(result, tmp_path, {})
    assert [notice.code for notice in said] == ["picture-missing"]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "evaluation.json",
        "false_positives.csv",
        "froc.csv",
        "misses.csv",
        "nodules.csv",
        "scans.csv",
    ]


def test_folder_that_cannot_be_written_is_refused(tables: dict[str, Path], tmp_path: Path, capsys) -> None:
    (tmp_path / "out").write_text("a file stands where the folder should be")
    assert evaluate(tables, tmp_path / "out") == 1
    assert "output-failed" in capsys.readouterr().err

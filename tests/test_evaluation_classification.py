"""`lungscreen evaluate classification`: areas, intervals, operating points, calibration, and what is refused or
said.
"""

from __future__ import annotations

import csv
import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from lungscreen.cli.main import main
from lungscreen.errors import LungscreenError
from lungscreen.evaluation import (
    ClassificationConfig,
    Predictions,
    evaluate_classification,
    plots,
    read_predictions,
    write_classification,
)
from lungscreen.evaluation.statistics import (
    area_under_curve,
    average_precision,
    calibration_bins,
    delong,
    roc_points,
    share_interval,
)

QUICK = ClassificationConfig(bootstrap_samples=50)


def sample(cases: int = 137, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and probabilities with many ties."""
    rng = np.random.default_rng(seed)
    labels = rng.random(cases) < 0.4
    return labels, np.round(np.clip(rng.normal(0.35 + 0.3 * labels, 0.2), 0, 1), 2)


# -- statistics against other people's ---------------------------------------------------------------------------------
def test_area_agrees_with_scikit_learn_ties_and_weights_included() -> None:
    labels, scores = sample()
    assert area_under_curve(labels, scores) == pytest.approx(metrics.roc_auc_score(labels, scores), abs=1e-12)
    weights = np.random.default_rng(1).integers(0, 4, len(labels)).astype(float)
    expected = metrics.roc_auc_score(labels, scores, sample_weight=weights)
    assert area_under_curve(labels, scores, weights) == pytest.approx(expected, abs=1e-12)


def test_curve_and_precision_agree_with_scikit_learn() -> None:
    labels, scores = sample()
    expected = metrics.roc_curve(labels, scores, drop_intermediate=False)
    for mine, theirs in zip(roc_points(labels, scores), expected, strict=True):
        assert mine == pytest.approx(theirs)
    assert average_precision(labels, scores) == pytest.approx(metrics.average_precision_score(labels, scores))


def test_delong_agrees_with_its_definition() -> None:
    """The covariance over all pairs of cases, as DeLong et al. 1988 write it down, in plain loops."""
    labels, first = sample(41)
    second = np.random.default_rng(8).random(41)
    areas, covariance = delong(labels, first, second)
    kernel = [np.sign(s[labels][:, None] - s[~labels][None, :]) / 2 + 0.5 for s in (first, second)]
    m, n = kernel[0].shape
    assert areas == pytest.approx([k.mean() for k in kernel])
    for a in range(2):
        for b in range(2):
            tens = sum((kernel[a][i].mean() - areas[a]) * (kernel[b][i].mean() - areas[b]) for i in range(m)) / (m - 1)
            ones = sum((kernel[a][:, j].mean() - areas[a]) * (kernel[b][:, j].mean() - areas[b]) for j in range(n)) / (
                n - 1
            )
            assert covariance[a, b] == pytest.approx(tens / m + ones / n)


def test_wilson_interval_of_a_textbook_share() -> None:
    """81 of 263: 0.255 to 0.366 (Newcombe 1998, table I, method 3)."""
    share = share_interval(np.arange(263) < 81, 0.95)
    assert (round(share["lower"], 4), round(share["upper"], 4)) == (0.2553, 0.3662)
    nothing = share_interval(np.zeros(0, dtype=bool), 0.95)
    assert (nothing["value"], nothing["of"]) == (None, 0)
    assert share_interval(np.ones(9, dtype=bool), 0.95)["upper"] == 1.0


def test_bins_have_equal_counts_and_cover_every_case() -> None:
    labels, scores = sample(103)
    bins = calibration_bins(labels, scores, 10)
    assert {b["cases"] for b in bins} == {10, 11}
    assert sum(b["share_positive"] * b["cases"] for b in bins) == pytest.approx(labels.sum())
    assert all(a["highest"] <= b["lowest"] for a, b in itertools.pairwise(bins))
    assert len(calibration_bins(labels[:3], scores[:3], 10)) == 3


# -- figures ---------------------------------------------------------------------------------------------------------
def test_calibration_error_of_a_known_case() -> None:
    """Two bins: says 0.2 where 0 is right, 0.9 where half is."""
    labels = np.array([False] * 4 + [True, True, False, False])
    probabilities = np.array([0.2] * 4 + [0.9] * 4)
    figures = evaluate_classification(Predictions(labels, probabilities), dataclasses.replace(QUICK, bins=2)).figures
    assert figures["calibration"]["expected_calibration_error"] == pytest.approx((0.2 + 0.4) / 2)
    assert figures["calibration"]["largest_gap"] == pytest.approx(0.4)


def test_classes_and_confusion_at_the_first_threshold() -> None:
    labels = np.array([True, True, True, False, False])
    probabilities = np.array([0.9, 0.6, 0.2, 0.6, 0.1])
    config = dataclasses.replace(QUICK, thresholds=(0.6, 0.2))
    figures = evaluate_classification(Predictions(labels, probabilities), config).figures
    assert figures["confusion"] == {"true_positive": 2, "false_positive": 1, "false_negative": 1, "true_negative": 1}
    expected = metrics.classification_report(labels, probabilities >= 0.6, output_dict=True)
    for row, name in zip(figures["per_class"], ("False", "True"), strict=True):
        assert row["precision"] == pytest.approx(expected[name]["precision"])
        assert row["f1"] == pytest.approx(expected[name]["f1-score"])
    second = figures["operating_points"][1]
    assert (second["sensitivity"]["value"], second["specificity"]["value"], second["chosen_here"]) == (1.0, 0.5, False)


def test_operating_points_reach_what_was_wanted() -> None:
    labels, scores = sample(400)
    figures = evaluate_classification(Predictions(labels, scores), QUICK).figures
    chosen = [point for point in figures["operating_points"] if point["chosen_here"]]
    assert [(p["by"], p["wanted"]) for p in chosen] == [
        ("sensitivity", 0.95),
        ("sensitivity", 0.9),
        ("specificity", 0.9),
        ("specificity", 0.95),
    ]
    for point in chosen:
        assert point[point["by"]]["value"] >= point["wanted"]
        called = scores >= point["threshold"]
        assert point["sensitivity"]["value"] == pytest.approx(called[labels].mean())


def test_patients_are_drawn_together() -> None:
    """The same cases ten times over under one patient's name: the bootstrap's interval must not shrink."""
    labels, scores = sample(40)
    names = tuple(str(n) for n in range(40))
    config = dataclasses.replace(QUICK, bootstrap_samples=400)
    tenfold = Predictions(np.tile(labels, 10), np.tile(scores, 10), names * 10)
    alone = Predictions(np.tile(labels, 10), np.tile(scores, 10))
    grouped, single = (evaluate_classification(p, config).figures["auc"]["bootstrap"] for p in (tenfold, alone))
    assert grouped["upper"] - grouped["lower"] > 2 * (single["upper"] - single["lower"])


def test_gain_over_another_score_is_paired() -> None:
    labels, scores = sample(300)
    rival = scores + np.random.default_rng(2).normal(0, 0.02, 300)
    predictions = Predictions(labels, scores, rival=rival, rival_name="other", diameters_mm=np.linspace(2, 20, 300))
    figures = evaluate_classification(predictions, QUICK).figures
    versus = figures["versus"]
    assert versus["gain"] == pytest.approx(figures["auc"]["value"] - versus["auc"])
    # nearly the same score: the pair differs far less than either area is uncertain
    assert versus["upper"] - versus["lower"] < 0.3 * (
        figures["auc"]["delong"]["upper"] - figures["auc"]["delong"]["lower"]
    )
    groups = figures["by_diameter"]
    assert [(g["from_mm"], g["below_mm"]) for g in groups] == [(0.0, 6.0), (6.0, 15.0), (15.0, None)]
    assert sum(g["cases"] for g in groups) == 300
    inside = (predictions.diameters_mm >= 6) & (predictions.diameters_mm < 15)
    assert groups[1]["auc"] == pytest.approx(metrics.roc_auc_score(labels[inside], scores[inside]))


def test_perfect_separation() -> None:
    labels = np.arange(20) >= 10
    figures = evaluate_classification(Predictions(labels, np.linspace(0, 1, 20)), QUICK).figures
    assert (figures["auc"]["value"], figures["auc"]["delong"]["upper"], figures["average_precision"]) == (1, 1, 1)


# -- undefined, said -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("label", [True, False])
def test_one_class_alone_has_no_area(label: bool, tmp_path: Path) -> None:
    result = evaluate_classification(
        Predictions(np.full(4, label), np.array([0.1, 0.4, 0.5, 0.9]), rival=np.arange(4.0), rival_name="d"), QUICK
    )
    write_classification(result, tmp_path, {})
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written["auc"]["value"] is None
    assert written["auc"]["delong"]["lower"] is None
    assert written["auc"]["bootstrap"]["lower"] is None
    assert written["versus"]["gain"] is None
    assert written["calibration"]["expected_calibration_error"] > 0
    assert [notice["code"] for notice in written["notices"]] == ["figures-undefined", "picture-missing"]
    assert not (tmp_path / "roc.png").exists()


def test_a_single_positive_case_has_no_delong_interval() -> None:
    result = evaluate_classification(Predictions(np.arange(4) == 3, np.array([0.1, 0.4, 0.5, 0.3])), QUICK)
    assert result.figures["auc"]["value"] == pytest.approx(1 / 3)
    assert result.figures["auc"]["delong"]["lower"] is None
    assert [notice.code for notice in result.notices] == ["figures-undefined"]


# -- the command -----------------------------------------------------------------------------------------------------
def write_table(path: Path, header: str = "id,patient_id,label,probability,diameter_mm") -> Path:
    labels, scores = sample(60)
    rows = [f"c{n},p{n // 3},{int(y)},{p},{5 + n / 10}" for n, (y, p) in enumerate(zip(labels, scores, strict=True))]
    path.write_text("\n".join([header, *rows, "c60,,,0.5,7"]) + "\n")
    return path


def test_command_writes_figures_tables_and_plots(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "p.csv")
    words = ["--predictions", str(table), "--versus", "diameter_mm", "--threshold", "0.4", "--threshold", "0.6"]
    assert main(["evaluate", "classification", *words, "--out", str(tmp_path / "out")]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("cases 60, positive ")
    assert "gain over diameter_mm" in captured.out
    assert "rows-unlabelled: 1 rows" in captured.err
    written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert (written["kind"], written["cases"], written["undecided"], written["groups"]) == ("classification", 60, 1, 20)
    assert [p["threshold"] for p in written["operating_points"][:2]] == [0.4, 0.6]
    assert written["provenance"]["columns"]["versus"] == "diameter_mm"
    healthy, ill = (f"class {n}: {row['support']} cases" for n, row in enumerate(written["per_class"]))
    assert healthy in captured.out
    assert f"{ill}, precision {written['per_class'][1]['precision']:.4f}" in captured.out
    with (tmp_path / "out" / "classes.csv").open(newline="") as file:
        classes = list(csv.DictReader(file))
    assert [float(row["f1"]) for row in classes] == [row["f1"] for row in written["per_class"]]
    with (tmp_path / "out" / "operating_points.csv").open(newline="") as file:
        points = list(csv.DictReader(file))
    assert len(points) == len(written["operating_points"]) == 6
    assert float(points[0]["sensitivity"]) == written["operating_points"][0]["sensitivity"]["value"]
    assert float(points[0]["specificity_lower"]) == written["operating_points"][0]["specificity"]["lower"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "calibration.csv",
        "classes.csv",
        "confusion.png",
        "evaluation.json",
        "operating_points.csv",
        "reliability.png",
        "roc.csv",
        "roc.png",
    ]


def test_columns_can_be_named(tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.csv", "cube,series_uid,high,network,diameter_mm")
    predictions = read_predictions(table, "high", "network", "diameter_mm")
    assert (len(predictions.labels), predictions.undecided, len(set(predictions.groups))) == (60, 1, 20)
    assert predictions.rival is not None


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "table-empty"),
        ("label,probability\n", "table-empty"),
        ("label,probability\n,0.5\n", "table-empty"),
        ("label\n1\n", "table-column-missing"),
        ("label,probability\n2,0.5\n", "table-value-invalid"),
        ("label,probability\nyes,0.5\n", "table-value-invalid"),
        ("label,probability\n1,1.5\n", "table-value-invalid"),
        ("label,probability\n1,nan\n", "table-value-invalid"),
        ("id,label,probability\na,1,0.5\na,0,0.5\n", "predictions-duplicate"),
    ],
)
def test_bad_table_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, code: str) -> None:
    (tmp_path / "p.csv").write_text(content)
    words = ["--predictions", str(tmp_path / "p.csv"), "--out", str(tmp_path / "out")]
    assert main(["evaluate", "classification", *words]) == 1
    assert f"lungscreen: {code}:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("column", ["probability", "texture"])
def test_an_error_names_the_line_of_the_file(tmp_path: Path, column: str) -> None:
    """Rows without a label, without a rating, and empty lines count as lines all the same."""
    bad = "1,0.5,x,3" if column == "texture" else "1,x,3,3"
    rows = ["label,probability,texture,texture_rated", "1,0.2,3,", "", ",0.4,2,2", "0,0.3,1,1", bad]
    (tmp_path / "p.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(LungscreenError) as caught:
        read_predictions(tmp_path / "p.csv")
    assert caught.value.where.endswith("p.csv, line 6")


def test_threshold_out_of_range_is_a_usage_error(tmp_path: Path) -> None:
    table = write_table(tmp_path / "p.csv")
    words = ["--predictions", str(table), "--out", str(tmp_path / "out"), "--threshold", "1.5"]
    assert main(["evaluate", "classification", *words]) == 2


@pytest.mark.parametrize(
    "wrong",
    [{"thresholds": ()}, {"sensitivities": (0.0,)}, {"bins": 0}, {"bootstrap_samples": 0}, {"confidence": 0.0}],
)
def test_config_out_of_range(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ClassificationConfig(**wrong)


def test_without_matplotlib_all_but_the_plots_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plots.importlib.util, "find_spec", lambda _: None)
    labels, scores = sample()
    said = write_classification(evaluate_classification(Predictions(labels, scores), QUICK), tmp_path, {})
    assert [notice.code for notice in said] == ["picture-missing"]
    tables = ["calibration.csv", "classes.csv", "evaluation.json", "operating_points.csv", "roc.csv"]
    assert sorted(p.name for p in tmp_path.iterdir()) == tables


def test_estimated_ratings_are_held_against_the_readers(tmp_path: Path) -> None:
    """Pairs of columns NAME and NAME_rated; a row without either is left out; one that never varies has no
    correlation.
    """
    table = tmp_path / "p.csv"
    table.write_text(
        "label,probability,margin,margin_rated,texture,texture_rated,spiculation\n"
        "1,0.9,1.5,1,5,5,2\n0,0.2,2.5,3,5,4,2\n1,0.7,4.0,4,5,,2\n0,0.1,,2,5,5,2\n,0.4,1,5,5,1,2\n"
    )
    rows = evaluate_classification(read_predictions(table), QUICK).figures["attributes"]
    assert [row["name"] for row in rows] == ["margin", "texture"]
    assert rows[0] == {
        "name": "margin",
        "cases": 3,
        "spearman": pytest.approx(1.0),
        "mean_absolute_error": pytest.approx(1 / 3),
        "bias": pytest.approx(0.0),
    }
    assert (rows[1]["cases"], rows[1]["spearman"], rows[1]["bias"]) == (3, None, pytest.approx(1 / 3))
    assert main(["evaluate", "classification", "--predictions", str(table), "--out", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())["attributes"][0]["cases"] == 3

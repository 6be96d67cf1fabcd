"""A site's own model on simulated people whose truth is known: recovered, worth what it is worth, and kept as data."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_examples import document_of, make_finding, make_report, make_volume, page_of

from lungscreen.assess.site_model import (
    LOGIT,
    FusionConfig,
    SiteModel,
    Term,
    add_site_risk,
    find_site_model,
    fusion_json,
    logit,
    person_terms,
    read_site_model,
)
from lungscreen.classify import find_classifier
from lungscreen.cli.exit_codes import ExitCode
from lungscreen.cli.main import main
from lungscreen.clinical import ClinicalTable, read_clinical
from lungscreen.errors import InputError, LungscreenError, UsageError
from lungscreen.pipeline import Pipeline, used_weights
from lungscreen.records import ClinicalData
from lungscreen.training.site_model.cases import Cases, read_cases
from lungscreen.training.site_model.train import (
    SiteModelTraining,
    _folds,
    _out_of_fold,
    fit_site_model,
    train_site_model,
)

TRUTH = {LOGIT: 1.0, "age": 0.06, "pack_years": 0.03, "emphysema": 0.7}
"""Log odds per unit; everything else says nothing."""

QUICK = SiteModelTraining(folds=3, inner_folds=3, penalties=(0.3, 30.0))


def people(count: int, seed: int, truth: Mapping[str, float] = TRUTH, unknown: float = 0.0) -> Cases:
    """Simulated exams, one a patient; `unknown`: share of cells of the patient data that are empty, by chance."""
    chance = np.random.default_rng(seed)
    values = {
        LOGIT: chance.normal(-1.0, 1.5, count),
        "age": chance.normal(63.0, 6.0, count),
        "pack_years": chance.gamma(4.0, 10.0, count),
        "emphysema": (chance.random(count) < 0.3).astype(float),
        "female": (chance.random(count) < 0.45).astype(float),
        "bmi": chance.normal(27.0, 4.0, count),
    }
    middle = {LOGIT: 0.0, "age": 63.0, "pack_years": 40.0, "emphysema": 0.0}
    odds = -1.0 + sum(weight * (values[name] - middle[name]) for name, weight in truth.items())
    labels = chance.random(count) < 1 / (1 + np.exp(-odds))
    table = np.column_stack(list(values.values()))
    table[:, 1:][chance.random((count, table.shape[1] - 1)) < unknown] = np.nan
    network = 1 / (1 + np.exp(-values[LOGIT]))
    return Cases(labels, network, tuple(values), table, tuple(f"p{n}" for n in range(count)))


def per_unit(fitted: Any) -> dict[str, tuple[float, float, float]]:
    """Coefficient and its interval, per unit."""
    return {
        term.name: (term.coefficient / term.scale, *(bound / term.scale for bound in fitted.intervals[term.name]))
        for term in fitted.terms
    }


# -- what is recovered -----------------------------------------------------------------------------------------------
def test_coefficients_are_recovered_within_their_intervals() -> None:
    """Class weights move the intercept, not the slopes; calibration puts it back."""
    cases = people(3000, seed=1)
    fitted = fit_site_model(cases, QUICK)
    found = per_unit(fitted)
    for name in cases.columns:
        _, lower, upper = found[name]
        assert lower <= TRUTH.get(name, 0.0) <= upper, name
    assert found["age"][1] > 0
    assert found["emphysema"][1] > 0
    assert fitted.slope == pytest.approx(1.0, abs=0.15)
    assert fitted.probabilities(cases).mean() == pytest.approx(cases.labels.mean(), abs=0.01)


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """95 %: of 80 draws with six columns, by chance, 456 of 480; fewer than 440 would be 3 standard errors below."""
    config = SiteModelTraining(folds=2, inner_folds=2, penalties=(0.3,))
    inside = 0
    for seed in range(80):
        found = per_unit(fit_site_model(people(600, seed=100 + seed), config))
        inside += sum(low <= TRUTH.get(name, 0.0) <= high for name, (_, low, high) in found.items())
    assert 440 <= inside <= 477


def test_a_patient_with_several_findings_does_not_count_several_times() -> None:
    """The same cases five times over: coefficients stay, intervals do not shrink."""
    once = people(400, seed=3)
    many = replace(
        once,
        labels=np.tile(once.labels, 5),
        network=np.tile(once.network, 5),
        values=np.tile(once.values, (5, 1)),
        patients=once.patients * 5,
    )
    config = SiteModelTraining(folds=2, inner_folds=2, penalties=(1e-6,), seed=0)
    few, copies = per_unit(fit_site_model(once, config)), per_unit(fit_site_model(many, config))
    for name in once.columns:
        assert copies[name] == pytest.approx(few[name], rel=1e-3, abs=1e-6)


def test_cells_that_are_empty_because_of_the_outcome_are_used_by_their_emptiness() -> None:
    """BMI is missing for most of those who have the outcome: that it is missing tells, and is kept apart."""
    cases = people(2000, seed=4)
    chance = np.random.default_rng(0).random(2000)
    values = cases.values.copy()
    values[chance < np.where(cases.labels, 0.8, 0.1), cases.columns.index("bmi")] = np.nan
    fitted = fit_site_model(replace(cases, values=values), QUICK)
    terms = {term.name: term for term in fitted.terms}
    assert terms["bmi"].if_missing is not None
    assert terms["bmi"].if_missing > 2
    assert terms["age"].if_missing is None
    assert per_unit(fitted)["age"][1] <= TRUTH["age"] <= per_unit(fitted)["age"][2]


# -- what it is worth ------------------------------------------------------------------------------------------------
def train(cases: Cases, out: Path, config: SiteModelTraining = QUICK) -> tuple[SiteModel, dict[str, Any]]:
    model = train_site_model(cases, out, "lung cancer within two years", "a" * 64, config)
    return model, json.loads((out / "evaluation.json").read_text())


def test_a_gain_that_is_there_is_found(tmp_path: Path) -> None:
    model, figures = train(people(2000, seed=5, unknown=0.2), tmp_path)
    assert figures["versus"]["lower"] > 0.0
    assert figures["versus"]["gain"] > 0.01
    assert figures["versus"]["auc"] == pytest.approx(figures["network_alone"]["auc"]["value"], abs=0.01)
    assert figures["auc"]["delong"]["lower"] < figures["auc"]["value"] < figures["auc"]["delong"]["upper"]
    assert figures["calibration"]["expected_calibration_error"] <= 0.05
    assert figures["groups"] == 2000
    assert model.fitted_on["auc"] == figures["auc"]["value"]
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")


def test_no_gain_where_there_is_none(tmp_path: Path) -> None:
    """Patient data that say nothing: no gain is claimed, the network's order is kept, calibration too."""
    _, figures = train(people(2000, seed=6, truth={LOGIT: 1.0}), tmp_path)
    assert figures["versus"]["lower"] <= 0
    assert abs(figures["versus"]["gain"]) < 0.01
    assert figures["calibration"]["expected_calibration_error"] <= 0.05


def test_nothing_is_claimed_of_noise(tmp_path: Path) -> None:
    """Neither network nor patient data know anything: the area is that of chance, probabilities are the prevalence."""
    cases = people(600, seed=7, truth={})
    _, figures = train(cases, tmp_path)
    assert figures["auc"]["delong"]["lower"] <= 0.55
    assert figures["auc"]["value"] <= 0.58
    fitted = fit_site_model(cases, QUICK)
    assert np.abs(fitted.probabilities(cases) - cases.labels.mean()).max() < 0.2


def test_rare_outcomes_are_calibrated(tmp_path: Path) -> None:
    """Three in a hundred: weights balance the classes, and what is said is still three in a hundred."""
    cases = people(4000, seed=8, truth={LOGIT: 1.0, "age": 0.1})
    rare = cases.labels & (np.random.default_rng(1).random(4000) < 0.12)
    _, figures = train(replace(cases, labels=rare), tmp_path)
    assert 0.02 < rare.mean() < 0.05
    assert figures["calibration"]["expected_calibration_error"] <= 0.02
    assert figures["threshold"] == pytest.approx(rare.mean())


def test_a_patient_is_in_one_fold_only() -> None:
    """Labels that belong to persons and not to what is known of them cannot be learned from their other exams."""
    chance = np.random.default_rng(9)
    whose = np.repeat(np.arange(150), 8)
    labels = (np.arange(150) % 2 == 0)[whose]
    fingerprint = chance.normal(size=(150, 6))[whose] + chance.normal(0, 0.01, (1200, 6))
    cases = Cases(
        labels, chance.random(1200), (LOGIT, "age", "bmi", "pack_years", "years_quit", "education"), fingerprint,
        tuple(f"p{n}" for n in whose),
    )  # fmt: skip
    for fold in _folds(cases, 5, 0):
        inside = {p for p, here in zip(cases.patients, fold, strict=True) if here}
        assert not inside & {p for p, here in zip(cases.patients, fold, strict=True) if not here}
        assert labels[fold].mean() == pytest.approx(0.5, abs=0.01)
    held_out = _out_of_fold(cases, QUICK)
    assert abs(held_out[labels].mean() - held_out[~labels].mean()) < 0.1


# -- what is said and refused ----------------------------------------------------------------------------------------
def test_too_few_outcomes_are_refused(tmp_path: Path) -> None:
    cases = people(60, seed=1)
    with pytest.raises(LungscreenError, match="training-data-invalid") as caught:
        train(replace(cases, labels=np.arange(60) < 19), tmp_path)
    assert "at least 20 patients" in str(caught.value)


def test_few_cases_for_many_columns_are_said(tmp_path: Path) -> None:
    cases = people(60, seed=1)
    _, figures = train(replace(cases, labels=np.arange(60) < 25), tmp_path)
    assert "fusion-few" in {notice["code"] for notice in figures["notices"]}


def test_columns_that_say_nothing_are_left_out_and_named(tmp_path: Path) -> None:
    cases = people(200, seed=1)
    values = cases.values.copy()
    values[:, cases.columns.index("bmi")] = np.nan
    values[:, cases.columns.index("female")] = 1.0
    model, figures = train(replace(cases, values=values), tmp_path)
    assert {term.name for term in model.terms} == {LOGIT, "age", "pack_years", "emphysema"}
    (text,) = [notice["text"] for notice in figures["notices"] if notice["code"] == "fusion-columns"]
    assert "female" in text
    assert "bmi" in text


def test_a_network_that_says_nothing_is_refused() -> None:
    cases = people(200, seed=1)
    values = cases.values.copy()
    values[:, 0] = 0.5
    with pytest.raises(InputError, match="the same of every case"):
        train(replace(cases, values=values), Path("unused"))


def test_an_outcome_has_a_meaning(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="what the outcome is"):
        train_site_model(people(200, seed=1), tmp_path, "  ", "a" * 64)


@pytest.mark.parametrize(
    "wrong",
    [
        {"folds": 1},
        {"inner_folds": 1},
        {"penalties": ()},
        {"penalties": (0.0,)},
        {"penalties": (3.0, 1.0)},
        {"least_each": 3},
        {"confidence": 1.0},
    ],
)  # fmt: skip
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        SiteModelTraining(**wrong)


# -- tables ----------------------------------------------------------------------------------------------------------
def write(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def tables(folder: Path, predictions: Sequence[Any], clinical: Sequence[Any], outcomes: Sequence[Any]) -> Cases:
    table = read_clinical(write(folder / "people.csv", clinical)) if clinical else ClinicalTable()
    return read_cases(write(folder / "findings.csv", predictions), table, write(folder / "outcomes.csv", outcomes))


def found(patient: str, study: str, finding: int, probability: float, **more: str) -> dict[str, Any]:
    return {
        "patient_id": patient, "study_uid": study, "finding": finding, "malignancy_probability": probability, **more,
    }  # fmt: skip


def test_an_exams_most_suspicious_finding_stands_for_it(tmp_path: Path) -> None:
    predictions = [found("A", "1", 1, 0.2), found("A", "1", 2, 0.7), found("A", "2", 1, 0.4), found("B", "3", 1, 0.1)]
    rows = (("A", "1", 1), ("A", "2", 0), ("B", "3", 0))
    outcomes = [{"patient_id": p, "study_uid": s, "outcome": o} for p, s, o in rows]
    cases = tables(tmp_path, predictions, [{"patient_id": "A", "age": "60"}, {"patient_id": "B", "age": ""}], outcomes)
    assert cases.unit == "exam"
    assert (cases.labels.tolist(), cases.network.tolist()) == ([True, False, False], [0.7, 0.4, 0.1])
    assert cases.patients == ("A", "A", "B")
    assert cases.values[0, 0] == pytest.approx(math.log(0.7 / 0.3))
    assert cases.values[:, cases.columns.index("age")].tolist() == pytest.approx([60, 60, math.nan], nan_ok=True)


def test_outcomes_of_findings_and_of_persons(tmp_path: Path) -> None:
    predictions = [found("A", "1", 1, 0.2), found("A", "1", 2, 0.7)]
    single = [{"patient_id": "A", "study_uid": "1", "finding": n, "outcome": n - 1} for n in (1, 2)]
    cases = tables(tmp_path, predictions, [], single)
    assert (cases.unit, cases.labels.tolist(), cases.network.tolist()) == ("finding", [False, True], [0.2, 0.7])
    cases = tables(tmp_path, predictions, [], [{"patient_id": "A", "outcome": 1}])
    assert (cases.unit, cases.labels.tolist(), cases.network.tolist()) == ("exam", [True], [0.7])


def test_what_finds_no_partner_is_counted(tmp_path: Path) -> None:
    predictions = [found(p, "1", 1, 0.3) for p in "ABC"]
    outcomes = [{"patient_id": p, "outcome": o} for p, o in (("A", 1), ("B", ""), ("D", 0))]
    cases = tables(tmp_path, predictions, [], outcomes)
    assert cases.patients == ("A",)
    (notice,) = cases.notices
    assert notice.code == "fusion-cases"
    assert notice.text == (
        "2 predictions without an outcome; 1 outcomes without a prediction; 1 cases without a row of patient data, or"
        " with several that differ."
    )


def test_findings_without_a_probability_are_passed_over_and_counted(tmp_path: Path) -> None:
    """findings.csv has an empty cell where nothing rated the finding; that says nothing of the person's others."""
    predictions = [found("A", "1", 1, 0.3), found("A", "1", 2, 0.3) | {"malignancy_probability": ""}]
    predictions.append(found("B", "2", 1, 0.3) | {"malignancy_probability": ""})
    cases = tables(tmp_path, predictions, [], [{"patient_id": p, "outcome": 1} for p in "AB"])
    assert (cases.patients, cases.network.tolist()) == (("A",), [0.3])
    (notice,) = cases.notices
    assert notice.text.startswith("2 rows without a probability; 1 outcomes without a prediction; ")


def test_the_row_of_the_exam_is_used(tmp_path: Path) -> None:
    """By accession number, then by date; several that differ are none."""
    clinical = [
        {"patient_id": "A", "accession_number": "X1", "study_date": "20250101", "age": 60},
        {"patient_id": "A", "accession_number": "X2", "study_date": "20260101", "age": 61},
    ]
    outcomes = [{"patient_id": "A", "study_uid": s, "outcome": 1} for s in "1234"]
    predictions = [
        found("A", "1", 1, 0.3, accession_number="X2", study_date=""),
        found("A", "2", 1, 0.3, accession_number="", study_date="2025-01-01"),
        found("A", "3", 1, 0.3, accession_number="", study_date=""),
        found("A", "4", 1, 0.3, accession_number="X9", study_date=""),
    ]
    cases = tables(tmp_path, predictions, clinical, outcomes)
    ages = cases.values[:, cases.columns.index("age")].tolist()
    assert ages == pytest.approx([61, 60, math.nan, math.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("predictions", "outcomes", "code"),
    [
        ([found("A", "1", 1, 0.3)], [{"patient_id": "A", "outcome": 2}], "table-value-invalid"),
        ([found("A", "1", 1, 1.3)], [{"patient_id": "A", "outcome": 1}], "table-value-invalid"),
        ([found("A", "1", 1, 0.3)], [{"patient_id": "A", "outcome": 1}] * 2, "predictions-duplicate"),
        ([found("A", "1", 1, 0.3)], [{"patient_id": "B", "outcome": 1}], "training-data-invalid"),
        ([found("A", "1", 1, 0.3)], [{"who": "A", "outcome": 1}], "table-column-missing"),
        ([found("A", "1", 1, 0.3)], [{"patient_id": "A", "cancer": 1}], "table-column-missing"),
        ([{"patient_id": "A"}], [{"patient_id": "A", "outcome": 1}], "table-column-missing"),
    ],
)
def test_tables_that_are_refused(tmp_path: Path, predictions: Any, outcomes: Any, code: str) -> None:
    with pytest.raises(InputError) as caught:
        tables(tmp_path, predictions, [], outcomes)
    assert caught.value.code == code


# -- the model as data -----------------------------------------------------------------------------------------------
FITTED_ON = {
    "cases": 900,
    "patients": 880,
    "positives": 60,
    "auc": 0.9,
    "auc_lower": 0.88,
    "auc_upper": 0.92,
    "network_auc": 0.87,
}
MODEL = SiteModel(
    "lung cancer within two years", "finding", "2026-01-31", "b" * 64,
    (Term(LOGIT, -1.0, 1.5, 1.2), Term("age", 62.0, 6.0, 0.5), Term("emphysema", 0.3, 0.5, 0.4, 0.25)),
    0.9, -2.0, FITTED_ON,
)  # fmt: skip


def test_the_probability_by_hand() -> None:
    total = 1.2 * (logit(0.8) + 1) / 1.5 + 0.5 * (68 - 62) / 6 + 0.4 * (1 - 0.3) / 0.5
    risk = MODEL.risk(0.8, ClinicalData(age=68.0, emphysema=True))
    assert risk.probability == pytest.approx(1 / (1 + math.exp(-(0.9 * total - 2.0))))
    assert (risk.model, risk.meaning) == ("this site's own model", "lung cancer within two years")
    assert (risk.needs, risk.assumed) == ((), ())
    (origin,) = risk.limits
    assert "fitted by this site on 900 of its findings, 60 with the outcome, on 2026-01-31" in origin
    assert "AUC 0.900 (0.880 to 0.920), of the network alone 0.870" in origin


def test_what_is_not_known_is_said_or_needed() -> None:
    """Emphysema was sometimes missing when the model was fitted; age never was."""
    total = 1.2 * (logit(0.8) + 1) / 1.5 + 0.25
    risk = MODEL.risk(0.8, ClinicalData(age=62.0))
    assert risk.assumed == ("emphysema as not known",)
    assert risk.probability == pytest.approx(1 / (1 + math.exp(-(0.9 * total - 2.0))))
    lacking = MODEL.risk(0.8, None)
    assert (lacking.probability, lacking.needs) == (None, ("age",))
    assert lacking.text == "not assessed: needs age"


def test_people_in_numbers() -> None:
    who = person_terms(ClinicalData(sex="F", smoking_status="former", copd=False, bmi=25.5, race="white"))
    assert (who["female"], who["current_smoker"], who["former_smoker"], who["copd"], who["bmi"]) == (1, 0, 1, 0, 25.5)
    assert math.isnan(who["age"])
    assert all(math.isnan(value) for value in person_terms(None).values())
    assert not [name for name in who if "race" in name]


def test_a_network_that_is_sure_stays_finite() -> None:
    assert math.isfinite(logit(0.0))
    assert logit(1.0) == pytest.approx(-logit(0.0))


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "fusion.json"
    path.write_text(fusion_json(MODEL))
    read = read_site_model(path, "b" * 64)
    assert replace(read, sha256="") == MODEL
    assert len(read.sha256) == 64
    assert (read.used.name, read.used.version, read.used.sha256) == ("fusion", "2026-01-31", read.sha256)
    assert find_site_model(FusionConfig(), "") is None
    assert find_site_model(FusionConfig(str(path)), "b" * 64) == read


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema": "other"}, "schema"),
        ({"schema_version": "2.0"}, "schema"),
        ({"unit": "patient"}, "unit"),
        ({"slope": -1.0}, "slope"),
        ({"slope": "steep"}, "no model that can be used"),
        ({"terms": []}, "network_logit"),
        ({"terms": [{"name": LOGIT, "mean": 0, "scale": 0, "coefficient": 1}]}, "scale"),
        ({"terms": [{"name": LOGIT, "mean": 0, "scale": 1, "coefficient": 1, "more": 1}]}, "no model"),
        (
            {"terms": [{"name": n, "mean": 0, "scale": 1, "coefficient": 1} for n in (LOGIT, "shoe_size")]},
            "unknown term shoe_size",
        ),
        ({"fitted_on": {}}, "no model"),
        ({"network_sha256": "c" * 64}, "another network"),
    ],
)
def test_models_that_are_refused(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    path = tmp_path / "fusion.json"
    path.write_text(json.dumps(json.loads(fusion_json(MODEL)) | change))
    with pytest.raises(UsageError, match=reason) as caught:
        read_site_model(path, "b" * 64)
    assert caught.value.code == "config-invalid"


@pytest.mark.parametrize("content", ["", "[]", "{}", "null"])
def test_files_that_are_no_model(tmp_path: Path, content: str) -> None:
    path = tmp_path / "fusion.json"
    path.write_text(content)
    with pytest.raises(UsageError, match="no model that can be used"):
        read_site_model(path, "")
    with pytest.raises(UsageError, match="cannot read"):
        read_site_model(tmp_path / "absent.json", "")


# -- in reports ------------------------------------------------------------------------------------------------------
def findings() -> list[Any]:
    return [make_finding(make_volume(), probability=p, number=0) for p in (0.3, 0.8, None)]


def test_every_finding_has_its_own_risk_beside_the_networks() -> None:
    rated = add_site_risk(findings(), MODEL, ClinicalData(age=62.0))
    assert [len(finding.grade.risks if finding.grade else ()) for finding in rated] == [1, 1, 0]
    assert rated[1].grade.risks[0] == MODEL.risk(0.8, ClinicalData(age=62.0))
    assert [f.malignancy for f in rated] == [f.malignancy for f in findings()]


def test_an_exams_model_says_something_of_its_most_suspicious_finding_only() -> None:
    rated = add_site_risk(findings(), replace(MODEL, unit="exam"), None)
    assert [len(finding.grade.risks if finding.grade else ()) for finding in rated] == [0, 1, 0]
    assert add_site_risk([], MODEL, None) == ()
    assert add_site_risk(findings()[2:], MODEL, None)[0].grade is None
    plain = findings()
    assert add_site_risk(plain, None, None) == tuple(plain)


def test_the_page_says_whose_model_it_is() -> None:
    """Beside the network's probability, with what it was fitted on."""
    volume = make_volume()
    (finding,) = add_site_risk([make_finding(volume, probability=0.4)], MODEL, ClinicalData(age=62.0))
    page = page_of(make_report(finding, volume=volume))
    assert "Lung cancer within two years" in page
    assert f"own model: {finding.grade.risks[0].text}" in page
    assert "fitted by this site on 900 of its findings, 60 with the outcome" in page
    assert "of the network alone 0.870; checked by nobody else" in page
    assert "assumed: emphysema as not known" in page
    document = document_of(make_report(finding, volume=volume))
    assert document["findings"][0]["malignancy"]["probability"] == pytest.approx(0.4)
    assert document["findings"][0]["risks"][-1]["model"] == "this site's own model"


def test_a_pipelines_results_rest_on_the_sites_model_too(tmp_path: Path) -> None:
    """Another model makes every study new: it is among the weights that reports and the ledger name."""
    network = find_classifier().sha256
    path = tmp_path / "fusion.json"
    path.write_text(fusion_json(replace(MODEL, network_sha256=network)))
    pipeline = Pipeline("site", fusion=FusionConfig(str(path)))
    *networks, site = used_weights(pipeline)
    assert tuple(networks) == used_weights(Pipeline("plain"))
    assert site == read_site_model(path, network).used
    path.write_text(fusion_json(replace(MODEL, network_sha256="b" * 64)))
    with pytest.raises(UsageError, match="another network"):
        used_weights(pipeline)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From three tables to a model that a pipeline can name; nobody is named in what is written."""
    cases = people(240, seed=2, unknown=0.1)
    ids = [f"MARKED{n}" for n in range(240)]
    predictions = [found(i, f"1.2.{n}", 1, p) for n, (i, p) in enumerate(zip(ids, cases.network, strict=True))]
    place = {name: cases.columns.index(name) for name in ("age", "pack_years", "bmi")}
    clinical = [
        {"patient_id": i} | {n: "" if math.isnan(row[p]) else f"{row[p]:.1f}" for n, p in place.items()}
        for i, row in zip(ids, cases.values, strict=True)
    ]
    outcomes = [{"patient_id": i, "outcome": int(label)} for i, label in zip(ids, cases.labels, strict=True)]
    files = [
        str(write(tmp_path / f"{name}.csv", rows))
        for name, rows in (("findings", predictions), ("people", clinical), ("outcomes", outcomes))
    ]
    out = tmp_path / "out"
    words = ["train", "fusion", "--predictions", files[0], "--clinical", files[1], "--outcomes", files[2]]
    assert main([*words, "--out", str(out), "--meaning", "cancer", "--folds", "3"]) == ExitCode.OK
    assert capsys.readouterr().out == f"{out / 'fusion.json'}\n"
    model = read_site_model(out / "fusion.json", find_classifier().sha256)
    assert {term.name for term in model.terms} == {LOGIT, "age", "pack_years", "bmi"}
    assert model.risk(0.5, None).probability is not None, "all of them were missing now and then"
    written = {path.name: path.read_bytes() for path in out.iterdir()}
    assert {"fusion.json", "coefficients.csv", "evaluation.json", "roc.csv", "calibration.csv"} <= set(written)
    assert not [name for name, content in written.items() if b"MARKED" in content]
    figures = json.loads(written["evaluation.json"])
    assert set(figures["provenance"]["inputs"]) == {"predictions", "clinical", "outcomes"}
    rows = list(csv.DictReader(written["coefficients.csv"].decode().splitlines()))
    assert [row["term"] for row in rows] == [term.name for term in model.terms]
    assert float(rows[0]["lower"]) < float(rows[0]["log_odds_per_sd"]) < float(rows[0]["upper"])
    assert main([*words, "--out", str(out), "--meaning", "cancer", "--folds", "1"]) == ExitCode.USAGE

"""Performance after deployment: charts, what is claimed and what is not, pipelines apart, the gate, the files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungscreen.batch.ledger import FoundStudy, Ledger
from lungscreen.cli.main import main
from lungscreen.monitor import SignedStudy, StudyOutcome, describe_performance, read_nights, write_monitor
from lungscreen.monitor.chart import ChartConfig, draw_chart
from lungscreen.monitor.page import monitor_page
from lungscreen.results.facts import StudyFacts, plain_facts
from lungscreen.shares import share_of

QUICK = ChartConfig(runs=200)
DAY = 86400.0
BEGIN = 1_767_225_600.0
"""2026-01-01."""


def signed(number: int, **changes: Any) -> SignedStudy:
    """The number-th study, one a day."""
    study = SignedStudy(
        signed=BEGIN + number * DAY,
        pipeline="fast 0.1 aa bb",
        groups={"sex": "F" if number % 10 else "M", "kernel": "soft"},
        alone=(True,),
        final=(True, True),
        rejected=1,
        changed=False,
    )
    return replace(study, **changes)


def series(seed: int, usual: float, changed: float, studies: int = 400) -> np.ndarray:
    """Events of studies whose rate changes after the 200th."""
    rates = np.where(np.arange(studies) < 200, usual, changed)
    return (np.random.default_rng(seed).random(studies) < rates).astype(float)


def alarms(usual: float, changed: float, factor: float = 2.0, seeds: int = 10) -> int:
    """Of so many series."""
    charts = [
        draw_chart(e, np.ones(len(e)), "share", factor, QUICK)
        for e in (series(seed, usual, changed) for seed in range(seeds))
    ]
    return sum(chart is not None and chart.alarm is not None for chart in charts)


def test_a_chart_alarms_where_the_rate_changed_and_seldom_where_not() -> None:
    """Ten series each of 400 studies; 5 % of unchanged ones of 1000 may alarm."""
    assert alarms(0.2, 0.2) <= 2
    assert alarms(0.2, 0.5) >= 8
    assert alarms(0.5, 0.2, factor=0.5) >= 8


def test_a_chart_says_when_and_how_often_it_is_wrong() -> None:
    """The alarm comes after the change; the same studies give the same chart; a fall is no rise."""
    events = series(1, 0.2, 0.6)
    chart = draw_chart(events, np.ones(400), "share", 2.0, QUICK)
    assert chart is not None
    assert chart.alarm is not None
    assert 200 < chart.alarm < 260
    assert chart.since == pytest.approx(0.6, abs=0.12)
    assert chart.usual == pytest.approx((events[:100].sum() + 0.5) / 101)
    assert 0.005 <= chart.false_alarms <= 0.15
    assert draw_chart(events, np.ones(400), "share", 2.0, QUICK) == chart
    fall = draw_chart(series(1, 0.6, 0.2), np.ones(400), "share", 2.0, QUICK)
    assert fall is not None
    assert fall.alarm is None


def test_a_chart_needs_studies_and_stands_a_rate_of_nothing() -> None:
    assert draw_chart(np.zeros(119), np.ones(119), "share", 2.0, QUICK) is None
    for value, factor in ((0.0, 2.0), (1.0, 0.5)):
        chart = draw_chart(np.full(300, value), np.ones(300), "share", factor, QUICK)
        assert chart is not None
        assert chart.alarm is None
        assert 0 < chart.usual < 1
    counts = draw_chart(np.r_[np.tile([0.0, 1.0], 60), np.full(60, 4.0)], np.ones(180), "count", 2.0, QUICK)
    assert counts is not None
    assert counts.alarm is not None
    assert counts.alarm >= 120


def test_of_few_reads_nothing_is_claimed(tmp_path: Path) -> None:
    """Nineteen: no figure, on the page and in the metrics neither. Twenty: figures, and subgroups that are too few."""
    few = describe_performance([], [signed(n) for n in range(19)], config=QUICK)
    (part,) = few["reads"]
    assert not part["claimed"]
    assert "figures" not in part
    assert part["charts"] == []
    assert "nothing is claimed" in monitor_page(few)
    write_monitor(few, tmp_path)
    assert "sensitivity_first_reads{" not in (tmp_path / "monitor.prom").read_text()
    (part,) = describe_performance([], [signed(n) for n in range(20)], config=QUICK)["reads"]
    assert part["figures"]["sensitivity_first_reads"] == {"of": 20, "share": 1.0, "low": 0.839, "high": 1.0}
    groups = {(row["kind"], row["group"]): row for row in part["subgroups"]}
    assert groups["sex", "M"]["sensitivity_first_reads"] == {"of": 2, "share": None, "why": "fewer than 10"}
    assert groups["sex", "F"]["sensitivity_first_reads"]["of"] == 18
    assert [row["month"] for row in part["months"]] == ["2026-01"]


@pytest.mark.parametrize("whole", [10, 280, 310, 1000])
def test_an_interval_stays_within_nothing_and_everything(whole: int) -> None:
    """Rounding errors made -0 % of the lower end."""
    assert str(share_of(0, whole)["low"]) == "0.0"
    assert share_of(whole, whole)["high"] <= 1


def test_another_pipeline_is_kept_apart() -> None:
    """One with misses beside one without, signed on the same days: neither changes the other's figures or chart."""
    good = [signed(n) for n in range(150)]
    bad = [signed(n, pipeline="fast 0.2 cc dd", alone=(False,), rejected=3) for n in range(25)]
    document = describe_performance([], [*good, *bad], config=QUICK)
    one, two = document["reads"]
    assert one["figures"]["sensitivity_first_reads"]["share"] == 1
    assert one["reads"] == 150
    assert two["figures"]["sensitivity_first_reads"]["share"] == 0
    assert two["reads"] == 25
    assert document["alarms"] == []
    assert not two["charts"][0]["drawn"]
    alone = describe_performance([], good, config=QUICK)["reads"]
    assert one == alone[0]


def test_an_alarm_says_since_when_and_what_to_do(tmp_path: Path) -> None:
    """CAD begins to miss half of what readers see: one alarm, in all three files; who made the scan is escaped."""
    from prometheus_client.openmetrics.parser import text_string_to_metric_families

    maker = "<script>alert(1)</script>"
    studies = [signed(n, alone=(n % (10 if n < 150 else 2) != 1,), groups={"manufacturer": maker}) for n in range(240)]
    document = describe_performance([], studies, config=QUICK)
    (alarm,) = document["alarms"]
    assert alarm["chart"] == "missed"
    assert "2026-06" <= alarm["on"][:7] <= "2026-07"
    assert "usually 10 %" in alarm["text"]
    assert "go back to the weights before" in alarm["text"]
    write_monitor(document, tmp_path)
    assert json.loads((tmp_path / "monitor.json").read_text()) == json.loads(json.dumps(document))
    page = (tmp_path / "monitor.html").read_text()
    assert "Alarm on 2026" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    families = {f.name: f for f in text_string_to_metric_families((tmp_path / "monitor.prom").read_text())}
    values = {sample.labels["chart"]: sample.value for sample in families["lungscreen_monitor_alarm"].samples}
    assert values == {"missed": 1, "rejected": 0, "changed": 0}


def write_ledger(folder: Path, studies: dict[str, tuple[str, int]], when: str, key: str = "mine") -> Path:
    """Study → state and findings."""
    folder.mkdir()
    ledger = Ledger(folder)
    ledger.check_key(key, identified=False)
    for name, (state, findings) in studies.items():
        ledger.enter([FoundStudy(name, name, "p", "in", "st")], "pipe")
        facts = plain_facts(StudyFacts(findings=findings)) if state == "done" else {}
        ledger.finish(name, state, "pipe", "in", facts=facts)
    ledger._db.execute("UPDATE study SET finished = ?", (when,))
    ledger.close()
    return folder


def test_nights_are_counted_once_and_from_a_day_on(tmp_path: Path) -> None:
    """A study that was read again counts as it was read last; other keys' studies are other studies."""
    first = write_ledger(tmp_path / "a", {"x": ("done", 2), "y": ("refused", 0)}, "2026-01-01T22:00:00+00:00")
    later = write_ledger(tmp_path / "b", {"x": ("done", 0)}, "2026-01-02T22:00:00+00:00")
    other = write_ledger(tmp_path / "c", {"x": ("done", 1)}, "2026-01-03T22:00:00+00:00", key="theirs")
    found = read_nights([later, first, other])
    assert [(study.was_read, study.findings) for study in found] == [(False, 0), (True, 0), (True, 1)]
    assert {study.pipeline for study in found} == {"pipe"}
    assert len(read_nights([first, later, other], since=BEGIN + 2 * DAY)) == 1


def test_more_studies_that_are_not_read_alarm() -> None:
    studies = [StudyOutcome(BEGIN + n, "p", n < 200 or n % 2 == 0, n % 3 % 2) for n in range(260)]
    document = describe_performance(studies, None, config=QUICK)
    assert [alarm["chart"] for alarm in document["alarms"]] == ["not-read"]
    assert document["reads"] is None
    assert "No reading room was named" in monitor_page(document)


def test_what_is_no_night_and_no_room_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    night = write_ledger(tmp_path / "a", {"x": ("done", 2)}, "2026-01-01T22:00:00+00:00")
    out = ["--out", str(tmp_path / "out")]
    assert main(["monitor", str(tmp_path), *out]) == 2
    assert "input-missing" in capsys.readouterr().err
    assert main(["monitor", str(night), "--reads", str(night), *out]) == 2
    assert "no reading room" in capsys.readouterr().err
    assert not (night / "room").exists()
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["monitor", str(night), "--since", "yesterday", *out])


def test_signed_reads_are_taken_and_open_studies_are_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of three studies one is read to its end: only its figures are told, without a name or an ID."""
    pytest.importorskip("fastapi", reason="the reading room is not installed")
    from report_examples import PATIENT, key_of
    from room_factory import graded_finding, make_room, one_report, write_studies

    from lungscreen.monitor.reads import read_signed

    reports = [one_report(f"1.2.4.{n}", graded_finding()) for n in range(3)]
    results = write_studies(tmp_path / "results", *reports, masks=False)
    with make_room(results) as rooms:
        anna = rooms.client("anna")
        anna.read_to_end(key_of(reports[0]), "reject")
        half = anna.open(key_of(reports[1]))
        anna.sign(anna.save(half).json())
        found, unreadable = read_signed(rooms.room)
        assert unreadable == 0
        (study,) = found
        assert (study.rejected, study.alone, study.final, study.changed) == (1, (), (), False)
        assert read_signed(rooms.room, since=study.signed + 1) == ([], 0)
    night = write_ledger(tmp_path / "night", {"x": ("done", 2)}, "2026-01-01T22:00:00+00:00")
    assert main(["monitor", str(night), "--reads", str(results), "--out", str(tmp_path / "out")]) == 0
    assert "1 studies, 1 signed; 0 alarms" in capsys.readouterr().err
    written = "".join(path.read_text() for path in sorted((tmp_path / "out").iterdir()))
    for name in (PATIENT.patient_id, "Doe", "1.2.4.0", key_of(reports[0]), "anna", str(tmp_path)):
        assert name not in written

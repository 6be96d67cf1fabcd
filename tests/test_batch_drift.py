"""Tonight against the nights before: what warns, what does not, and what is too little to say."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_examples import finish, key_of, make_finding, make_report, make_volume, study_of, tables, write_report

from lungscreen.batch.drift import LEAST_BEFORE, LEAST_TONIGHT, compare_nights, drift_notices
from lungscreen.batch.ledger import FoundStudy, Ledger, TaskRow
from lungscreen.batch.night import describe_night, night_of, night_page, write_night
from lungscreen.results.facts import StudyFacts, facts_of, plain_facts


def facts(seed: int, count: int, **changes: Any) -> list[StudyFacts]:
    """Studies of one scanner: noise about 30 HU, a finding in three of ten."""
    chance = np.random.default_rng(seed)
    return [
        replace(
            StudyFacts(
                spacing_mm=1.0, dose_mgy=float(chance.normal(1.5, 0.3)), noise_hu=float(chance.normal(30, 5)),
                top_score=float(chance.uniform()), kernel="soft", findings=int(chance.uniform() < 0.3), category="2",
                notices=("low-dose",),
            ),
            **changes,
        )
        for _ in range(count)
    ]  # fmt: skip


def drifted(tonight: list[StudyFacts], before: list[StudyFacts]) -> set[str]:
    return {c.name for c in compare_nights(tonight, before) if c.drifted}


def test_a_night_like_the_others_warns_of_nothing() -> None:
    """Of a hundred such nights, one or two at most may warn: the chance is set to 1 %."""
    before = facts(0, 900)
    assert sum(bool(drifted(facts(seed, 60), before)) for seed in range(1, 101)) <= 2


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("kernel", {"kernel": "sharp"}),
        ("spacing_mm", {"spacing_mm": 2.5}),
        ("noise_hu", {"noise_hu": 60.0}),
        ("dose_mgy", {"dose_mgy": 6.0}),
        ("top_score", {"top_score": 0.99}),
        ("with_finding", {"findings": 2}),
    ],
)
def test_a_change_warns_of_itself_alone(name: str, changes: dict[str, Any]) -> None:
    tonight = [replace(f, **changes) if n % 4 else f for n, f in enumerate(facts(1, 60))]
    found = compare_nights(tonight, facts(0, 900))
    assert {c.name for c in found if c.drifted} == {name}
    (notice,) = drift_notices(found)
    assert notice.code == "drift"
    assert "threshold" in notice.text


def test_scores_of_other_weights_are_not_compared() -> None:
    """With new weights what rests on scores starts anew; the scans' own figures go on being compared."""
    tonight = facts(1, 60, networks="new", top_score=0.99, findings=2, noise_hu=60.0)
    before = facts(0, 900, networks="old")
    assert drifted(tonight, before) == {"noise_hu"}
    assert drifted(tonight, [*before, *facts(2, 200, networks="new")]) == {"noise_hu", "top_score", "with_finding"}


def test_a_certain_but_small_difference_does_not_warn() -> None:
    """With thousands of studies a hundredth of a millimetre is beyond chance."""
    tonight = [replace(f, spacing_mm=1.0 if n % 10 else 1.01) for n, f in enumerate(facts(1, 3000))]
    (spacing,) = (c for c in compare_nights(tonight, facts(0, 9000)) if c.name == "spacing_mm")
    assert spacing.p_value is not None
    assert spacing.p_value < 1e-9
    assert not spacing.drifted


def test_too_few_are_not_compared() -> None:
    for tonight, before in ((LEAST_TONIGHT - 1, 900), (60, LEAST_BEFORE - 1), (0, 0)):
        found = compare_nights(facts(1, tonight, kernel="sharp"), facts(0, before))
        assert {c.p_value for c in found} == {None}
        assert not any(c.drifted for c in found)


def test_what_the_headers_do_not_say_is_left_out() -> None:
    (dose,) = (c for c in compare_nights(facts(1, 60, dose_mgy=None), facts(0, 900)) if c.name == "dose_mgy")
    assert (dose.tonight, dose.p_value, dose.shown_tonight) == (0, None, "not known")


# -- which night -----------------------------------------------------------------------------------------------------
def row(key: str, when: str, **changes: Any) -> TaskRow:
    made = TaskRow(
        key, "p-1", "done", 0, 0, False, False, 0.0, "in", "", finished=when, facts=plain_facts(facts(1, 1)[0])
    )
    return replace(made, **changes)


def test_a_night_goes_from_noon_to_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    assert night_of("2026-03-01T11:59:00+00:00") == "2026-02-28"
    assert night_of("2026-03-01T23:00:00+00:00") == night_of("2026-03-02T05:00:00+00:00") == "2026-03-01"
    monkeypatch.undo()
    time.tzset()


def test_only_the_last_thirty_nights_count() -> None:
    old = [row(f"o{n}", f"2026-0{1 + n // 28}-{1 + n % 28:02d}T22:00:00+00:00") for n in range(40)]
    document = describe_night([row("new", "2026-03-01T22:00:00+00:00")], old)
    assert document["compared_nights"] == 30
    assert (document["studies"], document["done"]) == (1, 1)


def test_the_page_warns_and_escapes() -> None:
    before = [row(f"o{n}", "2026-02-01T22:00:00+00:00", facts=plain_facts(f)) for n, f in enumerate(facts(0, 100))]
    tonight = [
        row(f"k{n}", "2026-03-01T22:00:00+00:00", facts=plain_facts(f), patient="<script>alert(1)</script>")
        for n, f in enumerate(facts(1, 40, kernel="sharp"))
    ]
    many = [row(f"r{n}", "2026-03-01T23:00:00+00:00", state="refused", code="no-lungs", facts={}) for n in range(25)]
    waiting = [row("w", "", state="waiting", facts={})]
    document = describe_night([*tonight, *many, *waiting], before)
    page = night_page(document)
    assert [w["code"] for w in document["warnings"]] == ["drift"]
    assert "kernel: tonight sharp 100 %, before soft 100 %" in page
    assert "<script>alert" not in page
    assert "and 5 more" in page
    assert document["waiting"] == 1


def test_ledgers_beside_this_one_are_the_nights_before(tmp_path: Path) -> None:
    """Each night a folder of its own; those begun with another key, and what is no ledger, are left out."""
    for name, key in (("monday", "mine"), ("tuesday", "theirs"), ("wednesday", "mine")):
        (tmp_path / name).mkdir()
        ledger = Ledger(tmp_path / name)
        ledger.check_key(key, identified=False)
        ledger.enter([FoundStudy(name, name, "p", "in", "st")], "p")
        ledger.finish(name, "done", "p", "in", facts=plain_facts(facts(1, 1)[0]))
        if name != "wednesday":
            ledger._db.execute("UPDATE study SET finished = '2026-01-01T22:00:00+00:00'")
        else:
            write_night(ledger, tmp_path / name, "mine")
        ledger.close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "ledger.sqlite").write_bytes(b"no database" * 200)
    ledger = Ledger(tmp_path / "wednesday")
    write_night(ledger, tmp_path / "wednesday", "mine")
    ledger.close()
    document = json.loads((tmp_path / "wednesday" / "night.json").read_text())
    assert document["compared_nights"] == 1
    assert {row["before"] for row in document["drift"] if row["name"] == "kernel"} == {1}


def test_the_morning_page_ranks_as_the_worklist_does(tmp_path: Path) -> None:
    """By category, probability and score: one list is made of reports, the other of the ledger's figures."""
    volume = make_volume()
    studies = [
        ("4A", 0.2, 0.9), ("2", 0.9, 0.9), ("4A", None, 0.99), ("not assessed", 0.99, 0.9), ("0", 0.5, 0.5),
        ("4A", 0.2, 0.3), ("4X", 0.1, 0.1), ("4A", 0.8, 0.1), ("1", None, None),
    ]  # fmt: skip
    ended = []
    for n, (category, probability, score) in enumerate(studies):
        found = [] if score is None else [make_finding(volume, score=score, probability=probability)]
        report = make_report(*found, volume=volume, study=study_of(f"1.{n}"), category=category)
        write_report(report, tmp_path)
        kept = plain_facts(facts_of(finish(report).document))
        ended.append(row(key_of(report), "2026-03-01T22:00:00+00:00", facts=kept))
    tables(tmp_path)
    with (tmp_path / "worklist.csv").open(encoding="utf-8") as file:
        links = [line["report"] for line in csv.DictReader(file)]
    assert [line["report"] for line in describe_night(ended)["ranked"]] == links
    assert len(set(links)) == len(studies)

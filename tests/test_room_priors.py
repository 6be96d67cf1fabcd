"""The earlier exam beside today's: which it is, where its places are, and what follow-up makes of a read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the reading room's extra is not installed")

from follow_ups import BEFORE, NODULE_MM, as_it_was, earlier_place, follow_up, grown
from report_examples import changed, key_of
from room_factory import Client, Rooms, make_room, write_studies

from lungscreen.assess import AssessConfig, assess_follow_up
from lungscreen.comparison.align import align_exams
from lungscreen.comparison.earlier import earlier_exams
from lungscreen.errors import InputError
from lungscreen.records import Finding, LostNodule, NoduleChange, Report
from lungscreen.results.reader import read_result
from lungscreen.room.rules import judge_read
from lungscreen.room.words import Content, Decision, Words

THEN_UID = "1.2.7.1"


@pytest.fixture(scope="module")
def reports() -> tuple[Report, Report]:
    """Today's and the earlier exam's."""
    return follow_up(grown), as_it_was()


@pytest.fixture(scope="module")
def keys(reports: tuple[Report, Report]) -> tuple[str, str]:
    return key_of(reports[0]), key_of(reports[1])


@pytest.fixture(scope="module")
def results(reports: tuple[Report, Report], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_studies(tmp_path_factory.mktemp("results"), *reports)


@pytest.fixture(scope="module")
def rooms(results: Path) -> Iterator[Rooms]:
    with make_room(results) as made:
        yield made


def aligned(client: Client, now: str, then: str) -> dict[str, Any]:
    """The table, when it is there."""
    for _ in range(600):
        answer = client.get(f"/api/v1/studies/{now}/priors/{then}/alignment")
        if answer.status_code == 200:
            return answer.json()
        assert (answer.status_code, answer.headers["retry-after"]) == (202, "2")
        time.sleep(0.05)
    raise AssertionError("the exams were not aligned within 30 s")


# -- which exam ------------------------------------------------------------------------------------------------------
def test_the_earlier_exam_is_told_with_its_day_and_its_images(rooms: Rooms, keys: tuple[str, str]) -> None:
    """Its key, how long ago it was, whether its images are here; nothing that CAD said of it."""
    now, then = keys
    reader = rooms.client("anna")
    told = reader.get(f"/api/v1/studies/{now}/priors").json()
    assert told == {"priors": [{"study": then, "date": "2025-02-10", "days": 367, "images": "ready"}]}
    assert reader.get(f"/api/v1/studies/{then}/priors").json() == {"priors": []}
    rows = reader.get("/api/v1/worklist").json()["rows"]
    assert {row["study"]: row["priors"] for row in rows} == {now: 1, then: 0}


def test_an_earlier_exam_that_is_not_in_the_results_is_told_without_images(
    reports: tuple[Report, Report], keys: tuple[str, str], tmp_path: Path
) -> None:
    with make_room(write_studies(tmp_path, reports[0])) as alone:
        told = alone.client("anna").get(f"/api/v1/studies/{keys[0]}/priors").json()
    assert told == {"priors": [{"study": None, "date": "2025-02-10", "days": 367, "images": "absent"}]}


# -- where its places are --------------------------------------------------------------------------------------------
def test_the_earlier_exam_follows_by_the_products_registration(
    rooms: Rooms, reports: tuple[Report, Report], keys: tuple[str, str]
) -> None:
    """The table says what `align_exams` says, to its rounding. Both are right within a millimetre where the lungs are,
    though the person lay turned by 3 degrees and 27 mm away.
    """
    now, then = reports
    table = aligned(rooms.client("anna"), *keys)
    found = align_exams(now.volume, now.lungs, then.volume, then.lungs)
    assert table["overlap"] == pytest.approx(found.overlap, abs=0.01)
    nodes = np.array(table["to_earlier_mm"]).reshape(*table["shape"], 3)
    steps = np.moveaxis(np.indices(table["shape"]), 0, -1)[..., ::-1]
    places = np.array(table["origin_mm"]) + steps * table["step_mm"]
    expected = [found.to_earlier(tuple(place)) for place in places.reshape(-1, 3)]
    np.testing.assert_allclose(nodes.reshape(-1, 3), expected, atol=0.05)  # threads add in any order
    near = np.abs(places - [48.0, 5.0, -110.0]).max(axis=-1) < 30  # of the left lung
    assert near.sum() >= 8
    assert np.linalg.norm(nodes - earlier_place(places), axis=-1)[near].max() < 1.0


def test_only_a_listed_earlier_exam_is_aligned(rooms: Rooms, keys: tuple[str, str]) -> None:
    """Not today's with itself, not the later one to the earlier, not one that is unknown."""
    now, then = keys
    reader = rooms.client("anna")
    for one, other in ((now, now), (then, now), (now, "0" * 12)):
        answer = reader.get(f"/api/v1/studies/{one}/priors/{other}/alignment")
        assert (answer.status_code, answer.json()["code"]) == (404, "not-found")


def test_exams_that_cannot_be_aligned_are_said(
    results: Path, keys: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with a code; the page then shows both, and the earlier one does not follow."""

    def fail(*_: Any) -> None:
        raise InputError("prior-not-aligned", "no overlap")

    monkeypatch.setattr("lungscreen.room.routes.studies.align_packs", fail)
    with make_room(results) as again:
        for table in again.room.folders.room.glob("pinned/*/alignment-*.json"):
            table.unlink()
        reader = again.client("anna2")
        path = f"/api/v1/studies/{keys[0]}/priors/{keys[1]}/alignment"
        statuses = [reader.get(path).status_code]
        for _ in range(100):
            time.sleep(0.02)
            statuses.append((answer := reader.get(path)).status_code)
            if answer.status_code != 202:
                break
    assert (statuses[0], statuses[-1], answer.json()["code"]) == (202, 503, "not-ready")


# -- what follow-up makes of a read ----------------------------------------------------------------------------------
def test_accepting_everything_at_follow_up_gives_what_the_pipeline_said(tmp_path: Path) -> None:
    """Categories by growth, a new nodule, a stable one, one that is lost: all come out again from the report alone."""
    made = follow_up(grown, stable, new)
    gone = LostNodule(replace(BEFORE, number=4), "resolved", "not there any more")
    findings = [replace(finding, grade=None) for finding in made.findings]
    judged = assess_follow_up(
        findings, made.lungs, None, date(2026, 2, 12), [earlier_exams(f) for f in findings], lost=[gone]
    )
    report = replace(
        made, findings=judged.findings, lost=(gone,), category=judged.category, category_reason=judged.category_reason
    )
    document = read_result(write_studies(tmp_path, report) / "studies" / key_of(report) / "report.json")
    content = Content(decisions=tuple(Decision(finding=f.number, verdict="accept") for f in document.findings))
    told = judge_read(document, content, {}, with_cad=True, config=AssessConfig()).plain
    assert (told["category"], told["reason"]) == (document.category, document.category_reason)
    for name in ("category", "growth"):
        assert [row[name] for row in told["findings"]] == [getattr(f, name) for f in judged.findings]
    assert [row["growth"] for row in told["findings"]] == [f.change.text for f in findings if f.change]
    assert told["category"] == "4B"
    smaller = Words(long_axis_mm=6.0, short_axis_mm=5.9)
    content = Content(decisions=(Decision(finding=1, verdict="accept", words=smaller),))
    (row,) = judge_read(document, content, {}, with_cad=True, config=AssessConfig()).plain["findings"]
    assert row["category"] == "2"
    assert row["growth"].startswith("stable"), "by the reader's axes; CAD's own words were of other ones"


def stable(volume: Any) -> Finding:
    """As large as a year ago: 11.8 mm."""
    sizes = {"long_axis_mm": 12.1, "short_axis_mm": 11.4, "mean_diameter_mm": 11.8, "volume_mm3": 840.0}
    past = replace(BEFORE, **sizes, category="4A")
    change = NoduleChange("stable", "11.8 mm in February 2025", (past,), 367, 0.0, 0.0)
    return replace(changed(grown(volume), change=change), number=2)


def new(volume: Any) -> Finding:
    """Not there a year ago, and small."""
    finding = grown(volume)
    assert finding.measurement is not None
    sizes = {"long_axis_mm": 5.2, "short_axis_mm": 4.8, "mean_diameter_mm": 5.0, "max_transverse_mm": 5.2}
    size = replace(finding.measurement, **sizes, volume_mm3=65.0)
    return replace(changed(finding, measurement=size, change=NoduleChange("new", "not there before")), number=3)


def test_a_readers_own_nodule_has_its_history_only_after_the_signature(rooms: Rooms, keys: tuple[str, str]) -> None:
    """Before it CAD's comparison says nothing: the mark is graded as at baseline. Afterwards it has grown."""
    reader = rooms.client("follow")
    read = reader.mark(reader.open(keys[0]), list(NODULE_MM))
    (before,) = read["computed"]["findings"]
    assert before["growth"] == "not assessed: CAD's comparison with the earlier exam takes part once CAD is shown"
    said = [notice["text"] for notice in read["computed"]["notices"] if notice["code"] == "as-baseline"]
    assert said == [
        "CAD's comparison with the earlier exam takes part once CAD is shown: until then every nodule is graded as "
        "baseline (choice i)."
    ]
    assert not any("no images of an earlier exam" in item for item in read["computed"]["not_assessed"])
    read = reader.sign(reader.save(read, marks=read["content"]["marks"]).json()).json()
    assert reader.cad(read).json()["findings"][0]["change"]["state"] == "growing"
    (after,) = reader.get(f"/api/v1/reads/{read['id']}").json()["computed"]["findings"]
    assert (after["ref"], after["growth"]) == ("m1", "6.0 mm in February 2025")


def test_the_grid_of_an_alignment_reaches_every_corner(rooms: Rooms, keys: tuple[str, str]) -> None:
    """No place of today's exam lies outside the table, so that scrolling never leaves it."""
    reader = rooms.client("anna")
    table, volume = aligned(reader, *keys), reader.get(f"/api/v1/studies/{keys[0]}").json()["volume"]
    affine, shape = np.array(volume["affine"]), volume["shape"]
    ends = np.array(list(np.ndindex(2, 2, 2))) * (np.array(shape) - 1)
    corners = ends @ affine[:3, :3].T + affine[:3, 3]
    last = np.array(table["origin_mm"]) + (np.array(table["shape"][::-1]) - 1) * table["step_mm"]
    assert (corners.min(axis=0) >= np.array(table["origin_mm"]) - 1e-3).all()
    assert (corners.max(axis=0) <= last + 1e-3).all()
